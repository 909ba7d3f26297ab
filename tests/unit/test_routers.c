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

static void expect_choice(const sgm_routing *r, const int32_t *expert, const double *weight) {
    assert_memory_equal(r->expert, expert, (size_t)(r->items * r->slots) * sizeof *expert);
    for (int64_t i = 0; i < r->items * r->slots; i++)
        close_to((double)r->weight[i], weight[i], 1e-6);
}

/* p = 0.1, 0.2, 0.3, 0.4. Of two groups of two the better one each: 1 and 3, where top-2 takes 3 and 2. Weights are the
 * softmax over all four as it is; normalised 0.2/0.6 and 0.4/0.6. */
static void grouped_by_hand(void **state) {
    (void)state;
    const double logits[] = {0, 0.69314718056, 1.09861228867, 1.38629436112};
    sgm_routing r = record_new(1, 4, 2);
    sgm_router router = router_new("grouped");
    fill(&r, logits);
    route(&router, &r); /* groups: auto, as many as experts per token */
    expect_choice(&r, (const int32_t[]){1, 3}, (const double[]){0.2, 0.4});
    set_bool(&router.plugin->plugin, router.settings, "normalise", true);
    route(&router, &r);
    expect_choice(&r, (const int32_t[]){1, 3}, (const double[]){1.0 / 3, 2.0 / 3});
    set_int64(&router.plugin->plugin, router.settings, "groups", 1);
    set_bool(&router.plugin->plugin, router.settings, "normalise", false);
    route(&router, &r);
    expect_choice(&r, (const int32_t[]){3, 2}, (const double[]){0.4, 0.3});
    record_free(&r);
    sgm_free(router.settings);
}

static void grouped_check(void **state) {
    (void)state;
    sgm_router router = router_new("grouped");
    sgm_error error;
    assert_int_equal(router.plugin->check(router.settings, 64, 8, &error), SGM_OK);
    assert_int_equal(router.plugin->check(router.settings, 64, 6, &error), SGM_EARGUMENT); /* 64 in 6 groups */
    assert_int_equal(router.plugin->check(router.settings, 64, 1, &error), SGM_OK);        /* one group */
    set_int64(&router.plugin->plugin, router.settings, "groups", 4);
    assert_int_equal(router.plugin->check(router.settings, 64, 8, &error), SGM_OK);
    assert_int_equal(router.plugin->check(router.settings, 62, 8, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "model.experts"));
    assert_int_equal(router.plugin->check(router.settings, 64, 6, &error), SGM_EARGUMENT);
    assert_int_equal(router.plugin->check(router.settings, 64, 1, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "top_k"));
    set_bool(&router.plugin->plugin, router.settings, "normalise", true);
    set_int64(&router.plugin->plugin, router.settings, "groups", 1);
    assert_int_equal(router.plugin->trains(router.settings, 1, &error), SGM_EARGUMENT);
    sgm_free(router.settings);
}

/* Largest minus smallest load of M devices that hold a group each, in assignments. */
static int64_t spread_of_groups(const sgm_routing *r, int64_t groups) {
    int64_t counts[64], load[64] = {0}, most, least;
    sgm_routing_counts(r, counts);
    for (int64_t e = 0; e < r->experts; e++)
        load[e / (r->experts / groups)] += counts[e];
    most = least = load[0];
    for (int64_t g = 1; g < groups; g++) {
        most = load[g] > most ? load[g] : most;
        least = load[g] < least ? load[g] : least;
    }
    return most - least;
}

/* The claim of arXiv 2505.21411: devices are exactly even in every batch, however the router leans. Top-k's are not. */
static void groups_are_even(void **state) {
    (void)state;
    enum { E = 64, K = 8, M = 8 };
    sgm_router grouped = router_new("grouped"), top_k = make(SOFTMAX, false);
    for (int64_t T = 1; T <= 256; T *= 16) {
        sgm_routing r = record_new(T, E, K);
        random_logits(&r, 17, 1);
        for (int64_t i = 0; i < T * E; i += 3)
            r.logits[i] += 2; /* a third of the experts is preferred */
        route(&grouped, &r);
        assert_int_equal(spread_of_groups(&r, M), 0);
        assert_int_equal(spread_of_groups(&r, M / 2), 0); /* two groups a device */
        route(&top_k, &r);
        assert_true(spread_of_groups(&r, M) > 0);
        record_free(&r);
    }
    sgm_free(grouped.settings);
    sgm_free(top_k.settings);
}

