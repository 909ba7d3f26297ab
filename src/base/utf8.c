// SPDX-License-Identifier: Apache-2.0
/* UTF-8: telling valid characters from other bytes, and writing one. */
#include "base/utf8.h"

#include <string.h>

size_t sgm_utf8_length(const char *text, size_t size) {
    const unsigned char *s = (const unsigned char *)text;
    unsigned char c = s[0];
    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    size_t length = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (size < length)
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
    size_t i = 0;
    while (i < size) {
        if (size - i >= 8) {
            uint64_t word;
            memcpy(&word, text + i, 8);
            if (!(word & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        size_t length = sgm_utf8_length(text + i, size - i);
        if (!length)
            break;
        i += length;
    }
    return i;
}

size_t sgm_utf8_invalid(const char *text, size_t size) {
    size_t invalid = 0;
    for (size_t i = 0; i < size;) {
        i += sgm_utf8_run(text + i, size - i);
        if (i < size) {
            invalid++;
            i++;
        }
    }
    return invalid;
}

bool sgm_text_is_utf8(const char *text) {
    size_t size = strlen(text);
    return sgm_utf8_run(text, size) == size;
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
