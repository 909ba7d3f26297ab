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

typedef struct sgm_machine {
    int cores;
    uint64_t memory_bytes, memory_available_bytes;
    char cpu[128], features[512]; /* "avx2 fma avx512f …" */
    char kernels[32];             /* the table `auto` picks */
} sgm_machine;
void sgm_machine_describe(sgm_machine *machine);
/* Kernel tables: name, summary, usable here. False past the end. */
bool sgm_machine_kernels(int index, const char **name, const char **summary, bool *usable);
/* Measure for about `seconds`: f32 multiply-add peak and memory read bandwidth with `threads`. */
sgm_status sgm_machine_measure(int threads, double seconds, double *flops_per_second, double *bytes_per_second,
                               sgm_error *error);
const char *sgm_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
