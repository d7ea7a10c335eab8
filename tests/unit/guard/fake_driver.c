/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_driver.h. One lock for everything; addresses are slots, and slots are reused. */
#include "fake_driver.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "cuda/cuda_abi.h"
#include "fake_parts.h"

#define SLOTS 8192
#define MAX_CONTEXTS 16
#define MAX_POOLS 8
#define ADDRESS(slot) (((uint64_t)(slot) + 1) << 40)
#define EXPORT __attribute__((visibility("default")))

enum kind { NOTHING, LINEAR, POOLED, ARRAY };

static struct {
	enum kind kind;
	uint64_t bytes;
	int dev;
	int owner; /* context or pool */
} slots[SLOTS];

static struct {
	bool live;
	int dev;
} contexts[MAX_CONTEXTS]; /* the first FAKE_DEVICES are primary */

static struct {
	bool live;
	int dev;
	uint64_t reserved, used;
} pools[MAX_POOLS]; /* the first FAKE_DEVICES are default */

static struct {
	uint64_t bytes;
	int dev, handles, maps;
} objects[SLOTS];

static int handle_object[SLOTS]; /* object + 1, 0 free */

static struct {
	uint64_t ptr, bytes;
	int object; /* + 1, 0 free */
} maps[SLOTS];

static struct fake fake = {
	.total = {1ull << 34, 1ull << 34},
	.pool_step = 2 << 20,
	.pitch_align = 512,
};
pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int current = -1;
static int primary_refs[FAKE_DEVICES];

EXPORT struct fake *fake_get(void)
{
	return &fake;
}

bool fake_hold(int dev, uint64_t bytes)
{
	if (bytes > fake.total[dev] - fake.used[dev])
		return false;
	__atomic_add_fetch(&fake.used[dev], bytes, __ATOMIC_SEQ_CST);
	if (fake.used[dev] > fake.peak[dev])
		__atomic_store_n(&fake.peak[dev], fake.used[dev], __ATOMIC_SEQ_CST);
	return true;
}

void fake_drop(int dev, uint64_t bytes)
{
	__atomic_sub_fetch(&fake.used[dev], bytes, __ATOMIC_SEQ_CST);
}

/* Lock held. Return: slot, or -1. */
static int take(enum kind kind, int dev, uint64_t bytes, int owner)
{
	for (int i = 0; i < SLOTS; i++) {
		if (slots[i].kind)
			continue;
		if (kind != POOLED && !fake_hold(dev, bytes))
			return -1;
		slots[i].kind = kind;
		slots[i].bytes = bytes;
		slots[i].dev = dev;
		slots[i].owner = owner;
		return i;
	}
	return -1;
}

