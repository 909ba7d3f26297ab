// SPDX-License-Identifier: Apache-2.0
/* Split patterns that have no hand-written matcher, by PCRE2 with UTF, Unicode properties and JIT.
 *
 * tokenizer.json files are written for Oniguruma in Ruby syntax. Where PCRE2 reads the same text differently it is
 * rewritten: \s \w \d \h and their opposites, ^ and $ at every line.
 * A pattern comes from a file that may be hostile: backtracking is limited, \C is refused, and a search sees at most
 * WINDOW bytes ahead, so that a pattern that scans to the end from everywhere costs a bounded amount per byte. One
 * match is therefore at most WINDOW bytes long. PCRE2 sees valid UTF-8 only (the caller cuts at other bytes). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "text/tokenizer.h"

#define WINDOW ((size_t)16384)
#define MATCH_LIMIT 200000
#define LONGEST_PATTERN ((size_t)16384)

struct sgm_pattern {
    pcre2_general_context *memory;
    pcre2_code *code;
    bool jit;
};

struct sgm_pattern_state {
    const sgm_pattern *pattern;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void *take_memory(PCRE2_SIZE size, void *unused) {
    (void)unused;
    return sgm_alloc(size);
}
static void give_memory(void *block, void *unused) {
    (void)unused;
    sgm_free(block);
}

/* The PCRE2 spelling of Oniguruma's \c, inside or outside a [class]; NULL: it stays as it is. */
static const char *escape_meaning(char c, bool in_class) {
    switch (c) {
    case 's':
        return "\\p{White_Space}";
    case 'S':
        return "\\P{White_Space}";
    case 'd':
        return "\\p{Nd}";
    case 'D':
        return "\\P{Nd}";
    case 'w':
        return in_class ? "\\p{L}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]";
    case 'W':
        return in_class ? "" : "[^\\p{L}\\p{M}\\p{Nd}\\p{Pc}]";
    case 'h':
        return in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]";
    case 'H':
        return in_class ? "" : "[^0-9A-Fa-f]";
    default:
        return NULL;
    }
}

static sgm_status translate(const char *regex, size_t size, sgm_buffer *out, sgm_error *error) {
    bool in_class = false;
    for (size_t i = 0; i < size; i++) {
        char c = regex[i];
        sgm_status status;
        if (c == '\\' && i + 1 < size) {
            const char *meaning = escape_meaning(regex[i + 1], in_class);
            if (meaning && !*meaning)
                return sgm_fail(error, SGM_EFORMAT, "write the class without \\W and \\H",
                                "split pattern, byte %zu: \\%c inside [...] is not supported", i, regex[i + 1]);
            status = meaning ? sgm_buffer_add(out, meaning, strlen(meaning)) : sgm_buffer_add(out, regex + i, 2);
            i++;
        } else {
            if (in_class && c == '&' && i + 1 < size && regex[i + 1] == '&')
                return sgm_fail(error, SGM_EFORMAT, "write the class without &&",
                                "split pattern, byte %zu: intersections of classes are not supported", i);
            if (in_class && c == '[' && (i + 1 >= size || regex[i + 1] != ':'))
                return sgm_fail(error, SGM_EFORMAT, "write the class without an inner [...]",
                                "split pattern, byte %zu: nested classes are not supported", i);
            if (c == '[' && in_class) { /* [:name:] */
                size_t close = i + 2;
                while (close + 1 < size && !(regex[close] == ':' && regex[close + 1] == ']'))
                    close++;
                close = close + 1 < size ? close + 1 : size - 1;
                status = sgm_buffer_add(out, regex + i, close - i + 1);
                i = close;
            } else {
                status = sgm_buffer_add(out, &c, 1);
                if (c == '[') {
                    in_class = true;
                    if (!status && i + 1 < size && regex[i + 1] == '^')
                        status = sgm_buffer_add(out, &regex[++i], 1);
                    if (!status && i + 1 < size && regex[i + 1] == ']') /* a first ] is a character */
                        status = sgm_buffer_add(out, &regex[++i], 1);
                } else if (c == ']') {
                    in_class = false;
                }
            }
        }
        if (status)
            return sgm_fail(error, status, NULL, "not enough memory for a split pattern");
    }
    return SGM_OK;
}

