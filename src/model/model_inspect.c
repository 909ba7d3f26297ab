// SPDX-License-Identifier: Apache-2.0
/* What is known of a model on disk without its weights in memory; and new models with random weights, streamed to disk. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attention/attention_experts.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/param.h"
#include "base/rng.h"
#include "model/model_files.h"
#include "model/model_convert.h"
#include "model/model_open.h"
#include "quant/quant.h"

/* Bytes of all *.safetensors files of a folder. */
static int64_t weight_file_bytes(const char *folder) {
    char **names;
    size_t count;
    int64_t bytes = 0;
    if (sgm_folder_list(folder, &names, &count, NULL))
        return 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(names[i]);
        char *path = n > 12 && strcmp(names[i] + n - 12, ".safetensors") == 0 ? sgm_path_join(folder, names[i]) : NULL;
        struct stat info;
        if (path && stat(path, &info) == 0)
            bytes += info.st_size;
        sgm_free(path);
    }
    sgm_free(names);
    return bytes;
}

/* "f32", "bf16", "f16", or "mixed". */
static sgm_status weight_type(const char *folder, char *type, size_t capacity, sgm_error *error) {
    static const char *const names[] = {[SGM_F32] = "f32", [SGM_F16] = "f16", [SGM_BF16] = "bf16", [SGM_F64] = "f64",
                                        [SGM_I64] = "i64", [SGM_I32] = "i32", [SGM_U8] = "u8"};
    sgm_safetensors *file;
    sgm_status status = sgm_safetensors_open(folder, &file, error);
    if (status)
        return status;
    const char *found = "none";
    for (size_t i = 0; i < sgm_safetensors_count(file); i++) {
        const char *name = names[sgm_safetensors_at(file, i)->dtype];
        found = i == 0 || found == name ? name : "mixed";
    }
    snprintf(type, capacity, "%s", found);
    sgm_safetensors_close(file);
    return SGM_OK;
}

/* What of sgm_model_info a GGUF file says in its own way. */
static sgm_status inspect_gguf(sgm_model_info *info, sgm_error *error) {
    sgm_gguf *file;
    const char *kind;
    size_t size;
    int64_t bytes[SGM_TYPES] = {0};
    sgm_status status = sgm_gguf_open(info->folder, &file, error);
    if (status)
        return status;
    info->file_bytes = (int64_t)sgm_gguf_bytes(file);
    info->has_tokenizer =
        sgm_gguf_get_text(file, "tokenizer.ggml.model", &kind, &size) && size == 4 && memcmp(kind, "gpt2", 4) == 0;
    for (int64_t i = 0; i < sgm_gguf_tensor_count(file); i++) {
        const sgm_gguf_tensor *tensor = sgm_gguf_tensor_at(file, i);
        const sgm_quant *quant = sgm_quant_of_gguf(tensor->gguf_type);
        if (quant)
            bytes[quant->type] += (int64_t)tensor->bytes;
    }
    int most = 0;
    for (int type = 1; type < SGM_TYPES; type++)
        most = bytes[type] > bytes[most] ? type : most;
    snprintf(info->dtype, sizeof info->dtype, "%s", sgm_quant_of((sgm_type)most)->name);
    sgm_gguf_close(file);
    return SGM_OK;
}

sgm_status sgm_model_inspect(const char *path, sgm_model_info *info, sgm_error *error) {
    *info = (sgm_model_info){.step = -1};
    sgm_hf_config config;
    sgm_status status = sgm_model_open_config(path, info->folder, &config, error);
    if (status)
        return status;
    info->settings = config.settings;
    double k = sgm_model_mean_per_token(&config.settings, config.experts_per_token);
    sgm_model_count(&config.settings, k, config.settings.context, &info->counts);
    snprintf(info->model_type, sizeof info->model_type, "%s", config.model_type);
    snprintf(info->router, sizeof info->router, "%s", config.router.plugin->plugin.name);
    sgm_hf_config_fini(&config);
    if (sgm_model_is_gguf(info->folder))
        return inspect_gguf(info, error);
    info->file_bytes = weight_file_bytes(info->folder);
    info->step = sgm_step_of_folder(info->folder);
    char *tokenizer = sgm_path_join(info->folder, "tokenizer.json");
    info->has_tokenizer = tokenizer && sgm_path_exists(tokenizer);
    sgm_free(tokenizer);
    return weight_type(info->folder, info->dtype, sizeof info->dtype, error);
}

