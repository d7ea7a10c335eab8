/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of gate.h: what a process knows of its devices, shared by gate.c (who may submit) and
 * gate_back.c (when a lease is given back); gate_page.c is between them and the page. */
#ifndef AQ_GUARD_GATE_PARTS_H
#define AQ_GUARD_GATE_PARTS_H

#include <aliquot/abi.h>

#include "base/timing.h"
#include "guard/gate.h"

/* A lease is given back so long before what is in flight is done, while the daemon has not told how
 * long handing over takes: 55 to 85 us on a host with nothing else to do (simulator). */
#define EARLY_NS (100 * AQ_NS_PER_US)

/* A thread sleeps so long at the most until it looks at estimates again. */
#define NAP_NS (500 * AQ_NS_PER_US)

#define POLL_NS (100 * AQ_NS_PER_US)
#define POLL_LEAST_NS (20 * AQ_NS_PER_US)
#define NEVER UINT64_MAX

/* One device; all atomic. */
struct aq__gate_device {
	uint32_t calls;	  /* threads between enter and leave */
	uint32_t links;	  /* ... of copies, which need no lease */
	uint32_t waiters; /* threads that wait to submit */
	uint32_t shut;	  /* aq__gate_close_and_drain() */
	uint32_t tended;  /* somebody is in aq__gate_tend() */
	uint64_t closed;  /* turn + 1 that is given back before its end; 0: none */
	uint64_t last_ns; /* when a thread left last */
	uint64_t published_ns;
	uint64_t likely_ns; /* until then it wants, though nobody waits; 0: no. By who tends */
} __attribute__((aligned(64)));

extern struct aq__gate_device aq__gate_devices[AQ_MAX_DEVICES];

static inline uint32_t aq__load32(const _Atomic uint32_t *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_SEQ_CST);
}

static inline uint64_t aq__load64(const _Atomic uint64_t *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_SEQ_CST);
}

static inline void aq__store32(_Atomic uint32_t *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_SEQ_CST);
}

/* Turns wrap. */
static inline bool aq__turn_later(uint32_t turn, uint32_t than)
{
	return (int32_t)(turn - than) > 0;
}

/* An instant as the page has it: never 0, which is none. */
static inline uint32_t aq__edge(uint64_t ns)
{
	return (uint32_t)ns ? (uint32_t)ns : 1;
}

/* ---- gate_page.c ---- */

/* Whether the daemon looks at the page; @suspect: somebody waits for longer than is usual. */
bool aq__gate_daemon_looks(bool suspect);

/* The gate as it counts: leases are nobody's to give while there is no daemon. */
uint32_t aq__gate_word(const struct aq_page_device *dev);

/* Is this turn's lease held, not given back, and not over? */
bool aq__gate_lease_runs(const struct aq_page_device *dev, int index, uint32_t turn);

/* Nobody submits, lease or not. */
bool aq__gate_shut(const struct aq_page_device *dev, int index);

/* Count what was measured since the last time, into the page; @foretell: and what is in flight. */
void aq__gate_publish(struct aq_page_device *dev, int index, bool foretell, uint64_t now_ns);

/* Want, or not. Whoever begins or ceases to wait meanwhile writes after us what we have not seen.
 */
void aq__gate_want_if_waiting(struct aq_page_device *dev, int index);

/* Have the daemon look at the device. */
void aq__gate_bell(int index);

void aq__gate_page_forked(void);

#endif /* AQ_GUARD_GATE_PARTS_H */
