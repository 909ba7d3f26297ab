// SPDX-License-Identifier: Apache-2.0
/* Kernels: the single-thread inner loops that everything is made of, one table per instruction set.
 *
 * `ref` is portable C and the specification; the vector tables replace entries of it and are tested against it within
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
#include "tensor/matrix.h"

typedef struct sgm_adamw_step {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double correction1, correction2; /* 1 - beta^t */
    double gradient_scale;           /* clipping factor, applied to the gradient first */
} sgm_adamw_step;

typedef void sgm_matmul(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                        sgm_real *C, int64_t ldc, bool add);

/* The same of B (weights) that is bf16 already. */
typedef void sgm_matmul_rounded(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const uint16_t *B,
                                int64_t ldb, sgm_real *C, int64_t ldc, bool add);

/* In which numbers products are multiplied; sums, and everything that is no product, stay f32. bf16x6: as exact as f32, by six
 * products of bf16 where that is faster. */
typedef enum sgm_compute { SGM_COMPUTE_F32, SGM_COMPUTE_BF16, SGM_COMPUTE_BF16X6, SGM_COMPUTES } sgm_compute;
static inline const char *sgm_compute_name(sgm_compute compute) {
    return compute == SGM_COMPUTE_BF16 ? "bf16" : compute == SGM_COMPUTE_BF16X6 ? "bf16x6" : "f32";
}

/* Rows of activations for products with weights of a storage type. Types of integers read q, scale and sum, which
 * `quantise` makes; types of floats read x. K is a multiple of 32 wherever q is used. */
typedef struct sgm_activations {
    const float *x; /* (M, K), row stride ldx */
    int64_t ldx;
    int8_t *q; /* (M, K): nearest even of x · (127 / largest |x| of its 32), in -127 … 127 */
    float *
        scale; /* (M, K/32): largest |x| of 32 elements / 127; 0 where it is below 2^-100, NaN where one is not finite */
    int32_t *sum; /* (M, K/32): sum of those 32 q */
} sgm_activations;

/* A tile of attention scores: rows of queries against the keys of one block. Heads that share keys stand side by side: row i
 * belongs to query i / group, and sees the first min(cols, seen + i / group) keys. */
typedef struct sgm_score_tile {
    int64_t rows, cols; /* cols <= 64 */
    int64_t seen, group;
    sgm_real scale;                       /* of the scores: 1/sqrt(S) */
    const float *key_scale, *value_scale; /* (cols) of keys and values stored as integers; NULL: 1 */
} sgm_score_tile;

/* A row of stick-breaking attention of which less than this is left counts as used up: 5e-20 of weights that sum to 1. */
#define SGM_STICK_EMPTY ((sgm_real)0x1p-64)

