// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a tokenizer.json: refused, or it encodes and decodes any bytes (here: its own file's). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sigmoe/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sgm_tokenizer *tokenizer;
    sgm_error error;
    if (sgm_tokenizer_parse((const char *)bytes, size, &tokenizer, &error))
        return 0;
    size_t piece = size < 512 ? size : 512, capacity = 8 * piece + 8, count;
    int32_t *ids = malloc(capacity * sizeof *ids);
    if (!ids)
        abort();
    for (int part = 0; part < 2; part++) {
        const char *text = (const char *)bytes + (part ? size - piece : 0);
        sgm_status status = sgm_tokenizer_encode(tokenizer, text, piece, part == 0, ids, capacity, &count, &error);
        char *back = NULL;
        size_t back_size;
        if (!status && (sgm_tokenizer_decode(tokenizer, ids, count, true, &back, &back_size, &error)))
            abort();
        sgm_free(back);
    }
    free(ids);
    sgm_tokenizer_close(tokenizer);
    return 0;
}
