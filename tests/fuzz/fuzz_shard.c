// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a shard: refused, or every document can be read and every token is below the vocabulary.
 *
 * Each input is tried as it is and once more with size, end mark and checksum put right, so that the search reaches the
 * checks behind them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/shard.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void try(const unsigned char *bytes, size_t size) {
    sgm_shard shard;
    sgm_error error;
    if (sgm_shard_parse(bytes, size, "fuzz", &shard, &error) != SGM_OK)
        return;
    int64_t tokens = 0, text = 0;
    for (int64_t d = 0; d < shard.documents; d++) {
        int64_t count, length;
        const int32_t *token = sgm_shard_document(&shard, d, &count, &length);
        for (int64_t i = 0; i < count; i++)
            if (token[i] < 0 || token[i] >= shard.vocabulary)
                abort();
        tokens += count;
        text += length;
    }
    if (tokens != shard.tokens || text != shard.bytes || strlen(shard.domain) == 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    unsigned char *copy = sgm_alloc(size + 1);
    if (!copy)
        return 0;
    memcpy(copy, bytes, size);
    try(copy, size);
    if (size >= SGM_SHARD_HEADER_BYTES + SGM_SHARD_TRAILER_BYTES) {
        uint64_t whole = size;
        memcpy(copy + size - 24, &whole, sizeof whole);
        memcpy(copy + size - 8, "SGMDEND.", 8);
        uint64_t sum = sgm_checksum(copy, size - 16);
        memcpy(copy + size - 16, &sum, sizeof sum);
        try(copy, size);
    }
    sgm_free(copy);
    return 0;
}
