// SPDX-License-Identifier: Apache-2.0
/* Models written as GGUF: the values and types that were asked for, rules by name and by expert, what falls back, and that
 * what is written is what is read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/gguf.h"
#include "model/model_folder.h"
#include "model/model_open.h"
#include "quant/quant.h"
#include "sigmoe/convert.h"
#include "sigmoe/session.h"
#include "unit/model_fixture.h"

static sgm_convert_report written(const char *from, const sgm_convert_options *options, const char *to) {
    sgm_convert_report report;
    sgm_error error = {0};
    if (sgm_model_quantize(from, options, to, &report, &error))
        fail_msg("%s", error.message);
    return report;
}

static char *bytes_of(const char *path, size_t *size) {
    char *bytes;
    assert_int_equal(sgm_file_read(path, (size_t)1 << 28, &bytes, size, NULL), SGM_OK);
    return bytes;
}

static void assert_same_bytes(const char *a, const char *b) {
    size_t x_size, y_size;
    char *x = bytes_of(a, &x_size), *y = bytes_of(b, &y_size);
    assert_int_equal(x_size, y_size);
    assert_memory_equal(x, y, x_size);
    sgm_free(x);
    sgm_free(y);
}

static sgm_model *opened(const char *path) {
    sgm_model *model;
    sgm_error error = {0};
    if (sgm_model_open(path, &model, NULL, &error))
        fail_msg("%s", error.message);
    return model;
}

static const char *type_in(const sgm_gguf *file, const char *name) {
    const sgm_gguf_tensor *tensor = sgm_gguf_tensor_find(file, name);
    const sgm_quant *quant = tensor ? sgm_quant_of_gguf(tensor->gguf_type) : NULL;
    return quant ? quant->name : "none";
}

/* Every element of the two models is equal but for the error of a type. */
static void assert_close(const sgm_model *a, const sgm_model *b, double relative) {
    assert_int_equal(a->weight_count, b->weight_count);
    double error = 0, norm = 0;
    float x[512], y[512];
    for (int64_t i = 0; i < a->weight_count; i++)
        for (int64_t r = 0; r < a->weights[i].rows; r++) {
            const sgm_weight *const pair[2] = {&a->weights[i], &b->weights[i]};
            float *const rows[2] = {x, y};
            for (int j = 0; j < 2; j++)
                if (pair[j]->data)
                    memcpy(rows[j], pair[j]->data + r * pair[j]->cols, (size_t)pair[j]->cols * sizeof(float));
                else
                    sgm_matrix_unpack_row(&pair[j]->stored, r, rows[j]);
            for (int64_t c = 0; c < pair[0]->cols && pair[0]->rows > 1; c++) {
                error += (double)(x[c] - y[c]) * (double)(x[c] - y[c]);
                norm += (double)x[c] * (double)x[c];
            }
        }
    if (!(sqrt(error / norm) <= relative))
        fail_msg("distance %g, more than %g", sqrt(error / norm), relative);
}

