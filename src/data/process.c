// SPDX-License-Identifier: Apache-2.0
/* posix_spawn and wait. See process.h. */
#include "data/process.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/memory.h"

extern char **environ;

/* The last line of a log that is not blank, or "". */
static void last_line(const char *log, char *out, size_t room) {
    char *text = NULL;
    size_t size = 0;
    out[0] = '\0';
    if (!log || sgm_file_read(log, 1 << 20, &text, &size, NULL) != SGM_OK)
        return;
    while (size && strchr("\r\n \t", text[size - 1]))
        text[--size] = '\0';
    char *line = strrchr(text, '\n');
    strncat(out, line ? line + 1 : text, room - 1);
    sgm_free(text);
}

static int prepare(posix_spawn_file_actions_t *actions, const char *folder, const char *output, const char *log) {
    int failed = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (!failed)
        failed = posix_spawn_file_actions_addopen(actions, 1, output ? output : "/dev/null",
                                                  O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (!failed)
        failed =
            posix_spawn_file_actions_addopen(actions, 2, log ? log : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (!failed && folder) /* last: the paths above are relative to where we are */
        failed = posix_spawn_file_actions_addchdir_np(actions, folder);
    return failed;
}

static sgm_status missing(const char *program, sgm_error *error) {
    return sgm_fail(error, SGM_EUNSUPPORTED, "fetching a recipe needs Debian's apt-get, dpkg-deb, tar and gzip",
                    "%s is not on this machine", program);
}

sgm_status sgm_process_run(const char *const *argv, const char *folder, const char *output, const char *log,
                           sgm_error *error) {
    const char *program = argv[0];
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to run %s", program);
    pid_t child = 0;
    int failed = prepare(&actions, folder, output, log), result = 0;
    if (!failed)
        failed = posix_spawnp(&child, program, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed == ENOENT)
        return missing(program, error);
    if (failed)
        return sgm_fail(error, SGM_EIO, NULL, "%s could not be started: %s", program, strerror(failed));
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR)
            return sgm_fail(error, SGM_EIO, NULL, "lost %s while it ran: %s", program, strerror(errno));
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0)
        return SGM_OK;
    if (WIFEXITED(result) &&
        WEXITSTATUS(result) == 127) /* how posix_spawn may tell it later: POSIX leaves the choice */
        return missing(program, error);
    char line[300];
    last_line(log, line, sizeof line);
    char command[200] = "";
    for (size_t i = 0, at = 0; argv[i] && at + 1 < sizeof command; i++)
        at += (size_t)snprintf(command + at, sizeof command - at, "%s%s", i ? " " : "", argv[i]);
    const char *hint = strcmp(program, "apt-get") == 0
                           ? "is the network there? `apt-get update` brings the lists of packages up to date"
                           : "run it by hand to see what is wrong";
    return sgm_fail(error, SGM_EIO, hint, "`%s` failed: %s", command, line[0] ? line : "it gave no reason");
}
