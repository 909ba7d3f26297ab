// SPDX-License-Identifier: Apache-2.0
/* Tokenizers in GGUF files (tokenizer_gguf.h). Tokens are spelt in the byte alphabet, added ones as they are; a merge is its two
 * parts with a space between them, which the alphabet has not. */
#include "text/tokenizer_gguf.h"

#include <string.h>

#include "text/tokenizer.h"

#define KINDS_HINT "byte-level BPE with the split patterns of GPT-2, Qwen, Llama 3 and o200k can be read"

/* token_type: llama.cpp's numbers. */
enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 };

/* Names of split patterns. The first one of a pattern and `ignore_merges` is written; all are read. `exact`: llama.cpp splits
 * by it as the pattern here does, but for the long s (U+017F) in contractions and for characters that one's Unicode tables do
 * not know. Not exact: cl100k takes the white space at the end of a text as one piece, "dbrx" leaves lines apart; "gpt-4o" knows
 * upper and lower case of ASCII only and no marks inside words. */
static const struct {
    const char *pre, *pattern;
    bool ignore_merges, exact;
} names[] = {
    {"gpt-2", "gpt2", false, true},
    {"qwen2", "qwen", false, true},
    {"llama-bpe", "llama3", true, true},
    {"dbrx", "llama3", false, true},
    {"dbrx", "cl100k", false, false},
    {"gpt-4o", "o200k", false, false},
    {"phi-2", "gpt2", false, true},
    {"mpt", "gpt2", false, true},
    {"olmo", "gpt2", false, true},
    {"stablelm2", "qwen", false, true},
    {"deepseek-r1-qwen", "qwen", false, true},
    {"llama3", "llama3", true, true},
    {"llama-v3", "llama3", true, true},
    {"smaug-bpe", "llama3", false, true},
    {"llama4", "o200k", false, false},
};
enum { NAMES = sizeof names / sizeof *names };

/* ---- writing ---- */

/* The name to write: the one whose ignore_merges fits too, if there is one. */
static int name_of(const sgm_tokenizer *t) {
    if (t->step_count != 1 || !t->steps[0].known || t->steps[0].prefix_space || t->steps[0].invert ||
        t->steps[0].behavior != SGM_SPLIT_ISOLATED)
        return -1;
    int best = -1;
    for (int i = 0; i < NAMES; i++)
        if (sgm_known_pattern_named(names[i].pattern)->next == t->steps[0].known &&
            (best < 0 || (names[best].ignore_merges != t->ignore_merges && names[i].ignore_merges == t->ignore_merges)))
            best = i;
    return best;
}

/* Whether reading the keys alone gives the same tokenizer. */
static bool keys_suffice(const sgm_tokenizer *t, int name) {
    if (!names[name].exact || names[name].ignore_merges != t->ignore_merges || t->nfc)
        return false;
    for (size_t i = 0; i < t->added_count; i++) {
        const sgm_added_token *a = &t->added[i];
        if (a->left_strip || a->right_strip || a->single_word || a->normalized != t->added[0].normalized)
            return false;
    }
    for (int64_t id = 0; id < t->vocabulary; id++) { /* an added token that words can become as well */
        const uint32_t both = SGM_TOKEN_ADDED | SGM_TOKEN_WHOLE;
        if ((t->tokens[id].flags & both) == both)
            return false;
    }
    return true;
}

/* One token as the file spells it, appended to `out`; its type. */
static sgm_status spell(const sgm_tokenizer *t, int64_t id, sgm_buffer *out, int32_t *type) {
    const sgm_token *token = id < t->vocabulary ? &t->tokens[id] : NULL;
    if (!token || !(token->flags & SGM_TOKEN_USED)) {
        *type = UNUSED;
        return sgm_buffer_print(out, "[PAD%lld]", (long long)id);
    }
    const char *bytes = t->pool + token->offset;
    *type = token->flags & SGM_TOKEN_SPECIAL ? CONTROL : token->flags & SGM_TOKEN_ADDED ? USER_DEFINED : NORMAL;
    if (*type != NORMAL || (token->flags & SGM_TOKEN_LITERAL))
        return sgm_buffer_add(out, bytes, token->size);
    return sgm_alphabet_from_bytes(bytes, token->size, out);
}

