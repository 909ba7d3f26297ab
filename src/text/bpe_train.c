// SPDX-License-Identifier: Apache-2.0
/* Training byte-level BPE (Sennrich et al., arXiv 1508.07909).
 *
 * Equal words are counted once. All words lie in one array of symbols, linked inside each word; a pair knows the places
 * where it stands, so a merge touches only those. Pairs wait in a heap; counts of pairs that are already there only
 * ever fall, so an entry that promises too much is put back with what is left. Ties go to the lower left, then lower
 * right id: the result depends on nothing but the texts' words and counts. */
#include <string.h>

#include "text/tokenizer.h"
#include "text/character_class.h"

#define NONE UINT32_MAX

typedef struct word { /* a distinct word */
    uint64_t hash;
    size_t offset; /* in the byte pool */
    uint32_t size;
    int64_t count;
} word;

typedef struct pair {
    int32_t left, right; /* left -1: empty slot */
    int64_t count;
    uint32_t first, last; /* list of places */
} pair;

typedef struct place {
    uint32_t at, next;
} place;

typedef struct entry {
    int64_t count;
    int32_t left, right;
} entry;

typedef struct trainer {
    sgm_buffer bytes; /* of all distinct words */
    word *words;
    size_t word_count, word_capacity;
    uint32_t *index; /* open addressing: word number + 1, 0 is empty */
    size_t index_mask;
    int32_t *symbols; /* -1: merged into the one before */
    uint32_t *previous, *next, *word_of;
    pair *pairs;
    size_t pair_count, pair_mask;
    place *places;
    size_t place_count, place_capacity;
    uint32_t free_places;
    entry *heap;
    size_t heap_count, heap_capacity;
} trainer;

static void trainer_fini(trainer *tr) {
    sgm_buffer_free(&tr->bytes);
    void *blocks[] = {tr->words,   tr->index, tr->symbols, tr->previous, tr->next,
                      tr->word_of, tr->pairs, tr->places,  tr->heap};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        sgm_free(blocks[i]);
}

/* Room for one more: doubles *array. */
static sgm_status grow(void **array, size_t count, size_t *capacity, size_t element) {
    if (count < *capacity)
        return SGM_OK;
    size_t wanted = *capacity ? *capacity * 2 : 1024;
    void *larger = sgm_resize(*array, count * element, wanted * element);
    if (!larger)
        return SGM_EMEMORY;
    *array = larger;
    *capacity = wanted;
    return SGM_OK;
}

/* ---- counting words ---- */

static sgm_status rehash(trainer *tr) {
    size_t slots = tr->index ? (tr->index_mask + 1) * 2 : 1 << 14;
    uint32_t *index = sgm_alloc(slots * sizeof *index);
    if (!index)
        return SGM_EMEMORY;
    for (size_t i = 0; i < tr->word_count; i++) {
        size_t at = (size_t)tr->words[i].hash & (slots - 1);
        while (index[at])
            at = (at + 1) & (slots - 1);
        index[at] = (uint32_t)i + 1;
    }
    sgm_free(tr->index);
    tr->index = index;
    tr->index_mask = slots - 1;
    return SGM_OK;
}

static sgm_status count_word(void *context, const char *bytes, size_t size) {
    trainer *tr = context;
    if (size < 2)
        return SGM_OK; /* nothing to merge in it */
    if ((!tr->index || tr->word_count * 2 > tr->index_mask) && rehash(tr))
        return SGM_EMEMORY;
    uint64_t hash = sgm_text_hash(bytes, size);
    size_t at = (size_t)hash & tr->index_mask;
    for (; tr->index[at]; at = (at + 1) & tr->index_mask) {
        word *w = &tr->words[tr->index[at] - 1];
        if (w->hash == hash && w->size == size && !memcmp(tr->bytes.data + w->offset, bytes, size)) {
            w->count++;
            return SGM_OK;
        }
    }
    if (tr->bytes.size + size >= NONE || tr->word_count >= NONE - 1)
        return SGM_ESPACE;
    size_t offset = tr->bytes.size;
    if (grow((void **)&tr->words, tr->word_count, &tr->word_capacity, sizeof *tr->words) ||
        sgm_buffer_add(&tr->bytes, bytes, size))
        return SGM_EMEMORY;
    tr->words[tr->word_count++] = (word){hash, offset, (uint32_t)size, 1};
    tr->index[at] = (uint32_t)tr->word_count;
    return SGM_OK;
}

