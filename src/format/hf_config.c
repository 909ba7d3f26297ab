// SPDX-License-Identifier: Apache-2.0
/* config.json of a model folder: written so that transformers opens it, read back strictly. */
#include "format/hf_config.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/param.h"
#include "base/text_print.h"

/* Whole numbers that decide the model's shape; all required. */
static const struct shape_key {
    const char *name, *alias;
    size_t offset;
    int64_t max;
} shape_keys[] = {
#define KEY(name, alias, member, max)                                                                                  \
    { name, alias, offsetof(sgm_model_settings, member), max }
    KEY("hidden_size", NULL, width, 1 << 20),
    KEY("num_hidden_layers", NULL, layers, 100000),
    KEY("num_attention_heads", NULL, heads, 65536),
    KEY("num_key_value_heads", NULL, kv_heads, 65536),
    KEY("head_dim", NULL, head_size, 65536),
    KEY("num_experts", "num_local_experts", experts, 1 << 20),
    KEY("num_experts_per_tok", NULL, experts_per_token, 1 << 20),
    KEY("moe_intermediate_size", NULL, expert_width, 1 << 20),
    KEY("vocab_size", NULL, vocabulary, 1 << 24),
    KEY("max_position_embeddings", NULL, context, 1 << 24),
#undef KEY
};

static int64_t *shape_value(const struct shape_key *key, const sgm_model_settings *settings) {
    return (int64_t *)(void *)((char *)(uintptr_t)settings + key->offset);
}

/* ---- router settings as JSON, by the plug-in's parameter table ------------------------------------------------------ */

static json_t *list_json(const sgm_param *param, const void *value) {
    json_t *array = json_array();
    bool failed = false;
    if (param->type == SGM_PARAM_INT_LIST) {
        const sgm_int_list *list = value;
        for (int64_t i = 0; i < list->count; i++)
            sgm_json_append(array, json_integer(list->items[i]), &failed);
    } else {
        const sgm_real_list *list = value;
        for (int64_t i = 0; i < list->count; i++)
            sgm_json_append(array, json_real(list->items[i]), &failed);
    }
    return sgm_json_or_null(array, failed);
}

/* Choice number `index` of "a|b|c" as its first byte and length; false past the last. */
static bool choice_at(const char *choices, int index, const char **text, size_t *size) {
    while (index-- > 0) {
        choices = strchr(choices, '|');
        if (!choices)
            return false;
        choices++;
    }
    *text = choices;
    *size = strcspn(choices, "|");
    return true;
}

static json_t *param_json(const sgm_param *param, const void *settings) {
    const void *value = (const char *)settings + param->offset;
    const char *text = "";
    size_t size = 0;
    switch (param->type) {
    case SGM_PARAM_INT:
        return *(const int64_t *)value == SGM_AUTO ? json_string("auto") : json_integer(*(const int64_t *)value);
    case SGM_PARAM_REAL:
        return isnan(*(const double *)value) ? json_string("auto") : json_real(*(const double *)value);
    case SGM_PARAM_BOOL:
        return json_boolean(*(const bool *)value);
    case SGM_PARAM_ENUM:
        return choice_at(param->choices, *(const int *)value, &text, &size) ? json_stringn(text, size) : NULL;
    case SGM_PARAM_TEXT:
        return json_string(*(char *const *)value ? *(char *const *)value : "");
    case SGM_PARAM_INT_LIST:
    case SGM_PARAM_REAL_LIST:
        return list_json(param, value);
    }
    return NULL;
}

static sgm_status router_wrong(sgm_error *error, const char *label, const sgm_param *param) {
    return sgm_fail(error, SGM_EFORMAT, param->help, "%s: 'router.%s' has a value of the wrong type or out of range",
                    label, param->name);
}

static bool in_range(const sgm_param *param, double value) {
    return param->min > param->max || (value >= param->min && value <= param->max);
}

/* Bytes behind the settings struct that a parameter's text or list needs. */
static size_t tail_bytes(const sgm_param *param, const json_t *value) {
    if (param->type == SGM_PARAM_TEXT)
        return sgm_round_up(json_string_length(value) + 1);
    if (param->type == SGM_PARAM_INT_LIST || param->type == SGM_PARAM_REAL_LIST)
        return sgm_round_up(json_array_size(value) * sizeof(double));
    return 0;
}

