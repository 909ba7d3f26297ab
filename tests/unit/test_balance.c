// SPDX-License-Identifier: Apache-2.0
/* Balancers: each formula by hand and at perfect balance, the scopes and modes of the driver, the saved state. */
#include "balance_helper.h"

static double value_at(const char *name, int scope, double temperature, sgm_routing *record) {
    sgm_balance_member member = make(name, 1, scope, EXACT);
    sgm_balance_set *set = set_of(&member, 1, record->experts);
    if (!strcmp(name, "top1_loss"))
        set_real(&member.plugin->plugin, member.settings, "temperature", temperature);
    run_step(2, set, record, 1);
    double value = sgm_balance_set_value(set, 0, 0);
    close_to(sgm_balance_set_total(set), value, 0);
    sgm_balance_set_free(set);
    return value;
}

static double value_of(const char *name, int scope, sgm_routing *record) {
    return value_at(name, scope, 1, record);
}

/* Two tokens, two experts, both to expert 0: f = (1, 0), p = ((3/4 + 1/2) / 2, …) = (5/8, 3/8). */
static void by_hand(void **state) {
    (void)state;
    const double p[] = {0.75, 0.25, 0.5, 0.5};
    const int32_t expert[] = {0, 0};
    sgm_routing r = written(2, 2, p, expert);
    close_to(value_of("load_balance_loss", GLOBAL, &r), 2 * 0.625, 1e-6);
    /* f̂ = p at τ = 1: 2 (25 + 9) / 64 / p̄, p̄ = (3/4 + 1/2) / 2 */
    close_to(value_of("top1_loss", GLOBAL, &r), 2 * 34.0 / 64 / 0.625, 1e-6);
    /* τ = 1/2: softmax(ln p / τ) is p² over its sum, (9, 1) / 10 and (1, 1) / 2, so f̂ = (7, 3) / 10; p̄ knows no τ:
     * 2 (49 + 9) / 100 / (5/8) = 1.856. */
    close_to(value_at("top1_loss", GLOBAL, 0.5, &r), 1.856, 1e-6);
    /* The logits are ln p, so logsumexp is 0; adding 2 to the first token's makes it 2: (4 + 0) / 2. */
    r.logits[0] += 2;
    r.logits[1] += 2;
    close_to(value_of("z_loss", GLOBAL, &r), 2, 1e-6);
    /* Each token a sequence: 2 · 0.75 and 2 · 0.5, their mean. */
    const int64_t starts[] = {0, 1, 2};
    r.sequence_start = starts;
    r.sequence_count = 2;
    close_to(value_of("load_balance_loss", SEQUENCE, &r), 1.25, 1e-6);
    record_free(&r);

    /* Gradient of token 0, expert 0, coefficient 1: (E / T) s_0 (f_0 − Σ f s) = (2/2) · 3/4 · (1 − 3/4). */
    sgm_routing again = written(2, 2, p, expert);
    sgm_balance_member member = make("load_balance_loss", 1, GLOBAL, EXACT);
    sgm_balance_set *set = set_of(&member, 1, 2);
    run_step(1, set, &again, 1);
    close_to((double)again.d_logits[0], 0.1875, 1e-6);
    close_to((double)again.d_logits[1], -0.1875, 1e-6);
    close_to((double)again.d_logits[2], 0.25, 1e-6);
    sgm_balance_set_free(set);
    record_free(&again);
}

/* More experts than a loop of the Top-1 loss takes at once, with some in each of its blocks that matter, and most whose stand-ins
 * are too small to count: value and gradient from the formula, in f64. Expert 150 t + 3 of token t is its best. */
