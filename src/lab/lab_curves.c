// SPDX-License-Identifier: Apache-2.0
/* A lab's curves over steps or layers: lines are means over seeds, areas reach from the least to the greatest seed. */
#include "lab/lab_curves.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/text_print.h"

enum { LONGEST_LABEL = 14, MOST_LABELS = 16 };

/* ---- curves over seeds ---------------------------------------------------------------------------------------- */

/* Per arm `points` places with the mean of x, and of y the mean, least and greatest over seeds. */
typedef struct curves {
    size_t count, arms; /* of series; of them those that are arms */
    double *block;
    sgm_svg_series *series;
    sgm_svg_band *bands;
    double x_min, x_max;
} curves;

typedef double (*place)(const sgm_lab_measures *m, size_t index, size_t offset);

static double point_x(const sgm_lab_measures *m, size_t index, size_t offset) {
    double value;
    memcpy(&value, (const char *)&m->point[index] + offset, sizeof value);
    return value;
}

static double point_y(const sgm_lab_measures *m, size_t index, size_t offset) {
    (void)offset;
    return m->point[index].bits_per_byte;
}

static double layer_x(const sgm_lab_measures *m, size_t index, size_t offset) {
    (void)m, (void)offset;
    return (double)index;
}

static double layer_y(const sgm_lab_measures *m, size_t index, size_t offset) {
    double value;
    memcpy(&value, (const char *)&m->layer[index] + offset, sizeof value);
    return value;
}

static size_t places(const sgm_lab_arm_results *arm, bool layers) {
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < arm->runs; i++) {
        size_t count = layers ? (size_t)arm->run[i].layers : arm->run[i].points;
        least = count < least ? count : least;
    }
    return least;
}

bool sgm_lab_labels_fit(const sgm_lab_results *results) {
    bool fit = results->arms <= MOST_LABELS;
    for (size_t a = 0; a < results->arms; a++)
        fit = fit && strlen(results->arm[a].arm.name) <= LONGEST_LABEL;
    return fit;
}

static void free_curves(curves *c) {
    sgm_free(c->block);
    sgm_free(c->series);
    sgm_free(c->bands);
}

/* The mean over all runs of what chance alone would show. */
static void make_floor(const sgm_lab_results *results, size_t offset, double *x, double *mean, size_t count) {
    for (size_t p = 0; p < count; p++) {
        double sum = 0, known = 0; /* runs of older versions do not have every measure */
        for (size_t a = 0; a < results->arms; a++)
            for (size_t i = 0; i < results->arm[a].runs && p < places(&results->arm[a], true); i++) {
                double y = layer_y(&results->arm[a].run[i], p, offset);
                sum += isfinite(y) ? y : 0;
                known += isfinite(y);
            }
        x[p] = (double)p;
        mean[p] = known > 0 ? sum / known : (double)NAN;
    }
}

static bool make_curves(const sgm_lab_results *results, const sgm_lab_chart *chart, curves *c) {
    const bool layers = chart->layers, late = chart->late;
    const size_t offset = chart->offset;
    size_t all = 0;
    for (size_t a = 0; a < results->arms; a++)
        all += places(&results->arm[a], layers);
    *c = (curves){.count = results->arms, .arms = results->arms, .x_min = (double)INFINITY, .x_max = -(double)INFINITY};
    size_t floor_places = 0; /* of the deepest arm */
    for (size_t a = 0; a < results->arms && chart->floor; a++)
        floor_places = places(&results->arm[a], true) > floor_places ? places(&results->arm[a], true) : floor_places;
    c->block = sgm_alloc((4 * all + 2 * floor_places + 1) * sizeof(double));
    c->series = sgm_alloc((results->arms + 1) * sizeof *c->series);
    c->bands = sgm_alloc(results->arms * sizeof *c->bands);
    if (!c->block || !c->series || !c->bands)
        return false;
    place get_x = layers ? layer_x : point_x, get_y = layers ? layer_y : point_y;
    bool labels = sgm_lab_labels_fit(results) && !chart->wide;
    double *at = c->block;
    for (size_t a = 0; a < results->arms; a++) {
        const sgm_lab_arm_results *arm = &results->arm[a];
        size_t all_places = places(arm, layers), first = late ? all_places / 2 : 0, count = all_places - first;
        double *x = at, *mean = at + count, *low = at + 2 * count, *high = at + 3 * count;
        at += 4 * count;
        for (size_t p = 0; p < count; p++) {
            low[p] = (double)INFINITY;
            high[p] = -(double)INFINITY;
            for (size_t i = 0; i < arm->runs; i++) {
                double y = get_y(&arm->run[i], first + p, offset);
                x[p] += get_x(&arm->run[i], first + p, offset) / (double)arm->runs;
                mean[p] += y / (double)arm->runs;
                low[p] = fmin(low[p], y);
                high[p] = fmax(high[p], y);
            }
            c->x_min = fmin(c->x_min, x[p]);
            c->x_max = fmax(c->x_max, x[p]);
        }
        c->series[a] = (sgm_svg_series){.x = x,
                                        .y = mean,
                                        .count = count,
                                        .label = labels ? arm->arm.name : NULL,
                                        .colour = (int)a,
                                        .depth = -1,
                                        .points = !layers && !chart->wide && count <= 40};
        c->bands[a] = (sgm_svg_band){x, low, high, arm->runs > 1 ? count : 0, (int)a};
    }
    if (chart->floor) {
        make_floor(results, chart->floor, at, at + floor_places, floor_places);
        c->series[c->count++] = (sgm_svg_series){.x = at,
                                                 .y = at + floor_places,
                                                 .count = floor_places,
                                                 .label = labels ? "floor" : NULL,
                                                 .colour = SGM_SVG_FLOOR,
                                                 .depth = -1};
    }
    return true;
}

