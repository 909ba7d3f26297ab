// SPDX-License-Identifier: Apache-2.0
/* A model at work that keeps the routes. */
#ifndef SGM_EVAL_TRACED_H
#define SGM_EVAL_TRACED_H

#include "infer/engine.h"
#include "routing/trace.h"
#include "sigmoe/stats.h"

/* Where a trace goes: a file, or bytes in memory that the caller ends. */
typedef struct sgm_trace_target {
    const char *path; /* NULL: to `memory` */
    sgm_buffer *memory;
} sgm_trace_target;

/* Begin a trace of what the engine's model routes: a header that says so, then `recorder`, whose batch is the caller's. */
sgm_status sgm_trace_begin(const sgm_engine *engine, sgm_trace_source source, const sgm_trace_target *target,
                           sgm_trace_recorder *recorder, sgm_error *error);

/* sgm_evaluate; `target` NULL: routes are not kept. */
sgm_status sgm_evaluate_traced(const char *model, const sgm_engine_options *options, const char *const *paths,
                               size_t count, int64_t token_limit, const sgm_trace_target *target,
                               sgm_evaluation *evaluation, sgm_error *error);

void sgm_layer_stats_of(const sgm_load *load, sgm_layer_stats *stats);

#endif
