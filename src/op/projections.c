// SPDX-License-Identifier: Apache-2.0
/* Queries, keys and values: inference's form of rms_norm, three times linear and twice rope. The input is normalised and
 * quantised once, and one phase reads all three weights; with few rows (decoding) whoever computed a run of heads also
 * normalises and rotates them, so that the op is that one phase. Same bytes as the six ops. */
#include "base/memory.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "op/ops.h"
#include "op/rope.h"

enum { COUNT = SGM_OP_OUTPUTS, PIECES_PER_THREAD = 2 };

static const sgm_weight *weight_of(const sgm_projections_args *a, int i) {
    const sgm_weight *const weights[COUNT] = {a->q, a->k, a->v};
    return weights[i];
}

static sgm_rope_args rope_of(const sgm_projections_args *a, int i) {
    return (sgm_rope_args){i == 0 ? a->q_norm : a->k_norm, i == 0 ? a->heads : a->kv_heads, a->epsilon, a->table,
                           a->rows};
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_projections_args *a = node->args;
    int64_t D = node->in[0].cols, S = a->q->rows / a->heads;
    for (int i = 0; i < COUNT; i++) {
        const sgm_weight *w = weight_of(a, i);
        if (w->cols != D || a->norm->cols != D || w->rows != (i == 0 ? a->heads : a->kv_heads) * S)
            return sgm_fail(error, SGM_EARGUMENT, NULL,
                            "projections: %lld columns, a gain of %lld, and the weight %s is (%lld, %lld) for heads of "
                            "%lld",
                            (long long)D, (long long)a->norm->cols, w->name ? w->name : "", (long long)w->rows,
                            (long long)w->cols, (long long)S);
        out[i].rows = node->in[0].rows;
        out[i].cols = w->rows;
    }
    for (int i = 0; i < 2; i++) {
        sgm_rope_args rope = rope_of(a, i);
        if ((rope.gain || rope.table) && sgm_rope_head_size(&rope) != S)
            return sgm_fail(error, SGM_EARGUMENT, NULL, "projections: heads of %lld are normalised or rotated as %lld",
                            (long long)S, (long long)sgm_rope_head_size(&rope));
    }
    if (node->recorded)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "projections: there is no backward pass");
    const sgm_weight *const floats[] = {a->norm, a->q_norm, a->k_norm};
    sgm_status status = SGM_OK;
    for (int i = 0; !status && i < 3; i++)
        if (floats[i])
            status = sgm_weight_check_data(node, floats[i], error);
    return status;
}

static sgm_operand operand(const sgm_node *node) {
    const sgm_projections_args *a = node->args;
    sgm_operand o = {.rows = node->in[0].rows, .cols = node->in[0].cols, .gain = a->norm, .epsilon = a->epsilon};
    for (int i = 0; i < COUNT; i++) {
        sgm_matrix matrix = sgm_weight_matrix(weight_of(a, i));
        o.integers = o.integers || sgm_matrix_is_integer(&matrix);
    }
    return o;
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    sgm_operand o = operand(node);
    return backward ? 0 : sgm_operand_bytes(&o, threads);
}

/* Tasks are runs of whole heads of one weight. */
static void run_few(const sgm_walk *walk, const sgm_node *node, const sgm_stored_product *products) {
    const sgm_projections_args *a = node->args;
    int64_t S = a->q->rows / a->heads, pieces = (int64_t)PIECES_PER_THREAD * walk->worker->threads;
    int64_t most = (a->heads + 2 * a->kv_heads + pieces - 1) / pieces; /* heads of a task */
    int64_t drawn = sgm_task(walk->worker), task = 0;
    for (int i = 0; i < COUNT; i++) {
        sgm_rope_args rope = rope_of(a, i);
        for (int64_t head = 0; head < rope.heads; head += most, task++) {
            if (task != drawn)
                continue;
            int64_t heads = rope.heads - head < most ? rope.heads - head : most;
            sgm_stored_product_tile(walk, &products[i], 0, products[i].M, head * S, heads * S);
            for (int64_t t = 0; i < 2 && sgm_rope_head_size(&rope) && t < products[i].M; t++)
                sgm_rope_heads(walk->kernels, &rope, t, heads, products[i].C + t * products[i].ldc + head * S);
            drawn = sgm_task(walk->worker);
        }
    }
}

