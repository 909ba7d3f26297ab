// SPDX-License-Identifier: Apache-2.0
/* A part of the model whose inner values are computed again in the backward pass instead of being kept (arXiv 1604.06174).
 *
 * To the tape it is one op. Its forward walks the part without a tape; its backward walks it once more with a small tape of
 * its own, planned beforehand, and runs that backwards: input (a source that hands its gradient out) → part → output (a root
 * that takes its gradient in). What must not be decided twice, the routing record, is kept from the first walk
 * (sgm_op.kept_bytes). Both walks run the same kernels on the same bytes, so gradients are those of a tape that keeps
 * everything. */
#include <string.h>

#include "base/memory.h"
#include "op/ops.h"

typedef struct recompute_args {
    sgm_recomputation *r;
    sgm_part *part;
    _Alignas(16) char context[SGM_PART_CONTEXT];
} recompute_args;

/* This thread's share of a matrix, copied or added. */
static void pass_on(const sgm_walk *walk, int64_t count, const sgm_real *from, sgm_real *to, bool add) {
    int64_t begin, end;
    sgm_split(walk->worker, count, 64, &begin, &end);
    if (end > begin && add)
        walk->kernels->axpy(end - begin, 1, from + begin, to + begin);
    else if (end > begin)
        memcpy(to + begin, from + begin, (size_t)(end - begin) * sizeof *to);
}

/* ---- both ends of the part --------------------------------------------------------------------------------------- */

typedef struct end_args {
    int64_t rows, cols;
    const sgm_real *from; /* input: the values; output: the gradient that comes in */
    sgm_real *to;         /* input: where its gradient goes; NULL: nowhere */
    bool add;
} end_args;

static sgm_status input_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const end_args *a = node->args;
    (void)error;
    out[0].rows = a->rows;
    out[0].cols = a->cols;
    return SGM_OK;
}

static void input_forward(sgm_walk *walk, sgm_node *node) {
    const end_args *a = node->args;
    pass_on(walk, a->rows * a->cols, a->from, node->out[0].data, false);
}

static void input_backward(sgm_walk *walk, sgm_node *node) {
    const end_args *a = node->args;
    const sgm_real *gradient = sgm_gradient_out(walk, node, 0);
    if (a->to && gradient)
        pass_on(walk, a->rows * a->cols, gradient, a->to, a->add);
}

static const sgm_op input_op = {.name = "recompute_input",
                                .summary = "what a recomputed part reads",
                                .outputs = 1,
                                .args_bytes = sizeof(end_args),
                                .residual = -1,
                                .shape = input_shape,
                                .forward = input_forward,
                                .backward = input_backward};

static sgm_status output_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    (void)node, (void)error;
    out[0].rows = out[0].cols = 1;
    return SGM_OK;
}

static void output_forward(sgm_walk *walk, sgm_node *node) {
    (void)walk, (void)node; /* its value is read by nobody */
}

static void output_backward(sgm_walk *walk, sgm_node *node) {
    const end_args *a = node->args;
    bool add = false;
    sgm_real *gradient = sgm_gradient_in(walk, node, 0, &add);
    pass_on(walk, a->rows * a->cols, a->from, gradient, add);
}

static const sgm_op output_op = {.name = "recompute_output",
                                 .summary = "where the gradient of a recomputed part comes in",
                                 .inputs = 1,
                                 .outputs = 1,
                                 .args_bytes = sizeof(end_args),
                                 .residual = -1,
                                 .root = true,
                                 .shape = output_shape,
                                 .forward = output_forward,
                                 .backward = output_backward};

/* Input → part → output on a walk with a tape. */
static void walk_again(sgm_walk *walk, sgm_part *part, const void *context, const end_args *input,
                       const end_args *output) {
    sgm_tensor x = {0}, end = {0};
    sgm_apply(walk, &input_op, input, NULL, &x);
    x = part(walk, context, x);
    sgm_apply(walk, &output_op, output, &x, &end);
}

/* ---- the op -------------------------------------------------------------------------------------------------------- */

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    (void)error;
    out[0].rows = node->in[0].rows;
    out[0].cols = node->in[0].cols;
    return SGM_OK;
}

static size_t saved_bytes(const sgm_node *node) {
    const recompute_args *a = node->args;
    return a->r->kept_bytes;
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    (void)threads; /* the plan was made for as many as there are */
    const recompute_args *a = node->args;
    return backward ? sgm_round_up(a->r->plan.value_bytes) + a->r->plan.gradient_bytes : a->r->forward_bytes;
}

