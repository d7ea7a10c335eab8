/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the use of a device is counted as. Guards measure device time between the edges of their
 * leases; while somebody overruns, the hardware slices the device, so that time between two edges
 * is not all theirs: it counts by the number of those who competed. A claim of more than can have
 * been is cut to what can, and told. What counts of what is measured is lease_use.c's.
 */
#include "daemon/lease.h"

#include "base/number.h"
#include "base/timing.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

/* Who holds a lease that others wait for is charged at least this part of the time: or one could
 * keep others away for nothing, by having leases and not using them. */
#define LEAST_PART 4u

/* What a sample says of less than this is chance, if it is to stand for a longer time as well.
 * Source: the driver's own are of 1/6 s to 1 s (NVML, nvmlUtilization_t). */
#define SAMPLE_NS (AQ_NS_PER_S / 6)

/* @ns of @whole as part of @of; all but the last are at most hours. */
static uint64_t scale(uint64_t ns, uint64_t part, uint64_t of)
{
	return part >= of ? ns : (uint64_t)((double)ns * ((double)part / (double)of));
}

static void tick(struct aqd_leases *l, uint32_t d, uint64_t now_ns)
{
	uint64_t dt = aq_minus(now_ns, l->clock[d].since_ns);
	uint32_t late = l->clock[d].late, all = late + l->clock[d].held;

	l->clock[d].holder_ns += dt / (1 + late);
	l->clock[d].late_ns += dt / (all ? all : 1);
	l->clock[d].since_ns = now_ns;
}

void aqd__lease_clocks(struct aqd_leases *l, struct aqd_lease *f, uint64_t devices, bool held,
		       uint64_t now_ns)
{
	for (uint32_t i = 0; i < f->device_count; i++) {
		uint32_t d = f->device[i];

		if (!(devices >> d & 1))
			continue;
		tick(l, d, now_ns);
		l->clock[d].held = held;
		/* As if it had had the device since its lease began. */
		f->clock_ns[i] =
			l->clock[d].holder_ns - aq_minus(now_ns, f->contender.lease_start_ns);
	}
}

/* Can a claim be of what the client did without a daemon? That counts as samples say, and is
 * claimed once, when the last of it is done. */
static bool was_unseen(struct aqd_lessee *c, uint64_t ns, uint64_t now_ns)
{
	bool can = c->unseen_from_ns && ns <= aq_minus(now_ns, c->unseen_from_ns);

	c->unseen_from_ns = 0;
	return can;
}

/* Device time that a page claims since it was last counted, as far as it is possible. Who lies is
 * taken to have used all that it could. */
static uint64_t claimed(struct aqd_leases *l, struct aqd_lessee *c, uint32_t i, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint64_t says = aqd_page_look(c->page, i).gpu_ns, before = dev->gpu_ns;
	uint64_t since = aq_minus(now_ns + AQD_LEASE_GRACE_NS, dev->counted_ns + dev->early_ns);
	uint64_t ever = aq_minus(now_ns + AQD_LEASE_GRACE_NS, c->joined_ns + dev->claimed_ns);
	uint64_t possible = aq_min(since, ever), ns = says - before;

	dev->gpu_ns = says;
	if (ns > possible) { /* also when it went backwards */
		if (!was_unseen(c, ns, now_ns)) {
			if (!c->lied)
				l->ops->lied(l->context, c, i, ns, possible);
			c->lied = true;
		}
		ns = possible;
	}
	dev->claimed_ns += ns;
	dev->early_ns = dev->given ? dev->early_ns + ns : 0;
	if (!dev->given) /* in a lease more may be told of all of it */
		dev->counted_ns = now_ns;
	return ns;
}

/* Of the lease under way, what is its holder's of the time that has passed; overrunners have the
 * rest. */
static uint64_t held_ns(struct aqd_leases *l, struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	uint32_t d = f->device[i];

	tick(l, d, now_ns);
	return aq_minus(l->clock[d].holder_ns, f->clock_ns[i]);
}

