// SPDX-License-Identifier: Apache-2.0
/* The pair table and the word table of a tokenizer. */
#include <string.h>

#include "text/tokenizer.h"

uint64_t sgm_text_hash(const char *bytes, size_t size) {
    const uint64_t k = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t h = (uint64_t)size * k, word;
    while (size >= 8) {
        memcpy(&word, bytes, 8);
        h = (h ^ word) * k;
        h ^= h >> 32;
        bytes += 8;
        size -= 8;
    }
    if (size >= 4) { /* two reads that overlap cover 4 to 7 bytes */
        uint32_t a, b;
        memcpy(&a, bytes, 4);
        memcpy(&b, bytes + size - 4, 4);
        h = (h ^ ((uint64_t)a << 32 | b)) * k;
    } else if (size) {
        word = (uint64_t)(unsigned char)bytes[0] << 16 | (uint64_t)(unsigned char)bytes[size / 2] << 8 |
               (unsigned char)bytes[size - 1];
        h = (h ^ word) * k;
    }
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ h >> 32;
}

static size_t slots_for(size_t entries) {
    size_t slots = 16;
    while (slots < entries * 2 + 1)
        slots *= 2;
    return slots;
}

sgm_status sgm_pair_table_init(sgm_pair_table *table, size_t pairs) {
    size_t slots = slots_for(pairs);
    table->slots = sgm_alloc(slots * sizeof *table->slots);
    if (!table->slots)
        return SGM_EMEMORY;
    table->mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        table->slots[i].rank = UINT32_MAX;
    return SGM_OK;
}

void sgm_pair_table_set(sgm_pair_table *table, sgm_merge merge, uint32_t rank) {
    sgm_pair_slot *slot = &table->slots[sgm_pair_find(table, merge.left, merge.right) - table->slots];
    if (slot->rank == UINT32_MAX)
        table->used++;
    *slot = (sgm_pair_slot){merge.left, merge.right, rank, merge.result};
}

sgm_status sgm_tokenizer_index(sgm_tokenizer *t, sgm_error *error) {
    size_t count = 0;
    for (int64_t id = 0; id < t->vocabulary; id++)
        count += (t->tokens[id].flags & SGM_TOKEN_MODEL) != 0;
    size_t slots = slots_for(count);
    sgm_free(t->words.slots);
    t->words.slots = sgm_alloc(slots * sizeof *t->words.slots);
    if (!t->words.slots)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a vocabulary of %zu tokens", count);
    t->words.mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        t->words.slots[i].id = -1;
    for (int64_t id = 0; id < t->vocabulary; id++) {
        const sgm_token *token = &t->tokens[id];
        if (!(token->flags & SGM_TOKEN_MODEL) || (token->flags & SGM_TOKEN_LITERAL) || !token->size)
            continue;
        const char *bytes = t->pool + token->offset;
        if (sgm_tokenizer_word(t, bytes, token->size) >= 0)
            return sgm_fail(error, SGM_EFORMAT, NULL, "tokens %d and %d of the vocabulary are the same bytes",
                            sgm_tokenizer_word(t, bytes, token->size), (int)id);
        uint64_t hash = sgm_text_hash(bytes, token->size);
        size_t i = (size_t)hash & t->words.mask;
        while (t->words.slots[i].id >= 0)
            i = (i + 1) & t->words.mask;
        t->words.slots[i] = (sgm_word_slot){(uint32_t)(hash >> 32), (int32_t)id};
    }
    return SGM_OK;
}

int32_t sgm_tokenizer_word(const sgm_tokenizer *t, const char *bytes, size_t size) {
    uint64_t hash = sgm_text_hash(bytes, size);
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = (size_t)hash & t->words.mask;; i = (i + 1) & t->words.mask) {
        const sgm_word_slot *slot = &t->words.slots[i];
        if (slot->id < 0)
            return -1;
        if (slot->tag == tag) {
            const sgm_token *token = &t->tokens[slot->id];
            if (token->size == size && !memcmp(t->pool + token->offset, bytes, size))
                return slot->id;
        }
    }
}