/* A walk inside this one. */
static sgm_walk inner_walk(const sgm_walk *walk, const sgm_node *node) {
    return (sgm_walk){.worker = walk->worker,
                      .kernels = walk->kernels,
                      .compute = walk->compute,
                      .sets_gradients = walk->sets_gradients,
                      .values = node->workspace,
                      .keeps = true,
                      .kept = node->saved};
}

static void forward(sgm_walk *walk, sgm_node *node) {
    const recompute_args *a = node->args;
    sgm_tensor x = node->out[0]; /* the part adds to it in place */
    x.id = -1;
    pass_on(walk, x.rows * x.cols, node->in[0].data, x.data, false);
    sgm_barrier(walk->worker);
    sgm_walk inner = inner_walk(walk, node);
    inner.in_place = true;
    sgm_tensor y = a->part(&inner, a->context, x);
    if (y.data != x.data)
        pass_on(walk, x.rows * x.cols, y.data, x.data, false);
}

static void backward(sgm_walk *walk, sgm_node *node) {
    const recompute_args *a = node->args;
    bool add = false;
    end_args input = {.rows = node->in[0].rows, .cols = node->in[0].cols, .from = node->in[0].data}, output = input;
    output.from = sgm_gradient_out(walk, node, 0);
    input.to = sgm_gradient_in(walk, node, 0, &add);
    input.add = add;
    sgm_walk inner = inner_walk(walk, node);
    inner.replays = true;
    inner.tape = a->r->tapes[walk->worker->thread];
    sgm_tape_reset(inner.tape);
    walk_again(&inner, a->part, a->context, &input, &output);
    sgm_tape_backward(&inner, &a->r->plan, inner.values + sgm_round_up(a->r->plan.value_bytes));
}

static const sgm_op recompute_op = {
    .name = "recompute",
    .summary = "a part whose values are computed again in the backward pass",
    .inputs = 1,
    .outputs = 1,
    .args_bytes = sizeof(recompute_args),
    .residual = -1,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
};

sgm_tensor sgm_recompute(sgm_walk *walk, sgm_recomputation *r, sgm_part *part, const void *context,
                         size_t context_bytes, sgm_tensor x) {
    recompute_args args = {.r = r, .part = part};
    sgm_tensor out = {0};
    memcpy(args.context, context, context_bytes);
    sgm_apply(walk, &recompute_op, &args, &x, &out);
    return out;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

static sgm_status make_tapes(sgm_recomputation *r, int threads, sgm_error *error) {
    r->tapes = sgm_alloc((size_t)threads * sizeof(sgm_tape *));
    if (!r->tapes)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for %d tapes", threads);
    r->threads = threads;
    sgm_status status = SGM_OK;
    for (int i = 0; i < threads && !status; i++)
        status = sgm_tape_new(&r->plan, &r->tapes[i], error);
    return status;
}

sgm_status sgm_recompute_plan(const sgm_walk *like, sgm_part *part, const void *context, int64_t rows, int64_t cols,
                              sgm_recomputation *r, sgm_error *error) {
    *r = (sgm_recomputation){0};
    sgm_walk plain = {.worker = like->worker,
                      .kernels = like->kernels,
                      .compute = like->compute,
                      .dry = true,
                      .in_place = true,
                      .keeps = true,
                      .error = error};
    (void)part(&plain, context, (sgm_tensor){.rows = rows, .cols = cols, .id = -1});
    if (plain.status)
        return plain.status;
    r->forward_bytes = plain.peak;
    r->kept_bytes = plain.kept_used;
    sgm_walk recording = plain;
    recording.used = recording.peak = recording.kept_used = 0;
    recording.in_place = false;
    recording.replays = true;
    sgm_status status = sgm_tape_new(NULL, &recording.tape, error);
    if (status)
        return status;
    const end_args end = {.rows = rows, .cols = cols};
    walk_again(&recording, part, context, &end, &end);
    int threads = like->worker->threads;
    status = recording.status ? recording.status : sgm_plan_make(&recording, threads, &r->plan, error);
    sgm_tape_free(recording.tape);
    if (!status)
        status = make_tapes(r, threads, error);
    if (status)
        sgm_recompute_free(r);
    return status;
}

void sgm_recompute_free(sgm_recomputation *r) {
    for (int i = 0; r->tapes && i < r->threads; i++)
        sgm_tape_free(r->tapes[i]);
    sgm_free(r->tapes);
    sgm_plan_free(&r->plan);
    *r = (sgm_recomputation){0};
}
