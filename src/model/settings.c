// SPDX-License-Identifier: Apache-2.0
/* The shape of a model: its parameter table, its checks, its counts. */
#include "model/settings.h"

#include <inttypes.h>
#include <math.h>

#include "base/param.h"

#define FIELD(member) offsetof(sgm_model_settings, member)

const sgm_param sgm_model_params[] = {
    {"layers", SGM_PARAM_INT, FIELD(layers), "8", 1, 100000, false, NULL, "", "transformer layers"},
    {"width", SGM_PARAM_INT, FIELD(width), "192", 1, 1 << 20, false, NULL, "", "width of the residual stream"},
    {"heads", SGM_PARAM_INT, FIELD(heads), "6", 1, 65536, false, NULL, "", "query heads"},
    {"kv_heads", SGM_PARAM_INT, FIELD(kv_heads), "2", 1, 65536, false, NULL, "", "key/value heads; divides heads"},
    {"head_size", SGM_PARAM_INT, FIELD(head_size), "32", 2, 65536, false, NULL, "", "size of a head; even"},
    {"experts", SGM_PARAM_INT, FIELD(experts), "96", 1, 1 << 20, false, NULL, "", "experts in each layer"},
    {"experts_per_token", SGM_PARAM_INT, FIELD(experts_per_token), "1", 1, 1 << 20, false, NULL, "",
     "experts a token activates (the target of a sparsity schedule)"},
    {"null_experts", SGM_PARAM_INT, FIELD(null_experts), "0", 0, 1 << 20, false, NULL, "",
     "how many of model.experts, the last ones, do nothing: a token that chooses one computes less"},
    {"expert_width", SGM_PARAM_INT, FIELD(expert_width), "96", 1, 1 << 20, false, NULL, "",
     "hidden width of an expert"},
    {"vocabulary", SGM_PARAM_INT, FIELD(vocabulary), "4096", 2, 1 << 24, false, NULL, "tokens", "vocabulary"},
    {"context", SGM_PARAM_INT, FIELD(context), "256", 1, 1 << 24, false, NULL, "tokens", "longest sequence"},
    {"tie_embeddings", SGM_PARAM_BOOL, FIELD(tie_embeddings), "true", 1, 0, false, NULL, "",
     "the output head is the embedding table"},
    {"rope_theta", SGM_PARAM_REAL, FIELD(rope_theta), "10000", 1, 1e12, false, NULL, "",
     "base of the rotary wave lengths"},
    {"norm_epsilon", SGM_PARAM_REAL, FIELD(norm_epsilon), "1e-6", 0, 1, false, NULL, "",
     "added to the mean square in norms"},
    {"attention", SGM_PARAM_ENUM, FIELD(attention), "causal", 1, 0, false, "causal|stick_breaking", "",
     "how scores become weights: softmax with rotary positions, or stick-breaking, which needs no positions"},
    {"gate_hidden", SGM_PARAM_INT, FIELD(gate_hidden), "0", 0, 1 << 20, false, NULL, "",
     "width of the router's hidden layer, with a bias and GELU; 0: a linear router"},
    {"attention_experts", SGM_PARAM_INT, FIELD(attention_experts), "0", 0, 1 << 16, false, NULL, "",
     "attention experts in each layer, each with queries of model.heads heads and an output of its own; 0: dense "
     "attention"},
    {"attention_experts_per_token", SGM_PARAM_INT, FIELD(attention_experts_per_token), "1", 1, 1 << 16, false, NULL, "",
     "attention experts a token activates; with model.attention_experts"},
    {"init_std", SGM_PARAM_REAL, FIELD(init_std), "0.02", 1e-6, 10, false, NULL, "",
     "standard deviation of fresh weights; outputs of attention and experts take 1/sqrt(2 layers) of it"},
    {"gate_init_std", SGM_PARAM_REAL, FIELD(gate_init_std), "0.02", 1e-6, 10, false, NULL, "",
     "standard deviation of the router's fresh weights"},
    {"embedding_init_std", SGM_PARAM_REAL, FIELD(embedding_init_std), "0", 0, 10, false, NULL, "",
     "standard deviation of fresh embeddings and of a fresh untied head; 0: init_std"},
};
const size_t sgm_model_param_count = sizeof sgm_model_params / sizeof *sgm_model_params;

