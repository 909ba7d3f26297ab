// SPDX-License-Identifier: Apache-2.0
/* state/state.json of a checkpoint: position, data, and the settings that decide what comes next. */
#ifndef SGM_TRAIN_CHECKPOINT_STATE_H
#define SGM_TRAIN_CHECKPOINT_STATE_H

#include "train/checkpoint.h"

sgm_status sgm_checkpoint_state_write(const char *folder, const sgm_stepper *stepper, const sgm_loader *loader,
                                      uint64_t corpus_hash, sgm_error *error);
sgm_status sgm_checkpoint_state_read(const char *folder, sgm_stepper *stepper, sgm_loader *loader, uint64_t corpus_hash,
                                     const sgm_notes *notes, sgm_error *error);
/* Whether the step it was saved at was finite. A file that says nothing of it (damaged, of another make) is not: *finite is
 * false and the status SGM_OK; SGM_EMEMORY, SGM_EIO, SGM_EPERMISSION: it could not be read. */
sgm_status sgm_checkpoint_state_is_finite(const char *folder, bool *finite, sgm_error *error);

#endif
