// SPDX-License-Identifier: Apache-2.0
/* Parsing by table. `--flag value` and `--flag=value`; a flag that takes many values takes every word up to the next
 * flag; `--` ends the flags. Numbers are checked while parsing, so that a command sees only legal ones. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct cli_values {
    const char **items;
    size_t count;
    int64_t integer;
    double real;
    int64_t *integers; /* of a list */
    size_t integer_count;
} cli_values;

struct cli_args {
    const cli_command *command;
    size_t flag_count;
    cli_values *values;
    const char **operands;
    size_t operand_count;
    const char **storage;
};

static size_t count_flags(const cli_command *command) {
    size_t count = 0;
    while (command->flags && command->flags[count].name)
        count++;
    return count;
}

static int unknown_flag(const cli_args *args, const char *name, size_t size) {
    const char **names = calloc(args->flag_count + 2, sizeof *names);
    char wrong[64];
    snprintf(wrong, sizeof wrong, "%.*s", (int)(size < 63 ? size : 63), name);
    const char *near = NULL;
    if (names) {
        for (size_t i = 0; i < args->flag_count; i++)
            names[i] = args->command->flags[i].name;
        names[args->flag_count] = "help";
        near = sgm_nearest(wrong, names);
    }
    char hint[160];
    if (near)
        snprintf(hint, sizeof hint, "did you mean --%s? `sigmoe %s --help` lists all flags", near, args->command->name);
    else
        snprintf(hint, sizeof hint, "`sigmoe %s --help` lists all flags", args->command->name);
    free(names);
    return cli_usage(hint, "sigmoe %s: there is no flag --%s", args->command->name, wrong);
}

/* 1000, 10k, 3M, 2G. The suffix multiplies by powers of 1000. What is too large is the nearest that is not, and *fits is
 * false. */
static bool parse_integer(const char *text, int64_t *value, bool *fits) {
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    int64_t scale = 1;
    if (end != text && *end && !end[1]) {
        scale = *end == 'k' || *end == 'K' ? 1000 : *end == 'M' ? 1000000 : *end == 'G' ? 1000000000 : 0;
        end++;
    }
    if (end == text || *end || !scale)
        return false;
    *fits = errno == 0 && !__builtin_mul_overflow(number, scale, value);
    if (!*fits)
        *value = number < 0 ? INT64_MIN : INT64_MAX;
    return true;
}

static int check_number(const cli_args *args, const cli_flag *flag, const char *text, cli_values *values) {
    double number;
    bool fits = true;
    if (flag->kind == CLI_INTEGER) {
        if (!parse_integer(text, &values->integer, &fits))
            return cli_usage("write it like 1000 or 10k", "sigmoe %s --%s: \"%s\" is not a whole number",
                             args->command->name, flag->name, text);
        number = (double)values->integer;
    } else {
        char *end = NULL;
        values->real = strtod(text, &end);
        bool decimal = strspn(text, "+-.0123456789eE") == strlen(text); /* strtod reads 0x10 and " 1" too */
        if (end == text || *end || !decimal || !isfinite(values->real))
            return cli_usage("write it like 0.8", "sigmoe %s --%s: \"%s\" is not a number", args->command->name,
                             flag->name, text);
        number = values->real;
    }
    if (!fits || (flag->min < flag->max && (number < flag->min || number > flag->max))) {
        char hint[96];
        const char *range =
            flag->kind == CLI_INTEGER ? "legal values are %.0f to %.0f" : "legal values are %.12g to %.12g";
        if (flag->max >= 9e18)
            snprintf(hint, sizeof hint, "the smallest legal value is %.12g", flag->min);
        else
            snprintf(hint, sizeof hint, range, flag->min, flag->max);
        return cli_usage(hint, "sigmoe %s --%s: %s is out of range", args->command->name, flag->name, text);
    }
    return CLI_DONE;
}

