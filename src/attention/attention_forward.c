// SPDX-License-Identifier: Apache-2.0
/* The forward pass that all kinds of attention share: grouped key/value heads (GQA, arXiv 2305.13245), blocks of 64 keys
 * counted from position 0 of the sequence, T × T never exists.
 *
 * A row at position p goes through blocks 0 … p/64 (or p/64 … 0: the kind says), and in block p/64 sees the keys up to itself.
 * Eight blocks are a part; every part begins afresh and the parts of a row are merged in order, so that several threads can
 * share a long past (arXiv 2311.01282). Everything a row does depends on its position alone: training, prefill in any chunks,
 * and decode give the same bytes, whoever computes which part.
 *
 * A tile is some queries of a segment inside one block of positions, with all heads that read one key/value head side by
 * side: each key and value is read (and widened, and in training transposed) once for all of them. Scores exist for 64 keys
 * at a time. Tasks are tiles, or parts of tiles where a step has few of them, the longest first. */
#include <string.h>

#include "attention/attention.h"
#include "base/memory.h"
#include "op/op_case.h"

enum {
    BLOCK = SGM_KEY_BLOCK,
    PART = 8 * BLOCK,      /* positions */
    SLICE = 16,            /* queries of a diagonal block that are scored together: half of its scores are masked */
    TILE_ROWS = 256,       /* most rows of a tile, unless more heads than 16 share a key head */
    SPLIT_ROWS = 32,       /* tiles up to this height may be cut into parts */
    SPLIT_REALS = 1 << 20, /* room for parts that wait to be merged */
};

typedef sgm_attention_state state;

/* ---- tiles --------------------------------------------------------------------------------------------------------- */

/* Queries [first, first + count) of a segment. */
typedef struct tile {
    const sgm_segment *segment;
    int64_t first, count;
    int64_t parts;
} tile;

/* All tiles of the batch, class after class. */
typedef struct tiles {
    const sgm_attention_args *args;
    int64_t queries; /* most of a tile: a power of two */
    int class;       /* -1: done */
    int64_t segment, first;
} tiles;

static int64_t tile_queries(const sgm_attention_args *a) {
    int64_t queries = BLOCK;
    while (queries > SLICE && queries * (a->heads / a->kv_heads) > TILE_ROWS)
        queries /= 2;
    return queries;
}

/* Tiles end at multiples of their height in positions, so that a tile meets one diagonal block only. */
static int64_t tile_height(const tiles *t, const sgm_segment *segment, int64_t first) {
    int64_t count = t->queries - (segment->position + first) % t->queries;
    return count < segment->rows - first ? count : segment->rows - first;
}

static int tile_class(const sgm_segment *segment, int64_t first, int64_t count) {
    return sgm_cost_class(count * ((segment->position + first) / BLOCK + 1));
}

static tiles tiles_begin(const sgm_attention_args *a) {
    tiles t = {.args = a, .queries = tile_queries(a)};
    for (int64_t i = 0; i < a->rows->segment_count; i++) {
        const sgm_segment *segment = &a->rows->segments[i];
        int class = tile_class(segment, segment->rows, t.queries); /* no tile of it has a higher one */
        t.class = class > t.class ? class : t.class;
    }
    return t;
}

static bool tiles_next(tiles *t, tile *next) {
    for (; t->class >= 0; t->class --, t->segment = 0)
        for (; t->segment < t->args->rows->segment_count; t->segment++, t->first = 0) {
            const sgm_segment *segment = &t->args->rows->segments[t->segment];
            while (t->first < segment->rows) {
                int64_t first = t->first, count = tile_height(t, segment, first);
                t->first += count;
                if (tile_class(segment, first, count) != t->class)
                    continue;
                *next = (tile){segment, first, count, (segment->position + first) / PART + 1};
                return true;
            }
        }
    return false;
}

/* ---- one tile ------------------------------------------------------------------------------------------------------ */

/* A thread's own memory. */
typedef struct scratch {
    sgm_real *score, *q, *keys, *values, *rescale;
    state total, part;
} scratch;

static int64_t slice_rows(int64_t group, bool diagonal) {
    return diagonal || SLICE * group > BLOCK ? SLICE * group : BLOCK;
}

