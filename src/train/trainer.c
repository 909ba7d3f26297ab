// SPDX-License-Identifier: Apache-2.0
/* Making a trainer: a new run, or one that continues. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text_print.h"
#include "model/model_files.h"
#include "train/trainer.h"

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static void write_line(int file, const char *text) {
    size_t size = strlen(text);
    char line[1024];
    if (file < 0 || size + 1 >= sizeof line)
        return;
    memcpy(line, text, size);
    line[size] = '\n';
    if (write(file, line, size + 1) < 0) /* a full disk must not stop a run for its log */
        return;
}

void sgm_trainer_log(sgm_trainer *trainer, const char *format, ...) {
    char text[1000];
    va_list list;
    va_start(list, format);
    sgm_text_vprint(text, sizeof text, format, list);
    va_end(list);
    write_line(trainer->log_file, text);
}

void sgm_trainer_note(sgm_trainer *trainer, const char *format, ...) {
    char text[1000];
    va_list list;
    va_start(list, format);
    sgm_text_vprint(text, sizeof text, format, list);
    va_end(list);
    write_line(trainer->log_file, text);
    if (trainer->events.note)
        trainer->events.note(trainer->events.context, text);
}

static void pass_note(void *context, const char *text) {
    sgm_trainer_note(context, "%s", text);
}

sgm_notes sgm_trainer_notes(sgm_trainer *trainer) {
    return (sgm_notes){pass_note, trainer};
}

bool sgm_trainer_stopped(const sgm_trainer *trainer) {
    return trainer->stop && __atomic_load_n(trainer->stop, __ATOMIC_RELAXED);
}

/* ---- parts ------------------------------------------------------------------------------------------------------ */

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a trainer");
}

static sgm_status new_trainer(const char *run, const sgm_trainer_events *events, const sgm_config *config,
                              sgm_trainer **out, sgm_error *error) {
    sgm_trainer *trainer = sgm_alloc(sizeof *trainer);
    if (!trainer)
        return no_memory(error);
    *out = trainer;
    trainer->log_file = -1;
    trainer->saved_step = -1;
    trainer->peak_flops = (double)NAN;
    if (events)
        trainer->events = *events;
    trainer->run = sgm_strdup(run);
    return trainer->run ? sgm_run_settings_new(config, &trainer->settings, error) : no_memory(error);
}

static sgm_status make_stepper(sgm_trainer *trainer, sgm_error *error) {
    const sgm_model_settings *model = &trainer->settings->model;
    sgm_status status = sgm_stepper_new(trainer->settings, &trainer->stepper, error);
    if (status)
        return status;
    trainer->experts_before = sgm_alloc((size_t)sgm_model_routed(model) * sizeof(int64_t));
    if (!trainer->experts_before)
        return no_memory(error);
    return SGM_OK;
}

static sgm_status open_corpus(sgm_trainer *trainer, sgm_error *error) {
    char *folder = sgm_run_folder_data(trainer->run, trainer->settings);
    sgm_status status = folder ? sgm_corpus_open(folder, &trainer->corpus, error) : no_memory(error);
    if (status == SGM_ENOTFOUND && trainer->settings->data.folder[0]) /* it was there when the run began */
        status =
            sgm_fail(error, status, "put it back, or write where it is now into data.folder of the run's config.yaml",
                     "the run's data folder %s is gone", folder);
    sgm_free(folder);
    if (!status)
        status = sgm_tokenizer_open(sgm_corpus_tokenizer_path(trainer->corpus), &trainer->tokenizer, error);
    if (status)
        return status;
    int64_t tokens = sgm_tokenizer_vocabulary(trainer->tokenizer), vocabulary = trainer->settings->model.vocabulary;
    if (tokens > vocabulary)
        return sgm_fail(error, SGM_EARGUMENT,
                        "set model.vocabulary to at least the tokenizer's, or build the data anew",
                        "the data's tokenizer has %" PRId64 " tokens, the model only %" PRId64, tokens, vocabulary);
    if (tokens < vocabulary)
        sgm_trainer_note(trainer,
                         "the tokenizer has %" PRId64 " tokens: %" PRId64 " of the model's vocabulary stay unused",
                         tokens, vocabulary - tokens);
    const sgm_data_settings *data = &trainer->settings->data;
    sgm_loader_options options = {.context = trainer->settings->model.context,
                                  .seed = (uint64_t)trainer->settings->train.seed,
                                  .mixture = data->mixture};
    if (data->one_domain_per_micro_batch) {
        options.step_windows = data->tokens_per_step / options.context;
        options.group_windows = data->micro_batch_tokens / options.context;
    }
    return sgm_loader_new(trainer->corpus, &options, &trainer->loader, error);
}

