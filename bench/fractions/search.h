/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The most users whose every first token comes within a bound, in few steps. Pure: it says which
 * count to try next, given what was tried. When all users begin at once, the worst wait grows
 * nearly in proportion to them, so the next try is where a straight line meets the bound.
 */
#ifndef AQ_FRACTIONS_SEARCH_H
#define AQ_FRACTIONS_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fr_step {
	uint32_t users;
	double worst_ms; /* the longest wait; not finite when requests failed or none was answered
			  */
	bool within;
};

struct fr_search {
	double bound_ms;
	uint32_t first, most; /* to begin with, and not to be passed; 1 <= first <= most */
	double precision;     /* stop when the interval is below this part of its lower end */
	size_t steps_most;    /* a few more are taken while nobody was within the bound */
	double grow_most;     /* one step up; a line through one point is not believed further */
};

/* Return: users to try next, 1..most, never one that was tried; 0 that is near enough. */
uint32_t fr_search_next(const struct fr_search *s, const struct fr_step *steps, size_t count);

/* Index of the answer: the most users within the bound below the least that are not.
 * Return: SIZE_MAX when nobody was within it. */
size_t fr_search_best(const struct fr_step *steps, size_t count);

#endif /* AQ_FRACTIONS_SEARCH_H */
