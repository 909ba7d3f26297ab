// SPDX-License-Identifier: Apache-2.0
/* A lab from its folder to its results: what was decided is read or fixed, the runs there are must be those of this
 * experiment, then seed after seed is trained. Killed at any instant, the same command goes on: every run is a run folder,
 * and what else there is is written by renaming. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/team.h"
#include "base/text_print.h"
#include "lab/lab.h"
#include "lab/results.h"

void sgm_lab_note(const sgm_lab *lab, const char *format, ...) {
    char text[1000];
    va_list list;
    va_start(list, format);
    sgm_text_vprint(text, sizeof text, format, list);
    va_end(list);
    if (lab->events.note)
        lab->events.note(lab->events.context, text);
}

bool sgm_lab_stopped(const sgm_lab *lab) {
    return lab->stop && __atomic_load_n(lab->stop, __ATOMIC_RELAXED);
}

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a lab");
}

int sgm_lab_jobs(const sgm_lab *lab, size_t arms) {
    size_t jobs = lab->options->jobs > 1 ? (size_t)lab->options->jobs : 1;
    return (int)(jobs < arms ? jobs : arms ? arms : 1);
}

int sgm_lab_threads(const sgm_lab *lab, size_t index) {
    /* of all jobs, however few arms are left: those that are added later, or end last, have what the others had */
    int jobs = sgm_lab_jobs(lab, SIZE_MAX), cores = sgm_usable_cores();
    const char *own = sgm_config_get(lab->experiment->arms[index].config, "train.threads");
    if (lab->options->threads > 0)
        return (int)lab->options->threads;
    if (jobs > 1 || lab->options->threads == SGM_LAB_SHARE)
        return cores > jobs ? cores / jobs : 1;
    return own && atoi(own) > 0 ? atoi(own) : cores;
}

sgm_status sgm_lab_config(const sgm_lab *lab, size_t index, int64_t seed, int64_t steps, sgm_config **config,
                          sgm_error *error) {
    char number[32];
    sgm_status status = sgm_config_copy(lab->experiment->arms[index].config, config, error);
    if (!status)
        status = sgm_experiment_set_steps(*config, steps, error);
    snprintf(number, sizeof number, "%" PRId64, seed);
    if (!status)
        status = sgm_config_set(*config, "train.seed", number, "lab", error);
    const bool shared = lab->options->threads == 0 && sgm_lab_jobs(lab, SIZE_MAX) > 1;
    snprintf(number, sizeof number, "%d", sgm_lab_threads(lab, index));
    if (!status && (shared || lab->options->threads != 0))
        status = sgm_config_set(*config, "train.threads", number, shared ? "--jobs" : "--threads", error);
    return status;
}

/* ---- the plan ------------------------------------------------------------------------------------------------- */

static bool same_texts(char *const *a, size_t a_count, const char *const *b, size_t b_count) {
    bool same = a_count == b_count;
    for (size_t i = 0; same && i < a_count; i++)
        same = strcmp(a[i], b[i]) == 0;
    return same;
}

static sgm_status differs(const sgm_lab *lab, const char *what, sgm_error *error) {
    return sgm_fail(error, SGM_EARGUMENT, "leave it out to go on, or take another --out",
                    "%s: this lab has begun with other %s", lab->folder, what);
}

/* The plan that is there; what is asked for now must agree with it. More seeds and more arms are no contradiction. */
static sgm_status go_on(sgm_lab *lab, sgm_error *error) {
    const sgm_lab_options *o = lab->options;
    sgm_lab_plan *plan = &lab->plan;
    if (o->steps > 0 && o->steps != plan->steps)
        return differs(lab, "--steps", error);
    if (o->setting_count && !same_texts(plan->settings, plan->setting_count, o->settings, o->setting_count))
        return differs(lab, "--set", error);
    if (o->data_count && !same_texts(plan->data, plan->data_count, o->data, o->data_count))
        return differs(lab, "--data", error);
    plan->seeds = o->seeds > plan->seeds ? o->seeds : plan->seeds;
    if (o->minutes > 0)
        sgm_lab_note(lab, "the number of steps was fixed when this lab began: %" PRId64, plan->steps);
    return SGM_OK;
}

