// SPDX-License-Identifier: Apache-2.0
/* Model folders: config.json as transformers wants it and read back strictly, weights that come back bit for bit, damage
 * that is refused, and the ways to name a model on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/team.h"
#include "format/hf_config.h"
#include "format/safetensors.h"
#include "model/model_folder.h"
#include "sigmoe/stats.h"
#include "sigmoe/text.h"
#include "unit/model_fixture.h"

static char *read_text(const char *folder, const char *name, size_t *size) {
    char path[512], *text;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(sgm_file_read(path, 1 << 24, &text, size, NULL), SGM_OK);
    return text;
}

static void assert_same_file(const char *a, const char *b, const char *name) {
    size_t a_size, b_size;
    char *x = read_text(a, name, &a_size), *y = read_text(b, name, &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(x, y, a_size);
    sgm_free(x);
    sgm_free(y);
}

static sgm_model *load(const char *folder, int64_t **layers) {
    sgm_model *model;
    sgm_error error = {0};
    if (sgm_model_folder_load(folder, false, &model, layers, &error))
        fail_msg("%s", error.message);
    return model;
}

static void inspects_a_new_model(void **state) {
    (void)state;
    const char *path = make_model("new", NULL);
    sgm_model_info info;
    sgm_error error = {0};
    assert_int_equal(sgm_model_inspect(path, &info, &error), SGM_OK);
    /* By hand: embedding 257·64; a layer: q, o 64·64 each, k, v 32·64 each, two norms of 64, two of 16, gate 8·64,
     * 8 experts of 3·64·32; the last norm 64. The head is tied. */
    assert_int_equal(info.counts.embedding_parameters, 257 * 64);
    assert_int_equal(info.counts.total_parameters,
                     257 * 64 + 2 * (2 * 4096 + 2 * 2048 + 128 + 32 + 512 + 8 * 6144) + 64);
    assert_int_equal(info.counts.active_parameters, 2 * (2 * 4096 + 2 * 2048 + 128 + 32 + 512 + 6144) + 64);
    assert_string_equal(info.model_type, "qwen3_moe");
    assert_string_equal(info.router, "top_k");
    assert_string_equal(info.dtype, "f32");
    assert_int_equal(info.step, -1);
    assert_false(info.has_tokenizer);
    assert_true(info.file_bytes > 4 * info.counts.total_parameters);
    assert_int_equal(info.settings.experts, 8);
    assert_true(info.settings.norm_epsilon == 1e-6 && info.settings.init_std == 0.15);

    /* The streamed weights are those that the same seed gives in memory. */
    int64_t *layers;
    sgm_model *model = load(path, &layers), *made;
    assert_int_equal(layers[0], 1);
    sgm_router router = {.plugin = model->router.plugin, .settings = sgm_alloc(64)};
    assert_int_equal(sgm_model_new(&info.settings, router, false, &made, &error), SGM_OK);
    sgm_team *team;
    assert_int_equal(sgm_team_new(2, &team, NULL), SGM_OK);
    sgm_model_randomise(made, 7, team);
    sgm_team_free(team);
    assert_int_equal(made->elements, model->elements);
    assert_memory_equal(made->data, model->data, (size_t)made->elements * sizeof(float));
    sgm_model_free(made);
    sgm_model_free(model);
    sgm_free(layers);
}

