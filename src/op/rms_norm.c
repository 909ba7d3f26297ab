// SPDX-License-Identifier: Apache-2.0
/* RMSNorm (arXiv 1910.07467): y = x / sqrt(mean(x²) + epsilon) · gain. Kept for the backward pass: 1/rms of each row. */
#include <string.h>

#include "base/memory.h"
#include "op/op_case.h"
#include "op/ops.h"

typedef struct rms_norm_args {
    const sgm_weight *gain; /* (1, D) */
    double epsilon;
} rms_norm_args;

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const rms_norm_args *a = node->args;
    if (a->gain->cols != node->in[0].cols)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "rms_norm: %lld columns but a gain of %lld",
                        (long long)node->in[0].cols, (long long)a->gain->cols);
    out[0].rows = node->in[0].rows;
    out[0].cols = node->in[0].cols;
    return SGM_OK;
}

static size_t saved_bytes(const sgm_node *node) {
    return (size_t)node->in[0].rows * sizeof(sgm_real);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const rms_norm_args *a = node->args;
    int64_t D = node->in[0].cols, begin, end;
    sgm_real *inv = node->saved;
    sgm_split(walk->worker, node->in[0].rows, 1, &begin, &end);
    walk->kernels->rms_norm(end - begin, D, node->in[0].data + begin * D, D, a->gain->data, a->epsilon,
                            node->out[0].data + begin * D, D, inv ? inv + begin : NULL);
}

static void backward(sgm_walk *walk, sgm_node *node) {
    const rms_norm_args *a = node->args;
    const sgm_real *dy = sgm_gradient_out(walk, node, 0), *inv = node->saved, *x = node->in[0].data;
    int64_t T = node->in[0].rows, D = node->in[0].cols, begin, end;
    bool add = false;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    if (dx) {
        sgm_split(walk->worker, T, 1, &begin, &end);
        walk->kernels->rms_norm_backward(end - begin, D, x + begin * D, D, a->gain->data, inv + begin, dy + begin * D,
                                         D, dx + begin * D, D, add);
    }
    if (a->gain->gradient) {
        sgm_split(walk->worker, D, 16, &begin, &end);
        if (end > begin && walk->sets_gradients)
            memset(a->gain->gradient + begin, 0, (size_t)(end - begin) * sizeof(sgm_real));
        if (end > begin)
            walk->kernels->rms_norm_gain(T, end - begin, x + begin, D, inv, dy + begin, D, a->gain->gradient + begin);
    }
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t T[] = {5, 1, 33}, D[] = {24, 7, 48};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = index == 1 ? "one odd row" : "rows";
    c->rows[0] = benchmark ? 4096 : T[index];
    c->cols[0] = benchmark ? 192 : D[index];
    rms_norm_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_weight *gain = sgm_case_weight(c, "gain", 1, c->cols[0], 1, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (rms_norm_args){gain, 1e-6};
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_rms_norm = {
    .name = "rms_norm",
    .summary = "x / rms(x) · gain",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(rms_norm_args),
    .residual = -1,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_rms_norm(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, double epsilon) {
    rms_norm_args args = {gain, epsilon};
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_rms_norm, &args, &x, &out);
    return out;
}
