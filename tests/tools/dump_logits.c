// SPDX-License-Identifier: Apache-2.0
/* dump_logits FOLDER KERNELS [KEY=VALUE…]: write a random model folder, and beside it FOLDER.logits.safetensors with
 * tokens (T), the logits of every row (T, V) and the greedy continuation (N). For scripts/oracle/transformers. */
#include "sigmoe/session.h"
#include "tool_model.h"

enum { ROWS = 60, GREEDY = 40 };

int main(int argc, char **argv) {
    sgm_error error = {0};
    sgm_engine *engine;
    sgm_session *session;
    sgm_safetensors_writer *writer;
    char path[4096];
    if (argc < 3)
        return fprintf(stderr, "usage: dump_logits FOLDER KERNELS [KEY=VALUE…]\n"), 2;
    tool_make_model(argv[1], argv + 3, argc - 3);
    sgm_engine_options options = {.threads = 2, .kernels = argv[2]};
    TRY(sgm_engine_open(argv[1], &options, &engine, &error));
    int64_t V = sgm_engine_info(engine)->settings.vocabulary;
    if (sgm_engine_info(engine)->settings.context < ROWS + GREEDY)
        return fprintf(stderr, "error: the context must be %d or more\n", ROWS + GREEDY), 2;
    int32_t tokens[ROWS], *made;
    int64_t count;
    for (int i = 0; i < ROWS; i++)
        tokens[i] = (int32_t)((i * i * 31 + i * 17 + 3) % V);
    float *logits = malloc((size_t)(ROWS * V) * sizeof *logits);
    if (!logits)
        return 1;
    TRY(sgm_session_new(engine, &session, &error));
    sgm_batch_item item = {session, tokens, ROWS, true};
    TRY(sgm_engine_step(engine, &item, 1, logits, &error));
    TRY(sgm_session_truncate(session, 0, &error));
    sgm_generate_options generate = {.sampler = {.top_p = 1}, .tokens = GREEDY, .ignore_end_of_text = true};
    TRY(sgm_generate(session, tokens, ROWS, &generate, &made, &count, &error));

    snprintf(path, sizeof path, "%s.logits.safetensors", argv[1]);
    const int64_t shape[2] = {ROWS, V};
    TRY(sgm_safetensors_writer_new(path, &writer, &error));
    TRY(sgm_safetensors_writer_declare(writer, "logits", SGM_F32, 2, shape, &error));
    TRY(sgm_safetensors_writer_declare(writer, "tokens", SGM_I32, 1, shape, &error));
    TRY(sgm_safetensors_writer_declare(writer, "greedy", SGM_I32, 1, &count, &error));
    tool_add(writer, logits, (size_t)(ROWS * V) * sizeof *logits);
    tool_add(writer, tokens, sizeof tokens);
    tool_add(writer, made, (size_t)count * sizeof *made);
    TRY(sgm_safetensors_writer_commit(writer, &error));
    sgm_text_free((char *)made);
    free(logits);
    sgm_session_free(session);
    sgm_engine_close(engine);
    return 0;
}
