// SPDX-License-Identifier: Apache-2.0
/* Inside of traces: the layout of the file (docs/trace.md), traces in memory, and the recorder that makes a trace of what a
 * model routes. The public part is sigmoe/trace.h. */
#ifndef SGM_ROUTING_TRACE_H
#define SGM_ROUTING_TRACE_H

#include "base/file.h"
#include "base/memory.h"
#include "routing/routing.h"
#include "sigmoe/trace.h"

#define SGM_TRACE_MAGIC "SGMTRACE"
#define SGM_TRACE_BYTE_ORDER 0x01020304u
enum {
    SGM_TRACE_VERSION = 1,
    SGM_TRACE_HEADER_BYTES = 128,  /* before the arrays of layers */
    SGM_TRACE_HEAD_BYTES = 16,     /* of a block: kind, count, bytes of all of it */
    SGM_TRACE_SUM_BYTES = 8,       /* a checksum closes the header and every block */
    SGM_TRACE_NAME_BYTES = 64,     /* of a domain, with the closing NUL */
    SGM_TRACE_BLOCK_TOKENS = 1024, /* in a block that is written; a reader takes up to … */
    SGM_TRACE_BLOCK_TOKENS_MOST = 1 << 16,
    SGM_TRACE_LAYERS_MOST = 1 << 16,
    SGM_TRACE_CELLS_MOST = 1 << 22, /* layers · experts: what a reader needs memory for whatever the file's size is */
};
enum { SGM_TRACE_TOKENS = 1, SGM_TRACE_DOMAIN = 2, SGM_TRACE_END = 3 }; /* kinds of blocks */
/* The header: where each field stands. */
enum {
    SGM_TRACE_AT_ORDER = 8,
    SGM_TRACE_AT_VERSION = 12,
    SGM_TRACE_AT_REQUIRED = 16,
    SGM_TRACE_AT_OPTIONAL = 24,
    SGM_TRACE_AT_BYTES = 32,
    SGM_TRACE_AT_MODEL = 40,
    SGM_TRACE_AT_TOKENIZER = 48,
    SGM_TRACE_AT_STEP = 56,
    SGM_TRACE_AT_SOURCE = 64,
    SGM_TRACE_AT_LAYERS = 68,
    SGM_TRACE_AT_EXPERTS = 72,
    SGM_TRACE_AT_NULL = 76,
    SGM_TRACE_AT_VOCABULARY = 80,
    SGM_TRACE_AT_ATTENTION = 88, /* with SGM_TRACE_FEATURE_ATTENTION; else zeros */
};
enum { SGM_TRACE_FEATURE_ATTENTION = 1 }; /* required: sub-layers are attention's and the feed-forward's in turn */

/* Experts of a routed sub-layer, and the length of a row of (L, E). */
static inline int64_t sgm_trace_experts(const sgm_trace_info *about, int64_t layer) {
    return sgm_routed_experts(about->experts, about->attention_experts, layer);
}
/* Of them those that compute: the last ones may be null. */
static inline int64_t sgm_trace_computing(const sgm_trace_info *about, int64_t layer) {
    bool attention = sgm_routed_is_attention(about->attention_experts, layer);
    return sgm_trace_experts(about, layer) - (attention ? 0 : about->null_experts);
}
static inline int64_t sgm_trace_stride(const sgm_trace_info *about) {
    return sgm_routed_stride(about->experts, about->attention_experts);
}

static inline uint64_t sgm_trace_padded(uint64_t bytes) {
    return (bytes + 7) & ~(uint64_t)7;
}
static inline uint64_t sgm_trace_header_bytes(uint64_t layers) {
    return SGM_TRACE_HEADER_BYTES + 8 * layers + sgm_trace_padded(2 * layers) + SGM_TRACE_SUM_BYTES;
}