/* ---- pairs, places, heap ---- */

static pair *pair_slot(pair *pairs, size_t mask, int32_t left, int32_t right) {
    for (size_t i = sgm_pair_home(left, right);; i++) {
        pair *p = &pairs[i & mask];
        if (p->left < 0 || (p->left == left && p->right == right))
            return p;
    }
}

static sgm_status grow_pairs(trainer *tr) {
    size_t slots = tr->pairs ? (tr->pair_mask + 1) * 2 : 1 << 14;
    pair *pairs = sgm_alloc(slots * sizeof *pairs);
    if (!pairs)
        return SGM_EMEMORY;
    for (size_t i = 0; i < slots; i++)
        pairs[i].left = -1;
    for (size_t i = 0; tr->pairs && i <= tr->pair_mask; i++)
        if (tr->pairs[i].left >= 0)
            *pair_slot(pairs, slots - 1, tr->pairs[i].left, tr->pairs[i].right) = tr->pairs[i];
    sgm_free(tr->pairs);
    tr->pairs = pairs;
    tr->pair_mask = slots - 1;
    return SGM_OK;
}

/* The pair that begins at `at` stands there: counts and remembers it. *made: it is new. */
static sgm_status pair_add(trainer *tr, uint32_t at, bool *made) {
    if ((!tr->pairs || tr->pair_count * 2 > tr->pair_mask) && grow_pairs(tr))
        return SGM_EMEMORY;
    int32_t left = tr->symbols[at], right = tr->symbols[tr->next[at]];
    pair *p = pair_slot(tr->pairs, tr->pair_mask, left, right);
    *made = p->left < 0;
    if (*made) {
        *p = (pair){left, right, 0, NONE, NONE};
        tr->pair_count++;
    }
    p->count += tr->words[tr->word_of[at]].count;
    uint32_t node = tr->free_places;
    if (node != NONE) {
        tr->free_places = tr->places[node].next;
    } else {
        if (tr->place_count >= NONE)
            return SGM_ESPACE;
        if (grow((void **)&tr->places, tr->place_count, &tr->place_capacity, sizeof *tr->places))
            return SGM_EMEMORY;
        node = (uint32_t)tr->place_count++;
    }
    tr->places[node] = (place){at, NONE};
    if (p->last == NONE)
        p->first = node;
    else
        tr->places[p->last].next = node;
    p->last = node;
    return SGM_OK;
}

static bool better(entry a, entry b) {
    if (a.count != b.count)
        return a.count > b.count;
    return a.left != b.left ? a.left < b.left : a.right < b.right;
}

static sgm_status heap_push(trainer *tr, entry e) {
    if (grow((void **)&tr->heap, tr->heap_count, &tr->heap_capacity, sizeof *tr->heap))
        return SGM_EMEMORY;
    size_t i = tr->heap_count++;
    for (; i > 0 && better(e, tr->heap[(i - 1) / 2]); i = (i - 1) / 2)
        tr->heap[i] = tr->heap[(i - 1) / 2];
    tr->heap[i] = e;
    return SGM_OK;
}

static entry heap_pop(trainer *tr) {
    entry top = tr->heap[0], e = tr->heap[--tr->heap_count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < tr->heap_count; i = child) {
        if (child + 1 < tr->heap_count && better(tr->heap[child + 1], tr->heap[child]))
            child++;
        if (!better(tr->heap[child], e))
            break;
        tr->heap[i] = tr->heap[child];
    }
    tr->heap[i] = e;
    return top;
}

