// SPDX-License-Identifier: Apache-2.0
/* What is made of traces: the recorder, and what stats and comparisons say of traces whose numbers were worked by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "trace_fixture.h"

/* ---- the recorder ---- */

enum { ROWS = 2500 };

static int64_t third_domain(const void *context, int64_t row) {
    return (*(const int64_t *)context + row) % 3;
}

/* A routing of ROWS rows, shown in batches of `batch`; with 3 slots in some batches, of which the last is not used. */
static sgm_buffer recorded(int64_t batch, bool wide) {
    static int32_t tokens[ROWS], targets[ROWS];
    sgm_buffer bytes = {0};
    sgm_trace_writer *writer;
    int64_t domain, first = 0, kept = 0;
    assert_int_equal(sgm_trace_create_in(&bytes, &small_about, &writer, NULL), SGM_OK);
    for (int d = 0; d < 3; d++)
        assert_int_equal(sgm_trace_domain(writer, (const char *[]){"a", "b", "c"}[d], &domain, NULL), SGM_OK);
    sgm_trace_recorder recorder = {0};
    sgm_trace_recorder_begin(&recorder, writer, L, E);
    recorder.domain_of = third_domain;
    recorder.context = &first;
    for (; first < ROWS; first += batch) {
        int64_t rows = ROWS - first < batch ? ROWS - first : batch;
        for (int64_t i = 0; i < rows; i++) {
            tokens[i] = (int32_t)((first + i) % V);
            targets[i] = (first + i) % 5 ? 1 : -1;
            kept += targets[i] >= 0;
        }
        recorder.tokens = tokens;
        recorder.targets = targets;
        for (int32_t l = 0; l < L; l++) {
            int64_t slots = wide ? 3 : per_token[l];
            sgm_routing record;
            void *block = sgm_alloc(sgm_routing_bytes(rows, E, slots));
            sgm_routing_place(&record, block, rows, E, slots);
            record.layer = l;
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t k = 0; k < slots; k++) {
                    uint64_t at = (uint64_t)((first + i) * 8 + l * 4 + k);
                    bool used = k < per_token[l];
                    record.expert[i * slots + k] = used ? (int32_t)(at * 7 % E) : -1;
                    record.weight[i * slots + k] = (sgm_real)sgm_rng_normal_at(1, 2, at);
                    record.flags[i * slots + k] = 0;
                }
                for (int64_t e = 0; e < E; e++)
                    record.probabilities[i * E + e] = (sgm_real)((first + i + e) % 4) / 8;
            }
            sgm_trace_record(&recorder, &record);
            sgm_free(block);
        }
    }
    int64_t written;
    assert_int_equal(sgm_trace_recorder_end(&recorder, &written, NULL), SGM_OK);
    assert_int_equal(written, kept);
    sgm_trace_recorder_fini(&recorder);
    return bytes;
}

static void batches_do_not_show(void **state) {
    (void)state;
    sgm_buffer whole = recorded(ROWS, false);
    for (int i = 0; i < 3; i++) {
        sgm_buffer cut = recorded((const int64_t[]){1, 37, 1024}[i], i == 1);
        assert_int_equal(cut.size, whole.size);
        assert_memory_equal(cut.data, whole.data, whole.size);
        sgm_buffer_free(&cut);
    }
    sgm_trace *trace;
    sgm_trace_block block;
    assert_int_equal(sgm_trace_parse(whole.data, whole.size, "recorded", &trace, NULL), SGM_OK);
    assert_int_equal(sgm_trace_about(trace)->tokens, 2000); /* four rows of five count */
    assert_int_equal(sgm_trace_about(trace)->blocks, 2);
    assert_int_equal(sgm_trace_read(trace, 1, &block, NULL), SGM_OK);
    assert_int_equal(block.tokens, 2000 - 1024);
    assert_true(block.slots[0] == 1 && block.slots[1] == 2);
    /* Token 1025 − 1 of those that count is row 1024 · 5 / 4 + 1 = 1281. */
    assert_int_equal(block.token[0], 1281 % V);
    assert_int_equal(block.domain[0], 1281 % 3);
    assert_int_equal(block.expert[0], 1281 * 8 * 7 % E);
    assert_true(block.weight[0] == (float)sgm_rng_normal_at(1, 2, 1281 * 8));
    /* Probabilities of domain 1, expert 2, layer 0: rows 1, 4, 7, … that are no multiples of 5. */
    double sum = 0;
    for (int row = 1; row < ROWS; row += 3)
        sum += row % 5 ? (row + 2) % 4 / 8.0 : 0;
    assert_true(sgm_trace_probability(trace, 1)[2] == sum);
    sgm_trace_close(trace);
    sgm_buffer_free(&whole);
}

/* ---- stats ---- */

