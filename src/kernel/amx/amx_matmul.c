// SPDX-License-Identifier: Apache-2.0
/* Matrix products in bf16 by AMX tiles: one instruction multiplies 16 rows of A by 16 columns of B over 32 k.
 *
 * Memory holds f32. A block of A and a panel of B are rounded to bf16 and packed on the stack, tile by tile as they are
 * loaded (1 KiB each, filled up with zeros): 16 rows of 16 pairs of k for A, 16 pairs of 16 columns for B. Four tiles of C are
 * summed at a time, so that each tile of A and of B that is loaded is used twice. An element of C is one chain over groups of
 * 32 k from the value in C (TILE_DOT_BF16 says how a group is summed): its order depends on K alone, and sums that are cut at
 * multiples of 32 continue to the byte.
 *
 * With few rows the products themselves are a small part of the time: then it is rounding and transposing B. */
#include "kernel/amx/amx_matmul.h"

#include <string.h>

#include "kernel/amx/amx_tiles.h"
#include "kernel/avx512_bf16/bf16_pairs.h"

#define GROUP (2 * TILE)         /* k in a tile */
#define GROUPS 8                 /* of k in a block */
#define DEPTH (GROUPS * GROUP)   /* k in a block */
#define TILE_PAIRS (TILE * TILE) /* in a packed tile */
#define ROW_TILES 16             /* of A packed at once: 128 KiB */
#define BLOCK_ROWS (ROW_TILES * TILE)
#define PANEL (2 * TILE) /* columns of B packed at once: 16 KiB */
#define TILE_ROW_BYTES 64

/* Where the packed tile of rows (or columns) 16 i … and group g of k begins. */
INLINE pair *tile_at(pair *packed, int64_t i, int64_t g) {
    return packed + (i * GROUPS + g) * TILE_PAIRS;
}

static int64_t groups_of(int64_t depth) {
    return (depth + GROUP - 1) / GROUP;
}

/* ---- packing ---- */

/* A from rows of k. Rows that are not there are zeros. */
static void pack_rows(int64_t rows, int64_t depth, const float *from, int64_t ld, pair *packed) {
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t r = 0; r < TILE; r++)
            for (int64_t g = 0; g < groups_of(depth); g++)
                _mm512_store_si512((void *)(tile_at(packed, i / TILE, g) + r * TILE),
                                   i + r < rows ? row_pairs(from + (i + r) * ld + g * GROUP, depth - g * GROUP)
                                                : _mm512_setzero_si512());
}

/* Weights come from memory: what is packed next is asked for. It may lie beyond the matrix: nothing is read. */
INLINE void ask_for(const float *from, int64_t offset) {
    __builtin_prefetch((const void *)((uintptr_t)from + (uintptr_t)offset * sizeof(float)), 0, 2);
}

/* 16 pairs of k of 16 columns, `depth` and `cols` of which are left: one pair of all columns in each vector. `next` from
 * them on is what comes next; 0: not known. */
INLINE void column_square(int64_t cols, int64_t depth, const float *from, int64_t ld, int64_t next, vec square[TILE]) {
    const vmask mask = v_mask(cols < TILE ? cols : TILE);
    UNROLL
    for (int q = 0; q < TILE; q++) {
        const float *even = from + 2 * q * ld;
        if (next) {
            ask_for(even, next);
            ask_for(even + ld, next);
        }
        square[q] = _mm512_castsi512_ps(column_pairs(v_load_tail(even, 2 * q < depth ? mask : v_mask(0)),
                                                     v_load_tail(even + ld, 2 * q + 1 < depth ? mask : v_mask(0))));
    }
}

INLINE void store_square(pair *to, const vec square[TILE]) {
    UNROLL
    for (int r = 0; r < TILE; r++)
        _mm512_store_ps((void *)(to + r * TILE), square[r]);
}

/* A of tn from rows of columns: transposed, so that a row of the tile has one column's pairs. */
static void pack_columns_as_rows(int64_t cols, int64_t depth, const float *from, int64_t ld, pair *packed) {
    for (int64_t n = 0; n < cols; n += TILE)
        for (int64_t g = 0; g < groups_of(depth); g++) {
            vec square[TILE];
            column_square(cols - n, depth - g * GROUP, from + g * GROUP * ld + n, ld, 0, square);
            v_transpose(square);
            store_square(tile_at(packed, n / TILE, g), square);
        }
}

/* B of nn and tn from rows of columns. */
static void pack_columns(int64_t cols, int64_t depth, const float *from, int64_t ld, int64_t next, pair *packed) {
    for (int64_t g = 0; g < groups_of(depth); g++)
        for (int64_t n = 0; n < cols; n += TILE) {
            vec square[TILE];
            column_square(cols - n, depth - g * GROUP, from + g * GROUP * ld + n, ld, next, square);
            store_square(tile_at(packed, n / TILE, g), square);
        }
}

