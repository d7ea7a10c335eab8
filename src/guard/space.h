/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the driver takes in its own steps and keeps for later: memory pools, and the pool of
 * graph memory of each device. What is charged is what the driver says that it has reserved.
 *
 * A call that may make the driver take more goes
 *
 *     aq__space_begin (room for the worst) -> the driver's call -> aq__space_settle or _abort
 *
 * Many threads may be between the two at once: what one of them reads afterwards may contain what
 * another made it grow, so all their reservations together stand for the growth.
 */
#ifndef AQ_GUARD_SPACE_H
#define AQ_GUARD_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda/cuda_abi.h"
#include "guard/track.h"

/* Kinds of the table's AQ__POINTER entries. */
enum aq__pointer_kind {
	AQ__LINEAR = 0,
	AQ__STREAM_ORDERED = 1, /* link: the space it is in */
	AQ__MOVABLE = 2,	/* link: its context's handle; bytes: as asked; refs: a number that no
				 * other allocation had; nothing is charged for it: see movable.h */
	AQ__MOVABLE_SYNC = 3,	/* the same, with the attribute SYNC_MEMOPS */
};

/* One call between begin and settle. */
struct aq__space_call {
	uint32_t grains; /* reserved for it; 0: it lives off what the space has left */
	uint64_t bytes;	 /* asked for */
};

/* A space by number; 0 is none: a pool whose memory is not charged to this process. */
typedef uint32_t aq__space_id;

/* A new space for @pool (or, when NULL, for graph memory) on a device. Return: 0 when out of room.
 */
aq__space_id aq__space_create(CUmemoryPool pool, CUdevice dev, int index);

/**
 * aq__space_begin() - before a call that may make the driver take @bytes more there.
 * @ret_call: for settle or abort
 * Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY: not to be called, nothing to settle.
 */
CUresult aq__space_begin(aq__space_id id, uint64_t bytes, const char *api,
			 struct aq__space_call *ret_call);

/* The call failed. */
void aq__space_abort(aq__space_id id, const struct aq__space_call *call);

/**
 * aq__space_settle() - the call succeeded: charge what the driver has now, release the rest.
 * Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY: the driver took more than there is room for; the
 * caller undoes its call where it can. What is lacking is charged as soon as there is room.
 */
CUresult aq__space_settle(aq__space_id id, const struct aq__space_call *call, const char *api);

/* A pointer into the space came to be, or ceased to be. */
void aq__space_pointer(aq__space_id id, int change);

/* Release what was charged for @item, which the program no longer has. */
void aq__pointer_lost(const struct aq__item *item);

/* Nobody looks at the pool any more when this returns; then the program may destroy it. */
void aq__space_leave(aq__space_id id);
/* It was destroyed (@gone), or still is there. Charged until its last pointer is freed. */
void aq__space_left(aq__space_id id, bool gone);

/* Counts the trimmings of graph memory: what was resident before one may not be after it. */
extern uint32_t aq__graph_trims;

#endif /* AQ_GUARD_SPACE_H */
