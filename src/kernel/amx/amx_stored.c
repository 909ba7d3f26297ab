// SPDX-License-Identifier: Apache-2.0
/* Products with weights stored as bf16, by AMX tiles: 16 rows of weights are a tile as they lie, so nothing of them is rounded
 * or packed, whether few rows of A read them (decode) or many.
 *
 * The tiles hold Cᵀ (16 rows of weights by 16 rows of A); A is rounded, transposed and packed on the stack, and what is read
 * and written of C is transposed. An element of C is the same chain over groups of 32 k as in amx_matmul.c: the factors of
 * each product change places, nothing else, so its bytes are those of sgm_amx_matmul_nt. Weights are not asked for ahead of
 * time: the processor follows 32 rows by itself, and asking made decoding slower. */
#include "kernel/amx/amx_matmul.h"

#include "kernel/avx512_bf16/bf16_pairs.h"

#include "kernel/amx/amx_tiles.h"

#define PACKED_TILES 192     /* of A at once: 192 KiB, which stay in the second-level cache */
#define MOST_ROWS (4 * TILE) /* of A at once */

/* A packed piece of A: tile (i, g) holds rows 16 i … by 32 k from 32 g on. */
typedef struct rows_of_a {
    const pair *tile;
    int64_t rows, groups;
} rows_of_a;

static void pack(int64_t rows, int64_t depth, const float *from, int64_t ld, pair *to) {
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t k = 0; k < depth; k += GROUP, to += TILE_PAIRS) {
            vec square[TILE];
            any_square(rows - i, depth - k, from + i * ld + k, ld, square);
            UNROLL
            for (int r = 0; r < TILE; r++)
                v_store((void *)(to + r * TILE), square[r]);
        }
}

/* 16 rows of weights, or as many as there are, from some k on. */
typedef struct weights {
    const uint8_t *at;
    size_t stride;
    int64_t rows, depth;
} weights;

/* A tile of weights as it lies, or, where its rows or its k end, filled up with zeros. */
INLINE const uint8_t *tile_of(const weights *w, int64_t k, uint8_t copy[TILE * TILE_ROW_BYTES], int64_t *stride) {
    const uint8_t *at = w->at + 2 * k;
    if (w->rows >= TILE && w->depth - k >= GROUP) {
        *stride = (int64_t)w->stride;
        return at;
    }
    const __mmask32 mask = w->depth - k >= GROUP ? 0xFFFFFFFFu : (1u << (w->depth - k)) - 1u;
    for (int64_t r = 0; r < TILE; r++)
        _mm512_store_si512((void *)(copy + r * TILE_ROW_BYTES),
                           r < w->rows ? _mm512_maskz_loadu_epi16(mask, at + (size_t)r * w->stride)
                                       : _mm512_setzero_si512());
    *stride = TILE_ROW_BYTES;
    return copy;
}

/* A tile of Cᵀ from and to C (rows, cols), whose other elements are zeros. */
INLINE void get_transposed(int64_t rows, int64_t cols, const float *C, int64_t ldc, float copy[TILE_PAIRS]) {
    const vmask mask = v_mask(cols < TILE ? cols : TILE);
    vec square[TILE];
    UNROLL
    for (int r = 0; r < TILE; r++)
        square[r] = r < rows ? v_load_tail(C + r * ldc, mask) : v_set(0);
    v_transpose(square);
    UNROLL
    for (int r = 0; r < TILE; r++)
        v_store(copy + r * TILE, square[r]);
}

INLINE void put_transposed(int64_t rows, int64_t cols, float *C, int64_t ldc, const float copy[TILE_PAIRS]) {
    const vmask mask = v_mask(cols < TILE ? cols : TILE);
    vec square[TILE];
    UNROLL
    for (int r = 0; r < TILE; r++)
        square[r] = v_load(copy + r * TILE);
    v_transpose(square);
    for (int r = 0; r < TILE && r < rows; r++)
        v_store_tail(C + r * ldc, mask, square[r]);
}

/* Two tiles of rows of weights by two of rows of A, or one where `second_…` is false (compile-time constants): their products'
 * sums, from those in C where `add` says so. `C` is element (first row of A, first row of weights). */
