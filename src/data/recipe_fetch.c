// SPDX-License-Identifier: Apache-2.0
/* Fetching a recipe: each Debian package is downloaded, checked, unpacked, stripped to text, and thrown away again.
 *
 * The result has the layout of the shipped corpus (corpus/DOMAIN/PACKAGE.txt, licences/PACKAGE.txt) and recipe.json,
 * which records what was really taken. A version that moved is told and recorded there as drift, not an error: security
 * updates replace packages. Work is done in FOLDER.fetching, which is locked, and renamed at the end. */
#include <fnmatch.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "data/documents.h"
#include "data/process.h"
#include "data/recipe.h"
#include "data/strip.h"

enum { DEEPEST_FOLDER = 32, RECIPE_BYTES_MOST = 1 << 20 };

typedef struct fetch_state {
    const sgm_recipe_package *package;
    char *work, *temp, *unpacked, *log; /* paths */
    sgm_writer *out;
    sgm_buffer text;
    uint64_t documents, files;
    json_t *warnings;
    bool failed; /* there was no memory for a fact or a warning of the record */
    void (*progress)(void *context, const char *what, double share);
    void (*warning)(void *context, const char *text);
    void *context; /* of both */
} fetch_state;

static sgm_status out_of_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to fetch the recipe");
}

/* ---- text of the files ----------------------------------------------------------------------------------------- */

static sgm_status add_document(void *context, const char *text, size_t size, sgm_error *error) {
    static const char separator[] = SGM_DOCUMENT_SEPARATOR "\n";
    fetch_state *state = context;
    sgm_status status = SGM_OK;
    if (state->documents++)
        status = sgm_writer_add(state->out, separator, sizeof separator - 1, error);
    if (status == SGM_OK)
        status = sgm_writer_add(state->out, text, size, error);
    if (status == SGM_OK && text[size - 1] != '\n')
        status = sgm_writer_add(state->out, "\n", 1, error);
    return status;
}

/* Strip one plain file and add its documents. */
static sgm_status add_text(fetch_state *state, const char *path, sgm_error *error) {
    const char *kind = state->package->strip ? state->package->strip : "text";
    sgm_strip strip = strcmp(kind, "html") == 0   ? sgm_strip_html
                      : strcmp(kind, "roff") == 0 ? sgm_strip_roff
                                                  : sgm_strip_none;
    sgm_mapping mapping;
    sgm_status status = sgm_map_open(path, &mapping, error);
    if (status != SGM_OK)
        return status;
    state->text.size = 0;
    size_t probe = mapping.size < 8192 ? mapping.size : 8192;
    bool binary = probe && memchr(mapping.data, '\0', probe);
    if (!binary && strip((const char *)mapping.data, mapping.size, &state->text) != SGM_OK)
        status = out_of_memory(error);
    sgm_map_close(&mapping);
    if (status != SGM_OK || binary || state->text.size == 0)
        return status; /* patterns may well match a picture: it is no text, so it is left out */
    state->files++;
    sgm_source_visitor visitor = {.context = state, .document = add_document};
    return sgm_text_visit(state->text.data, state->text.size, state->package->split, &visitor, error);
}

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && strcmp(text + length - tail, ending) == 0;
}

static sgm_status add_file(fetch_state *state, const char *path, sgm_error *error) {
    struct stat facts;
    if (lstat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) /* links in a package may point anywhere */
        return SGM_OK;
    if (!ends_with(path, ".gz") && !ends_with(path, ".dz"))
        return add_text(state, path, error);
    char *plain = sgm_format("%s/plain", state->temp);
    if (!plain)
        return out_of_memory(error);
    const char *argv[] = {"gzip", "-dc", "-S", ".dz", path, NULL};
    if (ends_with(path, ".gz"))
        argv[3] = ".gz";
    sgm_status status = sgm_process_run(argv, NULL, plain, state->log, error);
    if (status == SGM_OK)
        status = add_text(state, plain, error);
    unlink(plain);
    sgm_free(plain);
    return status;
}

