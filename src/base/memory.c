// SPDX-License-Identifier: Apache-2.0
/* Counted, aligned, zeroed heap blocks; growing buffers; how much memory is left. */
#include "base/memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/text_print.h"

static _Atomic uint64_t allocations;

/* From this size on a block comes from mmap: fresh zero pages, returned to the system when freed. A header page-aligned
 * ahead of the block says how it was made. */
#define LARGE_BYTES ((size_t)1 << 22)

typedef struct header {
    size_t mapped_bytes; /* 0: from the heap */
    char padding[SGM_ALIGN - sizeof(size_t)];
} header;

void *sgm_alloc(size_t bytes) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (bytes > SIZE_MAX - 2 * sizeof(header) - SGM_ALIGN)
        return NULL;
    size_t total = sgm_round_up(bytes) + sizeof(header);
    header *block;
    if (total >= LARGE_BYTES) {
        block = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (block == MAP_FAILED)
            return NULL;
        madvise(block, total, MADV_HUGEPAGE); /* advice: failing is fine */
        block->mapped_bytes = total;
    } else {
        block = aligned_alloc(SGM_ALIGN, total);
        if (!block)
            return NULL;
        memset(block, 0, total);
    }
    return block + 1;
}

void *sgm_resize(void *block, size_t old_bytes, size_t new_bytes) {
    void *fresh = sgm_alloc(new_bytes);
    if (!fresh)
        return NULL;
    if (block) {
        memcpy(fresh, block, old_bytes < new_bytes ? old_bytes : new_bytes);
        sgm_free(block);
    }
    return fresh;
}

void sgm_free(void *block) {
    if (!block)
        return;
    header *start = (header *)block - 1;
    if (start->mapped_bytes)
        munmap(start, start->mapped_bytes);
    else
        free(start);
}

char *sgm_strdup(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = sgm_alloc(n);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}

char *sgm_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = sgm_text_vprint(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0)
        return NULL;
    char *text = sgm_alloc((size_t)n + 1);
    if (!text)
        return NULL;
    va_start(arguments, format);
    sgm_text_vprint(text, (size_t)n + 1, format, arguments);
    va_end(arguments);
    return text;
}

uint64_t sgm_alloc_count(void) {
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

static uint64_t number_in_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file)
        return UINT64_MAX;
    uint64_t value = UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &value) != 1)
        value = UINT64_MAX; /* "max" */
    fclose(file);
    return value;
}

/* The value behind `key` in a file of lines "key value", 0 when it is not there. */
static uint64_t number_of_key(const char *path, const char *key) {
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    char line[256], name[64];
    uint64_t value, found = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%63[^ :]%*[ :]%" SCNu64, name, &value) == 2 && strcmp(name, key) == 0)
            found = value;
    fclose(file);
    return found;
}

/* What one control group leaves: its limit less what it uses, where the file cache counts as free because the kernel
 * takes it back before anyone is refused memory. UINT64_MAX without a limit. */
static uint64_t left_in_group(const char *folder, const char *limit_file, const char *used_file,
                              const char *cache_key) {
    char path[4352];
    snprintf(path, sizeof path, "%s/%s", folder, limit_file);
    uint64_t limit = number_in_file(path);
    if (limit == UINT64_MAX)
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s/%s", folder, used_file);
    uint64_t used = number_in_file(path);
    if (used == UINT64_MAX)
        return limit;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    uint64_t cache = number_of_key(path, cache_key);
    used -= cache < used ? cache : used;
    return used < limit ? limit - used : 0;
}

/* The files of a version of control groups. */
typedef struct group_files {
    const char *root, *limit, *used, *cache_key;
} group_files;

/* What a group and every one above it leave. Inside a container the root of the tree is the container's own group. */
static uint64_t left_in_tree(const group_files *files, const char *group) {
    char folder[4224];
    size_t root = strlen(files->root);
    snprintf(folder, sizeof folder, "%s%s", files->root, group);
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t left = left_in_group(folder, files->limit, files->used, files->cache_key);
        least = left < least ? left : least;
        char *slash = strrchr(folder, '/');
        if ((size_t)(slash - folder) < root)
            return least;
        *slash = '\0';
    }
}

