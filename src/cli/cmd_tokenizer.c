// SPDX-License-Identifier: Apache-2.0
/* sigmoe tokenizer: train one from text, encode and decode with it, look at it. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

/* ---- train ---------------------------------------------------------------------------------------------------- */

static void show_merges(void *context, int64_t done, int64_t merges) {
    double *last = context;
    double now = cli_now();
    if (!cli_is_terminal(stderr) || (now - *last < 0.125 && done < merges))
        return;
    *last = now;
    fprintf(stderr, "\r\033[Kmerges %lld of %lld%s", (long long)done, (long long)merges, done == merges ? "\n" : "");
}

static int save_trained(const cli_args *args, const sgm_tokenizer *tokenizer, size_t bytes, double seconds) {
    sgm_error error = {0};
    const char *out = cli_text(args, "out");
    if (sgm_tokenizer_save(tokenizer, out, &error))
        return cli_fail(&error);
    int64_t vocabulary = sgm_tokenizer_vocabulary(tokenizer);
    if (cli_switch(args, "json"))
        return cli_json_print(json_pack("{s:s, s:I, s:I, s:f}", "path", out, "vocabulary", (json_int_t)vocabulary,
                                        "bytes", (json_int_t)bytes, "seconds", seconds));
    printf("%s/tokenizer.json: %s tokens from %s of text in %.1f s\n", out, cli_grouped(vocabulary).text,
           cli_bytes_label((double)bytes).text, seconds);
    return CLI_DONE;
}

