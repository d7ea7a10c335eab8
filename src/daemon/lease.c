/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out leases on pages. Which device is managed is worked out in lease_manage.c; what use of
 * a device is counted as, in lease_count.c.
 */
#include "daemon/lease.h"

#include <string.h>

#include "base/number.h"
#include "base/timing.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

/* Who has not begun to use a lease after this is asleep, or stopped. */
#define UPTAKE_NS AQ_NS_PER_MS
/* Decisions in one run, beyond two for each fraction: a bound that is never met, but for a bug. */
#define ROUNDS_MIN 8u

void aqd_leases_init(struct aqd_leases *l, const struct aq_arbiter_tuning *tuning,
		     const struct aqd_lease_ops *ops, void *context)
{
	memset(l, 0, sizeof(*l));
	aq_arbiter_init(&l->arbiter, tuning);
	aq_list_init(&l->all);
	l->ops = ops;
	l->context = context;
}

/*
 * May this client have work under way by the lease given last? A client that looked while the lease
 * was being handed out may have entered by the number before, for the end of a lease is written
 * before its number; it gives that one back in the same way.
 */
static bool holds(const struct aqd_lessee_device *dev, const struct aqd_page_says *says)
{
	return (dev->given || dev->standing) && says->done_turn != says->active_turn &&
	       says->done_turn != dev->turn &&
	       (says->active_turn == dev->turn || says->active_turn == dev->turn - 1);
}

static bool caught_up(const struct aqd_lessee_device *dev, const struct aqd_page_says *says)
{
	return (int32_t)(says->done_turn - dev->late_turn) >= 0 &&
	       (int32_t)(dev->turn - says->done_turn) >= 0;
}

static bool is_capped(const struct aqd_lease *f)
{
	return f->terms.limit_permille < 1000;
}

/* Is there anybody who would not wait for what it has in flight? */
static bool outranked(struct aqd_leases *l, const struct aqd_lease *f)
{
	struct aqd_lease *other, *tmp;

	AQ_LIST_FOREACH (other, tmp, &l->all, link)
		if (other->joined && other->terms.priority > f->terms.priority &&
		    other->terms.devices & f->terms.devices)
			return true;
	return false;
}

static uint32_t waiting_of(struct aqd_leases *l, const struct aqd_lease *f)
{
	if (!f->contender.company && !is_capped(f))
		return AQ_WAITING_NOBODY;
	return outranked(l, f) ? AQ_WAITING_OTHERS : AQ_WAITING_PEERS;
}

void aqd__lease_set_waiting(struct aqd_lessee *c, uint32_t i, uint32_t waiting)
{
	c->device[i].waiting = waiting;
	aqd_page_set_waiting(c->page, i, waiting);
}

/* ---- giving ---- */

void aqd__lease_give(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c, uint32_t i,
		     uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];

	aqd__lease_collect(l, f, c, i, now_ns);
	dev->given = true;
	dev->taken = dev->standing; /* nobody handed it over */
	dev->given_ns = now_ns;
	aqd__lease_set_waiting(c, i, waiting_of(l, f));
	aqd_page_set_early(c->page, i, aqd__handover_early_ns(l, f->device[i]));
	if (dev->standing)
		aqd_page_set_until(c->page, i, f->until_ns);
	else
		aqd_page_give(c->page, i, ++dev->turn, f->until_ns);
	dev->standing = false;
	if (dev->waiting)
		aqd_page_news(c->page);
}

static void give_all(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	struct aqd_lessee *c, *tmp;

	f->given = true;
	f->awaited_ns = 0;
	f->until_ns = f->contender.lease_until_ns;
	f->grants++;
	if (f->wanted_ns)
		f->wait_ns += now_ns - f->wanted_ns;
	f->wanted_ns = 0;
	f->contender.lease_start_ns = aqd__lease_taken_ns(f, now_ns);
	aqd__lease_clocks(l, f, f->terms.devices, true, now_ns);
	AQD__EACH_PLACE (f, c, tmp, i)
		if (c->device[i].gated)
			aqd__lease_give(l, f, c, i, now_ns);
}

