// SPDX-License-Identifier: Apache-2.0
/* Every op's backward pass against central differences of its forward pass, in f64, from its own declaration. Hard
 * decisions (which expert) do not flip at this step size, so they are constants as they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conformance/op_harness.h"

static double loss_at(harness *h, sgm_real *place, double value) {
    sgm_real kept = *place;
    *place = value;
    assert_int_equal(harness_run_case(h, sgm_kernels_at(0), 1, false, 1, NULL, NULL, NULL), SGM_OK);
    *place = kept;
    return h->loss;
}

static void check(harness *h, const char *what, sgm_real *values, const sgm_real *gradient, int64_t count) {
    int64_t step = count > 60 ? count / 41 : 1;
    for (int64_t i = 0; i < count; i += step) {
        double distance = 1e-5 * fmax(1, fabs(values[i]));
        double up = loss_at(h, &values[i], values[i] + distance), down = loss_at(h, &values[i], values[i] - distance);
        double numeric = (up - down) / (2 * distance);
        if (!(fabs(numeric - gradient[i]) <= 2e-6 * fmax(1, fmax(fabs(numeric), fabs(gradient[i])))))
            fail_msg("%s, %s: d %s[%lld] is %.10g, central differences say %.10g", h->op->name, h->op_case.name, what,
                     (long long)i, gradient[i], numeric);
    }
}

static void gradients_match(void **state) {
    (void)state;
    for (size_t o = 0; sgm_op_at(o); o++) {
        const sgm_op *op = sgm_op_at(o);
        harness h;
        for (int index = 0; op->backward && harness_open(&h, op, index, false); index++) {
            assert_int_equal(harness_run_case(&h, sgm_kernels_at(0), 2, true, 1, NULL, NULL, NULL), SGM_OK);
            /* The forward runs of the differences clear the variables' gradients: copy them first. */
            sgm_real *kept[16];
            for (int i = 0; i < h.op_case.variable_count; i++) {
                size_t bytes = (size_t)h.op_case.variables[i].count * sizeof(sgm_real);
                kept[i] = sgm_alloc(bytes);
                memcpy(kept[i], h.op_case.variables[i].gradient, bytes);
            }
            for (int i = 0; i < op->inputs; i++)
                check(&h, "input", h.input[i], h.input_gradient[i], h.op_case.rows[i] * h.op_case.cols[i]);
            for (int i = 0; i < h.op_case.variable_count; i++) {
                check(&h, h.op_case.variables[i].name, h.op_case.variables[i].data, kept[i],
                      h.op_case.variables[i].count);
                sgm_free(kept[i]);
            }
            harness_close(&h);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_match)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
