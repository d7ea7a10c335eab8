/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the guard share. The order of every hook that takes memory:
 *
 *     reserve (aq__reserve) -> the driver's call -> commit (aq__track_put) or undo (aq__release)
 *
 * and of every hook that gives it back: take the entry out, call, release the charge or put the
 * entry back. So a charge is never less than what the driver holds, no two calls can release one
 * charge, and an address that the driver hands out again never meets its old entry.
 *
 * Nothing here is async-signal-safe (nor is the driver). Everything is safe from any thread.
 */
#ifndef AQ_GUARD_GUARD_H
#define AQ_GUARD_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <aliquot/abi.h>

#include "cuda/cuda_abi.h"
#include "guard/real.h"

/* Index of a device in the page, or one of these. */
enum {
	AQ__ABSENT = -1,  /* a device that is not in the fraction: nothing may be taken there */
	AQ__UNBOUND = -2, /* not guarded (yet), or a device that the driver does not know either */
};

/* ---- state (init.c) ---- */

/*
 * What a child must not inherit, however it was forked: where the system can, this lies in memory
 * that reads as zero there, for fork handlers do not run for clone(2), nor in static executables.
 */
struct aq__self {
	struct aq_page *page; /* while attached, also over the death of a daemon; else NULL */
	uint32_t state;	      /* init.c's */
};
extern struct aq__self *aq__self;

static inline struct aq_page *aq__page_get(void)
{
	struct aq__self *self = __atomic_load_n(&aq__self, __ATOMIC_RELAXED);

	return __atomic_load_n(&self->page, __ATOMIC_ACQUIRE);
}

/* Page index of a device as the driver numbers them; AQ__ABSENT; AQ__UNBOUND. */
int aq__device_index(CUdevice dev);

/* Call @fn for every device of the fraction that this process sees. */
void aq__each_device(void (*fn)(CUdevice dev, int index, void *arg), void *arg);

/* ---- memory (charge.c) ---- */

/**
 * aq__reserve() - take room for @bytes out of the fraction, asking the daemon if need be.
 * @index: page index, AQ__ABSENT or AQ__UNBOUND
 * @api:   entry point of the program, for the event when it is refused
 * @ret_grains: what was taken; give it back with aq__release()
 * Return: CUDA_SUCCESS (AQ__UNBOUND: always, with 0 grains) or CUDA_ERROR_OUT_OF_MEMORY.
 */
CUresult aq__reserve(int index, uint64_t bytes, const char *api, uint32_t *ret_grains);

/* The same, for memory that can be parked: it may be had of what others only lend. */
CUresult aq__reserve_movable(int index, uint64_t bytes, const char *api, uint32_t *ret_grains);

/* The same for a call that asked for @asked bytes, of which @bytes is the worst that may come. */
CUresult aq__reserve_for(int index, uint64_t bytes, uint64_t asked, const char *api,
			 uint32_t *ret_grains);

/* The same without asking or waiting for anybody. */
bool aq__reserve_now(int index, uint32_t grains);

/* Give back. AQ__ABSENT and AQ__UNBOUND: nothing. */
void aq__release(int index, uint32_t grains);

/**
 * aq__settle() - the driver took @bytes, not what was reserved: make *grains that much.
 * Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY: *grains is unchanged, the caller undoes its call.
 */
CUresult aq__settle(int index, uint64_t bytes, const char *api, uint32_t *grains);

/* Tell the daemon that memory may have gone that no call shows; it measures sooner. */
void aq__unmeasured(int index);

/* Memory that no call shows, and that is worth a message: see enum aq_cost_phase. */
struct aq__cost {
	int index;
	uint64_t estimate_bytes;
	const char *api;
};

/* Before the call. Return: CUDA_SUCCESS; CUDA_ERROR_OUT_OF_MEMORY: not to be made. */
CUresult aq__cost_begin(struct aq__cost *c, int index, uint64_t estimate_bytes, const char *api);
/* After the call succeeded: does it fit, now that it is measured? If not: undo, aq__cost_undone().
 */
bool aq__cost_fits(struct aq__cost *c);
/* After the call failed or was undone. */
void aq__cost_undone(const struct aq__cost *c);
/* Something that was counted so is gone: have it measured. */
void aq__cost_gone(int index, const char *api);

/* What the fraction could get now, in bytes; without a daemon, what this process still may. Waits
 * for the next daemon, as growing does, when the last has just gone. */
uint64_t aq__free_bytes(int index, uint64_t *ret_limit);

/* ---- place (context.c) ---- */

struct aq__place {
	int index;	/* of the current context's device */
	uint32_t owner; /* number of the current context, never used twice in a process; 0 none */
	CUdevice dev;	/* -1 without a context */
};

/* Where an allocation of the calling thread goes. */
void aq__place_here(struct aq__place *p);

/* The same for a call on @stream; @per_thread: NULL means the thread's own default stream. */
void aq__place_of_stream(struct aq__place *p, CUstream stream, bool per_thread);

/* Is @stream being captured into a graph (or in no state to tell)? */
bool aq__capturing(CUstream stream, bool per_thread);

/*
 * Our own extra calls must not end a capture that the program makes in another thread: they run in
 * relaxed mode. Return: what aq__relax_end() needs.
 */
CUstreamCaptureMode aq__relax_begin(void);
void aq__relax_end(CUstreamCaptureMode mode);

/* ---- stream-ordered and graph memory (pool.c, graphmem.c) ---- */

/* Nonzero when a pool may have given memory back since it was last looked at. */
extern uint32_t aq__pools_dirty;

bool aq__pools_any(void);     /* is there one? */
void aq__pools_mark_dirty(void);
void aq__pools_refresh(void); /* read all pools anew, release what they gave back */
bool aq__pools_squeeze(void); /* the same, trimming them first; true when that released any */
void aq__pools_forked(void);
void aq__graphmem_forked(void);

/* After a call that waited for the device: pools shrink at such points, and only there. */
static inline void aq__synchronised(void)
{
	if (__builtin_expect(__atomic_load_n(&aq__pools_dirty, __ATOMIC_RELAXED) != 0, 0))
		aq__pools_refresh();
}

/* ---- others' forked() : forget everything in a child; no lock is taken ---- */

void aq__context_forked(void);
void aq__vmm_forked(void);
void aq__track_forked(void);
void aq__conn_forked(void);

/* An array goes: what was mapped into it goes with it (vmm.c). */
void aq__vmm_array_gone(uint64_t array);

#endif /* AQ_GUARD_GUARD_H */
