// SPDX-License-Identifier: Apache-2.0
/* Student's t distribution, for paired differences between arms. */
#ifndef SGM_LAB_STUDENT_H
#define SGM_LAB_STUDENT_H

#include <stddef.h>

/* P(|T| >= |t|) with `freedom` degrees of freedom (> 0). NaN where t is NaN. */
double sgm_student_two_sided(double t, double freedom);
/* The t with P(|T| >= t) = `outside`, 0 < outside < 1: 12.706 for 0.05 and one degree of freedom. */
double sgm_student_quantile(double outside, double freedom);

/* Of the finite values: how many there are, their mean, their standard deviation with n − 1 (NaN below two values). */
typedef struct sgm_spread {
    size_t count;
    double mean, deviation;
} sgm_spread;
sgm_spread sgm_spread_of(const double *values, size_t count);

/* Paired differences: mean, 95 % interval of it and p of the hypothesis that it is 0. With fewer than two pairs the interval
 * and p are NaN; where all differences are the same, it has no width and p is 0, or 1 if they are 0. */
typedef struct sgm_paired {
    size_t pairs;
    double mean, low, high, p;
} sgm_paired;
sgm_paired sgm_paired_of(const double *differences, size_t count);

#endif
