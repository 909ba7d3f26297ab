// SPDX-License-Identifier: Apache-2.0
/* Whether run.sqlite is all of a run, and of this one: what lacks rows, or came from another arm, would be a number without a
 * word. The last evaluation must be that of the last step and say what summary.json beside it says. */
#include <inttypes.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "lab/measure.h"
#include "train/run_log_read.h"

/* count, first, last step; last evaluation (NULL: none); evaluations, and steps, whose numbers are none. */
static sgm_status take_ends(sgm_lab_reader *r, sqlite3_stmt *row) {
    int64_t count = sqlite3_column_int64(row, 0), last = sqlite3_column_int64(row, 2);
    if (count != r->steps || sqlite3_column_int64(row, 1) != 1 || last != r->steps)
        return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                        "%s: it has %" PRId64 " steps up to step %" PRId64 ", the run has %" PRId64, r->path, count,
                        last, r->steps);
    if (sqlite3_column_type(row, 3) != SQLITE_NULL && sqlite3_column_int64(row, 3) != r->steps)
        return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                        "%s: its last evaluation is of step %" PRId64 ", the run has %" PRId64 " steps", r->path,
                        (int64_t)sqlite3_column_int64(row, 3), r->steps);
    if (sqlite3_column_int64(row, 4) > 0)
        return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                        "%s: %" PRId64 " of its evaluations have no number of bits per byte, or one below 0", r->path,
                        (int64_t)sqlite3_column_int64(row, 4));
    if (sqlite3_column_int64(row, 5) > 0)
        return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                        "%s: %" PRId64
                        " of its steps have a loss that is none, less than no time, or were skipped by halves",
                        r->path, (int64_t)sqlite3_column_int64(row, 5));
    return SGM_OK;
}

sgm_status sgm_lab_measure_whole(sgm_lab_reader *r) {
    return sgm_lab_each(
        r,
        "SELECT count(*), min(step), max(step), (SELECT max(step) FROM evals), (SELECT count(*) FROM evals "
        "WHERE typeof(bits_per_byte) NOT IN ('real', 'integer', 'null') OR bits_per_byte < 0), "
        "(SELECT count(*) FROM steps WHERE seconds < 0 OR skipped NOT IN (0, 1) OR "
        "(NOT skipped AND typeof(loss) NOT IN ('real', 'integer'))) FROM steps",
        take_ends);
}

static sgm_status take_corpus(sgm_lab_reader *r, sqlite3_stmt *row) {
    const char *hash = (const char *)sqlite3_column_text(row, 0);
    snprintf(r->m->corpus, sizeof r->m->corpus, "%s", hash ? hash : "");
    return SGM_OK;
}

sgm_status sgm_lab_measure_corpus(sgm_lab_reader *r) {
    return sgm_lab_each(r, "SELECT value FROM meta WHERE key = 'corpus'", take_corpus);
}

sgm_status sgm_lab_same_corpus(const char *run, const char *has, const char *wanted, sgm_error *error) {
    if (!wanted || !*has || strcmp(has, wanted) == 0)
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, sgm_lab_remove_run,
                    "%s was trained on another text (hash %s) than this lab's (%s)", run, has, wanted);
}

sgm_status sgm_lab_check_log(const char *run, int64_t steps, const char *corpus, sgm_error *error) {
    char *path = sgm_path_join(run, "run.sqlite");
    sgm_lab_measures m = {0};
    sgm_lab_reader r = {.path = path ? path : run, .error = error, .m = &m, .steps = steps};
    sgm_status status = path ? SGM_OK : sgm_lab_no_memory(&r);
    bool complete = sgm_lab_run_complete(run);
    if (!status && complete && !sgm_path_exists(path))
        status = sgm_fail(error, SGM_EFORMAT, sgm_lab_remove_run, "%s: it is gone", path);
    if (!status && sgm_path_exists(path)) {
        status = sgm_run_log_read(path, sgm_lab_remove_run, &r.db, error);
        if (!status && complete)
            status = sgm_lab_measure_whole(&r);
        if (!status)
            status = sgm_lab_measure_corpus(&r);
        if (!complete) /* killed as it began, it has no text yet; what is damaged is told when it goes on */
            status = SGM_OK;
        if (!status)
            status = sgm_lab_same_corpus(run, m.corpus, corpus, error);
    }
    sqlite3_close(r.db);
    sgm_free(path);
    return status;
}

sgm_status sgm_lab_measure_agrees(const sgm_lab_reader *r, const char *run) {
    char *path = sgm_path_join(run, "summary.json"), *text = NULL;
    size_t size = 0;
    json_t *root = NULL;
    if (!path)
        return sgm_lab_no_memory(r);
    sgm_status status = sgm_path_exists(path) ? sgm_file_read(path, 1 << 26, &text, &size, r->error) : SGM_OK;
    if (!status && text)
        status = sgm_json_read(text, size, JSON_REJECT_DUPLICATES, path, sgm_lab_remove_run, &root, r->error);
    const json_t *said = json_object_get(root, "bits_per_byte"); /* null: there was nothing to evaluate on */
    double is = r->m->bits_per_byte, wanted = json_number_value(said);
    if (!status && json_is_number(said) && isnan(is))
        status = sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                          "%s: it lacks the last evaluation, which summary.json beside it tells of", r->path);
    else if (!status && (json_is_number(said) ? fabs(wanted - is) > 1e-9 : json_is_null(said) && !isnan(is)))
        status =
            sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                     "%s: its last evaluation has %.6f bits per byte, summary.json beside it %.6f: one of them is of "
                     "another run",
                     r->path, is, wanted);
    json_decref(root);
    sgm_free(text);
    sgm_free(path);
    return status;
}