static void many_experts(void **state) {
    (void)state;
    enum { COUNT = 600, T = 4 };
    static double p[T * COUNT], q[T * COUNT], load[COUNT];
    const double tau = 0.02;
    int32_t expert[T];
    double top = 0, squares = 0;
    memset(load, 0, sizeof load);
    for (int t = 0; t < T; t++) {
        double *row = p + t * COUNT, *share = q + t * COUNT, sum = 0, soft = 0;
        expert[t] = 150 * t + 3;
        for (int e = 0; e < COUNT; e++)
            sum += row[e] = exp(-fabs((double)(e - expert[t])) / 90);
        for (int e = 0; e < COUNT; e++) {
            row[e] /= sum;
            soft += share[e] = exp(log(row[e] * sum) / tau);
        }
        for (int e = 0; e < COUNT; e++)
            load[e] += (share[e] /= soft) / T;
        top += row[expert[t]] / T;
    }
    for (int e = 0; e < COUNT; e++)
        squares += load[e] * load[e];
    sgm_routing r = written(T, COUNT, p, expert);
    sgm_balance_member member = make("top1_loss", 1, GLOBAL, EXACT);
    set_real(&member.plugin->plugin, member.settings, "temperature", tau);
    sgm_balance_set *set = set_of(&member, 1, COUNT);
    for (int threads = 1; threads <= 3; threads++) {
        run_step(threads, set, &r, 1);
        double value = COUNT * squares / top;
        close_to(sgm_balance_set_value(set, 0, 0), value, 1e-4 * value);
        for (int t = 0; t < T; t++) {
            double mean = 0, p_top = p[t * COUNT + expert[t]];
            for (int e = 0; e < COUNT; e++)
                mean += q[t * COUNT + e] * 2 * COUNT * load[e] / top;
            for (int e = 0; e < COUNT; e++) {
                double want = q[t * COUNT + e] * (2 * COUNT * load[e] / top - mean) / (tau * T) -
                              p_top * ((e == expert[t]) - p[t * COUNT + e]) * COUNT * squares / (top * top * T);
                close_to((double)r.d_logits[t * COUNT + e], want, 2e-3 * value);
            }
        }
    }
    sgm_balance_set_free(set);
    record_free(&r);
}

/* The value 1 at perfect balance, with one and with several experts per token; for sequences (of 6 and of 12 tokens) if
 * each is even by itself. */
static void perfect_balance(void **state) {
    (void)state;
    enum { E = 6, TOKENS = 3 * E };
    const int64_t even[] = {0, E, TOKENS}, odd[] = {0, 3, TOKENS};
    for (int64_t K = 1; K <= 3; K++) {
        sgm_routing r = record_new(TOKENS, E, K);
        for (int64_t t = 0; t < TOKENS; t++) {
            for (int64_t e = 0; e < E; e++) {
                r.probabilities[t * E + e] = e == t % E ? (sgm_real)0.5 : (sgm_real)0.1;
                r.logits[t * E + e] = (sgm_real)log(e == t % E ? 0.5 : 0.1);
            }
            for (int64_t k = 0; k < K; k++)
                r.expert[t * K + k] = (int32_t)((t + k) % E);
        }
        close_to(value_of("load_balance_loss", GLOBAL, &r), 1, 1e-6);
        close_to(value_of("load_balance_loss", MICRO, &r), 1, 1e-6);
        r.sequence_count = 2;
        r.sequence_start = even;
        close_to(value_of("load_balance_loss", SEQUENCE, &r), 1, 1e-6);
        /* Cut into 3 and 15 tokens they are even together only. Three tokens: f = (1, 1, 1, 0, 0, 0) / 3 where p = 7/30:
         * 6 · 7/30 = 1.4. Fifteen: f = (2, 2, 2, 3, 3, 3) / 15, p = (2.3, …, 2.7, …) / 15: 6 · 3 (4.6 + 8.1) / 225 = 1.016.
         * By their tokens: (3 · 1.4 + 15 · 1.016) / 18 = 1.08. */
        r.sequence_start = odd;
        if (K == 1)
            close_to(value_of("load_balance_loss", SEQUENCE, &r), 1.08, 1e-6);
        r.sequence_start = even;
        for (int64_t i = 0; i < TOKENS * E; i++) { /* every token certain */
            bool top = i / E % E == i % E;
            r.probabilities[i] = top ? 1 : 0;
            r.logits[i] = top ? 50 : 0;
        }
        close_to(value_of("top1_loss", GLOBAL, &r), 1, 1e-6);
        close_to(value_of("top1_loss", SEQUENCE, &r), 1, 1e-6);
        record_free(&r);
    }
}

