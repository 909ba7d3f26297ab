// SPDX-License-Identifier: Apache-2.0
/* What a trace shows: the load of every expert, of all tokens and by domain, and how much the domains differ in it. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "eval/traced.h"

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the statistics of a trace");
}

/* ---- counting --------------------------------------------------------------------------------------------------- */

static sgm_status load_new(const sgm_trace_info *about, sgm_trace_load *load, sgm_error *error) {
    size_t layers = (size_t)about->layers;
    load->layer = sgm_alloc(layers * sizeof *load->layer);
    load->load = sgm_alloc(layers * (size_t)sgm_trace_stride(about) * sizeof *load->load);
    load->computed = sgm_alloc(layers * sizeof *load->computed);
    return load->layer && load->load && load->computed ? SGM_OK : no_memory(error);
}

static void load_free(sgm_trace_load *load) {
    sgm_free(load->layer);
    sgm_free(load->load);
    sgm_free(load->computed);
    *load = (sgm_trace_load){0};
}

static void count_block(const sgm_trace_block *block, int64_t layers, int64_t stride, sgm_trace_load *domains,
                        int64_t *computed_load) {
    for (int64_t t = 0; t < block->tokens; t++)
        domains[block->domain[t]].tokens++;
    for (int64_t l = 0; l < layers; l++)
        for (int64_t t = 0; t < block->tokens; t++) {
            sgm_trace_load *of = &domains[block->domain[t]];
            int64_t begin = block->first[l] + t * block->slots[l];
            for (int64_t place = begin; place < begin + block->slots[l]; place++) {
                if (block->expert[place] == SGM_TRACE_UNUSED)
                    continue;
                of->load[l * stride + block->expert[place]]++;
                of->computed[l] += block->flags[place] == 0;
                computed_load[l * stride + block->expert[place]] += block->flags[place] == 0;
            }
        }
}

/* The fields of every layer. `probability` (L, E) sums; NULL: not known. */
static void summarise(sgm_trace_load *load, const sgm_trace_info *about, const double *probability,
                      const double *none) {
    int64_t stride = sgm_trace_stride(about);
    for (int64_t l = 0; l < about->layers; l++) {
        sgm_layer_stats *stats = &load->layer[l];
        /* sgm_load only reads from here on */
        sgm_load of = {.tokens = load->tokens,
                       .experts = sgm_trace_experts(about, l),
                       .null_experts = sgm_trace_experts(about, l) - sgm_trace_computing(about, l),
                       .computed = load->computed[l],
                       .count = load->load + l * stride,
                       .probability = (double *)(uintptr_t)(probability ? probability + l * stride : none)};
        sgm_layer_stats_of(&of, stats);
        if (!probability)
            stats->probability_entropy_over_log_e = stats->correlation = (double)NAN;
    }
}

/* ---- how much domains differ ------------------------------------------------------------------------------------ */

