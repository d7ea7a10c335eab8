/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks: stretches of device memory that several allocations share. Sorted arrays; a block of 2
 * MiB holds at most 4096 of them. */
#include "va.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

struct sim_block *sim_block_create(struct sim_device *device, struct sim_phys *phys, uint64_t base,
				   uint64_t bytes)
{
	struct sim_block *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->base = base;
	b->bytes = b->gap_bytes = bytes;
	b->device = device;
	b->phys = phys;
	aq_list_init(&b->link);
	sim_va_set_block(b, true);
	return b;
}

void sim_block_free(struct sim_block *block)
{
	sim_va_set_block(block, false);
	aq_list_remove(&block->link);
	free(block->allocs);
	free(block);
}

/* Index of the first allocation whose base is above @address. */
static uint32_t above(const struct sim_block *b, uint64_t address)
{
	uint32_t low = 0, high = b->n_allocs;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (b->allocs[middle]->base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct sim_alloc *sim_block_find(struct sim_block *block, uint64_t address)
{
	uint32_t i = above(block, address);
	struct sim_alloc *a = i ? block->allocs[i - 1] : NULL;

	return a && address - a->base < a->span ? a : NULL;
}

int sim_block_insert(struct sim_block *block, struct sim_alloc *alloc)
{
	uint32_t i;

	if (block->n_allocs == block->room) {
		uint32_t room = block->room ? block->room * 2 : 16;
		struct sim_alloc **more = reallocarray(block->allocs, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		block->allocs = more;
		block->room = room;
	}
	i = above(block, alloc->base);
	memmove(&block->allocs[i + 1], &block->allocs[i],
		(block->n_allocs - i) * sizeof(*block->allocs));
	block->allocs[i] = alloc;
	block->n_allocs++;
	block->used_bytes += alloc->span;
	return 0;
}

void sim_block_remove(struct sim_block *block, struct sim_alloc *alloc)
{
	uint32_t i = above(block, alloc->base);

	if (!i || block->allocs[i - 1] != alloc)
		return;
	memmove(&block->allocs[i - 1], &block->allocs[i],
		(block->n_allocs - i) * sizeof(*block->allocs));
	block->n_allocs--;
	block->used_bytes -= alloc->span;
	block->gap_bytes = block->bytes - block->used_bytes;
}

uint64_t sim_block_gap(struct sim_block *block, uint64_t bytes)
{
	uint64_t best = UINT64_MAX, largest = 0, found = 0, at = block->base;

	if (block->gap_bytes < bytes)
		return 0;
	for (uint32_t i = 0; i <= block->n_allocs; i++) {
		uint64_t end =
			i < block->n_allocs ? block->allocs[i]->base : block->base + block->bytes;
		uint64_t gap = end - at;

		if (gap >= bytes && gap < best) {
			best = gap;
			found = at;
		}
		if (gap > largest)
			largest = gap;
		if (i < block->n_allocs)
			at = end + block->allocs[i]->span;
	}
	block->gap_bytes = largest; /* still an upper bound after the gap is used */
	return found;
}
