// SPDX-License-Identifier: Apache-2.0
/* What this machine has, which kernels run on it, and how fast it can multiply and read at best: the yardsticks for
 * every "share of peak" we print. */
#include "sigmoe/machine.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/team.h"
#include "kernel/cpu.h"
#include "kernel/peak.h"

#ifndef SGM_VERSION
#error "the build defines SGM_VERSION"
#endif

double sgm_machine_peak(const sgm_machine_peaks *peaks, const char *arithmetic) {
    const double six = peaks->bf16_flops_per_second / 6;
    if (strcmp(arithmetic, "bf16") == 0)
        return peaks->bf16_flops_per_second;
    if (strcmp(arithmetic, "int8") == 0)
        return peaks->int8_ops_per_second;
    return strcmp(arithmetic, "bf16x6") == 0 && six > peaks->flops_per_second ? six : peaks->flops_per_second;
}

const char *sgm_version(void) {
    return SGM_VERSION;
}

const sgm_peaks *sgm_peaks_of(const sgm_kernels *kernels) {
#define SGM_KERNELS(table)                                                                                             \
    if (strcmp(kernels->name, #table) == 0)                                                                            \
        return &sgm_peaks_##table;
#include "kernel/list.h"
#undef SGM_KERNELS
    return &sgm_peaks_ref;
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
    *machine = (sgm_machine){.cores = sgm_usable_cores(), .memory_available_bytes = sgm_memory_available()};
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

#define READ_BYTES ((size_t)64 << 20)  /* per thread: more than its share of any cache */
#define BLOCK_BYTES ((size_t)4 << 20)  /* between looks at the clock */
#define MAPPED_BYTES ((size_t)1 << 30) /* at most so much of a file, all threads together */
#define ROUNDS 20000                   /* of arithmetic between looks at the clock */

typedef struct measurement {
    const sgm_peaks *peaks;
    double seconds; /* per quantity */
    unsigned what;
    char *memory;                /* READ_BYTES a thread */
    const unsigned char *mapped; /* mapped_bytes a thread */
    size_t mapped_bytes;
    struct result {
        sgm_machine_peaks rates; /* of this thread */
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

/* Operations a second, all threads at once. */
static double calculate(sgm_worker *worker, const measurement *m, sgm_peak_function *function) {
    struct result *result = &m->results[worker->thread];
    sgm_barrier(worker);
    double begin = seconds_now(), end, done = 0;
    do {
        done += (double)function(ROUNDS, &result->sink);
        end = seconds_now();
    } while (end - begin < m->seconds);
    return done / (end - begin);
}

/* Bytes a second, all threads at once. */
static double read_again_and_again(sgm_worker *worker, const measurement *m, const void *bytes, size_t size) {
    struct result *result = &m->results[worker->thread];
    sgm_barrier(worker);
    double begin = seconds_now(), end, done = 0;
    size_t at = 0;
    do {
        size_t block = size - at < BLOCK_BYTES ? size - at : BLOCK_BYTES;
        result->check += m->peaks->read((const char *)bytes + at, block);
        done += (double)block;
        at = at + block < size ? at + block : 0;
        end = seconds_now();
    } while (end - begin < m->seconds);
    return done / (end - begin);
}

static void measure(sgm_worker *worker, void *argument) {
    measurement *m = argument;
    struct result *result = &m->results[worker->thread];
    sgm_machine_peaks *rates = &result->rates;
    if (m->what & SGM_MEASURE_F32)
        rates->flops_per_second = calculate(worker, m, m->peaks->f32);
    if (m->what & SGM_MEASURE_BF16)
        rates->bf16_flops_per_second = calculate(worker, m, m->peaks->bf16 ? m->peaks->bf16 : m->peaks->f32);
    if (m->what & SGM_MEASURE_INT8)
        rates->int8_ops_per_second = calculate(worker, m, m->peaks->int8);
    if (m->what & SGM_MEASURE_READ) {
        char *memory = m->memory + (size_t)worker->thread * READ_BYTES;
        for (size_t i = 0; i < READ_BYTES; i += 64) /* untouched pages would all be one page of zeros */
            memory[i] = 1;
        rates->read_bytes_per_second = read_again_and_again(worker, m, memory, READ_BYTES);
    }
    if (m->what & SGM_MEASURE_MAPPED) {
        const unsigned char *mapped = m->mapped + (size_t)worker->thread * m->mapped_bytes;
        result->check += m->peaks->read(mapped, m->mapped_bytes); /* from the disk, and into the page tables */
        rates->mapped_bytes_per_second = read_again_and_again(worker, m, mapped, m->mapped_bytes);
    }
}

static sgm_status map_share(const char *file, int threads, sgm_mapping *mapping, measurement *m, sgm_error *error) {
    sgm_status status = sgm_map_open(file, mapping, error);
    if (status != SGM_OK)
        return status;
    size_t bytes = mapping->size < MAPPED_BYTES ? mapping->size : MAPPED_BYTES;
    m->mapped = mapping->data;
    m->mapped_bytes = bytes / (size_t)threads / SGM_PEAK_READ_BYTES * SGM_PEAK_READ_BYTES;
    if (m->mapped_bytes == 0)
        return sgm_fail(error, SGM_EARGUMENT,
                        "give a large file: one that fits in a cache shows the speed of that cache",
                        "%s: %zu bytes are too few to measure reading with %d threads", file, mapping->size, threads);
    return SGM_OK;
}

sgm_status sgm_machine_measure(const char *kernels, int threads, double seconds, unsigned what, const char *file,
                               sgm_machine_peaks *peaks, sgm_error *error) {
    *peaks = (sgm_machine_peaks){0};
    int quantities = 0;
    for (unsigned bits = what & SGM_MEASURE_ALL; bits; bits &= bits - 1)
        quantities++;
    if (threads < 1 || !(seconds > 0) || !(seconds <= 3600) || quantities == 0)
        return sgm_fail(error, SGM_EARGUMENT, "give at least one thread, something to measure and up to 3600 seconds",
                        "measuring %d quantities with %d threads for %g seconds", quantities, threads, seconds);
    if ((what & SGM_MEASURE_MAPPED) && !file)
        return sgm_fail(error, SGM_EARGUMENT, "give a large file", "measuring how fast a mapped file is read: no file");
    const sgm_kernels *table = NULL;
    sgm_status status = sgm_kernels_get(kernels, &table, error);
    if (status != SGM_OK)
        return status;
    const size_t bytes = what & SGM_MEASURE_READ ? (size_t)threads * READ_BYTES : 0;
    status = sgm_memory_check(bytes, "the buffers of the memory measurement", error);
    if (status != SGM_OK)
        return status;
    measurement m = {.peaks = sgm_peaks_of(table), .seconds = seconds / quantities, .what = what};
    sgm_mapping mapping = {0};
    if (what & SGM_MEASURE_MAPPED)
        status = map_share(file, threads, &mapping, &m, error);
    m.memory = bytes ? sgm_alloc(bytes) : NULL;
    m.results = sgm_alloc((size_t)threads * sizeof *m.results);
    sgm_team *team = NULL;
    if (status == SGM_OK && ((bytes && !m.memory) || !m.results))
        status = sgm_fail(error, SGM_EMEMORY, "close other programs or use fewer threads",
                          "measuring memory speed needs %zu MiB", bytes >> 20);
    if (status == SGM_OK)
        status = sgm_team_new(threads, &team, error);
    if (status == SGM_OK)
        sgm_team_run(team, measure, &m);
    for (int i = 0; i < threads && status == SGM_OK; i++) {
        const sgm_machine_peaks *rates = &m.results[i].rates;
        peaks->flops_per_second += rates->flops_per_second;
        peaks->bf16_flops_per_second += rates->bf16_flops_per_second;
        peaks->int8_ops_per_second += rates->int8_ops_per_second;
        peaks->read_bytes_per_second += rates->read_bytes_per_second;
        peaks->mapped_bytes_per_second += rates->mapped_bytes_per_second;
    }
    sgm_team_free(team);
    sgm_free(m.results);
    sgm_free(m.memory);
    if (mapping.data)
        sgm_map_close(&mapping);
    return status;
}
