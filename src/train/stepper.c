// SPDX-License-Identifier: Apache-2.0
/* A training step: count if needed, forward and backward per micro-batch, norm, clip, update; one entry of the team. */
#include "train/stepper.h"

#include <math.h>
#include <string.h>

#include "tensor/products.h"

/* ---- one step, on every thread -------------------------------------------------------------------------------- */

typedef struct step_work {
    sgm_stepper *stepper;
    sgm_pass pass;
    bool count; /* a counting pass comes first */
    double sum; /* of row losses, in nats */
    sgm_optimizer_step optimizer;
    bool finite;
} step_work;

static sgm_walk walk_of(sgm_stepper *stepper, sgm_worker *worker, bool record, bool sets_gradients) {
    sgm_tape *tape = record ? stepper->tapes[worker->thread] : NULL;
    if (tape)
        sgm_tape_reset(tape);
    return (sgm_walk){.worker = worker,
                      .kernels = stepper->kernels,
                      .compute = (sgm_compute)stepper->settings->train.compute,
                      .sets_gradients = sets_gradients,
                      .values = stepper->values,
                      .tape = tape};
}

/* Micro-batch `index` of the global batch into stepper->micro. */
static void slice(sgm_stepper *stepper, int64_t index) {
    int64_t windows = stepper->micro_rows / stepper->settings->model.context;
    int64_t first = index * windows, all = stepper->batch->rows.sequence_count;
    sgm_packed_slice(stepper->batch, first, all - first < windows ? all - first : windows, stepper->micro);
}

static void count_pass(sgm_worker *worker, step_work *work) {
    sgm_stepper *stepper = work->stepper;
    sgm_pass pass = work->pass;
    pass.load = NULL;
    pass.observe = NULL;
    for (int64_t i = 0; i < stepper->micro_batches; i++) {
        if (worker->thread == 0) {
            if (i == 0)
                sgm_balance_set_begin_pass(stepper->balance, SGM_PASS_COUNT);
            slice(stepper, i);
        }
        sgm_barrier(worker);
        sgm_walk walk = walk_of(stepper, worker, false, false);
        sgm_transformer_route(&walk, stepper->model, &stepper->micro->rows, &pass);
        sgm_barrier(worker);
    }
}

static void train_pass(sgm_worker *worker, step_work *work) {
    sgm_stepper *stepper = work->stepper;
    for (int64_t i = 0; i < stepper->micro_batches; i++) {
        if (worker->thread == 0) {
            if (i == 0)
                sgm_balance_set_begin_pass(stepper->balance, SGM_PASS_TRAIN);
            slice(stepper, i);
        }
        sgm_barrier(worker);
        sgm_walk walk = walk_of(stepper, worker, true, i == 0);
        sgm_transformer_loss(&walk, stepper->model, &stepper->micro->rows, &work->pass);
        sgm_tape_backward(&walk, &stepper->plan, stepper->gradients);
        if (worker->thread == 0)
            for (int64_t row = 0; row < stepper->micro->rows.rows; row++)
                work->sum += (double)stepper->row_loss[row];
        sgm_barrier(worker);
    }
}

/* Block `index` of the flat arrays. */
static int64_t block_of(const sgm_stepper *stepper, int64_t index, int64_t *begin) {
    *begin = index * SGM_GRADIENT_BLOCK;
    int64_t left = stepper->model->elements - *begin;
    return left < SGM_GRADIENT_BLOCK ? left : SGM_GRADIENT_BLOCK;
}

/* Frozen weights have no gradient: neither the norm nor the optimizer sees one. */
static void clear_frozen(const sgm_stepper *stepper, int64_t begin, int64_t end) {
    for (int64_t i = 0; stepper->any_frozen && i < stepper->range_count && stepper->ranges[i].begin < end; i++) {
        const sgm_decay_range *range = &stepper->ranges[i];
        int64_t from = range->begin > begin ? range->begin : begin, to = range->end < end ? range->end : end;
        if (range->frozen && to > from)
            memset(stepper->model->gradients + from, 0, (size_t)(to - from) * sizeof(sgm_real));
    }
}

/* The tied head's gradient joins the embedding's; then Σ g² per block. */
static void measure(sgm_worker *worker, step_work *work) {
    sgm_stepper *stepper = work->stepper;
    sgm_model *model = stepper->model;
    int64_t begin, end;
    if (model->head_gradient) {
        sgm_split(worker, model->head->rows * model->head->cols, 16, &begin, &end);
        if (end > begin)
            stepper->kernels->axpy(end - begin, 1, model->head_gradient + begin, model->embedding->gradient + begin);
        sgm_barrier(worker);
    }
    for (int64_t i; (i = sgm_task(worker)) < stepper->blocks;) {
        int64_t count = block_of(stepper, i, &begin);
        clear_frozen(stepper, begin, begin + count);
        stepper->block_square[i] = stepper->kernels->sum_squares(count, model->gradients + begin);
    }
    sgm_barrier(worker);
}

