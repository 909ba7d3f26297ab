// SPDX-License-Identifier: Apache-2.0
/* Speed of training and encoding on one thread. Usage: bench_tokenizer TEXT [TOKENIZER…]: trains 4096 tokens on the
 * first 5 MB of the file TEXT, then encodes all of it, whole and in documents of 2000 bytes, five times each. Seconds
 * are processor time of the thread, so that a busy machine counts little. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "sigmoe/text.h"

enum { REPEATS = 5, DOCUMENT = 2000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int fail(const sgm_error *error) {
    fprintf(stderr, "error: %s\nhint: %s\n", error->message, error->hint);
    return 1;
}

static int encode(const char *name, const sgm_tokenizer *tokenizer, const char *text, size_t size, size_t piece,
                  int32_t *ids, size_t capacity) {
    sgm_error error = {0};
    printf("%s, pieces of %zu bytes:", name, piece);
    size_t tokens = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        tokens = 0;
        for (size_t at = 0, count; at < size; at += piece) {
            size_t n = size - at < piece ? size - at : piece;
            if (sgm_tokenizer_encode(tokenizer, text + at, n, true, ids, capacity, &count, &error))
                return fail(&error);
            tokens += count;
        }
        printf(" %.1f", (double)size / 1e6 / (now() - start));
    }
    printf(" MB/s, %.3f bytes a token\n", (double)size / (double)tokens);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: bench_tokenizer TEXT [TOKENIZER...]\n");
        return 2;
    }
    sgm_error error = {0};
    char *text;
    size_t size;
    if (sgm_file_read(argv[1], (size_t)1 << 31, &text, &size, &error))
        return fail(&error);
    size_t capacity = 3 * size + 8, sample = size < 5000000 ? size : 5000000;
    int32_t *ids = sgm_alloc(capacity * sizeof *ids);
    const char *texts[] = {text};
    sgm_tokenizer *tokenizer = NULL;
    int result = ids ? 0 : 1;
    printf("training 4096 tokens on %.1f MB:", (double)sample / 1e6);
    for (int repeat = 0; !result && repeat < REPEATS; repeat++) {
        sgm_tokenizer_close(tokenizer);
        double start = now();
        if (sgm_tokenizer_train(&(sgm_tokenizer_training){.vocabulary = 4096}, texts, &sample, 1, &tokenizer, &error))
            return fail(&error);
        printf(" %.2f", now() - start);
    }
    printf(" s\n");
    for (int i = 1; !result && i < argc; i++) {
        if (i > 1) {
            sgm_tokenizer_close(tokenizer);
            double start = now();
            if (sgm_tokenizer_open(argv[i], &tokenizer, &error))
                return fail(&error);
            printf("%s: opened in %.2f s\n", argv[i], now() - start);
        }
        const char *name = i > 1 ? argv[i] : "trained";
        result = encode(name, tokenizer, text, size, size, ids, capacity);
        if (!result)
            result = encode(name, tokenizer, text, size, DOCUMENT, ids, capacity);
    }
    sgm_tokenizer_close(tokenizer);
    sgm_free(ids);
    sgm_free(text);
    return result;
}