/* ---- the tensors of a GGUF file ------------------------------------------------------------------------------------- */

static sgm_tensor_group group_of(const sgm_gguf_tensor *tensor) {
    const sgm_quant *quant = sgm_quant_of_gguf(tensor->gguf_type);
    sgm_tensor_group group = {.tensors = 1, .elements = 1, .bytes = (int64_t)tensor->bytes};
    char kind[SGM_GGUF_TENSOR_NAME];
    sgm_gguf_kind(tensor->name, kind);
    snprintf(group.kind, sizeof group.kind, "%s", kind);
    if (quant)
        snprintf(group.type, sizeof group.type, "%s", quant->name);
    else
        snprintf(group.type, sizeof group.type, "type %" PRIu32, tensor->gguf_type);
    for (int i = 0; i < tensor->dimensions; i++) /* a type of ours: checked when opened; others: for show only */
        if (__builtin_mul_overflow(group.elements, tensor->shape[i], &group.elements))
            group.elements = INT64_MAX;
    return group;
}

sgm_status sgm_model_tensor_groups(const char *path, sgm_tensor_group **groups, size_t *count, sgm_error *error) {
    sgm_gguf *file = NULL;
    *groups = NULL;
    *count = 0;
    if (!sgm_model_is_gguf(path))
        return sgm_fail(error, SGM_EARGUMENT, "give a .gguf file", "%s is not a GGUF file", path);
    sgm_status status = sgm_gguf_open(path, &file, error);
    if (status)
        return status;
    enum { GROUPS_MOST = 1024 };
    *groups = sgm_alloc(GROUPS_MOST * sizeof **groups);
    if (!*groups)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory to inspect %s", path);
    for (int64_t t = 0; !status && t < sgm_gguf_tensor_count(file); t++) {
        sgm_tensor_group group = group_of(sgm_gguf_tensor_at(file, t));
        size_t i = 0;
        while (i < *count && (strcmp((*groups)[i].kind, group.kind) != 0 || strcmp((*groups)[i].type, group.type) != 0))
            i++;
        if (i == *count && *count < GROUPS_MOST) {
            (*groups)[(*count)++] = group;
        } else if (i < *count) {
            (*groups)[i].tensors++;
            (*groups)[i].bytes += group.bytes;
            if (__builtin_add_overflow((*groups)[i].elements, group.elements, &(*groups)[i].elements))
                (*groups)[i].elements = INT64_MAX;
        }
    }
    sgm_gguf_close(file);
    return status;
}

void sgm_tensor_groups_free(sgm_tensor_group *groups) {
    sgm_free(groups);
}

/* ---- random models ---------------------------------------------------------------------------------------------- */

enum { CHUNK = 1 << 16 }; /* elements made at once */

typedef struct filling {
    sgm_safetensors_writer *writer;
    uint64_t seed;
    float *chunk;
    const volatile int *stop; /* NULL: nobody stops it */
} filling;

static sgm_status declare(void *context, const sgm_weight *weight, sgm_error *error) {
    int64_t shape[2];
    int dimensions = sgm_weight_file_shape(weight, shape);
    return sgm_safetensors_writer_declare(((filling *)context)->writer, weight->name, SGM_F32, dimensions, shape,
                                          error);
}

/* The same values as sgm_model_randomise. */
static sgm_status fill(void *context, const sgm_weight *weight, sgm_error *error) {
    filling *f = context;
    int64_t total = weight->rows * weight->cols;
    sgm_status status = SGM_OK;
    for (int64_t begin = 0; !status && begin < total; begin += CHUNK) {
        if (f->stop && *f->stop)
            return sgm_fail(error, SGM_EINTERRUPTED, NULL, "interrupted; nothing is left behind");
        int64_t n = total - begin < CHUNK ? total - begin : CHUNK;
        sgm_weight_initial(weight, f->seed, begin, n, f->chunk);
        status = sgm_safetensors_writer_add(f->writer, f->chunk, (size_t)n * sizeof(float), error);
    }
    return status;
}

