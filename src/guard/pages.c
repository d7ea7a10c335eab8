/* SPDX-License-Identifier: Apache-2.0 */
/* Free runs with their length at both ends, in bins by the logarithm of it (Knuth, TAOCP 1, 2.5).
 */
#include "guard/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/guest.h"

/* How many runs of a bin are looked at for the tightest. Source: guess; a bin's runs differ by less
 * than twice. */
#define LOOKS 64

static unsigned int log2_of(uint32_t n)
{
	return 31u - (unsigned int)__builtin_clz(n);
}

static uint32_t *bin(struct aq__pages *p, uint8_t state, uint32_t n)
{
	return &p->bins[state == AQ__PAGE_HOLE][log2_of(n)];
}

/* ---- free runs ---- */

static void run_insert(struct aq__pages *p, uint32_t first, uint32_t n, uint8_t state)
{
	uint32_t *head = bin(p, state, n);

	p->page[first].run = p->page[first + n - 1].run = n;
	p->page[first].state = p->page[first + n - 1].state = state;
	p->page[first].prev = AQ__NO_PAGE;
	p->page[first].next = *head;
	if (*head != AQ__NO_PAGE)
		p->page[*head].prev = first;
	*head = first;
}

static void run_remove(struct aq__pages *p, uint32_t first)
{
	struct aq__page_info *i = &p->page[first];

	if (i->prev != AQ__NO_PAGE)
		p->page[i->prev].next = i->next;
	else
		*bin(p, i->state, i->run) = i->next;
	if (i->next != AQ__NO_PAGE)
		p->page[i->next].prev = i->prev;
}

/* Pages become free: one run with what is free the same way on both sides. */
static void run_free(struct aq__pages *p, uint32_t first, uint32_t n, uint8_t state)
{
	for (uint32_t i = first; state == AQ__PAGE_HOLE && i < first + n; i++)
		p->page[i].state = state; /* bare ones are only looked at from the ends */
	if (first && p->page[first - 1].state == state) {
		uint32_t before = p->page[first - 1].run;

		run_remove(p, first - before);
		first -= before;
		n += before;
	}
	if (first + n < p->count && p->page[first + n].state == state) {
		uint32_t after = p->page[first + n].run;

		run_remove(p, first + n);
		n += after;
	}
	run_insert(p, first, n, state);
}

/* Take [first, first + n) out of the free run that begins at @run. */
static void run_carve(struct aq__pages *p, uint32_t run, uint32_t first, uint32_t n, uint8_t now)
{
	uint8_t state = p->page[run].state;
	uint32_t end = run + p->page[run].run;

	run_remove(p, run);
	if (first > run)
		run_insert(p, run, first - run, state);
	if (first + n < end)
		run_insert(p, first + n, end - (first + n), state);
	for (uint32_t i = first; i < first + n; i++)
		p->page[i].state = now;
}

/* The tightest free run of at least @n pages, of those looked at. */
static uint32_t run_find(const struct aq__pages *p, uint8_t state, uint32_t n)
{
	for (unsigned int b = log2_of(n); b < AQ__PAGE_BINS; b++) {
		uint32_t best = AQ__NO_PAGE, at = p->bins[state == AQ__PAGE_HOLE][b];

		for (int looks = 0; at != AQ__NO_PAGE; at = p->page[at].next, looks++) {
			/* Of the request's own bin all, for none may be passed over. */
			if (looks >= LOOKS && best != AQ__NO_PAGE)
				break;
			if (p->page[at].run >= n &&
			    (best == AQ__NO_PAGE || p->page[at].run < p->page[best].run))
				best = at;
		}
		if (best != AQ__NO_PAGE)
			return best;
	}
	return AQ__NO_PAGE;
}

/* ---- chunks ---- */

/* Others look at the number without the lock, to know whether it is worth taking. */
static void count_empty(struct aq__pages *p, uint32_t more)
{
	__atomic_store_n(&p->empty_pages, p->empty_pages + more, __ATOMIC_RELAXED);
}

static void empty_insert(struct aq__pages *p, uint32_t chunk)
{
	p->page[chunk].prev_empty = AQ__NO_PAGE;
	p->page[chunk].next_empty = p->empty;
	if (p->empty != AQ__NO_PAGE)
		p->page[p->empty].prev_empty = chunk;
	p->empty = chunk;
	count_empty(p, p->page[chunk].chunk_pages);
}

static void empty_remove(struct aq__pages *p, uint32_t chunk)
{
	struct aq__page_info *i = &p->page[chunk];

	if (i->prev_empty != AQ__NO_PAGE)
		p->page[i->prev_empty].next_empty = i->next_empty;
	else
		p->empty = i->next_empty;
	if (i->next_empty != AQ__NO_PAGE)
		p->page[i->next_empty].prev_empty = i->prev_empty;
	count_empty(p, -i->chunk_pages);
}