static bool list_read(const sgm_param *param, const json_t *value, void *at, char *tail) {
    size_t count = json_array_size(value);
    if (!json_is_array(value) &&
        !(param->has_auto && json_string_value(value) && strcmp(json_string_value(value), "auto") == 0))
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        bool whole = param->type == SGM_PARAM_INT_LIST;
        if ((whole ? !json_is_integer(item) : !json_is_number(item)) || !in_range(param, json_number_value(item)))
            return false;
        if (whole)
            ((int64_t *)(void *)tail)[i] = json_integer_value(item);
        else
            ((double *)(void *)tail)[i] = json_number_value(item);
    }
    if (param->type == SGM_PARAM_INT_LIST)
        *(sgm_int_list *)at = (sgm_int_list){(int64_t *)(void *)tail, (int64_t)count};
    else
        *(sgm_real_list *)at = (sgm_real_list){(double *)(void *)tail, (int64_t)count};
    return true;
}

/* One value into the settings block; texts and lists into `tail`. */
static bool param_read(const sgm_param *param, const json_t *value, void *settings, char *tail) {
    void *at = (char *)settings + param->offset;
    const char *text = json_string_value(value), *choice;
    size_t size;
    bool automatic = text && param->has_auto && strcmp(text, "auto") == 0;
    switch (param->type) {
    case SGM_PARAM_INT:
        *(int64_t *)at = automatic ? SGM_AUTO : json_integer_value(value);
        return automatic || (json_is_integer(value) && in_range(param, (double)json_integer_value(value)));
    case SGM_PARAM_REAL:
        *(double *)at = automatic ? (double)NAN : json_number_value(value);
        return automatic || (json_is_number(value) && in_range(param, json_number_value(value)));
    case SGM_PARAM_BOOL:
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    case SGM_PARAM_ENUM:
        for (int i = 0; text && choice_at(param->choices, i, &choice, &size); i++)
            if (strlen(text) == size && memcmp(choice, text, size) == 0) {
                *(int *)at = i;
                return true;
            }
        return false;
    case SGM_PARAM_TEXT:
        if (!text)
            return false;
        memcpy(tail, text, strlen(text) + 1);
        *(char **)at = tail;
        return true;
    case SGM_PARAM_INT_LIST:
    case SGM_PARAM_REAL_LIST:
        return list_read(param, value, at, tail);
    }
    return false;
}

static const sgm_param *param_find(const sgm_plugin *plugin, const char *name) {
    for (size_t i = 0; i < plugin->param_count; i++)
        if (strcmp(plugin->params[i].name, name) == 0)
            return &plugin->params[i];
    return NULL;
}

/* A router of this kind with the values of `object` over its defaults. A key the router does not have is an error: its
 * meaning would be lost. */
static sgm_status router_read(const char *label, const char *kind, const json_t *object, sgm_router *router,
                              sgm_error *error) {
    sgm_error inner;
    const sgm_router_plugin *plugin = sgm_router_find(kind, &inner);
    if (!plugin)
        return sgm_fail(error, SGM_EUNSUPPORTED, inner.hint, "%s: unknown router '%.60s'", label, kind);
    size_t bytes = sgm_round_up(plugin->plugin.settings_bytes);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const sgm_param *param = param_find(&plugin->plugin, key);
        if (!param && strcmp(key, "kind") != 0)
            return sgm_fail(error, SGM_EFORMAT, "a newer sigmoe may have written this file",
                            "%s: router '%s' has no setting '%.60s'", label, kind, key);
        bytes += param ? tail_bytes(param, value) : 0;
    }
    char *block = sgm_alloc(bytes);
    if (!block)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the router of %s", label);
    sgm_status status = sgm_param_defaults(plugin->plugin.params, plugin->plugin.param_count, block, error);
    char *tail = block + sgm_round_up(plugin->plugin.settings_bytes);
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const sgm_param *param = param_find(&plugin->plugin, key);
        if (status || !param)
            continue;
        if (!param_read(param, value, block, tail))
            status = router_wrong(error, label, param);
        tail += tail_bytes(param, value);
    }
    if (status) {
        sgm_free(block);
        return status;
    }
    *router = (sgm_router){plugin, block};
    return SGM_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

