/* SPDX-License-Identifier: Apache-2.0 */
/* Memory pools: making, ending, and what can be set. Allocating is in poolasync.c, sharing pools in
 * poolshare.c, where the memory is from in poolmem.c. */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#include "vmm.h"
#include "base/banned.h"

struct aq_list sim_pools = {&sim_pools, &sim_pools};

struct sim_pool *sim_pool_find(CUmemoryPool handle)
{
	struct sim_pool *p, *tmp;

	AQ_LIST_FOREACH (p, tmp, &sim_pools, link) {
		if (p == (struct sim_pool *)handle && !p->destroyed)
			return p;
	}
	return NULL;
}

struct sim_pool *sim_pool_new(struct sim_device *device, const CUmemPoolProps *props)
{
	struct sim_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->device = device;
	p->props = *props;
	p->reuse[0] = p->reuse[1] = p->reuse[2] =
		1; /* source: cuda.h, defaults of the attributes */
	aq_list_init(&p->segments);
	aq_list_init(&p->pending);
	aq_list_append(&sim_pools, &p->link);
	return p;
}

struct sim_pool *sim_pool_default(struct sim_device *device)
{
	const CUmemPoolProps props = {
		.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device->ordinal},
	};

	if (!device->default_pool) {
		device->default_pool = sim_pool_new(device, &props);
		if (device->default_pool)
			device->default_pool->is_default = true;
	}
	return device->default_pool;
}

CUmemAllocationHandleType sim_pool_handle_types(const struct sim_pool *pool)
{
	return pool->props.handleTypes;
}

struct sim_pool *sim_pool_current(struct sim_device *device)
{
	return device->current_pool ? device->current_pool : sim_pool_default(device);
}

