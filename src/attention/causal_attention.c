// SPDX-License-Identifier: Apache-2.0
/* Causal attention within each segment, with grouped key/value heads (GQA, arXiv 2305.13245).
 *
 * Online softmax (arXiv 1805.02867) over blocks of SGM_KV_PAGE keys counted from position 0 of the sequence: a row at
 * position p goes through blocks 0 … p/64 in order, and in its last block sees the keys up to itself. Everything a row does
 * depends on its position alone, so training, prefill in any chunks, and decode give the same bytes. Scores exist for one
 * tile of 64 queries × 64 keys at a time. Kept for the backward pass: log of the softmax's denominator per row and head;
 * probabilities are recomputed.
 *
 * Forward tasks: 64 queries of a head. Backward tasks: a segment's key/value head (with the query heads that read it), so
 * that gradients of keys and values are summed in a fixed order by one thread. */
#include <string.h>

#include "base/elementary.h"
#include "base/memory.h"
#include "op/op_case.h"
#include "op/ops.h"

enum { BLOCK = SGM_KV_PAGE, SLICE = 16 };

typedef struct attention_args {
    int64_t heads, kv_heads, layer;
    const sgm_rows *rows;
} attention_args;

/* One segment's keys and values by block, and the strides between their rows. */
typedef struct keys {
    const sgm_real *k, *v; /* training: the segment's first row */
    const sgm_kv_pages *past;
    int64_t layer, stride;
} keys;

static const sgm_real *key_block(const keys *s, int64_t block) {
    if (!s->past)
        return s->k + block * BLOCK * s->stride;
    return s->past->page[s->layer * s->past->pages_per_layer + block];
}

static const sgm_real *value_block(const keys *s, int64_t block) {
    if (!s->past)
        return s->v + block * BLOCK * s->stride;
    return s->past->page[s->layer * s->past->pages_per_layer + block] + BLOCK * s->stride;
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const attention_args *a = node->args;
    const sgm_tensor *q = &node->in[0], *k = &node->in[1], *v = &node->in[2];
    if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads || q->cols % a->heads ||
        k->cols != q->cols / a->heads * a->kv_heads || v->cols != k->cols || q->rows != k->rows || v->rows != k->rows)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "causal_attention: q has %lld columns for %lld heads, k %lld and v %lld for %lld heads",
                        (long long)q->cols, (long long)a->heads, (long long)k->cols, (long long)v->cols,
                        (long long)a->kv_heads);
    out[0].rows = q->rows;
    out[0].cols = q->cols;
    return SGM_OK;
}

/* Per row and head: log of the denominator, and in the backward pass Σ dy·y. */
static size_t saved_bytes(const sgm_node *node) {
    const attention_args *a = node->args;
    return (size_t)(node->in[0].rows * a->heads) * sizeof(sgm_real);
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    (void)threads;
    return backward ? saved_bytes(node) : 0;
}

/* Inference: this layer's new keys and values go to the end of the sequences' pages. */
static void append_to_pages(sgm_walk *walk, const sgm_node *node) {
    const attention_args *a = node->args;
    int64_t width = node->in[1].cols, begin, end;
    sgm_split(walk->worker, node->in[1].rows, 1, &begin, &end);
    for (int64_t s = 0; s < a->rows->segment_count; s++) {
        const sgm_segment *segment = &a->rows->segments[s];
        if (!segment->past)
            continue;
        for (int64_t i = 0; i < segment->rows; i++) {
            int64_t row = segment->row + i, position = segment->position + i;
            if (row < begin || row >= end)
                continue;
            sgm_real *page = segment->past->page[a->layer * segment->past->pages_per_layer + position / BLOCK];
            sgm_real *key = page + position % BLOCK * width;
            memcpy(key, node->in[1].data + row * width, (size_t)width * sizeof(sgm_real));
            memcpy(key + BLOCK * width, node->in[2].data + row * width, (size_t)width * sizeof(sgm_real));
        }
    }
}

/* Keys of `block` that position p sees. */
static int64_t visible(int64_t p, int64_t block) {
    int64_t n = p - block * BLOCK + 1;
    return n > BLOCK ? BLOCK : n;
}

/* In a tile on the diagonal half of the scores are masked: it goes by slices of rows, each with the keys its last row
 * sees. Others go whole. A row's result does not change (kernels.h). */
static int64_t slice(int64_t count, int64_t row, bool diagonal) {
    return diagonal && count - row > SLICE ? SLICE : count - row;
}

