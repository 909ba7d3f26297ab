// SPDX-License-Identifier: Apache-2.0
/* Prints the ids of texts, for comparing with other tokenizers.
 *
 * encode_ids TOKENIZER [ENCODING] < TEXTS : texts are separated by a NUL byte; one line of ids for each.
 * TOKENIZER is a tokenizer.json, a folder with one, or with ENCODING (r50k …) a tiktoken rank file.
 * encode_ids save FOLDER TOKENIZER [ENCODING] : loads and saves.
 * encode_ids train VOCABULARY PATTERN FOLDER < TEXT : trains a tokenizer and saves it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sigmoe/text.h"

static char *read_all(size_t *size) {
    size_t capacity = 1 << 16;
    char *data = malloc(capacity);
    *size = 0;
    for (size_t n; data && (n = fread(data + *size, 1, capacity - *size, stdin)) > 0;) {
        *size += n;
        if (*size == capacity) {
            char *larger = realloc(data, capacity *= 2);
            if (!larger)
                free(data);
            data = larger;
        }
    }
    return data;
}

static int fail(const sgm_error *error) {
    fprintf(stderr, "error: %s\n%s%s\n", error->message, *error->hint ? "hint: " : "", error->hint);
    return 1;
}

static int train(const char *vocabulary, const char *pattern, const char *folder) {
    sgm_error error = {0};
    size_t size;
    char *data = read_all(&size);
    if (!data)
        return 1;
    const char *texts[] = {data};
    sgm_tokenizer *tokenizer = NULL;
    sgm_tokenizer_training options = {.vocabulary = atoi(vocabulary), .pattern = pattern};
    sgm_status status = sgm_tokenizer_train(&options, texts, &size, 1, &tokenizer, &error);
    if (!status)
        status = sgm_tokenizer_save(tokenizer, folder, &error);
    sgm_tokenizer_close(tokenizer);
    free(data);
    return status ? fail(&error) : 0;
}

static int encode(const sgm_tokenizer *tokenizer, const char *data, size_t size) {
    sgm_error error = {0};
    for (size_t at = 0; at <= size;) {
        const char *end = at < size ? memchr(data + at, 0, size - at) : NULL;
        size_t n = end ? (size_t)(end - data) - at : size - at, capacity = 3 * n + 8, count;
        int32_t *ids = malloc(capacity * sizeof *ids);
        if (!ids)
            return 1;
        sgm_status status = sgm_tokenizer_encode(tokenizer, data + at, n, true, ids, capacity, &count, &error);
        for (size_t i = 0; !status && i < count; i++)
            printf(i ? " %d" : "%d", ids[i]);
        putchar('\n');
        free(ids);
        if (status)
            return fail(&error);
        at += n + 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "train"))
        return train(argv[2], argv[3], argv[4]);
    const char *folder = argc > 3 && !strcmp(argv[1], "save") ? argv[2] : NULL;
    char **rest = folder ? argv + 3 : argv + 1;
    int left = argc - (int)(rest - argv);
    if (left < 1 || left > 2) {
        fprintf(stderr, "usage: encode_ids TOKENIZER [ENCODING] < TEXTS\n"
                        "       encode_ids save FOLDER TOKENIZER [ENCODING]\n"
                        "       encode_ids train VOCABULARY PATTERN FOLDER < TEXT\n");
        return 2;
    }
    sgm_error error = {0};
    sgm_tokenizer *tokenizer;
    sgm_status status = left == 2 ? sgm_tokenizer_open_tiktoken(rest[0], rest[1], &tokenizer, &error)
                                  : sgm_tokenizer_open(rest[0], &tokenizer, &error);
    if (!status && folder)
        status = sgm_tokenizer_save(tokenizer, folder, &error);
    int result = status ? fail(&error) : 0;
    if (!status && !folder) {
        size_t size;
        char *data = read_all(&size);
        result = data ? encode(tokenizer, data, size) : 1;
        free(data);
    }
    sgm_tokenizer_close(tokenizer);
    return result;
}
