// SPDX-License-Identifier: Apache-2.0
/* Cross-entropy over the vocabulary without ever holding (T, V): chunks of rows go through head, softmax and, with a tape,
 * both backward products while their probabilities are at hand. Rows come in order and a chunk's size changes no result, so
 * the head's gradient does not depend on micro-batches.
 *
 * A root: its own gradient is 1; `scale` is in the loss. The gradient of x is kept from the forward pass. */
#include <math.h>
#include <string.h>

#include "base/elementary.h"
#include "base/memory.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "op/ops.h"

typedef struct loss_args {
    const sgm_weight *weight; /* (V, D) */
    const sgm_rows *rows;
    double scale;
    float *row_loss; /* (T) or NULL */
} loss_args;

/* Rows of a chunk: at most 256, and logits of at most 8 M elements. */
static int64_t chunk_rows(const sgm_node *node) {
    const loss_args *a = node->args;
    int64_t rows = ((int64_t)1 << 23) / (a->weight->rows > 0 ? a->weight->rows : 1);
    rows = rows < 16 ? 16 : rows > 256 ? 256 : rows;
    return rows < node->in[0].rows ? rows : node->in[0].rows;
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const loss_args *a = node->args;
    if (a->weight->cols != node->in[0].cols || a->rows->rows != node->in[0].rows)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "vocabulary_loss: x is (%lld, %lld), the head (%lld, %lld)",
                        (long long)node->in[0].rows, (long long)node->in[0].cols, (long long)a->weight->rows,
                        (long long)a->weight->cols);
    out[0].rows = out[0].cols = 1;
    return node->recorded ? sgm_weight_check_data(node, a->weight, error) : SGM_OK;
}

static size_t saved_bytes(const sgm_node *node) {
    return (size_t)(node->in[0].rows * node->in[0].cols) * sizeof(sgm_real);
}

/* A chunk's rows, for a head that has no f32 data. */
static sgm_operand operand(const sgm_node *node, int64_t rows) {
    const loss_args *a = node->args;
    sgm_matrix head = sgm_weight_matrix(a->weight);
    return (sgm_operand){.rows = rows, .cols = node->in[0].cols, .integers = sgm_matrix_is_integer(&head)};
}

static size_t logits_bytes(const sgm_node *node) {
    const loss_args *a = node->args;
    return sgm_round_up((size_t)(chunk_rows(node) * a->weight->rows) * sizeof(sgm_real));
}

static size_t loss_bytes(const sgm_node *node) {
    return sgm_round_up((size_t)node->in[0].rows * sizeof(double));
}

/* A chunk's logits, every row's loss, a chunk's activations. */
static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    if (backward)
        return 0;
    sgm_operand rows = operand(node, chunk_rows(node));
    return logits_bytes(node) + loss_bytes(node) + sgm_operand_bytes(&rows, threads);
}

/* logits → loss, and in place scale · (softmax − one-hot). */
static double finish_row(const sgm_kernels *kernels, int64_t V, sgm_real *logits, int32_t target, double scale,
                         bool gradient) {
    if (target < 0) {
        if (gradient)
            memset(logits, 0, (size_t)V * sizeof(sgm_real));
        return 0;
    }
    sgm_real largest = kernels->max(V, logits);
    sgm_real at_target = logits[target];
    sgm_real sum = kernels->exp_sum(V, logits, 1, largest, logits);
    if (gradient) {
        kernels->scale(V, (sgm_real)(scale / (double)sum), logits, logits);
        logits[target] -= (sgm_real)scale;
    }
    return sgm_log64((double)sum) + ((double)largest - (double)at_target);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const loss_args *a = node->args;
    const sgm_weight *w = a->weight;
    int64_t T = node->in[0].rows, D = node->in[0].cols, V = w->rows, C = chunk_rows(node), begin, end;
    sgm_real *logits = node->workspace, *dx = node->saved;
    double *loss = (double *)(void *)((char *)node->workspace + logits_bytes(node));
    char *activations = (char *)loss + loss_bytes(node);
    const sgm_real *x = node->in[0].data;
    for (int64_t first = 0; first < T; first += C) {
        int64_t n = T - first < C ? T - first : C;
        if (w->data) {
            sgm_product head = {SGM_NT, n, V,     D,    x + first * D, D,         w->data, D,
                                logits, V, false, NULL, walk->compute, w->rounded};
            sgm_products_run(walk, &head, 1);
        } else {
            sgm_operand o = operand(node, n);
            sgm_stored_product head = {.M = n, .B = w->stored, .C = logits, .ldc = V};
            head.A = sgm_operand_make(walk, &o, x + first * D, activations);
            sgm_stored_products_run(walk, &head, 1);
        }
        sgm_barrier(walk->worker);
        sgm_split(walk->worker, n, 1, &begin, &end);
        for (int64_t i = begin; i < end; i++)
            loss[first + i] =
                finish_row(walk->kernels, V, logits + i * V, a->rows->targets ? a->rows->targets[first + i] : -1,
                           a->scale, walk->tape != NULL);
        sgm_barrier(walk->worker);
        if (!walk->tape)
            continue;
        const bool sum = first > 0 || !walk->sets_gradients;
        sgm_product back[2] = {
            {SGM_NN, n, D, V, logits, V, w->data, D, dx + first * D, D, false, NULL, walk->compute, w->rounded},
            {SGM_TN, V, D, n, logits, V, x + first * D, D, w->gradient, D, sum, NULL, walk->compute, NULL}};
        sgm_products_run(walk, back, w->gradient ? 2 : 1);
        sgm_barrier(walk->worker);
    }
    if (walk->worker->thread != 0)
        return;
    double sum = 0;
    for (int64_t t = 0; t < T; t++) {
        sum += loss[t];
        if (a->row_loss)
            a->row_loss[t] = (float)loss[t];
    }
    node->out[0].data[0] = (sgm_real)(sum * a->scale);
}

static void backward(sgm_walk *walk, sgm_node *node) {
    bool add = false;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    const sgm_real *kept = node->saved;
    int64_t begin, end;
    if (!dx)
        return;
    sgm_split(walk->worker, node->in[0].rows * node->in[0].cols, 64, &begin, &end);
    if (add)
        walk->kernels->axpy(end - begin, 1, kept + begin, dx + begin);
    else
        memcpy(dx + begin, kept + begin, (size_t)(end - begin) * sizeof(sgm_real));
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t lengths[][2] = {{4, 2}, {1, 1}, {300, 11}};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = index == 2 ? "more rows than a chunk" : "few rows";
    int64_t V = benchmark ? 4096 : 13, D = benchmark ? 192 : 6, large[] = {4000, 96};
    loss_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_rows *rows = sgm_case_rows(c, benchmark ? large : lengths[index], 2, V, seed);
    sgm_weight *weight = sgm_case_weight(c, "head", V, D, 0.5, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (loss_args){weight, rows, 0.25, NULL};
    c->rows[0] = rows->rows;
    c->cols[0] = D;
    c->flops = 2.0 * (double)(rows->rows * D * V);
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_vocabulary_loss = {
    .name = "vocabulary_loss",
    .summary = "cross-entropy of the next token, in chunks",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(loss_args),
    .residual = -1,
    .root = true,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_vocabulary_loss(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight, const sgm_rows *rows,
                               double scale, float *row_loss) {
    loss_args args = {weight, rows, scale, row_loss};
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_vocabulary_loss, &args, &x, &out);
    return out;
}
