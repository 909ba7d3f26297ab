// SPDX-License-Identifier: Apache-2.0
/* The ops a model is written with. Each function applies one op to a walk and returns its output. Shapes: T rows of the
 * batch, D width, H query heads, G key/value heads, S head size, E experts, V vocabulary. */
#ifndef SGM_OP_OPS_H
#define SGM_OP_OPS_H

#include "comm/comm.h"
#include "moe/balance/balance.h"
#include "moe/expert_bank.h"
#include "moe/router/router.h"
#include "tensor/batch.h"
#include "tensor/op.h"

/* (T) tokens → (T, D): rows of `table` (V, D). */
sgm_tensor sgm_embedding(sgm_walk *walk, const sgm_rows *rows, const sgm_weight *table);

/* (T, D) → (T, D): y = x / rms(x) · gain. Source: arXiv 1910.07467. */
sgm_tensor sgm_rms_norm(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, double epsilon);

/* (T, D) → (T, N): y = x Wᵀ with W (N, D). */
sgm_tensor sgm_linear(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight);
/* The same, plus a residual (T, N): y = residual + x Wᵀ. */
sgm_tensor sgm_linear_residual(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight, sgm_tensor residual);

/* Sines and cosines of every position: angle position · theta^(−2i/S). Source: arXiv 2104.09864. */
typedef struct sgm_rope_table {
    int64_t positions, half; /* half = S / 2 */
    sgm_real *cosine, *sine; /* (positions, half) */
} sgm_rope_table;
sgm_status sgm_rope_table_init(sgm_rope_table *table, int64_t positions, int64_t head_size, double theta,
                               sgm_error *error);
void sgm_rope_table_fini(sgm_rope_table *table);

/* (T, H·S) → (T, H·S): each head is RMS-normalised with `gain` (1, S) (NULL: not), then rotated by its position (table NULL: not).
 * Rotation pairs element i with i + S/2 ("rotate half"). Source: arXiv 2104.09864; QK-norm arXiv 2302.05442. */
sgm_tensor sgm_rope(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, int64_t heads, double epsilon,
                    const sgm_rope_table *table, const sgm_rows *rows);

/* What attention reads, from x (T, D): q (T, H·S), k, v (T, G·S), products of norm(x), the first two with their heads normalised
 * and rotated (where there is a table). With a tape rms_norm, three linears and two ropes; without one a single op. */
typedef struct sgm_projections_args {
    const sgm_weight *norm;            /* (1, D) */
    const sgm_weight *q, *k, *v;       /* (H·S, D), (G·S, D) twice */
    const sgm_weight *q_norm, *k_norm; /* (1, S) or NULL */
    int64_t heads, kv_heads;
    double epsilon;
    const sgm_rope_table *table; /* NULL: no rotation */
    const sgm_rows *rows;
} sgm_projections_args;
void sgm_projections(sgm_walk *walk, sgm_tensor x, const sgm_projections_args *args, sgm_tensor *q, sgm_tensor *k,
                     sgm_tensor *v);

/* q (T, H·S), k, v (T, G·S) → (T, H·S): causal attention within each segment, query head h reads key head h·G/H, scores
 * scaled by 1/sqrt(S). Never holds T × T. With segments that have a past (inference), this layer's new keys and values
 * are first appended to the pages. Online softmax over blocks of SGM_KV_PAGE keys counted from position 0, so the result
 * of a row does not depend on how its sequence was cut. */
sgm_tensor sgm_causal_attention(sgm_walk *walk, sgm_tensor q, sgm_tensor k, sgm_tensor v, int64_t heads,
                                int64_t kv_heads, int64_t layer, const sgm_rows *rows);

/* The same shapes and the same freedom to cut: stick-breaking attention. Row i gives key j the weight σ(z_ij) · Π over j < l ≤ i
 * of (1 − σ(z_il)), z = q · k / sqrt(S); weights sum to 1 at most. Queries and keys come without rotation.
 * Source: arXiv 2306.04640. */
sgm_tensor sgm_stick_breaking(sgm_walk *walk, sgm_tensor q, sgm_tensor k, sgm_tensor v, int64_t heads, int64_t kv_heads,
                              int64_t layer, const sgm_rows *rows);

