/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of allocation nodes; see graph_memory.h. Allocations of one instantiated graph whose lives
 * cannot overlap share memory; those of different graphs do not, unless one is gone.
 */
#include "graph_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "exec.h"

#include "base/banned.h"
#include "base/timing.h"

#define NONE SIZE_MAX

struct sim_graph_alloc {
	atomic_uint refs; /* nodes, plans, and one while it is allocated */
	struct sim_device *device;
	CUDA_MEM_ALLOC_NODE_PARAMS params;
	uint64_t address, bytes, span;
	struct sim_alloc *record;
	/* Under lock. */
	struct sim_phys *phys; /* mapped at the address; NULL: none */
	bool owns_phys;	       /* its slot is gone: the memory goes with the allocation */
	bool allocated;
	struct aq_list link; /* allocs */
};

/* Spare memory of the pool of a device. */
struct spare {
	struct aq_list link;
	struct sim_phys *phys;
};

/* Outside sim.lock, inside sim_executor.lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct aq_list allocs = {&allocs, &allocs};

/* Per device of this process; under lock. */
static struct {
	uint64_t used, used_high, reserved, reserved_high;
	struct aq_list spares;
} pools[SIM_MAX_DEVICES];

/* Instantiated graphs with memory; under lock. */
struct member {
	struct aq_list link;
	struct sim_graph_exec *exec;
};
static struct aq_list members = {&members, &members};

static uint64_t frames_up(uint64_t bytes)
{
	return (bytes + SIM_FRAME_BYTES - 1) / SIM_FRAME_BYTES * SIM_FRAME_BYTES;
}

static struct aq_list *spares_of(const struct sim_device *device)
{
	struct aq_list *l = &pools[device->ordinal].spares;

	if (!l->next)
		aq_list_init(l);
	return l;
}

/*
 * The pool: memory that is reserved, spare or in use.
 */

/* Under lock. */
static CUresult pool_take(struct sim_device *device, uint64_t bytes, struct sim_phys **ret_phys)
{
	uint32_t n_frames = (uint32_t)(bytes / SIM_FRAME_BYTES);
	struct spare *s, *tmp;
	CUresult r;

	AQ_LIST_FOREACH (s, tmp, spares_of(device), link) {
		if (s->phys->n_frames != n_frames)
			continue;
		*ret_phys = s->phys;
		aq_list_remove(&s->link);
		free(s);
		return CUDA_SUCCESS;
	}
	r = sim_phys_create(device, bytes, ret_phys);
	if (r != CUDA_SUCCESS)
		return r;
	pools[device->ordinal].reserved += bytes;
	if (pools[device->ordinal].reserved > pools[device->ordinal].reserved_high)
		pools[device->ordinal].reserved_high = pools[device->ordinal].reserved;
	return CUDA_SUCCESS;
}

static void pool_drop(struct sim_phys *phys)
{
	pools[phys->device->ordinal].reserved -= phys->n_frames * SIM_FRAME_BYTES;
	sim_phys_put(phys);
}

static void pool_return(struct sim_phys *phys)
{
	struct spare *s = malloc(sizeof(*s));

	if (!s) {
		pool_drop(phys);
		return;
	}
	s->phys = phys;
	aq_list_append(spares_of(phys->device), &s->link);
}

/*
 * Allocations.
 */

static struct sim_device *device_of(const CUmemPoolProps *p)
{
	if (p->allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    p->location.type != CU_MEM_LOCATION_TYPE_DEVICE || p->handleTypes)
		return NULL;
	return sim_device_get(p->location.id);
}

