// SPDX-License-Identifier: Apache-2.0
/* The arms of one seed take turns of a few steps, so that a slow minute of the machine is shared by all of them. Results do
 * not depend on whose turn it is: arms share nothing but the data. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "lab/lab.h"

enum { TURN_STEPS = 4 };

typedef struct seat {
    sgm_lab *lab;
    size_t index; /* of the arm in the experiment */
    char *run;
    sgm_trainer *trainer;
    sgm_lab_row row;
} seat;

typedef struct table {
    sgm_lab *lab;
    int64_t seed;
    seat *seats;
    sgm_lab_row *rows; /* copies, for events */
    size_t count;
    int64_t done_before; /* runs of seeds before this one */
    sgm_error *failed;
} table;

/* ---- events of one run ---------------------------------------------------------------------------------------- */

static void on_step(void *context, const sgm_step_report *report) {
    seat *s = context;
    double violation = 0, dead = 0;
    for (int64_t l = 0; l < report->layers; l++) {
        int64_t experts = sgm_routed_experts(report->experts, report->attention_experts, l);
        const int64_t *load = report->load + l * sgm_routed_stride(report->experts, report->attention_experts);
        int64_t most = 0, sum = 0, none = 0;
        for (int64_t e = 0; e < experts; e++) {
            most = load[e] > most ? load[e] : most;
            sum += load[e];
        }
        for (int64_t e = 0; e < experts; e++)
            none += 100 * load[e] * experts < sum;
        violation += sum ? (double)(most * experts) / (double)sum - 1 : 0;
        dead += (double)none;
    }
    sgm_lab_row *row = &s->row;
    double loss = report->loss_nats_per_token;
    row->step = report->step;
    row->loss_nats_per_token =
        isfinite(row->loss_nats_per_token) ? 0.95 * row->loss_nats_per_token + 0.05 * loss : loss;
    row->max_violation = violation / (double)report->layers;
    row->dead_experts = dead / (double)report->layers;
    row->seconds += report->seconds;
    row->tokens_per_second = report->tokens_per_second;
}

static void on_eval(void *context, const sgm_eval_report *report) {
    seat *s = context;
    s->row.bits_per_byte = report->bits_per_byte;
    if (s->lab->events.eval)
        s->lab->events.eval(s->lab->events.context, &s->row);
}

static void on_note(void *context, const char *text) {
    const seat *s = context;
    sgm_lab_note(s->lab, "%s, seed %" PRId64 ": %s", s->row.arm, s->row.seed, text);
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

static void tell(const table *t) {
    const sgm_lab_events *events = &t->lab->events;
    int64_t steps = t->lab->plan.steps, all = (int64_t)t->count * t->lab->plan.seeds * steps;
    int64_t done = t->done_before * steps;
    for (size_t i = 0; i < t->count; i++) {
        t->rows[i] = t->seats[i].row;
        done += t->seats[i].row.step;
    }
    if (events->turn)
        events->turn(events->context, t->rows, t->count, all ? (double)done / (double)all : 1);
}

/* The run in its folder: a new one, or where it was. */
static sgm_status sit_down(table *t, seat *s, sgm_error *error) {
    sgm_lab *lab = t->lab;
    const char *data[] = {lab->data};
    sgm_trainer_events events = {.context = s, .step = on_step, .eval = on_eval, .note = on_note};
    sgm_config *config = NULL;
    sgm_status status;
    if (sgm_path_exists(s->run)) {
        status = sgm_trainer_resume(s->run, 0, (int)lab->options->threads, &events, &s->trainer, error);
    } else {
        status = sgm_lab_config(lab, s->index, t->seed, lab->plan.steps, &config, error);
        if (!status)
            status = sgm_trainer_start(config, data, 1, s->run, &events, lab->stop, &s->trainer, error);
    }
    sgm_config_free(config);
    if (status)
        return status;
    s->row.state = SGM_LAB_TRAINS;
    s->row.step = s->trainer->stepper->step;
    return SGM_OK;
}

static void stand_up(seat *s) {
    sgm_trainer_close(s->trainer);
    s->trainer = NULL;
}

static sgm_status drop_checkpoints(const seat *s, sgm_error *error) {
    char *folder = sgm_path_join(s->run, "checkpoints");
    sgm_status status =
        folder ? sgm_folder_remove(folder, error) : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a path");
    sgm_free(folder);
    return status;
}

/* A failed arm leaves the table; the others go on. */
static void fail(table *t, seat *s, const sgm_error *error) {
    s->row.state = SGM_LAB_FAILED;
    sgm_lab_note(t->lab, "%s, seed %" PRId64 " failed: %s", s->row.arm, t->seed, error->message);
    if (t->failed->code == SGM_OK)
        sgm_fail(t->failed, error->code, error->hint, "%s, seed %" PRId64 ": %s", s->row.arm, t->seed, error->message);
}

/* What an arm is told that diverges. A run alone may be gone on with; an arm that was tried more often than others could not
 * be compared with them. */
static void diverged(const seat *s, int64_t steps, int64_t step, sgm_error *error) {
    char hint[sizeof error->hint];
    snprintf(hint, sizeof hint,
             "take the other arms with --arms; or change what this one sets (a lower optimizer.learning_rate or "
             "train.clip), "
             "remove %.160s and run the lab again",
             s->run);
    sgm_fail(error, SGM_ENUMERIC, hint,
             "%" PRId64 " steps in a row had a loss or gradient that is not finite; it stopped at step %" PRId64, steps,
             step);
}

static sgm_status take_turn(table *t, seat *s, sgm_error *error) {
    bool done = false;
    sgm_error local = {0};
    sgm_status status = sgm_trainer_advance(s->trainer, TURN_STEPS, t->lab->stop, &done, &local);
    if (status == SGM_EINTERRUPTED)
        return SGM_OK; /* all of them are saved below */
    if (!status && !done)
        return SGM_OK;
    if (status == SGM_ENUMERIC)
        diverged(s, s->trainer->stepper->skipped_in_row, s->trainer->stepper->step, &local);
    stand_up(s);
    if (status) {
        fail(t, s, &local);
        return SGM_OK;
    }
    s->row.state = SGM_LAB_DONE;
    return t->lab->options->discard_checkpoints ? drop_checkpoints(s, error) : SGM_OK;
}

/* Everyone at the table [first, end) to the end; the one who begins changes. */
static sgm_status play(table *t, size_t first, size_t end, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t round = 0, busy = 1; busy && !status; round++) {
        busy = 0;
        for (size_t i = 0; i < end - first && !status && !sgm_lab_stopped(t->lab); i++) {
            seat *s = &t->seats[first + (round + i) % (end - first)];
            if (!s->trainer)
                continue;
            busy++;
            status = take_turn(t, s, error);
            tell(t);
        }
        if (!sgm_lab_stopped(t->lab) || status)
            continue;
        for (size_t i = first; i < end && !status; i++)
            if (t->seats[i].trainer)
                status = sgm_trainer_save(t->seats[i].trainer, error);
        if (!status)
            status = sgm_fail(error, SGM_EINTERRUPTED, "the same command goes on with it",
                              "interrupted; every arm is saved");
    }
    return status;
}

