// SPDX-License-Identifier: Apache-2.0
/* From routing records to a trace: a batch is shown layer by layer, a trace holds token by token. So a batch is staged, and
 * handed to the writer when its last layer was seen. */
#include <string.h>

#include "routing/trace.h"

void sgm_trace_recorder_begin(sgm_trace_recorder *r, sgm_trace_writer *writer, int64_t layers, int64_t stride) {
    r->writer = writer;
    r->layers = layers;
    r->stride = stride;
    r->rows = 0;
    r->status = SGM_OK;
}

/* *block is replaced by one of `bytes`; what it held is not kept. */
static bool renew(void *block, size_t bytes) {
    void **at = block;
    sgm_free(*at);
    *at = sgm_alloc(bytes);
    return *at != NULL;
}

static sgm_status no_memory(sgm_trace_recorder *r) {
    return sgm_fail(&r->error, SGM_EMEMORY, NULL, "no memory to trace a batch");
}

/* ---- staging ---------------------------------------------------------------------------------------------------- */

static sgm_status reserve_rows(sgm_trace_recorder *r, int64_t rows) {
    if (rows <= r->row_capacity)
        return SGM_OK;
    size_t count = (size_t)rows;
    r->row_capacity = 0;
    if (!renew(&r->row_index, count * sizeof *r->row_index) || !renew(&r->row_token, count * sizeof *r->row_token) ||
        !renew(&r->row_domain, count * sizeof *r->row_domain))
        return no_memory(r);
    r->row_capacity = rows;
    return SGM_OK;
}

static sgm_status reserve_places(sgm_trace_recorder *r, sgm_trace_staged *s, int64_t places) {
    if (places <= s->capacity)
        return SGM_OK;
    size_t count = (size_t)places;
    s->capacity = 0;
    if (!renew(&s->expert, count * sizeof *s->expert) || !renew(&s->weight, count * sizeof *s->weight) ||
        !renew(&s->flags, count))
        return no_memory(r);
    s->capacity = places;
    return SGM_OK;
}

/* A batch begins: its rows that count. */
static sgm_status begin_batch(sgm_trace_recorder *r, const sgm_routing *record) {
    if (!r->staged && !(r->staged = sgm_alloc((size_t)r->layers * sizeof *r->staged)))
        return no_memory(r);
    if (!r->slots && !(r->slots = sgm_alloc((size_t)r->layers * sizeof *r->slots)))
        return no_memory(r);
    sgm_status status = reserve_rows(r, record->items);
    if (status)
        return status;
    r->rows = 0;
    for (int64_t i = 0; i < record->items; i++) {
        if (r->targets && r->targets[i] < 0)
            continue;
        r->row_index[r->rows] = (int32_t)i;
        r->row_token[r->rows] = r->tokens[i];
        r->row_domain[r->rows++] = r->domain_of(r->context, i);
    }
    return SGM_OK;
}

static sgm_status stage(sgm_trace_recorder *r, const sgm_routing *record) {
    sgm_trace_staged *s = &r->staged[record->layer];
    const size_t slots = (size_t)record->slots;
    sgm_status status = reserve_places(r, s, r->rows * record->slots);
    if (status)
        return status;
    s->slots = r->slots[record->layer] = record->slots;
    for (int64_t i = 0; i < r->rows; i++) {
        size_t from = (size_t)r->row_index[i] * slots, to = (size_t)i * slots;
        memcpy(s->expert + to, record->expert + from, slots * sizeof *s->expert);
        memcpy(s->flags + to, record->flags + from, slots);
        for (size_t k = 0; k < slots; k++)
            s->weight[to + k] = (float)record->weight[from + k];
        double *sums = sgm_trace_writer_sums(r->writer, r->row_domain[i]) + record->layer * r->stride;
        const sgm_real *p = record->probabilities + (int64_t)r->row_index[i] * record->experts;
        for (int64_t e = 0; e < record->experts; e++)
            sums[e] += (double)p[e];
    }
    return SGM_OK;
}

/* ---- handing over ---------------------------------------------------------------------------------------------- */

static sgm_status reserve_token(sgm_trace_recorder *r) {
    int64_t places = 0;
    for (int64_t l = 0; l < r->layers; l++)
        places += r->slots[l];
    if (places <= r->token_capacity)
        return SGM_OK;
    r->token_capacity = 0;
    if (!renew(&r->expert, (size_t)places * sizeof *r->expert) ||
        !renew(&r->weight, (size_t)places * sizeof *r->weight) || !renew(&r->flags, (size_t)places))
        return no_memory(r);
    r->token_capacity = places;
    return SGM_OK;
}

static sgm_status hand_over(sgm_trace_recorder *r) {
    sgm_status status = reserve_token(r);
    for (int64_t i = 0; !status && i < r->rows; i++) {
        size_t at = 0;
        for (int64_t l = 0; l < r->layers; l++) {
            const sgm_trace_staged *s = &r->staged[l];
            size_t slots = (size_t)s->slots, from = (size_t)i * slots;
            memcpy(r->expert + at, s->expert + from, slots * sizeof *r->expert);
            memcpy(r->weight + at, s->weight + from, slots * sizeof *r->weight);
            memcpy(r->flags + at, s->flags + from, slots);
            at += slots;
        }
        const sgm_trace_token token = {.token = r->row_token[i],
                                       .domain = r->row_domain[i],
                                       .slots = r->slots,
                                       .expert = r->expert,
                                       .weight = r->weight,
                                       .flags = r->flags};
        status = sgm_trace_add(r->writer, &token, &r->error);
    }
    return status;
}

void sgm_trace_record(void *recorder, const sgm_routing *record) {
    sgm_trace_recorder *r = recorder;
    if (!r->status && record->layer == 0)
        r->status = begin_batch(r, record);
    if (!r->status)
        r->status = stage(r, record);
    if (!r->status && record->layer == r->layers - 1)
        r->status = hand_over(r);
}

sgm_status sgm_trace_recorder_status(const sgm_trace_recorder *r, sgm_error *error) {
    return r->status ? sgm_fail(error, r->status, *r->error.hint ? r->error.hint : NULL, "%s", r->error.message)
                     : SGM_OK;
}

sgm_status sgm_trace_recorder_end(sgm_trace_recorder *r, int64_t *tokens, sgm_error *error) {
    sgm_trace_writer *writer = r->writer;
    r->writer = NULL;
    if (!r->status)
        return sgm_trace_commit(writer, tokens, error);
    sgm_trace_abandon(writer);
    if (tokens)
        *tokens = 0;
    return sgm_trace_recorder_status(r, error);
}

void sgm_trace_recorder_fini(sgm_trace_recorder *r) {
    sgm_trace_abandon(r->writer);
    for (int64_t l = 0; r->staged && l < r->layers; l++) {
        sgm_free(r->staged[l].expert);
        sgm_free(r->staged[l].weight);
        sgm_free(r->staged[l].flags);
    }
    sgm_free(r->staged);
    sgm_free(r->slots);
    sgm_free(r->row_index);
    sgm_free(r->row_token);
    sgm_free(r->row_domain);
    sgm_free(r->expert);
    sgm_free(r->weight);
    sgm_free(r->flags);
    *r = (sgm_trace_recorder){0};
}
