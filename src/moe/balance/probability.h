// SPDX-License-Identifier: Apache-2.0
/* What the balancing losses mean by a token's probabilities p, and how they depend on its logits z.
 *
 * The routers' scores where they are a softmax; sigmoid scores divided by their sum (arXiv 2412.19437, equation 18).
 * For g_i = d(loss)/d(p_i):
 *   softmax   dz_j = p_j (g_j − Σ g_i p_i)
 *   sigmoid   dz_j = p_j (1 − s_j) (g_j − Σ g_i p_i)   with s the score and p = s / Σ s */
#ifndef SGM_MOE_BALANCE_PROBABILITY_H
#define SGM_MOE_BALANCE_PROBABILITY_H

#include "routing/routing.h"

/* p_i = sgm_probability_scale(record, item) · record->probabilities of the item. */
static inline double sgm_probability_scale(const sgm_routing *record, int64_t item) {
    if (!record->sigmoid)
        return 1;
    const sgm_real *s = record->probabilities + item * record->experts;
    double sum = 0;
    for (int64_t e = 0; e < record->experts; e++)
        sum += (double)s[e];
    return 1 / sum;
}

/* The factor that a sigmoid's own slope adds. */
static inline double sgm_probability_slope(const sgm_routing *record, sgm_real score) {
    return record->sigmoid ? 1 - (double)score : 1;
}

#endif
