// SPDX-License-Identifier: Apache-2.0
/* Inside of moe_ffn: forward (moe_ffn.c), backward (moe_ffn_backward.c) and the tasks that both draw (moe_tasks.c). */
#ifndef SGM_OP_MOE_FFN_H
#define SGM_OP_MOE_FFN_H

#include "op/ops.h"
#include "tensor/products.h"

/* One application of the op, as each thread sees it. */
typedef struct sgm_moe {
    const sgm_moe_args *args;
    sgm_worker *worker;
    const sgm_kernels *kernels;
    sgm_compute compute;           /* of the experts' products; the router's are always f32 */
    sgm_routing *record;           /* shared */
    int64_t T, E, K, D, F, N;      /* K: slots of the record; N: columns of what the router reads */
    int64_t A;                     /* most rows that the experts compute */
    bool together;                 /* the router looks at all items of the record */
    bool sets_gradients;           /* of weights; sgm_walk */
    const sgm_real *x, *scored;    /* (T, D); what the router reads (T, N): x, or its hidden layer */
    sgm_real *gate, *up;           /* (A, F) pre-activations, kept */
    sgm_real *x_rows, *h, *out;    /* (A, D), (A, F), (A, D) by expert */
    sgm_real *dy_rows, *dh;        /* backward: (A, D), (A, F) */
    sgm_real *d_weight, *d_logits; /* (T, K), (T, E) */
    int64_t *wanted;               /* (E) experts with rows */
    const sgm_real *dy;
} sgm_moe;

/* The input that the router reads: x, or its hidden layer where there is one. */
static inline int sgm_moe_scored_input(const sgm_node *node) {
    return node->op->inputs == 3 ? 2 : 0;
}

/* Its sizes and inputs; memory and kernels come with the functions below. */
sgm_moe sgm_moe_of(const sgm_node *node);
void sgm_moe_run_on(sgm_moe *m, const sgm_walk *walk);

/* Lay arrays out in `block` (NULL: only count), return the bytes. What lives from forward to backward: the record, whose own
 * memory is at *arrays (a part that is walked twice has it in node->kept), and the pre-activations. */
size_t sgm_moe_place_kept(const sgm_node *node, sgm_moe *m, char *block, void **arrays);
size_t sgm_moe_place_backward(sgm_moe *m, char *block);

/* C (M, N) = or += A times an expert's matrix (SGM_NT or SGM_NN), by the calling thread. */
void sgm_moe_multiply(const sgm_moe *m, sgm_product_kind kind, int64_t M, int64_t N, int64_t K, const sgm_real *A,
                      int64_t lda, const sgm_expert_matrix *B, sgm_real *C, int64_t ldc, bool add);

void sgm_moe_backward(sgm_walk *walk, sgm_node *node);

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

/* Turns rising task numbers into (expert, piece), where an expert with n rows has pieces_of(n) of them. */
typedef struct sgm_moe_cursor {
    int64_t expert, first; /* first: number of that expert's first task */
} sgm_moe_cursor;
/* False: there is no such task. */
bool sgm_moe_advance(sgm_moe_cursor *cursor, const sgm_routing *record, int64_t task,
                     int64_t (*pieces_of)(int64_t rows), int64_t *piece);

/* Rows [begin, end) that one physical expert computes. */
typedef struct sgm_moe_rows {
    int64_t begin, end;
    bool in_place; /* the expert's items are consecutive: its rows are found where they are */
} sgm_moe_rows;
int64_t sgm_moe_row_blocks(int64_t rows);
sgm_moe_rows sgm_moe_block_rows(const sgm_routing *record, int64_t expert, int64_t block);
/* The end of those of them that are the same replica as the first. */
int64_t sgm_moe_same_replica(const sgm_routing *record, int64_t begin, int64_t end);

/* Copy the items of rows [begin, end) into their order. */
void sgm_moe_gather(const sgm_routing *record, const sgm_real *from, int64_t cols, sgm_real *to, int64_t begin,
                    int64_t end);
/* The rows from `begin` of a (T, D) matrix in the order of the experts: where they are, or in `copies`. */
const sgm_real *sgm_moe_rows_by_expert(const sgm_moe *m, bool in_place, const sgm_real *matrix, const sgm_real *copies,
                                       int64_t begin);

#endif
