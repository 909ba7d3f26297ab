// SPDX-License-Identifier: Apache-2.0
/* Runs an op's declared cases: forward, backward, on any kernel table and number of threads.
 *
 * The op stands between a source (its inputs, with a gradient) and a probe (a root: loss = Σ coefficient · output), so that
 * every op is differentiated through the tape exactly as in a model. Blocks are filled with NaN first: a value that is read
 * before it was written shows. Included by the f32 tests, the f64 gradient tests and the benchmark; moe_runner.h runs the MoE op
 * on it with arguments of a test's own. */
#ifndef SGM_TESTS_OP_HARNESS_H
#define SGM_TESTS_OP_HARNESS_H

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "op/ops.h"

enum { HARNESS_THREADS = 64 }; /* most a case is run on */

/* Where thread 0's clock is noted around the op itself; `clock` NULL: nobody measures. */
typedef struct harness_times {
    double (*clock)(void);
    double start, middle, back, end;
} harness_times;

static inline void harness_note(harness_times *times, double *place, const sgm_worker *worker) {
    if (times && times->clock && worker && worker->thread == 0)
        *place = times->clock();
}

typedef struct harness_source {
    const sgm_real *data;
    sgm_real *gradient;
    int64_t rows, cols;
    harness_times *times; /* set on the last source only: its backward comes right after the op's */
} harness_source;

static inline sgm_status harness_source_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    (void)error;
    const harness_source *a = node->args;
    out[0].rows = a->rows;
    out[0].cols = a->cols;
    return SGM_OK;
}
static inline void harness_source_forward(sgm_walk *walk, sgm_node *node) {
    const harness_source *a = node->args;
    if (walk->worker->thread == 0)
        memcpy(node->out[0].data, a->data, (size_t)(a->rows * a->cols) * sizeof(sgm_real));
}
static inline void harness_source_backward(sgm_walk *walk, sgm_node *node) {
    const harness_source *a = node->args;
    const sgm_real *dy = sgm_gradient_out(walk, node, 0);
    if (a->times)
        harness_note(a->times, &a->times->end, walk->worker);
    if (walk->worker->thread == 0 && dy)
        memcpy(a->gradient, dy, (size_t)(a->rows * a->cols) * sizeof(sgm_real));
}
static const sgm_op harness_source_op = {
    .name = "source",
    .inputs = 0,
    .outputs = 1,
    .args_bytes = sizeof(harness_source),
    .residual = -1,
    .shape = harness_source_shape,
    .forward = harness_source_forward,
    .backward = harness_source_backward,
};

static inline double harness_coefficient(int64_t i) {
    return 0.3 + (double)((i * 2654435761) % 1000) / 1000.0 - 0.5;
}

static inline sgm_status harness_probe_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    (void)node;
    (void)error;
    out[0].rows = out[0].cols = 1;
    return SGM_OK;
}
static inline void harness_probe_forward(sgm_walk *walk, sgm_node *node) {
    if (walk->worker->thread != 0)
        return;
    double sum = 0;
    for (int64_t i = 0; i < node->in[0].rows * node->in[0].cols; i++)
        sum += harness_coefficient(i) * (double)node->in[0].data[i];
    node->out[0].data[0] = (sgm_real)sum;
}
static inline void harness_probe_backward(sgm_walk *walk, sgm_node *node) {
    harness_times *const *times = node->args;
    bool add = false;
    sgm_real *dx = sgm_gradient_in(walk, node, 0, &add);
    if (walk->worker->thread != 0 || !dx)
        return;
    for (int64_t i = 0; i < node->in[0].rows * node->in[0].cols; i++)
        dx[i] = (add ? dx[i] : 0) + (sgm_real)harness_coefficient(i);
    if (*times)
        harness_note(*times, &(*times)->back, walk->worker);
}
static const sgm_op harness_probe_op = {
    .name = "probe",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(harness_times *),
    .residual = -1,
    .root = true,
    .shape = harness_probe_shape,
    .forward = harness_probe_forward,
    .backward = harness_probe_backward,
};

/* One op case, its inputs, and what came out. */
typedef struct harness {
    const sgm_op *op;
    sgm_op_case op_case;
    sgm_compute compute; /* harness_open: f32 */
    bool sets_gradients; /* of variables, over NaN; otherwise they are added to zeros */
    sgm_real *input[SGM_OP_INPUTS], *input_gradient[SGM_OP_INPUTS];
    sgm_real *output; /* output 0 */
    int64_t output_count;
    sgm_real loss;
    harness_times times;
    sgm_error error; /* why a run failed */
} harness;

static inline bool harness_open(harness *h, const sgm_op *op, int index, bool benchmark) {
    *h = (harness){.op = op};
    if (op->cases->make(index, benchmark, 77 + (uint64_t)index, &h->op_case, NULL) != SGM_OK)
        return false;
    for (int i = 0; i < op->inputs; i++) {
        int64_t n = h->op_case.rows[i] * h->op_case.cols[i];
        h->input[i] = sgm_alloc((size_t)n * sizeof(sgm_real));
        h->input_gradient[i] = sgm_alloc((size_t)n * sizeof(sgm_real));
        double scale = h->op_case.input_scale != 0 ? h->op_case.input_scale : 1;
        for (int64_t j = 0; j < n; j++)
            h->input[i][j] = (sgm_real)(scale * sgm_rng_normal_at(5, (uint64_t)i, (uint64_t)j));
    }
    return true;
}

static inline void harness_close(harness *h) {
    for (int i = 0; i < h->op->inputs; i++) {
        sgm_free(h->input[i]);
        sgm_free(h->input_gradient[i]);
    }
    sgm_free(h->output);
    h->op->cases->free(&h->op_case);
}