static void run_many(sgm_walk *walk, const sgm_node *node, const sgm_stored_product *products) {
    int64_t begin, end;
    sgm_stored_products_run(walk, products, COUNT);
    sgm_barrier(walk->worker);
    sgm_split(walk->worker, products[0].M, 1, &begin, &end);
    for (int i = 0; i < 2; i++) {
        sgm_rope_args rope = rope_of(node->args, i);
        for (int64_t t = begin; sgm_rope_head_size(&rope) && t < end; t++)
            sgm_rope_heads(walk->kernels, &rope, t, rope.heads, products[i].C + t * products[i].ldc);
    }
}

static void forward(sgm_walk *walk, sgm_node *node) {
    sgm_operand o = operand(node);
    sgm_activations x = sgm_operand_make(walk, &o, node->in[0].data, node->workspace);
    sgm_stored_product products[COUNT];
    for (int i = 0; i < COUNT; i++)
        products[i] = (sgm_stored_product){.M = node->in[0].rows,
                                           .A = x,
                                           .B = sgm_weight_matrix(weight_of(node->args, i)),
                                           .C = node->out[i].data,
                                           .ldc = node->out[i].cols};
    if (node->in[0].rows <= SGM_OPERAND_FEW)
        run_few(walk, node, products);
    else
        run_many(walk, node, products);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const int64_t lengths[][2] = {{1, 0}, {3, 1}, {70, 80}, {5, 3}};
    static const char *const names[] = {"one row", "few rows", "rows", "no rotation"};
    if (index >= (benchmark ? 1 : 4))
        return SGM_ENOTFOUND;
    c->name = names[index];
    int64_t D = benchmark ? 192 : 20, H = benchmark ? 6 : 4, G = 2, S = benchmark ? 32 : 6, large[] = {4000, 96};
    sgm_projections_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_rows *rows = sgm_case_rows(c, benchmark ? large : lengths[index], index == 0 && !benchmark ? 1 : 2, 7, seed);
    sgm_rope_table *table = sgm_case_alloc(c, sizeof *table);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    int64_t positions = benchmark ? 4000 : 80, half = S / 2;
    sgm_real *angles = sgm_case_alloc(c, (size_t)(2 * positions * half) * sizeof *angles);
    *args = (sgm_projections_args){.norm = sgm_case_weight(c, "norm", 1, D, 1, seed),
                                   .q = sgm_case_weight(c, "q", H * S, D, 0.5, seed),
                                   .k = sgm_case_weight(c, "k", G * S, D, 0.5, seed),
                                   .v = sgm_case_weight(c, "v", G * S, D, 0.5, seed),
                                   .q_norm = sgm_case_weight(c, "q norm", 1, S, 1, seed),
                                   .k_norm = index == 1 ? NULL : sgm_case_weight(c, "k norm", 1, S, 1, seed),
                                   .heads = H,
                                   .kv_heads = G,
                                   .epsilon = 1e-6,
                                   .table = index == 3 ? NULL : table,
                                   .rows = rows};
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    for (int64_t i = 0; i < positions * half; i++) {
        angles[i] = (sgm_real)__builtin_cos(0.1 * (double)i);
        angles[positions * half + i] = (sgm_real)__builtin_sin(0.1 * (double)i);
    }
    *table = (sgm_rope_table){positions, half, angles, angles + positions * half};
    c->rows[0] = rows->rows;
    c->cols[0] = D;
    c->flops = 2.0 * (double)(rows->rows * D * (H + 2 * G) * S);
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_projections = {
    .name = "projections",
    .summary = "queries, keys and values in one op, without a tape",
    .inputs = 1,
    .outputs = COUNT,
    .args_bytes = sizeof(sgm_projections_args),
    .residual = -1,
    .shape = shape,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .cases = &cases,
};

void sgm_projections(sgm_walk *walk, sgm_tensor x, const sgm_projections_args *args, sgm_tensor *q, sgm_tensor *k,
                     sgm_tensor *v) {
    if (walk->tape) {
        sgm_tensor h = sgm_rms_norm(walk, x, args->norm, args->epsilon);
        *q = sgm_linear(walk, h, args->q);
        *k = sgm_linear(walk, h, args->k);
        *v = sgm_linear(walk, h, args->v);
        if (args->q_norm || args->table)
            *q = sgm_rope(walk, *q, args->q_norm, args->heads, args->epsilon, args->table, args->rows);
        if (args->k_norm || args->table)
            *k = sgm_rope(walk, *k, args->k_norm, args->kv_heads, args->epsilon, args->table, args->rows);
        return;
    }
    sgm_tensor out[COUNT] = {{0}};
    sgm_apply(walk, &sgm_op_projections, args, &x, out);
    *q = out[0];
    *k = out[1];
    *v = out[2];
}
