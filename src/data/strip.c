// SPDX-License-Identifier: Apache-2.0
/* HTML and roff to plain text. See strip.h.
 *
 * Both work as one pass over the bytes into a small state that joins white space: `space` and `lines` are owed to the
 * output and paid when the next visible byte comes, so that blank runs never pile up. */
#include "data/strip.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

typedef struct text_out {
    sgm_buffer *buffer;
    size_t start;
    bool space;
    int lines;
    sgm_status status;
} text_out;

static void out_bytes(text_out *out, const char *bytes, size_t size) {
    if (out->status != SGM_OK || size == 0)
        return;
    if (out->buffer->size > out->start) {
        if (out->lines)
            out->status = sgm_buffer_add(out->buffer, "\n\n", out->lines > 1 ? 2 : 1);
        else if (out->space)
            out->status = sgm_buffer_add(out->buffer, " ", 1);
    }
    out->space = false;
    out->lines = 0;
    if (out->status == SGM_OK)
        out->status = sgm_buffer_add(out->buffer, bytes, size);
}

static void out_break(text_out *out, int lines) {
    out->lines = out->lines > lines ? out->lines : lines;
}

static sgm_status out_end(text_out *out) {
    if (out->status == SGM_OK && out->buffer->size > out->start)
        out->status = sgm_buffer_add(out->buffer, "\n", 1);
    return out->status;
}

sgm_status sgm_strip_none(const char *text, size_t size, sgm_buffer *out) {
    return size ? sgm_buffer_add(out, text, size) : SGM_OK;
}

/* ---- HTML ------------------------------------------------------------------------------------------------------ */

/* Code point as UTF-8; 0 bytes for what is none. */
static size_t utf8_put(unsigned long code, char out[4]) {
    bool none = code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF);
    return none ? 0 : sgm_utf8_encode((uint32_t)code, out);
}

