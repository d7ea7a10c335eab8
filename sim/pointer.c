/* SPDX-License-Identifier: Apache-2.0 */
/* What an address is: cuPointerGetAttribute(s), cuMemGetAddressRange. */
#include <string.h>

#include "va.h"
#include "vmm.h"
#include "base/banned.h"

/* A snapshot of what is asked about, so that no lock is held while answering. */
struct answer {
	bool known;
	struct sim_alloc alloc; /* a copy: links are not for use */
	CUmemAllocationProp prop;
	CUmemAccess_flags access;
	CUdeviceptr ptr;
};

static void look_up(CUdeviceptr ptr, struct answer *ret)
{
	struct sim_alloc *a;

	*ret = (struct answer){.ptr = ptr, .access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	sim_lock_process();
	a = sim_alloc_find(ptr);
	if (a) {
		ret->known = true;
		ret->alloc = *a;
		if (a->kind == SIM_MEMORY_VMM)
			ret->prop = sim_mapping_phys(a)->prop;
		if (a->kind == SIM_MEMORY_POOL)
			ret->prop.requestedHandleTypes = sim_pool_handle_types(a->pool);
	}
	sim_unlock_process();
	if (sim_va_contains(ptr) && !sim_va_device(ptr, &ret->access))
		ret->access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
}

#define PUT(type, value)                                                                           \
	do {                                                                                       \
		type value_ = (value);                                                             \
		memcpy(data, &value_, sizeof(value_));                                             \
		return CUDA_SUCCESS;                                                               \
	} while (0)

/* One attribute of a known address. Flags are written as 32-bit numbers: callers pass unsigned int
 * or int for them. */
static CUresult answer_known(const struct answer *w, CUpointer_attribute attr, void *data)
{
	const struct sim_alloc *a = &w->alloc;
	bool on_host = !sim_memory_on_device(a->kind);
	bool managed = a->kind == SIM_MEMORY_MANAGED;

	switch ((int)attr) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		/* Memory that outlives contexts has none. Source: cuda.h,
		 * CU_POINTER_ATTRIBUTE_CONTEXT */
		PUT(CUcontext, a->kind == SIM_MEMORY_VMM || a->kind == SIM_MEMORY_POOL
				       ? NULL
				       : sim_context_handle(a->ctx));
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		PUT(unsigned int, on_host && !managed ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		PUT(CUdeviceptr, w->ptr);
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		if (!on_host)
			return CUDA_ERROR_INVALID_VALUE;
		PUT(void *, (void *)(uintptr_t)w->ptr);
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
		PUT(unsigned int, a->sync_memops);
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		PUT(unsigned long long, a->buffer_id);
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		PUT(unsigned int, managed);
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		PUT(int, a->device->ordinal);
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		PUT(unsigned int, a->kind == SIM_MEMORY_LINEAR && !a->opened);
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		PUT(CUdeviceptr, a->base);
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		PUT(size_t, a->bytes);
	case CU_POINTER_ATTRIBUTE_MAPPED:
		PUT(unsigned int, w->access != CU_MEM_ACCESS_FLAGS_PROT_NONE);
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		PUT(unsigned long long, w->prop.requestedHandleTypes);
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
		PUT(unsigned int, 0);
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		PUT(unsigned int, w->access);
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		PUT(CUmemoryPool, (CUmemoryPool)a->pool);
	default: /* P2P_TOKENS needs a kernel module */
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attr, CUdeviceptr ptr)
{
	struct answer w;

	SIM_ENTER();
	if (!data)
		return CUDA_ERROR_INVALID_VALUE;
	look_up(ptr, &w);
	return w.known ? answer_known(&w, attr, data) : CUDA_ERROR_INVALID_VALUE;
}

static size_t attribute_bytes(CUpointer_attribute attr)
{
	switch ((int)attr) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		return 8;
	case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
		return sizeof(CUDA_POINTER_ATTRIBUTE_P2P_TOKENS);
	default:
		return attr >= 1 && attr <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE ? 4 : 0;
	}
}

/* Unlike the single form, an unknown address is no error: its attributes are zero, its ordinal that
 * of no device. Source: CUDA driver API, cuPointerGetAttributes. */
CUresult cuPointerGetAttributes(unsigned int n_attributes, CUpointer_attribute *attributes,
				void **data, CUdeviceptr ptr)
{
	struct answer w;

	SIM_ENTER();
	if (!attributes || !data)
		return CUDA_ERROR_INVALID_VALUE;
	look_up(ptr, &w);
	for (unsigned int i = 0; i < n_attributes; i++) {
		size_t size = attribute_bytes(attributes[i]);

		if (!data[i] || !size)
			return CUDA_ERROR_INVALID_VALUE;
		memset(data[i], 0, size);
		if (w.known)
			answer_known(&w, attributes[i], data[i]);
		else if (attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
			*(int *)data[i] = CU_DEVICE_INVALID;
	}
	return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attr, CUdeviceptr ptr)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct sim_alloc *a;

	SIM_ENTER();
	if (!value || attr != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	a = sim_alloc_find(ptr);
	if (a && sim_memory_on_device(a->kind)) {
		a->sync_memops = *(const unsigned int *)value != 0;
		r = CUDA_SUCCESS;
	}
	sim_unlock_process();
	return r;
}

/* Also of pinned memory, as the driver does under unified addressing. Both results may be NULL, one
 * at a time or together. */
CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr dptr)
{
	struct sim_span span;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (sim_resolve(dptr, 0, &span) != CUDA_SUCCESS || span.kind == SIM_MEMORY_NONE)
		return CUDA_ERROR_NOT_FOUND;
	if (base)
		*base = span.base;
	if (size)
		*size = span.bytes;
	return CUDA_SUCCESS;
}
