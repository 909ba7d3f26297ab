// SPDX-License-Identifier: Apache-2.0
/* The backward pass that all kinds of attention share: weights are recomputed tile by tile, T × T never exists
 * (arXiv 2205.14135).
 *
 * A task is a key/value head of a segment with the query heads that read it. Blocks of keys are the outer loop, in the kind's
 * order, so that keys and values are transposed once for all queries; gradients of keys and values are summed over blocks of
 * queries and then heads, those of queries over blocks of keys, each in a fixed order by one thread. The longest segments go
 * first. */
#include <string.h>

#include "attention/attention.h"
#include "base/memory.h"
#include "tensor/products.h"

enum { BLOCK = SGM_KEY_BLOCK, SLICE = 16 };

/* Gradient arrays, (T, H·S) and (T, G·S). Any of dq, dk, dv may be NULL. */
typedef struct gradients {
    const sgm_real *dy;
    sgm_real *mass, *dot; /* (T, H): the saved numbers or, where there are none, 1; Σ dy·y */
    sgm_real *dq, *dk, *dv;
    sgm_real *keys, *values; /* this thread's: block j transposed, (S, 64) */
    sgm_matmul *nn, *tn;
} gradients;

static size_t dots_bytes(const sgm_node *node) {
    const sgm_attention_args *a = node->args;
    return sgm_round_up((size_t)(node->in[0].rows * a->heads) * sizeof(sgm_real));
}

static size_t block_bytes(const sgm_node *node) {
    const sgm_attention_args *a = node->args;
    return (size_t)(node->in[0].cols / a->heads) * BLOCK * sizeof(sgm_real);
}

size_t sgm_attention_backward_workspace(const sgm_node *node, int threads) {
    return (node->op->saved_bytes ? 1 : 2) * dots_bytes(node) + 2 * (size_t)threads * block_bytes(node);
}

/* One tile: queries of block i, keys of block j of a segment, one query head. Adds to dq, dk, dv. In a tile on the diagonal
 * half of the scores are masked: it goes by slices of rows, each with the keys its last row sees. */
static void tile_backward(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment, int64_t head,
                          int64_t i, int64_t j, const gradients *g) {
    const sgm_attention_args *a = node->args;
    int64_t width = node->in[0].cols, narrow = node->in[1].cols, S = width / a->heads;
    int64_t shift = head / (a->heads / a->kv_heads) * S;
    int64_t first = i * BLOCK, count = segment->rows - first < BLOCK ? segment->rows - first : BLOCK;
    int64_t row = segment->row + first, key = segment->row + j * BLOCK, step = i == j ? SLICE : BLOCK;
    const sgm_real *q = node->in[0].data + row * width + head * S, *k = node->in[1].data + key * narrow + shift;
    const sgm_real *dy = g->dy + row * width + head * S;
    sgm_real p[BLOCK * BLOCK], dp[BLOCK * BLOCK];
    for (int64_t at = 0; at < count; at += step) {
        int64_t rows = count - at < step ? count - at : step, place = (row + at) * a->heads + head;
        int64_t seen = sgm_keys_visible(first + at + rows - 1, j);
        const sgm_real *q_at = q + at * width, *dy_at = dy + at * width;
        sgm_score_tile scores = {.rows = rows,
                                 .cols = seen,
                                 .seen = sgm_keys_visible(first + at, j),
                                 .group = 1,
                                 .scale = (sgm_real)(1 / __builtin_sqrt((double)S))};
        if (i != j && a->kind->is_done && a->kind->is_done(g->mass + place, a->heads, rows))
            continue;
        g->nn(rows, seen, S, q_at, width, g->keys, BLOCK, p, BLOCK, false);
        g->nn(rows, seen, S, dy_at, width, g->values, BLOCK, dp, BLOCK, false);
        a->kind->step_backward(kernels, &scores, p, dp, BLOCK, g->mass + place, g->dot + place, a->heads);
        if (g->dv)
            g->tn(seen, S, rows, p, BLOCK, dy_at, width, g->dv + key * narrow + shift, narrow, true);
        if (g->dk)
            g->tn(seen, S, rows, dp, BLOCK, q_at, width, g->dk + key * narrow + shift, narrow, true);
        if (g->dq)
            g->nn(rows, S, seen, dp, BLOCK, k, narrow, g->dq + (row + at) * width + head * S, width, true);
    }
}

