// SPDX-License-Identifier: Apache-2.0
/* Speed and answers of llama.cpp as a shared library, for bench/peers/compare:
 *
 *   llama_driver LIBRARIES MODEL.gguf THREADS REPEATS DEPTH PREFILL DECODE CHUNK [ID…]
 *
 * LIBRARIES is a folder with libllama.v0.5.0.so, libggml.v0.5.0.so and the CPU backends (the npm package
 * @node-llama-cpp/linux-x64 has them in bins/linux-x64). Behind DEPTH tokens it reads PREFILL random tokens at once, then
 * feeds DECODE random tokens one by one; each measure warms up once and is repeated (0 tokens: left out). The ids are a
 * prompt: 256 logits of its last token are printed, and 16 tokens that continue it greedily. Prints one JSON object.
 *
 * The library is opened at run time and no header of it is used: parameter structs are handed through as opaque blocks, of
 * which only the first integers of the context's are set. Another version could lay them out differently, so the version and
 * the defaults found there are checked first, and anything else is refused. */
#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define VERSION "0.5.0"
enum { GREEDY = 16, LOGITS = 256, MOST_REPEATS = 100 };

/* Larger than any parameter struct: passed in memory, the library reads the part it knows. */
typedef struct opaque {
    union {
        unsigned char bytes[2048];
        uint32_t word[512];
    } as;
} opaque;
enum { N_CTX, N_BATCH, N_UBATCH, N_SEQ_MAX }; /* words of the context's parameters */

typedef struct batch {
    int32_t count;
    int32_t *token;
    float *embedding;
    int32_t *position, *sequence_count, **sequence;
    int8_t *logits;
} batch;

static struct {
    const char *(*version)(void);
    void (*backend_init)(void);
    void (*load_backends)(const char *folder);
    void (*log_set)(void (*)(int, const char *, void *), void *);
    opaque (*model_defaults)(void);
    opaque (*context_defaults)(void);
    void *(*model_load)(const char *path, opaque parameters);
    void *(*context_new)(void *model, opaque parameters);
    const void *(*vocabulary)(const void *model);
    int32_t (*vocabulary_size)(const void *vocabulary);
    void (*set_threads)(void *context, int32_t one, int32_t many);
    batch (*one_sequence)(int32_t *tokens, int32_t count);
    int32_t (*decode)(void *context, batch batch);
    void (*synchronise)(void *context);
    void *(*memory)(const void *context);
    void (*memory_clear)(void *memory, bool data);
    bool (*memory_cut)(void *memory, int32_t sequence, int32_t from, int32_t to);
    float *(*logits)(void *context, int32_t row);
} llama;

static void stop(const char *what, const char *why) {
    fprintf(stderr, "error: %s: %s\n", what, why);
    exit(1);
}

static void *open_library(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        stop(path, dlerror());
    return library;
}

static void find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    if (!symbol)
        stop(name, "the library has no such function: another version?");
    memcpy(function, &symbol, sizeof symbol);
}

static void open_llama(const char *folder) {
    open_library(folder, "libggml-base.so");
    void *ggml = open_library(folder, "libggml.v" VERSION ".so");
    void *library = open_library(folder, "libllama.v" VERSION ".so");
    const struct {
        const char *name;
        void *function;
    } wanted[] = {
        {"llama_version", &llama.version},
        {"llama_backend_init", &llama.backend_init},
        {"llama_log_set", &llama.log_set},
        {"llama_model_default_params", &llama.model_defaults},
        {"llama_context_default_params", &llama.context_defaults},
        {"llama_model_load_from_file", &llama.model_load},
        {"llama_init_from_model", &llama.context_new},
        {"llama_model_get_vocab", &llama.vocabulary},
        {"llama_vocab_n_tokens", &llama.vocabulary_size},
        {"llama_set_n_threads", &llama.set_threads},
        {"llama_batch_get_one", &llama.one_sequence},
        {"llama_decode", &llama.decode},
        {"llama_synchronize", &llama.synchronise},
        {"llama_get_memory", &llama.memory},
        {"llama_memory_clear", &llama.memory_clear},
        {"llama_memory_seq_rm", &llama.memory_cut},
        {"llama_get_logits_ith", &llama.logits},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        find(library, wanted[i].name, wanted[i].function);
    find(ggml, "ggml_backend_load_all_from_path", &llama.load_backends);
    const char *version = llama.version();
    if (!version || !strstr(version, VERSION))
        stop("llama.cpp", "this driver knows version " VERSION " only");
    opaque parameters = llama.context_defaults();
    const uint32_t *word = parameters.as.word;
    if (word[N_CTX] != 512 || word[N_BATCH] != 2048 || word[N_UBATCH] != 512 || word[N_SEQ_MAX] != 1)
        stop("llama.cpp", "its context's parameters are not laid out as in version " VERSION);
}

/* ---- work ---------------------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void silent(int level, const char *text, void *context) {
    (void)context;
    if (level == 4) /* errors */
        fputs(text, stderr);
}

