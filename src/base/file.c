// SPDX-License-Identifier: Apache-2.0
/* Read-only mappings, whole-file reads, atomic writes, checksums. Folders are in folder.c, locks in lock.c.
 *
 * A writer collects bytes in a buffer of its own and writes them to NAME.partial-PID-N beside the final name. Whatever
 * fails (a full disk most of all) leaves the file of the final name as it was. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Header only: the state then lives in our own counted memory, and no version of the shared library matters. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/fault.h"
#include "base/memory.h"
#include "base/system.h"

enum { WRITER_BUFFER = 1 << 18 };

sgm_status(sgm_fail_errno)(sgm_error *error, int number, const char *action, const char *path) {
    char text[128];
    const char *reason = strerror_r(number, text, sizeof text), *hint = NULL;
    sgm_status status = SGM_EIO;
    switch (number) {
    case ENOENT:
        status = SGM_ENOTFOUND;
        hint = "check the path";
        break;
    case ENOTDIR:
        status = SGM_ENOTFOUND;
        hint = "check the path: a part of it is a file, not a folder";
        break;
    case ELOOP:
    case ENAMETOOLONG:
        hint = "check the path and the links in it";
        break;
    case EISDIR:
        status = SGM_EARGUMENT;
        hint = "give the path of a file";
        break;
    case EEXIST:
        status = SGM_EEXISTS;
        break;
    case ENOMEM:
        status = SGM_EMEMORY;
        break;
    case ENOSPC:
    case EDQUOT:
        reason = number == ENOSPC ? "the disk is full" : "the disk quota is used up";
        hint = "free some space or choose another disk; what was there before is untouched";
        break;
    case EFBIG:
        reason = "the file would be larger than this system or this user's limit allows";
        hint = "see `ulimit -f`; what was there before is untouched";
        break;
    case EACCES:
    case EPERM:
        hint = "check the permissions of the file and its folder";
        break;
    case EROFS:
        hint = "choose a place on a disk that can be written";
        break;
    case EMFILE:
    case ENFILE:
        hint = "too many files are open; see `ulimit -n`";
        break;
    default:
        break;
    }
    return sgm_fail(error, status, hint, "cannot %s %s: %s", action, path, reason);
}

sgm_status(sgm_fail_input)(sgm_error *error, int number, const char *action, const char *path) {
    sgm_status status = sgm_fail_errno(error, number, action, path);
    if (number != EACCES && number != EPERM)
        return status;
    return sgm_fail(error, SGM_EPERMISSION, "check the permissions of it and of the folders it is in",
                    "cannot %s %s: you have no permission", action, path);
}

sgm_status(sgm_fail_output)(sgm_error *error, int number, const char *action, const char *path) {
    sgm_status status = sgm_fail_errno(error, number, action, path);
    if (number != ENOENT && number != ENOTDIR)
        return status;
    return sgm_fail(error, SGM_EIO, number == ENOENT ? "make the folder first" : "a part of its path is a file",
                    "cannot %s %s: there is no such folder", action, path);
}

sgm_fault_hook *sgm_fault;

bool sgm_faulted(const char *call, const char *path) {
    int number = sgm_fault ? sgm_fault(call, path) : 0;
    if (number)
        errno = number;
    return number != 0;
}

static int open_retry(const char *path, int flags, mode_t mode) {
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* ---- reading ---- */

sgm_status sgm_map_open(const char *path, sgm_mapping *mapping, sgm_error *error) {
    *mapping = (sgm_mapping){.data = (const unsigned char *)"", .size = 0};
    int fd;
    uint64_t size;
    sgm_status status = sgm_open_regular(path, &fd, &size, error);
    if (status)
        return status;
    if (size > SIZE_MAX) {
        close(fd);
        return sgm_fail(error, SGM_ESPACE, NULL, "cannot map %s: it is larger than the address space", path);
    }
    if (size > 0) {
        void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            int number = errno;
            close(fd);
            return sgm_fail_errno(error, number, "map", path);
        }
        *mapping = (sgm_mapping){.data = data, .size = (size_t)size};
    }
    close(fd);
    return SGM_OK;
}

void sgm_map_close(sgm_mapping *mapping) {
    if (mapping->size)
        munmap((void *)(uintptr_t)mapping->data, mapping->size);
    *mapping = (sgm_mapping){.data = (const unsigned char *)"", .size = 0};
}

void sgm_map_cached(const void *at, size_t bytes) {
#ifdef MADV_POPULATE_READ
    enum { PAGES = 512 };
    unsigned char there[PAGES];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)at / page * page, end = (uintptr_t)at + bytes;
    while (first < end) {
        uintptr_t pages = (end - first + page - 1) / page;
        pages = pages < PAGES ? pages : PAGES;
        if (mincore((void *)first, pages * page, there) == 0 && !memchr(there, 0, pages))
            (void)madvise((void *)first, pages * page, MADV_POPULATE_READ);
        first += pages * page;
    }
