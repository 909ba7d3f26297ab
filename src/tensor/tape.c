// SPDX-License-Identifier: Apache-2.0
/* The walk and the tape: apply ops, record them, plan the memory of gradients, run backwards.
 *
 * Every thread keeps its own tape. They are equal, because every thread makes the same calls, so nothing here is shared
 * but the two memory blocks. A growing tape (dry walks) allocates; a planned one never does. */
#include "tensor/op.h"

#include <string.h>

#include "base/memory.h"

typedef struct sgm_shape {
    int64_t rows, cols;
} sgm_shape;

struct sgm_tape {
    bool growing;
    sgm_node *nodes;
    int32_t count, capacity;
    sgm_shape *shapes; /* per tensor id */
    int32_t tensors, tensor_capacity;
    char *args; /* planned: one block; growing: each node's args is a block of its own */
    size_t args_used, args_capacity;
    /* backward */
    bool *touched; /* per tensor id: its gradient holds something */
    const sgm_plan *plan;
    char *gradients;
};

/* ---- memory of the walk ------------------------------------------------------------------------------------------ */

void *sgm_walk_alloc(sgm_walk *walk, size_t bytes) {
    size_t at = walk->used;
    if (bytes > SIZE_MAX / 4 - at) { /* no sum of sizes wraps around: the dry walk says so instead */
        if (!walk->status)
            walk->status = sgm_fail(walk->error, SGM_EMEMORY, "use smaller micro-batches or a smaller model",
                                    "one pass over the batch needs more memory than any machine has");
        return NULL;
    }
    walk->used += sgm_round_up(bytes);
    if (walk->used > walk->peak)
        walk->peak = walk->used;
    return walk->dry ? NULL : walk->values + at;
}

size_t sgm_walk_mark(const sgm_walk *walk) {
    return walk->used;
}

void sgm_walk_release(sgm_walk *walk, size_t mark) {
    if (!walk->tape)
        walk->used = mark;
}

static size_t tensor_bytes(int64_t rows, int64_t cols) {
    return (size_t)rows * (size_t)cols * sizeof(sgm_real);
}

