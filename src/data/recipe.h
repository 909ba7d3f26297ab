// SPDX-License-Identifier: Apache-2.0
/* A recipe as read from YAML: which Debian packages make which domain. docs/formats.md lists the keys. */
#ifndef SGM_DATA_RECIPE_H
#define SGM_DATA_RECIPE_H

#include "sigmoe/data.h"

typedef struct sgm_recipe_list {
    char **items; /* with a closing NULL, so that it can be an argv */
    size_t count;
} sgm_recipe_list;

typedef struct sgm_recipe_package {
    char *domain, *package, *version, *sha256, *licence;
    char *strip;           /* "text", "html", "roff" */
    char *archive;         /* a tar file within the package, to which `files` refer; or NULL */
    char *split;           /* a line that parts documents within a file; or NULL */
    char *also;            /* a second package unpacked beside (the program of `run`); or NULL */
    char *folder;          /* where `run` runs, within the package; or NULL */
    sgm_recipe_list files; /* fnmatch patterns, * within a folder; "usr/share/doc/" takes all below it */
    sgm_recipe_list run;   /* a program of the packages whose output is the text */
    size_t line;           /* of the recipe */
} sgm_recipe_package;

typedef struct sgm_recipe {
    sgm_recipe_package *packages;
    size_t count;
} sgm_recipe;

sgm_status sgm_recipe_parse(const char *yaml, size_t size, const char *name, sgm_recipe *recipe, sgm_error *error);
void sgm_recipe_free(sgm_recipe *recipe);

#endif
