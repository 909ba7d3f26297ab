// SPDX-License-Identifier: Apache-2.0
/* The router of DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): sigmoid scores; a choice among few groups of experts, so that
 * a token travels to few devices; a bias that takes part in choosing only (arXiv 2408.15664).
 *
 * The experts form `groups` groups of neighbours. A group's score is the sum of its two best scores with their bias (of the
 * one, in groups of one). Of the `groups_chosen` best groups the K experts with the best biased scores are chosen. A weight
 * is the expert's score without its bias, divided by the sum over the chosen, times `scale`. DeepSeek-V3 itself has 256
 * experts in 8 groups of which 4 are chosen, K = 8 and scale 2.5; one group is plain top-k with its weights.
 *
 * NaN scores come last, among experts and among groups; equal ones go to the lower index. */
#include <stddef.h>

#include "moe/router/choose.h"
#include "moe/router/router.h"

typedef struct deepseek_settings {
    int64_t groups, groups_chosen;
    double scale;
    bool normalise;
} deepseek_settings;

static const sgm_param params[] = {
    {.name = "groups",
     .type = SGM_PARAM_INT,
     .offset = offsetof(deepseek_settings, groups),
     .fallback = "1",
     .min = 1,
     .max = 1 << 20,
     .unit = "",
     .help = "groups of neighbouring experts; divides model.experts"},
    {.name = "groups_chosen",
     .type = SGM_PARAM_INT,
     .offset = offsetof(deepseek_settings, groups_chosen),
     .fallback = "auto",
     .min = 1,
     .max = 1 << 20,
     .has_auto = true,
     .unit = "",
     .help = "groups that a token's experts are taken from; auto: half of them, at least one"},
    {.name = "scale",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(deepseek_settings, scale),
     .fallback = "1",
     .min = 1e-6,
     .max = 1e6,
     .unit = "",
     .help = "factor on the weights"},
    {.name = "normalise",
     .type = SGM_PARAM_BOOL,
     .offset = offsetof(deepseek_settings, normalise),
     .fallback = "true",
     .min = 1,
     .unit = "",
     .help = "divide the weights of a token by their sum (training needs two or more experts per token then)"},
};

static int64_t chosen_groups(const deepseek_settings *own) {
    if (own->groups_chosen != SGM_AUTO)
        return own->groups_chosen;
    return own->groups > 1 ? own->groups / 2 : 1;
}

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    const deepseek_settings *own = settings;
    int64_t chosen = chosen_groups(own);
    sgm_status status = sgm_check_experts("deepseek_v3", experts, experts_per_token, error);
    if (status)
        return status;
    if (experts % own->groups)
        return sgm_fail(error, SGM_EARGUMENT, "router.groups must divide model.experts",
                        "router deepseek_v3: %lld experts do not fall into %lld equal groups", (long long)experts,
                        (long long)own->groups);
    if (chosen > own->groups)
        return sgm_fail(error, SGM_EARGUMENT, "set router.groups_chosen to router.groups or fewer",
                        "router deepseek_v3: %lld groups cannot be chosen of %lld", (long long)chosen,
                        (long long)own->groups);
    if (experts_per_token > experts / own->groups * chosen)
        return sgm_fail(error, SGM_EARGUMENT, "choose more groups, larger groups or fewer experts per token",
                        "router deepseek_v3: %lld groups of %lld experts hold fewer than %lld experts per token",
                        (long long)chosen, (long long)(experts / own->groups), (long long)experts_per_token);
    return SGM_OK;
}

static sgm_status trains(const void *settings, int64_t experts_per_token, sgm_error *error) {
    return sgm_check_normalised("deepseek_v3", ((const deepseek_settings *)settings)->normalise, experts_per_token,
                                error);
}

static bool is_sigmoid(const void *settings) {
    (void)settings;
    return true;
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    (void)kernels;
    sgm_score_sigmoid(record, begin, end);
}

/* The sum of the two best of a group of `size` scores with their bias. */
static sgm_real group_score(const sgm_real *scores, const sgm_real *bias, int64_t first, int64_t size) {
    int32_t two[2] = {0, -1};
    sgm_choose_best(scores, bias, first, first + size, size < 2 ? 1 : 2, two);
    sgm_real sum = bias ? scores[two[0]] + bias[two[0]] : scores[two[0]];
    if (size > 1)
        sum += bias ? scores[two[1]] + bias[two[1]] : scores[two[1]];
    return sum;
}

/* Do fewer groups than are chosen come before this one? Every group is scored anew: 2 E · groups comparisons a token, little
 * beside the E · D of the logits, and no memory. */
static bool is_chosen(const deepseek_settings *own, const sgm_routing *record, int64_t item, int64_t group) {
    const sgm_real *scores = record->probabilities + item * record->experts;
    int64_t size = record->experts / own->groups, before = 0;
    if (chosen_groups(own) == own->groups)
        return true;
    sgm_real its = group_score(scores, record->selection_bias, group * size, size);
    for (int64_t g = 0; g < own->groups; g++) {
        sgm_real other = group_score(scores, record->selection_bias, g * size, size);
        before += g < group ? !sgm_score_before(its, other) : g > group && sgm_score_before(other, its);
    }
    return before < chosen_groups(own);
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const deepseek_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots, size = experts / own->groups;
    for (int64_t t = begin; t < end; t++) {
        int64_t filled = 0;
        for (int64_t g = 0; g < own->groups; g++)
            if (is_chosen(own, record, t, g))
                filled = sgm_choose_further(record->probabilities + t * experts, record->selection_bias, g * size,
                                            (g + 1) * size, slots, record->expert + t * slots, filled);
    }
    sgm_weigh_chosen(record, own->normalise, (sgm_real)own->scale, begin, end);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const deepseek_settings *own = settings;
    sgm_weigh_chosen_backward(record, own->normalise, (sgm_real)own->scale, begin, end);
}

extern const sgm_router_plugin sgm_router_deepseek_v3;
const sgm_router_plugin sgm_router_deepseek_v3 = {
    .plugin = {.name = "deepseek_v3",
               .summary = "sigmoid scores; the K best of the best few groups of experts; weights normalised and scaled",
               .paper = "arXiv 2412.19437",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(deepseek_settings)},
    .check = check,
    .trains = trains,
    .sigmoid = is_sigmoid,
    .score = score,
    .select = select_experts,
    .backward = backward,
};
