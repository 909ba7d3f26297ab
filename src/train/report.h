// SPDX-License-Identifier: Apache-2.0
/* The pieces of a run's HTML page, which a lab's is made of too: what is read from run.sqlite, the page being written, and
 * its drawings.
 *
 * The page fetches nothing and holds no script: drawings are inline SVG coloured by CSS variables, so that light and
 * dark both work, and choosing a point in time is a set of radio buttons. */
#ifndef SGM_TRAIN_REPORT_H
#define SGM_TRAIN_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "sigmoe/error.h"

/* ---- data (report_data.c) -------------------------------------------------------------------------------------- */

typedef struct sgm_report_evals {
    char *domain; /* "" is all of them together */
    double *step, *loss, *bits_per_byte;
    size_t count, capacity;
    double
        tokens; /* of each of them; one of other proportions (the last may be of all the text) would be no point of its curve */
    double last_bits_per_byte, last_tokens; /* of the last evaluation, which need not be among them */
} sgm_report_evals;

/* Load of all layers at one time: counts summed over a few steps up to it. */
typedef struct sgm_report_snapshot {
    int64_t step;
    double *share; /* (L, E) of the layer's fair share: 1 = even; NaN: no row */
} sgm_report_snapshot;

typedef struct sgm_report_sample {
    int64_t step;
    char *prompt, *text;
    size_t text_size;
} sgm_report_sample;

enum { SGM_REPORT_SNAPSHOTS = 12, SGM_REPORT_BUCKETS = 160, SGM_REPORT_LINES = 3 };

/* What a balancer measured, in buckets of time: the least and the greatest of all layers, and three layers by themselves. With
 * attention experts the attentions' layers and the feed-forwards' are two of these. NaN where there is no row. */
typedef struct sgm_report_measure {
    char *balancer, *name;
    bool attention;
    int lines;                       /* 1 … 3: as many as there are layers */
    int64_t layer[SGM_REPORT_LINES]; /* first, middle, last, counted as layers of the model */
    size_t count;                    /* buckets; arrays of that length, all in one block that `step` begins */
    double *step, *least, *greatest, *line[SGM_REPORT_LINES];
} sgm_report_measure;

typedef struct sgm_report_data {
    size_t steps; /* rows; arrays of that length */
    double *step, *loss, *balance_loss, *gradient_norm, *learning_rate, *tokens_per_second;
    double tokens, seconds, skipped;

    sgm_report_evals *evals; /* the row of all domains, if any, comes first */
    size_t eval_series;

    int64_t layers, experts;   /* L; E without null experts; of a narrower layer its last columns are NaN */
    int64_t own_experts;       /* of a feed-forward: E but where there are more attention experts */
    int64_t null_experts;      /* beside them, left out: they have no load to even out */
    int64_t attention_experts; /* 0, or what is by layer here is by routed sub-layer (sigmoe/model.h) */
    size_t buckets;            /* of time; (L, buckets) below, NaN where there is no row */
    double *bucket_step, *dead, *experts_per_token, *entropy, *probability_entropy, *max_over_mean;
    sgm_report_snapshot snapshot[SGM_REPORT_SNAPSHOTS];
    size_t snapshots;

    sgm_report_measure *measure; /* by balancer, its loss first, then by name */
    size_t measures;

    sgm_report_sample *sample; /* the last ones, oldest first */
    size_t samples;
} sgm_report_data;

/* Read `path` (run.sqlite), also while a run is writing to it. Of its experts the last `null_experts` are null. */
sgm_status sgm_report_read(const char *path, int64_t null_experts, sgm_report_data *data, sgm_error *error);
void sgm_report_data_free(sgm_report_data *data);

/* ---- the page (report_page.c) ---------------------------------------------------------------------------------- */

/* Text that grows; the first failure (no memory) sticks. */
typedef struct sgm_page {
    sgm_buffer buffer;
    sgm_status status;
} sgm_page;

#define PUT(page, ...)                                                                                                 \
    do {                                                                                                               \
        if (!(page)->status)                                                                                           \
            (page)->status = sgm_buffer_print(&(page)->buffer, __VA_ARGS__);                                           \
    } while (0)

/* The head of a page with that title, up to and with the report's rules of style; what follows may add rules, and then
 * closes style and head. */
void sgm_page_begin(sgm_page *page, const char *title);
/* Text with &, <, >, " escaped; bytes that are not UTF-8 and control characters become U+FFFD. */
void sgm_page_text(sgm_page *page, const char *text, size_t size);
void sgm_page_string(sgm_page *page, const char *text);

/* What the balancers measured, as a section of the page; nothing where there is nothing (report_balance.c). */
void sgm_report_write_balance(sgm_page *page, const sgm_report_data *data, double first, double last);

