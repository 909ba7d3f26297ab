// SPDX-License-Identifier: Apache-2.0
/* Inside of attention: what its kinds declare, and what they share. */
#ifndef SGM_ATTENTION_ATTENTION_H
#define SGM_ATTENTION_ATTENTION_H

#include "op/ops.h"

enum { SGM_KEY_BLOCK = SGM_KV_PAGE }; /* keys that are scored at once */

/* Rows on their way through the keys; one row is one query's one head. What `top` and `mass` hold is the kind's own. */
typedef struct sgm_attention_state {
    sgm_real *y;          /* (R, S) Σ weight · value so far */
    sgm_real *top, *mass; /* (R) */
} sgm_attention_state;

/* How scores become weights. A row's state begins afresh in every part of its past (attention_forward.c), parts are merged in
 * order. */
typedef struct sgm_attention_kind {
    bool
        newest_first; /* blocks of keys and parts go from the newest to the oldest; else from the oldest to the newest */
    bool rescales;    /* `step` says what to multiply y with before the block's values are added */
    bool
        in_bf16; /* with train.compute=bf16 its products are too: gradients do not come from differences of near equals */
    void (*begin)(int64_t rows, const sgm_attention_state *to); /* all but y */
    /* Scores of a block (tile->rows, 64), raw products: become weights, in place; `at` moves on, but for y. */
    void (*step)(const sgm_kernels *kernels, const sgm_score_tile *tile, sgm_real *score, int64_t ld,
                 const sgm_attention_state *at, sgm_real *rescale);
    /* Would further blocks change nothing in any of these rows? `mass` in steps of `stride`. NULL: never. */
    bool (*is_done)(const sgm_real *mass, int64_t stride, int64_t rows);
    /* total: the next part in the order is added to the earlier ones. */
    void (*merge)(const sgm_kernels *kernels, int64_t S, int64_t rows, const sgm_attention_state *total,
                  const sgm_attention_state *part);
    /* One row → its output (S), and what it keeps for the backward pass (one number; NULL: nothing is kept). */
    void (*finish)(const sgm_kernels *kernels, int64_t S, const sgm_attention_state *row, sgm_real *y, sgm_real *saved);
    /* A block of scores p and gradients of weights dp: become weights and gradients of raw products. `mass`: the saved
     * numbers, or where an op saves none 1 in the first block of a row; `dot`: dy · y in the first block. Both in steps of
     * `stride`; they are the kind's to move on. */
    void (*step_backward)(const sgm_kernels *kernels, const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld,
                          sgm_real *mass, sgm_real *dot, int64_t stride);
} sgm_attention_kind;

typedef struct sgm_attention_args {
    const sgm_attention_kind *kind;
    int64_t heads, kv_heads, layer;
    const sgm_rows *rows;
} sgm_attention_args;

/* Keys of `block` that position p sees. */
static inline int64_t sgm_keys_visible(int64_t p, int64_t block) {
    int64_t n = p - block * SGM_KEY_BLOCK + 1;
    return n > SGM_KEY_BLOCK ? SGM_KEY_BLOCK : n;
}

/* Tasks are drawn the longest first, by classes: powers of two of their cost. */
static inline int sgm_cost_class(int64_t cost) {
    int class = 0;
    for (; cost > 1; cost >>= 1)
        class ++;
    return class;
}

/* ---- keys and values (attention_keys.c) ---------------------------------------------------------------------------- */

/* One block of one head, ready for the products. */
typedef struct sgm_key_block {
    sgm_kv_type type;
    const void *keys, *values; /* (S, 64) and (64, S) */
    int64_t value_stride;
    const float *key_scale, *value_scale; /* NULL: none */
    bool cached;                          /* of inference's pages: products are in f32 */
} sgm_key_block;

/* The first `count` keys of the block, for `rows` rows of queries: few read them as they are stored, many widened (the same
 * bytes come out). `keys` and `values` have room for a block. */
sgm_key_block sgm_key_block_get(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment,
                                int64_t head, int64_t block, int64_t count, int64_t rows, sgm_real *keys,
                                sgm_real *values);
/* In what training multiplies queries, keys, values and weights. The six products of bf16x6 do not pay in blocks of 64. */
static inline sgm_compute sgm_attention_compute(const sgm_walk *walk, const sgm_attention_kind *kind) {
    return kind->in_bf16 && walk->compute == SGM_COMPUTE_BF16 ? SGM_COMPUTE_BF16 : SGM_COMPUTE_F32;
}
/* C (M, N) = or += A · B, B the keys (S, 64) or the values (64, S) of the block. */
void sgm_key_multiply(const sgm_kernels *kernels, sgm_compute compute, const sgm_key_block *block, bool values,
                      int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, sgm_real *C, int64_t ldc,
                      bool add);
/* Inference: new keys and values of rows [begin, end) of the segment go to its pages; heads [head, head + heads). `scratch`: S
 * elements. */
void sgm_key_append(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment, int64_t begin,
                    int64_t end, int64_t head, int64_t heads, void *scratch);

/* ---- what an op of attention is made of ------------------------------------------------------------------------------ */

sgm_status sgm_attention_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error);
size_t sgm_attention_workspace(const sgm_node *node, int threads, bool backward);
void sgm_attention_forward(sgm_walk *walk, sgm_node *node);
size_t sgm_attention_backward_workspace(const sgm_node *node, int threads);
void sgm_attention_backward(sgm_walk *walk, sgm_node *node);
/* The cases that an op of this kind declares (op.h). */
sgm_status sgm_attention_case(const sgm_attention_kind *kind, int index, bool benchmark, uint64_t seed,
                              sgm_op_case *op_case, sgm_error *error);

#endif
