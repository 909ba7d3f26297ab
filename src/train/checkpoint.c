// SPDX-License-Identifier: Apache-2.0
/* Writing and reading checkpoints, their order and their pruning. state.json is in checkpoint_state.c, the moments' and
 * balancers' values in checkpoint_arrays.c. */
#include "train/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model_files.h"
#include "model/model_folder.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_state.h"

static const char checksums_name[] = "state/checksums";
static const char checksums_head[] = "sigmoe checksums 1\n";
static const char replaced_prefix[] = ".replaced-"; /* a checkpoint while one of the same step takes its name */

sgm_status sgm_checkpoint_no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "checkpoint: no memory");
}

void sgm_note(const sgm_notes *notes, char *text) {
    if (text && notes->note)
        notes->note(notes->context, text);
    sgm_free(text);
}

/* ---- checksums -------------------------------------------------------------------------------------------------- */

/* Read, not mapped: a disk that fails must be an error. */
static sgm_status checksum_file(const char *folder, const char *name, uint64_t *checksum, uint64_t *size,
                                sgm_error *error) {
    char *path = sgm_path_join(folder, name);
    sgm_status status = path ? sgm_file_checksum(path, checksum, size, error) : sgm_checkpoint_no_memory(error);
    sgm_free(path);
    return status;
}

/* Lines "checksum size name" of the files in `folder`/`below` ("" or "state"). */
static sgm_status list_checksums(const char *folder, const char *below, sgm_buffer *text, sgm_error *error) {
    char *path = *below ? sgm_path_join(folder, below) : sgm_strdup(folder);
    char **names = NULL;
    size_t count = 0;
    sgm_status status = path ? sgm_folder_list(path, &names, &count, error) : sgm_checkpoint_no_memory(error);
    for (size_t i = 0; i < count && !status; i++) {
        char *name = *below ? sgm_path_join(below, names[i]) : sgm_strdup(names[i]);
        char *full = name ? sgm_path_join(folder, name) : NULL;
        uint64_t checksum = 0, size = 0;
        if (!full)
            status = sgm_checkpoint_no_memory(error);
        else if (!sgm_path_is_folder(full) && strcmp(name, checksums_name) != 0) {
            status = checksum_file(folder, name, &checksum, &size, error);
            if (!status && sgm_buffer_print(text, "%016" PRIx64 " %" PRIu64 " %s\n", checksum, size, name))
                status = sgm_checkpoint_no_memory(error);
        }
        sgm_free(name);
        sgm_free(full);
    }
    sgm_free(names);
    sgm_free(path);
    return status;
}

static sgm_status write_checksums(const char *folder, sgm_error *error) {
    sgm_buffer text = {0};
    char *path = sgm_path_join(folder, checksums_name);
    sgm_status status =
        path && !sgm_buffer_print(&text, "%s", checksums_head) ? SGM_OK : sgm_checkpoint_no_memory(error);
    if (!status)
        status = list_checksums(folder, "", &text, error);
    if (!status)
        status = list_checksums(folder, "state", &text, error);
    if (!status && sgm_buffer_print(&text, "%016" PRIx64 " end\n", sgm_checksum(text.data, text.size)))
        status = sgm_checkpoint_no_memory(error);
    if (!status)
        status = sgm_file_write(path, text.data, text.size, error);
    sgm_buffer_free(&text);
    sgm_free(path);
    return status;
}

static sgm_status damaged(const char *folder, const char *why, sgm_error *error) {
    return sgm_fail(error, SGM_EFORMAT, "resume from an earlier checkpoint", "checkpoint %s: %s", folder, why);
}