static void head_backward(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment, int64_t kv,
                          const gradients *g) {
    const sgm_attention_args *a = node->args;
    int64_t narrow = node->in[1].cols, S = narrow / a->kv_heads, group = a->heads / a->kv_heads;
    int64_t blocks = (segment->rows + BLOCK - 1) / BLOCK;
    for (int64_t n = 0; n < blocks; n++) {
        int64_t j = a->kind->newest_first ? blocks - 1 - n : n;
        int64_t count = segment->rows - j * BLOCK < BLOCK ? segment->rows - j * BLOCK : BLOCK;
        int64_t at = (segment->row + j * BLOCK) * narrow + kv * S;
        kernels->transpose(count, S, node->in[1].data + at, narrow, g->keys, BLOCK);
        kernels->transpose(count, S, node->in[2].data + at, narrow, g->values, BLOCK);
        for (int64_t i = j; i < blocks; i++)
            for (int64_t head = kv * group; head < (kv + 1) * group; head++)
                tile_backward(kernels, node, segment, head, i, j, g);
    }
}

static sgm_real *gradient_cleared(sgm_walk *walk, sgm_node *node, int input) {
    bool add = false;
    sgm_real *gradient = sgm_gradient_in(walk, node, input, &add);
    if (gradient && !add) {
        int64_t begin, end;
        sgm_split(walk->worker, node->in[input].rows * node->in[input].cols, 64, &begin, &end);
        memset(gradient + begin, 0, (size_t)(end - begin) * sizeof(sgm_real));
    }
    return gradient;
}

void sgm_attention_backward(sgm_walk *walk, sgm_node *node) {
    const sgm_attention_args *a = node->args;
    int64_t width = node->in[0].cols, S = width / a->heads, begin, end;
    sgm_real *dot = node->workspace;
    gradients g = {.dy = sgm_gradient_out(walk, node, 0),
                   .mass = node->saved,
                   .dot = dot,
                   .nn = sgm_product_kernel(walk->kernels, SGM_NN, sgm_attention_compute(walk, a->kind)),
                   .tn = sgm_product_kernel(walk->kernels, SGM_TN, sgm_attention_compute(walk, a->kind))};
    char *after = (char *)node->workspace + dots_bytes(node);
    bool saved = node->op->saved_bytes != NULL;
    if (!saved) {
        g.mass = (sgm_real *)(void *)after;
        after += dots_bytes(node);
    }
    g.keys = (sgm_real *)(void *)(after + 2 * (size_t)walk->worker->thread * block_bytes(node));
    g.values = g.keys + S * BLOCK;
    g.dq = gradient_cleared(walk, node, 0);
    g.dk = gradient_cleared(walk, node, 1);
    g.dv = gradient_cleared(walk, node, 2);
    sgm_split(walk->worker, node->in[0].rows * a->heads, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        dot[i] = walk->kernels->dot(S, g.dy + i * S, node->out[0].data + i * S);
        if (!saved)
            g.mass[i] = 1;
    }
    sgm_barrier(walk->worker);
    int class = 0;
    for (int64_t n = 0; n < a->rows->segment_count; n++) {
        int its = sgm_cost_class(a->rows->segments[n].rows);
        class = its > class ? its : class;
    }
    int64_t drawn = sgm_task(walk->worker), task = 0;
    for (; class >= 0; class --)
        for (int64_t n = 0; n < a->rows->segment_count; n++) {
            const sgm_segment *segment = &a->rows->segments[n];
            if (sgm_cost_class(segment->rows) != class)
                continue;
            for (int64_t kv = 0; kv < a->kv_heads; kv++, task++)
                if (task == drawn) {
                    head_backward(walk->kernels, node, segment, kv, &g);
                    drawn = sgm_task(walk->worker);
                }
        }
}
