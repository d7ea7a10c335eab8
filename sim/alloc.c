/* SPDX-License-Identifier: Apache-2.0 */
/* The books of allocations: which one an address belongs to. And physical objects as this process
 * holds them. Takes and frees frames; does not know which entry point asked. */
#include "va.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* Allocations at host addresses (pinned, registered, managed), sorted by base. Under sim.lock. */
static struct sim_alloc **hosts;
static size_t n_hosts, hosts_room;

static size_t hosts_above(uint64_t address)
{
	size_t low = 0, high = n_hosts;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (hosts[middle]->base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool hosts_insert(struct sim_alloc *alloc)
{
	size_t i;

	if (n_hosts == hosts_room) {
		size_t room = hosts_room ? hosts_room * 2 : 32;
		struct sim_alloc **more = reallocarray(hosts, room, sizeof(*more));

		if (!more)
			return false;
		hosts = more;
		hosts_room = room;
	}
	i = hosts_above(alloc->base);
	memmove(&hosts[i + 1], &hosts[i], (n_hosts - i) * sizeof(*hosts));
	hosts[i] = alloc;
	n_hosts++;
	return true;
}

static void hosts_remove(struct sim_alloc *alloc)
{
	size_t i = hosts_above(alloc->base);

	if (!i || hosts[i - 1] != alloc)
		return;
	memmove(&hosts[i - 1], &hosts[i], (n_hosts - i) * sizeof(*hosts));
	n_hosts--;
}

struct sim_alloc *sim_alloc_find(uint64_t address)
{
	struct sim_alloc *a;
	struct sim_block *b;
	size_t i;

	if (sim_va_contains(address)) {
		sim_va_lookup(address, &a, &b);
		return b ? sim_block_find(b, address) : a;
	}
	i = hosts_above(address);
	a = i ? hosts[i - 1] : NULL;
	return a && address - a->base < a->span ? a : NULL;
}

struct sim_alloc *sim_alloc_add_locked(enum sim_memory_kind kind, uint64_t base, uint64_t bytes,
				       uint64_t span, struct sim_device *device,
				       struct sim_context *ctx)
{
	struct sim_alloc *a = calloc(1, sizeof(*a)), *old;
	struct sim_block *block = NULL;

	if (!a)
		return NULL;
	a->kind = kind;
	a->base = base;
	a->bytes = bytes;
	a->span = span;
	a->device = device;
	a->ctx = ctx;
	a->buffer_id = sim.next_buffer_id++;
	aq_list_init(&a->link);
	if (!sim_va_contains(base)) {
		if (!hosts_insert(a)) {
			free(a);
			return NULL;
		}
	} else {
		sim_va_lookup(base, &old, &block);
		if (!block) {
			sim_va_set_alloc(base, span, a);
		} else if (sim_block_insert(block, a) < 0) {
			free(a);
			return NULL;
		}
	}
	if (ctx)
		aq_list_append(&ctx->allocs, &a->link);
	return a;
}

void sim_alloc_forget(struct sim_alloc *alloc)
{
	struct sim_block *block;
	struct sim_alloc *old;

	if (!sim_va_contains(alloc->base)) {
		hosts_remove(alloc);
	} else {
		sim_va_lookup(alloc->base, &old, &block);
		if (block)
			sim_block_remove(block, alloc);
		else
			sim_va_set_alloc(alloc->base, alloc->span, NULL);
	}
	aq_list_remove(&alloc->link);
}

struct sim_alloc *sim_alloc_add(enum sim_memory_kind kind, uint64_t base, uint64_t bytes,
				uint64_t span, struct sim_device *device, struct sim_context *ctx)
{
	struct sim_alloc *a;

	sim_lock_process();
	a = sim_alloc_add_locked(kind, base, bytes, span, device, ctx);
	sim_unlock_process();
	return a;
}

void sim_alloc_remove(struct sim_alloc *alloc)
{
	sim_lock_process();
	sim_alloc_forget(alloc);
	sim_unlock_process();
	free(alloc);
}

CUresult sim_resolve(CUdeviceptr address, size_t bytes, struct sim_span *ret_span)
{
	const struct sim_alloc *a;
	CUresult r = CUDA_SUCCESS;

	*ret_span = (struct sim_span){.kind = SIM_MEMORY_NONE};
	sim_lock_process();
	a = sim_alloc_find(address);
	if (a)
		*ret_span = (struct sim_span){
			.kind = a->kind,
			.device = a->device,
			.ctx = a->ctx,
			.base = a->base,
			.bytes = a->bytes,
			.flags = a->flags,
		};
	sim_unlock_process();
	if (!sim_va_contains(address))
		return r;
	/* Mapped memory may go on in the next mapping; others end where they end. */
	if (!a)
		r = CUDA_ERROR_INVALID_VALUE;
	else if (ret_span->kind == SIM_MEMORY_VMM)
		r = sim_va_mapped(address, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ)
			    ? CUDA_SUCCESS
			    : CUDA_ERROR_INVALID_VALUE;
	else if (bytes > ret_span->bytes || address - ret_span->base > ret_span->bytes - bytes)
		r = CUDA_ERROR_INVALID_VALUE;
	return r;
}

/* A process has one reference to an object in shared memory, however often it imports it. So taking
 * the first and giving up the last of them are one at a time. Outside sim.lock. */
static pthread_mutex_t import_lock = PTHREAD_MUTEX_INITIALIZER;

/* Under sim.lock. */
static struct sim_phys *find_phys(struct sim_device *device, uint32_t first, uint64_t id)
{
	struct sim_phys *p, *tmp;

	AQ_LIST_FOREACH (p, tmp, &sim.physes, link) {
		if (p->device == device && p->first == first && p->id == id)
			return p;
	}
	return NULL;
}

static struct sim_phys *new_phys(struct sim_device *device, uint32_t n_frames)
{
	struct sim_phys *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->frames = calloc(n_frames, sizeof(*p->frames));
	if (!p->frames) {
		free(p);
		return NULL;
	}
	p->device = device;
	p->n_frames = n_frames;
	p->refs = 1;
	p->prop = (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device->ordinal},
	};
	return p;
}

static void free_phys(struct sim_phys *p)
{
	free(p->frames);
	free(p);
}

CUresult sim_phys_create(struct sim_device *device, uint64_t bytes, struct sim_phys **ret_phys)
{
	uint64_t n = (bytes + SIM_FRAME_BYTES - 1) / SIM_FRAME_BYTES;
	struct sim_phys *p;
	CUresult r = sim_device_map(device);

	if (r != CUDA_SUCCESS)
		return r;
	/* Also where bytes + 2 MiB wrapped round. */
	if (bytes == 0 || n == 0 || bytes > device->shared->total_bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p = new_phys(device, (uint32_t)n);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (sim_frames_alloc(&sim.machine, device->index, p->n_frames, &p->first, &p->id) < 0) {
		free_phys(p);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	sim_frames_list(&sim.machine, device->index, p->first, p->id, p->frames, p->n_frames);
	sim_lock_process();
	aq_list_append(&sim.physes, &p->link);
	sim_unlock_process();
	*ret_phys = p;
	return CUDA_SUCCESS;
}

/* An object that this process does not have yet. Under import_lock. */
static CUresult import_new(struct sim_device *device, uint32_t first, uint64_t id,
			   struct sim_phys **ret_phys)
{
	uint32_t n = sim_frames_count(&sim.machine, device->index, first, id);
	struct sim_phys *p;

	if (n == 0)
		return CUDA_ERROR_INVALID_VALUE;
	p = new_phys(device, n);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p->first = first;
	p->id = id;
	p->imported = true;
	if (sim_frames_hold(&sim.machine, device->index, first, id) < 0) {
		free_phys(p);
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (sim_frames_list(&sim.machine, device->index, first, id, p->frames, n) < 0) {
		sim_frames_release(&sim.machine, device->index, first, id);
		free_phys(p);
		return CUDA_ERROR_INVALID_VALUE;
	}
	sim_lock_process();
	aq_list_append(&sim.physes, &p->link);
	sim_unlock_process();
	*ret_phys = p;
	return CUDA_SUCCESS;
}

CUresult sim_phys_import(struct sim_device *device, uint32_t first, uint64_t id,
			 struct sim_phys **ret_phys)
{
	struct sim_phys *known;
	CUresult r = sim_device_map(device);

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&import_lock);
	sim_lock_process();
	known = find_phys(device, first, id);
	if (known)
		known->refs++;
	sim_unlock_process();
	if (known)
		*ret_phys = known;
	else
		r = import_new(device, first, id, ret_phys);
	pthread_mutex_unlock(&import_lock);
	return r;
}

void sim_phys_get(struct sim_phys *phys)
{
	sim_lock_process();
	phys->refs++;
	sim_unlock_process();
}

void sim_phys_put(struct sim_phys *phys)
{
	bool last;

	pthread_mutex_lock(&import_lock);
	sim_lock_process();
	last = --phys->refs == 0;
	if (last)
		aq_list_remove(&phys->link);
	sim_unlock_process();
	if (last) {
		sim_frames_release(&sim.machine, phys->device->index, phys->first, phys->id);
		free_phys(phys);
	}
	pthread_mutex_unlock(&import_lock);
}
