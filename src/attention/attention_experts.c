// SPDX-License-Identifier: Apache-2.0
/* Queries and outputs of attention experts (attention_experts.h): in both a matrix of each expert meets the rows that chose it.
 * Rows are gathered in the order of their experts, so that an expert's rows are one product; tiles of all experts' products are
 * tasks of one phase, and no cut changes a byte (kernels.h). Nothing is kept for the backward pass: rows are gathered again. */
#include "attention/attention_experts.h"

#include <string.h>

#include "base/memory.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "tensor/products.h"

enum { QUERIES, OUTPUTS, HALVES }; /* of an expert */

typedef struct mixture {
    const sgm_attention_experts_args *args;
    const sgm_routing *record;
    sgm_worker *worker;
    const sgm_kernels *kernels;
    int64_t T, D, K, W, G, run; /* W = H·S; run = H/G·S: columns that stay together */
    sgm_real *narrow, *wide;    /* (A, W), (A, D) rows by expert: heads; what stands at the model's width */
    sgm_real *narrow_too;       /* backward of the outputs: gradients of the heads */
    sgm_product *products;      /* (2·experts) of this thread */
} mixture;

static mixture sizes(const sgm_node *node, int64_t rows, int64_t model) {
    const sgm_attention_experts_args *a = node->args;
    int64_t W = a->experts[QUERIES].rows;
    return (mixture){.args = a,
                     .record = a->record,
                     .T = rows,
                     .D = model,
                     .K = a->experts_per_token,
                     .W = W,
                     .G = a->kv_heads,
                     .run = W / a->kv_heads};
}

static size_t place(mixture *m, char *block, int thread, int threads, bool twice) {
    size_t used = 0, rows = (size_t)(m->T * m->K), count = (size_t)(HALVES * m->args->count);
    m->narrow = sgm_carve(block, &used, rows * (size_t)m->W, sizeof(sgm_real));
    m->wide = sgm_carve(block, &used, rows * (size_t)m->D, sizeof(sgm_real));
    if (twice)
        m->narrow_too = sgm_carve(block, &used, rows * (size_t)m->W, sizeof(sgm_real));
    sgm_product *all = sgm_carve(block, &used, count * (size_t)threads, sizeof *all);
    m->products = all ? all + count * (size_t)thread : NULL;
    return used;
}

static void run_on(mixture *m, const sgm_walk *walk, void *workspace, bool twice) {
    m->worker = walk->worker;
    m->kernels = walk->kernels;
    place(m, workspace, walk->worker->thread, walk->worker->threads, twice);
}

