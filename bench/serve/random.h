/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that look random and are the same for the same seed, on every machine. */
#ifndef AQ_SERVE_RANDOM_H
#define AQ_SERVE_RANDOM_H

#include <stdint.h>

/* xoshiro256**. Source: Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators". */
struct aq_random {
	uint64_t s[4];
};

/* @stream: which of the independent sequences of @seed; any value. */
void aq_random_seed(struct aq_random *r, uint64_t seed, uint64_t stream);

uint64_t aq_random_next(struct aq_random *r);

/* In [0, 1). */
double aq_random_unit(struct aq_random *r);

/* Mean 0, deviation 1. */
double aq_random_normal(struct aq_random *r);

/* Gamma distributed with mean 1; @shape > 0. Shape 1 is exponential. */
double aq_random_gamma(struct aq_random *r, double shape);

#endif /* AQ_SERVE_RANDOM_H */
