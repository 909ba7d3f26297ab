// SPDX-License-Identifier: Apache-2.0
/* Loss-free balancing: each rule by hand, what is measured, and the rules side by side on a router that stands still and
 * on one that drifts. */
#include <stdio.h>

#include "balance_helper.h"

enum { SIGN, PROPORTIONAL, INVERSE_SQRT, INVERSE };

static const double even_p[16] = {0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25,
                                  0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25};

static sgm_balance_member bias_member(int rule, double rate) {
    sgm_balance_member member = make("loss_free_bias", 0, GLOBAL, EXACT);
    set_int(&member.plugin->plugin, member.settings, "rule", rule);
    set_real(&member.plugin->plugin, member.settings, "rate", rate);
    return member;
}

/* The bias of a set of one layer of four experts. */
static void bias_of(const sgm_balance_set *set, double *bias) {
    double values[4 + 6];
    assert_int_equal(sgm_balance_set_state_count(set), 4 + 6);
    sgm_balance_set_state_get(set, values);
    memcpy(bias, values, 4 * sizeof *bias);
}

/* b moves by the rate towards the mean, once per step, whatever the micro-batches; biases are lent outside steps too. */
static void sign_by_hand(void **state) {
    (void)state;
    const int32_t expert[] = {0, 0, 1, 2}, half[] = {0, 0};
    sgm_routing r = written(4, 4, even_p, expert),
                parts[] = {written(2, 4, even_p, half), written(2, 4, even_p, expert + 2)};
    sgm_balance_member member = make("loss_free_bias", 0, GLOBAL, EXACT);
    sgm_balance_set *set = set_of(&member, 1, 4);
    run_step(1, set, &r, 1);
    double b[4];
    const double expected[] = {-0.001, 0, 0, 0.001};
    bias_of(set, b);
    assert_memory_equal(b, expected, sizeof expected);
    run_step(2, set, parts, 2);
    bias_of(set, b);
    for (int e = 0; e < 4; e++)
        close_to(b[e], 2 * expected[e], 1e-15);
    assert_true(isnan(sgm_balance_set_value(set, 0, 0)));
    close_to(sgm_balance_set_total(set), 0, 0);
    /* Outside a step: the bias is there, nothing is counted. */
    on_team(2, step_work, &(step_of){set, &r, 1, 4});
    close_to((double)r.selection_bias[3], 0.002, 1e-9);
    bias_of(set, b);
    close_to(b[0], -0.002, 1e-15);
    sgm_balance_set_free(set);
    record_free(&r);
    record_free(&parts[0]);
    record_free(&parts[1]);
}

/* Counts (3, 1, 0, 0), mean 1, rate 0.1: e / mean = (−2, 0, 1, 1). Two steps of the same:
 *   proportional   0.1 e twice                     (−0.4, 0, 0.2, 0.2)
 *   inverse_sqrt   0.1 e (1 + 1/√2)                (−0.341421…, 0, 0.170710…, 0.170710…)
 *   inverse        0.1 e (1 + 1/2)                 (−0.3, 0, 0.15, 0.15)
 *   sign           ±0.1                            (−0.2, 0, 0.2, 0.2), centred by 0.05: (−0.25, −0.05, 0.15, 0.15) */
static void rules_by_hand(void **state) {
    (void)state;
    const int32_t expert[] = {0, 0, 0, 1};
    const double unit[] = {-2, 0, 1, 1}, signs[] = {-1, 0, 1, 1};
    const double twice[] = {2, 2, 1 + 1 / sqrt(2), 1.5};
    sgm_routing r = written(4, 4, even_p, expert);
    for (int rule = SIGN; rule <= INVERSE; rule++)
        for (int centre = 0; centre < 2; centre++) {
            sgm_balance_member member = bias_member(rule, 0.1);
            set_bool(&member.plugin->plugin, member.settings, "centre", centre);
            sgm_balance_set *set = set_of(&member, 1, 4);
            run_step(1, set, &r, 1);
            run_step(1, set, &r, 1);
            double b[4], mean = rule == SIGN && centre ? 0.05 : 0;
            bias_of(set, b);
            for (int e = 0; e < 4; e++)
                close_to(b[e], 0.1 * twice[rule] * (rule == SIGN ? signs : unit)[e] - mean, 1e-15);
            sgm_balance_set_free(set);
        }
    record_free(&r);
}

