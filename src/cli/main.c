// SPDX-License-Identifier: Apache-2.0
/* sigmoe, the program: find the command, parse its flags, run it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "commands.h"

const cli_command *const cli_commands[] = {
    &cli_tokenizer_train,
    &cli_tokenizer_encode,
    &cli_tokenizer_decode,
    &cli_tokenizer_info,
    &cli_data_build,
    &cli_data_fetch,
    &cli_data_info,
    &cli_data_text,
    &cli_init,
    &cli_train,
    &cli_generate,
    &cli_eval,
    &cli_bench,
    &cli_inspect,
    &cli_stats,
    &cli_trace,
    &cli_replay,
    &cli_report,
    &cli_lab_list,
    &cli_lab_show,
    &cli_lab_run,
    &cli_lab_report,
    &cli_quantize,
    &cli_prune,
    &cli_grow,
    &cli_place,
    &cli_list,
    &cli_plan,
    &cli_doctor,
    NULL,
};

const cli_command *cli_command_find(const char *name) {
    for (const cli_command *const *c = cli_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

/* Whether `verb` is the first word of commands like "tokenizer train". */
static bool is_family(const char *verb) {
    size_t size = strlen(verb);
    for (const cli_command *const *c = cli_commands; *c; c++)
        if (strncmp((*c)->name, verb, size) == 0 && (*c)->name[size] == ' ')
            return true;
    return false;
}

static void print_family(FILE *stream, const char *verb) {
    size_t size = strlen(verb);
    fprintf(stream, "usage: sigmoe %s COMMAND [flags]\n\n", verb);
    for (const cli_command *const *c = cli_commands; *c; c++)
        if (strncmp((*c)->name, verb, size) == 0 && (*c)->name[size] == ' ')
            fprintf(stream, "  %-18s %s\n", (*c)->name, (*c)->summary);
    fprintf(stream, "\n`sigmoe %s COMMAND --help` explains one of them.\n", verb);
}

/* The nearest of the first words (family NULL) or of a family's second words. */
static const char *nearest_word(const char *wrong, const char *family) {
    static char words[64][32];
    const char *names[66];
    size_t count = 0, skip = family ? strlen(family) + 1 : 0;
    for (const cli_command *const *c = cli_commands; *c && count < 64; c++) {
        if (family && (strncmp((*c)->name, family, skip - 1) != 0 || (*c)->name[skip - 1] != ' '))
            continue;
        snprintf(words[count], sizeof words[count], "%.*s", (int)strcspn((*c)->name + skip, " "), (*c)->name + skip);
        names[count] = words[count];
        count++;
    }
    if (!family)
        names[count++] = "help";
    names[count] = NULL;
    return sgm_nearest(wrong, names);
}

static int unknown_verb(const char *wrong, const char *family) {
    const char *near = nearest_word(wrong, family);
    char hint[160];
    const char *space = family ? " " : "", *prefix = family ? family : "";
    if (near)
        snprintf(hint, sizeof hint, "did you mean `sigmoe %s%s%s`?", prefix, space, near);
    else
        snprintf(hint, sizeof hint, "`sigmoe %s%shelp` lists the commands", prefix, space);
    return cli_usage(hint, "sigmoe%s%s: there is no command \"%s\"", family ? " " : "", prefix, wrong);
}

static bool asks_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* `sigmoe help [VERB [COMMAND]]` */
static int help(int argc, char **argv) {
    if (argc == 0) {
        cli_print_overview(stdout);
        return CLI_DONE;
    }
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
    const cli_command *command = cli_command_find(name);
    if (command)
        cli_print_help(stdout, command);
    else if (argc == 1 && is_family(argv[0]))
        print_family(stdout, argv[0]);
    else if (argc > 1 && is_family(argv[0]))
        return unknown_verb(argv[1], argv[0]);
    else if (argc > 1 && cli_command_find(argv[0]))
        return cli_usage("`sigmoe help COMMAND` takes no more than the command's name",
                         "sigmoe help %s: it is not clear what \"%s\" is for", argv[0], argv[1]);
    else
        return unknown_verb(argv[0], NULL);
    return CLI_DONE;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        cli_print_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("sigmoe %s\n", sgm_version());
        return CLI_DONE;
    }
    if (asks_help(argv[1]))
        return help(argc - 2, argv + 2);
    const cli_command *command = cli_command_find(argv[1]);
    int used = 2;
    if (!command && is_family(argv[1])) {
        if (argc < 3) {
            print_family(stderr, argv[1]);
            return CLI_USAGE;
        }
        if (asks_help(argv[2])) {
            print_family(stdout, argv[1]);
            return CLI_DONE;
        }
        char name[64];
        snprintf(name, sizeof name, "%s %s", argv[1], argv[2]);
        command = cli_command_find(name);
        if (!command)
            return unknown_verb(argv[2], argv[1]);
        used = 3;
    }
    if (!command)
        return unknown_verb(argv[1], NULL);
    for (int i = used; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            cli_print_help(stdout, command);
            return CLI_DONE;
        }
    cli_args *args = NULL;
    int code = cli_parse(command, argc - used, argv + used, &args);
    if (code != CLI_DONE)
        return code;
    code = command->run(args);
    cli_args_free(args);
    return code;
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN); /* beyond `ulimit -f` a write then fails, and the error says so */
    int code = dispatch(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_DONE)
        code = cli_error(CLI_FAILED, CLI_OUTPUT_HINT, "standard output: writing failed, %s", strerror(errno));
    return code;
}
