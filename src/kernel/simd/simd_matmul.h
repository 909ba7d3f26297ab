// SPDX-License-Identifier: Apache-2.0
/* Matrix products for any vector width: included by one .c file of each table after its vec_<table>.h.
 *
 * All three products run one register tile: `rows` x `vectors` sums, lanes along the columns of C, elements of A
 * broadcast. So each element of C is c = fma(a_k, b_k, c), k = 0, 1, 2, … from the value in C (from 0 without `add`):
 * one order, whatever the tile, for every table. matmul_nt turns panels of B into rows first (a 16 x 16 transpose in
 * registers), which costs about 1/M of the product and keeps that order even for a single row. Blocks over K store and
 * reload C, which changes nothing. */
#include <stdbool.h>
#include <stdint.h>

#define VECTORS 4               /* widest tile, in vectors */
#define PANEL (VECTORS * WIDTH) /* columns of B packed at once */
#define DEPTH 256               /* k per block: PANEL x DEPTH floats are 64 KiB at most */
#define NT_DEPTH 128            /* k per block of matmul_nt: a panel as it is transposed stays in the nearest cache */
#define BLOCK_ROWS 48           /* rows of Aᵀ packed at once by matmul_tn */
#define LINE 16                 /* floats in a cache line */
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Weights, and gradients that are added to, come from memory; what is wanted soon is asked for while there is something to
 * compute. `from` may lie beyond the matrix: nothing is read. */
INLINE void ask_for(const float *from, int64_t offset) {
    __builtin_prefetch((const void *)((uintptr_t)from + (uintptr_t)offset * sizeof(float)), 0, 2);
}

/* A and B of one product; element (i, k) of A is a[i · row + k · step]. */
typedef struct operands {
    const float *a;
    int64_t row, step;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    int64_t depth;
    bool add;
    bool ahead; /* ask for the columns of B behind these: they are the next ones, and not packed */
} operands;

/* One tile. `rows`, `vectors` and `masked` are compile-time constants, so the sums live in registers. */
INLINE void tile(const operands *o, int64_t i, int64_t n, const int rows, const int vectors, const bool masked,
                 vmask mask) {
    vec sum[8][VECTORS];
    const float *a = o->a + i * o->row, *b = o->b + n;
    float *c = o->c + i * o->ldc + n;
    const int64_t row = o->row, step = o->step, ldb = o->ldb, ldc = o->ldc;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int v = 0; v < vectors; v++)
        sum[r][v] = !o->add ? v_set(0) : masked ? v_load_tail(c + r * ldc, mask) : v_load(c + r * ldc + v * WIDTH);
    if (o->add) /* the next tile's place */
        for (int r = rows; r < 2 * rows; r++)
            UNROLL
    for (int v = 0; v < vectors; v++)
        ask_for(c, r * ldc + v * WIDTH);
    /* Each tile of a column asks for one of the next columns' vectors. */
    const int64_t ahead = o->ahead ? (vectors + i / rows % vectors) * WIDTH : 0;
    for (int64_t k = o->depth; k > 0; k--) {
        if (ahead)
            ask_for(b, ahead);
        vec x[VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            x[v] = masked ? v_load_tail(b, mask) : v_load(b + v * WIDTH);
        UNROLL
        for (int r = 0; r < rows; r++) {
            vec y = v_set(a[r * row]);
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r][v] = v_fma(y, x[v], sum[r][v]);
        }
        a += step;
        b += ldb;
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int v = 0; v < vectors; v++) {
        if (masked)
            v_store_tail(c + r * ldc, mask, sum[r][v]);
        else
            v_store(c + r * ldc + v * WIDTH, sum[r][v]);
    }
}