static void f32_is_exact_both_ways(void **state) {
    (void)state;
    char folder[256];
    snprintf(folder, sizeof folder, "%s", make_model("exact", NULL));
    sgm_convert_options options = {.type = "f32", .threads = 1};
    sgm_convert_report report = written(folder, &options, in_folder("one.gguf"));
    assert_string_equal(report.architecture, "qwen3moe");
    assert_int_equal(report.tensors, 2 + 2 * 12);
    assert_non_null(strstr(report.notes, "llama.cpp normalises"));
    sgm_convert_report_free(&report);
    /* Threads do not show; a file converted to what it is already is the same file. */
    options.threads = 3;
    report = written(folder, &options, in_folder("three.gguf"));
    sgm_convert_report_free(&report);
    assert_same_bytes(in_folder("one.gguf"), in_folder("three.gguf"));
    report = written(in_folder("one.gguf"), &options, in_folder("again.gguf"));
    sgm_convert_report_free(&report);
    assert_same_bytes(in_folder("one.gguf"), in_folder("again.gguf"));
    sgm_model *a = opened(folder), *b = opened(in_folder("one.gguf"));
    assert_close(a, b, 0);
    sgm_model_free(a);
    sgm_model_free(b);

    /* A new model's file has the same values as its folder. */
    sgm_config *config;
    sgm_error error = {0};
    assert_int_equal(sgm_config_new(&config, &error), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", &error), SGM_OK);
    assert_int_equal(sgm_model_init(config, NULL, 5, "f32", in_folder("new"), NULL, &error), SGM_OK);
    if (sgm_model_init_gguf(config, 5, &options, in_folder("new.gguf"), &report, &error))
        fail_msg("%s", error.message);
    sgm_convert_report_free(&report);
    a = opened(in_folder("new")), b = opened(in_folder("new.gguf"));
    assert_close(a, b, 0);
    sgm_model_free(a);
    sgm_model_free(b);
    sgm_config_free(config);
}

static void types_fall_back_and_say_so(void **state) {
    (void)state;
    char folder[256];
    snprintf(folder, sizeof folder, "%s", make_model("types", NULL));
    /* pico: rows of 64, those of down 32. */
    static const struct {
        const char *type, *given;
        double relative;
        const char *note; /* NULL: nothing fell back */
    } cases[] = {
        {"f16", "f16", 1e-3, NULL},
        {"bf16", "bf16", 4e-3, NULL},
        {"q8_0", "q8_0", 0.01, NULL},
        {"q4_0", "q4_0", 0.12, NULL},
        {"q4_k", "q5_0", 0.06,
         "ffn_down_exps: q5_0 instead of q4_k in 2 tensors, as rows of 32 are no multiple of 256\n"},
        {"q6_k", "q8_0", 0.01, "token_embd: q8_0 instead of q6_k in 1 tensor, as rows of 64 are no multiple of 256\n"},
    };
    sgm_model *model = opened(folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgm_convert_options options = {.type = cases[i].type, .threads = 2};
        sgm_convert_report report = written(folder, &options, in_folder("typed.gguf"));
        assert_true(cases[i].note ? strstr(report.notes, cases[i].note) != NULL : !strstr(report.notes, "instead"));
        sgm_convert_report_free(&report);
        sgm_gguf *file;
        assert_int_equal(sgm_gguf_open(in_folder("typed.gguf"), &file, NULL), SGM_OK);
        assert_string_equal(type_in(file, "blk.1.ffn_up_exps.weight"), cases[i].given);
        assert_string_equal(type_in(file, "token_embd.weight"), cases[i].given);
        assert_string_equal(type_in(file, "blk.0.ffn_gate_inp.weight"), "f32");
        assert_string_equal(type_in(file, "blk.0.attn_q_norm.weight"), "f32");
        sgm_gguf_close(file);
        sgm_model *got = opened(in_folder("typed.gguf"));
        assert_close(model, got, cases[i].relative);
        sgm_model_free(got);
    }
    sgm_model_free(model);
}

/* Blocks would turn what is not finite into something that is, and a diverged model into one that looks well. */
static void refuses_values_that_are_not_finite(void **state) {
    (void)state;
    static const struct {
        float value;
        const char *type;
        bool refused;
    } cases[] = {
        {NAN, "q8_0", true},     {NAN, "q4_0", true},       {-INFINITY, "q5_0", true}, {NAN, "bf16", true},
        {INFINITY, "f16", true}, {70000.0F, "f16", true},   {-65520.0F, "f16", true},  {65504.0F, "f16", false},
        {NAN, "f32", false},     {70000.0F, "q8_0", false}, {3.4e38F, "bf16", true},   {-3.38e38F, "bf16", false},
    };
    char folder[256], from[256];
    snprintf(folder, sizeof folder, "%s", make_model("finite", NULL));
    snprintf(from, sizeof from, "%s", in_folder("damaged.gguf"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgm_convert_options options = {.type = "f32", .threads = 1};
        sgm_convert_report report = written(folder, &options, from);
        sgm_convert_report_free(&report);
        /* The 37th element of the third row of layer 1's queries. */
        size_t size;
        char *bytes = bytes_of(from, &size);
        sgm_gguf *file;
        assert_int_equal(sgm_gguf_parse((const unsigned char *)bytes, size, &file, NULL), SGM_OK);
        const char *data = sgm_gguf_tensor_find(file, "blk.1.attn_q.weight")->data;
        memcpy(bytes + (data - bytes) + (2 * 64 + 36) * sizeof(float), &cases[i].value, sizeof cases[i].value);
        sgm_gguf_close(file);
        assert_int_equal(sgm_file_write(from, bytes, size, NULL), SGM_OK);
        sgm_free(bytes);

        sgm_error error = {0};
        options.type = cases[i].type;
        sgm_status status = sgm_model_quantize(from, &options, in_folder("finite.gguf"), &report, &error);
        sgm_convert_report_free(&report);
        assert_int_equal(status, cases[i].refused ? SGM_EFORMAT : SGM_OK);
        assert_int_equal(sgm_path_exists(in_folder("finite.gguf")), !cases[i].refused);
        if (cases[i].refused)
            assert_non_null(strstr(error.message, "blk.1.attn_q.weight"));
        (void)unlink(in_folder("finite.gguf"));
    }
}

static void rules_choose_types(void **state) {
    (void)state;
    char folder[256];
    snprintf(folder, sizeof folder, "%s", make_model("rules", NULL));
    const char *tensors[] = {"blk.1.*=f16", "token_embd=q8_0", "ffn_down_exps=bf16"};
    const char *experts[] = {"1:*=q8_0", "1:2-3=q4_0", "1:7=f32"};
    sgm_convert_options options = {.type = "q4_0", .tensor_types = tensors, .tensor_type_count = 3, .threads = 2};
    sgm_convert_report report = written(folder, &options, in_folder("rules.gguf"));
    assert_string_equal(report.architecture, "qwen3moe");
    sgm_convert_report_free(&report);
    sgm_gguf *file;
    assert_int_equal(sgm_gguf_open(in_folder("rules.gguf"), &file, NULL), SGM_OK);
    assert_string_equal(type_in(file, "blk.0.attn_q.weight"), "q4_0");
    assert_string_equal(type_in(file, "blk.1.attn_q.weight"), "f16");
    assert_string_equal(type_in(file, "blk.1.ffn_gate_inp.weight"), "f32"); /* whatever a pattern says */
    assert_string_equal(type_in(file, "token_embd.weight"), "q8_0");
    assert_string_equal(type_in(file, "blk.1.ffn_down_exps.weight"), "bf16"); /* the last that matches */
    sgm_gguf_close(file);

    /* Experts that differ are tensors of their own, which only we read. */
    options.expert_types = experts;
    options.expert_type_count = 3;
    report = written(folder, &options, in_folder("experts.gguf"));
    assert_string_equal(report.architecture, "sigmoe");
    assert_null(strstr(report.notes, "llama.cpp"));
    assert_int_equal(report.tensors, 2 + 12 + 9 + 24);
    sgm_convert_report_free(&report);
    assert_int_equal(sgm_gguf_open(in_folder("experts.gguf"), &file, NULL), SGM_OK);
    assert_string_equal(type_in(file, "blk.0.ffn_up_exps.weight"), "q4_0");
    assert_string_equal(type_in(file, "blk.1.ffn_up_exps.weight"), "none");
    assert_string_equal(type_in(file, "blk.1.ffn_up.0.weight"), "q8_0");
    assert_string_equal(type_in(file, "blk.1.ffn_down.2.weight"), "q4_0");
    assert_string_equal(type_in(file, "blk.1.ffn_gate.7.weight"), "f32");
    sgm_gguf_close(file);
    sgm_model *a = opened(folder), *b = opened(in_folder("experts.gguf"));
    assert_close(a, b, 0.1);
    assert_true(b->layers[1].experts[7].gate != NULL && b->layers[1].experts[6].stored_gate.type == SGM_TYPE_Q8_0);
    sgm_model_free(a);
    sgm_model_free(b);

    sgm_tensor_group *groups;
    size_t count, found = 0;
    assert_int_equal(sgm_model_tensor_groups(in_folder("experts.gguf"), &groups, &count, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++)
        if (strcmp(groups[i].kind, "ffn_up_exps") == 0 && strcmp(groups[i].type, "q8_0") == 0) {
            assert_int_equal(groups[i].tensors, 5);
            assert_int_equal(groups[i].elements, 5 * 32 * 64);
            assert_int_equal(groups[i].bytes, 5 * 32 * 68);
            found++;
        }
    assert_int_equal(found, 1);
    sgm_tensor_groups_free(groups);
    assert_int_equal(sgm_model_tensor_groups(folder, &groups, &count, NULL), SGM_EARGUMENT);
}

static void refuses_rules_that_mean_nothing(void **state) {
    (void)state;
    char folder[256];
    snprintf(folder, sizeof folder, "%s", make_model("wrong", NULL));
    static const struct {
        const char *type, *tensor, *expert, *architecture, *says;
    } cases[] = {
        {.type = "q3_k", .says = "q3_k"},
        {.tensor = "ffn_down", .says = "'='"},
        {.tensor = "ffn_down=q8_0", .says = "matches no tensor"},
        {.tensor = "ffn_gate_inp=q8_0", .says = "matches no tensor"},
        {.tensor = "ffn_down_exps=q9", .says = "q9"},
        {.expert = "0=f16", .says = "names no experts"},
        {.expert = "2:0=f16", .says = "names no experts"},
        {.expert = "0:8=f16", .says = "names no experts"},
        {.expert = "0:3-1=f16", .says = "names no experts"},
        {.expert = "0:x=f16", .says = "names no experts"},
        {.expert = "0:1=f17", .says = "f17"},
        {.architecture = "llama", .says = "llama"},
        {.architecture = "qwen3moe", .expert = "0:1=f16", .says = "experts of a layer have different types"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgm_convert_options options = {.type = cases[i].type ? cases[i].type : "q8_0",
                                       .tensor_types = &cases[i].tensor,
                                       .tensor_type_count = cases[i].tensor != NULL,
                                       .expert_types = &cases[i].expert,
                                       .expert_type_count = cases[i].expert != NULL,
                                       .architecture = cases[i].architecture};
        sgm_convert_report report;
        sgm_error error = {0};
        sgm_status status = sgm_model_quantize(folder, &options, in_folder("none.gguf"), &report, &error);
        if (status != SGM_EARGUMENT || !strstr(error.message, cases[i].says))
            fail_msg("case %zu: status %d, \"%s\"", i, (int)status, error.message);
        assert_false(sgm_path_exists(in_folder("none.gguf")));
    }
}

static void null_experts_are_refused(void **state) {
    (void)state;
    sgm_convert_options options = {.type = "q8_0", .threads = 1};
    sgm_convert_report report;
    sgm_error error = {0};
    const char *path = make_model("null", (const char *const[]){"model.null_experts=2", NULL});
    assert_int_equal(sgm_model_quantize(path, &options, in_folder("null.gguf"), &report, &error), SGM_EUNSUPPORTED);
    assert_non_null(strstr(error.message, "2 null experts"));
    assert_non_null(strstr(error.hint, "model folder"));
    assert_false(sgm_path_exists(in_folder("null.gguf")));
}

/* What qwen3moe cannot say survives in architecture sigmoe; logits of a file in f32 are those of the folder, to the byte. */
static void other_models_survive(void **state) {
    (void)state;
    sgm_model *model = opened(make_model("base", NULL));
    sgm_error error = {0};
    float bias[16];
    for (int i = 0; i < 16; i++)
        bias[i] = (float)((i * 7) % 5) * 0.1f;
    assert_int_equal(sgm_model_set_selection_bias(model, bias, &error), SGM_OK);
    const int64_t by_layer[2] = {3, 1};
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, by_layer, NULL, in_folder("odd"), &error),
                     SGM_OK);
    sgm_model_free(model);
    sgm_convert_options options = {.type = "f32", .threads = 1};
    sgm_convert_report report = written(in_folder("odd"), &options, in_folder("odd.gguf"));
    assert_string_equal(report.architecture, "sigmoe");
    sgm_convert_report_free(&report);

    float *logits[2];
    const int32_t tokens[6] = {5, 200, 17, 17, 88, 3};
    for (int i = 0; i < 2; i++) {
        sgm_engine *engine;
        sgm_session *session;
        const sgm_engine_options own = {.threads = 1, .kernels = "ref"};
        if (sgm_engine_open(in_folder(i ? "odd.gguf" : "odd"), &own, &engine, &error))
            fail_msg("%s", error.message);
        assert_string_equal(sgm_engine_info(engine)->model_type, "sigmoe");
        assert_int_equal(sgm_session_new(engine, &session, &error), SGM_OK);
        logits[i] = sgm_alloc(6 * 257 * sizeof **logits);
        sgm_batch_item item = {session, tokens, 6, true};
        assert_int_equal(sgm_engine_step(engine, &item, 1, logits[i], &error), SGM_OK);
        sgm_session_free(session);
        sgm_engine_close(engine);
    }
    assert_memory_equal(logits[0], logits[1], 6 * 257 * sizeof **logits);
    sgm_free(logits[0]);
    sgm_free(logits[1]);
}

/* Blocks from the pool: spread like the deviates they stand for, different from row to row, the same for any threads. */
static void random_blocks_are_normal(void **state) {
    (void)state;
    static const char *const types[] = {"q8_0", "q4_0", "q4_k", "q6_k"};
    sgm_config *config;
    sgm_error error = {0};
    assert_int_equal(sgm_config_new(&config, &error), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.width", "320", "test", &error), SGM_OK); /* a run and a quarter */
    for (size_t t = 0; t < 4; t++) {
        sgm_convert_report report;
        for (int threads = 1; threads <= 2; threads++) {
            sgm_convert_options options = {.type = types[t], .threads = threads};
            (void)unlink(in_folder(threads == 1 ? "r1.gguf" : "r2.gguf")); /* of the type before */
            if (sgm_model_init_gguf(config, 3, &options, in_folder(threads == 1 ? "r1.gguf" : "r2.gguf"), &report,
                                    &error))
                fail_msg("%s", error.message);
            sgm_convert_report_free(&report);
        }
        assert_same_bytes(in_folder("r1.gguf"), in_folder("r2.gguf"));
        sgm_model *model = opened(in_folder("r1.gguf"));
        const sgm_weight *w = model->embedding;
        double sum = 0, squares = 0, n = (double)(w->rows * w->cols);
        float row[320], first[320];
        sgm_matrix_unpack_row(&w->stored, 0, first);
        for (int64_t r = 0; r < w->rows; r++) {
            sgm_matrix_unpack_row(&w->stored, r, row);
            assert_true(r == 0 || memcmp(row, first, sizeof row) != 0);
            for (int64_t c = 0; c < w->cols; c++) {
                sum += (double)row[c];
                squares += (double)row[c] * (double)row[c];
            }
        }
        double deviation = sqrt(squares / n);
        assert_true(fabs(deviation / w->init_std - 1) < 0.02); /* 82,240 elements: 0.0025 is one sigma */
        assert_true(fabs(sum / n) < 5 * w->init_std / sqrt(n));
        sgm_model_free(model);
    }
    sgm_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_is_exact_both_ways),
        cmocka_unit_test(types_fall_back_and_say_so),
        cmocka_unit_test(rules_choose_types),
        cmocka_unit_test(refuses_rules_that_mean_nothing),
        cmocka_unit_test(refuses_values_that_are_not_finite),
        cmocka_unit_test(null_experts_are_refused),
        cmocka_unit_test(other_models_survive),
        cmocka_unit_test(random_blocks_are_normal),
    };
    return cmocka_run_group_tests_name("convert", tests, make_test_folder, remove_test_folder);
}
