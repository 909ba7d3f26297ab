// SPDX-License-Identifier: Apache-2.0
/* Opening a model by its path: which of our two kinds of storage it is, and that kind's reader. */
#include "model/model_open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model_files.h"
#include "model/model_gguf.h"
#include "text/tokenizer_gguf.h"

sgm_status sgm_model_open(const char *path, sgm_model **model, int64_t **experts_per_token, sgm_error *error) {
    char folder[SGM_PATH_BYTES];
    *model = NULL;
    if (sgm_model_is_gguf(path))
        return sgm_model_gguf_load(path, model, experts_per_token, error);
    sgm_status status = sgm_model_folder_resolve(path, folder, error);
    return status ? status : sgm_model_folder_load(folder, false, model, experts_per_token, error);
}

sgm_status sgm_model_open_config(const char *path, char *resolved, sgm_hf_config *config, sgm_error *error) {
    if (!sgm_model_is_gguf(path)) {
        sgm_status status = sgm_model_folder_resolve(path, resolved, error);
        return status ? status : sgm_model_config_read(resolved, config, error);
    }
    char *real = realpath(path, NULL);
    bool fits = real && strlen(real) < SGM_PATH_BYTES;
    if (fits)
        memcpy(resolved, real, strlen(real) + 1);
    free(real);
    if (!fits)
        return sgm_fail(error, SGM_EIO, "use a shorter path", "the file behind %s cannot be resolved", path);
    sgm_gguf *file;
    sgm_status status = sgm_gguf_open(resolved, &file, error);
    if (!status)
        status = sgm_model_gguf_config(file, path, config, error);
    sgm_gguf_close(file);
    return status;
}

static sgm_status from_gguf(const char *path, sgm_tokenizer **tokenizer, sgm_error *error) {
    sgm_gguf *file;
    const char *kind;
    size_t size;
    sgm_status status = sgm_gguf_open(path, &file, error);
    if (!status && sgm_gguf_get_text(file, "tokenizer.ggml.model", &kind, &size) && size == 4 &&
        memcmp(kind, "gpt2", 4) == 0)
        status = sgm_tokenizer_from_gguf(file, tokenizer, error);
    sgm_gguf_close(file);
    if (status && error && error->code != SGM_EMEMORY &&
        !strstr(error->message, path)) { /* which vocabulary it is about */
        char hint[sizeof error->hint];
        snprintf(hint, sizeof hint, "%s",
                 *error->hint ? error->hint : "the file is damaged, or its tokenizer is: fetch or make it again");
        sgm_fail(error, error->code, hint, "%s: %s", path, error->message);
    }
    return status;
}

sgm_status sgm_model_open_tokenizer(const char *resolved, sgm_tokenizer **tokenizer, sgm_error *error) {
    *tokenizer = NULL;
    if (sgm_model_is_gguf(resolved))
        return from_gguf(resolved, tokenizer, error);
    char *path = sgm_path_join(resolved, "tokenizer.json");
    bool there = path && sgm_path_exists(path);
    sgm_free(path);
    return there ? sgm_tokenizer_open(resolved, tokenizer, error) : SGM_OK;
}
