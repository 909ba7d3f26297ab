// SPDX-License-Identifier: Apache-2.0
/* The MoE op against a plain restatement of it, and the promise that no way of cutting the work changes a byte. */
#include <math.h>

#include "moe_runner.h"

/* y += weight · expert(x), one row, in f64. */
static void add_expert(const sgm_moe_args *a, int64_t index, double weight, const sgm_real *x, double *y) {
    int64_t D = a->gate->cols;
    sgm_expert expert = a->bank->acquire(a->bank, index);
    for (int64_t f = 0; f < expert.width; f++) {
        double gate = 0, up = 0;
        for (int64_t d = 0; d < D; d++) {
            gate += (double)expert.gate[f * expert.gate_stride + d] * (double)x[d];
            up += (double)expert.up[f * expert.up_stride + d] * (double)x[d];
        }
        double h = gate / (1 + exp(-gate)) * up * weight;
        for (int64_t d = 0; d < D; d++)
            y[d] += h * (double)expert.down[d * expert.down_stride + f];
    }
}

/* Top-k by softmax: one row, one expert at a time. The last of the experts may be null. */
static void oracle(const sgm_moe_args *a, const sgm_real *x, const sgm_real *residual, int64_t rows, double *y) {
    int64_t D = a->gate->cols, E = a->gate->rows, K = a->experts_per_token;
    double *p = calloc((size_t)E, sizeof *p);
    for (int64_t t = 0; t < rows; t++) {
        double sum = 0;
        for (int64_t e = 0; e < E; e++) {
            double z = 0;
            for (int64_t d = 0; d < D; d++)
                z += (double)a->gate->data[e * D + d] * (double)x[t * D + d];
            p[e] = exp(z);
            sum += p[e];
        }
        for (int64_t d = 0; d < D; d++)
            y[t * D + d] = (double)residual[t * D + d];
        for (int64_t k = 0; k < K; k++) {
            int64_t best = 0;
            for (int64_t e = 1; e < E; e++)
                best = p[e] > p[best] ? e : best;
            if (best < a->bank->experts)
                add_expert(a, best, p[best] / sum, x + t * D, y + t * D);
            p[best] = -1; /* taken; its share of `sum` stays */
        }
    }
    free(p);
}

typedef struct setup {
    sgm_op_case c;
    int64_t count;
    sgm_real *x, *residual, *y, *dx, *dr;
    moe_run run;
} setup;

static bool set_up(setup *s, int index) {
    memset(s, 0, sizeof *s);
    if (sgm_op_moe_ffn.cases->make(index, false, 3, &s->c, NULL))
        return false;
    s->count = s->c.rows[0] * s->c.cols[0];
    s->x = normals(1, s->count, 1);
    s->residual = normals(2, s->count, 1);
    s->y = normals(4, s->count, 1);
    s->dx = normals(5, s->count, 1);
    s->dr = normals(6, s->count, 1);
    s->run = (moe_run){.args = s->c.args,
                       .kernels = reference_kernels(),
                       .x = s->x,
                       .residual = s->residual,
                       .rows = s->c.rows[0],
                       .cols = s->c.cols[0],
                       .y = s->y,
                       .dx = s->dx,
                       .d_residual = s->dr};
    return true;
}

static void tear_down(setup *s) {
    sgm_op_moe_ffn.cases->free(&s->c);
    sgm_free(s->x), sgm_free(s->residual), sgm_free(s->y), sgm_free(s->dx), sgm_free(s->dr);
}

static void against_the_oracle(void **state) {
    (void)state;
    setup s;
    int cases = 0, top_k = 0, null = 0;
    for (; set_up(&s, cases); cases++) {
        double *expected = calloc((size_t)s.count, sizeof *expected);
        const sgm_moe_args *args = s.c.args;
        sgm_expert_bank *bank = args->bank;
        if (strcmp(args->router->plugin->plugin.name, "top_k") != 0) {
            free(expected);
            tear_down(&s);
            continue;
        }
        top_k++;
        for (int64_t e = 1; e < bank->experts; e += 2) /* experts of two widths in one layer */
            ((sgm_expert *)bank->self)[e].width--;
        null += args->null_experts > 0;
        oracle(args, s.x, s.residual, s.c.rows[0], expected);
        for (int tape = 0; tape < 2; tape++) {
            s.run.backward = tape;
            assert_int_equal(moe_run_on(2, &s.run, NULL), SGM_OK);
            for (int64_t i = 0; i < s.count; i++)
                if (!(fabs((double)s.y[i] - expected[i]) < 1e-4 * (1 + fabs(expected[i]))))
                    fail_msg("%s: %g, expected %g", s.c.name, (double)s.y[i], expected[i]);
        }
        free(expected);
        tear_down(&s);
    }
    assert_true(top_k >= 8 && null > 0);
}

