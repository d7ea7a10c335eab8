/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudorandom numbers by seed. Not for secrets. */
#include "serve/random.h"

#include <math.h>

#include "base/banned.h"

static uint64_t rotate(uint64_t x, int by)
{
	return (x << by) | (x >> (64 - by));
}

/* SplitMix64: spreads a seed's few bits over all of the state, as the authors advise. */
static uint64_t spread(uint64_t *x)
{
	uint64_t z = *x += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void aq_random_seed(struct aq_random *r, uint64_t seed, uint64_t stream)
{
	uint64_t x = seed, y = stream;

	/* Spread both before they meet, or seed 1 stream 2 were seed 2 stream 1. */
	x = spread(&x) + rotate(spread(&y), 32);
	for (int i = 0; i < 4; i++)
		r->s[i] = spread(&x);
}

uint64_t aq_random_next(struct aq_random *r)
{
	uint64_t result = rotate(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = rotate(r->s[3], 45);
	return result;
}

double aq_random_unit(struct aq_random *r)
{
	return (double)(aq_random_next(r) >> 11) * 0x1p-53;
}

/* Box and Muller; the second value is thrown away so that a draw keeps no state. */
double aq_random_normal(struct aq_random *r)
{
	double u = 1 - aq_random_unit(r); /* never 0 */

	return sqrt(-2 * log(u)) * cos(2 * M_PI * aq_random_unit(r));
}

/* Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000); shape >= 1. */
static double gamma_big(struct aq_random *r, double shape)
{
	double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

	for (;;) {
		double x = aq_random_normal(r), v = 1 + c * x;

		if (v <= 0)
			continue;
		v = v * v * v;
		if (log(1 - aq_random_unit(r)) < 0.5 * x * x + d * (1 - v + log(v)))
			return d * v;
	}
}

double aq_random_gamma(struct aq_random *r, double shape)
{
	if (shape == 1)
		return -log(1 - aq_random_unit(r));
	if (shape > 1)
		return gamma_big(r, shape) / shape;
	return gamma_big(r, shape + 1) * pow(1 - aq_random_unit(r), 1 / shape) / shape;
}
