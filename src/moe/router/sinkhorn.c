// SPDX-License-Identifier: Apache-2.0
/* Sinkhorn routing, S-BASE of arXiv 2202.01169: in training the choice is made by scores that were balanced over the batch,
 * a regularised form of the assignment problem of BASE layers (arXiv 2103.16716). exp(logits) is scaled by a factor for each
 * token and one for each expert until every token has the same sum over experts and every expert the same sum over tokens
 * (Sinkhorn's iteration); a token then takes the K experts with the largest entries of that plan. The plan only chooses: the
 * weight of an expert is its plain score, and only that has a gradient.
 *
 * The choice of a token depends on the whole batch, later tokens included, so inference cannot make it: there each token
 * takes the K experts of the highest plain scores. A selection bias is added to the plan (whose rows sum to 1) in training
 * and to the scores in inference. A token with NaN scores stays out of the sums and keeps its plain choice. */
#include <math.h>
#include <stddef.h>

#include "base/memory.h"
#include "moe/router/choose.h"
#include "moe/router/router.h"

typedef struct sinkhorn_settings {
    int score;
    int64_t iterations;
    double tolerance;
} sinkhorn_settings;

static const sgm_param params[] = {
    {.name = "score",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(sinkhorn_settings, score),
     .fallback = "softmax",
     .choices = SGM_SCORE_CHOICES,
     .min = 1,
     .unit = "",
     .help = "what turns logits into weights, and into the choice of inference"},
    {.name = "iterations",
     .type = SGM_PARAM_INT,
     .offset = offsetof(sinkhorn_settings, iterations),
     .fallback = "32",
     .min = 1,
     .max = 100000,
     .unit = "",
     .help = "most iterations that balance the scores of a batch"},
    {.name = "tolerance",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(sinkhorn_settings, tolerance),
     .fallback = "1e-3",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "end when no expert's factor changed by more than this part of itself"},
};

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings;
    return sgm_check_experts("sinkhorn", experts, experts_per_token, error);
}

static bool is_sigmoid(const void *settings) {
    return ((const sinkhorn_settings *)settings)->score == SGM_SCORE_SIGMOID;
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    sgm_score_as(((const sinkhorn_settings *)settings)->score, kernels, record, begin, end);
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    for (int64_t t = begin; t < end; t++)
        sgm_choose_best(record->probabilities + t * record->experts, record->selection_bias, 0, record->experts,
                        record->slots, record->expert + t * record->slots);
    sgm_weigh_chosen(record, false, 1, begin, end);
}

typedef struct plan {
    sgm_real *share;   /* (T, E) softmax of the logits, then the plan itself */
    double *row;       /* (T) factor of each token; 0: it stays out */
    double *column[2]; /* (E) factor of each expert, of this iteration and the next */
} plan;

static size_t lay_out(plan *p, char *block, int64_t items, int64_t experts) {
    size_t used = 0;
    p->share = sgm_carve(block, &used, (size_t)(items * experts), sizeof *p->share);
    p->row = sgm_carve(block, &used, (size_t)items, sizeof *p->row);
    p->column[0] = sgm_carve(block, &used, (size_t)experts, sizeof(double));
    p->column[1] = sgm_carve(block, &used, (size_t)experts, sizeof(double));
    return used;
}

static void room(const void *settings, int64_t items, int64_t experts, int64_t experts_per_token, int threads,
                 sgm_router_room *out) {
    (void)settings;
    (void)experts_per_token;
    (void)threads;
    plan p;
    out->scratch_bytes = lay_out(&p, NULL, items, experts);
}

/* 1 / Σ share · column for tokens [begin, end); 0 where that is no number. */
static void scale_rows(const plan *p, const double *column, int64_t experts, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *share = p->share + t * experts;
        double sum = 0;
        for (int64_t e = 0; e < experts; e++)
            sum += (double)share[e] * column[e];
        p->row[t] = sum > 0 ? 1 / sum : 0;
    }
}

/* The next factors of experts [first, last): each gets an equal part of the tokens. Tokens in order, so the sums have the same
 * bytes for any number of threads. An expert that no token has any share for keeps its factor. */
static void scale_columns(const plan *p, const double *column, double *next, int64_t items, int64_t experts,
                          int64_t first, int64_t last) {
    int64_t tokens = 0;
    for (int64_t e = first; e < last; e++)
        next[e] = 0;
    for (int64_t t = 0; t < items; t++) {
        const sgm_real *share = p->share + t * experts;
        if (p->row[t] == 0)
            continue;
        tokens++;
        for (int64_t e = first; e < last; e++)
            next[e] += (double)share[e] * p->row[t];
    }
    for (int64_t e = first; e < last; e++)
        next[e] = next[e] > 0 ? (double)tokens / (double)experts / next[e] : column[e];
}

static double largest_change(const double *column, const double *next, int64_t experts) {
    double change = 0;
    for (int64_t e = 0; e < experts; e++)
        change = fmax(change, fabs(next[e] / column[e] - 1));
    return change;
}

/* Every thread returns the same factors of the experts. */
static const double *balance(const sinkhorn_settings *own, sgm_worker *worker, const plan *p, int64_t items,
                             int64_t experts) {
    int64_t first, last, begin, end;
    sgm_split(worker, experts, 8, &first, &last);
    sgm_split(worker, items, 1, &begin, &end);
    for (int64_t i = 0;; i++) {
        const double *column = p->column[i % 2];
        double *next = p->column[1 - i % 2];
        scale_rows(p, column, experts, begin, end);
        sgm_barrier(worker);
        scale_columns(p, column, next, items, experts, first, last);
        sgm_barrier(worker);
        if (i + 1 == own->iterations || largest_change(column, next, experts) <= own->tolerance)
            return next;
    }
}

static void assign(const void *settings, sgm_worker *worker, const sgm_kernels *kernels, sgm_routing *record,
                   void *scratch) {
    const sinkhorn_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots, begin, end;
    plan p;
    lay_out(&p, scratch, record->items, experts);
    sgm_split(worker, record->items, 1, &begin, &end);
    kernels->softmax(end - begin, experts, record->logits + begin * experts, experts, p.share + begin * experts,
                     experts);
    if (worker->thread == 0)
        for (int64_t e = 0; e < experts; e++)
            p.column[0][e] = 1;
    sgm_barrier(worker);
    const double *column = balance(own, worker, &p, record->items, experts);
    scale_rows(&p, column, experts, begin, end);
    for (int64_t t = begin; t < end; t++) {
        sgm_real *share = p.share + t * experts;
        for (int64_t e = 0; e < experts; e++)
            share[e] = (sgm_real)((double)share[e] * column[e] * p.row[t]);
        if (p.row[t] != 0)
            sgm_choose_best(share, record->selection_bias, 0, experts, slots, record->expert + t * slots);
    }
    sgm_weigh_chosen(record, false, 1, begin, end);
    sgm_barrier(worker);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    sgm_weigh_chosen_backward(record, false, 1, begin, end);
}

extern const sgm_router_plugin sgm_router_sinkhorn;
const sgm_router_plugin sgm_router_sinkhorn = {
    .plugin = {.name = "sinkhorn",
               .summary =
                   "in training the choice follows scores balanced over the batch (it looks ahead); top-k otherwise",
               .paper = "arXiv 2202.01169",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(sinkhorn_settings)},
    .check = check,
    .sigmoid = is_sigmoid,
    .score = score,
    .select = select_experts,
    .backward = backward,
    .assign = assign,
    .room = room,
};
