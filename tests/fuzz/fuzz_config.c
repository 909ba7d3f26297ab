// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a config: no crash, a refusal changes nothing, what is accepted is written as text that reads back the same. */
#include <stdint.h>

#include "../unit/config_example.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
    if (!condition)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sgm_config *config, *again;
    sgm_error error = {0};
    char *before, *after, *reread;
    require(sgm_config_new_with(&example_schema, &config, NULL) == SGM_OK);
    require(sgm_config_text(config, true, &before, NULL) == SGM_OK);
    sgm_status status = sgm_config_parse(config, (const char *)data, size, "fuzz.yaml", &error);
    require(sgm_config_text(config, true, &after, NULL) == SGM_OK);
    if (status) {
        require(strcmp(before, after) == 0 && error.message[0]);
    } else {
        require(sgm_config_new_with(&example_schema, &again, NULL) == SGM_OK);
        require(sgm_config_parse(again, after, strlen(after), "again", &error) == SGM_OK);
        char *plain;
        require(sgm_config_text(config, false, &plain, NULL) == SGM_OK);
        require(sgm_config_text(again, false, &reread, NULL) == SGM_OK);
        require(strcmp(plain, reread) == 0);
        sgm_text_free(plain);
        sgm_text_free(reread);
        sgm_config_free(again);
    }
    sgm_text_free(before);
    sgm_text_free(after);
    sgm_config_free(config);
    return 0;
}
