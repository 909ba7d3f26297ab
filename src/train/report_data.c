// SPDX-License-Identifier: Apache-2.0
/* Reading run.sqlite for the report. Rows of a long run are averaged into at most SGM_REPORT_BUCKETS times by the
 * database itself, so that a run of a million steps needs no more memory here than one of a thousand. */
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "sigmoe/model.h"
#include "train/report_read.h"
#include "train/run_log_read.h"

enum {
    MOST_POINTS = 2000, /* of a step curve */
    SNAPSHOT_STEPS = 8, /* load rows summed for one snapshot */
    MOST_SAMPLES = 6,
    MOST_MAP_CELLS = 80000, /* of all snapshots together: keeps the page around a megabyte */
};

static const char damaged[] = "the file is damaged or of another program; the checkpoints do not depend on it";

static const char independent[] = "the checkpoints do not depend on this file";

sgm_status sgm_report_broken(const sgm_report_reader *r) {
    return sgm_run_log_unreadable(r->db, r->path, independent, r->error);
}

sgm_status sgm_report_no_memory(const sgm_report_reader *r) {
    return sgm_fail(r->error, SGM_EMEMORY, NULL, "%s: no memory for the report", r->path);
}

sgm_status sgm_report_prepare(const sgm_report_reader *r, const char *sql, sqlite3_stmt **statement) {
    return sqlite3_prepare_v2(r->db, sql, -1, statement, NULL) == SQLITE_OK ? SGM_OK : sgm_report_broken(r);
}

double sgm_report_column(sqlite3_stmt *statement, int index) {
    double value = sqlite3_column_double(statement, index);
    return sqlite3_column_type(statement, index) == SQLITE_NULL || !(fabs(value) < 1e100) ? NAN : value;
}

int64_t sgm_report_integer(double value) {
    return value < -9e15 ? -(int64_t)9e15 : value > 9e15 ? (int64_t)9e15 : (int64_t)value;
}

sgm_status sgm_report_numbers(const sgm_report_reader *r, const char *sql, double *values, int count) {
    sqlite3_stmt *statement = NULL;
    sgm_status status = sgm_report_prepare(r, sql, &statement);
    if (!status && sqlite3_step(statement) != SQLITE_ROW)
        status = sgm_report_broken(r);
    for (int i = 0; !status && i < count; i++)
        values[i] = sqlite3_column_double(statement, i);
    sqlite3_finalize(statement);
    return status;
}

