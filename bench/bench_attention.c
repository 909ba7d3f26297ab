// SPDX-License-Identifier: Apache-2.0
/* Times attention in inference in the shape of the full-size model (16 heads of 96, 4 key/value heads): decode of one row at
 * a depth for every type of keys and values, as bytes of keys and values read per second beside a plain read of memory, and
 * prefill as GFLOP/s beside the kernels' matrix product. Layers are walked one after the other until they exceed the caches.
 * Usage: bench_attention [THREADS [TABLE]]; median and spread of five. One thread is timed by the processor time it took, which
 * other programs on the machine disturb less. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/half.h"
#include "base/memory.h"
#include "op/ops.h"

enum { H = 16, G = 4, S = 96, REPEATS = 6, PAGES_BYTES = 192 << 20 };

static clockid_t time_of = CLOCK_MONOTONIC;

static double now(void) {
    struct timespec t;
    clock_gettime(time_of, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct job {
    const sgm_kernels *kernels;
    sgm_rows rows;
    int64_t layers;
    char *values;
    float *sink;
} job;

static void walk_layers(sgm_walk *walk, const job *j) {
    size_t mark = sgm_walk_mark(walk);
    sgm_tensor q = sgm_walk_tensor(walk, j->rows.rows, (int64_t)H * S);
    sgm_tensor k = sgm_walk_tensor(walk, j->rows.rows, (int64_t)G * S);
    sgm_tensor v = sgm_walk_tensor(walk, j->rows.rows, (int64_t)G * S);
    size_t inner = sgm_walk_mark(walk);
    for (int64_t l = 0; l < j->layers; l++) {
        sgm_causal_attention(walk, q, k, v, H, G, l, &j->rows);
        sgm_walk_release(walk, inner);
    }
    sgm_walk_release(walk, mark);
}

static void run(sgm_worker *worker, void *argument) {
    const job *j = argument;
    sgm_walk walk = {.worker = worker, .kernels = j->kernels, .values = j->values};
    walk_layers(&walk, j);
}

/* All of the pages read once by plain sums: what memory gives in this minute. */
static void read_all(sgm_worker *worker, void *argument) {
    const job *j = argument;
    int64_t begin, end;
    const float *x = (const float *)(const void *)j->values;
    sgm_split(worker, (int64_t)(PAGES_BYTES / sizeof(float)), 1024, &begin, &end);
    float sum = 0;
    for (int64_t i = begin; i < end; i += 1024)
        sum += j->kernels->dot(1024, x + i, x + i);
    j->sink[worker->thread * 16] = sum;
}

static void print(const char *what, double *seconds, double work, double per, const char *unit) {
    qsort(seconds + 1, REPEATS - 1, sizeof *seconds, ascending);
    double middle = seconds[1 + (REPEATS - 1) / 2];
    printf("%-28s %9.1f us a layer (%.1f–%.1f)  %7.1f %s\n", what, middle / per * 1e6, seconds[1] / per * 1e6,
           seconds[REPEATS - 1] / per * 1e6, work / middle / 1e9, unit);
}

/* Small random numbers in the pages' type. */
static void fill(char *block, size_t bytes, sgm_kv_type type) {
    uint32_t state = 2463534242u;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        uint32_t word = state & 0x3bff3bffu; /* two f16 below 1 */
        if (type == SGM_KV_F32)
            word = sgm_float_bits((float)state * 0x1p-32F - 0.5F);
        else if (type == SGM_KV_Q8)
            word = state & 0x3b3b3b3bu; /* as an f32 scale: 0.003 at most */
        memcpy(block + i, &word, 4);
    }
}

