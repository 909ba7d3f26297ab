// SPDX-License-Identifier: Apache-2.0
/* Opening a data folder: the manifest, then every shard it names. See sigmoe/data.h and docs/formats.md.
 *
 * Manifest and shards must agree (split, domain, counts, checksum): a shard of another build that was copied in would
 * otherwise train a model on tokens of another vocabulary without a word. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/system.h"
#include "data/build_state.h"
#include "data/shard.h"

#define REBUILD "build the data folder again with `sigmoe data build`"
enum { MANIFEST_BYTES_MOST = 256 << 20 };

typedef struct corpus_shard {
    sgm_shard shard;
    int64_t first; /* document of the domain's split that the shard begins with */
} corpus_shard;

typedef struct corpus_part {
    corpus_shard *shards;
    size_t count;
    int64_t documents, tokens, bytes;
} corpus_part;

typedef struct corpus_domain {
    char name[SGM_SHARD_DOMAIN_BYTES];
    corpus_part part[2];
} corpus_domain;

struct sgm_corpus {
    char *tokenizer_path;
    uint64_t hash;
    int64_t vocabulary;
    corpus_domain *domains;
    size_t domain_count;
};

static sgm_status damaged(sgm_error *error, const char *path, const char *what) {
    return sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: %s", path, what);
}

static sgm_status add_shard(corpus_part *part, const sgm_shard *shard, sgm_error *error) {
    corpus_shard *grown = sgm_resize(part->shards, part->count * sizeof *grown, (part->count + 1) * sizeof *grown);
    if (!grown)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to open the data folder");
    part->shards = grown;
    part->shards[part->count].shard = *shard;
    part->shards[part->count++].first = part->documents;
    part->documents += shard->documents;
    part->tokens += shard->tokens;
    part->bytes += shard->bytes;
    return SGM_OK;
}

/* One entry of "shards". */
static sgm_status open_shard(sgm_corpus *corpus, const char *folder, const char *manifest, json_t *entry,
                             sgm_error *error) {
    const char *file = sgm_json_text(entry, "file"), *split = sgm_json_text(entry, "split");
    const char *domain = sgm_json_text(entry, "domain"), *checksum = sgm_json_text(entry, "checksum");
    int64_t documents, tokens, bytes, file_bytes;
    if (!file || !split || !domain || !checksum || !sgm_json_whole(entry, "documents", &documents) ||
        !sgm_json_whole(entry, "tokens", &tokens) || !sgm_json_whole(entry, "bytes", &bytes) ||
        !sgm_json_whole(entry, "file_bytes", &file_bytes))
        return damaged(error, manifest, "an entry of \"shards\" lacks a field");
    if (strchr(file, '/') || file[0] == '.')
        return damaged(error, manifest, "a shard's name is not a plain file name");
    size_t d = 0;
    while (d < corpus->domain_count && strcmp(corpus->domains[d].name, domain) != 0)
        d++;
    if (d == corpus->domain_count)
        return damaged(error, manifest, "a shard is of a domain that \"domains\" does not list");
    char *path = sgm_path_join(folder, file);
    if (!path)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to open %s", folder);
    sgm_shard shard;
    sgm_status status = sgm_shard_open(path, &shard, error);
    if (status == SGM_OK) {
        char sum[17];
        snprintf(sum, sizeof sum, "%016" PRIx64, shard.checksum);
        if (strcmp(sum, checksum) != 0 || strcmp(shard.domain, domain) != 0 ||
            strcmp(sgm_split_name[shard.split], split) != 0 || shard.documents != documents || shard.tokens != tokens ||
            shard.bytes != bytes || shard.mapping.size != (uint64_t)file_bytes ||
            shard.vocabulary != corpus->vocabulary)
            status = damaged(error, path, "the shard is not the one that the manifest describes");
        if (status == SGM_OK)
            status = add_shard(&corpus->domains[d].part[shard.split], &shard, error);
        if (status != SGM_OK)
            sgm_shard_close(&shard);
    }
    sgm_free(path);
    return status;
}

static sgm_status read_domains(sgm_corpus *corpus, const char *manifest, json_t *domains, sgm_error *error) {
    size_t count = json_array_size(domains);
    if (count == 0)
        return damaged(error, manifest, "it lists no domains");
    corpus->domains = sgm_alloc(count * sizeof *corpus->domains);
    if (!corpus->domains)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to open %s", manifest);
    corpus->domain_count = count;
    for (size_t d = 0; d < count; d++) {
        const char *name = json_string_value(json_object_get(json_array_get(domains, d), "name"));
        if (!name || !sgm_domain_name_ok(name))
            return damaged(error, manifest, "a domain's name is missing or not a name");
        for (size_t other = 0; other < d; other++)
            if (strcmp(corpus->domains[other].name, name) == 0)
                return damaged(error, manifest, "a domain is listed twice");
        memcpy(corpus->domains[d].name, name, strlen(name));
    }
    return SGM_OK;
}

