/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical memory that is made apart from addresses (cuMemCreate). It lives until its last handle
 * is released *and* its last mapping is gone, so that is when the charge ends. It is charged on the
 * device that its properties name, whichever context is current.
 *
 * Handles are the driver's numbers and come back; so the memory itself is an *object* with a number
 * of ours, counting its handles and its mappings. The lock is of the counting alone.
 *
 * Not charged: memory in the host, multicast objects, and what was imported (the exporter pays).
 * Memory that was exported can outlive its last handle and mapping here, for as long as somebody
 * holds the descriptor: that is left to the daemon's measuring.
 *
 * When we fail: CUDA_ERROR_OUT_OF_MEMORY, the call undone. A handle or address that we do not know
 * is the driver's, untouched.
 */
#include <string.h>

#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/ranges.h"
#include "guard/share.h"
#include "guard/track.h"
#include "guard/guest.h"

static struct aq__lock lock; /* of objects, handles and `maps`; never held across the driver */
static struct aq__ranges maps;
static uint64_t last_object;
static uint32_t pins; /* atomic: entries of class AQ__PIN */

/* ---- objects; lock held ---- */

static bool object_put(uint64_t object, int index, uint32_t grains, uint32_t refs)
{
	struct aq__item old;
	struct aq__item item = {
		.key = object,
		.class = AQ__OBJECT,
		.index = (int16_t)index,
		.grains = grains,
		.refs = refs,
	};

	return aq__track_put(&item, &old);
}

static bool object_ref(uint64_t object)
{
	struct aq__item item;

	return aq__track_get(AQ__OBJECT, object, &item) &&
	       object_put(object, item.index, item.grains, item.refs + 1);
}

static void object_unref(uint64_t object)
{
	struct aq__item item;

	if (!aq__track_take(AQ__OBJECT, object, &item))
		return;
	if (item.refs > 1)
		(void)object_put(object, item.index, item.grains, item.refs - 1);
	else
		aq__release(item.index, item.grains);
}

/* One handle more of the object under the number @handle. */
static bool handle_add(CUmemGenericAllocationHandle handle, uint64_t object)
{
	struct aq__item old;
	struct aq__item item = {.key = handle, .class = AQ__HANDLE, .link = object, .refs = 1};

	if (aq__track_get(AQ__HANDLE, handle, &old) && old.link == object)
		item.refs = old.refs + 1;
	if (!aq__track_put(&item, &old))
		return false;
	if (old.class && old.link != object) {
		while (old.refs--)
			object_unref(old.link); /* released unseen: the driver gave it out again */
	}
	return true;
}

/* One handle less. Return: the object, or 0. */
static uint64_t handle_remove(CUmemGenericAllocationHandle handle)
{
	struct aq__item item, old;

	if (!handle || !aq__track_take(AQ__HANDLE, handle, &item))
		return 0;
	if (--item.refs)
		(void)aq__track_put(&item, &old);
	return item.link;
}

/* A new object with its first handle. */
static bool object_new(CUmemGenericAllocationHandle handle, int index, uint32_t grains)
{
	uint64_t object;
	bool ok;

	aq__lock(&lock);
	object = ++last_object;
	ok = object_put(object, index, grains, 1) && handle_add(handle, object);
	if (!ok) {
		struct aq__item item;

		(void)aq__track_take(AQ__OBJECT, object, &item);
	}
	aq__unlock(&lock);
	return ok;
}

/* Mapped by us for memory of cuMemAlloc() or of an IPC handle, which none of these calls knows. */
static bool is_ours(uint64_t address)
{
	return aq__arena_of(address) || aq__import_at(address);
}

/* ---- making and importing ---- */

/* CHARGE. */
CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	int index = AQ__UNBOUND;
	uint32_t grains;
	CUresult r;

	if (handle && prop && prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE)
		index = aq__device_index(prop->location.id);
	r = aq__reserve(index, size, "cuMemCreate", &grains);
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemCreate, handle, size, prop, flags);
	if (r == CUDA_SUCCESS && (index < 0 || object_new(*handle, index, grains)))
		return r;
	if (r == CUDA_SUCCESS) {
		(void)AQ__CALL(cuMemRelease, *handle);
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	aq__release(index, grains);
	return r;
}

