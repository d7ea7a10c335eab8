/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What counts of what leases measure. One client in a lease has the device to itself, and its
 * marks tell how long it worked: that is known. Where several clients of a fraction use a lease, or
 * an overrunner works beside it, the hardware slices the device between them, so that what each
 * measures has slices of the others in it, and the switches between them; no instant tells these
 * apart, and what counts is a guess. The driver knows: what it samples of each client says how
 * good the guess was. Leases tell when, samples how much.
 *
 * Samples never make more of it than was measured, or will be: who has overrun measures all of that
 * when it comes back, which may take minutes, and until then what is sampled of it counts ahead.
 * Arbitration does not ask for samples: a lease keeps others away for as long as it lasts, whoever
 * has the device in it.
 */
#include "daemon/lease.h"

#include "base/number.h"
#include "base/timing.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

/* Over less than this, leases under way at the edges are most of the difference. */
#define COMPARE_NS (100 * AQ_NS_PER_MS)

/* A guard tells what it has measured every 10 ms, or when a kernel ends that was not to last for
 * much longer: else it has overrun. */
#define UNDER_WAY_NS AQD_LEASE_GRACE_NS

bool aqd__lease_is_shared(const struct aqd_lease *f, uint32_t i)
{
	struct aqd_lessee *c, *tmp;
	uint32_t users = 0;

	AQ_LIST_FOREACH (c, tmp, &f->lessees, link) {
		const struct aqd_lessee_device *dev = &c->device[i];

		users += dev->late ||
			 (dev->given && aqd_page_look(c->page, i).active_turn == dev->turn);
	}
	return users > 1;
}

/* Each client claims no more than the time that has passed; nor have all together had more. */
static void add(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t now_ns)
{
	uint64_t most = f->use[i].restored_ns + aq_minus(now_ns, f->born_ns);

	f->gpu_ns[i] += aq_min(ns, aq_minus(most, f->gpu_ns[i]));
}

void aqd__lease_measured(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t now_ns)
{
	f->use[i].known_ns += ns;
	add(f, i, ns, now_ns);
}

void aqd__lease_guessed(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t most_ns,
			uint64_t now_ns)
{
	struct aqd_lease_use *u = &f->use[i];
	uint64_t counts = ns - (uint64_t)((double)ns * u->siblings), paid;

	paid = aq_min(counts, u->over_ns);
	u->guessed_ns += ns;
	u->counted_ns += counts;
	u->over_ns -= paid;
	u->withheld_ns += most_ns - counts + paid;
	add(f, i, counts - paid, now_ns);
}

void aqd__lease_sampled(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t counted_ns,
			uint64_t now_ns)
{
	f->use[i].sampled_ns += ns;
	aqd__lease_measured(f, i, counted_ns, now_ns);
}

void aqd__lease_settled(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t most_ns,
			uint64_t now_ns)
{
	struct aqd_lease_use *u = &f->use[i];
	uint64_t ahead = aq_min(u->ahead_ns, most_ns), rest = aq_minus(ns, ahead);
	double part = most_ns ? (double)ns / (double)most_ns : 0;

	if (ahead) /* that is all of it up to when samples came last */
		rest = aq_min(rest, (uint64_t)(part * (double)aq_minus(now_ns, u->since_ns)));
	u->ahead_ns -= ahead;
	aqd__lease_guessed(f, i, rest, most_ns - ahead, now_ns);
	if (f->late)
		return;
	u->over_ns += u->ahead_ns; /* nobody measures this any more */
	u->ahead_ns = 0;
}

/* For how long clients may have had the device that have overrun: they tell when they come back. */
static uint64_t untold(const struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	struct aqd_lessee *c, *tmp;
	uint64_t ns = 0;

	AQ_LIST_FOREACH (c, tmp, &f->lessees, link)
		if (c->device[i].late && !c->device[i].passed)
			ns += aq_minus(now_ns, c->device[i].late_from_ns);
	return ns;
}

/* The part of what was guessed that was not work of this fraction, by this comparison. */
static double siblings_of(const struct aqd_lease_use *u)
{
	uint64_t work = aq_minus(u->sampled_ns, u->known_ns);

	return work < u->guessed_ns ? (double)(u->guessed_ns - work) / (double)u->guessed_ns : 0;
}

/* Put right what was counted, as far as it was measured, and learn for what is counted next. */
static void put_right(struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	struct aqd_lease_use *u = &f->use[i];
	uint64_t counted = u->over_ns + u->known_ns + u->counted_ns;
	double siblings = siblings_of(u);
	uint64_t missing = aq_minus(u->sampled_ns, counted);
	uint64_t ahead = aq_min(missing, aq_minus(untold(f, i, now_ns), u->ahead_ns));
	uint64_t measured = aq_min(missing - ahead, u->withheld_ns);

	if (u->guessed_ns) {
		u->siblings = u->compared ? (3 * u->siblings + siblings) / 4 : siblings;
		u->compared = true;
	}
	u->withheld_ns -= measured;
	u->ahead_ns += ahead;
	add(f, i, measured + ahead, now_ns);
	/* What is known is not doubted: no more than this is made up for. */
	u->over_ns = aq_min(aq_minus(counted, u->sampled_ns),
			    u->guessed_ns ? u->guessed_ns : u->over_ns);
}

/* What the lease under way has been used for is sampled already, and will be measured: it belongs
 * to what is compared next. */
static uint64_t under_way(const struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	uint64_t wall = f->given ? aq_minus(now_ns, f->contender.lease_start_ns) : 0;

	return aq_min(aq_minus(wall, f->measured_ns[i]), UNDER_WAY_NS);
}

void aqd_lease_compare(struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	struct aqd_lease_use *u = &f->use[i];
	uint64_t rest;

	if (!u->sampled_ns || now_ns < u->since_ns + COMPARE_NS)
		return;
	rest = aq_min(under_way(f, i, now_ns), u->sampled_ns);
	u->sampled_ns -= rest;
	if (u->guessed_ns || f->late)
		put_right(f, i, now_ns);
	u->known_ns = u->guessed_ns = u->counted_ns = 0;
	u->sampled_ns = rest;
	u->since_ns = now_ns;
	aqd__lease_publish(f, i);
}
