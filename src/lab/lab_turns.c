// SPDX-License-Identifier: Apache-2.0
/* The arms of one seed take turns of a few steps, so that a slow minute of the machine is shared by all of them (where there
 * are more arms than jobs). As many turns are taken at once as there are jobs. Results do not depend on whose turn it is: arms
 * share nothing but the data.
 *
 * A job trains with no lock held: what it learns of the run goes into `live`, which is its own for the turn. All else on the
 * table, and the caller's events, is touched by one thread at a time; a run that ends is closed then too. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/team.h"
#include "lab/lab.h"
#include "lab/measure.h"
#include "routing/routing.h"

enum { TURN_STEPS = 4 };

typedef struct table table;

typedef struct seat {
    table *table;
    size_t index; /* of the arm in the experiment */
    char *run;
    sgm_trainer *trainer;
    int64_t turns;
    bool taken;       /* a job has its turn now */
    bool ended;       /* in this call */
    sgm_lab_row live; /* who has its turn writes here, */
    sgm_lab_row row;  /* and then it stands here */
} seat;

struct table {
    sgm_lab *lab;
    int64_t seed;
    seat *seats;
    sgm_lab_row *rows; /* copies, for events */
    size_t count;
    int64_t done_before; /* runs of seeds before this one */
    sgm_error *failed;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a turn has ended */
};

/* ---- events of one run ---------------------------------------------------------------------------------------- */

/* Mean over layers of the step's MaxVio and dead experts: of the feed-forward, whose numbers a lab compares. */
static void balance_of(const sgm_step_report *report, double *max_violation, double *dead_experts) {
    int64_t stride = sgm_routed_stride(report->experts, report->attention_experts), layers = 0;
    *max_violation = *dead_experts = 0;
    for (int64_t l = 0; l < report->layers; l++) {
        if (sgm_routed_is_attention(report->attention_experts, l))
            continue;
        const sgm_load load = {.experts = report->experts,
                               .null_experts = report->null_experts,
                               .count = (int64_t *)report->load + l * stride,
                               .probability = (double *)report->probability + l * stride};
        sgm_load_summary summary;
        sgm_load_summarise(&load, &summary);
        *max_violation += summary.max_violation;
        *dead_experts += (double)summary.dead_experts;
        layers++;
    }
    *max_violation /= (double)layers;
    *dead_experts /= (double)layers;
}

static void on_step(void *context, const sgm_step_report *report) {
    seat *s = context;
    sgm_lab_row *row = &s->live;
    double loss = report->loss_nats_per_token;
    row->step = report->step;
    row->loss_nats_per_token =
        isfinite(row->loss_nats_per_token) ? 0.95 * row->loss_nats_per_token + 0.05 * loss : loss;
    balance_of(report, &row->max_violation, &row->dead_experts);
    row->seconds += report->seconds;
    row->tokens_per_second = report->tokens_per_second;
}

static void on_eval(void *context, const sgm_eval_report *report) {
    seat *s = context;
    const sgm_lab_events *events = &s->table->lab->events;
    s->live.bits_per_byte = report->bits_per_byte;
    pthread_mutex_lock(&s->table->mutex);
    if (events->eval)
        events->eval(events->context, &s->live);
    pthread_mutex_unlock(&s->table->mutex);
}