static sgm_status open_logs(sgm_trainer *trainer, sgm_error *error) {
    const sgm_model_settings *model = &trainer->settings->model;
    char *text = sgm_path_join(trainer->run, "log.txt"), *rows = sgm_path_join(trainer->run, "run.sqlite");
    sgm_status status = text && rows ? sgm_run_log_open(rows, sgm_model_routed(model), sgm_model_routed_stride(model),
                                                        &trainer->log, error)
                                     : no_memory(error);
    const int flags =
        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK; /* the last: not to wait for a pipe's reader */
    if (!status && (trainer->log_file = open(text, flags, 0666)) < 0)
        status = sgm_fail(error, SGM_EIO, NULL, "%s: cannot open it: %m", text);
    sgm_free(text);
    sgm_free(rows);
    return status;
}

static sgm_status write_meta(sgm_trainer *trainer, sgm_error *error) {
    const sgm_run_settings *settings = trainer->settings;
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {{"layers", settings->model.layers},
                   {"experts", settings->model.experts},
                   {"experts_per_token", settings->model.experts_per_token},
                   {"steps", settings->train.steps},
                   {"tokens_per_step", settings->data.tokens_per_step},
                   {"total_parameters", 0}};
    sgm_model_counts counts;
    sgm_model_count(&settings->model, (double)settings->model.experts_per_token, settings->model.context, &counts);
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !status; i++) {
        char text[32];
        snprintf(text, sizeof text, "%" PRId64, numbers[i].value ? numbers[i].value : counts.total_parameters);
        status = sgm_run_log_meta(trainer->log, numbers[i].key, text, error);
    }
    char hash[SGM_CORPUS_HASH];
    sgm_corpus_hash_text(trainer->corpus, hash);
    return status ? status : sgm_run_log_meta(trainer->log, "corpus", hash, error);
}

/* Which attention, which feed-forward a number of a routed sub-layer is. */
static sgm_status write_routed(sgm_trainer *trainer, sgm_error *error) {
    const sgm_model_settings *model = &trainer->settings->model;
    sgm_status status = SGM_OK;
    for (int64_t r = 0; model->attention_experts > 0 && r < sgm_model_routed(model) && !status; r++)
        status = sgm_run_log_routed(trainer->log, r, sgm_routed_layer(model->attention_experts, r),
                                    sgm_routed_is_attention(model->attention_experts, r) ? "attention" : "feed_forward",
                                    sgm_model_routed_experts(model, r), error);
    return status;
}

/* Scopes of a micro-batch's tokens where a step is a single one: there they are the global batch. */
static void note_idle_scopes(sgm_trainer *trainer) {
    const sgm_balance_set *set = trainer->stepper->balance;
    const sgm_data_settings *data = &trainer->settings->data;
    for (size_t i = 0; i < sgm_balance_set_count(set) && data->micro_batch_tokens >= data->tokens_per_step; i++) {
        sgm_balance_scope scope = sgm_balance_set_scope(set, i);
        if (scope == SGM_SCOPE_MICRO || scope == SGM_SCOPE_SHUFFLE)
            sgm_trainer_note(
                trainer,
                "balance.%zu.scope (%s) does what global does in its mode exact: a step is one micro-batch of %" PRId64
                " tokens; lower data.micro_batch_tokens for more of them",
                i, sgm_balance_set_name(set, i), data->tokens_per_step);
    }
}

/* Everything behind the model and the logs: data, loader, evaluation. */
static sgm_status open_parts(sgm_trainer *trainer, sgm_error *error) {
    sgm_status status = open_corpus(trainer, error);
    if (!status)
        status = sgm_evaluator_new(trainer, error);
    if (!status)
        status = write_meta(trainer, error);
    if (!status)
        note_idle_scopes(trainer);
    return status ? status : write_routed(trainer, error);
}