/* What the record says, as the observer is told it. */
typedef struct told {
    const setup *s;
    double *expected; /* residual + Σ over computed places of weight · expert */
    int64_t computed, dropped, null, unused, calls;
} told;

static void listen(void *observer, const sgm_routing *r) {
    told *t = observer;
    int64_t D = t->s->run.cols;
    t->calls++;
    for (int64_t i = 0; i < t->s->count; i++)
        t->expected[i] = (double)t->s->residual[i];
    for (int64_t place = 0; place < r->items * r->slots; place++) {
        int64_t item = place / r->slots;
        t->unused += r->expert[place] < 0;
        t->null += (r->flags[place] & SGM_ROUTE_NULL) != 0;
        t->dropped += (r->flags[place] & SGM_ROUTE_DROPPED) != 0;
        if (!sgm_routing_is_computed(r, place))
            continue;
        t->computed++;
        add_expert(t->s->run.args, r->expert[place], (double)r->weight[place], t->s->x + item * D,
                   t->expected + item * D);
    }
}

/* Whatever the router: the output is what the record says, dropped and null assignments and unused slots add nothing, in
 * training and in inference, and the load tells how many experts were computed. */
static void the_record_is_what_is_done(void **state) {
    (void)state;
    setup s;
    int64_t null = 0, unused = 0, dropped = 0;
    int limited = 0;
    for (int index = 0; set_up(&s, index); index++, tear_down(&s)) {
        sgm_moe_args args = *(const sgm_moe_args *)s.c.args;
        for (int capacity = 0; capacity < 2; capacity++)
            for (int tape = 0; tape < 2; tape++) {
                int64_t *count = calloc((size_t)args.gate->rows, sizeof *count);
                double *probability = calloc((size_t)args.gate->rows, sizeof *probability);
                sgm_load load = {.experts = args.gate->rows, .count = count, .probability = probability};
                told t = {.s = &s, .expected = calloc((size_t)s.count, sizeof(double))};
                bool limits = capacity && strcmp(args.router->plugin->plugin.name, "top_k") == 0;
                if (limits) {
                    set_real(&args.router->plugin->plugin, args.router->settings, "capacity_factor", 0.8);
                    args.together = true;
                    limited++;
                }
                args.observe = listen;
                args.observer = &t;
                args.load = &load;
                args.rows = NULL;
                s.run.args = &args;
                s.run.backward = tape;
                assert_int_equal(moe_run_on(2, &s.run, NULL), SGM_OK);
                assert_int_equal(t.calls, 1);
                assert_int_equal(load.computed, t.computed);
                for (int64_t i = 0; i < s.count; i++)
                    if (!(fabs((double)s.y[i] - t.expected[i]) < 1e-4 * (1 + fabs(t.expected[i]))))
                        fail_msg("%s: %g, expected %g", s.c.name, (double)s.y[i], t.expected[i]);
                null += t.null, unused += t.unused, dropped += t.dropped;
                free(t.expected), free(count), free(probability);
            }
    }
    assert_true(limited > 0 && null > 0 && unused > 0 && dropped > 0);
}

static const sgm_kernels *kernels_at(int index) {
    const sgm_kernels *k = sgm_kernels_at((size_t)index);
    return k && k->usable() ? k : NULL;
}

/* Outputs and all gradients: the same bytes with 1, 2, 3 and 5 threads, for every kernel table. */
static void any_threads(void **state) {
    (void)state;
    setup s;
    for (int table = 0; sgm_kernels_at((size_t)table); table++)
        for (int index = 0; kernels_at(table) && set_up(&s, index); index++) {
            size_t bytes = (size_t)s.count * sizeof(sgm_real);
            sgm_real *y = sgm_alloc(bytes), *dx = sgm_alloc(bytes), *first[4] = {0};
            for (int threads = 1; threads <= 5; threads += threads < 3 ? 1 : 2) {
                s.run.backward = true;
                s.run.kernels = kernels_at(table);
                for (int v = 0; v < s.c.variable_count; v++)
                    memset(s.c.variables[v].gradient, 0, (size_t)s.c.variables[v].count * sizeof(sgm_real));
                assert_int_equal(moe_run_on(threads, &s.run, NULL), SGM_OK);
                if (threads == 1) {
                    memcpy(y, s.y, bytes);
                    memcpy(dx, s.dx, bytes);
                }
                assert_memory_equal(y, s.y, bytes);
                assert_memory_equal(dx, s.dx, bytes);
                for (int v = 0; v < s.c.variable_count; v++) {
                    size_t size = (size_t)s.c.variables[v].count * sizeof(sgm_real);
                    if (threads == 1) {
                        first[v] = sgm_alloc(size);
                        memcpy(first[v], s.c.variables[v].gradient, size);
                    }
                    assert_memory_equal(first[v], s.c.variables[v].gradient, size);
                }
            }
            for (int v = 0; v < 4; v++)
                sgm_free(first[v]);
            sgm_free(y);
            sgm_free(dx);
            tear_down(&s);
        }
}

