/* SPDX-License-Identifier: Apache-2.0 */
/* Hands out users and judges a step. Chooses no counts: search.c does. */
#include "serve/spread.h"

#include "base/timing.h"
#include "base/banned.h"

void aq_spread_users(struct aq_target *targets, size_t count, uint32_t users)
{
	for (size_t i = 0; i < count; i++) {
		targets[i].steps = 1;
		targets[i].plan[0] = (struct aq_plan_step){
			.users = (uint32_t)((uint64_t)users * (i + 1) / count -
					    (uint64_t)users * i / count)};
	}
}

static void judge(const struct aq_summary *s, double bound_ms, struct aq_search_step *step)
{
	if (!s->ttft.count || s->failed)
		step->within[AQ_SEARCH_P95] = step->within[AQ_SEARCH_EVERY] = false;
	if (s->ttft.p95 > bound_ms)
		step->within[AQ_SEARCH_P95] = false;
	if (s->ttft.max > bound_ms)
		step->within[AQ_SEARCH_EVERY] = false;
}

int aq_search_measure(const struct aq_load_result *result, const struct aq_bounds *bounds,
		      uint32_t users, struct aq_search_row *ret_row)
{
	double bound_ms = (double)bounds->ttft_ns / (double)AQ_NS_PER_MS;
	struct aq_search_row row = {.step = {.users = users, .within = {true, true}}};
	int r;

	for (size_t i = 0; i < result->target_count; i++) {
		r = aq_summary_make(result, bounds, i, &row.summary);
		if (r < 0)
			return r;
		judge(&row.summary, bound_ms, &row.step);
	}
	r = aq_summary_make(result, bounds, SIZE_MAX, &row.summary);
	if (!r)
		*ret_row = row;
	return r;
}
