// SPDX-License-Identifier: Apache-2.0
/* Writing manifest.json of a data folder: docs/formats.md lists its fields.
 *
 * It holds no clocks and no paths of this machine beyond the last part of each source's, so that the same text gives
 * the same manifest, and with it the same data hash in checkpoints, wherever it was built. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/build_state.h"

const char *const sgm_split_name[2] = {"train", "heldout"};

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *hash_text(uint64_t hash) {
    return json_sprintf("%016llx", (unsigned long long)hash);
}

/* Names may hold any bytes; JSON may not. */
static json_t *text(const char *bytes) {
    if (sgm_text_is_utf8(bytes))
        return json_string(bytes);
    char *plain = sgm_strdup(bytes);
    for (char *c = plain; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json_t *value = plain ? json_string(plain) : NULL;
    sgm_free(plain);
    return value;
}

char *sgm_build_shard_path(const build_state *state, uint32_t domain, sgm_corpus_split split, uint32_t shard_number) {
    return sgm_format("%s/%s-%s-%04u.sgmd", state->work, sgm_split_name[split], state->domains[domain].name,
                      shard_number);
}

static json_t *describe_sources(const build_state *state) {
    bool failed = false;
    json_t *list = json_array();
    for (size_t i = 0; i < state->options->source_count; i++) {
        const sgm_data_source *source = &state->options->sources[i];
        const char *slash = strrchr(source->path, '/');
        json_t *one = json_object();
        sgm_json_set(one, "domain", text(source->domain), &failed);
        sgm_json_set(one, "name", text(slash && slash[1] ? slash + 1 : source->path), &failed);
        sgm_json_set(one, "licence", source->licence ? text(source->licence) : json_null(), &failed);
        if (source->package && source->version && source->sha256) /* without: the manifest is as it always was */
            sgm_json_set(one, "package",
                         json_pack("{s:o, s:o, s:o}", "name", text(source->package), "version", text(source->version),
                                   "sha256", text(source->sha256)),
                         &failed);
        sgm_json_set(one, "files", number(state->facts[i].files), &failed);
        sgm_json_set(one, "bytes", number(state->facts[i].bytes), &failed);
        sgm_json_set(one, "hash", hash_text(state->facts[i].hash), &failed);
        sgm_json_append(list, one, &failed);
    }
    return sgm_json_or_null(list, failed);
}

static json_t *describe_domains(const build_state *state) {
    bool failed = false;
    json_t *list = json_array();
    for (uint32_t d = 0; d < state->domain_count; d++) {
        const domain_facts *domain = &state->domains[d];
        json_t *one = json_object();
        sgm_json_set(one, "name", text(domain->name), &failed);
        for (int s = 0; s < 2; s++) {
            json_t *split = json_object();
            sgm_json_set(split, "documents", json_integer(domain->split_documents[s]), &failed);
            sgm_json_set(split, "tokens", json_integer(domain->split_tokens[s]), &failed);
            sgm_json_set(split, "bytes", json_integer(domain->split_bytes[s]), &failed);
            sgm_json_set(one, sgm_split_name[s], split, &failed);
        }
        sgm_json_set(one, "repeated_documents", number(domain->repeated_documents), &failed);
        sgm_json_set(one, "repeated_lines", number(domain->repeated_lines), &failed);
        sgm_json_set(one, "invalid_utf8_bytes", number(domain->invalid_bytes), &failed);
        sgm_json_append(list, one, &failed);
    }
    return sgm_json_or_null(list, failed);
}

static json_t *describe_shards(const build_state *state) {
    bool failed = false;
    json_t *list = json_array();
    const shard_facts *facts = (const shard_facts *)(const void *)state->shards.data;
    for (size_t i = 0; i < state->shards.size / sizeof *facts; i++) {
        const sgm_shard *shard = &facts[i].shard;
        const char *domain = state->domains[facts[i].domain].name;
        json_t *one = json_object();
        sgm_json_set(one, "file",
                     json_sprintf("%s-%s-%04u.sgmd", sgm_split_name[shard->split], domain, facts[i].number), &failed);
        sgm_json_set(one, "split", json_string(sgm_split_name[shard->split]), &failed);
        sgm_json_set(one, "domain", text(domain), &failed);
        sgm_json_set(one, "documents", json_integer(shard->documents), &failed);
        sgm_json_set(one, "tokens", json_integer(shard->tokens), &failed);
        sgm_json_set(one, "bytes", json_integer(shard->bytes), &failed);
        sgm_json_set(one, "file_bytes", number(shard->mapping.size), &failed);
        sgm_json_set(one, "checksum", hash_text(shard->checksum), &failed);
        sgm_json_append(list, one, &failed);
    }
    return sgm_json_or_null(list, failed);
}

static json_t *describe_tokenizer(const build_state *state, sgm_error *error) {
    bool failed = false;
    char *path = sgm_format("%s/tokenizer/tokenizer.json", state->work);
    sgm_mapping mapping;
    if (!path || sgm_map_open(path, &mapping, error) != SGM_OK) {
        sgm_free(path);
        return NULL;
    }
    json_t *one = json_object();
    sgm_json_set(one, "vocabulary", json_integer(sgm_tokenizer_vocabulary(state->tokenizer)), &failed);
    sgm_json_set(one, "end_of_text", json_integer(state->end_of_text), &failed);
    sgm_json_set(one, "trained_here", json_boolean(state->options->tokenizer_path == NULL), &failed);
    sgm_json_set(one, "hash", hash_text(sgm_checksum(mapping.data, mapping.size)), &failed);
    sgm_map_close(&mapping);
    sgm_free(path);
    return sgm_json_or_null(one, failed);
}

sgm_status sgm_build_write_manifest(const build_state *state, sgm_error *error) {
    bool failed = false;
    json_t *tokenizer = describe_tokenizer(state, error);
    if (!tokenizer)
        return error ? error->code : SGM_EIO;
    json_t *root = json_object();
    sgm_json_set(root, "format", json_string(SGM_MANIFEST_FORMAT), &failed);
    sgm_json_set(root, "version", json_integer(SGM_MANIFEST_VERSION), &failed);
    sgm_json_set(root, "sigmoe", json_string(SGM_VERSION), &failed);
    sgm_json_set(root, "tokenizer", tokenizer, &failed);
    sgm_json_set(root, "heldout_share", json_real(state->options->heldout_share), &failed);
    sgm_json_set(root, "deduplicated", json_boolean(state->options->deduplicate), &failed);
    sgm_json_set(root, "document_limit_bytes", json_integer(state->options->document_limit_bytes), &failed);
    sgm_json_set(root, "sources", describe_sources(state), &failed);
    sgm_json_set(root, "domains", describe_domains(state), &failed);
    sgm_json_set(root, "shards", describe_shards(state), &failed);
    char *dump = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    char *path = sgm_path_join(state->work, "manifest.json");
    sgm_status status = dump && path && !failed ? sgm_file_write(path, dump, strlen(dump), error)
                                                : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the manifest");
    free(dump);
    sgm_free(path);
    json_decref(root);
    return status;
}
