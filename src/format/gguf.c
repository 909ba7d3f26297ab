// SPDX-License-Identifier: Apache-2.0
/* Reading GGUF (the format of github.com/ggml-org/ggml, docs/gguf.md).
 *
 * A file is: "GGUF", version, number of tensors, number of keys; then the keys (name, type, value); then for each tensor its
 * name, dimensions, type and offset; then, from the next multiple of the alignment on, the tensors' bytes. Invariants held
 * after opening: every key and name stands inside the file and occurs once, every array's elements are there, every tensor
 * of a known type lies inside the file at an aligned place, and no two of them overlap. Values are copied out byte by byte
 * (they need not be aligned); tensors are used in place, so the host must be little-endian too. */
#include "format/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/gguf_internal.h"
#include "quant/quant.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor data are mapped in place and are little-endian"
#endif

/* A key; its value stays in the mapping. */
typedef struct key_entry {
    const char *name; /* copied, NUL-terminated */
    const unsigned char *value;
    size_t bytes;         /* of the value as it stands in the file, behind its type */
    uint32_t type;        /* of the value; an array's elements: `item` */
    uint32_t item;        /* SGM_GGUF_ARRAY only */
    uint64_t count;       /* SGM_GGUF_ARRAY only */
    const uint64_t *text; /* an array of texts: where each begins, from `value` */
} key_entry;

/* Open addressing by name: index + 1, 0 = free. */
typedef struct name_table {
    uint32_t *slots;
    size_t size;
} name_table;

struct sgm_gguf {
    sgm_mapping mapping;
    bool mapped;
    char *label;
    sgm_gguf_tensor *tensors;
    key_entry *keys;
    int64_t tensor_count, key_count; /* of those read so far */
    name_table tensor_names, key_names;
    uint64_t bytes;
};

static const char damaged_hint[] = "the file is damaged or incomplete: copy or write it again";

/* ---- reading bytes --------------------------------------------------------------------------------------------------- */

/* The part of the file that is still to be read. */
typedef struct cursor {
    const unsigned char *at;
    size_t left;
    const char *label;
    sgm_error *error;
} cursor;

static sgm_status cut_off(const cursor *c, const char *what) {
    return sgm_fail(c->error, SGM_EFORMAT, damaged_hint, "%s is truncated: it ends inside %s", c->label, what);
}

static sgm_status take(cursor *c, void *out, size_t bytes, const char *what) {
    if (bytes > c->left)
        return cut_off(c, what);
    memcpy(out, c->at, bytes);
    c->at += bytes;
    c->left -= bytes;
    return SGM_OK;
}

static sgm_status skip(cursor *c, uint64_t bytes, const char *what) {
    if (bytes > c->left)
        return cut_off(c, what);
    c->at += bytes;
    c->left -= (size_t)bytes;
    return SGM_OK;
}

/* A name: its length, then its bytes; a heap copy. Names are printed and compared as C strings, so no NUL may stand inside. */
static sgm_status take_name(cursor *c, const char *what, char **name) {
    uint64_t length = 0;
    sgm_status status = take(c, &length, sizeof length, what);
    if (status)
        return status;
    if (length > c->left)
        return cut_off(c, what);
    if (length == 0 || length > SGM_GGUF_NAME_BYTES || memchr(c->at, 0, (size_t)length))
        return sgm_fail(c->error, SGM_EFORMAT, damaged_hint,
                        "%s: %s has a name that is empty, longer than %d bytes or holds a zero byte", c->label, what,
                        SGM_GGUF_NAME_BYTES);
    *name = sgm_alloc((size_t)length + 1);
    if (!*name)
        return sgm_fail(c->error, SGM_EMEMORY, NULL, "no memory to read the header of %s", c->label);
    memcpy(*name, c->at, (size_t)length);
    return skip(c, length, what);
}

size_t sgm_gguf_scalar_bytes(uint32_t type) {
    static const unsigned char bytes[] = {
        [SGM_GGUF_U8] = 1,  [SGM_GGUF_I8] = 1,  [SGM_GGUF_U16] = 2, [SGM_GGUF_I16] = 2,
        [SGM_GGUF_U32] = 4, [SGM_GGUF_I32] = 4, [SGM_GGUF_F32] = 4, [SGM_GGUF_BOOL] = 1,
        [SGM_GGUF_U64] = 8, [SGM_GGUF_I64] = 8, [SGM_GGUF_F64] = 8,
    };
    return type < sizeof bytes ? bytes[type] : 0;
}

