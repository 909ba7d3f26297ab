// SPDX-License-Identifier: Apache-2.0
/* Prefill and decode, timed through the same calls that everybody makes (session.h).
 *
 * What stands before the measured tokens is fed once; each sample appends its tokens and takes them back. Decode is fed
 * random tokens, not its own answers: a greedy model of random weights repeats itself and would read few experts. */
#include "sigmoe/bench.h"

#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "infer/engine.h"

typedef struct inference {
    sgm_engine *engine;
    sgm_session *session;
    int64_t tokens, depth;
    bool decode;
    const sgm_bench_options *options;
    int32_t *ids;   /* (the longer of tokens and depth) */
    float *logits;  /* (V) */
    sgm_load *load; /* (L), arrays behind the first */
} inference;

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, "measure fewer tokens", "no memory for the measurement");
}

/* ---- what a token costs -------------------------------------------------------------------------------------------- */

static double matrix_bytes(const sgm_matrix *stored, int64_t elements) {
    return stored->data ? (double)stored->rows * (double)stored->stride : (double)elements * sizeof(sgm_real);
}

static double weight_bytes(const sgm_weight *weight) {
    return weight ? matrix_bytes(&weight->stored, weight->rows * weight->cols) : 0;
}

/* Everything but the embedding once, of the experts their share, and the embedding's row. */
static double token_weight_bytes(const sgm_engine *engine) {
    const sgm_model *model = engine->model;
    int64_t D = model->settings.width, E = model->settings.experts, computing = E - model->settings.null_experts;
    double bytes = weight_bytes(model->final_norm) + weight_bytes(model->head) +
                   weight_bytes(model->embedding) / (double)model->settings.vocabulary;
    for (int64_t l = 0; l < model->settings.layers; l++) {
        const sgm_layer *layer = &model->layers[l];
        const sgm_weight *const all[] = {layer->attention_norm,
                                         layer->q,
                                         layer->k,
                                         layer->v,
                                         layer->o,
                                         layer->q_norm,
                                         layer->k_norm,
                                         layer->ffn_norm,
                                         layer->gate,
                                         layer->gate_hidden,
                                         layer->gate_bias,
                                         layer->attention_gate,
                                         layer->attention_gate_hidden,
                                         layer->attention_gate_bias};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            bytes += weight_bytes(all[i]);
        double experts = 0;
        for (int64_t e = 0; e < computing; e++) {
            const sgm_expert *expert = &layer->experts[e];
            experts += matrix_bytes(&expert->stored_gate, expert->width * D) +
                       matrix_bytes(&expert->stored_up, expert->width * D) +
                       matrix_bytes(&expert->stored_down, expert->width * D);
        }
        int64_t A = model->settings.attention_experts, routed = A > 0 ? 2 * l + 1 : l;
        bytes += experts * (double)engine->experts_per_token[routed] / (double)E;
        for (int64_t i = 0; i < 2 * A; i++)
            bytes += weight_bytes(&layer->attention_experts[i]) * (double)engine->experts_per_token[2 * l] / (double)A;
    }
    return bytes;
}

/* Decode has the head's product for each token, prefill for the last one of a chunk: counted for one. */
static void count_work(const inference *m, sgm_bench_result *result) {
    const sgm_model_settings *s = &m->engine->info.settings;
    sgm_model_counts counts;
    /* A token at position p attends to p + 1 others; the counts take half of the context they are given. */
    double context = 2 * (double)m->depth + (double)m->tokens, n = (double)m->tokens;
    const sgm_matrix *expert = &m->engine->model->layers[0].experts[0].stored_gate;
    result->arithmetic = sgm_bench_arithmetic(expert->data ? expert->type : SGM_TYPE_F32);
    result->experts_per_token = sgm_model_mean_per_token(s, m->engine->experts_per_token);
    sgm_model_count(s, result->experts_per_token, (int64_t)context, &counts);
    double head = 2 * (double)s->vocabulary * (double)s->width;
    int64_t chunks = (m->tokens + m->engine->batch_tokens - 1) / m->engine->batch_tokens;
    result->flops = (counts.forward_flops_per_token - head) * n + head * (m->decode ? n : (double)chunks);
    if (!m->decode)
        return;
    result->weight_bytes = token_weight_bytes(m->engine);
    double position = (double)m->engine->pool.layer_bytes * (double)s->layers / SGM_KV_PAGE;
    result->cache_bytes = position * context / 2;
}

