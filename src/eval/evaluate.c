// SPDX-License-Identifier: Apache-2.0
/* Bits per byte of text under a model, and the load of its experts there.
 *
 * A document is read as end-of-text followed by its tokens, in windows of the model's context that overlap by half; the
 * second half of a window is scored (all of the first window), so that every byte is scored once, with at least half a
 * context before it. The closing end-of-text is not scored: it is no text. Windows are packed into batches as segments;
 * a row's loss does not depend on the packing. The load counts each scored row once. Keys and values go through pages of the
 * engine's type where that is not f32, so that the numbers are those of generation. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/documents.h"
#include "data/loader.h"
#include "eval/traced.h"
#include "infer/engine.h"
#include "model/model_gguf.h"

enum { BATCH_ROWS = 512 };

typedef struct evaluator {
    sgm_engine *engine;       /* model, team, kernels, tokenizer; its step is not used */
    const volatile int *stop; /* NULL: nobody asks for an early end */
    int64_t rows_most, limit;
    int64_t context;
    int32_t *tokens, *positions, *targets; /* (rows_most) */
    int64_t *domains;                      /* (rows_most) of the trace */
    sgm_segment *segments;                 /* (rows_most) */
    float *row_loss;                       /* (rows_most) */
    sgm_kv_pool pool;            /* keys and values that are rounded: pages of one layer, used by each in turn */
    sgm_kv_pages *past;          /* (rows_most) of each segment; NULL: keys and values stay f32 */
    char **pages;                /* (pages of the pool) */
    int64_t page_count;          /* of the batch being filled */
    int64_t rows, segment_count; /* of the batch being filled */
    char *values;
    sgm_load *load;              /* (L), arrays behind */
    sgm_trace_recorder recorder; /* its writer NULL: routes are not kept */
    int64_t domain;              /* of the document at hand */
    double nats;
    int64_t scored, bytes;
} evaluator;

/* ---- one batch ----------------------------------------------------------------------------------------------------- */

static int64_t domain_of(const void *context, int64_t row) {
    return ((const evaluator *)context)->domains[row];
}

static void walk_loss(sgm_walk *walk, evaluator *e) {
    sgm_rows rows = {.rows = e->rows,
                     .tokens = e->tokens,
                     .positions = e->positions,
                     .targets = e->targets,
                     .segments = e->segments,
                     .segment_count = e->segment_count};
    sgm_pass pass = {
        .experts_per_token = e->engine->experts_per_token, .load = e->load, .loss_scale = 1, .row_loss = e->row_loss};
    if (e->recorder.writer) {
        pass.observe = sgm_trace_record;
        pass.observer = &e->recorder;
    }
    sgm_transformer_loss(walk, e->engine->model, &rows, &pass);
}

static void run(sgm_worker *worker, void *argument) {
    evaluator *e = argument;
    sgm_walk walk = {.worker = worker, .kernels = e->engine->kernels, .values = e->values};
    walk_loss(&walk, e);
}

static sgm_status flush(evaluator *e, sgm_error *error) {
    if (e->rows == 0)
        return SGM_OK;
    sgm_team_run(e->engine->team, run, e);
    for (int64_t i = 0; i < e->rows; i++)
        if (e->targets[i] >= 0)
            e->nats += (double)e->row_loss[i];
    e->rows = e->segment_count = e->page_count = 0;
    if (e->stop && *e->stop)
        return sgm_fail(error, SGM_EINTERRUPTED, NULL, "interrupted; nothing is left behind");
    if (isfinite(e->nats)) /* a trace that cannot be written ends it here, not after all of the text */
        return sgm_trace_recorder_status(&e->recorder, error);
    return sgm_fail(error, SGM_ENUMERIC, "the weights are damaged, or training diverged",
                    "the loss of model %s is not finite", e->engine->info.folder);
}

/* ---- documents ----------------------------------------------------------------------------------------------------- */

static void add_segment(evaluator *e, int64_t rows, int64_t pages) {
    sgm_segment *segment = &e->segments[e->segment_count];
    *segment = (sgm_segment){.row = e->rows, .rows = rows};
    if (e->past) { /* every layer finds the same pages */
        e->past[e->segment_count] = (sgm_kv_pages){e->pages + e->page_count, 0, e->pool.type};
        segment->past = &e->past[e->segment_count];
        e->page_count += pages;
    }
    e->segment_count++;
}

