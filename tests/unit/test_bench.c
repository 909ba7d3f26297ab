// SPDX-License-Identifier: Apache-2.0
/* Measuring speed: medians, experts that were hit, what a token reads, being interrupted, throw-away models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/bench.h"
#include "unit/model_fixture.h"

static void test_rate(void **state) {
    (void)state;
    sgm_bench_result r = {.samples = 4, .tokens = 12, .seconds = {4, 1, 3, 2}};
    double least, median, most;
    sgm_bench_rate(&r, &least, &median, &most);
    assert_true(least == 3 && median == 12 / 2.5 && most == 12);
    r.samples = 3;
    sgm_bench_rate(&r, NULL, &median, NULL);
    assert_true(median == 4);
    assert_true(r.seconds[0] == 4); /* the order stays */
}

static void test_hits(void **state) {
    (void)state;
    int64_t count[] = {5, 0, 1, 0, /* 2 experts */ 0, 0, 9, 0, /* 1 */ 1, 1, 1, 0 /* 3 */};
    const sgm_load load[] = {
        {.experts = 4, .count = count}, {.experts = 4, .count = count + 4}, {.experts = 4, .count = count + 8}};
    sgm_model_settings settings = {.layers = 3, .experts = 4};
    sgm_bench_result r = {0};
    sgm_bench_hits(load, &settings, &r);
    assert_int_equal(r.experts_hit, 1);
    assert_true(r.experts_hit_mean == 2);
    /* attention experts, which come first in a layer, are not among them */
    const sgm_load both[] = {{.experts = 2, .count = count + 2}, load[2]};
    settings = (sgm_model_settings){.layers = 1, .experts = 4, .attention_experts = 2};
    sgm_bench_hits(both, &settings, &r);
    assert_int_equal(r.experts_hit, 3);
    assert_true(r.experts_hit_mean == 3);
}

static void test_tokens(void **state) {
    (void)state;
    int32_t a[500], b[500];
    bool seen[7] = {0};
    sgm_bench_tokens(3, 1, 7, 500, a);
    sgm_bench_tokens(3, 2, 7, 500, b);
    int same = 0;
    for (int i = 0; i < 500; i++) {
        assert_in_range(a[i], 0, 6);
        seen[a[i]] = true;
        same += a[i] == b[i];
    }
    for (int i = 0; i < 7; i++)
        assert_true(seen[i]);
    assert_in_range(same, 30, 130); /* a seventh of them by chance */
    sgm_bench_tokens(3, 1, 7, 500, b);
    assert_memory_equal(a, b, sizeof a);
}

static sgm_engine *open_engine(const char *name) {
    sgm_engine *engine;
    sgm_error error = {0};
    const sgm_engine_options options = {.threads = 2, .kernels = "ref", .batch_tokens = 16};
    const char *model = make_model(name, (const char *const[]){"model.context=40", NULL});
    if (sgm_engine_open(model, &options, &engine, &error))
        fail_msg("%s", error.message);
    return engine;
}

/* Bytes and FLOPs against the formulas written out for pico: D 64, 4 heads of 16, 2 key/value heads, F 32, E 8, V 257. */
static void test_inference(void **state) {
    (void)state;
    sgm_engine *engine = open_engine("first");
    sgm_bench_result r;
    sgm_error error;
    const sgm_bench_options options = {.repeats = 2, .seed = 1};
    assert_int_equal(sgm_bench_decode(engine, 10, 30, &options, &r, &error), SGM_OK);
    assert_int_equal(r.samples, 2);
    double layer = 64 * 64 * 2 + 64 * 32 * 2 + 2 * 16 + 2 * 64 + 8 * 64 + 3 * 64 * 32;
    assert_true(r.weight_bytes == 4 * (2 * layer + 64 + 257 * 64 + 64));
    assert_true(r.cache_bytes == 2 * 2 * 32 * 4 * 35.);
    double products = 64 * 64 * 2 + 64 * 32 * 2 + 8 * 64 + 3 * 64 * 32;
    assert_true(r.flops == 10 * 2 * (2 * products + 257 * 64 + 2 * 70 * 64.));
    assert_in_range(r.experts_hit, 1, 8);
    /* Two chunks: the head's product twice. */
    assert_int_equal(sgm_bench_prefill(engine, 32, 0, &options, &r, &error), SGM_OK);
    assert_true(r.flops == 32 * 2 * (2 * products + 2 * 32 * 64.) + 2 * 2 * 257 * 64);
    assert_true(r.weight_bytes == 0);
    assert_int_equal(sgm_bench_prefill(engine, 32, 9, &options, &r, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_bench_decode(engine, 0, 0, &options, &r, &error), SGM_EARGUMENT);
    sgm_engine_close(engine);
}

static void test_interrupted(void **state) {
    (void)state;
    sgm_engine *engine = open_engine("second");
    sgm_bench_result r;
    sgm_error error;
    const volatile int stop = 1;
    sgm_bench_options options = {.repeats = 2, .stop = &stop};
    assert_int_equal(sgm_bench_decode(engine, 4, 0, &options, &r, &error), SGM_EINTERRUPTED);
    options = (sgm_bench_options){.repeats = 0};
    assert_int_equal(sgm_bench_decode(engine, 4, 0, &options, &r, &error), SGM_EARGUMENT);
    options.repeats = SGM_BENCH_SAMPLES + 1;
    assert_int_equal(sgm_bench_decode(engine, 4, 0, &options, &r, &error), SGM_EARGUMENT);
    /* What was begun is cleaned up: all 40 positions are free again. */
    options.repeats = 1;
    assert_int_equal(sgm_bench_prefill(engine, 40, 0, &options, &r, &error), SGM_OK);
    sgm_engine_close(engine);
}

static sgm_config *pico(void) {
    sgm_config *config;
    sgm_error error;
    assert_int_equal(sgm_config_new(&config, &error), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "train.kernels", "ref", "test", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "train.threads", "1", "test", &error), SGM_OK);
    return config;
}

