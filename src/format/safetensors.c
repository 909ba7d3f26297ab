// SPDX-License-Identifier: Apache-2.0
/* Reading safetensors (the format of github.com/huggingface/safetensors, README "Format").
 *
 * A file is: header length (8 bytes, little-endian), a JSON object name → {dtype, shape, data_offsets}, then the tensors'
 * bytes. Invariants held after opening: every tensor lies inside the file, tensors neither overlap nor leave gaps, each
 * one's size is what its shape and type say, and no name occurs twice, not even across shards. Tensor data are little-endian
 * and are used in place, so the host must be too. */
#include "format/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "base/json.h"
#include "base/memory.h"
#include "format/safetensors_internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor data are mapped in place and are little-endian"
#endif

#define HEADER_LIMIT ((uint64_t)100000000) /* bytes; the limit of the format's own reader */
#define INDEX_LIMIT ((size_t)100000000)

/* One file of the set. */
typedef struct part {
    char *label; /* its path, for messages */
    sgm_mapping mapping;
    bool mapped;
    sgm_reader *reader;  /* for what must not be read through the mapping; NULL: parsed from memory */
    uint64_t tensors_at; /* in the file */
    const unsigned char *tensors;
    size_t tensor_bytes;
    json_t *metadata; /* "__metadata__": an object of texts, or NULL */
} part;

struct sgm_safetensors {
    part *parts;
    size_t part_count;
    sgm_tensor_entry *entries;
    size_t *entry_part; /* which file an entry is from */
    size_t count, capacity;
    int32_t *table; /* open addressing by name: entry index + 1, 0 = free */
    size_t table_size;
};

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [SGM_F32] = {"F32", 4}, [SGM_F16] = {"F16", 2}, [SGM_BF16] = {"BF16", 2}, [SGM_F64] = {"F64", 8},
    [SGM_I64] = {"I64", 8}, [SGM_I32] = {"I32", 4}, [SGM_U8] = {"U8", 1},
};

size_t sgm_dtype_bytes(sgm_dtype dtype) {
    return dtypes[dtype].bytes;
}

const char *sgm_dtype_name(sgm_dtype dtype) {
    return dtypes[dtype].name;
}

static const char damaged_hint[] = "the file is damaged or incomplete: copy or write it again";

bool sgm_shape_bytes(sgm_dtype dtype, int dimensions, const int64_t *shape, uint64_t *bytes) {
    uint64_t total = sgm_dtype_bytes(dtype);
    for (int i = 0; i < dimensions; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(total, (uint64_t)shape[i], &total))
            return false;
    *bytes = total;
    return total <= INT64_MAX;
}

static sgm_status out_of_memory(sgm_error *error, const char *label) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to read the header of %s", label);
}

static sgm_status entry_read(const part *from, const char *name, const json_t *value, sgm_tensor_entry *entry,
                             sgm_error *error) {
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!dtype || !json_is_array(shape) || json_array_size(offsets) != 2 || json_object_size(value) != 3)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint,
                        "%s: tensor '%.200s' must have dtype, shape and two data_offsets", from->label, name);
    size_t type = 0, types = sizeof dtypes / sizeof *dtypes;
    while (type < types && strcmp(dtypes[type].name, dtype) != 0)
        type++;
    if (type == types)
        return sgm_fail(error, SGM_EUNSUPPORTED, "known types: F32, F16, BF16, F64, I64, I32, U8",
                        "%s: tensor '%.200s' has the unknown type '%.20s'", from->label, name, dtype);
    size_t dimensions = json_array_size(shape);
    if (dimensions > sizeof entry->shape / sizeof *entry->shape)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "%s: tensor '%.200s' has %zu dimensions, at most 8 are possible",
                        from->label, name, dimensions);
    entry->dtype = (sgm_dtype)type;
    entry->dimensions = (int)dimensions;
    for (size_t i = 0; i < dimensions; i++) {
        const json_t *n = json_array_get(shape, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0)
            return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: the shape of tensor '%.200s' is not whole numbers",
                            from->label, name);
        entry->shape[i] = json_integer_value(n);
    }
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (!json_is_integer(first) || !json_is_integer(last) || begin < 0 || end < begin ||
        (uint64_t)end > from->tensor_bytes)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint,
                        "%s: tensor '%.200s' lies at bytes %lld to %lld of %zu: outside the file", from->label, name,
                        (long long)begin, (long long)end, from->tensor_bytes);
    uint64_t bytes;
    if (!sgm_shape_bytes(entry->dtype, entry->dimensions, entry->shape, &bytes) || bytes != (uint64_t)(end - begin))
        return sgm_fail(error, SGM_EFORMAT, damaged_hint,
                        "%s: tensor '%.200s' takes %lld bytes, its shape and type say otherwise", from->label, name,
                        (long long)(end - begin));
    entry->data = from->tensors + begin;
    entry->bytes = (size_t)bytes;
    entry->name = sgm_strdup(name);
    return entry->name ? SGM_OK : out_of_memory(error, from->label);
}

