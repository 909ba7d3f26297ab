// SPDX-License-Identifier: Apache-2.0
/* The one definition of the model. Read this first: it is the whole network.
 *
 * Sigma family (arXiv 2512.16248): pre-norm RMSNorm, attention with grouped key/value heads and QK-norm before RoPE, a
 * mixture of SwiGLU experts in every layer, f32 router. With stick-breaking attention (arXiv 2306.04640) there is no RoPE; with
 * attention experts (the same paper) attention is a mixture of its own. */
#include "model/transformer.h"

#include "attention/attention_experts.h"

/* x (T, D) → x + attention(norm(x)) */
static sgm_tensor attention_block(sgm_walk *walk, const sgm_model *model, int64_t index, const sgm_rows *rows,
                                  sgm_tensor x) {
    const sgm_model_settings *s = &model->settings;
    const sgm_layer *layer = &model->layers[index];
    sgm_projections_args args = {.norm = layer->attention_norm,
                                 .q = layer->q,
                                 .k = layer->k,
                                 .v = layer->v,
                                 .q_norm = layer->q_norm,
                                 .k_norm = layer->k_norm,
                                 .heads = s->heads,
                                 .kv_heads = s->kv_heads,
                                 .epsilon = s->norm_epsilon,
                                 .table = s->attention == SGM_ATTENTION_CAUSAL ? &model->rope : NULL,
                                 .rows = rows};
    sgm_tensor q, k, v;
    sgm_projections(walk, x, &args, &q, &k, &v);
    sgm_tensor y = s->attention == SGM_ATTENTION_CAUSAL
                       ? sgm_causal_attention(walk, q, k, v, s->heads, s->kv_heads, index, rows)
                       : sgm_stick_breaking(walk, q, k, v, s->heads, s->kv_heads, index, rows);
    return sgm_linear_residual(walk, y, layer->o, x);
}

/* What the router of a routed sub-layer is told beside its own weights. */
typedef struct routed_pass {
    int64_t experts_per_token;
    const sgm_real *selection_bias;
    sgm_load *load;
} routed_pass;

static routed_pass routed_pass_of(const sgm_model *model, const sgm_pass *pass, int64_t routed) {
    const sgm_model_settings *s = &model->settings;
    return (routed_pass){pass->experts_per_token ? pass->experts_per_token[routed]
                                                 : sgm_model_routed_per_token(s, routed),
                         model->selection_bias ? model->selection_bias + routed * sgm_model_routed_stride(s) : NULL,
                         pass->load ? &pass->load[routed] : NULL};
}

/* x (T, D) → x + Σ weight · output(attention(queries(norm(x)))), over the attention experts that a row chose */
static sgm_tensor attention_experts_block(sgm_walk *walk, const sgm_model *model, int64_t index, const sgm_rows *rows,
                                          const sgm_pass *pass, sgm_tensor x) {
    const sgm_model_settings *s = &model->settings;
    const sgm_layer *layer = &model->layers[index];
    const sgm_rope_table *table = s->attention == SGM_ATTENTION_CAUSAL ? &model->rope : NULL;
    routed_pass own = routed_pass_of(model, pass, 2 * index);
    sgm_attention_route_args route = {.routed = 2 * index,
                                      .router = &model->router,
                                      .gate = layer->attention_gate,
                                      .experts_per_token = own.experts_per_token,
                                      .selection_bias = own.selection_bias,
                                      .balance = pass->balance,
                                      .load = own.load,
                                      .observe = pass->observe,
                                      .observer = pass->observer,
                                      .rows = rows};
    sgm_attention_experts_args experts = {.experts = layer->attention_experts,
                                          .count = s->attention_experts,
                                          .experts_per_token = own.experts_per_token,
                                          .heads = s->heads,
                                          .kv_heads = s->kv_heads};
    int64_t heads = own.experts_per_token * s->heads;
    sgm_tensor h = sgm_rms_norm(walk, x, layer->attention_norm, s->norm_epsilon), scored = h;
    if (layer->attention_gate_hidden)
        scored = sgm_gate_hidden(walk, h, layer->attention_gate_hidden, layer->attention_gate_bias);
    sgm_tensor weights = sgm_attention_route(walk, scored, &route, &experts.record);
    sgm_tensor q = sgm_attention_queries(walk, h, &experts);
    sgm_tensor k = sgm_linear(walk, h, layer->k), v = sgm_linear(walk, h, layer->v);
    q = sgm_rope(walk, q, layer->q_norm, heads, s->norm_epsilon, table, rows);
    k = sgm_rope(walk, k, layer->k_norm, s->kv_heads, s->norm_epsilon, table, rows);
    sgm_tensor y = s->attention == SGM_ATTENTION_CAUSAL
                       ? sgm_causal_attention(walk, q, k, v, heads, s->kv_heads, index, rows)
                       : sgm_stick_breaking(walk, q, k, v, heads, s->kv_heads, index, rows);
    return sgm_attention_outputs(walk, y, weights, x, &experts);
}

