// SPDX-License-Identifier: Apache-2.0
/* The loop of a run: steps, evaluations, checkpoints, the end. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "sigmoe/machine.h"
#include "train/trainer.h"

enum { FAILED_SAVES = 3 }; /* in a row, before a run stops: by then the disk is full for good */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The first failure is told; the checkpoints do not depend on this file. */
static void tell_log_failure(sgm_trainer *trainer, const sgm_error *error) {
    if (!trainer->log_failed)
        sgm_trainer_note(trainer, "rows of the run are being lost: %s", error->message);
    trainer->log_failed = true;
}

/* ---- a step ----------------------------------------------------------------------------------------------------- */

/* "8 2 1×6": runs of equal numbers. */
static void describe_experts(const int64_t *k, int64_t layers, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int64_t at = 0, run; at < layers && used < size; at += run) {
        for (run = 1; at + run < layers && k[at + run] == k[at]; run++) {
        }
        int added = run > 1 ? snprintf(text + used, size - used, " %" PRId64 "×%" PRId64, k[at], run)
                            : snprintf(text + used, size - used, " %" PRId64, k[at]);
        used += (size_t)added;
    }
}

static void tell_switch(sgm_trainer *trainer) {
    sgm_stepper *stepper = trainer->stepper;
    const sgm_model_settings *model = &trainer->settings->model;
    int64_t layers = sgm_model_routed(model);
    size_t bytes = (size_t)layers * sizeof(int64_t);
    if (memcmp(trainer->experts_before, stepper->experts_per_token, bytes) == 0)
        return;
    char before[256], after[256];
    describe_experts(trainer->experts_before, layers, before, sizeof before);
    describe_experts(stepper->experts_per_token, layers, after, sizeof after);
    sgm_trainer_note(trainer, "step %" PRId64 ": experts per token by layer:%s, before:%s", stepper->step, after,
                     before);
    memcpy(trainer->experts_before, stepper->experts_per_token, bytes);
    sgm_model_counts counts;
    sgm_model_count(model, sgm_model_mean_per_token(model, stepper->experts_per_token), model->context, &counts);
    trainer->flops_per_token = counts.training_flops_per_token;
}

static void fill_report(sgm_trainer *trainer, double seconds, sgm_step_report *report) {
    const sgm_stepper *stepper = trainer->stepper;
    const sgm_run_settings *settings = trainer->settings;
    double tokens_per_second = (double)settings->data.tokens_per_step / seconds;
    double flops = trainer->flops_per_token * tokens_per_second;
    if (flops > trainer->peak_flops) /* it was measured on a busy machine: this step shows that more is possible */
        trainer->peak_flops = flops;
    trainer->seconds_per_step =
        trainer->seconds_per_step > 0 ? 0.9 * trainer->seconds_per_step + 0.1 * seconds : seconds;
    *report = (sgm_step_report){
        .step = stepper->step,
        .steps = settings->train.steps,
        .tokens = stepper->tokens,
        .loss_nats_per_token = stepper->loss,
        .balance_loss = stepper->balance_loss,
        .gradient_norm = stepper->gradient_norm,
        .learning_rate = stepper->learning_rate,
        .seconds = seconds,
        .tokens_per_second = tokens_per_second,
        .seconds_left = trainer->seconds_per_step * (double)(settings->train.steps - stepper->step),
        .peak_share = flops / trainer->peak_flops,
        .skipped = stepper->skipped,
        .layers = sgm_model_routed(&settings->model),
        .experts = settings->model.experts,
        .null_experts = settings->model.null_experts,
        .attention_experts = settings->model.attention_experts,
        .experts_per_token = stepper->experts_per_token,
        .load = stepper->load_count,
        .probability = stepper->probability,
    };
}

/* Is a step's load written? */
static bool has_load(const sgm_train_settings *train, int64_t step) {
    return step % train->load_every == 0 || step == 1 || step == train->steps;
}

static void record(sgm_trainer *trainer, const sgm_step_report *report) {
    const sgm_train_settings *train = &trainer->settings->train;
    sgm_run_log_step row = {.step = report->step,
                            .tokens = report->tokens,
                            .loss = report->loss_nats_per_token,
                            .balance_loss = report->balance_loss,
                            .gradient_norm = report->gradient_norm,
                            .learning_rate = report->learning_rate,
                            .seconds = report->seconds,
                            .skipped = report->skipped};
    bool load = has_load(train, report->step);
    sgm_error error;
    if (sgm_run_log_add(trainer->log, &row, load ? trainer->stepper->load : NULL, report->experts_per_token, &error))
        tell_log_failure(trainer, &error);
    if (load && !report->skipped && sgm_run_log_balance(trainer->log, trainer->stepper->balance, &error))
        tell_log_failure(trainer, &error);
    sgm_trainer_log(trainer, "step %" PRId64 "/%" PRId64 " loss %.4f balance %.5f norm %.3f lr %.3e %.0f tokens/s%s",
                    report->step, report->steps, report->loss_nats_per_token, report->balance_loss,
                    report->gradient_norm, report->learning_rate, report->tokens_per_second,
                    report->skipped ? " skipped" : "");
}

