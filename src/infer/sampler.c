// SPDX-License-Identifier: Apache-2.0
/* Sampling: greedy, temperature, top-k, top-p (nucleus sampling, arXiv 1904.09751), as a pure function.
 *
 * Nothing is sorted and nothing allocated: the logit at which top-k or top-p cuts is found by radix selection over the
 * logits' bits (three passes of at most 2048 bins, of counts or of probability mass). Tokens with that very logit are taken
 * lower id first. */
#include <math.h>
#include <string.h>

#include "base/elementary.h"
#include "base/rng.h"
#include "sigmoe/session.h"

enum { BINS = 2048 };

/* Where a selection ends: all tokens with a larger key, and the first `ties` ones with this key. */
typedef struct cut {
    uint32_t key;
    int64_t ties;
} cut;

/* Unsigned integers in the order of the floats; -0 and 0 are one. */
static uint32_t order_key(float x) {
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

typedef struct sampling {
    const float *logits;
    int64_t vocabulary;
    float largest;
    double temperature;
} sampling;

static double weight_of(const sampling *s, int64_t id) {
    return sgm_exp64(((double)s->logits[id] - (double)s->largest) / s->temperature);
}

/* Does `id` stand before the cut? Call for ids in order with `seen` counting the ties. */
static bool kept(const sampling *s, const cut *c, int64_t id, int64_t *seen) {
    uint32_t key = order_key(s->logits[id]);
    return key > c->key || (key == c->key && (*seen)++ < c->ties);
}

/* Shrink `within` to the shortest run of its largest tokens whose measure reaches `target`; a token measures 1 (by_mass
 * false) or its weight. `target` is at most the measure of the whole. */
static cut select_cut(const sampling *s, cut within, bool by_mass, double target) {
    static const struct { int shift, bits; } passes[] = {{21, 11}, {10, 11}, {0, 10}};
    uint32_t prefix = 0, mask = 0;
    double above = 0; /* measure of the keys above the prefix */
    for (int p = 0; p < 3; p++) {
        double bin[BINS];
        int bins = 1 << passes[p].bits, last = -1;
        memset(bin, 0, (size_t)bins * sizeof *bin);
        int64_t seen = 0;
        for (int64_t id = 0; id < s->vocabulary; id++) {
            uint32_t key = order_key(s->logits[id]);
            if (!kept(s, &within, id, &seen) || (key & mask) != prefix)
                continue;
            bin[(key >> passes[p].shift) & (uint32_t)(bins - 1)] += by_mass ? weight_of(s, id) : 1;
        }
        int chosen = bins - 1;
        for (; chosen >= 0; chosen--) {
            if (bin[chosen] > 0)
                last = chosen; /* the lowest bin in use so far: the answer if rounding misses the target */
            if (above + bin[chosen] >= target)
                break;
            above += bin[chosen];
        }
        if (chosen < 0) {
            chosen = last < 0 ? 0 : last;
            above -= bin[chosen];
        }
        prefix |= (uint32_t)chosen << passes[p].shift;
        mask |= (uint32_t)(bins - 1) << passes[p].shift;
    }
    /* All tokens at the cut weigh the same: count how many are needed. */
    cut result = {prefix, 0};
    int64_t seen = 0;
    for (int64_t id = 0; id < s->vocabulary; id++) {
        if (!kept(s, &within, id, &seen) || order_key(s->logits[id]) != prefix)
            continue;
        if (result.ties > 0 && above >= target)
            break;
        above += by_mass ? weight_of(s, id) : 1;
        result.ties++;
    }
    return result;
}

static double mass_of(const sampling *s, const cut *c) {
    double mass = 0;
    int64_t seen = 0;
    for (int64_t id = 0; id < s->vocabulary; id++)
        if (kept(s, c, id, &seen))
            mass += weight_of(s, id);
    return mass;
}

static sgm_status options_check(const float *logits, int64_t vocabulary, const sgm_sampler_options *o, int64_t *best,
                                sgm_error *error) {
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return sgm_fail(error, SGM_EARGUMENT, "use 0 for greedy, or about 0.5 to 1.5", "temperature %g is impossible",
                        o->temperature);
    if (o->top_k < 0)
        return sgm_fail(error, SGM_EARGUMENT, "use 0 for all tokens", "top-k %lld is impossible", (long long)o->top_k);
    if (!(o->top_p > 0) || o->top_p > 1)
        return sgm_fail(error, SGM_EARGUMENT, "use a share above 0, up to 1 for all tokens", "top-p %g is impossible",
                        o->top_p);
    *best = 0;
    for (int64_t id = 0; id < vocabulary; id++) {
        if (isnan(logits[id]) || logits[id] == HUGE_VALF)
            return sgm_fail(error, SGM_ENUMERIC, "the weights are damaged, or training diverged",
                            "the logit of token %lld is %s", (long long)id, isnan(logits[id]) ? "NaN" : "infinite");
        if (logits[id] > logits[*best])
            *best = id;
    }
    if (vocabulary < 1 || isinf(logits[*best]))
        return sgm_fail(error, SGM_ENUMERIC, NULL, "no token has a finite logit");
    return SGM_OK;
}

sgm_status sgm_sample(const float *logits, int64_t vocabulary, const sgm_sampler_options *options, uint64_t draw,
                      int32_t *token, sgm_error *error) {
    int64_t best = 0, seen = 0;
    sgm_status status = options_check(logits, vocabulary, options, &best, error);
    if (status)
        return status;
    *token = (int32_t)best;
    if (options->temperature == 0 || options->top_k == 1)
        return SGM_OK;
    sampling s = {logits, vocabulary, logits[best], options->temperature};
    cut c = {0, 0}; /* no key is 0: that would be a NaN */
    if (options->top_k > 0 && options->top_k < vocabulary)
        c = select_cut(&s, c, false, (double)options->top_k);
    if (options->top_p < 1)
        c = select_cut(&s, c, true, options->top_p * mass_of(&s, &c));
    sgm_rng rng = sgm_rng_at(options->seed, sgm_rng_stream("sample", 0), 2 * draw);
    double left = sgm_rng_uniform(&rng) * mass_of(&s, &c);
    for (int64_t id = 0; id < vocabulary; id++) {
        if (!kept(&s, &c, id, &seen))
            continue;
        double weight = weight_of(&s, id);
        if (weight > 0)
            *token = (int32_t)id; /* the last one with a share, should rounding leave some of `left` */
        left -= weight;
        if (left < 0)
            break;
    }
    return SGM_OK;
}
