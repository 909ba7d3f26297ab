// SPDX-License-Identifier: Apache-2.0
/* The keys of a GGUF model file as settings.
 *
 * A qwen3moe file's keys are put into the words of config.json and read by its reader, so that what is a possible model and
 * what is not is decided in one place. Keys that would change what is computed must have the one value we compute. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text_print.h"
#include "model/model_gguf.h"

typedef struct reader {
    const sgm_gguf *file;
    const char *label, *architecture;
    sgm_error *error;
} reader;

static void key_name(const reader *r, const char *suffix, char name[128]) {
    snprintf(name, 128, "%s.%s", r->architecture, suffix);
}

/* Whole numbers. `fallback` where the key may be absent; negative: it may not. */
static sgm_status read_int(const reader *r, const char *suffix, int64_t fallback, int64_t *value) {
    char name[128];
    key_name(r, suffix, name);
    *value = fallback;
    if (!sgm_gguf_has(r->file, name))
        return fallback >= 0 ? SGM_OK
                             : sgm_fail(r->error, SGM_EFORMAT, "is this the file of a language model?",
                                        "%s: the key '%s' is missing", r->label, name);
    if (sgm_gguf_get_int(r->file, name, value) && *value >= 0)
        return SGM_OK;
    return sgm_fail(r->error, SGM_EUNSUPPORTED, "one whole number for all layers is supported",
                    "%s: the key '%s' is not a whole number", r->label, name);
}

static sgm_status read_real(const reader *r, const char *suffix, double fallback, double *value) {
    char name[128];
    key_name(r, suffix, name);
    *value = fallback;
    if (!sgm_gguf_has(r->file, name))
        return !isnan(fallback) ? SGM_OK
                                : sgm_fail(r->error, SGM_EFORMAT, "is this the file of a language model?",
                                           "%s: the key '%s' is missing", r->label, name);
    if (sgm_gguf_get_float(r->file, name, value) && isfinite(*value)) {
        /* The file holds an f32 of what was written as a decimal: 1e-6 shall be 1e-6 again. */
        char digits[32];
        for (int precision = 6; precision <= 9; precision++) {
            sgm_text_print(digits, sizeof digits, "%.*g", precision, *value);
            if ((double)(float)sgm_text_real(digits, NULL) == *value)
                break;
        }
        if ((double)(float)sgm_text_real(digits, NULL) == *value)
            *value = sgm_text_real(digits, NULL);
        return SGM_OK;
    }
    return sgm_fail(r->error, SGM_EFORMAT, "it must be a number", "%s: the value of '%s' is impossible", r->label,
                    name);
}

/* Keys with a single value that we compute; absent is fine. */
static sgm_status read_fixed(const reader *r, int64_t head_size) {
    const struct {
        const char *suffix;
        int64_t value, other; /* a second value that means the same */
    } wholes[] = {
        {"attention.value_length", head_size, head_size},
        {"rope.dimension_count", head_size, head_size},
        {"expert_shared_count", 0, 0},
        {"expert_shared_feed_forward_length", 0, 0},
        {"leading_dense_block_count", 0, 0},
        {"expert_gating_func", 1, 0}, /* softmax, or not said */
        {"expert_group_count", 0, 1},
        {"attention.sliding_window", 0, 0},
        {"nextn_predict_layers", 0, 0},
    };
    char name[128];
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        int64_t value = 0;
        key_name(r, wholes[i].suffix, name);
        sgm_status status = read_int(r, wholes[i].suffix, wholes[i].value, &value);
        if (status)
            return status;
        if (value != wholes[i].value && value != wholes[i].other)
            return sgm_fail(
                r->error, SGM_EUNSUPPORTED,
                "supported: experts in every layer, softmax routing, plain RoPE over whole heads, full attention",
                "%s: the model's '%s' is %" PRId64 ", which is not supported", r->label, name, value);
    }
    double scale = 0, factor = 0;
    const char *scaling = "none";
    size_t size = 4;
    sgm_status status = read_real(r, "expert_weights_scale", 0, &scale);
    if (!status)
        status = read_real(r, "rope.scaling.factor", 1, &factor);
    key_name(r, "rope.scaling.type", name);
    (void)sgm_gguf_get_text(r->file, name, &scaling, &size);
    if (!status && ((scale != 0 && scale != 1) || factor != 1 || size != 4 || memcmp(scaling, "none", 4) != 0))
        return sgm_fail(r->error, SGM_EUNSUPPORTED, "supported: plain RoPE, weights of experts that are not scaled",
                        "%s: the model scales its positions or its experts' weights", r->label);
    return status;
}

/* Rows of a matrix in the file. */
static sgm_status tensor_rows(const reader *r, const char *name, int64_t *rows) {
    const sgm_gguf_tensor *tensor = sgm_gguf_tensor_find(r->file, name);
    if (!tensor || tensor->dimensions != 2)
        return sgm_fail(r->error, SGM_EFORMAT, "is this the file of a language model?",
                        "%s: the tensor '%s' is missing or no matrix", r->label, name);
    *rows = tensor->shape[0];
    return SGM_OK;
}

