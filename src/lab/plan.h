// SPDX-License-Identifier: Apache-2.0
/* lab.json: what a lab decided once and keeps, so that a resumed lab and a repeated one give the same numbers. */
#ifndef SGM_LAB_PLAN_H
#define SGM_LAB_PLAN_H

#include "sigmoe/lab.h"

enum { SGM_LAB_VERSION = 1, SGM_LAB_SEEDS = 1000 /* at most */ };
#define SGM_LAB_STEPS INT64_C(1000000000000) /* at most: as train.steps */

typedef struct sgm_lab_plan {
    char *experiment; /* as it was given: a name or a path */
    int64_t steps, seeds;
    double minutes;                  /* NaN: the steps were not measured */
    char **settings, **data, **arms; /* arms: those that were asked for, together; none: all */
    size_t setting_count, data_count, arm_count;
    char *corpus;   /* sgm_corpus_hash_text of the text; NULL: not known yet, or a lab from before this was kept */
    char *name;     /* of the experiment; NULL, too: a lab from before this was kept */
    char *own_data; /* `data:` of the experiment when the lab began; NULL: a lab from before this was kept */
} sgm_lab_plan;

/* SGM_ENOTFOUND: there is none. */
sgm_status sgm_lab_plan_read(const char *folder, sgm_lab_plan *plan, sgm_error *error);
sgm_status sgm_lab_plan_write(const char *folder, const sgm_lab_plan *plan, sgm_error *error);
void sgm_lab_plan_free(sgm_lab_plan *plan);
/* Copies of texts; SGM_EMEMORY. */
sgm_status sgm_lab_texts(const char *const *from, size_t count, char ***texts, size_t *copied, sgm_error *error);
bool sgm_lab_plan_wants(const sgm_lab_plan *plan, const char *arm);
/* FOLDER/runs/ARM-seed-N: heap path; NULL: no memory. */
char *sgm_lab_run_folder(const char *folder, const char *arm, int64_t seed);
bool sgm_lab_run_complete(const char *run); /* its summary is there */

#endif