/* The most frequent pair, or NULL when none is left. */
static sgm_status best_pair(trainer *tr, pair **best) {
    *best = NULL;
    while (tr->heap_count) {
        entry e = heap_pop(tr);
        pair *p = pair_slot(tr->pairs, tr->pair_mask, e.left, e.right);
        if (p->count == e.count && e.count > 0) {
            *best = p;
            return SGM_OK;
        }
        e.count = p->count;
        if (e.count > 0 && heap_push(tr, e))
            return SGM_EMEMORY;
    }
    return SGM_OK;
}

/* ---- merging ---- */

static sgm_status lay_out(trainer *tr) {
    size_t n = tr->bytes.size;
    tr->symbols = sgm_alloc(n * sizeof *tr->symbols + 1);
    tr->previous = sgm_alloc(n * sizeof *tr->previous + 1);
    tr->next = sgm_alloc(n * sizeof *tr->next + 1);
    tr->word_of = sgm_alloc(n * sizeof *tr->word_of + 1);
    if (!tr->symbols || !tr->previous || !tr->next || !tr->word_of)
        return SGM_EMEMORY;
    tr->free_places = NONE;
    for (size_t w = 0; w < tr->word_count; w++)
        for (size_t i = 0, size = tr->words[w].size; i < size; i++) {
            size_t at = tr->words[w].offset + i;
            tr->symbols[at] = (unsigned char)tr->bytes.data[at];
            tr->previous[at] = i ? (uint32_t)at - 1 : NONE;
            tr->next[at] = i + 1 < size ? (uint32_t)at + 1 : NONE;
            tr->word_of[at] = (uint32_t)w;
        }
    sgm_status status = SGM_OK;
    bool made;
    for (size_t at = 0; !status && at < n; at++)
        if (tr->next[at] != NONE)
            status = pair_add(tr, (uint32_t)at, &made);
    for (size_t i = 0; !status && tr->pairs && i <= tr->pair_mask; i++)
        if (tr->pairs[i].left >= 0)
            status = heap_push(tr, (entry){tr->pairs[i].count, tr->pairs[i].left, tr->pairs[i].right});
    return status;
}

/* The pair at `at` is about to change: it stands there no longer. Its place stays listed and is skipped later. */
static void pair_drop(trainer *tr, uint32_t at) {
    pair *p = pair_slot(tr->pairs, tr->pair_mask, tr->symbols[at], tr->symbols[tr->next[at]]);
    p->count -= tr->words[tr->word_of[at]].count;
}

/* Replace `merge.left merge.right` by `merge.result` wherever it stands. New pairs go into the heap when all is done:
 * their counts grow until then. `fresh` is scratch for them. */
static sgm_status apply(trainer *tr, sgm_merge merge, uint32_t first, sgm_buffer *fresh) {
    fresh->size = 0;
    sgm_status status = SGM_OK;
    uint32_t node = first;
    while (!status && node != NONE) {
        uint32_t at = tr->places[node].at, following = tr->places[node].next;
        tr->places[node].next = tr->free_places;
        tr->free_places = node;
        node = following;
        uint32_t right = tr->symbols[at] == merge.left ? tr->next[at] : NONE;
        if (right == NONE || tr->symbols[right] != merge.right)
            continue; /* an earlier merge took it */
        uint32_t before = tr->previous[at], after = tr->next[right];
        if (before != NONE)
            pair_drop(tr, before);
        if (after != NONE)
            pair_drop(tr, right);
        tr->symbols[at] = merge.result;
        tr->symbols[right] = -1;
        tr->next[at] = after;
        if (after != NONE)
            tr->previous[after] = at;
        for (int side = 0; !status && side < 2; side++) {
            uint32_t begin = side ? at : before;
            bool made = false;
            if (begin == NONE || tr->next[begin] == NONE)
                continue;
            status = pair_add(tr, begin, &made);
            int32_t ends[2] = {tr->symbols[begin], tr->symbols[tr->next[begin]]};
            if (!status && made)
                status = sgm_buffer_add(fresh, ends, sizeof ends);
        }
    }
    for (size_t i = 0; !status && i < fresh->size; i += 2 * sizeof(int32_t)) {
        int32_t ends[2];
        memcpy(ends, fresh->data + i, sizeof ends);
        const pair *p = pair_slot(tr->pairs, tr->pair_mask, ends[0], ends[1]);
        if (p->count > 0)
            status = heap_push(tr, (entry){p->count, ends[0], ends[1]});
    }
    return status;
}

