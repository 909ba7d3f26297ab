// SPDX-License-Identifier: Apache-2.0
/* The storage types by number, by name and by GGUF's number, and what follows from their block sizes. */
#include "quant/quant.h"

#include <string.h>

#define SGM_QUANT(symbol) extern const sgm_quant symbol;
#include "quant/list.h"
#undef SGM_QUANT

static const sgm_quant *const types[] = {
#define SGM_QUANT(symbol) &symbol,
#include "quant/list.h"
#undef SGM_QUANT
};
_Static_assert(sizeof types / sizeof *types == SGM_TYPES, "list.h has every sgm_type, in order");

const sgm_quant *sgm_quant_of(sgm_type type) {
    return types[type];
}

const sgm_quant *sgm_quant_at(size_t index) {
    return index < SGM_TYPES ? types[index] : NULL;
}

const sgm_quant *sgm_quant_find(const char *name) {
    for (size_t i = 0; i < SGM_TYPES; i++)
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    return NULL;
}

const sgm_quant *sgm_quant_of_gguf(uint32_t number) {
    for (size_t i = 0; i < SGM_TYPES; i++)
        if (types[i]->gguf == number)
            return types[i];
    return NULL;
}

size_t sgm_quant_row_bytes(sgm_type type, int64_t cols) {
    return (size_t)(cols / types[type]->block) * types[type]->block_bytes;
}

sgm_type sgm_quant_for_row(sgm_type wanted, int64_t cols) {
    while (cols % types[wanted]->block != 0) /* ends: the last fallback, f16, has blocks of one */
        wanted = types[wanted]->fallback;
    return wanted;
}

void sgm_matrix_unpack_row(const sgm_matrix *matrix, int64_t row, float *x) {
    types[matrix->type]->unpack(matrix->cols, sgm_matrix_row(matrix, row), x);
}
