// SPDX-License-Identifier: Apache-2.0
/* The loader: every token is predicted once an epoch, in windows that can be taken up anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/loader.h"

enum { END = 256, PROSE = 40, CODE = 7, CONTEXT = 16 };

static char root[64];
static sgm_corpus *corpus;

/* A folder with two domains of byte tokens: 40 documents of 1 to 40 bytes and 7 of 3 bytes. No two of prose are alike.
 */
static int make_corpus(void **state) {
    (void)state;
    char path[256], text[8192], *end = text;
    strcpy(root, "/tmp/sgm-loader-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(path, sizeof path, "%s/tokenizer", root);
    sgm_tokenizer *bytes;
    if (sgm_tokenizer_bytes(&bytes, NULL) != SGM_OK || sgm_tokenizer_save(bytes, path, NULL) != SGM_OK)
        return -1;
    sgm_tokenizer_close(bytes);
    for (int d = 0; d < PROSE; d++) {
        for (int i = 0; i <= d; i++)
            *end++ = (char)('0' + d); /* the first byte tells the document */
        end += sprintf(end, "\n<|endoftext|>\n");
    }
    char prose[256], code[256], data[256];
    snprintf(prose, sizeof prose, "%s/prose.txt", root);
    snprintf(code, sizeof code, "%s/code.txt", root);
    snprintf(data, sizeof data, "%s/data", root);
    sgm_file_write(prose, text, (size_t)(end - text), NULL);
    end = text;
    for (int d = 0; d < CODE; d++)
        end += sprintf(end, "a%c\n<|endoftext|>\n", 'a' + d);
    sgm_file_write(code, text, (size_t)(end - text), NULL);
    const sgm_data_source sources[] = {{.domain = "prose", .path = prose, .separator = "<|endoftext|>"},
                                       {.domain = "code", .path = code, .separator = "<|endoftext|>"}};
    const sgm_data_build_options options = {.sources = sources, .source_count = 2, .tokenizer_path = path};
    sgm_error error;
    if (sgm_data_build(&options, data, &error) != SGM_OK || sgm_corpus_open(data, &corpus, &error) != SGM_OK) {
        print_error("%s\n", error.message);
        return -1;
    }
    return 0;
}

static int drop_corpus(void **state) {
    (void)state;
    sgm_corpus_close(corpus);
    return sgm_folder_remove(root, NULL);
}

static sgm_loader *loader_of(uint64_t seed, const char *mixture) {
    sgm_loader *loader;
    sgm_loader_options options = {.context = CONTEXT, .seed = seed, .mixture = mixture};
    assert_int_equal(sgm_loader_new(corpus, &options, &loader, NULL), SGM_OK);
    return loader;
}

static sgm_packed *packed_of(int64_t windows) {
    sgm_packed *packed;
    assert_int_equal(sgm_packed_new(windows * CONTEXT, CONTEXT, &packed, NULL), SGM_OK);
    return packed;
}

/* Targets in the order they come are whole documents, one after another; within an epoch each document once, and the
 * order is another in the next epoch. Inputs are the target before, end-of-text at a document's start. */
static void every_token_once_an_epoch(void **state) {
    (void)state;
    sgm_loader *loader = loader_of(7, "prose=1");
    sgm_packed *packed = packed_of(1);
    int order[3][PROSE], epoch = 0, done = 0, length = 0, first = 0, previous = END;
    while (epoch < 3) {
        sgm_loader_next(loader, 1, packed);
        assert_int_equal(packed->rows.rows, CONTEXT);
        assert_int_equal(packed->target_count, CONTEXT);
        for (int64_t r = 0; r < CONTEXT && epoch < 3; r++) {
            int target = packed->targets[r];
            assert_int_equal(packed->tokens[r], previous);
            previous = target;
            if (length++ == 0)
                first = target;
            if (target != END) {
                assert_true(target == first || target == '\n');
                continue;
            }
            assert_in_range(first - '0', 0, PROSE - 1);
            assert_int_equal(length, first - '0' + 3); /* its bytes, newline, end-of-text */
            order[epoch][done++] = first - '0';
            length = 0;
            if (done == PROSE) {
                done = 0;
                epoch++;
            }
        }
    }
    for (int e = 0; e < 3; e++) {
        int seen[PROSE] = {0};
        for (int d = 0; d < PROSE; d++)
            seen[order[e][d]]++;
        for (int d = 0; d < PROSE; d++)
            assert_int_equal(seen[d], 1);
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[1], order[2], sizeof order[0]);
    sgm_packed_free(packed);
    sgm_loader_free(loader);
}

/* Segments tile the window without gaps, positions restart with each, and a segment begins where a document does or at
 * the window's start. */
static void segments_follow_documents(void **state) {
    (void)state;
    sgm_loader *loader = loader_of(3, NULL);
    sgm_packed *packed = packed_of(5);
    for (int batch = 0; batch < 20; batch++) {
        sgm_loader_next(loader, 5, packed);
        assert_int_equal(packed->rows.sequence_count, 5);
        int64_t row = 0;
        for (int64_t s = 0; s < packed->rows.segment_count; s++) {
            const sgm_segment *segment = &packed->segments[s];
            assert_int_equal(segment->row, row);
            assert_true(segment->rows > 0);
            assert_int_equal(segment->position, 0);
            assert_null(segment->past);
            assert_true(row % CONTEXT == 0 || packed->tokens[row] == END);
            for (int64_t i = 0; i < segment->rows; i++) {
                assert_int_equal(packed->positions[row + i], i);
                assert_true(i == 0 || packed->tokens[row + i] != END);
                assert_true(i == 0 || packed->tokens[row + i] == packed->targets[row + i - 1]);
            }
            row += segment->rows;
        }
        assert_int_equal(row, 5 * CONTEXT);
        for (int w = 0; w < 5; w++) {
            bool prose = strcmp(sgm_corpus_domain(corpus, (size_t)packed->domain[w]), "prose") == 0;
            for (int r = 0; r < CONTEXT; r++) {
                int target = packed->targets[w * CONTEXT + r];
                if (target != END && target != '\n')
                    assert_true(prose ? target < '0' + PROSE : target >= 'a');
            }
        }
    }
    sgm_packed_free(packed);
    sgm_loader_free(loader);
}

static void resumes_anywhere(void **state) {
    (void)state;
    sgm_loader *through = loader_of(11, NULL);
    sgm_packed *one = packed_of(3), *two = packed_of(3);
    int64_t count = sgm_loader_position_count(through), position[16];
    assert_int_equal(count, 7);
    for (int batch = 0; batch < 60; batch++) {
        sgm_loader_position_get(through, position);
        sgm_loader *taken_up = loader_of(11, NULL);
        assert_int_equal(sgm_loader_position_put(taken_up, position, count, NULL), SGM_OK);
        uint64_t allocations = sgm_alloc_count();
        sgm_loader_next(through, 3, one);
        assert_true(sgm_alloc_count() == allocations);
        for (int w = 0; w < 3; w++) { /* one window at a time gives the same stream */
            sgm_loader_next(taken_up, 1, two);
            assert_memory_equal(one->tokens + w * CONTEXT, two->tokens, CONTEXT * sizeof(int32_t));
            assert_memory_equal(one->targets + w * CONTEXT, two->targets, CONTEXT * sizeof(int32_t));
            assert_int_equal(one->domain[w], two->domain[0]);
        }
        sgm_loader_free(taken_up);
    }
    sgm_packed_free(one);
    sgm_packed_free(two);
    sgm_loader_free(through);
}

static void wrong_positions_change_nothing(void **state) {
    (void)state;
    sgm_loader *loader = loader_of(5, NULL);
    sgm_packed *packed = packed_of(4);
    sgm_loader_next(loader, 4, packed);
    int64_t before[7], after[7], wrong[7];
    sgm_loader_position_get(loader, before);
    assert_int_equal(sgm_loader_position_put(loader, before, 6, NULL), SGM_EFORMAT);
    const struct {
        int index;
        int64_t value;
    } bad[] = {{0, -1}, {1, -1}, {2, PROSE}, {3, 1000}, {3, -1}, {5, CODE}, {6, 5}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(wrong, before, sizeof wrong);
        wrong[bad[i].index] = bad[i].value;
        assert_int_equal(sgm_loader_position_put(loader, wrong, 7, NULL), SGM_EFORMAT);
        sgm_loader_position_get(loader, after);
        assert_memory_equal(before, after, sizeof before);
    }
    sgm_packed_free(packed);
    sgm_loader_free(loader);
}

static void mixture_weights_hold(void **state) {
    (void)state;
    sgm_loader *loader = loader_of(1, "prose=1,code=3");
    sgm_packed *packed = packed_of(1);
    int code = 0;
    for (int w = 0; w < 4000; w++) {
        sgm_loader_next(loader, 1, packed);
        code += packed->domain[0] == 1;
    }
    assert_in_range(code, 2880, 3120); /* 3000 expected, standard deviation 27 */
    sgm_loader_free(loader);
    loader = loader_of(1, "code=0.5");
    for (int w = 0; w < 100; w++) {
        sgm_loader_next(loader, 1, packed);
        assert_int_equal(packed->domain[0], 1);
    }
    sgm_loader_free(loader);
    sgm_packed_free(packed);
    sgm_error error;
    const char *wrong[] = {"poetry=1", "prose", "prose=", "prose=x", "prose=1;code=1", "=1", "prose=0", "prose=."};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sgm_loader_options options = {.context = CONTEXT, .mixture = wrong[i]};
        assert_int_equal(sgm_loader_new(corpus, &options, &loader, &error), SGM_EARGUMENT);
        assert_true(error.hint[0]);
    }
}

