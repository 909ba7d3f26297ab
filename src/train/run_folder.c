// SPDX-License-Identifier: Apache-2.0
/* The run folder: made beside its name and renamed, opened for resuming.
 *
 * A new run first lives in .NAME.starting next to where it will be. If the process dies there, the next start of the same
 * run finds the remains unlocked and removes them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "data/documents.h"
#include "train/trainer.h"

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "run folder: no memory");
}

/* Call path_join and treat NULL as no memory, for one use. */
static sgm_status with_path(const char *folder, const char *name, sgm_status (*use)(const char *, sgm_error *),
                            sgm_error *error) {
    char *path = sgm_path_join(folder, name);
    sgm_status status = path ? use(path, error) : no_memory(error);
    sgm_free(path);
    return status;
}

char *sgm_run_folder_data(const char *run, const sgm_run_settings *settings) {
    return settings->data.folder[0] ? sgm_strdup(settings->data.folder) : sgm_path_join(run, "data");
}

/* runs/demo → runs/.demo.starting */
static char *starting_name(const char *run) {
    size_t size = strlen(run);
    while (size > 1 && run[size - 1] == '/')
        size--;
    size_t base = size;
    while (base > 0 && run[base - 1] != '/')
        base--;
    return sgm_format("%.*s.%.*s.starting", (int)base, run, (int)(size - base), run + base);
}

/* ---- data ------------------------------------------------------------------------------------------------------- */

static bool is_data_folder(const char *path) {
    char *manifest = sgm_path_join(path, "manifest.json");
    bool found = manifest && sgm_path_exists(manifest);
    sgm_free(manifest);
    return found;
}

/* The path sgm_data_build is given: NULL to train a tokenizer, `bytes` written out into `folder`, or the setting. */
static sgm_status choose_tokenizer(const sgm_run_settings *settings, const char *folder, char **path,
                                   sgm_error *error) {
    const char *setting = settings->data.tokenizer;
    bool bytes = strcmp(setting, "bytes") == 0 || (!*setting && settings->model.vocabulary == 257);
    *path = NULL;
    if (!bytes) {
        if (*setting && !(*path = sgm_strdup(setting)))
            return no_memory(error);
        return SGM_OK;
    }
    sgm_tokenizer *tokenizer;
    sgm_status status = sgm_tokenizer_bytes(&tokenizer, error);
    if (status)
        return status;
    *path = sgm_path_join(folder, ".tokenizer");
    status = *path ? sgm_tokenizer_save(tokenizer, *path, error) : no_memory(error);
    sgm_tokenizer_close(tokenizer);
    return status;
}

sgm_status sgm_run_folder_build_data(const sgm_run_settings *settings, const char *const *data, size_t data_count,
                                     const char *folder, const volatile int *stop, sgm_error *error) {
    sgm_data_source *sources = NULL;
    size_t found = 0;
    char *tokenizer = NULL, *target = sgm_path_join(folder, "data");
    sgm_status status =
        target ? sgm_data_sources_from_path(data, data_count, &sources, &found, error) : no_memory(error);
    if (!status)
        status = choose_tokenizer(settings, folder, &tokenizer, error);
    if (!status) {
        sgm_data_build_options options = {
            .sources = sources,
            .source_count = found,
            .tokenizer_path = tokenizer,
            .vocabulary = settings->model.vocabulary,
            .heldout_share = settings->data.heldout_share,
            .deduplicate = settings->data.deduplicate,
            .document_limit_bytes = settings->data.document_bytes,
            .threads = (int)settings->train.threads,
            .stop = stop,
        };
        status = sgm_data_build(&options, target, error);
    }
    if (!status)
        status = with_path(folder, ".tokenizer", sgm_folder_remove, error);
    sgm_data_sources_free(sources, found);
    sgm_free(tokenizer);
    sgm_free(target);
    return status;
}

typedef struct text_count {
    int64_t bytes, enough;
} text_count;

static sgm_status count_file(void *context, const char *path, const char *text, size_t size, sgm_error *error) {
    text_count *count = context;
    (void)path, (void)text, (void)error;
    count->bytes += size < INT64_MAX / 2 ? (int64_t)size : INT64_MAX / 2;
    return count->bytes < count->enough ? SGM_OK : SGM_EINTERRUPTED; /* enough: the walk ends here */
}

static sgm_status pass_document(void *context, const char *text, size_t size, sgm_error *error) {
    (void)context, (void)text, (void)size, (void)error;
    return SGM_OK;
}

/* A tokenizer to be trained has at most 256 bytes, <|endoftext|> and one token for each byte of the text: a merge shortens
 * it by one at least. What asks for more is refused before a model of that size is made. Reads no text but each file's
 * beginning. */
