/* SPDX-License-Identifier: Apache-2.0 */
/* Puts what others have published beside what was measured. Computes ratios and nothing else. */
#include "fractions/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/banned.h"

#define SAME "  the same"
#define LIKEWISE "likewise"

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

/* What the claims up to one are about, where SAME and LIKEWISE stand for it. */
struct subject {
	const char *what, *conditions;
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

static void subject_move(struct subject *s, const struct claim *c)
{
	if (strncmp(c->what, SAME, strlen(SAME)))
		s->what = c->what;
	if (*c->conditions && strcmp(c->conditions, LIKEWISE))
		s->conditions = c->conditions;
}

/* @said: of the rows above, which SAME and LIKEWISE can only mean where it is the @subject. */
static int add_claim(struct aq_table *t, const struct claim *c, const struct own *own,
		     const struct subject *subject, struct subject *said)
{
	bool same = !strncmp(c->what, SAME, strlen(SAME));
	bool likewise = !strcmp(c->conditions, LIKEWISE);

	if (aq_table_row(t) < 0)
		return -ENOMEM;
	if (same && said->what != subject->what)
		aq_table_cell(t, "%s%s", subject->what, c->what + strlen(SAME));
	else
		aq_table_cell(t, "%s", c->what);
	aq_table_cell(t, "%s", c->published);
	if (likewise && said->conditions != subject->conditions)
		aq_table_cell(t, "%s", subject->conditions);
	else
		aq_table_cell(t, "%s", c->conditions);
	said->what = subject->what;
	if (*c->conditions)
		said->conditions = subject->conditions;
	aq_table_cell(t, "%s / %s", c->name, c->with);
	cells_of(t, c, own);
	return 0;
}

/* Rows with something of ours in them. Return: how many there are not, or -ENOMEM. */
static int add_claims(struct aq_table *t, const struct fr_run *run)
{
	struct subject subject = {0}, said = {0};
	int left_out = 0;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(claims); i++) {
		struct own own = own_figure(run, &claims[i]);

		subject_move(&subject, &claims[i]);
		if (!own.row && !own.with) {
			left_out++;
			continue;
		}
		if (add_claim(t, &claims[i], &own, &subject, &said) < 0)
			return -ENOMEM;
	}
	return left_out;
}

int fr_claims_print(const struct fr_run *run, FILE *out)
{
	static const struct aq_column heads[] = {
		{"PUBLISHED"}, {"FIGURE"}, {"ITS CONDITIONS"}, {"CASES"},   {"OURS", .right = true},
		{"HOW"},       {"MODEL"},  {"ISL/OSL"},	       {"TTFT <="}, {"N", .right = true}};
	struct aq_table t;
	int left_out;

	aq_table_init(&t, heads, AQ_ARRAY_SIZE(heads));
	left_out = add_claims(&t, run);
	if (left_out >= 0 && t.rows) {
		fprintf(out,
			"\nPublished figures, and ours beside them, every one of ours %s. "
			"All users begin at once where nothing\nelse is said; n requests of "
			"both cases; any: whatever the time to the first token:\n\n",
			run->config->sim ? "SIMULATED" : "measured");
		aq_table_print(&t, out, 0);
	}
	if (left_out > 0)
		fprintf(out,
			"\nPublished figures that are left out, since neither of their cases was "
			"measured: %d.\n",
			left_out);
	aq_table_finish(&t);
	return left_out < 0 ? left_out : 0;
}
