// SPDX-License-Identifier: Apache-2.0
/* Evaluation against a plain restatement: logits of sessions, log-softmax in f64, windows written out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eval/traced.h"
#include "infer/engine.h"
#include "model/model_folder.h"
#include "sigmoe/data.h"
#include "sigmoe/stats.h"
#include "sigmoe/text.h"
#include "unit/model_fixture.h"

enum { V = 257, END = 256, CONTEXT = 16 };
static unsigned char text[100];
static sgm_engine_options options = {.threads = 2, .kernels = "ref", .batch_tokens = 40};

static int set_up(void **state) {
    sgm_tokenizer *bytes;
    sgm_config *config;
    sgm_error error = {0};
    if (make_test_folder(state))
        return -1;
    assert_int_equal(sgm_tokenizer_bytes(&bytes, NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_save(bytes, in_folder("tokenizer"), NULL), SGM_OK);
    sgm_tokenizer_close(bytes);
    assert_int_equal(sgm_config_new(&config, NULL), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", NULL), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.context", "16", "test", NULL), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.experts_per_token", "2", "test", NULL), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.init_std", "0.2", "test", NULL), SGM_OK);
    if (sgm_model_init(config, in_folder("tokenizer"), 3, "f32", in_folder("model"), NULL, &error))
        fail_msg("%s", error.message);
    sgm_config_free(config);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)(i * i * 3 + 7 * i + 40); /* any bytes, some not UTF-8 */
    return sgm_file_write(in_folder("text"), text, sizeof text, NULL) ? -1 : 0;
}

static sgm_evaluation evaluate(const char *path, int64_t limit) {
    sgm_evaluation evaluation;
    sgm_error error = {0};
    const char *paths[1] = {path};
    if (sgm_evaluate(in_folder("model"), &options, paths, 1, limit, &evaluation, &error))
        fail_msg("%s", error.message);
    return evaluation;
}

/* −log p of text[score … end) with the rows [begin, end) as one window; row r reads the byte before r. */
static double window_nats(sgm_engine *engine, int64_t begin, int64_t end, int64_t score) {
    static float logits[CONTEXT * V];
    int32_t tokens[CONTEXT];
    sgm_session *session;
    double nats = 0;
    for (int64_t r = begin; r < end; r++)
        tokens[r - begin] = r ? text[r - 1] : END;
    assert_int_equal(sgm_session_new(engine, &session, NULL), SGM_OK);
    sgm_batch_item item = {session, tokens, end - begin, true};
    assert_int_equal(sgm_engine_step(engine, &item, 1, logits, NULL), SGM_OK);
    for (int64_t r = score; r < end; r++) {
        const float *row = logits + (r - begin) * V;
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp((double)row[v]);
        nats += log(sum) - (double)row[text[r]];
    }
    sgm_session_free(session);
    return nats;
}

/* Returns the nats. */
static double is_restated(const char *kv_type) {
    sgm_engine *engine;
    options.kv_type = kv_type;
    assert_int_equal(sgm_engine_open(in_folder("model"), &options, &engine, NULL), SGM_OK);
    /* 16 rows, then 8 new ones a window: 0-16, 8-24, … and the last, 88-100, of which 96-100 are new. */
    double nats = window_nats(engine, 0, 16, 0);
    for (int64_t begin = 8; begin <= 80; begin += 8)
        nats += window_nats(engine, begin, begin + 16, begin + 8);
    nats += window_nats(engine, 88, 100, 96);
    sgm_engine_close(engine);
    sgm_evaluation e = evaluate(in_folder("text"), 0);
    assert_int_equal(e.tokens, 100);
    assert_int_equal(e.bytes, 100);
    assert_true(fabs(e.loss_nats_per_token - nats / 100) < 1e-5);
    assert_true(fabs(e.bits_per_byte - nats / 100 / log(2)) < 1e-5);
    assert_true(fabs(e.perplexity - exp(nats / 100)) < 1e-3 * e.perplexity);
    /* Each scored row goes to two experts in each layer. */
    assert_int_equal(e.layers, 2);
    assert_int_equal(e.experts, 8);
    for (int64_t l = 0; l < 2; l++) {
        int64_t sum = 0, most = 0;
        for (int64_t i = 0; i < 8; i++) {
            sum += e.load[l * 8 + i];
            most = e.load[l * 8 + i] > most ? e.load[l * 8 + i] : most;
        }
        assert_int_equal(sum, 200);
        assert_int_equal(e.layer[l].tokens, 100);
        assert_true(fabs(e.layer[l].max_over_mean - (double)most / 25) < 1e-9);
    }
    sgm_evaluation_free(&e);
    options.kv_type = NULL;
    return nats;
}

