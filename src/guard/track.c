/* SPDX-License-Identifier: Apache-2.0 */
/* Sharded hash table with linear probing and deletion by shifting back. Never shrinks. */
#include "guard/track.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/guest.h"

#define SHARDS 64u
#define FIRST_SLOTS 64u /* of each shard */

struct shard {
	struct aq__lock lock;
	uint32_t count;
	uint32_t mask; /* slots - 1; 0 before the first entry */
	struct aq__item *slots;
} __attribute__((aligned(64)));

/* Each under its own lock. `first` spares short programs the mapping. */
static struct shard shards[SHARDS];
static struct aq__item first[SHARDS][FIRST_SLOTS];

static uint64_t hash(enum aq__class class, uint64_t key)
{
	/* Source: 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4). Keys are aligned
	 * addresses: fold the high half in, so that the low bits that index a shard have seen every
	 * bit. */
	uint64_t h = (key + class) * 0x9e3779b97f4a7c15ull;

	return h ^ h >> 32;
}

static struct shard *shard_of(uint64_t h)
{
	return &shards[h >> 58]; /* the top 6 bits: SHARDS */
}

/* The slot of the entry, or the empty one where it would be. The shard is never full. */
static uint32_t find(const struct shard *s, enum aq__class class, uint64_t key, uint64_t h)
{
	uint32_t i = (uint32_t)h & s->mask;

	while (s->slots[i].class && (s->slots[i].key != key || s->slots[i].class != class))
		i = (i + 1) & s->mask;
	return i;
}

static bool grow(struct shard *s)
{
	uint32_t slots = (s->mask + 1) * 2;
	struct aq__item *old = s->slots;
	uint32_t old_slots = s->mask + 1;
	int saved = errno;
	void *p;

	if (!old) {
		s->slots = first[s - shards];
		s->mask = FIRST_SLOTS - 1;
		return true;
	}
	p = mmap(NULL, slots * sizeof(*old), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		 -1, 0);
	errno = saved;
	if (p == MAP_FAILED)
		return s->count < s->mask; /* go on, slowly, while one slot stays empty */

	s->slots = p;
	s->mask = slots - 1;
	for (uint32_t i = 0; i < old_slots; i++) {
		if (old[i].class)
			s->slots[find(s, old[i].class, old[i].key,
				      hash(old[i].class, old[i].key))] = old[i];
	}
	if (old != first[s - shards])
		munmap(old, old_slots * sizeof(*old));
	errno = saved;
	return true;
}

/* Empty slot @i, moving up what would no longer be found past it. */
static void remove_at(struct shard *s, uint32_t i)
{
	uint32_t j = i;

	for (;;) {
		uint32_t home;

		j = (j + 1) & s->mask;
		if (!s->slots[j].class)
			break;
		home = (uint32_t)hash(s->slots[j].class, s->slots[j].key) & s->mask;
		if (((j - home) & s->mask) < ((j - i) & s->mask))
			continue; /* its way does not lead over the hole */
		s->slots[i] = s->slots[j];
		i = j;
	}
	s->slots[i].class = 0;
	s->count--;
}

bool aq__track_put(const struct aq__item *item, struct aq__item *ret_old)
{
	uint64_t h = hash(item->class, item->key);
	struct shard *s = shard_of(h);
	uint32_t i;

	ret_old->class = 0;
	aq__lock(&s->lock);
	if ((!s->slots || s->count >= s->mask / 4 * 3) && !grow(s)) {
		aq__unlock(&s->lock);
		return false;
	}
	i = find(s, item->class, item->key, h);
	if (s->slots[i].class)
		*ret_old = s->slots[i];
	else
		s->count++;
	s->slots[i] = *item;
	aq__unlock(&s->lock);
	return true;
}

bool aq__track_count(const struct aq__item *item, int change, uint32_t *ret_refs)
{
	uint64_t h = hash(item->class, item->key);
	struct shard *s = shard_of(h);
	uint32_t i;

	aq__lock(&s->lock);
	if ((!s->slots || s->count >= s->mask / 4 * 3) && !grow(s)) {
		aq__unlock(&s->lock);
		return false;
	}
	i = find(s, item->class, item->key, h);
	if (!s->slots[i].class) {
		if (change <= 0) {
			aq__unlock(&s->lock);
			return false;
		}
		s->slots[i] = *item;
		s->slots[i].refs = 0;
		s->count++;
	}
	*ret_refs = s->slots[i].refs += (uint32_t)change;
	if (!*ret_refs)
		remove_at(s, i);
	aq__unlock(&s->lock);
	return true;
}

static bool look(enum aq__class class, uint64_t key, struct aq__item *ret_item, bool take)
{
	uint64_t h = hash(class, key);
	struct shard *s = shard_of(h);
	bool found = false;

	aq__lock(&s->lock);
	if (s->slots) {
		uint32_t i = find(s, class, key, h);

		found = s->slots[i].class != 0;
		if (found)
			*ret_item = s->slots[i];
		if (found && take)
			remove_at(s, i);
	}
	aq__unlock(&s->lock);
	return found;
}

bool aq__track_get(enum aq__class class, uint64_t key, struct aq__item *ret_item)
{
	return look(class, key, ret_item, false);
}

bool aq__track_take(enum aq__class class, uint64_t key, struct aq__item *ret_item)
{
	return look(class, key, ret_item, true);
}

void aq__track_sweep(aq__match_fn *match, void *arg)
{
	for (uint32_t n = 0; n < SHARDS; n++) {
		struct shard *s = &shards[n];

		aq__lock(&s->lock);
		for (uint32_t i = 0; s->slots && i <= s->mask;) {
			/* remove_at() fills the slot from behind: look at it again. */
			if (s->slots[i].class && match(&s->slots[i], arg))
				remove_at(s, i);
			else
				i++;
		}
		aq__unlock(&s->lock);
	}
}

/* The mappings are left to the child's death: a few pages, once, in a process that only forked. */
void aq__track_forked(void)
{
	for (uint32_t n = 0; n < SHARDS; n++) {
		if (shards[n].slots)
			memset(first[n], 0, sizeof(first[n]));
		memset(&shards[n], 0, sizeof(shards[n]));
	}
}
