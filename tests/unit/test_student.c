// SPDX-License-Identifier: Apache-2.0
/* Student's t against printed tables and closed forms, and paired differences worked by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "lab/student.h"

static void near(double is, double wanted, double tolerance) {
    if (!(fabs(is - wanted) <= tolerance))
        fail_msg("%.12g, not %.12g", is, wanted);
}

/* Two-sided quantiles as every table prints them. */
static void quantiles_are_the_tables(void **state) {
    (void)state;
    static const struct {
        double outside, freedom, t;
    } known[] = {
        {0.05, 1, 12.7062},  {0.05, 2, 4.30265},   {0.05, 3, 3.18245},  {0.05, 4, 2.77645}, {0.05, 9, 2.26216},
        {0.05, 30, 2.04227}, {0.05, 120, 1.97993}, {0.01, 1, 63.6567},  {0.01, 2, 9.92484}, {0.01, 10, 3.16927},
        {0.10, 2, 2.91999},  {0.20, 5, 1.47588},   {0.001, 2, 31.5991},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double t = sgm_student_quantile(known[i].outside, known[i].freedom);
        near(t, known[i].t, 6e-6 * known[i].t);
        near(sgm_student_two_sided(t, known[i].freedom), known[i].outside, 1e-12);
    }
}

/* One degree of freedom: 1 − 2/π · atan t. Two: 1 − t / sqrt(2 + t²). Many: the normal distribution. */
static void probabilities_are_the_closed_forms(void **state) {
    (void)state;
    for (double t = 0; t < 40; t += 0.37) {
        near(sgm_student_two_sided(t, 1), 1 - 2 / M_PI * atan(t), 1e-13);
        near(sgm_student_two_sided(t, 2), 1 - t / sqrt(2 + t * t), 1e-13);
        near(sgm_student_two_sided(-t, 2), sgm_student_two_sided(t, 2), 0);
    }
    near(sgm_student_two_sided(1.959964, 1e7), 0.05, 1e-6);
    near(sgm_student_two_sided(2, 10), 0.07339, 1e-5);
    near(sgm_student_two_sided((double)INFINITY, 3), 0, 0);
    assert_true(isnan(sgm_student_two_sided((double)NAN, 3)));
}

/* Differences 1, 2, 3: mean 2, deviation 1, error 1/√3; t = 2√3 = 3.4641, p = 1 − t/√(2 + t²) = 1 − 3.4641/3.7417 =
 * 0.07418; half the interval is 4.30265/√3 = 2.48414. */
static void pairs_by_hand(void **state) {
    (void)state;
    const double values[] = {1, (double)NAN, 2, 3};
    sgm_paired paired = sgm_paired_of(values, 4);
    assert_int_equal(paired.pairs, 3);
    near(paired.mean, 2, 1e-15);
    near(paired.low, 2 - 2.48414, 1e-5);
    near(paired.high, 2 + 2.48414, 1e-5);
    near(paired.p, 0.07418, 1e-5);
    sgm_spread spread = sgm_spread_of(values, 4);
    near(spread.deviation, 1, 1e-15);
}

static void few_or_equal_pairs(void **state) {
    (void)state;
    const double same[] = {0.5, 0.5, 0.5}, zero[] = {0, 0};
    sgm_paired paired = sgm_paired_of(same, 1);
    assert_int_equal(paired.pairs, 1);
    assert_true(isnan(paired.low) && isnan(paired.p) && paired.mean == 0.5);
    assert_true(isnan(sgm_spread_of(same, 1).deviation) && isnan(sgm_spread_of(same, 0).mean));
    paired = sgm_paired_of(same, 3);
    assert_true(paired.p == 0 && paired.low == 0.5 && paired.high == 0.5);
    assert_true(sgm_paired_of(zero, 2).p == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_the_tables),
        cmocka_unit_test(probabilities_are_the_closed_forms),
        cmocka_unit_test(pairs_by_hand),
        cmocka_unit_test(few_or_equal_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
