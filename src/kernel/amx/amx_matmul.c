// SPDX-License-Identifier: Apache-2.0
/* Matrix products by AMX tiles: one instruction multiplies 16 rows of A by 16 columns of B over 32 k.
 *
 * Memory holds f32, or B as bf16 (weights in training: half to read, nothing to round). A block of A and a panel of B
 * become bf16 and are packed on the stack, tile by tile as they are loaded (1 KiB each, filled up with zeros): 16 rows of 16
 * pairs of k for A, 16 pairs of 16 columns for B. Four tiles of C are summed at a time, so that each tile of A and of B that
 * is loaded is used twice. An element of C is one chain over groups of 32 k from the value in C (TILE_DOT_BF16 says how a
 * group is summed): its order depends on K alone, and sums that are cut at multiples of 32 continue to the byte.
 *
 * Two precisions, by how many bf16 a float becomes (`parts`, a constant wherever it matters). One: rounded, the products
 * ..._bf16. Three: a float is their sum, exactly (bf16_parts.h), and of the nine products of parts the six are added that a
 * float can tell from nothing: the products ..._bf16x6, as exact as sums in f32.
 *
 * With few rows the products themselves are a small part of the time: then it is rounding and transposing B. */
#include "kernel/amx/amx_matmul.h"

#include <string.h>

#include "kernel/amx/amx_tiles.h"
#include "kernel/amx/bf16_parts.h"

#define ROW_TILES 16 /* of A packed at once: 128 KiB */
#define BLOCK_ROWS (ROW_TILES * TILE)
#define PANEL (4 * TILE) /* columns of B packed at once, 32 KiB: as many use a tile of A when it comes */

/* Groups of k in a block, and k. */
#define GROUPS(parts) ((parts) == 1 ? 8 : 2)
#define DEPTH(parts) (GROUPS(parts) * GROUP)
/* Pairs between a tile of rows (or columns) and the next one. */
#define TILE_STEP(parts) (GROUPS(parts) * (parts)*TILE_PAIRS)
#define MOST_STEP (TILE_STEP(1) > TILE_STEP(PARTS) ? TILE_STEP(1) : TILE_STEP(PARTS))

/* Where the packed tiles, one of each part, of rows (or columns) 16 i … and group g of k begin. */
INLINE pair *tile_at(pair *packed, int64_t i, int64_t g, const int parts) {
    return packed + i * TILE_STEP(parts) + g * parts * TILE_PAIRS;
}

static int64_t groups_of(int64_t depth) {
    return (depth + GROUP - 1) / GROUP;
}

static int64_t squares_of(int64_t rows, int64_t cols) {
    return (rows + SQUARE - 1) / SQUARE * ((cols + SQUARE - 1) / SQUARE);
}

/* ---- packing ---- */

/* A from rows of k. Rows that are not there are zeros. */
INLINE void pack_rows(int64_t rows, int64_t depth, const float *from, int64_t ld, const int parts, pair *packed) {
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t r = 0; r < TILE; r++)
            for (int64_t g = 0; g < groups_of(depth); g++) {
                __m512i part[PARTS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
                if (i + r < rows)
                    row_parts(from + (i + r) * ld + g * GROUP, depth - g * GROUP, parts, part);
                UNROLL
                for (int p = 0; p < parts; p++)
                    _mm512_store_si512((void *)(tile_at(packed, i / TILE, g, parts) + p * TILE_PAIRS + r * TILE),
                                       part[p]);
            }
}

INLINE void store_square(pair *to, const vec square[TILE]) {
    UNROLL
    for (int r = 0; r < TILE; r++)
        _mm512_store_ps((void *)(to + r * TILE), square[r]);
}

/* Pair q of k of 16 columns, `depth` and `cols` of which are left. */
INLINE void column_pair(int64_t cols, int64_t depth, const float *from, int64_t ld, int q, const int parts,
                        __m512i part[PARTS]) {
    const vmask mask = v_mask(cols < TILE ? cols : TILE);
    const float *even = from + 2 * q * ld;
    column_parts(v_load_tail(even, 2 * q < depth ? mask : v_mask(0)),
                 v_load_tail(even + ld, 2 * q + 1 < depth ? mask : v_mask(0)), parts, part);
}