/* Each number of "0,2048,16k". */
static int check_numbers(const cli_args *args, const cli_flag *flag, const char *text, cli_values *values) {
    char *copy = strdup(text);
    values->integers = calloc(strlen(text) + 1, sizeof *values->integers);
    int code = copy && values->integers ? CLI_DONE : cli_no_memory("a list");
    cli_flag single = *flag;
    single.kind = CLI_INTEGER;
    for (char *item = copy; code == CLI_DONE && item;) {
        char *comma = strchr(item, ',');
        if (comma)
            *comma = '\0';
        code = check_number(args, &single, item, values);
        values->integers[values->integer_count++] = values->integer;
        item = comma ? comma + 1 : NULL;
    }
    free(copy);
    return code;
}

static bool looks_like_flag(const char *word) {
    return word[0] == '-' && word[1] == '-' && word[2];
}

static int take_flag(cli_args *args, int argc, char **argv, int *at) {
    const char *word = argv[*at] + 2;
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : strlen(word);
    size_t f = 0;
    while (f < args->flag_count &&
           (strlen(args->command->flags[f].name) != size || strncmp(args->command->flags[f].name, word, size) != 0))
        f++;
    if (f == args->flag_count)
        return unknown_flag(args, word, size);
    const cli_flag *flag = &args->command->flags[f];
    cli_values *values = &args->values[f];
    if (flag->kind == CLI_SWITCH) {
        if (equals)
            return cli_usage("leave out the `=` and what follows", "sigmoe %s: --%s takes no value",
                             args->command->name, flag->name);
        values->items[values->count++] = "";
        return CLI_DONE;
    }
    if (!equals && (*at + 1 >= argc || looks_like_flag(argv[*at + 1]) || strcmp(argv[*at + 1], "--") == 0)) {
        char hint[128];
        snprintf(hint, sizeof hint, "write --%s %s; a value that begins with dashes as --%s=VALUE", flag->name,
                 flag->argument, flag->name);
        return cli_usage(hint, "sigmoe %s: --%s needs a value", args->command->name, flag->name);
    }
    if (flag->kind == CLI_MANY) {
        if (equals)
            values->items[values->count++] = equals + 1;
        else
            while (*at + 1 < argc && !looks_like_flag(argv[*at + 1]) && strcmp(argv[*at + 1], "--") != 0)
                values->items[values->count++] = argv[++*at];
        return CLI_DONE;
    }
    if (values->count)
        return cli_usage("keep one of them", "sigmoe %s: --%s is given twice", args->command->name, flag->name);
    values->items[values->count++] = equals ? equals + 1 : argv[++*at];
    if (flag->kind == CLI_TEXT)
        return CLI_DONE;
    if (flag->kind == CLI_INTEGERS)
        return check_numbers(args, flag, values->items[0], values);
    return check_number(args, flag, values->items[0], values);
}

/* A name that is empty, mostly a variable of a script that was never set. Texts and values may be empty. */
static int check_names(const cli_args *args, const cli_flag *flag, const cli_values *values) {
    static const char *const names[] = {"DIR", "FILE", "FILE…", "LINE", "M", "NAME", "P", "PATH", "PATH…", "RUN", "T"};
    bool name = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && flag->kind != CLI_SWITCH; i++)
        name = name || strcmp(flag->argument, names[i]) == 0;
    for (size_t i = 0; name && i < values->count; i++)
        if (!*values->items[i])
            return cli_usage("is the variable set that should be here?", "sigmoe %s: --%s is given an empty %.*s",
                             args->command->name, flag->name, (int)strcspn(flag->argument, "\xe2"), flag->argument);
    return CLI_DONE;
}

static int check_all(cli_args *args) {
    for (size_t f = 0; f < args->flag_count; f++) {
        const cli_flag *flag = &args->command->flags[f];
        cli_values *values = &args->values[f];
        if (flag->required && !values->count) {
            char hint[160];
            snprintf(hint, sizeof hint, "`sigmoe %s --help` shows an example", args->command->name);
            return cli_usage(hint, "sigmoe %s: --%s %s is missing", args->command->name, flag->name, flag->argument);
        }
        int named = check_names(args, flag, values);
        if (named != CLI_DONE)
            return named;
        if (!values->count && flag->fallback && (flag->kind == CLI_INTEGER || flag->kind == CLI_REAL)) {
            int code = check_number(args, flag, flag->fallback, values);
            if (code)
                return code;
        }
        if (!values->count && flag->fallback && flag->kind == CLI_INTEGERS) {
            int code = check_numbers(args, flag, flag->fallback, values);
            if (code)
                return code;
        }
    }
    const cli_command *command = args->command;
    char hint[160];
    snprintf(hint, sizeof hint, "`sigmoe %s --help` shows an example", command->name);
    if (args->operand_count < command->min_operands)
        return cli_usage(hint, "sigmoe %s: %s is missing", command->name, command->operands);
    if (args->operand_count > command->max_operands)
        return cli_usage(hint, "sigmoe %s: it is not clear what \"%s\" is for", command->name,
                         args->operands[command->max_operands]);
    return CLI_DONE;
}

