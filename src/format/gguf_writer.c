// SPDX-License-Identifier: Apache-2.0
/* Writing GGUF as a stream: keys and tensors are declared and kept as the bytes of the header; `begin` writes them, the
 * tensors' bytes follow in order, each padded to the alignment. Same calls, same bytes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/gguf.h"
#include "format/gguf_internal.h"
#include "quant/quant.h"

struct sgm_gguf_writer {
    sgm_writer *file;
    char *path;
    sgm_buffer keys, tensors;             /* header bytes */
    sgm_buffer key_places, tensor_places; /* size_t each: where in the buffers a name begins */
    sgm_buffer sizes;                     /* uint64_t each: bytes of a tensor without padding */
    uint64_t key_count, tensor_count, data_bytes;
    uint64_t next, done; /* the tensor that is being written, and its bytes so far */
    bool begun;
    sgm_status failed;   /* the first failure; sticky */
    const char *problem; /* of a wrong declaration */
};

sgm_status sgm_gguf_writer_new(const char *path, sgm_gguf_writer **writer, sgm_error *error) {
    *writer = NULL;
    sgm_gguf_writer *made = sgm_alloc(sizeof *made);
    if (!made || !(made->path = sgm_strdup(path))) {
        sgm_free(made);
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to write %s", path);
    }
    sgm_status status = sgm_writer_open(path, &made->file, error);
    if (status)
        sgm_gguf_writer_abandon(made);
    else
        *writer = made;
    return status;
}

void sgm_gguf_writer_abandon(sgm_gguf_writer *writer) {
    if (!writer)
        return;
    sgm_writer_abandon(writer->file);
    sgm_buffer_free(&writer->keys);
    sgm_buffer_free(&writer->tensors);
    sgm_buffer_free(&writer->key_places);
    sgm_buffer_free(&writer->tensor_places);
    sgm_buffer_free(&writer->sizes);
    sgm_free(writer->path);
    sgm_free(writer);
}

/* ---- declaring ------------------------------------------------------------------------------------------------------- */

static void add(sgm_gguf_writer *writer, sgm_buffer *buffer, const void *bytes, size_t size) {
    if (!writer->failed && size)
        writer->failed = sgm_buffer_add(buffer, bytes, size);
}

static void wrong(sgm_gguf_writer *writer, const char *problem) {
    if (writer->failed)
        return;
    writer->failed = SGM_EARGUMENT;
    writer->problem = problem;
}

static void add_text(sgm_gguf_writer *writer, sgm_buffer *buffer, const char *text, size_t size) {
    uint64_t length = size;
    add(writer, buffer, &length, sizeof length);
    add(writer, buffer, text, size);
}

static void add_name(sgm_gguf_writer *writer, sgm_buffer *buffer, sgm_buffer *places, const char *name) {
    size_t length = strlen(name), place = buffer->size;
    if (writer->begun)
        wrong(writer, "something is declared after the first bytes were written");
    if (length == 0 || length > SGM_GGUF_NAME_BYTES)
        wrong(writer, "a name is empty or too long");
    add(writer, places, &place, sizeof place);
    add_text(writer, buffer, name, length);
}

static void add_key(sgm_gguf_writer *writer, const char *key, uint32_t type) {
    add_name(writer, &writer->keys, &writer->key_places, key);
    add(writer, &writer->keys, &type, sizeof type);
    writer->key_count++;
}

static void add_array(sgm_gguf_writer *writer, const char *key, uint32_t type, int64_t count) {
    uint64_t length = count < 0 ? 0 : (uint64_t)count;
    add_key(writer, key, SGM_GGUF_ARRAY);
    add(writer, &writer->keys, &type, sizeof type);
    add(writer, &writer->keys, &length, sizeof length);
}

void sgm_gguf_put_u32(sgm_gguf_writer *writer, const char *key, uint32_t value) {
    add_key(writer, key, SGM_GGUF_U32);
    add(writer, &writer->keys, &value, sizeof value);
}

void sgm_gguf_put_f32(sgm_gguf_writer *writer, const char *key, float value) {
    add_key(writer, key, SGM_GGUF_F32);
    add(writer, &writer->keys, &value, sizeof value);
}

