// SPDX-License-Identifier: Apache-2.0
/* results.md: tables for people. Means over seeds with standard deviations, differences with 95 % intervals. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text_print.h"
#include "lab/results.h"
#include "sigmoe/machine.h"

typedef struct text {
    sgm_buffer buffer;
    sgm_status status;
} text;

#define ADD(t, ...)                                                                                                    \
    do {                                                                                                               \
        if (!(t)->status)                                                                                              \
            (t)->status = sgm_buffer_print(&(t)->buffer, __VA_ARGS__);                                                 \
    } while (0)

static void add_value(text *t, const sgm_lab_metric *metric, double value, const char *sign) {
    if (!isfinite(value))
        ADD(t, "–");
    else if (fabs(value) >= 1e7)
        ADD(t, "%s%.3ge%d", value > 0 ? sign : "", value / pow(10, floor(log10(fabs(value)))),
            (int)floor(log10(fabs(value))));
    else
        ADD(t, "%s%.*f", value >= 0 ? sign : "", metric->digits, value);
}

/* Words of the experiment's author, as one line that reads as they do: a bar would end a cell, a backslash eat what follows it,
 * a "<" begin HTML, a line end the table. */
static void add_words(text *t, const char *words) {
    for (; *words; words++)
        if ((unsigned char)words[0] == 0xC2 && (unsigned char)words[1] >= 0x80 && (unsigned char)words[1] < 0xA0) {
            words++; /* C1: a terminal's commands as well */
            ADD(t, " ");
        } else if (*words == '<')
            ADD(t, "&lt;");
        else if (*words == '|' || *words == '\\')
            ADD(t, "\\%c", *words);
        else
            ADD(t, "%c", (unsigned char)*words < 0x20 || *words == 0x7f ? ' ' : *words);
}

static void add_cell(text *t, const char *cell) {
    ADD(t, " ");
    add_words(t, cell);
    ADD(t, " |");
}

static void add_spread(text *t, const sgm_lab_arm_results *arm, const sgm_lab_metric *metric) {
    sgm_spread spread = sgm_lab_spread(arm, metric);
    add_value(t, metric, spread.mean, "");
    if (isfinite(spread.deviation)) {
        ADD(t, " ± ");
        add_value(t, metric, spread.deviation, "");
    }
}

static void add_header(text *t, const sgm_lab_metric *const *metric, size_t count) {
    ADD(t, "\n| arm | balancing (scope) |");
    for (size_t i = 0; i < count; i++)
        add_cell(t, metric[i]->title);
    ADD(t, "\n|---|---|");
    for (size_t i = 0; i < count; i++)
        ADD(t, "---|");
    ADD(t, "\n");
}

static void add_table(text *t, const sgm_lab_results *results, const sgm_lab_metric *const *metric, size_t count) {
    add_header(t, metric, count);
    for (size_t a = 0; a < results->arms; a++) {
        ADD(t, "| %s | %s |", results->arm[a].arm.name, results->arm[a].arm.balance);
        for (size_t i = 0; i < count; i++) {
            ADD(t, " ");
            add_spread(t, &results->arm[a], metric[i]);
            ADD(t, " |");
        }
        ADD(t, "\n");
    }
}

static void add_differences(text *t, const sgm_lab_results *results, const sgm_lab_metric *const *metric,
                            size_t count) {
    if (results->baseline >= results->arms || results->arms < 2) {
        ADD(t, "\nThe baseline has no complete run, or nothing to be compared with.\n");
        return;
    }
    add_header(t, metric, count);
    for (size_t a = 0; a < results->arms; a++) {
        if (a == results->baseline)
            continue;
        ADD(t, "| %s | %s |", results->arm[a].arm.name, results->arm[a].arm.balance);
        for (size_t i = 0; i < count; i++) {
            sgm_paired paired = sgm_lab_difference(results, a, metric[i]);
            ADD(t, " ");
            add_value(t, metric[i], paired.mean, "+");
            if (isfinite(paired.low)) {
                ADD(t, " [");
                add_value(t, metric[i], paired.low, "+");
                ADD(t, ", ");
                add_value(t, metric[i], paired.high, "+");
                ADD(t, "] p = %.2g", paired.p);
            }
            ADD(t, " |");
        }
        ADD(t, "\n");
    }
}

static void add_named(text *t, const sgm_lab_results *results, const char *prefix, const char *const *names) {
    const sgm_lab_metric *metric[24];
    size_t count = 0;
    for (size_t i = 0; names[i] && count < 24; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s", prefix, names[i]);
        const sgm_lab_metric *found = sgm_lab_metric_find(name, strlen(name));
        if (found && sgm_lab_known(results, found))
            metric[count++] = found;
    }
    add_table(t, results, metric, count);
}

/* Caches in one table, placements in another, where any run has them. */
static void add_serving(text *t, const sgm_lab_results *results) {
    if (results->caches) {
        ADD(t, "\n## Caches of experts: share of hits, the routes of held-out text replayed\n");
        add_table(t, results, results->known_serving, results->caches);
    }
    if (results->known_servings > results->caches) {
        ADD(t,
            "\n## Experts placed on GPUs: mean over greatest load of a GPU, 1 is even\n\nBy the load that was planned "
            "for, of the last tenth of the steps, and by that of held-out text.\n");
        add_table(t, results, results->known_serving + results->caches, results->known_servings - results->caches);
    }
    if (results->without_routes)
        ADD(t, "\nThese runs left no routes, so nothing of them is in these numbers: %s.\n", results->without_routes);
    if (results->known_servings) {
        ADD(t, "\nThe same, difference to the baseline:\n");
        add_differences(t, results, results->known_serving, results->known_servings);
    }
}

