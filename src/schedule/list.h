// SPDX-License-Identifier: Apache-2.0
/* Every learning-rate schedule, one line each: SGM_SCHEDULE(symbol of its sgm_schedule_plugin). */
SGM_SCHEDULE(sgm_schedule_wsd)
SGM_SCHEDULE(sgm_schedule_cosine)
SGM_SCHEDULE(sgm_schedule_constant)
