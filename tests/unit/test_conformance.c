// SPDX-License-Identifier: Apache-2.0
/* What every router, balancer and sparsity schedule must do, found through the registries: a new one is tested by its
 * line in list.h alone. */
#include <ctype.h>
#include <math.h>

#include "base/file.h"
#include "format/hf_config.h"
#include "moe/sparsity/sparsity.h"
#include "routing_helper.h"

enum { T = 150, E = 12, K = 2 };

/* A well-formed table: names, help, defaults that parse and land inside the settings. */
static void check_plugin(const sgm_plugin *p) {
    assert_true(p->name && p->summary && p->paper && *p->name && *p->summary);
    for (const char *c = p->name; *c; c++)
        assert_true(islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '_');
    for (size_t i = 0; i < p->param_count; i++) {
        const sgm_param *a = &p->params[i];
        assert_true(a->name && a->fallback && a->unit && a->help && *a->help);
        assert_true(a->offset < p->settings_bytes);
        assert_true(a->type != SGM_PARAM_ENUM || a->choices);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(a->name, p->params[j].name);
    }
    sgm_free(settings_new(p));
}

static void tables(void **state) {
    (void)state;
    size_t routers = 0, balancers = 0, sparsities = 0;
    for (; sgm_router_at(routers); routers++) {
        const sgm_router_plugin *p = sgm_router_at(routers);
        check_plugin(&p->plugin);
        assert_ptr_equal(sgm_router_find(p->plugin.name, NULL), p);
        assert_true(p->check && p->score && p->select && p->backward);
    }
    for (; sgm_balance_at(balancers); balancers++) {
        const sgm_balance_plugin *p = sgm_balance_at(balancers);
        check_plugin(&p->plugin);
        assert_ptr_equal(sgm_balance_find(p->plugin.name, NULL), p);
        assert_true(!p->sum_count == !p->accumulate);
        assert_true(!(p->gradient || p->price) || (p->value && p->coefficient));
        assert_true(!(p->gradient && p->price));
        assert_true(!p->measures == !p->measure);
        assert_true(p->value || p->after_step);
        assert_true(!p->selection_bias || p->state_count);
    }
    for (; sgm_sparsity_at(sparsities); sparsities++) {
        const sgm_sparsity_plugin *p = sgm_sparsity_at(sparsities);
        check_plugin(&p->plugin);
        assert_ptr_equal(sgm_sparsity_find(p->plugin.name, NULL), p);
    }
    assert_true(routers && balancers && sparsities);
}

/* ---- routers ---- */

/* Does this parameter have a choice number `value`? Sets it. Numbers that may be `auto` have one more: some number. */
static bool choose(const sgm_plugin *p, void *settings, size_t param, int value) {
    const sgm_param *a = &p->params[param];
    void *at = (char *)settings + a->offset;
    if (a->type == SGM_PARAM_BOOL && value < 2) {
        *(bool *)at = value;
        return true;
    }
    if (a->type == SGM_PARAM_INT && a->has_auto && value == 0) {
        *(int64_t *)at = 2;
        return true;
    }
    if (a->type == SGM_PARAM_REAL && a->has_auto && value == 0) {
        *(double *)at = 0.75;
        return true;
    }
    int choices = 1;
    for (const char *c = a->choices; a->type == SGM_PARAM_ENUM && *c; c++)
        choices += *c == '|';
    if (a->type != SGM_PARAM_ENUM || value >= choices)
        return false;
    *(int *)at = value;
    return true;
}

typedef struct routing_work {
    const sgm_router *router;
    sgm_routing *record;
    bool together;
    void *scratch;
} routing_work;

static void route_work(sgm_worker *worker, void *argument) {
    routing_work *w = argument;
    int64_t begin, end;
    sgm_split(worker, w->record->items, 1, &begin, &end);
    w->router->plugin->score(w->router->settings, reference_kernels(), w->record, begin, end);
    sgm_router_choose(worker, reference_kernels(), w->router, w->record, w->together, w->scratch);
    w->router->plugin->backward(w->router->settings, w->record, begin, end);
}

