// SPDX-License-Identifier: Apache-2.0
/* f32: the library's own element, stored as it is. */
#include <string.h>

#include "base/real.h"
#include "quant/quant.h"

static void pack(int64_t n, const float *x, void *blocks) {
    char *out = blocks;
    for (int64_t i = 0; i < n; i++) {
        sgm_real value = (sgm_real)x[i];
        memcpy(out + (size_t)i * sizeof value, &value, sizeof value);
    }
}

static void unpack(int64_t n, const void *blocks, float *x) {
    const char *in = blocks;
    for (int64_t i = 0; i < n; i++) {
        sgm_real value;
        memcpy(&value, in + (size_t)i * sizeof value, sizeof value);
        x[i] = (float)value;
    }
}

const sgm_quant sgm_quant_f32 = {
    .name = "f32",
    .summary = "32-bit floats as they are",
    .type = SGM_TYPE_F32,
    .gguf = 0,
    .block = 1,
    .block_bytes = sizeof(sgm_real),
    .fallback = SGM_TYPE_F32,
    .pack = pack,
    .unpack = unpack,
};