static CUresult allocate(enum kind kind, uint64_t bytes, uint64_t *ret)
{
	int slot;

	if (current < 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!ret || !bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (kind == LINEAR) { /* whole blocks, shared with nobody */
		if (bytes > UINT64_MAX - (FAKE_BLOCK_BYTES - 1))
			return CUDA_ERROR_OUT_OF_MEMORY;
		bytes = (bytes + FAKE_BLOCK_BYTES - 1) / FAKE_BLOCK_BYTES * FAKE_BLOCK_BYTES;
	}
	pthread_mutex_lock(&fake_lock);
	slot = take(kind, contexts[current].dev, bytes, current);
	pthread_mutex_unlock(&fake_lock);
	if (slot < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*ret = ADDRESS(slot);
	return CUDA_SUCCESS;
}

static CUresult give_back(enum kind kind, uint64_t address)
{
	uint64_t slot = (address >> 40) - 1;
	CUresult r = CUDA_SUCCESS;

	pthread_mutex_lock(&fake_lock);
	if (slot >= SLOTS || ADDRESS(slot) != address)
		r = CUDA_ERROR_INVALID_VALUE;
	else if (slots[slot].kind == POOLED && kind == LINEAR)
		pools[slots[slot].owner].used -= slots[slot].bytes;
	else if (slots[slot].kind == kind)
		fake_drop(slots[slot].dev, slots[slot].bytes);
	else
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		slots[slot].kind = NOTHING;
	pthread_mutex_unlock(&fake_lock);
	return r;
}

/* ---- start, devices ---- */

CUresult cuInit(unsigned int flags)
{
	int r = __atomic_exchange_n(&fake.fail_init, 0, __ATOMIC_SEQ_CST);

	__atomic_add_fetch(&fake.init_calls, 1, __ATOMIC_SEQ_CST);
	return flags ? CUDA_ERROR_INVALID_VALUE : (CUresult)r;
}

CUresult cuDeviceGetCount(int *count)
{
	*count = FAKE_DEVICES;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *dev, int ordinal)
{
	if (!dev)
		return CUDA_ERROR_INVALID_VALUE;
	*dev = ordinal;
	return ordinal < FAKE_DEVICES ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	memset(uuid->bytes, dev + 1, sizeof(uuid->bytes));
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	if (!bytes || dev < 0 || dev >= FAKE_DEVICES)
		return CUDA_ERROR_INVALID_VALUE;
	*bytes = fake.total[dev];
	return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *room, size_t *total)
{
	if (!room || !total)
		return CUDA_ERROR_INVALID_VALUE;
	if (current < 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	*total = fake.total[contexts[current].dev];
	*room = *total - fake.used[contexts[current].dev];
	return CUDA_SUCCESS;
}

/* ---- contexts: handles are their numbers plus 16 ---- */

static CUcontext handle_of(int ctx)
{
	return ctx < 0 ? NULL : (CUcontext)(uintptr_t)(ctx + 16);
}

static int ctx_of(CUcontext handle)
{
	int ctx = (int)(uintptr_t)handle - 16;

	return handle && ctx >= 0 && ctx < MAX_CONTEXTS && contexts[ctx].live ? ctx : -1;
}

static void begin_context(int ctx, int dev)
{
	contexts[ctx].live = true;
	contexts[ctx].dev = dev;
	__atomic_add_fetch(&fake.contexts[dev], 1, __ATOMIC_SEQ_CST);
}

static void end_context(int ctx)
{
	for (int i = 0; i < SLOTS; i++) {
		if ((slots[i].kind == LINEAR || slots[i].kind == ARRAY) && slots[i].owner == ctx) {
			fake_drop(slots[i].dev, slots[i].bytes);
			slots[i].kind = NOTHING;
		}
	}
	if (contexts[ctx].live)
		__atomic_sub_fetch(&fake.contexts[contexts[ctx].dev], 1, __ATOMIC_SEQ_CST);
	contexts[ctx].live = false;
	if (current == ctx)
		current = -1;
}

CUresult cuCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice dev)
{
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = FAKE_DEVICES; i < MAX_CONTEXTS; i++) {
		if (contexts[i].live)
			continue;
		begin_context(i, dev);
		current = i;
		*ctx = handle_of(i);
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	int i = ctx_of(ctx);

	if (i < FAKE_DEVICES)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&fake_lock);
	end_context(i);
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

/* One address under two names, as drivers have it. */
CUresult cuCtxDestroy(CUcontext ctx) __attribute__((alias("cuCtxDestroy_v2")));

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev)
{
	if (!ctx || dev < 0 || dev >= FAKE_DEVICES)
		return CUDA_ERROR_INVALID_VALUE;
	if (!primary_refs[dev]++)
		begin_context(dev, dev);
	*ctx = handle_of(dev);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	if (!primary_refs[dev])
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!--primary_refs[dev])
		end_context(dev);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
	primary_refs[dev] = 0;
	end_context(dev);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	if (dev < 0 || dev >= FAKE_DEVICES)
		return CUDA_ERROR_INVALID_DEVICE;
	*flags = 0;
	*active = primary_refs[dev] > 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	current = ctx_of(ctx);
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *ctx)
{
	__atomic_add_fetch(&fake.looks, 1, __ATOMIC_SEQ_CST);
	*ctx = handle_of(current);
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *dev)
{
	__atomic_add_fetch(&fake.looks, 1, __ATOMIC_SEQ_CST);
	if (current < 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	*dev = contexts[current].dev;
	return CUDA_SUCCESS;
}

/* Streams do nothing here, so events are always reached. */
static CUresult an_event(void)
{
	__atomic_add_fetch(&fake.events, 1, __ATOMIC_SEQ_CST);
	return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
	*event = (CUevent)(uintptr_t)16;
	return an_event();
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	return an_event();
}

CUresult cuEventQuery(CUevent event)
{
	return an_event();
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
	*ms = 0.001f;
	return an_event();
}

CUresult cuCtxSynchronize(void)
{
	pthread_mutex_lock(&fake_lock);
	for (int i = 0; i < MAX_POOLS; i++) {
		uint64_t keep =
			(pools[i].used + fake.pool_step - 1) / fake.pool_step * fake.pool_step;

		if (pools[i].reserved > keep) {
			fake_drop(pools[i].dev, pools[i].reserved - keep);
			pools[i].reserved = keep;
		}
	}
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

/* ---- linear memory, arrays ---- */

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytes)
{
	uint64_t p;
	CUresult r = allocate(LINEAR, bytes, dptr ? &p : NULL);

	if (r == CUDA_SUCCESS)
		*dptr = p;
	return r;
}

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytes, unsigned int flags)
{
	return cuMemAlloc_v2(dptr, bytes);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pitch, size_t width, size_t height,
			    unsigned int elem_bytes)
{
	if (!pitch)
		return CUDA_ERROR_INVALID_VALUE;
	*pitch = (width + fake.pitch_align - 1) / fake.pitch_align * fake.pitch_align;
	return cuMemAlloc_v2(dptr, *pitch * height);
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	__atomic_add_fetch(&fake.frees, 1, __ATOMIC_SEQ_CST);
	if (fake.fail_free)
		return (CUresult)fake.fail_free;
	return dptr ? give_back(LINEAR, dptr) : CUDA_SUCCESS;
}

