// SPDX-License-Identifier: Apache-2.0
/* Writing traces: one pass, the memory of one block and of the domains' sums. See sigmoe/trace.h and docs/trace.md.
 *
 * Blocks hold a fixed number of tokens, so the bytes of a trace depend on the tokens and their routes alone, not on how
 * they were cut into batches. Weights are f32 and not f16: that training and inference route alike is then seen to the bit. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "routing/trace.h"

/* A layer's assignments of the block at hand. */
typedef struct part {
    int64_t width, used; /* slots there is memory for; slots the block needs */
    uint16_t *expert;    /* (BLOCK_TOKENS, width) */
    float *weight;
    uint8_t *flags;
} part;

typedef struct domain {
    char name[SGM_TRACE_NAME_BYTES];
    double *sums; /* (L, E) */
} domain;

struct sgm_trace_writer {
    sgm_writer *file;
    sgm_buffer *memory; /* instead of the file */
    sgm_status failed;  /* the first failure; sticky, and said again by every later call */
    sgm_error why;
    int64_t layers, experts, null_experts, attention_experts, vocabulary;
    int64_t *seen, visit; /* (E) scratch: the visit of a token and layer that met an expert last */
    domain *domains;
    int64_t domain_count;
    bool has_sums;
    int64_t total, tokens; /* in the trace; in the block at hand */
    int32_t *token;        /* (BLOCK_TOKENS) */
    uint16_t *token_domain;
    part *parts; /* (L) */
    unsigned char *block;
    size_t block_bytes;
};

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to write a trace");
}

static sgm_status put(sgm_trace_writer *writer, const void *bytes, size_t size, sgm_error *error) {
    if (!writer->memory)
        return sgm_writer_add(writer->file, bytes, size, error);
    return sgm_buffer_add(writer->memory, bytes, size) ? no_memory(error) : SGM_OK;
}

/* A whole block in writer->block: its checksum comes last. */
static sgm_status put_block(sgm_trace_writer *writer, uint32_t kind, uint32_t count, uint64_t bytes, sgm_error *error) {
    unsigned char *block = writer->block;
    sgm_put_u32(block, kind);
    sgm_put_u32(block + 4, count);
    sgm_put_u64(block + 8, bytes);
    sgm_put_u64(block + bytes - SGM_TRACE_SUM_BYTES, sgm_checksum(block, bytes - SGM_TRACE_SUM_BYTES));
    return put(writer, block, bytes, error);
}

/* `bytes` zeroed bytes in writer->block. */
static sgm_status block_reserve(sgm_trace_writer *writer, uint64_t bytes, sgm_error *error) {
    if (bytes > writer->block_bytes) {
        unsigned char *fresh = sgm_resize(writer->block, writer->block_bytes, bytes);
        if (!fresh)
            return no_memory(error);
        writer->block = fresh;
        writer->block_bytes = bytes;
    }
    memset(writer->block, 0, bytes);
    return SGM_OK;
}

/* ---- making ---------------------------------------------------------------------------------------------------- */

static sgm_status check(const sgm_trace_info *about, sgm_error *error) {
    const uint16_t probe = 1;
    if (*(const unsigned char *)&probe != 1)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "traces are little-endian and this machine is not");
    bool fits = about->layers >= 1 && about->layers <= SGM_TRACE_LAYERS_MOST && about->experts >= 1 &&
                about->experts < SGM_TRACE_UNUSED && about->null_experts >= 0 && about->null_experts < about->experts &&
                about->vocabulary >= 1 && about->vocabulary <= INT32_MAX && about->source <= SGM_TRACE_GENERATE &&
                about->attention_experts >= 0 && about->attention_experts < SGM_TRACE_UNUSED &&
                (about->attention_experts == 0 || about->layers % 2 == 0) &&
                about->layers * sgm_trace_stride(about) <= SGM_TRACE_CELLS_MOST;
    for (int64_t l = 0; fits && l < about->layers; l++)
        fits = about->experts_per_token[l] >= 1 && about->experts_per_token[l] <= sgm_trace_experts(about, l);
    if (!fits)
        return sgm_fail(error, SGM_EARGUMENT,
                        "a trace holds up to 65,536 layers, 65,534 experts a layer and 4,194,304 in all",
                        "no trace can be made of %" PRId64 " layers with %" PRId64 " experts (%" PRId64
                        " of them null) and a vocabulary of %" PRId64,
                        about->layers, about->experts, about->null_experts, about->vocabulary);
    return SGM_OK;
}