/* x (T, D) → x + Σ weight · expert(norm(x)) */
static sgm_tensor moe_block(sgm_walk *walk, const sgm_model *model, int64_t index, const sgm_rows *rows,
                            const sgm_pass *pass, sgm_tensor x) {
    const sgm_layer *layer = &model->layers[index];
    int64_t routed = model->settings.attention_experts > 0 ? 2 * index + 1 : index;
    routed_pass own = routed_pass_of(model, pass, routed);
    sgm_moe_args moe = {
        .layer = routed,
        .router = &model->router,
        .gate = layer->gate,
        .gate_hidden = layer->gate_hidden,
        .gate_bias = layer->gate_bias,
        .bank = (sgm_expert_bank *)&layer->bank,
        .null_experts = model->settings.null_experts,
        .together = pass->together,
        .experts_per_token = own.experts_per_token,
        .selection_bias = own.selection_bias,
        .balance = pass->balance,
        .load = own.load,
        .observe = pass->observe,
        .observer = pass->observer,
        .rows = rows,
    };
    return sgm_norm_moe_ffn(walk, x, layer->ffn_norm, model->settings.norm_epsilon, &moe);
}

/* One layer, as a part that may be computed again. */
typedef struct layer_context {
    const sgm_model *model;
    int64_t index;
    const sgm_rows *rows;
    const sgm_pass *pass;
} layer_context;

static sgm_tensor one_layer(sgm_walk *walk, const void *context, sgm_tensor x) {
    const layer_context *c = context;
    x = c->model->settings.attention_experts > 0
            ? attention_experts_block(walk, c->model, c->index, c->rows, c->pass, x)
            : attention_block(walk, c->model, c->index, c->rows, x);
    return moe_block(walk, c->model, c->index, c->rows, c->pass, x);
}

/* Without a tape x stays where it is, every layer adds to it in place, and a layer's memory is given back. */
static sgm_tensor layers(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass) {
    sgm_tensor x = sgm_embedding(walk, rows, model->embedding);
    size_t mark = sgm_walk_mark(walk);
    walk->in_place = true;
    for (int64_t l = 0; l < model->settings.layers; l++) {
        const layer_context layer = {model, l, rows, pass};
        if (walk->tape && pass->recompute)
            x = sgm_recompute(walk, &pass->recompute[l], one_layer, &layer, sizeof layer, x);
        else
            x = one_layer(walk, &layer, x);
        sgm_walk_release(walk, mark);
    }
    walk->in_place = false;
    return x;
}

sgm_tensor sgm_transformer_hidden(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass) {
    sgm_tensor x = layers(walk, model, rows, pass);
    return sgm_rms_norm(walk, x, model->final_norm, model->settings.norm_epsilon);
}

sgm_tensor sgm_transformer_loss(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass) {
    sgm_tensor x = sgm_transformer_hidden(walk, model, rows, pass);
    return sgm_vocabulary_loss(walk, x, model->head, rows, pass->loss_scale, pass->row_loss);
}

sgm_status sgm_transformer_plan_recompute(const sgm_walk *like, const sgm_model *model, const sgm_rows *rows,
                                          const sgm_pass *pass, sgm_recomputation *recompute, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (int64_t l = 0; l < model->settings.layers && !status; l++) {
        const layer_context layer = {model, l, rows, pass};
        status = sgm_recompute_plan(like, one_layer, &layer, rows->rows, model->settings.width, &recompute[l], error);
    }
    return status;
}

void sgm_transformer_route(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass) {
    layers(walk, model, rows, pass);
}