/* Settings of top_k that say nothing about whether Qwen3MoE computes it: `normalise` is its norm_topk_prob, the others count
 * in training alone. */
static bool is_any_softmax_top_k(const char *setting) {
    return strcmp(setting, "normalise") == 0 || strcmp(setting, "capacity_factor") == 0 ||
           strcmp(setting, "drop_order") == 0;
}

/* Every other setting of the router at its default? */
static bool router_is_softmax_top_k(const sgm_router *router) {
    const sgm_plugin *plugin = &router->plugin->plugin;
    if (strcmp(plugin->name, "top_k") != 0)
        return false;
    void *defaults = sgm_alloc(plugin->settings_bytes + 1);
    bool same = defaults && !sgm_param_defaults(plugin->params, plugin->param_count, defaults, NULL);
    for (size_t i = 0; same && i < plugin->param_count; i++)
        same = is_any_softmax_top_k(plugin->params[i].name) ||
               sgm_param_same(&plugin->params[i], router->settings, defaults);
    sgm_free(defaults);
    return same;
}

static bool router_normalises(const sgm_router *router) {
    const sgm_param *param = param_find(&router->plugin->plugin, "normalise");
    return param && param->type == SGM_PARAM_BOOL && *(const bool *)((const char *)router->settings + param->offset);
}

bool sgm_hf_config_is_qwen3_moe(const sgm_hf_config *config) {
    const sgm_model_settings *s = &config->settings;
    if (s->attention_experts > 0)
        return false;
    for (int64_t l = 1; l < s->layers; l++)
        if (config->experts_per_token[l] != config->experts_per_token[0])
            return false;
    return s->attention == SGM_ATTENTION_CAUSAL && s->gate_hidden == 0 && s->null_experts == 0 &&
           !config->selection_bias && router_is_softmax_top_k(&config->router);
}

static const char *const attentions[SGM_ATTENTIONS] = {"causal", "stick_breaking"};

static void set_sigmoe_keys(json_t *root, const sgm_hf_config *config, bool *failed) {
    json_t *list = json_array(), *router = json_object();
    int64_t attention_experts = config->settings.attention_experts;
    for (int64_t r = 0; r < sgm_routed_layers(config->settings.layers, attention_experts); r++)
        if (!sgm_routed_is_attention(attention_experts, r))
            sgm_json_append(list, json_integer(config->experts_per_token[r]), failed);
    sgm_json_set(router, "kind", json_string(config->router.plugin->plugin.name), failed);
    for (size_t i = 0; i < config->router.plugin->plugin.param_count; i++) {
        const sgm_param *param = &config->router.plugin->plugin.params[i];
        sgm_json_set(router, param->name, param_json(param, config->router.settings), failed);
    }
    sgm_json_set(root, "experts_per_token_by_layer", list, failed);
    sgm_json_set(root, "router", router, failed);
    sgm_json_set(root, "attention", json_string(attentions[config->settings.attention]), failed);
    sgm_json_set(root, "selection_bias", json_boolean(config->selection_bias), failed);
    if (config->settings.null_experts > 0)
        sgm_json_set(root, "null_experts", json_integer(config->settings.null_experts), failed);
    sgm_json_set(root, "gate_hidden", json_integer(config->settings.gate_hidden), failed);
    if (attention_experts > 0) {
        sgm_json_set(root, "attention_experts", json_integer(attention_experts), failed);
        sgm_json_set(root, "attention_experts_per_token", json_integer(config->settings.attention_experts_per_token),
                     failed);
    }
}

