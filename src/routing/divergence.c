// SPDX-License-Identifier: Apache-2.0
/* How much domains differ in the experts they use.
 *
 * JS = H(mean of the shares) − mean of H(share), each domain weighing the same: the mutual information of an expert and its
 * domain where domains are equally frequent. The noise follows from the bias −(E − 1)/2n of an entropy that is taken from n
 * counts, with E the experts that anybody used (Miller and Madow). The K experts of a token are distinct, so a count varies by
 * K f (1 − K f) a token rather than K f (1 − f): Σ of that over f makes E − K of E − 1. */
#include <string.h>

#include "base/elementary.h"
#include "routing/routing.h"

static double entropy(const double *share, int64_t experts) {
    double sum = 0;
    for (int64_t e = 0; e < experts; e++)
        if (share[e] > 0)
            sum -= share[e] * sgm_log64(share[e]);
    return sum;
}

sgm_divergence sgm_domain_divergence(const int64_t *const *count, const int64_t *tokens, size_t domains,
                                     int64_t experts, double *scratch) {
    double *share = scratch, *mean = scratch + experts, entropies = 0, inverse = 0, assigned = 0, items = 0;
    int64_t present = 0, used = 0;
    memset(mean, 0, (size_t)experts * sizeof *mean);
    for (size_t d = 0; d < domains; d++) {
        int64_t total = 0;
        for (int64_t e = 0; e < experts; e++)
            total += count[d][e];
        if (total == 0)
            continue;
        for (int64_t e = 0; e < experts; e++) {
            share[e] = (double)count[d][e] / (double)total;
            mean[e] += share[e];
        }
        entropies += entropy(share, experts);
        inverse += 1 / (double)total;
        assigned += (double)total;
        items += (double)tokens[d];
        present++;
    }
    if (present < 2)
        return (sgm_divergence){0, 0};
    double D = (double)present;
    for (int64_t e = 0; e < experts; e++) {
        mean[e] /= D;
        used += mean[e] > 0;
    }
    double js = entropy(mean, experts) - entropies / D, per_token = assigned > items ? assigned / items : 1;
    double free = (double)used > per_token ? (double)used - per_token : 0;
    return (sgm_divergence){.nats = js > 0 ? js : 0, /* rounding */
                            .noise_nats = free * (1 - 1 / D) * inverse / (2 * D)};
}
