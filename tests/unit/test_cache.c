// SPDX-License-Identifier: Apache-2.0
/* Cache policies on sequences worked by hand, and the replay of traces: no policy beats the one that knows the future, and a
 * memory that fades wins where popularity drifts and not where it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/param.h"
#include "base/rng.h"
#include "moe/cache/cache.h"
#include "routing/trace.h"
#include "sigmoe/replay.h"

/* ---- sequences ---- */

typedef struct played {
    int64_t hits, passed_by, fallbacks;
} played;

/* `keys`, each a token of its own unless `tokens_of` > 1, in a pool of `layers` · `experts` keys. "key=value" on top of defaults. */
static played play(const char *policy, const int32_t *keys, size_t count, int64_t layers, int64_t experts,
                   int64_t capacity, size_t token_length, const double *settings) {
    const sgm_cache_plugin *plugin = sgm_cache_find(policy, NULL);
    assert_non_null(plugin);
    void *own = sgm_alloc(plugin->plugin.settings_bytes + 1);
    assert_int_equal(sgm_param_defaults(plugin->plugin.params, plugin->plugin.param_count, own, NULL), SGM_OK);
    for (size_t i = 0; settings && i < plugin->plugin.param_count; i++) { /* in the order of the table */
        char *at = (char *)own + plugin->plugin.params[i].offset;
        if (plugin->plugin.params[i].type == SGM_PARAM_REAL)
            *(double *)(void *)at = settings[i];
        else if (plugin->plugin.params[i].type == SGM_PARAM_INT)
            *(int64_t *)(void *)at = (int64_t)settings[i];
        else
            *(int *)(void *)at = (int)settings[i];
    }
    sgm_cache cache;
    assert_int_equal(sgm_cache_init(&cache, plugin, own, layers, experts, capacity, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++) {
        int64_t next = INT64_MAX;
        for (size_t j = count; j-- > i + 1;)
            if (keys[j] == keys[i])
                next = (int64_t)j;
        sgm_cache_use(&cache, keys[i], next);
        if ((i + 1) % token_length == 0)
            sgm_cache_end_token(&cache);
        assert_true(cache.count <= capacity);
    }
    assert_int_equal(cache.hit_count + cache.miss_count, (int64_t)count);
    assert_int_equal(cache.miss_count, cache.count + cache.evictions + cache.passed_by);
    played result = {cache.hit_count, cache.passed_by, cache.fallbacks};
    sgm_cache_fini(&cache);
    sgm_free(own);
    return result;
}

#define PLAY(policy, keys, capacity, settings)                                                                         \
    play(policy, keys, sizeof(keys) / sizeof *(keys), 1, 4, capacity, 1, settings)

/* 0 1 0 2 0 1 with room for two.
 * fifo: at 2 the first in, 0, goes; then 0 for 1, 1 for 2: only the third access hits.
 * lru: at 2 goes 1; 0 hits, 1 misses. lfu: 0 has two uses, so 1 goes: the same.
 * optimal: 2 is never needed again and passes by; 0 and 1 hit. */
static void sequences_by_hand(void **state) {
    (void)state;
    static const int32_t mixed[] = {0, 1, 0, 2, 0, 1};
    assert_int_equal(PLAY("fifo", mixed, 2, NULL).hits, 1);
    assert_int_equal(PLAY("lru", mixed, 2, NULL).hits, 2);
    assert_int_equal(PLAY("lfu", mixed, 2, NULL).hits, 2);
    assert_int_equal(PLAY("optimal", mixed, 2, NULL).hits, 3);
    assert_int_equal(PLAY("optimal", mixed, 2, NULL).passed_by, 1);
    /* Uses count whether an expert was held or not. At 2 (its 1st) goes 0 (1 use), at 0 (2nd) goes 2 (1), at 2 (2nd) goes 0 (2), at 0
     * (3rd) goes 2 (2); at 2 (3rd) 1 and 0 have three each and 1 was idle longer; 0 hits. With the two of 1: three hits. */
    static const int32_t counted[] = {1, 1, 0, 2, 1, 0, 2, 0, 2, 0};
    assert_int_equal(PLAY("lfu", counted, 2, NULL).hits, 3);
    /* 0 was used three times: lfu keeps it while 1 and 2 put each other out; lru lets it go and has them both. */
    static const int32_t turned[] = {0, 0, 0, 1, 2, 1, 2, 0};
    assert_int_equal(PLAY("lru", turned, 2, NULL).hits, 4);
    assert_int_equal(PLAY("lfu", turned, 2, NULL).hits, 3);
    /* Everything fits: only first uses miss. */
    for (size_t i = 0; sgm_cache_at(i); i++)
        assert_int_equal(PLAY(sgm_cache_at(i)->plugin.name, mixed, 3, NULL).hits, 3);
}

/* Hits halve after every access (period 1): 0 0 0 0 leaves 0 with ((1/2 + 1)/2 + 1)/2 … = 0.9375, and 1's access leaves 1 with
 * 0.5 and 0 with 0.46875: at the first 2 it is 0 that goes, and 1 and 2 hit from then on. Plain lfu keeps 0.
 * With a threshold of 1 nobody ever has enough hits: the fallback decides. lfu: as before. stream: 2 is never kept, 1 hits. */
static void hits_fade(void **state) {
    (void)state;
    static const int32_t keys[] = {0, 0, 0, 0, 1, 2, 1, 2, 1, 2};
    enum { LFU, STREAM };
    const double none[] = {0, 1, 0.5, LFU}, lfu[] = {1, 1, 0.5, LFU}, stream[] = {1, 1, 0.5, STREAM};
    const double never[] = {1, 1000, 0.5, STREAM}, kept[] = {1, 1, 1, STREAM};
    played p = PLAY("lfu_decay", keys, 2, none);
    assert_int_equal(p.hits, 7);
    assert_int_equal(p.fallbacks, 0);
    p = PLAY("lfu_decay", keys, 2, lfu);
    assert_int_equal(p.hits, 7);
    assert_int_equal(p.fallbacks, 1);
    p = PLAY("lfu_decay", keys, 2, stream);
    assert_int_equal(p.hits, 5);
    assert_int_equal(p.fallbacks, 3);
    assert_int_equal(p.passed_by, 3);
    /* Without decay every held expert has at least its first hit; 0 stays, 1 and 2 put each other out. */
    assert_int_equal(PLAY("lfu_decay", keys, 2, never).hits, 3);
    assert_int_equal(PLAY("lfu_decay", keys, 2, kept).hits, 3);
    assert_int_equal(PLAY("lfu_decay", keys, 2, kept).fallbacks, 0);
}

/* Two accesses a token. Every two tokens all hits are forgotten: at the 2 of the second token 0 still has its two and 1 goes (counted by
 * accesses 0 would have been forgotten, and gone). And what comes back begins anew: 1 left with three hits, returns with one,
 * and goes again before 0, which has three. */
static void periods_and_newcomers(void **state) {
    (void)state;
    const double forget[] = {0, 2, 0, 0}, never[] = {0, 1000, 1, 0};
    static const int32_t pairs[] = {0, 0, 1, 2, 0, 0}, back[] = {1, 1, 1, 0, 0, 0, 2, 1, 3, 0};
    assert_int_equal(play("lfu_decay", pairs, 6, 1, 4, 2, 2, forget).hits, 3);
    assert_int_equal(PLAY("lfu_decay", back, 2, never).hits, 5);
}

/* Three layers of two experts, keys 2 · layer + expert, each token through 0, 2, 4; room for two of all.
 * lru always gives up the one that comes next: no hit. least_stale: token 0 ends with {0, 4} (2's layer comes last from layer
 * 2); token 1: 0 hits, 2 takes the place of 0, 4 hits; token 2: 0 takes that of 4, 2 hits, 4 that of 2. Three hits.
 * optimal keeps 0 and 2 and lets 4 pass: two hits a token. */
static void layers_in_turn(void **state) {
    (void)state;
    static const int32_t keys[] = {0, 2, 4, 0, 2, 4, 0, 2, 4};
    assert_int_equal(play("lru", keys, 9, 3, 2, 2, 3, NULL).hits, 0);
    assert_int_equal(play("least_stale", keys, 9, 3, 2, 2, 3, NULL).hits, 3);
    assert_int_equal(play("optimal", keys, 9, 3, 2, 2, 3, NULL).hits, 4);
    /* Room for three. Token 1 takes expert 1 of layer 0: layer 2 comes last, 4 goes; 2 hits; then 4 is back for 0, which this
     * token has passed unused. Token 2 finds 1, 2 and 4. */
    static const int32_t changed[] = {0, 2, 4, 1, 2, 4, 1, 2, 4};
    assert_int_equal(play("least_stale", changed, 9, 3, 2, 3, 3, NULL).hits, 4);
    /* In a single layer it is lru. */
    static const int32_t mixed[] = {0, 1, 2, 0, 3, 1, 1, 0, 2, 3, 0, 1};
    for (int64_t capacity = 1; capacity <= 4; capacity++)
        assert_int_equal(PLAY("least_stale", mixed, capacity, NULL).hits, PLAY("lru", mixed, capacity, NULL).hits);
}

static void tables(void **state) {
    (void)state;
    size_t count = 0;
    for (; sgm_cache_at(count); count++) {
        const sgm_cache_plugin *p = sgm_cache_at(count);
        assert_ptr_equal(sgm_cache_find(p->plugin.name, NULL), p);
        assert_true(p->sooner && *p->plugin.summary);
    }
    assert_true(count >= 6);
    sgm_error error = {0};
    assert_null(sgm_cache_find("lrv", &error));
    assert_non_null(strstr(error.hint, "lru"));
}

/* ---- traces ---- */

enum { E = 24, L = 2 };

/* Zipf's law over experts whose order is shuffled anew every `drift` tokens (0: never). */
static sgm_trace *zipf_trace(sgm_buffer *bytes, int64_t tokens, int64_t drift, uint64_t seed) {
    const int64_t k[L] = {1, 1}, size[L] = {1000, 3000};
    const sgm_trace_info about = {.source = SGM_TRACE_EVAL,
                                  .step = -1,
                                  .vocabulary = 10,
                                  .layers = L,
                                  .experts = E,
                                  .experts_per_token = k,
                                  .expert_bytes = size};
    sgm_trace_writer *writer;
    sgm_trace *trace;
    int64_t domain;
    int32_t order[L][E] = {{0}};
    double sum = 0;
    for (int r = 1; r <= E; r++)
        sum += 1.0 / r;
    sgm_rng rng = sgm_rng_at(seed, 1, 0);
    assert_int_equal(sgm_trace_create_in(bytes, &about, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_trace_domain(writer, "zipf", &domain, NULL), SGM_OK);
    for (int64_t t = 0; t < tokens; t++) {
        int32_t expert[L];
        for (int l = 0; l < L; l++) {
            for (int32_t e = 0; e < E && (t == 0 || (drift && t % drift == 0)); e++) {
                int32_t other = (int32_t)(sgm_rng_uniform(&rng) * (e + 1));
                order[l][e] = order[l][other];
                order[l][other] = e;
            }
            double u = sgm_rng_uniform(&rng) * sum;
            int r = 0;
            while (r < E - 1 && (u -= 1.0 / (r + 1)) > 0)
                r++;
            expert[l] = order[l][r];
        }
        const float weight[L] = {1, 1};
        const int64_t slots[L] = {1, 1};
        const sgm_trace_token token = {
            .token = 1, .domain = domain, .slots = slots, .expert = expert, .weight = weight};
        assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
    }
    assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trace_parse(bytes->data, bytes->size, "zipf", &trace, NULL), SGM_OK);
    return trace;
}

static sgm_replay_result replay_run(const sgm_replay *replay, const char *policy, sgm_replay_pool pool,
                                    const char *const *settings, size_t count) {
    sgm_replay_result result;
    sgm_error error = {0};
    const sgm_replay_options options = {
        .policy = policy, .experts = 8, .pool = pool, .settings = settings, .setting_count = count};
    if (sgm_replay_run(replay, &options, &result, &error))
        fail_msg("%s", error.message);
    return result;
}

static double rate(const sgm_replay *replay, const char *policy) {
    sgm_replay_result result = replay_run(replay, policy, SGM_POOL_LAYER, NULL, 0);
    double hit_rate = result.hit_rate;
    sgm_replay_result_free(&result);
    return hit_rate;
}

static sgm_replay *replay_of(int64_t tokens, int64_t drift, uint64_t seed) {
    sgm_buffer bytes = {0};
    sgm_replay *replay;
    sgm_trace *trace = zipf_trace(&bytes, tokens, drift, seed);
    assert_int_equal(sgm_replay_new(trace, &replay, NULL), SGM_OK);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
    return replay;
}

static void decay_wins_under_drift_only(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        sgm_replay *drifting = replay_of(6000, 500, seed), *still = replay_of(6000, 0, seed);
        assert_true(rate(drifting, "lfu_decay") > rate(drifting, "lfu") + 0.02);
        assert_true(rate(still, "lfu_decay") <= rate(still, "lfu"));
        sgm_replay_free(drifting);
        sgm_replay_free(still);
    }
}

