// SPDX-License-Identifier: Apache-2.0
/* Load statistics: how evenly a layer's experts are used, and how even they could look by chance.
 *
 * MaxVio = max/mean − 1 is arXiv 2408.15664's; a dead expert has less than 1 % of the fair share. The noise floor is
 * the MaxVio that a perfectly even router shows because counts are whole numbers drawn at random. All of it is about the experts
 * that compute: null experts have no load to even out. */
#include "routing/routing.h"

#include <math.h>

#include "base/elementary.h"
#include "base/elementary_inline.h"

static void add_items(const sgm_routing *record, const int32_t *targets, int64_t begin, int64_t end, sgm_load *load) {
    for (int64_t t = 0; t < record->items; t++) {
        if (targets && targets[t] < 0)
            continue;
        for (int64_t place = t * record->slots; place < (t + 1) * record->slots; place++) {
            int64_t e = record->expert[place];
            if (e >= begin && e < end)
                load->count[e]++;
        }
        const sgm_real *p = record->probabilities + t * record->experts;
        for (int64_t e = begin; e < end; e++)
            load->probability[e] += (double)p[e];
    }
}

enum { LANES = 16 };

/* Entropy in nats of an item's probabilities, which need not sum to 1: ln S − Σ p ln p / S. The lanes vectorise, and are added up
 * in their order. What is added to p gives 0 a logarithm that is finite; NaN stays. */
static double item_entropy(const sgm_real *p, int64_t experts) {
    float sums[LANES] = {0}, logs[LANES] = {0};
    int64_t e = 0;
    for (; e + LANES <= experts; e += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            float x = (float)p[e + lane];
            sums[lane] += x;
            logs[lane] += x * sgm_log_normal_inline(x + 0x1p-126F, 0);
        }
    double sum = 0, log = 0;
    for (; e < experts; e++) {
        sum += (double)p[e];
        log += (double)((float)p[e] * sgm_log_normal_inline((float)p[e] + 0x1p-126F, 0));
    }
    for (int lane = 0; lane < LANES; lane++) {
        sum += (double)sums[lane];
        log += (double)logs[lane];
    }
    double entropy = sum == 0 ? 0 : (double)sgm_logf((float)sum) - log / sum;
    return entropy < 0 ? 0 : entropy; /* rounding */
}

/* Of items [begin, end). Whole numbers add up to the same in any order. */
static void add_entropies(const sgm_routing *record, const int32_t *targets, int64_t begin, int64_t end,
                          sgm_load *load) {
    int64_t sum = 0, known = 0;
    for (int64_t t = begin; t < end; t++) {
        if (targets && targets[t] < 0)
            continue;
        double entropy =
            item_entropy(record->probabilities + t * record->experts, record->experts - record->null_experts);
        if (entropy == entropy) {
            sum += (int64_t)(entropy * SGM_ENTROPY_UNITS + 0.5);
            known++;
        }
    }
    atomic_fetch_add(&load->token_entropy, sum);
    atomic_fetch_add(&load->token_entropies, known);
}

void sgm_load_add(sgm_worker *worker, sgm_load *load, const sgm_routing *record, const int32_t *targets) {
    int64_t begin, end;
    sgm_split(worker, record->experts, 8, &begin, &end);
    add_items(record, targets, begin, end, load);
    sgm_split(worker, record->items, 8, &begin, &end);
    if (load->entropies)
        add_entropies(record, targets, begin, end, load);
    if (worker->thread != 0)
        return;
    for (int64_t t = 0; t < record->items; t++) {
        if (targets && targets[t] < 0)
            continue;
        load->tokens++;
        for (int64_t place = t * record->slots; place < (t + 1) * record->slots; place++)
            load->computed += sgm_routing_is_computed(record, place);
    }
}

/* Entropy of values that need not sum to 1, over ln E. One expert is even by definition. */
static double entropy_over_log(const double *value, int64_t count, double sum) {
    if (count < 2)
        return 1;
    if (!(sum > 0))
        return 0;
    double entropy = 0;
    for (int64_t i = 0; i < count; i++)
        if (value[i] > 0)
            entropy -= value[i] / sum * sgm_log64(value[i] / sum);
    return entropy / sgm_log64((double)count);
}

/* Σ over m of 1 − F(m)^E for a binomial count of n draws with chance q: the expected largest of E independent counts.
 * The probabilities come from their ratio, starting with 1 at the mode, and are normalised by their sum. */
