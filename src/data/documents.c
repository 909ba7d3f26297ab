// SPDX-License-Identifier: Apache-2.0
/* Walking sources, and what `--data PATH` means. See documents.h and sigmoe/data.h. */
#include "data/documents.h"

#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "data/shard.h"

enum { DEEPEST_FOLDER = 32, BINARY_PROBE_BYTES = 8192, RECORD_BYTES_MOST = 1 << 24 };

/* ---- text ----------------------------------------------------------------------------------------------------- */

size_t sgm_text_cut(const char *text, size_t size, size_t limit) {
    if (size <= limit)
        return size;
    for (size_t i = limit; i > 0; i--)
        if (text[i - 1] == '\n')
            return i;
    size_t cut = limit;
    while (cut > 1 && limit - cut < 4 && ((unsigned char)text[cut] & 0xC0) == 0x80)
        cut--;
    return ((unsigned char)text[cut] & 0xC0) == 0x80 ? limit : cut;
}

static bool is_blank(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\n\f\v", text[i]) || text[i] == '\0')
            return false;
    return true;
}

/* ---- visiting ------------------------------------------------------------------------------------------------- */

static sgm_status visit_document(const sgm_source_visitor *visitor, const char *text, size_t size, sgm_error *error) {
    return is_blank(text, size) ? SGM_OK : visitor->document(visitor->context, text, size, error);
}

sgm_status sgm_text_visit(const char *text, size_t size, const char *separator, const sgm_source_visitor *visitor,
                          sgm_error *error) {
    size_t separator_size = separator ? strlen(separator) : 0, begin = 0;
    for (size_t at = 0; separator_size && at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t end = newline ? (size_t)(newline - text) : size, length = end - at;
        if (length && text[end - 1] == '\r')
            length--;
        if (length == separator_size && memcmp(text + at, separator, length) == 0) {
            sgm_status status = visit_document(visitor, text + begin, at - begin, error);
            if (status != SGM_OK)
                return status;
            begin = newline ? end + 1 : size;
        }
        at = newline ? end + 1 : size;
    }
    return visit_document(visitor, text + begin, size - begin, error);
}

static sgm_status visit_file(const sgm_data_source *source, const sgm_source_visitor *visitor, const char *path,
                             sgm_error *error) {
    sgm_mapping mapping;
    sgm_status status = sgm_map_open(path, &mapping, error);
    if (status != SGM_OK)
        return status;
    const char *text = (const char *)mapping.data;
    size_t probe = mapping.size < BINARY_PROBE_BYTES ? mapping.size : BINARY_PROBE_BYTES;
    if (probe && memchr(text, '\0', probe))
        status = sgm_fail(error, SGM_EFORMAT, "name text files only, or move the file out of the folder",
                          "%s: this is a binary file (it holds a NUL byte near its start), not text", path);
    if (status == SGM_OK)
        status = visitor->file(visitor->context, path, text, mapping.size, error);
    if (status == SGM_OK)
        status = sgm_text_visit(text, mapping.size, source->separator, visitor, error);
    sgm_map_close(&mapping);
    return status;
}

static sgm_status visit_path(const sgm_data_source *source, const sgm_source_visitor *visitor, const char *path,
                             int depth, sgm_error *error) {
    if (!sgm_path_is_folder(path))
        return visit_file(source, visitor, path, error);
    if (depth >= DEEPEST_FOLDER)
        return sgm_fail(error, SGM_EARGUMENT, "is there a link that points back up?", "%s: more than %d folders deep",
                        path, DEEPEST_FOLDER);
    char **names;
    size_t count;
    sgm_status status = sgm_folder_list(path, &names, &count, error);
    if (status != SGM_OK)
        return status;
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        if (names[i][0] == '.')
            continue;
        char *inner = sgm_path_join(path, names[i]);
        status = inner ? visit_path(source, visitor, inner, depth + 1, error)
                       : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to walk %s", path);
        sgm_free(inner);
    }
    sgm_free(names);
    return status;
}

sgm_status sgm_source_visit(const sgm_data_source *source, const sgm_source_visitor *visitor, sgm_error *error) {
    struct stat facts;
    if (stat(source->path, &facts) != 0)
        return sgm_fail(error, SGM_ENOTFOUND, "check the spelling; --data takes a text file or a folder of them",
                        "%s: no such file or folder", source->path);
    if (!S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode))
        return sgm_fail(error, SGM_EARGUMENT, "copy it to a file first", "%s: neither a file nor a folder",
                        source->path);
    return visit_path(source, visitor, source->path, 0, error);
}

/* ---- what --data PATH means ----------------------------------------------------------------------------------- */

typedef struct source_list {
    sgm_data_source *sources;
    size_t count, capacity;
} source_list;

