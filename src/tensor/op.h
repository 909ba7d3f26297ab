// SPDX-License-Identifier: Apache-2.0
/* Ops, the walk and the tape.
 *
 * A model is a plain C function that calls ops. Every thread of the team runs that function (one thread's run is a
 * `walk`), so the team enters once per step; each op computes this thread's share and ends in a barrier. Because every
 * thread makes the same calls in the same order, each hands out the same addresses from the same block without talking to
 * the others. Three ways to walk the same function:
 *
 *   dry       shapes only: finds the memory the walk needs and reports errors; nothing is computed
 *   compute   without a tape: inference. sgm_walk_mark / sgm_walk_release give a layer's memory back
 *   record    with a tape: outputs and saved values stay; sgm_tape_backward then runs the ops in reverse
 *
 * Gradients of activations live in a second block; a plan made once from a dry tape gives each its offset, so that the
 * memory of dead gradients is used again. Gradients of weights are the caller's: the first micro-batch of a step sets all of
 * them (sgm_walk.sets_gradients), whatever they held, the others add. So nothing is zeroed in between, and a product need not
 * read what it would add to nothing. A weight is therefore read by one op of the model, once.
 *
 * Determinism: an op's result must not depend on the number of threads (kernels.h gives the building blocks).
 * An op cannot fail while it runs: whatever can be wrong is found by `shape` in the dry walk.
 *
 * Control flow of the model may depend on computed values (skip a block, branch on a routing record) as long as every
 * thread reads the same values after a barrier: that is the door to mixtures of blocks. */
#ifndef SGM_TENSOR_OP_H
#define SGM_TENSOR_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/rng.h"
#include "base/team.h"
#include "kernel/kernels.h"
#include "sigmoe/error.h"
#include "tensor/matrix.h"

/* Packed rows of activations: (rows, cols) row-major, no padding. A value, copied freely; `data` belongs to the walk. */
typedef struct sgm_tensor {
    sgm_real *data;
    int64_t rows, cols;
    int32_t id; /* position on the tape, -1: no gradient flows here */
} sgm_tensor;

#define SGM_INIT_ZERO (-1.0)

/* A matrix of parameters: (rows, cols). Owned by the model. `gradient` is NULL in inference. */
typedef struct sgm_weight {
    char *name; /* as in the model file: "model.layers.3.mlp.gate.weight" */
    int64_t rows, cols;
    sgm_real *data;          /* NULL: only `stored` is there */
    sgm_matrix stored;       /* inference: the weight as its file holds it; stored.data NULL: `data` is all there is */
    const uint16_t *rounded; /* training in bf16: `data` rounded to bf16 (sgm_model_keep_rounded); NULL: none */
    sgm_real *gradient;
    bool decay;              /* weight decay applies */
    double init_std;         /* 0: filled with ones (norm gains); SGM_INIT_ZERO: with zeros (biases) */
    struct sgm_weight *tied; /* shares `data` with that weight; its gradient is added to that one's at the step's end */
} sgm_weight;

enum { SGM_OP_INPUTS = 4, SGM_OP_OUTPUTS = 3 };

typedef struct sgm_walk sgm_walk;
typedef struct sgm_node sgm_node;

/* One op, declared once. `args` is the op's own struct, copied onto the walk. */
typedef struct sgm_op {
    const char *name, *summary;
    int inputs, outputs;
    size_t args_bytes;
    int residual; /* this input is only added to output 0; the tape itself passes its gradient on; -1: none */
    bool root;    /* a loss: its output's gradient is 1 and backward runs although nobody reads the output */

    /* Output shapes from inputs and args (rows, cols set; data untouched). Errors name the op and both shapes. */
    sgm_status (*shape)(const sgm_node *node, sgm_tensor *outputs, sgm_error *error);
    /* Bytes kept from forward to backward / needed while running (for all threads together). NULL: 0. */
    size_t (*saved_bytes)(const sgm_node *node);
    size_t (*workspace_bytes)(const sgm_node *node, int threads, bool backward);
    /* Bytes that a part which is walked twice keeps from the first time to the second (decisions: the routing record). Where
     * a walk keeps, they are node->kept and not part of saved_bytes. NULL: 0. */
    size_t (*kept_bytes)(const sgm_node *node);
    /* Run on every thread; the walk adds the closing barrier. `backward` NULL: not differentiable. */
    void (*forward)(sgm_walk *walk, sgm_node *node);
    void (*backward)(sgm_walk *walk, sgm_node *node);

    /* Test and benchmark declaration: arguments, inputs and weights by case (run by tests/conformance/op_harness.h). */
    const struct sgm_op_cases *cases;
} sgm_op;

struct sgm_node {
    const sgm_op *op;
    const void *args;
    sgm_tensor in[SGM_OP_INPUTS], out[SGM_OP_OUTPUTS];
    void *saved;     /* op->saved_bytes, kept until the tape is reset */
    void *workspace; /* op->workspace_bytes, valid during forward or backward only */
    bool recorded;   /* a tape keeps this application: its backward pass will run */
    void *kept;      /* op->kept_bytes, where `keeps` */
    bool keeps;      /* the walk keeps decisions: this is a part that is walked again in the backward pass (ops.h) */
    bool replayed;   /* and this is that second time: node->kept holds the decisions, hooks have run */
};

