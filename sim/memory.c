/* SPDX-License-Identifier: Apache-2.0 */
/* Linear device memory: cuMemAlloc, cuMemAllocPitch, cuMemFree, cuMemGetInfo, and what ends with a
 * context. */
#include "memory.h"

#include <stdlib.h>

#include "va.h"
#include "base/banned.h"

/* Up to here allocations share 2 MiB blocks, above they have whole frames. Source: what free memory
 * does on real cards (512 bytes take 2 MiB, the next thousands nothing). The border is a guess. */
#define SMALL_BYTES (1ull << 20)

/* Rows of cuMemAllocPitch. Source: every card since 2.0 answers multiples of 512. */
#define PITCH_ALIGN 512ull

static uint64_t align_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

CUresult sim_memory_quiesce(struct sim_context *ctx)
{
	if (ctx && !ctx->destroyed)
		return sim_exec_context_synchronize(ctx);
	return CUDA_SUCCESS;
}

/* A fresh block, in the list of those that have room. */
static CUresult new_block(struct sim_device *device, uint64_t bytes, struct sim_block **ret_block)
{
	struct sim_phys *phys;
	uint64_t base, span;
	CUresult r = sim_phys_create(device, bytes, &phys);

	if (r != CUDA_SUCCESS)
		return r;
	span = phys->n_frames * SIM_FRAME_BYTES;
	base = sim_va_reserve(span, 0, 0);
	if (!base) {
		sim_phys_put(phys);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	sim_va_map(base, phys, 0, phys->n_frames);
	sim_lock_process();
	*ret_block = sim_block_create(device, phys, base, span);
	if (*ret_block)
		aq_list_append(&device->small_blocks, &(*ret_block)->link);
	sim_unlock_process();
	if (*ret_block)
		return CUDA_SUCCESS;
	sim_va_unmap(base, span);
	sim_va_free(base, span);
	sim_phys_put(phys);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Take a block that nothing is in any more out of the books. Return: whether it was. Under
 * sim.lock; then give_back() without it. */
static bool take_empty(struct sim_block *block, struct sim_block *ret_copy)
{
	if (block->n_allocs)
		return false;
	*ret_copy = *block;
	sim_block_free(block);
	return true;
}

static void give_back(const struct sim_block *taken)
{
	sim_va_unmap(taken->base, taken->bytes);
	sim_va_free(taken->base, taken->bytes);
	sim_phys_put(taken->phys);
}

/* The block that has room for a small allocation, and where; NULL: none. Under sim.lock. */
static struct sim_block *find_room(struct sim_device *device, uint64_t span, uint64_t *ret_base)
{
	struct sim_block *b, *tmp;

	AQ_LIST_FOREACH (b, tmp, &device->small_blocks, link) {
		*ret_base = sim_block_gap(b, span);
		if (*ret_base)
			return b;
	}
	return NULL;
}

static CUresult alloc_small(struct sim_context *ctx, enum sim_memory_kind kind, size_t bytes,
			    struct sim_alloc **ret_alloc)
{
	uint64_t span = align_up(bytes, SIM_ALIGN_BYTES), base;
	struct sim_block *block, taken;
	bool empty = false;
	CUresult r;

	sim_lock_process();
	while (!(block = find_room(ctx->device, span, &base))) {
		sim_unlock_process();
		r = new_block(ctx->device, SIM_FRAME_BYTES, &block);
		if (r != CUDA_SUCCESS)
			return r;
		sim_lock_process();
	}
	*ret_alloc = sim_alloc_add_locked(kind, base, bytes, span, ctx->device, ctx);
	if (!*ret_alloc)
		empty = take_empty(block, &taken);
	sim_unlock_process();
	if (empty)
		give_back(&taken);
	return *ret_alloc ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult alloc_large(struct sim_context *ctx, enum sim_memory_kind kind, size_t bytes,
			    struct sim_alloc **ret_alloc)
{
	struct sim_phys *phys;
	uint64_t base, span;
	CUresult r = sim_phys_create(ctx->device, bytes, &phys);

	if (r != CUDA_SUCCESS)
		return r;
	span = phys->n_frames * SIM_FRAME_BYTES;
	base = sim_va_reserve(span, 0, 0);
	if (base) {
		sim_va_map(base, phys, 0, phys->n_frames);
		*ret_alloc = sim_alloc_add(kind, base, bytes, span, ctx->device, ctx);
		if (*ret_alloc) {
			(*ret_alloc)->owner = phys;
			return CUDA_SUCCESS;
		}
		sim_va_unmap(base, span);
		sim_va_free(base, span);
	}
	sim_phys_put(phys);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_linear_alloc(struct sim_context *ctx, enum sim_memory_kind kind, size_t bytes,
			  CUdeviceptr *ret_address)
{
	struct sim_alloc *a;
	CUresult r;

	if (bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = bytes <= SMALL_BYTES ? alloc_small(ctx, kind, bytes, &a)
				 : alloc_large(ctx, kind, bytes, &a);
	if (r == CUDA_SUCCESS)
		*ret_address = a->base;
	return r;
}

/* Whether sim_linear_alloc() made it. */
static bool is_linear(const struct sim_alloc *a)
{
	return a->kind == SIM_MEMORY_LINEAR || a->kind == SIM_MEMORY_GLOBAL ||
	       a->kind == SIM_MEMORY_ARRAY;
}

void sim_linear_release(struct sim_alloc *a)
{
	struct sim_block *block, taken = {.phys = a->owner, .base = a->base, .bytes = a->span};
	struct sim_alloc *whole;
	bool last = true;

	sim_lock_process();
	sim_va_lookup(a->base, &whole, &block);
	sim_alloc_forget(a);
	if (block)
		last = take_empty(block, &taken);
	sim_unlock_process();
	if (last)
		give_back(&taken);
	free(a);
}

CUresult sim_linear_free(CUdeviceptr address)
{
	struct sim_alloc *a;

	sim_lock_process();
	a = sim_alloc_find(address);
	if (!a || a->base != address || !is_linear(a)) {
		sim_unlock_process();
		return CUDA_ERROR_INVALID_VALUE;
	}
	sim_unlock_process();
	sim_linear_release(a);
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytes)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!dptr)
		return CUDA_ERROR_INVALID_VALUE;
	SIM_REFUSE_IN_CAPTURE();
	return sim_linear_alloc(ctx, SIM_MEMORY_LINEAR, bytes, dptr);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pitch, size_t width_bytes, size_t height,
			    unsigned int elem_bytes)
{
	size_t row, bytes;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!dptr || !pitch || !width_bytes || !height ||
	    (elem_bytes != 4 && elem_bytes != 8 && elem_bytes != 16))
		return CUDA_ERROR_INVALID_VALUE;
	if (width_bytes > INT32_MAX) /* CU_DEVICE_ATTRIBUTE_MAX_PITCH */
		return CUDA_ERROR_INVALID_VALUE;
	SIM_REFUSE_IN_CAPTURE();
	row = align_up(width_bytes, PITCH_ALIGN);
	if (__builtin_mul_overflow(row, height, &bytes))
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_linear_alloc(ctx, SIM_MEMORY_LINEAR, bytes, dptr);
	if (r == CUDA_SUCCESS)
		*pitch = row;
	return r;
}

struct sim_alloc *sim_memory_claim(CUdeviceptr address)
{
	struct sim_alloc *a;

	sim_lock_process();
	a = sim_alloc_find(address);
	if (a && (a->base != address || a->freeing ||
		  !(a->kind == SIM_MEMORY_MANAGED || a->kind == SIM_MEMORY_POOL ||
		    (a->kind == SIM_MEMORY_LINEAR && !a->opened))))
		a = NULL;
	if (a)
		a->freeing = true;
	sim_unlock_process();
	return a;
}

void sim_memory_release(struct sim_alloc *a)
{
	if (a->kind == SIM_MEMORY_MANAGED)
		sim_managed_release(a);
	else if (a->kind == SIM_MEMORY_POOL)
		sim_pool_free_now(a);
	else
		sim_linear_release(a);
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	struct sim_span span;
	struct sim_alloc *a;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!dptr)
		return CUDA_SUCCESS;
	SIM_REFUSE_IN_CAPTURE();
	if (sim_resolve(dptr, 0, &span) == CUDA_SUCCESS && span.kind == SIM_MEMORY_GRAPH) {
		r = sim_memory_quiesce(ctx);
		return r == CUDA_SUCCESS ? sim_graph_memory_free(NULL, dptr) : r;
	}
	a = sim_memory_claim(dptr);
	if (!a)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_memory_quiesce(a->ctx ? a->ctx : ctx);
	sim_memory_release(a);
	return r;
}

/* Free is said in whole frames, so that all of it can be had by one allocation. */
static void info(struct sim_context *ctx, uint64_t *ret_free, uint64_t *ret_total)
{
	sim_memory_info(&sim.machine, ctx->device->index, ret_free, ret_total);
	*ret_free -= *ret_free % SIM_FRAME_BYTES;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	uint64_t left, total;

	SIM_ENTER_CONTEXT(ctx);
	if (!free_bytes || !total_bytes)
		return CUDA_ERROR_INVALID_VALUE;
	info(ctx, &left, &total);
	*free_bytes = left;
	*total_bytes = total;
	return CUDA_SUCCESS;
}

/* The oldest form cannot say more than 4 GiB. */
CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total_bytes)
{
	uint64_t left, total;

	SIM_ENTER_CONTEXT(ctx);
	if (!free_bytes || !total_bytes)
		return CUDA_ERROR_INVALID_VALUE;
	info(ctx, &left, &total);
	*free_bytes = left > UINT32_MAX ? UINT32_MAX : (unsigned int)left;
	*total_bytes = total > UINT32_MAX ? UINT32_MAX : (unsigned int)total;
	return CUDA_SUCCESS;
}

void sim_memory_end_context(struct sim_context *ctx)
{
	for (;;) {
		struct sim_alloc *a = NULL;

		sim_lock_process();
		if (!aq_list_empty(&ctx->allocs)) {
			a = aq_container_of(ctx->allocs.next, struct sim_alloc, link);
			aq_list_remove(&a->link);
		}
		sim_unlock_process();
		if (!a)
			break;
		switch (a->kind) {
		case SIM_MEMORY_LINEAR:
			if (a->opened)
				sim_ipc_release(a);
			else
				sim_linear_release(a);
			break;
		case SIM_MEMORY_GLOBAL:
			sim_linear_release(a);
			break;
		case SIM_MEMORY_ARRAY:
			sim_array_release(a);
			break;
		case SIM_MEMORY_MANAGED:
			sim_managed_release(a);
			break;
		case SIM_MEMORY_PINNED:
		case SIM_MEMORY_REGISTERED:
			sim_host_release(a);
			break;
		default: /* outlives its context */
			break;
		}
	}
}
