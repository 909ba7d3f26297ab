// SPDX-License-Identifier: Apache-2.0
/* What the parts of measuring a run share. */
#ifndef SGM_LAB_MEASURE_H
#define SGM_LAB_MEASURE_H

#include "lab/results.h"
#include "sigmoe/model.h"

struct sqlite3;
struct sqlite3_stmt;

typedef struct sgm_lab_reader {
    struct sqlite3 *db;
    const char *path;
    sgm_error *error;
    sgm_lab_measures *m;
    sgm_model_settings model;
    int64_t steps, first, groups; /* first: of the window */
    int64_t rows;                 /* of load that each layer has in the window */
    int64_t stored;               /* E of the rows; the last ones are null where m->experts is less */
    double tokens_per_step;
    int64_t version;               /* of run.sqlite */
    int64_t skipped, most_skipped; /* steps in a row until now; as many as end a run */
    /* the window's load */
    int64_t *count;      /* (L, E) added up */
    double *probability; /* (L, E) Σ p */
    int64_t *tokens;     /* (L) */
    double *batches;     /* (L) rows of the window */
    double *computed;    /* (L) of the assignments; NaN: not known */
    /* of one row */
    int64_t *row_count;
    double *row_probability;
    /* measure_domains.c: the last evaluation's load */
    int64_t *domain_count;  /* (domains, L, E) */
    int64_t *domain_tokens; /* (domains) */
} sgm_lab_reader;

extern const char sgm_lab_remove_run[]; /* the hint about a run that cannot be measured */
sgm_status sgm_lab_no_memory(const sgm_lab_reader *r);
/* Call `use` for every row of a query whose ?1, if it has one, is the window's first step. */
sgm_status sgm_lab_each(sgm_lab_reader *r, const char *sql,
                        sgm_status (*use)(sgm_lab_reader *r, struct sqlite3_stmt *row));
/* measure_whole.c. All steps and the last evaluation are there (where any is); the last evaluation, once it is read, is the one that
 * summary.json of the run's folder tells of (where there is one). SGM_EFORMAT: not so. */
sgm_status sgm_lab_measure_whole(sgm_lab_reader *r);
sgm_status sgm_lab_measure_corpus(sgm_lab_reader *r); /* m->corpus */
sgm_status sgm_lab_measure_agrees(const sgm_lab_reader *r, const char *run);

/* The divergence of m->domain[] by layer, and m->domain_share. */
sgm_status sgm_lab_measure_domains(sgm_lab_reader *r);

#endif
