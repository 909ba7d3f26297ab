// SPDX-License-Identifier: Apache-2.0
/* The stepper: everything about a training step that is numbers, and nothing that is files.
 *
 * It owns the model, the optimizer's moments, the balancers, the team and all memory a step needs, planned once for the
 * largest shape the run will see. A step allocates nothing. With reference kernels its results are the same bytes for
 * any number of threads and, with exact balancing, any split into micro-batches: products continue their sums over tokens
 * in order, losses are added row by row, and the gradient's norm is a sum over fixed blocks. */
#ifndef SGM_TRAIN_STEPPER_H
#define SGM_TRAIN_STEPPER_H

#include "data/loader.h"
#include "model/transformer.h"
#include "train/run_config.h"

enum { SGM_GRADIENT_BLOCK = 65536 }; /* elements of it that one partial sum covers: fixed, so the norm is too */

typedef struct sgm_decay_range {
    int64_t begin, end;
    bool decay, frozen;
} sgm_decay_range;

typedef struct sgm_stepper {
    sgm_run_settings *settings; /* borrowed; its router settings and balancers' settings have moved in here */
    const sgm_kernels *kernels;
    sgm_team *team;
    sgm_model *model;
    sgm_real *moments; /* (optimizer.moments, elements) */
    sgm_balance_set *balance;
    sgm_decay_range *ranges;
    int64_t range_count;
    bool any_frozen, any_trained;

    /* memory of a walk */
    int64_t micro_rows, micro_batches;
    sgm_plan plan;
    sgm_tape **tapes;             /* per thread */
    sgm_recomputation *recompute; /* (layers); NULL: train.recompute is none */
    char *values, *gradients;
    sgm_packed *batch, *micro;
    float *row_loss;      /* (micro_rows) */
    double *block_square; /* one per block of the gradient */
    int64_t blocks;
    uint64_t memory_bytes;                                      /* all of it, the model included */
    void (*observe)(void *observer, const sgm_routing *record); /* of a step's records (op/ops.h); NULL: nobody */
    void *observer;

    /* position */
    int64_t step, tokens; /* done so far */
    int64_t updates;      /* steps that were not skipped */
    int64_t skipped_in_row;
    int64_t *
        experts_per_token; /* (L), here and below by routed sub-layer: at the last step done; at the start: of step 0 */

    /* of the last step */
    double loss, balance_loss, gradient_norm, learning_rate;
    bool skipped;
    sgm_load *load;                 /* (L) */
    bool entropies;                 /* of the tokens' probabilities are wanted of the next steps */
    int64_t *load_count;            /* (L, E) behind them */
    double *load_sum, *probability; /* (L, E): sums behind them, and means */
} sgm_stepper;

/* Memory is checked before it is allocated: SGM_EMEMORY with both numbers. The weights are fresh (from the seed). */
sgm_status sgm_stepper_new(sgm_run_settings *settings, sgm_stepper **stepper, sgm_error *error);
void sgm_stepper_free(sgm_stepper *stepper);

/* To be called when somebody else has changed the model's data: brings along what is derived from it. */
void sgm_stepper_weights_changed(sgm_stepper *stepper);

/* Go to a position that a checkpoint holds. */
void sgm_stepper_seek(sgm_stepper *stepper, int64_t step, int64_t tokens, int64_t updates, int64_t skipped_in_row);

/* Set experts_per_token to those of the next step, which sets them itself too: for who wants to know before. */
void sgm_stepper_plan_experts(sgm_stepper *stepper);

/* One step on the loader's next global batch (NULL: on what stands in stepper->batch). Cannot fail: a loss or gradient that
 * is not finite is a skipped step. */
void sgm_stepper_step(sgm_stepper *stepper, sgm_loader *loader);

/* Losses of at most micro_rows rows with the present weights, into stepper->row_loss; `load` (L) accumulates, may be NULL;
 * `observe` sees each layer's record as in a step, may be NULL. Neither the weights nor the balancers change. */
void sgm_stepper_score(sgm_stepper *stepper, const sgm_rows *rows, sgm_load *load,
                       void (*observe)(void *observer, const sgm_routing *record), void *observer);
/* Logits (V) of the last row. */
void sgm_stepper_logits(sgm_stepper *stepper, const sgm_rows *rows, float *logits);

#endif
