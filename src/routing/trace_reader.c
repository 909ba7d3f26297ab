// SPDX-License-Identifier: Apache-2.0
/* Reading traces. See sigmoe/trace.h and docs/trace.md.
 *
 * Opening checks the header and goes from block to block by their heads; domains and the end are read then, tokens when they
 * are asked for. A file that stops inside a block has lost that block only: its writer was killed. Everything that readers
 * index with is checked when a block is read, after its checksum. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "routing/trace.h"

#define AGAIN "make the trace again, or copy the file again"

typedef struct entry {
    uint64_t offset, bytes;
    int64_t tokens;
} entry;

struct sgm_trace {
    sgm_reader *file;
    const unsigned char *memory; /* instead of the file */
    uint64_t size;
    char *name; /* for messages */
    sgm_trace_info about;
    int64_t *experts_per_token, *expert_bytes; /* (L) */
    entry *blocks;
    size_t block_capacity;
    char (*names)[SGM_TRACE_NAME_BYTES];
    const char **domain; /* into names */
    double *sums;        /* (domains, L, E); NULL: not there */

    unsigned char *bytes; /* of one block */
    size_t byte_capacity;
    int64_t *slots, *first; /* (L), (L + 1) of that block */
    int64_t *seen, visit;   /* (E) scratch: the visit of a token and layer that met an expert last */
};

static sgm_status no_memory(const sgm_trace *trace, sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", trace->name);
}

static sgm_status damaged(const sgm_trace *trace, const char *what, uint64_t offset, sgm_error *error) {
    return sgm_fail(error, SGM_EFORMAT, AGAIN, "%s: %s, in what begins at byte %" PRIu64, trace->name, what, offset);
}

static sgm_status get(const sgm_trace *trace, uint64_t offset, void *out, size_t size, sgm_error *error) {
    if (trace->file)
        return sgm_reader_at(trace->file, offset, out, size, error);
    memcpy(out, trace->memory + offset, size); /* callers stay within trace->size */
    return SGM_OK;
}

/* A block into trace->bytes, its checksum verified. */
static sgm_status get_block(sgm_trace *trace, uint64_t offset, uint64_t bytes, sgm_error *error) {
    if (bytes > trace->byte_capacity) {
        unsigned char *fresh = sgm_alloc(bytes);
        if (!fresh)
            return no_memory(trace, error);
        sgm_free(trace->bytes);
        trace->bytes = fresh;
        trace->byte_capacity = bytes;
    }
    sgm_status status = get(trace, offset, trace->bytes, bytes, error);
    if (status)
        return status;
    uint64_t sum = bytes - SGM_TRACE_SUM_BYTES;
    return sgm_checksum(trace->bytes, sum) == sgm_get_u64(trace->bytes + sum)
               ? SGM_OK
               : damaged(trace, "the checksum is wrong", offset, error);
}

/* ---- the header ------------------------------------------------------------------------------------------------ */

static sgm_status check_start(const sgm_trace *trace, const unsigned char *at, sgm_error *error) {
    if (memcmp(at, SGM_TRACE_MAGIC, 8) != 0)
        return sgm_fail(error, SGM_EFORMAT, "give a file that `sigmoe trace` or a training run wrote",
                        "%s: not a trace", trace->name);
    if (trace->size < SGM_TRACE_HEADER_BYTES)
        return damaged(trace, "the header is cut off", 0, error);
    if (sgm_get_u32(at + SGM_TRACE_AT_ORDER) != SGM_TRACE_BYTE_ORDER)
        return sgm_fail(error, SGM_EFORMAT, "make the trace on this machine",
                        "%s: the trace's byte order is not this machine's", trace->name);
    if (sgm_get_u32(at + SGM_TRACE_AT_VERSION) != SGM_TRACE_VERSION)
        return sgm_fail(error, SGM_EUNSUPPORTED, "use the sigmoe that wrote it, or make the trace again",
                        "%s: trace version %" PRIu32 "; this sigmoe reads version %d", trace->name,
                        sgm_get_u32(at + SGM_TRACE_AT_VERSION), SGM_TRACE_VERSION);
    if (sgm_get_u64(at + SGM_TRACE_AT_REQUIRED) & ~(uint64_t)SGM_TRACE_FEATURE_ATTENTION)
        return sgm_fail(error, SGM_EUNSUPPORTED, "use a newer sigmoe, or make the trace again",
                        "%s: the trace uses features (bits %#llx) that this sigmoe does not know", trace->name,
                        (unsigned long long)sgm_get_u64(at + SGM_TRACE_AT_REQUIRED));
    return SGM_OK;
}

