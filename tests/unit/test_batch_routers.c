// SPDX-License-Identifier: Apache-2.0
/* Routers that choose for all tokens of a micro-batch together: capacity, expert choice, Sinkhorn. */
#include <math.h>

#include "moe/router/capacity.h"
#include "moe/router/choose.h"
#include "routing_helper.h"

static void close_to(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9g, expected %.9g ± %g", value, expected, tolerance);
}

static void expect_flags(const sgm_routing *r, const uint8_t *flags) {
    assert_memory_equal(r->flags, flags, (size_t)(r->items * r->slots));
}

/* ---- ranking ---- */

/* The best of any order of offers are the same. */
static void ranking(void **state) {
    (void)state;
    enum { COUNT = 200, MOST = 23 };
    sgm_real key[COUNT];
    for (int i = 0; i < COUNT; i++)
        key[i] = (sgm_real)(i * 37 % 50); /* each four times */
    for (int order = 0; order < 3; order++) {
        sgm_ranked heap[MOST];
        int64_t count = 0;
        for (int i = 0; i < COUNT; i++) {
            int at = order == 0 ? i : order == 1 ? COUNT - 1 - i : i * 77 % COUNT;
            count = sgm_rank_offer(heap, count, MOST, (sgm_ranked){key[at], at});
        }
        assert_int_equal(count, MOST);
        /* 49 … 45 four times each make 20; of 44 the three with the lowest indices. */
        int of_44 = 0;
        int32_t lowest[3] = {COUNT, COUNT, COUNT}, found = 0;
        for (int32_t i = 0; i < COUNT && found < 3; i++)
            if (key[i] == 44)
                lowest[found++] = i;
        for (int i = 0; i < MOST; i++) {
            assert_true(heap[i].key >= 44);
            for (int j = 0; j < i; j++)
                assert_true(heap[i].index != heap[j].index);
            if (heap[i].key == 44) {
                of_44++;
                assert_true(heap[i].index == lowest[0] || heap[i].index == lowest[1] || heap[i].index == lowest[2]);
            }
        }
        assert_int_equal(of_44, 3);
    }
    assert_int_equal(sgm_rank_offer(NULL, 0, 0, (sgm_ranked){1, 1}), 0);
}

/* ---- capacity ---- */

static sgm_router with_capacity(double factor, int order) {
    sgm_router router = router_new("top_k");
    set_real(&router.plugin->plugin, router.settings, "capacity_factor", factor);
    set_int(&router.plugin->plugin, router.settings, "drop_order", order);
    return router;
}

/* ceil(factor K T / E); 1.1 · 10 is 11 although its nearest double is a little more. Never more than all items. */
static void capacity_numbers(void **state) {
    (void)state;
    assert_int_equal(sgm_capacity(1, 8, 4, 1), 2);
    assert_int_equal(sgm_capacity(1.25, 8, 4, 1), 3);
    assert_int_equal(sgm_capacity(1, 9, 4, 1), 3);
    assert_int_equal(sgm_capacity(1.1, 100, 10, 1), 11);
    assert_int_equal(sgm_capacity(2, 64, 8, 2), 32);
    assert_int_equal(sgm_capacity(0.01, 8, 4, 1), 1);
    assert_int_equal(sgm_capacity(100, 8, 4, 1), 8);
}

/* Four tokens, two experts, all want expert 0, by 0.6, 0.9, 0.7, 0.8. It takes two at factor 1: the first two, or those of 0.9
 * and 0.8; three at 1.5. Without a factor, and in inference, nothing is dropped. */
