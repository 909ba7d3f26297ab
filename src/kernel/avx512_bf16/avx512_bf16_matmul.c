// SPDX-License-Identifier: Apache-2.0
/* Matrix products in bf16 by vdpbf16ps, which adds two products to each of 16 sums in f32.
 *
 * Memory holds f32. A block of A and a panel of up to 64 columns of B are rounded to bf16 (nearest even) and packed on the
 * stack as pairs (k, k+1), so that a lane of B's vector is one column's pair and A's pair is broadcast to all lanes. All
 * three products run the same register tile; they differ in how the operands become pairs: what lies in rows of k is
 * converted as it is (A of nt and nn) or transposed 16 x 16 pairs at a time (B of nt), what lies in columns is interleaved
 * from two rows. Blocks over k are even, so that pairs never straddle them; the last pair of an odd K has a zero. So an
 * element of C is one chain over the pairs 0, 1, 2, … from the value in C: its order depends on K alone. The instruction
 * flushes denormals of its operands, sums and results to zero, and infinities and NaN propagate.
 *
 * Packing a panel of B pays when several tiles use it. Few rows are one tile, which uses pairs from the registers in which
 * they are made: interleaving two rows (nn) then hides behind the products, transposing (nt) costs as much as 5 rows. */
#include <assert.h>

#include "kernel/avx512/vec_avx512.h"
#include "kernel/avx512_bf16/bf16_matmul.h"
#include "kernel/avx512_bf16/bf16_pairs.h"

#define VECTORS 4                /* widest tile, in vectors */
#define PANEL (VECTORS * WIDTH)  /* columns of B packed at once */
#define DEPTH 256                /* k per block, a multiple of 32 */
#define PAIRS (DEPTH / 2)        /* pairs of k per block: a panel of B takes 32 KiB */
#define BLOCK_ROWS 256           /* rows of A packed at once: 128 KiB */
#define A_STEP (BLOCK_ROWS + 16) /* pairs between two k of a packed Aᵀ: an odd number of cache lines */
#define A_PAIRS (PAIRS * A_STEP) /* largest packed A */
#define FEW 8                    /* rows of A that use each pair of B at once */
#define FEW_NN 32                /* rows up to which nn packs no panel but makes pairs anew for every FEW rows */
#define FEW_VECTORS 3            /* of sums a row in few_rows_nn: 24 in all */

/* One block: A packed by rows (pair q of row i at i · PAIRS + q) or by columns (at q · A_STEP + i), a panel of B (pair q of
 * column n at q · PANEL + n). */
typedef struct operands {
    const pair *a, *b;
    float *c;
    int64_t ldc, pairs;
    bool add;
} operands;

/* sum + the products of a pair of A and 16 pairs of B. */
INLINE vec dot_pairs(vec sum, pair a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
}

/* One tile. `rows`, `vectors` and `by_rows` are compile-time constants, so the sums live in registers. The mask is that of
 * the last vector; lanes beyond the columns of C hold sums of zeros. */
INLINE void tile(const operands *o, int64_t i, const int rows, const int vectors, const bool by_rows, vmask mask) {
    vec sum[8][VECTORS];
    const int64_t row = by_rows ? PAIRS : 1, step = by_rows ? 1 : A_STEP, ldc = o->ldc;
    const pair *a = o->a + i * row, *b = o->b;
    float *c = o->c + i * ldc;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int v = 0; v < vectors; v++) {
        const float *from = c + r * ldc + v * WIDTH;
        sum[r][v] = !o->add ? v_set(0) : v + 1 == vectors ? v_load_tail(from, mask) : v_load(from);
    }
    for (int64_t q = o->pairs; q > 0; q--) {
        __m512i x[VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            x[v] = _mm512_load_si512((const void *)(b + v * WIDTH));
        UNROLL
        for (int r = 0; r < rows; r++) {
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r][v] = dot_pairs(sum[r][v], a[r * row], x[v]);
        }
        a += step;
        b += PANEL;
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int v = 0; v < vectors; v++) {
        float *to = c + r * ldc + v * WIDTH;
        if (v + 1 == vectors)
            v_store_tail(to, mask, sum[r][v]);
        else
            v_store(to, sum[r][v]);
    }
}