/* f and p both on one expert: the loss is E; p even, f not: 1, the failure that arXiv 2512.16248 reports. */
static void worst_balance(void **state) {
    (void)state;
    const double certain[] = {1, 1e-30, 1e-30, 1e-30, 1, 1e-30, 1e-30, 1e-30};
    const double even[] = {0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25};
    const int32_t expert[] = {0, 0};
    sgm_routing r = written(2, 4, certain, expert), s = written(2, 4, even, expert);
    close_to(value_of("load_balance_loss", GLOBAL, &r), 4, 1e-6);
    close_to(value_of("load_balance_loss", GLOBAL, &s), 1, 1e-6);
    record_free(&r);
    record_free(&s);
}

/* ---- splitting into micro-batches ---- */

enum { T = 60, E = 10, K = 2 };

/* Cut one routed batch into pieces with the same logits. */
static void cut(const sgm_router *router, uint64_t seed, const int64_t *lengths, int64_t count, sgm_routing *record) {
    sgm_routing whole = record_new(T, E, K);
    random_logits(&whole, seed, 1);
    int64_t first = 0;
    for (int64_t i = 0; i < count; first += lengths[i], i++) {
        record[i] = record_new(lengths[i], E, K);
        memcpy(record[i].logits, whole.logits + first * E, (size_t)(lengths[i] * E) * sizeof(sgm_real));
        route(router, &record[i]);
    }
    assert_int_equal(first, T);
    record_free(&whole);
}

/* Exact mode: one big batch, any micro-batches, any threads: the same bytes of values and gradients. */
static void exact_equals_one_batch(void **state) {
    (void)state;
    const int64_t lengths[][4] = {{60}, {30, 30}, {1, 29, 29, 1}, {20, 25, 15}}, pieces[] = {1, 2, 4, 3};
    const char *names[] = {"load_balance_loss", "top1_loss", "z_loss"};
    sgm_router router = router_new("top_k");
    for (int n = 0; n < 3; n++) {
        sgm_real expected[T * E];
        double value = 0;
        for (int i = 0; i < 4; i++) {
            sgm_balance_member member = make(names[n], 0.3, GLOBAL, EXACT);
            sgm_balance_set *set = set_of(&member, 1, E);
            assert_int_equal(sgm_balance_set_needs_count_pass(set, 1), false);
            assert_int_equal(sgm_balance_set_needs_count_pass(set, 2), n < 2);
            sgm_routing record[4];
            cut(&router, 9, lengths[i], pieces[i], record);
            run_step(1 + i % 3, set, record, pieces[i]);
            if (i == 0) {
                memcpy(expected, record[0].d_logits, sizeof expected);
                value = sgm_balance_set_value(set, 0, 0);
            }
            double again = sgm_balance_set_value(set, 0, 0);
            assert_memory_equal(&again, &value, sizeof value);
            for (int64_t j = 0, first = 0; j < pieces[i]; first += lengths[i][j], j++) {
                assert_memory_equal(record[j].d_logits, expected + first * E,
                                    (size_t)(lengths[i][j] * E) * sizeof(sgm_real));
                record_free(&record[j]);
            }
            sgm_balance_set_free(set);
        }
    }
    sgm_free(router.settings);
}

/* d_logits of the formula, for given shares f and a pull of 1 / `tokens` for each token. */
static void expect_gradient(const sgm_routing *r, const double *f, double coefficient, double tokens) {
    for (int64_t t = 0; t < r->items; t++) {
        double mean = 0;
        for (int64_t e = 0; e < E; e++)
            mean += f[e] * (double)r->probabilities[t * E + e];
        for (int64_t e = 0; e < E; e++)
            close_to((double)r->d_logits[t * E + e],
                     coefficient * E / tokens * (double)r->probabilities[t * E + e] * (f[e] - mean), 1e-7);
    }
}