static sgm_status normalises(const reader *r, bool *normalise) {
    char name[128];
    key_name(r, "expert_weights_norm", name);
    *normalise = true; /* what llama.cpp computes for qwen3moe */
    if (!sgm_gguf_has(r->file, name) || sgm_gguf_get_bool(r->file, name, normalise))
        return SGM_OK;
    return sgm_fail(r->error, SGM_EFORMAT, "it must be true or false", "%s: the value of '%s' is impossible", r->label,
                    name);
}

static sgm_status read_qwen3moe(const reader *r, sgm_hf_config *config) {
    int64_t layers = 0, width = 0, heads = 0, groups = 0, size = 0, experts = 0, used = 0, hidden = 0, feed = 0,
            context = 0, vocabulary = 0, end = -1;
    double theta = 0, epsilon = 0;
    bool normalise = true;
    sgm_status status = read_int(r, "block_count", -1, &layers);
#define THEN(call)                                                                                                     \
    if (!status)                                                                                                       \
    status = (call)
    THEN(read_int(r, "embedding_length", -1, &width));
    THEN(read_int(r, "attention.head_count", -1, &heads));
    THEN(read_int(r, "attention.head_count_kv", heads, &groups));
    THEN(read_int(r, "attention.key_length", heads > 0 ? width / heads : 0, &size));
    THEN(read_int(r, "context_length", -1, &context));
    THEN(read_int(r, "expert_count", -1, &experts));
    THEN(read_int(r, "expert_used_count", -1, &used));
    THEN(read_int(r, "feed_forward_length", 0, &feed));
    THEN(read_int(r, "expert_feed_forward_length", used > 0 ? feed / used : 0, &hidden));
    THEN(read_real(r, "rope.freq_base", 10000, &theta));
    THEN(read_real(r, "attention.layer_norm_rms_epsilon", (double)NAN, &epsilon));
    THEN(tensor_rows(r, "token_embd.weight", &vocabulary));
    THEN(read_fixed(r, size));
    THEN(normalises(r, &normalise));
#undef THEN
    if (status)
        return status;
    (void)sgm_gguf_get_int(r->file, "tokenizer.ggml.eos_token_id", &end);
    char *json = sgm_format(
        "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": %" PRId64 ", \"hidden_size\": %" PRId64
        ", \"num_attention_heads\": %" PRId64 ", \"num_key_value_heads\": %" PRId64 ", \"head_dim\": %" PRId64
        ", \"num_experts\": %" PRId64 ", \"num_experts_per_tok\": %" PRId64 ", \"moe_intermediate_size\": %" PRId64
        ", \"vocab_size\": %" PRId64 ", \"max_position_embeddings\": %" PRId64
        ", \"rope_theta\": %.17g, \"rms_norm_eps\": %.17g"
        ", \"tie_word_embeddings\": %s, \"norm_topk_prob\": %s, \"eos_token_id\": %" PRId64 "}",
        layers, width, heads, groups, size, experts, used, hidden, vocabulary, context, theta, epsilon,
        sgm_gguf_tensor_find(r->file, "output.weight") ? "false" : "true", normalise ? "true" : "false", end);
    if (!json)
        return sgm_fail(r->error, SGM_EMEMORY, NULL, "no memory for the settings of %s", r->label);
    status = sgm_hf_config_parse(json, strlen(json), r->label, config, r->error);
    sgm_free(json);
    return status;
}

sgm_status sgm_model_gguf_config(const sgm_gguf *file, const char *label, sgm_hf_config *config, sgm_error *error) {
    const char *architecture = "", *json;
    size_t size = 0, json_size;
    reader r = {file, label, "qwen3moe", error};
    if (!sgm_gguf_get_text(file, "general.architecture", &architecture, &size))
        return sgm_fail(error, SGM_EFORMAT, "is this the file of a language model?",
                        "%s: the key 'general.architecture' is missing", label);
    sgm_status status;
    if (size == 8 && memcmp(architecture, "qwen3moe", 8) == 0) {
        status = read_qwen3moe(&r, config);
    } else if (size == 6 && memcmp(architecture, "sigmoe", 6) == 0) {
        if (!sgm_gguf_get_text(file, "sigmoe.config", &json, &json_size))
            return sgm_fail(error, SGM_EFORMAT, NULL, "%s: the key 'sigmoe.config' is missing", label);
        status = sgm_hf_config_parse(json, json_size, label, config, error);
        bool null = config->settings.null_experts > 0;
        if (!status && (null || config->settings.attention_experts > 0)) {
            sgm_hf_config_fini(config);
            status = sgm_fail(error, SGM_EUNSUPPORTED, "open the model folder it was made from",
                              "%s: %s experts in a GGUF file are not supported", label, null ? "null" : "attention");
        }
    } else {
        return sgm_fail(error, SGM_EUNSUPPORTED, "supported: qwen3moe, sigmoe",
                        "%s: models of architecture '%.*s' are not supported", label, size > 60 ? 60 : (int)size,
                        architecture);
    }
    if (!status)
        snprintf(config->model_type, sizeof config->model_type, "%.*s", (int)size, architecture);
    return status;
}
