// SPDX-License-Identifier: Apache-2.0
/* run.sqlite. One connection, WAL, synchronous NORMAL: a killed process loses nothing that was committed. */
#include "train/run_log.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

/* What each version has that the one before it lacks: a new file gets all of it. */
static const char *const versions[SGM_RUN_LOG_VERSION] = {
    ("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
     "CREATE TABLE steps (step INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, loss REAL, balance_loss REAL,"
     " gradient_norm REAL, learning_rate REAL NOT NULL, seconds REAL NOT NULL, skipped INTEGER NOT NULL);"
     "CREATE TABLE evals (step INTEGER NOT NULL, domain TEXT NOT NULL, tokens INTEGER NOT NULL, bytes INTEGER NOT NULL,"
     " loss REAL, bits_per_byte REAL, PRIMARY KEY (step, domain)) WITHOUT ROWID;"
     "CREATE TABLE load (step INTEGER NOT NULL, layer INTEGER NOT NULL, tokens INTEGER NOT NULL,"
     " experts_per_token INTEGER NOT NULL, dead_experts INTEGER NOT NULL, min_over_mean REAL, max_over_mean REAL,"
     " entropy_over_log_e REAL, probability_entropy_over_log_e REAL, coefficient_of_variation REAL, correlation REAL,"
     " counts BLOB NOT NULL, probabilities BLOB NOT NULL, PRIMARY KEY (step, layer)) WITHOUT ROWID;"
     "CREATE TABLE samples (step INTEGER PRIMARY KEY, prompt TEXT NOT NULL, text BLOB NOT NULL);"),
    ("CREATE TABLE balance (step INTEGER NOT NULL, layer INTEGER NOT NULL, balancer TEXT NOT NULL, measure TEXT NOT "
     "NULL,"
     " value REAL, PRIMARY KEY (step, layer, balancer, measure)) WITHOUT ROWID;"),
    ("CREATE TABLE domain_load (step INTEGER NOT NULL, domain TEXT NOT NULL, layer INTEGER NOT NULL,"
     " tokens INTEGER NOT NULL, counts BLOB NOT NULL, PRIMARY KEY (step, domain, layer)) WITHOUT ROWID;"),
    "ALTER TABLE load ADD COLUMN token_entropy_over_log_e REAL; ALTER TABLE load ADD COLUMN computed INTEGER;",
};

enum { INSERT_STEP, INSERT_LOAD, INSERT_EVAL, INSERT_SAMPLE, INSERT_META, INSERT_BALANCE, INSERT_DOMAIN, STATEMENTS };
static const char *const statements[STATEMENTS] = {
    "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?)",
    "INSERT OR REPLACE INTO load VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "INSERT OR REPLACE INTO evals VALUES (?,?,?,?,?,?)",
    "INSERT OR REPLACE INTO samples VALUES (?,?,?)",
    "INSERT OR REPLACE INTO meta VALUES (?,?)",
    "INSERT OR REPLACE INTO balance VALUES (?,?,?,?,?)",
    "INSERT OR REPLACE INTO domain_load VALUES (?,?,?,?,?)",
};

/* The load of one layer at one waiting step. Its counts and probabilities stand in the log's arrays. */
typedef struct load_row {
    int64_t tokens, experts, experts_per_token, computed;
    sgm_load_summary summary;
} load_row;

struct sgm_run_log {
    sqlite3 *db;
    sqlite3_stmt *statement[STATEMENTS];
    int64_t layers, experts;
    int64_t rows; /* waiting */
    sgm_run_log_step step[SGM_RUN_LOG_ROWS];
    bool has_load[SGM_RUN_LOG_ROWS];
    load_row *load;                /* (SGM_RUN_LOG_ROWS, L) */
    unsigned char *counts;         /* (SGM_RUN_LOG_ROWS, L, E) u32 little-endian */
    unsigned char *probabilities;  /* the same, f32 little-endian */
    unsigned char *domain_counts;  /* (E) u32 little-endian, of the row of a domain at hand */
    int64_t measure_count;         /* of the balancers; 0 until they are first seen */
    sgm_balance_measure *measures; /* (measure_count) whose they are */
    double *measured;              /* (SGM_RUN_LOG_ROWS, measure_count, L) */
    bool has_balance[SGM_RUN_LOG_ROWS];
};

