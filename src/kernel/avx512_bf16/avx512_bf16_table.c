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
#include "kernel/simd/simd_vector.h"

#include "kernel/simd/simd_attention.h"

#define MATMUL_STORED_BF16 sgm_avx512_bf16_matmul_stored
#include "kernel/simd/simd_typed_float.h"
#include "kernel/simd/simd_typed_unpack.h"

#include "kernel/simd/simd_typed.h"

#include "kernel/simd/simd_quantise.h"

typedef __m512i peak_int;
static inline peak_int peak_int_set(int x) {
    return _mm512_set1_epi32(x);
}
static inline vec peak_int_real(peak_int x) {
    return _mm512_cvtepi32_ps(x);
}
static inline peak_int peak_dot_int8(peak_int sum, peak_int a, peak_int b) {
    return _mm512_dpbusd_epi32(sum, a, b);
}

#include "kernel/simd/simd_peak.h"

/* sum += two products a lane, which cancel. The barrier hides that all chains are the same. */
static int64_t bf16_dot_peak(int64_t rounds, float *sink) {
    vec sum[CHAINS];
    __m512i a = _mm512_set1_epi32(0x40404040);
    const __m512i b = _mm512_set1_epi32((int)0xC0A040A0u); /* 3, 3 and 5, -5 */
    UNROLL
    for (int j = 0; j < CHAINS; j++)
        sum[j] = v_set(1);
    for (int64_t i = 0; i < rounds; i++)
        UNROLL
    for (int j = 0; j < CHAINS; j++) {
        __asm__ volatile("" : "+v"(a));
        sum[j] = _mm512_dpbf16_ps(sum[j], (__m512bh)a, (__m512bh)b);
    }
    *sink = sum_of_chains(sum, CHAINS);
    return rounds * CHAINS * WIDTH * 4;
}

const sgm_peaks sgm_peaks_avx512_bf16 = {
    .f32 = multiply_add_peak, .bf16 = bf16_dot_peak, .int8 = integer_dot_peak, .read = peak_read};

extern const sgm_kernels sgm_kernels_avx512_bf16;
const sgm_kernels sgm_kernels_avx512_bf16 = {
    .name = "avx512_bf16",
    .summary = "AVX-512 with VNNI and BF16: as avx512, and bf16 dot products",
    .usable = sgm_cpu_has_avx512_bf16,
    .bf16_group = 2,
    SIMD_ENTRIES,
    SIMD_BF16X6_ENTRIES,
    SIMD_ATTENTION_ENTRIES,
    SIMD_TYPED_ENTRIES,
    .matmul_nt_bf16 = sgm_avx512_bf16_matmul_nt,
    .matmul_nn_bf16 = sgm_avx512_bf16_matmul_nn,
    .matmul_tn_bf16 = sgm_avx512_bf16_matmul_tn,
};
