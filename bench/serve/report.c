/* SPDX-License-Identifier: Apache-2.0 */
/* Prints results. Measures and computes nothing. */
#include "serve/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/timing.h"
#include "cli/text.h"
#include "base/banned.h"

#define LAG_WARNING_MS 1.0 /* own p99 above this is said, for timings of closed loops suffer */

char *aq_report_conditions(const struct aq_load_config *c, char *buf)
{
	const struct aq_target *t = &c->targets[0];
	char isl[64], osl[64], load[64];
	uint32_t users = 0;
	double rate = 0;

	for (size_t i = 0; i < c->target_count; i++) {
		if (c->targets[i].rate > 0)
			rate += c->targets[i].rate;
		else
			users += aq_target_users_most(&c->targets[i]);
	}
	if (rate > 0 && users)
		snprintf(load, sizeof(load), "%u users and %g requests/s", users, rate);
	else if (rate > 0)
		snprintf(load, sizeof(load), "%g requests/s", rate);
	else
		snprintf(load, sizeof(load), "%u user%s", users, users == 1 ? "" : "s");
	if (c->target_count > 1)
		snprintf(buf, 256, "%zu targets, %s, seed %" PRIu64, c->target_count, load, c->seed);
	else if (c->lengths)
		snprintf(buf, 256, "%.60s, %s, lengths from a file, seed %" PRIu64, t->model, load,
			 c->seed);
	else
		snprintf(buf, 256, "%.60s, %s, ISL %s, OSL %s, seed %" PRIu64, t->model, load,
			 aq_dist_format(&t->isl, isl), aq_dist_format(&t->osl, osl), c->seed);
	return buf;
}

/* 3 significant digits, as many decimals as that takes. */
static void cell_number(struct aq_table *t, double value)
{
	int decimals = value >= 100 || value == 0 ? 0 : value >= 10 ? 1 : 2;

	aq_table_cell(t, "%.*f", decimals, value);
}

static int add_rates(struct aq_table *t, const char *name, const struct aq_summary *s)
{
	if (aq_table_row(t) < 0)
		return -ENOMEM;
	aq_table_cell(t, "%s", name);
	aq_table_cell(t, "%" PRIu64, s->ok);
	aq_table_cell(t, "%" PRIu64, s->failed);
	aq_table_cell(t, "%" PRIu64, s->unfinished);
	cell_number(t, s->requests_per_s);
	cell_number(t, s->tokens_in_per_s);
	cell_number(t, s->tokens_out_per_s);
	cell_number(t, s->good_requests_per_s);
	return 0;
}

static int add_spread(struct aq_table *t, const char *name, const char *what,
		      const struct aq_spread *s)
{
	if (!s->count)
		return 0;
	if (aq_table_row(t) < 0)
		return -ENOMEM;
	aq_table_cell(t, "%s", name);
	aq_table_cell(t, "%s", what);
	cell_number(t, s->mean);
	cell_number(t, s->p50);
	cell_number(t, s->p90);
	cell_number(t, s->p95);
	cell_number(t, s->p99);
	cell_number(t, s->max);
	aq_table_cell(t, "%" PRIu64, s->count);
	return 0;
}

static int add_spreads(struct aq_table *t, const char *name, const struct aq_summary *s)
{
	int r = add_spread(t, name, "time to first token", &s->ttft);

	r |= add_spread(t, "", "between tokens", &s->itl);
	r |= add_spread(t, "", "per output token", &s->tpot);
	return r | add_spread(t, "", "whole request", &s->e2e);
}

static int print_tables(const struct aq_load_config *c, const struct aq_bounds *b,
			const struct aq_load_result *r, FILE *out)
{
	static const struct aq_column rate_heads[] = {
		{"TARGET"}, {"OK", .right = true}, {"FAILED", .right = true},
		{"UNFINISHED", .right = true}, {"REQ/S", .right = true},
		{"TOK/S IN", .right = true}, {"TOK/S OUT", .right = true},
		{"GOOD REQ/S", .right = true}};
	static const struct aq_column spread_heads[] = {
		{"TARGET"}, {"MILLISECONDS"}, {"MEAN", .right = true}, {"P50", .right = true},
		{"P90", .right = true}, {"P95", .right = true}, {"P99", .right = true},
		{"MAX", .right = true}, {"N", .right = true}};
	size_t rows = c->target_count > 1 ? c->target_count + 1 : 1;
	struct aq_table rates, spreads;
	int result = 0;

	aq_table_init(&rates, rate_heads, 8);
	aq_table_init(&spreads, spread_heads, 9);
	rates.column[7].hidden = !b->ttft_ns && !b->tpot_ns && !b->e2e_ns;
	for (size_t i = 0; i < rows && !result; i++) {
		bool all = i == c->target_count;
		const char *name = all ? "all" : c->targets[i].name;
		struct aq_summary s;

		result = aq_summary_make(r, b, all ? SIZE_MAX : i, &s);
		if (!result)
			result = add_rates(&rates, name, &s) | add_spreads(&spreads, name, &s);
	}
	if (!result) {
		aq_table_print(&rates, out, 0);
		if (spreads.rows)
			fputc('\n', out);
		aq_table_print(&spreads, out, 0);
	}
	aq_table_finish(&rates);
	aq_table_finish(&spreads);
	return result;
}