static sgm_status check(const sgm_node *node, const char *name, int64_t rows, int64_t model, int64_t heads,
                        sgm_error *error) {
    const sgm_attention_experts_args *a = node->args;
    bool fits = a->count >= 1 && a->experts_per_token >= 1 && a->kv_heads >= 1 && a->heads >= 1 &&
                a->heads % a->kv_heads == 0 && a->experts[QUERIES].rows % a->heads == 0 &&
                heads == a->experts_per_token * a->experts[QUERIES].rows && rows <= INT32_MAX / a->experts_per_token;
    sgm_status status = SGM_OK;
    for (int64_t e = 0; fits && !status && e < a->count; e++) {
        const sgm_weight *q = &a->experts[HALVES * e + QUERIES], *o = &a->experts[HALVES * e + OUTPUTS];
        fits = q->cols == model && o->rows == model && q->rows == a->experts->rows && o->cols == q->rows;
        status = sgm_weight_check_data(node, q, error);
        if (!status)
            status = sgm_weight_check_data(node, o, error);
    }
    if (fits)
        return status;
    return sgm_fail(
        error, SGM_EARGUMENT, NULL,
        "%s: %lld columns of heads at a width of %lld do not fit %lld experts for each of %lld rows, with %lld "
        "heads and queries (%lld, %lld)",
        name, (long long)heads, (long long)model, (long long)a->experts_per_token, (long long)rows, (long long)a->heads,
        (long long)a->experts->rows, (long long)a->experts->cols);
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

/* Heads of one slot, from a row of all slots' or back into it. */
static void take_heads(const mixture *m, const sgm_real *row, int64_t slot, sgm_real *own) {
    for (int64_t g = 0; g < m->G; g++)
        memcpy(own + g * m->run, row + (g * m->K + slot) * m->run, (size_t)m->run * sizeof *own);
}

static void put_heads(const mixture *m, const sgm_real *own, int64_t slot, sgm_real *row) {
    for (int64_t g = 0; g < m->G; g++) {
        sgm_real *to = row + (g * m->K + slot) * m->run;
        if (own)
            memcpy(to, own + g * m->run, (size_t)m->run * sizeof *to);
        else
            memset(to, 0, (size_t)m->run * sizeof *to);
    }
}

/* This thread's share of the rows by expert: of heads (T, K·W) into `to`, of (T, D) into m->wide. */
static void gather_heads(const mixture *m, const sgm_real *from, sgm_real *to) {
    int64_t begin, end;
    sgm_split(m->worker, m->record->assignments, 1, &begin, &end);
    for (int64_t row = begin; row < end; row++)
        take_heads(m, from + m->record->item[row] * m->K * m->W, m->record->slot[row], to + row * m->W);
}

static void gather_wide(const mixture *m, const sgm_real *from) {
    int64_t begin, end;
    sgm_split(m->worker, m->record->assignments, 1, &begin, &end);
    for (int64_t row = begin; row < end; row++)
        memcpy(m->wide + row * m->D, from + m->record->item[row] * m->D, (size_t)m->D * sizeof *from);
}

/* The heads of all slots of this thread's tokens from `from`, by expert; `add`: to what is there. */
static void scatter_heads(const mixture *m, const sgm_real *from, sgm_real *to, bool add) {
    int64_t begin, end, cols = m->K * m->W;
    sgm_split(m->worker, m->T, 1, &begin, &end);
    for (int64_t place = begin * m->K; place < end * m->K; place++) {
        int64_t row = m->record->position[place], slot = place % m->K;
        const sgm_real *own = row >= 0 ? from + row * m->W : NULL;
        sgm_real *of_token = to + place / m->K * cols;
        if (!add)
            put_heads(m, own, slot, of_token);
        for (int64_t g = 0; add && own && g < m->G; g++)
            m->kernels->axpy(m->run, 1, own + g * m->run, of_token + (g * m->K + slot) * m->run);
    }
}

/* ---- products ------------------------------------------------------------------------------------------------------ */

typedef enum direction { FORWARD, BACK, GRADIENT } direction;

/* One half's products of all experts with rows: out = in · weightᵀ, in = out · weight, weight gradient = or += outᵀ · in (set to
 * zero where there are no rows). */
static int list_products(const mixture *m, const sgm_walk *walk, int half, direction way, sgm_real *in, sgm_real *out,
                         sgm_product *products) {
    int count = 0;
    for (int64_t e = 0; e < m->args->count; e++) {
        const sgm_weight *w = &m->args->experts[HALVES * e + half];
        int64_t first = m->record->offset[e], rows = m->record->offset[e + 1] - first, R = w->rows, C = w->cols;
        sgm_real *x = in + first * C, *y = out + first * R;
        bool sets = way == GRADIENT && walk->sets_gradients;
        if ((rows == 0 && !sets) || (way == GRADIENT && !w->gradient))
            continue;
        products[count++] =
            way == FORWARD
                ? (sgm_product){SGM_NT, rows, R, C, x, C, w->data, C, y, R, false, NULL, walk->compute, w->rounded}
            : way == BACK
                ? (sgm_product){SGM_NN, rows, C, R, y, R, w->data, C, x, C, false, NULL, walk->compute, w->rounded}
                : (sgm_product){SGM_TN, R, C, rows, y, R, x, C, w->gradient, C, !sets, NULL, walk->compute, NULL};
    }
    return count;
}

static void run_products(const mixture *m, sgm_walk *walk, int half, direction way, sgm_real *in, sgm_real *out) {
    int count = list_products(m, walk, half, way, in, out, m->products);
    sgm_products_run(walk, m->products, count);
    sgm_barrier(m->worker);
}

/* ---- queries ------------------------------------------------------------------------------------------------------- */

static sgm_status queries_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_attention_experts_args *a = node->args;
    out[0].rows = node->in[0].rows;
    out[0].cols = a->experts_per_token * a->experts[QUERIES].rows;
    return check(node, "attention_queries", node->in[0].rows, node->in[0].cols, out[0].cols, error);
}

