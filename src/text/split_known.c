// SPDX-License-Identifier: Apache-2.0
/* Hand-written matchers for the split patterns of GPT-2, Qwen, cl100k, Llama 3 and o200k.
 *
 * Each gives the same pieces as its regular expression, which stands beside it in the list below and which the tests
 * run through PCRE2 on random and adversarial text. All are linear: a character is looked at a bounded number of
 * times, also in long runs of white space. */
#include "text/tokenizer.h"

#include <string.h>

#include "text/character_class.h"

/* Length of 's 't 'm 'd 're 've 'll at `text` (which begins with the apostrophe), or 0. With `any_case` the long s
 * (U+017F) is an s too, as it is to every regular expression engine. */
static size_t contraction(const char *text, size_t size, bool any_case) {
    if (size < 2)
        return 0;
    unsigned char fold = any_case ? 0x20 : 0;
    unsigned char a = (unsigned char)text[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (size < 3)
        return 0;
    if (any_case && (unsigned char)text[1] == 0xC5 && (unsigned char)text[2] == 0xBF)
        return 3;
    unsigned char b = (unsigned char)text[2] | fold;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* End of the run of characters of which a bit of `bits` is set. */
static size_t run_of(const char *text, size_t size, size_t at, unsigned bits) {
    size_t length;
    while (at < size && (sgm_class_at(text + at, &length) & bits))
        at += length;
    return at;
}

/* \s+(?!\S)|\s+ : the whole run at the end of the text, else all but its last character, else that character. */
static size_t spaces(const char *text, size_t size, size_t start) {
    size_t length, last = start, at = start;
    while (at < size && (sgm_class_at(text + at, &length) & SGM_CLASS_SPACE)) {
        last = at;
        at += length;
    }
    return at == size || last == start ? at : last;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ ; with `whole_at_end` \s+\z before them. */
static size_t lines_or_spaces(const char *text, size_t size, size_t start, bool whole_at_end) {
    size_t length, last = start, at = start, after_newline = 0;
    for (unsigned c; at < size && ((c = sgm_class_at(text + at, &length)) & SGM_CLASS_SPACE); at += length) {
        last = at;
        if (c & SGM_CLASS_NEWLINE)
            after_newline = at + length;
    }
    if (whole_at_end && at == size)
        return at;
    if (after_newline)
        return after_newline;
    return at == size || last == start ? at : last;
}

static size_t next_gpt2(const char *text, size_t size, size_t start) {
    if (text[start] == '\'') {
        size_t n = contraction(text + start, size - start, false);
        if (n)
            return start + n;
    }
    size_t at = start, length;
    unsigned c = sgm_class_at(text + at, &length);
    if (text[at] == ' ' && at + 1 < size) {
        c = sgm_class_at(text + at + 1, &length);
        at++;
    }
    if (c & SGM_CLASS_SPACE)
        return spaces(text, size, start);
    return run_of(text, size, at + length, c & (SGM_CLASS_LETTER | SGM_CLASS_NUMBER | SGM_CLASS_OTHER));
}

static size_t digits(const char *text, size_t size, size_t start, int most) {
    size_t at = start, length;
    for (int i = 0; i < most && at < size && (sgm_class_at(text + at, &length) & SGM_CLASS_NUMBER); i++)
        at += length;
    return at;
}

/* What Qwen, cl100k, Llama 3 and o200k have in common after their words: numbers, punctuation, white space. */
static size_t next_other(const char *text, size_t size, size_t start, int most_digits, bool slash, bool whole_at_end) {
    size_t length, at = start;
    unsigned c = sgm_class_at(text + start, &length);
    if (c & SGM_CLASS_NUMBER)
        return digits(text, size, start, most_digits);
    if (text[start] == ' ' && start + 1 < size) {
        size_t next;
        unsigned after = sgm_class_at(text + start + 1, &next);
        if (after & SGM_CLASS_OTHER) {
            c = after;
            at = start + 1;
            length = next;
        }
    }
    if (c & SGM_CLASS_OTHER) {
        at = run_of(text, size, at + length, SGM_CLASS_OTHER);
        while (at < size && (text[at] == '\r' || text[at] == '\n' || (slash && text[at] == '/')))
            at++;
        return at;
    }
    return lines_or_spaces(text, size, start, whole_at_end);
}

static size_t next_qwen_like(const char *text, size_t size, size_t start, int most_digits, bool whole_at_end) {
    if (text[start] == '\'') {
        size_t n = contraction(text + start, size - start, true);
        if (n)
            return start + n;
    }
    size_t length;
    unsigned c = sgm_class_at(text + start, &length);
    if (c & SGM_CLASS_LETTER)
        return run_of(text, size, start + length, SGM_CLASS_LETTER);
    if (!(c & (SGM_CLASS_NUMBER | SGM_CLASS_NEWLINE)) && start + length < size) {
        size_t next;
        if (sgm_class_at(text + start + length, &next) & SGM_CLASS_LETTER)
            return run_of(text, size, start + length + next, SGM_CLASS_LETTER);
    }
    return next_other(text, size, start, most_digits, false, whole_at_end);
}

static size_t next_qwen(const char *text, size_t size, size_t start) {
    return next_qwen_like(text, size, start, 1, false);
}
static size_t next_llama3(const char *text, size_t size, size_t start) {
    return next_qwen_like(text, size, start, 3, false);
}
static size_t next_cl100k(const char *text, size_t size, size_t start) {
    return next_qwen_like(text, size, start, 3, true);
}

/* [upper]*[lower]+ at `at`, where caseless letters and marks belong to both sets, or 0. A greedy engine gives back
 * characters of the first run until the second can begin: at the last one that belongs to both. *upper_end: the end of
 * the first run. */
static size_t cased_word(const char *text, size_t size, size_t at, size_t *upper_end) {
    size_t length, after_both = 0;
    unsigned c = 0;
    while (at < size && ((c = sgm_class_at(text + at, &length)) & SGM_CLASS_UPPER)) {
        at += length;
        if (c & SGM_CLASS_LOWER)
            after_both = at;
    }
    *upper_end = at;
    if (at < size && (c & SGM_CLASS_LOWER))
        return run_of(text, size, at, SGM_CLASS_LOWER);
    return after_both;
}

static size_t with_contraction(const char *text, size_t size, size_t at) {
    return at < size && text[at] == '\'' ? at + contraction(text + at, size - at, true) : at;
}

static size_t next_o200k(const char *text, size_t size, size_t start) {
    size_t length, upper_end;
    unsigned c = sgm_class_at(text + start, &length);
    if (c & SGM_CLASS_LETTER) {
        size_t end = cased_word(text, size, start, &upper_end);
        return with_contraction(text, size, end ? end : upper_end);
    }
    if (!(c & (SGM_CLASS_NUMBER | SGM_CLASS_NEWLINE))) {
        size_t after = start + length; /* the optional character before a word */
        size_t end = cased_word(text, size, after, &upper_end);
        if (!end && (c & SGM_CLASS_LOWER)) { /* a mark: it may also begin the word itself */
            size_t unused;
            end = cased_word(text, size, start, &unused);
        }
        if (!end && upper_end > after)
            end = upper_end;
        if (end)
            return with_contraction(text, size, end);
    }
    return next_other(text, size, start, 3, true, false);
}

#define QWEN_LIKE(digits, at_end)                                                                                      \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits                                         \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" at_end "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define O200K_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_TAIL "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

const sgm_known_pattern sgm_known_patterns[] = {
    {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", next_gpt2},
    {"qwen", QWEN_LIKE("", ""), next_qwen},
    {"llama3", QWEN_LIKE("{1,3}", ""), next_llama3},
    {"cl100k", QWEN_LIKE("{1,3}", "\\s+\\z|"), next_cl100k},
    {"o200k",
     "[^\\r\\n\\p{L}\\p{N}]?" O200K_UPPER "*" O200K_LOWER "+" O200K_TAIL "|[^\\r\\n\\p{L}\\p{N}]?" O200K_UPPER
     "+" O200K_LOWER "*" O200K_TAIL "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     next_o200k},
};
const size_t sgm_known_pattern_count = sizeof sgm_known_patterns / sizeof *sgm_known_patterns;

const sgm_known_pattern *sgm_known_pattern_named(const char *name) {
    for (size_t i = 0; i < sgm_known_pattern_count; i++)
        if (!strcmp(sgm_known_patterns[i].name, name))
            return &sgm_known_patterns[i];
    return NULL;
}
