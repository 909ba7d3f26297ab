// SPDX-License-Identifier: Apache-2.0
/* Training steps on random tokens: the trainer's own stepper, without its files. */
#include <math.h>
#include <string.h>

#include "bench/bench.h"
#include "train/stepper.h"

typedef struct training {
    sgm_run_settings *settings;
    sgm_stepper *stepper;
    const sgm_bench_options *options;
} training;

/* One document per window; the target of a row is the next row's token, and at the end the first one's. */
static void fill_batch(const training *t, uint64_t number) {
    sgm_packed *batch = t->stepper->batch;
    int64_t context = t->settings->model.context, rows = t->settings->data.tokens_per_step, windows = rows / context;
    sgm_bench_tokens(t->options->seed, number, t->settings->model.vocabulary, rows, batch->tokens);
    for (int64_t r = 0; r < rows; r++) {
        batch->positions[r] = (int32_t)(r % context);
        batch->targets[r] = batch->tokens[r + 1 < rows ? r + 1 : 0];
    }
    for (int64_t w = 0; w < windows; w++) {
        batch->segments[w] = (sgm_segment){.row = w * context, .rows = context};
        batch->sequence_start[w] = w * context;
        batch->domain[w] = 0;
    }
    batch->sequence_start[windows] = rows;
    batch->rows = (sgm_rows){.rows = rows,
                             .tokens = batch->tokens,
                             .positions = batch->positions,
                             .targets = batch->targets,
                             .segments = batch->segments,
                             .segment_count = windows,
                             .sequence_start = batch->sequence_start,
                             .sequence_count = windows};
    batch->target_count = rows;
}

static sgm_status sample(void *context, uint64_t number, double *seconds, sgm_error *error) {
    training *t = context;
    fill_batch(t, number);
    double begin = sgm_bench_now();
    sgm_stepper_step(t->stepper, NULL);
    *seconds = sgm_bench_now() - begin;
    if (t->stepper->skipped)
        return sgm_fail(error, SGM_ENUMERIC, "lower optimizer.learning_rate",
                        "the loss or a gradient of training step %d is not finite", (int)number + 1);
    return SGM_OK;
}

static void count_work(const training *t, sgm_bench_result *result) {
    const sgm_model_settings *model = &t->settings->model;
    sgm_model_counts counts;
    result->experts_per_token = sgm_model_mean_per_token(model, t->stepper->experts_per_token);
    sgm_model_count(model, result->experts_per_token, model->context, &counts);
    result->flops = counts.training_flops_per_token * (double)result->tokens;
    result->memory_bytes = (double)t->stepper->memory_bytes;
    result->loss = t->stepper->loss;
    result->arithmetic = sgm_compute_name((sgm_compute)t->settings->train.compute);
    sgm_bench_hits(t->stepper->load, model, result);
}

sgm_status sgm_bench_train(const sgm_config *config, const sgm_bench_options *options, sgm_bench_result *result,
                           sgm_error *error) {
    training t = {.options = options};
    *result = (sgm_bench_result){0};
    sgm_status status = sgm_run_settings_new(config, &t.settings, error);
    if (!status)
        status = sgm_stepper_new(t.settings, &t.stepper, error);
    if (!status) {
        result->tokens = t.settings->data.tokens_per_step;
        status = sgm_bench_samples(sample, &t, options, result, error);
    }
    if (!status)
        count_work(&t, result);
    sgm_stepper_free(t.stepper);
    sgm_run_settings_free(t.settings);
    return status;
}