/* Steps of 7 windows in micro-batches of 3, 3 and 1: each is of one domain, steps do not share one, both domains come with
 * their weights, and the stream can be taken up between two steps. With groups of one window it is the plain stream. */
static void one_domain_a_micro_batch(void **state) {
    (void)state;
    enum { STEPS = 300, WINDOWS = 7, GROUP = 3 };
    sgm_loader_options options = {
        .context = CONTEXT, .seed = 5, .mixture = "prose=1,code=1", .step_windows = WINDOWS, .group_windows = GROUP};
    sgm_loader *loader, *again, *plain = loader_of(5, "prose=1,code=1");
    assert_int_equal(sgm_loader_new(corpus, &options, &loader, NULL), SGM_OK);
    assert_int_equal(sgm_loader_new(corpus, &options, &again, NULL), SGM_OK);
    sgm_packed *packed = packed_of(WINDOWS), *other = packed_of(WINDOWS);
    int64_t position[7], prose = 0, changes = 0;
    assert_int_equal(sgm_loader_position_count(loader), 7);
    for (int step = 0; step < STEPS; step++) {
        if (step == STEPS / 2) {
            sgm_loader_position_get(loader, position);
            assert_int_equal(sgm_loader_position_put(again, position, 7, NULL), SGM_OK);
        }
        sgm_loader_next(loader, WINDOWS, packed);
        for (int w = 0; w < WINDOWS; w++) {
            if (w % GROUP)
                assert_int_equal(packed->domain[w], packed->domain[w - 1]);
            else
                prose += packed->domain[w] == 0;
        }
        changes += packed->domain[0] != packed->domain[GROUP];
        if (step >= STEPS / 2) {
            sgm_loader_next(again, WINDOWS, other);
            assert_memory_equal(packed->tokens, other->tokens, WINDOWS * CONTEXT * sizeof(int32_t));
        }
    }
    assert_in_range(prose, 3 * STEPS / 2 - 75, 3 * STEPS / 2 + 75); /* of 900 draws: 450, five deviations of 15 */
    assert_in_range(changes, STEPS / 2 - 45, STEPS / 2 + 45);       /* of 300: 150, five of 8.7 */
    sgm_loader_free(again);
    options.group_windows = 1;
    assert_int_equal(sgm_loader_new(corpus, &options, &again, NULL), SGM_OK);
    for (int step = 0; step < 5; step++) {
        sgm_loader_next(again, WINDOWS, packed);
        sgm_loader_next(plain, WINDOWS, other);
        assert_memory_equal(packed->tokens, other->tokens, WINDOWS * CONTEXT * sizeof(int32_t));
    }
    sgm_loader *none;
    options.group_windows = WINDOWS + 1;
    assert_int_equal(sgm_loader_new(corpus, &options, &none, NULL), SGM_EARGUMENT);
    sgm_packed_free(packed);
    sgm_packed_free(other);
    sgm_loader_free(loader);
    sgm_loader_free(again);
    sgm_loader_free(plain);
}

