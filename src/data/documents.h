// SPDX-License-Identifier: Apache-2.0
/* From sources to documents: walk the files of a source, refuse what is not text, split at separator lines. */
#ifndef SGM_DATA_DOCUMENTS_H
#define SGM_DATA_DOCUMENTS_H

#include "data/shard.h"
#include "sigmoe/data.h"

/* The separator line that plain paths and shipped corpora use. */
#define SGM_DOCUMENT_SEPARATOR "<|endoftext|>"

typedef struct sgm_source_visitor {
    void *context;
    /* Once per file, before its documents. */
    sgm_status (*file)(void *context, const char *path, const char *text, size_t size, sgm_error *error);
    /* `text` is borrowed and never only white space. */
    sgm_status (*document)(void *context, const char *text, size_t size, sgm_error *error);
} sgm_source_visitor;

/* Files of a folder come in the order of their names' bytes; names that begin with '.' are left out. */
sgm_status sgm_source_visit(const sgm_data_source *source, const sgm_source_visitor *visitor, sgm_error *error);

/* The documents of a text; `separator` NULL: it is one. */
sgm_status sgm_text_visit(const char *text, size_t size, const char *separator, const sgm_source_visitor *visitor,
                          sgm_error *error);

/* The longest prefix of at most `limit` bytes that ends behind a newline; without one, before a whole character.
 * At least 1 for size >= 1 and limit >= 1. */
size_t sgm_text_cut(const char *text, size_t size, size_t limit);

/* A name cut and cleaned so that it can be a domain. `ending`: without its last ending (a file's name). */
void sgm_domain_from_name(const char *name, bool ending, char out[SGM_SHARD_DOMAIN_BYTES]);

#endif
