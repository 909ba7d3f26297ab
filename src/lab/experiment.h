// SPDX-License-Identifier: Apache-2.0
/* An experiment in memory, and reading its file. */
#ifndef SGM_LAB_EXPERIMENT_H
#define SGM_LAB_EXPERIMENT_H

#include "base/param_value.h"
#include "lab/serving.h"
#include "sigmoe/lab.h"

enum { SGM_EXPERIMENT_BYTES = 1 << 20, SGM_EXPERIMENT_ARMS = 64, SGM_EXPERIMENT_FRAME = 16, SGM_EXPERIMENT_DEPTH = 16 };

/* Where a `set` mapping stands in the file, in bytes: it is handed to the config's own reader as it is. */
typedef struct sgm_experiment_part {
    size_t begin, end, line, column; /* line from 0 */
} sgm_experiment_part;

/* The values of one mapping of the file (the frame, or an arm) by a parameter table. */
typedef struct sgm_experiment_values {
    sgm_param_value value[SGM_EXPERIMENT_FRAME];
    size_t line[SGM_EXPERIMENT_FRAME]; /* 0: not given */
    sgm_experiment_part set;           /* end 0: none */
    size_t first_line;
} sgm_experiment_values;

typedef struct sgm_frame_settings {
    char *name, *claim, *paper, *tuning, *baseline, *preset, *compare, *data, *caches, *placements;
    int64_t steps, tokens_per_step, vocabulary, seeds, groups;
} sgm_frame_settings;

typedef struct sgm_arm_settings {
    char *name, *description, *inherits;
} sgm_arm_settings;

extern const sgm_param sgm_frame_params[], sgm_arm_params[];
extern const size_t sgm_frame_param_count, sgm_arm_param_count;

typedef struct sgm_arm {
    sgm_experiment_values values;
    sgm_arm_settings settings; /* texts borrowed from values */
    sgm_config *config;        /* NULL: not made yet */
    char *balance;
} sgm_arm;

struct sgm_experiment {
    char *path, *text; /* text: of the file, NUL-terminated */
    size_t size;
    sgm_experiment_values values;
    sgm_frame_settings frame;
    sgm_lab_serving serving;
    sgm_config *base;
    sgm_arm *arms;
    size_t arm_count;
};

/* sgm_experiment_open of text that was read from `path`. */
sgm_status sgm_experiment_parse(const char *path, const char *text, size_t size, const char *const *settings,
                                size_t setting_count, sgm_experiment **experiment, sgm_error *error);

/* experiment_yaml.c: fill values and arms from experiment->text. */
sgm_status sgm_experiment_read(sgm_experiment *experiment, sgm_error *error);

/* The arm of that name, or SIZE_MAX with an error that names the nearest. */
size_t sgm_experiment_find(const sgm_experiment *experiment, const char *name, const char *where, sgm_error *error);

/* Set train.steps, and evaluations and checkpoints by it where nobody chose them. */
sgm_status sgm_experiment_set_steps(sgm_config *config, int64_t steps, sgm_error *error);

#endif
