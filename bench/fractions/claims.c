/* SPDX-License-Identifier: Apache-2.0 */
/* Puts what others have published beside what was measured. Computes ratios and nothing else. */
#include "fractions/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "base/cleanup.h"
#include "base/banned.h"

enum figure { users, tokens, rate };

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

/* What of ours stands beside a claim. */
struct own {
	const struct fr_row *row, *with;
	double ratio; /* NAN not measured */
};

static struct own own_figure(const struct fr_run *run, const struct claim *c)
{
	struct own o = {.row = fr_rows_find(&run->answers, c->name),
			.with = fr_rows_find(&run->answers, c->with),
			.ratio = NAN};

	if (!o.row || !o.with || (!o.with->within && c->figure != rate))
		return o;
	if (c->figure == users)
		o.ratio = fr_ratio(o.row->within ? o.row->users : 0, o.with->users);
	else
		o.ratio =
			fr_ratio(o.row->result.tokens_per_second, o.with->result.tokens_per_second);
	return o;
}

/* How it was measured; nothing stands there when it was not. */
static void cells_of(struct aq_table *t, const struct claim *c, const struct own *o)
{
	bool host = isfinite(o->ratio) &&
		    (fr_host_bound(&o->row->host) || fr_host_bound(&o->with->host));

	if (host)
		aq_table_cell(t, "host *");
	else
		fr_cell_percent(t, o->ratio);
	if (!isfinite(o->ratio)) {
		aq_table_cell(t, "not measured");
		for (int i = 0; i < 4; i++)
			aq_table_cell(t, "-");
		return;
	}
	aq_table_cell(t, "%s", o->row->simulated ? "simulated" : "measured");
	aq_table_cell(t, "%s", o->row->model);
	aq_table_cell(t, "%u/%u", o->row->isl, o->row->osl);
	if (c->figure == rate)
		aq_table_cell(t, "any");
	else
		aq_table_cell(t, "%g ms", o->row->bound_ms);
	aq_table_cell(t, "%" PRIu64, o->row->result.requests + o->with->result.requests);
}

int fr_claims_print(const struct fr_run *run, FILE *out)
{
	static const struct aq_column heads[] = {
		{"PUBLISHED"}, {"FIGURE"}, {"ITS CONDITIONS"}, {"CASES"},   {"OURS", .right = true},
		{"HOW"},       {"MODEL"},  {"ISL/OSL"},	       {"TTFT <="}, {"N", .right = true}};
	struct aq_table t;
	int r = 0;

	aq_table_init(&t, heads, AQ_ARRAY_SIZE(heads));
	for (size_t i = 0; i < AQ_ARRAY_SIZE(claims) && !r; i++) {
		struct own o = own_figure(run, &claims[i]);

		r = aq_table_row(&t);
		aq_table_cell(&t, "%s", claims[i].what);
		aq_table_cell(&t, "%s", claims[i].published);
		aq_table_cell(&t, "%s", claims[i].conditions);
		aq_table_cell(&t, "%s / %s", claims[i].name, claims[i].with);
		cells_of(&t, &claims[i], &o);
	}
	if (!r) {
		fprintf(out,
			"\nPublished figures, and ours beside them, every one of ours %s. All "
			"users "
			"begin at once where nothing\nelse is said; n requests of both cases; "
			"Dynamo's "
			"rows have no bound:\n\n",
			run->config->sim ? "SIMULATED" : "measured");
		aq_table_print(&t, out, 0);
	}
	aq_table_finish(&t);
	return r;
}
