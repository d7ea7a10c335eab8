/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that are captured or destroyed, which nobody but their user may touch from then on; and
 * waiting for a device without disturbing a capture. Made known to flight.c; nothing is charged.
 *
 * When we fail: more captures at a time than we remember, and a device is not parked meanwhile.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/timing.h"
#include "guard/conn.h"
#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/track.h"
#include "guard/guest.h"

#define MAX_CAPTURES 64u /* streams at a time on which a capture began. Source: guess */
#define MAX_CONTEXTS 64u /* of one process on one device. Source: guess */
#define POLL_NS (100 * AQ_NS_PER_US)
#define WAITER_STACK_BYTES ((size_t)512 << 10) /* guess: as of the gate's thread */

static struct aq__lock lock;
static CUstream captured[MAX_CAPTURES]; /* under `lock`; [0, n_captured) */
static uint32_t n_captured;
static uint32_t unknown; /* under `lock`; captures that found no room: for good */
static uint32_t holders; /* under `lock`; of aq__capture_hold() */

/*
 * Before a capture begins. Not while a device is waited for as a whole, which would end it: whoever
 * waits has shut the gate before it looks for captures. Both take the lock, so either it is first,
 * and the gate is seen to be shut here; or this is, and the capture is seen there.
 */
static void begins(CUstream stream, bool per_thread)
{
	int saved = errno;
	bool held;

	aq__gate_stream_gone(stream, per_thread);
	for (;;) {
		aq__lock(&lock);
		if (n_captured < MAX_CAPTURES)
			captured[n_captured++] = stream;
		else
			unknown++;
		held = holders != 0;
		aq__unlock(&lock);
		if (!held && !aq__gate_is_shut())
			break;
		aq__capture_ended(stream);
		aq__move_ask();
		aq_sleep_until_ns(aq_now_ns() + POLL_NS);
	}
	errno = saved;
}

void aq__capture_ended(CUstream stream)
{
	aq__lock(&lock);
	for (uint32_t i = 0; i < n_captured; i++) {
		if (captured[i] == stream) {
			captured[i] = captured[--n_captured];
			break;
		}
	}
	aq__unlock(&lock);
}

static bool capturing(void)
{
	bool any;

	aq__lock(&lock);
	any = n_captured || unknown;
	aq__unlock(&lock);
	return any;
}

bool aq__capture_hold(void)
{
	bool none;

	aq__lock(&lock);
	none = !n_captured && !unknown;
	holders += none;
	aq__unlock(&lock);
	return none;
}

void aq__capture_go(void)
{
	aq__lock(&lock);
	holders--;
	aq__unlock(&lock);
}

/* WATCH. A capture that does not begin has not begun. */
#define HOOK_BEGIN(sym, per_thread, params, ...)                                                   \
	CUresult sym params                                                                        \
	{                                                                                          \
		CUresult r;                                                                        \
                                                                                                   \
		if (!aq__page_get())                                                               \
			return AQ__CALL(sym, __VA_ARGS__);                                         \
		begins(stream, per_thread);                                                        \
		r = AQ__CALL(sym, __VA_ARGS__);                                                    \
		if (r != CUDA_SUCCESS)                                                             \
			aq__capture_ended(stream);                                                 \
		return r;                                                                          \
	}

HOOK_BEGIN(cuStreamBeginCapture, false, (CUstream stream), stream)
HOOK_BEGIN(cuStreamBeginCapture_ptsz, true, (CUstream stream), stream)
HOOK_BEGIN(cuStreamBeginCapture_v2, false, (CUstream stream, CUstreamCaptureMode mode), stream,
	   mode)
HOOK_BEGIN(cuStreamBeginCapture_v2_ptsz, true, (CUstream stream, CUstreamCaptureMode mode), stream,
	   mode)

#define GRAPH_PARAMS                                                                               \
	(CUstream stream, CUgraph graph, const CUgraphNode *deps, const CUgraphEdgeData *dep_data, \
	 size_t ndeps, CUstreamCaptureMode mode)
HOOK_BEGIN(cuStreamBeginCaptureToGraph, false, GRAPH_PARAMS, stream, graph, deps, dep_data, ndeps,
	   mode)
