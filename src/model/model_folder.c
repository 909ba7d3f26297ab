// SPDX-License-Identifier: Apache-2.0
/* A model folder in Hugging Face layout: config.json, generation_config.json, model.safetensors, tokenizer files.
 *
 * Weights are written in the order of sgm_model_each_weight with the names and shapes transformers uses (norm gains have one
 * dimension). config.json comes last: a folder without it is not a model folder, so a half-written one is never taken for
 * one. */
#include "model/model_folder.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/system.h"
#include "model/model_files.h"
#include "sigmoe/text.h"

enum { CONFIG_LIMIT_BYTES = 1 << 24, TOKENIZER_LIMIT = 1 << 29 };

static sgm_status no_memory(sgm_error *error, const char *folder) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the file names of %s", folder);
}

/* ---- finding ---------------------------------------------------------------------------------------------------- */

static bool is_model_folder(const char *folder) {
    char *config = sgm_path_join(folder, "config.json");
    bool found = config && sgm_path_exists(config);
    sgm_free(config);
    return found;
}

/* The newest complete checkpoint of a run: `latest`, or where that link is missing or broken the highest step. Heap. */
static char *newest_checkpoint(const char *run) {
    char *latest = sgm_format("%s/checkpoints/latest", run), *folder = sgm_format("%s/checkpoints", run), **names;
    size_t count = 0;
    int64_t best = -1;
    char *found = NULL;
    if (latest && is_model_folder(latest)) {
        sgm_free(folder);
        return latest;
    }
    sgm_free(latest);
    if (!folder || !sgm_path_is_folder(folder) || sgm_folder_list(folder, &names, &count, NULL)) {
        sgm_free(folder);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        char *path = sgm_path_join(folder, names[i]);
        int64_t step = sgm_step_of_folder(names[i]);
        if (path && step > best && is_model_folder(path)) {
            best = step;
            sgm_free(found);
            found = path;
        } else {
            sgm_free(path);
        }
    }
    sgm_free(names);
    sgm_free(folder);
    return found;
}

int64_t sgm_step_of_folder(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *end;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return -1;
    long long step = strtoll(name + 5, &end, 10);
    return *end == '\0' && step < LLONG_MAX ? step : -1;
}

/* Folders below `path` that hold a model, as "a, b, …", for the hint. */
static void list_candidates(const char *path, char *text, size_t capacity) {
    char **names;
    size_t count, used = 0;
    if (sgm_folder_list(path, &names, &count, NULL))
        return;
    for (size_t i = 0; i < count && used + 1 < capacity; i++) {
        char *child = sgm_path_join(path, names[i]);
        char *run = child ? newest_checkpoint(child) : NULL;
        if (child && (run || is_model_folder(child)))
            used += (size_t)snprintf(text + used, capacity - used, "%s%s", used ? ", " : "did you mean ", child);
        sgm_free(run);
        sgm_free(child);
    }
    sgm_free(names);
}

/* What is there of that name is no folder, and no GGUF file. */
static sgm_status not_a_model(const char *path, sgm_error *error) {
    struct stat info;
    if (stat(path, &info) != 0) { /* a link that leads nowhere, or in a circle */
        char reason[96];
        const char *why = strerror_r(errno, reason, sizeof reason);
        return sgm_fail(error, SGM_ENOTFOUND, "check the path and the links in it", "there is no model %s: %s", path,
                        why);
    }
    if (!S_ISREG(info.st_mode))
        return sgm_fail(error, SGM_EFORMAT, "give a model folder or a GGUF file", "%s is neither a file nor a folder",
                        path);
    if (access(path, R_OK) != 0)
        return sgm_fail_input(error, errno, "read", path);
    size_t n = strlen(path);
    if (info.st_size == 0 || (n > 5 && strcmp(path + n - 5, ".gguf") == 0))
        return sgm_fail(error, SGM_EFORMAT, "fetch or make it again", "%s is no GGUF file: %s", path,
                        info.st_size ? "it does not begin with GGUF" : "it is empty");
    return sgm_fail(error, SGM_EFORMAT, "give a GGUF file, or the folder that holds config.json and model.safetensors",
                    "%s is a file, neither a GGUF file nor a model folder", path);
}

