/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the report. Computes ratios and nothing else. */
#include "fractions/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/timing.h"
#include "cli/text.h"
#include "base/banned.h"

static const char *const equal_cases[] = {
#define FR_CASE(name, model, replicas, permille, plain, quick) name,
#include "fractions/cases.def"
#undef FR_CASE
};

enum figure { users, tokens, at_gpu, at_model, moved };

static const struct claim {
	const char *what, *published, *conditions;
	enum figure figure;
	const char *name, *with;
} claims[] = {
#define FR_CLAIM(what, published, conditions, figure, name, with)                                  \
	{what, published, conditions, figure, name, with},
#include "fractions/claims.def"
#undef FR_CLAIM
};

double fr_ratio(double value, double of)
{
	return of > 0 && isfinite(value) ? value / of : NAN;
}

static void cell_ms(struct aq_table *t, double ms)
{
	if (isfinite(ms))
		aq_table_cell(t, "%.*f", ms < 100 ? 1 : 0, ms);
	else
		aq_table_cell(t, "-");
}

static int add_answer(struct aq_table *t, const struct fr_row *row)
{
	const struct fr_result *m = &row->result;

	if (aq_table_row(t) < 0)
		return -ENOMEM;
	aq_table_cell(t, "%s", row->name);
	aq_table_cell(t, "%s", row->model);
	aq_table_cell(t, "%u x %g", row->replicas, row->permille / 1000.0);
	aq_table_cell(t, "%s", row->arbitration);
	if (row->within)
		aq_table_cell(t, "%u", row->users);
	else
		aq_table_cell(t, "0 of %u", row->users);
	aq_table_cell(t, "%.0f", m->tokens_per_second);
	cell_ms(t, m->ttft_p50);
	cell_ms(t, m->ttft_p95);
	cell_ms(t, m->ttft_max);
	cell_ms(t, m->itl_p50);
	cell_ms(t, m->itl_p99);
	aq_table_cell(t, "%" PRIu64, m->requests);
	return 0;
}

/* Answers whose gaps between tokens cannot be told. */
static void print_doubts(const struct fr_run *run, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < run->answers.count; i++) {
		const struct fr_row *row = &run->answers.rows[i];

		if (isfinite(row->result.itl_p50) || !(row->result.tokens_per_second > 0))
			continue;
		fprintf(out, "%s%s",
			any ? ", "
			    : "\nNo ITL, since the load generator read later than tokens "
			      "came: ",
			row->name);
		any = true;
	}
	if (any)
		fputc('\n', out);
}

static int print_answers(const struct fr_run *run, FILE *out)
{
	static const struct aq_column heads[] = {{"CASE"},
						 {"MODEL"},
						 {"PARTS"},
						 {"SHARED BY"},
						 {"USERS", .right = true},
						 {"TOK/S", .right = true},
						 {"TTFT P50", .right = true},
						 {"P95", .right = true},
						 {"MAX", .right = true},
						 {"ITL P50", .right = true},
						 {"P99", .right = true},
						 {"N", .right = true}};
	struct aq_table t;
	int r = 0;

	aq_table_init(&t, heads, 12);
	for (size_t i = 0; i < run->answers.count && !r; i++)
		r = add_answer(&t, &run->answers.rows[i]);
	if (!r) {
		aq_table_print(&t, out, 0);
		print_doubts(run, out);
	}
	aq_table_finish(&t);
	return r;
}

/* The step of a case with as many users on the GPU, or on each model, as the whole GPU's answer. */
static const struct fr_row *matched(const struct fr_run *run, const char *name, const char *with,
				    bool by_model)
{
	const struct fr_row *whole = fr_rows_find(&run->answers, with);
	const struct fr_row *own = fr_rows_find(&run->answers, name);
	uint32_t count;

	if (!whole || !own || !whole->within)
		return NULL;
	count = by_model ? whole->users * own->replicas
			 : whole->users / own->replicas * own->replicas;
	return fr_rows_at(&run->steps, name, count);
}

static void cell_percent(struct aq_table *t, double ratio)
{
	if (isfinite(ratio))
		aq_table_cell(t, "%.1f %%", ratio * 100);
	else
		aq_table_cell(t, "-");
}

static int add_matched(struct aq_table *t, const struct fr_run *run, const char *name,
		       const char *with, bool by_model)
{
	const struct fr_row *row = matched(run, name, with, by_model);
	const struct fr_row *whole = fr_rows_find(&run->answers, with);

	if (!row)
		return 0;
	if (aq_table_row(t) < 0)
		return -ENOMEM;
	aq_table_cell(t, "%s", name);
	aq_table_cell(t, "%s", by_model ? "on each model" : "on the GPU");
	aq_table_cell(t, "%u", by_model ? row->users / row->replicas : row->users);
	aq_table_cell(t, "%.0f", row->result.tokens_per_second);
	cell_percent(t, fr_ratio(row->result.tokens_per_second, whole->result.tokens_per_second));
	cell_ms(t, row->result.ttft_p50);
	cell_ms(t, row->result.ttft_p95);
	cell_ms(t, row->result.itl_p50);
	aq_table_cell(t, "%" PRIu64, row->result.requests);
	return 0;
}

