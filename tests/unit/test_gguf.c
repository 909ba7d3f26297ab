// SPDX-License-Identifier: Apache-2.0
/* GGUF: files built by hand byte for byte, values of every kind, damage of every kind, and the writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/gguf.h"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sigmoe-gguf-%ld", (long)getpid());
    return sgm_folder_make(folder, NULL) ? -1 : 0;
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

/* ---- a file, byte by byte --------------------------------------------------------------------------------------------- */

typedef struct image {
    _Alignas(64) unsigned char bytes[4096];
    size_t size;
} image;

static void put(image *at, const void *bytes, size_t size) {
    assert_true(at->size + size <= sizeof at->bytes);
    memcpy(at->bytes + at->size, bytes, size);
    at->size += size;
}
static void u32(image *at, uint32_t value) {
    put(at, &value, sizeof value);
}
static void u64(image *at, uint64_t value) {
    put(at, &value, sizeof value);
}
static void text(image *at, const char *value) {
    u64(at, strlen(value));
    put(at, value, strlen(value));
}
static void key(image *at, const char *name, uint32_t type) {
    text(at, name);
    u32(at, type);
}
static void pad(image *at, size_t alignment) {
    while (at->size % alignment)
        put(at, "", 1);
}

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 };

static void header(image *at, uint64_t tensors, uint64_t keys) {
    at->size = 0;
    put(at, "GGUF", 4);
    u32(at, 3);
    u64(at, tensors);
    u64(at, keys);
}

static void tensor(image *at, const char *name, uint32_t dimensions, const uint64_t *lengths, uint32_t type,
                   uint64_t offset) {
    text(at, name);
    u32(at, dimensions);
    for (uint32_t i = 0; i < dimensions; i++)
        u64(at, lengths[i]);
    u32(at, type);
    u64(at, offset);
}

/* Keys of every kind, three tensors (f32, q8_0, and a type that is none of ours), alignment 64. */
static void full_image(image *at) {
    const float half = 0.5f;
    const double third = 1.0 / 3;
    header(at, 3, 17);
    key(at, "u8", U8), put(at, "\xfe", 1);
    key(at, "i8", I8), put(at, "\xfe", 1);
    key(at, "u16", U16), put(at, "\xfe\xff", 2);
    key(at, "i16", I16), put(at, "\xfe\xff", 2);
    key(at, "u32", U32), u32(at, 0xfffffffeu);
    key(at, "i32", I32), u32(at, 0xfffffffeu);
    key(at, "f32", F32), put(at, &half, 4);
    key(at, "yes", BOOL), put(at, "\1", 1);
    key(at, "text", TEXT), text(at, "a\"b");
    key(at, "u64", U64), u64(at, UINT64_MAX);
    key(at, "i64", I64), u64(at, (uint64_t)-5);
    key(at, "f64", F64), put(at, &third, 8);
    key(at, "texts", ARRAY), u32(at, TEXT), u64(at, 3), text(at, "one"), text(at, ""), text(at, "three");
    key(at, "shorts", ARRAY), u32(at, I16), u64(at, 2), put(at, "\x01\x00\xff\xff", 4);
    key(at, "floats", ARRAY), u32(at, F32), u64(at, 1), put(at, &half, 4);
    key(at, "none", ARRAY), u32(at, TEXT), u64(at, 0);
    key(at, "general.alignment", U32), u32(at, 64);
    tensor(at, "a", 2, (const uint64_t[]){3, 2}, 0, 0);      /* 2 rows of 3 f32: 24 bytes */
    tensor(at, "q", 3, (const uint64_t[]){32, 2, 2}, 8, 64); /* 4 rows of a q8_0 block: 136 bytes */
    tensor(at, "other", 1, (const uint64_t[]){256}, 10, 256);
    pad(at, 64);
    for (int i = 0; i < 6; i++) {
        float value = (float)i;
        put(at, &value, 4);
    }
    pad(at, 64);
    for (int i = 0; i < 136; i++)
        put(at, "\7", 1);
    pad(at, 64);
    put(at, "behind", 6);
}

