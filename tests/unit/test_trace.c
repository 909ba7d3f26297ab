// SPDX-License-Identifier: Apache-2.0
/* The trace format: what is written is read, cut and damaged files, newer ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace_fixture.h"

static char folder[64];

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/sigmoe-trace-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return sgm_folder_remove(folder, NULL) ? -1 : 0;
}

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void check_small(sgm_trace *trace) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    assert_int_equal(about->source, SGM_TRACE_EVAL);
    assert_int_equal(about->step, 7);
    assert_true(about->model_hash == 0x1122334455667788 && about->tokenizer_hash == 0x99);
    assert_true(about->vocabulary == V && about->layers == L && about->experts == E && about->null_experts == 1);
    assert_true(about->experts_per_token[0] == 1 && about->experts_per_token[1] == 2);
    assert_true(about->expert_bytes[0] == 100 && about->expert_bytes[1] == 200);
    assert_true(about->tokens == 3 && about->blocks == 1 && about->domains == 1);
    assert_string_equal(about->domain[0], "prose");
    assert_null(sgm_trace_probability(trace, 0)); /* nobody gave any */
    sgm_trace_block block;
    assert_int_equal(sgm_trace_read(trace, 0, &block, NULL), SGM_OK);
    assert_int_equal(block.tokens, 3);
    assert_true(block.slots[0] == 1 && block.slots[1] == 2);
    assert_true(block.first[0] == 0 && block.first[1] == 3 && block.first[2] == 9);
    /* Layer by layer; what an unused slot held besides is not kept. */
    const uint16_t none = SGM_TRACE_UNUSED, expert[9] = {0, 3, 1, 1, 2, 2, none, 0, 3};
    const float weight[9] = {0.5F, 1, 0.1F, 0.25F, 0.125F, 0.75F, 0, 0.2F, 0.3F};
    const uint8_t flags[9] = {0, SGM_TRACE_NULL, 0, 0, SGM_TRACE_DROPPED, 0, 0, 0, SGM_TRACE_NULL};
    assert_memory_equal(block.expert, expert, sizeof expert);
    assert_memory_equal(block.weight, weight, sizeof weight);
    assert_memory_equal(block.flags, flags, sizeof flags);
    for (int t = 0; t < 3; t++)
        assert_true(block.token[t] == 3 * t && block.domain[t] == 0);
}

/* header 128 + 16 + 8 + 8 = 160; domain 16 + 64 + 8 = 88; tokens 16 + 8 (slots) + 16 + 8 + 24 (9 experts) + 40 + 16 + 8 = 136;
 * end 16 + 16 + 8 = 40 */
static void is_what_the_page_says(void **state) {
    (void)state;
    sgm_buffer bytes = small_trace();
    const unsigned char *at = (const unsigned char *)bytes.data;
    assert_int_equal(bytes.size, 160 + 88 + 136 + 40);
    assert_memory_equal(at, "SGMTRACE\4\3\2\1\1\0\0\0", 16);
    assert_int_equal(at[32], 160);
    assert_int_equal(at[56], 7);
    assert_memory_equal(at + 40, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
    assert_true(at[64] == 1 && at[68] == L && at[72] == E && at[76] == 1 && at[80] == V);
    assert_true(at[128] == 100 && at[136] == 200 && at[144] == 1 && at[146] == 2);
    assert_true(at[160] == SGM_TRACE_DOMAIN && at[248] == SGM_TRACE_TOKENS && at[384] == SGM_TRACE_END);
    assert_string_equal((const char *)at + 176, "prose");
    assert_true(at[252] == 3 && at[256] == 136 && at[388] == 1 && at[400] == 3);
    sgm_trace *trace;
    assert_int_equal(sgm_trace_parse(bytes.data, bytes.size, "small", &trace, NULL), SGM_OK);
    assert_true(sgm_trace_about(trace)->complete);
    check_small(trace);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
}

static void a_file_is_the_same(void **state) {
    (void)state;
    sgm_trace_writer *writer;
    sgm_trace *trace;
    char *data;
    size_t size;
    sgm_buffer bytes = small_trace();
    assert_int_equal(sgm_trace_create(in_folder("small.trace"), &small_about, &writer, NULL), SGM_OK);
    add_small(writer);
    assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_file_read(in_folder("small.trace"), 1 << 20, &data, &size, NULL), SGM_OK);
    assert_int_equal(size, bytes.size);
    assert_memory_equal(data, bytes.data, size);
    sgm_free(data);
    sgm_buffer_free(&bytes);
    assert_true(sgm_trace_is_one(in_folder("small.trace")));
    assert_int_equal(sgm_trace_open(in_folder("small.trace"), &trace, NULL), SGM_OK);
    check_small(trace);
    sgm_trace_close(trace);
    /* Abandoned: nothing is left. */
    assert_int_equal(sgm_trace_create(in_folder("gone.trace"), &small_about, &writer, NULL), SGM_OK);
    add_small(writer);
    sgm_trace_abandon(writer);
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(folder, &names, &count, NULL), SGM_OK);
    assert_int_equal(count, 1);
    sgm_free(names);
    sgm_error error = {0};
    assert_int_equal(sgm_trace_open(in_folder("gone.trace"), &trace, &error), SGM_ENOTFOUND);
    assert_false(sgm_trace_is_one(in_folder("gone.trace")));
    assert_int_equal(sgm_file_write(in_folder("text"), "no trace, but text that is longer than a header. ", 49, NULL),
                     0);
    assert_int_equal(sgm_trace_open(in_folder("text"), &trace, &error), SGM_EFORMAT);
    assert_false(sgm_trace_is_one(in_folder("text")));
}

