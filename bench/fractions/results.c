/* SPDX-License-Identifier: Apache-2.0 */
/* Writes results. Measures nothing. */
#include "fractions/results.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "cli/say.h"
#include "cli/text.h"
#include "plot/plot.h"
#include "base/banned.h"

#define PATH_BYTES 4096

static const char *arbitration_of(const struct aq_case *c)
{
	return c->guarded ? "aliquot" : "device";
}

static double bound_ms(const struct aq_fractions_results *r)
{
	return (double)r->config->bound_ns / (double)AQ_NS_PER_MS;
}

static double round3(double value)
{
	return round(value * 1000) / 1000;
}

/* What a row has; 0 where nothing was within the bound. */
static struct aq_summary summary_of(const struct aq_case_result *c)
{
	return c->best ? c->best->summary : (struct aq_summary){.requests = 0};
}

static json_t *row_json(const struct aq_fractions_results *r, const struct aq_case_result *c)
{
	struct aq_summary s = summary_of(c);

	return json_pack("{s:s s:i s:f s:s s:i s:f s:f s:f s:f s:f s:i s:i s:f s:b}", "case",
			 c->c->name, "replicas", (int)c->c->replicas, "fraction",
			 c->c->permille / 1000.0, "arbitration", arbitration_of(c->c),
			 "users_within_bound", (int)c->users, "tokens_per_second",
			 round3(s.tokens_out_per_s), "ttft_p50_ms", round3(s.ttft.p50),
			 "ttft_p95_ms", round3(s.ttft.p95), "itl_p50_ms", round3(s.itl.p50),
			 "itl_p99_ms", round3(s.itl.p99), "isl", (int)r->config->isl, "osl",
			 (int)r->config->osl, "bound_ms", bound_ms(r), "simulated", r->simulated);
}

/* Everything that the rows' fields leave out. */
static json_t *details_json(const struct aq_fractions_results *r)
{
	json_t *cases = json_array();

	for (size_t i = 0; i < r->count; i++) {
		const struct aq_case_result *c = &r->cases[i];
		json_t *steps = json_array();

		for (size_t k = 0; k < c->count; k++)
			json_array_append_new(
				steps,
				json_pack("{s:i s:b s:b s:o}", "users", (int)c->rows[k].step.users,
					  "p95_within", c->rows[k].step.within[AQ_SEARCH_P95],
					  "every_within", c->rows[k].step.within[AQ_SEARCH_EVERY],
					  "result", aq_report_summary_json(&c->rows[k].summary)));
		json_array_append_new(
			cases, json_pack("{s:o s:s s:s s:b s:i s:I s:o}", "row", row_json(r, c),
					 "device", c->device, "error",
					 c->error ? strerror(-c->error) : "", "settled", c->settled,
					 "users_every_within_bound", (int)c->users_every, "kv_tokens",
					 (json_int_t)c->kv_tokens, "steps", steps));
	}
	return json_pack("{s:s s:s s:s s:b s:f s:f s:f s:I s:o}", "benchmark", "fractions",
			 "version", AQ_VERSION, "model", r->config->model, "simulated", r->simulated,
			 "warmup_s", (double)r->config->warmup_ns / 1e9, "window_s",
			 (double)r->config->duration_ns / 1e9, "precision", r->config->precision,
			 "seed", (json_int_t)r->config->seed, "cases", cases);
}

static FILE *create(const char *dir, const char *name)
{
	char path[PATH_BYTES];
	FILE *f = NULL;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) < sizeof(path))
		f = fopen(path, "we");
	if (!f)
		aq_say("bench fractions: %s/%s: %s", dir, name, strerror(errno));
	return f;
}

static int save_json(const char *dir, const char *name, json_t *json)
{
	AQ_CLEANUP(fclose) FILE *f = create(dir, name);
	int r = -EIO;

	if (f && json && !json_dumpf(json, f, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) &&
	    fputc('\n', f) != EOF && !fflush(f))
		r = 0;
	json_decref(json);
	return r;
}

