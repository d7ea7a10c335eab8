/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical memory and addresses apart: cuMemCreate, cuMemAddressReserve, cuMemMap and their like.
 * Physical memory lives while its handle has references or it is mapped, here or in another
 * process, or an exported descriptor is open.
 */
#include "vmm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "va.h"
#include "base/banned.h"

#define GRANULARITY SIM_FRAME_BYTES

/* What a handle names. Handles are index and generation, so that a stale one is recognised. */
struct handle {
	struct sim_phys *phys; /* NULL: free */
	unsigned int refs;     /* cuMemCreate, imports, cuMemRetainAllocationHandle */
	uint32_t generation;
	uint32_t next_free;
};

/* alloc->owner of a mapping. */
struct mapping {
	struct sim_phys *phys;
	uint8_t peers[SIM_MAX_DEVICES]; /* CUmemAccess_flags of other devices, by ordinal */
};

struct reservation {
	uint64_t base, bytes;
	struct aq_list link;
};

/* All under sim.lock. */
static struct handle *handles;
static uint32_t n_handles, handles_room, first_free = UINT32_MAX;
static struct aq_list reservations = {&reservations, &reservations};

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

const CUmemAllocationProp *sim_vmm_prop(const struct sim_alloc *alloc)
{
	return &((const struct mapping *)alloc->owner)->phys->prop;
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
		struct sim_phys *phys = ((struct mapping *)a->owner)->phys;

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

/*
 * Addresses.
 */

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr addr,
			     unsigned long long flags)
{
	struct reservation *v;

	SIM_ENTER();
	if (!ptr || size == 0 || size % GRANULARITY || flags || (alignment & (alignment - 1)))
		return CUDA_ERROR_INVALID_VALUE;
	v = calloc(1, sizeof(*v));
	if (!v)
		return CUDA_ERROR_OUT_OF_MEMORY;
	v->base = sim_va_reserve(size, alignment, addr);
	if (!v->base) {
		free(v);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	v->bytes = size;
	sim_lock_process();
	aq_list_append(&reservations, &v->link);
	sim_unlock_process();
	*ptr = v->base;
	return CUDA_SUCCESS;
}

/* The reservation that has all of a range. */
static struct reservation *find_reservation(uint64_t base, uint64_t bytes)
{
	struct reservation *v, *tmp;

	AQ_LIST_FOREACH (v, tmp, &reservations, link) {
		if (base - v->base < v->bytes && bytes <= v->bytes - (base - v->base))
			return v;
	}
	return NULL;
}

/* Whether nothing is mapped in a range. */
static bool is_empty(uint64_t base, uint64_t bytes)
{
	for (uint64_t at = base; at < base + bytes; at += GRANULARITY) {
		if (sim_alloc_find(at))
			return false;
	}
	return true;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size)
{
	struct reservation *v;

	SIM_ENTER();
	sim_lock_process();
	v = sim_va_contains(ptr) ? find_reservation(ptr, size) : NULL;
	if (v && (v->base != ptr || v->bytes != size || !is_empty(ptr, size)))
		v = NULL;
	if (v)
		aq_list_remove(&v->link);
	sim_unlock_process();
	if (!v)
		return CUDA_ERROR_INVALID_VALUE;
	sim_va_free(v->base, v->bytes);
	free(v);
	return CUDA_SUCCESS;
}

/* Mapped memory may not be used before cuMemSetAccess has said who may. */
CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
		  unsigned long long flags)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct sim_alloc *a = NULL;
	struct mapping *mapping;
	struct handle *h;

	SIM_ENTER();
	/* "offset: currently must be zero". Source: cuda.h, cuMemMap */
	if (size == 0 || size % GRANULARITY || ptr % GRANULARITY || offset || flags)
		return CUDA_ERROR_INVALID_VALUE;
	mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sim_lock_process();
	h = find_handle(handle);
	if (h && size <= h->phys->n_frames * SIM_FRAME_BYTES && sim_va_contains(ptr) &&
	    find_reservation(ptr, size) && is_empty(ptr, size)) {
		mapping->phys = h->phys;
		a = sim_alloc_add_locked(SIM_MEMORY_VMM, ptr, size, size, h->phys->device, NULL);
		r = a ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (a) {
		a->owner = mapping;
		mapping->phys->refs++;
		sim_va_map(ptr, mapping->phys, 0, (uint32_t)(size / SIM_FRAME_BYTES));
		sim_va_protect(ptr, size, CU_MEM_ACCESS_FLAGS_PROT_NONE);
	}
	sim_unlock_process();
	if (!a)
		free(mapping);
	return r;
}

