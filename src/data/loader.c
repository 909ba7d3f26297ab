// SPDX-License-Identifier: Apache-2.0
/* The loader: packed training windows, and evaluation windows. See loader.h.
 *
 * Nothing random is stored. Which domain window n (or micro-batch n) comes from is number n of one stream; the order of an epoch is a
 * keyed permutation of 0 … documents-1 (a Feistel network that walks past values outside the range), so "the i-th
 * document of epoch e" is a function and resuming means setting integers. */
#include "data/loader.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

enum { FEISTEL_ROUNDS = 6, POSITION_PER_DOMAIN = 3 };

typedef struct domain_stream {
    int64_t documents;
    double share;                  /* of windows; cumulative up to and with this domain */
    int64_t epoch, index, row;     /* the position: rows before `row` of the index-th document of the epoch are done */
    uint32_t keys[FEISTEL_ROUNDS]; /* of `epoch` */
} domain_stream;

struct sgm_loader {
    const sgm_corpus *corpus;
    int64_t context;
    uint64_t seed, mixture_stream;
    int64_t window; /* windows drawn so far */
    int64_t step_windows, group_windows;
    size_t domain_count, last; /* last: the last domain with a share, where rounding must end */
    domain_stream *domains;
};

/* ---- the order of an epoch ------------------------------------------------------------------------------------- */

static void set_epoch(const sgm_loader *loader, size_t domain, int64_t epoch) {
    domain_stream *stream = &loader->domains[domain];
    sgm_rng rng = sgm_rng_at(loader->seed, sgm_rng_stream("epoch order", domain), (uint64_t)epoch * FEISTEL_ROUNDS);
    stream->epoch = epoch;
    for (int r = 0; r < FEISTEL_ROUNDS; r++)
        stream->keys[r] = sgm_rng_u32(&rng);
}

static uint32_t mix(uint32_t half, uint32_t key) {
    uint32_t h = half * 0x9E3779B1u ^ key;
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return h ^ (h >> 16);
}

/* A bijection of 0 … count-1. The network works on 2b bits with 4^b >= count, at most 4 times too many, so that walking
 * to a value inside takes four steps on average at worst. */
static int64_t permute(const uint32_t keys[FEISTEL_ROUNDS], int64_t count, int64_t index) {
    int bits = 1;
    while (bits < 31 && (int64_t)1 << (2 * bits) < count)
        bits++;
    const uint32_t mask = (uint32_t)((1u << bits) - 1);
    uint64_t value = (uint64_t)index;
    do {
        uint32_t left = (uint32_t)(value >> bits) & mask, right = (uint32_t)value & mask;
        for (int r = 0; r < FEISTEL_ROUNDS; r++) {
            uint32_t next = left ^ (mix(right, keys[r]) & mask);
            left = right;
            right = next;
        }
        value = (uint64_t)left << bits | right;
    } while (value >= (uint64_t)count);
    return (int64_t)value;
}

static const int32_t *current_document(const sgm_loader *loader, size_t domain, int64_t *tokens) {
    const domain_stream *stream = &loader->domains[domain];
    int64_t document = permute(stream->keys, stream->documents, stream->index);
    return sgm_corpus_document(loader->corpus, SGM_TRAIN, domain, document, tokens, NULL);
}

/* ---- mixture --------------------------------------------------------------------------------------------------- */

static sgm_status bad_mixture(sgm_error *error, const char *mixture) {
    return sgm_fail(error, SGM_EARGUMENT, "write it as prose=2,code=1; weights are numbers of 0 or more",
                    "data mixture \"%s\" cannot be read", mixture);
}

/* A decimal weight at `*at`, which moves behind it; -1 when there is none. By hand: strtod depends on the locale. */
static double weight_at(const char **at) {
    const char *c = *at;
    double value = 0, unit = 1;
    for (; *c >= '0' && *c <= '9'; c++)
        value = value * 10 + (*c - '0');
    if (*c == '.')
        for (c++; *c >= '0' && *c <= '9'; c++)
            value += (*c - '0') * (unit /= 10);
    bool any = c != *at && !(c == *at + 1 && **at == '.');
    *at = c;
    return any && value <= 1e12 ? value : -1;
}

