// SPDX-License-Identifier: Apache-2.0
/* The bodies of exp and, in f32, of log, and their constants, inline so that loops of them vectorise (in the folders to which
 * CMakeLists.txt gives -fno-trapping-math); elementary.c gives them external names. Branch-free: the same operations for every argument, so scalar and vector code give the same bytes.
 *
 * exp(x) = 2^n e^r with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln2/2, ln 2 in two parts so that n·hi is exact;
 * e^r by its Taylor series (f32: to r^7, remainder below 6e-9; f64: to r^13, below 5e-18). 2^n is applied in two
 * factors, which reaches the denormals with one rounding and overflows to infinity by itself. */
#ifndef SGM_BASE_ELEMENTARY_INLINE_H
#define SGM_BASE_ELEMENTARY_INLINE_H

#include <stdint.h>
#include <string.h>

#include "base/real.h"

#define SGM_EXPF_MAX 100.0F  /* exp is inf from 88.8 on */
#define SGM_EXPF_MIN -105.0F /* exp is 0 below -104 */
#define SGM_LOG2E_F 0x1.715476p+0F
#define SGM_LN2_HI_F 0x1.62e000p-1F /* 13 bits: n·hi is exact */
#define SGM_LN2_LO_F 0x1.0bfbe8p-15F
#define SGM_ROUND_F 0x1.8p+23F /* adding and taking it away rounds to an integer, whose bits stay in the sum */

static inline float sgm_exp2_bits_f(int32_t n) {
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float sgm_expf_inline(float x) {
    x = x > SGM_EXPF_MAX ? SGM_EXPF_MAX : x; /* comparisons with NaN are false: NaN goes through */
    x = x < SGM_EXPF_MIN ? SGM_EXPF_MIN : x;
    float shifted = x * SGM_LOG2E_F + SGM_ROUND_F;
    float whole = shifted - SGM_ROUND_F;
    int32_t n;
    memcpy(&n, &shifted, sizeof n);
    n = (int32_t)((uint32_t)n << 9) >> 9; /* the low bits of the mantissa, with their sign */
    float r = (x - whole * SGM_LN2_HI_F) - whole * SGM_LN2_LO_F;
    float p = 1.0F / 5040.0F;
    p = p * r + 1.0F / 720.0F;
    p = p * r + 1.0F / 120.0F;
    p = p * r + 1.0F / 24.0F;
    p = p * r + 1.0F / 6.0F;
    p = p * r + 0.5F;
    p = (p * r * r + r) + 1.0F;
    int32_t half = n >> 1;
    return p * sgm_exp2_bits_f(half) * sgm_exp2_bits_f(n - half);
}

/* log of 2^n times a positive normal number; elementary.c says how. */
static inline float sgm_log_normal_inline(float x, int32_t n) {
    /* Taking away the bits of sqrt(1/2) makes the exponent field step where m wraps. */
    const uint32_t root = 0x3F3504F3u;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits -= root;
    n += (int32_t)bits >> 23;
    bits = (bits & 0x007FFFFFu) + root;
    float m;
    memcpy(&m, &bits, sizeof m);
    float f = m - 1.0F, s = f / (2.0F + f), q = s * s;
    float p = 2.0F / 11.0F; /* remainder s^12 · 2/13 < 1e-10 */
    p = p * q + 2.0F / 9.0F;
    p = p * q + 2.0F / 7.0F;
    p = p * q + 2.0F / 5.0F;
    p = p * q + 2.0F / 3.0F;
    float R = p * q, whole = (float)n;
    return whole * SGM_LN2_HI_F - ((s * (f - R) - whole * SGM_LN2_LO_F) - f);
}

#define SGM_LN2_HI 0x1.62e42feep-1 /* 32 bits */
#define SGM_LN2_LO 0x1.a39ef35793c76p-33
#define SGM_ROUND_64 0x1.8p+52

static inline double sgm_exp2_bits_64(int64_t n) {
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double sgm_exp64_inline(double x) {
    x = x > 720.0 ? 720.0 : x;
    x = x < -760.0 ? -760.0 : x;
    double shifted = x * 0x1.71547652b82fep+0 + SGM_ROUND_64;
    double whole = shifted - SGM_ROUND_64;
    int64_t n;
    memcpy(&n, &shifted, sizeof n);
    n = (int64_t)((uint64_t)n << 48) >> 48;
    double r = (x - whole * SGM_LN2_HI) - whole * SGM_LN2_LO;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = (p * r * r + r) + 1.0;
    int64_t half = n >> 1;
    return p * sgm_exp2_bits_64(half) * sgm_exp2_bits_64(n - half);
}

static inline sgm_real sgm_exp_inline(sgm_real x) {
#ifdef SGM_REAL_IS_DOUBLE
    return sgm_exp64_inline(x);
#else
    return sgm_expf_inline(x);
#endif
}

#endif
