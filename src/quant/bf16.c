// SPDX-License-Identifier: Apache-2.0
/* bf16: the upper half of an f32, rounded to nearest even. Infinities and NaN stay what they are (base/half.h). */
#include "base/half.h"
#include "quant/quant.h"

static void pack(int64_t n, const float *x, void *blocks) {
    uint8_t *out = blocks;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = sgm_bf16_round(x[i]);
        out[2 * i] = (uint8_t)half;
        out[2 * i + 1] = (uint8_t)(half >> 8);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const uint8_t *in = blocks;
    for (int64_t i = 0; i < n; i++)
        x[i] = sgm_bf16_widen((uint16_t)(in[2 * i] | in[2 * i + 1] << 8));
}

const sgm_quant sgm_quant_bf16 = {
    .name = "bf16",
    .summary = "16-bit floats: 8 significant bits, the range of f32",
    .type = SGM_TYPE_BF16,
    .gguf = 30,
    .block = 1,
    .block_bytes = 2,
    .fallback = SGM_TYPE_BF16,
    .pack = pack,
    .unpack = unpack,
};
