// SPDX-License-Identifier: Apache-2.0
/* Byte-level BPE tokenizers: train, load, save, encode, decode.
 *
 * Any bytes encode and decode back to themselves (where the tokenizer normalises, to the normalised text): bytes that are
 * not UTF-8 are treated each as a character of its own. Files are Hugging Face tokenizer.json of type BPE with ByteLevel
 * decoding (Qwen3, GPT-2, o200k, and our own). A tokenizer is immutable; any number of threads may use one. */
#ifndef SIGMOE_TEXT_H
#define SIGMOE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sgm_tokenizer sgm_tokenizer;

/* `path`: a tokenizer.json, or a folder that holds one. SGM_EFORMAT says what is unsupported or damaged and where. */
sgm_status sgm_tokenizer_open(const char *path, sgm_tokenizer **tokenizer, sgm_error *error);
sgm_status sgm_tokenizer_parse(const char *json, size_t size, sgm_tokenizer **tokenizer, sgm_error *error);
/* From a .tiktoken rank file (base64 token, space, rank per line) and a split pattern name: "r50k", "cl100k", "o200k". */
sgm_status sgm_tokenizer_open_tiktoken(const char *path, const char *pattern, sgm_tokenizer **tokenizer,
                                       sgm_error *error);
void sgm_tokenizer_close(sgm_tokenizer *tokenizer);
/* Bytes only: token b is byte b, 256 is <|endoftext|>. For the pico preset and tests. */
sgm_status sgm_tokenizer_bytes(sgm_tokenizer **tokenizer, sgm_error *error);

typedef struct sgm_tokenizer_training {
    int64_t vocabulary;          /* tokens wanted, specials and the 256 bytes included */
    const char *pattern;         /* "gpt2", "qwen", "o200k" or NULL for qwen's with single digits */
    const char *const *specials; /* NULL: <|endoftext|> only */
    size_t special_count;
    void (*progress)(void *context, int64_t merges_done, int64_t merges);
    void *context;
    const volatile int *stop; /* may be NULL; polled: non-zero → SGM_EINTERRUPTED */
} sgm_tokenizer_training;
/* Texts: `count` pieces. Deterministic: ties go to the pair of lower ids. */
sgm_status sgm_tokenizer_train(const sgm_tokenizer_training *options, const char *const *texts, const size_t *sizes,
                               size_t count, sgm_tokenizer **tokenizer, sgm_error *error);
/* Write tokenizer.json and tokenizer_config.json into a folder (made if needed). */
sgm_status sgm_tokenizer_save(const sgm_tokenizer *tokenizer, const char *folder, sgm_error *error);

int64_t sgm_tokenizer_vocabulary(const sgm_tokenizer *tokenizer);                          /* largest id + 1 */
int32_t sgm_tokenizer_end_of_text(const sgm_tokenizer *tokenizer);                         /* -1 when it has none */
int32_t sgm_tokenizer_find(const sgm_tokenizer *tokenizer, const char *text, size_t size); /* one token's id or -1 */

/* Encode. `ids` gets up to `capacity`; *count the number needed (SGM_ESPACE when it did not fit; size + 8 always does,
 * but for tokenizers that normalise or put spaces before words, whose text may grow: then encode again with *count).
 * `specials`: added tokens in the text become their ids; otherwise they are plain text. */
sgm_status sgm_tokenizer_encode(const sgm_tokenizer *tokenizer, const char *text, size_t size, bool specials,
                                int32_t *ids, size_t capacity, size_t *count, sgm_error *error);
/* The bytes of one token (borrowed; not NUL-terminated; may be part of a character). NULL for an unused id. */
const char *sgm_tokenizer_bytes_of(const sgm_tokenizer *tokenizer, int32_t id, size_t *size);
/* Of the bytes of every token and of which is end-of-text: equal where token numbers mean the same, however it is stored. */
uint64_t sgm_tokenizer_hash(const sgm_tokenizer *tokenizer);
bool sgm_tokenizer_is_special(const sgm_tokenizer *tokenizer, int32_t id);
/* Concatenate tokens' bytes: heap string, NUL-terminated, size in *size; free with sgm_text_free (config.h). */
sgm_status sgm_tokenizer_decode(const sgm_tokenizer *tokenizer, const int32_t *ids, size_t count, bool specials,
                                char **text, size_t *size, sgm_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
