/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The most users within a bound, by doubling and then halving the interval. Pure: it says which
 * count to try next, given what was tried.
 *
 * Two answers are looked for: by the 95th percentile and by every single request. They share their
 * steps. Where measurements contradict each other (more users passed than failed), the smaller
 * count that failed is believed.
 */
#ifndef AQ_SERVE_SEARCH_H
#define AQ_SERVE_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum aq_search_by { AQ_SEARCH_P95, AQ_SEARCH_EVERY, AQ_SEARCH_BYS };

struct aq_search_step {
	uint32_t users;
	bool within[AQ_SEARCH_BYS];
};

struct aq_search_limits {
	uint32_t first, most; /* to begin with, and not to be passed; first <= most */
	double growth;        /* of steps until one fails; 0 doubles */
	double precision;     /* stop when the interval is below this part of its lower end */
	bool every;           /* look for that answer, too */
};

/* Return: users to try next, 1..most; 0 the answers are known. */
uint32_t aq_search_next(const struct aq_search_limits *limits, const struct aq_search_step *steps,
			size_t count);

/* The answer, as far as it is known: 0 when not even one user was within the bound. */
uint32_t aq_search_best(const struct aq_search_step *steps, size_t count, enum aq_search_by by);

#endif /* AQ_SERVE_SEARCH_H */