static int32_t tokens[T];

/* A record with room for this router. */
static sgm_routing record_for(const sgm_router *router, bool together, int64_t null_experts) {
    sgm_router_room room = sgm_router_room_of(router, together, T, E, K, 1);
    sgm_routing r = record_new(T, E, room.slots);
    assert_true(room.slots >= K && room.rows >= T && room.rows <= T * room.slots);
    r.experts_per_token = K;
    r.null_experts = null_experts;
    r.sigmoid = router->plugin->sigmoid && router->plugin->sigmoid(router->settings);
    for (int64_t t = 0; t < T; t++)
        tokens[t] = (int32_t)sgm_rng_below(&(sgm_rng){.seed = 5, .counter = (uint64_t)t * 2}, 40);
    r.token = tokens;
    random_logits(&r, 3, 2);
    for (int64_t i = 0; i < T * room.slots; i++)
        r.d_weight[i] = (sgm_real)sgm_rng_normal_at(4, 5, (uint64_t)i);
    return r;
}

static void run_router(const sgm_router *router, sgm_routing *record, bool together, int threads) {
    sgm_router_room room = sgm_router_room_of(router, together, T, E, K, threads);
    void *scratch = sgm_alloc(room.scratch_bytes + 1);
    memset(scratch, 0xA5, room.scratch_bytes); /* nobody may rely on what is in it */
    on_team(threads, route_work, &(routing_work){router, record, together, scratch});
    assert_true(record->assignments <= room.rows);
    sgm_free(scratch);
}

/* Experts in range, each once at most for an item; null ones flagged, and no row for what is flagged. */
static void check_record(const sgm_routing *r, bool finite) {
    int64_t computed = 0;
    for (int64_t i = 0; i < r->items * r->slots; i++) {
        assert_true(r->expert[i] >= -1 && r->expert[i] < E);
        assert_true(r->expert[i] < 0 || !finite || isfinite(r->weight[i]));
        assert_int_equal((r->flags[i] & SGM_ROUTE_NULL) != 0, r->expert[i] >= E - r->null_experts);
        assert_int_equal(r->position[i] >= 0, sgm_routing_is_computed(r, i));
        computed += sgm_routing_is_computed(r, i);
        for (int64_t j = i / r->slots * r->slots; j < i; j++)
            assert_true(r->expert[i] < 0 || r->expert[j] != r->expert[i]);
    }
    assert_int_equal(r->assignments, computed);
}

static void check_threads(const sgm_router *router, bool together, int64_t null_experts) {
    sgm_routing first = record_for(router, together, null_experts);
    size_t places = (size_t)(T * first.slots), scores = (size_t)(T * E);
    run_router(router, &first, together, 1);
    check_record(&first, true);
    for (int threads = 2; threads <= 4; threads++) {
        sgm_routing r = record_for(router, together, null_experts);
        run_router(router, &r, together, threads);
        assert_memory_equal(r.probabilities, first.probabilities, scores * sizeof(sgm_real));
        assert_memory_equal(r.expert, first.expert, places * sizeof *r.expert);
        assert_memory_equal(r.weight, first.weight, places * sizeof(sgm_real));
        assert_memory_equal(r.flags, first.flags, places);
        assert_memory_equal(r.position, first.position, places * sizeof *r.position);
        assert_memory_equal(r.d_logits, first.d_logits, scores * sizeof(sgm_real));
        record_free(&r);
    }
    record_free(&first);
}

/* One NaN logit: no crash, experts in range, and its item shows it in a weight of a row that is computed, and in its gradient. */
static void check_nan_item(const sgm_router *router, bool together, int64_t null_experts) {
    sgm_routing r = record_for(router, together, null_experts);
    r.logits[5 * E + 3] = (sgm_real)NAN;
    run_router(router, &r, together, 2);
    check_record(&r, false);
    bool weight = false, gradient = false;
    for (int64_t i = 0; i < T * r.slots; i++)
        if (i / r.slots == 5)
            weight |= isnan(r.weight[i]) && (r.position[i] >= 0 || router->plugin->fixed);
        else
            assert_true(isfinite(r.weight[i]));
    for (int64_t e = 0; e < E; e++)
        gradient |= isnan(r.d_logits[5 * E + e]);
    assert_true(weight && gradient);
    record_free(&r);
}

