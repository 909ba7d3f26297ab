// SPDX-License-Identifier: Apache-2.0
/* Integer vectors of the typed products (kernel/simd/simd_typed*.h) in AVX-512: 16 lanes of 32 bits. With VNNI, where
 * the table's flags have it, four products of bytes a lane are one instruction; without it, three. */
#ifndef SGM_KERNEL_AVX512_IVEC_H
#define SGM_KERNEL_AVX512_IVEC_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel/avx512/vec_avx512.h"

typedef __m512i ivec;

#ifdef __AVX512VNNI__
#define DOT_QUADS 1     /* quads of bytes that one iv_dot takes */
#define SIGNED_BIAS 128 /* added to weights that are signed bytes, because one factor has to be unsigned */
#define TILE_ROWS 6
#else
#define DOT_QUADS 4
#define SIGNED_BIAS 0
#define TILE_ROWS 4
#endif
#define TILE_PANELS 2

static inline ivec iv_load(const void *p) {
    return _mm512_load_si512(p);
}
static inline void iv_store(void *p, ivec x) {
    _mm512_store_si512(p, x);
}
static inline ivec iv_set(int32_t x) {
    return _mm512_set1_epi32(x);
}
static inline ivec iv_and(ivec a, ivec b) {
    return _mm512_and_si512(a, b);
}
static inline ivec iv_or(ivec a, ivec b) {
    return _mm512_or_si512(a, b);
}
static inline ivec iv_xor(ivec a, ivec b) {
    return _mm512_xor_si512(a, b);
}
static inline ivec iv_add(ivec a, ivec b) {
    return _mm512_add_epi32(a, b);
}
static inline ivec iv_mul(ivec a, ivec b) {
    return _mm512_mullo_epi32(a, b);
}
/* Shifts, written as operators: an immediate where n is a constant, right where it is none. */
typedef uint32_t lanes_u32 __attribute__((vector_size(64)));
typedef int32_t lanes_i32 __attribute__((vector_size(64)));
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
    return _mm512_ternarylogic_epi32(mask, a, b, 0xCA);
}
static inline vec v_of_int(ivec x) {
    return _mm512_cvtepi32_ps(x);
}
static inline ivec iv_of_float_bits(vec x) {
    return _mm512_castps_si512(x);
}
static inline vec v_of_bits(ivec x) {
    return _mm512_castsi512_ps(x);
}
static inline ivec iv_nearest(vec x) { /* ties to even */
    return _mm512_cvtps_epi32(x);
}
static inline ivec iv_max(ivec a, ivec b) {
    return _mm512_max_epi32(a, b);
}
static inline int32_t iv_largest(ivec x) {
    return _mm512_reduce_max_epi32(x);
}
static inline int32_t iv_total(ivec x) {
    return _mm512_reduce_add_epi32(x);
}
/* Lanes that fit into a byte, as bytes. */
static inline void iv_store_bytes(int8_t *p, ivec x) {
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(x));
}
/* The f16 in the lower or upper half of every lane. */
static inline vec v_of_low_half(ivec x) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
}
static inline vec v_of_high_half(ivec x) {
    return v_of_low_half(_mm512_srli_epi32(x, 16));
}

/* 16 bytes of each of 16 rows: lane r of out[q] becomes bytes 4q … 4q + 3 of row r. Row 4 l + i lands in quarter l of
 * the i-th vector, so that transposing 4 x 4 lanes inside the quarters is all that is left. */
static inline __attribute__((always_inline)) void iv_quads(const uint8_t *at, size_t stride, ivec out[4]) {
    const uint8_t *row0 = at, *row4 = at + 4 * stride, *row8 = at + 8 * stride, *row12 = row4 + 8 * stride;
    ivec t[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        ivec x = _mm512_castsi128_si512(_mm_loadu_si128((const void *)(row0 + i * stride)));
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(row4 + i * stride)), 1);
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(row8 + i * stride)), 2);
        t[i] = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(row12 + i * stride)), 3);
    }
    ivec a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
    ivec c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

/* The same four bytes in every lane. */
static inline ivec iv_broadcast(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm512_set1_epi32(x);
}

/* sum + the dot products of DOT_QUADS quads: weights w of `bits` bits, unsigned, but signed bytes (with SIGNED_BIAS
 * added) for 8; x signed, not -128. Exact: `bits` says how many products fit into 16 bits. */
static inline __attribute__((always_inline)) ivec iv_dot(ivec sum, const ivec w[DOT_QUADS], const ivec x[DOT_QUADS],
                                                         const int bits) {
#ifdef __AVX512VNNI__
    (void)bits;
    return _mm512_dpbusd_epi32(sum, w[0], x[0]);
#else
    const ivec ones = _mm512_set1_epi16(1);
    ivec pairs[4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
        pairs[q] =
            bits < 8 ? _mm512_maddubs_epi16(w[q], x[q])
                     : _mm512_maddubs_epi16(_mm512_abs_epi8(w[q]), _mm512_mask_sub_epi8(x[q], _mm512_movepi8_mask(w[q]),
                                                                                        _mm512_setzero_si512(), x[q]));
    if (bits <= 6) {
        pairs[0] = _mm512_add_epi16(pairs[0], pairs[1]);
        pairs[2] = _mm512_add_epi16(pairs[2], pairs[3]);
        if (bits <= 5)
            return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_add_epi16(pairs[0], pairs[2]), ones));
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs[0], ones));
        return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs[2], ones));
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs[q], ones));
    return sum;
#endif
}

#endif
