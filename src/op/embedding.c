// SPDX-License-Identifier: Apache-2.0
/* Embedding: row t of the output is the table's row of token t. */
#include <string.h>

#include "op/op_case.h"
#include "op/operand.h"
#include "op/ops.h"
#include "quant/quant.h"

typedef struct embedding_args {
    const sgm_rows *rows;
    const sgm_weight *table; /* (V, D) */
} embedding_args;

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const embedding_args *a = node->args;
    out[0].rows = a->rows->rows;
    out[0].cols = a->table->cols;
    return node->recorded ? sgm_weight_check_data(node, a->table, error) : SGM_OK;
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const embedding_args *a = node->args;
    int64_t D = a->table->cols, begin, end;
    sgm_split(walk->worker, a->rows->rows, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        sgm_real *to = node->out[0].data + t * D;
        if (a->table->data)
            memcpy(to, a->table->data + a->rows->tokens[t] * D, (size_t)D * sizeof(sgm_real));
        else
            sgm_matrix_unpack_row(&a->table->stored, a->rows->tokens[t], (float *)(void *)to);
    }
}

/* Threads split the columns: a token's gradient is summed over rows in order. */
static void backward(sgm_walk *walk, sgm_node *node) {
    const embedding_args *a = node->args;
    const sgm_real *dy = sgm_gradient_out(walk, node, 0);
    if (!a->table->gradient)
        return;
    int64_t D = a->table->cols, begin, end;
    sgm_split(walk->worker, D, 16, &begin, &end);
    for (int64_t token = 0; walk->sets_gradients && end > begin && token < a->table->rows; token++)
        memset(a->table->gradient + token * D + begin, 0, (size_t)(end - begin) * sizeof(sgm_real));
    for (int64_t t = 0; t < a->rows->rows; t++) {
        sgm_real *to = a->table->gradient + a->rows->tokens[t] * D;
        for (int64_t d = begin; d < end; d++)
            to[d] += dy[t * D + d];
    }
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    if (index > 0)
        return SGM_ENOTFOUND;
    c->name = "two documents";
    int64_t V = benchmark ? 4096 : 7, D = benchmark ? 192 : 5, lengths[] = {benchmark ? 4000 : 6, benchmark ? 96 : 3};
    embedding_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_weight *table = sgm_case_weight(c, "table", V, D, 1, seed);
    sgm_rows *rows = sgm_case_rows(c, lengths, 2, V, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (embedding_args){rows, table};
    return SGM_OK;
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_embedding = {
    .name = "embedding",
    .summary = "rows of a table chosen by token",
    .inputs = 0,
    .outputs = 1,
    .args_bytes = sizeof(embedding_args),
    .residual = -1,
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_embedding(sgm_walk *walk, const sgm_rows *rows, const sgm_weight *table) {
    embedding_args args = {rows, table};
    sgm_tensor out = {0};
    sgm_apply(walk, &sgm_op_embedding, &args, NULL, &out);
    return out;
}
