// SPDX-License-Identifier: Apache-2.0
/* Building a data folder: sources → documents → split → tokenizer → shards → manifest.
 *
 * Kept documents are spooled into one file first, because the tokenizer must see the training split before anything can
 * be encoded; from then on the text is a read-only mapping and a corpus may be larger than memory. Everything is
 * written into FOLDER.building, which is locked, and renamed at the end: a crash leaves nothing that looks like a data
 * folder, and two builds of one folder do not meet. The same sources and options give the same bytes: nothing here depends on clocks, threads or where the files lie. */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/team.h"
#include "base/utf8.h"
#include "data/build_state.h"
#include "data/documents.h"
#include "data/shard.h"

enum { REPEATED_LINE_CHARACTERS = 20 };
#define SHARD_TOKENS_MOST ((int64_t)1 << 26)      /* 256 MB a shard */
#define TOKENIZER_BYTES_MOST ((uint64_t)64 << 20) /* text that a tokenizer is trained on; more adds nothing */
#define ENCODE_BATCH_BYTES ((uint64_t)8 << 20)    /* of text encoded between two writes */
#define TAIL_LEAST 512                            /* shortest held-out tail cut from a document */

/* ---- a set of 64-bit hashes ------------------------------------------------------------------------------------- */

/* True when `hash` was there already; *status tells of lack of memory. Hashes stand for the text: with XXH3 and a
 * billion lines the chance of one false match is about 3 %, and its price is one lost line. */
static bool set_add(hash_set *set, uint64_t hash, sgm_status *status) {
    if (set->count * 2 >= set->capacity) {
        hash_set grown = {.capacity = set->capacity ? 2 * set->capacity : 1024};
        grown.slots = sgm_alloc(grown.capacity * sizeof *grown.slots);
        if (!grown.slots) {
            *status = SGM_EMEMORY;
            return false;
        }
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i])
                set_add(&grown, set->slots[i], status);
        sgm_free(set->slots);
        *set = grown;
    }
    hash = hash ? hash : 1; /* 0 marks a free slot */
    size_t at = (size_t)hash & (set->capacity - 1);
    for (; set->slots[at]; at = (at + 1) & (set->capacity - 1))
        if (set->slots[at] == hash)
            return true;
    set->slots[at] = hash;
    set->count++;
    return false;
}

static bool set_has(const hash_set *set, uint64_t hash) {
    hash = hash ? hash : 1;
    for (size_t at = (size_t)hash; set->count; at++) {
        uint64_t slot = set->slots[at & (set->capacity - 1)];
        if (slot == hash || slot == 0)
            return slot == hash;
    }
    return false;
}

static void tell(const build_state *state, const char *what, double share) {
    if (state->options->progress)
        state->options->progress(state->options->context, what, share);
}

static sgm_status out_of_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, "build from fewer or smaller sources", "no memory to build the data");
}

/* SGM_EINTERRUPTED once the caller wants no more. */
static sgm_status poll_stop(const build_state *state, sgm_error *error) {
    if (!state->options->stop || !*state->options->stop)
        return SGM_OK;
    return sgm_fail(error, SGM_EINTERRUPTED, "nothing is left of it: run it again",
                    "interrupted while reading and tokenising text");
}

/* ---- collecting ------------------------------------------------------------------------------------------------ */

static sgm_status on_file(void *context, const char *path, const char *text, size_t size, sgm_error *error) {
    build_state *state = context;
    source_facts *facts = &state->facts[state->source];
    uint64_t chain[2] = {facts->hash, sgm_checksum(text, size)};
    (void)path;
    (void)error;
    facts->files++;
    facts->bytes += size;
    facts->hash = sgm_checksum(chain, sizeof chain);
    state->domains[facts->domain].invalid_bytes += sgm_utf8_invalid(text, size);
    return SGM_OK;
}

