// SPDX-License-Identifier: Apache-2.0
/* Speed of every kernel of every table that runs here, on one thread: `bench_kernels [table [kernel]]`.
 *
 * Matrix products in GFLOP/s and as a share of the peak of the best table (multiply-adds in f32, dot products in bf16),
 * measured in the same run; the rest in GB/s of what must move (each operand read once, each result written once). Median of five samples of at least
 * 20 ms of processor time, smallest and largest beside it. Shapes are those of the nano and micro presets. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "kernel/peak.h"

#define SAMPLES 5
#define SAMPLE_SECONDS 0.02
#define FLOATS ((int64_t)1 << 22) /* per array */

typedef struct job {
    const sgm_kernels *k;
    int64_t M, N, K; /* vectors: N elements in M rows */
    float *a, *b, *c, *d;
    volatile double sink;
} job;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* others may use the machine too */
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one call: samples in ascending order. */
static void time_call(void (*call)(job *), job *j, double sample[SAMPLES]) {
    int64_t times = 1;
    for (int warm = 0; warm < 30; warm++) {
        double begin = seconds_now();
        for (int64_t i = 0; i < times; i++)
            call(j);
        if (seconds_now() - begin >= SAMPLE_SECONDS)
            break;
        times *= 2;
    }
    for (int s = 0; s < SAMPLES; s++) {
        double begin = seconds_now();
        for (int64_t i = 0; i < times; i++)
            call(j);
        sample[s] = (seconds_now() - begin) / (double)times;
    }
    qsort(sample, SAMPLES, sizeof *sample, ascending);
}

static void nt(job *j) {
    j->k->matmul_nt(j->M, j->N, j->K, j->a, j->K, j->b, j->K, j->c, j->N, false);
}
static void nn(job *j) {
    j->k->matmul_nn(j->M, j->N, j->K, j->a, j->K, j->b, j->N, j->c, j->N, false);
}
static void tn(job *j) {
    j->k->matmul_tn(j->M, j->N, j->K, j->a, j->M, j->b, j->N, j->c, j->N, false);
}
static void nt_bf16(job *j) {
    j->k->matmul_nt_bf16(j->M, j->N, j->K, j->a, j->K, j->b, j->K, j->c, j->N, false);
}
static void nn_bf16(job *j) {
    j->k->matmul_nn_bf16(j->M, j->N, j->K, j->a, j->K, j->b, j->N, j->c, j->N, false);
}
static void tn_bf16(job *j) {
    j->k->matmul_tn_bf16(j->M, j->N, j->K, j->a, j->M, j->b, j->N, j->c, j->N, false);
}
static void nt_bf16x6(job *j) {
    j->k->matmul_nt_bf16x6(j->M, j->N, j->K, j->a, j->K, j->b, j->K, j->c, j->N, false);
}
static void nn_bf16x6(job *j) {
    j->k->matmul_nn_bf16x6(j->M, j->N, j->K, j->a, j->K, j->b, j->N, j->c, j->N, false);
}
static void tn_bf16x6(job *j) {
    j->k->matmul_tn_bf16x6(j->M, j->N, j->K, j->a, j->M, j->b, j->N, j->c, j->N, false);
}
static void rms_norm(job *j) {
    j->k->rms_norm(j->M, j->N, j->a, j->N, j->b, 1e-6, j->c, j->N, j->d);
}
static void rms_norm_backward(job *j) {
    j->k->rms_norm_backward(j->M, j->N, j->a, j->N, j->b, j->d, j->a, j->N, j->c, j->N, false);
}
static void rms_norm_gain(job *j) {
    j->k->rms_norm_gain(j->M, j->N, j->a, j->N, j->d, j->b, j->N, j->c);
}
static void softmax(job *j) {
    j->k->softmax(j->M, j->N, j->a, j->N, j->c, j->N);
}
static void largest(job *j) {
    for (int64_t i = 0; i < j->M; i++)
        j->sink = (double)j->k->max(j->N, j->a + i * j->N);
}
static void exp_sum(job *j) {
    for (int64_t i = 0; i < j->M; i++)
        j->sink = (double)j->k->exp_sum(j->N, j->a + i * j->N, 1, 0.5F, j->c + i * j->N);
}
static void swiglu(job *j) {
    j->k->swiglu(j->M * j->N, j->a, j->b, j->c);
}
static void swiglu_backward(job *j) {
    j->k->swiglu_backward(j->M * j->N, j->a, j->b, j->a, j->c, j->d);
}
static void dot(job *j) {
    for (int64_t i = 0; i < j->M; i++)
        j->sink = (double)j->k->dot(j->N, j->a + i * j->N, j->b + i * j->N);
}
static void axpy(job *j) {
    for (int64_t i = 0; i < j->M; i++)
        j->k->axpy(j->N, 1e-9F, j->a + i * j->N, j->c + i * j->N);
}
static void scale(job *j) {
    j->k->scale(j->M * j->N, 1.5F, j->a, j->c);
}
static void sum_squares(job *j) {
    j->sink = j->k->sum_squares(j->M * j->N, j->a);
}
static void adamw(job *j) {
    static const sgm_adamw_step step = {.learning_rate = 1e-9,
                                        .beta1 = 0.9,
                                        .beta2 = 0.95,
                                        .epsilon = 1e-8,
                                        .correction1 = 1,
                                        .correction2 = 1,
                                        .gradient_scale = 1};
    j->k->adamw(j->M * j->N, &step, j->a, j->b, j->c, j->d);
}

