// SPDX-License-Identifier: Apache-2.0
/* UTF-8 as Unicode defines it (version 15, table 3-7): no surrogates, no overlong forms, nothing past U+10FFFF. The one
 * place of the library that knows its bits. */
#ifndef SGM_BASE_UTF8_H
#define SGM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the valid character at `text`, of which `size` >= 1 bytes are left; 0 when there is none. */
size_t sgm_utf8_length(const char *text, size_t size);
/* Length of the longest prefix that is valid. */
size_t sgm_utf8_run(const char *text, size_t size);
/* Bytes that are not part of a valid character. */
size_t sgm_utf8_invalid(const char *text, size_t size);
bool sgm_text_is_utf8(const char *text); /* up to its NUL */
/* Bytes of the byte-order mark that some editors put before a text; 0: there is none. libyaml, told that a text is UTF-8, would
 * take it for a column. */
static inline size_t sgm_byte_order_mark(const char *text, size_t size) {
    return size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

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

#endif
