// SPDX-License-Identifier: Apache-2.0
/* One number for the tokens of a tokenizer, however it is stored (a tokenizer.json, the keys of a GGUF file). */
#include "base/file.h"
#include "text/tokenizer.h"

uint64_t sgm_tokenizer_hash(const sgm_tokenizer *tokenizer) {
    int64_t count = sgm_tokenizer_vocabulary(tokenizer);
    uint64_t hash = 0;
    for (int64_t id = 0; id < count; id++) {
        size_t size = 0;
        const char *bytes = sgm_tokenizer_bytes_of(tokenizer, (int32_t)id, &size);
        const uint64_t link[3] = {hash, bytes ? size + 1 : 0, bytes ? sgm_checksum(bytes, size) : 0};
        hash = sgm_checksum(link, sizeof link);
    }
    int32_t end = sgm_tokenizer_end_of_text(tokenizer);
    const uint64_t last[2] = {hash, (uint64_t)(int64_t)end};
    return sgm_checksum(last, sizeof last);
}