enum { F32 = 0, BF16 = -1 };
static const struct {
    const char *name;
    void (*call)(job *);
    int moves; /* floats read or written for each of the M·N elements; F32, BF16: a matrix product */
} kernels[] = {
    {"matmul_nt", nt, F32},
    {"matmul_nn", nn, F32},
    {"matmul_tn", tn, F32},
    {"matmul_nt_bf16", nt_bf16, BF16},
    {"matmul_nn_bf16", nn_bf16, BF16},
    {"matmul_tn_bf16", tn_bf16, BF16},
    {"matmul_nt_bf16x6", nt_bf16x6, F32}, /* beside f32, in whose place they stand */
    {"matmul_nn_bf16x6", nn_bf16x6, F32},
    {"matmul_tn_bf16x6", tn_bf16x6, F32},
    {"rms_norm", rms_norm, 2},
    {"rms_norm_backward", rms_norm_backward, 3},
    {"rms_norm_gain", rms_norm_gain, 2},
    {"softmax", softmax, 2},
    {"max", largest, 1},
    {"exp_sum", exp_sum, 2},
    {"swiglu", swiglu, 3},
    {"swiglu_backward", swiglu_backward, 5},
    {"dot", dot, 2},
    {"axpy", axpy, 3},
    {"scale", scale, 2},
    {"sum_squares", sum_squares, 1},
    {"adamw", adamw, 7},
};

/* Rows, then an expert's two matrices in nano and in micro; the dense ones of both. */
static const int64_t products[][3] = {
    {1, 96, 192},     {5, 96, 192},    {16, 96, 192},   {43, 96, 192},  {85, 96, 192},  {500, 96, 192},
    {1, 192, 96},     {5, 192, 96},    {16, 192, 96},   {43, 192, 96},  {85, 192, 96},  {500, 192, 96},
    {1, 256, 512},    {5, 256, 512},   {16, 256, 512},  {43, 256, 512}, {85, 256, 512}, {500, 256, 512},
    {1, 512, 256},    {5, 512, 256},   {16, 512, 256},  {43, 512, 256}, {85, 512, 256}, {500, 512, 256},
    {64, 64, 32},     {64, 32, 64},    {1, 192, 192},   {1, 512, 512},  {1, 4096, 192}, {256, 4096, 192},
    {4096, 192, 192}, {4096, 64, 192}, {512, 512, 512}, {192, 96, 85},  {512, 256, 85}, {192, 192, 4096},
};
static const int64_t vectors[][2] = {{64, 64}, {43, 96}, {64, 192}, {64, 512}, {1, 4096}, {1024, 4096}};

