// SPDX-License-Identifier: Apache-2.0
/* Values of parameters: from text, through the range check, into a settings struct. Numbers are read in the C locale
 * whatever the program's locale is: a config must mean the same everywhere. */
#include "base/param.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/param_value.h"
#include "base/text_print.h"
#include "base/utf8.h"

/* ---- messages ---- */

static void describe_legal(const sgm_param *param, char *text, size_t size) {
    static const char *const kinds[] = {
        [SGM_PARAM_INT] = "a whole number",
        [SGM_PARAM_REAL] = "a number",
        [SGM_PARAM_BOOL] = "true or false",
        [SGM_PARAM_ENUM] = "one of",
        [SGM_PARAM_TEXT] = "a text",
        [SGM_PARAM_INT_LIST] = "whole numbers like 8,2",
        [SGM_PARAM_REAL_LIST] = "numbers like 0.5,0.1",
    };
    char range[128] = "";
    bool number = param->type == SGM_PARAM_INT || param->type == SGM_PARAM_REAL || param->type == SGM_PARAM_INT_LIST ||
                  param->type == SGM_PARAM_REAL_LIST;
    if (number && param->min <= param->max) {
        bool whole = param->type == SGM_PARAM_INT || param->type == SGM_PARAM_INT_LIST;
        if (isinf(param->max))
            sgm_text_print(range, sizeof range, whole ? " of at least %.0f" : " of at least %.10g", param->min);
        else
            sgm_text_print(range, sizeof range, whole ? " from %.0f to %.0f" : " from %.10g to %.10g", param->min,
                           param->max);
    }
    const char *unit = number && param->unit ? param->unit : "";
    snprintf(text, size, "give %s%s%s%s%s%s%s", kinds[param->type], range, *unit ? " (" : "", unit, *unit ? ")" : "",
             param->type == SGM_PARAM_ENUM ? " " : "", param->type == SGM_PARAM_ENUM ? param->choices : "");
    if (param->has_auto)
        snprintf(text + strlen(text), size - strlen(text), ", or auto");
}

typedef struct reading {
    const sgm_param *param;
    const char *label, *text, *origin;
    sgm_error *error;
} reading;

static sgm_status wrong(const reading *r, const char *why) {
    char hint[sizeof r->error->hint];
    describe_legal(r->param, hint, sizeof hint);
    bool known = r->origin && *r->origin;
    return sgm_fail(r->error, SGM_EARGUMENT, hint, "%s = %s%s%s%s: %s", r->label, *r->text ? r->text : "\"\"",
                    known ? " (" : "", known ? r->origin : "", known ? ")" : "", why);
}

static sgm_status no_memory(const reading *r) {
    return sgm_fail(r->error, SGM_EMEMORY, NULL, "no memory for the value of %s", r->label);
}

/* ---- one number ---- */

/* Decimal only: no hexadecimal, no "inf", no "nan". */
static bool read_real(const char *text, double *value) {
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return false;
    char *end;
    *value = sgm_text_real(text, &end);
    return *end == '\0' && isfinite(*value);
}

typedef enum whole_state { WHOLE, NOT_WHOLE, TOO_LARGE } whole_state;

/* Also "1e6" and, as in flags, "8k", "3M", "2G": people write token counts so. */
static whole_state read_integer(const char *text, int64_t *value) {
    static const char suffixes[] = "kKMG";
    static const int64_t scales[] = {1000, 1000, 1000000, 1000000000};
    size_t digits = strspn(text, "0123456789+-.eE");
    const char *suffix = text[digits] && digits ? strchr(suffixes, text[digits]) : NULL;
    if (!digits || (text[digits] && (!suffix || text[digits + 1])))
        return NOT_WHOLE;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text + digits) {
        if (number == INT64_MIN && errno == 0)
            return NOT_WHOLE; /* that one means auto */
        bool large = errno != 0 || __builtin_mul_overflow(number, suffix ? scales[suffix - suffixes] : 1, value);
        return large ? TOO_LARGE : WHOLE;
    }
    double real;
    if (!read_real(text, &real) || real != floor(real))
        return NOT_WHOLE;
    if (fabs(real) > 0x1p53)
        return TOO_LARGE;
    *value = (int64_t)real;
    return WHOLE;
}

static bool in_range(const sgm_param *param, double value) {
    return param->min > param->max || (value >= param->min && value <= param->max);
}

/* ---- choices, lists ---- */

static int find_choice(const char *choices, const char *text) {
    size_t n = strlen(text);
    int index = 0;
    for (const char *c = choices; c; index++) {
        const char *bar = strchr(c, '|');
        size_t length = bar ? (size_t)(bar - c) : strlen(c);
        if (length == n && n > 0 && memcmp(c, text, n) == 0)
            return index;
        c = bar ? bar + 1 : NULL;
    }
    return -1;
}

