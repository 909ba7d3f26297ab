// SPDX-License-Identifier: Apache-2.0
/* Optimizers: how a gradient changes a weight. One file and one line in list.h each.
 *
 * An optimizer sees flat runs of elements: the trainer cuts the model's one block of weights into pieces and hands them to
 * the threads in any order, so an element's new value may depend on its own gradient, weight and moments and on nothing
 * else. Clipping, the schedule and the guard against non-finite gradients are the trainer's. */
#ifndef SGM_OPTIM_OPTIMIZER_H
#define SGM_OPTIM_OPTIMIZER_H

#include "base/real.h"
#include "kernel/kernels.h"
#include "sigmoe/registry.h"

/* One update, the same for every element. */
typedef struct sgm_optimizer_step {
    const void *settings;
    const sgm_kernels *kernels;
    double learning_rate;  /* optimizer.learning_rate times the schedule's factor */
    double gradient_scale; /* applied to the gradient first: clipping */
    int64_t update;        /* 1 for the first; skipped steps do not count */
} sgm_optimizer_step;

typedef struct sgm_optimizer_plugin {
    sgm_plugin plugin; /* first: the registry sees only this */
    int moments;       /* values kept per element between steps; zero at the start, saved in checkpoints */
    /* Update `count` elements. `decay`: weight decay applies to them. Moment m of element i is moments[m · stride + i]. */
    void (*update)(const sgm_optimizer_step *step, int64_t count, bool decay, const sgm_real *gradient,
                   sgm_real *weight, sgm_real *moments, int64_t stride);
} sgm_optimizer_plugin;

const sgm_optimizer_plugin *sgm_optimizer_at(size_t index); /* NULL past the end */
const sgm_optimizer_plugin *sgm_optimizer_find(const char *name, sgm_error *error);

#endif
