/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear memory in blocks of 2 MiB, as the driver takes it from the device: a block is charged
 * while any allocation lies in it, however small. Blocks that one allocation fills are its own and
 * only counted; those that several may share, its first and its last, are entries of the table.
 */
#ifndef AQ_GUARD_BLOCKS_H
#define AQ_GUARD_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "guard/guard.h"

/* Source: what cuMemGetAllocationGranularity() gives on all cards since Pascal; that cuMemAlloc()
 * takes memory in the same steps is observed by others through NVML, and measured by
 * bench/gpu/probes. */
#define AQ__BLOCK_BYTES (2ull << 20)
#define AQ__BLOCK_GRAINS ((uint32_t)(AQ__BLOCK_BYTES / AQ_GRAIN_BYTES))

/* @bytes rounded up to whole blocks; UINT64_MAX when no number holds that. */
uint64_t aq__blocks_round(uint64_t bytes);

/**
 * aq__blocks_enter() - an allocation lies at [ptr, ptr + bytes) now; what fits into a grant.
 * @ret_own:    grains of the blocks that it fills, for its own entry
 * @ret_shared: grains of the blocks that it is the first one in; the table keeps those
 * Return: true; false: no memory for our own entries, nothing entered
 */
bool aq__blocks_enter(const struct aq__place *place, uint64_t ptr, uint64_t bytes,
		      uint32_t *ret_own, uint32_t *ret_shared);

/* It does no more. Return: grains of the shared blocks that nobody is in any more. */
uint32_t aq__blocks_leave(uint64_t ptr, uint64_t bytes);

#endif /* AQ_GUARD_BLOCKS_H */
