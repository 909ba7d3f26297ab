// SPDX-License-Identifier: Apache-2.0
/* Reference matrix products: loops whose order is the specification (ref.h), arranged so that a compiler can keep a
 * block of the result in vector registers. */
#include "kernel/ref/ref.h"

#define BLOCK 32 /* columns of C held at once by matmul_nn and matmul_tn */

static void check(const sgm_real *first, int64_t rows, int64_t cols, int64_t ld) {
    if (cols > 0)
        sgm_check_rows(first, rows, (size_t)cols * sizeof *first, (size_t)ld * sizeof *first);
}

SGM_ROWS_CHECKED static sgm_real dot(int64_t n, const sgm_real *x, const sgm_real *y) {
    sgm_real lanes[SGM_LANES] = {0};
    int64_t k = 0;
    for (; k + SGM_LANES <= n; k += SGM_LANES)
        for (int j = 0; j < SGM_LANES; j++)
            lanes[j] += x[k + j] * y[k + j];
    for (int j = 0; k + j < n; j++)
        lanes[j] += x[k + j] * y[k + j];
    return sgm_lanes_sum(lanes);
}

sgm_real sgm_ref_dot(int64_t n, const sgm_real *x, const sgm_real *y) {
    check(x, 1, n, 0);
    check(y, 1, n, 0);
    return dot(n, x, y);
}

void sgm_ref_matmul_nt(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                       sgm_real *C, int64_t ldc, bool add) {
    check(A, M, K, lda);
    check(B, N, K, ldb);
    for (int64_t i = 0; i < M; i++)
        for (int64_t n = 0; n < N; n++) {
            sgm_real sum = dot(K, A + i * lda, B + n * ldb);
            C[i * ldc + n] = add ? C[i * ldc + n] + sum : sum;
        }
}

/* One row of C: c (N) = or += Σ_k a[k·step] B[k], k after k. Serves A by rows (step 1) and by columns (step lda). */
SGM_ROWS_CHECKED static void row_times_matrix(int64_t N, int64_t K, const sgm_real *restrict a, int64_t step,
                                              const sgm_real *restrict B, int64_t ldb, sgm_real *restrict c, bool add) {
    int64_t n = 0;
    for (; n + BLOCK <= N; n += BLOCK) {
        sgm_real sum[BLOCK];
        for (int j = 0; j < BLOCK; j++)
            sum[j] = add ? c[n + j] : 0;
        for (int64_t k = 0; k < K; k++)
            for (int j = 0; j < BLOCK; j++)
                sum[j] += a[k * step] * B[k * ldb + n + j];
        for (int j = 0; j < BLOCK; j++)
            c[n + j] = sum[j];
    }
    for (; n < N; n++) {
        sgm_real sum = add ? c[n] : 0;
        for (int64_t k = 0; k < K; k++)
            sum += a[k * step] * B[k * ldb + n];
        c[n] = sum;
    }
}

void sgm_ref_matmul_nn(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                       sgm_real *C, int64_t ldc, bool add) {
    check(A, M, K, lda);
    check(B, K, N, ldb);
    check(C, M, N, ldc);
    for (int64_t i = 0; i < M; i++)
        row_times_matrix(N, K, A + i * lda, 1, B, ldb, C + i * ldc, add);
}

void sgm_ref_matmul_tn(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                       sgm_real *C, int64_t ldc, bool add) {
    check(A, K, M, lda);
    check(B, K, N, ldb);
    check(C, M, N, ldc);
    for (int64_t i = 0; i < M; i++)
        row_times_matrix(N, K, A + i, lda, B, ldb, C + i * ldc, add);
}
