// SPDX-License-Identifier: Apache-2.0
/* Routers: the choice, its ties and NaNs, the weights, and the gradient against differences. */
#include <math.h>

#include "routing_helper.h"

enum { SOFTMAX, SIGMOID };

static void close_to(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9g, expected %.9g ± %g", value, expected, tolerance);
}

static sgm_router make(int score, bool normalise) {
    sgm_router router = router_new("top_k");
    set_int(&router.plugin->plugin, router.settings, "score", score);
    set_bool(&router.plugin->plugin, router.settings, "normalise", normalise);
    return router;
}

static void fill(sgm_routing *r, const double *logits) {
    for (int64_t i = 0; i < r->items * r->experts; i++)
        r->logits[i] = (sgm_real)logits[i];
}

/* logits ln 1, ln 2, ln 5: softmax 1/8, 2/8, 5/8. */
static void by_hand(void **state) {
    (void)state;
    const double logits[] = {0, 0.69314718056, 1.60943791243};
    sgm_routing r = record_new(1, 3, 2);
    fill(&r, logits);
    sgm_router raw = make(SOFTMAX, false), normalised = make(SOFTMAX, true), sigmoid = make(SIGMOID, true);
    route(&raw, &r);
    assert_int_equal(r.expert[0], 2);
    assert_int_equal(r.expert[1], 1);
    close_to((double)r.weight[0], 0.625, 1e-6);
    close_to((double)r.weight[1], 0.25, 1e-6);
    route(&normalised, &r);
    close_to((double)r.weight[0], 5.0 / 7, 1e-6);
    close_to((double)r.weight[1], 2.0 / 7, 1e-6);
    route(&sigmoid, &r); /* 5/6 and 2/3 */
    close_to((double)r.probabilities[0], 0.5, 1e-6);
    close_to((double)r.weight[0], 5.0 / 9, 1e-6);
    close_to((double)r.weight[1], 4.0 / 9, 1e-6);
    record_free(&r);
    sgm_free(raw.settings);
    sgm_free(normalised.settings);
    sgm_free(sigmoid.settings);
}

/* A bias decides who is chosen; the weight is the probability without it. */
static void selection_bias(void **state) {
    (void)state;
    const double logits[] = {0, 0.69314718056, 1.60943791243};
    const sgm_real bias[] = {(sgm_real)0.6, 0, 0};
    for (int64_t K = 1; K <= 2; K++) {
        sgm_routing r = record_new(1, 3, K);
        sgm_router raw = make(SOFTMAX, false);
        fill(&r, logits);
        r.selection_bias = bias;
        route(&raw, &r);
        assert_int_equal(r.expert[0], 0); /* 0.125 + 0.6 beats 0.625 */
        close_to((double)r.weight[0], 0.125, 1e-6);
        if (K == 2)
            assert_int_equal(r.expert[1], 2);
        record_free(&r);
        sgm_free(raw.settings);
    }
}

static void ties_and_nan(void **state) {
    (void)state;
    enum { E = 6 };
    /* `select` alone, so that single scores can be NaN. */
    const sgm_real nan = (sgm_real)NAN;
    const sgm_real rows[][E] = {
        {1, 3, 3, 3, 2, 1}, {nan, 1, nan, 2, 1, 0}, {nan, nan, nan, nan, nan, nan}, {0, nan, 0, 0, nan, 5}};
    const int32_t expected[][E] = {{1, 2, 3, 4, 0, 5}, {3, 1, 4, 5, 0, 2}, {0, 1, 2, 3, 4, 5}, {5, 0, 2, 3, 1, 4}};
    sgm_router raw = make(SOFTMAX, false);
    for (int64_t K = 1; K <= E; K++)
        for (size_t i = 0; i < 4; i++) {
            sgm_routing r = record_new(1, E, K);
            memcpy(r.probabilities, rows[i], sizeof rows[i]);
            raw.plugin->select(raw.settings, &r, 0, 1);
            assert_memory_equal(r.expert, expected[i], (size_t)K * sizeof(int32_t));
            record_free(&r);
        }
    sgm_free(raw.settings);
}

