// SPDX-License-Identifier: Apache-2.0
/* Student's t by the regularised incomplete beta function, itself a continued fraction (Abramowitz and Stegun 26.5.8,
 * evaluated by Lentz's method). */
#include "lab/student.h"

#include <math.h>

enum { MOST_TERMS = 500 };

/* The continued fraction of I_x(a, b); converges fast for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double x, double a, double b) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double value = d;
    for (int m = 1; m < MOST_TERMS; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int i = 0; i < 2; i++) {
            double part = i ? odd : even;
            d = 1 + part * d;
            c = 1 + part / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            value *= step = c * d;
        }
        if (fabs(step - 1) < 1e-15)
            break;
    }
    return value;
}

static double incomplete_beta(double x, double a, double b) {
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a : 1 - front * beta_fraction(1 - x, b, a) / b;
}

double sgm_student_two_sided(double t, double freedom) {
    if (isnan(t))
        return t;
    return isinf(t) ? 0 : incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5);
}

double sgm_student_quantile(double outside, double freedom) {
    double low = 0, high = 1;
    while (sgm_student_two_sided(high, freedom) > outside && high < 1e300)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-15 * high; i++) {
        double middle = low + (high - low) / 2;
        *(sgm_student_two_sided(middle, freedom) > outside ? &low : &high) = middle;
    }
    return low + (high - low) / 2;
}

sgm_spread sgm_spread_of(const double *values, size_t count) {
    sgm_spread spread = {0, 0, (double)NAN};
    double sum = 0, square = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i])) {
            sum += values[i];
            spread.count++;
        }
    spread.mean = spread.count ? sum / (double)spread.count : (double)NAN;
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i]))
            square += (values[i] - spread.mean) * (values[i] - spread.mean);
    if (spread.count > 1)
        spread.deviation = sqrt(square / (double)(spread.count - 1));
    return spread;
}

sgm_paired sgm_paired_of(const double *differences, size_t count) {
    sgm_spread spread = sgm_spread_of(differences, count);
    sgm_paired paired = {spread.count, spread.mean, (double)NAN, (double)NAN, (double)NAN};
    if (spread.count < 2)
        return paired;
    double freedom = (double)(spread.count - 1), error = spread.deviation / sqrt((double)spread.count);
    double reach = sgm_student_quantile(0.05, freedom) * error;
    paired.low = spread.mean - reach;
    paired.high = spread.mean + reach;
    paired.p = error > 0 ? sgm_student_two_sided(spread.mean / error, freedom) : spread.mean == 0 ? 1 : 0;
    return paired;
}