static void capacity_by_hand(void **state) {
    (void)state;
    const double p[] = {0.6, 0.4, 0.9, 0.1, 0.7, 0.3, 0.8, 0.2};
    const uint8_t D = SGM_ROUTE_DROPPED;
    const uint8_t early[] = {0, 0, D, D}, best[] = {D, 0, D, 0}, three[] = {0, 0, 0, D}, best_three[] = {D, 0, 0, 0};
    const struct {
        double factor;
        int order;
        const uint8_t *flags;
    } table[] = {{1, 0, early}, {1, 1, best}, {1.5, 0, three}, {1.5, 1, best_three}};
    for (int i = 0; i < 4; i++) {
        sgm_routing r = record_new(4, 2, 1);
        sgm_router router = with_capacity(table[i].factor, table[i].order);
        set_probabilities(&r, p);
        choose_together(&router, &r);
        expect_flags(&r, table[i].flags);
        for (int t = 0; t < 4; t++) {
            assert_int_equal(r.expert[t], 0); /* what was chosen stays in the record, for the load */
            close_to((double)r.weight[t], p[2 * t], 1e-7);
        }
        assert_int_equal(r.assignments, i < 2 ? 2 : 3);
        sgm_router_choose_alone(&router, &r);
        assert_int_equal(r.assignments, 4);
        record_free(&r);
        sgm_free(router.settings);
    }
    sgm_router unlimited = router_new("top_k");
    assert_false(sgm_router_sees_batch(&unlimited));
    sgm_free(unlimited.settings);
}

/* Two tokens, two experts each, capacity 1: all first choices come before all second ones, also of earlier tokens. */
static void first_choices_first(void **state) {
    (void)state;
    const double p[] = {0.6, 0.4, 0.4, 0.6};
    const uint8_t D = SGM_ROUTE_DROPPED, flags[] = {0, D, 0, D};
    sgm_routing r = record_new(2, 2, 2);
    sgm_router router = with_capacity(0.5, 0);
    set_probabilities(&r, p);
    choose_together(&router, &r);
    const int32_t expert[] = {0, 1, 1, 0};
    assert_memory_equal(r.expert, expert, sizeof expert);
    expect_flags(&r, flags);
    record_free(&r);
    sgm_free(router.settings);
}

/* Neither a NaN nor a null expert is dropped, nor do they take a place. */
static void never_dropped(void **state) {
    (void)state;
    const double n = (double)NAN;
    const double p[] = {n, n, n, n, n, n, 0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.1, 0.1, 0.8, 0.1, 0.2, 0.7};
    const uint8_t D = SGM_ROUTE_DROPPED, N = SGM_ROUTE_NULL;
    for (int order = 0; order < 2; order++) {
        sgm_routing r = record_new(6, 3, 1);
        sgm_router router = with_capacity(0.5, order); /* one token an expert */
        r.null_experts = 1;
        set_probabilities(&r, p);
        choose_together(&router, &r);
        const uint8_t flags[] = {0, 0, 0, D, N, N};
        expect_flags(&r, flags);
        record_free(&r);
        sgm_free(router.settings);
    }
}

/* ---- expert choice ---- */

static sgm_router expert_choice(int64_t most) {
    sgm_router router = router_new("expert_choice");
    set_int64(&router.plugin->plugin, router.settings, "most_per_token", most);
    return router;
}

/* Three tokens, three experts, one each. Experts 0 and 1 both prefer token 0, expert 2 takes token 2, nobody token 1. With at
 * most one expert a token, token 0 keeps the more probable one and expert 1's place stays empty. */
static void expert_choice_by_hand(void **state) {
    (void)state;
    const double p[] = {0.5, 0.4, 0.1, 0.45, 0.35, 0.2, 0.1, 0.1, 0.8};
    for (int64_t most = 1; most <= 2; most++) {
        sgm_routing r = record_new(3, 3, most);
        sgm_router router = expert_choice(most);
        r.experts_per_token = 1;
        set_probabilities(&r, p);
        choose_together(&router, &r);
        const int32_t one[] = {0, -1, 2}, two[] = {0, 1, -1, -1, 2, -1};
        assert_memory_equal(r.expert, most == 1 ? one : two, (size_t)(3 * most) * sizeof(int32_t));
        close_to((double)r.weight[0], 0.5, 1e-7);
        close_to((double)r.weight[2 * most], 0.8, 1e-7);
        if (most == 2)
            close_to((double)r.weight[1], 0.4, 1e-7);
        assert_int_equal(r.assignments, most == 1 ? 2 : 3);
        /* Inference: each token its own best, the other slots unused. */
        sgm_router_choose_alone(&router, &r);
        for (int t = 0; t < 3; t++)
            assert_int_equal(r.expert[t * most], t == 2 ? 2 : 0);
        assert_int_equal(r.assignments, 3);
        record_free(&r);
        sgm_free(router.settings);
    }
    sgm_error error;
    sgm_router router = expert_choice(1);
    assert_int_equal(router.plugin->check(router.settings, 8, 1, &error), SGM_OK);
    assert_int_equal(router.plugin->check(router.settings, 8, 2, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "most_per_token"));
    sgm_free(router.settings);
}

