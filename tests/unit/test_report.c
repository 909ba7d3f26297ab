// SPDX-License-Identifier: Apache-2.0
/* The report: what is read from run.sqlite, against values worked by hand; what may not get onto the page. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <sqlite3.h>

#include "base/file.h"
#include "locale_helper.h"
#include "sigmoe/train.h"
#include "train/report.h"
#include "train/run_log.h"

typedef struct fixture {
    char folder[64];
    char *log;
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->folder, "/tmp/sigmoe-report-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    f->log = sgm_path_join(f->folder, "run.sqlite");
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    sgm_folder_remove(f->folder, NULL);
    sgm_free(f->log);
    free(f);
    return 0;
}

/* Two layers of four experts. Layer 0 gives everything to its experts 0 and 1; layer 1 is even. */
static void write_run(const char *path, int steps) {
    sgm_run_log *log = NULL;
    assert_int_equal(sgm_run_log_open(path, 2, 4, &log, NULL), SGM_OK);
    for (int s = 1; s <= steps; s++) {
        int64_t uneven[4] = {60, 40, 0, 0}, even[4] = {25, 25, 25, 25}, k[2] = {2, 1};
        double p[4] = {25, 25, 25, 25};
        sgm_load load[2] = {{100, 4, 0, uneven, p, 100, true, 0, 100}, {100, 4, 0, even, p, 100, true, 0, 100}};
        sgm_run_log_step step = {s, 100 * s, s == 2 ? NAN : 3.0 / s, 0.001, 1, 0.01, 0.5, s == 2};
        assert_int_equal(sgm_run_log_add(log, &step, load, k, NULL), SGM_OK);
    }
    assert_int_equal(sgm_run_log_eval(log, steps, "", 10, 40, 2.5, 1.25, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_eval(log, steps, "prose", 10, 40, 2.5, 1.5, NULL), SGM_OK);
    const char text[] = "<script>a & b</script>\xff\x1b[31m";
    assert_int_equal(sgm_run_log_sample(log, steps, "x<y", text, sizeof text - 1, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_close(log, NULL), SGM_OK);
}

static void execute(const char *path, const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_reads_what_was_logged(void **state) {
    fixture *f = *state;
    write_run(f->log, 4);
    sgm_report_data data;
    assert_int_equal(sgm_report_read(f->log, 0, &data, NULL), SGM_OK);
    assert_int_equal(data.steps, 4);
    assert_float_equal(data.loss[0], 3.0, 1e-12);
    assert_true(isnan(data.loss[1]));
    assert_float_equal(data.tokens, 400, 0);
    assert_float_equal(data.seconds, 2, 1e-12);
    assert_float_equal(data.skipped, 1, 0);
    assert_float_equal(data.tokens_per_second[3], 200, 1e-9);
    assert_int_equal(data.eval_series, 2);
    assert_string_equal(data.evals[0].domain, "");
    assert_float_equal(data.evals[1].bits_per_byte[0], 1.5, 1e-12);
    assert_int_equal(data.layers, 2);
    assert_int_equal(data.experts, 4);
    assert_int_equal(data.snapshots, 4);
    const double *share = data.snapshot[3].share;
    assert_float_equal(share[0], 2.4, 1e-12); /* 60 of 100, four experts */
    assert_float_equal(share[1], 1.6, 1e-12);
    assert_float_equal(share[2], 0, 0);
    assert_float_equal(share[5], 1, 1e-12);
    assert_float_equal(data.dead[3], 2, 0);
    assert_float_equal(data.dead[4 + 3], 0, 0);
    assert_float_equal(data.experts_per_token[0], 2, 0);
    assert_int_equal(data.samples, 1);
    sgm_report_data_free(&data);
}

static char *page_of(const fixture *f, size_t *size) {
    char *out = sgm_path_join(f->folder, "report.html"), *page = NULL;
    sgm_error error = {0};
    if (sgm_report_write(f->folder, NULL, &error))
        fail_msg("%s", error.message);
    assert_int_equal(sgm_file_read(out, 1 << 24, &page, size, NULL), SGM_OK);
    sgm_free(out);
    return page;
}

/* A picture needs no style sheet: colours are what they are on a light page, and text is made safe. What is no colour stays. */
static void test_pictures_stand_alone(void **state) {
    (void)state;
    sgm_page page = {0};
    sgm_picture_begin(&page, 40, 30);
    sgm_picture_heading(&page, 1, 2, "a<b", "c&d");
    PUT(&page, "<path style=\"stroke:var(--c1)\"/><path style=\"stroke:var(--c11)\"/>var(--card)");
    sgm_picture_end(&page);
    assert_int_equal(page.status, SGM_OK);
    const char *text = page.buffer.data;
    assert_int_equal(strlen(text), page.buffer.size);
    assert_true(strncmp(text, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" height=\"30\"", 59) == 0);
    assert_non_null(strstr(text, "a&#60;b</text>"));
    assert_non_null(strstr(text, "c&#38;d</text>"));
    assert_non_null(strstr(text, "<path style=\"stroke:#d1622b\"/><path style=\"stroke:var(--c11)\"/>#fff</svg>\n"));
    assert_non_null(strstr(text, ".h8{fill:#8f2416}"));
    assert_non_null(strstr(text, ".s8{fill:#0e325a}")); /* the last of them */
    sgm_buffer_free(&page.buffer);
}

static void test_page_is_safe_and_whole(void **state) {
    fixture *f = *state;
    size_t size;
    write_run(f->log, 3);
    char *page = page_of(f, &size);
    assert_int_equal(strlen(page), size);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http:"));
    assert_null(strstr(page, "https:"));
    assert_null(strstr(page, "nan"));
    assert_null(strchr(page, 0x1b));
    assert_non_null(strstr(page, "&#60;script&#62;a &#38; b&#60;/script&#62;&#xfffd;&#xfffd;[31m"));
    assert_non_null(strstr(page, "x&#60;y"));
    assert_non_null(strstr(page, "</main></body></html>"));
    sgm_free(page);
}

/* A program that uses the library may have set a locale with a decimal comma: "424,0" is two numbers in a path. */
static void test_page_is_the_same_in_every_locale(void **state) {
    fixture *f = *state;
    size_t size, comma_size;
    write_run(f->log, 30);
    char *page = page_of(f, &size);
    set_comma_locale(f->folder);
    char *comma = page_of(f, &comma_size);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(comma, page);
    sgm_free(page);
    sgm_free(comma);
}

static void test_a_run_without_steps(void **state) {
    fixture *f = *state;
    sgm_run_log *log = NULL;
    size_t size;
    assert_int_equal(sgm_run_log_open(f->log, 2, 4, &log, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_close(log, NULL), SGM_OK);
    char *page = page_of(f, &size);
    assert_non_null(strstr(page, "Nothing yet"));
    sgm_free(page);
}

static void test_a_long_run_is_averaged(void **state) {
    fixture *f = *state;
    write_run(f->log, 2500);
    sgm_report_data data;
    assert_int_equal(sgm_report_read(f->log, 0, &data, NULL), SGM_OK);
    assert_int_equal(data.steps, 2000);
    assert_float_equal(data.step[1999], 2500, 0);
    assert_int_equal(data.buckets, SGM_REPORT_BUCKETS);
    for (size_t i = 0; i < data.buckets; i++) {
        assert_float_equal(data.dead[i], 2, 0); /* no bucket is empty */
        assert_true(i == 0 || data.bucket_step[i] > data.bucket_step[i - 1]);
    }
    assert_int_equal(data.snapshots, SGM_REPORT_SNAPSHOTS);
    assert_int_equal(data.snapshot[0].step, 1);
    assert_int_equal(data.snapshot[SGM_REPORT_SNAPSHOTS - 1].step, 2500);
    sgm_report_data_free(&data);
}

/* `layers` even ones. Measure `regret` of layer l at step s is s · (l + 1), the loss is 1 everywhere, `none` was never finite. */
static void write_balance(const char *path, int layers, int steps) {
    sgm_run_log *log = NULL;
    assert_int_equal(sgm_run_log_open(path, layers, 2, &log, NULL), SGM_OK);
    int64_t even[2] = {1, 1}, k[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    double p[2] = {1, 1};
    for (int s = 1; s <= steps; s++) {
        sgm_load load[8];
        for (int l = 0; l < layers; l++)
            load[l] = (sgm_load){.tokens = 2, .experts = 2, .count = even, .probability = p, .computed = 2};
        sgm_run_log_step step = {s, 2 * s, 1, 0, 1, 1, 1, false};
        assert_int_equal(sgm_run_log_add(log, &step, load, k, NULL), SGM_OK);
    }
    assert_int_equal(sgm_run_log_close(log, NULL), SGM_OK);
    execute(path, "INSERT INTO balance SELECT step, layer, 'a<b', 'mean_regret_nats', step * (layer + 1) FROM load;"
                  "INSERT INTO balance SELECT step, layer, 'a<b', 'value', 1 FROM load;"
                  "INSERT INTO balance SELECT step, layer, 'a<b', 'none', NULL FROM load");
}

/* Of all the text: its domains have other shares than in the evaluations before, so a line to it would bend for no reason. */
static void test_an_evaluation_of_other_text_is_no_point(void **state) {
    fixture *f = *state;
    sgm_report_data data;
    write_run(f->log, 4);
    execute(f->log, "INSERT INTO evals SELECT 3, domain, tokens, bytes, loss, 1.75 FROM evals;"
                    "UPDATE evals SET tokens = 25 WHERE step = 4");
    assert_int_equal(sgm_report_read(f->log, 0, &data, NULL), SGM_OK);
    assert_int_equal(data.evals[0].count, 1);
    assert_float_equal(data.evals[0].bits_per_byte[0], 1.75, 0);
    assert_float_equal(data.evals[0].last_bits_per_byte, 1.25, 0);
    assert_int_equal(data.evals[1].count, 2); /* more of one domain is still that domain */
    sgm_report_data_free(&data);
    size_t size;
    char *page = page_of(f, &size);
    assert_non_null(
        strstr(page, "The last evaluation of all, 1.250 bits per byte, is of 25 tokens, those of the curve of 10"));
    sgm_free(page);
}

static void test_what_balancers_measured(void **state) {
    fixture *f = *state;
    sgm_report_data data;
    write_balance(f->log, 5, 4);
    assert_int_equal(sgm_report_read(f->log, 0, &data, NULL), SGM_OK);
    assert_int_equal(data.measures, 2);
    assert_string_equal(data.measure[0].name, "value"); /* first, and one that was never a number is left out */
    const sgm_report_measure *m = &data.measure[1];
    assert_string_equal(m->name, "mean_regret_nats");
    assert_string_equal(m->balancer, "a<b");
    assert_int_equal(m->count, 4);
    assert_int_equal(m->lines, 3);
    assert_int_equal(m->layer[0], 0);
    assert_int_equal(m->layer[1], 2);
    assert_int_equal(m->layer[2], 4);
    for (int i = 0; i < 4; i++) {
        assert_float_equal(m->step[i], (float)(i + 1), 0);
        assert_float_equal(m->least[i], (float)(i + 1), 0);
        assert_float_equal(m->greatest[i], 5.0F * (float)(i + 1), 0);
        assert_float_equal(m->line[1][i], 3.0F * (float)(i + 1), 0);
    }
    sgm_report_data_free(&data);
    size_t size;
    char *page = page_of(f, &size);
    assert_non_null(strstr(page, "<b>unweighted loss</b><span>a&#60;b</span>"));
    assert_non_null(strstr(page, "<b>mean regret</b><span>a&#60;b, nats</span>"));
    assert_null(strstr(page, "a<b"));
    assert_null(strstr(page, "nan"));
    sgm_free(page);
}

static size_t balancers_section(const fixture *f) {
    size_t size;
    char *page = page_of(f, &size), *section = strstr(page, "What the balancers saw");
    char *end = section ? strstr(section, "<h2>") : NULL;
    assert_non_null(end);
    size = (size_t)(end - section);
    sgm_free(page);
    return size;
}

/* 1,000 steps are 160 buckets of 6.25: the last one holds steps 995 … 1,000, and of three layers none is left out.
 * The page is no longer than of 160 steps. */
static void test_balancers_of_a_long_run(void **state) {
    fixture *f = *state;
    sgm_report_data data;
    write_balance(f->log, 3, 1000);
    assert_int_equal(sgm_report_read(f->log, 0, &data, NULL), SGM_OK);
    const sgm_report_measure *m = &data.measure[1];
    assert_int_equal(m->count, SGM_REPORT_BUCKETS);
    assert_float_equal(m->step[SGM_REPORT_BUCKETS - 1], 1000, 0);
    assert_float_equal(m->least[SGM_REPORT_BUCKETS - 1], 997.5, 1e-9);
    assert_float_equal(m->greatest[SGM_REPORT_BUCKETS - 1], 3 * 997.5, 1e-9);
    for (size_t i = 0; i < m->count; i++)
        assert_true(isfinite(m->line[0][i]) && (i == 0 || m->step[i] > m->step[i - 1]));
    sgm_report_data_free(&data);
    size_t long_size = balancers_section(f);
    assert_int_equal(unlink(f->log), 0);
    write_balance(f->log, 3, SGM_REPORT_BUCKETS);
    assert_true(long_size < balancers_section(f) * 6 / 5);
}

/* The attentions' layers are those of even number; layer 1 of the model is 2 and 3 of the table. */
static void test_balancers_beside_attention_experts(void **state) {
    fixture *f = *state;
    sgm_report_data data;
    write_balance(f->log, 4, 2);
    execute(f->log,
            "CREATE TABLE routed_layers (layer INTEGER PRIMARY KEY, of_layer INTEGER, part TEXT, experts INTEGER);"
            "INSERT INTO routed_layers SELECT DISTINCT layer, layer / 2, '', 2 FROM load");
    assert_int_equal(sgm_report_read(f->log, 0, &data, NULL), SGM_OK);
    assert_int_equal(data.measures, 4);
    const sgm_report_measure *attention = &data.measure[2], *own = &data.measure[3];
    assert_true(attention->attention && !own->attention);
    assert_int_equal(own->lines, 2);
    assert_int_equal(own->layer[1], 1);
    assert_float_equal(attention->least[1], 2 * 1, 0);
    assert_float_equal(attention->greatest[1], 2 * 3, 0);
    assert_float_equal(own->line[0][1], 2 * 2, 0);
    assert_float_equal(own->line[1][1], 2 * 4, 0);
    sgm_report_data_free(&data);
    size_t size;
    char *page = page_of(f, &size);
    assert_non_null(strstr(page, "<b>mean regret</b><span>a&#60;b, nats, of the attentions</span>"));
    sgm_free(page);
}

/* Version 1 had no such table. */
static void test_a_run_without_the_balancers_table(void **state) {
    fixture *f = *state;
    size_t size;
    write_balance(f->log, 2, 3);
    execute(f->log, "DROP TABLE balance; PRAGMA user_version=1");
    char *page = page_of(f, &size);
    assert_null(strstr(page, "What the balancers saw"));
    sgm_free(page);
}

/* The last two of layer 0's experts are null and took nothing: they are not dead, and of the two others 60 and 40 of 100 are
 * 1.2 and 0.8 of the fair share. Layer 1's have 25 of 50 each. */
static void test_null_experts_are_left_out(void **state) {
    fixture *f = *state;
    sgm_report_data data;
    write_run(f->log, 4);
    assert_int_equal(sgm_report_read(f->log, 2, &data, NULL), SGM_OK);
    assert_int_equal(data.experts, 2);
    const double *share = data.snapshot[3].share;
    assert_float_equal(share[0], 1.2, 1e-12);
    assert_float_equal(share[1], 0.8, 1e-12);
    assert_float_equal(share[2], 1, 1e-12);
    sgm_report_data_free(&data);
    size_t size;
    char *config = sgm_path_join(f->folder, "config.yaml"), *page = page_of(f, &size);
    assert_non_null(strstr(page, "<b>2</b><span>of 8 experts dead"));
    sgm_free(page);
    const char yaml[] = "model:\n  experts: 4\n  null_experts: 2\n";
    assert_int_equal(sgm_file_write(config, yaml, strlen(yaml), NULL), SGM_OK);
    page = page_of(f, &size);
    assert_non_null(strstr(page, "<b>0</b><span>of 4 experts dead"));
    assert_non_null(strstr(page, "2 experts, and 2 null ones"));
    sgm_free(page);
    sgm_free(config);
}

static void test_errors(void **state) {
    fixture *f = *state;
    sgm_error error = {0};
    assert_int_equal(sgm_report_write(f->folder, NULL, &error), SGM_ENOTFOUND);
    assert_non_null(strstr(error.message, f->folder));
    assert_int_equal(sgm_file_write(f->log, "a sentence, not a database, and long enough to be one", 53, NULL), SGM_OK);
    assert_int_equal(sgm_report_write(f->folder, NULL, &error), SGM_EFORMAT);
}

static void test_replaces_nothing_but_a_page(void **state) {
    fixture *f = *state;
    sgm_error error = {0};
    char *text = NULL, *page = sgm_path_join(f->folder, "page.HTML");
    size_t size;
    write_run(f->log, 3);
    assert_int_equal(sgm_report_write(f->folder, f->log, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, f->log));
    assert_true(error.hint[0]);
    assert_int_equal(sgm_file_read(f->log, 1 << 24, &text, &size, NULL), SGM_OK);
    assert_memory_equal(text, "SQLite format 3", 15);
    sgm_free(text);
    assert_int_equal(sgm_report_write(f->folder, page, &error), SGM_OK);
    assert_int_equal(sgm_report_write(f->folder, page, &error), SGM_OK);
    sgm_free(page);
}

/* An archive that only root could write to, or a medium that nobody can. */
static void test_a_folder_that_cannot_be_written(void **state) {
    fixture *f = *state;
    sgm_report_data data;
    sgm_error error = {0};
    char odd[96], wal[112];
    snprintf(odd, sizeof odd, "%s/a 100%%?b#c.sqlite", f->folder); /* none of this may be taken for a part of a URI */
    snprintf(wal, sizeof wal, "%s-wal", odd);
    write_run(odd, 3);
    assert_int_equal(chmod(odd, 0444), 0);
    assert_int_equal(chmod(f->folder, 0555), 0);
    bool root = geteuid() == 0;
    assert_true(!root || seteuid(65534) == 0);
    sgm_status status = sgm_report_read(odd, 0, &data, &error);
    assert_true(!root || seteuid(0) == 0);
    assert_int_equal(chmod(f->folder, 0755), 0);
    if (status)
        fail_msg("%s", error.message);
    assert_int_equal(data.steps, 3);
    sgm_report_data_free(&data);

    /* Rows that are in the log of the database alone would be missing on the page: refused. */
    assert_int_equal(sgm_file_write(wal, "rows", 4, NULL), SGM_OK);
    assert_int_equal(chmod(f->folder, 0555), 0);
    assert_true(!root || seteuid(65534) == 0);
    status = sgm_report_read(odd, 0, &data, &error);
    assert_true(!root || seteuid(0) == 0);
    assert_int_equal(chmod(f->folder, 0755), 0);
    assert_int_equal(status, SGM_EIO);
    assert_non_null(strstr(error.hint, "copy"));
}

static void test_numbers_that_are_none(void **state) {
    fixture *f = *state;
    static const char *const edits[] = {
        "UPDATE load SET dead_experts=9e999, experts_per_token=9e999, entropy_over_log_e=9e999 WHERE step=2",
        "UPDATE load SET probability_entropy_over_log_e=-9e999, max_over_mean=9e999 WHERE step=2",
        "UPDATE load SET entropy_over_log_e=1.7e308, probability_entropy_over_log_e=-1.7e308 WHERE step=3",
        "UPDATE load SET entropy_over_log_e=CASE step WHEN 4 THEN -1.7e308 ELSE 1.7e308 END",
        "UPDATE load SET dead_experts=-9e999, experts_per_token=9e999, entropy_over_log_e=9e999",
        "UPDATE load SET experts_per_token=1.7e308, dead_experts=-1.7e308",
        "UPDATE load SET step=9e999 WHERE step=4",
        "UPDATE load SET step=-9e999 WHERE step=1",
        "UPDATE steps SET step=9223372036854775807 WHERE step=5",
        "UPDATE steps SET loss=1.7e308, gradient_norm=1e-320",
        "UPDATE steps SET loss=9e999, gradient_norm=1.7e308, seconds=9e999, tokens=9e999 WHERE step=2",
        "UPDATE steps SET loss=-1.7e308, learning_rate=1.7e308 WHERE step=3",
        "UPDATE evals SET step=9e999, loss=-9e999 WHERE domain=''",
        "INSERT INTO balance SELECT step, layer, 'b', 'm', CASE step WHEN 3 THEN -1.7e308 ELSE 9e999 END FROM load",
        "INSERT INTO balance SELECT step * 9e18, layer, 'b', 'm', step FROM load",
        "INSERT INTO balance SELECT step, layer - 5, NULLIF(1, 2), 'm', step FROM load",
        "INSERT INTO balance SELECT CASE step WHEN 1 THEN -9e999 ELSE step END, layer, 'b', 'm', step FROM load",
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        size_t size;
        write_run(f->log, 5);
        execute(f->log, edits[i]);
        char *page = page_of(f, &size);
        if (strstr(page, "nan") || strstr(page, "inf"))
            fail_msg("%s: %.200s", edits[i], strstr(page, strstr(page, "nan") ? "nan" : "inf") - 60);
        sgm_free(page);
        assert_int_equal(unlink(f->log), 0);
    }
}

static void test_ticks(void **state) {
    (void)state;
    double t[12];
    assert_int_equal(sgm_svg_ticks(0, 10, 5, t), 6);
    assert_float_equal(t[5], 10, 1e-12);
    assert_int_equal(sgm_svg_ticks(-1, 1, 4, t), 5);
    assert_float_equal(t[1], -0.5, 1e-12);
    assert_int_equal(sgm_svg_ticks(3, 3, 5, t), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_what_was_logged, set_up, tear_down),
        cmocka_unit_test(test_pictures_stand_alone),
        cmocka_unit_test_setup_teardown(test_page_is_safe_and_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_page_is_the_same_in_every_locale, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_run_without_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_run_is_averaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_balancers_measured, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_evaluation_of_other_text_is_no_point, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_balancers_of_a_long_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_balancers_beside_attention_experts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_run_without_the_balancers_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_null_experts_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replaces_nothing_but_a_page, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_folder_that_cannot_be_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_that_are_none, set_up, tear_down),
        cmocka_unit_test(test_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
