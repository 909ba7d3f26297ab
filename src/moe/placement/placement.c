// SPDX-License-Identifier: Apache-2.0
/* Planning a placement layer by layer, and scoring it by the load of GPUs. See sigmoe/placement.h. */
#include "moe/placement/placement.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "moe/placement/packing.h"

enum { MOST = 1 << 24 }; /* slots of a layer; keeps every product far from overflow */

static sgm_status check_shape(const sgm_placement_shape *s, sgm_error *error) {
    if (s->layers < 1 || s->experts < 1 || s->slots < 1 || s->groups < 1 || s->nodes < 1 || s->gpus < 1 ||
        s->slots > MOST || s->layers > MOST)
        return sgm_fail(error, SGM_EARGUMENT, "give numbers of 1 or more, and 16,777,216 slots or layers at most",
                        "no placement is possible: %" PRId64 " layers, %" PRId64 " experts, %" PRId64 " slots, %" PRId64
                        " groups, %" PRId64 " nodes, %" PRId64 " GPUs",
                        s->layers, s->experts, s->slots, s->groups, s->nodes, s->gpus);
    if (s->slots < s->experts)
        return sgm_fail(error, SGM_EARGUMENT, "give at least as many slots as there are experts",
                        "%" PRId64 " slots do not hold %" PRId64 " experts", s->slots, s->experts);
    const struct {
        const char *what, *by, *hint;
        int64_t whole, part;
    } rules[] = {
        {"slots", "GPUs", "give a multiple: every GPU has as many slots", s->slots, s->gpus},
        {"GPUs", "nodes", "give a multiple: every node has as many GPUs", s->gpus, s->nodes},
        {"experts", "groups", "every group has as many experts; without groups say 1", s->experts, s->groups},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].whole % rules[i].part)
            return sgm_fail(error, SGM_EARGUMENT, rules[i].hint, "%" PRId64 " %s do not divide by %" PRId64 " %s",
                            rules[i].whole, rules[i].what, rules[i].part, rules[i].by);
    return SGM_OK;
}

static sgm_status check_load(const double *load, const sgm_placement_shape *s, sgm_error *error) {
    double sum = 0;
    for (int64_t i = 0; i < s->layers * s->experts; i++)
        if (!(load[i] >= 0 && load[i] < INFINITY))
            return sgm_fail(error, SGM_EARGUMENT, "loads are numbers of 0 or more",
                            "the load of expert %" PRId64 " in layer %" PRId64 " is %g", i % s->experts, i / s->experts,
                            load[i]);
    for (int64_t i = 0; i < s->layers * s->experts; i++)
        sum += load[i];
    return sum < INFINITY ? SGM_OK
                          : sgm_fail(error, SGM_EARGUMENT, "divide all loads by the same number",
                                     "the sum of all loads is too large for a number");
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static sgm_status make_room(const sgm_placement_shape *shape, sgm_placement *out, sgm_error *error) {
    size_t layers = (size_t)shape->layers;
    uint64_t bytes = (uint64_t)layers * ((uint64_t)shape->slots * sizeof(int32_t) + (uint64_t)shape->experts * 8);
    sgm_status status = sgm_memory_check(bytes, "the placement", error);
    if (status)
        return status;
    out->shape = *shape;
    out->physical_to_logical = sgm_alloc(layers * (size_t)shape->slots * sizeof *out->physical_to_logical);
    out->replicas = sgm_alloc(layers * (size_t)shape->experts * sizeof *out->replicas);
    out->layer_mean_over_max_per_gpu = sgm_alloc(layers * sizeof(double));
    if (!out->physical_to_logical || !out->replicas || !out->layer_mean_over_max_per_gpu)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the placement");
    return SGM_OK;
}

/* A plan that leaves an expert out or names one that is not there would be a bug of its method. */
static sgm_status count_replicas(const sgm_placement_plugin *method, sgm_placement *out, sgm_error *error) {
    const sgm_placement_shape *s = &out->shape;
    for (int64_t i = 0; i < s->layers * s->slots; i++) {
        int32_t e = out->physical_to_logical[i];
        if (e < 0 || e >= s->experts)
            return sgm_fail(error, SGM_EINTERNAL, NULL, "placement %s: slot %" PRId64 " holds no expert",
                            method->plugin.name, i % s->slots);
        out->replicas[i / s->slots * s->experts + e]++;
    }
    for (int64_t i = 0; i < s->layers * s->experts; i++)
        if (out->replicas[i] == 0)
            return sgm_fail(error, SGM_EINTERNAL, NULL, "placement %s: expert %" PRId64 " has no slot",
                            method->plugin.name, i % s->experts);
    return SGM_OK;
}

sgm_status sgm_place(const char *name, const double *load, const sgm_placement_shape *shape, sgm_placement *out,
                     sgm_error *error) {
    *out = (sgm_placement){0};
    const sgm_placement_plugin *method = sgm_placement_find(name, error);
    if (!method)
        return SGM_ENOTFOUND;
    sgm_status status = check_shape(shape, error);
    if (!status)
        status = check_load(load, shape, error);
    if (!status)
        status = make_room(shape, out, error);
    sgm_packing room = {0};
    if (!status)
        status = sgm_packing_init(&room, shape->slots, error);
    if (!status) {
        double begun = seconds();
        for (int64_t l = 0; l < shape->layers; l++)
            method->plan(shape, load + l * shape->experts, &room, out->physical_to_logical + l * shape->slots);
        out->planner_seconds = seconds() - begun;
        status = count_replicas(method, out, error);
    }
    sgm_packing_fini(&room);
    if (status)
        sgm_placement_free(out);
    else
        out->mean_over_max_per_gpu = sgm_placement_balance(out, load, out->layer_mean_over_max_per_gpu);
    return status;
}

void sgm_placement_free(sgm_placement *placement) {
    sgm_free(placement->physical_to_logical);
    sgm_free(placement->replicas);
    sgm_free(placement->layer_mean_over_max_per_gpu);
    *placement = (sgm_placement){0};
}

double sgm_placement_balance(const sgm_placement *placement, const double *load, double *by_layer) {
    const sgm_placement_shape *s = &placement->shape;
    double means = 0, maxima = 0;
    int64_t each = s->slots / s->gpus;
    for (int64_t l = 0; l < s->layers; l++) {
        const int32_t *expert = placement->physical_to_logical + l * s->slots;
        const int64_t *replicas = placement->replicas + l * s->experts;
        double sum = 0, most = 0;
        for (int64_t g = 0; g < s->gpus; g++) {
            double own = 0;
            for (int64_t p = g * each; p < (g + 1) * each; p++)
                own += load[l * s->experts + expert[p]] / (double)replicas[expert[p]];
            sum += own;
            most = own > most ? own : most;
        }
        double mean = sum / (double)s->gpus;
        if (by_layer)
            by_layer[l] = most > 0 ? mean / most : 1;
        means += mean;
        maxima += most;
    }
    return maxima > 0 ? means / maxima : 1;
}
