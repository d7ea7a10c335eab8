/* SPDX-License-Identifier: Apache-2.0 */
/* Pools of one process in another: a descriptor names the pool, 64 bytes name a pointer of it. The
 * descriptor keeps no memory alive; an imported pointer does. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool.h"
#include "base/banned.h"

#define POOL_MAGIC 0x4c4f4f5034514cull
#define POINTER_MAGIC 0x525450344c4full

struct pool_record {
	uint64_t magic;
	uint64_t machine; /* created_ns of the machine */
	uint64_t uid;
	uint32_t device;
	uint32_t reserved;
};

struct pointer_record {
	uint64_t magic;
	uint64_t uid; /* of the pool */
	uint64_t id;  /* of the object */
	uint64_t offset, bytes;
	uint32_t device, first;
};

_Static_assert(sizeof(struct pointer_record) <= sizeof(CUmemPoolPtrExportData), "does not fit");

/* A number that no other pool of the machine has. Under sim.lock. */
static uint64_t uid_of(struct sim_pool *pool)
{
	static uint32_t last;

	if (!pool->uid)
		pool->uid = ((uint64_t)getpid() << 32) | ++last;
	return pool->uid;
}

CUresult cuMemPoolExportToShareableHandle(void *handle, CUmemoryPool pool,
					  CUmemAllocationHandleType type, unsigned long long flags)
{
	struct pool_record record = {.magic = POOL_MAGIC};
	struct sim_pool *p;
	int fd;

	SIM_ENTER();
	if (!handle || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	p = sim_pool_find(pool);
	if (p &&
	    (p->imported || !(p->props.handleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)))
		p = NULL;
	if (p) {
		record.machine = sim.machine.shared->created_ns;
		record.uid = uid_of(p);
		record.device = p->device->index;
	}
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	fd = memfd_create("aliquot-sim-pool", MFD_CLOEXEC);
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	if (pwrite(fd, &record, sizeof(record), 0) != (ssize_t)sizeof(record)) {
		close(fd);
		return CUDA_ERROR_OPERATING_SYSTEM;
	}
	memcpy(handle, &fd, sizeof(fd));
	return CUDA_SUCCESS;
}

static struct sim_device *device_by_index(uint32_t index)
{
	for (int i = 0; i < sim.n_devices; i++) {
		if (sim.devices[i].index == index)
			return &sim.devices[i];
	}
	return NULL;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle,
					    CUmemAllocationHandleType type,
					    unsigned long long flags)
{
	CUmemPoolProps props = {
		.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE},
	};
	struct pool_record record;
	struct sim_device *device;
	struct sim_pool *p;

	SIM_ENTER();
	if (!pool || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	if (pread((int)(intptr_t)handle, &record, sizeof(record), 0) != (ssize_t)sizeof(record) ||
	    record.magic != POOL_MAGIC || record.machine != sim.machine.shared->created_ns)
		return CUDA_ERROR_INVALID_VALUE;
	device = device_by_index(record.device);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	props.location.id = device->ordinal;
	sim_lock_process();
	p = sim_pool_new(device, &props);
	if (p) {
		p->imported = true;
		p->uid = record.uid;
	}
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pool = (CUmemoryPool)p;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *share_data, CUdeviceptr ptr)
{
	struct pointer_record record = {.magic = POINTER_MAGIC};
	struct sim_alloc *a, *whole;
	struct sim_block *block;
	bool found = false;

	SIM_ENTER();
	if (!share_data)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	a = sim_alloc_find(ptr);
	if (a && a->kind == SIM_MEMORY_POOL && a->base == ptr && !a->freeing && !a->opened &&
	    (a->pool->props.handleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)) {
		sim_va_lookup(ptr, &whole, &block);
		record.uid = uid_of(a->pool);
		record.id = block->phys->id;
		record.first = block->phys->first;
		record.device = a->device->index;
		record.offset = ptr - block->base;
		record.bytes = a->bytes;
		found = true;
	}
	sim_unlock_process();
	if (!found)
		return CUDA_ERROR_INVALID_VALUE;
	memset(share_data, 0, sizeof(*share_data));
	memcpy(share_data, &record, sizeof(record));
	return CUDA_SUCCESS;
}

CUresult cuMemPoolImportPointer(CUdeviceptr *ptr, CUmemoryPool pool,
				CUmemPoolPtrExportData *share_data)
{
	struct pointer_record record;
	struct sim_phys *phys;
	struct sim_pool *p;
	CUresult r;

	SIM_ENTER();
	if (!ptr || !share_data)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&record, share_data, sizeof(record));
	sim_lock_process();
	p = sim_pool_find(pool);
	if (p && (!p->imported || record.magic != POINTER_MAGIC || record.uid != p->uid ||
		  record.device != p->device->index))
		p = NULL;
	sim_unlock_process();
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_phys_import(p->device, record.first, record.id, &phys);
	return r == CUDA_SUCCESS ? sim_pool_open(p, phys, record.offset, record.bytes, ptr) : r;
}
