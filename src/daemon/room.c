/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers what reclaim must know, and does what it says. Decides no order, remembers nobody. */
#include "daemon/room.h"

#include <signal.h>
#include <stdlib.h>

#include "base/number.h"
#include "base/size.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/idle.h"
#include "daemon/residency.h"
#include "daemon/residency_order.h"
#include "daemon/shrink.h"
#include "base/banned.h"

/* Before anything was measured: there and back at 10 GB/s, a guess between PCIe 3 and 4. */
#define GUESS_NS_PER_MIB (2 * AQ_MIB / 10)

/* Candidates of one device, with room for their steps. */
struct field {
	struct aq_reclaim_candidate *c;
	struct aq_reclaim_step *steps;
	uint32_t count;
};

static void free_field(struct field *f)
{
	free(f->c);
	free(f->steps);
}

/* Out and in again, of what it would move: by its own last moves, in proportion when it has grown
 * since, else by everybody's. */
static uint64_t move_ns(const struct aqd *d, const struct aqd_fraction *f, uint64_t bytes)
{
	const struct aqd_residency *r = &f->residency;

	if (r->park_ns && r->resume_ns) {
		uint64_t ns = r->park_ns + r->resume_ns;

		if (!r->moved_bytes || bytes <= r->moved_bytes)
			return ns; /* part of that is not for the bytes: waiting for work to end */
		return (uint64_t)((unsigned __int128)ns * bytes / r->moved_bytes);
	}
	if (d->moved_bytes)
		return (uint64_t)((unsigned __int128)d->moved_ns * 2 * bytes / d->moved_bytes);
	return bytes / AQ_MIB * GUESS_NS_PER_MIB;
}

/*
 * What of one client could leave, or is on its way. While it moves, by our own books: its page says
 * now this and now that, and what is on its way must not seem lost for a moment.
 */
static uint64_t movable_of(struct aqd *d, struct aqd_client *c, uint32_t share, bool *ret_coming)
{
	if (c->move[share].host_bytes)
		return c->move[share].host_bytes;
	if (!aqd_order_fresh(c, share))
		return aqd_order_movable(d, c, share);
	*ret_coming = true;
	return c->ledger.hold[share].granted_bytes;
}

/* Sum up what is movable. Return: of all shares. */
static uint64_t count_movable(struct aqd *d, struct aqd_fraction *f, uint32_t share,
			      struct aq_reclaim_candidate *c)
{
	struct aq_ledger_client *l, *next;
	bool coming = false;
	uint64_t all = 0;

	AQ_LIST_FOREACH (l, next, &f->ledger.clients, link)
		for (uint32_t i = 0; i < f->ledger.share_count; i++) {
			uint64_t bytes = movable_of(d, aqd_client_of(l), i, &coming);

			all += bytes;
			c->movable_bytes += i == share ? bytes : 0;
		}
	if (coming)
		c->place = AQ_RECLAIM_COMING;
	return all;
}

/* What it has: `used` is read once, and after what is movable of it, so that they fit together. */
static void count_held(struct aqd *d, struct aqd_fraction *f, uint32_t share,
		       struct aq_reclaim_candidate *c)
{
	const struct aq_ledger_share *s = &f->ledger.share[share];

	c->committed_bytes = c->settled_bytes =
		aq_ledger_committed(&d->ledger, &f->ledger, share, false);
	c->used_bytes = s->held_bytes;
	c->request_bytes = s->request_bytes;
	if (c->place == AQ_RECLAIM_HERE || c->place == AQ_RECLAIM_AWAY) { /* else all is needed */
		c->used_bytes = aq_ledger_used(&d->ledger, &f->ledger, share);
		c->settled_bytes =
			aq_min(c->committed_bytes, aq_max(aq_ledger_bound(s), c->used_bytes));
	}
	c->movable_bytes = aq_min(c->movable_bytes, c->used_bytes);
	if (c->place == AQ_RECLAIM_AWAY)
		c->movable_bytes = 0;
}

static struct aq_reclaim_candidate describe(struct aqd *d, struct aqd_fraction *f, uint32_t share)
{
	static const enum aq_reclaim_place places[] = {
		[AQD_RESIDENT] = AQ_RECLAIM_HERE,
		[AQD_PARKING] = AQ_RECLAIM_LEAVING,
		[AQD_PARKED] = AQ_RECLAIM_AWAY,
		[AQD_RESUMING] = AQ_RECLAIM_COMING,
	};
	uint64_t now = aq_now_ns(), all, unused;
	struct aq_reclaim_candidate c = {
		.owner = f,
		.place = places[f->residency.state],
		.hears = aqd_shrink_heard(f),
		.asked_ns = aqd_shrink_asked_ns(d, f),
		.idle_ns = aqd_idle_ns(d, f),
		.resident_ns = aq_minus(now, f->residency.since_ns),
		.priority = (uint32_t)f->ledger.priority,
	};

	all = count_movable(d, f, share, &c);
	count_held(d, f, share, &c);
	c.move_ns = move_ns(d, f, all);
	c.parkable = all && now >= f->residency.retry_ns && !aqd_fraction_is_settling(f, now) &&
		     aqd_host_room(d, f, all, &unused);
	return c;
}

static bool gather(struct aqd *d, const struct aqd_fraction *except, uint32_t device,
		   struct field *ret)
{
	struct aqd_fraction *f, *next;
	uint32_t n = d->ledger.device[device].fraction_count;

