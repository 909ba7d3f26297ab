// SPDX-License-Identifier: Apache-2.0
/* sigmoe quantize: a model as a GGUF file, its weights in other types; and what init shares with it. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "convert.h"

/* ---- rules for single experts, which may stand in a file --------------------------------------------------------------- */

enum { RULES_MOST = 1 << 20 };

typedef struct rules {
    const char **items;
    size_t count;
    char *text; /* of a file; the items point into it */
} rules;

static void rules_free(rules *r) {
    free(r->items);
    free(r->text);
}

/* One word of the flag, with `left` more to come: a rule, or the name of a file with a rule on every line ('#' begins a
 * remark). */
static int rules_add(rules *r, const char *word, size_t left) {
    struct stat info;
    bool there = stat(word, &info) == 0;
    if (!there && !strpbrk(word, ":="))
        return cli_error(CLI_BAD_INPUT, "name a file of rules, or write one as LAYER:EXPERT=TYPE",
                         "--expert-type %s: there is no such file, and it is no rule", word);
    if (!there || !S_ISREG(info.st_mode)) {
        r->items[r->count++] = word;
        return CLI_DONE;
    }
    size_t size, lines = 1;
    if (r->text)
        return cli_usage("put all rules into one file", "--expert-type names more than one file");
    int code = cli_read(word, &r->text, &size);
    if (code != CLI_DONE)
        return code;
    for (size_t i = 0; i < size; i++)
        lines += r->text[i] == '\n';
    const char **items = lines > RULES_MOST ? NULL : realloc(r->items, (r->count + lines + left) * sizeof *items);
    if (!items)
        return cli_no_memory("the rules");
    r->items = items;
    for (char *line = strtok(r->text, "\n"); line; line = strtok(NULL, "\n")) {
        line += strspn(line, " \t");
        line[strcspn(line, "#\r \t")] = '\0';
        if (*line)
            r->items[r->count++] = line;
    }
    return CLI_DONE;
}

static int rules_read(const cli_args *args, rules *r) {
    size_t count;
    const char *const *words = cli_many(args, "expert-type", &count);
    *r = (rules){.items = malloc((count + 1) * sizeof *r->items)};
    if (!r->items)
        return cli_no_memory("the rules");
    int code = CLI_DONE;
    for (size_t i = 0; i < count && code == CLI_DONE; i++)
        code = rules_add(r, words[i], count - i - 1);
    return code;
}

/* ---- progress ---------------------------------------------------------------------------------------------------------- */

typedef struct display {
    double begin, shown;
    bool live;
} display;

static void show(void *context, int64_t done, int64_t total) {
    display *d = context;
    double now = cli_now();
    if (!d->live || (now - d->shown < 0.2 && done < total))
        return;
    d->shown = now;
    fprintf(stderr, "\r\033[K%s of %s, %.0f MB/s", cli_bytes_label((double)done).text,
            cli_bytes_label((double)total).text, (double)done / 1e6 / (now - d->begin + 1e-9));
    if (done >= total)
        fprintf(stderr, "\r\033[K");
}

/* Line by line: a note may name a tensor, and a file can call it anything. */
static void print_notes(char *notes) {
    for (char *line = notes; line && *line;) {
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        printf("%s\n", cli_clean(line));
        line = end ? end + 1 : NULL;
    }
}

int cli_convert(const cli_args *args,
                int (*run)(void *context, const sgm_convert_options *options, sgm_convert_report *report,
                           sgm_error *error),
                void *context, const char *path) {
    rules experts;
    int code = rules_read(args, &experts);
    if (code != CLI_DONE) {
        rules_free(&experts);
        return code;
    }
    cli_note_threads(args);
    display d = {.begin = cli_now(), .live = cli_is_terminal(stderr)};
    sgm_convert_options options = {
        .type = cli_text(args, "type"),
        .expert_types = experts.items,
        .expert_type_count = experts.count,
        .architecture = cli_text(args, "arch"),
        .tokenizer = cli_text(args, "tokenizer"),
        .threads = (int)cli_integer(args, "threads"),
        .progress = show,
        .context = &d,
        .stop = &cli_stop,
    };
    cli_catch_signals();
    options.tensor_types = cli_many(args, "tensor-type", &options.tensor_type_count);
    sgm_convert_report report = {0};
    sgm_error error = {0};
    if (run(context, &options, &report, &error)) {
        code = cli_fail(&error);
    } else if (cli_switch(args, "json")) {
        code = cli_json_print(json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:o}", "path", path, "architecture",
                                        report.architecture, "tensors", (json_int_t)report.tensors, "bytes",
                                        (json_int_t)report.bytes, "type", options.type, "notes", report.notes,
                                        "seconds", cli_json_real(cli_now() - d.begin)));
    } else {
        print_notes(report.notes);
        printf("%s: %s in %s tensors, architecture %s, %.1f s\n", path, cli_bytes_label((double)report.bytes).text,
               cli_grouped(report.tensors).text, report.architecture, cli_now() - d.begin);
    }
    sgm_convert_report_free(&report);
    rules_free(&experts);
    return code;
}

static int quantize(void *context, const sgm_convert_options *options, sgm_convert_report *report, sgm_error *error) {
    const cli_args *args = context;
    return sgm_model_quantize(cli_text(args, "model"), options, cli_text(args, "out"), report, error);
}

static int run(const cli_args *args) {
    return cli_convert(args, quantize, (void *)(uintptr_t)args, cli_text(args, "out"));
}

static const cli_flag flags[] = {
    {"model", CLI_TEXT, "M", NULL, 0, 0, true, "model folder, checkpoint, run folder (its latest) or GGUF file"},
    {"type", CLI_TEXT, "T", "q8_0", 0, 0, false,
     "type of every matrix: f32, f16, bf16, q8_0, q4_0, q5_0, q4_k or q6_k"},
    CLI_CONVERT_FLAGS,
    {"tokenizer", CLI_TEXT, "PATH", NULL, 0, 0, false,
     "a tokenizer to put into the file (without it: the model's own)"},
    {"out", CLI_TEXT, "FILE", NULL, 0, 0, true, "the .gguf file to write"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_quantize = {
    .name = "quantize",
    .group = "shape",
    .summary = "write a model as a GGUF file, its weights in other types",
    .flags = flags,
    .details =
        "Embeddings and head get the type that all matrices get; routers and norm gains stay f32. Rows whose length is "
        "no\n"
        "multiple of a type's block get a fallback, which is said.\n\n"
        "Rules: --tensor-type ffn_down_exps=q8_0 'blk.[0-3].attn_*=f16' names kinds or whole names; the last that "
        "matches\n"
        "decides. --expert-type 5:0-15=q8_0 '*:7=f16' decides for single experts (LAYER:EXPERT); it may name a file "
        "with\n"
        "a rule on every line. Experts of a layer that differ are written one by one, in architecture sigmoe.\n\n"
        "A GGUF file is a model too: --type f32 unpacks it, and a matrix that has its type already is copied as it "
        "is.\n"
        "An --out that exists is replaced if it is a GGUF file, but not the model itself. Values that are not finite "
        "in\n"
        "their new type are refused. Ctrl-C leaves nothing behind.",
    .example = "sigmoe quantize --model runs/demo --type q4_0 --out demo-q4_0.gguf\n"
               "sigmoe quantize --model runs/demo --type q4_k --tensor-type token_embd=q8_0 --out demo.gguf",
    .run = run,
};
