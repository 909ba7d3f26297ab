// SPDX-License-Identifier: Apache-2.0
/* Sessions: however a sequence is fed, its logits are the same bytes; forks and truncation; errors change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model_folder.h"
#include "sigmoe/session.h"
#include "unit/model_fixture.h"

enum { V = 257, CONTEXT = 200, LENGTH = 150 };
static int32_t tokens[LENGTH + CONTEXT];
static float truth[LENGTH * V]; /* logits of tokens[0 … LENGTH), all rows, one prefill */
static sgm_engine *engine;      /* 2 threads, batch of 256, 7 pages */

static sgm_engine *open_engine(const char *name, int threads, int64_t batch, int64_t positions) {
    sgm_engine *opened;
    sgm_error error = {0};
    sgm_engine_options options = {.threads = threads, .kernels = "ref", .batch_tokens = batch, .kv_tokens = positions};
    if (sgm_engine_open(in_folder(name), &options, &opened, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    return opened;
}

static sgm_session *new_session(sgm_engine *of) {
    sgm_session *session;
    assert_int_equal(sgm_session_new(of, &session, NULL), SGM_OK);
    return session;
}

static void step_one(sgm_session *session, const int32_t *from, int64_t count, bool all, float *logits) {
    sgm_error error = {0};
    sgm_batch_item item = {session, from, count, all};
    if (sgm_engine_step(engine, &item, 1, logits, &error))
        fail_msg("%s", error.message);
}

static int set_up_with(void **state, const char *setting) {
    if (make_test_folder(state))
        return -1;
    make_model("model", (const char *const[]){"model.context=200", "model.experts_per_token=2", setting, NULL});
    for (int i = 0; i < LENGTH + CONTEXT; i++)
        tokens[i] = (int32_t)((i * i * 7 + i * 13 + 5) % V);
    engine = open_engine("model", 2, 256, 7 * 64);
    sgm_session *session = new_session(engine);
    step_one(session, tokens, LENGTH, true, truth);
    sgm_session_free(session);
    return 0;
}

static int set_up(void **state) {
    return set_up_with(state, NULL);
}

static int set_up_sticks(void **state) {
    return set_up_with(state, "model.attention=stick_breaking");
}

static int tear_down(void **state) {
    sgm_engine_close(engine);
    return remove_test_folder(state);
}

static const float *row(int64_t position) {
    return truth + position * V;
}

static void assert_row(const float *logits, int64_t position) {
    assert_memory_equal(logits, row(position), V * sizeof(float));
}

static void logits_depend_on_the_past(void **state) {
    (void)state;
    int64_t distinct = 0;
    for (int i = 1; i < LENGTH; i++)
        distinct += memcmp(row(i), row(0), V * sizeof(float)) != 0;
    assert_int_equal(distinct, LENGTH - 1);
    /* The same token later in the sequence sees another past. */
    for (int i = 0; i < LENGTH; i++)
        for (int j = i + 1; j < LENGTH; j++)
            if (tokens[i] == tokens[j])
                assert_memory_not_equal(row(i), row(j), V * sizeof(float));
}

static void one_by_one_is_prefill(void **state) {
    (void)state;
    static float logits[V];
    sgm_session *session = new_session(engine);
    for (int i = 0; i < LENGTH; i++) {
        step_one(session, tokens + i, 1, false, logits);
        assert_row(logits, i);
        assert_int_equal(sgm_session_length(session), i + 1);
    }
    sgm_session_free(session);
}

static void chunks_are_prefill(void **state) {
    (void)state;
    static float logits[LENGTH * V];
    static const int64_t sizes[][5] = {{64, 64, 22}, {63, 1, 1, 63, 22}, {65, 85}, {1, 127, 22}, {100, 50}};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        sgm_session *session = new_session(engine);
        int64_t at = 0;
        for (int i = 0; i < 5 && sizes[c][i]; i++) {
            step_one(session, tokens + at, sizes[c][i], true, logits);
            assert_memory_equal(logits, row(at), (size_t)(sizes[c][i] * V) * sizeof(float));
            at += sizes[c][i];
        }
        assert_int_equal(at, LENGTH);
        sgm_session_free(session);
    }
    /* feed cuts by the engine's batch. */
    sgm_engine *small = open_engine("model", 1, 7, 0);
    sgm_session *session = new_session(small);
    assert_int_equal(sgm_session_feed(session, tokens, LENGTH, logits, NULL), SGM_OK);
    assert_row(logits, LENGTH - 1);
    assert_int_equal(sgm_session_length(session), LENGTH);
    sgm_session_free(session);
    sgm_engine_close(small);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    static float logits[LENGTH * V];
    for (int threads = 1; threads <= 3; threads += 2) {
        sgm_engine *other = open_engine("model", threads, 256, 0);
        sgm_session *session = new_session(other);
        sgm_batch_item item = {session, tokens, LENGTH, true};
        assert_int_equal(sgm_engine_step(other, &item, 1, logits, NULL), SGM_OK);
        assert_memory_equal(logits, truth, sizeof truth);
        sgm_session_free(session);
        sgm_engine_close(other);
    }
}

/* The rule holds for whatever kernels this machine picks, which have bytes of their own. */
static void fast_kernels_keep_the_rule(void **state) {
    (void)state;
    static float whole[LENGTH * V], logits[V];
    sgm_engine *fast;
    sgm_engine_options options = {.threads = 2, .kernels = "auto", .batch_tokens = 256};
    assert_int_equal(sgm_engine_open(in_folder("model"), &options, &fast, NULL), SGM_OK);
    sgm_session *session = new_session(fast);
    sgm_batch_item item = {session, tokens, LENGTH, true};
    assert_int_equal(sgm_engine_step(fast, &item, 1, whole, NULL), SGM_OK);
    for (int64_t i = 0; i < LENGTH * V; i++)
        assert_true(whole[i] - truth[i] < 1e-3f && truth[i] - whole[i] < 1e-3f);
    assert_int_equal(sgm_session_truncate(session, 0, NULL), SGM_OK);
    for (int64_t i = 0; i < LENGTH; i++) {
        item = (sgm_batch_item){session, tokens + i, 1, false};
        assert_int_equal(sgm_engine_step(fast, &item, 1, logits, NULL), SGM_OK);
        assert_memory_equal(logits, whole + i * V, sizeof logits);
    }
    sgm_session_free(session);
    sgm_engine_close(fast);
}

static void a_batch_is_each_alone(void **state) {
    (void)state;
    static float logits[LENGTH * V];
    sgm_session *a = new_session(engine), *b = new_session(engine);
    step_one(a, tokens, 60, false, logits);
    step_one(b, tokens, 130, false, logits);
    const sgm_batch_item items[2] = {{a, tokens + 60, 10, false}, {b, tokens + 130, 3, true}};
    sgm_error error = {0};
    assert_int_equal(sgm_engine_step(engine, items, 2, logits, &error), SGM_OK);
    assert_row(logits, 69);
    assert_row(logits + V, 130);
    assert_row(logits + 2 * V, 131);
    assert_row(logits + 3 * V, 132);
    const sgm_batch_item decode[2] = {{b, tokens + 133, 1, false}, {a, tokens + 70, 1, false}};
    assert_int_equal(sgm_engine_step(engine, decode, 2, logits, &error), SGM_OK);
    assert_row(logits, 133);
    assert_row(logits + V, 70);
    sgm_session_free(a);
    sgm_session_free(b);
}

static void forks_share_and_part(void **state) {
    (void)state;
    static float logits[V], other[V];
    for (int64_t at = 63; at <= 65; at++) { /* around a page's end */
        sgm_session *a = new_session(engine), *b, *c;
        const int32_t strange[2] = {9, 250};
        step_one(a, tokens, at, false, logits);
        assert_int_equal(sgm_session_fork(a, &b, NULL), SGM_OK);
        assert_int_equal(sgm_session_fork(b, &c, NULL), SGM_OK);
        assert_int_equal(sgm_session_length(b), at);
        step_one(b, strange, 2, false, other); /* writes its own copy */
        for (int64_t i = at; i < at + 3; i++) {
            step_one(a, tokens + i, 1, false, logits);
            assert_row(logits, i);
        }
        assert_memory_not_equal(logits, other, sizeof logits);
        sgm_session_free(a); /* c lives on */
        step_one(c, tokens + at, 1, false, logits);
        assert_row(logits, at);
        sgm_session_free(b);
        step_one(c, tokens + at + 1, 1, false, logits);
        assert_row(logits, at + 1);
        sgm_session_free(c);
    }
}

/* Forks that write to a page they share: each copies it but the last, for which nobody else is left. */
static void forks_step_together(void **state) {
    (void)state;
    static float logits[3 * V];
    sgm_engine *small = open_engine("model", 1, 64, 2 * 64);
    sgm_session *a = new_session(small), *b, *c;
    sgm_error error = {0};
    assert_int_equal(sgm_session_feed(a, tokens, 10, NULL, &error), SGM_OK);
    assert_int_equal(sgm_session_fork(a, &b, NULL), SGM_OK);
    assert_int_equal(sgm_session_fork(a, &c, NULL), SGM_OK);
    /* Three holders, two pages: one is free. All three would need two copies, two of them as many. */
    sgm_batch_item items[3] = {{a, tokens + 10, 1, false}, {b, tokens + 10, 1, false}, {c, tokens + 10, 1, false}};
    assert_int_equal(sgm_engine_step(small, items, 3, logits, &error), SGM_ESPACE);
    assert_non_null(strstr(error.message, "2 more pages"));
    assert_int_equal(sgm_engine_step(small, items, 2, logits, &error), SGM_ESPACE);
    sgm_session_free(c);
    if (sgm_engine_step(small, items, 2, logits, &error))
        fail_msg("%s", error.message);
    assert_row(logits, 10);
    assert_row(logits + V, 10);
    sgm_session_free(b); /* the page that b had alone is free again */
    assert_int_equal(sgm_session_feed(a, tokens + 11, 117, NULL, &error), SGM_OK);
    sgm_session_free(a);
    sgm_engine_close(small);
}

static void truncation_goes_back(void **state) {
    (void)state;
    static float logits[V];
    sgm_session *session = new_session(engine), *fork;
    const int32_t strange[5] = {1, 2, 3, 4, 5};
    sgm_error error = {0};
    step_one(session, tokens, 70, false, logits);
    step_one(session, strange, 5, false, logits);
    assert_int_equal(sgm_session_fork(session, &fork, NULL), SGM_OK);
    for (int64_t length = 70; length >= 0; length -= 5) {
        assert_int_equal(sgm_session_truncate(session, length, NULL), SGM_OK);
        step_one(session, tokens + length, 1, false, logits);
        assert_row(logits, length);
    }
    /* The fork kept what it had. */
    assert_int_equal(sgm_session_truncate(fork, 70, NULL), SGM_OK);
    step_one(fork, tokens + 70, 1, false, logits);
    assert_row(logits, 70);
    assert_int_equal(sgm_session_truncate(fork, 72, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_session_truncate(fork, -1, &error), SGM_EARGUMENT);
    sgm_session_free(session);
    sgm_session_free(fork);
}

static void errors_change_nothing(void **state) {
    (void)state;
    static float logits[CONTEXT * V];
    sgm_session *a = new_session(engine), *b = new_session(engine), *c = new_session(engine);
    sgm_error error = {0};
    const int32_t bad[2] = {5, V}, negative[1] = {-1};
    step_one(a, tokens, 60, false, logits);
    step_one(b, tokens, 100, false, logits);
    const struct {
        sgm_batch_item items[2];
        size_t count;
        sgm_status status;
        const char *says;
    } cases[] = {
        {{{a, bad, 2, false}}, 1, SGM_EARGUMENT, "outside the vocabulary"},
        {{{b, tokens, 1, false}, {a, negative, 1, false}}, 2, SGM_EARGUMENT, "item 1"},
        {{{a, tokens, 1, false}, {a, tokens, 1, false}}, 2, SGM_EARGUMENT, "twice"},
        {{{a, tokens, 0, false}}, 1, SGM_EARGUMENT, "no tokens"},
        {{{a, tokens, 0, false}}, 0, SGM_EARGUMENT, "empty"},
        {{{a, tokens, CONTEXT - 60 + 1, false}}, 1, SGM_ESPACE, "context"},
        {{{a, tokens, 140, false}, {c, tokens, 117, false}}, 2, SGM_ESPACE, "256"}, /* rows */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(sgm_engine_step(engine, cases[i].items, cases[i].count, logits, &error), cases[i].status);
        if (!strstr(error.message, cases[i].says))
            fail_msg("case %zu: %s", i, error.message);
    }
    /* 7 pages: a has 1, b 2. c takes 4; then a cannot grow past its page, and nothing has changed. */
    assert_int_equal(sgm_session_feed(c, tokens, CONTEXT, NULL, &error), SGM_OK);
    sgm_batch_item more = {a, tokens + 60, 5, false};
    assert_int_equal(sgm_engine_step(engine, &more, 1, logits, &error), SGM_ESPACE);
    assert_non_null(strstr(error.message, "pages"));
    assert_int_equal(sgm_session_feed(c, tokens, 1, NULL, &error), SGM_ESPACE);
    assert_int_equal(sgm_session_feed(c, tokens, 0, NULL, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_session_length(a), 60);
    step_one(a, tokens + 60, 4, false, logits);
    assert_row(logits, 63);
    sgm_session_free(c);
    step_one(a, tokens + 64, 1, false, logits);
    assert_row(logits, 64);
    step_one(b, tokens + 100, 1, false, logits);
    assert_row(logits, 100);
    sgm_engine *other = open_engine("model", 1, 4, 64);
    sgm_session *stranger = new_session(other);
    sgm_batch_item item = {stranger, tokens, 1, false};
    assert_int_equal(sgm_engine_step(engine, &item, 1, logits, &error), SGM_EARGUMENT);
    /* A feed that fails half-way takes its first chunks back: 64 positions in all. */
    assert_int_equal(sgm_session_feed(stranger, tokens, 70, NULL, &error), SGM_ESPACE);
    assert_int_equal(sgm_session_length(stranger), 0);
    assert_int_equal(sgm_session_feed(stranger, tokens, 64, logits, &error), SGM_OK);
    assert_row(logits, 63);
    sgm_session_free(stranger);
    sgm_engine_close(other);
    sgm_session_free(a);
    sgm_session_free(b);
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    static float logits[LENGTH * V];
    sgm_session *a = new_session(engine), *b = new_session(engine);
    const sgm_batch_item items[2] = {{a, tokens, 100, true}, {b, tokens, 50, false}};
    uint64_t before = sgm_alloc_count();
    assert_int_equal(sgm_engine_step(engine, items, 2, logits, NULL), SGM_OK);
    for (int i = 0; i < 20; i++)
        step_one(a, tokens + 100 + i, 1, false, logits);
    assert_int_equal(sgm_alloc_count() - before, 0);
    sgm_session_free(a);
    sgm_session_free(b);
}

static void not_finite_is_said(void **state) {
    (void)state;
    static float logits[V];
    sgm_model *model;
    sgm_error error = {0};
    assert_int_equal(sgm_model_folder_load(in_folder("model"), false, &model, NULL, &error), SGM_OK);
    model->final_norm->data[3] = __builtin_nanf("");
    assert_int_equal(sgm_model_folder_save(model, model->selection_bias, NULL, NULL, in_folder("nan"), &error), SGM_OK);
    sgm_model_free(model);
    sgm_engine *bad = open_engine("nan", 2, 16, 0);
    sgm_session *session = new_session(bad);
    sgm_batch_item item = {session, tokens, 3, false};
    assert_int_equal(sgm_engine_step(bad, &item, 1, logits, &error), SGM_ENUMERIC);
    assert_int_equal(sgm_session_length(session), 0);
    sgm_session_free(session);
    sgm_engine_close(bad);
}

static void opening_checks_its_options(void **state) {
    (void)state;
    sgm_engine *opened;
    sgm_error error = {0};
    sgm_engine_options options = {.threads = -1};
    assert_int_equal(sgm_engine_open(in_folder("model"), &options, &opened, &error), SGM_EARGUMENT);
    options = (sgm_engine_options){.kernels = "refs"};
    assert_int_not_equal(sgm_engine_open(in_folder("model"), &options, &opened, &error), SGM_OK);
    assert_null(opened);
    options = (sgm_engine_options){.kv_tokens = (int64_t)1 << 35}; /* 32 TiB of keys and values */
    assert_int_equal(sgm_engine_open(in_folder("model"), &options, &opened, &error), SGM_EMEMORY);
    assert_non_null(strstr(error.message, "iB"));
    assert_int_equal(sgm_engine_open(in_folder("absent"), NULL, &opened, &error), SGM_ENOTFOUND);
    assert_string_equal(sgm_engine_info(engine)->model_type,
                        sgm_engine_info(engine)->settings.attention == SGM_ATTENTION_CAUSAL ? "qwen3_moe" : "sigmoe");
    assert_null(sgm_engine_tokenizer(engine));
}

typedef struct stream {
    int32_t ids[CONTEXT];
    int64_t count, stop_at;
} stream;

static bool receive(void *context, int32_t id, const char *bytes, size_t size) {
    stream *s = context;
    assert_non_null(bytes);
    assert_int_equal(size, 0); /* no tokenizer */
    s->ids[s->count++] = id;
    return s->count != s->stop_at;
}

static void generates(void **state) {
    (void)state;
    static float logits[V];
    sgm_session *a = new_session(engine), *b = new_session(engine);
    sgm_error error = {0};
    stream s = {.stop_at = -1};
    sgm_generate_options options = {
        .sampler = {.temperature = 0, .top_p = 1}, .tokens = 8, .token = receive, .context = &s};
    sgm_stop stopped = SGM_STOP_CONTEXT;
    options.stopped = &stopped;
    int32_t *ids;
    int64_t count;
    assert_int_equal(sgm_generate(a, tokens, 60, &options, &ids, &count, &error), SGM_OK);
    assert_int_equal(count, 8);
    assert_int_equal(s.count, 8);
    assert_int_equal(stopped, SGM_STOP_TOKENS);
    assert_memory_equal(ids, s.ids, 8 * sizeof *ids);
    assert_int_equal(sgm_session_length(a), 67); /* the last one is not fed */
    /* By hand: feed, take the largest, feed it. */
    assert_int_equal(sgm_session_feed(b, tokens, 60, logits, &error), SGM_OK);
    for (int i = 0; i < 8; i++) {
        int32_t best = 0;
        for (int32_t v = 1; v < V; v++)
            if (logits[v] > logits[best])
                best = v;
        assert_int_equal(best, ids[i]);
        assert_int_equal(sgm_session_feed(b, &best, 1, logits, &error), SGM_OK);
    }
    sgm_text_free((char *)ids);
    /* Sampling: cut in two calls or made in one, the same text. */
    options.sampler = (sgm_sampler_options){.temperature = 1, .top_p = 0.9, .top_k = 50, .seed = 3};
    options.token = NULL;
    int32_t *whole, *first, *second;
    int64_t n;
    assert_int_equal(sgm_session_truncate(a, 0, NULL), SGM_OK);
    assert_int_equal(sgm_generate(a, tokens, 10, &options, &whole, &count, &error), SGM_OK);
    assert_int_equal(sgm_session_truncate(a, 0, NULL), SGM_OK);
    options.tokens = 3;
    assert_int_equal(sgm_generate(a, tokens, 10, &options, &first, &n, &error), SGM_OK);
    options.tokens = 5;
    assert_int_equal(sgm_generate(a, first + 2, 1, &options, &second, &n, &error), SGM_OK);
    assert_memory_equal(whole, first, 3 * sizeof *whole);
    assert_memory_equal(whole + 3, second, 5 * sizeof *whole);
    sgm_text_free((char *)whole);
    sgm_text_free((char *)first);
    sgm_text_free((char *)second);
    /* The caller stops it; the context ends it; no prompt is an error. */
    s = (stream){.stop_at = 2};
    options.token = receive;
    options.tokens = 1000;
    assert_int_equal(sgm_session_truncate(a, 0, NULL), SGM_OK);
    assert_int_equal(sgm_generate(a, tokens, 10, &options, NULL, &count, &error), SGM_OK);
    assert_int_equal(count, 2);
    assert_int_equal(stopped, SGM_STOP_CALLER);
    s = (stream){.stop_at = -1};
    assert_int_equal(sgm_session_truncate(a, 0, NULL), SGM_OK);
    assert_int_equal(sgm_generate(a, tokens, CONTEXT - 3, &options, NULL, &count, &error), SGM_OK);
    assert_int_equal(count, 4);
    assert_int_equal(stopped, SGM_STOP_CONTEXT);
    assert_int_equal(sgm_session_length(a), CONTEXT);
    assert_int_equal(sgm_generate(a, tokens, 1, &options, NULL, &count, &error), SGM_ESPACE);
    assert_int_equal(sgm_session_truncate(a, 0, NULL), SGM_OK);
    assert_int_equal(sgm_generate(a, NULL, 0, &options, NULL, &count, &error), SGM_EARGUMENT);
    /* An error behind the prompt, here of the sampler, takes the prompt back too. */
    assert_int_equal(sgm_session_feed(a, tokens, 3, NULL, &error), SGM_OK);
    options.sampler.top_p = 0;
    assert_int_equal(sgm_generate(a, tokens, 10, &options, &ids, &count, &error), SGM_EARGUMENT);
    assert_null(ids);
    assert_int_equal(sgm_session_length(a), 3);
    sgm_session_free(a);
    sgm_session_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_depend_on_the_past),  cmocka_unit_test(one_by_one_is_prefill),
        cmocka_unit_test(chunks_are_prefill),         cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(fast_kernels_keep_the_rule), cmocka_unit_test(a_batch_is_each_alone),
        cmocka_unit_test(forks_share_and_part),       cmocka_unit_test(forks_step_together),
        cmocka_unit_test(truncation_goes_back),       cmocka_unit_test(errors_change_nothing),
        cmocka_unit_test(a_step_allocates_nothing),   cmocka_unit_test(not_finite_is_said),
        cmocka_unit_test(opening_checks_its_options), cmocka_unit_test(generates),
    };
    return cmocka_run_group_tests_name("session", tests, set_up, tear_down) +
           cmocka_run_group_tests_name("session, stick-breaking", tests, set_up_sticks, tear_down);
}