static size_t characters(const char *text, size_t size) {
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Spool the lines of a document that did not occur before. */
static sgm_status spool_new_lines(build_state *state, domain_facts *domain, const char *text, size_t size,
                                  sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t at = 0; status == SGM_OK && at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t end = newline ? (size_t)(newline - text) : size, next = newline ? end + 1 : size;
        if (characters(text + at, end - at) > REPEATED_LINE_CHARACTERS &&
            set_add(&state->lines, sgm_checksum(text + at, end - at), &status))
            domain->repeated_lines++;
        else if (status == SGM_OK)
            status = sgm_writer_add(state->spool, text + at, next - at, error);
        else
            out_of_memory(error);
        at = next;
    }
    return status;
}

static sgm_status on_document(void *context, const char *text, size_t size, sgm_error *error) {
    build_state *state = context;
    uint32_t domain_index = state->facts[state->source].domain;
    domain_facts *domain = &state->domains[domain_index];
    uint64_t hash = sgm_checksum(text, size);
    sgm_status status = poll_stop(state, error);
    if (status != SGM_OK)
        return status;
    if (state->options->deduplicate && set_add(&state->texts, hash, &status)) {
        domain->repeated_documents++;
        return SGM_OK;
    }
    if (status != SGM_OK)
        return out_of_memory(error);
    uint64_t offset = sgm_writer_position(state->spool);
    if (state->options->deduplicate)
        status = spool_new_lines(state, domain, text, size, error);
    else
        status = sgm_writer_add(state->spool, text, size, error);
    uint64_t kept = sgm_writer_position(state->spool) - offset;
    if (status != SGM_OK || kept == 0)
        return status;
    document_entry entry = {.offset = offset, .size = kept, .hash = hash, .domain = domain_index, .split = SGM_TRAIN};
    return sgm_buffer_add(&state->documents, &entry, sizeof entry) == SGM_OK ? SGM_OK : out_of_memory(error);
}

static sgm_status find_domains(build_state *state, sgm_error *error) {
    const sgm_data_build_options *options = state->options;
    state->facts = sgm_alloc(options->source_count * sizeof *state->facts);
    state->domains = sgm_alloc(options->source_count * sizeof *state->domains);
    if (!state->facts || !state->domains)
        return out_of_memory(error);
    for (size_t i = 0; i < options->source_count; i++) {
        const char *name = options->sources[i].domain;
        if (!name || !options->sources[i].path || !sgm_domain_name_ok(name))
            return sgm_fail(error, SGM_EARGUMENT, "use letters, digits, '.', '_' and '-', at most 63 of them",
                            "\"%s\" cannot be the name of a domain", name ? name : "");
        size_t d = 0;
        while (d < state->domain_count && strcmp(state->domains[d].name, name) != 0)
            d++;
        if (d == state->domain_count)
            state->domains[state->domain_count++].name = name;
        state->facts[i].domain = (uint32_t)d;
    }
    return SGM_OK;
}

static sgm_status collect(build_state *state, sgm_error *error) {
    const sgm_data_build_options *options = state->options;
    sgm_source_visitor visitor = {state, on_file, on_document};
    sgm_status status = sgm_writer_open(state->spool_path, &state->spool, error);
    for (size_t i = 0; status == SGM_OK && i < options->source_count; i++) {
        state->source = i;
        tell(state, "reading", (double)i / (double)options->source_count);
        status = sgm_source_visit(&options->sources[i], &visitor, error);
    }
    if (status != SGM_OK)
        return status; /* the spool is abandoned by the caller */
    sgm_writer *spool = state->spool;
    state->spool = NULL;
    status = sgm_writer_commit(spool, error);
    if (status != SGM_OK)
        return status;
    if (state->documents.size == 0)
        return sgm_fail(error, SGM_EFORMAT, "give files that hold text", "%s%s: there is no text in %s",
                        options->sources[0].path, options->source_count > 1 ? " and others" : "",
                        options->source_count > 1 ? "them" : "it");
    return sgm_map_open(state->spool_path, &state->text, error);
}

/* ---- the split ------------------------------------------------------------------------------------------------- */

static document_entry *entries(const build_state *state, size_t *count) {
    *count = state->documents.size / sizeof(document_entry);
    return (document_entry *)(void *)state->documents.data;
}

