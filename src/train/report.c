// SPDX-License-Identifier: Apache-2.0
/* A run as one self-contained HTML page, from RUN/run.sqlite and RUN/config.yaml. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/text_print.h"
#include "sigmoe/machine.h"
#include "sigmoe/model.h"
#include "sigmoe/train.h"
#include "train/report.h"

enum { MOST_CONFIG_BYTES = 1 << 20 };

/* ---- tiles ---------------------------------------------------------------------------------------------------- */

static void put_tile(sgm_page *page, const char *what, const char *format, double value) {
    char text[48];
    if (!isfinite(value))
        return;
    sgm_text_print(text, sizeof text, format, value);
    PUT(page, "<div><b>%s</b><span>%s</span></div>\n", text, what);
}

static void put_count_tile(sgm_page *page, const char *what, double value) {
    put_tile(page, what,
             value >= 1e9   ? "%.2f G"
             : value >= 1e6 ? "%.2f M"
             : value >= 1e4 ? "%.1f k"
                            : "%.0f",
             value >= 1e9   ? value / 1e9
             : value >= 1e6 ? value / 1e6
             : value >= 1e4 ? value / 1e3
                            : value);
}

/* ---- sections ------------------------------------------------------------------------------------------------- */

static const sgm_report_evals *overall(const sgm_report_data *data) {
    return data->eval_series && data->evals[0].domain[0] == 0 ? &data->evals[0] : NULL;
}

static void write_head(sgm_page *page, const sgm_report_data *data, const char *name) {
    sgm_page_begin(page, name);
    for (size_t i = 0; i < data->snapshots; i++)
        PUT(page,
            "#t%zu:checked~.m%zu{display:block}#t%zu:checked~.times .l%zu{background:var(--ink);color:var(--bg);"
            "border-color:var(--ink)}#t%zu:focus-visible~.times .l%zu{outline:2px solid var(--c0)}\n",
            i, i, i, i, i, i);
    PUT(page, "</style></head><body><main>\n<header><h1>");
    sgm_page_string(page, name);
    PUT(page, "</h1><p>a training run of sigmoe %s</p></header>\n", sgm_version());
}

static void write_tiles(sgm_page *page, const sgm_report_data *data) {
    const sgm_report_evals *all = overall(data);
    PUT(page, "<div class=\"tiles\">\n");
    if (all && all->count)
        put_tile(page, "bits per byte, held out", "%.3f", all->last_bits_per_byte);
    if (data->steps) {
        put_tile(page, "training loss, nats per token", "%.3f", data->loss[data->steps - 1]);
        put_count_tile(page, "steps", data->step[data->steps - 1]);
        put_count_tile(page, "tokens seen", data->tokens);
        put_tile(page, "minutes in steps", "%.1f", data->seconds / 60);
        if (data->seconds > 0)
            put_count_tile(page, "tokens per second", data->tokens / data->seconds);
        if (data->skipped > 0)
            put_count_tile(page, "steps skipped as not finite", data->skipped);
    }
    if (data->snapshots) {
        const sgm_report_snapshot *last = &data->snapshot[data->snapshots - 1];
        double dead = 0;
        int64_t experts = 0;
        for (int64_t i = 0; i < data->layers * data->experts; i++)
            dead += last->share[i] < 0.01;
        for (int64_t layer = 0; layer < data->layers; layer++)
            experts += sgm_routed_experts(data->own_experts, data->attention_experts, layer);
        char what[64];
        snprintf(what, sizeof what, "of %lld experts dead in the last steps", (long long)experts);
        put_tile(page, what, "%.0f", dead);
    }
    PUT(page, "</div>\n");
}

/* Mean over a window around each point, a fiftieth of the curve to either side: the trend in the noise. */
static double *smooth(const double *y, size_t count) {
    double *out = sgm_alloc((count + 1) * sizeof *out);
    size_t reach = count / 50, from = 0, to = 0, finite = 0;
    double sum = 0;
    for (size_t i = 0; out && i < count; i++) {
        for (; to < count && to <= i + reach; to++)
            if (isfinite(y[to])) {
                sum += y[to];
                finite++;
            }
        for (; from + reach < i; from++)
            if (isfinite(y[from])) {
                sum -= y[from];
                finite--;
            }
        out[i] = finite ? sum / (double)finite : NAN;
    }
    return out;
}

