// SPDX-License-Identifier: Apache-2.0
/* Writing safetensors as a stream: tensors are declared, the header is written with room for the checksum, the bytes
 * follow, and the checksum is filled in before the file gets its name. Same calls, same bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "format/safetensors.h"
#include "format/safetensors_internal.h"

struct sgm_safetensors_writer {
    sgm_writer *file;
    char *path;
    sgm_buffer tensors, metadata; /* JSON members */
    sgm_checksum_state *checksum;
    uint64_t declared_bytes, added_bytes;
    uint64_t checksum_at; /* where in the file its text stands */
    bool header_written;
    sgm_status failed; /* sticky: after a failure nothing more is written */
};

void sgm_checksum_print(uint64_t checksum, char text[SGM_CHECKSUM_TEXT + 1]) {
    snprintf(text, SGM_CHECKSUM_TEXT + 1, "xxh3:%016" PRIx64, checksum);
}

static sgm_status header_failed(sgm_safetensors_writer *writer, sgm_status status, sgm_error *error) {
    writer->failed = status;
    if (status == SGM_EARGUMENT)
        return sgm_fail(error, status, NULL, "%s: a name or a metadata text is not UTF-8", writer->path);
    return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for the header of %s", writer->path);
}

static sgm_status broken(const sgm_safetensors_writer *writer, sgm_error *error) {
    return sgm_fail(error, writer->failed, NULL, "writing %s has failed before", writer->path);
}

static sgm_status wrong_order(sgm_safetensors_writer *writer, const char *what, sgm_error *error) {
    writer->failed = SGM_EARGUMENT;
    return sgm_fail(error, SGM_EARGUMENT, "declare everything first, then add exactly the declared bytes", "%s: %s",
                    writer->path, what);
}

sgm_status sgm_safetensors_writer_new(const char *path, sgm_safetensors_writer **writer, sgm_error *error) {
    *writer = NULL;
    sgm_safetensors_writer *made = sgm_alloc(sizeof *made);
    if (!made)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to write %s", path);
    made->path = sgm_strdup(path);
    made->checksum = sgm_checksum_new();
    sgm_status status = made->path && made->checksum
                            ? sgm_writer_open(path, &made->file, error)
                            : sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to write %s", path);
    if (status)
        sgm_safetensors_writer_abandon(made);
    else
        *writer = made;
    return status;
}

/* `"text"` in JSON, appended. */
static sgm_status add_text(sgm_buffer *buffer, const char *text) {
    if (!sgm_text_is_utf8(text))
        return SGM_EARGUMENT;
    json_t *string = json_string(text);
    char *encoded = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    sgm_status status = encoded ? sgm_buffer_add(buffer, encoded, strlen(encoded)) : SGM_EMEMORY;
    free(encoded);
    json_decref(string);
    return status;
}

