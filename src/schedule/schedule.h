// SPDX-License-Identifier: Apache-2.0
/* Learning-rate schedules: the factor on optimizer.learning_rate at each step. One file and one line in list.h each. */
#ifndef SGM_SCHEDULE_SCHEDULE_H
#define SGM_SCHEDULE_SCHEDULE_H

#include "sigmoe/registry.h"

typedef struct sgm_schedule_plugin {
    sgm_plugin plugin; /* first: the registry sees only this */
    sgm_status (*check)(const void *settings, int64_t steps, sgm_error *error);
    /* In (0, 1] at `step` (0 … steps-1) of a run: a pure function, so that a resumed run needs no state. */
    double (*factor)(const void *settings, int64_t step, int64_t steps);
} sgm_schedule_plugin;

const sgm_schedule_plugin *sgm_schedule_at(size_t index); /* NULL past the end */
const sgm_schedule_plugin *sgm_schedule_find(const char *name, sgm_error *error);

/* Shared by the plug-ins. `warmup` may be SGM_AUTO: a twentieth of the run, at most 2000 steps. The factor rises in a
 * straight line from 1/warmup at step 0 to 1 at step warmup-1. */
int64_t sgm_schedule_warmup(int64_t warmup, int64_t steps);
sgm_status sgm_schedule_check_warmup(int64_t warmup, int64_t steps, sgm_error *error);

#endif