/* Where training is after start or resume. */
static void settle(sgm_trainer *trainer) {
    const sgm_model_settings *model = &trainer->settings->model;
    const int64_t *k = trainer->stepper->experts_per_token;
    memcpy(trainer->experts_before, k, (size_t)sgm_model_routed(model) * sizeof *k);
    sgm_model_counts counts;
    sgm_model_count(model, sgm_model_mean_per_token(model, k), model->context, &counts);
    trainer->flops_per_token = counts.training_flops_per_token;
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

sgm_status sgm_trainer_start(const sgm_config *config, const char *const *data, size_t data_count, const char *run,
                             const sgm_trainer_events *events, const volatile int *stop, sgm_trainer **out,
                             sgm_error *error) {
    *out = NULL;
    if (sgm_path_exists(run))
        return sgm_fail(error, SGM_EEXISTS, "take another name, or continue it with `sigmoe train --resume`",
                        "run folder %s exists already", run);
    /* The model first: what does not fit in memory is refused before a corpus is read. */
    sgm_trainer *trainer = NULL;
    sgm_config *own = NULL;
    sgm_status status = sgm_config_copy(config, &own, error);
    if (!status)
        status = sgm_run_folder_bind_data(own, data, data_count, error);
    if (!status)
        status = new_trainer(run, events, own, &trainer, error);
    sgm_config_free(own);
    if (!status)
        status = make_stepper(trainer, error);
    if (!status)
        status = sgm_trainer_begin(trainer, error);
    if (!status)
        status = sgm_run_folder_make(trainer->settings, data, data_count, run, stop, &trainer->lock, error);
    if (status) {
        sgm_trainer_close(trainer);
        return status;
    }
    status = open_logs(trainer, error);
    if (!status)
        status = open_parts(trainer, error);
    if (!status) {
        settle(trainer);
        status = sgm_trainer_save(trainer, error);
    }
    if (status) {
        sgm_folder_remove(run, NULL);
        sgm_trainer_close(trainer);
        return status;
    }
    *out = trainer;
    return SGM_OK;
}

/* ---- resume ----------------------------------------------------------------------------------------------------- */

/* A run without a checkpoint died before its first, which is at step 0. Where there are rows or a summary it was trained and
 * its checkpoints were taken away: to begin it again would wipe what is known of it. */
static sgm_status check_untrained(sgm_trainer *trainer, sgm_error *error) {
    double seconds, steps = 0;
    char *summary = sgm_path_join(trainer->run, "summary.json");
    bool complete = summary && sgm_path_exists(summary);
    sgm_status status = summary ? sgm_run_log_seconds(trainer->log, &seconds, &steps, error) : no_memory(error);
    sgm_free(summary);
    if (status || (!complete && steps == 0))
        return status;
    return sgm_fail(
        error, SGM_EEXISTS,
        "start a new run; or begin this one again: remove its run.sqlite and summary.json, which is all it has",
        complete ? "%s: the run is complete and its checkpoints were discarded: it cannot be gone on with"
                 : "%s: the run was trained, but its checkpoints are gone: it cannot be gone on with",
        trainer->run);
}

/* *folder: the latest good checkpoint; NULL where a run died before its first. */
static sgm_status find_latest(sgm_trainer *trainer, char **folder, sgm_error *error) {
    sgm_notes notes = sgm_trainer_notes(trainer);
    sgm_status status = sgm_checkpoint_latest(trainer->run, &notes, folder, error);
    return status || *folder ? status : check_untrained(trainer, error);
}

/* At a checkpoint, or (NULL) at the beginning. */
static sgm_status load(sgm_trainer *trainer, const char *folder, sgm_error *error) {
    sgm_notes notes = sgm_trainer_notes(trainer);
    if (!folder) {
        sgm_trainer_note(trainer, "no checkpoint yet: starting at the beginning");
        settle(trainer);
        sgm_status status = sgm_trainer_begin(trainer, error);
        return status ? status : sgm_trainer_save(trainer, error);
    }
    sgm_status status = sgm_checkpoint_load(folder, trainer->stepper, trainer->loader, trainer->corpus, &notes, error);
    if (status)
        return status;
    trainer->saved_step = trainer->stepper->step;
    if (trainer->stepper->skipped_in_row >= trainer->settings->train.max_skipped_steps) {
        trainer->gave_up = trainer->stepper->skipped_in_row;
        trainer->stepper->skipped_in_row = 0; /* whoever resumes after that stop wants it tried again */
    }
    settle(trainer);
    sgm_trainer_note(trainer, "resumed at step %" PRId64, trainer->stepper->step);
    return SGM_OK;
}

/* A summary is there when a run is complete: not while it is being made longer. */
static sgm_status remove_summary(const sgm_trainer *trainer, sgm_error *error) {
    char *path = sgm_path_join(trainer->run, "summary.json");
    if (!path)
        return no_memory(error);
    if (unlink(path) < 0 && errno != ENOENT) {
        sgm_status status = sgm_fail(error, SGM_EIO, NULL, "%s: cannot remove it: %m", path);
        sgm_free(path);
        return status;
    }
    sgm_free(path);
    return SGM_OK;
}

/* The numbers of steps before, which a file that is gone or empty has no more: the run goes on without them, said so. */
static sgm_status note_lost_history(sgm_trainer *trainer, sgm_error *error) {
    double seconds, rows;
    sgm_status status = sgm_run_log_seconds(trainer->log, &seconds, &rows, error);
    if (!status && rows < (double)trainer->stepper->step)
        sgm_trainer_note(trainer,
                         "run.sqlite has %.0f of the %" PRId64 " steps before: the report will not show the rest", rows,
                         trainer->stepper->step);
    return status;
}

sgm_status sgm_trainer_resume(const char *run, int64_t steps, int threads, const sgm_trainer_events *events,
                              sgm_trainer **out, sgm_error *error) {
    *out = NULL;
    sgm_lock *lock;
    sgm_config *config;
    sgm_status status = sgm_run_folder_open(run, steps, &lock, &config, error);
    if (status)
        return status;
    char text[16];
    snprintf(text, sizeof text, "%d", threads);
    if (threads > 0)
        status = sgm_config_set(config, "train.threads", text, "--threads", error);
    sgm_trainer *trainer = NULL;
    if (!status)
        status = new_trainer(run, events, config, &trainer, error);
    sgm_config_free(config);
    if (!trainer) {
        sgm_lock_drop(lock);
        return status;
    }
    trainer->lock = lock;
    char *folder = NULL;
    if (!status)
        status = make_stepper(trainer, error);
    if (!status)
        status = open_logs(trainer, error);
    if (!status)
        status = find_latest(trainer, &folder, error);
    if (!status)
        status = open_parts(trainer, error);
    if (!status)
        status = load(trainer, folder, error);
    sgm_free(folder);
    if (!status)
        status = sgm_run_folder_write_steps(run, trainer->settings->config, error);
    if (!status)
        status = sgm_run_log_truncate(trainer->log, trainer->stepper->step, error);
    if (!status)
        status = note_lost_history(trainer, error);
    if (!status && trainer->stepper->step < trainer->settings->train.steps)
        status = remove_summary(trainer, error);
    if (status) {
        sgm_trainer_close(trainer);
        return status;
    }
    *out = trainer;
    return SGM_OK;
}

void sgm_trainer_close(sgm_trainer *trainer) {
    if (!trainer)
        return;
    sgm_run_log_close(trainer->log, NULL);
    if (trainer->log_file >= 0)
        close(trainer->log_file);
    sgm_trace_recorder_fini(&trainer->trace);
    sgm_evaluator_free(&trainer->evaluator);
    sgm_stepper_free(trainer->stepper);
    sgm_loader_free(trainer->loader);
    sgm_tokenizer_close(trainer->tokenizer);
    sgm_corpus_close(trainer->corpus);
    sgm_run_settings_free(trainer->settings);
    sgm_lock_drop(trainer->lock);
    sgm_free(trainer->experts_before);
    sgm_free(trainer->run);
    sgm_free(trainer);
}

/* ---- the banner ------------------------------------------------------------------------------------------------- */

void sgm_trainer_describe(const sgm_trainer *trainer, sgm_trainer_plan *plan) {
    const sgm_run_settings *settings = trainer->settings;
    sgm_model_counts counts;
    sgm_model_count(&settings->model, (double)settings->model.experts_per_token, settings->model.context, &counts);
    *plan = (sgm_trainer_plan){
        .step = trainer->stepper->step,
        .total_parameters = counts.total_parameters,
        .active_parameters = counts.active_parameters,
        .steps = settings->train.steps,
        .tokens_per_step = settings->data.tokens_per_step,
        .micro_batches = trainer->stepper->micro_batches,
        .threads = settings->train.threads,
        .memory_bytes = (int64_t)trainer->stepper->memory_bytes,
        .flops_per_token = trainer->flops_per_token,
        .kernels = trainer->stepper->kernels->name,
        .router = trainer->stepper->model->router.plugin->plugin.name,
        .balance = sgm_config_get(settings->config, "balance"),
        .sparsity = settings->sparsity.plugin->plugin.name,
        .optimizer = settings->optimizer->plugin.name,
        .schedule = settings->schedule->plugin.name,
    };
    for (size_t d = 0; d < sgm_corpus_domains(trainer->corpus); d++) {
        plan->train_tokens += sgm_corpus_tokens(trainer->corpus, SGM_TRAIN, d);
        plan->heldout_tokens += sgm_corpus_tokens(trainer->corpus, SGM_HELDOUT, d);
        plan->corpus_bytes += sgm_corpus_bytes(trainer->corpus, SGM_TRAIN, d);
    }
}