/* Scores 0.9 0.1 | 0.6 0.5 | 0.8 0.2: the groups' two best sum to 1.0, 1.1 and 1.0. One group: the middle one, with weights
 * 0.6/1.1 and 0.5/1.1. Two: the middle and the first, which ties with the last; of their four experts 0 and 2 are best, 0.9
 * and 0.6 of 1.5. A bias of 0.3 on expert 5 lifts the last group to 1.3, and its weights do not show it: 0.8 and 0.2. */
static void deepseek_by_hand(void **state) {
    (void)state;
    const double scores[] = {0.9, 0.1, 0.6, 0.5, 0.8, 0.2};
    const sgm_real bias[] = {0, 0, 0, 0, 0, (sgm_real)0.3};
    sgm_routing r = record_new(1, 6, 2);
    sgm_router router = router_new("deepseek_v3");
    const sgm_plugin *plugin = &router.plugin->plugin;
    set_probabilities(&r, scores);
    set_int64(plugin, router.settings, "groups", 3);
    set_int64(plugin, router.settings, "groups_chosen", 1);
    router.plugin->select(router.settings, &r, 0, 1);
    expect_choice(&r, (const int32_t[]){2, 3}, (const double[]){0.6 / 1.1, 0.5 / 1.1});
    set_int64(plugin, router.settings, "groups_chosen", 2);
    set_real(plugin, router.settings, "scale", 2.5);
    router.plugin->select(router.settings, &r, 0, 1);
    expect_choice(&r, (const int32_t[]){0, 2}, (const double[]){2.5 * 0.9 / 1.5, 2.5 * 0.6 / 1.5});
    set_int64(plugin, router.settings, "groups_chosen", 1);
    set_real(plugin, router.settings, "scale", 1);
    r.selection_bias = bias;
    router.plugin->select(router.settings, &r, 0, 1);
    expect_choice(&r, (const int32_t[]){4, 5}, (const double[]){0.8, 0.2});
    set_int64(plugin, router.settings, "groups", 6); /* groups of one: its score is the expert's */
    set_int64(plugin, router.settings, "groups_chosen", 2);
    r.selection_bias = NULL;
    router.plugin->select(router.settings, &r, 0, 1);
    expect_choice(&r, (const int32_t[]){0, 4}, (const double[]){0.9 / 1.7, 0.8 / 1.7});
    record_free(&r);
    sgm_free(router.settings);
}

/* Of groups with NaN none is chosen before one without. */
static void deepseek_nan_group(void **state) {
    (void)state;
    const double scores[] = {0.9, (double)NAN, 0.2, 0.1};
    sgm_routing r = record_new(1, 4, 1);
    sgm_router router = router_new("deepseek_v3");
    set_probabilities(&r, scores);
    set_int64(&router.plugin->plugin, router.settings, "groups", 2);
    router.plugin->select(router.settings, &r, 0, 1); /* groups_chosen: auto, half of them */
    assert_int_equal(r.expert[0], 2);
    record_free(&r);
    sgm_free(router.settings);
}

static void deepseek_check(void **state) {
    (void)state;
    sgm_router router = router_new("deepseek_v3");
    const sgm_plugin *plugin = &router.plugin->plugin;
    sgm_error error;
    set_int64(plugin, router.settings, "groups", 8);
    set_int64(plugin, router.settings, "groups_chosen", 4);
    assert_int_equal(router.plugin->check(router.settings, 256, 8, &error), SGM_OK); /* its own numbers */
    assert_int_equal(router.plugin->check(router.settings, 250, 8, &error), SGM_EARGUMENT);
    assert_int_equal(router.plugin->check(router.settings, 8, 5, &error), SGM_EARGUMENT); /* 4 groups of one */
    set_int64(plugin, router.settings, "groups_chosen", 9);
    assert_int_equal(router.plugin->check(router.settings, 256, 8, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "groups_chosen"));
    assert_int_equal(router.plugin->trains(router.settings, 1, &error), SGM_EARGUMENT);
    assert_int_equal(router.plugin->trains(router.settings, 2, &error), SGM_OK);
    sgm_free(router.settings);
}

/* The same token has the same experts, in every batch; another layer or seed has others; those for K are among those for
 * K + 1; tokens spread evenly. */