/* `tokens` (count) begin with the token that the first byte is predicted from; `bytes` of text in the others. */
static sgm_status add_document(evaluator *e, const int32_t *tokens, int64_t count, int64_t bytes, sgm_error *error) {
    int64_t begin, end, score, first = e->scored, vocabulary = e->engine->model->settings.vocabulary;
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= vocabulary)
            return sgm_fail(error, SGM_EARGUMENT, "use the tokenizer that the model was trained with",
                            "token %d is outside the model's vocabulary of %" PRId64, (int)tokens[i], vocabulary);
    sgm_status status = SGM_OK;
    for (int64_t w = 0; !status && sgm_evaluation_window(count, e->context, w, &begin, &end, &score); w++) {
        if (e->limit && e->scored >= e->limit)
            break;
        int64_t pages = (end - begin + SGM_KV_PAGE - 1) / SGM_KV_PAGE;
        if (e->rows + end - begin > e->rows_most || (e->past && e->page_count + pages > e->pool.pages))
            status = flush(e, error);
        if (status)
            break;
        add_segment(e, end - begin, pages);
        for (int64_t r = begin; r < end; r++, e->rows++) {
            bool counts = r >= score && (!e->limit || e->scored < e->limit);
            e->tokens[e->rows] = tokens[r];
            e->positions[e->rows] = (int32_t)(r - begin);
            e->targets[e->rows] = counts ? tokens[r + 1] : -1;
            e->domains[e->rows] = e->domain;
            e->scored += counts;
        }
    }
    /* A document that was cut short by the limit: the bytes of the tokens that were scored. */
    int64_t scored = e->scored - first;
    for (int64_t i = 1; scored < count - 1 && i <= scored; i++) {
        size_t size = 0;
        if (e->engine->tokenizer)
            (void)sgm_tokenizer_bytes_of(e->engine->tokenizer, tokens[i], &size);
        e->bytes += (int64_t)size;
    }
    if (scored == count - 1)
        e->bytes += bytes;
    return status;
}

/* One document of a text file. */
static sgm_status add_piece(void *context, const char *text, size_t size, sgm_error *error) {
    evaluator *e = context;
    const sgm_tokenizer *tokenizer = e->engine->tokenizer;
    if (e->limit && e->scored >= e->limit)
        return SGM_OK;
    size_t capacity = size + 9, count = 0, skipped = 0;
    int32_t start = sgm_tokenizer_end_of_text(tokenizer), *tokens = sgm_alloc(capacity * sizeof *tokens);
    size_t lead = start >= 0; /* without an end-of-text token the first token can only be read, not scored */
    if (!tokens)
        return sgm_fail(error, SGM_EMEMORY, "evaluate smaller files", "no memory for the tokens of %zu bytes", size);
    sgm_status status =
        sgm_tokenizer_encode(tokenizer, text, size, false, tokens + lead, capacity - lead, &count, error);
    if (status == SGM_ESPACE) { /* rare: normalising made the text longer */
        sgm_free(tokens);
        capacity = count + lead;
        tokens = sgm_alloc(capacity * sizeof *tokens);
        status = tokens ? sgm_tokenizer_encode(tokenizer, text, size, false, tokens + lead, count, &count, error)
                        : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for %zu tokens", capacity);
    }
    if (!status && lead)
        tokens[0] = start;
    else if (!status && count)
        (void)sgm_tokenizer_bytes_of(tokenizer, tokens[0], &skipped);
    if (!status)
        status = add_document(e, tokens, (int64_t)(count + lead), (int64_t)(size - skipped), error);
    sgm_free(tokens);
    return status;
}

/* A file is a document, or several where it holds the line that parts them: as `data build` reads it. */
static sgm_status add_text(evaluator *e, const char *path, sgm_error *error) {
    const sgm_source_visitor visitor = {.context = e, .document = add_piece};
    sgm_mapping file;
    if (!e->engine->tokenizer)
        return sgm_fail(error, SGM_EARGUMENT,
                        sgm_model_is_gguf(e->engine->info.folder)
                            ? "write the file again with `sigmoe quantize --tokenizer`"
                            : "add its tokenizer.json to the model folder",
                        "text cannot be evaluated: the model %s has no tokenizer", e->engine->info.folder);
    sgm_status status = sgm_map_open(path, &file, error);
    if (status)
        return status;
    status = sgm_text_visit((const char *)file.data, file.size, SGM_DOCUMENT_SEPARATOR, &visitor, error);
    sgm_map_close(&file);
    return status;
}