static sgm_status check_text_gives(const sgm_config *config, const char *const *data, size_t data_count,
                                   sgm_error *error) {
    const char *tokenizer = sgm_config_get(config, "data.tokenizer");
    const char *wanted = sgm_config_get(config, "model.vocabulary");
    long long vocabulary = wanted ? strtoll(wanted, NULL, 10) : 0;
    if (vocabulary <= 257 || (tokenizer && *tokenizer))
        return SGM_OK;
    sgm_data_source *sources = NULL;
    size_t found = 0;
    text_count count = {.enough = vocabulary - 257};
    const sgm_source_visitor visitor = {.context = &count, .file = count_file, .document = pass_document};
    sgm_status status = sgm_data_sources_from_path(data, data_count, &sources, &found, error);
    for (size_t i = 0; !status && i < found; i++) {
        const sgm_data_source whole = {.domain = sources[i].domain, .path = sources[i].path};
        status = sgm_source_visit(&whole, &visitor, error);
    }
    sgm_data_sources_free(sources, found);
    if (status)
        return status == SGM_EINTERRUPTED ? SGM_OK : status;
    return sgm_fail(error, SGM_EARGUMENT, "give more text, or set model.vocabulary to a few thousand",
                    "model.vocabulary: %" PRId64 " bytes of text cannot give %lld tokens", count.bytes, vocabulary);
}

sgm_status sgm_run_folder_bind_data(sgm_config *config, const char *const *data, size_t data_count, sgm_error *error) {
    const char *path = sgm_config_get(config, "data.folder");
    if (data_count == 1 && is_data_folder(data[0]))
        path = data[0];
    else if (data_count > 0)
        path = ""; /* text: it becomes RUN/data */
    else if (!path || !*path)
        return sgm_fail(error, SGM_EARGUMENT, "name a data folder, or text files and folders, with --data",
                        "there is nothing to train on");
    if (data_count > 0 && !*path) {
        sgm_status status = check_text_gives(config, data, data_count, error);
        if (status)
            return status;
    }
    char *absolute = *path ? realpath(path, NULL) : NULL;
    if (*path && !absolute)
        return sgm_fail(error, SGM_ENOTFOUND, NULL, "%s: there is no such data folder", path);
    /* Whose text became the run's own data/ is known from nothing else. */
    sgm_buffer origin = {0};
    sgm_status status = sgm_buffer_print(&origin, "--data");
    for (size_t i = 0; !absolute && i < data_count && !status; i++)
        status = sgm_buffer_print(&origin, " %s", data[i]);
    status =
        status ? no_memory(error) : sgm_config_set(config, "data.folder", absolute ? absolute : "", origin.data, error);
    sgm_buffer_free(&origin);
    free(absolute);
    return status;
}

/* ---- make ------------------------------------------------------------------------------------------------------- */

static sgm_status write_config(const sgm_run_settings *settings, const char *folder, sgm_error *error) {
    char *path = sgm_path_join(folder, "config.yaml"), *yaml = NULL;
    sgm_status status = path ? sgm_config_text(settings->config, true, &yaml, error) : no_memory(error);
    if (!status)
        status = sgm_file_write(path, yaml, strlen(yaml), error);
    sgm_text_free(yaml);
    sgm_free(path);
    return status;
}

static sgm_status take_lock(const char *folder, sgm_lock **lock, sgm_error *error) {
    char *path = sgm_path_join(folder, SGM_LOCK_NAME);
    sgm_status status = path ? sgm_lock_take(path, lock, error) : no_memory(error);
    sgm_free(path);
    return status;
}

static sgm_status exists(const char *run, sgm_error *error) {
    return sgm_fail(error, SGM_EEXISTS, "take another name, or continue it with `sigmoe train --resume`",
                    "run folder %s exists already", run);
}

sgm_status sgm_run_folder_make(const sgm_run_settings *settings, const char *const *data, size_t data_count,
                               const char *run, const volatile int *stop, sgm_lock **lock, sgm_error *error) {
    *lock = NULL;
    if (sgm_path_exists(run))
        return exists(run, error);
    char *folder = starting_name(run);
    if (!folder)
        return no_memory(error);
    sgm_lock *work = NULL;
    sgm_status status = sgm_work_folder_take(folder, &work, error);
    if (!status) {
        status = take_lock(folder, lock, error); /* the run's own, which goes with it */
        if (!status && !settings->data.folder[0])
            status = sgm_run_folder_build_data(settings, data, data_count, folder, stop, error);
        if (!status)
            status = write_config(settings, folder, error);
        if (!status && (status = sgm_work_folder_finish(folder, run, error)) == SGM_EEXISTS)
            exists(run, error);
        if (status)
            sgm_folder_remove(folder, NULL);
    }
    sgm_lock_drop(work);
    if (status) {
        sgm_lock_drop(*lock);
        *lock = NULL;
    }
    sgm_free(folder);
    return status;
}

