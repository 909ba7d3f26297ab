// SPDX-License-Identifier: Apache-2.0
/* Multiply-add peak at any vector width; included after vec_<table>.h and simd_matmul.h. Twelve chains cover the
 * latency of two FMA units and fit AVX2's 16 registers. */
#define CHAINS 12

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
    vec all = sum[0];
    UNROLL
    for (int j = 1; j < CHAINS; j++)
        all = v_add(all, sum[j]);
    float lanes[WIDTH];
    v_store(lanes, all);
    *sink = lanes[0];
    return rounds * CHAINS * WIDTH * 2;
}
