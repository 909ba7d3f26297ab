// SPDX-License-Identifier: Apache-2.0
/* The driver of the balancers: sums, scopes, modes, state. A plug-in knows formulas; everything else is here.
 *
 * Every token is added to each sum exactly once per step and in order, so a sum's bytes do not depend on threads (they
 * split a sum's elements, never its tokens) nor on micro-batches. A member that must know the whole batch beforehand
 * (an exact global loss, more than one micro-batch) is summed in the count pass, every other one in the train pass.
 *
 * Weights: a token's share of the total loss is 1 / (tokens of the global batch), whatever its scope. So a scope of T
 * tokens enters with coefficient · T / global tokens, which for the exact global batch is the coefficient itself, and
 * for `buffer` and `lagged`, whose sums hold fewer or other tokens, keeps each token's pull the same. As values are means
 * over T, a gradient is left with the pull, coefficient / global tokens.
 *
 * Outside a step (before begin, after end or cancel) the set only lends its selection bias: an evaluation between two
 * steps routes as training does and leaves no trace. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "moe/balance/probability.h"
#include "moe/balance/set.h"

/* ---- making ---------------------------------------------------------------------------------------------------- */

static void *carve(char *block, size_t *used, int64_t rows, size_t columns, size_t size) {
    return sgm_carve(block, used, (size_t)rows * columns, size);
}

/* Run twice: for the size, then for the addresses. */
static size_t layout(sgm_balance_set *set, int threads, char *block) {
    size_t used = 0, experts = (size_t)set->experts;
    int64_t layers = set->layers;
    set->experts_of = carve(block, &used, layers, 1, sizeof *set->experts_of);
    set->slots = carve(block, &used, layers, 1, sizeof *set->slots);
    set->null_experts = carve(block, &used, layers, 1, sizeof *set->null_experts);
    set->tokens_first = carve(block, &used, layers, 1, sizeof *set->tokens_first);
    set->tokens_step = carve(block, &used, layers, 1, sizeof *set->tokens_step);
    set->tokens_before = carve(block, &used, layers, 1, sizeof *set->tokens_before);
    set->slots_before = carve(block, &used, layers, 1, sizeof *set->slots_before);
    set->count_first = carve(block, &used, layers, experts, sizeof(double));
    set->count_step = carve(block, &used, layers, experts, sizeof(double));
    set->bias = carve(block, &used, layers, experts, sizeof *set->bias);
    if (set->any_price)
        set->price = carve(block, &used, threads, experts, sizeof *set->price);
    if (set->any_micro)
        set->count_micro = carve(block, &used, layers, experts, sizeof(double));
    if (set->any_sequence)
        set->count_sequence = carve(block, &used, layers * set->sequences, experts, sizeof(double));
    if (set->any_lagged)
        set->count_before = carve(block, &used, layers, experts, sizeof(double));
    for (balance_member *m = set->members; m < set->members + set->count; m++) {
        int64_t parts = m->scope == SGM_SCOPE_SEQUENCE ? layers * set->sequences : layers;
        m->global = carve(block, &used, layers, m->sums, sizeof(double));
        if (m->scope == SGM_SCOPE_SEQUENCE || m->scope == SGM_SCOPE_MICRO)
            m->part = carve(block, &used, parts, m->sums, sizeof(double));
        if (m->lagged)
            m->before = carve(block, &used, layers, m->sums, sizeof(double));
        m->state = carve(block, &used, layers, m->states, sizeof(double));
        m->tally = carve(block, &used, layers, m->tallies, sizeof(double));
        m->measure = carve(block, &used, layers, m->measures, sizeof(double));
        m->value = carve(block, &used, layers, 1, sizeof(double));
        m->running = carve(block, &used, layers, 1, sizeof(double));
    }
    return used;
}