sgm_status sgm_report_has_table(const sgm_report_reader *r, const char *name, bool *has) {
    sqlite3_stmt *statement = NULL;
    sgm_status status =
        sgm_report_prepare(r, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1", &statement);
    *has = false;
    if (status)
        return status;
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    int code = sqlite3_step(statement);
    *has = code == SQLITE_ROW;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        status = sgm_report_broken(r);
    sqlite3_finalize(statement);
    return status;
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

static sgm_status read_steps(const sgm_report_reader *r, sgm_report_data *data) {
    double totals[6] = {0};
    sgm_status status = sgm_report_numbers(r,
                                           "SELECT count(*), total(seconds), coalesce(max(tokens), 0), total(skipped), "
                                           "coalesce(min(step), 0), coalesce(max(step), 0) FROM steps",
                                           totals, 6);
    if (status)
        return status;
    data->seconds = totals[1];
    data->tokens = totals[2];
    data->skipped = totals[3];
    size_t rows = totals[0] < MOST_POINTS ? (size_t)totals[0] : MOST_POINTS;
    double **arrays[] = {&data->step,          &data->loss,          &data->balance_loss,
                         &data->gradient_norm, &data->learning_rate, &data->tokens_per_second};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (!(*arrays[i] = sgm_alloc((rows + 1) * sizeof(double))))
            return sgm_report_no_memory(r);
    sqlite3_stmt *statement = NULL;
    status =
        sgm_report_prepare(r,
                           "SELECT max(step), avg(loss), avg(balance_loss), avg(gradient_norm), avg(learning_rate), "
                           "sum(seconds), max(tokens) FROM steps GROUP BY (step - ?1) * ?3 / (?2 - ?1 + 1) ORDER BY 1",
                           &statement);
    if (status)
        return status;
    sqlite3_bind_int64(statement, 1, sgm_report_integer(totals[4]));
    sqlite3_bind_int64(statement, 2, sgm_report_integer(totals[5]));
    sqlite3_bind_int64(statement, 3, (int64_t)rows);
    int code;
    double before = 0;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW && data->steps < rows) {
        for (int i = 0; i < 5; i++)
            (*arrays[i])[data->steps] = sgm_report_column(statement, i);
        double seconds = sgm_report_column(statement, 5), tokens = sgm_report_column(statement, 6);
        data->tokens_per_second[data->steps++] = seconds > 0 ? (tokens - before) / seconds : NAN;
        before = tokens;
    }
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        status = sgm_report_broken(r);
    sqlite3_finalize(statement);
    return status;
}

/* ---- evaluations ---------------------------------------------------------------------------------------------- */

static sgm_report_evals *series_of(sgm_report_data *data, const char *domain) {
    for (size_t i = 0; i < data->eval_series; i++)
        if (strcmp(data->evals[i].domain, domain) == 0)
            return &data->evals[i];
    size_t old = data->eval_series * sizeof *data->evals;
    sgm_report_evals *grown = sgm_resize(data->evals, old, old + sizeof *grown);
    if (!grown)
        return NULL;
    data->evals = grown;
    sgm_report_evals *series = &grown[data->eval_series];
    if (!(series->domain = sgm_strdup(domain)))
        return NULL;
    data->eval_series++;
    return series;
}

static bool append_eval(sgm_report_evals *series, double step, double loss, double bits) {
    if (series->count == series->capacity) {
        size_t old = series->capacity * sizeof(double), new = old ? old * 2 : 64 * sizeof(double);
        double **arrays[] = {&series->step, &series->loss, &series->bits_per_byte};
        for (int i = 0; i < 3; i++) {
            double *grown = sgm_resize(*arrays[i], old, new);
            if (!grown)
                return false;
            *arrays[i] = grown;
        }
        series->capacity = new / sizeof(double);
    }
    series->step[series->count] = step;
    series->loss[series->count] = loss;
    series->bits_per_byte[series->count++] = bits;
    return true;
}

static sgm_status read_evals(const sgm_report_reader *r, sgm_report_data *data) {
    sqlite3_stmt *statement = NULL;
    sgm_status status = sgm_report_prepare(
        r, "SELECT step, domain, loss, bits_per_byte, tokens FROM evals ORDER BY domain, step", &statement);
    int code = SQLITE_DONE;
    while (!status && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        if (isnan(sgm_report_column(statement, 0)))
            continue;
        const char *domain = (const char *)sqlite3_column_text(statement, 1);
        sgm_report_evals *series = series_of(data, domain ? domain : "");
        if (!series) {
            status = sgm_report_no_memory(r);
            continue;
        }
        double bits = sgm_report_column(statement, 3), tokens = sgm_report_column(statement, 4);
        series->last_bits_per_byte = bits;
        series->last_tokens = tokens;
        series->tokens = series->count ? series->tokens : tokens;
        bool alike = *series->domain || !(fabs(tokens - series->tokens) > 0.01 * series->tokens);
        if (alike && !append_eval(series, sgm_report_column(statement, 0), sgm_report_column(statement, 2), bits))
            status = sgm_report_no_memory(r);
    }
    if (!status && code != SQLITE_DONE)
        status = sgm_report_broken(r);
    sqlite3_finalize(statement);
    return status;
}

/* ---- expert load ---------------------------------------------------------------------------------------------- */

static sgm_status allocate_buckets(const sgm_report_reader *r, sgm_report_data *data) {
    size_t cells = (size_t)data->layers * data->buckets;
    double **arrays[] = {&data->dead, &data->experts_per_token, &data->entropy, &data->probability_entropy,
                         &data->max_over_mean};
    if (!(data->bucket_step = sgm_alloc(data->buckets * sizeof(double))))
        return sgm_report_no_memory(r);
    for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++) {
        if (!(*arrays[a] = sgm_alloc(cells * sizeof(double))))
            return sgm_report_no_memory(r);
        for (size_t i = 0; i < cells; i++)
            (*arrays[a])[i] = NAN;
    }
    return SGM_OK;
}

static sgm_status read_buckets(const sgm_report_reader *r, sgm_report_data *data, int64_t first, int64_t last) {
    sqlite3_stmt *statement = NULL;
    sgm_status status = sgm_report_prepare(r,
                                           "SELECT layer, (step - ?1) * ?3 / (?2 - ?1 + 1), avg(dead_experts), "
                                           "avg(experts_per_token), avg(entropy_over_log_e), "
                                           "avg(probability_entropy_over_log_e), avg(max_over_mean), max(step) "
                                           "FROM load GROUP BY 1, 2",
                                           &statement);
    if (status)
        return status;
    sqlite3_bind_int64(statement, 1, first);
    sqlite3_bind_int64(statement, 2, last);
    sqlite3_bind_int64(statement, 3, (int64_t)data->buckets);
    int code;
    double *arrays[] = {data->dead, data->experts_per_token, data->entropy, data->probability_entropy,
                        data->max_over_mean};
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        int64_t layer = sqlite3_column_int64(statement, 0), bucket = sqlite3_column_int64(statement, 1);
        if (layer < 0 || layer >= data->layers || bucket < 0 || bucket >= (int64_t)data->buckets)
            continue;
        for (int a = 0; a < 5; a++)
            arrays[a][layer * (int64_t)data->buckets + bucket] = sgm_report_column(statement, 2 + a);
        data->bucket_step[bucket] = sgm_report_column(statement, 7);
    }
    if (code != SQLITE_DONE)
        status = sgm_report_broken(r);
    sqlite3_finalize(statement);
    return status;
}

