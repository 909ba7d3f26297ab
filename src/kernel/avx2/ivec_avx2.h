// SPDX-License-Identifier: Apache-2.0
/* Integer vectors of the typed products (kernel/simd/simd_typed*.h) in AVX2 + F16C: 8 lanes of 32 bits. Products of bytes
 * go through 16 bits, which must not overflow: the instruction saturates. */
#ifndef SGM_KERNEL_AVX2_IVEC_H
#define SGM_KERNEL_AVX2_IVEC_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel/avx2/vec_avx2.h"

typedef __m256i ivec;

#define DOT_QUADS 4   /* quads of bytes that one iv_dot takes */
#define SIGNED_BIAS 0 /* signed weights stay as they are */
#define TILE_ROWS 4
#define TILE_PANELS 1

static inline ivec iv_load(const void *p) {
    return _mm256_load_si256(p);
}
static inline void iv_store(void *p, ivec x) {
    _mm256_store_si256(p, x);
}
static inline ivec iv_set(int32_t x) {
    return _mm256_set1_epi32(x);
}
static inline ivec iv_and(ivec a, ivec b) {
    return _mm256_and_si256(a, b);
}
static inline ivec iv_or(ivec a, ivec b) {
    return _mm256_or_si256(a, b);
}
static inline ivec iv_xor(ivec a, ivec b) {
    return _mm256_xor_si256(a, b);
}
static inline ivec iv_add(ivec a, ivec b) {
    return _mm256_add_epi32(a, b);
}
static inline ivec iv_mul(ivec a, ivec b) {
    return _mm256_mullo_epi32(a, b);
}
/* Shifts, written as operators: an immediate where n is a constant, right where it is none. */
typedef uint32_t lanes_u32 __attribute__((vector_size(32)));
typedef int32_t lanes_i32 __attribute__((vector_size(32)));
static inline ivec iv_left(ivec x, int n) {
    return (ivec)((lanes_u32)x << n);
}
static inline ivec iv_right(ivec x, int n) { /* zeros move in */
    return (ivec)((lanes_u32)x >> n);
}
static inline ivec iv_right_signed(ivec x, int n) { /* the sign moves in */
    return (ivec)((lanes_i32)x >> n);
}
/* The bits of `a` where the mask has ones, of `b` elsewhere. */
static inline ivec iv_merge(ivec mask, ivec a, ivec b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}
static inline vec v_of_int(ivec x) {
    return _mm256_cvtepi32_ps(x);
}
static inline ivec iv_of_float_bits(vec x) {
    return _mm256_castps_si256(x);
}
static inline vec v_of_bits(ivec x) {
    return _mm256_castsi256_ps(x);
}
static inline ivec iv_nearest(vec x) { /* ties to even */
    return _mm256_cvtps_epi32(x);
}
static inline ivec iv_max(ivec a, ivec b) {
    return _mm256_max_epi32(a, b);
}
static inline int32_t iv_largest(ivec x) {
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 0xB1)));
}
static inline int32_t iv_total(ivec x) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}
/* Lanes that fit into a byte, as bytes. */
static inline void iv_store_bytes(int8_t *p, ivec x) {
    __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((void *)p, _mm_packs_epi16(halves, halves));
}
/* The f16 in the lower or upper half of every lane. */
static inline vec v_of_high_half(ivec x) {
    __m256i halves = _mm256_srli_epi32(x, 16);
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
}
static inline vec v_of_low_half(ivec x) {
    return v_of_high_half(_mm256_slli_epi32(x, 16));
}

/* 16 bytes of each of 8 rows: lane r of out[q] becomes bytes 4q … 4q + 3 of row r. */
static inline __attribute__((always_inline)) void iv_quads(const uint8_t *at, size_t stride, ivec out[4]) {
    const uint8_t *row4 = at + 4 * stride;
    ivec t[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        t[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)(at + i * stride))),
                                       _mm_loadu_si128((const void *)(row4 + i * stride)), 1);
    ivec a = _mm256_unpacklo_epi32(t[0], t[1]), b = _mm256_unpackhi_epi32(t[0], t[1]);
    ivec c = _mm256_unpacklo_epi32(t[2], t[3]), d = _mm256_unpackhi_epi32(t[2], t[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}

/* The same four bytes in every lane. */
static inline ivec iv_broadcast(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm256_set1_epi32(x);
}

/* sum + the dot products of DOT_QUADS quads: weights w of `bits` bits, unsigned, but signed bytes for 8; x signed, not
 * -128. Exact: `bits` says how many products fit into 16 bits. */
static inline __attribute__((always_inline)) ivec iv_dot(ivec sum, const ivec w[DOT_QUADS], const ivec x[DOT_QUADS],
                                                         const int bits) {
    const ivec ones = _mm256_set1_epi16(1);
    ivec pairs[4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
        pairs[q] = bits < 8 ? _mm256_maddubs_epi16(w[q], x[q])
                            : _mm256_maddubs_epi16(_mm256_abs_epi8(w[q]), _mm256_sign_epi8(x[q], w[q]));
    if (bits <= 6) {
        pairs[0] = _mm256_add_epi16(pairs[0], pairs[1]);
        pairs[2] = _mm256_add_epi16(pairs[2], pairs[3]);
        if (bits <= 5)
            return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(pairs[0], pairs[2]), ones));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs[0], ones));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs[2], ones));
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs[q], ones));
    return sum;
}

#endif