static sgm_status read_layers(sgm_trace *trace, sgm_error *error) {
    sgm_trace_info *about = &trace->about;
    size_t layers = (size_t)about->layers;
    trace->experts_per_token = sgm_alloc(layers * sizeof(int64_t));
    trace->expert_bytes = sgm_alloc(layers * sizeof(int64_t));
    trace->slots = sgm_alloc(layers * sizeof(int64_t));
    trace->first = sgm_alloc((layers + 1) * sizeof(int64_t));
    trace->seen = sgm_alloc((size_t)sgm_trace_stride(about) * sizeof *trace->seen);
    if (!trace->experts_per_token || !trace->expert_bytes || !trace->slots || !trace->first || !trace->seen)
        return no_memory(trace, error);
    const unsigned char *own = trace->bytes + SGM_TRACE_HEADER_BYTES;
    for (size_t l = 0; l < layers; l++) {
        uint64_t bytes = sgm_get_u64(own + 8 * l);
        trace->expert_bytes[l] = (int64_t)bytes;
        trace->experts_per_token[l] = sgm_get_u16(own + 8 * layers + 2 * l);
        if (bytes > INT64_MAX || trace->experts_per_token[l] < 1 ||
            trace->experts_per_token[l] > sgm_trace_experts(about, (int64_t)l))
            return damaged(trace, "the header holds impossible values", 0, error);
    }
    about->experts_per_token = trace->experts_per_token;
    about->expert_bytes = trace->expert_bytes;
    return SGM_OK;
}

static sgm_status read_header(sgm_trace *trace, uint64_t *bytes, sgm_error *error) {
    unsigned char at[SGM_TRACE_HEADER_BYTES] = {0}; /* what a short file does not have is no magic */
    sgm_status status = get(trace, 0, at, trace->size < sizeof at ? (size_t)trace->size : sizeof at, error);
    if (!status)
        status = check_start(trace, at, error);
    if (status)
        return status;
    uint64_t layers = sgm_get_u32(at + SGM_TRACE_AT_LAYERS), experts = sgm_get_u32(at + SGM_TRACE_AT_EXPERTS);
    *bytes = sgm_get_u64(at + SGM_TRACE_AT_BYTES);
    if (layers < 1 || layers > SGM_TRACE_LAYERS_MOST || *bytes != sgm_trace_header_bytes(layers))
        return damaged(trace, "the header holds impossible values", 0, error);
    if (*bytes > trace->size)
        return damaged(trace, "the header is cut off", 0, error);
    status = get_block(trace, 0, *bytes, error);
    if (status)
        return status;
    uint32_t source = sgm_get_u32(at + SGM_TRACE_AT_SOURCE), nulls = sgm_get_u32(at + SGM_TRACE_AT_NULL);
    uint64_t vocabulary = sgm_get_u64(at + SGM_TRACE_AT_VOCABULARY);
    bool in_turn = sgm_get_u64(at + SGM_TRACE_AT_REQUIRED) & SGM_TRACE_FEATURE_ATTENTION;
    uint32_t attention = in_turn ? sgm_get_u32(at + SGM_TRACE_AT_ATTENTION) : 0;
    if ((in_turn && (attention < 1 || attention >= SGM_TRACE_UNUSED || layers % 2)) || source > SGM_TRACE_GENERATE ||
        experts < 1 || experts >= SGM_TRACE_UNUSED || nulls >= experts || vocabulary < 1 || vocabulary > INT32_MAX)
        return damaged(trace, "the header holds impossible values", 0, error);
    trace->about = (sgm_trace_info){.source = (sgm_trace_source)source,
                                    .step = (int64_t)sgm_get_u64(at + SGM_TRACE_AT_STEP),
                                    .model_hash = sgm_get_u64(at + SGM_TRACE_AT_MODEL),
                                    .tokenizer_hash = sgm_get_u64(at + SGM_TRACE_AT_TOKENIZER),
                                    .vocabulary = (int64_t)vocabulary,
                                    .layers = (int64_t)layers,
                                    .experts = (int64_t)experts,
                                    .null_experts = nulls,
                                    .attention_experts = attention};
    if (trace->about.layers * sgm_trace_stride(&trace->about) > SGM_TRACE_CELLS_MOST)
        return sgm_fail(error, SGM_EFORMAT, AGAIN,
                        "%s: the header says %" PRId64 " layers of %" PRId64
                        " experts; a trace holds up to 4,194,304 experts in all",
                        trace->name, trace->about.layers, sgm_trace_stride(&trace->about));
    return read_layers(trace, error);
}

