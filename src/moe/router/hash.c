// SPDX-License-Identifier: Apache-2.0
/* Hash routing (hash layers, arXiv 2106.04426): the experts of a token follow from its id alone, K of them drawn without
 * replacement by a counter-based generator from (seed, layer, id); each has weight 1/K. Nothing is learned: no gradient
 * reaches the router's weights, which weight decay alone makes smaller, its logits are not looked at, and no balancer could
 * change the choice. The load is as even as the tokens' frequencies let it be. Inference is the same function.
 *
 * Probabilities are 1/E, so that statistics of them say what is true of the choice: it prefers nothing. A NaN logit makes
 * its token's weights NaN: it means that the token is NaN, and that must not be hidden. Rows without a known token
 * (record->token NULL) count as token 0. */
#include <math.h>
#include <stddef.h>

#include "base/rng.h"
#include "moe/router/choose.h"
#include "moe/router/router.h"

typedef struct hash_settings {
    int64_t seed;
} hash_settings;

static const sgm_param params[] = {
    {.name = "seed",
     .type = SGM_PARAM_INT,
     .offset = offsetof(hash_settings, seed),
     .fallback = "1",
     .min = 0,
     .max = 9e15,
     .unit = "",
     .help = "of the hash function; it belongs to the model"},
};

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings;
    return sgm_check_experts("hash", experts, experts_per_token, error);
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    (void)kernels;
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *logits = record->logits + t * record->experts;
        sgm_real *probabilities = record->probabilities + t * record->experts, share = 1 / (sgm_real)record->experts;
        for (int64_t e = 0; e < record->experts; e++)
            if (logits[e] != logits[e])
                share = (sgm_real)NAN;
        for (int64_t e = 0; e < record->experts; e++)
            probabilities[e] = share;
    }
}

/* Draw k of token i stands at 2 (E i + k) of its layer's stream, so the experts for K are among those for K + 1. */
static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const hash_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots;
    uint64_t stream = sgm_rng_stream("hash router", (uint64_t)record->layer);
    for (int64_t t = begin; t < end; t++) {
        uint64_t token = record->token ? (uint64_t)record->token[t] : 0;
        sgm_rng rng = sgm_rng_at((uint64_t)own->seed, stream, 2 * (uint64_t)experts * token);
        int32_t *chosen = record->expert + t * slots;
        sgm_real p = record->probabilities[t * experts];
        for (int64_t k = 0; k < slots; k++) {
            /* The draw counts those that are left: it moves up past each lower one that is taken, in ascending order. */
            int32_t e = (int32_t)sgm_rng_below(&rng, (uint64_t)(experts - k));
            int64_t at = 0;
            for (; at < k && chosen[at] <= e; at++)
                e++;
            for (int64_t i = k; i > at; i--)
                chosen[i] = chosen[i - 1];
            chosen[at] = e;
            record->weight[t * slots + k] = p == p ? 1 / (sgm_real)slots : p;
            record->flags[t * slots + k] = 0;
        }
    }
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    for (int64_t i = begin * record->experts; i < end * record->experts; i++)
        record->d_logits[i] = record->probabilities[i] * 0; /* not 0: a NaN row stays NaN */
}

extern const sgm_router_plugin sgm_router_hash;
const sgm_router_plugin sgm_router_hash = {
    .plugin = {.name = "hash",
               .summary = "experts by a hash of the token's id; nothing is learned, weights are 1/K",
               .paper = "arXiv 2106.04426",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(hash_settings)},
    .check = check,
    .fixed = true,
    .score = score,
    .select = select_experts,
    .backward = backward,
};