/* B of nt from rows of k. */
static void pack_transposed(int64_t cols, int64_t depth, const float *from, int64_t ld, int64_t next, pair *packed) {
    for (int64_t n = 0; n < cols; n += TILE)
        for (int64_t g = 0; g < groups_of(depth); g++) {
            vec square[TILE];
            const float *corner = from + n * ld + g * GROUP;
            any_square(cols - n, depth - g * GROUP, corner, ld, square);
            for (int64_t r = 0; r < TILE && next; r++) {
                ask_for(corner, r * ld + next);
                ask_for(corner, r * ld + next + TILE);
            }
            store_square(tile_at(packed, n / TILE, g), square);
        }
}

/* The same from rows stored as bf16. With `ask` the same rows' place in the next panel is asked for. */
static void pack_stored(int64_t cols, int64_t depth, const uint8_t *from, size_t stride, bool ask, pair *packed) {
    for (int64_t n = 0; n < cols; n += TILE)
        for (int64_t g = 0; g < groups_of(depth); g++) {
            vec square[TILE];
            stored_square(cols - n, depth - g * GROUP, from + (size_t)n * stride + 2 * g * GROUP, stride,
                          ask ? (size_t)cols * stride : 0, square);
            store_square(tile_at(packed, n / TILE, g), square);
        }
}

/* ---- tiles ---- */

