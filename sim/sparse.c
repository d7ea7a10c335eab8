/* SPDX-License-Identifier: Apache-2.0 */
/* Tells written bytes from holes, page by page of the host, and gets memory for the former in large
 * steps; see sparse.h. Knows no addresses and no order. */
#include "sparse.h"

#include <string.h>
#include <sys/mman.h>

#include "base/banned.h"

#define PAGE ((size_t)SIM_HOST_PAGE_BYTES)
#define PAGES (SIM_FRAME_BYTES / SIM_HOST_PAGE_BYTES)

/* Smaller copies are not looked at: to ask what is there takes some microseconds. Guess. */
#define SMALL_BYTES (64u << 10)

/* Frames that this process's page tables have had; only a hint, for others may give them to the
 * host. Entries are atomic. */
static uint8_t seen[SIM_MAX_DEVICES][SIM_MAX_FRAMES];

static bool is_stale(const struct sim_spot *s)
{
	return s->device && sim_frame_is_stale(&sim.machine, s->device->index, s->frame);
}

static uint8_t *frame_bytes(const struct sim_spot *s)
{
	return s->device->bytes + s->frame * SIM_FRAME_BYTES;
}

static void clean(const struct sim_spot *s)
{
	sim_frame_clean(&sim.machine, s->device->index, s->frame, frame_bytes(s));
}

/* Nothing was ever written there. */
static bool is_bare(const struct sim_spot *s, size_t n)
{
	uint64_t offset = s->device ? (uint64_t)(s->bytes - s->device->bytes) : 0;

	return s->device &&
	       sim_memory_written(&sim.machine, s->device->index, offset) >= offset + n;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return !n || (!p[0] && memcmp(p, p + 1, n - 1) == 0);
}

/*
 * Get memory for what is about to be written in one step, and not in one fault for each page.
 * Without it (old kernels, no memory) the faults come.
 */
static void ready(const struct sim_spot *to, uint8_t *bytes, size_t n, bool bare)
{
	uint8_t *first = (uint8_t *)((uintptr_t)bytes & ~(PAGE - 1));
	uint8_t *hint;

	if (!to->device || n < SMALL_BYTES)
		return;
	hint = &seen[to->device->index][to->frame];
	if (!bare && __atomic_load_n(hint, __ATOMIC_RELAXED))
		return;
	(void)madvise(first, (size_t)(bytes - first) + n, MADV_POPULATE_WRITE);
	if (n == SIM_FRAME_BYTES)
		__atomic_store_n(hint, 1, __ATOMIC_RELAXED);
}

/* Bytes from @p on, of @n, up to the end of their page. */
static size_t page_part(const uint8_t *p, size_t n)
{
	size_t part = PAGE - (uintptr_t)p % PAGE;

	return part < n ? part : n;
}

/* Which pages of a range have bytes: all, where that cannot be said. */
static void look(uint8_t *bytes, size_t n, unsigned char *ret_there)
{
	uint8_t *first = (uint8_t *)((uintptr_t)bytes & ~(PAGE - 1));

	if (mincore(first, (size_t)(bytes - first) + n, ret_there) < 0)
		memset(ret_there, 1, PAGES);
}

/* Zeros over what is written, in a frame that is not stale or will be overwritten. */
static void wipe(const struct sim_spot *to, uint8_t *bytes, size_t n)
{
	unsigned char there[PAGES];
	size_t part, page = 0;

	if (to->device)
		look(bytes, n, there);
	for (; n; n -= part, bytes += part, page++) {
		part = page_part(bytes, n);
		/* Host memory that is not there is not made by looking at it, either. */
		if (to->device ? there[page] & 1 : !is_zero(bytes, part))
			memset(bytes, 0, part);
	}
}

void sim_sparse_clear(const struct sim_spot *to, size_t n)
{
	bool whole = to->device && n == SIM_FRAME_BYTES;

	if (is_stale(to)) {
		if (whole)
			return;
		clean(to);
	}
	if (n >= SMALL_BYTES && is_bare(to, n))
		return;
	if (whole && sim_memory_punch(&sim.machine, to->device->index, to->frame, 1))
		return;
	wipe(to, to->bytes, n);
}

/* Move what has bytes, page by page of the source, and wipe the rest. */
static void copy_pages(const struct sim_spot *to, const struct sim_spot *from, size_t n, bool bare)
{
	unsigned char there[PAGES];
	size_t at = 0, page = 0;

	if (from->device)
		look(from->bytes, n, there);
	while (at < n) {
		size_t start = at, part;
		bool empty = false, first = true;

		for (; at < n; at += part, page++, first = false) {
			bool zero;

			part = page_part(from->bytes + at, n - at);
			zero = from->device ? !(there[page] & 1) : is_zero(from->bytes + at, part);
			if (!first && zero != empty)
				break;
			empty = zero;
		}
		if (empty) {
			wipe(to, to->bytes + start, at - start);
		} else {
			ready(to, to->bytes + start, at - start, bare);
			memmove(to->bytes + start, from->bytes + start, at - start);
		}
	}
}

/* Only zeros, in host memory: as if nobody had written there. */
static bool only_zeros(const struct sim_spot *from, size_t n)
{
	size_t part;

	if (from->device)
		return false;
	for (size_t at = 0; at < n; at += part) {
		part = page_part(from->bytes + at, n - at);
		if (!is_zero(from->bytes + at, part))
			return false;
	}
	return true;
}

void sim_sparse_copy(const struct sim_spot *to, const struct sim_spot *from, size_t n)
{
	bool whole = to->device && n == SIM_FRAME_BYTES, stale, bare;

	if (is_stale(from) || (n >= SMALL_BYTES && is_bare(from, n))) {
		sim_sparse_clear(to, n);
		return;
	}
	stale = is_stale(to);
	if (stale && whole && only_zeros(from, n))
		return; /* which is what it means */
	if (stale && !whole) {
		clean(to);
		stale = false;
	}
	bare = !stale && n >= SMALL_BYTES && is_bare(to, n);
	if (n >= SMALL_BYTES && (from->device || bare || stale)) {
		copy_pages(to, from, n, bare);
	} else {
		ready(to, to->bytes, n, bare);
		memmove(to->bytes, from->bytes, n);
	}
	if (stale)
		sim_frame_overwritten(&sim.machine, to->device->index, to->frame);
}

static void fill(uint8_t *p, const uint8_t *pattern, unsigned int width, size_t bytes)
{
	size_t n = bytes < 64 ? bytes : 64;

	if (width == 1) {
		memset(p, pattern[0], bytes);
		return;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = pattern[i % 4];
	for (size_t done = n; done < bytes; done += n) {
		n = done < bytes - done ? done : bytes - done;
		memcpy(p + done, p, n);
	}
}

void sim_sparse_fill(const struct sim_spot *to, const uint8_t *pattern, unsigned int width,
		     size_t n)
{
	bool stale = is_stale(to), whole = to->device && n == SIM_FRAME_BYTES;

	if (stale && !whole)
		clean(to);
	ready(to, to->bytes, n, n >= SMALL_BYTES && is_bare(to, n));
	fill(to->bytes, pattern, width, n);
	if (stale && whole)
		sim_frame_overwritten(&sim.machine, to->device->index, to->frame);
}

void sim_sparse_open(const struct sim_spot *spot)
{
	if (is_stale(spot))
		clean(spot);
}
