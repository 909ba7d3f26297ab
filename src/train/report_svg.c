// SPDX-License-Identifier: Apache-2.0
/* Line charts as inline SVG. Labels stand at the right end of their line, pushed apart where they would overlap. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text_print.h"
#include "train/report.h"

/* Geometry in the units of the viewBox; a chart is half the page wide. */
enum {
    WIDTH = SGM_SVG_CHART_WIDTH,
    HEIGHT = SGM_SVG_CHART_HEIGHT,
    LEFT = 56,
    RIGHT = 136, /* with labels */
    RIGHT_WIDE = 20,
    TOP = 14,
    BOTTOM = 34,
    LABEL_GAP = 14,
    MOST_LABELS = 16,
    COLOURS = 8
};

typedef struct frame {
    double x_min, x_max, y_min, y_max;
    bool log_y, whole_x, wide;
    int right; /* edge of the plot */
} frame;

size_t sgm_svg_ticks(double low, double high, int wanted, double *ticks) {
    if (!(high > low) || wanted < 1) {
        ticks[0] = low;
        return 1;
    }
    double raw = (high - low) / wanted, power = pow(10, floor(log10(raw))), unit = raw / power;
    double step = power * (unit < 1.5 ? 1 : unit < 3.5 ? 2 : unit < 7.5 ? 5 : 10);
    size_t count = 0;
    for (double at = ceil(low / step - 1e-9); at * step <= high + 1e-9 * step && count < 12; at++)
        ticks[count++] = at * step + 0.0; /* no −0 */
    return count;
}

static double scale_y(const frame *f, double y) {
    double low = f->log_y ? log10(f->y_min) : f->y_min, high = f->log_y ? log10(f->y_max) : f->y_max;
    double at = f->log_y ? log10(y < f->y_min ? f->y_min : y) : y;
    double share = high > low ? (at - low) / (high - low) : 0.5;
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
}

static double scale_x(const frame *f, double x) {
    double share = f->x_max > f->x_min ? (x - f->x_min) / (f->x_max - f->x_min) : 0.5;
    return LEFT + (f->right - LEFT) * share;
}

static frame find_frame(const sgm_svg_chart *chart) {
    frame f = {.x_min = chart->x_min,
               .x_max = chart->x_max,
               .y_min = INFINITY,
               .y_max = -INFINITY,
               .log_y = chart->log_y,
               .whole_x = chart->whole_x,
               .wide = chart->wide,
               .right = WIDTH - (chart->wide ? RIGHT_WIDE : RIGHT)};
    for (size_t s = 0; s < chart->count; s++)
        for (size_t i = 0; i < chart->series[s].count; i++) {
            double y = chart->series[s].y[i];
            if (!isfinite(y) || (f.log_y && y <= 0))
                continue;
            f.y_min = fmin(f.y_min, y);
            f.y_max = fmax(f.y_max, y);
        }
    for (size_t b = 0; b < chart->band_count; b++)
        for (size_t i = 0; i < chart->bands[b].count; i++)
            if (isfinite(chart->bands[b].low[i]) && isfinite(chart->bands[b].high[i]) &&
                (!f.log_y || chart->bands[b].low[i] > 0)) {
                f.y_min = fmin(f.y_min, chart->bands[b].low[i]);
                f.y_max = fmax(f.y_max, chart->bands[b].high[i]);
            }
    if (!isfinite(f.y_min)) {
        f.y_min = f.log_y ? 0.1 : 0;
        f.y_max = 1;
    }
    if (isfinite(chart->y_low))
        f.y_min = fmin(f.y_min, chart->y_low);
    if (isfinite(chart->y_high))
        f.y_max = fmax(f.y_max, chart->y_high);
    if (f.log_y) {
        f.y_min /= 1.1;
        f.y_max *= 1.1;
    } else {
        double pad = f.y_max > f.y_min ? 0.03 * (f.y_max - f.y_min) : fmax(fabs(f.y_max) * 0.1, 1e-9);
        if (!isfinite(chart->y_low) || f.y_min < chart->y_low)
            f.y_min -= pad;
        f.y_max += pad;
    }
    return f;
}

/* 0.0003 → 3e-4, 1200 → 1,200, 2.50 → 2.5 */
static void number(char *text, size_t room, double value) {
    double size = fabs(value);
    if (value != 0 && (size < 0.001 || size >= 1e6)) {
        int power = (int)floor(log10(size) + 1e-9);
        double lead = value / pow(10, power);
        if (size >= 1e6 && size < 1e12)
            sgm_text_print(text, room, "%.4g %s", value / (size < 1e9 ? 1e6 : 1e9), size < 1e9 ? "M" : "G");
        else
            sgm_text_print(text, room, "%.3ge%d", lead, power);
    } else if (size >= 10000) {
        sgm_text_print(text, room, "%.0f,%03.0f", trunc(value / 1000), fmod(size, 1000));
    } else {
        sgm_text_print(text, room, "%.4g", value);
    }
}