/* CHARGE, to the exporter: an object of no size here. */
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *os_handle,
					CUmemAllocationHandleType type)
{
	CUresult r = AQ__CALL(cuMemImportFromShareableHandle, handle, os_handle, type);

	if (r == CUDA_SUCCESS && aq__page_get() && !object_new(*handle, AQ__UNBOUND, 0)) {
		(void)AQ__CALL(cuMemRelease, *handle);
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	return r;
}

/* WATCH: from now on it may live longer than we can see. */
CUresult cuMemExportToShareableHandle(void *os_handle, CUmemGenericAllocationHandle handle,
				      CUmemAllocationHandleType type, unsigned long long flags)
{
	CUresult r = AQ__CALL(cuMemExportToShareableHandle, os_handle, handle, type, flags);
	struct aq__item item, object;

	if (r != CUDA_SUCCESS)
		return r;
	aq__lock(&lock);
	if (aq__track_get(AQ__HANDLE, handle, &item) &&
	    aq__track_get(AQ__OBJECT, item.link, &object))
		aq__unmeasured(object.index);
	aq__unlock(&lock);
	return r;
}

/* CHARGE: takes what no call shows. */
CUresult cuMulticastCreate(CUmemGenericAllocationHandle *handle, const CUmulticastObjectProp *prop)
{
	CUresult r = AQ__CALL(cuMulticastCreate, handle, prop);
	struct aq__place p;

	if (r == CUDA_SUCCESS) {
		aq__place_here(&p);
		aq__unmeasured(p.index);
	}
	return r;
}

/* ---- handles ---- */

/* RELEASE: of one handle. */
CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	uint64_t object;
	CUresult r;

	aq__lock(&lock);
	object = handle_remove(handle);
	aq__unlock(&lock);
	r = AQ__CALL(cuMemRelease, handle);
	if (!object)
		return r;
	aq__lock(&lock);
	if (r == CUDA_SUCCESS)
		object_unref(object);
	else
		(void)handle_add(handle, object);
	aq__unlock(&lock);
	return r;
}

/* WATCH: a handle more, perhaps of a new number. */
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	struct aq__range range;
	CUresult r;

	if (is_ours((uintptr_t)address))
		return CUDA_ERROR_INVALID_VALUE;
	r = AQ__CALL(cuMemRetainAllocationHandle, handle, address);
	if (r != CUDA_SUCCESS)
		return r;
	aq__lock(&lock);
	if (aq__ranges_find(&maps, (uintptr_t)address, &range) && object_ref(range.value) &&
	    !handle_add(*handle, range.value))
		object_unref(range.value);
	aq__unlock(&lock);
	return r;
}

/* ---- mappings ---- */

/* The object of a handle, with a reference more; 0 if unknown. */
static uint64_t object_of(CUmemGenericAllocationHandle handle)
{
	struct aq__item item;
	uint64_t object = 0;

	aq__lock(&lock);
	if (handle && aq__track_get(AQ__HANDLE, handle, &item) && object_ref(item.link))
		object = item.link;
	aq__unlock(&lock);
	return object;
}

/* Lock held. What is in the way of a mapping that the driver has made was unmapped unseen. */
static bool map_add(const struct aq__range *range)
{
	struct aq__range stale;

	while (aq__ranges_take(&maps, range->start, range->start + range->bytes, true, &stale))
		object_unref(stale.value);
	return aq__ranges_add(&maps, range);
}

/* WATCH: a mapping keeps the memory. */
CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
		  unsigned long long flags)
{
	struct aq__range range = {.start = ptr, .bytes = size};
	bool ok = true;
	uint64_t object;
	CUresult r;

	if (is_ours(ptr))
		return CUDA_ERROR_INVALID_VALUE;
	range.value = object = object_of(handle);
	r = AQ__CALL(cuMemMap, ptr, size, offset, handle, flags);
	if (!object)
		return r;
	aq__lock(&lock);
	if (r == CUDA_SUCCESS)
		ok = map_add(&range);
	else
		object_unref(object);
	aq__unlock(&lock);
	if (ok)
		return r;
	(void)AQ__CALL(cuMemUnmap, ptr, size);
	aq__lock(&lock);
	object_unref(object);
	aq__unlock(&lock);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/*
 * WATCH. The mappings leave the set before the driver's call, for their addresses may be mapped
 * again by another thread as soon as it is done; they are counted until it is.
 */
CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	struct aq__ranges taken = {.root = NULL};
	struct aq__range range;
	uint64_t end;
	CUresult r;

	if (is_ours(ptr))
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_add_overflow(ptr, (uint64_t)size, &end))
		end = UINT64_MAX;
	aq__lock(&lock);
	while (aq__ranges_take(&maps, ptr, end, false, &range))
		(void)aq__ranges_add(&taken, &range);
	aq__unlock(&lock);

	r = AQ__CALL(cuMemUnmap, ptr, size);
	aq__lock(&lock);
	while (aq__ranges_take(&taken, ptr, end, false, &range)) {
		if (r == CUDA_SUCCESS)
			object_unref(range.value);
		else
			(void)map_add(&range);
	}
	aq__unlock(&lock);
	return r;
}

