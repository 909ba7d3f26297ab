// SPDX-License-Identifier: Apache-2.0
/* Errors, numbers, terminals, text and JSON as every command writes them. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../base/json.h"
#include "cli.h"

/* ---- errors --------------------------------------------------------------------------------------------------- */

int cli_exit_code(sgm_status status) {
    switch (status) {
    case SGM_OK:
        return CLI_DONE;
    case SGM_EARGUMENT:
    case SGM_EEXISTS:
        return CLI_USAGE;
    case SGM_EFORMAT:
    case SGM_ENOTFOUND:
    case SGM_EPERMISSION:
    case SGM_EUNSUPPORTED: /* nearly always a file of a newer version or of a kind we do not compute */
        return CLI_BAD_INPUT;
    case SGM_EINTERRUPTED:
        return CLI_INTERRUPTED;
    default:
        return CLI_FAILED;
    }
}

/* Both may quote a file or the command line: a terminal must not obey those. */
static void print_error(const char *message, const char *hint) {
    bool colour = cli_use_colour(stderr);
    char text[1024];
    fflush(stdout);
    snprintf(text, sizeof text, "%s", message);
    fprintf(stderr, "%serror:%s %s\n", colour ? "\033[31;1m" : "", colour ? "\033[0m" : "", cli_clean(text));
    snprintf(text, sizeof text, "%s", hint ? hint : "");
    if (*text)
        fprintf(stderr, "%shint:%s %s\n", colour ? "\033[36m" : "", colour ? "\033[0m" : "", cli_clean(text));
}

void cli_warning(const char *message) {
    bool colour = cli_use_colour(stderr);
    char text[1024];
    snprintf(text, sizeof text, "%s", message);
    fprintf(stderr, "%swarning:%s %s\n", colour ? "\033[33m" : "", colour ? "\033[0m" : "", cli_clean(text));
}

int cli_fail(const sgm_error *error) {
    print_error(*error->message ? error->message : sgm_status_text(error->code), error->hint);
    return cli_exit_code(error->code);
}

int cli_no_memory(const char *what) {
    sgm_error error;
    sgm_fail(&error, SGM_EMEMORY, NULL, "not enough memory for %s", what);
    return cli_fail(&error);
}

/* Parentheses keep the header's macros for static analysis out. */
int(cli_usage)(const char *hint, const char *format, ...) {
    char message[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    print_error(message, hint);
    return CLI_USAGE;
}

int(cli_error)(int code, const char *hint, const char *format, ...) {
    char message[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    print_error(message, hint);
    return code;
}

const char *cli_path_hint(int number) {
    switch (number) {
    case ENOENT:
        return "check the path; relative ones start here";
    case ENOTDIR:
        return "check the path: a part of it is a file, not a folder";
    case EISDIR:
        return "give the path of a file";
    case EACCES:
    case EPERM:
        return "check the permissions of the file and of the folders it is in";
    case ELOOP:
    case ENAMETOOLONG:
        return "check the path and the links in it";
    case EMFILE:
    case ENFILE:
        return "too many files are open; see `ulimit -n`";
    default:
        return NULL;
    }
}

int cli_check_inputs(const char *const *paths, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        struct stat about;
        if (stat(paths[i], &about) != 0)
            return cli_error(CLI_BAD_INPUT, cli_path_hint(errno), "%s: cannot be read, %s", paths[i], strerror(errno));
        if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode))
            return cli_error(CLI_BAD_INPUT, "what a pipe or device gives can be saved into a file",
                             "%s: cannot be read, it is neither a file nor a folder", paths[i]);
        any = any || !S_ISREG(about.st_mode) || about.st_size > 0;
    }
    if (count && !any)
        return cli_error(CLI_BAD_INPUT, "give a file with text in it", "%s: there is no text, the file is empty",
                         paths[0]);
    return CLI_DONE;
}

int cli_check_files(const char *const *paths, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct stat about;
        if (stat(paths[i], &about) == 0 && !S_ISREG(about.st_mode))
            return cli_error(CLI_BAD_INPUT, "give a text file; what a pipe or device gives can be saved into one",
                             "%s: cannot be read, it is %s", paths[i],
                             S_ISDIR(about.st_mode) ? "a folder" : "not a regular file");
    }
    return CLI_DONE;
}

