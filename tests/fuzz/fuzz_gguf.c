// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a GGUF file: refused, or every key and every tensor can be read, and its tokenizer, if it has one, used. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf.h"
#include "text/tokenizer_gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static volatile uint8_t sink;

static void touch(const void *at, size_t size) {
    const uint8_t *from = at;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum ^= from[i];
    sink = sum;
}

static void use_tokenizer(const sgm_gguf *file) {
    static const char words[] = "It's 12 tokens,\n<|endoftext|> d\xC3\xA9j\xC3\xA0 \xFF";
    sgm_tokenizer *tokenizer;
    int32_t ids[2 * sizeof words];
    size_t count, size;
    char *text;
    sgm_error error;
    if (sgm_tokenizer_from_gguf(file, &tokenizer, &error))
        return;
    if (!sgm_tokenizer_encode(tokenizer, words, sizeof words - 1, true, ids, 2 * sizeof words, &count, &error) &&
        !sgm_tokenizer_decode(tokenizer, ids, count, true, &text, &size, &error)) {
        touch(text, size);
        sgm_free(text);
    }
    sgm_tokenizer_close(tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sgm_gguf *file;
    sgm_error error;
    if (sgm_gguf_parse(bytes, size, &file, &error))
        return 0;
    const char *key, *text;
    size_t length;
    for (int64_t i = 0; (key = sgm_gguf_key_at(file, i)) != NULL; i++) {
        int64_t whole, count = 0;
        double real;
        bool truth;
        (void)(sgm_gguf_get_int(file, key, &whole) || sgm_gguf_get_float(file, key, &real) ||
               sgm_gguf_get_bool(file, key, &truth));
        if (sgm_gguf_get_text(file, key, &text, &length))
            touch(text, length);
        (void)sgm_gguf_array_length(file, key, &count);
        for (int64_t e = 0; e < count; e++) {
            if (sgm_gguf_array_text(file, key, e, &text, &length))
                touch(text, length);
            (void)(sgm_gguf_array_int(file, key, e, &whole) || sgm_gguf_array_float(file, key, e, &real));
        }
    }
    for (int64_t i = 0; i < sgm_gguf_tensor_count(file); i++) {
        const sgm_gguf_tensor *tensor = sgm_gguf_tensor_at(file, i);
        if (sgm_gguf_tensor_find(file, tensor->name) != tensor)
            abort();
        touch(tensor->data, (size_t)tensor->bytes);
    }
    use_tokenizer(file);
    sgm_gguf_close(file);
    return 0;
}
