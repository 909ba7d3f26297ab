// SPDX-License-Identifier: Apache-2.0
/* state.json. Its config holds the keys that decide the numbers and none that do not: where files lie, how many threads
 * compute, how often something is saved or shown. So runs that differ only in those have equal checkpoints. */
#include "train/checkpoint_state.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

static const char *const left_out[] = {"data.micro_batch_tokens", "data.folder",         "data.tokenizer",
                                       "data.heldout_share",      "data.deduplicate",    "data.document_bytes",
                                       "train.threads",           "train.kernels",       "train.checkpoint_every",
                                       "train.keep_checkpoints",  "train.eval_every",    "train.eval_tokens",
                                       "train.final_eval_tokens", "train.load_every",    "train.max_skipped_steps",
                                       "train.sample_tokens",     "train.sample_prompt", "train.recompute",
                                       "train.trace_every"};

static bool is_left_out(const char *key) {
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++)
        if (strcmp(key, left_out[i]) == 0)
            return true;
    return false;
}

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "state.json: no memory");
}

/* ---- write ------------------------------------------------------------------------------------------------------ */

static json_t *integers(const int64_t *values, int64_t count) {
    bool failed = false;
    json_t *array = json_array();
    for (int64_t i = 0; i < count; i++)
        sgm_json_append(array, json_integer(values[i]), &failed);
    return sgm_json_or_null(array, failed);
}

static json_t *hexadecimal(uint64_t value) {
    return json_sprintf("%016" PRIx64, value);
}

/* The split into micro-batches changes no number, unless each of them gets a domain of its own. */
static bool decides(const sgm_config *config, const char *key) {
    const char *grouped = sgm_config_get(config, "data.one_domain_per_micro_batch");
    return !is_left_out(key) ||
           (strcmp(key, "data.micro_batch_tokens") == 0 && grouped && strcmp(grouped, "true") == 0);
}

static json_t *describe_config(const sgm_config *config) {
    bool failed = false;
    json_t *object = json_object();
    for (size_t i = 0; i < sgm_config_count(config); i++) {
        const char *key = sgm_config_key(config, i);
        if (decides(config, key))
            sgm_json_set(object, key, json_string(sgm_config_get(config, key)), &failed);
    }
    return sgm_json_or_null(object, failed);
}

sgm_status sgm_checkpoint_state_write(const char *folder, const sgm_stepper *stepper, const sgm_loader *loader,
                                      uint64_t corpus_hash, sgm_error *error) {
    bool failed = false;
    int64_t count = sgm_loader_position_count(loader);
    int64_t *position = sgm_alloc((size_t)count * sizeof *position + 1);
    json_t *root = json_object();
    char *path = sgm_path_join(folder, "state.json"), *text = NULL;
    if (position && root && path) {
        sgm_loader_position_get(loader, position);
        const sgm_run_settings *settings = stepper->settings;
        sgm_json_set(root, "format", json_string("sigmoe training state"), &failed);
        sgm_json_set(root, "version", json_integer(SGM_CHECKPOINT_VERSION), &failed);
        sgm_json_set(root, "step", json_integer(stepper->step), &failed);
        sgm_json_set(root, "tokens", json_integer(stepper->tokens), &failed);
        sgm_json_set(root, "updates", json_integer(stepper->updates), &failed);
        sgm_json_set(root, "skipped_in_row", json_integer(stepper->skipped_in_row), &failed);
        sgm_json_set(root, "seed", json_integer(settings->train.seed), &failed);
        sgm_json_set(root, "kernels", json_string(stepper->kernels->name), &failed);
        sgm_json_set(root, "corpus", hexadecimal(corpus_hash), &failed);
        sgm_json_set(root, "loader", integers(position, count), &failed);
        sgm_json_set(root, "experts_per_token",
                     integers(stepper->experts_per_token, sgm_model_routed(&settings->model)), &failed);
        sgm_json_set(root, "config", describe_config(settings->config), &failed);
        text = json_dumps(root, JSON_INDENT(1));
    }
    sgm_status status = text && !failed ? SGM_OK : no_memory(error);
    if (!status)
        status = sgm_file_write(path, text, strlen(text), error);
    free(text);
    json_decref(root);
    sgm_free(path);
    sgm_free(position);
    return status;
}

/* ---- read ------------------------------------------------------------------------------------------------------- */

static sgm_status wrong(const char *path, const char *key, sgm_error *error) {
    return sgm_fail(error, SGM_EFORMAT, "resume from an earlier checkpoint", "%s: \"%s\" is missing or of a wrong type",
                    path, key);
}

static bool whole(const json_t *root, const char *key, int64_t *value) {
    return sgm_json_whole(root, key, value) && *value >= 0;
}

static sgm_status changed(const char *key, const char *was, const char *is, sgm_error *error) {
    return sgm_fail(error, SGM_EARGUMENT, "put it back in config.yaml, or start a new run",
                    "%s: the checkpoint was made with %s, the run now says %s", key, was, is);
}

/* The model, the router, the numbers products are computed in and the order of the text (a position in another order means
 * other documents) must be what they were; anything else may change, and is told. */
static bool is_fixed(const char *key) {
    return strncmp(key, "model.", 6) == 0 || strncmp(key, "router.", 7) == 0 || strcmp(key, "train.compute") == 0 ||
           strcmp(key, "train.seed") == 0;
}

