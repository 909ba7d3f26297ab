// SPDX-License-Identifier: Apache-2.0
/* Which weights `train.freeze` names. Patterns are parted by commas: a shell glob over a weight's name, and with @FIRST-LAST (or
 * @ROW) behind it only those rows, of a router's matrix the experts. */
#ifndef SGM_TRAIN_FREEZE_H
#define SGM_TRAIN_FREEZE_H

#include "model/transformer.h"

/* SGM_EARGUMENT: a pattern cannot be read, or fits no weight that has these rows; a misspelt one would silently do nothing. */
sgm_status sgm_freeze_check(const char *patterns, const sgm_model *model, sgm_error *error);
/* Is this row frozen? Rows up to *end are as it is. */
bool sgm_freeze_run(const char *patterns, const sgm_weight *weight, int64_t row, int64_t *end);

#endif
