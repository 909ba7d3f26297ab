// SPDX-License-Identifier: Apache-2.0
/* The router's hidden layer: a case worked by hand, values and gradients; models that have one, in folders, in GGUF files, and
 * decoded as they are prefilled. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conformance/op_harness.h"
#include "model/model_open.h"
#include "sigmoe/convert.h"
#include "sigmoe/session.h"
#include "unit/model_fixture.h"

extern const sgm_op sgm_op_gate_hidden;

static void near(const char *what, double got, double want, double allowed) {
    if (!(fabs(got - want) <= allowed))
        fail_msg("%s: %.9g, not %.9g", what, got, want);
}

/* x = (1, 2), W = (1 0; 0 −1; 2 −1), b = (0, 2, 3): x Wᵀ + b = (1, 0, 3). GELU with tanh: of 1: 0.8411920, of 0: 0, of 3:
 * 2.9963626; slopes 1.0829641, 1/2, 1.0115842. With dy = (c_0, c_1, c_2): d(pre) = slope · c; dx_0 = d_0 + 2 d_2,
 * dx_1 = −d_1 − d_2; dW = d(pre)ᵀ x; db = d(pre). */
static void by_hand(void **state) {
    (void)state;
    harness h;
    assert_true(harness_open(&h, &sgm_op_gate_hidden, 0, false));
    assert_int_equal(h.op_case.rows[0], 1); /* one row; the case's five outputs of eight inputs become three of two */
    const struct gate { const sgm_weight *weight, *bias; } *args = h.op_case.args;
    sgm_weight *weight = (sgm_weight *)(uintptr_t)args->weight, *bias = (sgm_weight *)(uintptr_t)args->bias;
    weight->rows = bias->cols = 3;
    weight->cols = h.op_case.cols[0] = 2;
    const sgm_real w[6] = {1, 0, 0, -1, 2, -1}, b[3] = {0, 2, 3};
    memcpy(weight->data, w, sizeof w);
    memcpy(bias->data, b, sizeof b);
    h.input[0][0] = 1, h.input[0][1] = 2;
    assert_int_equal(harness_run_case(&h, sgm_kernels_at(0), 1, true, 1, NULL, NULL, NULL), SGM_OK);
    const double y[3] = {0.8411919906, 0, 2.9963626079}, slope[3] = {1.0829640838, 0.5, 1.0115841667};
    double d[3];
    for (int i = 0; i < 3; i++) {
        d[i] = slope[i] * harness_coefficient(i);
        near("y", (double)h.output[i], y[i], 1e-6);
        near("db", (double)bias->gradient[i], d[i], 1e-6);
        near("dW", (double)weight->gradient[2 * i], d[i], 1e-6);
        near("dW", (double)weight->gradient[2 * i + 1], 2 * d[i], 1e-6);
    }
    near("dx", (double)h.input_gradient[0][0], d[0] + 2 * d[2], 1e-6);
    near("dx", (double)h.input_gradient[0][1], -d[1] - d[2], 1e-6);
    harness_close(&h);
}

enum { V = 257, LENGTH = 90 };