sgm_status sgm_safetensors_writer_declare(sgm_safetensors_writer *writer, const char *name, sgm_dtype dtype,
                                          int dimensions, const int64_t *shape, sgm_error *error) {
    if (writer->failed)
        return broken(writer, error);
    uint64_t bytes, end;
    if (writer->header_written)
        return wrong_order(writer, "a tensor is declared after the first bytes were added", error);
    if (dimensions < 0 || dimensions > 8 || !sgm_shape_bytes(dtype, dimensions, shape, &bytes) ||
        __builtin_add_overflow(writer->declared_bytes, bytes, &end))
        return wrong_order(writer, "a tensor's shape is impossible", error);
    sgm_buffer *out = &writer->tensors;
    sgm_status status = sgm_buffer_add(out, ",", 1);
    if (!status)
        status = add_text(out, name);
    if (!status)
        status = sgm_buffer_print(out, ":{\"dtype\":\"%s\",\"shape\":[", sgm_dtype_name(dtype));
    for (int i = 0; !status && i < dimensions; i++)
        status = sgm_buffer_print(out, "%s%" PRId64, i ? "," : "", shape[i]);
    if (!status)
        status = sgm_buffer_print(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", writer->declared_bytes, end);
    if (status)
        return header_failed(writer, status, error);
    writer->declared_bytes = end;
    return SGM_OK;
}

sgm_status sgm_safetensors_writer_metadata(sgm_safetensors_writer *writer, const char *key, const char *value,
                                           sgm_error *error) {
    if (writer->failed)
        return broken(writer, error);
    if (writer->header_written)
        return wrong_order(writer, "metadata come after the first bytes", error);
    sgm_buffer *out = &writer->metadata;
    sgm_status status = sgm_buffer_add(out, ",", 1);
    if (!status)
        status = add_text(out, key);
    if (!status)
        status = sgm_buffer_add(out, ":", 1);
    if (!status)
        status = add_text(out, value);
    return status ? header_failed(writer, status, error) : SGM_OK;
}

/* The checksum is the first thing in the header, so its place is known. The header is padded with spaces to a multiple of
 * 64 bytes, which aligns the tensors. */
static sgm_status header_write(sgm_safetensors_writer *writer, sgm_error *error) {
    static const char start[] = "{\"__metadata__\":{\"checksum\":\"";
    char checksum[SGM_CHECKSUM_TEXT + 1];
    sgm_checksum_print(0, checksum);
    sgm_buffer header = {0};
    sgm_status status = sgm_buffer_print(&header, "%s%s\"", start, checksum);
    if (!status)
        status = sgm_buffer_add(&header, writer->metadata.data, writer->metadata.size);
    if (!status)
        status = sgm_buffer_add(&header, "}", 1);
    if (!status)
        status = sgm_buffer_add(&header, writer->tensors.data, writer->tensors.size);
    if (!status)
        status = sgm_buffer_add(&header, "}", 1);
    while (!status && (header.size + 8) % SGM_ALIGN != 0)
        status = sgm_buffer_add(&header, " ", 1);
    if (status) {
        sgm_buffer_free(&header);
        return header_failed(writer, status, error);
    }
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(header.size >> (8 * i));
    status = sgm_writer_add(writer->file, length, sizeof length, error);
    if (!status)
        status = sgm_writer_add(writer->file, header.data, header.size, error);
    writer->checksum_at = sizeof length + sizeof start - 1;
    writer->header_written = true;
    writer->failed = status;
    sgm_buffer_free(&header);
    return status;
}

sgm_status sgm_safetensors_writer_add(sgm_safetensors_writer *writer, const void *bytes, size_t size,
                                      sgm_error *error) {
    if (writer->failed)
        return broken(writer, error);
    sgm_status status = writer->header_written ? SGM_OK : header_write(writer, error);
    if (status)
        return status;
    if (size > writer->declared_bytes - writer->added_bytes)
        return wrong_order(writer, "more bytes are added than were declared", error);
    writer->added_bytes += size;
    sgm_checksum_add(writer->checksum, bytes, size);
    return writer->failed = sgm_writer_add(writer->file, bytes, size, error);
}

sgm_status sgm_safetensors_writer_commit(sgm_safetensors_writer *writer, sgm_error *error) {
    sgm_status status = writer->failed ? broken(writer, error) : SGM_OK;
    if (!status && !writer->header_written)
        status = header_write(writer, error);
    if (!status && writer->added_bytes != writer->declared_bytes)
        status = wrong_order(writer, "fewer bytes are added than were declared", error);
    if (!status) {
        char text[SGM_CHECKSUM_TEXT + 1];
        sgm_checksum_print(sgm_checksum_end(writer->checksum), text);
        writer->checksum = NULL;
        status = sgm_writer_patch(writer->file, writer->checksum_at, text, SGM_CHECKSUM_TEXT, error);
    }
    if (!status) {
        status = sgm_writer_commit(writer->file, error);
        writer->file = NULL;
    }
    sgm_safetensors_writer_abandon(writer);
    return status;
}

void sgm_safetensors_writer_abandon(sgm_safetensors_writer *writer) {
    if (!writer)
        return;
    if (writer->file)
        sgm_writer_abandon(writer->file);
    if (writer->checksum)
        (void)sgm_checksum_end(writer->checksum);
    sgm_buffer_free(&writer->tensors);
    sgm_buffer_free(&writer->metadata);
    sgm_free(writer->path);
    sgm_free(writer);
}
