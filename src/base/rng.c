// SPDX-License-Identifier: Apache-2.0
/* Counter-based random numbers on Philox4x32-10.
 *
 * The key is the seed. The four counter words are the block number (low words) and the stream (high words). Draws of
 * 32 bits take lane n % 4 of block n / 4, so their block numbers stay below 2^62; normal deviates take blocks from 2^63
 * upwards. A stream that is used for both therefore never sees the same block twice. */
#include "base/rng.h"

#include <math.h>
#include <Random123/philox.h>

#include "base/elementary.h"

static philox4x32_ctr_t block_at(uint64_t seed, uint64_t stream, uint64_t block) {
    philox4x32_ctr_t counter = {{(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    return philox4x32(counter, key);
}

/* 53 of 64 bits as a number in [0, 1). */
static double unit_interval(uint32_t high, uint32_t low) {
    uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
    return (double)bits * 0x1p-53;
}

/* FNV-1a over the name and the eight bytes of the index, then a finaliser (Stafford's mix 13) that spreads every input
 * bit over the whole word. */
uint64_t sgm_rng_stream(const char *what, uint64_t index) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = what; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    for (int i = 0; i < 8; i++)
        hash = (hash ^ (index >> (8 * i) & 0xff)) * 0x100000001b3u;
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ hash >> 27) * 0x94d049bb133111ebu;
    return hash ^ hash >> 31;
}

sgm_rng sgm_rng_at(uint64_t seed, uint64_t stream, uint64_t counter) {
    return (sgm_rng){.seed = seed, .stream = stream, .counter = counter};
}

uint32_t sgm_rng_u32(sgm_rng *rng) {
    uint64_t n = rng->counter++;
    return block_at(rng->seed, rng->stream, n / 4).v[n % 4];
}

/* Two draws; one block serves both unless they straddle its end. */
static void draw_two(sgm_rng *rng, uint32_t *high, uint32_t *low) {
    if (rng->counter % 4 == 3) {
        *high = sgm_rng_u32(rng);
        *low = sgm_rng_u32(rng);
        return;
    }
    philox4x32_ctr_t block = block_at(rng->seed, rng->stream, rng->counter / 4);
    *high = block.v[rng->counter % 4];
    *low = block.v[rng->counter % 4 + 1];
    rng->counter += 2;
}

double sgm_rng_uniform(sgm_rng *rng) {
    uint32_t high, low;
    draw_two(rng, &high, &low);
    return unit_interval(high, low);
}

/* The upper 64 bits of (64 random bits) x bound. The bias is below bound / 2^64: nothing that we draw from (tokens,
 * documents) can show it, and a fixed number of draws keeps the position a pure function of the count. */
uint64_t sgm_rng_below(sgm_rng *rng, uint64_t bound) {
    uint32_t high, low;
    draw_two(rng, &high, &low);
    uint64_t bound_high = bound >> 32, bound_low = bound & 0xffffffffu;
    uint64_t carry = ((uint64_t)low * bound_low) >> 32;
    uint64_t middle = (uint64_t)high * bound_low + carry;
    uint64_t other = (uint64_t)low * bound_high + (middle & 0xffffffffu);
    return (uint64_t)high * bound_high + (middle >> 32) + (other >> 32);
}

/* Numbers 2 pair and 2 pair + 1. */
static void normal_pair(uint64_t seed, uint64_t stream, uint64_t pair, double *even, double *odd) {
    philox4x32_ctr_t block = block_at(seed, stream, pair | (uint64_t)1 << 63);
    double uniform = unit_interval(block.v[0], block.v[1]) + 0x1p-53; /* (0, 1]: its logarithm is finite */
    double angle = unit_interval(block.v[2], block.v[3]) * 6.283185307179586477;
    double radius = sqrt(-2.0 * sgm_log64(uniform)); /* IEEE sqrt is exactly rounded everywhere */
    double sine, cosine;
    sgm_sincos(angle, &sine, &cosine);
    *even = radius * cosine;
    *odd = radius * sine;
}

double sgm_rng_normal_at(uint64_t seed, uint64_t stream, uint64_t index) {
    double even, odd;
    normal_pair(seed, stream, index >> 1, &even, &odd);
    return index & 1 ? odd : even;
}

void sgm_rng_normals(uint64_t seed, uint64_t stream, uint64_t first, size_t count, double *out) {
    double even, odd;
    size_t i = 0;
    if (count > 0 && first & 1)
        out[i++] = sgm_rng_normal_at(seed, stream, first);
    for (; i < count; i += 2) {
        normal_pair(seed, stream, (first + i) >> 1, &even, &odd);
        out[i] = even;
        if (i + 1 < count)
            out[i + 1] = odd;
    }
}
