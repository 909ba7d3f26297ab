// SPDX-License-Identifier: Apache-2.0
/* Sampling: the kept set is the one found by sorting, shares follow the softmax, and wrong options are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "sigmoe/session.h"

enum { N = 60 };

static int32_t sample(const float *logits, int64_t n, sgm_sampler_options options, uint64_t draw) {
    int32_t token = -1;
    sgm_error error = {0};
    if (sgm_sample(logits, n, &options, draw, &token, &error))
        fail_msg("%s", error.message);
    return token;
}

static void greedy_takes_the_lowest_of_the_best(void **state) {
    (void)state;
    const float logits[5] = {-1, 3, 2, 3, -INFINITY};
    assert_int_equal(sample(logits, 5, (sgm_sampler_options){.temperature = 0, .top_p = 1}, 0), 1);
    assert_int_equal(sample(logits, 5, (sgm_sampler_options){.temperature = 2, .top_k = 1, .top_p = 1}, 5), 1);
    /* A tiny share and a cold temperature come to the same. */
    assert_int_equal(sample(logits, 5, (sgm_sampler_options){.temperature = 1, .top_p = 1e-9}, 5), 1);
    const float apart[3] = {1, 1.5f, 0};
    assert_int_equal(sample(apart, 3, (sgm_sampler_options){.temperature = 1e-300, .top_p = 1}, 5), 1);
}

/* Frequencies of 20,000 draws against probabilities: five standard deviations. */
static void shares_follow_the_softmax(void **state) {
    (void)state;
    const float logits[4] = {0, 0.69314718f, 1.38629436f, -INFINITY}; /* weights 1, 2, 4, 0 */
    static const struct {
        sgm_sampler_options options;
        double p[4];
    } cases[] = {
        {{.temperature = 1, .top_p = 1, .seed = 1}, {1 / 7.0, 2 / 7.0, 4 / 7.0, 0}},
        {{.temperature = 0.5, .top_p = 1, .seed = 2}, {1 / 21.0, 4 / 21.0, 16 / 21.0, 0}},
        {{.temperature = 1, .top_k = 2, .top_p = 1, .seed = 3}, {0, 2 / 6.0, 4 / 6.0, 0}},
        {{.temperature = 1, .top_p = 0.6, .seed = 4}, {0, 2 / 6.0, 4 / 6.0, 0}},
        {{.temperature = 1, .top_p = 0.55, .seed = 5}, {0, 0, 1, 0}},
        {{.temperature = 1, .top_p = 0.9, .seed = 6}, {1 / 7.0, 2 / 7.0, 4 / 7.0, 0}},
        /* top-p acts on what top-k left: of 2/6 and 4/6, 0.6 is reached by the first. */
        {{.temperature = 1, .top_k = 2, .top_p = 0.6, .seed = 7}, {0, 0, 1, 0}},
    };
    enum { DRAWS = 20000 };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int count[4] = {0};
        for (uint64_t d = 0; d < DRAWS; d++)
            count[sample(logits, 4, cases[c].options, d)]++;
        for (int i = 0; i < 4; i++) {
            double p = cases[c].p[i], sigma = sqrt(DRAWS * p * (1 - p));
            if (fabs(count[i] - DRAWS * p) > 5 * sigma + 1e-9)
                fail_msg("case %zu, token %d: %d draws, %.1f expected", c, i, count[i], DRAWS * p);
        }
    }
}

static const float *sorted_logits;

static int by_logit(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorted_logits[x] != sorted_logits[y])
        return sorted_logits[x] > sorted_logits[y] ? -1 : 1;
    return x - y;
}

