// SPDX-License-Identifier: Apache-2.0
/* sigmoe doctor: what this machine has and which kernels run on it. */
#include <string.h>
#include <unistd.h>

#include "commands.h"

static json_t *kernels_json(void) {
    json_t *list = json_array();
    const char *name, *summary;
    bool usable;
    for (int i = 0; sgm_machine_kernels(i, &name, &summary, &usable); i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "name", name, "summary", summary, "usable", usable));
    return list;
}

static int run(const cli_args *args) {
    sgm_machine machine;
    sgm_machine_describe(&machine);
    int threads = (int)cli_threads(args);
    const char *file = cli_text(args, "file");
    double seconds = cli_real(args, "seconds");
    sgm_machine_peaks peaks = {0};
    sgm_error error = {0};
    const unsigned what = file ? SGM_MEASURE_ALL : SGM_MEASURE_ALL & ~(unsigned)SGM_MEASURE_MAPPED;
    if (seconds > 0 && sgm_machine_measure(NULL, threads, seconds, what, file, &peaks, &error))
        return cli_fail(&error);
    if (cli_switch(args, "json")) {
        json_t *json = json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:s, s:o, s:i}", "version", sgm_version(), "cpu",
                                 machine.cpu, "cores", machine.cores, "features", machine.features, "memory_bytes",
                                 (json_int_t)machine.memory_bytes, "memory_available_bytes",
                                 (json_int_t)machine.memory_available_bytes, "auto", machine.kernels, "kernels",
                                 kernels_json(), "threads", threads);
        if (seconds > 0) {
            json_object_set_new(json, "flops_per_second", cli_json_real(peaks.flops_per_second));
            json_object_set_new(json, "bf16_flops_per_second", cli_json_real(peaks.bf16_flops_per_second));
            json_object_set_new(json, "int8_ops_per_second", cli_json_real(peaks.int8_ops_per_second));
            json_object_set_new(json, "bytes_per_second", cli_json_real(peaks.read_bytes_per_second));
            if (file)
                json_object_set_new(json, "mapped_bytes_per_second", cli_json_real(peaks.mapped_bytes_per_second));
        }
        return cli_json_print(json);
    }
    printf("sigmoe       %s\n", sgm_version());
    printf("processor    %s, %s\n", machine.cpu, cli_counted(machine.cores, "core").text);
    printf("features     %s\n", machine.features);
    printf("memory       %s, %s of it available\n", cli_bytes_label((double)machine.memory_bytes).text,
           cli_bytes_label((double)machine.memory_available_bytes).text);
    const char *name, *summary;
    bool usable;
    for (int i = 0; sgm_machine_kernels(i, &name, &summary, &usable); i++)
        printf("%-12s %-12s %s%s\n", i == 0 ? "kernels" : "", name, summary,
               strcmp(name, machine.kernels) == 0 ? "  <- auto"
               : usable                           ? ""
                                                  : "  (not on this processor)");
    if (seconds > 0) {
        printf("measured     %sFLOP/s in f32, with %s\n", cli_count_label(peaks.flops_per_second).text,
               cli_counted(threads, "thread").text);
        printf("             %sFLOP/s in bf16\n", cli_count_label(peaks.bf16_flops_per_second).text);
        printf("             %sOP/s in int8\n", cli_count_label(peaks.int8_ops_per_second).text);
        printf("             %s/s read from memory\n", cli_bytes_label(peaks.read_bytes_per_second).text);
        if (file)
            printf("             %s/s read from %s, mapped\n", cli_bytes_label(peaks.mapped_bytes_per_second).text,
                   file);
    }
    return CLI_DONE;
}

static const cli_flag flags[] = {
    {"seconds", CLI_REAL, "X", "1", 0, 60, false, "measure peak and bandwidth for this long; 0: do not"},
    {"threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},
    {"file", CLI_TEXT, "FILE", NULL, 0, 0, false, "measure reading this file through a mapping too (a large one)"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_doctor = {
    .name = "doctor",
    .group = "help",
    .summary = "what this machine has, which kernels run on it, how fast it is",
    .flags = flags,
    .example = "sigmoe doctor\nsigmoe doctor --seconds 0 --json",
    .run = run,
};