static void shares(const sgm_routing *record, int64_t count, double *f) {
    double total = 0;
    memset(f, 0, E * sizeof *f);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < record[i].items * K; j++, total++)
            f[record[i].expert[j]] += 1;
    for (int e = 0; e < E; e++)
        f[e] /= total;
}

static void modes(void **state) {
    (void)state;
    const int64_t lengths[] = {20, 25, 15};
    sgm_router router = router_new("top_k");
    sgm_routing first[3], second[3];
    double f[E], before[E];
    cut(&router, 1, lengths, 3, first);
    cut(&router, 2, lengths, 3, second);
    for (int mode = EXACT; mode <= LAGGED; mode++) {
        sgm_balance_member member = make("load_balance_loss", 0.5, GLOBAL, mode);
        sgm_balance_set *set = set_of(&member, 1, E);
        assert_int_equal(sgm_balance_set_needs_count_pass(set, 3), mode == EXACT);
        run_step(2, set, first, 3);
        for (int64_t i = 0; i < 3; i++) { /* the first lagged step is a buffered one */
            shares(first, mode == EXACT ? 3 : i + 1, f);
            expect_gradient(&first[i], f, 0.5, T);
        }
        run_step(2, set, second, 3);
        shares(first, 3, before);
        for (int64_t i = 0; i < 3; i++) {
            shares(second, mode == EXACT ? 3 : i + 1, f);
            expect_gradient(&second[i], mode == LAGGED ? before : f, 0.5, T);
        }
        /* Whatever the gradient used, the value is that of the batch. */
        double p[E] = {0}, value = 0;
        shares(second, 3, f);
        for (int64_t i = 0; i < 3; i++)
            for (int64_t j = 0; j < second[i].items * E; j++)
                p[j % E] += (double)second[i].probabilities[j] / T;
        for (int e = 0; e < E; e++)
            value += E * f[e] * p[e];
        close_to(sgm_balance_set_value(set, 0, 0), value, 1e-6);
        sgm_balance_set_free(set);
    }
    /* Micro-batch scope: each its own f, and the mean of the values weighted by tokens. */
    sgm_balance_member member = make("load_balance_loss", 0.5, MICRO, EXACT);
    sgm_balance_set *set = set_of(&member, 1, E);
    run_step(2, set, first, 3);
    for (int64_t i = 0; i < 3; i++) {
        shares(&first[i], 1, f);
        expect_gradient(&first[i], f, 0.5, T);
    }
    sgm_balance_set_free(set);
    for (int i = 0; i < 3; i++) {
        record_free(&first[i]);
        record_free(&second[i]);
    }
    sgm_free(router.settings);
}

/* A cancelled step leaves the lagged sums, the bias and the last values as they were. */
static void cancelled_step(void **state) {
    (void)state;
    const int64_t length = T, slots = K;
    sgm_router router = router_new("top_k");
    sgm_routing first, second;
    cut(&router, 1, &length, 1, &first);
    cut(&router, 2, &length, 1, &second);
    sgm_balance_member members[] = {make("load_balance_loss", 0.5, GLOBAL, LAGGED),
                                    make("loss_free_bias", 0, GLOBAL, BUFFER)};
    sgm_balance_set *set = set_of(members, 2, E);
    run_step(1, set, &first, 1);
    double value = sgm_balance_set_value(set, 0, 0);
    size_t bytes = (size_t)sgm_balance_set_state_count(set) * sizeof(double);
    double *before = sgm_alloc(bytes), *after = sgm_alloc(bytes);
    sgm_balance_set_state_get(set, before);
    sgm_balance_set_begin_step(set, T, &slots);
    on_team(2, step_work, &(step_of){set, &second, 1, T});
    sgm_balance_set_cancel_step(set);
    sgm_balance_set_state_get(set, after);
    assert_memory_equal(before, after, bytes);
    close_to(sgm_balance_set_value(set, 0, 0), value, 0);
    sgm_free(before);
    sgm_free(after);
    sgm_balance_set_free(set);
    record_free(&first);
    record_free(&second);
    sgm_free(router.settings);
}

