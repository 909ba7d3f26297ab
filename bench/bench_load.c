// SPDX-License-Identifier: Apache-2.0
/* What load statistics cost a training step of the nano preset: counts and mean probabilities of 8 layers of 96 experts
 * over the step's 2048 tokens, and their summaries, on one thread; then with the entropies of the tokens, which only steps
 * have whose load is written. They shall cost under 1 % and 2 % of a step; the step is taken at 10,000 tokens/s, or at what is
 * given. Usage: bench_load [TOKENS_PER_SECOND]; median and spread of nine. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "base/rng.h"
#include "routing/routing.h"

enum { LAYERS = 8, EXPERTS = 96, TOKENS = 2048, REPEATS = 9 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The lowest layer with 8 experts a token, the next with 2, as the preset begins. */
static int64_t slots_of(int layer) {
    return layer == 0 ? 8 : layer == 1 ? 2 : 1;
}

static bool measure(const char *what, const sgm_routing *records, sgm_load *loads, double step, double most) {
    sgm_worker alone = {.thread = 0, .threads = 1};
    sgm_load_summary summary = {0};
    double busiest = 0, samples[REPEATS]; /* busiest: used, so that no summary is left out */
    for (int r = 0; r < REPEATS; r++) {
        double start = now();
        for (int l = 0; l < LAYERS; l++) {
            sgm_load_add(&alone, &loads[l], &records[l], NULL);
            sgm_load_summarise(&loads[l], &summary);
            busiest += summary.max_over_mean;
        }
        samples[r] = now() - start;
    }
    qsort(samples, REPEATS, sizeof *samples, ascending);
    double share = samples[REPEATS / 2] / step;
    printf("%s %.3f (%.3f–%.3f) ms of a step of %.0f ms: %.2f %% (max/mean %.2f)\n", what, 1e3 * samples[REPEATS / 2],
           1e3 * samples[0], 1e3 * samples[REPEATS - 1], 1e3 * step, 100 * share, busiest / (REPEATS * LAYERS));
    return share < most;
}

int main(int argc, char **argv) {
    double rate = argc > 1 ? atof(argv[1]) : 10000, step = TOKENS / rate;
    sgm_routing records[LAYERS];
    sgm_load loads[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        int64_t slots = slots_of(l);
        void *block = sgm_alloc(sgm_routing_bytes(TOKENS, EXPERTS, slots));
        loads[l] = (sgm_load){.experts = EXPERTS,
                              .count = sgm_alloc(EXPERTS * sizeof(int64_t)),
                              .probability = sgm_alloc(EXPERTS * sizeof(double))};
        if (!block || !loads[l].count || !loads[l].probability)
            return fprintf(stderr, "error: not enough memory\n"), 1;
        sgm_routing_place(&records[l], block, TOKENS, EXPERTS, slots);
        for (int64_t i = 0; i < TOKENS * EXPERTS; i++)
            records[l].probabilities[i] = 1.0f / EXPERTS;
        sgm_rng random = sgm_rng_at(1, (uint64_t)l, 0);
        for (int64_t i = 0; i < TOKENS * slots; i++)
            records[l].expert[i] = (int32_t)(sgm_rng_uniform(&random) * EXPERTS);
    }
    bool within = measure("load statistics", records, loads, step, 0.01);
    for (int l = 0; l < LAYERS; l++)
        loads[l].entropies = true;
    within = measure("with entropies", records, loads, step, 0.02) && within;
    for (int l = 0; l < LAYERS; l++) {
        sgm_free(loads[l].count);
        sgm_free(loads[l].probability);
        sgm_free(records[l].logits); /* the block starts with them */
    }
    return within ? 0 : 1;
}
