// SPDX-License-Identifier: Apache-2.0
/* Heat maps as inline SVG: all cells of one colour are one path, so that a map of thousands of cells stays small. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/report.h"

enum { CLASSES = 9, WIDTH = 1120, LEFT = 56 };

/* Load over the fair share, on a scale of doublings: what each class begins at. Below the first: dead. */
static const double load_from[CLASSES + 1] = {0, 0.01, 0.35, 0.6, 0.8, 1.25, 1.67, 2.5, 4.0, INFINITY};
static const char *const load_names[CLASSES] = {"dead (under 1 %)", "0.01–0.35", "0.35–0.6", "0.6–0.8",   "0.8–1.25",
                                                "1.25–1.67",        "1.67–2.5",  "2.5–4",    "4 and more"};

static int load_class(double share) {
    for (int c = 0; c < CLASSES; c++)
        if (share >= load_from[c] && share < load_from[c + 1])
            return c;
    return -1; /* NaN: no row */
}

/* Rows get lower where there are many, so that every map fits a screen. */
static double row_height(int64_t rows, double most) {
    double height = 420.0 / (double)rows;
    return height > most ? most : height < 3 ? 3 : height;
}

static void row_labels(sgm_page *page, int64_t rows, double left, double height, bool in_turn) {
    int64_t every = height >= 11 ? 1 : (int64_t)ceil(11 / height);
    for (int64_t r = 0; r < rows; r += every)
        PUT(page, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%lld%s</text>\n", left - 7,
            ((double)r + 0.5) * height + 4, (long long)(in_turn ? r / 2 : r),
            !in_turn     ? ""
            : r % 2 == 0 ? "a"
                         : "f");
}

/* One path for every cell of class `wanted`, in units of a cell; neighbours in a row are joined. */
static void write_class(sgm_page *page, const int *cells, int64_t rows, int64_t columns, int wanted,
                        const char *prefix) {
    bool any = false;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            if (cells[r * columns + c] != wanted)
                continue;
            int64_t end = c + 1;
            while (end < columns && cells[r * columns + end] == wanted)
                end++;
            if (!any)
                PUT(page, "<path class=\"%s%d\" d=\"", prefix, wanted);
            any = true;
            PUT(page, "M%lld %lldh%lldv1h-%lldz", (long long)c, (long long)r, (long long)(end - c),
                (long long)(end - c));
            c = end - 1;
        }
    if (any)
        PUT(page, "\"/>\n");
}

/* Cells of width × height from `left` on, parted by lines of the ground where they are wide enough for that. */
static void write_cells(sgm_page *page, const int *cells, int64_t rows, int64_t columns, const char *prefix,
                        double left, double width, double height) {
    PUT(page, "<g transform=\"translate(%.1f 0) scale(%.6g %.6g)\" shape-rendering=\"crispEdges\">\n", left, width,
        height);
    for (int c = 0; c < CLASSES; c++)
        write_class(page, cells, rows, columns, c, prefix);
    PUT(page, "</g><path class=\"gap\" d=\"");
    for (int64_t r = 1; r < rows; r++)
        PUT(page, "M%.1f %.1fh%.1f", left, (double)r * height, (double)columns * width);
    for (int64_t c = 1; c < columns && width > 4; c++)
        PUT(page, "M%.1f 0v%.1f", left + (double)c * width, (double)rows * height);
    PUT(page, "\"/>\n");
}

/* ---- load over the fair share -------------------------------------------------------------------------------------- */

enum { LONGEST_NAME = 20, NAME_WIDTH = 7 };

static double left_of(const sgm_svg_map *map) {
    size_t longest = 0;
    for (int64_t r = 0; map->names && r < map->rows; r++) {
        size_t size = strlen(map->names[r]);
        longest = size > longest ? size : longest;
    }
    double wanted = 14 + NAME_WIDTH * (double)(longest < LONGEST_NAME ? longest : LONGEST_NAME);
    return wanted > LEFT ? wanted : LEFT;
}

double sgm_svg_map_height(const sgm_svg_map *map) {
    return (double)map->rows * row_height(map->rows, map->row_most) + 26;
}

static void name_labels(sgm_page *page, const sgm_svg_map *map, double left, double height) {
    for (int64_t r = 0; r < map->rows; r++) {
        size_t size = strlen(map->names[r]);
        PUT(page, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", left - 7,
            ((double)r + 0.5) * height + 4);
        sgm_page_text(page, map->names[r], size > LONGEST_NAME ? LONGEST_NAME - 1 : size);
        PUT(page, "%s</text>\n", size > LONGEST_NAME ? "…" : "");
    }
}

