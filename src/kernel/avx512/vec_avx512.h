// SPDX-License-Identifier: Apache-2.0
/* The vector type of the shared kernels (kernel/simd/) in AVX-512: 16 floats, tails by mask registers. */
#ifndef SGM_KERNEL_AVX512_VEC_H
#define SGM_KERNEL_AVX512_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define WIDTH 16
#define ROWS_1 8 /* rows of the register tile, by its width in vectors: at most 24 sums in 32 registers */
#define ROWS_2 8
#define ROWS_3 8
#define ROWS_4 6

typedef __m512 vec;
typedef __mmask16 vmask;

static inline vmask v_mask(int64_t n) { /* the first n lanes, 0 <= n <= WIDTH */
    return (vmask)((1u << n) - 1u);
}
static inline vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline vec v_load_tail(const float *p, vmask mask) { /* other lanes 0, and not touched in memory */
    return _mm512_maskz_loadu_ps(mask, p);
}
static inline void v_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}
static inline void v_store_tail(float *p, vmask mask, vec x) {
    _mm512_mask_storeu_ps(p, mask, x);
}
static inline vec v_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vec v_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
static inline vec v_sqrt(vec a) {
    return _mm512_sqrt_ps(a);
}
static inline vec v_fma(vec a, vec b, vec c) { /* a b + c */
    return _mm512_fmadd_ps(a, b, c);
}
static inline vec v_fnma(vec a, vec b, vec c) { /* c - a b */
    return _mm512_fnmadd_ps(a, b, c);
}
static inline vec v_min(vec a, vec b) { /* b where either is NaN */
    return _mm512_min_ps(a, b);
}
static inline vec v_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
/* Without optimisation gcc's intrinsic is a macro that turns an unsigned mask into a signed one. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline vec v_round(vec a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#pragma GCC diagnostic pop
/* To the nearest bf16, ties to even; a NaN stays a NaN. */
static inline vec v_round_bf16(vec x) {
    const __m512i u = _mm512_castps_si512(x), half = _mm512_set1_epi32(0x7FFF), one = _mm512_set1_epi32(1);
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(half, _mm512_and_si512(_mm512_srli_epi32(u, 16), one)));
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), u, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_srli_epi32(r, 16), 16));
}
/* a 2^n for an integral n: one rounding, also into the denormals. */
static inline vec v_scale2(vec a, vec n) {
    return _mm512_scalef_ps(a, n);
}
/* b in the lanes of the mask, else a. */
static inline vec v_select(vec a, vec b, vmask mask) {
    return _mm512_mask_blend_ps(mask, a, b);
}
static inline vmask v_below(vec a, vec b) { /* not where either is NaN */
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline bool v_any_nan(vec a) {
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0;
}
/* Lanes by halves: lane j with lane j + 8, then j + 4, j + 2, j + 1. */
static inline float v_total(vec a) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline float v_largest(vec a) { /* without NaN */
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
static inline vec v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
#pragma GCC diagnostic push /* as above */
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline void v_store_f16(uint16_t *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#pragma GCC diagnostic pop
static inline vec v_load_int8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
/* Squares of the lanes added to two vectors of f64. */
typedef struct vsquares {
    __m512d low, high;
} vsquares;
static inline vsquares v_no_squares(void) {
    return (vsquares){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
static inline void v_add_squares(vsquares *sum, vec x) {
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    sum->low = _mm512_fmadd_pd(low, low, sum->low);
    sum->high = _mm512_fmadd_pd(high, high, sum->high);
}
static inline void v_store_squares(double *p, const vsquares *sum) {
    _mm512_storeu_pd(p, sum->low);
    _mm512_storeu_pd(p + 8, sum->high);
}

/* Transpose a square of WIDTH x WIDTH: first 4 x 4 inside the 128-bit quarters, then the quarters. */
static inline void v_transpose(vec r[WIDTH]) {
    vec t[WIDTH];
    for (int i = 0; i < 16; i += 4) {
        vec a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        vec c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xEE);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        vec a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xDD);
        vec c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88), d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xDD);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xDD);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xDD);
    }
}

#endif
