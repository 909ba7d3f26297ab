// SPDX-License-Identifier: Apache-2.0
/* The data of a lab: tokenised once, read by every run. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "lab/lab.h"
#include "sigmoe/data.h"

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the data of a lab");
}

/* ---- what is left of a call that died ------------------------------------------------------------------------- */

static const char *const made[] = {"data", "data.building", ".tokenizer"};

sgm_status sgm_lab_check_data(const sgm_lab *lab, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < sizeof made / sizeof *made && !status; i++) {
        char *name = sgm_path_join(lab->folder, made[i]), *ours = name ? realpath(name, NULL) : NULL;
        size_t size = ours ? strlen(ours) : 0;
        for (size_t d = 0; d < lab->plan.data_count && ours && !status; d++) {
            char *path = realpath(lab->plan.data[d], NULL);
            if (path && strncmp(path, ours, size) == 0 && (path[size] == '/' || !path[size]))
                status = sgm_fail(error, SGM_EARGUMENT, "move it out of there, or take another --out",
                                  "%s is where the lab %s keeps its own data", lab->plan.data[d], lab->folder);
            free(path);
        }
        if (!name)
            status = no_memory(error);
        free(ours);
        sgm_free(name);
    }
    return status;
}

sgm_status sgm_lab_remove_data(const sgm_lab *lab, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < sizeof made / sizeof *made && !status; i++) {
        char *name = sgm_path_join(lab->folder, made[i]);
        status = name ? sgm_folder_remove(name, error) : no_memory(error);
        sgm_free(name);
    }
    return status;
}

/* ---- data ----------------------------------------------------------------------------------------------------- */

/* A path of the experiment's file is seen from where the file is. */
static char *beside(const char *file, const char *path, size_t size) {
    const char *slash = strrchr(file, '/');
    return *path == '/' || !slash ? sgm_format("%.*s", (int)size, path)
                                  : sgm_format("%.*s/%.*s", (int)(slash - file), file, (int)size, path);
}

/* The experiment's own list of paths; heap texts. */
static sgm_status own_paths(const sgm_experiment *experiment, char ***paths, size_t *count, sgm_error *error) {
    const char *at = experiment->frame.data;
    *paths = sgm_alloc((strlen(at) + 1) * sizeof **paths);
    if (!*paths)
        return no_memory(error);
    while (*at) {
        size_t size = strcspn(at, ",");
        if (size && !((*paths)[(*count)++] = beside(experiment->path, at, size)))
            return no_memory(error);
        at += size + (at[size] == ',');
    }
    return SGM_OK;
}

/* From text into FOLDER/data, or where a data folder is. */
static sgm_status take(sgm_lab *lab, const char *const *data, size_t count, sgm_error *error) {
    sgm_config *config = NULL;
    sgm_run_settings *settings = NULL;
    sgm_status status = sgm_config_copy(lab->experiment->arms[0].config, &config, error);
    if (!status)
        status = sgm_run_folder_bind_data(config, data, count, error);
    const char *ready = status ? "" : sgm_config_get(config, "data.folder");
    if (!status && *ready) {
        lab->data = sgm_strdup(ready);
    } else if (!status) {
        sgm_lab_note(lab, "tokenising the text once for all arms");
        status = sgm_run_settings_new(config, &settings, error);
        if (!status && lab->options->threads > 0) /* of all jobs */
            settings->train.threads = lab->options->threads * sgm_lab_jobs(lab, lab->arms);
        if (!status && lab->options->threads == SGM_LAB_SHARE)
            settings->train.threads = sgm_usable_cores();
        if (!status)
            status = sgm_run_folder_build_data(settings, data, count, lab->folder, lab->stop, error);
        lab->data = status ? NULL : sgm_path_join(lab->folder, "data");
    }
    if (!status && !lab->data)
        status = no_memory(error);
    sgm_run_settings_free(settings);
    sgm_config_free(config);
    return status;
}

static int64_t tokens_of(const sgm_corpus *corpus, sgm_corpus_split split) {
    int64_t tokens = 0;
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++)
        tokens += sgm_corpus_tokens(corpus, split, d);
    return tokens;
}

