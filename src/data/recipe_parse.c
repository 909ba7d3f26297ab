// SPDX-License-Identifier: Apache-2.0
/* Reading recipe.yaml. Unknown keys, missing keys and paths that leave the package are errors with their line. */
#include <stddef.h>
#include <string.h>
#include <yaml.h>

#include "base/memory.h"
#include "data/recipe.h"
#include "data/shard.h"

static sgm_status wrong(sgm_error *error, const char *name, size_t line, const char *what, const char *which) {
    return sgm_fail(error, SGM_EFORMAT, "docs/formats.md lists the keys of a recipe", "%s, line %zu: %s%s%s", name,
                    line, what, which ? " " : "", which ? which : "");
}

static const char *scalar(const yaml_node_t *node) {
    return node && node->type == YAML_SCALAR_NODE && !memchr(node->data.scalar.value, '\0', node->data.scalar.length)
               ? (const char *)node->data.scalar.value
               : NULL;
}

static sgm_status take_list(yaml_document_t *document, const yaml_node_t *node, sgm_recipe_list *list, const char *name,
                            sgm_error *error) {
    if (node->type != YAML_SEQUENCE_NODE)
        return wrong(error, name, node->start_mark.line + 1, "a list is wanted here", NULL);
    size_t count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (list->items)
        return wrong(error, name, node->start_mark.line + 1, "the key stands here a second time", NULL);
    list->items = sgm_alloc((count + 1) * sizeof *list->items);
    for (size_t i = 0; list->items && i < count; i++) {
        const char *text = scalar(yaml_document_get_node(document, node->data.sequence.items.start[i]));
        if (!text)
            return wrong(error, name, node->start_mark.line + 1, "the list's entries must be texts", NULL);
        list->items[i] = sgm_strdup(text);
        if (!list->items[i])
            break;
        list->count++;
    }
    if (!list->items || list->count < count)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", name);
    return SGM_OK;
}

static sgm_status take_pair(yaml_document_t *document, const yaml_node_pair_t *pair, sgm_recipe_package *package,
                            const char *name, sgm_error *error) {
    static const struct {
        const char *key;
        size_t offset;
        bool list;
    } keys[] = {{"domain", offsetof(sgm_recipe_package, domain), false},
                {"package", offsetof(sgm_recipe_package, package), false},
                {"version", offsetof(sgm_recipe_package, version), false},
                {"sha256", offsetof(sgm_recipe_package, sha256), false},
                {"licence", offsetof(sgm_recipe_package, licence), false},
                {"strip", offsetof(sgm_recipe_package, strip), false},
                {"archive", offsetof(sgm_recipe_package, archive), false},
                {"split", offsetof(sgm_recipe_package, split), false},
                {"also", offsetof(sgm_recipe_package, also), false},
                {"folder", offsetof(sgm_recipe_package, folder), false},
                {"files", offsetof(sgm_recipe_package, files), true},
                {"run", offsetof(sgm_recipe_package, run), true}};
    const yaml_node_t *key_node = yaml_document_get_node(document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(document, pair->value);
    const char *key = scalar(key_node);
    size_t line = key_node ? key_node->start_mark.line + 1 : 0;
    for (size_t i = 0; key && value && i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(keys[i].key, key) != 0)
            continue;
        void *field = (char *)package + keys[i].offset;
        if (keys[i].list)
            return take_list(document, value, field, name, error);
        const char *text = scalar(value);
        char *copy = text ? sgm_strdup(text) : NULL;
        if (!text)
            return wrong(error, name, line, "a text is wanted for", key);
        if (!copy)
            return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", name);
        char **slot = field;
        sgm_free(*slot);
        *slot = copy;
        return SGM_OK;
    }
    return wrong(error, name, line, "unknown key", key ? key : "(not a text)");
}

/* Names go into command lines and paths: nothing that could be an option or leave the folder. */
static bool plain_name(const char *name) {
    return name[0] != '-' && name[0] != '.' && !strpbrk(name, "/= \t\n");
}

