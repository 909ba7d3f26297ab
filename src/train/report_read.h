// SPDX-License-Identifier: Apache-2.0
/* What the files that read run.sqlite for the report share (report_data.c, report_balance.c). */
#ifndef SGM_TRAIN_REPORT_READ_H
#define SGM_TRAIN_REPORT_READ_H

#include <sqlite3.h>

#include "train/report.h"

typedef struct sgm_report_reader {
    sqlite3 *db;
    const char *path;
    sgm_error *error;
} sgm_report_reader;

/* The database's error, and that there is no memory. */
sgm_status sgm_report_broken(const sgm_report_reader *r);
sgm_status sgm_report_no_memory(const sgm_report_reader *r);
sgm_status sgm_report_prepare(const sgm_report_reader *r, const char *sql, sqlite3_stmt **statement);
/* The first `count` columns of the first row. */
sgm_status sgm_report_numbers(const sgm_report_reader *r, const char *sql, double *values, int count);
/* A table that older files lack. */
sgm_status sgm_report_has_table(const sgm_report_reader *r, const char *name, bool *has);
/* A column as a number; as NaN: NULL (how the log stores what is not finite), and what a hand put there that is infinite or
 * so large that differences of it would be. */
double sgm_report_column(sqlite3_stmt *statement, int index);
/* A step or a count that came as a double. */
int64_t sgm_report_integer(double value);

/* The table `balance`, after the load (report_balance.c). */
sgm_status sgm_report_read_balance(const sgm_report_reader *r, sgm_report_data *data);
void sgm_report_free_balance(sgm_report_data *data);

#endif