/* ---- from block to block --------------------------------------------------------------------------------------- */

static sgm_status note_tokens(sgm_trace *trace, const entry *block, sgm_error *error) {
    size_t count = (size_t)trace->about.blocks;
    if (count == trace->block_capacity) {
        size_t capacity = count ? 2 * count : 64;
        entry *grown = sgm_resize(trace->blocks, count * sizeof *grown, capacity * sizeof *grown);
        if (!grown)
            return no_memory(trace, error);
        trace->blocks = grown;
        trace->block_capacity = capacity;
    }
    trace->blocks[count] = *block;
    trace->about.blocks++;
    trace->about.tokens += block->tokens;
    return SGM_OK;
}

static sgm_status read_domain(sgm_trace *trace, const entry *block, sgm_error *error) {
    size_t count = trace->about.domains;
    if (block->bytes != SGM_TRACE_HEAD_BYTES + SGM_TRACE_NAME_BYTES + SGM_TRACE_SUM_BYTES ||
        (size_t)block->tokens != count || count >= UINT16_MAX)
        return damaged(trace, "a domain is out of order", block->offset, error);
    sgm_status status = get_block(trace, block->offset, block->bytes, error);
    if (status)
        return status;
    const char *name = (const char *)trace->bytes + SGM_TRACE_HEAD_BYTES;
    if (!name[0] || name[SGM_TRACE_NAME_BYTES - 1])
        return damaged(trace, "a domain's name is none", block->offset, error);
    if ((count & (count - 1)) == 0) { /* room for twice as many */
        size_t room = count ? 2 * count : 1;
        void *grown = sgm_resize(trace->names, count * SGM_TRACE_NAME_BYTES, room * SGM_TRACE_NAME_BYTES);
        if (!grown)
            return no_memory(trace, error);
        trace->names = grown;
    }
    memcpy(trace->names[count], name, SGM_TRACE_NAME_BYTES);
    trace->about.domains++;
    return SGM_OK;
}

static sgm_status read_end(sgm_trace *trace, const entry *block, sgm_error *error) {
    uint64_t numbers = (uint64_t)trace->about.layers * (uint64_t)sgm_trace_stride(&trace->about) * trace->about.domains;
    uint64_t least = SGM_TRACE_HEAD_BYTES + 16 + SGM_TRACE_SUM_BYTES;
    if (block->offset + block->bytes != trace->size || (size_t)block->tokens != trace->about.domains ||
        (block->bytes != least && block->bytes != least + 8 * numbers))
        return damaged(trace, "its end does not fit what stands before it", block->offset, error);
    sgm_status status = get_block(trace, block->offset, block->bytes, error);
    if (status)
        return status;
    const unsigned char *at = trace->bytes + SGM_TRACE_HEAD_BYTES;
    uint64_t has = sgm_get_u64(at + 8);
    if (sgm_get_u64(at) != (uint64_t)trace->about.tokens || has > 1 || block->bytes != least + (has ? 8 * numbers : 0))
        return damaged(trace, "its end does not fit what stands before it", block->offset, error);
    trace->about.complete = true;
    if (!has || numbers == 0)
        return SGM_OK;
    trace->sums = sgm_alloc(8 * numbers);
    if (!trace->sums)
        return no_memory(trace, error);
    memcpy(trace->sums, at + 16, 8 * numbers);
    for (uint64_t i = 0; i < numbers; i++)
        if (!(trace->sums[i] >= 0 && isfinite(trace->sums[i])))
            return damaged(trace, "a sum of probabilities is none", block->offset, error);
    return SGM_OK;
}