/* Queries [first, first + count) of the segment, one head. `lse` (T, H) may be NULL. */
static void attend(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment, const keys *s,
                   int64_t head, int64_t first, int64_t count, sgm_real *lse) {
    const attention_args *a = node->args;
    int64_t width = node->in[0].cols, S = width / a->heads, shift = head / (a->heads / a->kv_heads) * S;
    sgm_real scale = (sgm_real)(1 / __builtin_sqrt((double)S));
    const sgm_real *q = node->in[0].data + (segment->row + first) * width + head * S;
    sgm_real *y = node->out[0].data + (segment->row + first) * width + head * S;
    sgm_real score[BLOCK * BLOCK], largest[BLOCK], sum[BLOCK];
    int64_t position = segment->position + first, last = position + count - 1;
    for (int64_t i = 0; i < count; i++) {
        largest[i] = -(sgm_real)__builtin_inf();
        sum[i] = 0;
        memset(y + i * width, 0, (size_t)S * sizeof(sgm_real));
    }
    for (int64_t block = 0; block <= last / BLOCK; block++) {
        bool diagonal = block == last / BLOCK;
        for (int64_t i = 0, rows; i < count; i += rows) {
            rows = slice(count, i, diagonal);
            kernels->matmul_nt(rows, visible(position + i + rows - 1, block), S, q + i * width, width,
                               key_block(s, block) + shift, s->stride, score + i * BLOCK, BLOCK, false);
        }
        for (int64_t i = 0; i < count; i++) {
            sgm_real *row = score + i * BLOCK;
            int64_t n = visible(position + i, block);
            sgm_real top = kernels->max(n, row) * scale;
            top = top > largest[i] || top != top ? top : largest[i];
            sgm_real rescale = sgm_exp(largest[i] - top);
            sum[i] = sum[i] * rescale + kernels->exp_sum(n, row, scale, top, row);
            memset(row + n, 0, (size_t)(BLOCK - n) * sizeof(sgm_real));
            if (block > 0)
                kernels->scale(S, rescale, y + i * width, y + i * width);
            largest[i] = top;
        }
        for (int64_t i = 0, rows; i < count; i += rows) {
            rows = slice(count, i, diagonal);
            kernels->matmul_nn(rows, S, visible(position + i + rows - 1, block), score + i * BLOCK, BLOCK,
                               value_block(s, block) + shift, s->stride, y + i * width, width, true);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        kernels->scale(S, 1 / sum[i], y + i * width, y + i * width);
        if (lse)
            lse[(segment->row + first + i) * a->heads + head] = largest[i] + sgm_log(sum[i]);
    }
}

static keys keys_of(const sgm_node *node, const sgm_segment *segment) {
    const attention_args *a = node->args;
    int64_t width = node->in[1].cols;
    return (keys){node->in[1].data + segment->row * width, node->in[2].data + segment->row * width, segment->past,
                  a->layer, width};
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const attention_args *a = node->args;
    append_to_pages(walk, node);
    sgm_barrier(walk->worker);
    int64_t drawn = sgm_task(walk->worker), task = 0;
    for (int64_t i = 0; i < a->rows->segment_count; i++) {
        const sgm_segment *segment = &a->rows->segments[i];
        keys s = keys_of(node, segment);
        /* Tiles end at multiples of 64 positions, so that a tile meets one diagonal block only. */
        for (int64_t first = 0, count; first < segment->rows; first += count) {
            count = BLOCK - (segment->position + first) % BLOCK;
            if (count > segment->rows - first)
                count = segment->rows - first;
            for (int64_t head = 0; head < a->heads; head++, task++)
                if (task == drawn) {
                    attend(walk->kernels, node, segment, &s, head, first, count, node->saved);
                    drawn = sgm_task(walk->worker);
                }
        }
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* Gradient arrays, (T, H·S) and (T, G·S). Any may be NULL. */
typedef struct gradients {
    const sgm_real *dy, *lse, *dot; /* dot (T, H) = Σ dy·y */
    sgm_real *dq, *dk, *dv;
} gradients;

/* One tile: queries of block i, keys of block j of a segment, one query head. Adds to dq, dk, dv. */
static void tile_backward(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment, int64_t head,
                          int64_t i, int64_t j, const gradients *g) {
    const attention_args *a = node->args;
    int64_t width = node->in[0].cols, narrow = node->in[1].cols, S = width / a->heads;
    int64_t shift = head / (a->heads / a->kv_heads) * S;
    sgm_real scale = (sgm_real)(1 / __builtin_sqrt((double)S));
    int64_t first = i * BLOCK, count = segment->rows - first < BLOCK ? segment->rows - first : BLOCK;
    int64_t row = segment->row + first, key = segment->row + j * BLOCK;
    const sgm_real *q = node->in[0].data + row * width + head * S, *k = node->in[1].data + key * narrow + shift;
    const sgm_real *v = node->in[2].data + key * narrow + shift, *dy = g->dy + row * width + head * S;
    sgm_real p[BLOCK * BLOCK], dp[BLOCK * BLOCK];
    for (int64_t at = 0, rows; at < count; at += rows) {
        rows = slice(count, at, i == j);
        int64_t seen = visible(first + at + rows - 1, j);
        const sgm_real *q_at = q + at * width, *dy_at = dy + at * width;
        sgm_real *p_at = p + at * BLOCK, *dp_at = dp + at * BLOCK;
        kernels->matmul_nt(rows, seen, S, q_at, width, k, narrow, p_at, BLOCK, false);
        kernels->matmul_nt(rows, seen, S, dy_at, width, v, narrow, dp_at, BLOCK, false);
        for (int64_t r = 0; r < rows; r++) {
            int64_t n = visible(first + at + r, j), place = (row + at + r) * a->heads + head;
            sgm_real *pr = p_at + r * BLOCK, *dpr = dp_at + r * BLOCK;
            kernels->exp_sum(n, pr, scale, g->lse[place], pr);
            for (int64_t c = 0; c < n; c++)
                dpr[c] = pr[c] * (dpr[c] - g->dot[place]) * scale;
            memset(pr + n, 0, (size_t)(seen - n) * sizeof(sgm_real));
            memset(dpr + n, 0, (size_t)(seen - n) * sizeof(sgm_real));
        }
        if (g->dv)
            kernels->matmul_tn(seen, S, rows, p_at, BLOCK, dy_at, width, g->dv + key * narrow + shift, narrow, true);
        if (g->dk)
            kernels->matmul_tn(seen, S, rows, dp_at, BLOCK, q_at, width, g->dk + key * narrow + shift, narrow, true);
        if (g->dq)
            kernels->matmul_nn(rows, S, seen, dp_at, BLOCK, k, narrow, g->dq + (row + at) * width + head * S, width,
                               true);
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

static void backward(sgm_walk *walk, sgm_node *node) {
    const attention_args *a = node->args;
    int64_t width = node->in[0].cols, S = width / a->heads, begin, end;
    sgm_real *dot = node->workspace;
    gradients g = {.dy = sgm_gradient_out(walk, node, 0), .lse = node->saved, .dot = dot};
    g.dq = gradient_cleared(walk, node, 0);
    g.dk = gradient_cleared(walk, node, 1);
    g.dv = gradient_cleared(walk, node, 2);
    sgm_split(walk->worker, node->in[0].rows * a->heads, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        dot[i] = walk->kernels->dot(S, g.dy + i * S, node->out[0].data + i * S);
    sgm_barrier(walk->worker);
    int64_t drawn = sgm_task(walk->worker), task = 0, group = a->heads / a->kv_heads;
    for (int64_t n = 0; n < a->rows->segment_count; n++) {
        const sgm_segment *segment = &a->rows->segments[n];
        int64_t blocks = (segment->rows + BLOCK - 1) / BLOCK;
        for (int64_t kv = 0; kv < a->kv_heads; kv++, task++) {
            if (task != drawn)
                continue;
            for (int64_t head = kv * group; head < (kv + 1) * group; head++)
                for (int64_t i = 0; i < blocks; i++)
                    for (int64_t j = 0; j <= i; j++)
                        tile_backward(walk->kernels, node, segment, head, i, j, &g);
            drawn = sgm_task(walk->worker);
        }
    }
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t lengths[][3] = {{5, 1, 3}, {63, 64, 65}, {130, 2, 1}};
    static const char *const names[] = {"short documents", "around a block", "several blocks"};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = names[index];
    int64_t H = benchmark ? 6 : 4, G = 2, S = benchmark ? 32 : 6, long_ones[16];
    for (int i = 0; i < 16; i++)
        long_ones[i] = 256;
    attention_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_rows *rows =
        benchmark ? sgm_case_rows(c, long_ones, 16, 7, seed) : sgm_case_rows(c, lengths[index], 3, 7, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (attention_args){H, G, 0, rows};
    c->rows[0] = c->rows[1] = c->rows[2] = rows->rows;
    c->cols[0] = H * S;
    c->cols[1] = c->cols[2] = G * S;
    for (int64_t i = 0; i < rows->segment_count; i++)
        c->flops += 2.0 * (double)(rows->segments[i].rows * rows->segments[i].rows * H * S);
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_causal_attention = {
    .name = "causal_attention",
    .summary = "softmax attention to earlier rows of the same segment",
    .inputs = 3,
    .outputs = 1,
    .args_bytes = sizeof(attention_args),
    .residual = -1,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_causal_attention(sgm_walk *walk, sgm_tensor q, sgm_tensor k, sgm_tensor v, int64_t heads,
                                int64_t kv_heads, int64_t layer, const sgm_rows *rows) {
    attention_args args = {heads, kv_heads, layer, rows};
    sgm_tensor in[3] = {q, k, v}, out = {0};
    sgm_apply(walk, &sgm_op_causal_attention, &args, in, &out);
    return out;
}
