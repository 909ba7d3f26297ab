// SPDX-License-Identifier: Apache-2.0
/* GGUF, version 3, little-endian: the container of llama.cpp's models (source: the format's published specification).
 *
 * Reading maps the file and keeps it mapped: tensors point into the mapping, which all processes share, and nothing is read
 * until it is used. Everything the file claims (counts, lengths, offsets, types, shapes) is checked against its size before
 * it is believed. Writing streams: names and shapes first, then each tensor's bytes in order; the file is written beside its
 * name, fsynced and renamed, so that it is there whole or not at all. */
#ifndef SGM_FORMAT_GGUF_H
#define SGM_FORMAT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"
#include "tensor/matrix.h"

typedef struct sgm_gguf sgm_gguf;

/* Dimensions in C order: the last one is contiguous (a file lists them the other way round). Up to 4; `count` of them. */
typedef struct sgm_gguf_tensor {
    const char *name;
    uint32_t gguf_type; /* the number in the file; may be none of ours (sgm_quant_of_gguf says) */
    int dimensions;
    int64_t shape[4];
    const void *data; /* into the mapping */
    uint64_t bytes;   /* 0 when the type is none of ours */
} sgm_gguf_tensor;

/* SGM_EFORMAT: damaged or truncated; SGM_EUNSUPPORTED: another version or byte order, an array of arrays. Opening reads the
 * header alone: its cost does not depend on the size of the tensors. Version 2 is read too. */
sgm_status sgm_gguf_open(const char *path, sgm_gguf **file, sgm_error *error);
/* The same of bytes in memory, which stay the caller's and outlive the file. */
sgm_status sgm_gguf_parse(const unsigned char *bytes, size_t size, sgm_gguf **file, sgm_error *error);
void sgm_gguf_close(sgm_gguf *file); /* unmaps: pointers into it end here. NULL is fine */
uint64_t sgm_gguf_bytes(const sgm_gguf *file);
int64_t sgm_gguf_tensor_count(const sgm_gguf *file);
const sgm_gguf_tensor *sgm_gguf_tensor_at(const sgm_gguf *file, int64_t index);
const sgm_gguf_tensor *sgm_gguf_tensor_find(const sgm_gguf *file, const char *name); /* NULL: none */

/* Keys in the file's order; NULL past the last. */
const char *sgm_gguf_key_at(const sgm_gguf *file, int64_t index);
bool sgm_gguf_has(const sgm_gguf *file, const char *key);
/* A value as it stands in the file, behind its type (sgm_gguf_put_copy). */
bool sgm_gguf_raw(const sgm_gguf *file, const char *key, uint32_t *type, const void **bytes, size_t *size);
/* Values by key. False: no such key, or of another kind (any integer kind serves for get_int). */
bool sgm_gguf_get_int(const sgm_gguf *file, const char *key, int64_t *value);
bool sgm_gguf_get_float(const sgm_gguf *file, const char *key, double *value);
bool sgm_gguf_get_bool(const sgm_gguf *file, const char *key, bool *value);
bool sgm_gguf_get_text(const sgm_gguf *file, const char *key, const char **text, size_t *size);
/* Arrays of texts, integers or floats: their length; then one element. */
bool sgm_gguf_array_length(const sgm_gguf *file, const char *key, int64_t *count);
bool sgm_gguf_array_text(const sgm_gguf *file, const char *key, int64_t index, const char **text, size_t *size);
bool sgm_gguf_array_int(const sgm_gguf *file, const char *key, int64_t index, int64_t *value);
bool sgm_gguf_array_float(const sgm_gguf *file, const char *key, int64_t index, double *value);

/* ---- writing: declare everything, begin, write each tensor in the order declared, end ------------------------------ */

typedef struct sgm_gguf_writer sgm_gguf_writer;
sgm_status sgm_gguf_writer_new(const char *path, sgm_gguf_writer **writer, sgm_error *error);
/* Each may run out of memory; the first failure is kept and told by _begin. */
void sgm_gguf_put_u32(sgm_gguf_writer *writer, const char *key, uint32_t value);
void sgm_gguf_put_f32(sgm_gguf_writer *writer, const char *key, float value);
void sgm_gguf_put_bool(sgm_gguf_writer *writer, const char *key, bool value);
void sgm_gguf_put_text(sgm_gguf_writer *writer, const char *key, const char *text);
void sgm_gguf_put_texts(sgm_gguf_writer *writer, const char *key, int64_t count, const char *const *texts,
                        const size_t *sizes);
void sgm_gguf_put_i32s(sgm_gguf_writer *writer, const char *key, int64_t count, const int32_t *values);
void sgm_gguf_put_f32s(sgm_gguf_writer *writer, const char *key, int64_t count, const float *values);
/* A key of another file, whatever its type. */
void sgm_gguf_put_copy(sgm_gguf_writer *writer, const sgm_gguf *from, const char *key);
void sgm_gguf_put_tensor(sgm_gguf_writer *writer, const char *name, sgm_type type, int dimensions,
                         const int64_t *shape);
sgm_status sgm_gguf_writer_begin(sgm_gguf_writer *writer, sgm_error *error);
/* The next bytes of the tensors, in order; a tensor may come in any number of pieces. Padding is the writer's. */
sgm_status sgm_gguf_writer_data(sgm_gguf_writer *writer, const void *data, size_t size, sgm_error *error);
/* Finish: every byte must have come. Frees the writer whatever happens; on failure nothing is left behind. */
sgm_status sgm_gguf_writer_end(sgm_gguf_writer *writer, sgm_error *error);
void sgm_gguf_writer_abandon(sgm_gguf_writer *writer); /* remove what was written; NULL is fine */

#endif