#else
    (void)at;
    (void)bytes;
#endif
}

/* Read to the end, growing as we go: files may grow while being read, and those of /proc have no size. */
static sgm_status read_all(int fd, size_t expected, const char *path, size_t limit, char **data, size_t *size,
                           sgm_error *error) {
    size_t capacity = (expected < limit ? expected : limit) + 2, used = 0; /* one byte to see the end, one for NUL */
    char *text = sgm_alloc(capacity);
    while (text) {
        ssize_t n = read(fd, text + used, capacity - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int number = errno;
            sgm_free(text);
            return sgm_fail_errno(error, number, "read", path);
        }
        used += (size_t)n;
        if (used > limit) {
            sgm_free(text);
            return sgm_fail(error, SGM_EFORMAT, "is it the file that was meant?",
                            "%s is larger than the limit of %zu bytes for this kind of file", path, limit);
        }
        if (n == 0) {
            text[used] = '\0';
            *data = text;
            *size = used;
            return SGM_OK;
        }
        if (used == capacity - 1) {
            size_t wider = capacity * 2;
            char *fresh = sgm_resize(text, used, wider);
            if (!fresh)
                sgm_free(text);
            text = fresh;
            capacity = wider;
        }
    }
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", path);
}

sgm_status sgm_file_read(const char *path, size_t limit, char **data, size_t *size, sgm_error *error) {
    int fd;
    uint64_t found;
    sgm_status status = sgm_open_regular(path, &fd, &found, error);
    if (status)
        return status;
    size_t expected = found > limit ? limit : (size_t)found;
    if (limit > SIZE_MAX / 4)
        limit = SIZE_MAX / 4; /* keeps the sums below from wrapping */
    status = read_all(fd, expected, path, limit, data, size, error);
    close(fd);
    return status;
}

/* ---- writing ---- */

struct sgm_writer {
    int fd;
    sgm_status failed; /* the first failure; sticky */
    char *path, *partial;
    unsigned char *buffer;
    size_t used;
    uint64_t position;
};

static void writer_free(sgm_writer *writer) {
    if (writer->fd >= 0)
        close(writer->fd);
    sgm_free(writer->path);
    sgm_free(writer->partial);
    sgm_free(writer->buffer);
    sgm_free(writer);
}

/* What a rename would put out of the world. A link, too, is not replaced (it may be /dev/stdout) and not followed (a
 * folder from elsewhere may hold a link to any file of ours). */
static sgm_status check_target(const char *path, sgm_error *error) {
    struct stat info;
    if (lstat(path, &info) < 0 || S_ISREG(info.st_mode))
        return SGM_OK;
    const char *hint = S_ISLNK(info.st_mode) ? "give the path of the file itself, or remove the link"
                                             : "give the path of a file; one that does not exist is made";
    return sgm_fail(error, SGM_EARGUMENT, hint, "cannot write %s: it is %s", path,
                    S_ISLNK(info.st_mode) ? "a link" : "not a regular file");
}