static void slices_are_the_batch(void **state) {
    (void)state;
    sgm_loader *loader = loader_of(2, NULL);
    sgm_packed *whole = packed_of(6), *part = packed_of(4);
    sgm_loader_next(loader, 6, whole);
    sgm_packed_slice(whole, 2, 3, part);
    assert_int_equal(part->rows.rows, 3 * CONTEXT);
    assert_int_equal(part->rows.sequence_count, 3);
    assert_int_equal(part->target_count, 3 * CONTEXT);
    assert_memory_equal(part->tokens, whole->tokens + 2 * CONTEXT, 3 * CONTEXT * sizeof(int32_t));
    assert_memory_equal(part->targets, whole->targets + 2 * CONTEXT, 3 * CONTEXT * sizeof(int32_t));
    int64_t row = 0;
    for (int64_t s = 0; s < part->rows.segment_count; s++) {
        assert_int_equal(part->segments[s].row, row);
        row += part->segments[s].rows;
    }
    assert_int_equal(row, 3 * CONTEXT);
    for (int s = 0; s <= 3; s++)
        assert_int_equal(part->sequence_start[s], s * CONTEXT);
    for (int s = 0; s < 3; s++)
        assert_int_equal(part->domain[s], whole->domain[2 + s]);
    sgm_packed_free(whole);
    sgm_packed_free(part);
    sgm_loader_free(loader);
}