sgm_status sgm_hf_config_write(const sgm_hf_config *config, char **json, sgm_error *error) {
    const sgm_model_settings *s = &config->settings;
    bool qwen = sgm_hf_config_is_qwen3_moe(config);
    json_t *root = json_object();
    bool failed = false;
    sgm_json_set(root, "architectures", json_pack("[s]", qwen ? "Qwen3MoeForCausalLM" : "SigmoeForCausalLM"), &failed);
    sgm_json_set(root, "model_type", json_string(qwen ? "qwen3_moe" : "sigmoe"), &failed);
    for (size_t i = 0; i < sizeof shape_keys / sizeof *shape_keys; i++)
        sgm_json_set(root, shape_keys[i].name, json_integer(*shape_value(&shape_keys[i], s)), &failed);
    int64_t k = qwen ? config->experts_per_token[0] : s->experts_per_token;
    sgm_json_set(root, "num_experts_per_tok", json_integer(k), &failed);
    sgm_json_set(root, "intermediate_size", json_integer(s->expert_width * k),
                 &failed); /* of dense layers, which there are none of */
    sgm_json_set(root, "norm_topk_prob", json_boolean(router_normalises(&config->router)), &failed);
    sgm_json_set(root, "decoder_sparse_step", json_integer(1), &failed);
    sgm_json_set(root, "mlp_only_layers", json_array(), &failed);
    sgm_json_set(root, "hidden_act", json_string("silu"), &failed);
    sgm_json_set(root, "attention_bias", json_false(), &failed);
    sgm_json_set(root, "attention_dropout", json_real(0), &failed);
    sgm_json_set(root, "use_sliding_window", json_false(), &failed);
    sgm_json_set(root, "sliding_window", json_null(), &failed);
    sgm_json_set(root, "rope_theta", json_real(s->rope_theta), &failed);
    sgm_json_set(root, "rope_scaling", json_null(), &failed);
    sgm_json_set(root, "rms_norm_eps", json_real(s->norm_epsilon), &failed);
    sgm_json_set(root, "tie_word_embeddings", json_boolean(s->tie_embeddings), &failed);
    sgm_json_set(root, "initializer_range", json_real(s->init_std), &failed);
    sgm_json_set(root, "gate_initializer_range", json_real(s->gate_init_std), &failed);
    if (s->embedding_init_std > 0)
        sgm_json_set(root, "embedding_initializer_range", json_real(s->embedding_init_std), &failed);
    sgm_json_set(root, "output_router_logits", json_false(), &failed);
    sgm_json_set(root, "router_aux_loss_coef", json_real(0.001), &failed);
    sgm_json_set(root, "bos_token_id", config->end_of_text < 0 ? json_null() : json_integer(config->end_of_text),
                 &failed);
    sgm_json_set(root, "eos_token_id", config->end_of_text < 0 ? json_null() : json_integer(config->end_of_text),
                 &failed);
    sgm_json_set(root, "use_cache", json_true(), &failed);
    sgm_json_set(root, "torch_dtype", json_string("float32"), &failed);
    if (!qwen)
        set_sigmoe_keys(root, config, &failed);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(root);
    *json = text && !failed ? sgm_format("%s\n", text) : NULL;
    free(text);
    return *json ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for config.json");
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

typedef struct reader {
    const char *label;
    const json_t *root;
    sgm_error *error;
} reader;

static sgm_status missing(const reader *r, const char *key) {
    return sgm_fail(r->error, SGM_EFORMAT, "is this the config.json of a qwen3_moe or sigmoe model?",
                    "%s: the key '%s' is missing", r->label, key);
}

static sgm_status read_shape(const reader *r, sgm_model_settings *settings) {
    for (size_t i = 0; i < sizeof shape_keys / sizeof *shape_keys; i++) {
        const struct shape_key *key = &shape_keys[i];
        const json_t *value = json_object_get(r->root, key->name);
        if (!value && key->alias)
            value = json_object_get(r->root, key->alias);
        if (!value)
            return missing(r, key->name);
        if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > key->max) {
            char hint[96];
            snprintf(hint, sizeof hint, "it must be a whole number from 1 to %" PRId64, key->max);
            return sgm_fail(r->error, SGM_EFORMAT, hint, "%s: the value of '%s' is impossible", r->label, key->name);
        }
        *shape_value(key, settings) = json_integer_value(value);
    }
    return SGM_OK;
}

/* A number; `fallback` where it may be absent (NaN: it may not). */
static sgm_status read_real(const reader *r, const json_t *value, const char *key, double min, double max,
                            double fallback, double *out) {
    *out = fallback;
    if (!value)
        return isnan(fallback) ? missing(r, key) : SGM_OK;
    *out = json_number_value(value);
    if (json_is_number(value) && *out >= min && *out <= max)
        return SGM_OK;
    char hint[96];
    sgm_text_print(hint, sizeof hint, "it must be a number from %g to %g", min, max);
    return sgm_fail(r->error, SGM_EFORMAT, hint, "%s: the value of '%s' is impossible", r->label, key);
}

