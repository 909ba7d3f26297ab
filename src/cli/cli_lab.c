// SPDX-License-Identifier: Apache-2.0
/* Where experiments are, and what `sigmoe lab run` shows: on a terminal a table of the arms, redrawn in place; elsewhere a
 * line at each evaluation. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_lab.h"

#define REDRAW_SECONDS 0.2
static const char ending[] = ".yaml";

/* ---- where ---------------------------------------------------------------------------------------------------- */

static bool is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* PLACE seen from the folder the program lies in. */
static bool beside_program(const char *place, char *path, size_t room) {
    char program[4096];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (size <= 0)
        return false;
    program[size] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    return (size_t)snprintf(path, room, "%s/%s", program, place) < room && is_folder(path);
}

bool cli_lab_folder(char *path, size_t room) {
    return beside_program("../share/sigmoe/lab", path, room) || beside_program("../../lab", path, room);
}

bool cli_lab_data(char *path, size_t room) {
    return beside_program("../share/sigmoe/data/corpus", path, room) || beside_program("../../data/corpus", path, room);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **cli_lab_names(size_t *count) {
    char folder[4096], **names = NULL;
    *count = 0;
    DIR *stream = cli_lab_folder(folder, sizeof folder) ? opendir(folder) : NULL;
    for (struct dirent *entry; stream && (entry = readdir(stream));) {
        size_t size = strlen(entry->d_name), end = sizeof ending - 1;
        if (size <= end || entry->d_name[0] == '.' || strcmp(entry->d_name + size - end, ending) != 0)
            continue;
        char **grown = realloc(names, (*count + 2) * sizeof *names);
        char *name = grown ? strndup(entry->d_name, size - end) : NULL;
        if (grown)
            names = grown;
        if (!name)
            break;
        names[(*count)++] = name;
        names[*count] = NULL;
    }
    if (stream)
        closedir(stream);
    if (*count)
        qsort(names, *count, sizeof *names, by_name);
    return names;
}

void cli_lab_names_free(char **names, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

const char cli_lab_nowhere[] =
    "there are no experiments beside this program: it was copied without PREFIX/share/sigmoe/lab, where "
    "`cmake --install` puts them, or lab/ of the source tree";

int cli_lab_find(const char *said, char *path, size_t room) {
    char folder[4096];
    size_t size = strlen(said);
    bool file = strchr(said, '/') || (size > 5 && strcmp(said + size - 5, ending) == 0);
    if (file) {
        snprintf(path, room, "%s", said);
        return cli_check_files(&said, 1);
    }
    struct stat about;
    if (cli_lab_folder(folder, sizeof folder) && (size_t)snprintf(path, room, "%s/%s%s", folder, said, ending) < room &&
        stat(path, &about) == 0)
        return CLI_DONE;
    size_t count;
    char **names = cli_lab_names(&count), hint[320];
    const char *near = names ? sgm_nearest(said, (const char *const *)names) : NULL;
    char own[256];
    if ((size_t)snprintf(own, sizeof own, "%s%s", said, ending) < sizeof own && stat(own, &about) == 0)
        snprintf(hint, sizeof hint, "a file of your own is given with its ending: %s", own);
    else if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    else if (!count)
        snprintf(hint, sizeof hint, "%s; a file of your own is given with its .yaml", cli_lab_nowhere);
    else
        snprintf(hint, sizeof hint, "`sigmoe lab list` names them; a file of your own is given with its .yaml");
    cli_lab_names_free(names, count);
    return cli_usage(hint, "there is no experiment \"%s\"", said);
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

struct cli_lab_display {
    FILE *stream;
    bool live;
    int drawn;
    double begun, last_draw, first_done;
};

cli_lab_display *cli_lab_display_new(FILE *stream, bool plain) {
    cli_lab_display *display = calloc(1, sizeof *display);
    if (!display)
        return NULL;
    display->stream = stream;
    display->live = !plain && cli_is_terminal(stream);
    display->begun = cli_now();
    display->first_done = -1;
    return display;
}

void cli_lab_display_free(cli_lab_display *display) {
    free(display);
}

static void erase(cli_lab_display *display) {
    if (display->drawn)
        fprintf(display->stream, "\033[%dA\r\033[J", display->drawn);
    display->drawn = 0;
}

void cli_lab_display_close(cli_lab_display *display) {
    erase(display);
    fflush(display->stream);
}

static cli_label real_label(const char *format, double value) {
    cli_label label;
    if (isfinite(value))
        snprintf(label.text, sizeof label.text, format, value);
    else
        snprintf(label.text, sizeof label.text, "–");
    return label;
}

/* The dash is one column in three bytes. */
static void cell(char *line, size_t room, const char *text, int width) {
    size_t used = strlen(line);
    int extra = strcmp(text, "–") == 0 ? 2 : 0;
    if (used < room)
        snprintf(line + used, room - used, " %*s", width + extra, text);
}

static void row_line(const sgm_lab_row *row, char *line, size_t room) {
    static const char *const states[] = {"waits", "", "done", "failed"};
    snprintf(line, room, "%-20.20s", row->arm);
    char steps[48];
    snprintf(steps, sizeof steps, "%lld/%lld", (long long)row->step, (long long)row->steps);
    cell(line, room, steps, 13);
    cell(line, room, real_label("%.3f", row->loss_nats_per_token).text, 8);
    cell(line, room, real_label("%.4f", row->bits_per_byte).text, 8);
    cell(line, room, real_label("%.2f", row->max_violation).text, 7);
    cell(line, room, real_label("%.1f", row->dead_experts).text, 6);
    cell(line, room, isfinite(row->tokens_per_second) ? cli_grouped((int64_t)row->tokens_per_second).text : "–", 9);
    cell(line, room, cli_duration_label(row->seconds).text, 8);
    cell(line, room, states[row->state], 7);
}

static void put_line(cli_lab_display *display, const char *text, int width) {
    int used = 0;
    const char *at = text;
    while (*at && used < width) {
        do
            at++;
        while (((unsigned char)*at & 0xc0) == 0x80);
        used++;
    }
    fwrite(text, 1, (size_t)(at - text), display->stream);
    fputc('\n', display->stream);
    display->drawn++;
}

static void on_turn(void *context, const sgm_lab_row *rows, size_t count, double done) {
    cli_lab_display *display = context;
    double now = cli_now();
    if (display->first_done < 0) { /* what was done before this session tells nothing of its speed */
        display->first_done = done;
        display->begun = now;
    }
    if (!display->live || (now - display->last_draw < REDRAW_SECONDS && done < 1))
        return;
    int width = cli_terminal_width(display->stream) - 1, room = cli_terminal_height(display->stream) - 3;
    double made = done - display->first_done;
    char line[256];
    erase(display);
    snprintf(line, sizeof line, "seed %lld, %.0f %% of all, %s left", count ? (long long)rows[0].seed : 0LL, 100 * done,
             cli_duration_label(made > 0 ? (now - display->begun) * (1 - done) / made : (double)NAN).text);
    put_line(display, line, width);
    snprintf(line, sizeof line, "%-20s %13s %8s %8s %7s %6s %9s %8s", "arm", "step", "loss", "bits/B", "MaxVio", "dead",
             "tokens/s", "time");
    put_line(display, line, width);
    for (size_t i = 0; i < count && (int)i < room; i++) {
        row_line(&rows[i], line, sizeof line);
        put_line(display, line, width);
    }
    fflush(display->stream);
    display->last_draw = now;
}

static void on_eval(void *context, const sgm_lab_row *row) {
    cli_lab_display *display = context;
    if (display->live)
        return;
    fprintf(display->stream,
            "seed %lld  %-16s step %lld/%lld  loss %s  held out %.4f bits per byte  MaxVio %s  dead %s  %s tokens/s\n",
            (long long)row->seed, row->arm, (long long)row->step, (long long)row->steps,
            real_label("%.4f", row->loss_nats_per_token).text, row->bits_per_byte,
            real_label("%.2f", row->max_violation).text, real_label("%.1f", row->dead_experts).text,
            isfinite(row->tokens_per_second) ? cli_grouped((int64_t)row->tokens_per_second).text : "–");
    fflush(display->stream);
}

static void on_note(void *context, const char *text) {
    cli_lab_display *display = context;
    char clean[1024];
    snprintf(clean, sizeof clean, "%s", text);
    erase(display);
    fprintf(display->stream, "%s\n", cli_clean(clean));
    fflush(display->stream);
}

void cli_lab_display_events(cli_lab_display *display, sgm_lab_events *events) {
    *events = (sgm_lab_events){.context = display, .turn = on_turn, .eval = on_eval, .note = on_note};
}
