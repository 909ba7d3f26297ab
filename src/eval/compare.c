// SPDX-License-Identifier: Apache-2.0
/* Two models of one shape on one text: how many assignments of tokens to experts differ. One model is in memory at a time;
 * what it routed is kept as a trace in memory. */
#include "base/memory.h"
#include "eval/traced.h"
#include "sigmoe/trace.h"

static sgm_status evaluate_into(const char *model, const sgm_engine_options *options, const char *const *paths,
                                size_t count, int64_t token_limit, sgm_buffer *trace, sgm_evaluation *evaluation,
                                sgm_error *error) {
    const sgm_trace_target target = {.memory = trace};
    return sgm_evaluate_traced(model, options, paths, count, token_limit, &target, evaluation, error);
}

static sgm_status compare(const sgm_buffer *a, const sgm_buffer *b, sgm_comparison *out, sgm_error *error) {
    sgm_trace *own = NULL, *other = NULL;
    sgm_trace_comparison found = {0};
    sgm_status status = sgm_trace_parse(a->data, a->size, "the routes of the model", &own, error);
    if (!status)
        status = sgm_trace_parse(b->data, b->size, "the routes of the other model", &other, error);
    if (!status)
        status = sgm_trace_compare(own, other, &found, error);
    if (!status) {
        out->assignments_changed = found.assignments_changed;
        out->tokens_changed = found.tokens_changed;
        out->layers = found.layers;
        out->layer_changed = found.layer_changed;
        found.layer_changed = NULL;
    }
    sgm_trace_comparison_free(&found);
    sgm_trace_close(own);
    sgm_trace_close(other);
    return status;
}

sgm_status sgm_evaluate_against(const char *model, const char *against, const sgm_engine_options *options,
                                const char *const *paths, size_t count, int64_t token_limit, sgm_comparison *comparison,
                                sgm_error *error) {
    *comparison = (sgm_comparison){0};
    sgm_buffer a = {0}, b = {0};
    sgm_status status = evaluate_into(model, options, paths, count, token_limit, &a, &comparison->model, error);
    if (!status)
        status = evaluate_into(against, options, paths, count, token_limit, &b, &comparison->against, error);
    if (!status)
        status = compare(&a, &b, comparison, error);
    sgm_buffer_free(&a);
    sgm_buffer_free(&b);
    if (status)
        sgm_comparison_free(comparison);
    return status;
}

void sgm_comparison_free(sgm_comparison *comparison) {
    sgm_evaluation_free(&comparison->model);
    sgm_evaluation_free(&comparison->against);
    sgm_free(comparison->layer_changed);
    *comparison = (sgm_comparison){0};
}
