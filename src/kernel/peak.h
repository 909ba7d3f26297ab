// SPDX-License-Identifier: Apache-2.0
/* How fast a table's own multiply-adds can go: independent chains in registers, no memory. One function a table, named
 * sgm_peak_<table>: `rounds` passes over all chains; returns the floating-point operations done and leaves a value in
 * *sink, so that nothing is optimised away. Call only where the table is usable. */
#ifndef SGM_KERNEL_PEAK_H
#define SGM_KERNEL_PEAK_H

#include <stdint.h>

#include "kernel/kernels.h"

#define SGM_KERNELS(name) int64_t sgm_peak_##name(int64_t rounds, sgm_real *sink);
#include "kernel/list.h"
#undef SGM_KERNELS

/* The function of `kernels`; never NULL for a table of sgm_kernels_at. */
typedef int64_t sgm_peak_function(int64_t rounds, sgm_real *sink);
sgm_peak_function *sgm_peak_of(const sgm_kernels *kernels);

#endif
