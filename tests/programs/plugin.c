/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library linked with -lcuda, as plugins of larger programs are: says how much memory device 0
 * has and what an allocation above that answers. See loaders.c.
 */
#include <stdio.h>

#include "cu.h"

__attribute__((visibility("default"))) int plugin_probe(size_t *total, int *small, int *over);

int plugin_probe(size_t *total, int *small, int *over)
{
	CUdeviceptr p;
	CUcontext ctx;
	CUdevice dev;
	CUresult r;

	r = cuInit(0);
	if (r == CUDA_SUCCESS)
		r = cuDeviceGet(&dev, 0);
	if (r == CUDA_SUCCESS)
		r = cuDevicePrimaryCtxRetain(&ctx, dev);
	if (r == CUDA_SUCCESS)
		r = cuCtxSetCurrent(ctx);
	if (r == CUDA_SUCCESS)
		r = cuDeviceTotalMem(total, dev);
	if (r != CUDA_SUCCESS)
		return (int)r;
	*small = (int)cuMemAlloc(&p, 1 << 20);
	*over = (int)cuMemAlloc(&p, *total + (2 << 20));
	return 0;
}
