// SPDX-License-Identifier: Apache-2.0
/* An advisory lock on a file: flock, so it dies with the process and also keeps two users within one process apart. The
 * file holds the owner's process id and is left behind, empty. Who holds it may remove it: nobody waits for a lock, and who
 * opened the file before finds that it has no name any more. Also folders of unfinished work, which are locked so. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/system.h"

struct sgm_lock {
    int fd;
};

static sgm_status busy(int fd, const char *path, sgm_error *error) {
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    long holder = strtol(text, NULL, 10);
    const char *hint = "wait until it is done, stop it, or use another folder";
    if (holder > 0)
        return sgm_fail(error, SGM_EBUSY, hint, "%s is locked by process %ld", path, holder);
    return sgm_fail(error, SGM_EBUSY, hint, "%s is locked by another process", path);
}

/* Does `path` still name the file behind `fd`? Not when its folder was removed between our open and our lock. */
static bool still_there(int fd, const char *path) {
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

sgm_status sgm_lock_take(const char *path, sgm_lock **out, sgm_error *error) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return sgm_fail_errno(error, errno, "open the lock", path);
    int failed;
    do
        failed = flock(fd, LOCK_EX | LOCK_NB);
    while (failed < 0 && errno == EINTR);
    if (failed == 0 && !still_there(fd, path)) {
        failed = -1;
        errno = EWOULDBLOCK;
    }
    if (failed < 0) {
        int number = errno;
        sgm_status status = number == EWOULDBLOCK ? busy(fd, path, error) : sgm_fail_errno(error, number, "lock", path);
        close(fd);
        return status;
    }
    sgm_lock *lock = sgm_alloc(sizeof *lock);
    if (!lock) {
        close(fd);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the lock %s", path);
    }
    lock->fd = fd;
    /* The number only serves the message above: a full disk must not keep anyone from the lock. */
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) < 0)
        errno = 0;
    *out = lock;
    return SGM_OK;
}

void sgm_lock_drop(sgm_lock *lock) {
    if (!lock)
        return;
    if (ftruncate(lock->fd, 0) < 0)
        errno = 0; /* a stale number in a free lock is harmless */
    close(lock->fd);
    sgm_free(lock);
}

/* ---- folders of unfinished work ---- */

static sgm_status no_memory(const char *path, sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the path %s", path);
}

static sgm_status remove_inner(const char *folder, const char *name, sgm_error *error) {
    char *path = sgm_path_join(folder, name);
    sgm_status status = path ? SGM_OK : no_memory(folder, error);
    if (path && sgm_path_is_real_folder(path))
        status = sgm_folder_remove(path, error);
    else if (path && unlink(path) < 0 && errno != ENOENT)
        status = sgm_fail_errno(error, errno, "remove", path);
    sgm_free(path);
    return status;
}

/* Is there nothing, or a folder that is empty or has the file of unfinished work in it? */
static sgm_status check_ours(const char *path, sgm_error *error) {
    char **names = NULL;
    size_t count = 0;
    bool ours = !sgm_path_exists(path);
    if (!ours && sgm_path_is_real_folder(path)) {
        sgm_status status = sgm_folder_list(path, &names, &count, error);
        if (status)
            return status;
        ours = count == 0;
        for (size_t i = 0; i < count; i++)
            ours = ours || strcmp(names[i], SGM_WORK_NAME) == 0;
        sgm_free(names);
    }
    if (ours)
        return SGM_OK;
    return sgm_fail(error, SGM_EEXISTS, "move it away, or choose another name: unfinished work is kept under that one",
                    "%s is in the way: no interrupted work left it there", path);
}

/* The folder itself and its lock stay, so that nobody else gets between. */
static sgm_status empty_folder(const char *path, sgm_error *error) {
    char **names = NULL;
    size_t count = 0;
    sgm_status status = sgm_folder_list(path, &names, &count, error);
    for (size_t i = 0; status == SGM_OK && i < count; i++)
        if (strcmp(names[i], SGM_WORK_NAME) != 0)
            status = remove_inner(path, names[i], error);
    sgm_free(names);
    return status;
}

sgm_status sgm_work_folder_take(const char *path, sgm_lock **lock, sgm_error *error) {
    *lock = NULL;
    sgm_status status = check_ours(path, error);
    if (!status)
        status = sgm_folder_make(path, error);
    if (status)
        return status;
    char *file = sgm_path_join(path, SGM_WORK_NAME);
    status = file ? sgm_lock_take(file, lock, error) : no_memory(path, error);
    sgm_free(file);
    if (status)
        return status;
    status = empty_folder(path, error);
    if (status) {
        sgm_lock_drop(*lock);
        *lock = NULL;
    }
    return status;
}

sgm_status sgm_work_folder_finish(const char *path, const char *to, sgm_error *error) {
    sgm_status status = sgm_folder_rename(path, to, error);
    return status ? status : remove_inner(to, SGM_WORK_NAME, error);
}
