// SPDX-License-Identifier: Apache-2.0
/* Warm-up, stable, decay. Source: arXiv 2404.06395; the 1 − sqrt shape of the decay: arXiv 2405.18392.
 *
 * With N steps, W of warm-up and D = ⌈decay_share · N⌉ of decay, the factor at step s (from 0) is
 *   (s + 1) / W                        s < W
 *   1                                  W ≤ s < N − D
 *   final + (1 − final) · (1 − h(x))   s ≥ N − D,  x = (s − (N − D) + 1) / (D + 1)
 * with h(x) = x (linear), sqrt(x) (sqrt) or (1 − cos πx)/2 (cosine). x stays below 1: no step is spent on a factor of 0. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/elementary.h"
#include "schedule/schedule.h"

typedef struct wsd_settings {
    int64_t warmup_steps;
    double decay_share, final_share;
    int decay_shape;
} wsd_settings;

enum { SHAPE_LINEAR, SHAPE_SQRT, SHAPE_COSINE };

static const sgm_param params[] = {
    {"warmup_steps", SGM_PARAM_INT, offsetof(wsd_settings, warmup_steps), "auto", 0, 1e12, true, NULL, "steps",
     "steps of warm-up; auto: a twentieth of the run, at most 2000"},
    {"decay_share", SGM_PARAM_REAL, offsetof(wsd_settings, decay_share), "0.2", 0, 1, false, NULL, "",
     "share of the run's steps, at its end, over which the rate decays"},
    {"final_share", SGM_PARAM_REAL, offsetof(wsd_settings, final_share), "0", 0, 1, false, NULL, "",
     "what the decay runs towards, as a share of the learning rate"},
    {"decay_shape", SGM_PARAM_ENUM, offsetof(wsd_settings, decay_shape), "sqrt", 1, 0, false, "linear|sqrt|cosine", "",
     "shape of the decay"},
};

static int64_t decay_steps(const wsd_settings *settings, int64_t steps) {
    /* 0.07 of 100 steps are 7 steps, not the 8 that rounding upwards could make of them. */
    return (int64_t)ceil(settings->decay_share * (double)steps - 1e-6);
}

static sgm_status check(const void *opaque, int64_t steps, sgm_error *error) {
    const wsd_settings *settings = opaque;
    sgm_status status = sgm_schedule_check_warmup(settings->warmup_steps, steps, error);
    if (status)
        return status;
    int64_t warmup = sgm_schedule_warmup(settings->warmup_steps, steps), decay = decay_steps(settings, steps);
    if (warmup + decay > steps)
        return sgm_fail(error, SGM_EARGUMENT, "lower schedule.warmup_steps or schedule.decay_share",
                        "schedule wsd: %" PRId64 " steps of warm-up and %" PRId64 " of decay are more than the run's "
                        "%" PRId64,
                        warmup, decay, steps);
    return SGM_OK;
}

static double factor(const void *opaque, int64_t step, int64_t steps) {
    const wsd_settings *settings = opaque;
    int64_t warmup = sgm_schedule_warmup(settings->warmup_steps, steps), decay = decay_steps(settings, steps);
    if (step < warmup)
        return (double)(step + 1) / (double)warmup;
    if (step < steps - decay)
        return 1;
    double x = (double)(step - (steps - decay) + 1) / (double)(decay + 1);
    if (settings->decay_shape == SHAPE_SQRT) {
        x = sqrt(x);
    } else if (settings->decay_shape == SHAPE_COSINE) {
        double sine, cosine;
        sgm_sincos(3.14159265358979323846 * x, &sine, &cosine);
        x = 0.5 * (1 - cosine);
    }
    return settings->final_share + (1 - settings->final_share) * (1 - x);
}

const sgm_schedule_plugin sgm_schedule_wsd = {
    .plugin = {"wsd", "warm-up, then constant, then decay", "arXiv 2404.06395", params,
               sizeof params / sizeof params[0], sizeof(wsd_settings)},
    .check = check,
    .factor = factor,
};
