// SPDX-License-Identifier: Apache-2.0
/* Paths, folders and links. Every change that must survive a crash is followed by an fsync of the folder it was made
 * in. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/system.h"

static sgm_status no_memory(const char *path, sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the path %s", path);
}

bool sgm_path_exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0; /* a dangling link is in the way, too */
}

bool sgm_path_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool sgm_path_is_real_folder(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *sgm_path_join(const char *folder, const char *name) {
    size_t n = strlen(folder);
    if (n == 0 || name[0] == '/')
        return sgm_strdup(name);
    return sgm_format(folder[n - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
}

sgm_status sgm_folder_sync(const char *path, sgm_error *error) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return sgm_fail_errno(error, errno, "open the folder", path);
    int failed = sgm_faulted("fsync", path) ? -1 : fsync(fd), number = errno;
    close(fd);
    if (failed < 0 && number != EINVAL && number != EROFS) /* EINVAL: a file system that cannot sync folders */
        return sgm_fail_errno(error, number, "sync the folder", path);
    return SGM_OK;
}

sgm_status sgm_parent_sync(const char *path, sgm_error *error) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0)
        return sgm_folder_sync(".", error);
    char *parent = sgm_format("%.*s", (int)n, path);
    if (!parent)
        return no_memory(path, error);
    sgm_status status = sgm_folder_sync(parent, error);
    sgm_free(parent);
    return status;
}

/* One level; an existing folder is fine, anything else of that name is not. */
static sgm_status make_one(const char *path, sgm_error *error) {
    if (!sgm_faulted("mkdir", path) && mkdir(path, 0777) == 0)
        return sgm_parent_sync(path, error);
    int number = errno;
    if (sgm_path_is_folder(path)) /* also where mkdir says EROFS or EACCES of a folder that is there */
        return SGM_OK;
    if (number == EEXIST || number == ENOTDIR)
        return sgm_fail(error, SGM_EEXISTS, "choose another path or move the file away",
                        "cannot make the folder %s: a file is in the way", path);
    return sgm_fail_output(error, number, "make the folder", path);
}

sgm_status sgm_folder_make(const char *path, sgm_error *error) {
    if (!*path)
        return sgm_fail(error, SGM_EARGUMENT, "give the path of a folder", "cannot make a folder: its path is empty");
    char *part = sgm_strdup(path);
    if (!part)
        return no_memory(path, error);
    sgm_status status = SGM_OK;
    for (char *c = part + 1; *c && !status; c++)
        if (*c == '/' && c[-1] != '/') {
            *c = '\0';
            status = make_one(part, error);
            *c = '/';
        }
    if (!status)
        status = make_one(part, error);
    sgm_free(part);
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return (!sgm_faulted("remove", path) && remove(path) == 0) || errno == ENOENT ? 0 : errno;
}

sgm_status sgm_folder_remove(const char *path, sgm_error *error) {
    struct stat info;
    if (lstat(path, &info) < 0)
        return errno == ENOENT ? SGM_OK : sgm_fail_errno(error, errno, "remove the folder", path);
    if (!S_ISDIR(info.st_mode))
        return sgm_fail(error, SGM_EARGUMENT, NULL, "cannot remove the folder %s: it is not a folder", path);
    int failed = nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS); /* links are removed, never followed */
    if (failed)
        return sgm_fail_errno(error, failed > 0 ? failed : errno, "remove the folder", path);
    return SGM_OK;
}

sgm_status sgm_folder_rename(const char *from, const char *to, sgm_error *error) {
    int failed = sgm_faulted("rename", to) ? -1 : renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (failed < 0 && (errno == EINVAL || errno == ENOSYS)) { /* a file system without that flag */
        if (sgm_path_exists(to))
            errno = EEXIST;
        else
            failed = rename(from, to);
    }
    if (failed < 0 && errno == EEXIST)
        return sgm_fail(error, SGM_EEXISTS, NULL, "cannot rename %s to %s: that name is taken", from, to);
    if (failed < 0)
        return sgm_fail_errno(error, errno, "rename", from);
    sgm_status status = sgm_parent_sync(to, error);
    return status ? status : sgm_parent_sync(from, error);
}

