// SPDX-License-Identifier: Apache-2.0
/* For tests of what survives a crash or a failing disk: a hook that is asked before every call by which this folder changes
 * the file system. It may end the process there, or return an errno with which the call then fails. Nothing in the library
 * or the program sets it. */
#ifndef SGM_BASE_FAULT_H
#define SGM_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

typedef int sgm_fault_hook(const char *call, const char *path); /* 0: go on */
extern sgm_fault_hook *sgm_fault;                               /* NULL: go on always */

/* For tests of what does not fit: answers in place of sgm_memory_available. NULL: nobody. */
extern uint64_t (*sgm_fault_memory)(void);

/* Whether the call is to fail; errno is set then. */
bool sgm_faulted(const char *call, const char *path);

#endif
