// SPDX-License-Identifier: Apache-2.0
/* Every op of the list, from its own declaration: the same bytes for 1, 2 and 3 threads with every kernel table in f32 and
 * bf16, with and without a tape; every table within tolerance of the reference, and bf16 within tolerance of f32. Gradients
 * against central differences are checked in the f64 build (tests/gradient/test_op_gradients.c). */
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
static void within(double tolerance, const char *op, const char *table, const char *what, const sgm_real *a,
                   const sgm_real *b, int64_t n) {
    double largest = 1e-6, difference = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(isfinite(a[i]) && isfinite(b[i]));
        largest = fmax(largest, fabs((double)a[i]));
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
    }
    if (difference > tolerance * largest)
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

/* Outputs and gradients of two runs. */
static void within_all(double tolerance, const char *table, const harness *a, const harness *b) {
    const char *op = a->op->name;
    within(tolerance, op, table, "output", a->output, b->output, b->output_count);
    for (int i = 0; i < a->op->inputs; i++)
        within(tolerance, op, table, "input gradient", a->input_gradient[i], b->input_gradient[i],
               b->op_case.rows[i] * b->op_case.cols[i]);
    for (int i = 0; i < b->op_case.variable_count; i++)
        within(tolerance, op, table, b->op_case.variables[i].name, a->op_case.variables[i].gradient,
               b->op_case.variables[i].gradient, b->op_case.variables[i].count);
}

static void check_threads_in(sgm_compute compute, const sgm_op *op, int index) {
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        if (!sgm_kernels_at(k)->usable())
            continue;
        harness one;
        assert_true(harness_open(&one, op, index, false));
        one.compute = compute;
        assert_int_equal(harness_run_case(&one, sgm_kernels_at(k), 1, true, 1, NULL, NULL, NULL), SGM_OK);
        for (int threads = 2; threads <= 3; threads++) {
            harness more;
            assert_true(harness_open(&more, op, index, false));
            more.compute = compute;
            assert_int_equal(harness_run_case(&more, sgm_kernels_at(k), threads, true, 1, NULL, NULL, NULL), SGM_OK);
            compare_bytes(&one, &more, true);
            harness_close(&more);
        }
        harness_close(&one);
    }
}

static void check_threads(const sgm_op *op, int index) {
    for (int compute = 0; compute < SGM_COMPUTES; compute++)
        check_threads_in((sgm_compute)compute, op, index);
}

/* Gradients of weights that are set, over NaN, have the bytes of those that are added to zeros. */
static void check_set_gradients(const sgm_op *op, int index) {
    for (size_t k = 0; op->backward && sgm_kernels_at(k); k++)
        for (int compute = 0; sgm_kernels_at(k)->usable() && compute < SGM_COMPUTES; compute++) {
            harness added, set;
            assert_true(harness_open(&added, op, index, false));
            assert_true(harness_open(&set, op, index, false));
            added.compute = set.compute = (sgm_compute)compute;
            set.sets_gradients = true;
            assert_int_equal(harness_run_case(&added, sgm_kernels_at(k), 1, true, 1, NULL, NULL, NULL), SGM_OK);
            assert_int_equal(harness_run_case(&set, sgm_kernels_at(k), 2, true, 1, NULL, NULL, NULL), SGM_OK);
            compare_bytes(&added, &set, true);
            harness_close(&added);
            harness_close(&set);
        }
}

static void check_tape_in(sgm_compute compute, const sgm_op *op, int index) {
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        const sgm_kernels *kernels = sgm_kernels_at(k);
        if (!kernels->usable())
            continue;
        for (int threads = 1; threads <= 3; threads++) {
            harness with, without;
            assert_true(harness_open(&with, op, index, false));
            assert_true(harness_open(&without, op, index, false));
            with.compute = without.compute = compute;
            assert_int_equal(harness_run_case(&with, kernels, threads, true, 1, NULL, NULL, NULL), SGM_OK);
            assert_int_equal(harness_run_case(&without, kernels, threads, false, 1, NULL, NULL, NULL), SGM_OK);
            compare_bytes(&with, &without, false);
            harness_close(&with);
            harness_close(&without);
        }
    }
}

static void check_tape(const sgm_op *op, int index) {
    for (int compute = 0; compute < SGM_COMPUTES; compute++)
        check_tape_in((sgm_compute)compute, op, index);
}

