// SPDX-License-Identifier: Apache-2.0
/* Fewer and more experts: what stays stays to the byte, the right ones go, and what cannot be is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model_folder.h"
#include "sigmoe/experts.h"
#include "sigmoe/stats.h"
#include "sigmoe/text.h"
#include "unit/model_fixture.h"

enum { L = 2, E = 8, D = 64, F = 32 };

/* make_model's path, kept (in_folder remembers the last few only). */
static const char *made(const char *name, const char *const *settings) {
    static char path[256];
    snprintf(path, sizeof path, "%s", make_model(name, settings));
    return path;
}

static sgm_model *load(const char *path) {
    sgm_model *model;
    sgm_error error = {0};
    if (sgm_model_folder_load(path, false, &model, NULL, &error))
        fail_msg("%s", error.message);
    return model;
}

static void same(const sgm_weight *a, int64_t row_a, const sgm_weight *b, int64_t row_b, int64_t rows) {
    assert_int_equal(a->cols, b->cols);
    assert_memory_equal(a->data + row_a * a->cols, b->data + row_b * b->cols, (size_t)(rows * a->cols) * sizeof(float));
}

/* All but experts and routers. */
static void same_rest(const sgm_model *a, const sgm_model *b) {
    same(a->embedding, 0, b->embedding, 0, a->embedding->rows);
    same(a->final_norm, 0, b->final_norm, 0, 1);
    for (int64_t l = 0; l < L; l++)
        for (int64_t i = 0; i < sgm_layer_weights(&a->settings); i++) {
            const sgm_weight *x = a->layers[l].attention_norm + i, *y = b->layers[l].attention_norm + i;
            if (x != a->layers[l].gate)
                same(x, 0, y, 0, x->rows);
        }
}

static void same_expert(const sgm_model *a, int64_t from, const sgm_model *b, int64_t to, int64_t layer) {
    same(a->layers[layer].gate, from, b->layers[layer].gate, to, 1);
    for (int m = 0; m < 3; m++) {
        const sgm_weight *x = &a->layers[layer].expert_weights[3 * from + m];
        same(x, 0, &b->layers[layer].expert_weights[3 * to + m], 0, x->rows);
    }
}

/* Layer 0 uses its experts 7, 1, 4 and then 2 and 3 alike: of equals the lower stays. Layer 1 has another order. */
static const int64_t counts[L * E] = {0, 30, 5, 5, 20, 0, 0, 40, 25, 25, 25, 20, 1, 2, 1, 1};

static void the_used_stay(void **state) {
    (void)state;
    const char *path = made("used", NULL), *to = in_folder("used4");
    sgm_prune_options options = {.load = counts, .layers = L, .experts = E, .keep = 4};
    sgm_reshape_report report;
    sgm_error error = {0};
    if (sgm_model_prune(path, &options, to, &report, &error))
        fail_msg("%s", error.message);
    assert_true(report.experts_before == 8 && report.experts == 4 && report.layers == 2);
    /* 95 of 100 and 95 of 100 */
    assert_true(fabs(report.kept_share - 0.95) < 1e-12 && fabs(report.least_kept_share - 0.95) < 1e-12);
    sgm_model *old = load(path), *new = load(to);
    assert_int_equal(new->settings.experts, 4);
    same_rest(old, new);
    static const int64_t kept[L][4] = {{1, 2, 4, 7}, {0, 1, 2, 3}};
    for (int64_t l = 0; l < L; l++)
        for (int64_t e = 0; e < 4; e++)
            same_expert(old, kept[l][e], new, e, l);
    sgm_model_counts now;
    sgm_model_count(&new->settings, 1, 64, &now);
    assert_int_equal(report.total_parameters, now.total_parameters);
    sgm_model_free(new);
    sgm_model_free(old);
}