static void reads_every_kind(void **state) {
    (void)state;
    static image im;
    full_image(&im);
    for (unsigned char version = 2; version <= 3; version++) {
        im.bytes[4] = version;
        sgm_gguf *file;
        sgm_error error = {0};
        if (sgm_gguf_parse(im.bytes, im.size, &file, &error))
            fail_msg("%s", error.message);
        int64_t whole = 0;
        double real = 0;
        bool truth = false;
        const char *value;
        size_t size;
        static const struct {
            const char *key;
            int64_t value;
        } wholes[] = {{"u8", 254},         {"i8", -2},  {"u16", 65534}, {"i16", -2},
                      {"u32", 4294967294}, {"i32", -2}, {"i64", -5}};
        for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
            assert_true(sgm_gguf_get_int(file, wholes[i].key, &whole));
            assert_int_equal(whole, wholes[i].value);
        }
        assert_false(sgm_gguf_get_int(file, "u64", &whole)); /* no int64 */
        assert_false(sgm_gguf_get_int(file, "f32", &whole));
        assert_false(sgm_gguf_get_int(file, "yes", &whole));
        assert_false(sgm_gguf_get_int(file, "absent", &whole));
        assert_true(sgm_gguf_get_float(file, "f32", &real) && real == 0.5);
        assert_true(sgm_gguf_get_float(file, "f64", &real) && real == 1.0 / 3);
        assert_false(sgm_gguf_get_float(file, "u8", &real));
        assert_true(sgm_gguf_get_bool(file, "yes", &truth) && truth);
        assert_false(sgm_gguf_get_bool(file, "u8", &truth));
        assert_true(sgm_gguf_get_text(file, "text", &value, &size) && size == 3 && memcmp(value, "a\"b", 3) == 0);
        assert_false(sgm_gguf_get_text(file, "texts", &value, &size));

        assert_true(sgm_gguf_array_length(file, "texts", &whole) && whole == 3);
        assert_true(sgm_gguf_array_text(file, "texts", 2, &value, &size) && size == 5 &&
                    memcmp(value, "three", 5) == 0);
        assert_true(sgm_gguf_array_text(file, "texts", 1, &value, &size) && size == 0);
        assert_false(sgm_gguf_array_text(file, "texts", 3, &value, &size));
        assert_false(sgm_gguf_array_text(file, "texts", -1, &value, &size));
        assert_false(sgm_gguf_array_text(file, "shorts", 0, &value, &size));
        assert_true(sgm_gguf_array_int(file, "shorts", 1, &whole) && whole == -1);
        assert_false(sgm_gguf_array_float(file, "shorts", 1, &real));
        assert_true(sgm_gguf_array_float(file, "floats", 0, &real) && real == 0.5);
        assert_false(sgm_gguf_array_float(file, "floats", 1, &real));
        assert_true(sgm_gguf_array_length(file, "none", &whole) && whole == 0);
        assert_false(sgm_gguf_array_length(file, "text", &whole));
        assert_string_equal(sgm_gguf_key_at(file, 2), "u16");
        assert_null(sgm_gguf_key_at(file, 17));
        assert_true(sgm_gguf_has(file, "none") && !sgm_gguf_has(file, "one"));

        assert_int_equal(sgm_gguf_tensor_count(file), 3);
        assert_int_equal(sgm_gguf_bytes(file), im.size);
        const sgm_gguf_tensor *a = sgm_gguf_tensor_find(file, "a"), *q = sgm_gguf_tensor_find(file, "q");
        const sgm_gguf_tensor *other = sgm_gguf_tensor_find(file, "other");
        assert_true(a && q && other && a == sgm_gguf_tensor_at(file, 0));
        assert_int_equal(a->dimensions, 2);
        assert_int_equal(a->shape[0], 2); /* rows: the file lists them last */
        assert_int_equal(a->shape[1], 3);
        assert_int_equal(a->bytes, 24);
        float four[6];
        memcpy(four, a->data, sizeof four);
        assert_true(four[5] == 5);
        assert_int_equal(q->bytes, 136);
        assert_int_equal(q->shape[2], 32);
        assert_int_equal(*(const unsigned char *)q->data, 7);
        assert_int_equal(other->gguf_type, 10);
        assert_int_equal(other->bytes, 0);
        assert_memory_equal(other->data, "behind", 6);
        assert_null(sgm_gguf_tensor_find(file, "b"));
        assert_null(sgm_gguf_tensor_at(file, 3));
        assert_null(sgm_gguf_tensor_at(file, -1));
        sgm_gguf_close(file);
    }
}