static int measure(sgm_team *team, job *j, int64_t rows, int64_t depth, sgm_kv_type type) {
    int64_t pages = (depth + rows + SGM_KV_PAGE - 1) / SGM_KV_PAGE;
    size_t page_bytes = G * sgm_kv_head_bytes(type, S), layer_bytes = page_bytes * (size_t)pages;
    j->layers = rows > 1 ? 1 : PAGES_BYTES / (int64_t)layer_bytes + 1;
    size_t block_bytes = layer_bytes * (size_t)j->layers;
    char *block = sgm_alloc(block_bytes), **table = sgm_alloc((size_t)(pages * j->layers) * sizeof *table);
    int32_t *ids = sgm_alloc((size_t)rows * sizeof *ids);
    int code = 1;
    if (block && table && ids) {
        fill(block, block_bytes, type);
        for (int64_t i = 0; i < pages * j->layers; i++)
            table[i] = block + (size_t)i * page_bytes;
        sgm_kv_pages past = {table, pages, type};
        sgm_segment segment = {.rows = rows, .position = depth, .past = &past};
        j->rows = (sgm_rows){.rows = rows, .tokens = ids, .positions = ids, .segments = &segment, .segment_count = 1};
        sgm_worker worker = {.threads = sgm_team_threads(team), .team = team};
        sgm_error error = {0};
        sgm_walk dry = {.worker = &worker, .kernels = j->kernels, .dry = true, .error = &error};
        walk_layers(&dry, j);
        j->values = sgm_alloc(dry.peak);
        if (j->values) {
            fill(j->values, dry.peak, SGM_KV_F32);
            double seconds[REPEATS];
            for (int r = 0; r < REPEATS; r++) {
                double start = now();
                sgm_team_run(team, run, j);
                seconds[r] = now() - start;
            }
            static const char *const names[] = {"f32", "f16", "q8"};
            char what[64];
            snprintf(what, sizeof what, "%s %lld at depth %lld, %s", rows > 1 ? "prefill" : "decode", (long long)rows,
                     (long long)depth, names[type]);
            double pairs = (double)rows * (double)depth + (double)rows * (double)(rows + 1) / 2;
            if (rows > 1)
                print(what, seconds, 4.0 * H * S * pairs, 1, "GFLOP/s");
            else
                print(what, seconds, (double)block_bytes, (double)j->layers, "GB/s");
            code = 0;
        }
        sgm_free(j->values);
    }
    sgm_free(block);
    sgm_free(table);
    sgm_free(ids);
    return code;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    sgm_error error = {0};
    sgm_team *team;
    job j = {0};
    if (threads == 1)
        time_of = CLOCK_THREAD_CPUTIME_ID;
    if (sgm_kernels_get(argc > 2 ? argv[2] : "auto", &j.kernels, &error) || sgm_team_new(threads, &team, &error)) {
        fprintf(stderr, "error: %s\nhint: %s\n", error.message, error.hint);
        return 2;
    }
    printf("%d threads, kernels %s, %d heads of %d, %d key/value heads; median (least–most) of %d\n", threads,
           j.kernels->name, H, S, G, REPEATS - 1);
    j.values = sgm_alloc(PAGES_BYTES);
    j.sink = sgm_alloc((size_t)threads * 64);
    int code = !j.values || !j.sink;
    if (!code) {
        fill(j.values, PAGES_BYTES, SGM_KV_F32);
        double seconds[REPEATS];
        for (int r = 0; r < REPEATS; r++) {
            double start = now();
            sgm_team_run(team, read_all, &j);
            seconds[r] = now() - start;
        }
        print("memory, plain read", seconds, PAGES_BYTES, 1, "GB/s");
    }
    sgm_free(j.values);
    static const int64_t depths[] = {0, 2047, 32767};
    for (size_t d = 0; !code && d < 3; d++)
        for (int type = 0; !code && type < SGM_KV_TYPES; type++)
            code = measure(team, &j, 1, depths[d], (sgm_kv_type)type);
    for (int type = 0; !code && type < SGM_KV_TYPES; type++)
        code = measure(team, &j, 2048, 0, (sgm_kv_type)type);
    if (!code)
        code = measure(team, &j, 512, 8192, SGM_KV_F16);
    if (code)
        fprintf(stderr, "error: not enough memory\n");
    sgm_free(j.sink);
    sgm_team_free(team);
    return code;
}