static int print_matched(const struct fr_run *run, FILE *out)
{
	static const struct aq_column heads[] = {{"CASE"},
						 {"SAME USERS"},
						 {"USERS", .right = true},
						 {"TOK/S", .right = true},
						 {"OF THE WHOLE", .right = true},
						 {"TTFT P50", .right = true},
						 {"P95", .right = true},
						 {"ITL P50", .right = true},
						 {"N", .right = true}};
	struct aq_table t;
	int r = 0;

	aq_table_init(&t, heads, 9);
	for (size_t i = 0; i < sizeof(equal_cases) / sizeof(equal_cases[0]); i++) {
		const char *name = equal_cases[i];
		const char *with = strstr(name, "small") ? "small-full" : "full";

		if (!strcmp(name, with))
			continue;
		r |= add_matched(&t, run, name, with, false);
		if (strcmp(name, "half") && !strstr(name, "full"))
			r |= add_matched(&t, run, name, with, true);
	}
	if (!r && t.rows) {
		fputs("\nWith as many users as the whole GPU serves within the bound:\n\n", out);
		aq_table_print(&t, out, 0);
	}
	aq_table_finish(&t);
	return r;
}

/* What of ours stands beside a claim: a part of the whole, and how many requests it rests on. */
static double own_figure(const struct fr_run *run, const struct claim *c, uint64_t *ret_n)
{
	const struct fr_row *row = fr_rows_find(&run->answers, c->name);
	const struct fr_row *with = fr_rows_find(&run->answers, c->with);

	if (c->figure == at_gpu || c->figure == at_model)
		row = matched(run, c->name, c->with, c->figure == at_model);
	if (!row || !with || (!with->within && c->figure != moved))
		return NAN;
	*ret_n = row->result.requests + with->result.requests;
	if (c->figure == users)
		return fr_ratio(row->within ? row->users : 0, with->users);
	return fr_ratio(row->result.tokens_per_second, with->result.tokens_per_second);
}

static int print_claims(const struct fr_run *run, FILE *out)
{
	static const struct aq_column heads[] = {
		{"PUBLISHED"}, {"FIGURE"}, {"ITS CONDITIONS"},	{"OURS", .right = true},
		{"CASES"},     {"MODEL"},  {"N", .right = true}};
	const struct fr_config *c = run->config;
	struct aq_table t;
	int r = 0;

	aq_table_init(&t, heads, 7);
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]) && !r; i++) {
		uint64_t n = 0;
		double ours = own_figure(run, &claims[i], &n);
		const struct fr_row *row = fr_rows_find(&run->answers, claims[i].name);

		r = aq_table_row(&t);
		aq_table_cell(&t, "%s", claims[i].what);
		aq_table_cell(&t, "%s", claims[i].published);
		aq_table_cell(&t, "%s", claims[i].conditions);
		cell_percent(&t, ours);
		aq_table_cell(&t, "%s / %s", claims[i].name, claims[i].with);
		aq_table_cell(&t, "%s", isfinite(ours) && row ? row->model : "not measured");
		if (isfinite(ours))
			aq_table_cell(&t, "%" PRIu64, n);
		else
			aq_table_cell(&t, "-");
	}
	if (!r) {
		fprintf(out,
			"\nPublished figures, and ours beside them, every one of ours %s: ISL %u, "
			"OSL %u, "
			"every TTFT <= %g ms\nwith all users beginning at once, n requests of both "
			"cases:\n\n",
			c->sim ? "SIMULATED" : "measured", c->isl, c->osl, c->bound_ms);
		aq_table_print(&t, out, 0);
	}
	aq_table_finish(&t);
	return r;
}

static double worst_from(const struct fr_scale *s, double from_s, double to_s, size_t *failures)
{
	double worst = 0;

	*failures = 0;
	for (size_t i = 0; i < s->count; i++) {
		if (s->dots[i].at_s < from_s || s->dots[i].at_s >= to_s)
			continue;
		*failures += s->dots[i].failed;
		if (isfinite(s->dots[i].ttft_ms))
			worst = fmax(worst, s->dots[i].ttft_ms);
	}
	return worst;
}

static void print_scale(const struct fr_run *run, FILE *out)
{
	const struct fr_scale *s = &run->scale;

	if (!s->count)
		return;
	fprintf(out,
		"\nScale-out, %u more users with each replica (Run:ai: no latency "
		"cliffs, no error\nspikes; without figures):\n\n",
		s->users_each);
	for (size_t i = 0; i < s->replicas; i++) {
		double end = i + 1 < s->replicas ? s->joined_s[i + 1] : s->length_s;
		size_t failures;
		double worst = worst_from(s, s->joined_s[i], end, &failures);

		fprintf(out,
			"  %4.1f to %4.1f s  %zu replica%s  longest TTFT %4.0f ms  %zu failed\n",
			s->joined_s[i], end, i + 1, i ? "s" : " ", worst, failures);
	}
}

int fr_report_print(const struct fr_run *run, FILE *out)
{
	const struct fr_config *c = run->config;
	int r;

	fprintf(out,
		"%s%s, ISL %u, OSL %u, every TTFT <= %g ms, windows of %.1f s, seed %" PRIu64
		", %" PRIu64 " requests\n\n",
		c->sim ? "simulated " : "",
		run->stage.device[0] ? run->stage.device
		: c->sim	     ? c->sim
				     : "no device",
		c->isl, c->osl, c->bound_ms, (double)c->window_ns / (double)AQ_NS_PER_S, c->seed,
		run->requests);
	/* Simulated time passes with the wall clock, so a host that has other work makes tokens
	 * late. */
	if (run->load > (double)sysconf(_SC_NPROCESSORS_ONLN) / 2)
		fprintf(out,
			"The host was busy (load %.1f on %ld cores): times are longer and users "
			"fewer "
			"than they would be.\n\n",
			run->load, sysconf(_SC_NPROCESSORS_ONLN));
	r = print_answers(run, out);
	if (!r)
		r = print_matched(run, out);
	print_scale(run, out);
	if (!r)
		r = print_claims(run, out);
	for (size_t i = 0; i < run->notes.count; i++)
		fprintf(out, "%s%s\n", i ? "  " : "\nNotes:\n  ", run->notes.lines[i]);
	return r ? r : fflush(out) || ferror(out) ? -EIO : 0;
}
