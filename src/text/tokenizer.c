// SPDX-License-Identifier: Apache-2.0
/* The tokenizer: building it, encoding, decoding, looking tokens up. */
#include "text/tokenizer.h"

#include <string.h>

#include "text/character_class.h"

#define LARGEST_ID ((int64_t)1 << 24)

sgm_status sgm_tokenizer_new(int64_t vocabulary, size_t merges, size_t added, sgm_tokenizer **tokenizer,
                             sgm_error *error) {
    *tokenizer = NULL;
    if (vocabulary < 256 || vocabulary > LARGEST_ID)
        return sgm_fail(error, SGM_EFORMAT, NULL, "a vocabulary of %lld tokens (256 to %lld are possible)",
                        (long long)vocabulary, (long long)LARGEST_ID);
    sgm_tokenizer *t = sgm_alloc(sizeof *t);
    if (t) {
        t->vocabulary = vocabulary;
        t->end_of_text = -1;
        t->tokens = sgm_alloc((size_t)vocabulary * sizeof *t->tokens);
        t->merges = sgm_alloc((merges + 1) * sizeof *t->merges);
        t->added = sgm_alloc((added + 1) * sizeof *t->added);
    }
    if (!t || !t->tokens || !t->merges || !t->added || sgm_pair_table_init(&t->pairs, merges)) {
        sgm_tokenizer_close(t);
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a tokenizer of %lld tokens",
                        (long long)vocabulary);
    }
    *tokenizer = t;
    return SGM_OK;
}

void sgm_tokenizer_close(sgm_tokenizer *t) {
    if (!t)
        return;
    if (t->added)
        sgm_added_fini(t);
    for (size_t i = 0; i < t->step_count; i++)
        sgm_pattern_free(t->steps[i].pattern);
    void *blocks[] = {t->pool,       t->tokens,        t->words.slots,    t->merges,  t->pairs.slots,
                      t->normalizer, t->pre_tokenizer, t->post_processor, t->decoder, t->config};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        sgm_free(blocks[i]);
    sgm_free(t);
}

static sgm_status pool_add(sgm_tokenizer *t, const char *bytes, size_t size, size_t *offset, sgm_error *error) {
    if (t->pool_capacity - t->pool_size < size + 1) {
        size_t capacity = t->pool_capacity ? t->pool_capacity : 4096;
        while (capacity - t->pool_size < size + 1)
            capacity *= 2;
        char *pool = sgm_resize(t->pool, t->pool_size, capacity);
        if (!pool)
            return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a tokenizer's vocabulary");
        t->pool = pool;
        t->pool_capacity = capacity;
    }
    *offset = t->pool_size;
    memcpy(t->pool + t->pool_size, bytes, size);
    t->pool_size += size + 1; /* a NUL between tokens: strings are easier on debuggers */
    return SGM_OK;
}

sgm_status sgm_tokenizer_put(sgm_tokenizer *t, int32_t id, const char *bytes, size_t size, uint32_t flags,
                             sgm_error *error) {
    sgm_token *token = &t->tokens[id];
    if (token->flags & SGM_TOKEN_USED)
        return sgm_fail(error, SGM_EFORMAT, NULL, "two tokens have the id %d", id);
    if (size > UINT32_MAX)
        return sgm_fail(error, SGM_EFORMAT, NULL, "token %d is %zu bytes long", id, size);
    token->size = (uint32_t)size;
    token->flags = flags | SGM_TOKEN_USED;
    return pool_add(t, bytes, size, &token->offset, error);
}

sgm_status sgm_tokenizer_put_added(sgm_tokenizer *t, const sgm_added_token *given, sgm_error *error) {
    sgm_token *token = &t->tokens[given->id];
    sgm_added_token *added = &t->added[t->added_count];
    *added = *given;
    added->match = NULL;
    char *text = sgm_alloc(given->size + 1);
    if (!text)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for an added token");
    memcpy(text, given->text, given->size);
    added->text = text;
    t->added_count++;
    uint32_t flags = SGM_TOKEN_ADDED | (given->special ? SGM_TOKEN_SPECIAL : 0u);
    if (!(token->flags & SGM_TOKEN_USED))
        return sgm_tokenizer_put(t, given->id, text, given->size, flags, error);
    /* It stands in the vocabulary too. Decoding takes its text as it is. */
    if (token->flags & SGM_TOKEN_ADDED)
        return sgm_fail(error, SGM_EFORMAT, NULL, "two added tokens have the id %d", given->id);
    added->in_model = true;
    token->flags |= flags;
    return SGM_OK;
}

static sgm_status find_bytes(sgm_tokenizer *t, sgm_error *error) {
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        t->byte_ids[byte] = sgm_tokenizer_word(t, &c, 1);
        if (t->byte_ids[byte] < 0)
            return sgm_fail(error, SGM_EFORMAT, "only byte-level BPE with all 256 bytes is supported",
                            "the vocabulary has no token for byte 0x%02X", byte);
    }
    return SGM_OK;
}

