// SPDX-License-Identifier: Apache-2.0
/* The thread team. A barrier counts arrivals; the last one opens the next generation. Waiters spin for a short while (a
 * phase is microseconds), then sleep on a condition variable, so that an oversubscribed machine does not burn its
 * cores. A team larger than the cores never spins: it would only keep those off them for whom it waits. */
#include "base/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/memory.h"
#include "sigmoe/machine.h"

enum { SPINS = 2000 };

struct sgm_team {
    int threads, spins;
    pthread_t *handle;
    sgm_worker *worker;

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int sleepers; /* under mutex */

    _Alignas(SGM_ALIGN) atomic_int arrived;
    _Alignas(SGM_ALIGN) atomic_uint generation;
    _Alignas(SGM_ALIGN) atomic_llong next_task;

    /* Work: written by thread 0 before the barrier that releases the others. */
    void (*work)(sgm_worker *worker, void *argument);
    void *argument;
    bool quit;
    int start; /* under mutex: 0 the team is being made, 1 it is complete, -1 it could not be made */
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void sgm_barrier(sgm_worker *worker) {
    sgm_team *team = worker->team;
    if (team->threads == 1) {
        atomic_store_explicit(&team->next_task, 0, memory_order_relaxed);
        return;
    }
    unsigned generation = atomic_load_explicit(&team->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->threads - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next_task, 0, memory_order_relaxed);
        pthread_mutex_lock(&team->mutex);
        atomic_store_explicit(&team->generation, generation + 1, memory_order_release);
        if (team->sleepers)
            pthread_cond_broadcast(&team->wake);
        pthread_mutex_unlock(&team->mutex);
        return;
    }
    for (int i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(&team->generation, memory_order_acquire) != generation)
            return;
        relax();
    }
    pthread_mutex_lock(&team->mutex);
    team->sleepers++;
    while (atomic_load_explicit(&team->generation, memory_order_acquire) == generation)
        pthread_cond_wait(&team->wake, &team->mutex);
    team->sleepers--;
    pthread_mutex_unlock(&team->mutex);
}

int64_t sgm_task(sgm_worker *worker) {
    return atomic_fetch_add_explicit(&worker->team->next_task, 1, memory_order_relaxed);
}

void sgm_split(const sgm_worker *worker, int64_t n, int64_t grain, int64_t *begin, int64_t *end) {
    int64_t grains = (n + grain - 1) / grain;
    int64_t first = grains * worker->thread / worker->threads * grain;
    int64_t last = grains * (worker->thread + 1) / worker->threads * grain;
    *begin = first < n ? first : n;
    *end = last < n ? last : n;
}

int sgm_usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t names */
    return online > 0 && online <= INT32_MAX ? (int)online : 1;
}

/* Threads other than the caller's: wait for work, do it, wait. */
static void *thread_main(void *argument) {
    sgm_worker *worker = argument;
    sgm_team *team = worker->team;
    pthread_mutex_lock(&team->mutex);
    while (team->start == 0)
        pthread_cond_wait(&team->wake, &team->mutex);
    bool complete = team->start > 0;
    pthread_mutex_unlock(&team->mutex);
    if (!complete)
        return NULL;
    for (;;) {
        sgm_barrier(worker); /* released by sgm_team_run */
        if (team->quit)
            return NULL;
        team->work(worker, team->argument);
        sgm_barrier(worker); /* lets sgm_team_run return */
    }
}

void sgm_team_run(sgm_team *team, void (*work)(sgm_worker *worker, void *argument), void *argument) {
    team->work = work;
    team->argument = argument;
    sgm_barrier(&team->worker[0]);
    work(&team->worker[0], argument);
    sgm_barrier(&team->worker[0]);
}

int sgm_team_threads(const sgm_team *team) {
    return team->threads;
}

sgm_status sgm_team_new(int threads, sgm_team **out, sgm_error *error) {
    if (threads < 1 || threads > SGM_THREADS_MOST)
        return sgm_fail(error, SGM_EARGUMENT, "use a number from 1 to the number of cores",
                        "a team cannot have %d threads", threads);
    sgm_team *team = sgm_alloc(sizeof *team);
    if (!team)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a thread team");
    team->handle = sgm_alloc((size_t)threads * sizeof *team->handle);
    team->worker = sgm_alloc((size_t)threads * sizeof *team->worker);
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    if (!team->handle || !team->worker) {
        team->threads = 1; /* none to join */
        sgm_team_free(team);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a thread team");
    }
    for (int i = 0; i < threads; i++)
        team->worker[i] = (sgm_worker){.thread = i, .threads = threads, .team = team};
    team->threads = threads;
    team->spins = threads <= sgm_usable_cores() ? SPINS : 0;
    int started = 1, failure = 0;
    for (; started < threads && !failure; started += !failure)
        failure = pthread_create(&team->handle[started], NULL, thread_main, &team->worker[started]);
    pthread_mutex_lock(&team->mutex);
    team->start = failure ? -1 : 1;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
    if (failure) {
        for (int i = 1; i < started; i++)
            pthread_join(team->handle[i], NULL);
        team->threads = 1;
        sgm_team_free(team);
        return sgm_fail(error, SGM_EMEMORY, "use fewer threads", "the system refused thread %d of %d", started + 1,
                        threads);
    }
    *out = team;
    return SGM_OK;
}

void sgm_team_free(sgm_team *team) {
    if (!team)
        return;
    if (team->threads > 1) {
        team->quit = true;
        sgm_barrier(&team->worker[0]);
        for (int i = 1; i < team->threads; i++)
            pthread_join(team->handle[i], NULL);
    }
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    sgm_free(team->handle);
    sgm_free(team->worker);
    sgm_free(team);
}