/* Without de-duplication there may be copies of a document, here and in other domains. What is done to a document is done
 * to them, so that no text is held out here and trained on there. */
static void move_copies(build_state *state, uint64_t hash, sgm_corpus_split split) {
    size_t count;
    document_entry *entry = entries(state, &count);
    for (size_t i = 0; i < count; i++) {
        if (entry[i].hash != hash)
            continue;
        domain_facts *domain = &state->domains[entry[i].domain];
        domain->split_documents[entry[i].split]--;
        domain->split_documents[split]++;
        entry[i].split = split;
    }
}

static void split_by_hash(build_state *state) {
    size_t count;
    document_entry *entry = entries(state, &count);
    for (size_t i = 0; i < count; i++) {
        domain_facts *domain = &state->domains[entry[i].domain];
        bool held = (double)(entry[i].hash >> 11) * 0x1p-53 < state->options->heldout_share;
        entry[i].split = held ? SGM_HELDOUT : SGM_TRAIN;
        domain->split_documents[entry[i].split]++;
        domain->bytes += entry[i].size;
    }
}

/* A domain of which everything was held out (one of one or two documents) gets it back to train on, and with it every
 * other domain what it has of that. Nothing is held out where that was all; hold_out_one chooses again. */
static sgm_status take_back(build_state *state, sgm_error *error) {
    size_t count;
    document_entry *entry = entries(state, &count);
    hash_set taken = {0};
    sgm_status status = SGM_OK;
    for (size_t i = 0; status == SGM_OK && i < count; i++)
        if (state->domains[entry[i].domain].split_documents[SGM_TRAIN] == 0)
            set_add(&taken, entry[i].hash, &status);
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        domain_facts *domain = &state->domains[entry[i].domain];
        if (entry[i].split != SGM_HELDOUT || !set_has(&taken, entry[i].hash))
            continue;
        entry[i].split = SGM_TRAIN;
        domain->split_documents[SGM_HELDOUT]--;
        domain->split_documents[SGM_TRAIN]++;
    }
    sgm_free(taken.slots);
    return status == SGM_OK ? SGM_OK : out_of_memory(error);
}

/* Hold a document out with its copies, unless a domain were left without anything to train on. */
static bool hold_out_whole(build_state *state, uint64_t hash) {
    move_copies(state, hash, SGM_HELDOUT);
    for (uint32_t d = 0; d < state->domain_count; d++) {
        const int64_t *documents = state->domains[d].split_documents;
        if (documents[SGM_HELDOUT] > 0 && documents[SGM_TRAIN] == 0) {
            move_copies(state, hash, SGM_TRAIN);
            return false;
        }
    }
    return true;
}

/* A domain in which no hash fell below the share still needs something held out: its document of the smallest hash when
 * that is small enough, otherwise the last part of that document, cut at a line end from its copies too. */
static sgm_status hold_out_one(build_state *state, uint32_t domain, sgm_error *error) {
    size_t count, least = SIZE_MAX;
    document_entry *entry = entries(state, &count);
    for (size_t i = 0; i < count; i++)
        if (entry[i].domain == domain && (least == SIZE_MAX || entry[i].hash < entry[least].hash))
            least = i;
    if (least == SIZE_MAX)
        return SGM_OK;
    uint64_t hash = entry[least].hash;
    double wanted = state->options->heldout_share * (double)state->domains[domain].bytes;
    if ((double)entry[least].size <= 4 * wanted && hold_out_whole(state, hash))
        return SGM_OK;
    uint64_t tail = wanted < TAIL_LEAST ? TAIL_LEAST : (uint64_t)wanted;
    if (tail > entry[least].size / 2)
        return SGM_OK; /* too little text to hold any of it out */
    const char *text = (const char *)state->text.data + entry[least].offset;
    size_t cut = sgm_text_cut(text, (size_t)entry[least].size, (size_t)(entry[least].size - tail));
    document_entry rest = entry[least];
    rest.offset += cut;
    rest.size -= cut;
    rest.hash = sgm_checksum(text + cut, (size_t)rest.size); /* no longer a copy of the others */
    rest.split = SGM_HELDOUT;
    for (size_t i = 0; i < count; i++)
        if (entry[i].hash == hash && entry[i].split == SGM_TRAIN && entry[i].size > cut)
            entry[i].size = cut;
    state->domains[domain].split_documents[SGM_HELDOUT]++;
    return sgm_buffer_add(&state->documents, &rest, sizeof rest) == SGM_OK ? SGM_OK : out_of_memory(error);
}