/* An item by itself is routed as it is in a batch: what decoding needs. */
static void check_alone(const sgm_router *router) {
    sgm_routing all = record_for(router, false, 2);
    run_router(router, &all, false, 2);
    for (int64_t t = 0; t < T; t += 7) {
        sgm_routing one = record_new(1, E, K);
        one.null_experts = 2;
        one.sigmoid = all.sigmoid;
        one.token = tokens + t;
        memcpy(one.logits, all.logits + t * E, E * sizeof(sgm_real));
        router->plugin->score(router->settings, reference_kernels(), &one, 0, 1);
        sgm_router_choose_alone(router, &one);
        assert_memory_equal(one.probabilities, all.probabilities + t * E, E * sizeof(sgm_real));
        assert_memory_equal(one.expert, all.expert + t * K, K * sizeof *one.expert);
        assert_memory_equal(one.weight, all.weight + t * K, K * sizeof(sgm_real));
        assert_memory_equal(one.flags, all.flags + t * K, K);
        record_free(&one);
    }
    record_free(&all);
}

/* Into a model's config.json and back. */
static void check_saved(const sgm_router *router) {
    int64_t k[2] = {1, K};
    sgm_hf_config config = {.settings = {.layers = 2,
                                         .width = 8,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_size = 4,
                                         .experts = E,
                                         .experts_per_token = K,
                                         .expert_width = 4,
                                         .null_experts = 3,
                                         .vocabulary = 16,
                                         .context = 8,
                                         .rope_theta = 1e4,
                                         .norm_epsilon = 1e-6,
                                         .init_std = 0.02,
                                         .gate_init_std = 0.02},
                            .router = *router,
                            .experts_per_token = k,
                            .end_of_text = -1};
    k[0] = router->plugin->check(router->settings, E, 1, NULL) ? K : 1;
    char *text, *again;
    sgm_hf_config read;
    sgm_error error = {0};
    assert_int_equal(sgm_hf_config_write(&config, &text, &error), SGM_OK);
    if (sgm_hf_config_parse(text, strlen(text), "router", &read, &error))
        fail_msg("%s: %s", router->plugin->plugin.name, error.message);
    assert_int_equal(read.settings.null_experts, 3);
    assert_ptr_equal(read.router.plugin, router->plugin);
    assert_int_equal(sgm_hf_config_write(&read, &again, &error), SGM_OK);
    assert_string_equal(text, again);
    sgm_hf_config_fini(&read);
    sgm_free(text);
    sgm_free(again);
}

static void check_router(const sgm_router *router) {
    for (int together = 0; together <= sgm_router_sees_batch(router); together++)
        for (int64_t null_experts = 0; null_experts <= 3; null_experts += 3) {
            check_threads(router, together, null_experts);
            check_nan_item(router, together, null_experts);
        }
    check_alone(router);
    check_saved(router);
}

/* Each router with its defaults, with each choice of each parameter, and with each two of them. */
static void routers(void **state) {
    (void)state;
    for (size_t i = 0; sgm_router_at(i); i++) {
        const sgm_router_plugin *p = sgm_router_at(i);
        const sgm_plugin *plugin = &p->plugin;
        sgm_router router = {p, settings_new(plugin)};
        assert_int_equal(p->check(router.settings, E, K, NULL), SGM_OK);
        assert_int_not_equal(p->check(router.settings, E, E + 1, NULL), SGM_OK);
        assert_int_not_equal(p->check(router.settings, E, 0, NULL), SGM_OK);
        assert_true(!p->together || p->assign);
        assert_true(!p->room || p->assign);
        check_router(&router);
        for (size_t a = 0; a < plugin->param_count; a++)
            for (int x = 0; choose(plugin, router.settings, a, x); x++)
                for (size_t b = 0; b < plugin->param_count; b++)
                    for (int y = 0; choose(plugin, router.settings, b, y); y++) {
                        sgm_free(router.settings);
                        router.settings = settings_new(plugin);
                        choose(plugin, router.settings, a, x);
                        if (a != b)
                            choose(plugin, router.settings, b, y);
                        if (!p->check(router.settings, E, K, NULL))
                            check_router(&router);
                    }
        sgm_free(router.settings);
    }
}

