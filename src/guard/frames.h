/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an allocation takes of the device. Devices give memory out in frames of 2 MiB: an allocation
 * of at least a frame has frames of its own, smaller ones share them. Which ones share is told by
 * their addresses. So a frame is charged when the first allocation is found in it, and released
 * with the last; one byte in it keeps it whole, as it does on the device.
 *
 *     aq__frames_begin (room for the worst) -> the driver's call -> aq__frames_commit or _abort
 */
#ifndef AQ_GUARD_FRAMES_H
#define AQ_GUARD_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda/cuda_abi.h"
#include "guard/track.h"

/* Source: cuMemGetAllocationGranularity() on every card since Pascal; the first 512 bytes of a
 * context lower cuMemGetInfo()'s free by 2 MiB, the next thousands do not. */
#define AQ__FRAME_BYTES (2ull << 20)

struct aq__frames_call {
	int index;
	bool alone;	  /* nothing else is ever in its frames (managed memory) */
	uint32_t grains;  /* reserved */
	uint64_t claimed; /* or bytes that seemed to fit into a frame that is there */
};

/* Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY: not to be called. */
CUresult aq__frames_begin(int index, uint64_t bytes, bool alone, const char *api,
			  struct aq__frames_call *ret_call);

/* The call failed. */
void aq__frames_abort(const struct aq__frames_call *c);

/**
 * aq__frames_commit() - the driver gave @bytes at @ptr: charge what they take.
 * @item:  key, kind, bytes and grains are set, for aq__frames_drop()
 * Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY: nothing is charged, the caller frees.
 */
CUresult aq__frames_commit(const struct aq__frames_call *c, uint64_t ptr, uint64_t bytes,
			   const char *api, struct aq__item *item);

/* It is freed. Not under a lock of the table's. */
void aq__frames_drop(const struct aq__item *item);

void aq__frames_forked(void);

#endif /* AQ_GUARD_FRAMES_H */