static sgm_status split_documents(build_state *state, sgm_error *error) {
    split_by_hash(state);
    sgm_status status = take_back(state, error);
    for (uint32_t d = 0; status == SGM_OK && d < state->domain_count; d++)
        if (state->options->heldout_share > 0 && state->domains[d].split_documents[SGM_HELDOUT] == 0)
            status = hold_out_one(state, d, error);
    for (uint32_t d = 0; d < state->domain_count; d++) /* counted again by shards */
        state->domains[d].split_documents[SGM_TRAIN] = state->domains[d].split_documents[SGM_HELDOUT] = 0;
    return status;
}

/* ---- the tokenizer --------------------------------------------------------------------------------------------- */

static void on_merge(void *context, int64_t done, int64_t all) {
    tell(context, "training the tokenizer", all > 0 ? (double)done / (double)all : 1);
}

static sgm_status train_tokenizer(build_state *state, sgm_error *error) {
    size_t count, used = 0;
    const document_entry *entry = entries(state, &count);
    uint64_t bytes = 0, taken = 0, seen = 0;
    const char **texts = sgm_alloc(count * sizeof *texts);
    size_t *sizes = sgm_alloc(count * sizeof *sizes);
    sgm_status status = texts && sizes ? SGM_OK : out_of_memory(error);
    for (size_t i = 0; i < count; i++)
        bytes += entry[i].split == SGM_TRAIN ? entry[i].size : 0;
    double part = bytes > TOKENIZER_BYTES_MOST ? (double)TOKENIZER_BYTES_MOST / (double)bytes : 1;
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        if (entry[i].split != SGM_TRAIN)
            continue;
        seen += entry[i].size;
        if (part < 1 && (double)(taken + entry[i].size) > part * (double)seen + (double)entry[i].size * part)
            continue; /* an even sample over the whole corpus */
        texts[used] = (const char *)state->text.data + entry[i].offset;
        sizes[used++] = (size_t)entry[i].size;
        taken += entry[i].size;
    }
    sgm_tokenizer_training training = {
        .vocabulary = state->options->vocabulary, .progress = on_merge, .context = state, .stop = state->options->stop};
    if (status == SGM_OK)
        status = sgm_tokenizer_train(&training, texts, sizes, used, &state->tokenizer, error);
    sgm_free(texts);
    sgm_free(sizes);
    return status;
}

static sgm_status make_tokenizer(build_state *state, sgm_error *error) {
    sgm_status status;
    if (state->options->tokenizer_path)
        status = sgm_tokenizer_open(state->options->tokenizer_path, &state->tokenizer, error);
    else
        status = train_tokenizer(state, error);
    if (status != SGM_OK)
        return status;
    state->end_of_text = sgm_tokenizer_end_of_text(state->tokenizer);
    if (state->end_of_text < 0)
        return sgm_fail(error, SGM_EARGUMENT, "use a tokenizer that has an end-of-text token, or let one be trained",
                        "%s: the tokenizer has no end-of-text token, which parts documents",
                        state->options->tokenizer_path ? state->options->tokenizer_path : "the trained tokenizer");
    char *path = sgm_path_join(state->work, "tokenizer");
    status = path ? sgm_tokenizer_save(state->tokenizer, path, error) : out_of_memory(error);
    sgm_free(path);
    return status;
}

/* ---- encoding -------------------------------------------------------------------------------------------------- */