/* One line; *end: it was the closing one. */
static sgm_status verify_line(const char *folder, const char *text, const char *line, bool *end, sgm_error *error) {
    uint64_t wanted = 0, size = 0, found = 0, found_size = 0;
    int name = 0;
    if (sscanf(line, "%16" SCNx64, &wanted) != 1)
        return damaged(folder, "state/checksums is damaged", error);
    if (strcmp(line + 16, " end") == 0) {
        *end = true;
        return sgm_checksum(text, (size_t)(line - text)) == wanted
                   ? SGM_OK
                   : damaged(folder, "state/checksums is damaged", error);
    }
    if (sscanf(line, "%*16x %" SCNu64 " %n", &size, &name) != 1 || name == 0 || strstr(line + name, ".."))
        return damaged(folder, "state/checksums is damaged", error);
    sgm_status status = checksum_file(folder, line + name, &found, &found_size, error);
    if (status || (found == wanted && found_size == size))
        return status;
    char why[512];
    snprintf(why, sizeof why, "%.400s is damaged (its checksum differs)", line + name);
    return damaged(folder, why, error);
}

sgm_status sgm_checkpoint_verify(const char *folder, sgm_error *error) {
    char *path = sgm_path_join(folder, checksums_name), *text = NULL, *copy = NULL;
    size_t size;
    sgm_status status = path ? sgm_file_read(path, 1 << 20, &text, &size, error) : sgm_checkpoint_no_memory(error);
    if (!status && !(copy = sgm_strdup(text)))
        status = sgm_checkpoint_no_memory(error);
    bool end = false;
    if (!status && strncmp(text, checksums_head, strlen(checksums_head)) != 0)
        status = damaged(folder, "state/checksums is damaged or of a newer version", error);
    /* `text` keeps its bytes for the closing checksum; lines are cut in `copy`. The closing line is checked first. */
    char *last = status ? NULL : strstr(text, " end\n");
    if (!status && (!last || last - text < 16 + (ptrdiff_t)strlen(checksums_head) || last[5] != '\0'))
        status = damaged(folder, "state/checksums is cut short", error);
    if (!status) {
        last[4] = '\0';
        status = verify_line(folder, text, last - 16, &end, error);
    }
    end = false;
    char *rest = copy ? copy + strlen(checksums_head) : NULL;
    for (char *line; !status && !end && (line = strsep(&rest, "\n")) && *line;)
        if (strcmp(line + strnlen(line, 16), " end") == 0)
            end = true;
        else
            status = verify_line(folder, copy, line, &end, error);
    sgm_free(copy);
    sgm_free(text);
    sgm_free(path);
    return status;
}

/* ---- order and pruning ------------------------------------------------------------------------------------------- */

/* Latest first; names that are no checkpoint's last. */
static int compare_steps(const void *a, const void *b) {
    int64_t x = sgm_step_of_folder(*(char *const *)a), y = sgm_step_of_folder(*(char *const *)b);
    return x > y ? -1 : x < y;
}

static sgm_status list_checkpoints(const char *folder, char ***names, size_t *count, sgm_error *error) {
    sgm_status status = sgm_folder_list(folder, names, count, error);
    if (!status)
        qsort(*names, *count, sizeof **names, compare_steps);
    while (!status && *count > 0 && sgm_step_of_folder((*names)[*count - 1]) < 0)
        --*count;
    return status;
}

/* Rename first: a crash in the middle of a removal must not leave half a checkpoint under its name. */
static sgm_status remove_checkpoint(const char *folder, const char *name, sgm_error *error) {
    char *from = sgm_path_join(folder, name), *hidden = sgm_format(".old-%s", name);
    char *to = hidden ? sgm_path_join(folder, hidden) : NULL;
    sgm_status status = from && to ? sgm_folder_remove(to, error) : sgm_checkpoint_no_memory(error);
    if (!status)
        status = sgm_folder_rename(from, to, error);
    if (!status)
        status = sgm_folder_remove(to, error);
    sgm_free(from);
    sgm_free(hidden);
    sgm_free(to);
    return status;
}

/* A folder (no link to one) that sgm_checkpoint_save finished. Whatever else is called step-N belongs to somebody. */
static bool is_ours(const char *folder, const char *name) {
    char *path = sgm_path_join(folder, name), *checksums = path ? sgm_path_join(path, checksums_name) : NULL;
    bool ours = checksums && sgm_path_is_real_folder(path) && sgm_path_exists(checksums);
    sgm_free(checksums);
    sgm_free(path);
    return ours;
}

