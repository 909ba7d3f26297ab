// SPDX-License-Identifier: Apache-2.0
/* Devices as thread groups: does the time of an MoE layer follow the load of its busiest device?
 *
 * The experts of a layer are divided among devices in equal runs of neighbours, and a thread is a device: it
 * computes the rows that chose its own experts, takes nothing from the others, and waits for them at a barrier; then
 * the results are combined, tokens split evenly. Beside it the layer as the library runs it (moe_ffn, whose threads
 * draw blocks of rows from one heap, and which also multiplies by the router), with the same routes. Both must give
 * the same bytes. Mixture of Grouped Experts (arXiv 2505.21411) says that the first time grows with max/mean of the
 * devices' loads, and that its router keeps that at 1.
 *
 * Routes are those of traces of one shape (`sigmoe trace`), and made ones whose imbalance rises from 1 to the number
 * of devices; weights and inputs are random, which changes no time. Batches of all routes and both ways take turns.
 * Usage: bench_devices [-g DEVICES] [-t TOKENS] [-d WIDTH] [-f EXPERT_WIDTH] [-n BATCHES] [-r ROUNDS] [-v] [TRACE…] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "op/ops.h"
#include "sigmoe/trace.h"

typedef struct options {
    int64_t devices, tokens, width, hidden, batches, rounds;
    bool each;
} options;

/* One layer's routes of one batch, and how long it took. */
typedef struct batch {
    sgm_routing record;
    int64_t layer;
    double max_over_mean, imbalance; /* imbalance: (max − min) / tokens */
    double *samples[2];              /* (rounds) seconds: by device, shared */
    double ms[2];                    /* medians */
} batch;

typedef struct routes {
    const char *name;
    int64_t experts, slots, count;
    batch *batches;
    /* the layer */
    sgm_weight gate;
    sgm_expert_bank bank;
    sgm_router router;
    sgm_moe_args args;
    char *values; /* of a walk */
} routes;

/* What one run of a layer needs; the threads share it. */
typedef struct layer_run {
    const options *o;
    const sgm_kernels *kernels;
    sgm_team *team;
    sgm_expert *experts;
    sgm_real *x, *x_rows, *gate, *up, *h, *out, *y[2];
    routes *routes;
    const sgm_routing *record;
    bool shared;
    double seconds;
} layer_run;

static void fail(const char *what) {
    fprintf(stderr, "error: %s\n", what);
    exit(1);
}

static void *take(size_t count, size_t size) {
    void *block = sgm_alloc(count * size + 1);
    if (!block)
        fail("not enough memory");
    return block;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- routes ----------------------------------------------------------------------------------------------------- */

/* A router that repeats a record. */
static sgm_status any(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings, (void)experts, (void)experts_per_token, (void)error;
    return SGM_OK;
}

static void no_score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin,
                     int64_t end) {
    (void)settings, (void)kernels, (void)record, (void)begin, (void)end;
}

static void repeat(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const sgm_routing *from = *(const sgm_routing *const *)settings;
    size_t at = (size_t)(begin * record->slots), count = (size_t)((end - begin) * record->slots);
    memcpy(record->expert + at, from->expert + at, count * sizeof *record->expert);
    memcpy(record->weight + at, from->weight + at, count * sizeof *record->weight);
    memcpy(record->flags + at, from->flags + at, count * sizeof *record->flags);
}

static const sgm_router_plugin recorded = {
    .plugin = {.name = "recorded", .summary = "the choices of a record"},
    .check = any,
    .fixed = true,
    .score = no_score,
    .select = repeat,
};

static void batches_new(routes *r, const options *o, int64_t count) {
    size_t bytes = sgm_routing_bytes(o->tokens, r->experts, r->slots);
    r->count = count;
    r->batches = take((size_t)count, sizeof *r->batches);
    for (int64_t i = 0; i < count; i++) {
        sgm_routing *record = &r->batches[i].record;
        sgm_routing_place(record, take(bytes, 1), o->tokens, r->experts, r->slots);
        for (int64_t p = 0; p < o->tokens * r->slots; p++)
            record->expert[p] = -1;
        for (int way = 0; way < 2; way++)
            r->batches[i].samples[way] = take((size_t)o->rounds, sizeof(double));
    }
}