/* Cut at every byte: what whole blocks there are is read; in the header, it is no trace. */
static void cut_files_are_read(void **state) {
    (void)state;
    sgm_buffer bytes = small_trace();
    for (size_t size = 0; size < bytes.size; size++) {
        sgm_trace *trace;
        sgm_error error = {0};
        char *copy = malloc(size + 1); /* of its own size, so that a reader that goes further is seen */
        assert_non_null(copy);
        memcpy(copy, bytes.data, size);
        sgm_status status = sgm_trace_parse(copy, size, "cut", &trace, &error);
        assert_int_equal(status, size < 160 ? SGM_EFORMAT : SGM_OK);
        if (!status) {
            const sgm_trace_info *about = sgm_trace_about(trace);
            assert_false(about->complete);
            assert_int_equal(about->domains, size >= 248);
            assert_int_equal(about->tokens, size >= 384 ? 3 : 0);
            if (size >= 384)
                check_small(trace);
        }
        sgm_trace_close(trace);
        free(copy);
    }
    sgm_buffer_free(&bytes);
}

/* Every byte is under a checksum, and lengths are known from elsewhere too: a flipped one is an error. */
static void damage_is_seen(void **state) {
    (void)state;
    sgm_buffer bytes = small_trace();
    for (size_t i = 0; i < bytes.size; i++) {
        sgm_trace *trace;
        sgm_trace_block block;
        sgm_error error = {0};
        bytes.data[i] = (char)(bytes.data[i] ^ 0x55);
        sgm_status status = sgm_trace_parse(bytes.data, bytes.size, "bent", &trace, &error);
        for (int64_t b = 0; !status && b < sgm_trace_about(trace)->blocks; b++)
            status = sgm_trace_read(trace, b, &block, &error);
        assert_true(status == SGM_EFORMAT || status == SGM_EUNSUPPORTED);
        sgm_trace_close(trace);
        bytes.data[i] = (char)(bytes.data[i] ^ 0x55);
    }
    sgm_buffer_free(&bytes);
}

/* One bit of any block's length, count or kind: damage, not the work of a writer that was interrupted, also where what is left
 * of the file would then be part of a block. */
