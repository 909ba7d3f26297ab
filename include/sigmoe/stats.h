// SPDX-License-Identifier: Apache-2.0
/* Evaluation of a model on text, and the load of its experts there. */
#ifndef SIGMOE_STATS_H
#define SIGMOE_STATS_H

#include <stdint.h>

#include "sigmoe/error.h"
#include "sigmoe/session.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Of a layer's experts that compute, and of the assignments to them: null experts have no load to even out and are left out of
 * everything here but the tokens. */
typedef struct sgm_layer_stats {
    int64_t tokens, dead_experts; /* dead: below 1 % of the fair share */
    double min_over_mean, max_over_mean, max_violation;
    double entropy_over_log_e, probability_entropy_over_log_e;
    double coefficient_of_variation, correlation;
    double noise_floor;                /* max_violation that an even router would show at this many tokens */
    double experts_computed_per_token; /* null experts and dropped assignments cost nothing and are left out */
} sgm_layer_stats;

typedef struct sgm_evaluation {
    int64_t tokens, bytes;
    double loss_nats_per_token, perplexity, bits_per_byte;
    int64_t layers, experts, null_experts; /* L, E; of E the last so many have no weights */
    int64_t attention_experts;  /* 0, or what stands by layer here does by routed sub-layer (sigmoe/model.h) */
    sgm_layer_stats *layer;     /* (L) heap */
    int64_t *load;              /* (L, E) heap: assignments, of null experts too */
    int64_t *experts_per_token; /* (L) heap: K of each layer */
} sgm_evaluation;
/* Text files (each a document, or several where lines `<|endoftext|>` part them) or the held-out split of a data folder.
 * Windows overlap by half and score each byte of a document once; documents of white space alone are left out.
 * `token_limit` 0: all. */
sgm_status sgm_evaluate(const char *model, const sgm_engine_options *options, const char *const *paths, size_t count,
                        int64_t token_limit, sgm_evaluation *evaluation, sgm_error *error);
void sgm_evaluation_free(sgm_evaluation *evaluation);

/* Load between G devices that hold E/G consecutive experts each, of a batch of `tokens` tokens. Source: arXiv 2505.21411,
 * equation 3. */
typedef struct sgm_imbalance {
    double score; /* IS: (most − least) assignments of a device, idle ones included, per token; 0: even */
    double
        noise_floor; /* what even routing would show by chance (normal approximation: 10 % off for one token, 3 % for many) */
    double max_over_mean; /* of the devices' loads: the longest over the mean time of computing */
} sgm_imbalance;
/* load (experts): assignments, without null experts, which compute nothing. IS = 0 does not say that the experts of a device
 * are balanced. SGM_EARGUMENT: the experts do not split evenly, or there is no token. */
sgm_status sgm_imbalance_score(const int64_t *load, int64_t experts, int64_t groups, int64_t tokens,
                               sgm_imbalance *imbalance, sgm_error *error);

/* IS of `draws` batches in which each token takes experts_per_token distinct experts, all equally likely: the best case of
 * plain top-k, equation 4 there. The same numbers for the same seed. Allocates; cost O(draws · tokens · K). */
typedef struct sgm_imbalance_draws {
    double mean, most;
    double positive_share; /* of draws with IS > 0: near 1 long after IS itself is small */
} sgm_imbalance_draws;
sgm_status sgm_imbalance_simulate(int64_t experts, int64_t experts_per_token, int64_t groups, int64_t tokens,
                                  int64_t draws, uint64_t seed, sgm_imbalance_draws *result, sgm_error *error);

/* Two models of one shape on the same text, e.g. one model in two storage types: what each makes of it, and how often they
 * send a token to other experts. Only scored tokens count. An assignment is changed when its expert is not among those that
 * `against` chose for that token in that layer. */
typedef struct sgm_comparison {
    sgm_evaluation model, against;
    double assignments_changed; /* share of (token, layer, slot) */
    double tokens_changed;      /* share of tokens with a changed assignment in any layer */
    int64_t layers;
    double *layer_changed; /* (L) heap: assignments_changed of each layer */
} sgm_comparison;
/* One model is in memory at a time. SGM_EARGUMENT: layers, experts, experts per token or tokenizers differ. */
sgm_status sgm_evaluate_against(const char *model, const char *against, const sgm_engine_options *options,
                                const char *const *paths, size_t count, int64_t token_limit, sgm_comparison *comparison,
                                sgm_error *error);
void sgm_comparison_free(sgm_comparison *comparison);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
