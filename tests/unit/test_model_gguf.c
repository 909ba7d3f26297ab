// SPDX-License-Identifier: Apache-2.0
/* Models in GGUF files: keys and tensors by llama.cpp's names become settings and views, and what is wrong is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/gguf.h"
#include "locale_helper.h"
#include "model/model_folder.h"
#include "model/model_gguf.h"
#include "model/model_open.h"
#include "quant/quant.h"
#include "unit/model_fixture.h"

/* What the file is to be like. The names are written out here: they are llama.cpp's. */
typedef struct wanted {
    const char *architecture, *drop; /* drop: a key or tensor to leave out */
    sgm_type type;                   /* of the matrices; the router's too when `gate` says so */
    bool gate, norm_key, norm;       /* write qwen3moe.expert_weights_norm */
    const char *odd_key;             /* a key more, u32, with this value */
    uint32_t odd_value;
    bool bias, split;
    const char *config; /* of architecture sigmoe */
    int64_t narrower;   /* rows taken from attn_q */
    const char *more;   /* a vector more, of one number */
} wanted;

static const char *const names[] = {"attn_norm",   "attn_q",      "attn_k",   "attn_v",      "attn_output",
                                    "attn_q_norm", "attn_k_norm", "ffn_norm", "ffn_gate_inp"};
static const char *const kinds[] = {"ffn_gate", "ffn_up", "ffn_down"};

static bool is_left_out(const wanted *w, const char *name) {
    return w->drop && strcmp(name, w->drop) == 0;
}

static sgm_type type_of(const wanted *w, const char *name, const sgm_weight *weight) {
    bool plain = weight->rows == 1 || (strstr(name, "ffn_gate_inp") && !w->gate);
    return plain && w->type != SGM_TYPE_F16 ? SGM_TYPE_F32 : sgm_quant_for_row(w->type, weight->cols);
}

static void declare(sgm_gguf_writer *out, const wanted *w, const char *name, const sgm_weight *weight, int64_t count) {
    int64_t rows = weight->rows - (strstr(name, "attn_q.") ? w->narrower : 0);
    int64_t shape[3] = {count, rows, weight->cols};
    int first = count ? 0 : weight->rows == 1 ? 2 : 1;
    if (!is_left_out(w, name))
        sgm_gguf_put_tensor(out, name, type_of(w, name, weight), 3 - first, shape + first);
}

static void write_weight(sgm_gguf_writer *out, const wanted *w, const char *name, const sgm_weight *weight) {
    sgm_type type = type_of(w, name, weight);
    size_t bytes = sgm_quant_row_bytes(type, weight->cols);
    void *row = sgm_alloc(bytes);
    int64_t rows = weight->rows - (strstr(name, "attn_q.") ? w->narrower : 0);
    for (int64_t r = 0; r < rows && !is_left_out(w, name); r++) {
        sgm_quant_of(type)->pack(weight->cols, weight->data + r * weight->cols, row);
        assert_int_equal(sgm_gguf_writer_data(out, row, bytes, NULL), SGM_OK);
    }
    sgm_free(row);
}

/* Both passes over the tensors: declare them, then write them. */
static void each_tensor(sgm_gguf_writer *out, const wanted *w, const sgm_model *model, bool write) {
    const sgm_model_settings *s = &model->settings;
    char name[96];
    write ? write_weight(out, w, "token_embd.weight", model->embedding)
          : declare(out, w, "token_embd.weight", model->embedding, 0);
    for (int64_t l = 0; l < s->layers; l++) {
        const sgm_layer *layer = &model->layers[l];
        const sgm_weight *const plain[] = {layer->attention_norm, layer->q,      layer->k,        layer->v,   layer->o,
                                           layer->q_norm,         layer->k_norm, layer->ffn_norm, layer->gate};
        for (int i = 0; i < 9; i++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", (int)l, names[i]);
            write ? write_weight(out, w, name, plain[i]) : declare(out, w, name, plain[i], 0);
        }
        for (int i = 0; i < 3; i++) {
            bool split = w->split && l == 1;
            snprintf(name, sizeof name, "blk.%d.%s_exps.weight", (int)l, kinds[i]);
            if (!split && !write)
                declare(out, w, name, &layer->expert_weights[i], s->experts);
            for (int64_t e = 0; e < s->experts; e++) {
                if (split)
                    snprintf(name, sizeof name, "blk.%d.%s.%d.weight", (int)l, kinds[i], (int)e);
                if (write)
                    write_weight(out, w, name, &layer->expert_weights[3 * e + i]);
                else if (split)
                    declare(out, w, name, &layer->expert_weights[3 * e + i], 0);
            }
        }
        snprintf(name, sizeof name, "blk.%d.exp_probs_b.bias", (int)l);
        float bias[64] = {(float)l + 0.5f, -1};
        if (w->bias && write)
            assert_int_equal(sgm_gguf_writer_data(out, bias, (size_t)s->experts * sizeof *bias, NULL), SGM_OK);
        else if (w->bias)
            sgm_gguf_put_tensor(out, name, SGM_TYPE_F32, 1, &s->experts);
    }
    const float number = 1;
    const int64_t one = 1;
    if (w->more && write)
        assert_int_equal(sgm_gguf_writer_data(out, &number, sizeof number, NULL), SGM_OK);
    else if (w->more)
        sgm_gguf_put_tensor(out, w->more, SGM_TYPE_F32, 1, &one);
    write ? write_weight(out, w, "output_norm.weight", model->final_norm)
          : declare(out, w, "output_norm.weight", model->final_norm, 0);
    if (!s->tie_embeddings)
        write ? write_weight(out, w, "output.weight", model->head) : declare(out, w, "output.weight", model->head, 0);
}

