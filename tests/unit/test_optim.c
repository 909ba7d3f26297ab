// SPDX-License-Identifier: Apache-2.0
/* AdamW against numbers worked by hand, schedules against their closed forms. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/param.h"
#include "optim/optimizer.h"
#include "schedule/schedule.h"

static void *defaults(const sgm_plugin *plugin) {
    void *settings = calloc(1, plugin->settings_bytes);
    assert_non_null(settings);
    assert_int_equal(sgm_param_defaults(plugin->params, plugin->param_count, settings, NULL), SGM_OK);
    return settings;
}

/* w = 1, lr = 0.1, β = (0.9, 0.95), λ = 0.1. Gradients 0.5 and then -0.25:
 * step 1: m̂ = 0.5, v̂ = 0.25, so the move is 0.1 · (0.5/0.5 + 0.1·1) = 0.11 and w = 0.89
 * step 2: m = 0.9·0.05 − 0.025 = 0.02, m̂ = 0.02/0.19 = 0.105263158;
 *         v = 0.95·0.0125 + 0.05·0.0625 = 0.015, v̂ = 0.015/0.0975 = 0.153846154, root 0.392232270;
 *         w = 0.89 − 0.1·(0.268369451 + 0.089) = 0.854263055 */
static void adamw_matches_hand_worked_steps(void **state) {
    (void)state;
    const sgm_optimizer_plugin *adamw = sgm_optimizer_find("adamw", NULL);
    assert_non_null(adamw);
    assert_int_equal(adamw->moments, 2);
    void *settings = defaults(&adamw->plugin);
    for (size_t table = 0; sgm_kernels_at(table); table++) {
        const sgm_kernels *kernels = sgm_kernels_at(table);
        if (!kernels->usable())
            continue;
        enum { N = 37 }; /* no multiple of any vector */
        sgm_real weight[N], gradient[N], moments[2 * N] = {0};
        for (int i = 0; i < N; i++)
            weight[i] = 1;
        const double gradients[] = {0.5, -0.25}, expected[] = {0.89, 0.854263055};
        for (int step = 0; step < 2; step++) {
            for (int i = 0; i < N; i++)
                gradient[i] = (sgm_real)gradients[step] * 4;
            sgm_optimizer_step now = {settings, kernels, 0.1, 0.25, step + 1};
            adamw->update(&now, N, true, gradient, weight, moments, N);
            for (int i = 0; i < N; i++)
                assert_true(fabs((double)weight[i] - expected[step]) < 1e-6);
        }
        assert_true(fabs((double)moments[N - 1] - 0.02) < 1e-7);
        assert_true(fabs((double)moments[2 * N - 1] - 0.015) < 1e-7);
    }
    free(settings);
}

/* Without decay and with a zero gradient a weight stays; with decay it shrinks by lr·λ. */
static void decay_applies_only_where_asked(void **state) {
    (void)state;
    const sgm_optimizer_plugin *adamw = sgm_optimizer_find("adamw", NULL);
    void *settings = defaults(&adamw->plugin);
    const sgm_kernels *kernels;
    assert_int_equal(sgm_kernels_get("ref", &kernels, NULL), SGM_OK);
    sgm_real weight[2] = {2, 2}, gradient[2] = {0, 0}, moments[4] = {0};
    sgm_optimizer_step step = {settings, kernels, 0.5, 1, 1};
    adamw->update(&step, 1, false, gradient, weight, moments, 2);
    adamw->update(&step, 1, true, gradient + 1, weight + 1, moments + 1, 2);
    assert_true(weight[0] == 2);
    assert_true(fabs((double)weight[1] - 1.9) < 1e-6);
    free(settings);
}

static void set_text(const sgm_plugin *plugin, void *settings, const char *name, double value) {
    for (size_t i = 0; i < plugin->param_count; i++) {
        if (strcmp(plugin->params[i].name, name) != 0)
            continue;
        char *at = (char *)settings + plugin->params[i].offset;
        if (plugin->params[i].type == SGM_PARAM_INT)
            memcpy(at, &(int64_t){(int64_t)value}, sizeof(int64_t));
        else if (plugin->params[i].type == SGM_PARAM_REAL)
            memcpy(at, &value, sizeof value);
        else
            memcpy(at, &(int){(int)value}, sizeof(int));
        return;
    }
    fail_msg("no parameter %s", name);
}

static void near(double value, double expected) {
    if (fabs(value - expected) > 1e-12)
        fail_msg("%.17g is not %.17g", value, expected);
}