/* ---- names ----------------------------------------------------------------------------------------------------------- */

static bool table_init(name_table *table, uint64_t count) {
    table->size = 16;
    while (table->size < count * 2)
        table->size *= 2;
    table->slots = sgm_alloc(table->size * sizeof *table->slots);
    return table->slots != NULL;
}

static const char *name_at(const void *entries, size_t entry_bytes, size_t index) {
    /* Both kinds of entries begin with their name. */
    const char *name;
    memcpy(&name, (const char *)entries + index * entry_bytes, sizeof name);
    return name;
}

/* The slot that holds `name`, or the free one where it belongs. */
static uint32_t *table_slot(const name_table *table, const void *entries, size_t entry_bytes, const char *name) {
    size_t at = (size_t)sgm_checksum(name, strlen(name)) & (table->size - 1);
    while (table->slots[at] && strcmp(name_at(entries, entry_bytes, table->slots[at] - 1), name) != 0)
        at = (at + 1) & (table->size - 1);
    return &table->slots[at];
}

/* ---- keys ------------------------------------------------------------------------------------------------------------ */

static sgm_status bad_type(const cursor *c, const char *name, uint32_t type) {
    return sgm_fail(c->error, SGM_EFORMAT, "a newer program may have written this file",
                    "%s: key '%.100s' has the unknown type %" PRIu32, c->label, name, type);
}

/* Walk over the texts of an array and note where each begins. */
static sgm_status read_texts(cursor *c, key_entry *key) {
    /* Each takes eight bytes of the file at least, so the table is no larger than the file. */
    if (key->count > c->left / sizeof(uint64_t))
        return cut_off(c, key->name);
    uint64_t *starts = sgm_alloc((size_t)key->count * sizeof *starts + 1);
    if (!starts)
        return sgm_fail(c->error, SGM_EMEMORY, NULL, "no memory to read the header of %s", c->label);
    key->text = starts;
    for (uint64_t i = 0; i < key->count; i++) {
        uint64_t length = 0;
        starts[i] = (uint64_t)(c->at - key->value);
        sgm_status status = take(c, &length, sizeof length, key->name);
        if (!status)
            status = skip(c, length, key->name);
        if (status)
            return status;
    }
    return SGM_OK;
}

static sgm_status check_bools(const cursor *c, const key_entry *key, const unsigned char *values, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (values[i] > 1)
            return sgm_fail(c->error, SGM_EFORMAT, damaged_hint, "%s: key '%.100s' is neither true nor false", c->label,
                            key->name);
    return SGM_OK;
}

static sgm_status read_array(cursor *c, key_entry *key) {
    sgm_status status = take(c, &key->item, sizeof key->item, key->name);
    if (!status)
        status = take(c, &key->count, sizeof key->count, key->name);
    if (status)
        return status;
    if (key->item == SGM_GGUF_ARRAY)
        return sgm_fail(c->error, SGM_EUNSUPPORTED, "such files are not read", "%s: key '%.100s' is an array of arrays",
                        c->label, key->name);
    key->value = c->at;
    if (key->item == SGM_GGUF_TEXT)
        return read_texts(c, key);
    size_t each = sgm_gguf_scalar_bytes(key->item);
    if (!each)
        return bad_type(c, key->name, key->item);
    if (key->count > c->left / each)
        return cut_off(c, key->name);
    status = skip(c, key->count * each, key->name);
    return status || key->item != SGM_GGUF_BOOL ? status : check_bools(c, key, key->value, key->count);
}

static sgm_status read_key(cursor *c, key_entry *key) {
    char *name = NULL;
    sgm_status status = take_name(c, "a key", &name);
    key->name = name;
    if (!status)
        status = take(c, &key->type, sizeof key->type, "a key");
    if (status)
        return status;
    const unsigned char *begin = c->at;
    key->value = begin;
    if (key->type == SGM_GGUF_ARRAY) {
        status = read_array(c, key);
    } else if (key->type == SGM_GGUF_TEXT) {
        uint64_t length = 0;
        status = take(c, &length, sizeof length, name);
        if (!status)
            status = skip(c, length, name);
    } else if (!sgm_gguf_scalar_bytes(key->type)) {
        status = bad_type(c, name, key->type);
    } else {
        status = skip(c, sgm_gguf_scalar_bytes(key->type), name);
        if (!status && key->type == SGM_GGUF_BOOL)
            status = check_bools(c, key, begin, 1);
    }
    key->bytes = (size_t)(c->at - begin);
    return status;
}