static sgm_status failed(sgm_run_log *log, const char *doing, sgm_error *error) {
    int code = sqlite3_errcode(log->db) & 0xff;
    bool damaged = code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
    const char *hint = "is the disk full? the checkpoints do not depend on this file";
    if (damaged)
        hint = "move it away, with its -wal and -shm files: training needs the checkpoints only";
    else if (code == SQLITE_CANTOPEN)
        hint = "check the permissions of the run folder, and `ulimit -n`: too many files may be open";
    return sgm_fail(error, damaged ? SGM_EFORMAT : SGM_EIO, hint, "run.sqlite: %s: %s", doing, sqlite3_errmsg(log->db));
}

static sgm_status execute(sgm_run_log *log, const char *sql, const char *doing, sgm_error *error) {
    return sqlite3_exec(log->db, sql, NULL, NULL, NULL) == SQLITE_OK ? SGM_OK : failed(log, doing, error);
}

/* First column of the first row, or `missing`. */
static sgm_status query(sgm_run_log *log, const char *sql, double missing, double *value, sgm_error *error) {
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(log->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return failed(log, "reading", error);
    int code = sqlite3_step(statement);
    *value = code == SQLITE_ROW ? sqlite3_column_double(statement, 0) : missing;
    sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SGM_OK : failed(log, "reading", error);
}

/* Tables and version in one transaction: a crash leaves the file as it was or as it is to be. */
static sgm_status upgrade(sgm_run_log *log, int version, sgm_error *error) {
    sgm_buffer sql = {0};
    sgm_status status = sgm_buffer_print(&sql, "BEGIN IMMEDIATE;");
    for (int v = version; v < SGM_RUN_LOG_VERSION && !status; v++)
        status = sgm_buffer_print(&sql, " %s", versions[v]);
    if (!status)
        status = sgm_buffer_print(&sql, " PRAGMA user_version=%d; COMMIT;", SGM_RUN_LOG_VERSION);
    status = status ? sgm_fail(error, SGM_EMEMORY, NULL, "run.sqlite: no memory")
                    : execute(log, (const char *)sql.data, "making the tables", error);
    sgm_buffer_free(&sql);
    return status;
}

static sgm_status prepare(sgm_run_log *log, const char *path, sgm_error *error) {
    sgm_status status = execute(log, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", "opening", error);
    double version = 0, tables = 0;
    if (!status)
        status = query(log, "PRAGMA user_version", 0, &version, error);
    if (!status)
        status = query(log, "SELECT count(*) FROM sqlite_master", 0, &tables, error);
    if (status)
        return status;
    if (version > SGM_RUN_LOG_VERSION || (version < 1 && tables > 0))
        return sgm_fail(error, SGM_EFORMAT, "a newer sigmoe wrote it, or it is not a run log",
                        "%s: version %.0f, this build reads %d", path, version, SGM_RUN_LOG_VERSION);
    if (version < SGM_RUN_LOG_VERSION)
        status = upgrade(log, version < 1 ? 0 : (int)version, error);
    for (int i = 0; i < STATEMENTS && !status; i++)
        if (sqlite3_prepare_v2(log->db, statements[i], -1, &log->statement[i], NULL) != SQLITE_OK)
            status = failed(log, "preparing", error);
    return status;
}

static void destroy(sgm_run_log *log) {
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(log->statement[i]);
    sqlite3_close(log->db);
    sgm_free(log->load);
    sgm_free(log->counts);
    sgm_free(log->probabilities);
    sgm_free(log->domain_counts);
    sgm_free(log->measures);
    sgm_free(log->measured);
    sgm_free(log);
}

sgm_status sgm_run_log_open(const char *path, int64_t layers, int64_t experts, sgm_run_log **out, sgm_error *error) {
    sgm_run_log *log = sgm_alloc(sizeof *log);
    size_t rows = (size_t)SGM_RUN_LOG_ROWS * (size_t)layers;
    if (log) {
        log->layers = layers;
        log->experts = experts;
        log->load = sgm_alloc(rows * sizeof *log->load);
        log->counts = sgm_alloc(rows * (size_t)experts * 4);
        log->probabilities = sgm_alloc(rows * (size_t)experts * 4);
        log->domain_counts = sgm_alloc((size_t)experts * 4);
    }
    if (!log || !log->load || !log->counts || !log->probabilities || !log->domain_counts) {
        if (log)
            destroy(log);
        return sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for its buffer", path);
    }
    sgm_status status = SGM_OK;
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* to open a pipe would wait for ever */
        status = sgm_fail(error, SGM_EFORMAT, "move it away: the run goes on with a new one", "%s is no file", path);
    else if (sqlite3_open(path, &log->db) != SQLITE_OK)
        status = failed(log, path, error);
    if (!status) {
        sqlite3_busy_timeout(log->db, 10000); /* a report may be reading */
        status = prepare(log, path, error);
    }
    if (status) {
        destroy(log);
        return status;
    }
    *out = log;
    return SGM_OK;
}

sgm_status sgm_run_log_close(sgm_run_log *log, sgm_error *error) {
    if (!log)
        return SGM_OK;
    sgm_status status = sgm_run_log_flush(log, error);
    destroy(log);
    return status;
}

static void put_u32(unsigned char *to, uint32_t value) {
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static void put_f32(unsigned char *to, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(to, bits);
}

sgm_status sgm_run_log_add(sgm_run_log *log, const sgm_run_log_step *step, const sgm_load *load,
                           const int64_t *experts_per_token, sgm_error *error) {
    sgm_status status = log->rows == SGM_RUN_LOG_ROWS ? sgm_run_log_flush(log, error) : SGM_OK;
    if (status) /* these rows are lost, the next ones find room */
        log->rows = 0;
    int64_t row = log->rows++;
    log->step[row] = *step;
    log->has_load[row] = load != NULL;
    log->has_balance[row] = false;
    for (int64_t layer = 0; load && layer < log->layers; layer++) {
        const sgm_load *from = &load[layer];
        load_row *to = &log->load[row * log->layers + layer];
        to->tokens = from->tokens;
        to->experts = from->experts;
        to->computed = from->computed;
        to->experts_per_token = experts_per_token[layer];
        sgm_load_summarise(from, &to->summary);
        size_t at = (size_t)((row * log->layers + layer) * log->experts) * 4;
        double tokens = from->tokens ? (double)from->tokens : 1;
        for (int64_t expert = 0; expert < from->experts; expert++, at += 4) {
            put_u32(log->counts + at, (uint32_t)from->count[expert]);
            put_f32(log->probabilities + at, (float)(from->probability[expert] / tokens));
        }
    }
    return status;
}

/* Room for what this set measures. */
static sgm_status meet(sgm_run_log *log, const sgm_balance_set *balance, sgm_error *error) {
    sgm_balance_measure measure;
    size_t count = 0, layers = (size_t)log->layers;
    while (sgm_balance_set_measure(balance, count, &measure))
        count++;
    log->measures = sgm_alloc(count * sizeof *log->measures + 1);
    log->measured = sgm_alloc(SGM_RUN_LOG_ROWS * count * layers * sizeof *log->measured + 1);
    if (!log->measures || !log->measured) {
        sgm_free(log->measures);
        sgm_free(log->measured);
        log->measures = NULL;
        log->measured = NULL;
        return sgm_fail(error, SGM_EMEMORY, NULL, "run.sqlite: no memory for the balancers' values");
    }
    for (size_t i = 0; i < count; i++)
        sgm_balance_set_measure(balance, i, &log->measures[i]);
    log->measure_count = (int64_t)count;
    return SGM_OK;
}

sgm_status sgm_run_log_balance(sgm_run_log *log, const sgm_balance_set *balance, sgm_error *error) {
    sgm_status status = log->measures ? SGM_OK : meet(log, balance, error);
    if (status || log->rows == 0)
        return status;
    int64_t row = log->rows - 1;
    double *to = log->measured + row * log->measure_count * log->layers;
    for (const sgm_balance_measure *m = log->measures; m < log->measures + log->measure_count; m++)
        for (int64_t layer = 0; layer < log->layers; layer++)
            *to++ = m->values[layer * m->stride];
    log->has_balance[row] = true;
    return SGM_OK;
}

/* SQLite has no NaN: it becomes NULL. */
static sgm_status run(sgm_run_log *log, int which, sgm_error *error) {
    int code = sqlite3_step(log->statement[which]);
    sgm_status status = code == SQLITE_DONE ? SGM_OK : failed(log, "writing", error);
    sqlite3_reset(log->statement[which]);
    return status;
}

static sgm_status write_load(sgm_run_log *log, int64_t row, sgm_error *error) {
    sqlite3_stmt *statement = log->statement[INSERT_LOAD];
    size_t bytes = (size_t)log->experts * 4;
    for (int64_t layer = 0; layer < log->layers; layer++) {
        const load_row *from = &log->load[row * log->layers + layer];
        const sgm_load_summary *summary = &from->summary;
        size_t at = (size_t)(row * log->layers + layer) * bytes;
        sqlite3_bind_int64(statement, 1, log->step[row].step);
        sqlite3_bind_int64(statement, 2, layer);
        sqlite3_bind_int64(statement, 3, from->tokens);
        sqlite3_bind_int64(statement, 4, from->experts_per_token);
        sqlite3_bind_int64(statement, 5, summary->dead_experts);
        const double values[] = {summary->min_over_mean,
                                 summary->max_over_mean,
                                 summary->entropy_over_log_e,
                                 summary->probability_entropy_over_log_e,
                                 summary->coefficient_of_variation,
                                 summary->correlation};
        for (int i = 0; i < 6; i++)
            sqlite3_bind_double(statement, 6 + i, values[i]);
        sqlite3_bind_blob64(statement, 12, log->counts + at, (size_t)from->experts * 4, SQLITE_STATIC);
        sqlite3_bind_blob64(statement, 13, log->probabilities + at, (size_t)from->experts * 4, SQLITE_STATIC);
        sqlite3_bind_double(statement, 14, summary->token_entropy_over_log_e);
        sqlite3_bind_int64(statement, 15, from->computed);
        sgm_status status = run(log, INSERT_LOAD, error);
        if (status)
            return status;
    }
    return SGM_OK;
}

static sgm_status write_balance(sgm_run_log *log, int64_t row, sgm_error *error) {
    sqlite3_stmt *statement = log->statement[INSERT_BALANCE];
    const double *from = log->measured + row * log->measure_count * log->layers;
    for (const sgm_balance_measure *m = log->measures; m < log->measures + log->measure_count; m++)
        for (int64_t layer = 0; layer < log->layers; layer++) {
            sqlite3_bind_int64(statement, 1, log->step[row].step);
            sqlite3_bind_int64(statement, 2, layer);
            sqlite3_bind_text(statement, 3, m->balancer, -1, SQLITE_STATIC);
            sqlite3_bind_text(statement, 4, m->name, -1, SQLITE_STATIC);
            sqlite3_bind_double(statement, 5, *from++);
            sgm_status status = run(log, INSERT_BALANCE, error);
            if (status)
                return status;
        }
    return SGM_OK;
}

static sgm_status write_step(sgm_run_log *log, int64_t row, sgm_error *error) {
    const sgm_run_log_step *step = &log->step[row];
    sqlite3_stmt *statement = log->statement[INSERT_STEP];
    sqlite3_bind_int64(statement, 1, step->step);
    sqlite3_bind_int64(statement, 2, step->tokens);
    const double values[] = {step->loss, step->balance_loss, step->gradient_norm, step->learning_rate, step->seconds};
    for (int i = 0; i < 5; i++)
        sqlite3_bind_double(statement, 3 + i, values[i]);
    sqlite3_bind_int(statement, 8, step->skipped);
    sgm_status status = run(log, INSERT_STEP, error);
    if (!status && log->has_load[row])
        status = write_load(log, row, error);
    return !status && log->has_balance[row] ? write_balance(log, row, error) : status;
}

sgm_status sgm_run_log_begin(sgm_run_log *log, sgm_error *error) {
    return execute(log, "BEGIN IMMEDIATE", "writing", error);
}

sgm_status sgm_run_log_end(sgm_run_log *log, sgm_status status, sgm_error *error) {
    if (!status)
        status = execute(log, "COMMIT", "writing", error);
    if (status)
        sqlite3_exec(log->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

sgm_status sgm_run_log_flush(sgm_run_log *log, sgm_error *error) {
    if (log->rows == 0)
        return SGM_OK;
    sgm_status status = sgm_run_log_begin(log, error);
    if (status)
        return status;
    for (int64_t row = 0; row < log->rows && !status; row++)
        status = write_step(log, row, error);
    status = sgm_run_log_end(log, status, error);
    if (!status)
        log->rows = 0;
    return status;
}

sgm_status sgm_run_log_eval(sgm_run_log *log, int64_t step, const char *domain, int64_t tokens, int64_t bytes,
                            double loss, double bits_per_byte, sgm_error *error) {
    sqlite3_stmt *statement = log->statement[INSERT_EVAL];
    sqlite3_bind_int64(statement, 1, step);
    sqlite3_bind_text(statement, 2, domain, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3, tokens);
    sqlite3_bind_int64(statement, 4, bytes);
    sqlite3_bind_double(statement, 5, loss);
    sqlite3_bind_double(statement, 6, bits_per_byte);
    return run(log, INSERT_EVAL, error);
}

sgm_status sgm_run_log_domain_load(sgm_run_log *log, int64_t step, const char *domain, int64_t layer, int64_t tokens,
                                   const int64_t *count, int64_t experts, sgm_error *error) {
    sqlite3_stmt *statement = log->statement[INSERT_DOMAIN];
    int64_t assignments = 0;
    for (int64_t expert = 0; expert < experts; expert++) {
        assignments += count[expert];
        put_u32(log->domain_counts + 4 * expert, (uint32_t)count[expert]);
    }
    if (assignments < experts)
        return SGM_OK;
    sqlite3_bind_int64(statement, 1, step);
    sqlite3_bind_text(statement, 2, domain, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3, layer);
    sqlite3_bind_int64(statement, 4, tokens);
    sqlite3_bind_blob64(statement, 5, log->domain_counts, (size_t)experts * 4, SQLITE_STATIC);
    return run(log, INSERT_DOMAIN, error);
}

sgm_status sgm_run_log_has_eval(sgm_run_log *log, int64_t step, bool *has, sgm_error *error) {
    char sql[64];
    double count = 0;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM evals WHERE step = %lld", (long long)step);
    sgm_status status = query(log, sql, 0, &count, error);
    *has = !status && count > 0;
    return status;
}

sgm_status sgm_run_log_sample(sgm_run_log *log, int64_t step, const char *prompt, const char *text, size_t size,
                              sgm_error *error) {
    sqlite3_stmt *statement = log->statement[INSERT_SAMPLE];
    sqlite3_bind_int64(statement, 1, step);
    sqlite3_bind_text(statement, 2, prompt, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 3, text, size, SQLITE_STATIC); /* bytes: a model may write broken UTF-8 */
    return run(log, INSERT_SAMPLE, error);
}

sgm_status sgm_run_log_meta(sgm_run_log *log, const char *key, const char *value, sgm_error *error) {
    sqlite3_stmt *statement = log->statement[INSERT_META];
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, value, -1, SQLITE_STATIC);
    return run(log, INSERT_META, error);
}

sgm_status sgm_run_log_routed(sgm_run_log *log, int64_t routed, int64_t layer, const char *part, int64_t experts,
                              sgm_error *error) {
    char sql[384];
    snprintf(
        sql, sizeof sql,
        "CREATE TABLE IF NOT EXISTS routed_layers (layer INTEGER PRIMARY KEY, of_layer INTEGER NOT NULL, part TEXT NOT "
        "NULL, experts INTEGER NOT NULL);"
        " INSERT OR REPLACE INTO routed_layers VALUES (%lld, %lld, '%.32s', %lld);",
        (long long)routed, (long long)layer, part, (long long)experts);
    return execute(log, sql, "naming the layers", error);
}

sgm_status sgm_run_log_truncate(sgm_run_log *log, int64_t step, sgm_error *error) {
    static const char *const tables[] = {"steps", "evals", "load", "samples", "balance", "domain_load"};
    char sql[512] = "BEGIN IMMEDIATE;";
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        size_t used = strlen(sql);
        snprintf(sql + used, sizeof sql - used, " DELETE FROM %s WHERE step > %lld;", tables[i], (long long)step);
    }
    snprintf(sql + strlen(sql), sizeof sql - strlen(sql), " COMMIT;");
    log->rows = 0;
    return execute(log, sql, "deleting later rows", error);
}

sgm_status sgm_run_log_seconds(sgm_run_log *log, double *seconds, double *steps, sgm_error *error) {
    sgm_status status = sgm_run_log_flush(log, error);
    if (!status)
        status = query(log, "SELECT coalesce(sum(seconds), 0) FROM steps", 0, seconds, error);
    return status ? status : query(log, "SELECT count(*) FROM steps", 0, steps, error);
}