static void nothing_beats_the_optimum(void **state) {
    (void)state;
    for (int pool = 0; pool < 2; pool++)
        for (uint64_t seed = 1; seed <= 2; seed++) {
            sgm_replay *replay = replay_of(1500, 100, seed);
            sgm_replay_result best = replay_run(replay, "optimal", (sgm_replay_pool)pool, NULL, 0);
            for (size_t i = 0; sgm_cache_at(i); i++) {
                sgm_replay_result r = replay_run(replay, sgm_cache_at(i)->plugin.name, (sgm_replay_pool)pool, NULL, 0);
                assert_true(r.hits <= best.hits);
                assert_int_equal(r.hits + r.misses, 2 * 1500);
                assert_true(r.misses >= r.first_uses && r.first_uses <= L * E);
                /* Bytes: each layer's misses times the size of its experts. */
                double bytes = 1000.0 * (double)r.layer[0].misses + 3000.0 * (double)r.layer[1].misses;
                assert_true(fabs(r.bytes_read_per_token - bytes / 1500) < 1e-6);
                assert_int_equal(r.hits, r.layer[0].hits + r.layer[1].hits);
                sgm_replay_result_free(&r);
            }
            sgm_replay_result_free(&best);
            sgm_replay_free(replay);
        }
}

/* What a trace's header says may be more than there is memory for: said before it is used up. */
static void too_many_experts(void **state) {
    (void)state;
    const sgm_cache_plugin *plugin = sgm_cache_find("lru", NULL);
    sgm_cache cache;
    assert_int_equal(sgm_cache_init(&cache, plugin, NULL, 1 << 20, 1 << 20, 4, NULL), SGM_EMEMORY);
    assert_null(cache.place);
}

