// SPDX-License-Identifier: Apache-2.0
/* Causal softmax attention: online softmax (arXiv 1805.02867) over blocks of keys, from the oldest to the newest. A row's state
 * is its largest score and the sum of the exponentials below it; the parts of a row are rescaled to a common largest one when
 * they are merged. Kept for the backward pass: the log of the denominator per row and head. */
#include "attention/attention.h"
#include "base/elementary.h"
#include "op/op_case.h"

typedef sgm_attention_state state;

static void begin(int64_t rows, const state *to) {
    for (int64_t r = 0; r < rows; r++) {
        to->top[r] = -(sgm_real)__builtin_inf();
        to->mass[r] = 0;
    }
}

static void step(const sgm_kernels *kernels, const sgm_score_tile *tile, sgm_real *score, int64_t ld, const state *at,
                 sgm_real *rescale) {
    kernels->softmax_step(tile, score, ld, at->top, at->mass, rescale);
}

static void merge(const sgm_kernels *kernels, int64_t S, int64_t rows, const state *total, const state *part) {
    for (int64_t r = 0; r < rows; r++) {
        sgm_real old = total->top[r], new = part->top[r], top = new > old || new != new ? new : old;
        sgm_real keep = sgm_exp(old - top), take = sgm_exp(new - top);
        kernels->scale(S, keep, total->y + r * S, total->y + r * S);
        kernels->axpy(S, take, part->y + r * S, total->y + r * S);
        total->mass[r] = total->mass[r] * keep + part->mass[r] * take;
        total->top[r] = top;
    }
}

static void finish(const sgm_kernels *kernels, int64_t S, const state *row, sgm_real *y, sgm_real *lse) {
    kernels->scale(S, 1 / *row->mass, row->y, y);
    if (lse)
        *lse = *row->top + sgm_log(*row->mass);
}

static void step_backward(const sgm_kernels *kernels, const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld,
                          sgm_real *lse, sgm_real *dot, int64_t stride) {
    kernels->softmax_step_backward(tile, p, dp, ld, lse, dot, stride);
}

static const sgm_attention_kind kind = {
    .rescales = true,
    .in_bf16 = true,
    .begin = begin,
    .step = step,
    .merge = merge,
    .finish = finish,
    .step_backward = step_backward,
};

/* Per row and head: log of the denominator. */
static size_t saved_bytes(const sgm_node *node) {
    const sgm_attention_args *a = node->args;
    return (size_t)(node->in[0].rows * a->heads) * sizeof(sgm_real);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    return sgm_attention_case(&kind, index, benchmark, seed, c, error);
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_causal_attention = {
    .name = "causal_attention",
    .summary = "softmax attention to earlier rows of the same segment",
    .inputs = 3,
    .outputs = 1,
    .args_bytes = sizeof(sgm_attention_args),
    .residual = -1,
    .shape = sgm_attention_shape,
    .saved_bytes = saved_bytes,
    .workspace_bytes = sgm_attention_workspace,
    .forward = sgm_attention_forward,
    .backward = sgm_attention_backward,
    .cases = &cases,
};

sgm_tensor sgm_causal_attention(sgm_walk *walk, sgm_tensor q, sgm_tensor k, sgm_tensor v, int64_t heads,
                                int64_t kv_heads, int64_t layer, const sgm_rows *rows) {
    sgm_attention_args args = {&kind, heads, kv_heads, layer, rows};
    sgm_tensor in[3] = {q, k, v}, out = {0};
    sgm_apply(walk, &sgm_op_causal_attention, &args, in, &out);
    return out;
}