void sgm_gguf_put_bool(sgm_gguf_writer *writer, const char *key, bool value) {
    unsigned char byte = value;
    add_key(writer, key, SGM_GGUF_BOOL);
    add(writer, &writer->keys, &byte, sizeof byte);
}

void sgm_gguf_put_text(sgm_gguf_writer *writer, const char *key, const char *text) {
    add_key(writer, key, SGM_GGUF_TEXT);
    add_text(writer, &writer->keys, text, strlen(text));
}

void sgm_gguf_put_texts(sgm_gguf_writer *writer, const char *key, int64_t count, const char *const *texts,
                        const size_t *sizes) {
    add_array(writer, key, SGM_GGUF_TEXT, count);
    for (int64_t i = 0; i < count; i++)
        add_text(writer, &writer->keys, texts[i], sizes[i]);
}

void sgm_gguf_put_i32s(sgm_gguf_writer *writer, const char *key, int64_t count, const int32_t *values) {
    add_array(writer, key, SGM_GGUF_I32, count);
    add(writer, &writer->keys, values, (size_t)count * sizeof *values);
}

void sgm_gguf_put_f32s(sgm_gguf_writer *writer, const char *key, int64_t count, const float *values) {
    add_array(writer, key, SGM_GGUF_F32, count);
    add(writer, &writer->keys, values, (size_t)count * sizeof *values);
}

void sgm_gguf_put_copy(sgm_gguf_writer *writer, const sgm_gguf *from, const char *key) {
    uint32_t type;
    const void *bytes;
    size_t size;
    if (!sgm_gguf_raw(from, key, &type, &bytes, &size)) {
        wrong(writer, "a key that is copied does not exist");
        return;
    }
    add_key(writer, key, type);
    add(writer, &writer->keys, bytes, size);
}

static bool shape_bytes(const sgm_quant *quant, int dimensions, const int64_t *shape, uint64_t *bytes) {
    if (!quant || dimensions < 1 || dimensions > SGM_GGUF_DIMENSIONS || shape[dimensions - 1] % quant->block)
        return false;
    uint64_t total = quant->block_bytes;
    for (int i = 0; i < dimensions; i++) {
        uint64_t length = (uint64_t)(i == dimensions - 1 ? shape[i] / quant->block : shape[i]);
        if (shape[i] < 1 || __builtin_mul_overflow(total, length, &total))
            return false;
    }
    *bytes = total;
    return total <= INT64_MAX;
}

void sgm_gguf_put_tensor(sgm_gguf_writer *writer, const char *name, sgm_type type, int dimensions,
                         const int64_t *shape) {
    const sgm_quant *quant = sgm_quant_of(type);
    uint64_t bytes = 0, end = 0;
    add_name(writer, &writer->tensors, &writer->tensor_places, name);
    if (!shape_bytes(quant, dimensions, shape, &bytes) || __builtin_add_overflow(writer->data_bytes, bytes, &end) ||
        end > INT64_MAX - SGM_GGUF_ALIGNMENT) {
        wrong(writer, "a tensor's shape is impossible for its type");
        return;
    }
    uint32_t count = (uint32_t)dimensions, number = quant->gguf;
    add(writer, &writer->tensors, &count, sizeof count);
    for (int i = dimensions - 1; i >= 0; i--)
        add(writer, &writer->tensors, &shape[i], sizeof shape[i]);
    add(writer, &writer->tensors, &number, sizeof number);
    add(writer, &writer->tensors, &writer->data_bytes, sizeof writer->data_bytes);
    add(writer, &writer->sizes, &bytes, sizeof bytes);
    writer->tensor_count++;
    writer->data_bytes = (end + SGM_GGUF_ALIGNMENT - 1) / SGM_GGUF_ALIGNMENT * SGM_GGUF_ALIGNMENT;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

static sgm_status broken(const sgm_gguf_writer *writer, sgm_error *error) {
    if (writer->problem)
        return sgm_fail(error, writer->failed, NULL, "cannot write %s: %s", writer->path, writer->problem);
    if (writer->failed == SGM_EMEMORY)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for the header of %s", writer->path);
    return sgm_fail(error, writer->failed, NULL, "writing %s has failed before", writer->path);
}

typedef struct name_place {
    const char *bytes;
    size_t size;
} name_place;

static int by_bytes(const void *a, const void *b) {
    const name_place *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->size < y->size ? x->size : y->size);
    return order ? order : x->size < y->size ? -1 : x->size > y->size;
}

