// SPDX-License-Identifier: Apache-2.0
/* Writing manifest.json of a data folder: docs/formats.md lists its fields.
 *
 * It holds no clocks and no paths of this machine beyond the last part of each source's, so that the same text gives
 * the same manifest, and with it the same data hash in checkpoints, wherever it was built. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

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
    json_t *value = json_string(bytes);
    if (value)
        return value;
    char *plain = sgm_strdup(bytes);
    for (char *c = plain; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = plain ? json_string(plain) : NULL;
    sgm_free(plain);
    return value;
}

char *sgm_build_shard_path(const build_state *state, uint32_t domain, sgm_corpus_split split, uint32_t shard_number) {
    return sgm_format("%s/%s-%s-%04u.sgmd", state->work, sgm_split_name[split], state->domains[domain].name,
                      shard_number);
}

static json_t *describe_sources(const build_state *state) {
    json_t *list = json_array();
    for (size_t i = 0; i < state->options->source_count; i++) {
        const sgm_data_source *source = &state->options->sources[i];
        const char *slash = strrchr(source->path, '/');
        json_t *one = json_object();
        json_object_set_new(one, "domain", text(source->domain));
        json_object_set_new(one, "name", text(slash && slash[1] ? slash + 1 : source->path));
        json_object_set_new(one, "licence", source->licence ? text(source->licence) : json_null());
        if (source->package && source->version && source->sha256) /* without: the manifest is as it always was */
            json_object_set_new(one, "package",
                                json_pack("{s:o, s:o, s:o}", "name", text(source->package), "version",
                                          text(source->version), "sha256", text(source->sha256)));
        json_object_set_new(one, "files", number(state->facts[i].files));
        json_object_set_new(one, "bytes", number(state->facts[i].bytes));
        json_object_set_new(one, "hash", hash_text(state->facts[i].hash));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *describe_domains(const build_state *state) {
    json_t *list = json_array();
    for (uint32_t d = 0; d < state->domain_count; d++) {
        const domain_facts *domain = &state->domains[d];
        json_t *one = json_object();
        json_object_set_new(one, "name", text(domain->name));
        for (int s = 0; s < 2; s++) {
            json_t *split = json_object();
            json_object_set_new(split, "documents", json_integer(domain->split_documents[s]));
            json_object_set_new(split, "tokens", json_integer(domain->split_tokens[s]));
            json_object_set_new(split, "bytes", json_integer(domain->split_bytes[s]));
            json_object_set_new(one, sgm_split_name[s], split);
        }
        json_object_set_new(one, "repeated_documents", number(domain->repeated_documents));
        json_object_set_new(one, "repeated_lines", number(domain->repeated_lines));
        json_object_set_new(one, "invalid_utf8_bytes", number(domain->invalid_bytes));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *describe_shards(const build_state *state) {
    json_t *list = json_array();
    const shard_facts *facts = (const shard_facts *)(const void *)state->shards.data;
    for (size_t i = 0; i < state->shards.size / sizeof *facts; i++) {
        const sgm_shard *shard = &facts[i].shard;
        const char *domain = state->domains[facts[i].domain].name;
        json_t *one = json_object();
        json_object_set_new(one, "file",
                            json_sprintf("%s-%s-%04u.sgmd", sgm_split_name[shard->split], domain, facts[i].number));
        json_object_set_new(one, "split", json_string(sgm_split_name[shard->split]));
        json_object_set_new(one, "domain", text(domain));
        json_object_set_new(one, "documents", json_integer(shard->documents));
        json_object_set_new(one, "tokens", json_integer(shard->tokens));
        json_object_set_new(one, "bytes", json_integer(shard->bytes));
        json_object_set_new(one, "file_bytes", number(shard->mapping.size));
        json_object_set_new(one, "checksum", hash_text(shard->checksum));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *describe_tokenizer(const build_state *state, sgm_error *error) {
    char *path = sgm_format("%s/tokenizer/tokenizer.json", state->work);
    sgm_mapping mapping;
    if (!path || sgm_map_open(path, &mapping, error) != SGM_OK) {
        sgm_free(path);
        return NULL;
    }
    json_t *one = json_object();
    json_object_set_new(one, "vocabulary", json_integer(sgm_tokenizer_vocabulary(state->tokenizer)));
    json_object_set_new(one, "end_of_text", json_integer(state->end_of_text));
    json_object_set_new(one, "trained_here", json_boolean(state->options->tokenizer_path == NULL));
    json_object_set_new(one, "hash", hash_text(sgm_checksum(mapping.data, mapping.size)));
    sgm_map_close(&mapping);
    sgm_free(path);
    return one;
}

sgm_status sgm_build_write_manifest(const build_state *state, sgm_error *error) {
    json_t *tokenizer = describe_tokenizer(state, error);
    if (!tokenizer)
        return SGM_EIO;
    json_t *root = json_object();
    json_object_set_new(root, "format", json_string(SGM_MANIFEST_FORMAT));
    json_object_set_new(root, "version", json_integer(SGM_MANIFEST_VERSION));
    json_object_set_new(root, "sigmoe", json_string(SGM_VERSION));
    json_object_set_new(root, "tokenizer", tokenizer);
    json_object_set_new(root, "heldout_share", json_real(state->options->heldout_share));
    json_object_set_new(root, "deduplicated", json_boolean(state->options->deduplicate));
    json_object_set_new(root, "document_limit_bytes", json_integer(state->options->document_limit_bytes));
    json_object_set_new(root, "sources", describe_sources(state));
    json_object_set_new(root, "domains", describe_domains(state));
    json_object_set_new(root, "shards", describe_shards(state));
    char *dump = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    char *path = sgm_path_join(state->work, "manifest.json");
    sgm_status status = dump && path ? sgm_file_write(path, dump, strlen(dump), error)
                                     : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the manifest");
    free(dump);
    sgm_free(path);
    json_decref(root);
    return status;
}