/* Which tokens a word of just their bytes becomes: all of them with ignore_merges, else those the merges arrive at. */
static sgm_status find_whole(sgm_tokenizer *t, sgm_error *error) {
    sgm_bpe *bpe = NULL;
    size_t longest = 1;
    for (int64_t id = 0; id < t->vocabulary; id++)
        if (t->tokens[id].size > longest)
            longest = t->tokens[id].size;
    int32_t *ids = sgm_alloc(longest * sizeof *ids);
    sgm_status status = ids ? sgm_bpe_new(t, 0, &bpe) : SGM_EMEMORY;
    for (int64_t id = 0; !status && id < t->vocabulary; id++) {
        sgm_token *token = &t->tokens[id];
        if (!(token->flags & SGM_TOKEN_MODEL) || (token->flags & SGM_TOKEN_LITERAL) || !token->size)
            continue;
        size_t count = 1;
        ids[0] = (int32_t)id;
        if (!t->ignore_merges)
            status = sgm_bpe_merge(bpe, t->pool + token->offset, token->size, ids, &count);
        if (!status && count == 1 && ids[0] == id)
            token->flags |= SGM_TOKEN_WHOLE;
    }
    sgm_bpe_free(bpe);
    sgm_free(ids);
    return status ? sgm_fail(error, status, NULL, "could not index the vocabulary") : SGM_OK;
}

static void find_end_of_text(sgm_tokenizer *t) {
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "<|end▁of▁sentence|>",
                                        "</s>",          "<eos>",           "[EOS]"};
    for (size_t i = 0; t->end_of_text < 0 && i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < t->added_count; k++)
            if (t->added[k].size == strlen(names[i]) && !memcmp(t->added[k].text, names[i], t->added[k].size))
                t->end_of_text = t->added[k].id;
}

sgm_status sgm_tokenizer_finish(sgm_tokenizer *t, sgm_error *error) {
    sgm_status status = find_bytes(t, error);
    if (!status)
        status = find_whole(t, error);
    if (!status)
        status = sgm_added_index(t, error);
    find_end_of_text(t);
    return status;
}

sgm_status sgm_tokenizer_use_pattern(sgm_tokenizer *t, const char *name, sgm_error *error) {
    const sgm_known_pattern *known = sgm_known_pattern_named(name);
    if (!known)
        return sgm_fail(error, SGM_EARGUMENT, "known patterns: gpt2 (r50k), qwen, llama3, cl100k, o200k",
                        "unknown split pattern '%s'", name);
    t->step_count = 1;
    t->steps[0] = (sgm_split_step){.known = known->next};
    if (!strcmp(name, "gpt2")) {
        t->pre_tokenizer = sgm_strdup("{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
                                      "\"use_regex\":true}");
    } else {
        sgm_buffer escaped = {0};
        sgm_status status = SGM_OK;
        for (const char *c = known->regex; !status && *c; c++)
            status = *c == '\\' || *c == '"' ? sgm_buffer_print(&escaped, "\\%c", *c) : sgm_buffer_add(&escaped, c, 1);
        if (!status)
            t->pre_tokenizer = sgm_format(
                "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                "\"trim_offsets\":true,\"use_regex\":false}]}",
                escaped.data);
        sgm_buffer_free(&escaped);
    }
    static const char byte_level[] =
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}";
    t->post_processor = sgm_strdup(byte_level);
    t->decoder = sgm_strdup(byte_level);
    if (!t->pre_tokenizer || !t->post_processor || !t->decoder)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a split pattern");
    return SGM_OK;
}

sgm_status sgm_tokenizer_bytes(sgm_tokenizer **tokenizer, sgm_error *error) {
    sgm_tokenizer *t;
    sgm_status status = sgm_tokenizer_new(257, 0, 1, &t, error);
    for (int byte = 0; !status && byte < 256; byte++) {
        char c = (char)byte;
        status = sgm_tokenizer_put(t, byte, &c, 1, SGM_TOKEN_MODEL, error);
    }
    if (!status)
        status = sgm_tokenizer_put_added(
            t, &(sgm_added_token){.id = 256, .special = true, .text = "<|endoftext|>", .size = 13}, error);
    if (!status)
        status = sgm_tokenizer_use_pattern(t, "gpt2", error);
    if (!status)
        status = sgm_tokenizer_index(t, error);
    if (!status)
        status = sgm_tokenizer_finish(t, error);
    if (status) {
        sgm_tokenizer_close(t);
        t = NULL;
    }
    *tokenizer = t;
    return status;
}

/* ---- looking up ---- */

int64_t sgm_tokenizer_vocabulary(const sgm_tokenizer *t) {
    return t->vocabulary;
}

int32_t sgm_tokenizer_end_of_text(const sgm_tokenizer *t) {
    return t->end_of_text;
}

int32_t sgm_tokenizer_find(const sgm_tokenizer *t, const char *text, size_t size) {
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].size == size && !memcmp(t->added[i].text, text, size))
            return t->added[i].id;
    return size ? sgm_tokenizer_word(t, text, size) : -1;
}

