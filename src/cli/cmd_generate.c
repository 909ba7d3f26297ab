// SPDX-License-Identifier: Apache-2.0
/* sigmoe generate: continue a prompt, streamed to the terminal as it is written. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"

/* ---- the prompt ----------------------------------------------------------------------------------------------- */

typedef struct prompt_ids {
    int32_t *ids;
    int64_t count;
    char *text; /* what is echoed; NULL for ids */
    size_t size;
} prompt_ids;

static int encode_prompt(const cli_args *args, const sgm_tokenizer *tokenizer, prompt_ids *out) {
    const char *text = cli_text(args, "prompt"), *file = cli_text(args, "prompt-file");
    size_t count = 0;
    int32_t *ids = NULL;
    int code = CLI_DONE;
    if (file) {
        code = cli_read(file, &out->text, &out->size);
    } else {
        out->text = strdup(text ? text : "");
        out->size = text ? strlen(text) : 0;
        if (!out->text)
            code = cli_no_memory("the prompt");
    }
    if (code == CLI_DONE)
        code = cli_encode(tokenizer, out->text, out->size, true, &ids, &count);
    out->ids = ids;
    int32_t end = sgm_tokenizer_end_of_text(tokenizer);
    if (code == CLI_DONE && count == 0) { /* nothing to continue: begin a document, as training saw them begin */
        if (end < 0)
            return cli_usage("give --prompt TEXT", "sigmoe generate: the prompt is empty and this tokenizer has no "
                                                   "end-of-text token to begin with");
        out->ids[count++] = end;
    }
    out->count = (int64_t)count;
    return code;
}

/* How much of a text to show as the word that is wrong: up to a separator, at least a character. */
static size_t word_size(const char *text) {
    size_t size = strcspn(text, " ,[]\n\t");
    return size < 1 ? 1 : size > 20 ? 20 : size;
}

/* --prompt-ids 1,2,3: for models without a tokenizer, and for comparing with other programs. */
static int parse_prompt_ids(const char *text, int64_t vocabulary, prompt_ids *out) {
    out->ids = malloc((strlen(text) / 2 + 1) * sizeof *out->ids);
    if (!out->ids)
        return cli_no_memory("the prompt");
    bool comma = false; /* the last thing read */
    while (*(text += strspn(text, " []\n\t"))) {
        char *end;
        long long id = strtoll(text, &end, 10);
        bool number = end != text && id >= 0 && id < vocabulary;
        if (end != text && id >= vocabulary)
            return cli_usage("are the ids of another model's tokenizer?",
                             "--prompt-ids: %.*s is no token of this model, its vocabulary is %lld", (int)(end - text),
                             text, (long long)vocabulary);
        if (!number)
            return cli_usage("write it like --prompt-ids 5,17,256", "--prompt-ids: \"%.*s\" is not a token id",
                             (int)word_size(text), text);
        out->ids[out->count++] = (int32_t)id;
        text = end + strspn(end, " []\n\t");
        comma = *text == ',';
        text += comma;
    }
    if (comma)
        return cli_usage("write it like --prompt-ids 5,17,256", "--prompt-ids: nothing follows the last comma");
    return out->count ? CLI_DONE : cli_usage("write it like --prompt-ids 5,17,256", "--prompt-ids: no token is given");
}

/* ---- streaming ------------------------------------------------------------------------------------------------ */

typedef struct stream {
    cli_utf8 utf8;
    bool silent;
    char *bytes; /* everything, for --json */
    size_t size, capacity;
    bool failed;
} stream;

static void write_out(void *context, const char *bytes, size_t size) {
    (void)context;
    fwrite(bytes, 1, size, stdout);
}

static bool on_token(void *context, int32_t id, const char *bytes, size_t size) {
    stream *out = context;
    (void)id;
    if (!out->silent) {
        cli_utf8_add(&out->utf8, bytes, size);
        fflush(stdout);
        return !cli_stop && !ferror(stdout);
    }
    if (out->size + size > out->capacity) {
        size_t capacity = (out->size + size) * 2 + 256;
        char *grown = realloc(out->bytes, capacity);
        if (!grown) {
            out->failed = true;
            return false;
        }
        out->bytes = grown;
        out->capacity = capacity;
    }
    if (size)
        memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
    return !cli_stop;
}

