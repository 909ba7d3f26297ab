// SPDX-License-Identifier: Apache-2.0
/* sigmoe data: build a corpus of shards from text, fetch a recipe's packages, look inside, write the text back out. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

/* A progress line on stderr: rewritten in place on a terminal, one line per new `what` otherwise. */
typedef struct progress_line {
    char what[128];
    double last;
    bool open;
    json_t *warnings; /* strings, for --json */
} progress_line;

static void show_progress(void *context, const char *what, double share) {
    progress_line *line = context;
    bool terminal = cli_is_terminal(stderr), fresh = strncmp(line->what, what, sizeof line->what - 1) != 0;
    double now = cli_now();
    if (!fresh && (!terminal || now - line->last < 0.125))
        return;
    line->last = now;
    snprintf(line->what, sizeof line->what, "%s", what);
    if (terminal) {
        fprintf(stderr, "\r\033[K%3.0f %% %.*s", 100 * share, cli_terminal_width(stderr) - 8, what);
        line->open = true;
    } else {
        fprintf(stderr, "%s\n", what);
    }
}

static void end_progress(progress_line *line) {
    if (line->open)
        fprintf(stderr, "\r\033[K");
    line->open = false;
}

/* A recipe's packages that are not what it was made with. */
static void show_warning(void *context, const char *text) {
    progress_line *line = context;
    end_progress(line);
    cli_warning(text);
    json_array_append_new(line->warnings, json_string(text));
}

/* ---- what is in a corpus --------------------------------------------------------------------------------------- */

static json_t *split_json(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain) {
    return json_pack("{s:I, s:I, s:I}", "documents", (json_int_t)sgm_corpus_documents(corpus, split, domain), "bytes",
                     (json_int_t)sgm_corpus_bytes(corpus, split, domain), "tokens",
                     (json_int_t)sgm_corpus_tokens(corpus, split, domain));
}

static json_t *corpus_json(const sgm_corpus *corpus, const char *folder) {
    json_t *domains = json_array();
    int64_t bytes = 0, tokens = 0;
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++) {
        json_array_append_new(domains, json_pack("{s:s, s:o, s:o}", "domain", sgm_corpus_domain(corpus, d), "train",
                                                 split_json(corpus, SGM_TRAIN, d), "heldout",
                                                 split_json(corpus, SGM_HELDOUT, d)));
        bytes += sgm_corpus_bytes(corpus, SGM_TRAIN, d) + sgm_corpus_bytes(corpus, SGM_HELDOUT, d);
        tokens += sgm_corpus_tokens(corpus, SGM_TRAIN, d) + sgm_corpus_tokens(corpus, SGM_HELDOUT, d);
    }
    char hash[SGM_CORPUS_HASH];
    sgm_corpus_hash_text(corpus, hash);
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "path", folder, "hash", hash, "bytes", (json_int_t)bytes, "tokens",
                     (json_int_t)tokens, "domains", domains);
}

static void print_split(const sgm_corpus *corpus, sgm_corpus_split split, size_t domain) {
    int64_t tokens = sgm_corpus_tokens(corpus, split, domain);
    printf(" %10s %11s %11s", cli_grouped(sgm_corpus_documents(corpus, split, domain)).text,
           cli_bytes_label((double)sgm_corpus_bytes(corpus, split, domain)).text, cli_grouped(tokens).text);
}

static void print_corpus(const sgm_corpus *corpus, const char *folder) {
    printf("%s  (hash %016llx)\n\n", folder, (unsigned long long)sgm_corpus_hash(corpus));
    printf("%-16s %34s %34s\n", "", "training: documents, text, tokens", "held out: documents, text, tokens");
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++) {
        printf("%-16s", sgm_corpus_domain(corpus, d));
        print_split(corpus, SGM_TRAIN, d);
        print_split(corpus, SGM_HELDOUT, d);
        putchar('\n');
    }
}

/* `warnings`: what JSON shows as the ones of its making, or NULL. */
static int show_corpus(const char *folder, bool json, json_t *warnings) {
    sgm_corpus *corpus = NULL;
    sgm_error error = {0};
    if (sgm_corpus_open(folder, &corpus, &error))
        return cli_fail(&error);
    int code = CLI_DONE;
    if (json) {
        json_t *value = corpus_json(corpus, folder);
        if (warnings)
            json_object_set(value, "warnings", warnings);
        code = cli_json_print(value);
    } else {
        print_corpus(corpus, folder);
    }
    sgm_corpus_close(corpus);
    return code;
}

