// SPDX-License-Identifier: Apache-2.0
/* Which experts worked on which token: what evaluation keeps so that two models can be compared on the same text. */
#ifndef SGM_EVAL_ROUTE_TRACE_H
#define SGM_EVAL_ROUTE_TRACE_H

#include "routing/routing.h"
#include "sigmoe/stats.h"

/* Of each scored token, in the order of the text: the token, and for each layer the experts of its K(layer) slots
 * (-1: unused). Storage grows before a batch is run; recording allocates nothing. */
typedef struct sgm_route_trace {
    int64_t layers, experts;
    int64_t *offset; /* (L + 1): where a layer's slots begin in a token's row; the last: the row's length */
    int64_t tokens, capacity;
    int32_t *token;   /* (capacity) */
    int32_t *expert;  /* (capacity, offset[L]) */
    int64_t recorded; /* tokens before the batch at hand */
} sgm_route_trace;

sgm_status sgm_route_trace_init(sgm_route_trace *trace, int64_t layers, int64_t experts,
                                const int64_t *experts_per_token, sgm_error *error);
void sgm_route_trace_fini(sgm_route_trace *trace);
/* A batch begins: its rows that are scored are those with targets[row] >= 0. */
sgm_status sgm_route_trace_begin(sgm_route_trace *trace, const int32_t *targets, int64_t rows, sgm_error *error);
/* A layer of that batch. */
void sgm_route_trace_record(sgm_route_trace *trace, const int32_t *targets, const sgm_routing *record);

/* sgm_evaluate, keeping the routes in `trace` (NULL: not kept), which it initialises and the caller ends. */
sgm_status sgm_evaluate_traced(const char *model, const sgm_engine_options *options, const char *const *paths,
                               size_t count, int64_t token_limit, sgm_route_trace *trace, sgm_evaluation *evaluation,
                               sgm_error *error);

#endif
