// SPDX-License-Identifier: Apache-2.0
/* The numbers in a checkpoint's state/: the optimizer's moments, and the balancers' state by name. */
#include "train/checkpoint_arrays.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

sgm_status sgm_checkpoint_arrays_write(const char *folder, const char *file, const char *name, int count,
                                       sgm_dtype dtype, int64_t elements, const void *data, sgm_error *error) {
    char *path = sgm_path_join(folder, file);
    sgm_safetensors_writer *writer = NULL;
    sgm_status status = path ? sgm_safetensors_writer_new(path, &writer, error) : sgm_checkpoint_no_memory(error);
    for (int i = 0; i < count && !status; i++) {
        char tensor[32];
        snprintf(tensor, sizeof tensor, "%s%d", name, i + 1);
        status = sgm_safetensors_writer_declare(writer, tensor, dtype, 1, &elements, error);
    }
    if (!status)
        status =
            sgm_safetensors_writer_add(writer, data, (size_t)elements * (size_t)count * sgm_dtype_bytes(dtype), error);
    if (!status)
        status = sgm_safetensors_writer_commit(writer, error);
    else if (writer)
        sgm_safetensors_writer_abandon(writer);
    sgm_free(path);
    return status;
}

sgm_status sgm_checkpoint_arrays_read(const char *folder, const char *file, const char *name, int count,
                                      sgm_dtype dtype, int64_t elements, void *data, sgm_error *error) {
    char *path = sgm_path_join(folder, file);
    sgm_safetensors *tensors = NULL;
    sgm_status status = path ? sgm_safetensors_open(path, &tensors, error) : sgm_checkpoint_no_memory(error);
    size_t bytes = (size_t)elements * sgm_dtype_bytes(dtype);
    for (int i = 0; i < count && !status; i++) {
        char tensor[32];
        snprintf(tensor, sizeof tensor, "%s%d", name, i + 1);
        const sgm_tensor_entry *entry = sgm_safetensors_find(tensors, tensor);
        if (!entry || entry->dtype != dtype || entry->bytes != bytes)
            status = sgm_fail(error, SGM_EFORMAT, "was it made by another model or other settings?",
                              "%s: %s is missing or not %" PRId64 " values", path, tensor, elements);
        else
            status = sgm_safetensors_read(tensors, entry, (char *)data + (size_t)i * bytes, error);
    }
    sgm_safetensors_close(tensors);
    sgm_free(path);
    return status;
}

/* ---- the balancers' state ---------------------------------------------------------------------------------------- */

static const char balance_name[] = "balance.safetensors";
static const char balance_flat[] = "state1"; /* version 1: all parts one behind the other, without names */

static sgm_status write_parts(sgm_safetensors_writer *writer, const sgm_balance_set *balance, const double *values,
                              int64_t count, sgm_error *error) {
    sgm_status status = SGM_OK;
    sgm_balance_part part;
    for (size_t i = 0; !status && sgm_balance_set_part(balance, i, &part); i++)
        status = sgm_safetensors_writer_declare(writer, part.name, SGM_F64, 1, &part.count, error);
    return status ? status : sgm_safetensors_writer_add(writer, values, (size_t)count * sizeof *values, error);
}

sgm_status sgm_checkpoint_balance_write(const char *folder, const sgm_balance_set *balance, sgm_error *error) {
    int64_t count = sgm_balance_set_state_count(balance);
    if (count == 0)
        return SGM_OK;
    char *path = sgm_path_join(folder, balance_name);
    double *values = sgm_alloc((size_t)count * sizeof *values);
    sgm_safetensors_writer *writer = NULL;
    sgm_status status =
        path && values ? sgm_safetensors_writer_new(path, &writer, error) : sgm_checkpoint_no_memory(error);
    if (!status) {
        sgm_balance_set_state_get(balance, values);
        status = write_parts(writer, balance, values, count, error);
        if (status)
            sgm_safetensors_writer_abandon(writer);
        else
            status = sgm_safetensors_writer_commit(writer, error);
    }
    sgm_free(values);
    sgm_free(path);
    return status;
}