sgm_status sgm_model_settings_check(const sgm_model_settings *s, sgm_error *error) {
    if (s->heads % s->kv_heads)
        return sgm_fail(error, SGM_EARGUMENT, "model.kv_heads must divide model.heads",
                        "model.heads = %" PRId64 " is not a multiple of model.kv_heads = %" PRId64, s->heads,
                        s->kv_heads);
    if (s->head_size % 2)
        return sgm_fail(error, SGM_EARGUMENT, "rotary positions pair the halves of a head: use an even size",
                        "model.head_size = %" PRId64 " is odd", s->head_size);
    if (s->experts_per_token > s->experts)
        return sgm_fail(error, SGM_EARGUMENT, "set model.experts_per_token to model.experts or fewer",
                        "model.experts_per_token = %" PRId64 " is more than model.experts = %" PRId64,
                        s->experts_per_token, s->experts);
    if (s->null_experts >= s->experts)
        return sgm_fail(error, SGM_EARGUMENT, "they are among model.experts: leave at least one that computes",
                        "model.null_experts = %" PRId64 " of model.experts = %" PRId64, s->null_experts, s->experts);
    if (s->attention_experts > 0 && s->attention_experts_per_token > s->attention_experts)
        return sgm_fail(
            error, SGM_EARGUMENT, "set model.attention_experts_per_token to model.attention_experts or fewer",
            "model.attention_experts_per_token = %" PRId64 " is more than model.attention_experts = %" PRId64,
            s->attention_experts_per_token, s->attention_experts);
    if (s->attention_experts == 0 && s->attention_experts_per_token > 1)
        return sgm_fail(error, SGM_EARGUMENT,
                        "set model.attention_experts too, or model.attention_experts_per_token to 1",
                        "model.attention_experts_per_token = %" PRId64 " without attention experts",
                        s->attention_experts_per_token);
    if (s->attention_experts > 0 && s->null_experts > 0)
        return sgm_fail(error, SGM_EARGUMENT, "set one of the two to 0",
                        "model.null_experts = %" PRId64 " with model.attention_experts = %" PRId64
                        ": null experts are of models with dense attention",
                        s->null_experts, s->attention_experts);
    if (s->attention_experts > 0 && s->attention_experts_per_token * s->heads > 65536)
        return sgm_fail(error, SGM_EARGUMENT, "lower model.heads, which every attention expert has",
                        "%" PRId64 " attention experts per token with %" PRId64 " heads each are too many heads",
                        s->attention_experts_per_token, s->heads);
    /* Products of these must stay far from overflow: 2^47 weights in one matrix family is 512 TiB in f32. */
    double largest = (double)s->layers * (double)s->experts * (double)s->expert_width * (double)s->width * 3;
    double vocabulary = (double)s->vocabulary * (double)s->width;
    double attention = (double)s->layers * (double)s->width * (double)s->heads * (double)s->head_size * 4;
    attention *= s->attention_experts > 0 ? (double)s->attention_experts : 1;
    attention += (double)s->layers * (double)s->gate_hidden * (double)(s->width + s->experts);
    if (largest + vocabulary + attention > 0x1p47)
        return sgm_fail(error, SGM_EARGUMENT, "reduce layers, experts, expert_width, width or vocabulary",
                        "the model would have %.3g weights", largest + vocabulary + attention);
    return SGM_OK;
}

sgm_status sgm_model_settings_from_config(const sgm_config *config, sgm_model_settings *settings, sgm_error *error) {
    *settings = (sgm_model_settings){0};
    sgm_status status = sgm_config_bind(config, "model", sgm_model_params, sgm_model_param_count, settings, error);
    return status ? status : sgm_model_settings_check(settings, error);
}

/* Parameters of a router for so many experts, and of its products alone. */
static int64_t gate_parameters(const sgm_model_settings *s, int64_t experts, int64_t *products) {
    int64_t hidden = s->gate_hidden;
    *products = hidden ? hidden * (s->width + experts) : experts * s->width;
    return *products + hidden;
}

void sgm_model_count(const sgm_model_settings *s, double k, int64_t context_tokens, sgm_model_counts *counts) {
    int64_t D = s->width, q = s->heads * s->head_size, kv = s->kv_heads * s->head_size, A = s->attention_experts;
    int64_t heads = 2 * D * q, active_heads = A ? s->attention_experts_per_token : 1; /* queries and output */
    int64_t products, gate = gate_parameters(s, s->experts, &products), attention_products = 0;
    int64_t attention_gate = A ? gate_parameters(s, A, &attention_products) : 0;
    int64_t shared = 2 * D * kv + 2 * s->head_size + 2 * D + gate + attention_gate; /* of a layer */
    int64_t expert = 3 * D * s->expert_width, table = s->vocabulary * D, computing = s->experts - s->null_experts;
    k *= (double)computing / (double)s->experts;
    *counts = (sgm_model_counts){0};
    counts->embedding_parameters = table;
    counts->head_parameters = s->tie_embeddings ? 0 : table;
    counts->expert_parameters = s->layers * (computing * expert + A * heads);
    counts->total_parameters =
        s->layers * (shared + (A ? 0 : heads)) + D + counts->expert_parameters + table + counts->head_parameters;
    counts->active_parameters =
        s->layers * (shared + active_heads * heads) + D + (int64_t)llround((double)s->layers * k * (double)expert);
    /* Products only: scores and mixing of attention see half the context on average. */
    double layer = (double)(active_heads * heads + 2 * D * kv + products + attention_products) + k * (double)expert;
    double scores = (double)s->layers * (double)context_tokens * (double)(active_heads * q);
    counts->forward_flops_per_token = 2 * ((double)s->layers * layer + (double)table + scores);
    counts->training_flops_per_token = 3 * counts->forward_flops_per_token;
    counts->bytes = 4 * counts->total_parameters;
    counts->training_bytes = 4 * counts->bytes;
}
