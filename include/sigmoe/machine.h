// SPDX-License-Identifier: Apache-2.0
/* What this machine has and which kernels run on it (`sigmoe doctor`). */
#ifndef SIGMOE_MACHINE_H
#define SIGMOE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Of every thread team, wherever a number of threads is asked for. */
enum { SGM_THREADS_MOST = 4096 };

typedef struct sgm_machine {
    int cores;
    uint64_t memory_bytes, memory_available_bytes;
    char cpu[128], features[512]; /* "avx2 fma avx512f …" */
    char kernels[32];             /* the table `auto` picks */
} sgm_machine;
void sgm_machine_describe(sgm_machine *machine);
/* Kernel tables: name, summary, usable here. False past the end. */
bool sgm_machine_kernels(int index, const char **name, const char **summary, bool *usable);
/* How fast the machine is at best with the instructions of a kernel table; what was not measured is 0. */
typedef struct sgm_machine_peaks {
    double flops_per_second;        /* f32 multiply-adds, counted as two */
    double bf16_flops_per_second;   /* bf16 dot products; those of f32 where there is no such instruction */
    double int8_ops_per_second;     /* products of 8-bit integers, and their sums */
    double read_bytes_per_second;   /* memory, huge pages where the system gives them */
    double mapped_bytes_per_second; /* a mapped file in the page cache: pages of 4 KiB, as weights are read */
} sgm_machine_peaks;
enum {
    SGM_MEASURE_F32 = 1,
    SGM_MEASURE_BF16 = 2,
    SGM_MEASURE_INT8 = 4,
    SGM_MEASURE_READ = 8,
    SGM_MEASURE_MAPPED = 16,
    SGM_MEASURE_ALL = 31,
};
/* Measure what the bits of `what` say with `threads` and the table `kernels` (NULL: auto), for about `seconds` in all, and the
 * time to touch what is read.
 * Each thread reads 64 MiB of its own, and of `file` its share of the first GiB, which is read once before. `file` is for
 * SGM_MEASURE_MAPPED and NULL otherwise; one that fits in a cache shows the speed of that cache. Errors: SGM_EARGUMENT,
 * SGM_EMEMORY, and what opening `file` gives. */
sgm_status sgm_machine_measure(const char *kernels, int threads, double seconds, unsigned what, const char *file,
                               sgm_machine_peaks *peaks, sgm_error *error);
/* Of products in "f32", "bf16", "bf16x6" (six bf16 products instead of one, or f32, whichever is faster) or "int8". */
double sgm_machine_peak(const sgm_machine_peaks *peaks, const char *arithmetic);
const char *sgm_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
