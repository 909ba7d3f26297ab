// SPDX-License-Identifier: Apache-2.0
/* What `sigmoe train` shows while it works: on a terminal a block of live lines with a load strip per layer, redrawn at
 * most eight times a second; elsewhere one plain line every few steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define REDRAW_SECONDS 0.125
#define LOAD_WINDOW 50 /* steps per load bucket; the final table covers the last one or two buckets */

struct cli_display {
    cli_display_options options;
    bool live, colour;
    int drawn; /* lines of the block on the screen */
    double last_draw;
    /* last step, with copies of what the report only lends */
    sgm_step_report step;
    bool has_step;
    double smooth_loss;
    int64_t *experts_per_token; /* (L) */
    int64_t *load[2];           /* (L, E) this bucket and the one before */
    int64_t load_steps[2];
    double *recent; /* (L, E) decaying mean, for the strips */
    /* last evaluation */
    bool has_eval;
    int64_t eval_step;
    double bits_per_byte, perplexity;
    char eval_domains[512];
    int64_t skipped, first_step;
    int64_t begin_step, steps, begin_tokens; /* of the plan: what there is to say when no step was left */
    double started, seconds;
};

cli_display *cli_display_new(const cli_display_options *options) {
    cli_display *display = calloc(1, sizeof *display);
    if (!display)
        return NULL;
    display->options = *options;
    display->live = !options->plain && !options->quiet && cli_is_terminal(options->stream);
    display->colour = cli_use_colour(options->stream);
    display->started = cli_now();
    display->first_step = -1;
    return display;
}

void cli_display_free(cli_display *display) {
    if (!display)
        return;
    free(display->experts_per_token);
    free(display->load[0]);
    free(display->load[1]);
    free(display->recent);
    free(display);
}

/* ---- the live block ------------------------------------------------------------------------------------------- */

static void erase(cli_display *display) {
    if (display->drawn)
        fprintf(display->options.stream, "\033[%dA\r\033[J", display->drawn);
    display->drawn = 0;
}

/* One line of the block: cut to the width, so that it never wraps and the cursor arithmetic stays right. */
static void block_line(cli_display *display, const char *text, int width) {
    int used = 0;
    const char *at = text;
    while (*at && used < width) {
        do
            at++;
        while (((unsigned char)*at & 0xc0) == 0x80);
        used++;
    }
    fwrite(text, 1, (size_t)(at - text), display->options.stream);
    fputc('\n', display->options.stream);
    display->drawn++;
}

static void progress_line(const cli_display *display, char *text, size_t room, int width) {
    const sgm_step_report *s = &display->step;
    char peak[32] = "";
    if (isfinite(s->peak_share))
        snprintf(peak, sizeof peak, "  %.0f %% of peak", 100 * s->peak_share);
    char loss[64];
    snprintf(loss, sizeof loss, "loss %.3f", display->smooth_loss);
    const char *wide = width >= 100 ? peak : "";
    snprintf(text, room, "step %lld/%lld  %s  %s tokens/s%s  lr %.2e  %s left", (long long)s->step, (long long)s->steps,
             loss, cli_grouped((int64_t)s->tokens_per_second).text, wide, s->learning_rate,
             cli_duration_label(s->seconds_left).text);
    if (width < 72)
        snprintf(text, room, "%lld/%lld %s %s tok/s %s", (long long)s->step, (long long)s->steps, loss,
                 cli_count_label(s->tokens_per_second).text, cli_duration_label(s->seconds_left).text);
}

static void bar_line(const cli_display *display, char *text, size_t room, int width) {
    static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int cells = width - 8 > 60 ? 60 : width - 8;
    double share = display->step.steps ? (double)display->step.step / (double)display->step.steps : 0;
    share = share > 1 ? 1 : share;
    int eighths = cells > 0 ? (int)(share * cells * 8) : 0;
    size_t at = 0;
    for (int i = 0; i < cells && at + 8 < room; i++) {
        const char *part = i < eighths / 8 ? "█" : i == eighths / 8 && eighths % 8 ? parts[eighths % 8] : "·";
        at += (size_t)snprintf(text + at, room - at, "%s", part);
    }
    snprintf(text + at, room - at, " %3.0f %%", 100 * share);
}