/* So much of the lease is measured, and counts for @ns in all. */
static void count(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t measured_ns, bool guess,
		  uint64_t now_ns)
{
	uint64_t more = aq_minus(ns, f->early_ns[i]);
	uint64_t most = aq_max(more, aq_minus(measured_ns, f->measured_ns[i]));

	if (guess)
		aqd__lease_guessed(f, i, more, most, now_ns);
	else
		aqd__lease_measured(f, i, more, now_ns);
	f->early_ns[i] += more;
	f->measured_ns[i] = measured_ns;
}

/* So much more of the lease under way, as far as it has lasted. */
static void count_early(struct aqd_leases *l, struct aqd_lease *f, uint32_t i, uint64_t ns,
			uint64_t now_ns)
{
	uint64_t wall = aq_minus(now_ns, f->contender.lease_start_ns);
	uint64_t held = held_ns(l, f, i, now_ns);

	ns = aq_max(aq_min(f->measured_ns[i] + ns, wall), f->measured_ns[i]);
	f->shared[i] |= aqd__lease_is_shared(f, i);
	count(f, i, scale(ns, held, wall), ns, f->shared[i] || held < wall, now_ns);
}

void aqd__lease_collect(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c, uint32_t i,
			uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];

	if (dev->late)
		return;
	if (dev->given)
		count_early(l, f, i, claimed(l, c, i, now_ns), now_ns);
	else
		aqd__lease_measured(f, i, claimed(l, c, i, now_ns), now_ns);
}

uint64_t aqd_lease_gpu_ns(const struct aqd_lease *f, uint32_t i)
{
	return f->gpu_ns[i];
}

void aqd_lease_restore(struct aqd_lease *f, uint32_t i, int64_t gpu_ns)
{
	if (gpu_ns > 0)
		f->gpu_ns[i] = f->use[i].restored_ns = (uint64_t)gpu_ns;
}

void aqd__lease_publish(struct aqd_lease *f, uint32_t i)
{
	struct aqd_lessee *c, *tmp;

	AQ_LIST_FOREACH (c, tmp, &f->lessees, link)
		aqd_page_set_total(c->page, i, aqd_lease_gpu_ns(f, i));
}

void aqd__lease_adopt_total(struct aqd_lease *f, struct aqd_lessee *c, uint32_t i, uint64_t now_ns)
{
	uint64_t total = aqd_page_total(c->page, i);

	if (total > f->gpu_ns[i] && total <= aq_minus(now_ns, f->born_ns))
		f->gpu_ns[i] = total;
}

void aqd__lease_open_until(struct aqd_lessee_device *dev, uint64_t now_ns)
{
	if (!dev->gated && dev->open_from_ns)
		dev->open_ns += aq_minus(now_ns, dev->open_from_ns);
	dev->open_from_ns = now_ns;
}

void aqd_lessee_sampled(struct aqd_leases *l, struct aqd_lessee *c, uint32_t i, uint32_t percent,
			uint64_t span_ns, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint64_t measured, used = span_ns / 100 * percent, counts = 0, rest;
	bool brief;

	aqd__lease_open_until(dev, now_ns);
	rest = aq_minus(dev->open_ns, span_ns);
	brief = span_ns && span_ns < SAMPLE_NS && rest >= SAMPLE_NS;
	if (dev->open_ns && !dev->late) {
		aqd__lease_collect(l, c->lease, c, i, now_ns);
		/* What was in flight when the gate closed ran on, and was measured by nobody. */
		measured = aq_minus(dev->claimed_ns - dev->sampled_ns, dev->others_ns);
		measured += dev->given ? aq_minus(now_ns, dev->given_ns) : 0;
		/*
		 * The gate may have been open for longer than the sample is, which came late or
		 * after a time without a daemon; or, of a client that has just come, for less.
		 * The first after such a time may be of microseconds: the next one stands for it.
		 */
		if (rest && !brief)
			used = dev->open_ns / 100 * percent;
		else if (!dev->gated && !measured)
			used = aq_min(used, dev->open_ns);
		counts = aq_minus(used, measured);
	}
	aqd__lease_sampled(c->lease, i, used, counts, now_ns);
	dev->percent = percent;
	dev->open_ns = brief ? rest : 0;
	dev->sampled_ns = dev->claimed_ns;
	dev->others_ns = 0;
	aqd__lease_publish(c->lease, i);
}

