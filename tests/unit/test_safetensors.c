// SPDX-License-Identifier: Apache-2.0
/* safetensors: hand-made files read as the format says, damaged ones are refused with a reason, written ones have the
 * bytes that the format prescribes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/safetensors.h"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/sigmoe-safetensors-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return sgm_folder_remove(folder, NULL) ? -1 : 0;
}

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A file's bytes from its header and data. */
static size_t build(unsigned char *out, const char *header, const void *data, size_t size) {
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(out + 8, header, n);
    if (size)
        memcpy(out + 8 + n, data, size);
    return 8 + n + size;
}

static void reads_tensors(void **state) {
    (void)state;
    /* "b" stands first in the data, "a" first in the header: file order is by place. 24 bytes of data. */
    const char *header = "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[16,24]},"
                         "\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}} ";
    float four[4] = {1.0f, -2.5f, 0.0f, 1e30f};
    unsigned char data[24];
    memcpy(data, four, 16);
    const uint16_t bf16[4] = {0x3F80, 0xC000, 0x0000, 0x7F80}; /* 1, -2, 0, inf */
    memcpy(data + 16, bf16, 8);
    unsigned char bytes[512];
    size_t size = build(bytes, header, data, 24);
    sgm_safetensors *file;
    sgm_error error = {0};
    assert_int_equal(sgm_safetensors_parse(bytes, size, &file, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_count(file), 2);
    assert_string_equal(sgm_safetensors_at(file, 0)->name, "b");
    assert_null(sgm_safetensors_at(file, 2));
    assert_null(sgm_safetensors_find(file, "c"));
    assert_string_equal(sgm_safetensors_metadata(file, "format"), "pt");
    assert_null(sgm_safetensors_metadata(file, "none"));
    const sgm_tensor_entry *a = sgm_safetensors_find(file, "a");
    assert_non_null(a);
    assert_int_equal(a->dimensions, 2);
    assert_int_equal(a->shape[1], 2);
    assert_string_equal(sgm_dtype_name(a->dtype), "BF16");
    float out[4];
    sgm_tensor_entry_to_f32(a, out);
    assert_true(out[0] == 1.0f && out[1] == -2.0f && out[2] == 0.0f && out[3] > 3.4e38f);
    sgm_tensor_entry_to_f32(sgm_safetensors_find(file, "b"), out);
    assert_memory_equal(out, four, sizeof four);
    assert_int_equal(sgm_safetensors_verify(file, &error), SGM_OK); /* no checksum: nothing to say */
    sgm_safetensors_close(file);
}

static void converts_types(void **state) {
    (void)state;
    const uint16_t half[6] = {0x3C00, 0xC100, 0x0001, 0x8400, 0x7BFF, 0xFC00};
    const float expected[6] = {1.0f, -2.5f, 0x1p-24f, -0x1p-14f, 65504.0f, -__builtin_inff()};
    sgm_tensor_entry entry = {.dtype = SGM_F16, .dimensions = 1, .shape = {6}, .data = half, .bytes = sizeof half};
    float out[6];
    sgm_tensor_entry_to_f32(&entry, out);
    assert_memory_equal(out, expected, sizeof expected);
    const int64_t whole[2] = {-3, 1 << 20};
    entry = (sgm_tensor_entry){.dtype = SGM_I64, .dimensions = 1, .shape = {2}, .data = whole, .bytes = sizeof whole};
    sgm_tensor_entry_to_f32(&entry, out);
    assert_true(out[0] == -3.0f && out[1] == 1048576.0f);
    const unsigned char byte = 200;
    entry = (sgm_tensor_entry){.dtype = SGM_U8, .data = &byte, .bytes = 1};
    sgm_tensor_entry_to_f32(&entry, out);
    assert_true(out[0] == 200.0f);
}

/* Each header, over `data` zero bytes, must be refused with this status and a word of the reason. */
static void refuses_damage(void **state) {
    (void)state;
#define T(name, type, shape, offsets)                                                                                  \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
    static const struct {
        const char *header;
        size_t data;
        sgm_status status;
        const char *reason;
    } cases[] = {
        {"", 0, SGM_EFORMAT, "not JSON"},
        {"[]", 0, SGM_EFORMAT, "not an object"},
        {"{" T("a", "F32", "[1]", "[0,4]"), 4, SGM_EFORMAT, "not JSON"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8, SGM_EFORMAT, "duplicate"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12, SGM_EFORMAT, "overlaps"},
        {"{" T("a", "F32", "[1]", "[4,8]") "}", 8, SGM_EFORMAT, "unused bytes"},
        {"{" T("a", "F32", "[1]", "[0,4]") "}", 8, SGM_EFORMAT, "follow the last"},
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 4, SGM_EFORMAT, "outside the file"},
        {"{" T("a", "F32", "[1]", "[0,8]") "}", 8, SGM_EFORMAT, "shape and type"},
        {"{" T("a", "F32", "[-1]", "[0,4]") "}", 4, SGM_EFORMAT, "whole numbers"},
        {"{" T("a", "F32", "[1.0]", "[0,4]") "}", 4, SGM_EFORMAT, "whole numbers"},
        {"{" T("a", "F32", "[1]", "[8,4]") "}", 8, SGM_EFORMAT, "outside the file"},
        {"{" T("a", "F32", "[1]", "[0]") "}", 4, SGM_EFORMAT, "data_offsets"},
        {"{" T("a", "F32", "[4294967296,4294967296,4]", "[0,4]") "}", 4, SGM_EFORMAT, "shape and type"},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, SGM_EUNSUPPORTED, "dimensions"},
        {"{" T("a", "F8_E4M3", "[4]", "[0,4]") "}", 4, SGM_EUNSUPPORTED, "unknown type"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, SGM_EFORMAT, "data_offsets"},
        {"{\"a\":7}", 0, SGM_EFORMAT, "data_offsets"},
        {"{\"__metadata__\":7}", 0, SGM_EFORMAT, "__metadata__"},
        {"{\"__metadata__\":{\"a\":7}}", 0, SGM_EFORMAT, "not a text"},
    };
