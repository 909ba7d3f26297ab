// SPDX-License-Identifier: Apache-2.0
/* Multiply-add peak of portable C. */
#include "kernel/peak.h"

#define CHAINS 32

int64_t sgm_peak_ref(int64_t rounds, sgm_real *sink) {
    sgm_real sum[CHAINS];
    for (int j = 0; j < CHAINS; j++)
        sum[j] = (sgm_real)(j + 2);                        /* not 1: a compiler may see that it stays */
    const sgm_real a = (sgm_real)0.75, b = (sgm_real)0.25; /* converges to 1: no denormals, no overflow */
    for (int64_t i = 0; i < rounds; i++)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = sum[j] * a + b;
    *sink = 0;
    for (int j = 0; j < CHAINS; j++)
        *sink += sum[j];
    return rounds * CHAINS * 2;
}
