// SPDX-License-Identifier: Apache-2.0
/* lab.json, and where the runs of a lab lie. */
#include "lab/plan.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"

static const char format_name[] = "sigmoe lab";

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "lab.json: no memory");
}

static void free_texts(char **texts, size_t count) {
    for (size_t i = 0; i < count; i++)
        sgm_free(texts[i]);
    sgm_free(texts);
}

void sgm_lab_plan_free(sgm_lab_plan *plan) {
    sgm_free(plan->experiment);
    sgm_free(plan->corpus);
    sgm_free(plan->name);
    sgm_free(plan->own_data);
    free_texts(plan->settings, plan->setting_count);
    free_texts(plan->data, plan->data_count);
    free_texts(plan->arms, plan->arm_count);
    *plan = (sgm_lab_plan){0};
}

sgm_status sgm_lab_texts(const char *const *from, size_t count, char ***texts, size_t *copied, sgm_error *error) {
    *copied = 0;
    *texts = sgm_alloc((count + 1) * sizeof **texts);
    for (size_t i = 0; *texts && i < count; i++) {
        if (!sgm_text_is_utf8(from[i]))
            return sgm_fail(error, SGM_EARGUMENT, "lab.json holds text: give it another name, or a link with one",
                            "\"%s\" is not valid UTF-8", from[i]);
        if (!((*texts)[i] = sgm_strdup(from[i])))
            return no_memory(error);
        ++*copied;
    }
    return *texts ? SGM_OK : no_memory(error);
}

bool sgm_lab_plan_wants(const sgm_lab_plan *plan, const char *arm) {
    for (size_t i = 0; i < plan->arm_count; i++)
        if (strcmp(plan->arms[i], arm) == 0)
            return true;
    return plan->arm_count == 0;
}

char *sgm_lab_run_folder(const char *folder, const char *arm, int64_t seed) {
    return sgm_format("%s/runs/%s-seed-%" PRId64, folder, arm, seed);
}

bool sgm_lab_run_complete(const char *run) {
    char *summary = sgm_path_join(run, "summary.json");
    bool complete = summary && sgm_path_exists(summary);
    sgm_free(summary);
    return complete;
}

/* ---- read ----------------------------------------------------------------------------------------------------- */

static const char damaged_hint[] = "was it edited? a new lab folder makes a new one";

static sgm_status damaged(const char *path, const char *what, sgm_error *error) {
    return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: %s", path, what);
}

static sgm_status read_texts(const char *path, const json_t *root, const char *key, char ***texts, size_t *count,
                             sgm_error *error) {
    const json_t *array = json_object_get(root, key);
    size_t size = json_array_size(array);
    if (!json_is_array(array) || !(*texts = sgm_alloc((size + 1) * sizeof **texts)))
        return json_is_array(array) ? no_memory(error) : damaged(path, "a list is missing", error);
    for (size_t i = 0; i < size; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text || !((*texts)[i] = sgm_strdup(text)))
            return text ? no_memory(error) : damaged(path, "an item of a list is no text", error);
        *count = i + 1;
    }
    return SGM_OK;
}