/* A NaN logit spoils its item's weights, so that a loss shows it. */
static void nan_is_not_hidden(void **state) {
    (void)state;
    for (int score = SOFTMAX; score <= SIGMOID; score++) {
        sgm_router router = make(score, false);
        sgm_routing r = record_new(2, 5, 2);
        random_logits(&r, 1, 1);
        r.logits[3] = (sgm_real)NAN;
        route(&router, &r);
        assert_true(isnan(r.weight[0]) && isnan(r.weight[1]));
        assert_false(isnan(r.weight[2]) || isnan(r.weight[3]));
        record_free(&r);
        sgm_free(router.settings);
    }
}

/* loss = Σ u · weight for fixed u. */
static double loss(const sgm_router *router, sgm_routing *r) {
    double sum = 0;
    route(router, r);
    for (int64_t i = 0; i < r->items * r->slots; i++)
        sum += (double)r->weight[i] * (double)r->d_weight[i];
    return sum;
}

/* In f32 with a wide step: enough to tell a wrong formula; the f64 build has the sharp check. */
static void gradient(void **state) {
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        sgm_router router = make(variant % 2, variant / 2);
        sgm_routing r = record_new(3, 7, 3);
        random_logits(&r, 11, 2);
        for (int64_t i = 0; i < 9; i++)
            r.d_weight[i] = (sgm_real)sgm_rng_normal_at(2, 3, (uint64_t)i);
        route(&router, &r);
        router.plugin->backward(router.settings, &r, 0, 3);
        for (int64_t i = 0; i < 21; i++) {
            const double step = 4e-3;
            sgm_real z = r.logits[i];
            r.logits[i] = (sgm_real)((double)z + step);
            double up = loss(&router, &r);
            r.logits[i] = (sgm_real)((double)z - step);
            double down = loss(&router, &r);
            r.logits[i] = z;
            close_to((double)r.d_logits[i], (up - down) / (2 * step), 3e-4);
        }
        record_free(&r);
        sgm_free(router.settings);
    }
}

static void check(void **state) {
    (void)state;
    sgm_router raw = make(SOFTMAX, false), normalised = make(SOFTMAX, true);
    sgm_error error;
    assert_int_equal(raw.plugin->check(raw.settings, 96, 1, &error), SGM_OK);
    assert_int_equal(raw.plugin->check(raw.settings, 4, 5, &error), SGM_EARGUMENT);
    assert_int_equal(raw.plugin->check(raw.settings, 4, 0, &error), SGM_EARGUMENT);
    assert_int_equal(normalised.plugin->trains(normalised.settings, 1, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "normalise"));
    assert_int_equal(normalised.plugin->trains(normalised.settings, 2, &error), SGM_OK);
    assert_int_equal(raw.plugin->trains(raw.settings, 1, &error), SGM_OK);
    /* Only training needs the gradient: such a model may be run. */
    assert_int_equal(normalised.plugin->check(normalised.settings, 4, 1, &error), SGM_OK);
    sgm_free(raw.settings);
    sgm_free(normalised.settings);
}

static void unknown_name(void **state) {
    (void)state;
    sgm_error error = {0};
    assert_null(sgm_router_find("top_kk", &error));
    assert_int_equal(error.code, SGM_ENOTFOUND);
    assert_non_null(strstr(error.hint, "top_k"));
    assert_null(sgm_balance_find("something else entirely", &error));
    assert_non_null(strstr(error.hint, "load_balance_loss, top1_loss"));
    assert_null(sgm_router_at(1000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),           cmocka_unit_test(selection_bias), cmocka_unit_test(ties_and_nan),
        cmocka_unit_test(nan_is_not_hidden), cmocka_unit_test(gradient),       cmocka_unit_test(check),
        cmocka_unit_test(unknown_name),
    };
    return cmocka_run_group_tests_name("routers", tests, NULL, NULL);
}