static double largest_of_binomials(double n, double q, double experts) {
    const double tiny = 1e-18, odds = q / (1 - q);
    double mode = floor((n + 1) * q);
    double low = mode, lowest = 1, sum = 1;
    while (low > 0 && lowest > tiny) {
        lowest *= low / (n - low + 1) / odds;
        low -= 1;
        sum += lowest;
    }
    double high = mode;
    for (double p = 1; high < n && p > tiny;) {
        p *= (n - high) / (high + 1) * odds;
        high += 1;
        sum += p;
    }
    double expected = low, p = lowest, below = 0;
    for (double m = low; m < high; m += 1) {
        below += p / sum;
        expected += 1 - (below < 1 ? sgm_exp64(experts * sgm_log64(below)) : 1);
        p *= (n - m) / (m + 1) * odds;
    }
    return expected;
}

/* ∫ over z > 0 of 1 − Φ^n, minus ∫ over z < 0 of Φ^n. */
double sgm_largest_of_normals(double n) {
    const double step = 1.0 / 64;
    double expected = 0;
    for (double z = -9 + step / 2; z < 9; z += step) {
        double below = 0.5 * erfc(-z * 0.70710678118654752440);
        double power = sgm_exp64(n * sgm_log64(below));
        expected += step * (z > 0 ? 1 - power : -power);
    }
    return expected;
}

/* Each count is binomial(T, K/E) by itself. Together they sum to T·K, which pushes them apart by sqrt(E / (E − 1)):
 * exact for normal deviates, and a few per cent off at the worst where the mean count is near 1. */
static double noise_floor(double tokens, double assignments, int64_t experts) {
    double mean = assignments / (double)experts, q = mean / tokens;
    if (experts < 2 || !(q > 0) || q >= 1)
        return 0;
    double spread = mean > 2000 ? sqrt(mean * (1 - q)) * sgm_largest_of_normals((double)experts)
                                : largest_of_binomials(tokens, q, (double)experts) - mean;
    return spread / mean * sqrt((double)experts / (double)(experts - 1));
}

static double token_entropy(const sgm_load *load, int64_t experts) {
    double sum = (double)load->token_entropy / SGM_ENTROPY_UNITS;
    if (!load->entropies || load->token_entropies != load->tokens)
        return (double)NAN;
    return experts > 1 ? sum / (double)load->tokens / sgm_log64((double)experts) : 1;
}

void sgm_load_summarise(const sgm_load *load, sgm_load_summary *summary) {
    *summary = (sgm_load_summary){.tokens = load->tokens};
    int64_t experts = load->experts - load->null_experts;
    double total = 0, p_total = 0;
    int64_t least = experts ? load->count[0] : 0, most = least;
    for (int64_t e = 0; e < experts; e++) {
        total += (double)load->count[e];
        p_total += load->probability[e];
        least = load->count[e] < least ? load->count[e] : least;
        most = load->count[e] > most ? load->count[e] : most;
    }
    if (!(total > 0))
        return; /* nothing was routed: nothing can be said, not even that an expert is dead */
    summary->computed_per_token = (double)load->computed / (double)load->tokens;
    double mean = total / (double)experts, p_mean = p_total / (double)experts;
    double variance = 0, p_variance = 0, covariance = 0, entropy = 0;
    for (int64_t e = 0; e < experts; e++) {
        double d = (double)load->count[e] - mean, p = load->probability[e] - p_mean, f = (double)load->count[e] / total;
        summary->dead_experts += (double)load->count[e] < 0.01 * mean;
        variance += d * d;
        p_variance += p * p;
        covariance += d * p;
        if (f > 0)
            entropy -= f * sgm_log64(f);
    }
    summary->min_over_mean = (double)least / mean;
    summary->max_over_mean = (double)most / mean;
    summary->max_violation = summary->max_over_mean - 1;
    summary->entropy_over_log_e = experts > 1 ? entropy / sgm_log64((double)experts) : 1;
    summary->probability_entropy_over_log_e = entropy_over_log(load->probability, experts, p_total);
    summary->token_entropy_over_log_e = token_entropy(load, experts);
    summary->coefficient_of_variation = sqrt(variance / (double)experts) / mean;
    /* An exactly even side has no direction to agree with. */
    summary->correlation = variance > 0 && p_variance > 0 ? covariance / sqrt(variance) / sqrt(p_variance) : 0;
    summary->noise_floor = noise_floor((double)load->tokens, total, experts);
}
