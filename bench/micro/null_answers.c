/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entry points of the null driver that an interposer must get an answer from: one device with
 * the UUID in $AQ_BENCH_UUID, one context, distinct addresses. Everything else is null_driver.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "cuda/cuda_abi.h"

#define TOTAL_BYTES (80ull << 30)
#define BLOCK_BYTES (2ull << 20)
#define HANDLE ((void *)0x1000) /* any non-NULL handle */

CUresult cuDriverGetVersion(int *version)
{
	*version = 13000;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	*count = 1;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	*device = 0;
	return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	const char *text = getenv("AQ_BENCH_UUID");
	uint8_t bytes[16] = {0};

	if (text && aq_uuid_parse(text, bytes) < 0)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(uuid, bytes, sizeof(bytes));
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *ctx)
{
	*ctx = HANDLE;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice device)
{
	*ctx = HANDLE;
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	*bytes = TOTAL_BYTES;
	return CUDA_SUCCESS;
}

/* So that memory can be movable: addresses and handles that mean nothing. */
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attr, CUdevice device)
{
	*value = attr == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
	return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags option)
{
	*granularity = BLOCK_BYTES;
	return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr address,
			     unsigned long long flags)
{
	*ptr = 1ull << 44;
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	*handle = 1;
	return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	*free_bytes = *total_bytes = TOTAL_BYTES;
	return CUDA_SUCCESS;
}

/* As a driver does it: small pieces side by side, large ones in blocks of their own. */
CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytes)
{
	static uint64_t small = 1ull << 40, large = 1ull << 42;

	if (bytes < BLOCK_BYTES)
		*dptr = __atomic_fetch_add(&small, (bytes + 511) & ~511ull, __ATOMIC_RELAXED);
	else
		*dptr = __atomic_fetch_add(&large, (bytes + BLOCK_BYTES - 1) & -BLOCK_BYTES,
					   __ATOMIC_RELAXED);
	return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
	*status = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}