/* The length that a block must have, from its count and what begins its body: the slots of tokens, the end's word whether it has
 * sums. 0: it is cut off before that. */
static sgm_status length_of(sgm_trace *trace, const entry *block, uint32_t kind, uint64_t *length, sgm_error *error) {
    const sgm_trace_info *about = &trace->about;
    uint64_t body = block->offset + SGM_TRACE_HEAD_BYTES, layers = (uint64_t)about->layers, slots = 0;
    *length = kind == SGM_TRACE_DOMAIN ? SGM_TRACE_HEAD_BYTES + SGM_TRACE_NAME_BYTES + SGM_TRACE_SUM_BYTES : 0;
    unsigned char piece[1024];
    if (kind == SGM_TRACE_END && trace->size - body >= 16) {
        sgm_status status = get(trace, body, piece, 16, error);
        uint64_t numbers = layers * (uint64_t)sgm_trace_stride(about) * about->domains;
        *length = SGM_TRACE_HEAD_BYTES + 16 + SGM_TRACE_SUM_BYTES;
        *length += !status && sgm_get_u64(piece + 8) ? 8 * numbers : 0;
        return status;
    }
    if (kind != SGM_TRACE_TOKENS || trace->size - body < 2 * layers)
        return SGM_OK;
    for (uint64_t begin = 0; begin < layers; begin += sizeof piece / 2) {
        uint64_t count = layers - begin < sizeof piece / 2 ? layers - begin : sizeof piece / 2;
        sgm_status status = get(trace, body + 2 * begin, piece, 2 * count, error);
        if (status)
            return status;
        for (uint64_t i = 0; i < count; i++)
            slots += sgm_get_u16(piece + 2 * i);
    }
    *length = sgm_trace_lay_out(layers, (uint64_t)block->tokens, (uint64_t)block->tokens * slots).bytes;
    return SGM_OK;
}

/* A length that its block cannot have would otherwise pass for a file that was cut off there. */
static sgm_status check_length(sgm_trace *trace, const entry *block, uint32_t kind, sgm_error *error) {
    const sgm_trace_info *about = &trace->about;
    uint64_t length, tokens = (uint64_t)block->tokens, layers = (uint64_t)about->layers;
    uint64_t stride = (uint64_t)sgm_trace_stride(about), least = SGM_TRACE_HEAD_BYTES + 16 + SGM_TRACE_SUM_BYTES;
    sgm_status status = length_of(trace, block, kind, &length, error);
    if (status)
        return status;
    bool fits = block->bytes == length;
    if (length == 0 && kind == SGM_TRACE_END)
        fits = block->bytes == least || block->bytes == least + 8 * layers * stride * about->domains;
    else if (length == 0)
        fits = block->bytes >= sgm_trace_lay_out(layers, tokens, tokens * layers).bytes &&
               block->bytes <= sgm_trace_lay_out(layers, tokens, tokens * layers * stride).bytes;
    return fits ? SGM_OK : damaged(trace, "a block does not have the length that it says", block->offset, error);
}

