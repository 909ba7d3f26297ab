// SPDX-License-Identifier: Apache-2.0
/* Reading and writing shards. See shard.h and docs/formats.md.
 *
 * The checksum covers every byte before it. It is verified at open, once, together with the table's order and each
 * token's range, so that a flipped bit on a disk becomes a message here and not a strange loss later. */
#include "data/shard.h"

#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"

static const char MAGIC[8] = {'S', 'G', 'M', 'S', 'H', 'A', 'R', 'D'};
static const char END_MAGIC[8] = {'S', 'G', 'M', 'D', 'E', 'N', 'D', '.'};
#define BYTE_ORDER_MARK 0x01020304u
#define REBUILD "the shard is damaged; build the data folder again with `sigmoe data build`"

/* Header: where each field stands. */
enum { AT_ORDER = 8, AT_VERSION = 12, AT_FEATURES = 16, AT_VOCABULARY = 24, AT_SPLIT = 32, AT_DOMAIN = 40 };
/* Trailer, from its own start. */
enum { AT_DOCUMENTS = 0, AT_TOKENS = 8, AT_TEXT_BYTES = 16, AT_FILE_BYTES = 24, AT_CHECKSUM = 32, AT_END = 40 };

bool sgm_domain_name_ok(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= SGM_SHARD_DOMAIN_BYTES || name[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                     c == '_' || c == '-';
        if (!plain)
            return false;
    }
    return true;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static sgm_status parse_header(const unsigned char *data, size_t size, const char *name, sgm_error *error) {
    if (size < SGM_SHARD_HEADER_BYTES + SGM_SHARD_TRAILER_BYTES)
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: too short for a shard (%zu bytes): it is cut off", name,
                        size);
    if (memcmp(data, MAGIC, sizeof MAGIC) != 0)
        return sgm_fail(error, SGM_EFORMAT, "give the folder that `sigmoe data build` made", "%s: not a shard", name);
    if (sgm_get_u32(data + AT_ORDER) != BYTE_ORDER_MARK)
        return sgm_fail(error, SGM_EFORMAT, "build the data folder on this machine",
                        "%s: the shard's byte order is not this machine's", name);
    uint32_t version = sgm_get_u32(data + AT_VERSION);
    if (version != SGM_SHARD_VERSION)
        return sgm_fail(error, SGM_EUNSUPPORTED, "use the sigmoe that wrote it, or build the data folder again",
                        "%s: shard version %u; this sigmoe reads version %d", name, version, SGM_SHARD_VERSION);
    if (sgm_get_u64(data + AT_FEATURES) != 0)
        return sgm_fail(error, SGM_EUNSUPPORTED, "use a newer sigmoe, or build the data folder again",
                        "%s: the shard uses features (bits %#llx) that this sigmoe does not know", name,
                        (unsigned long long)sgm_get_u64(data + AT_FEATURES));
    return SGM_OK;
}

/* After the checksum held: the fields, the table's order, the tokens' range. A file with a right checksum may still be
 * forged or come from a broken writer, and the readers behind this index with what stands here. */
static sgm_status parse_body(const unsigned char *data, const char *name, sgm_shard *shard, sgm_error *error) {
    uint64_t vocabulary = sgm_get_u64(data + AT_VOCABULARY), split = sgm_get_u64(data + AT_SPLIT);
    if (vocabulary == 0 || vocabulary > INT32_MAX || split > SGM_HELDOUT)
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the header holds impossible values", name);
    memcpy(shard->domain, data + AT_DOMAIN, SGM_SHARD_DOMAIN_BYTES);
    if (shard->domain[SGM_SHARD_DOMAIN_BYTES - 1] != '\0' || !sgm_domain_name_ok(shard->domain))
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the header's domain name is not one", name);
    shard->split = (sgm_corpus_split)split;
    shard->vocabulary = (int64_t)vocabulary;
    uint64_t token = 0, byte = 0;
    for (int64_t i = 0; i < shard->documents; i++) {
        const unsigned char *entry = shard->table + (size_t)i * SGM_SHARD_ENTRY_BYTES;
        uint64_t end = sgm_get_u64(entry), end_byte = sgm_get_u64(entry + 8);
        if (end <= token || end > (uint64_t)shard->tokens || end_byte < byte || end_byte > (uint64_t)shard->bytes)
            return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the entry of document %lld is out of order", name,
                            (long long)i);
        token = end;
        byte = end_byte;
    }
    if (token != (uint64_t)shard->tokens || byte != (uint64_t)shard->bytes)
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the document table does not cover the tokens", name);
    uint32_t bad = 0;
    for (int64_t i = 0; i < shard->tokens; i++)
        bad |= (uint32_t)((uint32_t)shard->token[i] >= (uint32_t)vocabulary);
    if (bad)
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: a token is not below the vocabulary of %lld", name,
                        (long long)shard->vocabulary);
    return SGM_OK;
}

