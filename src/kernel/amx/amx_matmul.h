// SPDX-License-Identifier: Apache-2.0
/* Products in bf16 by tiles: A and B f32 in memory, rounded to bf16 on the way in (amx_matmul.c), or B as a file stores it
 * (amx_stored.c). */
#ifndef SGM_KERNEL_AMX_MATMUL_H
#define SGM_KERNEL_AMX_MATMUL_H

#include "kernel/kernels.h"

sgm_matmul sgm_amx_matmul_nt, sgm_amx_matmul_nn, sgm_amx_matmul_tn;
sgm_matmul sgm_amx_matmul_nt_x6, sgm_amx_matmul_nn_x6, sgm_amx_matmul_tn_x6;

/* B as sgm_amx_bf16_round made it. */
sgm_matmul_rounded sgm_amx_matmul_nt_rounded, sgm_amx_matmul_nn_rounded;
/* Nearest even, denormals are zeros; written past the caches. */
void sgm_amx_bf16_round(int64_t n, const float *x, uint16_t *y);

/* B (N, K) stored as bf16 at any address, `stride` bytes between rows; the rest as matmul_nt. */
void sgm_amx_matmul_stored(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                           float *C, int64_t ldc, bool add);

#endif