static void print_failures(const struct aq_load_config *c, const struct aq_load_result *r, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < r->target_count; i++) {
		for (int k = AQ_END_OK + 1; k < AQ_END_CUT; k++) {
			const struct aq_target_result *t = &r->targets[i];

			if (!t->ends[k])
				continue;
			if (!any)
				fputs("\nFailures:\n", out);
			any = true;
			fprintf(out, "  %s: %" PRIu64 " %s (%s)%s%s\n", c->targets[i].name,
				t->ends[k], aq_end_name((enum aq_end)k),
				aq_end_meaning((enum aq_end)k), t->why[k][0] ? ": " : "",
				t->why[k]);
		}
	}
}

static void print_self(const struct aq_load_result *r, FILE *out)
{
	double lag = (double)aq_hist_percentile(r->lag, 99) / (double)AQ_NS_PER_MS;
	double late = (double)aq_hist_percentile(r->late, 99) / (double)AQ_NS_PER_MS;

	if (lag > LAG_WARNING_MS)
		fprintf(out,
			"\nAnswers were read %.1f ms (p99) after they had arrived: this machine was busy, or "
			"they come\nin bursts. Tokens' times are the kernel's and hold; next requests went "
			"out that much late.\n",
			lag);
	if (late > LAG_WARNING_MS)
		fprintf(out, "\nRequests were sent %.1f ms (p99) after they were due; their times count "
			     "from then.\n", late);
	/* The first packets after the kernel's stamping is switched on have none. */
	if (r->unstamped > r->lag->count / 1000 + 10)
		fprintf(out, "\nThe kernel gave no time for %" PRIu64
			     " reads; those are timed when they were read.\n", r->unstamped);
	if (r->error->count)
		fprintf(out,
			"\nTiming error by the server's stamps: p50 %.3f ms, p99 %.3f ms, max %.3f ms, "
			"%" PRIu64 " tokens.\n",
			(double)aq_hist_percentile(r->error, 50) / (double)AQ_NS_PER_MS,
			(double)aq_hist_percentile(r->error, 99) / (double)AQ_NS_PER_MS,
			(double)r->error->max_ns / (double)AQ_NS_PER_MS, r->error->count);
}

int aq_report_print(const struct aq_load_config *c, const struct aq_bounds *b,
		    const struct aq_load_result *r, FILE *out)
{
	double window = (double)(r->window_end_ns - r->window_begin_ns) / (double)AQ_NS_PER_S;
	char conditions[256];
	int result;

	fprintf(out, "%s\n", aq_report_conditions(c, conditions));
	if (r->window_end_ns > r->window_begin_ns)
		fprintf(out, "%.1f s measured%s\n\n", window, r->signal ? ", then interrupted" : "");
	else
		fputs("Nothing measured: the run ended before the warm-up did\n\n", out);
	result = print_tables(c, b, r, out);
	print_failures(c, r, out);
	print_self(r, out);
	return result;
}

void aq_report_search_line(const struct aq_search_row *row, const struct aq_search_report *s,
			   FILE *out)
{
	if (!row->summary.ttft.count) {
		fprintf(out, "%5u users: no request began in the window\n", row->step.users);
		return;
	}
	fprintf(out, "%5u users: TTFT p95 %.0f ms, max %.0f ms, %.0f tok/s, %" PRIu64 " failed: %s\n",
		row->step.users, row->summary.ttft.p95, row->summary.ttft.max,
		row->summary.tokens_out_per_s, row->summary.failed,
		row->step.within[AQ_SEARCH_EVERY] ? "every one within the bound"
		: row->step.within[AQ_SEARCH_P95] ? "p95 within the bound"
						  : "over");
}

static void print_best(const struct aq_search_report *s, enum aq_search_by by, const char *what,
		       FILE *out)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct aq_search_row *row = &s->rows[i];

		if (row->step.users != s->best[by] || !s->best[by])
			continue;
		fprintf(out, "%s: %s%u users, %.0f tok/s, TTFT p50 %.0f p95 %.0f max %.0f ms\n", what,
			s->at_most && by == AQ_SEARCH_P95 ? "at least " : "", s->best[by],
			row->summary.tokens_out_per_s, row->summary.ttft.p50, row->summary.ttft.p95,
			row->summary.ttft.max);
		return;
	}
	fprintf(out, "%s: not even 1 user\n", what);
}

