// SPDX-License-Identifier: Apache-2.0
/* Inside of engines and sessions. */
#ifndef SGM_INFER_ENGINE_H
#define SGM_INFER_ENGINE_H

#include "base/team.h"
#include "infer/kv_pages.h"
#include "model/transformer.h"
#include "sigmoe/session.h"

struct sgm_engine {
    sgm_model_info info;
    sgm_model *model;
    int64_t *experts_per_token; /* (L) */
    sgm_tokenizer *tokenizer;   /* NULL: none */
    const sgm_kernels *kernels;
    sgm_team *team;
    sgm_kv_pool pool;
    int64_t batch_tokens;
    sgm_load *load; /* (L) accumulators of every step's routing, borrowed; NULL: nobody counts */
    void (*observe)(void *observer,
                    const sgm_routing *record); /* of every layer of every step (op/ops.h); NULL: nobody */
    void *observer;

    /* The step's memory, made once. */
    sgm_walk *walks; /* one per thread */
    char *values;    /* the walks' block */
    size_t value_bytes;
    int32_t *tokens, *positions; /* (batch_tokens) */
    int64_t *wanted;             /* (batch_tokens) rows whose logits are asked for */
    sgm_segment *segments;       /* (batch_tokens) */
    int32_t *not_finite;         /* (threads) */
};

struct sgm_session {
    sgm_engine *engine;
    int64_t length;
    int64_t page_count;
    int32_t *pages;    /* (page capacity) */
    char **table;      /* (L, page capacity): where each page's part of each layer is */
    sgm_kv_pages view; /* what attention reads */
    bool in_step;      /* marks the sessions of a batch, to find one that is named twice */
    bool claims_copy;  /* between claim and unclaim: it will copy its last page */
};

int64_t sgm_session_page_capacity(const sgm_engine *engine);
/* Free pages that appending `count` tokens takes, if the sessions that claimed before do append: the last to write to a page
 * they shared has it to itself and copies nothing. A claim is taken back with the other. */
int64_t sgm_session_pages_claim(sgm_session *session, int64_t count);
void sgm_session_pages_unclaim(sgm_session *session);
/* Make positions length … length+count-1 writable; the caller has checked that there are enough free pages. */
void sgm_session_reserve(sgm_session *session, int64_t count);
/* Give back the pages past the length. */
void sgm_session_trim(sgm_session *session);
/* SGM_ESPACE when `count` more tokens do not fit the context. */
sgm_status sgm_session_context_check(const sgm_session *session, int64_t count, sgm_error *error);

#endif
