// SPDX-License-Identifier: Apache-2.0
/* The left side of products with stored weights (inference): rows of activations, normalised first where the op says so, and
 * their 8-bit form where a weight is of integers.
 *
 * With few rows every thread makes a copy of its own, which costs less than a barrier; with many each row is made once. Both
 * give the same bytes. */
#ifndef SGM_OP_OPERAND_H
#define SGM_OP_OPERAND_H

#include "op/ops.h"
#include "tensor/products.h"

enum { SGM_OPERAND_FEW = 4 }; /* rows that each thread prepares for itself */

typedef struct sgm_operand {
    int64_t rows, cols;
    const sgm_weight *gain; /* RMSNorm before everything; NULL: none */
    double epsilon;
    bool integers; /* make q, scale and sum */
} sgm_operand;

/* Does the product with this matrix read the 8-bit form? */
bool sgm_matrix_is_integer(const sgm_matrix *matrix);
/* Workspace for all threads together; what it holds is there after sgm_operand_make. Never less than for fewer rows, whose
 * copies may take more: a plan for the largest batch is enough for every other. */
size_t sgm_operand_bytes(const sgm_operand *operand, int threads);
/* Prepare the rows of `x` (rows, cols). All threads call it; with many rows it ends in a barrier. Without gain the activations'
 * x is `x` itself. */
sgm_activations sgm_operand_make(const sgm_walk *walk, const sgm_operand *operand, const sgm_real *x, void *workspace);

/* The 8-bit form of (rows, cols) in a block of sgm_quantised_bytes, not filled in. */
size_t sgm_quantised_bytes(int64_t rows, int64_t cols);
sgm_activations sgm_quantised_place(void *block, const sgm_real *x, int64_t rows, int64_t cols);
/* Fill in rows [begin, end) by the calling thread. */
void sgm_quantised_fill(const sgm_kernels *kernels, const sgm_activations *a, int64_t cols, int64_t begin, int64_t end);

/* SGM_EUNSUPPORTED when `weight` has no f32 data and is needed in f32: in training, and wherever no product reads it. */
sgm_status sgm_weight_check_data(const sgm_node *node, const sgm_weight *weight, sgm_error *error);

#endif
