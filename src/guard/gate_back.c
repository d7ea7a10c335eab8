/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a lease is given back: at its end, when what is in flight is about to be done; or as soon as
 * the program pauses while others wait. What the gate's thread does for a device (gate_thread.c);
 * who may submit is decided in gate.c.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/number.h"
#include "guard/gate_parts.h"
#include "guard/guard.h"
#include "guard/guest.h"

/* A pause this long gives back what others wait for: about what handing over and back costs. */
#define IDLE_NS (100 * AQ_NS_PER_US)

/* See early_ns(); a page may say anything. */
#define EARLY_MOST_NS AQ_NS_PER_MS

/* By which that may be wrong when a higher priority has the device already: it is put right later.
 */
#define URGENT_ERROR_NS AQ_NS_PER_MS

#define BUSY_NS AQ_NS_PER_MS /* while threads submit or are about to, there is nothing to see */

/* How long before the end of what is in flight a lease is given back. */
static uint64_t early_ns(const struct aq_page_device *dev)
{
	uint64_t ns = aq__load32(&dev->early_ns);

	return ns ? aq_min(ns, EARLY_MOST_NS) : EARLY_NS;
}

/*
 * The turn is given back. Nothing of it is in flight, and nobody submits in it. @likely: a program
 * whose lease was ended while it worked has more to submit, be it that it has to be told first that
 * this is done; it wants for another IDLE_NS, or a launcher that waits for each step would stand
 * behind everybody at each end of a lease, whatever its share.
 */
static void give_back(struct aq_page_device *dev, int index, uint32_t turn, bool likely)
{
	struct aq__gate_device *d = &aq__gate_devices[index];
	uint64_t now = aq_now_ns(), end = now + aq__flight_left(index, now, false);

	aq__gate_publish(dev, index, true, now);
	aq__store32(&dev->edge_ns, aq__flight_steady(index, EARLY_NS) ? aq__edge(end) : 0);
	likely = likely && !aq__gate_shut(dev, index); /* its memory would be brought back for it */
	d->likely_ns = likely ? now + IDLE_NS : 0;
	if (likely)
		aq__store32(&dev->want, 1);
	else
		aq__gate_want_if_waiting(dev, index);
	if (aq__turn_later(turn, aq__load32(&dev->done_turn)))
		aq__store32(&dev->done_turn, turn);
	aq__gate_bell(index);
}

/* A lease is in use, has time left, and others wait. */
static uint64_t tend_idle(struct aq_page_device *dev, int index, uint32_t turn, uint64_t now_ns)
{
	struct aq__gate_device *d = &aq__gate_devices[index];
	uint64_t quiet = __atomic_load_n(&d->last_ns, __ATOMIC_RELAXED) + IDLE_NS;
	uint64_t left = aq__flight_left(index, now_ns, true);

	if (__atomic_load_n(&d->calls, __ATOMIC_SEQ_CST) ||
	    __atomic_load_n(&d->waiters, __ATOMIC_SEQ_CST))
		return now_ns + BUSY_NS;
	if (now_ns < quiet || left > 1)
		return aq_max(aq_max(now_ns + left, quiet), now_ns + POLL_LEAST_NS);
	if (!aq__flight_drained(index))
		return now_ns + POLL_NS;
	__atomic_store_n(&d->closed, (uint64_t)turn + 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&d->calls, __ATOMIC_SEQ_CST) && aq__flight_drained(index)) {
		give_back(dev, index, turn, false);
		return NEVER;
	}
	/* Somebody came meanwhile; who came a little later sleeps already. */
	__atomic_store_n(&d->closed, 0, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &dev->lease_turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	return now_ns + POLL_NS;
}

/*
 * A lease that is used has ended. Where what is in flight can be foretold, it is given back a
 * little before that is done: who has it next needs as long to hear of it, and the device is not
 * idle meanwhile. What still runs is charged as ever. A higher priority is there already, and only
 * has to be told how much that is.
 */