static sgm_status twice(const cursor *c, const char *what, const char *name) {
    return sgm_fail(c->error, SGM_EFORMAT, damaged_hint, "%s: %s '%.100s' occurs twice", c->label, what, name);
}

static sgm_status read_keys(sgm_gguf *file, cursor *c, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        key_entry *key = &file->keys[file->key_count++];
        sgm_status status = read_key(c, key);
        if (status)
            return status;
        uint32_t *slot = table_slot(&file->key_names, file->keys, sizeof *file->keys, key->name);
        if (*slot)
            return twice(c, "key", key->name);
        *slot = (uint32_t)file->key_count;
    }
    return SGM_OK;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

/* Bytes of a tensor of a type of ours. */
static sgm_status tensor_bytes(const cursor *c, const sgm_quant *quant, sgm_gguf_tensor *tensor) {
    int64_t cols = tensor->dimensions ? tensor->shape[tensor->dimensions - 1] : 1;
    if (cols % quant->block)
        return sgm_fail(c->error, SGM_EFORMAT, damaged_hint,
                        "%s: tensor '%.100s' has rows of %" PRId64 " elements, %s needs multiples of %" PRId64,
                        c->label, tensor->name, cols, quant->name, quant->block);
    uint64_t bytes = (uint64_t)(cols / quant->block);
    bool fits = !__builtin_mul_overflow(bytes, quant->block_bytes, &bytes);
    for (int i = 0; fits && i + 1 < tensor->dimensions; i++)
        fits = !__builtin_mul_overflow(bytes, (uint64_t)tensor->shape[i], &bytes);
    if (!fits || bytes > INT64_MAX)
        return sgm_fail(c->error, SGM_EFORMAT, damaged_hint, "%s: the shape of tensor '%.100s' is impossible", c->label,
                        tensor->name);
    tensor->bytes = bytes;
    return SGM_OK;
}

/* `offset` receives the tensor's place from the start of the tensors' bytes. */
static sgm_status read_tensor(cursor *c, sgm_gguf_tensor *tensor, uint64_t *offset) {
    char *name = NULL;
    uint32_t dimensions = 0;
    sgm_status status = take_name(c, "a tensor's entry", &name);
    tensor->name = name;
    if (!status)
        status = take(c, &dimensions, sizeof dimensions, "a tensor's entry");
    if (!status && dimensions > SGM_GGUF_DIMENSIONS)
        status = sgm_fail(c->error, SGM_EUNSUPPORTED, "is it the file of a language model, and is it whole?",
                          "%s: tensor '%.100s' has %" PRIu32 " dimensions, at most %d are possible", c->label, name,
                          dimensions, SGM_GGUF_DIMENSIONS);
    for (uint32_t i = 0; !status && i < dimensions; i++) {
        uint64_t length = 0;
        status = take(c, &length, sizeof length, "a tensor's entry");
        if (!status && (length == 0 || length > INT64_MAX))
            status = sgm_fail(c->error, SGM_EFORMAT, damaged_hint, "%s: the shape of tensor '%.100s' is impossible",
                              c->label, name);
        tensor->shape[dimensions - 1 - i] = (int64_t)length;
    }
    tensor->dimensions = (int)dimensions;
    if (!status)
        status = take(c, &tensor->gguf_type, sizeof tensor->gguf_type, "a tensor's entry");
    if (!status)
        status = take(c, offset, sizeof *offset, "a tensor's entry");
    const sgm_quant *quant = status ? NULL : sgm_quant_of_gguf(tensor->gguf_type);
    return quant ? tensor_bytes(c, quant, tensor) : status;
}

typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

static int by_begin(const void *a, const void *b) {
    const extent *x = a, *y = b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : x->end < y->end ? -1 : x->end > y->end;
}

