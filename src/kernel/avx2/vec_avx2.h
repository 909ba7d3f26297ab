// SPDX-License-Identifier: Apache-2.0
/* The vector type of the shared kernels (kernel/simd/) in AVX2 + FMA: 8 floats, tails by masked moves. */
#ifndef SGM_KERNEL_AVX2_VEC_H
#define SGM_KERNEL_AVX2_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define WIDTH 8
#define ROWS_1 8 /* rows of the register tile, by its width in vectors: at most 12 sums in 16 registers */
#define ROWS_2 6
#define ROWS_3 4
#define ROWS_4 3

typedef __m256 vec;
typedef __m256i vmask;

static inline vmask v_mask(int64_t n) { /* the first n lanes, 0 <= n <= WIDTH */
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline vec v_load_tail(const float *p, vmask mask) { /* other lanes 0, and not touched in memory */
    return _mm256_maskload_ps(p, mask);
}
static inline void v_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}
static inline void v_store_tail(float *p, vmask mask, vec x) {
    _mm256_maskstore_ps(p, mask, x);
}
static inline vec v_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vec v_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}
static inline vec v_sqrt(vec a) {
    return _mm256_sqrt_ps(a);
}
static inline vec v_fma(vec a, vec b, vec c) { /* a b + c */
    return _mm256_fmadd_ps(a, b, c);
}
static inline vec v_fnma(vec a, vec b, vec c) { /* c - a b */
    return _mm256_fnmadd_ps(a, b, c);
}
static inline vec v_min(vec a, vec b) { /* b where either is NaN */
    return _mm256_min_ps(a, b);
}
static inline vec v_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}
static inline vec v_round(vec a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* To the nearest bf16, ties to even; a NaN stays a NaN. */
static inline vec v_round_bf16(vec x) {
    const __m256i u = _mm256_castps_si256(x), half = _mm256_set1_epi32(0x7FFF), one = _mm256_set1_epi32(1);
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(half, _mm256_and_si256(_mm256_srli_epi32(u, 16), one)));
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(r, 16), 16));
}
/* a 2^n for an integral n with |n| < 250: two factors, so one rounding, also into the denormals. */
static inline vec v_scale2(vec a, vec n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    __m256i rest = _mm256_sub_epi32(whole, half);
    vec first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vec second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}
/* b in the lanes of the mask, else a. */
static inline vec v_select(vec a, vec b, vmask mask) {
    return _mm256_blendv_ps(a, b, _mm256_castsi256_ps(mask));
}
static inline vmask v_below(vec a, vec b) { /* not where either is NaN */
    return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline bool v_any_nan(vec a) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)) != 0;
}
/* Lanes by halves: lane j with lane j + 4, then j + 2, j + 1. */
static inline float v_total(vec a) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline float v_largest(vec a) { /* without NaN */
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
static inline vec v_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline void v_store_f16(uint16_t *p, vec x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vec v_load_int8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
/* Squares of the lanes added to two vectors of f64. */
typedef struct vsquares {
    __m256d low, high;
} vsquares;
static inline vsquares v_no_squares(void) {
    return (vsquares){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
static inline void v_add_squares(vsquares *sum, vec x) {
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    sum->low = _mm256_fmadd_pd(low, low, sum->low);
    sum->high = _mm256_fmadd_pd(high, high, sum->high);
}
static inline void v_store_squares(double *p, const vsquares *sum) {
    _mm256_storeu_pd(p, sum->low);
    _mm256_storeu_pd(p + 4, sum->high);
}

/* Transpose a square of WIDTH x WIDTH: first 4 x 4 inside the 128-bit halves, then the halves. */
static inline void v_transpose(vec r[WIDTH]) {
    vec t[WIDTH];
    for (int i = 0; i < 8; i += 4) {
        vec a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        vec c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xEE);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

#endif