/* All rows of a panel of `vectors` vectors, in tiles of nearly equal height. */
INLINE void panel_of_tiles(const operands *o, int64_t M, const int most, const int vectors, const bool by_rows,
                           vmask mask) {
    for (int64_t i = 0, tiles = (M + most - 1) / most; tiles > 0; tiles--) {
        int rows = (int)((M - i + tiles - 1) / tiles);
        switch (rows) {
#define ROWS(count)                                                                                                    \
    case count:                                                                                                        \
        if (count <= most)                                                                                             \
            tile(o, i, count <= most ? count : 1, vectors, by_rows, mask);                                             \
        break;
            ROWS(1)
            ROWS(2)
            ROWS(3)
            ROWS(4)
            ROWS(5)
            ROWS(6)
            ROWS(7)
            ROWS(8)
#undef ROWS
        default:
            break;
        }
        i += rows;
    }
}

#define PANEL_FUNCTIONS(vectors, most)                                                                                 \
    static __attribute__((noinline)) void rows_##vectors(const operands *o, int64_t M, vmask mask) {                   \
        panel_of_tiles(o, M, most, vectors, true, mask);                                                               \
    }                                                                                                                  \
    static __attribute__((noinline)) void columns_##vectors(const operands *o, int64_t M, vmask mask) {                \
        panel_of_tiles(o, M, most, vectors, false, mask);                                                              \
    }
PANEL_FUNCTIONS(1, ROWS_1)
PANEL_FUNCTIONS(2, ROWS_2)
PANEL_FUNCTIONS(3, ROWS_3)
PANEL_FUNCTIONS(4, ROWS_4)

static void multiply_panel(const operands *o, int64_t M, int64_t width, bool by_rows) {
    static void (*const function[2][VECTORS])(const operands *, int64_t, vmask) = {
        {columns_1, columns_2, columns_3, columns_4}, {rows_1, rows_2, rows_3, rows_4}};
    const int64_t vectors = (width + WIDTH - 1) / WIDTH;
    assert(vectors >= 1 && vectors <= VECTORS);
    function[by_rows][vectors - 1](o, M, v_mask(width - (vectors - 1) * WIDTH));
}

/* Columns of the next panel, so that six vectors become 3 + 3 and not 4 + 2. */
static int64_t panel_width(int64_t N) {
    const int64_t left = (N + WIDTH - 1) / WIDTH;
    const int64_t take = left == 5 || left == 6 || left == 9 ? 3 : left < VECTORS ? left : VECTORS;
    return take * WIDTH < N ? take * WIDTH : N;
}

/* ---- packing ---- */

/* packed (rows, PAIRS) = `depth` elements of each row. */
static void pack_rows(int64_t rows, int64_t depth, const float *from, int64_t ld, pair *packed) {
    for (int64_t r = 0; r < rows; r++, from += ld, packed += PAIRS)
        for (int64_t k = 0; k < depth; k += 2 * WIDTH)
            _mm512_store_si512((void *)(packed + k / 2), row_pairs(from + k, depth - k));
}