static void add_domains(text *t, const sgm_lab_results *results) {
    const sgm_lab_measures *first = &results->arm[0].run[0];
    if (first->domains < 2)
        return;
    ADD(t, "\n## Held-out bits per byte by domain\n\n| arm |");
    for (size_t d = 0; d < first->domains; d++)
        add_cell(t, first->domain[d].name);
    ADD(t, "\n|---|");
    for (size_t d = 0; d < first->domains; d++)
        ADD(t, "---|");
    for (size_t a = 0; a < results->arms; a++) {
        const sgm_lab_arm_results *arm = &results->arm[a];
        ADD(t, "\n| %s |", arm->arm.name);
        for (size_t d = 0; d < first->domains; d++) {
            double mean = 0;
            for (size_t i = 0; i < arm->runs; i++)
                mean += d < arm->run[i].domains ? arm->run[i].domain[d].bits_per_byte / (double)arm->runs : (double)NAN;
            ADD(t, " %.4f |", mean);
        }
    }
    ADD(t, "\n");
}

static void add_missing(text *t, const sgm_lab_results *results) {
    if (results->missings)
        ADD(t, "\n**Not complete.** These runs are missing:\n\n");
    for (size_t i = 0; i < results->missings; i++)
        ADD(t, "- `%s`, seed %" PRId64 ": %s\n", results->missing[i].arm, results->missing[i].seed,
            results->missing[i].state);
}

static void add_all(text *t, const sgm_lab_results *results) {
    static const char *const balance[] = {"max_violation_batch",
                                          "noise_floor_batch",
                                          "max_violation_global",
                                          "noise_floor_global",
                                          "coefficient_of_variation",
                                          "min_over_mean",
                                          "dead_experts",
                                          "entropy_over_log_e",
                                          "probability_entropy_over_log_e",
                                          "token_entropy_over_log_e",
                                          "dropped_share",
                                          "correlation",
                                          "imbalance_score",
                                          "imbalance_noise_floor",
                                          "domain_divergence_nats",
                                          "domain_divergence_noise_nats",
                                          NULL};
    static const char *const cost[] = {"training_loss_nats_per_token",
                                       "expert_computations_per_token",
                                       "active_parameter_tokens",
                                       "tokens_per_second",
                                       "seconds",
                                       "skipped_steps",
                                       NULL};
    static const char *const regions[][3] = {{"low.", "low", "first"}, {"high.", "high", "last"}, {"", "all", ""}};
    sgm_experiment_info info;
    sgm_experiment_describe(results->experiment, &info);
    ADD(t, "# ");
    add_words(t, info.name);
    ADD(t, "\n\n");
    if (*info.claim) {
        ADD(t, "**Claim.** ");
        add_words(t, info.claim);
        ADD(t, "%s", *info.paper ? " (" : "");
        add_words(t, info.paper);
        ADD(t, "%s\n\n", *info.paper ? ")" : "");
    }
    if (*info.tuning) {
        ADD(t, "**Tuning.** ");
        add_words(t, info.tuning);
        ADD(t, "\n\n");
    }
    ADD(t,
        "%zu arm%s, %" PRId64 " seed%s, %" PRId64 " step%s of %" PRId64
        " token%s. Baseline: `%s`. Balance is that of the "
        "last tenth of the steps.\n\n    %s\n\nsigmoe %s.\n",
        results->arms, sgm_lab_plural((int64_t)results->arms), results->plan->seeds,
        sgm_lab_plural(results->plan->seeds), results->plan->steps, sgm_lab_plural(results->plan->steps),
        info.tokens_per_step, sgm_lab_plural(info.tokens_per_step), info.baseline, results->command, sgm_version());
    add_missing(t, results);
    ADD(t, "\n| arm | what it is |\n|---|---|\n");
    for (size_t a = 0; a < results->arms; a++) {
        ADD(t, "| %s |", results->arm[a].arm.name);
        add_cell(t, results->arm[a].arm.description);
        ADD(t, "\n");
    }
    char floors[160];
    sgm_lab_floors(results, floors, sizeof floors);
    ADD(t, sgm_lab_seeds_there(results) > 1 ? "\n## Mean ± standard deviation over seeds\n"
                                            : "\n## Of one seed: the spread is not known\n");
    add_table(t, results, results->compare, results->compared);
    ADD(t, "\n%s\n", floors);
    ADD(t, "\n## Difference to `%s`: mean over paired seeds, 95 %% interval, p of the paired t-test\n", info.baseline);
    add_differences(t, results, results->compare, results->compared);
    ADD(t, "\n## Cost\n");
    add_named(t, results, "", cost);
    for (size_t i = 0; i < 3; i++) {
        ADD(t, "\n## Balance, %s layers%s%s%s\n", regions[i][1], *regions[i][2] ? " (the " : "", regions[i][2],
            *regions[i][2] ? " third)" : "");
        add_named(t, results, regions[i][0], balance);
    }
    add_domains(t, results);
    add_serving(t, results);
}

sgm_status sgm_lab_write_text(const sgm_lab_results *results, const char *path, sgm_error *error) {
    text t = {0};
    add_all(&t, results);
    sgm_status status = t.status ? sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the tables", path)
                                 : sgm_file_write(path, t.buffer.data, t.buffer.size, error);
    sgm_buffer_free(&t.buffer);
    return status;
}
