// SPDX-License-Identifier: Apache-2.0
/* Measuring one finished run from its config.yaml and run.sqlite.
 *
 * The last tenth of the steps is the window of everything about balance and of the training loss: by then the learning rate
 * falls and schedules of k have switched. Null experts, the last of a layer, compute nothing and have no load to even out:
 * balance is that of the others. Of a model with attention experts it is that of the feed-forward's, so that arms compare; what is
 * computed has both. MaxVio is arXiv 2408.15664's, by batch and over the window. */
#include <inttypes.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "lab/measure.h"
#include "routing/routing.h"
#include "sigmoe/model.h"
#include "sigmoe/stats.h"
#include "train/run_log_read.h"

enum { WINDOW = 10 }; /* the last 1/10 of the steps */

typedef sgm_lab_reader reader;

sgm_status sgm_lab_no_memory(const reader *r) {
    return sgm_fail(r->error, SGM_EMEMORY, NULL, "%s: no memory to measure it", r->path);
}

const char sgm_lab_remove_run[] = "remove this run's folder: the lab makes it again";

static sgm_status broken(const reader *r) {
    return sgm_run_log_unreadable(r->db, r->path, sgm_lab_remove_run, r->error);
}

static double column(sqlite3_stmt *statement, int index) {
    return sqlite3_column_type(statement, index) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(statement, index);
}

