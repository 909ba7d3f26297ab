// SPDX-License-Identifier: Apache-2.0
/* A GGUF file as a model for inference: every weight is a view of the mapped file.
 *
 * Nothing of the size of the model is read, copied or repacked here; pages come in when a step touches them and are shared by
 * all processes that have the file open. What has to be f32 (norm gains, routers, biases on selection) and is not in the
 * file is unpacked into one small block. */
#include "model/model_gguf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model_files.h"
#include "quant/quant.h"

bool sgm_model_is_gguf(const char *path) {
    char magic[4];
    struct stat info;
    if (stat(path, &info) < 0 || !S_ISREG(info.st_mode))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool same = fd >= 0 && pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    if (fd >= 0)
        close(fd);
    return same;
}

typedef struct loading {
    const sgm_gguf *file;
    const char *label;
    sgm_model *model;
    int64_t small_elements; /* of the block for what has to be f32; counted first, then filled */
    sgm_error *error;
} loading;

/* Norm gains and routers are read as floats by their ops. */
static bool has_to_be_f32(const sgm_weight *weight) {
    return weight->rows == 1 || strstr(weight->name, ".mlp.gate.") != NULL;
}

/* "(8, 64)" */
enum { SHAPE_TEXT = 128 };
static void shape_print(int dimensions, const int64_t *shape, char text[SHAPE_TEXT]) {
    int used = snprintf(text, SHAPE_TEXT, "(");
    for (int i = 0; i < dimensions; i++) /* at most four of at most 19 digits */
        used += snprintf(text + used, SHAPE_TEXT - (size_t)used, "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(text + used, SHAPE_TEXT - (size_t)used, ")");
}

/* The tensor `name` with this shape and a type of ours. */
static sgm_status tensor_get(const loading *l, const char *name, int dimensions, const int64_t *shape,
                             const sgm_gguf_tensor **tensor, const sgm_quant **quant) {
    const sgm_gguf_tensor *found = sgm_gguf_tensor_find(l->file, name);
    if (!found)
        return sgm_fail(l->error, SGM_EFORMAT, "the file is damaged, or of another kind of model",
                        "%s: there is no tensor '%s'", l->label, name);
    bool same = found->dimensions == dimensions;
    for (int i = 0; same && i < dimensions; i++)
        same = found->shape[i] == shape[i];
    if (!same) {
        char has[SHAPE_TEXT], wanted[SHAPE_TEXT];
        shape_print(found->dimensions, found->shape, has);
        shape_print(dimensions, shape, wanted);
        return sgm_fail(l->error, SGM_EFORMAT, "the file is damaged, or of another kind of model",
                        "%s: tensor '%s' has the shape %s, it should have %s", l->label, name, has, wanted);
    }
    *quant = sgm_quant_of_gguf(found->gguf_type);
    if (!*quant)
        return sgm_fail(l->error, SGM_EUNSUPPORTED, "types read: f32, f16, bf16, q8_0, q4_0, q5_0, q4_k, q6_k",
                        "%s: tensor '%s' is of GGUF type %" PRIu32 ", which is not supported", l->label, name,
                        found->gguf_type);
    *tensor = found;
    return SGM_OK;
}

/* Let a weight point at its matrix. */
static void weight_view(loading *l, sgm_weight *weight, const sgm_quant *quant, const void *at) {
    size_t stride = sgm_quant_row_bytes(quant->type, weight->cols);
    if (quant->type == SGM_TYPE_F32) {
        weight->data = (sgm_real *)(uintptr_t)at;
    } else if (has_to_be_f32(weight)) {
        sgm_matrix matrix = {quant->type, weight->rows, weight->cols, at, stride};
        weight->data = l->model->data ? l->model->data + l->small_elements : NULL;
        for (int64_t i = 0; weight->data && i < weight->rows; i++)
            sgm_matrix_unpack_row(&matrix, i, weight->data + i * weight->cols);
        l->small_elements += weight->rows * weight->cols;
    } else {
        weight->stored = (sgm_matrix){quant->type, weight->rows, weight->cols, at, stride};
    }
}

static sgm_status part_load(loading *l, const sgm_gguf_part *part) {
    sgm_weight *weights = l->model->weights + part->first;
    int64_t shape[3] = {part->count};
    int leading = part->stacked, dimensions = leading + sgm_weight_file_shape(weights, shape + leading);
    const sgm_gguf_tensor *tensor = NULL;
    const sgm_quant *quant = NULL;
    sgm_status status = tensor_get(l, part->name, dimensions, shape, &tensor, &quant);
    if (status)
        return status;
    size_t each = (size_t)(tensor->bytes / (uint64_t)part->count);
    for (int64_t i = 0; i < part->count; i++)
        weight_view(l, &weights[i * part->step], quant, (const char *)tensor->data + (size_t)i * each);
    return SGM_OK;
}

