// SPDX-License-Identifier: Apache-2.0
/* f16: IEEE 754 binary16. Beyond 65520 values become infinite, NaN stays NaN (base/half.h). */
#include "base/half.h"
#include "quant/quant.h"

static void pack(int64_t n, const float *x, void *blocks) {
    uint8_t *out = blocks;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = sgm_f16_round(x[i]);
        out[2 * i] = (uint8_t)half;
        out[2 * i + 1] = (uint8_t)(half >> 8);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const uint8_t *in = blocks;
    for (int64_t i = 0; i < n; i++)
        x[i] = sgm_f16_widen((uint16_t)(in[2 * i] | in[2 * i + 1] << 8));
}

const sgm_quant sgm_quant_f16 = {
    .name = "f16",
    .summary = "16-bit floats: 11 significant bits, up to 65504",
    .type = SGM_TYPE_F16,
    .gguf = 1,
    .block = 1,
    .block_bytes = 2,
    .fallback = SGM_TYPE_F16,
    .pack = pack,
    .unpack = unpack,
};