/* Where the arrays of a block of tokens stand, from the block's own start. */
typedef struct sgm_trace_layout {
    uint64_t slots, token, domain, expert, weight, flags, sum, bytes;
} sgm_trace_layout;
static inline sgm_trace_layout sgm_trace_lay_out(uint64_t layers, uint64_t tokens, uint64_t places) {
    sgm_trace_layout at = {.slots = SGM_TRACE_HEAD_BYTES};
    at.token = at.slots + sgm_trace_padded(2 * layers);
    at.domain = at.token + sgm_trace_padded(4 * tokens);
    at.expert = at.domain + sgm_trace_padded(2 * tokens);
    at.weight = at.expert + sgm_trace_padded(2 * places);
    at.flags = at.weight + sgm_trace_padded(4 * places);
    at.sum = at.flags + sgm_trace_padded(places);
    at.bytes = at.sum + SGM_TRACE_SUM_BYTES;
    return at;
}

/* A trace that is bytes in memory: made (appended to `out`, which the caller ends, also after a failure) and read (`data`
 * must outlive it). `name` is for messages. */
sgm_status sgm_trace_create_in(sgm_buffer *out, const sgm_trace_info *about, sgm_trace_writer **writer,
                               sgm_error *error);
sgm_status sgm_trace_parse(const void *data, size_t size, const char *name, sgm_trace **trace, sgm_error *error);
uint64_t sgm_trace_size(const sgm_trace *trace); /* bytes of all of it */
/* (L, E) sums of a domain, to be added to. */
double *sgm_trace_writer_sums(sgm_trace_writer *writer, int64_t domain);

/* ---- recording ------------------------------------------------------------------------------------------------ */

typedef struct sgm_trace_staged {
    int64_t slots, capacity; /* of the batch at hand; places there is memory for */
    int32_t *expert;
    float *weight;
    uint8_t *flags;
} sgm_trace_staged;

/* Makes a trace of the records that a model's layers show to an observer, batch after batch, each from layer 0 to L − 1. The
 * rows that count are those with targets[row] >= 0. Memory grows with the largest batch, then nothing is allocated. A
 * failure is kept, recording goes quiet, and the end reports it: an observer has nobody to tell. */
typedef struct sgm_trace_recorder {
    sgm_trace_writer *writer;
    /* Of the batch at hand; the caller's, read when its layer 0 is observed. */
    const int32_t *tokens, *targets; /* (T); targets NULL: every row counts */
    int64_t (*domain_of)(const void *context, int64_t row);
    const void *context;

    int64_t layers, stride;     /* stride: numbers of a layer in the writer's sums */
    int64_t rows, row_capacity; /* that count */
    int32_t *row_index, *row_token;
    int64_t *row_domain;
    sgm_trace_staged *staged; /* (L) */
    int64_t *slots;           /* (L) */
    int32_t *expert;          /* of one token: (Σ slots) */
    float *weight;
    uint8_t *flags;
    int64_t token_capacity;
    sgm_status status;
    sgm_error error;
} sgm_trace_recorder;

/* Begin a trace of a model's L routed sub-layers; `stride` (sgm_trace_stride): numbers of a sub-layer in the sums, E. Takes the writer. The recorder is zeroed, or `end` came before: then it
 * goes on with the memory it has. */
void sgm_trace_recorder_begin(sgm_trace_recorder *recorder, sgm_trace_writer *writer, int64_t layers, int64_t stride);
/* The observer: `recorder` is an sgm_trace_recorder. Thread 0 alone calls it. */
void sgm_trace_record(void *recorder, const sgm_routing *record);
/* What failed so far, with its reason. */
sgm_status sgm_trace_recorder_status(const sgm_trace_recorder *recorder, sgm_error *error);
/* Commit (abandon after a failure, which is then returned); the memory stays. */
sgm_status sgm_trace_recorder_end(sgm_trace_recorder *recorder, int64_t *tokens, sgm_error *error);
void sgm_trace_recorder_fini(sgm_trace_recorder *recorder); /* abandons what was not ended */

#endif