/* K changes between steps (progressive sparsification): lagged shares keep the K they were counted with. */
static void lagged_across_a_switch(void **state) {
    (void)state;
    const int64_t length = T;
    sgm_router router = router_new("top_k");
    sgm_routing first, second = record_new(T, E, 1);
    cut(&router, 1, &length, 1, &first);
    random_logits(&second, 2, 1);
    route(&router, &second);
    sgm_balance_member member = make("load_balance_loss", 0.5, GLOBAL, LAGGED);
    sgm_balance_set *set = set_of(&member, 1, E);
    double f[E];
    run_step(1, set, &first, 1);
    run_step(1, set, &second, 1);
    shares(&first, 1, f);
    expect_gradient(&second, f, 0.5, T);
    sgm_balance_set_free(set);
    record_free(&first);
    record_free(&second);
    sgm_free(router.settings);
}

/* Two sets, one continued from the other's state: the same next step, byte for byte. */
static void state_round_trip(void **state) {
    (void)state;
    const int64_t length = T;
    sgm_router router = router_new("top_k");
    sgm_routing first, second;
    cut(&router, 1, &length, 1, &first);
    cut(&router, 2, &length, 1, &second);
    sgm_balance_set *sets[2];
    for (int i = 0; i < 2; i++) {
        sgm_balance_member members[] = {make("top1_loss", 0.5, GLOBAL, LAGGED), make("loss_free_bias", 0, 0, 0),
                                        make("load_balance_loss", 0.5, GLOBAL, LAGGED)};
        sets[i] = set_of(members, 3, E);
    }
    run_step(1, sets[0], &first, 1);
    int64_t count = sgm_balance_set_state_count(sets[0]);
    assert_int_equal(count, E + 2 + E + (E + 1) + E + (E + 2));
    const sgm_balance_part expected[] = {{"loss_free_bias.state", 0, E, SGM_PART_STATE},
                                         {"lagged.tokens_and_slots", E, 2, SGM_PART_LAGGED},
                                         {"lagged.counts", E + 2, E, SGM_PART_LAGGED},
                                         {"top1_loss.sums", 2 * E + 2, E + 1, SGM_PART_LAGGED},
                                         {"load_balance_loss.sums", 3 * E + 3, E, SGM_PART_LAGGED},
                                         {"loss_free_bias.tally", 4 * E + 3, E + 2, SGM_PART_TALLY}};
    sgm_balance_part part;
    for (size_t i = 0; i < 6; i++) {
        assert_true(sgm_balance_set_part(sets[0], i, &part));
        assert_string_equal(part.name, expected[i].name);
        assert_int_equal(part.first, expected[i].first);
        assert_int_equal(part.count, expected[i].count);
        assert_int_equal(part.kind, expected[i].kind);
    }
    assert_false(sgm_balance_set_part(sets[0], 6, &part));
    double *values = sgm_alloc((size_t)count * sizeof *values), *again = sgm_alloc((size_t)count * sizeof *values);
    sgm_balance_set_state_get(sets[0], values);
    assert_int_equal(sgm_balance_set_state_put(sets[1], values, count, NULL), SGM_OK);
    sgm_balance_set_state_get(sets[1], again);
    assert_memory_equal(values, again, (size_t)count * sizeof *values);
    sgm_real gradient[T * E];
    run_step(1, sets[0], &second, 1);
    memcpy(gradient, second.d_logits, sizeof gradient);
    run_step(1, sets[1], &second, 1);
    assert_memory_equal(gradient, second.d_logits, sizeof gradient);

    sgm_error error;
    assert_int_equal(sgm_balance_set_state_put(sets[1], values, count - 1, &error), SGM_EFORMAT);
    again[0] = (double)NAN;
    assert_int_equal(sgm_balance_set_state_put(sets[1], again, count, &error), SGM_EFORMAT);
    values[E + 1] = 1000; /* K of the lagged step */
    assert_int_equal(sgm_balance_set_state_put(sets[1], values, count, &error), SGM_EFORMAT);
    sgm_free(values);
    sgm_free(again);
    for (int i = 0; i < 2; i++)
        sgm_balance_set_free(sets[i]);
    record_free(&first);
    record_free(&second);
    sgm_free(router.settings);
}

