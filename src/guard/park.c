/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries the bytes of an arena to host memory and back. Whoever calls has held off every call that
 * could use or change the memory, and waited for what was in flight.
 *
 * Nothing is lost on the way: on the device nothing is unmapped before all of it is in host memory
 * and the copies are known to have succeeded; in host memory nothing is given up before all of it
 * is on the device again. A failure in between undoes what was begun.
 *
 * The bytes lie in mappings of our own that are registered with the driver, so that they outlive
 * the context in which they are copied; the registration may not, and then the copy is slower. The
 * mappings are kept for a while for the next time, for to pin memory takes longer than to copy it;
 * the page says how much that is.
 */
#include "guard/movable.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "abi/grant.h"
#include "guard/guest.h"

#define PAGE AQ__PAGE_BYTES
#define PAGE_GRAINS ((uint32_t)(PAGE / AQ_GRAIN_BYTES))

/* One mapping, and the largest copy. Source: a copy of 32 MiB takes about 600 us at 55 GB/s, a
 * hundred times what it takes to submit it. */
#define HOST_PAGES 16u
#define HOST_BYTES (HOST_PAGES * PAGE)
#define MAX_HOSTS 16384u /* mappings: 512 GiB, more than any device has */
#define STREAMS 2u
/* Neighbouring chunks get access in one call: few before the first copy begins, which waits for
 * them, then more. Source: the call takes 36 us for 2 MiB (A100), and a copy of 256 MiB 5 ms. */
#define GROUP_FIRST_PAGES 16u
#define GROUP_PAGES 128u

struct host {
	void *bytes;
	CUcontext ctx; /* that it was registered in */
};

/* By the moving thread alone: [MAX_HOSTS] each, filled from the front without gaps. */
static struct host *hosts[AQ_MAX_DEVICES];
static uint32_t n_hosts[AQ_MAX_DEVICES]; /* atomic: others read how many */

struct carrier {
	struct aq__arena *a;
	CUcontext ctx;
	CUstream stream[STREAMS];
	unsigned int turn; /* of the streams */
	bool out;	   /* to the host */
};

/* ---- host memory ---- */

static struct host *table_of(int index)
{
	int saved = errno;
	void *table;