static sgm_status walk_blocks(sgm_trace *trace, uint64_t offset, sgm_error *error) {
    sgm_status status = SGM_OK;
    while (!status && !trace->about.complete && trace->size - offset >= SGM_TRACE_HEAD_BYTES) {
        unsigned char head[SGM_TRACE_HEAD_BYTES];
        status = get(trace, offset, head, sizeof head, error);
        if (status)
            return status;
        uint32_t kind = sgm_get_u32(head), count = sgm_get_u32(head + 4);
        entry block = {offset, sgm_get_u64(head + 8), count};
        if (kind < SGM_TRACE_TOKENS || kind > SGM_TRACE_END || block.bytes % 8 ||
            block.bytes < SGM_TRACE_HEAD_BYTES + SGM_TRACE_SUM_BYTES ||
            (kind == SGM_TRACE_TOKENS && (count < 1 || count > SGM_TRACE_BLOCK_TOKENS_MOST)))
            return damaged(trace, "a block's head is none", offset, error);
        status = check_length(trace, &block, kind, error);
        if (status || block.bytes > trace->size - offset)
            return status; /* without an error: cut off here */
        status = kind == SGM_TRACE_TOKENS   ? note_tokens(trace, &block, error)
                 : kind == SGM_TRACE_DOMAIN ? read_domain(trace, &block, error)
                                            : read_end(trace, &block, error);
        offset += block.bytes;
    }
    return status;
}

static sgm_status open_whole(sgm_trace *trace, sgm_error *error) {
    uint64_t offset = 0;
    sgm_status status = read_header(trace, &offset, error);
    if (!status)
        status = walk_blocks(trace, offset, error);
    if (status)
        return status;
    trace->domain = sgm_alloc((trace->about.domains + 1) * sizeof *trace->domain);
    if (!trace->domain)
        return no_memory(trace, error);
    for (size_t d = 0; d < trace->about.domains; d++)
        trace->domain[d] = trace->names[d];
    trace->about.domain = trace->domain;
    return SGM_OK;
}

/* ---- public ----------------------------------------------------------------------------------------------------- */

static sgm_status trace_new(const char *name, sgm_trace **out, sgm_error *error) {
    sgm_trace *trace = sgm_alloc(sizeof *trace);
    char *own = sgm_strdup(name);
    if (!trace || !own) {
        sgm_free(trace);
        sgm_free(own);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", name);
    }
    trace->name = own;
    *out = trace;
    return SGM_OK;
}

static sgm_status finish_opening(sgm_trace *trace, sgm_trace **out, sgm_error *error) {
    sgm_status status = open_whole(trace, error);
    if (status)
        sgm_trace_close(trace);
    else
        *out = trace;
    return status;
}

sgm_status sgm_trace_open(const char *path, sgm_trace **out, sgm_error *error) {
    sgm_trace *trace = NULL;
    *out = NULL;
    sgm_status status = trace_new(path, &trace, error);
    if (status)
        return status;
    status = sgm_reader_open(path, &trace->file, error);
    if (status) {
        sgm_trace_close(trace);
        return status;
    }
    trace->size = sgm_reader_size(trace->file);
    return finish_opening(trace, out, error);
}

sgm_status sgm_trace_parse(const void *data, size_t size, const char *name, sgm_trace **out, sgm_error *error) {
    sgm_trace *trace = NULL;
    *out = NULL;
    sgm_status status = trace_new(name, &trace, error);
    if (status)
        return status;
    trace->memory = data;
    trace->size = size;
    return finish_opening(trace, out, error);
}

void sgm_trace_close(sgm_trace *trace) {
    if (!trace)
        return;
    sgm_reader_close(trace->file);
    sgm_free(trace->name);
    sgm_free(trace->experts_per_token);
    sgm_free(trace->expert_bytes);
    sgm_free(trace->blocks);
    sgm_free(trace->names);
    sgm_free(trace->domain);
    sgm_free(trace->sums);
    sgm_free(trace->bytes);
    sgm_free(trace->slots);
    sgm_free(trace->first);
    sgm_free(trace->seen);
    sgm_free(trace);
}

const sgm_trace_info *sgm_trace_about(const sgm_trace *trace) {
    return &trace->about;
}

uint64_t sgm_trace_size(const sgm_trace *trace) {
    return trace->size;
}

bool sgm_trace_is_one(const char *path) {
    sgm_reader *file;
    unsigned char magic[8];
    if (sgm_reader_open(path, &file, NULL))
        return false;
    bool is = sgm_reader_at(file, 0, magic, sizeof magic, NULL) == SGM_OK && memcmp(magic, SGM_TRACE_MAGIC, 8) == 0;
    sgm_reader_close(file);
    return is;
}

