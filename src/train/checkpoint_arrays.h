// SPDX-License-Identifier: Apache-2.0
/* Arrays in a checkpoint's state/ (`folder`): safetensors files (docs/formats.md). */
#ifndef SGM_TRAIN_CHECKPOINT_ARRAYS_H
#define SGM_TRAIN_CHECKPOINT_ARRAYS_H

#include "format/safetensors.h"
#include "train/checkpoint.h"

/* `count` arrays NAME1, NAME2, … one behind the other in `data`. */
sgm_status sgm_checkpoint_arrays_write(const char *folder, const char *file, const char *name, int count,
                                       sgm_dtype dtype, int64_t elements, const void *data, sgm_error *error);
sgm_status sgm_checkpoint_arrays_read(const char *folder, const char *file, const char *name, int count,
                                      sgm_dtype dtype, int64_t elements, void *data, sgm_error *error);

/* balance.safetensors. Reading notes what is new and starts afresh, and what nobody has a use for any more. */
sgm_status sgm_checkpoint_balance_write(const char *folder, const sgm_balance_set *balance, sgm_error *error);
sgm_status sgm_checkpoint_balance_read(const char *folder, sgm_balance_set *balance, const sgm_notes *notes,
                                       sgm_error *error);

#endif