static void sizes_and_settings(void **state) {
    (void)state;
    sgm_replay *replay = replay_of(300, 0, 1);
    sgm_replay_result r;
    sgm_error error = {0};
    /* One expert of each layer is 4000 bytes: 11,999 bytes hold two of each. */
    sgm_replay_options options = {.policy = "lru", .bytes = 11999};
    assert_int_equal(sgm_replay_run(replay, &options, &r, &error), SGM_OK);
    assert_int_equal(r.capacity, 2);
    sgm_replay_result_free(&r);
    options.bytes = 3999;
    assert_int_equal(sgm_replay_run(replay, &options, &r, &error), SGM_EARGUMENT);
    options.bytes = 1e12; /* all of them */
    assert_int_equal(sgm_replay_run(replay, &options, &r, &error), SGM_OK);
    assert_int_equal(r.capacity, E);
    assert_int_equal(r.misses, r.first_uses);
    sgm_replay_result_free(&r);
    options.experts = 3; /* both */
    assert_int_equal(sgm_replay_run(replay, &options, &r, &error), SGM_EARGUMENT);
    options.bytes = 0;
    const char *const wrong[] = {"decay=2"}, *const unknown[] = {"half_life=3"}, *const bare[] = {"decay"};
    const char *const *sets[] = {wrong, unknown, bare};
    options.policy = "lfu_decay";
    options.setting_count = 1;
    for (size_t i = 0; i < 3; i++) {
        options.settings = sets[i];
        assert_int_equal(sgm_replay_run(replay, &options, &r, &error), SGM_EARGUMENT);
        assert_null(r.layer);
    }
    options.policy = "mru";
    options.setting_count = 0;
    assert_int_equal(sgm_replay_run(replay, &options, &r, &error), SGM_ENOTFOUND);
    /* A setting arrives: with threshold 1e9 and stream nothing is ever put out. */
    const char *const high[] = {"threshold=1e9", "fallback=stream"};
    r = replay_run(replay, "lfu_decay", SGM_POOL_LAYER, high, 2);
    assert_int_equal(r.evictions, 0);
    assert_int_equal(r.passed_by, r.fallbacks);
    assert_true(r.fallbacks > 0);
    sgm_replay_result_free(&r);
    sgm_replay_free(replay);
}