/* The folder is new or empty: a tokenizer that models were trained with must not be replaced by another. */
static int check_out(const char *folder) {
    DIR *list = opendir(folder);
    if (!list && errno == ENOTDIR)
        return cli_usage("choose another name", "--out %s: a file is in the way", folder);
    bool empty = true;
    for (const struct dirent *entry; empty && list && (entry = readdir(list));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (list)
        closedir(list); /* one that cannot be opened is new, or saving says what is wrong with it */
    return empty ? CLI_DONE
                 : cli_usage("choose another folder, or remove this one first",
                             "--out %s: the folder exists and is not empty", folder);
}

static int run_train(const cli_args *args) {
    size_t count;
    const char *const *paths = cli_many(args, "data", &count);
    int code = check_out(cli_text(args, "out"));
    if (code == CLI_DONE)
        code = cli_check_inputs(paths, count);
    if (code == CLI_DONE)
        code = cli_check_files(paths, count);
    char **texts = code == CLI_DONE ? calloc(count, sizeof *texts) : NULL;
    size_t *sizes = code == CLI_DONE ? calloc(count, sizeof *sizes) : NULL;
    if (code == CLI_DONE && (!texts || !sizes))
        code = cli_no_memory("the text");
    size_t bytes = 0;
    for (size_t i = 0; i < count && code == CLI_DONE; i++) {
        code = cli_read(paths[i], &texts[i], &sizes[i]);
        bytes += sizes[i];
    }
    if (code == CLI_DONE) {
        double last = 0, start = cli_now();
        sgm_tokenizer_training options = {.vocabulary = cli_integer(args, "vocabulary"),
                                          .pattern = cli_text(args, "pattern"),
                                          .progress = show_merges,
                                          .context = &last};
        sgm_tokenizer *tokenizer = NULL;
        sgm_error error = {0};
        if (sgm_tokenizer_train(&options, (const char *const *)texts, sizes, count, &tokenizer, &error))
            code = cli_fail(&error);
        else {
            bool made = access(cli_text(args, "out"), F_OK) != 0;
            code = save_trained(args, tokenizer, bytes, cli_now() - start);
            if (code != CLI_DONE && made)
                rmdir(cli_text(args, "out")); /* where it is empty */
        }
        sgm_tokenizer_close(tokenizer);
    }
    for (size_t i = 0; texts && i < count; i++)
        free(texts[i]);
    free(texts);
    free(sizes);
    return code;
}

static const cli_flag train_flags[] = {
    {"data", CLI_MANY, "FILE…", NULL, 0, 0, true, "text files to learn from"},
    {"out", CLI_TEXT, "DIR", NULL, 0, 0, true, "folder for tokenizer.json and tokenizer_config.json"},
    {"vocabulary", CLI_INTEGER, "N", "4096", 257, 1e7, false, "tokens, the 256 bytes and <|endoftext|> included"},
    {"pattern", CLI_TEXT, "NAME", NULL, 0, 0, false,
     "how text is cut before merging: gpt2, qwen, llama3, cl100k, o200k; without it qwen's with single digits"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_tokenizer_train = {
    .name = "tokenizer train",
    .group = "make",
    .summary = "train a byte-level BPE tokenizer from text files",
    .flags = train_flags,
    .example = "sigmoe tokenizer train --data book.txt notes.txt --vocabulary 4096 --out tokenizers/books",
    .run = run_train,
};

/* ---- encode --------------------------------------------------------------------------------------------------- */

static int open_tokenizer(const char *path, sgm_tokenizer **tokenizer) {
    sgm_error error = {0};
    if (sgm_tokenizer_open(path, tokenizer, &error))
        return cli_fail(&error);
    return CLI_DONE;
}

static int print_ids(const cli_args *args, const int32_t *ids, size_t count, size_t bytes) {
    if (!cli_switch(args, "json")) {
        for (size_t i = 0; i < count; i++)
            printf("%d%c", ids[i], i + 1 < count ? ' ' : '\n');
        return CLI_DONE;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return cli_json_print(
        json_pack("{s:I, s:I, s:o}", "tokens", (json_int_t)count, "bytes", (json_int_t)bytes, "token_ids", list));
}

static int run_encode(const cli_args *args) {
    sgm_tokenizer *tokenizer = NULL;
    const char *text = cli_text(args, "text");
    char *data = NULL;
    size_t size = 0;
    if (text && cli_operand_count(args))
        return cli_usage("one text at a time", "sigmoe tokenizer encode: give either --text or a FILE, not both");
    int code = open_tokenizer(cli_text(args, "tokenizer"), &tokenizer);
    if (code == CLI_DONE && text)
        size = strlen(text);
    else if (code == CLI_DONE) {
        code = cli_read(cli_operand_count(args) ? cli_operand(args, 0) : "-", &data, &size);
        text = data;
    }
    if (code == CLI_DONE) {
        size_t count = 0;
        int32_t *ids = NULL;
        code = cli_encode(tokenizer, text, size, cli_switch(args, "specials"), &ids, &count);
        if (code == CLI_DONE)
            code = print_ids(args, ids, count, size);
        free(ids);
    }
    free(data);
    sgm_tokenizer_close(tokenizer);
    return code;
}

static const cli_flag encode_flags[] = {
    {"tokenizer", CLI_TEXT, "PATH", NULL, 0, 0, true, "a tokenizer.json, or a folder that holds one"},
    {"text", CLI_TEXT, "TEXT", NULL, 0, 0, false, "text to encode; without it FILE, or standard input"},
    {"specials", CLI_SWITCH, NULL, NULL, 0, 0, false, "added tokens in the text become their ids"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_tokenizer_encode = {
    .name = "tokenizer encode",
    .group = "make",
    .summary = "turn text into token ids",
    .operands = "[FILE]",
    .max_operands = 1,
    .flags = encode_flags,
    .example = "sigmoe tokenizer encode --tokenizer runs/demo/checkpoints/latest --text \"Once upon a time\"\n"
               "sigmoe tokenizer encode --tokenizer tokenizer.json book.txt > book.ids",
    .run = run_encode,
};

/* ---- decode --------------------------------------------------------------------------------------------------- */

/* Ids separated by anything that is no digit (spaces, commas, brackets of a JSON list). */
static int parse_ids(const char *text, int32_t **ids, size_t *count) {
    size_t capacity = strlen(text) / 2 + 1;
    *count = 0;
    *ids = malloc(capacity * sizeof **ids);
    if (!*ids)
        return cli_no_memory("the tokens");
    for (const char *at = text; *at;) {
        size_t gap = strspn(at, " \t\r\n,[]");
        at += gap;
        if (!*at)
            break;
        char *end;
        long long id = strtoll(at, &end, 10);
        size_t word = strcspn(at, " \t\r\n,[]"); /* never none: a separator was skipped */
        if (end == at || id < 0 || id > INT32_MAX)
            return cli_error(CLI_BAD_INPUT, "give token ids like 262 17 301", "\"%.*s%s\" is not a token id",
                             word > 40 ? 40 : (int)word, at, word > 40 ? "…" : "");
        (*ids)[(*count)++] = (int32_t)id;
        at = end;
    }
    return CLI_DONE;
}

static int run_decode(const cli_args *args) {
    sgm_tokenizer *tokenizer = NULL;
    char *data = NULL, *text = NULL;
    const char *list = cli_text(args, "ids");
    size_t size = 0, count = 0;
    int32_t *ids = NULL;
    if (list && cli_operand_count(args))
        return cli_usage("one list at a time", "sigmoe tokenizer decode: give either --ids or a FILE, not both");
    int code = open_tokenizer(cli_text(args, "tokenizer"), &tokenizer);
    if (code == CLI_DONE && !list) {
        code = cli_read(cli_operand_count(args) ? cli_operand(args, 0) : "-", &data, &size);
        list = data;
    }
    if (code == CLI_DONE)
        code = parse_ids(list, &ids, &count);
    sgm_error error = {0};
    if (code == CLI_DONE &&
        sgm_tokenizer_decode(tokenizer, ids, count, cli_switch(args, "specials"), &text, &size, &error))
        code = cli_fail(&error);
    if (code == CLI_DONE && cli_switch(args, "json"))
        code = cli_json_print(json_pack("{s:I, s:o}", "tokens", (json_int_t)count, "text", cli_json_text(text, size)));
    else if (code == CLI_DONE)
        fwrite(text, 1, size, stdout);
    sgm_text_free(text);
    free(ids);
    free(data);
    sgm_tokenizer_close(tokenizer);
    return code;
}

static const cli_flag decode_flags[] = {
    {"tokenizer", CLI_TEXT, "PATH", NULL, 0, 0, true, "a tokenizer.json, or a folder that holds one"},
    {"ids", CLI_TEXT, "LIST", NULL, 0, 0, false,
     "ids, separated by spaces or commas; without it FILE, or standard input"},
    {"specials", CLI_SWITCH, NULL, NULL, 0, 0, false, "write special tokens too"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_tokenizer_decode = {
    .name = "tokenizer decode",
    .group = "make",
    .summary = "turn token ids back into the bytes they stand for",
    .operands = "[FILE]",
    .max_operands = 1,
    .flags = decode_flags,
    .example = "sigmoe tokenizer decode --tokenizer runs/demo/checkpoints/latest --ids \"79 110 343\"",
    .run = run_decode,
};

/* ---- info ----------------------------------------------------------------------------------------------------- */

static int run_info(const cli_args *args) {
    sgm_tokenizer *tokenizer = NULL;
    const char *path = cli_operand(args, 0);
    int code = open_tokenizer(path, &tokenizer);
    if (code != CLI_DONE)
        return code;
    int64_t vocabulary = sgm_tokenizer_vocabulary(tokenizer), used = 0, specials = 0;
    size_t longest = 0, size;
    int32_t longest_id = -1;
    for (int64_t id = 0; id < vocabulary; id++) {
        if (!sgm_tokenizer_bytes_of(tokenizer, (int32_t)id, &size))
            continue;
        used++;
        bool special = sgm_tokenizer_is_special(tokenizer, (int32_t)id);
        specials += special;
        if (!special && size > longest) {
            longest = size;
            longest_id = (int32_t)id;
        }
    }
    const char *bytes = longest_id >= 0 ? sgm_tokenizer_bytes_of(tokenizer, longest_id, &size) : "";
    json_t *text = cli_json_text(bytes, longest);
    int32_t end = sgm_tokenizer_end_of_text(tokenizer);
    if (cli_switch(args, "json")) {
        code = cli_json_print(json_pack("{s:s, s:I, s:I, s:I, s:i, s:o}", "path", path, "vocabulary",
                                        (json_int_t)vocabulary, "used", (json_int_t)used, "specials",
                                        (json_int_t)specials, "end_of_text", end, "longest_token", text));
    } else {
        printf("vocabulary      %s ids, %s of them used, %s special\n", cli_grouped(vocabulary).text,
               cli_grouped(used).text, cli_grouped(specials).text);
        if (end >= 0)
            printf("end of text     id %d\n", end);
        else
            printf("end of text     none\n");
        char *quoted = json_dumps(text, JSON_ENCODE_ANY);
        printf("longest token   id %d, %s: %s\n", longest_id, cli_counted((int64_t)longest, "byte").text,
               quoted ? quoted : "");
        free(quoted);
        json_decref(text);
    }
    sgm_tokenizer_close(tokenizer);
    return code;
}

static const cli_flag info_flags[] = {{"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"}, {0}};

const cli_command cli_tokenizer_info = {
    .name = "tokenizer info",
    .group = "make",
    .summary = "vocabulary, special tokens and longest token",
    .operands = "PATH",
    .min_operands = 1,
    .max_operands = 1,
    .flags = info_flags,
    .example = "sigmoe tokenizer info runs/demo/checkpoints/latest",
    .run = run_info,
};
