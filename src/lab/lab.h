// SPDX-License-Identifier: Apache-2.0
/* A lab at work: what its parts share. */
#ifndef SGM_LAB_LAB_H
#define SGM_LAB_LAB_H

#include "base/file.h"
#include "lab/experiment.h"
#include "lab/plan.h"
#include "train/trainer.h"

typedef struct sgm_lab {
    const char *folder;
    const sgm_lab_options *options;
    sgm_lab_events events;
    const volatile int *stop;
    sgm_lock *lock;
    bool made; /* the folder was not there */
    sgm_lab_plan plan;
    sgm_experiment *experiment;
    size_t *arm; /* indices of the arms at work now */
    size_t arms;
    char *data;      /* the data folder that all read */
    int64_t heldout; /* tokens of it that nobody is trained on */
} sgm_lab;

#define SGM_LAB_PROBE ".probe" /* runs that only measure, in the lab's folder */

void sgm_lab_note(const sgm_lab *lab, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool sgm_lab_stopped(const sgm_lab *lab);
/* Arms that are trained at once, of `arms`; threads of arm `index`: what is asked for, with several jobs a share of the cores,
 * else what the experiment says. A run that goes on gets as many as one that begins. */
int sgm_lab_jobs(const sgm_lab *lab, size_t arms);
int sgm_lab_threads(const sgm_lab *lab, size_t index);
/* The configuration of arm `index` of the experiment with a seed and so many steps. */
sgm_status sgm_lab_config(const sgm_lab *lab, size_t index, int64_t seed, int64_t steps, sgm_config **config,
                          sgm_error *error);

/* lab_runs.c. Every arm that lab.json names is one of the experiment's: SGM_EARGUMENT names the first that is not. */
sgm_status sgm_lab_check_arms(const sgm_lab *lab, sgm_error *error);

/* Every run that is there, of any arm and seed of the plan, is one that this lab would make: SGM_EARGUMENT names
 * the first that is not and what differs. SGM_EFORMAT: something else lies in its place. */
sgm_status sgm_lab_check_runs(const sgm_lab *lab, sgm_error *error);
/* Their logs, once the text is known: said before anything is trained beside a run that could not be measured. */
sgm_status sgm_lab_check_logs(const sgm_lab *lab, sgm_error *error);
/* lab_data.c. Before a new lab: text that is named must not lie in FOLDER/data (SGM_EARGUMENT), and what a call left there that
 * died before its plan was written is removed: nobody knows what text it is of. */
sgm_status sgm_lab_check_data(const sgm_lab *lab, sgm_error *error);
sgm_status sgm_lab_remove_data(const sgm_lab *lab, sgm_error *error);
/* FOLDER/data from the text there is, or the data folder that was named; lab->data. */
sgm_status sgm_lab_prepare_data(sgm_lab *lab, sgm_error *error);
/* Notes where there is less text than a run reads, or than its evaluation asks for. */
void sgm_lab_tell_data(const sgm_lab *lab);
/* lab_minutes.c: how many steps of all arms and seeds fit into that many minutes, from a few steps and an evaluation of each
 * arm, as many arms at once as there are jobs. SGM_EARGUMENT: fewer than ten, said as soon as it is certain. */
sgm_status sgm_lab_measure_steps(sgm_lab *lab, double minutes, int64_t *steps, sgm_error *error);
/* lab_routes.c. Does the experiment ask for the routes of held-out text, and is there any? */
bool sgm_lab_wants_routes(const sgm_lab *lab);
/* Of a run that begins anew: routes that another left in its folder. */
sgm_status sgm_lab_drop_routes(const char *run, sgm_error *error);
/* Of a complete run: its routes, if they are wanted and not there; then, of one that `ended_now` or was traced now, its
 * checkpoints go, if they are to be discarded. What cannot be done is a note, and no reason to train no other run.
 * SGM_EINTERRUPTED. */
sgm_status sgm_lab_finish_run(const sgm_lab *lab, size_t arm, int64_t seed, const char *run, bool ended_now,
                              sgm_error *error);
/* lab_turns.c: every arm at work with this seed, in turns, to the end. *failed: the first error of an arm whose run could
 * not go on, code SGM_OK if there was none. */
sgm_status sgm_lab_train_seed(sgm_lab *lab, int64_t seed, sgm_error *failed, sgm_error *error);

#endif
