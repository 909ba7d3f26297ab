// SPDX-License-Identifier: Apache-2.0
/* A matrix of weights as it is stored: one of the storage types, row by row. Read-only; whoever holds the bytes owns them
 * (a block of memory, or a model file that is mapped: weights are used where they lie and never repacked). */
#ifndef SGM_TENSOR_MATRIX_H
#define SGM_TENSOR_MATRIX_H

#include <stddef.h>
#include <stdint.h>

/* Block layouts are GGUF's (docs/formats.md); quant/quant.h packs and unpacks them. SGM_TYPE_F32 stands for sgm_real: in the f64
 * build it is f64. */
typedef enum sgm_type {
    SGM_TYPE_F32,
    SGM_TYPE_F16,
    SGM_TYPE_BF16,
    SGM_TYPE_Q8_0, /* 32 elements: f16 scale, 32 int8 */
    SGM_TYPE_Q4_0, /* 32 elements: f16 scale, 16 bytes of nibbles */
    SGM_TYPE_Q5_0, /* 32 elements: f16 scale, 32 high bits, 16 bytes of nibbles */
    SGM_TYPE_Q4_K, /* 256 elements: 2 f16, 8 + 8 scales and minima of 6 bits, 128 bytes of nibbles */
    SGM_TYPE_Q6_K, /* 256 elements: 128 low nibbles, 64 high pairs, 16 int8 scales, f16 */
    SGM_TYPES,
} sgm_type;

typedef struct sgm_matrix {
    sgm_type type;
    int64_t rows, cols; /* cols: a multiple of the type's block */
    const void *data;   /* NULL: no such matrix */
    size_t stride;      /* bytes between rows */
} sgm_matrix;

static inline const void *sgm_matrix_row(const sgm_matrix *matrix, int64_t row) {
    return (const char *)matrix->data + (size_t)row * matrix->stride;
}

#endif
