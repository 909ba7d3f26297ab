// SPDX-License-Identifier: Apache-2.0
/* Words to ids by byte pair merges: always the pair of lowest rank, leftmost first (Sennrich et al., arXiv 1508.07909).
 *
 * Most words are a token as they stand. The others are merged in a small array; long ones by a linked list and a heap,
 * so that a run of n letters costs O(n log n). Words met before in the same call are copied from a small cache. */
#include <string.h>

#include "text/tokenizer.h"

#define SHORT_WORD 48 /* bytes; up to here scanning the array beats the heap */
#define CACHED_BYTES 23
#define CACHED_IDS 8

typedef struct cache_entry { /* one cache line */
    uint64_t hash;
    uint8_t size, count; /* size 0: empty */
    char bytes[CACHED_BYTES - 1];
    int32_t ids[CACHED_IDS];
} cache_entry;
_Static_assert(sizeof(cache_entry) == 64, "one cache line");

typedef struct node { /* a symbol of a long word; id < 0 once it was merged away */
    int32_t id;
    int32_t previous, next; /* -1 at the ends */
} node;

typedef struct candidate { /* a pair that may be merged; stale when its result no longer fits */
    uint32_t rank;
    int32_t at;
    int32_t result;
} candidate;

struct sgm_bpe {
    const sgm_tokenizer *tokenizer;
    cache_entry *cache;
    size_t cache_mask;
    node *nodes;
    size_t node_capacity;
    candidate *heap;
    size_t heap_capacity;
};

sgm_status sgm_bpe_new(const sgm_tokenizer *tokenizer, size_t text_size, sgm_bpe **bpe) {
    *bpe = NULL;
    sgm_bpe *made = sgm_alloc(sizeof *made);
    if (!made)
        return SGM_EMEMORY;
    made->tokenizer = tokenizer;
    size_t entries = 0; /* in a short text nothing repeats often enough to pay for clearing a cache */
    if (text_size >= 4096)
        for (entries = 64; entries < text_size / 64 && entries < 32768;)
            entries *= 2;
    if (entries) {
        made->cache = sgm_alloc(entries * sizeof *made->cache);
        if (!made->cache) {
            sgm_free(made);
            return SGM_EMEMORY;
        }
        made->cache_mask = entries - 1;
    }
    *bpe = made;
    return SGM_OK;
}

void sgm_bpe_free(sgm_bpe *bpe) {
    if (!bpe)
        return;
    sgm_free(bpe->cache);
    sgm_free(bpe->nodes);
    sgm_free(bpe->heap);
    sgm_free(bpe);
}

static size_t merge_short(const sgm_tokenizer *t, const char *bytes, size_t size, int32_t *ids) {
    uint32_t ranks[SHORT_WORD];
    int32_t results[SHORT_WORD];
    for (size_t i = 0; i < size; i++)
        ids[i] = t->byte_ids[(unsigned char)bytes[i]];
    for (size_t i = 0; i + 1 < size; i++) {
        const sgm_pair_slot *slot = sgm_pair_find(&t->pairs, ids[i], ids[i + 1]);
        ranks[i] = slot->rank;
        results[i] = slot->result;
    }
    size_t n = size;
    while (n > 1) {
        size_t best = 0;
        uint32_t lowest = ranks[0];
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < lowest) {
                lowest = ranks[i];
                best = i;
            }
        if (lowest == UINT32_MAX)
            break;
        ids[best] = results[best];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        memmove(ranks + best, ranks + best + 1, (n - best - 1) * sizeof *ranks);
        memmove(results + best, results + best + 1, (n - best - 1) * sizeof *results);
        if (best + 1 < n) {
            const sgm_pair_slot *slot = sgm_pair_find(&t->pairs, ids[best], ids[best + 1]);
            ranks[best] = slot->rank;
            results[best] = slot->result;
        }
        if (best > 0) {
            const sgm_pair_slot *slot = sgm_pair_find(&t->pairs, ids[best - 1], ids[best]);
            ranks[best - 1] = slot->rank;
            results[best - 1] = slot->result;
        }
    }
    return n;
}

static bool before(candidate a, candidate b) {
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void push(candidate *heap, size_t *count, candidate c) {
    size_t i = (*count)++;
    while (i > 0 && before(c, heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
}

static candidate pop(candidate *heap, size_t *count) {
    candidate top = heap[0], c = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], c))
            break;
        heap[i] = heap[child];
    }
    heap[i] = c;
    return top;
}

static sgm_status reserve(sgm_bpe *bpe, size_t size) {
    if (size <= bpe->node_capacity)
        return SGM_OK;
    sgm_free(bpe->nodes);
    sgm_free(bpe->heap);
    bpe->node_capacity = 0;
    bpe->nodes = sgm_alloc(size * sizeof *bpe->nodes);
    bpe->heap = sgm_alloc(3 * size * sizeof *bpe->heap); /* every merge takes one candidate and adds two at most */
    if (!bpe->nodes || !bpe->heap)
        return SGM_EMEMORY;
    bpe->node_capacity = size;
    return SGM_OK;
}

