/* SPDX-License-Identifier: Apache-2.0 */
/* Results as tables for people, JSON, CSV and plots. */
#ifndef AQ_SERVE_REPORT_H
#define AQ_SERVE_REPORT_H

#include <stdio.h>

#include <jansson.h>

#include "serve/load.h"
#include "serve/search.h"
#include "serve/summary.h"

/* One step of a search, with what it measured. */
struct aq_search_row {
	struct aq_search_step step;
	struct aq_summary summary;
};

struct aq_search_report {
	struct aq_search_row *rows;
	size_t count;
	bool finished; /* not interrupted */
	bool at_most;  /* the largest count that may be tried was within the bound */
	uint32_t best[AQ_SEARCH_BYS];
	uint64_t bound_ns;
	bool every;
};

/* Tables on @out. Return: 0; -ENOMEM. */
int aq_report_print(const struct aq_load_config *c, const struct aq_bounds *b,
		    const struct aq_load_result *r, FILE *out);
int aq_report_search_print(const struct aq_search_report *s, FILE *out);

/* The line of a step while the search runs. */
void aq_report_search_line(const struct aq_search_row *row, const struct aq_search_report *s,
			   FILE *out);

/* Objects; NULL out of memory. */
json_t *aq_report_json(const struct aq_load_config *c, const struct aq_bounds *b,
		       const struct aq_load_result *r);
json_t *aq_report_search_json(const struct aq_search_report *s);
json_t *aq_report_summary_json(const struct aq_summary *s);

/* A row for each request. Return: 0 or -EIO. */
int aq_report_csv(const struct aq_load_config *c, const struct aq_load_result *r, FILE *out);

/* Plots into the directory @dir: ttft-over-time.svg and latency.svg, or search.svg.
 * Return: 0; negative errno. */
int aq_report_plots(const struct aq_load_config *c, const struct aq_bounds *b,
		    const struct aq_load_result *r, const char *dir);
int aq_report_search_plot(const struct aq_search_report *s, const char *subtitle, const char *dir);

/* `2 targets, 40 users, ISL 512, OSL 128, seed 42`. @buf of 256. Returns @buf. */
char *aq_report_conditions(const struct aq_load_config *c, char *buf);

#endif /* AQ_SERVE_REPORT_H */