int aq_report_search_print(const struct aq_search_report *s, FILE *out)
{
	double bound = (double)s->bound_ns / (double)AQ_NS_PER_MS;
	char what[64];

	if (!s->finished)
		fputs("Interrupted; so far:\n", out);
	snprintf(what, sizeof(what), "TTFT p95 within %g ms", bound);
	print_best(s, AQ_SEARCH_P95, what, out);
	if (!s->every)
		return 0;
	snprintf(what, sizeof(what), "Every TTFT within %g ms", bound);
	print_best(s, AQ_SEARCH_EVERY, what, out);
	return 0;
}

static double round3(double value)
{
	return round(value * 1000) / 1000;
}

static json_t *spread_json(const struct aq_spread *s)
{
	return json_pack("{s:I s:f s:f s:f s:f s:f s:f}", "count", (json_int_t)s->count, "mean",
			 round3(s->mean), "p50", round3(s->p50), "p90", round3(s->p90), "p95",
			 round3(s->p95), "p99", round3(s->p99), "max", round3(s->max));
}

json_t *aq_report_summary_json(const struct aq_summary *s)
{
	json_t *failures = json_object();

	for (int k = AQ_END_OK + 1; k < AQ_END_CUT; k++)
		if (s->ends[k])
			json_object_set_new(failures, aq_end_name((enum aq_end)k),
					    json_integer((json_int_t)s->ends[k]));
	return json_pack("{s:I s:I s:I s:I s:o s:f s:f s:f s:f s:f s:f s:f s:f s:o s:o s:o s:o}",
			 "requests", (json_int_t)s->requests, "ok", (json_int_t)s->ok, "failed",
			 (json_int_t)s->failed, "unfinished", (json_int_t)s->unfinished, "failures",
			 failures, "window_s", round3(s->window_s), "requests_per_second",
			 round3(s->requests_per_s), "tokens_per_second", round3(s->tokens_out_per_s),
			 "input_tokens_per_second", round3(s->tokens_in_per_s),
			 "good_requests_per_second", round3(s->good_requests_per_s),
			 "good_tokens_per_second", round3(s->good_tokens_per_s), "isl_mean",
			 round3(s->isl_mean), "osl_mean", round3(s->osl_mean), "ttft_ms",
			 spread_json(&s->ttft), "itl_ms", spread_json(&s->itl), "tpot_ms",
			 spread_json(&s->tpot), "e2e_ms", spread_json(&s->e2e));
}

static json_t *hist_json(const struct aq_hist *h)
{
	return json_pack("{s:I s:f s:f s:f s:f}", "count", (json_int_t)h->count, "p50_ms",
			 round3((double)aq_hist_percentile(h, 50) / 1e6), "p99_ms",
			 round3((double)aq_hist_percentile(h, 99) / 1e6), "p99_9_ms",
			 round3((double)aq_hist_percentile(h, 99.9) / 1e6), "max_ms",
			 round3((double)h->max_ns / 1e6));
}

static json_t *target_json(const struct aq_target *t)
{
	char isl[64], osl[64], url[640];
	json_t *object, *plan;

	snprintf(url, sizeof(url), "http://%s:%u%s", t->host, t->port, t->path);
	object = json_pack("{s:s s:s s:s s:s s:s s:s}", "name", t->name, "url", url, "model",
			   t->model, "api", aq_target_api_name(t->api), "isl",
			   aq_dist_format(&t->isl, isl), "osl", aq_dist_format(&t->osl, osl));
	if (t->rate > 0) {
		json_object_set_new(object, "rate", json_real(t->rate));
		return object;
	}
	json_object_set_new(object, "users", json_integer(aq_target_users_most(t)));
	if (t->steps < 2)
		return object;
	plan = json_array();
	for (size_t i = 0; i < t->steps; i++)
		json_array_append_new(plan, json_pack("{s:f s:i}", "at_s",
						      (double)t->plan[i].at_ns / 1e9, "users",
						      (int)t->plan[i].users));
	json_object_set_new(object, "plan", plan);
	return object;
}

static json_t *config_json(const struct aq_load_config *c, const struct aq_bounds *b)
{
	return json_pack("{s:I s:f s:I s:f s:I s:f s:f s:f s:f s:f s:f s:f s:b}", "seed",
			 (json_int_t)c->seed, "duration_s", (double)c->duration_ns / 1e9, "requests",
			 (json_int_t)c->requests, "warmup_s", (double)c->warmup_ns / 1e9,
			 "warmup_requests", (json_int_t)c->warmup_requests, "ramp_s",
			 (double)c->ramp_ns / 1e9, "drain_s", (double)c->drain_ns / 1e9, "think_s",
			 (double)c->think_ns / 1e9, "burstiness", c->burstiness, "ttft_bound_ms",
			 (double)b->ttft_ns / 1e6, "tpot_bound_ms", (double)b->tpot_ns / 1e6,
			 "e2e_bound_ms", (double)b->e2e_ns / 1e6, "lengths_from_file",
			 c->lengths != NULL);
}

