// SPDX-License-Identifier: Apache-2.0
/* The loader: an endless stream of packed training windows.
 *
 * A window is `context` tokens of one domain: documents one behind the other, each cut at the window's end and
 * continued in the domain's next window as a new segment. The domain of window n is drawn by weight from a
 * counter-based generator, or one domain for all windows of a micro-batch; within a domain documents come in an order
 * shuffled per epoch. The whole position is sgm_loader_position: a few integers per domain, stored in checkpoints. */
#ifndef SGM_DATA_LOADER_H
#define SGM_DATA_LOADER_H

#include "sigmoe/data.h"
#include "tensor/batch.h"

typedef struct sgm_loader sgm_loader;

typedef struct sgm_loader_options {
    int64_t context;
    uint64_t seed;
    const char *mixture; /* "prose=2,code=1" weights; NULL or "": by training tokens. Unknown domain: error */
    /* Windows of a step and of a micro-batch, where a micro-batch holds one domain alone (the last of a step may be
     * shorter); 0: every window draws its own. */
    int64_t step_windows, group_windows;
} sgm_loader_options;
sgm_status sgm_loader_new(const sgm_corpus *corpus, const sgm_loader_options *options, sgm_loader **loader,
                          sgm_error *error);
void sgm_loader_free(sgm_loader *loader);

/* Owned storage of a packed batch. */
typedef struct sgm_packed {
    sgm_rows rows; /* points into the arrays below */
    int32_t *tokens, *positions, *targets;
    sgm_segment *segments;
    int64_t *sequence_start;
    int32_t *domain; /* per sequence */
    int64_t row_capacity, segment_capacity, sequence_capacity;
    int64_t target_count; /* rows with a target */
} sgm_packed;
sgm_status sgm_packed_new(int64_t rows, int64_t context, sgm_packed **packed, sgm_error *error);
void sgm_packed_free(sgm_packed *packed);

/* The next `windows` windows (windows · context rows) into `packed`; never fails, never allocates. The rows of a
 * document are end-of-text and its tokens, their targets its tokens and end-of-text: the first token is predicted from
 * end-of-text, as in evaluation and at the start of generation, and every row has a target. A document that a window's
 * end cuts goes on behind the cut: each token is predicted exactly once an epoch. Positions restart with each segment.
 */
void sgm_loader_next(sgm_loader *loader, int64_t windows, sgm_packed *packed);
/* Rows of `from` from sequence `first`, `count` of them, as a view (a micro-batch): fills `view` with rebased segments
 * in `packed`'s own arrays. */
void sgm_packed_slice(const sgm_packed *from, int64_t first, int64_t count, sgm_packed *into);

/* Position: `sgm_loader_position_count` integers. */
int64_t sgm_loader_position_count(const sgm_loader *loader);
void sgm_loader_position_get(const sgm_loader *loader, int64_t *values);
sgm_status sgm_loader_position_put(sgm_loader *loader, const int64_t *values, int64_t count, sgm_error *error);

/* Evaluation windows of one document or file: they overlap by half and score each token once. Window `index` of
 * `tokens` (count) with `context`: rows [*begin, *end), of which targets from *score on count. False past the last. The
 * first token of a document is predicted from end-of-text, so every byte is scored: `tokens` starts with end-of-text.
 */
bool sgm_evaluation_window(int64_t count, int64_t context, int64_t index, int64_t *begin, int64_t *end, int64_t *score);

#endif
