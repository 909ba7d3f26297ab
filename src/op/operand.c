// SPDX-License-Identifier: Apache-2.0
/* Rows of activations for products with stored weights. */
#include "op/operand.h"

#include "base/memory.h"
#include "quant/quant.h"

bool sgm_matrix_is_integer(const sgm_matrix *matrix) {
    return matrix->data && matrix->type != SGM_TYPE_F32 && sgm_quant_of(matrix->type)->integer;
}

static size_t scale_bytes(int64_t rows, int64_t cols) {
    return sgm_round_up((size_t)(rows * (cols / 32)) * sizeof(float));
}

size_t sgm_quantised_bytes(int64_t rows, int64_t cols) {
    return sgm_round_up((size_t)(rows * cols)) + 2 * scale_bytes(rows, cols);
}

sgm_activations sgm_quantised_place(void *block, const sgm_real *x, int64_t rows, int64_t cols) {
    char *scale = (char *)block + sgm_round_up((size_t)(rows * cols));
    return (sgm_activations){.x = (const float *)(const void *)x,
                             .ldx = cols,
                             .q = block,
                             .scale = (float *)(void *)scale,
                             .sum = (int32_t *)(void *)(scale + scale_bytes(rows, cols))};
}

void sgm_quantised_fill(const sgm_kernels *kernels, const sgm_activations *a, int64_t cols, int64_t begin,
                        int64_t end) {
    sgm_activations to = sgm_activations_from(a, cols, begin);
    if (end > begin)
        kernels->quantise(end - begin, cols, to.x, to.ldx, &to);
}

static bool few(const sgm_operand *operand) {
    return operand->rows <= SGM_OPERAND_FEW;
}

static size_t normalised_bytes(const sgm_operand *o) {
    return o->gain ? sgm_round_up((size_t)(o->rows * o->cols) * sizeof(sgm_real)) : 0;
}

/* One copy. */
static size_t copy_bytes(const sgm_operand *o) {
    return normalised_bytes(o) + (o->integers ? sgm_quantised_bytes(o->rows, o->cols) : 0);
}

size_t sgm_operand_bytes(const sgm_operand *operand, int threads) {
    sgm_operand least = *operand;
    least.rows = few(operand) ? operand->rows : SGM_OPERAND_FEW;
    size_t once = copy_bytes(operand), each = copy_bytes(&least) * (size_t)threads;
    return once > each ? once : each;
}

sgm_activations sgm_operand_make(const sgm_walk *walk, const sgm_operand *o, const sgm_real *x, void *workspace) {
    int64_t begin = 0, end = o->rows, D = o->cols;
    char *block = workspace;
    if (few(o))
        block += copy_bytes(o) * (size_t)walk->worker->thread;
    else
        sgm_split(walk->worker, o->rows, 1, &begin, &end);
    sgm_real *normalised = (sgm_real *)(void *)block;
    if (o->gain && end > begin)
        walk->kernels->rms_norm(end - begin, D, x + begin * D, D, o->gain->data, o->epsilon, normalised + begin * D, D,
                                NULL);
    const sgm_real *rows = o->gain ? normalised : x;
    sgm_activations a = {.x = (const float *)(const void *)rows, .ldx = D};
    if (o->integers) {
        a = sgm_quantised_place(block + normalised_bytes(o), rows, o->rows, D);
        sgm_quantised_fill(walk->kernels, &a, D, begin, end);
    }
    if (!few(o) && (o->gain || o->integers))
        sgm_barrier(walk->worker);
    return a;
}

sgm_status sgm_weight_check_data(const sgm_node *node, const sgm_weight *weight, sgm_error *error) {
    if (weight->data || !weight->stored.data)
        return SGM_OK;
    return sgm_fail(error, SGM_EUNSUPPORTED,
                    node->recorded ? "train from a model in safetensors and quantise the result" : NULL,
                    "%s: the weight %s is stored as %s, but is needed as f32", node->op->name,
                    weight->name ? weight->name : "", sgm_quant_of(weight->stored.type)->name);
}
