/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one context of this process has in flight on its device, and for how long the device worked
 * on it. Known by marks: events of ours, recorded behind the program's commands, seldom (one costs
 * as much as two launches). Decides nothing about who may submit: that is gate.c's.
 *
 * Only commands that pass a gate that is not open are counted. No call of the driver is made with a
 * lock held. Every function keeps errno and the current context. Where we fail (no event to be had,
 * too many streams) a command goes uncounted: its time is not charged, and a lease may be given
 * back while it runs.
 */
#ifndef AQ_GUARD_FLIGHT_H
#define AQ_GUARD_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda/cuda_abi.h"

struct aq__flight;

/* One submitting call. */
struct aq__command {
	CUcontext ctx;	  /* of the stream */
	CUstream stream;  /* CU_STREAM_LEGACY or CU_STREAM_PER_THREAD for the default ones */
	const void *what; /* the executable graph, or NULL: any other command */
	bool waits;	  /* returns when the command is done: the blocking copies */
	uint64_t from_ns; /* host time: not submitted yet; this and below by aq__flight_before() */
	uint32_t life;	  /* of the place that the context has */
};

extern uint32_t aq__flights_made; /* atomic */

/* How many places for flights this process has: one load; 0 until a gate was first managed. */
static inline uint32_t aq__flights(void)
{
	return __atomic_load_n(&aq__flights_made, __ATOMIC_ACQUIRE);
}

/* The flight of @ctx, made on first use. Return: NULL: no memory; the command goes uncounted. */
struct aq__flight *aq__flight_of(CUcontext ctx, int index);

/* Page index of a context that has a flight; AQ__UNBOUND: it has none. */
int aq__flight_index(CUcontext ctx);

/* Around the driver's call, in the calling thread. */
void aq__flight_before(struct aq__flight *f, struct aq__command *c);
void aq__flight_after(struct aq__flight *f, const struct aq__command *c, CUresult r);

/* Mark all that has no mark, so that its end can be seen. The calling thread is about to submit @c,
 * whose stream is not captured. */
void aq__flight_mark(struct aq__flight *f, const struct aq__command *c);

/* ---- of all flights on a device ---- */

/* Device time that what is in flight will take yet, by estimate, in ns; @look: at marks, first. */
uint64_t aq__flight_left(int index, uint64_t now_ns, bool look);

/* Is all that is in flight marked, and are estimates right to @error_ns, as far as can be seen? */
bool aq__flight_regular(int index, uint64_t error_ns, uint64_t now_ns);

/* Have estimates been right to @error_ns lately? */
bool aq__flight_steady(int index, uint64_t error_ns);

/* Mark what has no mark. Return: whether nothing is in flight. No thread may be submitting. */
bool aq__flight_drained(int index);

/* Take the device time measured since the last call, in ns; @foretell: with what is in flight. */
uint64_t aq__flight_harvest(int index, bool foretell);

/* ---- what the program does to streams and contexts ---- */

/* Around a call that waits for @stream, or, with @all, for an event or a context. */
void aq__flight_sync_begin(CUstream stream, bool all);
void aq__flight_sync_end(CUstream stream, bool all, CUresult r);
/* It was asked about, and is not done. */
void aq__flight_asked(CUstream stream, bool all);

/* Before a stream is destroyed or captured: nobody but its user touches it from here on. */
void aq__flight_stream_gone(CUstream stream);

/* Before a context is destroyed. */
void aq__flight_context_gone(CUcontext ctx);

/*
 * Around a call that gives up one of perhaps several references of a context: nothing of it is asked
 * or recorded by us meanwhile, and afterwards what is in flight is known as before, unless it is
 * @gone, and its events with it.
 * Return: for the second one, @held
 */
struct aq__flight *aq__flight_context_released(CUcontext ctx);
void aq__flight_context_left(struct aq__flight *held, CUcontext ctx, bool gone);

/* The gate is open: what is submitted from now on passes unseen. */
void aq__flight_unfollowed(int index);

void aq__flight_forked(void);

#endif /* AQ_GUARD_FLIGHT_H */
