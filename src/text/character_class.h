// SPDX-License-Identifier: Apache-2.0
/* The character classes the split patterns speak of.
 *
 * Everything behind the splitting works on runs that are known to be valid UTF-8; `sgm_utf8_run` finds them. Classes of
 * characters beyond ASCII come from utf8proc. */
#ifndef SGM_TEXT_CHARACTER_CLASS_H
#define SGM_TEXT_CHARACTER_CLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utf8.h"

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
