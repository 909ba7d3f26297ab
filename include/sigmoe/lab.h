// SPDX-License-Identifier: Apache-2.0
/* The laboratory: ideas compared on equal terms.
 *
 * An experiment is one YAML file: a base configuration and arms that inherit from it or from each other and override
 * keys. A lab is the folder of one experiment's runs: for each seed every arm is trained on the same data, the arms
 * taking turns of a few steps, so that whatever slows the machine slows all of them. An arm with a seed is an ordinary
 * run folder. From the finished runs come results.json, results.md, report.html and pictures. docs/lab.md has the keys of an
 * experiment, the fields of results.json and how to read them.
 *
 * The same experiment, steps and seeds give the same numbers (times aside), also when the lab was interrupted or killed
 * on the way, on the terms of train.h: the same binary, processor features and threads. */
#ifndef SIGMOE_LAB_H
#define SIGMOE_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/config.h"
#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- experiments ---------------------------------------------------------------------------------------------- */

typedef struct sgm_experiment sgm_experiment;

/* Read and check all of it: unknown keys, arms that inherit from nobody or in a circle, a configuration of an arm that
 * training would refuse (the message names the arm). `settings`: "KEY=VALUE" texts that go on top of the base, below
 * what arms set. SGM_EARGUMENT with a hint; SGM_ENOTFOUND. */
sgm_status sgm_experiment_open(const char *path, const char *const *settings, size_t setting_count,
                               sgm_experiment **experiment, sgm_error *error);
void sgm_experiment_close(sgm_experiment *experiment);

/* Texts are borrowed from the experiment; "" where the file does not say. */
typedef struct sgm_experiment_info {
    const char *name, *claim, *paper, *tuning, *baseline, *preset;
    int64_t steps, tokens_per_step, seeds; /* seeds: how many, from 1 on */
    int64_t groups;                        /* devices that experts are spread over for the imbalance score; 0: none */
    const char *caches, *placements;       /* tried on every run's routes, parted by commas; "": none */
    size_t arms;
} sgm_experiment_info;
void sgm_experiment_describe(const sgm_experiment *experiment, sgm_experiment_info *info);

typedef struct sgm_experiment_arm {
    const char *name, *description;
    const char *inherits;     /* another arm, "" for the base */
    const char *balance;      /* its balancers with coefficient and scope, "none" */
    const sgm_config *config; /* resolved; borrowed */
} sgm_experiment_arm;
void sgm_experiment_arm_at(const sgm_experiment *experiment, size_t index, sgm_experiment_arm *arm);
const sgm_config *sgm_experiment_base(const sgm_experiment *experiment); /* borrowed */

/* ---- running -------------------------------------------------------------------------------------------------- */

#define SGM_LAB_SHARE (-1)
typedef struct sgm_lab_options {
    const char *folder;          /* the lab; made, or gone on with */
    const char *label;           /* how the experiment was named, for the command that repeats it; NULL: its path */
    const char *const *settings; /* "KEY=VALUE" on the base */
    size_t setting_count;
    const char *const *data; /* text or a data folder; none: what the experiment says */
    size_t data_count;
    const char *default_data; /* where the experiment does not say either; may be NULL */
    const char *const *arms;  /* names; none: all */
    size_t arm_count;
    int64_t seeds, steps; /* 0: the experiment's, or the lab's own where it has begun */
    double minutes;       /* > 0: as many steps as fit, measured once and kept; excludes `steps` */
    /* Of an arm; 0: as the experiment says, with several jobs an equal share of the cores; SGM_LAB_SHARE: that in any case. */
    int64_t threads;
    int64_t jobs; /* arms trained at once; 0: one. Results depend on it as on threads (train.h), times do too */
    bool discard_checkpoints; /* of a run that is complete: results do not need them */
} sgm_lab_options;

typedef enum sgm_lab_state { SGM_LAB_WAITS, SGM_LAB_TRAINS, SGM_LAB_DONE, SGM_LAB_FAILED } sgm_lab_state;

/* One arm with the present seed. Numbers are NaN while there are none. */
typedef struct sgm_lab_row {
    const char *arm;
    sgm_lab_state state;
    int64_t seed, step, steps;
    double loss_nats_per_token;         /* running mean */
    double bits_per_byte;               /* last evaluation */
    double max_violation, dead_experts; /* of the last step: mean over layers */
    double tokens_per_second, seconds;  /* of its own steps in this session */
} sgm_lab_row;

/* With several jobs they come from any of their threads, one at a time. */
typedef struct sgm_lab_events {
    void *context;
    /* After every turn; rows are borrowed. `done`: share of all runs' steps that are done. */
    void (*turn)(void *context, const sgm_lab_row *rows, size_t count, double done);
    void (*eval)(void *context, const sgm_lab_row *row);
    void (*note)(void *context, const char *text);
} sgm_lab_events;

/* Run, or go on, until every selected arm has its seeds; then write the outputs. An arm that fails (its loss is not
 * finite, say) does not stop the others; its error is returned at the end. The lab remembers steps, settings and data:
 * other ones are SGM_EARGUMENT. SGM_EEXISTS: the folder is no lab
 * and not empty. SGM_EINTERRUPTED: `*stop` became non-zero, everything is saved. SGM_EBUSY: another
 * process works in the folder. */
sgm_status sgm_lab_run(const char *experiment, const sgm_lab_options *options, const sgm_lab_events *events,
                       const volatile int *stop, sgm_error *error);

/* Write results.json, results.md, report.html and pictures/ of what is complete. SGM_ENOTFOUND: no lab, or nothing is complete.
 * SGM_EARGUMENT: a run is not one that this lab would make (the message names it and what differs); SGM_EFORMAT: it is
 * damaged, or no run. */
sgm_status sgm_lab_report(const char *folder, sgm_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