#undef T
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const char zeros[64];
        unsigned char bytes[1024];
        size_t size = build(bytes, cases[i].header, zeros, cases[i].data);
        sgm_safetensors *file;
        sgm_error error = {0};
        assert_int_equal(sgm_safetensors_parse(bytes, size, &file, &error), cases[i].status);
        assert_null(file);
        if (!strstr(error.message, cases[i].reason))
            fail_msg("case %zu: '%s' does not say '%s'", i, error.message, cases[i].reason);
    }
    sgm_safetensors *file;
    sgm_error error = {0};
    const unsigned char huge[16] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, '{', '}'};
    assert_int_equal(sgm_safetensors_parse(huge, sizeof huge, &file, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "limit"));
    assert_int_equal(sgm_safetensors_parse(huge, 5, &file, &error), SGM_EFORMAT);
    const unsigned char longer[16] = {9, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' ', ' ', ' ', ' ', ' ', ' '};
    assert_int_equal(sgm_safetensors_parse(longer, sizeof longer, &file, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "truncated"));
}

static void write_sample(const char *path, float value) {
    sgm_safetensors_writer *writer;
    const int64_t shape[2] = {2, 3};
    const float data[6] = {value, 2, 3, 4, 5, 6};
    const int32_t scalar = -7;
    assert_int_equal(sgm_safetensors_writer_new(path, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_metadata(writer, "format", "p\"t", NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "matrix", SGM_F32, 2, shape, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "scalar", SGM_I32, 0, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, data, 8, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, data + 2, 16, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, &scalar, 4, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_commit(writer, NULL), SGM_OK);
}

static void writes_and_verifies(void **state) {
    (void)state;
    const char *path = in_folder("a.safetensors");
    write_sample(path, 1.0f);
    char *bytes;
    size_t size;
    assert_int_equal(sgm_file_read(path, 4096, &bytes, &size, NULL), SGM_OK);
    /* The data start on a 64-byte boundary and are 28 bytes; the header says what was declared. */
    assert_int_equal((size - 28) % 64, 0);
    assert_int_equal((unsigned char)bytes[0] + 256 * (unsigned char)bytes[1], size - 28 - 8);
    assert_non_null(strstr(bytes + 8, "\"matrix\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"));
    assert_non_null(strstr(bytes + 8, "\"scalar\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[24,28]}"));
    char expected[64];
    snprintf(expected, sizeof expected, "\"checksum\":\"xxh3:%016llx\"",
             (unsigned long long)sgm_checksum(bytes + size - 28, 28));
    assert_non_null(strstr(bytes + 8, expected));

    sgm_safetensors *file;
    sgm_error error = {0};
    assert_int_equal(sgm_safetensors_open(path, &file, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_verify(file, &error), SGM_OK);
    assert_string_equal(sgm_safetensors_metadata(file, "format"), "p\"t");
    assert_int_equal(*(const int32_t *)sgm_safetensors_find(file, "scalar")->data, -7);
    sgm_safetensors_close(file);

    char *again;
    size_t again_size;
    write_sample(in_folder("b.safetensors"), 1.0f);
    assert_int_equal(sgm_file_read(in_folder("b.safetensors"), 4096, &again, &again_size, NULL), SGM_OK);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, bytes, size);

    bytes[size - 10] ^= 4; /* one flipped bit in the data */
    assert_int_equal(sgm_safetensors_parse((unsigned char *)bytes, size, &file, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_verify(file, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "checksum"));
    sgm_safetensors_close(file);
    bytes[size - 10] ^= 4;
    for (size_t cut = 0; cut < size; cut++) /* every truncation is noticed */
        assert_int_equal(sgm_safetensors_parse((unsigned char *)bytes, cut, &file, NULL), SGM_EFORMAT);
    sgm_free(bytes);
    sgm_free(again);
}

static void *no_json_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

/* A name that there is no memory for is not a wrong one. */
static void a_header_without_memory(void **state) {
    (void)state;
    sgm_safetensors_writer *writer;
    sgm_error error = {0};
    const int64_t shape[1] = {2};
    json_malloc_t before_malloc;
    json_free_t before_free;
    assert_int_equal(sgm_safetensors_writer_new(in_folder("lean.safetensors"), &writer, NULL), SGM_OK);
    json_get_alloc_funcs(&before_malloc, &before_free);
    json_set_alloc_funcs(no_json_memory, free);
    sgm_status status = sgm_safetensors_writer_declare(writer, "a", SGM_F32, 1, shape, &error);
    json_set_alloc_funcs(before_malloc, before_free);
    assert_int_equal(status, SGM_EMEMORY);
    assert_non_null(strstr(error.message, "not enough memory"));
    sgm_safetensors_writer_abandon(writer);
}

static void writer_keeps_its_word(void **state) {
    (void)state;
    sgm_safetensors_writer *writer;
    sgm_error error = {0};
    const int64_t shape[1] = {2}, bad[1] = {-1};
    const float data[3] = {1, 2, 3};
    const char *path = in_folder("c.safetensors");
    assert_int_equal(sgm_safetensors_writer_new(path, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "a", SGM_F32, 1, shape, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, data, 4, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_commit(writer, &error), SGM_EARGUMENT); /* too few bytes */
    assert_false(sgm_path_exists(path));
    assert_int_equal(sgm_safetensors_writer_new(path, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "a", SGM_F32, 1, shape, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, data, 12, &error), SGM_EARGUMENT); /* too many */
    assert_int_equal(sgm_safetensors_writer_add(writer, data, 8, &error), SGM_EARGUMENT);  /* and it stays failed */
    sgm_safetensors_writer_abandon(writer);
    assert_int_equal(sgm_safetensors_writer_new(path, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "a", SGM_F32, 1, bad, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_safetensors_writer_commit(writer, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_safetensors_writer_new(path, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "\xff", SGM_F32, 1, shape, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "UTF-8"));
    sgm_safetensors_writer_abandon(writer);
    assert_int_equal(sgm_safetensors_writer_new(in_folder("none/x"), &writer, &error), SGM_EIO);
    assert_null(writer);
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(folder, &names, &count, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++)
        assert_null(strstr(names[i], "c.safetensors")); /* no partial file stays behind */
    sgm_free(names);
}

static void put(const char *name, const char *text) {
    assert_int_equal(sgm_file_write(in_folder(name), text, strlen(text), NULL), SGM_OK);
}

static void put_shard(const char *name, const char *tensor) {
    sgm_safetensors_writer *writer;
    const int64_t shape[1] = {1};
    const float one = 1;
    assert_int_equal(sgm_safetensors_writer_new(in_folder(name), &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, tensor, SGM_F32, 1, shape, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, &one, 4, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_commit(writer, NULL), SGM_OK);
}

static void reads_shards(void **state) {
    (void)state;
    sgm_safetensors *file;
    sgm_error error = {0};
    assert_int_equal(sgm_safetensors_open(folder, &file, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_safetensors_open(in_folder("none.safetensors"), &file, &error), SGM_ENOTFOUND);
    put_shard("one.safetensors", "a");
    put_shard("two.safetensors", "b");
    put("model.safetensors.index.json", "{\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    assert_int_equal(sgm_safetensors_open(folder, &file, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_count(file), 2);
    assert_non_null(sgm_safetensors_find(file, "b"));
    assert_int_equal(sgm_safetensors_verify(file, &error), SGM_OK);
    sgm_safetensors_close(file);
    static const struct {
        const char *index;
        sgm_status status;
    } bad[] = {
        {"{}", SGM_EFORMAT},
        {"{\"weight_map\":{}}", SGM_EFORMAT},
        {"{\"weight_map\":{\"a\":1}}", SGM_EFORMAT},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", SGM_EFORMAT},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}", SGM_EFORMAT},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}", SGM_EFORMAT},
        {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", SGM_ENOTFOUND},
        {"{\"weight_map\":", SGM_EFORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("model.safetensors.index.json", bad[i].index);
        assert_int_equal(sgm_safetensors_open(folder, &file, &error), bad[i].status);
        assert_null(file);
    }
    put_shard("two.safetensors", "a"); /* the same name in two shards */
    put("model.safetensors.index.json", "{\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    assert_int_equal(sgm_safetensors_open(folder, &file, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "twice"));
}

/* A file that is cut short while it is open: an error, where touching its mapping would be a signal. */
static void a_file_cut_short_is_an_error(void **state) {
    (void)state;
    enum { VALUES = 1 << 19 }; /* bf16: blocks of values follow one another */
    const int64_t shape = VALUES;
    uint16_t *values = sgm_alloc(VALUES * sizeof *values);
    float *out = sgm_alloc(VALUES * sizeof *out);
    for (size_t i = 0; i < VALUES; i++)
        values[i] = (uint16_t)(0x3F80 + i % 128); /* 1, 1 + 1/128, … */
    const char *path = in_folder("short.safetensors");
    sgm_safetensors_writer *writer;
    sgm_safetensors *file;
    sgm_error error = {0};
    assert_int_equal(sgm_safetensors_writer_new(path, &writer, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "x", SGM_BF16, 1, &shape, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, values, VALUES * sizeof *values, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_commit(writer, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_open(path, &file, &error), SGM_OK);
    assert_int_equal(sgm_safetensors_verify(file, &error), SGM_OK);
    const sgm_tensor_entry *entry = sgm_safetensors_find(file, "x");
    assert_int_equal(sgm_safetensors_read_f32(file, entry, out, &error), SGM_OK);
    for (size_t i = 0; i < VALUES; i++)
        assert_true(out[i] == 1 + (float)(i % 128) / 128);
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(sgm_safetensors_read_f32(file, entry, out, &error), SGM_EFORMAT);
    assert_int_equal(sgm_safetensors_read(file, entry, out, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "short.safetensors"));
    assert_int_equal(sgm_safetensors_verify(file, &error), SGM_EFORMAT);
    sgm_safetensors_close(file);
    sgm_free(values);
    sgm_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_tensors),         cmocka_unit_test(converts_types),
        cmocka_unit_test(refuses_damage),        cmocka_unit_test(writes_and_verifies),
        cmocka_unit_test(writer_keeps_its_word), cmocka_unit_test(a_header_without_memory),
        cmocka_unit_test(reads_shards),          cmocka_unit_test(a_file_cut_short_is_an_error),
    };
    return cmocka_run_group_tests_name("safetensors", tests, make_folder, remove_folder);
}