CUresult cuArray3DCreate_v2(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *d)
{
	uint64_t bytes, p;
	CUresult r;

	if (!handle || !d)
		return CUDA_ERROR_INVALID_VALUE;
	bytes = d->Width * (d->Height ? d->Height : 1) * (d->Depth ? d->Depth : 1) * 4;
	r = allocate(ARRAY, bytes, &p);
	if (r == CUDA_SUCCESS)
		*handle = (CUarray)p;
	return r;
}

CUresult cuArrayDestroy(CUarray array)
{
	return give_back(ARRAY, (uint64_t)array);
}

/* ---- physical memory; a retained handle has a number of its own ---- */

static CUmemGenericAllocationHandle handle_new(int object)
{
	for (int i = 0; i < SLOTS; i++) {
		if (!handle_object[i]) {
			handle_object[i] = object + 1;
			objects[object].handles++;
			return (CUmemGenericAllocationHandle)i + 1;
		}
	}
	return 0;
}

static void object_end(int object)
{
	if (!objects[object].handles && !objects[object].maps) {
		fake_drop(objects[object].dev, objects[object].bytes);
		objects[object].bytes = 0;
	}
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	CUresult r = CUDA_ERROR_OUT_OF_MEMORY;
	int dev;

	if (!handle || !prop || !size)
		return CUDA_ERROR_INVALID_VALUE;
	dev = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? prop->location.id : 0;
	pthread_mutex_lock(&fake_lock);
	for (int i = 0; i < SLOTS && r != CUDA_SUCCESS; i++) {
		if (objects[i].bytes)
			continue;
		if (prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE && !fake_hold(dev, size))
			break;
		objects[i].bytes = size;
		objects[i].dev = dev;
		objects[i].handles = objects[i].maps = 0;
		*handle = handle_new(i);
		r = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	int object;

	pthread_mutex_lock(&fake_lock);
	if (handle && handle <= SLOTS && handle_object[handle - 1]) {
		object = handle_object[handle - 1] - 1;
		handle_object[handle - 1] = 0;
		objects[object].handles--;
		object_end(object);
		r = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
		  unsigned long long flags)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&fake_lock);
	for (int i = 0; i < SLOTS && handle && handle_object[handle - 1]; i++) {
		if (maps[i].object)
			continue;
		maps[i].ptr = ptr;
		maps[i].bytes = size;
		maps[i].object = handle_object[handle - 1];
		objects[maps[i].object - 1].maps++;
		r = CUDA_SUCCESS;
		break;
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	CUresult r = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&fake_lock);
	for (int i = 0; i < SLOTS; i++) {
		int object = maps[i].object - 1;

		if (object < 0 || maps[i].ptr < ptr || maps[i].ptr + maps[i].bytes > ptr + size)
			continue;
		maps[i].object = 0;
		objects[object].maps--;
		object_end(object);
		r = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	uint64_t a = (uintptr_t)address;
	CUresult r = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&fake_lock);
	for (int i = 0; i < SLOTS && r != CUDA_SUCCESS; i++) {
		if (maps[i].object && a - maps[i].ptr < maps[i].bytes) {
			*handle = handle_new(maps[i].object - 1);
			r = CUDA_SUCCESS;
		}
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

/* ---- pools: handles are their numbers plus 256 ---- */

static int pool_of(CUmemoryPool handle)
{
	return (int)(uintptr_t)handle - 256;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice dev)
{
	pthread_mutex_lock(&fake_lock);
	pools[dev].live = true;
	pools[dev].dev = dev;
	pthread_mutex_unlock(&fake_lock);
	*pool = (CUmemoryPool)(uintptr_t)(dev + 256);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	return cuDeviceGetDefaultMemPool(pool, dev);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	for (int i = FAKE_DEVICES; i < MAX_POOLS; i++) {
		if (pools[i].live)
			continue;
		pools[i].live = true;
		pools[i].dev = props->location.id;
		*pool = (CUmemoryPool)(uintptr_t)(i + 256);
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	int i = pool_of(pool);

	pthread_mutex_lock(&fake_lock);
	pools[i].live = false;
	if (!pools[i].used) {
		fake_drop(pools[i].dev, pools[i].reserved);
		pools[i].reserved = 0;
	}
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	int i = pool_of(pool);
	bool live;

	pthread_mutex_lock(&fake_lock);
	live = pools[i].live;
	*(uint64_t *)value =
		attr == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT ? pools[i].reserved : pools[i].used;
	pthread_mutex_unlock(&fake_lock);
	return live ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	return cuCtxSynchronize();
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
	*status = fake.capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytes, CUmemoryPool pool,
				 CUstream stream)
{
	int p = pool_of(pool), slot = -1;
	uint64_t need;

	if (!dptr || !bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (fake.capturing) {
		*dptr = ADDRESS(SLOTS);
		return CUDA_SUCCESS;
	}
	pthread_mutex_lock(&fake_lock);
	need = pools[p].used + bytes > pools[p].reserved ? pools[p].used + bytes - pools[p].reserved
							 : 0;
	need = (need + fake.pool_step - 1) / fake.pool_step * fake.pool_step;
	if (fake_hold(pools[p].dev, need)) {
		pools[p].reserved += need;
		pools[p].used += bytes;
		slot = take(POOLED, pools[p].dev, bytes, p);
	}
	pthread_mutex_unlock(&fake_lock);
	if (slot < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*dptr = ADDRESS(slot);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytes, CUstream stream)
{
	if (current < 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	return cuMemAllocFromPoolAsync(
		dptr, bytes, (CUmemoryPool)(uintptr_t)(contexts[current].dev + 256), stream);
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream stream)
{
	uint64_t slot = (dptr >> 40) - 1;
	CUresult r = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&fake_lock);
	if (slot < SLOTS && slots[slot].kind == POOLED) {
		int p = slots[slot].owner;

		slots[slot].kind = NOTHING;
		pools[p].used -= slots[slot].bytes;
		if (!pools[p].live && !pools[p].used) {
			fake_drop(pools[p].dev, pools[p].reserved);
			pools[p].reserved = 0;
		}
		r = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

/* ---- modules: one at a time ---- */

CUresult cuModuleLoadData(CUmodule *mod, const void *image)
{
	CUresult r;

	pthread_mutex_lock(&fake_lock);
	fake.module_loads++;
	r = fake_hold(0, fake.module_bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_unlock(&fake_lock);
	*mod = (CUmodule)0x10;
	return r;
}

CUresult cuModuleUnload(CUmodule mod)
{
	pthread_mutex_lock(&fake_lock);
	fake_drop(0, fake.module_bytes);
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

/* ---- looking up; three interop calls share one stub ---- */

CUresult cuLaunchKernel(CUfunction func, unsigned int gx, unsigned int gy, unsigned int gz,
			unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
			CUstream stream, void **params, void **extra)
{
	return (CUresult)gx;
}

/* One of those whose signature is unknown: any number of arguments, in all kinds of registers. */
EXPORT int cuStreamGetDevResource(long a, long b, long c, long d, long e, long f, double x,
				  double y, long on_stack);
EXPORT int cuStreamGetDevResource(long a, long b, long c, long d, long e, long f, double x,
				  double y, long on_stack)
{
	return (int)(a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f + (long)(x * y) +
		     1000000 * on_stack);
}

CUresult cuDriverGetVersion(int *version)
{
	*version = 12040;
	return CUDA_SUCCESS;
}

static CUresult unsupported(void)
{
	return CUDA_ERROR_NOT_SUPPORTED;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wattribute-alias"
CUresult cuGLCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice device)
	__attribute__((alias("unsupported")));
CUresult cuVDPAUCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice device, VdpDevice vdp,
			     VdpGetProcAddress *get) __attribute__((alias("unsupported")));
CUresult cuGLInit(void) __attribute__((alias("unsupported")));
#pragma GCC diagnostic pop

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	static const struct {
		const char *name;
		void *address;
	} known[] = {
		{"cuMemAlloc", (void *)cuMemAlloc_v2},
		{"cuMemFree", (void *)cuMemFree_v2},
		{"cuCtxDestroy", (void *)cuCtxDestroy_v2},
		{"cuLaunchKernel", (void *)cuLaunchKernel},
		{"cuGLInit", (void *)cuGLInit},
		{"cuGLCtxCreate", (void *)cuGLCtxCreate_v2},
		{"cuMemGetInfo", (void *)cuMemGetInfo_v2},
		{"cuNew", (void *)unsupported},
		{"cuDriverGetVersion", (void *)cuDriverGetVersion},
		{"cuGetProcAddress", (void *)cuGetProcAddress_v2},
		{"cuVDPAUCtxCreate", (void *)cuVDPAUCtxCreate_v2},
	};

	if (!pfn)
		return CUDA_ERROR_INVALID_VALUE;
	*pfn = NULL;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strcmp(known[i].name, symbol))
			*pfn = known[i].address;
	}
	if (status)
		*status = *pfn ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	return CUDA_SUCCESS;
}
