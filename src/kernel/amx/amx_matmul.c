// SPDX-License-Identifier: Apache-2.0
/* Matrix products in bf16 by AMX tiles: one instruction multiplies 16 rows of A by 16 columns of B over 32 k.
 *
 * Memory holds f32. A block of A is rounded to bf16 and packed by rows, a panel of B in pairs of k, both on the stack and
 * filled up with zeros to whole tiles. Four tiles of C are summed at a time, so that each tile of A and of B that is loaded is
 * used twice. An element of C is one chain over groups of 32 k from the value in C (TILE_DOT_BF16 says how a group is
 * summed): its order depends on K alone, and sums that are cut at multiples of 32 continue to the byte.
 *
 * The products themselves are a small part of the time with few rows: then it is rounding and transposing B. */
#include "kernel/amx/amx_matmul.h"

#include <string.h>

#include "kernel/amx/amx_tiles.h"
#include "kernel/avx512_bf16/bf16_pack.h"

#define GROUP 16 /* pairs of k in a tile */

/* Two tiles of rows by two of columns of C, or one where `second_…` is false (compile-time constants). a: by rows, b: in a
 * panel (bf16_pack.h). */
INLINE void sum_tiles(const pair *a, const pair *b, int64_t groups, float *c, int64_t ldc, bool add,
                      const bool second_rows, const bool second_columns) {
    const int64_t a_stride = PAIRS * (int64_t)sizeof(pair), b_stride = PANEL * (int64_t)sizeof(pair);
    const int64_t c_stride = ldc * (int64_t)sizeof(float);
    float *below = c + TILE * ldc;
    if (add) {
        TILE_LOAD(0, c, c_stride);
        if (second_columns)
            TILE_LOAD(1, c + TILE, c_stride);
        if (second_rows)
            TILE_LOAD(2, below, c_stride);
        if (second_rows && second_columns)
            TILE_LOAD(3, below + TILE, c_stride);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    for (; groups > 0; groups--, a += GROUP, b += GROUP * PANEL) {
        TILE_LOAD(4, a, a_stride);
        TILE_LOAD(6, b, b_stride);
        TILE_DOT_BF16(0, 4, 6);
        if (second_columns) {
            TILE_LOAD(7, b + TILE, b_stride);
            TILE_DOT_BF16(1, 4, 7);
        }
        if (second_rows) {
            TILE_LOAD(5, a + TILE * PAIRS, a_stride);
            TILE_DOT_BF16(2, 5, 6);
        }
        if (second_rows && second_columns)
            TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, c, c_stride);
    if (second_columns)
        TILE_STORE(1, c + TILE, c_stride);
    if (second_rows)
        TILE_STORE(2, below, c_stride);
    if (second_rows && second_columns)
        TILE_STORE(3, below + TILE, c_stride);
}

static void sum_any_tiles(const pair *a, const pair *b, int64_t groups, float *c, int64_t ldc, bool add, bool second_rows,
                          bool second_columns) {
    if (second_rows && second_columns)
        sum_tiles(a, b, groups, c, ldc, add, true, true);
    else if (second_rows)
        sum_tiles(a, b, groups, c, ldc, add, true, false);
    else if (second_columns)
        sum_tiles(a, b, groups, c, ldc, add, false, true);
    else
        sum_tiles(a, b, groups, c, ldc, add, false, false);
}

/* rows x cols of C; what is no whole tile goes through a copy. */
static void sum_square(const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc, bool add, int64_t rows,
                       int64_t cols) {
    const bool second_rows = rows > TILE, second_columns = cols > TILE;
    if (rows % TILE == 0 && cols % TILE == 0) {
        sum_any_tiles(a, b, groups, C, ldc, add, second_rows, second_columns);
        return;
    }
    _Alignas(64) float copy[2 * TILE * 2 * TILE];
    const vmask low = v_mask(second_columns ? TILE : cols), high = v_mask(second_columns ? cols - TILE : 0);
    if (add) {
        for (int64_t r = 0; r < rows; r++) {
            v_store(copy + r * 2 * TILE, v_load_tail(C + r * ldc, low));
            v_store(copy + r * 2 * TILE + TILE, v_load_tail(C + r * ldc + TILE, high));
        }
        for (int64_t r = rows; r < 2 * TILE; r++)
            memset(copy + r * 2 * TILE, 0, 2 * TILE * sizeof *copy);
    }
    sum_any_tiles(a, b, groups, copy, 2 * TILE, add, second_rows, second_columns);
    for (int64_t r = 0; r < rows; r++) {
        v_store_tail(C + r * ldc, low, v_load(copy + r * 2 * TILE));
        if (second_columns)
            v_store_tail(C + r * ldc + TILE, high, v_load(copy + r * 2 * TILE + TILE));
    }
}

/* A packed block of A by a packed panel of B. Two columns of tiles stay in the nearest cache while the rows pass. */
static void multiply_panel(const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc, bool add, int64_t rows,
                           int64_t width) {
    for (int64_t n = 0; n < width; n += 2 * TILE)
        for (int64_t i = 0; i < rows; i += 2 * TILE)
            sum_square(a + i * PAIRS, b + n, groups, C + i * ldc + n, ldc, add, rows - i < 2 * TILE ? rows - i : 2 * TILE,
                       width - n < 2 * TILE ? width - n : 2 * TILE);
}

/* Rows of zeros up to a whole tile. */
static void fill_rows(int64_t rows, pair *packed) {
    for (; rows % TILE != 0; rows++)
        memset(packed + rows * PAIRS, 0, PAIRS * sizeof *packed);
}

/* Pairs of zeros up to a whole tile, in a panel whose columns fill whole vectors. */
static void fill_pairs(int64_t depth, pair *panel) {
    for (int64_t q = (depth + 1) / 2; q % GROUP != 0; q++)
        memset(panel + q * PANEL, 0, PANEL * sizeof *panel);
}

static int64_t groups_of(int64_t depth) {
    return (depth + 2 * GROUP - 1) / (2 * GROUP);
}

/* packed by rows = the transpose of `depth` rows of `count` columns. */
static void pack_columns_by_rows(int64_t count, int64_t depth, const float *from, int64_t ld, pair *packed) {
    for (int64_t n = 0; n < count; n += WIDTH) {
        const vmask mask = v_mask(count - n < WIDTH ? count - n : WIDTH);
        for (int64_t k = 0; k < depth; k += 2 * WIDTH) {
            vec square[WIDTH];
            UNROLL
            for (int q = 0; q < WIDTH; q++) {
                const int64_t even = k + 2 * q;
                const float *row = from + even * ld + n;
                square[q] = _mm512_castsi512_ps(column_pairs(v_load_tail(row, even < depth ? mask : v_mask(0)),
                                                             v_load_tail(row + ld, even + 1 < depth ? mask : v_mask(0))));
            }
            v_transpose(square);
            UNROLL
            for (int r = 0; r < WIDTH; r++)
                v_store((void *)(packed + (n + r) * PAIRS + k / 2), square[r]);
        }
    }
}

INLINE void multiply(const kind what, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                     int64_t ldb, float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[BLOCK_ROWS * PAIRS], b[PAIRS * PANEL];
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
            if (what == TN) {
                pack_columns_by_rows(rows, depth, A + k * lda + i, lda, a);
            } else {
                pack_rows(rows, depth, A + i * lda + k, lda, a);
                fill_rows(rows, a);
            }
            for (int64_t n = 0; n < N; n += PANEL) {
                const int64_t width = N - n < PANEL ? N - n : PANEL;
                if (what == NT) {
                    pack_transposed(width, depth, B + n * ldb + k, ldb, b);
                } else {
                    pack_columns(width, depth, B + k * ldb + n, ldb, PANEL, b);
                    fill_pairs(depth, b);
                }
                multiply_panel(a, b, groups_of(depth), C + i * ldc + n, ldc, add || k > 0, rows, width);
            }
        }
    }
    TILES_END();
}

