// SPDX-License-Identifier: Apache-2.0
/* How a stepper is made: the model, the batches, the balancers, and all memory of a step, planned by a dry walk. */
#include <inttypes.h>

#include "base/memory.h"
#include "train/freeze.h"
#include "train/stepper.h"

/* ---- what is trained ------------------------------------------------------------------------------------------ */

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

/* ---- memory ---------------------------------------------------------------------------------------------------- */

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
    sgm_walk plain = {.worker = &worker,
                      .kernels = stepper->kernels,
                      .compute = (sgm_compute)settings->train.compute,
                      .dry = true,
                      .error = error};
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
    sgm_stepper_seek(stepper, 0, 0, 0, 0); /* the experts per token of step 0 */
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
    stepper->blocks = (model->elements + SGM_GRADIENT_BLOCK - 1) / SGM_GRADIENT_BLOCK;
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
