// SPDX-License-Identifier: Apache-2.0
/* Sparsity schedules: experts per token by layer and step. */
#include "moe/sparsity/sparsity.h"
#include "routing_helper.h"

static sgm_sparsity make(const char *name) {
    const sgm_sparsity_plugin *plugin = sgm_sparsity_find(name, NULL);
    assert_non_null(plugin);
    return (sgm_sparsity){plugin, settings_new(&plugin->plugin)};
}

static void check_layers(const sgm_sparsity *s, int64_t layers, int64_t step, int64_t steps, const int64_t *expected,
                         int64_t count) {
    for (int64_t layer = 0; layer < layers; layer++)
        assert_int_equal(s->plugin->experts_per_token(s->settings, layer, layers, 96, 1, step, steps),
                         layer < count ? expected[layer] : 1);
}

/* The list of the paper for 56 layers; spread over the first ceil(L / 7) for others. */
static void automatic(void **state) {
    (void)state;
    sgm_sparsity s = make("progressive");
    check_layers(&s, 56, 0, 100, (int64_t[]){8, 8, 6, 6, 4, 4, 2, 2}, 8);
    check_layers(&s, 8, 0, 100, (int64_t[]){8, 2}, 2);
    check_layers(&s, 28, 0, 100, (int64_t[]){8, 6, 4, 2}, 4);
    check_layers(&s, 12, 0, 100, (int64_t[]){8, 2}, 2);
    check_layers(&s, 7, 0, 100, (int64_t[]){8}, 1);
    check_layers(&s, 2, 0, 100, (int64_t[]){8}, 1);
    sgm_free(s.settings);
}

static void switch_point(void **state) {
    (void)state;
    sgm_sparsity s = make("progressive");
    const int64_t early[] = {8, 2};
    for (int64_t steps = 1; steps <= 1000; steps *= 10)
        for (int64_t step = 0; step < steps; step++)
            check_layers(&s, 8, step, steps, early, 10 * step < 9 * steps ? 2 : 0);
    set_real(&s.plugin->plugin, s.settings, "switch", 0);
    check_layers(&s, 8, 0, 10, early, 0);
    set_real(&s.plugin->plugin, s.settings, "switch", 1);
    check_layers(&s, 8, 9, 10, early, 2);
    sgm_free(s.settings);
}

static void own_list(void **state) {
    (void)state;
    sgm_sparsity s = make("progressive");
    const int64_t items[] = {4, 3, 2};
    sgm_int_list *list = settings_field(&s.plugin->plugin, s.settings, "layers");
    *list = (sgm_int_list){items, 3};
    check_layers(&s, 8, 5, 10, items, 3);
    sgm_error error;
    assert_int_equal(s.plugin->check(s.settings, 8, 96, 1, &error), SGM_OK);
    assert_int_equal(s.plugin->check(s.settings, 2, 96, 1, &error), SGM_EARGUMENT); /* longer than the model */
    assert_int_equal(s.plugin->check(s.settings, 8, 3, 1, &error), SGM_EARGUMENT);  /* 4 of 3 experts */
    assert_non_null(strstr(error.message, "layer 0"));
    *list = (sgm_int_list){NULL, 0};
    assert_int_equal(s.plugin->check(s.settings, 8, 8, 1, &error), SGM_OK);
    sgm_free(s.settings);
}

/* The automatic list fits any model: no more than its experts, no less than its target. */
static void automatic_fits(void **state) {
    (void)state;
    sgm_sparsity s = make("progressive");
    const int64_t cases[][4] = {/* experts, target, first layer, second layer of 8 */
                                {96, 1, 8, 2}, {4, 1, 4, 2}, {1, 1, 1, 1},
                                {96, 4, 8, 4}, {6, 6, 6, 6}, {96, 12, 12, 12}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t *c = cases[i];
        assert_int_equal(s.plugin->check(s.settings, 8, c[0], c[1], NULL), SGM_OK);
        for (int64_t layer = 0; layer < 8; layer++)
            assert_int_equal(s.plugin->experts_per_token(s.settings, layer, 8, c[0], c[1], 0, 100),
                             layer < 2 ? c[2 + layer] : c[1]);
    }
    sgm_free(s.settings);
}

static void constant(void **state) {
    (void)state;
    sgm_sparsity s = make("constant");
    for (int64_t step = 0; step < 10; step++)
        assert_int_equal(s.plugin->experts_per_token(s.settings, step % 3, 3, 9, 5, step, 10), 5);
    assert_int_equal(s.plugin->check(s.settings, 3, 4, 5, NULL), SGM_EARGUMENT);
    sgm_free(s.settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(automatic),      cmocka_unit_test(switch_point), cmocka_unit_test(own_list),
        cmocka_unit_test(automatic_fits), cmocka_unit_test(constant),
    };
    return cmocka_run_group_tests_name("sparsity", tests, NULL, NULL);
}
