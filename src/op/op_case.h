// SPDX-License-Identifier: Apache-2.0
/* Building blocks of op cases: batches, weights and variables made from a seed. Used by the ops' own declarations; memory is
 * one list per case, freed together. */
#ifndef SGM_OP_OP_CASE_H
#define SGM_OP_OP_CASE_H

#include "tensor/batch.h"
#include "tensor/op.h"

/* `bytes` zeroed bytes that sgm_case_free releases; NULL when there is no memory (sgm_case_failed tells at the end). */
void *sgm_case_alloc(sgm_op_case *op_case, size_t bytes);
bool sgm_case_failed(const sgm_op_case *op_case);
void sgm_case_free(sgm_op_case *op_case);

/* A weight (rows, cols) of normal deviates · scale with a zeroed gradient, registered as a variable to check. */
sgm_weight *sgm_case_weight(sgm_op_case *op_case, const char *name, int64_t rows, int64_t cols, double scale,
                            uint64_t seed);

/* A batch of `count` segments of the given lengths; tokens and targets below `vocabulary` (every fifth target is -1);
 * each segment is a sequence of its own. */
sgm_rows *sgm_case_rows(sgm_op_case *op_case, const int64_t *lengths, int count, int64_t vocabulary, uint64_t seed);

#endif
