// SPDX-License-Identifier: Apache-2.0
/* The MoE op on the harness of all ops, with the test's own arguments and inputs instead of a declared case. */
#ifndef SGM_TESTS_MOE_RUNNER_H
#define SGM_TESTS_MOE_RUNNER_H

#include "conformance/op_harness.h"
#include "routing_helper.h"

extern const sgm_op sgm_op_moe_ffn;

/* x, residual → y; with `backward` also dx and d_residual of the probe. Gradients of weights are added to. */
typedef struct moe_run {
    const sgm_moe_args *args;
    const sgm_kernels *kernels;
    sgm_real *x, *residual;
    bool backward;
    int64_t rows, cols;
    sgm_real *y, *dx, *d_residual; /* written */
    double probe;
} moe_run;

static inline sgm_status moe_run_on(int threads, moe_run *run, sgm_error *error) {
    sgm_moe_args args = *run->args;
    harness h = {.op = &sgm_op_moe_ffn,
                 .op_case = {.args = &args, .rows = {run->rows, run->rows}, .cols = {run->cols, run->cols}},
                 .input = {run->x, run->residual},
                 .input_gradient = {run->dx, run->d_residual}};
    sgm_status status = harness_run_case(&h, run->kernels, threads, run->backward, 1, NULL, NULL, NULL);
    if (!status) {
        memcpy(run->y, h.output, (size_t)h.output_count * sizeof(sgm_real));
        run->probe = (double)h.loss;
    }
    if (error)
        *error = h.error;
    sgm_free(h.output);
    return status;
}

static inline sgm_real *normals(uint64_t seed, int64_t count, double scale) {
    sgm_real *values = sgm_alloc((size_t)count * sizeof *values + 1);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (sgm_real)(scale * sgm_rng_normal_at(seed, 21, (uint64_t)i));
    return values;
}

#endif