static void describe(sgm_balance_set *set, balance_member *m, const sgm_balance_member *from) {
    const sgm_balance_plugin *p = from->plugin;
    *m = (balance_member){.plugin = p, .settings = from->settings, .scope = SGM_SCOPE_GLOBAL, .mode = SGM_MODE_BUFFER};
    m->sums = p->sum_count ? p->sum_count(from->settings, set->experts) : 0;
    m->states = p->state_count ? p->state_count(from->settings, set->experts) : 0;
    m->tallies = p->tally_count ? p->tally_count(from->settings, set->experts) : 0;
    while (p->measures && p->measures[m->measures])
        m->measures++;
    m->coefficient = p->coefficient ? p->coefficient(from->settings) : 0;
    if (p->scope)
        m->scope = p->scope(from->settings);
    if (p->mode)
        m->mode = p->mode(from->settings);
    m->lagged = p->value && m->scope == SGM_SCOPE_GLOBAL && m->mode == SGM_MODE_LAGGED;
    set->any_lagged |= m->lagged;
    set->any_micro |= m->scope == SGM_SCOPE_MICRO;
    set->any_sequence |= m->scope == SGM_SCOPE_SEQUENCE;
    set->any_shuffle |= m->scope == SGM_SCOPE_SHUFFLE;
    set->any_price |= p->price != NULL;
    set->any_bias |= p->selection_bias != NULL;
}

sgm_status sgm_balance_set_new(const sgm_balance_member *members, size_t count, int64_t layers, int64_t experts,
                               int64_t sequences, int threads, sgm_balance_set **out, sgm_error *error) {
    if (layers < 1 || experts < 1 || sequences < 1 || threads < 1 || layers > 1 << 20 || experts > 1 << 20 ||
        sequences > 1 << 24)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "balancers for %lld layers, %lld experts, %lld sequences, %d threads", (long long)layers,
                        (long long)experts, (long long)sequences, threads);
    sgm_balance_set *set = sgm_alloc(sizeof *set);
    balance_member *own = sgm_alloc((count + 1) * sizeof *own);
    sgm_status status = SGM_OK;
    if (set && own) {
        *set = (sgm_balance_set){
            .count = count, .members = own, .layers = layers, .experts = experts, .sequences = sequences};
        for (size_t i = 0; i < count; i++)
            describe(set, &own[i], &members[i]);
        /* Sums of every sequence can be a lot; beyond 2^40 of them `layout` might wrap around. */
        double sums = (double)layers * (double)experts * (set->any_sequence ? (double)sequences : 1);
        status = sgm_memory_check(sums > 0x1p40 ? UINT64_MAX : layout(set, threads, NULL), "the sums of the balancers",
                                  error);
        set->block = status ? NULL : sgm_alloc(layout(set, threads, NULL));
        if (set->block)
            status = sgm_balance_set_reserve(set, 0, 0, error);
    }
    if (!set || !own || !set->block || status) {
        if (set)
            sgm_free(set->block);
        sgm_free(own);
        sgm_free(set);
        return status ? status
                      : sgm_fail(error, SGM_EMEMORY, "use fewer layers, experts or sequences per micro-batch",
                                 "no memory for the sums of %zu balancers", count);
    }
    layout(set, threads, set->block);
    for (int64_t layer = 0; layer < layers; layer++)
        set->experts_of[layer] = experts;
    for (size_t i = 0; i < count; i++) {
        for (int64_t layer = 0; layer < layers; layer++)
            own[i].value[layer] = (double)NAN;
        for (size_t at = 0; at < (size_t)layers * own[i].measures; at++)
            own[i].measure[at] = (double)NAN;
    }
    sgm_balance_sum_biases(set);
    *out = set;
    return SGM_OK;
}

void sgm_balance_set_experts_of(sgm_balance_set *set, const int64_t *experts_of) {
    for (int64_t layer = 0; layer < set->layers; layer++) {
        assert(experts_of[layer] >= 1 && experts_of[layer] <= set->experts);
        set->experts_of[layer] = experts_of[layer];
    }
    sgm_balance_sum_biases(set);
}

void sgm_balance_set_free(sgm_balance_set *set) {
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        sgm_free(set->members[i].settings);
    sgm_free(set->members);
    sgm_free(set->block);
    sgm_free(set->shuffle_block);
    sgm_free(set);
}

size_t sgm_balance_set_count(const sgm_balance_set *set) {
    return set->count;
}