void sgm_domain_from_name(const char *name, bool ending, char out[SGM_SHARD_DOMAIN_BYTES]) {
    const char *dot = ending ? strrchr(name, '.') : NULL;
    size_t length = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    if (length >= SGM_SHARD_DOMAIN_BYTES)
        length = SGM_SHARD_DOMAIN_BYTES - 1;
    for (size_t i = 0; i < length; i++) {
        char one[2] = {name[i], '\0'};
        out[i] = (i > 0 && name[i] == '.') || sgm_domain_name_ok(one) ? name[i] : '_';
    }
    out[length] = '\0';
    if (length == 0)
        memcpy(out, "text", sizeof "text");
}

/* The first line of licences/NAME.txt; *line is NULL where there is none that can be read. */
static sgm_status licence_of(const char *licences, const char *name, char **line, sgm_error *error) {
    const char *dot = strrchr(name, '.');
    char *file = sgm_format("%s/%.*s.txt", licences, (int)(dot && dot != name ? dot - name : (long)strlen(name)), name);
    char *text = NULL;
    size_t size;
    *line = NULL;
    sgm_status status = !file                   ? SGM_EMEMORY
                        : sgm_path_exists(file) ? sgm_file_read(file, 1 << 20, &text, &size, NULL)
                                                : SGM_ENOTFOUND;
    if (!status) {
        text[strcspn(text, "\r\n")] = '\0';
        *line = sgm_strdup(text);
        status = *line ? SGM_OK : SGM_EMEMORY;
    }
    sgm_free(text);
    sgm_free(file);
    return status == SGM_EMEMORY ? sgm_fail(error, status, NULL, "no memory for the licence of %s", name) : SGM_OK;
}

static sgm_status add_source(source_list *list, const char *domain, const char *path, const char *licences,
                             const char *name, sgm_error *error) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        sgm_data_source *grown = sgm_resize(list->sources, list->capacity * sizeof *grown, capacity * sizeof *grown);
        if (!grown)
            return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
        list->sources = grown;
        list->capacity = capacity;
    }
    sgm_data_source *source = &list->sources[list->count++];
    source->domain = sgm_strdup(domain);
    source->path = sgm_strdup(path);
    source->separator = sgm_strdup(SGM_DOCUMENT_SEPARATOR);
    if (!source->domain || !source->path || !source->separator)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
    char *licence = NULL;
    sgm_status status = licences ? licence_of(licences, name, &licence, error) : SGM_OK;
    source->licence = licence;
    return status;
}

/* One domain folder. With licences beside the corpus each entry is a source of its own, so that the manifest can tell
 * them apart; otherwise the folder is one source. */
static sgm_status add_domain(source_list *list, const char *domain, const char *path, const char *licences,
                             sgm_error *error) {
    if (!licences)
        return add_source(list, domain, path, NULL, NULL, error);
    char **names;
    size_t count;
    sgm_status status = sgm_folder_list(path, &names, &count, error);
    if (status != SGM_OK)
        return status;
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        if (names[i][0] == '.')
            continue;
        char *inner = sgm_path_join(path, names[i]);
        status = inner ? add_source(list, domain, inner, licences, names[i], error)
                       : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
        sgm_free(inner);
    }
    sgm_free(names);
    return status;
}

/* Folders whose names differ only in what a domain's name cannot hold would become one domain without a word. */
static sgm_status check_same_domain(const char *path, char *const *names, size_t at, const char *domain,
                                    sgm_error *error) {
    char other[SGM_SHARD_DOMAIN_BYTES];
    for (size_t i = 0; i < at; i++) {
        if (names[i][0] == '.')
            continue;
        sgm_domain_from_name(names[i], false, other);
        if (strcmp(other, domain) != 0)
            continue;
        char *inner = sgm_path_join(path, names[i]);
        bool folder = inner && sgm_path_is_folder(inner);
        sgm_free(inner);
        if (folder)
            return sgm_fail(error, SGM_EARGUMENT, "rename one; letters, digits, '-', '_' and '.' tell domains apart",
                            "%s: the folders \"%s\" and \"%s\" would both be the domain %s", path, names[i], names[at],
                            domain);
    }
    return SGM_OK;
}

static sgm_status add_folder(source_list *list, const char *path, const char *licences, sgm_error *error) {
    char **names;
    size_t count, before = list->count;
    sgm_status status = sgm_folder_list(path, &names, &count, error);
    if (status != SGM_OK)
        return status;
    for (size_t i = 0; status == SGM_OK && i < count; i++) {
        if (names[i][0] == '.')
            continue;
        char domain[SGM_SHARD_DOMAIN_BYTES], *inner = sgm_path_join(path, names[i]);
        bool folder = inner && sgm_path_is_folder(inner);
        sgm_domain_from_name(names[i], !folder, domain);
        if (!inner)
            status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
        else if (!folder)
            status = add_source(list, domain, inner, licences, names[i], error);
        else if ((status = check_same_domain(path, names, i, domain, error)) == SGM_OK)
            status = add_domain(list, domain, inner, licences, error);
        sgm_free(inner);
    }
    sgm_free(names);
    if (status == SGM_OK && list->count == before)
        return sgm_fail(error, SGM_EARGUMENT, "put text files into it, or folders of them, one per domain",
                        "%s: the folder holds no files", path);
    return status;
}