static sgm_status read_root(const char *path, const json_t *root, sgm_lab_plan *plan, sgm_error *error) {
    const char *format = json_string_value(json_object_get(root, "format"));
    const char *experiment = json_string_value(json_object_get(root, "experiment"));
    if (!format || strcmp(format, format_name) != 0 || !experiment)
        return damaged(path, "it is not the plan of a lab", error);
    if (json_integer_value(json_object_get(root, "version")) > SGM_LAB_VERSION)
        return sgm_fail(error, SGM_EFORMAT, "a newer sigmoe made it",
                        "%s: version %" JSON_INTEGER_FORMAT ", this build reads %d", path,
                        json_integer_value(json_object_get(root, "version")), SGM_LAB_VERSION);
    const json_t *minutes = json_object_get(root, "minutes");
    plan->minutes = json_is_number(minutes) ? json_number_value(minutes) : (double)NAN;
    if (!sgm_json_whole(root, "steps", &plan->steps) || !sgm_json_whole(root, "seeds", &plan->seeds))
        return damaged(path, "steps or seeds are missing, or no whole numbers", error);
    if (plan->steps < 1 || plan->seeds < 1 || plan->steps > SGM_LAB_STEPS || plan->seeds > SGM_LAB_SEEDS)
        return damaged(path, "its seeds must be 1 to 1000, its steps 1 to 10^12", error);
    const char *own = json_string_value(json_object_get(root, "experiment_data"));
    const char *name = json_string_value(json_object_get(root, "name"));
    const char *corpus = json_string_value(json_object_get(root, "corpus"));
    if (!(plan->experiment = sgm_strdup(experiment)) || (own && !(plan->own_data = sgm_strdup(own))) ||
        (name && !(plan->name = sgm_strdup(name))) || (corpus && !(plan->corpus = sgm_strdup(corpus))))
        return no_memory(error);
    sgm_status status = read_texts(path, root, "settings", &plan->settings, &plan->setting_count, error);
    if (!status)
        status = read_texts(path, root, "data", &plan->data, &plan->data_count, error);
    return status ? status : read_texts(path, root, "arms", &plan->arms, &plan->arm_count, error);
}

sgm_status sgm_lab_plan_read(const char *folder, sgm_lab_plan *plan, sgm_error *error) {
    *plan = (sgm_lab_plan){0};
    char *path = sgm_path_join(folder, "lab.json"), *text = NULL;
    size_t size = 0;
    sgm_status status = path ? SGM_OK : no_memory(error);
    if (!status && !sgm_path_exists(path))
        status = sgm_fail(error, SGM_ENOTFOUND, "give the folder that `sigmoe lab run --out` made",
                          "%s is no lab: it has no lab.json", folder);
    if (!status)
        status = sgm_file_read(path, 1 << 20, &text, &size, error);
    json_t *root = NULL;
    if (!status)
        status = sgm_json_read(text, size, JSON_REJECT_DUPLICATES, path, damaged_hint, &root, error);
    if (!status)
        status = read_root(path, root, plan, error);
    if (status)
        sgm_lab_plan_free(plan);
    json_decref(root);
    sgm_free(text);
    sgm_free(path);
    return status;
}

/* ---- write ---------------------------------------------------------------------------------------------------- */

static json_t *texts_json(char *const *texts, size_t count) {
    bool failed = false;
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        sgm_json_append(array, json_string(texts[i]), &failed);
    return sgm_json_or_null(array, failed);
}

sgm_status sgm_lab_plan_write(const char *folder, const sgm_lab_plan *plan, sgm_error *error) {
    bool failed = false;
    json_t *root = json_object();
    sgm_json_set(root, "format", json_string(format_name), &failed);
    sgm_json_set(root, "version", json_integer(SGM_LAB_VERSION), &failed);
    sgm_json_set(root, "experiment", json_string(plan->experiment), &failed);
    sgm_json_set(root, "name", plan->name ? json_string(plan->name) : json_null(), &failed);
    sgm_json_set(root, "steps", json_integer(plan->steps), &failed);
    sgm_json_set(root, "seeds", json_integer(plan->seeds), &failed);
    sgm_json_set(root, "minutes", isfinite(plan->minutes) ? json_real(plan->minutes) : json_null(), &failed);
    sgm_json_set(root, "settings", texts_json(plan->settings, plan->setting_count), &failed);
    sgm_json_set(root, "data", texts_json(plan->data, plan->data_count), &failed);
    sgm_json_set(root, "arms", texts_json(plan->arms, plan->arm_count), &failed);
    sgm_json_set(root, "experiment_data", plan->own_data ? json_string(plan->own_data) : json_null(), &failed);
    sgm_json_set(root, "corpus", plan->corpus ? json_string(plan->corpus) : json_null(), &failed);
    char *text = !failed ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) : NULL;
    char *path = sgm_path_join(folder, "lab.json");
    sgm_status status = text && path ? sgm_file_write(path, text, strlen(text), error) : no_memory(error);
    sgm_free(path);
    free(text);
    json_decref(root);
    return status;
}