CUresult sim_graph_alloc_create(CUDA_MEM_ALLOC_NODE_PARAMS *p, struct sim_graph_alloc **ret_alloc)
{
	struct sim_device *device = device_of(&p->poolProps);
	struct sim_graph_alloc *a;

	if (!device || !p->bytesize || (p->accessDescCount && !p->accessDescs))
		return CUDA_ERROR_INVALID_VALUE;
	/* No device could ever hold it. */
	if (p->bytesize > device->shared->total_bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	a = calloc(1, sizeof(*a));
	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	atomic_init(&a->refs, 1);
	a->device = device;
	a->params = *p;
	a->params.accessDescs = NULL;
	a->params.accessDescCount = 0;
	a->bytes = p->bytesize;
	a->span = frames_up(p->bytesize);
	a->address = sim_va_reserve(a->span, 0, 0);
	if (!a->address) {
		free(a);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	a->record = sim_alloc_add(SIM_MEMORY_GRAPH, a->address, a->bytes, a->span, device, NULL);
	if (!a->record) {
		sim_va_free(a->address, a->span);
		free(a);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	a->params.dptr = a->address;
	pthread_mutex_lock(&lock);
	aq_list_append(&allocs, &a->link);
	pthread_mutex_unlock(&lock);
	*ret_alloc = a;
	return CUDA_SUCCESS;
}

struct sim_graph_alloc *sim_graph_alloc_get(struct sim_graph_alloc *a)
{
	atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	return a;
}

struct sim_graph_alloc *sim_graph_alloc_find(CUdeviceptr address)
{
	struct sim_graph_alloc *a, *tmp, *found = NULL;

	pthread_mutex_lock(&lock);
	AQ_LIST_FOREACH (a, tmp, &allocs, link)
		if (a->address == address)
			found = sim_graph_alloc_get(a);
	pthread_mutex_unlock(&lock);
	return found;
}

/* Under lock. */
static void unmap(struct sim_graph_alloc *a)
{
	if (!a->phys)
		return;
	sim_va_unmap(a->address, a->span);
	if (a->owns_phys)
		pool_return(a->phys);
	a->phys = NULL;
	a->owns_phys = false;
}

void sim_graph_alloc_put(struct sim_graph_alloc *a)
{
	pthread_mutex_lock(&lock);
	/* Under the lock, so that nobody finds it meanwhile. */
	if (atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1) {
		pthread_mutex_unlock(&lock);
		return;
	}
	aq_list_remove(&a->link);
	unmap(a);
	pthread_mutex_unlock(&lock);
	sim_alloc_remove(a->record);
	sim_va_free(a->address, a->span);
	free(a);
}

CUdeviceptr sim_graph_alloc_address(const struct sim_graph_alloc *a)
{
	return a->address;
}

void sim_graph_alloc_params(const struct sim_graph_alloc *a, CUDA_MEM_ALLOC_NODE_PARAMS *ret)
{
	*ret = a->params;
}

/* Under lock. */
static void set_allocated(struct sim_graph_alloc *a)
{
	uint64_t *used = &pools[a->device->ordinal].used;

	a->allocated = true;
	sim_graph_alloc_get(a);
	*used += a->bytes;
	if (*used > pools[a->device->ordinal].used_high)
		pools[a->device->ordinal].used_high = *used;
}

/* Under lock. The caller gives up the reference, later. */
static void set_free(struct sim_graph_alloc *a)
{
	a->allocated = false;
	pools[a->device->ordinal].used -= a->bytes;
}

/*
 * Instantiated graphs.
 */

/* Whether node @to waits for node @from, by whatever way. */
static bool waits_for(const struct sim_plan *p, size_t to, size_t from)
{
	AQ_CLEANUP(free) uint8_t *seen = calloc(p->n_nodes, 1);

	if (!seen)
		return false; /* costs memory, not correctness */
	seen[to] = 1;
	for (size_t i = to; i > from; i--) {
		if (!seen[i])
			continue;
		for (size_t k = 0; k < p->nodes[i].n_deps; k++)
			seen[p->nodes[i].deps[k]] = 1;
	}
	return seen[from];
}

/* Node that frees what node @i allocates, in the same plan. */
static size_t freed_by(const struct sim_plan *p, size_t i)
{
	for (size_t k = i + 1; k < p->n_nodes; k++)
		if (p->nodes[k].body.type == CU_GRAPH_NODE_TYPE_MEM_FREE &&
		    p->nodes[k].body.alloc == p->nodes[i].body.alloc)
			return k;
	return NONE;
}

/* A slot that node @i can use: the last to use it was freed before. */
static size_t find_slot(const struct sim_graph_exec *x, size_t i, const size_t *last_free)
{
	const struct sim_graph_alloc *a = x->plan->nodes[i].body.alloc;

	for (size_t k = 0; k < x->n_slots; k++)
		if (x->slots[k].device == a->device && x->slots[k].bytes == a->span &&
		    last_free[k] != NONE && last_free[k] < i && waits_for(x->plan, i, last_free[k]))
			return k;
	return NONE;
}

CUresult sim_graph_memory_instantiate(struct sim_graph_exec *x)
{
	struct sim_plan *p = x->plan;
	AQ_CLEANUP(free) size_t *last_free = calloc(p->n_nodes + 1, sizeof(*last_free));
	struct member *m;

	if (!p->has_memory)
		return CUDA_SUCCESS;
	m = malloc(sizeof(*m));
	x->slots = calloc(p->n_nodes + 1, sizeof(*x->slots));
	if (!last_free || !m || !x->slots) {
		free(m);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	for (size_t i = 0; i < p->n_nodes; i++) {
		struct sim_plan_node *n = &p->nodes[i];

		if (n->body.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC)
			continue;
		n->slot = find_slot(x, i, last_free);
		if (n->slot == NONE) {
			n->slot = x->n_slots++;
			x->slots[n->slot].device = n->body.alloc->device;
			x->slots[n->slot].bytes = n->body.alloc->span;
		}
		last_free[n->slot] = freed_by(p, i);
	}
	m->exec = x;
	pthread_mutex_lock(&lock);
	aq_list_append(&members, &m->link);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

CUresult sim_graph_memory_map(struct sim_graph_exec *x)
{
	CUresult r = CUDA_SUCCESS;

	if (!x->n_slots)
		return CUDA_SUCCESS;
	pthread_mutex_lock(&lock);
	for (size_t k = 0; k < x->n_slots && r == CUDA_SUCCESS; k++)
		if (!x->slots[k].phys)
			r = pool_take(x->slots[k].device, x->slots[k].bytes, &x->slots[k].phys);
	for (size_t i = 0; i < x->plan->n_nodes && r == CUDA_SUCCESS; i++) {
		struct sim_plan_node *n = &x->plan->nodes[i];
		struct sim_graph_alloc *a = n->body.alloc;

		if (n->body.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || a->phys)
			continue;
		a->phys = x->slots[n->slot].phys;
		sim_va_map(a->address, a->phys, 0, a->phys->n_frames);
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/* Whether node @i frees what is, or then will be, allocated. Under lock. */
static bool free_valid(const struct sim_plan *p, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (p->nodes[k].body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC &&
		    p->nodes[k].body.alloc == p->nodes[i].body.alloc)
			return true;
	return p->nodes[i].body.alloc->allocated;
}

/* Under lock. */
static CUresult check_launch(const struct sim_plan *p, bool free_first)
{
	for (size_t i = 0; i < p->n_nodes; i++) {
		const struct sim_graph_alloc *a = p->nodes[i].body.alloc;

		if (p->nodes[i].body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
			if (a->allocated && !free_first)
				return CUDA_ERROR_INVALID_VALUE;
		} else if (a && !free_valid(p, i)) {
			return CUDA_ERROR_INVALID_VALUE;
		}
	}
	return CUDA_SUCCESS;
}

CUresult sim_graph_memory_launch(struct sim_graph_exec *x)
{
	bool free_first = x->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
	struct sim_plan *p = x->plan;
	struct sim_graph_alloc **puts;
	size_t n_puts = 0;
	CUresult r;

	if (!p->has_memory)
		return CUDA_SUCCESS;
	puts = calloc(2 * p->n_nodes + 1, sizeof(struct sim_graph_alloc *));
	if (!puts)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&lock);
	r = check_launch(p, free_first);
	for (size_t i = 0; i < p->n_nodes && r == CUDA_SUCCESS; i++) {
		struct sim_graph_alloc *a = p->nodes[i].body.alloc;

		if (!a)
			continue;
		if (a->allocated) { /* by a launch before, or by a node before */
			set_free(a);
			puts[n_puts++] = a;
		}
		if (p->nodes[i].body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
			set_allocated(a);
	}
	pthread_mutex_unlock(&lock);
	while (n_puts)
		sim_graph_alloc_put(puts[--n_puts]);
	free(puts);
	return r;
}

/* Whether the memory of a slot is in use by something that is allocated. Under lock. */
static bool slot_in_use(const struct sim_graph_exec *x, size_t slot)
{
	for (size_t i = 0; i < x->plan->n_nodes; i++) {
		const struct sim_plan_node *n = &x->plan->nodes[i];

		if (n->body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && n->slot == slot &&
		    n->body.alloc->allocated)
			return true;
	}
	return false;
}

/* Take the memory of a slot away from its addresses. Under lock. */
static void slot_unmap(struct sim_graph_exec *x, size_t slot)
{
	for (size_t i = 0; i < x->plan->n_nodes; i++) {
		struct sim_plan_node *n = &x->plan->nodes[i];

		if (n->body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && n->slot == slot)
			unmap(n->body.alloc);
	}
}

/* What is still allocated keeps the memory of its slot. Under lock. */
static void slot_bequeath(struct sim_graph_exec *x, size_t slot)
{
	for (size_t i = 0; i < x->plan->n_nodes; i++) {
		struct sim_plan_node *n = &x->plan->nodes[i];

		if (n->body.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || n->slot != slot)
			continue;
		if (n->body.alloc->allocated)
			n->body.alloc->owns_phys = true;
		else
			unmap(n->body.alloc);
	}
}

void sim_graph_memory_release(struct sim_graph_exec *x)
{
	struct member *m, *tmp;

	if (!x->slots)
		return;
	pthread_mutex_lock(&lock);
	AQ_LIST_FOREACH (m, tmp, &members, link) {
		if (m->exec != x)
			continue;
		aq_list_remove(&m->link);
		free(m);
	}
	for (size_t k = 0; k < x->n_slots; k++) {
		if (!x->slots[k].phys)
			continue;
		if (slot_in_use(x, k)) {
			slot_bequeath(x, k);
		} else {
			slot_unmap(x, k);
			pool_return(x->slots[k].phys);
		}
		x->slots[k].phys = NULL;
	}
	pthread_mutex_unlock(&lock);
	free(x->slots);
	x->slots = NULL;
	x->n_slots = 0;
}

void sim_graph_memory_detach(struct sim_graph *g)
{
	struct member *m, *tmp;

	pthread_mutex_lock(&lock);
	AQ_LIST_FOREACH (m, tmp, &members, link)
		if (m->exec->graph == g)
			m->exec->graph = NULL;
	pthread_mutex_unlock(&lock);
}

void sim_graph_memory_context_gone(struct sim_context *ctx)
{
	/* Memory of graphs belongs to the device, as that of pools does. */
}

/*
 * Freeing outside graphs.
 */

static void freed(void *arg)
{
	struct sim_graph_alloc *a = arg;

	pthread_mutex_lock(&lock);
	/* Its instantiated graph is gone: the memory is spare from now on. Not when it has been
	 * allocated again, which only a living one can do. */
	if (a->owns_phys && !a->allocated)
		unmap(a);
	pthread_mutex_unlock(&lock);
	sim_graph_alloc_put(a);
}

CUresult sim_graph_memory_free(struct sim_stream *stream, CUdeviceptr address)
{
	struct sim_graph_alloc *a = sim_graph_alloc_find(address);
	CUresult r = CUDA_SUCCESS;

	if (!a)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (a->allocated)
		set_free(a); /* whoever allocated it handed over its reference to freed() */
	else
		r = CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&lock);
	sim_graph_alloc_put(a);
	if (r != CUDA_SUCCESS)
		return r;
	if (!stream) {
		freed(a);
		return CUDA_SUCCESS;
	}
	r = sim_exec_call(stream, freed, a);
	if (r != CUDA_SUCCESS)
		freed(a);
	return r;
}

/*
 * Entry points.
 */

CUresult cuDeviceGetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	struct sim_device *device;
	cuuint64_t n;

	SIM_ENTER();
	device = sim_device_get(dev);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	switch (attr) {
	case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
		n = pools[device->ordinal].used;
		break;
	case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
		n = pools[device->ordinal].used_high;
		break;
	case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
		n = pools[device->ordinal].reserved;
		break;
	case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
		n = pools[device->ordinal].reserved_high;
		break;
	default:
		pthread_mutex_unlock(&lock);
		return CUDA_ERROR_INVALID_VALUE;
	}
	pthread_mutex_unlock(&lock);
	memcpy(value, &n, sizeof(n));
	return CUDA_SUCCESS;
}

/* The high marks can be set back to the present, by 0, and to nothing else. */
CUresult cuDeviceSetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	struct sim_device *device;
	cuuint64_t n;

	SIM_ENTER();
	device = sim_device_get(dev);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!value || (attr != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH &&
		       attr != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH))
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&n, value, sizeof(n));
	if (n)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
		pools[device->ordinal].used_high = pools[device->ordinal].used;
	else
		pools[device->ordinal].reserved_high = pools[device->ordinal].reserved;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* Memory of graphs that are not running and left nothing allocated. Under both locks. */
static void trim_idle(const struct sim_device *device)
{
	uint64_t now = aq_now_ns();
	struct member *m, *tmp;

	AQ_LIST_FOREACH (m, tmp, &members, link) {
		struct sim_graph_exec *x = m->exec;

		if (x->last && !sim_mark_past(x->last, now))
			continue;
		for (size_t k = 0; k < x->n_slots; k++) {
			if (!x->slots[k].phys || x->slots[k].device != device || slot_in_use(x, k))
				continue;
			slot_unmap(x, k);
			pool_drop(x->slots[k].phys);
			x->slots[k].phys = NULL;
		}
	}
}

CUresult cuDeviceGraphMemTrim(CUdevice dev)
{
	struct sim_device *device;
	struct spare *s, *tmp;

	SIM_ENTER();
	device = sim_device_get(dev);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	sim_exec_lock();
	pthread_mutex_lock(&lock);
	AQ_LIST_FOREACH (s, tmp, spares_of(device), link) {
		aq_list_remove(&s->link);
		pool_drop(s->phys);
		free(s);
	}
	trim_idle(device);
	pthread_mutex_unlock(&lock);
	sim_exec_unlock();
	return CUDA_SUCCESS;
}
