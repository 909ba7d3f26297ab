// SPDX-License-Identifier: Apache-2.0
/* pictures/ of a lab: the drawings of its page as SVG files of their own, to put beside a text. Arms are named in a legend, because
 * their names may be long and there may be many of them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text_print.h"
#include "lab/lab_curves.h"

enum {
    PAD = 20,
    GAP = 24,
    WIDTH = 2 * PAD + 2 * SGM_SVG_CHART_WIDTH + GAP,
    HEAD = 62,       /* the picture's own heading */
    PANEL_HEAD = 36, /* a panel's */
    LEGEND_ROW = 20,
    LONGEST_NAME = 48, /* bytes of an arm's name */
    LETTER = 8,        /* width of a letter in a legend, at most on average */
};

/* The body is drawn first: then its height is known. */
typedef struct picture {
    sgm_page body;
    const sgm_lab_results *results;
    double y; /* what is free below */
} picture;

/* ---- legend --------------------------------------------------------------------------------------------------- */

static void short_name(const char *name, char *text, size_t room) {
    size_t size = strlen(name), all = size;
    while (size > LONGEST_NAME || (size < all && ((unsigned char)name[size] & 0xc0) == 0x80))
        size--; /* no half of a letter */
    snprintf(text, room, "%.*s%s", (int)size, name, size < all ? "…" : "");
}

/* In columns that hold the longest name. */
static void put_legend(picture *p) {
    size_t longest = 0, arms = p->results->arms;
    for (size_t a = 0; a < arms; a++) {
        size_t size = strlen(p->results->arm[a].arm.name);
        longest = size > longest ? size : longest;
    }
    double width = 52 + LETTER * (double)(longest < LONGEST_NAME ? longest : LONGEST_NAME);
    size_t columns = (size_t)((WIDTH - 2 * PAD) / width);
    for (size_t a = 0; a < arms; a++) {
        double x = PAD + (double)(a % columns) * width, y = p->y + LEGEND_ROW * (double)(a / columns) + 12;
        char name[LONGEST_NAME + 8];
        short_name(p->results->arm[a].arm.name, name, sizeof name);
        PUT(&p->body,
            "<path class=\"line%s\" style=\"stroke:var(--c%zu)\" d=\"M%.0f %.0fh28\"/>"
            "<text class=\"label\" x=\"%.0f\" y=\"%.0f\">",
            sgm_lab_dashes(a), a % 8, x, y - 4, x + 36, y);
        sgm_page_string(&p->body, name);
        PUT(&p->body, "</text>\n");
    }
    p->y += LEGEND_ROW * (double)((arms + columns - 1) / columns) + 12;
}

/* ---- panels --------------------------------------------------------------------------------------------------- */

static void put_charts(picture *p, const sgm_lab_chart *charts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double x = PAD + (double)(i % 2) * (SGM_SVG_CHART_WIDTH + GAP);
        sgm_lab_chart chart = charts[i];
        chart.wide = true;
        sgm_picture_heading(&p->body, x, p->y + 14, chart.title, chart.note);
        PUT(&p->body, "<g transform=\"translate(%.0f %.0f)\">\n", x, p->y + PANEL_HEAD);
        sgm_lab_chart_draw(&p->body, p->results, &chart);
        PUT(&p->body, "</g>\n");
        if (i % 2 == 1 || i + 1 == count)
            p->y += PANEL_HEAD + SGM_SVG_CHART_HEIGHT + GAP;
    }
}

/* Returns its height. */
static double put_map(picture *p, const sgm_svg_map *map, double x, const char *title, const char *note) {
    double head = note ? PANEL_HEAD + 6 : 24;
    sgm_picture_heading(&p->body, x, p->y + 14, title, note);
    PUT(&p->body, "<g transform=\"translate(%.0f %.0f)\">\n", x, p->y + head);
    sgm_svg_map_draw(&p->body, map);
    PUT(&p->body, "</g>\n");
    return head + sgm_svg_map_height(map);
}

static void put_key(picture *p) {
    PUT(&p->body, "<g transform=\"translate(%d %.0f)\">\n", PAD, p->y);
    sgm_svg_load_key_draw(&p->body);
    PUT(&p->body, "</g>\n");
    p->y += SGM_SVG_KEY_HEIGHT + 10;
}

/* ---- the pictures --------------------------------------------------------------------------------------------- */

static void draw_curves(picture *p) {
    static const sgm_lab_chart charts[] = {
        {.title = "Held-out text", .note = "bits per byte; lower is better", .offset = offsetof(sgm_lab_point, step)},
        {.title = "The second half",
         .note = "bits per byte; areas reach from the least to the greatest seed",
         .offset = offsetof(sgm_lab_point, step),
         .late = true}};
    put_legend(p);
    put_charts(p, charts, sizeof charts / sizeof *charts);
}

static void draw_balance(picture *p) {
    const sgm_lab_chart *charts = sgm_lab_balance_charts;
    /* Runs of before did not keep the entropy of single tokens: then the correlation is in its place. */
    bool known = sgm_lab_balance_known(p->results, charts[SGM_LAB_TOKEN_ENTROPY].offset);
    const sgm_lab_chart shown[] = {charts[0], charts[1], charts[2],
                                   charts[known ? SGM_LAB_TOKEN_ENTROPY : SGM_LAB_CORRELATION]};
    put_legend(p);
    put_charts(p, shown, sizeof shown / sizeof *shown);
}