/* Texts one after the other in `pool`, the end of each in `ends`. */
static sgm_status put_list(sgm_gguf_writer *writer, const char *key, int64_t count, const sgm_buffer *pool,
                           const size_t *ends) {
    const char **texts = sgm_alloc(((size_t)count + 1) * sizeof *texts);
    size_t *sizes = sgm_alloc(((size_t)count + 1) * sizeof *sizes);
    for (int64_t i = 0; texts && sizes && i < count; i++) {
        size_t from = i ? ends[i - 1] : 0;
        texts[i] = pool->data + from;
        sizes[i] = ends[i] - from;
    }
    sgm_status status = texts && sizes ? SGM_OK : SGM_EMEMORY;
    if (!status)
        sgm_gguf_put_texts(writer, key, count, texts, sizes);
    sgm_free(texts);
    sgm_free(sizes);
    return status;
}

static sgm_status put_tokens(const sgm_tokenizer *t, int64_t vocabulary, sgm_gguf_writer *writer) {
    sgm_buffer pool = {0};
    size_t *ends = sgm_alloc((size_t)vocabulary * sizeof *ends);
    int32_t *types = sgm_alloc((size_t)vocabulary * sizeof *types);
    sgm_status status = ends && types ? SGM_OK : SGM_EMEMORY;
    for (int64_t id = 0; !status && id < vocabulary; id++) {
        status = spell(t, id, &pool, &types[id]);
        ends[id] = pool.size;
    }
    if (!status)
        status = put_list(writer, "tokenizer.ggml.tokens", vocabulary, &pool, ends);
    if (!status)
        sgm_gguf_put_i32s(writer, "tokenizer.ggml.token_type", vocabulary, types);
    sgm_buffer_free(&pool);
    sgm_free(ends);
    sgm_free(types);
    return status;
}

static sgm_status put_merges(const sgm_tokenizer *t, sgm_gguf_writer *writer) {
    sgm_buffer pool = {0};
    size_t *ends = sgm_alloc((t->merge_count + 1) * sizeof *ends);
    sgm_status status = ends ? SGM_OK : SGM_EMEMORY;
    for (size_t i = 0; !status && i < t->merge_count; i++) {
        const sgm_token *left = &t->tokens[t->merges[i].left], *right = &t->tokens[t->merges[i].right];
        status = sgm_alphabet_from_bytes(t->pool + left->offset, left->size, &pool);
        if (!status)
            status = sgm_buffer_add(&pool, " ", 1);
        if (!status)
            status = sgm_alphabet_from_bytes(t->pool + right->offset, right->size, &pool);
        ends[i] = pool.size;
    }
    if (!status)
        status = put_list(writer, "tokenizer.ggml.merges", (int64_t)t->merge_count, &pool, ends);
    sgm_buffer_free(&pool);
    sgm_free(ends);
    return status;
}

static sgm_status put_whole(const sgm_tokenizer *t, sgm_gguf_writer *writer) {
    sgm_buffer json = {0};
    sgm_status status = sgm_tokenizer_print(t, &json);
    if (!status)
        sgm_gguf_put_text(writer, "tokenizer.huggingface.json", json.data);
    sgm_buffer_free(&json);
    return status;
}

sgm_status sgm_tokenizer_put_gguf(const sgm_tokenizer *t, int64_t vocabulary, sgm_gguf_writer *writer,
                                  sgm_error *error) {
    int name = name_of(t);
    if (name < 0)
        return sgm_fail(error, SGM_EUNSUPPORTED,
                        "patterns with a name are those of GPT-2, Qwen, Llama 3, cl100k, o200k",
                        "the tokenizer's split pattern has no name in GGUF");
    if (vocabulary < t->vocabulary)
        return sgm_fail(error, SGM_EARGUMENT, "is it another model's tokenizer?",
                        "the tokenizer has %lld tokens, the model %lld", (long long)t->vocabulary,
                        (long long)vocabulary);
    sgm_gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    sgm_gguf_put_text(writer, "tokenizer.ggml.pre", names[name].pre);
    sgm_status status = put_tokens(t, vocabulary, writer);
    if (!status)
        status = put_merges(t, writer);
    /* Without these llama.cpp assumes GPT-2's numbers. Nothing is put before a text. */
    if (t->end_of_text >= 0) {
        sgm_gguf_put_u32(writer, "tokenizer.ggml.bos_token_id", (uint32_t)t->end_of_text);
        sgm_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", (uint32_t)t->end_of_text);
        sgm_gguf_put_u32(writer, "tokenizer.ggml.padding_token_id", (uint32_t)t->end_of_text);
    }
    sgm_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", false);
    if (!status && !keys_suffice(t, name))
        status = put_whole(t, writer);
    return status ? sgm_fail(error, status, NULL, "not enough memory to write a tokenizer of %lld tokens",
                             (long long)vocabulary)
                  : SGM_OK;
}