sgm_status sgm_model_folder_resolve(const char *path, char *folder, sgm_error *error) {
    char hint[256] = "";
    if (!sgm_path_exists(path))
        return sgm_fail(error, SGM_ENOTFOUND, "give a model folder, a checkpoint or a run folder",
                        "there is no model %s: no such file or folder", path);
    if (!sgm_path_is_folder(path))
        return not_a_model(path, error);
    if (access(path, X_OK) != 0)
        return sgm_fail_input(error, errno, "open the folder", path);
    char *run = is_model_folder(path) ? NULL : newest_checkpoint(path);
    if (!run && !is_model_folder(path)) {
        list_candidates(path, hint, sizeof hint);
        return sgm_fail(error, SGM_ENOTFOUND,
                        *hint ? hint : "a model folder holds config.json; a run folder holds checkpoints/latest",
                        "%s is neither a model folder, a checkpoint nor a run folder with a checkpoint", path);
    }
    char *real = realpath(run ? run : path, NULL);
    bool fits = real && strlen(real) < SGM_PATH_BYTES;
    if (fits)
        memcpy(folder, real, strlen(real) + 1);
    free(real);
    sgm_free(run);
    return fits ? SGM_OK
                : sgm_fail(error, SGM_EIO, "use a shorter path", "the folder behind %s cannot be resolved", path);
}