static sgm_status put_header(sgm_trace_writer *writer, const sgm_trace_info *about, sgm_error *error) {
    uint64_t layers = (uint64_t)about->layers, bytes = sgm_trace_header_bytes(layers);
    sgm_status status = block_reserve(writer, bytes, error);
    if (status)
        return status;
    unsigned char *at = writer->block, *own = at + SGM_TRACE_HEADER_BYTES;
    memcpy(at, SGM_TRACE_MAGIC, 8);
    sgm_put_u32(at + SGM_TRACE_AT_ORDER, SGM_TRACE_BYTE_ORDER);
    sgm_put_u32(at + SGM_TRACE_AT_VERSION, SGM_TRACE_VERSION);
    sgm_put_u64(at + SGM_TRACE_AT_BYTES, bytes);
    sgm_put_u64(at + SGM_TRACE_AT_MODEL, about->model_hash);
    sgm_put_u64(at + SGM_TRACE_AT_TOKENIZER, about->tokenizer_hash);
    sgm_put_u64(at + SGM_TRACE_AT_STEP, (uint64_t)about->step);
    sgm_put_u32(at + SGM_TRACE_AT_SOURCE, (uint32_t)about->source);
    sgm_put_u32(at + SGM_TRACE_AT_LAYERS, (uint32_t)layers);
    sgm_put_u32(at + SGM_TRACE_AT_EXPERTS, (uint32_t)about->experts);
    sgm_put_u32(at + SGM_TRACE_AT_NULL, (uint32_t)about->null_experts);
    sgm_put_u64(at + SGM_TRACE_AT_VOCABULARY, (uint64_t)about->vocabulary);
    sgm_put_u64(at + SGM_TRACE_AT_REQUIRED, about->attention_experts > 0 ? SGM_TRACE_FEATURE_ATTENTION : 0);
    sgm_put_u32(at + SGM_TRACE_AT_ATTENTION, (uint32_t)about->attention_experts);
    for (uint64_t l = 0; l < layers; l++) {
        sgm_put_u64(own + 8 * l, about->expert_bytes ? (uint64_t)about->expert_bytes[l] : 0);
        sgm_put_u16(own + 8 * layers + 2 * l, (uint16_t)about->experts_per_token[l]);
    }
    sgm_put_u64(at + bytes - SGM_TRACE_SUM_BYTES, sgm_checksum(at, bytes - SGM_TRACE_SUM_BYTES));
    return put(writer, at, bytes, error);
}

static sgm_status create(const char *path, sgm_buffer *memory, const sgm_trace_info *about, sgm_trace_writer **out,
                         sgm_error *error) {
    *out = NULL;
    sgm_status status = check(about, error);
    if (status)
        return status;
    sgm_trace_writer *writer = sgm_alloc(sizeof *writer);
    if (!writer)
        return no_memory(error);
    writer->memory = memory;
    writer->layers = about->layers;
    writer->experts = about->experts;
    writer->null_experts = about->null_experts;
    writer->attention_experts = about->attention_experts;
    writer->seen = sgm_alloc((size_t)sgm_trace_stride(about) * sizeof *writer->seen);
    writer->vocabulary = about->vocabulary;
    writer->token = sgm_alloc(SGM_TRACE_BLOCK_TOKENS * sizeof *writer->token);
    writer->token_domain = sgm_alloc(SGM_TRACE_BLOCK_TOKENS * sizeof *writer->token_domain);
    writer->parts = sgm_alloc((size_t)about->layers * sizeof *writer->parts);
    if (!writer->token || !writer->token_domain || !writer->parts || !writer->seen)
        status = no_memory(error);
    if (!status && path)
        status = sgm_writer_open(path, &writer->file, error);
    if (!status)
        status = put_header(writer, about, error);
    if (status)
        sgm_trace_abandon(writer);
    else
        *out = writer;
    return status;
}