static size_t queries_workspace(const sgm_node *node, int threads, bool backward) {
    mixture m = sizes(node, node->in[0].rows, node->in[0].cols);
    (void)backward;
    return place(&m, NULL, 0, threads, false);
}

static void queries_forward(sgm_walk *walk, sgm_node *node) {
    mixture m = sizes(node, node->in[0].rows, node->in[0].cols);
    run_on(&m, walk, node->workspace, false);
    gather_wide(&m, node->in[0].data);
    sgm_barrier(m.worker);
    run_products(&m, walk, QUERIES, FORWARD, m.wide, m.narrow);
    scatter_heads(&m, m.narrow, node->out[0].data, false);
}

static void queries_backward(sgm_walk *walk, sgm_node *node) {
    mixture m = sizes(node, node->in[0].rows, node->in[0].cols);
    run_on(&m, walk, node->workspace, false);
    bool add = false;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    int64_t begin, end;
    gather_wide(&m, node->in[0].data);
    gather_heads(&m, sgm_gradient_out(walk, node, 0), m.narrow);
    sgm_barrier(m.worker);
    run_products(&m, walk, QUERIES, GRADIENT, m.wide, m.narrow);
    if (!dx)
        return;
    run_products(&m, walk, QUERIES, BACK, m.wide, m.narrow);
    sgm_split(m.worker, m.T, 1, &begin, &end);
    if (!add && end > begin)
        memset(dx + begin * m.D, 0, (size_t)((end - begin) * m.D) * sizeof *dx);
    for (int64_t place = begin * m.K; place < end * m.K; place++)
        if (m.record->position[place] >= 0)
            m.kernels->axpy(m.D, 1, m.wide + m.record->position[place] * m.D, dx + place / m.K * m.D);
}

/* ---- outputs ------------------------------------------------------------------------------------------------------- */

static sgm_status outputs_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_attention_experts_args *a = node->args;
    const sgm_tensor *y = &node->in[0], *w = &node->in[1], *r = &node->in[2];
    if (w->rows != y->rows || w->cols != a->experts_per_token || r->rows != y->rows)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "attention_outputs: heads of %lld rows, weights (%lld, %lld), a residual of %lld rows",
                        (long long)y->rows, (long long)w->rows, (long long)w->cols, (long long)r->rows);
    out[0].rows = r->rows;
    out[0].cols = r->cols;
    return check(node, "attention_outputs", y->rows, r->cols, y->cols, error);
}

static size_t outputs_workspace(const sgm_node *node, int threads, bool backward) {
    mixture m = sizes(node, node->in[2].rows, node->in[2].cols);
    return place(&m, NULL, 0, threads, backward);
}

/* out = residual + Σ weight · (what an expert makes of its heads), in slot order. */
static void outputs_forward(sgm_walk *walk, sgm_node *node) {
    mixture m = sizes(node, node->in[2].rows, node->in[2].cols);
    run_on(&m, walk, node->workspace, false);
    const sgm_real *weight = node->in[1].data, *residual = node->in[2].data;
    sgm_real *out = node->out[0].data;
    int64_t begin, end;
    gather_heads(&m, node->in[0].data, m.narrow);
    sgm_barrier(m.worker);
    run_products(&m, walk, OUTPUTS, FORWARD, m.narrow, m.wide);
    sgm_split(m.worker, m.T, 1, &begin, &end);
    if (out != residual && end > begin)
        memcpy(out + begin * m.D, residual + begin * m.D, (size_t)((end - begin) * m.D) * sizeof *out);
    for (int64_t place = begin * m.K; place < end * m.K; place++)
        if (m.record->position[place] >= 0)
            m.kernels->axpy(m.D, weight[place], m.wide + m.record->position[place] * m.D, out + place / m.K * m.D);
}

