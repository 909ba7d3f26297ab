// SPDX-License-Identifier: Apache-2.0
/* Files: read-only mappings, atomic writes, locks, checksums.
 *
 * Output is written beside its final name, fsynced and renamed, and the folder is fsynced: a crash leaves the old file
 * or the new one, never half of either. */
#ifndef SGM_BASE_FILE_H
#define SGM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"

/* A file mapped read-only, for what is used in place while it does not change: a page that cannot be read (the file was cut
 * short, the disk fails) kills the process. An empty file maps to data = "", size = 0. Here and in sgm_file_read a folder is
 * SGM_EARGUMENT, and what else is no regular file (a pipe, a device) SGM_EFORMAT: neither is waited for. */
typedef struct sgm_mapping {
    const unsigned char *data;
    size_t size;
} sgm_mapping;
sgm_status sgm_map_open(const char *path, sgm_mapping *mapping, sgm_error *error);
void sgm_map_close(sgm_mapping *mapping);
/* Of `bytes` of a mapping, take into the page table what the system has in memory, so that first reads do not stop at every
 * page; the rest is left to be read when it is needed. Of a file that this process may not write Linux does not say what is in
 * memory (mincore(2)): there everything is read. A hint: where the system cannot, nothing happens. */
void sgm_map_cached(const void *at, size_t bytes);

/* Whole file into a NUL-terminated heap buffer (sgm_free); SGM_EFORMAT when larger than `limit` bytes. */
sgm_status sgm_file_read(const char *path, size_t limit, char **data, size_t *size, sgm_error *error);

/* A file that is read piece by piece: what cannot be read is an error, SGM_EFORMAT where the file is shorter by now. */
typedef struct sgm_reader sgm_reader;
sgm_status sgm_reader_open(const char *path, sgm_reader **reader, sgm_error *error);
void sgm_reader_close(sgm_reader *reader);          /* NULL is fine */
uint64_t sgm_reader_size(const sgm_reader *reader); /* when it was opened */
sgm_status sgm_reader_at(const sgm_reader *reader, uint64_t offset, void *out, size_t size, sgm_error *error);
/* Of at most `size` bytes from `offset` on; *counted: how many there were. */
sgm_status sgm_reader_checksum(const sgm_reader *reader, uint64_t offset, uint64_t size, uint64_t *checksum,
                               uint64_t *counted, sgm_error *error);
sgm_status sgm_file_checksum(const char *path, uint64_t *checksum, uint64_t *size, sgm_error *error); /* of all of it */

/* A file being written beside its final name. After any failure every later call fails too; `abandon` removes the
 * partial file. commit = flush, fsync, rename, fsync of the folder. What is there may only be a regular file: a folder,
 * a device, a pipe or a link of that name is SGM_EARGUMENT. */
typedef struct sgm_writer sgm_writer;
sgm_status sgm_writer_open(const char *path, sgm_writer **writer, sgm_error *error);
sgm_status sgm_writer_add(sgm_writer *writer, const void *bytes, size_t size, sgm_error *error);
uint64_t sgm_writer_position(const sgm_writer *writer);
/* Overwrite bytes added before (a checksum known only at the end); the position stays. */
sgm_status sgm_writer_patch(sgm_writer *writer, uint64_t offset, const void *bytes, size_t size, sgm_error *error);
sgm_status sgm_writer_commit(sgm_writer *writer, sgm_error *error); /* frees the writer, also on failure */
void sgm_writer_abandon(sgm_writer *writer);                        /* NULL is fine */
sgm_status sgm_file_write(const char *path, const void *bytes, size_t size, sgm_error *error); /* all of the above */

bool sgm_path_exists(const char *path);
bool sgm_path_is_folder(const char *path);
bool sgm_path_is_real_folder(const char *path);                   /* and no link to one */
char *sgm_path_join(const char *folder, const char *name);        /* heap string */
sgm_status sgm_folder_make(const char *path, sgm_error *error);   /* with parents; fine when it exists */
sgm_status sgm_folder_remove(const char *path, sgm_error *error); /* recursively; fine when absent */
/* Files that a killed process was still writing in it: NAME.partial-PID-N. Those of a process that lives stay. */
sgm_status sgm_folder_remove_partial(const char *folder, sgm_error *error);
sgm_status sgm_folder_sync(const char *path, sgm_error *error);
/* fsync the folder that holds `path`; slashes at its end do not count as names. */
sgm_status sgm_parent_sync(const char *path, sgm_error *error);
sgm_status sgm_folder_rename(const char *from, const char *to, sgm_error *error);    /* atomic; `to` must be free */
sgm_status sgm_link_replace(const char *target, const char *link, sgm_error *error); /* atomic symlink swap */
/* Names in a folder without "." and "..", sorted by bytes; one heap block (sgm_free). */
sgm_status sgm_folder_list(const char *path, char ***names, size_t *count, sgm_error *error);
/* Cut a path of n bytes behind its last slash, "a/b//" to "a/"; how long it is then. */
size_t sgm_path_cut(char *path, size_t n);
/* What there is of `path` and the folders above it: a prefix of so many bytes, 0 when nothing is. */
size_t sgm_path_existing(const char *path);
uint64_t sgm_disk_free(const char *path); /* bytes a plain user may still write there; 0 when unknown */
/* SGM_EIO with both sizes where the disk that `path` is to be written to, which need not exist, has no room for that many. */
sgm_status sgm_disk_check(const char *path, uint64_t bytes, sgm_error *error);

/* An advisory lock that dies with the process. SGM_EBUSY names the holder's process id. */
typedef struct sgm_lock sgm_lock;
sgm_status sgm_lock_take(const char *path, sgm_lock **lock, sgm_error *error);
void sgm_lock_drop(sgm_lock *lock);

#define SGM_LOCK_NAME ".lock" /* of a run, of a lab: they keep it */
/* An empty folder for work that gets its name when it is whole, locked by its file SGM_WORK_NAME, which nothing finished has.
 * What a dead process left in it is removed. SGM_EBUSY where a live one works in it; SGM_EEXISTS where there is something
 * without that file: that is somebody's own and not ours to remove. Without SGM_OK nothing there was changed. */
#define SGM_WORK_NAME ".unfinished"
sgm_status sgm_work_folder_take(const char *path, sgm_lock **lock, sgm_error *error);
/* Rename it and take the lock's file out of it; `to` must be free. The lock is still to be dropped. */
sgm_status sgm_work_folder_finish(const char *path, const char *to, sgm_error *error);

/* XXH3, 64 bits. */
uint64_t sgm_checksum(const void *bytes, size_t size);
typedef struct sgm_checksum_state sgm_checksum_state;
sgm_checksum_state *sgm_checksum_new(void);
void sgm_checksum_add(sgm_checksum_state *state, const void *bytes, size_t size);
uint64_t sgm_checksum_end(sgm_checksum_state *state); /* frees it */

#endif
