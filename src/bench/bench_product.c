// SPDX-License-Identifier: Apache-2.0
/* A matrix product by itself, on every thread at once. The weights of a thread are many matrices in turn, 64 MiB of them
 * in all, because an expert's weights come from memory too. */
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/team.h"
#include "bench/bench.h"
#include "kernel/kernels.h"
#include "quant/quant.h"
#include "sigmoe/machine.h"

#define POOL_BYTES ((size_t)64 << 20) /* of weights, all threads together */
#define SAMPLE_SECONDS 0.02

typedef struct product {
    const sgm_bench_product *asked;
    const sgm_kernels *kernels;
    const sgm_quant *quant;
    size_t stride, matrix_bytes; /* of a row of W, of W */
    int64_t copies;              /* of W for each thread */
    sgm_team *team;
    float *x, *y;                 /* (threads, rows, K), (threads, rows, N) */
    char *weights;                /* (threads, copies, matrix_bytes) */
    sgm_activations *activations; /* (threads) */
    int64_t calls, next;          /* of a sample; which copy it begins with */
} product;

static void one_call(const product *p, int thread, int64_t copy) {
    const sgm_bench_product *a = p->asked;
    const float *x = p->x + thread * a->rows * a->K;
    float *y = p->y + thread * a->rows * a->N;
    const void *w = p->weights + (size_t)(thread * p->copies + copy) * p->matrix_bytes;
    if (a->bf16)
        p->kernels->matmul_nt_bf16(a->rows, a->N, a->K, x, a->K, w, a->K, y, a->N, false);
    else if (p->quant->type == SGM_TYPE_F32)
        p->kernels->matmul_nt(a->rows, a->N, a->K, x, a->K, w, a->K, y, a->N, false);
    else
        p->kernels->matmul_typed(a->rows, a->N, a->K, &p->activations[thread], p->quant->type, w, p->stride, y, a->N,
                                 false);
}

static void calls_on_team(sgm_worker *worker, void *argument) {
    const product *p = argument;
    for (int64_t i = 0; i < p->calls; i++)
        one_call(p, worker->thread, (p->next + i) % p->copies);
}

static double time_calls(product *p) {
    double begin = sgm_bench_now();
    sgm_team_run(p->team, calls_on_team, p);
    p->next = (p->next + p->calls) % p->copies;
    return sgm_bench_now() - begin;
}

/* Sample 0 also finds out how many calls take long enough to be timed. */
static sgm_status sample(void *context, uint64_t number, double *seconds, sgm_error *error) {
    product *p = context;
    (void)error;
    for (int64_t i = 0; number == 0 && i < 40 && time_calls(p) < SAMPLE_SECONDS; i++)
        p->calls *= 2;
    *seconds = time_calls(p) / (double)p->calls;
    return SGM_OK;
}

static void fill(uint64_t seed, const char *what, size_t count, float *x) {
    sgm_rng rng = sgm_rng_at(seed, sgm_rng_stream(what, 0), 0);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(sgm_rng_uniform(&rng) - 0.5);
}

/* One random W, packed, then copies of it. */
static sgm_status fill_weights(product *p, uint64_t seed, sgm_error *error) {
    const sgm_bench_product *a = p->asked;
    float *row = sgm_alloc((size_t)a->K * sizeof *row);
    if (!row)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a row of weights");
    fill(seed, "bench weights", (size_t)a->K, row);
    for (int64_t n = 0; n < a->N; n++) {
        row[n % a->K] = -row[n % a->K]; /* no two rows are the same */
        p->quant->pack(a->K, row, p->weights + (size_t)n * p->stride);
    }
    sgm_free(row);
    for (int64_t c = 1; c < a->threads * p->copies; c++)
        memcpy(p->weights + (size_t)c * p->matrix_bytes, p->weights, p->matrix_bytes);
    return SGM_OK;
}

