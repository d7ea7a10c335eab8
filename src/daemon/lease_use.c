/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What counts of what leases measure. One client in a lease has the device to itself, and its
 * marks tell how long it worked. Where several clients of a fraction use a lease, the hardware
 * slices the device between them, so that what each measures has slices of its siblings in it, and
 * the switches between them; no instant tells these apart. The driver knows: what it samples of
 * each client says which part of such leases was work. Leases tell when, samples how much.
 *
 * Samples only ever take off what was measured. Arbitration does not ask for them: a lease keeps
 * others away for as long as it lasts, whoever has the device in it.
 */
#include "daemon/lease.h"

#include "base/number.h"
#include "base/timing.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

/* Over less than this, leases under way at the edges are most of the difference. */
#define COMPARE_NS (100 * AQ_NS_PER_MS)

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

void aqd__lease_measured(struct aqd_lease *f, uint32_t i, uint64_t ns, bool shared)
{
	struct aqd_lease_use *u = &f->use[i];
	uint64_t counts = ns, paid;

	if (!shared) {
		u->sole_ns += ns;
		f->gpu_ns[i] += ns;
		return;
	}
	counts -= (uint64_t)((double)ns * u->siblings);
	paid = aq_min(counts, u->over_ns);
	u->shared_ns += ns;
	u->counted_ns += counts;
	u->over_ns -= paid;
	u->withheld_ns += ns - counts + paid;
	f->gpu_ns[i] += counts - paid;
}

void aqd__lease_sampled(struct aqd_lease *f, uint32_t i, uint64_t ns, uint64_t counted_ns)
{
	f->use[i].sampled_ns += ns;
	aqd__lease_measured(f, i, counted_ns, false);
}

/* The part of shared leases that was not work of this fraction, by this comparison. */
static double siblings_of(const struct aqd_lease_use *u)
{
	uint64_t work = aq_minus(u->sampled_ns, u->sole_ns);

	return work < u->shared_ns ? (double)(u->shared_ns - work) / (double)u->shared_ns : 0;
}

/* Put right what was counted, as far as it was measured, and learn for what is counted next. */
static void put_right(struct aqd_lease *f, uint32_t i)
{
	struct aqd_lease_use *u = &f->use[i];
	uint64_t counted = u->over_ns + u->sole_ns + u->counted_ns;
	double siblings = siblings_of(u);
	uint64_t missing = aq_min(aq_minus(u->sampled_ns, counted), u->withheld_ns);

	u->siblings = u->compared ? (3 * u->siblings + siblings) / 4 : siblings;
	u->compared = true;
	u->withheld_ns -= missing;
	f->gpu_ns[i] += missing;
	/* What one client measured is not doubted: it is not made up for by more than this. */
	u->over_ns = aq_min(aq_minus(counted, u->sampled_ns), u->shared_ns);
}

void aqd_lease_compare(struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	struct aqd_lease_use *u = &f->use[i];

	/* What an overrunner has had is counted when it is done. */
	if (!u->sampled_ns || f->late || now_ns < u->since_ns + COMPARE_NS)
		return;
	if (u->shared_ns)
		put_right(f, i);
	u->sole_ns = u->shared_ns = u->counted_ns = u->sampled_ns = 0;
	u->since_ns = now_ns;
	aqd__lease_publish(f, i);
}
