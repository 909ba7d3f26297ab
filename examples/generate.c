// SPDX-License-Identifier: Apache-2.0
/* Continue a prompt with the installed library: open an engine, start a session, print tokens as they come.
 *
 * cc -std=c11 generate.c $(pkg-config --cflags --libs sigmoe) -o generate && ./generate runs/demo "In the beginning" */
#include <sigmoe/sigmoe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool print_token(void *context, int32_t id, const char *bytes, size_t size) {
    (void)context, (void)id;
    return fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0; /* false would stop */
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL PROMPT\n");
        return 2;
    }
    sgm_engine *engine = NULL;
    sgm_session *session = NULL;
    sgm_error error = {0};
    size_t size = strlen(argv[2]), count = 0;
    int32_t *ids = malloc((size + 8) * sizeof *ids);
    const sgm_engine_options machine = {.threads = 0, .kernels = "auto"};
    const sgm_generate_options options = {
        .sampler = {.temperature = 0.8, .top_p = 1, .seed = 1}, .tokens = 80, .token = print_token};

    sgm_status status = ids ? SGM_OK : sgm_fail(&error, SGM_EMEMORY, NULL, "no memory for the prompt");
    if (!status)
        status = sgm_engine_open(argv[1], &machine, &engine, &error);
    if (!status && !sgm_engine_tokenizer(engine))
        status = sgm_fail(&error, SGM_EARGUMENT, "put a tokenizer.json beside it", "%s has no tokenizer", argv[1]);
    if (!status)
        status = sgm_tokenizer_encode(sgm_engine_tokenizer(engine), argv[2], size, true, ids, size + 8, &count, &error);
    if (!status)
        status = sgm_session_new(engine, &session, &error);
    if (!status)
        status = sgm_generate(session, ids, (int64_t)count, &options, NULL, NULL, &error);
    putchar('\n');
    if (status)
        fprintf(stderr, "error: %s\n%s%s\n", error.message, *error.hint ? "hint: " : "", error.hint);
    sgm_session_free(session);
    sgm_engine_close(engine);
    free(ids);
    return status ? 1 : 0;
}