const double *sgm_trace_probability(const sgm_trace *trace, size_t domain) {
    int64_t numbers = trace->about.layers * sgm_trace_stride(&trace->about);
    return trace->sums ? trace->sums + (int64_t)domain * numbers : NULL;
}

/* Slots of every layer, and where each begins; false: more than the block could hold. */
static bool place_layers(sgm_trace *trace, const entry *block) {
    int64_t L = trace->about.layers;
    const unsigned char *slots = trace->bytes + SGM_TRACE_HEAD_BYTES;
    for (int64_t l = 0; l < L; l++) {
        trace->slots[l] = sgm_get_u16(slots + 2 * l);
        if (trace->slots[l] < 1 || trace->slots[l] > sgm_trace_experts(&trace->about, l))
            return false;
        trace->first[l + 1] = trace->first[l] + block->tokens * trace->slots[l]; /* below 2^48 by the limits */
    }
    return sgm_trace_lay_out((uint64_t)L, (uint64_t)block->tokens, (uint64_t)trace->first[L]).bytes == block->bytes;
}

/* Is every assignment of token t in layer l one that can be? Null is said of null experts alone, and a token has an expert
 * once: who counts would else count what nobody did. */
static bool assignments_fit(sgm_trace *trace, const sgm_trace_block *block, int64_t l, int64_t t) {
    const sgm_trace_info *about = &trace->about;
    int64_t experts = sgm_trace_experts(about, l), begin = block->first[l] + t * block->slots[l];
    int64_t computing = sgm_trace_computing(about, l);
    bool fits = true;
    trace->visit++;
    for (int64_t i = begin; i < begin + block->slots[l]; i++) {
        uint16_t expert = block->expert[i];
        uint8_t flags = block->flags[i];
        if (expert == SGM_TRACE_UNUSED) {
            fits = fits && flags == 0;
            continue;
        }
        if (expert >= experts || flags > (SGM_TRACE_NULL | SGM_TRACE_DROPPED))
            return false;
        fits = fits && isfinite(block->weight[i]) && !(flags & SGM_TRACE_NULL && expert < computing) &&
               trace->seen[expert] != trace->visit;
        trace->seen[expert] = trace->visit;
    }
    return fits;
}

sgm_status sgm_trace_read(sgm_trace *trace, int64_t index, sgm_trace_block *out, sgm_error *error) {
    const sgm_trace_info *about = &trace->about;
    if (index < 0 || index >= about->blocks)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "%s: there is no block %" PRId64, trace->name, index);
    const entry *block = &trace->blocks[index];
    uint64_t least = sgm_trace_lay_out((uint64_t)about->layers, (uint64_t)block->tokens, 0).bytes;
    if (block->bytes < least)
        return damaged(trace, "a block is too short", block->offset, error);
    sgm_status status = get_block(trace, block->offset, block->bytes, error);
    if (status)
        return status;
    if (!place_layers(trace, block))
        return damaged(trace, "a block does not hold what it says", block->offset, error);
    uint64_t places = (uint64_t)trace->first[about->layers];
    sgm_trace_layout at = sgm_trace_lay_out((uint64_t)about->layers, (uint64_t)block->tokens, places);
    *out = (sgm_trace_block){.tokens = block->tokens,
                             .token = (const int32_t *)(const void *)(trace->bytes + at.token),
                             .domain = (const uint16_t *)(const void *)(trace->bytes + at.domain),
                             .slots = trace->slots,
                             .first = trace->first,
                             .expert = (const uint16_t *)(const void *)(trace->bytes + at.expert),
                             .weight = (const float *)(const void *)(trace->bytes + at.weight),
                             .flags = trace->bytes + at.flags};
    for (int64_t t = 0; t < block->tokens; t++)
        if (out->token[t] < 0 || out->token[t] >= about->vocabulary || out->domain[t] >= about->domains)
            return damaged(trace, "a token or domain is outside what stands before it", block->offset, error);
    for (int64_t l = 0; l < about->layers; l++)
        for (int64_t t = 0; t < block->tokens; t++)
            if (!assignments_fit(trace, out, l, t))
                return damaged(trace, "an expert, its weight or its flags cannot be", block->offset, error);
    return SGM_OK;
}
