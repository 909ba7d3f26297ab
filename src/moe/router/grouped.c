// SPDX-License-Identifier: Apache-2.0
/* Grouped routing: Mixture of Grouped Experts (Pangu Pro MoE, arXiv 2505.21411, equations 5 to 7). The experts form M
 * groups of neighbours, and a token takes the K/M best of every group. When each device holds the same number of whole
 * groups, devices have equally much to do in every batch whatever the router prefers: their imbalance is 0. The experts
 * inside a group are not balanced by that; a loss still has to see to it.
 *
 * Scores are a softmax over all E experts, not over a group; the weight of a chosen expert is that probability as it is, so
 * that weights sum to less than 1. Null experts, the last of E, would make the last groups' devices have less to do than the
 * others, and with a whole group of them every token would have to take some: they do not go with groups. NaN
 * scores come last in their group, equal ones go to the lower expert. */
#include <stddef.h>

#include "moe/router/choose.h"
#include "moe/router/router.h"

typedef struct grouped_settings {
    int64_t groups; /* M; SGM_AUTO: K */
    bool normalise;
} grouped_settings;

static const sgm_param params[] = {
    {.name = "groups",
     .type = SGM_PARAM_INT,
     .offset = offsetof(grouped_settings, groups),
     .fallback = "auto",
     .min = 1,
     .max = 1 << 20,
     .has_auto = true,
     .unit = "",
     .help = "groups of neighbouring experts, of which a token takes equally many experts each; divides "
             "model.experts and model.experts_per_token; auto: as many as experts per token"},
    {.name = "normalise",
     .type = SGM_PARAM_BOOL,
     .offset = offsetof(grouped_settings, normalise),
     .fallback = "false",
     .min = 1,
     .unit = "",
     .help = "divide the weights of a token by their sum (training needs two or more experts per token then)"},
};

static int64_t groups_of(const void *settings, int64_t experts_per_token) {
    const grouped_settings *own = settings;
    return own->groups == SGM_AUTO ? experts_per_token : own->groups;
}

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    sgm_status status = sgm_check_experts("grouped", experts, experts_per_token, error);
    if (status)
        return status;
    int64_t groups = groups_of(settings, experts_per_token);
    if (experts % groups)
        return sgm_fail(error, SGM_EARGUMENT, "router.groups must divide model.experts",
                        "router grouped: %lld experts do not fall into %lld equal groups", (long long)experts,
                        (long long)groups);
    if (experts_per_token % groups)
        return sgm_fail(error, SGM_EARGUMENT,
                        experts_per_token == 1 ? "one expert per token cannot be spread over groups: use router.kind "
                                                 "top_k, or more experts per token in every layer and step"
                                               : "router.groups must divide the experts per token of every layer and "
                                                 "step",
                        "router grouped: %lld experts per token cannot be taken evenly from %lld groups",
                        (long long)experts_per_token, (long long)groups);
    return SGM_OK;
}

static sgm_status nulls(const void *settings, int64_t experts, int64_t null_experts, int64_t experts_per_token,
                        sgm_error *error) {
    int64_t groups = groups_of(settings, experts_per_token), size = experts / groups;
    if (groups == 1)
        return SGM_OK;
    return sgm_fail(
        error, SGM_EARGUMENT,
        "use router.kind top_k, or deepseek_v3, of which a token can leave out groups; or set "
        "model.null_experts to 0",
        null_experts >= size
            ? "router grouped with model.null_experts = %lld: a whole group of %lld experts would be null, and "
              "every token would have to take from it"
            : "router grouped with model.null_experts = %lld: they are all in the last group of %lld experts, "
              "which would have less to do than the others",
        (long long)null_experts, (long long)size);
}

static sgm_status trains(const void *settings, int64_t experts_per_token, sgm_error *error) {
    return sgm_check_normalised("grouped", ((const grouped_settings *)settings)->normalise, experts_per_token, error);
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    sgm_score_softmax(kernels, record, begin, end);
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const grouped_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots, groups = groups_of(settings, slots);
    int64_t size = experts / groups, take = slots / groups;
    for (int64_t t = begin; t < end; t++)
        for (int64_t g = 0; g < groups; g++)
            sgm_choose_best(record->probabilities + t * experts, record->selection_bias, g * size, (g + 1) * size, take,
                            record->expert + t * slots + g * take);
    sgm_weigh_chosen(record, own->normalise, 1, begin, end);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const grouped_settings *own = settings;
    sgm_weigh_chosen_backward(record, own->normalise, 1, begin, end);
}

extern const sgm_router_plugin sgm_router_grouped;
const sgm_router_plugin sgm_router_grouped = {
    .plugin = {.name = "grouped",
               .summary = "equally many experts of each group of experts, so that devices have equal loads",
               .paper = "arXiv 2505.21411",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(grouped_settings)},
    .check = check,
    .trains = trains,
    .nulls = nulls,
    .score = score,
    .select = select_experts,
    .backward = backward,
};