static int print_json(const prompt_ids *prompt, const stream *out, const int32_t *ids, int64_t count, bool has_text,
                      sgm_stop stopped, double seconds) {
    static const char *const reasons[] = {[SGM_STOP_TOKENS] = "tokens",
                                          [SGM_STOP_END_OF_TEXT] = "end_of_text",
                                          [SGM_STOP_CALLER] = "interrupted",
                                          [SGM_STOP_CONTEXT] = "context"};
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return cli_json_print(json_pack("{s:I, s:I, s:o, s:o, s:s, s:f}", "prompt_tokens", (json_int_t)prompt->count,
                                    "tokens", (json_int_t)count, "text",
                                    has_text ? cli_json_text(out->bytes ? out->bytes : "", out->size) : json_null(),
                                    "token_ids", list, "stopped", reasons[stopped], "seconds", seconds));
}

static int generate(const cli_args *args, sgm_engine *engine, const prompt_ids *prompt) {
    const sgm_tokenizer *tokenizer = sgm_engine_tokenizer(engine);
    bool json = cli_switch(args, "json"), has_text = tokenizer != NULL;
    stream out = {.silent = json || !has_text};
    out.utf8 = (cli_utf8){.escape = cli_is_terminal(stdout), .write = write_out};
    if (!out.silent && !cli_switch(args, "no-echo") && prompt->text)
        cli_utf8_add(&out.utf8, prompt->text, prompt->size);
    sgm_stop stopped = SGM_STOP_TOKENS;
    sgm_generate_options options = {
        .sampler = {.temperature = cli_real(args, "temperature"),
                    .top_k = cli_integer(args, "top-k"),
                    .top_p = cli_real(args, "top-p"),
                    .seed = (uint64_t)cli_integer(args, "seed")},
        .tokens = cli_integer(args, "tokens"),
        .ignore_end_of_text = cli_switch(args, "ignore-end-of-text"),
        .token = on_token,
        .context = &out,
        .stopped = &stopped,
    };
    sgm_session *session = NULL;
    sgm_error error = {0};
    int32_t *ids = NULL;
    int64_t count = 0;
    cli_catch_signals();
    double start = cli_now();
    sgm_status status = sgm_session_new(engine, &session, &error);
    if (!status)
        status = sgm_generate(session, prompt->ids, prompt->count, &options, &ids, &count, &error);
    double seconds = cli_now() - start;
    if (!out.silent) {
        cli_utf8_end(&out.utf8);
        putchar('\n');
    }
    int code = CLI_DONE;
    if (out.failed)
        code = cli_no_memory("the text");
    else if (status && !cli_stop)
        code = cli_fail(&error);
    else if (json)
        code = print_json(prompt, &out, ids, count, has_text, stopped, seconds);
    else if (!has_text)
        for (int64_t i = 0; i < count; i++)
            printf("%d%c", ids[i], i + 1 < count ? ' ' : '\n');
    if (code == CLI_DONE && !json && stopped == SGM_STOP_CONTEXT)
        fprintf(stderr, "\nstopped: the context of %lld tokens is full\n",
                (long long)sgm_engine_info(engine)->settings.context);
    if (code == CLI_DONE && !json && cli_is_terminal(stderr) && seconds > 0)
        fprintf(stderr, "\n%s, %.1f tokens/s with the prompt's %lld\n", cli_counted(count, "token").text,
                (double)(count + prompt->count) / seconds, (long long)prompt->count);
    sgm_text_free(ids);
    free(out.bytes);
    sgm_session_free(session);
    return code == CLI_DONE && cli_stop ? CLI_INTERRUPTED : code;
}

