// SPDX-License-Identifier: Apache-2.0
/* Traces: which experts worked on which token, in one file, of a training step, an evaluation or a generation.
 *
 * The format is docs/trace.md: a header (model, tokenizer, shape, source), blocks of tokens that each carry a checksum, and an
 * end. A trace is written in one pass with the memory of one block, under another name until it is whole; what a killed
 * program leaves can be read up to its last whole block. Reading checks a block before anything of it is used.
 *
 * The same tokens routed by the same model with the reference kernels give the same tokens, experts and weights, in
 * training and in inference. */
#ifndef SIGMOE_TRACE_H
#define SIGMOE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"
#include "sigmoe/session.h"
#include "sigmoe/stats.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- the file ------------------------------------------------------------------------------------------------- */

typedef enum sgm_trace_source { SGM_TRACE_TRAIN, SGM_TRACE_EVAL, SGM_TRACE_GENERATE } sgm_trace_source;

/* Flags of an assignment that cost no row of an expert. */
enum { SGM_TRACE_NULL = 1, SGM_TRACE_DROPPED = 2 };
#define SGM_TRACE_UNUSED UINT16_MAX /* the expert of a slot that was not used */

/* What a trace says of itself. Arrays and names are borrowed from the trace (from the caller, where one is made). */
typedef struct sgm_trace_info {
    sgm_trace_source source;
    int64_t step; /* TRAIN: the step, counted from 1, whose global batch it is; else the checkpoint's; -1: of none */
    uint64_t
        model_hash; /* of the weights that routed (before that step's update) and the bias on selection; 0: unknown */
    uint64_t tokenizer_hash; /* of the tokens' bytes; 0: there was none */
    /* V, L, E; of E the last so many have no weights. With attention experts L counts routed sub-layers (sigmoe/model.h), whose
     * experts are `attention_experts` and `experts` in turn; 0: the model has none. */
    int64_t vocabulary, layers, experts, null_experts, attention_experts;
    const int64_t *experts_per_token; /* (L) K of each layer */
    const int64_t *expert_bytes;      /* (L) mean bytes of one expert's weights as the model stores them; 0: unknown */
    /* Known from reading; ignored where a trace is made. */
    int64_t tokens, blocks;
    size_t domains;
    const char *const *domain; /* (domains) names */
    bool complete;             /* false: its writer never came to the end */
} sgm_trace_info;

typedef struct sgm_trace sgm_trace;
/* Errors: SGM_ENOTFOUND; SGM_EFORMAT it is no trace, or it is damaged; SGM_EUNSUPPORTED a newer version or feature. */
sgm_status sgm_trace_open(const char *path, sgm_trace **trace, sgm_error *error);
void sgm_trace_close(sgm_trace *trace); /* NULL is fine */
const sgm_trace_info *sgm_trace_about(const sgm_trace *trace);
/* Does the file begin as a trace does? false also where it cannot be read. */
bool sgm_trace_is_one(const char *path);

/* Tokens in the order they were routed. Assignment k of token t in layer l stands at place first[l] + t · slots[l] + k. */
typedef struct sgm_trace_block {
    int64_t tokens;
    const int32_t *token;   /* (tokens) id that went in */
    const uint16_t *domain; /* (tokens) index of its domain */
    const int64_t *slots;   /* (L) most assignments of a token of this block; at least 1 */
    const int64_t *first;   /* (L + 1) the last: all places */
    const uint16_t *expert; /* (places) SGM_TRACE_UNUSED: no assignment */
    const float *weight;    /* (places) what the expert's output was multiplied by */
    const uint8_t *flags;   /* (places) SGM_TRACE_NULL, SGM_TRACE_DROPPED */
} sgm_trace_block;
/* Block `index` < blocks. It is overwritten by the next reading. Errors: SGM_EFORMAT it is damaged; SGM_EIO. */
sgm_status sgm_trace_read(sgm_trace *trace, int64_t index, sgm_trace_block *block, sgm_error *error);
/* Σ of the router's probabilities over a domain's tokens, (L, E) or, with attention experts, (L, larger of both), borrowed; NULL where the end of the trace is missing, or
 * who made it did not know them. */
const double *sgm_trace_probability(const sgm_trace *trace, size_t domain);

typedef struct sgm_trace_writer sgm_trace_writer;
/* Errors: SGM_EARGUMENT a shape that the format cannot hold (65,535 experts are too many), a path that cannot be; SGM_EIO. */
sgm_status sgm_trace_create(const char *path, const sgm_trace_info *about, sgm_trace_writer **writer, sgm_error *error);
/* Index of the domain of that name (1 to 63 bytes); a new one is added. Errors: SGM_EARGUMENT, SGM_ESPACE after 65,535. */
sgm_status sgm_trace_domain(sgm_trace_writer *writer, const char *name, int64_t *index, sgm_error *error);