/* Experts of a layer that compute: null ones, the last, have no load to even out. */
static int64_t computing_experts(const sgm_step_report *s, int64_t layer) {
    bool attention = sgm_routed_is_attention(s->attention_experts, layer);
    return sgm_routed_experts(s->experts, s->attention_experts, layer) - (attention ? 0 : s->null_experts);
}

/* A layer's experts as block characters: ▄ is the fair share, █ twice that or more, a dot a dead one. Where experts
 * outnumber the columns, neighbours share one and it shows their mean. */
static size_t strip(const double *load, int64_t experts, int cells, char *text, size_t room, int64_t *dead) {
    static const char *const levels[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double sum = 0;
    for (int64_t e = 0; e < experts; e++)
        sum += load[e];
    double fair = sum > 0 ? sum / (double)experts : 1;
    *dead = 0;
    for (int64_t e = 0; e < experts; e++)
        *dead += load[e] < 0.01 * fair;
    if (cells > experts)
        cells = (int)experts;
    size_t at = 0;
    for (int c = 0; c < cells && at + 4 < room; c++) {
        int64_t from = experts * c / cells, to = experts * (c + 1) / cells;
        double mean = 0;
        for (int64_t e = from; e < to; e++)
            mean += load[e] / (double)(to - from);
        int level = (int)(mean / fair * 4 - 0.5);
        level = level < 0 ? 0 : level > 7 ? 7 : level;
        at += (size_t)snprintf(text + at, room - at, "%s", mean < 0.01 * fair ? "·" : levels[level]);
    }
    return at;
}

static void draw(cli_display *display) {
    FILE *out = display->options.stream;
    int width = cli_terminal_width(out) - 1, height = cli_terminal_height(out);
    char text[2048];
    erase(display);
    progress_line(display, text, sizeof text, width);
    block_line(display, text, width);
    bar_line(display, text, sizeof text, width);
    block_line(display, text, width);
    if (display->has_eval) {
        snprintf(text, sizeof text, "held out, step %lld: %.3f bits per byte %s", (long long)display->eval_step,
                 display->bits_per_byte, display->eval_domains);
        block_line(display, text, width);
    }
    int64_t layers = display->step.layers, attention_experts = display->step.attention_experts;
    int64_t stride = sgm_routed_stride(display->step.experts, attention_experts);
    int64_t room = height - display->drawn - 3, shown = layers < room ? layers : room > 1 ? room - 1 : 0;
    for (int64_t i = 0; i < shown; i++) {
        /* when not all fit, the first, the last and evenly between */
        int64_t layer = shown == layers ? i : shown == 1 ? 0 : i * (layers - 1) / (shown - 1), dead;
        int64_t experts = computing_experts(&display->step, layer);
        int at = snprintf(text, sizeof text, "layer %2s k%-2lld ", cli_routed_label(attention_experts, layer).text,
                          (long long)display->experts_per_token[layer]);
        size_t end = (size_t)at;
        int cells = width - at - 9;
        end += strip(display->recent + layer * stride, experts, cells, text + end, sizeof text - end, &dead);
        if (dead)
            snprintf(text + end, sizeof text - end, " %lld dead", (long long)dead);
        block_line(display, text, width);
    }
    if (shown < layers) {
        snprintf(text, sizeof text, "(%lld of %lld layers fit)", (long long)shown, (long long)layers);
        block_line(display, text, width);
    }
    fflush(out);
    display->last_draw = cli_now();
}

/* ---- events --------------------------------------------------------------------------------------------------- */

static bool take_arrays(cli_display *display, const sgm_step_report *report) {
    size_t layers = (size_t)report->layers;
    size_t cells = layers * (size_t)sgm_routed_stride(report->experts, report->attention_experts);
    if (!display->recent) {
        display->experts_per_token = calloc(layers, sizeof *display->experts_per_token);
        display->load[0] = calloc(cells, sizeof **display->load);
        display->load[1] = calloc(cells, sizeof **display->load);
        display->recent = calloc(cells, sizeof *display->recent);
    }
    if (!display->experts_per_token || !display->load[0] || !display->load[1] || !display->recent)
        return false;
    if (display->load_steps[0] == LOAD_WINDOW) {
        int64_t *oldest = display->load[1];
        display->load[1] = display->load[0];
        display->load[0] = oldest;
        memset(oldest, 0, cells * sizeof *oldest);
        display->load_steps[1] = LOAD_WINDOW;
        display->load_steps[0] = 0;
    }
    bool other = false; /* k: loads of before are of another routing */
    for (size_t i = 0; i < layers && report->experts_per_token; i++)
        other =
            other || (display->experts_per_token[i] && display->experts_per_token[i] != report->experts_per_token[i]);
    for (int bucket = 0; other && bucket < 2; bucket++) {
        memset(display->load[bucket], 0, cells * sizeof **display->load);
        display->load_steps[bucket] = 0;
    }
    for (size_t i = 0; i < layers; i++)
        display->experts_per_token[i] = report->experts_per_token ? report->experts_per_token[i] : 0;
    for (size_t i = 0; report->load && i < cells; i++) {
        display->load[0][i] += report->load[i];
        display->recent[i] = 0.9 * display->recent[i] + 0.1 * (double)report->load[i];
    }
    display->load_steps[0]++;
    return true;
}

/* A number that is none has a sign too, which says nothing. */
static double shown(double value) {
    return isnan(value) ? fabs(value) : value;
}

static void plain_step(cli_display *display) {
    const sgm_step_report *s = &display->step;
    int64_t every = display->options.line_every;
    if (every == 0)
        every = s->steps / 50 > 1 ? s->steps / 50 : 1;
    if (display->options.quiet || (s->step % every != 0 && s->step != s->steps && s->step != display->first_step))
        return;
    int64_t dead = 0, all = 0; /* in this one step */
    for (int64_t l = 0; l < s->layers; l++) {
        int64_t experts = computing_experts(s, l), sum = 0;
        const int64_t *load = s->load ? s->load + l * sgm_routed_stride(s->experts, s->attention_experts) : NULL;
        all += experts;
        for (int64_t e = 0; load && e < experts; e++)
            sum += load[e];
        for (int64_t e = 0; load && e < experts; e++)
            dead += (double)load[e] < 0.01 * (double)sum / (double)experts;
    }
    FILE *out = display->options.stream;
    fprintf(out, "step %lld/%lld  loss %.4f  balance %.4f  grad %.3f  lr %.2e  %s tokens/s", (long long)s->step,
            (long long)s->steps, shown(s->loss_nats_per_token), shown(s->balance_loss), shown(s->gradient_norm),
            s->learning_rate, cli_grouped((int64_t)s->tokens_per_second).text);
    if (isfinite(s->peak_share))
        fprintf(out, "  peak %.0f %%", 100 * s->peak_share);
    fprintf(out, "  left %s  idle %lld of %lld experts\n", cli_duration_label(s->seconds_left).text, (long long)dead,
            (long long)all);
    fflush(out);
}

static void on_step(void *context, const sgm_step_report *report) {
    cli_display *display = context;
    double loss = report->loss_nats_per_token;
    if (display->first_step < 0)
        display->first_step = report->step;
    display->step = *report;
    if (isfinite(loss))
        display->smooth_loss = display->has_step ? 0.9 * display->smooth_loss + 0.1 * loss : loss;
    display->has_step = true;
    display->skipped += report->skipped;
    if (!take_arrays(display, report)) { /* no memory for the strips: lines still work */
        display->live = false;
        free(display->recent);
        display->recent = NULL;
    }
    if (!display->live)
        plain_step(display);
    display->step.load = NULL; /* lent until the next step only */
    display->step.probability = NULL;
    display->step.experts_per_token = NULL;
    if (display->live && (cli_now() - display->last_draw >= REDRAW_SECONDS || report->step == report->steps))
        draw(display);
}

/* A line that stays: above the block on a terminal. */
static void lasting_line(cli_display *display, char *text) {
    if (display->live)
        erase(display);
    fprintf(display->options.stream, "%s\n", cli_clean(text));
    if (display->live && display->has_step)
        draw(display);
    fflush(display->options.stream);
}

static void on_eval(void *context, const sgm_eval_report *report) {
    cli_display *display = context;
    display->has_eval = true;
    display->eval_step = report->step;
    display->bits_per_byte = report->bits_per_byte;
    display->perplexity = report->perplexity;
    size_t at = 0;
    display->eval_domains[0] = 0;
    for (size_t d = 0; d < report->domains && at + 1 < sizeof display->eval_domains; d++)
        if (report->domain_bytes[d] > 0) {
            int size = snprintf(display->eval_domains + at, sizeof display->eval_domains - at, "%s%s %.3f",
                                at ? ", " : "(", report->domain[d], report->domain_bits_per_byte[d]);
            at += (size_t)size;
        }
    if (at && at + 2 < sizeof display->eval_domains)
        memcpy(display->eval_domains + at, ")", 2);
    char text[768];
    snprintf(text, sizeof text, "eval at step %lld: %.4f bits per byte, perplexity %.2f %s", (long long)report->step,
             report->bits_per_byte, report->perplexity, display->eval_domains);
    lasting_line(display, text);
}

static void on_checkpoint(void *context, int64_t step, const char *folder) {
    cli_display *display = context;
    char text[4352];
    if (display->options.quiet || step == 0) /* the untrained one is no news */
        return;
    snprintf(text, sizeof text, "saved step %lld: %s", (long long)step, folder);
    lasting_line(display, text);
}

static void on_note(void *context, const char *note) {
    cli_display *display = context;
    char text[1024];
    snprintf(text, sizeof text, "note: %s", note);
    lasting_line(display, text);
}

void cli_display_events(cli_display *display, sgm_trainer_events *events) {
    *events = (sgm_trainer_events){display, on_step, on_eval, on_checkpoint, on_note};
}

/* ---- before and after ----------------------------------------------------------------------------------------- */

void cli_display_banner(cli_display *display, const sgm_trainer_plan *plan, const char *run) {
    FILE *out = display->options.stream;
    display->begin_step = plan->step;
    display->steps = plan->steps;
    display->begin_tokens = plan->step * plan->tokens_per_step;
    if (display->options.quiet)
        return;
    fprintf(out, "run         %s\n", run);
    fprintf(out, "model       %s parameters, %s active per token, router %s\n",
            cli_count_label((double)plan->total_parameters).text, cli_count_label((double)plan->active_parameters).text,
            plan->router);
    fprintf(out, "balance     %s; sparsity %s\n", plan->balance, plan->sparsity);
    fprintf(out, "data        %s of text: %s tokens to train on, %s held out\n",
            cli_bytes_label((double)plan->corpus_bytes).text, cli_grouped(plan->train_tokens).text,
            cli_grouped(plan->heldout_tokens).text);
    double tokens = (double)plan->steps * (double)plan->tokens_per_step;
    double times = plan->train_tokens > 0 ? tokens / (double)plan->train_tokens : 0.0;
    fprintf(out, "training    %s of %s (%lld micro-batch%s): %s tokens, %.*f times the text\n",
            cli_counted(plan->steps, "step").text, cli_counted(plan->tokens_per_step, "token").text,
            (long long)plan->micro_batches, plan->micro_batches == 1 ? "" : "es", cli_count_label(tokens).text,
            times < 0.1 ? 4 : 1, times);
    fprintf(out, "optimizer   %s, schedule %s\n", plan->optimizer, plan->schedule);
    fprintf(out, "machine     %s, kernels %s, %s of memory, %sFLOP per token\n",
            cli_counted(plan->threads, "thread").text, plan->kernels, cli_bytes_label((double)plan->memory_bytes).text,
            cli_count_label(plan->flops_per_token).text);
    fprintf(out, "\n");
    fflush(out);
    display->started = cli_now();
}

void cli_display_close(cli_display *display) {
    display->seconds = cli_now() - display->started;
    if (display->live)
        erase(display);
    display->live = false;
}

typedef struct layer_load {
    int64_t dead;
    double least, most; /* over the mean */
    int64_t steps;
} layer_load;

static layer_load recent_load(const cli_display *display, int64_t layer) {
    layer_load r = {0, 0, 0, display->load_steps[0] + display->load_steps[1]};
    const sgm_step_report *s = &display->step;
    int64_t experts = computing_experts(s, layer);
    int64_t at = layer * sgm_routed_stride(s->experts, s->attention_experts), sum = 0, least = INT64_MAX, most = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t e = 0; e < experts; e++) {
            int64_t load = display->load[0][at + e] + display->load[1][at + e];
            if (pass == 0) {
                sum += load;
                least = load < least ? load : least;
                most = load > most ? load : most;
            } else {
                r.dead += (double)load < 0.01 * (double)sum / (double)experts;
            }
        }
    if (sum > 0) {
        r.least = (double)least * (double)experts / (double)sum;
        r.most = (double)most * (double)experts / (double)sum;
    }
    return r;
}

