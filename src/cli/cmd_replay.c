// SPDX-License-Identifier: Apache-2.0
/* sigmoe replay: what a cache of experts would have done on a trace, under one policy or all of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "stats.h"

enum { POLICIES_MOST = 64, SETTINGS_MOST = 64 };

/* Has a policy this setting ("decay=0.5")? */
static bool takes(const sgm_plugin *policy, const char *setting) {
    size_t length = strcspn(setting, "=");
    for (size_t i = 0; i < policy->param_count; i++)
        if (strlen(policy->params[i].name) == length && strncmp(policy->params[i].name, setting, length) == 0)
            return true;
    return false;
}

/* With `all` each policy gets the settings it has; one that none of them has is an error. */
static int check_settings(const char *const *settings, size_t count) {
    const sgm_plugin *policy;
    for (size_t s = 0; s < count; s++) {
        bool known = false;
        for (size_t i = 0; (policy = sgm_registry_get("cache", i)); i++)
            known = known || takes(policy, settings[s]);
        if (!known)
            return cli_usage("`sigmoe list cache NAME` shows the settings of a policy",
                             "sigmoe replay: no cache policy has the setting \"%s\"", settings[s]);
    }
    return CLI_DONE;
}

typedef struct outcome {
    const char *policy;
    sgm_replay_result result;
} outcome;

static int run_policy(const cli_args *args, const sgm_replay *replay, const sgm_plugin *policy, bool all,
                      outcome *out) {
    size_t given;
    const char *const *settings = cli_many(args, "set", &given);
    const char *own[SETTINGS_MOST];
    size_t count = 0;
    for (size_t s = 0; s < given && count < SETTINGS_MOST; s++)
        if (!all || takes(policy, settings[s]))
            own[count++] = settings[s];
    const sgm_replay_options options = {
        .policy = policy->name,
        .experts = cli_given(args, "cache") ? cli_integer(args, "cache") : 0,
        .bytes = cli_given(args, "cache-mb") ? 1e6 * cli_real(args, "cache-mb") : 0,
        .pool = strcmp(cli_text(args, "pool"), "model") == 0 ? SGM_POOL_MODEL : SGM_POOL_LAYER,
        .settings = own,
        .setting_count = count,
    };
    sgm_error error = {0};
    out->policy = policy->name;
    return sgm_replay_run(replay, &options, &out->result, &error) ? cli_fail(&error) : CLI_DONE;
}

static json_t *outcome_json(const outcome *o) {
    const sgm_replay_result *r = &o->result;
    json_t *layers = json_array();
    for (int64_t l = 0; l < r->layers; l++) {
        const sgm_replay_layer *layer = &r->layer[l];
        double uses = (double)(layer->hits + layer->misses);
        json_array_append_new(layers,
                              json_pack("{s:I, s:I, s:I, s:o, s:o}", "layer", (json_int_t)l, "hits",
                                        (json_int_t)layer->hits, "misses", (json_int_t)layer->misses, "hit_rate",
                                        cli_json_real(uses > 0 ? (double)layer->hits / uses : NAN),
                                        "bytes_read_per_token", cli_json_real(layer->bytes_read / (double)r->tokens)));
    }
    return json_pack("{s:s, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "policy", o->policy, "hits",
                     (json_int_t)r->hits, "misses", (json_int_t)r->misses, "hit_rate", cli_json_real(r->hit_rate),
                     "first_uses", (json_int_t)r->first_uses, "evictions", (json_int_t)r->evictions, "passed_by",
                     (json_int_t)r->passed_by, "fallbacks", (json_int_t)r->fallbacks, "bytes_read_per_token",
                     cli_json_real(r->bytes_read_per_token), "layers", layers);
}

static int print_json(const cli_args *args, const outcome *outcomes, size_t count, bool complete) {
    json_t *policies = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(policies, outcome_json(&outcomes[i]));
    return cli_json_print(json_pack("{s:s, s:b, s:I, s:I, s:s, s:o}", "trace", cli_text(args, "trace"), "complete",
                                    complete, "tokens", (json_int_t)outcomes[0].result.tokens,
                                    "cache_experts_per_layer", (json_int_t)outcomes[0].result.capacity, "pool",
                                    cli_text(args, "pool"), "policies", policies));
}

