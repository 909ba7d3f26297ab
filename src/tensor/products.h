// SPDX-License-Identifier: Apache-2.0
/* Matrix products split over the team: tiles of the output, drawn as tasks. Tiles never change the result
 * (kernels.h). */
#ifndef SGM_TENSOR_PRODUCTS_H
#define SGM_TENSOR_PRODUCTS_H

#include "tensor/op.h"

typedef enum sgm_product_kind { SGM_NT, SGM_NN, SGM_TN } sgm_product_kind;

/* C (M, N) = or += A·Bᵀ, A·B or Aᵀ·B; shapes and strides as in kernels.h. */
typedef struct sgm_product {
    sgm_product_kind kind;
    int64_t M, N, K;
    const sgm_real *A;
    int64_t lda;
    const sgm_real *B;
    int64_t ldb;
    sgm_real *C;
    int64_t ldc;
    bool add;
    const sgm_real *residual; /* (M, N), row stride ldc: added (then `add` is not read); NULL: none; may be C */
    sgm_compute compute;      /* the residual is f32 in any case */
    const uint16_t
        *rounded; /* B rounded to bf16 (sgm_weight.rounded), read in its place by NT and NN in bf16; NULL: none */
} sgm_product;

/* The kernel of one kind of product. */
static inline sgm_matmul *sgm_product_kernel(const sgm_kernels *kernels, sgm_product_kind kind, sgm_compute compute) {
    if (compute == SGM_COMPUTE_BF16)
        return kind == SGM_NT   ? kernels->matmul_nt_bf16
               : kind == SGM_NN ? kernels->matmul_nn_bf16
                                : kernels->matmul_tn_bf16;
    if (compute == SGM_COMPUTE_BF16X6)
        return kind == SGM_NT   ? kernels->matmul_nt_bf16x6
               : kind == SGM_NN ? kernels->matmul_nn_bf16x6
                                : kernels->matmul_tn_bf16x6;
    return kind == SGM_NT ? kernels->matmul_nt : kind == SGM_NN ? kernels->matmul_nn : kernels->matmul_tn;
}

/* One product by the calling thread, without its residual. */
void sgm_product_alone(const sgm_kernels *kernels, const sgm_product *product);
/* Run all products on the team; the caller's barrier follows. Uses this phase's task numbers. */
void sgm_products_run(sgm_walk *walk, const sgm_product *products, int count);

/* C (M, N) = A (M, K) · Bᵀ with B (N, K) as it is stored; inference. A's rows are whole: x, q, scale and sum of row 0. */
typedef struct sgm_stored_product {
    int64_t M;
    sgm_activations A; /* x is sgm_real in every build; types of integers, which exist in f32 only, read the rest */
    sgm_matrix B;
    sgm_real *C;
    int64_t ldc;
    const sgm_real *residual; /* (M, N), row stride ldc: C = residual + the product; NULL: none; may be C */
} sgm_stored_product;

/* Rows [row, row + rows) and columns [col, col + cols) of C, by the calling thread. */
void sgm_stored_product_tile(const sgm_walk *walk, const sgm_stored_product *p, int64_t row, int64_t rows, int64_t col,
                             int64_t cols);
/* As sgm_products_run. Few rows (decoding): each task reads a run of consecutive weights, all threads at once. */
void sgm_stored_products_run(sgm_walk *walk, const sgm_stored_product *products, int count);

/* The activations from `row` on, with K elements a row. */
sgm_activations sgm_activations_from(const sgm_activations *a, int64_t K, int64_t row);

/* A weight as a matrix: what its file holds, or its f32 data. */
static inline sgm_matrix sgm_weight_matrix(const sgm_weight *weight) {
    if (!weight->data)
        return weight->stored;
    return (sgm_matrix){SGM_TYPE_F32, weight->rows, weight->cols, weight->data,
                        (size_t)weight->cols * sizeof(sgm_real)};
}

#endif