/* ---- layers of different numbers of experts ---- */

enum { NARROW = 3, WIDE = 5, ITEMS = 12 };

/* Micro-batches of ITEMS / 2 items of every layer of the set, as a model shows them. */
typedef struct layered {
    sgm_balance_set *set;
    sgm_routing (*record)[2]; /* (layers) both halves */
    int64_t layers;
} layered;

static void layered_work(sgm_worker *worker, void *argument) {
    const layered *w = argument;
    for (int pass = SGM_PASS_COUNT; pass <= SGM_PASS_TRAIN; pass++) {
        if (pass == SGM_PASS_COUNT && !sgm_balance_set_needs_count_pass(w->set, 2))
            continue;
        if (worker->thread == 0)
            sgm_balance_set_begin_pass(w->set, (sgm_balance_pass)pass);
        sgm_barrier(worker);
        for (int half = 0; half < 2; half++) {
            for (int64_t l = 0; l < w->layers; l++) {
                sgm_balance_set_before_select(worker, w->set, &w->record[l][half]);
                sgm_balance_set_after_route(worker, w->set, &w->record[l][half]);
            }
            for (int64_t l = w->layers; pass == SGM_PASS_TRAIN && l-- > 0;)
                sgm_balance_set_gradient(worker, w->set, &w->record[l][half]);
        }
    }
}

static void layered_step(const layered *w, int64_t step) {
    const int64_t slots[] = {1, 1};
    for (int64_t l = 0; l < w->layers; l++)
        for (int half = 0; half < 2; half++) {
            sgm_routing *r = &w->record[l][half];
            memset(r->d_logits, 0, (size_t)(r->items * r->experts) * sizeof(sgm_real));
        }
    sgm_balance_set_seek(w->set, step, 4, 9);
    sgm_balance_set_begin_step(w->set, ITEMS, slots);
    on_team(3, layered_work, (void *)(uintptr_t)w);
    sgm_balance_set_end_step(w->set);
}

