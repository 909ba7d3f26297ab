// SPDX-License-Identifier: Apache-2.0
/* A training step: count if needed, forward and backward per micro-batch, norm, clip, update; one entry of the team. */
#include "train/stepper.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "tensor/products.h"
#include "train/freeze.h"

enum { BLOCK = 65536 }; /* elements of the gradient that one partial sum covers: fixed, so the norm is too */

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
    *begin = index * BLOCK;
    int64_t left = stepper->model->elements - *begin;
    return left < BLOCK ? left : BLOCK;
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

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* The runs of elements that are updated alike, in order; counts them where stepper->ranges is not there yet. The padding behind
 * a weight is zero and stays zero, in whatever run it is. */
static int64_t list_ranges(sgm_stepper *stepper, const char *patterns) {
    const sgm_model *model = stepper->model;
    sgm_decay_range last = {0};
    int64_t count = 0;
    for (int64_t i = 0; i < model->weight_count; i++) {
        const sgm_weight *weight = &model->weights[i];
        for (int64_t row = 0, end; row < weight->rows; row = end) {
            bool frozen = sgm_freeze_run(patterns, weight, row, &end);
            int64_t begin = weight->data - model->data + row * weight->cols;
            stepper->any_frozen = stepper->any_frozen || frozen;
            stepper->any_trained = stepper->any_trained || !frozen;
            if (count > 0 && last.decay == weight->decay && last.frozen == frozen)
                continue;
            if (count > 0 && stepper->ranges)
                stepper->ranges[count - 1].end = begin;
            last = (sgm_decay_range){begin, model->elements, weight->decay, frozen};
            if (stepper->ranges)
                stepper->ranges[count] = last;
            count++;
        }
    }
    return count;
}

/* A bias on selection is trained without a weight. */
static bool has_bias(const sgm_run_settings *settings) {
    for (size_t i = 0; i < settings->balance_count; i++)
        if (settings->balance[i].plugin->selection_bias)
            return true;
    return false;
}

static sgm_status make_ranges(sgm_stepper *stepper, sgm_error *error) {
    const char *patterns = stepper->settings->train.freeze ? stepper->settings->train.freeze : "";
    sgm_status status = sgm_freeze_check(patterns, stepper->model, error);
    if (status)
        return status;
    stepper->range_count = list_ranges(stepper, patterns);
    if (!stepper->any_trained && !has_bias(stepper->settings))
        return sgm_fail(
            error, SGM_EARGUMENT, "leave out what is to be trained; `sigmoe eval` only measures a model",
            "train.freeze: '%.200s' freezes every weight, and no balancer has a bias: nothing would be trained",
            patterns);
    stepper->ranges = sgm_alloc((size_t)stepper->range_count * sizeof *stepper->ranges);
    if (!stepper->ranges)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the optimizer's list of weights");
    (void)list_ranges(stepper, patterns);
    return SGM_OK;
}

/* Rows as long and as many as a micro-batch ever has, for the dry walk. */
static void largest_batch(sgm_packed *packed, int64_t rows, int64_t context) {
    int64_t sequences = rows / context;
    for (int64_t i = 0; i < sequences; i++) {
        packed->segments[i] = (sgm_segment){.row = i * context, .rows = context};
        packed->sequence_start[i] = i * context;
    }
    packed->sequence_start[sequences] = rows;
    packed->rows = (sgm_rows){.rows = rows,
                              .tokens = packed->tokens,
                              .positions = packed->positions,
                              .targets = packed->targets,
                              .segments = packed->segments,
                              .segment_count = sequences,
                              .sequence_start = packed->sequence_start,
                              .sequence_count = sequences};
}

static sgm_status plan_recompute(sgm_stepper *stepper, const sgm_walk *like, const sgm_pass *pass, sgm_error *error) {
    stepper->recompute = sgm_alloc((size_t)stepper->settings->model.layers * sizeof *stepper->recompute);
    if (!stepper->recompute)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to plan the layers");
    return sgm_transformer_plan_recompute(like, stepper->model, &stepper->micro->rows, pass, stepper->recompute, error);
}

/* The plan of the largest walk; value_bytes also covers walks without a tape. */
static sgm_status make_plan(sgm_stepper *stepper, sgm_error *error) {
    const sgm_run_settings *settings = stepper->settings;
    largest_batch(stepper->micro, stepper->micro_rows, settings->model.context);
    for (int64_t r = 0; r < sgm_model_routed(&settings->model); r++)
        stepper->experts_per_token[r] = sgm_run_settings_most_experts(settings, r);
    sgm_worker worker = {0, sgm_team_threads(stepper->team), stepper->team};
    sgm_pass pass = {.experts_per_token = stepper->experts_per_token,
                     .balance = stepper->balance,
                     .load = stepper->load,
                     .together = true,
                     .loss_scale = 1,
                     .row_loss = stepper->row_loss};
    sgm_walk plain = walk_of(stepper, &worker, false, false);
    plain.dry = true;
    plain.error = error;
    sgm_transformer_loss(&plain, stepper->model, &stepper->micro->rows, &pass);
    sgm_tape *tape = NULL;
    sgm_status status = plain.status ? plain.status : sgm_tape_new(NULL, &tape, error);
    if (status)
        return status;
    sgm_walk record = plain;
    record.used = record.peak = 0;
    record.tape = tape;
    if (settings->train.recompute)
        status = plan_recompute(stepper, &plain, &pass, error);
    pass.recompute = stepper->recompute;
    if (!status)
        sgm_transformer_loss(&record, stepper->model, &stepper->micro->rows, &pass);
    if (!status)
        status = record.status ? record.status : sgm_plan_make(&record, worker.threads, &stepper->plan, error);
    sgm_tape_free(tape);
    if (!status && stepper->plan.value_bytes < plain.peak)
        stepper->plan.value_bytes = plain.peak;
    set_experts_per_token(stepper, 0);
    return status;
}

