// SPDX-License-Identifier: Apache-2.0
/* Heads before attention: RMSNorm of each head (QK-norm, arXiv 2302.05442), then rotation by position (RoPE,
 * arXiv 2104.09864) in the "rotate half" pairing; either may be left out. Kept for the backward pass: 1/rms of each row's heads. */
#include <string.h>

#include "base/elementary.h"
#include "base/memory.h"
#include "op/op_case.h"
#include "op/ops.h"
#include "op/rope.h"

typedef sgm_rope_args rope_args;

sgm_status sgm_rope_table_init(sgm_rope_table *table, int64_t positions, int64_t head_size, double theta,
                               sgm_error *error) {
    int64_t half = head_size / 2;
    size_t bytes = (size_t)positions * (size_t)half * sizeof(sgm_real);
    *table = (sgm_rope_table){.positions = positions, .half = half};
    table->cosine = sgm_alloc(bytes);
    table->sine = sgm_alloc(bytes);
    if (!table->cosine || !table->sine) {
        sgm_rope_table_fini(table);
        return sgm_fail(error, SGM_EMEMORY, "set a smaller model.context",
                        "no memory for the rotations of %lld positions", (long long)positions);
    }
    double log_theta = sgm_log64(theta);
    for (int64_t i = 0; i < half; i++) {
        double frequency = sgm_exp64(-log_theta * (double)(2 * i) / (double)head_size);
        for (int64_t p = 0; p < positions; p++) {
            double sine, cosine;
            sgm_sincos((double)p * frequency, &sine, &cosine);
            table->cosine[p * half + i] = (sgm_real)cosine;
            table->sine[p * half + i] = (sgm_real)sine;
        }
    }
    return SGM_OK;
}

void sgm_rope_table_fini(sgm_rope_table *table) {
    sgm_free(table->cosine);
    sgm_free(table->sine);
    *table = (sgm_rope_table){0};
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const rope_args *a = node->args;
    const sgm_tensor *x = &node->in[0];
    int64_t S = sgm_rope_head_size(a);
    if (S < 1 || x->cols != a->heads * S || (a->gain && a->gain->cols != S))
        return sgm_fail(error, SGM_EARGUMENT, NULL, "rope: %lld columns are not %lld heads of %lld", (long long)x->cols,
                        (long long)a->heads, (long long)S);
    out[0].rows = x->rows;
    out[0].cols = x->cols;
    return SGM_OK;
}

static size_t saved_bytes(const sgm_node *node) {
    const rope_args *a = node->args;
    return a->gain ? (size_t)(node->in[0].rows * a->heads) * sizeof(sgm_real) : 0;
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    (void)threads;
    return backward ? (size_t)(node->in[0].rows * node->in[0].cols) * sizeof(sgm_real) : 0;
}

/* Rotate `heads` heads of one row, or copy them where there is no rotation; direction +1 forward, -1 back (the transpose). */
static void rotate_heads(const rope_args *a, int64_t row, int64_t heads, sgm_real direction, const sgm_real *x,
                         sgm_real *y) {
    if (!a->table) {
        if (x != y)
            memcpy(y, x, (size_t)(heads * sgm_rope_head_size(a)) * sizeof *y);
        return;
    }
    int64_t half = a->table->half, position = a->rows->positions[row];
    const sgm_real *cosine = a->table->cosine + position * half, *sine = a->table->sine + position * half;
    for (int64_t h = 0; h < heads; h++, x += 2 * half, y += 2 * half)
        for (int64_t i = 0; i < half; i++) {
            sgm_real first = x[i], second = x[i + half], s = direction * sine[i];
            y[i] = first * cosine[i] - second * s;
            y[i + half] = second * cosine[i] + first * s;
        }
}

static void rotate(const rope_args *a, int64_t row, sgm_real direction, const sgm_real *x, sgm_real *y) {
    rotate_heads(a, row, a->heads, direction, x, y);
}

