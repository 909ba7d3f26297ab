// SPDX-License-Identifier: Apache-2.0
/* The thread team: pthreads that enter a piece of work together and walk through it with barriers.
 *
 * There is no fork and join per operation. A caller runs one function on all threads (`sgm_team_run`); inside, phases
 * are separated by `sgm_barrier`. Between two barriers threads share work either by a fixed split (`sgm_split`) or by
 * drawing task numbers (`sgm_task`). Who computes a task never changes its result, only when it is ready. A team is
 * created by the program, passed in, never hidden and never global. The calling thread is thread 0. */
#ifndef SGM_BASE_TEAM_H
#define SGM_BASE_TEAM_H

#include <stdint.h>

#include "sigmoe/error.h"

typedef struct sgm_team sgm_team;

typedef struct sgm_worker {
    int thread;  /* 0 … threads-1 */
    int threads; /* team size */
    sgm_team *team;
} sgm_worker;

/* Cores this process may run on: what an affinity mask or a container leaves of the machine. At least 1. */
int sgm_usable_cores(void);

sgm_status sgm_team_new(int threads, sgm_team **team, sgm_error *error); /* threads >= 1 */
void sgm_team_free(sgm_team *team);
int sgm_team_threads(const sgm_team *team);

/* Run `work(worker, argument)` on every thread of the team and return when all are done. Not reentrant. */
void sgm_team_run(sgm_team *team, void (*work)(sgm_worker *worker, void *argument), void *argument);

/* Wait until every thread of the team is here; memory written before is visible after. Also starts a new phase of
 * `sgm_task` numbers at 0. Spins briefly, then sleeps. */
void sgm_barrier(sgm_worker *worker);

/* The next task number of this phase: every value 0, 1, 2, … is handed to exactly one thread. Use as
 * `for (int64_t i; (i = sgm_task(w)) < tasks;)`. At most one such loop stands between two barriers. */
int64_t sgm_task(sgm_worker *worker);

/* This thread's contiguous share [*begin, *end) of n items, in multiples of `grain` (>= 1). */
void sgm_split(const sgm_worker *worker, int64_t n, int64_t grain, int64_t *begin, int64_t *end);

#endif
