// SPDX-License-Identifier: Apache-2.0
/* Peaks at any vector width; included after vec_<table>.h, simd_matmul.h and the table's peak_int, a vector of 32-bit integers,
 * with its three functions. Twelve chains cover the latency of two units and fit AVX2's 16 registers. */
#include "kernel/peak_read.h"

#define CHAINS 12
#define INTEGER_CHAINS 8 /* AVX2 takes three more registers to add one product */

static float sum_of_chains(vec *sum, const int chains) {
    for (int j = 1; j < chains; j++)
        sum[0] = v_add(sum[0], sum[j]);
    float lanes[WIDTH];
    v_store(lanes, sum[0]);
    return lanes[0];
}

static int64_t multiply_add_peak(int64_t rounds, float *sink) {
    vec sum[CHAINS];
    UNROLL
    for (int j = 0; j < CHAINS; j++)
        sum[j] = v_set((float)(j + 2));           /* not 1: a compiler may see that it stays */
    const vec a = v_set(0.75F), b = v_set(0.25F); /* converges to 1: no denormals, no overflow */
    for (int64_t i = 0; i < rounds; i++)
        UNROLL
    for (int j = 0; j < CHAINS; j++)
        sum[j] = v_fma(sum[j], a, b);
    *sink = sum_of_chains(sum, CHAINS);
    return rounds * CHAINS * WIDTH * 2;
}

/* sum += the dot products of four 8-bit integers a lane, which cancel. The barrier keeps its
 * invariant parts in the loop. */
static int64_t integer_dot_peak(int64_t rounds, float *sink) {
    peak_int sum[INTEGER_CHAINS], a = peak_int_set(0x03030303), b = peak_int_set(0x05FB05FB);
    UNROLL
    for (int j = 0; j < INTEGER_CHAINS; j++)
        sum[j] = peak_int_set(1);
    for (int64_t i = 0; i < rounds; i++)
        UNROLL
    for (int j = 0; j < INTEGER_CHAINS; j++) {
        __asm__ volatile("" : "+v"(a));
        sum[j] = peak_dot_int8(sum[j], a, b);
    }
    vec real[INTEGER_CHAINS];
    UNROLL
    for (int j = 0; j < INTEGER_CHAINS; j++)
        real[j] = peak_int_real(sum[j]);
    *sink = sum_of_chains(real, INTEGER_CHAINS);
    return rounds * INTEGER_CHAINS * WIDTH * 8;
}