typedef struct piece {
    const char *text;
    size_t size, place, count; /* place: where its tokens begin in `ids`; room is size + 9 */
    int32_t *own;              /* its tokens where normalising made it longer than that room; else NULL */
} piece;

typedef struct encode_batch {
    const sgm_tokenizer *tokenizer;
    const build_state *state; /* for its stop flag */
    int32_t end_of_text, *ids;
    size_t ids_capacity;
    sgm_buffer pieces;
    uint64_t bytes;
    sgm_status *status; /* per thread */
    sgm_error *errors;
} encode_batch;

static sgm_status encode_piece(const encode_batch *batch, piece *one, sgm_error *error) {
    int32_t *ids = batch->ids + one->place;
    sgm_status status =
        sgm_tokenizer_encode(batch->tokenizer, one->text, one->size, false, ids, one->size + 8, &one->count, error);
    if (status == SGM_ESPACE) { /* rare: NFC writes a few characters with up to three times the bytes */
        size_t room = one->count;
        ids = one->own = sgm_alloc((room + 1) * sizeof *ids);
        status =
            ids ? sgm_tokenizer_encode(batch->tokenizer, one->text, one->size, false, ids, room, &one->count, error)
                : out_of_memory(error);
    }
    if (status == SGM_OK)
        ids[one->count++] = batch->end_of_text;
    return status;
}

static void encode_pieces(sgm_worker *worker, void *argument) {
    encode_batch *batch = argument;
    piece *pieces = (piece *)(void *)batch->pieces.data;
    int64_t count = (int64_t)(batch->pieces.size / sizeof *pieces);
    for (int64_t i; (i = sgm_task(worker)) < count;)
        if (batch->status[worker->thread] == SGM_OK) {
            sgm_error *error = &batch->errors[worker->thread];
            sgm_status status = poll_stop(batch->state, error);
            batch->status[worker->thread] = status == SGM_OK ? encode_piece(batch, &pieces[i], error) : status;
        }
}

static sgm_status finish_shard(build_state *state, sgm_error *error) {
    if (!state->shard)
        return SGM_OK;
    shard_facts facts = {.domain = state->shard_domain, .number = state->shard_number++};
    sgm_shard_writer *writer = state->shard;
    state->shard = NULL;
    sgm_status status = sgm_shard_commit(writer, &facts.shard, error);
    if (status != SGM_OK)
        return status;
    domain_facts *domain = &state->domains[facts.domain];
    domain->split_documents[facts.shard.split] += facts.shard.documents;
    domain->split_tokens[facts.shard.split] += facts.shard.tokens;
    domain->split_bytes[facts.shard.split] += facts.shard.bytes;
    return sgm_buffer_add(&state->shards, &facts, sizeof facts) == SGM_OK ? SGM_OK : out_of_memory(error);
}

static sgm_status write_piece(build_state *state, uint32_t domain, sgm_corpus_split split, const int32_t *ids,
                              size_t count, size_t bytes, sgm_error *error) {
    sgm_status status = SGM_OK;
    if (state->shard && sgm_shard_tokens(state->shard) + (int64_t)count > SHARD_TOKENS_MOST)
        status = finish_shard(state, error);
    if (status == SGM_OK && !state->shard) {
        char *path = sgm_build_shard_path(state, domain, split, state->shard_number);
        state->shard_domain = domain;
        status = path ? sgm_shard_create(path, state->domains[domain].name, split,
                                         sgm_tokenizer_vocabulary(state->tokenizer), &state->shard, error)
                      : out_of_memory(error);
        sgm_free(path);
    }
    return status == SGM_OK ? sgm_shard_add(state->shard, ids, (int64_t)count, (int64_t)bytes, error) : status;
}

/* Encode what the batch holds on all threads, then write it in order: the shard's bytes do not depend on the threads.
 */
