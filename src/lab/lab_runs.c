// SPDX-License-Identifier: Apache-2.0
/* Whether the runs in a lab's folder are its own. A run of another experiment, of this one before its file was changed, or
 * one that was made longer by hand is not what its arm and seed stand for: it must not be gone on with, nor be measured. */
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "lab/lab.h"
#include "lab/results.h"

static const char *const free_keys[] = {"data.folder", "train.threads", "train.checkpoint_every"};

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to check the runs of a lab");
}

static bool is_free(const char *key) {
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (strcmp(key, free_keys[i]) == 0)
            return true;
    return false;
}

static sgm_status differs(const char *run, const char *key, const char *has, const char *wanted, sgm_error *error) {
    return sgm_fail(
        error, SGM_EARGUMENT,
        "put back what was changed (in the run, lab.json or the experiment), or remove that run's folder and "
        "run the lab to make it anew; a changed experiment may take another --out",
        "%s has %s = %s, the lab says %s", run, key, has ? has : "nothing", wanted);
}

static sgm_status compare(const char *run, const sgm_config *has, const sgm_config *wanted, sgm_error *error) {
    for (size_t i = 0; i < sgm_config_count(wanted); i++) {
        const char *key = sgm_config_key(wanted, i), *value = sgm_config_get(wanted, key);
        const char *there = sgm_config_get(has, key);
        if (!is_free(key) && strcmp(value, "auto") != 0 && (!there || strcmp(there, value) != 0))
            return differs(run, key, there, value, error);
    }
    return SGM_OK;
}

static sgm_status check_run(const char *run, const sgm_config *wanted, sgm_error *error) {
    sgm_config *config = NULL;
    char *path = sgm_path_join(run, "config.yaml");
    sgm_status status = path ? SGM_OK : no_memory(error);
    if (!status && !sgm_path_exists(path))
        status =
            sgm_fail(error, SGM_EFORMAT, "remove it and run the lab, which makes that run anew",
                     "%s is in a run's place and is no run folder: %s", run,
                     sgm_path_is_folder(run) ? "it has no config.yaml" : "it is a file, or a link that leads nowhere");
    if (!status)
        status = sgm_config_new(&config, error);
    if (!status)
        status = sgm_config_load(config, path, error);
    if (!status)
        status = compare(run, config, wanted, error);
    sgm_config_free(config);
    sgm_free(path);
    return status;
}

sgm_status sgm_lab_check_arms(const sgm_lab *lab, sgm_error *error) {
    for (size_t i = 0; i < lab->plan.arm_count; i++)
        if (sgm_experiment_find(lab->experiment, lab->plan.arms[i], "lab.json", NULL) == SIZE_MAX)
            return sgm_fail(
                error, SGM_EARGUMENT,
                "put the arm back to go on, or take another --out; without its name in lab.json its runs count "
                "no longer",
                "%s: its lab.json has the arm %s, the experiment has not", lab->folder, lab->plan.arms[i]);
    return SGM_OK;
}

sgm_status sgm_lab_check_runs(const sgm_lab *lab, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t a = 0; a < lab->experiment->arm_count && !status; a++)
        for (int64_t seed = 1; seed <= lab->plan.seeds && !status; seed++) {
            sgm_config *config = NULL;
            char *run = sgm_lab_run_folder(lab->folder, lab->experiment->arms[a].settings.name, seed);
            if (!run)
                return no_memory(error);
            if (sgm_path_exists(run)) {
                status = sgm_lab_config(lab, a, seed, lab->plan.steps, &config, error);
                if (!status)
                    status = check_run(run, config, error);
            }
            sgm_config_free(config);
            sgm_free(run);
        }
    return status;
}

sgm_status sgm_lab_check_logs(const sgm_lab *lab, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t a = 0; a < lab->experiment->arm_count && !status; a++)
        for (int64_t seed = 1; seed <= lab->plan.seeds && !status; seed++) {
            char *run = sgm_lab_run_folder(lab->folder, lab->experiment->arms[a].settings.name, seed);
            if (!run)
                return no_memory(error);
            if (sgm_path_exists(run))
                status = sgm_lab_check_log(run, lab->plan.steps, lab->plan.corpus, error);
            sgm_free(run);
        }
    return status;
}