sgm_status sgm_lab_each(reader *r, const char *sql, sgm_status (*use)(reader *r, sqlite3_stmt *row)) {
    sqlite3_stmt *statement = NULL;
    sgm_status status = SGM_OK;
    int code = SQLITE_DONE;
    if (sqlite3_prepare_v2(r->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return broken(r);
    if (sqlite3_bind_parameter_count(statement))
        sqlite3_bind_int64(statement, 1, r->first);
    while (!status && (code = sqlite3_step(statement)) == SQLITE_ROW)
        status = use(r, statement);
    if (!status && code != SQLITE_DONE)
        status = broken(r);
    sqlite3_finalize(statement);
    return status;
}

/* ---- configuration -------------------------------------------------------------------------------------------- */

static int64_t whole(const sgm_config *config, const char *key) {
    const char *text = sgm_config_get(config, key);
    return text ? strtoll(text, NULL, 10) : 0;
}

/* Steps of the window whose load is written: every so many, the first and the last. 0: auto. */
static int64_t rows_of(const reader *r, int64_t every) {
    if (every <= 0)
        every = r->steps / 1000 > 1 ? r->steps / 1000 : 1;
    int64_t rows = r->steps / every - (r->first - 1) / every;
    rows += r->steps % every != 0;
    return rows + (r->first == 1 && every > 1 && r->steps > 1);
}

static sgm_status read_config(reader *r, const char *run) {
    sgm_config *config = NULL;
    char *path = sgm_path_join(run, "config.yaml");
    sgm_status status = path ? sgm_config_new(&config, r->error) : sgm_lab_no_memory(r);
    if (!status)
        status = sgm_config_load(config, path, r->error);
    if (!status)
        status = sgm_model_settings_from_config(config, &r->model, r->error);
    if (!status) {
        r->steps = whole(config, "train.steps");
        r->m->seed = whole(config, "train.seed");
        const char *kernels = sgm_config_get(config, "train.kernels");
        r->m->threads = kernels && !strcmp(kernels, "ref") ? 0 : whole(config, "train.threads");
        r->stored = r->model.experts;
        r->most_skipped = whole(config, "train.max_skipped_steps");
        r->tokens_per_step = (double)whole(config, "data.tokens_per_step");
        r->first = r->steps - (r->steps >= WINDOW ? r->steps / WINDOW : 1) + 1;
        r->rows = rows_of(r, whole(config, "train.load_every"));
        r->m->layers = r->model.layers;
        r->m->experts = r->stored - whole(config, "model.null_experts");
    }
    sgm_config_free(config);
    sgm_free(path);
    return status;
}

/* ---- load ----------------------------------------------------------------------------------------------------- */

sgm_imbalance sgm_lab_imbalance(const int64_t *count, int64_t experts, int64_t groups, int64_t tokens) {
    sgm_imbalance imbalance;
    if (groups <= 0 || sgm_imbalance_score(count, experts, groups, tokens, &imbalance, NULL) != SGM_OK)
        imbalance = (sgm_imbalance){(double)NAN, (double)NAN, (double)NAN};
    return imbalance;
}

/* layer, tokens, counts, probabilities, computed, token_entropy_over_log_e of one step of the window. */
static sgm_status add_load(reader *r, sqlite3_stmt *row) {
    int64_t routed = sqlite3_column_int64(row, 0), tokens = sqlite3_column_int64(row, 1), E = r->m->experts;
    int64_t layer = sgm_routed_layer(r->model.attention_experts, routed);
    if (sgm_routed_is_attention(r->model.attention_experts, routed))
        return SGM_OK;
    if (layer < 0 || layer >= r->m->layers || sqlite3_column_bytes(row, 2) != 4 * r->stored ||
        sqlite3_column_bytes(row, 3) != 4 * r->stored)
        return sgm_fail(r->error, SGM_EFORMAT, NULL, "%s: a row of load is of another model", r->path);
    const unsigned char *counts = sqlite3_column_blob(row, 2), *p = sqlite3_column_blob(row, 3);
    double counted = 0;
    for (int64_t e = 0; e < E; e++) {
        counted += sgm_run_log_u32(counts + 4 * e);
        r->row_count[e] = sgm_run_log_u32(counts + 4 * e);
        r->row_probability[e] = (double)sgm_run_log_f32(p + 4 * e) * (double)tokens;
        r->count[layer * E + e] += r->row_count[e];
        r->probability[layer * E + e] += r->row_probability[e];
    }
    double computed = column(row, 4); /* NaN: not kept */
    if (tokens < 1 || counted > (double)tokens * (double)E || computed < 0 || computed > counted)
        return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                        "%s: a row of load has %.0f assignments of %" PRId64 " tokens to %" PRId64
                        " experts, %.0f of them computed: that cannot be",
                        r->path, counted, tokens, E, computed);
    r->tokens[layer] += tokens;
    r->batches[layer] += 1;
    r->computed[layer] += computed;
    r->m->layer[layer].token_entropy_over_log_e += column(row, 5) * (double)tokens;
    const sgm_load load = {.tokens = tokens, .experts = E, .count = r->row_count, .probability = r->row_probability};
    sgm_load_summary summary;
    sgm_load_summarise(&load, &summary);
    r->m->layer[layer].max_violation_batch += summary.max_violation;
    r->m->layer[layer].noise_floor_batch += summary.noise_floor;
    sgm_imbalance imbalance = sgm_lab_imbalance(r->row_count, E, r->groups, tokens);
    r->m->layer[layer].imbalance_score += imbalance.score;
    r->m->layer[layer].imbalance_noise_floor += imbalance.noise_floor;
    return SGM_OK;
}

static void finish_layer(reader *r, int64_t layer) {
    int64_t E = r->m->experts;
    sgm_lab_balance *b = &r->m->layer[layer];
    const sgm_load load = {.tokens = r->tokens[layer],
                           .experts = E,
                           .count = r->count + layer * E,
                           .probability = r->probability + layer * E};
    sgm_load_summary s;
    sgm_load_summarise(&load, &s);
    b->max_violation_batch /= r->batches[layer];
    b->noise_floor_batch /= r->batches[layer];
    b->imbalance_score /= r->batches[layer];
    b->imbalance_noise_floor /= r->batches[layer];
    b->max_violation_global = s.max_violation;
    b->noise_floor_global = s.noise_floor;
    b->coefficient_of_variation = s.coefficient_of_variation;
    b->min_over_mean = s.min_over_mean;
    b->dead_experts = (double)s.dead_experts;
    b->entropy_over_log_e = s.entropy_over_log_e;
    b->probability_entropy_over_log_e = s.probability_entropy_over_log_e;
    b->correlation = s.correlation;
    double total = 0;
    for (int64_t e = 0; e < E; e++)
        total += (double)load.count[e];
    b->token_entropy_over_log_e /= (double)load.tokens;
    b->dropped_share = 1 - r->computed[layer] / total;
    for (int64_t e = 0; e < E; e++)
        r->m->share[layer * E + e] = total > 0 ? (double)load.count[e] * (double)E / total : (double)NAN;
}

/* Mean over layers [begin, end) of each number. */
static void average(const sgm_lab_balance *layer, int64_t begin, int64_t end, sgm_lab_balance *out) {
    double sum[SGM_LAB_BALANCES] = {0};
    for (int64_t l = begin; l < end; l++) {
        double value[SGM_LAB_BALANCES];
        memcpy(value, &layer[l], sizeof value);
        for (int i = 0; i < SGM_LAB_BALANCES; i++)
            sum[i] += value[i] / (double)(end - begin);
    }
    memcpy(out, sum, sizeof *out);
}

static void average_regions(sgm_lab_measures *m) {
    int64_t L = m->layers, third = L >= 3 ? L / 3 : 1;
    average(m->layer, 0, L, &m->region[SGM_LAB_ALL]);
    average(m->layer, 0, third, &m->region[SGM_LAB_LOW]);
    average(m->layer, L - third, L, &m->region[SGM_LAB_HIGH]);
}

static sgm_status read_load(reader *r) {
    int64_t L = r->m->layers, E = r->m->experts;
    size_t cells = (size_t)(L * E);
    r->count = sgm_alloc(cells * sizeof *r->count);
    r->probability = sgm_alloc(cells * sizeof *r->probability);
    r->tokens = sgm_alloc((size_t)L * sizeof *r->tokens);
    r->batches = sgm_alloc((size_t)L * sizeof *r->batches);
    r->computed = sgm_alloc((size_t)L * sizeof *r->computed);
    r->row_count = sgm_alloc((size_t)E * sizeof *r->row_count);
    r->row_probability = sgm_alloc((size_t)E * sizeof *r->row_probability);
    r->m->layer = sgm_alloc((size_t)L * sizeof *r->m->layer);
    r->m->share = sgm_alloc(cells * sizeof *r->m->share);
    if (!r->count || !r->probability || !r->tokens || !r->batches || !r->computed || !r->row_count ||
        !r->row_probability || !r->m->layer || !r->m->share)
        return sgm_lab_no_memory(r);
    sgm_status status =
        sgm_lab_each(r,
                     r->version >= SGM_RUN_LOG_HAS_COMPUTED
                         ? "SELECT layer, tokens, counts, probabilities, computed, token_entropy_over_log_e"
                           " FROM load WHERE step >= ?1 ORDER BY step, layer"
                         : "SELECT layer, tokens, counts, probabilities, NULL, NULL"
                           " FROM load WHERE step >= ?1 ORDER BY step, layer",
                     add_load);
    if (status)
        return status;
    for (int64_t layer = 0; layer < L; layer++) {
        if ((int64_t)r->batches[layer] != r->rows)
            return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                            "%s: it has the load of %.0f steps of layer %" PRId64
                            " in the last tenth, the run has that of %" PRId64,
                            r->path, r->batches[layer], layer, r->rows);
        finish_layer(r, layer);
    }
    return SGM_OK;
}

