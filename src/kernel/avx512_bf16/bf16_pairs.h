// SPDX-License-Identifier: Apache-2.0
/* Operands of bf16 products as pairs (k, k+1), for vdpbf16ps and for tiles: rounded to nearest even from f32, or as a file
 * holds them. What lies in rows of k is converted as it is or transposed 16 x 16 pairs at a time; what lies in columns is
 * interleaved from two rows. Included after vec_avx512.h by files compiled with AVX512-BF16. */
#ifndef SGM_KERNEL_AVX512_BF16_PAIRS_H
#define SGM_KERNEL_AVX512_BF16_PAIRS_H

#include "kernel/avx512/vec_avx512.h"

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef uint32_t pair; /* two bf16: the even k in the low half */
typedef enum kind { NT, NN, TN } kind;

static inline __m512i to_pairs(vec high, vec low) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* 32 floats of a row, of which `count` exist (32 or more: all), as 16 pairs; the rest zeros. */
INLINE __m512i row_pairs(const float *from, int64_t count) {
    if (count >= 2 * WIDTH)
        return to_pairs(v_load(from + WIDTH), v_load(from));
    const vmask low = v_mask(count < WIDTH ? count : WIDTH), high = v_mask(count < WIDTH ? 0 : count - WIDTH);
    return to_pairs(v_load_tail(from + WIDTH, high), v_load_tail(from, low));
}

/* Two rows of k as pairs, one for each column: the even k in the low halves. */
INLINE __m512i column_pairs(vec low, vec high) {
    static const _Alignas(64) uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512((const void *)order), to_pairs(high, low));
}

/* Eight floats of a row and eight of another one. `full` or not, `count` (of at most 32 from k = 0 on) exist of both. */
INLINE vec two_halves(const float *first, const float *second, bool second_exists, const bool full, int64_t k,
                      int64_t count) {
    if (full)
        return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(first + k)), _mm256_loadu_ps(second + k), 1);
    const int64_t left = count - k < 0 ? 0 : count - k < 8 ? count - k : 8;
    const __mmask8 mask = (__mmask8)((1u << left) - 1u);
    const __m256 low = _mm256_maskz_loadu_ps(mask, first + k);
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), _mm256_maskz_loadu_ps(second_exists ? mask : 0, second + k),
                              1);
}

/* 16 floats (`h` = 0: the first, 1: the second ones of 32) of 16 rows as vectors of which two make one of pairs: in low[i] and
 * high[i] rows r and r + 4 lie in halves, r = 0 … 3 and 8 … 11. `count` floats of `rows` rows exist (`full`: all). */
INLINE void load_halves(const bool full, int64_t rows, int64_t count, const float *from, int64_t ld, int h, vec low[8],
                        vec high[8]) {
    UNROLL
    for (int i = 0; i < 8; i++) {
        const int64_t row = 8 * (i / 4) + i % 4;
        const float *first = from + row * ld, *second = first + 4 * ld;
        const int64_t exist = full || row < rows ? count : 0;
        const bool both = full || row + 4 < rows;
        low[i] = two_halves(first, second, both, full, 16 * h, exist);
        high[i] = two_halves(first, second, both, full, 16 * h + 8, exist);
    }
}

/* square[q] = pair q of 16 rows, q = 0 … 7, from vectors of pairs in which rows r and r + 4 fill quarters in turn: quarters of
 * four vectors are transposed in place and then exchanged. */
INLINE void exchange_quarters(const vec y[8], vec square[8]) {
    vec t[2][4];
    UNROLL
    for (int g = 0; g < 2; g++) { /* rows 8g … 8g + 7 */
        const vec *z = y + 4 * g;
        const vec a = _mm512_unpacklo_ps(z[0], z[1]), b = _mm512_unpackhi_ps(z[0], z[1]);
        const vec c = _mm512_unpacklo_ps(z[2], z[3]), d = _mm512_unpackhi_ps(z[2], z[3]);
        t[g][0] = _mm512_shuffle_ps(a, c, 0x44);
        t[g][1] = _mm512_shuffle_ps(a, c, 0xEE);
        t[g][2] = _mm512_shuffle_ps(b, d, 0x44);
        t[g][3] = _mm512_shuffle_ps(b, d, 0xEE);
    }
    UNROLL
    for (int q = 0; q < 4; q++) {
        square[q] = _mm512_shuffle_f32x4(t[0][q], t[1][q], 0x44);
        square[4 + q] = _mm512_shuffle_f32x4(t[0][q], t[1][q], 0xEE);
    }
}

/* square[q] = pair q of 16 rows, one in each lane: `count` floats of `rows` rows exist (`full`: 32 of 16), the rest are
 * zeros. */
INLINE void load_square(const bool full, int64_t rows, int64_t count, const float *from, int64_t ld,
                        vec square[WIDTH]) {
    UNROLL
    for (int h = 0; h < 2; h++) { /* pairs 8h … 8h + 7 */
        vec low[8], high[8], y[8];
        load_halves(full, rows, count, from, ld, h, low, high);
        UNROLL
        for (int i = 0; i < 8; i++)
            y[i] = _mm512_castsi512_ps(to_pairs(high[i], low[i]));
        exchange_quarters(y, square + 8 * h);
    }
}

/* A square of the pairs of 16 rows from a corner of a matrix of which `rows` x `count` are left: 16 x 32 or more, or fewer. */
INLINE void any_square(int64_t rows, int64_t count, const float *from, int64_t ld, vec square[WIDTH]) {
    if (rows >= WIDTH && count >= 2 * WIDTH)
        load_square(true, WIDTH, 2 * WIDTH, from, ld, square);
    else
        load_square(false, rows, count, from, ld, square);
}

/* 32 elements of a stored row, of which `count` exist (32 or more: all). */
INLINE vec stored_pairs(const uint8_t *from, int64_t count) {
    const __mmask32 mask = count >= 2 * WIDTH ? 0xFFFFFFFFu : (1u << count) - 1u;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, from));
}

/* As any_square, of rows stored as bf16, `stride` bytes apart. `ahead` bytes farther on the same is asked for; 0: nothing. */
INLINE void stored_square(int64_t rows, int64_t count, const uint8_t *from, size_t stride, size_t ahead,
                          vec square[WIDTH]) {
    if (rows >= WIDTH && count >= 2 * WIDTH) {
        UNROLL
        for (size_t r = 0; r < WIDTH; r++) {
            square[r] = _mm512_loadu_ps((const void *)(from + r * stride));
            if (ahead)
                __builtin_prefetch(from + r * stride + ahead, 0, 2);
        }
    } else {
        for (int r = 0; r < WIDTH; r++)
            square[r] = r < rows ? stored_pairs(from + (size_t)r * stride, count) : v_set(0);
    }
    v_transpose(square);
}

#endif