static sgm_status random_weights(const sgm_model_settings *settings, uint64_t seed, const char *folder,
                                 const volatile int *stop, sgm_error *error) {
    filling f = {.seed = seed, .chunk = sgm_alloc(CHUNK * sizeof(float)), .stop = stop};
    char *path = sgm_path_join(folder, "model.safetensors");
    sgm_status status = f.chunk && path ? sgm_safetensors_writer_new(path, &f.writer, error)
                                        : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to write %s", folder);
    if (!status)
        status = sgm_safetensors_writer_metadata(f.writer, "format", "pt", error);
    if (!status)
        status = sgm_model_each_weight(settings, declare, &f, error);
    if (!status)
        status = sgm_model_each_weight(settings, fill, &f, error);
    if (!status)
        status = sgm_safetensors_writer_commit(f.writer, error);
    else
        sgm_safetensors_writer_abandon(f.writer);
    sgm_free(f.chunk);
    sgm_free(path);
    return status;
}

/* The folder must be new or empty. */
static sgm_status folder_check(const char *folder, sgm_error *error) {
    char **names;
    size_t count = 0;
    if (!sgm_path_exists(folder))
        return SGM_OK;
    if (!sgm_path_is_folder(folder))
        return sgm_fail(error, SGM_EEXISTS, "choose another name, or remove it", "%s exists and is no folder", folder);
    sgm_status status = sgm_folder_list(folder, &names, &count, error);
    if (status)
        return status;
    sgm_free(names);
    return count ? sgm_fail(error, SGM_EEXISTS, "choose another folder, or remove it",
                            "the folder %s exists and is not empty", folder)
                 : SGM_OK;
}

static const char unfinished[] = ".part";

/* Where a model is written until it is whole: FOLDER.part. In the folder itself where that is there already, or has no name that
 * could be longer ("a/..", 255 bytes). */
static char *work_path(const char *folder) {
    size_t n = strlen(folder), name;
    while (n > 1 && (folder[n - 1] == '/' || (folder[n - 1] == '.' && folder[n - 2] == '/')))
        n--;
    for (name = n; name && folder[name - 1] != '/';)
        name--;
    const size_t size = n - name;
    const bool dots = size <= 2 && strspn(folder + name, ".") >= size;
    return sgm_path_exists(folder) || dots || size + strlen(unfinished) > NAME_MAX
               ? sgm_strdup(folder)
               : sgm_format("%.*s%s", (int)n, folder, unfinished);
}

/* `path`, and the folders above it that were made with it, one by one and only while they are empty: another process may be
 * making a model beside this one. */
static void remove_empty(const char *path, size_t existing) {
    char *left = sgm_strdup(path);
    for (size_t n = left ? strlen(left) : 0; n > existing && rmdir(left) == 0;)
        n = sgm_path_cut(left, n);
    sgm_free(left);
}

/* Take back what a failed init wrote: everything in the folder, which was empty, its lock's file last, then the folder and those
 * above that it made. */
static void folder_undo(const char *folder, size_t existing) {
    char **names;
    size_t count = 0;
    if (!sgm_folder_list(folder, &names, &count, NULL)) {
        for (int last = 0; last < 2; last++)
            for (size_t i = 0; i < count; i++) {
                char *path = (strcmp(names[i], SGM_WORK_NAME) == 0) == last ? sgm_path_join(folder, names[i]) : NULL;
                if (path)
                    unlink(path);
                sgm_free(path);
            }
        sgm_free(names);
    }
    remove_empty(folder, existing);
}

