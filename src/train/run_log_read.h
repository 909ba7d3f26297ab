// SPDX-License-Identifier: Apache-2.0
/* Reading a run log: for reports and for labs, which change nothing in it. */
#ifndef SGM_TRAIN_RUN_LOG_READ_H
#define SGM_TRAIN_RUN_LOG_READ_H

#include <stdint.h>
#include <string.h>

#include "sigmoe/error.h"

struct sqlite3;

/* Begin to read `path`: *db sees one state of it, whatever a run writes meanwhile. Works where nothing can be written, too,
 * unless the newest rows are in a log beside the file (SGM_EIO). Errors as below; *db is the caller's, also then: to
 * sqlite3_close. */
sgm_status sgm_run_log_read(const char *path, const char *hint, struct sqlite3 **db, sgm_error *error);
/* The error of `db`: SGM_EFORMAT with `hint`, what to do about a damaged file, or SGM_EIO where the file itself is not to blame. */
sgm_status sgm_run_log_unreadable(struct sqlite3 *db, const char *path, const char *hint, sgm_error *error);

/* The versions from which on there are things that a reader may lack (docs/formats.md). */
enum { SGM_RUN_LOG_HAS_DOMAINS = 3, SGM_RUN_LOG_HAS_COMPUTED = 4 };

/* One number of a blob of counts or probabilities. */
static inline uint32_t sgm_run_log_u32(const unsigned char *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline float sgm_run_log_f32(const unsigned char *b) {
    uint32_t bits = sgm_run_log_u32(b);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