/* WATCH. */
CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	return is_ours(ptr) ? CUDA_ERROR_INVALID_VALUE
			    : AQ__CALL(cuMemSetAccess, ptr, size, desc, count);
}

/* WATCH. */
CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr)
{
	return is_ours(ptr) ? CUDA_ERROR_INVALID_VALUE
			    : AQ__CALL(cuMemGetAccess, flags, location, ptr);
}

/* ---- sparse arrays: memory that is mapped into them ---- */

/*
 * Lock held. Memory mapped into an array is kept until the array is destroyed: unmapping single
 * tiles is not followed, so it may be charged for longer than it is held, never for less.
 */
static void pin(uint64_t object, uint64_t array)
{
	struct aq__item old;
	struct aq__item item = {.key = object, .class = AQ__PIN, .link = array};

	if (aq__track_get(AQ__PIN, object, &old)) {
		if (old.link != array)
			item.link = 0; /* in several: to the end of the process */
		(void)aq__track_put(&item, &old);
		return;
	}
	if (object_ref(object)) {
		if (aq__track_put(&item, &old))
			__atomic_fetch_add(&pins, 1, __ATOMIC_RELAXED);
		else
			object_unref(object);
	}
}

static void pin_all(const CUarrayMapInfo *maps_made, unsigned int count)
{
	aq__lock(&lock);
	for (unsigned int i = 0; i < count; i++) {
		const CUarrayMapInfo *m = &maps_made[i];
		uint64_t array = m->resourceType == CU_RESOURCE_TYPE_ARRAY
					 ? (uintptr_t)m->resource.array
					 : (uintptr_t)m->resource.mipmap;
		struct aq__item item;

		if (m->memOperationType == CU_MEM_OPERATION_TYPE_MAP && m->memHandle.memHandle &&
		    aq__track_get(AQ__HANDLE, m->memHandle.memHandle, &item))
			pin(item.link, array);
	}
	aq__unlock(&lock);
}

/* WATCH. */
CUresult cuMemMapArrayAsync(CUarrayMapInfo *infos, unsigned int count, CUstream stream)
{
	CUresult r = AQ__CALL(cuMemMapArrayAsync, infos, count, stream);

	if (r == CUDA_SUCCESS && aq__page_get())
		pin_all(infos, count);
	return r;
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo *infos, unsigned int count, CUstream stream)
{
	CUresult r = AQ__CALL(cuMemMapArrayAsync_ptsz, infos, count, stream);

	if (r == CUDA_SUCCESS && aq__page_get())
		pin_all(infos, count);
	return r;
}

struct pinned_in {
	uint64_t array;
	uint64_t object; /* the first one found */
};

static bool first_pinned_in(const struct aq__item *item, void *arg)
{
	struct pinned_in *p = arg;

	if (p->object || item->class != AQ__PIN || item->link != p->array)
		return false;
	p->object = item->key;
	return true;
}

void aq__vmm_array_gone(uint64_t array)
{
	struct pinned_in p = {.array = array};

	while (__atomic_load_n(&pins, __ATOMIC_RELAXED)) {
		p.object = 0;
		aq__lock(&lock);
		aq__track_sweep(first_pinned_in, &p);
		if (p.object) {
			__atomic_fetch_sub(&pins, 1, __ATOMIC_RELAXED);
			object_unref(p.object);
		}
		aq__unlock(&lock);
		if (!p.object)
			break;
	}
}

void aq__vmm_forked(void)
{
	aq__lock_reset(&lock);
	memset(&maps, 0, sizeof(maps));
	aq__ranges_forked();
	pins = 0;
}
