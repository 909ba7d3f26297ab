// SPDX-License-Identifier: Apache-2.0
/* exp, log, sine and cosine from additions, multiplications and the bits of a float; no libm, so every compiler and
 * libc gives the same bytes (the build sets -ffp-contract=off). The polynomials are plain series: their remainders are
 * named where they end.
 *
 * log: x = 2^n m with m in [sqrt 1/2, sqrt 2); with f = m - 1 and s = f / (2 + f),
 * log m = 2 atanh s = f - s (f - R), R = s² (2/3 + 2/5 s² + 2/7 s⁴ + …), which loses nothing for m near 1.
 * sincos: r = x - n pi/2 with pi/2 in four parts (22 bits each, so the first three products are exact) and the
 * rounding error of r carried along as a second number. */
#include "base/elementary.h"

#include <stdint.h>
#include <string.h>

#include "base/elementary_inline.h"

float sgm_expf(float x) {
    return sgm_expf_inline(x);
}

double sgm_exp64(double x) {
    return sgm_exp64_inline(x);
}

/* Infinities and NaN without <math.h>'s macros: log's special cases. */
static double log_special(double x) {
    if (x == 0.0)
        return -1.0 / (x * x); /* +0 and -0 */
    if (x < 0.0) {
        double zero = x - x; /* NaN for -inf already */
        return zero / zero;
    }
    return x; /* +inf, NaN */
}

float sgm_logf(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (bits == 0 || bits >= 0x7F800000u)
        return (float)log_special((double)x);
    int32_t n = 0;
    if (bits < 0x00800000u) { /* denormal: its leading bit moves into place */
        x *= 0x1p25F;
        n = -25;
    }
    return sgm_log_normal_inline(x, n);
}

double sgm_log64(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (bits == 0 || bits >= 0x7FF0000000000000u)
        return log_special(x);
    int64_t n = 0;
    if (bits < 0x0010000000000000u) {
        x *= 0x1p54;
        memcpy(&bits, &x, sizeof bits);
        n = -54;
    }
    const uint64_t root = 0x3FE6A09E667F3BCDu;
    bits -= root;
    n += (int64_t)bits >> 52;
    bits = (bits & 0x000FFFFFFFFFFFFFu) + root;
    double m;
    memcpy(&m, &bits, sizeof m);
    double f = m - 1.0, s = f / (2.0 + f), q = s * s;
    double p = 2.0 / 23.0; /* remainder s^24 · 2/25 < 4e-20 */
    p = p * q + 2.0 / 21.0;
    p = p * q + 2.0 / 19.0;
    p = p * q + 2.0 / 17.0;
    p = p * q + 2.0 / 15.0;
    p = p * q + 2.0 / 13.0;
    p = p * q + 2.0 / 11.0;
    p = p * q + 2.0 / 9.0;
    p = p * q + 2.0 / 7.0;
    p = p * q + 2.0 / 5.0;
    p = p * q + 2.0 / 3.0;
    double R = p * q, whole = (double)n;
    return whole * SGM_LN2_HI - ((s * (f - R) - whole * SGM_LN2_LO) - f);
}

/* sin(r + low) for |r| <= pi/4, to r^17 (remainder below 1e-19); low only to first order. */
static double sine_series(double r, double low) {
    double q = r * r;
    double p = 1.0 / 355687428096000.0;
    p = p * q - 1.0 / 1307674368000.0;
    p = p * q + 1.0 / 6227020800.0;
    p = p * q - 1.0 / 39916800.0;
    p = p * q + 1.0 / 362880.0;
    p = p * q - 1.0 / 5040.0;
    p = p * q + 1.0 / 120.0;
    p = p * q - 1.0 / 6.0;
    return r + (p * q * r + low * (1.0 - 0.5 * q));
}

/* cos(r + low) for |r| <= pi/4, to r^16 (remainder below 3e-18). 1 - q/2 is formed with its rounding error. */
static double cosine_series(double r, double low) {
    double q = r * r;
    double p = 1.0 / 20922789888000.0;
    p = p * q - 1.0 / 87178291200.0;
    p = p * q + 1.0 / 479001600.0;
    p = p * q - 1.0 / 3628800.0;
    p = p * q + 1.0 / 40320.0;
    p = p * q - 1.0 / 720.0;
    p = p * q + 1.0 / 24.0;
    double half = 0.5 * q, top = 1.0 - half;
    return top + (((1.0 - top) - half) + (p * q * q - r * low));
}

void sgm_sincos(double x, double *sine, double *cosine) {
    double whole = (x * 0x1.45f306dc9c883p-1 + SGM_ROUND_64) - SGM_ROUND_64;
    double a = (x - whole * 0x1.921fb0p+0) - whole * 0x1.5110b0p-22; /* both steps exact */
    double b = whole * 0x1.184698p-44;
    double r = a - b, back = a - r; /* r + error is a - b exactly */
    double error = (a - (r + back)) + (back - b);
    error -= whole * 0x1.3198a2e037073p-69;
    double high = r + error, low = (r - high) + error;
    double s = sine_series(high, low), c = cosine_series(high, low);
    double quarter = whole - 4.0 * (((whole * 0.25) + SGM_ROUND_64) - SGM_ROUND_64); /* -2 … 2 */
    if (quarter == 0.0) {
        *sine = s, *cosine = c;
    } else if (quarter == 1.0) {
        *sine = c, *cosine = -s;
    } else if (quarter == -1.0) {
        *sine = -c, *cosine = s;
    } else if (quarter == 2.0 || quarter == -2.0) {
        *sine = -s, *cosine = -c;
    } else { /* NaN or infinite x */
        *sine = *cosine = x - x;
    }
}
