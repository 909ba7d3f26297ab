// SPDX-License-Identifier: Apache-2.0
/* The engine: a loaded model, the pool of key/value pages, a thread team, and one step over a batch of sessions.
 *
 * A step is one walk of the model without a tape, over the new rows of all sessions: each session is a segment whose past
 * is its pages. All memory is made when the engine opens: a dry walk at the largest batch says how much. A row's bytes do
 * not depend on what else is in the batch (kernels.h, ops.h), so decoding one token at a time, prefill in chunks and
 * batches of sessions give identical logits. */
#include "infer/engine.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model_gguf.h"
#include "model/model_open.h"
#include "op/operand.h"
#include "sigmoe/machine.h"

/* An expert of 96 sees one row in 96, so a large batch reads weights for more of them; the smaller one where memory is short. */
enum { BATCH_DEFAULT = 2048, BATCH_LEAST = 512, MAP_SECONDS = 1, MAP_PIECE = 8 << 20 };

/* ---- the walk ------------------------------------------------------------------------------------------------------ */

typedef struct step {
    sgm_engine *engine;
    sgm_rows rows;
    int64_t wanted; /* rows of engine->wanted */
    float *logits;
} step;

/* The model on one thread: hidden states, the wanted rows gathered, the head's product by columns. */
static void walk_model(sgm_walk *walk, const step *s) {
    const sgm_engine *engine = s->engine;
    const sgm_model *model = engine->model;
    sgm_pass pass = {.experts_per_token = engine->experts_per_token,
                     .load = engine->load,
                     .observe = engine->observe,
                     .observer = engine->observer};
    int64_t D = model->settings.width, V = model->settings.vocabulary, begin, end;
    sgm_tensor hidden = sgm_transformer_hidden(walk, model, &s->rows, &pass);
    if (walk->status)
        return;
    sgm_tensor rows = sgm_walk_tensor(walk, s->wanted, D);
    sgm_matrix head = sgm_weight_matrix(model->head);
    sgm_operand operand = {.rows = s->wanted, .cols = D, .integers = sgm_matrix_is_integer(&head)};
    int threads = walk->worker->threads;
    void *activations = sgm_walk_alloc(walk, sgm_operand_bytes(&operand, threads));
    if (walk->dry)
        return;
    const sgm_worker *worker = walk->worker;
    sgm_split(worker, s->wanted, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        memcpy(rows.data + i * D, hidden.data + engine->wanted[i] * D, (size_t)D * sizeof(sgm_real));
    sgm_barrier(walk->worker);
    sgm_stored_product product = {.M = s->wanted, .B = head, .C = s->logits, .ldc = V};
    product.A = sgm_operand_make(walk, &operand, rows.data, activations);
    sgm_stored_products_run(walk, &product, 1);
    sgm_barrier(walk->worker);
    sgm_split(worker, V, 64, &begin, &end);
    bool finite = true;
    for (int64_t i = 0; i < s->wanted; i++)
        for (int64_t j = begin; j < end; j++)
            finite = finite && s->logits[i * V + j] - s->logits[i * V + j] == 0;
    engine->not_finite[worker->thread] = !finite;
}

static void run_step(sgm_worker *worker, void *argument) {
    const step *s = argument;
    sgm_walk *walk = &s->engine->walks[worker->thread];
    *walk = (sgm_walk){.worker = worker, .kernels = s->engine->kernels, .values = s->engine->values};
    walk_model(walk, s);
}

/* Bytes that a step over these rows needs; the walk's errors too. */
static sgm_status measure(sgm_engine *engine, const step *s, size_t *bytes, sgm_error *error) {
    sgm_worker worker = {.thread = 0, .threads = sgm_team_threads(engine->team), .team = engine->team};
    sgm_walk walk = {.worker = &worker, .kernels = engine->kernels, .dry = true, .error = error};
    walk_model(&walk, s);
    *bytes = walk.peak;
    return walk.status;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, "close other programs, or take a smaller model",
                    "not enough memory for the engine");
}

