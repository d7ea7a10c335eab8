/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libcuda.so.1 that forwards everything to the driver behind it and halves two answers: what
 * cuMemGetInfo and cuDeviceTotalMem say. With it found first, a program tells whether NVIDIA's own
 * runtime accepts such answers. It alters nothing else.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "cuda/cuda_abi.h"

/* Written once by the constructor, before any call. */
static struct {
	__typeof__(cuMemGetInfo_v2) *info;
	__typeof__(cuDeviceTotalMem_v2) *total;
	__typeof__(cuGetProcAddress) *address;
	__typeof__(cuGetProcAddress_v2) *address_v2;
} real;

__attribute__((constructor)) static void find_real(void)
{
	void *lib = dlopen("libaliquot-driver.so.1", RTLD_LAZY | RTLD_NOLOAD);

	if (!lib)
		return;
	*(void **)&real.info = dlsym(lib, "cuMemGetInfo_v2");
	*(void **)&real.total = dlsym(lib, "cuDeviceTotalMem_v2");
	*(void **)&real.address = dlsym(lib, "cuGetProcAddress");
	*(void **)&real.address_v2 = dlsym(lib, "cuGetProcAddress_v2");
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	CUresult r = real.info ? real.info(free_bytes, total_bytes) : CUDA_ERROR_NOT_SUPPORTED;

	if (r == CUDA_SUCCESS) {
		*free_bytes /= 2;
		*total_bytes /= 2;
	}
	return r;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	CUresult r = real.total ? real.total(bytes, dev) : CUDA_ERROR_NOT_SUPPORTED;

	if (r == CUDA_SUCCESS)
		*bytes /= 2;
	return r;
}

/* Whatever name and version it was asked by: what counts is which function came back. */
static void exchange(void **fn)
{
	if (!fn || !*fn)
		return;
	if (*fn == (void *)real.info)
		*fn = (void *)cuMemGetInfo_v2;
	else if (*fn == (void *)real.total)
		*fn = (void *)cuDeviceTotalMem_v2;
	else if (*fn == (void *)real.address)
		*fn = (void *)cuGetProcAddress;
	else if (*fn == (void *)real.address_v2)
		*fn = (void *)cuGetProcAddress_v2;
}

CUresult cuGetProcAddress(const char *symbol, void **fn, int version, cuuint64_t flags)
{
	CUresult r = real.address ? real.address(symbol, fn, version, flags)
				  : CUDA_ERROR_NOT_SUPPORTED;

	if (r == CUDA_SUCCESS)
		exchange(fn);
	return r;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **fn, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	CUresult r = real.address_v2 ? real.address_v2(symbol, fn, version, flags, status)
				     : CUDA_ERROR_NOT_SUPPORTED;

	if (r == CUDA_SUCCESS)
		exchange(fn);
	return r;
}