/* Both orders, and the load of the devices. */
static void batches_finish(routes *r, const options *o) {
    for (int64_t i = 0; i < r->count; i++) {
        batch *b = &r->batches[i];
        int64_t most = 0, least = INT64_MAX, own = r->experts / o->devices;
        sgm_routing_sort_alone(&b->record);
        for (int64_t d = 0; d < o->devices; d++) {
            int64_t load = b->record.offset[(d + 1) * own] - b->record.offset[d * own];
            most = load > most ? load : most;
            least = load < least ? load : least;
        }
        if (b->record.assignments > 0)
            b->max_over_mean = (double)(most * o->devices) / (double)b->record.assignments;
        b->imbalance = (double)(most - least) / (double)o->tokens;
    }
}

/* The tokens of a trace's block that fall into batches; these take turns through the layers, and spread over the text's
 * `chunks` of a batch's length. */
static void add_block(routes *r, const options *o, const sgm_trace_block *block, int64_t before, int64_t layers,
                      int64_t chunks) {
    for (int64_t i = 0; i < r->count; i++) {
        int64_t layer = i % layers, first = i * chunks / r->count * o->tokens;
        sgm_routing *record = &r->batches[i].record;
        r->batches[i].layer = layer;
        for (int64_t t = 0; t < block->tokens; t++) {
            int64_t row = before + t - first, at = block->first[layer] + t * block->slots[layer];
            for (int64_t k = 0; row >= 0 && row < o->tokens && k < block->slots[layer]; k++) {
                int64_t to = row * r->slots + k;
                if (block->expert[at + k] == SGM_TRACE_UNUSED)
                    continue;
                if (k >= r->slots)
                    fail("a token of the trace has more experts than its layer's experts per token");
                record->expert[to] = block->expert[at + k];
                record->weight[to] = block->weight[at + k];
                record->flags[to] = block->flags[at + k];
            }
        }
    }
}

static void routes_read(routes *r, const options *o, const char *path) {
    sgm_trace *trace;
    sgm_trace_block block;
    sgm_error error = {0};
    if (sgm_trace_open(path, &trace, &error))
        fail(error.message);
    const sgm_trace_info *about = sgm_trace_about(trace);
    const char *slash = strrchr(path, '/');
    *r = (routes){.name = slash ? slash + 1 : path, .experts = about->experts};
    if (about->attention_experts > 0 || about->null_experts > 0)
        fail("the trace has attention experts or null experts: only experts with weights are divided here");
    if (about->experts % o->devices)
        fail("the number of devices does not divide that of the trace's experts");
    for (int64_t l = 0; l < about->layers; l++)
        r->slots = about->experts_per_token[l] > r->slots ? about->experts_per_token[l] : r->slots;
    int64_t chunks = about->tokens / o->tokens, all = chunks * about->layers, before = 0;
    if (chunks < 1)
        fail("the trace has fewer tokens than a batch");
    batches_new(r, o, all < o->batches ? all : o->batches);
    for (int64_t b = 0; b < about->blocks; b++, before += block.tokens) {
        if (sgm_trace_read(trace, b, &block, &error))
            fail(error.message);
        add_block(r, o, &block, before, about->layers, chunks);
    }
    sgm_trace_close(trace);
    batches_finish(r, o);
}

/* Made routes, of the shape of the traces' (NULL: there are none): each of a token's experts is of the first device
 * with a probability that rises from batch to batch. */
static void routes_make(routes *r, const options *o, const routes *like) {
    int64_t K = like ? like->slots : 4;
    *r = (routes){.name = "made", .experts = like ? like->experts : 2 * K * o->devices, .slots = K};
    int64_t own = r->experts / o->devices;
    if (own < K)
        fail("a device has fewer experts than a token takes: made routes could not all go to one");
    batches_new(r, o, o->batches);
    for (int64_t i = 0; i < r->count; i++) {
        sgm_routing *record = &r->batches[i].record;
        double even = 1 / (double)o->devices,
               share = even + (1 - even) * (double)i / (double)(r->count - (r->count > 1));
        sgm_rng rng = sgm_rng_at(3, (uint64_t)i, 0);
        for (int64_t p = 0; p < o->tokens * K; p++) {
            bool taken = true;
            while (taken) {
                bool first = sgm_rng_uniform(&rng) < share;
                uint64_t e = first ? sgm_rng_below(&rng, (uint64_t)own)
                                   : (uint64_t)own + sgm_rng_below(&rng, (uint64_t)(r->experts - own));
                record->expert[p] = (int32_t)e;
                taken = false;
                for (int64_t q = p - p % K; q < p; q++)
                    taken = taken || record->expert[q] == record->expert[p];
            }
            record->weight[p] = (sgm_real)0.25;
        }
    }
    batches_finish(r, o);
}