/* "usr/share/x/" takes a whole folder, anything else is a pattern in which * stays within a folder. */
static bool wanted(const sgm_recipe_list *patterns, const char *name) {
    for (size_t i = 0; i < patterns->count; i++) {
        const char *pattern = patterns->items[i];
        if (ends_with(pattern, "/") ? strncmp(name, pattern, strlen(pattern)) == 0
                                    : fnmatch(pattern, name, FNM_PATHNAME) == 0)
            return true;
    }
    return false;
}

static sgm_status walk(fetch_state *state, const char *folder, size_t root_length, int depth, sgm_error *error) {
    char **names;
    size_t count;
    if (depth > DEEPEST_FOLDER)
        return SGM_OK;
    sgm_status status = sgm_folder_list(folder, &names, &count, error);
    if (status != SGM_OK)
        return status;
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        char *path = sgm_path_join(folder, names[i]);
        struct stat facts;
        if (!path)
            status = out_of_memory(error);
        else if (lstat(path, &facts) == 0 && S_ISDIR(facts.st_mode))
            status = walk(state, path, root_length, depth + 1, error);
        else if (wanted(&state->package->files, path + root_length + 1))
            status = add_file(state, path, error);
        sgm_free(path);
    }
    sgm_free(names);
    return status;
}

/* ---- one package ----------------------------------------------------------------------------------------------- */

/* The file that a program wrote, without its last newline; heap string. */
static char *output_of(const char *const *argv, const char *folder, fetch_state *state, sgm_error *error) {
    char *path = sgm_format("%s/output", state->temp), *text = NULL;
    size_t size;
    sgm_status status = path ? sgm_process_run(argv, folder, path, state->log, error) : out_of_memory(error);
    if (status == SGM_OK)
        status = sgm_file_read(path, 1 << 16, &text, &size, error);
    if (status == SGM_OK)
        text[strcspn(text, "\n")] = '\0';
    sgm_free(path);
    return status == SGM_OK ? text : NULL;
}

/* apt-get names the file by version; the download folder holds nothing else. *path is the heap's, NULL: there is none. */
static sgm_status only_deb(const char *folder, char **path, sgm_error *error) {
    char **names;
    size_t count;
    *path = NULL;
    sgm_status status = sgm_folder_list(folder, &names, &count, error);
    if (status)
        return status;
    for (size_t i = 0; i < count && !*path && !status; i++)
        if (ends_with(names[i], ".deb") && !(*path = sgm_path_join(folder, names[i])))
            status = out_of_memory(error);
    sgm_free(names);
    return status;
}

/* Download and unpack one package; *version and *sum are what was really got. */
static sgm_status unpack(fetch_state *state, const char *name, const char *version, char **got, char **sum,
                         sgm_error *error) {
    char *folder = sgm_format("%s/deb", state->temp), *exact = sgm_format("%s=%s", name, version ? version : "");
    sgm_status status = folder && exact ? sgm_folder_remove(folder, error) : out_of_memory(error);
    if (status == SGM_OK)
        status = sgm_folder_make(folder, error);
    const char *fetch[] = {"apt-get", "-q", "download", version ? exact : name, NULL};
    if (status == SGM_OK) {
        status = sgm_process_run(fetch, folder, NULL, state->log, error);
        if (status == SGM_EIO && version) { /* that version is gone from the archive: take the one that is there */
            fetch[3] = name;
            status = sgm_process_run(fetch, folder, NULL, state->log, error);
        }
    }
    char *deb = NULL;
    if (status == SGM_OK)
        status = only_deb(folder, &deb, error);
    if (status == SGM_OK && !deb)
        status = sgm_fail(error, SGM_EIO, "run `apt-get update` first", "apt-get gave no package file for %s", name);
    const char *field[] = {"dpkg-deb", "-f", deb, "Version", NULL}, *sha[] = {"sha256sum", deb, NULL};
    const char *extract[] = {"dpkg-deb", "-x", deb, state->unpacked, NULL};
    if (status == SGM_OK) {
        *got = output_of(field, NULL, state, error);
        *sum = *got ? output_of(sha, NULL, state, error) : NULL;
        status = *sum ? sgm_process_run(extract, NULL, NULL, state->log, error) : error ? error->code : SGM_EIO;
    }
    if (status == SGM_OK)
        (*sum)[strcspn(*sum, " ")] = '\0';
    sgm_free(deb);
    sgm_free(folder);
    sgm_free(exact);
    return status;
}

