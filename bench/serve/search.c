/* SPDX-License-Identifier: Apache-2.0 */
/* Searches for the most users. Measures nothing itself. */
#include "serve/search.h"

#include "base/banned.h"

/* The smallest count that failed; @none when none did. */
static uint32_t lowest_failure(const struct aq_search_step *steps, size_t count,
			       enum aq_search_by by, uint32_t none)
{
	uint32_t lowest = none;

	for (size_t i = 0; i < count; i++)
		if (!steps[i].within[by] && steps[i].users < lowest)
			lowest = steps[i].users;
	return lowest;
}

/* The largest that passed below @failure. */
static uint32_t highest_success(const struct aq_search_step *steps, size_t count,
				enum aq_search_by by, uint32_t failure)
{
	uint32_t highest = 0;

	for (size_t i = 0; i < count; i++)
		if (steps[i].within[by] && steps[i].users < failure && steps[i].users > highest)
			highest = steps[i].users;
	return highest;
}

static uint32_t grown(const struct aq_search_limits *limits, uint32_t low)
{
	double next = low * (limits->growth > 1 ? limits->growth : 2);

	if (next > limits->most)
		return limits->most;
	return next < low + 1 ? low + 1 : (uint32_t)next;
}

static uint32_t next_by(const struct aq_search_limits *limits, const struct aq_search_step *steps,
			size_t count, enum aq_search_by by)
{
	uint32_t high = lowest_failure(steps, count, by, UINT32_MAX);
	uint32_t low = highest_success(steps, count, by, high);

	if (high == UINT32_MAX) {
		if (!low)
			return limits->first;
		if (low >= limits->most)
			return 0;
		return grown(limits, low);
	}
	if (high - low <= 1 || high - low <= low * limits->precision)
		return 0;
	return low + (high - low) / 2;
}

uint32_t aq_search_next(const struct aq_search_limits *limits, const struct aq_search_step *steps,
			size_t count)
{
	uint32_t next = next_by(limits, steps, count, AQ_SEARCH_P95);

	if (!next && limits->every)
		next = next_by(limits, steps, count, AQ_SEARCH_EVERY);
	return next;
}

uint32_t aq_search_best(const struct aq_search_step *steps, size_t count, enum aq_search_by by)
{
	return highest_success(steps, count, by, lowest_failure(steps, count, by, UINT32_MAX));
}