static void write_axes(sgm_page *page, const frame *f, const char *x_name) {
    double ticks[12];
    char text[32];
    size_t count;
    if (f->log_y && log10(f->y_max / f->y_min) > 1.2) {
        /* 1, 2 and 5 of each decade, or the decades alone where there are many. */
        static const double parts[] = {1, 2, 5};
        size_t step = log10(f->y_max / f->y_min) < 3 ? 1 : 3;
        count = 0;
        for (int power = (int)floor(log10(f->y_min)); power <= (int)floor(log10(f->y_max)); power++)
            for (size_t i = 0; i < 3 && count < 12; i += step) {
                double at = parts[i] * pow(10, power);
                if (at >= f->y_min && at <= f->y_max)
                    ticks[count++] = at;
            }
    } else {
        count = sgm_svg_ticks(f->y_min, f->y_max, 5, ticks);
    }
    for (size_t i = 0; i < count; i++) {
        double y = scale_y(f, ticks[i]);
        number(text, sizeof text, ticks[i]);
        PUT(page,
            "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" "
            "text-anchor=\"end\">%s</text>\n",
            LEFT, y, f->right, LEFT - 7, y + 4, text);
    }
    count = sgm_svg_ticks(f->x_min, f->x_max, 5, ticks);
    for (size_t i = 0; i < count; i++) {
        double x = scale_x(f, ticks[i]);
        if (f->whole_x && ticks[i] != floor(ticks[i]))
            continue;
        number(text, sizeof text, ticks[i]);
        PUT(page,
            "<path class=\"axis\" d=\"M%.1f %dv4\"/><text class=\"tick\" x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"middle\">%s</text>\n",
            x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 17, text);
    }
    PUT(page, "<path class=\"axis\" d=\"M%d %dH%d\"/>", LEFT, HEIGHT - BOTTOM, f->right);
    if (f->wide)
        PUT(page, "<text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", f->right, HEIGHT - 2,
            x_name);
    else
        PUT(page, "<text class=\"tick\" x=\"%d\" y=\"%d\">%s</text>\n", f->right + 22, HEIGHT - BOTTOM + 17, x_name);
}

/* Colour of a series: one of eight, or mixed along the layer scale. */
static void colour(char *text, size_t room, const sgm_svg_series *series) {
    if (series->colour == SGM_SVG_FLOOR)
        snprintf(text, room, "var(--ink)");
    else if (series->depth >= 0)
        sgm_text_print(text, room, "color-mix(in oklab,var(--deep) %.0f%%,var(--shallow))", 100 * series->depth);
    else
        snprintf(text, room, "var(--c%d)", series->colour % COLOURS);
}

/* There along the high side, back along the low one. Points where either is missing are left out. */
static void write_band(sgm_page *page, const frame *f, const sgm_svg_band *band) {
    bool pen = false;
    PUT(page, "<path class=\"band\" style=\"fill:var(--c%d)\" d=\"", band->colour % COLOURS);
    for (size_t i = 0; i < 2 * band->count; i++) {
        size_t at = i < band->count ? i : 2 * band->count - 1 - i;
        double y = i < band->count ? band->high[at] : band->low[at];
        if (!isfinite(band->low[at]) || !isfinite(band->high[at]) || (f->log_y && y <= 0))
            continue;
        PUT(page, "%c%.1f %.1f", pen ? 'L' : 'M', scale_x(f, band->x[at]), scale_y(f, y));
        pen = true;
    }
    PUT(page, "\"/>\n");
}

