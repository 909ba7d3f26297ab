// SPDX-License-Identifier: Apache-2.0
/* q4_k: 256 elements in 8 sub-blocks of 32; sub-block j stands for (d · sc[j]) · q − dmin · m[j] with q in 0 … 15, sc and m in
 * 0 … 63. Only the layout is GGUF's; the packer is a search of our own for a small weighted squared error:
 *
 *  1. Each sub-block alone: for several grids a little wider or narrower than the elements' range, the nearest q, then the
 *     scale and minimum that fit them best (weighted least squares in two unknowns, minimum not negative), keep the best.
 *  2. The largest scale and minimum give d and dmin in f16.
 *  3. Each sub-block again, with what 6 bits allow: the pairs (sc, m) around the fit, each with its own nearest q.
 *
 * An element weighs mean |x| of its sub-block + |x|: large weights matter more to the products they are in. Sums run in sixteen
 * lanes in a fixed order, so the bytes are the same everywhere. Elements are within ±65504 · 63, NaN counts as 0. */
#include "quant/pack.h"
#include "quant/quant.h"

enum { SUB = 32, SUBS = 8, LANES = 16, STEPS = 15, MOST = 63, GRIDS = 9, MIDDLE = GRIDS / 2 };

typedef struct fit {
    float scale, minimum;
} fit;

