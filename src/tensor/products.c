// SPDX-License-Identifier: Apache-2.0
/* Tiles for matrix products: large enough to reuse a tile's operands from the cache, enough of them for every thread. */
#include "tensor/products.h"

#include <assert.h>
#include <string.h>

enum { TILE_ROWS = 64, TILE_COLS = 512, DEPTH = 256, MINIMUM_COLS = 16 };
enum { BF16_ROWS = 256, BF16_DEPTH = 1536 }; /* the same of products in bf16, whose tiles pack their operands anew */

typedef struct tiling {
    int64_t rows, cols;   /* of a tile */
    int64_t down, across; /* tiles */
} tiling;

static int64_t divide_up(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

/* Columns are cut until there are as many tiles as are wanted. */
static tiling cut(const sgm_product *p, int64_t most_rows, int64_t wanted) {
    tiling t = {.rows = p->M < most_rows ? p->M : most_rows, .cols = p->N < TILE_COLS ? p->N : TILE_COLS};
    t.down = divide_up(p->M, t.rows);
    if (t.down * divide_up(p->N, t.cols) < wanted) {
        int64_t cols = divide_up(divide_up(p->N, divide_up(wanted, t.down)), MINIMUM_COLS) * MINIMUM_COLS;
        if (cols < t.cols)
            t.cols = cols;
    }
    t.across = divide_up(p->N, t.cols);
    return t;
}

/* Two tiles a thread, so that uneven ones even out. Products in bf16 would rather have few columns than few rows, and few tiles,
 * because each packs its rows of A and all its columns of B anew: one a thread will do where all are alike. */
static tiling tile(const sgm_product *p, int threads) {
    if (p->M == 0 || p->N == 0)
        return (tiling){1, 1, 0, 0};
    if (threads == 1)
        return cut(p, p->compute == SGM_COMPUTE_F32 ? TILE_ROWS : BF16_ROWS, 1);
    if (p->compute == SGM_COMPUTE_F32)
        return cut(p, TILE_ROWS, 2 * (int64_t)threads);
    tiling t = cut(p, BF16_ROWS, threads);
    bool alike = p->M % t.rows == 0 && p->N % t.cols == 0 && t.down * t.across % threads == 0;
    return alike ? t : cut(p, BF16_ROWS, 2 * (int64_t)threads);
}

/* The residual of a tile comes into C first, where the product is then added. */
static void copy_residual(const sgm_real *residual, sgm_real *C, int64_t ldc, int64_t M, int64_t N) {
    if (residual != C)
        for (int64_t i = 0; i < M; i++)
            memcpy(C + i * ldc, residual + i * ldc, (size_t)N * sizeof *C);
}

void sgm_product_alone(const sgm_kernels *k, const sgm_product *p) {
    if (p->rounded && p->compute == SGM_COMPUTE_BF16 && p->kind != SGM_TN)
        (p->kind == SGM_NT ? k->matmul_nt_rounded : k->matmul_nn_rounded)(p->M, p->N, p->K, p->A, p->lda, p->rounded,
                                                                          p->ldb, p->C, p->ldc, p->add);
    else
        sgm_product_kernel(k, p->kind, p->compute)(p->M, p->N, p->K, p->A, p->lda, p->B, p->ldb, p->C, p->ldc, p->add);
}

/* B begins `elements` farther on. */
static void from_weight(sgm_product *p, int64_t elements) {
    p->B += elements;
    if (p->rounded)
        p->rounded += elements;
}

static void run_tile(const sgm_kernels *k, const sgm_product *p, const tiling *t, int64_t index) {
    assert(t->across > 0); /* there is a tile `index` */
    int64_t r = index / t->across * t->rows, c = index % t->across * t->cols;
    int64_t M = p->M - r < t->rows ? p->M - r : t->rows, N = p->N - c < t->cols ? p->N - c : t->cols;
    sgm_real *C = p->C + r * p->ldc + c;
    sgm_product part = *p;
    part.M = M, part.N = N, part.C = C, part.add = p->add || p->residual;
    if (p->residual)
        copy_residual(p->residual + r * p->ldc + c, C, p->ldc, M, N);
    if (p->kind == SGM_NT) {
        part.A += r * p->lda;
        from_weight(&part, c * p->ldb);
        sgm_product_alone(k, &part);
        return;
    }
    /* The other two run over K in order from the value in C, so K may be cut where the cache wants it: at a multiple
     * of 32, because bf16 products go by groups of up to that. */
    int64_t depth = 0, most = p->compute == SGM_COMPUTE_F32 ? DEPTH : BF16_DEPTH;
    do {
        sgm_product block = part;
        block.K = p->K - depth < most ? p->K - depth : most;
        block.add = part.add || depth > 0;
        block.A += p->kind == SGM_NN ? r * p->lda + depth : depth * p->lda + r;
        from_weight(&block, depth * p->ldb + c);
        sgm_product_alone(k, &block);
        depth += block.K;
    } while (depth < p->K);
}

void sgm_products_run(sgm_walk *walk, const sgm_product *products, int count) {
    int threads = walk->worker->threads;
    int64_t drawn = sgm_task(walk->worker), first = 0;
    for (int i = 0; i < count; i++) {
        tiling t = tile(&products[i], threads);
        int64_t tiles = t.down * t.across;
        for (; drawn < first + tiles; drawn = sgm_task(walk->worker))
            run_tile(walk->kernels, &products[i], &t, drawn - first);
        first += tiles;
    }
}

/* ---- weights as they are stored ----------------------------------------------------------------------------------- */

enum {
    FEW_ROWS = 8, /* up to here a product is the reading of its weights */
    PIECES_PER_THREAD =
        2 /* then: runs of weights per thread, so that a thread that was held up leaves some to others */
};
enum { STORED_ROWS = 128, STORED_COLS = 128 }; /* a tile otherwise: its rows of A stay in the second-level cache */

sgm_activations sgm_activations_from(const sgm_activations *a, int64_t K, int64_t row) {
    sgm_activations from = {.x = (const float *)(const void *)((const sgm_real *)(const void *)a->x + row * a->ldx),
                            .ldx = a->ldx};
    if (a->q) {
        from.q = a->q + row * K;
        from.scale = a->scale + row * (K / 32);
        from.sum = a->sum + row * (K / 32);
    }
    return from;
}

void sgm_stored_product_tile(const sgm_walk *walk, const sgm_stored_product *p, int64_t row, int64_t rows, int64_t col,
                             int64_t cols) {
    const sgm_kernels *k = walk->kernels;
    int64_t K = p->B.cols;
    const void *B = sgm_matrix_row(&p->B, col);
    sgm_real *C = p->C + row * p->ldc + col;
    sgm_activations A = sgm_activations_from(&p->A, K, row);
    if (p->residual)
        copy_residual(p->residual + row * p->ldc + col, C, p->ldc, rows, cols);
    if (p->B.type == SGM_TYPE_F32)
        sgm_product_kernel(k, SGM_NT, walk->compute)(rows, cols, K, (const sgm_real *)(const void *)A.x, A.ldx, B,
                                                     (int64_t)(p->B.stride / sizeof(sgm_real)), C, p->ldc,
                                                     p->residual != NULL);
    else
        k->matmul_typed(rows, cols, K, &A, p->B.type, B, p->B.stride, (float *)(void *)C, p->ldc, p->residual != NULL);
}

static tiling stored_tile(const sgm_stored_product *p, int64_t total_cols, int threads) {
    int64_t rows = p->M < STORED_ROWS ? p->M : STORED_ROWS, cols = p->B.rows < STORED_COLS ? p->B.rows : STORED_COLS;
    if (p->M <= FEW_ROWS)
        cols = divide_up(total_cols, (int64_t)PIECES_PER_THREAD * threads);
    cols = divide_up(cols, MINIMUM_COLS) * MINIMUM_COLS;
    return (tiling){rows, cols, p->M ? divide_up(p->M, rows) : 0, divide_up(p->B.rows, cols)};
}

void sgm_stored_products_run(sgm_walk *walk, const sgm_stored_product *products, int count) {
    int64_t total = 0, drawn = sgm_task(walk->worker), first = 0;
    for (int i = 0; i < count; i++)
        total += products[i].B.rows;
    for (int i = 0; i < count; i++) {
        const sgm_stored_product *p = &products[i];
        tiling t = stored_tile(p, total, walk->worker->threads);
        int64_t tiles = t.down * t.across;
        for (; drawn < first + tiles; drawn = sgm_task(walk->worker)) {
            assert(t.down > 0); /* one of its tiles was drawn */
            /* Columns on the outside: the tiles of one run of weights follow one another. */
            int64_t row = (drawn - first) % t.down * t.rows, col = (drawn - first) / t.down * t.cols;
            sgm_stored_product_tile(walk, p, row, p->M - row < t.rows ? p->M - row : t.rows, col,
                                    p->B.rows - col < t.cols ? p->B.rows - col : t.cols);
        }
        first += tiles;
    }
}