/* At 5 %: layer 0 has five such experts, layer 1 four; five stay in both. */
static void by_share(void **state) {
    (void)state;
    const char *path = made("share", NULL), *to = in_folder("share5");
    sgm_prune_options options = {.load = counts, .layers = L, .experts = E, .drop_below = 0.05};
    sgm_reshape_report report;
    assert_int_equal(sgm_model_prune(path, &options, to, &report, NULL), SGM_OK);
    assert_int_equal(report.experts, 5);
    assert_true(fabs(report.kept_share - (1 + 0.97) / 2) < 1e-12 && fabs(report.least_kept_share - 0.97) < 1e-12);
    sgm_model *old = load(path), *new = load(to);
    same_expert(old, 5, new, 4, 1); /* layer 1's fifth */
    sgm_model_free(new);
    sgm_model_free(old);
}

/* The bias on selection goes with the experts; so does a router's hidden layer, as it is. */
static void biases_go_along(void **state) {
    (void)state;
    sgm_model *model = load(make_model("plain", (const char *const[]){"model.gate_hidden=6", NULL}));
    float bias[L * E];
    for (int i = 0; i < L * E; i++)
        bias[i] = 0.25F * (float)i;
    assert_int_equal(sgm_model_folder_save(model, bias, NULL, NULL, in_folder("biased"), NULL), SGM_OK);
    sgm_model_free(model);
    sgm_prune_options fewer = {.load = counts, .layers = L, .experts = E, .keep = 3};
    sgm_grow_options more = {.add = 2, .fresh = true, .seed = 5};
    sgm_reshape_report report;
    assert_int_equal(sgm_model_prune(in_folder("biased"), &fewer, in_folder("biased3"), &report, NULL), SGM_OK);
    assert_int_equal(sgm_model_grow(in_folder("biased3"), &more, in_folder("biased5"), &report, NULL), SGM_OK);
    sgm_model *old = load(in_folder("biased")), *three = load(in_folder("biased3")), *five = load(in_folder("biased5"));
    static const float want3[6] = {0.25F, 1, 1.75F, 2, 2.25F, 2.5F};
    static const float want5[10] = {0.25F, 1, 1.75F, 0, 0, 2, 2.25F, 2.5F, 0, 0};
    assert_memory_equal(three->selection_bias, want3, sizeof want3);
    assert_memory_equal(five->selection_bias, want5, sizeof want5);
    same_rest(old, five);
    assert_int_equal(five->layers[0].gate->cols, 6);
    /* A null expert has its twin's; a fresh one none. */
    sgm_grow_options twins = {.add = 2, .null = true}, strangers = {.add = 2, .null = true, .fresh = true, .seed = 5};
    assert_int_equal(sgm_model_grow(in_folder("biased3"), &twins, in_folder("twins"), &report, NULL), SGM_OK);
    assert_int_equal(sgm_model_grow(in_folder("biased3"), &strangers, in_folder("strangers"), &report, NULL), SGM_OK);
    sgm_model *with = load(in_folder("twins")), *without = load(in_folder("strangers"));
    static const float want_twins[10] = {0.25F, 1, 1.75F, 0.25F, 1, 2, 2.25F, 2.5F, 2, 2.25F};
    assert_memory_equal(with->selection_bias, want_twins, sizeof want_twins);
    assert_memory_equal(without->selection_bias, want5, sizeof want5);
    assert_memory_equal(without->layers[1].gate->data, five->layers[1].gate->data, 5 * 6 * sizeof(float));
    sgm_model_free(with), sgm_model_free(without);
    sgm_model_free(old), sgm_model_free(three), sgm_model_free(five);
}

static double distance(const sgm_weight *a, int64_t row_a, const sgm_weight *b, int64_t row_b, int64_t rows) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < rows * a->cols; i++) {
        double x = (double)a->data[row_a * a->cols + i], y = (double)b->data[row_b * b->cols + i];
        difference += (x - y) * (x - y);
        size += x * x;
    }
    return sqrt(difference / size);
}

/* New experts: copies of the first ones, off by the noise, each in its own direction; without noise to the byte; or random as a
 * new model's of that name. Twice the same. */
