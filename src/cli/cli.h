// SPDX-License-Identifier: Apache-2.0
/* What the commands of the program share: flags as tables, errors as text, numbers for people, JSON for machines.
 *
 * A command is one file with one const struct and one line in main.c. Its flag table drives parsing, --help and the
 * hints for misspelt flags. Only headers of include/sigmoe are used here. */
#ifndef SGM_CLI_CLI_H
#define SGM_CLI_CLI_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sigmoe/sigmoe.h"

/* Exit codes; pinned, scripts read them. */
enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_BAD_INPUT = 3, CLI_INTERRUPTED = 130 };

/* ---- flags ---------------------------------------------------------------------------------------------------- */

typedef enum cli_kind {
    CLI_SWITCH,  /* --json */
    CLI_TEXT,    /* --out PATH */
    CLI_INTEGER, /* checked against min and max; 10k, 3M and 2G are understood */
    CLI_REAL,
    CLI_INTEGERS, /* --depth 0,2048: each checked like an integer */
    CLI_MANY,     /* --data A B C, and again --data D */
} cli_kind;

typedef struct cli_flag {
    const char *name; /* without the dashes; NULL ends a table */
    cli_kind kind;
    const char *argument; /* "N", "FILE…"; NULL for a switch */
    const char *fallback; /* the value when it is not given, shown in --help; NULL: none */
    double min, max;      /* legal range of a number; ignored when min ≥ max */
    bool required;
    const char *help;
} cli_flag;

typedef struct cli_args cli_args;
typedef struct cli_command {
    const char *name;     /* "train", "tokenizer encode" */
    const char *group;    /* heading in `sigmoe help` */
    const char *summary;  /* one line */
    const char *operands; /* "MODEL", "[FILE…]"; NULL: takes none */
    size_t min_operands, max_operands;
    const cli_flag *flags;
    const char *details; /* paragraphs under the flags; may be NULL */
    const char *example; /* whole lines, each "sigmoe …" */
    int (*run)(const cli_args *args);
} cli_command;

extern const cli_command *const cli_commands[]; /* NULL-terminated */

/* Parse what follows the command's name. Prints errors itself; returns CLI_DONE or CLI_USAGE. */
int cli_parse(const cli_command *command, int argc, char **argv, cli_args **args);
void cli_args_free(cli_args *args);
const cli_command *cli_args_command(const cli_args *args);
bool cli_given(const cli_args *args, const char *flag);
/* Value or fallback. Naming a flag that the command's table lacks is a bug and ends the program with a message. */
bool cli_switch(const cli_args *args, const char *flag);
const char *cli_text(const cli_args *args, const char *flag); /* NULL when neither is there */
int64_t cli_integer(const cli_args *args, const char *flag);
double cli_real(const cli_args *args, const char *flag);
const int64_t *cli_integers(const cli_args *args, const char *flag, size_t *count);
const char *const *cli_many(const cli_args *args, const char *flag, size_t *count);
size_t cli_operand_count(const cli_args *args);
const char *cli_operand(const cli_args *args, size_t index);
const char *const *cli_operands(const cli_args *args);

void cli_print_overview(FILE *stream);
void cli_print_help(FILE *stream, const cli_command *command);
const cli_command *cli_command_find(const char *name);

/* ---- a config from --preset, --config, --set (put CLI_CONFIG_FLAGS into the table) ------------------------------- */

#define CLI_CONFIG_FLAGS                                                                                               \
    {"preset", CLI_TEXT, "P", "nano", 0, 0, false, "start from this preset (`sigmoe list presets`)"},                  \
        {"config", CLI_TEXT, "FILE", NULL, 0, 0, false, "layer a YAML file on top of the preset"}, {                   \
        "set", CLI_MANY, "KEY=VALUE…", NULL, 0, 0, false, "override single keys (`sigmoe list config`)"                \
    }
/* Returns an exit code; *config is owned by the caller on CLI_DONE. */
int cli_config(const cli_args *args, sgm_config **config);

/* ---- errors --------------------------------------------------------------------------------------------------- */