static int by_place(const void *a, const void *b) {
    const sgm_tensor_entry *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->bytes != y->bytes) /* an empty tensor stands before the one that begins where it ends */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static sgm_status metadata_take(part *into, json_t *metadata, sgm_error *error) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: __metadata__ is not an object", into->label);
    json_object_foreach(metadata, key, value) if (!json_is_string(value)) return sgm_fail(
        error, SGM_EFORMAT, damaged_hint, "%s: metadata '%.100s' is not a text", into->label, key);
    into->metadata = json_incref(metadata);
    return SGM_OK;
}

/* Room for `extra` more entries. */
static sgm_status entries_reserve(sgm_safetensors *file, size_t extra, const char *label, sgm_error *error) {
    size_t capacity = file->count + extra;
    if (capacity > INT32_MAX / 4)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "%s has too many tensors", label);
    sgm_tensor_entry *entries =
        sgm_resize(file->entries, file->count * sizeof *entries, (capacity + 1) * sizeof *entries);
    if (!entries)
        return out_of_memory(error, label);
    file->entries = entries;
    size_t *parts = sgm_resize(file->entry_part, file->count * sizeof *parts, (capacity + 1) * sizeof *parts);
    if (!parts)
        return out_of_memory(error, label);
    file->entry_part = parts;
    file->capacity = capacity;
    return SGM_OK;
}

static sgm_status header_read(sgm_safetensors *file, size_t index, json_t *header, sgm_error *error) {
    part *from = &file->parts[index];
    sgm_status status = entries_reserve(file, json_object_size(header), from->label, error);
    size_t first = file->count;
    const char *name;
    json_t *value;
    if (status)
        return status;
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") == 0)
            status = metadata_take(from, value, error);
        else if (!(status = entry_read(from, name, value, &file->entries[file->count], error)))
            file->entry_part[file->count++] = index;
        if (status)
            return status;
    }
    qsort(file->entries + first, file->count - first, sizeof *file->entries, by_place);
    const unsigned char *end = from->tensors;
    for (size_t i = first; i < file->count; i++) {
        const sgm_tensor_entry *entry = &file->entries[i];
        if (entry->data != end)
            return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: tensor '%.200s' %s", from->label, entry->name,
                            (const unsigned char *)entry->data < end ? "overlaps another one"
                                                                     : "has unused bytes before it");
        end += entry->bytes;
    }
    if (end != from->tensors + from->tensor_bytes)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: %zu bytes follow the last tensor", from->label,
                        (size_t)(from->tensors + from->tensor_bytes - end));
    return SGM_OK;
}