typedef struct harness_run {
    harness *h;
    const sgm_kernels *kernels;
    sgm_plan *plan;
    char *values, *gradients;
    sgm_tape **tapes;
    bool backward;
    sgm_status status;
} harness_run;

/* Source → op → probe; *y is the op's output, the loss is returned. */
static inline sgm_tensor harness_walk(harness *h, sgm_walk *walk, sgm_tensor *y) {
    sgm_tensor in[SGM_OP_INPUTS] = {{0}}, out[SGM_OP_OUTPUTS] = {{0}}, loss = {0};
    for (int i = 0; i < h->op->inputs; i++) {
        harness_source source = {h->input[i], h->input_gradient[i], h->op_case.rows[i], h->op_case.cols[i],
                                 i == h->op->inputs - 1 ? &h->times : NULL};
        sgm_apply(walk, &harness_source_op, &source, NULL, &in[i]);
    }
    harness_note(&h->times, &h->times.start, walk->worker);
    sgm_apply(walk, h->op, h->op_case.args, in, out);
    harness_note(&h->times, &h->times.middle, walk->worker);
    if (h->op->root && walk->worker && walk->worker->thread == 0)
        h->times.back = h->times.middle; /* a root's backward comes right away */
    *y = out[0];
    if (h->op->root)
        return out[0];
    harness_times *times = &h->times;
    sgm_apply(walk, &harness_probe_op, &times, out, &loss);
    return loss;
}

static inline void harness_thread(sgm_worker *worker, void *argument) {
    harness_run *run = argument;
    sgm_walk walk = {.worker = worker,
                     .kernels = run->kernels,
                     .compute = run->h->compute,
                     .sets_gradients = run->h->sets_gradients,
                     .values = run->values,
                     .tape = run->tapes ? run->tapes[worker->thread] : NULL};
    sgm_tensor y;
    sgm_tensor loss = harness_walk(run->h, &walk, &y);
    if (run->backward && !walk.status)
        sgm_tape_backward(&walk, run->plan, run->gradients);
    if (run->h->op->inputs == 0)
        harness_note(&run->h->times, &run->h->times.end, worker);
    if (worker->thread != 0)
        return;
    run->status = walk.status;
    if (walk.status)
        return;
    run->h->loss = loss.data[0];
    memcpy(run->h->output, y.data, (size_t)(y.rows * y.cols) * sizeof(sgm_real));
}

/* Run the case `repeats` times (the last one's results stay). With `tape`, gradients of inputs and variables are left in the
 * harness, zeroed (or made NaN, where they are set) before each repeat. An op that has no backward pass runs without one. */
static inline sgm_status harness_run_case(harness *h, const sgm_kernels *kernels, int threads, bool tape, int repeats,
                                          double (*clock)(void), double *forward, double *backward) {
    sgm_team *team = NULL;
    h->error = (sgm_error){0};
    tape = tape && h->op->backward;
    if (threads > HARNESS_THREADS)
        return SGM_EARGUMENT;
    sgm_status status = sgm_team_new(threads, &team, &h->error);
    if (status)
        return status;
    sgm_tape *dry_tape = NULL;
    sgm_worker alone = {.thread = 0, .threads = threads};
    sgm_walk dry = {.worker = &alone, .kernels = kernels, .compute = h->compute, .dry = true, .error = &h->error};
    if (tape)
        status = sgm_tape_new(NULL, &dry_tape, &h->error);
    dry.tape = dry_tape;
    sgm_tensor y;
    harness_walk(h, &dry, &y);
    status = status ? status : dry.status;
    sgm_plan plan = {0};
    sgm_tape *tapes[HARNESS_THREADS] = {0};
    harness_run run = {.h = h, .kernels = kernels, .plan = &plan, .backward = tape};
    h->times = (harness_times){.clock = clock};
    if (!status)
        status = sgm_plan_make(&dry, threads, &plan, &h->error);
    if (!status) {
        sgm_free(h->output);
        h->output_count = y.rows * y.cols;
        h->output = sgm_alloc((size_t)h->output_count * sizeof(sgm_real));
        run.values = sgm_alloc(plan.value_bytes + 1);
        run.gradients = sgm_alloc(plan.gradient_bytes + 1);
        for (int i = 0; tape && !status && i < threads; i++)
            status = sgm_tape_new(&plan, &tapes[i], &h->error);
        run.tapes = tape ? tapes : NULL;
    }
    for (int r = 0; !status && r < repeats; r++) {
        memset(run.values, 0xFF, plan.value_bytes);
        memset(run.gradients, 0xFF, plan.gradient_bytes);
        for (int i = 0; i < threads && tape; i++)
            sgm_tape_reset(tapes[i]);
        for (int i = 0; i < h->op_case.variable_count; i++)
            if (h->op_case.variables[i].gradient)
                memset(h->op_case.variables[i].gradient, h->sets_gradients ? 0xFF : 0,
                       (size_t)h->op_case.variables[i].count * sizeof(sgm_real));
        sgm_team_run(team, harness_thread, &run);
        status = run.status;
        if (forward)
            forward[r] = h->times.middle - h->times.start;
        if (backward)
            backward[r] = h->times.end - h->times.back;
    }
    for (int i = 0; i < HARNESS_THREADS; i++)
        sgm_tape_free(tapes[i]);
    sgm_tape_free(dry_tape);
    sgm_plan_free(&plan);
    sgm_free(run.values);
    sgm_free(run.gradients);
    sgm_team_free(team);
    return status;
}

#endif
