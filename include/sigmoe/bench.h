// SPDX-License-Identifier: Apache-2.0
/* How fast a model is: prefill, decode, training steps, and its matrix products alone (`sigmoe bench`).
 *
 * Each measure warms up once with work of its own size, then takes `repeats` samples, each on other random tokens. The
 * warm-up also counts the distinct experts at work, so that a router that always takes the same expert (whose weights then
 * stay in the cache) is seen as such. Every logit and loss must be finite. */
#ifndef SIGMOE_BENCH_H
#define SIGMOE_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/config.h"
#include "sigmoe/error.h"
#include "sigmoe/session.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum { SGM_BENCH_SAMPLES = 100 }; /* most repeats */

typedef struct sgm_bench_options {
    int64_t repeats;          /* 1 … SGM_BENCH_SAMPLES */
    uint64_t seed;            /* of tokens, and of a model's random weights */
    const volatile int *stop; /* may be NULL; polled: non-zero → SGM_EINTERRUPTED */
} sgm_bench_options;

typedef struct sgm_bench_result {
    int64_t samples, tokens;           /* tokens (of products: rows) in one sample */
    double seconds[SGM_BENCH_SAMPLES]; /* in the order they were taken */
    double flops;                      /* of one sample: its products, 2 per multiply-add */
    double weight_bytes;      /* decode: weights that one token reads, k of E experts; products: of one; else 0 */
    double cache_bytes;       /* decode: keys and values that one token reads on average; else 0 */
    double memory_bytes;      /* training: weights, gradients, moments, activations; else 0 */
    double loss;              /* training: nats per token at the last sample; else 0 */
    int64_t experts_hit;      /* distinct experts at work in a layer, of the layer with the fewest */
    double experts_hit_mean;  /* over layers */
    double experts_per_token; /* mean over layers */
    const char *arithmetic;   /* of its products: "f32", "bf16", "bf16x6" or "int8"; static */
    const char *type;         /* products: how the weights are stored; static */
} sgm_bench_result;

/* Smallest, middle and largest tokens per second of the samples; pointers may be NULL. */
void sgm_bench_rate(const sgm_bench_result *result, double *least, double *median, double *most);

/* `tokens` new tokens behind `depth` others: at once (prefill; in chunks of the engine's batch_tokens), or one by one, each
 * with its logits (decode). Needs depth + tokens positions. Errors: those of sgm_engine_step; SGM_EARGUMENT. */
sgm_status sgm_bench_prefill(sgm_engine *engine, int64_t tokens, int64_t depth, const sgm_bench_options *options,
                             sgm_bench_result *result, sgm_error *error);
sgm_status sgm_bench_decode(sgm_engine *engine, int64_t tokens, int64_t depth, const sgm_bench_options *options,
                            sgm_bench_result *result, sgm_error *error);

/* Whole training steps, optimizer included, of the config's model from fresh weights: data.tokens_per_step random tokens in
 * windows of model.context. SGM_ENUMERIC: a loss or gradient is not finite. */
sgm_status sgm_bench_train(const sgm_config *config, const sgm_bench_options *options, sgm_bench_result *result,
                           sgm_error *error);

/* One kernel: inputs (rows, K) times the transpose of weights (N, K), every thread with matrices of its own, drawn from so
 * many that they come from memory and not from the cache. `type`: how the weights are stored ("f32", "q4_k", …, or what a
 * file falls back to for rows of K); "f32" with `bf16` multiplies in bf16. A sample is many calls; its seconds are those of
 * one, its flops and weight_bytes those of all threads. SGM_EARGUMENT: an unknown type or table, sizes below 1; SGM_EMEMORY. */
typedef struct sgm_bench_product {
    const char *kernels, *type;
    bool bf16;
    int threads;
    int64_t rows, N, K;
} sgm_bench_product;
sgm_status sgm_bench_product_run(const sgm_bench_product *product, const sgm_bench_options *options,
                                 sgm_bench_result *result, sgm_error *error);

/* A model with random weights among the temporary files (TMPDIR, else /tmp): a folder for "f32", a GGUF file for any other
 * type; *model is its path, a heap string (sgm_text_free). Errors: those of sgm_model_init and sgm_model_init_gguf.
 * Removing is safe while an engine has it open; NULL is fine. */
sgm_status sgm_bench_model_new(const sgm_config *config, const char *type, const sgm_bench_options *options,
                               char **model, sgm_error *error);
void sgm_bench_model_remove(const char *model);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
