// SPDX-License-Identifier: Apache-2.0
/* Attention experts (ModuleFormer, arXiv 2306.04640): attention as a mixture. A router sends a row h (D) to K of A experts.
 * Expert e owns queries Q_e (H·S, D) and an output O_e (D, H·S); keys and values are the layer's, so the cache is that of a
 * dense attention:
 *     y = residual + Σ over the chosen e of w_e · O_e attention(Q_e h, keys, values)
 * Three ops stand around the attention op, which knows nothing of experts: the K experts' heads are K·H query heads of one row.
 *
 *   attention_route     h → weights (T, K), and the routing record behind them
 *   attention_queries   h → q (T, K·H·S): a product for each expert over the rows that chose it
 *   (norm and rotation of heads, attention over K·H query heads and G key/value heads)
 *   attention_outputs   y, weights, residual → the sum: again a product for each expert
 *
 * Columns of q and y: attention gives neighbouring query heads the same key head, so the heads of one key head stand together,
 * and among them those of one slot: [G][K][H/G][S]. A slot that is not used holds zeros and takes no part in the sum.
 *
 * One token (G = 1, H = 2, K = 2). Row 17 is sent to experts 5 (w 0.4) and 2 (w 0.3): its record holds slot 0 → 5, slot 1 → 2.
 * attention_queries multiplies row 17 of h, among all rows of expert 5, by Q_5, and puts the two heads into columns 0 … 2S, those
 * of Q_2 into 2S … 4S. Attention makes of it four heads of y. attention_outputs takes y's first two through O_5, the others through
 * O_2, and adds 0.4 and 0.3 times that to the residual, in slot order.
 *
 * One gradient, of row 17, dy in: d(O_5) += 0.4 · dy ⊗ y_5; g = O_5ᵀ dy gives d(w_5) = g · y_5 and d(y_5) = 0.4 g. Attention's own
 * backward pass sums d(keys), d(values) over all K·H heads. d(Q_5) += d(q_5) ⊗ h; dh = Σ over slots of Q_eᵀ d(q_e). The router turns
 * d(w) into d(logits), the choice held constant, and balancers add theirs. Sums over rows go in the order of rows, sums over
 * experts in the order of slots: neither threads nor micro-batches change a byte. */
#ifndef SGM_ATTENTION_ATTENTION_EXPERTS_H
#define SGM_ATTENTION_ATTENTION_EXPERTS_H

#include "op/ops.h"

typedef struct sgm_attention_route_args {
    int64_t routed; /* the sub-layer's number (sigmoe/model.h), for records, balancers and messages */
    const sgm_router *router;
    const sgm_weight *gate;         /* (A, N), N columns of what it reads */
    int64_t experts_per_token;      /* K */
    const sgm_real *selection_bias; /* as sgm_moe_args has them */
    sgm_balance_set *balance;
    sgm_load *load;
    void (*observe)(void *observer, const sgm_routing *record);
    void *observer;
    const sgm_rows *rows;
} sgm_attention_route_args;
/* scored (T, N): h, or the router's hidden layer → weights (T, K). *record, in the walk's memory, is filled when the op has run
 * (NULL in a dry walk). Errors: SGM_EARGUMENT shapes, or a router that chooses for all rows together, as those with a capacity do:
 * what it drops would leave a row without its heads, and how many heads a row has must be known before it chooses. */
sgm_tensor sgm_attention_route(sgm_walk *walk, sgm_tensor scored, const sgm_attention_route_args *args,
                               const sgm_routing **record);

/* Both halves of every expert. */
typedef struct sgm_attention_experts_args {
    const sgm_weight *experts; /* (2·A) of each expert Q (H·S, D) and O (D, H·S) */
    int64_t count;             /* A */
    int64_t experts_per_token; /* K */
    int64_t heads, kv_heads;   /* H of an expert, G of the layer */
    const sgm_routing *record;
} sgm_attention_experts_args;
/* h (T, D) → q (T, K·H·S) */
sgm_tensor sgm_attention_queries(sgm_walk *walk, sgm_tensor h, const sgm_attention_experts_args *args);
/* y (T, K·H·S), weights (T, K), residual (T, D) → (T, D) */
sgm_tensor sgm_attention_outputs(sgm_walk *walk, sgm_tensor y, sgm_tensor weights, sgm_tensor residual,
                                 const sgm_attention_experts_args *args);

/* May this router send rows to attention experts? SGM_EARGUMENT, with what to change, where it chooses for all rows together. */
sgm_status sgm_attention_router_check(const sgm_router *router, sgm_error *error);

#endif