/* `until` half of ten steps: steps 0 … 4 move it, the later ones do not; where nobody says what the run is, all do. */
static void stops(void **state) {
    (void)state;
    const int32_t expert[] = {0, 0, 1, 2};
    sgm_routing r = written(4, 4, even_p, expert);
    for (int told = 0; told < 2; told++) {
        sgm_balance_member member = bias_member(SIGN, 0.001);
        set_real(&member.plugin->plugin, member.settings, "until", 0.5);
        sgm_balance_set *set = set_of(&member, 1, 4);
        for (int step = 0; step < 10; step++) {
            if (told)
                sgm_balance_set_seek(set, step, 10, 1);
            run_step(1, set, &r, 1);
        }
        double b[4];
        bias_of(set, b);
        close_to(b[3], told ? 0.005 : 0.01, 1e-15);
        sgm_balance_set_free(set);
    }
    record_free(&r);
}

/* Two tokens, two experts, K = 1, both to expert 0 by scores (0.8, 0.2) and (0.6, 0.4). Rate 0.5, proportional.
 * Step 1, b = 0: mean score 0.7 = D. g = c/T − K/E = (0.5, −0.5), e / mean = (−1, 1), so b becomes (−0.5, 0.5).
 * Step 2, the same choice is told to it again: D = 0.7 + g·b = 0.7 − 0.5 = 0.2, range 1; of the one step before, Σ g·b = 0,
 * Σ g = (0.5, −0.5): regret bound (0 − b·Σg) / 1 = 0.5.
 * (Chosen by 0.8 − 0.5 and 0.6 − 0.5 the tokens would be elsewhere; D of a choice that is not the best is too small.)
 * Adding to every b changes none of them: with `centre` they are the same. */
static void dual_by_hand(void **state) {
    (void)state;
    const int32_t expert[] = {0, 0};
    const double p[] = {0.8, 0.2, 0.6, 0.4};
    sgm_routing r = written(2, 2, p, expert);
    for (int centre = 0; centre < 2; centre++) {
        sgm_balance_member member = bias_member(PROPORTIONAL, 0.5);
        set_bool(&member.plugin->plugin, member.settings, "centre", centre);
        sgm_balance_set *set = set_of(&member, 1, 2);
        assert_true(isnan(measure_of(set, "loss_free_bias", "dual_objective")));
        run_step(1, set, &r, 1);
        close_to(measure_of(set, "loss_free_bias", "dual_objective"), 0.7, 1e-7);
        close_to(measure_of(set, "loss_free_bias", "mean_score"), 0.7, 1e-7);
        close_to(measure_of(set, "loss_free_bias", "mean_regret_bound"), 0, 0);
        close_to(measure_of(set, "loss_free_bias", "bias_range"), 0, 0);
        run_step(1, set, &r, 1);
        close_to(measure_of(set, "loss_free_bias", "dual_objective"), 0.2, 1e-7);
        close_to(measure_of(set, "loss_free_bias", "mean_score"), 0.7, 1e-7);
        close_to(measure_of(set, "loss_free_bias", "mean_regret_bound"), 0.5, 1e-7);
        close_to(measure_of(set, "loss_free_bias", "bias_range"), 1, 1e-12);
        sgm_balance_set_free(set);
    }
    record_free(&r);
}

