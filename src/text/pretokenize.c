// SPDX-License-Identifier: Apache-2.0
/* From text to words: valid runs of UTF-8, then the split steps one inside the other.
 *
 * The five behaviours of a Split are those of Hugging Face tokenizers: what happens to a match, and which neighbour it
 * joins. They are applied while matches come in, with one pending piece. */
#include "text/tokenizer.h"

#include "text/character_class.h"

static sgm_status run_step(sgm_splitter *w, size_t step, const char *text, size_t size);

static sgm_status known_step(sgm_splitter *w, size_t step, const char *text, size_t size) {
    sgm_split_function next = w->steps[step].known;
    bool last = step + 1 == w->step_count;
    for (size_t at = 0; at < size;) {
        size_t end = next(text, size, at);
        sgm_status status =
            last ? w->word(w->context, text + at, end - at) : run_step(w, step + 1, text + at, end - at);
        if (status)
            return status;
        at = end;
    }
    return SGM_OK;
}

/* Pieces come in text order; `pending` [from, to) has not been passed on yet. */
typedef struct joiner {
    sgm_splitter *walk;
    size_t step;
    const char *text;
    size_t from, to;
    bool pending, previous_match;
} joiner;

static sgm_status flush(joiner *j) {
    bool nothing = !j->pending || j->from == j->to;
    j->pending = false;
    return nothing ? SGM_OK : run_step(j->walk, j->step + 1, j->text + j->from, j->to - j->from);
}

static sgm_status piece(joiner *j, size_t from, size_t to, bool match) {
    const sgm_split_step *s = &j->walk->steps[j->step];
    match ^= s->invert;
    bool join = false;
    switch (s->behavior) {
    case SGM_SPLIT_ISOLATED:
        break;
    case SGM_SPLIT_REMOVED:
        if (match)
            return SGM_OK;
        break;
    case SGM_SPLIT_WITH_PREVIOUS:
        join = match && !j->previous_match;
        break;
    case SGM_SPLIT_WITH_NEXT:
        join = !match && j->previous_match;
        break;
    case SGM_SPLIT_CONTIGUOUS:
        join = match == j->previous_match;
        break;
    }
    j->previous_match = match;
    if (join && j->pending) {
        j->to = to;
        return SGM_OK;
    }
    sgm_status status = flush(j);
    j->from = from;
    j->to = to;
    j->pending = true;
    return status;
}

static sgm_status pattern_step(sgm_splitter *w, size_t step, const char *text, size_t size) {
    const sgm_split_step *s = &w->steps[step];
    sgm_status status;
    if (!s->known && !w->states[step] &&
        (status = sgm_pattern_state_new(s->pattern, &w->states[step], w->error)) != SGM_OK)
        return status;
    joiner j = {.walk = w, .step = step, .text = text};
    size_t done = 0;
    for (size_t at = 0; at < size;) {
        bool found = true;
        size_t from = at, to = at;
        if (s->known)
            to = s->known(text, size, at);
        else if ((status = sgm_pattern_find(w->states[step], text, size, at, &found, &from, &to, w->error)) != SGM_OK)
            return status;
        if (!found)
            break;
        if (from > done && (status = piece(&j, done, from, false)) != SGM_OK)
            return status;
        if ((status = piece(&j, from, to, true)) != SGM_OK)
            return status;
        done = to;
        if (to > from) {
            at = to;
        } else { /* an empty match cuts, and the search goes on one character later */
            size_t length = 1;
            if (to < size)
                sgm_class_at(text + to, &length);
            at = to + length;
        }
    }
    if (done < size && (status = piece(&j, done, size, false)) != SGM_OK)
        return status;
    return flush(&j);
}

static sgm_status run_step(sgm_splitter *w, size_t step, const char *text, size_t size) {
    if (step == w->step_count)
        return w->word(w->context, text, size);
    const sgm_split_step *s = &w->steps[step];
    if (s->prefix_space && text[0] != ' ' && (step > 0 || w->at_start)) {
        w->spaced.size = 0; /* one step at most has a prefix, so the buffer is free */
        sgm_status status = sgm_buffer_add(&w->spaced, " ", 1);
        if (!status)
            status = sgm_buffer_add(&w->spaced, text, size);
        if (status)
            return sgm_fail(w->error, status, NULL, "not enough memory to split %zu bytes of text", size);
        text = w->spaced.data;
        size++;
    }
    if (s->known && s->behavior == SGM_SPLIT_ISOLATED)
        return known_step(w, step, text, size);
    if (s->known || s->pattern)
        return pattern_step(w, step, text, size);
    return run_step(w, step + 1, text, size);
}

sgm_status sgm_splitter_run(sgm_splitter *w, const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        size_t run = sgm_utf8_run(text + at, size - at);
        w->at_start = at == 0;
        sgm_status status = run ? run_step(w, 0, text + at, run) : w->word(w->context, text + at, 1);
        if (status)
            return status;
        at += run ? run : 1;
    }
    return SGM_OK;
}

void sgm_splitter_fini(sgm_splitter *w) {
    for (size_t i = 0; i < SGM_SPLIT_STEPS; i++)
        sgm_pattern_state_free(w->states[i]);
    sgm_buffer_free(&w->spaced);
}
