/* SPDX-License-Identifier: Apache-2.0 */
/* Draws the report's plots. Computes nothing that is not drawn. */
#include "fractions/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "plot/plot.h"
#include "base/banned.h"

#define GROUPS_MOST 16

static char *subtitle(const struct fr_run *run, bool steady, char *buf, size_t size)
{
	const struct fr_config *c = run->config;

	snprintf(buf, size, "%s%s, ISL %u, OSL %u, every TTFT <= %g ms, users %s; * host-bound",
		 c->sim ? "simulated " : "", run->stage.device, c->isl, c->osl, c->bound_ms,
		 steady ? "in turn" : "at once");
	return buf;
}

static int path_of(const struct fr_run *run, const char *name, char *path)
{
	return aq_paths_join(path, run->config->out, name);
}

/* Cases that are no number of users of one GPU, and parts of a case (`mixed/chat`). */
static bool is_other(const char *name)
{
	return strchr(name, '/') || !strncmp(name, "shift", 5) || !strncmp(name, "mixed-", 6) ||
	       !strcmp(name, "scale-out");
}

/* Two lines, and a star where the host was the bound. */
static const char *group_name(const struct fr_row *row, char name[FR_CASE_BYTES + 2])
{
	char *dash;

	snprintf(name, FR_CASE_BYTES + 2, "%s%s", row->name, fr_host_bound(&row->host) ? " *" : "");
	dash = strrchr(name, '-');
	if (dash)
		*dash = '\n';
	return name;
}

/* A bar for each answer of users who begin at once, or one after the other. */
static int draw_answers(const struct fr_run *run, const char *file, const char *title,
			const char *label, bool of_users, bool steady)
{
	char names[GROUPS_MOST][FR_CASE_BYTES + 2], path[AQ_PATH_BYTES], text[256];
	const char *groups[GROUPS_MOST], *series[] = {label};
	double values[GROUPS_MOST];
	struct aq_bars b = {.title = title,
			    .subtitle = subtitle(run, steady, text, sizeof(text)),
			    .y_label = label,
			    .groups = groups,
			    .series = series,
			    .series_count = 1,
			    .values = values};
	int r = path_of(run, file, path);

	for (size_t i = 0; i < run->answers.count && b.group_count < GROUPS_MOST; i++) {
		const struct fr_row *row = &run->answers.rows[i];

		if (is_other(row->name) || !strncmp(row->name, "steady", 6) != steady)
			continue;
		groups[b.group_count] = group_name(row, names[b.group_count]);
		values[b.group_count++] = !of_users	? row->result.tokens_per_second
					  : row->within ? row->users
							: 0;
	}
	return r || !b.group_count ? r : aq_bars_save(&b, path);
}

struct curve {
	double x[64], y[64];
};

static int by_x(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return x[0] < y[0] ? -1 : x[0] > y[0];
}

static size_t take_curve(const struct fr_run *run, const char *name, struct curve *c)
{
	double pairs[64][2];
	size_t n = 0;

	for (size_t i = 0; i < run->steps.count && n < 64; i++) {
		const struct fr_row *row = &run->steps.rows[i];

		if (strcmp(row->name, name))
			continue;
		pairs[n][0] = row->users;
		pairs[n++][1] = row->result.ttft_max;
	}
	qsort(pairs, n, sizeof(pairs[0]), by_x);
	for (size_t i = 0; i < n; i++) {
		c->x[i] = pairs[i][0];
		c->y[i] = pairs[i][1];
	}
	return n;
}

static int draw_steps(const struct fr_run *run)
{
	AQ_CLEANUP(free) struct curve *curves = calloc(AQ_PLOT_SERIES, sizeof(*curves));
	char path[AQ_PATH_BYTES], text[256];
	struct aq_plot p = {.title = "Longest time to first token by users of one GPU",
			    .subtitle = subtitle(run, false, text, sizeof(text)),
			    .x = {.label = "users"},
			    .y = {.label = "longest TTFT (ms)"},
			    .rules = {{.label = "bound", .at = run->config->bound_ms}},
			    .rule_count = 1};
	int r = path_of(run, "ttft-by-users.svg", path);

	if (!curves)
		return -ENOMEM;
	for (size_t i = 0; i < run->answers.count && p.series_count < AQ_PLOT_SERIES; i++) {
		const char *name = run->answers.rows[i].name;
		struct curve *c = &curves[p.series_count];
		size_t n = strchr(name, '/') || strstr(name, "s") == name
				   ? 0
				   : take_curve(run, name, c);

		if (n)
			p.series[p.series_count++] =
				(struct aq_plot_series){name, c->x, c->y, n, AQ_PLOT_MARKED};
	}
	return r || !p.series_count ? r : aq_plot_save(&p, path);
}

