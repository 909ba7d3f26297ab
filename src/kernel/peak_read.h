// SPDX-License-Identifier: Apache-2.0
/* Reading memory as fast as it comes, for every table's sgm_peaks: included by a .c file that is compiled with the table's
 * flags, which decide how a vector of 64 bytes is loaded. Four streams, each a quarter of the block, because a prefetcher
 * stops at the end of a 4 KiB page; each asks 1 KiB ahead (measured: a single stream without asking reads huge pages as fast,
 * 4 KiB pages a fifth slower). */
#ifndef SGM_KERNEL_PEAK_READ_H
#define SGM_KERNEL_PEAK_READ_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/peak.h"

typedef uint64_t peak_words __attribute__((vector_size(64), may_alias));

static uint64_t peak_read(const void *bytes, size_t size) {
    enum { PEAK_STREAMS = 4, PEAK_LINES = 4, PEAK_LINE = 64, PEAK_AHEAD = 1024 };
    _Static_assert(PEAK_STREAMS * PEAK_LINES * PEAK_LINE == SGM_PEAK_READ_BYTES, "a step of all streams");
    const char *from = bytes;
    const size_t part = size / PEAK_STREAMS;
    peak_words sum[PEAK_LINES] = {{0}};
    for (size_t i = 0; i < part; i += (size_t)PEAK_LINES * PEAK_LINE)
        for (size_t s = 0; s < PEAK_STREAMS; s++) {
            const char *at = from + s * part + i;
            for (int l = 0; l < PEAK_LINES; l++) {
                __builtin_prefetch((const void *)((uintptr_t)at + PEAK_AHEAD + (uintptr_t)l * PEAK_LINE), 0, 3);
                sum[l] += *(const peak_words *)(const void *)(at + l * PEAK_LINE);
            }
        }
    uint64_t all = 0;
    for (int l = 0; l < PEAK_LINES; l++)
        for (int j = 0; j < 8; j++)
            all += sum[l][j];
    return all;
}

#endif
