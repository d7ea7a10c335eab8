/* SPDX-License-Identifier: Apache-2.0 */
/* Writes gate words and wakes who sleeps on words of the page. Decides nothing. */
#include "daemon/gate.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/compute.h"
#include "daemon/residency.h"
#include "base/banned.h"

#define KNOWN_BITS (AQ_GATE_LEASED | AQ_GATE_PARKED | AQ_GATE_NOTICE)

static void write_gate(struct aqd_client *c, uint32_t share)
{
	uint32_t gates = 0;

	/* Each device's word first: whoever sees its bit in `gates` finds the reason there. */
	__atomic_store_n((uint32_t *)&c->page->device[share].gate, c->gate[share],
			 __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
		gates |= c->gate[i] ? 1u << i : 0;
	__atomic_store_n((uint32_t *)&c->page->gates, gates, __ATOMIC_SEQ_CST);
}

void aqd_gate_set(struct aqd *d, struct aqd_client *c, uint32_t share, uint32_t bits, bool on)
{
	if (!c->page || !c->fraction)
		return;
	if (on)
		c->gate[share] |= bits;
	else
		c->gate[share] &= ~bits;
	write_gate(c, share);
}

uint32_t aqd_gate_get(const struct aqd_client *c, uint32_t share)
{
	return c->gate[share];
}

void aqd_gate_adopt(struct aqd_client *c)
{
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++) {
		c->gate[i] = KNOWN_BITS & __atomic_load_n((uint32_t *)&c->page->device[i].gate,
							  __ATOMIC_SEQ_CST);
		write_gate(c, i);
	}
}

void aqd_gate_wake(_Atomic uint32_t *word)
{
	/* Not FUTEX_PRIVATE: the sleepers are other processes. */
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void aqd_gate_news(struct aqd_client *c)
{
	if (!c->page)
		return;
	__atomic_add_fetch((uint32_t *)&c->page->news, 1, __ATOMIC_SEQ_CST);
	aqd_gate_wake(&c->page->news);
}

int aqd_gate_bell(struct aqd *d, struct aqd_client *c, uint32_t devices)
{
	if (!devices || devices >> c->fraction->ledger.share_count)
		return -EINVAL;
	aqd_compute_bell(d, c, devices);
	aqd_residency_bell(d, c);
	return 0;
}
