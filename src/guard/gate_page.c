/* SPDX-License-Identifier: Apache-2.0 */
/* What the page says of a device's gate and lease, and what it is told; decides nothing. */
#include <string.h>

#include "base/number.h"
#include "guard/conn.h"
#include "guard/gate_parts.h"
#include "guard/guard.h"
#include "guard/guest.h"

/* A daemon looks at each page once a second. One that has not for so long, while somebody waits, is
 * stopped, or waits itself, for a disk or a driver. */
#define STALLED_NS (3 * AQ_NS_PER_S)

struct aq__gate_device aq__gate_devices[AQ_MAX_DEVICES];

static uint32_t stalled; /* the daemon is, as far as is known; atomic */

bool aq__gate_daemon_looks(bool suspect)
{
	const struct aq_page *page = aq__page_get();
	uint64_t beat;
	bool is;

	if (!suspect && !__atomic_load_n(&stalled, __ATOMIC_RELAXED))
		return true;
	beat = page ? aq__load64(&page->beat_ns) : 0;
	is = beat && aq_minus(aq_now_ns(), beat) > STALLED_NS;
	__atomic_store_n(&stalled, is, __ATOMIC_RELAXED);
	return !is;
}

uint32_t aq__gate_word(const struct aq_page_device *dev)
{
	uint32_t word = aq__load32(&dev->gate);

	if (word & AQ_GATE_LEASED && (!aq__conn_up() || !aq__gate_daemon_looks(false)))
		word &= ~AQ_GATE_LEASED;
	return word;
}

bool aq__gate_lease_runs(const struct aq_page_device *dev, int index, uint32_t turn)
{
	const struct aq__gate_device *d = &aq__gate_devices[index];
	uint64_t until = aq__load64(&dev->lease_until_ns);

	if (!until || __atomic_load_n(&d->closed, __ATOMIC_SEQ_CST) == (uint64_t)turn + 1)
		return false;
	if (turn && aq__load32(&dev->done_turn) == turn)
		return false; /* the end of the next one is written before its number */
	return until == AQ_LEASE_UNTIL_TOLD || until > aq_now_ns();
}

bool aq__gate_shut(const struct aq_page_device *dev, int index)
{
	return __atomic_load_n(&aq__gate_devices[index].shut, __ATOMIC_SEQ_CST) ||
	       aq__load32(&dev->gate) & AQ_GATE_PARKED;
}

void aq__gate_publish(struct aq_page_device *dev, int index, bool foretell, uint64_t now_ns)
{
	uint64_t used = aq__flight_harvest(index, foretell);

	__atomic_store_n(&aq__gate_devices[index].published_ns, now_ns, __ATOMIC_RELAXED);
	if (used)
		__atomic_fetch_add((uint64_t *)&dev->gpu_ns, used, __ATOMIC_SEQ_CST);
}

void aq__gate_want_if_waiting(struct aq_page_device *dev, int index)
{
	const uint32_t *word = &aq__gate_devices[index].waiters;
	uint32_t waiters;

	do {
		waiters = __atomic_load_n(word, __ATOMIC_SEQ_CST);
		aq__store32(&dev->want, waiters != 0);
	} while (!waiters != !__atomic_load_n(word, __ATOMIC_SEQ_CST));
}

void aq__gate_bell(int index)
{
	aq__conn_bell(1u << index);
}

void aq__gate_page_forked(void)
{
	memset(aq__gate_devices, 0, sizeof(aq__gate_devices));
	stalled = 0;
}