static void with_chart(sgm_page *page, const sgm_lab_results *results, const sgm_lab_chart *chart,
                       void (*draw)(sgm_page *page, const sgm_svg_chart *chart)) {
    curves c;
    if (make_curves(results, chart, &c))
        draw(page, &(sgm_svg_chart){.title = chart->title,
                                    .note = chart->note,
                                    .x_name = chart->x_name   ? chart->x_name
                                              : chart->layers ? "layer"
                                                              : "step",
                                    .series = c.series,
                                    .count = c.count,
                                    .bands = c.bands,
                                    .band_count = c.arms,
                                    .x_min = c.x_min,
                                    .x_max = c.x_max,
                                    .y_low = (double)NAN,
                                    .y_high = chart->to_one ? 1 : (double)NAN,
                                    .log_y = chart->log_y,
                                    .whole_x = chart->layers,
                                    .wide = chart->wide});
    else
        page->status = SGM_EMEMORY;
    free_curves(&c);
}

void sgm_lab_chart_write(sgm_page *page, const sgm_lab_results *results, const sgm_lab_chart *chart) {
    with_chart(page, results, chart, sgm_svg_chart_write);
}

void sgm_lab_chart_draw(sgm_page *page, const sgm_lab_results *results, const sgm_lab_chart *chart) {
    with_chart(page, results, chart, sgm_svg_chart_draw);
}

const sgm_lab_chart sgm_lab_balance_charts[SGM_LAB_BALANCE_CHARTS] = {
    {.title = "H(f): entropy of the load",
     .note = "over log E; 1 is even",
     .layers = true,
     .offset = offsetof(sgm_lab_balance, entropy_over_log_e),
     .to_one = true},
    {.title = "H(p): entropy of the mean probability",
     .note = "over log E; 1 is even",
     .layers = true,
     .offset = offsetof(sgm_lab_balance, probability_entropy_over_log_e),
     .to_one = true},
    {.title = "MaxVio, global",
     .note = "greatest load over the mean, minus 1; log scale; dotted: an even router, by chance",
     .layers = true,
     .offset = offsetof(sgm_lab_balance, max_violation_global),
     .floor = offsetof(sgm_lab_balance, noise_floor_global),
     .log_y = true},
    [SGM_LAB_CORRELATION] = {.title = "Correlation of f and p",
                             .note = "over experts; 1: the load follows the router's mean probability",
                             .layers = true,
                             .offset = offsetof(sgm_lab_balance, correlation),
                             .to_one = true},
    [SGM_LAB_TOKEN_ENTROPY] = {.title = "H(e|x): entropy of each token's own probabilities",
                               .note = "over log E, mean over tokens; 0 is certain",
                               .layers = true,
                               .offset = offsetof(sgm_lab_balance, token_entropy_over_log_e),
                               .to_one = true}};

bool sgm_lab_balance_known(const sgm_lab_results *results, size_t offset) {
    const sgm_lab_metric *metric;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++)
        if (metric->offset == offsetof(sgm_lab_measures, region) + offset)
            return sgm_lab_known(results, metric);
    return false;
}

sgm_svg_map sgm_lab_domain_map(const sgm_lab_measures *m, int64_t layer, double width, double *share,
                               const char **names) {
    for (size_t d = 0; d < m->domains; d++) {
        names[d] = m->domain[d].name;
        memcpy(share + (int64_t)d * m->experts, m->domain_share + ((int64_t)d * m->layers + layer) * m->experts,
               (size_t)m->experts * sizeof *share);
    }
    return (sgm_svg_map){.share = share,
                         .rows = (int64_t)m->domains,
                         .columns = m->experts,
                         .names = names,
                         .width = width,
                         .row_most = 18};
}

void sgm_lab_domain_note(const sgm_lab_measures *m, int64_t layer, char *note, size_t size) {
    const sgm_lab_balance *b = &m->layer[layer];
    if (isfinite(b->domain_divergence))
        sgm_text_print(note, size, "layer %" PRId64 ": divergence %.3f nats, floor %.3f", layer, b->domain_divergence,
                       b->domain_divergence_noise);
    else
        sgm_text_print(note, size, "layer %" PRId64 ": too few assignments to tell", layer);
}

const char *sgm_lab_dashes(size_t arm) {
    return arm < 8 ? "" : arm < 16 ? " dash" : " dot";
}