static uint64_t state = 88172645463325252u;
static int32_t vocabulary_size;
static void fill(int32_t *tokens, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        tokens[i] = (int32_t)(state % (uint64_t)vocabulary_size);
    }
}

static void feed(void *context, int32_t *tokens, int32_t count, bool one_by_one) {
    for (int32_t at = 0, step; at < count; at += step) {
        step = one_by_one ? 1 : count - at < 2048 ? count - at : 2048;
        if (llama.decode(context, llama.one_sequence(tokens + at, step)))
            stop("llama_decode", "failed");
        llama.synchronise(context);
        if (!isfinite(llama.logits(context, -1)[0]))
            stop("llama_decode", "a logit is not finite");
    }
}

static bool first = true;
static void measure(void *context, const char *name, int32_t count, int32_t depth, int repeats) {
    int32_t *tokens = calloc((size_t)count, sizeof *tokens);
    if (!tokens)
        stop(name, "no memory");
    printf("%s{\"measure\": \"%s\", \"tokens\": %d, \"depth\": %d, \"samples\": [", first ? "" : ", ", name, count,
           depth);
    first = false;
    for (int r = 0; r <= repeats; r++) {
        fill(tokens, count);
        double begin = now();
        feed(context, tokens, count, strcmp(name, "decode") == 0);
        double seconds = now() - begin;
        if (r > 0)
            printf("%s%.3f", r > 1 ? ", " : "", (double)count / seconds);
        if (!llama.memory_cut(llama.memory(context), 0, depth, -1))
            stop("llama_memory_seq_rm", "failed");
    }
    printf("]}");
    free(tokens);
}

static int32_t likeliest(const float *logits) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocabulary_size; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static void greedy(void *context, int32_t *prompt, int32_t count) {
    llama.memory_clear(llama.memory(context), true);
    feed(context, prompt, count, false);
    const float *logits = llama.logits(context, -1);
    for (int64_t i = 0; i < LOGITS; i++)
        printf("%s%.9g", i ? ", " : ", \"logits\": [", (double)logits[i * vocabulary_size / LOGITS]);
    printf("], \"greedy\": [");
    for (int i = 0; i < GREEDY; i++) {
        int32_t id = likeliest(llama.logits(context, -1));
        printf("%s%d", i ? ", " : "", id);
        feed(context, &id, 1, true);
    }
    printf("]");
}

int main(int count, char **word) {
    if (count < 9)
        stop("usage", "llama_driver LIBRARIES MODEL.gguf THREADS REPEATS DEPTH PREFILL DECODE CHUNK [ID…]");
    int threads = atoi(word[3]), repeats = atoi(word[4]), prompt = count - 9;
    int32_t depth = atoi(word[5]), prefill = atoi(word[6]), decode = atoi(word[7]), chunk = atoi(word[8]);
    if (threads < 1 || repeats < 1 || repeats > MOST_REPEATS || depth < 0 || prefill < 0 || decode < 0 || chunk < 0)
        stop("usage", "a number is out of range");
    open_llama(word[1]);
    llama.log_set(silent, NULL);
    llama.load_backends(word[1]);
    llama.backend_init();
    double begin = now();
    void *model = llama.model_load(word[2], llama.model_defaults());
    if (!model)
        stop(word[2], "llama.cpp cannot open it");
    vocabulary_size = llama.vocabulary_size(llama.vocabulary(model));
    opaque parameters = llama.context_defaults();
    int32_t longest = prefill > decode ? prefill : decode;
    parameters.as.word[N_CTX] = (uint32_t)(depth + longest + prompt + GREEDY + 64);
    if (chunk)
        parameters.as.word[N_UBATCH] = (uint32_t)chunk;
    void *context = llama.context_new(model, parameters);
    if (!context)
        stop(word[2], "llama.cpp has no memory for its context");
    llama.set_threads(context, threads, threads);
    double opened = now() - begin;

    int32_t *tokens = calloc((size_t)(depth > prompt ? depth : prompt) + 1, sizeof *tokens);
    if (!tokens)
        stop("tokens", "no memory");
    printf("{\"engine\": \"llama.cpp %s\", \"threads\": %d, \"results\": [", llama.version(), threads);
    fill(tokens, depth);
    feed(context, tokens, depth, false);
    if (prefill)
        measure(context, "prefill", prefill, depth, repeats);
    if (decode)
        measure(context, "decode", decode, depth, repeats);
    printf("]");
    for (int i = 0; i < prompt; i++)
        tokens[i] = atoi(word[9 + i]);
    if (prompt)
        greedy(context, tokens, prompt);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf(", \"open_seconds\": %.3f, \"peak_rss_bytes\": %lld}\n", opened, (long long)usage.ru_maxrss * 1024);
    fflush(stdout);
    _Exit(0); /* its own clean-up takes seconds */
}