static void on_note(void *context, const char *text) {
    const seat *s = context;
    pthread_mutex_lock(&s->table->mutex);
    sgm_lab_note(s->table->lab, "%s, seed %" PRId64 ": %s", s->row.arm, s->row.seed, text);
    pthread_mutex_unlock(&s->table->mutex);
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

/* A run whose log lost rows could not be measured when it is done: said before it is trained. */
static sgm_status check_log(const seat *s, sgm_error *error) {
    double seconds, rows, steps = (double)s->trainer->stepper->step;
    sgm_status status = sgm_run_log_seconds(s->trainer->log, &seconds, &rows, error);
    if (!status && rows < steps)
        status = sgm_fail(error, SGM_EFORMAT, sgm_lab_remove_run,
                          "%s/run.sqlite has %.0f of the %.0f steps made so far", s->run, rows, steps);
    return status;
}

/* Somebody may have made it longer since it was seen to be the plan's. */
static sgm_status check_steps(const table *t, const seat *s, sgm_error *error) {
    int64_t steps = s->trainer->settings->train.steps;
    return steps == t->lab->plan.steps
               ? SGM_OK
               : sgm_fail(error, SGM_EARGUMENT, "remove that run's folder, or move it away, and run the lab again",
                          "%s has train.steps = %" PRId64 " now, the lab says %" PRId64, s->run, steps,
                          t->lab->plan.steps);
}

/* The run in its folder: a new one, or where it was. */
static sgm_status sit_down(table *t, seat *s, sgm_error *error) {
    sgm_lab *lab = t->lab;
    const char *data[] = {lab->data};
    sgm_trainer_events events = {.context = s, .step = on_step, .eval = on_eval, .note = on_note};
    sgm_config *config = NULL;
    sgm_status status;
    if (sgm_path_exists(s->run)) {
        status = sgm_trainer_resume(s->run, 0, sgm_lab_threads(lab, s->index), &events, &s->trainer, error);
        if (!status)
            status = check_steps(t, s, error);
        if (!status)
            status = check_log(s, error);
    } else {
        status = sgm_lab_config(lab, s->index, t->seed, lab->plan.steps, &config, error);
        if (!status)
            status = sgm_trainer_start(config, data, 1, s->run, &events, lab->stop, &s->trainer, error);
    }
    sgm_config_free(config);
    if (!status && s->trainer->stepper->step == 0)
        status = sgm_lab_drop_routes(s->run, error);
    if (status)
        return status;
    s->row.state = SGM_LAB_TRAINS;
    s->row.step = s->trainer->stepper->step;
    s->live = s->row;
    return SGM_OK;
}

static void stand_up(seat *s) {
    sgm_trainer_close(s->trainer);
    s->trainer = NULL;
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

/* What a turn came to. */
static sgm_status end_turn(table *t, seat *s, sgm_status status, bool done, sgm_error *why, sgm_error *error) {
    s->row = s->live;
    if (!status && s->trainer->log_failed) /* it could not be measured */
        status =
            sgm_fail(why, SGM_EIO, "see to what the note before says, remove this run's folder and run the lab again",
                     "rows of its log were lost up to step %" PRId64, s->trainer->stepper->step);
    if (status == SGM_EINTERRUPTED || (!status && !done)) /* interrupted: all of them are saved later */
        return SGM_OK;
    if (status == SGM_ENUMERIC)
        diverged(s, s->trainer->stepper->skipped_in_row, s->trainer->stepper->step, why);
    stand_up(s);
    if (status) {
        fail(t, s, why);
        return SGM_OK;
    }
    s->row.state = SGM_LAB_DONE;
    s->ended = true;
    return sgm_lab_wants_routes(t->lab) ? SGM_OK : sgm_lab_finish_run(t->lab, s->index, t->seed, s->run, true, error);
}

/* Those who play together, [first, end) of the table. */
typedef struct party {
    table *table;
    size_t first, end;
    sgm_status status;
    sgm_error *error;
} party;

/* Whose turn it is: of those that train and have had the fewest, the one who begins changes. NULL: nobody's; *busy: yet, because
 * a turn is being taken. */
static seat *whose_turn(const party *p, bool *busy) {
    const size_t count = p->end - p->first;
    seat *next = NULL;
    size_t next_place = 0;
    *busy = false;
    for (size_t i = 0; i < count; i++) {
        seat *s = &p->table->seats[p->first + i];
        *busy = *busy || s->taken;
        if (!s->trainer || s->taken)
            continue;
        size_t place = (i + count - (size_t)s->turns % count) % count;
        if (!next || s->turns < next->turns || (s->turns == next->turns && place < next_place)) {
            next = s;
            next_place = place;
        }
    }
    return next;
}

/* One job: turn after turn, until there is none to take. */
static void take_turns(sgm_worker *worker, void *argument) {
    (void)worker;
    party *p = argument;
    table *t = p->table;
    pthread_mutex_lock(&t->mutex);
    while (!p->status && !sgm_lab_stopped(t->lab)) {
        bool busy, done = false;
        sgm_error why = {0};
        seat *s = whose_turn(p, &busy);
        if (!s && !busy)
            break;
        if (!s) {
            pthread_cond_wait(&t->changed, &t->mutex);
            continue;
        }
        s->taken = true;
        pthread_mutex_unlock(&t->mutex);
        sgm_status status = sgm_trainer_advance(s->trainer, TURN_STEPS, t->lab->stop, &done, &why);
        pthread_mutex_lock(&t->mutex);
        s->taken = false;
        s->turns++;
        sgm_error local;
        status = end_turn(t, s, status, done, &why, &local);
        if (status && !p->status) {
            p->status = status;
            if (p->error)
                *p->error = local;
        }
        tell(t);
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->mutex);
}

/* Everyone at the table [first, end) to the end. */
static sgm_status play(table *t, size_t first, size_t end, sgm_error *error) {
    party p = {.table = t, .first = first, .end = end, .error = error};
    sgm_team *jobs = NULL;
    sgm_status status = sgm_team_new(sgm_lab_jobs(t->lab, end - first), &jobs, error);
    if (status)
        return status;
    sgm_team_run(jobs, take_turns, &p);
    sgm_team_free(jobs);
    status = p.status;
    if (status || !sgm_lab_stopped(t->lab))
        return status;
    for (size_t i = first; i < end && !status; i++)
        if (t->seats[i].trainer)
            status = sgm_trainer_save(t->seats[i].trainer, error);
    return status ? status
                  : sgm_fail(error, SGM_EINTERRUPTED, "the same command goes on with it",
                             "interrupted; every arm is saved");
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
        s->table = t;
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
    table t = {.lab = lab,
               .seed = seed,
               .count = lab->arms,
               .failed = failed,
               .mutex = PTHREAD_MUTEX_INITIALIZER,
               .changed = PTHREAD_COND_INITIALIZER};
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
    for (size_t i = 0; i < t.count && !status; i++)
        if (t.seats[i].row.state == SGM_LAB_DONE)
            status = sgm_lab_finish_run(lab, t.seats[i].index, seed, t.seats[i].run, t.seats[i].ended, error);
    for (size_t i = 0; t.seats && i < t.count; i++) {
        sgm_trainer_close(t.seats[i].trainer);
        sgm_free(t.seats[i].run);
    }
    sgm_free(t.seats);
    sgm_free(t.rows);
    pthread_cond_destroy(&t.changed);
    pthread_mutex_destroy(&t.mutex);
    return status;
}