/* The lease goes on, until another instant or with other company. */
static void adjust(struct aqd_leases *l, struct aqd_lease *f)
{
	uint32_t waiting = waiting_of(l, f);
	bool sooner = f->contender.lease_until_ns < f->until_ns;
	bool moved = f->contender.lease_until_ns != f->until_ns;
	struct aqd_lessee *c, *tmp;

	f->until_ns = f->contender.lease_until_ns;
	AQ_LIST_FOREACH (c, tmp, &f->lessees, link) {
		bool news = false;

		for (uint32_t i = 0; i < f->device_count; i++) {
			struct aqd_lessee_device *dev = &c->device[i];

			if (!dev->given)
				continue;
			news |= sooner || (waiting && !dev->waiting);
			if (waiting != dev->waiting)
				aqd__lease_set_waiting(c, i, waiting);
			if (moved)
				aqd_page_set_until(c->page, i, f->until_ns);
		}
		if (news)
			aqd_page_news(c->page);
	}
}

/* ---- ending ---- */

/* No more may be submitted. Who has something under way is told. */
static void end(struct aqd_lease *f, uint64_t now_ns)
{
	struct aqd_lessee *c, *tmp;

	f->until_ns = 0;
	f->ended_ns = now_ns;
	AQ_LIST_FOREACH (c, tmp, &f->lessees, link) {
		bool news = false;

		for (uint32_t i = 0; i < f->device_count; i++) {
			struct aqd_page_says says;

			if (!c->device[i].given)
				continue;
			if (f->contender.urgent)
				aqd__lease_set_waiting(c, i, AQ_WAITING_URGENT);
			aqd_page_set_until(c->page, i, 0);
			says = aqd_page_look(c->page, i);
			news |= holds(&c->device[i], &says);
		}
		if (news)
			aqd_page_news(c->page);
	}
}

/* Whoever still has work under way: all out, only those who are late anyhow, or some in time? */
enum out { ALL_OUT, ONLY_LATE, NOT_OUT };

static enum out who_is_out(const struct aqd_lease *f)
{
	enum out out = ALL_OUT;
	struct aqd_lessee *c, *tmp;

	AQD__EACH_PLACE (f, c, tmp, i) {
		struct aqd_page_says says = aqd_page_look(c->page, i);

		if (!holds(&c->device[i], &says))
			continue;
		if (!c->device[i].late)
			return NOT_OUT;
		out = ONLY_LATE;
	}
	return out;
}

/* Who slept through a lease that others waited for has none until it shows that it is awake. */
static bool slept(const struct aqd_lessee_device *dev, const struct aqd_page_says *says,
		  uint64_t now_ns)
{
	return says->active_turn != dev->turn && says->done_turn != dev->turn &&
	       now_ns >= dev->given_ns + UPTAKE_NS;
}

/* The lease is back, or counts as back; what it took is counted. */
static void release(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	struct aqd_lessee *c, *tmp;
	uint64_t used = 0;

	for (uint32_t i = 0; i < f->device_count; i++) {
		uint64_t here = aqd__lease_count(l, f, i, now_ns);

		used = here > used ? here : used;
		aqd__handover_back(l, f, i, now_ns);
		aqd__lease_publish(f, i);
	}
	AQD__EACH_PLACE (f, c, tmp, i) {
		struct aqd_lessee_device *dev = &c->device[i];
		struct aqd_page_says says = aqd_page_look(c->page, i);

		if (dev->given && !dev->late)
			dev->deaf = f->contender.contested && slept(dev, &says, now_ns);
		dev->given = false;
		dev->early_ns = 0;
		dev->counted_ns = dev->late ? dev->counted_ns : now_ns;
	}
	aqd__lease_clocks(l, f, f->terms.devices, false, now_ns);
	f->given = false;
	f->touched = l->stirred = true;
	f->until_ns = f->ended_ns = 0;
	aq_arbiter_released(&l->arbiter, &f->contender, used, now_ns);
}

/* Go on without those who are not out: time is up, or somebody goes first. */
static void take_back(struct aqd_leases *l, struct aqd_lease *f, bool passed, uint64_t now_ns)
{
	struct aqd_lessee *c, *tmp;

	AQD__EACH_PLACE (f, c, tmp, i) {
		struct aqd_page_says says = aqd_page_look(c->page, i);

		if (!holds(&c->device[i], &says))
			continue;
		if (passed && c->device[i].waiting != AQ_WAITING_URGENT) {
			aqd__lease_set_waiting(c, i, AQ_WAITING_URGENT);
			aqd_page_news(c->page);
		}
		aqd__lease_overruns(l, f, c, i, passed, now_ns);
	}
	release(l, f, now_ns);
}

/* An ended lease: is it back? Return: it is, now. */
static bool settle(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	enum out out = who_is_out(f);

	if (out == ALL_OUT)
		release(l, f, now_ns);
	else if (f->contender.waited_for &&
		 (out == ONLY_LATE || now_ns >= f->ended_ns + AQD_LEASE_GRACE_NS))
		take_back(l, f, false, now_ns);
	else if (f->contender.urgent)
		take_back(l, f, true, now_ns);
	else
		return false;
	return true;
}

