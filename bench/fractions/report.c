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

enum how { leases, plain, steady };

static const struct equal_case {
	const char *name, *whole;
	enum how how;
} equal_cases[] = {
#define FR_CASE(name, model, replicas, permille, how, quick, whole) {name, whole, how},
#define FR_SPECIAL(name, function, parts, steps, quick)
#include "fractions/cases.def"
#undef FR_CASE
#undef FR_SPECIAL
};

double fr_ratio(double value, double of)
{
	return of > 0 && isfinite(value) ? value / of : NAN;
}

void fr_cell_ms(struct aq_table *t, double ms)
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
	aq_table_cell(t, "%s%s", row->name, fr_host_bound(&row->host) ? " *" : "");
	aq_table_cell(t, "%s", row->model);
	aq_table_cell(t, "%u x %g", row->replicas, row->permille / 1000.0);
	aq_table_cell(t, "%s", row->arbitration);
	if (row->within)
		aq_table_cell(t, "%u", row->users);
	else
		aq_table_cell(t, "0 of %u", row->users);
	aq_table_cell(t, "%.0f", m->tokens_per_second);
	fr_cell_ms(t, m->ttft_p50);
	fr_cell_ms(t, m->ttft_p95);
	fr_cell_ms(t, m->ttft_max);
	fr_cell_ms(t, m->itl_p50);
	fr_cell_ms(t, m->itl_p99);
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

/* The most that the host had to do, and which rows it spoiled. */
static void print_host(const struct fr_run *run, FILE *out)
{
	double cpu = 0, wait = 0, stolen = 0;
	size_t bound = 0;

	for (size_t i = 0; i < run->answers.count; i++) {
		const struct fr_host_use *u = &run->answers.rows[i].host;

		cpu = isfinite(u->cpu) ? fmax(cpu, u->cpu) : cpu;
		wait = isfinite(u->wait) ? fmax(wait, u->wait) : wait;
		stolen = isfinite(u->stolen) ? fmax(stolen, u->stolen) : stolen;
		bound += fr_host_bound(u);
	}
	fprintf(out,
		"\nThe host, %ld cores: at most %.0f %% of it in use by the experiment, and a "
		"server's threads waited at most\n%.1f %% of the time for a core; a hypervisor "
		"gave at most %.1f %% of it to others.\n",
		sysconf(_SC_NPROCESSORS_ONLN), cpu * 100, wait * 100, stolen * 100);
	if (bound)
		fprintf(out,
			"* In %zu row%s the host was the bound, not the GPU: such rows say nothing "
			"of "
			"a GPU.\n",
			bound, bound == 1 ? "" : "s");
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
		print_host(run, out);
	}
	aq_table_finish(&t);
	return r;
}

/* The step of a case with as many users on the GPU, or on each model, as the whole GPU's answer. */
const struct fr_row *fr_row_matched(const struct fr_run *run, const char *name, const char *with,
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

void fr_cell_percent(struct aq_table *t, double ratio)
{
	if (isfinite(ratio))
		aq_table_cell(t, "%.1f %%", ratio * 100);
	else
		aq_table_cell(t, "-");
}

static int add_matched(struct aq_table *t, const struct fr_run *run, const char *name,
		       const char *with, bool by_model)
{
	const struct fr_row *row = fr_row_matched(run, name, with, by_model);
	const struct fr_row *whole = fr_rows_find(&run->answers, with);

	if (!row)
		return 0;
	if (aq_table_row(t) < 0)
		return -ENOMEM;
	aq_table_cell(t, "%s", name);
	aq_table_cell(t, "%s", by_model ? "on each model" : "on the GPU");
	aq_table_cell(t, "%u", by_model ? row->users / row->replicas : row->users);
	aq_table_cell(t, "%.0f", row->result.tokens_per_second);
	fr_cell_percent(t,
			fr_ratio(row->result.tokens_per_second, whole->result.tokens_per_second));
	fr_cell_ms(t, row->result.ttft_p50);
	fr_cell_ms(t, row->result.ttft_p95);
	fr_cell_ms(t, row->result.itl_p50);
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
		const char *name = equal_cases[i].name, *with = equal_cases[i].whole;

		if (!strcmp(name, with) || equal_cases[i].how == steady)
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

/* Three models on one GPU, and each on its own: users and rates of a GPU. */
static int add_mixed(struct aq_table *t, const struct fr_run *run, const char *name, uint32_t gpus,
		     const char *what)
{
	const struct fr_row *one = fr_rows_find(&run->answers, "mixed");
	const struct fr_row *row = fr_rows_find(&run->answers, name);
	double rate;

	if (!row)
		return 0;
	if (aq_table_row(t) < 0)
		return -ENOMEM;
	rate = row->result.tokens_per_second / gpus;
	aq_table_cell(t, "%s%s", row->name, fr_host_bound(&row->host) ? " *" : "");
	aq_table_cell(t, "%s", what);
	aq_table_cell(t, "%u", gpus);
	aq_table_cell(t, "%u", row->users);
	aq_table_cell(t, "%u", row->users / gpus);
	aq_table_cell(t, "%.0f", rate);
	fr_cell_percent(t, fr_ratio(one->result.tokens_per_second, rate));
	aq_table_cell(t, "%.2f", row->result.requests_per_second / gpus);
	fr_cell_ms(t, row->result.ttft_p95);
	fr_cell_ms(t, row->result.ttft_max);
	aq_table_cell(t, "%" PRIu64, row->result.requests);
	return 0;
}

static int print_mixed(const struct fr_run *run, FILE *out)
{
	static const struct aq_column heads[] = {{"CASE"},
						 {"SAME USERS"},
						 {"GPUS", .right = true},
						 {"USERS", .right = true},
						 {"OF A GPU", .right = true},
						 {"TOK/S OF A GPU", .right = true},
						 {"SHARED / THIS", .right = true},
						 {"REQ/S OF A GPU", .right = true},
						 {"TTFT P95", .right = true},
						 {"MAX", .right = true},
						 {"N", .right = true}};
	struct aq_table t;
	int r;

	if (!fr_rows_find(&run->answers, "mixed") || !fr_rows_find(&run->answers, "mixed-apart"))
		return 0;
	aq_table_init(&t, heads, 11);
	r = add_mixed(&t, run, "mixed", 1, "");
	r |= add_mixed(&t, run, "mixed-apart", 3, "on each model");
	r |= add_mixed(&t, run, "mixed-apart-gpu", 3, "on each GPU");
	if (!r) {
		fputs("\nThree models on one GPU, and on a GPU each:\n\n", out);
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
	if (!r)
		r = print_mixed(run, out);
	print_scale(run, out);
	if (!r)
		r = fr_claims_print(run, out);
	for (size_t i = 0; i < run->notes.count; i++)
		fprintf(out, "%s%s\n", i ? "  " : "\nNotes:\n  ", run->notes.lines[i]);
	return r ? r : fflush(out) || ferror(out) ? -EIO : 0;
}