/* All rows of `vectors` vectors of columns, in tiles of nearly equal height. */
INLINE void column_of_tiles(const operands *o, int64_t M, int64_t n, const int most, const int vectors,
                            const bool masked, vmask mask) {
    for (int64_t i = 0, tiles = (M + most - 1) / most; tiles > 0; tiles--) {
        int rows = (int)((M - i + tiles - 1) / tiles);
        switch (rows) {
#define ROWS(count)                                                                                                    \
    case count:                                                                                                        \
        if (count <= most)                                                                                             \
            tile(o, i, n, count <= most ? count : 1, vectors, masked, mask);                                           \
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

static __attribute__((noinline)) void columns_1(const operands *o, int64_t M, int64_t n) {
    column_of_tiles(o, M, n, ROWS_1, 1, false, v_mask(0));
}
static __attribute__((noinline)) void columns_2(const operands *o, int64_t M, int64_t n) {
    column_of_tiles(o, M, n, ROWS_2, 2, false, v_mask(0));
}
static __attribute__((noinline)) void columns_3(const operands *o, int64_t M, int64_t n) {
    column_of_tiles(o, M, n, ROWS_3, 3, false, v_mask(0));
}
static __attribute__((noinline)) void columns_4(const operands *o, int64_t M, int64_t n) {
    column_of_tiles(o, M, n, ROWS_4, 4, false, v_mask(0));
}
static __attribute__((noinline)) void columns_tail(const operands *o, int64_t M, int64_t n, int64_t count) {
    column_of_tiles(o, M, n, ROWS_1, 1, true, v_mask(count));
}

/* How many vectors the next tile takes of `left`. */
static int64_t next_vectors(int64_t left) {
    if (WIDTH == 8) /* 16 registers: 6 x 2 is the best tile */
        return left == 1 || left == 3 ? left : 2;
    return left == 5 || left == 6 || left == 9 ? 3 : left < 4 ? left : 4;
}

static void columns(const operands *o, int64_t M, int64_t N) {
    int64_t n = 0;
    for (int64_t left = N / WIDTH; left > 0;) {
        int64_t take = next_vectors(left);
        switch (take) {
        case 1:
            columns_1(o, M, n);
            break;
        case 2:
            columns_2(o, M, n);
            break;
        case 3:
            columns_3(o, M, n);
            break;
        default:
            columns_4(o, M, n);
            break;
        }
        left -= take;
        n += take * WIDTH;
    }
    if (n < N)
        columns_tail(o, M, n, N - n);
}

/* Nothing to compute, or K = 0: an empty sum. */
static bool nothing_to_sum(int64_t M, int64_t N, int64_t K, float *C, int64_t ldc, bool add) {
    if (M > 0 && N > 0 && K > 0)
        return false;
    for (int64_t i = 0; i < M && !add; i++)
        for (int64_t n = 0; n < N; n++)
            C[i * ldc + n] = 0;
    return true;
}

/* packed (rows, stride) = `count` elements of each row, rounded up to whole vectors with zeros. */
static void pack_rows(int64_t count, int64_t rows, const float *from, int64_t ld, int64_t stride, float *packed) {
    for (int64_t r = 0; r < rows; r++, from += ld, packed += stride) {
        int64_t n = 0;
        for (; n + WIDTH <= count; n += WIDTH)
            v_store(packed + n, v_load(from + n));
        if (n < count)
            v_store(packed + n, v_load_tail(from + n, v_mask(count - n)));
    }
}

/* packed (depth, PANEL) = `count` columns of B. */
static void pack_straight(int64_t count, int64_t depth, const float *B, int64_t ldb, float *packed) {
    pack_rows(count, depth, B, ldb, PANEL, packed);
}

/* Columns of the next panel: panels follow the tiles, so that six vectors become 3 + 3 and not 4 + 2. */
static int64_t panel_width(int64_t N) {
    int64_t left = N / WIDTH;
    if (left == 0)
        return N;
    if (WIDTH == 16)
        return next_vectors(left) * WIDTH;
    return (left < VECTORS ? left : VECTORS) * WIDTH;
}

/* B with rows far apart (a large, round ldb) falls on few cache sets and many pages: it is copied panel by panel where
 * enough rows of A share the copy. */
static void matmul_nn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                      float *C, int64_t ldc, bool add) {
    _Alignas(64) float packed[DEPTH * PANEL];
    if (nothing_to_sum(M, N, K, C, ldc, add))
        return;
    const bool pack = M >= 24 && ldb >= 1024;
    for (int64_t k = 0; k < K; k += DEPTH) {
        int64_t depth = K - k < DEPTH ? K - k : DEPTH;
        if (!pack) {
            operands o = {A + k, lda, 1, B + k * ldb, ldb, C, ldc, depth, add || k > 0, true};
            columns(&o, M, N);
            continue;
        }
        for (int64_t n = 0; n < N;) {
            int64_t width = panel_width(N - n);
            pack_straight(width, depth, B + k * ldb + n, ldb, packed);
            operands o = {A + k, lda, 1, packed, PANEL, C + n, ldc, depth, add || k > 0, false};
            columns(&o, M, width);
            n += width;
        }
    }
}

/* Aᵀ is copied in blocks of BLOCK_ROWS columns of A: rows of A far apart (a large, round lda) would otherwise fall on
 * the same few cache sets and pages. */
static void matmul_tn(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                      float *C, int64_t ldc, bool add) {
    _Alignas(64) float packed[DEPTH * BLOCK_ROWS];
    if (nothing_to_sum(M, N, K, C, ldc, add))
        return;
    for (int64_t k = 0; k < K; k += DEPTH) {
        int64_t depth = K - k < DEPTH ? K - k : DEPTH;
        for (int64_t i = 0; i < M; i += BLOCK_ROWS) {
            int64_t rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
            pack_rows(rows, depth, A + k * lda + i, lda, BLOCK_ROWS, packed);
            operands o = {packed, 1, BLOCK_ROWS, B + k * ldb, ldb, C + i * ldc, ldc, depth, add || k > 0, false};
            columns(&o, rows, N);
        }
    }
}

/* WIDTH x WIDTH elements of B, of which `rows` rows and `cols` columns exist; zeros elsewhere. */
INLINE void load_square(int64_t rows, int64_t cols, const float *from, int64_t ldb, vec square[WIDTH]) {
    if (rows >= WIDTH && cols >= WIDTH) {
        UNROLL
        for (int r = 0; r < WIDTH; r++)
            square[r] = v_load(from + r * ldb);
    } else {
        const vmask mask = v_mask(cols < WIDTH ? cols : WIDTH);
        UNROLL
        for (int r = 0; r < WIDTH; r++)
            square[r] = r < rows ? v_load_tail(from + r * ldb, mask) : v_set(0);
    }
}

/* packed (depth, PANEL) = the transpose of `count` rows of B, rounded up to whole vectors with zeros. `next` from B on is
 * what will be packed next, and asked for. */
static void pack_transposed(int64_t count, int64_t depth, const float *B, int64_t ldb, int64_t next, float *packed) {
    for (int64_t n = 0; n < count; n += WIDTH) {
        int64_t rows = count - n < WIDTH ? count - n : WIDTH;
        for (int64_t k = 0; k < depth; k += WIDTH) {
            int64_t cols = depth - k < WIDTH ? depth - k : WIDTH;
            vec square[WIDTH];
            load_square(rows, cols, B + n * ldb + k, ldb, square);
            if (k % LINE == 0)
                for (int r = 0; r < WIDTH; r++)
                    ask_for(B, (n + r) * ldb + k + next);
            v_transpose(square);
            float *to = packed + k * PANEL + n;
            if (cols == WIDTH) {
                UNROLL
                for (int r = 0; r < WIDTH; r++)
                    v_store(to + r * PANEL, square[r]);
            } else {
                for (int r = 0; r < (int)cols; r++)
                    v_store(to + r * PANEL, square[r]);
            }
        }
    }
}

/* A few rows of A against all of B: squares of B are transposed in registers and used at once, several groups of
 * columns side by side because each sum is one chain of fused multiply-adds. Reading B is all there is to it when the
 * weights come from memory, so the rows of the next groups are asked for early. */
#define FEW 3               /* most rows */
#define GROUPS (16 / WIDTH) /* groups of WIDTH columns of C side by side */
#define AHEAD 256           /* floats of a row asked for before their turn: 16 KiB in all rows */

INLINE void few_rows(const int rows, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                     float *C, int64_t ldc, bool add) {
    const int64_t ahead = K < AHEAD ? K : AHEAD;
    for (int64_t r = 0; r < GROUPS * WIDTH && r < N; r++)
        for (int64_t k = 0; k < ahead; k += LINE)
            ask_for(B + r * ldb, k);
    for (int64_t n = 0; n < N; n += GROUPS * WIDTH) {
        vec sum[FEW][GROUPS];
        UNROLL
        for (int g = 0; g < GROUPS; g++) {
            int64_t left = N - n - g * WIDTH;
            UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][g] = !add || left <= 0 ? v_set(0)
                            : left >= WIDTH   ? v_load(C + i * ldc + n + g * WIDTH)
                                              : v_load_tail(C + i * ldc + n + g * WIDTH, v_mask(left));
        }
        for (int64_t k = 0; k < K; k += WIDTH) {
            const int64_t cols = K - k < WIDTH ? K - k : WIDTH;
            if (k % LINE == 0) { /* `ahead` further on in these rows, or that far into the next ones */
                const bool here = k + ahead < K;
                const int64_t first = here ? n : n + GROUPS * WIDTH, at = here ? k + ahead : k + ahead - K;
                for (int64_t r = first; r < first + GROUPS * WIDTH && r < N; r++)
                    ask_for(B + r * ldb, at);
            }
            UNROLL
            for (int g = 0; g < GROUPS; g++) {
                const int64_t left = N - n - g * WIDTH;
                if (left <= 0)
                    break;
                vec square[WIDTH];
                load_square(left, cols, B + (n + g * WIDTH) * ldb + k, ldb, square);
                v_transpose(square);
                if (cols == WIDTH) {
                    UNROLL
                    for (int q = 0; q < WIDTH; q++)
                        UNROLL
                    for (int i = 0; i < rows; i++)
                        sum[i][g] = v_fma(v_set(A[i * lda + k + q]), square[q], sum[i][g]);
                } else {
                    float kept[WIDTH][WIDTH];
                    UNROLL
                    for (int q = 0; q < WIDTH; q++)
                        v_store(kept[q], square[q]);
                    for (int q = 0; q < (int)cols; q++)
                        UNROLL
                    for (int i = 0; i < rows; i++)
                        sum[i][g] = v_fma(v_set(A[i * lda + k + q]), v_load(kept[q]), sum[i][g]);
                }
            }
        }
        UNROLL
        for (int g = 0; g < GROUPS; g++) {
            int64_t left = N - n - g * WIDTH;
            if (left <= 0)
                break;
            UNROLL
            for (int i = 0; i < rows; i++) {
                if (left >= WIDTH)
                    v_store(C + i * ldc + n + g * WIDTH, sum[i][g]);
                else
                    v_store_tail(C + i * ldc + n + g * WIDTH, v_mask(left), sum[i][g]);
            }
        }
    }
}

static __attribute__((noinline)) void one_row(int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                                              int64_t ldb, float *C, int64_t ldc, bool add) {
    few_rows(1, N, K, A, lda, B, ldb, C, ldc, add);
}
static __attribute__((noinline)) void two_rows(int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                                               int64_t ldb, float *C, int64_t ldc, bool add) {
    few_rows(2, N, K, A, lda, B, ldb, C, ldc, add);
}
static __attribute__((noinline)) void three_rows(int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                                                 int64_t ldb, float *C, int64_t ldc, bool add) {
    few_rows(3, N, K, A, lda, B, ldb, C, ldc, add);
}

static void matmul_nt(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                      float *C, int64_t ldc, bool add) {
    _Alignas(64) float packed[NT_DEPTH * PANEL];
    if (nothing_to_sum(M, N, K, C, ldc, add))
        return;
    if (M <= FEW) {
        (M == 1 ? one_row : M == 2 ? two_rows : three_rows)(N, K, A, lda, B, ldb, C, ldc, add);
        return;
    }
    for (int64_t n = 0; n < N;) {
        int64_t width = panel_width(N - n);
        for (int64_t k = 0; k < K; k += NT_DEPTH) {
            int64_t depth = K - k < NT_DEPTH ? K - k : NT_DEPTH;
            const int64_t next = k + depth < K ? depth : width * ldb - k;
            pack_transposed(width, depth, B + n * ldb + k, ldb, next, packed);
            operands o = {A + k, lda, 1, packed, PANEL, C + n, ldc, depth, add || k > 0, false};
            columns(&o, M, width);
        }
        n += width;
    }
}

/* Products as exact as in f32, for tables that have no faster way than f32. */
#define SIMD_BF16X6_ENTRIES .matmul_nt_bf16x6 = matmul_nt, .matmul_nn_bf16x6 = matmul_nn, .matmul_tn_bf16x6 = matmul_tn