static const sgm_tensor_entry *find_part(const sgm_safetensors *file, const sgm_balance_part *part) {
    const sgm_tensor_entry *entry = file ? sgm_safetensors_find(file, part->name) : NULL;
    bool fits = entry && entry->dtype == SGM_F64 && entry->bytes == (size_t)part->count * sizeof(double);
    return fits ? entry : NULL;
}

/* Parts that were not saved, or not as they are now, keep their first values; lagged ones only all together. */
static sgm_status read_parts(const sgm_safetensors *file, const sgm_balance_set *balance, double *values,
                             const sgm_notes *notes, sgm_error *error) {
    sgm_status status = SGM_OK;
    sgm_balance_part part;
    bool lagged = true;
    for (size_t i = 0; sgm_balance_set_part(balance, i, &part); i++)
        lagged = lagged && (part.kind != SGM_PART_LAGGED || find_part(file, &part));
    for (size_t i = 0; !status && sgm_balance_set_part(balance, i, &part); i++) {
        const sgm_tensor_entry *entry = part.kind != SGM_PART_LAGGED || lagged ? find_part(file, &part) : NULL;
        if (entry)
            status = sgm_safetensors_read(file, entry, values + part.first, error);
        else
            sgm_note(notes, sgm_format("balance: the checkpoint has no %s that fits; it starts afresh", part.name));
    }
    return status;
}

static void tell_unused_parts(const sgm_safetensors *file, const sgm_balance_set *balance, const sgm_notes *notes) {
    for (size_t t = 0; file && t < sgm_safetensors_count(file); t++) {
        const char *name = sgm_safetensors_at(file, t)->name;
        sgm_balance_part part;
        bool used = strcmp(name, balance_flat) == 0;
        for (size_t i = 0; !used && sgm_balance_set_part(balance, i, &part); i++)
            used = strcmp(name, part.name) == 0;
        if (!used)
            sgm_note(notes, sgm_format("balance: the checkpoint's %s is not used any more", name));
    }
}

/* Without tallies, which come last and which version 1 did not know. The hint holds because a save writes the parts by
 * name. */
static sgm_status read_flat(const char *path, const sgm_safetensors *file, const sgm_tensor_entry *entry,
                            const sgm_balance_set *balance, double *values, sgm_error *error) {
    int64_t count = 0;
    sgm_balance_part part;
    for (size_t i = 0; sgm_balance_set_part(balance, i, &part); i++)
        count += part.kind == SGM_PART_TALLY ? 0 : part.count;
    if (entry->dtype != SGM_F64 || entry->bytes != (size_t)count * sizeof *values)
        return sgm_fail(error, SGM_EFORMAT, "put back the balancers it was made with, train a step, then change them",
                        "%s, by an older sigmoe, holds the state of other balancers", path);
    return sgm_safetensors_read(file, entry, values, error);
}

sgm_status sgm_checkpoint_balance_read(const char *folder, sgm_balance_set *balance, const sgm_notes *notes,
                                       sgm_error *error) {
    int64_t count = sgm_balance_set_state_count(balance);
    char *path = sgm_path_join(folder, balance_name);
    double *values = sgm_alloc((size_t)count * sizeof *values + 1);
    sgm_safetensors *file = NULL;
    sgm_status status = path && values ? SGM_OK : sgm_checkpoint_no_memory(error);
    if (!status && sgm_path_exists(path)) /* absent where no balancer had a state */
        status = sgm_safetensors_open(path, &file, error);
    if (!status) {
        const sgm_tensor_entry *flat = file ? sgm_safetensors_find(file, balance_flat) : NULL;
        sgm_balance_set_state_get(balance, values); /* their first values */
        if (flat && count > 0)
            status = read_flat(path, file, flat, balance, values, error);
        else
            status = read_parts(file, balance, values, notes, error);
        tell_unused_parts(file, balance, notes);
    }
    if (!status)
        status = sgm_balance_set_state_put(balance, values, count, error);
    sgm_safetensors_close(file);
    sgm_free(values);
    sgm_free(path);
    return status;
}
