// SPDX-License-Identifier: Apache-2.0
/* Products in bf16 by vdpbf16ps (avx512_bf16_matmul.c): A and B f32 in memory, rounded to bf16 on the way in. */
#ifndef SGM_KERNEL_AVX512_BF16_MATMUL_H
#define SGM_KERNEL_AVX512_BF16_MATMUL_H

#include "kernel/kernels.h"

sgm_matmul sgm_avx512_bf16_matmul_nt, sgm_avx512_bf16_matmul_nn, sgm_avx512_bf16_matmul_tn;

#endif
