/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered sets of address ranges that do not overlap, each range with a number. Treaps over memory
 * that is mapped by itself. Not locked: one lock of the caller's is held around every call on any
 * set, for all take their nodes from one heap. What was just taken out can always be added again.
 */
#ifndef AQ_GUARD_RANGES_H
#define AQ_GUARD_RANGES_H

#include <stdbool.h>
#include <stdint.h>

struct aq__range {
	uint64_t start;
	uint64_t bytes; /* > 0; start + bytes does not overflow */
	uint64_t value;
};

struct aq__range_node;

struct aq__ranges {
	struct aq__range_node *root;
};

/* Add @r, which overlaps nothing in the set. Return: false when there is no memory. */
bool aq__ranges_add(struct aq__ranges *set, const struct aq__range *r);

/* The range that @address is in. Return: whether there is one. */
bool aq__ranges_find(const struct aq__ranges *set, uint64_t address, struct aq__range *ret_range);

/*
 * Take out the first range that lies in, or (@overlapping) touches, [start, end). Return: whether
 * there was one; call again until not.
 */
bool aq__ranges_take(struct aq__ranges *set, uint64_t start, uint64_t end, bool overlapping,
		     struct aq__range *ret_range);

/* In a forked child: all sets are empty, and the heap begins anew. */
void aq__ranges_forked(void);

#endif /* AQ_GUARD_RANGES_H */
