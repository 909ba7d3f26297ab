// SPDX-License-Identifier: Apache-2.0
/* What the tests of balancers share: members with their choices set, a step over micro-batches of one layer, records whose
 * probabilities and choices are written down. */
#ifndef SGM_TESTS_BALANCE_HELPER_H
#define SGM_TESTS_BALANCE_HELPER_H

#include <math.h>

#include "routing_helper.h"

static inline void close_to(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9g, expected %.9g ± %g", value, expected, tolerance);
}

enum { SEQUENCE, MICRO, GLOBAL, SHUFFLE, EXACT = 0, BUFFER, LAGGED };

/* Has this plug-in a parameter of that name? */
static inline bool has_param(const sgm_plugin *plugin, const char *name) {
    for (size_t i = 0; i < plugin->param_count; i++)
        if (!strcmp(plugin->params[i].name, name))
            return true;
    return false;
}

static inline sgm_balance_member make(const char *name, double coefficient, int scope, int mode) {
    const sgm_balance_plugin *plugin = sgm_balance_find(name, NULL);
    assert_non_null(plugin);
    sgm_balance_member member = {plugin, settings_new(&plugin->plugin)};
    if (plugin->coefficient)
        set_real(&plugin->plugin, member.settings, "coefficient", coefficient);
    if (has_param(&plugin->plugin, "scope"))
        set_int(&plugin->plugin, member.settings, "scope", scope);
    if (has_param(&plugin->plugin, "mode"))
        set_int(&plugin->plugin, member.settings, "mode", mode);
    return member;
}

static inline sgm_balance_set *set_of(sgm_balance_member *members, size_t count, int64_t experts) {
    sgm_balance_set *set = NULL;
    assert_int_equal(sgm_balance_set_new(members, count, 1, experts, 8, 3, &set, NULL), SGM_OK);
    return set;
}

/* One step over micro-batches of layer 0, on a team: count pass if wanted, train pass, end. */
typedef struct step_of {
    sgm_balance_set *set;
    sgm_routing *record;
    int64_t count, tokens;
} step_of;

static inline void step_work(sgm_worker *worker, void *argument) {
    step_of *s = argument;
    for (int pass = SGM_PASS_COUNT; pass <= SGM_PASS_TRAIN; pass++) {
        if (pass == SGM_PASS_COUNT && !sgm_balance_set_needs_count_pass(s->set, s->count))
            continue;
        if (worker->thread == 0)
            sgm_balance_set_begin_pass(s->set, (sgm_balance_pass)pass);
        sgm_barrier(worker);
        for (int64_t i = 0; i < s->count; i++) {
            sgm_balance_set_before_select(worker, s->set, &s->record[i]);
            sgm_balance_set_after_route(worker, s->set, &s->record[i]);
            if (pass == SGM_PASS_TRAIN)
                sgm_balance_set_gradient(worker, s->set, &s->record[i]);
        }
    }
}

static inline void run_step(int threads, sgm_balance_set *set, sgm_routing *record, int64_t count) {
    step_of s = {.set = set, .record = record, .count = count};
    int64_t slots = record[0].slots;
    for (int64_t i = 0; i < count; i++) {
        s.tokens += record[i].items;
        memset(record[i].d_logits, 0, (size_t)(record[i].items * record[i].experts) * sizeof(sgm_real));
    }
    sgm_balance_set_begin_step(set, s.tokens, &slots);
    on_team(threads, step_work, &s);
    sgm_balance_set_end_step(set);
}

/* Probabilities and choices written down, no router. */
static inline sgm_routing written(int64_t items, int64_t experts, const double *p, const int32_t *expert) {
    sgm_routing r = record_new(items, experts, 1);
    for (int64_t i = 0; i < items * experts; i++) {
        r.probabilities[i] = (sgm_real)p[i];
        r.logits[i] = (sgm_real)log(p[i]);
    }
    memcpy(r.expert, expert, (size_t)items * sizeof *expert);
    return r;
}

/* Measure `name` of member `balancer` in layer 0. */
static inline double measure_of(const sgm_balance_set *set, const char *balancer, const char *name) {
    sgm_balance_measure m;
    for (size_t i = 0; sgm_balance_set_measure(set, i, &m); i++)
        if (!strcmp(m.balancer, balancer) && !strcmp(m.name, name))
            return m.values[0];
    fail_msg("%s measures no %s", balancer, name);
    return 0;
}

#endif