uint64_t aqd__lease_count(struct aqd_leases *l, struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	uint64_t start = f->contender.lease_start_ns, wall = aq_minus(now_ns, start), late = 0;
	uint64_t sum = f->measured_ns[i], awaited, most, measured;
	bool shared = f->shared[i] | aqd__lease_is_shared(f, i);
	uint32_t d = f->device[i];
	struct aqd_lessee *c, *tmp;

	AQ_LIST_FOREACH (c, tmp, &f->lessees, link) {
		const struct aqd_lessee_device *dev = &c->device[i];

		if (!dev->given)
			continue;
		if (dev->late) /* counted when it has given back */
			late = aq_min(wall, aq_minus(now_ns, dev->given_ns));
		else
			sum += claimed(l, c, i, now_ns);
	}
	/* It is given back before its last work is done. */
	most = wall + aqd__handover_early_ns(l, d);
	if (shared) /* one may have measured what its sibling had in the lease before */
		most = aq_minus(most, aq_minus(f->ends_ns[i], start));
	f->ends_ns[i] = now_ns + aqd__handover_early_ns(l, d);
	measured = aq_max(aq_min(sum, most), f->measured_ns[i]);
	sum = scale(measured, held_ns(l, f, i, now_ns), wall);
	sum = aq_max(sum, f->early_ns[i]); /* that was counted already */
	count(f, i, sum, measured, shared || sum < measured, now_ns);
	f->early_ns[i] = f->measured_ns[i] = 0;
	f->shared[i] = false;
	sum = sum > late ? sum : late;
	awaited = f->awaited_ns ? aq_minus(now_ns, f->awaited_ns) / LEAST_PART : 0;
	return sum > awaited ? sum : awaited;
}

/* From now on it competes for the device, as far as is known, and owes for it. */
static void overran(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c, uint32_t i,
		    uint64_t late_ns, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint32_t d = f->device[i];

	tick(l, d, now_ns);
	dev->late_counts = !l->ops->stopped(l->context, c);
	l->clock[d].late += dev->late_counts;
	f->overruns++;
	aq_arbiter_overruns(&l->arbiter, &f->contender, now_ns);
	l->ops->overran(l->context, c, i, late_ns);
}

void aqd__lease_overruns(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			 uint32_t i, bool passed, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint32_t d = f->device[i];

	dev->deaf = true; /* its want may be the one for the lease that it has overrun */
	if (dev->late) {  /* again, with what it was given meanwhile */
		dev->late_paid_ns += aq_minus(now_ns, dev->given_ns);
		return;
	}
	tick(l, d, now_ns);
	dev->late = true;
	dev->passed = passed;
	dev->late_counts = false;
	dev->late_turn = dev->turn;
	dev->late_from_ns = dev->given_ns;
	dev->late_since_ns = now_ns;
	dev->late_clock_ns = l->clock[d].late_ns;
	dev->late_held_ns = f->clock_ns[i] + aq_minus(dev->given_ns, f->contender.lease_start_ns);
	dev->late_paid_ns = 0;
	dev->late_shared = aqd__lease_is_shared(f, i);
	f->late++;
	if (!passed)
		overran(l, f, c, i, aq_minus(now_ns, f->ended_ns), now_ns);
}

/* Does somebody else have the device, or wait for it? */
static bool in_the_way(const struct aqd_leases *l, const struct aqd_lease *f, uint32_t i)
{
	return l->clock[f->device[i]].held && !f->given;
}