/* The guide shows the file of a router that is there. */
static void the_guide_holds_the_example(void **state) {
    (void)state;
    char *guide, *example;
    size_t bytes;
    assert_int_equal(sgm_file_read(SGM_SOURCE_DIR "/docs/howto-router.md", 1 << 20, &guide, &bytes, NULL), SGM_OK);
    assert_int_equal(sgm_file_read(SGM_SOURCE_DIR "/src/moe/router/top_p.c", 1 << 20, &example, &bytes, NULL), SGM_OK);
    assert_non_null(strstr(guide, example));
    assert_non_null(sgm_router_find("top_p", NULL));
    sgm_free(guide);
    sgm_free(example);
}

/* ---- balancers ---- */

typedef struct step_of {
    sgm_balance_set *set;
    sgm_routing *record;
} step_of;

static void count_work(sgm_worker *worker, void *argument) {
    step_of *s = argument;
    sgm_balance_set_after_route(worker, s->set, s->record);
}

static void step_work(sgm_worker *worker, void *argument) {
    step_of *s = argument;
    sgm_balance_set_before_select(worker, s->set, s->record);
    sgm_balance_set_after_route(worker, s->set, s->record);
    sgm_balance_set_gradient(worker, s->set, s->record);
}

static const int64_t starts[] = {0, 40, 41, 150};

static sgm_routing routed(uint64_t seed) {
    sgm_router router = router_new("top_k");
    sgm_routing r = record_new(T, E, K);
    random_logits(&r, seed, 1);
    route(&router, &r);
    r.sequence_start = starts;
    r.sequence_count = 3;
    sgm_free(router.settings);
    return r;
}

static void one_step(sgm_balance_set *set, sgm_routing *record, int threads) {
    const int64_t slots = K;
    memset(record->d_logits, 0, (size_t)(T * E) * sizeof(sgm_real));
    sgm_balance_set_begin_step(set, T, &slots);
    on_team(threads, step_work, &(step_of){set, record});
    sgm_balance_set_end_step(set);
}

/* Settings with the choices of two parameters (scope, mode) set; NULL when there is no such choice. */
static void *variant(const sgm_balance_plugin *p, int scope, int mode) {
    void *settings = settings_new(&p->plugin);
    bool fine = true;
    for (size_t i = 0; i < p->plugin.param_count; i++)
        if (!strcmp(p->plugin.params[i].name, "scope"))
            fine = choose(&p->plugin, settings, i, scope);
        else if (!strcmp(p->plugin.params[i].name, "mode"))
            fine = fine && choose(&p->plugin, settings, i, mode);
    if (fine)
        return settings;
    sgm_free(settings);
    return NULL;
}

static bool has_choice(const sgm_balance_plugin *p, const char *name) {
    for (size_t i = 0; i < p->plugin.param_count; i++)
        if (!strcmp(p->plugin.params[i].name, name))
            return true;
    return false;
}

enum { SCOPES = 4, MODES = 3 };

/* NULL where the balancer has no such choice. */
static sgm_balance_set *one_member(const sgm_balance_plugin *p, int scope, int mode) {
    sgm_balance_set *set = NULL;
    sgm_balance_member member = {p, variant(p, scope, mode)};
    if (!member.settings)
        return NULL;
    assert_int_equal(sgm_balance_set_new(&member, 1, 1, E, 3, 3, &set, NULL), SGM_OK);
    assert_int_equal(sgm_balance_set_reserve(set, T, 60, NULL), SGM_OK);
    return set;
}