static void consider(sgm_bpe *bpe, size_t *count, int32_t at) {
    const node *left = &bpe->nodes[at];
    const sgm_pair_slot *slot = sgm_pair_find(&bpe->tokenizer->pairs, left->id, bpe->nodes[left->next].id);
    if (slot->rank != UINT32_MAX)
        push(bpe->heap, count, (candidate){slot->rank, at, slot->result});
}

static sgm_status merge_long(sgm_bpe *bpe, const char *bytes, size_t size, int32_t *ids, size_t *count) {
    if (size > INT32_MAX / 4)
        return SGM_EUNSUPPORTED;
    sgm_status status = reserve(bpe, size);
    if (status)
        return status;
    node *nodes = bpe->nodes;
    int32_t n = (int32_t)size;
    for (int32_t i = 0; i < n; i++)
        nodes[i] = (node){bpe->tokenizer->byte_ids[(unsigned char)bytes[i]], i - 1, i + 1 < n ? i + 1 : -1};
    size_t waiting = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        consider(bpe, &waiting, i);
    while (waiting) {
        candidate c = pop(bpe->heap, &waiting);
        node *left = &nodes[c.at];
        if (left->id < 0 || left->next < 0)
            continue;
        node *right = &nodes[left->next];
        const sgm_pair_slot *slot = sgm_pair_find(&bpe->tokenizer->pairs, left->id, right->id);
        if (slot->rank != c.rank || slot->result != c.result)
            continue;
        left->id = c.result;
        right->id = -1;
        left->next = right->next;
        if (right->next >= 0) {
            nodes[right->next].previous = c.at;
            consider(bpe, &waiting, c.at);
        }
        if (left->previous >= 0)
            consider(bpe, &waiting, left->previous);
    }
    *count = 0;
    for (int32_t i = 0; i >= 0; i = nodes[i].next)
        ids[(*count)++] = nodes[i].id;
    return SGM_OK;
}

sgm_status sgm_bpe_merge(sgm_bpe *bpe, const char *bytes, size_t size, int32_t *ids, size_t *count) {
    if (size > SHORT_WORD)
        return merge_long(bpe, bytes, size, ids, count);
    *count = merge_short(bpe->tokenizer, bytes, size, ids);
    return SGM_OK;
}

static void emit(sgm_id_sink *sink, const int32_t *ids, size_t count) {
    size_t room = sink->count < sink->capacity ? sink->capacity - sink->count : 0;
    if (count <= room)
        memcpy(sink->ids + sink->count, ids, count * sizeof *ids);
    else if (room)
        memcpy(sink->ids + sink->count, ids, room * sizeof *ids);
    sink->count += count;
}

static sgm_status long_word(sgm_bpe *bpe, const char *bytes, size_t size, sgm_id_sink *sink) {
    int32_t *ids = sgm_alloc(size * sizeof *ids);
    if (!ids)
        return SGM_EMEMORY;
    size_t count;
    sgm_status status = merge_long(bpe, bytes, size, ids, &count);
    if (!status)
        emit(sink, ids, count);
    sgm_free(ids);
    return status;
}

sgm_status sgm_bpe_word(sgm_bpe *bpe, const char *bytes, size_t size, sgm_id_sink *sink) {
    const sgm_tokenizer *t = bpe->tokenizer;
    int32_t whole = size == 1 ? t->byte_ids[(unsigned char)*bytes] : sgm_tokenizer_word(t, bytes, size);
    if (whole >= 0 && (size == 1 || (t->tokens[whole].flags & SGM_TOKEN_WHOLE))) {
        emit(sink, &whole, 1);
        return SGM_OK;
    }
    if (size > SHORT_WORD)
        return long_word(bpe, bytes, size, sink);
    int32_t ids[SHORT_WORD];
    if (!bpe->cache || size >= CACHED_BYTES) {
        emit(sink, ids, merge_short(t, bytes, size, ids));
        return SGM_OK;
    }
    uint64_t hash = sgm_text_hash(bytes, size);
    cache_entry *entry = &bpe->cache[hash & bpe->cache_mask];
    if (entry->hash == hash && entry->size == size && !memcmp(entry->bytes, bytes, size)) {
        emit(sink, entry->ids, entry->count);
        return SGM_OK;
    }
    size_t count = merge_short(t, bytes, size, ids);
    if (count <= CACHED_IDS) {
        entry->hash = hash;
        entry->size = (uint8_t)size;
        entry->count = (uint8_t)count;
        memcpy(entry->bytes, bytes, size);
        memcpy(entry->ids, ids, count * sizeof *ids);
    }
    emit(sink, ids, count);
    return SGM_OK;
}