static void a_bent_length_is_damage(void **state) {
    (void)state;
    sgm_buffer bytes = small_trace();
    const size_t blocks[] = {160, 248, 384};
    for (size_t i = 0; i < 3 * 128; i++) {
        sgm_trace *trace;
        sgm_trace_block block;
        sgm_error error = {0};
        char *byte = &bytes.data[blocks[i / 128] + i % 128 / 8], bit = (char)(1 << i % 8);
        *byte = (char)(*byte ^ bit);
        sgm_status status = sgm_trace_parse(bytes.data, bytes.size, "bent", &trace, &error);
        if (i % 128 >= 64)
            assert_int_equal(status, SGM_EFORMAT); /* of lengths: before a block is read */
        for (int64_t b = 0; !status && b < sgm_trace_about(trace)->blocks; b++)
            status = sgm_trace_read(trace, b, &block, &error);
        assert_int_equal(status, SGM_EFORMAT);
        sgm_trace_close(trace);
        *byte = (char)(*byte ^ bit);
    }
    sgm_buffer_free(&bytes);
}

/* Change a byte of the header and put its checksum right. */
static sgm_status with_byte(size_t at, char value, sgm_error *error) {
    sgm_buffer bytes = small_trace();
    bytes.data[at] = value;
    uint64_t sum = sgm_checksum(bytes.data, 152);
    memcpy(bytes.data + 152, &sum, sizeof sum);
    sgm_trace *trace;
    sgm_status status = sgm_trace_parse(bytes.data, bytes.size, "other", &trace, error);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
    return status;
}

/* Change bytes of the block that begins at `block`, put its checksum right, and read everything. */
static sgm_status with_bytes(sgm_buffer bytes, size_t block, size_t at, const void *value, size_t size) {
    uint64_t length, sum;
    sgm_trace *trace;
    sgm_trace_block read;
    memcpy(bytes.data + at, value, size);
    memcpy(&length, bytes.data + block + 8, sizeof length);
    sum = sgm_checksum(bytes.data + block, length - 8);
    memcpy(bytes.data + block + length - 8, &sum, sizeof sum);
    sgm_status status = sgm_trace_parse(bytes.data, bytes.size, "bent", &trace, NULL);
    for (int64_t b = 0; !status && b < sgm_trace_about(trace)->blocks; b++)
        status = sgm_trace_read(trace, b, &read, NULL);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
    return status;
}

static sgm_buffer attention_trace(void);