/* recipe.json beside a fetched corpus tells the package that corpus/DOMAIN/PACKAGE.txt came from. Like a licence this only
 * goes into the manifest: of sources that a missing or other recipe.json says nothing about no package is known. */
static sgm_status add_packages(source_list *list, size_t first, const char *path, sgm_error *error) {
    char *text = NULL;
    size_t size;
    if (!sgm_path_exists(path))
        return SGM_OK;
    json_t *root = NULL, *one;
    sgm_error why;
    sgm_status status = sgm_file_read(path, RECORD_BYTES_MOST, &text, &size, &why);
    if (!status)
        status = sgm_json_read(text, size, JSON_REJECT_DUPLICATES, path, NULL, &root, &why);
    status = status == SGM_EMEMORY ? sgm_fail(error, status, why.hint, "%s", why.message) : SGM_OK;
    const char *format = json_string_value(json_object_get(root, "format"));
    json_t *packages = format && strcmp(format, "sigmoe-recipe") == 0 ? json_object_get(root, "packages") : NULL;
    size_t at;
    json_array_foreach(packages, at, one) {
        const char *domain = json_string_value(json_object_get(one, "domain"));
        const char *package = json_string_value(json_object_get(one, "package"));
        const char *version = json_string_value(json_object_get(one, "version"));
        const char *sha256 = json_string_value(json_object_get(one, "sha256"));
        char *name = domain && package && version && sha256 ? sgm_format("/%s/%s.txt", domain, package) : NULL;
        if (domain && package && version && sha256 && !name)
            status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
        for (size_t i = first; name && i < list->count; i++) {
            sgm_data_source *source = &list->sources[i];
            size_t length = strlen(source->path), tail = strlen(name);
            if (source->package || length < tail || strcmp(source->path + length - tail, name) != 0)
                continue;
            source->package = sgm_strdup(package);
            source->version = sgm_strdup(version);
            source->sha256 = sgm_strdup(sha256);
            if (!source->package || !source->version || !source->sha256)
                status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
        }
        sgm_free(name);
    }
    json_decref(root);
    sgm_free(text);
    return status;
}

static sgm_status add_path(source_list *list, const char *path, sgm_error *error) {
    if (!sgm_path_exists(path))
        return sgm_fail(error, SGM_ENOTFOUND, "check the spelling; --data takes text files and folders of them",
                        "%s: no such file or folder", path);
    if (!sgm_path_is_folder(path)) {
        const char *slash = strrchr(path, '/');
        char domain[SGM_SHARD_DOMAIN_BYTES];
        sgm_domain_from_name(slash ? slash + 1 : path, true, domain);
        return add_source(list, domain, path, NULL, NULL, error);
    }
    char *corpus = sgm_path_join(path, "corpus"), *licences = sgm_path_join(path, "licences");
    char *record = sgm_path_join(path, "recipe.json");
    size_t first = list->count;
    sgm_status status;
    if (!corpus || !licences || !record)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the list of sources");
    else if (!sgm_path_is_folder(corpus))
        status = add_folder(list, path, NULL, error);
    else if ((status = add_folder(list, corpus, sgm_path_is_folder(licences) ? licences : NULL, error)) == SGM_OK)
        status = add_packages(list, first, record, error);
    sgm_free(corpus);
    sgm_free(licences);
    sgm_free(record);
    return status;
}

sgm_status sgm_data_sources_from_path(const char *const *paths, size_t count, sgm_data_source **sources, size_t *found,
                                      sgm_error *error) {
    source_list list = {0};
    *sources = NULL;
    *found = 0;
    if (count == 0)
        return sgm_fail(error, SGM_EARGUMENT, "name a text file or a folder with --data", "no data was named");
    for (size_t i = 0; i < count; i++) {
        sgm_status status = add_path(&list, paths[i], error);
        if (status != SGM_OK) {
            sgm_data_sources_free(list.sources, list.count);
            return status;
        }
    }
    *sources = list.sources;
    *found = list.count;
    return SGM_OK;
}

void sgm_data_sources_free(sgm_data_source *sources, size_t count) {
    for (size_t i = 0; sources && i < count; i++) {
        sgm_free((void *)(uintptr_t)sources[i].domain);
        sgm_free((void *)(uintptr_t)sources[i].path);
        sgm_free((void *)(uintptr_t)sources[i].separator);
        sgm_free((void *)(uintptr_t)sources[i].licence);
        sgm_free((void *)(uintptr_t)sources[i].package);
        sgm_free((void *)(uintptr_t)sources[i].version);
        sgm_free((void *)(uintptr_t)sources[i].sha256);
    }
    sgm_free(sources);
}