static bool inside(const char *path) {
    return path[0] != '/' && path[0] != '-' && strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 &&
           !strstr(path, "/../") && (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static sgm_status check_package(const sgm_recipe_package *p, const char *name, sgm_error *error) {
    if (!p->domain || !p->package || !p->version || !p->sha256 || !p->licence)
        return wrong(error, name, p->line, "an entry needs domain, package, version, sha256 and licence", NULL);
    if (!sgm_domain_name_ok(p->domain))
        return wrong(error, name, p->line, "this cannot be the name of a domain:", p->domain);
    if (!plain_name(p->package) || !plain_name(p->version) || (p->also && !plain_name(p->also)))
        return wrong(error, name, p->line, "this cannot be a Debian package and its version:", p->package);
    if (p->strip && strcmp(p->strip, "text") != 0 && strcmp(p->strip, "html") != 0 && strcmp(p->strip, "roff") != 0)
        return wrong(error, name, p->line, "strip is one of text, html, roff; not", p->strip);
    if ((p->files.count == 0) == (p->run.count == 0))
        return wrong(error, name, p->line, "an entry needs either files or run", NULL);
    bool good = (!p->archive || inside(p->archive)) && (!p->folder || inside(p->folder)) &&
                (!p->run.count || inside(p->run.items[0]));
    for (size_t i = 0; i < p->files.count; i++)
        good = good && inside(p->files.items[i]);
    return good ? SGM_OK : wrong(error, name, p->line, "a path must stay within the package", NULL);
}

static sgm_status take_document(yaml_document_t *document, const char *name, sgm_recipe *recipe, sgm_error *error) {
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (!root || root->type != YAML_SEQUENCE_NODE)
        return wrong(error, name, 1, "a recipe is a list of packages", NULL);
    size_t count = (size_t)(root->data.sequence.items.top - root->data.sequence.items.start);
    if (count == 0)
        return wrong(error, name, 1, "the recipe names no packages", NULL);
    recipe->packages = sgm_alloc(count * sizeof *recipe->packages);
    if (!recipe->packages)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", name);
    for (size_t i = 0; i < count; i++) {
        const yaml_node_t *node = yaml_document_get_node(document, root->data.sequence.items.start[i]);
        sgm_recipe_package *package = &recipe->packages[recipe->count++];
        package->line = node ? node->start_mark.line + 1 : 0;
        if (!node || node->type != YAML_MAPPING_NODE)
            return wrong(error, name, package->line, "an entry is a mapping of keys", NULL);
        sgm_status status = SGM_OK;
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             status == SGM_OK && pair < node->data.mapping.pairs.top; pair++)
            status = take_pair(document, pair, package, name, error);
        if (status == SGM_OK)
            status = check_package(package, name, error);
        for (size_t other = 0; status == SGM_OK && other < i; other++)
            if (strcmp(recipe->packages[other].package, package->package) == 0 &&
                strcmp(recipe->packages[other].domain, package->domain) == 0)
                status =
                    wrong(error, name, package->line, "this package stands in this domain twice:", package->package);
        if (status != SGM_OK)
            return status;
    }
    return SGM_OK;
}

sgm_status sgm_recipe_parse(const char *yaml, size_t size, const char *name, sgm_recipe *recipe, sgm_error *error) {
    yaml_parser_t parser;
    yaml_document_t document;
    *recipe = (sgm_recipe){0};
    if (!yaml_parser_initialize(&parser))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to read %s", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, size);
    sgm_status status;
    if (!yaml_parser_load(&parser, &document)) {
        status = wrong(error, name, parser.problem_mark.line + 1,
                       "this is not YAML:", parser.problem ? parser.problem : "unknown reason");
    } else {
        status = take_document(&document, name, recipe, error);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    if (status != SGM_OK)
        sgm_recipe_free(recipe);
    return status;
}

static void free_list(sgm_recipe_list *list) {
    for (size_t i = 0; i < list->count; i++)
        sgm_free(list->items[i]);
    sgm_free(list->items);
}

void sgm_recipe_free(sgm_recipe *recipe) {
    for (size_t i = 0; i < recipe->count; i++) {
        sgm_recipe_package *p = &recipe->packages[i];
        char *fields[] = {p->domain, p->package, p->version, p->sha256, p->licence,
                          p->strip,  p->archive, p->split,   p->also,   p->folder};
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
            sgm_free(fields[f]);
        free_list(&p->files);
        free_list(&p->run);
    }
    sgm_free(recipe->packages);
    *recipe = (sgm_recipe){0};
}
