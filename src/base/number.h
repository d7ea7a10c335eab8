/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on counts of bytes and times that does not wrap. No conversions: see size.h. */
#ifndef AQ_BASE_NUMBER_H
#define AQ_BASE_NUMBER_H

#include <stdint.h>

static inline uint64_t aq_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t aq_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* a - b, not below zero. */
static inline uint64_t aq_minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

#endif /* AQ_BASE_NUMBER_H */
