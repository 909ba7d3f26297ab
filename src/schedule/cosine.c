// SPDX-License-Identifier: Apache-2.0
/* Warm-up, then half a cosine down to a final share. Source: arXiv 1608.03983, without restarts.
 *
 * With N steps and W of warm-up the factor at step s ≥ W is final + (1 − final) · (1 + cos πx)/2, x = (s − W) / (N − W). */
#include <stdbool.h>
#include <stddef.h>

#include "base/elementary.h"
#include "schedule/schedule.h"

typedef struct cosine_settings {
    int64_t warmup_steps;
    double final_share;
} cosine_settings;

static const sgm_param params[] = {
    {"warmup_steps", SGM_PARAM_INT, offsetof(cosine_settings, warmup_steps), "auto", 0, 1e12, true, NULL, "steps",
     "steps of warm-up; auto: a twentieth of the run, at most 2000"},
    {"final_share", SGM_PARAM_REAL, offsetof(cosine_settings, final_share), "0.1", 0, 1, false, NULL, "",
     "what the cosine runs towards, as a share of the learning rate"},
};

static sgm_status check(const void *opaque, int64_t steps, sgm_error *error) {
    const cosine_settings *settings = opaque;
    return sgm_schedule_check_warmup(settings->warmup_steps, steps, error);
}

static double factor(const void *opaque, int64_t step, int64_t steps) {
    const cosine_settings *settings = opaque;
    int64_t warmup = sgm_schedule_warmup(settings->warmup_steps, steps);
    if (step < warmup)
        return (double)(step + 1) / (double)warmup;
    double sine, cosine;
    sgm_sincos(3.14159265358979323846 * (double)(step - warmup) / (double)(steps - warmup), &sine, &cosine);
    return settings->final_share + (1 - settings->final_share) * 0.5 * (1 + cosine);
}

const sgm_schedule_plugin sgm_schedule_cosine = {
    .plugin = {"cosine", "warm-up, then half a cosine down", "arXiv 1608.03983", params,
               sizeof params / sizeof params[0], sizeof(cosine_settings)},
    .check = check,
    .factor = factor,
};
