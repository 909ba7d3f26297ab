// SPDX-License-Identifier: Apache-2.0
/* Every op of the list, from its own declaration: the same bytes for 1, 2 and 3 threads with every kernel table, with and
 * without a tape; and every table within tolerance of the reference. Gradients against central differences are checked in
 * the f64 build (tests/gradient/test_op_gradients.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conformance/op_harness.h"

static void same_bytes(const char *op, const char *what, const sgm_real *a, const sgm_real *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s: %s[%lld] is %.9g and %.9g", op, what, (long long)i, (double)a[i], (double)b[i]);
}

static void compare_bytes(const harness *a, const harness *b, bool gradients) {
    same_bytes(a->op->name, "output", a->output, b->output, a->output_count);
    if (!gradients)
        return;
    for (int i = 0; i < a->op->inputs; i++)
        same_bytes(a->op->name, "input gradient", a->input_gradient[i], b->input_gradient[i],
                   a->op_case.rows[i] * a->op_case.cols[i]);
    for (int i = 0; i < a->op_case.variable_count; i++)
        same_bytes(a->op->name, a->op_case.variables[i].name, a->op_case.variables[i].gradient,
                   b->op_case.variables[i].gradient, a->op_case.variables[i].count);
}

/* Largest difference over the largest value. */
static void close_to(const char *op, const char *table, const char *what, const sgm_real *a, const sgm_real *b,
                     int64_t n) {
    double largest = 1e-6, difference = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(isfinite(a[i]) && isfinite(b[i]));
        largest = fmax(largest, fabs((double)a[i]));
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
    }
    if (difference > 2e-5 * largest)
        fail_msg("%s with %s: %s differs by %.3g of %.3g", op, table, what, difference, largest);
}

static void every_case(void (*check)(const sgm_op *op, int index)) {
    for (size_t o = 0; sgm_op_at(o); o++) {
        const sgm_op *op = sgm_op_at(o);
        int cases = 0;
        harness h;
        for (; harness_open(&h, op, cases, false); cases++) {
            harness_close(&h);
            check(op, cases);
        }
        if (cases == 0)
            fail_msg("op %s declares no case", op->name);
    }
}

static void check_threads(const sgm_op *op, int index) {
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        if (!sgm_kernels_at(k)->usable())
            continue;
        harness one;
        assert_true(harness_open(&one, op, index, false));
        assert_int_equal(harness_run_case(&one, sgm_kernels_at(k), 1, true, 1, NULL, NULL, NULL), SGM_OK);
        for (int threads = 2; threads <= 3; threads++) {
            harness more;
            assert_true(harness_open(&more, op, index, false));
            assert_int_equal(harness_run_case(&more, sgm_kernels_at(k), threads, true, 1, NULL, NULL, NULL), SGM_OK);
            compare_bytes(&one, &more, true);
            harness_close(&more);
        }
        harness_close(&one);
    }
}

static void check_tape(const sgm_op *op, int index) {
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        const sgm_kernels *kernels = sgm_kernels_at(k);
        if (!kernels->usable())
            continue;
        for (int threads = 1; threads <= 3; threads++) {
            harness with, without;
            assert_true(harness_open(&with, op, index, false));
            assert_true(harness_open(&without, op, index, false));
            assert_int_equal(harness_run_case(&with, kernels, threads, true, 1, NULL, NULL, NULL), SGM_OK);
            assert_int_equal(harness_run_case(&without, kernels, threads, false, 1, NULL, NULL, NULL), SGM_OK);
            compare_bytes(&with, &without, false);
            harness_close(&with);
            harness_close(&without);
        }
    }
}

static void check_tables(const sgm_op *op, int index) {
    harness reference;
    assert_true(harness_open(&reference, op, index, false));
    assert_int_equal(harness_run_case(&reference, sgm_kernels_at(0), 1, true, 1, NULL, NULL, NULL), SGM_OK);
    for (size_t k = 1; sgm_kernels_at(k); k++) {
        const sgm_kernels *table = sgm_kernels_at(k);
        if (!table->usable())
            continue;
        harness fast;
        assert_true(harness_open(&fast, op, index, false));
        assert_int_equal(harness_run_case(&fast, table, 2, true, 1, NULL, NULL, NULL), SGM_OK);
        close_to(op->name, table->name, "output", reference.output, fast.output, fast.output_count);
        for (int i = 0; i < op->inputs; i++)
            close_to(op->name, table->name, "input gradient", reference.input_gradient[i], fast.input_gradient[i],
                     fast.op_case.rows[i] * fast.op_case.cols[i]);
        for (int i = 0; i < fast.op_case.variable_count; i++)
            close_to(op->name, table->name, fast.op_case.variables[i].name, reference.op_case.variables[i].gradient,
                     fast.op_case.variables[i].gradient, fast.op_case.variables[i].count);
        harness_close(&fast);
    }
    harness_close(&reference);
}