static sgm_status read_numbers(const reader *r, sgm_model_settings *s) {
    /* transformers 5 keeps theta in an object of its own. */
    const json_t *theta = json_object_get(r->root, "rope_theta");
    const json_t *rope = json_object_get(r->root, "rope_parameters");
    if (!theta)
        theta = json_object_get(rope, "rope_theta");
    sgm_status status = read_real(r, theta, "rope_theta", 1, 1e12, (double)NAN, &s->rope_theta);
    if (!status)
        status =
            read_real(r, json_object_get(r->root, "rms_norm_eps"), "rms_norm_eps", 0, 1, (double)NAN, &s->norm_epsilon);
    if (!status)
        status = read_real(r, json_object_get(r->root, "initializer_range"), "initializer_range", 1e-6, 10, 0.02,
                           &s->init_std);
    if (!status)
        status = read_real(r, json_object_get(r->root, "gate_initializer_range"), "gate_initializer_range", 1e-6, 10,
                           s->init_std, &s->gate_init_std);
    if (!status)
        status = read_real(r, json_object_get(r->root, "embedding_initializer_range"), "embedding_initializer_range", 0,
                           10, 0, &s->embedding_init_std);
    if (status)
        return status;
    const json_t *tied = json_object_get(r->root, "tie_word_embeddings");
    if (!tied)
        return missing(r, "tie_word_embeddings");
    if (!json_is_boolean(tied))
        return sgm_fail(r->error, SGM_EFORMAT, "it must be true or false",
                        "%s: the value of 'tie_word_embeddings' is impossible", r->label);
    s->tie_embeddings = json_is_true(tied);
    return SGM_OK;
}

static bool is_off(const json_t *value) {
    return !value || json_is_null(value) || json_is_false(value);
}

/* Keys that would change what is computed must have the one value we compute, or be absent. */
static sgm_status read_fixed(const reader *r) {
    const json_t *rope = json_object_get(r->root, "rope_parameters");
    const json_t *type = json_object_get(rope, "rope_type"), *scaling = json_object_get(r->root, "rope_scaling");
    const json_t *act = json_object_get(r->root, "hidden_act"), *step = json_object_get(r->root, "decoder_sparse_step");
    const json_t *dense = json_object_get(r->root, "mlp_only_layers");
    const struct {
        const char *key;
        bool fine;
    } checks[] = {
        {"hidden_act", !act || (json_string_value(act) && strcmp(json_string_value(act), "silu") == 0)},
        {"decoder_sparse_step", !step || json_integer_value(step) == 1},
        {"mlp_only_layers", !dense || json_is_null(dense) || (json_is_array(dense) && json_array_size(dense) == 0)},
        {"attention_bias", is_off(json_object_get(r->root, "attention_bias"))},
        {"use_sliding_window", is_off(json_object_get(r->root, "use_sliding_window"))},
        {"quantization_config", is_off(json_object_get(r->root, "quantization_config"))},
        {"rope_scaling", !scaling || json_is_null(scaling)},
        {"rope_parameters", !type || (json_string_value(type) && strcmp(json_string_value(type), "default") == 0)},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].fine)
            return sgm_fail(r->error, SGM_EUNSUPPORTED,
                            "supported: SiLU experts in every layer, plain RoPE, full attention without biases, "
                            "weights not quantised",
                            "%s: the model's '%s' is not supported", r->label, checks[i].key);
    return SGM_OK;
}

