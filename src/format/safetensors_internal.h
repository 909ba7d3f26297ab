// SPDX-License-Identifier: Apache-2.0
/* What the safetensors reader and writer share. */
#ifndef SGM_FORMAT_SAFETENSORS_INTERNAL_H
#define SGM_FORMAT_SAFETENSORS_INTERNAL_H

#include "format/safetensors.h"

/* "xxh3:" and 16 hexadecimal digits, as metadata "checksum". */
enum { SGM_CHECKSUM_TEXT = 21 };
void sgm_checksum_print(uint64_t checksum, char text[SGM_CHECKSUM_TEXT + 1]);

/* Bytes of a tensor; false when the product overflows or a dimension is negative. */
bool sgm_shape_bytes(sgm_dtype dtype, int dimensions, const int64_t *shape, uint64_t *bytes);

#endif
