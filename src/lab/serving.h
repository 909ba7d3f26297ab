// SPDX-License-Identifier: Apache-2.0
/* What a trained model's routes are worth to whoever serves it: how often a cache of experts hits, and how evenly GPUs are
 * loaded that its experts are placed on. An experiment lists what is tried on every run:
 *
 *     caches: [lru 16, lfu_decay 16 period=32, lru 16 pool=model]       POLICY EXPERTS [pool=layer|model] [SETTING=VALUE…]
 *     placements: [eplb 80 gpus=8, eplb 80 gpus=8 nodes=2 groups=8]     METHOD SLOTS gpus=N [nodes=N] [groups=N]
 *
 * Both are of the routes of held-out text, which a run that has ended leaves in its folder (SGM_LAB_ROUTES, docs/trace.md).
 * A cache is empty at first and sees the tokens one after another. A placement is planned by the load of the last tenth of the
 * training steps and scored by that, and by the held-out text's: mean over greatest load of a GPU, 1 is even. */
#ifndef SGM_LAB_SERVING_H
#define SGM_LAB_SERVING_H

#include "sigmoe/placement.h"
#include "sigmoe/replay.h"

#define SGM_LAB_ROUTES "heldout.trace"
extern const char sgm_lab_routes_again[]; /* the hint about one that cannot be measured */
enum { SGM_LAB_ROUTES_TOKENS = 1 << 20 }; /* of held-out text, at most */

/* One item of a list. Texts lie in `name` and `words`. */
typedef struct sgm_lab_use {
    char *name;  /* as it was written, in single spaces */
    char *words; /* the same, cut up */
    bool placement;
    const char *method; /* cache policy or placement method */
    int64_t size;       /* experts of a layer that fit; slots of a layer */
    sgm_replay_pool pool;
    int64_t gpus, nodes, groups;
    const char **setting; /* of the policy */
    size_t settings;
} sgm_lab_use;

typedef struct sgm_lab_serving {
    sgm_lab_use *use; /* caches, then placements */
    size_t uses;
    size_t values; /* of a run: one of a cache, two of a placement */
} sgm_lab_serving;

/* The lists as texts, items parted by commas; "" is fine. SGM_EARGUMENT with a hint: `where` is the file. */
sgm_status sgm_lab_serving_parse(const char *caches, const char *placements, const char *where,
                                 sgm_lab_serving *serving, sgm_error *error);
void sgm_lab_serving_free(sgm_lab_serving *serving);
/* Whether models of so many experts (null ones left out) can be placed so. SGM_EARGUMENT. */
sgm_status sgm_lab_serving_check(const sgm_lab_serving *serving, int64_t experts, sgm_error *error);
/* What value `index` is: its item; *heldout: of a placement, the score by the held-out text. */
const sgm_lab_use *sgm_lab_serving_at(const sgm_lab_serving *serving, size_t index, bool *heldout);

/* Who was traced, to tell that two runs do not share a trace, nor one has less of the text than another. */
typedef struct sgm_lab_routes {
    uint64_t model_hash;
    int64_t tokens; /* 0: there are no routes */
} sgm_lab_routes;
/* The values of a run of so many steps whose routes are `trace`. share (L, E): its load in training. SGM_EFORMAT, with a hint for
 * a lab: the trace is damaged, cut off, or of another model. */
sgm_status sgm_lab_serving_measure(const sgm_lab_serving *serving, const char *trace, int64_t steps,
                                   const double *share, int64_t layers, int64_t experts, double *value,
                                   sgm_lab_routes *routes, sgm_error *error);

#endif