static void same_bytes_for_any_threads(void **state) {
    (void)state;
    every_case(check_threads);
}
static void same_output_without_tape(void **state) {
    (void)state;
    every_case(check_tape);
}
static void tables_agree_with_reference(void **state) {
    (void)state;
    every_case(check_tables);
}

/* A shape that does not fit is an error of the dry walk, with both shapes in it. */
static void wrong_shapes_are_errors(void **state) {
    (void)state;
    sgm_real data[12] = {0};
    sgm_weight weight = {.name = "w", .rows = 3, .cols = 4, .data = data};
    sgm_error error = {0};
    sgm_worker alone = {.threads = 1};
    sgm_walk walk = {.worker = &alone, .kernels = sgm_kernels_at(0), .dry = true, .error = &error};
    sgm_tensor x = sgm_walk_tensor(&walk, 2, 5);
    sgm_linear(&walk, x, &weight);
    assert_int_equal(walk.status, SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "(3, 4)"));
    sgm_linear(&walk, x, &weight); /* later ops do nothing */
    assert_int_equal(walk.status, SGM_EARGUMENT);
}

/* The plan gives no two live gradients the same bytes: a chain whose gradients would clash if it did. y = ((x+xW)+xW)…; with
 * W = 0 every gradient of the chain must arrive at x unchanged. */
static void residual_chain(void **state) {
    (void)state;
    sgm_real zero[16] = {0}, gradient[16] = {0};
    sgm_weight weight = {.name = "w", .rows = 4, .cols = 4, .data = zero, .gradient = gradient};
    sgm_real x[8], dx[8];
    for (int i = 0; i < 8; i++)
        x[i] = (sgm_real)(i + 1);
    sgm_team *team = NULL;
    assert_int_equal(sgm_team_new(1, &team, NULL), SGM_OK);
    sgm_plan plan = {0};
    sgm_tape *tape = NULL, *planned = NULL;
    char *values = NULL, *gradients = NULL;
    for (int dry = 1; dry >= 0; dry--) {
        if (dry)
            assert_int_equal(sgm_tape_new(NULL, &tape, NULL), SGM_OK);
        else
            assert_int_equal(sgm_tape_new(&plan, &planned, NULL), SGM_OK);
        sgm_worker worker = {.threads = 1, .team = team};
        sgm_walk walk = {.worker = &worker, .kernels = sgm_kernels_at(0), .dry = dry, .tape = dry ? tape : planned};
        if (!dry) {
            walk.values = values = sgm_alloc(plan.value_bytes);
            gradients = sgm_alloc(plan.gradient_bytes);
            memset(gradients, 0xFF, plan.gradient_bytes);
        }
        harness_source source = {x, dx, 2, 4, NULL};
        harness_times *nobody = NULL;
        sgm_tensor t, loss;
        sgm_apply(&walk, &harness_source_op, &source, NULL, &t);
        for (int i = 0; i < 5; i++)
            t = sgm_linear_residual(&walk, t, &weight, t);
        sgm_apply(&walk, &harness_probe_op, &nobody, &t, &loss);
        if (dry)
            assert_int_equal(sgm_plan_make(&walk, 1, &plan, NULL), SGM_OK);
        else
            sgm_tape_backward(&walk, &plan, gradients);
        assert_int_equal(walk.status, SGM_OK);
    }
    for (int i = 0; i < 8; i++)
        assert_true(dx[i] == (sgm_real)harness_coefficient(i));
    sgm_tape_free(tape);
    sgm_tape_free(planned);
    sgm_plan_free(&plan);
    sgm_free(values);
    sgm_free(gradients);
    sgm_team_free(team);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_for_any_threads),
        cmocka_unit_test(same_output_without_tape),
        cmocka_unit_test(tables_agree_with_reference),
        cmocka_unit_test(wrong_shapes_are_errors),
        cmocka_unit_test(residual_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
