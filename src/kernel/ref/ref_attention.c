// SPDX-License-Identifier: Apache-2.0
/* Reference kernels of attention: the steps of the online softmax and of breaking a stick, their gradients, and how keys and
 * values are stored. */
#include "kernel/ref/ref.h"

#include "base/elementary_inline.h"
#include "base/half.h"

/* Keys that row i of the tile sees. */
static int64_t keys_seen(const sgm_score_tile *tile, int64_t i) {
    int64_t n = tile->seen + i / tile->group;
    return n < tile->cols ? n : tile->cols;
}

void sgm_ref_softmax_step(const sgm_score_tile *tile, sgm_real *score, int64_t ld, sgm_real *largest, sgm_real *sum,
                          sgm_real *rescale) {
    for (int64_t i = 0; i < tile->rows; i++) {
        sgm_real *row = score + i * ld;
        int64_t n = keys_seen(tile, i);
        for (int64_t c = 0; tile->key_scale && c < n; c++)
            row[c] *= (sgm_real)tile->key_scale[c];
        sgm_real top = sgm_ref_max(n, row) * tile->scale;
        top = top > largest[i] || top != top ? top : largest[i];
        rescale[i] = sgm_exp_inline(largest[i] - top);
        sum[i] = sum[i] * rescale[i] + sgm_ref_exp_sum(n, row, tile->scale, top, row);
        largest[i] = top;
        for (int64_t c = 0; tile->value_scale && c < n; c++)
            row[c] *= (sgm_real)tile->value_scale[c];
        for (int64_t c = n; c < tile->cols; c++)
            row[c] = 0;
    }
}

void sgm_ref_softmax_step_backward(const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld,
                                   const sgm_real *shift, const sgm_real *dot, int64_t stride) {
    for (int64_t i = 0; i < tile->rows; i++) {
        sgm_real *row = p + i * ld, *gradient = dp + i * ld, less = dot[i * stride];
        int64_t n = keys_seen(tile, i);
        (void)sgm_ref_exp_sum(n, row, tile->scale, shift[i * stride], row);
        for (int64_t c = 0; c < n; c++)
            gradient[c] = row[c] * (gradient[c] - less) * tile->scale;
        for (int64_t c = n; c < tile->cols; c++)
            row[c] = gradient[c] = 0;
    }
}

/* σ(x) and 1 − σ(x), both to a few ulp: neither is taken from 1. */
static inline void shares(sgm_real x, sgm_real *take, sgm_real *leave) {
    sgm_real e = sgm_exp_inline(x < 0 ? x : -x), d = 1 / (1 + e);
    *take = x < 0 ? e * d : d;
    *leave = x < 0 ? d : e * d;
}

static sgm_real what_is_left(sgm_real rest) {
    return rest < SGM_STICK_EMPTY ? 0 : rest; /* NaN stays */
}

void sgm_ref_stick_step(const sgm_score_tile *tile, sgm_real *score, int64_t ld, sgm_real *rest) {
    for (int64_t i = 0; i < tile->rows; i++) {
        sgm_real *row = score + i * ld, take[64], leave[64], kept = 1;
        int64_t n = rest[i] == 0 ? 0 : keys_seen(tile, i);
        for (int64_t c = 0; tile->key_scale && c < n; c++)
            row[c] *= (sgm_real)tile->key_scale[c];
        for (int64_t c = 0; c < n; c++)
            shares(row[c] * tile->scale, &take[c], &leave[c]);
        for (int64_t c = n; c-- > 0; kept *= leave[c])
            row[c] = kept * take[c] * rest[i];
        rest[i] = what_is_left(rest[i] * kept);
        for (int64_t c = 0; tile->value_scale && c < n; c++)
            row[c] *= (sgm_real)tile->value_scale[c];
        for (int64_t c = n; c < tile->cols; c++)
            row[c] = 0;
    }
}

void sgm_ref_stick_step_backward(const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld, sgm_real *rest,
                                 sgm_real *left, int64_t stride) {
    for (int64_t i = 0; i < tile->rows; i++) {
        sgm_real *row = p + i * ld, *gradient = dp + i * ld, whole = rest[i * stride], take, leave, kept = 1;
        int64_t n = whole == 0 ? 0 : keys_seen(tile, i);
        for (int64_t c = n; c-- > 0; kept *= leave) {
            shares(row[c] * tile->scale, &take, &leave);
            row[c] = kept * take * whole;
            sgm_real change = row[c] * gradient[c];
            gradient[c] = (change - take * left[i * stride]) * tile->scale;
            left[i * stride] -= change;
        }
        rest[i * stride] = what_is_left(whole * kept);
        for (int64_t c = n; c < tile->cols; c++)
            row[c] = gradient[c] = 0;
    }
}

void sgm_ref_transpose(int64_t rows, int64_t cols, const sgm_real *restrict x, int64_t ldx, sgm_real *restrict y,
                       int64_t ldy) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            y[j * ldy + i] = x[i * ldx + j];
}

void sgm_ref_f16_round(int64_t n, const sgm_real *x, uint16_t *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = sgm_f16_round((float)x[i]);
}

void sgm_ref_f16_widen(int64_t n, const uint16_t *x, sgm_real *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = (sgm_real)sgm_f16_widen(x[i]);
}

float sgm_ref_int8_round(int64_t n, const sgm_real *x, int8_t *y) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        float size = fabsf((float)x[i]);
        largest = size > largest || size != size ? size : largest; /* once NaN, it stays */
    }
    bool finite = largest < INFINITY;
    float factor = finite && largest >= 0x1p-120F ? 127.0F / largest : 0;
    for (int64_t i = 0; i < n; i++) {
        float value = factor > 0 ? (float)x[i] * factor : 0;
        y[i] = (int8_t)(value + SGM_ROUND_F - SGM_ROUND_F);
    }
    return !finite ? NAN : factor > 0 ? largest / 127.0F : 0;
}

void sgm_ref_int8_widen(int64_t n, const int8_t *x, sgm_real *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = (sgm_real)x[i];
}

/* Row k of B is widened for all rows of A: each element's sum runs over k in order, as in matmul_nn. */
#define MATMUL_NN_STORED(name, type, widen)                                                                            \
    void name(int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, const type *B, int64_t ldb,             \
              sgm_real *C, int64_t ldc, bool add) {                                                                    \
        for (int64_t i = 0; i < M && !add; i++)                                                                        \
            for (int64_t n = 0; n < N; n++)                                                                            \
                C[i * ldc + n] = 0;                                                                                    \
        for (int64_t k = 0; k < K; k++)                                                                                \
            for (int64_t n = 0; n < N; n++) {                                                                          \
                sgm_real b = (sgm_real)widen(B[k * ldb + n]);                                                          \
                for (int64_t i = 0; i < M; i++)                                                                        \
                    C[i * ldc + n] += A[i * lda + k] * b;                                                              \
            }                                                                                                          \
    }
MATMUL_NN_STORED(sgm_ref_matmul_nn_f16, uint16_t, sgm_f16_widen)
MATMUL_NN_STORED(sgm_ref_matmul_nn_int8, int8_t, (float))
