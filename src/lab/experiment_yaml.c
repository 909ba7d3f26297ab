// SPDX-License-Identifier: Apache-2.0
/* Reading an experiment's file. The frame is read here by parameter tables; each `set` is a piece of the file that goes to
 * the config's reader later, with its lines in place, so that messages about it name the right one. */
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/memory.h"
#include "lab/experiment.h"

typedef struct reader {
    yaml_parser_t yaml;
    sgm_experiment *experiment;
    sgm_error *error;
} reader;

static sgm_status bad(const reader *r, size_t line, const char *hint, const char *why) {
    return sgm_fail(r->error, SGM_EARGUMENT, hint, "%s:%zu: %s", r->experiment->path, line + 1, why);
}

static sgm_status no_memory(const reader *r) {
    return sgm_fail(r->error, SGM_EMEMORY, NULL, "%s: no memory for the experiment", r->experiment->path);
}

static sgm_status next_event(reader *r, yaml_event_t *event) {
    if (!yaml_parser_parse(&r->yaml, event))
        return bad(r, r->yaml.problem_mark.line, "indent with spaces, write \"key: value\"",
                   r->yaml.problem ? r->yaml.problem : "this is not YAML");
    if (event->type != YAML_ALIAS_EVENT)
        return SGM_OK;
    yaml_event_delete(event);
    return bad(r, r->yaml.mark.line, "arms inherit with `inherits: NAME`", "YAML aliases are not supported");
}