/* From the first 8 bytes of a file of `size`. */
static sgm_status header_length(const part *from, const unsigned char *bytes, uint64_t size, uint64_t *length,
                                sgm_error *error) {
    *length = 0;
    for (int i = 0; i < 8; i++)
        *length |= (uint64_t)bytes[i] << (8 * i);
    if (*length > HEADER_LIMIT)
        return sgm_fail(error, SGM_EFORMAT, "is this a safetensors file?",
                        "%s: the header's length is given as %llu bytes, above the format's limit of 100 MB",
                        from->label, (unsigned long long)*length);
    if (*length > size - 8)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s is truncated: its header has %llu bytes, the file %llu",
                        from->label, (unsigned long long)*length, (unsigned long long)size);
    return SGM_OK;
}

static sgm_status too_short(const part *from, uint64_t size, sgm_error *error) {
    return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s has %llu bytes: too short for a safetensors file",
                    from->label, (unsigned long long)size);
}

/* Read one file's header into the set; the part's `tensors` and `tensor_bytes` are there already. */
static sgm_status part_read(sgm_safetensors *file, size_t index, const char *text, size_t length, sgm_error *error) {
    const part *from = &file->parts[index];
    char name[sizeof error->message];
    json_t *header;
    snprintf(name, sizeof name, "the header of %s", from->label);
    sgm_status status = sgm_json_read(text, length, JSON_REJECT_DUPLICATES, name, damaged_hint, &header, error);
    if (!status)
        status = json_is_object(header)
                     ? header_read(file, index, header, error)
                     : sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: the header is not an object", from->label);
    json_decref(header);
    return status;
}

/* Build the table of names; a name that occurs twice is an error. */
static sgm_status table_build(sgm_safetensors *file, sgm_error *error) {
    file->table_size = 16;
    while (file->table_size < file->count * 2)
        file->table_size *= 2;
    file->table = sgm_alloc(file->table_size * sizeof *file->table);
    if (!file->table)
        return out_of_memory(error, file->parts[0].label);
    for (size_t i = 0; i < file->count; i++) {
        const char *name = file->entries[i].name;
        size_t at = (size_t)sgm_checksum(name, strlen(name)) & (file->table_size - 1);
        while (file->table[at]) {
            if (strcmp(file->entries[file->table[at] - 1].name, name) == 0)
                return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: tensor '%.200s' occurs twice",
                                file->parts[file->entry_part[i]].label, name);
            at = (at + 1) & (file->table_size - 1);
        }
        file->table[at] = (int32_t)i + 1;
    }
    return SGM_OK;
}

static sgm_status set_new(size_t parts, sgm_safetensors **file, sgm_error *error) {
    sgm_safetensors *set = sgm_alloc(sizeof *set);
    if (!set || !(set->parts = sgm_alloc(parts * sizeof *set->parts))) {
        sgm_free(set);
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to open a safetensors file");
    }
    set->part_count = parts;
    *file = set;
    return SGM_OK;
}

static sgm_status part_parse(sgm_safetensors *set, const unsigned char *bytes, size_t size, sgm_error *error) {
    part *into = &set->parts[0];
    uint64_t length = 0;
    sgm_status status = size < 8 ? too_short(into, size, error) : header_length(into, bytes, size, &length, error);
    if (status)
        return status;
    into->tensors = bytes + 8 + length;
    into->tensor_bytes = size - 8 - (size_t)length;
    return part_read(set, 0, (const char *)bytes + 8, (size_t)length, error);
}

sgm_status sgm_safetensors_parse(const unsigned char *bytes, size_t size, sgm_safetensors **file, sgm_error *error) {
    sgm_safetensors *set = NULL;
    *file = NULL;
    sgm_status status = set_new(1, &set, error);
    if (status)
        return status;
    set->parts[0].label = sgm_strdup("safetensors data");
    status = set->parts[0].label ? part_parse(set, bytes, size, error) : out_of_memory(error, "a file");
    if (!status)
        status = table_build(set, error);
    if (status)
        sgm_safetensors_close(set);
    else
        *file = set;
    return status;
}

