// SPDX-License-Identifier: Apache-2.0
/* The one definition of the model. Read this first: it is the whole network.
 *
 * Sigma family (arXiv 2512.16248): pre-norm RMSNorm, attention with grouped key/value heads and QK-norm before RoPE, a
 * mixture of SwiGLU experts in every layer, f32 router. */
#include "model/transformer.h"

/* x (T, D) → x + attention(norm(x)) */
static sgm_tensor attention_block(sgm_walk *walk, const sgm_model *model, int64_t index, const sgm_rows *rows,
                                  sgm_tensor x) {
    const sgm_model_settings *s = &model->settings;
    const sgm_layer *layer = &model->layers[index];
    sgm_tensor h = sgm_rms_norm(walk, x, layer->attention_norm, s->norm_epsilon);
    sgm_tensor q = sgm_linear(walk, h, layer->q);
    sgm_tensor k = sgm_linear(walk, h, layer->k);
    sgm_tensor v = sgm_linear(walk, h, layer->v);
    q = sgm_rope(walk, q, layer->q_norm, s->heads, s->norm_epsilon, &model->rope, rows);
    k = sgm_rope(walk, k, layer->k_norm, s->kv_heads, s->norm_epsilon, &model->rope, rows);
    sgm_tensor y = sgm_causal_attention(walk, q, k, v, s->heads, s->kv_heads, index, rows);
    return sgm_linear_residual(walk, y, layer->o, x);
}

/* x (T, D) → x + Σ weight · expert(norm(x)) */
static sgm_tensor moe_block(sgm_walk *walk, const sgm_model *model, int64_t index, const sgm_rows *rows,
                            const sgm_pass *pass, sgm_tensor x) {
    const sgm_layer *layer = &model->layers[index];
    sgm_tensor h = sgm_rms_norm(walk, x, layer->ffn_norm, model->settings.norm_epsilon);
    sgm_moe_args moe = {
        .layer = index,
        .router = &model->router,
        .gate = layer->gate,
        .bank = (sgm_expert_bank *)&layer->bank,
        .experts_per_token =
            pass->experts_per_token ? pass->experts_per_token[index] : model->settings.experts_per_token,
        .selection_bias = model->selection_bias ? model->selection_bias + index * model->settings.experts : NULL,
        .balance = pass->balance,
        .load = pass->load ? &pass->load[index] : NULL,
        .observe = pass->observe,
        .observer = pass->observer,
        .rows = rows,
    };
    return sgm_moe_ffn(walk, h, x, &moe);
}

/* Without a tape a layer's memory is given back: its output moves to the front of what it used. */
static sgm_tensor keep_only(sgm_walk *walk, size_t mark, sgm_tensor x) {
    if (walk->tape)
        return x;
    sgm_walk_release(walk, mark);
    sgm_tensor kept = sgm_walk_tensor(walk, x.rows, x.cols);
    if (walk->dry || walk->status)
        return kept;
    /* The two may overlap: thread 0 moves, the others wait. */
    sgm_barrier(walk->worker);
    if (walk->worker->thread == 0)
        __builtin_memmove(kept.data, x.data, (size_t)(x.rows * x.cols) * sizeof(sgm_real));
    sgm_barrier(walk->worker);
    return kept;
}

static sgm_tensor layers(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass) {
    size_t mark = sgm_walk_mark(walk);
    sgm_tensor x = sgm_embedding(walk, rows, model->embedding);
    for (int64_t l = 0; l < model->settings.layers; l++) {
        x = attention_block(walk, model, l, rows, x);
        x = moe_block(walk, model, l, rows, pass, x);
        x = keep_only(walk, mark, x);
    }
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

void sgm_transformer_route(sgm_walk *walk, const sgm_model *model, const sgm_rows *rows, const sgm_pass *pass) {
    layers(walk, model, rows, pass);
}