/* Behind right checksums: tokens begin at 248, experts at 296 (9 of 2 bytes), weights at 320, flags at 360. */
static void what_cannot_be_is_damage(void **state) {
    (void)state;
    const float none = NAN, infinite = INFINITY, fine = -2;
    const uint8_t null = SGM_TRACE_NULL, dropped = SGM_TRACE_DROPPED;
    const uint16_t again = 1, other = 0;
    assert_int_equal(with_bytes(small_trace(), 248, 320, &fine, 4), SGM_OK);
    assert_int_equal(with_bytes(small_trace(), 248, 320, &none, 4), SGM_EFORMAT);
    assert_int_equal(with_bytes(small_trace(), 248, 320 + 4, &infinite, 4), SGM_EFORMAT);
    assert_int_equal(with_bytes(small_trace(), 248, 360, &dropped, 1), SGM_OK);
    assert_int_equal(with_bytes(small_trace(), 248, 360, &null, 1), SGM_EFORMAT);        /* of expert 0 */
    assert_int_equal(with_bytes(small_trace(), 248, 360 + 6, &dropped, 1), SGM_EFORMAT); /* of an unused slot */
    assert_int_equal(with_bytes(small_trace(), 248, 296 + 8, &other, 2), SGM_OK);
    assert_int_equal(with_bytes(small_trace(), 248, 296 + 8, &again, 2), SGM_EFORMAT); /* the token has it already */
    /* Sums: rows of 6; header 160, domain 88, tokens 16 + 8 + 16 + 8 + 24 + 40 + 16 + 8. */
    const double bad[] = {NAN, INFINITY, -1, 0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(with_bytes(attention_trace(), 384, 384 + 32 + 8, &bad[i], 8), i < 3 ? SGM_EFORMAT : SGM_OK);
}

static void newer_ones_are_refused(void **state) {
    (void)state;
    sgm_error error = {0};
    assert_int_equal(with_byte(SGM_TRACE_AT_VERSION, 2, &error), SGM_EUNSUPPORTED);
    assert_non_null(strstr(error.message, "version 2"));
    assert_int_equal(with_byte(SGM_TRACE_AT_REQUIRED, 4, &error), SGM_EUNSUPPORTED);
    assert_non_null(strstr(error.message, "0x4"));
    assert_int_equal(with_byte(SGM_TRACE_AT_OPTIONAL, 4, &error), SGM_OK); /* what readers may ignore */
    assert_int_equal(with_byte(SGM_TRACE_AT_ORDER, 1, &error), SGM_EFORMAT);
    assert_int_equal(with_byte(SGM_TRACE_AT_SOURCE, 3, &error), SGM_EFORMAT);
    assert_int_equal(with_byte(SGM_TRACE_AT_NULL, 4, &error), SGM_EFORMAT);
    assert_int_equal(with_byte(SGM_TRACE_AT_VOCABULARY, 0, &error), SGM_EFORMAT);
    assert_int_equal(with_byte(144, 5, &error), SGM_EFORMAT); /* 5 of 4 experts a token */
    /* A smaller vocabulary: found when the block is read. */
    sgm_buffer bytes = small_trace();
    bytes.data[SGM_TRACE_AT_VOCABULARY] = 6;
    uint64_t sum = sgm_checksum(bytes.data, 152);
    memcpy(bytes.data + 152, &sum, sizeof sum);
    sgm_trace *trace;
    sgm_trace_block block;
    assert_int_equal(sgm_trace_parse(bytes.data, bytes.size, "other", &trace, &error), SGM_OK);
    assert_int_equal(sgm_trace_read(trace, 0, &block, &error), SGM_EFORMAT);
    assert_int_equal(sgm_trace_read(trace, 1, &block, &error), SGM_EARGUMENT);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
}

/* A few bytes that claim a lot: not worth gigabytes. */
static void absurd_shapes_are_refused(void **state) {
    (void)state;
    enum { WIDE = 65534 };
    sgm_buffer bytes = {0};
    sgm_trace_writer *writer;
    sgm_trace *trace;
    sgm_trace_stats stats;
    sgm_error error = {0};
    int64_t domain, each[65] = {0};
    for (int l = 0; l < 65; l++)
        each[l] = 1;
    sgm_trace_info about = small_about;
    about.experts = WIDE;
    about.null_experts = 0;
    about.layers = 65;
    about.experts_per_token = each;
    about.expert_bytes = NULL;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, &error), SGM_EARGUMENT);
    about.layers = 64; /* the most that can be */
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, &error), SGM_OK);
    int32_t expert[64] = {0};
    float weight[64] = {0};
    const sgm_trace_token token = {.slots = each, .expert = expert, .weight = weight};
    assert_int_equal(sgm_trace_domain(writer, "a", &domain, &error), SGM_OK);
    assert_int_equal(sgm_trace_add(writer, &token, &error), SGM_OK);
    assert_int_equal(sgm_trace_domain(writer, "b", &domain, &error), SGM_OK);
    assert_int_equal(sgm_trace_commit(writer, NULL, &error), SGM_OK);
    assert_int_equal(sgm_trace_parse(bytes.data, bytes.size, "wide", &trace, &error), SGM_OK);
    assert_int_equal(sgm_trace_summarise(trace, &stats, &error), SGM_EFORMAT); /* two domains in 2 KB */
    assert_non_null(strstr(error.message, "2 domains"));
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
    /* A header that no writer makes. */
    unsigned char header[SGM_TRACE_HEADER_BYTES + 8 * 80 + 2 * 80 + 8] = {0};
    sgm_buffer small = small_trace();
    memcpy(header, small.data, SGM_TRACE_HEADER_BYTES);
    sgm_buffer_free(&small);
    memcpy(header + SGM_TRACE_AT_BYTES, &(uint64_t){sizeof header}, 8);
    memcpy(header + SGM_TRACE_AT_LAYERS, &(uint32_t){80}, 4);
    memcpy(header + SGM_TRACE_AT_EXPERTS, &(uint32_t){WIDE}, 4);
    for (int l = 0; l < 80; l++)
        header[SGM_TRACE_HEADER_BYTES + 8 * 80 + 2 * l] = 1;
    uint64_t sum = sgm_checksum(header, sizeof header - 8);
    memcpy(header + sizeof header - 8, &sum, 8);
    assert_int_equal(sgm_trace_parse(header, sizeof header, "absurd", &trace, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "80 layers of 65534"));
}

