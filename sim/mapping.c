/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses by themselves: cuMemAddressReserve, and what is mapped there by cuMemMap. */
#include <stdlib.h>

#include "va.h"
#include "vmm.h"
#include "base/banned.h"

/* alloc->owner of a mapping. */
struct mapping {
	struct sim_phys *phys;
	uint8_t peers[SIM_MAX_DEVICES]; /* CUmemAccess_flags of other devices, by ordinal */
};

struct reservation {
	uint64_t base, bytes;
	struct aq_list link;
};

/* Under sim.lock. */
static struct aq_list reservations = {&reservations, &reservations};

struct sim_phys *sim_mapping_phys(const struct sim_alloc *alloc)
{
	return ((const struct mapping *)alloc->owner)->phys;
}

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
	struct sim_phys *phys;

	SIM_ENTER();
	/* "offset: currently must be zero". Source: cuda.h, cuMemMap */
	if (size == 0 || size % GRANULARITY || ptr % GRANULARITY || offset || flags)
		return CUDA_ERROR_INVALID_VALUE;
	mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sim_lock_process();
	phys = sim_handle_phys(handle);
	if (phys && size <= phys->n_frames * SIM_FRAME_BYTES && sim_va_contains(ptr) &&
	    find_reservation(ptr, size) && is_empty(ptr, size)) {
		mapping->phys = phys;
		a = sim_alloc_add_locked(SIM_MEMORY_VMM, ptr, size, size, phys->device, NULL);
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