/* packed (pairs, stride) = pairs of `count` columns: two rows become one. */
static void pack_columns(int64_t count, int64_t depth, const float *from, int64_t ld, int64_t stride, pair *packed) {
    const int64_t whole = count / WIDTH * WIDTH;
    const vmask tail = v_mask(count - whole);
    int64_t k = 0;
    for (; k + 1 < depth; k += 2, from += 2 * ld, packed += stride) {
        for (int64_t n = 0; n < whole; n += WIDTH)
            _mm512_store_si512((void *)(packed + n), column_pairs(v_load(from + n), v_load(from + ld + n)));
        if (tail)
            _mm512_store_si512((void *)(packed + whole),
                               column_pairs(v_load_tail(from + whole, tail), v_load_tail(from + ld + whole, tail)));
    }
    if (k < depth) { /* odd: the last pair has a zero */
        for (int64_t n = 0; n < whole; n += WIDTH)
            _mm512_store_si512((void *)(packed + n), column_pairs(v_load(from + n), v_set(0)));
        if (tail)
            _mm512_store_si512((void *)(packed + whole), column_pairs(v_load_tail(from + whole, tail), v_set(0)));
    }
}

/* packed (pairs, PANEL) = the transpose of the pairs of `count` rows, rounded up to whole vectors with zeros. Writes whole
 * squares of 16 pairs. */
static void pack_transposed(int64_t count, int64_t depth, const float *from, int64_t ld, pair *packed) {
    for (int64_t n = 0; n < count; n += WIDTH)
        for (int64_t k = 0; k < depth; k += 2 * WIDTH) {
            vec square[WIDTH];
            any_square(count - n, depth - k, from + n * ld + k, ld, square);
            pair *to = packed + k / 2 * PANEL + n;
            UNROLL
            for (int r = 0; r < WIDTH; r++)
                _mm512_store_ps((void *)(to + r * PANEL), square[r]);
        }
}

/* ---- few rows of A: pairs of B are used once, as they are made ---- */

/* One block of nt: a (rows, PAIRS), B (N, depth). */
INLINE void few_rows_nt(const int rows, int64_t N, int64_t depth, const pair *a, const float *B, int64_t ldb, float *C,
                        int64_t ldc, bool add) {
    for (int64_t n = 0; n < N; n += WIDTH) {
        const vmask mask = v_mask(N - n < WIDTH ? N - n : WIDTH);
        vec sum[FEW];
        UNROLL
        for (int i = 0; i < rows; i++)
            sum[i] = add ? v_load_tail(C + i * ldc + n, mask) : v_set(0);
        for (int64_t k = 0; k < depth; k += 2 * WIDTH) {
            vec square[WIDTH];
            const pair *left = a + k / 2;
            if (N - n >= WIDTH && depth - k >= 2 * WIDTH) {
                load_square(true, WIDTH, 2 * WIDTH, B + n * ldb + k, ldb, square);
                UNROLL
                for (int q = 0; q < WIDTH; q++)
                    UNROLL
                for (int i = 0; i < rows; i++)
                    sum[i] = dot_pairs(sum[i], left[i * PAIRS + q], _mm512_castps_si512(square[q]));
            } else {
                _Alignas(64) pair kept[WIDTH][WIDTH];
                load_square(false, N - n, depth - k, B + n * ldb + k, ldb, square);
                UNROLL
                for (int q = 0; q < WIDTH; q++)
                    _mm512_store_ps((void *)kept[q], square[q]);
                for (int q = 0; q < WIDTH && k + 2 * q < depth; q++)
                    UNROLL
                for (int i = 0; i < rows; i++)
                    sum[i] = dot_pairs(sum[i], left[i * PAIRS + q], _mm512_load_si512((const void *)kept[q]));
            }
        }
        UNROLL
        for (int i = 0; i < rows; i++)
            v_store_tail(C + i * ldc + n, mask, sum[i]);
    }
}

