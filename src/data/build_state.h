// SPDX-License-Identifier: Apache-2.0
/* What a build of a data folder knows on its way, shared by the builder and the manifest's writer. */
#ifndef SGM_DATA_BUILD_STATE_H
#define SGM_DATA_BUILD_STATE_H

#include "base/file.h"
#include "base/memory.h"
#include "base/team.h"
#include "data/shard.h"

#define SGM_MANIFEST_FORMAT "sigmoe-data"
enum { SGM_MANIFEST_VERSION = 1 };

typedef struct hash_set {
    uint64_t *slots; /* 0: free */
    size_t count, capacity;
} hash_set;

typedef struct document_entry {
    uint64_t offset, size; /* in the spool */
    uint64_t hash;         /* of the whole text as it came: decides the split */
    uint32_t domain, split;
} document_entry;

typedef struct source_facts {
    uint32_t domain;
    uint64_t files, bytes, hash;
} source_facts;

typedef struct domain_facts {
    const char *name;
    uint64_t bytes, invalid_bytes, repeated_documents, repeated_lines;
    int64_t split_documents[2], split_tokens[2], split_bytes[2];
} domain_facts;

typedef struct shard_facts {
    uint32_t domain, number;
    sgm_shard shard;
} shard_facts;

typedef struct build_state {
    const sgm_data_build_options *options;
    char *work, *spool_path;
    sgm_writer *spool;
    sgm_mapping text;
    sgm_buffer documents; /* of document_entry */
    hash_set texts, lines;
    source_facts *facts; /* per source */
    domain_facts *domains;
    uint32_t domain_count;
    size_t source; /* being read */
    sgm_tokenizer *tokenizer;
    int32_t end_of_text;
    sgm_team *team;
    sgm_shard_writer *shard; /* being written */
    uint32_t shard_domain, shard_number;
    sgm_buffer shards; /* of shard_facts */
} build_state;

/* Heap string: the path of a shard in the work folder. */
char *sgm_build_shard_path(const build_state *state, uint32_t domain, sgm_corpus_split split, uint32_t number);
sgm_status sgm_build_write_manifest(const build_state *state, sgm_error *error);

/* Names of the splits in file names and in the manifest. */
extern const char *const sgm_split_name[2];

#endif