/* Thread 0: the norm, whether the step counts, and what the optimizer is told. */
static void decide(step_work *work) {
    sgm_stepper *stepper = work->stepper;
    double square = 0;
    for (int64_t i = 0; i < stepper->blocks; i++)
        square += stepper->block_square[i];
    stepper->gradient_norm = sqrt(square);
    stepper->loss = work->sum * work->pass.loss_scale;
    work->finite = isfinite(stepper->loss) && isfinite(stepper->gradient_norm);
    double clip = stepper->settings->train.clip;
    work->optimizer = (sgm_optimizer_step){
        .settings = stepper->settings->optimizer_settings,
        .kernels = stepper->kernels,
        .learning_rate = stepper->learning_rate,
        .gradient_scale = clip > 0 && stepper->gradient_norm > clip ? clip / stepper->gradient_norm : 1,
        .update = stepper->updates + 1,
    };
}

/* Training in bf16: its copy of elements [begin, begin + count) of the weights. */
static void round_weights(const sgm_stepper *stepper, int64_t begin, int64_t count) {
    const sgm_model *model = stepper->model;
    if (model->rounded)
        stepper->kernels->bf16_round(count, model->data + begin, model->rounded + begin);
}

/* Update the weights block by block. The gradients stay as they are: the next step sets them. */
static void update(sgm_worker *worker, step_work *work) {
    sgm_stepper *stepper = work->stepper;
    sgm_model *model = stepper->model;
    int64_t begin, end;
    for (int64_t i; (i = sgm_task(worker)) < stepper->blocks;) {
        int64_t count = block_of(stepper, i, &begin), range = 0;
        end = begin + count;
        while (stepper->ranges[range].end <= begin)
            range++;
        for (int64_t at = begin; work->finite && at < end; range++) {
            int64_t stop = stepper->ranges[range].end < end ? stepper->ranges[range].end : end;
            if (!stepper->ranges[range].frozen) {
                stepper->settings->optimizer->update(&work->optimizer, stop - at, stepper->ranges[range].decay,
                                                     model->gradients + at, model->data + at, stepper->moments + at,
                                                     model->elements);
                round_weights(stepper, at, stop - at); /* while they are in the cache */
            }
            at = stop;
        }
    }
}

static void step_on_team(sgm_worker *worker, void *argument) {
    step_work *work = argument;
    if (work->count)
        count_pass(worker, work);
    train_pass(worker, work);
    measure(worker, work);
    if (worker->thread == 0)
        decide(work);
    sgm_barrier(worker);
    update(worker, work);
}

static void round_on_team(sgm_worker *worker, void *argument) {
    const sgm_stepper *stepper = argument;
    int64_t begin;
    for (int64_t i; (i = sgm_task(worker)) < stepper->blocks;) {
        int64_t count = block_of(stepper, i, &begin);
        round_weights(stepper, begin, count);
    }
}

void sgm_stepper_weights_changed(sgm_stepper *stepper) {
    if (stepper->model->rounded)
        sgm_team_run(stepper->team, round_on_team, stepper);
}

/* ---- a step --------------------------------------------------------------------------------------------------- */

static void set_experts_per_token(sgm_stepper *stepper, int64_t step) {
    const sgm_run_settings *settings = stepper->settings;
    const sgm_sparsity *sparsity = &settings->sparsity;
    int64_t attention_experts = settings->model.attention_experts;
    for (int64_t r = 0; r < sgm_model_routed(&settings->model); r++)
        stepper->experts_per_token[r] =
            sgm_routed_is_attention(attention_experts, r) /* which no schedule changes */
                ? settings->model.attention_experts_per_token
                : sparsity->plugin->experts_per_token(sparsity->settings, sgm_routed_layer(attention_experts, r),
                                                      settings->model.layers, settings->model.experts,
                                                      settings->model.experts_per_token, step, settings->train.steps);
}

void sgm_stepper_plan_experts(sgm_stepper *stepper) {
    set_experts_per_token(stepper, stepper->step);
}

void sgm_stepper_seek(sgm_stepper *stepper, int64_t step, int64_t tokens, int64_t updates, int64_t skipped_in_row) {
    stepper->step = step;
    stepper->tokens = tokens;
    stepper->updates = updates;
    stepper->skipped_in_row = skipped_in_row;
    set_experts_per_token(stepper, step > 0 ? step - 1 : 0);
}

static void clear_load(sgm_stepper *stepper) {
    size_t count = (size_t)sgm_model_routed_numbers(&stepper->settings->model);
    memset(stepper->load_count, 0, count * sizeof *stepper->load_count);
    memset(stepper->load_sum, 0, count * sizeof *stepper->load_sum);
    for (int64_t layer = 0; layer < sgm_model_routed(&stepper->settings->model); layer++) {
        stepper->load[layer].tokens = stepper->load[layer].computed = 0;
        stepper->load[layer].token_entropy = stepper->load[layer].token_entropies = 0;
        stepper->load[layer].entropies = stepper->entropies;
    }
}

