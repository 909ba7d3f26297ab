// SPDX-License-Identifier: Apache-2.0
/* The schema of a run's config: presets and their sizes, registries, cross-checks, automatic values. */
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/team.h"
#include "sigmoe/sigmoe.h"
#include "train/run_config.h"

static sgm_config *preset(const char *name) {
    sgm_config *config;
    sgm_error error = {0};
    if (sgm_config_new(&config, &error) || sgm_config_preset(config, name, &error))
        fail_msg("preset %s: %s", name, error.message);
    return config;
}

/* The sizes the presets are named for: in all and at work on a token, both without embeddings and head. */
static void presets_have_their_sizes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double total, active;
    } table[] = {{"pico", 0.12e6, 0.04e6},
                 {"nano", 43e6, 1.4e6},
                 {"micro", 461e6, 13.2e6},
                 {"peer", 106e6, 8.6e6},
                 {"sigma-moe-tiny", 19.4e9, 0.54e9}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        sgm_config *config = preset(table[i].name);
        sgm_error error = {0};
        if (sgm_config_check(config, &error))
            fail_msg("%s: %s", table[i].name, error.message);
        sgm_model_settings model;
        assert_int_equal(sgm_model_settings_from_config(config, &model, NULL), SGM_OK);
        sgm_model_counts counts;
        sgm_model_count(&model, (double)model.experts_per_token, model.context, &counts);
        double total = (double)(counts.total_parameters - counts.embedding_parameters - counts.head_parameters);
        if (fabs(total / table[i].total - 1) > 0.04 ||
            fabs((double)counts.active_parameters / table[i].active - 1) > 0.05)
            fail_msg("%s: %.0f in all, %lld active", table[i].name, total, (long long)counts.active_parameters);
        sgm_config_free(config);
    }
}

/* A config's text, loaded again, says the same. */
static void presets_survive_their_text(void **state) {
    (void)state;
    for (size_t i = 0; sgm_registry_get("preset", i); i++) {
        sgm_config *config = preset(sgm_registry_get("preset", i)->name), *again;
        char *text, *second;
        assert_int_equal(sgm_config_text(config, true, &text, NULL), SGM_OK);
        assert_int_equal(sgm_config_new(&again, NULL), SGM_OK);
        sgm_error error = {0};
        if (sgm_config_parse(again, text, strlen(text), "text", &error))
            fail_msg("%s: %s", sgm_registry_get("preset", i)->name, error.message);
        sgm_text_free(text);
        assert_int_equal(sgm_config_text(config, false, &text, NULL), SGM_OK);
        assert_int_equal(sgm_config_text(again, false, &second, NULL), SGM_OK);
        assert_string_equal(text, second);
        sgm_text_free(text);
        sgm_text_free(second);
        sgm_config_free(config);
        sgm_config_free(again);
    }
}

/* Setting the key is fine or not; the check must refuse it with a message that names the culprit. */
static void refused(const char *key, const char *value, const char *named) {
    sgm_config *config = preset("pico");
    sgm_error error = {0};
    sgm_status status = sgm_config_set(config, key, value, "--set", &error);
    if (!status)
        status = sgm_config_check(config, &error);
    if (status != SGM_EARGUMENT || !strstr(error.message, named) || !error.hint[0])
        fail_msg("%s = %s: status %d, \"%s\", hint \"%s\"", key, value, (int)status, error.message, error.hint);
    sgm_config_free(config);
}

static void wrong_configs_are_refused(void **state) {
    (void)state;
    refused("model.experts_per_token", "9", "experts_per_token");
    refused("model.null_experts", "8", "null_experts");
    refused("router.kind", "hash", "balancer");
    refused("model.kv_heads", "3", "kv_heads");
    refused("model.head_size", "15", "head_size");
    refused("data.tokens_per_step", "500", "tokens_per_step");
    refused("data.micro_batch_tokens", "100", "micro_batch_tokens");
    refused("data.micro_batch_tokens", "1024", "micro_batch_tokens");
    refused("schedule.warmup_steps", "190", "warm-up");
    refused("optimizer.kind", "adamv", "adamv");
    refused("train.stepz", "1", "stepz");
    refused("train.steps", "0", "steps");
}

/* Settings that go together with others alone: "key=value" each, then what the message must name. */
static void refused_together(const char *const *settings, const char *named) {
    sgm_config *config = preset("pico");
    sgm_error error = {0};
    for (; *settings; settings++) {
        char key[64] = {0};
        const char *equals = strchr(*settings, '=');
        memcpy(key, *settings, (size_t)(equals - *settings));
        assert_int_equal(sgm_config_set(config, key, equals + 1, "--set", &error), SGM_OK);
    }
    sgm_status status = sgm_config_check(config, &error);
    if (!named ? status != SGM_OK : status != SGM_EARGUMENT || !strstr(error.message, named) || !error.hint[0])
        fail_msg("%s: status %d, \"%s\", hint \"%s\"", named ? named : "fine", (int)status, error.message, error.hint);
    sgm_config_free(config);
}

#define TOGETHER(named, ...) refused_together((const char *const[]){__VA_ARGS__, NULL}, named)

/* pico has 8 experts. In two groups of four: four null experts are a group, which every token would have to take from; three are
 * most of one, five all of one and a part of the other. */