/* ---- curves --------------------------------------------------------------------------------------------------- */

static sgm_status add_point(reader *r, sqlite3_stmt *row) {
    size_t old = r->m->points * sizeof *r->m->point;
    sgm_lab_point *grown = sgm_resize(r->m->point, old, old + sizeof *grown);
    if (!grown)
        return sgm_lab_no_memory(r);
    r->m->point = grown;
    r->m->point[r->m->points++] = (sgm_lab_point){
        .step = column(row, 0), .tokens = column(row, 0) * r->tokens_per_step, .bits_per_byte = column(row, 1)};
    return SGM_OK;
}

/* step, seconds: until a point's step is reached. */
static sgm_status add_seconds(reader *r, sqlite3_stmt *row) {
    double step = column(row, 0), seconds = column(row, 1);
    r->m->seconds += seconds;
    r->m->skipped_steps += column(row, 2);
    r->skipped = column(row, 2) > 0 ? r->skipped + 1 : 0;
    if (r->skipped >= r->most_skipped)
        return sgm_fail(r->error, SGM_EARGUMENT, sgm_lab_remove_run,
                        "%s: at step %.0f the run had failed, %" PRId64
                        " steps in a row were not finite; it was gone on with by itself and is no arm's",
                        r->path, step, r->skipped);
    for (size_t i = 0; i < r->m->points; i++)
        if (step <= r->m->point[i].step)
            r->m->point[i].seconds += seconds;
    return SGM_OK;
}

typedef struct spent {
    double step, computed, layers;   /* of the step that is being read: Σ over its layers of computations per token */
    double before;                   /* the step of the rows before */
    double computations, parameters; /* Σ over steps until now */
} spent;

