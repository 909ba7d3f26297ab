// SPDX-License-Identifier: Apache-2.0
/* q8_0: 32 elements share a scale, the largest of them / 127; integers round to nearest, halves away from zero (ggml's
 * reference). The scale is at most f16's largest: elements are within ±65504 · 127, NaN counts as 0. Where the scale is below
 * f16's smallest denormal the block is zero. */
#include "quant/pack.h"
#include "quant/quant.h"

static int8_t rounded(float x) { /* |x| <= 127 and a bit */
    float size = fabsf(x);
    int whole = (int)size;
    whole += size - (float)whole >= 0.5F;
    return (int8_t)(x < 0 ? -whole : whole);
}

static void pack(int64_t n, const float *x, void *blocks) {
    sgm_q8_0_block *block = blocks;
    const float limit = SGM_F16_MAX * 127;
    for (int64_t b = 0; b < n / 32; b++, block++, x += 32) {
        float values[32], most = 0;
        for (int i = 0; i < 32; i++) {
            values[i] = sgm_pack_within(x[i], limit);
            most = fabsf(values[i]) > most ? fabsf(values[i]) : most;
        }
        float d = most / 127, inverse = sgm_pack_inverse(d);
        sgm_block_put_f16(block->d, d);
        for (int i = 0; i < 32; i++)
            block->q[i] = rounded(values[i] * inverse);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const sgm_q8_0_block *block = blocks;
    for (int64_t b = 0; b < n / 32; b++, block++, x += 32) {
        float d = sgm_block_f16(block->d);
        for (int i = 0; i < 32; i++)
            x[i] = d * (float)block->q[i];
    }
}

const sgm_quant sgm_quant_q8_0 = {
    .name = "q8_0",
    .summary = "8.5 bits: 32 elements, a scale and 8-bit integers",
    .type = SGM_TYPE_Q8_0,
    .gguf = 8,
    .block = 32,
    .block_bytes = sizeof(sgm_q8_0_block),
    .integer = true,
    .fallback = SGM_TYPE_F16,
    .pack = pack,
    .unpack = unpack,
};