/* A row alone (decoding: work cut by columns) has the bytes it has in a batch (work cut by rows). */
static void a_row_alone(void **state) {
    (void)state;
    enum { T = 300, D = 96, F = 72, E = 24 };
    setup s;
    for (int table = 0; sgm_kernels_at((size_t)table); table++) {
        const sgm_kernels *kernels = kernels_at(table);
        assert_true(set_up(&s, 0));
        if (kernels) {
            sgm_moe_args args = *(const sgm_moe_args *)s.c.args;
            sgm_real *gate = normals(1, E * D, 0.3), *weights = normals(2, 3 * E * D * F, 0.1);
            sgm_expert experts[E];
            for (int e = 0; e < E; e++)
                experts[e] = (sgm_expert){.width = F,
                                          .gate = weights + (3 * e) * D * F,
                                          .up = weights + (3 * e + 1) * D * F,
                                          .down = weights + (3 * e + 2) * D * F,
                                          .gate_stride = D,
                                          .up_stride = D,
                                          .down_stride = F};
            sgm_weight gate_weight = {.rows = E, .cols = D, .data = gate};
            sgm_expert_bank bank;
            sgm_expert_bank_resident(&bank, E, D, experts);
            args.gate = &gate_weight;
            args.bank = &bank;
            args.experts_per_token = 2;
            args.rows = NULL;
            sgm_real *x = normals(3, T * D, 1), *residual = normals(4, T * D, 1), *y = normals(5, T * D, 1), row[4 * D];
            moe_run whole = {&args, kernels, x, residual, false, T, D, y, NULL, NULL, 0};
            assert_int_equal(moe_run_on(2, &whole, NULL), SGM_OK);
            for (int64_t t = 0; t < 8; t++)
                for (int64_t rows = 1; rows <= 4; rows += 3) {
                    moe_run one = whole;
                    one.x = x + t * D;
                    one.residual = residual + t * D;
                    one.y = row;
                    one.rows = rows;
                    assert_int_equal(moe_run_on(t % 2 ? 2 : 3, &one, NULL), SGM_OK);
                    assert_memory_equal(row, y + t * D, (size_t)(rows * D) * sizeof(sgm_real));
                }
            sgm_free(gate), sgm_free(weights), sgm_free(x), sgm_free(residual), sgm_free(y);
        }
        tear_down(&s);
    }
}

static void shape_errors(void **state) {
    (void)state;
    setup s;
    sgm_error error;
    assert_true(set_up(&s, 1));
    sgm_moe_args args = *(const sgm_moe_args *)s.c.args;
    s.run.args = &args;
    args.experts_per_token = 5; /* of 4 */
    assert_int_equal(moe_run_on(1, &s.run, &error), SGM_EARGUMENT);
    args.experts_per_token = 1;
    s.run.cols = 4;
    assert_int_equal(moe_run_on(1, &s.run, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "moe_ffn"));
    s.run.cols = s.c.cols[0];
    sgm_comm comm = sgm_comm_self();
    comm.ranks = 2;
    args.comm = &comm;
    assert_int_equal(moe_run_on(1, &s.run, &error), SGM_EUNSUPPORTED);
    tear_down(&s);
}

/* Load: every assignment of a row with a target is counted, in a few runs as in one. */
static void load(void **state) {
    (void)state;
    setup s;
    assert_true(set_up(&s, 2));
    sgm_moe_args args = *(const sgm_moe_args *)s.c.args;
    int64_t count[5] = {0}, total = 0;
    double probability[5] = {0}, sum = 0;
    sgm_load own = {.experts = 5, .count = count, .probability = probability};
    args.load = &own;
    s.run.args = &args;
    for (int i = 0; i < 3; i++)
        assert_int_equal(moe_run_on(2, &s.run, NULL), SGM_OK);
    for (int e = 0; e < 5; e++) {
        total += count[e];
        sum += probability[e];
    }
    int64_t scored = 0;
    for (int64_t t = 0; t < s.c.rows[0]; t++)
        scored += args.rows->targets[t] >= 0;
    assert_true(scored > 0 && scored < s.c.rows[0]);
    assert_int_equal(own.tokens, 3 * scored);
    assert_int_equal(total, 6 * scored);
    assert_true(fabs(sum - (double)own.tokens) < 1e-4);
    tear_down(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_oracle), cmocka_unit_test(the_record_is_what_is_done),
        cmocka_unit_test(any_threads),        cmocka_unit_test(a_row_alone),
        cmocka_unit_test(shape_errors),       cmocka_unit_test(load),
    };
    return cmocka_run_group_tests_name("moe_ffn", tests, NULL, NULL);
}