typedef struct sgm_kernels {
    const char *name;     /* "ref", "avx2", "avx512", "avx512_bf16", "amx" */
    const char *summary;  /* one line for `sigmoe doctor` */
    bool (*usable)(void); /* does this CPU (and OS) have what it needs */
    int bf16_group;       /* products in bf16 that are added to one another before the sum: 1, 2 (pairs) or 32 */

    /* C (M,N) = or += A (M,K) · B (N,K)ᵀ.   forward: y = x Wᵀ */
    void (*matmul_nt)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                      sgm_real *C, int64_t ldc, bool add);
    /* C (M,N) = or += A (M,K) · B (K,N).    backward: dx = dy W */
    void (*matmul_nn)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                      sgm_real *C, int64_t ldc, bool add);
    /* C (M,N) = or += A (K,M)ᵀ · B (K,N).   backward: dW = dyᵀ x, K tokens in order */
    void (*matmul_tn)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const sgm_real *B, int64_t ldb,
                      sgm_real *C, int64_t ldc, bool add);

    /* The same three with A and B rounded to bf16 (nearest even) on the way in and f32 sums, for training in bf16: memory
     * holds f32 throughout. The specification multiplies and adds in f32, k in order; a table with bf16 dot products adds
     * groups of `bf16_group` products and flushes denormals. An element depends on K alone here too, but a sum over K that is
     * cut inside a group has other groups, so `add` continues a sum to the byte only from multiples of bf16_group. */
    sgm_matmul *matmul_nt_bf16, *matmul_nn_bf16, *matmul_tn_bf16;
    /* The first two with B as `bf16_round` made it: the bytes of matmul_nt_bf16 and matmul_nn_bf16 on what it was made from.
     * bf16_round rounds as these products do (which may take denormals for zeros) and may write past the caches. All three or
     * none: `ref` has them as the specification, a table where half the bytes of B make training faster. f32 build only. */
    sgm_matmul_rounded *matmul_nt_rounded, *matmul_nn_rounded;
    void (*bf16_round)(int64_t n, const sgm_real *x, uint16_t *y);
    /* All three products as exact as in f32, but free in the order of the sum: a float is the sum of three bf16, and of the nine
     * products of two such sums the six largest are added, in f32. In groups of `bf16_group` and with denormals as the products
     * in bf16; what is not finite, or rounds to an infinity in bf16, makes NaN of its sums. Where that is no faster the entries
     * are those of f32. */
    sgm_matmul *matmul_nt_bf16x6, *matmul_nn_bf16x6, *matmul_tn_bf16x6;

    /* x (rows, cols) → a->q, scale, sum. The same bytes in every table. cols: a multiple of 32. ref/ref_typed.c has the rule. */
    void (*quantise)(int64_t rows, int64_t cols, const float *x, int64_t ldx, const sgm_activations *a);
    /* C (M,N) = or += A (M,K) · B (N,K)ᵀ, B in storage type `type` with `stride` bytes between rows, read where it lies.
     * Integer types: per 32 elements the integer dot product is exact, times scales in f32, fused into the sum in order of k:
     * the same bytes in every table (the formulas: ref/ref_typed.c). f32, f16: products and sums in f32, k in order, fused. bf16: A is rounded to bf16 as in
     * matmul_nt_bf16, and the bytes are its bytes for the same weights in f32. C and A are f32 in every build. */
    void (*matmul_typed)(int64_t M, int64_t N, int64_t K, const sgm_activations *A, sgm_type type, const void *B,
                         size_t stride, float *C, int64_t ldc, bool add);

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

    /* Attention (src/attention). One step of the online softmax (arXiv 1805.02867), in place. With x = score · key_scale and n
     * the keys a row sees: top = the larger of largest[i] and scale · max x; score = exp(scale · x − top) · value_scale, 0 for
     * the keys it does not see; rescale[i] = exp(largest[i] − top), sum[i] = sum[i] · rescale[i] + Σ exp(…) in a fixed order;
     * largest[i] = top. NaN goes through. */
    void (*softmax_step)(const sgm_score_tile *tile, sgm_real *score, int64_t ld, sgm_real *largest, sgm_real *sum,
                         sgm_real *rescale);
    /* Its gradient: p holds scores, dp the gradient of the probabilities. p = exp(scale · p − shift[i · stride]) and
     * dp = p · (dp − dot[i · stride]) · scale; both 0 for the keys a row does not see. Key and value scales are not read. */
    void (*softmax_step_backward)(const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld,
                                  const sgm_real *shift, const sgm_real *dot, int64_t stride);
    /* Stick-breaking attention (arXiv 2306.04640), in place. With x = scale · score · key_scale and the keys a row sees from the
     * newest to the oldest: score = rest · σ(x) · value_scale, rest = rest · (1 − σ(x)); score = 0 for the keys it does not see.
     * Inside the tile the product begins at 1 and meets rest[i] at the end; rest[i] below SGM_STICK_EMPTY becomes 0, and a row
     * whose rest[i] is 0 gets zeros. NaN goes through. */
    void (*stick_step)(const sgm_score_tile *tile, sgm_real *score, int64_t ld, sgm_real *rest);
    /* Its gradient: p holds scores, dp the gradient g of the weights. p = weight, dp = (p · g − σ(x) · left) · scale, then left
     * loses p · g; rest[i · stride] as above, left[i · stride] is Σ p · g over these and all older keys. Key and value scales are
     * not read. */
    void (*stick_step_backward)(const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld, sgm_real *rest,
                                sgm_real *left, int64_t stride);
    /* y (cols, rows) = x (rows, cols) transposed. */
    void (*transpose)(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, sgm_real *y, int64_t ldy);
    /* Storage of keys and values; the same bytes in every table. f16 rounds to nearest even (base/half.h); integers are
     * round(x · 127 / largest |x|) and the scale largest |x| / 127 is returned: NaN where x has a value that is not finite, 0
     * where all are below 2^-120. Widening an integer does not multiply by the scale. */
    void (*f16_round)(int64_t n, const sgm_real *x, uint16_t *y);
    void (*f16_widen)(int64_t n, const uint16_t *x, sgm_real *y);
    float (*int8_round)(int64_t n, const sgm_real *x, int8_t *y);
    void (*int8_widen)(int64_t n, const int8_t *x, sgm_real *y);
    /* matmul_nn with B as it is stored: the bytes of widening B first. Meant for a few rows (decode), where widening would
     * cost as much as the product. */
    void (*matmul_nn_f16)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const uint16_t *B,
                          int64_t ldb, sgm_real *C, int64_t ldc, bool add);
    void (*matmul_nn_int8)(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const int8_t *B,
                           int64_t ldb, sgm_real *C, int64_t ldc, bool add);

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
