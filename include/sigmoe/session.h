// SPDX-License-Identifier: Apache-2.0
/* Inference: an engine is a loaded model, immutable and shared; a session is one sequence's timeline in it.
 *
 * sgm_engine_step takes a batch of new tokens of any number of sessions at different positions and computes them
 * together. Keys and values live in pages of 64 positions, reference-counted: forking a session shares its past, truncating
 * gives pages back. One thread at a time may step an engine. */
#ifndef SIGMOE_SESSION_H
#define SIGMOE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"
#include "sigmoe/model.h"
#include "sigmoe/text.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sgm_engine sgm_engine;
typedef struct sgm_session sgm_session;

typedef struct sgm_engine_options {
    int threads;         /* 0: as many as there are cores */
    const char *kernels; /* NULL: "auto" */
    /* Most rows per step; 0: 2048, or 512 where memory is short. sgm_session_feed cuts longer prompts into such chunks. */
    int64_t batch_tokens;
    int64_t kv_tokens; /* positions of all sessions together; 0: the model's context */
    /* How keys and values are kept: "f32", "f16", "q8" (8-bit integers, one scale a head and position). NULL, "auto": f32 for a
     * model whose weights are f32, f16 for the others. With each of them decode gives the bytes of prefill. */
    const char *kv_type;
    /* Of evaluations (sgm_evaluate, sgm_trace_evaluate), polled between batches: non-zero ends one with SGM_EINTERRUPTED, and
     * of a trace nothing is left. NULL: nobody asks. */
    const volatile int *stop;
} sgm_engine_options;
/* `model`: model folder, checkpoint, run folder or GGUF file. SGM_EMEMORY is said before allocating. */
sgm_status sgm_engine_open(const char *model, const sgm_engine_options *options, sgm_engine **engine, sgm_error *error);
void sgm_engine_close(sgm_engine *engine); /* after its sessions */
const sgm_model_info *sgm_engine_info(const sgm_engine *engine);
const sgm_tokenizer *sgm_engine_tokenizer(const sgm_engine *engine); /* NULL: the folder has none */

sgm_status sgm_session_new(sgm_engine *engine, sgm_session **session, sgm_error *error);
sgm_status sgm_session_fork(const sgm_session *session, sgm_session **fork, sgm_error *error);
void sgm_session_free(sgm_session *session);
int64_t sgm_session_length(const sgm_session *session); /* positions in its cache */
sgm_status sgm_session_truncate(sgm_session *session, int64_t length, sgm_error *error);

/* One piece of a batch: `count` new tokens of a session, appended at its end. */
typedef struct sgm_batch_item {
    sgm_session *session;
    const int32_t *tokens;
    int64_t count;
    bool all_logits; /* logits of every row, not of the last only */
} sgm_batch_item;
/* logits: rows in item order, (rows wanted, V) f32, caller's. Errors leave every session as it was. SGM_ESPACE: context or
 * pages used up; SGM_EARGUMENT: a token outside the vocabulary; SGM_ENUMERIC: a logit is not finite. */
sgm_status sgm_engine_step(sgm_engine *engine, const sgm_batch_item *items, size_t count, float *logits,
                           sgm_error *error);
/* Any number of tokens of one session in chunks; logits of the last row (V), may be NULL. */
sgm_status sgm_session_feed(sgm_session *session, const int32_t *tokens, int64_t count, float *logits,
                            sgm_error *error);

/* ---- sampling ------------------------------------------------------------------------------------------------- */

typedef struct sgm_sampler_options {
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: all */
    double top_p;       /* 1: all */
    uint64_t seed;
} sgm_sampler_options;
/* The token at draw number `draw` of the seed: a pure function of its arguments. Greedy ties go to the lower id. */
sgm_status sgm_sample(const float *logits, int64_t vocabulary, const sgm_sampler_options *options, uint64_t draw,
                      int32_t *token, sgm_error *error);

/* Why a text ends where it does. */
typedef enum sgm_stop {
    SGM_STOP_TOKENS,      /* as many as were asked for */
    SGM_STOP_END_OF_TEXT, /* the model ended it */
    SGM_STOP_CALLER,      /* the callback said so */
    SGM_STOP_CONTEXT,     /* the model's context is full */
} sgm_stop;

typedef struct sgm_generate_options {
    sgm_sampler_options sampler;
    int64_t tokens; /* most new tokens */
    bool ignore_end_of_text;
    /* Called with each new token's bytes; return false to stop. */
    bool (*token)(void *context, int32_t id, const char *bytes, size_t size);
    void *context;
    sgm_stop *stopped; /* gets the reason; may be NULL */
} sgm_generate_options;
/* Feed `prompt` and generate. *ids (may be NULL) is a heap array (sgm_text_free) of *count tokens. The last token is not fed.
 * Fewer than asked for is no error: see `stopped`. An error leaves the session as it was; SGM_ESPACE: the prompt itself does
 * not fit the context, or the pages of all sessions are used up. */
sgm_status sgm_generate(sgm_session *session, const int32_t *prompt, int64_t prompt_count,
                        const sgm_generate_options *options, int32_t **ids, int64_t *count, sgm_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