static sgm_status is_finite(const char *folder, const char *name, bool *finite, sgm_error *error) {
    char *path = sgm_path_join(folder, name), *state = path ? sgm_path_join(path, "state") : NULL;
    *finite = false;
    sgm_status status = state ? sgm_checkpoint_state_is_finite(state, finite, error) : sgm_checkpoint_no_memory(error);
    sgm_free(state);
    sgm_free(path);
    return status;
}

/* Where `latest` could not be moved it still leads somewhere; where that cannot be told it may be here. */
static bool is_pointed_at(const char *folder, const char *name) {
    char *link = sgm_path_join(folder, "latest"), target[256];
    ssize_t size = link ? readlink(link, target, sizeof target) : -1;
    const bool no_link = link && size < 0 && (errno == ENOENT || errno == EINVAL);
    sgm_free(link);
    if (size < 0)
        return !no_link;
    return (size_t)size == strlen(name) && memcmp(target, name, (size_t)size) == 0;
}

/* Beside the latest `keep` the newest that was saved at a finite step stays: a run that diverged needs it to go back. One
 * that cannot be removed takes room and nothing else, so that is only told; so is one of which that cannot be read, and then
 * none that is older is removed. */
static void prune(const char *folder, int64_t keep, const sgm_notes *notes) {
    char **names = NULL;
    size_t count = 0;
    int64_t kept = 0;
    bool finite = false;
    sgm_error error = {0};
    if (list_checkpoints(folder, &names, &count, &error))
        sgm_note(notes, sgm_format("old checkpoints are not removed: %s", error.message));
    for (size_t i = 0; i < count; i++) {
        bool rescue = false;
        if (!is_ours(folder, names[i]))
            continue;
        if (!finite && is_finite(folder, names[i], &rescue, &error)) {
            sgm_note(notes, sgm_format("old checkpoints are not removed: %s", error.message));
            break;
        }
        finite = finite || rescue;
        if (kept < keep)
            kept++;
        else if (!rescue && !is_pointed_at(folder, names[i]) && remove_checkpoint(folder, names[i], &error))
            sgm_note(notes, sgm_format("the old checkpoint %s is not removed: %s", names[i], error.message));
    }
    sgm_free(names);
}

int64_t sgm_checkpoint_last_finite(const char *run) {
    char *folder = sgm_path_join(run, "checkpoints"), **names = NULL;
    size_t count = 0;
    int64_t step = -1;
    if (folder && !list_checkpoints(folder, &names, &count, NULL))
        for (size_t i = 0; i < count && step < 0; i++) {
            bool finite;
            if (is_ours(folder, names[i]) && !is_finite(folder, names[i], &finite, NULL) && finite)
                step = sgm_step_of_folder(names[i]);
        }
    sgm_free(names);
    sgm_free(folder);
    return step;
}

/* A link would have checkpoints written, and pruned, wherever it leads. */
static sgm_status check_folder(const char *folder, sgm_error *error) {
    if (!sgm_path_exists(folder) || sgm_path_is_real_folder(folder))
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, "put the folder itself there; the run folder as a whole may lie elsewhere",
                    "%s is a link or a file, not the folder of the run's checkpoints", folder);
}

/* `latest` is for people and for commands that open a model; resuming does not need it. */
static void point_latest(const char *folder, const char *name, const sgm_notes *notes) {
    char *link = sgm_path_join(folder, "latest");
    sgm_error error = {0};
    if (link ? sgm_link_replace(name, link, &error) : sgm_checkpoint_no_memory(&error))
        sgm_note(notes, sgm_format("checkpoints/latest does not point at %s: %s", name, error.message));
    sgm_free(link);
}

/* ---- save -------------------------------------------------------------------------------------------------------- */

/* The folder that holds a corpus's tokenizer.json. */
static char *tokenizer_folder(const sgm_corpus *corpus) {
    char *path = sgm_strdup(sgm_corpus_tokenizer_path(corpus));
    if (path && !sgm_path_is_folder(path)) {
        char *slash = strrchr(path, '/');
        if (slash)
            *slash = '\0';
    }
    return path;
}