/* 100 steps, 10 of warm-up, 20 of decay. */
static void wsd_has_its_closed_form(void **state) {
    (void)state;
    const sgm_schedule_plugin *wsd = sgm_schedule_find("wsd", NULL);
    void *settings = defaults(&wsd->plugin);
    set_text(&wsd->plugin, settings, "warmup_steps", 10);
    set_text(&wsd->plugin, settings, "decay_shape", 0); /* linear */
    assert_int_equal(wsd->check(settings, 100, NULL), SGM_OK);
    near(wsd->factor(settings, 0, 100), 0.1);
    near(wsd->factor(settings, 9, 100), 1);
    near(wsd->factor(settings, 79, 100), 1);
    near(wsd->factor(settings, 80, 100), 20.0 / 21);
    near(wsd->factor(settings, 99, 100), 1.0 / 21);
    set_text(&wsd->plugin, settings, "final_share", 0.1);
    near(wsd->factor(settings, 99, 100), 0.1 + 0.9 / 21);
    set_text(&wsd->plugin, settings, "final_share", 0);
    set_text(&wsd->plugin, settings, "decay_shape", 1); /* 1 − sqrt */
    near(wsd->factor(settings, 82, 100), 1 - 0.377964473009227227);
    set_text(&wsd->plugin, settings, "decay_shape", 2); /* cosine: x = 1/3 */
    near(wsd->factor(settings, 86, 100), 0.75);
    /* 0.07 · 100 is a little more than 7 in binary: still 7 steps, which leave room for 93 */
    set_text(&wsd->plugin, settings, "decay_share", 0.07);
    set_text(&wsd->plugin, settings, "warmup_steps", 93);
    assert_int_equal(wsd->check(settings, 100, NULL), SGM_OK);
    near(wsd->factor(settings, 92, 100), 1);
    set_text(&wsd->plugin, settings, "decay_share", 0.2);
    set_text(&wsd->plugin, settings, "warmup_steps", 81);
    assert_int_equal(wsd->check(settings, 100, NULL), SGM_EARGUMENT);
    free(settings);
}

static void cosine_and_constant_have_their_closed_forms(void **state) {
    (void)state;
    const sgm_schedule_plugin *cosine = sgm_schedule_find("cosine", NULL);
    void *settings = defaults(&cosine->plugin);
    set_text(&cosine->plugin, settings, "warmup_steps", 20);
    near(cosine->factor(settings, 4, 100), 0.25);
    near(cosine->factor(settings, 20, 100), 1);
    near(cosine->factor(settings, 60, 100), 0.55); /* half way between 1 and 0.1 */
    near(cosine->factor(settings, 40, 100), 0.1 + 0.9 * 0.5 * (1 + 0.707106781186547524));
    free(settings);
    const sgm_schedule_plugin *constant = sgm_schedule_find("constant", NULL);
    settings = defaults(&constant->plugin);
    near(constant->factor(settings, 0, 100), 0.2); /* auto: a twentieth */
    near(constant->factor(settings, 5, 100), 1);
    near(constant->factor(settings, 99, 100), 1);
    set_text(&constant->plugin, settings, "warmup_steps", 101);
    assert_int_equal(constant->check(settings, 100, NULL), SGM_EARGUMENT);
    free(settings);
}

/* Whatever the length of the run: finite, in (0, 1], and checked settings never fail. */
static void schedules_stay_in_range(void **state) {
    (void)state;
    for (size_t i = 0; sgm_schedule_at(i); i++) {
        const sgm_schedule_plugin *schedule = sgm_schedule_at(i);
        void *settings = defaults(&schedule->plugin);
        for (int64_t steps = 1; steps < 200; steps++) {
            assert_int_equal(schedule->check(settings, steps, NULL), SGM_OK);
            for (int64_t step = 0; step < steps; step++) {
                double factor = schedule->factor(settings, step, steps);
                assert_true(factor > 0 && factor <= 1);
            }
        }
        free(settings);
    }
}

static void unknown_names_get_the_nearest(void **state) {
    (void)state;
    sgm_error error;
    assert_null(sgm_optimizer_find("adamv", &error));
    assert_int_equal(error.code, SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "adamw"));
    assert_null(sgm_schedule_find("cosin", &error));
    assert_non_null(strstr(error.hint, "cosine"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_matches_hand_worked_steps),
        cmocka_unit_test(decay_applies_only_where_asked),
        cmocka_unit_test(wsd_has_its_closed_form),
        cmocka_unit_test(cosine_and_constant_have_their_closed_forms),
        cmocka_unit_test(schedules_stay_in_range),
        cmocka_unit_test(unknown_names_get_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