static void check_balancer(const sgm_balance_plugin *p, int scope, int mode) {
    sgm_routing r = routed(1), other = routed(2);
    sgm_real gradient[T * E];
    double values[3 * E + 8], again[3 * E + 8], later[3 * E + 8], value = 0;
    for (int threads = 1; threads <= 3; threads++) {
        sgm_balance_set *set = one_member(p, scope, mode);
        int64_t count = sgm_balance_set_state_count(set);
        assert_true(count >= 0 && count <= 3 * E + 8);
        one_step(set, &r, threads);
        one_step(set, &other, threads);
        sgm_balance_set_state_get(set, threads == 1 ? values : again);
        double own = sgm_balance_set_value(set, 0, 0);
        if (threads == 1) {
            memcpy(gradient, other.d_logits, sizeof gradient);
            value = own;
        }
        assert_memory_equal(other.d_logits, gradient, sizeof gradient);
        assert_memory_equal(&own, &value, sizeof own);
        if (threads > 1)
            assert_memory_equal(again, values, (size_t)count * sizeof *values);
        assert_true(isfinite(own) == (p->value != NULL));
        /* Saved and loaded into a fresh set: the same state, and the same next step. */
        sgm_balance_set *copy = one_member(p, scope, mode);
        assert_int_equal(sgm_balance_set_state_put(copy, values, count, NULL), SGM_OK);
        sgm_real next[T * E];
        one_step(set, &r, threads);
        memcpy(next, r.d_logits, sizeof next);
        one_step(copy, &r, threads);
        assert_memory_equal(r.d_logits, next, sizeof next);
        sgm_balance_set_state_get(set, later);
        sgm_balance_set_state_get(copy, again);
        assert_memory_equal(again, later, (size_t)count * sizeof *later);
        sgm_balance_set_free(copy);
        sgm_balance_set_free(set);
    }
    record_free(&r);
    record_free(&other);
}

/* Cut between sequences, at 41 of 150 tokens: the same bytes where the promise is made, that is everywhere but in the scope
 * of a micro-batch and in mode buffer. */
static void check_split(const sgm_balance_plugin *p, int scope, int mode) {
    const int64_t slots = K, first = 41, late[] = {0, 109};
    sgm_routing whole = routed(1), part[2] = {record_new(first, E, K), record_new(T - first, E, K)};
    for (int i = 0; i < 2; i++) {
        int64_t from = i ? first : 0, items = part[i].items;
        memcpy(part[i].logits, whole.logits + from * E, (size_t)(items * E) * sizeof(sgm_real));
        memcpy(part[i].probabilities, whole.probabilities + from * E, (size_t)(items * E) * sizeof(sgm_real));
        memcpy(part[i].expert, whole.expert + from * K, (size_t)(items * K) * sizeof *whole.expert);
        part[i].sequence_start = i ? late : starts;
        part[i].sequence_count = i ? 1 : 2;
    }
    sgm_balance_set *one = one_member(p, scope, mode), *two = one_member(p, scope, mode);
    for (int step = 0; step < 3; step++) {
        sgm_balance_set_seek(one, step, 3, 1);
        sgm_balance_set_seek(two, step, 3, 1);
        one_step(one, &whole, 2);
        sgm_balance_set_begin_step(two, T, &slots);
        for (int pass = SGM_PASS_COUNT; pass <= SGM_PASS_TRAIN; pass++) {
            if (pass == SGM_PASS_COUNT && !sgm_balance_set_needs_count_pass(two, 2))
                continue;
            sgm_balance_set_begin_pass(two, (sgm_balance_pass)pass);
            for (int i = 0; i < 2; i++) {
                memset(part[i].d_logits, 0, (size_t)(part[i].items * E) * sizeof(sgm_real));
                on_team(2, pass == SGM_PASS_COUNT ? count_work : step_work, &(step_of){two, &part[i]});
            }
        }
        sgm_balance_set_end_step(two);
    }
    size_t bytes = (size_t)(first * E) * sizeof(sgm_real);
    void *settings = variant(p, scope, mode);
    sgm_balance_scope real = p->scope ? p->scope(settings) : SGM_SCOPE_GLOBAL;
    sgm_free(settings);
    bool buffered = real == SGM_SCOPE_GLOBAL && mode == SGM_MODE_BUFFER && has_choice(p, "mode");
    if (real != SGM_SCOPE_MICRO && !buffered) {
        assert_memory_equal(part[0].d_logits, whole.d_logits, bytes);
        assert_memory_equal(part[1].d_logits, whole.d_logits + first * E, (size_t)(T * E) * sizeof(sgm_real) - bytes);
        double a = sgm_balance_set_value(one, 0, 0), b = sgm_balance_set_value(two, 0, 0);
        assert_true(p->value == NULL || a == b);
    }
    int64_t count = sgm_balance_set_state_count(one);
    double *a = sgm_alloc((size_t)(2 * count + 1) * sizeof *a), *b = a + count;
    sgm_balance_set_state_get(one, a);
    sgm_balance_set_state_get(two, b);
    assert_memory_equal(a, b, (size_t)count * sizeof *a);
    sgm_free(a);
    sgm_balance_set_free(one);
    sgm_balance_set_free(two);
    record_free(&whole);
    record_free(&part[0]);
    record_free(&part[1]);
}