/* Bytes of the largest step: all rows, each wanted. The dry walk reads shapes only. */
static sgm_status measure_largest(sgm_engine *engine, size_t *bytes, sgm_error *error) {
    sgm_kv_pages none = {0};
    sgm_segment whole = {.rows = engine->batch_tokens, .past = &none};
    step largest = {.engine = engine, .wanted = engine->batch_tokens};
    largest.rows = (sgm_rows){.rows = engine->batch_tokens, .segments = &whole, .segment_count = 1};
    sgm_status status = measure(engine, &largest, bytes, error);
    return status ? status : sgm_memory_check(*bytes, "the activations of a batch", error);
}

/* `fixed`: the caller chose the number of rows. */
static sgm_status step_memory(sgm_engine *engine, bool fixed, sgm_error *error) {
    sgm_status status = measure_largest(engine, &engine->value_bytes, fixed ? error : NULL);
    if (status && !fixed) {
        engine->batch_tokens = engine->batch_tokens < BATCH_LEAST ? engine->batch_tokens : BATCH_LEAST;
        status = measure_largest(engine, &engine->value_bytes, error);
    }
    if (status)
        return status;
    size_t rows = (size_t)engine->batch_tokens;
    engine->walks = sgm_alloc((size_t)sgm_team_threads(engine->team) * sizeof *engine->walks);
    engine->not_finite = sgm_alloc((size_t)sgm_team_threads(engine->team) * sizeof *engine->not_finite);
    engine->tokens = sgm_alloc(rows * sizeof *engine->tokens);
    engine->positions = sgm_alloc(rows * sizeof *engine->positions);
    engine->wanted = sgm_alloc(rows * sizeof *engine->wanted);
    engine->segments = sgm_alloc(rows * sizeof *engine->segments);
    engine->values = sgm_alloc(engine->value_bytes);
    return engine->walks && engine->not_finite && engine->tokens && engine->positions && engine->wanted &&
                   engine->segments && engine->values
               ? SGM_OK
               : no_memory(error);
}

/* Weights of a mapped file that are in memory already come into this process's page table, for as long as an opening may
 * take; what is left comes when it is read. Pieces are small, because the system may read them from the disk (sgm_map_cached). */
typedef struct map_job {
    const sgm_model *model;
    double until;
} map_job;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void map_weights(sgm_worker *worker, void *argument) {
    const map_job *job = argument;
    for (int64_t i; (i = sgm_task(worker)) < job->model->weight_count;) {
        const sgm_matrix *stored = &job->model->weights[i].stored;
        size_t bytes = stored->data ? (size_t)stored->rows * stored->stride : 0;
        for (size_t at = 0; at < bytes; at += MAP_PIECE) {
            if (seconds() >= job->until)
                return;
            sgm_map_cached((const char *)stored->data + at, bytes - at < MAP_PIECE ? bytes - at : MAP_PIECE);
        }
    }
}

static sgm_status options_check(const sgm_engine_options *options, sgm_error *error) {
    if (options->threads < 0 || options->threads > SGM_THREADS_MOST)
        return sgm_fail(error, SGM_EARGUMENT, "use 0 for as many as there are cores", "%d threads are impossible",
                        options->threads);
    if (options->batch_tokens < 0 || options->batch_tokens > 1 << 20 || options->kv_tokens < 0 ||
        options->kv_tokens > (int64_t)1 << 36)
        return sgm_fail(error, SGM_EARGUMENT, "use 0 for the default",
                        "batch_tokens %" PRId64 " or kv_tokens %" PRId64 " is impossible", options->batch_tokens,
                        options->kv_tokens);
    return SGM_OK;
}

