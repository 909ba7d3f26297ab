// SPDX-License-Identifier: Apache-2.0
/* Three products of one input that is normalised first: queries, keys and values. Inference's form of rms_norm and three times
 * linear: the input is normalised and quantised once, and one phase reads all three weights. Same bytes as the four ops. */
#include "base/memory.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "op/ops.h"

enum { COUNT = SGM_OP_OUTPUTS };

typedef struct projections_args {
    const sgm_weight *gain; /* (1, D) */
    double epsilon;
    const sgm_weight *weight[COUNT]; /* (N, D) each */
} projections_args;

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const projections_args *a = node->args;
    for (int i = 0; i < COUNT; i++) {
        if (a->weight[i]->cols != node->in[0].cols || a->gain->cols != node->in[0].cols)
            return sgm_fail(error, SGM_EARGUMENT, NULL,
                            "projections: %lld columns, but a gain of %lld and the weight %s of (%lld, %lld)",
                            (long long)node->in[0].cols, (long long)a->gain->cols,
                            a->weight[i]->name ? a->weight[i]->name : "", (long long)a->weight[i]->rows,
                            (long long)a->weight[i]->cols);
        out[i].rows = node->in[0].rows;
        out[i].cols = a->weight[i]->rows;
    }
    return sgm_weight_check_data(node, a->gain, error);
}

static sgm_operand operand(const sgm_node *node) {
    const projections_args *a = node->args;
    sgm_operand o = {
        .rows = node->in[0].rows, .cols = node->in[0].cols, .gain = a->gain, .epsilon = a->epsilon, .integers = false};
    for (int i = 0; i < COUNT; i++) {
        sgm_matrix matrix = sgm_weight_matrix(a->weight[i]);
        o.integers = o.integers || sgm_matrix_is_integer(&matrix);
    }
    return o;
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    sgm_operand o = operand(node);
    return backward ? 0 : sgm_operand_bytes(&o, threads);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const projections_args *a = node->args;
    sgm_operand o = operand(node);
    sgm_activations x = sgm_operand_make(walk, &o, node->in[0].data, node->workspace);
    sgm_stored_product products[COUNT];
    for (int i = 0; i < COUNT; i++)
        products[i] = (sgm_stored_product){.M = node->in[0].rows,
                                           .A = x,
                                           .B = sgm_weight_matrix(a->weight[i]),
                                           .C = node->out[i].data,
                                           .ldc = node->out[i].cols};
    sgm_stored_products_run(walk, products, COUNT);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t T[] = {1, 4, 150}, D[] = {9, 16, 33}, N[] = {5, 24, 300};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = index == 0 ? "one row" : index == 1 ? "few rows" : "rows";
    c->rows[0] = benchmark ? 4096 : T[index];
    c->cols[0] = benchmark ? 192 : D[index];
    int64_t n = benchmark ? 192 : N[index];
    projections_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_weight *gain = sgm_case_weight(c, "gain", 1, c->cols[0], 1, seed);
    sgm_weight *weight[COUNT];
    for (int i = 0; i < COUNT; i++)
        weight[i] = sgm_case_weight(c, "weight", n + i, c->cols[0], 0.5, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (projections_args){gain, 1e-6, {weight[0], weight[1], weight[2]}};
    c->flops = 2.0 * (double)(c->rows[0] * c->cols[0] * 3 * n);
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_projections = {
    .name = "projections",
    .summary = "norm(x) times three matrices, without a tape",
    .inputs = 1,
    .outputs = COUNT,
    .args_bytes = sizeof(projections_args),
    .residual = -1,
    .shape = shape,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .cases = &cases,
};

void sgm_norm_projections(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, double epsilon,
                          const sgm_weight *const weight[3], sgm_tensor out[3]) {
    if (walk->tape) {
        sgm_tensor h = sgm_rms_norm(walk, x, gain, epsilon);
        for (int i = 0; i < COUNT; i++)
            out[i] = sgm_linear(walk, h, weight[i]);
        return;
    }
    projections_args args = {gain, epsilon, {weight[0], weight[1], weight[2]}};
    sgm_apply(walk, &sgm_op_projections, &args, &x, out);
}