static void run(const sgm_kernels *k, const char *only, const double peak[2], float *const array[4]) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (only && strcmp(only, kernels[i].name) != 0)
            continue;
        const bool product = kernels[i].moves <= 0;
        const size_t shapes = product ? sizeof products / sizeof *products : sizeof vectors / sizeof *vectors;
        for (size_t s = 0; s < shapes; s++) {
            job j = {.k = k, .a = array[0], .b = array[1], .c = array[2], .d = array[3]};
            char shape[64];
            double amount, sample[SAMPLES];
            if (product) {
                j.M = products[s][0], j.N = products[s][1], j.K = products[s][2];
                amount = 2e-9 * (double)(j.M * j.N * j.K);
                snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)j.M, (long long)j.N, (long long)j.K);
            } else {
                j.M = vectors[s][0], j.N = vectors[s][1];
                amount = 4e-9 * (double)(j.M * j.N * kernels[i].moves);
                snprintf(shape, sizeof shape, "%lldx%lld", (long long)j.M, (long long)j.N);
            }
            for (int64_t f = 0; f < FLOATS; f++) { /* what one kernel leaves must not slow the next */
                array[0][f] = (float)(f % 2003) / 1001 - 1;
                array[1][f] = (float)(f % 1999) / 999 - 1;
                array[2][f] = array[3][f] = 0.5F;
            }
            time_call(kernels[i].call, &j, sample);
            printf("%-11s %-18s %-14s %8.1f %8.1f %8.1f  %s", k->name, kernels[i].name, shape,
                   amount / sample[SAMPLES - 1], amount / sample[SAMPLES / 2], amount / sample[0],
                   product ? "GFLOP/s" : "GB/s");
            if (product)
                printf(" %5.1f %% of peak", 100e9 * amount / sample[SAMPLES / 2] / peak[kernels[i].moves == BF16]);
            printf("\n");
            fflush(stdout);
        }
    }
}

/* The best of several samples: a neighbour only ever makes one smaller. */
static double rate(sgm_peak_function *function) {
    double best = 0;
    for (int sample = 0; sample < 2 * SAMPLES; sample++) {
        sgm_real sink;
        double begin = seconds_now();
        int64_t done = function(1000000, &sink);
        double now = (double)done / (seconds_now() - begin);
        best = now > best ? now : best;
    }
    return best;
}

int main(int count, char **arguments) {
    const char *table = count > 1 && strcmp(arguments[1], "all") != 0 ? arguments[1] : NULL;
    const char *only = count > 2 ? arguments[2] : NULL;
    const sgm_kernels *best, *wanted;
    sgm_error error;
    if (sgm_kernels_get("auto", &best, &error) != SGM_OK ||
        (table && sgm_kernels_get(table, &wanted, &error) != SGM_OK)) {
        fprintf(stderr, "error: %s\nhint: %s\n", error.message, error.hint);
        return 2;
    }
    float *array[4];
    for (int i = 0; i < 4; i++) {
        array[i] = sgm_alloc((size_t)FLOATS * sizeof(float));
        if (!array[i]) {
            fprintf(stderr, "error: not enough memory for the arrays\n");
            return 1;
        }
    }
    const sgm_peaks *peaks = sgm_peaks_of(best);
    const double peak[2] = {rate(peaks->f32), rate(peaks->bf16 ? peaks->bf16 : peaks->f32)};
    printf("peaks of '%s', one thread: %.1f GFLOP/s in f32, %.1f in bf16\n", best->name, peak[0] * 1e-9,
           peak[1] * 1e-9);
    printf("%-11s %-18s %-14s %8s %8s %8s\n", "table", "kernel", "shape", "min", "median", "max");
    const sgm_kernels *k;
    for (size_t i = 0; (k = sgm_kernels_at(i)) != NULL; i++)
        if (k->usable() && (!table || strcmp(table, k->name) == 0))
            run(k, only, peak, array);
    for (int i = 0; i < 4; i++)
        sgm_free(array[i]);
    return 0;
}