static void write_line(sgm_page *page, const frame *f, const sgm_svg_series *series, const char *x_name) {
    char stroke[96];
    colour(stroke, sizeof stroke, series);
    size_t drawn = 0;
    bool pen = false;
    /* What comes after the last colour begins again with dashes. */
    int round = series->depth >= 0 || series->colour == SGM_SVG_FLOOR ? 0 : series->colour / COLOURS;
    PUT(page, "<path class=\"line%s%s\" style=\"stroke:%s\" d=\"", series->faint ? " faint" : "",
        series->colour == SGM_SVG_FLOOR ? " floor"
        : round == 0                    ? ""
        : round == 1                    ? " dash"
                                        : " dot",
        stroke);
    for (size_t i = 0; i < series->count; i++) {
        double y = series->y[i];
        if (!isfinite(y) || !isfinite(series->x[i]) || (f->log_y && y <= 0)) {
            pen = false;
            continue;
        }
        PUT(page, "%c%.1f %.1f", pen ? 'L' : 'M', scale_x(f, series->x[i]), scale_y(f, y));
        pen = true;
        drawn++;
    }
    PUT(page, "\"/>\n");
    if (!series->points && drawn != 1)
        return;
    for (size_t i = 0; i < series->count; i++)
        if (isfinite(series->y[i]) && isfinite(series->x[i])) {
            char value[32];
            number(value, sizeof value, series->y[i]);
            PUT(page,
                "<circle style=\"fill:%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>%s %.6g: %s</title></circle>\n",
                stroke, scale_x(f, series->x[i]), scale_y(f, series->y[i]), series->count > 40 ? "1.6" : "2.6", x_name,
                series->x[i], value);
        }
}

typedef struct end_label {
    const sgm_svg_series *series;
    double y, value;
} end_label;

static void write_labels(sgm_page *page, const sgm_svg_chart *chart, const frame *f) {
    end_label labels[MOST_LABELS];
    size_t count = 0;
    for (size_t s = 0; s < chart->count && count < MOST_LABELS; s++) {
        const sgm_svg_series *series = &chart->series[s];
        size_t last = series->count;
        while (last > 0 && !isfinite(series->y[last - 1]))
            last--;
        if (!series->label || last == 0)
            continue;
        end_label label = {series, scale_y(f, series->y[last - 1]), series->y[last - 1]};
        size_t at = count++;
        for (; at > 0 && labels[at - 1].y > label.y; at--) /* sorted downwards */
            labels[at] = labels[at - 1];
        labels[at] = label;
    }
    /* Push down what overlaps, then everything up again from the bottom edge. */
    for (size_t i = 1; i < count; i++)
        labels[i].y = fmax(labels[i].y, labels[i - 1].y + LABEL_GAP);
    double floor_y = HEIGHT - BOTTOM;
    for (size_t i = count; i-- > 0; floor_y = labels[i].y - LABEL_GAP)
        labels[i].y = fmin(labels[i].y, floor_y);
    for (size_t i = 0; i < count; i++) {
        char fill[96], value[32];
        colour(fill, sizeof fill, labels[i].series);
        number(value, sizeof value, labels[i].value);
        PUT(page, "<text class=\"label\" style=\"fill:%s\" x=\"%d\" y=\"%.1f\">", fill, WIDTH - RIGHT + 8,
            labels[i].y + 4);
        sgm_page_text(page, labels[i].series->label, strlen(labels[i].series->label));
        PUT(page, " <tspan class=\"value\">%s</tspan></text>\n", value);
    }
}

void sgm_svg_chart_draw(sgm_page *page, const sgm_svg_chart *chart) {
    frame f = find_frame(chart);
    const char *x_name = chart->x_name ? chart->x_name : "step";
    write_axes(page, &f, x_name);
    for (size_t b = 0; b < chart->band_count; b++)
        write_band(page, &f, &chart->bands[b]);
    for (size_t s = 0; s < chart->count; s++)
        write_line(page, &f, &chart->series[s], x_name);
    write_labels(page, chart, &f);
    if (!chart->depth_key)
        return;
    int x = WIDTH - RIGHT + 12;
    for (int i = 0; i < 20; i++)
        PUT(page,
            "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"6.5\" "
            "style=\"fill:color-mix(in oklab,var(--deep) %d%%,var(--shallow))\"/>\n",
            x, TOP + 6 + 6 * i, 100 * i / 19);
    PUT(page,
        "<text class=\"tick\" x=\"%d\" y=\"%d\">first layer</text><text class=\"tick\" x=\"%d\" y=\"%d\">last "
        "layer</text>\n",
        x + 16, TOP + 15, x + 16, TOP + 126);
}

void sgm_svg_chart_write(sgm_page *page, const sgm_svg_chart *chart) {
    PUT(page, "<figure><figcaption><b>");
    sgm_page_string(page, chart->title);
    PUT(page, "</b>");
    if (chart->note) {
        PUT(page, "<span>");
        sgm_page_string(page, chart->note);
        PUT(page, "</span>");
    }
    PUT(page, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    sgm_page_string(page, chart->title);
    PUT(page, "\">\n");
    sgm_svg_chart_draw(page, chart);
    PUT(page, "</svg></figure>\n");
}
