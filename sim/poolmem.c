/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator of memory pools: segments of device memory, allocations in them, and frees that
 * wait for their stream. */
#include "pool.h"

#include <stdlib.h>

#include "memory.h"
#include "base/banned.h"

/* What a pool takes at a time. Source: CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT after a small first
 * allocation is 32 MiB on real cards. That larger ones are rounded to it too is a guess. */
#define SEGMENT_BYTES (32ull << 20)

static uint64_t align_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* A segment that has left its pool. */
struct segment {
	struct sim_phys *phys;
	uint64_t base, bytes;
};

static void count_used(struct sim_pool *pool, uint64_t span)
{
	pool->n_allocs++;
	pool->used_bytes += span;
	if (pool->used_bytes > pool->used_high_bytes)
		pool->used_high_bytes = pool->used_bytes;
}

/* Memory that @stream itself freed: it may have it at once, if not too much of it would lie idle.
 * Under sim.lock. */
static struct sim_alloc *reuse_own(struct sim_pool *pool, struct sim_stream *stream, uint64_t bytes)
{
	uint64_t span = align_up(bytes, SIM_ALIGN_BYTES);
	struct sim_pool_free *f, *tmp, *best = NULL;
	struct sim_alloc *a;

	AQ_LIST_FOREACH (f, tmp, &pool->pending, link) {
		if (f->stream == stream && f->alloc->span >= span &&
		    f->alloc->span - span <= span && (!best || f->alloc->span < best->alloc->span))
			best = f;
	}
	if (!best)
		return NULL;
	a = best->alloc;
	best->alloc = NULL;
	aq_list_remove(&best->link);
	a->bytes = bytes;
	a->buffer_id = sim.next_buffer_id++;
	a->freeing = a->sync_memops = false;
	pool->n_allocs--; /* counted once more by the caller */
	return a;
}

/* The segment that has room, and where; NULL: none. Under sim.lock. */
static struct sim_block *find_room(struct sim_pool *pool, uint64_t span, uint64_t *ret_base)
{
	struct sim_block *b, *tmp;

	AQ_LIST_FOREACH (b, tmp, &pool->segments, link) {
		*ret_base = sim_block_gap(b, span);
		if (*ret_base)
			return b;
	}
	return NULL;
}

/* Addresses and books for physical memory. Takes over the reference. */
static struct sim_block *add_segment(struct sim_pool *pool, struct sim_phys *phys)
{
	uint64_t span = phys->n_frames * SIM_FRAME_BYTES;
	uint64_t base = sim_va_reserve(span, 0, 0);
	struct sim_block *b = NULL;

	if (base) {
		sim_va_map(base, phys, 0, phys->n_frames);
		sim_lock_process();
		b = sim_block_create(pool->device, phys, base, span);
		if (b) {
			b->pool = pool;
			aq_list_append(&pool->segments, &b->link);
			pool->reserved_bytes += span;
			if (pool->reserved_bytes > pool->reserved_high_bytes)
				pool->reserved_high_bytes = pool->reserved_bytes;
		}
		sim_unlock_process();
		if (b)
			return b;
		sim_va_unmap(base, span);
		sim_va_free(base, span);
	}
	sim_phys_put(phys);
	return NULL;
}

/* An empty segment of @pool beyond @keep_bytes, out of its books; NULL physical memory: there is
 * none. Under sim.lock. */
static struct segment take_empty(struct sim_pool *pool, uint64_t keep_bytes)
{
	struct segment s = {.phys = NULL};
	struct sim_block *b, *tmp;

	AQ_LIST_FOREACH (b, tmp, &pool->segments, link) {
		if (b->n_allocs || pool->reserved_bytes - b->bytes < keep_bytes)
			continue;
		s = (struct segment){b->phys, b->base, b->bytes};
		pool->reserved_bytes -= b->bytes;
		sim_block_free(b);
		break;
	}
	return s;
}

static void give_back(const struct segment *s)
{
	sim_va_unmap(s->base, s->bytes);
	sim_va_free(s->base, s->bytes);
	sim_phys_put(s->phys);
}

/* What pools of a device hold unused, beyond their thresholds or all of it. */
static void trim_device(struct sim_device *device, bool all)
{
	struct segment s;

	do {
		struct sim_pool *p, *tmp;

		s.phys = NULL;
		sim_lock_process();
		AQ_LIST_FOREACH (p, tmp, &sim_pools, link) {
			if (!s.phys && p->device == device)
				s = take_empty(p, all ? 0 : p->release_threshold_bytes);
		}
		sim_unlock_process();
		if (s.phys)
			give_back(&s);
	} while (s.phys);
}

void sim_pool_synchronised(struct sim_device *device)
{
	trim_device(device, false);
}

