// SPDX-License-Identifier: Apache-2.0
/* The imbalance between devices, as JSON and as a table; all tokens are one batch. */
#include "cli_imbalance.h"

#include <math.h>

int cli_devices_of(const cli_args *args, int64_t experts, int64_t null_experts, int64_t attention_experts,
                   cli_devices *devices) {
    *devices = (cli_devices){cli_integer(args, "groups"), experts - null_experts};
    if (devices->groups > 0 && attention_experts > 0)
        return cli_usage("leave it out",
                         "--groups means nothing for a model with attention experts: they are of two kinds");
    if (devices->groups == 0 || devices->computing % devices->groups == 0)
        return CLI_DONE;
    return cli_usage("every device holds the same number of experts",
                     "--groups %lld: %lld experts%s do not divide by %lld", (long long)devices->groups,
                     (long long)devices->computing, null_experts > 0 ? " that have weights" : "",
                     (long long)devices->groups);
}

int cli_devices_of_model(const cli_args *args, cli_devices *devices) {
    sgm_model_info info;
    *devices = (cli_devices){0};
    if (cli_integer(args, "groups") == 0 || sgm_model_inspect(cli_text(args, "model"), &info, NULL))
        return CLI_DONE; /* evaluating will say what is wrong with it */
    return cli_devices_of(args, info.settings.experts, info.settings.null_experts, info.settings.attention_experts,
                          devices);
}

static sgm_imbalance imbalance_of(const cli_devices *d, const sgm_layer_stats *layer, const int64_t *load) {
    sgm_imbalance imbalance = {NAN, NAN, NAN};
    (void)sgm_imbalance_score(load, d->computing, d->groups, layer->tokens, &imbalance, NULL); /* no token: NaN */
    return imbalance;
}

void cli_imbalance_add(json_t *json, const cli_devices *d, const sgm_layer_stats *layer, const int64_t *load,
                       int64_t layers, int64_t experts) {
    for (int64_t l = 0; d->groups && l < layers; l++) {
        json_t *to = json_array_get(json_object_get(json, "layers"), (size_t)l);
        sgm_imbalance i = imbalance_of(d, &layer[l], load + l * experts);
        json_object_set_new(to, "imbalance_score", cli_json_real(i.score));
        json_object_set_new(to, "imbalance_noise_floor", cli_json_real(i.noise_floor));
        json_object_set_new(to, "group_max_over_mean", cli_json_real(i.max_over_mean));
    }
    if (d->groups)
        json_object_set_new(json, "groups", json_integer(d->groups));
}

void cli_imbalance_print(const cli_devices *d, const sgm_layer_stats *layer, const int64_t *load, int64_t layers,
                         int64_t experts) {
    if (d->groups == 0)
        return;
    printf("\nimbalance between %lld devices of %s each\nlayer  score  noise  max/mean\n", (long long)d->groups,
           cli_counted(d->computing / d->groups, "expert").text);
    for (int64_t l = 0; l < layers; l++) {
        sgm_imbalance i = imbalance_of(d, &layer[l], load + l * experts);
        printf("%5lld  %5.3f  %5.3f  %8.3f\n", (long long)l, i.score, i.noise_floor, i.max_over_mean);
    }
    printf("\nscore: (most − least) assignments of a device per token, of all tokens as one batch.\n");
}
