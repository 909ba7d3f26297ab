// SPDX-License-Identifier: Apache-2.0
/* Our matrix products beside those of OpenBLAS (f32) and oneDNN (f32, bf16), on one thread, in one run: what is not installed
 * at build time is left out with a line. `bench_libraries`
 *
 * GFLOP/s, median of SAMPLES rounds in which all arms take turns, of processor time. oneDNN's bf16 has two columns: with
 * operands that are f32 in memory and are converted in every call, as ours are, and with both operands converted and packed
 * beforehand, outside the measurement. Every answer is compared with ours. The decision that follows from the table stands in
 * src/kernel/README.md. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "kernel/peak.h"

#ifdef SGM_BENCH_OPENBLAS
#include <cblas.h>
#endif
#ifdef SGM_BENCH_DNNL
#include <dnnl.h>
#endif

#define SAMPLES 7
#define SAMPLE_SECONDS 0.01

typedef enum kind { NT, NN, TN } kind;
static const char *const kind_names[] = {"nt", "nn", "tn"};

typedef struct job {
    kind kind;
    int64_t M, N, K, lda, ldb;
    const float *a, *b;
    float *c;
    const sgm_kernels *k;
#ifdef SGM_BENCH_DNNL
    dnnl_stream_t stream;
    dnnl_primitive_t convert_a, convert_b, product;
    dnnl_memory_t a32, b32, a16, b16, c32;
#endif
} job;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* others may use the machine too */
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void ours_f32(job *j) {
    (j->kind == NT   ? j->k->matmul_nt
     : j->kind == NN ? j->k->matmul_nn
                     : j->k->matmul_tn)(j->M, j->N, j->K, j->a, j->lda, j->b, j->ldb, j->c, j->N, false);
}

static void ours_bf16(job *j) {
    (j->kind == NT   ? j->k->matmul_nt_bf16
     : j->kind == NN ? j->k->matmul_nn_bf16
                     : j->k->matmul_tn_bf16)(j->M, j->N, j->K, j->a, j->lda, j->b, j->ldb, j->c, j->N, false);
}

#ifdef SGM_BENCH_OPENBLAS
static void openblas_f32(job *j) {
    cblas_sgemm(CblasRowMajor, j->kind == TN ? CblasTrans : CblasNoTrans, j->kind == NT ? CblasTrans : CblasNoTrans,
                (int)j->M, (int)j->N, (int)j->K, 1, j->a, (int)j->lda, j->b, (int)j->ldb, 0, j->c, (int)j->N);
}
#endif

#ifdef SGM_BENCH_DNNL
static void must(dnnl_status_t status) {
    if (status != dnnl_success) {
        fprintf(stderr, "error: oneDNN status %d\n", (int)status);
        exit(1);
    }
}

static void onednn_f32(job *j) {
    must(dnnl_sgemm(j->kind == TN ? 'T' : 'N', j->kind == NT ? 'T' : 'N', j->M, j->N, j->K, 1, j->a, j->lda, j->b,
                    j->ldb, 0, j->c, j->N));
}

static void execute(dnnl_primitive_t primitive, dnnl_stream_t stream, int count, const dnnl_exec_arg_t *arguments) {
    must(dnnl_primitive_execute(primitive, stream, count, arguments));
    must(dnnl_stream_wait(stream));
}

static void onednn_bf16_ready(job *j) {
    const dnnl_exec_arg_t product[] = {{DNNL_ARG_SRC, j->a16}, {DNNL_ARG_WEIGHTS, j->b16}, {DNNL_ARG_DST, j->c32}};
    execute(j->product, j->stream, 3, product);
}

static void onednn_bf16(job *j) {
    const dnnl_exec_arg_t a[] = {{DNNL_ARG_FROM, j->a32}, {DNNL_ARG_TO, j->a16}};
    const dnnl_exec_arg_t b[] = {{DNNL_ARG_FROM, j->b32}, {DNNL_ARG_TO, j->b16}};
    execute(j->convert_a, j->stream, 2, a);
    execute(j->convert_b, j->stream, 2, b);
    onednn_bf16_ready(j);
}

static dnnl_primitive_t reorder(const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, dnnl_engine_t engine) {
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    must(dnnl_reorder_primitive_desc_create(&description, from, engine, to, engine, NULL));
    must(dnnl_primitive_create(&primitive, description));
    must(dnnl_primitive_desc_destroy(description));
    return primitive;
}

