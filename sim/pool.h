/* SPDX-License-Identifier: Apache-2.0 */
/* Memory pools: what the entry points (pool.c, poolshare.c) and the allocator (poolmem.c) share. */
#ifndef SIM_POOL_H
#define SIM_POOL_H

#include "va.h"

/* All under sim.lock. */
struct sim_pool {
	struct sim_device *device;
	CUmemPoolProps props;
	bool is_default;
	bool imported;	/* of another process: nothing is allocated from it here */
	bool destroyed; /* goes when the last allocation does */
	uint64_t uid;	/* of the exporter's pool, for imported pointers */
	int reuse[3];	/* CU_MEMPOOL_ATTR_REUSE_*, in order */
	uint64_t release_threshold_bytes;
	uint64_t reserved_bytes, reserved_high_bytes;
	uint64_t used_bytes, used_high_bytes;
	uint32_t n_allocs;		/* those whose free has not been reached included */
	uint8_t peers[SIM_MAX_DEVICES]; /* CUmemAccess_flags by ordinal */
	struct aq_list segments;	/* struct sim_block */
	struct aq_list pending;		/* struct sim_pool_free: freed, stream not there yet */
	struct aq_list link;		/* of all pools */
};

/* A free that its stream has not reached. */
struct sim_pool_free {
	struct sim_alloc *alloc; /* NULL: the stream that freed it has it again */
	struct sim_stream *stream;
	struct aq_list link; /* sim_pool.pending, or empty */
};

/* The list of pools, under sim.lock. */
extern struct aq_list sim_pools;

/* NULL: no such pool. Under sim.lock. */
struct sim_pool *sim_pool_find(CUmemoryPool handle);

/* A pool in the list; NULL: no memory. Under sim.lock. */
struct sim_pool *sim_pool_new(struct sim_device *device, const CUmemPoolProps *props);

/* The default pool of a device, made when first asked for. Under sim.lock. */
struct sim_pool *sim_pool_default(struct sim_device *device);

/* The one that cuMemAllocAsync takes from. Under sim.lock. */
struct sim_pool *sim_pool_current(struct sim_device *device);

/*
 * poolmem.c. Without sim.lock unless it is said.
 */

/* Memory for @stream (NULL: for anybody). */
CUresult sim_pool_alloc(struct sim_pool *pool, struct sim_stream *stream, size_t bytes,
			CUdeviceptr *ret_address);

/* Memory of another process's segment, at @offset of it. */
CUresult sim_pool_open(struct sim_pool *pool, struct sim_phys *phys, uint64_t offset,
		       uint64_t bytes, CUdeviceptr *ret_address);

/* The stream has reached a free, or there is nothing to wait for. */
void sim_pool_reached(struct sim_pool_free *f);

/* Give back empty segments while more than @keep_bytes are reserved. */
void sim_pool_trim(struct sim_pool *pool, uint64_t keep_bytes);

/* Free a destroyed pool when nothing is left in it. */
void sim_pool_collect(struct sim_pool *pool);

#endif /* SIM_POOL_H */
