// SPDX-License-Identifier: Apache-2.0
/* The block layouts of the quantised types, byte for byte GGUF's (source: its published format), for those who pack them and
 * for the kernels that multiply with them. Everything is bytes: blocks lie at any address. `d` and `dmin` are f16, little-endian.
 *
 * element i of a block, with n = low nibbles first where two elements share a byte:
 *   q8_0   d · q[i]
 *   q4_0   d · (nibble − 8)          element i < 16: low nibble of q[i]; i ≥ 16: high nibble of q[i − 16]
 *   q5_0   d · (nibble + 16·h − 16)  nibbles as q4_0; h: bit i of the little-endian 32-bit word `high`
 *   q4_k   d · sc · nibble − dmin · m  sub-block j = i / 32 has sc and m (6 bits each); q[32·(j / 2) + i % 32], low for even j
 *   q6_k   d · sc · (low + 16·h − 32)  sc = scale[i / 16]; half = i / 128, r = i % 128: low is a nibble of
 *                                      low[64·half + r % 64], the low one for r < 64; h is 2 bits of high[32·half + r % 32]
 *                                      at bit 2·(r / 32)
 */
#ifndef SGM_QUANT_BLOCKS_H
#define SGM_QUANT_BLOCKS_H

#include <stdint.h>

#include "base/half.h"

typedef struct sgm_q8_0_block {
    uint8_t d[2];
    int8_t q[32];
} sgm_q8_0_block;

typedef struct sgm_q4_0_block {
    uint8_t d[2], q[16];
} sgm_q4_0_block;

typedef struct sgm_q5_0_block {
    uint8_t d[2], high[4], q[16];
} sgm_q5_0_block;

typedef struct sgm_q4_k_block {
    uint8_t d[2], dmin[2], scales[12], q[128];
} sgm_q4_k_block;

typedef struct sgm_q6_k_block {
    uint8_t low[128], high[64];
    int8_t scale[16];
    uint8_t d[2];
} sgm_q6_k_block;

_Static_assert(sizeof(sgm_q8_0_block) == 34 && sizeof(sgm_q4_0_block) == 18 && sizeof(sgm_q5_0_block) == 22 &&
                   sizeof(sgm_q4_k_block) == 144 && sizeof(sgm_q6_k_block) == 210,
               "blocks have no padding");

static inline float sgm_block_f16(const uint8_t *at) {
    return sgm_f16_widen((uint16_t)(at[0] | at[1] << 8));
}

/* Scale and minimum of sub-block j < 8 of a q4_k block, 0 … 63. Bytes 0–3 hold the scales and 4–7 the minima of sub-blocks
 * 0–3 in their lower 6 bits; bytes 8–11 hold the lower 4 bits of sub-blocks 4–7 (scale low, minimum high nibble), whose
 * upper 2 bits are the upper bits of bytes 0–3 and 4–7. */
static inline void sgm_q4_k_scale(const uint8_t *scales /* (12) */, int j, int32_t *scale, int32_t *minimum) {
    if (j < 4) {
        *scale = scales[j] & 63;
        *minimum = scales[j + 4] & 63;
    } else {
        *scale = (scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4;
        *minimum = (scales[j + 4] >> 4) | (scales[j] >> 6) << 4;
    }
}

/* The integers of 32 elements, as signed bytes. `j`: which 32 of the block. */
static inline void sgm_q4_0_integers(const sgm_q4_0_block *block, int8_t *out) {
    for (int i = 0; i < 16; i++) {
        out[i] = (int8_t)((block->q[i] & 15) - 8);
        out[i + 16] = (int8_t)((block->q[i] >> 4) - 8);
    }
}

static inline void sgm_q5_0_integers(const sgm_q5_0_block *block, int8_t *out) {
    for (int i = 0; i < 16; i++) {
        int low = block->high[i / 8] >> (i % 8) & 1, high = block->high[2 + i / 8] >> (i % 8) & 1;
        out[i] = (int8_t)(((block->q[i] & 15) | low << 4) - 16);
        out[i + 16] = (int8_t)((block->q[i] >> 4 | high << 4) - 16);
    }
}

static inline void sgm_q4_k_integers(const sgm_q4_k_block *block, int j, int8_t *out) {
    const uint8_t *q = block->q + 32 * (j / 2);
    int shift = j % 2 * 4;
    for (int i = 0; i < 32; i++)
        out[i] = (int8_t)(q[i] >> shift & 15);
}

static inline void sgm_q6_k_integers(const sgm_q6_k_block *block, int j, int8_t *out) {
    int half = j / 4, r = j % 4;
    const uint8_t *low = block->low + 64 * half + 32 * (r % 2), *high = block->high + 32 * half;
    for (int i = 0; i < 32; i++)
        out[i] = (int8_t)(((low[i] >> (r / 2 * 4) & 15) | (high[i] >> (2 * r) & 3) << 4) - 32);
}

#endif
