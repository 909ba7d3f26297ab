// SPDX-License-Identifier: Apache-2.0
/* Activations to 8-bit integers, for any vector width: the operations of sgm_ref_quantise, the same bytes. Included after
 * ivec_<table>.h and simd_typed.h. */

INLINE void quantise_block(const float *x, int8_t *q, float *scale, int32_t *sum) {
    enum { PARTS = 32 / WIDTH };
    const ivec size = iv_set(0x7FFFFFFF);
    vec part[PARTS];
    ivec most = iv_set(0);
    UNROLL
    for (int p = 0; p < PARTS; p++) {
        part[p] = v_load(x + p * WIDTH);
        most =
            iv_max(most, iv_and(iv_of_float_bits(part[p]), size)); /* as bits: without sign they compare like values */
    }
    const float largest = sgm_float_of((uint32_t)iv_largest(most));
    if (!(largest >= 0x1p-100F && largest < INFINITY)) {
        memset(q, 0, 32);
        *scale = largest < 0x1p-100F ? 0 : NAN;
        *sum = 0;
        return;
    }
    const vec inverse = v_set(127 / largest);
    ivec total = iv_set(0);
    UNROLL
    for (int p = 0; p < PARTS; p++) {
        ivec value = iv_nearest(v_mul(part[p], inverse));
        iv_store_bytes(q + p * WIDTH, value);
        total = iv_add(total, value);
    }
    *scale = largest / 127;
    *sum = iv_total(total);
}

static void quantise(int64_t rows, int64_t cols, const float *x, int64_t ldx, const sgm_activations *a) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t b = 0; b < cols / 32; b++)
            quantise_block(x + i * ldx + 32 * b, a->q + i * cols + 32 * b, &a->scale[i * (cols / 32) + b],
                           &a->sum[i * (cols / 32) + b]);
}

#define SIMD_TYPED_ENTRIES .quantise = quantise, .matmul_typed = matmul_typed
