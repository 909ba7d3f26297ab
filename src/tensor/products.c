// SPDX-License-Identifier: Apache-2.0
/* Tiles for matrix products: large enough to reuse a tile's operands from the cache, enough of them for every thread. */
#include "tensor/products.h"

enum { TILE_ROWS = 64, TILE_COLS = 512, DEPTH = 256, MINIMUM_COLS = 16 };

typedef struct tiling {
    int64_t rows, cols;   /* of a tile */
    int64_t down, across; /* tiles */
} tiling;

static int64_t divide_up(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

static tiling tile(const sgm_product *p, int threads) {
    tiling t = {.rows = p->M < TILE_ROWS ? p->M : TILE_ROWS, .cols = p->N < TILE_COLS ? p->N : TILE_COLS};
    if (p->M == 0 || p->N == 0)
        return (tiling){1, 1, 0, 0};
    /* Few rows (decode): cut the columns until every thread has work. */
    int64_t wanted = 2 * (int64_t)threads;
    int64_t down = divide_up(p->M, t.rows);
    if (threads > 1 && down * divide_up(p->N, t.cols) < wanted) {
        int64_t pieces = divide_up(wanted, down);
        int64_t cols = divide_up(divide_up(p->N, pieces), MINIMUM_COLS) * MINIMUM_COLS;
        if (cols < t.cols)
            t.cols = cols;
    }
    t.down = down;
    t.across = divide_up(p->N, t.cols);
    return t;
}

static void run_tile(const sgm_kernels *k, const sgm_product *p, const tiling *t, int64_t index) {
    int64_t r = index / t->across * t->rows, c = index % t->across * t->cols;
    int64_t M = p->M - r < t->rows ? p->M - r : t->rows, N = p->N - c < t->cols ? p->N - c : t->cols;
    sgm_real *C = p->C + r * p->ldc + c;
    if (p->kind == SGM_NT) {
        k->matmul_nt(M, N, p->K, p->A + r * p->lda, p->lda, p->B + c * p->ldb, p->ldb, C, p->ldc, p->add);
        return;
    }
    /* The other two run over K in order from the value in C, so K may be cut where the cache wants it. */
    int64_t depth = 0;
    do {
        int64_t K = p->K - depth < DEPTH ? p->K - depth : DEPTH;
        bool add = p->add || depth > 0;
        if (p->kind == SGM_NN)
            k->matmul_nn(M, N, K, p->A + r * p->lda + depth, p->lda, p->B + depth * p->ldb + c, p->ldb, C, p->ldc, add);
        else
            k->matmul_tn(M, N, K, p->A + depth * p->lda + r, p->lda, p->B + depth * p->ldb + c, p->ldb, C, p->ldc, add);
        depth += K;
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
