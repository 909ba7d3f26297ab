// SPDX-License-Identifier: Apache-2.0
/* Warm-up, then the same learning rate to the end. */
#include <stdbool.h>
#include <stddef.h>

#include "schedule/schedule.h"

typedef struct constant_settings {
    int64_t warmup_steps;
} constant_settings;

static const sgm_param params[] = {
    {"warmup_steps", SGM_PARAM_INT, offsetof(constant_settings, warmup_steps), "auto", 0, 1e12, true, NULL, "steps",
     "steps of warm-up; auto: a twentieth of the run, at most 2000"},
};

static sgm_status check(const void *opaque, int64_t steps, sgm_error *error) {
    const constant_settings *settings = opaque;
    return sgm_schedule_check_warmup(settings->warmup_steps, steps, error);
}

static double factor(const void *opaque, int64_t step, int64_t steps) {
    const constant_settings *settings = opaque;
    int64_t warmup = sgm_schedule_warmup(settings->warmup_steps, steps);
    return step < warmup ? (double)(step + 1) / (double)warmup : 1;
}

const sgm_schedule_plugin sgm_schedule_constant = {
    .plugin = {"constant", "warm-up, then constant", "", params, sizeof params / sizeof params[0],
               sizeof(constant_settings)},
    .check = check,
    .factor = factor,
};