/* One block of nn: a (rows, PAIRS), B (depth, N). */
INLINE void few_rows_nn(const int rows, int64_t N, int64_t depth, const pair *a, const float *B, int64_t ldb, float *C,
                        int64_t ldc, bool add) {
    for (int64_t n = 0; n < N; n += FEW_VECTORS * WIDTH) {
        vmask mask[FEW_VECTORS];
        vec sum[FEW][FEW_VECTORS];
        UNROLL
        for (int v = 0; v < FEW_VECTORS; v++) {
            const int64_t left = N - n - v * WIDTH;
            mask[v] = v_mask(left < 0 ? 0 : left < WIDTH ? left : WIDTH);
            UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][v] = add ? v_load_tail(C + i * ldc + n + v * WIDTH, mask[v]) : v_set(0);
        }
        for (int64_t k = 0; k < depth; k += 2) {
            const float *low = B + k * ldb + n, *high = low + ldb;
            const bool two = k + 1 < depth; /* odd: the last pair has a zero */
            __m512i x[FEW_VECTORS];
            UNROLL
            for (int v = 0; v < FEW_VECTORS; v++)
                x[v] = column_pairs(v_load_tail(low + v * WIDTH, mask[v]),
                                    v_load_tail(high + v * WIDTH, two ? mask[v] : v_mask(0)));
            UNROLL
            for (int i = 0; i < rows; i++)
                UNROLL
            for (int v = 0; v < FEW_VECTORS; v++)
                sum[i][v] = dot_pairs(sum[i][v], a[i * PAIRS + k / 2], x[v]);
        }
        UNROLL
        for (int v = 0; v < FEW_VECTORS; v++)
            UNROLL
        for (int i = 0; i < rows; i++)
            v_store_tail(C + i * ldc + n + v * WIDTH, mask[v], sum[i][v]);
    }
}

typedef void few_rows(int64_t N, int64_t depth, const pair *a, const float *B, int64_t ldb, float *C, int64_t ldc,
                      bool add);
#define FEW_FUNCTIONS(rows)                                                                                            \
    static void few_nt_##rows(int64_t N, int64_t depth, const pair *a, const float *B, int64_t ldb, float *C,          \
                              int64_t ldc, bool add) {                                                                 \
        few_rows_nt(rows, N, depth, a, B, ldb, C, ldc, add);                                                           \
    }                                                                                                                  \
    static void few_nn_##rows(int64_t N, int64_t depth, const pair *a, const float *B, int64_t ldb, float *C,          \
                              int64_t ldc, bool add) {                                                                 \
        few_rows_nn(rows, N, depth, a, B, ldb, C, ldc, add);                                                           \
    }
FEW_FUNCTIONS(1)
FEW_FUNCTIONS(2)
FEW_FUNCTIONS(3)
FEW_FUNCTIONS(4)
FEW_FUNCTIONS(5)
FEW_FUNCTIONS(6)
FEW_FUNCTIONS(7)
FEW_FUNCTIONS(8)

/* All rows, in turns of nearly equal height. */
static void multiply_few(bool nt, int64_t M, int64_t N, int64_t depth, const pair *a, const float *B, int64_t ldb,
                         float *C, int64_t ldc, bool add) {
    static few_rows *const function[2][FEW + 1] = {
        {NULL, few_nn_1, few_nn_2, few_nn_3, few_nn_4, few_nn_5, few_nn_6, few_nn_7, few_nn_8},
        {NULL, few_nt_1, few_nt_2, few_nt_3, few_nt_4, few_nt_5, few_nt_6, few_nt_7, few_nt_8}};
    for (int64_t i = 0, turns = (M + FEW - 1) / FEW; turns > 0; turns--) {
        const int64_t rows = (M - i + turns - 1) / turns;
        function[nt][rows](N, depth, a + i * PAIRS, B, ldb, C + i * ldc, ldc, add);
        i += rows;
    }
}

/* ---- the products ---- */