static sgm_status make_load(sgm_stepper *stepper, sgm_error *error) {
    const sgm_model_settings *model = &stepper->settings->model;
    int64_t L = sgm_model_routed(model), E = sgm_model_routed_stride(model);
    size_t count = (size_t)(L * E);
    stepper->load = sgm_alloc((size_t)L * sizeof *stepper->load);
    stepper->load_count = sgm_alloc(count * sizeof *stepper->load_count);
    stepper->load_sum = sgm_alloc(count * sizeof *stepper->load_sum);
    stepper->probability = sgm_alloc(count * sizeof *stepper->probability);
    stepper->experts_per_token = sgm_alloc((size_t)L * sizeof *stepper->experts_per_token);
    if (!stepper->load || !stepper->load_count || !stepper->load_sum || !stepper->probability ||
        !stepper->experts_per_token)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the load of %" PRId64 " layers", L);
    for (int64_t layer = 0; layer < L; layer++)
        stepper->load[layer] = (sgm_load){.experts = sgm_model_routed_experts(model, layer),
                                          .null_experts = model->null_experts, /* none beside attention experts */
                                          .count = stepper->load_count + layer * E,
                                          .probability = stepper->load_sum + layer * E};
    return SGM_OK;
}

/* Bytes a weight of the copy in bf16, where products read one: they do not with every table, nor in a build whose numbers
 * are f64, where nothing is rounded. */
static size_t rounded_bytes(const sgm_stepper *stepper) {
    bool reads = stepper->settings->train.compute == SGM_COMPUTE_BF16 && stepper->kernels->bf16_round &&
                 sizeof(sgm_real) == sizeof(float);
    return reads ? sizeof(uint16_t) : 0;
}

/* Weights, gradients and moments, by arithmetic alone: a model that cannot fit is refused before anything is made. */
static sgm_status check_model_memory(const sgm_stepper *stepper, sgm_error *error) {
    const sgm_run_settings *settings = stepper->settings;
    sgm_model_counts counts;
    sgm_model_count(&settings->model, (double)settings->model.experts_per_token, settings->model.context, &counts);
    uint64_t arrays = 2 + (uint64_t)settings->optimizer->moments;
    uint64_t bytes = (uint64_t)counts.bytes * arrays + (uint64_t)counts.total_parameters * rounded_bytes(stepper);
    return sgm_memory_check(bytes, "weights, gradients and optimizer of the model", error);
}

static sgm_status make_model(sgm_stepper *stepper, sgm_error *error) {
    sgm_run_settings *settings = stepper->settings;
    sgm_status status = check_model_memory(stepper, error);
    if (!status)
        status = sgm_model_new(&settings->model, settings->router, true, &stepper->model, error);
    if (status)
        return status;
    settings->router.settings = NULL; /* the model's now */
    return make_ranges(stepper, error);
}

static sgm_status make_batches(sgm_stepper *stepper, sgm_error *error) {
    const sgm_run_settings *settings = stepper->settings;
    int64_t context = settings->model.context, tokens = settings->data.tokens_per_step;
    stepper->micro_rows = settings->data.micro_batch_tokens;
    stepper->micro_batches = (tokens + stepper->micro_rows - 1) / stepper->micro_rows;
    sgm_status status = sgm_packed_new(tokens, context, &stepper->batch, error);
    if (!status)
        status = sgm_packed_new(stepper->micro_rows, context, &stepper->micro, error);
    if (status)
        return status;
    stepper->row_loss = sgm_alloc((size_t)stepper->micro_rows * sizeof *stepper->row_loss);
    if (!stepper->row_loss)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the losses of a micro-batch");
    return SGM_OK;
}

static sgm_status make_balance(sgm_stepper *stepper, sgm_error *error) {
    sgm_run_settings *settings = stepper->settings;
    int64_t sequences = stepper->micro_rows / settings->model.context, routed = sgm_model_routed(&settings->model);
    sgm_status status = sgm_balance_set_new(settings->balance, settings->balance_count, routed,
                                            sgm_model_routed_stride(&settings->model), sequences,
                                            sgm_team_threads(stepper->team), &stepper->balance, error);
    for (size_t i = 0; !status && i < settings->balance_count; i++)
        settings->balance[i].settings = NULL; /* the set's now */
    int64_t *experts_of = status ? NULL : sgm_alloc((size_t)routed * sizeof *experts_of);
    if (!status && !experts_of)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the balancers");
    for (int64_t r = 0; experts_of && r < routed; r++)
        experts_of[r] = sgm_model_routed_experts(&settings->model, r);
    if (!status)
        sgm_balance_set_experts_of(stepper->balance, experts_of);
    sgm_free(experts_of);
    if (!status)
        status = sgm_balance_set_reserve(stepper->balance, settings->data.tokens_per_step, stepper->micro_rows, error);
    return status;
}

