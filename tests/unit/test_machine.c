// SPDX-License-Identifier: Apache-2.0
/* The machine's description against what the system says, and the measurements against what no machine can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/peak.h"
#include "sigmoe/machine.h"

static void test_description(void **unused) {
    (void)unused;
    sgm_machine machine;
    sgm_machine_describe(&machine);
    assert_in_range(machine.cores, 1, sysconf(_SC_NPROCESSORS_CONF));
    assert_true(machine.memory_bytes > 0 && machine.memory_available_bytes <= machine.memory_bytes);
    assert_true(machine.cpu[0] != '\0');
    const char *name, *summary;
    bool usable, found = false;
    int count = 0;
    for (; sgm_machine_kernels(count, &name, &summary, &usable); count++) {
        assert_true(name[0] != '\0' && summary[0] != '\0');
        found |= usable && strcmp(name, machine.kernels) == 0;
        if (strcmp(name, "ref") == 0)
            assert_true(usable);
        else
            assert_int_equal(usable, strstr(machine.features, strcmp(name, "avx2") == 0     ? "avx2"
                                                              : strcmp(name, "avx512") == 0 ? "avx512f"
                                                                                            : "avx512bf16") != NULL);
    }
    assert_true(found && count >= 1);
    assert_false(sgm_machine_kernels(-1, &name, &summary, &usable));
    assert_non_null(strchr(sgm_version(), '.'));
}

static void test_measurement(void **unused) {
    (void)unused;
    double flops = 0, bytes = 0;
    sgm_error error;
    assert_int_equal(sgm_machine_measure(2, 0.02, &flops, &bytes, &error), SGM_OK);
    assert_true(flops > 1e7 && flops < 1e14);
    assert_true(bytes > 1e7 && bytes < 1e14);
    assert_int_equal(sgm_machine_measure(0, 0.02, &flops, &bytes, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_machine_measure(1, -1, &flops, &bytes, &error), SGM_EARGUMENT);
}

/* The chains s = 3/4 s + 1/4 all run to 1, so the sink tells how many sums the loop really kept. */
static void test_peak_loops(void **unused) {
    (void)unused;
    const sgm_kernels *k;
    for (size_t i = 0; (k = sgm_kernels_at(i)) != NULL; i++)
        if (k->usable()) {
            sgm_real sink = 0;
            int64_t flops = sgm_peak_of(k)(1000, &sink);
            assert_true(flops > 0 && flops % 2000 == 0);
            assert_true(sink > 11.99 && sink < 32.01);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_measurement),
        cmocka_unit_test(test_peak_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
