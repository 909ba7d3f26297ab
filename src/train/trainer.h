// SPDX-License-Identifier: Apache-2.0
/* The inside of a trainer: the stepper's numbers on one side, the run folder on the other. */
#ifndef SGM_TRAIN_TRAINER_H
#define SGM_TRAIN_TRAINER_H

#include "base/file.h"
#include "routing/trace.h"
#include "sigmoe/data.h"
#include "sigmoe/train.h"
#include "train/checkpoint.h"
#include "train/run_log.h"
#include "train/stepper.h"

/* What evaluation and sampling need, allocated once. */
typedef struct sgm_evaluator {
    int32_t *tokens, *positions, *targets, *domain; /* (micro_rows); domain -1: the row is not scored */
    sgm_segment *segments;
    int64_t rows, segment_count;
    int64_t *token_bytes; /* per token of the tokenizer: text bytes it stands for */
    double *loss;         /* per domain: nats */
    int64_t *scored, *bytes;
    double *bits_per_byte;
    const char **names;
    size_t domains;
    bool said_empty; /* that there is no held-out text */
    sgm_load *load;  /* (L) of the last evaluation */
    int64_t *load_count;
    double *load_sum;
    int64_t *domain_count;  /* (domains, L, E) of it */
    int64_t layer_numbers;  /* from one layer to the next of the counts: E, of the widest */
    int64_t domain_numbers; /* from one domain to the next */
    float *logits;          /* (V) */
} sgm_evaluator;

struct sgm_trainer {
    char *run;
    sgm_lock *lock;
    sgm_run_settings *settings;
    sgm_stepper *stepper;
    sgm_corpus *corpus;
    sgm_loader *loader;
    sgm_tokenizer *tokenizer;
    sgm_run_log *log;
    int log_file; /* log.txt, -1: none */
    sgm_trainer_events events;
    const volatile int *stop; /* while sgm_trainer_run is at work; NULL: none */
    sgm_evaluator evaluator;
    sgm_eval_report last_eval;
    int64_t saved_step;                 /* -1: none yet */
    int64_t failed_saves;               /* in a row */
    int64_t *experts_before;            /* (L) experts per token at the step before: tells the switch */
    double flops_per_token, peak_flops; /* NaN: not measured */
    double seconds_per_step;            /* moving average, for the time left */
    bool log_failed;
    sgm_trace_recorder trace;
    int64_t gave_up; /* it was resumed where a run had stopped for so many steps in a row that were not finite; 0: no */
};

/* A line for the caller, log.txt, or both. */
void sgm_trainer_note(sgm_trainer *trainer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sgm_trainer_log(sgm_trainer *trainer, const char *format, ...) __attribute__((format(printf, 2, 3)));
sgm_notes sgm_trainer_notes(sgm_trainer *trainer);
bool sgm_trainer_stopped(const sgm_trainer *trainer);

/* trainer_eval.c. At most `limit` tokens over all domains, 0: all; writes rows and calls the event. SGM_EINTERRUPTED, with
 * neither: the run's stop flag was raised. */
sgm_status sgm_evaluator_new(sgm_trainer *trainer, sgm_error *error);
void sgm_evaluator_free(sgm_evaluator *evaluator);
sgm_status sgm_trainer_evaluate(sgm_trainer *trainer, int64_t limit, sgm_error *error);
sgm_status sgm_trainer_sample(sgm_trainer *trainer, sgm_error *error);

/* trainer_begin.c: a new run's weights and bias on selection, where train.from names a model. Before the first step and
 * the first checkpoint. */
sgm_status sgm_trainer_begin(sgm_trainer *trainer, sgm_error *error);

/* trainer_trace.c: around a step. begin: is this step traced (train.trace_every, and its file could be made)? What fails
 * is noted, and the run goes on. */
bool sgm_trainer_trace_begin(sgm_trainer *trainer);
void sgm_trainer_trace_end(sgm_trainer *trainer);

/* trainer_summary.c: RUN/summary.json. */
sgm_status sgm_trainer_summary(sgm_trainer *trainer, sgm_error *error);

/* run_folder.c. Write where the data come from into `data.folder`: the one data folder that was named, as an absolute path,
 * or "" for text that is still to be tokenised. Before the config is bound: its values are borrowed from then on. */
sgm_status sgm_run_folder_bind_data(sgm_config *config, const char *const *data, size_t data_count, sgm_error *error);
/* run_folder.c. Tokenise text into FOLDER/data, which is there whole afterwards or not at all, with the tokenizer that the
 * settings name or a new one. */
sgm_status sgm_run_folder_build_data(const sgm_run_settings *settings, const char *const *data, size_t data_count,
                                     const char *folder, const volatile int *stop, sgm_error *error);
/* run_folder.c. Make RUN with its config.yaml and, where text was given, its data, in one rename: it is there whole or
 * not at all; `stop` as in sgm_data_build. `lock` is held on return. The settings' config gets data.folder. */
sgm_status sgm_run_folder_make(const sgm_run_settings *settings, const char *const *data, size_t data_count,
                               const char *run, const volatile int *stop, sgm_lock **lock, sgm_error *error);
/* Lock an existing run and read its config; `steps` > 0 replaces train.steps in what was read. */
sgm_status sgm_run_folder_open(const char *run, int64_t steps, sgm_lock **lock, sgm_config **config, sgm_error *error);
/* Where that raised them: write them into its config.yaml too, once it is known that the run can be resumed. */
sgm_status sgm_run_folder_write_steps(const char *run, const sgm_config *config, sgm_error *error);
/* The data folder a run reads: heap path. */
char *sgm_run_folder_data(const char *run, const sgm_run_settings *settings);

#endif