static int draw_scale(const struct fr_run *run)
{
	static const char *const names[] = {"first replica", "second", "third", "fourth"};
	const struct fr_scale *s = &run->scale;
	AQ_CLEANUP(free) double *xy = calloc(2 * s->count + 1, sizeof(*xy));
	char path[AQ_PATH_BYTES], text[256];
	struct aq_plot p = {.title = "Scale-out: time to first token as replicas join on one GPU",
			    .subtitle = subtitle(run, false, text, sizeof(text)),
			    .x = {.label = "seconds"},
			    .y = {.label = "TTFT (ms)"},
			    .rules = {{.label = "bound", .at = run->config->bound_ms}},
			    .rule_count = 1};
	size_t used = 0;
	int r = path_of(run, "scale-out.svg", path);

	if (!xy)
		return -ENOMEM;
	for (size_t k = 0; k < s->replicas; k++) {
		size_t n = 0;

		for (size_t i = 0; i < s->count; i++) {
			if (s->dots[i].replica != k || !isfinite(s->dots[i].ttft_ms))
				continue;
			xy[used + n] = s->dots[i].at_s;
			xy[s->count + used + n++] = s->dots[i].ttft_ms;
		}
		p.series[p.series_count++] = (struct aq_plot_series){
			names[k], xy + used, xy + s->count + used, n, AQ_PLOT_DOTS};
		used += n;
	}
	return r || !used ? r : aq_plot_save(&p, path);
}

static int draw_shift(const struct fr_run *run)
{
	static const char *const cases[] = {"shift-static", "shift-dynamic", "shift-priority"};
	static const char *const parts[] = {"first", "second"};
	const char *groups[3];
	double values[6];
	char path[AQ_PATH_BYTES], text[256];
	struct aq_bars b = {.title = "Demand moves from the first model to the second: TTFT p95",
			    .subtitle = subtitle(run, false, text, sizeof(text)),
			    .y_label = "TTFT p95 (ms)",
			    .groups = groups,
			    .series = parts,
			    .series_count = 2,
			    .values = values};
	int r = path_of(run, "shift.svg", path);

	for (size_t i = 0; i < 3; i++) {
		if (!fr_rows_find(&run->answers, cases[i]))
			continue;
		for (size_t k = 0; k < 2; k++) {
			char name[FR_CASE_BYTES];
			const struct fr_row *row;

			snprintf(name, sizeof(name), "%s/%s", cases[i], parts[k]);
			row = fr_rows_find(&run->answers, name);
			values[2 * b.group_count + k] = row ? row->result.ttft_p95 : NAN;
		}
		groups[b.group_count++] = cases[i];
	}
	return r || !b.group_count ? r : aq_bars_save(&b, path);
}

static const struct {
	uint32_t requests;
	double hami, mps;
} published[] = {
#define FR_RESIDENT(n, hami, mps) {n, hami, mps},
#define FR_RESIDENT_EACH(n, both, hami, mps)
#include "fractions/resident.def"
#undef FR_RESIDENT
#undef FR_RESIDENT_EACH
};

/* Percent of one model's tokens; NAN where the host was the bound or nothing was measured. */
static double of_one(const struct fr_run *run, const char *how, uint32_t requests)
{
	const struct fr_row *row, *one;
	char name[FR_CASE_BYTES];

	snprintf(name, sizeof(name), "resident-%s/%u", how, requests);
	row = fr_rows_find(&run->answers, name);
	snprintf(name, sizeof(name), "resident-one/%u", requests);
	one = fr_rows_find(&run->answers, name);
	if (!row || !one || fr_host_bound(&row->host) || fr_host_bound(&one->host))
		return NAN;
	return 100 * fr_ratio(row->result.tokens_per_second, one->result.tokens_per_second);
}

static int draw_resident(const struct fr_run *run)
{
	static const char *const series[] = {"leases", "plain slicing", "MPS v3, published",
					     "HAMi, published"};
	char names[AQ_ARRAY_SIZE(published)][32], path[AQ_PATH_BYTES], text[160];
	const char *groups[AQ_ARRAY_SIZE(published)];
	double values[4 * AQ_ARRAY_SIZE(published)];
	const struct fr_row *any = NULL;
	struct aq_bars b = {.title = "Two models with as many requests as one: tokens per second",
			    .subtitle = text,
			    .y_label = "% of one model",
			    .groups = groups,
			    .series = series,
			    .series_count = 4,
			    .values = values};
	int r = path_of(run, "resident.svg", path);

	for (size_t i = 0; i < AQ_ARRAY_SIZE(published); i++) {
		double *v = values + 4 * b.group_count;

		snprintf(names[b.group_count], sizeof(names[0]), "resident-one/%u",
			 published[i].requests);
		if (!fr_rows_find(&run->answers, names[b.group_count]))
			continue;
		any = fr_rows_find(&run->answers, names[b.group_count]);
		snprintf(names[b.group_count], sizeof(names[0]), "%u", published[i].requests);
		v[0] = of_one(run, "leases", published[i].requests);
		v[1] = of_one(run, "plain", published[i].requests);
		v[2] = published[i].mps;
		v[3] = published[i].hami;
		groups[b.group_count] = names[b.group_count];
		b.group_count++;
	}
	if (r || !any)
		return r;
	snprintf(text, sizeof(text), "%s%s, %s, ISL %u, OSL %u, by requests on the GPU",
		 any->simulated ? "simulated " : "", any->device, any->model, any->isl, any->osl);
	return aq_bars_save(&b, path);
}

int fr_report_plots(const struct fr_run *run)
{
	int r = draw_answers(run, "users.svg", "Users of one GPU within the bound", "users", true,
			     false);

	if (!r)
		r = draw_answers(run, "throughput.svg",
				 "Tokens per second of one GPU at those users", "tokens/s", false,
				 false);
	if (!r)
		r = draw_answers(run, "users-steady.svg", "Users of one GPU within the bound",
				 "users", true, true);
	if (!r)
		r = draw_resident(run);
	if (!r)
		r = draw_steps(run);
	if (!r)
		r = draw_scale(run);
	return r ? r : draw_shift(run);
}