static void more_experts(void **state) {
    (void)state;
    const char *path = made("few", NULL);
    sgm_reshape_report report;
    sgm_grow_options exact = {.add = 3}, noisy = {.add = 3, .noise = 0.02, .seed = 9},
                     fresh = {.add = 3, .fresh = true};
    assert_int_equal(sgm_model_grow(path, &exact, in_folder("exact"), &report, NULL), SGM_OK);
    assert_true(report.experts_before == 8 && report.experts == 11);
    assert_int_equal(sgm_model_grow(path, &noisy, in_folder("noisy"), &report, NULL), SGM_OK);
    assert_int_equal(sgm_model_grow(path, &noisy, in_folder("again"), &report, NULL), SGM_OK);
    assert_int_equal(sgm_model_grow(path, &fresh, in_folder("fresh"), &report, NULL), SGM_OK);
    sgm_model *old = load(path), *one = load(in_folder("exact")), *two = load(in_folder("noisy"));
    sgm_model *three = load(in_folder("again")), *four = load(in_folder("fresh"));
    same_rest(old, one), same_rest(old, two), same_rest(old, four);
    for (int64_t l = 0; l < L; l++) {
        for (int64_t e = 0; e < E; e++)
            same_expert(old, e, one, e, l), same_expert(old, e, two, e, l), same_expert(old, e, four, e, l);
        for (int64_t e = 0; e < 3; e++) {
            same_expert(old, e, one, 8 + e, l);
            same_expert(two, 8 + e, three, 8 + e, l);
            for (int m = 0; m < 3; m++) {
                const sgm_weight *x = &old->layers[l].expert_weights[3 * e + m];
                const sgm_weight *y = &two->layers[l].expert_weights[3 * (8 + e) + m];
                double off = distance(x, 0, y, 0, x->rows);
                assert_true(off > 0.018 && off < 0.022); /* 2048 deviates: within a few hundredths of 0.02 */
                double far = distance(x, 0, &four->layers[l].expert_weights[3 * (8 + e) + m], 0, x->rows);
                assert_true(far > 0.7 && far < 3);
            }
            double row = distance(old->layers[l].gate, e, two->layers[l].gate, 8 + e, 1);
            assert_true(row > 0.01 && row < 0.03);
        }
        assert_true(distance(two->layers[l].gate, 8, two->layers[l].gate, 9, 1) > 0.1);
    }
    sgm_model_free(old), sgm_model_free(one), sgm_model_free(two), sgm_model_free(three), sgm_model_free(four);
}

/* Null experts: rows of the router alone, copies to the bit. With twice the experts per token, and weights over those that
 * compute, the model says what it said; its experts per token are the new number in every layer. */
