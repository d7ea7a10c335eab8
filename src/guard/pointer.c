/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program is told about addresses of movable memory: that they are ordinary allocations of
 * cuMemAlloc(), which is what it asked for, resident or not. All other addresses are the driver's
 * to explain.
 *
 * When we fail: nothing here can.
 */
#include <string.h>

#include "guard/gate.h"
#include "guard/movable.h"
#include "guard/share.h"
#include "guard/space.h"
#include "guard/guest.h"

/* Numbers of buffers are unique in a process; the driver's count from 1. Source: guess that it does
 * not count this far. */
#define BUFFER_BASE (1ull << 48)
#define IMPORT_BASE (2ull << 48)

#define PUT(type, value)                                                                           \
	do {                                                                                       \
		type value_ = (value);                                                             \
		memcpy(data, &value_, sizeof(value_));                                             \
		return CUDA_SUCCESS;                                                               \
	} while (0)

/* One attribute of an address in @item, as the driver has it for memory of cuMemAlloc(). */
static CUresult answer(const struct aq__item *item, CUpointer_attribute attr, CUdeviceptr ptr,
		       void *data)
{
	const struct aq__arena *a = aq__arena_of(item->key);

	switch ((int)attr) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		PUT(CUcontext, (CUcontext)(uintptr_t)item->link);
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		PUT(unsigned int, CU_MEMORYTYPE_DEVICE);
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		PUT(CUdeviceptr, ptr);
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
		PUT(unsigned int, item->kind == AQ__MOVABLE_SYNC);
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		PUT(unsigned long long, BUFFER_BASE + item->refs);
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		PUT(unsigned int, 0);
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		PUT(int, a->dev);
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		PUT(unsigned int, a->exportable);
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		PUT(CUdeviceptr, item->key);
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		PUT(size_t, item->bytes);
	case CU_POINTER_ATTRIBUTE_MAPPED:
		PUT(unsigned int, 1);
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		PUT(unsigned long long, 0);
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
		PUT(unsigned int, a->rdma);
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		PUT(unsigned int, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		PUT(CUmemoryPool, NULL);
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
		PUT(unsigned int, 0);
	default: /* a host address it has none; tokens are for kernel modules */
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/*
 * One attribute of memory that another process lends, where the driver knows it as something else
 * than an opened handle. Return: CUDA_ERROR_NOT_FOUND: the driver knows.
 */
static CUresult answer_imported(const struct aq__imported *m, CUpointer_attribute attr, void *data)
{
	switch ((int)attr) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		PUT(CUcontext, m->ctx);
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		PUT(unsigned long long, IMPORT_BASE + m->number);
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		PUT(unsigned int, 0);
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		PUT(CUdeviceptr, m->start);
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		PUT(size_t, m->bytes);
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		PUT(unsigned long long, 0);
	default:
		return CUDA_ERROR_NOT_FOUND;
	}
}

/* WATCH. */
CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attr, CUdeviceptr ptr)
{
	struct aq__imported imported;
	struct aq__item item;

	if (data && aq__import_find(ptr, &imported)) {
		CUresult r = answer_imported(&imported, attr, data);

		if (r != CUDA_ERROR_NOT_FOUND)
			return r;
	}
	if (!data || !aq__arena_of(ptr))
		return AQ__CALL(cuPointerGetAttribute, data, attr, ptr);
	if (!aq__movable_find(ptr, &item))
		return CUDA_ERROR_INVALID_VALUE; /* freed; the driver still has memory there */
	return answer(&item, attr, ptr, data);
}

/* WATCH: the driver is asked about an address that it does not know, which makes it check what is
 * asked and write zeros; then what is known is filled in. */
CUresult cuPointerGetAttributes(unsigned int n, CUpointer_attribute *attributes, void **data,
				CUdeviceptr ptr)
{
	struct aq__imported imported;
	struct aq__item item;
	CUresult r;

	if (!n || !attributes || !data || !aq__arena_of(ptr)) {
		r = AQ__CALL(cuPointerGetAttributes, n, attributes, data, ptr);
		if (r == CUDA_SUCCESS && n && aq__import_find(ptr, &imported)) {
			for (unsigned int i = 0; i < n; i++)
				(void)answer_imported(&imported, attributes[i], data[i]);
		}
		return r;
	}
	r = AQ__CALL(cuPointerGetAttributes, n, attributes, data, 0);
	if (!aq__movable_find(ptr, &item))
		return r;
	for (unsigned int i = 0; r == CUDA_SUCCESS && i < n; i++)
		(void)answer(&item, attributes[i], ptr, data[i]);
	return r;
}

/* WATCH: the driver forgets it when the memory moves. */
CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attr, CUdeviceptr ptr)
{
	struct aq__item item, old;
	CUresult r;

	if (!value || attr != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || !aq__arena_of(ptr))
		return AQ__CALL(cuPointerSetAttribute, value, attr, ptr);
	if (!aq__movable_find(ptr, &item))
		return CUDA_ERROR_INVALID_VALUE;
	aq__move_hold_resident(item.index);
	r = AQ__CALL(cuPointerSetAttribute, value, attr, ptr);
	if (r == CUDA_SUCCESS && aq__track_take(AQ__POINTER, item.key, &item)) {
		item.kind = *(const unsigned int *)value ? AQ__MOVABLE_SYNC : AQ__MOVABLE;
		(void)aq__track_put(&item, &old); /* the slot that it just left is there */
	}
	aq__move_go();
	return r;
}

/* WATCH. */
CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr ptr)
{
	struct aq__imported m;
	struct aq__item item;

	if (aq__movable_find(ptr, &item))
		m = (struct aq__imported){.start = item.key, .bytes = item.bytes};
	else if (aq__arena_of(ptr))
		return CUDA_ERROR_NOT_FOUND;
	else if (!aq__import_find(ptr, &m))
		return AQ__CALL(cuMemGetAddressRange_v2, base, size, ptr);
	if (base)
		*base = m.start;
	if (size)
		*size = m.bytes;
	return CUDA_SUCCESS;
}

/* WATCH: whoever has the memory by this handle touches it unseen. */
CUresult cuMemGetHandleForAddressRange(void *handle, CUdeviceptr ptr, size_t size,
				       CUmemRangeHandleType type, unsigned long long flags)
{
	struct aq__item item;
	CUresult r;

	if (!aq__movable_find(ptr, &item))
		return AQ__CALL(cuMemGetHandleForAddressRange, handle, ptr, size, type, flags);
	aq__move_hold_resident(item.index);
	r = AQ__CALL(cuMemGetHandleForAddressRange, handle, ptr, size, type, flags);
	if (r == CUDA_SUCCESS)
		aq__movable_fix(item.key);
	aq__move_go();
	return r;
}

/* WATCH: what the current context may touch from now on it touches in chunks that come, too.
 * Withdrawing it is left to the driver: there, memory stays accessible that the program no longer
 * counts on. */
CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	CUresult r = AQ__CALL(cuCtxEnablePeerAccess, peer, flags);
	CUdevice here = -1, there = -1;
	CUcontext popped;

	if (r != CUDA_SUCCESS || !aq__movable_on() ||
	    AQ__CALL(cuCtxGetDevice, &here) != CUDA_SUCCESS ||
	    AQ__CALL(cuCtxPushCurrent_v2, peer) != CUDA_SUCCESS)
		return r;
	(void)AQ__CALL(cuCtxGetDevice, &there);
	(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
	r = aq__movable_peer(there, here);
	if (r != CUDA_SUCCESS)
		(void)AQ__CALL(cuCtxDisablePeerAccess, peer);
	return r;
}
