// SPDX-License-Identifier: Apache-2.0
/* Minutes into steps. Each arm makes a few steps and an evaluation in a run that is thrown away; what they cost decides the
 * number of steps once, and that number, not the clock, is what the lab keeps to. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
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

/* Seconds of one arm: a step (median), and all that a run needs besides steps. */
static sgm_status probe(sgm_lab *lab, size_t index, const char *run, double *step, double *rest, sgm_error *error) {
    sgm_config *config = NULL;
    sgm_trainer *trainer = NULL;
    double begun = now(), seconds[TIMED_STEPS];
    const char *data[] = {lab->data};
    sgm_status status = sgm_folder_remove(run, error);
    if (!status)
        status = sgm_lab_config(lab, index, 1, 1000, &config, error);
    if (!status)
        status = sgm_trainer_start(config, data, 1, run, NULL, lab->stop, &trainer, error);
    double started = now() - begun;
    for (int i = 0; i < WARM_STEPS + TIMED_STEPS && !status; i++) {
        sgm_step_report report;
        status = sgm_trainer_step(trainer, &report, error);
        if (i >= WARM_STEPS)
            seconds[i - WARM_STEPS] = report.seconds;
    }
    begun = now();
    if (!status)
        status = sgm_trainer_evaluate(trainer, trainer->settings->train.eval_tokens, error);
    if (!status) {
        qsort(seconds, TIMED_STEPS, sizeof *seconds, by_size);
        *step = seconds[TIMED_STEPS / 2];
        *rest = started + EVALUATIONS * (now() - begun);
    }
    sgm_trainer_close(trainer);
    sgm_config_free(config);
    sgm_folder_remove(run, NULL);
    return status;
}

sgm_status sgm_lab_measure_steps(sgm_lab *lab, double minutes, int64_t *steps, sgm_error *error) {
    double step = 0, rest = 0;
    char *run = sgm_path_join(lab->folder, ".probe");
    sgm_status status = run ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to measure an arm");
    for (size_t i = 0; i < lab->arms && !status; i++) {
        double arm_step = 0, arm_rest = 0;
        if (sgm_lab_stopped(lab))
            status = sgm_fail(error, SGM_EINTERRUPTED, "the same command begins again", "interrupted while measuring");
        else
            status = probe(lab, lab->arm[i], run, &arm_step, &arm_rest, error);
        step += arm_step;
        rest += arm_rest;
    }
    sgm_free(run);
    if (status)
        return status;
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