static void evaluation_scores_each_token_once(void **state) {
    (void)state;
    for (int64_t context = 1; context <= 9; context++)
        for (int64_t count = 0; count <= 40; count++) {
            int scored[40] = {0};
            int64_t begin, end, score, index = 0;
            for (; sgm_evaluation_window(count, context, index, &begin, &end, &score); index++) {
                assert_true(begin >= 0 && begin <= score && score < end && end <= count - 1);
                assert_true(end - begin <= context);
                if (index) /* at least half a window of context before what is scored */
                    assert_true(score - begin >= context - (context > 1 ? context / 2 : 1));
                for (int64_t r = score; r < end; r++)
                    scored[r]++;
            }
            for (int64_t r = 0; r < count - 1; r++)
                assert_int_equal(scored[r], 1);
            assert_true(index <= 41);
        }
    /* By hand: 11 tokens, context 4: rows 0-3, then 2-5 scoring from 4, 4-7 from 6, 6-9 from 8. */
    int64_t begin, end, score;
    assert_true(sgm_evaluation_window(11, 4, 3, &begin, &end, &score));
    assert_int_equal(begin, 6);
    assert_int_equal(end, 10);
    assert_int_equal(score, 8);
    assert_false(sgm_evaluation_window(11, 4, 4, &begin, &end, &score));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_once_an_epoch), cmocka_unit_test(segments_follow_documents),
        cmocka_unit_test(resumes_anywhere),          cmocka_unit_test(wrong_positions_change_nothing),
        cmocka_unit_test(mixture_weights_hold),      cmocka_unit_test(one_domain_a_micro_batch),
        cmocka_unit_test(slices_are_the_batch),      cmocka_unit_test(evaluation_scores_each_token_once),
    };
    return cmocka_run_group_tests(tests, make_corpus, drop_corpus);
}
