// SPDX-License-Identifier: Apache-2.0
/* Reference products in bf16: both operands are rounded to bf16 (nearest even; a NaN stays a NaN), products and sums are
 * f32, k = 0, 1, 2, … from the value in C (from 0 without `add`) in all three. A product of two bf16 numbers has 16 bits and
 * is exact in f32, so fused or not makes no difference. Nothing is flushed. In the f64 build, which exists to compare
 * gradients with differences, rounding would only hide errors: there nothing is rounded. */
#include <string.h>

#include "base/half.h"
#include "kernel/ref/ref.h"

#define COLS 32   /* columns of C held at once */
#define DEPTH 256 /* k rounded at once: a block of B takes 32 KiB */

static sgm_real rounded(sgm_real x) {
    return sizeof x > sizeof(float) ? x : (sgm_real)sgm_bf16_widen(sgm_bf16_round((float)x));
}

/* sum (COLS) += left (depth) times right (depth, COLS), all of them the caller's own arrays. */
SGM_ROWS_CHECKED static void add_products(int depth, const sgm_real *restrict left,
                                          const sgm_real (*restrict right)[COLS], sgm_real *restrict sum) {
    for (int q = 0; q < depth; q++)
        for (int j = 0; j < COLS; j++)
            sum[j] += left[q] * right[q][j];
}

/* Element (i, k) of A is a[i · a_row + k · a_step], element (k, n) of B is number k · b_row + n · b_step of
 * b: of sgm_real, or of bf16 where it `is_rounded`. */
static void multiply(int64_t M, int64_t N, int64_t K, const sgm_real *a, int64_t a_row, int64_t a_step, const void *b,
                     bool is_rounded, int64_t b_row, int64_t b_step, sgm_real *C, int64_t ldc, bool add) {
    const sgm_real *whole = b;
    const uint16_t *narrow = b;
    sgm_real left[DEPTH], right[DEPTH][COLS], sum[COLS];
    for (int64_t n = 0; n < N; n += COLS) {
        const int cols = N - n < COLS ? (int)(N - n) : COLS;
        for (int64_t i = 0; i < M && !add; i++)
            for (int j = 0; j < cols; j++)
                C[i * ldc + n + j] = 0;
        for (int64_t k = 0; k < K; k += DEPTH) {
            const int depth = K - k < DEPTH ? (int)(K - k) : DEPTH;
            for (int q = 0; q < depth; q++)
                for (int j = 0; j < COLS; j++) {
                    const int64_t at = (k + q) * b_row + (n + j) * b_step;
                    right[q][j] = j >= cols    ? 0
                                  : is_rounded ? (sgm_real)sgm_bf16_widen(narrow[at])
                                               : rounded(whole[at]);
                }
            for (int64_t i = 0; i < M; i++) {
                sgm_real *c = C + i * ldc + n;
                for (int q = 0; q < depth; q++)
                    left[q] = rounded(a[i * a_row + (k + q) * a_step]);
                for (int j = 0; j < COLS; j++)
                    sum[j] = j < cols ? c[j] : 0;
                add_products(depth, left, (const sgm_real(*)[COLS])right, sum);
                memcpy(c, sum, (size_t)cols * sizeof *c);
            }
        }
    }
}

void sgm_ref_matmul_nt_bf16(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B,
                            int64_t ldb, sgm_real *C, int64_t ldc, bool add) {
    multiply(M, N, K, A, lda, 1, B, false, 1, ldb, C, ldc, add);
}

void sgm_ref_matmul_nn_bf16(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B,
                            int64_t ldb, sgm_real *C, int64_t ldc, bool add) {
    multiply(M, N, K, A, lda, 1, B, false, ldb, 1, C, ldc, add);
}

void sgm_ref_matmul_tn_bf16(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B,
                            int64_t ldb, sgm_real *C, int64_t ldc, bool add) {
    multiply(M, N, K, A, 1, lda, B, false, ldb, 1, C, ldc, add);
}

void sgm_ref_matmul_nt_rounded(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const uint16_t *B,
                               int64_t ldb, sgm_real *C, int64_t ldc, bool add) {
    multiply(M, N, K, A, lda, 1, B, true, 1, ldb, C, ldc, add);
}

void sgm_ref_matmul_nn_rounded(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const uint16_t *B,
                               int64_t ldb, sgm_real *C, int64_t ldc, bool add) {
    multiply(M, N, K, A, lda, 1, B, true, ldb, 1, C, ldc, add);
}

void sgm_ref_bf16_round(int64_t n, const sgm_real *x, uint16_t *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = sgm_bf16_round((float)x[i]);
}