sgm_status sgm_shard_parse(const unsigned char *data, size_t size, const char *name, sgm_shard *shard,
                           sgm_error *error) {
    memset(shard, 0, sizeof *shard);
    sgm_status status = parse_header(data, size, name, error);
    if (status != SGM_OK)
        return status;
    const unsigned char *trailer = data + size - SGM_SHARD_TRAILER_BYTES;
    if (memcmp(trailer + AT_END, END_MAGIC, sizeof END_MAGIC) != 0 || sgm_get_u64(trailer + AT_FILE_BYTES) != size)
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the shard's end is missing: it is cut off or damaged", name);
    uint64_t checksum = sgm_checksum(data, size - (SGM_SHARD_TRAILER_BYTES - AT_CHECKSUM));
    if (checksum != sgm_get_u64(trailer + AT_CHECKSUM))
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the checksum is wrong (%016llx, the file says %016llx)", name,
                        (unsigned long long)checksum, (unsigned long long)sgm_get_u64(trailer + AT_CHECKSUM));
    uint64_t documents = sgm_get_u64(trailer + AT_DOCUMENTS), tokens = sgm_get_u64(trailer + AT_TOKENS);
    uint64_t room = size - SGM_SHARD_HEADER_BYTES - SGM_SHARD_TRAILER_BYTES;
    uint64_t bytes = sgm_get_u64(trailer + AT_TEXT_BYTES);
    if (tokens > room / 4 || documents > room / SGM_SHARD_ENTRY_BYTES || bytes > INT64_MAX ||
        ((tokens * 4 + 7) & ~(uint64_t)7) + documents * SGM_SHARD_ENTRY_BYTES != room)
        return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: %llu tokens and %llu documents do not fit its %zu bytes",
                        name, (unsigned long long)tokens, (unsigned long long)documents, size);
    shard->documents = (int64_t)documents;
    shard->tokens = (int64_t)tokens;
    shard->bytes = (int64_t)bytes;
    shard->token = (const int32_t *)(const void *)(data + SGM_SHARD_HEADER_BYTES);
    shard->table = trailer - documents * SGM_SHARD_ENTRY_BYTES;
    shard->checksum = checksum;
    return parse_body(data, name, shard, error);
}

sgm_status sgm_shard_open(const char *path, sgm_shard *shard, sgm_error *error) {
    sgm_mapping mapping;
    memset(shard, 0, sizeof *shard);
    sgm_status status = sgm_map_open(path, &mapping, error);
    if (status != SGM_OK)
        return status;
    status = sgm_shard_parse(mapping.data, mapping.size, path, shard, error);
    if (status != SGM_OK) {
        sgm_map_close(&mapping);
        return status;
    }
    shard->mapping = mapping;
    return SGM_OK;
}

void sgm_shard_close(sgm_shard *shard) {
    if (shard->mapping.data)
        sgm_map_close(&shard->mapping);
    memset(shard, 0, sizeof *shard);
}