static void is_the_plain_restatement(void **state) {
    (void)state;
    double exact = is_restated("f32");
    assert_true(is_restated(NULL) == exact);
    /* Rounded keys and values count as they do in sessions. */
    assert_true(is_restated("f16") != exact);
    assert_true(is_restated("q8") != exact);
}

static void a_limit_counts_tokens(void **state) {
    (void)state;
    sgm_evaluation whole = evaluate(in_folder("text"), 0), some = evaluate(in_folder("text"), 21);
    assert_int_equal(some.tokens, 21);
    assert_int_equal(some.bytes, 21);
    assert_int_equal(some.layer[0].tokens, 21);
    assert_true(fabs(some.loss_nats_per_token - whole.loss_nats_per_token) > 1e-6);
    sgm_evaluation_free(&whole);
    sgm_evaluation_free(&some);
    assert_int_equal(sgm_file_write(in_folder("one"), "x", 1, NULL), SGM_OK);
    some = evaluate(in_folder("one"), 0);
    assert_int_equal(some.bytes, 1);
    sgm_evaluation_free(&some);
}

static void a_separator_parts_documents(void **state) {
    (void)state;
    static const char both[] = "first words\n<|endoftext|>\nother words\n<|endoftext|>\n\n";
    assert_int_equal(sgm_file_write(in_folder("both"), both, sizeof both - 1, NULL), SGM_OK);
    double nats = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sgm_file_write(in_folder("single"), i ? "other words\n" : "first words\n", 12, NULL), SGM_OK);
        sgm_evaluation one = evaluate(in_folder("single"), 0);
        nats += one.loss_nats_per_token * (double)one.tokens;
        sgm_evaluation_free(&one);
    }
    sgm_evaluation e = evaluate(in_folder("both"), 0);
    assert_int_equal(e.tokens, 24);
    assert_int_equal(e.bytes, 24);
    assert_true(fabs(e.loss_nats_per_token * 24 - nats) < 1e-4 * nats);
    sgm_evaluation_free(&e);
    e = evaluate(in_folder("both"), 15);
    assert_int_equal(e.tokens, 15);
    assert_int_equal(e.bytes, 15);
    sgm_evaluation_free(&e);
}

static void reads_the_heldout_split(void **state) {
    (void)state;
    sgm_error error = {0};
    char line[64], name[32];
    assert_int_equal(sgm_folder_make(in_folder("raw/prose"), NULL), SGM_OK);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "raw/prose/%d.txt", i);
        int n = snprintf(line, sizeof line, "document number %d says %d\n", i, i * i * 7919);
        assert_int_equal(sgm_file_write(in_folder(name), line, (size_t)n, NULL), SGM_OK);
    }
    sgm_data_source source = {.domain = "prose", .path = in_folder("raw/prose")};
    char tokenizer[256];
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer", test_folder);
    sgm_data_build_options build = {
        .sources = &source, .source_count = 1, .tokenizer_path = tokenizer, .heldout_share = 0.3};
    if (sgm_data_build(&build, in_folder("data"), &error))
        fail_msg("%s", error.message);
    sgm_corpus *corpus;
    assert_int_equal(sgm_corpus_open(in_folder("data"), &corpus, &error), SGM_OK);
    int64_t bytes = sgm_corpus_bytes(corpus, SGM_HELDOUT, 0);
    /* One document by hand: its text as a file has the same loss as in the split. */
    int64_t documents = sgm_corpus_documents(corpus, SGM_HELDOUT, 0);
    double nats = 0;
    for (int64_t d = 0; d < documents; d++) {
        int64_t count, size;
        const int32_t *tokens = sgm_corpus_document(corpus, SGM_HELDOUT, 0, d, &count, &size);
        assert_int_equal(tokens[count - 1], END);
        for (int64_t i = 0; i + 1 < count; i++)
            line[i] = (char)tokens[i];
        assert_int_equal(sgm_file_write(in_folder("single"), line, (size_t)count - 1, NULL), SGM_OK);
        sgm_evaluation one = evaluate(in_folder("single"), 0);
        nats += one.loss_nats_per_token * (double)one.tokens;
        sgm_evaluation_free(&one);
    }
    sgm_corpus_close(corpus);
    sgm_evaluation e = evaluate(in_folder("data"), 0);
    assert_true(bytes > 0);
    assert_int_equal(e.bytes, bytes);
    assert_int_equal(e.tokens, bytes);
    assert_true(fabs(e.loss_nats_per_token * (double)e.tokens - nats) < 1e-4 * nats);
    sgm_evaluation_free(&e);
}