const char *sgm_balance_set_name(const sgm_balance_set *set, size_t index) {
    return index < set->count ? set->members[index].plugin->plugin.name : NULL;
}

sgm_balance_scope sgm_balance_set_scope(const sgm_balance_set *set, size_t index) {
    return set->members[index].scope;
}

/* ---- what a plug-in sees ---------------------------------------------------------------------------------------- */

static double sum_of(const double *count, int64_t experts) {
    double sum = 0;
    for (int64_t e = 0; e < experts; e++)
        sum += count[e];
    return sum;
}

sgm_balance_view sgm_balance_view_of(const sgm_balance_set *set, const balance_member *m, int64_t layer, int64_t tokens,
                                     const double *count, const double *sums) {
    return (sgm_balance_view){.settings = m->settings,
                              .experts = set->experts_of[layer],
                              .null_experts = set->null_experts[layer],
                              .slots = set->slots[layer],
                              .tokens = tokens,
                              .step = set->step,
                              .steps = set->steps,
                              .count = count,
                              .assigned = count ? sum_of(count, set->experts_of[layer]) : 0,
                              .sums = sums,
                              .state = m->state + (size_t)layer * m->states,
                              .tally = m->tally + (size_t)layer * m->tallies};
}

/* Must its sums be known before the first gradient? */
static bool wants_count_pass(const balance_member *m) {
    return sgm_balance_pulls(m) &&
           (m->scope == SGM_SCOPE_SHUFFLE || (m->scope == SGM_SCOPE_GLOBAL && m->mode == SGM_MODE_EXACT));
}

static bool is_counted(const sgm_balance_set *set, const balance_member *m) {
    return set->counted && wants_count_pass(m);
}

/* The global batch of this step, as far as it is known. */
static sgm_balance_view global_view(const sgm_balance_set *set, const balance_member *m, int64_t layer) {
    bool first = is_counted(set, m);
    return sgm_balance_view_of(set, m, layer, (first ? set->tokens_first : set->tokens_step)[layer],
                               (first ? set->count_first : set->count_step) + layer * set->experts,
                               m->global + (size_t)layer * m->sums);
}

/* What the gradient of a global member is taken from. */
static sgm_balance_view gradient_view(const sgm_balance_set *set, const balance_member *m, int64_t layer) {
    sgm_balance_view view = global_view(set, m, layer);
    if (m->lagged && set->tokens_before[layer] > 0) {
        view.tokens = set->tokens_before[layer];
        view.slots = set->slots_before[layer]; /* K may have changed since */
        view.count = set->count_before + layer * set->experts;
        view.assigned = sum_of(view.count, view.experts);
        view.sums = m->before + (size_t)layer * m->sums;
    }
    return view;
}

static int64_t sequence_count(const sgm_balance_set *set, const sgm_routing *record) {
    if (!record->sequence_start)
        return 1;
    assert(record->sequence_count <= set->sequences);
    return record->sequence_count < set->sequences ? record->sequence_count : set->sequences;
}

static void sequence_range(const sgm_routing *record, int64_t sequence, int64_t *begin, int64_t *end) {
    *begin = record->sequence_start ? record->sequence_start[sequence] : 0;
    *end = record->sequence_start ? record->sequence_start[sequence + 1] : record->items;
}

static sgm_balance_view sequence_view(const sgm_balance_set *set, const balance_member *m, int64_t layer,
                                      int64_t sequence, int64_t tokens) {
    int64_t at = layer * set->sequences + sequence;
    return sgm_balance_view_of(set, m, layer, tokens, set->count_sequence + at * set->experts,
                               m->part + (size_t)at * m->sums);
}