static sgm_status flush_batch(build_state *state, encode_batch *batch, uint32_t domain, sgm_corpus_split split,
                              sgm_error *error) {
    piece *pieces = (piece *)(void *)batch->pieces.data;
    size_t count = batch->pieces.size / sizeof *pieces, room = 0;
    for (size_t i = 0; i < count; i++) {
        pieces[i].place = room;
        room += pieces[i].size + 9;
    }
    if (room > batch->ids_capacity) {
        sgm_free(batch->ids);
        batch->ids = sgm_alloc(room * sizeof *batch->ids);
        batch->ids_capacity = batch->ids ? room : 0;
        if (!batch->ids)
            return out_of_memory(error);
    }
    sgm_team_run(state->team, encode_pieces, batch);
    sgm_status status = SGM_OK;
    for (int t = 0; status == SGM_OK && t < sgm_team_threads(state->team); t++)
        if ((status = batch->status[t]) != SGM_OK && error)
            *error = batch->errors[t];
    for (size_t i = 0; i < count; i++) {
        const int32_t *ids = pieces[i].own ? pieces[i].own : batch->ids + pieces[i].place;
        if (status == SGM_OK)
            status = write_piece(state, domain, split, ids, pieces[i].count, pieces[i].size, error);
        sgm_free(pieces[i].own);
    }
    batch->pieces.size = 0;
    batch->bytes = 0;
    return status;
}

/* A document, cut when it is longer than the limit. */
static sgm_status add_pieces(build_state *state, encode_batch *batch, const document_entry *entry, sgm_error *error) {
    const char *text = (const char *)state->text.data + entry->offset;
    size_t left = (size_t)entry->size;
    size_t limit = state->options->document_limit_bytes > 0 ? (size_t)state->options->document_limit_bytes : left;
    while (left) {
        piece one = {.text = text, .size = sgm_text_cut(text, left, limit)};
        if (sgm_buffer_add(&batch->pieces, &one, sizeof one) != SGM_OK)
            return out_of_memory(error);
        batch->bytes += one.size;
        text += one.size;
        left -= one.size;
    }
    return SGM_OK;
}

static sgm_status encode_domain(build_state *state, encode_batch *batch, uint32_t domain, sgm_corpus_split split,
                                uint64_t *done, sgm_error *error) {
    size_t count;
    const document_entry *entry = entries(state, &count);
    sgm_status status = SGM_OK;
    state->shard_number = 0;
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        if (entry[i].domain != domain || entry[i].split != (uint32_t)split)
            continue;
        status = add_pieces(state, batch, &entry[i], error);
        *done += entry[i].size;
        if (status == SGM_OK && batch->bytes >= ENCODE_BATCH_BYTES) {
            status = flush_batch(state, batch, domain, split, error);
            tell(state, "encoding", (double)*done / (double)state->text.size);
        }
    }
    if (status == SGM_OK && batch->bytes)
        status = flush_batch(state, batch, domain, split, error);
    return status == SGM_OK ? finish_shard(state, error) : status;
}

