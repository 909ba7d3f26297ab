// SPDX-License-Identifier: Apache-2.0
/* In f64: the gradients of balancers and of the whole MoE op against central differences, with the choice of experts
 * (the hard counts) frozen. */
#include <math.h>

#include "moe_runner.h"

enum { SOFTMAX, SIGMOID };

static void close_to(double value, double expected, const char *what) {
    if (!(fabs(value - expected) <= 1e-8 + 1e-5 * fabs(expected)))
        fail_msg("%s: gradient %.12g, difference %.12g", what, value, expected);
}

/* Two micro-batches of one layer, three sequences. */
enum { E = 7, K = 2, MICRO = 2, T1 = 9, T2 = 5 };
static const int64_t starts1[] = {0, 4, 9}, starts2[] = {0, 5};

typedef struct step {
    sgm_balance_set *set;
    sgm_routing record[MICRO];
    bool gradients;
} step;

static void step_work(sgm_worker *worker, void *argument) {
    step *s = argument;
    for (int pass = SGM_PASS_COUNT; pass <= SGM_PASS_TRAIN; pass++) {
        if (pass == SGM_PASS_COUNT && !sgm_balance_set_needs_count_pass(s->set, MICRO))
            continue;
        sgm_balance_set_begin_pass(s->set, (sgm_balance_pass)pass);
        for (int i = 0; i < MICRO; i++) {
            sgm_balance_set_after_route(worker, s->set, &s->record[i]);
            if (pass == SGM_PASS_TRAIN && s->gradients)
                sgm_balance_set_gradient(worker, s->set, &s->record[i]);
        }
    }
}

static double step_total(step *s) {
    const int64_t slots = K;
    sgm_balance_set_begin_step(s->set, T1 + T2, &slots);
    on_team(1, step_work, s);
    sgm_balance_set_end_step(s->set);
    return sgm_balance_set_total(s->set);
}

/* Σ over experts below the threshold of −w · s · P_i, for the straight-through hinge: backwards P stands for f, with s as it
 * was before anything moved. Value of the whole batch, unweighted. */
static double straight_through(const step *s, double threshold, double weight, double urgency) {
    double count[E] = {0}, p[E] = {0}, sum = 0;
    for (int i = 0; i < MICRO; i++) {
        const sgm_routing *r = &s->record[i];
        for (int64_t t = 0; t < r->items; t++) {
            double scale = 0;
            for (int e = 0; e < E; e++)
                scale += r->sigmoid ? r->probabilities[t * E + e] : 0;
            for (int e = 0; e < E; e++)
                p[e] += r->probabilities[t * E + e] / (r->sigmoid ? scale : 1) / (T1 + T2);
        }
        for (int64_t at = 0; at < r->items * K; at++)
            count[r->expert[at]] += 1.0 / (K * (T1 + T2));
    }
    for (int e = 0; e < E; e++)
        sum -= count[e] < threshold / E ? weight * urgency * p[e] : 0;
    return sum;
}

enum { PLAIN, HINGE_SURROGATE, HINGE_STRAIGHT, NULLS, QUADRATIC };

/* What `kind` sets, and a state that makes it matter. The hinge's threshold is the even load: half of the experts are
 * under it. */
static void choose_kind(const sgm_balance_member *member, int kind) {
    const sgm_plugin *p = &member->plugin->plugin;
    if (!strcmp(p->name, "top1_loss"))
        set_real(p, member->settings, "temperature", 0.6);
    if (!strcmp(p->name, "shinka_loss")) {
        set_real(p, member->settings, "threshold", 1);
        set_real(p, member->settings, "weight", 2);
        set_int(p, member->settings, "hinge", kind);
    }
    if (kind == NULLS)
        set_bool(p, member->settings, "null_average", true);
    if (kind == QUADRATIC)
        set_int(p, member->settings, "potential", 1);
}

