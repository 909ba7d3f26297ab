// SPDX-License-Identifier: Apache-2.0
/* --help from the tables: the overview of all commands, and one command's flags with an example. */
#include <string.h>

#include "cli.h"

/* Columns a UTF-8 text takes (every character counts as one; the tables use no wide ones). */
static int columns(const char *text) {
    int count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

/* Print `text` wrapped at the terminal's width, every line but the first indented. */
static void print_wrapped(FILE *stream, const char *text, int indent, int at, int width) {
    while (*text) {
        size_t size = strcspn(text, " ");
        int word = 0;
        for (size_t i = 0; i < size; i++)
            word += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (at > indent && at + 1 + word > width) {
            fprintf(stream, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', stream);
            at++;
        }
        fwrite(text, 1, size, stream);
        at += word;
        text += size;
        while (*text == ' ')
            text++;
    }
    fputc('\n', stream);
}

static int help_width(FILE *stream) {
    int width = cli_is_terminal(stream) ? cli_terminal_width(stream) : 100;
    return width < 50 ? 50 : width > 110 ? 110 : width;
}

void cli_print_overview(FILE *stream) {
    int width = help_width(stream);
    fprintf(stream,
            "sigmoe %s: extremely sparse mixture-of-experts language models on ordinary CPUs\n\n"
            "usage: sigmoe COMMAND [flags]\n",
            sgm_version());
    const char *group = "";
    for (const cli_command *const *c = cli_commands; *c; c++) {
        if (strcmp((*c)->group, group) != 0) {
            group = (*c)->group;
            fprintf(stream, "\n%s\n", group);
        }
        fprintf(stream, "  %-18s ", (*c)->name);
        print_wrapped(stream, (*c)->summary, 21, 21, width);
    }
    fprintf(stream, "  help [COMMAND]     this text, or a command's flags; also `sigmoe COMMAND --help`\n"
                    "  --version          the version\n\n"
                    "A first run: sigmoe train --data data/corpus --run runs/first\n"
                    "Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 bad input file, 130 interrupted after "
                    "a clean save.\n");
}

void cli_print_help(FILE *stream, const cli_command *command) {
    int width = help_width(stream), column = 0;
    fprintf(stream, "sigmoe %s: %s\n\nusage: sigmoe %s", command->name, command->summary, command->name);
    if (command->operands)
        fprintf(stream, " %s", command->operands);
    for (const cli_flag *f = command->flags; f && f->name; f++) {
        int size = 2 + columns(f->name) + (f->argument ? 1 + columns(f->argument) : 0);
        column = size > column ? size : column;
        if (f->required)
            fprintf(stream, " --%s %s", f->name, f->argument);
    }
    fprintf(stream, "%s\n\n", command->flags && command->flags->name ? " [flags]" : "");
    column = column > 28 ? 28 : column;
    for (const cli_flag *f = command->flags; f && f->name; f++) {
        int at = fprintf(stream, "  --%s", f->name);
        if (f->argument) {
            fprintf(stream, " %s", f->argument);
            at += 1 + columns(f->argument);
        }
        if (at > column + 2) {
            fprintf(stream, "\n%*s", column + 4, "");
        } else {
            fprintf(stream, "%*s", column + 4 - at, "");
        }
        char text[512];
        snprintf(text, sizeof text, "%s%s%s%s", f->help, f->fallback ? " (default " : "",
                 f->fallback ? f->fallback : "", f->fallback ? ")" : "");
        print_wrapped(stream, text, column + 4, column + 4, width);
    }
    if (command->details)
        fprintf(stream, "\n%s\n", command->details);
    fprintf(stream, "\nexample:\n");
    const char *line = command->example;
    while (*line) {
        size_t size = strcspn(line, "\n");
        fprintf(stream, "  %.*s\n", (int)size, line);
        line += size + (line[size] == '\n');
    }
}
