// SPDX-License-Identifier: Apache-2.0
/* Recipes and what turns packages into text. Nothing is downloaded here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/process.h"
#include "data/recipe.h"
#include "data/strip.h"

static void stripped_is(sgm_strip strip, const char *markup, const char *expected) {
    sgm_buffer out = {0};
    assert_int_equal(strip(markup, strlen(markup), &out), SGM_OK);
    assert_string_equal(out.data ? out.data : "", expected);
    sgm_buffer_free(&out);
}

static void html_becomes_text(void **state) {
    (void)state;
    stripped_is(sgm_strip_html,
                "<html><head><title>no</title></head><body><h1>One</h1>\n<p>a  <b>bold</b>\nword&nbsp;x</p></body>",
                "One\n\na bold word x\n");
    stripped_is(sgm_strip_html, "1 &lt; 2 &amp;&amp; &#233;&#x4E2D; &unknown; &",
                "1 < 2 && \xC3\xA9\xE4\xB8\xAD &unknown; &\n");
    stripped_is(sgm_strip_html, "<pre>a\n  b\n</pre><ul><li>x<li>y</ul>", "a\n  b\n\nx\ny\n");
    stripped_is(sgm_strip_html, "a<script>if (1 < 2) {}</script>b<!-- <p> -->c<br/>d", "abc\nd\n");
    stripped_is(sgm_strip_html, "<!DOCTYPE html><p", "");
    stripped_is(sgm_strip_html, "cut <script> never closed", "cut\n");
    stripped_is(sgm_strip_html, "<", "");
    stripped_is(sgm_strip_html, "", "");
}

static void roff_becomes_text(void **state) {
    (void)state;
    stripped_is(sgm_strip_roff,
                ".\\\" a comment\n.TH LS 1\n.SH NAME\nls \\- list\n.SH SYNOPSIS\n.B ls\n.RI [ OPTION ]...\n.PP\nIt "
                "\\fBlists\\fR\nfiles.\n",
                "NAME\nls - list\n\nSYNOPSIS\nls [OPTION]...\n\nIt lists files.\n");
    stripped_is(sgm_strip_roff, ".nf\na\n  b\n.fi\nc\nd\n", "a\n  b\nc d\n");
    stripped_is(sgm_strip_roff, ".BR printf (3)\n.TS\nl l.\nx\n.TE\n\\(lqhi\\(rq \\s-1X\\s0 \\e n",
                "printf(3) \xE2\x80\x9Chi\xE2\x80\x9D X \\ n\n");
    stripped_is(sgm_strip_roff, "\\", "\\\n");
    stripped_is(sgm_strip_roff, ".B \"", "");
    stripped_is(sgm_strip_roff, "x\\f", "x\n");
    stripped_is(sgm_strip_roff, "x\\f[", "x\n");
}

#define HEAD "- domain: docs\n  package: p\n  version: 1\n  sha256: x\n  licence: MIT\n"

static void recipes_are_checked(void **state) {
    (void)state;
    sgm_recipe recipe;
    sgm_error error;
    static const char good[] = HEAD "  strip: html\n  files: [usr/share/, \"a/*.txt\"]\n";
    assert_int_equal(sgm_recipe_parse(good, sizeof good - 1, "r.yaml", &recipe, &error), SGM_OK);
    assert_int_equal(recipe.count, 1);
    assert_string_equal(recipe.packages[0].domain, "docs");
    assert_int_equal(recipe.packages[0].files.count, 2);
    assert_string_equal(recipe.packages[0].files.items[1], "a/*.txt");
    sgm_recipe_free(&recipe);
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        {"", "line 1"},
        {"[]", "no packages"},
        {"a: b", "list of packages"},
        {"- x", "line 1"},
        {"- [", "not YAML"},
        {"- domain: docs\n  package: p\n", "needs domain"},
        {HEAD "  files: [a]\n  colour: red\n", "colour"},
        {HEAD "  files: a\n", "list"},
        {HEAD "  files: [[a]]\n", "texts"},
        {HEAD "  files: [../../etc/passwd]\n", "within the package"},
        {HEAD "  files: [/etc/passwd]\n", "within the package"},
        {HEAD "  files: [a]\n  run: [b]\n", "either files or run"},
        {HEAD, "either files or run"},
        {HEAD "  run: [../bin/sh]\n", "within the package"},
        {HEAD "  files: [a]\n  strip: latex\n", "latex"},
        {HEAD "  files: [a]\n  also: -oX\n", "Debian package"},
        {HEAD "  files: [a]\n" HEAD "  files: [a]\n", "twice"},
        {HEAD "  files: [a]\n  files: [a]\n", "second time"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(sgm_recipe_parse(bad[i].yaml, strlen(bad[i].yaml), "r.yaml", &recipe, &error), SGM_EFORMAT);
        if (!strstr(error.message, bad[i].says))
            fail_msg("\"%s\" does not say \"%s\"", error.message, bad[i].says);
    }
}

static void the_shipped_recipe_is_good(void **state) {
    (void)state;
    char *yaml;
    size_t size;
    sgm_recipe recipe;
    sgm_error error;
    assert_int_equal(sgm_file_read(SGM_SOURCE_DIR "/data/recipe.yaml", 1 << 20, &yaml, &size, NULL), SGM_OK);
    assert_int_equal(sgm_recipe_parse(yaml, size, "recipe.yaml", &recipe, &error), SGM_OK);
    for (size_t i = 0; i < recipe.count; i++)
        assert_int_equal(strlen(recipe.packages[i].sha256), 64);
    sgm_recipe_free(&recipe);
    sgm_free(yaml);
}

static void programs_run_or_say_why(void **state) {
    (void)state;
    char root[] = "/tmp/sgm-recipe-XXXXXX", out[64], log[64], *text;
    size_t size;
    sgm_error error;
    assert_non_null(mkdtemp(root));
    snprintf(out, sizeof out, "%s/out", root);
    snprintf(log, sizeof log, "%s/log", root);
    const char *pwd[] = {"pwd", NULL}, *none[] = {"sigmoe-no-such-program", NULL};
    const char *failing[] = {"ls", "no-such-file-here", NULL};
    assert_int_equal(sgm_process_run(pwd, root, out, log, &error), SGM_OK);
    assert_int_equal(sgm_file_read(out, 4096, &text, &size, NULL), SGM_OK);
    assert_memory_equal(text, root, strlen(root));
    sgm_free(text);
    assert_int_equal(sgm_process_run(none, NULL, NULL, NULL, &error), SGM_EUNSUPPORTED);
    assert_int_equal(sgm_process_run(failing, NULL, NULL, log, &error), SGM_EIO);
    assert_non_null(strstr(error.message, "no-such-file-here"));
    sgm_data_source *sources;
    size_t found;
    assert_int_equal(sgm_data_recipe_fetch("absent.yaml", out, &sources, &found, NULL, NULL, NULL, &error),
                     SGM_ENOTFOUND);
    assert_int_equal(
        sgm_data_recipe_fetch(SGM_SOURCE_DIR "/data/recipe.yaml", root, &sources, &found, NULL, NULL, NULL, &error),
        SGM_EEXISTS);
    assert_int_equal(sgm_folder_remove(root, NULL), SGM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(html_becomes_text),       cmocka_unit_test(roff_becomes_text),
        cmocka_unit_test(recipes_are_checked),     cmocka_unit_test(the_shipped_recipe_is_good),
        cmocka_unit_test(programs_run_or_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