sgm_status sgm_trainer_step(sgm_trainer *trainer, sgm_step_report *report, sgm_error *error) {
    if (trainer->stepper->step >= trainer->settings->train.steps)
        return sgm_fail(error, SGM_EARGUMENT, "raise --steps to go on",
                        "the run is complete: all %" PRId64 " steps are done", trainer->settings->train.steps);
    bool traced = sgm_trainer_trace_begin(trainer);
    trainer->stepper->entropies = has_load(&trainer->settings->train, trainer->stepper->step + 1);
    double begun = now();
    sgm_stepper_step(trainer->stepper, trainer->loader);
    sgm_step_report local;
    report = report ? report : &local;
    fill_report(trainer, now() - begun, report);
    if (traced)
        sgm_trainer_trace_end(trainer);
    record(trainer, report);
    tell_switch(trainer);
    if (report->skipped)
        sgm_trainer_note(trainer, "step %" PRId64 " skipped: its loss (%g) or gradient (norm %g) is not finite",
                         report->step, report->loss_nats_per_token, fabs(report->gradient_norm)); /* no "-nan" */
    return SGM_OK;
}

/* ---- save ------------------------------------------------------------------------------------------------------- */

sgm_status sgm_trainer_save(sgm_trainer *trainer, sgm_error *error) {
    int64_t step = trainer->stepper->step;
    if (trainer->saved_step == step)
        return SGM_OK;
    /* Rows first: whatever a checkpoint stands for is in the log. */
    sgm_error local;
    if (sgm_run_log_flush(trainer->log, &local))
        tell_log_failure(trainer, &local);
    sgm_notes notes = sgm_trainer_notes(trainer);
    char *folder = NULL;
    sgm_status status = sgm_checkpoint_save(trainer->run, trainer->stepper, trainer->loader, trainer->corpus,
                                            trainer->settings->train.keep_checkpoints, &notes, &folder, error);
    if (status)
        return status;
    trainer->saved_step = step;
    trainer->failed_saves = 0;
    sgm_trainer_log(trainer, "checkpoint %s", folder);
    if (trainer->events.checkpoint)
        trainer->events.checkpoint(trainer->events.context, step, folder);
    sgm_free(folder);
    return SGM_OK;
}

/* On the way: a save that fails is told, and the run goes on with the checkpoint it has. */
static sgm_status save_on_the_way(sgm_trainer *trainer, sgm_error *error) {
    sgm_error local;
    if (sgm_trainer_save(trainer, &local) == SGM_OK)
        return SGM_OK;
    sgm_trainer_note(trainer, "the checkpoint of step %" PRId64 " was not saved: %s; the one of step %" PRId64 " stays",
                     trainer->stepper->step, local.message, trainer->saved_step);
    if (++trainer->failed_saves < FAILED_SAVES)
        return SGM_OK;
    const char *hint = local.code == SGM_EIO ? "make room, then continue with `sigmoe train --resume`" : local.hint;
    return sgm_fail(error, local.code, *hint ? hint : NULL,
                    "%d checkpoints in a row were not saved, the last because: %s", FAILED_SAVES, local.message);
}

/* ---- the run ---------------------------------------------------------------------------------------------------- */

/* False: it was interrupted. */
static bool evaluate(sgm_trainer *trainer, int64_t limit) {
    sgm_error error;
    sgm_status status = sgm_trainer_evaluate(trainer, limit, &error);
    if (status == SGM_EINTERRUPTED)
        return false;
    if (status)
        tell_log_failure(trainer, &error);
    if (sgm_trainer_sample(trainer, &error))
        sgm_trainer_note(trainer, "no sample: %s", error.message);
    if (sgm_run_log_flush(trainer->log, &error))
        tell_log_failure(trainer, &error);
    return true;
}

/* Resumed as it is, the run tries again with the text that follows; the hint says how to go back. */
static sgm_status stop_not_finite(sgm_trainer *trainer, sgm_error *error) {
    sgm_error local;
    bool saved = sgm_trainer_save(trainer, &local) == SGM_OK;
    int64_t good = sgm_checkpoint_last_finite(trainer->run);
    char hint[sizeof local.hint];
    if (good >= 0)
        snprintf(hint, sizeof hint,
                 "in %.160s: lower optimizer.learning_rate or train.clip in config.yaml, remove what is later than "
                 "checkpoints/step-%06" PRId64 " (the newest from before), then `sigmoe train --resume`",
                 trainer->run, good);
    else
        snprintf(hint, sizeof hint, "start a new run with a lower optimizer.learning_rate or train.clip");
    return sgm_fail(error, SGM_ENUMERIC, hint,
                    "%" PRId64 " steps in a row had a loss or gradient that is not finite; stopped at step %" PRId64
                    "%s",
                    trainer->stepper->skipped_in_row, trainer->stepper->step, saved ? "" : " (and could not save)");
}

