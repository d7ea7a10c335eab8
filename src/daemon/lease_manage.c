/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fractions and clients coming and going, and what follows from it: which gates close, and who
 * takes part in the arbitration. Hands out no lease by itself.
 */
#include <string.h>

#include "base/timing.h"
#include "daemon/lease.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

#define AWAY_NS (60 * AQ_NS_PER_S) /* guess: a daemon that is away for longer is not restarted */

static uint64_t bit_of(const struct aqd_lease *f, uint32_t i)
{
	return 1ull << f->device[i];
}

void aqd_lease_init(struct aqd_leases *l, struct aqd_lease *f, const uint32_t *device,
		    uint32_t count, const struct aq_arbiter_terms *terms, uint64_t born_ns)
{
	memset(f, 0, sizeof(*f));
	aq_list_init(&f->lessees);
	f->born_ns = born_ns;
	f->device_count = count;
	memcpy(f->device, device, count * sizeof(*device));
	f->terms = *terms;
	f->terms.devices = 0;
	aq_list_append(&l->all, &f->link);
}

/* Terms for the arbiter, which knows no fraction without a device. */
static void tell_arbiter(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	struct aq_arbiter_terms terms = f->terms;

	if (!terms.devices)
		terms.devices = f->contender.terms.devices;
	aq_arbiter_change(&l->arbiter, &f->contender, &terms, now_ns);
}

void aqd_lease_change(struct aqd_leases *l, struct aqd_lease *f,
		      const struct aq_arbiter_terms *terms, uint64_t now_ns)
{
	uint64_t devices = f->terms.devices;

	f->terms = *terms;
	f->terms.devices = devices;
	l->remanage = true; /* a cap may have come or gone */
	if (f->joined)
		tell_arbiter(l, f, now_ns);
}

static void leave_arbiter(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	if (!f->joined)
		return;
	if (f->given)
		aqd__lease_clocks(l, f, f->terms.devices, false, now_ns);
	aq_arbiter_leave(&f->contender);
	f->joined = f->given = false;
}

void aqd_lease_finish(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	if (!f->link.next)
		return;
	leave_arbiter(l, f, now_ns);
	aq_list_remove(&f->link);
	l->remanage = true;
}

static bool runs_on(const struct aqd_lessee *c, uint32_t i)
{
	return c->running >> i & 1;
}

void aqd__lessee_look(struct aqd_leases *l, struct aqd_lessee *c, uint64_t now_ns)
{
	uint32_t running = aqd_page_contexts(c->page);

	for (uint32_t i = 0; i < c->lease->device_count; i++) {
		if (!((running ^ c->running) >> i & 1))
			continue;
		c->running ^= 1u << i;
		c->lease->running[i] += runs_on(c, i) ? 1 : -1u;
		c->device[i].open_from_ns = now_ns;
		l->remanage = true;
	}
}

void aqd_leases_look(struct aqd_leases *l, uint64_t now_ns)
{
	struct aqd_lease *f, *next_fraction;
	struct aqd_lessee *c, *next_client;

	AQ_LIST_FOREACH (f, next_fraction, &l->all, link)
		AQ_LIST_FOREACH (c, next_client, &f->lessees, link) {
			aqd__lessee_look(l, c, now_ns);
			f->touched = true; /* a bell may be lost */
			for (uint32_t i = 0; i < f->device_count; i++) {
				aqd__lease_collect(l, f, c, i, now_ns);
				aqd__lease_late_look(l, f, c, i, now_ns);
			}
		}
}

void aqd_lessee_join(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
		     struct aq_page *page, uint64_t now_ns)
{
	aqd_lessee_leave(l, c, now_ns);
	memset(c, 0, sizeof(*c));
	c->lease = f;
	c->page = page;
	c->fresh = true;
	c->joined_ns = now_ns;
	aq_list_append(&f->lessees, &c->link);
	for (uint32_t i = 0; i < f->device_count; i++) {
		/* It may come from an earlier daemon, with a lease and work under way. */
		aqd_page_set_until(page, i, 0);
		aqd_page_set_waiting(page, i, AQ_WAITING_NOBODY);
		aqd__lease_adopt_total(f, c, i, now_ns);
		c->device[i].turn = page->device[i].lease_turn;
		c->device[i].counted_ns = now_ns;
		c->device[i].gpu_ns = aqd_page_look(page, i).gpu_ns;
	}
	f->touched = true;
	l->remanage = true;
	aqd__lessee_look(l, c, now_ns);
}

void aqd_lessee_resume(struct aqd_lessee *c, uint64_t seen_ns, uint64_t now_ns)
{
	if (!seen_ns || seen_ns > now_ns || now_ns - seen_ns > AWAY_NS)
		return;
	c->unseen_from_ns = seen_ns;
	for (uint32_t i = 0; i < c->lease->device_count; i++)
		if (runs_on(c, i))
			c->device[i].open_from_ns = seen_ns;
}