sgm_status sgm_trace_create(const char *path, const sgm_trace_info *about, sgm_trace_writer **writer,
                            sgm_error *error) {
    return create(path, NULL, about, writer, error);
}

sgm_status sgm_trace_create_in(sgm_buffer *out, const sgm_trace_info *about, sgm_trace_writer **writer,
                               sgm_error *error) {
    return create(NULL, out, about, writer, error);
}

void sgm_trace_abandon(sgm_trace_writer *writer) {
    if (!writer)
        return;
    for (int64_t l = 0; writer->parts && l < writer->layers; l++) {
        sgm_free(writer->parts[l].expert);
        sgm_free(writer->parts[l].weight);
        sgm_free(writer->parts[l].flags);
    }
    for (int64_t d = 0; d < writer->domain_count; d++)
        sgm_free(writer->domains[d].sums);
    sgm_free(writer->domains);
    sgm_free(writer->parts);
    sgm_free(writer->token);
    sgm_free(writer->token_domain);
    sgm_free(writer->seen);
    sgm_free(writer->block);
    sgm_writer_abandon(writer->file);
    sgm_free(writer);
}

/* ---- domains --------------------------------------------------------------------------------------------------- */

static sgm_status earlier_failure(const sgm_trace_writer *writer, sgm_error *error) {
    return sgm_fail(error, writer->failed, *writer->why.hint ? writer->why.hint : NULL, "%s", writer->why.message);
}

static sgm_status keep_failure(sgm_trace_writer *writer, sgm_status status, sgm_error *error) {
    writer->failed = status;
    return status ? earlier_failure(writer, error) : SGM_OK;
}

static size_t sums_count(const sgm_trace_writer *writer) {
    return (size_t)(writer->layers * sgm_routed_stride(writer->experts, writer->attention_experts));
}

static sgm_status add_domain(sgm_trace_writer *writer, const char *name, size_t length, sgm_error *error) {
    size_t count = (size_t)writer->domain_count;
    if (count >= UINT16_MAX)
        return sgm_fail(error, SGM_ESPACE, "trace fewer files at a time", "a trace holds up to 65,535 domains");
    domain *grown = sgm_resize(writer->domains, count * sizeof *grown, (count + 1) * sizeof *grown);
    if (!grown)
        return no_memory(error);
    writer->domains = grown;
    grown[count] = (domain){.sums = sgm_alloc(sums_count(writer) * sizeof(double))};
    if (!grown[count].sums)
        return no_memory(error);
    writer->domain_count++;
    memcpy(grown[count].name, name, length + 1);
    uint64_t bytes = SGM_TRACE_HEAD_BYTES + SGM_TRACE_NAME_BYTES + SGM_TRACE_SUM_BYTES;
    sgm_status status = block_reserve(writer, bytes, error);
    if (status)
        return status;
    memcpy(writer->block + SGM_TRACE_HEAD_BYTES, name, length + 1);
    return put_block(writer, SGM_TRACE_DOMAIN, (uint32_t)count, bytes, error);
}

sgm_status sgm_trace_domain(sgm_trace_writer *writer, const char *name, int64_t *index, sgm_error *error) {
    size_t length = strlen(name);
    if (writer->failed)
        return earlier_failure(writer, error);
    for (*index = 0; *index < writer->domain_count; ++*index)
        if (strcmp(writer->domains[*index].name, name) == 0)
            return SGM_OK;
    if (length == 0 || length >= SGM_TRACE_NAME_BYTES)
        return sgm_fail(error, SGM_EARGUMENT, "use 1 to 63 bytes", "\"%s\" cannot be the name of a domain", name);
    return keep_failure(writer, add_domain(writer, name, length, &writer->why), error);
}

double *sgm_trace_writer_sums(sgm_trace_writer *writer, int64_t index) {
    writer->has_sums = true;
    return writer->domains[index].sums;
}

/* ---- tokens ---------------------------------------------------------------------------------------------------- */