/* ---- looking and acting ---- */

/* What the pages of a fraction say: does it want, and is it done with the lease it has? */
static void look_at(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	bool wants = false, idle = true;
	struct aqd_lessee *c, *tmp;

	f->touched = false;
	AQD__EACH_PLACE (f, c, tmp, i) {
		struct aqd_lessee_device *dev = &c->device[i];
		struct aqd_page_says says;

		if (!dev->gated && !dev->late)
			continue;
		says = aqd_page_look(c->page, i);
		if (dev->standing && says.done_turn == dev->turn)
			aqd__lease_lapsed(l, f, c, i, now_ns);
		if (dev->given)
			aqd__handover_taken(l, f, dev, i, &says);
		if (dev->late && caught_up(dev, &says))
			aqd__lease_caught_up(l, f, c, i, now_ns);
		wants |= dev->gated && (holds(dev, &says) || (says.want && !dev->deaf && !f->away));
		/* Who wants and has not given this one back is about to use it. */
		if (holds(dev, &says) || (says.want && dev->given && says.done_turn != dev->turn))
			idle = false;
	}
	l->stirred |= wants != f->contender.wants;
	aq_arbiter_want(&l->arbiter, &f->contender, wants, now_ns);
	if (!f->given)
		f->wanted_ns = !wants ? 0 : f->wanted_ns ? f->wanted_ns : now_ns;
	else if (idle && !f->ended_ns) {
		end(f, now_ns); /* somebody may slip in until then, and is then waited for */
		settle(l, f, now_ns);
	}
}

/* Return: a lease came back, so there is more to decide. */
static bool act(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	struct aq_contender *c = &f->contender;

	c->changed = false;
	if (c->state == AQ_LEASE_NONE)
		return false;
	if (!f->given)
		give_all(l, f, now_ns);
	if (c->waited_for && !f->awaited_ns)
		f->awaited_ns = now_ns;
	if (c->state == AQ_LEASE_DRAINING && !f->ended_ns)
		end(f, now_ns);
	if (!f->ended_ns)
		adjust(l, f);
	return f->ended_ns && settle(l, f, now_ns);
}

/* Leases that have ended and are waited for. Return: one came back. */
static bool settle_all(struct aqd_leases *l, uint64_t now_ns)
{
	struct aqd_lease *f, *tmp;
	bool back = false;

	AQ_LIST_FOREACH (f, tmp, &l->all, link)
		if (f->given && f->ended_ns)
			back |= settle(l, f, now_ns);
	return back;
}

uint64_t aqd_leases_run(struct aqd_leases *l, uint64_t now_ns)
{
	struct aqd_lease *f, *tmp;
	uint32_t rounds = ROUNDS_MIN;
	bool again = true;

	if (l->remanage)
		aqd__leases_manage(l, now_ns);
	while (again && rounds--) {
		AQ_LIST_FOREACH (f, tmp, &l->all, link)
			if (f->joined && (f->touched || f->given || f->late))
				look_at(l, f, now_ns);
		/* Most bells repeat what is known. */
		again = settle_all(l, now_ns);
		if (!again && !l->stirred && now_ns < l->next_ns)
			return l->next_ns;
		l->stirred = false;
		l->next_ns = aq_arbiter_decide(&l->arbiter, now_ns);
		AQ_LIST_FOREACH (f, tmp, &l->all, link)
			if (f->joined)
				again |= act(l, f, now_ns);
	}
	if (again)
		l->next_ns = now_ns; /* in the next turn of the loop */
	else
		l->next_ns = aq_min(l->next_ns, aqd__leases_stand(l, now_ns));
	AQ_LIST_FOREACH (f, tmp, &l->all, link) {
		if (f->given && f->ended_ns && f->contender.waited_for)
			l->next_ns = aq_min(l->next_ns, f->ended_ns + AQD_LEASE_GRACE_NS);
		if (f->late)
			l->next_ns = aq_min(l->next_ns, aqd__lease_passed_look(l, f, now_ns));
	}
	return l->next_ns;
}

void aqd_lessee_rang(struct aqd_leases *l, struct aqd_lessee *c, uint32_t mask, uint64_t now_ns)
{
	struct aqd_lease *f = c->lease;

	if (!f)
		return;
	for (uint32_t i = 0; i < f->device_count; i++)
		if (mask >> i & 1)
			c->device[i].deaf = false;
	f->touched = true;
	aqd__lessee_look(l, c, now_ns);
}