void sgm_svg_map_draw(sgm_page *page, const sgm_svg_map *map) {
    int *cells = sgm_alloc((size_t)(map->rows * map->columns) * sizeof *cells);
    if (!cells) {
        page->status = SGM_EMEMORY;
        return;
    }
    for (int64_t i = 0; i < map->rows * map->columns; i++)
        cells[i] = load_class(map->share[i]);
    double left = left_of(map), height = row_height(map->rows, map->row_most);
    double width = (map->width - left) / (double)map->columns, ticks[12];
    if (map->names)
        name_labels(page, map, left, height);
    else
        row_labels(page, map->rows, left, height, map->in_turn);
    write_cells(page, cells, map->rows, map->columns, "h", left, width, height);
    size_t count = sgm_svg_ticks(0, (double)(map->columns - 1), map->width > 600 ? 8 : 5, ticks);
    for (size_t i = 0; i < count; i++)
        PUT(page, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n",
            left + (ticks[i] + 0.5) * width, (double)map->rows * height + 17, ticks[i]);
    sgm_free(cells);
}

void sgm_svg_map_write(sgm_page *page, const sgm_svg_map *map, const char *label) {
    PUT(page, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", map->width, sgm_svg_map_height(map),
        label);
    sgm_svg_map_draw(page, map);
    PUT(page, "</svg>\n");
}

void sgm_svg_load_map(sgm_page *page, const sgm_report_snapshot *snapshot, int64_t layers, int64_t experts,
                      bool in_turn) {
    const sgm_svg_map map = {.share = snapshot->share,
                             .rows = layers,
                             .columns = experts,
                             .in_turn = in_turn,
                             .width = WIDTH,
                             .row_most = 26};
    char label[128];
    snprintf(label, sizeof label, "load of %lld experts in %lld layers at step %lld", (long long)experts,
             (long long)layers, (long long)snapshot->step);
    sgm_svg_map_write(page, &map, label);
}

void sgm_svg_load_key(sgm_page *page) {
    PUT(page, "<div class=\"key\"><span>load over the fair share:</span>");
    for (int c = 0; c < CLASSES; c++)
        PUT(page, "<span><svg viewBox=\"0 0 12 12\"><path class=\"h%d\" d=\"M0 0h12v12h-12z\"/></svg>%s</span>", c,
            load_names[c]);
    PUT(page, "</div>\n");
}

void sgm_svg_load_key_draw(sgm_page *page) {
    PUT(page, "<text class=\"tick\" x=\"0\" y=\"11\">load over the fair share:</text>\n");
    double x = 152;
    for (int c = 0; c < CLASSES; c++) {
        PUT(page, "<path class=\"h%d\" d=\"M%.0f 1h12v12h-12z\"/><text class=\"tick\" x=\"%.0f\" y=\"11\">%s</text>\n",
            c, x, x + 17, load_names[c]);
        x += 36 + 6.6 * (double)strlen(load_names[c]);
    }
}

static int grid_class(const sgm_svg_grid *grid, double value) {
    if (!isfinite(value))
        return -1;
    double share = grid->high > grid->low ? (value - grid->low) / (grid->high - grid->low) : 0;
    int c = (int)ceil(share * (CLASSES - 1) - 1e-9); /* anything above the lowest shows */
    return c < 0 ? 0 : c >= CLASSES ? CLASSES - 1 : c;
}

void sgm_svg_grid_write(sgm_page *page, const sgm_svg_grid *grid) {
    int *cells = sgm_alloc((size_t)(grid->rows * grid->columns) * sizeof *cells);
    if (!cells) {
        page->status = SGM_EMEMORY;
        return;
    }
    for (int64_t i = 0; i < grid->rows * grid->columns; i++)
        cells[i] = grid_class(grid, grid->value[i]);
    enum { HALF = 560, RIGHT = 24 };
    double height = row_height(grid->rows, 24), width = (double)(HALF - LEFT - RIGHT) / (double)grid->columns;
    double bottom = (double)grid->rows * height;
    PUT(page, "<figure><figcaption><b>%s</b><span>%s</span></figcaption>", grid->title, grid->note);
    PUT(page, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"%s\">\n", HALF, bottom + 30, grid->title);
    row_labels(page, grid->rows, LEFT, height, grid->in_turn);
    write_cells(page, cells, grid->rows, grid->columns, "s", LEFT, width, height);
    double ticks[12];
    size_t count = sgm_svg_ticks(grid->x_first, grid->x_last, 5, ticks);
    for (size_t i = 0; i < count; i++) {
        double share = grid->x_last > grid->x_first ? (ticks[i] - grid->x_first) / (grid->x_last - grid->x_first) : 0.5;
        PUT(page, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n",
            LEFT + share * (HALF - LEFT - RIGHT), bottom + 18, ticks[i]);
    }
    PUT(page, "</svg><div class=\"key\">");
    for (int c = 0; c < CLASSES; c += 2)
        PUT(page, "<span><svg viewBox=\"0 0 12 12\"><path class=\"s%d\" d=\"M0 0h12v12h-12z\"/></svg>%.3g%s%s</span>",
            c, grid->low + (grid->high - grid->low) * c / (CLASSES - 1), *grid->unit ? " " : "", grid->unit);
    PUT(page, "</div></figure>\n");
    sgm_free(cells);
}