static sgm_status write_tokens(sgm_trace_writer *writer, sgm_error *error) {
    uint64_t L = (uint64_t)writer->layers, n = (uint64_t)writer->tokens, slots = 0;
    if (n == 0)
        return SGM_OK;
    for (uint64_t l = 0; l < L; l++)
        slots += (uint64_t)writer->parts[l].used;
    sgm_trace_layout at = sgm_trace_lay_out(L, n, n * slots);
    sgm_status status = block_reserve(writer, at.bytes, error);
    if (status)
        return status;
    unsigned char *block = writer->block;
    memcpy(block + at.token, writer->token, n * sizeof *writer->token);
    memcpy(block + at.domain, writer->token_domain, n * sizeof *writer->token_domain);
    uint64_t place = 0;
    for (uint64_t l = 0; l < L; l++) {
        part *p = &writer->parts[l];
        uint64_t used = (uint64_t)p->used, width = (uint64_t)p->width;
        sgm_put_u16(block + at.slots + 2 * l, (uint16_t)used);
        for (uint64_t t = 0; t < n; t++, place += used) {
            memcpy(block + at.expert + 2 * place, p->expert + t * width, 2 * used);
            memcpy(block + at.weight + 4 * place, p->weight + t * width, 4 * used);
            memcpy(block + at.flags + place, p->flags + t * width, used);
        }
        p->used = 1;
    }
    writer->tokens = 0;
    return put_block(writer, SGM_TRACE_TOKENS, (uint32_t)n, at.bytes, error);
}

/* Memory for `slots` of each token; what is there keeps its place. */
static sgm_status widen(sgm_trace_writer *writer, part *p, int64_t slots, sgm_error *error) {
    size_t places = (size_t)(SGM_TRACE_BLOCK_TOKENS * slots);
    part wide = {.width = slots, .used = p->width ? p->used : 1};
    wide.expert = sgm_alloc(places * sizeof *wide.expert);
    wide.weight = sgm_alloc(places * sizeof *wide.weight);
    wide.flags = sgm_alloc(places);
    if (!wide.expert || !wide.weight || !wide.flags) {
        sgm_free(wide.expert);
        sgm_free(wide.weight);
        sgm_free(wide.flags);
        return no_memory(error);
    }
    for (size_t i = 0; i < places; i++)
        wide.expert[i] = SGM_TRACE_UNUSED;
    size_t before = (size_t)p->width;
    for (size_t t = 0; before && t < (size_t)writer->tokens; t++) {
        memcpy(wide.expert + t * (size_t)slots, p->expert + t * before, before * sizeof *wide.expert);
        memcpy(wide.weight + t * (size_t)slots, p->weight + t * before, before * sizeof *wide.weight);
        memcpy(wide.flags + t * (size_t)slots, p->flags + t * before, before);
    }
    sgm_free(p->expert);
    sgm_free(p->weight);
    sgm_free(p->flags);
    *p = wide;
    return SGM_OK;
}

/* What a reader would refuse is not written. */
static sgm_status check_assignment(sgm_trace_writer *writer, int64_t layer, int32_t expert, float weight, uint8_t flags,
                                   sgm_error *error) {
    int64_t experts = sgm_routed_experts(writer->experts, writer->attention_experts, layer);
    int64_t computing =
        experts - (sgm_routed_is_attention(writer->attention_experts, layer) ? 0 : writer->null_experts);
    if (expert >= experts)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "layer %" PRId64 " has no expert %d", layer, (int)expert);
    if (!isfinite(weight))
        return sgm_fail(error, SGM_ENUMERIC, "the weights are damaged, or training diverged",
                        "layer %" PRId64 ": the weight of expert %d is not finite", layer, (int)expert);
    if (flags & SGM_TRACE_NULL && expert < computing)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "layer %" PRId64 ": expert %d is no null expert", layer,
                        (int)expert);
    if (writer->seen[expert] == writer->visit)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "layer %" PRId64 ": a token has expert %d twice", layer,
                        (int)expert);
    writer->seen[expert] = writer->visit;
    return SGM_OK;
}