/* (T, D) → (T, N): h = gelu(x Wᵀ + b), the hidden layer of a router, in f32; W (N, D), b (1, N). Source: arXiv 2306.04640. */
sgm_tensor sgm_gate_hidden(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight, const sgm_weight *bias);

/* The MoE feed-forward: y = residual + Σ_k weight_k · expert_k(x). Route, dispatch, experts, combine. */
typedef struct sgm_moe_args {
    int64_t layer; /* routed sub-layer of the model (sigmoe/model.h) */
    const sgm_router *router;
    const sgm_weight *gate;                    /* (E, D); behind a hidden layer (E, N) */
    const sgm_weight *gate_hidden, *gate_bias; /* that layer: (N, D), (1, N); NULL: none */
    sgm_expert_bank *bank;                     /* of the E − null_experts that have weights */
    int64_t null_experts;                      /* the last so many of E: chosen like others, no weights, output 0 */
    int64_t experts_per_token;                 /* K in this layer at this step */
    bool together;                  /* as in training: the router may choose for all rows together (its `assign`) */
    sgm_comm *comm;                 /* NULL: self */
    const sgm_real *selection_bias; /* (E) added to the scores for selection, where no balancer gives one; NULL: none */
    sgm_balance_set *balance;       /* NULL: no hooks */
    sgm_load *load;                 /* accumulates this layer's load over the rows with a target; NULL: none */
    /* Called by thread 0 with the finished record (traces, tests); NULL: nobody. */
    void (*observe)(void *observer, const sgm_routing *record);
    void *observer;
    const sgm_rows *rows;
    const sgm_weight
        *norm; /* x is normalised with this gain (1, D) first; inference only; NULL: it comes as it shall be */
    double norm_epsilon;
} sgm_moe_args;
sgm_tensor sgm_moe_ffn(sgm_walk *walk, sgm_tensor x, sgm_tensor residual, const sgm_moe_args *args);

/* x + moe_ffn(norm(x)): with a tape (or balancers, or a communicator) rms_norm and moe_ffn, otherwise a single op. */
sgm_tensor sgm_norm_moe_ffn(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, double epsilon,
                            const sgm_moe_args *args);

/* (T, D) → (1, 1): Σ over rows with a target of −log softmax(x Wᵀ)[target], times `scale`; W (V, D). In chunks of rows,
 * never (T, V) at once. `row_loss` (T), optional: each row's unscaled loss in nats, 0 without a target. It is a root: with a
 * tape it computes its gradients while it has the probabilities. Chunk by chunk, rows in order. */
sgm_tensor sgm_vocabulary_loss(sgm_walk *walk, sgm_tensor x, const sgm_weight *weight, const sgm_rows *rows,
                               double scale, float *row_loss);

/* A part of a model, x (T, D) → (T, D): ops alone, and nothing that depends on whether it is walked the first time or again. */
typedef sgm_tensor sgm_part(sgm_walk *walk, const void *context, sgm_tensor x);
enum {
    SGM_PART_CONTEXT = 64
}; /* most bytes of a context, which is copied; what it points to lives until the backward pass */

/* What computing a part again needs: made once for its largest shape. */
typedef struct sgm_recomputation {
    sgm_plan plan;                    /* of the walk in the backward pass */
    size_t forward_bytes, kept_bytes; /* of the first walk; from it to the second */
    sgm_tape **tapes;                 /* (threads) */
    int threads;
} sgm_recomputation;
/* `like`: a walk with the team's width, the kernels and the compute of those that come. */
sgm_status sgm_recompute_plan(const sgm_walk *like, sgm_part *part, const void *context, int64_t rows, int64_t cols,
                              sgm_recomputation *r, sgm_error *error);
void sgm_recompute_free(sgm_recomputation *r);
/* Apply a part on a walk with a tape, keeping its input and its routing only: the same gradients, to the byte, for its values'
 * memory and one forward pass more. Routing is replayed: routers, balancers' hooks, load and observers see it once. */
sgm_tensor sgm_recompute(sgm_walk *walk, sgm_recomputation *r, sgm_part *part, const void *context,
                         size_t context_bytes, sgm_tensor x);

const sgm_op *sgm_op_at(size_t index); /* every op, for the conformance test; NULL past the end */

#endif