void cli_display_summary(cli_display *display, const char *run, bool interrupted) {
    FILE *out = display->options.stream;
    if (!display->has_step) {
        fprintf(out, "%s: %s at step %s of %s\n", run, interrupted ? "interrupted" : "nothing left to train",
                cli_grouped(display->begin_step).text, cli_grouped(display->steps).text);
        if (interrupted)
            fprintf(out, "go on with: sigmoe train --resume %s\n", run);
        return;
    }
    const sgm_step_report *s = &display->step;
    if (display->recent) {
        fprintf(out, "\nload over the last %s\nlayer  k  experts  dead  min/mean  max/mean\n",
                cli_counted(display->load_steps[0] + display->load_steps[1], "step").text);
        for (int64_t l = 0; l < s->layers; l++) {
            layer_load r = recent_load(display, l);
            fprintf(out, "%5s %2lld  %7lld  %4lld  %8.2f  %8.2f\n", cli_routed_label(s->attention_experts, l).text,
                    (long long)display->experts_per_token[l], (long long)computing_experts(s, l), (long long)r.dead,
                    r.least, r.most);
        }
        if (s->null_experts > 0)
            fprintf(out, "without the %s of each layer, which have no load to even out\n",
                    cli_counted(s->null_experts, "null expert").text);
    }
    fprintf(out, "\n%s at step %s of %s: %s, %s in this session", interrupted ? "interrupted" : "done",
            cli_grouped(s->step).text, cli_grouped(s->steps).text, cli_counted(s->tokens, "token").text,
            cli_duration_label(display->seconds).text);
    if (display->skipped)
        fprintf(out, ", %s skipped", cli_counted(display->skipped, "step").text);
    fprintf(out, "\n");
    if (display->has_eval)
        fprintf(out, "held out at step %lld: %.4f bits per byte\n", (long long)display->eval_step,
                display->bits_per_byte);
    fprintf(out, "report: %s/report.html\n", run);
    if (interrupted)
        fprintf(out, "go on with: sigmoe train --resume %s\n", run);
}

