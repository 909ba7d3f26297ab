// SPDX-License-Identifier: Apache-2.0
/* What portable C reaches, with the instructions every processor of the architecture has. */
#include "kernel/peak.h"
#include "kernel/peak_read.h"

#define CHAINS 32

static int64_t multiply_add(int64_t rounds, sgm_real *sink) {
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

/* Four products a sum, which cancel; the barrier keeps them from being multiplied once and for all. */
static int64_t integer_dot(int64_t rounds, sgm_real *sink) {
    int8_t a[4 * CHAINS], b[4 * CHAINS];
    int32_t sum[CHAINS];
    for (int j = 0; j < 4 * CHAINS; j++)
        a[j] = 3, b[j] = j % 2 ? -5 : 5;
    for (int j = 0; j < CHAINS; j++)
        sum[j] = 1;
    for (int64_t i = 0; i < rounds; i++) {
        __asm__ volatile("" : "+m"(a), "+m"(b));
        for (int j = 0; j < CHAINS; j++)
            for (int p = 0; p < 4; p++)
                sum[j] += a[4 * j + p] * b[4 * j + p];
    }
    *sink = 0;
    for (int j = 0; j < CHAINS; j++)
        *sink += (sgm_real)sum[j];
    return rounds * CHAINS * 8;
}

const sgm_peaks sgm_peaks_ref = {.f32 = multiply_add, .int8 = integer_dot, .read = peak_read};