sgm_tensor sgm_walk_tensor(sgm_walk *walk, int64_t rows, int64_t cols) {
    return (sgm_tensor){.data = sgm_walk_alloc(walk, tensor_bytes(rows, cols)), .rows = rows, .cols = cols, .id = -1};
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

sgm_status sgm_tape_new(const sgm_plan *plan, sgm_tape **out, sgm_error *error) {
    sgm_tape *tape = sgm_alloc(sizeof *tape);
    if (!tape)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a tape");
    tape->growing = !plan;
    if (plan) {
        tape->capacity = plan->nodes;
        tape->tensor_capacity = plan->tensors;
        tape->args_capacity = plan->args_bytes;
        tape->nodes = sgm_alloc((size_t)plan->nodes * sizeof *tape->nodes);
        tape->shapes = sgm_alloc((size_t)plan->tensors * sizeof *tape->shapes);
        tape->touched = sgm_alloc((size_t)plan->tensors * sizeof *tape->touched);
        tape->args = sgm_alloc(plan->args_bytes);
        if (!tape->nodes || !tape->shapes || !tape->touched || !tape->args) {
            sgm_tape_free(tape);
            return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a tape of %d ops", (int)plan->nodes);
        }
    }
    *out = tape;
    return SGM_OK;
}

void sgm_tape_reset(sgm_tape *tape) {
    if (tape->growing)
        for (int32_t i = 0; i < tape->count; i++)
            sgm_free((void *)tape->nodes[i].args);
    tape->count = 0;
    tape->tensors = 0;
    tape->args_used = 0;
}

void sgm_tape_free(sgm_tape *tape) {
    if (!tape)
        return;
    sgm_tape_reset(tape);
    sgm_free(tape->nodes);
    sgm_free(tape->shapes);
    sgm_free(tape->touched);
    sgm_free(tape->args);
    sgm_free(tape);
}

int32_t sgm_tape_length(const sgm_tape *tape) {
    return tape->count;
}

const sgm_node *sgm_tape_node(const sgm_tape *tape, int32_t index) {
    return &tape->nodes[index];
}

static bool grow(void **block, size_t item, int32_t *capacity, int32_t needed) {
    if (needed <= *capacity)
        return true;
    int32_t larger = *capacity ? *capacity * 2 : 64;
    void *fresh = sgm_resize(*block, (size_t)*capacity * item, (size_t)larger * item);
    if (!fresh)
        return false;
    *block = fresh;
    *capacity = larger;
    return true;
}

/* Append the node; its outputs get ids. False: no memory (growing), or a walk that differs from its plan (a bug). */
static bool record(sgm_tape *tape, sgm_node *node) {
    int32_t outputs = node->op->outputs;
    size_t bytes = sgm_round_up(node->op->args_bytes);
    void *args;
    if (tape->growing) {
        if (!grow((void **)&tape->nodes, sizeof *tape->nodes, &tape->capacity, tape->count + 1) ||
            !grow((void **)&tape->shapes, sizeof *tape->shapes, &tape->tensor_capacity, tape->tensors + outputs))
            return false;
        args = sgm_alloc(bytes);
        if (!args)
            return false;
    } else {
        if (tape->count >= tape->capacity || tape->tensors + outputs > tape->tensor_capacity ||
            tape->args_used + bytes > tape->args_capacity)
            return false;
        args = tape->args + tape->args_used;
    }
    tape->args_used += bytes;
    if (node->op->args_bytes)
        memcpy(args, node->args, node->op->args_bytes);
    node->args = args;
    for (int i = 0; i < outputs; i++) {
        node->out[i].id = tape->tensors;
        tape->shapes[tape->tensors++] = (sgm_shape){node->out[i].rows, node->out[i].cols};
    }
    tape->nodes[tape->count++] = *node;
    return true;
}

void sgm_apply(sgm_walk *walk, const sgm_op *op, const void *args, const sgm_tensor *in, sgm_tensor *out) {
    sgm_node node = {
        .op = op, .args = args, .recorded = walk->tape != NULL, .keeps = walk->keeps, .replayed = walk->replays};
    for (int i = 0; i < op->inputs; i++)
        node.in[i] = in[i];
    for (int i = 0; i < op->outputs; i++)
        node.out[i].id = out[i].id = -1;
    if (!walk->status)
        walk->status = op->shape(&node, node.out, walk->error);
    if (walk->status)
        return;
    bool in_place = walk->in_place && !walk->tape && op->residual >= 0;
    for (int i = 0; i < op->outputs; i++)
        node.out[i].data = i == 0 && in_place ? in[op->residual].data
                                              : sgm_walk_alloc(walk, tensor_bytes(node.out[i].rows, node.out[i].cols));
    if (walk->keeps && op->kept_bytes) {
        node.kept = walk->dry ? NULL : walk->kept + walk->kept_used;
        walk->kept_used += sgm_round_up(op->kept_bytes(&node));
    }
    if (walk->tape && op->saved_bytes)
        node.saved = sgm_walk_alloc(walk, op->saved_bytes(&node));
    sgm_node *kept = &node;
    if (walk->tape) {
        if (!record(walk->tape, &node)) {
            walk->status = sgm_fail(walk->error, walk->tape->growing ? SGM_EMEMORY : SGM_EINTERNAL, NULL,
                                    "the tape has no room for op %s", op->name);
            return;
        }
        kept = &walk->tape->nodes[walk->tape->count - 1];
    }
    size_t mark = walk->used;
    int threads = walk->worker ? walk->worker->threads : 1;
    if (op->workspace_bytes)
        kept->workspace = sgm_walk_alloc(walk, op->workspace_bytes(kept, threads, false));
    if (!walk->dry) {
        op->forward(walk, kept);
        sgm_barrier(walk->worker);
    }
    walk->used = mark;
    for (int i = 0; i < op->outputs; i++)
        out[i] = kept->out[i];
}

/* ---- the plan of gradients --------------------------------------------------------------------------------------- */

/* First fit over the live ranges, kept sorted by offset. */
typedef struct range {
    size_t at, bytes;
} range;
typedef struct ranges {
    range *items;
    int32_t count, capacity;
    size_t peak;
} ranges;

static bool ranges_take(ranges *live, size_t bytes, size_t *at) {
    bytes = sgm_round_up(bytes);
    if (!grow((void **)&live->items, sizeof *live->items, &live->capacity, live->count + 1))
        return false;
    size_t end = 0;
    int32_t i = 0;
    while (i < live->count && live->items[i].at - end < bytes) {
        end = live->items[i].at + live->items[i].bytes;
        i++;
    }
    memmove(&live->items[i + 1], &live->items[i], (size_t)(live->count - i) * sizeof *live->items);
    live->items[i] = (range){end, bytes};
    live->count++;
    if (end + bytes > live->peak)
        live->peak = end + bytes;
    *at = end;
    return true;
}

static void ranges_give(ranges *live, size_t at, size_t bytes) {
    bytes = sgm_round_up(bytes);
    for (int32_t i = 0; i < live->count; i++)
        if (live->items[i].at == at && live->items[i].bytes == bytes) {
            live->count--;
            memmove(&live->items[i], &live->items[i + 1], (size_t)(live->count - i) * sizeof *live->items);
            return;
        }
}

static bool takes_part(const sgm_node *node, const sgm_plan *plan) {
    if (!node->op->backward)
        return false;
    for (int i = 0; i < node->op->outputs; i++)
        if (plan->gradient_offset[node->out[i].id] != SIZE_MAX)
            return true;
    return node->op->root;
}

static bool plan_node(const sgm_tape *tape, int32_t index, int threads, sgm_plan *plan, ranges *live) {
    const sgm_node *node = &tape->nodes[index];
    const sgm_op *op = node->op;
    if (!takes_part(node, plan))
        return true;
    bool passed_on = false; /* output 0's gradient becomes the residual's */
    for (int i = 0; i < op->inputs; i++) {
        int32_t id = node->in[i].id;
        if (id < 0 || plan->gradient_offset[id] != SIZE_MAX)
            continue;
        if (i == op->residual) {
            plan->gradient_offset[id] = plan->gradient_offset[node->out[0].id];
            plan->gradient_shared[id] = true;
            passed_on = true;
        } else if (!ranges_take(live, tensor_bytes(tape->shapes[id].rows, tape->shapes[id].cols),
                                &plan->gradient_offset[id])) {
            return false;
        }
    }
    size_t workspace = op->workspace_bytes ? op->workspace_bytes(node, threads, true) : 0;
    if (workspace) {
        if (!ranges_take(live, workspace, &plan->workspace_offset[index]))
            return false;
        ranges_give(live, plan->workspace_offset[index], workspace);
    }
    for (int i = 0; i < op->outputs; i++) {
        int32_t id = node->out[i].id;
        if (plan->gradient_offset[id] != SIZE_MAX && !(i == 0 && passed_on))
            ranges_give(live, plan->gradient_offset[id], tensor_bytes(tape->shapes[id].rows, tape->shapes[id].cols));
    }
    return true;
}

sgm_status sgm_plan_make(const sgm_walk *dry, int threads, sgm_plan *plan, sgm_error *error) {
    const sgm_tape *tape = dry->tape;
    *plan = (sgm_plan){.value_bytes = dry->peak};
    if (!tape)
        return SGM_OK;
    plan->nodes = tape->count;
    plan->tensors = tape->tensors;
    plan->args_bytes = tape->args_used;
    plan->gradient_offset = sgm_alloc((size_t)tape->tensors * sizeof(size_t));
    plan->gradient_shared = sgm_alloc((size_t)tape->tensors * sizeof(bool));
    plan->workspace_offset = sgm_alloc((size_t)tape->count * sizeof(size_t));
    ranges live = {0};
    bool fine = plan->gradient_offset && plan->gradient_shared && plan->workspace_offset;
    for (int32_t id = 0; fine && id < tape->tensors; id++)
        plan->gradient_offset[id] = SIZE_MAX;
    for (int32_t i = tape->count - 1; fine && i >= 0; i--)
        fine = plan_node(tape, i, threads, plan, &live);
    plan->gradient_bytes = live.peak;
    sgm_free(live.items);
    if (!fine) {
        sgm_plan_free(plan);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to plan %d ops", (int)tape->count);
    }
    return SGM_OK;
}

void sgm_plan_free(sgm_plan *plan) {
    sgm_free(plan->gradient_offset);
    sgm_free(plan->gradient_shared);
    sgm_free(plan->workspace_offset);
    *plan = (sgm_plan){0};
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

static sgm_real *gradient_of(const sgm_tape *tape, int32_t id) {
    if (id < 0 || tape->plan->gradient_offset[id] == SIZE_MAX)
        return NULL;
    return (sgm_real *)(void *)(tape->gradients + tape->plan->gradient_offset[id]);
}

const sgm_real *sgm_gradient_out(const sgm_walk *walk, const sgm_node *node, int i) {
    return gradient_of(walk->tape, node->out[i].id);
}

sgm_real *sgm_gradient_in(sgm_walk *walk, const sgm_node *node, int i, bool *add) {
    int32_t id = node->in[i].id;
    sgm_real *gradient = gradient_of(walk->tape, id);
    if (!gradient)
        return NULL;
    *add = walk->tape->touched[id];
    walk->tape->touched[id] = true;
    return gradient;
}

/* d residual = d output: nothing to do where they share memory, else an addition (or a copy). */
static void pass_residual(sgm_walk *walk, const sgm_node *node) {
    int i = node->op->residual;
    const sgm_tape *tape = walk->tape;
    sgm_real *to = gradient_of(tape, node->in[i].id);
    const sgm_real *from = gradient_of(tape, node->out[0].id);
    if (!to || !from)
        return;
    bool add = false;
    sgm_gradient_in(walk, node, i, &add);
    if (to == from)
        return;
    int64_t begin, end;
    sgm_split(walk->worker, node->out[0].rows * node->out[0].cols, 64, &begin, &end);
    if (add)
        walk->kernels->axpy(end - begin, 1, from + begin, to + begin);
    else if (end > begin)
        memcpy(to + begin, from + begin, (size_t)(end - begin) * sizeof(sgm_real));
    sgm_barrier(walk->worker); /* the op itself may add to the same gradient through another input */
}

void sgm_tape_backward(sgm_walk *walk, const sgm_plan *plan, char *gradients) {
    sgm_tape *tape = walk->tape;
    tape->plan = plan;
    tape->gradients = gradients;
    memset(tape->touched, 0, (size_t)tape->tensors * sizeof *tape->touched);
    for (int32_t i = tape->count - 1; i >= 0; i--) {
        sgm_node *node = &tape->nodes[i];
        if (!takes_part(node, plan))
            continue;
        if (node->op->residual >= 0)
            pass_residual(walk, node);
        node->workspace = gradients + plan->workspace_offset[i];
        node->op->backward(walk, node);
        sgm_barrier(walk->worker);
    }
}