void sgm_stepper_step(sgm_stepper *stepper, sgm_loader *loader) {
    const sgm_run_settings *settings = stepper->settings;
    int64_t tokens = settings->data.tokens_per_step, layers = sgm_model_routed(&settings->model);
    int64_t stride = sgm_model_routed_stride(&settings->model);
    set_experts_per_token(stepper, stepper->step);
    clear_load(stepper);
    if (loader)
        sgm_loader_next(loader, tokens / settings->model.context, stepper->batch);
    int64_t targets = stepper->batch->target_count;
    step_work work = {
        .stepper = stepper,
        .pass = {.experts_per_token = stepper->experts_per_token,
                 .balance = stepper->balance,
                 .load = stepper->load,
                 .together = true,
                 .recompute = stepper->recompute,
                 .observe = stepper->observe,
                 .observer = stepper->observer,
                 .loss_scale = targets > 0 ? 1 / (double)targets : 0,
                 .row_loss = stepper->row_loss},
    };
    stepper->learning_rate = settings->learning_rate * settings->schedule->factor(settings->schedule_settings,
                                                                                  stepper->step, settings->train.steps);
    sgm_balance_set_seek(stepper->balance, stepper->step, settings->train.steps, (uint64_t)settings->train.seed);
    sgm_balance_set_begin_step(stepper->balance, tokens, stepper->experts_per_token);
    work.count = sgm_balance_set_needs_count_pass(stepper->balance, stepper->micro_batches);
    sgm_team_run(stepper->team, step_on_team, &work);

    stepper->skipped = !work.finite;
    if (work.finite) {
        sgm_balance_set_end_step(stepper->balance);
        stepper->balance_loss = sgm_balance_set_total(stepper->balance);
        stepper->updates++;
        stepper->skipped_in_row = 0;
    } else {
        sgm_balance_set_cancel_step(stepper->balance);
        stepper->balance_loss = NAN;
        stepper->skipped_in_row++;
    }
    stepper->step++;
    stepper->tokens += tokens;
    for (int64_t layer = 0; layer < layers; layer++)
        for (int64_t e = 0; e < stepper->load[layer].experts; e++) {
            double rows = stepper->load[layer].tokens ? (double)stepper->load[layer].tokens : 1;
            stepper->probability[layer * stride + e] = stepper->load[layer].probability[e] / rows;
        }
}

/* ---- scoring --------------------------------------------------------------------------------------------------- */

typedef struct score_work {
    sgm_stepper *stepper;
    const sgm_rows *rows;
    sgm_pass pass;
    float *logits; /* NULL: losses */
} score_work;

static void score_on_team(sgm_worker *worker, void *argument) {
    score_work *work = argument;
    sgm_stepper *stepper = work->stepper;
    sgm_walk walk = walk_of(stepper, worker, false, false);
    if (!work->logits) {
        sgm_transformer_loss(&walk, stepper->model, work->rows, &work->pass);
        return;
    }
    sgm_tensor hidden = sgm_transformer_hidden(&walk, stepper->model, work->rows, &work->pass);
    const sgm_weight *head = stepper->model->head;
    int64_t begin, end, D = head->cols;
    sgm_split(worker, head->rows, 16, &begin, &end);
    if (end > begin)
        sgm_product_kernel(walk.kernels, SGM_NT, walk.compute)(1, end - begin, D, hidden.data + (hidden.rows - 1) * D,
                                                               D, head->data + begin * D, D, work->logits + begin,
                                                               head->rows, false);
}

static void score(sgm_stepper *stepper, const sgm_rows *rows, sgm_load *load,
                  void (*observe)(void *observer, const sgm_routing *record), void *observer, float *logits) {
    score_work work = {
        .stepper = stepper,
        .rows = rows,
        .pass = {.experts_per_token = stepper->experts_per_token,
                 .balance = stepper->balance, /* outside a step it only lends its selection bias */
                 .load = load,
                 .observe = observe,
                 .observer = observer,
                 .loss_scale = 1,
                 .row_loss = stepper->row_loss},
        .logits = logits,
    };
    sgm_team_run(stepper->team, score_on_team, &work);
}

void sgm_stepper_score(sgm_stepper *stepper, const sgm_rows *rows, sgm_load *load,
                       void (*observe)(void *observer, const sgm_routing *record), void *observer) {
    score(stepper, rows, load, observe, observer, NULL);
}

void sgm_stepper_logits(sgm_stepper *stepper, const sgm_rows *rows, float *logits) {
    score(stepper, rows, NULL, NULL, NULL, logits);
}