/* Cut off anywhere before the end of the last known tensor it is refused; every single byte may be flipped without harm
 * (what the sanitizers see, they tell). */
static void survives_damage_at_every_byte(void **state) {
    (void)state;
    static image im;
    sgm_gguf *file;
    sgm_error error;
    full_image(&im);
    for (size_t cut = 0; cut < im.size - 6; cut++) {
        unsigned char *exact = malloc(cut + 1); /* so that reading past the end is seen */
        assert_non_null(exact);
        memcpy(exact, im.bytes, cut);
        error = (sgm_error){0};
        sgm_status status = sgm_gguf_parse(exact, cut, &file, &error);
        if (status != SGM_EFORMAT || file || !*error.message)
            fail_msg("cut at byte %zu: status %d, \"%s\"", cut, (int)status, error.message);
        free(exact);
    }
    for (size_t at = 0; at < im.size; at++)
        for (int bit = 0; bit < 8; bit++) {
            im.bytes[at] ^= (unsigned char)(1 << bit);
            sgm_status status = sgm_gguf_parse(im.bytes, im.size, &file, NULL);
            assert_true(status == SGM_OK || status == SGM_EFORMAT || status == SGM_EUNSUPPORTED);
            for (int64_t i = 0; !status && i < sgm_gguf_tensor_count(file); i++) {
                const sgm_gguf_tensor *t = sgm_gguf_tensor_at(file, i);
                const unsigned char *begin = t->data;
                assert_true(begin >= im.bytes && begin + t->bytes <= im.bytes + im.size);
            }
            sgm_gguf_close(status ? NULL : file);
            im.bytes[at] ^= (unsigned char)(1 << bit);
        }
}

static void refuses(const image *at, sgm_status status, const char *reason) {
    sgm_gguf *file;
    sgm_error error = {0};
    sgm_status got = sgm_gguf_parse(at->bytes, at->size, &file, &error);
    if (got != status || file || !strstr(error.message, reason))
        fail_msg("status %d, \"%s\": not \"%s\"", (int)got, error.message, reason);
}

static void refuses_wrong_headers(void **state) {
    (void)state;
    static image im;
    header(&im, 0, 0);
    sgm_gguf *file;
    assert_int_equal(sgm_gguf_parse(im.bytes, im.size, &file, NULL), SGM_OK); /* empty, but whole */
    sgm_gguf_close(file);
    im.bytes[0] = 'H';
    refuses(&im, SGM_EFORMAT, "does not begin");
    header(&im, 0, 0), im.bytes[4] = 1;
    refuses(&im, SGM_EUNSUPPORTED, "version 1");
    header(&im, 0, 0), im.bytes[4] = 4;
    refuses(&im, SGM_EUNSUPPORTED, "version 4");
    header(&im, 0, 0), im.bytes[4] = 0, im.bytes[7] = 3;
    refuses(&im, SGM_EUNSUPPORTED, "big-endian");
    header(&im, 0, UINT64_MAX);
    refuses(&im, SGM_EFORMAT, "do not fit");
    header(&im, UINT64_MAX, 0);
    refuses(&im, SGM_EFORMAT, "do not fit");
}

