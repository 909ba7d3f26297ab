// SPDX-License-Identifier: Apache-2.0
/* Traces of training steps: they change nothing, do not depend on threads or micro-batches, and inference with the weights of the
 * step routes its tokens the same way, weights included. */
#include <math.h>

#include "infer/engine.h"
#include "model/model_identity.h"
#include "unit/trainer_fixture.h"

enum { TRACE_STEP = 8, CONTEXT = 32, TOKENS = 128 };

/* Two balancers, one of which is a bias on selection that moves every step, and two experts a token. */
static const char *const with_traces[] = {"train.trace_every=4",
                                          "model.experts_per_token=2",
                                          "balance=load_balance_loss,loss_free_bias",
                                          "balance.1.rate=0.02",
                                          "train.checkpoint_every=1",
                                          "train.keep_checkpoints=20",
                                          NULL};

static char *trace_path(const char *run, int step) {
    char name[64];
    snprintf(name, sizeof name, "traces/step-%06d.trace", step);
    return join(path(run), name);
}

static sgm_trace *open_trace(const char *file) {
    sgm_trace *trace;
    sgm_error error = {0};
    if (sgm_trace_open(file, &trace, &error))
        fail_msg("%s", error.message);
    return trace;
}

/* The same of a model with attention experts, more of them than of the others: four routed sub-layers. */
static const char *const with_attention[] = {"train.trace_every=4",
                                             "model.attention_experts=12",
                                             "model.attention_experts_per_token=2",
                                             "balance=load_balance_loss,loss_free_bias",
                                             "balance.1.rate=0.02",
                                             "train.checkpoint_every=1",
                                             "train.keep_checkpoints=20",
                                             NULL};

/* ---- they are there and change nothing ---- */

static void steps_are_traced(void **state) {
    (void)state;
    train("traced", with_traces);
    const char *without[16];
    size_t n = 0;
    for (size_t i = 1; with_traces[i]; i++)
        without[n++] = with_traces[i];
    without[n] = NULL;
    train("plain", without);
    same_checkpoint("traced", "plain", 12);
    assert_false(sgm_path_exists(join(path("plain"), "traces")));
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(join(path("traced"), "traces"), &names, &count, NULL), SGM_OK);
    assert_int_equal(count, 3); /* steps 4, 8 and 12 */
    sgm_free(names);
    sgm_trace *trace = open_trace(trace_path("traced", TRACE_STEP));
    const sgm_trace_info *about = sgm_trace_about(trace);
    assert_true(about->complete && about->source == SGM_TRACE_TRAIN && about->step == TRACE_STEP);
    assert_true(about->tokens == TOKENS && about->layers == 2 && about->experts == 8);
    assert_int_equal(about->domains, 2);
    assert_string_equal(about->domain[0], "sea");
    assert_string_equal(about->domain[1], "land");
    assert_int_equal(about->expert_bytes[0], 3 * 64 * 32 * 4); /* pico: width 64, experts of 32, f32 */
    /* Its load is the one that was logged for that step. */
    sgm_trace_stats stats;
    assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
    for (int l = 0; l < 2; l++) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT max_over_mean FROM load WHERE step = 8 AND layer = %d", l);
        assert_true(fabs(query("traced", sql) - stats.all.layer[l].max_over_mean) < 1e-9);
        snprintf(sql, sizeof sql, "SELECT probability_entropy_over_log_e FROM load WHERE step = 8 AND layer = %d", l);
        assert_true(fabs(query("traced", sql) - stats.all.layer[l].probability_entropy_over_log_e) < 1e-9);
    }
    assert_int_equal(stats.domain[0].tokens % CONTEXT, 0); /* windows are of one domain */
    assert_int_equal(stats.domain[0].tokens + stats.domain[1].tokens, TOKENS);
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    remove_run("plain");
}

static void cut_otherwise(const char *run, const char *const *with) {
    const char *settings[16];
    size_t n = 0;
    for (; with[n]; n++)
        settings[n] = with[n];
    settings[n++] = "data.micro_batch_tokens=32";
    settings[n++] = "train.threads=3";
    settings[n++] = "train.recompute=layer";
    settings[n] = NULL;
    train("cut", settings);
    for (int step = 4; step <= 12; step += 4)
        same_file(trace_path(run, step), trace_path("cut", step));
    remove_run("cut");
}

static void threads_and_micro_batches_do_not_show(void **state) {
    (void)state;
    cut_otherwise("traced", with_traces);
}

/* ---- inference routes alike ---- */

/* The global batch of a step, made again: a trainer that resumes there has the loader's position. */
static sgm_packed *batch_of(sgm_trainer *trainer, int64_t tokens) {
    sgm_packed *packed;
    assert_int_equal(sgm_packed_new(tokens, CONTEXT, &packed, NULL), SGM_OK);
    sgm_loader_next(trainer->loader, tokens / CONTEXT, packed);
    return packed;
}

