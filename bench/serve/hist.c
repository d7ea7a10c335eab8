/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles, by classes and by rank. */
#include "serve/hist.h"

#include <math.h>

#include "base/banned.h"

/* Values below 2^(BITS + 1) have a class each; above, the leading BITS + 1 bits name the class. */
static size_t class_of(uint64_t ns)
{
	int shift;

	if (ns >> AQ_HIST_TOP)
		ns = (1ull << AQ_HIST_TOP) - 1;
	if (ns < (2u << AQ_HIST_BITS))
		return (size_t)ns;
	shift = 63 - __builtin_clzll(ns) - AQ_HIST_BITS;
	return ((size_t)shift << AQ_HIST_BITS) + (size_t)(ns >> shift);
}

/* Its middle. */
static uint64_t value_of(size_t class)
{
	size_t shift;

	if (class < (2u << AQ_HIST_BITS))
		return class;
	shift = (class >> AQ_HIST_BITS) - 1;
	return ((uint64_t)(class - (shift << AQ_HIST_BITS)) << shift) + (1ull << shift) / 2;
}

void aq_hist_add(struct aq_hist *h, uint64_t ns)
{
	if (!h->count || ns < h->min_ns)
		h->min_ns = ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
	h->count++;
	h->sum_ns += ns;
	h->n[class_of(ns)]++;
}

void aq_hist_merge(struct aq_hist *h, const struct aq_hist *other)
{
	if (!other->count)
		return;
	if (!h->count || other->min_ns < h->min_ns)
		h->min_ns = other->min_ns;
	if (other->max_ns > h->max_ns)
		h->max_ns = other->max_ns;
	h->count += other->count;
	h->sum_ns += other->sum_ns;
	for (size_t i = 0; i < AQ_HIST_CLASSES; i++)
		h->n[i] += other->n[i];
}

uint64_t aq_hist_percentile(const struct aq_hist *h, double percent)
{
	uint64_t rank = (uint64_t)ceil(percent / 100 * (double)h->count), seen = 0;

	if (!h->count)
		return 0;
	if (rank <= 1)
		return h->min_ns;
	if (rank >= h->count)
		return h->max_ns;
	for (size_t i = 0; i < AQ_HIST_CLASSES; i++) {
		seen += h->n[i];
		if (seen >= rank) {
			uint64_t value = value_of(i);

			return value < h->min_ns   ? h->min_ns
			       : value > h->max_ns ? h->max_ns
						   : value;
		}
	}
	return h->max_ns;
}

double aq_percentile(const double *sorted, size_t count, double percent)
{
	double rank = ceil(percent / 100 * (double)count);

	if (!count)
		return 0;
	if (rank < 1)
		return sorted[0];
	return sorted[rank > (double)count ? count - 1 : (size_t)rank - 1];
}

int aq_compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}
