// SPDX-License-Identifier: Apache-2.0
/* The rotation of heads, for ops that do it on the way. */
#ifndef SGM_OP_ROPE_H
#define SGM_OP_ROPE_H

#include "op/ops.h"

typedef struct sgm_rope_args {
    const sgm_weight *gain; /* (1, S) or NULL */
    int64_t heads;
    double epsilon;
    const sgm_rope_table *table; /* NULL: no rotation; then there is a gain */
    const sgm_rows *rows;
} sgm_rope_args;

/* S; 0 where there is neither a table nor a gain. */
static inline int64_t sgm_rope_head_size(const sgm_rope_args *a) {
    return a->table ? a->table->half * 2 : a->gain ? a->gain->cols : 0;
}

/* Normalise and rotate `heads` consecutive heads of a row of the batch, in place: x (heads, S). The bytes of the op rope. */
void sgm_rope_heads(const sgm_kernels *kernels, const sgm_rope_args *args, int64_t row, int64_t heads, sgm_real *x);

#endif
