/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory that devices may use: pinned, registered, and its device addresses. Under unified
 * addressing these are the host's own. */
#include "memory.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "va.h"
#include "base/banned.h"

#define HOST_ALLOC_FLAGS                                                                           \
	(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define REGISTER_FLAGS                                                                             \
	(CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |                              \
	 CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY)

static uint64_t page_up(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) & ~(page - 1);
}

/* Nothing is locked into memory: a simulated device does not mind, and limits on it are small. */
static CUresult alloc_pinned(struct sim_context *ctx, void **ret, size_t bytes, unsigned int flags)
{
	uint64_t span = page_up(bytes);
	struct sim_alloc *a;
	void *p;

	if (!ret || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	SIM_REFUSE_IN_CAPTURE();
	if (span < bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	(void)madvise(p, span, MADV_HUGEPAGE);
	a = sim_alloc_add(SIM_MEMORY_PINNED, (uint64_t)(uintptr_t)p, bytes, span, ctx->device, ctx);
	if (!a) {
		munmap(p, span);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	a->flags = flags;
	*ret = p;
	return CUDA_SUCCESS;
}

void sim_host_release(struct sim_alloc *a)
{
	void *p = (void *)(uintptr_t)a->base;
	bool ours = a->kind == SIM_MEMORY_PINNED;
	uint64_t span = a->span;

	sim_alloc_remove(a);
	if (ours)
		munmap(p, span);
}

CUresult cuMemHostAlloc(void **ret_ptr, size_t bytes, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	if (flags & ~(unsigned int)HOST_ALLOC_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	return alloc_pinned(ctx, ret_ptr, bytes, flags);
}

/* As the driver has it under unified addressing: portable and mapped. */
CUresult cuMemAllocHost_v2(void **ret_ptr, size_t bytes)
{
	SIM_ENTER_CONTEXT(ctx);
	return alloc_pinned(ctx, ret_ptr, bytes,
			    CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
}

CUresult cuMemAllocHost(void **ret_ptr, unsigned int bytes)
{
	SIM_ENTER_CONTEXT(ctx);
	return alloc_pinned(ctx, ret_ptr, bytes,
			    CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
}

/* The allocation of @kind that begins at @p, now only this thread's to free; NULL: none. */
static struct sim_alloc *claim(const void *p, enum sim_memory_kind kind)
{
	struct sim_alloc *a;

	sim_lock_process();
	a = sim_alloc_find((uint64_t)(uintptr_t)p);
	if (a && (a->base != (uint64_t)(uintptr_t)p || a->kind != kind || a->freeing))
		a = NULL;
	if (a)
		a->freeing = true;
	sim_unlock_process();
	return a;
}

static CUresult end_host(void *p, enum sim_memory_kind kind, CUresult unknown)
{
	struct sim_alloc *a;
	CUresult r;

	SIM_REFUSE_IN_CAPTURE();
	a = claim(p, kind);
	if (!a)
		return unknown;
	r = sim_memory_quiesce(a->ctx);
	sim_host_release(a);
	return r;
}

CUresult cuMemFreeHost(void *p)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	return end_host(p, SIM_MEMORY_PINNED, CUDA_ERROR_INVALID_VALUE);
}

static CUresult register_host(struct sim_context *ctx, void *p, size_t bytes, unsigned int flags)
{
	uint64_t base = (uint64_t)(uintptr_t)p;
	struct sim_alloc *a, *first, *last;

	if (!p || bytes == 0 || base + bytes < base || (flags & ~(unsigned int)REGISTER_FLAGS))
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_va_contains(base))
		return CUDA_ERROR_INVALID_VALUE;
	SIM_REFUSE_IN_CAPTURE();
	sim_lock_process();
	first = sim_alloc_find(base);
	last = sim_alloc_find(base + bytes - 1);
	a = first || last ? NULL
			  : sim_alloc_add_locked(SIM_MEMORY_REGISTERED, base, bytes, bytes,
						 ctx->device, ctx);
	if (a)
		a->flags = flags;
	sim_unlock_process();
	if (first || last)
		return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	return a ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemHostRegister(void *p, size_t bytes, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return register_host(ctx, p, bytes, flags);
}

CUresult cuMemHostRegister_v2(void *p, size_t bytes, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return register_host(ctx, p, bytes, flags);
}

CUresult cuMemHostUnregister(void *p)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	return end_host(p, SIM_MEMORY_REGISTERED, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *dptr, void *p, unsigned int flags)
{
	struct sim_span span;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!dptr || !p || flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_resolve((CUdeviceptr)(uintptr_t)p, 0, &span) != CUDA_SUCCESS ||
	    (span.kind != SIM_MEMORY_PINNED && span.kind != SIM_MEMORY_REGISTERED))
		return CUDA_ERROR_INVALID_VALUE;
	*dptr = (CUdeviceptr)(uintptr_t)p;
	return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *p)
{
	struct sim_span span;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!flags || !p)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_resolve((CUdeviceptr)(uintptr_t)p, 0, &span) != CUDA_SUCCESS ||
	    span.kind != SIM_MEMORY_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	/* Unified addressing maps everything. */
	*flags = span.flags | CU_MEMHOSTALLOC_DEVICEMAP;
	return CUDA_SUCCESS;
}
