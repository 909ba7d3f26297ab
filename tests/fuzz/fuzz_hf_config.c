// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a config.json: refused, or what is written from it reads back as the same model. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    sgm_hf_config config, again;
    sgm_error error;
    char *json, *twice;
    if (sgm_hf_config_parse((const char *)bytes, size, "config.json", &config, &error))
        return 0;
    if (sgm_hf_config_write(&config, &json, &error) ||
        sgm_hf_config_parse(json, strlen(json), "config.json", &again, &error) ||
        sgm_hf_config_write(&again, &twice, &error) || strcmp(json, twice) != 0)
        abort();
    sgm_free(json);
    sgm_free(twice);
    sgm_hf_config_fini(&config);
    sgm_hf_config_fini(&again);
    return 0;
}
