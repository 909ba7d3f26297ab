// SPDX-License-Identifier: Apache-2.0
/* The two 16-bit float formats, in portable C: the same bytes with every compiler and processor. Widening is exact; narrowing
 * rounds to nearest, ties to even. Overflow becomes infinity, denormals are kept, a NaN stays a (quiet) NaN.
 * f16: IEEE 754 binary16, 1 + 5 + 10 bits. bf16: the upper half of an f32. */
#ifndef SGM_BASE_HALF_H
#define SGM_BASE_HALF_H

#include <stdint.h>
#include <string.h>

#define SGM_F16_MAX 65504.0F

static inline uint32_t sgm_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float sgm_float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float sgm_f16_widen(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest >= 0x7c00u) /* infinity, NaN */
        return sgm_float_of(sign | 0x7f800000u | (rest & 0x3ffu) << 13 | (rest > 0x7c00u ? 0x400000u : 0));
    if (rest >= 0x400u)
        return sgm_float_of(sign | ((rest << 13) + ((127u - 15u) << 23)));
    float tiny = (float)rest * 0x1p-24F; /* exact: at most ten bits */
    return sign ? -tiny : tiny;
}

static inline uint16_t sgm_f16_round(float x) {
    uint32_t bits = sgm_float_bits(x), size = bits & 0x7fffffffu, half;
    if (size > 0x7f800000u)
        half = 0x7e00u | (size >> 13 & 0x3ffu);
    else if (size >= 0x477ff000u) /* 65520: half way beyond the largest, and everything above it */
        half = 0x7c00u;
    else if (size >= 0x38800000u) /* 2^-14: normal. Adding half an ulp (less one bit when even) carries as it should */
        half = (size - ((127u - 15u) << 23) + 0xfffu + (size >> 13 & 1u)) >> 13;
    else /* denormal: the sum with 1/2 rounds to multiples of 2^-24, which then are its last bits */
        half = sgm_float_bits(sgm_float_of(size) + 0.5F) - 0x3f000000u;
    return (uint16_t)(half | (bits >> 16 & 0x8000u));
}

static inline float sgm_bf16_widen(uint16_t half) {
    return sgm_float_of((uint32_t)half << 16);
}

static inline uint16_t sgm_bf16_round(float x) {
    uint32_t bits = sgm_float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
