// SPDX-License-Identifier: Apache-2.0
/* What every loss over a scope lets one choose: its settings begin with these fields, its params with SGM_LOSS_PARAMS. */
#ifndef SGM_MOE_BALANCE_LOSS_PARAMS_H
#define SGM_MOE_BALANCE_LOSS_PARAMS_H

#include <stddef.h>

#include "moe/balance/balance.h"
#include "moe/balance/probability.h"

typedef struct sgm_loss_settings {
    double coefficient;
    int scope, mode;
} sgm_loss_settings;

#define SGM_LOSS_SCOPES "sequence|micro|global"
#define SGM_LOSS_SCOPES_HELP "tokens that are balanced together: a sequence, a micro-batch, the global batch"

/* `worth`: what the help says of the coefficient. `scope_choices`: SGM_LOSS_SCOPES, with "|shuffle" where the loss has hard
 * counts. */
#define SGM_LOSS_PARAMS(worth, scope_choices, scope_help)                                                              \
    {.name = "coefficient",                                                                                            \
     .type = SGM_PARAM_REAL,                                                                                           \
     .offset = offsetof(sgm_loss_settings, coefficient),                                                               \
     .fallback = "0.001",                                                                                              \
     .min = 0,                                                                                                         \
     .max = 1e6,                                                                                                       \
     .unit = "",                                                                                                       \
     .help = "weight of the loss" worth},                                                                              \
        {.name = "scope",                                                                                              \
         .type = SGM_PARAM_ENUM,                                                                                       \
         .offset = offsetof(sgm_loss_settings, scope),                                                                 \
         .fallback = "global",                                                                                         \
         .choices = scope_choices,                                                                                     \
         .min = 1,                                                                                                     \
         .unit = "",                                                                                                   \
         .help = scope_help},                                                                                          \
    {                                                                                                                  \
        .name = "mode", .type = SGM_PARAM_ENUM, .offset = offsetof(sgm_loss_settings, mode), .fallback = "exact",      \
        .choices = "exact|buffer|lagged", .min = 1, .unit = "",                                                        \
        .help = "sums of the global batch: taken first (a forward pass more), so far, or of the step before"           \
    }

static inline sgm_balance_scope sgm_loss_scope(const void *settings) {
    return (sgm_balance_scope)((const sgm_loss_settings *)settings)->scope;
}

static inline sgm_balance_mode sgm_loss_mode(const void *settings) {
    return (sgm_balance_mode)((const sgm_loss_settings *)settings)->mode;
}

static inline double sgm_loss_coefficient(const void *settings) {
    return ((const sgm_loss_settings *)settings)->coefficient;
}

/* One sum per expert: of its probabilities. */
static inline size_t sgm_loss_sum_per_expert(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts;
}

static inline void sgm_loss_add_probabilities(const void *settings, const sgm_routing *record, int64_t item,
                                              double *sums, int64_t begin, int64_t end) {
    (void)settings;
    sgm_probability_add(record, item, sums, begin, end);
}

#endif