static void check_tables(const sgm_op *op, int index) {
    harness reference;
    assert_true(harness_open(&reference, op, index, false));
    assert_int_equal(harness_run_case(&reference, sgm_kernels_at(0), 1, true, 1, NULL, NULL, NULL), SGM_OK);
    for (size_t k = 1; sgm_kernels_at(k); k++) {
        const sgm_kernels *table = sgm_kernels_at(k);
        if (!table->usable())
            continue;
        for (int six = 0; six < 2; six++) {
            harness fast;
            assert_true(harness_open(&fast, op, index, false));
            fast.compute = six ? SGM_COMPUTE_BF16X6 : SGM_COMPUTE_F32;
            assert_int_equal(harness_run_case(&fast, table, 2, true, 1, NULL, NULL, NULL), SGM_OK);
            within_all(2e-5, table->name, &reference, &fast);
            harness_close(&fast);
        }
    }
    harness_close(&reference);
}

/* bf16 has 8 bits: an operand is off by 2^-9 at most, a chain of products (an expert forward and backward) by several times
 * that. */
static void check_bf16(const sgm_op *op, int index) {
    harness exact;
    assert_true(harness_open(&exact, op, index, false));
    assert_int_equal(harness_run_case(&exact, sgm_kernels_at(0), 1, true, 1, NULL, NULL, NULL), SGM_OK);
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        const sgm_kernels *table = sgm_kernels_at(k);
        if (!table->usable())
            continue;
        harness rounded;
        assert_true(harness_open(&rounded, op, index, false));
        rounded.compute = SGM_COMPUTE_BF16;
        assert_int_equal(harness_run_case(&rounded, table, 2, true, 1, NULL, NULL, NULL), SGM_OK);
        within_all(1.0 / 32, table->name, &exact, &rounded);
        harness_close(&rounded);
    }
    harness_close(&exact);
}

static void same_bytes_for_any_threads(void **state) {
    (void)state;
    every_case(check_threads);
}

static void same_bytes_for_gradients_that_are_set(void **state) {
    (void)state;
    every_case(check_set_gradients);
}
static void same_output_without_tape(void **state) {
    (void)state;
    every_case(check_tape);
}
static void tables_agree_with_reference(void **state) {
    (void)state;
    every_case(check_tables);
}
static void bf16_agrees_with_f32(void **state) {
    (void)state;
    every_case(check_bf16);
}
/* And it is not f32: the ops whose products are multiplied in bf16 give other bytes. */
static void bf16_is_used(void **state) {
    (void)state;
    static const char *const multiplying[] = {"linear",           "linear_residual",  "moe_ffn",
                                              "vocabulary_loss",  "causal_attention", "attention_queries",
                                              "attention_outputs"};
    size_t found = 0;
    for (size_t o = 0; sgm_op_at(o); o++)
        for (size_t i = 0; i < sizeof multiplying / sizeof *multiplying; i++) {
            if (strcmp(sgm_op_at(o)->name, multiplying[i]) != 0)
                continue;
            harness h[2];
            for (int compute = 0; compute < 2; compute++) {
                assert_true(harness_open(&h[compute], sgm_op_at(o), 0, false));
                h[compute].compute = compute ? SGM_COMPUTE_BF16 : SGM_COMPUTE_F32;
                assert_int_equal(harness_run_case(&h[compute], sgm_kernels_at(0), 1, true, 1, NULL, NULL, NULL),
                                 SGM_OK);
            }
            size_t bytes = (size_t)h[0].output_count * sizeof(sgm_real);
            assert_memory_not_equal(h[0].output, h[1].output, bytes);
            bytes = (size_t)(h[0].op_case.rows[0] * h[0].op_case.cols[0]) * sizeof(sgm_real);
            assert_memory_not_equal(h[0].input_gradient[0], h[1].input_gradient[0], bytes);
            harness_close(&h[0]);
            harness_close(&h[1]);
            found++;
        }
    assert_int_equal(found, sizeof multiplying / sizeof *multiplying);
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
        cmocka_unit_test(same_bytes_for_gradients_that_are_set),
        cmocka_unit_test(same_bytes_for_any_threads),
        cmocka_unit_test(same_output_without_tape),
        cmocka_unit_test(tables_agree_with_reference),
        cmocka_unit_test(bf16_agrees_with_f32),
        cmocka_unit_test(bf16_is_used),
        cmocka_unit_test(wrong_shapes_are_errors),
        cmocka_unit_test(residual_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
