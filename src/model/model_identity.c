// SPDX-License-Identifier: Apache-2.0
/* What a trace says about the model that routed: hashes, shape, bytes of an expert. */
#include "model/model_identity.h"

#include <string.h>

#include "base/file.h"

static size_t stored_bytes(const sgm_weight *weight) {
    return weight->data ? (size_t)(weight->rows * weight->cols) * sizeof *weight->data
                        : (size_t)weight->stored.rows * weight->stored.stride;
}

/* A sum over weights, so that their order (a file's own) does not matter. */
uint64_t sgm_model_hash(const sgm_model *model, const sgm_real *selection_bias) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < model->weight_count; i++) {
        const sgm_weight *weight = &model->weights[i];
        uint64_t pair[2] = {
            sgm_checksum(weight->name, strlen(weight->name)),
            sgm_checksum(weight->data ? (const void *)weight->data : weight->stored.data, stored_bytes(weight))};
        sum += sgm_checksum(pair, sizeof pair);
    }
    if (selection_bias)
        sum +=
            sgm_checksum(selection_bias, (size_t)sgm_model_routed_numbers(&model->settings) * sizeof *selection_bias);
    return sum;
}

/* Null experts have no weights and are not among them. */
static int64_t mean_expert_bytes(const sgm_model *model, int64_t routed) {
    int64_t attention_experts = model->settings.attention_experts;
    const sgm_layer *layer = &model->layers[sgm_routed_layer(attention_experts, routed)];
    bool attention = sgm_routed_is_attention(attention_experts, routed);
    const sgm_weight *weights = attention ? layer->attention_experts : layer->expert_weights;
    int64_t experts = attention ? attention_experts : layer->bank.experts, matrices = attention ? 2 : 3;
    size_t bytes = 0;
    for (int64_t i = 0; i < matrices * experts; i++)
        bytes += stored_bytes(&weights[i]);
    return (int64_t)bytes / experts;
}

void sgm_model_about(const sgm_model *model, const sgm_real *selection_bias, const sgm_tokenizer *tokenizer,
                     const int64_t *experts_per_token, int64_t *expert_bytes, sgm_trace_info *about) {
    int64_t routed = sgm_model_routed(&model->settings);
    for (int64_t l = 0; l < routed; l++)
        expert_bytes[l] = mean_expert_bytes(model, l);
    *about = (sgm_trace_info){.step = -1,
                              .model_hash = sgm_model_hash(model, selection_bias),
                              .tokenizer_hash = tokenizer ? sgm_tokenizer_hash(tokenizer) : 0,
                              .vocabulary = model->settings.vocabulary,
                              .layers = routed,
                              .experts = model->settings.experts,
                              .null_experts = model->settings.experts - model->layers[0].bank.experts,
                              .attention_experts = model->settings.attention_experts,
                              .experts_per_token = experts_per_token,
                              .expert_bytes = expert_bytes};
}