static uint64_t tend_end(struct aq_page_device *dev, int index, uint32_t turn, uint64_t now_ns)
{
	struct aq__gate_device *d = &aq__gate_devices[index];
	uint64_t fresh = __atomic_load_n(&d->last_ns, __ATOMIC_RELAXED) + NAP_NS;
	bool urgent =
		aq__load32(&dev->waiting) == AQ_WAITING_URGENT && !aq__load64(&dev->lease_until_ns);
	uint64_t early = early_ns(dev), left;

	if (__atomic_load_n(&d->calls, __ATOMIC_SEQ_CST))
		return now_ns + (now_ns < fresh ? POLL_LEAST_NS : 2 * POLL_NS);
	if (aq__flight_drained(index)) {
		give_back(dev, index, turn, true);
		return d->likely_ns;
	}
	left = aq__flight_left(index, now_ns, false);
	if (aq__flight_regular(index, urgent ? URGENT_ERROR_NS : EARLY_NS, now_ns)) {
		if (left > early && !urgent) /* but marks may be reached sooner */
			return now_ns + aq_min(left - early, NAP_NS);
		give_back(dev, index, turn, true);
		return d->likely_ns;
	}
	return now_ns + aq_min(aq_max(left, POLL_LEAST_NS), POLL_NS);
}

/* It was likely that somebody would come, and nobody did. Return: when it is time to say so. */
static uint64_t tend_likely(struct aq_page_device *dev, int index, uint64_t now_ns)
{
	struct aq__gate_device *d = &aq__gate_devices[index];

	if (!d->likely_ns || now_ns < d->likely_ns)
		return d->likely_ns ? d->likely_ns : NEVER;
	d->likely_ns = 0;
	aq__gate_want_if_waiting(dev, index);
	aq__gate_bell(index);
	return NEVER;
}

/* A lease is in use that others wait for. */
static uint64_t tend_contended(struct aq_page_device *dev, int index, uint32_t turn,
			       uint64_t until_ns, uint64_t now_ns)
{
	uint64_t left = aq_minus(until_ns, now_ns), early = early_ns(dev), next;

	(void)aq__flight_left(index, now_ns, true); /* what is reached is not overdue */
	/* What may be submitted yet is next to nothing: end it, so that the next one hears of it.
	 */
	if (left <= early && aq__flight_regular(index, EARLY_NS, now_ns)) {
		__atomic_store_n(&aq__gate_devices[index].closed, (uint64_t)turn + 1,
				 __ATOMIC_SEQ_CST);
		return tend_end(dev, index, turn, now_ns);
	}
	next = tend_idle(dev, index, turn, now_ns);
	if (until_ns >= AQ_LEASE_STANDING)
		return next;
	if (left > early)
		until_ns -= early;
	return aq_min(next, until_ns);
}

static uint64_t tend(struct aq_page_device *dev, int index, uint64_t now_ns)
{
	uint32_t active = aq__load32(&dev->active_turn), turn = aq__load32(&dev->lease_turn);
	uint64_t until = aq__load64(&dev->lease_until_ns), next;

	if (!(aq__gate_word(dev) & AQ_GATE_LEASED)) {
		if (active != aq__load32(&dev->done_turn))
			give_back(dev, index, active, false);
		aq__flight_unfollowed(index);
		return NEVER;
	}
	if (active == aq__load32(&dev->done_turn)) { /* not used; who uses it does not wake us */
		next = tend_likely(dev, index, now_ns);
		if (active == turn || until <= now_ns || until == AQ_LEASE_STANDING)
			return next; /* who takes up a standing one wakes us after all */
		if (aq__load32(&dev->waiting))
			until = now_ns + 2 * POLL_NS;
		return aq_min(next, until);
	}
	aq__gate_devices[index].likely_ns = 0;
	if (active != turn || !aq__gate_lease_runs(dev, index, turn))
		return tend_end(dev, index, active, now_ns);
	if (!aq__load32(&dev->waiting))
		return until == AQ_LEASE_UNTIL_TOLD ? NEVER : until;
	return tend_contended(dev, index, turn, until, now_ns);
}

uint64_t aq__gate_tend(int index, uint64_t now_ns)
{
	struct aq_page *page = aq__page_get();
	struct aq__gate_device *d = &aq__gate_devices[index];
	uint64_t next;

	if (!page || __atomic_exchange_n(&d->tended, 1, __ATOMIC_ACQUIRE))
		return now_ns + POLL_NS;
	next = tend(&page->device[index], index, now_ns);
	__atomic_store_n(&d->tended, 0, __ATOMIC_RELEASE);
	return next;
}