void sim_pool_trim(struct sim_pool *pool, uint64_t keep_bytes)
{
	struct segment s;

	do {
		sim_lock_process();
		s = take_empty(pool, keep_bytes);
		sim_unlock_process();
		if (s.phys)
			give_back(&s);
	} while (s.phys);
}

static CUresult grow(struct sim_pool *pool, uint64_t bytes)
{
	uint64_t sizes[] = {align_up(bytes, SEGMENT_BYTES), align_up(bytes, SIM_FRAME_BYTES)};
	struct sim_phys *phys;

	for (int attempt = 0; attempt < 4; attempt++) {
		uint64_t size = sizes[attempt & 1];

		if (attempt == 2)
			trim_device(pool->device, true);
		if (size < bytes ||
		    (pool->props.maxSize && pool->reserved_bytes + size > pool->props.maxSize))
			continue;
		if (sim_phys_create(pool->device, size, &phys) == CUDA_SUCCESS)
			return add_segment(pool, phys) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	}
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_pool_alloc(struct sim_pool *pool, struct sim_stream *stream, size_t bytes,
			CUdeviceptr *ret_address)
{
	uint64_t span = align_up(bytes, SIM_ALIGN_BYTES), base;
	struct sim_alloc *a;
	CUresult r;

	if (span < bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sim_lock_process();
	a = stream ? reuse_own(pool, stream, bytes) : NULL;
	while (!a && !find_room(pool, span, &base)) {
		sim_unlock_process();
		r = grow(pool, bytes);
		if (r != CUDA_SUCCESS)
			return r;
		sim_lock_process();
	}
	if (!a) {
		a = sim_alloc_add_locked(SIM_MEMORY_POOL, base, bytes, span, pool->device, NULL);
		if (a)
			a->pool = pool;
	}
	if (a) {
		count_used(pool, a->span);
		*ret_address = a->base;
	}
	sim_unlock_process();
	if (!a)
		trim_device(pool->device, false);
	return a ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_pool_open(struct sim_pool *pool, struct sim_phys *phys, uint64_t offset,
		       uint64_t bytes, CUdeviceptr *ret_address)
{
	struct sim_block *b, *tmp, *segment = NULL;
	struct sim_alloc *a = NULL;
	uint64_t span = align_up(bytes, SIM_ALIGN_BYTES);

	sim_lock_process();
	AQ_LIST_FOREACH (b, tmp, &pool->segments, link) {
		if (b->phys == phys)
			segment = b;
	}
	sim_unlock_process();
	if (segment)
		sim_phys_put(phys); /* the segment has a reference already */
	else
		segment = add_segment(pool, phys);
	if (!segment)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sim_lock_process();
	if (span <= segment->bytes && offset <= segment->bytes - span &&
	    !sim_block_find(segment, segment->base + offset))
		a = sim_alloc_add_locked(SIM_MEMORY_POOL, segment->base + offset, bytes, span,
					 pool->device, NULL);
	if (a) {
		a->pool = pool;
		a->opened = true;
		count_used(pool, span);
		*ret_address = a->base;
	}
	sim_unlock_process();
	return a ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Whether a destroyed pool has nothing left; then it is the caller's to free. Under sim.lock. */
static bool is_over(struct sim_pool *pool)
{
	if (!pool->destroyed || pool->n_allocs)
		return false;
	aq_list_remove(&pool->link);
	return true;
}

static void free_pool(struct sim_pool *pool)
{
	sim_pool_trim(pool, 0);
	free(pool);
}

void sim_pool_collect(struct sim_pool *pool)
{
	bool over;

	sim_lock_process();
	over = is_over(pool);
	sim_unlock_process();
	if (over)
		free_pool(pool);
}

/* Take an allocation out of its pool. Return: the pool, if it is over. Under sim.lock. */
static struct sim_pool *remove_alloc(struct sim_alloc *a)
{
	struct sim_pool *pool = a->pool;

	pool->n_allocs--;
	sim_alloc_forget(a);
	free(a);
	return is_over(pool) ? pool : NULL;
}

void sim_pool_reached(struct sim_pool_free *f)
{
	struct sim_device *imported = NULL;
	struct sim_pool *over = NULL;

	sim_lock_process();
	if (f->alloc) {
		if (f->alloc->pool->imported)
			imported = f->alloc->pool->device;
		aq_list_remove(&f->link);
		over = remove_alloc(f->alloc);
	}
	sim_unlock_process();
	free(f);
	if (imported)
		trim_device(imported, false);
	if (over)
		free_pool(over);
}

/* cuMemFree of pool memory: its work is done. */
CUresult sim_pool_free_now(struct sim_alloc *a)
{
	struct sim_device *device = a->device;
	struct sim_pool *over;

	sim_lock_process();
	a->pool->used_bytes -= a->span;
	over = remove_alloc(a);
	sim_unlock_process();
	trim_device(device, false);
	if (over)
		free_pool(over);
	return CUDA_SUCCESS;
}