/* Whatever the router prefers, every expert works on ceil(K T / E) tokens. */
static void expert_choice_is_even(void **state) {
    (void)state;
    enum { T = 50, E = 8, K = 3 };
    sgm_router router = expert_choice(E);
    sgm_routing r = record_new(T, E, E);
    int64_t counts[E];
    r.experts_per_token = K;
    random_logits(&r, 5, 1);
    for (int64_t t = 0; t < T; t++)
        r.logits[t * E] += 5;
    router.plugin->score(router.settings, reference_kernels(), &r, 0, T);
    choose_together(&router, &r);
    sgm_routing_counts(&r, counts);
    for (int e = 0; e < E; e++)
        assert_int_equal(counts[e], 19); /* 150 / 8 = 18.75 */
    record_free(&r);
    sgm_free(router.settings);
}

/* Half of the tokens NaN: they keep their own choice, the others are shared out as if they were alone, and all fits the room
 * that was asked for. */
static void expert_choice_with_nan(void **state) {
    (void)state;
    enum { T = 40, E = 4, K = 2 };
    sgm_router router = expert_choice(E);
    sgm_routing r = record_new(T, E, E);
    int64_t from_numbers[E] = {0};
    r.experts_per_token = K;
    random_logits(&r, 6, 1);
    for (int64_t t = 0; t < T; t += 2)
        r.logits[t * E + 1] = (sgm_real)NAN;
    router.plugin->score(router.settings, reference_kernels(), &r, 0, T);
    choose_together(&router, &r);
    for (int64_t t = 0; t < T; t++)
        for (int64_t k = 0; k < E; k++) {
            if (t % 2 == 0)
                assert_int_equal(r.expert[t * E + k], k < K ? k : -1);
            else if (r.expert[t * E + k] >= 0)
                from_numbers[r.expert[t * E + k]]++;
        }
    for (int e = 0; e < E; e++)
        assert_int_equal(from_numbers[e], 10); /* 20 tokens · 2 / 4 */
    record_free(&r);
    sgm_free(router.settings);
}

/* What the file warns of: a later token takes the place of an earlier one. What inference does has no such door. */
static void expert_choice_looks_ahead(void **state) {
    (void)state;
    double p[] = {0.6, 0.4, 0.3, 0.7, 0.5, 0.5, 0.45, 0.55};
    sgm_router router = expert_choice(2);
    for (int later = 0; later < 2; later++) {
        sgm_routing r = record_new(4, 2, 2);
        r.experts_per_token = 1;
        p[6] = later ? 0.9 : 0.45; /* the last token */
        p[7] = 1 - p[6];
        set_probabilities(&r, p);
        choose_together(&router, &r); /* two tokens for each expert */
        assert_int_equal(r.expert[0], 0);
        assert_int_equal(r.expert[4], later ? 1 : 0); /* token 2 */
        sgm_router_choose_alone(&router, &r);
        assert_int_equal(r.expert[4], 0);
        record_free(&r);
    }
    sgm_free(router.settings);
}

/* ---- Sinkhorn ---- */

/* exp(logits) ~ 0.9 0.1 | 0.8 0.2. A plan a, 1 − a | 1 − a, a has all sums 1 and must keep the cross ratio, (a / (1 − a))² =
 * 0.9 · 0.2 / (0.1 · 0.8) = 2.25: a = 0.6. So the second token goes to expert 1, with its plain score 0.2 as weight. A bias
 * is added to the plan: 0.19 on expert 0 is not enough to change that, 0.21 is. */
