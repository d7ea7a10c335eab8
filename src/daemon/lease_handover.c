/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long it takes to hand a device over: from when a guard means to give a lease back until the
 * next one begins to use it, three threads later. Leases are given back so long before their work
 * is done, so that the device is not idle meanwhile. Learned of each device, for it depends on how
 * busy the host is. Nothing is decided by it; what pages say may be anything.
 */
#include "daemon/lease.h"

#include "base/timing.h"
#include "daemon/lease_internal.h"
#include "daemon/lease_page.h"
#include "base/banned.h"

/* More than the quickest host needs; and less than is in flight, for more cannot be given back. */
#define LEAST_NS ((uint32_t)(60 * AQ_NS_PER_US))
#define MOST_NS ((uint32_t)(600 * AQ_NS_PER_US))
#define FIRST_NS ((uint32_t)(100 * AQ_NS_PER_US))

/* One in a hundred takes longer than what is learned: then it grows by 99 steps, else it shrinks by
 * one. So one that was very late counts no more than any other. What is given back sooner costs
 * some slices, and is charged. */
#define STEP_NS ((uint32_t)(1 * AQ_NS_PER_US))
#define STEPS_UP 99u

#define NO_HANDOVER_NS (10 * (int64_t)AQ_NS_PER_MS) /* something else was in between */

uint32_t aqd__handover_early_ns(const struct aqd_leases *l, uint32_t device)
{
	uint32_t ns = l->handover[device].early_ns;

	return ns ? ns : FIRST_NS;
}

void aqd__handover_back(struct aqd_leases *l, struct aqd_lease *f, uint32_t i, uint64_t now_ns)
{
	struct aqd_handover *h = &l->handover[f->device[i]];
	struct aqd_lessee *c, *tmp;

	h->back_ns = now_ns;
	h->end_known = false;
	AQ_LIST_FOREACH (c, tmp, &f->lessees, link) {
		const struct aqd_lessee_device *dev = &c->device[i];
		struct aqd_page_says says = aqd_page_look(c->page, i);

		if (!dev->given || says.done_turn != dev->turn)
			continue;
		if (h->end_known && (int32_t)(says.edge_ns - h->end_ns) < 0)
			continue; /* the last one of several */
		h->end_known = says.edge_ns != 0;
		h->end_ns = says.edge_ns;
	}
}

void aqd__handover_taken(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee_device *dev,
			 uint32_t i, const struct aqd_page_says *says)
{
	struct aqd_handover *h = &l->handover[f->device[i]];
	uint32_t early = aqd__handover_early_ns(l, f->device[i]);
	int64_t took;

	if (dev->taken || says->active_turn != dev->turn || says->done_turn == dev->turn)
		return;
	dev->taken = true;
	if (!h->end_known || dev->given_ns != h->back_ns)
		return;
	h->end_known = false;
	took = (int64_t)early + (int32_t)(says->edge_ns - h->end_ns);
	if (took > NO_HANDOVER_NS || took < 0)
		return;
	if ((uint64_t)took > early)
		early += STEPS_UP * STEP_NS;
	else
		early -= STEP_NS;
	h->early_ns = early < LEAST_NS ? LEAST_NS : early > MOST_NS ? MOST_NS : early;
}
