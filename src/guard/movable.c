/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations in arenas. What the driver is asked for is chunks: of the size of the allocation, or
 * of several like it when a hundredth of what is in use allows for that. A chunk that nothing is in
 * any more is kept for a while, so that a program that frees and allocates in turns does not wait
 * for the driver each time; it is given back before anybody is refused memory.
 *
 * When we fail: no room is CUDA_ERROR_OUT_OF_MEMORY with nothing taken. Where a device cannot map
 * memory, or addresses run out, CUDA_ERROR_NOT_SUPPORTED sends the caller to the driver's own
 * allocator: that memory does not move, and that is all.
 */
#include "guard/movable.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "abi/grant.h"
#include "base/timing.h"
#include "guard/calls.h"
#include "guard/gate.h"
#include "guard/share.h"
#include "guard/space.h"
#include "guard/guest.h"

#define PAGE AQ__PAGE_BYTES
#define PAGE_GRAINS ((uint32_t)(PAGE / AQ_GRAIN_BYTES))

/* Up to here allocations share pages, as they do in the driver. Source: see SMALL_BYTES in
 * sim/memory.c; the border is a guess. */
#define SMALL_BYTES (1ull << 20)

/* A chunk is made for several allocations while what that leaves unused is below this part of what
 * is in use, and no larger than this. Source: a fresh handle costs about 200 us whatever its size
 * (A100, uvm and RM calls); 1/64 is half of the 3 % that packing may cost. */
#define SPARE_PART 64u
#define SPARE_CHUNK_PAGES 16u

/* Empty chunks that are kept: this part of the limit, at most this much. Guess. */
#define KEEP_PART 64u
#define KEEP_MAX_BYTES (256ull << 20)

/* Addresses of an arena, in sizes of its device: holes in them cost nothing. Guess. */
#define ADDRESS_FACTOR 2u
#define ADDRESS_MIN_BYTES (1ull << 30)

enum { UNTRIED, MAKING, READY, NONE };

static struct aq__arena arenas[AQ_MAX_DEVICES]; /* by page index */
static uint32_t made[AQ_MAX_DEVICES];		/* atomic: the above */
static uint32_t n_made;				/* atomic: no arena is READY from this index on */
static uint32_t last_buffer;			/* atomic: number of the newest allocation */
static bool on;					/* written by cuInit() */

void aq__movable_decide(void)
{
	const char *told = secure_getenv("ALIQUOT_MOVE");
	bool wanted = AQ__MOVABLE_DEFAULT;

	if (told && (!strcmp(told, "0") || !strcmp(told, "1")))
		wanted = told[0] == '1';
	on = aq__calls_follow(wanted && AQ__REAL(cuMemCreate) && AQ__REAL(cuMemAddressReserve));
}

bool aq__movable_on(void)
{
	return on;
}

/* ---- arenas ---- */

static int attribute(CUdevice dev, CUdevice_attribute attr)
{
	int value = 0;

	return AQ__CALL(cuDeviceGetAttribute, &value, attr, dev) == CUDA_SUCCESS ? value : 0;
}

static CUmemAllocationProp prop_of(const struct aq__arena *a)
{
	CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = a->dev},
	};

	if (a->exportable)
		prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	prop.allocFlags.gpuDirectRDMACapable = a->rdma;
	return prop;
}