/* Two of three experts: two tokens with scores (0.5, 0.3, 0.2) take the first two. Mean score 0.8 = D at b = 0; counts (2, 2, 0),
 * mean 4/3, g = c/T − K/E = (1/3, 1/3, −2/3), e / mean = (−1/2, −1/2, 1): b becomes (−1/4, −1/4, 1/2).
 * The same choice again: D = 0.8 + g·b = 0.8 − 1/2, regret bound (0 − b·Σg) / 1 = 1/2. */
static void dual_of_two_experts_a_token(void **state) {
    (void)state;
    const double p[] = {0.5, 0.3, 0.2, 0.5, 0.3, 0.2};
    const int32_t expert[] = {0, 1, 1, 0};
    sgm_routing r = record_new(2, 3, 2);
    for (int i = 0; i < 6; i++)
        r.probabilities[i] = (sgm_real)p[i];
    memcpy(r.expert, expert, sizeof expert);
    sgm_balance_member member = bias_member(PROPORTIONAL, 0.5);
    sgm_balance_set *set = set_of(&member, 1, 3);
    run_step(1, set, &r, 1);
    close_to(measure_of(set, "loss_free_bias", "dual_objective"), 0.8, 1e-7);
    run_step(1, set, &r, 1);
    close_to(measure_of(set, "loss_free_bias", "dual_objective"), 0.3, 1e-7);
    close_to(measure_of(set, "loss_free_bias", "mean_score"), 0.8, 1e-7);
    close_to(measure_of(set, "loss_free_bias", "mean_regret_bound"), 0.5, 1e-7);
    close_to(measure_of(set, "loss_free_bias", "bias_range"), 0.75, 1e-12);
    sgm_balance_set_free(set);
    record_free(&r);
}

/* ---- the toy: E = 16, K = 2, 512 tokens a step, scores sigmoid(μ + noise) ----------------------------------------- */

enum { TOKENS = 512, EXPERTS = 16, ACTIVE = 2, STEPS = 1200, LAST = 200 };

typedef struct arm {
    const char *name;
    int rule;
    double rate;
    sgm_balance_set *set;
    double batch, score, dual, regret; /* means over the last steps; the last two of the last one */
    double tail[EXPERTS];
    double violation; /* of the last steps together */
} arm;

typedef struct toy {
    const sgm_router *router;
    sgm_routing record;
    arm *arms;
    int count;
    bool last;
} toy;

static double violation_of(const double *count) {
    double most = 0, sum = 0;
    for (int e = 0; e < EXPERTS; e++) {
        most = count[e] > most ? count[e] : most;
        sum += count[e];
    }
    return most * EXPERTS / sum - 1;
}

/* One step of every arm on the same scores. */
static void toy_step(sgm_worker *worker, void *argument) {
    toy *t = argument;
    const int64_t slots = ACTIVE;
    sgm_routing *r = &t->record;
    t->router->plugin->score(t->router->settings, reference_kernels(), r, 0, TOKENS);
    for (arm *a = t->arms; a < t->arms + t->count; a++) {
        sgm_balance_set_begin_step(a->set, TOKENS, &slots);
        sgm_balance_set_before_select(worker, a->set, r);
        t->router->plugin->select(t->router->settings, r, 0, TOKENS);
        sgm_balance_set_after_route(worker, a->set, r);
        sgm_balance_set_end_step(a->set);
        if (!t->last)
            continue;
        double count[EXPERTS] = {0};
        for (int64_t i = 0; i < TOKENS * ACTIVE; i++)
            count[r->expert[i]]++;
        for (int e = 0; e < EXPERTS; e++)
            a->tail[e] += count[e];
        a->batch += violation_of(count) / LAST;
        a->score += measure_of(a->set, "loss_free_bias", "mean_score") / LAST;
        a->dual = measure_of(a->set, "loss_free_bias", "dual_objective");
        a->regret = measure_of(a->set, "loss_free_bias", "mean_regret_bound");
    }
}

