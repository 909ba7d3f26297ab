// SPDX-License-Identifier: Apache-2.0
/* A page being written: its head, and text made safe for it. */
#include <string.h>

#include "base/utf8.h"
#include "train/report.h"

void sgm_page_text(sgm_page *page, const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t length = sgm_utf8_length(text + i, size - i);
        unsigned char c = (unsigned char)text[i];
        if (length == 0 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            PUT(page, "&#xfffd;");
        else if (c == '&' || c == '<' || c == '>' || c == '"')
            PUT(page, "&#%d;", c);
        else
            PUT(page, "%.*s", (int)length, text + i);
        i += length ? length : 1;
    }
}

void sgm_page_string(sgm_page *page, const char *text) {
    sgm_page_text(page, text, strlen(text));
}

void sgm_page_begin(sgm_page *page, const char *title) {
    PUT(page, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
              "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
              "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
              "'unsafe-inline'\">\n<title>");
    sgm_page_string(page, title);
    PUT(page, " · sigmoe</title>\n<style>%s", sgm_report_style);
}