/* As many from `first` on as fit into memory together, at least one; *end: behind the last. */
static sgm_status fill(table *t, size_t first, size_t *end, sgm_error *error) {
    uint64_t room = sgm_memory_available(), used = 0, largest = 0;
    for (*end = first; *end < t->count; ++*end) {
        seat *s = &t->seats[*end];
        if (s->row.state == SGM_LAB_DONE)
            continue;
        if (used && used + largest > room / 10 * 9) {
            sgm_lab_note(t->lab, "seed %" PRId64 ": %s and those behind it do not fit into memory as well: they follow",
                         t->seed, s->row.arm);
            return SGM_OK;
        }
        sgm_status status = sit_down(t, s, error);
        if (status)
            return status;
        if (s->trainer
                ->gave_up) { /* in a call before; it is what training does by these settings, however often it is tried */
            sgm_error local = {0};
            diverged(s, s->trainer->gave_up, s->row.step, &local);
            stand_up(s);
            fail(t, s, &local);
            continue;
        }
        uint64_t bytes = s->trainer->stepper->memory_bytes;
        used += bytes;
        largest = bytes > largest ? bytes : largest;
    }
    return SGM_OK;
}

static sgm_status lay(table *t, sgm_error *error) {
    const sgm_lab *lab = t->lab;
    for (size_t i = 0; i < t->count; i++) {
        seat *s = &t->seats[i];
        s->lab = t->lab;
        s->index = lab->arm[i];
        const char *name = lab->experiment->arms[s->index].settings.name;
        s->run = sgm_lab_run_folder(lab->folder, name, t->seed);
        if (!s->run)
            return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a table of arms");
        bool done = sgm_lab_run_complete(s->run);
        s->row = (sgm_lab_row){.arm = name,
                               .state = done ? SGM_LAB_DONE : SGM_LAB_WAITS,
                               .seed = t->seed,
                               .step = done ? lab->plan.steps : 0,
                               .steps = lab->plan.steps,
                               .loss_nats_per_token = (double)NAN,
                               .bits_per_byte = (double)NAN,
                               .max_violation = (double)NAN,
                               .dead_experts = (double)NAN,
                               .tokens_per_second = (double)NAN};
    }
    return SGM_OK;
}

sgm_status sgm_lab_train_seed(sgm_lab *lab, int64_t seed, sgm_error *failed, sgm_error *error) {
    table t = {.lab = lab, .seed = seed, .count = lab->arms, .failed = failed};
    t.done_before = (seed - 1) * (int64_t)lab->arms;
    t.seats = sgm_alloc(t.count * sizeof *t.seats);
    t.rows = sgm_alloc(t.count * sizeof *t.rows);
    sgm_status status =
        t.seats && t.rows ? lay(&t, error) : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a table of arms");
    for (size_t first = 0, end = 0; first < t.count && !status; first = end) {
        status = fill(&t, first, &end, error);
        if (!status)
            status = play(&t, first, end, error);
    }
    for (size_t i = 0; t.seats && i < t.count; i++) {
        sgm_trainer_close(t.seats[i].trainer);
        sgm_free(t.seats[i].run);
    }
    sgm_free(t.seats);
    sgm_free(t.rows);
    return status;
}
