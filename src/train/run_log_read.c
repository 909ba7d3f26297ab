// SPDX-License-Identifier: Apache-2.0
/* Opening run.sqlite to read it, and what is said where that fails. */
#include "train/run_log_read.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

sgm_status sgm_run_log_unreadable(sqlite3 *db, const char *path, const char *hint, sgm_error *error) {
    int code = sqlite3_errcode(db) & 0xff;
    bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
    return sgm_fail(error, damaged ? SGM_EFORMAT : SGM_EIO,
                    damaged ? hint : "look at the disk and the permissions of the folder: the file itself may be whole",
                    "%s: cannot be read: %s", path, sqlite3_errmsg(db));
}

/* "file:PATH?immutable=1" with every byte of the path that means something in a URI (// at the front, too) written as %XX;
 * NULL: no memory. */
static char *immutable_uri(const char *path) {
    sgm_buffer text = {0};
    sgm_status status = sgm_buffer_print(&text, "file:");
    for (const char *c = path; *c && !status; c++)
        status = sgm_buffer_print(&text, strchr("%?#/", *c) ? "%%%02x" : "%c", (unsigned char)*c);
    if (!status)
        status = sgm_buffer_print(&text, "?immutable=1");
    char *uri = status ? NULL : sgm_strdup((const char *)text.data);
    sgm_buffer_free(&text);
    return uri;
}

/* Begin to read: one snapshot of the database for all queries, whatever the run writes meanwhile. Nothing is written, but
 * a connection that may not write cannot remove the files beside the database that even a reader of it makes. */
static int begin(const char *name, int flags, sqlite3 **db) {
    int code = sqlite3_open_v2(name, db, flags, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(*db, "PRAGMA query_only=1", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(*db, 10000); /* the run may be writing */
    if (code == SQLITE_OK)
        code = sqlite3_exec(*db, "BEGIN; SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
    return code;
}

/* Even a reader of a database with a write-ahead log makes files beside it. Where it may not, or the disk is full, nobody writes
 * there through us, and the file is read as it is: unless a log is left whose rows would be missing. */
sgm_status sgm_run_log_read(const char *path, const char *hint, sqlite3 **db, sgm_error *error) {
    struct stat info;
    *db = NULL;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* to open a pipe would wait for ever */
        return sgm_fail(error, SGM_EFORMAT, hint, "%s is no file", path);
    int code = begin(path, SQLITE_OPEN_READWRITE, db) & 0xff;
    if (code == SQLITE_OK)
        return SGM_OK;
    if (code != SQLITE_READONLY && code != SQLITE_CANTOPEN && code != SQLITE_IOERR && code != SQLITE_FULL)
        return sgm_run_log_unreadable(*db, path, hint, error);
    char *log = sgm_format("%s-wal", path), *uri = immutable_uri(path);
    sgm_status status = log && uri ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory to read it", path);
    if (!status && stat(log, &info) == 0 && info.st_size > 0)
        status = sgm_fail(error, SGM_EIO, "copy the folder to where you may write and make the report of the copy",
                          "%s: its newest rows are still in %s, which cannot be read where nothing can be written",
                          path, log);
    if (!status) {
        sqlite3_close(*db);
        *db = NULL;
        status = begin(uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, db) == SQLITE_OK
                     ? SGM_OK
                     : sgm_run_log_unreadable(*db, path, hint, error);
    }
    sgm_free(log);
    sgm_free(uri);
    return status;
}
