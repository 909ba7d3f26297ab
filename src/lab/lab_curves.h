// SPDX-License-Identifier: Apache-2.0
/* What a lab's page and its pictures draw alike. */
#ifndef SGM_LAB_LAB_CURVES_H
#define SGM_LAB_LAB_CURVES_H

#include "lab/results.h"
#include "train/report.h"

/* A line for each arm. */
typedef struct sgm_lab_chart {
    const char *title, *note, *x_name; /* x_name NULL: "step", or "layer" */
    size_t offset;      /* over steps: what is to the right, of sgm_lab_point; over layers: of sgm_lab_balance */
    size_t floor;       /* over layers: what chance alone would show, of sgm_lab_balance; 0: none */
    bool layers;        /* over layers; else bits per byte over evaluations */
    bool late;          /* the second half alone */
    bool log_y, to_one; /* to_one: 1 is within */
    bool wide;          /* no names of arms within: a legend stands elsewhere */
} sgm_lab_chart;
/* A figure of a page; or what stands in a drawing of SGM_SVG_CHART_WIDTH × SGM_SVG_CHART_HEIGHT, without title and note. */
void sgm_lab_chart_write(sgm_page *page, const sgm_lab_results *results, const sgm_lab_chart *chart);
void sgm_lab_chart_draw(sgm_page *page, const sgm_lab_results *results, const sgm_lab_chart *chart);
/* Are the names of the arms short and few enough to stand beside their lines? */
bool sgm_lab_labels_fit(const sgm_lab_results *results);

/* Balance by layer; the last one is not known of runs of older versions. */
enum { SGM_LAB_CORRELATION = 3, SGM_LAB_TOKEN_ENTROPY, SGM_LAB_BALANCE_CHARTS };
extern const sgm_lab_chart sgm_lab_balance_charts[SGM_LAB_BALANCE_CHARTS];

/* The class of an arm's line beside " line": the eight colours come again in dashes. */
const char *sgm_lab_dashes(size_t arm);
/* Whether a field of sgm_lab_balance is known of any run. */
bool sgm_lab_balance_known(const sgm_lab_results *results, size_t offset);

/* The load by domain in one layer of a run that has it (m->domain_share), as a map of that width: share (domains, E) and names
 * (domains) are the caller's room. */
sgm_svg_map sgm_lab_domain_map(const sgm_lab_measures *m, int64_t layer, double width, double *share,
                               const char **names);
/* What is written beside it: divergence and floor, where enough of the layer's assignments were of two domains. */
void sgm_lab_domain_note(const sgm_lab_measures *m, int64_t layer, char *note, size_t size);

#endif