void sgm_amx_matmul_nt(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C,
                       int64_t ldc, bool add) {
    multiply(NT, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_amx_matmul_nn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C,
                       int64_t ldc, bool add) {
    multiply(NN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_amx_matmul_tn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C,
                       int64_t ldc, bool add) {
    multiply(TN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

/* Panels outside, blocks of k inside: B is read in order. As much of A as fits is packed at once. */
void sgm_amx_matmul_stored(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                           float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[BLOCK_ROWS * PAIRS], b[PAIRS * PANEL];
    TILES_BEGIN();
    for (int64_t i = 0, rows; i < M; i += rows) {
        rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
        const int64_t filled = (rows + TILE - 1) / TILE * TILE;
        const int64_t part = BLOCK_ROWS / filled * DEPTH; /* k whose A fits */
        for (int64_t first = 0; first < K; first += part) {
            const int64_t last = K - first < part ? K : first + part;
            for (int64_t k = first; k < last; k += DEPTH) {
                pair *block = a + (k - first) / DEPTH * filled * PAIRS;
                pack_rows(rows, last - k < DEPTH ? last - k : DEPTH, A + i * lda + k, lda, block);
                fill_rows(rows, block);
            }
            for (int64_t n = 0; n < N; n += PANEL) {
                const int64_t width = N - n < PANEL ? N - n : PANEL;
                for (int64_t k = first; k < last; k += DEPTH) {
                    const int64_t depth = last - k < DEPTH ? last - k : DEPTH;
                    pack_stored(width, depth, (const uint8_t *)B + (size_t)n * stride + 2 * k, stride,
                                n + 2 * width <= N, b);
                    multiply_panel(a + (k - first) / DEPTH * filled * PAIRS, b, groups_of(depth), C + i * ldc + n, ldc,
                                   add || k > 0, rows, width);
                }
            }
        }
    }
    TILES_END();
}
