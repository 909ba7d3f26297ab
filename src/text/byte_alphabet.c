// SPDX-License-Identifier: Apache-2.0
/* The alphabet in which byte-level BPE files spell bytes (GPT-2): printable Latin-1 characters stand for themselves,
 * the 68 other bytes, in order, for U+0100 and up. */
#include "text/tokenizer.h"
#include "text/character_class.h"

static bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

uint32_t sgm_alphabet_character(unsigned char byte) {
    if (stands_for_itself(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte; /* 0..32 are the first 33 */
    if (byte <= 0xA0)
        return 0x100u + 33 + (byte - 0x7Fu); /* 127..160 */
    return 0x100u + 67;                      /* 173 */
}

static int byte_of(uint32_t code) {
    if (code < 0x100)
        return stands_for_itself(code) ? (int)code : -1;
    code -= 0x100;
    if (code < 33)
        return (int)code;
    if (code < 67)
        return (int)(0x7F + code - 33);
    return code == 67 ? 0xAD : -1;
}

bool sgm_alphabet_to_bytes(const char *text, size_t size, char *bytes, size_t *count) {
    size_t n = 0;
    for (size_t i = 0, length; i < size; i += length) {
        int64_t code = sgm_character_after(text, size, i, &length);
        int byte = code < 0 ? -1 : byte_of((uint32_t)code);
        if (byte < 0)
            return false;
        bytes[n++] = (char)byte;
    }
    *count = n;
    return true;
}

sgm_status sgm_alphabet_from_bytes(const char *bytes, size_t size, sgm_buffer *out) {
    for (size_t i = 0; i < size; i++) {
        char utf8[4];
        size_t n = sgm_utf8_encode(sgm_alphabet_character((unsigned char)bytes[i]), utf8);
        sgm_status status = sgm_buffer_add(out, utf8, n);
        if (status)
            return status;
    }
    return SGM_OK;
}
