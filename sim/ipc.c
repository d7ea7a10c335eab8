/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and events of one process in another (cuIpc*). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "va.h"
#include "base/banned.h"

#define MEMORY_MAGIC 0x4d49534341ull
#define EVENT_MAGIC 0x4549534341ull

/* What a handle says. Worthless outside its machine: the created_ns of that is in it. */
struct memory_handle {
	uint64_t magic;
	uint64_t machine;
	uint64_t id; /* of the object */
	uint64_t offset, bytes;
	uint32_t device, first;
	uint32_t process; /* slot of the exporter */
	uint32_t reserved;
};

struct event_handle {
	uint64_t magic;
	uint64_t machine;
	uint64_t id;
	uint32_t index;
	uint32_t process;
};

_Static_assert(sizeof(struct memory_handle) <= CU_IPC_HANDLE_SIZE, "handle does not fit");
_Static_assert(sizeof(struct event_handle) <= CU_IPC_HANDLE_SIZE, "handle does not fit");

/* An opened handle: alloc->array of the record, since alloc->owner is its physical memory. */
struct opened {
	unsigned int refs;
	uint64_t id, offset;
};

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr dptr)
{
	struct memory_handle h = {.magic = MEMORY_MAGIC, .process = sim.machine.self};
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct sim_block *block;
	struct sim_alloc *a, *whole;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	a = sim_alloc_find(dptr);
	if (a && a->kind == SIM_MEMORY_LINEAR && !a->opened) {
		const struct sim_phys *phys;

		sim_va_lookup(a->base, &whole, &block);
		phys = block ? block->phys : a->owner;
		h.machine = sim.machine.shared->created_ns;
		h.id = phys->id;
		h.first = phys->first;
		h.device = phys->device->index;
		h.offset = block ? a->base - block->base : 0;
		h.bytes = a->bytes;
		r = CUDA_SUCCESS;
	}
	sim_unlock_process();
	if (r == CUDA_SUCCESS) {
		memset(handle, 0, sizeof(*handle));
		memcpy(handle, &h, sizeof(h));
	}
	return r;
}

/* The same handle opened before: the same address. Under sim.lock. */
static struct sim_alloc *find_opened(struct sim_context *ctx, const struct memory_handle *h)
{
	struct sim_alloc *a, *tmp;

	AQ_LIST_FOREACH (a, tmp, &ctx->allocs, link) {
		const struct opened *o = a->array;

		if (a->kind == SIM_MEMORY_LINEAR && a->opened && o->id == h->id &&
		    o->offset == h->offset)
			return a;
	}
	return NULL;
}