static void note_drift(fetch_state *state, const char *version, const char *sum) {
    const sgm_recipe_package *package = state->package;
    const bool other = strcmp(version, package->version) != 0;
    if (!other && strcmp(sum, package->sha256) == 0)
        return;
    json_t *text = other ? json_sprintf("%s: version %s instead of %s", package->package, version, package->version)
                         : json_sprintf("%s: version %s is the same, its sha256 is not", package->package, version);
    if (state->warning && text)
        state->warning(state->context, json_string_value(text));
    sgm_json_append(state->warnings, text, &state->failed);
}

/* The package's text into corpus/DOMAIN/PACKAGE.txt. */
static sgm_status take_text(fetch_state *state, sgm_error *error) {
    const sgm_recipe_package *package = state->package;
    sgm_status status = SGM_OK;
    if (package->run.count) {
        char *program = sgm_format("%s/%s", state->unpacked, package->run.items[0]);
        char *folder = sgm_format("%s/%s", state->unpacked, package->folder ? package->folder : "");
        char *output = sgm_format("%s/run", state->temp);
        if (program && folder && output) {
            const char **argv = sgm_alloc((package->run.count + 1) * sizeof *argv);
            for (size_t i = 0; argv && i < package->run.count; i++)
                argv[i] = i ? package->run.items[i] : program;
            status = argv ? sgm_process_run(argv, folder, output, state->log, error) : out_of_memory(error);
            sgm_free(argv);
            if (status == SGM_OK)
                status = add_text(state, output, error);
            unlink(output);
        } else {
            status = out_of_memory(error);
        }
        sgm_free(program);
        sgm_free(folder);
        sgm_free(output);
        return status;
    }
    if (package->archive) {
        char *archive = sgm_format("%s/%s", state->unpacked, package->archive);
        char *inner = sgm_format("%s/archive", state->temp);
        const char *argv[] = {"tar", "-xf", archive, "-C", inner, NULL};
        status = archive && inner ? sgm_folder_make(inner, error) : out_of_memory(error);
        if (status == SGM_OK)
            status = sgm_process_run(argv, NULL, NULL, state->log, error);
        if (status == SGM_OK)
            status = walk(state, inner, strlen(inner), 0, error);
        sgm_free(archive);
        sgm_free(inner);
        return status;
    }
    return walk(state, state->unpacked, strlen(state->unpacked), 0, error);
}

/* licences/PACKAGE.txt: the licence's name, then the package's own copyright file. */
static sgm_status take_licence(fetch_state *state, sgm_error *error) {
    const sgm_recipe_package *package = state->package;
    char *from = sgm_format("%s/usr/share/doc/%s/copyright", state->unpacked, package->package), *text = NULL;
    char *to = sgm_format("%s/licences/%s.txt", state->work, package->package), *whole = NULL;
    size_t size;
    sgm_status status = from && to ? SGM_OK : out_of_memory(error);
    if (!status && sgm_path_exists(from))
        status = sgm_file_read(from, 1 << 24, &text, &size, error);
    if (status == SGM_ENOTFOUND) /* a link into a package that is not unpacked */
        status = SGM_OK;
    if (!status && !(whole = sgm_format("%s\n\n%s", package->licence, text ? text : "")))
        status = out_of_memory(error);
    if (!status)
        status = sgm_file_write(to, whole, strlen(whole), error);
    sgm_free(text);
    sgm_free(from);
    sgm_free(to);
    sgm_free(whole);
    return status;
}

