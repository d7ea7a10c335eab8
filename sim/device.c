/* SPDX-License-Identifier: Apache-2.0 */
/* Devices: names, sizes, addresses on the bus, peers. Their attributes are in attributes.c. */
#include "sim.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/banned.h"

struct sim_device *sim_device_get(CUdevice dev)
{
	return dev >= 0 && dev < sim.n_devices ? &sim.devices[dev] : NULL;
}

CUresult sim_device_map(struct sim_device *device)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	CUresult r = CUDA_SUCCESS;
	uint8_t *bytes;

	pthread_mutex_lock(&lock);
	if (!device->bytes) {
		if (sim_memory_map(&sim.machine, device->index, &bytes) < 0)
			r = CUDA_ERROR_OUT_OF_MEMORY;
		else
			__atomic_store_n(&device->bytes, bytes, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/* Two cards reach each other when both have NVLink, or both are made for servers. GeForce cards
 * since Ada do not. */
bool sim_device_peers(const struct sim_device *a, const struct sim_device *b)
{
	return a != b && (a->profile->nvlinks || a->profile->ecc) &&
	       (b->profile->nvlinks || b->profile->ecc);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	SIM_ENTER();
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_device_get(ordinal))
		return CUDA_ERROR_INVALID_DEVICE;
	*device = ordinal;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	SIM_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = sim.n_devices;
	return CUDA_SUCCESS;
}

/* Declare `device` for `dev`, or return; for entry points that take a device and an out-pointer. */
#define ENTER_DEVICE(device, dev, out)                                                             \
	struct sim_device *device;                                                                 \
	SIM_ENTER();                                                                               \
	if (!(out))                                                                                \
		return CUDA_ERROR_INVALID_VALUE;                                                   \
	device = sim_device_get(dev);                                                              \
	if (!device)                                                                               \
	return CUDA_ERROR_INVALID_DEVICE

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	ENTER_DEVICE(device, dev, name);
	if (len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)len, "%s", device->profile->name);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	ENTER_DEVICE(device, dev, uuid);
	memcpy(uuid->bytes, device->shared->uuid, sizeof(uuid->bytes));
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	ENTER_DEVICE(device, dev, uuid);
	memcpy(uuid->bytes, device->shared->uuid, sizeof(uuid->bytes));
	return CUDA_SUCCESS;
}

/* A thing of Windows. */
CUresult cuDeviceGetLuid(char *luid, unsigned int *device_node_mask, CUdevice dev)
{
	ENTER_DEVICE(device, dev, luid);
	(void)device;
	return device_node_mask ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev)
{
	uint64_t total;

	ENTER_DEVICE(device, dev, bytes);
	total = device->shared->total_bytes;
	*bytes = total > UINT32_MAX ? UINT32_MAX : (unsigned int)total;
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	ENTER_DEVICE(device, dev, bytes);
	*bytes = device->shared->total_bytes;
	return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
	ENTER_DEVICE(device, dev, major);
	if (!minor)
		return CUDA_ERROR_INVALID_VALUE;
	*major = (int)device->profile->cc_major;
	*minor = (int)device->profile->cc_minor;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *prop, CUdevice dev)
{
	ENTER_DEVICE(device, dev, prop);
	*prop = (CUdevprop){
		.maxThreadsPerBlock = 1024,
		.maxThreadsDim = {1024, 1024, 64},
		.maxGridSize = {INT32_MAX, 65535, 65535},
		.sharedMemPerBlock = 48 << 10,
		.totalConstantMemory = 64 << 10,
		.SIMDWidth = 32,
		.memPitch = INT32_MAX,
		.regsPerBlock = 65536,
		.clockRate = (int)device->profile->clock_khz,
		.textureAlign = 512,
	};
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *bus_id, int len, CUdevice dev)
{
	char text[16];
	int n;

	ENTER_DEVICE(device, dev, bus_id);
	n = snprintf(text, sizeof(text), "0000:%02X:00.0", device->shared->pci_bus);
	if (len <= n)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(bus_id, text, (size_t)n + 1);
	return CUDA_SUCCESS;
}

/* [domain:]bus:device[.function], all in hexadecimal. */
CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *bus_id)
{
	unsigned int domain = 0, bus, slot, function = 0;
	int end = 0;

	SIM_ENTER();
	if (!dev || !bus_id)
		return CUDA_ERROR_INVALID_VALUE;
	if (!((sscanf(bus_id, "%x:%x:%x.%x%n", &domain, &bus, &slot, &function, &end) == 4 ||
	       (function = 0, sscanf(bus_id, "%x:%x:%x%n", &domain, &bus, &slot, &end)) == 3 ||
	       (domain = 0, sscanf(bus_id, "%x:%x.%x%n", &bus, &slot, &function, &end)) == 3 ||
	       (function = 0, sscanf(bus_id, "%x:%x%n", &bus, &slot, &end)) == 2) &&
	      bus_id[end] == 0))
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < sim.n_devices; i++) {
		if (domain == 0 && slot == 0 && function == 0 &&
		    sim.devices[i].shared->pci_bus == bus) {
			*dev = i;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceCanAccessPeer(int *can_access_peer, CUdevice dev, CUdevice peer_dev)
{
	struct sim_device *peer;

	ENTER_DEVICE(device, dev, can_access_peer);
	peer = sim_device_get(peer_dev);
	if (!peer)
		return CUDA_ERROR_INVALID_DEVICE;
	*can_access_peer = sim_device_peers(device, peer);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attr, CUdevice src_device,
				 CUdevice dst_device)
{
	struct sim_device *peer;
	bool reach;

	ENTER_DEVICE(device, src_device, value);
	peer = sim_device_get(dst_device);
	if (!peer || peer == device)
		return CUDA_ERROR_INVALID_DEVICE;
	reach = sim_device_peers(device, peer);
	switch ((int)attr) {
	case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
		*value = 0;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
	case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
		*value = reach;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
		*value = reach && device->profile->nvlinks && peer->profile->nvlinks;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
		*value = 0;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* Shares of SMs need MPS. */
CUresult cuDeviceGetExecAffinitySupport(int *value, CUexecAffinityType type, CUdevice dev)
{
	ENTER_DEVICE(device, dev, value);
	(void)device;
	if (type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
		return CUDA_ERROR_INVALID_VALUE;
	*value = 0;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t *width, CUarray_format format,
					    unsigned int nchannels, CUdevice dev)
{
	uint32_t bytes = sim_format_bytes(format);

	ENTER_DEVICE(device, dev, width);
	(void)device;
	if (!bytes || (nchannels != 1 && nchannels != 2 && nchannels != 4))
		return CUDA_ERROR_INVALID_VALUE;
	*width = (1ull << 28); /* elements; programming guide, all capabilities here */
	return CUDA_SUCCESS;
}

/* Nothing happens on a simulated device that a program would be told of: it is registered only. */
CUresult cuDeviceRegisterAsyncNotification(CUdevice dev, CUasyncCallback callback, void *data,
					   CUasyncCallbackHandle *handle)
{
	static uint64_t registered;

	ENTER_DEVICE(device, dev, handle);
	(void)device;
	(void)data;
	if (!callback)
		return CUDA_ERROR_INVALID_VALUE;
	*handle = (CUasyncCallbackHandle)(uintptr_t)__atomic_add_fetch(&registered, 1,
								       __ATOMIC_RELAXED);
	return CUDA_SUCCESS;
}

CUresult cuDeviceUnregisterAsyncNotification(CUdevice dev, CUasyncCallbackHandle callback)
{
	ENTER_DEVICE(device, dev, callback);
	(void)device;
	return CUDA_SUCCESS;
}
