// SPDX-License-Identifier: Apache-2.0
/* Corpora: text in domains → documents → shards of tokens → packed batches.
 *
 * A data folder (made by sgm_data_build) holds manifest.json, tokenizer/ and shards `train-DOMAIN-0000.sgmd`,
 * `heldout-DOMAIN-0000.sgmd`. Shards are little-endian, versioned and checksummed: see docs/formats.md. */
#ifndef SIGMOE_DATA_H
#define SIGMOE_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/error.h"
#include "sigmoe/text.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- building ------------------------------------------------------------------------------------------------- */

typedef struct sgm_data_source {
    const char *domain;    /* "prose", "code", … */
    const char *path;      /* a text file, or a folder walked for files */
    const char *separator; /* documents within a file are split at this line; NULL: a file is a document */
    const char *licence;   /* recorded in the manifest; NULL: unknown */
    /* The Debian package that the text was taken from, with the sha256 of its file; recorded too. NULL: from none. */
    const char *package, *version, *sha256;
} sgm_data_source;

#define SGM_HELDOUT_SHARE_MOST 0.5
enum { SGM_DATA_THREADS_MOST = 16 };
enum { SGM_DATA_VOCABULARY_LEAST = 257, SGM_DATA_VOCABULARY_MOST = 1 << 20 }; /* bytes, end of text, merges */

typedef struct sgm_data_build_options {
    const sgm_data_source *sources;
    size_t source_count;
    const char *tokenizer_path; /* NULL: train one of `vocabulary` tokens from the training split */
    int64_t vocabulary;
    double heldout_share;         /* share of documents held out, chosen by a hash of their text: 0.02 */
    bool deduplicate;             /* drop exact duplicate documents and repeated lines longer than 20 characters */
    int64_t document_limit_bytes; /* longer documents are cut into several at line ends; 0: no limit */
    int threads; /* that encode, at most SGM_DATA_THREADS_MOST; 0: as many as there are cores. The bytes are the same */
    void (*progress)(void *context, const char *what, double share);
    void *context;
    const volatile int *stop; /* may be NULL; polled: non-zero → nothing is left behind, SGM_EINTERRUPTED */
} sgm_data_build_options;
/* Any bytes are legal text; files that hold NUL bytes in their first 8 KiB are taken for binary and refused with a hint. An
 * empty corpus is SGM_EARGUMENT. `folder` must not exist or be empty. */
sgm_status sgm_data_build(const sgm_data_build_options *options, const char *folder, sgm_error *error);
/* Sources of a plain path as `--data` takes it: FILE, or DIR whose subfolders are the domains (a file directly in it is its
 * own domain, by its name without ending). Where DIR holds a folder `corpus`, that is the one, and the first line of
 * DIR/licences/NAME.txt is the licence of corpus/DOMAIN/NAME. A line `<|endoftext|>` parts documents; a file without one
 * is a document. DIR/recipe.json, where sgm_data_recipe_fetch made DIR, tells the packages. The list is heap-allocated; free
 * with sgm_data_sources_free. */
sgm_status sgm_data_sources_from_path(const char *const *paths, size_t count, sgm_data_source **sources, size_t *found,
                                      sgm_error *error);
void sgm_data_sources_free(sgm_data_source *sources, size_t count);
/* Fetch and extract the Debian packages that a recipe (YAML, data/recipe.yaml) names into `folder`/corpus/DOMAIN/… with a
 * manifest (`folder`/recipe.json) of sizes, licences, versions and sha256. A package whose version or sha256 is not the
 * recipe's is taken as it is: that is no error, but a line to `warning` (may be NULL, as may `progress`) and in recipe.json. */
sgm_status sgm_data_recipe_fetch(const char *recipe, const char *folder, sgm_data_source **sources, size_t *found,
                                 void (*progress)(void *context, const char *what, double share),
                                 void (*warning)(void *context, const char *text), void *context, sgm_error *error);

/* ---- reading -------------------------------------------------------------------------------------------------- */

typedef struct sgm_corpus sgm_corpus;
typedef enum sgm_corpus_split { SGM_TRAIN, SGM_HELDOUT } sgm_corpus_split;
sgm_status sgm_corpus_open(const char *folder, sgm_corpus **corpus, sgm_error *error);
void sgm_corpus_close(sgm_corpus *corpus);
size_t sgm_corpus_domains(const sgm_corpus *corpus);
const char *sgm_corpus_domain(const sgm_corpus *corpus, size_t domain);
int64_t sgm_corpus_documents(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain);
int64_t sgm_corpus_tokens(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain);
int64_t sgm_corpus_bytes(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain); /* of text */
/* Tokens of one document with its closing end-of-text; borrowed. *bytes: its text bytes; may be NULL. */
const int32_t *sgm_corpus_document(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain, int64_t document,
                                   int64_t *tokens, int64_t *bytes);
const char *sgm_corpus_tokenizer_path(const sgm_corpus *corpus);
uint64_t sgm_corpus_hash(const sgm_corpus *corpus); /* of the manifest: names the data in checkpoints */
enum { SGM_CORPUS_HASH = 17 };
void sgm_corpus_hash_text(const sgm_corpus *corpus, char text[SGM_CORPUS_HASH]); /* the same in 16 hexadecimal digits */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