static sgm_status compile(sgm_pattern *pattern, const char *regex, size_t size, bool literal, sgm_error *error) {
    pcre2_compile_context *context = pcre2_compile_context_create(pattern->memory);
    if (!context)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a split pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    uint32_t options =
        literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    int code;
    PCRE2_SIZE offset;
    pattern->code = pcre2_compile((PCRE2_SPTR)regex, size, options, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!pattern->code) {
        char text[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return sgm_fail(error, SGM_EFORMAT, "is this regular expression meant for another engine?",
                        "split pattern does not compile, at byte %zu: %s: %.200s", (size_t)offset, text, regex);
    }
    /* Where there is no JIT (or it does not know a construct) the interpreter does the work. */
    pattern->jit = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
    return SGM_OK;
}

sgm_status sgm_pattern_new(const char *regex, size_t size, bool literal, sgm_pattern **pattern, sgm_error *error) {
    *pattern = NULL;
    if (!size || size > LONGEST_PATTERN)
        return sgm_fail(error, SGM_EFORMAT, NULL, "split pattern of %zu bytes (1 to %zu are allowed)", size,
                        LONGEST_PATTERN);
    sgm_pattern *made = sgm_alloc(sizeof *made);
    if (made)
        made->memory = pcre2_general_context_create(take_memory, give_memory, NULL);
    if (!made || !made->memory) {
        sgm_free(made);
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a split pattern");
    }
    sgm_buffer rewritten = {0};
    sgm_status status = literal ? SGM_OK : translate(regex, size, &rewritten, error);
    if (!status)
        status = literal ? compile(made, regex, size, true, error)
                         : compile(made, rewritten.data, rewritten.size, false, error);
    sgm_buffer_free(&rewritten);
    if (status) {
        sgm_pattern_free(made);
        return status;
    }
    *pattern = made;
    return SGM_OK;
}

void sgm_pattern_free(sgm_pattern *pattern) {
    if (!pattern)
        return;
    pcre2_code_free(pattern->code);
    pcre2_general_context_free(pattern->memory);
    sgm_free(pattern);
}

sgm_status sgm_pattern_state_new(const sgm_pattern *pattern, sgm_pattern_state **state, sgm_error *error) {
    *state = NULL;
    sgm_pattern_state *made = sgm_alloc(sizeof *made);
    if (!made)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to split text");
    made->pattern = pattern;
    made->data = pcre2_match_data_create_from_pattern(pattern->code, pattern->memory);
    made->context = pcre2_match_context_create(pattern->memory);
    made->stack = pattern->jit ? pcre2_jit_stack_create(32 << 10, 1 << 20, pattern->memory) : NULL;
    if (!made->data || !made->context || (pattern->jit && !made->stack)) {
        sgm_pattern_state_free(made);
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to split text");
    }
    pcre2_set_match_limit(made->context, MATCH_LIMIT);
    pcre2_set_depth_limit(made->context, MATCH_LIMIT);
    pcre2_set_heap_limit(made->context, 64 << 10); /* KiB */
    if (made->stack)
        pcre2_jit_stack_assign(made->context, NULL, made->stack);
    *state = made;
    return SGM_OK;
}

void sgm_pattern_state_free(sgm_pattern_state *state) {
    if (!state)
        return;
    pcre2_jit_stack_free(state->stack);
    pcre2_match_context_free(state->context);
    pcre2_match_data_free(state->data);
    sgm_free(state);
}

static size_t whole_characters(const char *text, size_t end, size_t size) {
    while (end < size && ((unsigned char)text[end] & 0xC0) == 0x80)
        end++;
    return end;
}

sgm_status sgm_pattern_find(sgm_pattern_state *state, const char *text, size_t size, size_t start, bool *found,
                            size_t *match_start, size_t *match_end, sgm_error *error) {
    *found = false;
    while (start <= size) {
        bool last = size - start <= WINDOW;
        size_t end = last ? size : whole_characters(text, start + WINDOW, size);
        int result = pcre2_match(state->pattern->code, (PCRE2_SPTR)text, end, start, PCRE2_NO_UTF_CHECK, state->data,
                                 state->context);
        if (result >= 0) {
            const PCRE2_SIZE *span = pcre2_get_ovector_pointer(state->data);
            if (span[0] < start || span[1] < span[0] || span[1] > size) /* by \K: would lose or repeat text */
                return sgm_fail(error, SGM_EFORMAT, NULL, "the split pattern matches backwards");
            *found = true;
            *match_start = span[0];
            *match_end = span[1];
            return SGM_OK;
        }
        if (result == PCRE2_ERROR_NOMEMORY)
            return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to split text");
        if (result != PCRE2_ERROR_NOMATCH)
            return sgm_fail(error, SGM_EFORMAT, "this tokenizer's pattern is too expensive to be used safely",
                            "the split pattern does not come to an end at byte %zu (PCRE2 error %d)", start, result);
        if (last)
            return SGM_OK;
        start = whole_characters(text, start + WINDOW / 2, size); /* a match may lie across the window's edge */
    }
    return SGM_OK;
}
