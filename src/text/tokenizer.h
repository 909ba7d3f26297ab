// SPDX-License-Identifier: Apache-2.0
/* What the files of src/text share: the tokenizer itself, its tables, and the steps of encoding.
 *
 * Text goes through: added tokens (as they stand) -> normalisation -> added tokens (normalised) -> runs of valid UTF-8
 * -> split steps -> words -> byte pair merges. A tokenizer is built once and never changes; all scratch memory of an
 * encoding belongs to the call. */
#ifndef SGM_TEXT_TOKENIZER_H
#define SGM_TEXT_TOKENIZER_H

#include "base/memory.h"
#include "sigmoe/text.h"

/* ---- tables (text_table.c) ---- */

enum {
    SGM_TOKEN_USED = 1,
    SGM_TOKEN_MODEL = 2, /* stands in the model's vocabulary */
    SGM_TOKEN_ADDED = 4,
    SGM_TOKEN_SPECIAL = 8, /* an added token that decoding may leave out */
    SGM_TOKEN_WHOLE = 16,  /* a word of exactly these bytes becomes this token */
    SGM_TOKEN_LITERAL = 32 /* in the vocabulary, but not spelt in the byte alphabet: stands for its own text */
};
typedef struct sgm_token {
    size_t offset; /* of its bytes in the pool */
    uint32_t size;
    uint32_t flags;
} sgm_token;

typedef struct sgm_merge {
    int32_t left, right, result;
} sgm_merge;

/* Pair -> merge, by open addressing; rank UINT32_MAX marks an empty slot. */
typedef struct sgm_pair_slot {
    int32_t left, right;
    uint32_t rank;
    int32_t result;
} sgm_pair_slot;
typedef struct sgm_pair_table {
    sgm_pair_slot *slots;
    size_t mask, used;
} sgm_pair_table;

/* Bytes -> token id, by open addressing; id -1 marks an empty slot. */
typedef struct sgm_word_slot {
    uint32_t tag; /* upper half of the hash */
    int32_t id;
} sgm_word_slot;
typedef struct sgm_word_table {
    sgm_word_slot *slots;
    size_t mask;
} sgm_word_table;

uint64_t sgm_text_hash(const char *bytes, size_t size);

static inline size_t sgm_pair_home(int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(key >> 32 ^ key >> 7);
}
sgm_status sgm_pair_table_init(sgm_pair_table *table, size_t pairs);
void sgm_pair_table_set(sgm_pair_table *table, sgm_merge merge, uint32_t rank); /* within the announced number */

static inline const sgm_pair_slot *sgm_pair_find(const sgm_pair_table *table, int32_t left, int32_t right) {
    for (size_t i = sgm_pair_home(left, right);; i++) {
        const sgm_pair_slot *slot = &table->slots[i & table->mask];
        if ((slot->left == left && slot->right == right) || slot->rank == UINT32_MAX)
            return slot; /* an empty slot's rank says "never" */
    }
}

/* ---- added tokens (added_tokens.c) ---- */

typedef struct sgm_added_token {
    int32_t id;
    bool special, left_strip, right_strip, single_word, normalized;
    bool in_model;    /* also written into the model's vocabulary */
    const char *text; /* as given; pool of the tokenizer */
    size_t size;
    char *match; /* what is looked for (normalised where it asks for that); heap */
    size_t match_size;
} sgm_added_token;

/* Tokens sorted by `match`, so that the longest one at a place is found by narrowing a range byte by byte. */
typedef struct sgm_added_set {
    const sgm_added_token **sorted;
    size_t count;
    bool first[256];
} sgm_added_set;

/* ---- split steps (pretokenize.c, pattern.c, split_known.c) ---- */

typedef enum sgm_split_behavior {
    SGM_SPLIT_ISOLATED,
    SGM_SPLIT_REMOVED,
    SGM_SPLIT_WITH_PREVIOUS,
    SGM_SPLIT_WITH_NEXT,
    SGM_SPLIT_CONTIGUOUS
} sgm_split_behavior;

/* Hand-written matchers for the patterns everybody uses: the end of the piece that begins at `start` (they cover every
 * character, so pieces follow each other without gaps). `text` is valid UTF-8. */
typedef size_t (*sgm_split_function)(const char *text, size_t size, size_t start);
typedef struct sgm_known_pattern {
    const char *name;
    const char *regex;
    sgm_split_function next;
} sgm_known_pattern;
extern const sgm_known_pattern sgm_known_patterns[];
extern const size_t sgm_known_pattern_count;
const sgm_known_pattern *sgm_known_pattern_named(const char *name);

/* A compiled regular expression (PCRE2) and one caller's state for matching it. */
typedef struct sgm_pattern sgm_pattern;
typedef struct sgm_pattern_state sgm_pattern_state;
/* `regex` in the dialect of tokenizer.json (Oniguruma, Ruby syntax), `literal`: a plain string instead. */
sgm_status sgm_pattern_new(const char *regex, size_t size, bool literal, sgm_pattern **pattern, sgm_error *error);
void sgm_pattern_free(sgm_pattern *pattern);
sgm_status sgm_pattern_state_new(const sgm_pattern *pattern, sgm_pattern_state **state, sgm_error *error);
void sgm_pattern_state_free(sgm_pattern_state *state);
/* The first match that begins at or after `start`; *found false when there is none. */
sgm_status sgm_pattern_find(sgm_pattern_state *state, const char *text, size_t size, size_t start, bool *found,
                            size_t *match_start, size_t *match_end, sgm_error *error);

