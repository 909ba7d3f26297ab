// SPDX-License-Identifier: Apache-2.0
/* q4_0: 32 elements share a scale; the element farthest from zero becomes −8 exactly (up to the rounding of the scale), so one
 * sign has a step more than the other and the scale may be negative. Integers round to nearest, halves up, the product and then
 * the sum with 8.5 being rounded to f32 (ggml's reference). Elements are within ±65504 · 8, NaN counts as 0. */
#include "quant/pack.h"
#include "quant/quant.h"

enum { MIDDLE = 8 };

static void pack(int64_t n, const float *x, void *blocks) {
    sgm_q4_0_block *block = blocks;
    const float limit = SGM_F16_MAX * MIDDLE;
    for (int64_t b = 0; b < n / 32; b++, block++, x += 32) {
        float values[32], farthest = 0;
        for (int i = 0; i < 32; i++) {
            values[i] = sgm_pack_within(x[i], limit);
            farthest = fabsf(values[i]) > fabsf(farthest) ? values[i] : farthest;
        }
        float d = farthest / -MIDDLE, inverse = sgm_pack_inverse(d);
        sgm_block_put_f16(block->d, d);
        uint8_t q[32];
        for (int i = 0; i < 32; i++) {
            int value = (int)(values[i] * inverse + (MIDDLE + 0.5F));
            q[i] = (uint8_t)(value > 2 * MIDDLE - 1 ? 2 * MIDDLE - 1 : value);
        }
        for (int i = 0; i < 16; i++)
            block->q[i] = (uint8_t)(q[i] | q[i + 16] << 4);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const sgm_q4_0_block *block = blocks;
    for (int64_t b = 0; b < n / 32; b++, block++, x += 32) {
        int8_t integers[32];
        float d = sgm_block_f16(block->d);
        sgm_q4_0_integers(block, integers);
        for (int i = 0; i < 32; i++)
            x[i] = d * (float)integers[i];
    }
}

const sgm_quant sgm_quant_q4_0 = {
    .name = "q4_0",
    .summary = "4.5 bits: 32 elements, a scale and 4-bit integers",
    .type = SGM_TYPE_Q4_0,
    .gguf = 2,
    .block = 32,
    .block_bytes = sizeof(sgm_q4_0_block),
    .integer = true,
    .fallback = SGM_TYPE_F16,
    .pack = pack,
    .unpack = unpack,
};