static bool stopped(const sgm_tokenizer_training *options) {
    return options->stop && *options->stop;
}

static sgm_status interrupted(sgm_error *error) {
    return sgm_fail(error, SGM_EINTERRUPTED, "nothing is left of it: run it again",
                    "interrupted while training the tokenizer");
}

static sgm_status merge_all(trainer *tr, sgm_tokenizer *t, int64_t wanted, const sgm_tokenizer_training *options,
                            sgm_error *error) {
    sgm_buffer fresh = {0}, bytes = {0};
    sgm_status status = lay_out(tr);
    for (int64_t done = 0; !status && done < wanted; done++) {
        pair *best;
        status = stopped(options) ? SGM_EINTERRUPTED : best_pair(tr, &best);
        if (status)
            break;
        if (!best) {
            status = sgm_fail(error, SGM_EARGUMENT, "take more text or a smaller vocabulary",
                              "the text gives only %lld tokens of the %lld asked for",
                              (long long)(options->vocabulary - wanted + done), (long long)options->vocabulary);
            sgm_buffer_free(&fresh);
            sgm_buffer_free(&bytes);
            return status;
        }
        sgm_merge merge = {best->left, best->right, (int32_t)(256 + done)};
        uint32_t first = best->first;
        best->first = best->last = NONE;
        best->count = 0;
        t->merges[t->merge_count++] = merge;
        sgm_pair_table_set(&t->pairs, merge, (uint32_t)done);
        bytes.size = 0;
        for (int side = 0; !status && side < 2; side++) {
            const sgm_token *token = &t->tokens[side ? merge.right : merge.left];
            status = sgm_buffer_add(&bytes, t->pool + token->offset, token->size);
        }
        if (!status)
            status = sgm_tokenizer_put(t, merge.result, bytes.data, bytes.size, SGM_TOKEN_MODEL, error);
        if (!status)
            status = apply(tr, merge, first, &fresh);
        if (!status && options->progress)
            options->progress(options->context, done + 1, wanted);
    }
    sgm_buffer_free(&fresh);
    sgm_buffer_free(&bytes);
    if (status == SGM_EINTERRUPTED)
        return interrupted(error);
    if (status == SGM_ESPACE)
        return sgm_fail(error, SGM_ESPACE, "train on a sample of the text", "more than 4 billion bytes of words");
    return status ? sgm_fail(error, status, "train on a sample of the text", "not enough memory to train a tokenizer")
                  : SGM_OK;
}

/* ---- the whole ---- */

static const char *const end_of_text_only[] = {"<|endoftext|>"};