static void dnnl_begin(job *j, dnnl_engine_t engine) {
    const dnnl_dims_t a = {j->M, j->K}, b = {j->K, j->N}, c = {j->M, j->N};
    const dnnl_dims_t a_strides = {j->kind == TN ? 1 : j->lda, j->kind == TN ? j->lda : 1};
    const dnnl_dims_t b_strides = {j->kind == NT ? 1 : j->ldb, j->kind == NT ? j->ldb : 1}, c_strides = {j->N, 1};
    dnnl_memory_desc_t a32, b32, a16, b16, c32;
    must(dnnl_memory_desc_init_by_strides(&a32, 2, a, dnnl_f32, a_strides));
    must(dnnl_memory_desc_init_by_strides(&b32, 2, b, dnnl_f32, b_strides));
    must(dnnl_memory_desc_init_by_strides(&c32, 2, c, dnnl_f32, c_strides));
    must(dnnl_memory_desc_init_by_tag(&a16, 2, a, dnnl_bf16, dnnl_format_tag_any)); /* whatever it likes best */
    must(dnnl_memory_desc_init_by_tag(&b16, 2, b, dnnl_bf16, dnnl_format_tag_any));
    dnnl_matmul_desc_t operation;
    dnnl_primitive_desc_t description;
    must(dnnl_matmul_desc_init(&operation, &a16, &b16, NULL, &c32));
    must(dnnl_primitive_desc_create(&description, &operation, NULL, engine, NULL));
    a16 = *dnnl_primitive_desc_query_md(description, dnnl_query_src_md, 0);
    b16 = *dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
    must(dnnl_primitive_create(&j->product, description));
    must(dnnl_primitive_desc_destroy(description));
    j->convert_a = reorder(&a32, &a16, engine);
    j->convert_b = reorder(&b32, &b16, engine);
    must(dnnl_memory_create(&j->a32, &a32, engine, (void *)(uintptr_t)j->a));
    must(dnnl_memory_create(&j->b32, &b32, engine, (void *)(uintptr_t)j->b));
    must(dnnl_memory_create(&j->c32, &c32, engine, j->c));
    must(dnnl_memory_create(&j->a16, &a16, engine, DNNL_MEMORY_ALLOCATE));
    must(dnnl_memory_create(&j->b16, &b16, engine, DNNL_MEMORY_ALLOCATE));
    must(dnnl_stream_create(&j->stream, engine, dnnl_stream_default_flags));
}

static void dnnl_end(job *j) {
    dnnl_memory_t memory[] = {j->a32, j->b32, j->a16, j->b16, j->c32};
    dnnl_primitive_t primitives[] = {j->convert_a, j->convert_b, j->product};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        must(dnnl_memory_destroy(memory[i]));
    for (size_t i = 0; i < sizeof primitives / sizeof *primitives; i++)
        must(dnnl_primitive_destroy(primitives[i]));
    must(dnnl_stream_destroy(j->stream));
}
#endif

typedef struct arm {
    const char *name;
    void (*call)(job *);
    bool bf16;
} arm;
static const arm arms[] = {
    {"ours f32", ours_f32, false},
#ifdef SGM_BENCH_OPENBLAS
    {"OpenBLAS f32", openblas_f32, false},
#endif
#ifdef SGM_BENCH_DNNL
    {"oneDNN f32", onednn_f32, false},
#endif
    {"ours bf16", ours_bf16, true},
#ifdef SGM_BENCH_DNNL
    {"oneDNN bf16", onednn_bf16, true},    {"(converted)", onednn_bf16_ready, true},
#endif
};
#define ARMS (sizeof arms / sizeof *arms)

static const struct {
    kind kind;
    int64_t M, N, K;
} shapes[] = {
    {NT, 43, 96, 192},    {NT, 85, 192, 96},    {NT, 85, 256, 512}, {NT, 500, 256, 512}, {NT, 2048, 192, 192},
    {NT, 2048, 512, 512}, {NT, 256, 4096, 192}, {NN, 43, 192, 96},  {NN, 85, 96, 192},   {NN, 500, 512, 256},
    {NN, 2048, 512, 512}, {NN, 256, 192, 4096}, {TN, 192, 96, 43},  {TN, 96, 192, 85},   {TN, 256, 512, 500},
    {TN, 192, 192, 2048}, {TN, 512, 512, 2048},
};

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The largest difference from `ours` in units of the largest element. */
static double difference(const float *ours, const float *theirs, int64_t n) {
    double most = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)ours[i] - (double)theirs[i]));
        size = fmax(size, fabs((double)ours[i]));
    }
    return most / size;
}