static const char *write_file(const char *name, const wanted *w, const sgm_model *model) {
    const sgm_model_settings *s = &model->settings;
    const struct {
        const char *key;
        int64_t value;
    } wholes[] = {
        {"qwen3moe.block_count", s->layers},
        {"qwen3moe.context_length", s->context},
        {"qwen3moe.embedding_length", s->width},
        {"qwen3moe.feed_forward_length", s->expert_width * s->experts_per_token},
        {"qwen3moe.attention.head_count", s->heads},
        {"qwen3moe.attention.head_count_kv", s->kv_heads},
        {"qwen3moe.attention.key_length", s->head_size},
        {"qwen3moe.attention.value_length", s->head_size},
        {"qwen3moe.rope.dimension_count", s->head_size},
        {"qwen3moe.expert_count", s->experts},
        {"qwen3moe.expert_used_count", s->experts_per_token},
        {"qwen3moe.expert_feed_forward_length", s->expert_width},
    };
    sgm_gguf_writer *out;
    sgm_error error = {0};
    const char *path = in_folder(name);
    if (sgm_gguf_writer_new(path, &out, &error))
        fail_msg("%s", error.message);
    if (!is_left_out(w, "general.architecture"))
        sgm_gguf_put_text(out, "general.architecture", w->architecture ? w->architecture : "qwen3moe");
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++)
        if (!is_left_out(w, wholes[i].key) && !(w->odd_key && strcmp(w->odd_key, wholes[i].key) == 0))
            sgm_gguf_put_u32(out, wholes[i].key, (uint32_t)wholes[i].value);
    if (!is_left_out(w, "qwen3moe.rope.freq_base"))
        sgm_gguf_put_f32(out, "qwen3moe.rope.freq_base", (float)s->rope_theta);
    if (!is_left_out(w, "qwen3moe.attention.layer_norm_rms_epsilon"))
        sgm_gguf_put_f32(out, "qwen3moe.attention.layer_norm_rms_epsilon", (float)s->norm_epsilon);
    if (w->norm_key)
        sgm_gguf_put_bool(out, "qwen3moe.expert_weights_norm", w->norm);
    if (w->odd_key)
        sgm_gguf_put_u32(out, w->odd_key, w->odd_value);
    if (w->config)
        sgm_gguf_put_text(out, "sigmoe.config", w->config);
    each_tensor(out, w, model, false);
    if (sgm_gguf_writer_begin(out, &error))
        fail_msg("%s", error.message);
    each_tensor(out, w, model, true);
    if (sgm_gguf_writer_end(out, &error))
        fail_msg("%s", error.message);
    return path;
}

static sgm_model *original(const char *name, const char *const *sets) {
    sgm_model *model;
    sgm_error error = {0};
    char path[256];
    snprintf(path, sizeof path, "%s", make_model(name, sets));
    if (sgm_model_folder_load(path, false, &model, NULL, &error))
        fail_msg("%s", error.message);
    return model;
}

static sgm_model *opened(const char *path, int64_t **k) {
    sgm_model *model;
    sgm_error error = {0};
    if (sgm_model_open(path, &model, k, &error))
        fail_msg("%s", error.message);
    return model;
}

