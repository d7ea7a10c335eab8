/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream-ordered memory and its pools. Charged by what a pool has reserved, which is what the
 * device lacks: freed memory stays in the pool until it is trimmed or, at a synchronisation, is
 * above the pool's threshold. The account itself is space.c's.
 *
 * While its stream is captured, an allocation is a node of a graph and takes nothing: graphmem.c.
 *
 * When we fail: CUDA_ERROR_OUT_OF_MEMORY with the allocation freed again in its stream. Imported
 * pools are charged to the exporter, pools in host memory to nobody.
 */
#include "guard/guard.h"
#include "guard/graphmem.h"
#include "guard/movable.h"
#include "guard/space.h"
#include "guard/track.h"
#include "guard/guest.h"

/* ---- which space a pool is ---- */

/* Enter @pool, whose memory is on the device @dev. Return: 0 when there is no room for it. */
static aq__space_id enter(CUmemoryPool pool, CUdevice dev, int index)
{
	struct aq__item old;
	struct aq__item item = {
		.key = (uintptr_t)pool,
		.class = AQ__POOL,
		.index = (int16_t)index,
		.link = aq__space_create(pool, dev, index),
	};

	if (!item.link)
		return 0;
	if (!aq__track_put(&item, &old)) {
		aq__space_leave((aq__space_id)item.link);
		aq__space_left((aq__space_id)item.link, true);
		return 0;
	}
	if (old.class && old.link) {
		/* Destroyed unseen, or entered by two threads at once: one account is enough. */
		aq__space_leave((aq__space_id)old.link);
		aq__space_left((aq__space_id)old.link, true);
	}
	return (aq__space_id)item.link;
}

static bool enter_uncharged(CUmemoryPool pool)
{
	struct aq__item old;
	struct aq__item item = {
		.key = (uintptr_t)pool,
		.class = AQ__POOL,
		.index = AQ__UNBOUND,
	};

	return aq__track_put(&item, &old);
}

struct owner {
	CUmemoryPool pool;
	CUdevice dev;
	int index;
};

static void is_default_of(CUdevice dev, int index, void *arg)
{
	struct owner *o = arg;
	CUmemoryPool pool;

	if (AQ__CALL(cuDeviceGetDefaultMemPool, &pool, dev) == CUDA_SUCCESS && pool == o->pool) {
		o->dev = dev;
		o->index = index;
	}
}

static bool in_host_memory(CUmemoryPool pool)
{
	static const CUmemLocationType types[] = {CU_MEM_LOCATION_TYPE_HOST,
						  CU_MEM_LOCATION_TYPE_HOST_NUMA};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		CUmemLocation where = {.type = types[i]};
		CUmemoryPool theirs;

		if (AQ__CALL(cuMemGetDefaultMemPool, &theirs, &where,
			     CU_MEM_ALLOCATION_TYPE_PINNED) == CUDA_SUCCESS &&
		    theirs == pool)
			return true;
	}
	return false;
}

/* The space of a pool that the program names; made if it is one that the driver made by itself. */
static bool space_of(CUmemoryPool pool, const struct aq__place *here, aq__space_id *ret_id)
{
	struct owner o = {.pool = pool, .dev = here->dev, .index = here->index};
	struct aq__item item;

	*ret_id = 0;
	if (aq__track_get(AQ__POOL, (uintptr_t)pool, &item)) {
		*ret_id = (aq__space_id)item.link;
		return true;
	}
	if (here->index == AQ__UNBOUND || !pool)
		return true;
	if (in_host_memory(pool))
		return enter_uncharged(pool);
	aq__each_device(is_default_of, &o);
	*ret_id = enter(pool, o.dev, o.index);
	return *ret_id != 0;
}

/* ---- allocating ---- */

static CUresult free_async(CUdeviceptr ptr, CUstream stream, bool per_thread)
{
	return per_thread ? AQ__CALL(cuMemFreeAsync_ptsz, ptr, stream)
			  : AQ__CALL(cuMemFreeAsync, ptr, stream);
}

