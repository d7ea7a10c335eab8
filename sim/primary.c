/* SPDX-License-Identifier: Apache-2.0 */
/* Primary contexts: one for each device, counted. One thread at a time changes them, since
 * retaining may take long and two threads that retain together must get the same one. */
#include "context.h"

#include <stdlib.h>

#include "base/banned.h"

static pthread_mutex_t primary_lock = PTHREAD_MUTEX_INITIALIZER;

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev)
{
	struct sim_device *device;
	CUresult r = CUDA_SUCCESS;

	SIM_ENTER();
	device = sim_device_get(dev);
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&primary_lock);
	if (!device->primary) {
		struct sim_context *fresh = calloc(1, sizeof(*fresh));

		if (!fresh) {
			pthread_mutex_unlock(&primary_lock);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
		fresh->primary = fresh->destroyed = true;
		device->primary = fresh;
	}
	if (device->primary->destroyed)
		r = sim_context_activate(device->primary, device, device->primary_flags);
	if (r == CUDA_SUCCESS) {
		device->primary_refs++;
		*ctx = sim_context_handle(device->primary);
	}
	pthread_mutex_unlock(&primary_lock);
	return r;
}

/* End the primary context: at the last release, or at once. */
static CUresult release_primary(CUdevice dev, bool reset)
{
	struct sim_device *device = sim_device_get(dev);
	CUresult r = CUDA_SUCCESS;

	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&primary_lock);
	if (!reset && device->primary_refs == 0)
		r = CUDA_ERROR_INVALID_CONTEXT;
	else if (reset || --device->primary_refs == 0)
		device->primary_refs = 0;
	if (r == CUDA_SUCCESS && device->primary_refs == 0 && device->primary &&
	    sim_context_claim(device->primary))
		sim_context_deactivate(device->primary);
	if (reset)
		device->primary_flags = 0;
	pthread_mutex_unlock(&primary_lock);
	return r;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	SIM_ENTER();
	return release_primary(dev, false);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	SIM_ENTER();
	return release_primary(dev, false);
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev)
{
	SIM_ENTER();
	return release_primary(dev, true);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
	SIM_ENTER();
	return release_primary(dev, true);
}

static CUresult set_primary_flags(CUdevice dev, unsigned int flags, bool while_active)
{
	struct sim_device *device = sim_device_get(dev);
	CUresult r = CUDA_SUCCESS;

	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!sim_context_flags_valid(flags))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primary_lock);
	if (device->primary && !device->primary->destroyed) {
		if (while_active)
			device->primary->flags = flags;
		else
			r = CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
	}
	if (r == CUDA_SUCCESS)
		device->primary_flags = flags;
	pthread_mutex_unlock(&primary_lock);
	return r;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags)
{
	SIM_ENTER();
	return set_primary_flags(dev, flags, false);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
	SIM_ENTER();
	return set_primary_flags(dev, flags, true);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	struct sim_device *device;

	SIM_ENTER();
	device = sim_device_get(dev);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primary_lock);
	*active = device->primary && !device->primary->destroyed;
	*flags = *active ? device->primary->flags : device->primary_flags;
	pthread_mutex_unlock(&primary_lock);
	return CUDA_SUCCESS;
}
