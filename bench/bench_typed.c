// SPDX-License-Identifier: Apache-2.0
/* Products with stored weights on one thread: `bench_typed [TABLE [TYPE]]` (default: the best table, every type; `all`).
 *
 * C (M,N) = A (M,K) · B (N,K)ᵀ for the shapes of an expert of width 768 at model width 1536, whose weights fit in a cache,
 * and of a vocabulary, whose weights do not. Per line: GB/s of packed weights, as a share of what one thread reads from
 * memory (shown for the large shape only), and GOP/s (two a product), as a share of the table's peak for that type. Peak
 * and reading are measured beside every shape, in turns with the samples. Median of five samples of at least 20 ms of
 * processor time; smallest and largest beside it. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "kernel/peak.h"
#include "quant/quant.h"

enum { SAMPLES = 5 };
#define SAMPLE_SECONDS 0.02
#define READ_BYTES ((size_t)64 << 20)

typedef struct job {
    const sgm_kernels *k;
    sgm_type type;
    int64_t M, N, K;
    sgm_activations A;
    void *B;
    size_t stride;
    float *C;
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

static double time_product(const job *j, int64_t times) {
    double begin = seconds_now();
    for (int64_t i = 0; i < times; i++)
        j->k->matmul_typed(j->M, j->N, j->K, &j->A, j->type, j->B, j->stride, j->C, j->N, false);
    return (seconds_now() - begin) / (double)times;
}

static double time_peak(sgm_peak_function *peak) { /* operations a second */
    sgm_real sink;
    double begin = seconds_now();
    int64_t done = peak(300000, &sink);
    return (double)done / (seconds_now() - begin);
}

static double time_reading(const sgm_peaks *peaks, const void *memory) {
    double begin = seconds_now();
    volatile uint64_t sum = peaks->read(memory, READ_BYTES);
    (void)sum;
    return (double)READ_BYTES / (seconds_now() - begin);
}

static void measure(job *j, const void *memory) {
    const sgm_peaks *peaks = sgm_peaks_of(j->k);
    sgm_peak_function *peak = sgm_quant_of(j->type)->integer                    ? peaks->int8
                              : j->type == SGM_TYPE_BF16 && peaks->bf16 != NULL ? peaks->bf16
                                                                                : peaks->f32;
    const double operations = 2 * (double)(j->M * j->N * j->K), bytes = (double)j->stride * (double)j->N;
    int64_t times = 1;
    while (time_product(j, times) * (double)times < SAMPLE_SECONDS)
        times *= 2;
    double seconds[SAMPLES], peak_rate[SAMPLES], reading[SAMPLES];
    for (int s = 0; s < SAMPLES; s++) {
        seconds[s] = time_product(j, times);
        peak_rate[s] = time_peak(peak);
        reading[s] = time_reading(peaks, memory);
    }
    qsort(seconds, SAMPLES, sizeof *seconds, ascending);
    qsort(peak_rate, SAMPLES, sizeof *peak_rate, ascending);
    qsort(reading, SAMPLES, sizeof *reading, ascending);
    const double middle = seconds[SAMPLES / 2];
    printf("%-11s %-5s %5lldx%-4lld %4lld %8.2f %8.2f %8.2f", j->k->name, sgm_quant_of(j->type)->name, (long long)j->N,
           (long long)j->K, (long long)j->M, 1e-9 * bytes / seconds[SAMPLES - 1], 1e-9 * bytes / middle,
           1e-9 * bytes / seconds[0]);
    if (bytes > 16e6)
        printf(" %5.0f %%", 100 * bytes / middle / reading[SAMPLES / 2]);
    else
        printf(" %7s", "");
    printf(" %9.1f %6.1f %%\n", 1e-9 * operations / middle, 100 * operations / middle / peak_rate[SAMPLES / 2]);
    fflush(stdout);
}

static bool run(const sgm_kernels *k, sgm_type type, const void *memory) {
    static const int64_t shapes[][2] = {{768, 1536}, {1536, 768}, {65536, 1536}}, rows[] = {1, 2, 5, 16, 64, 512};
    const sgm_quant *quant = sgm_quant_of(type);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const int64_t N = shapes[s][0], K = shapes[s][1];
        job j = {.k = k, .type = type, .N = N, .K = K, .stride = sgm_quant_row_bytes(type, K)};
        float *x = sgm_alloc(512 * (size_t)K * sizeof *x);
        j.B = sgm_alloc((size_t)N * j.stride);
        j.A.q = sgm_alloc(512 * (size_t)K);
        j.A.scale = sgm_alloc(512 * (size_t)K / 32 * sizeof *j.A.scale);
        j.A.sum = sgm_alloc(512 * (size_t)K / 32 * sizeof *j.A.sum);
        j.C = sgm_alloc((s < 2 ? 512 : 64) * (size_t)N * sizeof *j.C);
        const bool enough = x && j.B && j.A.q && j.A.scale && j.A.sum && j.C;
        for (int64_t i = 0; enough && i < 512 * K; i++)
            x[i] = (float)(i * 7919 % 2003) / 1001 - 1;
        for (int64_t n = 0; enough && n < N; n++) { /* packing is slow: sixteen rows again and again */
            char *row = (char *)j.B + (size_t)n * j.stride;
            if (n < 16)
                quant->pack(K, x + n * K, row);
            else
                memcpy(row, row - 16 * j.stride, j.stride);
        }
        if (enough) {
            j.A.x = x;
            j.A.ldx = K;
            k->quantise(512, K, x, K, &j.A);
        }
        for (size_t m = 0; enough && m < sizeof rows / sizeof *rows; m++)
            if (s < 2 || rows[m] <= 64) {
                j.M = rows[m];
                measure(&j, memory);
            }
        sgm_free(x), sgm_free(j.B), sgm_free(j.A.q), sgm_free(j.A.scale), sgm_free(j.A.sum), sgm_free(j.C);
        if (!enough)
            return false;
    }
    return true;
}

int main(int count, char **arguments) {
    const bool all = count > 1 && strcmp(arguments[1], "all") == 0;
    const sgm_quant *only = count > 2 ? sgm_quant_find(arguments[2]) : NULL;
    const sgm_kernels *wanted = NULL, *k;
    sgm_error error;
    if (!all && sgm_kernels_get(count > 1 ? arguments[1] : "auto", &wanted, &error) != SGM_OK) {
        fprintf(stderr, "error: %s\nhint: %s\n", error.message, error.hint);
        return 2;
    }
    if (count > 2 && !only) {
        fprintf(stderr, "error: no storage type '%s'\nhint: q4_0, q4_k, q8_0, …\n", arguments[2]);
        return 2;
    }
    char *memory = sgm_alloc(READ_BYTES);
    if (!memory) {
        fprintf(stderr, "error: not enough memory\n");
        return 1;
    }
    memset(memory, 1, READ_BYTES);
    printf("%-11s %-5s %10s %4s %8s %8s %8s %7s %9s %8s\n", "table", "type", "NxK", "M", "min", "GB/s", "max",
           "of read", "GOP/s", "of peak");
    bool enough = true;
    for (size_t i = 0; enough && (k = sgm_kernels_at(i)) != NULL; i++)
        for (int type = 0; enough && k->usable() && (all || k == wanted) && type < SGM_TYPES; type++)
            if (!only || sgm_quant_of((sgm_type)type) == only)
                enough = run(k, (sgm_type)type, memory);
    sgm_free(memory);
    if (!enough)
        fprintf(stderr, "error: not enough memory\n");
    return enough ? 0 : 1;
}