static float lanes_sum(float *lanes) {
    for (int step = LANES / 2; step > 2; step /= 2)
        for (int l = 0; l < step; l++)
            lanes[l] += lanes[l + step];
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static inline float nearest_step(float x) { /* as a float in 0 … 15 */
    float q = x + 0x1.8p23F - 0x1.8p23F;
    q = q < 0 ? 0 : q;
    return q > STEPS ? STEPS : q;
}

static void weigh(const float *x, float *weight) {
    float lanes[LANES] = {0};
    for (int i = 0; i < SUB; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += fabsf(x[i + l]);
    float mean = lanes_sum(lanes) / SUB;
    for (int i = 0; i < SUB; i++)
        weight[i] = mean + fabsf(x[i]);
}

/* Step 1: scale and minimum of 32 elements whose minimum is `low` <= 0 and maximum `high`. */
static fit fit_alone(const float *x, const float *weight, float low, float high) {
    fit best = {0, -low};
    if (!(high > low))
        return best;
    float lw[LANES] = {0}, lx[LANES] = {0};
    for (int i = 0; i < SUB; i += LANES)
        for (int l = 0; l < LANES; l++) {
            lw[l] += weight[i + l];
            lx[l] += weight[i + l] * x[i + l];
        }
    const float w = lanes_sum(lw), wx = lanes_sum(lx);
    float least = INFINITY;
    for (int g = 0; g < GRIDS; g++) {
        float inverse = ((float)STEPS + 0.25F * (float)(g - MIDDLE)) / (high - low);
        float lq[LANES] = {0}, lqq[LANES] = {0}, lxq[LANES] = {0};
        for (int i = 0; i < SUB; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float q = nearest_step((x[i + l] - low) * inverse), wq = weight[i + l] * q;
                lq[l] += wq;
                lqq[l] += wq * q;
                lxq[l] += wq * x[i + l];
            }
        const float wq = lanes_sum(lq), wqq = lanes_sum(lqq), wxq = lanes_sum(lxq);
        const float determinant = w * wqq - wq * wq;
        fit now = {0, 0};
        if (determinant > 0)
            now = (fit){(w * wxq - wx * wq) / determinant, (wq * wxq - wqq * wx) / determinant};
        if (!(now.minimum > 0)) /* a minimum must not be negative: fit the scale alone */
            now = (fit){wqq > 0 ? wxq / wqq : 0, 0};
        if (!(now.scale > 0))
            continue;
        /* Squared error without Σ w x², which all grids share. */
        float error =
            now.scale * (now.scale * wqq - 2 * (wxq + now.minimum * wq)) + now.minimum * (now.minimum * w + 2 * wx);
        if (error < least) {
            least = error;
            best = now;
        }
    }
    return best;
}

/* Weighted squared error of 32 elements with scale and minimum as they will be read. */
static float error_of(const float *x, const float *weight, float scale, float minimum) {
    float lanes[LANES] = {0};
    const float inverse = sgm_pack_inverse(scale);
    for (int i = 0; i < SUB; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float value = x[i + l] + minimum, q = nearest_step(value * inverse);
            float off = scale * q - value;
            lanes[l] += weight[i + l] * off * off;
        }
    return lanes_sum(lanes);
}

static int within(int value) {
    return value < 0 ? 0 : value > MOST ? MOST : value;
}

/* Step 3: the best sc and m near the fit, given d and dmin. */
static void fit_stored(const float *x, const float *weight, fit wanted, float d, float dmin, int *scale, int *minimum) {
    const int sc = within(sgm_pack_nearest(wanted.scale * sgm_pack_inverse(d)));
    const int m = within(sgm_pack_nearest(wanted.minimum * sgm_pack_inverse(dmin)));
    float least = INFINITY;
    *scale = sc;
    *minimum = m;
    for (int i = within(sc - 1); i <= within(sc + 1); i++)
        for (int j = within(m - 1); j <= within(m + 1); j++) {
            float error = error_of(x, weight, d * (float)i, dmin * (float)j);
            if (error < least) {
                least = error;
                *scale = i;
                *minimum = j;
            }
        }
}

static void put_scales(uint8_t *out, const int *scale, const int *minimum) {
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        out[j + 4] = (uint8_t)(minimum[j] | (minimum[j + 4] >> 4) << 6);
        out[j + 8] = (uint8_t)((scale[j + 4] & 15) | (minimum[j + 4] & 15) << 4);
    }
}

static void pack_block(const float *x, sgm_q4_k_block *block) {
    float weight[SUBS][SUB], most_scale = 0, most_minimum = 0;
    fit fits[SUBS];
    for (int j = 0; j < SUBS; j++) {
        const float *sub = x + j * SUB;
        float low = 0, high = sub[0];
        for (int i = 0; i < SUB; i++) {
            low = sub[i] < low ? sub[i] : low;
            high = sub[i] > high ? sub[i] : high;
        }
        weigh(sub, weight[j]);
        fits[j] = fit_alone(sub, weight[j], low, high);
        most_scale = fits[j].scale > most_scale ? fits[j].scale : most_scale;
        most_minimum = fits[j].minimum > most_minimum ? fits[j].minimum : most_minimum;
    }
    sgm_block_put_f16(block->d, sgm_pack_within(most_scale / MOST, SGM_F16_MAX));
    sgm_block_put_f16(block->dmin, sgm_pack_within(most_minimum / MOST, SGM_F16_MAX));
    const float d = sgm_block_f16(block->d), dmin = sgm_block_f16(block->dmin);
    int scale[SUBS], minimum[SUBS];
    for (int j = 0; j < SUBS; j++) {
        const float *sub = x + j * SUB;
        fit_stored(sub, weight[j], fits[j], d, dmin, &scale[j], &minimum[j]);
        float inverse = sgm_pack_inverse(d * (float)scale[j]), shift = dmin * (float)minimum[j];
        uint8_t *q = block->q + j / 2 * SUB;
        for (int i = 0; i < SUB; i++) {
            uint8_t value = (uint8_t)nearest_step((sub[i] + shift) * inverse);
            q[i] = (uint8_t)(j % 2 ? q[i] | value << 4 : value);
        }
    }
    put_scales(block->scales, scale, minimum);
}

static void pack(int64_t n, const float *x, void *blocks) {
    sgm_q4_k_block *block = blocks;
    for (int64_t b = 0; b < n / 256; b++, block++, x += 256) {
        float values[256];
        for (int i = 0; i < 256; i++)
            values[i] = sgm_pack_within(x[i], SGM_F16_MAX * MOST);
        pack_block(values, block);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const sgm_q4_k_block *block = blocks;
    for (int64_t b = 0; b < n / 256; b++, block++)
        for (int j = 0; j < SUBS; j++, x += SUB) {
            int8_t integers[SUB];
            int32_t sc, m;
            sgm_q4_k_scale(block->scales, j, &sc, &m);
            sgm_q4_k_integers(block, j, integers);
            float scale = sgm_block_f16(block->d) * (float)sc, minimum = sgm_block_f16(block->dmin) * (float)m;
            for (int i = 0; i < SUB; i++)
                x[i] = scale * (float)integers[i] - minimum;
        }
}

const sgm_quant sgm_quant_q4_k = {
    .name = "q4_k",
    .summary = "4.5 bits: 256 elements in 8 parts with 6-bit scale and minimum each, 4-bit integers",
    .type = SGM_TYPE_Q4_K,
    .gguf = 12,
    .block = 256,
    .block_bytes = sizeof(sgm_q4_k_block),
    .integer = true,
    .fallback = SGM_TYPE_Q5_0,
    .pack = pack,
    .unpack = unpack,
};
