// SPDX-License-Identifier: Apache-2.0
/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11) from Random123.
 *
 * The n-th number of a stream is a pure function of (seed, stream, n): any thread can compute any of them, and resuming
 * means storing one integer. Streams are named by a 64-bit value, usually sgm_rng_stream("what", index). */
#ifndef SGM_BASE_RNG_H
#define SGM_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct sgm_rng {
    uint64_t seed, stream;
    uint64_t counter; /* numbers drawn so far; the whole state */
} sgm_rng;

uint64_t sgm_rng_stream(const char *what, uint64_t index); /* stable hash; the same on every machine */
sgm_rng sgm_rng_at(uint64_t seed, uint64_t stream, uint64_t counter);

uint32_t sgm_rng_u32(sgm_rng *rng);
double sgm_rng_uniform(sgm_rng *rng);                 /* [0, 1), 53 bits; advances by 2 */
uint64_t sgm_rng_below(sgm_rng *rng, uint64_t bound); /* [0, bound), bound >= 1; advances by 2 */

/* Standard normal deviate number `index` of (seed, stream): no state, thread-independent (Box–Muller on one block;
 * own log/cos, so that every compiler gives the same bytes). */
double sgm_rng_normal_at(uint64_t seed, uint64_t stream, uint64_t index);
/* Numbers first … first + count - 1 of the same: two for the price of one. */
void sgm_rng_normals(uint64_t seed, uint64_t stream, uint64_t first, size_t count, double *out);

#endif