static sgm_status encode_all(build_state *state, sgm_error *error) {
    int wanted = state->options->threads > 0 ? state->options->threads : sgm_usable_cores();
    int threads = wanted > SGM_DATA_THREADS_MOST ? SGM_DATA_THREADS_MOST : wanted;
    encode_batch batch = {.tokenizer = state->tokenizer, .state = state, .end_of_text = state->end_of_text};
    sgm_status status = sgm_team_new(threads, &state->team, error);
    if (status != SGM_OK)
        return status;
    batch.status = sgm_alloc((size_t)threads * sizeof *batch.status);
    batch.errors = sgm_alloc((size_t)threads * sizeof *batch.errors);
    uint64_t done = 0;
    if (!batch.status || !batch.errors)
        status = out_of_memory(error);
    for (uint32_t d = 0; status == SGM_OK && d < state->domain_count; d++) {
        status = encode_domain(state, &batch, d, SGM_TRAIN, &done, error);
        if (status == SGM_OK)
            status = encode_domain(state, &batch, d, SGM_HELDOUT, &done, error);
    }
    tell(state, "encoding", 1);
    sgm_free(batch.status);
    sgm_free(batch.errors);
    sgm_free(batch.ids);
    sgm_buffer_free(&batch.pieces);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

static sgm_status check_options(const sgm_data_build_options *options, const char *folder, sgm_error *error) {
    if (options->source_count == 0)
        return sgm_fail(error, SGM_EARGUMENT, "name a text file or a folder", "there is nothing to build from");
    if (!(options->heldout_share >= 0 && options->heldout_share <= SGM_HELDOUT_SHARE_MOST))
        return sgm_fail(error, SGM_EARGUMENT, "give a share from 0 to 0.5, for instance 0.02",
                        "a held-out share of %g is not usable", options->heldout_share);
    if (options->threads < 0)
        return sgm_fail(error, SGM_EARGUMENT, "0 means all cores", "%d threads cannot encode", options->threads);
    if (options->document_limit_bytes < 0)
        return sgm_fail(error, SGM_EARGUMENT, "0 means no limit", "a document limit cannot be negative");
    if (!options->tokenizer_path &&
        (options->vocabulary < SGM_DATA_VOCABULARY_LEAST || options->vocabulary > SGM_DATA_VOCABULARY_MOST))
        return sgm_fail(error, SGM_EARGUMENT, "257 (bytes and end of text) to 1048576; 4096 suits small models",
                        "a vocabulary of %lld tokens cannot be trained", (long long)options->vocabulary);
    if (!sgm_path_exists(folder))
        return SGM_OK;
    if (!sgm_path_is_folder(folder))
        return sgm_fail(error, SGM_EEXISTS, "choose another name", "%s: a file is in the way", folder);
    char **names;
    size_t count;
    sgm_status status = sgm_folder_list(folder, &names, &count, error);
    if (status == SGM_OK) {
        sgm_free(names);
        if (count)
            return sgm_fail(error, SGM_EEXISTS, "choose another folder, or remove this one first",
                            "%s: the folder exists and is not empty", folder);
    }
    return status;
}

static sgm_status run(build_state *state, const char *folder, sgm_error *error) {
    sgm_status status = find_domains(state, error);
    if (status == SGM_OK)
        status = collect(state, error);
    if (status == SGM_OK)
        status = split_documents(state, error);
    if (status == SGM_OK)
        status = make_tokenizer(state, error);
    if (status == SGM_OK)
        status = encode_all(state, error);
    if (status != SGM_OK)
        return status;
    sgm_map_close(&state->text);
    state->text.data = NULL;
    unlink(state->spool_path);
    status = sgm_build_write_manifest(state, error);
    if (status == SGM_OK)
        status = sgm_folder_sync(state->work, error);
    if (status != SGM_OK)
        return status;
    if (sgm_path_exists(folder))
        rmdir(folder); /* it is empty: check_options looked */
    return sgm_work_folder_finish(state->work, folder, error);
}

sgm_status sgm_data_build(const sgm_data_build_options *options, const char *folder, sgm_error *error) {
    build_state state = {.options = options};
    sgm_status status = check_options(options, folder, error);
    if (status != SGM_OK)
        return status;
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    state.work = sgm_format("%.*s.building", (int)length, folder);
    state.spool_path = state.work ? sgm_path_join(state.work, "text.spool") : NULL;
    sgm_lock *lock = NULL;
    status = state.spool_path ? sgm_work_folder_take(state.work, &lock, error) : out_of_memory(error);
    if (status == SGM_OK)
        status = run(&state, folder, error);
    sgm_writer_abandon(state.spool);
    sgm_shard_abandon(state.shard);
    if (state.text.data)
        sgm_map_close(&state.text);
    if (state.tokenizer)
        sgm_tokenizer_close(state.tokenizer);
    if (state.team)
        sgm_team_free(state.team);
    if (status != SGM_OK && lock)
        sgm_folder_remove(state.work, NULL);
    sgm_lock_drop(lock);
    sgm_buffer_free(&state.documents);
    sgm_buffer_free(&state.shards);
    sgm_free(state.texts.slots);
    sgm_free(state.lines.slots);
    sgm_free(state.facts);
    sgm_free(state.domains);
    sgm_free(state.spool_path);
    sgm_free(state.work);
    return status;
}
