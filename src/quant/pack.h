// SPDX-License-Identifier: Apache-2.0
/* What the packers share. Only finite floats may be converted to integers, so NaN counts as 0 and what is too large as the
 * largest the format can hold. */
#ifndef SGM_QUANT_PACK_H
#define SGM_QUANT_PACK_H

#include <float.h>
#include <math.h>

#include "quant/blocks.h"

/* x within ±limit; NaN becomes 0. */
static inline float sgm_pack_within(float x, float limit) {
    if (x != x)
        return 0;
    return x > limit ? limit : x < -limit ? -limit : x;
}

/* 1/scale for a scale that can be inverted, else 0: every integer is 0 then. */
static inline float sgm_pack_inverse(float scale) {
    return fabsf(scale) > 1 / FLT_MAX ? 1 / scale : 0;
}

/* Nearest integer, ties to even, of |x| < 2^22, without a library call: the sum with 1.5 · 2^23 has no bits for a fraction. */
static inline int32_t sgm_pack_nearest(float x) {
    return (int32_t)sgm_float_bits(x + 0x1.8p23F) - 0x4b400000;
}

static inline void sgm_block_put_f16(uint8_t *at, float x) {
    uint16_t half = sgm_f16_round(x);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

#endif
