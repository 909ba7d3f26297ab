// SPDX-License-Identifier: Apache-2.0
/* The one definition of the model, for training and for inference.
 *
 * Pre-norm transformer of the Sigma family: x += attention(norm(x)); x += moe(norm(x)); final norm; head. */
#ifndef SGM_MODEL_TRANSFORMER_H
#define SGM_MODEL_TRANSFORMER_H

#include "op/ops.h"
#include "sigmoe/model.h"

typedef struct sgm_layer {
    sgm_weight *attention_norm, *q, *k, *v, *o, *q_norm, *k_norm, *ffn_norm, *gate;
    sgm_weight *gate_hidden, *gate_bias; /* NULL: a linear router */
    /* With attention experts, whose q and o are NULL: their router, and two weights of each, queries and output, in that order. */
    sgm_weight *attention_gate, *attention_gate_hidden, *attention_gate_bias, *attention_experts;
    sgm_expert_bank bank;
    sgm_expert *experts;        /* (E − null_experts) table behind the resident bank */
    sgm_weight *expert_weights; /* three of each of those: gate, up, down, in that order */
} sgm_layer;

/* Weights of a layer before its experts, in the order of sgm_layer. */
static inline int64_t sgm_layer_weights(const sgm_model_settings *settings) {
    int64_t gate = 1 + (settings->gate_hidden ? 2 : 0);
    return 8 + gate + (settings->attention_experts ? 2 * settings->attention_experts + gate - 2 : 0);
}

/* Routed sub-layers of a model (sigmoe/model.h), experts and experts per token of one of them, numbers of an array (L, E). */
static inline int64_t sgm_model_routed(const sgm_model_settings *settings) {
    return sgm_routed_layers(settings->layers, settings->attention_experts);
}
static inline int64_t sgm_model_routed_experts(const sgm_model_settings *settings, int64_t routed) {
    return sgm_routed_experts(settings->experts, settings->attention_experts, routed);
}
static inline int64_t sgm_model_routed_stride(const sgm_model_settings *settings) {
    return sgm_routed_stride(settings->experts, settings->attention_experts);
}
static inline int64_t sgm_model_routed_numbers(const sgm_model_settings *settings) {
    return sgm_model_routed(settings) * sgm_model_routed_stride(settings);
}
static inline int64_t sgm_model_routed_per_token(const sgm_model_settings *settings, int64_t routed) {
    return sgm_routed_is_attention(settings->attention_experts, routed) ? settings->attention_experts_per_token
                                                                        : settings->experts_per_token;
}

/* Mean over the layers of what a token takes of the feed-forward's experts, of experts per token by routed sub-layer. */
static inline double sgm_model_mean_per_token(const sgm_model_settings *settings, const int64_t *experts_per_token) {
    double sum = 0;
    for (int64_t r = 0; r < sgm_model_routed(settings); r++)
        if (!sgm_routed_is_attention(settings->attention_experts, r))
            sum += (double)experts_per_token[r];
    return sum / (double)settings->layers;
}

/* A model. `weights` lists every weight once, in file order; layers point into it. In training all data stand in one block,
 * all gradients in another, in the same order, each weight padded to 16 elements (the optimizer walks them as two flat arrays
 * of `elements`; padding stays zero). A tied head is a weight of its own only as a gradient (weight.tied): its data are the
 * embedding's. In inference weights are views of a mapped file (weight.stored, or weight.data where the file holds f32):
 * `source` is that file, and `data` holds only what has to be f32 and is not (norm gains, routers). */
