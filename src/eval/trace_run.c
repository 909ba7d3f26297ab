// SPDX-License-Identifier: Apache-2.0
/* Making traces with a model that is at work: an evaluation, or a generation. */
#include "base/memory.h"
#include "eval/traced.h"
#include "infer/engine.h"
#include "model/model_identity.h"

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to trace");
}

static sgm_status create(const sgm_trace_target *target, const sgm_trace_info *about, sgm_trace_writer **writer,
                         sgm_error *error) {
    return target->path ? sgm_trace_create(target->path, about, writer, error)
                        : sgm_trace_create_in(target->memory, about, writer, error);
}

sgm_status sgm_trace_begin(const sgm_engine *engine, sgm_trace_source source, const sgm_trace_target *target,
                           sgm_trace_recorder *recorder, sgm_error *error) {
    sgm_trace_info about;
    sgm_trace_writer *writer;
    int64_t *expert_bytes = sgm_alloc((size_t)sgm_model_routed(&engine->model->settings) * sizeof *expert_bytes);
    if (!expert_bytes)
        return no_memory(error);
    sgm_model_about(engine->model, engine->model->selection_bias, engine->tokenizer, engine->experts_per_token,
                    expert_bytes, &about);
    about.source = source;
    about.step = engine->info.step;
    sgm_status status = create(target, &about, &writer, error);
    sgm_free(expert_bytes);
    if (!status)
        sgm_trace_recorder_begin(recorder, writer, about.layers, sgm_trace_stride(&about));
    return status;
}

sgm_status sgm_trace_evaluate(const char *model, const sgm_engine_options *options, const char *const *paths,
                              size_t count, int64_t token_limit, const char *out, sgm_evaluation *evaluation,
                              sgm_error *error) {
    const sgm_trace_target target = {.path = out};
    return sgm_evaluate_traced(model, options, paths, count, token_limit, &target, evaluation, error);
}

/* ---- generation ------------------------------------------------------------------------------------------------- */

typedef struct generation {
    const sgm_engine *engine;
    int64_t prompt_tokens;
    int64_t prompt, generated; /* domains */
    sgm_trace_recorder recorder;
} generation;

static int64_t domain_of(const void *context, int64_t row) {
    const generation *g = context;
    return g->engine->positions[row] < g->prompt_tokens ? g->prompt : g->generated;
}

static sgm_status begin(const sgm_engine *engine, const char *out, generation *g, sgm_error *error) {
    const sgm_trace_target target = {.path = out};
    g->recorder.tokens = engine->tokens;
    g->recorder.domain_of = domain_of;
    g->recorder.context = g;
    sgm_status status = sgm_trace_begin(engine, SGM_TRACE_GENERATE, &target, &g->recorder, error);
    if (!status)
        status = sgm_trace_domain(g->recorder.writer, "prompt", &g->prompt, error);
    if (!status)
        status = sgm_trace_domain(g->recorder.writer, "generated", &g->generated, error);
    return status;
}

sgm_status sgm_trace_generate(sgm_engine *engine, const int32_t *prompt, int64_t prompt_count,
                              const sgm_generate_options *options, const char *out, int64_t *tokens, sgm_error *error) {
    generation *g = sgm_alloc(sizeof *g);
    sgm_session *session = NULL;
    if (!g)
        return no_memory(error);
    g->engine = engine;
    g->prompt_tokens = prompt_count > 0 ? prompt_count : 1; /* an empty one is end-of-text */
    sgm_status status = sgm_session_new(engine, &session, error);
    if (!status)
        status = begin(engine, out, g, error);
    if (!status) {
        engine->observe = sgm_trace_record;
        engine->observer = &g->recorder;
        status = sgm_generate(session, prompt, prompt_count, options, NULL, NULL, error);
        engine->observe = NULL;
        engine->observer = NULL;
        if (!status)
            status = sgm_trace_recorder_end(&g->recorder, tokens, error);
    }
    sgm_trace_recorder_fini(&g->recorder);
    sgm_free(g);
    sgm_session_free(session);
    return status;
}
