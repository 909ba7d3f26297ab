// SPDX-License-Identifier: Apache-2.0
/* Rank files of tiktoken: a line is base64 of the token's bytes, a space, its rank (which is its id).
 *
 * tiktoken merges the neighbours whose joined bytes have the lowest rank. That is ordinary BPE with one merge a token:
 * the two parts that the tokens of lower rank make of its bytes. A token they leave in more parts is never merged to,
 * but is still used for a word that is exactly it, which is what ignore_merges means. */
#include <string.h>

#include "base/file.h"
#include "text/tokenizer.h"

#define LARGEST_FILE ((size_t)256 << 20)

typedef struct encoding_name {
    const char *name, *pattern;
    struct {
        const char *text;
        int32_t id;
    } specials[10];
} encoding_name;

static const encoding_name encodings[] = {
    {"r50k", "gpt2", {{"<|endoftext|>", 50256}}},
    {"p50k", "gpt2", {{"<|endoftext|>", 50256}}},
    {"cl100k",
     "cl100k",
     {{"<|endoftext|>", 100257},
      {"<|fim_prefix|>", 100258},
      {"<|fim_middle|>", 100259},
      {"<|fim_suffix|>", 100260},
      {"<|endofprompt|>", 100276}}},
    {"o200k", "o200k", {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
};

static int digit_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* base64 of `n` characters into `out` (3/4 n bytes at most). */
static bool decode64(const char *s, size_t n, char *out, size_t *size) {
    if (!n || n % 4)
        return false;
    size_t pad = s[n - 1] == '=' ? (s[n - 2] == '=' ? 2 : 1) : 0, k = 0;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int digit = i + j >= n - pad ? 0 : digit_of(s[i + j]);
            if (digit < 0)
                return false;
            bits = bits << 6 | (uint32_t)digit;
        }
        for (size_t j = 0; j < 3; j++)
            out[k++] = (char)(bits >> (16 - 8 * j));
    }
    *size = k - pad;
    return true;
}

typedef struct line {
    const char *base64;
    size_t size;
    int32_t rank;
} line;

static bool parse_line(const char *s, const char *end, line *out) {
    const char *space = memchr(s, ' ', (size_t)(end - s));
    if (!space || end - space < 2 || end - space > 9)
        return false;
    int32_t rank = 0;
    for (const char *c = space + 1; c < end; c++) {
        if (*c < '0' || *c > '9')
            return false;
        rank = rank * 10 + (*c - '0');
    }
    *out = (line){s, (size_t)(space - s), rank};
    return true;
}

/* Calls `each` for every line; *largest gets the largest rank, *count the number of lines. */
static sgm_status walk(const char *data, size_t size, sgm_tokenizer *t, int32_t *largest, size_t *count,
                       sgm_error *error) {
    char *bytes = t ? sgm_alloc(size + 4) : NULL;
    if (t && !bytes)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to read a rank file");
    sgm_status status = SGM_OK;
    size_t number = 0;
    *largest = -1;
    *count = 0;
    for (const char *s = data, *all = data + size; !status && s < all;) {
        const char *newline = memchr(s, '\n', (size_t)(all - s)), *next = newline ? newline + 1 : all;
        const char *end = newline ? newline : all;
        number++;
        if (end > s && end[-1] == '\r')
            end--;
        const bool blank = end == s;
        line l;
        size_t n;
        if (!blank && !parse_line(s, end, &l)) {
            status = sgm_fail(error, SGM_EFORMAT, "a line is: base64, one space, a rank",
                              "rank file, line %zu is damaged", number);
        } else if (!blank) {
            if (l.rank > *largest)
                *largest = l.rank;
            ++*count;
            if (t && (!decode64(l.base64, l.size, bytes, &n) || !n))
                status = sgm_fail(error, SGM_EFORMAT, NULL, "rank file, line %zu: not base64", number);
            else if (t)
                status = sgm_tokenizer_put(t, l.rank, bytes, n, SGM_TOKEN_MODEL, error);
        }
        s = next;
    }
    sgm_free(bytes);
    return status;
}