/* A copy of the model whose router in layer 1 has its rows moved by one: every token's two experts there are the next ones. */
static void make_turned(void) {
    sgm_model *model;
    int64_t *per_token;
    sgm_error error = {0};
    if (sgm_model_folder_load(in_folder("model"), false, &model, &per_token, &error))
        fail_msg("%s", error.message);
    const sgm_weight *gate = model->layers[1].gate;
    int64_t E = model->settings.experts, D = model->settings.width;
    sgm_real *last = malloc((size_t)D * sizeof *last);
    assert_non_null(last);
    memcpy(last, gate->data + (E - 1) * D, (size_t)D * sizeof *last);
    memmove(gate->data + D, gate->data, (size_t)((E - 1) * D) * sizeof *last);
    memcpy(gate->data, last, (size_t)D * sizeof *last);
    free(last);
    if (sgm_model_folder_save(model, model->selection_bias, per_token, in_folder("tokenizer"), in_folder("turned"),
                              &error))
        fail_msg("%s", error.message);
    sgm_model_free(model);
    sgm_free(per_token);
}

/* What went in is end-of-text and the text but for its last byte. */
static void routes_are_kept(void **state) {
    (void)state;
    sgm_evaluation e;
    sgm_trace *trace;
    sgm_trace_block block;
    sgm_trace_stats stats;
    const char *path = in_folder("text"), *model = in_folder("model");
    char file[256];
    snprintf(file, sizeof file, "%s", in_folder("text.trace"));
    assert_int_equal(sgm_trace_evaluate(model, &options, &path, 1, 0, file, &e, NULL), SGM_OK);
    assert_int_equal(sgm_trace_open(file, &trace, NULL), SGM_OK);
    const sgm_trace_info *about = sgm_trace_about(trace);
    assert_true(about->complete && about->tokens == 100 && about->blocks == 1 && about->source == SGM_TRACE_EVAL);
    assert_string_equal(about->domain[0], "text");
    assert_int_equal(sgm_trace_read(trace, 0, &block, NULL), SGM_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(block.token[i], i ? text[i - 1] : END);
    /* The same load and the same numbers as the evaluation's own. */
    assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
    assert_memory_equal(stats.all.load, e.load, 16 * sizeof *e.load);
    for (int l = 0; l < 2; l++) {
        const sgm_layer_stats *a = &stats.all.layer[l], *b = &e.layer[l];
        assert_int_equal(a->tokens, b->tokens);
        assert_true(a->max_violation == b->max_violation && a->entropy_over_log_e == b->entropy_over_log_e);
        assert_true(fabs(a->probability_entropy_over_log_e - b->probability_entropy_over_log_e) < 1e-12);
        assert_true(fabs(a->correlation - b->correlation) < 1e-9 && a->noise_floor == b->noise_floor);
        assert_int_equal(stats.all.computed[l], 200);
    }
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    sgm_evaluation_free(&e);
}

static sgm_trace *generated(sgm_engine *engine, const int32_t *prompt, int64_t count, int64_t tokens,
                            const char *name) {
    const sgm_generate_options how = {.sampler = {.top_p = 1}, .tokens = tokens, .ignore_end_of_text = true};
    sgm_trace *trace;
    sgm_error error = {0};
    int64_t traced;
    if (sgm_trace_generate(engine, prompt, count, &how, in_folder(name), &traced, &error))
        fail_msg("%s", error.message);
    assert_int_equal(traced, count + (tokens ? tokens - 1 : 0));
    assert_int_equal(sgm_trace_open(in_folder(name), &trace, &error), SGM_OK);
    return trace;
}

/* Written one by one or read at once, tokens take the same way. */
static void generation_is_traced(void **state) {
    (void)state;
    sgm_engine *engine;
    const int32_t prompt[4] = {END, 'a', 'b', 'c'};
    int32_t all[11];
    sgm_trace_block block;
    assert_int_equal(sgm_engine_open(in_folder("model"), &options, &engine, NULL), SGM_OK);
    sgm_trace *spoken = generated(engine, prompt, 4, 8, "spoken.trace");
    const sgm_trace_info *about = sgm_trace_about(spoken);
    assert_true(about->source == SGM_TRACE_GENERATE && about->domains == 2);
    assert_int_equal(sgm_trace_read(spoken, 0, &block, NULL), SGM_OK);
    for (int i = 0; i < 11; i++) {
        all[i] = block.token[i];
        assert_int_equal(block.domain[i], i >= 4);
    }
    assert_memory_equal(all, prompt, sizeof prompt);
    sgm_trace *read = generated(engine, all, 11, 0, "read.trace");
    sgm_trace_comparison c;
    assert_int_equal(sgm_trace_compare(spoken, read, &c, NULL), SGM_OK);
    assert_true(c.tokens == 11 && c.assignments_changed == 0 && c.weights_changed == 0);
    sgm_trace_comparison_free(&c);
    sgm_trace_close(spoken);
    sgm_trace_close(read);
    assert_null(engine->observe);
    sgm_engine_close(engine);
}

static void models_are_compared(void **state) {
    (void)state;
    char model[256], turned[256], path[256];
    const char *paths[1] = {path};
    sgm_comparison c;
    sgm_error error = {0};
    snprintf(model, sizeof model, "%s/model", test_folder);
    snprintf(turned, sizeof turned, "%s/turned", test_folder);
    snprintf(path, sizeof path, "%s/text", test_folder);
    make_turned();
    assert_int_equal(sgm_evaluate_against(model, model, &options, paths, 1, 0, &c, &error), SGM_OK);
    assert_true(c.assignments_changed == 0 && c.tokens_changed == 0 && c.layers == 2);
    assert_true(c.layer_changed[0] == 0 && c.layer_changed[1] == 0);
    assert_true(c.model.bits_per_byte == c.against.bits_per_byte && c.model.tokens == 100);
    sgm_comparison_free(&c);

    if (sgm_evaluate_against(model, turned, &options, paths, 1, 0, &c, &error))
        fail_msg("%s", error.message);
    /* Two experts {a, b} became {a+1, b+1}: one is among the old where they are neighbours, never both. */
    assert_true(c.layer_changed[0] == 0 && c.layer_changed[1] >= 0.5 && c.layer_changed[1] <= 1);
    assert_true(c.tokens_changed == 1);
    assert_true(fabs(c.assignments_changed - c.layer_changed[1] / 2) < 1e-12);
    for (int64_t i = 0; i < 8; i++) {
        assert_int_equal(c.model.load[i], c.against.load[i]);
        assert_int_equal(c.model.load[8 + i], c.against.load[8 + (i + 1) % 8]);
    }
    sgm_comparison_free(&c);

    /* Models that do not compare. */
    snprintf(turned, sizeof turned, "%s",
             make_model("narrow", (const char *[]){"model.experts_per_token=1", "model.context=16", NULL}));
    for (int i = 0; i < 2; i++) {
        char from[512], to[512];
        const char *file = i ? "tokenizer_config.json" : "tokenizer.json";
        snprintf(from, sizeof from, "%s/tokenizer/%s", test_folder, file);
        snprintf(to, sizeof to, "%s/%s", turned, file);
        char *bytes;
        size_t size;
        assert_int_equal(sgm_file_read(from, 1 << 20, &bytes, &size, NULL), SGM_OK);
        assert_int_equal(sgm_file_write(to, bytes, size, NULL), SGM_OK);
        sgm_free(bytes);
    }
    assert_int_equal(sgm_evaluate_against(model, turned, &options, paths, 1, 0, &c, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "experts per token"));
    assert_null(c.layer_changed);
    assert_null(c.model.layer);
}

static void errors_are_clear(void **state) {
    (void)state;
    sgm_evaluation e;
    sgm_error error = {0};
    assert_int_equal(sgm_file_write(in_folder("empty"), "", 0, NULL), SGM_OK);
    const char *empty = in_folder("empty"), *absent = in_folder("absent"), *fine = in_folder("text");
    char model[256];
    snprintf(model, sizeof model, "%s/model", test_folder);
    assert_int_equal(sgm_evaluate(model, &options, &empty, 1, 0, &e, &error), SGM_EFORMAT);
    assert_int_equal(sgm_evaluate(model, &options, &absent, 1, 0, &e, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_evaluate(model, &options, &fine, 0, 0, &e, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_evaluate(model, &options, &fine, 1, -1, &e, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_evaluate(absent, &options, &fine, 1, 0, &e, &error), SGM_ENOTFOUND);
    make_model("mute", NULL); /* no tokenizer */
    snprintf(model, sizeof model, "%s/mute", test_folder);
    assert_int_equal(sgm_evaluate(model, &options, &fine, 1, 0, &e, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "tokenizer"));
    assert_null(e.layer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_plain_restatement),
        cmocka_unit_test(a_limit_counts_tokens),
        cmocka_unit_test(a_separator_parts_documents),
        cmocka_unit_test(reads_the_heldout_split),
        cmocka_unit_test(routes_are_kept),
        cmocka_unit_test(generation_is_traced),
        cmocka_unit_test(models_are_compared),
        cmocka_unit_test(errors_are_clear),
    };
    return cmocka_run_group_tests_name("evaluate", tests, set_up, remove_test_folder);
}