/* `turn`: radians a step by which each expert's mean logit goes round; 0: it stands still. */
static void run_toy(arm *arms, int count, double turn) {
    sgm_router router = router_new("top_k");
    set_int(&router.plugin->plugin, router.settings, "score", 1);
    toy t = {.router = &router, .record = record_new(TOKENS, EXPERTS, ACTIVE), .arms = arms, .count = count};
    t.record.sigmoid = true;
    for (arm *a = arms; a < arms + count; a++) {
        sgm_balance_member member = bias_member(a->rule, a->rate);
        a->set = set_of(&member, 1, EXPERTS);
    }
    sgm_team *team;
    assert_int_equal(sgm_team_new(1, &team, NULL), SGM_OK);
    double noise[TOKENS * EXPERTS];
    for (int step = 0; step < STEPS; step++) {
        sgm_rng_normals(7, (uint64_t)step, 0, TOKENS * EXPERTS, noise);
        for (int64_t e = 0; e < EXPERTS; e++) {
            double mean = sgm_rng_normal_at(5, 1, (uint64_t)e) * cos(turn * step) +
                          sgm_rng_normal_at(5, 2, (uint64_t)e) * sin(turn * step);
            for (int64_t i = 0; i < TOKENS; i++)
                t.record.logits[i * EXPERTS + e] = (sgm_real)(mean + noise[i * EXPERTS + e]);
        }
        t.last = step >= STEPS - LAST;
        sgm_team_run(team, toy_step, &t);
    }
    for (arm *a = arms; a < arms + count; a++) {
        a->violation = violation_of(a->tail);
        sgm_balance_set_free(a->set);
        if (getenv("SGM_TEST_PRINT"))
            printf("%-22s batch %.3f tail %.4f score %.4f dual %.4f regret %.5f\n", a->name, a->batch, a->violation,
                   a->score, a->dual, a->regret);
    }
    sgm_team_free(team);
    record_free(&t.record);
    sgm_free(router.settings);
}

/* Standing still, every rule ends at the level of chance in a batch (0.21 here) and far below it over many; a rate that is
 * too small does not arrive, one that is too large swings. Balance costs some of the chosen scores, and the dual
 * objective, whose minimum is the balanced optimum, falls from where no bias leaves it. */
static void standing_router(void **state) {
    (void)state;
    arm arms[] = {{.name = "none", .rule = SIGN, .rate = 0},
                  {.name = "sign 1e-4", .rule = SIGN, .rate = 1e-4},
                  {.name = "sign 1e-3", .rule = SIGN, .rate = 1e-3},
                  {.name = "sign 1e-2", .rule = SIGN, .rate = 1e-2},
                  {.name = "proportional 1e-2", .rule = PROPORTIONAL, .rate = 1e-2},
                  {.name = "inverse_sqrt 0.1", .rule = INVERSE_SQRT, .rate = 0.1},
                  {.name = "inverse 1", .rule = INVERSE, .rate = 1},
                  {.name = "inverse 0.1", .rule = INVERSE, .rate = 0.1}};
    enum { NONE, SIGN_SLOW, SIGN_FINE, SIGN_COARSE, PROPORTION, ROOT, HARMONIC, HARMONIC_SLOW, ARMS };
    run_toy(arms, ARMS, 0);
    assert_true(arms[NONE].batch > 2 && arms[NONE].violation > 2);
    assert_true(arms[SIGN_SLOW].batch > 0.8 && arms[SIGN_SLOW].batch < 0.7 * arms[NONE].batch);
    for (int a = SIGN_FINE; a < ARMS; a++) {
        assert_true(arms[a].batch > 0.18 && arms[a].batch < 0.35);
        assert_true(arms[a].violation < 0.03);
        assert_true(arms[a].score < arms[NONE].score - 0.1 && arms[a].score > arms[NONE].score - 0.25);
        assert_true(arms[a].dual < arms[NONE].dual);
        assert_true(arms[a].regret < 0.05);
    }
    assert_true(arms[SIGN_COARSE].batch > arms[SIGN_FINE].batch + 0.03);
    assert_true(arms[PROPORTION].violation < 0.01 && arms[ROOT].violation < 0.01);
}