/* A row of load stands for the steps since the one before it: with k experts at work on average, these tokens used
 * so many parameters each. The null experts, the last ones, compute nothing. */
static void spend(reader *r, spent *s) {
    if (s->layers > 0) {
        double k = s->computed / s->layers, steps = s->step - s->before;
        double chosen = k * (double)r->stored / (double)r->m->experts; /* sgm_model_count takes the null share off k */
        sgm_model_counts counts;
        sgm_model_count(&r->model, chosen, r->model.context, &counts);
        double used = (double)counts.active_parameters * r->tokens_per_step;
        for (size_t i = 0; i < r->m->points; i++) {
            double part = r->m->point[i].step - s->before;
            if (part > 0)
                r->m->point[i].active_parameter_tokens += used * fmin(part, steps);
        }
        s->computations += k * steps;
        s->parameters += used * steps;
        s->before = s->step;
    }
    s->computed = s->layers = 0;
}

/* Assignments that were computed in a row of load, where it says so. Those of before are told from null ones alone: where
 * assignments were dropped, they are counted. */
static double computed_of(const reader *r, sqlite3_stmt *row) {
    int64_t experts = sqlite3_column_bytes(row, 2) == 4 * r->stored ? r->m->experts : 0;
    const unsigned char *counts = sqlite3_column_blob(row, 2);
    double sum = 0;
    if (sqlite3_column_type(row, 4) != SQLITE_NULL)
        return column(row, 4);
    for (int64_t e = 0; e < experts; e++)
        sum += (double)sgm_run_log_u32(counts + 4 * e);
    return sum;
}

static sgm_status read_spent(reader *r) {
    spent s = {0};
    sqlite3_stmt *row = NULL;
    int code;
    const char *sql = r->version >= SGM_RUN_LOG_HAS_COMPUTED
                          ? "SELECT step, tokens, counts, layer, computed FROM load ORDER BY step, layer"
                          : "SELECT step, tokens, counts, layer, NULL FROM load ORDER BY step, layer";
    if (sqlite3_prepare_v2(r->db, sql, -1, &row, NULL) != SQLITE_OK)
        return broken(r);
    while ((code = sqlite3_step(row)) == SQLITE_ROW) {
        double step = column(row, 0), tokens = column(row, 1);
        if (sgm_routed_is_attention(r->model.attention_experts, sqlite3_column_int64(row, 3)))
            continue; /* sgm_model_count knows what it takes of them */
        if (step > s.step)
            spend(r, &s);
        s.step = step;
        s.computed += tokens > 0 ? computed_of(r, row) / tokens : 0;
        s.layers += 1;
    }
    s.step = (double)r->steps; /* the last row stands for what follows it, too */
    spend(r, &s);
    sqlite3_finalize(row);
    r->m->expert_computations_per_token = s.computations / (double)r->steps;
    r->m->active_parameter_tokens = s.parameters;
    return code == SQLITE_DONE ? SGM_OK : broken(r);
}

double sgm_lab_curve_at(const sgm_lab_measures *m, size_t offset, double budget) {
    double x0 = 0, y0 = (double)NAN;
    for (size_t i = 0; i < m->points; i++) {
        double x, y = m->point[i].bits_per_byte;
        memcpy(&x, (const char *)&m->point[i] + offset, sizeof x);
        if (x >= budget)
            return x > budget ? y0 + (y - y0) * (budget - x0) / (x - x0) : y;
        x0 = x;
        y0 = y;
    }
    return y0;
}

/* ---- loss ----------------------------------------------------------------------------------------------------- */

static sgm_status take_loss(reader *r, sqlite3_stmt *row) {
    r->m->training_loss = column(row, 0);
    return SGM_OK;
}

static sgm_status add_domain(reader *r, sqlite3_stmt *row) {
    const char *name = (const char *)sqlite3_column_text(row, 0);
    if (!name || !*name) {
        r->m->bits_per_byte = column(row, 1);
        return SGM_OK;
    }
    size_t old = r->m->domains * sizeof *r->m->domain;
    sgm_lab_domain *grown = sgm_resize(r->m->domain, old, old + sizeof *grown);
    if (!grown)
        return sgm_lab_no_memory(r);
    r->m->domain = grown;
    grown[r->m->domains].bits_per_byte = column(row, 1);
    if (!(grown[r->m->domains].name = sgm_strdup(name)))
        return sgm_lab_no_memory(r);
    r->m->domains++;
    return SGM_OK;
}