/* libyaml counts characters, files have bytes. */
static size_t offset_of(const char *text, size_t size, size_t index) {
    size_t at = 0;
    for (; at < size && index > 0; index--)
        do
            at++;
        while (at < size && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

/* ---- one value ------------------------------------------------------------------------------------------------ */

/* The scalar that `event` is, or the scalars of the sequence that it begins, joined by commas. */
static sgm_status read_text(reader *r, const yaml_event_t *event, sgm_buffer *text) {
    if (event->type == YAML_SCALAR_EVENT)
        return sgm_buffer_add(text, event->data.scalar.value, event->data.scalar.length) ? no_memory(r) : SGM_OK;
    if (event->type != YAML_SEQUENCE_START_EVENT)
        return bad(r, event->start_mark.line, "write \"key: value\"", "here stands a mapping, not a value");
    for (size_t n = 0;; n++) {
        yaml_event_t item;
        sgm_status status = next_event(r, &item);
        if (status)
            return status;
        bool end = item.type == YAML_SEQUENCE_END_EVENT;
        if (!end && item.type != YAML_SCALAR_EVENT)
            status = bad(r, item.start_mark.line, "write it like [a, b]", "an item of a list must be a value");
        else if (!end && ((n && sgm_buffer_add(text, ",", 1)) ||
                          sgm_buffer_add(text, item.data.scalar.value, item.data.scalar.length)))
            status = no_memory(r);
        yaml_event_delete(&item);
        if (!status && end && n == 0)
            status = bad(r, event->start_mark.line, "name something, or leave the line out", "the list is empty");
        if (status || end)
            return status;
    }
}

static sgm_status unknown_key(const reader *r, size_t line, const char *key, const sgm_param *params, size_t count,
                              const char *extra) {
    const char *names[SGM_EXPERIMENT_FRAME + 3];
    sgm_buffer hint = {0};
    for (size_t i = 0; i < count; i++)
        names[i] = params[i].name;
    names[count] = "set";
    names[count + 1] = extra;
    names[count + 2] = NULL;
    const char *near = sgm_nearest(key, names);
    if (near)
        sgm_buffer_print(&hint, "did you mean %s?", near);
    else {
        sgm_buffer_print(&hint, "keys of a run's configuration go below `set:`; here are");
        for (size_t i = 0; names[i]; i++)
            sgm_buffer_print(&hint, " %s", names[i]);
    }
    sgm_status status = sgm_fail(r->error, SGM_EARGUMENT, hint.data, "%s:%zu: there is no key %s%s",
                                 r->experiment->path, line + 1, *key ? key : "\"\"", extra ? "" : " of an arm");
    sgm_buffer_free(&hint);
    return status;
}

static sgm_status read_value(reader *r, const char *key, const yaml_event_t *event, const sgm_param *params,
                             size_t count, const char *extra, sgm_experiment_values *values) {
    size_t i = 0, line = event->start_mark.line;
    while (i < count && strcmp(params[i].name, key) != 0)
        i++;
    if (i == count)
        return unknown_key(r, line, key, params, count, extra);
    if (values->line[i])
        return bad(r, line, "keep one of them", "a key is given twice");
    sgm_buffer text = {0};
    sgm_status status = sgm_buffer_add(&text, "", 0) ? no_memory(r) : read_text(r, event, &text);
    char origin[512];
    snprintf(origin, sizeof origin, "%.480s:%zu", r->experiment->path, line + 1);
    if (!status) {
        sgm_param_value fresh;
        status = sgm_param_parse(&params[i], key, text.data, origin, &fresh, r->error);
        if (!status) {
            sgm_param_value_free(&values->value[i]);
            values->value[i] = fresh;
            values->line[i] = line + 1;
        }
    }
    sgm_buffer_free(&text);
    return status;
}

/* The rest of a mapping that `begin` opened: where it stands. */
static sgm_status skip_mapping(reader *r, const yaml_event_t *begin, sgm_experiment_part *part) {
    const char *text = r->experiment->text;
    size_t size = r->experiment->size;
    part->line = begin->start_mark.line;
    part->column = begin->start_mark.column;
    part->begin = offset_of(text, size, begin->start_mark.index);
    size_t end = 0;
    for (int depth = 1; depth > 0;) {
        yaml_event_t event;
        sgm_status status = next_event(r, &event);
        if (status)
            return status;
        if (event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT)
            depth++;
        if (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT)
            depth--;
        end = event.end_mark.index;
        size_t line = event.start_mark.line;
        yaml_event_delete(&event);
        if (depth > SGM_EXPERIMENT_DEPTH)
            return bad(r, line, "write sections like \"model:\" with keys below", "nested too deeply");
    }
    part->end = offset_of(text, size, end);
    return SGM_OK;
}

static sgm_status read_set(reader *r, const yaml_event_t *event, sgm_experiment_part *part) {
    if (part->end)
        return bad(r, event->start_mark.line, "keep one of them", "`set` is given twice");
    if (event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0)
        return SGM_OK; /* "set:" with nothing below */
    if (event->type != YAML_MAPPING_START_EVENT)
        return bad(r, event->start_mark.line, "write keys of `sigmoe list config` below it", "`set` is no mapping");
    return skip_mapping(r, event, part);
}

/* ---- mappings ------------------------------------------------------------------------------------------------- */

static sgm_status read_arms(reader *r, const yaml_event_t *event);

/* A mapping whose start was read. `frame`: the file's own, which has arms. */
static sgm_status read_mapping(reader *r, bool frame, sgm_experiment_values *values) {
    const sgm_param *params = frame ? sgm_frame_params : sgm_arm_params;
    size_t count = frame ? sgm_frame_param_count : sgm_arm_param_count;
    for (;;) {
        yaml_event_t key, value;
        sgm_status status = next_event(r, &key);
        if (status)
            return status;
        if (key.type != YAML_SCALAR_EVENT) {
            bool end = key.type == YAML_MAPPING_END_EVENT;
            size_t line = key.start_mark.line;
            yaml_event_delete(&key);
            return end ? SGM_OK : bad(r, line, "write \"key: value\"", "a key must be a name");
        }
        const char *name = (const char *)key.data.scalar.value;
        if (!(status = next_event(r, &value))) {
            if (strcmp(name, "set") == 0)
                status = read_set(r, &value, &values->set);
            else if (frame && strcmp(name, "arms") == 0)
                status = read_arms(r, &value);
            else
                status = read_value(r, name, &value, params, count, frame ? "arms" : NULL, values);
            yaml_event_delete(&value);
        }
        yaml_event_delete(&key);
        if (status)
            return status;
    }
}

static sgm_status defaults(const reader *r, const sgm_param *params, size_t count, sgm_experiment_values *values) {
    for (size_t i = 0; i < count; i++) {
        sgm_status status =
            sgm_param_parse(&params[i], params[i].name, params[i].fallback, "default", &values->value[i], r->error);
        if (status)
            return status;
    }
    return SGM_OK;
}

static sgm_status read_arms(reader *r, const yaml_event_t *event) {
    sgm_experiment *experiment = r->experiment;
    static const char how[] = "write \"- name: NAME\" with the arm's keys below";
    if (event->type != YAML_SEQUENCE_START_EVENT || experiment->arms)
        return bad(r, event->start_mark.line, how, experiment->arms ? "`arms` is given twice" : "`arms` is no list");
    experiment->arms = sgm_alloc(SGM_EXPERIMENT_ARMS * sizeof *experiment->arms);
    if (!experiment->arms)
        return no_memory(r);
    for (;;) {
        yaml_event_t item;
        sgm_status status = next_event(r, &item);
        if (status)
            return status;
        yaml_event_type_t type = item.type;
        size_t line = item.start_mark.line;
        yaml_event_delete(&item);
        if (type == YAML_SEQUENCE_END_EVENT)
            return SGM_OK;
        if (type != YAML_MAPPING_START_EVENT)
            return bad(r, line, how, "an arm is a mapping");
        if (experiment->arm_count == SGM_EXPERIMENT_ARMS)
            return bad(r, line, "split the experiment", "more than 64 arms");
        sgm_arm *arm = &experiment->arms[experiment->arm_count++];
        arm->values.first_line = line + 1;
        status = defaults(r, sgm_arm_params, sgm_arm_param_count, &arm->values);
        if (!status)
            status = read_mapping(r, false, &arm->values);
        if (status)
            return status;
    }
}

static sgm_status read_document(reader *r) {
    sgm_status status = defaults(r, sgm_frame_params, sgm_frame_param_count, &r->experiment->values);
    for (bool seen = false; !status;) {
        yaml_event_t event;
        if ((status = next_event(r, &event)))
            break;
        yaml_event_type_t type = event.type;
        size_t line = event.start_mark.line;
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            break;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT || type == YAML_DOCUMENT_END_EVENT)
            continue;
        if (type != YAML_MAPPING_START_EVENT || seen)
            return bad(r, line, "write \"name: …\", \"claim: …\", \"arms:\"", "this is not one experiment");
        seen = true;
        status = read_mapping(r, true, &r->experiment->values);
    }
    return status;
}

sgm_status sgm_experiment_read(sgm_experiment *experiment, sgm_error *error) {
    reader r = {.experiment = experiment, .error = error};
    if (!yaml_parser_initialize(&r.yaml))
        return no_memory(&r);
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)experiment->text, experiment->size);
    sgm_status status = read_document(&r);
    yaml_parser_delete(&r.yaml);
    return status;
}
