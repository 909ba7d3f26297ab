// SPDX-License-Identifier: Apache-2.0
/* The patterns of `train.freeze`. */
#include "train/freeze.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct pattern {
    char glob[256];
    bool readable;
    int64_t first, last; /* rows; last INT64_MAX: to the end */
} pattern;

/* Digits alone; their end in *after. */
static bool whole_number(const char *text, const char **after, int64_t *value) {
    char *end;
    *value = strtoll(text, &end, 10);
    *after = end;
    return *text >= '0' && *text <= '9';
}

/* The pattern at *at, which moves behind it; false: there is none. */
static bool next_pattern(const char **at, pattern *p) {
    *at += strspn(*at, ", ");
    size_t size = strcspn(*at, ",");
    const char *from = *at, *after;
    *at += size;
    if (size == 0)
        return false;
    while (from[size - 1] == ' ')
        size--;
    *p = (pattern){.readable = size < sizeof p->glob, .last = INT64_MAX};
    if (!p->readable)
        return true;
    memcpy(p->glob, from, size);
    char *rows = strchr(p->glob, '@');
    if (!rows)
        return true;
    *rows++ = '\0';
    p->readable = whole_number(rows, &after, &p->first);
    p->last = p->first;
    if (p->readable && *after == '-')
        p->readable = whole_number(after + 1, &after, &p->last);
    p->readable = p->readable && *after == '\0' && p->first <= p->last && p->last < INT64_MAX;
    return true;
}

static bool fits(const pattern *p, const sgm_weight *weight) {
    return p->readable && p->first < weight->rows && (p->last < weight->rows || p->last == INT64_MAX) &&
           fnmatch(p->glob, weight->name, 0) == 0;
}

sgm_status sgm_freeze_check(const char *patterns, const sgm_model *model, sgm_error *error) {
    pattern p;
    int64_t number = 0;
    for (const char *at = patterns; next_pattern(&at, &p);) {
        bool found = false;
        number++;
        for (int64_t i = 0; i < model->weight_count && !found; i++)
            found = fits(&p, &model->weights[i]);
        if (!p.readable)
            return sgm_fail(error, SGM_EARGUMENT, "a glob over names, and perhaps @FIRST-LAST for rows of the matrix",
                            "train.freeze: pattern number %" PRId64 " of '%.200s' cannot be read", number, patterns);
        if (!found)
            return sgm_fail(error, SGM_EARGUMENT,
                            "names are like model.layers.0.mlp.experts.3.up_proj.weight, or model.embed_tokens.weight",
                            "train.freeze: pattern number %" PRId64 " of '%.200s' fits no weight of the model", number,
                            patterns);
    }
    return SGM_OK;
}

bool sgm_freeze_run(const char *patterns, const sgm_weight *weight, int64_t row, int64_t *end) {
    bool frozen = false;
    int64_t covered = row, next = weight->rows;
    pattern p;
    for (const char *at = patterns; next_pattern(&at, &p);) {
        if (!fits(&p, weight))
            continue;
        int64_t stop = p.last == INT64_MAX ? weight->rows : p.last + 1;
        if (p.first <= row && row < stop) {
            frozen = true;
            covered = stop > covered ? stop : covered;
        } else if (p.first > row && p.first < next) {
            next = p.first;
        }
    }
    *end = frozen ? covered : next;
    return frozen;
}