static void print_table(const cli_args *args, const outcome *outcomes, size_t count) {
    const sgm_replay_result *first = &outcomes[0].result;
    printf("%s through %lld layers, room for %s a layer (%s)\n\n", cli_counted(first->tokens, "token").text,
           (long long)first->layers, cli_counted(first->capacity, "expert").text,
           strcmp(cli_text(args, "pool"), "model") == 0 ? "one cache for all layers" : "a cache for each layer");
    printf("policy           hits  hit rate  bytes read/token  lowest layer  highest layer\n");
    for (size_t i = 0; i < count; i++) {
        const sgm_replay_result *r = &outcomes[i].result;
        double least = 1, most = 0;
        for (int64_t l = 0; l < r->layers; l++) {
            double uses = (double)(r->layer[l].hits + r->layer[l].misses);
            double rate = uses > 0 ? (double)r->layer[l].hits / uses : 0;
            least = rate < least ? rate : least;
            most = rate > most ? rate : most;
        }
        printf("%-12s %8s  %6.2f %%  %16s  %10.2f %%  %11.2f %%\n", outcomes[i].policy, cli_grouped(r->hits).text,
               100 * r->hit_rate,
               isfinite(r->bytes_read_per_token) ? cli_bytes_label(r->bytes_read_per_token).text : "-", 100 * least,
               100 * most);
    }
    printf("\nOf the misses %s are first uses of an expert, which no cache avoids. lowest, highest layer: hit rates of "
           "layers.\n",
           cli_grouped(first->first_uses).text);
}

static int run_all(const cli_args *args, const sgm_replay *replay, const char *named, bool complete) {
    outcome outcomes[POLICIES_MOST] = {0};
    bool all = strcmp(named, "all") == 0;
    size_t count = 0;
    int code = CLI_DONE;
    const sgm_plugin *policy;
    for (size_t i = 0; code == CLI_DONE && count < POLICIES_MOST && (policy = sgm_registry_get("cache", i)); i++)
        if (all || strcmp(policy->name, named) == 0)
            code = run_policy(args, replay, policy, all, &outcomes[count++]);
    if (code == CLI_DONE && cli_switch(args, "json"))
        code = print_json(args, outcomes, count, complete);
    else if (code == CLI_DONE)
        print_table(args, outcomes, count);
    for (size_t i = 0; i < count; i++)
        sgm_replay_result_free(&outcomes[i].result);
    return code;
}

static int check(const cli_args *args) {
    const char *policy = cli_text(args, "policy"), *pool = cli_text(args, "pool");
    size_t count;
    const char *const *settings = cli_many(args, "set", &count);
    sgm_error error = {0};
    if (cli_given(args, "cache") == cli_given(args, "cache-mb"))
        return cli_usage("--cache counts experts of a layer, --cache-mb bytes of all layers",
                         "sigmoe replay: give either --cache or --cache-mb");
    if (strcmp(pool, "layer") != 0 && strcmp(pool, "model") != 0)
        return cli_usage("layer or model", "sigmoe replay --pool: there is no pool \"%s\"", pool);
    if (count > SETTINGS_MOST)
        return cli_usage("name each setting once", "sigmoe replay: too many settings");
    if (strcmp(policy, "all") == 0)
        return check_settings(settings, count);
    if (!sgm_registry_find("cache", policy, &error)) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    return CLI_DONE;
}

static int run(const cli_args *args) {
    const char *path = cli_text(args, "trace");
    int code = check(args);
    if (code == CLI_DONE)
        code = cli_check_traces(&path, 1);
    if (code != CLI_DONE)
        return code;
    sgm_trace *trace;
    sgm_replay *replay = NULL;
    sgm_error error = {0};
    sgm_status status = sgm_trace_open(path, &trace, &error);
    if (!status)
        status = sgm_replay_new(trace, &replay, &error);
    bool complete = !status && sgm_trace_about(trace)->complete;
    if (!status)
        cli_warn_incomplete(path, sgm_trace_about(trace));
    sgm_trace_close(trace);
    code = status ? cli_fail(&error) : run_all(args, replay, cli_text(args, "policy"), complete);
    sgm_replay_free(replay);
    return code;
}

static const cli_flag flags[] = {
    {"trace", CLI_TEXT, "FILE", NULL, 0, 0, true, "a trace that `sigmoe trace` or a training run wrote"},
    {"policy", CLI_TEXT, "NAME", "all", 0, 0, false, "a policy of `sigmoe list cache`, or all"},
    {"cache", CLI_INTEGER, "N", NULL, 1, 1e9, false, "experts of a layer that fit"},
    {"cache-mb", CLI_REAL, "X", NULL, 1e-6, 1e12, false, "or million bytes for all layers, as many experts in each"},
    {"pool", CLI_TEXT, "KIND", "layer", 0, 0, false, "layer: a cache for each layer; model: one for all of them"},
    {"set", CLI_MANY, "KEY=VALUE…", NULL, 0, 0, false, "settings of the policy (`sigmoe list cache NAME`)"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_replay = {
    .name = "replay",
    .group = "study",
    .summary = "hits and bytes read of a cache of experts on a trace, under each policy",
    .flags = flags,
    .details = "Tokens come one by one, as in decoding; from an empty cache. The policy \"optimal\" knows the future: "
               "it is the\n"
               "bound, not a choice. With --policy all each policy gets those of the settings that it has.",
    .example = "sigmoe replay --trace demo.trace --cache 24\n"
               "sigmoe replay --trace demo.trace --policy lfu_decay --cache-mb 40 --set decay=0.9 period=64 --json",
    .run = run,
};
