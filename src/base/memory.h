// SPDX-License-Identifier: Apache-2.0
/* Memory: aligned blocks that are counted, and a bump arena.
 *
 * All heap memory of the library comes from here, so that a test can prove that a training step allocates nothing, and
 * so that "not enough memory" is said before anything is touched. */
#ifndef SGM_BASE_MEMORY_H
#define SGM_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"

#define SGM_ALIGN 64 /* bytes: a cache line, and the widest vector */

/* `bytes` zeroed bytes aligned to SGM_ALIGN, or NULL. Large blocks are fresh zero pages, so this costs nothing until
 * they are written. Free with sgm_free (NULL is fine). */
void *sgm_alloc(size_t bytes);
void *sgm_resize(void *block, size_t old_bytes, size_t new_bytes); /* new tail zeroed; NULL leaves `block` as it was */
void sgm_free(void *block);
char *sgm_strdup(const char *text);
char *sgm_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* heap string, sgm_free */

/* Calls of sgm_alloc/sgm_resize since the process began (atomic). */
uint64_t sgm_alloc_count(void);

/* Memory this process may still use: the smaller of the machine's available memory and what its cgroup leaves. */
uint64_t sgm_memory_available(void);

/* "17 bytes", "1.5 MiB", "293 GiB", as the program prints sizes. */
typedef struct sgm_bytes_label {
    char text[24];
} sgm_bytes_label;
sgm_bytes_label sgm_bytes_text(uint64_t bytes);
/* SGM_EMEMORY with a message that names `what` and both sizes when `bytes` would not fit. */
sgm_status sgm_memory_check(uint64_t bytes, const char *what, sgm_error *error);

static inline size_t sgm_round_up(size_t bytes) {
    return (bytes + (SGM_ALIGN - 1)) & ~(size_t)(SGM_ALIGN - 1);
}

/* Lay out arrays in one block: run once with NULL for the size in *used, then with the block for the addresses. */
static inline void *sgm_carve(char *block, size_t *used, size_t count, size_t size) {
    void *part = block ? block + *used : NULL;
    *used += sgm_round_up(count * size);
    return part;
}

/* A growing byte buffer. */
typedef struct sgm_buffer {
    char *data; /* always NUL-terminated once anything was added */
    size_t size, capacity;
} sgm_buffer;
sgm_status sgm_buffer_add(sgm_buffer *buffer, const void *bytes, size_t size);
sgm_status sgm_buffer_print(sgm_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sgm_buffer_free(sgm_buffer *buffer);

#endif
