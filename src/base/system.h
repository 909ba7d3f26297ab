// SPDX-License-Identifier: Apache-2.0
/* Turning the system's errno into a status and a message. */
#ifndef SGM_BASE_SYSTEM_H
#define SGM_BASE_SYSTEM_H

#include "sigmoe/error.h"

/* "cannot <action> <path>: <reason>" with a hint where there is something to do about it. ENOENT and ENOTDIR are
 * SGM_ENOTFOUND, EISDIR is SGM_EARGUMENT, EEXIST is SGM_EEXISTS, ENOMEM is SGM_EMEMORY, everything else (a full disk too)
 * SGM_EIO. */
sgm_status sgm_fail_errno(sgm_error *error, int number, const char *action, const char *path);
#ifdef __clang_analyzer__ /* tell static analysis that a failure is never SGM_OK */
#define sgm_fail_errno(error, number, action, path) (sgm_fail_errno(error, number, action, path), SGM_EIO)
#endif

#endif