static CUresult check_props(const CUmemPoolProps *props)
{
	if (!props || props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
		return props && props->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED
			       ? CUDA_ERROR_NOT_SUPPORTED
			       : CUDA_ERROR_INVALID_VALUE;
	if (props->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return props->location.type == CU_MEM_LOCATION_TYPE_INVALID
			       ? CUDA_ERROR_INVALID_VALUE
			       : CUDA_ERROR_NOT_SUPPORTED;
	if (!sim_device_get(props->location.id))
		return CUDA_ERROR_INVALID_DEVICE;
	if (props->handleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_NOT_SUPPORTED;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *pool_props)
{
	struct sim_pool *p;
	CUresult r;

	SIM_ENTER();
	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	r = check_props(pool_props);
	if (r != CUDA_SUCCESS)
		return r;
	sim_lock_process();
	p = sim_pool_new(sim_device_get(pool_props->location.id), pool_props);
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pool = (CUmemoryPool)p;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	struct sim_pool *p;

	SIM_ENTER();
	sim_lock_process();
	p = sim_pool_find(pool);
	if (p && p->is_default)
		p = NULL;
	if (p) {
		p->n_allocs++; /* keeps it until it is collected below */
		p->destroyed = true;
		if (p->device->current_pool == p)
			p->device->current_pool = NULL;
	}
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	p->n_allocs--;
	sim_unlock_process();
	sim_pool_collect(p);
	return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t min_bytes_to_keep)
{
	struct sim_pool *p;

	SIM_ENTER();
	sim_lock_process();
	p = sim_pool_find(pool);
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	sim_pool_trim(p, min_bytes_to_keep);
	return CUDA_SUCCESS;
}

static CUresult get_pool(CUmemoryPool *pool, struct sim_device *device, bool current)
{
	struct sim_pool *p;

	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	sim_lock_process();
	p = current ? sim_pool_current(device) : sim_pool_default(device);
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pool = (CUmemoryPool)p;
	return CUDA_SUCCESS;
}

static CUresult set_pool(struct sim_device *device, CUmemoryPool handle)
{
	struct sim_pool *p;

	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	sim_lock_process();
	p = sim_pool_find(handle);
	if (p && (p->device != device || p->imported))
		p = NULL;
	if (p)
		device->current_pool = p;
	sim_unlock_process();
	return p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice dev)
{
	SIM_ENTER();
	return get_pool(pool, sim_device_get(dev), false);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	SIM_ENTER();
	return get_pool(pool, sim_device_get(dev), true);
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
	SIM_ENTER();
	return set_pool(sim_device_get(dev), pool);
}

/* The forms of 13.0 name a place and a kind of memory; only pinned device memory has pools here. */
static CUresult place_of(const CUmemLocation *location, CUmemAllocationType type,
			 struct sim_device **ret_device)
{
	if (!location)
		return CUDA_ERROR_INVALID_VALUE;
	if (type != CU_MEM_ALLOCATION_TYPE_PINNED || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_NOT_SUPPORTED;
	*ret_device = sim_device_get(location->id);
	return CUDA_SUCCESS;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location,
				CUmemAllocationType type)
{
	struct sim_device *device;
	CUresult r;

	SIM_ENTER();
	r = place_of(location, type, &device);
	return r == CUDA_SUCCESS ? get_pool(pool, device, false) : r;
}

CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
	struct sim_device *device;
	CUresult r;

	SIM_ENTER();
	r = place_of(location, type, &device);
	return r == CUDA_SUCCESS ? get_pool(pool, device, true) : r;
}

CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool)
{
	struct sim_device *device;
	CUresult r;

	SIM_ENTER();
	r = place_of(location, type, &device);
	return r == CUDA_SUCCESS ? set_pool(device, pool) : r;
}

static uint64_t *counter_of(struct sim_pool *p, CUmemPool_attribute attr)
{
	switch ((int)attr) {
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		return &p->release_threshold_bytes;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
		return &p->reserved_bytes;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
		return &p->reserved_high_bytes;
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
		return &p->used_bytes;
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		return &p->used_high_bytes;
	default:
		return NULL;
	}
}

static bool is_reuse(CUmemPool_attribute attr)
{
	return attr >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
	       attr <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct sim_pool *p;

	SIM_ENTER();
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	p = sim_pool_find(pool);
	if (p && is_reuse(attr)) {
		memcpy(value, &p->reuse[attr - 1], sizeof(int));
		r = CUDA_SUCCESS;
	} else if (p && counter_of(p, attr)) {
		memcpy(value, counter_of(p, attr), sizeof(cuuint64_t));
		r = CUDA_SUCCESS;
	}
	sim_unlock_process();
	return r;
}

/* High-water marks can only be set to zero, which means to what is current. */
static CUresult set_counter(struct sim_pool *p, CUmemPool_attribute attr, uint64_t value)
{
	switch ((int)attr) {
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		p->release_threshold_bytes = value;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
		p->reserved_high_bytes = p->reserved_bytes;
		return value ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		p->used_high_bytes = p->used_bytes;
		return value ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct sim_pool *p;

	SIM_ENTER();
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	p = sim_pool_find(pool);
	if (p && is_reuse(attr)) {
		memcpy(&p->reuse[attr - 1], value, sizeof(int));
		r = CUDA_SUCCESS;
	} else if (p) {
		cuuint64_t number;

		memcpy(&number, value, sizeof(number));
		r = set_counter(p, attr, number);
	}
	sim_unlock_process();
	return r;
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t count)
{
	CUresult r = CUDA_SUCCESS;
	struct sim_pool *p;

	SIM_ENTER();
	if (!map || count == 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	p = sim_pool_find(pool);
	if (!p)
		r = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && r == CUDA_SUCCESS; i++) {
		struct sim_device *d = sim_device_get(map[i].location.id);

		if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE)
			r = CUDA_ERROR_INVALID_VALUE;
		else if (!d)
			r = CUDA_ERROR_INVALID_DEVICE;
		else if (d != p->device)
			p->peers[d->ordinal] = (uint8_t)map[i].flags;
		else if (map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
			r = CUDA_ERROR_INVALID_DEVICE; /* a device keeps access to its own pool */
	}
	sim_unlock_process();
	return r;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool mem_pool,
			    CUmemLocation *location)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct sim_device *d;
	struct sim_pool *p;

	SIM_ENTER();
	if (!flags || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	d = sim_device_get(location->id);
	if (!d)
		return CUDA_ERROR_INVALID_DEVICE;
	sim_lock_process();
	p = sim_pool_find(mem_pool);
	if (p) {
		*flags = d == p->device ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
					: (CUmemAccess_flags)p->peers[d->ordinal];
		r = CUDA_SUCCESS;
	}
	sim_unlock_process();
	return r;
}