static json_t *why_json(const struct aq_target_result *t)
{
	json_t *object = json_object();

	for (int k = AQ_END_OK + 1; k < AQ_END_CUT; k++)
		if (t->ends[k] && t->why[k][0])
			json_object_set_new(object, aq_end_name((enum aq_end)k),
					    json_stringn_nocheck(t->why[k], strlen(t->why[k])));
	return object;
}

json_t *aq_report_json(const struct aq_load_config *c, const struct aq_bounds *b,
		       const struct aq_load_result *r)
{
	json_t *targets = json_array();
	struct aq_summary s;

	for (size_t i = 0; i < c->target_count; i++) {
		json_t *object = target_json(&c->targets[i]);

		if (aq_summary_make(r, b, i, &s) < 0) {
			json_decref(object);
			json_decref(targets);
			return NULL;
		}
		json_object_set_new(object, "result", aq_report_summary_json(&s));
		json_object_set_new(object, "first_failures", why_json(&r->targets[i]));
		json_array_append_new(targets, object);
	}
	if (aq_summary_make(r, b, SIZE_MAX, &s) < 0) {
		json_decref(targets);
		return NULL;
	}
	return json_pack("{s:s s:s s:b s:o s:o s:o s:{s:o s:o s:o s:I s:I s:I}}", "benchmark",
			 "serve", "version", AQ_VERSION, "interrupted", r->signal != 0, "config",
			 config_json(c, b), "total", aq_report_summary_json(&s), "targets", targets,
			 "generator", "read_lag", hist_json(r->lag), "send_late", hist_json(r->late),
			 "timing_error", hist_json(r->error), "stamped_early", (json_int_t)r->early,
			 "reads_without_time", (json_int_t)r->unstamped, "reconnects",
			 (json_int_t)r->reconnects);
}

json_t *aq_report_search_json(const struct aq_search_report *s)
{
	json_t *steps = json_array(), *object;

	for (size_t i = 0; i < s->count; i++)
		json_array_append_new(
			steps, json_pack("{s:i s:b s:b s:o}", "users", (int)s->rows[i].step.users,
					 "p95_within", s->rows[i].step.within[AQ_SEARCH_P95],
					 "every_within", s->rows[i].step.within[AQ_SEARCH_EVERY],
					 "result", aq_report_summary_json(&s->rows[i].summary)));
	object = json_pack("{s:s s:s s:b s:b s:f s:i s:o}", "benchmark", "serve search", "version",
			   AQ_VERSION, "interrupted", !s->finished, "at_least", s->at_most,
			   "ttft_bound_ms", (double)s->bound_ns / 1e6, "users_p95_within",
			   (int)s->best[AQ_SEARCH_P95], "steps", steps);
	if (s->every)
		json_object_set_new(object, "users_every_within",
				    json_integer(s->best[AQ_SEARCH_EVERY]));
	return object;
}

/* Empty where it did not happen. */
static void csv_ms(FILE *out, uint64_t from_ns, uint64_t to_ns, bool known)
{
	if (known)
		fprintf(out, ",%.3f", (double)(to_ns - from_ns) / (double)AQ_NS_PER_MS);
	else
		fputc(',', out);
}

int aq_report_csv(const struct aq_load_config *c, const struct aq_load_result *r, FILE *out)
{
	fputs("target,number,user,counted,end,start_s,ttft_ms,tpot_ms,e2e_ms,longest_gap_ms,"
	      "isl_asked,isl,osl_asked,osl\n", out);
	for (size_t i = 0; i < r->count; i++) {
		const struct aq_record *q = &r->records[i];

		fprintf(out, "%s,%u,%u,%d,%s,%.6f", c->targets[q->target].name, q->number, q->user,
			q->counted, aq_end_name((enum aq_end)q->end),
			(double)q->start_ns / (double)AQ_NS_PER_S);
		csv_ms(out, q->start_ns, q->first_ns, q->first_ns);
		if (q->end == AQ_END_OK && q->osl > 1)
			fprintf(out, ",%.3f", (double)(q->last_ns - q->first_ns) / (q->osl - 1) / 1e6);
		else
			fputc(',', out);
		csv_ms(out, q->start_ns, q->end_ns, q->end == AQ_END_OK);
		csv_ms(out, 0, q->worst_gap_ns, q->worst_gap_ns);
		fprintf(out, ",%u,%u,%u,%u\n", q->isl_asked, q->isl, q->osl_asked, q->osl);
	}
	return fflush(out) || ferror(out) ? -EIO : 0;
}
