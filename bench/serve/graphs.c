/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses what of a run is worth a plot. Drawing is plot's. */
#include "serve/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "plot/plot.h"
#include "base/banned.h"

#define PATH_BYTES 4096
#define CURVE_POINTS 200 /* of a distribution */
#define BINS_MOST 60     /* of a run's time */
#define BIN_LEAST_NS AQ_NS_PER_S

static int save(const struct aq_plot *p, const char *dir, const char *name)
{
	char path[PATH_BYTES];
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return -ENAMETOOLONG;
	r = aq_plot_save(p, path);
	return r == -ENODATA ? 0 : r; /* a frame that says so is there */
}

struct points {
	double *x, *y;
	size_t count;
};

static int reserve(struct points *p, size_t count)
{
	p->x = calloc(count * 2 + 1, sizeof(double));
	p->y = p->x ? p->x + count : NULL;
	p->count = 0;
	return p->x ? 0 : -ENOMEM;
}

static void add(struct points *p, double x, double y)
{
	p->x[p->count] = x;
	p->y[p->count++] = y;
}

/* Every request's TTFT when it began, and percentiles of stretches of the run. */
struct timeline {
	struct points dots, p50, p95;
};

static uint64_t bin_of(const struct aq_load_result *r)
{
	uint64_t bin = r->run_ns / BINS_MOST;

	return bin > BIN_LEAST_NS ? bin : BIN_LEAST_NS;
}

/* Records lie in the order of their ends: sort values by bins, which are few. */
static int add_percentiles(struct timeline *t, const struct aq_load_result *r)
{
	uint64_t bin_ns = bin_of(r);
	size_t bins = (size_t)(r->run_ns / bin_ns) + 1;
	AQ_CLEANUP(free) double *values = calloc(t->dots.count + 1, sizeof(double));

	if (!values)
		return -ENOMEM;
	for (size_t b = 0; b < bins; b++) {
		double from = (double)(b * bin_ns) / 1e9, to = (double)((b + 1) * bin_ns) / 1e9;
		size_t n = 0;

		for (size_t i = 0; i < t->dots.count; i++)
			if (t->dots.x[i] >= from && t->dots.x[i] < to)
				values[n++] = t->dots.y[i];
		qsort(values, n, sizeof(double), aq_compare_doubles);
		add(&t->p50, (from + to) / 2, n ? aq_percentile(values, n, 50) : NAN);
		add(&t->p95, (from + to) / 2, n ? aq_percentile(values, n, 95) : NAN);
	}
	return 0;
}

static int make_timeline(struct timeline *t, const struct aq_load_result *r)
{
	size_t bins = (size_t)(r->run_ns / bin_of(r)) + 2;

	if (reserve(&t->dots, r->count) < 0 || reserve(&t->p50, bins) < 0 ||
	    reserve(&t->p95, bins) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < r->count; i++) {
		const struct aq_record *q = &r->records[i];

		if (q->first_ns)
			add(&t->dots, (double)q->start_ns / 1e9,
			    (double)(q->first_ns - q->start_ns) / 1e6);
	}
	return add_percentiles(t, r);
}

static int plot_timeline(const struct aq_load_config *c, const struct aq_bounds *b,
			 const struct aq_load_result *r, const char *dir)
{
	struct timeline t = {.dots.count = 0};
	char conditions[256];
	struct aq_plot p = {
		.title = "Time to first token over the run",
		.subtitle = aq_report_conditions(c, conditions),
		.x = {.label = "when the request began (s)"},
		.y = {.label = "time to first token (ms)"},
		.series_count = 3,
	};
	int result = make_timeline(&t, r);

	p.series[0] = (struct aq_plot_series){"p50", t.p50.x, t.p50.y, t.p50.count, AQ_PLOT_LINE};
	p.series[1] = (struct aq_plot_series){"p95", t.p95.x, t.p95.y, t.p95.count, AQ_PLOT_LINE};
	p.series[2] = (struct aq_plot_series){"each request", t.dots.x, t.dots.y, t.dots.count,
					      AQ_PLOT_DOTS};
	if (b->ttft_ns)
		p.rules[p.rule_count++] =
			(struct aq_plot_rule){"bound", (double)b->ttft_ns / 1e6, false};
	if (r->window_begin_ns)
		p.rules[p.rule_count++] = (struct aq_plot_rule){
			"warm-up ends", (double)r->window_begin_ns / 1e9, true};
	if (!result)
		result = save(&p, dir, "ttft-over-time.svg");
	free(t.dots.x);
	free(t.p50.x);
	free(t.p95.x);
	return result;
}

/* Share of requests at most that long, thinned to what a plot shows. */
static int add_curve(struct points *p, const struct aq_load_result *r, bool whole)
{
	AQ_CLEANUP(free) double *values = calloc(r->count + 1, sizeof(double));
	size_t n = 0;

	if (!values || reserve(p, CURVE_POINTS + 1) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < r->count; i++) {
		const struct aq_record *q = &r->records[i];

		if (!q->counted)
			continue;
		if (whole && q->end == AQ_END_OK)
			values[n++] = (double)(q->end_ns - q->start_ns) / 1e6;
		if (!whole && q->first_ns)
			values[n++] = (double)(q->first_ns - q->start_ns) / 1e6;
	}
	qsort(values, n, sizeof(double), aq_compare_doubles);
	for (size_t i = 0; n && i <= CURVE_POINTS; i++) {
		double percent = 100.0 * (double)i / CURVE_POINTS;

		add(p, aq_percentile(values, n, percent), percent);
	}
	return 0;
}