typedef struct fed {
    const sgm_packed *batch;
    int64_t row; /* of the batch that the engine's row 0 is */
} fed;

static int64_t domain_of(const void *context, int64_t row) {
    const fed *f = context;
    return f->batch->domain[(f->row + row) / CONTEXT];
}

/* Feed the batch to an engine document by document, `piece` tokens at a time, and trace it with `about`'s source and step. */
static sgm_status infer(sgm_engine *engine, const sgm_packed *batch, int64_t piece, const sgm_trace_info *like,
                        const char *file, sgm_error *error) {
    int64_t expert_bytes[4];
    sgm_trace_info about;
    sgm_trace_writer *writer;
    sgm_trace_recorder recorder = {0};
    fed f = {.batch = batch};
    sgm_model_about(engine->model, engine->model->selection_bias, engine->tokenizer, engine->experts_per_token,
                    expert_bytes, &about);
    about.source = like->source;
    about.step = like->step;
    assert_int_equal(sgm_trace_create(file, &about, &writer, error), SGM_OK);
    for (size_t d = 0; d < like->domains; d++) {
        int64_t index;
        assert_int_equal(sgm_trace_domain(writer, like->domain[d], &index, error), SGM_OK);
    }
    sgm_trace_recorder_begin(&recorder, writer, about.layers, sgm_trace_stride(&about));
    recorder.tokens = engine->tokens;
    recorder.domain_of = domain_of;
    recorder.context = &f;
    engine->observe = sgm_trace_record;
    engine->observer = &recorder;
    sgm_status status = SGM_OK;
    for (int64_t s = 0; !status && s < batch->rows.segment_count; s++) {
        const sgm_segment *segment = &batch->segments[s];
        sgm_session *session;
        assert_int_equal(sgm_session_new(engine, &session, error), SGM_OK);
        for (int64_t at = 0; !status && at < segment->rows; at += piece) {
            f.row = segment->row + at;
            status = sgm_session_feed(session, batch->tokens + f.row,
                                      segment->rows - at < piece ? segment->rows - at : piece, NULL, error);
        }
        sgm_session_free(session);
    }
    engine->observe = NULL;
    if (!status)
        status = sgm_trace_recorder_end(&recorder, NULL, error);
    sgm_trace_recorder_fini(&recorder);
    return status;
}

/* Step 8 is routed by the weights of checkpoint 7. The two files are the same, byte for byte: tokens, domains, experts, weights,
 * sums of probabilities, and the hash of the model. */
static void routes_alike(const char *run) {
    sgm_error error = {0};
    sgm_trace *trained = open_trace(trace_path(run, TRACE_STEP));
    assert_int_equal(unlink(join(path(run), "checkpoints/latest")), 0);
    char latest[64];
    for (int step = TRACE_STEP; step <= 12; step++) { /* so that resuming goes on at 7 */
        snprintf(latest, sizeof latest, "checkpoints/step-%06d", step);
        assert_int_equal(sgm_folder_remove(join(path(run), latest), NULL), SGM_OK);
    }
    sgm_trainer *trainer = resume(run, 0);
    assert_int_equal(trainer->stepper->step, TRACE_STEP - 1);
    sgm_packed *batch = batch_of(trainer, TOKENS);
    for (int i = 0; i < 3; i++) {
        const int64_t pieces[] = {CONTEXT, 1, 7};
        sgm_engine *engine;
        const sgm_engine_options options = {.threads = 1 + i, .kernels = "ref"};
        if (sgm_engine_open(join(path(run), "checkpoints/step-000007"), &options, &engine, &error))
            fail_msg("%s", error.message);
        if (infer(engine, batch, pieces[i], sgm_trace_about(trained), path("inferred.trace"), &error))
            fail_msg("%s", error.message);
        same_file(trace_path(run, TRACE_STEP), path("inferred.trace"));
        sgm_engine_close(engine);
    }
    sgm_trace *inferred = open_trace(path("inferred.trace"));
    sgm_trace_comparison c;
    assert_int_equal(sgm_trace_compare(trained, inferred, &c, &error), SGM_OK);
    assert_true(c.tokens == TOKENS && c.tokens_changed == 0 && c.weights_changed == 0);
    sgm_trace_comparison_free(&c);
    sgm_trace_close(inferred);
    sgm_trace_close(trained);
    sgm_packed_free(batch);
    sgm_trainer_close(trainer);
}

static void inference_routes_alike(void **state) {
    (void)state;
    routes_alike("traced");
}