/* Shards hold token numbers: they mean the same to a tokenizer that has the same tokens. How the model's was stored (a
 * tokenizer.json, the keys of a GGUF file) does not matter. */
static bool same_tokens(const sgm_tokenizer *a, const sgm_tokenizer *b) {
    bool same = sgm_tokenizer_vocabulary(a) == sgm_tokenizer_vocabulary(b) &&
                sgm_tokenizer_end_of_text(a) == sgm_tokenizer_end_of_text(b);
    for (int64_t id = 0; same && id < sgm_tokenizer_vocabulary(a); id++) {
        size_t a_size, b_size;
        const char *a_bytes = sgm_tokenizer_bytes_of(a, (int32_t)id, &a_size);
        const char *b_bytes = sgm_tokenizer_bytes_of(b, (int32_t)id, &b_size);
        same = !a_bytes == !b_bytes && a_size == b_size && (!a_bytes || memcmp(a_bytes, b_bytes, a_size) == 0);
    }
    return same;
}

static sgm_status same_tokenizer(const evaluator *e, const sgm_corpus *corpus, const char *path, sgm_error *error) {
    sgm_tokenizer *theirs;
    sgm_status status = sgm_tokenizer_open(sgm_corpus_tokenizer_path(corpus), &theirs, error);
    if (status)
        return status;
    if (e->engine->tokenizer && !same_tokens(theirs, e->engine->tokenizer))
        status = sgm_fail(error, SGM_EARGUMENT, "give the text files themselves",
                          "%s was made with another tokenizer than the model %s", path, e->engine->info.folder);
    sgm_tokenizer_close(theirs);
    return status;
}

static sgm_status add_heldout(evaluator *e, const sgm_corpus *corpus, size_t domain, sgm_error *error) {
    sgm_status status = SGM_OK;
    int64_t documents = sgm_corpus_documents(corpus, SGM_HELDOUT, domain);
    for (int64_t d = 0; !status && d < documents && !(e->limit && e->scored >= e->limit); d++) {
        int64_t count = 0, bytes = 0;
        const int32_t *document = sgm_corpus_document(corpus, SGM_HELDOUT, domain, d, &count, &bytes);
        if (!document || count < 2)
            continue;
        /* Its closing end-of-text goes to the front. */
        int32_t *tokens = sgm_alloc((size_t)count * sizeof *tokens);
        if (!tokens)
            return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a document");
        tokens[0] = document[count - 1];
        memcpy(tokens + 1, document, (size_t)(count - 1) * sizeof *tokens);
        status = add_document(e, tokens, count, bytes, error);
        sgm_free(tokens);
    }
    return status;
}

/* The documents that follow are of this domain. */
static sgm_status set_domain(evaluator *e, const char *name, sgm_error *error) {
    return e->recorder.writer ? sgm_trace_domain(e->recorder.writer, name, &e->domain, error) : SGM_OK;
}

static sgm_status add_corpus(evaluator *e, const char *path, sgm_error *error) {
    sgm_corpus *corpus;
    sgm_status status = sgm_corpus_open(path, &corpus, error);
    if (status)
        return status;
    status = same_tokenizer(e, corpus, path, error);
    for (size_t d = 0; !status && d < sgm_corpus_domains(corpus) && !(e->limit && e->scored >= e->limit); d++) {
        status = set_domain(e, sgm_corpus_domain(corpus, d), error);
        if (!status)
            status = add_heldout(e, corpus, d, error);
    }
    sgm_corpus_close(corpus);
    return status;
}

static sgm_status add_path(evaluator *e, const char *path, sgm_error *error) {
    if (!sgm_path_exists(path))
        return sgm_fail(error, SGM_ENOTFOUND, "give text files or a data folder", "there is no file %s", path);
    if (sgm_path_is_folder(path))
        return add_corpus(e, path, error);
    char domain[SGM_SHARD_DOMAIN_BYTES];
    const char *slash = strrchr(path, '/');
    sgm_domain_from_name(slash ? slash + 1 : path, true, domain);
    sgm_status status = set_domain(e, domain, error);
    return status ? status : add_text(e, path, error);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, "close other programs, or take a smaller model",
                    "not enough memory to evaluate");
}