json_t *cli_display_json(const cli_display *display, const char *run, bool interrupted) {
    const sgm_step_report *s = &display->step;
    json_t *layers = json_array();
    for (int64_t l = 0; display->recent && l < s->layers; l++) {
        layer_load r = recent_load(display, l);
        json_t *layer = cli_routed_json(s->attention_experts, l);
        json_object_set_new(layer, "experts_per_token", json_integer(display->experts_per_token[l]));
        json_object_set_new(layer, "dead_experts", json_integer(r.dead));
        json_object_set_new(layer, "min_over_mean", cli_json_real(r.least));
        json_object_set_new(layer, "max_over_mean", cli_json_real(r.most));
        json_array_append_new(layers, layer);
    }
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:f, s:o, s:o, s:I, s:o}", "run", run, "interrupted", interrupted,
                     "step", (json_int_t)(display->has_step ? s->step : display->begin_step), "steps",
                     (json_int_t)(display->has_step ? s->steps : display->steps), "tokens",
                     (json_int_t)(display->has_step ? s->tokens : display->begin_tokens), "seconds", display->seconds,
                     "loss_nats_per_token", display->has_step ? cli_json_real(s->loss_nats_per_token) : json_null(),
                     "bits_per_byte", display->has_eval ? cli_json_real(display->bits_per_byte) : json_null(),
                     "skipped_steps", (json_int_t)display->skipped, "layers", layers);
}