/* The items of "8, 2" or "[8, 2]". Cuts `text` up. */
static sgm_status read_list(const reading *r, char *text, sgm_param_value *value) {
    size_t n = strlen(text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text[n - 1] = '\0';
        text++;
    }
    text += strspn(text, " \t");
    if (!*text)
        return SGM_OK;
    size_t items = 1;
    for (const char *c = text; *c; c++)
        items += *c == ',';
    bool whole = r->param->type == SGM_PARAM_INT_LIST;
    if (whole)
        value->integers = sgm_alloc(items * sizeof *value->integers);
    else
        value->reals = sgm_alloc(items * sizeof *value->reals);
    if (!value->integers && !value->reals)
        return no_memory(r);
    for (size_t i = 0; i < items; i++) {
        char *comma = strchr(text, ',');
        if (comma)
            *comma = '\0';
        text += strspn(text, " \t");
        for (size_t length = strlen(text); length && strchr(" \t", text[length - 1]); length--)
            text[length - 1] = '\0';
        double number;
        whole_state read = whole ? read_integer(text, &value->integers[i]) : WHOLE;
        if (read == NOT_WHOLE)
            return wrong(r, "an item is not a whole number");
        if (read == TOO_LARGE)
            return wrong(r, "an item is out of range");
        if (!whole && !read_real(text, &value->reals[i]))
            return wrong(r, "an item is not a number");
        number = whole ? (double)value->integers[i] : value->reals[i];
        if (!in_range(r->param, number))
            return wrong(r, "an item is out of range");
        text = comma ? comma + 1 : text;
    }
    value->count = (int64_t)items;
    return SGM_OK;
}

/* The shortest decimal that reads back as the same number. */
static void spell_real(double value, char *text, size_t size) {
    for (int digits = 1; digits <= 17; digits++) {
        sgm_text_print(text, size, "%.*g", digits, value);
        if (sgm_text_real(text, NULL) == value)
            break;
    }
}

/* The canonical spelling of a list. */
static char *spell_list(const sgm_param_value *value) {
    sgm_buffer text = {0};
    sgm_status status = sgm_buffer_add(&text, "", 0);
    for (int64_t i = 0; i < value->count && !status; i++) {
        char number[40];
        if (value->integers)
            snprintf(number, sizeof number, "%" PRId64, value->integers[i]);
        else
            spell_real(value->reals[i], number, sizeof number);
        status = sgm_buffer_print(&text, "%s%s", i ? "," : "", number);
    }
    if (status)
        sgm_buffer_free(&text);
    return text.data;
}

/* ---- one value ---- */

static sgm_status read_value(const reading *r, char *text, sgm_param_value *value) {
    const sgm_param *param = r->param;
    bool list = param->type == SGM_PARAM_INT_LIST || param->type == SGM_PARAM_REAL_LIST;
    if (param->has_auto && strcmp(text, "auto") == 0 && param->type != SGM_PARAM_TEXT) {
        value->integer = SGM_AUTO;
        value->real = NAN;
        return SGM_OK;
    }
    whole_state read;
    switch (param->type) {
    case SGM_PARAM_INT:
        read = read_integer(text, &value->integer);
        if (read == NOT_WHOLE)
            return wrong(r, "not a whole number");
        if (read == TOO_LARGE || !in_range(param, (double)value->integer))
            return wrong(r, "out of range");
        break;
    case SGM_PARAM_REAL:
        if (!read_real(text, &value->real))
            return wrong(r, "not a number");
        if (!in_range(param, value->real))
            return wrong(r, "out of range");
        break;
    case SGM_PARAM_BOOL:
        value->boolean = strcmp(text, "true") == 0;
        if (!value->boolean && strcmp(text, "false") != 0)
            return wrong(r, "neither true nor false");
        break;
    case SGM_PARAM_ENUM:
        value->integer = find_choice(param->choices, text);
        if (value->integer < 0)
            return wrong(r, "not one of its choices");
        break;
    case SGM_PARAM_TEXT:
        if (!sgm_text_is_utf8(text))
            return wrong(r, "not valid UTF-8");
        break;
    case SGM_PARAM_INT_LIST:
    case SGM_PARAM_REAL_LIST:
        break;
    }
    if (!list)
        return SGM_OK;
    sgm_status status = read_list(r, text, value);
    if (status)
        return status;
    char *spelled = spell_list(value);
    if (!spelled)
        return no_memory(r);
    sgm_free(value->text);
    value->text = spelled;
    return SGM_OK;
}