void aqd_lessee_leave(struct aqd_leases *l, struct aqd_lessee *c, uint64_t now_ns)
{
	struct aqd_lease *f = c->lease;

	if (!f)
		return;
	for (uint32_t i = 0; i < f->device_count; i++) {
		aqd__lease_abandoned(l, f, c, i, now_ns);
		aqd__lease_withdraw(c, i);
		if (c->device[i].given)
			aqd_page_set_until(c->page, i, 0);
		f->running[i] -= runs_on(c, i);
	}
	aq_list_remove(&c->link);
	c->lease = NULL;
	f->touched = true;
	l->remanage = true;
}

/* Open or close a client's gates, and let it have part in the lease of its fraction. */
static void set_gates(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
		      uint64_t now_ns)
{
	for (uint32_t i = 0; i < f->device_count; i++) {
		struct aqd_lessee_device *dev = &c->device[i];
		bool gated = runs_on(c, i) && (f->terms.devices & bit_of(f, i));

		if (gated != dev->gated) {
			aqd__lease_open_until(dev, now_ns);
			aqd__lease_withdraw(c, i);
		}
		if (gated != dev->gated || c->fresh)
			l->ops->gate(l->context, c, i, gated);
		dev->gated = gated;
		if (!gated)
			dev->given = dev->deaf = false;
		else if (!dev->given && f->given && !f->ended_ns)
			aqd__lease_give(l, f, c, i, now_ns);
	}
	c->fresh = false;
}

static bool runs_anywhere(const struct aqd_lease *f)
{
	for (uint32_t i = 0; i < f->device_count; i++)
		if (f->running[i])
			return true;
	return false;
}

/* The devices on which a fraction's gates are to be closed. */
static uint64_t managed_of(const struct aqd_leases *l, const struct aqd_lease *f)
{
	uint64_t devices = 0;

	for (uint32_t i = 0; i < f->device_count; i++)
		if (f->running[i] &&
		    (f->terms.limit_permille < 1000 || l->running[f->device[i]] >= 2))
			devices |= bit_of(f, i);
	return devices;
}

/*
 * A lease that its fraction has while it becomes managed on one more device is good there, too: on
 * a device that was not managed there was nobody but this fraction.
 */
static void manage_one(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	const uint64_t devices = managed_of(l, f), before = f->terms.devices;
	struct aqd_lessee *c, *tmp;

	if (f->given) {
		aqd__lease_clocks(l, f, before & ~devices, false, now_ns);
		aqd__lease_clocks(l, f, devices & ~before, true, now_ns);
	}
	f->terms.devices = devices;
	if (devices && !f->joined)
		f->joined = !aq_arbiter_join(&l->arbiter, &f->contender, &f->terms, now_ns);
	else if (devices && devices != before)
		tell_arbiter(l, f, now_ns);
	AQ_LIST_FOREACH (c, tmp, &f->lessees, link)
		set_gates(l, f, c, now_ns);
	f->touched = true;
}

/*
 * Who no longer takes part leaves the arbiter, unless it owes, for a debt must not go with a
 * process; or is owed something still, and runs on.
 */
static void retire(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	int64_t lag;

	if (!f->joined || f->terms.devices)
		return;
	if (f->given) {
		aq_arbiter_released(&l->arbiter, &f->contender, 0, now_ns);
		f->given = false;
		f->until_ns = f->ended_ns = 0;
	}
	if (!f->contender.unseen)
		aq_arbiter_unseen(&l->arbiter, &f->contender, now_ns);
	f->wanted_ns = 0;
	lag = aq_arbiter_lag(&l->arbiter, &f->contender, now_ns);
	if (!f->late && lag >= -(int64_t)l->arbiter.tuning.surplus_ns &&
	    !(lag > 0 && runs_anywhere(f)))
		leave_arbiter(l, f, now_ns);
}

void aqd__leases_manage(struct aqd_leases *l, uint64_t now_ns)
{
	struct aqd_lease *f, *tmp;

	l->remanage = false;
	l->stirred = true;
	memset(l->running, 0, sizeof(l->running));
	AQ_LIST_FOREACH (f, tmp, &l->all, link)
		for (uint32_t i = 0; i < f->device_count; i++)
			l->running[f->device[i]] += f->running[i] != 0;
	AQ_LIST_FOREACH (f, tmp, &l->all, link) {
		manage_one(l, f, now_ns);
		retire(l, f, now_ns);
	}
}

bool aqd_leases_manage(const struct aqd_leases *l, uint32_t device)
{
	struct aqd_lease *f, *tmp;

	AQ_LIST_FOREACH (f, tmp, &l->all, link)
		if (f->terms.devices >> device & 1)
			return true;
	return false;
}
