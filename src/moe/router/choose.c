// SPDX-License-Identifier: Apache-2.0
/* What routers share: scores, choice, weights, and their gradients. choose.h has the contract. */
#include "moe/router/choose.h"

#include <math.h>
#include <string.h>

#include "base/elementary_inline.h"

/* Added to the sum of the chosen weights, so that sigmoids that all underflow do not divide by zero. */
static const sgm_real NORMALISE_FLOOR = (sgm_real)1e-20;

sgm_status sgm_check_experts(const char *router, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    if (experts < 1 || experts_per_token < 1 || experts_per_token > experts)
        return sgm_fail(error, SGM_EARGUMENT, "experts per token must be between 1 and the number of experts",
                        "router %s: %lld experts per token of %lld experts", router, (long long)experts_per_token,
                        (long long)experts);
    return SGM_OK;
}

sgm_status sgm_check_normalised(const char *router, bool normalise, int64_t experts_per_token, sgm_error *error) {
    if (normalise && experts_per_token == 1)
        return sgm_fail(error, SGM_EARGUMENT, "set router.normalise to false, or use two or more experts per token",
                        "router %s: a single weight normalised to 1 gives the router no gradient", router);
    return SGM_OK;
}

void sgm_score_softmax(const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    int64_t experts = record->experts;
    kernels->softmax(end - begin, experts, record->logits + begin * experts, experts,
                     record->probabilities + begin * experts, experts);
}

void sgm_score_sigmoid(sgm_routing *record, int64_t begin, int64_t end) {
    int64_t experts = record->experts;
    const sgm_real *logits = record->logits + begin * experts;
    sgm_real *probabilities = record->probabilities + begin * experts;
    for (int64_t t = begin; t < end; t++, logits += experts, probabilities += experts) {
        int64_t numbers = 0;
        for (int64_t e = 0; e < experts; e++) /* two loops that vectorise */
            probabilities[e] = 1 / (1 + sgm_exp_inline(-logits[e]));
        for (int64_t e = 0; e < experts; e++)
            numbers += probabilities[e] == probabilities[e];
        for (int64_t e = 0; numbers < experts && e < experts; e++)
            probabilities[e] = (sgm_real)NAN;
    }
}

void sgm_score_as(int score, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    if (score == SGM_SCORE_SIGMOID)
        sgm_score_sigmoid(record, begin, end);
    else
        sgm_score_softmax(kernels, record, begin, end);
}

/* One is the common case and worth a loop of its own. */
static int32_t best(const sgm_real *scores, const sgm_real *bias, int64_t first, int64_t last) {
    int64_t chosen = first;
    sgm_real most = bias ? scores[first] + bias[first] : scores[first];
    for (int64_t e = first + 1; e < last; e++) {
        sgm_real key = bias ? scores[e] + bias[e] : scores[e];
        if (sgm_score_before(key, most)) {
            most = key;
            chosen = e;
        }
    }
    return (int32_t)chosen;
}

/* By insertion into the result itself. */
int64_t sgm_choose_further(const sgm_real *scores, const sgm_real *bias, int64_t first, int64_t last, int64_t count,
                           int32_t *chosen, int64_t filled) {
    for (int64_t e = first; e < last; e++) {
        sgm_real key = bias ? scores[e] + bias[e] : scores[e];
        int64_t place = filled;
        while (place > 0) {
            int32_t other = chosen[place - 1];
            sgm_real its = bias ? scores[other] + bias[other] : scores[other];
            if (!sgm_score_before(key, its))
                break;
            place--;
        }
        if (place == count)
            continue;
        filled += filled < count;
        memmove(chosen + place + 1, chosen + place, (size_t)(filled - 1 - place) * sizeof *chosen);
        chosen[place] = (int32_t)e;
    }
    return filled;
}

void sgm_choose_best(const sgm_real *scores, const sgm_real *bias, int64_t first, int64_t last, int64_t count,
                     int32_t *chosen) {
    if (count == 1)
        chosen[0] = best(scores, bias, first, last);
    else
        (void)sgm_choose_further(scores, bias, first, last, count, chosen, 0);
}