/* A trace, run.sqlite and summary.json say which sub-layer is which, and each has as many experts as it has. */
static void attention_experts(void **state) {
    (void)state;
    train("attention", with_attention);
    sgm_trace *trace = open_trace(trace_path("attention", TRACE_STEP));
    const sgm_trace_info *about = sgm_trace_about(trace);
    assert_true(about->complete && about->layers == 4 && about->experts == 8 && about->attention_experts == 12);
    assert_int_equal(about->expert_bytes[0], 2 * 64 * 64 * 4); /* pico: four heads of 16 */
    assert_int_equal(about->expert_bytes[1], 3 * 64 * 32 * 4);
    assert_int_equal(about->experts_per_token[2], 2);
    assert_int_equal(about->experts_per_token[3], 1);
    sgm_trace_stats stats;
    assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
    for (int l = 0; l < 4; l++) {
        int64_t sum = 0, experts = l % 2 ? 8 : 12;
        for (int64_t e = 0; e < experts; e++)
            sum += stats.all.load[l * 12 + e];
        assert_int_equal(sum, l % 2 ? TOKENS : 2 * TOKENS);
        char sql[160];
        snprintf(sql, sizeof sql, "SELECT max_over_mean FROM load WHERE step = 8 AND layer = %d", l);
        assert_true(fabs(query("attention", sql) - stats.all.layer[l].max_over_mean) < 1e-9);
        snprintf(sql, sizeof sql, "SELECT entropy_over_log_e FROM load WHERE step = 8 AND layer = %d", l);
        assert_true(fabs(query("attention", sql) - stats.all.layer[l].entropy_over_log_e) < 1e-9);
        snprintf(sql, sizeof sql, "SELECT length(counts) FROM load WHERE step = 8 AND layer = %d", l);
        assert_true(query("attention", sql) == 4 * (double)experts);
        snprintf(
            sql, sizeof sql,
            "SELECT count(*) FROM routed_layers WHERE layer = %d AND of_layer = %d AND part = '%s' AND experts = %d", l,
            l / 2, l % 2 ? "feed_forward" : "attention", (int)experts);
        assert_true(query("attention", sql) == 1);
    }
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    char *text;
    size_t size;
    assert_int_equal(sgm_file_read(join(path("attention"), "summary.json"), 1 << 20, &text, &size, NULL), SGM_OK);
    assert_non_null(strstr(text, "\"layer\": 1,\n   \"part\": \"attention\""));
    assert_non_null(strstr(text, "\"layer\": 1,\n   \"part\": \"feed_forward\""));
    sgm_free(text);
    assert_int_equal(sgm_report_write(path("attention"), NULL, NULL), SGM_OK);
    assert_int_equal(sgm_file_read(join(path("attention"), "report.html"), 1 << 24, &text, &size, NULL), SGM_OK);
    assert_non_null(strstr(text, "2 layers of 12 attention experts (a) and 8 experts of the feed-forward (f)"));
    assert_non_null(strstr(text, ">1a</text>"));
    sgm_free(text);
    cut_otherwise("attention", with_attention);
    routes_alike("attention");
}

/* The header says what the step that follows will do, at a switch of sparsity too. */
static void the_number_of_experts_is_the_steps(void **state) {
    (void)state;
    train("sparse", (const char *[]){"train.trace_every=6", "sparsity.kind=progressive", "sparsity.layers=4,2",
                                     "sparsity.switch=0.5", NULL});
    for (int step = 6; step <= 12; step += 6) { /* of 12: 6 is the last before the switch */
        sgm_trace *trace = open_trace(trace_path("sparse", step));
        sgm_trace_block block;
        assert_int_equal(sgm_trace_read(trace, 0, &block, NULL), SGM_OK);
        for (int l = 0; l < 2; l++) {
            int64_t k = step == 6 ? 4 - 2 * l : 1;
            assert_int_equal(sgm_trace_about(trace)->experts_per_token[l], k);
            assert_int_equal(block.slots[l], k);
        }
        sgm_trace_close(trace);
    }
    remove_run("sparse");
}

/* A trace that cannot be written is told, and the run goes on. */
static void failures_are_told(void **state) {
    (void)state;
    sgm_trainer *trainer = start("stuck", with_traces);
    assert_int_equal(sgm_file_write(join(path("stuck"), "traces"), "", 0, NULL),
                     SGM_OK); /* a file where the folder goes */
    finish(trainer);
    assert_non_null(strstr(notes, "the trace of step 4 was not written"));
    remove_run("stuck");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_traced),
        cmocka_unit_test(threads_and_micro_batches_do_not_show),
        cmocka_unit_test(inference_routes_alike),
        cmocka_unit_test(attention_experts),
        cmocka_unit_test(the_number_of_experts_is_the_steps),
        cmocka_unit_test(failures_are_told),
    };
    return cmocka_run_group_tests_name("trainer_trace", tests, setup, teardown);
}