sgm_status sgm_param_parse(const sgm_param *param, const char *label, const char *text, const char *origin,
                           sgm_param_value *value, sgm_error *error) {
    reading r = {.param = param, .label = label, .text = text, .origin = origin, .error = error};
    *value = (sgm_param_value){0};
    const char *begin = text, *end = text + strlen(text);
    if (param->type != SGM_PARAM_TEXT) { /* a text keeps its spaces */
        while (isspace((unsigned char)*begin))
            begin++;
        while (end > begin && isspace((unsigned char)end[-1]))
            end--;
    }
    size_t n = (size_t)(end - begin);
    value->text = sgm_alloc(n + 1);
    char *scratch = sgm_alloc(n + 1); /* lists are cut up while being read */
    sgm_status status = SGM_OK;
    if (!value->text || !scratch) {
        status = no_memory(&r);
    } else {
        memcpy(value->text, begin, n);
        memcpy(scratch, begin, n);
        status = read_value(&r, scratch, value);
    }
    if (!status && param->type == SGM_PARAM_INT && value->integer != SGM_AUTO) { /* 1e6, +7, 007 */
        char *spelled = sgm_format("%" PRId64, value->integer);
        if (spelled) {
            sgm_free(value->text);
            value->text = spelled;
        } else {
            status = no_memory(&r);
        }
    }
    sgm_free(scratch);
    if (status)
        sgm_param_value_free(value);
    return status;
}

void sgm_param_value_free(sgm_param_value *value) {
    sgm_free(value->text);
    sgm_free(value->integers);
    sgm_free(value->reals);
    *value = (sgm_param_value){0};
}

void sgm_param_store(const sgm_param *param, const sgm_param_value *value, void *settings) {
    char *place = (char *)settings + param->offset;
    switch (param->type) {
    case SGM_PARAM_INT:
        memcpy(place, &value->integer, sizeof value->integer);
        break;
    case SGM_PARAM_REAL:
        memcpy(place, &value->real, sizeof value->real);
        break;
    case SGM_PARAM_BOOL:
        memcpy(place, &value->boolean, sizeof value->boolean);
        break;
    case SGM_PARAM_ENUM: {
        int choice = (int)value->integer;
        memcpy(place, &choice, sizeof choice);
        break;
    }
    case SGM_PARAM_TEXT:
        memcpy(place, &value->text, sizeof value->text);
        break;
    case SGM_PARAM_INT_LIST: {
        sgm_int_list list = {.items = value->integers, .count = value->count};
        memcpy(place, &list, sizeof list);
        break;
    }
    case SGM_PARAM_REAL_LIST: {
        sgm_real_list list = {.items = value->reals, .count = value->count};
        memcpy(place, &list, sizeof list);
        break;
    }
    }
}

/* ---- defaults without a config ---- */

/* Default lists and texts have no config to live in, so each distinct one is kept for the life of the process: a
 * constant derived from constant tables. */
typedef struct kept_default {
    struct kept_default *next;
    sgm_param_type type;
    sgm_param_value value;
} kept_default;

/* Give away `value` and get the kept one of the same type and text; NULL without memory. */
static const sgm_param_value *keep_default(sgm_param_type type, sgm_param_value *value) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static kept_default *kept;
    pthread_mutex_lock(&mutex);
    kept_default *found = kept;
    while (found && !(found->type == type && strcmp(found->value.text, value->text) == 0))
        found = found->next;
    if (found) {
        sgm_param_value_free(value);
    } else {
        found = sgm_alloc(sizeof *found);
        if (found) {
            *found = (kept_default){.next = kept, .type = type, .value = *value};
            kept = found;
        } else {
            sgm_param_value_free(value);
        }
    }
    pthread_mutex_unlock(&mutex);
    return found ? &found->value : NULL;
}

sgm_status sgm_param_defaults(const sgm_param *params, size_t count, void *settings, sgm_error *error) {
    for (size_t i = 0; i < count; i++) {
        const sgm_param *param = &params[i];
        sgm_param_value value;
        sgm_status status = sgm_param_parse(param, param->name, param->fallback, "default", &value, error);
        if (status)
            return status;
        if (param->type == SGM_PARAM_TEXT || value.count) {
            const sgm_param_value *kept = keep_default(param->type, &value);
            if (!kept)
                return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the default of %s", param->name);
            sgm_param_store(param, kept, settings);
        } else {
            sgm_param_store(param, &value, settings);
            sgm_param_value_free(&value);
        }
    }
    return SGM_OK;
}

/* ---- values in settings ---- */