static sgm_status begin_plan(sgm_lab *lab, sgm_error *error) {
    const sgm_lab_options *o = lab->options;
    sgm_lab_plan *plan = &lab->plan;
    *plan = (sgm_lab_plan){.seeds = o->seeds, .steps = o->steps, .minutes = o->minutes > 0 ? o->minutes : (double)NAN};
    if (o->steps > 0 && o->minutes > 0)
        return sgm_fail(error, SGM_EARGUMENT, "give one of them", "--steps and --minutes both say how long it takes");
    sgm_status status = sgm_lab_texts(o->settings, o->setting_count, &plan->settings, &plan->setting_count, error);
    return status ? status : sgm_lab_texts(o->data, o->data_count, &plan->data, &plan->data_count, error);
}

/* Arms of this call into lab->arm, and into the plan beside those of calls before. */
static sgm_status choose_arms(sgm_lab *lab, bool fresh, sgm_error *error) {
    const sgm_experiment *experiment = lab->experiment;
    const sgm_lab_options *o = lab->options;
    sgm_lab_plan *plan = &lab->plan;
    const char *names[SGM_EXPERIMENT_ARMS];
    size_t count = 0;
    lab->arm = sgm_alloc(experiment->arm_count * sizeof *lab->arm);
    if (!lab->arm)
        return no_memory(error);
    for (size_t i = 0; i < o->arm_count; i++)
        if (sgm_experiment_find(experiment, o->arms[i], "--arms", error) == SIZE_MAX)
            return SGM_EARGUMENT;
    bool all = o->arm_count == 0 && (fresh || plan->arm_count == 0);
    for (size_t a = 0; a < experiment->arm_count; a++) {
        const char *name = experiment->arms[a].settings.name;
        bool asked = false, before = !fresh && plan->arm_count && sgm_lab_plan_wants(plan, name);
        for (size_t i = 0; i < o->arm_count; i++)
            asked = asked || strcmp(o->arms[i], name) == 0;
        if (all || asked || (o->arm_count == 0 && before))
            lab->arm[lab->arms++] = a;
        if (asked || before)
            names[count++] = name;
    }
    if (o->arm_count == 0 || (!fresh && plan->arm_count == 0)) /* all of them: nothing to add */
        return SGM_OK;
    char **copies = NULL;
    size_t copied = 0;
    sgm_status status = sgm_lab_texts(names, count, &copies, &copied, error);
    for (size_t i = 0; i < plan->arm_count; i++)
        sgm_free(plan->arms[i]);
    sgm_free(plan->arms);
    plan->arms = copies;
    plan->arm_count = copied;
    return status;
}

static bool same_config(const sgm_config *a, const sgm_config *b) {
    bool same = sgm_config_count(a) == sgm_config_count(b);
    for (size_t i = 0; same && i < sgm_config_count(a); i++) {
        const char *key = sgm_config_key(a, i), *other = sgm_config_get(b, key);
        same = other && strcmp(sgm_config_get(a, key), other) == 0;
    }
    return same;
}

static bool is_of_an_arm(const sgm_experiment *experiment, const char *run) {
    for (size_t a = 0; a < experiment->arm_count; a++) {
        size_t length = strlen(experiment->arms[a].settings.name);
        if (strncmp(run, experiment->arms[a].settings.name, length) == 0 && strncmp(run + length, "-seed-", 6) == 0)
            return true;
    }
    return false;
}

/* Runs of arms that went out of the experiment's file. */
static void tell_strangers(const sgm_lab *lab) {
    char *folder = sgm_path_join(lab->folder, "runs"), **names = NULL;
    size_t count = 0;
    if (folder && !sgm_folder_list(folder, &names, &count, NULL))
        for (size_t i = 0; i < count; i++)
            if (!is_of_an_arm(lab->experiment, names[i]))
                sgm_lab_note(lab, "%s/%s is of no arm of the experiment: it does not count", folder, names[i]);
    sgm_free(names);
    sgm_free(folder);
}

