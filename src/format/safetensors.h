// SPDX-License-Identifier: Apache-2.0
/* safetensors: 8 bytes little-endian header length, a JSON header, then the tensors. Reads one file or a sharded set by its
 * index; every offset, shape and type is checked against the file before anything is used. */
#ifndef SGM_FORMAT_SAFETENSORS_H
#define SGM_FORMAT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"

typedef enum sgm_dtype { SGM_F32, SGM_F16, SGM_BF16, SGM_F64, SGM_I64, SGM_I32, SGM_U8 } sgm_dtype;
size_t sgm_dtype_bytes(sgm_dtype dtype);
const char *sgm_dtype_name(sgm_dtype dtype); /* "F32" as in the header */

typedef struct sgm_tensor_entry {
    const char *name;
    sgm_dtype dtype;
    int dimensions;
    int64_t shape[8];
    const void *data; /* in the mapping, where a file that is cut short meanwhile kills the process: see _read below */
    size_t bytes;
} sgm_tensor_entry;

typedef struct sgm_safetensors sgm_safetensors;
/* `path`: a .safetensors file or a folder with model.safetensors or model.safetensors.index.json. */
sgm_status sgm_safetensors_open(const char *path, sgm_safetensors **file, sgm_error *error);
sgm_status sgm_safetensors_parse(const unsigned char *bytes, size_t size, sgm_safetensors **file, sgm_error *error);
void sgm_safetensors_close(sgm_safetensors *file);
size_t sgm_safetensors_count(const sgm_safetensors *file);
const sgm_tensor_entry *sgm_safetensors_at(const sgm_safetensors *file, size_t index);       /* in file order */
const sgm_tensor_entry *sgm_safetensors_find(const sgm_safetensors *file, const char *name); /* O(1) */
const char *sgm_safetensors_metadata(const sgm_safetensors *file, const char *key);          /* NULL: none */
/* Convert to f32 (exact for F32, F16, BF16). */
void sgm_tensor_entry_to_f32(const sgm_tensor_entry *entry, float *out);
/* A tensor's bytes, or its values as f32, read from the file: a disk that fails is SGM_EIO, a file that is shorter by now
 * SGM_EFORMAT. */
sgm_status sgm_safetensors_read(const sgm_safetensors *file, const sgm_tensor_entry *entry, void *out,
                                sgm_error *error);
sgm_status sgm_safetensors_read_f32(const sgm_safetensors *file, const sgm_tensor_entry *entry, float *out,
                                    sgm_error *error);
/* Verify "checksum" metadata (XXH3 of all tensor bytes) when present: SGM_EFORMAT on a flipped bit. */
sgm_status sgm_safetensors_verify(const sgm_safetensors *file, sgm_error *error);

/* Streaming writer: declare all tensors, then add their bytes in that order, then commit. The header is padded so that the
 * checksum (known only at the end) is filled in before the rename. Same input, same bytes. */
typedef struct sgm_safetensors_writer sgm_safetensors_writer;
sgm_status sgm_safetensors_writer_new(const char *path, sgm_safetensors_writer **writer, sgm_error *error);
sgm_status sgm_safetensors_writer_declare(sgm_safetensors_writer *writer, const char *name, sgm_dtype dtype,
                                          int dimensions, const int64_t *shape, sgm_error *error);
sgm_status sgm_safetensors_writer_metadata(sgm_safetensors_writer *writer, const char *key, const char *value,
                                           sgm_error *error);
sgm_status sgm_safetensors_writer_add(sgm_safetensors_writer *writer, const void *bytes, size_t size, sgm_error *error);
sgm_status sgm_safetensors_writer_commit(sgm_safetensors_writer *writer, sgm_error *error); /* frees */
void sgm_safetensors_writer_abandon(sgm_safetensors_writer *writer);

#endif