/* Tokens with one expert in each of two layers, of two domains: experts by (layer, domain, token). */
static sgm_trace *pairs(sgm_buffer *bytes, const int32_t *first, const int32_t *second, int64_t tokens,
                        const int64_t *domains) {
    const int64_t one[L] = {1, 1};
    sgm_trace_info about = small_about;
    about.experts_per_token = one;
    about.null_experts = 0;
    sgm_trace_writer *writer;
    sgm_trace *trace;
    int64_t domain;
    assert_int_equal(sgm_trace_create_in(bytes, &about, &writer, NULL), SGM_OK);
    for (int d = 0; d < 3; d++) /* the third has no tokens */
        assert_int_equal(sgm_trace_domain(writer, (const char *[]){"a", "b", "none"}[d], &domain, NULL), SGM_OK);
    for (int64_t t = 0; t < tokens; t++) {
        const int32_t expert[L] = {first[t], second[t]};
        const float weight[L] = {0.5F, (float)first[t]};
        const sgm_trace_token token = {
            .token = (int32_t)(t % V), .domain = domains[t], .slots = one, .expert = expert, .weight = weight};
        assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
    }
    assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trace_parse(bytes->data, bytes->size, "pairs", &trace, NULL), SGM_OK);
    return trace;
}

/* Domain a: four tokens, b: two. Layer 0: a goes to expert 0, b to expert 1: divergence ln 2. Layer 1: a to 0 0 1 1, b to 0 0: the
 * mean of (1/2, 1/2) and (1, 0) is (3/4, 1/4) with entropy 0.5623351446, less half of ln 2: 0.2157615543.
 * Noise, with two experts used: (2 − 1)(1 − 1/2)(1/4 + 1/2) / 4 = 0.09375. */
static void domains_differ(void **state) {
    (void)state;
    const int32_t first[6] = {0, 0, 0, 0, 1, 1}, second[6] = {0, 0, 1, 1, 0, 0};
    const int64_t domains[6] = {0, 0, 0, 0, 1, 1};
    sgm_buffer bytes = {0};
    sgm_trace *trace = pairs(&bytes, first, second, 6, domains);
    sgm_trace_stats stats;
    assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
    assert_true(fabs(stats.domain_divergence_nats[0] - 0.6931471806) < 1e-9);
    assert_true(fabs(stats.domain_divergence_nats[1] - 0.2157615543) < 1e-9);
    assert_true(fabs(stats.domain_divergence_noise_nats[0] - 0.09375) < 1e-12);
    assert_true(stats.all.tokens == 6 && stats.domain[0].tokens == 4 && stats.domain[1].tokens == 2);
    const int64_t load[8] = {4, 2, 0, 0, 4, 2, 0, 0};
    assert_memory_equal(stats.all.load, load, sizeof load);
    assert_true(stats.all.layer[0].max_over_mean == 4 / 1.5 && stats.all.layer[0].dead_experts == 2);
    assert_true(stats.domain[1].layer[0].max_over_mean == 4 && stats.domain[1].layer[0].tokens == 2);
    assert_true(isnan(stats.all.layer[0].correlation)); /* no probabilities in it */
    assert_int_equal(stats.all.computed[0], 6);
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
}

/* Domains that are alike diverge by the noise, on average. */
static void noise_is_what_chance_shows(void **state) {
    (void)state;
    enum { TOKENS = 300, REPEATS = 200 };
    static int32_t expert[TOKENS];
    static int64_t domains[TOKENS];
    double found = 0, noise = 0;
    for (uint64_t r = 0; r < REPEATS; r++) {
        sgm_rng rng = sgm_rng_at(3, r, 0);
        for (int t = 0; t < TOKENS; t++) {
            expert[t] = (int32_t)sgm_rng_below(&rng, E);
            domains[t] = t < 200;
        }
        sgm_buffer bytes = {0};
        sgm_trace *trace = pairs(&bytes, expert, expert, TOKENS, domains);
        sgm_trace_stats stats;
        assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
        found += stats.domain_divergence_nats[0] / REPEATS;
        noise = stats.domain_divergence_noise_nats[0];
        sgm_trace_stats_free(&stats);
        sgm_trace_close(trace);
        sgm_buffer_free(&bytes);
    }
    assert_true(fabs(found / noise - 1) < 0.2);
}