sgm_status sgm_link_replace(const char *target, const char *link, sgm_error *error) {
    char *fresh = sgm_format("%s.partial-%ld", link, (long)getpid());
    if (!fresh)
        return no_memory(link, error);
    unlink(fresh); /* left by a dead process that had our process id */
    sgm_status status = SGM_OK;
    if (sgm_faulted("symlink", fresh) || symlink(target, fresh) < 0) {
        status = sgm_fail_errno(error, errno, "make the link", link);
    } else if (sgm_faulted("rename", link) || rename(fresh, link) < 0) {
        status = sgm_fail_errno(error, errno, "replace the link", link);
        unlink(fresh);
    }
    sgm_free(fresh);
    return status ? status : sgm_parent_sync(link, error);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

sgm_status sgm_folder_list(const char *path, char ***names, size_t *count, sgm_error *error) {
    DIR *folder = opendir(path);
    if (!folder)
        return sgm_fail_input(error, errno, "list the folder", path);
    sgm_buffer all = {0}; /* the names, each with its NUL */
    size_t n = 0;
    sgm_status status = SGM_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno)
                status = sgm_fail_errno(error, errno, "list the folder", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        status = sgm_buffer_add(&all, entry->d_name, strlen(entry->d_name) + 1);
        if (status) {
            no_memory(path, error);
            break;
        }
        n++;
    }
    closedir(folder);
    char **list = status ? NULL : sgm_alloc(n * sizeof *list + all.size + 1);
    if (!status && !list)
        status = no_memory(path, error);
    if (!status) {
        char *text = (char *)(list + n);
        if (all.size)
            memcpy(text, all.data, all.size);
        for (size_t i = 0; i < n; i++, text += strlen(text) + 1)
            list[i] = text;
        qsort(list, n, sizeof *list, compare_names);
        *names = list;
        *count = n;
    }
    sgm_buffer_free(&all);
    return status;
}

uint64_t sgm_disk_free(const char *path) {
    struct statvfs info;
    if (statvfs(path, &info) < 0)
        return 0;
    return (uint64_t)info.f_bavail * info.f_frsize;
}

size_t sgm_path_cut(char *path, size_t n) {
    while (n && path[n - 1] == '/')
        n--;
    while (n && path[n - 1] != '/')
        n--;
    path[n] = '\0';
    return n;
}

size_t sgm_path_existing(const char *path) {
    char *part = sgm_strdup(path);
    size_t n = part ? strlen(part) : 0;
    while (n && !sgm_path_exists(part))
        n = sgm_path_cut(part, n);
    sgm_free(part);
    return n;
}

sgm_status sgm_disk_check(const char *path, uint64_t bytes, sgm_error *error) {
    const size_t n = sgm_path_existing(path);
    char *there = n ? sgm_format("%.*s", (int)n, path) : sgm_strdup(".");
    if (!there)
        return no_memory(path, error);
    uint64_t room = sgm_disk_free(there);
    sgm_free(there);
    if (room == 0 || bytes <= room)
        return SGM_OK;
    return sgm_fail(error, SGM_EIO, "free some space, or write to another disk",
                    "not enough room on the disk for %s: it takes %s, %s are free", path, sgm_bytes_text(bytes).text,
                    sgm_bytes_text(room).text);
}

/* NAME.partial-PID or NAME.partial-PID-N of a process that is no more: one that lives is still writing it. */
static bool is_left_behind(const char *name) {
    const char *mark = strstr(name, ".partial-");
    if (!mark)
        return false;
    const char *digits = mark + strlen(".partial-");
    char *end = NULL;
    errno = 0;
    long process = strtol(digits, &end, 10);
    bool rest = !*end || (*end == '-' && end[1] && !end[1 + strspn(end + 1, "0123456789")]);
    if (*digits < '1' || *digits > '9' || !rest || errno || process > INT_MAX)
        return false;
    return kill((pid_t)process, 0) != 0 && errno == ESRCH;
}

sgm_status sgm_folder_remove_partial(const char *folder, sgm_error *error) {
    char **names = NULL;
    size_t count = 0;
    sgm_status status = sgm_folder_list(folder, &names, &count, error);
    for (size_t i = 0; i < count && !status; i++) {
        char *path = is_left_behind(names[i]) ? sgm_path_join(folder, names[i]) : NULL;
        if (path)
            unlink(path); /* one that stays is only in the way of the eye */
        sgm_free(path);
    }
    sgm_free(names);
    return status;
}