static void test_training(void **state) {
    (void)state;
    sgm_config *config = pico();
    sgm_bench_result r;
    sgm_error error;
    const sgm_bench_options options = {.repeats = 2, .seed = 1};
    if (sgm_bench_train(config, &options, &r, &error))
        fail_msg("%s", error.message);
    assert_true(r.samples == 2 && r.tokens == 512 && r.experts_per_token == 1);
    assert_true(r.loss > 4 && r.loss < 7); /* ln 257 = 5.5 for random tokens */
    sgm_model_settings settings;
    sgm_model_counts counts;
    assert_int_equal(sgm_model_settings_from_config(config, &settings, &error), SGM_OK);
    sgm_model_count(&settings, 1, 64, &counts);
    assert_true(r.flops == 512 * counts.training_flops_per_token);
    /* A step that goes wrong is no measurement. */
    const sgm_bench_options longer = {.repeats = 40, .seed = 1};
    assert_int_equal(sgm_config_set(config, "optimizer.learning_rate", "1000", "test", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "schedule.warmup_steps", "0", "test", &error), SGM_OK);
    assert_int_equal(sgm_bench_train(config, &longer, &r, &error), SGM_ENUMERIC);
    sgm_config_free(config);
}

static void test_product(void **state) {
    (void)state;
    sgm_bench_result r;
    sgm_error error;
    const sgm_bench_options options = {.repeats = 1, .seed = 1};
    sgm_bench_product p = {.kernels = "ref", .type = "q4_k", .threads = 2, .rows = 3, .N = 8, .K = 64};
    if (sgm_bench_product_run(&p, &options, &r, &error))
        fail_msg("%s", error.message);
    assert_string_equal(r.type, "q5_0"); /* 64 is no multiple of 256 */
    assert_string_equal(r.arithmetic, "int8");
    assert_true(r.flops == 2. * 2 * 3 * 8 * 64 && r.weight_bytes == 2. * 8 * 2 * 22);
    p.type = "bf16";
    assert_int_equal(sgm_bench_product_run(&p, &options, &r, &error), SGM_OK);
    assert_string_equal(r.arithmetic, "bf16");
    p.bf16 = true;
    assert_int_equal(sgm_bench_product_run(&p, &options, &r, &error), SGM_EARGUMENT);
    p = (sgm_bench_product){.kernels = "ref", .type = "q9", .threads = 1, .rows = 1, .N = 8, .K = 64};
    assert_int_equal(sgm_bench_product_run(&p, &options, &r, &error), SGM_EARGUMENT);
    p.type = "f32", p.rows = 0;
    assert_int_equal(sgm_bench_product_run(&p, &options, &r, &error), SGM_EARGUMENT);
    p.rows = 1 << 20, p.N = 1 << 24; /* what is multiplied counts, not the weights alone: 70 TB */
    assert_int_equal(sgm_bench_product_run(&p, &options, &r, &error), SGM_EMEMORY);
    assert_non_null(strstr(error.message, "not enough memory for a measured product"));
}

static void test_model(void **state) {
    (void)state;
    sgm_config *config = pico();
    sgm_error error;
    volatile int stop = 0;
    const sgm_bench_options options = {.repeats = 1, .seed = 1, .stop = &stop};
    char *model, *kept = getenv("TMPDIR") ? sgm_strdup(getenv("TMPDIR")) : NULL;
    setenv("TMPDIR", in_folder("tmp"), 1);
    assert_int_equal(sgm_bench_model_new(config, "f32", &options, &model, &error), SGM_EIO);
    assert_null(model);
    assert_int_equal(sgm_folder_make(in_folder("tmp"), &error), SGM_OK);
    assert_int_equal(sgm_bench_model_new(config, "f32", &options, &model, &error), SGM_OK);
    sgm_model_info info;
    assert_int_equal(sgm_model_inspect(model, &info, &error), SGM_OK);
    sgm_bench_model_remove(model);
    sgm_text_free(model);
    assert_int_equal(sgm_bench_model_new(config, "q9", &options, &model, &error), SGM_EARGUMENT);
    stop = 1;
    assert_int_equal(sgm_bench_model_new(config, "f32", &options, &model, &error), SGM_EINTERRUPTED);
    assert_int_equal(sgm_bench_model_new(config, "q8_0", &options, &model, &error), SGM_EINTERRUPTED);
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(in_folder("tmp"), &names, &count, &error), SGM_OK);
    assert_int_equal(count, 0);
    sgm_free(names);
    if (kept)
        setenv("TMPDIR", kept, 1);
    else
        unsetenv("TMPDIR");
    sgm_free(kept);
    sgm_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),      cmocka_unit_test(test_hits),        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_training),  cmocka_unit_test(test_product),     cmocka_unit_test(test_model),
        cmocka_unit_test(test_inference), cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