static void write_prediction(sgm_page *page, const sgm_report_data *data, double first, double last) {
    const sgm_report_evals *all = overall(data);
    double *trend = smooth(data->loss, data->steps);
    if (!trend) {
        page->status = SGM_EMEMORY;
        return;
    }
    sgm_svg_series loss[3] = {
        {data->step, data->loss, data->steps, NULL, 0, -1, true, false},
        {data->step, trend, data->steps, "train", 0, -1, false, false},
    };
    if (all)
        loss[2] = (sgm_svg_series){all->step, all->loss, all->count, "held out", 1, -1, false, true};
    PUT(page, "<h2>How well it predicts</h2><p>Bits per byte do not depend on the tokenizer; lower is better.</p>\n"
              "<div class=\"pair\">\n");
    sgm_svg_chart_write(page, &(sgm_svg_chart){.title = "Loss",
                                               .note = "nats per token; the line is a running mean",
                                               .series = loss,
                                               .count = all ? 3 : 2,
                                               .x_min = first,
                                               .x_max = last,
                                               .y_low = NAN,
                                               .y_high = NAN});
    sgm_free(trend);
    size_t count = data->eval_series;
    sgm_svg_series *domains = sgm_alloc((count + 1) * sizeof *domains);
    if (!domains) {
        page->status = SGM_EMEMORY;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const sgm_report_evals *e = &data->evals[i];
        bool total = e->domain[0] == 0;
        domains[i] = (sgm_svg_series){e->step,
                                      e->bits_per_byte,
                                      e->count,
                                      total ? "all" : e->domain,
                                      total ? 7 : (int)(all ? i - 1 : i) % 7,
                                      -1,
                                      false,
                                      true};
    }
    if (count)
        sgm_svg_chart_write(page, &(sgm_svg_chart){.title = "Held-out text by domain",
                                                   .note = "bits per byte",
                                                   .series = domains,
                                                   .count = count,
                                                   .x_min = first,
                                                   .x_max = last,
                                                   .y_low = NAN,
                                                   .y_high = NAN});
    sgm_free(domains);
    PUT(page, "</div>\n");
    if (all && fabs(all->last_tokens - all->tokens) > 0.01 * all->tokens)
        PUT(page,
            "<p>The last evaluation of all, %.3f bits per byte, is of %.0f tokens, those of the curve of %.0f: its "
            "domains have other shares, and it is no point of the curve.</p>\n",
            all->last_bits_per_byte, all->last_tokens, all->tokens);
}

static void write_training(sgm_page *page, const sgm_report_data *data, double first, double last) {
    sgm_svg_series rate = {data->step, data->learning_rate, data->steps, "rate", 2, -1, false, false};
    double *trend = smooth(data->gradient_norm, data->steps), *balance = smooth(data->balance_loss, data->steps);
    double *speed = smooth(data->tokens_per_second, data->steps);
    if (!trend || !balance || !speed) {
        page->status = SGM_EMEMORY;
    } else {
        sgm_svg_series norm[2] = {{data->step, data->gradient_norm, data->steps, NULL, 3, -1, true, false},
                                  {data->step, trend, data->steps, "norm", 3, -1, false, false}};
        sgm_svg_series sum[2] = {{data->step, data->balance_loss, data->steps, NULL, 6, -1, true, false},
                                 {data->step, balance, data->steps, "balance", 6, -1, false, false}};
        sgm_svg_series pace[2] = {{data->step, data->tokens_per_second, data->steps, NULL, 4, -1, true, false},
                                  {data->step, speed, data->steps, "speed", 4, -1, false, false}};
        PUT(page, "<h2>How it trained</h2><p>The schedule, and two signs of health: a gradient norm without "
                  "spikes and a balance loss that settles.</p>\n<div class=\"pair\">\n");
        sgm_svg_chart_write(page, &(sgm_svg_chart){.title = "Learning rate",
                                                   .series = &rate,
                                                   .count = 1,
                                                   .x_min = first,
                                                   .x_max = last,
                                                   .y_low = 0,
                                                   .y_high = NAN});
        sgm_svg_chart_write(page, &(sgm_svg_chart){.title = "Gradient norm",
                                                   .note = "before clipping, log scale",
                                                   .series = norm,
                                                   .count = 2,
                                                   .x_min = first,
                                                   .x_max = last,
                                                   .y_low = NAN,
                                                   .y_high = NAN,
                                                   .log_y = true});
        sgm_svg_chart_write(page, &(sgm_svg_chart){.title = "Balance loss",
                                                   .note = "weighted sum of all balancers",
                                                   .series = sum,
                                                   .count = 2,
                                                   .x_min = first,
                                                   .x_max = last,
                                                   .y_low = NAN,
                                                   .y_high = NAN});
        sgm_svg_chart_write(page, &(sgm_svg_chart){.title = "Tokens per second",
                                                   .series = pace,
                                                   .count = 2,
                                                   .x_min = first,
                                                   .x_max = last,
                                                   .y_low = 0,
                                                   .y_high = NAN});
        PUT(page, "</div>\n");
    }
    sgm_free(trend);
    sgm_free(balance);
    sgm_free(speed);
}

