// SPDX-License-Identifier: Apache-2.0
/* Training runs.
 *
 * A run lives in a folder: config.yaml (resolved, every value with its origin), run.sqlite, checkpoints/step-NNNNNN/,
 * checkpoints/latest, log.txt, summary.json, report.html. It is usable after a crash at any instant. Resuming with the same
 * binary, CPU features and thread count continues bit for bit. */
#ifndef SIGMOE_TRAIN_H
#define SIGMOE_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/config.h"
#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define SGM_TRAIN_SEED_MOST 9e15 /* below 2^53: a double holds it, whoever reads it */

typedef struct sgm_trainer sgm_trainer;

/* What happened in one optimizer step. Arrays are borrowed until the next step. */
typedef struct sgm_step_report {
    int64_t step, steps;        /* this step (1-based after it is done), all steps */
    int64_t tokens;             /* trained on so far */
    double loss_nats_per_token; /* cross-entropy of this global batch */
    double balance_loss;        /* weighted sum of all balancers */
    double gradient_norm, learning_rate;
    double seconds, tokens_per_second, seconds_left;
    double
        peak_share; /* achieved FLOP/s over the peak of the numbers multiplied (train.compute) measured here, at most 1; NaN when not measured */
    bool skipped;   /* non-finite: weights untouched */
    int64_t null_experts;                       /* the last so many of E: no weights */
    int64_t layers, experts, attention_experts; /* with attention experts by routed sub-layer (sigmoe/model.h) */
    const int64_t *experts_per_token;           /* (L) */
    const int64_t *load;                        /* (L, E) assignments of this step */
    const double *probability;                  /* (L, E) mean router probability */
} sgm_step_report;

typedef struct sgm_eval_report {
    int64_t step, tokens, bytes;
    double loss_nats_per_token, perplexity, bits_per_byte;
    size_t domains;
    const char *const *domain;
    const double *domain_bits_per_byte;
    const int64_t *domain_bytes;
} sgm_eval_report;

typedef struct sgm_trainer_events {
    void *context;
    void (*step)(void *context, const sgm_step_report *report);
    void (*eval)(void *context, const sgm_eval_report *report);
    void (*checkpoint)(void *context, int64_t step, const char *folder);
    void (*note)(void *context, const char *text); /* a line worth telling: skipped step, switch of sparsity, … */
} sgm_trainer_events;

/* Start a run in a new folder. `data`: a data folder, or text files and folders (tokenised into RUN/data first, with a new
 * tokenizer unless data.tokenizer names one). Errors: SGM_EEXISTS the folder exists; SGM_EBUSY another process works in it;
 * SGM_EMEMORY said before allocating; SGM_EINTERRUPTED `*stop` (polled while text is read and tokenised; may be NULL) became
 * non-zero. Nothing is left behind on an error. */
sgm_status sgm_trainer_start(const sgm_config *config, const char *const *data, size_t data_count, const char *run,
                             const sgm_trainer_events *events, const volatile int *stop, sgm_trainer **trainer,
                             sgm_error *error);
/* Continue the run at its latest checkpoint that verifies, with the configuration it has. `steps` > 0: the
 * run's new length, no shorter than it was; `threads` > 0: with so many. SGM_EEXISTS: it was trained and has no checkpoint. */
sgm_status sgm_trainer_resume(const char *run, int64_t steps, int threads, const sgm_trainer_events *events,
                              sgm_trainer **trainer, sgm_error *error);
/* Train to the end, saving as configured. `*stop` is polled between steps and in evaluations: non-zero → save, return
 * SGM_EINTERRUPTED. An evaluation that was broken off is made by the run that goes on. */
sgm_status sgm_trainer_run(sgm_trainer *trainer, const volatile int *stop, sgm_error *error);
/* The same, but at most `steps` steps of it, so that several runs can take turns; no save between turns but those
 * configured. *done: the run is complete, its last evaluation and summary too. */
sgm_status sgm_trainer_advance(sgm_trainer *trainer, int64_t steps, const volatile int *stop, bool *done,
                               sgm_error *error);
sgm_status sgm_trainer_step(sgm_trainer *trainer, sgm_step_report *report, sgm_error *error); /* one step */
sgm_status sgm_trainer_save(sgm_trainer *trainer, sgm_error *error);
void sgm_trainer_close(sgm_trainer *trainer);

/* The start banner's facts. */
typedef struct sgm_trainer_plan {
    int64_t step; /* done already: where a resumed run goes on */
    int64_t total_parameters, active_parameters, steps, tokens_per_step, micro_batches, train_tokens, heldout_tokens;
    int64_t threads, memory_bytes, corpus_bytes;
    double flops_per_token;
    const char *kernels, *router, *balance, *sparsity, *optimizer, *schedule;
} sgm_trainer_plan;
void sgm_trainer_describe(const sgm_trainer *trainer, sgm_trainer_plan *plan);

/* One self-contained HTML page from RUN/run.sqlite: loss curves, learning rate, experts at work per layer, layer × expert
 * heat map over time, f and p entropies by layer, samples. `path` NULL: RUN/report.html.
 * A file that is there already is replaced if its name ends in .html; else SGM_EARGUMENT. */
sgm_status sgm_report_write(const char *run, const char *path, sgm_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