/* B of nn and tn from rows of columns. */
INLINE void pack_columns(int64_t cols, int64_t depth, const float *from, int64_t ld, const int parts, pair *packed) {
    for (int64_t g = 0; g < groups_of(depth); g++)
        for (int64_t n = 0; n < cols; n += TILE) {
            pair *to = tile_at(packed, n / TILE, g, parts);
            UNROLL
            for (int q = 0; q < TILE; q++) {
                __m512i part[PARTS];
                column_pair(cols - n, depth - g * GROUP, from + g * GROUP * ld + n, ld, q, parts, part);
                UNROLL
                for (int p = 0; p < parts; p++)
                    _mm512_store_si512((void *)(to + p * TILE_PAIRS + q * TILE), part[p]);
            }
        }
}

/* A of tn from rows of columns: transposed, so that a row of the tile has one column's pairs. */
INLINE void pack_columns_as_rows(int64_t cols, int64_t depth, const float *from, int64_t ld, const int parts,
                                 pair *packed) {
    pack_columns(cols, depth, from, ld, parts, packed);
    for (int64_t i = 0; i < cols; i += TILE)
        for (int64_t t = 0; t < groups_of(depth) * parts; t++) {
            pair *at = tile_at(packed, i / TILE, 0, parts) + t * TILE_PAIRS;
            vec square[TILE];
            UNROLL
            for (int r = 0; r < TILE; r++)
                square[r] = v_load((const void *)(at + r * TILE));
            v_transpose(square);
            store_square(at, square);
        }
}

/* B of nt from rows of k. */
INLINE void pack_transposed(int64_t cols, int64_t depth, const float *from, int64_t ld, const int parts, pair *packed) {
    for (int64_t n = 0; n < cols; n += TILE)
        for (int64_t g = 0; g < groups_of(depth); g++) {
            const float *corner = from + n * ld + g * GROUP;
            const int64_t rows = cols - n, count = depth - g * GROUP;
            pair *to = tile_at(packed, n / TILE, g, parts);
            vec square[TILE];
            if (parts == 1) {
                any_square(rows, count, corner, ld, square);
                store_square(to, square);
            } else if (rows >= TILE && count >= GROUP) {
                store_square_parts(true, TILE, GROUP, corner, ld, TILE_PAIRS, to);
            } else {
                store_square_parts(false, rows, count, corner, ld, TILE_PAIRS, to);
            }
        }
}

/* The same from rows stored as bf16. */
static void pack_stored(int64_t cols, int64_t depth, const uint8_t *from, size_t stride, pair *packed) {
    for (int64_t n = 0; n < cols; n += TILE)
        for (int64_t g = 0; g < groups_of(depth); g++) {
            vec square[TILE];
            stored_square(cols - n, depth - g * GROUP, from + (size_t)n * stride + 2 * g * GROUP, stride, 0, square);
            store_square(tile_at(packed, n / TILE, g, 1), square);
        }
}