/* Lays the arrays out from `memory` on; NULL only counts. In multiples of a cache line. */
static size_t scratch_lay_out(const sgm_node *node, char *memory, scratch *s) {
    const sgm_attention_args *a = node->args;
    int64_t group = a->heads / a->kv_heads, S = node->in[0].cols / a->heads, R = tile_queries(a) * group;
    struct {
        sgm_real **place;
        int64_t count;
    } arrays[] = {{&s->score, slice_rows(group, false) * BLOCK},
                  {&s->q, R * S},
                  {&s->keys, S * BLOCK},
                  {&s->values, S * BLOCK},
                  {&s->rescale, R},
                  {&s->total.y, R * S},
                  {&s->total.top, R},
                  {&s->total.mass, R},
                  {&s->part.y, R * S},
                  {&s->part.top, R},
                  {&s->part.mass, R}};
    size_t used = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].place = memory ? (sgm_real *)(void *)(memory + used) : NULL;
        used += sgm_round_up((size_t)arrays[i].count * sizeof(sgm_real));
    }
    return used;
}

/* What a forward pass works with on one thread. */
typedef struct pass {
    const sgm_kernels *kernels;
    sgm_compute compute;
    const sgm_node *node;
    const sgm_attention_args *args;
    int64_t group, S;
    scratch own;
    bool append; /* each tile stores its own keys and values first */
} pass;

static bool is_done(const pass *p, const state *at, int64_t rows) {
    return p->args->kind->is_done && p->args->kind->is_done(at->mass, 1, rows);
}

/* Part `index` of the tile for one key/value head, from nothing. */
static void attend(const pass *p, const tile *t, int64_t head, int64_t index, const state *to) {
    const sgm_kernels *kernels = p->kernels;
    const sgm_attention_kind *kind = p->args->kind;
    int64_t group = p->group, S = p->S, rows = t->count * group, position = t->segment->position + t->first;
    int64_t begin = index * (PART / BLOCK), diagonal = position / BLOCK;
    int64_t end = index == t->parts - 1 ? diagonal + 1 : begin + PART / BLOCK;
    kind->begin(rows, to);
    for (int64_t n = 0; n < end - begin && !(n > 0 && is_done(p, to, rows)); n++) {
        int64_t block = kind->newest_first ? end - 1 - n : begin + n;
        int64_t most = sgm_keys_visible(position + t->count - 1, block), step = slice_rows(group, block == diagonal);
        sgm_key_block b =
            sgm_key_block_get(kernels, p->node, t->segment, head, block, most, rows, p->own.keys, p->own.values);
        for (int64_t r = 0; r < rows; r += step) {
            int64_t count = rows - r < step ? rows - r : step;
            int64_t seen = sgm_keys_visible(position + (r + count - 1) / group, block);
            state at = {to->y + r * S, to->top + r, to->mass + r};
            sgm_score_tile scores = {.rows = count,
                                     .cols = seen,
                                     .seen = sgm_keys_visible(position + r / group, block),
                                     .group = group,
                                     .scale = (sgm_real)(1 / __builtin_sqrt((double)S)),
                                     .key_scale = b.key_scale,
                                     .value_scale = b.value_scale};
            if (n > 0 && is_done(p, &at, count))
                continue;
            sgm_key_multiply(kernels, p->compute, &b, false, count, seen, S, p->own.q + r * S, S, p->own.score, BLOCK,
                             false);
            kind->step(kernels, &scores, p->own.score, BLOCK, &at, p->own.rescale);
            for (int64_t i = 0; kind->rescales && n > 0 && i < count; i++)
                if (p->own.rescale[i] != 1)
                    kernels->scale(S, p->own.rescale[i], at.y + i * S, at.y + i * S);
            sgm_key_multiply(kernels, p->compute, &b, true, count, S, seen, p->own.score, BLOCK, at.y, S, n > 0);
        }
    }
}

/* The rows of the tile leave for their places in y. */
static void finish(const pass *p, const tile *t, int64_t head, const state *total) {
    int64_t heads = p->args->heads, width = heads * p->S;
    sgm_real *saved = p->node->saved; /* (T, H) */
    for (int64_t i = 0; i < t->count; i++)
        for (int64_t h = 0; h < p->group; h++) {
            int64_t r = i * p->group + h, row = t->segment->row + t->first + i, at = head * p->group + h;
            const state one = {total->y + r * p->S, total->top + r, total->mass + r};
            p->args->kind->finish(p->kernels, p->S, &one, p->node->out[0].data + row * width + at * p->S,
                                  saved ? saved + row * heads + at : NULL);
        }
}