/* Legal, and hardly a comparison: arms that are one, no arm without balancing, no spread. */
static void tell_rules(const sgm_lab *lab) {
    const sgm_arm *arms = lab->experiment->arms;
    bool unbalanced = false;
    for (size_t a = 0; a < lab->experiment->arm_count; a++)
        unbalanced = unbalanced ||
                     (sgm_lab_plan_wants(&lab->plan, arms[a].settings.name) && strcmp(arms[a].balance, "none") == 0);
    if (!unbalanced)
        sgm_lab_note(lab, "every arm balances: without one that does not, nobody sees what balancing costs or gains");
    if (lab->plan.seeds == 1)
        sgm_lab_note(lab, "one seed has no spread: with three, differences have an interval");
    for (size_t j = 1; j < lab->arms; j++)
        for (size_t i = 0; i < j; i++)
            if (same_config(arms[lab->arm[i]].config, arms[lab->arm[j]].config)) {
                sgm_lab_note(lab, "arm %s sets what %s does: it is the same run again", arms[lab->arm[j]].settings.name,
                             arms[lab->arm[i]].settings.name);
                break;
            }
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

/* A new lab goes into a new folder, an empty one, or what is left of a lab that died before its plan was written. That one
 * has a lock, which is made first of all; a folder without one is somebody else's whatever its names are. */
static sgm_status check_folder(const sgm_lab *lab, sgm_error *error) {
    static const char *const ours[] = {SGM_LOCK_NAME, "runs", "data", "data.building", ".tokenizer", SGM_LAB_PROBE};
    char **names = NULL;
    size_t count = 0;
    if (!sgm_path_exists(lab->folder))
        return SGM_OK;
    if (!sgm_path_is_folder(lab->folder))
        return sgm_fail(error, SGM_EEXISTS, "take another --out: a new folder", "%s is no folder", lab->folder);
    sgm_status status = sgm_folder_list(lab->folder, &names, &count, error);
    bool locked = false;
    for (size_t i = 0; i < count && !status; i++)
        locked = locked || strcmp(names[i], SGM_LOCK_NAME) == 0;
    for (size_t i = 0; i < count && !status; i++) {
        bool known = strstr(names[i], ".partial-") != NULL;
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
            known = known || strcmp(names[i], ours[k]) == 0;
        if (!known || !locked)
            status = sgm_fail(error, SGM_EEXISTS, "take another --out: a new folder",
                              "%s is no lab and holds other things: %s", lab->folder, names[i]);
    }
    sgm_free(names);
    return status;
}

static sgm_status take_folder(sgm_lab *lab, bool fresh, sgm_error *error) {
    char *path = sgm_path_join(lab->folder, SGM_LOCK_NAME), *runs = sgm_path_join(lab->folder, "runs");
    char *plan = sgm_path_join(lab->folder, "lab.json"), *probe = sgm_path_join(lab->folder, SGM_LAB_PROBE);
    lab->made = !sgm_path_exists(lab->folder);
    sgm_status status = path && runs && plan && probe ? sgm_folder_make(lab->folder, error) : no_memory(error);
    if (!status)
        status = sgm_lock_take(path, &lab->lock, error);
    if (status == SGM_ENOTFOUND) { /* another call was refused, and took the folder with it */
        status = sgm_folder_make(lab->folder, error);
        if (!status)
            status = sgm_lock_take(path, &lab->lock, error);
    }
    if (!status)
        status = sgm_folder_make(runs, error);
    if (!status && fresh && sgm_path_exists(plan))
        status = sgm_fail(error, SGM_EBUSY, "the same command now goes on with it", "%s: another call began this lab",
                          lab->folder);
    if (!status && fresh)
        status = sgm_lab_remove_data(lab, error);
    if (!status)
        status = sgm_folder_remove(probe, error); /* of a call that was killed while it measured */
    sgm_free(probe);
    sgm_free(path);
    sgm_free(runs);
    sgm_free(plan);
    return status;
}

static bool is_alone(const char *folder, const char *name) {
    char **names = NULL;
    size_t count = 0;
    bool alone = !sgm_folder_list(folder, &names, &count, NULL) && count == 1 && strcmp(names[0], name) == 0;
    sgm_free(names);
    return alone;
}

/* A lab that ends before its plan is written has decided nothing: what it made goes, the lock's file last, and the folder if it
 * was not there. Whatever else lies there stays, and the lock with it: it says that those are a lab's. */
static void leave_nothing(const sgm_lab *lab) {
    char *lock = sgm_path_join(lab->folder, SGM_LOCK_NAME), *runs = sgm_path_join(lab->folder, "runs");
    char *plan = sgm_path_join(lab->folder, "lab.json"); /* there: of a call that began between our look and our lock */
    if (lock && runs && plan && !sgm_path_exists(plan) && !sgm_lab_remove_data(lab, NULL) &&
        (rmdir(runs) == 0 || errno == ENOENT) && is_alone(lab->folder, SGM_LOCK_NAME)) {
        unlink(lock);
        if (lab->made)
            rmdir(lab->folder);
    }
    sgm_free(lock);
    sgm_free(runs);
    sgm_free(plan);
}

static sgm_status keep_experiment(const sgm_lab *lab, sgm_error *error) {
    char *path = sgm_path_join(lab->folder, "experiment.yaml");
    sgm_status status =
        path ? sgm_file_write(path, lab->experiment->text, lab->experiment->size, error) : no_memory(error);
    sgm_free(path);
    return status;
}

static sgm_status keep_name(sgm_lab *lab, bool fresh, sgm_error *error) {
    const char *now = lab->experiment->frame.name;
    if (lab->plan.name && strcmp(lab->plan.name, now) != 0)
        return sgm_fail(error, SGM_EARGUMENT, "take another --out", "%s: this lab is of the experiment %s, not of %s",
                        lab->folder, lab->plan.name, now);
    if (fresh && !(lab->plan.name = sgm_strdup(now)))
        return no_memory(error);
    return SGM_OK;
}

/* The command that repeats the results names the file whose copy is kept: this call's. */
static sgm_status keep_label(sgm_lab *lab, const char *path, sgm_error *error) {
    const char *const label = lab->options->label ? lab->options->label : path;
    char **copy = NULL;
    size_t count;
    sgm_status status = sgm_lab_texts(&label, 1, &copy, &count, error);
    if (!status) {
        sgm_free(lab->plan.experiment);
        lab->plan.experiment = copy[0];
    }
    sgm_free(copy);
    return status;
}

/* Text that was named with --data is what there is to it, whatever the file says. */
static sgm_status keep_own_data(sgm_lab *lab, bool fresh, sgm_error *error) {
    const char *now = lab->experiment->frame.data, *before = lab->plan.own_data;
    if (!fresh && before && !lab->plan.data_count && strcmp(before, now) != 0)
        return sgm_fail(error, SGM_EARGUMENT, "put it back to go on, or take another --out",
                        "%s: this lab has begun with other data: `data:` was %s, in the experiment it is %s",
                        lab->folder, *before ? before : "not there", *now ? now : "not there now");
    if (!before && !(lab->plan.own_data = sgm_strdup(now)))
        return no_memory(error);
    return SGM_OK;
}

/* The experiment with what the plan, or this call, sets on its base; nothing is written yet. */
static sgm_status decide(sgm_lab *lab, const char *path, bool *fresh, sgm_error *error) {
    sgm_status status = sgm_lab_plan_read(lab->folder, &lab->plan, error);
    *fresh = status == SGM_ENOTFOUND;
    if (status && !*fresh)
        return status;
    if (lab->options->seeds > SGM_LAB_SEEDS || lab->options->steps > SGM_LAB_STEPS)
        return sgm_fail(error, SGM_EARGUMENT, "ask for fewer", "a lab has at most 1000 seeds and 10^12 steps");
    status = *fresh ? begin_plan(lab, error) : go_on(lab, error);
    if (!status)
        status = sgm_experiment_open(path, (const char *const *)lab->plan.settings, lab->plan.setting_count,
                                     &lab->experiment, error);
    if (status)
        return status;
    if (*fresh && lab->plan.seeds == 0)
        lab->plan.seeds = lab->experiment->frame.seeds;
    if (*fresh && lab->plan.steps == 0)
        lab->plan.steps = lab->experiment->frame.steps;
    status = keep_name(lab, *fresh, error);
    if (!status)
        status = keep_label(lab, path, error);
    if (!status)
        status = keep_own_data(lab, *fresh, error);
    if (!status)
        status = sgm_lab_check_arms(lab, error);
    return status ? status : choose_arms(lab, *fresh, error);
}

static sgm_status work(sgm_lab *lab, const char *path, sgm_error *failed, sgm_error *error) {
    bool fresh;
    sgm_status status = decide(lab, path, &fresh, error);
    if (!status && fresh)
        status = check_folder(lab, error);
    if (!status && fresh)
        status = sgm_lab_check_data(lab, error);
    if (!status)
        status = take_folder(lab, fresh, error);
    if (!status)
        status = sgm_folder_remove_partial(lab->folder, error);
    if (!status)
        status = sgm_lab_check_runs(lab, error);
    if (!status)
        status = sgm_lab_prepare_data(lab, error);
    if (!status)
        status = sgm_lab_check_logs(lab, error);
    if (!status && fresh && isfinite(lab->plan.minutes))
        status = sgm_lab_measure_steps(lab, lab->plan.minutes, &lab->plan.steps, error);
    if (!status)
        status = sgm_lab_plan_write(lab->folder, &lab->plan, error);
    if (status && fresh && lab->lock)
        leave_nothing(lab);
    if (!status)
        status = keep_experiment(lab, error);
    if (!status) {
        tell_rules(lab);
        tell_strangers(lab);
        sgm_lab_tell_data(lab);
    }
    for (int64_t seed = 1; seed <= lab->plan.seeds && !status; seed++)
        status = sgm_lab_train_seed(lab, seed, failed, error);
    return status;
}

sgm_status sgm_lab_run(const char *experiment, const sgm_lab_options *options, const sgm_lab_events *events,
                       const volatile int *stop, sgm_error *error) {
    sgm_lab lab = {.folder = options->folder, .options = options, .stop = stop};
    sgm_error failed = {0};
    if (events)
        lab.events = *events;
    sgm_status status = work(&lab, experiment, &failed, error);
    if (!status) {
        status = sgm_lab_report(lab.folder, error);
        if (status == SGM_ENOTFOUND && failed.code) /* nothing is complete, for that reason */
            status = SGM_OK;
        if (!status && failed.code)
            status = sgm_fail(error, failed.code, failed.hint, "%s", failed.message);
    }
    sgm_lab_plan_free(&lab.plan);
    sgm_experiment_close(lab.experiment);
    sgm_lock_drop(lab.lock);
    sgm_free(lab.arm);
    sgm_free(lab.data);
    return status;
}

static sgm_status check_plan(const char *folder, sgm_experiment *experiment, const sgm_lab_plan *plan,
                             sgm_error *error) {
    const sgm_lab_options options = {.folder = folder};
    const sgm_lab lab = {.folder = folder, .options = &options, .plan = *plan, .experiment = experiment};
    sgm_status status = sgm_lab_check_arms(&lab, error);
    return status ? status : sgm_lab_check_runs(&lab, error);
}

sgm_status sgm_lab_report(const char *folder, sgm_error *error) {
    static const struct {
        const char *name;
        sgm_status (*write)(const sgm_lab_results *results, const char *path, sgm_error *error);
    } outputs[] = {{"results.json", sgm_lab_write_json},
                   {"results.md", sgm_lab_write_text},
                   {"report.html", sgm_lab_write_page},
                   {"pictures", sgm_lab_write_pictures}};
    sgm_lab_plan plan;
    sgm_experiment *experiment = NULL;
    sgm_lab_results results = {0};
    sgm_status status = sgm_lab_plan_read(folder, &plan, error);
    char *path = sgm_path_join(folder, "experiment.yaml");
    if (!status)
        status =
            path ? sgm_experiment_open(path, (const char *const *)plan.settings, plan.setting_count, &experiment, error)
                 : no_memory(error);
    if (!status)
        status = check_plan(folder, experiment, &plan, error);
    if (!status)
        status = sgm_lab_results_gather(folder, experiment, &plan, &results, error);
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs && !status; i++) {
        char *out = sgm_path_join(folder, outputs[i].name);
        status = out ? outputs[i].write(&results, out, error) : no_memory(error);
        sgm_free(out);
    }
    sgm_lab_results_free(&results);
    sgm_experiment_close(experiment);
    sgm_lab_plan_free(&plan);
    sgm_free(path);
    return status;
}
