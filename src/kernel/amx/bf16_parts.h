// SPDX-License-Identifier: Apache-2.0
/* A float as a sum of bf16: the nearest one, the nearest one of what it leaves, and what is left then, which has no more than
 * the eight bits of a bf16. So three parts are exact, but for parts below 2^-126, which tiles take for zeros. A float that is not
 * finite, or rounds to infinity, has NaN among its parts.
 *
 * The bits are rounded in place (ties away from zero), so that pairs of two rows are a shift and a choice of bits. */
#ifndef SGM_KERNEL_AMX_BF16_PARTS_H
#define SGM_KERNEL_AMX_BF16_PARTS_H

#include "kernel/avx512_bf16/bf16_pairs.h"

#define PARTS 3 /* at most */

/* The nearest bf16, as a float. */
INLINE vec nearest_bf16(vec x) {
    const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int)0xFFFF0000u)));
}

/* Takes part `which` of all parts off x: returns it, and leaves the rest in x. */
INLINE vec next_part(vec *x, int which) {
    if (which == PARTS - 1)
        return *x;
    const vec part = nearest_bf16(*x);
    *x = _mm512_sub_ps(*x, part);
    return part;
}

/* 16 pairs of parts, one for each column: the upper halves of two rows. */
INLINE __m512i upper_halves(vec low, vec high) {
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000u);
    return _mm512_ternarylogic_epi32(upper, _mm512_castps_si512(high), _mm512_srli_epi32(_mm512_castps_si512(low), 16),
                                     0xCA);
}

/* As row_pairs, of `parts` parts: 1 (rounded) or all. */
INLINE void row_parts(const float *from, int64_t count, const int parts, __m512i part[PARTS]) {
    if (parts == 1) {
        part[0] = row_pairs(from, count);
        return;
    }
    const vmask first = count >= 2 * WIDTH ? (vmask)0xFFFF : v_mask(count < WIDTH ? count : WIDTH);
    const vmask second = count >= 2 * WIDTH ? (vmask)0xFFFF : v_mask(count < WIDTH ? 0 : count - WIDTH);
    vec low = v_load_tail(from, first), high = v_load_tail(from + WIDTH, second);
    UNROLL
    for (int p = 0; p < PARTS; p++) {
        const vec low_part = next_part(&low, p), high_part = next_part(&high, p);
        part[p] = to_pairs(high_part, low_part);
    }
}

/* As column_pairs. */
INLINE void column_parts(vec low, vec high, const int parts, __m512i part[PARTS]) {
    if (parts == 1) {
        part[0] = column_pairs(low, high);
        return;
    }
    UNROLL
    for (int p = 0; p < PARTS; p++) {
        const vec low_part = next_part(&low, p), high_part = next_part(&high, p);
        part[p] = upper_halves(low_part, high_part);
    }
}

/* As any_square, each part into a square of its own, written to memory: `between` pairs from one to the next. */
INLINE void store_square_parts(const bool full, int64_t rows, int64_t count, const float *from, int64_t ld,
                               int64_t between, pair *to) {
    UNROLL
    for (int h = 0; h < 2; h++) { /* pairs 8h … 8h + 7 */
        vec low[8], high[8];
        load_halves(full, rows, count, from, ld, h, low, high);
        UNROLL
        for (int p = 0; p < PARTS; p++) {
            vec y[8], square[8];
            UNROLL
            for (int i = 0; i < 8; i++) {
                const vec low_part = next_part(&low[i], p), high_part = next_part(&high[i], p);
                y[i] = _mm512_castsi512_ps(to_pairs(high_part, low_part));
            }
            exchange_quarters(y, square);
            UNROLL
            for (int q = 0; q < 8; q++)
                _mm512_store_ps((void *)(to + p * between + (8 * h + q) * WIDTH), square[q]);
        }
    }
}

#endif