static void tensors_have_the_names_of_transformers(void **state) {
    (void)state;
    const char *path = make_model("names", (const char *const[]){"model.tie_embeddings=false", NULL});
    static const struct {
        const char *name;
        int dimensions;
        int64_t rows, cols;
    } expected[] = {
        {"model.embed_tokens.weight", 2, 257, 64},
        {"model.layers.1.input_layernorm.weight", 1, 64, 0},
        {"model.layers.1.post_attention_layernorm.weight", 1, 64, 0},
        {"model.layers.0.self_attn.q_proj.weight", 2, 64, 64},
        {"model.layers.0.self_attn.k_proj.weight", 2, 32, 64},
        {"model.layers.0.self_attn.v_proj.weight", 2, 32, 64},
        {"model.layers.0.self_attn.o_proj.weight", 2, 64, 64},
        {"model.layers.0.self_attn.q_norm.weight", 1, 16, 0},
        {"model.layers.0.self_attn.k_norm.weight", 1, 16, 0},
        {"model.layers.0.mlp.gate.weight", 2, 8, 64},
        {"model.layers.1.mlp.experts.7.gate_proj.weight", 2, 32, 64},
        {"model.layers.1.mlp.experts.7.up_proj.weight", 2, 32, 64},
        {"model.layers.1.mlp.experts.7.down_proj.weight", 2, 64, 32},
        {"model.norm.weight", 1, 64, 0},
        {"lm_head.weight", 2, 257, 64},
    };
    sgm_safetensors *file;
    assert_int_equal(sgm_safetensors_open(path, &file, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_count(file), 3 + 2 * (9 + 24));
    assert_string_equal(sgm_safetensors_metadata(file, "format"), "pt");
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const sgm_tensor_entry *entry = sgm_safetensors_find(file, expected[i].name);
        if (!entry)
            fail_msg("no tensor %s", expected[i].name);
        assert_int_equal(entry->dimensions, expected[i].dimensions);
        assert_int_equal(entry->shape[0], expected[i].rows);
        assert_int_equal(entry->shape[1], expected[i].cols);
    }
    sgm_safetensors_close(file);
}

static void saves_and_loads(void **state) {
    (void)state;
    const char *path = make_model("first", NULL);
    int64_t *layers = NULL;
    sgm_model *model = load(path, NULL);
    sgm_error error = {0};
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, NULL, NULL, in_folder("second"), &error),
                     SGM_OK);
    assert_same_file(in_folder("first"), in_folder("second"), "config.json");
    assert_same_file(in_folder("first"), in_folder("second"), "generation_config.json");
    assert_same_file(in_folder("first"), in_folder("second"), "model.safetensors");

    /* A k that differs by layer is no Qwen3MoE any more. */
    const int64_t different[2] = {4, 1};
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, different, NULL, in_folder("third"), &error),
                     SGM_OK);
    sgm_model *again = load(in_folder("third"), &layers);
    assert_int_equal(layers[0], 4);
    assert_int_equal(layers[1], 1);
    assert_int_equal(again->settings.experts_per_token, 1);
    assert_memory_equal(again->data, model->data, (size_t)model->elements * sizeof(float));
    sgm_model_info info;
    assert_int_equal(sgm_model_inspect(in_folder("third"), &info, &error), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    size_t size;
    char *text = read_text(in_folder("third"), "config.json", &size);
    assert_null(strstr(text, "Qwen3"));
    sgm_free(text);
    /* The same k everywhere is one, whatever the target was. */
    const int64_t same[2] = {2, 2};
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, same, NULL, in_folder("fourth"), &error),
                     SGM_OK);
    assert_int_equal(sgm_model_inspect(in_folder("fourth"), &info, &error), SGM_OK);
    assert_string_equal(info.model_type, "qwen3_moe");
    assert_int_equal(info.settings.experts_per_token, 2);

    /* Weights into an existing model; another shape is refused. */
    memset(again->data, 0, (size_t)again->elements * sizeof(float));
    assert_int_equal(sgm_model_folder_load_weights(in_folder("first"), again, NULL, &error), SGM_OK);
    assert_memory_equal(again->data, model->data, (size_t)model->elements * sizeof(float));
    make_model("wide", (const char *const[]){"model.width=32", NULL});
    assert_int_equal(sgm_model_folder_load_weights(in_folder("wide"), again, NULL, &error), SGM_EFORMAT);
    make_model("more", (const char *const[]){"model.experts=9", NULL});
    assert_int_equal(sgm_model_folder_load_weights(in_folder("more"), again, NULL, &error), SGM_EFORMAT);
    sgm_model_free(again);
    sgm_model_free(model);
    sgm_free(layers);
}