static int save_csv(const struct aq_fractions_results *r, const char *dir)
{
	AQ_CLEANUP(fclose) FILE *f = create(dir, "results.csv");

	if (!f)
		return -EIO;
	fputs("case,replicas,fraction,arbitration,users_within_bound,tokens_per_second,ttft_p50_ms,"
	      "ttft_p95_ms,itl_p50_ms,itl_p99_ms,isl,osl,bound_ms,simulated\n", f);
	for (size_t i = 0; i < r->count; i++) {
		const struct aq_case_result *c = &r->cases[i];
		struct aq_summary s = summary_of(c);

		fprintf(f, "%s,%u,%g,%s,%u,%.3f,%.3f,%.3f,%.3f,%.3f,%u,%u,%g,%s\n", c->c->name,
			c->c->replicas, c->c->permille / 1000.0, arbitration_of(c->c), c->users,
			s.tokens_out_per_s, s.ttft.p50, s.ttft.p95, s.itl.p50, s.itl.p99,
			r->config->isl, r->config->osl, bound_ms(r),
			r->simulated ? "true" : "false");
	}
	return fflush(f) || ferror(f) ? -EIO : 0;
}

static char *conditions(const struct aq_fractions_results *r, char *buf)
{
	snprintf(buf, 256, "%s on %s%s, ISL %u, OSL %u, TTFT p95 within %g ms", r->config->model,
		 r->count ? r->cases[0].device : "?", r->simulated ? " (simulated)" : "",
		 r->config->isl, r->config->osl, bound_ms(r));
	return buf;
}

static const struct aq_case_result *find(const struct aq_fractions_results *r, const char *name,
					 bool guarded)
{
	for (size_t i = 0; i < r->count; i++)
		if (!strcmp(r->cases[i].c->name, name) && r->cases[i].c->guarded == guarded)
			return &r->cases[i];
	return NULL;
}

/* Bars of every division, by Aliquot and by the device alone, beside each other. */
static int plot_bars(const struct aq_fractions_results *r, const char *dir, bool tokens)
{
	static const char *const series[] = {"fractions by Aliquot", "the device's own slices"};
	const char *groups[16];
	double values[16][2];
	char subtitle[256], path[PATH_BYTES];
	struct aq_bars b = {
		.title = tokens ? "Tokens per second at the most users" : "Users within the bound",
		.subtitle = conditions(r, subtitle),
		.y_label = tokens ? "output tokens per second, all replicas" : "users, all replicas",
		.groups = groups,
		.series = series,
		.series_count = 2,
		.values = &values[0][0],
	};

	for (size_t i = 0; i < r->count && b.group_count < 16; i++) {
		const struct aq_case *c = r->cases[i].c;
		const struct aq_case_result *pair[2] = {find(r, c->name, true),
							find(r, c->name, false)};

		if (!c->guarded && pair[0])
			continue; /* stands beside its pair */
		groups[b.group_count] = c->title;
		for (int k = 0; k < 2; k++)
			values[b.group_count][k] =
				!pair[k] || pair[k]->error ? NAN
				: tokens		   ? summary_of(pair[k]).tokens_out_per_s
							   : pair[k]->users;
		b.group_count++;
	}
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir,
			     tokens ? "tokens.svg" : "users.svg") >= sizeof(path))
		return -ENAMETOOLONG;
	return aq_bars_save(&b, path);
}

/* A case's steps in the order of their users. */
static size_t sort_steps(const struct aq_case_result *c, double *x, double *y)
{
	size_t n = 0;

	for (size_t i = 0; i < c->count; i++) {
		double users = c->rows[i].step.users, ms = c->rows[i].summary.ttft.p95;
		size_t k = n++;

		for (; k && x[k - 1] > users; k--) {
			x[k] = x[k - 1];
			y[k] = y[k - 1];
		}
		x[k] = users;
		y[k] = ms;
	}
	return n;
}