/* One line per layer of a (layers, buckets) array. */
static void write_layer_lines(sgm_page *page, const sgm_report_data *data, const double *values, const char *title,
                              const char *note, double first, double last) {
    sgm_svg_series *series = sgm_alloc((size_t)data->layers * sizeof *series);
    if (!series) {
        page->status = SGM_EMEMORY;
        return;
    }
    for (int64_t l = 0; l < data->layers; l++)
        series[l] = (sgm_svg_series){data->bucket_step,
                                     values + l * (int64_t)data->buckets,
                                     data->buckets,
                                     NULL,
                                     0,
                                     data->layers > 1 ? (double)l / (double)(data->layers - 1) : 0,
                                     false,
                                     false};
    sgm_svg_chart_write(page, &(sgm_svg_chart){.title = title,
                                               .note = note,
                                               .series = series,
                                               .count = (size_t)data->layers,
                                               .x_min = first,
                                               .x_max = last,
                                               .y_low = NAN,
                                               .y_high = 1,
                                               .depth_key = true});
    sgm_free(series);
}

static double greatest(const double *values, size_t count, double least) {
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i]) && values[i] > least)
            least = values[i];
    return least;
}

static void write_maps(sgm_page *page, const sgm_report_data *data) {
    PUT(page, "<div class=\"card\"><figcaption><b>Load of every expert</b><span>one row a layer, one column an "
              "expert, summed over a few steps; choose a step</span></figcaption>\n");
    for (size_t i = 0; i < data->snapshots; i++)
        PUT(page, "<input class=\"pick\" type=\"radio\" name=\"time\" id=\"t%zu\"%s>", i,
            i + 1 == data->snapshots ? " checked" : "");
    PUT(page, "\n<div class=\"times\">");
    for (size_t i = 0; i < data->snapshots; i++)
        PUT(page, "<label class=\"l%zu\" for=\"t%zu\">%lld</label>", i, i, (long long)data->snapshot[i].step);
    PUT(page, "</div>\n");
    for (size_t i = 0; i < data->snapshots; i++) {
        PUT(page, "<div class=\"map m%zu\">", i);
        sgm_svg_load_map(page, &data->snapshot[i], data->layers, data->experts, data->attention_experts > 0);
        PUT(page, "</div>\n");
    }
    sgm_svg_load_key(page);
    PUT(page, "</div>\n");
}

