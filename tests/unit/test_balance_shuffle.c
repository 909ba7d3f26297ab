// SPDX-License-Identifier: Apache-2.0
/* The shuffle control: its groups part the batch, any cut and any number of threads give the same bytes, and in
 * expectation it is the global loss, where the micro-batch loss is another one. */
#include "balance_helper.h"
#include "moe/balance/set.h"

enum { T = 60, E = 10, K = 2, N = 25 };

static sgm_balance_set *shuffled(sgm_balance_member *member, int64_t tokens, int64_t micro) {
    *member = make("load_balance_loss", 0.5, SHUFFLE, EXACT);
    sgm_balance_set *set = set_of(member, 1, E);
    assert_int_equal(sgm_balance_set_reserve(set, tokens, micro, NULL), SGM_OK);
    return set;
}

/* Pieces of one routed batch in which tokens of a quarter have their own experts: domains in a row. */
static void cut(const int64_t *lengths, int64_t count, sgm_routing *record) {
    sgm_router router = router_new("top_k");
    sgm_routing whole = record_new(T, E, K);
    random_logits(&whole, 9, 1);
    for (int64_t t = 0; t < T; t++)
        for (int64_t e = 0; e < E; e++)
            whole.logits[t * E + e] += (sgm_real)(e / 3 == t * 4 / T ? 3 : 0);
    int64_t first = 0;
    for (int64_t i = 0; i < count; first += lengths[i], i++) {
        record[i] = record_new(lengths[i], E, K);
        memcpy(record[i].logits, whole.logits + first * E, (size_t)(lengths[i] * E) * sizeof(sgm_real));
        route(&router, &record[i]);
    }
    assert_int_equal(first, T);
    record_free(&whole);
    sgm_free(router.settings);
}

/* Groups of 25, 25 and 10 tokens: K choices a token in each, and together the batch's counts; another step, another deal. */
static void groups_part_the_batch(void **state) {
    (void)state;
    const int64_t lengths[] = {T};
    sgm_routing r;
    cut(lengths, 1, &r);
    int64_t counts[E];
    sgm_routing_counts(&r, counts);
    sgm_balance_member member;
    sgm_balance_set *set = shuffled(&member, T, N);
    double before[3 * E] = {0};
    for (int step = 0; step < 3; step++) {
        sgm_balance_set_seek(set, step, 3, 1);
        run_step(2, set, &r, 1);
        assert_int_equal(set->groups, 3);
        for (int g = 0; g < 3; g++) {
            double sum = 0;
            for (int e = 0; e < E; e++)
                sum += set->count_group[g * E + e];
            close_to(sum, K * (g < 2 ? N : T - 2 * N), 0);
        }
        for (int e = 0; e < E; e++)
            close_to(set->count_group[e] + set->count_group[E + e] + set->count_group[2 * E + e], (double)counts[e], 0);
        assert_memory_not_equal(set->count_group, before, sizeof before);
        memcpy(before, set->count_group, sizeof before);
    }
    sgm_balance_set_seek(set, 2, 3, 1); /* the same step again */
    run_step(3, set, &r, 1);
    assert_memory_equal(set->count_group, before, sizeof before);
    sgm_balance_set_seek(set, 2, 3, 2); /* another seed */
    run_step(1, set, &r, 1);
    assert_memory_not_equal(set->count_group, before, sizeof before);
    sgm_balance_set_free(set);
    record_free(&r);
}

/* Groups of 25 tokens whatever the micro-batches are: the same bytes. Cuts inside, at and beside the blocks' ends. */
static void any_cut(void **state) {
    (void)state;
    const int64_t lengths[][4] = {{60}, {25, 25, 10}, {30, 30}, {1, 24, 34, 1}}, pieces[] = {1, 3, 2, 4};
    sgm_real expected[T * E];
    double value = 0;
    for (int i = 0; i < 4; i++)
        for (int threads = 1; threads <= 3; threads++) {
            sgm_balance_member member;
            sgm_balance_set *set = shuffled(&member, T, N);
            assert_int_equal(sgm_balance_set_needs_count_pass(set, pieces[i]), pieces[i] > 1);
            sgm_routing record[4];
            cut(lengths[i], pieces[i], record);
            sgm_balance_set_seek(set, 5, 9, 1);
            run_step(threads, set, record, pieces[i]);
            double again = sgm_balance_set_value(set, 0, 0);
            if (i == 0 && threads == 1) {
                memcpy(expected, record[0].d_logits, sizeof expected);
                value = again;
            }
            assert_memory_equal(&again, &value, sizeof value);
            for (int64_t j = 0, first = 0; j < pieces[i]; first += lengths[i][j], j++) {
                assert_memory_equal(record[j].d_logits, expected + first * E,
                                    (size_t)(lengths[i][j] * E) * sizeof(sgm_real));
                record_free(&record[j]);
            }
            sgm_balance_set_free(set);
        }
}