static sgm_balance_view micro_view(const sgm_balance_set *set, const balance_member *m, int64_t layer, int64_t tokens) {
    return sgm_balance_view_of(set, m, layer, tokens, set->count_micro + layer * set->experts,
                               m->part + (size_t)layer * m->sums);
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

bool sgm_balance_set_needs_count_pass(const sgm_balance_set *set, int64_t micro_batches) {
    bool needed = false;
    for (size_t i = 0; i < set->count; i++)
        needed |= wants_count_pass(&set->members[i]);
    return needed && micro_batches > 1;
}

void sgm_balance_set_seek(sgm_balance_set *set, int64_t step, int64_t steps, uint64_t seed) {
    set->step = step;
    set->steps = steps;
    set->seed = seed;
}

/* Sums grow token by token: only `needs_count_pass` cares how many pieces there are. */
void sgm_balance_set_begin_step(sgm_balance_set *set, int64_t global_tokens, const int64_t *slots) {
    size_t layers = (size_t)set->layers, counts = layers * (size_t)set->experts * sizeof(double);
    set->active = true;
    set->counted = false;
    set->pass = SGM_PASS_TRAIN;
    set->global_tokens = global_tokens;
    memcpy(set->slots, slots, layers * sizeof *slots);
    memset(set->tokens_first, 0, layers * sizeof *set->tokens_first);
    memset(set->tokens_step, 0, layers * sizeof *set->tokens_step);
    memset(set->count_first, 0, counts);
    memset(set->count_step, 0, counts);
    for (balance_member *m = set->members; m < set->members + set->count; m++) {
        memset(m->global, 0, layers * m->sums * sizeof(double));
        memset(m->running, 0, layers * sizeof(double));
    }
    if (set->any_shuffle)
        sgm_balance_shuffle_deal(set);
}

void sgm_balance_set_begin_pass(sgm_balance_set *set, sgm_balance_pass pass) {
    set->pass = pass;
    set->counted |= pass == SGM_PASS_COUNT;
}

void sgm_balance_set_cancel_step(sgm_balance_set *set) {
    set->active = false;
}

void sgm_balance_sum_biases(sgm_balance_set *set) {
    for (int64_t layer = 0; layer < set->layers; layer++) {
        sgm_real *bias = set->bias + layer * set->experts;
        for (int64_t e = 0; e < set->experts_of[layer]; e++) {
            double sum = 0;
            for (const balance_member *m = set->members; m < set->members + set->count; m++) {
                sgm_balance_view view = sgm_balance_view_of(set, m, layer, 0, NULL, NULL);
                const double *its = m->plugin->selection_bias ? m->plugin->selection_bias(&view) : NULL;
                sum += its ? its[e] : 0;
            }
            bias[e] = (sgm_real)sum;
        }
    }
}

static double step_value(const sgm_balance_set *set, const balance_member *m, int64_t layer,
                         const sgm_balance_view *view) {
    if (m->scope == SGM_SCOPE_GLOBAL)
        return m->plugin->value(view);
    if (m->scope == SGM_SCOPE_SHUFFLE)
        return sgm_balance_shuffle_value(set, m, layer);
    return m->running[layer] / (double)set->global_tokens;
}

void sgm_balance_set_end_step(sgm_balance_set *set) {
    for (int64_t layer = 0; layer < set->layers; layer++) {
        for (balance_member *m = set->members; m < set->members + set->count; m++) {
            sgm_balance_view view = global_view(set, m, layer);
            if (view.tokens == 0)
                continue;
            if (m->plugin->value)
                m->value[layer] = step_value(set, m, layer, &view);
            if (m->measures)
                m->plugin->measure(&view, m->measure + (size_t)layer * m->measures);
            if (m->plugin->after_step)
                m->plugin->after_step(&view);
            if (m->lagged)
                memcpy(m->before + (size_t)layer * m->sums, view.sums, m->sums * sizeof(double));
        }
        if (!set->any_lagged || set->tokens_step[layer] == 0)
            continue;
        set->tokens_before[layer] = set->tokens_step[layer];
        set->slots_before[layer] = set->slots[layer];
        memcpy(set->count_before + layer * set->experts, set->count_step + layer * set->experts,
               (size_t)set->experts * sizeof(double));
    }
    sgm_balance_sum_biases(set);
    set->active = false;
}

/* ---- hooks of the MoE op ------------------------------------------------------------------------------------------
 */

const sgm_real *sgm_balance_set_bias(const sgm_balance_set *set) {
    return set->any_bias ? set->bias : NULL;
}

void sgm_balance_set_before_select(sgm_worker *worker, sgm_balance_set *set, sgm_routing *record) {
    if (!set->any_bias)
        return; /* the model's own bias, if it has one, stays */
    if (worker->thread == 0)
        record->selection_bias = set->bias + record->layer * set->experts;
    sgm_barrier(worker);
}

/* Add the choices of items [begin, end) for experts [first, last). */
static void add_counts(const sgm_routing *record, int64_t begin, int64_t end, double *count, int64_t first,
                       int64_t last) {
    for (int64_t place = begin * record->slots; place < end * record->slots; place++) {
        int64_t e = record->expert[place];
        if (e >= first && e < last)
            count[e] += 1;
    }
}

/* `before`: tokens of the batch that this pass saw before this record. */
static void add_all_counts(const sgm_worker *worker, sgm_balance_set *set, const sgm_routing *record, int64_t before) {
    int64_t first, last, layer = record->layer, experts = set->experts, begin, end;
    sgm_split(worker, experts, 8, &first, &last);
    size_t bytes = (size_t)(last - first) * sizeof(double);
    bool counting = set->pass == SGM_PASS_COUNT;
    add_counts(record, 0, record->items, (counting ? set->count_first : set->count_step) + layer * experts, first,
               last);
    if (set->any_shuffle && sgm_balance_counts_now(set, true))
        sgm_balance_shuffle_count(set, record, before, first, last);
    if (counting)
        return;
    if (set->any_micro) {
        double *count = set->count_micro + layer * experts;
        memset(count + first, 0, bytes);
        add_counts(record, 0, record->items, count, first, last);
    }
    for (int64_t s = 0; set->any_sequence && s < sequence_count(set, record); s++) {
        double *count = set->count_sequence + (layer * set->sequences + s) * experts;
        memset(count + first, 0, bytes);
        sequence_range(record, s, &begin, &end);
        add_counts(record, begin, end, count, first, last);
    }
}

static void add_sums(const sgm_worker *worker, const sgm_balance_set *set, const balance_member *m,
                     const sgm_routing *record, int64_t before) {
    int64_t first, last, layer = record->layer;
    int64_t count = (int64_t)m->plugin->sum_count(m->settings, record->experts); /* m->sums are those of most experts */
    sgm_split(worker, count, 8, &first, &last);
    if (sgm_balance_counts_now(set, wants_count_pass(m))) {
        double *sums = m->global + (size_t)layer * m->sums;
        for (int64_t t = 0; t < record->items; t++)
            m->plugin->accumulate(m->settings, record, t, sums, first, last);
        if (m->scope == SGM_SCOPE_SHUFFLE)
            sgm_balance_shuffle_sum(set, m, record, before, first, last);
    }
    if (set->pass == SGM_PASS_COUNT || m->scope == SGM_SCOPE_GLOBAL || m->scope == SGM_SCOPE_SHUFFLE)
        return;
    bool whole = m->scope == SGM_SCOPE_MICRO;
    int64_t parts = whole ? 1 : sequence_count(set, record), begin = 0, end = record->items;
    for (int64_t s = 0; s < parts; s++) {
        double *sums = m->part + (size_t)(whole ? layer : layer * set->sequences + s) * m->sums;
        memset(sums + first, 0, (size_t)(last - first) * sizeof *sums);
        if (!whole)
            sequence_range(record, s, &begin, &end);
        for (int64_t t = begin; t < end; t++)
            m->plugin->accumulate(m->settings, record, t, sums, first, last);
    }
}

/* The values of the scopes that end with this micro-batch. One thread: a few products for each expert. */
static void add_values(const sgm_balance_set *set, const sgm_routing *record) {
    int64_t layer = record->layer, begin, end;
    for (balance_member *m = set->members; m < set->members + set->count; m++) {
        if (!m->plugin->value || record->items == 0)
            continue;
        if (m->scope == SGM_SCOPE_MICRO) {
            sgm_balance_view view = micro_view(set, m, layer, record->items);
            m->running[layer] += m->plugin->value(&view) * (double)record->items;
            continue;
        }
        for (int64_t s = 0; m->scope == SGM_SCOPE_SEQUENCE && s < sequence_count(set, record); s++) {
            sequence_range(record, s, &begin, &end);
            sgm_balance_view view = sequence_view(set, m, layer, s, end - begin);
            if (end > begin)
                m->running[layer] += m->plugin->value(&view) * (double)(end - begin);
        }
    }
}

void sgm_balance_set_after_route(sgm_worker *worker, sgm_balance_set *set, const sgm_routing *record) {
    assert(record->layer >= 0 && record->layer < set->layers && record->experts == set->experts_of[record->layer]);
    if (set->active) {
        int64_t *tokens = (set->pass == SGM_PASS_COUNT ? set->tokens_first : set->tokens_step) + record->layer;
        int64_t before = set->any_shuffle ? *tokens : 0;
        add_all_counts(worker, set, record, before);
        for (size_t i = 0; i < set->count; i++)
            if (set->members[i].sums)
                add_sums(worker, set, &set->members[i], record, before);
        bool parts = set->pass == SGM_PASS_TRAIN && (set->any_micro || set->any_sequence);
        if (parts || set->any_shuffle) /* all sums are there, and everybody has read how many tokens there were */
            sgm_barrier(worker);
        if (worker->thread == 0) {
            *tokens += record->items;
            set->null_experts[record->layer] = record->null_experts;
            if (parts)
                add_values(set, record);
        }
    }
    sgm_barrier(worker);
}

/* Items [begin, end) of one scope; `price` is this thread's room for one number per expert. */
static void add_gradient(const sgm_balance_set *set, const balance_member *m, const sgm_balance_view *view,
                         sgm_routing *record, double *price, int64_t begin, int64_t end) {
    double pull = m->coefficient / (double)set->global_tokens;
    if (m->plugin->price && begin < end)
        m->plugin->price(view, price);
    for (int64_t t = begin; t < end; t++)
        if (m->plugin->price)
            sgm_probability_pull(record, t, price, pull);
        else
            m->plugin->gradient(view, record, t, pull);
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The micro-batch, whose last token is the newest of the train pass, cut where its blocks end. */
static void add_shuffled(const sgm_balance_set *set, const balance_member *m, sgm_routing *record, double *price,
                         int64_t begin, int64_t end) {
    int64_t before = set->tokens_step[record->layer] - record->items;
    for (int64_t t = begin, next; t < end; t = next) {
        int64_t block = sgm_balance_shuffle_block(set, before + t);
        next = end;
        if (set->group_tokens && block < set->groups - 1)
            next = least(end, (block + 1) * set->group_tokens - before);
        sgm_balance_view view = sgm_balance_shuffle_view(set, m, record->layer, block);
        add_gradient(set, m, &view, record, price, t, next);
    }
}

void sgm_balance_set_gradient(sgm_worker *worker, sgm_balance_set *set, sgm_routing *record) {
    int64_t begin, end, first, last, layer = record->layer;
    sgm_split(worker, record->items, 1, &begin, &end);
    double *price = set->any_price ? set->price + worker->thread * set->experts : NULL;
    for (balance_member *m = set->members; set->active && m < set->members + set->count; m++) {
        if (!sgm_balance_pulls(m))
            continue;
        if (m->scope == SGM_SCOPE_GLOBAL) {
            sgm_balance_view view = gradient_view(set, m, layer);
            add_gradient(set, m, &view, record, price, begin, end);
        } else if (m->scope == SGM_SCOPE_MICRO) {
            sgm_balance_view view = micro_view(set, m, layer, record->items);
            add_gradient(set, m, &view, record, price, begin, end);
        } else if (m->scope == SGM_SCOPE_SHUFFLE) {
            add_shuffled(set, m, record, price, begin, end);
        }
        for (int64_t s = 0; m->scope == SGM_SCOPE_SEQUENCE && s < sequence_count(set, record); s++) {
            sequence_range(record, s, &first, &last);
            sgm_balance_view view = sequence_view(set, m, layer, s, last - first);
            add_gradient(set, m, &view, record, price, most(first, begin), least(last, end));
        }
    }
    sgm_barrier(worker);
}
