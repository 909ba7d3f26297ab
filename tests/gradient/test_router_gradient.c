// SPDX-License-Identifier: Apache-2.0
/* Every router in f64: the gradient of its weights against central differences, for every choice of its parameters, with and
 * without null experts, row by row and for the whole batch. Steps are so small that the choice stays what it was, which the
 * test makes sure of. */
#include <math.h>

#include "routing_helper.h"

enum { T = 9, E = 8, K = 2 };

static const int32_t tokens[T] = {3, 1, 4, 1, 5, 9, 2, 6, 5};

typedef struct work {
    const sgm_router *router;
    sgm_routing *record;
    bool together;
    void *scratch;
} work;

static void route_work(sgm_worker *worker, void *argument) {
    work *w = argument;
    int64_t begin, end;
    sgm_split(worker, T, 1, &begin, &end);
    w->router->plugin->score(w->router->settings, sgm_kernels_at(0), w->record, begin, end);
    sgm_router_choose(worker, sgm_kernels_at(0), w->router, w->record, w->together, w->scratch);
}

/* Σ u · weight over the places that are computed, for fixed u. */
static double loss(work *w) {
    double sum = 0;
    on_team(2, route_work, w);
    for (int64_t i = 0; i < T * w->record->slots; i++)
        if (sgm_routing_is_computed(w->record, i))
            sum += w->record->weight[i] * w->record->d_weight[i];
    return sum;
}

/* As the op does it: what is not computed has no gradient. */
static void probe(sgm_routing *record) {
    for (int64_t i = 0; i < T * record->slots; i++)
        record->d_weight[i] = sgm_routing_is_computed(record, i) ? sgm_rng_normal_at(2, 3, (uint64_t)i) : 0;
}

static int check(const sgm_router *router, bool together, int64_t null_experts) {
    sgm_router_room room = sgm_router_room_of(router, together, T, E, K, 2);
    sgm_routing r = record_new(T, E, room.slots);
    work w = {router, &r, together, sgm_alloc(room.scratch_bytes + 1)};
    r.experts_per_token = K;
    r.null_experts = null_experts;
    r.sigmoid = router->plugin->sigmoid && router->plugin->sigmoid(router->settings);
    r.token = tokens;
    random_logits(&r, 11, 1.5);
    on_team(2, route_work, &w);
    probe(&r);
    router->plugin->backward(router->settings, &r, 0, T);
    size_t bytes = (size_t)(T * room.slots) * sizeof(int32_t);
    int32_t *chosen = sgm_alloc(bytes);
    memcpy(chosen, r.expert, bytes);
    int nonzero = 0;
    for (int64_t i = 0; i < T * E; i++) {
        const double step = 1e-6, z = r.logits[i];
        r.logits[i] = z + step;
        double up = loss(&w);
        assert_memory_equal(r.expert, chosen, bytes);
        r.logits[i] = z - step;
        double down = loss(&w);
        assert_memory_equal(r.expert, chosen, bytes);
        r.logits[i] = z;
        double numeric = (up - down) / (2 * step);
        if (!(fabs(numeric - r.d_logits[i]) <= 1e-8))
            fail_msg("%s: gradient %.12g, central differences %.12g", router->plugin->plugin.name, r.d_logits[i],
                     numeric);
        nonzero += fabs(numeric) > 1e-4;
    }
    sgm_free(chosen);
    sgm_free(w.scratch);
    record_free(&r);
    return nonzero;
}

static void check_all(const sgm_router *router) {
    for (int together = 0; together <= sgm_router_sees_batch(router); together++)
        for (int64_t null_experts = 0; null_experts <= 3; null_experts += 3) {
            int nonzero = check(router, together, null_experts);
            /* Normalised, an item with one true expert has a weight of 1, whatever its logits. */
            assert_true(router->plugin->fixed ? nonzero == 0 : nonzero > (null_experts ? 0 : T));
        }
}

static void set(const sgm_router *router, const char *name, double value) {
    for (size_t i = 0; i < router->plugin->plugin.param_count; i++) {
        const sgm_param *a = &router->plugin->plugin.params[i];
        void *at = (char *)router->settings + a->offset;
        if (strcmp(a->name, name) != 0)
            continue;
        if (a->type == SGM_PARAM_BOOL)
            *(bool *)at = value != 0;
        else if (a->type == SGM_PARAM_ENUM)
            *(int *)at = (int)value;
        else if (a->type == SGM_PARAM_INT)
            *(int64_t *)at = (int64_t)value;
        else
            *(double *)at = value;
        return;
    }
    fail_msg("%s has no parameter %s", router->plugin->plugin.name, name);
}