/* ---- open ------------------------------------------------------------------------------------------------------- */

static const char raised[] = "--resume --steps"; /* the origin of train.steps then */

/* Change one line of config.yaml and leave every other, with the origins in their comments, as it is. */
sgm_status sgm_run_folder_write_steps(const char *run, const sgm_config *config, sgm_error *error) {
    const char *origin = sgm_config_origin(config, "train.steps"), *steps = sgm_config_get(config, "train.steps");
    if (!origin || strcmp(origin, raised) != 0)
        return SGM_OK;
    char *text = NULL, *path = sgm_path_join(run, "config.yaml");
    size_t size;
    sgm_status status = path ? sgm_file_read(path, 16 << 20, &text, &size, error) : no_memory(error);
    if (status) {
        sgm_free(path);
        return status;
    }
    char *section = strncmp(text, "train:\n", 7) == 0 ? text : strstr(text, "\ntrain:\n");
    char *line = section ? strstr(section + 1, "\n  steps:") : NULL;
    char *end = line ? strchr(line + 1, '\n') : NULL;
    sgm_buffer changed = {0};
    if (!end)
        status = sgm_fail(error, SGM_EFORMAT, "set train.steps in it by hand", "%s: cannot find train.steps", path);
    else if (sgm_buffer_add(&changed, text, (size_t)(line + 1 - text)) ||
             sgm_buffer_print(&changed, "  steps: %s  # %s", steps, raised) ||
             sgm_buffer_add(&changed, end, strlen(end)))
        status = no_memory(error);
    if (!status)
        status = sgm_file_write(path, changed.data, changed.size, error);
    sgm_buffer_free(&changed);
    sgm_free(text);
    sgm_free(path);
    return status;
}

static sgm_status raise_steps(sgm_config *config, int64_t steps, sgm_error *error) {
    const char *now = sgm_config_get(config, "train.steps");
    long long planned = strtoll(now ? now : "0", NULL, 10);
    if (steps < planned)
        return sgm_fail(error, SGM_EARGUMENT, "a run can only be made longer",
                        "--steps %" PRId64 " is fewer than the run's %lld", steps, planned);
    if (steps == planned)
        return SGM_OK;
    char *text = sgm_format("%" PRId64, steps);
    sgm_status status = text ? sgm_config_set(config, "train.steps", text, raised, error) : no_memory(error);
    if (!status)
        status = sgm_config_check(config, error);
    sgm_free(text);
    return status;
}

/* A run's config.yaml names every section, `train` last: one that was emptied or cut off before it would mean the defaults. Keys
 * that are missing are found when a checkpoint is read. */
static sgm_status check_whole(const char *path, sgm_error *error) {
    char *text = NULL;
    size_t size;
    sgm_status status = sgm_file_read(path, 1 << 20, &text, &size, error);
    if (!status && strncmp(text, "train:", 6) != 0 && !strstr(text, "\ntrain:"))
        status =
            sgm_fail(error, SGM_EFORMAT,
                     "put it back from a copy; a checkpoint's settings are in its state/state.json, under \"config\"",
                     "%s is empty or cut off: it has no section `train`", path);
    sgm_free(text);
    return status;
}

sgm_status sgm_run_folder_open(const char *run, int64_t steps, sgm_lock **lock, sgm_config **config, sgm_error *error) {
    *lock = NULL;
    *config = NULL;
    char *path = sgm_path_join(run, "config.yaml"), *traces = sgm_path_join(run, "traces");
    sgm_status status = path && traces ? SGM_OK : no_memory(error);
    if (!status && !sgm_path_exists(run))
        status = sgm_fail(error, SGM_ENOTFOUND, "check the path; relative ones start here", "there is no run folder %s",
                          run);
    if (!status && !sgm_path_exists(path))
        status = sgm_fail(error, SGM_ENOTFOUND, "give the folder that `sigmoe train --run` made",
                          "%s is no run folder: it has no config.yaml", run);
    if (!status)
        status = take_lock(run, lock, error);
    if (!status)
        status = sgm_folder_remove_partial(run, error);
    if (!status && sgm_path_is_folder(traces))
        status = sgm_folder_remove_partial(traces, error);
    if (!status)
        status = sgm_config_new(config, error);
    if (!status)
        status = sgm_config_load(*config, path, error);
    if (!status)
        status = check_whole(path, error);
    if (!status && steps > 0)
        status = raise_steps(*config, steps, error);
    if (status) {
        sgm_config_free(*config);
        sgm_lock_drop(*lock);
        *config = NULL;
        *lock = NULL;
    }
    sgm_free(path);
    sgm_free(traces);
    return status;
}