static void null_experts_and_groups(void **state) {
    (void)state;
    TOGETHER("a whole group", "router.kind=grouped", "model.experts_per_token=2", "model.null_experts=4");
    TOGETHER("a whole group", "router.kind=grouped", "model.experts_per_token=2", "model.null_experts=5");
    TOGETHER("the last group", "router.kind=grouped", "model.experts_per_token=2", "model.null_experts=3");
    TOGETHER(NULL, "router.kind=grouped", "model.experts_per_token=2", "model.null_experts=4", "router.groups=1");
    TOGETHER(NULL, "router.kind=grouped", "model.experts_per_token=2");
    TOGETHER(NULL, "model.experts_per_token=2", "model.null_experts=4");
    TOGETHER("null_average", "balance.0.null_average=true");
    TOGETHER(NULL, "balance.0.null_average=true", "model.null_experts=4");
}

static void automatic_values_are_resolved(void **state) {
    (void)state;
    sgm_config *config = preset("nano");
    assert_int_equal(sgm_config_set(config, "data.tokens_per_step", "16384", "--set", NULL), SGM_OK);
    sgm_run_settings *settings;
    sgm_error error = {0};
    if (sgm_run_settings_new(config, &settings, &error))
        fail_msg("%s", error.message);
    assert_int_equal(settings->data.micro_batch_tokens, 8192);
    assert_true(settings->train.threads >= 1);
    assert_string_equal(sgm_config_get(settings->config, "data.micro_batch_tokens"), "8192");
    assert_string_equal(sgm_config_get(config, "data.micro_batch_tokens"), "auto");
    /* the list of 8 layers: 8, 2, then the target */
    assert_int_equal(sgm_run_settings_most_experts(settings, 0), 8);
    assert_int_equal(sgm_run_settings_most_experts(settings, 1), 2);
    assert_int_equal(sgm_run_settings_most_experts(settings, 2), 1);
    assert_int_equal(settings->balance_count, 1);
    sgm_run_settings_free(settings);
    sgm_config_free(config);
}

/* `auto` is what an affinity mask leaves, not the cores of the machine. */
static void automatic_threads_are_the_cores_left(void **state) {
    (void)state;
    cpu_set_t all, one;
    sgm_run_settings *settings;
    sgm_config *config = preset("pico");
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    size_t first = 0;
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    sgm_status status = sgm_run_settings_new(config, &settings, NULL);
    int cores = sgm_usable_cores();
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(status, SGM_OK);
    assert_int_equal(cores, 1);
    assert_int_equal(settings->train.threads, 1);
    assert_int_equal(sgm_usable_cores(), CPU_COUNT(&all));
    sgm_run_settings_free(settings);
    sgm_config_free(config);
}

/* The automatic list of the progressive schedule follows the model; the router is asked about every number of experts that
 * the schedule comes to, not about the target alone. */
static void schedules_fit_model_and_router(void **state) {
    (void)state;
    sgm_config *config = preset("nano");
    assert_int_equal(sgm_config_set(config, "model.experts", "4", "--set", NULL), SGM_OK);
    assert_int_equal(sgm_config_set(config, "train.steps", "1000000000000", "--set", NULL), SGM_OK);
    sgm_run_settings *settings = NULL;
    sgm_error error = {0};
    if (sgm_run_settings_new(config, &settings, &error))
        fail_msg("%s", error.message);
    assert_int_equal(sgm_run_settings_most_experts(settings, 0), 4);
    sgm_run_settings_free(settings);
    assert_int_equal(sgm_config_set(config, "model.experts_per_token", "2", "--set", NULL), SGM_OK);
    assert_int_equal(sgm_config_set(config, "router.normalise", "true", "--set", NULL), SGM_OK);
    assert_int_equal(sgm_run_settings_new(config, &settings, &error), SGM_OK);
    sgm_run_settings_free(settings);
    assert_int_equal(sgm_config_set(config, "sparsity.layers", "4,1", "--set", NULL), SGM_OK);
    assert_int_equal(sgm_run_settings_new(config, &settings, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "router.normalise"));
    sgm_config_free(config);
}

static void registries_are_complete(void **state) {
    (void)state;
    static const char *const names[] = {"router", "balance", "sparsity", "optimizer", "schedule", "placement",
                                        "cache",  "op",      "kernel",   "type",      "preset"};
    for (size_t i = 0; i < 11; i++)
        assert_string_equal(sgm_registry_name(i), names[i]);
    assert_null(sgm_registry_name(11));
    assert_null(sgm_registry_get("nothing", 0));
    for (size_t i = 0; i < 11; i++) {
        size_t count = 0;
        for (const sgm_plugin *plugin; (plugin = sgm_registry_get(names[i], count)); count++) {
            assert_true(plugin->name[0] && plugin->summary[0]);
            assert_ptr_equal(sgm_registry_find(names[i], plugin->name, NULL), plugin);
            for (size_t p = 0; p < plugin->param_count; p++)
                assert_true(plugin->params[p].offset < plugin->settings_bytes && plugin->params[p].help[0]);
        }
        assert_true(count > 0);
    }
    sgm_error error;
    assert_null(sgm_registry_find("balance", "load_balance_los", &error));
    assert_non_null(strstr(error.hint, "load_balance_loss"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_have_their_sizes),      cmocka_unit_test(presets_survive_their_text),
        cmocka_unit_test(wrong_configs_are_refused),     cmocka_unit_test(null_experts_and_groups),
        cmocka_unit_test(automatic_values_are_resolved), cmocka_unit_test(schedules_fit_model_and_router),
        cmocka_unit_test(registries_are_complete),       cmocka_unit_test(automatic_threads_are_the_cores_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