static int run(job *j, float *ours, double rate[ARMS]) {
    const double amount = 2e-9 * (double)(j->M * j->N * j->K);
    double sample[ARMS][SAMPLES];
    int64_t times[ARMS];
    for (size_t a = 0; a < ARMS; a++) {
        double begin = seconds_now(), once;
        arms[a].call(j);
        begin = seconds_now();
        arms[a].call(j);
        once = seconds_now() - begin;
        times[a] = once < SAMPLE_SECONDS ? (int64_t)(SAMPLE_SECONDS / (once + 1e-8)) + 1 : 1;
        if (arms[a].call == ours_f32 || arms[a].call == ours_bf16)
            memcpy(ours, j->c, (size_t)(j->M * j->N) * sizeof *ours);
        else if (!(difference(ours, j->c, j->M * j->N) < 1e-4)) {
            fprintf(stderr, "error: %s gives another product than ours\n", arms[a].name);
            return 1;
        }
    }
    for (int s = 0; s < SAMPLES; s++)
        for (size_t a = 0; a < ARMS; a++) {
            double begin = seconds_now();
            for (int64_t i = 0; i < times[a]; i++)
                arms[a].call(j);
            sample[a][s] = (seconds_now() - begin) / (double)times[a];
        }
    for (size_t a = 0; a < ARMS; a++) {
        qsort(sample[a], SAMPLES, sizeof sample[a][0], ascending);
        rate[a] = amount / sample[a][SAMPLES / 2];
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count > 1) {
        fprintf(stderr, "usage: %s\n", arguments[0]);
        return 2;
    }
    if (!getenv("OMP_NUM_THREADS") ||
        strcmp(getenv("OMP_NUM_THREADS"), "1") != 0) { /* libraries read it when they load */
        setenv("OMP_NUM_THREADS", "1", 1);
        setenv("OPENBLAS_NUM_THREADS", "1", 1);
        execv("/proc/self/exe", arguments);
        perror("error: starting again with one thread");
        return 1;
    }
#ifndef SGM_BENCH_OPENBLAS
    printf("OpenBLAS: not there when this was built (libopenblas-dev), left out\n");
#endif
#ifndef SGM_BENCH_DNNL
    printf("oneDNN: not there when this was built (libdnnl-dev), left out\n");
#endif
    const sgm_kernels *k;
    sgm_error error;
    if (sgm_kernels_get("auto", &k, &error) != SGM_OK) {
        fprintf(stderr, "error: %s\n", error.message);
        return 1;
    }
    const int64_t size = (int64_t)4 << 20;
    float *a = sgm_alloc((size_t)size * sizeof *a), *b = sgm_alloc((size_t)size * sizeof *b);
    float *c = sgm_alloc((size_t)size * sizeof *c), *ours = sgm_alloc((size_t)size * sizeof *ours);
    if (!a || !b || !c || !ours) {
        fprintf(stderr, "error: not enough memory for the arrays\n");
        return 1;
    }
    for (int64_t i = 0; i < size; i++) {
        a[i] = (float)(i % 2003) / 1001 - 1;
        b[i] = (float)(i % 1999) / 999 - 1;
    }
#ifdef SGM_BENCH_DNNL
    dnnl_engine_t engine;
    must(dnnl_engine_create(&engine, dnnl_cpu, 0));
#endif
    printf("GFLOP/s on one thread, ours: kernels %s\n%-17s", k->name, "product");
    for (size_t i = 0; i < ARMS; i++)
        printf("%14s", arms[i].name);
    printf("\n");
    int failed = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes && !failed; s++) {
        job j = {.kind = shapes[s].kind, .M = shapes[s].M, .N = shapes[s].N, .K = shapes[s].K, .a = a, .b = b, .c = c};
        j.lda = j.kind == TN ? j.M : j.K, j.ldb = j.kind == NT ? j.K : j.N, j.k = k;
#ifdef SGM_BENCH_DNNL
        dnnl_begin(&j, engine);
#endif
        double rate[ARMS];
        failed = run(&j, ours, rate);
#ifdef SGM_BENCH_DNNL
        dnnl_end(&j);
#endif
        printf("%s %4lldx%4lldx%-4lld", kind_names[j.kind], (long long)j.M, (long long)j.N, (long long)j.K);
        for (size_t i = 0; i < ARMS && !failed; i++)
            printf("%14.1f", rate[i]);
        printf("\n");
        fflush(stdout);
    }
#ifdef SGM_BENCH_DNNL
    must(dnnl_engine_destroy(engine));
#endif
    sgm_free(a), sgm_free(b), sgm_free(c), sgm_free(ours);
    return failed;
}