/* Unused slots at a token's end are left out of a block where every token has them. */
static sgm_status add_layer(sgm_trace_writer *writer, int64_t layer, const int32_t *expert, const float *weight,
                            const uint8_t *flags, int64_t slots, sgm_error *error) {
    part *p = &writer->parts[layer];
    int64_t used = slots, least = slots > 1 ? slots : 1;
    sgm_status status = p->width < least ? widen(writer, p, least, error) : SGM_OK;
    if (status)
        return status;
    while (used > 0 && expert[used - 1] < 0)
        used--;
    int64_t at = writer->tokens * p->width;
    writer->visit++;
    for (int64_t k = 0; k < p->width; k++) {
        bool there = k < used && expert[k] >= 0;
        status = there ? check_assignment(writer, layer, expert[k], weight[k], flags ? flags[k] : 0, error) : SGM_OK;
        if (status)
            return status;
        p->expert[at + k] = there ? (uint16_t)expert[k] : SGM_TRACE_UNUSED;
        p->weight[at + k] = there ? weight[k] : 0;
        p->flags[at + k] = there && flags ? flags[k] & (SGM_TRACE_NULL | SGM_TRACE_DROPPED) : 0;
    }
    p->used = used > p->used ? used : p->used;
    return SGM_OK;
}

static sgm_status add(sgm_trace_writer *writer, const sgm_trace_token *token, sgm_error *error) {
    if (token->token < 0 || token->token >= writer->vocabulary || token->domain < 0 ||
        token->domain >= writer->domain_count)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "token %d of domain %" PRId64 " is outside the trace's vocabulary of %" PRId64
                        " or its %" PRId64 " domains",
                        (int)token->token, token->domain, writer->vocabulary, writer->domain_count);
    int64_t at = 0;
    sgm_status status = SGM_OK;
    for (int64_t l = 0; !status && l < writer->layers; at += token->slots[l], l++)
        status = add_layer(writer, l, token->expert + at, token->weight + at, token->flags ? token->flags + at : NULL,
                           token->slots[l], error);
    if (status)
        return status;
    writer->token[writer->tokens] = token->token;
    writer->token_domain[writer->tokens++] = (uint16_t)token->domain;
    writer->total++;
    return writer->tokens < SGM_TRACE_BLOCK_TOKENS ? SGM_OK : write_tokens(writer, error);
}

sgm_status sgm_trace_add(sgm_trace_writer *writer, const sgm_trace_token *token, sgm_error *error) {
    if (writer->failed)
        return earlier_failure(writer, error);
    return keep_failure(writer, add(writer, token, &writer->why), error);
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

static sgm_status write_end(sgm_trace_writer *writer, sgm_error *error) {
    size_t numbers = sums_count(writer), domains = (size_t)writer->domain_count;
    for (size_t i = 0; writer->has_sums && i < domains * numbers; i++)
        if (!(writer->domains[i / numbers].sums[i % numbers] >= 0 &&
              isfinite(writer->domains[i / numbers].sums[i % numbers])))
            return sgm_fail(error, SGM_ENUMERIC, "the weights are damaged, or training diverged",
                            "the router's probabilities are not finite");
    uint64_t bytes = SGM_TRACE_HEAD_BYTES + 16 + (writer->has_sums ? 8 * numbers * domains : 0) + SGM_TRACE_SUM_BYTES;
    sgm_status status = block_reserve(writer, bytes, error);
    if (status)
        return status;
    sgm_put_u64(writer->block + SGM_TRACE_HEAD_BYTES, (uint64_t)writer->total);
    sgm_put_u64(writer->block + SGM_TRACE_HEAD_BYTES + 8, writer->has_sums);
    for (size_t d = 0; writer->has_sums && d < domains; d++)
        memcpy(writer->block + SGM_TRACE_HEAD_BYTES + 16 + 8 * d * numbers, writer->domains[d].sums, 8 * numbers);
    return put_block(writer, SGM_TRACE_END, (uint32_t)domains, bytes, error);
}

sgm_status sgm_trace_commit(sgm_trace_writer *writer, int64_t *tokens, sgm_error *error) {
    sgm_status status = writer->failed ? earlier_failure(writer, error) : write_tokens(writer, error);
    if (!status)
        status = write_end(writer, error);
    if (!status && writer->file) {
        status = sgm_writer_commit(writer->file, error);
        writer->file = NULL; /* gone, also on failure */
    }
    if (tokens)
        *tokens = status ? 0 : writer->total;
    sgm_trace_abandon(writer);
    return status;
}
