/* SPDX-License-Identifier: Apache-2.0 */
/* Managed memory: host memory that is charged to a device, whole, from the start (real devices
 * charge the pages that they touch). Advice and prefetches are accepted and move nothing; what was
 * last said is remembered for those who ask. */
#include "managed.h"
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "va.h"
#include "base/banned.h"

#define HOST_BIT 31

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytes, unsigned int flags)
{
	struct sim_alloc *a = NULL;
	struct sim_managed *m;
	uint64_t span;
	CUresult r;
	void *p;

	SIM_ENTER_CONTEXT(ctx);
	if (!dptr || bytes == 0 ||
	    (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST &&
	     flags != CU_MEM_ATTACH_SINGLE))
		return CUDA_ERROR_INVALID_VALUE;
	SIM_REFUSE_IN_CAPTURE();
	m = calloc(1, sizeof(*m));
	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	m->preferred.type = m->prefetched.type = CU_MEM_LOCATION_TYPE_INVALID;
	r = sim_phys_create(ctx->device, bytes, &m->phys);
	if (r != CUDA_SUCCESS) {
		free(m);
		return r;
	}
	span = m->phys->n_frames * SIM_FRAME_BYTES;
	p = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p != MAP_FAILED) {
		a = sim_alloc_add(SIM_MEMORY_MANAGED, (uint64_t)(uintptr_t)p, bytes, span,
				  ctx->device, ctx);
		if (!a)
			munmap(p, span);
	}
	if (!a) {
		sim_phys_put(m->phys);
		free(m);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	a->flags = flags;
	a->owner = m;
	*dptr = a->base;
	return CUDA_SUCCESS;
}

void sim_managed_release(struct sim_alloc *a)
{
	struct sim_managed *m = a->owner;
	void *p = (void *)(uintptr_t)a->base;
	uint64_t span = a->span;

	sim_alloc_remove(a);
	munmap(p, span);
	sim_phys_put(m->phys);
	free(m);
}

struct sim_managed *sim_managed_find(CUdeviceptr dptr, size_t count)
{
	struct sim_alloc *a = sim_alloc_find(dptr);

	if (!a || a->kind != SIM_MEMORY_MANAGED || count == 0 || count > a->bytes ||
	    dptr - a->base > a->bytes - count)
		return NULL;
	return a->owner;
}

bool sim_location_valid(const CUmemLocation *l)
{
	switch (l->type) {
	case CU_MEM_LOCATION_TYPE_DEVICE:
		return sim_device_get(l->id) != NULL;
	case CU_MEM_LOCATION_TYPE_HOST:
	case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
		return true;
	case CU_MEM_LOCATION_TYPE_HOST_NUMA:
		return l->id >= 0;
	default:
		return false;
	}
}

CUmemLocation sim_location_of(CUdevice device)
{
	CUmemLocation l = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};

	if (device == CU_DEVICE_CPU)
		l = (CUmemLocation){.type = CU_MEM_LOCATION_TYPE_HOST};
	return l;
}

static uint32_t location_bit(const CUmemLocation *l)
{
	return 1u << (l->type == CU_MEM_LOCATION_TYPE_DEVICE ? l->id : HOST_BIT);
}

static CUresult advise(CUdeviceptr dptr, size_t count, CUmem_advise advice, CUmemLocation location)
{
	bool names_place = advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION ||
			   advice == CU_MEM_ADVISE_SET_ACCESSED_BY ||
			   advice == CU_MEM_ADVISE_UNSET_ACCESSED_BY;
	CUresult r = CUDA_SUCCESS;
	struct sim_managed *m;

	if (names_place && !sim_location_valid(&location))
		return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? CUDA_ERROR_INVALID_DEVICE
								    : CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	m = sim_managed_find(dptr, count);
	if (!m) {
		sim_unlock_process();
		return CUDA_ERROR_INVALID_VALUE;
	}
	switch ((int)advice) {
	case CU_MEM_ADVISE_SET_READ_MOSTLY:
		m->read_mostly = true;
		break;
	case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
		m->read_mostly = false;
		break;
	case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
		m->preferred = location;
		break;
	case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
		m->preferred.type = CU_MEM_LOCATION_TYPE_INVALID;
		break;
	case CU_MEM_ADVISE_SET_ACCESSED_BY:
		m->accessed_by |= location_bit(&location);
		break;
	case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
		m->accessed_by &= ~location_bit(&location);
		break;
	default:
		r = CUDA_ERROR_INVALID_VALUE;
	}
	sim_unlock_process();
	return r;
}

CUresult cuMemAdvise(CUdeviceptr dptr, size_t count, CUmem_advise advice, CUdevice device)
{
	SIM_ENTER();
	return advise(dptr, count, advice, sim_location_of(device));
}

CUresult cuMemAdvise_v2(CUdeviceptr dptr, size_t count, CUmem_advise advice, CUmemLocation location)
{
	SIM_ENTER();
	return advise(dptr, count, advice, location);
}

/* One attribute of a range, into @size bytes. Under sim.lock. */
static CUresult get_attribute(const struct sim_managed *m, CUmem_range_attribute attr, void *data,
			      size_t size)
{
	const CUmemLocation *l =
		attr == CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION ||
				attr == CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE ||
				attr == CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID
			? &m->preferred
			: &m->prefetched;
	size_t n = 0;
	int value;

	switch ((int)attr) {
	case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
		value = m->read_mostly;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
		value = l->type == CU_MEM_LOCATION_TYPE_INVALID	 ? CU_DEVICE_INVALID
			: l->type == CU_MEM_LOCATION_TYPE_DEVICE ? l->id
								 : CU_DEVICE_CPU;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
		value = (int)l->type;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
		value = l->id;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
		if (size % sizeof(int))
			return CUDA_ERROR_INVALID_VALUE;
		for (int bit = 0; bit < 32 && n < size / sizeof(int); bit++) {
			if (m->accessed_by & (1u << bit))
				((int *)data)[n++] = bit == HOST_BIT ? CU_DEVICE_CPU : bit;
		}
		while (n < size / sizeof(int))
			((int *)data)[n++] = CU_DEVICE_INVALID;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (size != sizeof(value))
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(data, &value, sizeof(value));
	return CUDA_SUCCESS;
}

static CUresult get_attributes(void **data, size_t *sizes, CUmem_range_attribute *attrs, size_t n,
			       CUdeviceptr dptr, size_t count)
{
	CUresult r = CUDA_SUCCESS;
	struct sim_managed *m;

	sim_lock_process();
	m = sim_managed_find(dptr, count);
	if (!m)
		r = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n && r == CUDA_SUCCESS; i++)
		r = data[i] && sizes[i] ? get_attribute(m, attrs[i], data[i], sizes[i])
					: CUDA_ERROR_INVALID_VALUE;
	sim_unlock_process();
	return r;
}

CUresult cuMemRangeGetAttribute(void *data, size_t data_size, CUmem_range_attribute attr,
				CUdeviceptr dptr, size_t count)
{
	SIM_ENTER();
	return get_attributes(&data, &data_size, &attr, 1, dptr, count);
}

CUresult cuMemRangeGetAttributes(void **data, size_t *data_sizes, CUmem_range_attribute *attributes,
				 size_t n_attributes, CUdeviceptr dptr, size_t count)
{
	SIM_ENTER();
	if (!data || !data_sizes || !attributes || n_attributes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	return get_attributes(data, data_sizes, attributes, n_attributes, dptr, count);
}