static sgm_status write_state(const char *folder, const sgm_stepper *stepper, const sgm_loader *loader,
                              const sgm_corpus *corpus, sgm_error *error) {
    char *state = sgm_path_join(folder, "state");
    sgm_status status = state ? sgm_folder_make(state, error) : sgm_checkpoint_no_memory(error);
    if (!status)
        status = sgm_checkpoint_state_write(state, stepper, loader, sgm_corpus_hash(corpus), error);
    int moments = stepper->settings->optimizer->moments;
    if (!status && stepper->updates > 0 && moments > 0) /* before the first update they are zero and left out */
        status = sgm_checkpoint_arrays_write(state, "optimizer.safetensors", "moment", moments, SGM_F32,
                                             stepper->model->elements, stepper->moments, error);
    if (!status)
        status = sgm_checkpoint_balance_write(state, stepper->balance, error);
    sgm_free(state);
    return status;
}

static sgm_status write_all(const char *folder, const sgm_stepper *stepper, const sgm_loader *loader,
                            const sgm_corpus *corpus, sgm_error *error) {
    char *tokenizer = tokenizer_folder(corpus), *state = sgm_path_join(folder, "state");
    sgm_status status = tokenizer && state ? sgm_folder_make(folder, error) : sgm_checkpoint_no_memory(error);
    if (!status)
        status = sgm_model_folder_save(stepper->model, sgm_balance_set_bias(stepper->balance),
                                       stepper->experts_per_token, tokenizer, folder, error);
    if (!status)
        status = write_state(folder, stepper, loader, corpus, error);
    if (!status)
        status = write_checksums(folder, error);
    if (!status)
        status = sgm_folder_sync(state, error);
    if (!status)
        status = sgm_folder_sync(folder, error);
    sgm_free(tokenizer);
    sgm_free(state);
    return status;
}

/* `fresh` becomes the checkpoint `name`, in the place of one of that step if there is one. A crash in between leaves the old
 * one aside, from where settle_leftover brings it back. */
static sgm_status replace_checkpoint(const char *folder, const char *fresh, const char *name, sgm_error *error) {
    char *final = sgm_path_join(folder, name), *hidden = sgm_format("%s%s", replaced_prefix, name);
    char *aside = hidden ? sgm_path_join(folder, hidden) : NULL;
    bool replace = final && is_ours(folder, name); /* anything else of that name makes the rename fail */
    sgm_status status = final && aside ? SGM_OK : sgm_checkpoint_no_memory(error);
    if (!status && replace)
        status = sgm_folder_remove(aside, error);
    if (!status && replace)
        status = sgm_folder_rename(final, aside, error);
    if (!status) {
        status = sgm_folder_rename(fresh, final, error);
        if (status == SGM_EEXISTS)
            sgm_fail(error, status, "move it away; the run then goes on saving", "%s is in the way and no checkpoint",
                     final);
    }
    if (replace && status) /* also where a rename was done and only its sync failed */
        sgm_folder_rename(aside, final, NULL);
    else if (replace)
        sgm_folder_remove(aside, NULL); /* what stays of it is a leftover */
    sgm_free(final);
    sgm_free(hidden);
    sgm_free(aside);
    return status;
}

/* Once it has its name, and the folder is synced, the checkpoint is saved: whatever fails then is told, not returned. */
sgm_status sgm_checkpoint_save(const char *run, const sgm_stepper *stepper, const sgm_loader *loader,
                               const sgm_corpus *corpus, int64_t keep, const sgm_notes *notes, char **out,
                               sgm_error *error) {
    char *folder = sgm_path_join(run, "checkpoints"), *name = sgm_format("step-%06" PRId64, stepper->step);
    char *hidden = name ? sgm_format(".tmp-%s", name) : NULL;
    char *temporary = folder && hidden ? sgm_path_join(folder, hidden) : NULL;
    char *final = folder && name ? sgm_path_join(folder, name) : NULL;
    sgm_status status = temporary && final ? check_folder(folder, error) : sgm_checkpoint_no_memory(error);
    if (!status)
        status = sgm_folder_make(folder, error);
    if (!status)
        status = sgm_folder_remove(temporary, error);
    if (!status) {
        status = write_all(temporary, stepper, loader, corpus, error);
        if (!status)
            status = replace_checkpoint(folder, temporary, name, error);
        if (status)
            sgm_folder_remove(temporary, NULL);
    }
    if (!status) {
        point_latest(folder, name, notes);
        prune(folder, keep, notes);
    }
    if (!status && out) {
        *out = final;
        final = NULL;
    }
    sgm_free(folder);
    sgm_free(name);
    sgm_free(hidden);
    sgm_free(temporary);
    sgm_free(final);
    return status;
}

