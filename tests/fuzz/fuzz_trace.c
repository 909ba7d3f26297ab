// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a trace: refused, or every block is refused or holds only tokens, domains and experts that there are.
 *
 * Each input is tried as it is and once more with the checksums put right, so that the search reaches the checks behind
 * them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "routing/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void walk(sgm_trace *trace) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    int64_t tokens = 0;
    for (int64_t b = 0; b < about->blocks; b++) {
        sgm_trace_block block;
        sgm_error error;
        if (sgm_trace_read(trace, b, &block, &error))
            return;
        tokens += block.tokens;
        for (int64_t t = 0; t < block.tokens; t++)
            if (block.token[t] < 0 || block.token[t] >= about->vocabulary || block.domain[t] >= about->domains ||
                strlen(about->domain[block.domain[t]]) == 0)
                abort();
        for (int64_t l = 0; l < about->layers; l++)
            for (int64_t i = block.first[l]; i < block.first[l + 1]; i++)
                if (block.expert[i] >= sgm_trace_experts(about, l) && block.expert[i] != SGM_TRACE_UNUSED)
                    abort();
    }
    if (tokens != about->tokens)
        abort();
    for (size_t d = 0; d < about->domains && sgm_trace_probability(trace, d); d++)
        for (int64_t i = 0; i < about->layers * sgm_trace_stride(about); i++)
            if (sgm_trace_probability(trace, d)[i] == 0.12345)
                return; /* every number was read */
}

static void try(const unsigned char *bytes, size_t size) {
    sgm_trace *trace;
    sgm_error error;
    if (sgm_trace_parse(bytes, size, "fuzz", &trace, &error) != SGM_OK)
        return;
    walk(trace);
    sgm_trace_close(trace);
}

/* The header's checksum and those of the blocks that follow one another. */
static void mend(unsigned char *bytes, size_t size) {
    uint64_t at = 0, length, sum;
    if (size < SGM_TRACE_HEADER_BYTES)
        return;
    memcpy(&length, bytes + SGM_TRACE_AT_BYTES, sizeof length);
    while (length >= SGM_TRACE_HEAD_BYTES + SGM_TRACE_SUM_BYTES && length <= size - at) {
        sum = sgm_checksum(bytes + at, length - SGM_TRACE_SUM_BYTES);
        memcpy(bytes + at + length - SGM_TRACE_SUM_BYTES, &sum, sizeof sum);
        at += length;
        if (size - at < SGM_TRACE_HEAD_BYTES)
            return;
        memcpy(&length, bytes + at + 8, sizeof length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    unsigned char *copy = sgm_alloc(size + 1);
    if (!copy)
        return 0;
    memcpy(copy, bytes, size);
    try(copy, size);
    mend(copy, size);
    try(copy, size);
    sgm_free(copy);
    return 0;
}