/* Layers whose experts are tensors of their own. */
static bool *split_layers(const loading *l) {
    const sgm_model_settings *s = &l->model->settings;
    bool *split = sgm_alloc((size_t)s->layers * sizeof *split);
    for (int64_t i = 0; split && i < s->layers; i++) {
        char name[SGM_GGUF_TENSOR_NAME];
        snprintf(name, sizeof name, "blk.%" PRId64 ".ffn_gate.0.weight", i);
        split[i] = sgm_gguf_tensor_find(l->file, name) != NULL;
    }
    return split;
}

/* All tensors. With model->data NULL it counts what has to be unpacked; with it, it unpacks. */
static sgm_status parts_load(loading *l, const bool *split) {
    sgm_gguf_part part;
    sgm_status status = SGM_OK;
    l->small_elements = 0;
    for (int64_t i = 0; !status && sgm_gguf_part_at(&l->model->settings, split, i, &part); i++)
        status = part_load(l, &part);
    return status;
}

static sgm_status biases_load(loading *l) {
    const sgm_model_settings *s = &l->model->settings;
    sgm_real *all = sgm_alloc((size_t)(s->layers * s->experts) * sizeof *all);
    sgm_status status = all ? SGM_OK : sgm_fail(l->error, SGM_EMEMORY, NULL, "no memory for the routers' biases");
    for (int64_t i = 0; !status && i < s->layers; i++) {
        char name[SGM_GGUF_TENSOR_NAME];
        const sgm_gguf_tensor *tensor = NULL;
        const sgm_quant *quant = NULL;
        sgm_gguf_bias_name(i, name);
        status = tensor_get(l, name, 1, &s->experts, &tensor, &quant);
        if (!status)
            quant->unpack(s->experts, tensor->data, all + i * s->experts);
    }
    if (!status)
        status = sgm_model_set_selection_bias(l->model, all, l->error);
    sgm_free(all);
    return status;
}

/* A tensor that no weight of ours is in (a bias of a projection, a shared expert) would change what the model computes. */
static sgm_status no_others(const loading *l, const bool *split, bool biased) {
    const sgm_model_settings *s = &l->model->settings;
    int64_t ours = sgm_gguf_part_count(s, split) + (biased ? s->layers : 0), all = sgm_gguf_tensor_count(l->file);
    if (all == ours)
        return SGM_OK;
    return sgm_fail(
        l->error, SGM_EUNSUPPORTED, "biases of projections, shared experts and dense layers are not supported",
        "%s holds %" PRId64 " tensors, %" PRId64 " more than the model has by its settings", l->label, all, all - ours);
}

static void file_close(void *file) {
    sgm_gguf_close(file);
}

static sgm_status views_load(loading *l, bool biased) {
    bool *split = split_layers(l);
    sgm_status status =
        split ? parts_load(l, split) : sgm_fail(l->error, SGM_EMEMORY, NULL, "no memory for %s", l->label);
    if (!status && l->small_elements) {
        l->model->data = sgm_alloc((size_t)l->small_elements * sizeof(sgm_real));
        status = l->model->data ? parts_load(l, split)
                                : sgm_fail(l->error, SGM_EMEMORY, NULL, "no memory for the norm gains of %s", l->label);
    }
    if (!status && biased)
        status = biases_load(l);
    if (!status)
        status = no_others(l, split, biased);
    sgm_free(split);
    if (!status)
        sgm_model_connect(l->model);
    return status;
}

sgm_status sgm_model_gguf_load(const char *path, sgm_model **model, int64_t **experts_per_token, sgm_error *error) {
    sgm_gguf *file = NULL;
    sgm_hf_config config = {0};
    *model = NULL;
    sgm_status status = sgm_gguf_open(path, &file, error);
    if (!status)
        status = sgm_model_gguf_config(file, path, &config, error);
    if (!status && sgm_gguf_tensor_count(file) < config.settings.layers) /* before anything is allocated for it */
        status = sgm_fail(error, SGM_EFORMAT, "the file is damaged, or of another kind of model",
                          "%s holds %" PRId64 " tensors, too few for %" PRId64 " layers", path,
                          sgm_gguf_tensor_count(file), config.settings.layers);
    if (!status)
        status = sgm_model_new_views(&config.settings, config.router, model, error);
    if (!status) {
        config.router.settings = NULL; /* the model's now */
        (*model)->source = file;
        (*model)->source_close = file_close;
        loading l = {.file = file, .label = path, .model = *model, .error = error};
        file = NULL;
        status = views_load(&l, config.selection_bias);
    }
    if (!status && experts_per_token) {
        *experts_per_token = config.experts_per_token;
        config.experts_per_token = NULL;
    }
    sgm_hf_config_fini(&config);
    sgm_gguf_close(file);
    if (status) {
        sgm_model_free(*model);
        *model = NULL;
    }
    return status;
}