/* Does this place have a weight? With normalised ones a null expert has none: it leaves the whole to the true experts. */
static inline bool is_weighed(const sgm_routing *record, int64_t place, bool normalise) {
    int64_t e = record->expert[place];
    return e >= 0 && !(normalise && e >= record->experts - record->null_experts);
}

static sgm_real sum_of_chosen(const sgm_routing *record, int64_t item, const sgm_real *p) {
    sgm_real sum = NORMALISE_FLOOR;
    for (int64_t place = item * record->slots; place < (item + 1) * record->slots; place++)
        if (is_weighed(record, place, true))
            sum += p[record->expert[place]];
    return sum;
}

void sgm_weigh_chosen(sgm_routing *record, bool normalise, sgm_real scale, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *p = record->probabilities + t * record->experts;
        sgm_real sum = normalise ? sum_of_chosen(record, t, p) : 1;
        for (int64_t place = t * record->slots; place < (t + 1) * record->slots; place++) {
            record->flags[place] = 0;
            record->weight[place] = is_weighed(record, place, normalise) ? p[record->expert[place]] / sum * scale : 0;
        }
    }
}

/* With S = Σp + floor and w = c p / S:  dp_k = c (dw_k − Σ_j dw_j p_j / S) / S; without normalising dp = c dw. Then
 * softmax: dz = s ∘ (dp − Σ dp s);  sigmoid: dz = dp ∘ s (1 − s). */
void sgm_weigh_chosen_backward(sgm_routing *record, bool normalise, sgm_real scale, int64_t begin, int64_t end) {
    int64_t experts = record->experts, slots = record->slots;
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *p = record->probabilities + t * experts, *d_weight = record->d_weight + t * slots;
        const int32_t *chosen = record->expert + t * slots;
        sgm_real *dz = record->d_logits + t * experts;
        sgm_real sum = 1, through_sum = 0, dot = 0;
        if (normalise) {
            sum = sum_of_chosen(record, t, p);
            for (int64_t k = 0; k < slots; k++)
                if (is_weighed(record, t * slots + k, true))
                    through_sum += d_weight[k] * (p[chosen[k]] / sum);
        }
        for (int64_t k = 0; k < slots; k++)
            if (is_weighed(record, t * slots + k, normalise))
                dot += (d_weight[k] - through_sum) / sum * scale * p[chosen[k]];
        for (int64_t e = 0; e < experts; e++)
            dz[e] = record->sigmoid ? p[e] * 0 : -p[e] * dot; /* p · 0, not 0: a NaN row stays NaN */
        for (int64_t k = 0; k < slots; k++) {
            if (!is_weighed(record, t * slots + k, normalise))
                continue;
            sgm_real s = p[chosen[k]], dp = (d_weight[k] - through_sum) / sum * scale;
            dz[chosen[k]] += record->sigmoid ? dp * s * (1 - s) : dp * s;
        }
    }
}

/* ---- ranking --------------------------------------------------------------------------------------------------- */

static inline bool is_worse(sgm_ranked a, sgm_ranked b) {
    return a.key < b.key || (a.key == b.key && a.index > b.index);
}

/* The worst stands first; heap[i] is not better than heap[2i + 1] and heap[2i + 2]. */
int64_t sgm_rank_offer(sgm_ranked *heap, int64_t count, int64_t most, sgm_ranked item) {
    int64_t at;
    if (count < most) {
        for (at = count; at > 0 && is_worse(item, heap[(at - 1) / 2]); at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = item;
        return count + 1;
    }
    if (count == 0 || !is_worse(heap[0], item))
        return count;
    for (at = 0;;) {
        int64_t child = 2 * at + 1;
        if (child + 1 < count && is_worse(heap[child + 1], heap[child]))
            child++;
        if (child >= count || !is_worse(heap[child], item))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return count;
}
