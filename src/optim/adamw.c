// SPDX-License-Identifier: Apache-2.0
/* AdamW: Adam with decoupled weight decay. Source: arXiv 1412.6980, arXiv 1711.05101.
 *
 *   m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
 *   w ← w − lr · ( (m / (1 − β1^t)) / (sqrt(v / (1 − β2^t)) + ε) + λ w )
 *
 * The powers are taken by repeated multiplication, never by libm, so that every compiler and libc agrees on them. */
#include <stdbool.h>
#include <stddef.h>

#include "optim/optimizer.h"

typedef struct adamw_settings {
    double beta1, beta2, epsilon, weight_decay;
} adamw_settings;

static const sgm_param params[] = {
    {"beta1", SGM_PARAM_REAL, offsetof(adamw_settings, beta1), "0.9", 0, 0.999999, false, NULL, "",
     "decay of the mean of the gradient"},
    {"beta2", SGM_PARAM_REAL, offsetof(adamw_settings, beta2), "0.95", 0, 0.999999, false, NULL, "",
     "decay of the mean of the squared gradient"},
    {"epsilon", SGM_PARAM_REAL, offsetof(adamw_settings, epsilon), "1e-8", 1e-30, 1, false, NULL, "",
     "added to the root of the second moment"},
    {"weight_decay", SGM_PARAM_REAL, offsetof(adamw_settings, weight_decay), "0.1", 0, 10, false, NULL, "",
     "decoupled decay of matrices; norm gains do not decay"},
};

/* base^n for n >= 1. */
static double power(double base, int64_t n) {
    double result = 1;
    for (; n > 0; n >>= 1, base *= base)
        if (n & 1)
            result *= base;
    return result;
}

static void update(const sgm_optimizer_step *step, int64_t count, bool decay, const sgm_real *gradient,
                   sgm_real *weight, sgm_real *moments, int64_t stride) {
    const adamw_settings *settings = step->settings;
    sgm_adamw_step kernel = {
        .learning_rate = step->learning_rate,
        .beta1 = settings->beta1,
        .beta2 = settings->beta2,
        .epsilon = settings->epsilon,
        .weight_decay = decay ? settings->weight_decay : 0,
        .correction1 = 1 - power(settings->beta1, step->update),
        .correction2 = 1 - power(settings->beta2, step->update),
        .gradient_scale = step->gradient_scale,
    };
    step->kernels->adamw(count, &kernel, gradient, weight, moments, moments + stride);
}

const sgm_optimizer_plugin sgm_optimizer_adamw = {
    .plugin = {"adamw", "Adam with decoupled weight decay", "arXiv 1711.05101", params,
               sizeof params / sizeof params[0], sizeof(adamw_settings)},
    .moments = 2,
    .update = update,
};
