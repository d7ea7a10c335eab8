/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical memory by itself: cuMemCreate, its handles, and sharing them. Addresses for it are in
 * mapping.c. Physical memory lives while its handle has references or it is mapped, here or in
 * another process, or an exported descriptor is open.
 */
#include "vmm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "va.h"
#include "base/banned.h"

/* What a handle names. Handles are index and generation, so that a stale one is recognised. */
struct handle {
	struct sim_phys *phys; /* NULL: free */
	unsigned int refs;     /* cuMemCreate, imports, cuMemRetainAllocationHandle */
	uint32_t generation;
	uint32_t next_free;
};

/* All under sim.lock. */
static struct handle *handles;
static uint32_t n_handles, handles_room, first_free = UINT32_MAX;

static CUmemGenericAllocationHandle handle_value(uint32_t index)
{
	return (uint64_t)handles[index].generation << 32 | (index + 1);
}

static struct handle *find_handle(CUmemGenericAllocationHandle value)
{
	uint32_t index = (uint32_t)value - 1;

	if ((uint32_t)value == 0 || index >= n_handles || !handles[index].phys ||
	    handles[index].generation != (uint32_t)(value >> 32))
		return NULL;
	return &handles[index];
}

static struct handle *find_handle_of(const struct sim_phys *phys)
{
	for (uint32_t i = 0; i < n_handles; i++) {
		if (handles[i].phys == phys)
			return &handles[i];
	}
	return NULL;
}

/* A handle with one reference that owns the caller's reference to @phys. 0: no memory. */
static CUmemGenericAllocationHandle add_handle(struct sim_phys *phys)
{
	uint32_t index = first_free;

	if (index != UINT32_MAX) {
		first_free = handles[index].next_free;
	} else {
		if (n_handles == handles_room) {
			uint32_t room = handles_room ? handles_room * 2 : 64;
			struct handle *more = reallocarray(handles, room, sizeof(*more));

			if (!more)
				return 0;
			handles = more;
			handles_room = room;
		}
		index = n_handles++;
		handles[index].generation = 0;
	}
	handles[index].phys = phys;
	handles[index].refs = 1;
	handles[index].generation++;
	return handle_value(index);
}

static void free_handle(struct handle *h)
{
	h->phys = NULL;
	h->next_free = first_free;
	first_free = (uint32_t)(h - handles);
}

struct sim_phys *sim_handle_phys(CUmemGenericAllocationHandle handle)
{
	struct handle *h = find_handle(handle);

	return h ? h->phys : NULL;
}

static CUresult check_prop(const CUmemAllocationProp *prop)
{
	if (!prop || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	if (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return prop->location.type == CU_MEM_LOCATION_TYPE_INVALID
			       ? CUDA_ERROR_INVALID_VALUE
			       : CUDA_ERROR_NOT_SUPPORTED; /* host memory: attribute says so */
	if (!sim_device_get(prop->location.id))
		return CUDA_ERROR_INVALID_DEVICE;
	if (prop->requestedHandleTypes & CU_MEM_HANDLE_TYPE_FABRIC)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (prop->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	struct sim_phys *phys;
	CUresult r;

	SIM_ENTER();
	if (!handle || size == 0 || size % GRANULARITY || flags)
		return CUDA_ERROR_INVALID_VALUE;
	r = check_prop(prop);
	if (r == CUDA_SUCCESS)
		r = sim_phys_create(sim_device_get(prop->location.id), size, &phys);
	if (r != CUDA_SUCCESS)
		return r;
	phys->prop = *prop;
	sim_lock_process();
	*handle = add_handle(phys);
	sim_unlock_process();
	if (*handle)
		return CUDA_SUCCESS;
	sim_phys_put(phys);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct sim_phys *phys = NULL;
	struct handle *h;

	SIM_ENTER();
	sim_lock_process();
	h = find_handle(handle);
	if (h && --h->refs == 0) {
		phys = h->phys;
		free_handle(h);
	}
	sim_unlock_process();
	if (phys)
		sim_phys_put(phys);
	return h ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr)
{
	struct handle *h;
	struct sim_alloc *a;
	CUresult r = CUDA_SUCCESS;

	SIM_ENTER();
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	a = sim_alloc_find((uint64_t)(uintptr_t)addr);
	if (!a || a->kind != SIM_MEMORY_VMM) {
		r = CUDA_ERROR_INVALID_VALUE;
	} else {
		struct sim_phys *phys = sim_mapping_phys(a);

		h = find_handle_of(phys);
		if (h) {
			h->refs++;
			*handle = handle_value((uint32_t)(h - handles));
		} else {
			*handle = add_handle(phys);
			if (*handle)
				phys->refs++;
			else
				r = CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	sim_unlock_process();
	return r;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop,
						CUmemGenericAllocationHandle handle)
{
	struct handle *h;

	SIM_ENTER();
	if (!prop)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	h = find_handle(handle);
	if (h)
		*prop = h->phys->prop;
	sim_unlock_process();
	return h ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags option)
{
	CUresult r;

	SIM_ENTER();
	if (!granularity || (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM &&
			     option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED))
		return CUDA_ERROR_INVALID_VALUE;
	r = check_prop(prop);
	if (r == CUDA_SUCCESS)
		*granularity = GRANULARITY;
	return r;
}

/*
 * Sharing.
 */

CUresult cuMemExportToShareableHandle(void *shareable_handle, CUmemGenericAllocationHandle handle,
				      CUmemAllocationHandleType type, unsigned long long flags)
{
	struct sim_phys *phys = NULL;
	struct handle *h;
	int fd;

	SIM_ENTER();
	if (!shareable_handle || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	h = find_handle(handle);
	if (h && (h->phys->prop.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)) {
		phys = h->phys;
		phys->refs++;
	}
	sim_unlock_process();
	if (!phys)
		return CUDA_ERROR_INVALID_VALUE;
	fd = sim_frames_export(&sim.machine, phys->device->index, phys->first, phys->id);
	sim_phys_put(phys);
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	memcpy(shareable_handle, &fd, sizeof(fd));
	return CUDA_SUCCESS;
}

/* The device of this process that a device of the machine is; NULL: it is not visible here. */
static struct sim_device *device_by_index(uint32_t index)
{
	for (int i = 0; i < sim.n_devices; i++) {
		if (sim.devices[i].index == index)
			return &sim.devices[i];
	}
	return NULL;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *os_handle,
					CUmemAllocationHandleType type)
{
	struct sim_device *device;
	struct sim_phys *phys;
	uint32_t index, first;
	struct handle *h;
	uint64_t id;
	CUresult r;

	SIM_ENTER();
	if (!handle || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_frames_import(&sim.machine, (int)(intptr_t)os_handle, &index, &first, &id) < 0)
		return CUDA_ERROR_INVALID_VALUE;
	device = device_by_index(index);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	r = sim_phys_import(device, first, id, &phys);
	if (r != CUDA_SUCCESS)
		return r;
	/* Known already (its own, or imported before): the same handle once more. */
	sim_lock_process();
	phys->prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	h = find_handle_of(phys);
	*handle = h ? handle_value((uint32_t)(h - handles)) : add_handle(phys);
	if (h)
		h->refs++;
	sim_unlock_process();
	if (h || !*handle)
		sim_phys_put(phys);
	return *handle ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