static sgm_status read_layers(const reader *r, const json_t *list, sgm_hf_config *config) {
    int64_t layers = config->settings.layers, experts = config->settings.experts;
    if (list && (!json_is_array(list) || (int64_t)json_array_size(list) != layers))
        return sgm_fail(r->error, SGM_EFORMAT, "it needs one number for each of num_hidden_layers",
                        "%s: 'experts_per_token_by_layer' is not a list of %" PRId64 " numbers", r->label, layers);
    int64_t attention_experts = config->settings.attention_experts,
            routed = sgm_routed_layers(layers, attention_experts);
    config->experts_per_token = sgm_alloc((size_t)routed * sizeof(int64_t));
    if (!config->experts_per_token)
        return sgm_fail(r->error, SGM_EMEMORY, NULL, "no memory for %s", r->label);
    for (int64_t l = 0; l < layers; l++) {
        const json_t *item = json_array_get(list, (size_t)l);
        int64_t k = list ? json_integer_value(item) : config->settings.experts_per_token;
        if ((list && !json_is_integer(item)) || k < 1 || k > experts)
            return sgm_fail(r->error, SGM_EFORMAT, "it must be from 1 to num_experts",
                            "%s: experts per token of layer %" PRId64 " is impossible", r->label, l);
        if (attention_experts > 0)
            config->experts_per_token[2 * l] = config->settings.attention_experts_per_token;
        config->experts_per_token[attention_experts > 0 ? 2 * l + 1 : l] = k;
    }
    return SGM_OK;
}

static sgm_status read_qwen3_moe(const reader *r, sgm_hf_config *config) {
    const json_t *norm = json_object_get(r->root, "norm_topk_prob");
    bool failed = false;
    if (norm && !json_is_boolean(norm))
        return sgm_fail(r->error, SGM_EFORMAT, "it must be true or false",
                        "%s: the value of 'norm_topk_prob' is impossible", r->label);
    json_t *router = json_object();
    if (json_is_true(norm))
        sgm_json_set(router, "normalise", json_true(), &failed);
    sgm_status status = !router || failed
                            ? sgm_fail(r->error, SGM_EMEMORY, NULL, "not enough memory to read %s", r->label)
                            : router_read(r->label, "top_k", router, &config->router, r->error);
    json_decref(router);
    return status ? status : read_layers(r, NULL, config);
}

/* Older files have neither of these. */
static sgm_status read_attention_experts(const reader *r, sgm_model_settings *s) {
    const struct {
        const char *key;
        int64_t least, *value;
    } keys[] = {{"attention_experts", 0, &s->attention_experts},
                {"attention_experts_per_token", 1, &s->attention_experts_per_token}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(r->root, keys[i].key);
        *keys[i].value = value ? json_integer_value(value) : keys[i].least;
        if (value && (!json_is_integer(value) || *keys[i].value < keys[i].least || *keys[i].value > 1 << 16))
            return sgm_fail(r->error, SGM_EFORMAT, "it must be a whole number up to 65536",
                            "%s: the value of '%s' is impossible", r->label, keys[i].key);
    }
    return SGM_OK;
}

static sgm_status read_sigmoe(const reader *r, sgm_hf_config *config) {
    const json_t *router = json_object_get(r->root, "router"), *list;
    const char *kind = json_string_value(json_object_get(router, "kind"));
    const char *attention = json_string_value(json_object_get(r->root, "attention"));
    if (!router)
        return missing(r, "router");
    if (!kind)
        return missing(r, "router.kind");
    if (!attention)
        return missing(r, "attention");
    int *how = &config->settings.attention;
    for (*how = 0; *how < SGM_ATTENTIONS && strcmp(attention, attentions[*how]) != 0;)
        ++*how;
    if (*how == SGM_ATTENTIONS)
        return sgm_fail(r->error, SGM_EUNSUPPORTED, "known: causal, stick_breaking", "%s: unknown attention '%.60s'",
                        r->label, attention);
    const json_t *hidden = json_object_get(r->root, "gate_hidden"); /* older files have none */
    if (hidden && (!json_is_integer(hidden) || json_integer_value(hidden) < 0 || json_integer_value(hidden) > 1 << 20))
        return sgm_fail(r->error, SGM_EFORMAT, "it must be a whole number from 0 to 1048576",
                        "%s: the value of 'gate_hidden' is impossible", r->label);
    config->settings.gate_hidden = json_integer_value(hidden);
    const json_t *bias = json_object_get(r->root, "selection_bias");
    if (bias && !json_is_boolean(bias))
        return sgm_fail(r->error, SGM_EFORMAT, "write true or false", "%s: 'selection_bias' is not true or false",
                        r->label);
    config->selection_bias = json_is_true(bias);
    const json_t *null = json_object_get(r->root, "null_experts");
    config->settings.null_experts = null ? json_integer_value(null) : 0;
    if (null && (!json_is_integer(null) || config->settings.null_experts < 0 ||
                 config->settings.null_experts >= config->settings.experts))
        return sgm_fail(r->error, SGM_EFORMAT, "it must be a whole number from 0, less than num_experts",
                        "%s: the value of 'null_experts' is impossible", r->label);
    list = json_object_get(r->root, "experts_per_token_by_layer");
    if (!list)
        return missing(r, "experts_per_token_by_layer");
    sgm_status status = read_attention_experts(r, &config->settings);
    if (!status)
        status = router_read(r->label, kind, router, &config->router, r->error);
    return status ? status : read_layers(r, list, config);
}