static void null_experts_begin_as_before(void **state) {
    (void)state;
    const char *path = made("before", (const char *const[]){"model.experts_per_token=2", "router.normalise=true",
                                                            "model.gate_init_std=0.5", NULL});
    sgm_tokenizer *tokenizer;
    assert_int_equal(sgm_tokenizer_bytes(&tokenizer, NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_save(tokenizer, path, NULL), SGM_OK);
    sgm_tokenizer_close(tokenizer);
    sgm_grow_options options = {.add = E, .null = true, .experts_per_token = 4};
    sgm_reshape_report report;
    assert_int_equal(sgm_model_grow(path, &options, in_folder("null"), &report, NULL), SGM_OK);
    assert_true(report.experts_before == E && report.experts == 2 * E && report.null_experts == E);
    sgm_model *old = load(path), *new = load(in_folder("null"));
    sgm_model_counts now;
    sgm_model_count(&new->settings, 4, 64, &now);
    assert_int_equal(report.total_parameters, now.total_parameters);
    assert_true(new->settings.null_experts == E &&new->settings.experts_per_token == 4);
    same_rest(old, new);
    for (int64_t l = 0; l < L; l++)
        for (int64_t e = 0; e < E; e++) {
            same_expert(old, e, new, e, l);
            same(old->layers[l].gate, e, new->layers[l].gate, E + e, 1);
        }
    sgm_model_free(old), sgm_model_free(new);
    char text[256], file[256];
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = (char)('a' + i * i % 23);
    text[sizeof text - 1] = '\0';
    snprintf(file, sizeof file, "%s", in_folder("text.txt"));
    assert_int_equal(sgm_file_write(file, text, strlen(text), NULL), SGM_OK);
    const char *const paths[] = {file};
    const sgm_engine_options engine = {.kernels = "ref", .threads = 1};
    sgm_evaluation was = {0}, is = {0};
    assert_int_equal(sgm_evaluate(path, &engine, paths, 1, 0, &was, NULL), SGM_OK);
    assert_int_equal(sgm_evaluate(in_folder("null"), &engine, paths, 1, 0, &is, NULL), SGM_OK);
    assert_true(fabs(was.bits_per_byte - is.bits_per_byte) < 1e-6 * was.bits_per_byte);
    for (int64_t l = 0; l < L; l++)
        for (int64_t e = 0; e < E; e++) {
            assert_int_equal(is.load[l * 2 * E + e], was.load[l * E + e]);
            assert_int_equal(is.load[l * 2 * E + E + e], was.load[l * E + e]);
        }
    sgm_evaluation_free(&was), sgm_evaluation_free(&is);
    sgm_grow_options many = {.add = 1, .null = true, .experts_per_token = E + 2};
    sgm_error error = {0};
    assert_int_equal(sgm_model_grow(path, &many, in_folder("never"), &report, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "cannot activate 10 of 9"));
    assert_int_equal(sgm_model_grow(in_folder("null"), &options, in_folder("never"), &report, &error),
                     SGM_EUNSUPPORTED);
}

static void refused(sgm_status status, const char *path, sgm_prune_options options, const char *says) {
    sgm_error error = {0};
    sgm_reshape_report report;
    const char *to = in_folder("never");
    assert_int_equal(sgm_model_prune(path, &options, to, &report, &error), status);
    if (!strstr(error.message, says))
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    assert_false(sgm_path_exists(to));
}

static void what_cannot_be(void **state) {
    (void)state;
    const char *path = made("refused", (const char *const[]){"model.experts_per_token=3", NULL});
    static const int64_t nothing[L * E] = {1, 1, 1, 1};
    static const int64_t negative[L * E] = {1, -1, 1, 1, 1, 1, 1, 1, 1};
    sgm_prune_options good = {.load = counts, .layers = L, .experts = E, .keep = 4}, bad = good;
    bad.experts = 4, bad.layers = 4;
    refused(SGM_EARGUMENT, path, bad, "the counts are of 4 layers");
    bad = good, bad.keep = 9;
    refused(SGM_EARGUMENT, path, bad, "cannot keep 9 of 8");
    bad = good, bad.keep = 2;
    refused(SGM_EARGUMENT, path, bad, "activates 3 experts");
    bad = good, bad.keep = 0;
    refused(SGM_EARGUMENT, path, bad, "share");
    bad = good, bad.load = nothing;
    refused(SGM_EARGUMENT, path, bad, "nothing was counted in layer 1");
    bad = good, bad.load = negative;
    refused(SGM_EARGUMENT, path, bad, "count of -1");
    /* By share never fewer than a token activates. */
    bad = good, bad.keep = 0, bad.drop_below = 1;
    sgm_reshape_report report;
    sgm_error error = {0};
    assert_int_equal(sgm_model_prune(path, &bad, in_folder("three"), &report, NULL), SGM_OK);
    assert_int_equal(report.experts, 3);
    assert_int_equal(sgm_model_prune(path, &good, in_folder("three"), &report, &error), SGM_EEXISTS);
    sgm_grow_options none = {.add = 0}, loud = {.add = 1, .noise = NAN};
    assert_int_equal(sgm_model_grow(path, &none, in_folder("never"), &report, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_model_grow(path, &loud, in_folder("never"), &report, &error), SGM_EARGUMENT);
    assert_false(sgm_path_exists(in_folder("never")));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_used_stay),
                                       cmocka_unit_test(by_share),
                                       cmocka_unit_test(biases_go_along),
                                       cmocka_unit_test(more_experts),
                                       cmocka_unit_test(null_experts_begin_as_before),
                                       cmocka_unit_test(what_cannot_be)};
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