static bool used(const sgm_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocabulary && (t->tokens[id].flags & SGM_TOKEN_USED);
}

const char *sgm_tokenizer_bytes_of(const sgm_tokenizer *t, int32_t id, size_t *size) {
    if (!used(t, id)) {
        *size = 0;
        return NULL;
    }
    *size = t->tokens[id].size;
    return t->pool + t->tokens[id].offset;
}

bool sgm_tokenizer_is_special(const sgm_tokenizer *t, int32_t id) {
    return used(t, id) && (t->tokens[id].flags & SGM_TOKEN_SPECIAL);
}

/* ---- encoding ---- */

typedef struct encoding {
    const sgm_tokenizer *tokenizer;
    sgm_bpe *bpe;
    sgm_splitter splitter;
    sgm_id_sink sink;
    sgm_buffer normal;
    bool specials;
    sgm_error *error;
} encoding;

static sgm_status take_word(void *context, const char *bytes, size_t size) {
    encoding *e = context;
    sgm_status status = sgm_bpe_word(e->bpe, bytes, size, &e->sink);
    if (status == SGM_EUNSUPPORTED)
        return sgm_fail(e->error, SGM_EUNSUPPORTED, "split the text", "a single word of %zu bytes", size);
    return status ? sgm_fail(e->error, status, NULL, "not enough memory to encode a word of %zu bytes", size) : SGM_OK;
}

static void take_added(encoding *e, const sgm_added_token *token) {
    if (e->sink.count < e->sink.capacity)
        e->sink.ids[e->sink.count] = token->id;
    e->sink.count++;
}

typedef sgm_status (*between)(encoding *e, const char *text, size_t size);

/* Added tokens of `set` become ids; `rest` gets the text between them. */
static sgm_status cut(encoding *e, const sgm_added_set *set, const char *text, size_t size, between rest) {
    size_t done = 0, start, end;
    const sgm_added_token *token;
    sgm_status status;
    while (e->specials && (token = sgm_added_next(set, text, size, done, done, &start, &end)) != NULL) {
        if (start > done && (status = rest(e, text + done, start - done)) != SGM_OK)
            return status;
        take_added(e, token);
        done = end;
    }
    return done < size ? rest(e, text + done, size - done) : SGM_OK;
}

static sgm_status split_plain(encoding *e, const char *text, size_t size) {
    return sgm_splitter_run(&e->splitter, text, size);
}

static sgm_status normalize(encoding *e, const char *text, size_t size) {
    if (e->tokenizer->nfc && sgm_nfc_needed(text, size)) {
        e->normal.size = 0;
        sgm_status status = sgm_nfc(text, size, &e->normal);
        if (status)
            return sgm_fail(e->error, status, NULL, "not enough memory to normalise %zu bytes of text", size);
        text = e->normal.data;
        size = e->normal.size;
    }
    return cut(e, &e->tokenizer->normalized_set, text, size, split_plain);
}

sgm_status sgm_tokenizer_encode(const sgm_tokenizer *t, const char *text, size_t size, bool specials, int32_t *ids,
                                size_t capacity, size_t *count, sgm_error *error) {
    *count = 0;
    encoding e = {.tokenizer = t, .specials = specials, .error = error, .sink = {ids, capacity, 0}};
    e.splitter = (sgm_splitter){
        .steps = t->steps, .step_count = t->step_count, .word = take_word, .context = &e, .error = error};
    sgm_status status = sgm_bpe_new(t, size, &e.bpe);
    if (status)
        return sgm_fail(error, status, NULL, "not enough memory to encode %zu bytes of text", size);
    status = cut(&e, &t->plain_set, text, size, normalize);
    sgm_bpe_free(e.bpe);
    sgm_splitter_fini(&e.splitter);
    sgm_buffer_free(&e.normal);
    if (status)
        return status;
    *count = e.sink.count;
    if (e.sink.count > capacity)
        return sgm_fail(error, SGM_ESPACE, NULL, "the text is %zu tokens long, there is room for %zu", e.sink.count,
                        capacity);
    return SGM_OK;
}

sgm_status sgm_tokenizer_decode(const sgm_tokenizer *t, const int32_t *ids, size_t count, bool specials, char **text,
                                size_t *size, sgm_error *error) {
    *text = NULL;
    *size = 0;
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (!used(t, ids[i]))
            return sgm_fail(error, SGM_EARGUMENT, "do the ids come from another tokenizer?",
                            "id %d at position %zu is no token (ids go up to %lld)", ids[i], i,
                            (long long)t->vocabulary - 1);
        if (specials || !sgm_tokenizer_is_special(t, ids[i]))
            total += t->tokens[ids[i]].size;
    }
    char *out = sgm_alloc(total + 1);
    if (!out)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to decode %zu tokens", count);
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        if (specials || !sgm_tokenizer_is_special(t, ids[i])) {
            const sgm_token *token = &t->tokens[ids[i]];
            memcpy(out + at, t->pool + token->offset, token->size);
            at += token->size;
        }
    *text = out;
    *size = total;
    return SGM_OK;
}
