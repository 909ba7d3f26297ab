// SPDX-License-Identifier: Apache-2.0
/* UTF-8 validation and character classes. */
#include "text/utf8.h"

#include <string.h>
#include <utf8proc.h>

/* Bytes of the valid character at s, or 0. */
static size_t character_length(const unsigned char *s, size_t n) {
    unsigned char c = s[0];
    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    size_t length = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (n < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) || (c == 0xF0 && s[1] < 0x90) ||
        (c == 0xF4 && s[1] > 0x8F))
        return 0; /* overlong, surrogate, beyond U+10FFFF */
    return length;
}

size_t sgm_utf8_run(const char *text, size_t size) {
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < size) {
        if (size - i >= 8) {
            uint64_t word;
            memcpy(&word, s + i, 8);
            if (!(word & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        size_t length = character_length(s + i, size - i);
        if (!length)
            break;
        i += length;
    }
    return i;
}

size_t sgm_utf8_encode(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

#define O SGM_CLASS_OTHER
#define S SGM_CLASS_SPACE
#define R (SGM_CLASS_SPACE | SGM_CLASS_NEWLINE)
#define N SGM_CLASS_NUMBER
#define U (SGM_CLASS_LETTER | SGM_CLASS_UPPER)
#define L (SGM_CLASS_LETTER | SGM_CLASS_LOWER)
const uint8_t sgm_ascii_class[128] = {O, O, O, O, O, O, O, O, O, S, R, S, S, R, O, O, O, O, O, O, O, O, O, O, O, O,
                                      O, O, O, O, O, O, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N,
                                      N, N, N, N, N, N, O, O, O, O, O, O, O, U, U, U, U, U, U, U, U, U, U, U, U, U,
                                      U, U, U, U, U, U, U, U, U, U, U, U, U, O, O, O, O, O, O, L, L, L, L, L, L, L,
                                      L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O};
#undef O
#undef S
#undef R
#undef N
#undef U
#undef L

unsigned sgm_class_of(uint32_t code) {
    if (code < 0x80)
        return sgm_ascii_class[code];
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return SGM_CLASS_LETTER | SGM_CLASS_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return SGM_CLASS_LETTER | SGM_CLASS_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return SGM_CLASS_LETTER | SGM_CLASS_UPPER | SGM_CLASS_LOWER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return SGM_CLASS_OTHER | SGM_CLASS_UPPER | SGM_CLASS_LOWER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return SGM_CLASS_NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SGM_CLASS_SPACE;
    default:
        return code == 0x85 ? SGM_CLASS_SPACE : SGM_CLASS_OTHER; /* next line: white space, though a control */
    }
}

bool sgm_is_word_character(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* the joiners and the circled, squared letters that count as alphabetic */
        return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
               (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
               (code >= 0x1F170 && code <= 0x1F189);
    }
}

int64_t sgm_character_after(const char *text, size_t size, size_t start, size_t *length) {
    if (start >= size)
        return -1;
    size_t n = character_length((const unsigned char *)text + start, size - start);
    if (!n)
        return -1;
    return sgm_utf8_decode(text + start, length);
}

int64_t sgm_character_before(const char *text, size_t end, size_t *length) {
    for (size_t back = 1; back <= 4 && back <= end; back++) {
        if (((unsigned char)text[end - back] & 0xC0) == 0x80)
            continue;
        int64_t code = sgm_character_after(text, end, end - back, length);
        return code >= 0 && *length == back ? code : -1;
    }
    return -1;
}