static void refuses_wrong_keys(void **state) {
    (void)state;
    static image im;
    header(&im, 0, 2);
    key(&im, "a", U8), put(&im, "\1", 1);
    key(&im, "a", U32), u32(&im, 7), pad(&im, 32);
    refuses(&im, SGM_EFORMAT, "twice");
    header(&im, 0, 1), key(&im, "a", 13), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "unknown type 13");
    header(&im, 0, 1), key(&im, "a", ARRAY), u32(&im, 99), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "unknown type 99");
    header(&im, 0, 1), key(&im, "a", ARRAY), u32(&im, ARRAY), u64(&im, 1), u32(&im, U8), u64(&im, 0);
    refuses(&im, SGM_EUNSUPPORTED, "array of arrays");
    header(&im, 0, 1), key(&im, "a", ARRAY), u32(&im, F64), u64(&im, UINT64_MAX / 8 + 2), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "truncated");
    header(&im, 0, 1), key(&im, "a", ARRAY), u32(&im, TEXT), u64(&im, UINT64_MAX), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "truncated");
    header(&im, 0, 1), key(&im, "a", ARRAY), u32(&im, TEXT), u64(&im, 1), u64(&im, UINT64_MAX);
    refuses(&im, SGM_EFORMAT, "truncated");
    header(&im, 0, 1), key(&im, "a", TEXT), u64(&im, UINT64_MAX - 3), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "truncated");
    header(&im, 0, 1), key(&im, "a", BOOL), put(&im, "\2\0\0\0", 4);
    refuses(&im, SGM_EFORMAT, "neither true nor false");
    header(&im, 0, 1), key(&im, "", U64), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "name");
    header(&im, 0, 1), u64(&im, 3), put(&im, "a\0b", 3), u32(&im, U64), u64(&im, 0);
    refuses(&im, SGM_EFORMAT, "zero byte");
    static const uint32_t alignments[] = {0, 4, 24, 33, 1u << 21};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        header(&im, 0, 1), key(&im, "general.alignment", U32), u32(&im, alignments[i]), pad(&im, 32);
        refuses(&im, SGM_EFORMAT, "alignment");
    }
    header(&im, 0, 1), key(&im, "general.alignment", F32), u32(&im, 32), pad(&im, 32);
    refuses(&im, SGM_EFORMAT, "alignment");
}

/* A file with these tensors and `bytes` zero bytes of data. */
static void tensors_image(image *at, int count, const char *const *names, const uint64_t (*shapes)[2],
                          const uint32_t *types, const uint64_t *offsets, size_t bytes) {
    header(at, (uint64_t)count, 0);
    for (int i = 0; i < count; i++)
        tensor(at, names[i], 2, shapes[i], types[i], offsets[i]);
    pad(at, 32);
    for (size_t i = 0; i < bytes; i++)
        put(at, "", 1);
}

