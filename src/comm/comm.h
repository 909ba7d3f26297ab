// SPDX-License-Identifier: Apache-2.0
/* Communicators: how expert rows travel between ranks. On one machine (`self`) nothing travels: start and finish return
 * the sender's rows. Both are called by thread 0 between barriers; start may return before the data is there. */
#ifndef SGM_COMM_COMM_H
#define SGM_COMM_COMM_H

#include <stdint.h>

#include "base/real.h"

typedef struct sgm_comm {
    const char *name;
    int rank, ranks;
    /* Exchange rows of `cols` elements sorted by expert: those of expert e are offset[e] … offset[e + 1] − 1. */
    void (*dispatch_start)(struct sgm_comm *comm, const sgm_real *rows, int64_t cols, const int64_t *offset,
                           int64_t experts);
    const sgm_real *(*dispatch_finish)(struct sgm_comm *comm);
    void *self;
} sgm_comm;

sgm_comm sgm_comm_self(void);

#endif