static sgm_status fetch_into(fetch_state *state, const char *path, json_t *facts, sgm_error *error) {
    const sgm_recipe_package *package = state->package;
    char *version = NULL, *sum = NULL, *other_version = NULL, *other_sum = NULL;
    sgm_status status = unpack(state, package->package, package->version, &version, &sum, error);
    if (status == SGM_OK)
        note_drift(state, version, sum); /* before its text is taken: when that fails, here is why */
    if (status == SGM_OK && package->also)
        status = unpack(state, package->also, NULL, &other_version, &other_sum, error);
    if (status == SGM_OK)
        status = sgm_writer_open(path, &state->out, error);
    if (status == SGM_OK)
        status = take_text(state, error);
    if (status == SGM_OK && state->documents == 0)
        status = sgm_fail(error, SGM_EFORMAT, "the package's layout may have changed: look at the patterns",
                          "package %s (recipe line %zu) gave no text", package->package, package->line);
    if (status == SGM_OK) {
        sgm_json_set(facts, "version", json_string(version), &state->failed);
        sgm_json_set(facts, "sha256", json_string(sum), &state->failed);
        sgm_json_set(facts, "licence", json_string(package->licence), &state->failed);
        sgm_json_set(facts, "files", json_integer((json_int_t)state->files), &state->failed);
        sgm_json_set(facts, "documents", json_integer((json_int_t)state->documents), &state->failed);
        sgm_json_set(facts, "bytes", json_integer((json_int_t)sgm_writer_position(state->out)), &state->failed);
        if (other_version)
            sgm_json_set(facts, "also", json_sprintf("%s %s", package->also, other_version), &state->failed);
        sgm_writer *out = state->out;
        state->out = NULL;
        status = sgm_writer_commit(out, error);
    }
    sgm_free(version);
    sgm_free(sum);
    sgm_free(other_version);
    sgm_free(other_sum);
    return status == SGM_OK ? take_licence(state, error) : status;
}

static sgm_status fetch_package(fetch_state *state, json_t *facts, sgm_error *error) {
    const sgm_recipe_package *package = state->package;
    char *folder = sgm_format("%s/corpus/%s", state->work, package->domain);
    char *path = sgm_format("%s/corpus/%s/%s.txt", state->work, package->domain, package->package);
    sgm_json_set(facts, "domain", json_string(package->domain), &state->failed);
    sgm_json_set(facts, "package", json_string(package->package), &state->failed);
    state->documents = state->files = 0;
    sgm_status status = folder && path ? sgm_folder_remove(state->temp, error) : out_of_memory(error);
    if (status == SGM_OK)
        status = sgm_folder_make(state->unpacked, error);
    if (status == SGM_OK)
        status = sgm_folder_make(folder, error);
    if (status == SGM_OK)
        status = fetch_into(state, path, facts, error);
    sgm_writer_abandon(state->out);
    state->out = NULL;
    sgm_free(folder);
    sgm_free(path);
    return status;
}

/* ---- all packages ---------------------------------------------------------------------------------------------- */

static sgm_status write_record(const fetch_state *state, json_t *packages, sgm_error *error) {
    json_t *root = json_pack("{s:s, s:i, s:O, s:O}", "format", "sigmoe-recipe", "version", 1, "packages", packages,
                             "warnings", state->warnings);
    char *dump = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    char *path = sgm_path_join(state->work, "recipe.json");
    sgm_status status =
        dump && path && !state->failed ? sgm_file_write(path, dump, strlen(dump), error) : out_of_memory(error);
    free(dump);
    sgm_free(path);
    json_decref(root);
    return status;
}