/* Two layers of one set give what two sets of one layer each give: values, measures, biases, gradients. */
static void as_by_themselves(const char *name, int scope, int mode) {
    const sgm_router router = router_new("top_k");
    const int64_t experts[] = {NARROW, WIDE};
    sgm_routing both[2][2], own[2][1][2];
    for (int l = 0; l < 2; l++)
        for (int half = 0; half < 2; half++)
            for (int copy = 0; copy < 2; copy++) {
                sgm_routing r = record_new(ITEMS / 2, experts[l], 1);
                random_logits(&r, 20 + (uint64_t)(2 * l + half), 1.5);
                route(&router, &r);
                r.layer = copy ? 0 : l;
                *(copy ? &own[l][0][half] : &both[l][half]) = r;
            }
    sgm_balance_member member = make(name, 0.7, scope, mode);
    sgm_balance_set *set;
    assert_int_equal(sgm_balance_set_new(&member, 1, 2, WIDE, 1, 3, &set, NULL), SGM_OK);
    sgm_balance_set_experts_of(set, experts);
    assert_int_equal(sgm_balance_set_reserve(set, ITEMS, ITEMS / 2, NULL), SGM_OK);
    for (int step = 0; step < 3; step++)
        layered_step(&(layered){set, both, 2}, step);
    for (int l = 0; l < 2; l++) {
        sgm_balance_member again = make(name, 0.7, scope, mode);
        sgm_balance_set *alone;
        assert_int_equal(sgm_balance_set_new(&again, 1, 1, experts[l], 1, 3, &alone, NULL), SGM_OK);
        assert_int_equal(sgm_balance_set_reserve(alone, ITEMS, ITEMS / 2, NULL), SGM_OK);
        for (int step = 0; step < 3; step++)
            layered_step(&(layered){alone, own[l], 1}, step);
        for (int half = 0; half < 2; half++)
            assert_memory_equal(both[l][half].d_logits, own[l][0][half].d_logits,
                                (size_t)(ITEMS / 2 * experts[l]) * sizeof(sgm_real));
        sgm_balance_measure of_both, of_own;
        for (size_t i = 0; sgm_balance_set_measure(alone, i, &of_own); i++) {
            assert_true(sgm_balance_set_measure(set, i, &of_both));
            assert_memory_equal(&of_both.values[l * of_both.stride], of_own.values, sizeof(double));
        }
        if (sgm_balance_set_bias(set))
            assert_memory_equal(sgm_balance_set_bias(set) + (ptrdiff_t)l * WIDE, sgm_balance_set_bias(alone),
                                (size_t)experts[l] * sizeof(sgm_real));
        sgm_balance_set_free(alone);
    }
    if (sgm_balance_set_bias(set)) /* behind the narrow layer's there is nothing */
        assert_true(sgm_balance_set_bias(set)[0] != 0 && sgm_balance_set_bias(set)[NARROW] == 0);
    sgm_balance_set_free(set);
    for (int l = 0; l < 2; l++)
        for (int half = 0; half < 2; half++) {
            record_free(&both[l][half]);
            record_free(&own[l][0][half]);
        }
    sgm_free(router.settings);
}

static void layers_of_different_experts(void **state) {
    (void)state;
    const sgm_balance_plugin *plugin;
    for (size_t i = 0; (plugin = sgm_balance_at(i)); i++) {
        bool scoped = has_param(&plugin->plugin, "scope");
        for (int scope = scoped ? SEQUENCE : GLOBAL; scope <= GLOBAL; scope++)
            for (int mode = EXACT; mode <= LAGGED; mode++)
                as_by_themselves(plugin->plugin.name, scope, mode);
    }
    as_by_themselves("load_balance_loss", SHUFFLE, EXACT);
}

static void arguments(void **state) {
    (void)state;
    sgm_balance_set *set = NULL;
    sgm_error error;
    assert_int_equal(sgm_balance_set_new(NULL, 0, 0, 4, 1, 1, &set, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_balance_set_new(NULL, 0, 2, 4, 1, 1, &set, &error), SGM_OK);
    assert_int_equal(sgm_balance_set_count(set), 0);
    assert_null(sgm_balance_set_name(set, 0));
    close_to(sgm_balance_set_total(set), 0, 0);
    sgm_balance_set_free(set);
    sgm_balance_set_free(NULL);
    /* Sums of every sequence that no machine holds: said, not tried, and the settings stay the caller's. */
    sgm_balance_member member = make("load_balance_loss", 1, SEQUENCE, EXACT);
    for (int64_t layers = 1 << 10; layers <= 1 << 20; layers <<= 10)
        assert_int_equal(sgm_balance_set_new(&member, 1, layers, 1 << 18, 1 << 24, 1, &set, &error), SGM_EMEMORY);
    sgm_free(member.settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(many_experts),
        cmocka_unit_test(perfect_balance),
        cmocka_unit_test(worst_balance),
        cmocka_unit_test(exact_equals_one_batch),
        cmocka_unit_test(modes),
        cmocka_unit_test(cancelled_step),
        cmocka_unit_test(lagged_across_a_switch),
        cmocka_unit_test(state_round_trip),
        cmocka_unit_test(layers_of_different_experts),
        cmocka_unit_test(arguments),
    };
    return cmocka_run_group_tests_name("balancers", tests, NULL, NULL);
}