/* One block by hand: f of group b, p of block b. */
static void is_f_of_the_group_and_p_of_the_block(void **state) {
    (void)state;
    const int64_t lengths[] = {T};
    sgm_routing r;
    cut(lengths, 1, &r);
    sgm_balance_member member;
    sgm_balance_set *set = shuffled(&member, T, N);
    run_step(1, set, &r, 1);
    double value = 0;
    for (int64_t b = 0; b < 3; b++) {
        int64_t first = b * N, last = b < 2 ? first + N : T;
        double tokens = (double)(last - first), p[E] = {0};
        for (int64_t t = first; t < last; t++)
            for (int e = 0; e < E; e++)
                p[e] += (double)r.probabilities[t * E + e] / tokens;
        for (int e = 0; e < E; e++)
            value += tokens / T * E * (set->count_group[b * E + e] / (K * tokens)) * p[e];
        for (int64_t t = first; t < last; t++) {
            double mean = 0;
            for (int e = 0; e < E; e++)
                mean += set->count_group[b * E + e] / (K * tokens) * (double)r.probabilities[t * E + e];
            for (int e = 0; e < E; e++)
                close_to((double)r.d_logits[t * E + e],
                         0.5 * E / T * (double)r.probabilities[t * E + e] *
                             (set->count_group[b * E + e] / (K * tokens) - mean),
                         1e-7);
        }
    }
    close_to(sgm_balance_set_value(set, 0, 0), value, 1e-6);
    sgm_balance_set_free(set);
    record_free(&r);
}

static double value_of(int scope, const int64_t *lengths, int64_t pieces) {
    sgm_routing record[4];
    cut(lengths, pieces, record);
    sgm_balance_member member = make("load_balance_loss", 0.5, scope, EXACT);
    sgm_balance_set *set = set_of(&member, 1, E);
    run_step(1, set, record, pieces);
    double value = sgm_balance_set_value(set, 0, 0);
    sgm_balance_set_free(set);
    for (int64_t i = 0; i < pieces; i++)
        record_free(&record[i]);
    return value;
}

/* Domains in a row: a micro-batch is uneven by itself (well above 1), the batch is not. Over 2000 deals the shuffled
 * loss has the global one's mean: within four standard errors, and those small beside the distance to the micro one. */
static void is_global_in_expectation(void **state) {
    (void)state;
    const int64_t quarters[] = {15, 15, 15, 15}, one[] = {T};
    double micro = value_of(MICRO, quarters, 4), global = value_of(GLOBAL, quarters, 4);
    assert_true(micro > global + 0.5);
    sgm_routing r;
    cut(one, 1, &r);
    sgm_balance_member member;
    sgm_balance_set *set = shuffled(&member, T, 15);
    enum { DEALS = 2000 };
    double sum = 0, squares = 0;
    for (int step = 0; step < DEALS; step++) {
        sgm_balance_set_seek(set, step, DEALS, 3);
        run_step(1, set, &r, 1);
        double value = sgm_balance_set_value(set, 0, 0);
        sum += value / DEALS;
        squares += value * value / DEALS;
    }
    double error = sqrt((squares - sum * sum) / DEALS);
    assert_true(error > 0 && error < 0.02);
    close_to(sum, global, 4 * error);
    sgm_balance_set_free(set);
    record_free(&r);
}

/* Nobody said how large a micro-batch is, or it is the batch: one group, the global loss byte for byte. */
static void one_group_is_global(void **state) {
    (void)state;
    const int64_t lengths[] = {20, 40};
    double global = value_of(GLOBAL, lengths, 2), alone = value_of(SHUFFLE, lengths, 2);
    close_to(alone, global, 1e-12);
    sgm_balance_member member;
    sgm_balance_set *set = shuffled(&member, T, T);
    assert_int_equal(set->groups, 1);
    assert_int_equal(sgm_balance_set_reserve(set, T, 0, NULL), SGM_EARGUMENT);
    assert_int_equal(sgm_balance_set_reserve(set, INT64_MAX, 1, NULL), SGM_EARGUMENT);
    sgm_routing r;
    const int64_t one[] = {T};
    cut(one, 1, &r);
    run_step(1, set, &r, 1);
    close_to(sgm_balance_set_value(set, 0, 0), global, 1e-12);
    record_free(&r);
    sgm_balance_set_free(set);
    /* Groups that no machine holds are refused, and the set goes on as it was. */
    sgm_balance_member wide = make("load_balance_loss", 0.5, SHUFFLE, EXACT);
    set = set_of(&wide, 1, 1 << 20);
    assert_int_equal(sgm_balance_set_reserve(set, INT32_MAX, 1, NULL), SGM_EMEMORY);
    const int64_t slots = 1;
    sgm_balance_set_begin_step(set, 1, &slots);
    sgm_balance_set_cancel_step(set);
    assert_int_equal(set->groups, 1);
    sgm_balance_set_free(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_part_the_batch),
        cmocka_unit_test(any_cut),
        cmocka_unit_test(is_f_of_the_group_and_p_of_the_block),
        cmocka_unit_test(is_global_in_expectation),
        cmocka_unit_test(one_group_is_global),
    };
    return cmocka_run_group_tests_name("shuffled balance", tests, NULL, NULL);
}