/* A bias on selection is part of the model: it is saved, no transformers model, and routes where it is loaded. */
static void selection_bias_comes_back_and_routes(void **state) {
    (void)state;
    sgm_error error = {0};
    sgm_model *model = load(make_model("unbiased", NULL), NULL);
    int64_t L = model->settings.layers, E = model->settings.experts;
    assert_null(model->selection_bias);
    sgm_real *bias = sgm_alloc((size_t)(L * E) * sizeof *bias);
    bias[0 * E + 3] = 5; /* above any probability: layer 0 always takes expert 3 */
    assert_int_equal(sgm_model_set_selection_bias(model, bias, &error), SGM_OK);
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, NULL, NULL, in_folder("biased"), &error),
                     SGM_OK);
    sgm_model_info info;
    assert_int_equal(sgm_model_inspect(in_folder("biased"), &info, &error), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    sgm_model *again = load(in_folder("biased"), NULL);
    assert_memory_equal(again->selection_bias, bias, (size_t)(L * E) * sizeof *bias);

    sgm_tokenizer *tokenizer;
    assert_int_equal(sgm_tokenizer_bytes(&tokenizer, &error), SGM_OK);
    assert_int_equal(sgm_tokenizer_save(tokenizer, in_folder("biased"), &error), SGM_OK);
    sgm_tokenizer_close(tokenizer);
    assert_int_equal(sgm_file_write(in_folder("text"), "whichever way it goes", 21, &error), SGM_OK);
    const char *const text[] = {in_folder("text")};
    sgm_evaluation evaluation;
    if (sgm_evaluate(in_folder("biased"), NULL, text, 1, 0, &evaluation, &error))
        fail_msg("%s", error.message);
    assert_true(evaluation.tokens > 0);
    assert_int_equal(evaluation.load[3], evaluation.layer[0].tokens);
    assert_true(evaluation.load[E + 3] < evaluation.layer[1].tokens);
    sgm_evaluation_free(&evaluation);
    sgm_free(bias);
    sgm_model_free(model);
    sgm_model_free(again);
}

