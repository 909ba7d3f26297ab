// SPDX-License-Identifier: Apache-2.0
/* q6_k: 256 elements in 16 sub-blocks of 16; sub-block j stands for (d · sc[j]) · q with q in −32 … 31 and an 8-bit sc. Only the
 * layout is GGUF's; the packer is a search of our own for a small weighted squared error:
 *
 *  1. Each sub-block alone: the element farthest from zero becomes −32 on grids a little wider or narrower; the nearest q of
 *     each grid, then the scale that fits them best (weighted least squares in one unknown); keep the best.
 *  2. The scale farthest from zero becomes −128; that gives d in f16.
 *  3. Each sub-block again: the three 8-bit scales around the fit, each with its own nearest q; keep the best.
 *
 * An element weighs mean |x| of its sub-block + |x|. Sums run in sixteen lanes in a fixed order, so the bytes are the same
 * everywhere. Elements are within ±65504 · 32 · 64, NaN counts as 0. */
#include "quant/pack.h"
#include "quant/quant.h"

enum { SUB = 16, SUBS = 16, LANES = 16, GRIDS = 9, MIDDLE = GRIDS / 2 };

static float lanes_sum(float *lanes) {
    for (int step = LANES / 2; step > 2; step /= 2)
        for (int l = 0; l < step; l++)
            lanes[l] += lanes[l + step];
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static inline float nearest_step(float x) { /* as a float in -32 … 31 */
    float q = x + 0x1.8p23F - 0x1.8p23F;
    q = q < -32 ? -32 : q;
    return q > 31 ? 31 : q;
}

static void weigh(const float *x, float *weight) {
    float lanes[LANES];
    for (int l = 0; l < LANES; l++)
        lanes[l] = fabsf(x[l]);
    float mean = lanes_sum(lanes) / SUB;
    for (int i = 0; i < SUB; i++)
        weight[i] = mean + fabsf(x[i]);
}

/* Step 1: the scale of 16 elements. The squared error is Σ w x² − (Σ w x q)² / Σ w q² at the best scale for q. */
static float fit_alone(const float *x, const float *weight) {
    float farthest = 0, best = 0, most = 0;
    for (int i = 0; i < SUB; i++)
        farthest = fabsf(x[i]) > fabsf(farthest) ? x[i] : farthest;
    const float inverse = sgm_pack_inverse(farthest);
    for (int g = 0; g < GRIDS; g++) {
        const float grid = -(32 + 0.25F * (float)(g - MIDDLE)) * inverse;
        float lxq[LANES] = {0}, lqq[LANES] = {0};
        for (int i = 0; i < SUB; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float q = nearest_step(x[i + l] * grid), wq = weight[i + l] * q;
                lxq[l] += wq * x[i + l];
                lqq[l] += wq * q;
            }
        const float wxq = lanes_sum(lxq), wqq = lanes_sum(lqq);
        if (wqq > 0 && wxq * (wxq / wqq) > most) {
            most = wxq * (wxq / wqq);
            best = wxq / wqq;
        }
    }
    return best;
}

static float error_of(const float *x, const float *weight, float scale) {
    float lanes[LANES] = {0};
    const float inverse = sgm_pack_inverse(scale);
    for (int i = 0; i < SUB; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float off = scale * nearest_step(x[i + l] * inverse) - x[i + l];
            lanes[l] += weight[i + l] * off * off;
        }
    return lanes_sum(lanes);
}

static int within(int value) {
    return value < -128 ? -128 : value > 127 ? 127 : value;
}

/* Step 3: the best 8-bit scale near the fit, given d. */
static int fit_stored(const float *x, const float *weight, float wanted, float d) {
    const int middle = within(sgm_pack_nearest(wanted * sgm_pack_inverse(d)));
    int best = middle;
    float least = INFINITY;
    for (int scale = within(middle - 1); scale <= within(middle + 1); scale++) {
        float error = error_of(x, weight, d * (float)scale);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

static void put_integers(sgm_q6_k_block *block, const uint8_t *q) {
    for (int half = 0; half < 2; half++, q += 128)
        for (int i = 0; i < 32; i++) {
            uint8_t *low = block->low + 64 * half + i;
            low[0] = (uint8_t)((q[i] & 15) | (q[i + 64] & 15) << 4);
            low[32] = (uint8_t)((q[i + 32] & 15) | (q[i + 96] & 15) << 4);
            block->high[32 * half + i] =
                (uint8_t)(q[i] >> 4 | (q[i + 32] >> 4) << 2 | (q[i + 64] >> 4) << 4 | (q[i + 96] >> 4) << 6);
        }
}

static void pack_block(const float *x, sgm_q6_k_block *block) {
    float weight[SUBS][SUB], scales[SUBS], farthest = 0;
    for (int j = 0; j < SUBS; j++) {
        weigh(x + j * SUB, weight[j]);
        scales[j] = fit_alone(x + j * SUB, weight[j]);
        farthest = fabsf(scales[j]) > fabsf(farthest) ? scales[j] : farthest;
    }
    sgm_block_put_f16(block->d, sgm_pack_within(farthest / -128, SGM_F16_MAX));
    const float d = sgm_block_f16(block->d);
    uint8_t q[256];
    for (int j = 0; j < SUBS; j++) {
        int scale = fit_stored(x + j * SUB, weight[j], scales[j], d);
        float inverse = sgm_pack_inverse(d * (float)scale);
        block->scale[j] = (int8_t)scale;
        for (int i = 0; i < SUB; i++)
            q[j * SUB + i] = (uint8_t)((int)nearest_step(x[j * SUB + i] * inverse) + 32);
    }
    put_integers(block, q);
}

static void pack(int64_t n, const float *x, void *blocks) {
    sgm_q6_k_block *block = blocks;
    for (int64_t b = 0; b < n / 256; b++, block++, x += 256) {
        float values[256];
        for (int i = 0; i < 256; i++)
            values[i] = sgm_pack_within(x[i], SGM_F16_MAX * 32 * 64);
        pack_block(values, block);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const sgm_q6_k_block *block = blocks;
    for (int64_t b = 0; b < n / 256; b++, block++)
        for (int j = 0; j < 8; j++, x += 32) {
            int8_t integers[32];
            sgm_q6_k_integers(block, j, integers);
            for (int i = 0; i < 32; i++) {
                const int8_t scale = block->scale[2 * j + i / 16];
                x[i] = sgm_block_f16(block->d) * (float)scale * (float)integers[i];
            }
        }
}

const sgm_quant sgm_quant_q6_k = {
    .name = "q6_k",
    .summary = "6.5625 bits: 256 elements in 16 parts with 8-bit scale each, 6-bit integers",
    .type = SGM_TYPE_Q6_K,
    .gguf = 14,
    .block = 256,
    .block_bytes = sizeof(sgm_q6_k_block),
    .integer = true,
    .fallback = SGM_TYPE_Q8_0,
    .pack = pack,
    .unpack = unpack,
};