/* With every seed, the set of tokens ever drawn is exactly the one that sorting keeps. Logits are coarse, so many tie. */
static void the_kept_set_is_that_of_sorting(void **state) {
    (void)state;
    sgm_rng rng = sgm_rng_at(11, 0, 0);
    for (int trial = 0; trial < 30; trial++) {
        float logits[N];
        int32_t order[N];
        for (int i = 0; i < N; i++) {
            logits[i] = (float)((double)sgm_rng_below(&rng, 9) - 4) * 0.25f;
            order[i] = i;
        }
        sorted_logits = logits;
        qsort(order, N, sizeof *order, by_logit);
        int64_t k = trial % 3 == 0 ? 0 : 1 + (int64_t)sgm_rng_below(&rng, 2 * N);
        double p = trial % 3 == 1 ? 1 : 0.05 + 0.9 * sgm_rng_uniform(&rng), mass = 0, kept_mass = 0;
        int most = k && k < N ? (int)k : N, kept = 0;
        for (int i = 0; i < most; i++)
            mass += exp((double)logits[order[i]]);
        while (kept < most && (p == 1 || kept == 0 || kept_mass < p * mass))
            kept_mass += exp((double)logits[order[kept++]]);
        bool expected[N] = {false}, drawn[N] = {false};
        for (int i = 0; i < kept; i++)
            expected[order[i]] = true;
        for (uint64_t d = 0; d < 4000; d++)
            drawn[sample(logits, N, (sgm_sampler_options){.temperature = 1, .top_k = k, .top_p = p, .seed = 5}, d)] =
                true;
        for (int i = 0; i < N; i++)
            if (drawn[i] != expected[i])
                fail_msg("trial %d, k %d, p %g: token %d", trial, (int)k, p, i);
    }
}

static void is_a_pure_function(void **state) {
    (void)state;
    float logits[N];
    for (int i = 0; i < N; i++)
        logits[i] = (float)(i % 7);
    sgm_sampler_options options = {.temperature = 1, .top_p = 1, .seed = 9};
    int same_seed = 0, same_draw = 0;
    for (uint64_t d = 0; d < 200; d++) {
        int32_t token = sample(logits, N, options, d);
        assert_int_equal(token, sample(logits, N, options, d));
        same_draw += token == sample(logits, N, options, d + 1);
        options.seed = 10;
        same_seed += token == sample(logits, N, options, d);
        options.seed = 9;
    }
    assert_true(same_seed < 60 && same_draw < 60);
}

static void refuses_nonsense(void **state) {
    (void)state;
    const float fine[2] = {0, 1}, nan_one[2] = {0, NAN}, infinite[2] = {INFINITY, 0}, none[2] = {-INFINITY, -INFINITY};
    const struct {
        const float *logits;
        int64_t n;
        sgm_sampler_options options;
        sgm_status status;
    } cases[] = {
        {fine, 2, {.temperature = -1, .top_p = 1}, SGM_EARGUMENT},
        {fine, 2, {.temperature = NAN, .top_p = 1}, SGM_EARGUMENT},
        {fine, 2, {.temperature = 1, .top_p = 0}, SGM_EARGUMENT},
        {fine, 2, {.temperature = 1, .top_p = 1.5}, SGM_EARGUMENT},
        {fine, 2, {.temperature = 1, .top_p = 1, .top_k = -1}, SGM_EARGUMENT},
        {nan_one, 2, {.temperature = 0, .top_p = 1}, SGM_ENUMERIC},
        {infinite, 2, {.temperature = 1, .top_p = 1}, SGM_ENUMERIC},
        {none, 2, {.temperature = 1, .top_p = 1}, SGM_ENUMERIC},
        {fine, 0, {.temperature = 1, .top_p = 1}, SGM_ENUMERIC},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t token;
        assert_int_equal(sgm_sample(cases[i].logits, cases[i].n, &cases[i].options, 0, &token, NULL), cases[i].status);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_of_the_best),
        cmocka_unit_test(shares_follow_the_softmax),
        cmocka_unit_test(the_kept_set_is_that_of_sorting),
        cmocka_unit_test(is_a_pure_function),
        cmocka_unit_test(refuses_nonsense),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
