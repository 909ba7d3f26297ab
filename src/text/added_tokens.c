// SPDX-License-Identifier: Apache-2.0
/* Added tokens in a text: the leftmost, and of those the longest. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"
#include "text/character_class.h"

static int by_match(const void *left, const void *right) {
    const sgm_added_token *a = *(const sgm_added_token *const *)left, *b = *(const sgm_added_token *const *)right;
    size_t n = a->match_size < b->match_size ? a->match_size : b->match_size;
    int order = memcmp(a->match, b->match, n);
    if (order)
        return order;
    if (a->match_size != b->match_size)
        return a->match_size < b->match_size ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static sgm_status build(sgm_tokenizer *t, sgm_added_set *set, bool normalized) {
    set->sorted = sgm_alloc((t->added_count + 1) * sizeof *set->sorted);
    if (!set->sorted)
        return SGM_EMEMORY;
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].normalized == normalized && t->added[i].match_size) {
            set->sorted[set->count++] = &t->added[i];
            set->first[(unsigned char)t->added[i].match[0]] = true;
        }
    qsort(set->sorted, set->count, sizeof *set->sorted, by_match);
    return SGM_OK;
}

sgm_status sgm_added_index(sgm_tokenizer *t, sgm_error *error) {
    sgm_status status = SGM_OK;
    sgm_free(t->plain_set.sorted);
    sgm_free(t->normalized_set.sorted);
    t->plain_set = t->normalized_set = (sgm_added_set){0};
    for (size_t i = 0; !status && i < t->added_count; i++) {
        sgm_added_token *a = &t->added[i];
        sgm_free(a->match);
        a->match = NULL;
        sgm_buffer match = {0};
        status = a->normalized && t->nfc ? sgm_nfc(a->text, a->size, &match) : sgm_buffer_add(&match, a->text, a->size);
        a->match = match.data;
        a->match_size = match.size;
    }
    if (!status)
        status = build(t, &t->plain_set, false);
    if (!status)
        status = build(t, &t->normalized_set, true);
    return status ? sgm_fail(error, status, NULL, "not enough memory for %zu added tokens", t->added_count) : SGM_OK;
}

void sgm_added_fini(sgm_tokenizer *t) {
    for (size_t i = 0; i < t->added_count; i++) {
        sgm_free((char *)t->added[i].text);
        sgm_free(t->added[i].match);
    }
    sgm_free(t->added);
    sgm_free(t->plain_set.sorted);
    sgm_free(t->normalized_set.sorted);
}

/* The first of sorted[low, high), which agree in `depth` bytes, whose next byte is at least `byte`. */
static size_t lower(const sgm_added_set *set, size_t low, size_t high, size_t depth, unsigned byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const sgm_added_token *token = set->sorted[middle];
        if (token->match_size <= depth || (unsigned char)token->match[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const sgm_added_token *longest_at(const sgm_added_set *set, const char *text, size_t size) {
    const sgm_added_token *best = NULL;
    size_t low = 0, high = set->count;
    for (size_t depth = 0; depth < size && low < high; depth++) {
        unsigned byte = (unsigned char)text[depth];
        low = lower(set, low, high, depth, byte);
        high = lower(set, low, high, depth, byte + 1);
        if (low < high && set->sorted[low]->match_size == depth + 1)
            best = set->sorted[low];
    }
    return best;
}

static bool word_before(const char *text, size_t at) {
    size_t length;
    int64_t code = sgm_character_before(text, at, &length);
    return code >= 0 && sgm_is_word_character((uint32_t)code);
}

static bool word_after(const char *text, size_t size, size_t at) {
    size_t length;
    int64_t code = sgm_character_after(text, size, at, &length);
    return code >= 0 && sgm_is_word_character((uint32_t)code);
}

static bool is_space(int64_t code) {
    return code >= 0 && (sgm_class_of((uint32_t)code) & SGM_CLASS_SPACE);
}

const sgm_added_token *sgm_added_next(const sgm_added_set *set, const char *text, size_t size, size_t from,
                                      size_t floor, size_t *start, size_t *end) {
    if (!set->count)
        return NULL;
    for (size_t at = from; at < size; at++) {
        if (!set->first[(unsigned char)text[at]])
            continue;
        const sgm_added_token *token = longest_at(set, text + at, size - at);
        if (!token)
            continue;
        size_t stop = at + token->match_size, length;
        if (token->single_word && (word_before(text, at) || word_after(text, size, stop))) {
            at = stop - 1; /* the match is spent, as it is in Hugging Face's scan */
            continue;
        }
        *start = at;
        *end = stop;
        if (token->left_strip)
            while (*start > floor && is_space(sgm_character_before(text, *start, &length)) && *start - length >= floor)
                *start -= length;
        if (token->right_strip)
            while (is_space(sgm_character_after(text, size, *end, &length)))
                *end += length;
        return token;
    }
    return NULL;
}