static void router_settings_come_back(void **state) {
    (void)state;
    const char *path = make_model("sigmoid", (const char *const[]){"router.score=sigmoid", "router.normalise=true",
                                                                   "model.experts_per_token=2", NULL});
    sgm_model_info info;
    sgm_error error = {0};
    assert_int_equal(sgm_model_inspect(path, &info, &error), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    size_t size;
    char *text = read_text(path, "config.json", &size);
    assert_non_null(strstr(text, "\"score\": \"sigmoid\""));
    assert_non_null(strstr(text, "\"normalise\": true"));
    sgm_hf_config config;
    assert_int_equal(sgm_hf_config_parse(text, size, "config", &config, &error), SGM_OK);
    char *again;
    assert_int_equal(sgm_hf_config_write(&config, &again, &error), SGM_OK);
    assert_string_equal(text, again);
    sgm_free(again);
    sgm_free(text);
    sgm_hf_config_fini(&config);
    /* Normalised softmax weights are Qwen3MoE's norm_topk_prob. */
    path = make_model("normalised", (const char *const[]){"router.normalise=true", "model.experts_per_token=2", NULL});
    text = read_text(path, "config.json", &size);
    assert_non_null(strstr(text, "\"norm_topk_prob\": true"));
    assert_non_null(strstr(text, "\"qwen3_moe\""));
    sgm_free(text);
    assert_int_equal(sgm_model_inspect(path, &info, &error), SGM_OK);
}

/* Null experts have no weights in the file, are no Qwen3MoE, and come back. */
static void null_experts_come_back(void **state) {
    (void)state;
    const char *path = make_model("null", (const char *const[]){"model.null_experts=3", NULL});
    sgm_model_info info, plain;
    sgm_error error = {0};
    assert_int_equal(sgm_model_inspect(path, &info, &error), SGM_OK);
    assert_int_equal(sgm_model_inspect(make_model("full", NULL), &plain, &error), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    assert_int_equal(info.settings.null_experts, 3);
    const sgm_model_settings *s = &info.settings;
    int64_t expert = 3 * s->width * s->expert_width;
    assert_int_equal(plain.counts.total_parameters - info.counts.total_parameters, s->layers * 3 * expert);
    assert_int_equal(info.counts.expert_parameters, s->layers * (s->experts - 3) * expert);
    /* 5 of 8 experts compute: an even load costs 5/8 of an expert a token and layer. */
    assert_int_equal(plain.counts.active_parameters - info.counts.active_parameters, s->layers * expert * 3 / 8);
    sgm_model *model = load(path, NULL);
    assert_int_equal(model->settings.null_experts, 3);
    assert_int_equal(sgm_model_folder_save(model, NULL, NULL, NULL, in_folder("null again"), &error), SGM_OK);
    assert_same_file(path, in_folder("null again"), "config.json");
    assert_same_file(path, in_folder("null again"), "model.safetensors");
    sgm_model_free(model);
    size_t size;
    char *text = read_text(path, "config.json", &size);
    char *key = strstr(text, "\"null_experts\": 3");
    sgm_hf_config config;
    assert_non_null(key);
    for (const char *wrong = "89-"; *wrong; wrong++) { /* as many as there are, more, and fewer than none */
        key[strlen("\"null_experts\": ")] = *wrong;
        assert_int_equal(sgm_hf_config_parse(text, size, "config", &config, &error), SGM_EFORMAT);
    }
    sgm_free(text);
}

/* A deviation of the embeddings' own is written and read. */
static void embedding_deviation_comes_back(void **state) {
    (void)state;
    sgm_model_info info;
    const char *path = make_model("spread", (const char *const[]){"model.embedding_init_std=0.25", NULL});
    assert_int_equal(sgm_model_inspect(path, &info, NULL), SGM_OK);
    assert_true(info.settings.embedding_init_std == 0.25);
}

/* Settings that count in training alone do not make another model of it. */
static void capacity_stays_qwen3_moe(void **state) {
    (void)state;
    sgm_model_info info;
    const char *path =
        make_model("limited", (const char *const[]){"router.capacity_factor=1.5", "router.drop_order=score", NULL});
    assert_int_equal(sgm_model_inspect(path, &info, NULL), SGM_OK);
    assert_string_equal(info.model_type, "qwen3_moe");
    path = make_model("grouped", (const char *const[]){"router.kind=grouped", "model.experts_per_token=2", NULL});
    assert_int_equal(sgm_model_inspect(path, &info, NULL), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    assert_string_equal(info.router, "grouped");
}

/* config.json with one text replaced; must be refused with this status and a message that names the key. */
static void refuses_wrong_configs(void **state) {
    (void)state;
    const char *path = make_model("config", NULL);
    size_t size;
    char *text = read_text(path, "config.json", &size);
    static const struct {
        const char *from, *to;
        sgm_status status;
        const char *says;
    } cases[] = {
        {"\"hidden_size\": 64", "\"hidden\": 64", SGM_EFORMAT, "hidden_size"},
        {"\"hidden_size\": 64", "\"hidden_size\": 64.0", SGM_EFORMAT, "hidden_size"},
        {"\"hidden_size\": 64", "\"hidden_size\": 0", SGM_EFORMAT, "hidden_size"},
        {"\"hidden_size\": 64", "\"hidden_size\": 1e9", SGM_EFORMAT, "hidden_size"},
        {"\"hidden_size\": 64", "\"hidden_size\": \"64\"", SGM_EFORMAT, "hidden_size"},
        {"\"vocab_size\": 257", "\"vocab_size\": 99999999999", SGM_EFORMAT, "vocab_size"},
        {"\"num_experts_per_tok\": 1", "\"num_experts_per_tok\": 9", SGM_EFORMAT, "experts"},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", SGM_EFORMAT, "kv_heads"},
        {"\"head_dim\": 16", "\"head_dim\": 15", SGM_EFORMAT, "head_size"},
        {"\"rope_theta\": 10000", "\"rope_theta\": true, \"x\": 1", SGM_EFORMAT, "rope_theta"},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", SGM_EFORMAT, "tie_word_embeddings"},
        {"\"qwen3_moe\"", "\"llama\"", SGM_EUNSUPPORTED, "llama"},
        {"\"qwen3_moe\"", "7", SGM_EFORMAT, "model_type"},
        {"\"qwen3_moe\"", "\"sigmoe\"", SGM_EFORMAT, "router"},
        {"\"silu\"", "\"gelu\"", SGM_EUNSUPPORTED, "hidden_act"},
        {"\"attention_bias\": false", "\"attention_bias\": true", SGM_EUNSUPPORTED, "attention_bias"},
        {"\"attention_bias\": false", "\"attention_bias\": \"yes\"", SGM_EUNSUPPORTED, "attention_bias"},
        {"\"mlp_only_layers\": []", "\"mlp_only_layers\": [0]", SGM_EUNSUPPORTED, "mlp_only_layers"},
        {"\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2", SGM_EUNSUPPORTED, "decoder_sparse_step"},
        {"\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 2}", SGM_EUNSUPPORTED, "rope_scaling"},
        {"\"norm_topk_prob\": false", "\"norm_topk_prob\": 0", SGM_EFORMAT, "norm_topk_prob"},
        {"\"vocab_size\"", "\"hidden_size\"", SGM_EFORMAT, "duplicate"},
        {"{", "[", SGM_EFORMAT, "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *at = strstr(text, cases[i].from);
        if (!at)
            fail_msg("config.json has no %s", cases[i].from);
        char *changed = sgm_format("%.*s%s%s", (int)(at - text), text, cases[i].to, at + strlen(cases[i].from));
        sgm_hf_config config;
        sgm_error error = {0};
        sgm_status status = sgm_hf_config_parse(changed, strlen(changed), "config.json", &config, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].says))
            fail_msg("%s: status %d, '%s' (hint '%s')", cases[i].to, status, error.message, error.hint);
        sgm_free(changed);
    }
    sgm_free(text);
}

/* The keys of model_type sigmoe that say how attention and routers compute. */
static void reads_its_own_kind(void **state) {
    (void)state;
    static const char start[] =
        "{\"model_type\":\"sigmoe\",\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":1,\"head_dim\":4,\"num_experts\":4,\"num_experts_per_tok\":2,"
        "\"moe_intermediate_size\":6,\"vocab_size\":11,\"max_position_embeddings\":32,\"rms_norm_eps\":1e-05,"
        "\"rope_theta\":10000,\"tie_word_embeddings\":false,\"experts_per_token_by_layer\":[2],"
        "\"router\":{\"kind\":\"top_k\"},";
    static const struct {
        const char *rest;
        sgm_status status;
        const char *says;
        int attention, gate_hidden, attention_experts, attention_experts_per_token;
    } cases[] = {
        {"\"attention\":\"causal\"}", SGM_OK, "", SGM_ATTENTION_CAUSAL, 0, 0, 1}, /* as older files have it */
        {"\"attention\":\"stick_breaking\",\"gate_hidden\":0}", SGM_OK, "", SGM_ATTENTION_STICK_BREAKING, 0, 0, 1},
        {"\"attention\":\"causal\",\"gate_hidden\":7}", SGM_OK, "", SGM_ATTENTION_CAUSAL, 7, 0, 1},
        {"\"attention\":\"causal\",\"attention_experts\":5}", SGM_OK, "", SGM_ATTENTION_CAUSAL, 0, 5, 1},
        {"\"attention\":\"causal\",\"attention_experts\":5,\"attention_experts_per_token\":3}", SGM_OK, "",
         SGM_ATTENTION_CAUSAL, 0, 5, 3},
        {"\"attention\":\"causal\",\"attention_experts\":-1}", SGM_EFORMAT, "attention_experts", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"attention_experts\":65537}", SGM_EFORMAT, "attention_experts", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"attention_experts\":5.5}", SGM_EFORMAT, "attention_experts", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"attention_experts\":5,\"attention_experts_per_token\":0}", SGM_EFORMAT,
         "attention_experts_per_token", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"attention_experts\":5,\"attention_experts_per_token\":6}", SGM_EFORMAT,
         "more than model.attention_experts", 0, 0, 0, 0},
        {"\"attention\":\"stick\"}", SGM_EUNSUPPORTED, "unknown attention 'stick'", 0, 0, 0, 0},
        {"\"attention\":1}", SGM_EFORMAT, "'attention' is missing", 0, 0, 0, 0},
        {"\"gate_hidden\":7}", SGM_EFORMAT, "'attention' is missing", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"gate_hidden\":-1}", SGM_EFORMAT, "gate_hidden", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"gate_hidden\":1048577}", SGM_EFORMAT, "gate_hidden", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"gate_hidden\":\"7\"}", SGM_EFORMAT, "gate_hidden", 0, 0, 0, 0},
        {"\"attention\":\"causal\",\"gate_hidden\":7.5}", SGM_EFORMAT, "gate_hidden", 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *json = sgm_format("%s%s", start, cases[i].rest);
        sgm_hf_config config;
        sgm_error error = {0};
        sgm_status status = sgm_hf_config_parse(json, strlen(json), "config.json", &config, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].says))
            fail_msg("%s: status %d, '%s'", cases[i].rest, status, error.message);
        if (!status) {
            assert_int_equal(config.settings.attention, cases[i].attention);
            assert_int_equal(config.settings.gate_hidden, cases[i].gate_hidden);
            assert_int_equal(config.settings.attention_experts, cases[i].attention_experts);
            assert_int_equal(config.settings.attention_experts_per_token, cases[i].attention_experts_per_token);
            int64_t of_attention = config.settings.attention_experts ? cases[i].attention_experts_per_token : 2;
            assert_true(config.experts_per_token[0] == of_attention);
            assert_true(!config.settings.attention_experts || config.experts_per_token[1] == 2);
            sgm_hf_config_fini(&config);
        }
        sgm_free(json);
    }
}

/* Each number is possible, together they are a model of 2^48 weights: nothing may be computed from such a shape. */
static void absurd_hidden_layers(void **state) {
    (void)state;
    sgm_buffer json = {0};
    int layers = 256;
    sgm_buffer_print(&json,
                     "{\"model_type\":\"sigmoe\",\"hidden_size\":1048576,\"num_hidden_layers\":%d,"
                     "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"num_experts\":4,"
                     "\"num_experts_per_tok\":2,\"moe_intermediate_size\":1,\"vocab_size\":11,"
                     "\"max_position_embeddings\":32,\"rms_norm_eps\":1e-05,\"rope_theta\":10000,"
                     "\"tie_word_embeddings\":false,\"attention\":\"causal\",\"router\":{\"kind\":\"top_k\"},"
                     "\"gate_hidden\":1048576,\"experts_per_token_by_layer\":[2",
                     layers);
    for (int l = 1; l < layers; l++)
        sgm_buffer_print(&json, ",2");
    sgm_buffer_print(&json, "]}");
    sgm_hf_config config;
    sgm_error error = {0};
    assert_int_equal(sgm_hf_config_parse(json.data, json.size, "config.json", &config, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "weights"));
    sgm_buffer_free(&json);
}

static void reads_other_writers(void **state) {
    (void)state;
    /* As transformers 5 writes it: theta in rope_parameters, keys of no interest to us. */
    static const char json[] =
        "{\"model_type\":\"qwen3_moe\",\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":1,\"head_dim\":4,\"num_local_experts\":4,\"num_experts_per_tok\":2,"
        "\"moe_intermediate_size\":6,\"vocab_size\":11,\"max_position_embeddings\":32,\"rms_norm_eps\":1e-05,"
        "\"rope_parameters\":{\"rope_theta\":1000000.0,\"rope_type\":\"default\"},\"tie_word_embeddings\":false,"
        "\"transformers_version\":\"5\",\"norm_topk_prob\":true}";
    sgm_hf_config config;
    sgm_error error = {0};
    if (sgm_hf_config_parse(json, sizeof json - 1, "config.json", &config, &error))
        fail_msg("%s", error.message);
    assert_int_equal(config.settings.experts, 4);
    assert_true(config.settings.rope_theta == 1e6);
    assert_int_equal(config.experts_per_token[0], 2);
    sgm_hf_config_fini(&config);
    /* One expert whose weight is normalised to 1 cannot be trained, but it can be run. */
    char *single = sgm_strdup(json);
    *strstr(strstr(single, "num_experts_per_tok"), ":2") = ':';
    strstr(single, "num_experts_per_tok\":")[21] = '1';
    assert_int_equal(sgm_hf_config_parse(single, sizeof json - 1, "config.json", &config, &error), SGM_OK);
    assert_int_equal(config.experts_per_token[0], 1);
    sgm_hf_config_fini(&config);
    sgm_free(single);
}

static void notices_damage(void **state) {
    (void)state;
    const char *path = make_model("damaged", NULL);
    char weights[256];
    snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    size_t size;
    char *bytes = read_text(path, "model.safetensors", &size);
    sgm_model *model;
    sgm_error error = {0};
    bytes[size - 100] ^= 1;
    assert_int_equal(sgm_file_write(weights, bytes, size, NULL), SGM_OK);
    assert_int_equal(sgm_model_folder_load(path, false, &model, NULL, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "checksum"));
    assert_null(model);
    assert_int_equal(sgm_file_write(weights, bytes, size / 2, NULL), SGM_OK);
    assert_int_equal(sgm_model_folder_load(path, false, &model, NULL, &error), SGM_EFORMAT);
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(sgm_model_folder_load(path, false, &model, NULL, &error), SGM_ENOTFOUND);
    sgm_free(bytes);
}

static void finds_models(void **state) {
    (void)state;
    char folder[4096], run[512];
    sgm_error error = {0};
    assert_int_equal(sgm_folder_make(in_folder("runs/a/checkpoints"), NULL), SGM_OK);
    make_model("runs/a/checkpoints/step-000020", NULL);
    make_model("runs/a/checkpoints/step-000100", NULL);
    assert_int_equal(sgm_link_replace("step-000020", in_folder("runs/a/checkpoints/latest"), NULL), SGM_OK);
    assert_int_equal(sgm_model_folder_resolve(in_folder("runs/a"), folder, &error), SGM_OK);
    assert_string_equal(strrchr(folder, '/'), "/step-000020");
    sgm_model_info info;
    assert_int_equal(sgm_model_inspect(in_folder("runs/a"), &info, &error), SGM_OK);
    assert_int_equal(info.step, 20);
    /* A broken link: the highest complete step. */
    assert_int_equal(sgm_link_replace("gone", in_folder("runs/a/checkpoints/latest"), NULL), SGM_OK);
    assert_int_equal(sgm_folder_make(in_folder("runs/a/checkpoints/step-000200"), NULL), SGM_OK);
    assert_int_equal(sgm_model_folder_resolve(in_folder("runs/a"), folder, &error), SGM_OK);
    assert_string_equal(strrchr(folder, '/'), "/step-000100");
    /* Not one, but there are some below. */
    assert_int_equal(sgm_model_folder_resolve(in_folder("runs"), folder, &error), SGM_ENOTFOUND);
    snprintf(run, sizeof run, "%s/runs/a", test_folder);
    assert_non_null(strstr(error.hint, run));
    assert_int_equal(sgm_model_folder_resolve(in_folder("absent"), folder, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_file_write(in_folder("file"), "x", 1, NULL), SGM_OK);
    assert_int_equal(sgm_model_folder_resolve(in_folder("file"), folder, &error), SGM_EFORMAT);
}

static void init_protects_what_is_there(void **state) {
    (void)state;
    sgm_config *config;
    sgm_error error = {0};
    assert_int_equal(sgm_config_new(&config, NULL), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", NULL), SGM_OK);
    make_model("there", NULL);
    assert_int_equal(sgm_model_init(config, NULL, 1, "f32", in_folder("there"), NULL, &error), SGM_EEXISTS);
    assert_int_equal(sgm_model_init(config, NULL, 1, "q4_0", in_folder("other"), NULL, &error), SGM_EARGUMENT);
    sgm_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inspects_a_new_model),
        cmocka_unit_test(tensors_have_the_names_of_transformers),
        cmocka_unit_test(selection_bias_comes_back_and_routes),
        cmocka_unit_test(saves_and_loads),
        cmocka_unit_test(router_settings_come_back),
        cmocka_unit_test(null_experts_come_back),
        cmocka_unit_test(embedding_deviation_comes_back),
        cmocka_unit_test(capacity_stays_qwen3_moe),
        cmocka_unit_test(refuses_wrong_configs),
        cmocka_unit_test(reads_its_own_kind),
        cmocka_unit_test(absurd_hidden_layers),
        cmocka_unit_test(reads_other_writers),
        cmocka_unit_test(notices_damage),
        cmocka_unit_test(finds_models),
        cmocka_unit_test(init_protects_what_is_there),
    };
    return cmocka_run_group_tests_name("model folder", tests, make_test_folder, remove_test_folder);
}