static sgm_status fill_activations(product *p, uint64_t seed, sgm_error *error) {
    const sgm_bench_product *a = p->asked;
    size_t row = (size_t)a->K, rows = (size_t)a->rows, threads = (size_t)a->threads, blocks = (row + 31) / 32;
    fill(seed, "bench activations", threads * rows * row, p->x);
    for (size_t t = 0; t < threads; t++) {
        sgm_activations *to = &p->activations[t];
        *to = (sgm_activations){.x = p->x + t * rows * row, .ldx = a->K};
        if (!p->quant->integer)
            continue;
        to->q = sgm_alloc(rows * row);
        to->scale = sgm_alloc(rows * blocks * sizeof *to->scale);
        to->sum = sgm_alloc(rows * blocks * sizeof *to->sum);
        if (!to->q || !to->scale || !to->sum)
            return sgm_fail(error, SGM_EMEMORY, "measure fewer rows", "no memory for the activations");
        p->kernels->quantise(a->rows, a->K, to->x, a->K, to);
    }
    return SGM_OK;
}

static sgm_status check(product *p, sgm_error *error) {
    const sgm_bench_product *a = p->asked;
    if (a->threads < 1 || a->threads > SGM_THREADS_MOST || a->rows < 1 || a->N < 1 || a->K < 1 || a->rows > 1 << 20 ||
        a->N > 1 << 24 || a->K > 1 << 20)
        return sgm_fail(error, SGM_EARGUMENT, "give sizes of 1 and more", "this product cannot be measured");
    p->quant = sgm_quant_find(a->type);
    if (!p->quant)
        return sgm_fail(error, SGM_EARGUMENT, "`sigmoe list type` has them", "there is no type of weights \"%s\"",
                        a->type);
    p->quant = sgm_quant_of(sgm_quant_for_row(p->quant->type, a->K));
    if (a->bf16 && p->quant->type != SGM_TYPE_F32)
        return sgm_fail(error, SGM_EARGUMENT, "take type f32", "bf16 arithmetic is measured on weights in f32");
    return sgm_kernels_get(a->kernels, &p->kernels, error);
}

static sgm_status allocate(product *p, sgm_error *error) {
    const sgm_bench_product *a = p->asked;
    size_t threads = (size_t)a->threads, rows = (size_t)a->rows;
    p->stride = sgm_quant_row_bytes(p->quant->type, a->K);
    p->matrix_bytes = p->stride * (size_t)a->N;
    p->copies = (int64_t)(POOL_BYTES / threads / p->matrix_bytes);
    p->copies = p->copies < 1 ? 1 : p->copies;
    p->calls = 1;
    size_t bytes = p->matrix_bytes * (size_t)p->copies * threads;
    size_t operands = threads * rows * ((size_t)a->K + (size_t)a->N) * sizeof(float);
    sgm_status status = sgm_memory_check(bytes + operands, "a measured product", error);
    if (status)
        return status;
    p->weights = sgm_alloc(bytes);
    p->x = sgm_alloc(threads * rows * (size_t)a->K * sizeof *p->x);
    p->y = sgm_alloc(threads * rows * (size_t)a->N * sizeof *p->y);
    p->activations = sgm_alloc(threads * sizeof *p->activations);
    if (!p->weights || !p->x || !p->y || !p->activations)
        return sgm_fail(error, SGM_EMEMORY, "measure fewer rows", "no memory for the measurement");
    return sgm_team_new(a->threads, &p->team, error);
}

static void release(product *p) {
    sgm_team_free(p->team);
    for (int t = 0; p->activations && t < p->asked->threads; t++) {
        sgm_free(p->activations[t].q);
        sgm_free(p->activations[t].scale);
        sgm_free(p->activations[t].sum);
    }
    sgm_free(p->activations);
    sgm_free(p->weights);
    sgm_free(p->x);
    sgm_free(p->y);
}

sgm_status sgm_bench_product_run(const sgm_bench_product *asked, const sgm_bench_options *options,
                                 sgm_bench_result *result, sgm_error *error) {
    product p = {.asked = asked};
    *result = (sgm_bench_result){0};
    sgm_status status = check(&p, error);
    if (!status)
        status = allocate(&p, error);
    if (!status)
        status = fill_weights(&p, options->seed, error);
    if (!status)
        status = fill_activations(&p, options->seed, error);
    if (!status)
        status = sgm_bench_samples(sample, &p, options, result, error);
    result->tokens = asked->rows;
    result->type = p.quant ? p.quant->name : NULL;
    if (p.quant)
        result->arithmetic = asked->bf16 ? "bf16" : sgm_bench_arithmetic(p.quant->type);
    result->flops = 2 * (double)asked->threads * (double)asked->rows * (double)asked->N * (double)asked->K;
    result->weight_bytes = (double)asked->threads * (double)p.matrix_bytes;
    release(&p);
    return status;
}
