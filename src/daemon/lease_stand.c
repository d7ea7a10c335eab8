/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standing leases. Who goes first by its priority and does nothing now would be given the device in
 * the moment in which it wants it, and the lower lease passed over: all that it waits for is two
 * threads that wake up. So it has its lease beforehand. It takes it up by itself and rings, and the
 * arbiter, which decides by the same state as when the lease was left standing, hands it out.
 *
 * What is taken up in the moment in which it is withdrawn runs on unseen, for a window of the
 * guard's at the most, and is counted.
 */
#include "base/number.h"
#include "base/timing.h"
#include "daemon/lease.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

void aqd__lease_withdraw(struct aqd_lessee *c, uint32_t i)
{
	if (!c->device[i].standing)
		return;
	aqd_page_set_until(c->page, i, 0);
	c->device[i].standing = false;
}

uint64_t aqd__lease_taken_ns(const struct aqd_lease *f, uint64_t now_ns)
{
	uint32_t before = 0;
	struct aqd_lessee *c, *tmp;

	AQD__EACH_PLACE (f, c, tmp, i) {
		const struct aqd_lessee_device *dev = &c->device[i];
		struct aqd_page_says says = aqd_page_look(c->page, i);

		if (dev->standing && says.active_turn == dev->turn && says.edge_ns)
			before = (uint32_t)aq_max(before, (uint32_t)now_ns - says.edge_ns);
	}
	return now_ns - aq_min(before, AQD_LEASE_GRACE_NS); /* a page may say anything */
}

void aqd__lease_lapsed(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c, uint32_t i,
		       uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint64_t before = dev->claimed_ns;

	aqd__lease_withdraw(c, i);
	aqd__lease_collect(l, f, c, i, now_ns);
	aq_arbiter_add(&l->arbiter, &f->contender, dev->claimed_ns - before, now_ns);
	l->stirred = true;
}

/* Anything under way, late or about to come is left alone. */
static bool is_idle(const struct aqd_lessee *c, uint32_t i)
{
	struct aqd_page_says says = aqd_page_look(c->page, i);

	return c->device[i].gated && !c->device[i].late && !says.want &&
	       says.active_turn == says.done_turn;
}

static void leave_standing(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			   uint32_t i, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];

	aqd__lease_collect(l, f, c, i, now_ns);
	dev->standing = true;
	aqd__lease_set_waiting(c, i, AQ_WAITING_OTHERS);
	aqd_page_set_early(c->page, i, aqd__handover_early_ns(l, f->device[i]));
	aqd_page_give(c->page, i, ++dev->turn, AQ_LEASE_STANDING);
}

uint64_t aqd__leases_stand(struct aqd_leases *l, uint64_t now_ns)
{
	uint64_t next = AQ_ARBITER_NEVER;
	struct aqd_lease *f, *next_fraction;
	struct aqd_lessee *c, *next_client;

	AQ_LIST_FOREACH (f, next_fraction, &l->all, link) {
		uint64_t again = AQ_ARBITER_NEVER;
		bool first = f->joined && !f->given && !f->away && f->terms.devices &&
			     aq_arbiter_goes_first(&l->arbiter, &f->contender, now_ns, &again);

		next = aq_min(next, again);
		AQD__EACH_PLACE (f, c, next_client, i) {
			if (!first)
				aqd__lease_withdraw(c, i);
			else if (!c->device[i].standing && is_idle(c, i))
				leave_standing(l, f, c, i, now_ns);
		}
	}
	return next;
}
