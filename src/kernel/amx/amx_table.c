// SPDX-License-Identifier: Apache-2.0
/* The table for AMX: f32 and integers as in the table before it, products in bf16 by tiles. This file is compiled with the
 * flags of its instruction set, so nothing in it may run before `usable` (compiled without them) said yes. */
#include "base/half.h"
#include "kernel/cpu.h"
#include "kernel/kernels.h"
#include "kernel/peak.h"
#include "kernel/ref/ref.h"

#include "kernel/amx/amx_matmul.h"
#include "kernel/amx/amx_tiles.h"
#include "kernel/avx512/ivec_avx512.h"
#include "kernel/avx512/vec_avx512.h"

#include "kernel/simd/simd_matmul.h"
#include "kernel/simd/simd_vector.h"

#include "kernel/simd/simd_attention.h"

#define MATMUL_STORED_BF16 sgm_amx_matmul_stored
#include "kernel/simd/simd_typed_float.h"
#include "kernel/simd/simd_typed_unpack.h"

#include "kernel/simd/simd_typed.h"

#include "kernel/simd/simd_quantise.h"

typedef __m512i peak_int;
static inline peak_int peak_int_set(int x) {
    return _mm512_set1_epi32(x);
}
static inline vec peak_int_real(peak_int x) {
    return _mm512_cvtepi32_ps(x);
}
static inline peak_int peak_dot_int8(peak_int sum, peak_int a, peak_int b) {
    return _mm512_dpbusd_epi32(sum, a, b);
}

#include "kernel/simd/simd_peak.h"

/* Four tiles of sums of products that cancel. */
static int64_t tile_peak(int64_t rounds, float *sink) {
    _Alignas(64) uint32_t a[TILE * TILE], b[TILE * TILE];
    _Alignas(64) float ones[TILE * TILE], sums[4][TILE * TILE];
    for (int i = 0; i < TILE * TILE; i++) {
        a[i] = 0x40404040;  /* 3, 3 */
        b[i] = 0xC0A040A0u; /* 5, -5 */
        ones[i] = 1;
    }
    TILES_BEGIN();
    TILE_LOAD(0, ones, 64);
    TILE_LOAD(1, ones, 64);
    TILE_LOAD(2, ones, 64);
    TILE_LOAD(3, ones, 64);
    TILE_LOAD(4, a, 64);
    TILE_LOAD(5, a, 64);
    TILE_LOAD(6, b, 64);
    TILE_LOAD(7, b, 64);
    for (int64_t i = 0; i < rounds; i++) {
        TILE_DOT_BF16(0, 4, 6);
        TILE_DOT_BF16(1, 4, 7);
        TILE_DOT_BF16(2, 5, 6);
        TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, sums[0], 64);
    TILE_STORE(1, sums[1], 64);
    TILE_STORE(2, sums[2], 64);
    TILE_STORE(3, sums[3], 64);
    TILES_END();
    *sink = 0;
    for (int t = 0; t < 4; t++) /* two of the 256 chains of each tile */
        *sink += sums[t][0] + sums[t][TILE * TILE - 1];
    return rounds * 4 * TILE * TILE * 2 * TILE * 2;
}

const sgm_peaks sgm_peaks_amx = {
    .f32 = multiply_add_peak, .bf16 = tile_peak, .int8 = integer_dot_peak, .read = peak_read};

extern const sgm_kernels sgm_kernels_amx;
const sgm_kernels sgm_kernels_amx = {
    .name = "amx",
    .summary = "AMX beside AVX-512: as avx512_bf16, and bf16 products in tiles",
    .usable = sgm_cpu_has_amx,
    .bf16_group = 32,
    SIMD_ENTRIES,
    SIMD_ATTENTION_ENTRIES,
    SIMD_TYPED_ENTRIES,
    .matmul_nt_bf16 = sgm_amx_matmul_nt,
    .matmul_nn_bf16 = sgm_amx_matmul_nn,
    .matmul_tn_bf16 = sgm_amx_matmul_tn,
    .matmul_nt_rounded = sgm_amx_matmul_nt_rounded,
    .matmul_nn_rounded = sgm_amx_matmul_nn_rounded,
    .bf16_round = sgm_amx_bf16_round,
    .matmul_nt_bf16x6 = sgm_amx_matmul_nt_x6,
    .matmul_nn_bf16x6 = sgm_amx_matmul_nn_x6,
    .matmul_tn_bf16x6 = sgm_amx_matmul_tn_x6,
};