/* ---- reading ---- */

static sgm_status damaged(sgm_error *error, const char *key, int64_t index) {
    return sgm_fail(error, SGM_EFORMAT, KINDS_HINT, "the file's tokenizer is damaged: %s[%lld]", key, (long long)index);
}

/* The longest text of a list, so that one buffer serves all; -1: one is missing. */
static int64_t longest_of(const sgm_gguf *file, const char *key, int64_t count) {
    size_t longest = 0, size;
    const char *text;
    for (int64_t i = 0; i < count; i++) {
        if (!sgm_gguf_array_text(file, key, i, &text, &size))
            return -1;
        longest = size > longest ? size : longest;
    }
    return (int64_t)longest;
}

static sgm_status read_tokens(const sgm_gguf *file, int64_t count, sgm_tokenizer *t, char *scratch, sgm_error *error) {
    static const char key[] = "tokenizer.ggml.tokens", types[] = "tokenizer.ggml.token_type";
    sgm_status status = SGM_OK;
    for (int pass = 0; pass < 2; pass++) { /* the vocabulary, then what is added to it */
        for (int64_t id = 0; !status && id < count; id++) {
            const char *text;
            size_t size, bytes;
            int64_t type = NORMAL;
            sgm_gguf_array_int(file, types, id, &type);
            if (!sgm_gguf_array_text(file, key, id, &text, &size))
                return damaged(error, key, id);
            bool added = type == CONTROL || type == USER_DEFINED;
            if (type == UNUSED || added != (pass == 1))
                continue;
            if (added && !size)
                return damaged(error, key, id);
            if (added)
                status = sgm_tokenizer_put_added(
                    t, &(sgm_added_token){.id = (int32_t)id, .special = type == CONTROL, .text = text, .size = size},
                    error);
            else if (sgm_alphabet_to_bytes(text, size, scratch, &bytes))
                status = sgm_tokenizer_put(t, (int32_t)id, scratch, bytes, SGM_TOKEN_MODEL, error);
            else
                status = sgm_tokenizer_put(t, (int32_t)id, text, size, SGM_TOKEN_MODEL | SGM_TOKEN_LITERAL, error);
        }
        if (!status && pass == 0)
            status = sgm_tokenizer_index(t, error);
    }
    return status;
}

static sgm_status read_merges(const sgm_gguf *file, int64_t count, sgm_tokenizer *t, char *scratch, sgm_error *error) {
    static const char key[] = "tokenizer.ggml.merges";
    for (int64_t i = 0; i < count; i++) {
        const char *text;
        size_t size, a = 0, b = 0;
        sgm_merge merge = {-1, -1, -1};
        if (!sgm_gguf_array_text(file, key, i, &text, &size))
            return damaged(error, key, i);
        const char *space = size ? memchr(text, ' ', size) : NULL;
        if (space && sgm_alphabet_to_bytes(text, (size_t)(space - text), scratch, &a) &&
            sgm_alphabet_to_bytes(space + 1, size - (size_t)(space + 1 - text), scratch + a, &b) && a && b)
            merge = (sgm_merge){sgm_tokenizer_word(t, scratch, a), sgm_tokenizer_word(t, scratch + a, b),
                                sgm_tokenizer_word(t, scratch, a + b)};
        if (merge.left < 0 || merge.right < 0 || merge.result < 0)
            return damaged(error, key, i);
        sgm_pair_table_set(&t->pairs, merge, (uint32_t)i);
        t->merges[t->merge_count++] = merge;
    }
    return SGM_OK;
}

