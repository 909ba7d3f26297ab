// SPDX-License-Identifier: Apache-2.0
/* Rows of weights on their way into a file: packed from a model's weights, or made at random.
 *
 * Random rows in types of floats are the deviates of sgm_weight_initial. Packing 20 billion deviates into blocks one by one
 * would take ten minutes, so rows of quantised types are put together from runs of packed deviates: a pool of 2^22 of them for
 * every type and deviation, each run of a row drawn from it. A row is as normal as its pool, rows differ, and routing is as
 * spread as with fresh deviates (a pool of raw random bits would not do: a block type with a one-sided range gives every row
 * the same mean, and all tokens one expert). Each draw is a function of (seed, weight, row, run) alone. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/team.h"
#include "model/model_convert.h"

enum { RUN = 256, POOL_RUNS = 1 << 14, PACK_RUNS = 64 };

typedef struct sgm_block_pool {
    sgm_type type;
    double deviation;
    char *blocks;
} sgm_block_pool;

static sgm_block_pool *pool_find(const sgm_row_source *source, sgm_type type, double deviation) {
    for (int i = 0; i < source->pool_count; i++)
        if (source->pools[i].type == type && source->pools[i].deviation == deviation)
            return &source->pools[i];
    return NULL;
}

typedef struct filling {
    const sgm_block_pool *pool;
    uint64_t seed;
} filling;

static void fill_pool(sgm_worker *worker, void *argument) {
    const filling *f = argument;
    const sgm_quant *quant = sgm_quant_of(f->pool->type);
    size_t run_bytes = sgm_quant_row_bytes(f->pool->type, RUN);
    uint64_t stream = sgm_rng_stream("pool of blocks", 0);
    double normal[RUN];
    float x[RUN];
    for (int64_t task; (task = sgm_task(worker)) < POOL_RUNS / PACK_RUNS;)
        for (int64_t run = task * PACK_RUNS; run < (task + 1) * PACK_RUNS; run++) {
            sgm_rng_normals(f->seed, stream, (uint64_t)run * RUN, RUN, normal);
            for (int i = 0; i < RUN; i++)
                x[i] = (float)(f->pool->deviation * normal[i]);
            quant->pack(RUN, x, f->pool->blocks + (size_t)run * run_bytes);
        }
}

sgm_status sgm_row_source_random(uint64_t seed, const sgm_type_plan *plan, sgm_team *team, sgm_row_source *source,
                                 sgm_error *error) {
    enum { POOLS = 4 * SGM_TYPES }; /* weights have four deviations at most */
    *source = (sgm_row_source){.random = true, .seed = seed, .pools = sgm_alloc(POOLS * sizeof *source->pools)};
    if (!source->pools)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for random weights");
    sgm_status status = SGM_OK;
    sgm_gguf_part part;
    for (int64_t p = 0; !status && sgm_gguf_part_at(&plan->model->settings, plan->split, p, &part); p++) {
        sgm_type type = sgm_type_plan_given(plan, &part);
        double deviation = plan->model->weights[part.first].init_std;
        if (sgm_quant_of(type)->block == 1 || pool_find(source, type, deviation) || source->pool_count == POOLS)
            continue;
        sgm_block_pool *pool = &source->pools[source->pool_count];
        *pool = (sgm_block_pool){type, deviation, sgm_alloc(POOL_RUNS * sgm_quant_row_bytes(type, RUN))};
        if (!pool->blocks) {
            status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for random weights");
            break;
        }
        source->pool_count++;
        filling f = {pool, seed};
        sgm_team_run(team, fill_pool, &f);
    }
    if (status)
        sgm_row_source_free(source);
    return status;
}

void sgm_row_source_free(sgm_row_source *source) {
    for (int i = 0; i < source->pool_count; i++)
        sgm_free(source->pools[i].blocks);
    sgm_free(source->pools);
    *source = (sgm_row_source){0};
}

static void draw_row(const sgm_row_source *source, const sgm_block_pool *pool, const sgm_weight *weight, int64_t row,
                     char *out) {
    size_t run_bytes = sgm_quant_row_bytes(pool->type, RUN), row_bytes = sgm_quant_row_bytes(pool->type, weight->cols);
    uint64_t runs = (uint64_t)(weight->cols + RUN - 1) / RUN;
    sgm_rng rng = sgm_rng_at(source->seed, sgm_rng_stream(weight->name, 1), (uint64_t)row * runs);
    for (size_t done = 0; done < row_bytes; done += run_bytes) {
        size_t n = row_bytes - done < run_bytes ? row_bytes - done : run_bytes;
        memcpy(out + done, pool->blocks + (sgm_rng_u32(&rng) % POOL_RUNS) * run_bytes, n);
    }
}

/* Beyond this a value becomes infinite as it is packed; block types keep the largest they can hold instead. */
static float limit_of(sgm_type type) {
    return type == SGM_TYPE_F16 ? 65520.0F : type == SGM_TYPE_BF16 ? 0x1.ffp127F : INFINITY;
}

static bool all_below(const float *x, int64_t n, float limit) {
    bool below = true;
    for (int64_t i = 0; i < n; i++)
        below &= fabsf(x[i]) < limit; /* false for NaN */
    return below;
}

bool sgm_row_source_pack(const sgm_row_source *source, const sgm_weight *weight, int64_t row, sgm_type type,
                         float *scratch, void *out) {
    const sgm_quant *quant = sgm_quant_of(type);
    const float *from = scratch;
    if (source->random) {
        const sgm_block_pool *pool = weight->init_std > 0 ? pool_find(source, type, weight->init_std) : NULL;
        if (pool) {
            draw_row(source, pool, weight, row, out);
            return true;
        }
        sgm_weight_initial(weight, source->seed, row * weight->cols, weight->cols, scratch);
    } else if (weight->data) {
        from = weight->data + row * weight->cols;
    } else if (weight->stored.type == type) {
        memcpy(out, sgm_matrix_row(&weight->stored, row), sgm_quant_row_bytes(type, weight->cols));
        return true;
    } else {
        sgm_matrix_unpack_row(&weight->stored, row, scratch);
    }
    quant->pack(weight->cols, from, out);
    return type == SGM_TYPE_F32 || all_below(from, weight->cols, limit_of(type));
}
