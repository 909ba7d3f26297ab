// SPDX-License-Identifier: Apache-2.0
/* A batch of packed rows: tokens of several sequences one behind the other, no padding.
 *
 * A segment is a run of consecutive rows that attend to one another: a document (or a document's piece) in training, one
 * sequence's new tokens in inference. Attention never crosses a segment. A sequence is one training window (it holds one
 * or more segments) and is the scope of sequence-wise balancing. */
#ifndef SGM_TENSOR_BATCH_H
#define SGM_TENSOR_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"

enum { SGM_KV_PAGE = 64 }; /* positions a key/value page holds; also the key block of attention everywhere */

/* How keys and values are kept between steps. */
typedef enum sgm_kv_type {
    SGM_KV_F32, /* sgm_real */
    SGM_KV_F16,
    SGM_KV_Q8, /* int8, and for each head of a position one f32 scale of its key and one of its value */
    SGM_KV_TYPES,
} sgm_kv_type;

/* Keys and values of one sequence's past, in pages: page p of layer l holds positions p·64 … p·64+63 of each key/value head,
 * one head behind the other: keys transposed (S, 64), values (64, S), then with Q8 64 scales of keys and 64 of values.
 * Borrowed; the session owns them. */
typedef struct sgm_kv_pages {
    char *const *page; /* [layer * pages_per_layer + p] */
    int64_t pages_per_layer;
    sgm_kv_type type;
} sgm_kv_pages;

static inline size_t sgm_kv_element_bytes(sgm_kv_type type) {
    return type == SGM_KV_F16 ? sizeof(uint16_t) : type == SGM_KV_Q8 ? sizeof(int8_t) : sizeof(sgm_real);
}

/* Bytes of one head in one page of one layer; a multiple of 64 (head sizes are even). */
static inline size_t sgm_kv_head_bytes(sgm_kv_type type, int64_t head_size) {
    return 2 * SGM_KV_PAGE * ((size_t)head_size * sgm_kv_element_bytes(type) + (type == SGM_KV_Q8 ? sizeof(float) : 0));
}

typedef struct sgm_segment {
    int64_t row, rows;        /* rows of the batch */
    int64_t position;         /* position of the first row (0 in training) */
    const sgm_kv_pages *past; /* NULL in training: keys are the segment's own rows */
} sgm_segment;

typedef struct sgm_rows {
    int64_t rows;
    const int32_t *tokens;    /* (rows) */
    const int32_t *positions; /* (rows) */
    const int32_t *targets;   /* (rows) next token, -1: no loss here; NULL: none */
    const sgm_segment *segments;
    int64_t segment_count;
    const int64_t *sequence_start; /* (sequence_count + 1) rows; NULL: the batch is one sequence */
    int64_t sequence_count;
} sgm_rows;

#endif