static void add_counts(double *share, const unsigned char *blob, int64_t experts) {
    for (int64_t e = 0; e < experts; e++) {
        const unsigned char *b = blob + 4 * e;
        share[e] += (double)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
    }
}

/* Of a layer; `data` holds the most of any. */
static int64_t experts_of(const sgm_report_data *data, int64_t layer) {
    return sgm_routed_experts(data->own_experts, data->attention_experts, layer);
}

static sgm_status read_snapshot(const sgm_report_reader *r, sqlite3_stmt *statement, sgm_report_data *data,
                                int64_t step, sgm_report_snapshot *snapshot) {
    snapshot->step = step;
    snapshot->share = sgm_alloc((size_t)(data->layers * data->experts) * sizeof(double));
    if (!snapshot->share)
        return sgm_report_no_memory(r);
    for (int64_t layer = 0; layer < data->layers; layer++) {
        double *share = snapshot->share + layer * data->experts, sum = 0;
        int code;
        sqlite3_reset(statement);
        sqlite3_bind_int64(statement, 1, layer);
        sqlite3_bind_int64(statement, 2, step);
        int64_t experts = experts_of(data, layer);
        while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
            if (sqlite3_column_bytes(statement, 0) != 4 * (experts + data->null_experts))
                return sgm_fail(r->error, SGM_EFORMAT, damaged,
                                "%s: step %lld, layer %lld: its load is not of %lld experts", r->path, (long long)step,
                                (long long)layer, (long long)(experts + data->null_experts));
            add_counts(share, sqlite3_column_blob(statement, 0), experts);
        }
        if (code != SQLITE_DONE)
            return sgm_report_broken(r);
        for (int64_t e = 0; e < experts; e++)
            sum += share[e];
        for (int64_t e = 0; e < data->experts; e++)
            share[e] = sum > 0 && e < experts ? share[e] * (double)experts / sum : NAN;
    }
    return SGM_OK;
}

/* Evenly chosen times from the first to the last, both included. */
static sgm_status read_snapshots(const sgm_report_reader *r, sgm_report_data *data, int64_t times) {
    int64_t cells = data->layers * data->experts, wanted = MOST_MAP_CELLS / (cells > 0 ? cells : 1);
    wanted = wanted > SGM_REPORT_SNAPSHOTS ? SGM_REPORT_SNAPSHOTS : wanted < 2 ? 2 : wanted;
    wanted = wanted > times ? times : wanted;
    sqlite3_stmt *at = NULL, *rows = NULL;
    char sql[160];
    snprintf(sql, sizeof sql, "SELECT counts FROM load WHERE layer=?1 AND step<=?2 ORDER BY step DESC LIMIT %d",
             SNAPSHOT_STEPS);
    sgm_status status =
        sgm_report_prepare(r, "SELECT step FROM load WHERE layer=0 ORDER BY step LIMIT 1 OFFSET ?1", &at);
    if (!status)
        status = sgm_report_prepare(r, sql, &rows);
    for (int64_t i = 0; i < wanted && !status; i++) {
        sqlite3_reset(at);
        sqlite3_bind_int64(at, 1, wanted > 1 ? i * (times - 1) / (wanted - 1) : times - 1);
        if (sqlite3_step(at) != SQLITE_ROW)
            break;
        status = read_snapshot(r, rows, data, sqlite3_column_int64(at, 0), &data->snapshot[data->snapshots++]);
    }
    sqlite3_finalize(at);
    sqlite3_finalize(rows);
    return status;
}

/* A table that is there only where layers have attention experts. */
static sgm_status read_routed(const sgm_report_reader *r, sgm_report_data *data) {
    double v[2] = {0};
    bool has = false;
    sgm_status status = sgm_report_has_table(r, "routed_layers", &has);
    data->own_experts = data->experts;
    if (status || !has)
        return status;
    status = sgm_report_numbers(r,
                                "SELECT coalesce(max(CASE WHEN layer % 2 = 0 THEN experts END), 0), "
                                "coalesce(max(CASE WHEN layer % 2 = 1 THEN experts END), 0) FROM routed_layers",
                                v, 2);
    if (!status && (!(v[0] >= 1) || !(v[1] >= 1) || v[0] > (double)data->experts || v[1] > (double)data->experts))
        return sgm_fail(r->error, SGM_EFORMAT, damaged, "%s: layers of %.0f attention experts and %.0f others", r->path,
                        v[0], v[1]);
    data->attention_experts = sgm_report_integer(v[0]);
    data->own_experts = sgm_report_integer(v[1]);
    return status;
}