static sgm_status take_version(reader *r, sqlite3_stmt *row) {
    r->version = sqlite3_column_int64(row, 0);
    return SGM_OK;
}

static sgm_status read_all(reader *r) {
    r->m->bits_per_byte = (double)NAN;
    sgm_status status = sgm_lab_each(r, "PRAGMA user_version", take_version);
    if (!status)
        status = sgm_lab_measure_whole(r);
    if (!status)
        status = sgm_lab_measure_corpus(r);
    if (!status)
        status = sgm_lab_each(r, "SELECT avg(loss) FROM steps WHERE step >= ?1 AND NOT skipped", take_loss);
    if (!status)
        status = sgm_lab_each(r, "SELECT domain, bits_per_byte FROM evals WHERE step = (SELECT max(step) FROM evals)",
                              add_domain);
    if (!status)
        status = sgm_lab_each(r, "SELECT step, bits_per_byte FROM evals WHERE domain = '' ORDER BY step", add_point);
    if (!status)
        status = sgm_lab_each(r, "SELECT step, seconds, skipped FROM steps ORDER BY step", add_seconds);
    if (!status)
        status = read_load(r);
    if (!status)
        status = sgm_lab_measure_domains(r);
    if (!status)
        average_regions(r->m);
    if (!status)
        status = read_spent(r);
    r->m->tokens = (double)r->steps * r->tokens_per_step;
    r->m->tokens_per_second = r->m->tokens / r->m->seconds;
    r->m->bits_per_byte_at_equal_active = r->m->bits_per_byte_at_equal_seconds = (double)NAN;
    return status;
}

sgm_status sgm_lab_measure(const char *run, int64_t groups, sgm_lab_measures *measures, sgm_error *error) {
    *measures = (sgm_lab_measures){0};
    char *path = sgm_path_join(run, "run.sqlite");
    reader r = {.path = path ? path : run, .error = error, .m = measures, .groups = groups};
    sgm_status status = path ? read_config(&r, run) : sgm_lab_no_memory(&r);
    if (!status && !sgm_path_exists(path))
        status = sgm_fail(error, SGM_EFORMAT, sgm_lab_remove_run, "%s: it is gone", path);
    if (!status)
        status = sgm_run_log_read(path, sgm_lab_remove_run, &r.db, error);
    if (!status)
        status = read_all(&r);
    if (!status)
        status = sgm_lab_measure_agrees(&r, run);
    sqlite3_close(r.db);
    sgm_free(r.count);
    sgm_free(r.probability);
    sgm_free(r.tokens);
    sgm_free(r.batches);
    sgm_free(r.computed);
    sgm_free(r.row_count);
    sgm_free(r.row_probability);
    sgm_free(r.domain_count);
    sgm_free(r.domain_tokens);
    sgm_free(path);
    if (status)
        sgm_lab_measures_free(measures);
    return status;
}

bool sgm_lab_gave_up(const char *run, int64_t most) {
    static const char sql[] = "SELECT total(skipped) FROM (SELECT skipped FROM steps ORDER BY step DESC LIMIT ?1)";
    char *path = sgm_path_join(run, "run.sqlite");
    sqlite3 *db = NULL;
    sqlite3_stmt *row = NULL;
    bool gave_up = false;
    if (path && sgm_path_exists(path) && !sgm_run_log_read(path, sgm_lab_remove_run, &db, NULL) &&
        sqlite3_prepare_v2(db, sql, -1, &row, NULL) == SQLITE_OK) {
        sqlite3_bind_int64(row, 1, most);
        gave_up = sqlite3_step(row) == SQLITE_ROW && sqlite3_column_double(row, 0) >= (double)most;
    }
    sqlite3_finalize(row);
    sqlite3_close(db);
    sgm_free(path);
    return gave_up;
}

void sgm_lab_measures_free(sgm_lab_measures *measures) {
    sgm_free(measures->layer);
    sgm_free(measures->share);
    sgm_free(measures->domain_share);
    sgm_free(measures->serving);
    sgm_free(measures->point);
    for (size_t i = 0; i < measures->domains; i++)
        sgm_free(measures->domain[i].name);
    sgm_free(measures->domain);
    *measures = (sgm_lab_measures){0};
}