/* An entity at `text` ("&…;"): its length in the input, and its text. 0 when it is none. */
static size_t entity(const char *text, size_t size, char out[4], size_t *out_size) {
    static const struct {
        const char *name;
        unsigned long code;
    } known[] = {{"amp", '&'},      {"lt", '<'},       {"gt", '>'},        {"quot", '"'},     {"apos", '\''},
                 {"nbsp", ' '},     {"copy", 0xA9},    {"reg", 0xAE},      {"para", 0xB6},    {"sect", 0xA7},
                 {"mdash", 0x2014}, {"ndash", 0x2013}, {"hellip", 0x2026}, {"lsquo", 0x2018}, {"rsquo", 0x2019},
                 {"ldquo", 0x201C}, {"rdquo", 0x201D}, {"rarr", 0x2192},   {"larr", 0x2190},  {"times", 0xD7},
                 {"deg", 0xB0},     {"middot", 0xB7},  {"bull", 0x2022},   {"le", 0x2264},    {"ge", 0x2265},
                 {"laquo", 0xAB},   {"raquo", 0xBB},   {"eacute", 0xE9},   {"auml", 0xE4},    {"ouml", 0xF6},
                 {"uuml", 0xFC},    {"szlig", 0xDF}};
    const char *end = memchr(text, ';', size < 12 ? size : 12);
    if (!end || end - text < 2)
        return 0;
    char name[12] = {0};
    memcpy(name, text + 1, (size_t)(end - text - 1));
    unsigned long code = 0;
    if (name[0] == '#')
        code = name[1] == 'x' || name[1] == 'X' ? strtoul(name + 2, NULL, 16) : strtoul(name + 1, NULL, 10);
    for (size_t i = 0; name[0] != '#' && i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            code = known[i].code;
    if (code == 0xA0)
        code = ' ';
    *out_size = utf8_put(code, out);
    return *out_size ? (size_t)(end - text) + 1 : 0;
}

static bool name_in(const char *name, size_t size, const char *const *list) {
    for (; *list; list++)
        if (strlen(*list) == size && strncasecmp(name, *list, size) == 0)
            return true;
    return false;
}

/* Behind the closing tag of `name`, or the end. */
static size_t skip_element(const char *text, size_t size, size_t at, const char *name, size_t name_size) {
    for (; at + name_size + 2 <= size; at++)
        if (text[at] == '<' && text[at + 1] == '/' && strncasecmp(text + at + 2, name, name_size) == 0) {
            const char *end = memchr(text + at, '>', size - at);
            return end ? (size_t)(end - text) + 1 : size;
        }
    return size;
}

/* A tag at text[at] = '<': the place behind it. */
static size_t html_tag(const char *text, size_t size, size_t at, bool *pre, text_out *out) {
    static const char *const hidden[] = {"script", "style", "head", "nav", "footer", "svg", "select", "button", NULL};
    static const char *const paragraphs[] = {"p",     "div",     "h1",      "h2",         "h3", "h4",
                                             "h5",    "h6",      "pre",     "ul",         "ol", "dl",
                                             "table", "section", "article", "blockquote", NULL};
    static const char *const lines[] = {"br", "li", "dt", "dd", "tr", "hr", NULL};
    if (size - at >= 4 && memcmp(text + at, "<!--", 4) == 0) {
        const char *end = memmem(text + at + 4, size - at - 4, "-->", 3);
        return end ? (size_t)(end - text) + 3 : size;
    }
    const char *close = memchr(text + at, '>', size - at);
    size_t after = close ? (size_t)(close - text) + 1 : size, name = at + 1;
    bool ends = name < after && text[name] == '/';
    name += ends;
    size_t length = 0;
    while (name + length < after &&
           strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", text[name + length]) &&
           text[name + length])
        length++;
    if (length == 0)
        return after; /* <!DOCTYPE …>, <?xml …?> */
    if (!ends && after >= 2 && name_in(text + name, length, hidden) && text[after - 2] != '/')
        return skip_element(text, size, after, text + name, length);
    if (name_in(text + name, length, paragraphs))
        out_break(out, 2);
    else if (name_in(text + name, length, lines))
        out_break(out, 1);
    else if (length == 2 && strncasecmp(text + name, "td", 2) == 0)
        out->space = true;
    if (length == 3 && strncasecmp(text + name, "pre", 3) == 0)
        *pre = !ends;
    return after;
}

sgm_status sgm_strip_html(const char *text, size_t size, sgm_buffer *buffer) {
    text_out out = {.buffer = buffer, .start = buffer->size, .status = SGM_OK};
    bool pre = false;
    for (size_t at = 0; at < size && out.status == SGM_OK;) {
        char c = text[at], bytes[4];
        size_t used, count;
        if (c == '<') {
            at = html_tag(text, size, at, &pre, &out);
        } else if (c == '&' && (used = entity(text + at, size - at, bytes, &count)) > 0) {
            if (bytes[0] == ' ' && !pre)
                out.space = true;
            else
                out_bytes(&out, bytes, count);
            at += used;
        } else if (c == '\n' && pre) {
            out.lines = out.lines < 2 ? out.lines + 1 : 2;
            at++;
        } else if (strchr(" \t\r\n\f", c) && c && !(pre && c == ' ')) {
            out.space = true;
            at++;
        } else {
            size_t end = at + 1; /* a run of plain bytes at once */
            while (end < size && !strchr("<& \t\r\n\f", text[end]))
                end++;
            out_bytes(&out, text + at, end - at);
            at = end;
        }
    }
    return out_end(&out);
}

/* ---- roff ------------------------------------------------------------------------------------------------------ */

/* Escapes of one line: fonts and sizes vanish, characters become themselves. */
static void roff_text(text_out *out, const char *line, size_t size) {
    static const struct {
        char name[3];
        const char *text;
    } known[] = {{"aq", "'"},
                 {"dq", "\""},
                 {"lq", "\xE2\x80\x9C"},
                 {"rq", "\xE2\x80\x9D"},
                 {"oq", "\xE2\x80\x98"},
                 {"cq", "\xE2\x80\x99"},
                 {"em", "\xE2\x80\x94"},
                 {"en", "\xE2\x80\x93"},
                 {"bu", "\xE2\x80\xA2"},
                 {"co", "\xC2\xA9"},
                 {"ha", "^"},
                 {"ti", "~"},
                 {"ga", "`"},
                 {"rs", "\\"},
                 {"->", "\xE2\x86\x92"}};
    for (size_t i = 0; i < size; i++) {
        if (line[i] != '\\' || i + 1 >= size) {
            out_bytes(out, line + i, 1);
            continue;
        }
        char c = line[++i];
        if (c == '"')
            return; /* a comment to the line's end */
        if (c == 'f' || c == '*' || c == 's' || c == 'm' || c == 'F') {
            i++;
            if (i < size && line[i] == '(')
                i += 2;
            else if (i < size && line[i] == '[')
                while (i < size && line[i] != ']')
                    i++;
            else if (c == 's' && i + 1 < size && (line[i] == '-' || line[i] == '+'))
                i++;
        } else if (c == '(' && i + 2 < size) {
            for (size_t k = 0; k < sizeof known / sizeof *known; k++)
                if (memcmp(known[k].name, line + i + 1, 2) == 0)
                    out_bytes(out, known[k].text, strlen(known[k].text));
            i += 2;
        } else if (c == '-' || c == 'e' || c == '\\') {
            out_bytes(out, c == '-' ? "-" : "\\", 1);
        } else if (c == ' ' || c == '~' || c == '0' || c == 't') {
            out_bytes(out, " ", 1);
        } /* \&, \|, \^, \c, \/ and the rest show nothing */
    }
}

/* The arguments of a macro line, quotes removed; `join`: without a space between them (.BR and its kin). */
static void roff_arguments(text_out *out, const char *line, size_t size, bool join) {
    bool first = true;
    for (size_t at = 0; at < size;) {
        while (at < size && (line[at] == ' ' || line[at] == '\t'))
            at++;
        if (at >= size)
            break;
        if (!first && !join)
            out->space = true;
        first = false;
        bool quoted = line[at] == '"';
        size_t begin = at += quoted;
        while (at < size && (quoted ? line[at] != '"' : line[at] != ' ' && line[at] != '\t'))
            at += line[at] == '\\' && at + 1 < size ? 2 : 1;
        roff_text(out, line + begin, (at < size ? at : size) - begin);
        at += quoted;
    }
}

static bool macro_is(const char *name, size_t size, const char *list) {
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, " ");
        if (length == size && memcmp(at, name, size) == 0)
            return true;
        at += length + (at[length] == ' ');
    }
    return false;
}

