// SPDX-License-Identifier: Apache-2.0
/* Checkpoints: RUN/checkpoints/step-NNNNNN, a model folder plus state/ (docs/formats.md).
 *
 * A checkpoint is written under a hidden name, every file fsynced, then renamed; after that `latest` moves to it. So a
 * crash or a full disk at any instant leaves the earlier ones as they were. state/checksums covers every file. Nothing in
 * it depends on the clock, the number of threads, the split into micro-batches or where the run lies. */
#ifndef SGM_TRAIN_CHECKPOINT_H
#define SGM_TRAIN_CHECKPOINT_H

#include "sigmoe/data.h"
#include "train/stepper.h"

enum { SGM_CHECKPOINT_VERSION = 2 }; /* 1, with unnamed balancer state, is read too */

/* Where notes go: "checkpoint step-000200 is damaged: …". */
typedef struct sgm_notes {
    void (*note)(void *context, const char *text);
    void *context;
} sgm_notes;
/* Takes `text`; NULL: there was no memory for a note. */
void sgm_note(const sgm_notes *notes, char *text);
sgm_status sgm_checkpoint_no_memory(sgm_error *error);

/* Save the stepper's and the loader's state, then remove all but the latest `keep` and the newest saved at a finite step.
 * Folders that are no finished checkpoints are left alone. On failure nothing but the attempt is lost; SGM_EARGUMENT:
 * RUN/checkpoints is a link. Where the checkpoint is saved but `latest` cannot be moved or an old one not be removed, that is
 * noted and no failure. `folder` (may be NULL) gets the heap path of the checkpoint. */
sgm_status sgm_checkpoint_save(const char *run, const sgm_stepper *stepper, const sgm_loader *loader,
                               const sgm_corpus *corpus, int64_t keep, const sgm_notes *notes, char **folder,
                               sgm_error *error);

/* The latest checkpoint of a run whose every file has its checksum, as a heap path; NULL: the run has none yet. Damaged
 * ones after it are noted and renamed `.damaged-…`, leftovers of crashes removed, `latest` repaired; folders that are no
 * finished checkpoints are left alone here too. SGM_EFORMAT: all are damaged, or there are only such folders; none is renamed
 * then. What cannot be read for another reason (permission, memory, a failing disk) is an error,
 * not damage. */
sgm_status sgm_checkpoint_latest(const char *run, const sgm_notes *notes, char **folder, sgm_error *error);
/* The step of the newest checkpoint that was not saved in a row of skipped steps, -1: there is none. */
int64_t sgm_checkpoint_last_finite(const char *run);
sgm_status sgm_checkpoint_verify(const char *folder, sgm_error *error);

/* Put a checkpoint back. A model or corpus other than this run's is SGM_EARGUMENT; settings that changed since are noted, and
 * so are balancers that are new (their state starts afresh) or gone. */
sgm_status sgm_checkpoint_load(const char *folder, sgm_stepper *stepper, sgm_loader *loader, const sgm_corpus *corpus,
                               const sgm_notes *notes, sgm_error *error);

#endif