static double urgency_of(const sgm_balance_set *set) {
    sgm_balance_measure m;
    for (size_t i = 0; sgm_balance_set_measure(set, i, &m); i++)
        if (!strcmp(m.name, "urgency"))
            return m.values[0];
    return 0;
}

static void check_kind(const char *name, int scope, int score, int kind) {
    const sgm_balance_plugin *plugin = sgm_balance_find(name, NULL);
    assert_non_null(plugin);
    sgm_balance_member member = {plugin, settings_new(&plugin->plugin)};
    set_real(&plugin->plugin, member.settings, "coefficient", 0.7);
    bool phi = !strcmp(name, "phi_balancing"), straight = kind == HINGE_STRAIGHT;
    if (plugin->plugin.param_count > 1 && !phi)
        set_int(&plugin->plugin, member.settings, "scope", scope);
    choose_kind(&member, kind);
    sgm_router router = router_new("top_k");
    set_int(&router.plugin->plugin, router.settings, "score", score);
    step s = {.gradients = true};
    assert_int_equal(sgm_balance_set_new(&member, 1, 1, E, 2, 1, &s.set, NULL), SGM_OK);
    assert_int_equal(sgm_balance_set_reserve(s.set, T1 + T2, T1, NULL), SGM_OK);
    for (int i = 0; i < MICRO; i++) {
        s.record[i] = record_new(i ? T2 : T1, E, K);
        s.record[i].sequence_start = i ? starts2 : starts1;
        s.record[i].sequence_count = i ? 1 : 2;
        s.record[i].null_experts = kind == NULLS ? 3 : 0;
        random_logits(&s.record[i], 40 + (uint64_t)i, 1.5);
        route(&router, &s.record[i]);
    }
    if (phi) { /* its prices are constants: a running mean that this batch does not move any more */
        set_real(&plugin->plugin, member.settings, "rate", 0.5);
        step_total(&s);
        memset(s.record[0].d_logits, 0, T1 * E * sizeof(sgm_real));
        memset(s.record[1].d_logits, 0, T2 * E * sizeof(sgm_real));
        set_real(&plugin->plugin, member.settings, "rate", 0);
    }
    step_total(&s);
    double urgency = urgency_of(s.set);
    s.gradients = false;
    for (int i = 0; i < MICRO; i++)
        for (int64_t j = 0; j < s.record[i].items * E; j++) {
            sgm_real *z = &s.record[i].logits[j], old = *z, side[2];
            for (int k = 0; k < 2; k++) {
                *z = old + (k ? -1e-5 : 1e-5);
                /* probabilities follow, the choice does not */
                router.plugin->score(router.settings, reference_kernels(), &s.record[i], 0, s.record[i].items);
                side[k] = step_total(&s);
                if (straight)
                    side[k] += 0.7 * straight_through(&s, 1, 2, urgency);
            }
            *z = old;
            router.plugin->score(router.settings, reference_kernels(), &s.record[i], 0, s.record[i].items);
            close_to(s.record[i].d_logits[j], (side[0] - side[1]) / 2e-5, name);
        }
    for (int i = 0; i < MICRO; i++)
        record_free(&s.record[i]);
    sgm_balance_set_free(s.set);
    sgm_free(router.settings);
}

static void check_loss(const char *name, int scope, int score) {
    check_kind(name, scope, score, PLAIN);
}

static void losses(void **state) {
    (void)state;
    for (int score = SOFTMAX; score <= SIGMOID; score++) {
        for (int scope = SGM_SCOPE_SEQUENCE; scope <= SGM_SCOPE_SHUFFLE; scope++) {
            check_loss("load_balance_loss", scope, score);
            check_kind("load_balance_loss", scope, score, NULLS);
            check_loss("shinka_loss", scope, score);
            check_kind("shinka_loss", scope, score, HINGE_SURROGATE);
            if (scope == SGM_SCOPE_SHUFFLE) /* the others have no hard counts to shuffle */
                continue;
            check_loss("top1_loss", scope, score);
            check_loss("mutual_information", scope, score);
            check_loss("load_concentration", scope, score);
        }
        check_kind("shinka_loss", SGM_SCOPE_GLOBAL, score, HINGE_STRAIGHT);
        check_loss("phi_balancing", 0, score);
        check_kind("phi_balancing", 0, score, QUADRATIC);
        check_loss("z_loss", 0, score);
    }
}