static void roff_macro(text_out *out, const char *line, size_t size, bool *filled) {
    size_t name = 1, length = 0;
    while (name < size && line[name] == ' ')
        name++;
    while (name + length < size && line[name + length] != ' ' && line[name + length] != '\t')
        length++;
    const char *at = line + name;
    size_t rest = name + length;
    if (macro_is(at, length, "SH SS Sh Ss")) {
        out_break(out, 2);
        roff_arguments(out, line + rest, size - rest, false);
        out_break(out, 1);
    } else if (macro_is(at, length, "PP P LP IP TP HP Pp sp TQ It RS RE")) {
        out_break(out, macro_is(at, length, "TP It IP TQ") ? 1 : 2);
        if (macro_is(at, length, "IP It"))
            roff_arguments(out, line + rest, size - rest, false);
    } else if (macro_is(at, length, "B I R SM SB Nm Fl Ar Xr Em Pa Dv Va Ic Cm Nd Fn")) {
        out->space = true;
        roff_arguments(out, line + rest, size - rest, false);
    } else if (macro_is(at, length, "BR BI IB IR RB RI")) {
        out->space = true;
        roff_arguments(out, line + rest, size - rest, true);
    } else if (macro_is(at, length, "nf EX Bd")) {
        *filled = false;
        out_break(out, 1);
    } else if (macro_is(at, length, "fi EE Ed")) {
        *filled = true;
        out_break(out, 1);
    } else if (macro_is(at, length, "br")) {
        out_break(out, 1);
    } /* definitions, conditions, indexes and layout show nothing */
    if (!*filled)
        out_break(out, 1);
}

sgm_status sgm_strip_roff(const char *text, size_t size, sgm_buffer *buffer) {
    text_out out = {.buffer = buffer, .start = buffer->size, .status = SGM_OK};
    bool filled = true, table = false;
    for (size_t at = 0; at < size && out.status == SGM_OK;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t end = newline ? (size_t)(newline - text) : size;
        const char *line = text + at;
        size_t length = end - at;
        at = end + 1;
        if (length >= 3 && (memcmp(line, ".TS", 3) == 0 || memcmp(line, ".TE", 3) == 0))
            table = line[2] == 'S';
        else if (length && !table && (line[0] == '.' || line[0] == '\''))
            roff_macro(&out, line, length, &filled);
        else if (length == 0)
            out_break(&out, 2);
        else if (!table) {
            out.space = true;
            roff_text(&out, line, length);
            if (!filled)
                out_break(&out, 1);
        }
    }
    return out_end(&out);
}
