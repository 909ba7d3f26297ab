// SPDX-License-Identifier: Apache-2.0
/* Traces as operands: a folder is no trace, but often one that has some. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "stats.h"

static bool is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* step-999999 comes before step-1000000. */
static bool later(const char *name, const char *than) {
    size_t a = strlen(name), b = strlen(than);
    return a != b ? a > b : strcmp(name, than) > 0;
}

/* FOLDER/NAME.trace, of several the last; false: there is none. */
static bool trace_in(const char *folder, char *path, size_t room) {
    static const char ending[] = ".trace";
    char best[256] = "";
    DIR *stream = opendir(folder);
    for (const struct dirent *entry; stream && (entry = readdir(stream));) {
        size_t size = strlen(entry->d_name), end = sizeof ending - 1;
        if (size > end && strcmp(entry->d_name + size - end, ending) == 0 && later(entry->d_name, best))
            snprintf(best, sizeof best, "%s", entry->d_name);
    }
    if (stream)
        closedir(stream);
    return *best && (size_t)snprintf(path, room, "%s/%s", folder, best) < room;
}

static int refuse_folder(const char *said) {
    char folder[4096], inside[4200], path[4500], hint[1024] = "give the trace itself; `sigmoe trace` writes one";
    struct stat about;
    cli_without_slash(said, folder, sizeof folder);
    snprintf(inside, sizeof inside, "%s/traces", folder);
    if (trace_in(inside, path, sizeof path) || trace_in(folder, path, sizeof path)) {
        snprintf(hint, sizeof hint, "the last trace in it is %.900s", path);
    } else {
        snprintf(inside, sizeof inside, "%s/run.sqlite", folder);
        if (stat(inside, &about) == 0)
            snprintf(hint, sizeof hint,
                     "the run was trained without train.trace_every; `sigmoe trace --model %.400s --data %.400s/data "
                     "--out FILE` traces an evaluation of it",
                     folder, folder);
    }
    return cli_error(CLI_BAD_INPUT, hint, "%s: a folder, not a trace", said);
}

int cli_check_traces(const char *const *paths, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is_folder(paths[i]))
            return refuse_folder(paths[i]);
    return cli_check_files(paths, count);
}