/* Do chunks come in pages of ours? */
static bool granular(const struct aq__arena *a)
{
	CUmemAllocationProp prop = prop_of(a);
	size_t step = 0;

	return AQ__CALL(cuMemGetAllocationGranularity, &step, &prop,
			CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS &&
	       step && PAGE % step == 0;
}

static bool reserve_addresses(struct aq__arena *a)
{
	CUdeviceptr base = 0;
	size_t total = 0;

	if (AQ__CALL(cuDeviceTotalMem_v2, &total, a->dev) != CUDA_SUCCESS)
		return false;
	a->bytes = (uint64_t)total / PAGE * PAGE * ADDRESS_FACTOR;
	for (; a->bytes >= ADDRESS_MIN_BYTES; a->bytes = a->bytes / 2 / PAGE * PAGE) {
		if (AQ__CALL(cuMemAddressReserve, &base, a->bytes, PAGE, 0, 0) == CUDA_SUCCESS)
			break;
	}
	a->base = base;
	return base && a->bytes / PAGE < AQ__NO_PAGE;
}

static bool make(struct aq__arena *a, CUdevice dev, int index)
{
	uint32_t count;

	*a = (struct aq__arena){.dev = dev, .index = index};
	if (!attribute(dev, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED))
		return false;
	a->exportable =
		attribute(dev, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
	a->rdma = attribute(dev, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
	if (!granular(a) || !reserve_addresses(a))
		return false;
	count = (uint32_t)(a->bytes / PAGE);
	if (aq__pages_init(&a->pages, count) && aq__small_init(&a->small, count))
		return true;
	aq__pages_finish(&a->pages);
	(void)AQ__CALL(cuMemAddressFree, a->base, a->bytes);
	return false;
}

struct aq__arena *aq__arena_at(int index)
{
	return index >= 0 && __atomic_load_n(&made[index], __ATOMIC_ACQUIRE) == READY
		       ? &arenas[index]
		       : NULL;
}

/* The arena of a device; the first one who wants it makes it. */
static struct aq__arena *arena(CUdevice dev, int index)
{
	uint32_t was = UNTRIED, seen;

	if (index < 0 || dev < 0 || dev >= 32)
		return NULL;
	if (__atomic_compare_exchange_n(&made[index], &was, MAKING, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE)) {
		bool ok = make(&arenas[index], dev, index);

		seen = __atomic_load_n(&n_made, __ATOMIC_RELAXED);
		while (ok && seen < (uint32_t)index + 1 &&
		       !__atomic_compare_exchange_n(&n_made, &seen, (uint32_t)index + 1, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			;
		__atomic_store_n(&made[index], ok ? READY : NONE, __ATOMIC_RELEASE);
		if (ok)
			(void)aq__move_watch(); /* without it nothing moves, and that is all */
	}
	while (__atomic_load_n(&made[index], __ATOMIC_ACQUIRE) == MAKING)
		sched_yield(); /* some microseconds, once */
	return aq__arena_at(index);
}

struct aq__arena *aq__arena_of(uint64_t address)
{
	uint32_t n = __atomic_load_n(&n_made, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < n; i++) {
		struct aq__arena *a = aq__arena_at((int)i);

		if (a && address - a->base < a->bytes)
			return a;
	}
	return NULL;
}

void aq__movable_tell(struct aq__arena *a)
{
	struct aq_page *page = aq__page_get();
	struct aq_page_device *d;
	uint64_t bytes;

	if (!page)
		return;
	d = &page->device[a->index];
	aq__lock(&a->lock);
	bytes = (a->pages.used_pages + a->pages.hole_pages - a->pages.fixed_pages) * PAGE;
	__atomic_store_n((uint64_t *)&d->movable_bytes, bytes - a->parked, __ATOMIC_RELEASE);
	__atomic_store_n((uint64_t *)&d->parked_bytes, a->parked, __ATOMIC_RELEASE);
	__atomic_store_n((uint64_t *)&d->pinned_bytes, aq__park_pinned(a->index), __ATOMIC_RELEASE);
	aq__unlock(&a->lock);
}

/* ---- chunks ---- */

CUresult aq__chunk_map(struct aq__arena *a, uint32_t first, uint32_t n, uint64_t *ret_handle)
{
	CUmemAllocationProp prop = prop_of(a);
	CUmemGenericAllocationHandle handle;
	CUresult r = AQ__CALL(cuMemCreate, &handle, n * PAGE, &prop, 0);

	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemMap, aq__arena_address(a, first), n * PAGE, 0, handle, 0);
	if (r != CUDA_SUCCESS)
		(void)AQ__CALL(cuMemRelease, handle);
	else
		*ret_handle = handle;
	return r;
}

CUresult aq__chunk_access(struct aq__arena *a, uint32_t first, uint32_t n)
{
	uint32_t peers = __atomic_load_n(&a->peers, __ATOMIC_ACQUIRE) | 1u << a->dev;
	CUmemAccessDesc descs[32];
	size_t count = 0;

	for (int dev = 0; dev < 32; dev++) {
		if (peers >> dev & 1)
			descs[count++] = (CUmemAccessDesc){
				.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev},
				.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
			};
	}
	return AQ__CALL(cuMemSetAccess, aq__arena_address(a, first), n * PAGE, descs, count);
}

CUresult aq__chunk_unmap(struct aq__arena *a, uint32_t first, uint32_t n, uint64_t handle)
{
	CUresult r = AQ__CALL(cuMemUnmap, aq__arena_address(a, first), n * PAGE);

	if (r == CUDA_SUCCESS)
		(void)AQ__CALL(cuMemRelease, handle);
	return r;
}

/* Pages of a chunk for an allocation of @n; the lock is taken. */
static uint32_t chunk_pages(struct aq__arena *a, uint32_t n)
{
	uint32_t spare, most;

	aq__lock(&a->lock);
	spare = a->pages.used_pages / SPARE_PART;
	most = n + (spare > a->pages.hole_pages ? spare - a->pages.hole_pages : 0);
	aq__unlock(&a->lock);
	if (most > SPARE_CHUNK_PAGES)
		most = SPARE_CHUNK_PAGES;
	return most > n ? most / n * n : n;
}

/* Memory for a chunk of @pages behind addresses of its own. */
static CUresult make_chunk(struct aq__arena *a, uint32_t pages, uint32_t *ret_first,
			   uint64_t *ret_handle)
{
	CUresult r = CUDA_ERROR_NOT_SUPPORTED; /* no addresses left */
	CUstreamCaptureMode mode;

	aq__lock(&a->lock);
	*ret_first = aq__pages_take_bare(&a->pages, pages);
	aq__unlock(&a->lock);
	if (*ret_first == AQ__NO_PAGE)
		return r;
	mode = aq__relax_begin();
	r = aq__chunk_map(a, *ret_first, pages, ret_handle);
	if (r == CUDA_ERROR_OUT_OF_MEMORY && aq__movable_trim(a->index, 0))
		r = aq__chunk_map(a, *ret_first, pages, ret_handle);
	if (r == CUDA_SUCCESS) {
		r = aq__chunk_access(a, *ret_first, pages);
		if (r != CUDA_SUCCESS)
			(void)aq__chunk_unmap(a, *ret_first, pages, *ret_handle);
	}
	aq__relax_end(mode);
	if (r != CUDA_SUCCESS) {
		aq__lock(&a->lock);
		aq__pages_bare(&a->pages, *ret_first, pages);
		aq__unlock(&a->lock);
	}
	return r;
}

/* Room for a new chunk: for several allocations only where nobody has to be asked. */
static CUresult charge(struct aq__arena *a, uint32_t *pages, uint32_t n, const char *api)
{
	uint32_t grains;

	if (*pages > n && aq__reserve_now(a->index, *pages * PAGE_GRAINS))
		return CUDA_SUCCESS;
	*pages = n;
	return aq__reserve_movable(a->index, n * PAGE, api, &grains);
}

/* A new chunk; @ret_head: an allocation of @n pages in it. On success memory is held. */
static CUresult grow(struct aq__arena *a, uint32_t n, const char *api, uint32_t *ret_head)
{
	uint32_t pages = chunk_pages(a, n);
	uint64_t handle;
	CUresult r = charge(a, &pages, n, api); /* may take long: nothing is held meanwhile */

	if (r != CUDA_SUCCESS)
		return r;
	aq__move_hold_resident(a->index);
	r = make_chunk(a, pages, ret_head, &handle);
	if (r != CUDA_SUCCESS) {
		aq__move_go();
		aq__release(a->index, pages * PAGE_GRAINS);
		return r;
	}
	aq__lock(&a->lock);
	aq__pages_chunk_made(&a->pages, *ret_head, pages, handle, n);
	aq__unlock(&a->lock);
	aq__movable_tell(a);
	return r;
}

static uint64_t keep_bytes(int index)
{
	struct aq_page *page = aq__page_get();
	uint64_t limit = page ? __atomic_load_n((uint64_t *)&page->device[index].limit_bytes,
						__ATOMIC_RELAXED)
			      : 0;

	return limit / KEEP_PART < KEEP_MAX_BYTES ? limit / KEEP_PART : KEEP_MAX_BYTES;
}

/* Give back one empty chunk. Return: whether there was one that could be. */
static bool drop_empty(struct aq__arena *a)
{
	struct aq__page_info *c;
	bool parked, gone = true;
	uint32_t first, n = 0;
	uint64_t handle = 0;

	aq__lock(&a->lock);
	first = aq__pages_take_empty(&a->pages);
	if (first == AQ__NO_PAGE) {
		aq__unlock(&a->lock);
		return false;
	}
	c = &a->pages.page[first];
	n = c->chunk_pages;
	handle = c->handle;
	parked = c->parked;
	aq__unlock(&a->lock);

	if (!parked) {
		CUstreamCaptureMode mode = aq__relax_begin();

		gone = aq__chunk_unmap(a, first, n, handle) == CUDA_SUCCESS;
		aq__relax_end(mode);
	}
	aq__lock(&a->lock);
	if (gone) {
		a->pages.fixed_pages -= c->fixed ? n : 0;
		__atomic_sub_fetch(&a->parked, parked ? n * PAGE : 0, __ATOMIC_SEQ_CST);
		aq__pages_bare(&a->pages, first, n);
	} else {
		aq__pages_keep_empty(&a->pages, first);
	}
	aq__unlock(&a->lock);
	if (gone && !parked)
		aq__release(a->index, n * PAGE_GRAINS);
	else if (gone)
		aq__gate_thread_kick(); /* that may have been the last */
	return gone;
}

/* Is the first empty chunk one that others may know, or that is away? Those are not kept. The lock
 * is held. */
static bool must_drop_locked(const struct aq__arena *a)
{
	return a->pages.empty != AQ__NO_PAGE &&
	       (a->pages.page[a->pages.empty].fixed || a->pages.page[a->pages.empty].parked);
}

static bool must_drop(struct aq__arena *a)
{
	bool must;

	aq__lock(&a->lock);
	must = must_drop_locked(a);
	aq__unlock(&a->lock);
	return must;
}

static uint64_t empty_bytes(struct aq__arena *a)
{
	return __atomic_load_n(&a->pages.empty_pages, __ATOMIC_RELAXED) * PAGE;
}

/* Return: whether there is a pool now and was none. */
static bool pool_changed(struct aq__arena *a)
{
	uint64_t now = empty_bytes(a) ? aq_now_ns() : 0;

	if (!now && !__atomic_load_n(&a->idle_since_ns, __ATOMIC_RELAXED))
		return false;
	return !__atomic_exchange_n(&a->idle_since_ns, now, __ATOMIC_RELAXED) && now;
}

bool aq__movable_drop(struct aq__arena *a, uint64_t keep)
{
	bool any = false;

	while ((empty_bytes(a) > keep || must_drop(a)) && drop_empty(a))
		any = true;
	(void)pool_changed(a);
	if (any)
		aq__movable_tell(a);
	return any;
}

bool aq__movable_trim(int index, uint64_t keep)
{
	struct aq__arena *a = aq__arena_at(index);
	bool any;

	if (!a)
		return false;
	if (!empty_bytes(a)) {
		__atomic_store_n(&a->idle_since_ns, 0, __ATOMIC_RELAXED);
		return false;
	}
	aq__move_hold();
	any = aq__movable_drop(a, keep);
	aq__move_go();
	return any;
}

uint64_t aq__movable_unused(int index)
{
	struct aq__arena *a = aq__arena_at(index);

	return a ? empty_bytes(a) : 0;
}

/* ---- allocations ---- */

/* The lock is held: a piece of a page for pieces. */
static bool piece(struct aq__arena *a, uint64_t bytes, uint64_t *ret_address)
{
	uint32_t grains = (uint32_t)((bytes + AQ_GRAIN_BYTES - 1) / AQ_GRAIN_BYTES), page, grain;

	if (!aq__small_take(&a->small, grains, &page, &grain))
		return false;
	*ret_address = aq__arena_address(a, page) + grain * AQ_GRAIN_BYTES;
	return true;
}

/* The lock is held: an allocation of one page becomes one for pieces. */
static void open_page(struct aq__arena *a, uint32_t page)
{
	a->pages.page[page].small = true;
	aq__small_add(&a->small, page);
}

static uint32_t pages_of(uint64_t bytes)
{
	return bytes <= SMALL_BYTES ? 1 : (uint32_t)((bytes + PAGE - 1) / PAGE);
}

/* Out of what there is. */
static bool find_room(struct aq__arena *a, uint64_t bytes, uint64_t *ret_address)
{
	bool small = bytes <= SMALL_BYTES, ok;
	uint32_t page;

	aq__lock(&a->lock);
	ok = small && piece(a, bytes, ret_address);
	if (!ok) {
		page = aq__pages_take(&a->pages, pages_of(bytes));
		ok = page != AQ__NO_PAGE;
		if (ok && small) {
			open_page(a, page);
			ok = piece(a, bytes, ret_address);
		} else if (ok) {
			*ret_address = aq__arena_address(a, page);
		}
	}
	aq__unlock(&a->lock);
	return ok;
}

/* What the allocation at @address held is free. Return: whether chunks may be empty now. @ret_must:
 * whether one must be dropped. */
static bool put_room(struct aq__arena *a, uint64_t address, bool *ret_must)
{
	uint32_t page = (uint32_t)((address - a->base) / PAGE);
	bool pages;

	aq__lock(&a->lock);
	pages = !a->pages.page[page].small ||
		aq__small_give(&a->small, page,
			       (uint32_t)((address - a->base) % PAGE / AQ_GRAIN_BYTES));
	if (pages)
		aq__pages_give(&a->pages, page);
	*ret_must = must_drop_locked(a);
	aq__unlock(&a->lock);
	return pages;
}

/* Room for @bytes. On success memory is held. */
static CUresult take_room(struct aq__arena *a, uint64_t bytes, const char *api,
			  uint64_t *ret_address)
{
	uint32_t page;
	CUresult r;

	aq__move_hold_resident(a->index);
	if (find_room(a, bytes, ret_address))
		return CUDA_SUCCESS;
	aq__move_go();
	r = grow(a, pages_of(bytes), api, &page);
	if (r != CUDA_SUCCESS)
		return r;
	*ret_address = aq__arena_address(a, page);
	if (bytes <= SMALL_BYTES) {
		aq__lock(&a->lock);
		open_page(a, page);
		(void)piece(a, bytes, ret_address);
		aq__unlock(&a->lock);
	}
	return r;
}

/*
 * Would the driver allocate at all? It refuses without a context, in one that has failed, and while
 * streams are captured in a mode that forbids it. It is asked for nothing, which it refuses last.
 */
static CUresult ask(void)
{
	CUdeviceptr ptr = 0;
	CUresult r = AQ__CALL(cuMemAlloc_v2, &ptr, 0);

	if (r == CUDA_SUCCESS && ptr)
		(void)AQ__CALL(cuMemFree_v2, ptr);
	return r == CUDA_ERROR_INVALID_VALUE ? CUDA_SUCCESS : r;
}

static CUresult enter(const struct aq__place *place, uint64_t bytes, uint64_t address)
{
	struct aq__item old, item = {
				     .key = address,
				     .class = AQ__POINTER,
				     .kind = AQ__MOVABLE,
				     .index = (int16_t)place->index,
				     .owner = place->owner,
				     .bytes = bytes,
				     .refs = __atomic_add_fetch(&last_buffer, 1, __ATOMIC_RELAXED),
			     };
	CUcontext ctx = NULL;

	(void)AQ__CALL(cuCtxGetCurrent, &ctx);
	item.link = (uintptr_t)ctx;
	return aq__track_put(&item, &old) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult aq__movable_alloc(const struct aq__place *place, uint64_t bytes, const char *api,
			   CUdeviceptr *ret_ptr)
{
	struct aq__arena *a = on && bytes ? arena(place->dev, place->index) : NULL;
	uint64_t address;
	CUresult r;
	bool must;

	if (!a || bytes > a->bytes)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = ask();
	if (r == CUDA_SUCCESS)
		r = take_room(a, bytes, api, &address);
	if (r != CUDA_SUCCESS)
		return r;
	r = enter(place, bytes, address);
	if (r == CUDA_SUCCESS)
		*ret_ptr = address;
	else
		(void)put_room(a, address, &must);
	aq__move_go();
	return r;
}

/* Chunks may be empty: keep some, drop the others. */
static void tend_pool(struct aq__arena *a, bool must)
{
	uint64_t keep = keep_bytes(a->index);

	if (empty_bytes(a) > keep || must)
		(void)aq__movable_drop(a, keep);
	else if (pool_changed(a))
		aq__gate_thread_kick(); /* it gives back what nobody wants for long */
}

void aq__movable_lost(const struct aq__item *item)
{
	struct aq__arena *a = aq__arena_of(item->key);
	bool must;

	if (!a)
		return;
	aq__share_freed(item->key);
	aq__move_hold();
	if (put_room(a, item->key, &must))
		tend_pool(a, must);
	aq__move_go();
}

/*
 * Wait for the current context. To synchronise it while one of its streams is captured would end
 * the capture, wherever that may be; freeing memory waits, too, and is only refused where the
 * driver refuses to free. So something is freed that takes nothing from the device.
 */
static CUresult wait_for_work(void)
{
	void *bytes;
	CUresult r;

	if (aq__capture_hold()) {
		r = AQ__CALL(cuCtxSynchronize);
		aq__capture_go();
		return r;
	}
	r = AQ__CALL(cuMemAllocHost_v2, &bytes, 1);
	return r == CUDA_SUCCESS ? AQ__CALL(cuMemFreeHost, bytes) : r;
}

/* As the driver, which lets no memory go that work in flight may use. */
static CUresult synchronise(CUcontext ctx)
{
	CUcontext here = NULL, popped;
	CUresult r;

	if (AQ__CALL(cuCtxGetCurrent, &here) == CUDA_SUCCESS && here == ctx)
		return wait_for_work();
	r = AQ__CALL(cuCtxPushCurrent_v2, ctx);
	if (r != CUDA_SUCCESS)
		return r;
	r = wait_for_work();
	(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
	return r;
}

CUresult aq__movable_free(const struct aq__item *item)
{
	CUcontext here = NULL;
	struct aq__item old;
	CUresult r = AQ__CALL(cuCtxGetCurrent, &here);

	if (r == CUDA_SUCCESS && !here)
		r = CUDA_ERROR_INVALID_CONTEXT;
	if (r == CUDA_SUCCESS)
		r = synchronise((CUcontext)(uintptr_t)item->link);
	if (r == CUDA_SUCCESS)
		aq__movable_lost(item);
	else
		(void)aq__track_put(item, &old); /* the slot that it just left is there */
	return r;
}

/* ---- asking ---- */

bool aq__movable_find(uint64_t address, struct aq__item *ret_item)
{
	struct aq__arena *a = aq__arena_of(address);
	uint64_t start = 0;
	uint32_t page;

	if (!a)
		return false;
	page = (uint32_t)((address - a->base) / PAGE);
	aq__lock(&a->lock);
	if (a->pages.page[page].state == AQ__PAGE_USED) {
		uint32_t grain = (uint32_t)((address - a->base) % PAGE / AQ_GRAIN_BYTES);

		if (!a->pages.page[page].small)
			start = aq__arena_address(a, a->pages.page[page].head);
		else if (aq__small_find(&a->small, page, grain, &grain))
			start = aq__arena_address(a, page) + grain * AQ_GRAIN_BYTES;
	}
	aq__unlock(&a->lock);
	return start && aq__track_get(AQ__POINTER, start, ret_item);
}

bool aq__movable_fix(uint64_t address)
{
	struct aq__arena *a = aq__arena_of(address);
	bool here = true;
	uint32_t head, at;

	if (!a)
		return false;
	head = (uint32_t)((address - a->base) / PAGE);
	aq__lock(&a->lock);
	head = a->pages.page[head].head;
	for (at = head; at < head + a->pages.page[head].run;) {
		struct aq__page_info *c = &a->pages.page[a->pages.page[at].chunk];

		here = here && !c->parked;
		if (!c->fixed)
			a->pages.fixed_pages += c->chunk_pages;
		c->fixed = true;
		c->lent = AQ__LENT_FOREVER; /* nobody says when it is over */
		at = (uint32_t)(c - a->pages.page) + c->chunk_pages;
	}
	aq__unlock(&a->lock);
	aq__movable_tell(a);
	return here;
}

CUresult aq__movable_peer(CUdevice dev, CUdevice from)
{
	struct aq__arena *a = on ? arena(dev, aq__device_index(dev)) : NULL;
	CUresult r = CUDA_SUCCESS;

	if (!a || from < 0 || from >= 32)
		return r;
	__atomic_fetch_or(&a->peers, 1u << from, __ATOMIC_ACQ_REL);
	aq__move_hold_resident(a->index);
	for (uint32_t at = 0; r == CUDA_SUCCESS;) {
		uint32_t chunk, n = 0;

		aq__lock(&a->lock);
		chunk = aq__pages_chunk_from(&a->pages, at);
		if (chunk != AQ__NO_PAGE)
			n = a->pages.page[chunk].chunk_pages;
		aq__unlock(&a->lock);
		if (chunk == AQ__NO_PAGE)
			break;
		r = aq__chunk_access(a, chunk, n);
		at = chunk + n;
	}
	aq__move_go();
	return r;
}

/* The tables are left to the child's death; the addresses were never the child's. */
void aq__movable_forked(void)
{
	memset(made, 0, sizeof(made));
	n_made = 0;
}