/* Every weight of `got` is the original packed as `type` and unpacked again; where it is stored, not copied. */
static void assert_packed(const sgm_model *model, const sgm_model *got, sgm_type wanted_type) {
    assert_int_equal(model->weight_count, got->weight_count);
    for (int64_t i = 0; i < model->weight_count; i++) {
        const sgm_weight *a = &model->weights[i], *b = &got->weights[i];
        assert_string_equal(a->name, b->name);
        assert_true((b->data != NULL) != (b->stored.data != NULL));
        bool plain = a->rows == 1 || strstr(a->name, "mlp.gate.weight");
        sgm_type type = plain ? SGM_TYPE_F32 : sgm_quant_for_row(wanted_type, a->cols);
        assert_true(type == SGM_TYPE_F32 ? b->data != NULL : b->stored.type == type);
        char blocks[2048];
        float row[512], found[512];
        assert_true(a->cols <= 512 && sgm_quant_row_bytes(type, a->cols) <= sizeof blocks);
        for (int64_t r = 0; r < a->rows; r++) {
            sgm_quant_of(type)->pack(a->cols, a->data + r * a->cols, blocks);
            sgm_quant_of(type)->unpack(a->cols, blocks, row);
            if (b->data)
                memcpy(found, b->data + r * b->cols, (size_t)b->cols * sizeof *found);
            else
                sgm_matrix_unpack_row(&b->stored, r, found);
            assert_memory_equal(found, row, (size_t)a->cols * sizeof *row);
        }
    }
    for (int64_t l = 0; l < got->settings.layers; l++)
        for (int64_t e = 0; e < got->settings.experts; e++) {
            const sgm_expert *expert = &got->layers[l].experts[e];
            const sgm_weight *w = &got->layers[l].expert_weights[3 * e];
            assert_true(expert->gate == w[0].data && expert->up == w[1].data && expert->down == w[2].data);
            assert_true(expert->stored_gate.data == w[0].stored.data && expert->stored_down.data == w[2].stored.data);
            assert_true(expert->stored_up.data == w[1].stored.data && expert->stored_up.rows == w[1].stored.rows);
        }
}

static void opens_by_llama_names(void **state) {
    (void)state;
    static const sgm_type types[] = {SGM_TYPE_F32, SGM_TYPE_BF16, SGM_TYPE_Q8_0, SGM_TYPE_Q4_0, SGM_TYPE_Q4_K};
    static const char *const untied[] = {"model.tie_embeddings=false", NULL};
    for (int tied = 0; tied < 2; tied++) {
        sgm_model *model = original(tied ? "tied" : "untied", tied ? NULL : untied);
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            const char *path = write_file("types.gguf", &(wanted){.type = types[i]}, model);
            assert_true(sgm_model_is_gguf(path));
            int64_t *k = NULL;
            sgm_model *got = opened(path, &k);
            assert_packed(model, got, types[i]);
            assert_int_equal(k[0], model->settings.experts_per_token);
            sgm_free(k);
            assert_null(got->data); /* not one element had to be copied */
            assert_true(got->source != NULL && got->gradients == NULL);
            assert_int_equal(got->settings.tie_embeddings, tied);
            assert_true(tied ? got->head->tied == got->embedding : got->head == &got->weights[got->weight_count - 1]);
            assert_true(got->head->data == (tied ? got->embedding->data : got->head->data));
            assert_int_equal(got->settings.vocabulary, 257);
            assert_true(got->settings.rope_theta == model->settings.rope_theta);
            assert_true(got->settings.norm_epsilon == model->settings.norm_epsilon); /* 1e-6, not its f32 */
            sgm_model_free(got);
        }
        sgm_model_free(model);
    }
}

static bool normalises(const sgm_model *model) {
    for (size_t i = 0; i < model->router.plugin->plugin.param_count; i++) {
        const sgm_param *param = &model->router.plugin->plugin.params[i];
        if (strcmp(param->name, "normalise") == 0)
            return *(const bool *)((const char *)model->router.settings + param->offset);
    }
    return false;
}

static void weights_are_normalised_as_by_llama(void **state) {
    (void)state;
    sgm_model *model = original("norm", NULL);
    static const struct {
        bool key, value, normalised;
    } cases[] = {{false, false, true}, {true, true, true}, {true, false, false}};
    for (size_t i = 0; i < 3; i++) {
        const char *path = write_file("norm.gguf", &(wanted){.norm_key = cases[i].key, .norm = cases[i].value}, model);
        sgm_model *got = opened(path, NULL);
        assert_int_equal(normalises(got), cases[i].normalised);
        sgm_model_free(got);
    }
    sgm_model_free(model);
}