/* Not there, or a whole number that counts something. */
static bool is_count(const json_t *object, const char *key) {
    int64_t value;
    return !json_object_get(object, key) || (sgm_json_whole(object, key, &value) && value >= 0);
}

/* What the manifest says of each domain is what its shards hold: one that was edited, or lost a shard, does not pass. */
static sgm_status check_totals(const sgm_corpus *corpus, const char *manifest, const json_t *domains,
                               sgm_error *error) {
    for (size_t d = 0; d < corpus->domain_count; d++)
        for (int s = 0; s < 2; s++) {
            const corpus_part *part = &corpus->domains[d].part[s];
            const json_t *told = json_object_get(json_array_get(domains, d), sgm_split_name[s]);
            const struct {
                const char *name;
                int64_t found;
            } number[] = {{"documents", part->documents}, {"tokens", part->tokens}, {"bytes", part->bytes}};
            for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
                int64_t value;
                if (!sgm_json_whole(told, number[i].name, &value) || value != number[i].found)
                    return sgm_fail(error, SGM_EFORMAT, REBUILD,
                                    "%s: the %s of domain %s in %s are not the %" PRId64 " of its shards", manifest,
                                    number[i].name, corpus->domains[d].name, sgm_split_name[s], number[i].found);
            }
        }
    return SGM_OK;
}

/* Numbers that nothing else records: what is there must be possible. */
static sgm_status check_rest(const char *manifest, const json_t *root, sgm_error *error) {
    static const char *const of_domain[] = {"repeated_documents", "repeated_lines", "invalid_utf8_bytes"};
    static const char *const of_source[] = {"files", "bytes"};
    const json_t *domains = json_object_get(root, "domains"), *sources = json_object_get(root, "sources");
    const json_t *share = json_object_get(root, "heldout_share");
    const char *wrong = NULL;
    if (share &&
        !(json_is_number(share) && json_number_value(share) >= 0 && json_number_value(share) <= SGM_HELDOUT_SHARE_MOST))
        wrong = "heldout_share";
    if (!is_count(root, "document_limit_bytes"))
        wrong = "document_limit_bytes";
    for (size_t d = 0; d < json_array_size(domains); d++)
        for (size_t i = 0; i < sizeof of_domain / sizeof *of_domain; i++)
            if (!is_count(json_array_get(domains, d), of_domain[i]))
                wrong = of_domain[i];
    for (size_t s = 0; s < json_array_size(sources); s++)
        for (size_t i = 0; i < sizeof of_source / sizeof *of_source; i++)
            if (!is_count(json_array_get(sources, s), of_source[i]))
                wrong = of_source[i];
    return wrong ? sgm_fail(error, SGM_EFORMAT, REBUILD, "%s: the value of \"%s\" is impossible", manifest, wrong)
                 : SGM_OK;
}

static sgm_status read_manifest(sgm_corpus *corpus, const char *folder, const char *manifest, json_t *root,
                                sgm_error *error) {
    const char *format = json_string_value(json_object_get(root, "format"));
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    if (!format || strcmp(format, SGM_MANIFEST_FORMAT) != 0)
        return sgm_fail(error, SGM_EFORMAT, "give the folder that `sigmoe data build` made",
                        "%s: this is not the manifest of a data folder", manifest);
    if (version != SGM_MANIFEST_VERSION)
        return sgm_fail(error, SGM_EUNSUPPORTED, "use the sigmoe that wrote it, or build the data folder again",
                        "%s: manifest version %lld; this sigmoe reads version %d", manifest, (long long)version,
                        SGM_MANIFEST_VERSION);
    const json_t *tokenizer = json_object_get(root, "tokenizer");
    int64_t end_of_text;
    if (!sgm_json_whole(tokenizer, "vocabulary", &corpus->vocabulary) ||
        !sgm_json_whole(tokenizer, "end_of_text", &end_of_text) || end_of_text < 0 || end_of_text >= corpus->vocabulary)
        return damaged(error, manifest, "the tokenizer's vocabulary or end_of_text is missing or impossible");
    sgm_status status = read_domains(corpus, manifest, json_object_get(root, "domains"), error);
    json_t *shards = json_object_get(root, "shards");
    if (status == SGM_OK && json_array_size(shards) == 0)
        status = damaged(error, manifest, "it lists no shards");
    for (size_t i = 0; status == SGM_OK && i < json_array_size(shards); i++)
        status = open_shard(corpus, folder, manifest, json_array_get(shards, i), error);
    if (status == SGM_OK)
        status = check_totals(corpus, manifest, json_object_get(root, "domains"), error);
    return status ? status : check_rest(manifest, root, error);
}