static sgm_status fetch_all(fetch_state *state, const sgm_recipe *recipe, sgm_error *error) {
    json_t *packages = json_array();
    char *licences = sgm_path_join(state->work, "licences");
    sgm_status status = licences && packages ? sgm_folder_make(licences, error) : out_of_memory(error);
    for (size_t i = 0; status == SGM_OK && i < recipe->count; i++) {
        json_t *facts = json_object();
        state->package = &recipe->packages[i];
        if (state->progress)
            state->progress(state->context, state->package->package, (double)i / (double)recipe->count);
        status = fetch_package(state, facts, error);
        sgm_json_append(packages, facts, &state->failed);
    }
    if (status == SGM_OK)
        status = sgm_folder_remove(state->temp, error);
    if (status == SGM_OK)
        status = write_record(state, packages, error);
    if (status == SGM_OK && state->progress)
        state->progress(state->context, "fetched", 1);
    json_decref(packages);
    sgm_free(licences);
    return status;
}

/* `folder` is free or empty. */
static sgm_status check_folder(const char *folder, sgm_error *error) {
    char **names = NULL;
    size_t count = 1;
    if (!sgm_path_exists(folder))
        return SGM_OK;
    sgm_status status = sgm_path_is_folder(folder) ? sgm_folder_list(folder, &names, &count, error) : SGM_OK;
    sgm_free(names);
    if (status || count == 0)
        return status;
    return sgm_fail(error, SGM_EEXISTS, "choose another folder, or remove this one first",
                    "%s: it exists and is not an empty folder", folder);
}

/* apt-get runs elsewhere, so paths must not depend on where we are. */
static char *absolute(const char *folder) {
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    if (folder[0] == '/')
        return sgm_format("%.*s", (int)length, folder);
    char *here = getcwd(NULL, 0), *path = here ? sgm_format("%s/%.*s", here, (int)length, folder) : NULL;
    free(here);
    return path;
}

sgm_status sgm_data_recipe_fetch(const char *recipe_path, const char *folder, sgm_data_source **sources, size_t *found,
                                 void (*progress)(void *context, const char *what, double share),
                                 void (*warning)(void *context, const char *text), void *context, sgm_error *error) {
    *sources = NULL;
    *found = 0;
    char *yaml = NULL;
    size_t size;
    sgm_recipe recipe = {0};
    sgm_status status = sgm_file_read(recipe_path, RECIPE_BYTES_MOST, &yaml, &size, error);
    if (status == SGM_OK)
        status = sgm_recipe_parse(yaml, size, recipe_path, &recipe, error);
    sgm_free(yaml);
    if (status == SGM_OK)
        status = check_folder(folder, error);
    fetch_state state = {.progress = progress, .warning = warning, .context = context};
    sgm_lock *lock = NULL;
    char *final = status == SGM_OK ? absolute(folder) : NULL;
    if (status == SGM_OK) {
        state.work = final ? sgm_format("%s.fetching", final) : NULL;
        state.temp = state.work ? sgm_format("%s/temp", state.work) : NULL;
        state.unpacked = state.work ? sgm_format("%s/temp/unpacked", state.work) : NULL;
        state.log = state.work ? sgm_format("%s/temp/log", state.work) : NULL;
        state.warnings = json_array();
        bool ready = state.temp && state.unpacked && state.log && state.warnings;
        status = ready ? sgm_work_folder_take(state.work, &lock, error) : out_of_memory(error);
    }
    if (status == SGM_OK)
        status = fetch_all(&state, &recipe, error);
    if (status == SGM_OK) {
        if (sgm_path_exists(final))
            rmdir(final); /* it is empty: check_folder looked */
        status = sgm_work_folder_finish(state.work, final, error);
    } else if (lock) {
        sgm_folder_remove(state.work, NULL);
    }
    sgm_lock_drop(lock);
    if (status == SGM_OK) {
        const char *path = folder;
        status = sgm_data_sources_from_path(&path, 1, sources, found, error);
    }
    json_decref(state.warnings);
    sgm_buffer_free(&state.text);
    sgm_recipe_free(&recipe);
    char *paths[] = {state.work, state.temp, state.unpacked, state.log, final};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        sgm_free(paths[i]);
    return status;
}