/* Routers and gains that a file holds in other types are unpacked into a block of their own. */
static void unpacks_what_must_be_f32(void **state) {
    (void)state;
    sgm_model *model = original("small", NULL);
    sgm_model *got = opened(write_file("small.gguf", &(wanted){.type = SGM_TYPE_F16, .gate = true}, model), NULL);
    assert_non_null(got->data);
    const sgm_weight *gate = got->layers[1].gate, *norm = got->layers[0].q_norm;
    assert_true(gate->data >= got->data && !gate->stored.data && norm->data >= got->data);
    for (int64_t i = 0; i < gate->rows * gate->cols; i++)
        assert_true(fabsf(gate->data[i] - model->layers[1].gate->data[i]) < 1e-3f);
    for (int64_t i = 0; i < norm->cols; i++)
        assert_true(norm->data[i] == 1);
    assert_true(got->embedding->stored.type == SGM_TYPE_F16);
    sgm_model_free(got);
    sgm_model_free(model);
}

/* What qwen3moe cannot say: k by layer, a bias on selection, experts as tensors of their own. */
static void fractions_are_read_in_every_locale(void **state) {
    (void)state;
    static const char *const sets[] = {"model.rope_theta=12345.5", NULL};
    sgm_model *model = original("fraction", sets);
    const char *path = write_file("fraction.gguf", &(wanted){.type = SGM_TYPE_F32}, model);
    set_comma_locale(test_folder);
    sgm_model *got = opened(path, NULL);
    setlocale(LC_NUMERIC, "C");
    assert_true(got->settings.rope_theta == 12345.5);
    assert_true(got->settings.norm_epsilon == model->settings.norm_epsilon);
    sgm_model_free(got);
    sgm_model_free(model);
}

static void opens_our_own_architecture(void **state) {
    (void)state;
    sgm_model *model = original("own", NULL);
    float *bias = sgm_alloc((size_t)(model->settings.layers * model->settings.experts) * sizeof *bias);
    sgm_error error = {0};
    assert_int_equal(sgm_model_set_selection_bias(model, bias, &error), SGM_OK);
    sgm_free(bias);
    const int64_t by_layer[2] = {4, 1};
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, by_layer, NULL, in_folder("saved"), &error),
                     SGM_OK);
    char path[256], *config;
    size_t size;
    snprintf(path, sizeof path, "%s/config.json", in_folder("saved"));
    assert_int_equal(sgm_file_read(path, 1 << 20, &config, &size, &error), SGM_OK);
    wanted w = {.architecture = "sigmoe", .type = SGM_TYPE_Q8_0, .bias = true, .split = true, .config = config};
    int64_t *k = NULL;
    sgm_model *got = opened(write_file("own.gguf", &w, model), &k);
    assert_packed(model, got, SGM_TYPE_Q8_0);
    assert_int_equal(k[0], 4);
    assert_int_equal(k[1], 1);
    assert_non_null(got->selection_bias);
    assert_true(got->selection_bias[0] == 0.5f && got->selection_bias[1] == -1 &&
                got->selection_bias[got->settings.experts] == 1.5f);
    sgm_free(k);
    sgm_model_free(got);
    sgm_free(config);
    sgm_model_free(model);
}

