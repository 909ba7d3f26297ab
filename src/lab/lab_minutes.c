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
    pthread_cond_t changed;         /* one of the next six */
    int64_t measured, most;         /* arms that hold memory or are asking for it: now, and at a time so far */
    int64_t starting;               /* arms that start or want to */
    bool starts;                    /* one does: what it was promised it may not hold yet */
    bool waits;                     /* and got nothing: it waits until another one has left */
    sgm_status status;              /* of the first that failed */
    double step, rest;              /* sums over arms, */
    double longest_step, most_rest; /* and the greatest of one */
    int jobs;
    double minutes, most_seconds; /* what was asked for, and what a seed of all arms may take */
    sgm_error *error;
} probes;

/* Seconds of one seed with the fewest steps, of what is measured: by the clock, when `together` arms train at once. */
static double least_seconds(const probes *all, double together) {
    return LEAST_STEPS * fmax(all->step / together, all->longest_step) + fmax(all->rest / together, all->most_rest);
}

static sgm_status too_few_minutes(const probes *all, double seconds, const char *least, sgm_error *error) {
    double needed = all->minutes * seconds / all->most_seconds;
    return sgm_fail(error, SGM_EARGUMENT, "give more minutes, or fewer --arms or --seeds",
                    "--minutes %g: ten steps of every arm and seed need %s%.2f minutes", all->minutes, least,
                    ceil(100 * needed) / 100);
}

/* Of the arms that are measured, and what is known of one more. No more arms train at once than there are jobs, so what is too
 * much already will be refused at the end, whatever comes. */
static sgm_status still_fits(probes *all, double step, double rest, sgm_error *error) {
    pthread_mutex_lock(&all->mutex);
    probes known = {.step = all->step + step,
                    .rest = all->rest + rest,
                    .longest_step = fmax(all->longest_step, step),
                    .most_rest = fmax(all->most_rest, rest)};
    pthread_mutex_unlock(&all->mutex);
    double seconds = least_seconds(&known, all->jobs);
    return seconds <= all->most_seconds ? SGM_OK : too_few_minutes(all, seconds, "at least ", error);
}

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

/* Whether it is over for all; the mutex is held. */
static sgm_status ended(const probes *all, sgm_error *error) {
    if (!all->status && !sgm_lab_stopped(all->lab))
        return SGM_OK;
    return sgm_fail(error, SGM_EINTERRUPTED, "the same command begins again", "interrupted while measuring");
}

/* Wait for one's turn to start: nobody starts then, and it is this one of `measured`. */
static sgm_status take_turn(probes *all, sgm_error *error) {
    pthread_mutex_lock(&all->mutex);
    all->starting++;
    while (all->starts && !ended(all, NULL))
        pthread_cond_wait(&all->changed, &all->mutex);
    sgm_status status = ended(all, error);
    if (status) {
        all->starting--;
    } else {
        all->starts = true;
        all->measured++;
    }
    pthread_mutex_unlock(&all->mutex);
    return status;
}

/* The one that starts has failed, or has all of its memory. *again: another one has left, to whom what was missing belonged. */
static sgm_status end_turn(probes *all, const char *name, sgm_status status, bool *again, sgm_error *error) {
    pthread_mutex_lock(&all->mutex);
    *again = status == SGM_EMEMORY && all->measured > 1;
    if (status)
        all->measured--;
    if (*again) {
        const int64_t others = all->measured;
        sgm_lab_note(all->lab, "%s does not fit into memory beside those that are measured: it follows", name);
        all->waits = true;
        pthread_cond_broadcast(&all->changed);
        while (all->measured >= others && !ended(all, NULL))
            pthread_cond_wait(&all->changed, &all->mutex);
        all->waits = false;
    }
    if (!status && all->measured > all->most)
        all->most = all->measured;
    all->starting--;
    all->starts = false;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->mutex);
    if (*again && error)
        *error = (sgm_error){0};
    return status;
}

static sgm_status start(probes *all, sgm_config *config, const char *name, const char *run, sgm_trainer **trainer,
                        double *seconds, sgm_error *error) {
    bool again = true;
    sgm_status status = SGM_OK;
    while (again) {
        status = take_turn(all, error);
        if (status)
            return status;
        status = sgm_folder_remove(run, error);
        if (!status)
            status = warm_up(config, all->lab->data, run, all->lab, trainer, seconds, error);
        status = end_turn(all, name, status, &again, error);
    }
    return status;
}