/* ---- build ---------------------------------------------------------------------------------------------------- */

/* A data folder inside the text it is made from would be text, and no text at that, to the next build. */
static int check_out(const char *const *paths, size_t count, const char *out) {
    char parent[4096];
    size_t size = strlen(out);
    while (size > 1 && out[size - 1] == '/')
        size--;
    while (size > 0 && out[size - 1] != '/')
        size--;
    snprintf(parent, sizeof parent, "%.*s", (int)(size ? size : 1), size ? out : ".");
    char *real = realpath(parent, NULL);
    int code = CLI_DONE;
    for (size_t i = 0; i < count && real && code == CLI_DONE; i++) {
        char *source = realpath(paths[i], NULL);
        size_t length = source ? strlen(source) : 0;
        if (source && strncmp(real, source, length) == 0 && (real[length] == '/' || !real[length]))
            code = cli_usage("take a folder outside of it", "%s would lie in %s, among the text it is made from", out,
                             paths[i]);
        free(source);
    }
    free(real);
    return code;
}

static int collect_sources(const cli_args *args, progress_line *line, sgm_data_source **sources, size_t *found) {
    size_t count;
    const char *const *paths = cli_many(args, "data", &count);
    const char *recipe = cli_text(args, "recipe");
    sgm_error error = {0};
    if ((recipe != NULL) == (count > 0))
        return cli_usage("`sigmoe data build --help` shows an example",
                         "sigmoe data build: give either --data or --recipe");
    if (cli_given(args, "tokenizer") && cli_given(args, "vocabulary"))
        return cli_usage("a tokenizer has its own number of tokens; --vocabulary is for one that is trained here",
                         "sigmoe data build: give either --tokenizer or --vocabulary");
    if (recipe && cli_given(args, "separator"))
        return cli_usage("`split` in the recipe parts a package's files",
                         "sigmoe data build: --separator goes with --data, not with --recipe");
    int code = cli_check_inputs(paths, count);
    if (code == CLI_DONE)
        code = check_out(paths, count, cli_text(args, "out"));
    if (code != CLI_DONE)
        return code;
    if (!recipe)
        return sgm_data_sources_from_path(paths, count, sources, found, &error) ? cli_fail(&error) : CLI_DONE;
    char folder[4096];
    if (snprintf(folder, sizeof folder, "%s-text", cli_text(args, "out")) >= (int)sizeof folder)
        return cli_usage("use a shorter path", "sigmoe data build: the path after --out is too long");
    const char *fetched = cli_text(args, "text");
    if (sgm_data_recipe_fetch(recipe, fetched ? fetched : folder, sources, found, show_progress, show_warning, line,
                              &error)) {
        end_progress(line);
        return cli_fail(&error);
    }
    return CLI_DONE;
}

/* The same sources, parted at --separator; malloc'ed, and what they point at stays the other list's. */
static sgm_data_source *part_sources(const cli_args *args, const sgm_data_source *sources, size_t count) {
    sgm_data_source *parted = calloc(count, sizeof *parted);
    for (size_t i = 0; parted && i < count; i++) {
        parted[i] = sources[i];
        if (cli_given(args, "separator"))
            parted[i].separator = cli_text(args, "separator");
    }
    return parted;
}

static int build(const cli_args *args, progress_line *line) {
    sgm_data_source *sources = NULL;
    size_t found = 0;
    int code = collect_sources(args, line, &sources, &found);
    if (code != CLI_DONE)
        return code;
    sgm_data_source *parted = part_sources(args, sources, found);
    if (!parted) {
        sgm_data_sources_free(sources, found);
        return cli_no_memory("the list of sources");
    }
    sgm_data_build_options options = {
        .sources = parted,
        .source_count = found,
        .tokenizer_path = cli_text(args, "tokenizer"),
        .vocabulary = cli_integer(args, "vocabulary"),
        .heldout_share = cli_real(args, "heldout-share"),
        .deduplicate = !cli_switch(args, "keep-duplicates"),
        .document_limit_bytes = cli_integer(args, "document-limit"),
        .threads = (int)cli_integer(args, "threads"),
        .progress = show_progress,
        .context = line,
    };
    sgm_error error = {0};
    sgm_status status = sgm_data_build(&options, cli_text(args, "out"), &error);
    end_progress(line);
    free(parted);
    sgm_data_sources_free(sources, found);
    return status ? cli_fail(&error) : show_corpus(cli_text(args, "out"), cli_switch(args, "json"), line->warnings);
}

