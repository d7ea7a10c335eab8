/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard's own thread: sleeps on page.news, gives leases back that nobody gives back in passing,
 * and calls whoever else acts on news. Decides nothing. It never runs before a gate is managed or
 * somebody registered asks for it.
 *
 * When we fail: without the thread, threads that wait at the gate do its work for themselves; a
 * lease that nobody waits to have again is then taken back late, by the daemon.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/number.h"
#include "base/slice.h"
#include "base/timing.h"
#include "guard/conn.h"
#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/worker.h"
#include "guard/guest.h"

#define MAX_CALLERS 4
#define SLICE_NS (100 * AQ_NS_PER_US) /* it works for less at a time, and others wait for it */

static aq__news_fn *callers[MAX_CALLERS]; /* atomic each; filled from the front */

static struct aq__worker worker;

static uint64_t look(struct aq_page *page)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < page->device_count && i < AQ_MAX_DEVICES; i++)
		next = aq_min(next, aq__gate_tend((int)i, aq_now_ns()));
	for (int i = 0; i < MAX_CALLERS; i++) {
		aq__news_fn *fn = __atomic_load_n(&callers[i], __ATOMIC_ACQUIRE);

		if (fn)
			next = aq_min(next, fn(page, aq_now_ns()));
	}
	return next;
}

static void sleep_until(const _Atomic uint32_t *news, uint32_t seen, uint64_t until_ns)
{
	struct timespec ts = {(time_t)(until_ns / AQ_NS_PER_S), (long)(until_ns % AQ_NS_PER_S)};

	syscall(SYS_futex, news, FUTEX_WAIT_BITSET, seen, until_ns == UINT64_MAX ? NULL : &ts, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

static void *run(void *arg)
{
	(void)arg;
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	(void)aq_slice_ask(SLICE_NS);
	(void)aq__relax_begin(); /* for good: it is no thread that captures */
	while (!aq__worker_ends(&worker)) {
		struct aq_page *page = aq__page_get(); /* never goes, but in a child */
		uint32_t seen = __atomic_load_n((uint32_t *)&page->news, __ATOMIC_SEQ_CST);
		uint64_t next = UINT64_MAX;

		if (aq__worker_enter(&worker))
			next = look(page);
		aq__worker_leave(&worker);
		sleep_until(&page->news, seen, next);
	}
	return NULL;
}

bool aq__gate_thread_start(void)
{
	return aq__worker_start(&worker, run, "aliquot-gate");
}

void aq__gate_thread_kick(void)
{
	struct aq_page *page = aq__page_get();

	if (page)
		syscall(SYS_futex, &page->news, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool aq__gate_thread_add(aq__news_fn *fn)
{
	for (int i = 0; i < MAX_CALLERS; i++) {
		aq__news_fn *none = NULL;

		if (__atomic_compare_exchange_n(&callers[i], &none, fn, false, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE) ||
		    none == fn)
			return true;
	}
	return false;
}

void aq__gate_thread_forked(void)
{
	aq__worker_forked(&worker);
}
