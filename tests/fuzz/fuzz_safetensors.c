// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a safetensors file: refused, or every tensor can be read. */
#include <stdint.h>
#include <stdlib.h>

#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sgm_safetensors *file;
    sgm_error error;
    if (sgm_safetensors_parse(bytes, size, &file, &error))
        return 0;
    (void)sgm_safetensors_verify(file, &error);
    for (size_t i = 0; i < sgm_safetensors_count(file); i++) {
        const sgm_tensor_entry *entry = sgm_safetensors_at(file, i);
        size_t n = entry->bytes / sgm_dtype_bytes(entry->dtype);
        float *out = malloc(n * sizeof *out + 1);
        if (!out || sgm_safetensors_find(file, entry->name) != entry)
            abort();
        sgm_tensor_entry_to_f32(entry, out);
        free(out);
    }
    sgm_safetensors_close(file);
    return 0;
}