static void hash_of_tokens(void **state) {
    (void)state;
    enum { T = 4000, E = 10 };
    static int32_t token[T];
    int32_t before[T];
    sgm_router router = router_new("hash");
    for (int64_t K = 1; K <= 3; K++) {
        sgm_routing r = record_new(T, E, K), other = record_new(1, E, K);
        int64_t counts[E];
        random_logits(&r, 3, 1);
        for (int32_t t = 0; t < T; t++)
            token[t] = t < T / 2 ? t : t - T / 2;
        r.token = token;
        route(&router, &r);
        for (int64_t t = 0; t < T; t++) {
            bool nested = K == 1;
            for (int64_t k = 0; k < K; k++) {
                assert_int_equal(r.expert[t * K + k], r.expert[t % (T / 2) * K + k]);
                close_to((double)r.weight[t * K + k], 1.0 / (double)K, 1e-7);
                assert_true(k == 0 || r.expert[t * K + k] > r.expert[t * K + k - 1]);
                nested |= K > 1 && r.expert[t * K + k] == before[t];
            }
            assert_true(nested);
            before[t] = K == 1 ? r.expert[t] : before[t];
        }
        sgm_routing_counts(&r, counts);
        for (int e = 0; e < E; e++) /* 400 K, with a deviation of about 27 for pairs of equal tokens */
            assert_true(counts[e] > 250 * K && counts[e] < 550 * K);
        int same = 0;
        other.layer = 1;
        for (int64_t t = 0; t < 200; t++) {
            other.token = token + t;
            random_logits(&other, 4, 1);
            route(&router, &other);
            same += other.expert[0] == r.expert[t * K];
        }
        assert_true(same < 150);
        record_free(&r);
        record_free(&other);
    }
    sgm_free(router.settings);
}

/* Models that were trained with it depend on the function: these values, computed by a second program, must never change. */
static void hash_is_pinned(void **state) {
    (void)state;
    static const int32_t tokens[] = {0, 1, 2, 77},
                         expected[2][12] = {{2, 8, 9, 2, 3, 6, 0, 2, 9, 2, 6, 8}, {6, 8, 9, 1, 2, 7, 0, 5, 7, 4, 5, 8}};
    static const int32_t large[] = {0, 1, 50000}, expected_large[] = {37, 45, 23, 90, 52, 91};
    sgm_router router = router_new("hash");
    for (int layer = 0; layer <= 3; layer += 3) {
        sgm_routing r = record_new(4, 10, 3);
        r.layer = layer;
        r.token = tokens;
        random_logits(&r, 1, 1);
        route(&router, &r);
        assert_memory_equal(r.expert, expected[layer / 3], sizeof expected[0]);
        record_free(&r);
    }
    sgm_routing r = record_new(3, 96, 2);
    r.layer = 1;
    r.token = large;
    random_logits(&r, 1, 1);
    set_int64(&router.plugin->plugin, router.settings, "seed", 5);
    route(&router, &r);
    assert_memory_equal(r.expert, expected_large, sizeof expected_large);
    record_free(&r);
    sgm_free(router.settings);
}

/* p = 0.5, 0.3, 0.15, 0.05: 0.4 needs one expert, 0.79 two, 0.81 three, and K ends it. */
static void top_p_by_hand(void **state) {
    (void)state;
    const double p[] = {0.3, 0.5, 0.05, 0.15}, shares[] = {0.4, 0.79, 0.81, 1};
    const int32_t expert[][3] = {{1, -1, -1}, {1, 0, -1}, {1, 0, 3}, {1, 0, 3}};
    const double weight[][3] = {{0.5, 0, 0}, {0.5, 0.3, 0}, {0.5, 0.3, 0.15}, {0.5, 0.3, 0.15}};
    sgm_router router = router_new("top_p");
    for (int i = 0; i < 4; i++) {
        sgm_routing r = record_new(1, 4, 3);
        set_probabilities(&r, p);
        set_real(&router.plugin->plugin, router.settings, "share", shares[i]);
        router.plugin->select(router.settings, &r, 0, 1);
        expect_choice(&r, expert[i], weight[i]);
        record_free(&r);
    }
    /* A share that two experts reach exactly needs no third. A bias decides who is chosen, the sum is of the probabilities. */
    const double exact[] = {0.25, 0.5, 0.125, 0.125};
    const sgm_real bias[] = {0, 0, 1, 0};
    for (int biased = 0; biased < 2; biased++) {
        sgm_routing r = record_new(1, 4, 3);
        set_probabilities(&r, exact);
        r.selection_bias = biased ? bias : NULL;
        set_real(&router.plugin->plugin, router.settings, "share", biased ? 0.5 : 0.75);
        router.plugin->select(router.settings, &r, 0, 1);
        expect_choice(&r, biased ? (const int32_t[]){2, 1, -1} : (const int32_t[]){1, 0, -1},
                      biased ? (const double[]){0.125, 0.5, 0} : (const double[]){0.5, 0.25, 0});
        record_free(&r);
    }
    sgm_free(router.settings);
}

