// SPDX-License-Identifier: Apache-2.0
/* sigmoe's answers to a prompt, for bench/peers/compare: 256 logits of its last token and 16 tokens that continue it greedily.
 *
 *   sigmoe_driver MODEL THREADS ID… */
#include <stdio.h>
#include <stdlib.h>

#include "sigmoe/sigmoe.h"

enum { GREEDY = 16, LOGITS = 256 };

int main(int count, char **word) {
    sgm_error error = {0};
    sgm_engine *engine = NULL;
    sgm_session *session = NULL;
    int32_t prompt[1024], *made = NULL;
    int64_t length = 0, written = 0;
    if (count < 4 || count > 1027) {
        fprintf(stderr, "error: usage: sigmoe_driver MODEL THREADS ID…\n");
        return 2;
    }
    for (int i = 3; i < count; i++)
        prompt[length++] = (int32_t)strtol(word[i], NULL, 10);
    sgm_engine_options options = {.threads = (int)strtol(word[2], NULL, 10), .kv_tokens = length + GREEDY + 64};
    sgm_generate_options greedy = {.sampler = {.top_p = 1}, .tokens = GREEDY, .ignore_end_of_text = true};
    sgm_status status = sgm_engine_open(word[1], &options, &engine, &error);
    int64_t V = status ? 0 : sgm_engine_info(engine)->settings.vocabulary;
    float *logits = malloc((size_t)(V + 1) * sizeof *logits);
    if (!status && !logits)
        status = sgm_fail(&error, SGM_EMEMORY, NULL, "no memory for logits");
    if (!status)
        status = sgm_session_new(engine, &session, &error);
    if (!status)
        status = sgm_session_feed(session, prompt, length, logits, &error);
    if (!status)
        status = sgm_session_truncate(session, 0, &error);
    if (!status)
        status = sgm_generate(session, prompt, length, &greedy, &made, &written, &error);
    if (status) {
        fprintf(stderr, "error: %s\n", error.message);
        return 1;
    }
    for (int64_t i = 0; i < LOGITS; i++)
        printf("%s%.9g", i ? ", " : "{\"logits\": [", (double)logits[i * V / LOGITS]);
    for (int64_t i = 0; i < written; i++)
        printf("%s%d", i ? ", " : "], \"greedy\": [", (int)made[i]);
    printf("]}\n");
    sgm_text_free(made);
    free(logits);
    sgm_session_free(session);
    sgm_engine_close(engine);
    return 0;
}