static sgm_status check_settings(const reader *r, const sgm_model_settings *settings) {
    sgm_error inner = {0};
    if (!sgm_model_settings_check(settings, &inner))
        return SGM_OK;
    return sgm_fail(r->error, SGM_EFORMAT, inner.hint, "%s: %s", r->label, inner.message);
}

static sgm_status check_router(const reader *r, const sgm_hf_config *config) {
    const sgm_model_settings *s = &config->settings;
    const sgm_router_plugin *plugin = config->router.plugin;
    int64_t attention_experts = s->attention_experts, routed = sgm_routed_layers(s->layers, attention_experts);
    sgm_error inner = {0};
    for (int64_t l = 0; plugin->check && l < routed; l++)
        if (plugin->check(config->router.settings, sgm_routed_experts(s->experts, attention_experts, l),
                          config->experts_per_token[l], &inner))
            return sgm_fail(r->error, SGM_EUNSUPPORTED, inner.hint, "%s: layer %" PRId64 ": %s", r->label,
                            sgm_routed_layer(attention_experts, l), inner.message);
    return SGM_OK;
}

static sgm_status read_root(const reader *r, sgm_hf_config *config) {
    const char *type = json_string_value(json_object_get(r->root, "model_type"));
    if (!type)
        return missing(r, "model_type");
    bool qwen = strcmp(type, "qwen3_moe") == 0;
    if (!qwen && strcmp(type, "sigmoe") != 0)
        return sgm_fail(r->error, SGM_EUNSUPPORTED, "supported: qwen3_moe, sigmoe",
                        "%s: models of type '%.60s' are not supported", r->label, type);
    snprintf(config->model_type, sizeof config->model_type, "%s", type);
    sgm_status status = read_shape(r, &config->settings);
    if (!status)
        status = read_numbers(r, &config->settings);
    if (!status)
        status = read_fixed(r);
    if (!status) /* before anything is allocated for so many layers */
        status = check_settings(r, &config->settings);
    if (!status)
        status = qwen ? read_qwen3_moe(r, config) : read_sigmoe(r, config);
    if (!status) /* with the router's hidden layer, the null and the attention experts */
        status = check_settings(r, &config->settings);
    if (!status)
        status = check_router(r, config);
    const json_t *end = json_object_get(r->root, "eos_token_id");
    config->end_of_text =
        json_is_integer(end) && json_integer_value(end) >= 0 && json_integer_value(end) < config->settings.vocabulary
            ? (int32_t)json_integer_value(end)
            : -1;
    return status;
}

sgm_status sgm_hf_config_parse(const char *json, size_t size, const char *label, sgm_hf_config *config,
                               sgm_error *error) {
    *config = (sgm_hf_config){.end_of_text = -1, .settings.attention_experts_per_token = 1};
    static const char hint[] = "the file is damaged or is not a config.json";
    json_t *root;
    sgm_status status = sgm_json_read(json, size, JSON_REJECT_DUPLICATES, label, hint, &root, error);
    if (!status && !json_is_object(root))
        status = sgm_fail(error, SGM_EFORMAT, hint, "%s: this is not a JSON object", label);
    reader r = {label, root, error};
    if (!status)
        status = read_root(&r, config);
    json_decref(root);
    if (status)
        sgm_hf_config_fini(config);
    return status;
}

void sgm_hf_config_fini(sgm_hf_config *config) {
    sgm_free(config->router.settings);
    sgm_free(config->experts_per_token);
    *config = (sgm_hf_config){.end_of_text = -1};
}
