// SPDX-License-Identifier: Apache-2.0
/* All of sigmoe. */
#ifndef SIGMOE_SIGMOE_H
#define SIGMOE_SIGMOE_H

#include "sigmoe/bench.h"
#include "sigmoe/config.h"
#include "sigmoe/convert.h"
#include "sigmoe/data.h"
#include "sigmoe/error.h"
#include "sigmoe/experts.h"
#include "sigmoe/lab.h"
#include "sigmoe/machine.h"
#include "sigmoe/model.h"
#include "sigmoe/placement.h"
#include "sigmoe/registry.h"
#include "sigmoe/replay.h"
#include "sigmoe/session.h"
#include "sigmoe/stats.h"
#include "sigmoe/text.h"
#include "sigmoe/trace.h"
#include "sigmoe/train.h"

#endif
