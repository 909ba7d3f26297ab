// SPDX-License-Identifier: Apache-2.0
/* report.html of a lab: one page that fetches nothing, made of the pieces of a run's report. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text_print.h"
#include "lab/lab_curves.h"
#include "sigmoe/machine.h"
#include "train/report.h"

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
    if (*info->tuning) {
        PUT(page, "</p>\n<p>Tuning: ");
        sgm_page_string(page, info->tuning);
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
        sgm_lab_dashes(arm), arm % 8);
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

/* Which line is whose, before every group of charts. */
static void put_legend(sgm_page *page, const sgm_lab_results *results) {
    PUT(page, "<p>");
    for (size_t a = 0; a < results->arms; a++) {
        PUT(page, "<span style=\"white-space:nowrap\">");
        put_swatch(page, a);
        PUT(page, " ");
        sgm_page_string(page, results->arm[a].arm.name);
        PUT(page, " &nbsp;</span> ");
    }
    PUT(page, "</p>\n");
}

static void put_charts(sgm_page *page, const sgm_lab_results *results, const sgm_lab_chart *charts, size_t count) {
    put_legend(page, results);
    PUT(page, "<div class=\"pair\">\n");
    for (size_t i = 0; i < count; i++) {
        sgm_lab_chart chart = charts[i];
        chart.wide = !sgm_lab_labels_fit(results);
        sgm_lab_chart_write(page, results, &chart);
    }
    PUT(page, "</div>\n");
}

static void put_quality(sgm_page *page, const sgm_lab_results *results) {
    static const sgm_lab_chart charts[] = {
        {.title = "At equal tokens", .note = "bits per byte", .offset = offsetof(sgm_lab_point, step)},
        {.title = "At equal active parameter-tokens",
         .note = "bits per byte; parameters at work, times tokens",
         .x_name = "spent",
         .offset = offsetof(sgm_lab_point, active_parameter_tokens)},
        {.title = "At equal time",
         .note = "bits per byte; seconds in training steps",
         .x_name = "seconds",
         .offset = offsetof(sgm_lab_point, seconds)},
        {.title = "At equal tokens, the second half",
         .note = "bits per byte",
         .offset = offsetof(sgm_lab_point, step),
         .late = true}};
    PUT(page,
        "<h2>How well they predict</h2><p>Held-out bits per byte; lower is better. The same evaluations over three "
        "budgets: an arm that computes more for a token is further to the right in the second.</p>\n");
    put_charts(page, results, charts, sizeof charts / sizeof *charts);
}

static void put_balance(sgm_page *page, const sgm_lab_results *results) {
    bool known = sgm_lab_balance_known(results, sgm_lab_balance_charts[SGM_LAB_TOKEN_ENTROPY].offset);
    PUT(page,
        "<h2>How the experts share the work, layer by layer</h2><p>Of the last tenth of the steps. f is the share of "
        "assignments, p the mean probability of the router: a balancing loss can be content with an even p while f is "
        "not. p is even where tokens differ in their experts, and where the router does not choose: then each token's "
        "own probabilities are even too.</p>\n");
    put_charts(page, results, sgm_lab_balance_charts, SGM_LAB_BALANCE_CHARTS - !known);
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
    sgm_svg_load_key(page);
    for (size_t a = 0; a < results->arms; a++) {
        const sgm_lab_measures *m = &results->arm[a].run[0];
        const sgm_report_snapshot snapshot = {results->plan->steps, m->share};
        put_card(page, &results->arm[a]);
        sgm_svg_load_map(page, &snapshot, m->layers, m->experts, false);
        PUT(page, "</div>\n");
    }
}

/* Of one layer. */
static void put_domain_map(sgm_page *page, const sgm_lab_measures *m, int64_t layer, double *share,
                           const char **names) {
    const sgm_svg_map map = sgm_lab_domain_map(m, layer, 1120, share, names);
    char note[128];
    sgm_lab_domain_note(m, layer, note, sizeof note);
    PUT(page, "<p>%s</p>\n", note);
    sgm_svg_map_write(page, &map, "load of the experts by domain");
}

static void put_domains(sgm_page *page, const sgm_lab_results *results) {
    static const sgm_lab_chart chart = {.title = "Divergence of the domains",
                                        .note = "nats; dotted: domains that are alike, by chance",
                                        .layers = true,
                                        .offset = offsetof(sgm_lab_balance, domain_divergence),
                                        .floor = offsetof(sgm_lab_balance, domain_divergence_noise)};
    if (!sgm_lab_balance_known(results, chart.offset))
        return;
    PUT(page,
        "<h2>What each domain uses</h2><p>Of the last evaluation. The divergence (Jensen–Shannon, domains weighing "
        "the same) is 0 where all domains use the experts alike and ln of their number where each has its own; "
        "alike ones show the floor by chance.</p>\n");
    PUT(page, "<div style=\"max-width:620px\">\n"); /* alone it would be as wide as the page */
    put_charts(page, results, &chart, 1);
    PUT(page, "</div>\n");
    PUT(page,
        "<p>Load of every expert by domain in the first layer and in the last; the first seed of each arm.</p>\n");
    sgm_svg_load_key(page);
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
}

static void put_serving(sgm_page *page, const sgm_lab_results *results) {
    if (results->known_servings == 0)
        return;
    PUT(page, "<h2>For whoever serves them</h2><p>Caches of experts: share of hits, the routes of held-out text "
              "replayed. Experts placed on GPUs: mean over greatest load, 1 is even, by the load that was planned for "
              "(of the last tenth of the steps) and by that of held-out text.</p>\n");
    if (results->without_routes)
        PUT(page, "<p>These runs left no routes, so nothing of them is in these numbers: %s.</p>\n",
            results->without_routes);
    put_table(page, results, results->known_serving, results->known_servings, false);
}

static void put_tables(sgm_page *page, const sgm_lab_results *results, const char *baseline) {
    char floors[160];
    sgm_lab_floors(results, floors, sizeof floors);
    PUT(page, "<h2>In numbers</h2><p>%s %s</p>\n",
        sgm_lab_seeds_there(results) > 1 ? "Mean ± standard deviation over seeds."
                                         : "Of one seed: the spread is not known.",
        floors);
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
    put_serving(&page, results);
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