static int run_build(const cli_args *args) {
    progress_line line = {.warnings = json_array()};
    int code = build(args, &line);
    json_decref(line.warnings);
    return code;
}

static const cli_flag build_flags[] = {
    {"data", CLI_MANY, "PATH…", NULL, 0, 0, false, "text files, or folders whose subfolders are the domains"},
    {"recipe", CLI_TEXT, "FILE", NULL, 0, 0, false, "fetch and extract the packages this recipe names instead"},
    {"text", CLI_TEXT, "DIR", NULL, 0, 0, false, "where a recipe's text is kept (without it: OUT-text)"},
    {"out", CLI_TEXT, "DIR", NULL, 0, 0, true, "the data folder; it must not exist or be empty"},
    {"tokenizer", CLI_TEXT, "PATH", NULL, 0, 0, false, "use this tokenizer.json; without it one is trained"},
    {"vocabulary", CLI_INTEGER, "N", "4096", SGM_DATA_VOCABULARY_LEAST, SGM_DATA_VOCABULARY_MOST, false,
     "tokens of the tokenizer that is trained"},
    {"heldout-share", CLI_REAL, "X", "0.02", 0, SGM_HELDOUT_SHARE_MOST, false,
     "share of documents held out for evaluation"},
    {"separator", CLI_TEXT, "LINE", "<|endoftext|>", 0, 0, false, "the line that parts documents within a file"},
    {"document-limit", CLI_INTEGER, "BYTES", "0", 0, 1e15, false,
     "cut longer documents into several at line ends; 0: never"},
    {"keep-duplicates", CLI_SWITCH, NULL, NULL, 0, 0, false, "do not drop repeated documents and lines"},
    {"threads", CLI_INTEGER, "N", "0", 0, SGM_DATA_THREADS_MOST, false, "that encode; 0: as many as there are cores"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_data_build = {
    .name = "data build",
    .group = "make",
    .summary = "turn text into a corpus: domains, held-out split, tokenizer, shards",
    .flags = build_flags,
    .details =
        "A file without the separator's line is one document. Any bytes are legal; bytes that are not UTF-8 are kept\n"
        "as they are. Files with NUL bytes at their start are taken for binary and refused. In a domain's name, what "
        "is\n"
        "no letter, digit, '.', '_' or '-' of the folder's name becomes '_'.",
    .example = "sigmoe data build --data data/corpus --out corpora/small\n"
               "sigmoe data build --recipe data/recipe.yaml --out corpora/debian --vocabulary 16384",
    .run = run_build,
};

/* ---- fetch ---------------------------------------------------------------------------------------------------- */

static int fetch(const cli_args *args, progress_line *line) {
    sgm_data_source *sources = NULL;
    size_t found = 0;
    sgm_error error = {0};
    if (!cli_given(args, "recipe") && access(cli_text(args, "recipe"), F_OK) != 0)
        return cli_error(CLI_BAD_INPUT,
                         "name one with --recipe FILE; without it data/recipe.yaml of this folder is taken",
                         "sigmoe data fetch: there is no %s here", cli_text(args, "recipe"));
    sgm_status status = sgm_data_recipe_fetch(cli_text(args, "recipe"), cli_text(args, "out"), &sources, &found,
                                              show_progress, show_warning, line, &error);
    end_progress(line);
    if (status)
        return cli_fail(&error);
    int code = CLI_DONE;
    if (cli_switch(args, "json")) {
        json_t *list = json_array();
        for (size_t i = 0; i < found; i++)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s?}", "domain", sources[i].domain, "path",
                                                  sources[i].path, "licence", sources[i].licence));
        code = cli_json_print(
            json_pack("{s:s, s:o, s:O}", "path", cli_text(args, "out"), "sources", list, "warnings", line->warnings));
    } else {
        for (size_t i = 0; i < found; i++)
            printf("%-14s %s (%s)\n", sources[i].domain, sources[i].path,
                   sources[i].licence ? sources[i].licence : "licence unknown");
    }
    sgm_data_sources_free(sources, found);
    return code;
}

static int run_fetch(const cli_args *args) {
    progress_line line = {.warnings = json_array()};
    int code = fetch(args, &line);
    json_decref(line.warnings);
    return code;
}

