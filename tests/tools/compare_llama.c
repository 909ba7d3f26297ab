// SPDX-License-Identifier: Apache-2.0
/* The same GGUF file in llama.cpp and in sigmoe: the same tokens, their logits and a greedy continuation compared.
 * Use: compare_llama FOLDER FILE.gguf KERNELS DISTANCE
 * FOLDER holds llama.cpp's shared libraries, as the npm package @node-llama-cpp/linux-x64 has them in bins/linux-x64. They are
 * opened at run time and called through declarations of our own. DISTANCE: the most that the root of Σ (ours − its)² / Σ its²
 * may be over the logits of a row, each taken from its mean, in the middle one of a prompt's rows. Greedy tokens must be the same. Exit 1 when they are not. */
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sigmoe/session.h"

enum { PROMPT = 48, GREEDY = 40, CONTEXT = 256 };

/* Parameters go by value and are larger than a register: a block larger than any of theirs is passed and returned alike. The
 * context's begin with the number of positions. */
typedef struct block {
    uint32_t words[512];
} block;
typedef struct token_batch {
    int32_t count;
    int32_t *tokens;
    void *rest[5];
} token_batch;

static struct {
    void (*backend_init)(void);
    void (*load_all)(const char *folder);
    void (*log_set)(void (*log)(int level, const char *text, void *context), void *context);
    block (*model_params)(void);
    block (*context_params)(void);
    void *(*model_load)(const char *path, block params);
    void *(*context_new)(void *model, block params);
    token_batch (*batch_one)(int32_t *tokens, int32_t count);
    int32_t (*decode)(void *context, token_batch batch);
    float *(*logits)(void *context);
    void (*set_threads)(void *context, int32_t decode, int32_t prefill);
} llama;

static void quiet(int level, const char *text, void *context) {
    (void)context;
    if (level >= 4) /* errors only */
        fputs(text, stderr);
}

static int find(void *handles[2], const char *name, void *to) {
    void *symbol = dlsym(handles[0], name);
    if (!symbol)
        symbol = dlsym(handles[1], name);
    if (!symbol) {
        fprintf(stderr, "error: llama.cpp's libraries have no %s\n", name);
        return 1;
    }
    memcpy(to, &symbol, sizeof symbol);
    return 0;
}