/* Null and dropped assignments ask for no expert. */
static void only_work_is_read(void **state) {
    (void)state;
    const int64_t k[1] = {3}, slots[1] = {3};
    const sgm_trace_info about = {
        .step = -1, .vocabulary = 4, .layers = 1, .experts = 4, .null_experts = 1, .experts_per_token = k};
    const int32_t expert[3] = {0, 3, 1};
    const float weight[3] = {0.5F, 0.3F, 0.2F};
    const uint8_t flags[3] = {0, SGM_TRACE_NULL, SGM_TRACE_DROPPED};
    sgm_buffer bytes = {0};
    sgm_trace_writer *writer;
    sgm_trace *trace;
    sgm_replay *replay;
    int64_t domain;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_trace_domain(writer, "d", &domain, NULL), SGM_OK);
    const sgm_trace_token token = {
        .domain = domain, .slots = slots, .expert = expert, .weight = weight, .flags = flags};
    for (int t = 0; t < 5; t++)
        assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
    assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trace_parse(bytes.data, bytes.size, "nulls", &trace, NULL), SGM_OK);
    assert_int_equal(sgm_replay_new(trace, &replay, NULL), SGM_OK);
    sgm_replay_result r = replay_run(replay, "lru", SGM_POOL_LAYER, NULL, 0);
    assert_int_equal(r.hits + r.misses, 5);
    assert_int_equal(r.first_uses, 1);
    assert_true(isnan(r.bytes_read_per_token)); /* the trace does not say how large an expert is */
    sgm_replay_result_free(&r);
    sgm_replay_free(replay);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_by_hand),
        cmocka_unit_test(hits_fade),
        cmocka_unit_test(periods_and_newcomers),
        cmocka_unit_test(layers_in_turn),
        cmocka_unit_test(tables),
        cmocka_unit_test(decay_wins_under_drift_only),
        cmocka_unit_test(nothing_beats_the_optimum),
        cmocka_unit_test(too_many_experts),
        cmocka_unit_test(sizes_and_settings),
        cmocka_unit_test(only_work_is_read),
    };
    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
