// SPDX-License-Identifier: Apache-2.0
/* Losses beside the usual one, each by hand and at perfect balance, and the conventions of the literature against ours. */
#include "balance_helper.h"

enum { LITERAL, SURROGATE, STRAIGHT_THROUGH };

/* Two tokens, two experts, both to expert 0: f = (1, 0), P = (5/8, 3/8). */
static sgm_routing two_tokens(void) {
    const double p[] = {0.75, 0.25, 0.5, 0.5};
    const int32_t expert[] = {0, 0};
    return written(2, 2, p, expert);
}

static sgm_balance_member shinka(int hinge, double threshold) {
    sgm_balance_member member = make("shinka_loss", 1, GLOBAL, EXACT);
    set_int(&member.plugin->plugin, member.settings, "hinge", hinge);
    set_real(&member.plugin->plugin, member.settings, "threshold", threshold);
    return member;
}

/* Value and first token's gradient of expert 0. */
static double stepped(sgm_balance_member member, sgm_routing *r, double *slope) {
    sgm_balance_set *set = set_of(&member, 1, r->experts);
    run_step(2, set, r, 1);
    double value = sgm_balance_set_value(set, 0, 0);
    if (slope)
        *slope = (double)r->d_logits[0];
    sgm_balance_set_free(set);
    return value;
}

/* E Σ f P = 2 · 5/8 = 1.25. H(P) = 5/8 ln(8/5) + 3/8 ln(8/3) = 0.661563, over ln 2: 0.954434; s = 1.5 − that = 0.545566.
 * Threshold 0.5, τ = 0.25: expert 1 lacks 0.25: 1.25 + 0.1 · 0.545566 · 0.25 = 1.2636391. As its P = 3/8 ≥ τ the surrogate
 * lacks nothing: 1.25. Threshold 1, τ = 0.5: literal 1.25 + 0.1 · 0.545566 · 0.5 = 1.2772783; surrogate lacks 1/8: 1.2568196.
 * Slopes of s: (ln P + 1) / ln 2 = (0.764623, 0.027658). Prices at threshold 0.5, literal: 2 + 0.1 · 0.764623 · 0.25 =
 * 2.0191156 and 0.1 · 0.027658 · 0.25 = 0.0006914; straight through the second is 0.0545566 less, −0.0538652.
 * d/dz_0 of token 0, p = (3/4, 1/4): (1/2) · 3/4 · 1/4 · (difference of prices) = 0.1892273 and 0.1943419. */
static void shinka_by_hand(void **state) {
    (void)state;
    sgm_routing r = two_tokens();
    double slope;
    close_to(stepped(shinka(LITERAL, 0.5), &r, &slope), 1.263639150, 1e-7);
    close_to(slope, 0.189227263, 1e-7);
    close_to(stepped(shinka(STRAIGHT_THROUGH, 0.5), &r, &slope), 1.263639150, 1e-7);
    close_to(slope, 0.194341944, 1e-7);
    close_to(stepped(shinka(SURROGATE, 0.5), &r, &slope), 1.25, 1e-7);
    close_to(slope, 0.1875, 1e-7); /* what load_balance_loss alone gives */
    close_to(stepped(shinka(LITERAL, 1), &r, NULL), 1.277278300, 1e-7);
    close_to(stepped(shinka(STRAIGHT_THROUGH, 1), &r, NULL), 1.277278300, 1e-7);
    close_to(stepped(shinka(SURROGATE, 1), &r, &slope), 1.256819575, 1e-7);
    /* Prices 2 + 0.1 · 0.764623 / 8 and 0.1 · (0.027658 / 8 − 0.545566): (3/32) · 2.0637685 */
    close_to(slope, 0.193478313, 1e-7);
    record_free(&r);
}

/* How often an expert is under τ is what decides whether the loss differs from the usual one: 1 of 2 here at either
 * threshold of the sources, none where the load is even; the hinge's own numbers stand beside it. */