static bool is_file(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

static int run(const cli_args *args) {
    int given = cli_given(args, "prompt") + cli_given(args, "prompt-file") + cli_given(args, "prompt-ids");
    if (given > 1)
        return cli_usage("each of them is the whole prompt",
                         "sigmoe generate: give one of --prompt, --prompt-file and --prompt-ids");
    cli_note_threads(args);
    sgm_engine_options options = {.threads = (int)cli_integer(args, "threads"),
                                  .kernels = cli_text(args, "kernels"),
                                  .kv_type = cli_text(args, "kv-type")};
    sgm_engine *engine = NULL;
    sgm_error error = {0};
    if (sgm_engine_open(cli_text(args, "model"), &options, &engine, &error))
        return cli_fail(&error);
    prompt_ids prompt = {0};
    int code;
    if (cli_given(args, "prompt-ids"))
        code = parse_prompt_ids(cli_text(args, "prompt-ids"), sgm_engine_info(engine)->settings.vocabulary, &prompt);
    else if (!sgm_engine_tokenizer(engine))
        code =
            cli_usage(is_file(sgm_engine_info(engine)->folder)
                          ? "give --prompt-ids 1,2,3, or write the file again with `sigmoe quantize --tokenizer`"
                          : "give --prompt-ids 1,2,3, or put a tokenizer.json into the folder",
                      "%s: the model has no tokenizer, so text means nothing to it", sgm_engine_info(engine)->folder);
    else
        code = encode_prompt(args, sgm_engine_tokenizer(engine), &prompt);
    int64_t context = sgm_engine_info(engine)->settings.context;
    if (code == CLI_DONE && prompt.count > context)
        code = cli_usage("shorten the prompt, or take a model with a longer context",
                         "the prompt has %lld tokens, the model's context holds %lld", (long long)prompt.count,
                         (long long)context);
    if (code == CLI_DONE)
        code = generate(args, engine, &prompt);
    free(prompt.ids);
    free(prompt.text);
    sgm_engine_close(engine);
    return code;
}

static const cli_flag flags[] = {
    {"model", CLI_TEXT, "M", NULL, 0, 0, true, "model folder, checkpoint, run folder (its latest) or GGUF file"},
    {"prompt", CLI_TEXT, "TEXT", NULL, 0, 0, false, "text to continue; without any a new document is begun"},
    {"prompt-file", CLI_TEXT, "FILE", NULL, 0, 0, false, "the same from a file, - for standard input"},
    {"prompt-ids", CLI_TEXT, "LIST", NULL, 0, 0, false, "the same as token ids"},
    {"tokens", CLI_INTEGER, "N", "128", 0, 1e9, false, "most new tokens"},
    {"temperature", CLI_REAL, "X", "0.8", 0, 100, false, "0: always the likeliest token"},
    {"top-k", CLI_INTEGER, "N", "0", 0, 1e9, false, "sample among the N likeliest only; 0: all"},
    {"top-p", CLI_REAL, "X", "1", 1e-6, 1, false, "sample among the likeliest that make up this share only"},
    {"seed", CLI_INTEGER, "S", "1", 0, 9e18, false, "same seed, same text"},
    {"ignore-end-of-text", CLI_SWITCH, NULL, NULL, 0, 0, false, "go on past the end of a document"},
    {"no-echo", CLI_SWITCH, NULL, NULL, 0, 0, false, "print the new text only, not the prompt before it"},
    {"threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},
    {"kernels", CLI_TEXT, "NAME", "auto", 0, 0, false, "ref, auto, or one of `sigmoe doctor`"},
    {"kv-type", CLI_TEXT, "TYPE", "auto", 0, 0, false,
     "keys and values as f32, f16 or q8; auto: f32 if the weights are"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false,
     "print JSON when done: prompt_tokens, tokens, text, token_ids, seconds"},
    {0},
};

const cli_command cli_generate = {
    .name = "generate",
    .group = "use",
    .summary = "continue a prompt with a trained model",
    .flags = flags,
    .example = "sigmoe generate --model runs/demo --prompt \"In the beginning\" --tokens 200 --temperature 0.8\n"
               "sigmoe generate --model runs/demo --prompt \"int main(\" --temperature 0 --json",
    .run = run,
};
