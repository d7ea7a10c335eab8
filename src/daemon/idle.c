/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idleness is seen by asking: AQ_GATE_NOTICE makes whoever submits next say so, once. So a program
 * that nobody waits for pays one slow submit in half a second at the most, and one that is idle
 * pays nothing. Leases and device time that is counted meanwhile are work, too. Parks nobody but
 * those whose own idle time is over.
 */
#include "daemon/idle.h"

#include <errno.h>

#include "daemon/client.h"
#include "daemon/compute.h"
#include "daemon/gate.h"
#include "daemon/loop.h"
#include "daemon/residency.h"
#include "daemon/residency_order.h"
#include "base/banned.h"

#define ASK_NS (500 * AQ_NS_PER_MS)
#define MAY_RETRY_NS (30 * AQ_NS_PER_S) /* after an idle one could not be parked */

/* A lease that nobody else waits for is kept until told, used or not: only submits tell which. */
static bool has_lease(const struct aqd_fraction *f)
{
	return f->lease.wanted_ns ||
	       (f->lease.given && f->lease.until_ns != AQ_LEASE_UNTIL_TOLD);
}

uint64_t aqd_idle_ns(struct aqd *d, const struct aqd_fraction *f)
{
	uint64_t now = aq_now_ns();

	if (has_lease(f))
		return 0;
	return now > f->residency.busy_ns ? now - f->residency.busy_ns : 0;
}

void aqd_idle_busy(struct aqd_fraction *f)
{
	f->residency.busy_ns = aq_now_ns();
}

static uint32_t noticed(const struct aqd_client *c, uint32_t share)
{
	return __atomic_load_n((const uint32_t *)&c->page->device[share].noticed, __ATOMIC_ACQUIRE);
}

static void look(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	if (!c->page || !(aqd_gate_get(c, share) & AQ_GATE_NOTICE) ||
	    noticed(c, share) != c->notice[share])
		return;
	aqd_gate_set(d, c, share, AQ_GATE_NOTICE, false);
	aqd_idle_busy(c->fraction);
}

static void ask(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	if (!c->page || c->lied || aqd_gate_get(c, share) & AQ_GATE_NOTICE)
		return;
	c->notice[share] = noticed(c, share) + 1;
	__atomic_store_n((uint32_t *)&c->page->device[share].notice, c->notice[share],
			 __ATOMIC_RELEASE);
	aqd_gate_set(d, c, share, AQ_GATE_NOTICE, true);
}

void aqd_idle_bell(struct aqd *d, struct aqd_client *c)
{
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
		look(d, c, i);
}

/* Is it worth a question? Then also: what is there to move? */
static bool is_watched(struct aqd *d, struct aqd_fraction *f)
{
	struct aq_ledger_client *l, *next;
	bool movable = false, borrows = f->residency.park_idle_ns > 0;

	if (!aqd_is_resident(f))
		return false;
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		borrows =
			borrows || f->ledger.share[i].held_bytes > f->ledger.share[i].request_bytes;
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link)
			movable = movable || aqd_order_movable(d, aqd_client_of(l), i);
	}
	return movable && borrows;
}

static void park_idle(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_residency_refusal why;
	struct aqd_residency *r = &f->residency;
	uint64_t now = aq_now_ns();

	if (!r->park_idle_ns || aqd_idle_ns(d, f) < r->park_idle_ns || now < r->idle_retry_ns)
		return;
	if (aqd_residency_park(d, f, AQD_PARK_IDLE, false, &why) < 0)
		r->idle_retry_ns = now + MAY_RETRY_NS;
}

/* Return: watch on. */
static bool watch(struct aqd *d, struct aqd_fraction *f)
{
	uint64_t gpu_ns = aqd_compute_gpu_ns(f);
	struct aq_ledger_client *l, *next;

	if (gpu_ns != f->residency.gpu_ns || has_lease(f))
		aqd_idle_busy(f);
	f->residency.gpu_ns = gpu_ns;
	if (!is_watched(d, f))
		return f->residency.park_idle_ns > 0;
	AQ_LIST_FOREACH (l, next, &f->ledger.clients, link)
		for (uint32_t i = 0; i < f->ledger.share_count; i++) {
			look(d, aqd_client_of(l), i);
			ask(d, aqd_client_of(l), i);
		}
	park_idle(d, f);
	return true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;
	struct aqd_fraction *f, *next;
	bool again = false;

	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		again = watch(d, f) || again;
	if (again)
		aqd_idle_watch(d);
}

void aqd_idle_watch(struct aqd *d)
{
	if (!evtimer_pending(d->idle_watch, NULL))
		aqd_timer_set(d->idle_watch, ASK_NS);
}

int aqd_idle_init(struct aqd *d)
{
	d->idle_watch = evtimer_new(d->base, on_timer, d);
	return d->idle_watch ? 0 : -ENOMEM;
}

void aqd_idle_finish(struct aqd *d)
{
	if (d->idle_watch)
		event_free(d->idle_watch);
	d->idle_watch = NULL;
}
