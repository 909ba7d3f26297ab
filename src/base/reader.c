// SPDX-License-Identifier: Apache-2.0
/* Reading a file piece by piece, without a mapping: what cannot be read is an error here, where a mapping would end the
 * process with a signal. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/system.h"

enum { BLOCK = 1 << 20 };

struct sgm_reader {
    int fd;
    char *path;
    uint64_t size;
};

sgm_status sgm_open_regular(const char *path, int *out, uint64_t *size, sgm_error *error) {
    int fd;
    do
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not block us: it is refused below */
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return sgm_fail_input(error, errno, "open", path);
    struct stat info;
    int number = fstat(fd, &info) < 0 ? errno : S_ISDIR(info.st_mode) ? EISDIR : 0;
    if (!number && S_ISREG(info.st_mode)) {
        *out = fd;
        *size = (uint64_t)info.st_size;
        return SGM_OK;
    }
    close(fd);
    if (number)
        return sgm_fail_errno(error, number, "read", path);
    return sgm_fail(error, SGM_EFORMAT, "give the path of a file; save what a pipe or device gives into one first",
                    "cannot read %s: it is not a regular file", path);
}

sgm_status sgm_reader_open(const char *path, sgm_reader **out, sgm_error *error) {
    sgm_reader *reader = sgm_alloc(sizeof *reader);
    char *own = sgm_strdup(path);
    sgm_status status = reader && own ? sgm_open_regular(path, &reader->fd, &reader->size, error)
                                      : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", path);
    if (status) {
        sgm_free(reader);
        sgm_free(own);
        return status;
    }
    reader->path = own;
    *out = reader;
    return SGM_OK;
}

void sgm_reader_close(sgm_reader *reader) {
    if (!reader)
        return;
    close(reader->fd);
    sgm_free(reader->path);
    sgm_free(reader);
}

uint64_t sgm_reader_size(const sgm_reader *reader) {
    return reader->size;
}

/* At most `size` bytes; fewer only at the end of the file. */
static sgm_status read_some(const sgm_reader *reader, uint64_t offset, void *out, size_t size, size_t *got,
                            sgm_error *error) {
    for (*got = 0; *got < size;) {
        size_t left = size - *got;
        ssize_t n = pread(reader->fd, (char *)out + *got, left < 1u << 30 ? left : 1u << 30, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sgm_fail_errno(error, errno, "read", reader->path);
        if (n == 0)
            return SGM_OK;
        *got += (size_t)n;
    }
    return SGM_OK;
}

sgm_status sgm_reader_at(const sgm_reader *reader, uint64_t offset, void *out, size_t size, sgm_error *error) {
    size_t got;
    sgm_status status = read_some(reader, offset, out, size, &got, error);
    if (!status && got < size)
        return sgm_fail(error, SGM_EFORMAT, "copy or write the file again", "%s ends before its byte %llu",
                        reader->path, (unsigned long long)(offset + size));
    return status;
}

sgm_status sgm_reader_checksum(const sgm_reader *reader, uint64_t offset, uint64_t size, uint64_t *checksum,
                               uint64_t *counted, sgm_error *error) {
    sgm_checksum_state *state = sgm_checksum_new();
    void *block = sgm_alloc(BLOCK);
    sgm_status status =
        state && block ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", reader->path);
    *counted = 0;
    for (size_t got = BLOCK, want; !status && got > 0 && *counted < size; *counted += got) {
        want = size - *counted < BLOCK ? (size_t)(size - *counted) : BLOCK;
        status = read_some(reader, offset + *counted, block, want, &got, error);
        if (!status)
            sgm_checksum_add(state, block, got);
    }
    if (state)
        *checksum = sgm_checksum_end(state);
    sgm_free(block);
    return status;
}

sgm_status sgm_file_checksum(const char *path, uint64_t *checksum, uint64_t *size, sgm_error *error) {
    sgm_reader *reader;
    sgm_status status = sgm_reader_open(path, &reader, error);
    if (status)
        return status;
    status = sgm_reader_checksum(reader, 0, UINT64_MAX, checksum, size, error);
    sgm_reader_close(reader);
    return status;
}