/* Words of the texts; special tokens in them part words and are not counted. */
static sgm_status count_words(trainer *tr, const sgm_tokenizer *t, const sgm_tokenizer_training *options,
                              const char *const *texts, const size_t *sizes, size_t count, sgm_error *error) {
    sgm_splitter splitter = {
        .steps = t->steps, .step_count = t->step_count, .word = count_word, .context = tr, .error = error};
    sgm_status status = SGM_OK;
    for (size_t i = 0; !status && i < count; i++) {
        if (stopped(options))
            status = SGM_EINTERRUPTED;
        for (size_t done = 0, start, end; !status && done < sizes[i]; done = end) {
            if (!sgm_added_next(&t->plain_set, texts[i], sizes[i], done, done, &start, &end))
                start = end = sizes[i];
            status = sgm_splitter_run(&splitter, texts[i] + done, start - done);
        }
    }
    sgm_splitter_fini(&splitter);
    if (status == SGM_EINTERRUPTED)
        return interrupted(error);
    if (status == SGM_ESPACE)
        return sgm_fail(error, SGM_ESPACE, "train on a sample of the text", "more than 4 billion bytes of words");
    return status ? sgm_fail(error, status, "train on a sample of the text", "not enough memory to count words")
                  : SGM_OK;
}

static sgm_status check_specials(const char *const *specials, size_t count, sgm_error *error) {
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(specials[i]);
        if (size < 2 || sgm_utf8_run(specials[i], size) != size)
            return sgm_fail(error, SGM_EARGUMENT, "take something like <|name|>",
                            "special token %zu is too short or not UTF-8", i);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(specials[i], specials[k]))
                return sgm_fail(error, SGM_EARGUMENT, NULL, "special token '%.60s' is given twice", specials[i]);
    }
    return SGM_OK;
}

static sgm_status train(const sgm_tokenizer_training *options, const char *const *specials, size_t special_count,
                        const char *const *texts, const size_t *sizes, size_t count, sgm_tokenizer *t,
                        sgm_error *error) {
    int64_t merges = options->vocabulary - 256 - (int64_t)special_count;
    sgm_status status = sgm_tokenizer_use_pattern(t, options->pattern ? options->pattern : "qwen", error);
    for (int byte = 0; !status && byte < 256; byte++) {
        char c = (char)byte;
        status = sgm_tokenizer_put(t, byte, &c, 1, SGM_TOKEN_MODEL, error);
    }
    for (size_t i = 0; !status && i < special_count; i++)
        status = sgm_tokenizer_put_added(t,
                                         &(sgm_added_token){.id = (int32_t)(256 + merges + (int64_t)i),
                                                            .special = true,
                                                            .text = specials[i],
                                                            .size = strlen(specials[i])},
                                         error);
    if (!status)
        status = sgm_added_index(t, error);
    if (status)
        return status;
    trainer tr = {0};
    status = count_words(&tr, t, options, texts, sizes, count, error);
    if (!status)
        status = merge_all(&tr, t, merges, options, error);
    trainer_fini(&tr);
    if (!status)
        status = sgm_tokenizer_index(t, error);
    return status ? status : sgm_tokenizer_finish(t, error);
}

sgm_status sgm_tokenizer_train(const sgm_tokenizer_training *options, const char *const *texts, const size_t *sizes,
                               size_t count, sgm_tokenizer **tokenizer, sgm_error *error) {
    *tokenizer = NULL;
    const char *const *specials = options->specials ? options->specials : end_of_text_only;
    size_t special_count = options->specials ? options->special_count : 1;
    sgm_status status = check_specials(specials, special_count, error);
    if (status)
        return status;
    if (options->vocabulary < 256 + (int64_t)special_count || options->vocabulary > (1 << 24))
        return sgm_fail(error, SGM_EARGUMENT, "256 bytes and the special tokens are the least",
                        "a vocabulary of %lld tokens (%zu to %d are possible)", (long long)options->vocabulary,
                        256 + special_count, 1 << 24);
    sgm_tokenizer *t;
    size_t merges = (size_t)options->vocabulary - 256 - special_count;
    status = sgm_tokenizer_new(options->vocabulary, merges, special_count, &t, error);
    if (!status)
        status = train(options, specials, special_count, texts, sizes, count, t, error);
    if (status) {
        sgm_tokenizer_close(t);
        return status;
    }
    *tokenizer = t;
    return SGM_OK;
}