static void refuses_other_models(void **state) {
    (void)state;
    sgm_model *model = original("refused", NULL);
    static const struct {
        wanted w;
        sgm_status status;
        const char *says;
    } cases[] = {
        {{.drop = "general.architecture"}, SGM_EFORMAT, "general.architecture"},
        {{.architecture = "llama"}, SGM_EUNSUPPORTED, "llama"},
        {{.architecture = "sigmoe"}, SGM_EFORMAT, "sigmoe.config"},
        {{.architecture = "sigmoe", .config = "{}"}, SGM_EFORMAT, "model_type"},
        {{.drop = "qwen3moe.block_count"}, SGM_EFORMAT, "block_count"},
        {{.drop = "qwen3moe.attention.layer_norm_rms_epsilon"}, SGM_EFORMAT, "layer_norm_rms_epsilon"},
        {{.drop = "qwen3moe.expert_count"}, SGM_EFORMAT, "expert_count"},
        {{.drop = "token_embd.weight"}, SGM_EFORMAT, "token_embd.weight"},
        {{.drop = "blk.1.attn_k_norm.weight"}, SGM_EFORMAT, "blk.1.attn_k_norm.weight"},
        {{.drop = "blk.0.ffn_down_exps.weight"}, SGM_EFORMAT, "blk.0.ffn_down_exps.weight"},
        {{.narrower = 1}, SGM_EFORMAT, "blk.0.attn_q.weight' has the shape (63, 64), it should have (64, 64)"},
        {{.more = "blk.0.attn_q.bias"}, SGM_EUNSUPPORTED, "1 more"},
        {{.odd_key = "qwen3moe.block_count", .odd_value = 3}, SGM_EFORMAT, "tensor"},
        {{.odd_key = "qwen3moe.block_count", .odd_value = 100000}, SGM_EFORMAT, "too few"},
        {{.odd_key = "qwen3moe.block_count", .odd_value = 0}, SGM_EFORMAT, "num_hidden_layers"},
        {{.odd_key = "qwen3moe.expert_count", .odd_value = 16}, SGM_EFORMAT, "ffn_gate_inp"},
        {{.odd_key = "qwen3moe.expert_used_count", .odd_value = 9}, SGM_EFORMAT, "experts_per_token"},
        {{.odd_key = "qwen3moe.expert_shared_count", .odd_value = 1}, SGM_EUNSUPPORTED, "expert_shared_count"},
        {{.odd_key = "qwen3moe.leading_dense_block_count", .odd_value = 1}, SGM_EUNSUPPORTED, "leading_dense"},
        {{.odd_key = "qwen3moe.rope.dimension_count", .odd_value = 8}, SGM_EUNSUPPORTED, "rope.dimension_count"},
        {{.odd_key = "qwen3moe.expert_gating_func", .odd_value = 2}, SGM_EUNSUPPORTED, "expert_gating_func"},
        {{.odd_key = "qwen3moe.expert_weights_norm", .odd_value = 1}, SGM_EFORMAT, "expert_weights_norm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgm_model *got;
        sgm_error error = {0};
        sgm_status status = sgm_model_open(write_file("bad.gguf", &cases[i].w, model), &got, NULL, &error);
        if (status != cases[i].status || got || !strstr(error.message, cases[i].says))
            fail_msg("case %zu: status %d, \"%s\"", i, (int)status, error.message);
    }
    sgm_model_free(model);
    sgm_model *got;
    sgm_error error = {0};
    assert_int_equal(sgm_file_write(in_folder("text"), "no model", 8, NULL), SGM_OK);
    assert_false(sgm_model_is_gguf(in_folder("text")));
    assert_false(sgm_model_is_gguf(in_folder("absent")));
    assert_int_equal(sgm_model_open(in_folder("text"), &got, NULL, &error), SGM_EFORMAT);
}

/* Parts in file order, as the test above writes them, and every weight once. */
static void parts_cover_every_weight(void **state) {
    (void)state;
    sgm_model_settings s = {.layers = 3, .experts = 5, .tie_embeddings = false};
    const bool split[3] = {false, true, false};
    int64_t seen[3 + 3 * (9 + 15)] = {0}, parts = sgm_gguf_part_count(&s, split);
    sgm_gguf_part part;
    assert_int_equal(sgm_gguf_part_count(&s, NULL), 3 + 3 * 12);
    assert_int_equal(parts, 3 + 2 * 12 + 9 + 15);
    for (int64_t i = 0; i < parts; i++) {
        assert_true(sgm_gguf_part_at(&s, split, i, &part));
        for (int64_t j = 0; j < part.count; j++)
            seen[part.first + j * part.step]++;
    }
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
        assert_int_equal(seen[i], 1);
    assert_false(sgm_gguf_part_at(&s, split, parts, &part));
    assert_true(sgm_gguf_part_at(&s, split, 1 + 12 + 9 + 5 + 2, &part));
    assert_string_equal(part.name, "blk.1.ffn_up.2.weight");
    assert_true(sgm_gguf_part_at(&s, split, parts - 1, &part));
    assert_string_equal(part.name, "output.weight");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_by_llama_names),
        cmocka_unit_test(weights_are_normalised_as_by_llama),
        cmocka_unit_test(unpacks_what_must_be_f32),
        cmocka_unit_test(opens_our_own_architecture),
        cmocka_unit_test(refuses_other_models),
        cmocka_unit_test(parts_cover_every_weight),
        cmocka_unit_test(fractions_are_read_in_every_locale),
    };
    return cmocka_run_group_tests_name("model_gguf", tests, make_test_folder, remove_test_folder);
}
