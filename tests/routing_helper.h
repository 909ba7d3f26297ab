// SPDX-License-Identifier: Apache-2.0
/* What the tests of routers and balancers share: plug-in settings by parameter name, and records made from logits. */
#ifndef SGM_TESTS_ROUTING_HELPER_H
#define SGM_TESTS_ROUTING_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/param.h"
#include "base/rng.h"
#include "moe/balance/balance.h"
#include "moe/router/router.h"

/* Heap settings: the defaults. */
static inline void *settings_new(const sgm_plugin *plugin) {
    void *settings = sgm_alloc(plugin->settings_bytes + 1);
    assert_non_null(settings);
    assert_int_equal(sgm_param_defaults(plugin->params, plugin->param_count, settings, NULL), SGM_OK);
    return settings;
}

static inline void *settings_field(const sgm_plugin *plugin, void *settings, const char *name) {
    for (size_t i = 0; i < plugin->param_count; i++)
        if (!strcmp(plugin->params[i].name, name))
            return (char *)settings + plugin->params[i].offset;
    fail_msg("%s has no parameter %s", plugin->name, name);
    return NULL;
}

static inline void set_int(const sgm_plugin *plugin, void *settings, const char *name, int value) {
    int *at = settings_field(plugin, settings, name);
    *at = value;
}

static inline void set_bool(const sgm_plugin *plugin, void *settings, const char *name, bool value) {
    bool *at = settings_field(plugin, settings, name);
    *at = value;
}

static inline void set_int64(const sgm_plugin *plugin, void *settings, const char *name, int64_t value) {
    int64_t *at = settings_field(plugin, settings, name);
    *at = value;
}

static inline void set_real(const sgm_plugin *plugin, void *settings, const char *name, double value) {
    double *at = settings_field(plugin, settings, name);
    *at = value;
}

static inline const sgm_kernels *reference_kernels(void) {
    const sgm_kernels *kernels = NULL;
    assert_int_equal(sgm_kernels_get("ref", &kernels, NULL), SGM_OK);
    return kernels;
}

static inline sgm_router router_new(const char *name) {
    const sgm_router_plugin *plugin = sgm_router_find(name, NULL);
    assert_non_null(plugin);
    return (sgm_router){plugin, settings_new(&plugin->plugin)};
}

/* A record with room for its backward pass. */
static inline sgm_routing record_new(int64_t items, int64_t experts, int64_t slots) {
    sgm_routing record;
    void *block = sgm_alloc(sgm_routing_bytes(items, experts, slots) + 1);
    assert_non_null(block);
    sgm_routing_place(&record, block, items, experts, slots);
    record.sequence_count = 1;
    record.d_weight = sgm_alloc((size_t)(items * slots) * sizeof(sgm_real) + 1);
    record.d_logits = sgm_alloc((size_t)(items * experts) * sizeof(sgm_real) + 1);
    assert_true(record.d_weight && record.d_logits);
    return record;
}

static inline void record_free(sgm_routing *record) {
    sgm_free(record->d_weight);
    sgm_free(record->d_logits);
    sgm_free(record->logits); /* the block starts with them */
}

static inline void random_logits(sgm_routing *record, uint64_t seed, double scale) {
    for (int64_t i = 0; i < record->items * record->experts; i++)
        record->logits[i] = (sgm_real)(scale * sgm_rng_normal_at(seed, 7, (uint64_t)i));
}

static inline void route(const sgm_router *router, sgm_routing *record) {
    record->sigmoid = router->plugin->sigmoid && router->plugin->sigmoid(router->settings);
    router->plugin->score(router->settings, reference_kernels(), record, 0, record->items);
    router->plugin->select(router->settings, record, 0, record->items);
}

/* Probabilities as they are given, instead of scores of logits. */
static inline void set_probabilities(sgm_routing *record, const double *p) {
    for (int64_t i = 0; i < record->items * record->experts; i++)
        record->probabilities[i] = (sgm_real)p[i];
}

/* Run a function on a team of its own. */
static inline void on_team(int threads, void (*work)(sgm_worker *worker, void *argument), void *argument) {
    sgm_team *team;
    assert_int_equal(sgm_team_new(threads, &team, NULL), SGM_OK);
    sgm_team_run(team, work, argument);
    sgm_team_free(team);
}

typedef struct choose_work {
    const sgm_router *router;
    sgm_routing *record;
    void *scratch;
} choose_work;

static inline void choose_work_run(sgm_worker *worker, void *argument) {
    choose_work *w = argument;
    sgm_router_choose(worker, reference_kernels(), w->router, w->record, true, w->scratch);
}

/* From probabilities to a finished record as in training, by two threads. */
static inline void choose_together(const sgm_router *router, sgm_routing *record) {
    sgm_router_room room =
        sgm_router_room_of(router, true, record->items, record->experts, record->experts_per_token, 2);
    assert_true(sgm_router_sees_batch(router) && room.slots == record->slots);
    void *scratch = sgm_alloc(room.scratch_bytes + 1);
    assert_non_null(scratch);
    on_team(2, choose_work_run, &(choose_work){router, record, scratch});
    assert_true(record->assignments <= room.rows);
    sgm_free(scratch);
}

#endif