void sgm_rope_heads(const sgm_kernels *kernels, const sgm_rope_args *a, int64_t row, int64_t heads, sgm_real *x) {
    int64_t S = sgm_rope_head_size(a);
    if (a->gain)
        kernels->rms_norm(heads, S, x, S, a->gain->data, a->epsilon, x, S, NULL);
    rotate_heads(a, row, heads, 1, x, x);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const rope_args *a = node->args;
    int64_t S = sgm_rope_head_size(a), cols = node->in[0].cols, begin, end;
    sgm_real *inv = node->saved;
    sgm_split(walk->worker, node->in[0].rows, 1, &begin, &end);
    const sgm_real *x = node->in[0].data;
    sgm_real *y = node->out[0].data;
    if (a->gain) {
        walk->kernels->rms_norm((end - begin) * a->heads, S, x + begin * cols, S, a->gain->data, a->epsilon,
                                y + begin * cols, S, inv ? inv + begin * a->heads : NULL);
        x = y;
    }
    for (int64_t t = begin; t < end; t++)
        rotate(a, t, 1, x + t * cols, y + t * cols);
}

static void backward(sgm_walk *walk, sgm_node *node) {
    const rope_args *a = node->args;
    const sgm_real *dy = sgm_gradient_out(walk, node, 0), *inv = node->saved, *x = node->in[0].data;
    int64_t T = node->in[0].rows, S = sgm_rope_head_size(a), cols = node->in[0].cols, H = a->heads, begin, end;
    sgm_real *turned = node->workspace; /* dy rotated back */
    bool add = false;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    sgm_split(walk->worker, T, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++)
        rotate(a, t, -1, dy + t * cols, turned + t * cols);
    if (!a->gain) {
        if (dx && add)
            walk->kernels->axpy((end - begin) * cols, 1, turned + begin * cols, dx + begin * cols);
        else if (dx && end > begin)
            memcpy(dx + begin * cols, turned + begin * cols, (size_t)((end - begin) * cols) * sizeof(sgm_real));
        return;
    }
    if (dx)
        walk->kernels->rms_norm_backward((end - begin) * H, S, x + begin * cols, S, a->gain->data, inv + begin * H,
                                         turned + begin * cols, S, dx + begin * cols, S, add);
    if (!a->gain->gradient)
        return;
    sgm_barrier(walk->worker);
    sgm_split(walk->worker, S, 16, &begin, &end);
    if (end > begin && walk->sets_gradients)
        memset(a->gain->gradient + begin, 0, (size_t)(end - begin) * sizeof(sgm_real));
    if (end > begin)
        walk->kernels->rms_norm_gain(T * H, end - begin, x + begin, S, inv, turned + begin, S,
                                     a->gain->gradient + begin);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const char *const names[] = {"with norm", "rotation only", "norm only"};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    int64_t H = benchmark ? 6 : 3, S = benchmark ? 32 : 8, lengths[] = {benchmark ? 4000 : 5, benchmark ? 96 : 2};
    c->name = names[index];
    rope_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_rows *rows = sgm_case_rows(c, lengths, 2, 7, seed);
    sgm_weight *gain = index != 1 ? sgm_case_weight(c, "gain", 1, S, 1, seed) : NULL;
    sgm_rope_table *table = sgm_case_alloc(c, sizeof *table);
    size_t bytes = (size_t)(lengths[0] * S / 2) * sizeof(sgm_real);
    sgm_real *cosine = sgm_case_alloc(c, bytes), *sine = sgm_case_alloc(c, bytes);
    sgm_rope_table made;
    if (sgm_case_failed(c) || sgm_rope_table_init(&made, lengths[0], S, 1e4, error))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    memcpy(cosine, made.cosine, bytes);
    memcpy(sine, made.sine, bytes);
    sgm_rope_table_fini(&made);
    *table = (sgm_rope_table){lengths[0], S / 2, cosine, sine};
    *args = (rope_args){gain, H, 1e-6, index == 2 ? NULL : table, rows};
    c->rows[0] = rows->rows;
    c->cols[0] = H * S;
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_rope = {
    .name = "rope",
    .summary = "norm of each head, then rotation by position",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(rope_args),
    .residual = -1,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_rope(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, int64_t heads, double epsilon,
                    const sgm_rope_table *table, const sgm_rows *rows) {
    rope_args args = {gain, heads, epsilon, table, rows};
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_rope, &args, &x, &out);
    return out;
}