/* d(weight) = heads · g with g = outputᵀ dy, which needs no expert's output again; then heads become weight · heads, which is
 * what the outputs' gradients multiply, and g becomes weight · g, the gradient of the heads. */
static void weigh_back(const mixture *m, const sgm_real *weight, sgm_real *d_weight, bool add) {
    int64_t begin, end;
    sgm_split(m->worker, m->T, 1, &begin, &end);
    for (int64_t place = begin * m->K; place < end * m->K; place++) {
        int64_t row = m->record->position[place];
        sgm_real *heads = row >= 0 ? m->narrow + row * m->W : NULL, *g = row >= 0 ? m->narrow_too + row * m->W : NULL;
        if (d_weight)
            d_weight[place] = (add ? d_weight[place] : 0) + (heads ? m->kernels->dot(m->W, heads, g) : 0);
        if (!heads)
            continue;
        m->kernels->scale(m->W, weight[place], heads, heads);
        m->kernels->scale(m->W, weight[place], g, g);
    }
}

static void outputs_backward(sgm_walk *walk, sgm_node *node) {
    mixture m = sizes(node, node->in[2].rows, node->in[2].cols);
    run_on(&m, walk, node->workspace, true);
    bool add_heads = false, add_weight = false;
    sgm_real *d_heads = sgm_gradient_in(walk, node, 0, &add_heads);
    sgm_real *d_weight = sgm_gradient_in(walk, node, 1, &add_weight);
    gather_heads(&m, node->in[0].data, m.narrow);
    gather_wide(&m, sgm_gradient_out(walk, node, 0));
    sgm_barrier(m.worker);
    run_products(&m, walk, OUTPUTS, BACK, m.narrow_too, m.wide);
    weigh_back(&m, node->in[1].data, d_weight, add_weight);
    sgm_barrier(m.worker);
    run_products(&m, walk, OUTPUTS, GRADIENT, m.narrow, m.wide);
    if (d_heads)
        scatter_heads(&m, m.narrow_too, d_heads, add_heads);
}

/* ---- cases --------------------------------------------------------------------------------------------------------- */

typedef struct shape_of_case {
    const char *name;
    int64_t T, D, A, K, H, G, S;
    bool gaps; /* some slots are not used */
} shape_of_case;

static const shape_of_case shapes[] = {
    {"one row", 1, 8, 3, 2, 2, 1, 4, false},
    {"one expert of each row", 17, 9, 4, 1, 2, 2, 4, false},
    {"two experts, two key heads", 21, 8, 4, 2, 4, 2, 4, false},
    {"experts with no rows", 5, 8, 12, 2, 2, 2, 4, false},
    {"slots that are not used", 30, 7, 4, 3, 4, 2, 2, true},
    {"one expert with many rows", 300, 5, 1, 1, 2, 1, 2, false},
};
static const shape_of_case benchmark_shape = {"nano", 4096, 192, 16, 2, 3, 1, 32, false};

/* Slot k of row t goes to expert (t·t + k) mod A. */
static bool fill_record(sgm_op_case *c, const shape_of_case *s, sgm_routing *record) {
    void *block = sgm_case_alloc(c, sgm_routing_bytes(s->T, s->A, s->K));
    if (!block)
        return false;
    sgm_routing_place(record, block, s->T, s->A, s->K);
    for (int64_t place = 0; place < s->T * s->K; place++) {
        int64_t t = place / s->K, k = place % s->K;
        bool used = !s->gaps || (t + k) % 3 != 0;
        record->expert[place] = used ? (int32_t)((t * t + k) % s->A) : -1;
        record->weight[place] = used ? (sgm_real)0.3 + (sgm_real)0.1 * (sgm_real)(place % 5) : 0;
        record->flags[place] = 0;
    }
    sgm_routing_sort_alone(record);
    return true;
}

