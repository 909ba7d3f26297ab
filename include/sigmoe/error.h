// SPDX-License-Identifier: Apache-2.0
/* Status codes and the caller-owned error record.
 *
 * Every function of sigmoe that can fail returns an sgm_status: 0 (SGM_OK) or one of the pinned negative values
 * below. Its last argument is a nullable `sgm_error *` owned by the caller; on failure it receives a message
 * ("what, where, why") and, where there is something to do about it, a hint ("what to do next"). The library keeps no
 * global error state, never prints, never exits and never aborts. */
#ifndef SIGMOE_ERROR_H
#define SIGMOE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The values are part of the ABI: add at the end, never renumber. Name, value, short description. */
#define SGM_STATUS_MAP(XX)                                                                                             \
    XX(OK, 0, "done")                                                                                                  \
    XX(EARGUMENT, -1, "an argument or a configuration value is wrong")                                                 \
    XX(EMEMORY, -2, "not enough memory")                                                                               \
    XX(EIO, -3, "reading or writing failed")                                                                           \
    XX(EFORMAT, -4, "an input file is damaged or of another format")                                                   \
    XX(ENOTFOUND, -5, "a file or a name does not exist")                                                               \
    XX(EEXISTS, -6, "it exists already")                                                                               \
    XX(ENUMERIC, -7, "a value is not finite")                                                                          \
    XX(ESPACE, -8, "a buffer or the context is too small")                                                             \
    XX(EBUSY, -9, "another process is using it")                                                                       \
    XX(EINTERRUPTED, -10, "interrupted after a clean save")                                                            \
    XX(EUNSUPPORTED, -11, "this build or this file does not support it")                                               \
    XX(EINTERNAL, -12, "a bug in sigmoe")                                                                              \
    XX(EPERMISSION, -13, "this user may not read it")

typedef enum sgm_status {
#define XX(name, value, text) SGM_##name = (value),
    SGM_STATUS_MAP(XX)
#undef XX
} sgm_status;

typedef struct sgm_error {
    sgm_status code;
    char message[768];
    char hint[384];
} sgm_error;

/* The short description of a status; never NULL. */
const char *sgm_status_text(sgm_status status);

/* Fill `error` (may be NULL) and return `code`, so that callers write `return sgm_fail(e, SGM_EIO, hint, "...", ...)`.
 * `hint` may be NULL; of SGM_EMEMORY the record then says what always helps. Text longer than the record is cut at a UTF-8
 * boundary. */
sgm_status sgm_fail(sgm_error *error, sgm_status code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#ifdef __clang_analyzer__ /* tell static analysis that a failure is never SGM_OK */
#define sgm_fail(error, code, ...) (sgm_fail(error, code, __VA_ARGS__), (code))
#endif

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
