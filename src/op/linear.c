// SPDX-License-Identifier: Apache-2.0
/* Linear maps, y = x Wᵀ, with or without a residual that is added on the way. */
#include "base/memory.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "op/ops.h"

typedef struct linear_args {
    const sgm_weight *weight; /* (N, D) */
} linear_args;

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const linear_args *a = node->args;
    const sgm_tensor *x = &node->in[0], *r = &node->in[1];
    if (a->weight->cols != x->cols)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "%s: x has %lld columns, the weight %s is (%lld, %lld)",
                        node->op->name, (long long)x->cols, a->weight->name ? a->weight->name : "",
                        (long long)a->weight->rows, (long long)a->weight->cols);
    if (node->op->residual == 1 && (r->rows != x->rows || r->cols != a->weight->rows))
        return sgm_fail(error, SGM_EARGUMENT, NULL, "%s: the residual is (%lld, %lld), the product (%lld, %lld)",
                        node->op->name, (long long)r->rows, (long long)r->cols, (long long)x->rows,
                        (long long)a->weight->rows);
    out[0].rows = x->rows;
    out[0].cols = a->weight->rows;
    return node->recorded ? sgm_weight_check_data(node, a->weight, error) : SGM_OK;
}

/* Activations of a weight that has no f32 data. */
static sgm_operand operand(const sgm_node *node) {
    const linear_args *a = node->args;
    sgm_matrix matrix = sgm_weight_matrix(a->weight);
    return (sgm_operand){
        .rows = node->in[0].rows, .cols = node->in[0].cols, .integers = sgm_matrix_is_integer(&matrix)};
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    sgm_operand o = operand(node);
    return backward ? 0 : sgm_operand_bytes(&o, threads);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const linear_args *a = node->args;
    const sgm_tensor *x = &node->in[0], *y = &node->out[0];
    const sgm_real *residual = node->op->residual == 1 ? node->in[1].data : NULL;
    if (!a->weight->data) {
        sgm_operand o = operand(node);
        sgm_stored_product product = {
            .M = x->rows, .B = a->weight->stored, .C = y->data, .ldc = y->cols, .residual = residual};
        product.A = sgm_operand_make(walk, &o, x->data, node->workspace);
        sgm_stored_products_run(walk, &product, 1);
        return;
    }
    sgm_product product = {.kind = SGM_NT,
                           .M = x->rows,
                           .N = a->weight->rows,
                           .K = x->cols,
                           .A = x->data,
                           .lda = x->cols,
                           .B = a->weight->data,
                           .ldb = x->cols,
                           .C = y->data,
                           .ldc = y->cols,
                           .residual = residual,
                           .compute = walk->compute,
                           .rounded = a->weight->rounded};
    sgm_products_run(walk, &product, 1);
}

static void backward(sgm_walk *walk, sgm_node *node) {
    const linear_args *a = node->args;
    const sgm_weight *w = a->weight;
    const sgm_tensor *x = &node->in[0];
    sgm_real *dy = (sgm_real *)sgm_gradient_out(walk, node, 0);
    bool add = false, sum = !walk->sets_gradients;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    sgm_product products[2];
    int count = 0;
    if (w->gradient)
        products[count++] = (sgm_product){SGM_TN,  w->rows,     w->cols, x->rows, dy,   w->rows,       x->data,
                                          x->cols, w->gradient, w->cols, sum,     NULL, walk->compute, NULL};
    if (dx)
        products[count++] = (sgm_product){SGM_NN,  x->rows, w->cols, w->rows, dy,   w->rows,       w->data,
                                          w->cols, dx,      x->cols, add,     NULL, walk->compute, w->rounded};
    sgm_products_run(walk, products, count);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t T[] = {1, 7, 70}, D[] = {9, 16, 33}, N[] = {5, 24, 20};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = index == 0 ? "one row" : "rows";
    c->rows[0] = c->rows[1] = benchmark ? 4096 : T[index];
    c->cols[0] = benchmark ? 192 : D[index];
    c->cols[1] = benchmark ? 192 : N[index];
    linear_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_weight *weight = sgm_case_weight(c, "weight", c->cols[1], c->cols[0], 0.5, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (linear_args){weight};
    c->flops = 2.0 * (double)(c->rows[0] * c->cols[0] * c->cols[1]);
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_linear = {
    .name = "linear",
    .summary = "x Wᵀ",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(linear_args),
    .residual = -1,
    .shape = shape,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

const sgm_op sgm_op_linear_residual = {
    .name = "linear_residual",
    .summary = "residual + x Wᵀ",
    .inputs = 2,
    .outputs = 1,
    .args_bytes = sizeof(linear_args),
    .residual = 1,
    .shape = shape,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_linear(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight) {
    linear_args args = {weight};
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_linear, &args, &x, &out);
    return out;
}

sgm_tensor sgm_linear_residual(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight, sgm_tensor residual) {
    linear_args args = {weight};
    sgm_tensor in[2] = {x, residual}, out = {0};
    sgm_apply(walk, &sgm_op_linear_residual, &args, in, &out);
    return out;
}