/* The tokenizer must be the very file the shards were made with. */
static sgm_status check_tokenizer(sgm_corpus *corpus, json_t *root, sgm_error *error) {
    const char *hash = json_string_value(json_object_get(json_object_get(root, "tokenizer"), "hash"));
    char *path = sgm_path_join(corpus->tokenizer_path, "tokenizer.json"), sum[17];
    sgm_mapping mapping;
    if (!path)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to open the data folder");
    sgm_status status = sgm_map_open(path, &mapping, error);
    if (status == SGM_OK) {
        snprintf(sum, sizeof sum, "%016" PRIx64, sgm_checksum(mapping.data, mapping.size));
        sgm_map_close(&mapping);
        if (!hash || strcmp(hash, sum) != 0)
            status = damaged(error, path, "it is not the tokenizer that the shards were made with");
    }
    sgm_free(path);
    return status;
}

sgm_status sgm_corpus_open(const char *folder, sgm_corpus **out, sgm_error *error) {
    *out = NULL;
    if (!sgm_path_exists(folder))
        return sgm_fail(error, SGM_ENOTFOUND, "check the spelling, or make it with `sigmoe data build`",
                        "%s: no such data folder", folder);
    char *manifest = sgm_path_join(folder, "manifest.json"), *text = NULL;
    sgm_corpus *corpus = sgm_alloc(sizeof *corpus);
    if (corpus)
        corpus->tokenizer_path = sgm_path_join(folder, "tokenizer");
    json_t *root = NULL;
    size_t size = 0;
    sgm_status status = SGM_OK;
    if (!manifest || !corpus || !corpus->tokenizer_path)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory to open %s", folder);
    else if (access(folder, X_OK) != 0)
        status = sgm_fail_input(error, errno, "open the folder", folder);
    else if (!sgm_path_exists(manifest))
        status = sgm_fail(error, SGM_ENOTFOUND, "make a data folder of it with `sigmoe data build`",
                          "%s: this is not a data folder: it has no manifest.json", folder);
    if (status == SGM_OK)
        status = sgm_file_read(manifest, MANIFEST_BYTES_MOST, &text, &size, error);
    if (status == SGM_OK) {
        corpus->hash = sgm_checksum(text, size);
        status = sgm_json_read(text, size, JSON_REJECT_DUPLICATES, manifest, REBUILD, &root, error);
    }
    if (status == SGM_OK)
        status = read_manifest(corpus, folder, manifest, root, error);
    if (status == SGM_OK)
        status = check_tokenizer(corpus, root, error);
    json_decref(root);
    sgm_free(text);
    sgm_free(manifest);
    if (status != SGM_OK)
        sgm_corpus_close(corpus);
    else
        *out = corpus;
    return status;
}

void sgm_corpus_close(sgm_corpus *corpus) {
    if (!corpus)
        return;
    for (size_t d = 0; d < corpus->domain_count; d++)
        for (int s = 0; s < 2; s++) {
            corpus_part *part = &corpus->domains[d].part[s];
            for (size_t i = 0; i < part->count; i++)
                sgm_shard_close(&part->shards[i].shard);
            sgm_free(part->shards);
        }
    sgm_free(corpus->domains);
    sgm_free(corpus->tokenizer_path);
    sgm_free(corpus);
}

size_t sgm_corpus_domains(const sgm_corpus *corpus) {
    return corpus->domain_count;
}

const char *sgm_corpus_domain(const sgm_corpus *corpus, size_t domain) {
    return domain < corpus->domain_count ? corpus->domains[domain].name : NULL;
}

static const corpus_part *part_of(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain) {
    static const corpus_part none;
    return domain < corpus->domain_count && (unsigned)split < 2 ? &corpus->domains[domain].part[split] : &none;
}

int64_t sgm_corpus_documents(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain) {
    return part_of(corpus, split, domain)->documents;
}

int64_t sgm_corpus_tokens(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain) {
    return part_of(corpus, split, domain)->tokens;
}

int64_t sgm_corpus_bytes(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain) {
    return part_of(corpus, split, domain)->bytes;
}

const int32_t *sgm_corpus_document(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain, int64_t document,
                                   int64_t *tokens, int64_t *bytes) {
    const corpus_part *part = part_of(corpus, split, domain);
    *tokens = 0;
    if (document < 0 || document >= part->documents)
        return NULL;
    size_t low = 0, high = part->count; /* the last shard that begins at or before the document */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (part->shards[middle].first <= document)
            low = middle;
        else
            high = middle;
    }
    return sgm_shard_document(&part->shards[low].shard, document - part->shards[low].first, tokens, bytes);
}

const char *sgm_corpus_tokenizer_path(const sgm_corpus *corpus) {
    return corpus->tokenizer_path;
}

uint64_t sgm_corpus_hash(const sgm_corpus *corpus) {
    return corpus->hash;
}

void sgm_corpus_hash_text(const sgm_corpus *corpus, char text[SGM_CORPUS_HASH]) {
    snprintf(text, SGM_CORPUS_HASH, "%016" PRIx64, corpus->hash);
}