/* ---- find and load ----------------------------------------------------------------------------------------------- */

/* A damaged checkpoint leaves the way free for its successor but is not thrown away, nor is one that was put aside before:
 * it gets the first name that is free. */
static sgm_status put_aside(const char *folder, const char *name, const sgm_error *why, const sgm_notes *notes,
                            sgm_error *error) {
    char *from = sgm_path_join(folder, name);
    sgm_status status = from ? SGM_EEXISTS : sgm_checkpoint_no_memory(error);
    for (int number = 1; status == SGM_EEXISTS; number++) {
        char *hidden = number == 1 ? sgm_format(".damaged-%s", name) : sgm_format(".damaged-%s-%d", name, number);
        char *to = hidden ? sgm_path_join(folder, hidden) : NULL;
        status = to ? sgm_folder_rename(from, to, error) : sgm_checkpoint_no_memory(error);
        if (!status)
            sgm_note(notes, sgm_format("%s; it is now called %s", why->message, hidden));
        sgm_free(hidden);
        sgm_free(to);
    }
    sgm_free(from);
    return status;
}

static bool begins(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* What a crash left under the hidden name `name`. */
static sgm_status settle_leftover(const char *folder, const char *name, sgm_error *error) {
    bool replaced = begins(name, replaced_prefix);
    char *path = sgm_path_join(folder, name), *final = NULL;
    if (path && replaced)
        final = sgm_path_join(folder, name + strlen(replaced_prefix));
    sgm_status status = SGM_OK;
    if (!path || (replaced && !final))
        status = sgm_checkpoint_no_memory(error);
    else if (replaced && !sgm_path_exists(final))
        status = sgm_folder_rename(path, final, error);
    else if (begins(name, "latest.partial-"))
        unlink(path);
    else
        status = sgm_folder_remove(path, error);
    sgm_free(path);
    sgm_free(final);
    return status;
}

/* What cannot be tidied up is in nobody's way: told, and left. */
static void settle_leftovers(const char *folder, const sgm_notes *notes) {
    static const char *const prefixes[] = {".tmp-", ".old-", replaced_prefix, "latest.partial-"};
    char **names = NULL;
    size_t count = 0;
    sgm_error error = {0};
    if (sgm_folder_list(folder, &names, &count, &error))
        sgm_note(notes, sgm_format("leftovers of a crash are not removed: %s", error.message));
    for (size_t i = 0; i < count; i++)
        for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++)
            if (begins(names[i], prefixes[p]) && settle_leftover(folder, names[i], &error))
                sgm_note(notes, sgm_format("checkpoints/%s, left by a crash, stays: %s", names[i], error.message));
    sgm_free(names);
}

/* Bytes that are wrong or gone. Anything else (no memory, no permission, a disk that fails) may be over tomorrow: it must
 * neither cost a good checkpoint its name nor the run the steps since an earlier one. */
static bool is_damage(sgm_status status) {
    return status == SGM_EFORMAT || status == SGM_ENOTFOUND;
}

/* The first of `names` whose checksums hold into *found; `count` when none do. why[i]: what is wrong with the ones before. */
static sgm_status find_good(const char *folder, char *const *names, size_t count, sgm_error *why, size_t *found,
                            sgm_error *error) {
    for (*found = 0; *found < count; ++*found) {
        char *path = sgm_path_join(folder, names[*found]);
        if (!path)
            return sgm_checkpoint_no_memory(error);
        sgm_status status = sgm_checkpoint_verify(path, &why[*found]);
        sgm_free(path);
        if (!status)
            return SGM_OK;
        if (!is_damage(status)) {
            if (error)
                *error = why[*found];
            return status;
        }
    }
    return SGM_OK;
}

