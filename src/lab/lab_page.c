// SPDX-License-Identifier: Apache-2.0
/* report.html of a lab: one page that fetches nothing, made of the pieces of a run's report. Lines are means over seeds,
 * areas reach from the least to the greatest seed. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text_print.h"
#include "lab/results.h"
#include "sigmoe/machine.h"
#include "train/report.h"

enum { LONGEST_LABEL = 14, MOST_LABELS = 16 };

/* ---- curves over seeds ---------------------------------------------------------------------------------------- */

/* Per arm `points` places with the mean of x, and of y the mean, least and greatest over seeds. */
typedef struct curves {
    size_t arms;
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

static bool labels_fit(const sgm_lab_results *results) {
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

/* `late`: the second half of the places alone. */
static bool make_curves(const sgm_lab_results *results, bool layers, bool late, size_t offset, curves *c) {
    size_t all = 0;
    for (size_t a = 0; a < results->arms; a++)
        all += places(&results->arm[a], layers);
    *c = (curves){.arms = results->arms, .x_min = (double)INFINITY, .x_max = -(double)INFINITY};
    c->block = sgm_alloc((4 * all + 1) * sizeof(double));
    c->series = sgm_alloc(results->arms * sizeof *c->series);
    c->bands = sgm_alloc(results->arms * sizeof *c->bands);
    if (!c->block || !c->series || !c->bands)
        return false;
    place get_x = layers ? layer_x : point_x, get_y = layers ? layer_y : point_y;
    bool labels = labels_fit(results);
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
        c->series[a] =
            (sgm_svg_series){x, mean, count, labels ? arm->arm.name : NULL, (int)a, -1, false, !layers && count <= 40};
        c->bands[a] = (sgm_svg_band){x, low, high, arm->runs > 1 ? count : 0, (int)a};
    }
    return true;
}

static void put_curves(sgm_page *page, const sgm_lab_results *results, bool layers, bool late, size_t offset,
                       const char *title, const char *note, const char *x_name, bool log_y, double y_high) {
    curves c;
    if (make_curves(results, layers, late, offset, &c))
        sgm_svg_chart_write(page, &(sgm_svg_chart){.title = title,
                                                   .note = note,
                                                   .x_name = x_name,
                                                   .series = c.series,
                                                   .count = c.arms,
                                                   .bands = c.bands,
                                                   .band_count = c.arms,
                                                   .x_min = c.x_min,
                                                   .x_max = c.x_max,
                                                   .y_low = (double)NAN,
                                                   .y_high = y_high,
                                                   .log_y = log_y});
    else
        page->status = SGM_EMEMORY;
    free_curves(&c);
}

/* ---- sections ------------------------------------------------------------------------------------------------- */

static void put_head(sgm_page *page, const sgm_lab_results *results, const sgm_experiment_info *info) {
    sgm_page_begin(page, info->name);
    PUT(page, ".swatch{display:inline-block;width:26px;height:10px}.tables td,.tables th{white-space:nowrap}"
              ".tables th{white-space:normal;vertical-align:bottom}.tables td.t,.tables "
              "th.t{white-space:normal;min-width:14em}\n"
              "</style></head><body><main>\n<header><h1>");
    sgm_page_string(page, info->name);
    PUT(page,
        "</h1><p>a comparison by sigmoe %s: %zu arm%s, %" PRId64 " seed%s, %" PRId64 " step%s of %" PRId64
        " token%s%s</p></header>\n<p>",
        sgm_version(), results->arms, sgm_lab_plural((int64_t)results->arms), results->plan->seeds,
        sgm_lab_plural(results->plan->seeds), results->plan->steps, sgm_lab_plural(results->plan->steps),
        info->tokens_per_step, sgm_lab_plural(info->tokens_per_step), results->missings ? "; <b>not complete</b>" : "");
    sgm_page_string(page, info->claim);
    if (*info->paper) {
        PUT(page, " (");
        sgm_page_string(page, info->paper);
        PUT(page, ")");
    }
    PUT(page, "</p>\n");
    for (size_t i = 0; i < results->missings; i++) {
        PUT(page, i ? ", " : "<p>Missing are the runs ");
        sgm_page_string(page, results->missing[i].arm);
        PUT(page, ", seed %" PRId64 " (%s)%s", results->missing[i].seed, results->missing[i].state,
            i + 1 == results->missings ? "</p>\n" : "");
    }
}

/* A piece of line as the charts draw it. */
static void put_swatch(sgm_page *page, size_t arm) {
    PUT(page,
        "<svg class=\"swatch\" viewBox=\"0 0 26 10\"><path class=\"line%s\" style=\"stroke:var(--c%zu)\" d=\"M1 "
        "5H25\"/></svg>",
        arm < 8    ? ""
        : arm < 16 ? " dash"
                   : " dot",
        arm % 8);
}

static void put_arms(sgm_page *page, const sgm_lab_results *results, const char *baseline) {
    PUT(page, "<div class=\"card narrow tables\"><table><tr><th></th><th>arm</th><th class=\"t\">what it is</th>"
              "<th>balancing (scope)</th><th>router</th><th>sparsity</th><th>seeds</th></tr>\n");
    for (size_t a = 0; a < results->arms; a++) {
        const sgm_lab_arm_results *arm = &results->arm[a];
        PUT(page, "<tr><td>");
        put_swatch(page, a);
        PUT(page, "</td><td>");
        sgm_page_string(page, arm->arm.name);
        PUT(page, "%s</td><td class=\"t o\">", strcmp(arm->arm.name, baseline) == 0 ? " (baseline)" : "");
        sgm_page_string(page, arm->arm.description);
        PUT(page, "</td><td>");
        sgm_page_string(page, arm->arm.balance);
        PUT(page, "</td><td>%s</td><td>%s</td><td>%zu</td></tr>\n", arm->router, arm->sparsity, arm->runs);
    }
    PUT(page, "</table></div>\n");
}

static void put_value(sgm_page *page, const sgm_lab_metric *metric, double value, const char *sign) {
    if (!isfinite(value))
        PUT(page, "–");
    else if (fabs(value) >= 1e7)
        PUT(page, "%s%.3g G", value > 0 ? sign : "", value / 1e9);
    else
        PUT(page, "%s%.*f", value >= 0 ? sign : "", metric->digits, value);
}

static void put_cell(sgm_page *page, const sgm_lab_results *results, size_t arm, const sgm_lab_metric *metric,
                     bool difference) {
    PUT(page, "<td class=\"num\">");
    if (!difference) {
        sgm_spread spread = sgm_lab_spread(&results->arm[arm], metric);
        put_value(page, metric, spread.mean, "");
        if (isfinite(spread.deviation)) {
            PUT(page, " ± ");
            put_value(page, metric, spread.deviation, "");
        }
    } else {
        sgm_paired paired = sgm_lab_difference(results, arm, metric);
        bool clear = paired.p < 0.05;
        PUT(page, "%s", clear ? "<b>" : "");
        put_value(page, metric, paired.mean, "+");
        PUT(page, "%s", clear ? "</b>" : "");
        if (isfinite(paired.low)) {
            PUT(page, "<br>[");
            put_value(page, metric, paired.low, "+");
            PUT(page, ", ");
            put_value(page, metric, paired.high, "+");
            PUT(page, "]<br>p = %.2g", paired.p);
        }
    }
    PUT(page, "</td>");
}

static void put_table(sgm_page *page, const sgm_lab_results *results, const sgm_lab_metric *const *metric, size_t count,
                      bool difference) {
    PUT(page, "<div class=\"card narrow tables\"><table><tr><th>arm</th><th>balancing (scope)</th>");
    for (size_t i = 0; i < count; i++)
        PUT(page, "<th class=\"num\">%s</th>", metric[i]->title);
    PUT(page, "</tr>\n");
    for (size_t a = 0; a < results->arms; a++) {
        if (difference && a == results->baseline)
            continue;
        PUT(page, "<tr><td>");
        sgm_page_string(page, results->arm[a].arm.name);
        PUT(page, "</td><td class=\"o\">");
        sgm_page_string(page, results->arm[a].arm.balance);
        PUT(page, "</td>");
        for (size_t i = 0; i < count; i++)
            put_cell(page, results, a, metric[i], difference);
        PUT(page, "</tr>\n");
    }
    PUT(page, "</table></div>\n");
}

static void put_quality(sgm_page *page, const sgm_lab_results *results) {
    PUT(page,
        "<h2>How well they predict</h2><p>Held-out bits per byte; lower is better. The same evaluations over three "
        "budgets: an arm that computes more for a token is further to the right in the second.</p>\n"
        "<div class=\"pair\">\n");
    put_curves(page, results, false, false, offsetof(sgm_lab_point, step), "At equal tokens", "bits per byte", "step",
               false, (double)NAN);
    put_curves(page, results, false, false, offsetof(sgm_lab_point, active_parameter_tokens),
               "At equal active parameter-tokens", "bits per byte; parameters at work, times tokens", "spent", false,
               (double)NAN);
    put_curves(page, results, false, false, offsetof(sgm_lab_point, seconds), "At equal time",
               "bits per byte; seconds in training steps", "seconds", false, (double)NAN);
    put_curves(page, results, false, true, offsetof(sgm_lab_point, step), "At equal tokens, the second half",
               "bits per byte", "step", false, (double)NAN);
    PUT(page, "</div>\n");
}

static void put_balance(sgm_page *page, const sgm_lab_results *results) {
    PUT(page,
        "<h2>How the experts share the work, layer by layer</h2><p>Of the last tenth of the steps. f is the share of "
        "assignments, p the mean probability of the router: a balancing loss can be content with an even p while f is "
        "not.</p>\n<div class=\"pair\">\n");
    put_curves(page, results, true, false, offsetof(sgm_lab_balance, entropy_over_log_e), "Entropy of the load f",
               "over log E", "layer", false, 1);
    put_curves(page, results, true, false, offsetof(sgm_lab_balance, probability_entropy_over_log_e),
               "Entropy of the mean probability p", "over log E", "layer", false, 1);
    put_curves(page, results, true, false, offsetof(sgm_lab_balance, max_violation_global), "MaxVio, global",
               "greatest load over the mean, minus 1; log scale", "layer", true, (double)NAN);
    put_curves(page, results, true, false, offsetof(sgm_lab_balance, correlation), "Correlation of f and p",
               "over experts", "layer", false, 1);
    PUT(page, "</div>\n");
}

/* The beginning of a card about an arm's first seed. */
static void put_card(sgm_page *page, const sgm_lab_arm_results *arm) {
    PUT(page, "<div class=\"card\"><figcaption><b>");
    sgm_page_string(page, arm->arm.name);
    PUT(page, "</b><span>");
    sgm_page_string(page, arm->arm.balance);
    PUT(page, ", seed %" PRId64 "</span></figcaption>\n", arm->run[0].seed);
}

static void put_maps(sgm_page *page, const sgm_lab_results *results) {
    PUT(page,
        "<h2>Load of every expert</h2><p>One row a layer, one column an expert, summed over the last tenth of the "
        "steps; the first seed of each arm.</p>\n");
    for (size_t a = 0; a < results->arms; a++) {
        const sgm_lab_measures *m = &results->arm[a].run[0];
        const sgm_report_snapshot snapshot = {results->plan->steps, m->share};
        put_card(page, &results->arm[a]);
        sgm_svg_load_map(page, &snapshot, m->layers, m->experts, false);
        PUT(page, "</div>\n");
    }
    sgm_svg_load_key(page);
}

/* A layer's load by domain. */
static void put_domain_map(sgm_page *page, const sgm_lab_measures *m, int64_t layer, double *share,
                           const char **names) {
    for (size_t d = 0; d < m->domains; d++) {
        names[d] = m->domain[d].name;
        memcpy(share + (int64_t)d * m->experts, m->domain_share + ((int64_t)d * m->layers + layer) * m->experts,
               (size_t)m->experts * sizeof *share);
    }
    const sgm_svg_map map = {.share = share,
                             .rows = (int64_t)m->domains,
                             .columns = m->experts,
                             .names = names,
                             .width = 1120,
                             .row_most = 20};
    PUT(page, "<p>layer %" PRId64 ": divergence %.3f nats, floor %.3f</p>\n", layer, m->layer[layer].domain_divergence,
        m->layer[layer].domain_divergence_noise);
    sgm_svg_map_write(page, &map, "load of the experts by domain");
}

static void put_domains(sgm_page *page, const sgm_lab_results *results) {
    bool known = false;
    for (size_t a = 0; a < results->arms; a++)
        known = known || isfinite(results->arm[a].run[0].region[SGM_LAB_ALL].domain_divergence);
    if (!known)
        return;
    PUT(page, "<h2>What each domain uses</h2><p>Of the last evaluation. The divergence (Jensen–Shannon, domains weighing "
              "the same) is 0 where all domains use the experts alike and ln of their number where each has its own; "
              "alike ones show the floor by chance.</p>\n<div class=\"pair\">\n");
    put_curves(page, results, true, false, offsetof(sgm_lab_balance, domain_divergence), "Divergence of the domains",
               "nats", "layer", false, (double)NAN);
    put_curves(page, results, true, false, offsetof(sgm_lab_balance, domain_divergence_noise), "Its floor",
               "nats, of domains that are alike", "layer", false, (double)NAN);
    PUT(page, "</div>\n<p>Load of every expert by domain in the first layer and in the last; the first seed of each "
              "arm.</p>\n");
    for (size_t a = 0; a < results->arms; a++) {
        const sgm_lab_measures *m = &results->arm[a].run[0];
        double *share = sgm_alloc((m->domains * (size_t)m->experts + 1) * sizeof *share);
        const char **names = sgm_alloc((m->domains + 1) * sizeof *names);
        if (!share || !names) {
            page->status = SGM_EMEMORY;
        } else if (m->domain_share) {
            put_card(page, &results->arm[a]);
            put_domain_map(page, m, 0, share, names);
            if (m->layers > 1)
                put_domain_map(page, m, m->layers - 1, share, names);
            PUT(page, "</div>\n");
        }
        sgm_free(share);
        sgm_free(names);
    }
    sgm_svg_load_key(page);
}

static void put_tables(sgm_page *page, const sgm_lab_results *results, const char *baseline) {
    PUT(page, "<h2>In numbers</h2><p>Mean ± standard deviation over seeds.</p>\n");
    put_table(page, results, results->compare, results->compared, false);
    if (results->baseline < results->arms && results->arms > 1) {
        PUT(page, "<h2>Difference to ");
        sgm_page_string(page, baseline);
        PUT(page, "</h2><p>Mean over paired seeds, its 95 %% interval, and p of the paired t-test; bold below 0.05. "
                  "With many "
                  "arms and measures some are bold by chance.</p>\n");
        put_table(page, results, results->compare, results->compared, true);
    }
    const sgm_lab_metric *metric, *few[64];
    static const char *const names[] = {"All layers", "Low layers", "High layers"};
    static const char *const notes[] = {"mean over layers", "the first third", "the last third"};
    for (int region = 0; region < SGM_LAB_REGIONS; region++) {
        size_t count = 0, begin = offsetof(sgm_lab_measures, region) + (size_t)region * sizeof(sgm_lab_balance);
        for (size_t i = 0; (metric = sgm_lab_metric_at(i)) && count < 64; i++)
            if (metric->offset >= begin && metric->offset < begin + sizeof(sgm_lab_balance) &&
                sgm_lab_known(results, metric))
                few[count++] = metric;
        PUT(page,
            "<h2>%s</h2><p>Balance, %s. A floor is what an even router would show by chance at as many tokens.</p>\n",
            names[region], notes[region]);
        put_table(page, results, few, count, false);
    }
    size_t count = 0;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)) && count < 64; i++)
        if (metric->offset >= offsetof(sgm_lab_measures, training_loss) &&
            metric->offset < offsetof(sgm_lab_measures, region) &&
            metric->offset != offsetof(sgm_lab_measures, bits_per_byte_at_equal_active) &&
            metric->offset != offsetof(sgm_lab_measures, bits_per_byte_at_equal_seconds))
            few[count++] = metric;
    PUT(page, "<h2>Cost</h2><p>Null experts compute nothing and are not counted.</p>\n");
    put_table(page, results, few, count, false);
}

sgm_status sgm_lab_write_page(const sgm_lab_results *results, const char *path, sgm_error *error) {
    sgm_page page = {0};
    sgm_experiment_info info;
    sgm_experiment_describe(results->experiment, &info);
    put_head(&page, results, &info);
    put_arms(&page, results, info.baseline);
    put_quality(&page, results);
    put_balance(&page, results);
    put_maps(&page, results);
    put_domains(&page, results);
    put_tables(&page, results, info.baseline);
    PUT(&page, "<h2>Again</h2><p>The same numbers, times aside:</p>\n<div class=\"card\"><code>");
    sgm_page_string(&page, results->command);
    PUT(&page,
        "</code></div>\n<footer>Written by sigmoe %s from the runs of this lab. This page fetches "
        "nothing.</footer>\n</main></body></html>\n",
        sgm_version());
    sgm_status status = page.status ? sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the page", path)
                                    : sgm_file_write(path, page.buffer.data, page.buffer.size, error);
    sgm_buffer_free(&page.buffer);
    return status;
}