static sgm_status place_tensors(sgm_gguf *file, const cursor *c, const unsigned char *data, uint64_t size,
                                uint64_t alignment, extent *extents) {
    for (int64_t i = 0; i < file->tensor_count; i++) {
        sgm_gguf_tensor *tensor = &file->tensors[i];
        extent *e = &extents[i];
        if (e->begin % alignment)
            return sgm_fail(c->error, SGM_EFORMAT, damaged_hint,
                            "%s: tensor '%.100s' lies at byte %" PRIu64 ", which is no multiple of %" PRIu64, c->label,
                            tensor->name, e->begin, alignment);
        if (e->begin > size || tensor->bytes > size - e->begin)
            return sgm_fail(c->error, SGM_EFORMAT, damaged_hint,
                            "%s: tensor '%.100s' lies outside the file, which may be truncated", c->label,
                            tensor->name);
        tensor->data = data + e->begin;
        e->end = e->begin + tensor->bytes;
        e->name = tensor->name;
    }
    qsort(extents, (size_t)file->tensor_count, sizeof *extents, by_begin);
    for (int64_t i = 1; i < file->tensor_count; i++)
        if (extents[i].begin < extents[i - 1].end)
            return sgm_fail(c->error, SGM_EFORMAT, damaged_hint, "%s: tensor '%.100s' overlaps '%.100s'", c->label,
                            extents[i].name, extents[i - 1].name);
    return SGM_OK;
}

/* Where the tensors' bytes must begin: a power of two, as all readers of the format demand. */
static sgm_status read_alignment(const sgm_gguf *file, const cursor *c, uint64_t *alignment) {
    int64_t value = SGM_GGUF_ALIGNMENT;
    if (sgm_gguf_has(file, "general.alignment") && !sgm_gguf_get_int(file, "general.alignment", &value))
        value = 0;
    if (value < 8 || value > 1 << 20 || (value & (value - 1)))
        return sgm_fail(c->error, SGM_EFORMAT, "it must be a power of two from 8 to 1048576",
                        "%s: the value of 'general.alignment' is impossible", c->label);
    *alignment = (uint64_t)value;
    return SGM_OK;
}

static sgm_status read_tensors(sgm_gguf *file, cursor *c, uint64_t count, size_t size) {
    uint64_t alignment = SGM_GGUF_ALIGNMENT;
    sgm_status status = read_alignment(file, c, &alignment);
    extent *extents = status ? NULL : sgm_alloc((size_t)count * sizeof *extents + 1);
    if (!status && !extents)
        status = sgm_fail(c->error, SGM_EMEMORY, NULL, "no memory to read the header of %s", c->label);
    for (uint64_t i = 0; !status && i < count; i++) {
        sgm_gguf_tensor *tensor = &file->tensors[file->tensor_count++];
        status = read_tensor(c, tensor, &extents[i].begin);
        uint32_t *slot =
            status ? NULL : table_slot(&file->tensor_names, file->tensors, sizeof *file->tensors, tensor->name);
        if (slot && *slot)
            status = twice(c, "tensor", tensor->name);
        else if (slot)
            *slot = (uint32_t)file->tensor_count;
    }
    if (!status && count) {
        uint64_t header = size - c->left, padding = (alignment - header % alignment) % alignment;
        status = skip(c, padding, "the padding before the tensors");
    }
    if (!status)
        status = place_tensors(file, c, c->at, c->left, alignment, extents);
    sgm_free(extents);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static sgm_status read_version(cursor *c) {
    char magic[4];
    uint32_t version = 0;
    if (c->left < sizeof magic || memcmp(c->at, "GGUF", sizeof magic) != 0)
        return sgm_fail(c->error, SGM_EFORMAT, "is this a GGUF file?", "%s does not begin with GGUF", c->label);
    sgm_status status = take(c, magic, sizeof magic, "its first bytes");
    if (!status)
        status = take(c, &version, sizeof version, "its first bytes");
    if (status || version == 2 || version == 3) /* 2 differs in its number alone */
        return status;
    if (version && (version & 0xFFFF) == 0)
        return sgm_fail(c->error, SGM_EUNSUPPORTED, "convert it on the machine it was made for",
                        "%s is a GGUF file in big-endian byte order", c->label);
    return sgm_fail(c->error, SGM_EUNSUPPORTED, "versions 2 and 3 are read", "%s is a GGUF file of version %" PRIu32,
                    c->label, version);
}

static sgm_status read_all(sgm_gguf *file, const unsigned char *bytes, size_t size, sgm_error *error) {
    cursor c = {bytes, size, file->label, error};
    uint64_t tensors = 0, keys = 0;
    sgm_status status = read_version(&c);
    if (!status)
        status = take(&c, &tensors, sizeof tensors, "its first bytes");
    if (!status)
        status = take(&c, &keys, sizeof keys, "its first bytes");
    if (status)
        return status;
    /* The least that each can take: so the tables are bounded by the file's size. */
    enum { KEY_BYTES = 8 + 1 + 4 + 1, TENSOR_BYTES = 8 + 1 + 4 + 4 + 8 };
    if (keys > c.left / KEY_BYTES || tensors > c.left / TENSOR_BYTES || keys > UINT32_MAX / 4 ||
        tensors > UINT32_MAX / 4)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint,
                        "%s is truncated: %" PRIu64 " keys and %" PRIu64 " tensors do not fit into %zu bytes",
                        file->label, keys, tensors, size);
    file->bytes = size;
    file->keys = sgm_alloc((size_t)keys * sizeof *file->keys + 1);
    file->tensors = sgm_alloc((size_t)tensors * sizeof *file->tensors + 1);
    if (!file->keys || !file->tensors || !table_init(&file->key_names, keys) ||
        !table_init(&file->tensor_names, tensors))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read the header of %s", file->label);
    status = read_keys(file, &c, keys);
    return status ? status : read_tensors(file, &c, tensors, size);
}

