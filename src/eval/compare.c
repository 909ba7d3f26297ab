// SPDX-License-Identifier: Apache-2.0
/* Two models of one shape on one text: how many assignments of tokens to experts differ. One model is in memory at a time. */
#include <string.h>

#include "base/memory.h"
#include "eval/route_trace.h"

sgm_status sgm_route_trace_init(sgm_route_trace *trace, int64_t layers, int64_t experts,
                                const int64_t *experts_per_token, sgm_error *error) {
    *trace = (sgm_route_trace){.layers = layers, .experts = experts};
    trace->offset = sgm_alloc((size_t)(layers + 1) * sizeof *trace->offset);
    if (!trace->offset)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to keep the routes of tokens");
    for (int64_t l = 0; l < layers; l++)
        trace->offset[l + 1] = trace->offset[l] + experts_per_token[l];
    return SGM_OK;
}

void sgm_route_trace_fini(sgm_route_trace *trace) {
    sgm_free(trace->offset);
    sgm_free(trace->token);
    sgm_free(trace->expert);
    *trace = (sgm_route_trace){0};
}

static sgm_status reserve(sgm_route_trace *trace, int64_t tokens, sgm_error *error) {
    if (tokens <= trace->capacity)
        return SGM_OK;
    const size_t row = (size_t)trace->offset[trace->layers] * sizeof *trace->expert;
    int64_t capacity = trace->capacity ? trace->capacity : 1024;
    while (capacity < tokens)
        capacity *= 2;
    int32_t *token =
        sgm_resize(trace->token, (size_t)trace->capacity * sizeof *token, (size_t)capacity * sizeof *token);
    if (token)
        trace->token = token;
    int32_t *expert = token ? sgm_resize(trace->expert, (size_t)trace->capacity * row, (size_t)capacity * row) : NULL;
    if (!expert)
        return sgm_fail(error, SGM_EMEMORY, "use less text (--limit)",
                        "not enough memory to keep the routes of tokens");
    trace->expert = expert;
    trace->capacity = capacity;
    return SGM_OK;
}

sgm_status sgm_route_trace_begin(sgm_route_trace *trace, const int32_t *targets, int64_t rows, sgm_error *error) {
    int64_t scored = 0;
    for (int64_t r = 0; r < rows; r++)
        scored += targets[r] >= 0;
    sgm_status status = reserve(trace, trace->tokens + scored, error);
    if (status)
        return status;
    trace->recorded = trace->tokens;
    for (int64_t r = 0; r < rows; r++)
        if (targets[r] >= 0)
            trace->token[trace->tokens++] = targets[r];
    return SGM_OK;
}

void sgm_route_trace_record(sgm_route_trace *trace, const int32_t *targets, const sgm_routing *record) {
    const int64_t at = trace->offset[record->layer], slots = trace->offset[record->layer + 1] - at;
    const int64_t row = trace->offset[trace->layers];
    int32_t *to = trace->expert + trace->recorded * row + at;
    for (int64_t i = 0; i < record->items; i++)
        if (targets[i] >= 0) {
            memcpy(to, record->expert + i * record->slots, (size_t)slots * sizeof *to);
            to += row;
        }
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */

static sgm_status check_same(const sgm_route_trace *a, const sgm_route_trace *b, sgm_error *error) {
    bool same = a->layers == b->layers && a->experts == b->experts;
    for (int64_t l = 0; same && l <= a->layers; l++)
        same = a->offset[l] == b->offset[l];
    if (!same)
        return sgm_fail(error, SGM_EARGUMENT, "`sigmoe inspect` shows what a model is",
                        "the two models differ in layers, experts or experts per token: their routes do not compare");
    if (a->tokens != b->tokens || memcmp(a->token, b->token, (size_t)a->tokens * sizeof *a->token) != 0)
        return sgm_fail(error, SGM_EARGUMENT, "give the same model in two forms",
                        "the two models read the text as different tokens: their tokenizers differ");
    return SGM_OK;
}

/* Experts of `a` that are not among those of `b`; *used counts a's. Their order in the slots does not matter. */
static int64_t differing(const int32_t *a, const int32_t *b, int64_t slots, int64_t *used) {
    int64_t count = 0;
    for (int64_t i = 0; i < slots; i++) {
        bool found = a[i] < 0;
        *used += !found;
        for (int64_t j = 0; j < slots && !found; j++)
            found = a[i] == b[j];
        count += !found;
    }
    return count;
}

static sgm_status compare(const sgm_route_trace *a, const sgm_route_trace *b, sgm_comparison *out, sgm_error *error) {
    const int64_t L = a->layers, row = a->offset[L];
    int64_t *changed = sgm_alloc((size_t)(2 * L + 1) * sizeof *changed);
    out->layers = L;
    out->layer_changed = sgm_alloc((size_t)L * sizeof *out->layer_changed);
    if (!changed || !out->layer_changed) {
        sgm_free(changed);
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to compare routes");
    }
    int64_t *used = changed + L;
    int64_t tokens = 0, all_changed = 0, all_used = 0;
    for (int64_t t = 0; t < a->tokens; t++) {
        int64_t here = 0;
        for (int64_t l = 0; l < L; l++) {
            const int64_t at = t * row + a->offset[l], slots = a->offset[l + 1] - a->offset[l];
            int64_t n = differing(a->expert + at, b->expert + at, slots, &used[l]);
            changed[l] += n;
            here += n;
        }
        tokens += here > 0;
    }
    for (int64_t l = 0; l < L; l++) {
        out->layer_changed[l] = used[l] ? (double)changed[l] / (double)used[l] : 0;
        all_changed += changed[l];
        all_used += used[l];
    }
    out->assignments_changed = all_used ? (double)all_changed / (double)all_used : 0;
    out->tokens_changed = (double)tokens / (double)a->tokens;
    sgm_free(changed);
    return SGM_OK;
}

sgm_status sgm_evaluate_against(const char *model, const char *against, const sgm_engine_options *options,
                                const char *const *paths, size_t count, int64_t token_limit, sgm_comparison *comparison,
                                sgm_error *error) {
    *comparison = (sgm_comparison){0};
    sgm_route_trace a = {0}, b = {0};
    sgm_status status = sgm_evaluate_traced(model, options, paths, count, token_limit, &a, &comparison->model, error);
    if (!status)
        status = sgm_evaluate_traced(against, options, paths, count, token_limit, &b, &comparison->against, error);
    if (!status)
        status = check_same(&a, &b, error);
    if (!status)
        status = compare(&a, &b, comparison, error);
    sgm_route_trace_fini(&a);
    sgm_route_trace_fini(&b);
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