void cli_without_slash(const char *path, char *out, size_t room) {
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    snprintf(out, room, "%.*s", (int)(size < room ? size : room - 1), path);
}

int64_t cli_threads(const cli_args *args) {
    sgm_machine machine;
    int64_t threads = cli_integer(args, "threads");
    if (threads > 0)
        return threads;
    sgm_machine_describe(&machine);
    return machine.cores;
}

void cli_note_threads(const cli_args *args) {
    if (cli_given(args, "threads"))
        cli_note_many_threads("--threads", cli_integer(args, "threads"));
}

void cli_note_many_threads(const char *said, int64_t threads) {
    sgm_machine machine;
    sgm_machine_describe(&machine);
    if (machine.cores > 0 && threads > machine.cores)
        fprintf(stderr, "note: %s %lld is more than the %s here, which makes it slower, not faster\n", said,
                (long long)threads, cli_counted(machine.cores, "core").text);
}

/* ---- signals -------------------------------------------------------------------------------------------------- */

volatile int cli_stop;

static void on_signal(int number) {
    (void)number;
    cli_stop = 1;
    signal(SIGINT, SIG_DFL); /* the second one kills */
    signal(SIGTERM, SIG_DFL);
}

void cli_catch_signals(void) {
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- numbers -------------------------------------------------------------------------------------------------- */

static cli_label scaled(double value, double base, const char *const *units, size_t count) {
    cli_label label;
    size_t unit = 0;
    while (unit + 1 < count && fabs(value) >= base) {
        value /= base;
        unit++;
    }
    int digits = unit == 0 && value == floor(value) ? 0 : fabs(value) < 10 ? 2 : fabs(value) < 100 ? 1 : 0;
    snprintf(label.text, sizeof label.text, "%.*f%s%s", digits, value, *units[unit] ? " " : "", units[unit]);
    return label;
}

cli_label cli_count_label(double value) {
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    return scaled(value, 1000, units, sizeof units / sizeof *units);
}

cli_label cli_bytes_label(double bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes == 1)
        return (cli_label){"1 byte"};
    return scaled(bytes, 1024, units, sizeof units / sizeof *units);
}

cli_label cli_grouped(int64_t value) {
    char digits[32];
    cli_label label;
    int size = snprintf(digits, sizeof digits, "%lld", (long long)value);
    size_t at = 0;
    for (int i = 0; i < size; i++) {
        if (i && digits[i - 1] != '-' && (size - i) % 3 == 0)
            label.text[at++] = ',';
        label.text[at++] = digits[i];
    }
    label.text[at] = 0;
    return label;
}

cli_label cli_counted(int64_t value, const char *what) {
    cli_label label;
    snprintf(label.text, sizeof label.text, "%.26s %.16s%s", cli_grouped(value).text, what, value == 1 ? "" : "s");
    return label;
}

cli_label cli_routed_label(int64_t attention_experts, int64_t routed) {
    cli_label label;
    const char *part = attention_experts == 0 ? "" : sgm_routed_is_attention(attention_experts, routed) ? "a" : "f";
    snprintf(label.text, sizeof label.text, "%lld%s", (long long)sgm_routed_layer(attention_experts, routed), part);
    return label;
}

json_t *cli_routed_json(int64_t attention_experts, int64_t routed) {
    json_t *json = json_pack("{s:I}", "layer", (json_int_t)sgm_routed_layer(attention_experts, routed));
    bool attention = sgm_routed_is_attention(attention_experts, routed);
    if (attention_experts > 0)
        json_object_set_new(json, "part", json_string(attention ? "attention" : "feed_forward"));
    return json;
}

cli_label cli_duration_label(double seconds) {
    cli_label label;
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        snprintf(label.text, sizeof label.text, "–");
        return label;
    }
    long long whole = (long long)(seconds + 0.5);
    if (whole >= 3600)
        snprintf(label.text, sizeof label.text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(label.text, sizeof label.text, "%lld:%02lld", whole / 60, whole % 60);
    return label;
}

double cli_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- terminals ------------------------------------------------------------------------------------------------ */