/* Modes differ in what they know, not in what they do with it: with one micro-batch `buffer` knows the batch, and with the same
 * batch again `lagged` does (but where a running mean goes on meanwhile). */
static void check_modes(const sgm_balance_plugin *p) {
    sgm_routing r = routed(1);
    sgm_real exact[T * E];
    bool zero = true;
    for (int mode = 0; has_choice(p, "mode") && mode < MODES; mode++) {
        sgm_balance_set *set = one_member(p, SGM_SCOPE_GLOBAL, mode);
        one_step(set, &r, 1);
        one_step(set, &r, 2);
        if (mode == SGM_MODE_EXACT)
            memcpy(exact, r.d_logits, sizeof exact);
        for (int64_t i = 0; i < T * E; i++)
            zero &= r.d_logits[i] == 0;
        if (mode != SGM_MODE_LAGGED || has_choice(p, "scope"))
            assert_memory_equal(r.d_logits, exact, sizeof exact);
        sgm_balance_set_free(set);
    }
    assert_true(!has_choice(p, "mode") || !zero);
    record_free(&r);
}

static void check_nan(const sgm_balance_plugin *p) {
    sgm_router router = router_new("top_k");
    sgm_routing r = routed(1);
    r.logits[17] = (sgm_real)NAN;
    route(&router, &r);
    sgm_balance_set *set = one_member(p, SGM_SCOPE_GLOBAL, SGM_MODE_EXACT);
    one_step(set, &r, 2);
    assert_false(p->value && !isnan(sgm_balance_set_value(set, 0, 0)));
    sgm_balance_set_free(set);
    record_free(&r);
    sgm_free(router.settings);
}

static void balancers(void **state) {
    (void)state;
    for (size_t i = 0; sgm_balance_at(i); i++) {
        const sgm_balance_plugin *p = sgm_balance_at(i);
        int tried = 0;
        for (int scope = 0; scope < SCOPES; scope++)
            for (int mode = 0; mode < MODES; mode++) {
                sgm_balance_set *set = one_member(p, scope, mode);
                if (!set)
                    continue;
                sgm_balance_set_free(set);
                check_balancer(p, scope, mode);
                check_split(p, scope, mode);
                tried++;
            }
        assert_true(tried > 0);
        check_modes(p);
        check_nan(p);
    }
}

/* DeepSeek's method is a list (arXiv 2412.19437): sigmoid scores, a bias that chooses, and a small loss of each sequence's
 * own load. Both work as they do alone, whatever their order and the threads, and are saved together. */
