// SPDX-License-Identifier: Apache-2.0
/* Placement methods: microseconds to plan a layer, and balance over GPUs, on the load that was planned for and on that of the
 * window after it. 256 experts, 32 GPUs on 4 nodes, 8 groups; 288 slots, and 256 (no replicas). Loads are lognormal (σ = 1) or
 * Pareto (exponent 1.2), and drift: from window to window the logarithm of each expert's load keeps 0.95 of itself.
 * Usage: bench_placement [WINDOWS]; times are medians with the smallest and the largest. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "moe/placement/placement.h"

enum { EXPERTS = 256, LAYERS = 58, GPUS = 32, NODES = 4, GROUPS = 8, MOST = 200 };
typedef double loads[LAYERS * EXPERTS];

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A standard normal for each expert of each layer that moves slowly, and what it stands for. */
static void fill(double *normal, double *load, int window, int pareto) {
    const double keep = window ? 0.95 : 0, fresh = sqrt(1 - keep * keep);
    for (int i = 0; i < LAYERS * EXPERTS; i++) {
        normal[i] = keep * normal[i] + fresh * sgm_rng_normal_at(7, (uint64_t)window, (uint64_t)i);
        double above = 0.5 * erfc(normal[i] / sqrt(2)); /* uniform in (0, 1) */
        load[i] = pareto ? pow(above > 1e-12 ? above : 1e-12, -1 / 1.2) : exp(normal[i]);
    }
}

static int measure(const char *method, int64_t slots, int pareto, int windows) {
    static loads load[2];
    static double normal[LAYERS * EXPERTS], micros[MOST];
    const sgm_placement_shape shape = {LAYERS, EXPERTS, slots, GROUPS, NODES, GPUS};
    double own = 0, next = 0;
    sgm_placement plan = {0};
    sgm_error error;
    for (int w = 0; w <= windows; w++) {
        fill(normal, load[w % 2], w, pareto);
        if (w) {
            next += sgm_placement_balance(&plan, load[w % 2], NULL) / windows;
            sgm_placement_free(&plan);
        }
        if (w == windows)
            break;
        if (sgm_place(method, load[w % 2], &shape, &plan, &error)) {
            fprintf(stderr, "error: %s\n", error.message);
            return 1;
        }
        own += plan.mean_over_max_per_gpu / windows;
        micros[w] = 1e6 * plan.planner_seconds / LAYERS;
    }
    qsort(micros, (size_t)windows, sizeof *micros, ascending);
    printf("%-10s %5lld  %-14s %8.1f (%.1f–%.1f)  %11.3f  %14.3f\n", pareto ? "Pareto" : "lognormal", (long long)slots,
           method, micros[windows / 2], micros[0], micros[windows - 1], own, next);
    return 0;
}

int main(int argc, char **argv) {
    int windows = argc > 1 ? atoi(argv[1]) : 40;
    if (windows < 1 || windows > MOST)
        return fprintf(stderr, "error: give 1 to %d windows\n", MOST), 2;
    printf("load       slots  method         µs a layer (least–most)  this window  the next window\n");
    for (int pareto = 0; pareto < 2; pareto++)
        for (int64_t slots = 288; slots >= 256; slots -= 32)
            for (size_t i = 0; sgm_placement_at(i); i++)
                if (measure(sgm_placement_at(i)->plugin.name, slots, pareto, windows))
                    return 1;
    return 0;
}
