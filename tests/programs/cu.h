/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <cuda.h> for the test programs: the real one where it is installed, else this project's own
 * declarations with the redirections that cuda.h would make. So `cc -I src tenant.c -lcuda` works
 * with a CUDA toolkit and without. Nothing here knows of Aliquot.
 */
#ifndef AQ_TESTS_CU_H
#define AQ_TESTS_CU_H

#include <string.h>

#if !defined(AQ_TEST_OWN_ABI) && defined(__has_include)
#if __has_include(<cuda.h>)
#define AQ_TEST_REAL_CUDA_H 1
#endif
#endif

#ifdef AQ_TEST_REAL_CUDA_H
#include <cuda.h>
#else
#include "cuda/cuda_abi.h"
#define cuArray3DCreate cuArray3DCreate_v2
#define cuArrayCreate cuArrayCreate_v2
#define cuCtxCreate cuCtxCreate_v4
#define cuCtxDestroy cuCtxDestroy_v2
#define cuCtxPopCurrent cuCtxPopCurrent_v2
#define cuCtxPushCurrent cuCtxPushCurrent_v2
#define cuDeviceGetUuid cuDeviceGetUuid_v2
#define cuDevicePrimaryCtxRelease cuDevicePrimaryCtxRelease_v2
#define cuDeviceTotalMem cuDeviceTotalMem_v2
#define cuGetProcAddress cuGetProcAddress_v2
#define cuIpcOpenMemHandle cuIpcOpenMemHandle_v2
#define cuMemAlloc cuMemAlloc_v2
#define cuMemAllocHost cuMemAllocHost_v2
#define cuMemAllocPitch cuMemAllocPitch_v2
#define cuMemFree cuMemFree_v2
#define cuMemGetInfo cuMemGetInfo_v2
#define cuMemcpyDtoD cuMemcpyDtoD_v2
#define cuMemcpyDtoDAsync cuMemcpyDtoDAsync_v2
#define cuMemcpyDtoH cuMemcpyDtoH_v2
#define cuMemcpyHtoD cuMemcpyHtoD_v2
#define cuMemcpyHtoDAsync cuMemcpyHtoDAsync_v2
#define cuMemsetD32 cuMemsetD32_v2
#define cuMemsetD8 cuMemsetD8_v2
#define cuStreamBeginCapture cuStreamBeginCapture_v2
#define cuStreamDestroy cuStreamDestroy_v2
#endif

/* A context of one's own on @dev; cuCtxCreate() has changed its signature with 13.0. */
static inline CUresult cu_ctx_create(CUcontext *ctx, CUdevice dev)
{
#if CUDA_VERSION >= 13000
	return cuCtxCreate(ctx, NULL, 0, dev);
#else
	return cuCtxCreate(ctx, 0, dev);
#endif
}

/* Physical memory of @device, for cuMemCreate(). */
static inline CUmemAllocationProp cu_memory_on(CUdevice device)
{
	CUmemAllocationProp prop;

	memset(&prop, 0, sizeof(prop));
	prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	prop.location.id = device;
	return prop;
}

/* A pool of such memory, for cuMemPoolCreate() and for the nodes of graphs that allocate. */
static inline CUmemPoolProps cu_pool_on(CUdevice device)
{
	CUmemPoolProps props;

	memset(&props, 0, sizeof(props));
	props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
	props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	props.location.id = device;
	return props;
}

#endif /* AQ_TESTS_CU_H */