/* Everything large is counted here, the untouched pages of the model too, before any of it is used. */
static sgm_status make_memory(sgm_stepper *stepper, sgm_error *error) {
    const sgm_model *model = stepper->model;
    size_t element = sizeof(sgm_real), moments = (size_t)stepper->settings->optimizer->moments;
    size_t arrays = (size_t)model->elements * element;
    size_t head = model->head_gradient ? (size_t)(model->head->rows * model->head->cols) * element : 0;
    stepper->blocks = (model->elements + BLOCK - 1) / BLOCK;
    uint64_t rows = (uint64_t)stepper->settings->data.tokens_per_step + (uint64_t)stepper->micro_rows;
    uint64_t rounded = (uint64_t)model->elements * rounded_bytes(stepper);
    stepper->memory_bytes = (uint64_t)arrays * (2 + moments) + rounded + head + stepper->plan.value_bytes +
                            stepper->plan.gradient_bytes + (uint64_t)stepper->blocks * sizeof(double) +
                            rows * (3 * sizeof(int32_t) + sizeof(sgm_segment)); /* at worst each row is a segment */
    sgm_status status = sgm_memory_check(
        stepper->memory_bytes, "training (weights, gradients, moments and the activations of a micro-batch)", error);
    if (status)
        return status;
    int threads = sgm_team_threads(stepper->team);
    stepper->moments = sgm_alloc(arrays * moments + 1);
    stepper->values = sgm_alloc(stepper->plan.value_bytes + 1);
    stepper->gradients = sgm_alloc(stepper->plan.gradient_bytes + 1);
    stepper->block_square = sgm_alloc((size_t)stepper->blocks * sizeof(double));
    stepper->tapes = sgm_alloc((size_t)threads * sizeof(sgm_tape *));
    if (!stepper->moments || !stepper->values || !stepper->gradients || !stepper->block_square || !stepper->tapes)
        return sgm_fail(error, SGM_EMEMORY, "take a smaller preset or lower data.micro_batch_tokens",
                        "no memory for training (%s)", sgm_bytes_text((uint64_t)stepper->memory_bytes).text);
    if (rounded > 0)
        status = sgm_model_keep_rounded(stepper->model, error);
    for (int i = 0; i < threads && !status; i++)
        status = sgm_tape_new(&stepper->plan, &stepper->tapes[i], error);
    return status;
}

sgm_status sgm_stepper_new(sgm_run_settings *settings, sgm_stepper **out, sgm_error *error) {
    sgm_stepper *stepper = sgm_alloc(sizeof *stepper);
    if (!stepper)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory");
    stepper->settings = settings;
    sgm_status status = sgm_kernels_get(settings->train.kernels, &stepper->kernels, error);
    if (!status)
        status = sgm_team_new((int)settings->train.threads, &stepper->team, error);
    if (!status)
        status = make_model(stepper, error);
    if (!status)
        status = make_batches(stepper, error);
    if (!status)
        status = make_balance(stepper, error);
    if (!status)
        status = make_load(stepper, error);
    if (!status)
        status = make_plan(stepper, error);
    if (!status)
        status = make_memory(stepper, error);
    if (status) {
        sgm_stepper_free(stepper);
        return status;
    }
    sgm_model_randomise(stepper->model, (uint64_t)settings->train.seed, stepper->team);
    sgm_stepper_weights_changed(stepper);
    *out = stepper;
    return SGM_OK;
}

void sgm_stepper_free(sgm_stepper *stepper) {
    if (!stepper)
        return;
    for (int i = 0; stepper->tapes && i < sgm_team_threads(stepper->team); i++)
        sgm_tape_free(stepper->tapes[i]);
    sgm_free(stepper->tapes);
    sgm_plan_free(&stepper->plan);
    for (int64_t l = 0; stepper->recompute && l < stepper->settings->model.layers; l++)
        sgm_recompute_free(&stepper->recompute[l]);
    sgm_free(stepper->recompute);
    sgm_free(stepper->values);
    sgm_free(stepper->gradients);
    sgm_free(stepper->block_square);
    sgm_free(stepper->moments);
    sgm_free(stepper->row_loss);
    sgm_free(stepper->ranges);
    sgm_free(stepper->load);
    sgm_free(stepper->load_count);
    sgm_free(stepper->load_sum);
    sgm_free(stepper->probability);
    sgm_free(stepper->experts_per_token);
    sgm_packed_free(stepper->batch);
    sgm_packed_free(stepper->micro);
    sgm_balance_set_free(stepper->balance);
    sgm_model_free(stepper->model);
    sgm_team_free(stepper->team);
    sgm_free(stepper);
}
