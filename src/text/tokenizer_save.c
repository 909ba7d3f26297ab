// SPDX-License-Identifier: Apache-2.0
/* Writing tokenizer.json and tokenizer_config.json as Hugging Face tokenizers reads them. Tokens go out in the order of
 * their ids, so equal tokenizers give equal bytes. */
#include <string.h>

#include "base/file.h"
#include "text/tokenizer.h"

static sgm_status add_text(sgm_buffer *out, const char *text) {
    return sgm_buffer_add(out, text, strlen(text));
}

/* A JSON string of valid UTF-8. */
static sgm_status quote(sgm_buffer *out, const char *text, size_t size) {
    sgm_status status = add_text(out, "\"");
    size_t plain = 0;
    for (size_t i = 0; !status && i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        status = sgm_buffer_add(out, text + plain, i - plain);
        if (!status)
            status = c < 0x20 ? sgm_buffer_print(out, "\\u%04x", c) : sgm_buffer_print(out, "\\%c", c);
        plain = i + 1;
    }
    if (!status)
        status = sgm_buffer_add(out, text + plain, size - plain);
    return status ? status : add_text(out, "\"");
}

/* As the vocabulary spells it. */
static sgm_status quote_token(const sgm_tokenizer *t, int32_t id, sgm_buffer *scratch, sgm_buffer *out) {
    const sgm_token *token = &t->tokens[id];
    const char *bytes = t->pool + token->offset;
    if ((token->flags & SGM_TOKEN_LITERAL) || !(token->flags & SGM_TOKEN_MODEL))
        return quote(out, bytes, token->size);
    scratch->size = 0;
    sgm_status status = sgm_alphabet_from_bytes(bytes, token->size, scratch);
    return status ? status : quote(out, scratch->data ? scratch->data : "", scratch->size);
}

static const char *truth(bool value) {
    return value ? "true" : "false";
}

/* Hugging Face numbers added tokens that are not in the vocabulary itself, from its size on. Where our ids are others
 * (a gap in a rank file), the added tokens must stand in the vocabulary to keep theirs. */
static bool ids_follow(const sgm_tokenizer *t) {
    int64_t model = 0;
    for (int64_t id = 0; id < t->vocabulary; id++)
        model += (t->tokens[id].flags & SGM_TOKEN_MODEL) != 0;
    for (int64_t id = 0; id < t->vocabulary; id++)
        if ((t->tokens[id].flags & (SGM_TOKEN_MODEL | SGM_TOKEN_ADDED)) == SGM_TOKEN_ADDED && id != model++)
            return false;
    return true;
}

static const sgm_added_token *added_of(const sgm_tokenizer *t, int64_t id) {
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id == id)
            return &t->added[i];
    return NULL;
}

static sgm_status write_added(const sgm_tokenizer *t, sgm_buffer *out, const char *lead) {
    bool first = true, decoder = *lead == 'd'; /* the two files list the same in two shapes */
    sgm_status status = SGM_OK;
    for (int64_t id = 0; !status && id < t->vocabulary; id++) {
        if (!(t->tokens[id].flags & SGM_TOKEN_ADDED))
            continue;
        const sgm_added_token *a = added_of(t, id);
        status = add_text(out, first ? "\n    " : ",\n    ");
        first = false;
        if (!status)
            status = decoder ? sgm_buffer_print(out, "\"%lld\": {\"content\": ", (long long)id)
                             : sgm_buffer_print(out, "{\"id\": %lld, \"content\": ", (long long)id);
        if (!status)
            status = quote(out, a->text, a->size);
        if (!status)
            status = sgm_buffer_print(
                out, ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}",
                truth(a->single_word), truth(a->left_strip), truth(a->right_strip), truth(a->normalized),
                truth(a->special));
    }
    return status;
}

static sgm_status write_vocabulary(const sgm_tokenizer *t, sgm_buffer *scratch, sgm_buffer *out) {
    uint32_t wanted = ids_follow(t) ? SGM_TOKEN_MODEL : SGM_TOKEN_MODEL | SGM_TOKEN_ADDED;
    bool first = true;
    sgm_status status = SGM_OK;
    for (int64_t id = 0; !status && id < t->vocabulary; id++) {
        if (!(t->tokens[id].flags & wanted))
            continue;
        status = add_text(out, first ? "\n      " : ",\n      ");
        first = false;
        if (!status)
            status = quote_token(t, (int32_t)id, scratch, out);
        if (!status)
            status = sgm_buffer_print(out, ": %lld", (long long)id);
    }
    return status;
}

