// SPDX-License-Identifier: Apache-2.0
/* The AVX-512 table: the shared vector kernels at 16 floats. This file is compiled with the flags of its instruction
 * set, so nothing in it may run before `usable` (compiled without them) said yes. */
#include "base/half.h"
#include "kernel/cpu.h"
#include "kernel/kernels.h"
#include "kernel/peak.h"
#include "kernel/ref/ref.h"

#include "kernel/avx512/ivec_avx512.h"
#include "kernel/avx512/vec_avx512.h"

#include "kernel/simd/simd_matmul.h"
#include "kernel/simd/simd_matmul_bf16.h"
#include "kernel/simd/simd_vector.h"

#include "kernel/simd/simd_attention.h"

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
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)));
}

#include "kernel/simd/simd_peak.h"

const sgm_peaks sgm_peaks_avx512 = {.f32 = multiply_add_peak, .int8 = integer_dot_peak, .read = peak_read};

extern const sgm_kernels sgm_kernels_avx512;
const sgm_kernels sgm_kernels_avx512 = {
    .name = "avx512",
    .summary = "AVX-512 (F, BW, VL, DQ), 16 floats at a time",
    .usable = sgm_cpu_has_avx512,
    .bf16_group = 1,
    SIMD_ENTRIES,
    SIMD_BF16X6_ENTRIES,
    SIMD_BF16_ENTRIES,
    SIMD_ATTENTION_ENTRIES,
    SIMD_TYPED_ENTRIES,
};