/* d_logits of T1 + T2 tokens in one batch, or in two. */
static void split_gradients(const char *name, int64_t first, sgm_real *d_logits) {
    const sgm_balance_plugin *plugin = sgm_balance_find(name, NULL);
    sgm_balance_member member = {plugin, settings_new(&plugin->plugin)};
    set_real(&plugin->plugin, member.settings, "coefficient", 0.3);
    sgm_router router = router_new("top_k");
    sgm_balance_set *set = NULL;
    assert_int_equal(sgm_balance_set_new(&member, 1, 1, E, 2, 1, &set, NULL), SGM_OK);
    sgm_routing whole = record_new(T1 + T2, E, K);
    random_logits(&whole, 3, 1.5);
    step s = {.set = set, .gradients = true};
    for (int i = 0; i < MICRO; i++) {
        int64_t items = i ? T1 + T2 - first : first;
        s.record[i] = record_new(items, E, K);
        memcpy(s.record[i].logits, whole.logits + (i ? first * E : 0), (size_t)(items * E) * sizeof(sgm_real));
        route(&router, &s.record[i]);
    }
    step_total(&s);
    for (int i = 0; i < MICRO; i++)
        memcpy(d_logits + (i ? first * E : 0), s.record[i].d_logits,
               (size_t)(s.record[i].items * E) * sizeof(sgm_real));
    record_free(&whole);
    record_free(&s.record[0]);
    record_free(&s.record[1]);
    sgm_balance_set_free(set);
    sgm_free(router.settings);
}

/* The last bit of a gradient does not know where the batch was cut. In f32 rounding would hide a slip for a long time. */
static void any_split(void **state) {
    (void)state;
    static const char *const names[] = {"load_balance_loss",  "top1_loss",          "z_loss",       "shinka_loss",
                                        "mutual_information", "load_concentration", "phi_balancing"};
    sgm_real expected[(T1 + T2) * E], other[(T1 + T2) * E];
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int64_t first = 1; first < T1 + T2; first++) {
            split_gradients(names[n], first, first == 1 ? expected : other);
            if (first > 1 && memcmp(expected, other, sizeof other))
                fail_msg("%s: another gradient with %d tokens in the first micro-batch", names[n], (int)first);
        }
}

/* ---- the whole op ---- */

typedef struct frozen {
    int32_t *expert;
    bool learn, changed;
    int64_t places;
} frozen;

static void remember(void *observer, const sgm_routing *record) {
    frozen *f = observer;
    size_t bytes = (size_t)(record->items * record->slots) * sizeof(int32_t);
    if (f->learn)
        memcpy(f->expert, record->expert, bytes);
    else
        f->changed |= memcmp(f->expert, record->expert, bytes) != 0;
}

static double run_step(moe_run *run, int threads) {
    const sgm_moe_args *a = run->args;
    if (a->balance)
        sgm_balance_set_begin_step(a->balance, run->rows, &a->experts_per_token);
    sgm_error error = {0};
    if (moe_run_on(threads, run, &error))
        fail_msg("%s", error.message);
    if (!a->balance)
        return run->probe;
    sgm_balance_set_end_step(a->balance);
    return run->probe + sgm_balance_set_total(a->balance);
}

static void check_variable(moe_run *run, frozen *f, sgm_real *data, const sgm_real *gradient, int64_t count,
                           const char *what) {
    int64_t stride = count > 150 ? count / 150 : 1; /* a sample of the big ones */
    for (int64_t i = 0; i < count; i += stride) {
        sgm_real old = data[i];
        data[i] = old + 1e-6;
        double up = run_step(run, 1);
        data[i] = old - 1e-6;
        double down = run_step(run, 1);
        data[i] = old;
        if (!f->changed)
            close_to(gradient[i], (up - down) / 2e-6, what);
        f->changed = false;
    }
}