static bool due(int64_t step, int64_t every) {
    return every > 0 && step % every == 0;
}

/* The checkpoint first: a final evaluation may take minutes, and a run killed in it has only that to do again. */
static sgm_status finish(sgm_trainer *trainer, sgm_error *error) {
    sgm_status status = sgm_trainer_save(trainer, error);
    bool whole = evaluate(trainer, trainer->settings->train.final_eval_tokens);
    if (!status && !whole)
        return sgm_fail(error, SGM_EINTERRUPTED, "`sigmoe train --resume` evaluates it",
                        "interrupted in the last evaluation; all %" PRId64 " steps are done and saved",
                        trainer->stepper->step);
    return status ? status : sgm_trainer_summary(trainer, error);
}

/* The largest of several short measurements: a neighbour on the machine only ever makes one smaller. */
static double measure_peak(const sgm_train_settings *train) {
    double peak = (double)NAN;
    const sgm_compute compute = (sgm_compute)train->compute;
    const unsigned what =
        (compute == SGM_COMPUTE_BF16 ? 0 : SGM_MEASURE_F32) | (compute == SGM_COMPUTE_F32 ? 0 : SGM_MEASURE_BF16);
    for (int i = 0; i < 4; i++) {
        sgm_machine_peaks peaks;
        if (sgm_machine_measure(train->kernels, (int)train->threads, 0.015, what, NULL, &peaks, NULL) == SGM_OK)
            peak = fmax(peak, sgm_machine_peak(&peaks, sgm_compute_name(compute)));
    }
    return peak;
}

/* The evaluation due where the run was resumed, if it was broken off there: the log then is that of a run without a break. */
static void make_up_evaluation(sgm_trainer *trainer) {
    const sgm_train_settings *train = &trainer->settings->train;
    int64_t step = trainer->stepper->step;
    bool has = true;
    sgm_error error;
    if (step == 0 || step >= train->steps || !due(step, train->eval_every))
        return;
    if (sgm_run_log_has_eval(trainer->log, step, &has, &error))
        tell_log_failure(trainer, &error);
    if (!has)
        evaluate(trainer, train->eval_tokens);
}

/* Until step `last` is done, and all that belongs to the end where that is the run's last. */
static sgm_status run_until(sgm_trainer *trainer, int64_t last, bool *done, sgm_error *error) {
    const sgm_train_settings *train = &trainer->settings->train;
    const sgm_stepper *stepper = trainer->stepper;
    if (isnan(trainer->peak_flops))
        trainer->peak_flops = measure_peak(train);
    make_up_evaluation(trainer);
    while (stepper->step < last) {
        if (sgm_trainer_stopped(trainer)) {
            sgm_status status = sgm_trainer_save(trainer, error);
            return status ? status
                          : sgm_fail(error, SGM_EINTERRUPTED, "continue with `sigmoe train --resume`",
                                     "interrupted; saved at step %" PRId64, stepper->step);
        }
        sgm_step_report report;
        sgm_status status = sgm_trainer_step(trainer, &report, error);
        if (status)
            return status;
        if (trainer->events.step)
            trainer->events.step(trainer->events.context, &report);
        if (stepper->skipped_in_row >= train->max_skipped_steps)
            return stop_not_finite(trainer, error);
        if (stepper->step == train->steps)
            break;
        if (due(stepper->step, train->eval_every))
            evaluate(trainer, train->eval_tokens);
        if (due(stepper->step, train->checkpoint_every) && (status = save_on_the_way(trainer, error)))
            return status;
    }
    *done = last == train->steps;
    return *done ? finish(trainer, error) : SGM_OK;
}

sgm_status sgm_trainer_advance(sgm_trainer *trainer, int64_t steps, const volatile int *stop, bool *done,
                               sgm_error *error) {
    int64_t left = trainer->settings->train.steps - trainer->stepper->step;
    trainer->stop = stop;
    *done = false;
    sgm_status status = run_until(trainer, trainer->stepper->step + (steps < left ? steps : left), done, error);
    trainer->stop = NULL;
    *done = *done && !status;
    return status;
}

sgm_status sgm_trainer_run(sgm_trainer *trainer, const volatile int *stop, sgm_error *error) {
    bool done;
    return sgm_trainer_advance(trainer, trainer->settings->train.steps, stop, &done, error);
}
