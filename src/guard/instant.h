/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When, on the host's clock, the device reached an event: what is seen of it, and of others whose
 * distance from it the device knows, narrows it down. Nobody is asked; two clocks that differ are
 * set against each other only by what cannot have been otherwise.
 */
#ifndef AQ_GUARD_INSTANT_H
#define AQ_GUARD_INSTANT_H

#include <stdint.h>

/* Not before and not after, in ns of CLOCK_MONOTONIC. */
struct aq__instant {
	uint64_t from_ns;
	uint64_t to_ns; /* UINT64_MAX: it has not been seen to be reached */
};

/* It will be reached after @now_ns. */
void aq__instant_begin(struct aq__instant *i, uint64_t now_ns);

/* What is told last is right, where two do not agree: the clocks drift. */
void aq__instant_not_before(struct aq__instant *i, uint64_t ns);
void aq__instant_not_after(struct aq__instant *i, uint64_t ns);

/* Another event, reached @after_ns later by the device's clock, was reached in [from, to] of the
 * host's; @to_ns: UINT64_MAX: unknown. */
void aq__instant_seen_after(struct aq__instant *i, uint64_t after_ns, uint64_t from_ns,
			    uint64_t to_ns);

/* It was reached @after_ns later than @earlier, by the device's clock. */
void aq__instant_follows(struct aq__instant *i, const struct aq__instant *earlier,
			 uint64_t after_ns);

/* The best guess; of what has not been seen to be reached, the earliest. */
uint64_t aq__instant_ns(const struct aq__instant *i);

#endif /* AQ_GUARD_INSTANT_H */