/* ---- one sample ---------------------------------------------------------------------------------------------------- */

static sgm_status feed_tokens(const inference *m, uint64_t sample, sgm_error *error) {
    sgm_bench_tokens(m->options->seed, sample, m->engine->info.settings.vocabulary, m->tokens, m->ids);
    if (!m->decode)
        return sgm_session_feed(m->session, m->ids, m->tokens, m->logits, error);
    sgm_status status = SGM_OK;
    for (int64_t i = 0; !status && i < m->tokens; i++) {
        sgm_batch_item item = {.session = m->session, .tokens = m->ids + i, .count = 1};
        status = sgm_bench_stopped(m->options, error);
        if (!status)
            status = sgm_engine_step(m->engine, &item, 1, m->logits, error);
    }
    return status;
}

static sgm_status sample(void *context, uint64_t number, double *seconds, sgm_error *error) {
    inference *m = context;
    m->engine->load = number == 0 ? m->load : NULL; /* the warm-up counts the experts at work */
    double begin = sgm_bench_now();
    sgm_status status = feed_tokens(m, number, error);
    *seconds = sgm_bench_now() - begin;
    m->engine->load = NULL;
    return status ? status : sgm_session_truncate(m->session, m->depth, error);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

static sgm_status prepare(inference *m, sgm_error *error) {
    const sgm_model_settings *s = &m->engine->info.settings;
    size_t layers = (size_t)sgm_model_routed(s), experts = (size_t)sgm_model_routed_stride(s);
    int64_t longest = m->tokens > m->depth ? m->tokens : m->depth;
    m->ids = sgm_alloc((size_t)longest * sizeof *m->ids);
    m->logits = sgm_alloc((size_t)s->vocabulary * sizeof *m->logits);
    m->load = sgm_alloc(layers * sizeof *m->load);
    if (!m->ids || !m->logits || !m->load)
        return no_memory(error);
    int64_t *count = m->load[0].count = sgm_alloc(layers * experts * sizeof *count);
    double *probability = m->load[0].probability = sgm_alloc(layers * experts * sizeof *probability);
    if (!count || !probability)
        return no_memory(error);
    for (size_t l = 0; l < layers; l++)
        m->load[l] = (sgm_load){.experts = sgm_model_routed_experts(s, (int64_t)l),
                                .count = count + l * experts,
                                .probability = probability + l * experts};
    sgm_status status = sgm_session_new(m->engine, &m->session, error);
    if (status || m->depth == 0)
        return status;
    sgm_bench_tokens(m->options->seed, UINT32_MAX, s->vocabulary, m->depth, m->ids);
    return sgm_session_feed(m->session, m->ids, m->depth, m->logits, error);
}

static sgm_status measure(inference *m, sgm_bench_result *result, sgm_error *error) {
    *result = (sgm_bench_result){.tokens = m->tokens};
    if (m->tokens < 1 || m->depth < 0 || m->tokens > m->engine->info.settings.context - m->depth)
        return sgm_fail(error, SGM_EARGUMENT,
                        "measure fewer tokens, at a smaller depth, or a model of a longer context",
                        "%" PRId64 " tokens behind %" PRId64 " others do not fit the model's context of %" PRId64,
                        m->tokens, m->depth, m->engine->info.settings.context);
    sgm_status status = prepare(m, error);
    if (!status)
        status = sgm_bench_samples(sample, m, m->options, result, error);
    if (!status) {
        count_work(m, result);
        sgm_bench_hits(m->load, &m->engine->info.settings, result);
    }
    sgm_session_free(m->session);
    if (m->load) {
        sgm_free(m->load[0].count);
        sgm_free(m->load[0].probability);
    }
    sgm_free(m->load);
    sgm_free(m->logits);
    sgm_free(m->ids);
    return status;
}

sgm_status sgm_bench_prefill(sgm_engine *engine, int64_t tokens, int64_t depth, const sgm_bench_options *options,
                             sgm_bench_result *result, sgm_error *error) {
    inference m = {.engine = engine, .tokens = tokens, .depth = depth, .options = options};
    return measure(&m, result, error);
}

sgm_status sgm_bench_decode(sgm_engine *engine, int64_t tokens, int64_t depth, const sgm_bench_options *options,
                            sgm_bench_result *result, sgm_error *error) {
    inference m = {.engine = engine, .tokens = tokens, .depth = depth, .decode = true, .options = options};
    return measure(&m, result, error);
}