static void sinkhorn_by_hand(void **state) {
    (void)state;
    const double shares[] = {0.9, 0.1, 0.8, 0.2}, biases[] = {0, 0.19, 0.21};
    for (int score = 0; score < 2; score++)
        for (int i = 0; i < 3; i++) {
            sgm_router router = router_new("sinkhorn");
            sgm_routing r = record_new(2, 2, 1);
            const sgm_real bias[] = {(sgm_real)biases[i], 0};
            set_int(&router.plugin->plugin, router.settings, "score", score);
            set_real(&router.plugin->plugin, router.settings, "tolerance", 1e-5);
            r.selection_bias = bias;
            r.sigmoid = score == 1;
            for (int j = 0; j < 4; j++)
                r.logits[j] = (sgm_real)log(shares[j]);
            router.plugin->score(router.settings, reference_kernels(), &r, 0, 2);
            choose_together(&router, &r);
            assert_int_equal(r.expert[0], 0);
            assert_int_equal(r.expert[1], i == 2 ? 0 : 1);
            double share = shares[2 + r.expert[1]]; /* sigmoid(log s) = s / (1 + s) */
            close_to((double)r.weight[1], score ? share / (1 + share) : share, 1e-6);
            sgm_router_choose_alone(&router, &r);
            assert_int_equal(r.expert[1], 0); /* inference */
            record_free(&r);
            sgm_free(router.settings);
        }
}

static double max_over_mean(const sgm_routing *r) {
    int64_t counts[64], most = 0, all = 0;
    sgm_routing_counts(r, counts);
    for (int64_t e = 0; e < r->experts; e++) {
        most = counts[e] > most ? counts[e] : most;
        all += counts[e];
    }
    return (double)most * (double)r->experts / (double)all;
}

/* A router that leans gives the favoured expert several times its share; the plan's choice is far more even. One iteration
 * is less even than many. */
static void sinkhorn_is_more_even(void **state) {
    (void)state;
    enum { T = 512, E = 8, K = 2 };
    double plain = 0, once = 0, often = 0;
    for (int variant = 0; variant < 3; variant++) {
        sgm_router router = router_new("sinkhorn");
        sgm_routing r = record_new(T, E, K);
        set_int64(&router.plugin->plugin, router.settings, "iterations", variant == 1 ? 1 : 100);
        random_logits(&r, 5, 1);
        for (int64_t i = 0; i < T * E; i++)
            r.logits[i] += (sgm_real)(0.5 * (double)(i % E));
        router.plugin->score(router.settings, reference_kernels(), &r, 0, T);
        if (variant == 0)
            sgm_router_choose_alone(&router, &r);
        else
            choose_together(&router, &r);
        *(variant == 0 ? &plain : variant == 1 ? &once : &often) = max_over_mean(&r);
        record_free(&r);
        sgm_free(router.settings);
    }
    assert_true(plain > 2);
    assert_true(often < 1.25);
    assert_true(often <= once && once < plain);
}

/* An expert that no token has any probability for does not spoil the others. */
static void sinkhorn_without_mass(void **state) {
    (void)state;
    enum { T = 6, E = 3 };
    sgm_router router = router_new("sinkhorn");
    sgm_routing r = record_new(T, E, 1);
    random_logits(&r, 5, 1);
    for (int64_t t = 0; t < T; t++)
        r.logits[t * E + 2] = -1000;
    router.plugin->score(router.settings, reference_kernels(), &r, 0, T);
    choose_together(&router, &r);
    int64_t counts[E];
    sgm_routing_counts(&r, counts);
    assert_int_equal(counts[2], 0);
    assert_int_equal(counts[0] + counts[1], T);
    assert_true(counts[0] > 0 && counts[1] > 0);
    record_free(&r);
    sgm_free(router.settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranking),
        cmocka_unit_test(capacity_numbers),
        cmocka_unit_test(capacity_by_hand),
        cmocka_unit_test(first_choices_first),
        cmocka_unit_test(never_dropped),
        cmocka_unit_test(expert_choice_by_hand),
        cmocka_unit_test(expert_choice_is_even),
        cmocka_unit_test(expert_choice_with_nan),
        cmocka_unit_test(expert_choice_looks_ahead),
        cmocka_unit_test(sinkhorn_by_hand),
        cmocka_unit_test(sinkhorn_is_more_even),
        cmocka_unit_test(sinkhorn_without_mass),
    };
    return cmocka_run_group_tests_name("routers of whole batches", tests, NULL, NULL);
}
