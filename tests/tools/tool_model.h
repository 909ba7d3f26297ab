// SPDX-License-Identifier: Apache-2.0
/* What the oracle tools share: fail loudly, and make a random pico model with settings from the command line. */
#ifndef SGM_TOOLS_TOOL_MODEL_H
#define SGM_TOOLS_TOOL_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "sigmoe/config.h"
#include "sigmoe/model.h"

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        if (call) {                                                                                                    \
            fprintf(stderr, "error: %s\nhint: %s\n", error.message, error.hint);                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* `settings`: "key=value", count of them; weights wide enough that routes differ from token to token. */
static void tool_make_model(const char *folder, char **settings, int count) {
    sgm_error error = {0};
    sgm_config *config;
    TRY(sgm_config_new(&config, &error));
    TRY(sgm_config_preset(config, "pico", &error));
    TRY(sgm_config_set(config, "model.init_std", "0.15", "oracle", &error));
    TRY(sgm_config_set(config, "model.gate_init_std", "0.5", "oracle", &error));
    for (int i = 0; i < count; i++) {
        char *value = strchr(settings[i], '=');
        if (!value) {
            fprintf(stderr, "error: %s is not KEY=VALUE\n", settings[i]);
            exit(2);
        }
        *value++ = '\0';
        TRY(sgm_config_set(config, settings[i], value, "oracle", &error));
    }
    TRY(sgm_model_init(config, NULL, 20260, "f32", folder, NULL, &error));
    sgm_config_free(config);
}

static void tool_add(sgm_safetensors_writer *writer, const void *bytes, size_t size) {
    sgm_error error = {0};
    TRY(sgm_safetensors_writer_add(writer, bytes, size, &error));
}

#endif