static void shinka_measures(void **state) {
    (void)state;
    const double even[] = {0.5, 0.5, 0.5, 0.5};
    const int32_t both[] = {0, 1};
    for (int i = 0; i < 2; i++) {
        double tau = (i ? 0.64 : 0.064) / 2;
        sgm_routing uneven = two_tokens(), fair = written(2, 2, even, both);
        sgm_balance_member member = shinka(LITERAL, 2 * tau);
        sgm_balance_set *set = set_of(&member, 1, 2);
        run_step(1, set, &uneven, 1);
        close_to(measure_of(set, "shinka_loss", "experts_under_threshold"), 1, 0);
        close_to(measure_of(set, "shinka_loss", "hinge"), tau, 1e-12);
        close_to(measure_of(set, "shinka_loss", "urgency"), 0.545565997, 1e-7);
        run_step(1, set, &fair, 1);
        close_to(measure_of(set, "shinka_loss", "experts_under_threshold"), 0, 0);
        close_to(measure_of(set, "shinka_loss", "hinge"), 0, 0);
        close_to(measure_of(set, "shinka_loss", "urgency"), 0.5, 1e-7);
        close_to(sgm_balance_set_value(set, 0, 0), 1, 1e-7); /* perfect balance */
        sgm_balance_set_free(set);
        record_free(&uneven);
        record_free(&fair);
    }
    /* Collapsed, everything on one expert: s = 1.5, seven of eight lack τ: 8 + 0.1 · 1.5 · 7 · 0.064 / 8. */
    double one[8] = {1, 1e-30, 1e-30, 1e-30, 1e-30, 1e-30, 1e-30, 1e-30};
    const int32_t first[] = {0};
    sgm_routing collapsed = written(1, 8, one, first);
    close_to(stepped(shinka(LITERAL, 0.064), &collapsed, NULL), 8 + 0.15 * 7 * 0.008, 1e-6);
    record_free(&collapsed);
}

/* Σ P ln P = −0.6615632; of the tokens, 3/4 ln 3/4 + 1/4 ln 1/4 = −0.5623351 and −ln 2: mean −0.6277412.
 * Value −0.0338221. Gradient of token 0: p_0 p_1 ((ln P_0/p_0) − ln(P_1/p_1)) / 2 = (3/32) (ln(5/6) − ln(3/2)) = −0.0551052. */
