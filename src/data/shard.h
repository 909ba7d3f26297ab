// SPDX-License-Identifier: Apache-2.0
/* Shards: the tokens of many documents of one domain and one split in one file (docs/formats.md).
 *
 * Header, tokens, document table, trailer. Everything whose size is known only at the end stands in the trailer, so a
 * shard is written in one pass. Opening verifies the checksum and every bound once; after that reads need no checks. */
#ifndef SGM_DATA_SHARD_H
#define SGM_DATA_SHARD_H

#include "base/file.h"
#include "sigmoe/data.h"

enum {
    SGM_SHARD_VERSION = 1,
    SGM_SHARD_DOMAIN_BYTES = 64, /* with the closing NUL */
    SGM_SHARD_HEADER_BYTES = 128,
    SGM_SHARD_TRAILER_BYTES = 48,
    SGM_SHARD_ENTRY_BYTES = 16,
};

typedef struct sgm_shard {
    sgm_mapping mapping; /* empty when parsed from memory */
    char domain[SGM_SHARD_DOMAIN_BYTES];
    sgm_corpus_split split;
    int64_t vocabulary, documents, tokens, bytes; /* bytes: of text */
    const int32_t *token;                         /* (tokens) */
    const unsigned char *table;                   /* (documents) pairs u64: end token, end of text bytes */
    uint64_t checksum;
} sgm_shard;

/* Letters, digits, '.', '_' and '-', at most 63, not beginning with '.': domains are parts of file names. */
bool sgm_domain_name_ok(const char *name);

sgm_status sgm_shard_open(const char *path, sgm_shard *shard, sgm_error *error);
void sgm_shard_close(sgm_shard *shard);
/* The same over bytes in memory (aligned to 4), which must outlive the shard. `name` is for messages. */
sgm_status sgm_shard_parse(const unsigned char *data, size_t size, const char *name, sgm_shard *shard,
                           sgm_error *error);
/* Tokens of document `index` < documents; *count with the closing end-of-text; *bytes of text. */
const int32_t *sgm_shard_document(const sgm_shard *shard, int64_t index, int64_t *count, int64_t *bytes);

typedef struct sgm_shard_writer sgm_shard_writer;
sgm_status sgm_shard_create(const char *path, const char *domain, sgm_corpus_split split, int64_t vocabulary,
                            sgm_shard_writer **writer, sgm_error *error);
/* One document: `count` >= 1 tokens, the last of which is end-of-text. */
sgm_status sgm_shard_add(sgm_shard_writer *writer, const int32_t *tokens, int64_t count, int64_t bytes,
                         sgm_error *error);
int64_t sgm_shard_tokens(const sgm_shard_writer *writer);
/* Finish and rename into place; frees the writer, also on failure. `made` (may be NULL) receives the counts, the
 * checksum and the file's size in mapping.size; its pointers are NULL. */
sgm_status sgm_shard_commit(sgm_shard_writer *writer, sgm_shard *made, sgm_error *error);
void sgm_shard_abandon(sgm_shard_writer *writer); /* NULL is fine */

#endif