int cli_parse(const cli_command *command, int argc, char **argv, cli_args **result) {
    *result = NULL;
    cli_args *args = calloc(1, sizeof *args);
    size_t flags = count_flags(command), room = (size_t)argc + 1;
    if (args) {
        args->command = command;
        args->flag_count = flags;
        args->values = calloc(flags + 1, sizeof *args->values);
        args->storage = calloc((flags + 1) * room, sizeof *args->storage);
    }
    if (!args || !args->values || !args->storage) {
        cli_args_free(args);
        return cli_no_memory("the command line");
    }
    for (size_t f = 0; f < flags; f++)
        args->values[f].items = args->storage + f * room;
    args->operands = args->storage + flags * room;

    int code = CLI_DONE;
    bool flags_over = false;
    for (int i = 0; i < argc && code == CLI_DONE; i++) {
        if (!flags_over && strcmp(argv[i], "--") == 0)
            flags_over = true;
        else if (!flags_over && looks_like_flag(argv[i]))
            code = take_flag(args, argc, argv, &i);
        else if (!flags_over && argv[i][0] == '-' && argv[i][1])
            code = cli_usage("flags are written with two dashes", "sigmoe %s: there is no flag %s", command->name,
                             argv[i]);
        else
            args->operands[args->operand_count++] = argv[i];
    }
    if (code == CLI_DONE)
        code = check_all(args);
    if (code != CLI_DONE) {
        cli_args_free(args);
        return code;
    }
    *result = args;
    return CLI_DONE;
}

void cli_args_free(cli_args *args) {
    if (!args)
        return;
    for (size_t f = 0; args->values && f < args->flag_count; f++)
        free(args->values[f].integers);
    free(args->values);
    free(args->storage);
    free(args);
}

const cli_command *cli_args_command(const cli_args *args) {
    return args->command;
}

static size_t flag_index(const cli_args *args, const char *name) {
    for (size_t f = 0; f < args->flag_count; f++)
        if (strcmp(args->command->flags[f].name, name) == 0)
            return f;
    fprintf(stderr, "error: sigmoe %s asks for --%s, which its table lacks: a bug in sigmoe\n", args->command->name,
            name);
    exit(CLI_FAILED);
}

bool cli_given(const cli_args *args, const char *flag) {
    return args->values[flag_index(args, flag)].count > 0;
}

bool cli_switch(const cli_args *args, const char *flag) {
    return cli_given(args, flag);
}

const char *cli_text(const cli_args *args, const char *flag) {
    size_t f = flag_index(args, flag);
    return args->values[f].count ? args->values[f].items[0] : args->command->flags[f].fallback;
}

int64_t cli_integer(const cli_args *args, const char *flag) {
    return args->values[flag_index(args, flag)].integer;
}

double cli_real(const cli_args *args, const char *flag) {
    return args->values[flag_index(args, flag)].real;
}

const int64_t *cli_integers(const cli_args *args, const char *flag, size_t *count) {
    const cli_values *values = &args->values[flag_index(args, flag)];
    *count = values->integer_count;
    return values->integers;
}

const char *const *cli_many(const cli_args *args, const char *flag, size_t *count) {
    const cli_values *values = &args->values[flag_index(args, flag)];
    *count = values->count;
    return values->items;
}

size_t cli_operand_count(const cli_args *args) {
    return args->operand_count;
}

const char *cli_operand(const cli_args *args, size_t index) {
    return index < args->operand_count ? args->operands[index] : NULL;
}

const char *const *cli_operands(const cli_args *args) {
    return args->operands;
}
