// SPDX-License-Identifier: Apache-2.0
/* Heat maps as inline SVG: all cells of one colour are one path, so that a map of thousands of cells stays small. */
#include <math.h>
#include <stdio.h>

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

static void row_labels(sgm_page *page, int64_t rows, double height, bool in_turn) {
    int64_t every = height >= 11 ? 1 : (int64_t)ceil(11 / height);
    for (int64_t r = 0; r < rows; r += every)
        PUT(page, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%lld%s</text>\n", LEFT - 7,
            ((double)r + 0.5) * height + 4, (long long)(in_turn ? r / 2 : r),
            !in_turn     ? ""
            : r % 2 == 0 ? "a"
                         : "f");
}

/* One path for every cell of class `wanted`; neighbours in a row are joined. */
static void write_class(sgm_page *page, const int *cells, int64_t rows, int64_t columns, int wanted, double width,
                        double height, const char *prefix, double gap) {
    bool any = false;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            if (cells[r * columns + c] != wanted)
                continue;
            int64_t end = c + 1;
            while (gap == 0 && end < columns && cells[r * columns + end] == wanted)
                end++;
            if (!any)
                PUT(page, "<path class=\"%s%d\" d=\"", prefix, wanted);
            any = true;
            PUT(page, "M%.1f %.1fh%.1fv%.1fh-%.1fz", LEFT + (double)c * width, (double)r * height,
                (double)(end - c) * width - gap, height - (gap > 0 ? 1 : 0.5), (double)(end - c) * width - gap);
            c = end - 1;
        }
    if (any)
        PUT(page, "\"/>\n");
}

void sgm_svg_load_map(sgm_page *page, const sgm_report_snapshot *snapshot, int64_t layers, int64_t experts,
                      bool in_turn) {
    int *cells = sgm_alloc((size_t)(layers * experts) * sizeof *cells);
    if (!cells) {
        page->status = SGM_EMEMORY;
        return;
    }
    for (int64_t i = 0; i < layers * experts; i++)
        cells[i] = load_class(snapshot->share[i]);
    double height = row_height(layers, 26), width = (double)(WIDTH - LEFT) / (double)experts;
    PUT(page,
        "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"load of %lld experts in %lld layers at step %lld\">\n",
        WIDTH, (double)layers * height + 26, (long long)experts, (long long)layers, (long long)snapshot->step);
    row_labels(page, layers, height, in_turn);
    for (int c = 0; c < CLASSES; c++)
        write_class(page, cells, layers, experts, c, width, height, "h", width > 4 ? 1 : 0);
    double ticks[12];
    size_t count = sgm_svg_ticks(0, (double)(experts - 1), 8, ticks);
    for (size_t i = 0; i < count; i++)
        PUT(page, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n",
            LEFT + (ticks[i] + 0.5) * width, (double)layers * height + 17, ticks[i]);
    PUT(page, "</svg>\n");
    sgm_free(cells);
}

void sgm_svg_load_key(sgm_page *page) {
    PUT(page, "<div class=\"key\"><span>load over the fair share:</span>");
    for (int c = 0; c < CLASSES; c++)
        PUT(page, "<span><svg viewBox=\"0 0 12 12\"><path class=\"h%d\" d=\"M0 0h12v12h-12z\"/></svg>%s</span>", c,
            load_names[c]);
    PUT(page, "</div>\n");
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
    row_labels(page, grid->rows, height, grid->in_turn);
    for (int c = 0; c < CLASSES; c++)
        write_class(page, cells, grid->rows, grid->columns, c, width, height, "s", 0);
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