/* `uneven`: every second expert is a column narrower than its memory. */
static void op_case(int index, bool balanced, bool uneven) {
    sgm_op_case c = {0};
    if (sgm_op_moe_ffn.cases->make(index, false, 5, &c, NULL))
        return;
    sgm_moe_args *args = c.args;
    for (int64_t e = 1; uneven && e < args->bank->experts; e += 2)
        ((sgm_expert *)args->bank->self)[e].width--;
    int64_t count = c.rows[0] * c.cols[0];
    sgm_real *x = normals(1, count, 1), *residual = normals(2, count, 1);
    sgm_real *y = normals(4, count, 1), *dx = normals(5, count, 1), *dr = normals(6, count, 1);
    frozen f = {.expert = sgm_alloc((size_t)(c.rows[0] * args->gate->rows) * sizeof(int32_t)), .learn = true};
    args->observe = remember;
    args->observer = &f;
    sgm_balance_member members[2];
    for (int i = 0; balanced && i < 2; i++) {
        members[i].plugin = sgm_balance_find(i ? "z_loss" : "load_balance_loss", NULL);
        members[i].settings = settings_new(&members[i].plugin->plugin);
        set_real(&members[i].plugin->plugin, members[i].settings, "coefficient", i ? 0.1 : 3);
    }
    if (balanced)
        assert_int_equal(sgm_balance_set_new(members, 2, 1, args->gate->rows, 1, 1, &args->balance, NULL), SGM_OK);
    moe_run run = {.args = args,
                   .kernels = reference_kernels(),
                   .x = x,
                   .residual = residual,
                   .backward = true,
                   .rows = c.rows[0],
                   .cols = c.cols[0],
                   .y = y,
                   .dx = dx,
                   .d_residual = dr};
    run_step(&run, 2);
    f.learn = false;
    sgm_real *first_dx = sgm_alloc((size_t)count * sizeof *first_dx + 1), *first[8] = {0};
    memcpy(first_dx, dx, (size_t)count * sizeof *dx);
    for (int64_t i = 0; i < count; i++) /* the residual's gradient is y's */
        assert_true(dr[i] == (sgm_real)harness_coefficient(i));
    for (int v = 0; v < c.variable_count; v++) { /* later runs add to the gradients */
        size_t bytes = (size_t)c.variables[v].count * sizeof(sgm_real);
        first[v] = sgm_alloc(bytes);
        memcpy(first[v], c.variables[v].gradient, bytes);
    }
    check_variable(&run, &f, x, first_dx, count, "x");
    for (int v = 0; v < c.variable_count; v++) {
        check_variable(&run, &f, c.variables[v].data, first[v], c.variables[v].count, c.variables[v].name);
        sgm_free(first[v]);
    }
    sgm_free(first_dx);
    sgm_balance_set_free(args->balance);
    sgm_free(f.expert);
    sgm_free(x), sgm_free(residual), sgm_free(y), sgm_free(dx), sgm_free(dr);
    sgm_op_moe_ffn.cases->free(&c);
}

static void op(void **state) {
    (void)state;
    for (int index = 0; index < 12; index++)
        op_case(index, false, false);
}

static void op_with_balancers(void **state) {
    (void)state;
    op_case(2, true, false);
    op_case(4, true, false);
}

static void op_with_uneven_experts(void **state) {
    (void)state;
    op_case(1, false, true);
    op_case(2, false, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses),
        cmocka_unit_test(any_split),
        cmocka_unit_test(op),
        cmocka_unit_test(op_with_balancers),
        cmocka_unit_test(op_with_uneven_experts),
    };
    return cmocka_run_group_tests_name("balance gradients", tests, NULL, NULL);
}