static void refuses_wrong_tensors(void **state) {
    (void)state;
    static image im;
    static const struct {
        const char *names[2];
        uint64_t shapes[2][2];
        uint32_t types[2];
        uint64_t offsets[2];
        size_t bytes;
        const char *reason; /* NULL: fine */
    } cases[] = {
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {0, 32}, 64, NULL},
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {32, 0}, 64, NULL}, /* in any order */
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {0, 64}, 96, NULL}, /* a gap harms nobody */
        {{"a", "a"}, {{8, 1}, {8, 1}}, {0, 0}, {0, 32}, 64, "twice"},
        {{"a", "b"}, {{9, 1}, {8, 1}}, {0, 0}, {0, 32}, 64, "overlaps"},
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {0, 0}, 64, "overlaps"},
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {0, 16}, 64, "multiple of 32"},
        {{"a", "b"}, {{8, 1}, {9, 1}}, {0, 0}, {0, 32}, 64, "outside"},
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {0, 96}, 64, "outside"},
        {{"a", "b"}, {{8, 1}, {8, 1}}, {0, 0}, {0, UINT64_MAX - 31}, 64, "outside"},
        {{"a", "b"}, {{8, 0}, {8, 1}}, {0, 0}, {0, 32}, 64, "shape"},
        {{"a", "b"}, {{8, 1}, {UINT64_MAX, 1}}, {0, 0}, {0, 32}, 64, "shape"},
        {{"a", "b"}, {{8, 1}, {1u << 31, (uint64_t)1 << 31}}, {0, 0}, {0, 32}, 64, "shape"},
        {{"a", "b"}, {{8, 1}, {48, 1}}, {0, 8}, {0, 32}, 96, "multiples of 32"},
        {{"a", "b"}, {{8, 1}, {128, 1}}, {0, 12}, {0, 32}, 192, "multiples of 256"},
        {{"a", "b"}, {{8, 1}, {48, 1}}, {0, 200}, {0, 32}, 96, NULL}, /* an unknown type has no size to check */
        {{"a", "b"}, {{8, 1}, {48, 1}}, {0, 200}, {0, 128}, 96, "outside"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensors_image(&im, 2, cases[i].names, cases[i].shapes, cases[i].types, cases[i].offsets, cases[i].bytes);
        if (cases[i].reason) {
            refuses(&im, SGM_EFORMAT, cases[i].reason);
            continue;
        }
        sgm_gguf *file;
        sgm_error error = {0};
        if (sgm_gguf_parse(im.bytes, im.size, &file, &error))
            fail_msg("case %zu: %s", i, error.message);
        sgm_gguf_close(file);
    }
    header(&im, 1, 0), tensor(&im, "a", 5, (const uint64_t[]){1, 1, 1, 1, 1}, 0, 0), pad(&im, 32), u64(&im, 0);
    refuses(&im, SGM_EUNSUPPORTED, "5 dimensions");
}

/* ---- the writer ------------------------------------------------------------------------------------------------------- */

static void write_sample(const char *path) {
    sgm_gguf_writer *w;
    sgm_error error = {0};
    const char *texts[2] = {"x", "yz"};
    const size_t sizes[2] = {1, 2};
    const int32_t wholes[3] = {-1, 0, 7};
    const float reals[1] = {0.25f}, rows[5] = {1, 2, 3, 4, 5};
    unsigned char blocks[2 * 18];
    memset(blocks, 3, sizeof blocks);
    assert_int_equal(sgm_gguf_writer_new(path, &w, &error), SGM_OK);
    sgm_gguf_put_text(w, "general.architecture", "sample");
    sgm_gguf_put_u32(w, "count", 7);
    sgm_gguf_put_f32(w, "rate", 0.5f);
    sgm_gguf_put_bool(w, "fine", true);
    sgm_gguf_put_texts(w, "texts", 2, texts, sizes);
    sgm_gguf_put_i32s(w, "wholes", 3, wholes);
    sgm_gguf_put_f32s(w, "reals", 1, reals);
    sgm_gguf_put_tensor(w, "vector", SGM_TYPE_F32, 1, (const int64_t[]){5});
    sgm_gguf_put_tensor(w, "stack", SGM_TYPE_Q4_0, 3, (const int64_t[]){2, 1, 32});
    if (sgm_gguf_writer_begin(w, &error))
        fail_msg("%s", error.message);
    assert_int_equal(sgm_gguf_writer_data(w, rows, 12, &error), SGM_OK);
    /* The rest of one and the first byte of the next in one piece; then the rest. */
    unsigned char piece[9];
    memcpy(piece, rows + 3, 8);
    piece[8] = 3;
    assert_int_equal(sgm_gguf_writer_data(w, piece, 9, &error), SGM_OK);
    assert_int_equal(sgm_gguf_writer_data(w, blocks, sizeof blocks - 1, &error), SGM_OK);
    assert_int_equal(sgm_gguf_writer_end(w, &error), SGM_OK);
}

