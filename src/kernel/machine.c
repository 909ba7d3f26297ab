// SPDX-License-Identifier: Apache-2.0
/* What this machine has, which kernels run on it, and how fast it can multiply and read at best: the yardsticks for
 * every "share of peak" we print. */
#include "sigmoe/machine.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/team.h"
#include "kernel/cpu.h"
#include "kernel/peak.h"

#ifndef SGM_VERSION
#error "the build defines SGM_VERSION"
#endif

const char *sgm_version(void) {
    return SGM_VERSION;
}

sgm_peak_function *sgm_peak_of(const sgm_kernels *kernels) {
#define SGM_KERNELS(table)                                                                                             \
    if (strcmp(kernels->name, #table) == 0)                                                                            \
        return sgm_peak_##table;
#include "kernel/list.h"
#undef SGM_KERNELS
    return sgm_peak_ref;
}

/* Cores this process may run on (containers and taskset count). */
static int usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* "model name : AMD EPYC" of /proc/cpuinfo where there is such a line (x86), else the machine's architecture. */
static void cpu_name(char *name, size_t capacity) {
    struct utsname system;
    snprintf(name, capacity, "%.100s", uname(&system) == 0 ? system.machine : "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file)
        return;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0)
            continue;
        char *text = colon + 1;
        while (isspace((unsigned char)*text))
            text++;
        text[strcspn(text, "\n")] = '\0';
        snprintf(name, capacity, "%.120s", text);
        break;
    }
    fclose(file);
}

void sgm_machine_describe(sgm_machine *machine) {
    *machine = (sgm_machine){.cores = usable_cores(), .memory_available_bytes = sgm_memory_available()};
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        machine->memory_bytes = (uint64_t)pages * (uint64_t)page;
    cpu_name(machine->cpu, sizeof machine->cpu);
    sgm_cpu_features(machine->features, sizeof machine->features);
    const sgm_kernels *best = NULL;
    if (sgm_kernels_get("auto", &best, NULL) == SGM_OK)
        snprintf(machine->kernels, sizeof machine->kernels, "%s", best->name);
}

bool sgm_machine_kernels(int index, const char **name, const char **summary, bool *usable) {
    const sgm_kernels *kernels = index >= 0 ? sgm_kernels_at((size_t)index) : NULL;
    if (!kernels)
        return false;
    if (name)
        *name = kernels->name;
    if (summary)
        *summary = kernels->summary;
    if (usable)
        *usable = kernels->usable();
    return true;
}

/* ---- measuring ---- */

#define READ_BYTES ((size_t)64 << 20) /* per thread: more than its share of any cache */

typedef struct measurement {
    sgm_peak_function *peak;
    double seconds; /* per quantity */
    uint64_t *memory;
    struct result {
        double flops, bytes; /* per second */
        sgm_real sink;
        uint64_t check;
        char apart[64]; /* no two threads in one cache line */
    } * results;
} measurement;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint64_t read_all(const uint64_t *memory, size_t words) {
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 8 <= words; i += 8)
        for (int j = 0; j < 8; j++)
            sum[j] += memory[i + (size_t)j];
    for (int j = 1; j < 8; j++)
        sum[0] += sum[j];
    return sum[0];
}

static void measure(sgm_worker *worker, void *argument) {
    measurement *m = argument;
    struct result *result = &m->results[worker->thread];
    const size_t words = READ_BYTES / sizeof *m->memory;
    uint64_t *memory = m->memory + (size_t)worker->thread * words;
    for (size_t i = 0; i < words; i++) /* untouched pages would all be one page of zeros */
        memory[i] = i;

    sgm_barrier(worker);
    double begin = seconds_now(), end = begin, done = 0;
    do {
        done += (double)m->peak(100000, &result->sink);
        end = seconds_now();
    } while (end - begin < m->seconds);
    result->flops = done / (end - begin);

    sgm_barrier(worker);
    begin = seconds_now(), done = 0;
    do {
        result->check += read_all(memory, words);
        done += (double)READ_BYTES;
        end = seconds_now();
    } while (end - begin < m->seconds);
    result->bytes = done / (end - begin);
}

sgm_status sgm_machine_measure(int threads, double seconds, double *flops_per_second, double *bytes_per_second,
                               sgm_error *error) {
    if (threads < 1 || !(seconds > 0) || !(seconds <= 3600))
        return sgm_fail(error, SGM_EARGUMENT, "give at least one thread and up to 3600 seconds",
                        "measuring with %d threads for %g seconds", threads, seconds);
    const sgm_kernels *kernels = NULL;
    sgm_status status = sgm_kernels_get("auto", &kernels, error);
    if (status != SGM_OK)
        return status;
    size_t bytes = (size_t)threads * READ_BYTES;
    status = sgm_memory_check(bytes, "the buffers of the memory measurement", error);
    if (status != SGM_OK)
        return status;
    measurement m = {.peak = sgm_peak_of(kernels), .seconds = seconds / 2};
    m.memory = sgm_alloc(bytes);
    m.results = sgm_alloc((size_t)threads * sizeof *m.results);
    sgm_team *team = NULL;
    if (!m.memory || !m.results)
        status = sgm_fail(error, SGM_EMEMORY, "close other programs or use fewer threads",
                          "measuring memory speed needs %zu MiB", bytes >> 20);
    else
        status = sgm_team_new(threads, &team, error);
    if (status == SGM_OK) {
        sgm_team_run(team, measure, &m);
        double flops = 0, read = 0;
        for (int i = 0; i < threads; i++) {
            flops += m.results[i].flops;
            read += m.results[i].bytes;
        }
        if (flops_per_second)
            *flops_per_second = flops;
        if (bytes_per_second)
            *bytes_per_second = read;
    }
    sgm_team_free(team);
    sgm_free(m.results);
    sgm_free(m.memory);
    return status;
}
