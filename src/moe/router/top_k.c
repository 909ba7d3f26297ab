// SPDX-License-Identifier: Apache-2.0
/* Top-k routing. Sigma-MoE-Tiny (arXiv 2512.16248) and the Switch Transformer (arXiv 2101.03961): softmax over all E
 * experts first, then the K largest, and the weight of a chosen expert is its own probability. Normalising a single
 * weight to 1 would leave the router without a gradient.
 *
 * The variants are parameters: sigmoid scores, as loss-free balancing uses them (arXiv 2408.15664), and weights
 * normalised over the chosen (DeepSeek-V3, arXiv 2412.19437). A selection bias decides who is chosen and never enters
 * a weight. NaN scores come last and equal scores go to the lower expert, so the choice is always defined.
 *
 * With a capacity factor, training drops what exceeds an expert's share of the micro-batch (capacity.h). Inference drops
 * nothing: there a token has no batch to compete with. */
#include <math.h>
#include <stddef.h>

#include "moe/router/capacity.h"
#include "moe/router/choose.h"
#include "moe/router/router.h"

enum { ORDER_POSITION, ORDER_SCORE };

typedef struct top_k_settings {
    int score;
    bool normalise;
    double capacity_factor; /* NaN: unlimited */
    int drop_order;
} top_k_settings;

static const sgm_param params[] = {
    {.name = "score",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(top_k_settings, score),
     .fallback = "softmax",
     .choices = SGM_SCORE_CHOICES,
     .min = 1,
     .unit = "",
     .help = "what turns logits into probabilities"},
    {.name = "normalise",
     .type = SGM_PARAM_BOOL,
     .offset = offsetof(top_k_settings, normalise),
     .fallback = "false",
     .min = 1,
     .unit = "",
     .help = "divide the weights of a token by their sum (training needs two or more experts per token then)"},
    {.name = "capacity_factor",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(top_k_settings, capacity_factor),
     .fallback = "auto",
     .min = 0.01,
     .max = 1e6,
     .has_auto = true,
     .unit = "",
     .help = "an expert takes this many times its even share of a micro-batch in training, what exceeds it is dropped; "
             "auto: nothing is"},
    {.name = "drop_order",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(top_k_settings, drop_order),
     .fallback = "position",
     .choices = "position|score",
     .min = 1,
     .unit = "",
     .help = "who keeps a place: first choices before second ones and earlier tokens before later ones, or the highest "
             "probability; with capacity_factor"},
};

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings;
    return sgm_check_experts("top_k", experts, experts_per_token, error);
}

static sgm_status trains(const void *settings, int64_t experts_per_token, sgm_error *error) {
    return sgm_check_normalised("top_k", ((const top_k_settings *)settings)->normalise, experts_per_token, error);
}

static bool is_sigmoid(const void *settings) {
    return ((const top_k_settings *)settings)->score == SGM_SCORE_SIGMOID;
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    sgm_score_as(((const top_k_settings *)settings)->score, kernels, record, begin, end);
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_k_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots;
    for (int64_t t = begin; t < end; t++)
        sgm_choose_best(record->probabilities + t * experts, record->selection_bias, 0, experts, slots,
                        record->expert + t * slots);
    sgm_weigh_chosen(record, own->normalise, 1, begin, end);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_k_settings *own = settings;
    sgm_weigh_chosen_backward(record, own->normalise, 1, begin, end);
}

static bool has_capacity(const void *settings) {
    return !isnan(((const top_k_settings *)settings)->capacity_factor);
}

static void assign(const void *settings, sgm_worker *worker, const sgm_kernels *kernels, sgm_routing *record,
                   void *scratch) {
    const top_k_settings *own = settings;
    (void)kernels;
    sgm_capacity_drop(worker, record, own->capacity_factor, own->drop_order == ORDER_SCORE, scratch);
}

static void room(const void *settings, int64_t items, int64_t experts, int64_t experts_per_token, int threads,
                 sgm_router_room *out) {
    const top_k_settings *own = settings;
    out->scratch_bytes = sgm_capacity_bytes(own->capacity_factor, own->drop_order == ORDER_SCORE, items, experts,
                                            experts_per_token, threads);
}

extern const sgm_router_plugin sgm_router_top_k;
const sgm_router_plugin sgm_router_top_k = {
    .plugin = {.name = "top_k",
               .summary = "the K experts with the highest score; weight = the score itself",
               .paper = "arXiv 2512.16248",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(top_k_settings)},
    .check = check,
    .trains = trains,
    .sigmoid = is_sigmoid,
    .score = score,
    .select = select_experts,
    .backward = backward,
    .assign = assign,
    .together = has_capacity,
    .room = room,
};