/* One token; its slots[0] assignments in layer 0 come first, then those of layer 1. */
typedef struct sgm_trace_token {
    int32_t token;
    int64_t domain;
    const int64_t *slots;  /* (L) */
    const int32_t *expert; /* (Σ slots) −1: the slot is not used */
    const float *weight;   /* (Σ slots) */
    const uint8_t *flags;  /* (Σ slots); NULL: none */
} sgm_trace_token;
/* After any failure every later call fails too. Errors: SGM_EARGUMENT a token, domain or expert that cannot be, an expert twice;
 * SGM_ENUMERIC a weight that is not finite; SGM_EIO. */
sgm_status sgm_trace_add(sgm_trace_writer *writer, const sgm_trace_token *token, sgm_error *error);
/* Finish and rename into place; frees the writer, also on failure. *tokens (may be NULL): how many it holds. */
sgm_status sgm_trace_commit(sgm_trace_writer *writer, int64_t *tokens, sgm_error *error);
void sgm_trace_abandon(sgm_trace_writer *writer); /* leaves nothing behind; NULL is fine */

/* ---- making them ---------------------------------------------------------------------------------------------- */

/* sgm_evaluate that keeps the routes of every scored token. Domains: those of a data folder; of a text file its name without
 * folder and ending. A training run writes its own (train.trace_every). */
sgm_status sgm_trace_evaluate(const char *model, const sgm_engine_options *options, const char *const *paths,
                              size_t count, int64_t token_limit, const char *out, sgm_evaluation *evaluation,
                              sgm_error *error);
/* sgm_generate in a session of its own that keeps the routes: domains `prompt` and `generated`. The last token is not fed, so
 * it has none. *tokens (may be NULL): how many the trace holds. */
sgm_status sgm_trace_generate(sgm_engine *engine, const int32_t *prompt, int64_t prompt_count,
                              const sgm_generate_options *options, const char *out, int64_t *tokens, sgm_error *error);

/* ---- what they show ------------------------------------------------------------------------------------------- */

/* Load of the experts: of all tokens first, then of each domain. In `load` null and dropped assignments count: it is about what the
 * router chose; the fields of a layer leave null experts out, and keep what was dropped. */
typedef struct sgm_trace_load {
    int64_t tokens;
    sgm_layer_stats *layer; /* (L); probability_entropy_over_log_e and correlation are NaN where the trace has no end */
    int64_t *load;          /* (L, E) assignments */
    int64_t *computed;      /* (L) of them those that cost a row: neither null nor dropped */
} sgm_trace_load;
typedef struct sgm_trace_stats {
    int64_t layers, experts, null_experts, attention_experts; /* as sgm_trace_info has them */
    size_t domains;
    sgm_trace_load all;
    sgm_trace_load *domain; /* (domains) */
    int64_t *computed_load; /* (L, E) of all tokens: assignments that cost a row, neither null nor dropped */
    /* (L) Jensen–Shannon divergence in nats between the domains' shares of load, each domain weighing the same: 0, every
     * domain uses the experts alike, to ln(domains), each has its own. Domains without tokens are left out, and null experts. */
    double *domain_divergence_nats; /* (layers); NaN where fewer than two domains have tokens, the noise too */
    /* (L) what domains that were alike would show with so few tokens: (E′ − K) (1 − 1/D) Σ 1/n_d / 2D, with n_d assignments,
     * E′ experts that any of them used and K assignments a token, at least 1. */
    double *domain_divergence_noise_nats;
} sgm_trace_stats;
/* Reads the whole trace once. Errors: those of sgm_trace_read; SGM_EFORMAT there is no token in it; SGM_EMEMORY. */
sgm_status sgm_trace_summarise(sgm_trace *trace, sgm_trace_stats *stats, sgm_error *error);
void sgm_trace_stats_free(sgm_trace_stats *stats);

/* Two traces of the same tokens. An assignment is changed when its expert is not among those that `against` chose for that
 * token in that layer; their order in the slots does not matter. */
typedef struct sgm_trace_comparison {
    int64_t tokens, layers;
    double assignments_changed; /* share of (token, layer, slot) */
    double tokens_changed;      /* share of tokens with a changed assignment in any layer */
    double weights_changed;     /* share of the assignments both made whose weight is not the same to the bit */
    double *layer_changed;      /* (L) heap: assignments_changed of each layer */
    double *load_difference;    /* (L) heap: ½ Σ |f − f'| of the shares of what was computed, 0 … 1 */
} sgm_trace_comparison;
/* Errors: SGM_EARGUMENT their shapes or tokens differ; those of sgm_trace_read. */
sgm_status sgm_trace_compare(sgm_trace *trace, sgm_trace *against, sgm_trace_comparison *comparison, sgm_error *error);
void sgm_trace_comparison_free(sgm_trace_comparison *comparison);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
