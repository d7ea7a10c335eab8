/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for the most users within a bound by straight lines. Measures nothing. */
#include "fractions/search.h"

#include <math.h>

#include "base/banned.h"

#define GROW_LEAST 1.05 /* nor does one creep towards the bound */
#define LEAN 0.97	/* a try just below the bound settles more than one just above */
#define STEPS_BELOW 3	/* more, while nobody at all was within the bound */

/* The least that failed, or NULL. */
static const struct fr_step *lowest_failure(const struct fr_step *steps, size_t count)
{
	const struct fr_step *found = NULL;

	for (size_t i = 0; i < count; i++)
		if (!steps[i].within && (!found || steps[i].users < found->users))
			found = &steps[i];
	return found;
}

size_t fr_search_best(const struct fr_step *steps, size_t count)
{
	const struct fr_step *failed = lowest_failure(steps, count);
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < count; i++)
		if (steps[i].within && (!failed || steps[i].users < failed->users) &&
		    (best == SIZE_MAX || steps[i].users > steps[best].users))
			best = i;
	return best;
}

/* Where the wait through zero and @step meets the bound. */
static double along(const struct fr_search *s, const struct fr_step *step)
{
	if (!isfinite(step->worst_ms) || step->worst_ms <= 0)
		return step->within ? step->users * s->grow_most : step->users / 2.0;
	return step->users * s->bound_ms / step->worst_ms * LEAN;
}

/* Between @low, within, and @high, not; the ends themselves are known. */
static double between(const struct fr_search *s, const struct fr_step *low,
		      const struct fr_step *high)
{
	double width = (double)high->users - low->users, part = 0.5;

	if (isfinite(high->worst_ms) && high->worst_ms > low->worst_ms)
		part = (s->bound_ms * LEAN - low->worst_ms) / (high->worst_ms - low->worst_ms);
	/* Neither end by more than the noise of a measurement. */
	return low->users + width * fmin(fmax(part, 0.2), 0.8);
}

static uint32_t limited(double users, double least, double most)
{
	return (uint32_t)lround(fmin(fmax(least, users), most));
}

uint32_t fr_search_next(const struct fr_search *s, const struct fr_step *steps, size_t count)
{
	const struct fr_step *high = lowest_failure(steps, count);
	size_t best = fr_search_best(steps, count);
	const struct fr_step *low = best == SIZE_MAX ? NULL : &steps[best];

	if (!count)
		return s->first;
	if (count >= s->steps_most && (low || count >= s->steps_most + STEPS_BELOW))
		return 0;
	if (!high)
		return low->users >= s->most ? 0
					     : limited(fmin(along(s, low), low->users * s->grow_most),
						       low->users * GROW_LEAST + 1.0, s->most);
	if (!low)
		return high->users <= 1 ? 0 : limited(along(s, high), 1, high->users - 1.0);
	if (high->users - low->users <= 1 || high->users - low->users <= low->users * s->precision)
		return 0;
	return limited(between(s, low, high), low->users + 1.0, high->users - 1.0);
}
