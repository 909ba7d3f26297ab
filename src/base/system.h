// SPDX-License-Identifier: Apache-2.0
/* Turning the system's errno into a status and a message; opening what is to be read. */
#ifndef SGM_BASE_SYSTEM_H
#define SGM_BASE_SYSTEM_H

#include <stdint.h>

#include "sigmoe/error.h"

/* "cannot <action> <path>: <reason>" with a hint where there is something to do about it. ENOENT and ENOTDIR are
 * SGM_ENOTFOUND, EISDIR is SGM_EARGUMENT, EEXIST is SGM_EEXISTS, ENOMEM is SGM_EMEMORY, everything else (a full disk, no
 * permission) SGM_EIO. */
sgm_status sgm_fail_errno(sgm_error *error, int number, const char *action, const char *path);
/* The same of what was to be read: without permission it is SGM_EPERMISSION. */
sgm_status sgm_fail_input(sgm_error *error, int number, const char *action, const char *path);
/* The same of what was to be made: where its folder is missing no input is, so that is SGM_EIO. */
sgm_status sgm_fail_output(sgm_error *error, int number, const char *action, const char *path);
#ifdef __clang_analyzer__ /* tell static analysis that a failure is never SGM_OK */
#define sgm_fail_errno(error, number, action, path) (sgm_fail_errno(error, number, action, path), SGM_EIO)
#define sgm_fail_input(error, number, action, path) (sgm_fail_input(error, number, action, path), SGM_EIO)
#define sgm_fail_output(error, number, action, path) (sgm_fail_output(error, number, action, path), SGM_EIO)
#endif

/* Open a regular file for reading and tell its size; a folder is SGM_EARGUMENT, a pipe or a device SGM_EFORMAT. */
sgm_status sgm_open_regular(const char *path, int *fd, uint64_t *size, sgm_error *error);

#endif