/* Nothing is renamed before a good one is found and `latest` points at it: where all are damaged, each try says so again,
 * and a person decides. */
static sgm_status choose(const char *run, const char *folder, char *const *names, size_t count, const sgm_notes *notes,
                         char **out, sgm_error *error) {
    size_t good = count;
    sgm_error *why = sgm_alloc((count + 1) * sizeof *why);
    sgm_status status = why ? find_good(folder, names, count, why, &good, error) : sgm_checkpoint_no_memory(error);
    if (!status && good == count)
        status =
            sgm_fail(error, SGM_EFORMAT,
                     "start a new run; or begin this one again: remove its checkpoints, run.sqlite and summary.json",
                     "%s: all %zu checkpoints are damaged, the latest: %.300s", run, count, why[0].message);
    if (!status)
        point_latest(folder, names[good], notes);
    for (size_t i = 0; !status && i < good; i++)
        status = put_aside(folder, names[i], &why[i], notes, error);
    if (!status && !(*out = sgm_path_join(folder, names[good])))
        status = sgm_checkpoint_no_memory(error);
    sgm_free(why);
    return status;
}

/* Keep of `names`, latest first, those that a run finished; a later one that is not is told, as steps may be missed. */
static sgm_status leave_out_foreign(const char *folder, char **names, size_t *count, const sgm_notes *notes,
                                    sgm_error *error) {
    size_t found = *count, ours = 0;
    for (size_t i = 0; i < found; i++) {
        if (is_ours(folder, names[i])) {
            char *name = names[i];
            names[i] = names[ours];
            names[ours++] = name;
        } else if (ours == 0) {
            sgm_note(notes,
                     sgm_format("checkpoints/%s has no state/checksums: it is no checkpoint and left alone", names[i]));
        }
    }
    *count = ours;
    if (ours == 0 && found > 0) /* they may be all that is left of this run: it is not for us to begin it again */
        return sgm_fail(error, SGM_EFORMAT,
                        "put back what they lost; or begin the run again: move them, run.sqlite and summary.json away",
                        "%s: %s is no finished checkpoint (it has no state/checksums), and there is no other", folder,
                        names[0]);
    return SGM_OK;
}

sgm_status sgm_checkpoint_latest(const char *run, const sgm_notes *notes, char **out, sgm_error *error) {
    char *folder = sgm_path_join(run, "checkpoints"), **names = NULL;
    size_t count = 0;
    *out = NULL;
    sgm_status status = folder ? check_folder(folder, error) : sgm_checkpoint_no_memory(error);
    if (!status && sgm_path_is_folder(folder)) {
        settle_leftovers(folder, notes);
        status = list_checkpoints(folder, &names, &count, error);
        if (!status)
            status = leave_out_foreign(folder, names, &count, notes, error);
    }
    if (!status && count)
        status = choose(run, folder, names, count, notes, out, error);
    sgm_free(names);
    sgm_free(folder);
    return status;
}

sgm_status sgm_checkpoint_load(const char *folder, sgm_stepper *stepper, sgm_loader *loader, const sgm_corpus *corpus,
                               const sgm_notes *notes, sgm_error *error) {
    char *state = sgm_path_join(folder, "state");
    sgm_status status = state ? sgm_checkpoint_state_read(state, stepper, loader, sgm_corpus_hash(corpus), notes, error)
                              : sgm_checkpoint_no_memory(error);
    if (!status)
        status = sgm_model_folder_load_weights(folder, stepper->model, NULL, error);
    sgm_stepper_weights_changed(stepper);
    int moments = stepper->settings->optimizer->moments;
    if (!status && stepper->updates > 0 && moments > 0)
        status = sgm_checkpoint_arrays_read(state, "optimizer.safetensors", "moment", moments, SGM_F32,
                                            stepper->model->elements, stepper->moments, error);
    if (!status)
        status = sgm_checkpoint_balance_read(state, stepper->balance, notes, error);
    sgm_free(state);
    return status;
}