/* As many maps beside each other as leaves the cells wide enough to be told apart. */
static void draw_load(picture *p) {
    int64_t experts = 1;
    for (size_t a = 0; a < p->results->arms; a++)
        if (p->results->arm[a].run[0].experts > experts)
            experts = p->results->arm[a].run[0].experts;
    size_t columns = experts <= 32 ? 3 : experts <= 128 ? 2 : 1;
    double width = (WIDTH - 2 * PAD - GAP * (double)(columns - 1)) / (double)columns, highest = 0;
    put_key(p);
    for (size_t a = 0; a < p->results->arms; a++) {
        const sgm_lab_measures *m = &p->results->arm[a].run[0];
        const sgm_svg_map map = {
            .share = m->share, .rows = m->layers, .columns = m->experts, .width = width, .row_most = 12};
        char name[LONGEST_NAME + 8];
        short_name(p->results->arm[a].arm.name, name, sizeof name);
        highest = fmax(highest, put_map(p, &map, PAD + (double)(a % columns) * (width + GAP), name, NULL));
        if ((a + 1) % columns == 0 || a + 1 == p->results->arms) {
            p->y += highest + 10;
            highest = 0;
        }
    }
}

static void put_domain_maps(picture *p, const sgm_lab_arm_results *arm, double *share, const char **names) {
    const sgm_lab_measures *m = &arm->run[0];
    const int64_t layers[] = {0, m->layers - 1};
    double highest = 0;
    for (int i = 0; i < (m->layers > 1 ? 2 : 1); i++) {
        const sgm_svg_map map = sgm_lab_domain_map(m, layers[i], SGM_SVG_CHART_WIDTH, share, names);
        char name[LONGEST_NAME + 8], note[128];
        short_name(arm->arm.name, name, sizeof name);
        sgm_lab_domain_note(m, layers[i], note, sizeof note);
        highest = fmax(highest, put_map(p, &map, PAD + i * (SGM_SVG_CHART_WIDTH + GAP), name, note));
    }
    p->y += highest + 10;
}

static void draw_domains(picture *p) {
    static const sgm_lab_chart charts[] = {{.title = "Divergence of the domains",
                                            .note = "Jensen–Shannon, nats; dotted: domains that are alike, by chance",
                                            .layers = true,
                                            .offset = offsetof(sgm_lab_balance, domain_divergence),
                                            .floor = offsetof(sgm_lab_balance, domain_divergence_noise)},
                                           {.title = "H(f): entropy of the load",
                                            .note = "over log E; 1 is even",
                                            .layers = true,
                                            .offset = offsetof(sgm_lab_balance, entropy_over_log_e),
                                            .to_one = true}};
    put_legend(p);
    put_charts(p, charts, sizeof charts / sizeof *charts);
    put_key(p);
    for (size_t a = 0; a < p->results->arms; a++) {
        const sgm_lab_measures *m = &p->results->arm[a].run[0];
        if (!m->domain_share)
            continue;
        double *share = sgm_alloc(m->domains * (size_t)m->experts * sizeof *share);
        const char **names = sgm_alloc(m->domains * sizeof *names);
        if (share && names)
            put_domain_maps(p, &p->results->arm[a], share, names);
        else
            p->body.status = SGM_EMEMORY;
        sgm_free(share);
        sgm_free(names);
    }
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

static sgm_status write_picture(const sgm_lab_results *results, const char *path, const char *what,
                                void (*draw)(picture *p), sgm_error *error) {
    picture p = {.results = results, .y = HEAD};
    sgm_page page = {0};
    char title[256], note[256];
    sgm_experiment_info info;
    sgm_experiment_describe(results->experiment, &info);
    draw(&p);
    sgm_text_print(title, sizeof title, "%s: %s", info.name, what);
    sgm_text_print(note, sizeof note, "%" PRId64 " seed%s, %" PRId64 " step%s of %" PRId64 " token%s%s",
                   results->plan->seeds, sgm_lab_plural(results->plan->seeds), results->plan->steps,
                   sgm_lab_plural(results->plan->steps), info.tokens_per_step, sgm_lab_plural(info.tokens_per_step),
                   results->missings ? "; not complete" : "");
    sgm_picture_begin(&page, WIDTH, p.y + PAD - 10);
    sgm_picture_heading(&page, PAD, 28, title, note);
    if (!page.status)
        page.status =
            p.body.status ? p.body.status : sgm_buffer_add(&page.buffer, p.body.buffer.data, p.body.buffer.size);
    sgm_picture_end(&page);
    sgm_status status = page.status ? sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the picture", path)
                                    : sgm_file_write(path, page.buffer.data, page.buffer.size, error);
    sgm_buffer_free(&p.body.buffer);
    sgm_buffer_free(&page.buffer);
    return status;
}

sgm_status sgm_lab_write_pictures(const sgm_lab_results *results, const char *folder, sgm_error *error) {
    static const struct {
        const char *name, *what;
        void (*draw)(picture *p);
    } pictures[] = {
        {"curves.svg", "how well the arms predict", draw_curves},
        {"balance.svg", "balance by layer, in the last tenth of the steps", draw_balance},
        {"load.svg", "load by layer (down) and expert (across), in the last tenth of the steps, first seed", draw_load},
        {"domains.svg", "the experts (across) that each domain uses, in the last evaluation; maps: first seed",
         draw_domains}};
    bool domains = sgm_lab_balance_known(results, offsetof(sgm_lab_balance, domain_divergence));
    sgm_status status = sgm_folder_make(folder, error);
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures && !status; i++) {
        char *path = sgm_path_join(folder, pictures[i].name);
        if (!path)
            status = sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the pictures", folder);
        else if (domains || pictures[i].draw != draw_domains)
            status = write_picture(results, path, pictures[i].what, pictures[i].draw, error);
        sgm_free(path);
    }
    return status;
}