static sgm_status file_new(const char *label, sgm_gguf **file, sgm_error *error) {
    *file = sgm_alloc(sizeof **file);
    if (*file && ((*file)->label = sgm_strdup(label)))
        return SGM_OK;
    sgm_free(*file);
    *file = NULL;
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to open %s", label);
}

sgm_status sgm_gguf_parse(const unsigned char *bytes, size_t size, sgm_gguf **out, sgm_error *error) {
    sgm_gguf *file = NULL;
    *out = NULL;
    sgm_status status = file_new("GGUF data", &file, error);
    if (!status)
        status = read_all(file, bytes, size, error);
    if (status)
        sgm_gguf_close(file);
    else
        *out = file;
    return status;
}

sgm_status sgm_gguf_open(const char *path, sgm_gguf **out, sgm_error *error) {
    sgm_gguf *file = NULL;
    *out = NULL;
    sgm_status status = file_new(path, &file, error);
    if (!status)
        status = sgm_map_open(path, &file->mapping, error);
    if (!status) {
        file->mapped = true;
        status = read_all(file, file->mapping.data, file->mapping.size, error);
    }
    if (status)
        sgm_gguf_close(file);
    else
        *out = file;
    return status;
}

void sgm_gguf_close(sgm_gguf *file) {
    if (!file)
        return;
    for (int64_t i = 0; i < file->tensor_count; i++)
        sgm_free((void *)(uintptr_t)file->tensors[i].name);
    for (int64_t i = 0; i < file->key_count; i++) {
        sgm_free((void *)(uintptr_t)file->keys[i].name);
        sgm_free((void *)(uintptr_t)file->keys[i].text);
    }
    if (file->mapped)
        sgm_map_close(&file->mapping);
    sgm_free(file->tensors);
    sgm_free(file->keys);
    sgm_free(file->tensor_names.slots);
    sgm_free(file->key_names.slots);
    sgm_free(file->label);
    sgm_free(file);
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

uint64_t sgm_gguf_bytes(const sgm_gguf *file) {
    return file->bytes;
}

int64_t sgm_gguf_tensor_count(const sgm_gguf *file) {
    return file->tensor_count;
}

const sgm_gguf_tensor *sgm_gguf_tensor_at(const sgm_gguf *file, int64_t index) {
    return index >= 0 && index < file->tensor_count ? &file->tensors[index] : NULL;
}

const sgm_gguf_tensor *sgm_gguf_tensor_find(const sgm_gguf *file, const char *name) {
    uint32_t slot = *table_slot(&file->tensor_names, file->tensors, sizeof *file->tensors, name);
    return slot ? &file->tensors[slot - 1] : NULL;
}

static const key_entry *key_find(const sgm_gguf *file, const char *name) {
    uint32_t slot = *table_slot(&file->key_names, file->keys, sizeof *file->keys, name);
    return slot ? &file->keys[slot - 1] : NULL;
}

bool sgm_gguf_has(const sgm_gguf *file, const char *key) {
    return key_find(file, key) != NULL;
}

const char *sgm_gguf_key_at(const sgm_gguf *file, int64_t index) {
    return index >= 0 && index < file->key_count ? file->keys[index].name : NULL;
}

bool sgm_gguf_raw(const sgm_gguf *file, const char *name, uint32_t *type, const void **bytes, size_t *size) {
    const key_entry *key = key_find(file, name);
    if (!key)
        return false;
    *type = key->type;
    /* An array's value begins with the type and the number of its elements. */
    size_t prefix = key->type == SGM_GGUF_ARRAY ? sizeof(uint32_t) + sizeof(uint64_t) : 0;
    *bytes = key->value - prefix;
    *size = key->bytes;
    return true;
}

/* Any integer kind; false where it does not fit int64. */
static bool integer_at(uint32_t type, const unsigned char *at, int64_t *value) {
    uint64_t bits = 0;
    switch (type) {
    case SGM_GGUF_U8:
    case SGM_GGUF_U16:
    case SGM_GGUF_U32:
    case SGM_GGUF_U64:
        memcpy(&bits, at, sgm_gguf_scalar_bytes(type));
        if (bits > INT64_MAX)
            return false;
        *value = (int64_t)bits;
        return true;
    case SGM_GGUF_I8:
    case SGM_GGUF_I16:
    case SGM_GGUF_I32:
    case SGM_GGUF_I64: {
        unsigned spare = 64 - 8 * (unsigned)sgm_gguf_scalar_bytes(type);
        memcpy(&bits, at, sgm_gguf_scalar_bytes(type));
        *value = (int64_t)(bits << spare) >> spare;
        return true;
    }
    default:
        return false;
    }
}

static bool float_at(uint32_t type, const unsigned char *at, double *value) {
    float narrow;
    if (type == SGM_GGUF_F64) {
        memcpy(value, at, sizeof *value);
    } else if (type == SGM_GGUF_F32) {
        memcpy(&narrow, at, sizeof narrow);
        *value = (double)narrow;
    } else {
        return false;
    }
    return true;
}

static void text_at(const unsigned char *at, const char **text, size_t *size) {
    uint64_t length;
    memcpy(&length, at, sizeof length);
    *text = (const char *)at + sizeof length;
    *size = (size_t)length;
}

bool sgm_gguf_get_int(const sgm_gguf *file, const char *key, int64_t *value) {
    const key_entry *found = key_find(file, key);
    return found && integer_at(found->type, found->value, value);
}

bool sgm_gguf_get_float(const sgm_gguf *file, const char *key, double *value) {
    const key_entry *found = key_find(file, key);
    return found && float_at(found->type, found->value, value);
}

bool sgm_gguf_get_bool(const sgm_gguf *file, const char *key, bool *value) {
    const key_entry *found = key_find(file, key);
    if (!found || found->type != SGM_GGUF_BOOL)
        return false;
    *value = *found->value != 0;
    return true;
}

bool sgm_gguf_get_text(const sgm_gguf *file, const char *key, const char **text, size_t *size) {
    const key_entry *found = key_find(file, key);
    if (!found || found->type != SGM_GGUF_TEXT)
        return false;
    text_at(found->value, text, size);
    return true;
}

bool sgm_gguf_array_length(const sgm_gguf *file, const char *key, int64_t *count) {
    const key_entry *found = key_find(file, key);
    if (!found || found->type != SGM_GGUF_ARRAY)
        return false;
    *count = (int64_t)found->count;
    return true;
}

/* Element `index` of an array: its first byte; NULL when there is none. */
static const unsigned char *element(const sgm_gguf *file, const char *key, int64_t index, uint32_t *type) {
    const key_entry *found = key_find(file, key);
    if (!found || found->type != SGM_GGUF_ARRAY || index < 0 || (uint64_t)index >= found->count)
        return NULL;
    *type = found->item;
    uint64_t at = found->text ? found->text[index] : (uint64_t)index * sgm_gguf_scalar_bytes(found->item);
    return found->value + at;
}

bool sgm_gguf_array_text(const sgm_gguf *file, const char *key, int64_t index, const char **text, size_t *size) {
    uint32_t type = 0;
    const unsigned char *at = element(file, key, index, &type);
    if (!at || type != SGM_GGUF_TEXT)
        return false;
    text_at(at, text, size);
    return true;
}

bool sgm_gguf_array_int(const sgm_gguf *file, const char *key, int64_t index, int64_t *value) {
    uint32_t type = 0;
    const unsigned char *at = element(file, key, index, &type);
    return at && integer_at(type, at, value);
}

bool sgm_gguf_array_float(const sgm_gguf *file, const char *key, int64_t index, double *value) {
    uint32_t type = 0;
    const unsigned char *at = element(file, key, index, &type);
    return at && float_at(type, at, value);
}