static void bad_input_is_refused(void **state) {
    (void)state;
    sgm_buffer bytes = {0};
    sgm_trace_writer *writer;
    sgm_error error = {0};
    sgm_trace_info about = small_about;
    const int64_t many[L] = {1, 5};
    about.experts = 65535;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, &error), SGM_EARGUMENT);
    about = small_about;
    about.experts_per_token = many;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, &error), SGM_EARGUMENT);
    assert_null(writer);
    assert_int_equal(sgm_trace_create(in_folder("no/such.trace"), &small_about, &writer, &error), SGM_EIO);
    const struct {
        int32_t token;
        int64_t domain;
        int32_t expert;
        float weight;
        uint8_t flags;
        sgm_status status;
    } wrong[] = {{V, 0, 0, 1, 0, SGM_EARGUMENT},  {-1, 0, 0, 1, 0, SGM_EARGUMENT},
                 {0, 1, 0, 1, 0, SGM_EARGUMENT},  {0, -1, 0, 1, 0, SGM_EARGUMENT},
                 {0, 0, E, 1, 0, SGM_EARGUMENT},  {0, 0, 1, 1, 0, SGM_EARGUMENT},
                 {0, 0, 0, NAN, 0, SGM_ENUMERIC}, {0, 0, 0, 1, SGM_TRACE_NULL, SGM_EARGUMENT}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t domain;
        const int32_t expert[3] = {0, 1, wrong[i].expert};
        const float weight[3] = {0.5F, 0.25F, wrong[i].weight};
        const uint8_t flags[3] = {0, 0, wrong[i].flags};
        sgm_trace_token token = {.token = wrong[i].token,
                                 .domain = wrong[i].domain,
                                 .slots = per_token,
                                 .expert = expert,
                                 .weight = weight,
                                 .flags = flags};
        assert_int_equal(sgm_trace_create_in(&bytes, &small_about, &writer, &error), SGM_OK);
        assert_int_equal(sgm_trace_domain(writer, "a", &domain, &error), SGM_OK);
        assert_int_equal(sgm_trace_domain(writer, "", &domain, &error), SGM_EARGUMENT);
        assert_int_equal(sgm_trace_add(writer, &token, &error), wrong[i].status);
        assert_int_equal(sgm_trace_domain(writer, "b", &domain, &error), wrong[i].status); /* it stays failed */
        assert_int_equal(sgm_trace_commit(writer, NULL, &error), wrong[i].status);
    }
    sgm_buffer_free(&bytes);
}

/* A writer that is killed leaves whole blocks. */
/* ---- attention experts: sub-layers with experts of their own ---- */

enum { ATTENTION = 6 }; /* more than E */

static sgm_buffer attention_trace(void) {
    sgm_trace_info about = small_about;
    about.null_experts = 0;
    about.attention_experts = ATTENTION;
    sgm_buffer bytes = {0};
    sgm_trace_writer *writer;
    int64_t domain;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_trace_domain(writer, "prose", &domain, NULL), SGM_OK);
    for (int32_t t = 0; t < 3; t++) {
        const int32_t expert[3] = {3 + t, 1, 3};
        const float weight[3] = {0.5F, 0.25F, 0.25F};
        const sgm_trace_token token = {
            .token = t, .domain = domain, .slots = per_token, .expert = expert, .weight = weight};
        assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
    }
    double *sums = sgm_trace_writer_sums(writer, domain);
    for (int e = 0; e < ATTENTION + E; e++) /* rows of ATTENTION numbers */
        sums[e] = 1 + e;
    assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
    return bytes;
}