sgm_status sgm_writer_open(const char *path, sgm_writer **out, sgm_error *error) {
    static atomic_uint serial;
    size_t length = strlen(path);
    if (length == 0 || path[length - 1] == '/' || sgm_path_is_folder(path))
        return sgm_fail(error, SGM_EARGUMENT, "give the path of a file", "cannot write %s: it is a folder",
                        length ? path : "\"\"");
    sgm_status status = check_target(path, error);
    if (status)
        return status;
    sgm_writer *writer = sgm_alloc(sizeof *writer);
    if (!writer)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to write %s", path);
    writer->fd = -1;
    writer->path = sgm_strdup(path);
    writer->partial = sgm_format("%s.partial-%ld-%u", path, (long)getpid(), atomic_fetch_add(&serial, 1u));
    writer->buffer = sgm_alloc(WRITER_BUFFER);
    if (!writer->path || !writer->partial || !writer->buffer) {
        writer_free(writer);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to write %s", path);
    }
    if (!sgm_faulted("open", writer->partial))
        writer->fd = open_retry(writer->partial, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (writer->fd < 0 && errno == EEXIST) { /* left by a dead process that had our process id */
        unlink(writer->partial);
        writer->fd = open_retry(writer->partial, O_WRONLY | O_CREAT | O_EXCL, 0666);
    }
    if (writer->fd < 0) {
        int number = errno;
        writer_free(writer);
        return sgm_fail_output(error, number, "write", path);
    }
    *out = writer;
    return SGM_OK;
}

static sgm_status write_out(sgm_writer *writer, const unsigned char *bytes, size_t size, sgm_error *error) {
    while (size) {
        bool faulted = sgm_faulted("write", writer->partial);
        ssize_t n = faulted ? -1 : write(writer->fd, bytes, size < 1u << 30 ? size : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return writer->failed = sgm_fail_errno(error, errno, "write", writer->path);
        bytes += n;
        size -= (size_t)n;
    }
    return SGM_OK;
}

sgm_status sgm_writer_add(sgm_writer *writer, const void *bytes, size_t size, sgm_error *error) {
    if (writer->failed)
        return sgm_fail(error, writer->failed, NULL, "cannot write %s: an earlier write failed", writer->path);
    sgm_status status = SGM_OK;
    if (size > WRITER_BUFFER - writer->used) {
        status = write_out(writer, writer->buffer, writer->used, error);
        writer->used = 0;
    }
    if (!status && size >= WRITER_BUFFER) {
        status = write_out(writer, bytes, size, error);
    } else if (!status && size) {
        memcpy(writer->buffer + writer->used, bytes, size);
        writer->used += size;
    }
    if (!status)
        writer->position += size;
    return status;
}

sgm_status sgm_writer_patch(sgm_writer *writer, uint64_t offset, const void *bytes, size_t size, sgm_error *error) {
    if (writer->failed)
        return sgm_fail(error, writer->failed, NULL, "cannot write %s: an earlier write failed", writer->path);
    if (offset > writer->position || size > writer->position - offset)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "cannot patch %s past its end", writer->path);
    sgm_status status = write_out(writer, writer->buffer, writer->used, error);
    writer->used = 0;
    for (const unsigned char *from = bytes; !status && size;) {
        ssize_t n = sgm_faulted("write", writer->partial) ? -1 : pwrite(writer->fd, from, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return writer->failed = sgm_fail_errno(error, errno, "write", writer->path);
        from += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return status;
}

uint64_t sgm_writer_position(const sgm_writer *writer) {
    return writer->position;
}

void sgm_writer_abandon(sgm_writer *writer) {
    if (!writer)
        return;
    unlink(writer->partial);
    writer_free(writer);
}

sgm_status sgm_writer_commit(sgm_writer *writer, sgm_error *error) {
    sgm_status status = SGM_OK;
    if (writer->failed)
        status = sgm_fail(error, writer->failed, NULL, "cannot write %s: an earlier write failed", writer->path);
    if (!status)
        status = write_out(writer, writer->buffer, writer->used, error);
    if (!status && (sgm_faulted("fsync", writer->partial) || fsync(writer->fd) < 0) &&
        errno != EINVAL) /* EINVAL: a file system without fsync */
        status = sgm_fail_errno(error, errno, "write", writer->path);
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) < 0 && !status) /* network file systems report a full disk only here */
        status = sgm_fail_errno(error, errno, "write", writer->path);
    if (!status && (sgm_faulted("rename", writer->path) || rename(writer->partial, writer->path) < 0))
        status = sgm_fail_errno(error, errno, "write", writer->path);
    if (status) {
        sgm_writer_abandon(writer);
        return status;
    }
    status = sgm_parent_sync(writer->path, error);
    writer_free(writer);
    return status;
}

sgm_status sgm_file_write(const char *path, const void *bytes, size_t size, sgm_error *error) {
    sgm_writer *writer;
    sgm_status status = sgm_writer_open(path, &writer, error);
    if (status)
        return status;
    status = sgm_writer_add(writer, bytes, size, error);
    if (status) {
        sgm_writer_abandon(writer);
        return status;
    }
    return sgm_writer_commit(writer, error);
}

/* ---- checksums ---- */

struct sgm_checksum_state {
    XXH3_state_t state;
};

uint64_t sgm_checksum(const void *bytes, size_t size) {
    return XXH3_64bits(bytes, size);
}

sgm_checksum_state *sgm_checksum_new(void) {
    _Static_assert(_Alignof(sgm_checksum_state) <= SGM_ALIGN, "the heap gives this alignment");
    sgm_checksum_state *state = sgm_alloc(sizeof *state);
    if (state)
        XXH3_64bits_reset(&state->state);
    return state;
}

void sgm_checksum_add(sgm_checksum_state *state, const void *bytes, size_t size) {
    if (size) /* (NULL, 0) is legal for us */
        XXH3_64bits_update(&state->state, bytes, size);
}

uint64_t sgm_checksum_end(sgm_checksum_state *state) {
    uint64_t sum = XXH3_64bits_digest(&state->state);
    sgm_free(state);
    return sum;
}