static sgm_status prepare_pages(evaluator *e, sgm_error *error) {
    const sgm_model_settings *s = &e->engine->model->settings;
    sgm_kv_type type = e->engine->pool.type;
    int64_t pages = 2 * (e->rows_most / SGM_KV_PAGE + 1);
    if (type == SGM_KV_F32)
        return SGM_OK;
    sgm_status status = sgm_kv_pool_init(&e->pool, type, 1, pages, s->kv_heads, s->head_size, error);
    if (status)
        return status;
    e->past = sgm_alloc((size_t)e->rows_most * sizeof *e->past);
    e->pages = sgm_alloc((size_t)pages * sizeof *e->pages);
    if (!e->past || !e->pages)
        return no_memory(error);
    for (int64_t i = 0; i < pages; i++)
        e->pages[i] = sgm_kv_page_data(&e->pool, (int32_t)i, 0);
    return SGM_OK;
}

static sgm_status prepare(evaluator *e, const char *model, const sgm_engine_options *options, sgm_error *error) {
    sgm_engine_options own = options ? *options : (sgm_engine_options){0};
    int64_t wanted = own.batch_tokens ? own.batch_tokens : BATCH_ROWS;
    own.batch_tokens = own.kv_tokens = 1; /* no sessions here */
    e->stop = own.stop;
    sgm_status status = sgm_engine_open(model, &own, &e->engine, error);
    if (status)
        return status;
    const sgm_model_settings *s = &e->engine->model->settings;
    e->context = s->context;
    e->rows_most = wanted > s->context ? wanted : s->context;
    size_t rows = (size_t)e->rows_most, layers = (size_t)sgm_model_routed(s);
    size_t experts = (size_t)sgm_model_routed_stride(s);
    e->tokens = sgm_alloc(rows * sizeof *e->tokens);
    e->positions = sgm_alloc(rows * sizeof *e->positions);
    e->targets = sgm_alloc(rows * sizeof *e->targets);
    e->domains = sgm_alloc(rows * sizeof *e->domains);
    e->segments = sgm_alloc(rows * sizeof *e->segments);
    e->row_loss = sgm_alloc(rows * sizeof *e->row_loss);
    e->load = sgm_alloc(layers * sizeof *e->load);
    int64_t *count = sgm_alloc(layers * experts * sizeof *count);
    double *probability = sgm_alloc(layers * experts * sizeof *probability);
    if (e->load)
        e->load[0] = (sgm_load){.count = count, .probability = probability}; /* owned from here on */
    if (!e->load || !count || !probability || !e->tokens || !e->positions || !e->targets || !e->domains ||
        !e->segments || !e->row_loss) {
        if (!e->load) {
            sgm_free(count);
            sgm_free(probability);
        }
        return no_memory(error);
    }
    for (size_t l = 0; l < layers; l++)
        e->load[l] = (sgm_load){.experts = sgm_model_routed_experts(s, (int64_t)l),
                                .null_experts = s->null_experts, /* none beside attention experts */
                                .count = count + l * experts,
                                .probability = probability + l * experts};
    status = prepare_pages(e, error);
    if (status)
        return status;
    e->rows = e->rows_most;
    e->segments[0] = (sgm_segment){.rows = e->rows, .past = e->past};
    e->segment_count = 1;
    sgm_worker worker = {.threads = sgm_team_threads(e->engine->team), .team = e->engine->team};
    sgm_walk dry = {.worker = &worker, .kernels = e->engine->kernels, .dry = true, .error = error};
    walk_loss(&dry, e);
    e->rows = e->segment_count = 0;
    if (dry.status)
        return dry.status;
    status = sgm_memory_check(dry.peak, "the activations of a batch", error);
    if (status)
        return status;
    e->values = sgm_alloc(dry.peak);
    return e->values ? SGM_OK : no_memory(error);
}

static void release(evaluator *e) {
    sgm_trace_recorder_fini(&e->recorder);
    if (e->load) {
        sgm_free(e->load[0].count);
        sgm_free(e->load[0].probability);
    }
    sgm_free(e->load);
    sgm_free(e->tokens);
    sgm_free(e->positions);
    sgm_free(e->targets);
    sgm_free(e->domains);
    sgm_free(e->segments);
    sgm_free(e->row_loss);
    sgm_kv_pool_fini(&e->pool);
    sgm_free(e->past);
    sgm_free(e->pages);
    sgm_free(e->values);
    sgm_engine_close(e->engine);
}