	if (hosts[index])
		return hosts[index];
	table = mmap(NULL, MAX_HOSTS * sizeof(struct host), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	errno = saved;
	if (table != MAP_FAILED)
		hosts[index] = table;
	return hosts[index];
}

static void count_hosts(int index, uint32_t n)
{
	__atomic_store_n(&n_hosts[index], n, __ATOMIC_RELAXED);
}

uint64_t aq__park_pinned(int index)
{
	return __atomic_load_n(&n_hosts[index], __ATOMIC_RELAXED) * HOST_BYTES;
}

uint64_t aq__park_steps(uint64_t bytes)
{
	return bytes > UINT64_MAX - HOST_BYTES
		       ? UINT64_MAX
		       : (bytes + HOST_BYTES - 1) / HOST_BYTES * HOST_BYTES;
}

static void *map_host(void)
{
	void *bytes = mmap(NULL, HOST_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (bytes == MAP_FAILED)
		return NULL;
	(void)madvise(bytes, HOST_BYTES, MADV_HUGEPAGE); /* fewer pages to pin */
	(void)madvise(bytes, HOST_BYTES, MADV_DONTFORK);
	(void)madvise(bytes, HOST_BYTES, MADV_DONTDUMP);
	return bytes;
}

/* Host memory for the pages from @page on. Return: 0; -ENOMEM. */
static int ready_host(const struct carrier *c, uint32_t page)
{
	struct host *table = table_of(c->a->index), *h;
	CUresult r;

	if (!table || page / HOST_PAGES >= MAX_HOSTS)
		return -ENOMEM;
	h = &table[page / HOST_PAGES];
	if (h->bytes && h->ctx == c->ctx)
		return 0;
	if (!h->bytes) {
		h->bytes = map_host();
		if (!h->bytes)
			return -ENOMEM;
		count_hosts(c->a->index, page / HOST_PAGES + 1);
	}
	r = AQ__CALL(cuMemHostRegister_v2, h->bytes, HOST_BYTES, CU_MEMHOSTREGISTER_PORTABLE);
	if (r != CUDA_SUCCESS && r != CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED) {
		/* What is in it may be the only copy there is: only what is new goes. */
		if (!h->ctx) {
			munmap(h->bytes, HOST_BYTES);
			h->bytes = NULL;
			count_hosts(c->a->index, page / HOST_PAGES);
			return -ENOMEM;
		}
		return 0;
	}
	h->ctx = c->ctx;
	return 0;
}

static unsigned char *host_bytes(const struct aq__arena *a, uint32_t page)
{
	unsigned char *bytes = hosts[a->index][page / HOST_PAGES].bytes;

	return bytes + page % HOST_PAGES * PAGE;
}

/* ---- copying ---- */

struct any_context {
	int index;
	CUcontext ctx;
};

static bool is_on_device(const struct aq__item *item, void *arg)
{
	struct any_context *w = arg;

	if (item->class == AQ__CONTEXT && item->index == w->index && !w->ctx)
		w->ctx = (CUcontext)(uintptr_t)item->key;
	return false;
}

/* Make a context of the device current, with streams to copy on. Return: 0; negative errno. */
static int carrier_begin(struct carrier *c, struct aq__arena *a, bool out)
{
	struct any_context w = {.index = a->index};

	*c = (struct carrier){.a = a, .out = out};
	aq__track_sweep(is_on_device, &w);
	if (!w.ctx || AQ__CALL(cuCtxPushCurrent_v2, w.ctx) != CUDA_SUCCESS)
		return -ENODEV;
	c->ctx = w.ctx;
	for (unsigned int i = 0; i < STREAMS; i++) {
		if (AQ__CALL(cuStreamCreate, &c->stream[i], CU_STREAM_NON_BLOCKING) !=
		    CUDA_SUCCESS) {
			c->stream[i] = NULL;
			return -EIO;
		}
	}
	return 0;
}

/* Wait for all copies. Return: 0; -EIO: not all succeeded. */
static int carrier_wait(struct carrier *c)
{
	int r = 0;

	for (unsigned int i = 0; i < STREAMS; i++) {
		if (c->stream[i] && AQ__CALL(cuStreamSynchronize, c->stream[i]) != CUDA_SUCCESS)
			r = -EIO;
	}
	return r;
}

static void carrier_end(struct carrier *c)
{
	CUcontext popped;

	for (unsigned int i = 0; i < STREAMS; i++) {
		if (c->stream[i])
			(void)AQ__CALL(cuStreamDestroy_v2, c->stream[i]);
	}
	if (c->ctx)
		(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
}

/* Begin to copy @n pages from @page on, which have consecutive places in host memory. */
static int copy(struct carrier *c, uint32_t page, uint32_t n)
{
	uint64_t address = aq__arena_address(c->a, page);
	void *bytes = host_bytes(c->a, c->a->pages.page[page].host);
	CUstream stream = c->stream[c->turn++ % STREAMS];
	CUresult r = c->out ? AQ__CALL(cuMemcpyDtoHAsync_v2, bytes, address, n * PAGE, stream)
			    : AQ__CALL(cuMemcpyHtoDAsync_v2, address, bytes, n * PAGE, stream);

	return r == CUDA_SUCCESS ? 0 : -EIO;
}

/* Begin to copy what is used of a chunk. */
static int copy_chunk(struct carrier *c, uint32_t first)
{
	const struct aq__page_info *page = c->a->pages.page;
	uint32_t end = first + page[first].chunk_pages;
	int r = 0;

	for (uint32_t at = first; at < end && r == 0;) {
		uint32_t n = 1;

		if (page[at].state != AQ__PAGE_USED) {
			at++;
			continue;
		}
		while (at + n < end && page[at + n].state == AQ__PAGE_USED &&
		       page[at + n].host == page[at].host + n &&
		       page[at + n].host % HOST_PAGES != 0)
			n++;
		r = copy(c, at, n);
		at += n;
	}
	return r;
}

/* ---- going ---- */

/* Give each used page of a chunk a place in host memory, from *@next on. */
static int place_chunk(const struct carrier *c, uint32_t first, uint32_t *next)
{
	struct aq__page_info *page = c->a->pages.page;

	for (uint32_t at = first; at < first + page[first].chunk_pages; at++) {
		if (page[at].state != AQ__PAGE_USED)
			continue;
		if (*next % HOST_PAGES == 0 && ready_host(c, *next) < 0)
			return -ENOMEM;
		page[at].host = (*next)++;
	}
	return 0;
}

static bool goes(const struct aq__page_info *chunk)
{
	return !chunk->fixed && !chunk->parked;
}

static uint32_t next_chunk(const struct aq__arena *a, uint32_t at, bool parked)
{
	while ((at = aq__pages_chunk_from(&a->pages, at)) != AQ__NO_PAGE) {
		const struct aq__page_info *c = &a->pages.page[at];

		if (parked ? c->parked : goes(c))
			break;
		at += c->chunk_pages;
	}
	return at;
}

/* Copy all that goes. Return: 0: it is in host memory; negative errno. */
static int copy_out(struct carrier *c, uint64_t limit_bytes)
{
	const struct aq__page_info *page = c->a->pages.page;
	uint32_t next = 0, at;
	int r = 0, waited;

	for (at = next_chunk(c->a, 0, false); at != AQ__NO_PAGE && r == 0;
	     at = next_chunk(c->a, at + page[at].chunk_pages, false)) {
		if ((next + page[at].chunk_used) * PAGE > limit_bytes)
			r = -ENOMEM;
		if (r == 0)
			r = place_chunk(c, at, &next);
		if (r == 0)
			r = copy_chunk(c, at);
	}
	waited = carrier_wait(c);
	return r < 0 ? r : waited;
}

/* A chunk that is in host memory leaves the device. */
static int leave(struct aq__arena *a, uint32_t first)
{
	struct aq__page_info *c = &a->pages.page[first];

	if (aq__chunk_unmap(a, first, c->chunk_pages, c->handle) != CUDA_SUCCESS)
		return -EIO;
	aq__lock(&a->lock);
	c->parked = true;
	c->handle = 0;
	a->parked += c->chunk_pages * PAGE;
	aq__unlock(&a->lock);
	aq__release(a->index, c->chunk_pages * PAGE_GRAINS);
	return 0;
}

int aq__park(struct aq__arena *a, uint64_t limit_bytes)
{
	struct carrier c;
	int r;

	if (a->parked)
		return 0;
	(void)aq__movable_drop(a, 0);
	r = carrier_begin(&c, a, true);
	if (r == 0)
		r = copy_out(&c, limit_bytes);
	for (uint32_t at = 0; r == 0 && (at = next_chunk(a, at, false)) != AQ__NO_PAGE;
	     at += a->pages.page[at].chunk_pages)
		r = leave(a, at);
	carrier_end(&c);
	if (r < 0 && a->parked)
		(void)aq__unpark(a);
	aq__movable_tell(a);
	return r;
}

/* ---- coming ---- */

/* Map neighbouring parked chunks from @first on, up to about @most pages. @ret_end: behind the last
 * one that was mapped. */
static int map_group(struct aq__arena *a, uint32_t first, uint32_t most, uint32_t *ret_end)
{
	struct aq__page_info *page = a->pages.page;
	uint32_t at = first;

	*ret_end = first;
	do {
		uint64_t handle;
		CUresult r = aq__chunk_map(a, at, page[at].chunk_pages, &handle);

		if (r != CUDA_SUCCESS)
			return r == CUDA_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO;
		page[at].handle = handle;
		at += page[at].chunk_pages;
		*ret_end = at;
	} while (at - first < most && next_chunk(a, at, true) == at);
	return aq__chunk_access(a, first, at - first) == CUDA_SUCCESS ? 0 : -EIO;
}

/* Map all that is parked and begin to copy. @ret_end: behind the last chunk that has memory. */
static int come_back(struct carrier *c, uint32_t *ret_end)
{
	uint32_t at = 0, most = GROUP_FIRST_PAGES;
	struct aq__arena *a = c->a;
	int r = 0;

	*ret_end = 0;
	while (r == 0 && (at = next_chunk(a, at, true)) != AQ__NO_PAGE) {
		uint32_t end;

		r = map_group(a, at, most, &end);
		if (most < GROUP_PAGES)
			most *= 2;
		if (end > at)
			*ret_end = end;
		for (; r == 0 && at < end; at += a->pages.page[at].chunk_pages)
			r = copy_chunk(c, at);
	}
	return r;
}

/* Back to where it was: no parked chunk below @end has memory. */
static void give_up(struct aq__arena *a, uint32_t end)
{
	struct aq__page_info *page = a->pages.page;

	for (uint32_t at = 0; (at = next_chunk(a, at, true)) != AQ__NO_PAGE && at < end;
	     at += page[at].chunk_pages) {
		(void)aq__chunk_unmap(a, at, page[at].chunk_pages, page[at].handle);
		page[at].handle = 0;
	}
}

static void arrived(struct aq__arena *a)
{
	aq__lock(&a->lock);
	for (uint32_t at = 0; (at = next_chunk(a, at, true)) != AQ__NO_PAGE;
	     at += a->pages.page[at].chunk_pages)
		a->pages.page[at].parked = false;
	a->parked = 0;
	aq__unlock(&a->lock);
}

#define SYNC_AT_A_TIME 64u

struct synced {
	int index;
	uint32_t skip, seen, n; /* the first `skip` were dealt with */
	CUdeviceptr ptr[SYNC_AT_A_TIME];
};

static bool is_synced(const struct aq__item *item, void *arg)
{
	struct synced *s = arg;

	if (item->class == AQ__POINTER && item->kind == AQ__MOVABLE_SYNC &&
	    item->index == s->index && s->seen++ >= s->skip && s->n < SYNC_AT_A_TIME)
		s->ptr[s->n++] = item->key;
	return false;
}

/* An attribute of the memory that went with its mapping. The table does not change meanwhile. */
static void sync_again(const struct aq__arena *a)
{
	struct synced s = {.index = a->index};
	unsigned int yes = 1;

	do {
		s.skip += s.n;
		s.seen = s.n = 0;
		aq__track_sweep(is_synced, &s);
		for (uint32_t i = 0; i < s.n; i++)
			(void)AQ__CALL(cuPointerSetAttribute, &yes,
				       CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, s.ptr[i]);
	} while (s.n == SYNC_AT_A_TIME);
}

int aq__unpark(struct aq__arena *a)
{
	uint64_t bytes = a->parked;
	uint32_t grains, end = 0;
	struct carrier c;
	int r, waited;

	if (!bytes)
		return 0;
	if (!aq_grains(bytes, &grains) || !aq__reserve_now(a->index, grains))
		return -ENOMEM;
	r = carrier_begin(&c, a, false);
	if (r == 0) {
		r = come_back(&c, &end);
		waited = carrier_wait(&c);
		r = r < 0 ? r : waited;
	}
	if (r == 0) {
		arrived(a);
		sync_again(a);
	} else {
		give_up(a, end);
		aq__release(a->index, grains);
	}
	carrier_end(&c);
	aq__movable_tell(a);
	return r;
}

/* Give a mapping back to the host. Return: whether the driver lets it go. */
static bool drop_host(struct host *h)
{
	CUresult r = AQ__CALL(cuMemHostUnregister, h->bytes);

	if (r != CUDA_SUCCESS && r != CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED)
		return false;
	munmap(h->bytes, HOST_BYTES);
	*h = (struct host){.bytes = NULL};
	return true;
}

void aq__park_forget(struct aq__arena *a)
{
	struct any_context w = {.index = a->index};
	struct host *table = hosts[a->index];
	uint32_t n = n_hosts[a->index];
	CUcontext popped;

	if (!table || a->parked)
		return;
	aq__track_sweep(is_on_device, &w);
	if (!w.ctx || AQ__CALL(cuCtxPushCurrent_v2, w.ctx) != CUDA_SUCCESS)
		return;
	while (n && drop_host(&table[n - 1]))
		count_hosts(a->index, --n);
	(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
	aq__movable_tell(a);
}

/* The mappings are not in the child at all (MADV_DONTFORK). */
void aq__park_forked(void)
{
	memset(hosts, 0, sizeof(hosts));
	memset(n_hosts, 0, sizeof(n_hosts));
}
