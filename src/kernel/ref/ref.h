// SPDX-License-Identifier: Apache-2.0
/* The reference kernels, which are the specification, and the two orders of summation they fix:
 *
 * Lanes. A sum over k (matmul_nt, dot, norms, exp_sum, sum_squares) runs in SGM_LANES partial sums: lane j takes
 *   k = j, j + 16, j + 32, … in that order from 0; at the end lane j takes in lane j + 8, then j + 4, j + 2, j + 1.
 * Sequence. matmul_nn, matmul_tn and rms_norm_gain add one product after the other, k = 0, 1, 2, …, starting from the
 *   value in C (from 0 without `add`).
 *
 * Both depend on K alone. Written with -ffp-contract=off: a product is rounded before it is added. */
#ifndef SGM_KERNEL_REF_REF_H
#define SGM_KERNEL_REF_REF_H

#include <math.h>

#include "base/sanitize.h"
#include "kernel/kernels.h"

#define SGM_LANES 16

SGM_ROWS_CHECKED static inline sgm_real sgm_lanes_sum(sgm_real *lanes) {
    for (int step = SGM_LANES / 2; step > 0; step /= 2)
        for (int j = 0; j < step; j++)
            lanes[j] += lanes[j + step];
    return lanes[0];
}

static inline sgm_real sgm_sqrt(sgm_real x) {
#ifdef SGM_REAL_IS_DOUBLE
    return sqrt(x); /* correctly rounded by IEEE 754 */
#else
    return sqrtf(x);
#endif
}

void sgm_ref_matmul_nt(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                       sgm_real *C, int64_t ldc, bool add);
void sgm_ref_matmul_nn(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                       sgm_real *C, int64_t ldc, bool add);
void sgm_ref_matmul_tn(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                       sgm_real *C, int64_t ldc, bool add);
sgm_matmul sgm_ref_matmul_nt_bf16, sgm_ref_matmul_nn_bf16, sgm_ref_matmul_tn_bf16;
sgm_matmul_rounded sgm_ref_matmul_nt_rounded, sgm_ref_matmul_nn_rounded;
void sgm_ref_bf16_round(int64_t n, const sgm_real *x, uint16_t *y);
void sgm_ref_quantise(int64_t rows, int64_t cols, const float *x, int64_t ldx, const sgm_activations *a);
void sgm_ref_matmul_typed(int64_t M, int64_t N, int64_t K, const sgm_activations *A, sgm_type type, const void *B,
                          size_t stride, float *C, int64_t ldc, bool add);
sgm_real sgm_ref_dot(int64_t n, const sgm_real *x, const sgm_real *y);

void sgm_ref_rms_norm(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *gain, double epsilon,
                      sgm_real *y, int64_t ldy, sgm_real *inv);
void sgm_ref_rms_norm_backward(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *gain,
                               const sgm_real *inv, const sgm_real *dy, int64_t lddy, sgm_real *dx, int64_t lddx,
                               bool add);
void sgm_ref_rms_norm_gain(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *inv,
                           const sgm_real *dy, int64_t lddy, sgm_real *dgain);
void sgm_ref_softmax(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, sgm_real *y, int64_t ldy);
sgm_real sgm_ref_max(int64_t n, const sgm_real *x);
sgm_real sgm_ref_exp_sum(int64_t n, const sgm_real *x, sgm_real scale, sgm_real shift, sgm_real *y);
void sgm_ref_softmax_step(const sgm_score_tile *tile, sgm_real *score, int64_t ld, sgm_real *largest, sgm_real *sum,
                          sgm_real *rescale);
void sgm_ref_softmax_step_backward(const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld,
                                   const sgm_real *shift, const sgm_real *dot, int64_t stride);
void sgm_ref_stick_step(const sgm_score_tile *tile, sgm_real *score, int64_t ld, sgm_real *rest);
void sgm_ref_stick_step_backward(const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld, sgm_real *rest,
                                 sgm_real *left, int64_t stride);
void sgm_ref_transpose(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, sgm_real *y, int64_t ldy);
void sgm_ref_f16_round(int64_t n, const sgm_real *x, uint16_t *y);
void sgm_ref_f16_widen(int64_t n, const uint16_t *x, sgm_real *y);
float sgm_ref_int8_round(int64_t n, const sgm_real *x, int8_t *y);
void sgm_ref_int8_widen(int64_t n, const int8_t *x, sgm_real *y);
void sgm_ref_matmul_nn_f16(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const uint16_t *B,
                           int64_t ldb, sgm_real *C, int64_t ldc, bool add);
void sgm_ref_matmul_nn_int8(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const int8_t *B,
                            int64_t ldb, sgm_real *C, int64_t ldc, bool add);
void sgm_ref_swiglu(int64_t n, const sgm_real *gate, const sgm_real *up, sgm_real *h);
void sgm_ref_swiglu_backward(int64_t n, const sgm_real *gate, const sgm_real *up, const sgm_real *dh, sgm_real *dgate,
                             sgm_real *dup);
void sgm_ref_axpy(int64_t n, sgm_real a, const sgm_real *x, sgm_real *y);
void sgm_ref_scale(int64_t n, sgm_real a, const sgm_real *x, sgm_real *y);
double sgm_ref_sum_squares(int64_t n, const sgm_real *x);
void sgm_ref_adamw(int64_t n, const sgm_adamw_step *step, const sgm_real *gradient, sgm_real *weight, sgm_real *moment1,
                   sgm_real *moment2);

#endif