static const cli_flag fetch_flags[] = {
    {"recipe", CLI_TEXT, "FILE", "data/recipe.yaml", 0, 0, false, "packages, paths in them, domains"},
    {"out", CLI_TEXT, "DIR", NULL, 0, 0, true, "folder for the text, one subfolder a domain"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_data_fetch = {
    .name = "data fetch",
    .group = "make",
    .summary = "fetch and extract the Debian packages of a recipe",
    .flags = fetch_flags,
    .example = "sigmoe data fetch --recipe data/recipe.yaml --out corpora/debian-text",
    .run = run_fetch,
};

/* ---- info and text -------------------------------------------------------------------------------------------- */

static int run_info(const cli_args *args) {
    return show_corpus(cli_operand(args, 0), cli_switch(args, "json"), NULL);
}

static const cli_flag info_flags[] = {{"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"}, {0}};

const cli_command cli_data_info = {
    .name = "data info",
    .group = "make",
    .summary = "domains, documents, bytes and tokens of a corpus",
    .operands = "DIR",
    .min_operands = 1,
    .max_operands = 1,
    .flags = info_flags,
    .example = "sigmoe data info runs/demo/data",
    .run = run_info,
};

static int write_document(const sgm_tokenizer *tokenizer, const int32_t *ids, int64_t count) {
    char *text = NULL;
    size_t size = 0;
    sgm_error error = {0};
    if (sgm_tokenizer_decode(tokenizer, ids, (size_t)count, false, &text, &size, &error))
        return cli_fail(&error);
    bool written = fwrite(text, 1, size, stdout) == size;
    sgm_text_free(text);
    return written ? CLI_DONE : cli_error(CLI_FAILED, CLI_OUTPUT_HINT, "standard output: writing failed");
}

/* A domain's name has '_' for what the folder's name had besides letters, digits, '-' and '.': that is near. */
static int unknown_domain(const sgm_corpus *corpus, const char *wrong) {
    size_t count = sgm_corpus_domains(corpus);
    const char **names = calloc(count + 1, sizeof *names);
    for (size_t d = 0; names && d < count; d++)
        names[d] = sgm_corpus_domain(corpus, d);
    const char *near = names ? sgm_nearest(wrong, names) : NULL;
    char hint[160];
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s? `sigmoe data info` lists the domains", near);
    else
        snprintf(hint, sizeof hint, "`sigmoe data info` lists the domains");
    free(names);
    return cli_usage(hint, "sigmoe data text: there is no domain \"%s\"", wrong);
}

static int run_text(const cli_args *args) {
    const char *name = cli_text(args, "split"), *only = cli_text(args, "domain");
    if (strcmp(name, "train") != 0 && strcmp(name, "heldout") != 0)
        return cli_usage("write --split train or --split heldout", "sigmoe data text: there is no split \"%s\"", name);
    sgm_corpus_split split = strcmp(name, "train") == 0 ? SGM_TRAIN : SGM_HELDOUT;
    sgm_corpus *corpus = NULL;
    sgm_tokenizer *tokenizer = NULL;
    sgm_error error = {0};
    if (sgm_corpus_open(cli_operand(args, 0), &corpus, &error))
        return cli_fail(&error);
    int code = CLI_DONE;
    if (sgm_tokenizer_open(sgm_corpus_tokenizer_path(corpus), &tokenizer, &error))
        code = cli_fail(&error);
    bool found = false;
    for (size_t d = 0; d < sgm_corpus_domains(corpus) && code == CLI_DONE; d++) {
        if (only && strcmp(only, sgm_corpus_domain(corpus, d)) != 0)
            continue;
        found = true;
        for (int64_t i = 0; i < sgm_corpus_documents(corpus, split, d) && code == CLI_DONE; i++) {
            int64_t count = 0;
            const int32_t *ids = sgm_corpus_document(corpus, split, d, i, &count, NULL);
            code = write_document(tokenizer, ids, count);
        }
    }
    if (code == CLI_DONE && !found)
        code = unknown_domain(corpus, only);
    sgm_tokenizer_close(tokenizer);
    sgm_corpus_close(corpus);
    return code;
}

static const cli_flag text_flags[] = {
    {"split", CLI_TEXT, "NAME", "heldout", 0, 0, false, "train or heldout"},
    {"domain", CLI_TEXT, "NAME", NULL, 0, 0, false, "this domain only"},
    {0},
};

const cli_command cli_data_text = {
    .name = "data text",
    .group = "make",
    .summary = "write a corpus' text to standard output, decoded from its shards",
    .operands = "DIR",
    .min_operands = 1,
    .max_operands = 1,
    .flags = text_flags,
    .example = "sigmoe data text runs/demo/data --split heldout | bzip2 -9 | wc -c",
    .run = run_text,
};
