// SPDX-License-Identifier: Apache-2.0
/* Tokenizers in GGUF files: byte-level BPE ("gpt2") to and from the tokenizer.ggml.… keys that llama.cpp reads.
 *
 * GGUF names a split pattern by `tokenizer.ggml.pre` and has no place for normalisation or for what an added token does with
 * the white space around it. Where the keys alone do not say everything, the whole tokenizer.json goes into the file too
 * (`tokenizer.huggingface.json`, a key of GGUF's specification), and reading prefers it: a file of ours encodes as the
 * tokenizer it was made from. docs/formats.md has the table of names. */
#ifndef SGM_TEXT_TOKENIZER_GGUF_H
#define SGM_TEXT_TOKENIZER_GGUF_H

#include "format/gguf.h"
#include "sigmoe/text.h"

/* Put the keys. `vocabulary`: rows of the model's embedding, at least the tokenizer's; ids without a token are padded as
 * unused ones. SGM_EUNSUPPORTED: the split pattern has no name in GGUF. */
sgm_status sgm_tokenizer_put_gguf(const sgm_tokenizer *tokenizer, int64_t vocabulary, sgm_gguf_writer *writer,
                                  sgm_error *error);

/* The tokenizer of a file. SGM_ENOTFOUND: it has none; SGM_EUNSUPPORTED: another kind, or a split pattern that is not known
 * here; SGM_EFORMAT: damaged. */
sgm_status sgm_tokenizer_from_gguf(const sgm_gguf *file, sgm_tokenizer **tokenizer, sgm_error *error);

#endif