static sgm_status compare_config(const json_t *saved, const sgm_config *config, const sgm_notes *notes,
                                 sgm_error *error) {
    const char *key, *compute = sgm_config_get(config, "train.compute");
    json_t *value;
    if (!json_object_get(saved, "train.compute") && strcmp(compute, "f32") != 0) /* it is older than that key */
        return changed("train.compute", "f32", compute, error);
    json_object_foreach((json_t *)(uintptr_t)saved, key, value) {
        const char *was = json_string_value(value), *is = sgm_config_get(config, key);
        if (!was || (is && strcmp(was, is) == 0))
            continue;
        if (is_fixed(key))
            return changed(key, was, is ? is : "nothing", error);
        if (is && strcmp(sgm_config_origin(config, key), "default") == 0)
            return sgm_fail(error, SGM_EFORMAT, "write it there, with its old value or another one",
                            "the run's config.yaml lacks %s, which was %s when the checkpoint was made", key, was);
        sgm_note(notes, sgm_format("%s was %s when the checkpoint was made and is %s now", key, was, is ? is : "gone"));
    }
    return SGM_OK;
}

static sgm_status read_loader(const char *path, const json_t *root, sgm_loader *loader, sgm_error *error) {
    const json_t *array = json_object_get(root, "loader");
    size_t count = json_array_size(array);
    int64_t *values = sgm_alloc(count * sizeof *values + 1);
    if (!values)
        return no_memory(error);
    sgm_status status = json_is_array(array) ? SGM_OK : wrong(path, "loader", error);
    for (size_t i = 0; i < count && !status; i++) {
        const json_t *item = json_array_get(array, i);
        values[i] = json_integer_value(item);
        if (!json_is_integer(item))
            status = wrong(path, "loader", error);
    }
    if (!status)
        status = sgm_loader_position_put(loader, values, (int64_t)count, error);
    sgm_free(values);
    return status;
}

static sgm_status read_root(const char *path, const json_t *root, sgm_stepper *stepper, sgm_loader *loader,
                            uint64_t corpus_hash, const sgm_notes *notes, sgm_error *error) {
    int64_t version, step, tokens, updates, skipped;
    const char *format = json_string_value(json_object_get(root, "format"));
    if (!format || strcmp(format, "sigmoe training state") != 0)
        return wrong(path, "format", error);
    if (!whole(root, "version", &version) || version < 1)
        return wrong(path, "version", error);
    if (version > SGM_CHECKPOINT_VERSION)
        return sgm_fail(error, SGM_EFORMAT, "a newer sigmoe made it", "%s: version %" PRId64 ", this build reads %d",
                        path, version, SGM_CHECKPOINT_VERSION);
    if (!whole(root, "step", &step) || !whole(root, "tokens", &tokens) || !whole(root, "updates", &updates) ||
        !whole(root, "skipped_in_row", &skipped) || updates > step)
        return wrong(path, "step, tokens, updates, skipped_in_row", error);
    char hash[32];
    snprintf(hash, sizeof hash, "%016" PRIx64, corpus_hash);
    const char *saved = json_string_value(json_object_get(root, "corpus"));
    if (!saved || strcmp(saved, hash) != 0)
        return sgm_fail(error, SGM_EARGUMENT, "put the data folder back as it was, or start a new run",
                        "%s: it was trained on corpus %s, the run's data folder is %s", path, saved ? saved : "?",
                        hash);
    const char *kernels = json_string_value(json_object_get(root, "kernels"));
    if (kernels && strcmp(kernels, stepper->kernels->name) != 0)
        sgm_note(notes, sgm_format("kernels were %s and are %s now: the run continues, but not bit for bit", kernels,
                                   stepper->kernels->name));
    sgm_status status = compare_config(json_object_get(root, "config"), stepper->settings->config, notes, error);
    if (!status)
        status = read_loader(path, root, loader, error);
    if (!status)
        sgm_stepper_seek(stepper, step, tokens, updates, skipped);
    return status;
}

sgm_status sgm_checkpoint_state_read(const char *folder, sgm_stepper *stepper, sgm_loader *loader, uint64_t corpus_hash,
                                     const sgm_notes *notes, sgm_error *error) {
    char *path = sgm_path_join(folder, "state.json"), *text = NULL;
    size_t size;
    sgm_status status = path ? sgm_file_read(path, 64 << 20, &text, &size, error) : no_memory(error);
    json_t *root = NULL;
    if (!status)
        status =
            sgm_json_read(text, size, JSON_REJECT_DUPLICATES, path, "resume from an earlier checkpoint", &root, error);
    if (!status)
        status = read_root(path, root, stepper, loader, corpus_hash, notes, error);
    json_decref(root);
    sgm_free(text);
    sgm_free(path);
    return status;
}

sgm_status sgm_checkpoint_state_is_finite(const char *folder, bool *finite, sgm_error *error) {
    char *path = sgm_path_join(folder, "state.json"), *text = NULL;
    size_t size;
    int64_t skipped = -1;
    json_t *root = NULL;
    sgm_status status = path ? sgm_file_read(path, 64 << 20, &text, &size, error) : no_memory(error);
    if (!status)
        status = sgm_json_read(text, size, 0, path, NULL, &root, error);
    *finite = whole(root, "skipped_in_row", &skipped) && skipped == 0;
    json_decref(root);
    sgm_free(text);
    sgm_free(path);
    return status == SGM_EMEMORY || status == SGM_EIO || status == SGM_EPERMISSION ? status : SGM_OK;
}