/* Lines of our groups: "0::PATH" is version 2, "N:…,memory,…:PATH" version 1. */
static uint64_t left_in_groups(void) {
    static const group_files one = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                    "total_inactive_file"};
    static const group_files two = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
    char line[4096], mine_one[4096] = "", mine_two[4096] = "";
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *kinds = strchr(line, ':'), *path = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (strncmp(line, "0:", 2) == 0 && !kinds[1])
            snprintf(mine_two, sizeof mine_two, "%s", path);
        for (char *rest, *kind = strtok_r(kinds + 1, ",", &rest); kind; kind = strtok_r(NULL, ",", &rest))
            if (strcmp(kind, "memory") == 0)
                snprintf(mine_one, sizeof mine_one, "%s", path);
    }
    if (file)
        fclose(file);
    uint64_t first = left_in_tree(&one, mine_one), second = left_in_tree(&two, mine_two);
    return first < second ? first : second;
}

/* Of the address space, where it is limited (ulimit -v). */
static uint64_t left_of_addresses(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    uint64_t pages = number_in_file("/proc/self/statm"); /* the first number is the size of all that is mapped */
    if (pages == UINT64_MAX)
        return limit.rlim_cur;
    uint64_t used = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return used < limit.rlim_cur ? limit.rlim_cur - used : 0;
}

uint64_t (*sgm_fault_memory)(void);

uint64_t sgm_memory_available(void) {
    if (sgm_fault_memory)
        return sgm_fault_memory();
    uint64_t kib = number_of_key("/proc/meminfo", "MemAvailable"), groups = left_in_groups();
    uint64_t machine = kib ? kib * 1024 : UINT64_MAX, addresses = left_of_addresses();
    uint64_t least = machine < groups ? machine : groups;
    return addresses < least ? addresses : least;
}

/* Tenths by hand: a decimal point in every locale. */
sgm_bytes_label sgm_bytes_text(uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    sgm_bytes_label label;
    uint64_t rest = 0;
    int unit = 0;
    for (; bytes >= 1024 && unit < 6; unit++) {
        rest = bytes % 1024;
        bytes /= 1024;
    }
    if (unit && bytes < 100)
        snprintf(label.text, sizeof label.text, "%u.%u %s", (unsigned)bytes, (unsigned)(rest * 10 / 1024), units[unit]);
    else
        snprintf(label.text, sizeof label.text, "%u %s", (unsigned)bytes, bytes == 1 && !unit ? "byte" : units[unit]);
    return label;
}

sgm_status sgm_memory_check(uint64_t bytes, const char *what, sgm_error *error) {
    uint64_t available = sgm_memory_available();
    if (bytes <= available)
        return SGM_OK;
    return sgm_fail(error, SGM_EMEMORY, "take a smaller preset, fewer tokens per micro-batch, or a bigger machine",
                    "not enough memory for %s: it needs %s, %s are available", what, sgm_bytes_text(bytes).text,
                    sgm_bytes_text(available).text);
}

static sgm_status buffer_reserve(sgm_buffer *buffer, size_t extra) {
    if (buffer->capacity - buffer->size > extra)
        return SGM_OK;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity - buffer->size <= extra) {
        if (capacity > SIZE_MAX / 2)
            return SGM_EMEMORY;
        capacity *= 2;
    }
    char *data = sgm_resize(buffer->data, buffer->size, capacity);
    if (!data)
        return SGM_EMEMORY;
    buffer->data = data;
    buffer->capacity = capacity;
    return SGM_OK;
}

sgm_status sgm_buffer_add(sgm_buffer *buffer, const void *bytes, size_t size) {
    sgm_status status = buffer_reserve(buffer, size);
    if (status)
        return status;
    if (size)
        memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
    buffer->data[buffer->size] = '\0';
    return SGM_OK;
}

sgm_status sgm_buffer_print(sgm_buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = sgm_text_vprint(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0)
        return SGM_EINTERNAL;
    sgm_status status = buffer_reserve(buffer, (size_t)n);
    if (status)
        return status;
    va_start(arguments, format);
    sgm_text_vprint(buffer->data + buffer->size, (size_t)n + 1, format, arguments);
    va_end(arguments);
    buffer->size += (size_t)n;
    return SGM_OK;
}

void sgm_buffer_free(sgm_buffer *buffer) {
    sgm_free(buffer->data);
    *buffer = (sgm_buffer){0};
}
