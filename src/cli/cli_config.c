// SPDX-License-Identifier: Apache-2.0
/* A config from the flags that several commands share: preset, then file, then single keys. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static int set_all(const cli_args *args, sgm_config *config) {
    size_t count;
    const char *const *sets = cli_many(args, "set", &count);
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(sets[i], '=');
        if (!equals || equals == sets[i])
            return cli_usage("write it like --set model.layers=4", "--set: \"%s\" is not KEY=VALUE", sets[i]);
        char *key = strndup(sets[i], (size_t)(equals - sets[i]));
        if (!key)
            return cli_no_memory("the configuration");
        sgm_error error = {0};
        sgm_status status = sgm_config_set(config, key, equals + 1, "--set", &error);
        free(key);
        if (status)
            return cli_fail(&error);
    }
    return CLI_DONE;
}

int cli_config(const cli_args *args, sgm_config **config) {
    sgm_error error = {0};
    *config = NULL;
    /* A config file may start from a preset of its own choosing: the default one is not forced under it. */
    const char *preset = cli_text(args, "preset"), *file = cli_text(args, "config");
    bool use_preset = cli_given(args, "preset") || !file;
    int code = file ? cli_check_files(&file, 1) : CLI_DONE;
    if (code != CLI_DONE)
        return code;
    if (sgm_config_new(config, &error))
        return cli_fail(&error);
    if (use_preset && sgm_config_preset(*config, preset, &error))
        code = cli_fail(&error);
    else if (file && sgm_config_load(*config, file, &error))
        code = cli_fail(&error);
    else
        code = set_all(args, *config);
    if (code != CLI_DONE) {
        sgm_config_free(*config);
        *config = NULL;
    }
    return code;
}