HOOK_BEGIN(cuStreamBeginCaptureToGraph_ptsz, true, GRAPH_PARAMS, stream, graph, deps, dep_data,
	   ndeps, mode)

/* WATCH. Whatever the answer: one that the driver calls none of its own is none. */
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	CUresult r = AQ__CALL(cuStreamEndCapture, stream, graph);

	aq__capture_ended(stream);
	return r;
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
	CUresult r = AQ__CALL(cuStreamEndCapture_ptsz, stream, graph);

	aq__capture_ended(stream);
	return r;
}

/* LIFECYCLE. */
CUresult cuStreamDestroy(CUstream stream)
{
	aq__gate_stream_gone(stream, false);
	aq__capture_ended(stream);
	return AQ__CALL(cuStreamDestroy, stream);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
	aq__gate_stream_gone(stream, false);
	aq__capture_ended(stream);
	return AQ__CALL(cuStreamDestroy_v2, stream);
}

/* ---- waiting for a device ---- */

struct found {
	int index;
	uint32_t n;
	CUcontext ctx[MAX_CONTEXTS];
};

static bool note(const struct aq__item *item, void *arg)
{
	struct found *f = arg;

	if (item->class == AQ__CONTEXT && item->index == f->index && f->n < MAX_CONTEXTS)
		f->ctx[f->n++] = (CUcontext)(uintptr_t)item->key;
	return false;
}

/*
 * Work may wait for a call that the gate now holds back, and then it is not done before the gate
 * opens. So it is a thread of its own that waits in the driver, and is left there if it must be.
 */
static struct {
	uint32_t busy;	    /* atomic, futex: the thread is at it */
	uint32_t abandoned; /* atomic: it is to touch no further context */
	struct found f;	    /* by who made it busy */
} waiter;

static void wait_for_contexts(void)
{
	CUcontext popped;

	for (uint32_t i = 0; i < waiter.f.n; i++) {
		if (__atomic_load_n(&waiter.abandoned, __ATOMIC_ACQUIRE))
			break;
		if (AQ__CALL(cuCtxPushCurrent_v2, waiter.f.ctx[i]) != CUDA_SUCCESS)
			continue; /* it has just ended */
		(void)AQ__CALL(cuCtxSynchronize);
		(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
	}
	__atomic_store_n(&waiter.busy, 0, __ATOMIC_RELEASE);
	syscall(SYS_futex, &waiter.busy, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Return: false: it is still at it at @until_ns. */
static bool waited(uint64_t until_ns)
{
	while (__atomic_load_n(&waiter.busy, __ATOMIC_ACQUIRE)) {
		struct timespec until = {
			.tv_sec = (time_t)(until_ns / AQ_NS_PER_S),
			.tv_nsec = (long)(until_ns % AQ_NS_PER_S),
		};

		if (aq_now_ns() >= until_ns)
			return false;
		syscall(SYS_futex, &waiter.busy, FUTEX_WAIT_BITSET_PRIVATE, 1, &until, NULL,
			FUTEX_BITSET_MATCH_ANY);
	}
	return true;
}

static void *wait_apart(void *arg)
{
	(void)arg;
	(void)aq__relax_begin(); /* for good */
	wait_for_contexts();
	return NULL;
}

bool aq__gate_settle(int index, uint64_t until_ns)
{
	uint32_t idle = 0;

	while (capturing()) {
		if (aq_now_ns() >= until_ns)
			return false;
		aq_sleep_until_ns(aq_now_ns() + POLL_NS);
	}
	if (!__atomic_compare_exchange_n(&waiter.busy, &idle, 1, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return false; /* it still waits for what it was left with */
	__atomic_store_n(&waiter.abandoned, 0, __ATOMIC_RELAXED);
	waiter.f.index = index;
	waiter.f.n = 0;
	aq__track_sweep(note, &waiter.f);
	if (!aq__thread_start(wait_apart, WAITER_STACK_BYTES, "aliquot-drain"))
		wait_for_contexts();
	if (waited(until_ns))
		return true;
	__atomic_store_n(&waiter.abandoned, 1, __ATOMIC_RELEASE);
	return false;
}

void aq__capture_forked(void)
{
	aq__lock_reset(&lock);
	n_captured = unknown = holders = 0;
	waiter.busy = 0;
}
