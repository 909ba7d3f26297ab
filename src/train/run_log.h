// SPDX-License-Identifier: Apache-2.0
/* run.sqlite: what happened in a run, for reports and tools (docs/formats.md has the tables).
 *
 * Rows wait in memory, allocated once, and are written in one transaction when the buffer is full, at checkpoints and at
 * evaluations; a training step only copies numbers. After a crash the file holds at least every row up to the last
 * checkpoint, and resuming deletes the rows after it. */
#ifndef SGM_TRAIN_RUN_LOG_H
#define SGM_TRAIN_RUN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "moe/balance/balance.h"
#include "routing/routing.h"
#include "sigmoe/error.h"

enum {
    SGM_RUN_LOG_VERSION = 4, /* PRAGMA user_version; an older file gets what it lacks on opening */
    SGM_RUN_LOG_ROWS = 64,   /* steps that wait in memory */
};

typedef struct sgm_run_log sgm_run_log;

typedef struct sgm_run_log_step {
    int64_t step, tokens;
    double loss, balance_loss, gradient_norm, learning_rate, seconds;
    bool skipped;
} sgm_run_log_step;

/* Open or make `path` for a model of L layers (routed sub-layers, sigmoe/model.h) and E experts at most. SGM_EFORMAT: not a run log, or of a newer version. */
sgm_status sgm_run_log_open(const char *path, int64_t layers, int64_t experts, sgm_run_log **log, sgm_error *error);
/* Writes what waits. NULL is fine. */
sgm_status sgm_run_log_close(sgm_run_log *log, sgm_error *error);

/* A step; `load` (L) and `experts_per_token` (L) or NULL where this step's load is not wanted. Writes only when the buffer
 * is full; otherwise neither allocates nor touches the disk. When that write fails, the rows that waited are lost. */
sgm_status sgm_run_log_add(sgm_run_log *log, const sgm_run_log_step *step, const sgm_load *load,
                           const int64_t *experts_per_token, sgm_error *error);
/* What the balancers measured at the step that was added last. The first call allocates; all are of the same set.
 * SGM_EMEMORY: not kept. */
sgm_status sgm_run_log_balance(sgm_run_log *log, const sgm_balance_set *balance, sgm_error *error);
/* One row per domain and one, of domain "", for all. */
sgm_status sgm_run_log_eval(sgm_run_log *log, int64_t step, const char *domain, int64_t tokens, int64_t bytes,
                            double loss, double bits_per_byte, sgm_error *error);
/* How the scored tokens of a domain of an evaluation were routed in one layer: `count` (experts). There is a row where the
 * assignments are at least as many as the experts: fewer do not show which of them a domain uses, and so the rows of an evaluation
 * are never larger than what was evaluated. */
sgm_status sgm_run_log_domain_load(sgm_run_log *log, int64_t step, const char *domain, int64_t layer, int64_t tokens,
                                   const int64_t *count, int64_t experts, sgm_error *error);
/* Whether there are rows of an evaluation at `step`. */
sgm_status sgm_run_log_has_eval(sgm_run_log *log, int64_t step, bool *has, sgm_error *error);
sgm_status sgm_run_log_sample(sgm_run_log *log, int64_t step, const char *prompt, const char *text, size_t size,
                              sgm_error *error);
sgm_status sgm_run_log_meta(sgm_run_log *log, const char *key, const char *value, sgm_error *error);
/* What a number in the column `layer` means, where that is more than the layer itself: table `routed_layers`, which is there only
 * where this was called. */
sgm_status sgm_run_log_routed(sgm_run_log *log, int64_t routed, int64_t layer, const char *part, int64_t experts,
                              sgm_error *error);
/* What is written between the two is in the file as a whole or not at all; `end` is told how it went, and returns that. */
sgm_status sgm_run_log_begin(sgm_run_log *log, sgm_error *error);
sgm_status sgm_run_log_end(sgm_run_log *log, sgm_status status, sgm_error *error);
sgm_status sgm_run_log_flush(sgm_run_log *log, sgm_error *error);

/* Delete every row after `step`, waiting ones too. */
sgm_status sgm_run_log_truncate(sgm_run_log *log, int64_t step, sgm_error *error);
/* Seconds of all steps written, and how many these are. */
sgm_status sgm_run_log_seconds(sgm_run_log *log, double *seconds, double *steps, sgm_error *error);

#endif
