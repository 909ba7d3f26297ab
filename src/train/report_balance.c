// SPDX-License-Identifier: Apache-2.0
/* What the balancers measured, of every layer at every step that was logged: read from the table `balance` of run.sqlite and
 * drawn, one chart a measure.
 *
 * The database averages over buckets of time, and of the layers' curves only their span and three of them are kept: neither
 * memory nor the page grows with the steps or the layers of the run. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sigmoe/model.h"
#include "train/report_read.h"

enum { ARRAYS = 3 + SGM_REPORT_LINES };

/* ---- reading ---------------------------------------------------------------------------------------------------- */

typedef struct buckets {
    int64_t first, last, count;
} buckets;

static sgm_status read_span(const sgm_report_reader *r, buckets *of) {
    double v[3] = {0};
    sgm_status status =
        sgm_report_numbers(r,
                           "SELECT count(DISTINCT step), coalesce(min(step), 0), coalesce(max(step), 0) "
                           "FROM balance",
                           v, 3);
    of->count = v[0] < SGM_REPORT_BUCKETS ? (int64_t)v[0] : SGM_REPORT_BUCKETS;
    of->first = sgm_report_integer(v[1]);
    of->last = sgm_report_integer(v[2]);
    return status;
}

static const char *text_of(sqlite3_stmt *statement, int index) {
    const char *text = (const char *)sqlite3_column_text(statement, index);
    return text ? text : "";
}

static bool is_of(const sgm_report_measure *m, const char *balancer, const char *name, bool attention) {
    return m->attention == attention && strcmp(m->name, name) == 0 && strcmp(m->balancer, balancer) == 0;
}

/* One more, without a number in it; NULL: no memory. */
static sgm_report_measure *append(sgm_report_data *data, const char *balancer, const char *name, bool attention,
                                  size_t count) {
    size_t old = data->measures * sizeof *data->measure;
    sgm_report_measure *grown = sgm_resize(data->measure, old, old + sizeof *grown);
    if (!grown)
        return NULL;
    data->measure = grown;
    sgm_report_measure *m = &grown[data->measures];
    *m = (sgm_report_measure){.balancer = sgm_strdup(balancer), .name = sgm_strdup(name), .attention = attention};
    m->count = count;
    m->step = sgm_alloc(ARRAYS * count * sizeof(double));
    data->measures++;
    if (!m->balancer || !m->name || !m->step)
        return NULL;
    for (size_t i = 0; i < ARRAYS * count; i++)
        m->step[i] = NAN;
    m->least = m->step + count;
    m->greatest = m->step + 2 * count;
    int64_t layers = sgm_routed_layer(data->attention_experts, data->layers);
    m->lines = layers < SGM_REPORT_LINES ? (int)layers : SGM_REPORT_LINES;
    for (int i = 0; i < m->lines; i++) {
        m->line[i] = m->step + (3 + (size_t)i) * count;
        m->layer[i] = m->lines > 1 ? i * (layers - 1) / (m->lines - 1) : 0;
    }
    return m;
}

static void put(sgm_report_measure *m, size_t bucket, int64_t layer, double step, double value) {
    if (!isfinite(step) || !isfinite(value))
        return;
    m->step[bucket] = fmax(m->step[bucket], step); /* of NaN and a number the number */
    m->least[bucket] = fmin(m->least[bucket], value);
    m->greatest[bucket] = fmax(m->greatest[bucket], value);
    for (int i = 0; i < m->lines; i++)
        if (m->layer[i] == layer)
            m->line[i][bucket] = value;
}

/* A measure that was never a number has nothing to draw. */
static bool any_number(const sgm_report_measure *m) {
    for (size_t i = 0; i < m->count; i++)
        if (isfinite(m->least[i]))
            return true;
    return false;
}

static void free_measure(sgm_report_measure *m) {
    sgm_free(m->balancer);
    sgm_free(m->name);
    sgm_free(m->step);
}

static void drop_empty(sgm_report_data *data) {
    size_t kept = 0;
    for (size_t i = 0; i < data->measures; i++)
        if (any_number(&data->measure[i]))
            data->measure[kept++] = data->measure[i];
        else
            free_measure(&data->measure[i]);
    data->measures = kept;
}