/* Pages of an allocation come to a chunk, or leave it. */
static void chunk_count(struct aq__pages *p, uint32_t first, uint32_t n, bool come)
{
	for (uint32_t at = first; at < first + n;) {
		uint32_t chunk = p->page[at].chunk;
		uint32_t end = chunk + p->page[chunk].chunk_pages;
		uint32_t part = (end < first + n ? end : first + n) - at;

		if (come && !p->page[chunk].chunk_used)
			empty_remove(p, chunk);
		p->page[chunk].chunk_used += come ? part : -part;
		if (!come && !p->page[chunk].chunk_used)
			empty_insert(p, chunk);
		at += part;
	}
}

static void allocation(struct aq__pages *p, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++) {
		p->page[i].head = first;
		p->page[i].small = false;
		p->page[i].state = AQ__PAGE_USED;
	}
	p->page[first].run = n;
	p->used_pages += n;
}

/* ---- interface ---- */

bool aq__pages_init(struct aq__pages *p, uint32_t count)
{
	int saved = errno;
	void *table = mmap(NULL, (size_t)count * sizeof(*p->page), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	errno = saved;
	if (table == MAP_FAILED)
		return false;
	*p = (struct aq__pages){.page = table, .count = count, .empty = AQ__NO_PAGE};
	memset(p->bins, 0xff, sizeof(p->bins));
	run_insert(p, 0, count, AQ__PAGE_BARE);
	return true;
}

void aq__pages_finish(struct aq__pages *p)
{
	int saved = errno;

	if (p->page)
		munmap(p->page, (size_t)p->count * sizeof(*p->page));
	p->page = NULL;
	errno = saved;
}

uint32_t aq__pages_take(struct aq__pages *p, uint32_t n)
{
	uint32_t run = run_find(p, AQ__PAGE_HOLE, n);

	if (run == AQ__NO_PAGE)
		return run;
	run_carve(p, run, run, n, AQ__PAGE_USED);
	p->hole_pages -= n;
	chunk_count(p, run, n, true);
	allocation(p, run, n);
	return run;
}

void aq__pages_give(struct aq__pages *p, uint32_t head)
{
	uint32_t n = p->page[head].run;

	chunk_count(p, head, n, false);
	p->used_pages -= n;
	p->hole_pages += n;
	run_free(p, head, n, AQ__PAGE_HOLE);
}

uint32_t aq__pages_take_bare(struct aq__pages *p, uint32_t n)
{
	uint32_t run = run_find(p, AQ__PAGE_BARE, n);

	if (run != AQ__NO_PAGE)
		run_carve(p, run, run, n, AQ__PAGE_BUSY);
	return run;
}

void aq__pages_chunk_made(struct aq__pages *p, uint32_t first, uint32_t n, uint64_t handle,
			  uint32_t use)
{
	struct aq__page_info *c = &p->page[first];

	for (uint32_t i = first; i < first + n; i++)
		p->page[i].chunk = first;
	c->handle = handle;
	c->chunk_pages = n;
	c->chunk_used = use;
	c->fixed = c->parked = false;
	c->lent = 0;
	if (!use)
		empty_insert(p, first);
	if (use)
		allocation(p, first, use);
	if (use < n) {
		p->hole_pages += n - use;
		run_free(p, first + use, n - use, AQ__PAGE_HOLE);
	}
	if (p->top < first + n)
		p->top = first + n;
}

void aq__pages_bare(struct aq__pages *p, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		p->page[i].state = AQ__PAGE_BARE;
	p->page[first].chunk_pages = 0;
	run_free(p, first, n, AQ__PAGE_BARE);
}

uint32_t aq__pages_take_empty(struct aq__pages *p)
{
	uint32_t chunk = p->empty, n, run;

	if (chunk == AQ__NO_PAGE)
		return chunk;
	n = p->page[chunk].chunk_pages;
	empty_remove(p, chunk);
	/* The hole that it is in begins in it or in a neighbour: only its ends know its length. */
	run = chunk;
	while (run && p->page[run - 1].state == AQ__PAGE_HOLE)
		run--;
	run_carve(p, run, chunk, n, AQ__PAGE_BUSY);
	p->hole_pages -= n;
	return chunk;
}

void aq__pages_keep_empty(struct aq__pages *p, uint32_t first)
{
	uint32_t n = p->page[first].chunk_pages;

	p->hole_pages += n;
	empty_insert(p, first);
	run_free(p, first, n, AQ__PAGE_HOLE);
}

uint32_t aq__pages_chunk_from(const struct aq__pages *p, uint32_t at)
{
	while (at < p->top) {
		const struct aq__page_info *i = &p->page[at];

		if (i->state == AQ__PAGE_HOLE || i->state == AQ__PAGE_USED)
			return i->chunk >= at ? i->chunk : at;
		at += i->state == AQ__PAGE_BARE && i->run ? i->run : 1;
	}
	return AQ__NO_PAGE;
}