sgm_status sgm_model_config_read(const char *folder, sgm_hf_config *config, sgm_error *error) {
    char *path = sgm_path_join(folder, "config.json"), *text = NULL;
    size_t size = 0;
    sgm_status status = path ? sgm_file_read(path, CONFIG_LIMIT_BYTES, &text, &size, error) : no_memory(error, folder);
    if (!status)
        status = sgm_hf_config_parse(text, size, path, config, error);
    sgm_free(text);
    sgm_free(path);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static bool is_norm(const char *name) {
    static const char end[] = "norm.weight";
    size_t n = strlen(name);
    return n >= sizeof end - 1 && strcmp(name + n - (sizeof end - 1), end) == 0;
}

int sgm_weight_file_shape(const sgm_weight *weight, int64_t shape[2]) {
    if (is_norm(weight->name)) {
        shape[0] = weight->cols;
        return 1;
    }
    shape[0] = weight->rows;
    shape[1] = weight->cols;
    return 2;
}

/* The bias on selection of a routed sub-layer, named as DeepSeek-V3's files name that of the feed-forward; (E). */
static void bias_name(const sgm_model_settings *s, int64_t routed, char name[96]) {
    snprintf(name, 96, "model.layers.%" PRId64 ".%s.gate.e_score_correction_bias",
             sgm_routed_layer(s->attention_experts, routed),
             sgm_routed_is_attention(s->attention_experts, routed) ? "self_attn" : "mlp");
}

static sgm_status biases_declare(const sgm_model *model, sgm_safetensors_writer *writer, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (int64_t r = 0; !status && r < sgm_model_routed(&model->settings); r++) {
        char name[96];
        int64_t experts = sgm_model_routed_experts(&model->settings, r);
        bias_name(&model->settings, r, name);
        status = sgm_safetensors_writer_declare(writer, name, SGM_F32, 1, &experts, error);
    }
    return status;
}

static sgm_status weights_save(const sgm_model *model, const sgm_real *selection_bias, const char *folder,
                               sgm_error *error) {
    char *path = sgm_path_join(folder, "model.safetensors");
    sgm_safetensors_writer *writer = NULL;
    sgm_status status = path ? sgm_safetensors_writer_new(path, &writer, error) : no_memory(error, folder);
    if (!status)
        status = sgm_safetensors_writer_metadata(writer, "format", "pt", error);
    for (int64_t i = 0; !status && i < model->weight_count; i++) {
        int64_t shape[2];
        int dimensions = sgm_weight_file_shape(&model->weights[i], shape);
        status = sgm_safetensors_writer_declare(writer, model->weights[i].name, SGM_F32, dimensions, shape, error);
    }
    if (!status && selection_bias)
        status = biases_declare(model, writer, error);
    for (int64_t i = 0; !status && i < model->weight_count; i++) {
        const sgm_weight *weight = &model->weights[i];
        status = sgm_safetensors_writer_add(writer, weight->data, (size_t)(weight->rows * weight->cols) * sizeof(float),
                                            error);
    }
    for (int64_t r = 0; !status && selection_bias && r < sgm_model_routed(&model->settings); r++)
        status =
            sgm_safetensors_writer_add(writer, selection_bias + r * sgm_model_routed_stride(&model->settings),
                                       (size_t)sgm_model_routed_experts(&model->settings, r) * sizeof(float), error);
    if (!status)
        status = sgm_safetensors_writer_commit(writer, error);
    else
        sgm_safetensors_writer_abandon(writer);
    sgm_free(path);
    return status;
}

static sgm_status copy_file(const char *from, const char *to, sgm_error *error) {
    char *text;
    size_t size;
    sgm_status status = sgm_file_read(from, TOKENIZER_LIMIT, &text, &size, error);
    if (status)
        return status;
    status = sgm_file_write(to, text, size, error);
    sgm_free(text);
    return status;
}

/* One file of the tokenizer, if it is there. */
static sgm_status copy_from(const char *from_folder, const char *folder, const char *name, sgm_error *error) {
    char *from = sgm_path_join(from_folder, name), *to = sgm_path_join(folder, name);
    sgm_status status = from && to ? SGM_OK : no_memory(error, folder);
    if (!status && sgm_path_exists(from))
        status = copy_file(from, to, error);
    sgm_free(from);
    sgm_free(to);
    return status;
}

sgm_status sgm_model_tokenizer_check(const char *path, int64_t vocabulary, int32_t *end, sgm_error *error) {
    sgm_tokenizer *tokenizer;
    sgm_status status = sgm_tokenizer_open(path, &tokenizer, error);
    if (status)
        return status;
    int64_t needed = sgm_tokenizer_vocabulary(tokenizer);
    *end = sgm_tokenizer_end_of_text(tokenizer);
    sgm_tokenizer_close(tokenizer);
    if (needed > vocabulary)
        return sgm_fail(error, SGM_EARGUMENT, "set model.vocabulary to the tokenizer's size",
                        "the tokenizer %s has %" PRId64 " tokens, the model's vocabulary only %" PRId64, path, needed,
                        vocabulary);
    return SGM_OK;
}

/* Copy a tokenizer (a folder or a tokenizer.json) in; its end-of-text id into *end. */
static sgm_status tokenizer_copy(const char *path, int64_t vocabulary, const char *folder, int32_t *end,
                                 sgm_error *error) {
    sgm_status status = sgm_model_tokenizer_check(path, vocabulary, end, error);
    if (status)
        return status;
    if (sgm_path_is_folder(path)) {
        status = copy_from(path, folder, "tokenizer.json", error);
        return status ? status : copy_from(path, folder, "tokenizer_config.json", error);
    }
    char *to = sgm_path_join(folder, "tokenizer.json");
    status = to ? copy_file(path, to, error) : no_memory(error, folder);
    sgm_free(to);
    return status;
}

static sgm_status text_save(const char *folder, const char *name, const char *text, sgm_error *error) {
    char *path = sgm_path_join(folder, name);
    sgm_status status = path ? sgm_file_write(path, text, strlen(text), error) : no_memory(error, folder);
    sgm_free(path);
    return status;
}

sgm_status sgm_model_texts_save(sgm_hf_config *config, const char *tokenizer, const char *folder, sgm_error *error) {
    char *json = NULL, end[16], generation[128];
    config->end_of_text = -1;
    sgm_status status =
        tokenizer ? tokenizer_copy(tokenizer, config->settings.vocabulary, folder, &config->end_of_text, error)
                  : SGM_OK;
    snprintf(end, sizeof end, "%d", (int)config->end_of_text);
    snprintf(generation, sizeof generation, "{\n  \"bos_token_id\": %s,\n  \"eos_token_id\": %s\n}\n",
             config->end_of_text < 0 ? "null" : end, config->end_of_text < 0 ? "null" : end);
    if (!status)
        status = text_save(folder, "generation_config.json", generation, error);
    if (!status)
        status = sgm_hf_config_write(config, &json, error);
    if (!status)
        status = text_save(folder, "config.json", json, error);
    sgm_free(json);
    return status;
}

sgm_status sgm_model_folder_save(const sgm_model *model, const sgm_real *selection_bias,
                                 const int64_t *experts_per_token, const char *tokenizer_folder, const char *folder,
                                 sgm_error *error) {
    int64_t layers = sgm_model_routed(&model->settings);
    sgm_hf_config config = {
        .settings = model->settings, .router = model->router, .selection_bias = selection_bias != NULL};
    config.experts_per_token = sgm_alloc((size_t)layers * sizeof(int64_t));
    if (!config.experts_per_token)
        return no_memory(error, folder);
    for (int64_t l = 0; l < layers; l++)
        config.experts_per_token[l] =
            experts_per_token ? experts_per_token[l] : sgm_model_routed_per_token(&model->settings, l);
    sgm_status status = sgm_folder_make(folder, error);
    if (!status)
        status = weights_save(model, selection_bias, folder, error);
    if (!status)
        status = sgm_model_texts_save(&config, tokenizer_folder, folder, error);
    sgm_free(config.experts_per_token);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static sgm_status weight_load(const sgm_safetensors *file, const char *folder, sgm_weight *weight, sgm_error *error) {
    int64_t shape[2];
    int dimensions = sgm_weight_file_shape(weight, shape);
    const sgm_tensor_entry *entry = sgm_safetensors_find(file, weight->name);
    if (!entry)
        return sgm_fail(error, SGM_EFORMAT, "config.json and the weights are of different models",
                        "%s: the weights hold no tensor '%s'", folder, weight->name);
    bool same = entry->dimensions == dimensions && entry->shape[0] == shape[0] &&
                (dimensions == 1 || entry->shape[1] == shape[1]);
    if (!same)
        return sgm_fail(error, SGM_EFORMAT, "config.json and the weights are of different models",
                        "%s: tensor '%s' is (%" PRId64 ", %" PRId64 "), config.json says (%" PRId64 ", %" PRId64 ")",
                        folder, weight->name, entry->dimensions > 0 ? entry->shape[0] : 1,
                        entry->dimensions > 1 ? entry->shape[1] : 1, shape[0], dimensions > 1 ? shape[1] : 1);
    if (entry->dtype != SGM_F32 && entry->dtype != SGM_BF16 && entry->dtype != SGM_F16)
        return sgm_fail(error, SGM_EUNSUPPORTED, "weights are read from F32, BF16 and F16",
                        "%s: tensor '%s' has type %s", folder, weight->name, sgm_dtype_name(entry->dtype));
    return sgm_safetensors_read_f32(file, entry, weight->data, error);
}

static bool has_biases(const sgm_safetensors *file) {
    char name[96];
    bias_name(&(sgm_model_settings){0}, 0, name); /* of the first feed-forward: all have one or none has */
    return sgm_safetensors_find(file, name) != NULL;
}

/* The number of tensors that settings ask for; compared first, so that an absurd config.json costs nothing. */
static sgm_status count_check(const sgm_safetensors *file, const char *folder, const sgm_model_settings *s,
                              sgm_error *error) {
    int64_t each = sgm_layer_weights(s) + 3 * (s->experts - s->null_experts);
    int64_t wanted = 2 + s->layers * each + !s->tie_embeddings;
    int64_t found = (int64_t)sgm_safetensors_count(file);
    if (s->tie_embeddings && sgm_safetensors_find(file, "lm_head.weight"))
        found--; /* some writers repeat the tied table */
    if (has_biases(file))
        found -= sgm_model_routed(s);
    if (wanted == found)
        return SGM_OK;
    return sgm_fail(error, SGM_EFORMAT, "config.json and the weights are of different models",
                    "%s: the weights hold %" PRId64 " tensors, config.json asks for %" PRId64, folder, found, wanted);
}

static sgm_status open_checked(const char *folder, const sgm_model_settings *settings, sgm_safetensors **file,
                               sgm_error *error) {
    sgm_status status = sgm_safetensors_open(folder, file, error);
    if (!status)
        status = count_check(*file, folder, settings, error);
    if (!status)
        status = sgm_safetensors_verify(*file, error);
    return status;
}

/* `out` (L, E), heap; NULL: the file holds none. */
static sgm_status biases_read(const sgm_safetensors *file, const char *folder, const sgm_model_settings *settings,
                              sgm_real **out, sgm_error *error) {
    int64_t stride = sgm_model_routed_stride(settings);
    *out = NULL;
    sgm_real *all = has_biases(file) ? sgm_alloc((size_t)sgm_model_routed_numbers(settings) * sizeof(float)) : NULL;
    sgm_status status = !all && has_biases(file) ? no_memory(error, folder) : SGM_OK;
    for (int64_t r = 0; all && !status && r < sgm_model_routed(settings); r++) {
        char name[96];
        int64_t experts = sgm_model_routed_experts(settings, r);
        bias_name(settings, r, name);
        const sgm_tensor_entry *entry = sgm_safetensors_find(file, name);
        if (!entry || entry->dimensions != 1 || entry->shape[0] != experts || entry->dtype != SGM_F32)
            status = sgm_fail(error, SGM_EFORMAT, "each layer needs one F32 number for each expert",
                              "%s: tensor '%s' is missing or of another shape or type", folder, name);
        else
            status = sgm_safetensors_read_f32(file, entry, all + r * stride, error);
    }
    if (status)
        sgm_free(all);
    else
        *out = all;
    return status;
}

static sgm_status biases_load(const sgm_safetensors *file, const char *folder, sgm_model *model, sgm_error *error) {
    sgm_real *all;
    sgm_status status = biases_read(file, folder, &model->settings, &all, error);
    if (!status)
        status = sgm_model_set_selection_bias(model, all, error);
    sgm_free(all);
    return status;
}

static sgm_status weights_load(const sgm_safetensors *file, const char *folder, sgm_model *model, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (int64_t i = 0; !status && i < model->weight_count; i++)
        status = weight_load(file, folder, &model->weights[i], error);
    return status;
}

sgm_status sgm_model_folder_load_weights(const char *folder, sgm_model *model, sgm_real **bias, sgm_error *error) {
    sgm_safetensors *file = NULL;
    if (bias)
        *bias = NULL;
    sgm_status status = open_checked(folder, &model->settings, &file, error);
    if (!status)
        status = weights_load(file, folder, model, error);
    if (!status && bias)
        status = biases_read(file, folder, &model->settings, bias, error);
    sgm_safetensors_close(file);
    return status;
}

sgm_status sgm_model_folder_load(const char *folder, bool gradients, sgm_model **model, int64_t **experts_per_token,
                                 sgm_error *error) {
    sgm_hf_config config;
    sgm_safetensors *file = NULL;
    *model = NULL;
    sgm_status status = sgm_model_config_read(folder, &config, error);
    if (status)
        return status;
    status = open_checked(folder, &config.settings, &file, error);
    if (!status)
        status = sgm_model_new(&config.settings, config.router, gradients, model, error);
    if (!status)
        config.router.settings = NULL; /* the model's now */
    if (!status && config.selection_bias != has_biases(file))
        status = sgm_fail(error, SGM_EFORMAT, "config.json and the weights are of different models",
                          "%s: config.json says %s bias on selection, the weights hold %s", folder,
                          config.selection_bias ? "there is a" : "there is no", config.selection_bias ? "none" : "one");
    if (!status)
        status = weights_load(file, folder, *model, error);
    if (!status)
        status = biases_load(file, folder, *model, error);
    sgm_safetensors_close(file);
    if (!status && experts_per_token) {
        *experts_per_token = config.experts_per_token;
        config.experts_per_token = NULL;
    }
    sgm_hf_config_fini(&config);
    if (status) {
        sgm_model_free(*model);
        *model = NULL;
    }
    return status;
}
