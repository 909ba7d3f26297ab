// SPDX-License-Identifier: Apache-2.0
/* How the work of an MoE feed-forward is cut: an expert's rows in blocks, found by the number of a task. No cut changes a
 * result, because an output element's sum depends on its length alone (kernels.h). */
#include <string.h>

#include "op/moe_ffn.h"

enum { BLOCK_ROWS = 128 }; /* rows of an expert that make a task */

void sgm_moe_multiply(const sgm_moe *m, sgm_product_kind kind, int64_t M, int64_t N, int64_t K, const sgm_real *A,
                      int64_t lda, const sgm_expert_matrix *B, sgm_real *C, int64_t ldc, bool add) {
    const sgm_product product = {kind, M, N, K, A, lda, B->data, B->stride, C, ldc, add, NULL, m->compute, B->rounded};
    sgm_product_alone(m->kernels, &product);
}

int64_t sgm_moe_row_blocks(int64_t rows) {
    return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

bool sgm_moe_advance(sgm_moe_cursor *c, const sgm_routing *record, int64_t task, int64_t (*pieces_of)(int64_t rows),
                     int64_t *piece) {
    for (; c->expert < record->experts; c->expert++) {
        int64_t pieces = pieces_of(record->offset[c->expert + 1] - record->offset[c->expert]);
        if (task < c->first + pieces) {
            *piece = task - c->first;
            return true;
        }
        c->first += pieces;
    }
    return false;
}

sgm_moe_rows sgm_moe_block_rows(const sgm_routing *record, int64_t expert, int64_t block) {
    int64_t first = record->offset[expert], last = record->offset[expert + 1], begin = first + block * BLOCK_ROWS;
    return (sgm_moe_rows){begin, begin + BLOCK_ROWS < last ? begin + BLOCK_ROWS : last,
                          record->item[last - 1] - record->item[first] == last - 1 - first};
}

int64_t sgm_moe_same_replica(const sgm_routing *record, int64_t begin, int64_t end) {
    int64_t at = begin + 1;
    while (at < end && record->physical[at] == record->physical[begin])
        at++;
    return at;
}

void sgm_moe_gather(const sgm_routing *record, const sgm_real *from, int64_t cols, sgm_real *to, int64_t begin,
                    int64_t end) {
    for (int64_t row = begin; row < end; row++)
        memcpy(to + row * cols, from + record->item[row] * cols, (size_t)cols * sizeof *to);
}

const sgm_real *sgm_moe_rows_by_expert(const sgm_moe *m, bool in_place, const sgm_real *matrix, const sgm_real *copies,
                                       int64_t begin) {
    return in_place ? matrix + m->record->item[begin] * m->D : copies + begin * m->D;
}