/* The whole object appears, since frames are not divided; the record covers the allocation. */
static CUresult open_fresh(struct sim_context *ctx, const struct memory_handle *h,
			   CUdeviceptr *ret_address)
{
	struct opened *o = calloc(1, sizeof(*o));
	struct sim_alloc *a = NULL;
	struct sim_phys *phys;
	uint64_t base = 0, span;
	CUresult r;

	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_phys_import(ctx->device, h->first, h->id, &phys);
	if (r != CUDA_SUCCESS) {
		free(o);
		return r;
	}
	span = phys->n_frames * SIM_FRAME_BYTES;
	if (h->bytes <= span && h->offset <= span - h->bytes)
		base = sim_va_reserve(span, 0, 0);
	if (base) {
		sim_va_map(base, phys, 0, phys->n_frames);
		sim_lock_process();
		a = sim_alloc_add_locked(SIM_MEMORY_LINEAR, base, h->bytes, span, ctx->device, ctx);
		if (a) {
			/* The books know the allocation by its own address inside the object. */
			a->opened = true;
			a->owner = phys;
			a->array = o;
			*o = (struct opened){.refs = 1, .id = h->id, .offset = h->offset};
			a->base += h->offset;
			a->span -= h->offset;
		}
		sim_unlock_process();
	}
	if (a) {
		*ret_address = a->base;
		return CUDA_SUCCESS;
	}
	if (base) {
		sim_va_unmap(base, span);
		sim_va_free(base, span);
	}
	sim_phys_put(phys);
	free(o);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult open_memory(struct sim_context *ctx, CUdeviceptr *dptr,
			    const CUipcMemHandle *handle, unsigned int flags)
{
	struct memory_handle h;
	struct sim_alloc *a;

	memcpy(&h, handle, sizeof(h));
	if (!dptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS || h.magic != MEMORY_MAGIC ||
	    h.machine != sim.machine.shared->created_ns)
		return CUDA_ERROR_INVALID_VALUE;
	if (h.process == sim.machine.self)
		return CUDA_ERROR_INVALID_CONTEXT; /* a process does not open its own memory */
	if (h.device != ctx->device->index)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	a = find_opened(ctx, &h);
	if (a) {
		((struct opened *)a->array)->refs++;
		*dptr = a->base;
	}
	sim_unlock_process();
	return a ? CUDA_SUCCESS : open_fresh(ctx, &h, dptr);
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *dptr, CUipcMemHandle handle, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return open_memory(ctx, dptr, &handle, flags);
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *dptr, CUipcMemHandle handle, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return open_memory(ctx, dptr, &handle, flags);
}

void sim_ipc_release(struct sim_alloc *a)
{
	struct opened *o = a->array;

	/* As it was mapped: the whole object. */
	sim_lock_process();
	a->base -= o->offset;
	a->span += o->offset;
	sim_unlock_process();
	free(o);
	sim_linear_release(a);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr dptr)
{
	struct sim_alloc *a;
	bool last = false;
	CUresult r = CUDA_SUCCESS;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	sim_lock_process();
	a = sim_alloc_find(dptr);
	if (a && (a->base != dptr || a->kind != SIM_MEMORY_LINEAR || !a->opened || a->freeing))
		a = NULL;
	if (a)
		last = --((struct opened *)a->array)->refs == 0;
	if (last)
		a->freeing = true;
	sim_unlock_process();
	if (!a)
		return CUDA_ERROR_INVALID_VALUE;
	if (last) {
		r = sim_memory_quiesce(a->ctx);
		sim_ipc_release(a);
	}
	return r;
}

/*
 * Events.
 */

struct sim_shared_event *sim_shared_event_create(struct sim_device *device)
{
	struct sim_shared *shared = sim.machine.shared;
	struct sim_shared_event *found = NULL;

	sim_machine_lock(&sim.machine);
	for (uint32_t i = 0; i < SIM_MAX_SHARED_EVENTS && !found; i++) {
		if (!shared->events[i].id)
			found = &shared->events[i];
	}
	if (found) {
		*found = (struct sim_shared_event){
			.device = device->index,
			.process = sim.machine.self,
		};
		__atomic_store_n(&found->id, ++shared->next_event_id, __ATOMIC_RELEASE);
	}
	sim_machine_unlock(&sim.machine);
	return found;
}

void sim_shared_event_put(struct sim_shared_event *shared)
{
	sim_machine_lock(&sim.machine);
	if (shared->process == sim.machine.self)
		__atomic_store_n(&shared->id, 0, __ATOMIC_RELEASE);
	sim_machine_unlock(&sim.machine);
}

CUresult cuIpcGetEventHandle(CUipcEventHandle *handle, CUevent event)
{
	struct event_handle h = {.magic = EVENT_MAGIC, .process = sim.machine.self};
	struct sim_shared_event *shared;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_event_shared(event, &shared);
	if (r != CUDA_SUCCESS)
		return r;
	h.machine = sim.machine.shared->created_ns;
	h.id = shared->id;
	h.index = (uint32_t)(shared - sim.machine.shared->events);
	memset(handle, 0, sizeof(*handle));
	memcpy(handle, &h, sizeof(h));
	return CUDA_SUCCESS;
}

CUresult cuIpcOpenEventHandle(CUevent *event, CUipcEventHandle handle)
{
	struct sim_shared_event *shared;
	struct event_handle h;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!event)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&h, &handle, sizeof(h));
	if (h.magic != EVENT_MAGIC || h.machine != sim.machine.shared->created_ns || !h.id ||
	    h.index >= SIM_MAX_SHARED_EVENTS)
		return CUDA_ERROR_INVALID_VALUE;
	if (h.process == sim.machine.self)
		return CUDA_ERROR_INVALID_CONTEXT;
	shared = &sim.machine.shared->events[h.index];
	if (__atomic_load_n(&shared->id, __ATOMIC_ACQUIRE) != h.id)
		return CUDA_ERROR_INVALID_HANDLE;
	return sim_event_open(shared, event);
}
