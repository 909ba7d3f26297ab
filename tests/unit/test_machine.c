// SPDX-License-Identifier: Apache-2.0
/* The machine's description against what the system says, and the measurements against what no machine can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
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
    const unsigned what = SGM_MEASURE_ALL & ~(unsigned)SGM_MEASURE_MAPPED;
    sgm_machine_peaks peaks;
    sgm_error error;
    assert_int_equal(sgm_machine_measure(NULL, 2, 0.02, what, NULL, &peaks, &error), SGM_OK);
    assert_true(peaks.flops_per_second > 1e7 && peaks.flops_per_second < 1e14);
    assert_true(peaks.bf16_flops_per_second > 1e7 && peaks.bf16_flops_per_second < 1e15);
    assert_true(peaks.int8_ops_per_second > 1e7 && peaks.int8_ops_per_second < 1e15);
    assert_true(peaks.read_bytes_per_second > 1e7 && peaks.read_bytes_per_second < 1e14);
    assert_true(peaks.mapped_bytes_per_second == 0);
    assert_int_equal(sgm_machine_measure(NULL, 1, 0.01, SGM_MEASURE_INT8, NULL, &peaks, &error), SGM_OK);
    assert_true(peaks.flops_per_second == 0 && peaks.int8_ops_per_second > 0 && peaks.read_bytes_per_second == 0);
    assert_int_equal(sgm_machine_measure("ref", 1, 0.01, SGM_MEASURE_F32, NULL, &peaks, &error), SGM_OK);
    assert_true(peaks.flops_per_second > 0);
    assert_int_equal(sgm_machine_measure("reff", 1, 0.01, SGM_MEASURE_F32, NULL, &peaks, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_machine_measure(NULL, 0, 0.02, what, NULL, &peaks, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_machine_measure(NULL, 1, -1, what, NULL, &peaks, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_machine_measure(NULL, 1, 1, 0, NULL, &peaks, &error), SGM_EARGUMENT);
}

static void test_mapped_file(void **unused) {
    (void)unused;
    sgm_machine_peaks peaks;
    sgm_error error;
    char *path = sgm_format("/tmp/sigmoe-test-machine-%ld", (long)getpid());
    static const char bytes[5000] = "a page and a bit";
    assert_int_equal(sgm_file_write(path, bytes, sizeof bytes, &error), SGM_OK);
    assert_int_equal(sgm_machine_measure(NULL, 2, 0.01, SGM_MEASURE_MAPPED, path, &peaks, &error), SGM_OK);
    assert_true(peaks.mapped_bytes_per_second > 1e6 && peaks.flops_per_second == 0);
    assert_int_equal(sgm_machine_measure(NULL, 8, 0.01, SGM_MEASURE_MAPPED, path, &peaks, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(sgm_machine_measure(NULL, 1, 0.01, SGM_MEASURE_MAPPED, NULL, &peaks, &error), SGM_EARGUMENT);
    assert_int_equal(unlink(path), 0);
    assert_true(sgm_machine_measure(NULL, 1, 0.01, SGM_MEASURE_MAPPED, path, &peaks, &error) != SGM_OK);
    sgm_free(path);
}

/* Every chain runs to 1, so the sink tells how many sums the loop really kept. */
static void peak_loop(sgm_peak_function *function, int64_t rounds) {
    sgm_real sink = 0;
    int64_t operations = function(rounds, &sink);
    assert_true(operations > 0 && operations % (2 * rounds) == 0);
    assert_true(sink > 7.99 && sink < 32.01);
}

static void test_peak_loops(void **unused) {
    (void)unused;
    uint64_t *words = sgm_alloc(3 * SGM_PEAK_READ_BYTES), sum = 0;
    for (uint64_t i = 0; i < 3 * SGM_PEAK_READ_BYTES / 8; i++)
        sum += words[i] = (i + 1) * 0x9E3779B97F4A7C15u;
    const sgm_kernels *k;
    for (size_t i = 0; (k = sgm_kernels_at(i)) != NULL; i++)
        if (k->usable()) {
            const sgm_peaks *peaks = sgm_peaks_of(k);
            peak_loop(peaks->f32, 1000);
            if (peaks->bf16)
                peak_loop(peaks->bf16, 1000);
            peak_loop(peaks->int8, 1000);
            assert_true(peaks->read(words, 3 * SGM_PEAK_READ_BYTES) == sum);
        }
    sgm_free(words);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_measurement),
        cmocka_unit_test(test_mapped_file),
        cmocka_unit_test(test_peak_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
