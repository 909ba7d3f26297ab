// SPDX-License-Identifier: Apache-2.0
/* A folder for a test's files and small random models in it. Include after cmocka. */
#ifndef SGM_TESTS_MODEL_FIXTURE_H
#define SGM_TESTS_MODEL_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "sigmoe/config.h"
#include "sigmoe/model.h"

static char test_folder[64];

static int make_test_folder(void **state) {
    (void)state;
    strcpy(test_folder, "/tmp/sigmoe-test-XXXXXX");
    return mkdtemp(test_folder) ? 0 : -1;
}

static int remove_test_folder(void **state) {
    (void)state;
    return sgm_folder_remove(test_folder, NULL) ? -1 : 0;
}

/* A path in the folder; a few may be in use at a time. */
static const char *in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
    return path;
}

/* A new pico model in test_folder/NAME with settings on top: "model.context=200", …, NULL. Weights large enough that
 * logits and routes differ from token to token. */
static const char *make_model(const char *name, const char *const *settings) {
    sgm_config *config;
    sgm_error error = {0};
    assert_int_equal(sgm_config_new(&config, &error), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.init_std", "0.15", "test", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.gate_init_std", "0.5", "test", &error), SGM_OK);
    for (; settings && *settings; settings++) {
        char key[64];
        size_t n = strcspn(*settings, "=");
        snprintf(key, sizeof key, "%.*s", (int)n, *settings);
        if (sgm_config_set(config, key, *settings + n + 1, "test", &error))
            fail_msg("%s: %s", *settings, error.message);
    }
    const char *path = in_folder(name);
    if (sgm_model_init(config, NULL, 7, "f32", path, NULL, &error))
        fail_msg("%s", error.message);
    sgm_config_free(config);
    return path;
}

#endif
