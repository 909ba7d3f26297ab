// SPDX-License-Identifier: Apache-2.0
/* Storage types of weights: names, block sizes, and how a row of floats is packed into blocks and back.
 *
 * One type = one file = one const struct = one line in list.h. Blocks are byte for byte those of GGUF, so that a model file
 * of llama.cpp is used as it lies. Packing rounds as ggml's reference does (source: the block layouts and rounding rules of
 * ggml's published format); unpacking is exact. All functions are pure and allocate nothing. */
#ifndef SGM_QUANT_QUANT_H
#define SGM_QUANT_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/matrix.h"

typedef struct sgm_quant {
    const char *name, *summary; /* "q4_k" */
    sgm_type type;
    uint32_t gguf;      /* number of the type in a GGUF file */
    int64_t block;      /* elements */
    size_t block_bytes; /* bytes they take */
    bool integer;       /* products go through 8-bit integers (kernels.h), not through floats */
    sgm_type
        fallback; /* the type that rows get whose length is no multiple of `block`, as llama.cpp chooses; itself: none */
    /* n: a multiple of `block`. Values that are not finite become what the format can hold; see each file. */
    void (*pack)(int64_t n, const float *x, void *blocks);
    void (*unpack)(int64_t n, const void *blocks, float *x);
} sgm_quant;

const sgm_quant *sgm_quant_of(sgm_type type);
const sgm_quant *sgm_quant_find(const char *name);   /* NULL: no such type */
const sgm_quant *sgm_quant_of_gguf(uint32_t number); /* NULL: not one of ours */
const sgm_quant *sgm_quant_at(size_t index);         /* NULL past the end */
/* Bytes of a row; `cols` is a multiple of the block. */
size_t sgm_quant_row_bytes(sgm_type type, int64_t cols);
/* The type a matrix with rows of `cols` elements gets when `wanted` is asked for: itself, or its fallbacks in turn. */
sgm_type sgm_quant_for_row(sgm_type wanted, int64_t cols);
/* One row as floats. */
void sgm_matrix_unpack_row(const sgm_matrix *matrix, int64_t row, float *x);

#endif