static sgm_status read_keys(const sgm_gguf *file, int name, sgm_tokenizer **tokenizer, sgm_error *error) {
    int64_t tokens = 0, merges = 0, types = 0, kept = 0;
    if (!sgm_gguf_array_length(file, "tokenizer.ggml.tokens", &tokens))
        return damaged(error, "tokenizer.ggml.tokens", 0);
    if (!sgm_gguf_array_length(file, "tokenizer.ggml.merges", &merges))
        return damaged(error, "tokenizer.ggml.merges", 0);
    if (sgm_gguf_array_length(file, "tokenizer.ggml.token_type", &types) && types != tokens)
        return damaged(error, "tokenizer.ggml.token_type", types);
    for (int64_t id = 0; id < tokens; id++) { /* padding behind the last token is the model's, not the tokenizer's */
        int64_t type = NORMAL;
        if (!sgm_gguf_array_int(file, "tokenizer.ggml.token_type", id, &type) || type != UNUSED)
            kept = id + 1;
    }
    int64_t longest_token = longest_of(file, "tokenizer.ggml.tokens", tokens);
    int64_t longest_merge = longest_of(file, "tokenizer.ggml.merges", merges);
    if (longest_token < 0 || longest_merge < 0)
        return damaged(error, longest_token < 0 ? "tokenizer.ggml.tokens" : "tokenizer.ggml.merges", 0);
    sgm_tokenizer *t;
    sgm_status status = sgm_tokenizer_new(kept, (size_t)merges, (size_t)kept, &t, error);
    if (status)
        return status;
    char *scratch = sgm_alloc((size_t)(longest_token > longest_merge ? longest_token : longest_merge) + 1);
    if (!scratch)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a tokenizer");
    t->ignore_merges = names[name].ignore_merges;
    if (!status)
        status = sgm_tokenizer_use_pattern(t, names[name].pattern, error);
    if (!status)
        status = read_tokens(file, kept, t, scratch, error);
    if (!status)
        status = read_merges(file, merges, t, scratch, error);
    if (!status)
        status = sgm_tokenizer_finish(t, error);
    sgm_free(scratch);
    if (status) {
        sgm_tokenizer_close(t);
        return status;
    }
    *tokenizer = t;
    return SGM_OK;
}

static bool is(const char *text, size_t size, const char *word) {
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

sgm_status sgm_tokenizer_from_gguf(const sgm_gguf *file, sgm_tokenizer **tokenizer, sgm_error *error) {
    *tokenizer = NULL;
    const char *kind, *text;
    size_t kind_size, size;
    sgm_status status;
    if (!sgm_gguf_get_text(file, "tokenizer.ggml.model", &kind, &kind_size))
        return sgm_fail(error, SGM_ENOTFOUND, KINDS_HINT, "the file has no tokenizer");
    if (sgm_gguf_get_text(file, "tokenizer.huggingface.json", &text, &size)) {
        status = sgm_tokenizer_parse(text, size, tokenizer, error);
    } else {
        if (!is(kind, kind_size, "gpt2"))
            return sgm_fail(error, SGM_EUNSUPPORTED, KINDS_HINT,
                            "the file's tokenizer is of kind '%.*s'; byte-level BPE ('gpt2') is supported",
                            (int)(kind_size > 40 ? 40 : kind_size), kind);
        if (!sgm_gguf_get_text(file, "tokenizer.ggml.pre", &text, &size))
            text = "(none)", size = 6;
        int name = 0;
        while (name < NAMES && !is(text, size, names[name].pre))
            name++;
        if (name == NAMES)
            return sgm_fail(error, SGM_EUNSUPPORTED, KINDS_HINT,
                            "the file's tokenizer splits text by '%.*s', which is not known here",
                            (int)(size > 40 ? 40 : size), text);
        status = read_keys(file, name, tokenizer, error);
    }
    /* As with tokenizer_config.json: the file's own end counts where the tokenizer has none of the usual names. */
    int64_t end;
    if (!status && (*tokenizer)->end_of_text < 0 && sgm_gguf_get_int(file, "tokenizer.ggml.eos_token_id", &end) &&
        end >= 0 && end < (*tokenizer)->vocabulary)
        (*tokenizer)->end_of_text = (int32_t)end;
    return status;
}
