// SPDX-License-Identifier: Apache-2.0
/* Memory, weights and batches for op cases. */
#include "op/op_case.h"

#include "base/memory.h"

typedef struct block {
    struct block *next;
    char padding[SGM_ALIGN - sizeof(void *)];
} block;

typedef struct blocks {
    block *first;
    bool failed;
} blocks;

void *sgm_case_alloc(sgm_op_case *op_case, size_t bytes) {
    if (!op_case->context) {
        op_case->context = sgm_alloc(sizeof(blocks));
        if (!op_case->context)
            return NULL;
    }
    blocks *all = op_case->context;
    block *fresh = sgm_alloc(sizeof(block) + bytes);
    if (!fresh) {
        all->failed = true;
        return NULL;
    }
    fresh->next = all->first;
    all->first = fresh;
    return fresh + 1;
}

bool sgm_case_failed(const sgm_op_case *op_case) {
    const blocks *all = op_case->context;
    return !all || all->failed;
}

void sgm_case_free(sgm_op_case *op_case) {
    blocks *all = op_case->context;
    if (all)
        for (block *at = all->first, *next; at; at = next) {
            next = at->next;
            sgm_free(at);
        }
    sgm_free(all);
    *op_case = (sgm_op_case){0};
}

sgm_weight *sgm_case_weight(sgm_op_case *op_case, const char *name, int64_t rows, int64_t cols, double scale,
                            uint64_t seed) {
    sgm_weight *weight = sgm_case_alloc(op_case, sizeof *weight);
    size_t bytes = (size_t)(rows * cols) * sizeof(sgm_real);
    sgm_real *data = sgm_case_alloc(op_case, bytes), *gradient = sgm_case_alloc(op_case, bytes);
    if (!weight || !data || !gradient)
        return NULL;
    uint64_t stream = sgm_rng_stream(name, (uint64_t)op_case->variable_count);
    for (int64_t i = 0; i < rows * cols; i++)
        data[i] = (sgm_real)(scale * sgm_rng_normal_at(seed, stream, (uint64_t)i));
    *weight = (sgm_weight){.rows = rows, .cols = cols, .data = data, .gradient = gradient, .decay = rows > 1};
    op_case->variables[op_case->variable_count++] =
        (sgm_op_variable){.name = name, .data = data, .gradient = gradient, .count = rows * cols};
    return weight;
}

sgm_rows *sgm_case_rows(sgm_op_case *op_case, const int64_t *lengths, int count, int64_t vocabulary, uint64_t seed) {
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += lengths[i];
    sgm_rows *rows = sgm_case_alloc(op_case, sizeof *rows);
    size_t bytes = (size_t)total * sizeof(int32_t);
    int32_t *tokens = sgm_case_alloc(op_case, bytes), *positions = sgm_case_alloc(op_case, bytes);
    int32_t *targets = sgm_case_alloc(op_case, bytes);
    sgm_segment *segments = sgm_case_alloc(op_case, (size_t)count * sizeof *segments);
    int64_t *starts = sgm_case_alloc(op_case, (size_t)(count + 1) * sizeof *starts);
    if (!rows || !tokens || !positions || !targets || !segments || !starts)
        return NULL;
    sgm_rng rng = sgm_rng_at(seed, sgm_rng_stream("op case rows", 0), 0);
    int64_t row = 0;
    for (int i = 0; i < count; i++) {
        segments[i] = (sgm_segment){.row = row, .rows = lengths[i]};
        starts[i] = row;
        for (int64_t j = 0; j < lengths[i]; j++, row++) {
            tokens[row] = (int32_t)sgm_rng_below(&rng, (uint64_t)vocabulary);
            positions[row] = (int32_t)j;
            targets[row] = row % 5 == 4 ? -1 : (int32_t)sgm_rng_below(&rng, (uint64_t)vocabulary);
        }
    }
    starts[count] = row;
    *rows = (sgm_rows){.rows = total,
                       .tokens = tokens,
                       .positions = positions,
                       .targets = targets,
                       .segments = segments,
                       .segment_count = count,
                       .sequence_start = starts,
                       .sequence_count = count};
    return rows;
}
