// SPDX-License-Identifier: Apache-2.0
/* Load statistics against hand-worked cases, and the noise floor against simulation and published values. */
#include <math.h>

#include "routing_helper.h"
#include "sigmoe/stats.h"

static void close_to(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9g, expected %.9g ± %g", value, expected, tolerance);
}

static void by_hand(void **state) {
    (void)state;
    int64_t count[] = {6, 2, 0, 0};
    double probability[] = {4, 2, 1, 1};
    sgm_load load = {.tokens = 8, .experts = 4, .count = count, .probability = probability};
    sgm_load_summary s;
    sgm_load_summarise(&load, &s);
    assert_int_equal(s.tokens, 8);
    assert_int_equal(s.dead_experts, 2);
    close_to(s.min_over_mean, 0, 0);
    close_to(s.max_over_mean, 3, 1e-15);
    close_to(s.max_violation, 2, 1e-15);
    /* f = 3/4, 1/4: H = 0.75 ln(4/3) + 0.25 ln 4 */
    close_to(s.entropy_over_log_e, (0.75 * log(4.0 / 3) + 0.25 * log(4)) / log(4), 1e-14);
    close_to(s.probability_entropy_over_log_e, (0.5 * log(2) + 0.25 * log(4) + 0.25 * log(8)) / log(4), 1e-14);
    /* deviations 4, 0, −2, −2: variance 24/4 = 6, mean 2; p deviations 2, 0, −1, −1 are half of them */
    close_to(s.coefficient_of_variation, sqrt(6) / 2, 1e-14);
    close_to(s.correlation, 1, 1e-14);
}

/* Null experts, here the last two, have no load to even out: all is as if they were not there. */
static void null_experts_are_left_out(void **state) {
    (void)state;
    int64_t count[] = {6, 2, 0, 0, 9, 1};
    double probability[] = {4, 2, 1, 1, 8, 8};
    sgm_load with = {.tokens = 8, .experts = 6, .null_experts = 2, .count = count, .probability = probability};
    sgm_load without = {.tokens = 8, .experts = 4, .count = count, .probability = probability};
    sgm_load_summary a, b;
    sgm_load_summarise(&with, &a);
    sgm_load_summarise(&without, &b);
    assert_memory_equal(&a, &b, sizeof a);
    close_to(a.max_over_mean, 3, 1e-15);
}

/* Dead is below 1 % of the fair share, not only at 0. */
static void dead(void **state) {
    (void)state;
    int64_t count[] = {0, 1, 5, 7, 2987}; /* a fair share is 600 */
    double probability[5] = {1, 1, 1, 1, 1};
    sgm_load load = {.tokens = 3000, .experts = 5, .count = count, .probability = probability};
    sgm_load_summary s;
    sgm_load_summarise(&load, &s);
    assert_int_equal(s.dead_experts, 3);
    close_to(s.correlation, 0, 0); /* p is even */
    close_to(s.probability_entropy_over_log_e, 1, 1e-14);
}

static void even_and_empty(void **state) {
    (void)state;
    int64_t count[] = {5, 5}, none[] = {0, 0};
    double probability[] = {5, 5};
    sgm_load load = {.tokens = 10, .experts = 2, .count = count, .probability = probability};
    sgm_load_summary s;
    sgm_load_summarise(&load, &s);
    close_to(s.max_violation, 0, 0);
    close_to(s.entropy_over_log_e, 1, 1e-15);
    load.count = none;
    load.tokens = 0;
    sgm_load_summarise(&load, &s);
    assert_int_equal(s.dead_experts, 0);
    close_to(s.max_violation, 0, 0);
}

/* The mean over draws of max/mean − 1 when every item picks K distinct of E experts evenly. */
static double simulate(int64_t T, int64_t E, int64_t K, int draws) {
    int64_t *count = calloc((size_t)E, sizeof *count), *order = calloc((size_t)E, sizeof *order);
    sgm_rng rng = sgm_rng_at(1, 2, 0);
    double sum = 0;
    for (int64_t e = 0; e < E; e++)
        order[e] = e;
    for (int d = 0; d < draws; d++) {
        memset(count, 0, (size_t)E * sizeof *count);
        int64_t most = 0;
        for (int64_t t = 0; t < T; t++)
            for (int64_t k = 0; k < K; k++) {
                int64_t other = k + (int64_t)sgm_rng_below(&rng, (uint64_t)(E - k)), swap = order[k];
                order[k] = order[other];
                order[other] = swap;
                count[order[k]]++;
            }
        for (int64_t e = 0; e < E; e++)
            most = count[e] > most ? count[e] : most;
        sum += (double)most * (double)E / (double)(T * K) - 1;
    }
    free(count);
    free(order);
    return sum / draws;
}