uint64_t aqd__lease_passed_look(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns)
{
	uint64_t next = AQ_ARBITER_NEVER;
	struct aqd_lessee *c, *tmp;

	AQD__EACH_PLACE (f, c, tmp, i) {
		struct aqd_lessee_device *dev = &c->device[i];
		uint64_t due = dev->late_since_ns + AQD_LEASE_GRACE_NS;

		if (!dev->late || !dev->passed)
			continue;
		if (now_ns < due) {
			next = aq_min(next, due);
		} else if (in_the_way(l, f, i)) {
			dev->passed = false;
			overran(l, f, c, i, aq_minus(now_ns, dev->late_since_ns), now_ns);
		} else {
			next = aq_min(next, now_ns + AQD_LEASE_GRACE_NS);
		}
	}
	return next;
}

void aqd__lease_late_look(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			  uint32_t i, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint32_t d = f->device[i];
	bool counts;

	if (!dev->late || dev->passed)
		return;
	counts = !l->ops->stopped(l->context, c);
	if (counts == dev->late_counts)
		return;
	tick(l, d, now_ns);
	l->clock[d].late += counts ? 1 : -1u;
	dev->late_counts = counts;
}

/* The end of an overrun in which the device was used for @ns since the lease was given. */
static void settle(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c, uint32_t i,
		   uint64_t ns, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	uint64_t in_lease = aq_minus(dev->late_since_ns, dev->late_from_ns), debt;
	uint32_t d = f->device[i];
	uint64_t alone; /* but for others that overran */

	tick(l, d, now_ns);
	alone = scale(ns, aq_minus(l->clock[d].holder_ns, dev->late_held_ns),
		      aq_minus(now_ns, dev->late_from_ns));
	l->clock[d].late -= dev->late_counts;
	dev->late = false;
	f->late--;
	debt = aq_minus(ns, in_lease);
	if (!dev->passed) /* else it is known what it was, without others' */
		debt = scale(debt, aq_minus(l->clock[d].late_ns, dev->late_clock_ns),
			     aq_minus(now_ns, dev->late_since_ns));
	if (!dev->passed)
		aqd__lease_settled(f, i, aq_min(ns, in_lease) + debt, ns, now_ns);
	else if (alone < ns || dev->late_shared || aqd__lease_is_shared(f, i))
		aqd__lease_guessed(f, i, alone, ns, now_ns);
	else
		aqd__lease_measured(f, i, ns, now_ns);
	dev->others_ns += aq_minus(ns, in_lease) - debt;
	debt = aq_minus(debt, dev->late_paid_ns);
	l->stirred = true;
	if (dev->passed) {
		if (f->joined)
			aq_arbiter_add(&l->arbiter, &f->contender, debt, now_ns);
		return;
	}
	if (f->joined)
		aq_arbiter_charge(&l->arbiter, &f->contender, debt, now_ns);
	l->ops->caught_up(l->context, c, i, aq_minus(now_ns, dev->late_since_ns), debt);
}

void aqd__lease_caught_up(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			  uint32_t i, uint64_t now_ns)
{
	settle(l, f, c, i, claimed(l, c, i, now_ns), now_ns);
}

void aqd__lease_abandoned(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			  uint32_t i, uint64_t now_ns)
{
	struct aqd_lessee_device *dev = &c->device[i];
	struct aqd_page_says says = aqd_page_look(c->page, i);
	uint64_t wall = aq_minus(now_ns, dev->given_ns), ns;

	if (dev->late) {
		settle(l, f, c, i, aq_minus(now_ns, dev->late_from_ns), now_ns);
		return;
	}
	if (!dev->given) {
		if (!dev->gated)
			aqd_lessee_sampled(l, c, i, dev->percent, 0, now_ns);
		return;
	}
	ns = claimed(l, c, i, now_ns);
	/* Nobody measured what it had under way: a lease's worth at the most. */
	if (says.active_turn == dev->turn && says.done_turn != dev->turn)
		ns += aq_min(wall, l->arbiter.tuning.quantum_ns);
	count_early(l, f, i, ns, now_ns);
}
