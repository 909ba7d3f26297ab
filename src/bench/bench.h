// SPDX-License-Identifier: Apache-2.0
/* What the measures share: the clock, random tokens, the loop over samples. */
#ifndef SGM_BENCH_BENCH_H
#define SGM_BENCH_BENCH_H

#include "routing/routing.h"
#include "sigmoe/bench.h"
#include "tensor/matrix.h"

double sgm_bench_now(void); /* monotonic seconds */

/* `count` tokens below `vocabulary`, a function of (seed, sample, index). */
void sgm_bench_tokens(uint64_t seed, uint64_t sample, int64_t vocabulary, int64_t count, int32_t *tokens);

/* SGM_EINTERRUPTED once the caller has set *options->stop. */
sgm_status sgm_bench_stopped(const sgm_bench_options *options, sgm_error *error);

/* Sample 0 warms up, samples 1 … repeats are kept: `run` does the work of one and says how long it took. */
sgm_status sgm_bench_samples(sgm_status (*run)(void *context, uint64_t number, double *seconds, sgm_error *error),
                             void *context, const sgm_bench_options *options, sgm_bench_result *result,
                             sgm_error *error);

/* Distinct experts of the feed-forward into the result, of the load of all routed sub-layers. */
void sgm_bench_hits(const sgm_load *load, const sgm_model_settings *settings, sgm_bench_result *result);

/* In which numbers products with weights of a type are multiplied (kernels.h). */
const char *sgm_bench_arithmetic(sgm_type type);

#endif
