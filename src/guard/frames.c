/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what lies in which frame. See frames.h. */
#include "guard/frames.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "abi/grant.h"
#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/space.h"
#include "guard/guest.h"

#define FRAME_GRAINS ((uint32_t)(AQ__FRAME_BYTES / AQ_GRAIN_BYTES))
#define FRAME_SHIFT 21

/*
 * A call that finds no room in the grant may still fit into a frame that is there: then it reserves
 * nothing and claims its bytes. Another call may take that room before it: so a claim counts all
 * claims before it, and until the last of them is done, what other calls leave over is kept.
 */
static struct {
	struct aq__lock lock;
	uint64_t claimed; /* bytes, by calls under way */
	uint32_t spare;	  /* grains kept */
	uint64_t room;	  /* atomic: bytes free in all shared frames */
} shared[AQ_MAX_DEVICES];

static uint64_t frame_of(uint64_t address)
{
	return (address >> FRAME_SHIFT) + 1; /* keys are never 0 */
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	uint64_t sum;

	return __builtin_add_overflow(n, to - 1, &sum) ? UINT64_MAX : sum / to * to;
}

/* ---- which grains of a frame are taken: a bit each, in memory that is mapped by itself ---- */

#define MAP_WORDS (FRAME_GRAINS / 64)
#define MAPS_AT_ONCE 128 /* 64 KiB; never unmapped */

struct map {
	union {
		uint64_t taken[MAP_WORDS];
		struct map *next; /* while unused */
	};
};

static struct aq__lock maps_lock;
static struct map *unused_maps; /* under maps_lock */

/* All clear. Return: NULL without memory. */
static struct map *map_new(void)
{
	int saved = errno;
	struct map *m;

	aq__lock(&maps_lock);
	if (!unused_maps) {
		m = mmap(NULL, MAPS_AT_ONCE * sizeof(*m), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int i = 0; m != MAP_FAILED && i < MAPS_AT_ONCE; i++) {
			m[i].next = unused_maps;
			unused_maps = &m[i];
		}
	}
	m = unused_maps;
	if (m)
		unused_maps = m->next;
	aq__unlock(&maps_lock);
	errno = saved;
	return m ? memset(m, 0, sizeof(*m)) : NULL;
}

static void map_drop(struct map *m)
{
	if (!m)
		return;
	aq__lock(&maps_lock);
	m->next = unused_maps;
	unused_maps = m;
	aq__unlock(&maps_lock);
}

/* Return: how many of the grains were taken before. */
static uint32_t map_set(struct map *m, uint32_t from, uint32_t grains, bool taken)
{
	uint32_t before = 0;

	for (uint32_t i = from; m && i < from + grains && i < FRAME_GRAINS;) {
		uint32_t bit = i % 64, n = 64 - bit;
		uint64_t mask, *word = &m->taken[i / 64];

		if (n > from + grains - i)
			n = from + grains - i;
		mask = (n == 64 ? UINT64_MAX : (1ull << n) - 1) << bit;
		before += (uint32_t)__builtin_popcountll(*word & mask);
		*word = taken ? *word | mask : *word & ~mask;
		i += n;
	}
	return before;
}

static bool map_has_gap(const struct map *m, uint32_t grains)
{
	uint32_t run = 0;

	for (uint32_t i = 0; m && i < FRAME_GRAINS; i++) {
		run = m->taken[i / 64] >> i % 64 & 1 ? 0 : run + 1;
		if (run >= grains)
			return true;
	}
	return false;
}

static struct map *map_of(const struct aq__item *frame)
{
	return (struct map *)(uintptr_t)frame->link;
}

/* ---- one allocation more or less in a frame; under the table's lock ---- */

/*
 * A frame has to be paid for, once, by whoever is found in it and can: a call that reserved nothing
 * may have opened it and go away again while another, that did reserve, stays. `kind` says whether
 * it is paid.
 */
struct change {
	int index;
	uint32_t from, bytes; /* in the frame */
	uint32_t *have;	      /* grains at hand, to pay with or as given back */
	bool first;	      /* out: it was empty before, or is it now */
	bool unpaid;	      /* out */
};

static void pay(struct aq__item *frame, struct change *c)
{
	if (!frame->kind && *c->have >= FRAME_GRAINS) {
		frame->kind = 1;
		*c->have -= FRAME_GRAINS;
	}
	c->unpaid = !frame->kind;
}

