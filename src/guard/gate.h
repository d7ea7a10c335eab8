/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate that everything passes which puts work on a device. While no gate of the process is
 * closed it is one load (aq__gate_open); what follows is for the rest: with AQ_GATE_LEASED work is
 * submitted in leases only, counted (flight.h), and no more than a millisecond of it (or one
 * command) is ahead of the device; with AQ_GATE_PARKED it is not submitted at all. The rules of
 * leases are those of struct aq_page_device in <aliquot/abi.h>.
 *
 * Passed without waiting, always: whatever is captured into a graph; what only orders work (events
 * recorded and waited for); calls that wait for work. Copies between host and device wait for no
 * lease either: they have engines of their own, and a program that could not fetch a result before
 * its turn would prepare its next step only then. So nothing that a program waits for is ever held
 * up by a call that would not do work.
 *
 * When we fail: the gate opens. Without a daemon AQ_GATE_LEASED counts as open, AQ_GATE_PARKED does
 * not, for the memory is not there.
 */
#ifndef AQ_GUARD_GATE_H
#define AQ_GUARD_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "guard/calls.h"
#include "guard/flight.h"

struct aq_page;

/* What aq__gate_open() looks at: the page's `gates`, or a word that is always zero; with movable
 * memory one that never is, for then calls are followed. */
extern const uint32_t *aq__gates;

static inline bool aq__gate_open(void)
{
	const uint32_t *gates = __atomic_load_n(&aq__gates, __ATOMIC_RELAXED);

	return __builtin_expect(__atomic_load_n(gates, __ATOMIC_RELAXED) == 0, 1);
}

/*
 * The quick way past the gate in a process whose memory can be moved, to be left by
 * aq__calls_leave(): the call is followed, so that the memory stays. NULL: there is no such way.
 */
extern const uint32_t *aq__quick_gates;

/* Nonzero: the quick way is closed (move.c). Atomic. */
extern uint32_t aq__move_closed;

static inline bool aq__quick_enter(void)
{
	const uint32_t *gates = aq__quick_gates;

	if (!gates)
		return false;
	aq__calls_enter();
	if (__builtin_expect(!__atomic_load_n(&aq__move_closed, __ATOMIC_RELAXED) &&
				     !__atomic_load_n(gates, __ATOMIC_RELAXED),
			     1))
		return true;
	aq__calls_leave();
	return false;
}

/* The same for a thread that has called before: no function is called. False: try the above. */
static inline __attribute__((always_inline)) bool aq__quick_known(void)
{
	const uint32_t *gates = aq__quick_gates;

	if (__builtin_expect(!gates || !aq__calls_enter_known(), 0))
		return false;
	if (__builtin_expect(!__atomic_load_n(&aq__move_closed, __ATOMIC_RELAXED) &&
				     !__atomic_load_n(gates, __ATOMIC_RELAXED),
			     1))
		return true;
	aq__calls_leave();
	return false;
}

/* What else is known of a call: flags. */
#define AQ__WAITS 1u /* it returns when its work is done */
#define AQ__LINK 2u  /* it moves bytes between host and device, and computes nothing */

/* A call that passes a gate which is not open. */
struct aq__pass {
	int index; /* of the device; negative: the call is not counted */
	int saved_errno, cancel;
	bool link;		   /* AQ__LINK */
	struct aq__flight *flight; /* NULL: not in a lease */
	struct aq__command command;
};

/**
 * aq__gate_enter() - before the driver's call: wait until this thread may submit.
 * @stream:     as the program gave it
 * @per_thread: NULL means the thread's own default stream
 * @what:       an executable graph, or NULL
 * @how:        AQ__WAITS, AQ__LINK
 * Cancellation is disabled until aq__gate_leave(): a thread that ended in between would hold the
 * lease for good. Not a cancellation point.
 */
void aq__gate_enter(struct aq__pass *p, CUstream stream, bool per_thread, const void *what,
		    unsigned int how);

/* After it, with its result. */
void aq__gate_leave(struct aq__pass *p, CUresult r);

/*
 * Nobody submits to the device from now on, and all that was submitted is done; whoever comes waits
 * until aq__gate_reopen(). For work that needs the device to itself; from the gate's thread only.
 * Work of a context in which a stream is being captured cannot be waited for.
 * Return: 0; -EBUSY it was not drained by @until_ns: the gate is open again.
 */
int aq__gate_close_and_drain(int index, uint64_t until_ns);
void aq__gate_reopen(int index);

/* For who waits for memory that is away: be counted among those who want, and sleep a little. */
void aq__gate_ask(int index);

/* Is any device closed that way? */
bool aq__gate_is_shut(void);

/* What capture.c remembers of captures; they cannot be waited for. */
void aq__capture_ended(CUstream stream);
void aq__capture_forked(void);

/* While no stream is captured: none will be until aq__capture_go(). Return: false: one is. For
 * waiting for a context as a whole, which would end captures in it. */
bool aq__capture_hold(void);
void aq__capture_go(void);

/* Wait for all contexts of the device, counted or not (capture.c). Return: false: not by then. */
bool aq__gate_settle(int index, uint64_t until_ns);

/* ---- the thread (gate_thread.c) ---- */

/*
 * One for each process, started when a gate is first managed. It sleeps until page.news changes or
 * a lease that is used ends. Starting it twice does nothing. Return: whether it runs.
 */
bool aq__gate_thread_start(void);

/* Have it look again; may be lost. */
void aq__gate_thread_kick(void);

/*
 * Have @fn called in the thread after each change of page.news, and when the instant is reached
 * that it returned last (UINT64_MAX: none). For a few callers, each once; it stays.
 */
typedef uint64_t aq__news_fn(struct aq_page *page, uint64_t now_ns);
bool aq__gate_thread_add(aq__news_fn *fn);

/* What the thread does for one device, and when to come again (gate_back.c). Any thread, when there
 * is none: then who waits for the gate does it. */
uint64_t aq__gate_tend(int index, uint64_t now_ns);

void aq__gate_forked(void);
void aq__gate_thread_forked(void);

/* ---- hooks of what waits, and of streams and contexts that go ---- */

/* Around a call that waits: @all for an event or a whole context. Nothing unless leases are used.
 */
void aq__gate_sync_begin(CUstream stream, bool per_thread, bool all);
void aq__gate_sync_end(CUstream stream, bool per_thread, bool all, CUresult r);
/* It is not done yet, as a call said that does not wait. */
void aq__gate_asked(CUstream stream, bool per_thread, bool all);

/* Before a stream is destroyed, or captured. */
void aq__gate_stream_gone(CUstream stream, bool per_thread);
/* Before a context is destroyed, or may be. */
void aq__gate_context_gone(CUcontext ctx);

#endif /* AQ_GUARD_GATE_H */