static sgm_status write_merges(const sgm_tokenizer *t, sgm_buffer *scratch, sgm_buffer *out) {
    sgm_status status = SGM_OK;
    for (size_t i = 0; !status && i < t->merge_count; i++) {
        status = add_text(out, i ? ",\n      [" : "\n      [");
        if (!status)
            status = quote_token(t, t->merges[i].left, scratch, out);
        if (!status)
            status = add_text(out, ", ");
        if (!status)
            status = quote_token(t, t->merges[i].right, scratch, out);
        if (!status)
            status = add_text(out, "]");
    }
    return status;
}

static const char *or_null(const char *json) {
    return json ? json : "null";
}

sgm_status sgm_tokenizer_print(const sgm_tokenizer *t, sgm_buffer *out) {
    sgm_buffer scratch = {0};
    sgm_status status = add_text(
        out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    if (!status)
        status = write_added(t, out, "list");
    const char *const parts[][2] = {{"\n  ],\n  \"normalizer\": ", or_null(t->normalizer)},
                                    {",\n  \"pre_tokenizer\": ", or_null(t->pre_tokenizer)},
                                    {",\n  \"post_processor\": ", or_null(t->post_processor)},
                                    {",\n  \"decoder\": ", or_null(t->decoder)}};
    for (size_t i = 0; !status && i < 4; i++)
        if (!(status = add_text(out, parts[i][0])))
            status = add_text(out, parts[i][1]);
    if (!status)
        status =
            sgm_buffer_print(out,
                             ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": "
                             "null,\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                             "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": %s,\n"
                             "    \"vocab\": {",
                             truth(t->ignore_merges));
    if (!status)
        status = write_vocabulary(t, &scratch, out);
    if (!status)
        status = add_text(out, "\n    },\n    \"merges\": [");
    if (!status)
        status = write_merges(t, &scratch, out);
    if (!status)
        status = add_text(out, "\n    ]\n  }\n}\n");
    sgm_buffer_free(&scratch);
    return status;
}

static sgm_status write_config(const sgm_tokenizer *t, sgm_buffer *out) {
    if (t->config)
        return add_text(out, t->config);
    const sgm_added_token *end = t->end_of_text < 0 ? NULL : added_of(t, t->end_of_text);
    sgm_status status = add_text(out, "{\n  \"added_tokens_decoder\": {");
    if (!status)
        status = write_added(t, out, "decoder");
    if (!status)
        status = add_text(out, "\n  },\n  \"bos_token\": null,\n  \"clean_up_tokenization_spaces\": false,\n"
                               "  \"eos_token\": ");
    if (!status)
        status = end ? quote(out, end->text, end->size) : add_text(out, "null");
    if (!status)
        status = add_text(out, ",\n  \"pad_token\": ");
    if (!status)
        status = end ? quote(out, end->text, end->size) : add_text(out, "null");
    return status ? status
                  : add_text(out, ",\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"unk_token\": null\n}\n");
}

static sgm_status save_one(const sgm_tokenizer *t, const char *folder, const char *name,
                           sgm_status (*write)(const sgm_tokenizer *, sgm_buffer *), sgm_error *error) {
    sgm_buffer out = {0};
    char *path = sgm_path_join(folder, name);
    sgm_status status = path ? write(t, &out) : SGM_EMEMORY;
    status = status ? sgm_fail(error, status, NULL, "not enough memory to write %s", name)
                    : sgm_file_write(path, out.data, out.size, error);
    sgm_free(path);
    sgm_buffer_free(&out);
    return status;
}

sgm_status sgm_tokenizer_save(const sgm_tokenizer *t, const char *folder, sgm_error *error) {
    sgm_status status = sgm_folder_make(folder, error);
    if (!status)
        status = save_one(t, folder, "tokenizer.json", sgm_tokenizer_print, error);
    if (!status)
        status = save_one(t, folder, "tokenizer_config.json", write_config, error);
    return status;
}