static void write_experts(sgm_page *page, const sgm_report_data *data, double first, double last) {
    size_t cells = (size_t)data->layers * data->buckets;
    bool in_turn = data->attention_experts > 0;
    PUT(page, "<h2>How the experts share the work</h2><p>%lld layers of ",
        (long long)sgm_routed_layer(data->attention_experts, data->layers));
    if (in_turn)
        PUT(page, "%lld attention experts (a) and ", (long long)data->attention_experts);
    PUT(page, "%lld experts%s", (long long)data->own_experts, in_turn ? " of the feed-forward (f)" : "");
    if (data->null_experts > 0)
        PUT(page, ", and %lld null ones, which have no load to even out and are left out",
            (long long)data->null_experts);
    PUT(page, ". The fair share is an equal part of a layer&#39;s tokens; an expert below 1&nbsp;%% of it "
              "counts "
              "as dead.</p>\n");
    write_maps(page, data);
    PUT(page, "<div class=\"pair\">\n");
    sgm_svg_grid grid = {.rows = data->layers, .columns = (int64_t)data->buckets, .x_first = first, .x_last = last};
    grid.in_turn = in_turn;
    grid.title = "Experts at work per token (k)";
    grid.note = "layer downwards, steps to the right";
    grid.value = data->experts_per_token;
    grid.low = 1;
    grid.high = greatest(data->experts_per_token, cells, 2);
    grid.unit = "";
    sgm_svg_grid_write(page, &grid);
    grid.title = "Dead experts";
    grid.note = "of a layer, in single steps";
    grid.value = data->dead;
    grid.low = 0;
    grid.high = greatest(data->dead, cells, 8);
    sgm_svg_grid_write(page, &grid);
    PUT(page, "</div><div class=\"pair\">\n");
    write_layer_lines(page, data, data->entropy, "Entropy of the load f",
                      "over log E; 1 is an even load, one line a layer", first, last);
    write_layer_lines(page, data, data->probability_entropy, "Entropy of the mean probability p",
                      "over log E; 1 when the router favours no expert on average", first, last);
    PUT(page, "</div>\n");
}

static void write_samples(sgm_page *page, const sgm_report_data *data) {
    PUT(page, "<h2>What it writes</h2><p>Samples taken while it trained, newest first; the prompt is in colour.</p>\n"
              "<div class=\"samples\">\n");
    for (size_t i = 0; i < data->samples; i++) {
        const sgm_report_sample *s = &data->sample[i];
        PUT(page, "<div class=\"card\"><h3>step %lld</h3><pre><b>", (long long)s->step);
        sgm_page_string(page, s->prompt);
        PUT(page, "</b>");
        sgm_page_text(page, s->text, s->text_size);
        PUT(page, "</pre></div>\n");
    }
    PUT(page, "</div>\n");
}

