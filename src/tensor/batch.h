// SPDX-License-Identifier: Apache-2.0
/* A batch of packed rows: tokens of several sequences one behind the other, no padding.
 *
 * A segment is a run of consecutive rows that attend to one another: a document (or a document's piece) in training, one
 * sequence's new tokens in inference. Attention never crosses a segment. A sequence is one training window (it holds one
 * or more segments) and is the scope of sequence-wise balancing. */
#ifndef SGM_TENSOR_BATCH_H
#define SGM_TENSOR_BATCH_H

#include <stdint.h>

#include "base/real.h"

enum { SGM_KV_PAGE = 64 }; /* positions a key/value page holds; also the key block of attention everywhere */

/* Keys and values of one sequence's past, in pages: page p of layer l holds positions p·64 … p·64+63, each (64, G·head)
 * rows of keys, then the same of values. Borrowed; the session owns them. */
typedef struct sgm_kv_pages {
    sgm_real *const *page; /* [layer * pages_per_layer + p] */
    int64_t pages_per_layer;
} sgm_kv_pages;

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
