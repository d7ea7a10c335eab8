/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes the words of leases. Decides nothing. */
#include "daemon/lease_page.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/banned.h"

/* Shared, not private: sleepers are in another process. */
static void wake_all(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void aqd_page_news(struct aq_page *page)
{
	__atomic_fetch_add((uint32_t *)&page->news, 1, __ATOMIC_SEQ_CST);
	wake_all(&page->news);
}

void aqd_page_wake(struct aq_page *page, uint32_t device)
{
	wake_all(&page->device[device].lease_turn);
}

void aqd_page_give(struct aq_page *page, uint32_t device, uint32_t turn, uint64_t until_ns)
{
	struct aq_page_device *dev = &page->device[device];

	__atomic_store_n((uint64_t *)&dev->lease_until_ns, until_ns, __ATOMIC_SEQ_CST);
	__atomic_store_n((uint32_t *)&dev->lease_turn, turn, __ATOMIC_SEQ_CST);
	wake_all(&dev->lease_turn);
}

void aqd_page_set_until(struct aq_page *page, uint32_t device, uint64_t until_ns)
{
	__atomic_store_n((uint64_t *)&page->device[device].lease_until_ns, until_ns,
			 __ATOMIC_SEQ_CST);
}

void aqd_page_set_waiting(struct aq_page *page, uint32_t device, uint32_t waiting)
{
	__atomic_store_n((uint32_t *)&page->device[device].waiting, waiting, __ATOMIC_RELEASE);
}

void aqd_page_set_early(struct aq_page *page, uint32_t device, uint32_t early_ns)
{
	__atomic_store_n((uint32_t *)&page->device[device].early_ns, early_ns, __ATOMIC_RELAXED);
}

void aqd_page_set_total(struct aq_page *page, uint32_t device, uint64_t total_ns)
{
	__atomic_store_n((uint64_t *)&page->device[device].total_ns, total_ns, __ATOMIC_RELAXED);
}

uint64_t aqd_page_total(const struct aq_page *page, uint32_t device)
{
	return __atomic_load_n((uint64_t *)&page->device[device].total_ns, __ATOMIC_RELAXED);
}

struct aqd_page_says aqd_page_look(const struct aq_page *page, uint32_t device)
{
	const struct aq_page_device *dev = &page->device[device];
	struct aqd_page_says says;

	/* Of the claim, if done_turn does not say otherwise. */
	says.edge_ns = __atomic_load_n((uint32_t *)&dev->edge_ns, __ATOMIC_ACQUIRE);
	says.active_turn = __atomic_load_n((uint32_t *)&dev->active_turn, __ATOMIC_SEQ_CST);
	says.done_turn = __atomic_load_n((uint32_t *)&dev->done_turn, __ATOMIC_SEQ_CST);
	/* After done_turn, before which they are written. */
	says.gpu_ns = __atomic_load_n((uint64_t *)&dev->gpu_ns, __ATOMIC_ACQUIRE);
	says.want = __atomic_load_n((uint32_t *)&dev->want, __ATOMIC_ACQUIRE) != 0;
	return says;
}

uint32_t aqd_page_contexts(const struct aq_page *page)
{
	return __atomic_load_n((uint32_t *)&page->contexts, __ATOMIC_ACQUIRE);
}