/* The same of all gaps between tokens. */
static int add_gaps(struct points *p, const struct aq_load_result *r)
{
	AQ_CLEANUP(free) struct aq_hist *all = calloc(1, sizeof(*all));

	if (!all || reserve(p, CURVE_POINTS + 1) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < r->target_count; i++)
		aq_hist_merge(all, r->targets[i].itl);
	for (size_t i = 0; all->count && i <= CURVE_POINTS; i++) {
		double percent = 100.0 * (double)i / CURVE_POINTS;

		add(p, (double)aq_hist_percentile(all, percent) / 1e6, percent);
	}
	return 0;
}

static int plot_latency(const struct aq_load_config *c, const struct aq_bounds *b,
			const struct aq_load_result *r, const char *dir)
{
	struct points ttft = {.x = NULL}, gaps = {.x = NULL}, whole = {.x = NULL};
	char conditions[256];
	struct aq_plot p = {
		.title = "Latency of requests",
		.subtitle = aq_report_conditions(c, conditions),
		.x = {.label = "milliseconds", .log = true},
		.y = {.label = "at most that long (%)", .bounded = true, .min = 0, .max = 100},
		.series_count = 3,
	};
	int result = add_curve(&ttft, r, false) | add_gaps(&gaps, r) | add_curve(&whole, r, true);

	p.series[0] = (struct aq_plot_series){"time to first token", ttft.x, ttft.y, ttft.count,
					      AQ_PLOT_LINE};
	p.series[1] = (struct aq_plot_series){"between tokens", gaps.x, gaps.y, gaps.count,
					      AQ_PLOT_LINE};
	p.series[2] = (struct aq_plot_series){"whole request", whole.x, whole.y, whole.count,
					      AQ_PLOT_LINE};
	if (b->ttft_ns)
		p.rules[p.rule_count++] = (struct aq_plot_rule){
			"bound of the first token", (double)b->ttft_ns / 1e6, true};
	if (!result)
		result = save(&p, dir, "latency.svg");
	free(ttft.x);
	free(gaps.x);
	free(whole.x);
	return result;
}

int aq_report_plots(const struct aq_load_config *c, const struct aq_bounds *b,
		    const struct aq_load_result *r, const char *dir)
{
	int result = plot_timeline(c, b, r, dir);

	return result ? result : plot_latency(c, b, r, dir);
}

static int compare_rows(const void *a, const void *b)
{
	const struct aq_search_row *x = *(const struct aq_search_row *const *)a;
	const struct aq_search_row *y = *(const struct aq_search_row *const *)b;

	return (x->step.users > y->step.users) - (x->step.users < y->step.users);
}

/* Steps in the order of their users, for the lines. */
static int add_steps(const struct aq_search_report *s, struct points p[3])
{
	AQ_CLEANUP(free) const struct aq_search_row **rows = calloc(s->count + 1, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++)
		rows[i] = &s->rows[i];
	qsort(rows, s->count, sizeof(*rows), compare_rows);
	for (size_t i = 0; i < s->count; i++) {
		double users = rows[i]->step.users;

		add(&p[0], users, rows[i]->summary.ttft.p50);
		add(&p[1], users, rows[i]->summary.ttft.p95);
		add(&p[2], users, rows[i]->summary.ttft.max);
	}
	return 0;
}

int aq_report_search_plot(const struct aq_search_report *s, const char *subtitle, const char *dir)
{
	static const char *const names[] = {"p50", "p95", "slowest"};
	struct points points[3] = {{.x = NULL}};
	char best[64];
	struct aq_plot p = {
		.title = "Users and time to first token",
		.subtitle = subtitle,
		.x = {.label = "concurrent users", .log = true},
		.y = {.label = "time to first token (ms)", .log = true},
		.series_count = 3,
		.rules = {{"bound", (double)s->bound_ns / 1e6, false},
			  {best, s->best[AQ_SEARCH_P95], true}},
		.rule_count = s->best[AQ_SEARCH_P95] ? 2 : 1,
	};
	int r = 0;

	snprintf(best, sizeof(best), "%u users", s->best[AQ_SEARCH_P95]);
	for (size_t i = 0; i < 3; i++)
		r |= reserve(&points[i], s->count);
	if (!r)
		r = add_steps(s, points);
	for (size_t i = 0; i < 3; i++)
		p.series[i] = (struct aq_plot_series){names[i], points[i].x, points[i].y,
						      points[i].count, AQ_PLOT_MARKED};
	if (!r)
		r = save(&p, dir, "search.svg");
	for (size_t i = 0; i < 3; i++)
		free(points[i].x);
	return r;
}