/* `count` and `tokens`: (domains) scratch. */
static void diverge(sgm_trace_stats *stats, const sgm_trace_info *about, const int64_t **count, int64_t *tokens,
                    double *scratch) {
    size_t seen = 0;
    for (size_t d = 0; d < stats->domains; d++) {
        tokens[d] = stats->domain[d].tokens;
        seen += tokens[d] > 0;
    }
    for (int64_t l = 0; l < stats->layers; l++) {
        for (size_t d = 0; d < stats->domains; d++)
            count[d] = stats->domain[d].load + l * sgm_trace_stride(about);
        sgm_divergence found =
            sgm_domain_divergence(count, tokens, stats->domains, sgm_trace_computing(about, l), scratch);
        stats->domain_divergence_nats[l] = seen > 1 ? found.nats : (double)NAN;
        stats->domain_divergence_noise_nats[l] = seen > 1 ? found.noise_nats : (double)NAN;
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Domains add up to all. *sums (L, E): Σ over the domains; NULL where the trace has none. */
static sgm_status add_up(const sgm_trace *trace, sgm_trace_stats *stats, double **sums, sgm_error *error) {
    int64_t L = stats->layers, E = sgm_routed_stride(stats->experts, stats->attention_experts);
    *sums = sgm_alloc((size_t)(L * E) * sizeof **sums);
    if (!*sums)
        return no_memory(error);
    bool known = stats->domains > 0;
    for (size_t d = 0; d < stats->domains; d++) {
        const double *own = sgm_trace_probability(trace, d);
        known = known && own;
        stats->all.tokens += stats->domain[d].tokens;
        for (int64_t i = 0; i < L * E; i++) {
            stats->all.load[i] += stats->domain[d].load[i];
            (*sums)[i] += own ? own[i] : 0;
        }
        for (int64_t l = 0; l < L; l++)
            stats->all.computed[l] += stats->domain[d].computed[l];
    }
    if (!known) {
        sgm_free(*sums);
        *sums = NULL;
    }
    return SGM_OK;
}

static sgm_status finish(const sgm_trace *trace, sgm_trace_stats *stats, double *scratch, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    int64_t E = sgm_trace_stride(about);
    double *sums;
    sgm_status status = add_up(trace, stats, &sums, error);
    if (status)
        return status;
    memset(scratch, 0, (size_t)E * sizeof *scratch);
    summarise(&stats->all, about, sums, scratch);
    for (size_t d = 0; d < stats->domains; d++)
        summarise(&stats->domain[d], about, sgm_trace_probability(trace, d), scratch);
    sgm_free(sums);
    const int64_t **count = sgm_alloc((stats->domains + 1) * sizeof *count);
    int64_t *tokens = sgm_alloc((stats->domains + 1) * sizeof *tokens);
    bool room = count && tokens;
    if (room)
        diverge(stats, about, count, tokens, scratch);
    sgm_free(count);
    sgm_free(tokens);
    return room ? SGM_OK : no_memory(error);
}

static sgm_status make_room(const sgm_trace *trace, sgm_trace_stats *stats, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    uint64_t numbers =
        (uint64_t)about->layers * (uint64_t)sgm_trace_stride(about) * (about->domains + 3) * sizeof(int64_t);
    /* A domain takes 88 bytes of the file and a number for every expert here. A whole trace has as many sums. */
    if ((uint64_t)about->layers * (uint64_t)sgm_trace_stride(about) * about->domains >
        SGM_TRACE_CELLS_MOST + sgm_trace_size(trace))
        return sgm_fail(error, SGM_EFORMAT, "trace more text, or fewer domains at a time",
                        "%zu domains of %" PRId64 " layers with %" PRId64 " experts are more than a trace of %" PRIu64
                        " bytes can tell apart",
                        about->domains, about->layers, sgm_trace_stride(about), sgm_trace_size(trace));
    sgm_status status = sgm_memory_check(numbers, "the load of every domain", error);
    if (status)
        return status;
    stats->layers = about->layers;
    stats->experts = about->experts;
    stats->null_experts = about->null_experts;
    stats->attention_experts = about->attention_experts;
    stats->domain_divergence_nats = sgm_alloc((size_t)about->layers * sizeof(double));
    stats->domain_divergence_noise_nats = sgm_alloc((size_t)about->layers * sizeof(double));
    stats->domain = sgm_alloc((about->domains + 1) * sizeof *stats->domain);
    stats->computed_load = sgm_alloc((size_t)(about->layers * sgm_trace_stride(about)) * sizeof *stats->computed_load);
    if (!stats->computed_load || !stats->domain_divergence_nats || !stats->domain_divergence_noise_nats ||
        !stats->domain)
        return no_memory(error);
    stats->domains = about->domains;
    status = load_new(about, &stats->all, error);
    for (size_t d = 0; !status && d < about->domains; d++)
        status = load_new(about, &stats->domain[d], error);
    return status;
}

sgm_status sgm_trace_summarise(sgm_trace *trace, sgm_trace_stats *stats, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    *stats = (sgm_trace_stats){0};
    if (about->tokens == 0)
        return sgm_fail(error, SGM_EFORMAT, "trace a longer text", "there is no token in the trace");
    sgm_status status = make_room(trace, stats, error);
    for (int64_t b = 0; !status && b < about->blocks; b++) {
        sgm_trace_block block;
        status = sgm_trace_read(trace, b, &block, error);
        if (!status)
            count_block(&block, about->layers, sgm_trace_stride(about), stats->domain, stats->computed_load);
    }
    double *scratch = status ? NULL : sgm_alloc(2 * (size_t)sgm_trace_stride(about) * sizeof *scratch);
    if (!status)
        status = scratch ? finish(trace, stats, scratch, error) : no_memory(error);
    sgm_free(scratch);
    if (status)
        sgm_trace_stats_free(stats);
    return status;
}

void sgm_trace_stats_free(sgm_trace_stats *stats) {
    load_free(&stats->all);
    for (size_t d = 0; d < stats->domains; d++)
        load_free(&stats->domain[d]);
    sgm_free(stats->domain);
    sgm_free(stats->computed_load);
    sgm_free(stats->domain_divergence_nats);
    sgm_free(stats->domain_divergence_noise_nats);
    *stats = (sgm_trace_stats){0};
}