const int32_t *sgm_shard_document(const sgm_shard *shard, int64_t index, int64_t *count, int64_t *bytes) {
    const unsigned char *entry = shard->table + (size_t)index * SGM_SHARD_ENTRY_BYTES;
    uint64_t begin = index ? sgm_get_u64(entry - SGM_SHARD_ENTRY_BYTES) : 0;
    uint64_t begin_byte = index ? sgm_get_u64(entry - SGM_SHARD_ENTRY_BYTES + 8) : 0;
    *count = (int64_t)(sgm_get_u64(entry) - begin);
    if (bytes)
        *bytes = (int64_t)(sgm_get_u64(entry + 8) - begin_byte);
    return shard->token + begin;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

struct sgm_shard_writer {
    sgm_writer *file;
    sgm_checksum_state *sum;
    sgm_buffer table;
    sgm_shard made;
};

static sgm_status write_summed(sgm_shard_writer *writer, const void *bytes, size_t size, sgm_error *error) {
    sgm_checksum_add(writer->sum, bytes, size);
    return sgm_writer_add(writer->file, bytes, size, error);
}

sgm_status sgm_shard_create(const char *path, const char *domain, sgm_corpus_split split, int64_t vocabulary,
                            sgm_shard_writer **out, sgm_error *error) {
    const uint16_t probe = 1;
    *out = NULL;
    if (*(const unsigned char *)&probe != 1)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "%s: shards are little-endian and this machine is not", path);
    if (!sgm_domain_name_ok(domain) || vocabulary < 1 || vocabulary > INT32_MAX)
        return sgm_fail(error, SGM_EARGUMENT, "use letters, digits, '.', '_' and '-', at most 63 of them",
                        "\"%s\" cannot be the name of a domain", domain);
    sgm_shard_writer *writer = sgm_alloc(sizeof *writer);
    if (!writer)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to write %s", path);
    sgm_status status = SGM_EMEMORY;
    writer->sum = sgm_checksum_new();
    if (writer->sum)
        status = sgm_writer_open(path, &writer->file, error);
    else
        sgm_fail(error, SGM_EMEMORY, NULL, "no memory to write %s", path);
    unsigned char header[SGM_SHARD_HEADER_BYTES] = {0};
    memcpy(header, MAGIC, sizeof MAGIC);
    sgm_put_u32(header + AT_ORDER, BYTE_ORDER_MARK);
    sgm_put_u32(header + AT_VERSION, SGM_SHARD_VERSION);
    sgm_put_u64(header + AT_VOCABULARY, (uint64_t)vocabulary);
    sgm_put_u64(header + AT_SPLIT, (uint64_t)split);
    const size_t domain_bytes = strlen(domain) + 1; /* checked above: it fits with its end */
    memcpy(header + AT_DOMAIN, domain, domain_bytes);
    memcpy(writer->made.domain, domain, domain_bytes);
    writer->made.split = split;
    writer->made.vocabulary = vocabulary;
    if (status == SGM_OK)
        status = write_summed(writer, header, sizeof header, error);
    if (status != SGM_OK) {
        sgm_shard_abandon(writer);
        return status;
    }
    *out = writer;
    return SGM_OK;
}

sgm_status sgm_shard_add(sgm_shard_writer *writer, const int32_t *tokens, int64_t count, int64_t bytes,
                         sgm_error *error) {
    unsigned char entry[SGM_SHARD_ENTRY_BYTES];
    writer->made.documents++;
    writer->made.tokens += count;
    writer->made.bytes += bytes;
    sgm_put_u64(entry, (uint64_t)writer->made.tokens);
    sgm_put_u64(entry + 8, (uint64_t)writer->made.bytes);
    if (sgm_buffer_add(&writer->table, entry, sizeof entry) != SGM_OK)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the document table of domain %s", writer->made.domain);
    return write_summed(writer, tokens, (size_t)count * sizeof *tokens, error);
}

int64_t sgm_shard_tokens(const sgm_shard_writer *writer) {
    return writer->made.tokens;
}

sgm_status sgm_shard_commit(sgm_shard_writer *writer, sgm_shard *made, sgm_error *error) {
    static const unsigned char zeros[8];
    sgm_status status = SGM_OK;
    if (writer->made.tokens % 2)
        status = write_summed(writer, zeros, 4, error);
    if (status == SGM_OK && writer->table.size)
        status = write_summed(writer, writer->table.data, writer->table.size, error);
    unsigned char trailer[SGM_SHARD_TRAILER_BYTES];
    sgm_put_u64(trailer + AT_DOCUMENTS, (uint64_t)writer->made.documents);
    sgm_put_u64(trailer + AT_TOKENS, (uint64_t)writer->made.tokens);
    sgm_put_u64(trailer + AT_TEXT_BYTES, (uint64_t)writer->made.bytes);
    sgm_put_u64(trailer + AT_FILE_BYTES, sgm_writer_position(writer->file) + SGM_SHARD_TRAILER_BYTES);
    sgm_checksum_add(writer->sum, trailer, AT_CHECKSUM);
    writer->made.checksum = sgm_checksum_end(writer->sum);
    writer->sum = NULL;
    sgm_put_u64(trailer + AT_CHECKSUM, writer->made.checksum);
    memcpy(trailer + AT_END, END_MAGIC, sizeof END_MAGIC);
    if (status == SGM_OK)
        status = sgm_writer_add(writer->file, trailer, sizeof trailer, error);
    if (status == SGM_OK) {
        writer->made.mapping.size = (size_t)sgm_writer_position(writer->file);
        status = sgm_writer_commit(writer->file, error);
        writer->file = NULL;
    }
    if (status == SGM_OK && made)
        *made = writer->made;
    sgm_shard_abandon(writer);
    return status;
}

void sgm_shard_abandon(sgm_shard_writer *writer) {
    if (!writer)
        return;
    if (writer->file)
        sgm_writer_abandon(writer->file);
    if (writer->sum)
        sgm_checksum_end(writer->sum);
    sgm_buffer_free(&writer->table);
    sgm_free(writer);
}