/* Logits of all tokens at once; and one by one, which must be the same bytes. */
static void logits_of(const char *path, const char *kernels, float *logits) {
    static float one[V];
    sgm_engine *engine;
    sgm_session *session;
    sgm_error error = {0};
    sgm_engine_options options = {.threads = 2, .kernels = kernels, .kv_type = "f32"};
    int32_t tokens[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        tokens[i] = (i * i * 7 + i * 13 + 5) % V;
    if (sgm_engine_open(path, &options, &engine, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_int_equal(sgm_session_new(engine, &session, NULL), SGM_OK);
    sgm_batch_item all = {session, tokens, LENGTH, true};
    assert_int_equal(sgm_engine_step(engine, &all, 1, logits, NULL), SGM_OK);
    assert_int_equal(sgm_session_truncate(session, 0, NULL), SGM_OK);
    for (int i = 0; i < LENGTH; i++) {
        sgm_batch_item next = {session, tokens + i, 1, false};
        assert_int_equal(sgm_engine_step(engine, &next, 1, one, NULL), SGM_OK);
        assert_memory_equal(one, logits + (ptrdiff_t)i * V, sizeof one);
    }
    sgm_session_free(session);
    sgm_engine_close(engine);
}

/* A model with both ideas: its settings come back from its folder and from a GGUF file, and it computes the same. */
static void models(void **state) {
    (void)state;
    static float folder[LENGTH * V], file[LENGTH * V], linear[LENGTH * V];
    static const char *const settings[] = {"model.gate_hidden=12",      "model.attention=stick_breaking",
                                           "model.experts_per_token=2", "model.embedding_init_std=0.5",
                                           "model.context=128",         NULL};
    char path[256], gguf[256]; /* in_folder keeps the last few only */
    snprintf(path, sizeof path, "%s", make_model("both", settings));
    snprintf(gguf, sizeof gguf, "%s", in_folder("both.gguf"));
    sgm_model_info info, of_file;
    assert_int_equal(sgm_model_inspect(path, &info, NULL), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    assert_int_equal(info.settings.gate_hidden, 12);
    assert_int_equal(info.settings.attention, SGM_ATTENTION_STICK_BREAKING);
    assert_true(info.settings.embedding_init_std == 0.5);
    /* 2 layers, width 64, 8 experts: a linear router has 8 · 64 weights, this one 8 · 12 + 12 · 64 + 12. */
    sgm_model_settings plain = info.settings;
    sgm_model_counts counts, plain_counts;
    plain.gate_hidden = 0;
    sgm_model_count(&plain, 2, 64, &plain_counts);
    sgm_model_count(&info.settings, 2, 64, &counts);
    assert_int_equal(counts.total_parameters - plain_counts.total_parameters, 2 * (96 + 768 + 12 - 512));
    assert_int_equal(counts.active_parameters - plain_counts.active_parameters, 2 * (96 + 768 + 12 - 512));
    assert_true(counts.forward_flops_per_token - plain_counts.forward_flops_per_token == 2 * 2 * (96 + 768 - 512));
    sgm_model *model;
    assert_int_equal(sgm_model_open(path, &model, NULL, NULL), SGM_OK);
    int64_t elements = 0;
    for (int64_t i = 0; i < model->weight_count; i++)
        elements += model->weights[i].rows * model->weights[i].cols;
    assert_int_equal(elements, counts.total_parameters);
    assert_int_equal(model->layers[1].gate->cols, 12);
    assert_int_equal(model->layers[1].gate_hidden->rows, 12);
    assert_string_equal(model->layers[1].gate_bias->name, "model.layers.1.mlp.gate.hidden.bias");
    assert_true(!model->layers[1].gate_bias->decay && model->layers[1].gate_hidden->decay);
    for (int i = 0; i < 12; i++)
        assert_true(model->layers[1].gate_bias->data[i] == 0);
    sgm_model_free(model);

    sgm_convert_options options = {.type = "f32", .threads = 1};
    sgm_convert_report report;
    sgm_error error = {0};
    if (sgm_model_quantize(path, &options, gguf, &report, &error))
        fail_msg("%s", error.message);
    assert_string_equal(report.architecture, "sigmoe");
    sgm_convert_report_free(&report);
    assert_int_equal(sgm_model_inspect(gguf, &of_file, NULL), SGM_OK);
    assert_int_equal(of_file.settings.gate_hidden, 12);
    assert_int_equal(of_file.settings.attention, SGM_ATTENTION_STICK_BREAKING);
    logits_of(path, "ref", folder);
    logits_of(gguf, "ref", file);
    for (int i = 0; i < LENGTH * V; i++) /* products of stored weights sum in another order than the reference's */
        assert_true(fabs((double)folder[i] - (double)file[i]) < 1e-3);
    logits_of(path, "auto", folder);
    logits_of(make_model("linear", settings + 1), "auto", linear);
    assert_memory_not_equal(folder, linear, sizeof linear);
    /* Another program's architecture cannot say it. */
    options.architecture = "qwen3moe";
    assert_int_equal(sgm_model_quantize(path, &options, in_folder("no.gguf"), &report, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "stick-breaking"));
    sgm_convert_report_free(&report);
    /* Quantised: the router stays f32. */
    options = (sgm_convert_options){.type = "q8_0", .threads = 1};
    assert_int_equal(sgm_model_quantize(path, &options, in_folder("q8.gguf"), &report, NULL), SGM_OK);
    sgm_convert_report_free(&report);
    assert_int_equal(sgm_model_open(in_folder("q8.gguf"), &model, NULL, NULL), SGM_OK);
    assert_true(model->layers[0].gate_hidden->data && model->layers[0].gate_bias->data && model->layers[0].gate->data);
    assert_true(model->layers[0].q->stored.data != NULL);
    sgm_model_free(model);
}

/* A wider start of the embeddings is one key more in the file of either type. */
static void embeddings_are_written(void **state) {
    (void)state;
    sgm_model_info info;
    const char *path = make_model("wide", (const char *const[]){"model.embedding_init_std=0.25", NULL});
    assert_int_equal(sgm_model_inspect(path, &info, NULL), SGM_OK);
    assert_string_equal(info.model_type, "qwen3_moe");
    assert_true(info.settings.embedding_init_std == 0.25);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(models),
                                       cmocka_unit_test(embeddings_are_written)};
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