/* Open "libNAME.so" or "libNAME.VERSION.so" of the folder. */
static void *open_library(const char *folder, const char *name) {
    DIR *entries = opendir(folder);
    struct dirent *entry;
    void *handle = NULL;
    size_t n = strlen(name);
    while (entries && !handle && (entry = readdir(entries)) != NULL) {
        char path[4096];
        if (strncmp(entry->d_name, name, n) != 0 || entry->d_name[n] != '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    }
    if (entries)
        closedir(entries);
    if (!handle)
        fprintf(stderr, "error: cannot open %s of %s: %s\n", name, folder, dlerror());
    return handle;
}

static int llama_open(const char *folder) {
    void *base = open_library(folder, "libggml-base");
    void *handles[2] = {base ? open_library(folder, "libggml") : NULL, NULL};
    handles[1] = handles[0] ? open_library(folder, "libllama") : NULL;
    if (!handles[1])
        return 1;
    return find(handles, "llama_backend_init", &llama.backend_init) ||
           find(handles, "ggml_backend_load_all_from_path", &llama.load_all) ||
           find(handles, "llama_log_set", &llama.log_set) ||
           find(handles, "llama_model_default_params", &llama.model_params) ||
           find(handles, "llama_context_default_params", &llama.context_params) ||
           find(handles, "llama_model_load_from_file", &llama.model_load) ||
           find(handles, "llama_init_from_model", &llama.context_new) ||
           find(handles, "llama_batch_get_one", &llama.batch_one) || find(handles, "llama_decode", &llama.decode) ||
           find(handles, "llama_get_logits", &llama.logits) || find(handles, "llama_set_n_threads", &llama.set_threads);
}

static int32_t greatest(const float *logits, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

/* Both take PROMPT tokens one by one and then go on by themselves; logits (PROMPT + GREEDY, V) of each. */
static int run_llama(const char *path, int32_t *tokens, float *logits, int64_t V) {
    llama.log_set(quiet, NULL);
    llama.backend_init();
    void *model = llama.model_load(path, llama.model_params());
    block params = llama.context_params();
    params.words[0] = CONTEXT;
    void *context = model ? llama.context_new(model, params) : NULL;
    if (!context)
        return fprintf(stderr, "error: llama.cpp does not open %s\n", path), 1;
    llama.set_threads(context, 1, 1); /* several spin at every op, and crawl on a busy machine */
    for (int t = 0; t < PROMPT + GREEDY; t++) {
        if (llama.decode(context, llama.batch_one(&tokens[t], 1)))
            return fprintf(stderr, "error: llama.cpp does not decode token %d\n", t), 1;
        memcpy(logits + t * V, llama.logits(context), (size_t)V * sizeof *logits);
        if (t + 1 >= PROMPT)
            tokens[t + 1] = greatest(logits + t * V, V);
    }
    return 0;
}

static int run_ours(sgm_engine *engine, int32_t *tokens, float *logits, int64_t V) {
    sgm_session *session;
    sgm_error error = {0};
    sgm_status status = sgm_session_new(engine, &session, &error);
    for (int t = 0; !status && t < PROMPT + GREEDY; t++) {
        sgm_batch_item item = {session, &tokens[t], 1, false};
        status = sgm_engine_step(engine, &item, 1, logits + t * V, &error);
        if (t + 1 >= PROMPT)
            tokens[t + 1] = greatest(logits + t * V, V);
    }
    if (status)
        return fprintf(stderr, "error: %s\n", error.message), 1;
    sgm_session_free(session);
    return 0;
}

static double mean(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum / (double)n;
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of the prompt's rows, which follow from the same tokens, the middle one's: a route that is a near tie and goes the other way
 * moves its row and those behind it, and says nothing about the rest. */
static double distance(const float *ours, const float *theirs, int64_t V) {
    double rows[PROMPT];
    for (int64_t t = 0; t < PROMPT; t++) {
        const float *a = ours + t * V, *b = theirs + t * V;
        double ma = mean(a, V), mb = mean(b, V), error = 0, norm = 0;
        for (int64_t i = 0; i < V; i++) {
            double d = ((double)a[i] - ma) - ((double)b[i] - mb);
            error += d * d;
            norm += ((double)b[i] - mb) * ((double)b[i] - mb);
        }
        rows[t] = sqrt(error / norm);
    }
    qsort(rows, PROMPT, sizeof *rows, by_value);
    return rows[PROMPT / 2];
}

int main(int argc, char **argv) {
    sgm_engine *engine;
    sgm_error error = {0};
    if (argc != 5)
        return fprintf(stderr, "usage: compare_llama FOLDER FILE.gguf KERNELS DISTANCE\n"), 2;
    sgm_engine_options options = {.threads = 2, .kernels = argv[3], .kv_tokens = CONTEXT};
    if (llama_open(argv[1]))
        return 2;
    llama.load_all(argv[1]);
    if (sgm_engine_open(argv[2], &options, &engine, &error))
        return fprintf(stderr, "error: %s\n", error.message), 1;
    int64_t V = sgm_engine_info(engine)->settings.vocabulary;
    int32_t tokens[2][PROMPT + GREEDY + 1];
    for (int i = 0; i < PROMPT; i++)
        tokens[0][i] = tokens[1][i] = (int32_t)((i * i * 31 + i * 17 + 3) % V);
    float *logits[2];
    for (int i = 0; i < 2; i++)
        if (!(logits[i] = malloc((size_t)((PROMPT + GREEDY) * V) * sizeof **logits)))
            return 1;
    if (run_ours(engine, tokens[0], logits[0], V) || run_llama(argv[2], tokens[1], logits[1], V))
        return 1;
    int same = 0;
    while (same < GREEDY && tokens[0][PROMPT + same] == tokens[1][PROMPT + same])
        same++;
    double apart = distance(logits[0], logits[1], V), limit = atof(argv[4]);
    bool fine = same == GREEDY && apart <= limit;
    printf("%s: logits %.2e apart (at most %.0e), %d of %d greedy tokens the same%s\n", argv[2], apart, limit, same,
           GREEDY, fine ? "" : ": DIFFERENT");
    fflush(stdout);
    sgm_engine_close(engine);
    free(logits[0]);
    free(logits[1]);
    _Exit(fine ? 0 : 1); /* its libraries' destructors are not ours to wait for */
}
