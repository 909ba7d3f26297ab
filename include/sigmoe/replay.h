// SPDX-License-Identifier: Apache-2.0
/* What a cache of experts would have done: a recorded trace replayed under a policy of the registry "cache".
 *
 * Tokens come one after the other, as in decoding, each through all layers; every assignment that costs a row asks for its
 * expert. Reading an expert that is not held is a miss and costs its bytes. */
#ifndef SIGMOE_REPLAY_H
#define SIGMOE_REPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"
#include "sigmoe/trace.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sgm_replay sgm_replay;
/* Take a trace's accesses into memory (4 bytes each); the trace is no longer needed then. Errors: those of sgm_trace_read;
 * SGM_EFORMAT it holds no assignment; SGM_EMEMORY. */
sgm_status sgm_replay_new(sgm_trace *trace, sgm_replay **replay, sgm_error *error);
void sgm_replay_free(sgm_replay *replay); /* NULL is fine */

typedef enum sgm_replay_pool {
    SGM_POOL_LAYER, /* each layer has a cache of its own */
    SGM_POOL_MODEL, /* one cache for all: L times as many experts of any layer */
} sgm_replay_pool;

typedef struct sgm_replay_options {
    const char *policy;
    int64_t experts; /* that fit, a layer; 0: as many as fit `bytes` */
    double bytes;    /* for all layers together, with as many experts in each */
    sgm_replay_pool pool;
    const char *const *settings; /* "decay=0.5", … of the policy */
    size_t setting_count;
} sgm_replay_options;

typedef struct sgm_replay_layer {
    int64_t hits, misses;
    double bytes_read; /* NaN: the trace does not know the size of an expert */
} sgm_replay_layer;

typedef struct sgm_replay_result {
    int64_t tokens, layers, capacity; /* capacity: experts a layer */
    int64_t hits, misses, evictions;
    int64_t first_uses; /* misses that no cache could avoid: the first use of each expert */
    int64_t passed_by;  /* experts that were used and not kept */
    int64_t fallbacks;  /* evictions below the threshold (lfu_decay) */
    double hit_rate, bytes_read_per_token;
    sgm_replay_layer *layer; /* (L) heap */
} sgm_replay_result;
/* Whether the policy and its settings can be, before there is a trace. Errors: those of sgm_replay_run about them. */
sgm_status sgm_replay_check(const sgm_replay_options *options, sgm_error *error);
/* From an empty cache. Errors: SGM_ENOTFOUND no such policy; SGM_EARGUMENT a setting or size that cannot be; SGM_EMEMORY. */
sgm_status sgm_replay_run(const sgm_replay *replay, const sgm_replay_options *options, sgm_replay_result *result,
                          sgm_error *error);
void sgm_replay_result_free(sgm_replay_result *result);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
