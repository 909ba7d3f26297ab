// SPDX-License-Identifier: Apache-2.0
/* What a balance set reports and keeps: values and measures of the last step, and what a checkpoint carries. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "moe/balance/set.h"

/* ---- values and measures ----------------------------------------------------------------------------------------- */

double sgm_balance_set_value(const sgm_balance_set *set, size_t index, int64_t layer) {
    const balance_member *m = index < set->count ? &set->members[index] : NULL;
    return m && m->plugin->value && layer >= 0 && layer < set->layers ? m->value[layer] : (double)NAN;
}

double sgm_balance_set_total(const sgm_balance_set *set) {
    double total = 0;
    for (const balance_member *m = set->members; m < set->members + set->count; m++)
        for (int64_t layer = 0; m->plugin->value && m->coefficient != 0 && layer < set->layers; layer++)
            total += m->coefficient * m->value[layer];
    return total;
}

/* The how manyth of its kind a member is, from 1. */
static size_t occurrence_of(const sgm_balance_set *set, const balance_member *m) {
    size_t occurrence = 1;
    for (const balance_member *other = set->members; other < m; other++)
        occurrence += other->plugin == m->plugin;
    return occurrence;
}

/* "name", "name.2", … */
static void write_owner(const sgm_balance_set *set, const balance_member *m, char *text, size_t room) {
    size_t occurrence = occurrence_of(set, m);
    if (occurrence > 1)
        snprintf(text, room, "%.60s.%zu", m->plugin->plugin.name, occurrence);
    else
        snprintf(text, room, "%.60s", m->plugin->plugin.name);
}

bool sgm_balance_set_measure(const sgm_balance_set *set, size_t index, sgm_balance_measure *measure) {
    for (const balance_member *m = set->members; m < set->members + set->count; m++) {
        size_t values = m->plugin->value ? 1 : 0;
        if (index >= values + m->measures) {
            index -= values + m->measures;
            continue;
        }
        write_owner(set, m, measure->balancer, sizeof measure->balancer);
        measure->name = index < values ? "value" : m->plugin->measures[index - values];
        measure->values = index < values ? m->value : m->measure + (index - values);
        measure->stride = index < values ? 1 : (int64_t)m->measures;
        return true;
    }
    return false;
}

/* ---- a bias that is there at the beginning ----------------------------------------------------------------------- */

sgm_status sgm_balance_set_begin_bias(sgm_balance_set *set, const sgm_real *bias, sgm_error *error) {
    int64_t count = set->layers * set->experts;
    if (!set->any_bias)
        return sgm_fail(error, SGM_EARGUMENT, "set balance=loss_free_bias, or name it among others",
                        "no balancer of the run has a bias on selection");
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(bias[i]))
            return sgm_fail(error, SGM_EFORMAT, NULL,
                            "the bias on selection of expert %lld in layer %lld is not finite",
                            (long long)(i % set->experts), (long long)(i / set->experts));
    bool taken = false;
    for (const balance_member *m = set->members; m < set->members + set->count; m++) {
        for (int64_t layer = 0; m->plugin->selection_bias && layer < set->layers; layer++) {
            sgm_balance_view view = sgm_balance_view_of(set, m, layer, 0, NULL, NULL);
            double *its = view.state + (m->plugin->selection_bias(&view) - view.state);
            for (int64_t e = 0; e < set->experts_of[layer]; e++)
                its[e] = taken ? 0 : (double)bias[layer * set->experts + e];
        }
        taken |= m->plugin->selection_bias != NULL;
    }
    sgm_balance_sum_biases(set);
    return SGM_OK;
}

/* ---- state ------------------------------------------------------------------------------------------------------- */

/* Order: the members' states; then, where a member is lagged, each layer's tokens and K, the counts, and the sums of
 * the lagged members; then the members' tallies. */
int64_t sgm_balance_set_state_count(const sgm_balance_set *set) {
    size_t layers = (size_t)set->layers, count = set->any_lagged ? layers * (2 + (size_t)set->experts) : 0;
    for (const balance_member *m = set->members; m < set->members + set->count; m++)
        count += layers * (m->states + (m->lagged ? m->sums : 0) + m->tallies);
    return (int64_t)count;
}

static double *get(double *to, const double *from, size_t count) {
    memcpy(to, from, count * sizeof *to);
    return to + count;
}

static const double *put(const double *from, double *to, size_t count) {
    memcpy(to, from, count * sizeof *to);
    return from + count;
}