static sgm_status read_load(const sgm_report_reader *r, int64_t null_experts, sgm_report_data *data) {
    double v[5] = {0};
    sgm_status status =
        sgm_report_numbers(r,
                           "SELECT count(DISTINCT step), coalesce(min(step), 0), coalesce(max(step), 0), "
                           "coalesce(max(layer), -1) + 1, coalesce(max(length(counts)), 0) / 4 FROM load",
                           v, 5);
    if (status || v[0] < 1)
        return status;
    data->layers = sgm_report_integer(v[3]);
    data->experts = sgm_report_integer(v[4]);
    if (data->layers < 1 || data->layers > 100000 || data->experts < 1 || data->experts > 10000000)
        return sgm_fail(r->error, SGM_EFORMAT, damaged, "%s: a load of %.0f layers and %.0f experts", r->path, v[3],
                        v[4]);
    if (null_experts > 0 && null_experts < data->experts) {
        data->null_experts = null_experts;
        data->experts -= null_experts;
    }
    status = read_routed(r, data);
    if (status)
        return status;
    data->buckets = v[0] < SGM_REPORT_BUCKETS ? (size_t)v[0] : SGM_REPORT_BUCKETS;
    status = allocate_buckets(r, data);
    if (!status)
        status = read_buckets(r, data, sgm_report_integer(v[1]), sgm_report_integer(v[2]));
    return status ? status : read_snapshots(r, data, sgm_report_integer(v[0]));
}

/* ---- samples, and all together ---------------------------------------------------------------------------------- */

static sgm_status read_samples(const sgm_report_reader *r, sgm_report_data *data) {
    sqlite3_stmt *statement = NULL;
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT step, prompt, text FROM samples ORDER BY step DESC LIMIT %d", MOST_SAMPLES);
    sgm_status status = sgm_report_prepare(r, sql, &statement);
    data->sample = sgm_alloc(MOST_SAMPLES * sizeof *data->sample);
    if (!status && !data->sample)
        status = sgm_report_no_memory(r);
    int code = SQLITE_DONE;
    while (!status && data->samples < MOST_SAMPLES && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        sgm_report_sample *sample = &data->sample[data->samples++];
        const char *prompt = (const char *)sqlite3_column_text(statement, 1);
        const void *text = sqlite3_column_blob(statement, 2);
        sample->step = sqlite3_column_int64(statement, 0);
        sample->text_size = (size_t)sqlite3_column_bytes(statement, 2);
        sample->prompt = sgm_strdup(prompt ? prompt : "");
        sample->text = sgm_alloc(sample->text_size + 1);
        if (!sample->prompt || !sample->text)
            status = sgm_report_no_memory(r);
        else if (sample->text_size)
            memcpy(sample->text, text, sample->text_size);
    }
    if (!status && code != SQLITE_DONE && code != SQLITE_ROW)
        status = sgm_report_broken(r);
    sqlite3_finalize(statement);
    return status;
}

sgm_status sgm_report_read(const char *path, int64_t null_experts, sgm_report_data *data, sgm_error *error) {
    sgm_report_reader r = {NULL, path, error};
    *data = (sgm_report_data){0};
    sgm_status status = sgm_run_log_read(path, independent, &r.db, error);
    if (!status)
        status = read_steps(&r, data);
    if (!status)
        status = read_evals(&r, data);
    if (!status)
        status = read_load(&r, null_experts, data);
    if (!status)
        status = sgm_report_read_balance(&r, data);
    if (!status)
        status = read_samples(&r, data);
    sqlite3_close(r.db);
    if (status)
        sgm_report_data_free(data);
    return status;
}

void sgm_report_data_free(sgm_report_data *data) {
    double *arrays[] = {data->step,
                        data->loss,
                        data->balance_loss,
                        data->gradient_norm,
                        data->learning_rate,
                        data->tokens_per_second,
                        data->bucket_step,
                        data->dead,
                        data->experts_per_token,
                        data->entropy,
                        data->probability_entropy,
                        data->max_over_mean};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        sgm_free(arrays[i]);
    for (size_t i = 0; i < data->eval_series; i++) {
        sgm_free(data->evals[i].domain);
        sgm_free(data->evals[i].step);
        sgm_free(data->evals[i].loss);
        sgm_free(data->evals[i].bits_per_byte);
    }
    sgm_free(data->evals);
    for (size_t i = 0; i < data->snapshots; i++)
        sgm_free(data->snapshot[i].share);
    for (size_t i = 0; i < data->samples; i++) {
        sgm_free(data->sample[i].prompt);
        sgm_free(data->sample[i].text);
    }
    sgm_free(data->sample);
    sgm_report_free_balance(data);
    *data = (sgm_report_data){0};
}