/* Everything that the model on disk decides. */
static sgm_status open_parts(sgm_engine *engine, const char *path, const sgm_engine_options *options,
                             sgm_error *error) {
    sgm_status status = sgm_model_inspect(path, &engine->info, error);
    if (status)
        return status;
    const sgm_model_settings *s = &engine->info.settings;
    int64_t positions = options->kv_tokens ? options->kv_tokens : s->context;
    int64_t pages = (positions + SGM_KV_PAGE - 1) / SGM_KV_PAGE;
    sgm_kv_type type;
    status = sgm_kv_type_choose(options->kv_type, strcmp(engine->info.dtype, "f32") == 0, &type, error);
    if (status)
        return status;
    if (pages > INT32_MAX)
        return sgm_fail(error, SGM_EARGUMENT, "use fewer positions", "kv_tokens %" PRId64 " is impossible", positions);
    int64_t most = pages * SGM_KV_PAGE < BATCH_DEFAULT ? pages * SGM_KV_PAGE : BATCH_DEFAULT;
    engine->batch_tokens = options->batch_tokens ? options->batch_tokens : most;
    /* A mapped file's pages are the system's, which takes them back when it needs them. */
    bool mapped = sgm_model_is_gguf(engine->info.folder);
    uint64_t bytes = sgm_kv_pool_bytes(type, s->layers, pages, s->kv_heads, s->head_size);
    if (__builtin_add_overflow(bytes, mapped ? 0 : (uint64_t)engine->info.counts.bytes, &bytes))
        bytes = UINT64_MAX;
    status = sgm_memory_check(bytes, mapped ? "keys and values" : "the model's weights and its keys and values", error);
    if (!status)
        status = sgm_kernels_get(options->kernels ? options->kernels : "auto", &engine->kernels, error);
    if (!status)
        status = sgm_team_new(options->threads ? options->threads : sgm_usable_cores(), &engine->team, error);
    if (!status)
        status = sgm_model_open(engine->info.folder, &engine->model, &engine->experts_per_token, error);
    if (!status)
        status = sgm_model_open_tokenizer(engine->info.folder, &engine->tokenizer, error);
    if (!status)
        status = sgm_kv_pool_init(&engine->pool, type, s->layers, pages, s->kv_heads, s->head_size, error);
    if (!status && mapped) {
        map_job job = {engine->model, seconds() + MAP_SECONDS};
        sgm_team_run(engine->team, map_weights, &job);
    }
    return status ? status : step_memory(engine, options->batch_tokens > 0, error);
}

sgm_status sgm_engine_open(const char *model, const sgm_engine_options *options, sgm_engine **out, sgm_error *error) {
    static const sgm_engine_options defaults;
    *out = NULL;
    if (!options)
        options = &defaults;
    sgm_status status = options_check(options, error);
    if (status)
        return status;
    sgm_engine *engine = sgm_alloc(sizeof *engine);
    if (!engine)
        return no_memory(error);
    status = open_parts(engine, model, options, error);
    if (status)
        sgm_engine_close(engine);
    else
        *out = engine;
    return status;
}

void sgm_engine_close(sgm_engine *engine) {
    if (!engine)
        return;
    if (engine->team)
        sgm_team_free(engine->team);
    if (engine->tokenizer)
        sgm_tokenizer_close(engine->tokenizer);
    sgm_kv_pool_fini(&engine->pool);
    sgm_model_free(engine->model);
    sgm_free(engine->experts_per_token);
    sgm_free(engine->walks);
    sgm_free(engine->not_finite);
    sgm_free(engine->values);
    sgm_free(engine->tokens);
    sgm_free(engine->positions);
    sgm_free(engine->wanted);
    sgm_free(engine->segments);
    sgm_free(engine);
}

const sgm_model_info *sgm_engine_info(const sgm_engine *engine) {
    return &engine->info;
}

const sgm_tokenizer *sgm_engine_tokenizer(const sgm_engine *engine) {
    return engine->tokenizer;
}

/* ---- a step -------------------------------------------------------------------------------------------------------- */

static sgm_status item_check(const sgm_engine *engine, const sgm_batch_item *item, size_t index, sgm_error *error) {
    const char *wrong = item->session->engine != engine ? "its session belongs to another engine"
                        : item->session->in_step        ? "its session stands in the batch twice"
                        : item->count < 1               ? "it has no tokens"
                                                        : NULL;
    if (wrong)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "item %zu of the batch: %s", index, wrong);
    int64_t vocabulary = engine->model->settings.vocabulary;
    for (int64_t i = 0; i < item->count; i++)
        if (item->tokens[i] < 0 || item->tokens[i] >= vocabulary)
            return sgm_fail(error, SGM_EARGUMENT, "was this text encoded with the model's own tokenizer?",
                            "item %zu of the batch: token %d is outside the vocabulary of %" PRId64, index,
                            (int)item->tokens[i], vocabulary);
    return sgm_session_context_check(item->session, item->count, error);
}