static bool enter_pointer(CUdeviceptr ptr, aq__space_id id, const struct aq__place *p)
{
	struct aq__item old;
	struct aq__item item = {
		.key = ptr,
		.class = AQ__POINTER,
		.kind = AQ__STREAM_ORDERED,
		.index = (int16_t)p->index,
		.link = id,
	};

	if (!id || !ptr)
		return true;
	if (!aq__track_put(&item, &old))
		return false;
	aq__space_pointer(id, 1);
	if (old.class)
		aq__pointer_lost(&old);
	return true;
}

/* What follows the driver's call. */
static CUresult finish(CUresult r, aq__space_id id, const struct aq__space_call *c, CUdeviceptr ptr,
		       const struct aq__place *p, CUstream stream, bool per_thread, const char *api)
{
	if (r != CUDA_SUCCESS) {
		aq__space_abort(id, c);
		return r;
	}
	r = aq__space_settle(id, c, api);
	if (r == CUDA_SUCCESS && enter_pointer(ptr, id, p))
		return r;
	(void)free_async(ptr, stream, per_thread);
	(void)aq__pools_squeeze(); /* if the stream is idle, it leaves the device at once */
	aq__pools_mark_dirty();
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* CHARGE: from the pool that is current on the stream's device. */
#define HOOK_ALLOC(sym, per_thread)                                                                \
	CUresult sym(CUdeviceptr *dptr, size_t bytes, CUstream stream)                             \
	{                                                                                          \
		CUmemoryPool pool = NULL;                                                          \
		struct aq__place p;                                                                \
		aq__space_id id;                                                                   \
		struct aq__space_call c;                                                           \
		CUresult r;                                                                        \
                                                                                                   \
		if (!dptr || !aq__page_get())                                                      \
			return AQ__CALL(sym, dptr, bytes, stream);                                 \
		if (aq__capturing(stream, per_thread)) {                                           \
			aq__graphmem_seen();                                                       \
			return AQ__CALL(sym, dptr, bytes, stream);                                 \
		}                                                                                  \
		aq__place_of_stream(&p, stream, per_thread);                                       \
		if (p.index == AQ__ABSENT)                                                         \
			return CUDA_ERROR_OUT_OF_MEMORY;                                           \
		if (AQ__CALL(cuDeviceGetMemPool, &pool, p.dev) != CUDA_SUCCESS)                    \
			return AQ__CALL(sym, dptr, bytes, stream); /* no pools, or no context */   \
		if (!space_of(pool, &p, &id))                                                      \
			return CUDA_ERROR_OUT_OF_MEMORY;                                           \
		r = aq__space_begin(id, bytes, #sym, &c);                                          \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		r = AQ__CALL(sym, dptr, bytes, stream);                                            \
		return finish(r, id, &c, *dptr, &p, stream, per_thread, #sym);                     \
	}

HOOK_ALLOC(cuMemAllocAsync, false)
HOOK_ALLOC(cuMemAllocAsync_ptsz, true)

/* CHARGE: from the pool that is named, on whichever device that is. */
#define HOOK_ALLOC_FROM(sym, per_thread)                                                           \
	CUresult sym(CUdeviceptr *dptr, size_t bytes, CUmemoryPool pool, CUstream stream)          \
	{                                                                                          \
		struct aq__place p;                                                                \
		aq__space_id id;                                                                   \
		struct aq__space_call c;                                                           \
		CUresult r;                                                                        \
                                                                                                   \
		if (!dptr || !aq__page_get())                                                      \
			return AQ__CALL(sym, dptr, bytes, pool, stream);                           \
		if (aq__capturing(stream, per_thread)) {                                           \
			aq__graphmem_seen();                                                       \
			return AQ__CALL(sym, dptr, bytes, pool, stream);                           \
		}                                                                                  \
		aq__place_of_stream(&p, stream, per_thread);                                       \
		if (!space_of(pool, &p, &id))                                                      \
			return CUDA_ERROR_OUT_OF_MEMORY;                                           \
		r = aq__space_begin(id, bytes, #sym, &c);                                          \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		r = AQ__CALL(sym, dptr, bytes, pool, stream);                                      \
		return finish(r, id, &c, *dptr, &p, stream, per_thread, #sym);                     \
	}

HOOK_ALLOC_FROM(cuMemAllocFromPoolAsync, false)
HOOK_ALLOC_FROM(cuMemAllocFromPoolAsync_ptsz, true)

/* RELEASE: into the pool. In a capture it is a node, and happens when the graph is launched. */
#define HOOK_FREE(sym, per_thread)                                                                 \
	CUresult sym(CUdeviceptr dptr, CUstream stream)                                            \
	{                                                                                          \
		struct aq__item item, old;                                                         \
		bool known;                                                                        \
		CUresult r;                                                                        \
                                                                                                   \
		if (!aq__page_get() || aq__capturing(stream, per_thread))                          \
			return AQ__CALL(sym, dptr, stream);                                        \
		known = aq__track_take(AQ__POINTER, dptr, &item);                                  \
		if (known && aq__is_movable(&item))                                                \
			return aq__movable_free(&item);                                            \
		r = AQ__CALL(sym, dptr, stream);                                                   \
		if (r == CUDA_SUCCESS && known)                                                    \
			aq__pointer_lost(&item);                                                   \
		else if (r == CUDA_SUCCESS)                                                        \
			aq__pools_mark_dirty(); /* memory of a graph, perhaps */                   \
		else if (known)                                                                    \
			(void)aq__track_put(&item, &old);                                          \
		return r;                                                                          \
	}

HOOK_FREE(cuMemFreeAsync, false)
HOOK_FREE(cuMemFreeAsync_ptsz, true)

/* ---- pools ---- */

/* WATCH: where the new pool's memory will be. */
CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	CUresult r = AQ__CALL(cuMemPoolCreate, pool, props);
	bool entered;
	int index;

	if (r != CUDA_SUCCESS || !aq__page_get())
		return r;
	if (props->location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
		index = aq__device_index(props->location.id);
		entered = enter(*pool, props->location.id, index) != 0;
	} else {
		entered = enter_uncharged(*pool);
	}
	if (entered)
		return r;
	(void)AQ__CALL(cuMemPoolDestroy, *pool);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* RELEASE: what is still allocated from it stays charged until it is freed. */
CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	struct aq__item item, old;
	bool known = pool && aq__track_take(AQ__POOL, (uintptr_t)pool, &item);
	aq__space_id id = known ? (aq__space_id)item.link : 0;
	CUresult r;

	aq__synchronised();
	aq__space_leave(id);
	r = AQ__CALL(cuMemPoolDestroy, pool);
	aq__space_left(id, r == CUDA_SUCCESS);
	if (known && r != CUDA_SUCCESS)
		(void)aq__track_put(&item, &old);
	return r;
}

/* RELEASE. */
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	CUresult r = AQ__CALL(cuMemPoolTrimTo, pool, keep);

	if (r == CUDA_SUCCESS) {
		aq__pools_mark_dirty();
		aq__synchronised();
	}
	return r;
}

/* CHARGE, to the exporter: the memory is counted there, once. */
CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle,
					    CUmemAllocationHandleType type,
					    unsigned long long flags)
{
	CUresult r = AQ__CALL(cuMemPoolImportFromShareableHandle, pool, handle, type, flags);

	if (r == CUDA_SUCCESS && aq__page_get() && !enter_uncharged(*pool)) {
		(void)AQ__CALL(cuMemPoolDestroy, *pool);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return r;
}

CUresult cuMemPoolImportPointer(CUdeviceptr *ptr, CUmemoryPool pool, CUmemPoolPtrExportData *data)
{
	return AQ__CALL(cuMemPoolImportPointer, ptr, pool, data);
}
