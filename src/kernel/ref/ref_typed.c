// SPDX-License-Identifier: Apache-2.0
/* Reference products with weights as they are stored, and the quantisation of activations that the integer types need.
 * This is the specification to the byte: every table gives the same bits wherever no NaN is involved.
 *
 * quantise, per row and 32 elements: most = the largest |x|.
 *   an element is NaN or infinite: scale = NaN, every q = 0, sum = 0 (every product with the row is NaN)
 *   most < 2^-100:                 scale = 0,   every q = 0, sum = 0
 *   else: inverse = 127 / most, scale = most / 127, q = nearest integer of x · inverse, ties to even; each operation is rounded
 *   to f32 by itself. |q| <= 127.
 *
 * matmul_typed, integer types. For an output, sum = 0, or C with `add`; then for each 32 elements of k, in order, with dx and
 * Σq the scale and sum of A's, w the weight's integers and dot = Σ w q (exact, and exact as a float):
 *   q8_0         t = d · dot
 *   q4_0, q5_0   t = d · dot                        w = nibble − 8, 5 bits − 16
 *   q4_k         t = fma(−(dmin · m), Σq, (d · sc) · dot)
 *   q6_k         t = d · (sc0 · dot0 + sc1 · dot1)    of 16 elements each; w = 6 bits − 32; the integer is below 2^24
 *   sum = fma(t, dx, sum)
 * d · sc and dmin · m are exact in f32, so it is all the same whether d meets sc or dot first; `·` and fma round once.
 *
 * Float types: sum = fma(a, w, sum), k in order. bf16: a is rounded to bf16 first; its products are exact, so that a table
 * may fuse them or not. Tables with bf16 dot products differ as in matmul_nt_bf16 (docs/numerics.md). */
#include "kernel/ref/ref.h"

#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"

enum { STEP = 32 }; /* elements of k between two additions to a sum */

static void quantise_step(const float *x, int8_t *q, float *scale, int32_t *sum) {
    uint32_t most = 0; /* as bits: of values without sign they compare like the values */
    for (int i = 0; i < STEP; i++) {
        uint32_t size = sgm_float_bits(x[i]) & 0x7fffffffu;
        most = size > most ? size : most;
    }
    const float largest = sgm_float_of(most);
    const bool finite = most < 0x7f800000u, some = finite && largest >= 0x1p-100F;
    const float inverse = some ? 127 / largest : 0;
    int32_t total = 0;
    for (int i = 0; i < STEP; i++) {
        /* The sum with 1.5 · 2^23 rounds to a whole number, ties to even. */
        int32_t value = some ? (int32_t)sgm_float_bits(x[i] * inverse + 0x1.8p23F) - 0x4b400000 : 0;
        q[i] = (int8_t)value;
        total += value;
    }
    *scale = some ? largest / 127 : finite ? 0 : NAN;
    *sum = total;
}

void sgm_ref_quantise(int64_t rows, int64_t cols, const float *x, int64_t ldx, const sgm_activations *a) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t s = 0; s < cols / STEP; s++)
            quantise_step(x + i * ldx + s * STEP, a->q + i * cols + s * STEP, &a->scale[i * (cols / STEP) + s],
                          &a->sum[i * (cols / STEP) + s]);
}

static int32_t dot_integers(int n, const int8_t *w, const int8_t *q) {
    int32_t dot = 0;
    for (int i = 0; i < n; i++)
        dot += w[i] * q[i];
    return dot;
}

/* One step of 32 of A: its integers, their sum and scale. */
typedef struct step {
    const int8_t *q;
    int32_t sum;
    float scale;
} step;

static float q8_0_step(const void *row, int64_t s, step a) {
    const sgm_q8_0_block *block = (const sgm_q8_0_block *)row + s;
    return sgm_block_f16(block->d) * (float)dot_integers(STEP, block->q, a.q);
}

static float q4_0_step(const void *row, int64_t s, step a) {
    const sgm_q4_0_block *block = (const sgm_q4_0_block *)row + s;
    int8_t w[STEP];
    sgm_q4_0_integers(block, w);
    return sgm_block_f16(block->d) * (float)dot_integers(STEP, w, a.q);
}