/*
 * Where one thread frees and another is given the same address, the new entry comes before the old
 * one has left: for a while its grains are taken twice. The frame counts them (`grains`), and that
 * many are not cleared. If they were not the same ones, some seem taken that are not: no harm.
 */
static bool add(struct aq__item *frame, void *arg)
{
	struct change *c = arg;

	c->first = !frame->refs;
	if (c->first) /* without a map, nothing is ever claimed in it */
		frame->link = (uintptr_t)map_new();
	frame->grains +=
		map_set(map_of(frame), c->from / AQ_GRAIN_BYTES, c->bytes / AQ_GRAIN_BYTES, true);
	frame->index = (int16_t)c->index;
	frame->refs++;
	frame->bytes += c->bytes;
	pay(frame, c);
	return true;
}

static bool pay_later(struct aq__item *frame, void *arg)
{
	pay(frame, arg);
	return frame->refs;
}

static bool subtract(struct aq__item *frame, void *arg)
{
	struct change *c = arg;
	uint32_t grains = c->bytes / AQ_GRAIN_BYTES;

	frame->bytes -= frame->bytes < c->bytes ? frame->bytes : c->bytes;
	c->first = frame->refs <= 1;
	if (c->first && frame->kind)
		*c->have += FRAME_GRAINS;
	if (c->first)
		map_drop(map_of(frame));
	else if (frame->grains)
		frame->grains -= frame->grains < grains ? frame->grains : grains;
	else
		(void)map_set(map_of(frame), c->from / AQ_GRAIN_BYTES, grains, false);
	return frame->refs && --frame->refs;
}

static void room_add(int index, uint64_t bytes)
{
	__atomic_fetch_add(&shared[index].room, bytes, __ATOMIC_RELAXED);
}

/* Smaller than a frame, an allocation lies in one or two: do @edit in each. Return: false when it
 * could not be done in the second, or in the first. *ret_unpaid counts frames. */
static bool each_frame(int index, uint64_t ptr, uint32_t bytes, aq__edit_fn *edit, uint32_t *have,
		       uint32_t *ret_unpaid)
{
	uint64_t last = frame_of(ptr + bytes - 1), at = ptr;

	*ret_unpaid = 0;
	for (uint64_t f = frame_of(ptr); f <= last; f++) {
		uint64_t end = f == last ? ptr + bytes : f << FRAME_SHIFT;
		struct change c = {.index = index,
				   .from = (uint32_t)(at % AQ__FRAME_BYTES),
				   .bytes = (uint32_t)(end - at),
				   .have = have};

		if (!aq__track_edit(AQ__FRAME, f, edit, &c)) {
			uint32_t ignored;

			if (edit == add && at > ptr)
				(void)each_frame(index, ptr, (uint32_t)(at - ptr), subtract, have,
						 &ignored);
			return false;
		}
		*ret_unpaid += c.unpaid;
		if (edit == add)
			room_add(index, (c.first ? AQ__FRAME_BYTES : 0) - c.bytes);
		else if (edit == subtract)
			room_add(index, c.bytes - (c.first ? AQ__FRAME_BYTES : 0));
		at = end;
	}
	return true;
}

/* ---- reserving ---- */

/* A call ends with @left grains over, and its claim. */
static void end(int index, uint32_t left, uint64_t claimed)
{
	aq__lock(&shared[index].lock);
	shared[index].claimed -= claimed;
	if (shared[index].claimed) {
		shared[index].spare += left;
		left = 0;
	} else {
		left += shared[index].spare;
		shared[index].spare = 0;
	}
	aq__unlock(&shared[index].lock);
	aq__release(index, left);
}

struct search {
	int index;
	uint64_t bytes;
	bool found;
};

static bool has_room(const struct aq__item *item, void *arg)
{
	struct search *s = arg;

	if (!s->found && item->class == AQ__FRAME && item->index == s->index &&
	    AQ__FRAME_BYTES - item->bytes >= s->bytes)
		s->found = map_has_gap(
			map_of(item), (uint32_t)((s->bytes + AQ_GRAIN_BYTES - 1) / AQ_GRAIN_BYTES));
	return false;
}

