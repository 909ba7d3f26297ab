// SPDX-License-Identifier: Apache-2.0
/* UTF-8 and the character classes the split patterns speak of.
 *
 * Everything behind the splitting works on runs that are known to be valid UTF-8; `sgm_utf8_run` finds them. Classes of
 * characters beyond ASCII come from utf8proc. */
#ifndef SGM_TEXT_UTF8_H
#define SGM_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the longest prefix that is valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
size_t sgm_utf8_run(const char *text, size_t size);

/* The code point at `text`, which must be valid; *length gets its bytes. */
static inline uint32_t sgm_utf8_decode(const char *text, size_t *length) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *length = 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *length = 2;
        return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    }
    if (s[0] < 0xF0) {
        *length = 3;
        return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    }
    *length = 4;
    return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 | (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3F);
}

/* Writes 1 to 4 bytes, returns how many. */
size_t sgm_utf8_encode(uint32_t code, char out[4]);

/* Class bits; a character has exactly one of LETTER, NUMBER, SPACE, OTHER, and finer bits within. */
enum {
    SGM_CLASS_LETTER = 1,   /* \p{L} */
    SGM_CLASS_NUMBER = 2,   /* \p{N} */
    SGM_CLASS_SPACE = 4,    /* \s: White_Space */
    SGM_CLASS_OTHER = 8,    /* none of these */
    SGM_CLASS_NEWLINE = 16, /* \r or \n (with SPACE) */
    SGM_CLASS_UPPER = 32,   /* \p{Lu} \p{Lt} \p{Lm} \p{Lo} \p{M} */
    SGM_CLASS_LOWER = 64    /* \p{Ll} \p{Lm} \p{Lo} \p{M} */
};
extern const uint8_t sgm_ascii_class[128];
unsigned sgm_class_of(uint32_t code); /* any code point */

/* Class of the valid character at `text`. */
static inline unsigned sgm_class_at(const char *text, size_t *length) {
    unsigned char c = (unsigned char)*text;
    if (c < 0x80) {
        *length = 1;
        return sgm_ascii_class[c];
    }
    return sgm_class_of(sgm_utf8_decode(text, length));
}

bool sgm_is_word_character(uint32_t code); /* \w: Alphabetic, marks, decimal digits, connectors, joiners */

/* The character that ends at `text[end]` or begins there, in text that may be invalid: -1 when there is none or it is
 * not valid. */
int64_t sgm_character_before(const char *text, size_t end, size_t *length);
int64_t sgm_character_after(const char *text, size_t size, size_t start, size_t *length);

#endif
