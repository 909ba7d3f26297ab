// SPDX-License-Identifier: Apache-2.0
/* The list of learning-rate schedules, and the warm-up they share. */
#include "schedule/schedule.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SGM_SCHEDULE(symbol) extern const sgm_schedule_plugin symbol;
#include "schedule/list.h"
#undef SGM_SCHEDULE

static const sgm_schedule_plugin *const schedules[] = {
#define SGM_SCHEDULE(symbol) &symbol,
#include "schedule/list.h"
#undef SGM_SCHEDULE
    NULL};

const sgm_schedule_plugin *sgm_schedule_at(size_t index) {
    return index < sizeof schedules / sizeof schedules[0] ? schedules[index] : NULL;
}

const sgm_schedule_plugin *sgm_schedule_find(const char *name, sgm_error *error) {
    const char *names[sizeof schedules / sizeof schedules[0]] = {NULL};
    for (size_t i = 0; schedules[i]; i++) {
        if (strcmp(schedules[i]->plugin.name, name) == 0)
            return schedules[i];
        names[i] = schedules[i]->plugin.name;
    }
    const char *near = sgm_nearest(name, names);
    char hint[128] = "`sigmoe list schedules` shows them all";
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    sgm_fail(error, SGM_EARGUMENT, hint, "schedule %s: there is no such schedule", name);
    return NULL;
}

int64_t sgm_schedule_warmup(int64_t warmup, int64_t steps) {
    if (warmup != SGM_AUTO)
        return warmup;
    return steps / 20 < 2000 ? steps / 20 : 2000;
}

sgm_status sgm_schedule_check_warmup(int64_t warmup, int64_t steps, sgm_error *error) {
    if (sgm_schedule_warmup(warmup, steps) <= steps)
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, "shorten the warm-up, or let it be `auto`",
                    "schedule.warmup_steps: %" PRId64 " is more than the run's %" PRId64 " steps", warmup, steps);
}
