// SPDX-License-Identifier: Apache-2.0
/* Evaluation that keeps the routes. */
#ifndef SGM_EVAL_TRACED_H
#define SGM_EVAL_TRACED_H

#include "routing/trace.h"
#include "sigmoe/stats.h"

/* Where a trace goes: a file, or bytes in memory that the caller ends. */
typedef struct sgm_trace_target {
    const char *path; /* NULL: to `memory` */
    sgm_buffer *memory;
} sgm_trace_target;
sgm_status sgm_trace_target_create(const sgm_trace_target *target, const sgm_trace_info *about,
                                   sgm_trace_writer **writer, sgm_error *error);

/* sgm_evaluate; `target` NULL: routes are not kept. */
sgm_status sgm_evaluate_traced(const char *model, const sgm_engine_options *options, const char *const *paths,
                               size_t count, int64_t token_limit, const sgm_trace_target *target,
                               sgm_evaluation *evaluation, sgm_error *error);

void sgm_layer_stats_of(const sgm_load *load, sgm_layer_stats *stats);

#endif