bool sgm_param_same(const sgm_param *param, const void *settings, const void *others) {
    const void *a = (const char *)settings + param->offset, *b = (const char *)others + param->offset;
    const sgm_int_list *integers = a, *other_integers = b;
    const sgm_real_list *reals = a, *other_reals = b;
    switch (param->type) {
    case SGM_PARAM_INT:
        return *(const int64_t *)a == *(const int64_t *)b;
    case SGM_PARAM_REAL:
        return *(const double *)a == *(const double *)b || (isnan(*(const double *)a) && isnan(*(const double *)b));
    case SGM_PARAM_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case SGM_PARAM_ENUM:
        return *(const int *)a == *(const int *)b;
    case SGM_PARAM_TEXT:
        return strcmp(*(char *const *)a ? *(char *const *)a : "", *(char *const *)b ? *(char *const *)b : "") == 0;
    case SGM_PARAM_INT_LIST:
        for (int64_t i = 0; i < integers->count && i < other_integers->count; i++)
            if (integers->items[i] != other_integers->items[i])
                return false;
        return integers->count == other_integers->count;
    case SGM_PARAM_REAL_LIST:
        for (int64_t i = 0; i < reals->count && i < other_reals->count; i++)
            if (reals->items[i] != other_reals->items[i])
                return false;
        return reals->count == other_reals->count;
    }
    return false;
}

static void print_integer(int64_t value, char *text, size_t room) {
    if (value == SGM_AUTO)
        snprintf(text, room, "auto");
    else
        snprintf(text, room, "%" PRId64, value);
}

static void print_real(double value, char *text, size_t room) {
    if (isnan(value))
        snprintf(text, room, "auto");
    else
        sgm_text_print(text, room, "%.15g", value);
}

void sgm_param_print(const sgm_param *param, const void *settings, char *text, size_t room) {
    const void *at = (const char *)settings + param->offset;
    const sgm_int_list *integers = at;
    const sgm_real_list *reals = at;
    const char *choice = param->choices;
    size_t used = 0;
    text[0] = '\0';
    switch (param->type) {
    case SGM_PARAM_INT:
        print_integer(*(const int64_t *)at, text, room);
        break;
    case SGM_PARAM_REAL:
        print_real(*(const double *)at, text, room);
        break;
    case SGM_PARAM_BOOL:
        snprintf(text, room, "%s", *(const bool *)at ? "true" : "false");
        break;
    case SGM_PARAM_ENUM:
        for (int left = *(const int *)at; left > 0 && choice; left--)
            choice = strchr(choice, '|') ? strchr(choice, '|') + 1 : NULL;
        snprintf(text, room, "%.*s", choice ? (int)strcspn(choice, "|") : 0, choice ? choice : "");
        break;
    case SGM_PARAM_TEXT:
        snprintf(text, room, "%s", *(char *const *)at ? *(char *const *)at : "");
        break;
    case SGM_PARAM_INT_LIST:
        for (int64_t i = 0; i < integers->count && used + 1 < room; i++, used = strlen(text)) {
            snprintf(text + used, room - used, "%s", i ? "," : "");
            print_integer(integers->items[i], text + strlen(text), room - strlen(text));
        }
        break;
    case SGM_PARAM_REAL_LIST:
        for (int64_t i = 0; i < reals->count && used + 1 < room; i++, used = strlen(text)) {
            snprintf(text + used, room - used, "%s", i ? "," : "");
            print_real(reals->items[i], text + strlen(text), room - strlen(text));
        }
        break;
    }
}

/* ---- the nearest name ---- */

enum { NAME_LIMIT = 128 };

/* Edit distance with neighbours swapped counted once (optimal string alignment), letters compared without case. */
static size_t edit_distance(const char *a, size_t n, const char *b, size_t m) {
    size_t row[3][NAME_LIMIT + 1];
    for (size_t j = 0; j <= m; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            size_t best = before[j - 1] + (x != y);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) && tolower((unsigned char)a[i - 2]) == y &&
                earlier[j - 2] + 1 < best)
                best = earlier[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *sgm_nearest(const char *wrong_name, const char *const *names) {
    size_t n = strlen(wrong_name);
    if (n == 0 || n > NAME_LIMIT)
        return NULL;
    /* Near: a third of the letters may be wrong. The beginning of a name is near too, but less than a small slip. */
    const char *best = NULL, *begun = NULL;
    size_t best_distance = n / 3 + 1;
    for (; *names; names++) {
        size_t m = strlen(*names);
        if (m > NAME_LIMIT)
            continue;
        size_t distance = edit_distance(wrong_name, n, *names, m);
        if (2 * distance > (n > m ? n : m)) /* more is wrong than right */
            continue;
        if (distance < best_distance || (distance == best_distance && !best && n > 1)) {
            best = *names;
            best_distance = distance;
        }
        if (!begun && n >= 3 && m > n && strncmp(*names, wrong_name, n) == 0)
            begun = *names;
    }
    return best ? best : begun;
}
