// SPDX-License-Identifier: Apache-2.0
/* Elementary functions of our own, so that gcc, clang and every libc give the same bytes. The reference kernels, the
 * random normal deviates and the RoPE tables use nothing else. Relative error below 2 ulp of the type's own precision. */
#ifndef SGM_BASE_ELEMENTARY_H
#define SGM_BASE_ELEMENTARY_H

#include "base/real.h"

/* exp(-inf) = 0, overflow to inf, NaN stays; log(0) = -inf, log of a negative number is NaN. */
float sgm_expf(float x);
double sgm_exp64(double x);
float sgm_logf(float x);
double sgm_log64(double x);
void sgm_sincos(double x, double *sine, double *cosine); /* |x| < 1e9 */

/* In the library's element type. */
static inline sgm_real sgm_exp(sgm_real x) {
#ifdef SGM_REAL_IS_DOUBLE
    return sgm_exp64(x);
#else
    return sgm_expf(x);
#endif
}
static inline sgm_real sgm_log(sgm_real x) {
#ifdef SGM_REAL_IS_DOUBLE
    return sgm_log64(x);
#else
    return sgm_logf(x);
#endif
}

#endif
