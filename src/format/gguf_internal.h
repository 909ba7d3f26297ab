// SPDX-License-Identifier: Apache-2.0
/* What the GGUF reader and writer share: the numbers of the format. */
#ifndef SGM_FORMAT_GGUF_INTERNAL_H
#define SGM_FORMAT_GGUF_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

enum { SGM_GGUF_VERSION = 3, SGM_GGUF_ALIGNMENT = 32, SGM_GGUF_DIMENSIONS = 4, SGM_GGUF_NAME_BYTES = 65535 };

/* Types of keys' values. */
enum {
    SGM_GGUF_U8,
    SGM_GGUF_I8,
    SGM_GGUF_U16,
    SGM_GGUF_I16,
    SGM_GGUF_U32,
    SGM_GGUF_I32,
    SGM_GGUF_F32,
    SGM_GGUF_BOOL,
    SGM_GGUF_TEXT,
    SGM_GGUF_ARRAY,
    SGM_GGUF_U64,
    SGM_GGUF_I64,
    SGM_GGUF_F64,
};

/* Bytes of a value of one of the types that are no text and no array; 0 for all others. */
size_t sgm_gguf_scalar_bytes(uint32_t type);

#endif