void sgm_layer_stats_of(const sgm_load *load, sgm_layer_stats *stats) {
    sgm_load_summary sum;
    sgm_load_summarise(load, &sum);
    *stats = (sgm_layer_stats){
        .tokens = sum.tokens,
        .dead_experts = sum.dead_experts,
        .min_over_mean = sum.min_over_mean,
        .max_over_mean = sum.max_over_mean,
        .max_violation = sum.max_violation,
        .entropy_over_log_e = sum.entropy_over_log_e,
        .probability_entropy_over_log_e = sum.probability_entropy_over_log_e,
        .coefficient_of_variation = sum.coefficient_of_variation,
        .correlation = sum.correlation,
        .noise_floor = sum.noise_floor,
        .experts_computed_per_token = sum.computed_per_token,
    };
}

/* `path`: the first that was named. */
static sgm_status report(evaluator *e, const char *path, sgm_evaluation *out, sgm_error *error) {
    const sgm_model_settings *s = &e->engine->model->settings;
    if (e->scored == 0)
        return sgm_fail(error, SGM_EFORMAT, "give a longer text", "%s: there is nothing to evaluate in it", path);
    size_t numbers = (size_t)sgm_model_routed_numbers(s);
    *out = (sgm_evaluation){.tokens = e->scored,
                            .bytes = e->bytes,
                            .layers = sgm_model_routed(s),
                            .experts = s->experts,
                            .null_experts = s->null_experts,
                            .attention_experts = s->attention_experts};
    out->loss_nats_per_token = e->nats / (double)e->scored;
    out->perplexity = exp(out->loss_nats_per_token);
    out->bits_per_byte = e->bytes > 0 ? e->nats / M_LN2 / (double)e->bytes : (double)NAN;
    out->layer = sgm_alloc((size_t)out->layers * sizeof *out->layer);
    out->load = sgm_alloc(numbers * sizeof *out->load);
    out->experts_per_token = sgm_alloc((size_t)out->layers * sizeof *out->experts_per_token);
    if (!out->layer || !out->load || !out->experts_per_token) {
        sgm_evaluation_free(out);
        return no_memory(error);
    }
    memcpy(out->load, e->load[0].count, numbers * sizeof *out->load);
    memcpy(out->experts_per_token, e->engine->experts_per_token, (size_t)out->layers * sizeof *out->experts_per_token);
    for (int64_t l = 0; l < out->layers; l++)
        sgm_layer_stats_of(&e->load[l], &out->layer[l]);
    return SGM_OK;
}

sgm_status sgm_evaluate(const char *model, const sgm_engine_options *options, const char *const *paths, size_t count,
                        int64_t token_limit, sgm_evaluation *evaluation, sgm_error *error) {
    return sgm_evaluate_traced(model, options, paths, count, token_limit, NULL, evaluation, error);
}

static sgm_status begin_trace(evaluator *e, const sgm_trace_target *target, sgm_error *error) {
    e->recorder.tokens = e->tokens;
    e->recorder.targets = e->targets;
    e->recorder.domain_of = domain_of;
    e->recorder.context = e;
    return sgm_trace_begin(e->engine, SGM_TRACE_EVAL, target, &e->recorder, error);
}

sgm_status sgm_evaluate_traced(const char *model, const sgm_engine_options *options, const char *const *paths,
                               size_t count, int64_t token_limit, const sgm_trace_target *target,
                               sgm_evaluation *evaluation, sgm_error *error) {
    *evaluation = (sgm_evaluation){0};
    if (count == 0 || token_limit < 0)
        return sgm_fail(error, SGM_EARGUMENT, "give text files or a data folder, and a limit of 0 or more",
                        count ? "the token limit is negative" : "there is nothing to evaluate: no file was named");
    evaluator e = {.limit = token_limit};
    sgm_status status = prepare(&e, model, options, error);
    if (!status && target)
        status = begin_trace(&e, target, error);
    for (size_t i = 0; !status && i < count && !(token_limit && e.scored >= token_limit); i++)
        status = add_path(&e, paths[i], error);
    if (!status)
        status = flush(&e, error);
    if (!status)
        status = report(&e, paths[0], evaluation, error);
    if (!status && target)
        status = sgm_trace_recorder_end(&e.recorder, NULL, error);
    if (status)
        sgm_evaluation_free(evaluation);
    release(&e);
    return status;
}

void sgm_evaluation_free(sgm_evaluation *evaluation) {
    sgm_free(evaluation->layer);
    sgm_free(evaluation->load);
    sgm_free(evaluation->experts_per_token);
    *evaluation = (sgm_evaluation){0};
}
