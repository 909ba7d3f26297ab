// SPDX-License-Identifier: Apache-2.0
/* The hidden layer of a router (ModuleFormer, arXiv 2306.04640): h = gelu(x Wᵀ + b), on which the router's own matrix then works.
 * In f32 whatever the layers compute in, as all of the router is. GELU (arXiv 1606.08415) in its form with tanh, which is
 * x · σ(u) with u = 2 sqrt(2/π) (x + 0.044715 x³), so that it needs no function but exp. Kept for the backward pass: x Wᵀ + b. */
#include <string.h>

#include "base/elementary_inline.h"
#include "base/memory.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "op/ops.h"
#include "tensor/products.h"

typedef struct gate_args {
    const sgm_weight *weight, *bias; /* (N, D), (1, N) */
} gate_args;

#define TWICE_ROOT ((sgm_real)1.5957691216057307117597842397375) /* 2 sqrt(2/π) */
#define CUBE ((sgm_real)0.044715)

static inline sgm_real sigma_of(sgm_real x) {
    return 1 / (1 + sgm_exp_inline(-TWICE_ROOT * (x + CUBE * x * x * x)));
}

static void gelu(int64_t n, const sgm_real *x, sgm_real *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * sigma_of(x[i]);
}

/* dx = dy · gelu'(x) */
static void gelu_backward(int64_t n, const sgm_real *x, const sgm_real *dy, sgm_real *dx) {
    for (int64_t i = 0; i < n; i++) {
        sgm_real s = sigma_of(x[i]), slope = TWICE_ROOT * (1 + 3 * CUBE * x[i] * x[i]);
        dx[i] = dy[i] * (s + x[i] * s * (1 - s) * slope);
    }
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const gate_args *a = node->args;
    if (a->weight->cols != node->in[0].cols || a->bias->cols != a->weight->rows || a->bias->rows != 1)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "gate_hidden: x has %lld columns, the weight %s is (%lld, %lld), the bias (%lld, %lld)",
                        (long long)node->in[0].cols, a->weight->name ? a->weight->name : "", (long long)a->weight->rows,
                        (long long)a->weight->cols, (long long)a->bias->rows, (long long)a->bias->cols);
    out[0].rows = node->in[0].rows;
    out[0].cols = a->weight->rows;
    sgm_status status = sgm_weight_check_data(node, a->weight, error);
    return status ? status : sgm_weight_check_data(node, a->bias, error);
}

static size_t pre_bytes(const sgm_node *node) {
    const gate_args *a = node->args;
    return (size_t)(node->in[0].rows * a->weight->rows) * sizeof(sgm_real);
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    (void)threads;
    return backward ? pre_bytes(node) : 0;
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const gate_args *a = node->args;
    int64_t T = node->in[0].rows, D = node->in[0].cols, N = a->weight->rows, begin, end;
    sgm_real *y = node->out[0].data, *pre = node->saved ? node->saved : y;
    sgm_product product = {.kind = SGM_NT,
                           .M = T,
                           .N = N,
                           .K = D,
                           .A = node->in[0].data,
                           .lda = D,
                           .B = a->weight->data,
                           .ldb = D,
                           .C = pre,
                           .ldc = N};
    sgm_products_run(walk, &product, 1);
    sgm_barrier(walk->worker);
    sgm_split(walk->worker, T, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++)
        walk->kernels->axpy(N, 1, a->bias->data, pre + t * N);
    gelu((end - begin) * N, pre + begin * N, y + begin * N);
}

static void backward(sgm_walk *walk, sgm_node *node) {
    const gate_args *a = node->args;
    const sgm_real *dy = sgm_gradient_out(walk, node, 0), *pre = node->saved;
    sgm_real *d_pre = node->workspace;
    int64_t T = node->in[0].rows, D = node->in[0].cols, N = a->weight->rows, begin, end;
    bool add = false;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    sgm_split(walk->worker, T, 1, &begin, &end);
    gelu_backward((end - begin) * N, pre + begin * N, dy + begin * N, d_pre + begin * N);
    sgm_barrier(walk->worker);
    const bool sum = !walk->sets_gradients;
    sgm_product products[2];
    int count = 0;
    if (a->weight->gradient)
        products[count++] = (sgm_product){
            SGM_TN, N, D, T, d_pre, N, node->in[0].data, D, a->weight->gradient, D, sum, NULL, SGM_COMPUTE_F32, NULL};
    if (dx)
        products[count++] =
            (sgm_product){SGM_NN, T, D, N, d_pre, N, a->weight->data, D, dx, D, add, NULL, SGM_COMPUTE_F32, NULL};
    sgm_products_run(walk, products, count);
    if (!a->bias->gradient)
        return;
    sgm_split(walk->worker, N, 16, &begin, &end);
    if (end > begin && walk->sets_gradients)
        memset(a->bias->gradient + begin, 0, (size_t)(end - begin) * sizeof(sgm_real));
    for (int64_t t = 0; t < T && end > begin; t++) /* rows in order: the cut into micro-batches changes no byte */
        walk->kernels->axpy(end - begin, 1, d_pre + t * N + begin, a->bias->gradient + begin);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t T[] = {1, 6, 40}, D[] = {8, 9, 16}, N[] = {5, 20, 32};
    static const char *const names[] = {"one row", "few rows", "rows"};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = names[index];
    c->rows[0] = benchmark ? 4096 : T[index];
    c->cols[0] = benchmark ? 192 : D[index];
    int64_t hidden = benchmark ? 64 : N[index];
    gate_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_weight *weight = sgm_case_weight(c, "weight", hidden, c->cols[0], 0.5, seed);
    sgm_weight *bias = sgm_case_weight(c, "bias", 1, hidden, 0.5, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (gate_args){weight, bias};
    c->flops = 2.0 * (double)(c->rows[0] * c->cols[0] * hidden);
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_gate_hidden = {
    .name = "gate_hidden",
    .summary = "gelu(x Wᵀ + b), the hidden layer of a router",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(gate_args),
    .residual = -1,
    .shape = shape,
    .saved_bytes = pre_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_gate_hidden(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight, const sgm_weight *bias) {
    gate_args args = {weight, bias};
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_gate_hidden, &args, &x, &out);
    return out;
}
