// SPDX-License-Identifier: Apache-2.0
/* Expert choice (arXiv 2202.09368): not the token takes experts, each expert takes the C = K T / E tokens of the batch with
 * the highest probability for it (rounded up). The load is even by construction; a token has as many experts as want it,
 * none or several. The weight is the probability, a softmax over the experts.
 *
 * What it costs in honesty: whether an expert takes a token depends on the other tokens of the batch, those that come
 * after it included. Training can see ahead through that, and a text that is generated token by token has no batch.
 * Inference therefore routes each token alone, to its K most probable experts: another choice than the training's, by the
 * same scores. Losses of training are not comparable with those of routers that look at one token; held-out losses are.
 *
 * Beyond `most_per_token` experts a token keeps the most probable ones, and the others' places stay empty. Ties go to the
 * earlier token and the lower expert. A token with NaN scores takes part in no choice; it keeps its own, so that it shows. */
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "moe/router/choose.h"
#include "moe/router/router.h"

typedef struct choice_settings {
    int64_t most_per_token; /* SGM_AUTO */
} choice_settings;

enum { AUTO_LEAST = 8, AUTO_FACTOR = 4 };

static const sgm_param params[] = {
    {.name = "most_per_token",
     .type = SGM_PARAM_INT,
     .offset = offsetof(choice_settings, most_per_token),
     .fallback = "auto",
     .min = 1,
     .max = 1 << 20,
     .has_auto = true,
     .unit = "",
     .help =
         "experts that may take the same token in training, the most probable ones of those that would; auto: 8, or "
         "four times the experts per token if that is more"},
};

static int64_t most_of(const void *settings, int64_t experts, int64_t experts_per_token) {
    int64_t most = ((const choice_settings *)settings)->most_per_token;
    if (most == SGM_AUTO)
        most = AUTO_FACTOR * experts_per_token > AUTO_LEAST ? AUTO_FACTOR * experts_per_token : AUTO_LEAST;
    return most < experts ? most : experts;
}

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    sgm_status status = sgm_check_experts("expert_choice", experts, experts_per_token, error);
    int64_t most = status ? 0 : most_of(settings, experts, experts_per_token);
    if (!status && most < experts_per_token)
        return sgm_fail(error, SGM_EARGUMENT, "set router.most_per_token to the experts per token or more, or to auto",
                        "router expert_choice: at most %lld experts a token, but %lld on average", (long long)most,
                        (long long)experts_per_token);
    return status;
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    sgm_score_softmax(kernels, record, begin, end);
}

/* The token's own choice: what inference does. */
static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    int64_t experts = record->experts, slots = record->slots, wanted = record->experts_per_token;
    for (int64_t t = begin; t < end; t++) {
        int32_t *chosen = record->expert + t * slots;
        sgm_choose_best(record->probabilities + t * experts, record->selection_bias, 0, experts, wanted, chosen);
        for (int64_t k = wanted; k < slots; k++)
            chosen[k] = -1;
    }
    sgm_weigh_chosen(record, false, 1, begin, end);
}

static int64_t tokens_per_expert(int64_t items, int64_t experts, int64_t experts_per_token) {
    return (items * experts_per_token + experts - 1) / experts;
}

typedef struct choice_scratch {
    sgm_ranked *best; /* (E, C) the tokens of each expert */
    uint8_t *taken;   /* (T, E) */
} choice_scratch;

static size_t lay_out(choice_scratch *s, char *block, int64_t items, int64_t experts, int64_t experts_per_token) {
    size_t used = 0, tokens = (size_t)tokens_per_expert(items, experts, experts_per_token);
    s->best = sgm_carve(block, &used, (size_t)experts * tokens, sizeof *s->best);
    s->taken = sgm_carve(block, &used, (size_t)(items * experts), sizeof *s->taken);
    return used;
}

/* NaN tokens keep K experts each, and the others share K places a token among them: K T, rounded up for each expert. */
static void room(const void *settings, int64_t items, int64_t experts, int64_t experts_per_token, int threads,
                 sgm_router_room *out) {
    (void)threads;
    choice_scratch s;
    out->slots = most_of(settings, experts, experts_per_token);
    int64_t rows = items * experts_per_token + experts;
    out->rows = rows < items * out->slots ? rows : items * out->slots;
    out->scratch_bytes = lay_out(&s, NULL, items, experts, experts_per_token);
}

static bool is_number(const sgm_routing *record, int64_t item) {
    sgm_real p = record->probabilities[item * record->experts]; /* one NaN makes the row NaN */
    return p == p;
}

/* Experts [first, last) take their tokens. The counts stand in record->offset, which sorting fills later. */
static void take_tokens(sgm_routing *record, const choice_scratch *s, int64_t room_of_expert, int64_t first,
                        int64_t last) {
    int64_t experts = record->experts, numbers = 0;
    for (int64_t t = 0; t < record->items; t++)
        numbers += is_number(record, t);
    int64_t tokens = tokens_per_expert(numbers, experts, record->experts_per_token);
    for (int64_t e = first; e < last; e++)
        record->offset[e + 1] = 0;
    for (int64_t t = 0; t < record->items; t++) {
        const sgm_real *p = record->probabilities + t * experts;
        memset(s->taken + t * experts + first, 0, (size_t)(last - first));
        for (int64_t e = first; e < last && is_number(record, t); e++)
            record->offset[e + 1] = sgm_rank_offer(s->best + e * room_of_expert, record->offset[e + 1], tokens,
                                                   (sgm_ranked){p[e], (int32_t)t});
    }
    for (int64_t e = first; e < last; e++)
        for (int64_t i = 0; i < record->offset[e + 1]; i++)
            s->taken[s->best[e * room_of_expert + i].index * experts + e] = 1;
}

static void assign(const void *settings, sgm_worker *worker, const sgm_kernels *kernels, sgm_routing *record,
                   void *scratch) {
    (void)settings;
    (void)kernels;
    choice_scratch s;
    int64_t first, last, begin, end, experts = record->experts, slots = record->slots;
    lay_out(&s, scratch, record->items, experts, record->experts_per_token);
    sgm_split(worker, experts, 8, &first, &last);
    sgm_split(worker, record->items, 1, &begin, &end);
    take_tokens(record, &s, tokens_per_expert(record->items, experts, record->experts_per_token), first, last);
    sgm_barrier(worker);
    for (int64_t t = begin; t < end; t++) {
        int32_t *chosen = record->expert + t * slots;
        int64_t filled = 0;
        if (!is_number(record, t))
            continue;
        for (int64_t e = 0; e < experts; e++)
            if (s.taken[t * experts + e])
                filled = sgm_choose_further(record->probabilities + t * experts, NULL, e, e + 1, slots, chosen, filled);
        for (; filled < slots; filled++)
            chosen[filled] = -1;
    }
    sgm_weigh_chosen(record, false, 1, begin, end);
    sgm_barrier(worker);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    sgm_weigh_chosen_backward(record, false, 1, begin, end);
}

extern const sgm_router_plugin sgm_router_expert_choice;
const sgm_router_plugin sgm_router_expert_choice = {
    .plugin = {.name = "expert_choice",
               .summary =
                   "in training each expert takes its best tokens of the batch (it looks ahead); top-k otherwise",
               .paper = "arXiv 2202.09368",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(choice_settings)},
    .check = check,
    .score = score,
    .select = select_experts,
    .backward = backward,
    .deaf_to_bias = true,
    .assign = assign,
    .room = room,
};