/* B of nn from rows of columns stored as bf16: 32 columns at a time. */
static void pack_columns_stored(int64_t cols, int64_t depth, const uint16_t *from, int64_t ld, pair *packed) {
    static const _Alignas(64)
        uint16_t order[2][32] = {{0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                  8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
                                 {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                  24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
    const __m512i first = _mm512_load_si512((const void *)order[0]), second = _mm512_load_si512((const void *)order[1]);
    for (int64_t g = 0; g < groups_of(depth); g++)
        for (int64_t n = 0; n < cols; n += SQUARE) {
            const int64_t left = cols - n;
            const __mmask32 mask = left >= SQUARE ? 0xFFFFFFFFu : (1u << left) - 1u;
            pair *to = tile_at(packed, n / TILE, g, 1);
            UNROLL
            for (int q = 0; q < TILE; q++) {
                const int64_t k = g * GROUP + 2 * q;
                const uint16_t *even = from + k * ld + n;
                const __m512i low = _mm512_maskz_loadu_epi16(k < depth ? mask : 0, even);
                const __m512i high = _mm512_maskz_loadu_epi16(k + 1 < depth ? mask : 0, even + ld);
                _mm512_store_si512((void *)(to + q * TILE), _mm512_permutex2var_epi16(low, first, high));
                _mm512_store_si512((void *)(to + TILE_STEP(1) + q * TILE),
                                   _mm512_permutex2var_epi16(low, second, high));
            }
        }
}

/* ---- what comes next ---- */

/* Weights come from memory, and while tiles are multiplied a processor has little else to do: then what will be packed next is
 * asked for, line by line at an even pace (all at once it would have to wait for the lines that it may ask for at a time). */
typedef struct ahead {
    const char *row;
    int64_t stride, bytes; /* of a row, in bytes; of which so many are wanted */
    int64_t rows;          /* left, this one included */
    int64_t at;            /* in this row */
    int64_t pace;          /* lines at a time */
} ahead;

#define LINE_BYTES 64

static ahead ask_for(const void *from, int64_t stride, int64_t rows, int64_t bytes, int64_t times) {
    const int64_t lines = rows * ((bytes + LINE_BYTES - 1) / LINE_BYTES);
    return (ahead){from, stride, bytes, rows, 0, (lines + times - 1) / times};
}

INLINE void ask_some(ahead *next) {
    for (int64_t i = next->pace; i > 0 && next->rows > 0; i--) {
        __builtin_prefetch(next->row + next->at, 0, 2);
        next->at += LINE_BYTES;
        if (next->at >= next->bytes) {
            next->at = 0;
            next->row += next->stride;
            next->rows--;
        }
    }
}

/* ---- tiles ---- */

/* Two tiles of rows by two of columns of C, or one where `second_…` is false, of which `parts` are multiplied (all three are
 * compile-time constants). */
typedef struct square {
    const bool second_rows, second_columns;
    const int parts;
} square;

/* Part p of A into tiles 4 and 5, of B into 6 and 7. */
INLINE void load_rows(const square s, const pair *a, int p) {
    TILE_LOAD(4, a + p * TILE_PAIRS, TILE_ROW_BYTES);
    if (s.second_rows)
        TILE_LOAD(5, a + TILE_STEP(s.parts) + p * TILE_PAIRS, TILE_ROW_BYTES);
}
INLINE void load_columns(const square s, const pair *b, int p) {
    TILE_LOAD(6, b + p * TILE_PAIRS, TILE_ROW_BYTES);
    if (s.second_columns)
        TILE_LOAD(7, b + TILE_STEP(s.parts) + p * TILE_PAIRS, TILE_ROW_BYTES);
}
INLINE void multiply_loaded(const square s) {
    TILE_DOT_BF16(0, 4, 6);
    if (s.second_columns)
        TILE_DOT_BF16(1, 4, 7);
    if (s.second_rows)
        TILE_DOT_BF16(2, 5, 6);
    if (s.second_rows && s.second_columns)
        TILE_DOT_BF16(3, 5, 7);
}

INLINE void sum_tiles(const square s, const pair *a, const pair *b, int64_t groups, float *c, int64_t ldc, bool add,
                      ahead *next) {
    const int64_t c_bytes = ldc * (int64_t)sizeof(float);
    float *below = c + TILE * ldc;
    if (add) {
        TILE_LOAD(0, c, c_bytes);
        if (s.second_columns)
            TILE_LOAD(1, c + TILE, c_bytes);
        if (s.second_rows)
            TILE_LOAD(2, below, c_bytes);
        if (s.second_rows && s.second_columns)
            TILE_LOAD(3, below + TILE, c_bytes);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    for (; groups > 0; groups--, a += s.parts * TILE_PAIRS, b += s.parts * TILE_PAIRS) {
        load_rows(s, a, 0);
        load_columns(s, b, 0);
        multiply_loaded(s);
        ask_some(next);
        if (s.parts == 1)
            continue;
        load_columns(s, b, 2); /* parts (A, B): 0 2, 0 1, 1 1, 1 0, 2 0; each tile that stays is used again */
        multiply_loaded(s);
        load_columns(s, b, 1);
        multiply_loaded(s);
        load_rows(s, a, 1);
        multiply_loaded(s);
        load_columns(s, b, 0);
        multiply_loaded(s);
        load_rows(s, a, 2);
        multiply_loaded(s);
    }
    TILE_STORE(0, c, c_bytes);
    if (s.second_columns)
        TILE_STORE(1, c + TILE, c_bytes);
    if (s.second_rows)
        TILE_STORE(2, below, c_bytes);
    if (s.second_rows && s.second_columns)
        TILE_STORE(3, below + TILE, c_bytes);
}

INLINE void sum_any_tiles(const int parts, bool second_rows, bool second_columns, const pair *a, const pair *b,
                          int64_t groups, float *c, int64_t ldc, bool add, ahead *next) {
    if (second_rows && second_columns)
        sum_tiles((square){true, true, parts}, a, b, groups, c, ldc, add, next);
    else if (second_rows)
        sum_tiles((square){true, false, parts}, a, b, groups, c, ldc, add, next);
    else if (second_columns)
        sum_tiles((square){false, true, parts}, a, b, groups, c, ldc, add, next);
    else
        sum_tiles((square){false, false, parts}, a, b, groups, c, ldc, add, next);
}

/* The same of whole squares, written past the caches: C is not read for it, as a store would. */
INLINE void stream_square(const int parts, const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc,
                          ahead *next) {
    _Alignas(64) float copy[SQUARE * SQUARE];
    sum_tiles((square){true, true, parts}, a, b, groups, copy, SQUARE, false, next);
    for (int64_t r = 0; r < SQUARE; r++) {
        _mm512_stream_ps(C + r * ldc, v_load(copy + r * SQUARE));
        _mm512_stream_ps(C + r * ldc + TILE, v_load(copy + r * SQUARE + TILE));
    }
}

/* rows x cols of C, at most 32 each; what is no whole tile goes through a copy. */
INLINE void sum_square(const int parts, const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc, bool add,
                       int64_t rows, int64_t cols, ahead *next) {
    const bool second_rows = rows > TILE, second_columns = cols > TILE;
    if (rows % TILE == 0 && cols % TILE == 0) {
        sum_any_tiles(parts, second_rows, second_columns, a, b, groups, C, ldc, add, next);
        return;
    }
    _Alignas(64) float copy[SQUARE * SQUARE];
    const vmask low = v_mask(second_columns ? TILE : cols), high = v_mask(second_columns ? cols - TILE : 0);
    if (add) {
        for (int64_t r = 0; r < rows; r++) {
            v_store(copy + r * SQUARE, v_load_tail(C + r * ldc, low));
            v_store(copy + r * SQUARE + TILE, v_load_tail(C + r * ldc + TILE, high));
        }
        for (int64_t r = rows; r < SQUARE; r++)
            memset(copy + r * SQUARE, 0, SQUARE * sizeof *copy);
    }
    sum_any_tiles(parts, second_rows, second_columns, a, b, groups, copy, SQUARE, add, next);
    for (int64_t r = 0; r < rows; r++) {
        v_store_tail(C + r * ldc, low, v_load(copy + r * SQUARE));
        if (second_columns)
            v_store_tail(C + r * ldc + TILE, high, v_load(copy + r * SQUARE + TILE));
    }
}

/* A packed block of A by a packed panel of B. */
INLINE void multiply_panel(const int parts, const pair *a, const pair *b, int64_t groups, float *C, int64_t ldc,
                           bool add, int64_t rows, int64_t cols, bool stream, ahead *next) {
    for (int64_t i = 0; i < rows; i += SQUARE)
        for (int64_t n = 0; n < cols; n += SQUARE) {
            const pair *left = a + i / TILE * TILE_STEP(parts), *right = b + n / TILE * TILE_STEP(parts);
            const int64_t height = rows - i < SQUARE ? rows - i : SQUARE, width = cols - n < SQUARE ? cols - n : SQUARE;
            float *c = C + i * ldc + n;
            if (stream && height == SQUARE && width == SQUARE)
                stream_square(parts, left, right, groups, c, ldc, next);
            else
                sum_square(parts, left, right, groups, c, ldc, add, height, width, next);
        }
}

/* The panel of B behind (n, k): the next columns, or the first ones of the next block of k. */
INLINE ahead panel_after(const kind what, const int parts, const int64_t size, int64_t N, int64_t K, const char *B,
                         int64_t ldb, int64_t n, int64_t k, int64_t times) {
    n += PANEL;
    if (n >= N) {
        n = 0;
        k += DEPTH(parts);
    }
    if (k >= K)
        return (ahead){0};
    const int64_t cols = N - n < PANEL ? N - n : PANEL, depth = K - k < DEPTH(parts) ? K - k : DEPTH(parts);
    return what == NT ? ask_for(B + (n * ldb + k) * size, ldb * size, cols, depth * size, times)
                      : ask_for(B + (k * ldb + n) * size, ldb * size, depth, cols * size, times);
}

/* Gradients that are set from few rows and are large: nobody reads them before they have left the caches. */
#define STREAMED (16 * 1024)
INLINE bool lines(const float *C, int64_t ldc) {
    return ((uintptr_t)C | (uintptr_t)ldc * sizeof *C) % LINE_BYTES == 0;
}

/* `rounded`: B (of nt or nn) is bf16, otherwise f32. */
INLINE void multiply(const kind what, const int parts, const bool rounded, int64_t M, int64_t N, int64_t K,
                     const float *A, int64_t lda, const void *from, int64_t ldb, float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[ROW_TILES * MOST_STEP], b[PANEL / TILE * MOST_STEP]; /* as much as in one part, the most */
    const float *B = from;
    const uint16_t *half = from;
    if (M <= 0 || N <= 0 || K <= 0) { /* nothing to compute, or an empty sum */
        const bool past = what == TN && N % TILE == 0 && M * N >= STREAMED && lines(C, ldc);
        for (int64_t i = 0; i < M && !add; i++)
            for (int64_t n = 0; n < N; n += past ? TILE : 1)
                if (past)
                    _mm512_stream_ps(C + i * ldc + n, v_set(0));
                else
                    C[i * ldc + n] = 0;
        _mm_sfence();
        return;
    }
    const bool stream = what == TN && !add && K <= DEPTH(parts) && M * N >= STREAMED && lines(C, ldc);
    TILES_BEGIN();
    for (int64_t i = 0; i < M; i += BLOCK_ROWS) {
        const int64_t rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
        for (int64_t k = 0; k < K; k += DEPTH(parts)) {
            const int64_t depth = K - k < DEPTH(parts) ? K - k : DEPTH(parts), groups = groups_of(depth);
            if (what == TN)
                pack_columns_as_rows(rows, depth, A + k * lda + i, lda, parts, a);
            else
                pack_rows(rows, depth, A + i * lda + k, lda, parts, a);
            for (int64_t n = 0; n < N; n += PANEL) {
                const int64_t cols = N - n < PANEL ? N - n : PANEL;
                if (rounded && what == NT)
                    pack_stored(cols, depth, (const uint8_t *)(half + n * ldb + k), (size_t)ldb * 2, b);
                else if (rounded)
                    pack_columns_stored(cols, depth, half + k * ldb + n, ldb, b);
                else if (what == NT)
                    pack_transposed(cols, depth, B + n * ldb + k, ldb, parts, b);
                else
                    pack_columns(cols, depth, B + k * ldb + n, ldb, parts, b);
                ahead next = panel_after(what, parts, rounded ? sizeof *half : sizeof *B, N, K, from, ldb, n, k,
                                         squares_of(rows, cols) * groups);
                multiply_panel(parts, a, b, groups, C + i * ldc + n, ldc, add || k > 0, rows, cols, stream, &next);
            }
        }
    }
    if (stream)
        _mm_sfence(); /* such stores are not in order with others: the barrier behind must not come first */
    TILES_END();
}

#define PRODUCT(name, what, parts)                                                                                     \
    void name(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C,     \
              int64_t ldc, bool add) {                                                                                 \
        multiply(what, parts, false, M, N, K, A, lda, B, ldb, C, ldc, add);                                            \
    }
PRODUCT(sgm_amx_matmul_nt, NT, 1)
PRODUCT(sgm_amx_matmul_nn, NN, 1)
PRODUCT(sgm_amx_matmul_tn, TN, 1)
PRODUCT(sgm_amx_matmul_nt_x6, NT, PARTS)
PRODUCT(sgm_amx_matmul_nn_x6, NN, PARTS)
PRODUCT(sgm_amx_matmul_tn_x6, TN, PARTS)
#undef PRODUCT

void sgm_amx_matmul_nt_rounded(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const uint16_t *B,
                               int64_t ldb, float *C, int64_t ldc, bool add) {
    multiply(NT, 1, true, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_amx_matmul_nn_rounded(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const uint16_t *B,
                               int64_t ldb, float *C, int64_t ldc, bool add) {
    multiply(NN, 1, true, M, N, K, A, lda, B, ldb, C, ldc, add);
}

/* Fewer than 32. */
static void round_part(int64_t n, const float *x, uint16_t *y) {
    _mm512_mask_storeu_epi16(y, (1u << n) - 1u, row_pairs(x, n));
}

/* Nobody reads the copy before it has left the caches: weights are many. */
void sgm_amx_bf16_round(int64_t n, const float *x, uint16_t *y) {
    int64_t i = (int64_t)(-(uintptr_t)y % LINE_BYTES / sizeof *y); /* up to the first whole line */
    i = i < n ? i : n;
    round_part(i, x, y);
    for (; i + GROUP <= n; i += GROUP)
        _mm512_stream_si512((void *)(y + i), row_pairs(x + i, GROUP));
    round_part(n - i, x + i, y + i);
    _mm_sfence(); /* such stores are not in order with others: the barrier behind must not come first */
}