/* config.yaml as a table: a line of it is a row, its comment the origin. Rows that are no default stand out. */
static void write_config(sgm_page *page, const char *yaml) {
    PUT(page, "<h2>Configuration</h2><p>Every value and where it came from; what is not a default is in colour.</p>\n"
              "<details class=\"card\" open><summary>config.yaml</summary><div class=\"narrow\"><table>"
              "<tr><th>key</th><th>value</th><th>origin</th></tr>\n");
    while (*yaml) {
        size_t size = strcspn(yaml, "\n");
        const char *comment = memmem(yaml, size, " # ", 3);
        size_t left = comment ? (size_t)(comment - yaml) : size, indent = strspn(yaml, " -");
        const char *colon = indent < left ? memchr(yaml + indent, ':', left - indent) : NULL;
        if (indent < left && yaml[indent] != '#') {
            size_t key = colon ? (size_t)(colon - yaml) : left, value = colon ? key + 1 : left;
            value += strspn(yaml + value, " ") < left - value ? strspn(yaml + value, " ") : left - value;
            size_t origin = comment ? left + 3 : size;
            bool own = comment && strncmp(yaml + origin, "default", 7) != 0 && strncmp(yaml + origin, "preset", 6) != 0;
            PUT(page, "<tr%s><td style=\"padding-left:%zuch\">", own ? " class=\"own\"" : "", indent);
            sgm_page_text(page, yaml + indent, key - indent);
            PUT(page, "</td><td>");
            sgm_page_text(page, yaml + value, left - value);
            PUT(page, "</td><td class=\"o\">");
            sgm_page_text(page, yaml + origin, size - origin);
            PUT(page, "</td></tr>\n");
        }
        yaml += size + (yaml[size] == '\n');
    }
    PUT(page, "</table></div></details>\n");
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static void write_page(sgm_page *page, const sgm_report_data *data, const char *name, const char *yaml) {
    double first = data->steps ? data->step[0] : 0, last = data->steps ? data->step[data->steps - 1] : 1;
    for (size_t i = 0; i < data->eval_series; i++)
        if (data->evals[i].count) {
            first = fmin(first, data->evals[i].step[0]);
            last = fmax(last, data->evals[i].step[data->evals[i].count - 1]);
        }
    write_head(page, data, name);
    write_tiles(page, data);
    if (data->steps || data->eval_series)
        write_prediction(page, data, first, last);
    else
        PUT(page, "<h2>Nothing yet</h2><p>The run has not finished a step.</p>\n");
    if (data->snapshots)
        write_experts(page, data, first, last);
    sgm_report_write_balance(page, data, first, last);
    if (data->steps)
        write_training(page, data, first, last);
    if (data->samples)
        write_samples(page, data);
    if (yaml)
        write_config(page, yaml);
    PUT(page,
        "<footer>Written by sigmoe %s from run.sqlite. This page fetches nothing.</footer>\n</main></body></html>\n",
        sgm_version());
}

/* The folder's own name, also for "." and "runs/demo/". */
static void run_name(const char *run, char *name, size_t room) {
    char *whole = realpath(run, NULL);
    const char *path = whole ? whole : run, *slash = strrchr(path, '/');
    snprintf(name, room, "%s", slash && slash[1] ? slash + 1 : path);
    free(whole); /* realpath's, not ours */
}

/* Of the run's model; 0 where the configuration cannot be read: the page shows it as it is then. */
static int64_t null_experts_of(const char *path) {
    sgm_config *config = NULL;
    const char *text = NULL;
    if (sgm_path_exists(path) && sgm_config_new(&config, NULL) == SGM_OK &&
        sgm_config_load(config, path, NULL) == SGM_OK)
        text = sgm_config_get(config, "model.null_experts");
    int64_t count = text ? strtoll(text, NULL, 10) : 0;
    sgm_config_free(config);
    return count;
}

/* A page replaces a page, never a run.sqlite or config.yaml that a slip of the hand named. */
static sgm_status check_page(const char *path, sgm_error *error) {
    size_t size = strlen(path);
    if (!sgm_path_exists(path) || (size > 5 && strcasecmp(path + size - 5, ".html") == 0))
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, "name a file that ends in .html, or one that does not exist yet",
                    "the report does not replace %s: it is not an .html file", path);
}

sgm_status sgm_report_write(const char *run, const char *path, sgm_error *error) {
    char *log = sgm_path_join(run, "run.sqlite"), *config = sgm_path_join(run, "config.yaml");
    char *out = path ? sgm_strdup(path) : sgm_path_join(run, "report.html"), *yaml = NULL, name[256];
    sgm_report_data data = {0};
    sgm_page page = {0};
    sgm_status status = SGM_OK;
    if (!log || !config || !out)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the report", run);
    else if (!sgm_path_exists(run))
        status = sgm_fail(error, SGM_ENOTFOUND, "check the path; relative ones start here", "there is no run folder %s",
                          run);
    else if (!sgm_path_exists(log))
        status = sgm_fail(error, SGM_ENOTFOUND, "give the folder of a run, for instance runs/demo",
                          "%s: not a run folder, it holds no run.sqlite", run);
    if (!status)
        status = check_page(out, error);
    if (!status)
        status = sgm_report_read(log, null_experts_of(config), &data, error);
    if (!status && sgm_path_exists(config)) {
        size_t size;
        status = sgm_file_read(config, MOST_CONFIG_BYTES, &yaml, &size, error);
    }
    if (!status) {
        run_name(run, name, sizeof name);
        write_page(&page, &data, name, yaml);
        status = page.status ? sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the report", run)
                             : sgm_file_write(out, page.buffer.data, page.buffer.size, error);
    }
    sgm_buffer_free(&page.buffer);
    sgm_report_data_free(&data);
    sgm_free(yaml);
    sgm_free(out);
    sgm_free(config);
    sgm_free(log);
    return status;
}
