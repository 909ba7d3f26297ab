// SPDX-License-Identifier: Apache-2.0
/* Classes of characters, and the characters around a place. */
#include "text/character_class.h"

#include <utf8proc.h>

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
    size_t n = sgm_utf8_length(text + start, size - start);
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
