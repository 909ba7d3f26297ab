// SPDX-License-Identifier: Apache-2.0
/* Any bytes as an experiment: no crash; a refusal says why; what is accepted has a checked configuration for every arm. */
#include <stddef.h>
#include <stdint.h>

#include "lab/experiment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
    if (!condition)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sgm_experiment *experiment;
    sgm_error error = {0};
    if (sgm_experiment_parse("fuzz.yaml", (const char *)data, size, NULL, 0, &experiment, &error)) {
        require(!experiment && error.message[0]);
        return 0;
    }
    sgm_experiment_info info;
    sgm_experiment_describe(experiment, &info);
    require(info.arms > 0 && info.name[0]);
    for (size_t a = 0; a < info.arms; a++) {
        sgm_experiment_arm arm;
        sgm_experiment_arm_at(experiment, a, &arm);
        require(arm.config && arm.balance && sgm_config_check(arm.config, NULL) == SGM_OK);
    }
    sgm_experiment_close(experiment);
    return 0;
}