static sgm_status read_rows(const sgm_report_reader *r, sgm_report_data *data, const buckets *of) {
    sqlite3_stmt *statement = NULL;
    sgm_status status = sgm_report_prepare(r,
                                           "SELECT balancer, measure, layer % ?4, (step - ?1) * ?3 / (?2 - ?1 + 1), "
                                           "layer, avg(value), max(step) FROM balance WHERE layer >= 0 AND layer < ?5 "
                                           "GROUP BY 1, 2, 4, 5 ORDER BY balancer, measure <> 'value', measure, 3",
                                           &statement);
    if (status)
        return status;
    bool in_turn = data->attention_experts > 0;
    const int64_t numbers[] = {of->first, of->last, of->count, in_turn ? 2 : 1, data->layers};
    for (int i = 0; i < 5; i++)
        sqlite3_bind_int64(statement, i + 1, numbers[i]);
    int code = SQLITE_DONE;
    sgm_report_measure *m = NULL;
    while (!status && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *balancer = text_of(statement, 0), *name = text_of(statement, 1);
        bool attention = in_turn && sqlite3_column_int64(statement, 2) == 0;
        int64_t bucket = sqlite3_column_int64(statement, 3), layer = sqlite3_column_int64(statement, 4);
        if (bucket < 0 || bucket >= of->count)
            continue;
        if (!m || !is_of(m, balancer, name, attention))
            m = append(data, balancer, name, attention, (size_t)of->count);
        if (m)
            put(m, (size_t)bucket, in_turn ? layer / 2 : layer, sgm_report_column(statement, 6),
                sgm_report_column(statement, 5));
        else
            status = sgm_report_no_memory(r);
    }
    if (!status && code != SQLITE_DONE)
        status = sgm_report_broken(r);
    sqlite3_finalize(statement);
    return status;
}

sgm_status sgm_report_read_balance(const sgm_report_reader *r, sgm_report_data *data) {
    bool has = false;
    buckets of = {0};
    sgm_status status = sgm_report_has_table(r, "balance", &has);
    if (!status && has)
        status = read_span(r, &of);
    if (!status && of.count > 0 && data->layers > 0)
        status = read_rows(r, data, &of);
    if (!status)
        drop_empty(data);
    return status;
}

void sgm_report_free_balance(sgm_report_data *data) {
    for (size_t i = 0; i < data->measures; i++)
        free_measure(&data->measure[i]);
    sgm_free(data->measure);
}

/* ---- drawing ---------------------------------------------------------------------------------------------------- */

/* "mean_entropy_nats" is for programs: for people "mean entropy", and the unit beside the balancer's name. */
static const char *title_of(const sgm_report_measure *m, char *text, size_t room) {
    static const char unit[] = "_nats";
    snprintf(text, room, "%s", strcmp(m->name, "value") == 0 ? "unweighted loss" : m->name);
    size_t size = strlen(text), end = sizeof unit - 1;
    bool in_nats = size > end && strcmp(text + size - end, unit) == 0;
    if (in_nats)
        text[size - end] = 0;
    for (char *c = text; *c; c++)
        if (*c == '_')
            *c = ' ';
    return in_nats ? ", nats" : "";
}

static void write_measure(sgm_page *page, const sgm_report_measure *m, bool in_turn, double first, double last) {
    char title[96], note[160], label[SGM_REPORT_LINES][32];
    sgm_svg_series series[SGM_REPORT_LINES];
    sgm_svg_band band = {m->step, m->least, m->greatest, m->count, 7};
    const char *unit = title_of(m, title, sizeof title);
    snprintf(note, sizeof note, "%.96s%s%s", m->balancer, unit,
             !in_turn       ? ""
             : m->attention ? ", of the attentions"
                            : ", of the feed-forwards");
    for (int i = 0; i < m->lines; i++) {
        snprintf(label[i], sizeof label[i], "layer %lld", (long long)m->layer[i]);
        series[i] = (sgm_svg_series){m->step, m->line[i], m->count, label[i], 0, 0, false, false};
        series[i].depth = m->lines > 1 ? (double)i / (m->lines - 1) : 0;
    }
    sgm_svg_chart_write(page, &(sgm_svg_chart){.title = title,
                                               .note = note,
                                               .series = series,
                                               .count = (size_t)m->lines,
                                               .bands = &band,
                                               .band_count = m->lines > 1,
                                               .x_min = first,
                                               .x_max = last,
                                               .y_low = NAN,
                                               .y_high = NAN});
}

void sgm_report_write_balance(sgm_page *page, const sgm_report_data *data, double first, double last) {
    if (!data->measures)
        return;
    PUT(page,
        "<h2>What the balancers saw</h2><p>What each of them logs of a step, by layer: lines are single layers, the "
        "area reaches from the least to the greatest of all.</p>\n<div class=\"pair\">\n");
    for (size_t i = 0; i < data->measures; i++)
        write_measure(page, &data->measure[i], data->attention_experts > 0, first, last);
    PUT(page, "</div>\n");
}