/* The header is read, not mapped; the mapping is for those who use tensors in place. */
static sgm_status part_map(sgm_safetensors *set, size_t index, sgm_error *error) {
    part *into = &set->parts[index];
    uint64_t size = sgm_reader_size(into->reader), length = 0;
    unsigned char begin[8];
    sgm_status status =
        size < 8 ? too_short(into, size, error) : sgm_reader_at(into->reader, 0, begin, sizeof begin, error);
    if (!status)
        status = header_length(into, begin, size, &length, error);
    if (!status)
        status = sgm_map_open(into->label, &into->mapping, error);
    if (status)
        return status;
    into->mapped = true;
    if (into->mapping.size != size)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s changed while it was being opened", into->label);
    into->tensors_at = 8 + length;
    into->tensors = into->mapping.data + into->tensors_at;
    into->tensor_bytes = (size_t)(size - into->tensors_at);
    char *text = sgm_alloc((size_t)length + 1);
    status = text ? sgm_reader_at(into->reader, 8, text, (size_t)length, error) : out_of_memory(error, into->label);
    if (!status)
        status = part_read(set, index, text, (size_t)length, error);
    sgm_free(text);
    return status;
}

/* Open and read file `index` of the set; takes `path`. */
static sgm_status part_open(sgm_safetensors *set, size_t index, char *path, sgm_error *error) {
    part *into = &set->parts[index];
    into->label = path;
    if (!path)
        return out_of_memory(error, "a file");
    sgm_status status = sgm_reader_open(path, &into->reader, error);
    return status ? status : part_map(set, index, error);
}

/* Every tensor must be in the shard the index names, and the index must name every tensor. */
static sgm_status index_check(const sgm_safetensors *set, const char *index_path, const json_t *map,
                              json_t *const *shards, sgm_error *error) {
    const char *name;
    json_t *shard;
    json_object_foreach((json_t *)map, name, shard) {
        const sgm_tensor_entry *entry = sgm_safetensors_find(set, name);
        if (!entry || !json_equal(shards[set->entry_part[entry - set->entries]], shard))
            return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: tensor '%.200s' is not in %.100s", index_path, name,
                            json_string_value(shard));
    }
    if (json_object_size(map) != set->count)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s names %zu tensors, the shards hold %zu", index_path,
                        json_object_size(map), set->count);
    return SGM_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

/* The distinct shard names of an index, sorted; `shards` has room for every tensor. A shard lies beside its index: a name
 * with a path in it is refused. */
static sgm_status shard_names(const char *index_path, const json_t *map, json_t **shards, size_t *count,
                              sgm_error *error) {
    const char *name;
    json_t *shard;
    size_t n = 0;
    json_object_foreach((json_t *)map, name, shard) {
        const char *text = json_string_value(shard);
        if (!text || !*text || strchr(text, '/') || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
            return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s: tensor '%.200s' has no shard's file name",
                            index_path, name);
        shards[n++] = shard;
    }
    qsort(shards, n, sizeof *shards, by_text);
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_text(&shards[i], &shards[*count - 1]) != 0)
            shards[(*count)++] = shards[i];
    return SGM_OK;
}

static sgm_status sharded_open(const char *folder, const char *index_path, const json_t *map, sgm_safetensors **file,
                               sgm_error *error) {
    size_t count = 0;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return sgm_fail(error, SGM_EFORMAT, damaged_hint, "%s has no weight_map", index_path);
    json_t **shards = sgm_alloc(json_object_size(map) * sizeof *shards);
    sgm_safetensors *set = NULL;
    sgm_status status = shards ? shard_names(index_path, map, shards, &count, error) : out_of_memory(error, index_path);
    if (!status)
        status = set_new(count, &set, error);
    for (size_t i = 0; !status && i < count; i++)
        status = part_open(set, i, sgm_path_join(folder, json_string_value(shards[i])), error);
    if (!status)
        status = table_build(set, error);
    if (!status)
        status = index_check(set, index_path, map, shards, error);
    sgm_free(shards);
    if (status)
        sgm_safetensors_close(set);
    else
        *file = set;
    return status;
}