static sgm_status unknown_domain(const sgm_corpus *corpus, const char *name, size_t length, sgm_error *error) {
    sgm_buffer known = {0};
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++)
        if (sgm_buffer_print(&known, "%s%s", d ? ", " : "", sgm_corpus_domain(corpus, d)) != SGM_OK)
            break;
    char *text = sgm_format("the domains of this data are: %s", known.data ? known.data : "");
    sgm_buffer_free(&known);
    sgm_status status =
        sgm_fail(error, SGM_EARGUMENT, text, "the data mixture names an unknown domain \"%.*s\"", (int)length, name);
    sgm_free(text);
    return status;
}

static sgm_status read_mixture(sgm_loader *loader, const char *mixture, double *weights, sgm_error *error) {
    for (const char *at = mixture; *at;) {
        size_t length = strcspn(at, "=,");
        if (length == 0 || at[length] != '=')
            return bad_mixture(error, mixture);
        size_t d = 0;
        for (; d < loader->domain_count; d++) {
            const char *name = sgm_corpus_domain(loader->corpus, d);
            if (strlen(name) == length && memcmp(name, at, length) == 0)
                break;
        }
        if (d == loader->domain_count)
            return unknown_domain(loader->corpus, at, length, error);
        const char *name = at;
        at += length + 1;
        weights[d] = weight_at(&at);
        if (weights[d] < 0 || (*at && *at != ','))
            return bad_mixture(error, mixture);
        if (weights[d] > 0 && loader->domains[d].documents == 0)
            return sgm_fail(error, SGM_EARGUMENT, "leave it out of the mixture, or add text to it",
                            "domain %.*s holds no training documents", (int)length, name);
        at += *at == ',';
    }
    return SGM_OK;
}

static sgm_status set_shares(sgm_loader *loader, const char *mixture, double *weights, sgm_error *error) {
    double sum = 0;
    sgm_status status = SGM_OK;
    if (mixture && *mixture)
        status = read_mixture(loader, mixture, weights, error);
    else
        for (size_t d = 0; d < loader->domain_count; d++)
            weights[d] = (double)sgm_corpus_tokens(loader->corpus, SGM_TRAIN, d);
    if (status != SGM_OK)
        return status;
    for (size_t d = 0; d < loader->domain_count; d++)
        sum += weights[d];
    if (!(sum > 0))
        return sgm_fail(error, SGM_EARGUMENT, "give at least one domain a weight above 0",
                        "the data mixture leaves nothing to train on");
    double before = 0;
    for (size_t d = 0; d < loader->domain_count; d++) {
        before += weights[d];
        loader->domains[d].share = before / sum;
        if (weights[d] > 0)
            loader->last = d;
    }
    return SGM_OK;
}

/* The number of the draw that decides the next window's domain: the window's own, or its micro-batch's. */
static int64_t draw_number(const sgm_loader *loader) {
    if (loader->group_windows == 0)
        return loader->window;
    int64_t groups = (loader->step_windows + loader->group_windows - 1) / loader->group_windows;
    return loader->window / loader->step_windows * groups +
           loader->window % loader->step_windows / loader->group_windows;
}

static size_t draw_domain(const sgm_loader *loader) {
    sgm_rng rng = sgm_rng_at(loader->seed, loader->mixture_stream, 2 * (uint64_t)draw_number(loader));
    double u = sgm_rng_uniform(&rng);
    for (size_t d = 0; d < loader->last; d++)
        if (u < loader->domains[d].share)
            return d;
    return loader->last;
}

sgm_status sgm_loader_new(const sgm_corpus *corpus, const sgm_loader_options *options, sgm_loader **out,
                          sgm_error *error) {
    *out = NULL;
    if (options->context < 1)
        return sgm_fail(error, SGM_EARGUMENT, "give a context of at least 1 token", "a context of %lld is not usable",
                        (long long)options->context);
    if (options->group_windows < 0 || options->step_windows < options->group_windows)
        return sgm_fail(error, SGM_EARGUMENT, "a micro-batch is a part of a step",
                        "micro-batches of %lld windows in steps of %lld", (long long)options->group_windows,
                        (long long)options->step_windows);
    size_t count = sgm_corpus_domains(corpus);
    sgm_loader *loader = sgm_alloc(sizeof *loader);
    double *weights = sgm_alloc(count * sizeof *weights);
    if (loader)
        loader->domains = sgm_alloc(count * sizeof *loader->domains);
    if (!loader || !weights || !loader->domains) {
        sgm_free(weights);
        sgm_loader_free(loader);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the data loader");
    }
    loader->corpus = corpus;
    loader->context = options->context;
    loader->seed = options->seed;
    loader->step_windows = options->step_windows;
    loader->group_windows = options->group_windows;
    loader->mixture_stream = sgm_rng_stream("mixture", 0);
    loader->domain_count = count;
    for (size_t d = 0; d < count; d++) {
        loader->domains[d].documents = sgm_corpus_documents(corpus, SGM_TRAIN, d);
        set_epoch(loader, d, 0);
    }
    sgm_status status = set_shares(loader, options->mixture, weights, error);
    sgm_free(weights);
    if (status != SGM_OK) {
        sgm_loader_free(loader);
        return status;
    }
    *out = loader;
    return SGM_OK;
}

