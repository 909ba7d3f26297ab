// SPDX-License-Identifier: Apache-2.0
/* An advisory lock on a file: flock, so it dies with the process and also keeps two users within one process apart. The
 * file holds the owner's process id and is left behind, empty: removing it would let a third process lock a new file of
 * the same name while a second one still waits on the old. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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
