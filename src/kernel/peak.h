// SPDX-License-Identifier: Apache-2.0
/* How fast the instructions of a table can go at best: the yardsticks of every "share of peak". Arithmetic: independent
 * chains in registers, no memory. Reading: wide loads of several streams that ask ahead. One const struct a table, named
 * sgm_peaks_<table>. Call only where the table is usable. */
#ifndef SGM_KERNEL_PEAK_H
#define SGM_KERNEL_PEAK_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/kernels.h"

/* `rounds` passes over all chains; returns the operations done (a multiply-add is two) and leaves a value in *sink, so that
 * nothing is optimised away: each chain ends at 1, so it is their number. */
typedef int64_t sgm_peak_function(int64_t rounds, sgm_real *sink);

typedef struct sgm_peaks {
    sgm_peak_function *f32;  /* multiply-adds (of sgm_real) */
    sgm_peak_function *bf16; /* dot products of bf16 pairs; NULL: no such instruction, products go through f32 */
    sgm_peak_function *int8; /* products of 8-bit integers summed in 32 bits, as quantised weights need them */
    /* The sum of all 64-bit words. `bytes` is aligned to 64; size: a multiple of SGM_PEAK_READ_BYTES. */
    uint64_t (*read)(const void *bytes, size_t size);
} sgm_peaks;
#define SGM_PEAK_READ_BYTES 1024

#define SGM_KERNELS(name) extern const sgm_peaks sgm_peaks_##name;
#include "kernel/list.h"
#undef SGM_KERNELS

/* Those of `kernels`; never NULL for a table of sgm_kernels_at. */
const sgm_peaks *sgm_peaks_of(const sgm_kernels *kernels);

#endif