void sgm_loader_free(sgm_loader *loader) {
    if (!loader)
        return;
    sgm_free(loader->domains);
    sgm_free(loader);
}

/* ---- packing --------------------------------------------------------------------------------------------------- */

sgm_status sgm_packed_new(int64_t rows, int64_t context, sgm_packed **out, sgm_error *error) {
    *out = NULL;
    if (rows < 1 || context < 1 || rows > INT32_MAX)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "a batch of %lld rows in windows of %lld is not usable",
                        (long long)rows, (long long)context);
    sgm_packed *packed = sgm_alloc(sizeof *packed);
    if (!packed)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a batch of %lld rows", (long long)rows);
    size_t n = (size_t)rows;
    packed->row_capacity = packed->segment_capacity = rows; /* at worst each row is a segment */
    packed->sequence_capacity = (rows + context - 1) / context;
    packed->tokens = sgm_alloc(n * sizeof *packed->tokens);
    packed->positions = sgm_alloc(n * sizeof *packed->positions);
    packed->targets = sgm_alloc(n * sizeof *packed->targets);
    packed->segments = sgm_alloc(n * sizeof *packed->segments);
    packed->sequence_start = sgm_alloc(((size_t)packed->sequence_capacity + 1) * sizeof *packed->sequence_start);
    packed->domain = sgm_alloc((size_t)packed->sequence_capacity * sizeof *packed->domain);
    if (!packed->tokens || !packed->positions || !packed->targets || !packed->segments || !packed->sequence_start ||
        !packed->domain) {
        sgm_packed_free(packed);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a batch of %lld rows", (long long)rows);
    }
    packed->rows = (sgm_rows){.tokens = packed->tokens,
                              .positions = packed->positions,
                              .targets = packed->targets,
                              .segments = packed->segments,
                              .sequence_start = packed->sequence_start};
    *out = packed;
    return SGM_OK;
}

void sgm_packed_free(sgm_packed *packed) {
    if (!packed)
        return;
    sgm_free(packed->tokens);
    sgm_free(packed->positions);
    sgm_free(packed->targets);
    sgm_free(packed->segments);
    sgm_free(packed->sequence_start);
    sgm_free(packed->domain);
    sgm_free(packed);
}

/* Up to `room` rows of the domain's current document as a segment at row `at`; returns how many. Row j of a document
 * predicts its token j and is fed the token before it, or, for j = 0, end-of-text: the document's own last token. */
static int64_t take_segment(sgm_loader *loader, size_t domain, int64_t room, int64_t at, sgm_packed *packed) {
    domain_stream *stream = &loader->domains[domain];
    int64_t count;
    const int32_t *document = current_document(loader, domain, &count);
    int64_t first = stream->row, taken = count - first < room ? count - first : room;
    for (int64_t i = 0; i < taken; i++) {
        int64_t row = first + i;
        packed->tokens[at + i] = row ? document[row - 1] : document[count - 1];
        packed->targets[at + i] = document[row];
        packed->positions[at + i] = (int32_t)i;
    }
    packed->segments[packed->rows.segment_count++] = (sgm_segment){.row = at, .rows = taken};
    stream->row += taken;
    if (stream->row == count) {
        stream->row = 0;
        if (++stream->index == stream->documents) {
            stream->index = 0;
            set_epoch(loader, domain, stream->epoch + 1);
        }
    }
    return taken;
}

void sgm_loader_next(sgm_loader *loader, int64_t windows, sgm_packed *packed) {
    assert(windows <= packed->sequence_capacity && windows * loader->context <= packed->row_capacity);
    packed->rows.rows = packed->rows.segment_count = packed->rows.sequence_count = 0;
    for (int64_t w = 0; w < windows; w++) {
        size_t domain = draw_domain(loader);
        int64_t at = packed->rows.rows, end = at + loader->context;
        packed->sequence_start[w] = at;
        packed->domain[w] = (int32_t)domain;
        while (at < end)
            at += take_segment(loader, domain, end - at, at, packed);
        packed->rows.rows = end;
        loader->window++;
    }
    packed->sequence_start[windows] = packed->rows.rows;
    packed->rows.sequence_count = windows;
    packed->target_count = packed->rows.rows;
}

