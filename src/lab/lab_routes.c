// SPDX-License-Identifier: Apache-2.0
/* What becomes of a run that is complete: the routes of held-out text through its model are kept where the experiment lists
 * caches or placements, and its checkpoints go where they are not wanted. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/system.h"
#include "lab/lab.h"
#include "lab/serving.h"

bool sgm_lab_wants_routes(const sgm_lab *lab) {
    return lab->experiment->serving.uses > 0 && lab->heldout > 0;
}

sgm_status sgm_lab_drop_routes(const char *run, sgm_error *error) {
    char *routes = sgm_path_join(run, SGM_LAB_ROUTES);
    if (!routes)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a path");
    sgm_status status =
        unlink(routes) == 0 || errno == ENOENT ? SGM_OK : sgm_fail_errno(error, errno, "remove", routes);
    sgm_free(routes);
    return status;
}

static sgm_status trace(const sgm_lab *lab, size_t arm, const char *run, const char *routes, sgm_error *error) {
    const char *paths[] = {lab->data};
    const sgm_config *config = lab->experiment->arms[arm].config;
    const sgm_engine_options options = {
        .threads = sgm_lab_threads(lab, arm), .kernels = sgm_config_get(config, "train.kernels"), .stop = lab->stop};
    sgm_evaluation evaluation = {0};
    sgm_status status = sgm_trace_evaluate(run, &options, paths, 1, SGM_LAB_ROUTES_TOKENS, routes, &evaluation, error);
    sgm_evaluation_free(&evaluation);
    return status;
}

/* Somebody may have made it longer since it was seen complete: what it has now is theirs. */
static sgm_status still_ours(const sgm_lab *lab, const char *run, const sgm_config *config, sgm_error *error) {
    const char *steps = sgm_config_get(config, "train.steps");
    if (sgm_lab_run_complete(run) && steps && strtoll(steps, NULL, 10) == lab->plan.steps)
        return SGM_OK;
    return sgm_fail(error, SGM_EBUSY, NULL, "it was gone on with by another process");
}

/* With the run's lock held: nobody resumes it meanwhile, and what a killed call was writing is removed. */
static sgm_status finish(const sgm_lab *lab, size_t arm, const char *run, const char *routes, const char *models,
                         sgm_error *error) {
    sgm_lock *lock = NULL;
    sgm_config *config = NULL;
    sgm_status status = sgm_run_folder_open(run, 0, &lock, &config, error);
    if (!status)
        status = still_ours(lab, run, config, error);
    if (!status && sgm_lab_wants_routes(lab) && !sgm_path_exists(routes))
        status = sgm_path_exists(models) ? trace(lab, arm, run, routes, error)
                                         : sgm_fail(error, SGM_ENOTFOUND, NULL, "its model is gone");
    if (!status && lab->options->discard_checkpoints)
        status = sgm_folder_remove(models, error);
    sgm_config_free(config);
    sgm_lock_drop(lock);
    return status;
}

sgm_status sgm_lab_finish_run(const sgm_lab *lab, size_t arm, int64_t seed, const char *run, bool ended_now,
                              sgm_error *error) {
    char *routes = sgm_path_join(run, SGM_LAB_ROUTES), *models = sgm_path_join(run, "checkpoints");
    sgm_status status = routes && models ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a path");
    sgm_error why = {0};
    bool wants = !status && sgm_lab_wants_routes(lab) && !sgm_path_exists(routes);
    bool drops = !status && lab->options->discard_checkpoints && ended_now;
    sgm_status finished = wants || drops ? finish(lab, arm, run, routes, models, &why) : SGM_OK;
    if (finished == SGM_EINTERRUPTED)
        status = sgm_fail(error, finished, "the same command goes on with it", "interrupted; every arm is saved");
    else if (finished)
        sgm_lab_note(lab, "%s, seed %" PRId64 ": %s: %s", lab->experiment->arms[arm].settings.name, seed,
                     wants && !sgm_path_exists(routes) ? "its routes are not kept, so it has no caches and placements"
                                                       : "its checkpoints stay",
                     why.message);
    sgm_free(routes);
    sgm_free(models);
    return status;
}