typedef struct sgm_model {
    sgm_model_settings settings;
    sgm_router router;
    sgm_weight *weights;
    char *names; /* behind the weights' names */
    int64_t weight_count;
    sgm_weight *embedding, *final_norm, *head;
    sgm_layer *layers;
    sgm_rope_table rope;        /* of settings.context positions; empty where attention does not rotate */
    sgm_real *data, *gradients; /* (elements); gradients NULL without training */
    uint16_t *rounded;          /* (elements): `data` in bf16, kept by the trainer; NULL: none */
    sgm_real *head_gradient;    /* tied head's own gradient; NULL otherwise */
    int64_t elements;
    void *source; /* the mapped file that weights point into, and how to close it; NULL: none */
    void (*source_close)(void *source);
    /* (L, E) by routed sub-layer, added to the router's scores for selection (loss-free balancing); NULL: none. A model in training has none of
     * its own: the balancers lend theirs, and a save writes that. */
    sgm_real *selection_bias;
} sgm_model;

/* Allocate (zeroed). Says SGM_EMEMORY before allocating. `router` is taken over on success. */
sgm_status sgm_model_new(const sgm_model_settings *settings, sgm_router router, bool gradients, sgm_model **model,
                         sgm_error *error);
void sgm_model_free(sgm_model *model);
/* A model for inference without memory for its weights: the caller sets their `data` or `stored`, `source` and
 * `source_close`, and then calls sgm_model_connect. */
sgm_status sgm_model_new_views(const sgm_model_settings *settings, sgm_router router, sgm_model **model,
                               sgm_error *error);
/* Let the layers, their experts and the head point at the weights' data as they now are. */
void sgm_model_connect(sgm_model *model);
/* Memory for all weights rounded to bf16 beside their data, which products in bf16 then read: 2 bytes an element. Whoever changes
 * data fills it in (kernels->bf16_round). Where `data` is f32 and the model's own. */
sgm_status sgm_model_keep_rounded(sgm_model *model, sgm_error *error);
/* Take over a bias on selection (L, E), copied; NULL: none. */
sgm_status sgm_model_set_selection_bias(sgm_model *model, const sgm_real *bias, sgm_error *error);
/* Normal deviates: element i of weight w is a function of (seed, name of w, i) alone. Norm gains are 1. */
void sgm_model_randomise(sgm_model *model, uint64_t seed, sgm_team *team);
/* Elements [first, first + count) of that, for one weight (its name, shape and init_std are read). */
void sgm_weight_initial(const sgm_weight *weight, uint64_t seed, int64_t first, int64_t count, sgm_real *out);
/* Every weight's name, shape, init for settings, without memory: calls `each` in file order. */
sgm_status sgm_model_each_weight(const sgm_model_settings *settings,
                                 sgm_status (*each)(void *context, const sgm_weight *weight, sgm_error *error),
                                 void *context, sgm_error *error);

/* What one pass needs beside the model and the rows. */
typedef struct sgm_pass {
    /* (L) by routed sub-layer, here and below; NULL: the settings' everywhere */
    const int64_t *experts_per_token;
    sgm_balance_set *balance; /* NULL: none */
    sgm_load *load;           /* (L) accumulators; NULL: none */
    bool together;            /* as in training: routers that can choose for all rows together; false: row by row */
    void (*observe)(void *observer, const sgm_routing *record);
    void *observer;
    sgm_recomputation *recompute; /* (layers), planned: layers are computed again in the backward pass; NULL: kept */
    double loss_scale;            /* training: 1 / targets of the global batch */
    float *row_loss;              /* (T) or NULL */
} sgm_pass;

/* Hidden states after the final norm (T, D). */
sgm_tensor sgm_transformer_hidden(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass);
/* The loss (1, 1), for training (with a tape) and evaluation. */
sgm_tensor sgm_transformer_loss(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass);
/* Plans for sgm_pass.recompute (layers), for the rows and the pass of the largest walk; `like` as in ops.h. Free each with
 * sgm_recompute_free. */
sgm_status sgm_transformer_plan_recompute(const sgm_walk *like, const sgm_model *model, const sgm_rows *rows,
                                          const sgm_pass *pass, sgm_recomputation *recompute, sgm_error *error);
/* Only the routing of every layer is wanted (the counting pass of exact balancing): no head. */
void sgm_transformer_route(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass);

#endif