/* Experts 2 and 3 are null. p = 0.4, 0.1, 0.3, 0.2 with K = 2 chooses 0 and 2: normalised over the true ones the weights are 1
 * and nothing. p = 0.1, 0.1, 0.5, 0.3 chooses null experts alone: nothing is computed. */
static void null_experts_by_hand(void **state) {
    (void)state;
    const double p[] = {0.4, 0.1, 0.3, 0.2, 0.1, 0.1, 0.5, 0.3};
    sgm_router raw = make(SOFTMAX, false), normalised = make(SOFTMAX, true);
    sgm_routing r = record_new(2, 4, 2);
    int64_t count[4] = {0};
    double probability[4] = {0};
    sgm_load load = {.experts = 4, .count = count, .probability = probability};
    r.null_experts = 2;
    set_probabilities(&r, p);
    sgm_router_choose_alone(&normalised, &r);
    expect_choice(&r, (const int32_t[]){0, 2, 2, 3}, (const double[]){1, 0, 0, 0});
    const uint8_t flags[] = {0, SGM_ROUTE_NULL, SGM_ROUTE_NULL, SGM_ROUTE_NULL};
    const int32_t position[] = {0, -1, -1, -1};
    assert_memory_equal(r.flags, flags, sizeof flags);
    assert_memory_equal(r.position, position, sizeof position);
    assert_int_equal(r.assignments, 1);
    sgm_router_choose_alone(&raw, &r);
    expect_choice(&r, (const int32_t[]){0, 2, 2, 3}, (const double[]){0.4, 0.3, 0.5, 0.3});
    assert_memory_equal(r.flags, flags, sizeof flags);
    /* Load: all four assignments were chosen, one was computed. */
    sgm_worker alone = {.threads = 1};
    sgm_load_add(&alone, &load, &r, NULL);
    assert_int_equal(load.tokens, 2);
    assert_int_equal(count[0] + count[1] + count[2] + count[3], 4);
    assert_int_equal(load.computed, 1);
    record_free(&r);
    sgm_free(raw.settings);
    sgm_free(normalised.settings);
}

/* A gate whose null rows are copies of true ones gives equal logits: the lower, true expert comes first, so that such a
 * model starts as the one it was made from. */
static void copied_rows_tie(void **state) {
    (void)state;
    const double logits[] = {0.5, 1.5, -1, 0.5, 1.5, -1}; /* three true experts and their copies */
    sgm_router raw = make(SOFTMAX, false);
    sgm_routing r = record_new(1, 6, 3);
    r.null_experts = 3;
    fill(&r, logits);
    route(&raw, &r);
    sgm_routing_mark_null(&r, 0, 1);
    const int32_t expert[] = {1, 4, 0};
    const uint8_t flags[] = {0, SGM_ROUTE_NULL, 0};
    assert_memory_equal(r.expert, expert, sizeof expert);
    assert_memory_equal(r.flags, flags, sizeof flags);
    record_free(&r);
    sgm_free(raw.settings);
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
        cmocka_unit_test(by_hand),
        cmocka_unit_test(selection_bias),
        cmocka_unit_test(ties_and_nan),
        cmocka_unit_test(nan_is_not_hidden),
        cmocka_unit_test(gradient),
        cmocka_unit_test(check),
        cmocka_unit_test(grouped_by_hand),
        cmocka_unit_test(grouped_check),
        cmocka_unit_test(groups_are_even),
        cmocka_unit_test(deepseek_by_hand),
        cmocka_unit_test(deepseek_nan_group),
        cmocka_unit_test(deepseek_check),
        cmocka_unit_test(hash_of_tokens),
        cmocka_unit_test(hash_is_pinned),
        cmocka_unit_test(top_p_by_hand),
        cmocka_unit_test(null_experts_by_hand),
        cmocka_unit_test(copied_rows_tie),
        cmocka_unit_test(unknown_name),
    };
    return cmocka_run_group_tests_name("routers", tests, NULL, NULL);
}
