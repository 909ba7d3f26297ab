// SPDX-License-Identifier: Apache-2.0
/* The table for AVX-512 with VNNI and BF16: f32 as in the AVX-512 table, products in bf16 by vdpbf16ps. This file is
 * compiled with the flags of its instruction set, so nothing in it may run before `usable` (compiled without them) said
 * yes. */
#include "base/half.h"
#include "kernel/cpu.h"
#include "kernel/kernels.h"
#include "kernel/peak.h"
#include "kernel/ref/ref.h"

#include "kernel/avx512/ivec_avx512.h"
#include "kernel/avx512/vec_avx512.h"
#include "kernel/avx512_bf16/bf16_matmul.h"

#include "kernel/simd/simd_matmul.h"
#include "kernel/simd/simd_peak.h"
#include "kernel/simd/simd_vector.h"

#include "kernel/simd/simd_attention.h"

#include "kernel/simd/simd_typed_unpack.h"

#include "kernel/simd/simd_typed.h"

#include "kernel/simd/simd_quantise.h"

int64_t sgm_peak_avx512_bf16(int64_t rounds, sgm_real *sink) {
    return multiply_add_peak(rounds, sink);
}

extern const sgm_kernels sgm_kernels_avx512_bf16;
const sgm_kernels sgm_kernels_avx512_bf16 = {
    .name = "avx512_bf16",
    .summary = "AVX-512 with VNNI and BF16: as avx512, and bf16 dot products",
    .usable = sgm_cpu_has_avx512_bf16,
    SIMD_ENTRIES,
    SIMD_ATTENTION_ENTRIES,
    SIMD_TYPED_ENTRIES,
    .matmul_nt_bf16 = sgm_avx512_bf16_matmul_nt,
    .matmul_nn_bf16 = sgm_avx512_bf16_matmul_nn,
    .matmul_tn_bf16 = sgm_avx512_bf16_matmul_tn,
};
