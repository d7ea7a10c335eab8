/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear memory that can be moved: what cuMemAlloc() and cuMemAllocPitch() give lies in an arena of
 * its device, a large range of addresses with physical memory behind as much of it as is needed.
 * Charged is the physical memory, chunk by chunk, as the driver has it; an allocation by itself
 * costs nothing more.
 *
 * Three files: movable.c gives and takes memory, park.c carries it to the host and back, move.c
 * says when: it holds calls off while memory moves.
 */
#ifndef AQ_GUARD_MOVABLE_H
#define AQ_GUARD_MOVABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/pages.h"
#include "guard/small.h"
#include "guard/space.h"
#include "guard/track.h"

/*
 * Is memory movable where nobody says otherwise? ALIQUOT_MOVE=0 or 1 in a program's environment
 * says so. It is no limit: what does not move is charged all the same.
 */
#define AQ__MOVABLE_DEFAULT true

/* ---- movable.c ---- */

struct aq__arena {
	struct aq__lock lock; /* of what follows it; never held across the driver */
	struct aq__pages pages;
	struct aq__small small;
	uint64_t base;	/* constant once made, as are all to `props` */
	uint64_t bytes; /* of addresses */
	CUdevice dev;
	int index;	 /* in the page */
	bool exportable; /* chunks can be given to other processes */
	bool rdma;
	uint32_t peers;		/* atomic; bit: that device, too, may touch the memory */
	uint64_t parked;	/* bytes of chunks that are in host memory; the lock */
	uint64_t idle_since_ns; /* atomic; when the pool of empty chunks last changed; 0 empty */
	/* Of the moving thread: */
	uint64_t back_since_ns; /* since when host memory is kept for nothing; 0 not */
	uint64_t left_at_ns;	/* last time that it was parked; 0 never */
	uint64_t keep_host_ns;	/* how long host memory is kept after a resume */
};

/* The arena that an address lies in, or NULL. Any thread, no lock. */
struct aq__arena *aq__arena_of(uint64_t address);

/* The arena of a device of the page, or NULL when there is none (yet). */
struct aq__arena *aq__arena_at(int index);

static inline uint64_t aq__arena_address(const struct aq__arena *a, uint32_t page)
{
	return a->base + page * AQ__PAGE_BYTES;
}

/* Decide whether memory is movable in this process. Caller: cuInit(). */
void aq__movable_decide(void);
bool aq__movable_on(void);

/**
 * aq__movable_alloc() - as cuMemAlloc() in the current context, which @place tells.
 * Return: CUresult as the driver's; CUDA_ERROR_NOT_SUPPORTED: not here, ask the driver.
 */
CUresult aq__movable_alloc(const struct aq__place *place, uint64_t bytes, const char *api,
			   CUdeviceptr *ret_ptr);

/* Free what was taken out of the table, @item; put back when it cannot be freed now. */
CUresult aq__movable_free(const struct aq__item *item);

/* The same when its context is gone, or is about to be. Calls are held off or followed. */
void aq__movable_lost(const struct aq__item *item);

/* Give back empty chunks of a device until no more than @keep_bytes of them are left. Return:
 * whether any was given back. Calls are followed. */
bool aq__movable_trim(int index, uint64_t keep_bytes);

/* The same for who has held off all calls. */
bool aq__movable_drop(struct aq__arena *a, uint64_t keep_bytes);

/* Bytes of empty chunks: charged, and to be had at once. */
uint64_t aq__movable_unused(int index);

/* The allocation that an address is in. Return: whether there is one. */
bool aq__movable_find(uint64_t address, struct aq__item *ret_item);

/* Make, or take apart, the physical memory of a busy chunk. */
CUresult aq__chunk_map(struct aq__arena *a, uint32_t first, uint32_t n, uint64_t *ret_handle);
CUresult aq__chunk_access(struct aq__arena *a, uint32_t first, uint32_t n);
CUresult aq__chunk_unmap(struct aq__arena *a, uint32_t first, uint32_t n, uint64_t handle);

static inline bool aq__is_movable(const struct aq__item *item)
{
	return item->class == AQ__POINTER &&
	       (item->kind == AQ__MOVABLE || item->kind == AQ__MOVABLE_SYNC);
}

/* Tell the page what is movable and what is parked. */
void aq__movable_tell(struct aq__arena *a);

/* The chunks behind an allocation must stay where they are from now on. Return: whether they are
 * on the device. */
bool aq__movable_fix(uint64_t address);

/* A device's memory becomes accessible from another one, too (peer access). */
CUresult aq__movable_peer(CUdevice dev, CUdevice from);

void aq__movable_forked(void); /* by aq__move_forked() */

/* ---- park.c ---- */

/**
 * aq__park() - carry what is movable on a device to host memory; nobody uses it meanwhile.
 * @limit_bytes: of host memory
 * Return: 0; negative errno, and everything is where it was (or, if even that failed, what is not
 * is marked as parked).
 */
int aq__park(struct aq__arena *a, uint64_t limit_bytes);

/* Carry it back. Return: 0; negative errno, and what was parked still is. */
int aq__unpark(struct aq__arena *a);

/* Host memory that a device's arena has, with or without bytes in it. */
uint64_t aq__park_pinned(int index);

/* The same as it would be for @bytes: it comes in steps. */
uint64_t aq__park_steps(uint64_t bytes);

/* Give back host memory that was kept for the next time; nothing is parked. Calls are held. */
void aq__park_forget(struct aq__arena *a);

void aq__park_forked(void); /* by aq__move_forked() */

/* ---- move.c ---- */

/*
 * Calls that change what memory there is, or end a context, stand between these two: no memory
 * moves then. May nest. The first waits while some does.
 */
void aq__move_hold(void);
void aq__move_go(void);

/* As aq__move_hold(), and the memory of the device is on it. */
void aq__move_hold_resident(int index);

/* As aq__move_hold_resident(), for the current context's device. */
void aq__move_hold_here(void);

/* AQ__CALL() of something that looks at memory of the current context's device. */
#define AQ__RESIDENT(sym, ...)                                                                     \
	({                                                                                         \
		CUresult aq_resident_;                                                             \
		aq__move_hold_here();                                                              \
		aq_resident_ = AQ__CALL(sym, __VA_ARGS__);                                         \
		aq__move_go();                                                                     \
		aq_resident_;                                                                      \
	})

/* Ask for what is away, as who wants to submit does, and sleep a little. */
void aq__move_ask(void);

/* Have orders carried out from now on, in the gate's thread. Return: whether they will be. */
bool aq__move_watch(void);

/* In a forked child; all three files. */
void aq__move_forked(void);

#endif /* AQ_GUARD_MOVABLE_H */