static void writes_what_it_reads(void **state) {
    (void)state;
    write_sample(in_folder("a.gguf"));
    /* By hand: the header's first bytes, and that everything is padded to 32. */
    char *bytes;
    size_t size;
    assert_int_equal(sgm_file_read(in_folder("a.gguf"), 4096, &bytes, &size, NULL), SGM_OK);
    static const unsigned char first[] = {'G', 'G', 'U', 'F', 3, 0, 0, 0, 2,  0, 0, 0, 0, 0, 0, 0,
                                          7,   0,   0,   0,   0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0};
    assert_memory_equal(bytes, first, sizeof first);
    assert_int_equal(size % 32, 0);
    assert_int_equal(bytes[size - 64], 3); /* 36 bytes of blocks, padded to 64 */
    assert_int_equal(bytes[size - 29], 3);
    assert_int_equal(bytes[size - 28], 0);

    sgm_gguf *file;
    sgm_error error = {0};
    if (sgm_gguf_open(in_folder("a.gguf"), &file, &error))
        fail_msg("%s", error.message);
    int64_t whole;
    double real;
    bool fine;
    const char *value;
    size_t length;
    assert_true(sgm_gguf_get_int(file, "count", &whole) && whole == 7);
    assert_true(sgm_gguf_get_float(file, "rate", &real) && real == 0.5);
    assert_true(sgm_gguf_get_bool(file, "fine", &fine) && fine);
    assert_true(sgm_gguf_array_text(file, "texts", 1, &value, &length) && length == 2 && memcmp(value, "yz", 2) == 0);
    assert_true(sgm_gguf_array_int(file, "wholes", 0, &whole) && whole == -1);
    assert_true(sgm_gguf_array_float(file, "reals", 0, &real) && real == 0.25);
    const sgm_gguf_tensor *vector = sgm_gguf_tensor_find(file, "vector"), *stack = sgm_gguf_tensor_find(file, "stack");
    assert_true(vector && stack);
    float rows[5];
    memcpy(rows, vector->data, sizeof rows);
    assert_true(rows[2] == 3 && rows[4] == 5);
    assert_int_equal((uintptr_t)stack->data % 32, 0);
    assert_int_equal(stack->dimensions, 3);
    assert_int_equal(stack->shape[0], 2);
    assert_int_equal(stack->shape[2], 32);
    assert_int_equal(stack->bytes, 36);

    /* Every key copied into another file is the same there; the same calls give the same bytes. */
    sgm_gguf_writer *w;
    assert_int_equal(sgm_gguf_writer_new(in_folder("b.gguf"), &w, &error), SGM_OK);
    for (int64_t i = 0; sgm_gguf_key_at(file, i); i++)
        sgm_gguf_put_copy(w, file, sgm_gguf_key_at(file, i));
    sgm_gguf_put_tensor(w, "vector", SGM_TYPE_F32, 1, vector->shape);
    sgm_gguf_put_tensor(w, "stack", SGM_TYPE_Q4_0, 3, stack->shape);
    assert_int_equal(sgm_gguf_writer_begin(w, &error), SGM_OK);
    assert_int_equal(sgm_gguf_writer_data(w, vector->data, (size_t)vector->bytes, &error), SGM_OK);
    assert_int_equal(sgm_gguf_writer_data(w, stack->data, (size_t)stack->bytes, &error), SGM_OK);
    assert_int_equal(sgm_gguf_writer_end(w, &error), SGM_OK);
    char *copy;
    size_t copy_size;
    assert_int_equal(sgm_file_read(in_folder("b.gguf"), 4096, &copy, &copy_size, NULL), SGM_OK);
    assert_int_equal(copy_size, size);
    assert_memory_equal(copy, bytes, size);
    sgm_free(copy);
    sgm_free(bytes);
    sgm_gguf_close(file);
}

static sgm_gguf_writer *new_writer(void) {
    sgm_gguf_writer *w;
    sgm_error error = {0};
    if (sgm_gguf_writer_new(in_folder("c.gguf"), &w, &error))
        fail_msg("%s", error.message);
    return w;
}

static void expect_wrong(sgm_status status, const sgm_error *error, const char *reason) {
    if (status != SGM_EARGUMENT || !strstr(error->message, reason))
        fail_msg("status %d, \"%s\": not \"%s\"", (int)status, error->message, reason);
}