static sgm_status batch_check(const sgm_engine *engine, const sgm_batch_item *items, size_t count, sgm_error *error) {
    int64_t rows = 0, pages = 0;
    if (count == 0)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "the batch is empty");
    sgm_status status = SGM_OK;
    size_t marked = 0;
    for (; !status && marked < count; marked++) {
        status = item_check(engine, &items[marked], marked, error);
        if (status)
            break;
        items[marked].session->in_step = true;
        if (items[marked].count > engine->batch_tokens - rows)
            status = sgm_fail(error, SGM_ESPACE, "open the engine with more batch_tokens, or feed in chunks",
                              "the batch has more than %" PRId64 " tokens", engine->batch_tokens);
        rows += items[marked].count;
        pages += sgm_session_pages_claim(items[marked].session, items[marked].count);
    }
    for (size_t i = 0; i < marked; i++) {
        items[i].session->in_step = false;
        sgm_session_pages_unclaim(items[i].session);
    }
    if (!status && pages > engine->pool.unused_count)
        status = sgm_fail(error, SGM_ESPACE, "end or truncate other sessions, or open the engine with more kv_tokens",
                          "the keys and values need %" PRId64 " more pages of %d positions, %" PRId64 " are free",
                          pages, (int)SGM_KV_PAGE, engine->pool.unused_count);
    return status;
}

/* Rows, segments and wanted rows of the batch. */
static void batch_lay_out(sgm_engine *engine, const sgm_batch_item *items, size_t count, step *s) {
    int64_t row = 0;
    for (size_t i = 0; i < count; i++) {
        const sgm_batch_item *item = &items[i];
        sgm_session *session = item->session;
        sgm_session_reserve(session, item->count);
        engine->segments[i] = (sgm_segment){row, item->count, session->length, &session->view};
        memcpy(engine->tokens + row, item->tokens, (size_t)item->count * sizeof *item->tokens);
        for (int64_t t = 0; t < item->count; t++) {
            engine->positions[row + t] = (int32_t)(session->length + t);
            if (item->all_logits || t == item->count - 1)
                engine->wanted[s->wanted++] = row + t;
        }
        row += item->count;
    }
    s->rows = (sgm_rows){.rows = row,
                         .tokens = engine->tokens,
                         .positions = engine->positions,
                         .segments = engine->segments,
                         .segment_count = (int64_t)count};
}

/* The plan is for the largest batch; a batch of another shape could in principle need more. */
static sgm_status values_reserve(sgm_engine *engine, const step *s, sgm_error *error) {
    size_t bytes;
    sgm_status status = measure(engine, s, &bytes, error);
    if (status || bytes <= engine->value_bytes)
        return status;
    char *values = sgm_alloc(bytes);
    if (!values)
        return no_memory(error);
    sgm_free(engine->values);
    engine->values = values;
    engine->value_bytes = bytes;
    return SGM_OK;
}

sgm_status sgm_engine_step(sgm_engine *engine, const sgm_batch_item *items, size_t count, float *logits,
                           sgm_error *error) {
    sgm_status status = batch_check(engine, items, count, error);
    if (status)
        return status;
    step s = {.engine = engine, .logits = logits};
    batch_lay_out(engine, items, count, &s);
    status = values_reserve(engine, &s, error);
    if (!status)
        sgm_team_run(engine->team, run_step, &s);
    for (int t = 0; !status && t < sgm_team_threads(engine->team); t++)
        if (engine->not_finite[t])
            status = sgm_fail(error, SGM_ENUMERIC, "the weights are damaged, or training diverged",
                              "a logit of model %s is not finite", engine->info.folder);
    for (size_t i = 0; i < count; i++) {
        if (!status)
            items[i].session->length += items[i].count;
        sgm_session_trim(items[i].session); /* after a failure: the pages it had taken */
    }
    return status;
}