/* The range must be made of whole mappings. */
static bool whole_mappings(uint64_t base, uint64_t bytes)
{
	uint64_t at = base;

	while (at < base + bytes) {
		const struct sim_alloc *a = sim_alloc_find(at);

		if (!a || a->kind != SIM_MEMORY_VMM || a->base != at)
			return false;
		at += a->span;
	}
	return at == base + bytes;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	struct aq_list done;
	struct sim_alloc *a, *tmp;

	SIM_ENTER();
	if (size == 0 || size % GRANULARITY || !sim_va_contains(ptr) || ptr + size < ptr)
		return CUDA_ERROR_INVALID_VALUE;
	aq_list_init(&done);
	sim_lock_process();
	if (!whole_mappings(ptr, size)) {
		sim_unlock_process();
		return CUDA_ERROR_INVALID_VALUE;
	}
	for (uint64_t at = ptr; at < ptr + size; at += a->span) {
		a = sim_alloc_find(at);
		sim_alloc_forget(a);
		aq_list_append(&done, &a->link);
	}
	sim_va_unmap(ptr, size);
	sim_unlock_process();
	AQ_LIST_FOREACH (a, tmp, &done, link) {
		struct mapping *mapping = a->owner;

		sim_phys_put(mapping->phys);
		free(mapping);
		free(a);
	}
	return CUDA_SUCCESS;
}

static void set_access(uint64_t base, uint64_t bytes, const CUmemAccessDesc *desc)
{
	uint64_t at = base & ~(GRANULARITY - 1);

	while (at < base + bytes) {
		struct sim_alloc *a = sim_alloc_find(at);
		uint64_t end = a->base + a->span;

		if (end > base + bytes)
			end = base + bytes;
		if (desc->location.id == a->device->ordinal)
			sim_va_protect(at, end - at, desc->flags);
		else
			((struct mapping *)a->owner)->peers[desc->location.id] =
				(uint8_t)desc->flags;
		at = end;
	}
}

static bool all_mapped(uint64_t base, uint64_t bytes)
{
	for (uint64_t at = base; at < base + bytes; at += GRANULARITY) {
		const struct sim_alloc *a = sim_alloc_find(at);

		if (!a || a->kind != SIM_MEMORY_VMM)
			return false;
	}
	return true;
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	bool mapped;

	SIM_ENTER();
	if (!desc || count == 0 || size == 0 || size % GRANULARITY || ptr % GRANULARITY ||
	    !sim_va_contains(ptr) || ptr + size < ptr)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
		    (desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
		     desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
		     desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE))
			return CUDA_ERROR_INVALID_VALUE;
		if (!sim_device_get(desc[i].location.id))
			return CUDA_ERROR_INVALID_DEVICE;
	}
	sim_lock_process();
	mapped = all_mapped(ptr, size);
	for (size_t i = 0; mapped && i < count; i++)
		set_access(ptr, size, &desc[i]);
	sim_unlock_process();
	return mapped ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr)
{
	CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
	struct sim_alloc *a;

	SIM_ENTER();
	if (!flags || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_device_get(location->id))
		return CUDA_ERROR_INVALID_DEVICE;
	sim_lock_process();
	a = sim_alloc_find(ptr);
	if (a && a->kind == SIM_MEMORY_VMM) {
		if (a->device->ordinal == location->id)
			sim_va_device(ptr, &access);
		else
			access = ((struct mapping *)a->owner)->peers[location->id];
	} else {
		a = NULL;
	}
	sim_unlock_process();
	if (!a)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = access;
	return CUDA_SUCCESS;
}
