/* SPDX-License-Identifier: Apache-2.0 */
/* Compare-and-swap loops over the grant word. Decides nothing: who may have how much is core's. */
#include "abi/grant.h"

#include "base/banned.h"

/* One step: from the word as loaded to the one wanted; false when somebody was faster. */
static bool swap(_Atomic uint64_t *word, uint64_t *expected, struct aq_grant to)
{
	return __atomic_compare_exchange_n((uint64_t *)word, expected, aq_grant_pack(to), true,
					   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

bool aq_grant_use(_Atomic uint64_t *word, uint32_t grains, uint32_t *ret_missing)
{
	uint64_t seen = __atomic_load_n((uint64_t *)word, __ATOMIC_ACQUIRE);

	for (;;) {
		struct aq_grant g = aq_grant_unpack(seen);
		uint32_t unused = g.granted > g.used ? g.granted - g.used : 0;

		if (grains > unused) {
			*ret_missing = grains - unused;
			return false;
		}
		g.used += grains;
		if (swap(word, &seen, g))
			return true;
	}
}

void aq_grant_release(_Atomic uint64_t *word, uint32_t grains)
{
	uint64_t seen = __atomic_load_n((uint64_t *)word, __ATOMIC_ACQUIRE);

	for (;;) {
		struct aq_grant g = aq_grant_unpack(seen);

		g.used -= grains < g.used ? grains : g.used;
		if (swap(word, &seen, g))
			return;
	}
}

bool aq_grant_add(_Atomic uint64_t *word, uint32_t grains)
{
	uint64_t seen = __atomic_load_n((uint64_t *)word, __ATOMIC_ACQUIRE);

	for (;;) {
		struct aq_grant g = aq_grant_unpack(seen);

		if (__builtin_add_overflow(g.granted, grains, &g.granted))
			return false;
		if (swap(word, &seen, g))
			return true;
	}
}

uint32_t aq_grant_revoke(_Atomic uint64_t *word, uint32_t max)
{
	uint64_t seen = __atomic_load_n((uint64_t *)word, __ATOMIC_ACQUIRE);

	for (;;) {
		struct aq_grant g = aq_grant_unpack(seen);
		uint32_t taken = g.granted > g.used ? g.granted - g.used : 0;

		if (taken > max)
			taken = max;
		if (!taken)
			return 0;
		g.granted -= taken;
		if (swap(word, &seen, g))
			return taken;
	}
}