static double noise_floor(int64_t T, int64_t E, int64_t K) {
    int64_t *count = calloc((size_t)E, sizeof *count);
    double *probability = calloc((size_t)E, sizeof *probability);
    for (int64_t i = 0; i < T * K; i++)
        count[i % E]++;
    sgm_load load = {.tokens = T, .experts = E, .count = count, .probability = probability};
    sgm_load_summary s;
    sgm_load_summarise(&load, &s);
    free(count);
    free(probability);
    return s.noise_floor;
}

static void noise(void **state) {
    (void)state;
    const int64_t cases[][3] = {{128, 96, 1}, {4096, 96, 1}, {512, 16, 2}, {60, 2, 1}, {64, 8, 4}, {30000, 4, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t *c = cases[i];
        double simulated = simulate(c[0], c[1], c[2], c[0] > 10000 ? 200 : 600);
        close_to(noise_floor(c[0], c[1], c[2]) / simulated, 1, c[0] > 10000 ? 0.1 : 0.05);
    }
    close_to(noise_floor(512, 16, 2), 0.21, 0.01); /* about 0.21: the reference of arXiv 2408.15664's toy setting */
    close_to(noise_floor(10, 4, 4), 0, 0);         /* everybody picks everybody */
    close_to(noise_floor(10, 1, 1), 0, 0);
    /* The two formulas meet where one hands over to the other (a mean count of 2000). */
    close_to(noise_floor(1999 * 64, 64, 1) / noise_floor(2001 * 64, 64, 1), 1, 0.02);
}

/* Four devices of two experts: loads 5, 4, 0, 3 of 6 tokens with two experts each. IS = (5 − 0) / 6: the idle device counts;
 * over the busy ones alone it would be 2 / 6. max/mean = 5 / 3. */
static void imbalance_by_hand(void **state) {
    (void)state;
    const int64_t load[] = {5, 0, 1, 3, 0, 0, 2, 1}, even[] = {3, 0, 1, 2, 2, 1, 0, 3};
    sgm_imbalance i;
    sgm_error error = {0};
    assert_int_equal(sgm_imbalance_score(load, 8, 4, 6, &i, &error), SGM_OK);
    close_to(i.score, 5.0 / 6, 1e-15);
    close_to(i.max_over_mean, 5.0 / 3, 1e-15);
    /* 0 between devices is not balance between experts. */
    assert_int_equal(sgm_imbalance_score(even, 8, 4, 6, &i, &error), SGM_OK);
    close_to(i.score, 0, 0);
    close_to(i.max_over_mean, 1, 1e-15);
    /* Other groups, other scores of the same load: 9 and 3, or each expert by itself. */
    assert_int_equal(sgm_imbalance_score(load, 8, 2, 6, &i, &error), SGM_OK);
    close_to(i.score, 1, 1e-15);
    assert_int_equal(sgm_imbalance_score(load, 8, 8, 6, &i, &error), SGM_OK);
    close_to(i.score, 5.0 / 6, 1e-15);
    assert_int_equal(sgm_imbalance_score(load, 8, 1, 6, &i, &error), SGM_OK);
    close_to(i.score, 0, 0);
    close_to(i.noise_floor, 0, 0);
    assert_int_equal(sgm_imbalance_score(load, 8, 3, 6, &i, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "8 experts do not split into 3 groups"));
    assert_int_equal(sgm_imbalance_score(load, 8, 4, 0, &i, NULL), SGM_EARGUMENT);
}

/* N = 64, K = 8 on 8 devices, the setting of arXiv 2505.21411: IS of uniform top-k at 1, 16, 64, 256 and 1024 tokens. It
 * falls as the square root; that it is above 0 stays nearly sure. The noise floor says the same without drawing. */
static void imbalance_by_chance(void **state) {
    (void)state;
    const int64_t tokens[] = {1, 16, 64, 256, 1024};
    const double expected[] = {2.46, 0.673, 0.333, 0.169, 0.083}, off[] = {0.1, 0.05, 0.05, 0.05, 0.05};
    int64_t load[64];
    for (int n = 0; n < 5; n++) {
        sgm_imbalance_draws d, again;
        int64_t draws = n < 2 ? 4000 : 400;
        assert_int_equal(sgm_imbalance_simulate(64, 8, 8, tokens[n], draws, 1, &d, NULL), SGM_OK);
        close_to(d.mean / expected[n], 1, 0.03);
        assert_true(d.positive_share > 0.98 && d.most > d.mean && d.most < 8);
        assert_true(n > 0 || d.positive_share < 1); /* 8^8 / C(64, 8) = 0.4 % of single tokens are even */
        assert_int_equal(sgm_imbalance_simulate(64, 8, 8, tokens[n], draws, 1, &again, NULL), SGM_OK);
        assert_true(again.mean == d.mean && again.most == d.most);
        for (int e = 0; e < 64; e++)
            load[e] = 0;
        for (int64_t i = 0; i < tokens[n] * 8; i++)
            load[i % 64]++;
        sgm_imbalance i;
        assert_int_equal(sgm_imbalance_score(load, 64, 8, tokens[n], &i, NULL), SGM_OK);
        close_to(i.noise_floor / d.mean, 1, off[n]);
    }
    sgm_imbalance_draws all;
    assert_int_equal(sgm_imbalance_simulate(8, 8, 4, 10, 5, 1, &all, NULL), SGM_OK); /* everybody takes all */
    close_to(all.mean, 0, 0);
    close_to(all.positive_share, 0, 0);
    assert_int_equal(sgm_imbalance_simulate(8, 9, 4, 10, 5, 1, &all, NULL), SGM_EARGUMENT);
    assert_int_equal(sgm_imbalance_simulate(8, 2, 3, 10, 5, 1, &all, NULL), SGM_EARGUMENT);
}

typedef struct adding {
    sgm_load *load;
    const sgm_routing *record;
    const int32_t *targets;
} adding;

static void add_work(sgm_worker *worker, void *argument) {
    adding *a = argument;
    sgm_load_add(worker, a->load, a->record, a->targets);
}

/* The same bytes for any number of threads. */
static void accumulation(void **state) {
    (void)state;
    enum { T = 200, E = 24, K = 2 };
    sgm_router router = router_new("top_k");
    sgm_routing r = record_new(T, E, K);
    random_logits(&r, 5, 1);
    route(&router, &r);
    double first[E];
    int64_t entropy = 0;
    for (int threads = 1; threads <= 3; threads++) {
        int64_t count[E] = {0}, expected[E];
        double probability[E] = {0};
        sgm_load load = {.experts = E, .count = count, .probability = probability, .entropies = true};
        on_team(threads, add_work, &(adding){&load, &r, NULL});
        assert_int_equal(load.tokens, T);
        sgm_routing_counts(&r, expected);
        assert_memory_equal(count, expected, sizeof count);
        if (threads == 1)
            memcpy(first, probability, sizeof first);
        assert_memory_equal(first, probability, sizeof first);
        if (threads == 1)
            entropy = load.token_entropy;
        assert_true(load.token_entropy == entropy && entropy > 0);
    }
    record_free(&r);
    sgm_free(router.settings);
}

static double mean_entropy(const sgm_routing *r, const int32_t *targets) {
    int64_t count[20] = {0};
    double probability[20] = {0};
    sgm_load load = {.experts = r->experts,
                     .null_experts = r->null_experts,
                     .count = count,
                     .probability = probability,
                     .entropies = true};
    sgm_load_summary s;
    on_team(1, add_work, &(adding){&load, r, targets});
    sgm_load_summarise(&load, &s);
    return s.token_entropy_over_log_e;
}

/* 19 experts: two runs of lanes and a rest, the last two null. Item 0 is certain, item 1 even over all that compute, item 2 over
 * four of them; scores that do not sum to 1 are divided by their sum; what null experts have is left out. */
static void entropy_of_tokens(void **state) {
    (void)state;
    enum { T = 3, E = 19, TRUE = 17 };
    sgm_router router = router_new("top_k");
    sgm_routing r = record_new(T, E, 1);
    random_logits(&r, 5, 1);
    route(&router, &r);
    for (int e = 0; e < E; e++) {
        r.probabilities[e] = e == 16 ? 0.7F : 0;
        r.probabilities[E + e] = 0.9F;
        r.probabilities[2 * E + e] = e == 0 || e == 7 || e == 8 || e == 16 ? 0.25F : 0;
    }
    r.probabilities[E - 1] = 0.3F;
    r.null_experts = E - TRUE;
    const int32_t certain[T] = {1, -1, -1}, even[T] = {-1, 1, -1}, four[T] = {-1, -1, 1};
    close_to(mean_entropy(&r, certain), 0, 1e-7);
    close_to(mean_entropy(&r, even), 1, 1e-6);
    close_to(mean_entropy(&r, four), log(4) / log(TRUE), 1e-6);
    close_to(mean_entropy(&r, NULL), (1 + log(4) / log(TRUE)) / 3, 1e-6);
    r.probabilities[2 * E + 18] = (sgm_real)NAN; /* of a null expert */
    close_to(mean_entropy(&r, four), log(4) / log(TRUE), 1e-6);
    r.probabilities[2 * E + 3] = (sgm_real)NAN;
    assert_true(isnan(mean_entropy(&r, four)));
    record_free(&r);
    sgm_free(router.settings);
}

/* Rows without a target are context: they were counted where they were scored. */
static void only_scored_rows(void **state) {
    (void)state;
    enum { T = 9, E = 8 };
    sgm_router router = router_new("top_k");
    sgm_routing r = record_new(T, E, 1);
    random_logits(&r, 5, 1);
    route(&router, &r);
    const int32_t targets[T] = {-1, 3, -1, 0, 7, -1, -1, 2, -1};
    int64_t count[E] = {0}, expected[E] = {0};
    double probability[E] = {0}, expected_probability[E] = {0};
    for (int t = 0; t < T; t++)
        for (int e = 0; e < E && targets[t] >= 0; e++) {
            expected[e] += r.expert[t] == e;
            expected_probability[e] += (double)r.probabilities[t * E + e];
        }
    sgm_load load = {.experts = E, .count = count, .probability = probability};
    on_team(2, add_work, &(adding){&load, &r, targets});
    assert_int_equal(load.tokens, 4);
    assert_memory_equal(count, expected, sizeof count);
    assert_memory_equal(probability, expected_probability, sizeof probability);
    record_free(&r);
    sgm_free(router.settings);
}

/* (1, 0) and (1/2, 1/2) weigh the same whatever their counts; a domain of none is no domain. Floor: two experts are used,
 * (2 − 1)(1 − 1/2)(1/2 + 1/4) / 4. */
static void divergence_by_hand(void **state) {
    (void)state;
    const int64_t a[3] = {2, 0, 0}, b[3] = {2, 2, 0}, none[3] = {0, 0, 0}, tokens[] = {9, 2, 4};
    const int64_t *count[] = {none, a, b};
    double scratch[6];
    sgm_divergence found = sgm_domain_divergence(count, tokens, 3, 3, scratch);
    close_to(found.nats, 0.75 * log(4.0 / 3) + 0.25 * log(4) - log(2) / 2, 1e-14);
    close_to(found.noise_nats, 0.09375, 1e-15);
    found = sgm_domain_divergence(count, tokens, 2, 3, scratch); /* one domain alone */
    close_to(found.nats, 0, 0);
    close_to(found.noise_nats, 0, 0);
    const int64_t *alike[] = {b, b};
    close_to(sgm_domain_divergence(alike, tokens, 2, 3, scratch).nats, 0, 0);
}

/* The floor against simulation: two and three domains whose tokens pick K distinct experts evenly. */
static void divergence_by_chance(void **state) {
    (void)state;
    enum { DRAWS = 300, MOST = 32 };
    static const int64_t cases[][3] = {{8, 1, 2}, {8, 2, 2}, {8, 4, 3}, {32, 8, 2}}; /* E, K, D */
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const int64_t experts = cases[c][0], slots = cases[c][1], domains = cases[c][2];
        const int64_t tokens[3] = {300, 200, 400};
        int64_t counts[3][MOST], order[MOST];
        const int64_t *count[] = {counts[0], counts[1], counts[2]};
        double scratch[2 * MOST], mean = 0, floor = 0;
        sgm_rng rng = sgm_rng_at(5, c, 0);
        for (int64_t e = 0; e < experts; e++)
            order[e] = e;
        for (int draw = 0; draw < DRAWS; draw++) {
            memset(counts, 0, sizeof counts);
            for (int64_t d = 0; d < domains; d++)
                for (int64_t pick = 0; pick < tokens[d] * slots; pick++) {
                    int64_t k = pick % slots, other = k + (int64_t)sgm_rng_below(&rng, (uint64_t)(experts - k));
                    int64_t swap = order[k];
                    order[k] = order[other];
                    order[other] = swap;
                    counts[d][order[k]]++;
                }
            sgm_divergence found = sgm_domain_divergence(count, tokens, (size_t)domains, experts, scratch);
            mean += found.nats / DRAWS;
            floor = found.noise_nats;
        }
        close_to(floor / mean, 1, 0.1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(null_experts_are_left_out),
        cmocka_unit_test(dead),
        cmocka_unit_test(even_and_empty),
        cmocka_unit_test(noise),
        cmocka_unit_test(accumulation),
        cmocka_unit_test(entropy_of_tokens),
        cmocka_unit_test(only_scored_rows),
        cmocka_unit_test(imbalance_by_hand),
        cmocka_unit_test(imbalance_by_chance),
        cmocka_unit_test(divergence_by_hand),
        cmocka_unit_test(divergence_by_chance),
    };
    return cmocka_run_group_tests_name("load statistics", tests, NULL, NULL);
}
