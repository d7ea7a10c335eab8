/* SPDX-License-Identifier: Apache-2.0 */
/* Two bitmaps a page; the first gap that is long enough, in the page whose gaps are the shortest.
 */
#include "guard/small.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/guest.h"

#define NONE UINT32_MAX
#define N AQ__SMALL_GRAINS

/* ---- bitmaps ---- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The first bit in [@at, @end) that is (@set) or is not set; @end: none. */
static uint32_t next_bit(const uint64_t *bits, uint32_t at, uint32_t end, bool set)
{
	while (at < end) {
		uint64_t word = (set ? bits[at / 64] : ~bits[at / 64]) >> at % 64;

		if (word)
			return min_u32(at + (uint32_t)__builtin_ctzll(word), end);
		at = (at / 64 + 1) * 64;
	}
	return end;
}

static void fill(uint64_t *bits, uint32_t at, uint32_t n, bool set)
{
	while (n) {
		uint32_t bit = at % 64, part = 64 - bit < n ? 64 - bit : n;
		uint64_t mask = (part == 64 ? ~0ull : (1ull << part) - 1) << bit;

		if (set)
			bits[at / 64] |= mask;
		else
			bits[at / 64] &= ~mask;
		at += part;
		n -= part;
	}
}

static bool bit(const uint64_t *bits, uint32_t at)
{
	return bits[at / 64] >> at % 64 & 1;
}

/* The last bit below @at that is set, and one more; 0: none is. */
static uint32_t after_last_below(const uint64_t *bits, uint32_t at)
{
	while (at) {
		uint32_t last = at - 1;
		uint64_t word = bits[last / 64] << (63 - last % 64);

		if (word)
			return at - (uint32_t)__builtin_clzll(word);
		at = last / 64 * 64;
	}
	return 0;
}

/* The first gap of @grains. @ret_longest: of all gaps, when there is none. */
static uint32_t find_gap(struct aq__small_page *p, uint32_t grains, uint32_t *ret_longest)
{
	uint32_t longest = 0;

	p->low = (uint16_t)next_bit(p->used, p->low, N, false);
	for (uint32_t at = p->low; at < N;) {
		uint32_t end = next_bit(p->used, at, min_u32(at + grains, N), true);

		if (end - at >= grains)
			return at;
		if (end - at > longest)
			longest = end - at;
		at = next_bit(p->used, end, N, false);
	}
	*ret_longest = longest;
	return N;
}

/* ---- bins ---- */

static uint32_t *bin(struct aq__small *s, uint32_t gap)
{
	return &s->bins[31 - __builtin_clz(gap)];
}

static void list(struct aq__small *s, uint32_t page)
{
	struct aq__small_page *p = &s->page[page];
	uint32_t *head;

	if (!p->gap)
		return;
	head = bin(s, p->gap);
	p->prev = NONE;
	p->next = *head;
	if (*head != NONE)
		s->page[*head].prev = page;
	*head = page;
}

static void unlist(struct aq__small *s, uint32_t page)
{
	struct aq__small_page *p = &s->page[page];

	if (!p->gap)
		return;
	if (p->prev != NONE)
		s->page[p->prev].next = p->next;
	else
		*bin(s, p->gap) = p->next;
	if (p->next != NONE)
		s->page[p->next].prev = p->prev;
}

static void set_gap(struct aq__small *s, uint32_t page, uint32_t gap)
{
	unlist(s, page);
	s->page[page].gap = (uint16_t)gap;
	list(s, page);
}

/* ---- interface ---- */

bool aq__small_init(struct aq__small *s, uint32_t count)
{
	int saved = errno;
	void *table = mmap(NULL, (size_t)count * sizeof(*s->page), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	errno = saved;
	if (table == MAP_FAILED)
		return false;
	s->page = table;
	s->count = count;
	memset(s->bins, 0xff, sizeof(s->bins));
	return true;
}

void aq__small_finish(struct aq__small *s)
{
	int saved = errno;

	if (s->page)
		munmap(s->page, (size_t)s->count * sizeof(*s->page));
	s->page = NULL;
	errno = saved;
}

void aq__small_add(struct aq__small *s, uint32_t page)
{
	memset(&s->page[page], 0, sizeof(s->page[page]));
	s->page[page].gap = N;
	list(s, page);
}

/* In @page, if a gap is long enough; what its longest gap is becomes known if not. */
static bool take_in(struct aq__small *s, uint32_t page, uint32_t grains, uint32_t *ret_grain)
{
	struct aq__small_page *p = &s->page[page];
	uint32_t longest = 0, at = find_gap(p, grains, &longest);

	if (at == N) {
		set_gap(s, page, longest);
		return false;
	}
	fill(p->used, at, grains, true);
	fill(p->start, at, 1, true);
	if (at == p->low)
		p->low = (uint16_t)(at + grains);
	p->pieces++;
	*ret_grain = at;
	return true;
}

bool aq__small_take(struct aq__small *s, uint32_t grains, uint32_t *ret_page, uint32_t *ret_grain)
{
	for (uint32_t b = 31u - (uint32_t)__builtin_clz(grains); b < AQ__SMALL_BINS; b++) {
		uint32_t page = s->bins[b];

		while (page != NONE) {
			uint32_t next = s->page[page].next;

			if (s->page[page].gap >= grains && take_in(s, page, grains, ret_grain)) {
				*ret_page = page;
				return true;
			}
			page = next;
		}
	}
	return false;
}

bool aq__small_give(struct aq__small *s, uint32_t page, uint32_t grain)
{
	struct aq__small_page *p = &s->page[page];
	/* A piece ends where nothing is used, or where the next one begins. */
	uint32_t end = next_bit(p->used, grain, next_bit(p->start, grain + 1, N, true), false);
	uint32_t low;

	fill(p->used, grain, end - grain, false);
	fill(p->start, grain, 1, false);
	if (!--p->pieces) {
		unlist(s, page);
		p->gap = 0;
		return true;
	}
	if (grain < p->low)
		p->low = (uint16_t)grain;
	low = after_last_below(p->used, grain);
	if (N - low > p->gap) { /* else the gap cannot be longer */
		uint32_t high = next_bit(p->used, end, N, true);

		if (high - low > p->gap)
			set_gap(s, page, high - low);
	}
	return false;
}

bool aq__small_find(const struct aq__small *s, uint32_t page, uint32_t grain, uint32_t *ret_first)
{
	const struct aq__small_page *p = &s->page[page];

	if (!bit(p->used, grain))
		return false;
	while (!bit(p->start, grain))
		grain--;
	*ret_first = grain;
	return true;
}
