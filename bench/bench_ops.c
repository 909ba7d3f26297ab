// SPDX-License-Identifier: Apache-2.0
/* Times every op of the list on its declared benchmark case: forward and backward milliseconds and, where the op counts
 * its products, GFLOP/s. Usage: bench_ops [THREADS [TABLE [OP|all [f32|bf16]]]]; median and spread of five. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "conformance/op_harness.h"

enum { REPEATS = 6 }; /* the first warms up */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    const sgm_kernels *kernels;
    sgm_error error = {0};
    if (threads < 1 || threads > HARNESS_THREADS) {
        fprintf(stderr, "error: '%s' is no number of threads from 1 to %d\n", argv[1], HARNESS_THREADS);
        return 2;
    }
    if (sgm_kernels_get(argc > 2 ? argv[2] : "auto", &kernels, &error)) {
        fprintf(stderr, "error: %s\nhint: %s\n", error.message, error.hint);
        return 2;
    }
    bool bf16 = argc > 4 && strcmp(argv[4], "bf16") == 0, known = argc <= 3 || strcmp(argv[3], "all") == 0;
    for (size_t o = 0; !known && sgm_op_at(o); o++)
        known = strcmp(argv[3], sgm_op_at(o)->name) == 0;
    if (!known || (argc > 4 && !bf16 && strcmp(argv[4], "f32") != 0)) {
        fprintf(stderr, "error: '%s' is no %s\nhint: `sigmoe list ops` has the ops; f32 and bf16 are the numbers\n",
                argv[known ? 4 : 3], known ? "number type" : "op");
        return 2;
    }
    printf("%d threads, kernels %s, %s; milliseconds: median (least–most) of %d\n", threads, kernels->name,
           bf16 ? "bf16" : "f32", REPEATS - 1);
    for (size_t o = 0; sgm_op_at(o); o++) {
        const sgm_op *op = sgm_op_at(o);
        harness h;
        if ((argc > 3 && strcmp(argv[3], "all") != 0 && strcmp(argv[3], op->name) != 0) ||
            !harness_open(&h, op, 0, true))
            continue;
        h.compute = bf16 ? SGM_COMPUTE_BF16 : SGM_COMPUTE_F32;
        double forward[REPEATS], backward[REPEATS];
        if (harness_run_case(&h, kernels, threads, true, REPEATS, now, forward, backward)) {
            fprintf(stderr, "error: %s: %s\n", op->name, h.error.message);
            return 1;
        }
        qsort(forward + 1, REPEATS - 1, sizeof *forward, ascending);
        qsort(backward + 1, REPEATS - 1, sizeof *backward, ascending);
        double f = forward[1 + (REPEATS - 1) / 2], b = backward[1 + (REPEATS - 1) / 2];
        printf("%-18s forward %8.3f (%.3f–%.3f)  backward %8.3f (%.3f–%.3f)", op->name, f * 1e3, forward[1] * 1e3,
               forward[REPEATS - 1] * 1e3, b * 1e3, backward[1] * 1e3, backward[REPEATS - 1] * 1e3);
        if (h.op_case.flops > 0)
            printf("  %6.1f GFLOP/s over both", 3 * h.op_case.flops / (f + b) / 1e9);
        printf("\n");
        harness_close(&h);
    }
    return 0;
}