/* Layer 0: of four tokens one moves from expert 1 to 2; layer 1: two swap, so the load stays. Tokens 1 and 2 and 3 change. */
static void traces_are_compared(void **state) {
    (void)state;
    const int32_t first[4] = {0, 1, 2, 3}, moved[4] = {0, 2, 2, 3}, second[4] = {0, 1, 2, 3}, swapped[4] = {0, 1, 3, 2};
    const int64_t domains[4] = {0, 0, 1, 1};
    sgm_buffer bytes[3] = {{0}};
    sgm_trace *a = pairs(&bytes[0], first, second, 4, domains), *b = pairs(&bytes[1], moved, swapped, 4, domains);
    sgm_trace *shorter = pairs(&bytes[2], first, second, 3, domains);
    sgm_trace_comparison c;
    sgm_error error = {0};
    assert_int_equal(sgm_trace_compare(a, b, &c, &error), SGM_OK);
    assert_true(c.tokens == 4 && c.layers == 2);
    assert_true(c.layer_changed[0] == 0.25 && c.layer_changed[1] == 0.5 && c.assignments_changed == 3.0 / 8);
    assert_true(c.tokens_changed == 0.75);
    assert_true(c.load_difference[0] == 0.25 && c.load_difference[1] == 0);
    /* Of the five assignments both made, that of token 1 in layer 1 has another weight (it is the expert of layer 0). */
    assert_true(c.weights_changed == 0.2);
    sgm_trace_comparison_free(&c);
    assert_int_equal(sgm_trace_compare(a, shorter, &c, &error), SGM_EARGUMENT);
    assert_null(c.layer_changed);
    assert_int_equal(sgm_trace_compare(a, a, &c, &error), SGM_EARGUMENT);
    sgm_buffer small = small_trace();
    sgm_trace *other;
    assert_int_equal(sgm_trace_parse(small.data, small.size, "small", &other, NULL), SGM_OK);
    assert_int_equal(sgm_trace_compare(a, other, &c, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "experts per token"));
    sgm_trace_close(other);
    sgm_buffer_free(&small);
    sgm_trace_close(a);
    sgm_trace_close(b);
    sgm_trace_close(shorter);
    for (int i = 0; i < 3; i++)
        sgm_buffer_free(&bytes[i]);
}

/* Of b the second token's expert 1 of layer 0 is dropped: a computed 0 and 1, b 0 alone, so that half the work is another's,
 * though both chose alike. Layer 1 is the same in both; its third token took the null expert. */
static void what_was_dropped_moves_work(void **state) {
    (void)state;
    const int64_t one[L] = {1, 1};
    const int32_t expert[3][L] = {{0, 0}, {1, 1}, {3, 3}};
    const float weight[L] = {1, 1};
    sgm_trace_info about = small_about;
    about.experts_per_token = one;
    sgm_buffer bytes[2] = {{0}};
    sgm_trace *trace[2];
    for (int i = 0; i < 2; i++) {
        sgm_trace_writer *writer;
        int64_t domain;
        assert_int_equal(sgm_trace_create_in(&bytes[i], &about, &writer, NULL), SGM_OK);
        assert_int_equal(sgm_trace_domain(writer, "a", &domain, NULL), SGM_OK);
        for (int t = 0; t < 3; t++) {
            uint8_t null = t == 2 ? SGM_TRACE_NULL : 0;
            const uint8_t flags[L] = {i == 1 && t == 1 ? SGM_TRACE_DROPPED : null, null};
            const sgm_trace_token token = {
                .token = t, .domain = domain, .slots = one, .expert = expert[t], .weight = weight, .flags = flags};
            assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
        }
        assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
        assert_int_equal(sgm_trace_parse(bytes[i].data, bytes[i].size, "dropping", &trace[i], NULL), SGM_OK);
    }
    sgm_trace_comparison c;
    assert_int_equal(sgm_trace_compare(trace[0], trace[1], &c, NULL), SGM_OK);
    assert_true(c.assignments_changed == 0);
    assert_true(c.load_difference[0] == 0.5 && c.load_difference[1] == 0);
    sgm_trace_comparison_free(&c);
    for (int i = 0; i < 2; i++) {
        sgm_trace_close(trace[i]);
        sgm_buffer_free(&bytes[i]);
    }
}

/* Null and dropped assignments are in the load, and not among those that cost a row; balance is that of the other experts. */
static void computed_assignments_are_told(void **state) {
    (void)state;
    sgm_buffer bytes = small_trace();
    sgm_trace *trace;
    sgm_trace_stats stats;
    assert_int_equal(sgm_trace_parse(bytes.data, bytes.size, "small", &trace, NULL), SGM_OK);
    assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
    const int64_t load[8] = {1, 1, 0, 1, 1, 1, 2, 1};
    assert_memory_equal(stats.all.load, load, sizeof load);
    assert_true(stats.all.computed[0] == 2 && stats.all.computed[1] == 3);
    const int64_t computed[8] = {1, 1, 0, 0, 1, 1, 1, 0};
    assert_memory_equal(stats.computed_load, computed, sizeof computed);
    /* 1, 1, 0 and 1, 1, 2: the last expert is null. */
    assert_int_equal(stats.null_experts, 1);
    assert_true(fabs(stats.all.layer[0].max_over_mean - 1.5) < 1e-12 && stats.all.layer[0].dead_experts == 1);
    assert_true(fabs(stats.all.layer[1].max_over_mean - 1.5) < 1e-12 && stats.all.layer[1].dead_experts == 0);
    assert_true(fabs(stats.all.layer[0].entropy_over_log_e - log(2) / log(3)) < 1e-12);
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_do_not_show),         cmocka_unit_test(domains_differ),
        cmocka_unit_test(noise_is_what_chance_shows),  cmocka_unit_test(traces_are_compared),
        cmocka_unit_test(what_was_dropped_moves_work), cmocka_unit_test(computed_assignments_are_told),
    };
    return cmocka_run_group_tests_name("trace_stats", tests, NULL, NULL);
}