void sgm_balance_set_state_get(const sgm_balance_set *set, double *values) {
    size_t layers = (size_t)set->layers;
    const balance_member *end = set->members + set->count;
    for (const balance_member *m = set->members; m < end; m++)
        values = get(values, m->state, layers * m->states);
    for (size_t layer = 0; set->any_lagged && layer < layers; layer++) {
        *values++ = (double)set->tokens_before[layer];
        *values++ = (double)set->slots_before[layer];
    }
    if (set->any_lagged)
        values = get(values, set->count_before, layers * (size_t)set->experts);
    for (const balance_member *m = set->members; m < end; m++)
        if (m->lagged)
            values = get(values, m->before, layers * m->sums);
    for (const balance_member *m = set->members; m < end; m++)
        values = get(values, m->tally, layers * m->tallies);
}

/* The next part, if it holds anything; at the one that is looked for it stays. */
static bool pass_part(sgm_balance_part *part, size_t *left, const char *owner, const char *what,
                      sgm_balance_part_kind kind, size_t count) {
    if (count == 0)
        return false;
    part->first += part->count;
    part->count = (int64_t)count;
    part->kind = kind;
    snprintf(part->name, sizeof part->name, "%.90s.%s", owner, what);
    return (*left)-- == 0;
}

bool sgm_balance_set_part(const sgm_balance_set *set, size_t index, sgm_balance_part *part) {
    size_t layers = (size_t)set->layers, left = index;
    const balance_member *end = set->members + set->count;
    char owner[96];
    *part = (sgm_balance_part){0};
    for (const balance_member *m = set->members; m < end; m++) {
        write_owner(set, m, owner, sizeof owner);
        if (pass_part(part, &left, owner, "state", SGM_PART_STATE, layers * m->states))
            return true;
    }
    if (set->any_lagged && (pass_part(part, &left, "lagged", "tokens_and_slots", SGM_PART_LAGGED, 2 * layers) ||
                            pass_part(part, &left, "lagged", "counts", SGM_PART_LAGGED, layers * (size_t)set->experts)))
        return true;
    for (const balance_member *m = set->members; m < end; m++) {
        write_owner(set, m, owner, sizeof owner);
        if (m->lagged && pass_part(part, &left, owner, "sums", SGM_PART_LAGGED, layers * m->sums))
            return true;
    }
    for (const balance_member *m = set->members; m < end; m++) {
        write_owner(set, m, owner, sizeof owner);
        if (pass_part(part, &left, owner, "tally", SGM_PART_TALLY, layers * m->tallies))
            return true;
    }
    return false;
}

static sgm_status check_state(const sgm_balance_set *set, const double *values, int64_t count, sgm_error *error) {
    const char *hint = "resume with the balancers, layers and experts the checkpoint was made with";
    if (count != sgm_balance_set_state_count(set))
        return sgm_fail(error, SGM_EFORMAT, hint, "balancer state: %lld values where %lld belong", (long long)count,
                        (long long)sgm_balance_set_state_count(set));
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return sgm_fail(error, SGM_EFORMAT, hint, "balancer state: value %lld is not a finite number",
                            (long long)i);
    for (const balance_member *m = set->members; m < set->members + set->count; m++)
        values += (size_t)set->layers * m->states;
    for (int64_t i = 0; set->any_lagged && i < 2 * set->layers; i++) {
        bool fits = values[i] == floor(values[i]) && values[i] >= 0 && values[i] < 9e15;
        bool slots = i % 2 == 0 || (values[i] <= (double)set->experts && (values[i] > 0 || values[i - 1] == 0));
        if (!fits || !slots)
            return sgm_fail(error, SGM_EFORMAT, hint, "balancer state: %g is no count of tokens or experts", values[i]);
    }
    return SGM_OK;
}

sgm_status sgm_balance_set_state_put(sgm_balance_set *set, const double *values, int64_t count, sgm_error *error) {
    sgm_status status = check_state(set, values, count, error);
    if (status)
        return status;
    size_t layers = (size_t)set->layers;
    const balance_member *end = set->members + set->count;
    for (const balance_member *m = set->members; m < end; m++)
        values = put(values, m->state, layers * m->states);
    for (size_t layer = 0; set->any_lagged && layer < layers; layer++) {
        set->tokens_before[layer] = (int64_t)*values++;
        set->slots_before[layer] = (int64_t)*values++;
    }
    if (set->any_lagged)
        values = put(values, set->count_before, layers * (size_t)set->experts);
    for (const balance_member *m = set->members; m < end; m++)
        if (m->lagged)
            values = put(values, m->before, layers * m->sums);
    for (const balance_member *m = set->members; m < end; m++)
        values = put(values, m->tally, layers * m->tallies);
    sgm_balance_sum_biases(set);
    return SGM_OK;
}