static sgm_status derive_merges(sgm_tokenizer *t, sgm_error *error) {
    sgm_bpe *bpe;
    sgm_status status = sgm_bpe_new(t, 0, &bpe);
    if (status)
        return sgm_fail(error, status, NULL, "not enough memory for merges");
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        if ((t->byte_ids[byte] = sgm_tokenizer_word(t, &c, 1)) < 0)
            status = sgm_fail(error, SGM_EFORMAT, NULL, "the rank file has no token for byte 0x%02X", byte);
    }
    int32_t *ids = NULL;
    size_t room = 0, count;
    for (int64_t id = 0; !status && id < t->vocabulary; id++) {
        const sgm_token *token = &t->tokens[id];
        if (!(token->flags & SGM_TOKEN_MODEL) || token->size < 2)
            continue;
        if (token->size > room) {
            sgm_free(ids);
            room = token->size * (size_t)2;
            ids = sgm_alloc(room * sizeof *ids);
            if (!ids)
                status = SGM_EMEMORY;
        }
        if (!status)
            status = sgm_bpe_merge(bpe, t->pool + token->offset, token->size, ids, &count);
        if (status) {
            status = sgm_fail(error, status, NULL, "not enough memory for merges");
        } else if (count == 2) {
            sgm_merge merge = {ids[0], ids[1], (int32_t)id};
            sgm_pair_table_set(&t->pairs, merge, (uint32_t)t->merge_count);
            t->merges[t->merge_count++] = merge;
        }
    }
    sgm_free(ids);
    sgm_bpe_free(bpe);
    return status;
}

static sgm_status build(const encoding_name *encoding, const char *data, size_t size, sgm_tokenizer **tokenizer,
                        sgm_error *error) {
    int32_t largest;
    size_t count, specials = 0;
    sgm_status status = walk(data, size, NULL, &largest, &count, error);
    if (status)
        return status;
    if ((size_t)largest > count * 2 + 4096)
        return sgm_fail(error, SGM_EFORMAT, NULL, "rank file: %zu tokens, but a rank of %d", count, largest);
    int64_t vocabulary = (int64_t)largest + 1;
    for (; specials < 10 && encoding->specials[specials].text; specials++)
        if (encoding->specials[specials].id >= vocabulary)
            vocabulary = (int64_t)encoding->specials[specials].id + 1;
    sgm_tokenizer *t;
    status = sgm_tokenizer_new(vocabulary, count, specials, &t, error);
    if (status)
        return status;
    t->ignore_merges = true;
    status = walk(data, size, t, &largest, &count, error);
    for (size_t i = 0; !status && i < specials; i++) {
        const char *text = encoding->specials[i].text;
        int32_t id = encoding->specials[i].id;
        if (t->tokens[id].flags & SGM_TOKEN_USED)
            status = sgm_fail(error, SGM_EFORMAT, "is it the rank file of another encoding?",
                              "rank file: id %d is used, but belongs to %s in %s", id, text, encoding->name);
        else
            status = sgm_tokenizer_put_added(
                t, &(sgm_added_token){.id = id, .special = true, .text = text, .size = strlen(text)}, error);
    }
    if (!status)
        status = sgm_tokenizer_use_pattern(t, encoding->pattern, error);
    if (!status)
        status = sgm_tokenizer_index(t, error);
    if (!status)
        status = derive_merges(t, error);
    if (!status)
        status = sgm_tokenizer_finish(t, error);
    if (status) {
        sgm_tokenizer_close(t);
        return status;
    }
    *tokenizer = t;
    return SGM_OK;
}

sgm_status sgm_tokenizer_open_tiktoken(const char *path, const char *pattern, sgm_tokenizer **tokenizer,
                                       sgm_error *error) {
    *tokenizer = NULL;
    const encoding_name *encoding = NULL;
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++)
        if (!strcmp(encodings[i].name, pattern))
            encoding = &encodings[i];
    if (!encoding)
        return sgm_fail(error, SGM_EARGUMENT, "known encodings: r50k, p50k, cl100k, o200k", "unknown encoding '%s'",
                        pattern);
    char *data;
    size_t size;
    sgm_status status = sgm_file_read(path, LARGEST_FILE, &data, &size, error);
    if (status)
        return status;
    status = build(encoding, data, size, tokenizer, error);
    sgm_free(data);
    return status;
}