/* Fixed memory of a walk, shared by the team's threads, made once from a dry walk. */
typedef struct sgm_plan {
    size_t value_bytes;     /* activations, saved values, workspace: peak of the walk */
    size_t gradient_bytes;  /* activation gradients and backward workspace */
    int32_t nodes, tensors; /* tape capacity */
    size_t args_bytes;
    size_t *gradient_offset;  /* (tensors) into the gradient block; SIZE_MAX: takes no gradient */
    bool *gradient_shared;    /* (tensors) a residual's gradient lives in the memory of the sum's gradient */
    size_t *workspace_offset; /* (nodes) of the backward workspace, in the gradient block */
} sgm_plan;

/* One thread's walk. Make one per thread; they share `values` and `gradients`. */
struct sgm_walk {
    sgm_worker *worker;
    const sgm_kernels *kernels;
    sgm_compute compute; /* of the products in the layers and the head; the router is always f32 */
    bool sets_gradients; /* of weights, those without a single row too; otherwise it adds to them */
    bool dry;
    char *values;          /* block of plan->value_bytes; NULL in a dry walk */
    size_t used, peak;     /* bytes of it */
    struct sgm_tape *tape; /* NULL: compute only */
    /* Compute only: output 0 of an op with a residual takes over the residual's memory, as the caller has no more use for
     * that input. Ignored while recording. */
    bool in_place;
    bool keeps, replays; /* of its nodes */
    char *kept;          /* memory for op->kept_bytes */
    size_t kept_used;
    sgm_status status; /* first failure (dry walks only); later ops do nothing */
    sgm_error *error;
};

typedef struct sgm_tape sgm_tape;

/* Memory from the walk's block, the same address on every thread; uninitialised; NULL in a dry walk. */
void *sgm_walk_alloc(sgm_walk *walk, size_t bytes);
size_t sgm_walk_mark(const sgm_walk *walk);
void sgm_walk_release(sgm_walk *walk, size_t mark);                     /* ignored while recording */
sgm_tensor sgm_walk_tensor(sgm_walk *walk, int64_t rows, int64_t cols); /* an input, with no gradient */

/* Apply an op: shape, allocate, run, barrier, record. Outputs go to `out` (op->outputs of them). */
void sgm_apply(sgm_walk *walk, const sgm_op *op, const void *args, const sgm_tensor *in, sgm_tensor *out);

/* Tapes: one per thread. Without a plan it grows, for dry walks; one with a plan has fixed capacity and never allocates
 * after this. */
sgm_status sgm_tape_new(const sgm_plan *plan /* NULL: growing */, sgm_tape **tape, sgm_error *error);
void sgm_tape_free(sgm_tape *tape);
void sgm_tape_reset(sgm_tape *tape);
int32_t sgm_tape_length(const sgm_tape *tape);
const sgm_node *sgm_tape_node(const sgm_tape *tape, int32_t index);

/* From a dry walk with a growing tape, `threads` wide. */
sgm_status sgm_plan_make(const sgm_walk *dry, int threads, sgm_plan *plan, sgm_error *error);
void sgm_plan_free(sgm_plan *plan);

/* Run the tape backwards. `gradients` is the block of plan->gradient_bytes shared by the team. Root ops (those whose
 * output nobody reads, i.e. the loss) start it. All threads call it together. */
void sgm_tape_backward(sgm_walk *walk, const sgm_plan *plan, char *gradients);

/* Inside op->backward: the gradient of output i (read; NULL when nobody used that output) and of input i (write).
 * *add says whether to add to it or to set it; NULL when that input takes no gradient. */
const sgm_real *sgm_gradient_out(const sgm_walk *walk, const sgm_node *node, int i);
sgm_real *sgm_gradient_in(sgm_walk *walk, const sgm_node *node, int i, bool *add);

/* ---- what an op declares for its tests and benchmark ---------------------------------------------------------- */

/* Values an op reads and the gradients its backward pass must produce for them. */
typedef struct sgm_op_variable {
    const char *name;
    sgm_real *data, *gradient; /* gradient NULL: not checked (an input's gradient is found through the tape) */
    int64_t count;
} sgm_op_variable;

typedef struct sgm_op_case {
    const char *name;
    void *args; /* heap, op->args_bytes */
    int64_t rows[SGM_OP_INPUTS], cols[SGM_OP_INPUTS];
    double input_scale;            /* inputs are normal deviates times this; 0 = 1 */
    sgm_op_variable variables[16]; /* weights */
    int variable_count;
    double flops;  /* forward */
    void *context; /* freed by `free` */
} sgm_op_case;

typedef struct sgm_op_cases {
    /* Build case `index` from the seed; SGM_ENOTFOUND past the last. `benchmark`: build the big one instead. */
    sgm_status (*make)(int index, bool benchmark, uint64_t seed, sgm_op_case *op_case, sgm_error *error);
    void (*free)(sgm_op_case *op_case);
} sgm_op_cases;

#endif
