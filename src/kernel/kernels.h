// SPDX-License-Identifier: Apache-2.0
/* Kernels: the single-thread inner loops that everything is made of, one table per instruction set.
 *
 * `ref` is portable C and the specification; `avx2` and `avx512` replace entries of it and are tested against it within
 * docs/numerics.md. The table is chosen at run time and passed along (sgm_walk.kernels); nothing is global.
 *
 * All matrices are row-major; `ld…` is the distance between rows in elements. Rules that every table keeps:
 *  - each output element is reduced over k in an order that depends on K alone: not on M, N, the tile it falls in, the
 *    number of rows asked for at once, or the thread. So a row computed alone (decode), in a chunk (prefill) or in a
 *    batch (training) has the same bytes.
 *  - matmul_tn with `add` continues the sum from the value in C, one k after the other: splitting K over several calls
 *    gives the same bytes as one call (that is what makes gradients independent of micro-batches).
 *  - nothing allocates; scratch is on the stack, at most 256 KiB.
 *  - NaN and infinities propagate as IEEE says; denormals are kept in f32.
 * Sources: the shapes follow BLAS level 3; softmax is the shifted form. */
#ifndef SGM_KERNEL_KERNELS_H
#define SGM_KERNEL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "sigmoe/error.h"

typedef struct sgm_adamw_step {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double correction1, correction2; /* 1 - beta^t */
    double gradient_scale;           /* clipping factor, applied to the gradient first */
} sgm_adamw_step;

typedef struct sgm_kernels {
    const char *name;     /* "ref", "avx2", "avx512" */
    const char *summary;  /* one line for `sigmoe doctor` */
    bool (*usable)(void); /* does this CPU (and OS) have what it needs */

    /* C (M,N) = or += A (M,K) · B (N,K)ᵀ.   forward: y = x Wᵀ */
    void (*matmul_nt)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                      sgm_real *C, int64_t ldc, bool add);
    /* C (M,N) = or += A (M,K) · B (K,N).    backward: dx = dy W */
    void (*matmul_nn)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                      sgm_real *C, int64_t ldc, bool add);
    /* C (M,N) = or += A (K,M)ᵀ · B (K,N).   backward: dW = dyᵀ x, K tokens in order */
    void (*matmul_tn)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                      sgm_real *C, int64_t ldc, bool add);

    /* RMSNorm of `rows` rows of `cols`, row strides ldx/ldy: y = x · inv · gain, inv = 1/sqrt(mean(x²) + epsilon).
     * inv (rows) is written for the backward pass; may be NULL. */
    void (*rms_norm)(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *gain, double epsilon,
                     sgm_real *y, int64_t ldy, sgm_real *inv);
    /* dx = or += inv·(dy·gain − x·inv²·mean(dy·gain·x)); per row. dgain is separate (rms_norm_gain). */
    void (*rms_norm_backward)(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *gain,
                              const sgm_real *inv, const sgm_real *dy, int64_t lddy, sgm_real *dx, int64_t lddx,
                              bool add);
    /* dgain (cols) += Σ_rows dy · x · inv, rows in order. Threads split the columns. */
    void (*rms_norm_gain)(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *inv,
                          const sgm_real *dy, int64_t lddy, sgm_real *dgain);

    /* Each row: y = exp(x − max) / Σ exp(x − max); in place allowed. */
    void (*softmax)(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, sgm_real *y, int64_t ldy);
    /* Largest element (NaN if any is NaN); −inf for n = 0. */
    sgm_real (*max)(int64_t n, const sgm_real *x);
    /* y = exp(scale·x − shift); returns Σ y in a fixed order. In place allowed. */
    sgm_real (*exp_sum)(int64_t n, const sgm_real *x, sgm_real scale, sgm_real shift, sgm_real *y);

    /* h = silu(gate) · up;  dgate, dup from dh (in place over gate/up allowed). */
    void (*swiglu)(int64_t n, const sgm_real *gate, const sgm_real *up, sgm_real *h);
    void (*swiglu_backward)(int64_t n, const sgm_real *gate, const sgm_real *up, const sgm_real *dh, sgm_real *dgate,
                            sgm_real *dup);

    sgm_real (*dot)(int64_t n, const sgm_real *x, const sgm_real *y);
    void (*axpy)(int64_t n, sgm_real a, const sgm_real *x, sgm_real *y);  /* y += a x */
    void (*scale)(int64_t n, sgm_real a, const sgm_real *x, sgm_real *y); /* y = a x; in place allowed */

    /* Optimizer. sum of squares in f64, in a fixed order. adamw: decoupled weight decay (Loshchilov & Hutter,
     * arXiv 1711.05101) on f32 master weights; each element independent. */
    double (*sum_squares)(int64_t n, const sgm_real *x);
    void (*adamw)(int64_t n, const sgm_adamw_step *step, const sgm_real *gradient, sgm_real *weight, sgm_real *moment1,
                  sgm_real *moment2);
} sgm_kernels;

/* `choice`: "ref", "auto" (the best usable one) or a table's name. SGM_EARGUMENT when this CPU cannot run it
 * or there is no such table. */
sgm_status sgm_kernels_get(const char *choice, const sgm_kernels **kernels, sgm_error *error);
/* All tables compiled in, best last; NULL past the end. */
const sgm_kernels *sgm_kernels_at(size_t index);

#endif