static void a_list_of_balancers(void **state) {
    (void)state;
    sgm_real expected[T * E];
    double bias[E], loss = 0;
    for (int turn = 0; turn < 6; turn++) {
        bool swapped = turn % 2;
        const sgm_balance_plugin *lists[] = {sgm_balance_find("loss_free_bias", NULL),
                                             sgm_balance_find("load_balance_loss", NULL)};
        sgm_balance_member members[2];
        for (int i = 0; i < 2; i++) {
            const sgm_balance_plugin *p = lists[swapped ? 1 - i : i];
            members[i] = (sgm_balance_member){p, variant(p, SGM_SCOPE_SEQUENCE, SGM_MODE_EXACT)};
            if (p->coefficient)
                set_real(&p->plugin, members[i].settings, "coefficient", 1e-4);
        }
        sgm_balance_set *set = NULL;
        assert_int_equal(sgm_balance_set_new(members, 2, 1, E, 3, 3, &set, NULL), SGM_OK);
        assert_false(sgm_balance_set_needs_count_pass(set, 4)); /* a sequence is never cut */
        sgm_router router = router_new("top_k");
        set_int(&router.plugin->plugin, router.settings, "score", 1);
        set_bool(&router.plugin->plugin, router.settings, "normalise", true);
        sgm_routing r = record_new(T, E, K);
        r.sequence_start = starts;
        r.sequence_count = 3;
        for (int step = 0; step < 3; step++) {
            random_logits(&r, 50 + (uint64_t)step, 1);
            r.selection_bias = sgm_balance_set_bias(set);
            route(&router, &r);
            one_step(set, &r, 1 + turn / 2);
            /* Weights are the chosen scores without the bias, over their sum. */
            for (int64_t t = 0; t < T; t++) {
                double sum = 0;
                for (int64_t k = 0; k < K; k++)
                    sum += (double)r.probabilities[t * E + r.expert[t * K + k]];
                for (int64_t k = 0; k < K; k++)
                    assert_true(fabs((double)r.weight[t * K + k] -
                                     (double)r.probabilities[t * E + r.expert[t * K + k]] / sum) < 1e-6);
            }
        }
        double value = sgm_balance_set_value(set, swapped ? 0 : 1, 0), total = sgm_balance_set_total(set), own[E];
        for (int e = 0; e < E; e++)
            own[e] = (double)sgm_balance_set_bias(set)[e];
        if (turn == 0) {
            memcpy(expected, r.d_logits, sizeof expected);
            memcpy(bias, own, sizeof bias);
            loss = value;
        }
        assert_memory_equal(r.d_logits, expected, sizeof expected);
        assert_memory_equal(own, bias, sizeof bias);
        assert_true(value == loss && total == 1e-4 * loss);
        double moved = 0;
        for (int e = 0; e < E; e++)
            moved += own[e] != 0;
        assert_true(moved > E / 2);
        sgm_balance_set_free(set);
        record_free(&r);
        sgm_free(router.settings);
    }
}

/* ---- sparsity schedules ---- */

static void sparsities(void **state) {
    (void)state;
    for (size_t i = 0; sgm_sparsity_at(i); i++) {
        const sgm_sparsity_plugin *p = sgm_sparsity_at(i);
        void *settings = settings_new(&p->plugin);
        for (int64_t layers = 1; layers <= 100; layers += 3) {
            assert_int_equal(p->check(settings, layers, 96, 1, NULL), SGM_OK);
            for (int64_t layer = 0; layer < layers; layer++) {
                int rises = 0, falls = 0;
                for (int64_t at = 0, before = 0; at < 20; at++) {
                    int64_t k = p->experts_per_token(settings, layer, layers, 96, 1, at, 20);
                    assert_true(k >= 1 && k <= 96);
                    rises += at && k > before;
                    falls += at && k < before;
                    before = k;
                    if (at == 19) /* whatever the way, the end is the target */
                        assert_int_equal(k, 1);
                }
                assert_true(!rises || !falls);
            }
        }
        assert_int_not_equal(p->check(settings, 4, 4, 5, NULL), SGM_OK);
        sgm_free(settings);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(routers),
        cmocka_unit_test(the_guide_holds_the_example),
        cmocka_unit_test(balancers),
        cmocka_unit_test(a_list_of_balancers),
        cmocka_unit_test(sparsities),
    };
    return cmocka_run_group_tests_name("plug-in conformance", tests, NULL, NULL);
}