static int plot_ttft(const struct aq_fractions_results *r, const char *dir)
{
	static double x[AQ_PLOT_SERIES][AQ_CASE_STEPS], y[AQ_PLOT_SERIES][AQ_CASE_STEPS];
	char subtitle[256], path[PATH_BYTES], names[AQ_PLOT_SERIES][64];
	struct aq_plot p = {
		.title = "Time to first token as users grow",
		.subtitle = conditions(r, subtitle),
		.x = {.label = "concurrent users, all replicas", .log = true},
		.y = {.label = "time to first token, p95 (ms)", .log = true},
		.rules = {{"bound", bound_ms(r), false}},
		.rule_count = 1,
	};
	int result;

	for (size_t i = 0; i < r->count && p.series_count < AQ_PLOT_SERIES; i++) {
		size_t k = p.series_count;

		if (!r->cases[i].count)
			continue;
		snprintf(names[k], sizeof(names[k]), "%s%s", r->cases[i].c->name,
			 r->cases[i].c->guarded ? "" : ", device's slices");
		p.series[k] = (struct aq_plot_series){names[k], x[k], y[k],
						      sort_steps(&r->cases[i], x[k], y[k]),
						      AQ_PLOT_MARKED};
		p.series_count++;
	}
	if ((size_t)snprintf(path, sizeof(path), "%s/ttft.svg", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	result = aq_plot_save(&p, path);
	return result == -ENODATA ? 0 : result;
}

int aq_fractions_save(const struct aq_fractions_results *r, const char *dir)
{
	json_t *rows = json_array();
	int result;

	for (size_t i = 0; i < r->count; i++)
		if (!r->cases[i].error)
			json_array_append_new(rows, row_json(r, &r->cases[i]));
	result = save_json(dir, "results.json", rows);
	if (!result)
		result = save_json(dir, "details.json", details_json(r));
	if (!result)
		result = save_csv(r, dir);
	if (!result)
		result = plot_bars(r, dir, false);
	if (!result)
		result = plot_bars(r, dir, true);
	return result ? result : plot_ttft(r, dir);
}

static int print_case(struct aq_table *t, const struct aq_fractions_results *r,
		      const struct aq_case_result *c)
{
	const struct aq_case_result *full = find(r, "full GPU", true);
	struct aq_summary s = summary_of(c);

	if (aq_table_row(t) < 0)
		return -ENOMEM;
	aq_table_cell(t, "%s", c->c->name);
	aq_table_cell(t, "%s", arbitration_of(c->c));
	if (c->error) {
		aq_table_cell(t, "%s", c->error == -ENOSPC ? "did not start" : strerror(-c->error));
		return 0;
	}
	aq_table_cell(t, "%u%s", c->users, c->settled ? "" : "+");
	aq_table_cell(t, "%.0f", s.tokens_out_per_s);
	if (full && full->users)
		aq_table_cell(t, "%.0f %%", 100.0 * c->users / full->users);
	else
		aq_table_cell(t, "-");
	if (full && full->best)
		aq_table_cell(t, "%.0f %%", 100 * s.tokens_out_per_s /
						    full->best->summary.tokens_out_per_s);
	else
		aq_table_cell(t, "-");
	aq_table_cell(t, "%.0f", s.ttft.p50);
	aq_table_cell(t, "%.0f", s.ttft.p95);
	aq_table_cell(t, "%.1f", s.itl.p50);
	aq_table_cell(t, "%.1f", s.itl.p99);
	aq_table_cell(t, "%llu", (unsigned long long)s.ttft.count);
	return 0;
}

/*
 * Claims that the cases here answer to.
 * Source of the first two: NVIDIA, "Unlock Massive Token Throughput with GPU Fractioning in NVIDIA
 * Run:ai" (18 Feb 2026): 64 H100 NVL, NIM, every TTFT within 1 s; lengths were not published. The
 * page does not say whether the other half of the GPU was in use: both readings are compared.
 * Source of the third: NVIDIA Dynamo, "many-model serving" (2026): Qwen3-4B, A100 40 GB, ISL 2048,
 * OSL 256, 32 requests resident on a GPU.
 */
static const struct claim {
	const char *what, *published, *conditions;
	const char *ours;  /* case */
	bool guarded, tokens;
} claims[] = {
	{"0.5 of a GPU: users, of a full one", "86 %", "Run:ai; Llama 3.1 8B, H100 NVL",
	 "one half alone", true, false},
	{"", "86 %", "the same, read as two halves", "two halves", true, false},
	{"0.5 of a GPU: tokens/s, of a full one", "77 %", "Run:ai; Llama 3.1 8B, H100 NVL",
	 "one half alone", true, true},
	{"", "77 %", "the same, read as two halves", "two halves", true, true},
	{"0.25 of a GPU, four: users, of a full one", "up to 200 %", "Run:ai; small models, H100 NVL",
	 "four quarters", true, false},
	{"two models on a GPU: tokens/s, of a full one", "87.9 %", "Dynamo; Qwen3-4B, A100-40, MPS",
	 "two halves", true, true},
	{"", "72.8 %", "Dynamo; the same, HAMi", "two halves", false, true},
};

static int print_claims(const struct aq_fractions_results *r, FILE *out)
{
	static const struct aq_column heads[] = {{"CLAIM"}, {"PUBLISHED", .right = true},
						 {"OURS", .right = true}, {"N", .right = true},
						 {"PUBLISHED FOR"}, {"OURS IS"}};
	const struct aq_case_result *full = find(r, "full GPU", true);
	struct aq_table t;

	if (!full || !full->best)
		return 0;
	aq_table_init(&t, heads, 6);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(claims); i++) {
		const struct claim *k = &claims[i];
		const struct aq_case_result *c = find(r, k->ours, k->guarded);

		if (!c || !c->best)
			continue;
		if (aq_table_row(&t) < 0)
			break;
		aq_table_cell(&t, "%s", k->what);
		aq_table_cell(&t, "%s", k->published);
		aq_table_cell(&t, "%.0f %%",
			      k->tokens ? 100 * c->best->summary.tokens_out_per_s /
						  full->best->summary.tokens_out_per_s
					: 100.0 * c->users / full->users);
		aq_table_cell(&t, "%llu", (unsigned long long)c->best->summary.ttft.count);
		aq_table_cell(&t, "%s", k->conditions);
		aq_table_cell(&t, "%s, %s, %s", r->simulated ? "simulated" : "measured", c->c->name,
			      k->guarded ? "aliquot" : "device's slices");
	}
	fputs("\nPublished claims, and ours:\n", out);
	aq_table_print(&t, out, 0);
	aq_table_finish(&t);
	return 0;
}

int aq_fractions_print(const struct aq_fractions_results *r, FILE *out)
{
	static const struct aq_column heads[] = {
		{"CASE"}, {"BY"}, {"USERS", .right = true}, {"TOK/S", .right = true},
		{"USERS OF FULL", .right = true}, {"TOK/S OF FULL", .right = true},
		{"TTFT P50", .right = true}, {"P95", .right = true}, {"ITL P50", .right = true},
		{"P99", .right = true}, {"N", .right = true}};
	char line[256];
	struct aq_table t;
	bool open = false;
	int result = 0;

	aq_table_init(&t, heads, 11);
	for (size_t i = 0; i < r->count && !result; i++) {
		result = print_case(&t, r, &r->cases[i]);
		open |= !r->cases[i].error && !r->cases[i].settled;
	}
	fprintf(out, "%s\nEach row: %s, %g s measured a step, users found to %g %%\n\n",
		conditions(r, line), r->simulated ? "simulated" : "measured",
		(double)r->config->duration_ns / 1e9, r->config->precision * 100);
	aq_table_print(&t, out, 0);
	aq_table_finish(&t);
	if (open)
		fputs("+ the time for the case was over before its search was\n", out);
	return result ? result : print_claims(r, out);
}