/* ---- the layer -------------------------------------------------------------------------------------------------- */

static void by_device(const layer_run *run, const sgm_worker *worker) {
    const sgm_routing *record = run->record;
    int64_t D = run->o->width, F = run->o->hidden, own = record->experts / worker->threads, begin, end;
    for (int64_t e = worker->thread * own; e < (worker->thread + 1) * own; e++) {
        int64_t first = record->offset[e], rows = record->offset[e + 1] - first;
        const sgm_expert *expert = &run->experts[e];
        sgm_real *x = run->x_rows + first * D, *gate = run->gate + first * F, *up = run->up + first * F;
        sgm_real *h = run->h + first * F;
        if (rows == 0)
            continue;
        for (int64_t i = 0; i < rows; i++)
            memcpy(x + i * D, run->x + record->item[first + i] * D, (size_t)D * sizeof *x);
        run->kernels->matmul_nt(rows, F, D, x, D, expert->gate, D, gate, F, false);
        run->kernels->matmul_nt(rows, F, D, x, D, expert->up, D, up, F, false);
        for (int64_t i = 0; i < rows; i++)
            run->kernels->swiglu(F, gate + i * F, up + i * F, h + i * F);
        run->kernels->matmul_nt(rows, D, F, h, F, expert->down, F, run->out + first * D, D, false);
    }
    sgm_barrier((sgm_worker *)worker);
    sgm_split(worker, record->items, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        sgm_real *y = run->y[0] + t * D;
        memcpy(y, run->x + t * D, (size_t)D * sizeof *y);
        for (int64_t p = t * record->slots; p < (t + 1) * record->slots; p++)
            if (record->position[p] >= 0)
                run->kernels->axpy(D, record->weight[p], run->out + record->position[p] * D, y);
    }
}

/* On the walk: dry, or of one thread. */
static sgm_tensor as_the_library(const layer_run *run, sgm_walk *walk) {
    sgm_tensor x = {.data = run->x, .rows = run->o->tokens, .cols = run->o->width, .id = -1};
    return sgm_moe_ffn(walk, x, x, &run->routes->args);
}

static void work(sgm_worker *worker, void *argument) {
    layer_run *run = argument;
    sgm_walk walk = {.worker = worker, .kernels = run->kernels, .values = run->routes->values};
    sgm_tensor y = {0};
    double start = 0;
    sgm_barrier(worker);
    if (worker->thread == 0)
        start = now();
    if (run->shared)
        y = as_the_library(run, &walk);
    else
        by_device(run, worker);
    sgm_barrier(worker);
    if (worker->thread != 0)
        return;
    run->seconds = now() - start;
    if (run->shared)
        memcpy(run->y[1], y.data, (size_t)(y.rows * y.cols) * sizeof *y.data);
}

static void layer_new(layer_run *run, routes *r) {
    const options *o = run->o;
    sgm_error error = {0};
    r->gate = (sgm_weight){.name = "gate", .rows = r->experts, .cols = o->width};
    r->gate.data = take((size_t)(r->experts * o->width), sizeof(sgm_real));
    sgm_expert_bank_resident(&r->bank, r->experts, o->width, run->experts);
    r->router = (sgm_router){&recorded, &run->record};
    r->args = (sgm_moe_args){.router = &r->router, .gate = &r->gate, .bank = &r->bank, .experts_per_token = r->slots};
    run->routes = r;
    sgm_worker alone = {.thread = 0, .threads = (int)o->devices};
    sgm_walk dry = {.worker = &alone, .kernels = run->kernels, .dry = true, .error = &error};
    as_the_library(run, &dry);
    if (dry.status)
        fail(error.message);
    r->values = take(dry.peak, 1);
}