typedef struct sgm_split_step {
    sgm_split_function known; /* NULL: `pattern`; both NULL: no split (a ByteLevel step without its pattern) */
    sgm_pattern *pattern;
    sgm_split_behavior behavior;
    bool invert;
    bool prefix_space; /* put a space before a piece that has none (ByteLevel) */
} sgm_split_step;
#define SGM_SPLIT_STEPS 16

typedef struct sgm_splitter { /* one caller's walk */
    const sgm_split_step *steps;
    size_t step_count;
    sgm_status (*word)(void *context, const char *bytes, size_t size);
    void *context;
    sgm_error *error;
    sgm_pattern_state *states[SGM_SPLIT_STEPS];
    sgm_buffer spaced;
    bool at_start; /* the run at hand begins its piece */
} sgm_splitter;
/* Cut `text` (any bytes) into words. Bytes that are not UTF-8 are words of their own. */
sgm_status sgm_splitter_run(sgm_splitter *splitter, const char *text, size_t size);
void sgm_splitter_fini(sgm_splitter *splitter);

/* ---- the tokenizer ---- */

struct sgm_tokenizer {
    int64_t vocabulary; /* largest id + 1 */
    char *pool;
    size_t pool_size, pool_capacity;
    sgm_token *tokens;
    sgm_word_table words;
    sgm_merge *merges; /* by rank */
    size_t merge_count;
    sgm_pair_table pairs;
    int32_t byte_ids[256];
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
    bool nfc;
    sgm_split_step steps[SGM_SPLIT_STEPS];
    size_t step_count;
    sgm_added_token *added;
    size_t added_count;
    sgm_added_set plain_set, normalized_set;
    int32_t end_of_text;
    /* As they stood in the file (JSON), for saving; NULL: null, or left to us. */
    char *normalizer, *pre_tokenizer, *post_processor, *decoder, *config;
};

/* Building (tokenizer.c): new, tokens and merges in any order, then finish. */
sgm_status sgm_tokenizer_new(int64_t vocabulary, size_t merges, size_t added, sgm_tokenizer **tokenizer,
                             sgm_error *error);
/* One token of the model's vocabulary. */
sgm_status sgm_tokenizer_put(sgm_tokenizer *tokenizer, int32_t id, const char *bytes, size_t size, uint32_t flags,
                             sgm_error *error);
sgm_status sgm_tokenizer_put_added(sgm_tokenizer *tokenizer, const sgm_added_token *token, sgm_error *error);
/* Word table; call when all tokens of the vocabulary are there, before anything looks one up. */
sgm_status sgm_tokenizer_index(sgm_tokenizer *tokenizer, sgm_error *error);
sgm_status sgm_tokenizer_finish(sgm_tokenizer *tokenizer, sgm_error *error);
/* Id of the model token of exactly these bytes, or -1. */
int32_t sgm_tokenizer_word(const sgm_tokenizer *tokenizer, const char *bytes, size_t size);
/* The split steps of a known pattern by name ("gpt2", "qwen", "cl100k", "o200k"), and their JSON. */
sgm_status sgm_tokenizer_use_pattern(sgm_tokenizer *tokenizer, const char *name, sgm_error *error);

/* tokenizer.json, appended to `out`. Fails for lack of memory only. */
sgm_status sgm_tokenizer_print(const sgm_tokenizer *tokenizer, sgm_buffer *out);

sgm_status sgm_added_index(sgm_tokenizer *tokenizer, sgm_error *error);
void sgm_added_fini(sgm_tokenizer *tokenizer);
/* The next added token of `set` at or after `from`: *start, *end are what it takes from the text (strips included).
 * NULL when there is none. `floor`: text before it is spent. */
const sgm_added_token *sgm_added_next(const sgm_added_set *set, const char *text, size_t size, size_t from,
                                      size_t floor, size_t *start, size_t *end);

/* Normal form C of any bytes (what is not UTF-8 stays), appended to `out`. */
bool sgm_nfc_needed(const char *text, size_t size); /* false: certainly normal already */
sgm_status sgm_nfc(const char *text, size_t size, sgm_buffer *out);

/* ---- words to ids (bpe_encode.c) ---- */

typedef struct sgm_bpe sgm_bpe; /* scratch of one call */
typedef struct sgm_id_sink {
    int32_t *ids;
    size_t capacity, count; /* count goes on beyond capacity */
} sgm_id_sink;
sgm_status sgm_bpe_new(const sgm_tokenizer *tokenizer, size_t text_size, sgm_bpe **bpe);
void sgm_bpe_free(sgm_bpe *bpe);
sgm_status sgm_bpe_word(sgm_bpe *bpe, const char *bytes, size_t size, sgm_id_sink *sink);
/* The merges alone, without looking for a whole token: n bytes (n >= 1) to ids; `ids` has room for n. */
sgm_status sgm_bpe_merge(sgm_bpe *bpe, const char *bytes, size_t size, int32_t *ids, size_t *count);

/* ---- the byte alphabet of byte-level BPE (byte_alphabet.c) ---- */

uint32_t sgm_alphabet_character(unsigned char byte);
/* Token spelt in the alphabet -> bytes (at most `size`); false when a character does not belong to it. */
bool sgm_alphabet_to_bytes(const char *text, size_t size, char *bytes, size_t *count);
sgm_status sgm_alphabet_from_bytes(const char *bytes, size_t size, sgm_buffer *out);

#endif
