// SPDX-License-Identifier: Apache-2.0
/* A drawing as an SVG file of its own, to be shown where no style sheet reaches: on a page of documentation, in a slide. It is made
 * of the same drawings as a page; the colours that these name are resolved when the file ends, so that it needs neither
 * variables nor a dark ground's other colours. */
#include <string.h>

#include "train/report.h"

void sgm_picture_begin(sgm_page *page, double width, double height) {
    PUT(page,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n"
        "<style>text{font-family:system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif;fill:var(--ink)}"
        ".title{font-size:15px;font-weight:650}.note{font-size:12.5px;fill:var(--dim)}\n%s</style>\n"
        "<rect width=\"%.0f\" height=\"%.0f\" style=\"fill:var(--card)\"/>\n",
        width, height, width, height, sgm_svg_style, width, height);
}

void sgm_picture_heading(sgm_page *page, double x, double y, const char *title, const char *note) {
    PUT(page, "<text class=\"title\" x=\"%.1f\" y=\"%.1f\">", x, y);
    sgm_page_string(page, title);
    PUT(page, "</text>\n");
    if (!note)
        return;
    PUT(page, "<text class=\"note\" x=\"%.1f\" y=\"%.1f\">", x, y + 18);
    sgm_page_string(page, note);
    PUT(page, "</text>\n");
}

/* What --NAME stands for, and how long that is; `name` is followed by ')'. NULL: no colour of that name. */
static const char *colour_named(const char *name, size_t size, size_t *length) {
    for (const char *at = sgm_svg_colours; at && *at;) {
        const char *colon = strchr(at, ':');
        if (colon && (size_t)(colon - at) == size && memcmp(at, name, size) == 0) {
            *length = strcspn(colon + 1, ";");
            return colon + 1;
        }
        at = strchr(at, ';');
        at += at != NULL;
    }
    return NULL;
}

static void resolve_colours(sgm_page *page) {
    static const char open[] = "var(";
    sgm_buffer out = {0};
    const char *at = page->buffer.data, *end = at + page->buffer.size;
    while (at < end && !page->status) {
        size_t length = 0, size = 0;
        const char *next = strstr(at, open), *colour = NULL; /* a buffer ends in 0 */
        if (next) {
            size = strcspn(next + sizeof open - 1, ")");
            colour = colour_named(next + sizeof open - 1, size, &length);
        }
        size_t before = (size_t)((next ? next : end) - at);
        page->status = sgm_buffer_add(&out, at, before);
        if (!page->status && next) /* what is no colour of ours stays */
            page->status = colour ? sgm_buffer_add(&out, colour, length) : sgm_buffer_add(&out, open, sizeof open - 1);
        at += before + (!next ? 0 : colour ? sizeof open - 1 + size + 1 : sizeof open - 1);
    }
    sgm_buffer_free(&page->buffer);
    page->buffer = out;
}

void sgm_picture_end(sgm_page *page) {
    PUT(page, "</svg>\n");
    if (!page->status)
        resolve_colours(page);
}