/* The number of the i-th part in the order of merging. */
static int64_t part_number(const pass *p, const tile *t, int64_t i) {
    return p->args->kind->newest_first ? t->parts - 1 - i : i;
}

static void take_queries(const pass *p, const tile *t, int64_t head) {
    int64_t width = p->node->in[0].cols, take = p->group * p->S;
    const sgm_real *q = p->node->in[0].data + (t->segment->row + t->first) * width + head * take;
    for (int64_t i = 0; i < t->count; i++)
        memcpy(p->own.q + i * take, q + i * width, (size_t)take * sizeof *q);
}

static void store_own(const pass *p, const tile *t, int64_t head) {
    if (p->append && t->segment->past)
        sgm_key_append(p->kernels, p->node, t->segment, t->first, t->first + t->count, head, 1, p->own.score);
}

static void whole_tile(const pass *p, const tile *t, int64_t head) {
    store_own(p, t, head);
    take_queries(p, t, head);
    int64_t rows = t->count * p->group;
    attend(p, t, head, part_number(p, t, 0), &p->own.total);
    for (int64_t i = 1; i < t->parts && !is_done(p, &p->own.total, rows); i++) {
        attend(p, t, head, part_number(p, t, i), &p->own.part);
        p->args->kind->merge(p->kernels, p->S, rows, &p->own.total, &p->own.part);
    }
    finish(p, t, head, &p->own.total);
}

/* ---- the pass ------------------------------------------------------------------------------------------------------ */

static bool has_past(const sgm_rows *rows) {
    for (int64_t i = 0; i < rows->segment_count; i++)
        if (rows->segments[i].past)
            return true;
    return false;
}

/* Reals that the tile's parts take while they wait to be merged. */
static int64_t part_reals(const pass *p, const tile *t) {
    return t->count * p->group * (p->S + 2);
}

static state part_at(const pass *p, const tile *t, sgm_real *memory) {
    int64_t rows = t->count * p->group;
    return (state){memory, memory + rows * p->S, memory + rows * (p->S + 1)};
}

/* Cut into parts: a short tile of a step that has too few tiles for its threads, while there is room. The result is the same
 * bytes; `place` is where its parts begin. */
static bool is_cut(const pass *p, const tile *t, bool few, int64_t *used, int64_t *place) {
    int64_t reals = p->args->kv_heads * t->parts * part_reals(p, t);
    if (!few || t->parts == 1 || t->count * p->group > SPLIT_ROWS || !t->segment->past || *used + reals > SPLIT_REALS)
        return false;
    *place = *used;
    *used += reals;
    return true;
}

/* The tiles whose parts wait are merged. All threads find the same places. */
static void merge_parts(const pass *p, sgm_worker *worker, sgm_real *waiting) {
    int64_t drawn = sgm_task(worker), task = 0, used = 0, place;
    tiles all = tiles_begin(p->args);
    for (tile t; tiles_next(&all, &t);) {
        if (!is_cut(p, &t, true, &used, &place))
            continue;
        for (int64_t head = 0; head < p->args->kv_heads; head++, task++) {
            if (task != drawn)
                continue;
            sgm_real *from = waiting + place + head * t.parts * part_reals(p, &t);
            state total = part_at(p, &t, from + part_number(p, &t, 0) * part_reals(p, &t));
            for (int64_t i = 1; i < t.parts; i++) {
                state part = part_at(p, &t, from + part_number(p, &t, i) * part_reals(p, &t));
                p->args->kind->merge(p->kernels, p->S, t.count * p->group, &total, &part);
            }
            finish(p, &t, head, &total);
            drawn = sgm_task(worker);
        }
    }
}