	ret->count = 0;
	ret->c = calloc(n + 1, sizeof(*ret->c));
	ret->steps = calloc(2 * (n + 1), sizeof(*ret->steps));
	if (!ret->c || !ret->steps) {
		free_field(ret);
		return false;
	}
	AQ_LIST_FOREACH (f, next, &d->fractions, link) {
		int share = f == except ? -1 : aq_ledger_share_on(&f->ledger, device);

		if (share >= 0 && ret->count < n)
			ret->c[ret->count++] = describe(d, f, (uint32_t)share);
	}
	return true;
}

static const char *name_of(const struct aqd_fraction *f)
{
	return f ? f->name : "a new fraction";
}

static void event_step(struct aqd *d, enum aqd_event_type type, struct aqd_fraction *victim,
		       uint32_t device, uint64_t bytes, const struct aqd_fraction *by,
		       const char *what)
{
	struct aqd_event_facts facts = aqd_event_none;
	char text[AQ_SIZE_TEXT];

	facts.fraction = victim;
	facts.device = &d->device[device];
	facts.asked_bytes = bytes;
	facts.reason = "reclaim";
	aqd_event(d, type, &facts, "%s %s for %s", aq_size_format(bytes, text), what, name_of(by));
}

/* Those who have work want more than there is, so @victim has to leave: say so, once. */
static void tell_thrash(struct aqd *d, const struct field *field, uint32_t victim, uint32_t device,
			const struct aqd_fraction *by, uint64_t bytes)
{
	struct aqd_device *dev = &d->device[device];
	struct aqd_event_facts facts = aqd_event_none;
	char text[AQ_SIZE_TEXT], total[AQ_SIZE_TEXT];
	uint64_t demand = bytes;

	if (!aq_reclaim_thrashes(&dev->thrash, aq_now_ns(),
					field->c[victim].move_ns * d->config.residence_factor))
		return;
	for (uint32_t i = 0; i < field->count; i++)
		demand += aq_max(field->c[i].used_bytes, field->c[i].settled_bytes);
	facts.fraction = by;
	facts.device = dev;
	facts.reason = "demand";
	facts.asked_bytes = demand;
	facts.limit_bytes = d->ledger.device[device].total_bytes;
	aqd_event(d, AQD_EVENT_thrash, &facts,
		  "programs with work want %s of a device of %s: they take turns",
		  aq_size_format(demand, text), aq_size_format(facts.limit_bytes, total));
}

/* Return: it went as planned. */
static bool do_step(struct aqd *d, const struct field *field, const struct aq_reclaim_step *s,
		    uint32_t device, const struct aqd_fraction *by, uint64_t bytes)
{
	struct aqd_fraction *f = field->c[s->candidate].owner;
	struct aqd_residency_refusal why;
	uint32_t share = (uint32_t)aq_ledger_share_on(&f->ledger, device);

	switch (s->kind) {
	case AQ_RECLAIM_REVOKE:
		return aq_ledger_take_back(&d->ledger, &f->ledger, share, s->bytes) > 0;
	case AQ_RECLAIM_LEND:
		event_step(d, AQD_EVENT_lent, f, device, s->bytes, by, "of its request are lent");
		return aq_ledger_lend(&d->ledger, &f->ledger, share, true) == 0;
	case AQ_RECLAIM_PARK:
		if (s->busy)
			tell_thrash(d, field, s->candidate, device, by, bytes);
		if (aqd_residency_park(d, f, AQD_PARK_NEED, false, &why) == 0)
			return true;
		f->residency.retry_ns = aq_now_ns() + AQ_NS_PER_S;
		return false;
	case AQ_RECLAIM_SHRINK:
		aqd_shrink_ask(d, f, share, aq_minus(field->c[s->candidate].used_bytes, s->bytes));
		return true;
	case AQ_RECLAIM_KILL:
		if (f->killed)
			return true;
		event_step(d, AQD_EVENT_reclaim_kill, f, device, s->bytes, by,
			   "above its request and cannot move: it is ended");
		aqd_fraction_kill(d, f, SIGTERM);
		return true;
	}
	return false;
}

enum aq_reclaim_answer aqd_room_make(struct aqd *d, const struct aqd_fraction *by, uint32_t device,
				     const struct aq_reclaim_need *need)
{
	struct aq_reclaim_policy policy = aq_reclaim_defaults;
	struct aq_reclaim_plan plan;
	struct field field;

	policy.residence_factor = d->config.residence_factor;
	policy.may_kill = d->config.reclaim_kill;
	if (!gather(d, by, device, &field))
		return AQ_RECLAIM_REFUSE;
	plan = aq_reclaim_plan(&policy, need, field.c, field.count, field.steps);
	for (uint32_t i = 0; i < plan.count; i++)
		if (!do_step(d, &field, &field.steps[i], device, by, need->short_bytes))
			break; /* things are not as they were: the next plan knows */
	free_field(&field);
	return plan.answer;
}

uint64_t aqd_room_easy(struct aqd *d, const struct aqd_fraction *by, uint32_t device,
		       const struct aq_reclaim_need *need)
{
	struct field field;
	uint64_t sum;

	if (!gather(d, by, device, &field))
		return 0;
	for (uint32_t i = 0; i < field.count; i++) /* who has work may stay a while */
		if (field.c[i].idle_ns < aq_reclaim_defaults.idle_ns)
			field.c[i].parkable = false;
	sum = aq_reclaim_possible(&aq_reclaim_defaults, need, field.c, field.count);
	free_field(&field);
	return sum;
}
