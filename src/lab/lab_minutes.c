// SPDX-License-Identifier: Apache-2.0
/* Minutes into steps. Each arm makes a few steps and an evaluation in a run that is thrown away; what they cost decides the
 * number of steps once, and that number, not the clock, is what the lab keeps to. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "base/team.h"
#include "lab/lab.h"

enum { WARM_STEPS = 2, TIMED_STEPS = 5, LEAST_STEPS = 10, EVALUATIONS = 13 };
static const double spare = 0.93; /* share of the minutes that is given out: checkpoints, other programs */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The arms, shared among the jobs: with several, an arm is measured while others are. */
typedef struct probes {
    sgm_lab *lab;
    const char *folder;
    pthread_mutex_t mutex;          /* for what follows */
    pthread_cond_t left;            /* an arm that held memory */
    int64_t measured;               /* arms, now */
    bool starts;                    /* one of them, which does not hold all of its memory yet */
    double step, rest;              /* sums over arms, */
    double longest_step, most_rest; /* and the greatest of one */
    sgm_status status;              /* of the first that failed */
    sgm_error *error;
} probes;

/* To start is to ask what memory is left: one at a time, and each has used its own (in a step) before the next one asks. */
static sgm_status warm_up(sgm_config *config, const char *data, const char *run, sgm_lab *lab, sgm_trainer **trainer,
                          double *seconds, sgm_error *error) {
    const double begun = now();
    sgm_status status = sgm_trainer_start(config, &data, 1, run, NULL, lab->stop, trainer, error);
    *seconds = now() - begun;
    for (int i = 0; i < WARM_STEPS && !status; i++) {
        sgm_step_report report;
        status = sgm_trainer_step(*trainer, &report, error);
    }
    if (status) {
        sgm_trainer_close(*trainer);
        *trainer = NULL;
    }
    return status;
}

/* An arm that does not fit into memory beside those that are measured waits until one of them has left. */
static sgm_status start(probes *all, sgm_config *config, const char *run, sgm_trainer **trainer, double *seconds,
                        sgm_error *error) {
    for (;;) {
        pthread_mutex_lock(&all->mutex);
        while (all->starts)
            pthread_cond_wait(&all->left, &all->mutex);
        all->starts = true;
        const int64_t others = all->measured++;
        pthread_mutex_unlock(&all->mutex);

        sgm_status status = sgm_folder_remove(run, error);
        if (!status)
            status = warm_up(config, all->lab->data, run, all->lab, trainer, seconds, error);

        pthread_mutex_lock(&all->mutex);
        const bool waits = status == SGM_EMEMORY && others > 0;
        if (waits) {
            all->measured--;
            while (all->measured >= others)
                pthread_cond_wait(&all->left, &all->mutex);
        }
        all->starts = false;
        pthread_cond_broadcast(&all->left);
        pthread_mutex_unlock(&all->mutex);
        if (!waits)
            return status;
    }
}

static void leave(probes *all) {
    pthread_mutex_lock(&all->mutex);
    all->measured--;
    pthread_cond_broadcast(&all->left);
    pthread_mutex_unlock(&all->mutex);
}

/* Seconds of one arm: a step (median), and all that a run needs besides steps. */
static sgm_status probe(probes *all, size_t index, const char *run, double *step, double *rest, sgm_error *error) {
    sgm_config *config = NULL;
    sgm_trainer *trainer = NULL;
    double started = 0, seconds[TIMED_STEPS];
    sgm_status status = sgm_lab_config(all->lab, index, 1, 1000, &config, error);
    if (status)
        return status;
    status = start(all, config, run, &trainer, &started, error);
    for (int i = 0; i < TIMED_STEPS && !status; i++) {
        sgm_step_report report;
        status = sgm_trainer_step(trainer, &report, error);
        seconds[i] = status ? 0 : report.seconds;
    }
    double begun = now();
    if (!status)
        status = sgm_trainer_evaluate(trainer, trainer->settings->train.eval_tokens, error);
    if (!status) {
        qsort(seconds, TIMED_STEPS, sizeof *seconds, by_size);
        *step = seconds[TIMED_STEPS / 2];
        *rest = started + EVALUATIONS * (now() - begun);
    }
    sgm_trainer_close(trainer);
    leave(all);
    sgm_config_free(config);
    sgm_folder_remove(run, NULL);
    return status;
}

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to measure an arm");
}

static void probe_arms(sgm_worker *worker, void *argument) {
    probes *all = argument;
    sgm_lab *lab = all->lab;
    sgm_status status = SGM_OK;
    for (int64_t i; !status && (i = sgm_task(worker)) < (int64_t)lab->arms;) {
        double step = 0, rest = 0;
        sgm_error why = {0};
        size_t arm = lab->arm[i];
        char *run = sgm_path_join(all->folder, lab->experiment->arms[arm].settings.name);
        if (!run)
            status = no_memory(&why);
        else if (sgm_lab_stopped(lab))
            status = sgm_fail(&why, SGM_EINTERRUPTED, "the same command begins again", "interrupted while measuring");
        else
            status = probe(all, arm, run, &step, &rest, &why);
        sgm_free(run);
        pthread_mutex_lock(&all->mutex);
        all->step += step;
        all->rest += rest;
        all->longest_step = fmax(all->longest_step, step);
        all->most_rest = fmax(all->most_rest, rest);
        if (status && !all->status) {
            all->status = status;
            if (all->error)
                *all->error = why;
        }
        status = all->status; /* one that fails ends it for all */
        pthread_mutex_unlock(&all->mutex);
    }
}

sgm_status sgm_lab_measure_steps(sgm_lab *lab, double minutes, int64_t *steps, sgm_error *error) {
    lab->at_work = lab->arms;
    const int jobs = sgm_lab_jobs(lab, lab->at_work);
    char *folder = sgm_path_join(lab->folder, ".probe");
    sgm_team *team = NULL;
    probes all = {.lab = lab,
                  .folder = folder,
                  .mutex = PTHREAD_MUTEX_INITIALIZER,
                  .left = PTHREAD_COND_INITIALIZER,
                  .error = error};
    sgm_status status = folder ? sgm_folder_make(folder, error) : no_memory(error);
    if (!status)
        status = sgm_team_new(jobs, &team, error);
    if (!status) {
        sgm_team_run(team, probe_arms, &all);
        status = all.status;
    }
    sgm_team_free(team);
    pthread_cond_destroy(&all.left);
    pthread_mutex_destroy(&all.mutex);
    if (folder)
        sgm_folder_remove(folder, NULL);
    sgm_free(folder);
    if (status)
        return status;
    /* Of all arms, by the clock: one arm is never on two jobs. */
    double step = fmax(all.step / jobs, all.longest_step), rest = fmax(all.rest / jobs, all.most_rest);
    double each = 60 * minutes * spare / (double)lab->plan.seeds, fit = (each - rest) / step;
    if (fit < LEAST_STEPS) {
        double needed = (LEAST_STEPS * step + rest) * (double)lab->plan.seeds / spare / 60;
        return sgm_fail(error, SGM_EARGUMENT, "give more minutes, or fewer --arms or --seeds",
                        "--minutes %g: ten steps of every arm and seed need %.1f", minutes, needed);
    }
    *steps = (int64_t)fmin(fit, (double)SGM_LAB_STEPS) / 10 * 10; /* whole tenths */
    sgm_lab_note(lab, "a step of all arms takes %.2f s: %" PRId64 " steps for %g minutes", step, *steps, minutes);
    return SGM_OK;
}
