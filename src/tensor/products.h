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
} sgm_product;

/* Run all products on the team; the caller's barrier follows. Uses this phase's task numbers. */
void sgm_products_run(sgm_walk *walk, const sgm_product *products, int count);

#endif