void sgm_attention_forward(sgm_walk *walk, sgm_node *node) {
    const sgm_attention_args *a = node->args;
    pass p = {.kernels = walk->kernels,
              .compute = sgm_attention_compute(walk, a->kind),
              .node = node,
              .args = a,
              .group = a->heads / a->kv_heads};
    p.S = node->in[0].cols / a->heads;
    size_t own = scratch_lay_out(node, NULL, &p.own);
    (void)scratch_lay_out(node, (char *)node->workspace + (size_t)walk->worker->thread * own, &p.own);
    sgm_real *waiting = (sgm_real *)(void *)((char *)node->workspace + (size_t)walk->worker->threads * own);
    /* Where a segment is one tile (decode), the tile stores its keys itself; else they are stored before anyone reads. */
    int64_t count = 0;
    tiles all = tiles_begin(a);
    for (tile t; tiles_next(&all, &t);)
        count++;
    bool past = has_past(a->rows), few = past && count * a->kv_heads < 4 * walk->worker->threads;
    p.append = past && count == a->rows->segment_count;
    if (past && !p.append) {
        for (int64_t i = 0; i < a->rows->segment_count; i++) {
            const sgm_segment *segment = &a->rows->segments[i];
            int64_t begin, end;
            sgm_split(walk->worker, segment->rows, 1, &begin, &end);
            if (segment->past)
                sgm_key_append(walk->kernels, node, segment, begin, end, 0, a->kv_heads, p.own.score);
        }
        sgm_barrier(walk->worker);
    }
    int64_t drawn = sgm_task(walk->worker), task = 0, used = 0, place = 0;
    all = tiles_begin(a);
    for (tile t; tiles_next(&all, &t);) {
        bool cut = is_cut(&p, &t, few, &used, &place);
        for (int64_t head = 0; head < a->kv_heads; head++)
            for (int64_t i = cut ? t.parts - 1 : 0; i >= 0; i--, task++) {
                if (task != drawn)
                    continue;
                if (cut) {
                    state part = part_at(&p, &t, waiting + place + (head * t.parts + i) * part_reals(&p, &t));
                    if (i == t.parts - 1)
                        store_own(&p, &t, head);
                    take_queries(&p, &t, head);
                    attend(&p, &t, head, i, &part);
                } else {
                    whole_tile(&p, &t, head);
                }
                drawn = sgm_task(walk->worker);
            }
    }
    if (used > 0) {
        sgm_barrier(walk->worker);
        merge_parts(&p, walk->worker, waiting);
    }
}

sgm_status sgm_attention_shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_attention_args *a = node->args;
    const sgm_tensor *q = &node->in[0], *k = &node->in[1], *v = &node->in[2];
    if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads || q->cols % a->heads ||
        k->cols != q->cols / a->heads * a->kv_heads || v->cols != k->cols || q->rows != k->rows || v->rows != k->rows)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "%s: q has %lld columns for %lld heads, k %lld and v %lld for %lld heads", node->op->name,
                        (long long)q->cols, (long long)a->heads, (long long)k->cols, (long long)v->cols,
                        (long long)a->kv_heads);
    out[0].rows = q->rows;
    out[0].cols = q->cols;
    return SGM_OK;
}

/* Linear in the rows and in the threads, never in the depth. */
size_t sgm_attention_workspace(const sgm_node *node, int threads, bool backward) {
    const sgm_attention_args *a = node->args;
    scratch none;
    if (backward)
        return sgm_attention_backward_workspace(node, threads);
    return (size_t)threads * scratch_lay_out(node, NULL, &none) +
           (has_past(a->rows) ? (size_t)SPLIT_REALS * sizeof(sgm_real) : 0);
}

sgm_status sgm_attention_case(const sgm_attention_kind *kind, int index, bool benchmark, uint64_t seed, sgm_op_case *c,
                              sgm_error *error) {
    static const int64_t lengths[][3] = {{5, 1, 3}, {63, 64, 65}, {130, 2, 1}};
    static const char *const names[] = {"short documents", "around a block", "several blocks"};
    if (index >= (benchmark ? 1 : 3))
        return SGM_ENOTFOUND;
    c->name = names[index];
    int64_t H = benchmark ? 6 : 4, G = 2, S = benchmark ? 32 : 6, long_ones[16];
    for (int i = 0; i < 16; i++)
        long_ones[i] = 256;
    sgm_attention_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_rows *rows =
        benchmark ? sgm_case_rows(c, long_ones, 16, 7, seed) : sgm_case_rows(c, lengths[index], 3, 7, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *args = (sgm_attention_args){kind, H, G, 0, rows};
    c->rows[0] = c->rows[1] = c->rows[2] = rows->rows;
    c->cols[0] = H * S;
    c->cols[1] = c->cols[2] = G * S;
    for (int64_t i = 0; i < rows->segment_count; i++)
        c->flops += 2.0 * (double)(rows->segments[i].rows * rows->segments[i].rows * H * S);
    return SGM_OK;
}
