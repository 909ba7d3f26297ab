// SPDX-License-Identifier: Apache-2.0
/* How unevenly devices are loaded that hold a group of experts each (Pangu Pro MoE, arXiv 2505.21411, equations 3 and 4).
 *
 * IS = (max_g T_g − min_g T_g) / |X|, over all devices, with T_g the computations of device g for a batch X of tokens. It
 * is 0 where routing is even between groups by construction, and never for a plain top-k of a small batch: chance alone
 * makes it fall as |X|^(−1/2), which is what the simulation shows and the noise floor says beside a measured score. */
#include <math.h>

#include "base/memory.h"
#include "base/rng.h"
#include "routing/routing.h"
#include "sigmoe/stats.h"

static sgm_status check(int64_t experts, int64_t groups, int64_t tokens, sgm_error *error) {
    if (experts < 1 || groups < 1 || experts % groups != 0)
        return sgm_fail(error, SGM_EARGUMENT, "every device holds the same number of experts",
                        "%lld experts do not split into %lld groups", (long long)experts, (long long)groups);
    if (tokens < 1)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "no imbalance score of %lld tokens", (long long)tokens);
    return SGM_OK;
}

/* A token's K of E without replacement put a hypergeometric count on a device, of variance v; a sum over many tokens is
 * nearly normal. Devices share the sum, which pushes them apart by sqrt(G / (G − 1)), and the range of G normals is twice
 * the expected largest. */
static double noise_floor(double experts, double groups, double k, double tokens) {
    if (groups < 2 || experts < 2 || !(k > 0) || k >= experts)
        return 0;
    double v = k / groups * (1 - 1 / groups) * (experts - k) / (experts - 1);
    return 2 * sgm_largest_of_normals(groups) * sqrt(v / tokens * groups / (groups - 1));
}

sgm_status sgm_imbalance_score(const int64_t *load, int64_t experts, int64_t groups, int64_t tokens,
                               sgm_imbalance *imbalance, sgm_error *error) {
    sgm_status status = check(experts, groups, tokens, error);
    if (status)
        return status;
    int64_t size = experts / groups, least = INT64_MAX, most = 0, total = 0;
    for (int64_t g = 0; g < groups; g++) {
        int64_t sum = 0;
        for (int64_t e = g * size; e < (g + 1) * size; e++)
            sum += load[e];
        least = sum < least ? sum : least;
        most = sum > most ? sum : most;
        total += sum;
    }
    double T = (double)tokens, G = (double)groups;
    imbalance->score = (double)(most - least) / T;
    imbalance->max_over_mean = total > 0 ? (double)most * G / (double)total : 1;
    imbalance->noise_floor = noise_floor((double)experts, G, (double)total / T, T);
    return SGM_OK;
}

/* K of E by the first K places of a shuffle that goes on where the token before left the order. */
static double draw_batch(sgm_rng *rng, int32_t *order, int64_t *load, int64_t experts, int64_t k, int64_t groups,
                         int64_t tokens) {
    int64_t size = experts / groups, least = INT64_MAX, most = 0;
    for (int64_t g = 0; g < groups; g++)
        load[g] = 0;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < k; i++) {
            int64_t other = i + (int64_t)sgm_rng_below(rng, (uint64_t)(experts - i));
            int32_t expert = order[other];
            order[other] = order[i];
            order[i] = expert;
            load[expert / size]++;
        }
    for (int64_t g = 0; g < groups; g++) {
        least = load[g] < least ? load[g] : least;
        most = load[g] > most ? load[g] : most;
    }
    return (double)(most - least) / (double)tokens;
}

sgm_status sgm_imbalance_simulate(int64_t experts, int64_t experts_per_token, int64_t groups, int64_t tokens,
                                  int64_t draws, uint64_t seed, sgm_imbalance_draws *result, sgm_error *error) {
    sgm_status status = check(experts, groups, tokens, error);
    if (status)
        return status;
    if (experts_per_token < 1 || experts_per_token > experts || experts > INT32_MAX || draws < 1)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "%lld draws of %lld from %lld experts", (long long)draws,
                        (long long)experts_per_token, (long long)experts);
    int32_t *order = sgm_alloc((size_t)experts * sizeof *order);
    int64_t *load = sgm_alloc((size_t)groups * sizeof *load);
    if (!order || !load) {
        sgm_free(order);
        sgm_free(load);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to draw from %lld experts", (long long)experts);
    }
    for (int64_t e = 0; e < experts; e++)
        order[e] = (int32_t)e;
    sgm_rng rng = sgm_rng_at(seed, sgm_rng_stream("imbalance", 0), 0);
    *result = (sgm_imbalance_draws){0};
    for (int64_t d = 0; d < draws; d++) {
        double score = draw_batch(&rng, order, load, experts, experts_per_token, groups, tokens);
        result->mean += score / (double)draws;
        result->positive_share += (score > 0 ? 1 : 0) / (double)draws;
        result->most = score > result->most ? score : result->most;
    }
    sgm_free(order);
    sgm_free(load);
    return SGM_OK;
}