static sgm_real *normals(uint64_t stream, int64_t count, double scale) {
    sgm_real *data = take((size_t)count, sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = (sgm_real)(scale * sgm_rng_normal_at(11, stream, (uint64_t)i));
    return data;
}

static void run_new(layer_run *run, const options *o, routes *all, int count) {
    int64_t E = 0, A = 0, D = o->width, F = o->hidden;
    for (int i = 0; i < count; i++) {
        E = all[i].experts > E ? all[i].experts : E;
        A = all[i].slots * o->tokens > A ? all[i].slots * o->tokens : A;
    }
    run->experts = take((size_t)E, sizeof *run->experts);
    for (int64_t e = 0; e < E; e++)
        run->experts[e] = (sgm_expert){.width = F,
                                       .gate = normals((uint64_t)(3 * e), F * D, 0.05),
                                       .up = normals((uint64_t)(3 * e + 1), F * D, 0.05),
                                       .down = normals((uint64_t)(3 * e + 2), D * F, 0.05),
                                       .gate_stride = D,
                                       .up_stride = D,
                                       .down_stride = F};
    run->x = normals((uint64_t)(3 * E), o->tokens * D, 1);
    run->x_rows = take((size_t)(A * D), sizeof(sgm_real));
    run->out = take((size_t)(A * D), sizeof(sgm_real));
    run->gate = take((size_t)(A * F), sizeof(sgm_real));
    run->up = take((size_t)(A * F), sizeof(sgm_real));
    run->h = take((size_t)(A * F), sizeof(sgm_real));
    for (int way = 0; way < 2; way++)
        run->y[way] = take((size_t)(o->tokens * D), sizeof(sgm_real));
    for (int i = 0; i < count; i++)
        layer_new(run, &all[i]);
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

static double once(layer_run *run, routes *r, batch *b, bool shared) {
    run->routes = r;
    run->record = &b->record;
    run->shared = shared;
    sgm_team_run(run->team, work, run);
    return run->seconds;
}

static void compare(layer_run *run, routes *r) {
    for (int64_t i = 0; i < r->count; i++) {
        for (int way = 0; way < 2; way++)
            once(run, r, &r->batches[i], way);
        if (memcmp(run->y[0], run->y[1], (size_t)(run->o->tokens * run->o->width) * sizeof(sgm_real)))
            fail("devices and moe_ffn give different results");
    }
}

/* All batches in one way, then in the other, so that neither finds in a cache what the other read for the same batch. */
static void measure(layer_run *run, routes *all, int count) {
    for (int n = 0; n < count; n++)
        compare(run, &all[n]);
    for (int64_t round = 0; round < run->o->rounds; round++)
        for (int way = 0; way < 2; way++)
            for (int64_t i = 0; i < run->o->batches; i++)
                for (int n = 0; n < count; n++)
                    if (i < all[n].count)
                        all[n].batches[i].samples[way][round] = once(run, &all[n], &all[n].batches[i], way);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* Least squares: ms = a + b · max/mean, over batches. */
typedef struct fit {
    double n, x, y, xx, xy, yy;
} fit;

static void fit_add(fit *f, const batch *b, int way) {
    double x = b->max_over_mean, y = b->ms[way];
    f->n++, f->x += x, f->y += y, f->xx += x * x, f->xy += x * y, f->yy += y * y;
}

static void fit_print(const fit *f, const char *name, const char *way) {
    double xx = f->xx - f->x * f->x / f->n, xy = f->xy - f->x * f->y / f->n, yy = f->yy - f->y * f->y / f->n;
    printf("%-24s %-8s ", name, way);
    if (xx / f->n < 1e-6) {
        printf("the load is the same in every batch\n");
        return;
    }
    double b = xy / xx, a = (f->y - b * f->x) / f->n;
    printf("%9.3f %+9.3f   %5.3f   %6.1f %%\n", a, b, yy > 0 ? xy * xy / (xx * yy) : 1, 100 * b / (a + b));
}

static void report_routes(const routes *r, double *room) {
    double least = 1e300, most = 0, mean = 0, imbalance = 0, exact = 0;
    for (int64_t i = 0; i < r->count; i++) {
        const batch *b = &r->batches[i];
        least = b->max_over_mean < least ? b->max_over_mean : least;
        most = b->max_over_mean > most ? b->max_over_mean : most;
        mean += b->max_over_mean / (double)r->count;
        imbalance += b->imbalance / (double)r->count;
        exact += b->imbalance == 0;
    }
    printf("%-24s %4lld %2lld %7lld   %7.4f %5.1f %%   %6.3f (%.3f–%.3f)", r->name, (long long)r->experts,
           (long long)r->slots, (long long)r->count, imbalance, 100 * exact / (double)r->count, mean, least, most);
    for (int way = 0; way < 2; way++) {
        for (int64_t i = 0; i < r->count; i++)
            room[i] = r->batches[i].ms[way];
        printf("   %8.3f", median(room, r->count));
    }
    printf("\n");
}

static void report(const options *o, routes *all, int count, const char *kernels) {
    static const char *const ways[] = {"devices", "shared"};
    fit pooled[2] = {{0}};
    double *room = take((size_t)o->batches, sizeof *room);
    printf("%lld devices of one thread, %lld tokens a batch, D %lld, F %lld, f32, kernels %s; medians of %lld rounds; "
           "results "
           "equal to the byte\n\n",
           (long long)o->devices, (long long)o->tokens, (long long)o->width, (long long)o->hidden, kernels,
           (long long)o->rounds);
    for (int n = 0; n < count; n++)
        for (int64_t i = 0; i < all[n].count; i++) {
            batch *b = &all[n].batches[i];
            for (int way = 0; way < 2; way++) {
                b->ms[way] = 1e3 * median(b->samples[way], o->rounds);
                fit_add(&pooled[way], b, way);
            }
            if (o->each)
                printf("%s batch %lld layer %lld: max/mean %.4f, IS %.4f, devices %.3f ms, shared %.3f ms\n",
                       all[n].name, (long long)i, (long long)b->layer, b->max_over_mean, b->imbalance, b->ms[0],
                       b->ms[1]);
        }
    printf("%sroutes                      E  K batches   mean IS  IS = 0   max/mean (least–most)   devices ms  shared "
           "ms\n",
           o->each ? "\n" : "");
    for (int n = 0; n < count; n++)
        report_routes(&all[n], room);
    printf("\nms = a + b · max/mean              a         b      R²   b/(a+b), the share that follows the load\n");
    for (int n = 0; n < count; n++) {
        fit f = {0};
        for (int64_t i = 0; i < all[n].count; i++)
            fit_add(&f, &all[n].batches[i], 0);
        fit_print(&f, all[n].name, ways[0]);
    }
    for (int way = 0; way < 2; way++)
        fit_print(&pooled[way], "all together", ways[way]);
    sgm_free(room);
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

static int64_t whole(const char *text, int64_t least, int64_t most) {
    char *end;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || value < least || value > most) {
        fprintf(stderr, "error: '%s' is no whole number from %lld to %lld\n", text, (long long)least, (long long)most);
        exit(2);
    }
    return value;
}

static options parse(int argc, char **argv) {
    options o = {.devices = 2, .tokens = 256, .width = 256, .hidden = 256, .batches = 32, .rounds = 9};
    for (int c; (c = getopt(argc, argv, "g:t:d:f:n:r:v")) != -1;)
        switch (c) {
        case 'g':
            o.devices = whole(optarg, 2, 1024);
            break;
        case 't':
            o.tokens = whole(optarg, 1, 1 << 20);
            break;
        case 'd':
            o.width = whole(optarg, 1, 1 << 16);
            break;
        case 'f':
            o.hidden = whole(optarg, 1, 1 << 16);
            break;
        case 'n':
            o.batches = whole(optarg, 1, 1 << 20);
            break;
        case 'r':
            o.rounds = whole(optarg, 1, 1 << 20);
            break;
        case 'v':
            o.each = true;
            break;
        default:
            exit(2);
        }
    return o;
}

int main(int argc, char **argv) {
    options o = parse(argc, argv);
    layer_run run = {.o = &o};
    int count = argc - optind + 1;
    sgm_error error = {0};
    if (o.devices > sgm_usable_cores())
        fprintf(stderr, "warning: %lld devices on %d cores: times will follow the cores, not the load\n",
                (long long)o.devices, sgm_usable_cores());
    if (sgm_kernels_get("auto", &run.kernels, &error) || sgm_team_new((int)o.devices, &run.team, &error))
        fail(error.message);
    routes *all = take((size_t)count, sizeof *all);
    for (int i = 0; i + 1 < count; i++)
        routes_read(&all[i], &o, argv[optind + i]);
    for (int i = 1; i + 1 < count; i++)
        if (all[i].experts != all[0].experts || all[i].slots != all[0].slots)
            fail("the traces differ in their experts, or in how many a token takes: their times cannot be compared");
    routes_make(&all[count - 1], &o, count > 1 ? all : NULL);
    run_new(&run, &o, all, count);
    measure(&run, all, count);
    report(&o, all, count, run.kernels->name);
    sgm_team_free(run.team);
    return 0;
}
