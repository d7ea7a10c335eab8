/* SPDX-License-Identifier: Apache-2.0 */
/* Condenses records to rates and percentiles. Prints nothing. */
#include "serve/summary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "base/banned.h"

#define MS(ns) ((double)(ns) / (double)AQ_NS_PER_MS)

/* One column of values, all in one allocation with the others. */
struct column {
	double *values;
	size_t count;
	double sum;
};

static void add(struct column *c, double value)
{
	c->values[c->count++] = value;
	c->sum += value;
}

static struct aq_spread spread_of(struct column *c)
{
	struct aq_spread s = {.count = c->count};

	if (!c->count)
		return s;
	qsort(c->values, c->count, sizeof(double), aq_compare_doubles);
	s.mean = c->sum / (double)c->count;
	s.p50 = aq_percentile(c->values, c->count, 50);
	s.p90 = aq_percentile(c->values, c->count, 90);
	s.p95 = aq_percentile(c->values, c->count, 95);
	s.p99 = aq_percentile(c->values, c->count, 99);
	s.max = c->values[c->count - 1];
	return s;
}

static struct aq_spread spread_of_hist(const struct aq_hist *h)
{
	struct aq_spread s = {.count = h->count};

	if (!h->count)
		return s;
	s.mean = MS(h->sum_ns) / (double)h->count;
	s.p50 = MS(aq_hist_percentile(h, 50));
	s.p90 = MS(aq_hist_percentile(h, 90));
	s.p95 = MS(aq_hist_percentile(h, 95));
	s.p99 = MS(aq_hist_percentile(h, 99));
	s.max = MS(h->max_ns);
	return s;
}

static double tpot_ns(const struct aq_record *r)
{
	return r->osl > 1 ? (double)(r->last_ns - r->first_ns) / (r->osl - 1) : 0;
}

static bool is_good(const struct aq_record *r, const struct aq_bounds *b)
{
	return r->end == AQ_END_OK && (!b->ttft_ns || r->first_ns - r->start_ns <= b->ttft_ns) &&
	       (!b->tpot_ns || tpot_ns(r) <= (double)b->tpot_ns) &&
	       (!b->e2e_ns || r->end_ns - r->start_ns <= b->e2e_ns);
}

struct work {
	const struct aq_load_result *result;
	const struct aq_bounds *bounds;
	struct aq_summary *s;
	struct column ttft, tpot, e2e;
	uint64_t ended, good, good_tokens, isl, osl;
};

static void take(struct work *w, const struct aq_record *r)
{
	const struct aq_load_result *result = w->result;

	if (r->end == AQ_END_OK && r->end_ns >= result->window_begin_ns &&
	    r->end_ns < result->window_end_ns) {
		w->ended++;
		if (is_good(r, w->bounds)) {
			w->good++;
			w->good_tokens += r->osl;
		}
	}
	if (!r->counted)
		return;
	w->s->requests++;
	w->s->ends[r->end]++;
	if (r->first_ns)
		add(&w->ttft, MS(r->first_ns - r->start_ns));
	else if (r->end == AQ_END_CUT && !result->signal)
		add(&w->ttft, MS(r->end_ns - r->start_ns));
	if (r->end != AQ_END_OK)
		return;
	add(&w->e2e, MS(r->end_ns - r->start_ns));
	if (r->osl > 1)
		add(&w->tpot, tpot_ns(r) / (double)AQ_NS_PER_MS);
	w->isl += r->isl;
	w->osl += r->osl;
}

/* What the targets counted themselves, for it has no records. */
static void take_target(struct aq_summary *s, const struct aq_target_result *t,
			struct aq_hist *itl)
{
	s->tokens_out_per_s += (double)t->tokens_out;
	s->tokens_in_per_s += (double)t->tokens_in;
	aq_hist_merge(itl, t->itl);
}

static void settle(struct work *w, const struct aq_hist *itl)
{
	const struct aq_load_result *r = w->result;
	struct aq_summary *s = w->s;

	s->ok = s->ends[AQ_END_OK];
	s->unfinished = s->ends[AQ_END_CUT];
	s->failed = s->requests - s->ok - s->unfinished;
	s->window_s = (double)(r->window_end_ns - r->window_begin_ns) / (double)AQ_NS_PER_S;
	s->ttft = spread_of(&w->ttft);
	s->tpot = spread_of(&w->tpot);
	s->e2e = spread_of(&w->e2e);
	s->itl = spread_of_hist(itl);
	if (s->ok) {
		s->isl_mean = (double)w->isl / (double)s->ok;
		s->osl_mean = (double)w->osl / (double)s->ok;
	}
	if (s->window_s <= 0)
		return;
	s->tokens_out_per_s /= s->window_s;
	s->tokens_in_per_s /= s->window_s;
	s->requests_per_s = (double)w->ended / s->window_s;
	s->good_requests_per_s = (double)w->good / s->window_s;
	s->good_tokens_per_s = (double)w->good_tokens / s->window_s;
}

int aq_summary_make(const struct aq_load_result *result, const struct aq_bounds *bounds,
		    size_t target, struct aq_summary *ret_summary)
{
	struct aq_summary s = {.requests = 0};
	struct work w = {.result = result, .bounds = bounds, .s = &s};
	AQ_CLEANUP(free) double *values = calloc(3 * result->count + 1, sizeof(*values));
	AQ_CLEANUP(free) struct aq_hist *itl = calloc(1, sizeof(*itl));

	if (!values || !itl)
		return -ENOMEM;
	w.ttft.values = values;
	w.tpot.values = values + result->count;
	w.e2e.values = values + 2 * result->count;
	for (size_t i = 0; i < result->count; i++)
		if (target == SIZE_MAX || result->records[i].target == target)
			take(&w, &result->records[i]);
	for (size_t i = 0; i < result->target_count; i++)
		if (target == SIZE_MAX || i == target)
			take_target(&s, &result->targets[i], itl);
	settle(&w, itl);
	*ret_summary = s;
	return 0;
}