static void mutual_information_by_hand(void **state) {
    (void)state;
    sgm_routing r = two_tokens();
    double slope;
    close_to(stepped(make("mutual_information", 1, GLOBAL, EXACT), &r, &slope), -0.033822076, 1e-7);
    close_to(slope, 3.0 / 32 * (log(5.0 / 6) - log(1.5)), 1e-7);
    sgm_balance_member member = make("mutual_information", 1, GLOBAL, EXACT);
    sgm_balance_set *set = set_of(&member, 1, 2);
    run_step(1, set, &r, 1);
    close_to(measure_of(set, "mutual_information", "entropy_of_mean_nats"), 0.661563238, 1e-7);
    close_to(measure_of(set, "mutual_information", "mean_entropy_nats"), 0.627741163, 1e-7);
    sgm_balance_set_free(set);
    record_free(&r);
    /* At best −ln E: certain tokens, each expert as often; 0 where all tokens are alike, however certain. */
    const double certain[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    const double alike[] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
    const int32_t each[] = {0, 1, 2, 3};
    sgm_routing best = written(4, 4, certain, each), same = written(4, 4, alike, each);
    close_to(stepped(make("mutual_information", 1, GLOBAL, EXACT), &best, &slope), -log(4), 1e-7);
    close_to(slope, 0, 1e-7);
    close_to(stepped(make("mutual_information", 1, GLOBAL, EXACT), &same, &slope), 0, 1e-7);
    close_to(slope, 0, 1e-7);
    record_free(&best);
    record_free(&same);
}

/* H(P) = 0.6615632; ∂H/∂P = −(ln P + 1), so token 0: p_0 p_1 (ln P_1 − ln P_0) / 2 = (3/32) ln(3/5) = −0.0478899: the step
 * against it goes to the expert that is ahead. ln E where even, 0 where one has it all. */
static void concentration_by_hand(void **state) {
    (void)state;
    sgm_routing r = two_tokens();
    double slope;
    close_to(stepped(make("load_concentration", 1, GLOBAL, EXACT), &r, &slope), 0.661563238, 1e-7);
    close_to(slope, 3.0 / 32 * log(0.6), 1e-7);
    record_free(&r);
    const double even[] = {0.25, 0.25, 0.25, 0.25}, one[] = {1, 0, 0, 0};
    const int32_t first[] = {0};
    sgm_routing spread = written(1, 4, even, first), single = written(1, 4, one, first);
    close_to(stepped(make("load_concentration", 1, GLOBAL, EXACT), &spread, NULL), log(4), 1e-7);
    close_to(stepped(make("load_concentration", 1, GLOBAL, EXACT), &single, NULL), 0, 1e-7);
    record_free(&spread);
    record_free(&single);
}

/* η = 1/2, m = (1/2, 1/2) at first, P = (5/8, 3/8) every step.
 * Step 1, m with this batch: (9/16, 7/16). Prices 1 + ln m = (0.4246359, 0.1733215): Σ P · price = 0.3303929; token 0:
 * (3/32) (ln 9/16 − ln 7/16) = (3/32) ln(9/7). Step 2: m = (19/32, 13/32).
 * Lagged: step 1 prices of an even m: 1 − ln 2 whatever P is, no pull; step 2 those of (9/16, 7/16).
 * Quadratic: prices m: 5/8 · 9/16 + 3/8 · 7/16 = 33/64. Potentials after step 1: Σ m ln m, Σ m² / 2 = 130/512. */
static void phi_by_hand(void **state) {
    (void)state;
    sgm_routing r = two_tokens();
    for (int mode = EXACT; mode <= LAGGED; mode++)
        for (int quadratic = 0; quadratic < 2; quadratic++) {
            sgm_balance_member member = make("phi_balancing", 1, GLOBAL, mode);
            set_real(&member.plugin->plugin, member.settings, "rate", 0.5);
            set_int(&member.plugin->plugin, member.settings, "potential", quadratic);
            sgm_balance_set *set = set_of(&member, 1, 2);
            for (int step = 0; step < 2; step++) {
                const double first[] = {0.5, 9.0 / 16, 19.0 / 32};
                double m = first[mode == LAGGED ? step : step + 1];
                double a = quadratic ? m : 1 + log(m), b = quadratic ? 1 - m : 1 + log(1 - m);
                run_step(1, set, &r, 1);
                close_to(sgm_balance_set_value(set, 0, 0), 0.625 * a + 0.375 * b, 1e-7);
                close_to((double)r.d_logits[0], 3.0 / 32 * (a - b), 1e-7);
                if (step == 0)
                    close_to(measure_of(set, "phi_balancing", "potential"),
                             quadratic ? 130.0 / 512 : 9.0 / 16 * log(9.0 / 16) + 7.0 / 16 * log(7.0 / 16), 1e-7);
            }
            sgm_balance_set_free(set);
        }
    record_free(&r);
    /* At perfect balance 1 − ln E, with the quadratic potential 1 / E. */
    const double even[] = {0.25, 0.25, 0.25, 0.25};
    const int32_t any[] = {2};
    for (int quadratic = 0; quadratic < 2; quadratic++) {
        sgm_routing fair = written(1, 4, even, any);
        sgm_balance_member member = make("phi_balancing", 1, GLOBAL, EXACT);
        set_int(&member.plugin->plugin, member.settings, "potential", quadratic);
        close_to(stepped(member, &fair, NULL), quadratic ? 0.25 : 1 - log(4), 1e-7);
        record_free(&fair);
    }
}

/* Four experts, the last two null, K = 1; tokens to 0, 2, 2, 3, all with p = (0.4, 0.3, 0.2, 0.1). c = (1, 0, 2, 1):
 * (4/4) (0.4 + 2 · 0.2 + 0.1) = 0.9. Averaged, c̃ = (1, 0, 1.5, 1.5): 0.4 + 0.3 + 0.15 = 0.85, and both null experts have
 * one price: token 0 pulls at z_2 with 0.2 · (1.5 − 0.85) / 4. */
static void null_experts_are_averaged(void **state) {
    (void)state;
    const double p[] = {0.4, 0.3, 0.2, 0.1, 0.4, 0.3, 0.2, 0.1, 0.4, 0.3, 0.2, 0.1, 0.4, 0.3, 0.2, 0.1};
    const int32_t expert[] = {0, 2, 2, 3};
    sgm_routing r = written(4, 4, p, expert);
    for (int average = 0; average < 2; average++)
        for (int64_t nulls = 0; nulls <= 2; nulls += 2) {
            sgm_balance_member member = make("load_balance_loss", 1, GLOBAL, EXACT);
            set_bool(&member.plugin->plugin, member.settings, "null_average", average);
            r.null_experts = nulls;
            bool averaged = average && nulls;
            close_to(stepped(member, &r, NULL), averaged ? 0.85 : 0.9, 1e-6);
            close_to((double)r.d_logits[2], averaged ? 0.2 * 0.65 / 4 : 0.2 * 1.1 / 4, 1e-6);
            close_to((double)r.d_logits[3], averaged ? 0.1 * 0.65 / 4 : 0.1 * 0.1 / 4, 1e-6);
        }
    record_free(&r);
    /* Perfect balance in the averaged sense: which null expert is taken does not matter. True experts 1 each, null ones 2
     * and 0; an even p. */
    const double even[] = {0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25,
                           0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25};
    const int32_t lopsided[] = {0, 1, 2, 2};
    sgm_routing fair = written(4, 4, even, lopsided);
    fair.null_experts = 2;
    sgm_balance_member member = make("load_balance_loss", 1, GLOBAL, EXACT);
    set_bool(&member.plugin->plugin, member.settings, "null_average", true);
    double slope;
    close_to(stepped(member, &fair, &slope), 1, 1e-6);
    close_to(slope, 0, 1e-7); /* nothing to improve */
    for (int i = 0; i < 16; i++)
        close_to((double)fair.d_logits[i], 0, 1e-7);
    record_free(&fair);
}

/* The table of docs/notation.md: the same batch in the words of each paper, from counts and mean probabilities. */
static void conventions(void **state) {
    (void)state;
    enum { T = 40, N = 6, TOP = 3 };
    sgm_router router = router_new("top_k");
    for (int balanced = 0; balanced < 2; balanced++) {
        sgm_routing r = record_new(T - T % N * balanced, N, TOP);
        random_logits(&r, 3, 1.5);
        route(&router, &r);
        double tokens = (double)r.items, c[N] = {0}, P[N] = {0};
        for (int64_t t = 0; balanced && t < r.items; t++)
            for (int64_t k = 0; k < TOP; k++)
                r.expert[t * TOP + k] = (int32_t)((t + k) % N);
        for (int64_t i = 0; i < r.items * TOP; i++)
            c[r.expert[i]]++;
        for (int64_t i = 0; i < r.items * N; i++)
            P[i % N] += (double)r.probabilities[i] / tokens;
        double pangu = 0, demons = 0, demons_by_token = 0, adamoe = 0;
        for (int e = 0; e < N; e++) {
            pangu += N / (TOP * tokens) * c[e] * P[e];
            demons += N * (c[e] / (TOP * tokens)) * P[e];
            demons_by_token += N * (c[e] / tokens) * P[e];
            adamoe += N * (c[e] / tokens) * P[e];
        }
        double ours = stepped(make("load_balance_loss", 1, GLOBAL, EXACT), &r, NULL);
        close_to(pangu, ours, 1e-6);
        close_to(demons, ours, 1e-6);
        close_to(demons_by_token, TOP * ours, 1e-5);
        close_to(adamoe, TOP * ours, 1e-5);
        if (balanced)
            close_to(ours, 1, 1e-6);
        else
            assert_true(fabs(ours - 1) > 0.01);
        record_free(&r);
    }
    sgm_free(router.settings);
}

/* Scores that are sigmoids enter as s / Σ s (arXiv 2412.19437): two tokens with s = (0.8, 0.2) and (0.3, 0.6), p = (4/5, 1/5)
 * and (1/3, 2/3), both to expert 0: 2 · (17/15) / 2. */
static void sigmoid_scores(void **state) {
    (void)state;
    const double s[] = {0.8, 0.2, 0.3, 0.6};
    const int32_t expert[] = {0, 0};
    sgm_routing r = written(2, 2, s, expert);
    r.sigmoid = true;
    double slope;
    close_to(stepped(make("load_balance_loss", 1, GLOBAL, EXACT), &r, &slope), 17.0 / 15, 1e-6);
    /* (E / T) p_0 (1 − s_0) (f_0 − p_0) = 4/5 · 1/5 · 1/5 */
    close_to(slope, 0.032, 1e-6);
    const double p[] = {0.8, 0.2, 1.0 / 3, 2.0 / 3}, P[] = {17.0 / 30, 13.0 / 30};
    double information = P[0] * log(P[0]) + P[1] * log(P[1]);
    for (int i = 0; i < 4; i++)
        information -= p[i] * log(p[i]) / 2;
    close_to(stepped(make("mutual_information", 1, GLOBAL, EXACT), &r, NULL), information, 1e-6);
    record_free(&r);
}

/* A router may leave slots unused (top_p): the load is a share of what was taken. Token 0 takes expert 0 alone, token 1 both:
 * f = (2/3, 1/3), P = (5/8, 3/8): 2 (2/3 · 5/8 + 1/3 · 3/8) = 13/12; d/dz_0 of token 0: 3/4 · 1/4 · (2/3 − 1/3) = 1/16. Where each token
 * takes one of its two slots, a different one, the load is even: 1. Threshold 0.8, τ = 0.4: expert 1 lacks 1/15, s as above
 * (0.545566); even, nobody lacks any. */
static void unused_slots(void **state) {
    (void)state;
    static const int32_t taken[][4] = {{0, -1, 0, 1}, {0, -1, 1, -1}};
    const double p[] = {0.75, 0.25, 0.5, 0.5};
    for (int even = 0; even < 2; even++) {
        sgm_routing r = record_new(2, 2, 2);
        for (int i = 0; i < 4; i++)
            r.probabilities[i] = (sgm_real)p[i];
        memcpy(r.expert, taken[even], sizeof taken[even]);
        for (int mode = EXACT; mode <= LAGGED; mode++) {
            double slope;
            close_to(stepped(make("load_balance_loss", 1, GLOBAL, mode), &r, &slope), even ? 1 : 13.0 / 12, 1e-7);
            close_to(slope, even ? 0 : 1.0 / 16, 1e-7);
        }
        sgm_balance_member member = shinka(LITERAL, 0.8);
        sgm_balance_set *set = set_of(&member, 1, 2);
        run_step(1, set, &r, 1);
        close_to(sgm_balance_set_value(set, 0, 0), even ? 1 : 13.0 / 12 + 0.1 * 0.545565997 / 15, 1e-7);
        close_to(measure_of(set, "shinka_loss", "experts_under_threshold"), even ? 0 : 1, 0);
        sgm_balance_set_free(set);
        record_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shinka_by_hand),
        cmocka_unit_test(shinka_measures),
        cmocka_unit_test(mutual_information_by_hand),
        cmocka_unit_test(concentration_by_hand),
        cmocka_unit_test(phi_by_hand),
        cmocka_unit_test(null_experts_are_averaged),
        cmocka_unit_test(conventions),
        cmocka_unit_test(sigmoid_scores),
        cmocka_unit_test(unused_slots),
    };
    return cmocka_run_group_tests_name("balancing losses", tests, NULL, NULL);
}