static void sub_layers_have_their_own_experts(void **state) {
    (void)state;
    sgm_buffer bytes = attention_trace();
    const unsigned char *at = (const unsigned char *)bytes.data;
    assert_true(at[16] == 1 && at[88] == ATTENTION && at[68] == L && at[72] == E);
    sgm_trace *trace;
    sgm_trace_stats stats;
    assert_int_equal(sgm_trace_parse(bytes.data, bytes.size, "attention", &trace, NULL), SGM_OK);
    assert_true(sgm_trace_about(trace)->attention_experts == ATTENTION && sgm_trace_about(trace)->complete);
    assert_true(sgm_trace_probability(trace, 0)[ATTENTION + E - 1] == ATTENTION + E);
    assert_int_equal(sgm_trace_summarise(trace, &stats, NULL), SGM_OK);
    assert_int_equal(stats.attention_experts, ATTENTION);
    const int64_t load[2 * ATTENTION] = {0, 0, 0, 1, 1, 1, /* then four */ 0, 3, 0, 3};
    assert_memory_equal(stats.all.load, load, sizeof load);
    assert_true(fabs(stats.all.layer[0].max_over_mean - 2) < 1e-12); /* 1 of 3 over 6 */
    assert_true(fabs(stats.all.layer[1].max_over_mean - 2) < 1e-12); /* 3 of 6 over 4 */
    assert_true(stats.all.layer[0].dead_experts == 3 && stats.all.layer[1].dead_experts == 2);
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    sgm_buffer_free(&bytes);
    /* What cannot be: an expert that only attention has, an odd number of sub-layers. */
    sgm_trace_info about = small_about;
    sgm_trace_writer *writer;
    sgm_error error;
    about.attention_experts = ATTENTION;
    about.layers = 1;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, &error), SGM_EARGUMENT);
    about.layers = L;
    assert_int_equal(sgm_trace_create_in(&bytes, &about, &writer, &error), SGM_OK);
    int64_t domain;
    assert_int_equal(sgm_trace_domain(writer, "prose", &domain, NULL), SGM_OK);
    const int32_t expert[3] = {ATTENTION - 1, E, 0};
    const float weight[3] = {0};
    const sgm_trace_token token = {.domain = domain, .slots = per_token, .expert = expert, .weight = weight};
    assert_int_equal(sgm_trace_add(writer, &token, &error), SGM_EARGUMENT);
    sgm_trace_abandon(writer);
    sgm_buffer_free(&bytes);
}

static void a_killed_writer_leaves_whole_blocks(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sgm_trace_writer *writer;
        int64_t domain;
        if (sgm_trace_create(in_folder("killed.trace"), &small_about, &writer, NULL) ||
            sgm_trace_domain(writer, "prose", &domain, NULL))
            _exit(1);
        for (int t = 0; t < 200000; t++) {
            const sgm_trace_token token = {
                .token = t % V, .slots = per_token, .expert = small_expert[0], .weight = small_weight[0]};
            if (sgm_trace_add(writer, &token, NULL))
                _exit(1);
        }
        _exit(0); /* as SIGKILL would: nothing is finished */
    }
    int status;
    assert_true(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    char **names;
    size_t count, found = 0;
    assert_int_equal(sgm_folder_list(folder, &names, &count, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "killed.trace", 12) != 0)
            continue;
        sgm_trace *trace;
        found++;
        assert_non_null(strstr(names[i], ".partial-"));
        assert_int_equal(sgm_trace_open(in_folder(names[i]), &trace, NULL), SGM_OK);
        const sgm_trace_info *about = sgm_trace_about(trace);
        assert_false(about->complete);
        assert_true(about->tokens > 0 && about->tokens % SGM_TRACE_BLOCK_TOKENS == 0);
        for (int64_t b = 0; b < about->blocks; b++) {
            sgm_trace_block block;
            assert_int_equal(sgm_trace_read(trace, b, &block, NULL), SGM_OK);
            for (int64_t t = 0; t < block.tokens; t++)
                assert_int_equal(block.token[t], (b * SGM_TRACE_BLOCK_TOKENS + t) % V);
        }
        sgm_trace_close(trace);
    }
    assert_int_equal(found, 1);
    sgm_free(names);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_what_the_page_says),
        cmocka_unit_test(a_file_is_the_same),
        cmocka_unit_test(cut_files_are_read),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(a_bent_length_is_damage),
        cmocka_unit_test(what_cannot_be_is_damage),
        cmocka_unit_test(newer_ones_are_refused),
        cmocka_unit_test(absurd_shapes_are_refused),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(sub_layers_have_their_own_experts),
        cmocka_unit_test(a_killed_writer_leaves_whole_blocks),
    };
    return cmocka_run_group_tests_name("trace", tests, set_up, tear_down);
}