static void defaults(void **state) {
    (void)state;
    for (size_t i = 0; sgm_router_at(i); i++) {
        sgm_router router = router_new(sgm_router_at(i)->plugin.name);
        check_all(&router);
        sgm_free(router.settings);
    }
}

static int64_t choices_of(const sgm_param *param) {
    int64_t count = param->type == SGM_PARAM_BOOL ? 2 : 0;
    for (const char *at = param->type == SGM_PARAM_ENUM ? param->choices : NULL; at; at = strchr(at, '|')) {
        at += *at == '|';
        count++;
    }
    return count;
}

/* Every flag and every named choice of every router, one at a time, where it goes with the others' defaults. */
static void every_choice(void **state) {
    (void)state;
    int64_t walked = 0;
    for (size_t i = 0; sgm_router_at(i); i++) {
        const sgm_plugin *plugin = &sgm_router_at(i)->plugin;
        for (size_t p = 0; p < plugin->param_count; p++)
            for (int64_t choice = 0; choice < choices_of(&plugin->params[p]); choice++) {
                sgm_router router = router_new(plugin->name);
                set(&router, plugin->params[p].name, (double)choice);
                if (router.plugin->check(router.settings, E, K, NULL) == SGM_OK) {
                    check_all(&router);
                    walked++;
                }
                sgm_free(router.settings);
            }
    }
    assert_true(walked >= 6);
}

static int64_t chosen(work *w, int32_t expert) {
    int64_t count = 0;
    on_team(2, route_work, w);
    for (int64_t i = 0; i < T * w->record->slots; i++)
        count += w->record->expert[i] == expert;
    return count;
}

/* A balancer's bias on an expert brings it more tokens, in inference and in training; a router that takes none says so, or a run
 * with such a balancer would be one without. */
static void a_bias_decides(void **state) {
    (void)state;
    const int32_t favourite = 5;
    sgm_real bias[E] = {0};
    bias[favourite] = 100;
    for (size_t i = 0; sgm_router_at(i); i++) {
        sgm_router router = router_new(sgm_router_at(i)->plugin.name);
        for (int together = 0; together <= sgm_router_sees_batch(&router); together++) {
            sgm_router_room room = sgm_router_room_of(&router, together, T, E, K, 2);
            sgm_routing r = record_new(T, E, room.slots);
            work w = {&router, &r, together, sgm_alloc(room.scratch_bytes + 1)};
            r.experts_per_token = K;
            r.sigmoid = router.plugin->sigmoid && router.plugin->sigmoid(router.settings);
            r.token = tokens;
            random_logits(&r, 11, 1.5);
            int64_t without = chosen(&w, favourite);
            r.selection_bias = bias;
            int64_t with = chosen(&w, favourite);
            bool deaf = router.plugin->fixed || (together && router.plugin->deaf_to_bias);
            if (deaf ? with != without : with <= without)
                fail_msg("%s%s: expert %d has %d tokens without a bias and %d with one of 100",
                         router.plugin->plugin.name, together ? ", together" : "", favourite, (int)without, (int)with);
            sgm_free(w.scratch);
            record_free(&r);
        }
        sgm_free(router.settings);
    }
}

/* Settings that change the formula in numbers, or together. */
static void variants(void **state) {
    (void)state;
    static const struct {
        const char *router, *a, *b;
        double x, y;
    } table[] = {
        {"top_k", "score", "normalise", 1, 0},
        {"top_k", "score", "normalise", 0, 1},
        {"top_k", "score", "normalise", 1, 1},
        {"top_k", "capacity_factor", "drop_order", 0.8, 0},
        {"top_k", "capacity_factor", "drop_order", 0.8, 1},
        {"top_k", "capacity_factor", "normalise", 0.8, 1},
        {"grouped", "groups", "normalise", 1, 1},
        {"grouped", "groups", "normalise", 2, 1},
        {"deepseek_v3", "groups", "groups_chosen", 4, 2},
        {"deepseek_v3", "scale", "normalise", 2.5, 1},
        {"deepseek_v3", "scale", "normalise", 2.5, 0},
        {"expert_choice", "most_per_token", "most_per_token", 2, 2},
        {"sinkhorn", "score", "iterations", 1, 5},
        {"top_p", "share", "share", 0.7, 0.7},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        sgm_router router = router_new(table[i].router);
        set(&router, table[i].a, table[i].x);
        set(&router, table[i].b, table[i].y);
        assert_int_equal(router.plugin->check(router.settings, E, K, NULL), SGM_OK);
        check_all(&router);
        sgm_free(router.settings);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(every_choice),
                                       cmocka_unit_test(variants), cmocka_unit_test(a_bias_decides)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
