// SPDX-License-Identifier: Apache-2.0
/* Generation: feed the prompt, then draw and feed one token after the other.
 *
 * The draw of the token at position p of a session is number p of the seed, so a text does not depend on how its making was
 * cut into calls. The last token is returned but not fed: the session then ends with the one before it. */
#include "base/memory.h"
#include "infer/engine.h"

/* An empty prompt on an empty session starts a document: it is fed end-of-text. */
static sgm_status feed_prompt(sgm_session *session, const int32_t *prompt, int64_t count, float *logits,
                              sgm_error *error) {
    const sgm_tokenizer *tokenizer = session->engine->tokenizer;
    int32_t start = tokenizer ? sgm_tokenizer_end_of_text(tokenizer) : -1;
    if (count > 0)
        return sgm_session_feed(session, prompt, count, logits, error);
    if (session->length > 0 || start < 0)
        return sgm_fail(error, SGM_EARGUMENT, "give a prompt of at least one token", "the prompt is empty");
    return sgm_session_feed(session, &start, 1, logits, error);
}

/* Tell the caller; false: stop. */
static bool deliver(const sgm_engine *engine, const sgm_generate_options *options, int32_t id) {
    size_t size = 0;
    const char *bytes = engine->tokenizer ? sgm_tokenizer_bytes_of(engine->tokenizer, id, &size) : NULL;
    return !options->token || options->token(options->context, id, bytes ? bytes : "", bytes ? size : 0);
}

static sgm_status loop(sgm_session *session, const sgm_generate_options *options, float *logits, int32_t *made,
                       int64_t *count, sgm_stop *stopped, sgm_error *error) {
    const sgm_engine *engine = session->engine;
    int64_t vocabulary = engine->model->settings.vocabulary, context = engine->model->settings.context;
    int32_t end = engine->tokenizer ? sgm_tokenizer_end_of_text(engine->tokenizer) : -1;
    *stopped = SGM_STOP_TOKENS;
    while (*count < options->tokens) {
        int32_t id;
        sgm_status status = sgm_sample(logits, vocabulary, &options->sampler, (uint64_t)session->length, &id, error);
        if (status)
            return status;
        if (id == end && !options->ignore_end_of_text) {
            *stopped = SGM_STOP_END_OF_TEXT;
            return SGM_OK;
        }
        made[(*count)++] = id;
        if (!deliver(engine, options, id)) {
            *stopped = SGM_STOP_CALLER;
            return SGM_OK;
        }
        if (*count == options->tokens)
            return SGM_OK;
        if (session->length == context) {
            *stopped = SGM_STOP_CONTEXT;
            return SGM_OK;
        }
        status = sgm_session_feed(session, &id, 1, logits, error);
        if (status)
            return status;
    }
    return SGM_OK;
}

sgm_status sgm_generate(sgm_session *session, const int32_t *prompt, int64_t prompt_count,
                        const sgm_generate_options *options, int32_t **ids, int64_t *count, sgm_error *error) {
    const sgm_model_settings *s = &session->engine->model->settings;
    int64_t room = options->tokens < s->context + 1 ? options->tokens : s->context + 1, made_count = 0;
    int64_t before = session->length;
    sgm_stop stopped = SGM_STOP_TOKENS;
    if (ids)
        *ids = NULL;
    if (count)
        *count = 0;
    if (options->tokens < 0)
        return sgm_fail(error, SGM_EARGUMENT, "ask for 0 or more", "%lld tokens cannot be generated",
                        (long long)options->tokens);
    float *logits = sgm_alloc((size_t)s->vocabulary * sizeof *logits);
    int32_t *made = sgm_alloc((size_t)(room + 1) * sizeof *made);
    sgm_status status = logits && made ? feed_prompt(session, prompt, prompt_count, logits, error)
                                       : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to generate");
    if (!status)
        status = loop(session, options, logits, made, &made_count, &stopped, error);
    sgm_free(logits);
    if (status && session->length > before)
        (void)sgm_session_truncate(session, before, NULL);
    if (options->stopped && !status)
        *options->stopped = stopped;
    if (count && !status)
        *count = made_count;
    if (ids && !status)
        *ids = made;
    else
        sgm_free(made);
    return status;
}