static void writer_keeps_its_word(void **state) {
    (void)state;
    const int64_t one[1] = {8}, odd[2] = {2, 48}, zero[1] = {0};
    const char bytes[64] = {0};
    sgm_error error = {0};
    sgm_gguf_writer *w = new_writer();
    sgm_gguf_put_u32(w, "a", 1);
    sgm_gguf_put_u32(w, "a", 2);
    expect_wrong(sgm_gguf_writer_begin(w, &error), &error, "twice");
    sgm_gguf_writer_abandon(w);

    w = new_writer();
    sgm_gguf_put_tensor(w, "t", SGM_TYPE_F32, 1, one);
    sgm_gguf_put_tensor(w, "t", SGM_TYPE_F32, 1, one);
    expect_wrong(sgm_gguf_writer_begin(w, &error), &error, "twice");
    sgm_gguf_writer_abandon(w);

    w = new_writer();
    sgm_gguf_put_tensor(w, "t", SGM_TYPE_Q8_0, 2, odd); /* 48 is no multiple of a block */
    expect_wrong(sgm_gguf_writer_begin(w, &error), &error, "shape");
    expect_wrong(sgm_gguf_writer_end(w, &error), &error, "shape");

    w = new_writer();
    sgm_gguf_put_tensor(w, "t", SGM_TYPE_F32, 1, zero);
    expect_wrong(sgm_gguf_writer_begin(w, &error), &error, "shape");
    sgm_gguf_writer_abandon(w);

    w = new_writer();
    sgm_gguf_put_tensor(w, "t", SGM_TYPE_F32, 1, one);
    assert_int_equal(sgm_gguf_writer_begin(w, &error), SGM_OK);
    assert_int_equal(sgm_gguf_writer_data(w, bytes, 31, &error), SGM_OK);
    expect_wrong(sgm_gguf_writer_end(w, &error), &error, "fewer bytes"); /* and frees it */

    w = new_writer();
    sgm_gguf_put_tensor(w, "t", SGM_TYPE_F32, 1, one);
    assert_int_equal(sgm_gguf_writer_begin(w, &error), SGM_OK);
    expect_wrong(sgm_gguf_writer_data(w, bytes, 33, &error), &error, "more bytes");
    expect_wrong(sgm_gguf_writer_data(w, bytes, 1, &error), &error, "more bytes"); /* it stays failed */
    sgm_gguf_writer_abandon(w);

    w = new_writer();
    expect_wrong(sgm_gguf_writer_data(w, bytes, 1, &error), &error, "before it is begun");
    sgm_gguf_writer_abandon(w);

    w = new_writer();
    assert_int_equal(sgm_gguf_writer_begin(w, &error), SGM_OK);
    sgm_gguf_put_bool(w, "late", false);
    expect_wrong(sgm_gguf_writer_end(w, &error), &error, "after the first bytes");
    sgm_gguf_writer_abandon(NULL);

    assert_int_equal(sgm_gguf_writer_new(in_folder("none/x.gguf"), &w, &error), SGM_EIO);
    assert_null(w);
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(folder, &names, &count, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++)
        assert_null(strstr(names[i], "c.gguf")); /* nothing of the failed ones stays behind */
    sgm_free(names);
}

static void opens_files_only(void **state) {
    (void)state;
    sgm_gguf *file;
    sgm_error error = {0};
    assert_int_equal(sgm_gguf_open(in_folder("absent.gguf"), &file, &error), SGM_ENOTFOUND);
    assert_null(file);
    assert_int_equal(sgm_file_write(in_folder("empty.gguf"), "", 0, NULL), SGM_OK);
    assert_int_equal(sgm_gguf_open(in_folder("empty.gguf"), &file, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "empty.gguf"));
    sgm_gguf_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),      cmocka_unit_test(survives_damage_at_every_byte),
        cmocka_unit_test(refuses_wrong_headers), cmocka_unit_test(refuses_wrong_keys),
        cmocka_unit_test(refuses_wrong_tensors), cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(writer_keeps_its_word), cmocka_unit_test(opens_files_only),
    };
    return cmocka_run_group_tests_name("gguf", tests, make_folder, remove_folder);
}