/* ---- drawings (report_svg.c, report_map.c) ------------------------------------------------------------------------
 */

/* A line of what chance alone would show: thin, dotted, in the colour of the text. */
enum { SGM_SVG_FLOOR = -1 };

typedef struct sgm_svg_series {
    const double *x, *y; /* NaN y: a gap */
    size_t count;
    const char *label; /* NULL: none */
    int colour;   /* 0… categorical, from 8 on dashed, from 16 on dotted; with `depth` ≥ 0 ignored; SGM_SVG_FLOOR */
    double depth; /* 0…1: colour by layer depth; negative: categorical */
    bool faint, points;
} sgm_svg_series;

/* A pale area behind the lines: a spread. */
typedef struct sgm_svg_band {
    const double *x, *low, *high; /* NaN: a gap */
    size_t count;
    int colour;
} sgm_svg_band;

typedef struct sgm_svg_chart {
    const char *title, *note; /* plain text; note: a line under the title; may be NULL */
    const char *x_name;       /* NULL: "step" */
    const sgm_svg_series *series;
    size_t count;
    const sgm_svg_band *bands;
    size_t band_count;
    double x_min, x_max;
    double y_low, y_high; /* include these; NaN: whatever the data needs */
    bool log_y;
    bool depth_key; /* a key from the first to the last layer */
    bool whole_x;   /* between whole numbers there is nothing to the right */
    bool wide;      /* nothing stands right of the plot: no labels, no key */
} sgm_svg_chart;
enum { SGM_SVG_CHART_WIDTH = 560, SGM_SVG_CHART_HEIGHT = 300 };
/* What stands in a drawing of that size, without title and note. */
void sgm_svg_chart_draw(sgm_page *page, const sgm_svg_chart *chart);
/* A figure of a page. */
void sgm_svg_chart_write(sgm_page *page, const sgm_svg_chart *chart);

/* (layers, buckets) values as coloured cells, layers downwards, time to the right. */
typedef struct sgm_svg_grid {
    const char *title, *note;
    const double *value; /* (rows, columns) */
    int64_t rows, columns;
    bool in_turn;     /* rows are a layer's attention and its feed-forward in turn */
    double low, high; /* of the sequential colour scale; whole numbers are shown as such */
    const char *unit;
    double x_first, x_last;
} sgm_svg_grid;
void sgm_svg_grid_write(sgm_page *page, const sgm_svg_grid *grid);

/* Load over the fair share as a map on a diverging scale around it: a row a layer, or whatever `names` says, and a column an
 * expert. */
typedef struct sgm_svg_map {
    const double *share; /* (rows, columns) */
    int64_t rows, columns;
    bool in_turn;             /* as above */
    const char *const *names; /* (rows); NULL: their numbers */
    double width, row_most;   /* of all of it, in units of the viewBox; the greatest height of a row */
} sgm_svg_map;
double sgm_svg_map_height(const sgm_svg_map *map);
/* What stands in a drawing of that width and height, from its origin on. */
void sgm_svg_map_draw(sgm_page *page, const sgm_svg_map *map);
/* A drawing of its own; `label` says what it is, for who cannot see it. */
void sgm_svg_map_write(sgm_page *page, const sgm_svg_map *map, const char *label);
/* One snapshot as a (layers, experts) map on a diverging scale around the fair share; `in_turn` as above. */
void sgm_svg_load_map(sgm_page *page, const sgm_report_snapshot *snapshot, int64_t layers, int64_t experts,
                      bool in_turn);
void sgm_svg_load_key(sgm_page *page);
/* The same as a drawing of SGM_SVG_KEY_HEIGHT, from the origin on. */
enum { SGM_SVG_KEY_HEIGHT = 20 };
void sgm_svg_load_key_draw(sgm_page *page);

/* ---- pictures (report_picture.c): a drawing as a file of its own ------------------------------------------------- */

/* The head of an SVG file of that size on a light ground; drawings follow, in groups that are moved to their places. */
void sgm_picture_begin(sgm_page *page, double width, double height);
/* A heading in bold and a line of smaller text below it, at (x, y) and (x, y + 18); `note` may be NULL. Both are escaped. */
void sgm_picture_heading(sgm_page *page, double x, double y, const char *title, const char *note);
/* The end of the file: colours that were named become what they are on a light page. */
void sgm_picture_end(sgm_page *page);

/* About `wanted` round positions between low and high; returns how many were written (≤ 12). */
size_t sgm_svg_ticks(double low, double high, int wanted, double *ticks);

/* The style sheet, in one string, and of it the rules of drawings and the light colours (report_style.c). */
extern const char sgm_report_style[], sgm_svg_style[], sgm_svg_colours[];

#endif