static sgm_status single_open(char *path, sgm_safetensors **file, sgm_error *error) {
    sgm_safetensors *set = NULL;
    sgm_status status = set_new(1, &set, error);
    if (status) {
        sgm_free(path);
        return status;
    }
    status = part_open(set, 0, path, error);
    if (!status)
        status = table_build(set, error);
    if (status)
        sgm_safetensors_close(set);
    else
        *file = set;
    return status;
}

static sgm_status index_open(const char *folder, const char *index_path, sgm_safetensors **file, sgm_error *error) {
    char *text = NULL;
    size_t size = 0;
    sgm_status status = sgm_file_read(index_path, INDEX_LIMIT, &text, &size, error);
    if (status)
        return status;
    json_t *index;
    status = sgm_json_read(text, size, JSON_REJECT_DUPLICATES, index_path, damaged_hint, &index, error);
    sgm_free(text);
    if (!status)
        status = sharded_open(folder, index_path, json_object_get(index, "weight_map"), file, error);
    json_decref(index);
    return status;
}

sgm_status sgm_safetensors_open(const char *path, sgm_safetensors **file, sgm_error *error) {
    *file = NULL;
    if (!sgm_path_is_folder(path))
        return single_open(sgm_strdup(path), file, error);
    char *single = sgm_path_join(path, "model.safetensors"),
         *index = sgm_path_join(path, "model.safetensors.index.json");
    sgm_status status;
    if (!single || !index)
        status = out_of_memory(error, path);
    else if (sgm_path_exists(single)) {
        status = single_open(single, file, error);
        single = NULL;
    } else if (sgm_path_exists(index))
        status = index_open(path, index, file, error);
    else
        status = sgm_fail(error, SGM_ENOTFOUND, "weights are read from safetensors files only",
                          "%s holds neither model.safetensors nor model.safetensors.index.json", path);
    sgm_free(single);
    sgm_free(index);
    return status;
}

void sgm_safetensors_close(sgm_safetensors *file) {
    if (!file)
        return;
    for (size_t i = 0; i < file->count; i++)
        sgm_free((void *)(uintptr_t)file->entries[i].name);
    for (size_t i = 0; i < file->part_count; i++) {
        if (file->parts[i].mapped)
            sgm_map_close(&file->parts[i].mapping);
        sgm_reader_close(file->parts[i].reader);
        json_decref(file->parts[i].metadata);
        sgm_free(file->parts[i].label);
    }
    sgm_free(file->parts);
    sgm_free(file->entries);
    sgm_free(file->entry_part);
    sgm_free(file->table);
    sgm_free(file);
}

size_t sgm_safetensors_count(const sgm_safetensors *file) {
    return file->count;
}

const sgm_tensor_entry *sgm_safetensors_at(const sgm_safetensors *file, size_t index) {
    return index < file->count ? &file->entries[index] : NULL;
}

const sgm_tensor_entry *sgm_safetensors_find(const sgm_safetensors *file, const char *name) {
    size_t at = (size_t)sgm_checksum(name, strlen(name)) & (file->table_size - 1);
    for (; file->table[at]; at = (at + 1) & (file->table_size - 1))
        if (strcmp(file->entries[file->table[at] - 1].name, name) == 0)
            return &file->entries[file->table[at] - 1];
    return NULL;
}

const char *sgm_safetensors_metadata(const sgm_safetensors *file, const char *key) {
    const char *value = NULL;
    for (size_t i = 0; !value && i < file->part_count; i++)
        value = json_string_value(json_object_get(file->parts[i].metadata, key));
    return value;
}