/* The same experts and record for both ops: their args. */
static sgm_status make_with(int index, bool benchmark, sgm_op_case *c, const shape_of_case **shape, sgm_error *error) {
    int count = benchmark ? 1 : (int)(sizeof shapes / sizeof *shapes);
    if (index < 0 || index >= count)
        return SGM_ENOTFOUND;
    const shape_of_case *s = *shape = benchmark ? &benchmark_shape : &shapes[index];
    int64_t W = s->H * s->S;
    c->name = s->name;
    c->flops = 2.0 * (double)(s->T * s->K * s->D * W);
    sgm_attention_experts_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_weight *experts = sgm_case_alloc(c, (size_t)(HALVES * s->A) * sizeof *experts);
    sgm_routing *record = sgm_case_alloc(c, sizeof *record);
    if (!experts || !record || !args || !fill_record(c, s, record))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (sgm_attention_experts_args){experts, s->A, s->K, s->H, s->G, record};
    return SGM_OK;
}

/* All experts' matrices of one half as one variable; the other half has no gradient. */
static sgm_status add_half(sgm_op_case *c, const shape_of_case *s, int half, uint64_t seed, sgm_error *error) {
    const sgm_attention_experts_args *args = c->args;
    sgm_weight *experts = (sgm_weight *)(uintptr_t)args->experts;
    int64_t W = s->H * s->S, numbers = W * s->D;
    sgm_weight *all = sgm_case_weight(c, half == QUERIES ? "queries" : "outputs", s->A * W, s->D, 0.4, seed);
    if (!all)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    for (int64_t e = 0; e < s->A; e++)
        for (int h = 0; h < HALVES; h++) {
            sgm_weight *w = &experts[HALVES * e + h];
            *w = *all;
            w->rows = h == QUERIES ? W : s->D;
            w->cols = h == QUERIES ? s->D : W;
            w->data = all->data + e * numbers;
            w->gradient = h == half ? all->gradient + e * numbers : NULL;
        }
    return SGM_OK;
}

static sgm_status make_queries(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    const shape_of_case *s;
    sgm_status status = make_with(index, benchmark, c, &s, error);
    if (status)
        return status;
    c->rows[0] = s->T;
    c->cols[0] = s->D;
    return add_half(c, s, QUERIES, seed, error);
}

static sgm_status make_outputs(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    const shape_of_case *s;
    sgm_status status = make_with(index, benchmark, c, &s, error);
    if (status)
        return status;
    c->rows[0] = c->rows[1] = c->rows[2] = s->T;
    c->cols[0] = s->K * s->H * s->S;
    c->cols[1] = s->K;
    c->cols[2] = s->D;
    return add_half(c, s, OUTPUTS, seed, error);
}

static const sgm_op_cases queries_cases = {make_queries, sgm_case_free}, outputs_cases = {make_outputs, sgm_case_free};

const sgm_op sgm_op_attention_queries = {
    .name = "attention_queries",
    .summary = "queries of the attention experts that a row chose",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(sgm_attention_experts_args),
    .residual = -1,
    .shape = queries_shape,
    .workspace_bytes = queries_workspace,
    .forward = queries_forward,
    .backward = queries_backward,
    .cases = &queries_cases,
};

const sgm_op sgm_op_attention_outputs = {
    .name = "attention_outputs",
    .summary = "residual + sum over the chosen attention experts of weight · output of its heads",
    .inputs = 3,
    .outputs = 1,
    .args_bytes = sizeof(sgm_attention_experts_args),
    .residual = 2,
    .shape = outputs_shape,
    .workspace_bytes = outputs_workspace,
    .forward = outputs_forward,
    .backward = outputs_backward,
    .cases = &outputs_cases,
};

sgm_tensor sgm_attention_queries(sgm_walk *walk, sgm_tensor h, const sgm_attention_experts_args *args) {
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_attention_queries, args, &h, &out);
    return out;
}

sgm_tensor sgm_attention_outputs(sgm_walk *walk, sgm_tensor y, sgm_tensor weights, sgm_tensor residual,
                                 const sgm_attention_experts_args *args) {
    sgm_tensor in[3] = {y, weights, residual}, out = {0};
    sgm_apply(walk, &sgm_op_attention_outputs, args, in, &out);
    return out;
}