/* Two tiles of rows by two of columns of C, or one where `second_…` is false (compile-time constants). */
INLINE void sum_tiles(const pair *a, const pair *b, int64_t groups, float *c, int64_t ldc, bool add,
                      const bool second_rows, const bool second_columns) {
    const int64_t c_bytes = ldc * (int64_t)sizeof(float);
    float *below = c + TILE * ldc;
    if (add) {
        TILE_LOAD(0, c, c_bytes);
        if (second_columns)
            TILE_LOAD(1, c + TILE, c_bytes);
        if (second_rows)
            TILE_LOAD(2, below, c_bytes);
        if (second_rows && second_columns)
            TILE_LOAD(3, below + TILE, c_bytes);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    for (; groups > 0; groups--, a += TILE_PAIRS, b += TILE_PAIRS) {
        TILE_LOAD(4, a, TILE_ROW_BYTES);
        TILE_LOAD(6, b, TILE_ROW_BYTES);
        TILE_DOT_BF16(0, 4, 6);
        if (second_columns) {
            TILE_LOAD(7, b + GROUPS * TILE_PAIRS, TILE_ROW_BYTES);
            TILE_DOT_BF16(1, 4, 7);
        }
        if (second_rows) {
            TILE_LOAD(5, a + GROUPS * TILE_PAIRS, TILE_ROW_BYTES);
            TILE_DOT_BF16(2, 5, 6);
        }
        if (second_rows && second_columns)
            TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, c, c_bytes);
    if (second_columns)
        TILE_STORE(1, c + TILE, c_bytes);
    if (second_rows)
        TILE_STORE(2, below, c_bytes);
    if (second_rows && second_columns)
        TILE_STORE(3, below + TILE, c_bytes);
}

static void sum_any_tiles(const pair *a, const pair *b, int64_t groups, float *c, int64_t ldc, bool add,
                          bool second_rows, bool second_columns) {
    if (second_rows && second_columns)
        sum_tiles(a, b, groups, c, ldc, add, true, true);
    else if (second_rows)
        sum_tiles(a, b, groups, c, ldc, add, true, false);
    else if (second_columns)
        sum_tiles(a, b, groups, c, ldc, add, false, true);
    else
        sum_tiles(a, b, groups, c, ldc, add, false, false);
}

/* rows x cols of C, at most 32 each; what is no whole tile goes through a copy. */
static void sum_square(const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc, bool add, int64_t rows,
                       int64_t cols) {
    const bool second_rows = rows > TILE, second_columns = cols > TILE;
    if (rows % TILE == 0 && cols % TILE == 0) {
        sum_any_tiles(a, b, groups, C, ldc, add, second_rows, second_columns);
        return;
    }
    _Alignas(64) float copy[PANEL * PANEL];
    const vmask low = v_mask(second_columns ? TILE : cols), high = v_mask(second_columns ? cols - TILE : 0);
    if (add) {
        for (int64_t r = 0; r < rows; r++) {
            v_store(copy + r * PANEL, v_load_tail(C + r * ldc, low));
            v_store(copy + r * PANEL + TILE, v_load_tail(C + r * ldc + TILE, high));
        }
        for (int64_t r = rows; r < PANEL; r++)
            memset(copy + r * PANEL, 0, PANEL * sizeof *copy);
    }
    sum_any_tiles(a, b, groups, copy, PANEL, add, second_rows, second_columns);
    for (int64_t r = 0; r < rows; r++) {
        v_store_tail(C + r * ldc, low, v_load(copy + r * PANEL));
        if (second_columns)
            v_store_tail(C + r * ldc + TILE, high, v_load(copy + r * PANEL + TILE));
    }
}

/* A packed block of A by a packed panel of B. Rows of C that are to be added to are asked for one square ahead. */
static void multiply_panel(const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc, bool add, int64_t rows,
                           int64_t cols) {
    for (int64_t i = 0; i < rows; i += PANEL) {
        const int64_t ahead = i + 2 * PANEL < rows ? i + 2 * PANEL : rows;
        for (int64_t r = i + PANEL; r < ahead; r++) {
            __builtin_prefetch(C + r * ldc, 1, 3);
            __builtin_prefetch(C + r * ldc + cols - 1, 1, 3);
        }
        sum_square(a + i / TILE * GROUPS * TILE_PAIRS, b, groups, C + i * ldc, ldc, add,
                   rows - i < PANEL ? rows - i : PANEL, cols);
    }
}

INLINE void multiply(const kind what, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                     int64_t ldb, float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[ROW_TILES * GROUPS * TILE_PAIRS], b[2 * GROUPS * TILE_PAIRS];
    if (M <= 0 || N <= 0 || K <= 0) { /* nothing to compute, or an empty sum */
        for (int64_t i = 0; i < M && !add; i++)
            for (int64_t n = 0; n < N; n++)
                C[i * ldc + n] = 0;
        return;
    }
    TILES_BEGIN();
    for (int64_t i = 0; i < M; i += BLOCK_ROWS) {
        const int64_t rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
        for (int64_t k = 0; k < K; k += DEPTH) {
            const int64_t depth = K - k < DEPTH ? K - k : DEPTH;
            if (what == TN)
                pack_columns_as_rows(rows, depth, A + k * lda + i, lda, a);
            else
                pack_rows(rows, depth, A + i * lda + k, lda, a);
            for (int64_t n = 0; n < N; n += PANEL) {
                const int64_t cols = N - n < PANEL ? N - n : PANEL;
                if (what == NT)
                    pack_transposed(cols, depth, B + n * ldb + k, ldb, n + PANEL < N ? PANEL * ldb : 0, b);
                else
                    pack_columns(cols, depth, B + k * ldb + n, ldb, n + PANEL < N ? PANEL : 0, b);
                multiply_panel(a, b, groups_of(depth), C + i * ldc + n, ldc, add || k > 0, rows, cols);
            }
        }
    }
    TILES_END();
}

void sgm_amx_matmul_nt(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                       float *C, int64_t ldc, bool add) {
    multiply(NT, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_amx_matmul_nn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                       float *C, int64_t ldc, bool add) {
    multiply(NN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_amx_matmul_tn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                       float *C, int64_t ldc, bool add) {
    multiply(TN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

/* Panels outside, blocks of k inside: B is read in order. As much of A as fits is packed at once. */
void sgm_amx_matmul_stored(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                           float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[ROW_TILES * GROUPS * TILE_PAIRS], b[2 * GROUPS * TILE_PAIRS];
    TILES_BEGIN();
    for (int64_t i = 0, rows; i < M; i += rows) {
        rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
        const int64_t tiles = (rows + TILE - 1) / TILE, part = ROW_TILES / tiles * DEPTH; /* k whose A fits */
        for (int64_t first = 0; first < K; first += part) {
            const int64_t last = K - first < part ? K : first + part;
            for (int64_t k = first; k < last; k += DEPTH)
                pack_rows(rows, last - k < DEPTH ? last - k : DEPTH, A + i * lda + k, lda,
                          tile_at(a, (k - first) / DEPTH * tiles, 0));
            for (int64_t n = 0; n < N; n += PANEL) {
                const int64_t cols = N - n < PANEL ? N - n : PANEL;
                for (int64_t k = first; k < last; k += DEPTH) {
                    const int64_t depth = last - k < DEPTH ? last - k : DEPTH;
                    pack_stored(cols, depth, (const uint8_t *)B + (size_t)n * stride + 2 * k, stride, n + 2 * cols <= N,
                                b);
                    multiply_panel(tile_at(a, (k - first) / DEPTH * tiles, 0), b, groups_of(depth), C + i * ldc + n,
                                   ldc, add || k > 0, rows, cols);
                }
            }
        }
    }
    TILES_END();
}