static float q5_0_step(const void *row, int64_t s, step a) {
    const sgm_q5_0_block *block = (const sgm_q5_0_block *)row + s;
    int8_t w[STEP];
    sgm_q5_0_integers(block, w);
    return sgm_block_f16(block->d) * (float)dot_integers(STEP, w, a.q);
}

static float q4_k_step(const void *row, int64_t s, step a) {
    const sgm_q4_k_block *block = (const sgm_q4_k_block *)row + s / 8;
    int8_t w[STEP];
    int32_t scale, minimum;
    sgm_q4_k_integers(block, (int)(s % 8), w);
    sgm_q4_k_scale(block->scales, (int)(s % 8), &scale, &minimum);
    float d = sgm_block_f16(block->d) * (float)scale, low = sgm_block_f16(block->dmin) * (float)minimum;
    return fmaf(-low, (float)a.sum, d * (float)dot_integers(STEP, w, a.q));
}

static float q6_k_step(const void *row, int64_t s, step a) {
    const sgm_q6_k_block *block = (const sgm_q6_k_block *)row + s / 8;
    const int8_t *scale = block->scale + s % 8 * 2;
    int8_t w[STEP];
    sgm_q6_k_integers(block, (int)(s % 8), w);
    int32_t whole = scale[0] * dot_integers(16, w, a.q) + scale[1] * dot_integers(16, w + 16, a.q + 16);
    return sgm_block_f16(block->d) * (float)whole;
}

static float integer_row(float (*of_step)(const void *row, int64_t s, step a), int64_t K, const sgm_activations *A,
                         int64_t i, const void *row, float sum) {
    const int64_t steps = K / STEP;
    for (int64_t s = 0; s < steps; s++) {
        step a = {A->q + i * K + s * STEP, A->sum[i * steps + s], A->scale[i * steps + s]};
        sum = fmaf(of_step(row, s, a), a.scale, sum);
    }
    return sum;
}

static uint16_t half_at(const void *row, int64_t k) {
    const uint8_t *at = (const uint8_t *)row + 2 * k;
    return (uint16_t)(at[0] | at[1] << 8);
}

/* A file's rows may begin anywhere. */
static sgm_real real_at(const void *row, int64_t k) {
    sgm_real x;
    memcpy(&x, (const char *)row + (size_t)k * sizeof x, sizeof x);
    return x;
}

static float float_row(sgm_type type, int64_t K, const float *a, const void *row, float sum) {
    for (int64_t k = 0; k < K; k++)
        switch (type) {
        case SGM_TYPE_F16:
            sum = fmaf(a[k], sgm_f16_widen(half_at(row, k)), sum);
            break;
        case SGM_TYPE_BF16:
            sum = fmaf(sgm_bf16_widen(sgm_bf16_round(a[k])), sgm_bf16_widen(half_at(row, k)), sum);
            break;
        default: /* SGM_TYPE_F32 */
            sum = fmaf(a[k], (float)real_at(row, k), sum);
        }
    return sum;
}

void sgm_ref_matmul_typed(int64_t M, int64_t N, int64_t K, const sgm_activations *A, sgm_type type, const void *B,
                          size_t stride, float *C, int64_t ldc, bool add) {
    static float (*const steps[SGM_TYPES])(const void *row, int64_t s, step a) = {
        [SGM_TYPE_Q8_0] = q8_0_step, [SGM_TYPE_Q4_0] = q4_0_step, [SGM_TYPE_Q5_0] = q5_0_step,
        [SGM_TYPE_Q4_K] = q4_k_step, [SGM_TYPE_Q6_K] = q6_k_step,
    };
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < M; i++) {
            const void *row = (const char *)B + (size_t)n * stride;
            float *c = C + i * ldc + n, sum = add ? *c : 0;
            *c = steps[type] ? integer_row(steps[type], K, A, i, row, sum)
                             : float_row(type, K, A->x + i * A->ldx, row, sum);
        }
}
