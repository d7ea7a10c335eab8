/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks allocations lie in. Counts only; who reserves and releases grains is linear.c. */
#include "guard/blocks.h"

#include "guard/track.h"
#include "guard/guest.h"

uint64_t aq__blocks_round(uint64_t bytes)
{
	uint64_t sum;

	if (__builtin_add_overflow(bytes, AQ__BLOCK_BYTES - 1, &sum))
		return UINT64_MAX;
	return sum / AQ__BLOCK_BYTES * AQ__BLOCK_BYTES;
}

/* The blocks that an allocation fills are [first, last); those that it lies in [lowest, highest].
 */
struct extent {
	uint64_t lowest, highest, first, last;
};

static struct extent extent(uint64_t ptr, uint64_t bytes)
{
	uint64_t end = ptr + (bytes ? bytes : 1);
	struct extent e = {
		.lowest = ptr / AQ__BLOCK_BYTES,
		.highest = (end - 1) / AQ__BLOCK_BYTES,
		.first = (ptr + AQ__BLOCK_BYTES - 1) / AQ__BLOCK_BYTES,
		.last = end / AQ__BLOCK_BYTES,
	};

	/* The driver gives what is larger than a block whole blocks: the tail is nobody else's. */
	if (e.first == e.lowest && e.last > e.first)
		e.last = e.highest + 1;
	if (e.last < e.first)
		e.last = e.first;
	return e;
}

/* Is its first, or its last block one that it does not fill? */
static bool shares_lowest(const struct extent *e)
{
	return e->lowest < e->first || e->lowest == e->last;
}

static bool shares_highest(const struct extent *e)
{
	return e->highest != e->lowest && e->highest >= e->last;
}

/* One allocation more in a block. Return: whether it could be noted; grains if it is the first. */
static bool enter(const struct aq__place *place, uint64_t number, uint32_t *shared)
{
	struct aq__item block = {
		.key = number + 1, /* never 0 */
		.class = AQ__BLOCK,
		.index = (int16_t)place->index,
		.owner = place->owner,
		.grains = AQ__BLOCK_GRAINS,
	};
	uint32_t refs;

	if (!aq__track_count(&block, 1, &refs))
		return false;
	*shared += refs == 1 ? AQ__BLOCK_GRAINS : 0;
	return true;
}

/* One less. Return: grains if it was the last. */
static uint32_t leave(uint64_t number)
{
	struct aq__item block = {.key = number + 1, .class = AQ__BLOCK};
	uint32_t refs;

	return aq__track_count(&block, -1, &refs) && !refs ? AQ__BLOCK_GRAINS : 0;
}

bool aq__blocks_enter(const struct aq__place *place, uint64_t ptr, uint64_t bytes,
		      uint32_t *ret_own, uint32_t *ret_shared)
{
	struct extent e = extent(ptr, bytes);

	*ret_own = (uint32_t)(e.last - e.first) * AQ__BLOCK_GRAINS;
	*ret_shared = 0;
	if (shares_lowest(&e) && !enter(place, e.lowest, ret_shared))
		return false;
	if (shares_highest(&e) && !enter(place, e.highest, ret_shared)) {
		if (shares_lowest(&e))
			(void)leave(e.lowest);
		return false;
	}
	return true;
}

uint32_t aq__blocks_leave(uint64_t ptr, uint64_t bytes)
{
	struct extent e = extent(ptr, bytes);
	uint32_t empty = 0;

	if (shares_lowest(&e))
		empty += leave(e.lowest);
	if (shares_highest(&e))
		empty += leave(e.highest);
	return empty;
}
