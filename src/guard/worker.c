/* SPDX-License-Identifier: Apache-2.0 */
/* See worker.h. What such threads do is others' business. */
#include "guard/worker.h"

#include <sched.h>
#include <stdlib.h>

#include "base/timing.h"
#include "guard/conn.h"
#include "guard/guard.h"
#include "guard/guest.h"

#define STACK_BYTES ((size_t)512 << 10) /* guess: the driver says nowhere what it needs */
#define LEAVE_NS (50 * AQ_NS_PER_MS)	/* guess: longer than any call of these threads */

enum { NOT_STARTED, STARTING, RUNS, CANNOT };

/*
 * The process ends, and the driver with it, whose handlers were registered before this one and run
 * after it: no call of ours may be under way then. The daemon takes what we hold when we are gone.
 */
static void leave(int status, void *arg)
{
	uint64_t until = aq_now_ns() + LEAVE_NS;
	struct aq__worker *w = arg;

	(void)status;
	__atomic_store_n(&w->ends, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&w->inside, __ATOMIC_SEQ_CST) && aq_now_ns() < until)
		sched_yield();
}

bool aq__worker_start(struct aq__worker *w, void *(*run)(void *), const char *name)
{
	uint32_t was = __atomic_load_n(&w->state, __ATOMIC_ACQUIRE);

	if (was == RUNS)
		return true;
	was = NOT_STARTED;
	if (!aq__page_get() || !__atomic_compare_exchange_n(&w->state, &was, STARTING, false,
							    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return was != CANNOT && was != NOT_STARTED;
	on_exit(leave, w);
	was = aq__thread_start(run, STACK_BYTES, name) ? RUNS : CANNOT;
	__atomic_store_n(&w->state, was, __ATOMIC_RELEASE);
	return was == RUNS;
}

void aq__worker_forked(struct aq__worker *w)
{
	w->state = NOT_STARTED;
	w->inside = 0;
}
