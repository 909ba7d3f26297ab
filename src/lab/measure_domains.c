// SPDX-License-Identifier: Apache-2.0
/* How differently the domains of a run's last evaluation use the experts of each layer. A run of a version that did not write it, or of
 * one domain alone, has no such measure: NaN. */
#include <inttypes.h>
#include <math.h>
#include <sqlite3.h>
#include <string.h>

#include "lab/measure.h"
#include "routing/routing.h"
#include "train/run_log_read.h"

static size_t domain_named(const sgm_lab_measures *m, const char *name) {
    size_t d = 0;
    while (d < m->domains && strcmp(m->domain[d].name, name) != 0)
        d++;
    return d;
}

/* domain, layer, counts and tokens of one row into domain_count and domain_tokens. */
static sgm_status take_row(sgm_lab_reader *r, sqlite3_stmt *row) {
    sgm_lab_measures *m = r->m;
    int64_t routed = sqlite3_column_int64(row, 1), layer = sgm_routed_layer(r->model.attention_experts, routed);
    const char *name = (const char *)sqlite3_column_text(row, 0);
    size_t domain = domain_named(m, name ? name : "");
    if (sgm_routed_is_attention(r->model.attention_experts, routed))
        return SGM_OK;
    if (layer < 0 || layer >= m->layers || sqlite3_column_bytes(row, 2) != 4 * r->stored || domain == m->domains)
        return sgm_fail(r->error, SGM_EFORMAT, sgm_lab_remove_run,
                        "%s: a row of domain_load is of another model or evaluation", r->path);
    const unsigned char *counts = sqlite3_column_blob(row, 2);
    int64_t *to = r->domain_count + ((int64_t)domain * m->layers + layer) * m->experts;
    for (int64_t e = 0; e < m->experts; e++)
        to[e] = sgm_run_log_u32(counts + 4 * e);
    r->domain_tokens[domain] = sqlite3_column_int64(row, 3);
    return SGM_OK;
}

/* Of one layer; `count` (domains) and `scratch` (2 E) are scratch. */
static void diverge(sgm_lab_reader *r, int64_t layer, const int64_t **count, double *scratch) {
    sgm_lab_measures *m = r->m;
    size_t present = 0;
    for (size_t d = 0; d < m->domains; d++) {
        int64_t total = 0, at = ((int64_t)d * m->layers + layer) * m->experts;
        count[d] = r->domain_count + at;
        for (int64_t e = 0; e < m->experts; e++)
            total += count[d][e];
        for (int64_t e = 0; e < m->experts; e++)
            m->domain_share[at + e] =
                total > 0 ? (double)count[d][e] * (double)m->experts / (double)total : (double)NAN;
        present += total > 0;
    }
    sgm_divergence found = sgm_domain_divergence(count, r->domain_tokens, m->domains, m->experts, scratch);
    m->layer[layer].domain_divergence = present > 1 ? found.nats : (double)NAN;
    m->layer[layer].domain_divergence_noise = present > 1 ? found.noise_nats : (double)NAN;
}

static sgm_status read_rows(sgm_lab_reader *r) {
    sgm_lab_measures *m = r->m;
    size_t cells = m->domains * (size_t)(m->layers * m->experts);
    r->domain_count = sgm_alloc(cells * sizeof *r->domain_count);
    m->domain_share = sgm_alloc(cells * sizeof *m->domain_share);
    r->domain_tokens = sgm_alloc(m->domains * sizeof *r->domain_tokens);
    const int64_t **count = sgm_alloc(m->domains * sizeof *count);
    double *scratch = sgm_alloc(2 * (size_t)m->experts * sizeof *scratch);
    sgm_status status =
        r->domain_count && r->domain_tokens && m->domain_share && count && scratch ? SGM_OK : sgm_lab_no_memory(r);
    if (!status)
        status = sgm_lab_each(r,
                              "SELECT domain, layer, counts, tokens FROM domain_load "
                              "WHERE step = (SELECT max(step) FROM evals) ORDER BY domain, layer",
                              take_row);
    for (int64_t layer = 0; layer < m->layers && !status; layer++)
        diverge(r, layer, count, scratch);
    sgm_free(count);
    sgm_free(scratch);
    return status;
}

sgm_status sgm_lab_measure_domains(sgm_lab_reader *r) {
    for (int64_t layer = 0; layer < r->m->layers; layer++)
        r->m->layer[layer].domain_divergence = r->m->layer[layer].domain_divergence_noise = (double)NAN;
    return r->version >= SGM_RUN_LOG_HAS_DOMAINS && r->m->domains > 1 ? read_rows(r) : SGM_OK;
}