/* The router that a config asks for; its texts and lists are borrowed from the config. */
static sgm_status router_from_config(const sgm_config *config, sgm_router *router, sgm_error *error) {
    const char *kind = sgm_config_get(config, "router.kind");
    *router = (sgm_router){.plugin = sgm_router_find(kind ? kind : "", error)};
    if (!router->plugin)
        return SGM_EARGUMENT;
    const sgm_plugin *plugin = &router->plugin->plugin;
    router->settings = sgm_alloc(plugin->settings_bytes + 1);
    if (!router->settings)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the router's settings");
    return sgm_config_bind(config, "router", plugin->params, plugin->param_count, router->settings, error);
}

sgm_status sgm_model_new_config(const sgm_config *config, sgm_hf_config *out, sgm_error *error) {
    *out = (sgm_hf_config){.end_of_text = -1};
    sgm_status status = sgm_model_settings_from_config(config, &out->settings, error);
    if (!status)
        status = router_from_config(config, &out->router, error);
    if (!status && out->router.plugin->check)
        status = out->router.plugin->check(out->router.settings, out->settings.experts, out->settings.experts_per_token,
                                           error);
    if (!status && out->settings.attention_experts > 0)
        status = sgm_attention_router_check(&out->router, error);
    if (!status && out->settings.attention_experts > 0 && out->router.plugin->check)
        status = out->router.plugin->check(out->router.settings, out->settings.attention_experts,
                                           out->settings.attention_experts_per_token, error);
    if (status)
        return status;
    int64_t routed = sgm_model_routed(&out->settings);
    out->experts_per_token = sgm_alloc((size_t)routed * sizeof(int64_t));
    if (!out->experts_per_token)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a model");
    for (int64_t r = 0; r < routed; r++)
        out->experts_per_token[r] = sgm_model_routed_per_token(&out->settings, r);
    return SGM_OK;
}

/* A folder that is there, empty, is filled. A new one is written beside its name, and renamed when it is whole. */
static sgm_status write_folder(sgm_hf_config *config, const char *tokenizer_path, uint64_t seed, const char *folder,
                               const volatile int *stop, sgm_error *error) {
    sgm_model_counts counts;
    sgm_lock *lock = NULL;
    const size_t existing = sgm_path_existing(folder);
    char *work = work_path(folder);
    const bool beside = work && strcmp(work, folder) != 0;
    sgm_model_count(&config->settings, (double)config->settings.experts_per_token, config->settings.context, &counts);
    sgm_status status =
        work ? folder_check(folder, error) : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the path %s", folder);
    bool ours = false;
    if (!status) {
        status = beside ? sgm_work_folder_take(work, &lock, error) : sgm_folder_make(folder, error);
        ours = !status;
        if (status && status != SGM_EBUSY && status != SGM_EEXISTS)
            remove_empty(work, existing);
    }
    if (!status) /* what an earlier call left there is gone by now */
        status = sgm_disk_check(work, (uint64_t)counts.bytes, error);
    if (!status)
        status = random_weights(&config->settings, seed, work, stop, error);
    if (!status)
        status = sgm_model_texts_save(config, tokenizer_path, work, error);
    if (!status && beside) {
        char *name = sgm_format("%.*s", (int)(strlen(work) - strlen(unfinished)),
                                work); /* FOLDER without what ends in no name */
        status = name ? sgm_work_folder_finish(work, name, error)
                      : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the path %s", folder);
        sgm_free(name);
    }
    if (status && ours)
        folder_undo(work, existing);
    sgm_lock_drop(lock);
    sgm_free(work);
    return status;
}

sgm_status sgm_model_init(const sgm_config *config, const char *tokenizer_path, uint64_t seed, const char *type,
                          const char *folder, const volatile int *stop, sgm_error *error) {
    sgm_hf_config written = {0};
    if (type && strcmp(type, "f32") != 0)
        return sgm_fail(error, SGM_EARGUMENT, "other types go into a GGUF file",
                        "a model folder cannot be written as '%s'", type);
    sgm_status status = sgm_model_new_config(config, &written, error);
    if (!status && tokenizer_path) /* a model is long to write: what can be refused is refused before */
        status = sgm_model_tokenizer_check(tokenizer_path, written.settings.vocabulary, &written.end_of_text, error);
    if (!status)
        status = write_folder(&written, tokenizer_path, seed, folder, stop, error);
    sgm_hf_config_fini(&written);
    return status;
}
