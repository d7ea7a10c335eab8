/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's half of leases, by hand: what it writes into the fake daemon's page, in its order.
 * Decides nothing: a test says when.
 */
#ifndef AQ_TESTS_FAKE_LEASE_H
#define AQ_TESTS_FAKE_LEASE_H

#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/timing.h"
#include "fake_daemon.h"

static inline struct aq_page_device *lease_device(int i)
{
	return &fake_daemon.page->device[i];
}

static inline uint32_t lease_load(const _Atomic uint32_t *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_SEQ_CST);
}

static inline void lease_store(_Atomic uint32_t *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_SEQ_CST);
}

static inline void lease_news(void)
{
	__atomic_fetch_add((uint32_t *)&fake_daemon.page->news, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &fake_daemon.page->news, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static inline void lease_gate(int i, uint32_t gate)
{
	uint32_t gates = lease_load(&fake_daemon.page->gates), bit = 1u << i;

	lease_store(&lease_device(i)->gate, gate);
	lease_store(&fake_daemon.page->gates, gate ? gates | bit : gates & ~bit);
	lease_news();
}

static inline void lease_write(int i, uint64_t until, uint32_t waiting)
{
	struct aq_page_device *dev = lease_device(i);

	lease_store(&dev->waiting, waiting);
	__atomic_store_n((uint64_t *)&dev->lease_until_ns, until, __ATOMIC_SEQ_CST);
	__atomic_fetch_add((uint32_t *)&dev->lease_turn, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &dev->lease_turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* @ns: UINT64_MAX until told. @waiting: AQ_WAITING_*. */
static inline void lease_give_to(int i, uint64_t ns, uint32_t waiting)
{
	lease_write(i, ns == UINT64_MAX ? AQ_LEASE_UNTIL_TOLD : aq_now_ns() + ns, waiting);
	lease_news();
}

static inline void lease_give(int i, uint64_t ns, bool waiting)
{
	lease_give_to(i, ns, waiting ? AQ_WAITING_OTHERS : AQ_WAITING_NOBODY);
}

static inline void lease_end(int i)
{
	__atomic_store_n((uint64_t *)&lease_device(i)->lease_until_ns, 0, __ATOMIC_SEQ_CST);
	lease_news();
}

/* Is the lease out? As the daemon sees it. */
static inline bool lease_is_back(int i)
{
	struct aq_page_device *dev = lease_device(i);
	uint32_t turn = lease_load(&dev->lease_turn);

	return lease_load(&dev->active_turn) != turn || lease_load(&dev->done_turn) == turn;
}

static inline bool lease_wait_back(int i, uint64_t ns)
{
	uint64_t until = aq_now_ns() + ns;

	while (!lease_is_back(i) && aq_now_ns() < until)
		usleep(200);
	return lease_is_back(i);
}

static inline uint64_t lease_gpu_ns(int i)
{
	return __atomic_load_n((uint64_t *)&lease_device(i)->gpu_ns, __ATOMIC_SEQ_CST);
}

#endif /* AQ_TESTS_FAKE_LEASE_H */