int cli_exit_code(sgm_status status);
/* Print `error: …` and `hint: …` to stderr and give the exit code. */
int cli_fail(const sgm_error *error);
int cli_no_memory(const char *what); /* the same of memory for `what` */
int cli_usage(const char *hint, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Print `warning: …` to stderr: it goes on, but not quite as was asked. */
void cli_warning(const char *message);
int64_t cli_threads(const cli_args *args); /* --threads; the number of cores where it is 0 */
/* A line on stderr when --threads asks for more than there are cores. */
void cli_note_threads(const cli_args *args);
void cli_note_many_threads(const char *said, int64_t threads); /* the same of a number that was given as `said` */
#define CLI_OUTPUT_HINT "is the disk full, or has the program that reads it ended?"
int cli_error(int code, const char *hint, const char *format, ...) __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* tell static analysis which code comes back */
#define cli_error(code, ...) (cli_error(code, __VA_ARGS__), (code))
#define cli_usage(...) (cli_usage(__VA_ARGS__), CLI_USAGE)
#endif
/* Every path is a file or a folder and not all of them are empty files; CLI_DONE or CLI_BAD_INPUT (printed). */
int cli_check_inputs(const char *const *paths, size_t count);
/* Every path that exists is a regular file; CLI_DONE or CLI_BAD_INPUT (printed). */
int cli_check_files(const char *const *paths, size_t count);
/* What to do about an errno of a path that cannot be read; NULL: nothing in particular. */
const char *cli_path_hint(int number);
/* A folder as people type it, "runs/demo/", as we print it: without slashes at its end. */
void cli_without_slash(const char *path, char *out, size_t room);

/* Set by the first SIGINT or SIGTERM after cli_catch_signals; the second one kills. */
extern volatile int cli_stop;
void cli_catch_signals(void);

/* ---- people --------------------------------------------------------------------------------------------------- */

typedef struct cli_label {
    char text[48];
} cli_label;
cli_label cli_count_label(double value); /* 43.1 M */
cli_label cli_bytes_label(double bytes); /* 172 MiB */
/* "1 token", "12,345 tokens": what is counted, with an s but for one. */
cli_label cli_counted(int64_t value, const char *what);
cli_label cli_grouped(int64_t value);         /* 12,345 */
cli_label cli_duration_label(double seconds); /* 3:07, 1:02:11, "–" when not finite */
/* Number `routed` of the routed sub-layers: "3", or, with attention experts, "1a" for layer 1's attention and "1f" for its
 * feed-forward; and as an object with `layer` and, with attention experts, `part`. */
cli_label cli_routed_label(int64_t attention_experts, int64_t routed);
json_t *cli_routed_json(int64_t attention_experts, int64_t routed);
double cli_now(void); /* monotonic seconds */

bool cli_is_terminal(FILE *stream);
bool cli_use_colour(FILE *stream); /* a terminal, and neither NO_COLOR nor TERM=dumb */
int cli_terminal_width(FILE *stream);
int cli_terminal_height(FILE *stream);

/* Text that arrives in pieces, written as valid UTF-8: incomplete characters are held back, bytes that are none become
 * U+FFFD, and so do control characters when `escape` is set (a terminal must not obey a model). */
typedef struct cli_utf8 {
    unsigned char held[4];
    size_t count;
    bool escape;
    void (*write)(void *context, const char *bytes, size_t size);
    void *context;
} cli_utf8;
void cli_utf8_add(cli_utf8 *stream, const char *bytes, size_t size);
void cli_utf8_end(cli_utf8 *stream);

/* Text of others (names in a file, what was typed) for one line on a terminal: control characters and bytes that are not
 * UTF-8 become '?', in place. Gives the text back. */
char *cli_clean(char *text);

/* A whole file, or stdin for "-"; malloc'ed and NUL-terminated. CLI_DONE or an exit code (printed). A file that the
 * free memory does not hold is refused before it is read; of a pipe or device no more than CLI_STREAM_BYTES are taken. */
#define CLI_STREAM_BYTES ((size_t)1 << 30)
int cli_read(const char *path, char **data, size_t *size);
/* The JSON of such a file, the caller's; what is none is told with `hint`. CLI_DONE or an exit code (printed). */
int cli_read_json(const char *path, const char *hint, json_t **root);
/* Text as token ids; *ids is malloc'ed. CLI_DONE or an exit code (printed). */
int cli_encode(const sgm_tokenizer *tokenizer, const char *text, size_t size, bool specials, int32_t **ids,
               size_t *count);

/* ---- machines ------------------------------------------------------------------------------------------------- */

json_t *cli_json_real(double value);                   /* null when not finite */
json_t *cli_json_text(const char *bytes, size_t size); /* made valid UTF-8 */
int cli_json_print(json_t *value);                     /* takes the reference; an exit code */

/* ---- train's display ------------------------------------------------------------------------------------------ */

typedef struct cli_display cli_display;
typedef struct cli_display_options {
    bool plain; /* lines even on a terminal */
    bool quiet;
    FILE *stream;
    int64_t line_every; /* steps per plain line; 0: chosen from the number of steps */
} cli_display_options;
cli_display *cli_display_new(const cli_display_options *options);
void cli_display_free(cli_display *display);
void cli_display_events(cli_display *display, sgm_trainer_events *events);
void cli_display_banner(cli_display *display, const sgm_trainer_plan *plan, const char *run);
void cli_display_close(cli_display *display); /* take the live block away */
void cli_display_summary(cli_display *display, const char *run, bool interrupted);
json_t *cli_display_json(const cli_display *display, const char *run, bool interrupted);

#endif