bool cli_is_terminal(FILE *stream) {
    const char *term = getenv("TERM");
    return isatty(fileno(stream)) && !(term && strcmp(term, "dumb") == 0);
}

bool cli_use_colour(FILE *stream) {
    const char *none = getenv("NO_COLOR");
    return cli_is_terminal(stream) && !(none && *none);
}

int cli_terminal_width(FILE *stream) {
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *columns = getenv("COLUMNS");
    int width = columns ? atoi(columns) : 0;
    return width > 0 ? width : 80;
}

int cli_terminal_height(FILE *stream) {
    struct winsize size;
    return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

/* ---- text ----------------------------------------------------------------------------------------------------- */

/* Length of the character that starts with `lead`; 0 when none does. */
static size_t character_size(unsigned char lead) {
    return lead < 0x80                   ? 1
           : lead >= 0xc2 && lead < 0xe0 ? 2
           : (lead & 0xf0) == 0xe0       ? 3
           : lead >= 0xf0 && lead < 0xf5 ? 4
                                         : 0;
}

/* Whether the second byte may follow the lead (no overlong forms, no surrogates, nothing above U+10FFFF). */
static bool second_fits(unsigned char lead, unsigned char second) {
    if ((second & 0xc0) != 0x80)
        return false;
    return !((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
             (lead == 0xf4 && second > 0x8f));
}

static void replace(cli_utf8 *stream) {
    stream->write(stream->context, "\xef\xbf\xbd", 3);
}

static void add_byte(cli_utf8 *stream, unsigned char byte) {
    if (stream->count) {
        bool fits = stream->count == 1 ? second_fits(stream->held[0], byte) : (byte & 0xc0) == 0x80;
        if (fits) {
            stream->held[stream->count++] = byte;
            if (stream->count == character_size(stream->held[0])) {
                stream->write(stream->context, (const char *)stream->held, stream->count);
                stream->count = 0;
            }
            return;
        }
        stream->count = 0;
        replace(stream);
    }
    size_t size = character_size(byte);
    if (size == 0 || (stream->escape && (byte == 0x7f || (byte < 0x20 && byte != '\n' && byte != '\t')))) {
        replace(stream);
    } else if (size == 1) {
        char character = (char)byte;
        stream->write(stream->context, &character, 1);
    } else {
        stream->held[0] = byte;
        stream->count = 1;
    }
}

void cli_utf8_add(cli_utf8 *stream, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        add_byte(stream, (unsigned char)bytes[i]);
}

void cli_utf8_end(cli_utf8 *stream) {
    if (stream->count)
        replace(stream);
    stream->count = 0;
}

char *cli_clean(char *text) {
    for (unsigned char *at = (unsigned char *)text; *at;) {
        size_t size = character_size(*at), fits = 1;
        while (fits < size && (fits == 1 ? second_fits(at[0], at[1]) : (at[fits] & 0xc0) == 0x80))
            fits++;
        bool control = *at < 0x20 || *at == 0x7f || (*at == 0xc2 && at[1] < 0xa0); /* C0, DEL, C1 */
        for (size_t i = 0; (control || fits != size) && i < fits; i++)
            at[i] = '?';
        at += fits;
    }
    return text;
}

/* A stream may never end; a file says how much it holds, and is not begun when that does not fit. *room: the most that
 * is taken. */
static int check_room(FILE *file, const char *name, size_t *room) {
    struct stat about;
    *room = CLI_STREAM_BYTES;
    if (fstat(fileno(file), &about) != 0)
        return cli_error(CLI_BAD_INPUT, NULL, "%s: cannot be read, %s", name, strerror(errno));
    if (S_ISDIR(about.st_mode))
        return cli_error(CLI_BAD_INPUT, "give the path of a file", "%s: cannot be read, it is a folder", name);
    if (!S_ISREG(about.st_mode))
        return CLI_DONE;
    sgm_machine machine;
    sgm_machine_describe(&machine);
    uint64_t have = machine.memory_available_bytes;
    *room = SIZE_MAX / 4;
    if (have && (uint64_t)about.st_size > have)
        return cli_error(CLI_FAILED, "give a smaller file, a sample of the text perhaps",
                         "%s: %s do not fit into the %s of memory that are free", name,
                         cli_bytes_label((double)about.st_size).text, cli_bytes_label((double)have).text);
    return CLI_DONE;
}

int cli_read(const char *path, char **data, size_t *size) {
    bool standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    FILE *file = standard ? stdin : fopen(path, "rb");
    *data = NULL;
    *size = 0;
    if (!file)
        return cli_error(CLI_BAD_INPUT, cli_path_hint(errno), "%s: cannot be read, %s", path, strerror(errno));
    size_t capacity = 0, room;
    int code = check_room(file, name, &room);
    while (code == CLI_DONE) {
        if (*size > room) {
            code = cli_error(CLI_BAD_INPUT, "save it into a file, or give a smaller part of it",
                             "%s: more than the %s that are read from a pipe or a device", name,
                             cli_bytes_label((double)room).text);
            break;
        }
        if (*size + 1 >= capacity) {
            char *grown = realloc(*data, capacity = capacity ? capacity * 2 : 65536);
            if (!grown) {
                code = cli_no_memory(name);
                break;
            }
            *data = grown;
        }
        size_t free_bytes = capacity - *size - 1, most = room + 1 - *size; /* one byte more: the stream goes on */
        size_t got = fread(*data + *size, 1, free_bytes < most ? free_bytes : most, file);
        *size += got;
        if (got == 0)
            break;
    }
    if (code == CLI_DONE && ferror(file))
        code = cli_error(CLI_BAD_INPUT, NULL, "%s: cannot be read, %s", name, strerror(errno));
    if (!standard)
        fclose(file);
    if (code != CLI_DONE) {
        free(*data);
        *data = NULL;
        return code;
    }
    (*data)[*size] = 0;
    return CLI_DONE;
}

int cli_read_json(const char *path, const char *hint, json_t **root) {
    char *text;
    size_t size;
    sgm_error error;
    *root = NULL;
    int code = cli_read(path, &text, &size);
    if (code != CLI_DONE)
        return code;
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    if (sgm_json_read(text, size, 0, name, hint, root, &error))
        code = cli_fail(&error);
    free(text);
    return code;
}

int cli_encode(const sgm_tokenizer *tokenizer, const char *text, size_t size, bool specials, int32_t **ids,
               size_t *count) {
    size_t capacity = size + 8;
    *ids = NULL;
    for (int attempt = 0;; attempt++) {
        int32_t *grown = realloc(*ids, capacity * sizeof **ids);
        sgm_error error = {0};
        sgm_status status = SGM_EMEMORY;
        if (grown) {
            *ids = grown;
            status = sgm_tokenizer_encode(tokenizer, text, size, specials, *ids, capacity, count, &error);
        }
        if (status == SGM_OK)
            return CLI_DONE;
        if (status == SGM_ESPACE && attempt == 0) { /* normalising made the text longer; now the size is known */
            capacity = *count;
            continue;
        }
        free(*ids);
        *ids = NULL;
        return grown ? cli_fail(&error) : cli_no_memory("the tokens");
    }
}

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

json_t *cli_json_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

typedef struct text_sink {
    char *data;
    size_t size;
} text_sink;

static void sink_write(void *context, const char *bytes, size_t size) {
    text_sink *sink = context;
    memcpy(sink->data + sink->size, bytes, size);
    sink->size += size;
}

json_t *cli_json_text(const char *bytes, size_t size) {
    text_sink sink = {malloc(size * 3 + 4), 0}; /* a replaced byte becomes three */
    if (!sink.data)
        return json_null();
    cli_utf8 stream = {.write = sink_write, .context = &sink};
    cli_utf8_add(&stream, bytes, size);
    cli_utf8_end(&stream);
    json_t *text = json_stringn(sink.data, sink.size);
    free(sink.data);
    return text;
}

int cli_json_print(json_t *value) {
    if (!value)
        return cli_error(CLI_FAILED, "give paths in UTF-8, or more memory",
                         "no JSON output: not enough memory, or a path that is not UTF-8");
    int bad = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(value);
    if (bad || putchar('\n') == EOF)
        return cli_error(CLI_FAILED, CLI_OUTPUT_HINT, "standard output: writing failed, %s", strerror(errno));
    return CLI_DONE;
}
