// SPDX-License-Identifier: Apache-2.0
/* Running another program to its end, without a shell. */
#ifndef SGM_DATA_PROCESS_H
#define SGM_DATA_PROCESS_H

#include "sigmoe/error.h"

/* Run argv[0] (looked up in PATH) in `folder` (NULL: here) with standard output into file `output` (NULL: discarded)
 * and standard error into `log` (NULL: discarded); standard input is empty. SGM_EUNSUPPORTED when there is no such
 * program; SGM_EIO names the program and the last line of the log when it fails. */
sgm_status sgm_process_run(const char *const *argv, const char *folder, const char *output, const char *log,
                           sgm_error *error);

#endif