/* Seldom: only when the grant does not do. Return: whether @bytes were claimed. */
static bool claim(int index, uint64_t bytes)
{
	struct search s = {.index = index};

	if (__atomic_load_n(&shared[index].room, __ATOMIC_RELAXED) < bytes)
		return false;
	aq__lock(&shared[index].lock);
	shared[index].claimed += bytes;
	s.bytes = shared[index].claimed;
	aq__unlock(&shared[index].lock);
	aq__track_sweep(has_room, &s);
	if (!s.found)
		end(index, 0, bytes);
	return s.found;
}

CUresult aq__frames_begin(int index, uint64_t bytes, bool alone, const char *api,
			  struct aq__frames_call *c)
{
	uint64_t worst = round_up(bytes, AQ__FRAME_BYTES), claimed;
	uint32_t grains;

	*c = (struct aq__frames_call){.index = index, .alone = alone};
	if (index < 0 || !bytes)
		return index == AQ__ABSENT ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
	if (aq_grains(worst, &grains) && aq__reserve_now(index, grains)) {
		c->grains = grains;
		return CUDA_SUCCESS;
	}
	claimed = round_up(bytes, AQ_GRAIN_BYTES);
	if (!alone && claimed <= AQ__FRAME_BYTES && claim(index, claimed)) {
		c->claimed = claimed;
		return CUDA_SUCCESS;
	}
	return aq__reserve_for(index, worst, bytes, api, &c->grains);
}

void aq__frames_abort(const struct aq__frames_call *c)
{
	if (c->index >= 0)
		end(c->index, c->grains, c->claimed);
}

/* Make *have at least @need: from what others left over, then from the fraction. */
static bool get_more(int index, uint32_t need, const char *api, uint32_t *have)
{
	uint32_t more, spare;

	if (*have >= need)
		return true;
	more = need - *have;
	aq__lock(&shared[index].lock);
	spare = more < shared[index].spare ? more : shared[index].spare;
	shared[index].spare -= spare;
	aq__unlock(&shared[index].lock);
	*have += spare;
	if (*have >= need)
		return true;
	if (aq__reserve(index, aq_grain_bytes(need - *have), api, &more) != CUDA_SUCCESS)
		return false;
	*have += more;
	return true;
}

/* Enter it into its frames, and pay for those that nobody has paid. */
static bool commit_shared(int index, uint64_t ptr, uint32_t bytes, const char *api, uint32_t *have)
{
	uint32_t unpaid;

	if (!each_frame(index, ptr, bytes, add, have, &unpaid))
		return false;
	while (unpaid) {
		if (!get_more(index, unpaid * FRAME_GRAINS, api, have)) {
			(void)each_frame(index, ptr, bytes, subtract, have, &unpaid);
			return false;
		}
		(void)each_frame(index, ptr, bytes, pay_later, have, &unpaid);
	}
	return true;
}

CUresult aq__frames_commit(const struct aq__frames_call *c, uint64_t ptr, uint64_t bytes,
			   const char *api, struct aq__item *item)
{
	uint32_t have = c->grains;
	bool ok;

	item->key = ptr;
	item->kind = AQ__LINEAR;
	if (c->index < 0)
		return CUDA_SUCCESS;
	if (c->alone || bytes >= AQ__FRAME_BYTES) {
		ok = aq_grains(round_up(bytes, AQ__FRAME_BYTES), &item->grains) &&
		     get_more(c->index, item->grains, api, &have);
		if (ok)
			have -= item->grains;
	} else {
		item->kind = AQ__FRAMED;
		item->bytes = round_up(bytes, AQ_GRAIN_BYTES);
		ok = commit_shared(c->index, ptr, (uint32_t)item->bytes, api, &have);
	}
	end(c->index, have, c->claimed);
	return ok ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void aq__frames_drop(const struct aq__item *item)
{
	uint32_t back = 0, ignored;

	if (item->index < 0)
		return;
	(void)each_frame(item->index, item->key, (uint32_t)item->bytes, subtract, &back, &ignored);
	if (back) /* and with it, perhaps, room that somebody claimed */
		end(item->index, back, 0);
}

void aq__frames_forked(void)
{
	memset(shared, 0, sizeof(shared));
	aq__lock_reset(&maps_lock);
	unused_maps = NULL;
}
