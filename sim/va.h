/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of device memory in this process: the range that is kept for them and its page table.
 * The rest of its interface, which other files need too, is in sim.h. */
#ifndef SIM_VA_H
#define SIM_VA_H

#include "sim.h"

/* A stretch of addresses in which allocations lie that are smaller than it (small linear ones,
 * those of a pool, variables of modules). Under sim.lock. */
struct sim_block {
	uint64_t base, bytes;
	struct sim_device *device;
	struct sim_phys *phys;
	struct sim_pool *pool;
	uint64_t used_bytes;	   /* sum of spans */
	uint64_t gap_bytes;	   /* no gap is larger than this */
	struct sim_alloc **allocs; /* sorted by base */
	uint32_t n_allocs, room;
	struct aq_list link; /* of the owner */
};

/* Keep the range. Return: 0 or negative errno. Called once. */
int sim_va_init(void);

/* What is known about the page of an address: an allocation that has it whole, or a block. NULL for
 * both: neither, or no device address. Under sim.lock. */
void sim_va_lookup(uint64_t address, struct sim_alloc **ret_alloc, struct sim_block **ret_block);
void sim_va_set_alloc(uint64_t base, uint64_t bytes, struct sim_alloc *alloc);
void sim_va_set_block(struct sim_block *block, bool present);

/* Whether all of [address, address + bytes) is mapped with at least @access. */
bool sim_va_mapped(uint64_t address, uint64_t bytes, CUmemAccess_flags access);

/* The device that the page of an address is mapped to, and how: NULL, not mapped. */
struct sim_device *sim_va_device(uint64_t address, CUmemAccess_flags *ret_access);

/* Where bytes are: in device memory, up to the end of a frame, or somewhere in the host's. */
struct sim_spot {
	uint8_t *bytes;	/* in the host's mapping of the device */
	size_t run;	/* how many follow without a gap; SIZE_MAX in host memory */
	struct sim_device *device; /* NULL: host memory */
	uint32_t frame;
};

/* The spot of a device address. Return: false: not mapped. With sim.va_lock held for reading. */
bool sim_va_spot(uint64_t address, struct sim_spot *ret_spot);

/*
 * Blocks (block.c). Under sim.lock.
 */
struct sim_block *sim_block_create(struct sim_device *device, struct sim_phys *phys, uint64_t base,
				   uint64_t bytes);
void sim_block_free(struct sim_block *block); /* not its memory or addresses */
struct sim_alloc *sim_block_find(struct sim_block *block, uint64_t address);
int sim_block_insert(struct sim_block *block, struct sim_alloc *alloc);
void sim_block_remove(struct sim_block *block, struct sim_alloc *alloc);
/* Address of the smallest gap that has room for @bytes; 0: none. */
uint64_t sim_block_gap(struct sim_block *block, uint64_t bytes);

/*
 * Allocations (alloc.c), under sim.lock: as sim_alloc_add(), and to take one out of the books
 * without freeing the record.
 */
struct sim_alloc *sim_alloc_add_locked(enum sim_memory_kind kind, uint64_t base, uint64_t bytes,
				       uint64_t span, struct sim_device *device,
				       struct sim_context *ctx);
void sim_alloc_forget(struct sim_alloc *alloc);

#endif /* SIM_VA_H */