void sgm_packed_slice(const sgm_packed *from, int64_t first, int64_t count, sgm_packed *into) {
    assert(first >= 0 && count >= 0 && first + count <= from->rows.sequence_count);
    int64_t begin = from->sequence_start[first], rows = from->sequence_start[first + count] - begin;
    assert(rows <= into->row_capacity && count <= into->sequence_capacity);
    size_t bytes = (size_t)rows * sizeof(int32_t);
    memcpy(into->tokens, from->tokens + begin, bytes);
    memcpy(into->positions, from->positions + begin, bytes);
    memcpy(into->targets, from->targets + begin, bytes);
    for (int64_t s = 0; s <= count; s++)
        into->sequence_start[s] = from->sequence_start[first + s] - begin;
    memcpy(into->domain, from->domain + first, (size_t)count * sizeof *into->domain);
    into->rows.segment_count = 0;
    for (int64_t s = 0; s < from->rows.segment_count; s++) {
        sgm_segment segment = from->segments[s];
        if (segment.row < begin || segment.row >= begin + rows)
            continue;
        segment.row -= begin;
        into->segments[into->rows.segment_count++] = segment;
    }
    into->target_count = 0;
    for (int64_t r = 0; r < rows; r++)
        into->target_count += into->targets[r] >= 0;
    into->rows.rows = rows;
    into->rows.sequence_count = count;
}

/* ---- position -------------------------------------------------------------------------------------------------- */

int64_t sgm_loader_position_count(const sgm_loader *loader) {
    return 1 + POSITION_PER_DOMAIN * (int64_t)loader->domain_count;
}

void sgm_loader_position_get(const sgm_loader *loader, int64_t *values) {
    *values++ = loader->window;
    for (size_t d = 0; d < loader->domain_count; d++) {
        *values++ = loader->domains[d].epoch;
        *values++ = loader->domains[d].index;
        *values++ = loader->domains[d].row;
    }
}

sgm_status sgm_loader_position_put(sgm_loader *loader, const int64_t *values, int64_t count, sgm_error *error) {
    static const char *hint = "resume with the data folder that the run began with";
    if (count != sgm_loader_position_count(loader) || values[0] < 0)
        return sgm_fail(error, SGM_EFORMAT, hint, "the saved data position is of other data: %lld numbers, not %lld",
                        (long long)count, (long long)sgm_loader_position_count(loader));
    /* Check everything before anything changes. */
    for (size_t d = 0; d < loader->domain_count; d++) {
        const int64_t *v = values + 1 + POSITION_PER_DOMAIN * d;
        domain_stream probe = loader->domains[d];
        bool fresh = v[0] == 0 && v[1] == 0 && v[2] == 0, good = fresh;
        if (!fresh && v[0] >= 0 && v[1] >= 0 && v[1] < probe.documents && v[2] >= 0) {
            int64_t tokens = 0, keep = probe.epoch;
            set_epoch(loader, d, v[0]);
            loader->domains[d].index = v[1];
            current_document(loader, d, &tokens);
            set_epoch(loader, d, keep);
            loader->domains[d].index = probe.index;
            good = v[2] < tokens;
        }
        if (!good)
            return sgm_fail(error, SGM_EFORMAT, hint, "the saved data position lies outside domain %s",
                            sgm_corpus_domain(loader->corpus, d));
    }
    loader->window = values[0];
    for (size_t d = 0; d < loader->domain_count; d++) {
        const int64_t *v = values + 1 + POSITION_PER_DOMAIN * d;
        set_epoch(loader, d, v[0]);
        loader->domains[d].index = v[1];
        loader->domains[d].row = v[2];
    }
    return SGM_OK;
}

/* ---- evaluation ------------------------------------------------------------------------------------------------ */

bool sgm_evaluation_window(int64_t count, int64_t context, int64_t index, int64_t *begin, int64_t *end,
                           int64_t *score) {
    int64_t rows = count - 1, half = context > 1 ? context / 2 : 1;
    if (rows < 1 || context < 1 || index < 0 || index > rows / half)
        return false;
    *begin = index * half;
    *end = rows - *begin < context ? rows : *begin + context;
    *score = index ? *begin - half + context : 0; /* where the window before ended */
    return *score < rows;
}
