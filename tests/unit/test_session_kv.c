// SPDX-License-Identifier: Apache-2.0
/* Keys and values in each storage type, and long contexts: whatever the type, decode, chunks, batches, forks and any number of
 * threads give the bytes of one prefill; memory stays linear in the context. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/engine.h"
#include "unit/model_fixture.h"

/* LENGTH: three parts of 512 positions; LONG: more than 16 bits with a sign; MIDDLE: twenty parts */
enum { V = 257, LENGTH = 1160, MIDDLE = 10000, LONG = 33000 };
static int32_t tokens[LONG];
static const char *const types[] = {"f32", "f16", "q8"};
static const char *const tables[] = {"ref", "auto"};

static sgm_engine *open_engine(const char *name, int threads, const char *kernels, const char *type, int64_t batch,
                               int64_t positions) {
    sgm_engine *opened;
    sgm_error error = {0};
    sgm_engine_options options = {
        .threads = threads, .kernels = kernels, .batch_tokens = batch, .kv_tokens = positions, .kv_type = type};
    if (sgm_engine_open(in_folder(name), &options, &opened, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    return opened;
}

static sgm_session *new_session(sgm_engine *of) {
    sgm_session *session;
    assert_int_equal(sgm_session_new(of, &session, NULL), SGM_OK);
    return session;
}

static void feed(sgm_session *session, int64_t count, float *logits) {
    sgm_error error = {0};
    if (count > 0 && sgm_session_feed(session, tokens + session->length, count, logits, &error))
        fail_msg("%s", error.message);
}

static int set_up(void **state) {
    if (make_test_folder(state))
        return -1;
    /* Three query heads to a key head: the rows of a tile are no power of two. */
    make_model("model",
               (const char *const[]){"model.context=1200", "model.heads=6", "model.experts_per_token=2", NULL});
    make_model("long", (const char *const[]){"model.context=33000", "model.layers=1", "model.width=16", "model.heads=2",
                                             "model.kv_heads=1", "model.head_size=4", "model.experts=2", NULL});
    for (int64_t i = 0; i < LONG; i++)
        tokens[i] = (int32_t)((i * i * 7 + i * 13 + 5 + i / V) % V);
    return 0;
}

/* Positions whose logits are compared: around the ends of pages and parts. */
static const int64_t places[] = {1, 63, 64, 65, 130, 511, 512, 513, 575, 576, 577, 1023, 1024, 1025, 1100, 1159};
enum { PLACES = sizeof places / sizeof *places };

/* logits[i]: those of the token at places[i], with all before it fed at once. */
static void prefill(const char *kernels, const char *type, float logits[PLACES][V]) {
    static float all[LENGTH * V];
    sgm_engine *engine = open_engine("model", 2, kernels, type, LENGTH, 0);
    sgm_session *session = new_session(engine);
    sgm_batch_item item = {session, tokens, LENGTH, true};
    assert_int_equal(sgm_engine_step(engine, &item, 1, all, NULL), SGM_OK);
    for (int i = 0; i < PLACES; i++)
        memcpy(logits[i], all + places[i] * V, V * sizeof(float));
    sgm_session_free(session);
    sgm_engine_close(engine);
}

static void each_is_prefill(const char *kernels, const char *type) {
    static float truth[PLACES][V], logits[V], pair[2 * V];
    prefill(kernels, type, truth);
    /* 3 threads and one row: parts of a tile are tasks; 1 thread: never. */
    for (int threads = 1; threads <= 3; threads += 2) {
        sgm_engine *engine = open_engine("model", threads, kernels, type, 100, 3 * 1200);
        sgm_session *whole = new_session(engine), *other = new_session(engine), *fork;
        for (int i = 0; i < PLACES; i++) { /* chunks up to the place, then one row */
            feed(whole, places[i] - whole->length, NULL);
            feed(whole, 1, logits);
            assert_memory_equal(logits, truth[i], sizeof logits);
        }
        /* A fork goes its own way and leaves the first alone; both at different depths in one step. */
        assert_int_equal(sgm_session_truncate(whole, 1100, NULL), SGM_OK);
        assert_int_equal(sgm_session_fork(whole, &fork, NULL), SGM_OK);
        feed(other, 63, NULL);
        const sgm_batch_item step[] = {{other, tokens + 63, 1, false}, {fork, tokens + 1100, 1, false}};
        assert_int_equal(sgm_engine_step(engine, step, 2, pair, NULL), SGM_OK);
        assert_memory_equal(pair, truth[1], sizeof logits);
        assert_memory_equal(pair + V, truth[14], sizeof logits);
        feed(whole, 1, logits);
        assert_memory_equal(logits, truth[14], sizeof logits);
        /* A chunk at a depth beside a single row at another. */
        const sgm_batch_item mixed[] = {{fork, tokens + 1101, 59, false}, {other, tokens + 64, 1, false}};
        assert_int_equal(sgm_engine_step(engine, mixed, 2, pair, NULL), SGM_OK);
        assert_memory_equal(pair, truth[15], sizeof logits);
        assert_memory_equal(pair + V, truth[2], sizeof logits);
        assert_int_equal(sgm_session_truncate(other, 63, NULL), SGM_OK);
        feed(other, 1, logits);
        assert_memory_equal(logits, truth[1], sizeof logits);
        sgm_session_free(whole);
        sgm_session_free(other);
        sgm_session_free(fork);
        sgm_engine_close(engine);
    }
}

static void f32_keeps_the_rule(void **state) {
    (void)state;
    each_is_prefill(tables[0], "f32");
    each_is_prefill(tables[1], "f32");
}

static void f16_keeps_the_rule(void **state) {
    (void)state;
    each_is_prefill(tables[0], "f16");
    each_is_prefill(tables[1], "f16");
}

static void q8_keeps_the_rule(void **state) {
    (void)state;
    each_is_prefill(tables[0], "q8");
    each_is_prefill(tables[1], "q8");
}

/* Rounded keys and values move the logits, by little: f16 keeps 11 bits, q8 about 7. */
static void types_round(void **state) {
    (void)state;
    static float logits[3][PLACES][V];
    for (int k = 0; k < 2; k++) {
        double worst[3] = {0};
        for (int t = 0; t < 3; t++)
            prefill(tables[k], types[t], logits[t]);
        for (int t = 1; t < 3; t++)
            for (int i = 0; i < PLACES; i++)
                for (int v = 0; v < V; v++)
                    worst[t] = fmax(worst[t], fabs((double)logits[t][i][v] - (double)logits[0][i][v]));
        assert_true(worst[1] > 0 && worst[1] < 0.02);
        assert_true(worst[2] > worst[1] && worst[2] < 0.5);
    }
}

static void types_are_chosen(void **state) {
    (void)state;
    sgm_kv_type type = SGM_KV_TYPES;
    sgm_error error = {0};
    assert_true(sgm_kv_type_choose(NULL, true, &type, &error) == SGM_OK && type == SGM_KV_F32);
    assert_true(sgm_kv_type_choose("auto", false, &type, &error) == SGM_OK && type == SGM_KV_F16);
    assert_true(sgm_kv_type_choose("q8", true, &type, &error) == SGM_OK && type == SGM_KV_Q8);
    assert_int_equal(sgm_kv_type_choose("q4", true, &type, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "f16"));
    sgm_engine *engine;
    sgm_engine_options options = {.kv_type = "f8"};
    assert_int_equal(sgm_engine_open(in_folder("model"), &options, &engine, &error), SGM_EARGUMENT);
    for (int i = 0; i < SGM_KV_TYPES; i++)
        assert_string_equal(sgm_kv_type_name(i), types[i]);
    assert_null(sgm_kv_type_name(SGM_KV_TYPES));
    /* 2 heads of 16, 64 positions, keys and values; q8 has a scale for each head's key and value of a position. */
    assert_int_equal(sgm_kv_pool_bytes(SGM_KV_F32, 3, 5, 2, 16), 3 * 5 * 2 * 64 * 2 * 16 * 4);
    assert_int_equal(sgm_kv_pool_bytes(SGM_KV_F16, 3, 5, 2, 16), 3 * 5 * 2 * 64 * 2 * 16 * 2);
    assert_int_equal(sgm_kv_pool_bytes(SGM_KV_Q8, 3, 5, 2, 16), 3 * 5 * 2 * 64 * 2 * (16 + 4));
    assert_true(sgm_kv_pool_bytes(SGM_KV_Q8, 1 << 20, INT32_MAX, 1 << 16, 1 << 16) == UINT64_MAX);
}

/* Keys that are not finite are no keys: int8 has no NaN, its scale has. */
static void q8_says_not_finite(void **state) {
    (void)state;
    static float logits[V];
    sgm_error error = {0};
    sgm_engine *engine = open_engine("model", 1, "auto", "q8", 16, 64);
    sgm_model *model = engine->model;
    for (int64_t i = 0; i < model->weight_count; i++)
        if (strstr(model->weights[i].name, "layers.1.self_attn.v_proj"))
            model->weights[i].data[3] = INFINITY;
    sgm_session *session = new_session(engine);
    assert_int_equal(sgm_session_feed(session, tokens, 3, logits, &error), SGM_ENUMERIC);
    sgm_session_free(session);
    sgm_engine_close(engine);
}

/* 33,000 positions in large chunks, then decode; the first 10,000 in chunks of another size too, on more threads. A step's memory
 * does not grow with the depth. */
static void a_long_context(void **state) {
    (void)state;
    static float middle[V], coarse[V], fine[V];
    sgm_engine *shallow = open_engine("long", 2, "auto", "q8", 4096, 4096);
    size_t step_bytes = shallow->value_bytes;
    sgm_engine_close(shallow);
    sgm_engine *engine = open_engine("long", 2, "auto", "q8", 4096, 0);
    assert_int_equal(engine->value_bytes, step_bytes);
    sgm_session *session = new_session(engine);
    feed(session, MIDDLE, middle);
    feed(session, LONG - MIDDLE, coarse);
    assert_int_equal(sgm_session_truncate(session, LONG - 3, NULL), SGM_OK);
    for (int i = 0; i < 3; i++)
        feed(session, 1, fine);
    assert_memory_equal(coarse, fine, sizeof coarse);
    assert_int_equal(engine->value_bytes, step_bytes);
    assert_int_equal(sgm_session_feed(session, tokens, 1, NULL, NULL), SGM_ESPACE);
    sgm_session_free(session);
    sgm_engine_close(engine);
    engine = open_engine("long", 3, "auto", "q8", 999, 0);
    session = new_session(engine);
    feed(session, MIDDLE, fine);
    assert_memory_equal(middle, fine, sizeof middle);
    sgm_session_free(session);
    sgm_engine_close(engine);
}

static size_t planned(int64_t context, size_t *gradient_bytes) {
    sgm_engine *engine = open_engine("long", 2, "ref", "f32", 1, 64); /* any model: a dry walk reads shapes */
    sgm_model *model = engine->model;
    sgm_error error = {0};
    sgm_segment segment = {.rows = context};
    int64_t starts[2] = {0, context};
    int32_t *ids = sgm_alloc((size_t)context * sizeof *ids);
    sgm_rows rows = {.rows = context,
                     .tokens = ids,
                     .positions = ids,
                     .targets = ids,
                     .segments = &segment,
                     .segment_count = 1,
                     .sequence_start = starts,
                     .sequence_count = 1};
    sgm_worker worker = {.threads = 2, .team = engine->team};
    sgm_tape *tape;
    sgm_plan plan;
    assert_int_equal(sgm_tape_new(NULL, &tape, &error), SGM_OK);
    sgm_walk dry = {.worker = &worker, .kernels = engine->kernels, .dry = true, .tape = tape, .error = &error};
    sgm_pass pass = {.loss_scale = 1};
    sgm_transformer_loss(&dry, model, &rows, &pass);
    assert_int_equal(dry.status, SGM_OK);
    assert_int_equal(sgm_plan_make(&dry, 2, &plan, &error), SGM_OK);
    size_t bytes = plan.value_bytes;
    *gradient_bytes = plan.gradient_bytes;
    sgm_plan_free(&plan);
    sgm_tape_free(tape);
    sgm_free(ids);
    sgm_engine_close(engine);
    return bytes;
}

/* Training windows of 32K: twice the context takes at most twice the memory. */
static void training_memory_is_linear(void **state) {
    (void)state;
    size_t gradients, twice_gradients;
    for (int64_t context = 4096; context <= 16384; context *= 2) {
        size_t once = planned(context, &gradients), twice = planned(2 * context, &twice_gradients);
        assert_true(twice > once && twice <= 2 * once);
        assert_true(twice_gradients > gradients && twice_gradients <= 2 * gradients);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_keeps_the_rule), cmocka_unit_test(f16_keeps_the_rule),
        cmocka_unit_test(q8_keeps_the_rule),  cmocka_unit_test(types_round),
        cmocka_unit_test(types_are_chosen),   cmocka_unit_test(q8_says_not_finite),
        cmocka_unit_test(a_long_context),     cmocka_unit_test(training_memory_is_linear),
    };
    return cmocka_run_group_tests_name("keys and values", tests, set_up, remove_test_folder);
}