void sgm_tensor_entry_to_f32(const sgm_tensor_entry *entry, float *out) {
    const unsigned char *from = entry->data;
    size_t n = entry->bytes / sgm_dtype_bytes(entry->dtype);
    /* The data need not be aligned: the header's length is the writer's choice. */
#define CONVERT(type, expression)                                                                                      \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        type x;                                                                                                        \
        memcpy(&x, from + i * sizeof x, sizeof x);                                                                     \
        out[i] = (expression);                                                                                         \
    }                                                                                                                  \
    break
    switch (entry->dtype) {
    case SGM_F32:
        if (n)
            memcpy(out, from, n * sizeof *out);
        break;
    case SGM_BF16:
        for (size_t i = 0; i < n; i++) {
            uint32_t wide = (uint32_t)from[2 * i] << 16 | (uint32_t)from[2 * i + 1] << 24;
            memcpy(&out[i], &wide, sizeof wide);
        }
        break;
    case SGM_F16:
        CONVERT(uint16_t, sgm_f16_widen(x));
    case SGM_F64:
        CONVERT(double, (float)x);
    case SGM_I64:
        CONVERT(int64_t, (float)x);
    case SGM_I32:
        CONVERT(int32_t, (float)x);
    case SGM_U8:
        CONVERT(uint8_t, (float)x);
    }
#undef CONVERT
}

/* Bytes [first, first + size) of a tensor. */
static sgm_status read_bytes(const sgm_safetensors *file, const sgm_tensor_entry *entry, size_t first, void *out,
                             size_t size, sgm_error *error) {
    const part *from = &file->parts[file->entry_part[entry - file->entries]];
    const unsigned char *at = (const unsigned char *)entry->data + first;
    if (from->reader)
        return sgm_reader_at(from->reader, from->tensors_at + (uint64_t)(at - from->tensors), out, size, error);
    if (size)
        memcpy(out, at, size);
    return SGM_OK;
}

sgm_status sgm_safetensors_read(const sgm_safetensors *file, const sgm_tensor_entry *entry, void *out,
                                sgm_error *error) {
    return read_bytes(file, entry, 0, out, entry->bytes, error);
}

sgm_status sgm_safetensors_read_f32(const sgm_safetensors *file, const sgm_tensor_entry *entry, float *out,
                                    sgm_error *error) {
    if (entry->dtype == SGM_F32)
        return sgm_safetensors_read(file, entry, out, error);
    enum { BLOCK = 1 << 18 };
    size_t element = sgm_dtype_bytes(entry->dtype);
    char *block = sgm_alloc(entry->bytes < BLOCK ? entry->bytes + 1 : BLOCK);
    sgm_status status = block ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read '%s'", entry->name);
    for (size_t first = 0, size; !status && first < entry->bytes; first += size) {
        size = entry->bytes - first < BLOCK ? entry->bytes - first : BLOCK;
        status = read_bytes(file, entry, first, block, size, error);
        const sgm_tensor_entry piece = {.dtype = entry->dtype, .data = block, .bytes = size};
        if (!status)
            sgm_tensor_entry_to_f32(&piece, out + first / element);
    }
    sgm_free(block);
    return status;
}

static sgm_status part_checksum(const part *from, uint64_t *checksum, sgm_error *error) {
    *checksum = 0;
    if (from->reader) {
        uint64_t counted; /* fewer bytes have another checksum */
        return sgm_reader_checksum(from->reader, from->tensors_at, from->tensor_bytes, checksum, &counted, error);
    }
    *checksum = sgm_checksum(from->tensors, from->tensor_bytes);
    return SGM_OK;
}

sgm_status sgm_safetensors_verify(const sgm_safetensors *file, sgm_error *error) {
    for (size_t i = 0; i < file->part_count; i++) {
        const part *from = &file->parts[i];
        const char *stated = json_string_value(json_object_get(from->metadata, "checksum"));
        if (!stated)
            continue;
        uint64_t checksum;
        char found[SGM_CHECKSUM_TEXT + 1];
        sgm_status status = part_checksum(from, &checksum, error);
        if (status)
            return status;
        sgm_checksum_print(checksum, found);
        if (strcmp(found, stated) != 0)
            return sgm_fail(error, SGM_EFORMAT, damaged_hint,
                            "%s: the tensors' checksum is %s, the file says %.40s: its bytes have changed", from->label,
                            found, stated);
    }
    return SGM_OK;
}