/* Later seeds and arms read what the first ones read. */
static sgm_status keep_corpus(sgm_lab *lab, sgm_error *error) {
    char hash[SGM_CORPUS_HASH];
    sgm_corpus *corpus = NULL;
    sgm_status status = sgm_corpus_open(lab->data, &corpus, error);
    if (status)
        return status;
    sgm_corpus_hash_text(corpus, hash);
    lab->heldout = tokens_of(corpus, SGM_HELDOUT);
    sgm_corpus_close(corpus);
    if (lab->plan.corpus && strcmp(lab->plan.corpus, hash) != 0)
        return sgm_fail(error, SGM_EARGUMENT, "put the text back as it was, or take another --out",
                        "%s: the text has changed since this lab began: %s has the hash %s, it was %s", lab->folder,
                        lab->data, hash, lab->plan.corpus);
    if (!lab->plan.corpus && !(lab->plan.corpus = sgm_strdup(hash)))
        return no_memory(error);
    return SGM_OK;
}

/* What an evaluation finds that asks for so many: an equal part of every domain, or all that one has. */
static int64_t found_of(const sgm_corpus *corpus, int64_t wanted) {
    int64_t present = 0, found = 0;
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++)
        present += sgm_corpus_tokens(corpus, SGM_HELDOUT, d) > 0;
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++) {
        int64_t own = sgm_corpus_tokens(corpus, SGM_HELDOUT, d), part = present ? (wanted + present - 1) / present : 0;
        found += wanted > 0 && own > part ? part : own;
    }
    return found;
}

void sgm_lab_tell_data(const sgm_lab *lab) {
    const sgm_config *config = lab->experiment->arms[lab->arm[0]].config;
    const char *per_step = sgm_config_get(config, "data.tokens_per_step");
    const char *asked = sgm_config_get(config, "train.final_eval_tokens");
    sgm_corpus *corpus = NULL;
    if (sgm_corpus_open(lab->data, &corpus, NULL))
        return; /* the first run says why */
    int64_t text = tokens_of(corpus, SGM_TRAIN), wanted = asked ? strtoll(asked, NULL, 10) : 0;
    int64_t heldout = found_of(corpus, wanted);
    double run = (double)lab->plan.steps * (per_step ? (double)strtoll(per_step, NULL, 10) : 0);
    if (text > 0 && run > (double)text)
        sgm_lab_note(lab, "a run of %.0f tokens goes %.1f times through the text, which has %" PRId64, run,
                     run / (double)text, text);
    if ((double)heldout < 0.9 * (double)wanted)
        sgm_lab_note(lab,
                     "arms are measured on about %" PRId64 " held-out tokens; %" PRId64
                     " were asked for, as many of each domain, and there are no more",
                     heldout, wanted);
    if (lab->experiment->serving.uses && lab->heldout == 0)
        sgm_lab_note(lab, "there is no held-out text: caches and placements are not tried");
    if (lab->experiment->serving.uses && lab->heldout > SGM_LAB_ROUTES_TOKENS)
        sgm_lab_note(lab, "caches and placements see the first %d of %" PRId64 " held-out tokens, domain after domain",
                     SGM_LAB_ROUTES_TOKENS, lab->heldout);
    sgm_corpus_close(corpus);
}

sgm_status sgm_lab_prepare_data(sgm_lab *lab, sgm_error *error) {
    char *folder = sgm_path_join(lab->folder, "data"), **own = NULL;
    size_t count = 0;
    if (!folder)
        return no_memory(error);
    if (sgm_path_exists(folder)) {
        lab->data = folder;
        return keep_corpus(lab, error);
    }
    sgm_free(folder);
    sgm_status status = SGM_OK;
    if (lab->plan.data_count) {
        status = take(lab, (const char *const *)lab->plan.data, lab->plan.data_count, error);
    } else if (*lab->experiment->frame.data) {
        status = own_paths(lab->experiment, &own, &count, error);
        if (!status)
            status = take(lab, (const char *const *)own, count, error);
    } else if (lab->options->default_data) {
        status = take(lab, &lab->options->default_data, 1, error);
    } else {
        status = sgm_fail(error, SGM_EARGUMENT, "name text or a data folder with --data, or `data:` in the experiment",
                          "there is nothing to train on");
    }
    for (size_t i = 0; i < count; i++)
        sgm_free(own[i]);
    sgm_free(own);
    return status ? status : keep_corpus(lab, error);
}