INLINE void sum_tiles(const bool second_weights, const bool second_rows, const weights w[2], const pair *a,
                      const rows_of_a *A, int64_t rows, float *C, int64_t ldc, bool add) {
    _Alignas(64) float c[4][TILE_PAIRS];
    _Alignas(64) uint8_t copy[2][TILE * TILE_ROW_BYTES];
    const pair *below = a + A->groups * TILE_PAIRS;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    if (add) {
        get_transposed(rows, w[0].rows, C, ldc, c[0]);
        TILE_LOAD(0, c[0], TILE_ROW_BYTES);
        if (second_weights) {
            get_transposed(rows, w[1].rows, C + TILE, ldc, c[1]);
            TILE_LOAD(1, c[1], TILE_ROW_BYTES);
        }
        if (second_rows) {
            get_transposed(rows - TILE, w[0].rows, C + TILE * ldc, ldc, c[2]);
            TILE_LOAD(2, c[2], TILE_ROW_BYTES);
        }
        if (second_weights && second_rows) {
            get_transposed(rows - TILE, w[1].rows, C + TILE * ldc + TILE, ldc, c[3]);
            TILE_LOAD(3, c[3], TILE_ROW_BYTES);
        }
    }
    for (int64_t g = 0; g < A->groups; g++) {
        int64_t stride;
        const uint8_t *tile = tile_of(&w[0], g * GROUP, copy[0], &stride);
        TILE_LOAD(4, tile, stride);
        TILE_LOAD(6, a + g * TILE_PAIRS, TILE_ROW_BYTES);
        TILE_DOT_BF16(0, 4, 6);
        if (second_weights) {
            tile = tile_of(&w[1], g * GROUP, copy[1], &stride);
            TILE_LOAD(5, tile, stride);
            TILE_DOT_BF16(1, 5, 6);
        }
        if (second_rows) {
            TILE_LOAD(7, below + g * TILE_PAIRS, TILE_ROW_BYTES);
            TILE_DOT_BF16(2, 4, 7);
        }
        if (second_weights && second_rows)
            TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, c[0], TILE_ROW_BYTES);
    put_transposed(rows, w[0].rows, C, ldc, c[0]);
    if (second_weights) {
        TILE_STORE(1, c[1], TILE_ROW_BYTES);
        put_transposed(rows, w[1].rows, C + TILE, ldc, c[1]);
    }
    if (second_rows) {
        TILE_STORE(2, c[2], TILE_ROW_BYTES);
        put_transposed(rows - TILE, w[0].rows, C + TILE * ldc, ldc, c[2]);
    }
    if (second_weights && second_rows) {
        TILE_STORE(3, c[3], TILE_ROW_BYTES);
        put_transposed(rows - TILE, w[1].rows, C + TILE * ldc + TILE, ldc, c[3]);
    }
}

/* Up to 32 rows of weights by all rows of the packed piece. */
static void multiply_square(const weights w[2], const rows_of_a *A, float *C, int64_t ldc, bool add) {
    const bool second = w[1].rows > 0;
    for (int64_t i = 0; i < A->rows; i += SQUARE) {
        const pair *a = A->tile + i / TILE * A->groups * TILE_PAIRS;
        const int64_t rows = A->rows - i;
        float *c = C + i * ldc;
        if (second && rows > TILE)
            sum_tiles(true, true, w, a, A, rows, c, ldc, add);
        else if (second)
            sum_tiles(true, false, w, a, A, rows, c, ldc, add);
        else if (rows > TILE)
            sum_tiles(false, true, w, a, A, rows, c, ldc, add);
        else
            sum_tiles(false, false, w, a, A, rows, c, ldc, add);
    }
}

void sgm_amx_matmul_stored(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                           float *C, int64_t ldc, bool add) {
    _Alignas(64) pair packed[PACKED_TILES * TILE_PAIRS];
    TILES_BEGIN();
    for (int64_t i = 0, rows; i < M; i += rows) {
        rows = M - i < MOST_ROWS ? M - i : MOST_ROWS;
        const int64_t part = PACKED_TILES / ((rows + TILE - 1) / TILE) * GROUP; /* k whose rows of A fit */
        for (int64_t k = 0; k < K; k += part) {
            const int64_t depth = K - k < part ? K - k : part, groups = (depth + GROUP - 1) / GROUP;
            const rows_of_a piece = {packed, rows, groups};
            pack(rows, depth, A + i * lda + k, lda, packed);
            for (int64_t n = 0; n < N; n += SQUARE) {
                const uint8_t *at = (const uint8_t *)B + (size_t)n * stride + 2 * k;
                const weights w[2] = {{at, stride, N - n < TILE ? N - n : TILE, depth},
                                      {at + TILE * stride, stride, N - n - TILE < TILE ? N - n - TILE : TILE, depth}};
                multiply_square(w, &piece, C + i * ldc + n, ldc, add || k > 0);
            }
        }
    }
    TILES_END();
}
