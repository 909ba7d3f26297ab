// SPDX-License-Identifier: Apache-2.0
/* The imbalance between devices, as JSON and as a table; all of the evaluated text is one batch. */
#include "cli_imbalance.h"

#include <math.h>

int cli_imbalance_check(const cli_args *args) {
    sgm_model_info info;
    int64_t groups = cli_integer(args, "groups");
    if (groups == 0 || sgm_model_inspect(cli_text(args, "model"), &info, NULL)) /* evaluating will say what is wrong */
        return CLI_DONE;
    if (info.settings.experts % groups == 0)
        return CLI_DONE;
    return cli_usage("every device holds the same number of experts", "--groups %lld: the model has %lld experts",
                     (long long)groups, (long long)info.settings.experts);
}

static sgm_imbalance imbalance_of(const sgm_evaluation *e, int64_t layer, int64_t groups) {
    sgm_imbalance imbalance = {NAN, NAN, NAN};
    (void)sgm_imbalance_score(e->load + layer * e->experts, e->experts, groups, e->layer[layer].tokens, &imbalance,
                              NULL);
    return imbalance;
}

void cli_imbalance_add(json_t *json, const sgm_evaluation *e, int64_t groups) {
    for (int64_t l = 0; groups && l < e->layers; l++) {
        json_t *layer = json_array_get(json_object_get(json, "layers"), (size_t)l);
        sgm_imbalance i = imbalance_of(e, l, groups);
        json_object_set_new(layer, "imbalance_score", cli_json_real(i.score));
        json_object_set_new(layer, "imbalance_noise_floor", cli_json_real(i.noise_floor));
        json_object_set_new(layer, "group_max_over_mean", cli_json_real(i.max_over_mean));
    }
    if (groups)
        json_object_set_new(json, "groups", json_integer(groups));
}

void cli_imbalance_print(const sgm_evaluation *e, int64_t groups) {
    if (groups == 0)
        return;
    printf("\nimbalance between %lld devices of %s each\nlayer  score  noise  max/mean\n", (long long)groups,
           cli_counted(e->experts / groups, "expert").text);
    for (int64_t l = 0; l < e->layers; l++) {
        sgm_imbalance i = imbalance_of(e, l, groups);
        printf("%5lld  %5.3f  %5.3f  %8.3f\n", (long long)l, i.score, i.noise_floor, i.max_over_mean);
    }
    printf("\nscore: (most − least) assignments of a device per token, of all the text as one batch.\n");
}