INLINE void multiply(const kind what, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                     int64_t ldb, float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[A_PAIRS], b[PAIRS * PANEL];
    if (M <= 0 || N <= 0 || K <= 0) { /* nothing to compute, or an empty sum */
        for (int64_t i = 0; i < M && !add; i++)
            for (int64_t n = 0; n < N; n++)
                C[i * ldc + n] = 0;
        return;
    }
    for (int64_t i = 0; i < M; i += BLOCK_ROWS) {
        const int64_t rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
        for (int64_t k = 0; k < K; k += DEPTH) {
            const int64_t depth = K - k < DEPTH ? K - k : DEPTH;
            if (what == TN)
                pack_columns(rows, depth, A + k * lda + i, lda, A_STEP, a);
            else
                pack_rows(rows, depth, A + i * lda + k, lda, a);
            const bool more = add || k > 0;
            if ((what == NT && rows <= FEW) || (what == NN && rows <= FEW_NN)) {
                multiply_few(what == NT, rows, N, depth, a, B + (what == NT ? k : k * ldb), ldb, C + i * ldc, ldc,
                             more);
                continue;
            }
            for (int64_t n = 0; n < N;) {
                const int64_t width = panel_width(N - n);
                if (what == NT)
                    pack_transposed(width, depth, B + n * ldb + k, ldb, b);
                else
                    pack_columns(width, depth, B + k * ldb + n, ldb, PANEL, b);
                const operands o = {a, b, C + i * ldc + n, ldc, (depth + 1) / 2, more};
                multiply_panel(&o, rows, width, what != TN);
                n += width;
            }
        }
    }
}

void sgm_avx512_bf16_matmul_nt(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                               int64_t ldb, float *C, int64_t ldc, bool add) {
    multiply(NT, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_avx512_bf16_matmul_nn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                               int64_t ldb, float *C, int64_t ldc, bool add) {
    multiply(NN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

void sgm_avx512_bf16_matmul_tn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                               int64_t ldb, float *C, int64_t ldc, bool add) {
    multiply(TN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

/* ---- B stored as bf16 ---- */

/* As pack_transposed. The same rows' place in the next panel is asked for. */
static void pack_stored(int64_t count, int64_t depth, const uint8_t *from, size_t stride, bool ask, pair *packed) {
    for (int64_t n = 0; n < count; n += WIDTH)
        for (int64_t k = 0; k < depth; k += 2 * WIDTH) {
            vec square[WIDTH];
            stored_square(count - n, depth - k, from + (size_t)n * stride + 2 * k, stride,
                          ask ? (size_t)count * stride : 0, square);
            pair *to = packed + k / 2 * PANEL + n;
            UNROLL
            for (int r = 0; r < WIDTH; r++)
                _mm512_store_ps((void *)(to + r * PANEL), square[r]);
        }
}

/* Panels outside, blocks of k inside: B is read in order. As much of A as fits is packed at once. */
void sgm_avx512_bf16_matmul_stored(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B,
                                   size_t stride, float *C, int64_t ldc, bool add) {
    _Alignas(64) pair a[BLOCK_ROWS * PAIRS], b[PAIRS * PANEL];
    for (int64_t i = 0, rows; i < M; i += rows) {
        rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
        const int64_t part = BLOCK_ROWS / rows * DEPTH; /* k whose A fits */
        for (int64_t first = 0; first < K; first += part) {
            const int64_t last = K - first < part ? K : first + part;
            for (int64_t k = first; k < last; k += DEPTH)
                pack_rows(rows, last - k < DEPTH ? last - k : DEPTH, A + i * lda + k, lda,
                          a + (k - first) / DEPTH * rows * PAIRS);
            for (int64_t n = 0, width; n < N; n += width) {
                width = panel_width(N - n);
                for (int64_t k = first; k < last; k += DEPTH) {
                    const int64_t depth = last - k < DEPTH ? last - k : DEPTH;
                    const uint8_t *from = (const uint8_t *)B + (size_t)n * stride + 2 * k;
                    pack_stored(width, depth, from, stride, n + 2 * width <= N, b);
                    const operands o = {
                        a + (k - first) / DEPTH * rows * PAIRS, b, C + i * ldc + n, ldc, (depth + 1) / 2, add || k > 0};
                    multiply_panel(&o, rows, width, true);
                }
            }
        }
    }
}