/* A router whose means go once round in 600 steps: constant steps follow it, 1/n steps freeze. */
static void drifting_router(void **state) {
    (void)state;
    arm arms[] = {{.name = "none", .rule = SIGN, .rate = 0},
                  {.name = "sign 1e-2", .rule = SIGN, .rate = 1e-2},
                  {.name = "proportional 1e-2", .rule = PROPORTIONAL, .rate = 1e-2},
                  {.name = "inverse 1", .rule = INVERSE, .rate = 1},
                  {.name = "inverse 0.1", .rule = INVERSE, .rate = 0.1}};
    enum { NONE, SIGN_COARSE, PROPORTION, HARMONIC, HARMONIC_SLOW, ARMS };
    run_toy(arms, ARMS, 6.283185307179586 / 600);
    assert_true(arms[SIGN_COARSE].batch < 0.5);
    assert_true(arms[PROPORTION].batch < 0.8);
    assert_true(arms[HARMONIC].batch > 1.5 * arms[PROPORTION].batch);
    assert_true(arms[HARMONIC_SLOW].batch > arms[HARMONIC].batch);
}

/* The bias of a model goes to the first that has one, whatever the others had; without one it is refused. */
static void begins_with_a_bias(void **state) {
    (void)state;
    const sgm_real bias[] = {0.5f, -0.25f, 0, 0.125f, 1, 2, 3, 4};
    const sgm_real wrong[] = {0.5f, -0.25f, 0, 0.125f, 1, NAN, 3, 4};
    sgm_error error = {0};
    sgm_balance_member members[] = {make("load_balance_loss", 0.01, GLOBAL, EXACT), bias_member(SIGN, 0.1),
                                    bias_member(PROPORTIONAL, 0.1)};
    sgm_balance_set *set;
    assert_int_equal(sgm_balance_set_new(members, 3, 2, 4, 1, 1, &set, &error), SGM_OK);
    assert_int_equal(sgm_balance_set_state_count(set), 2 * 2 * (4 + 6));
    double values[40] = {0};
    for (int i = 0; i < 16; i++)
        values[i] = 7;
    assert_int_equal(sgm_balance_set_state_put(set, values, 40, &error), SGM_OK);
    assert_int_equal(sgm_balance_set_begin_bias(set, wrong, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "expert 1 in layer 1"));
    assert_true(sgm_balance_set_bias(set)[0] == 14);
    assert_int_equal(sgm_balance_set_begin_bias(set, bias, &error), SGM_OK);
    assert_memory_equal(sgm_balance_set_bias(set), bias, sizeof bias);
    sgm_balance_set_state_get(set, values);
    for (int i = 0; i < 16; i++)
        assert_true(values[i] == (i < 8 ? (double)bias[i] : 0));
    sgm_balance_set_free(set);
    sgm_balance_member loss = make("load_balance_loss", 0.01, GLOBAL, EXACT);
    assert_int_equal(sgm_balance_set_new(&loss, 1, 2, 4, 1, 1, &set, &error), SGM_OK);
    assert_int_equal(sgm_balance_set_begin_bias(set, bias, &error), SGM_EARGUMENT);
    sgm_balance_set_free(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_by_hand),
        cmocka_unit_test(rules_by_hand),
        cmocka_unit_test(stops),
        cmocka_unit_test(dual_by_hand),
        cmocka_unit_test(dual_of_two_experts_a_token),
        cmocka_unit_test(standing_router),
        cmocka_unit_test(drifting_router),
        cmocka_unit_test(begins_with_a_bias),
    };
    return cmocka_run_group_tests_name("loss-free bias", tests, NULL, NULL);
}