/* SGM_EARGUMENT when a name occurs twice. */
static sgm_status names_differ(sgm_gguf_writer *writer, const sgm_buffer *buffer, const sgm_buffer *places) {
    size_t count = places->size / sizeof(size_t);
    name_place *names = sgm_alloc(count * sizeof *names + 1);
    if (!names)
        return SGM_EMEMORY;
    for (size_t i = 0; i < count; i++) {
        size_t place;
        uint64_t length;
        memcpy(&place, places->data + i * sizeof place, sizeof place);
        memcpy(&length, buffer->data + place, sizeof length);
        names[i] = (name_place){buffer->data + place + sizeof length, (size_t)length};
    }
    qsort(names, count, sizeof *names, by_bytes);
    for (size_t i = 1; i < count; i++)
        if (by_bytes(&names[i], &names[i - 1]) == 0)
            wrong(writer, "a name is declared twice");
    sgm_free(names);
    return writer->failed;
}

static sgm_status pad(sgm_gguf_writer *writer, sgm_error *error) {
    static const char zeros[SGM_GGUF_ALIGNMENT];
    size_t over = (size_t)(sgm_writer_position(writer->file) % SGM_GGUF_ALIGNMENT);
    return over ? sgm_writer_add(writer->file, zeros, SGM_GGUF_ALIGNMENT - over, error) : SGM_OK;
}

sgm_status sgm_gguf_writer_begin(sgm_gguf_writer *writer, sgm_error *error) {
    if (writer->begun)
        wrong(writer, "it is begun twice");
    if (!writer->failed)
        writer->failed = names_differ(writer, &writer->keys, &writer->key_places);
    if (!writer->failed)
        writer->failed = names_differ(writer, &writer->tensors, &writer->tensor_places);
    if (writer->failed)
        return broken(writer, error);
    writer->begun = true;
    unsigned char head[24] = "GGUF";
    const uint32_t version = SGM_GGUF_VERSION;
    memcpy(head + 4, &version, sizeof version);
    memcpy(head + 8, &writer->tensor_count, sizeof writer->tensor_count);
    memcpy(head + 16, &writer->key_count, sizeof writer->key_count);
    sgm_status status = sgm_writer_add(writer->file, head, sizeof head, error);
    if (!status)
        status = sgm_writer_add(writer->file, writer->keys.data, writer->keys.size, error);
    if (!status)
        status = sgm_writer_add(writer->file, writer->tensors.data, writer->tensors.size, error);
    if (!status)
        status = pad(writer, error);
    return writer->failed = status;
}

sgm_status sgm_gguf_writer_data(sgm_gguf_writer *writer, const void *data, size_t size, sgm_error *error) {
    const char *from = data;
    if (!writer->begun)
        wrong(writer, "bytes come before it is begun");
    if (writer->failed)
        return broken(writer, error);
    while (size) {
        uint64_t bytes;
        if (writer->next == writer->tensor_count) {
            wrong(writer, "more bytes come than were declared");
            return broken(writer, error);
        }
        memcpy(&bytes, writer->sizes.data + writer->next * sizeof bytes, sizeof bytes);
        size_t piece = bytes - writer->done < size ? (size_t)(bytes - writer->done) : size;
        sgm_status status = sgm_writer_add(writer->file, from, piece, error);
        from += piece;
        size -= piece;
        writer->done += piece;
        if (!status && writer->done == bytes) {
            writer->next++;
            writer->done = 0;
            status = pad(writer, error);
        }
        if (status)
            return writer->failed = status;
    }
    return SGM_OK;
}

sgm_status sgm_gguf_writer_end(sgm_gguf_writer *writer, sgm_error *error) {
    if (!writer->begun)
        wrong(writer, "it was never begun");
    else if (writer->next != writer->tensor_count)
        wrong(writer, "fewer bytes came than were declared");
    sgm_status status = writer->failed ? broken(writer, error) : SGM_OK;
    if (!status) {
        status = sgm_writer_commit(writer->file, error);
        writer->file = NULL;
    }
    sgm_gguf_writer_abandon(writer);
    return status;
}