/* What an arm costs is what it costs beside others: those that can have started by then. */
static void let_others_start(probes *all) {
    pthread_mutex_lock(&all->mutex);
    while (all->starting > 0 && !all->waits && !ended(all, NULL))
        pthread_cond_wait(&all->changed, &all->mutex);
    pthread_mutex_unlock(&all->mutex);
}

static void leave(probes *all) {
    pthread_mutex_lock(&all->mutex);
    all->measured--;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->mutex);
}

/* Seconds of one arm: a step (median), and all that a run needs besides steps. */
static sgm_status probe(probes *all, size_t index, const char *run, double *step, double *rest, sgm_error *error) {
    const char *name = all->lab->experiment->arms[index].settings.name;
    sgm_config *config = NULL;
    sgm_trainer *trainer = NULL;
    double started = 0, seconds[TIMED_STEPS];
    sgm_status status = still_fits(all, 0, 0, error);
    if (!status)
        status = sgm_lab_config(all->lab, index, 1, 1000, &config, error);
    if (!status)
        status = start(all, config, name, run, &trainer, &started, error);
    sgm_config_free(config);
    if (status) {
        sgm_folder_remove(run, NULL);
        return status;
    }
    let_others_start(all);
    status = still_fits(all, 0, started, error);
    for (int i = 0; i < TIMED_STEPS && !status; i++) {
        sgm_step_report report;
        status = sgm_trainer_step(trainer, &report, error);
        seconds[i] = status ? 0 : report.seconds;
    }
    if (!status) {
        qsort(seconds, TIMED_STEPS, sizeof *seconds, by_size);
        *step = seconds[TIMED_STEPS / 2];
        status = still_fits(all, *step, started, error);
    }
    double begun = now();
    if (!status)
        status = sgm_trainer_evaluate(trainer, trainer->settings->train.eval_tokens, error);
    if (!status)
        *rest = started + EVALUATIONS * (now() - begun);
    sgm_trainer_close(trainer);
    sgm_folder_remove(run, NULL);
    leave(all);
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
        pthread_cond_broadcast(&all->changed);
        pthread_mutex_unlock(&all->mutex);
    }
}

sgm_status sgm_lab_measure_steps(sgm_lab *lab, double minutes, int64_t *steps, sgm_error *error) {
    const int jobs = sgm_lab_jobs(lab, lab->arms);
    char *folder = sgm_path_join(lab->folder, SGM_LAB_PROBE);
    sgm_team *team = NULL;
    probes all = {.lab = lab,
                  .folder = folder,
                  .mutex = PTHREAD_MUTEX_INITIALIZER,
                  .changed = PTHREAD_COND_INITIALIZER,
                  .jobs = jobs,
                  .minutes = minutes,
                  .most_seconds = 60 * minutes * spare / (double)lab->plan.seeds,
                  .error = error};
    sgm_status status = folder ? sgm_folder_make(folder, error) : no_memory(error);
    if (!status)
        status = sgm_team_new(jobs, &team, error);
    if (!status) {
        sgm_team_run(team, probe_arms, &all);
        status = all.status;
    }
    sgm_team_free(team);
    pthread_cond_destroy(&all.changed);
    pthread_mutex_destroy(&all.mutex);
    if (folder)
        sgm_folder_remove(folder, NULL);
    sgm_free(folder);
    if (status)
        return status;
    /* Of all arms, by the clock: one arm is never on two jobs, and no more train at once than memory held. */
    const double together = fmax((double)all.most, 1), step = fmax(all.step / together, all.longest_step);
    if (least_seconds(&all, together) > all.most_seconds)
        return too_few_minutes(&all, least_seconds(&all, together), "", error);
    const double fit = LEAST_STEPS + (all.most_seconds - least_seconds(&all, together)) / step;
    *steps = (int64_t)fmin(fit, (double)SGM_LAB_STEPS) / 10 * 10; /* whole tenths */
    sgm_lab_note(lab, "a step of all arms takes %.3g s: %" PRId64 " steps for %g minutes", step, *steps, minutes);
    return SGM_OK;
}
