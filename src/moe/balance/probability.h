// SPDX-License-Identifier: Apache-2.0
/* What the balancing losses mean by a token's probabilities p, how they depend on its logits z, and logarithms of p.
 *
 * The routers' scores where they are a softmax; sigmoid scores divided by their sum (arXiv 2412.19437, section 2.1.2).
 * For g_i = d(loss)/d(p_i):
 *   softmax   dz_j = p_j (g_j − Σ g_i p_i)
 *   sigmoid   dz_j = p_j (1 − s_j) (g_j − Σ g_i p_i)   with s the score and p = s / Σ s */
#ifndef SGM_MOE_BALANCE_PROBABILITY_H
#define SGM_MOE_BALANCE_PROBABILITY_H

#include "base/elementary.h"
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

/* d_logits of the item += pull · d(Σ price_i p_i)/d(logits), the prices (E) held constant. */
static inline void sgm_probability_pull(sgm_routing *record, int64_t item, const double *price, double pull) {
    const sgm_real *p = record->probabilities + item * record->experts;
    sgm_real *dz = record->d_logits + item * record->experts;
    double scale = sgm_probability_scale(record, item), mean = 0;
    for (int64_t e = 0; e < record->experts; e++)
        mean += price[e] * (double)p[e];
    mean *= scale;
    for (int64_t e = 0; e < record->experts; e++)
        dz[e] += (sgm_real)(pull * scale * (double)p[e] * sgm_probability_slope(record, p[e]) * (price[e] - mean));
}

/* sums (E) += p of the item for experts [begin, end): what a loss over the mean probability accumulates. */
static inline void sgm_probability_add(const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                                       int64_t end) {
    const sgm_real *p = record->probabilities + item * record->experts;
    if (begin >= end)
        return;
    double scale = sgm_probability_scale(record, item);
    for (int64_t e = begin; e < end; e++)
        sums[e] += (double)p[e] * scale;
}

/* ln p, with a floor so that p ln p is 0 at p = 0 and a slope is finite. NaN stays. */
static inline double sgm_probability_log(double p) {
    return sgm_log64(p < 1e-38 ? 1e-38 : p);
}

/* Entropy −Σ P ln P of the mean probabilities P = sums / tokens, in nats. */
static inline double sgm_probability_entropy(const double *sums, int64_t experts, int64_t tokens) {
    double entropy = 0;
    for (int64_t e = 0; e < experts; e++) {
        double p = sums[e] / (double)tokens;
        entropy -= p * sgm_probability_log(p);
    }
    return entropy;
}

#endif
