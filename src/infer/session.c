// SPDX-License-Identifier: Apache-2.0
/* Sessions: a list of pages and a length. Full pages are shared by forks; the last, partly filled one is copied by
 * whichever session first writes to it while others hold it. */
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "infer/engine.h"

static int64_t pages_of(int64_t positions) {
    return (positions + SGM_KV_PAGE - 1) / SGM_KV_PAGE;
}

int64_t sgm_session_page_capacity(const sgm_engine *engine) {
    int64_t most = pages_of(engine->model->settings.context);
    return most < engine->pool.pages ? most : engine->pool.pages;
}

static void page_set(sgm_session *session, int64_t index, int32_t page) {
    const sgm_kv_pool *pool = &session->engine->pool;
    session->pages[index] = page;
    for (int64_t l = 0; l < pool->layers; l++)
        session->table[l * session->view.pages_per_layer + index] = sgm_kv_page_data(pool, page, l);
}

sgm_status sgm_session_new(sgm_engine *engine, sgm_session **out, sgm_error *error) {
    int64_t capacity = sgm_session_page_capacity(engine);
    sgm_session *session = sgm_alloc(sizeof *session);
    *out = NULL;
    if (session) {
        session->engine = engine;
        session->pages = sgm_alloc((size_t)capacity * sizeof *session->pages);
        session->table = sgm_alloc((size_t)(capacity * engine->pool.layers) * sizeof *session->table);
        session->view = (sgm_kv_pages){session->table, capacity, engine->pool.type};
    }
    if (!session || !session->pages || !session->table) {
        sgm_session_free(session);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a session");
    }
    *out = session;
    return SGM_OK;
}

sgm_status sgm_session_fork(const sgm_session *session, sgm_session **fork, sgm_error *error) {
    sgm_status status = sgm_session_new(session->engine, fork, error);
    if (status)
        return status;
    for (int64_t i = 0; i < session->page_count; i++) {
        sgm_kv_page_share(&session->engine->pool, session->pages[i]);
        page_set(*fork, i, session->pages[i]);
    }
    (*fork)->page_count = session->page_count;
    (*fork)->length = session->length;
    return SGM_OK;
}

void sgm_session_free(sgm_session *session) {
    if (!session)
        return;
    session->length = 0;
    sgm_session_trim(session);
    sgm_free(session->pages);
    sgm_free(session->table);
    sgm_free(session);
}

int64_t sgm_session_length(const sgm_session *session) {
    return session->length;
}

void sgm_session_trim(sgm_session *session) {
    for (int64_t keep = pages_of(session->length); session->page_count > keep;)
        sgm_kv_page_give(&session->engine->pool, session->pages[--session->page_count]);
}

sgm_status sgm_session_truncate(sgm_session *session, int64_t length, sgm_error *error) {
    if (length < 0 || length > session->length)
        return sgm_fail(error, SGM_EARGUMENT, "truncating only shortens",
                        "a session of %" PRId64 " positions cannot be truncated to %" PRId64, session->length, length);
    session->length = length;
    sgm_session_trim(session);
    return SGM_OK;
}

/* The last page is partly filled, is written next, and others hold it too. */
static bool last_is_shared(const sgm_session *session) {
    return session->length % SGM_KV_PAGE != 0 &&
           session->engine->pool.references[session->pages[session->length / SGM_KV_PAGE]] > 1;
}

int64_t sgm_session_pages_claim(sgm_session *session, int64_t count) {
    session->claims_copy = last_is_shared(session);
    if (session->claims_copy)
        session->engine->pool.references[session->pages[session->length / SGM_KV_PAGE]]--;
    return pages_of(session->length + count) - session->page_count + session->claims_copy;
}

void sgm_session_pages_unclaim(sgm_session *session) {
    if (session->claims_copy)
        session->engine->pool.references[session->pages[session->length / SGM_KV_PAGE]]++;
    session->claims_copy = false;
}

void sgm_session_reserve(sgm_session *session, int64_t count) {
    sgm_kv_pool *pool = &session->engine->pool;
    if (last_is_shared(session)) {
        int64_t index = session->length / SGM_KV_PAGE;
        int32_t shared = session->pages[index], own = sgm_kv_page_take(pool);
        sgm_kv_page_copy(pool, shared, own);
        page_set(session, index, own);
        sgm_kv_page_give(pool, shared);
    }
    while (session->page_count < pages_of(session->length + count)) {
        page_set(session, session->page_count, sgm_kv_page_take(pool));
        session->page_count++;
    }
}

sgm_status sgm_session_context_check(const sgm_session *session, int64_t count, sgm_error *error) {
    int64_t context = session->engine->model->settings.context;
    if (count <= context - session->length)
        return SGM_OK;
    return sgm_fail(error, SGM_ESPACE, "shorten the prompt, or truncate the session",
                    "the model's context is %" PRId64 " tokens: %" PRId64 " are used, %" PRId64 " more do not fit",
                    context, session->length, count);
}

sgm_status sgm_session_feed(sgm_session *session, const int32_t *tokens, int64_t count, float *logits,
                            sgm_error *error) {
    sgm_engine *engine = session->engine;
    if (count < 1)
        return sgm_fail(error, SGM_EARGUMENT, "feed at least one token", "no tokens to feed");
    sgm_status status = sgm_session_context_check(session, count, error);
    int64_t before = session->length, vocabulary = engine->model->settings.vocabulary;
    float *own = logits || status ? logits : sgm_alloc((size_t)vocabulary * sizeof *own);
    if (!status && !own)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for logits");
    for (int64_t done = 0; !status && done < count;) {
        int64_t n = count - done < engine->batch_tokens ? count - done : engine->batch_tokens;
        sgm_batch_item item = {.session = session, .tokens = tokens + done, .count = n};
        status = sgm_engine_step(engine, &item, 1, own, error);
        done += n;
    }
    if (status)
        (void)sgm_session_truncate(session, before, NULL); /* earlier chunks too */
    if (own != logits)
        sgm_free(own);
    return status;
}
