/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judges readings. Reads no device: see measure.c.
 *
 * A device and a page cannot be read at one instant. The guard adds to `used` before the driver
 * allocates and subtracts after it has freed, so at any instant NVML shows at most the overhead and
 * what is used. Hence a reading during which the page did not change (neither `used` nor its count
 * of changes) never says too much, but it says too little while a call is under way in the driver.
 * A broken reading, during which the page did change, can be wrong either way.
 */
#include "daemon/reading.h"

#include "base/number.h"
#include "base/timing.h"
#include "daemon/client.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/process.h"
#include "daemon/residency_order.h"
#include "base/banned.h"

#define LOWER_AFTER_NS (1500 * AQ_NS_PER_MS) /* guess: longer than a call that allocates */
/* Guess: so many do not all meet what is there for a moment only. Four did, now and then, of
 * programs that allocate and free hundreds of MiB all the time. */
#define BROKEN_IN_A_ROW 6u

static struct aqd_device *device_of(struct aqd *d, const struct aqd_client *c, uint32_t share)
{
	return &d->device[c->fraction->ledger.share[share].device];
}

/* How often `used` has changed; of a client without a page to believe, never. */
static uint64_t page_changes(const struct aqd_client *c, uint32_t share)
{
	if (!c->page || c->lied || c->lie)
		return 0;
	return __atomic_load_n((uint64_t *)&c->page->device[share].changes, __ATOMIC_SEQ_CST);
}

void aqd_reading_begin(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_reading *r = &c->reading[share];

	r->changes = page_changes(c, share);
	r->used_bytes = aqd_client_page_used(d, c, share);
}

bool aqd_reading_end(struct aqd *d, struct aqd_client *c, uint32_t share, bool again)
{
	struct aqd_reading *r = &c->reading[share];
	struct aqd_device *dev = device_of(d, c, share);
	uint64_t used = aqd_client_page_used(d, c, share), total = 0, overhead;

	if (dev->procs_known)
		aqd_device_process(dev, c->process->pid, &total);
	r->told = dev->procs_known && total != AQ_NVML_UNKNOWN;
	r->whole = used == r->used_bytes && page_changes(c, share) == r->changes;
	overhead = aq_minus(total, aq_max(used, r->used_bytes));
	r->overhead_bytes = again && !r->whole ? aq_min(overhead, r->overhead_bytes) : overhead;
	return r->whole || !r->told;
}

/* Tell the ledger, and people when that makes the fraction exceed its limit. */
static void set_overhead(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes)
{
	const struct aq_ledger_share *s = &c->fraction->ledger.share[share];
	struct aqd_event_facts facts = aqd_event_none;
	bool was_over = s->over;

	c->reading[share].quiet_ns = 0;
	if (bytes == c->ledger.hold[share].overhead_bytes)
		return;
	aq_ledger_measure(&d->ledger, &c->ledger, share, bytes);
	if (!s->over || was_over)
		return;
	facts.fraction = c->fraction;
	facts.pid = c->process->pid;
	facts.device = device_of(d, c, share);
	facts.reason = "measured";
	facts.used_bytes = aq_ledger_used(&d->ledger, &c->fraction->ledger, share);
	facts.limit_bytes = s->limit_bytes;
	facts.free_bytes = 0;
	aqd_event(d, AQD_EVENT_over_limit, &facts,
		  "measured beyond the limit: contexts, modules or memory that no call showed");
}

bool aqd_reading_count(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	const struct aqd_reading *r = &c->reading[share];

	if (r->told && (!r->whole || aqd_order_frozen(c, share)))
		return aqd_reading_count_more(d, c, share);
	if (r->told)
		set_overhead(d, c, share, r->overhead_bytes);
	return r->told;
}

bool aqd_reading_count_more(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	const struct aqd_reading *r = &c->reading[share];

	if (r->told && r->overhead_bytes > c->ledger.hold[share].overhead_bytes)
		set_overhead(d, c, share, r->overhead_bytes);
	return r->told;
}

void aqd_reading_assume(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes)
{
	set_overhead(d, c, share, bytes);
}

/* The page did change: at least what the least of several says, lest a client that never rests
 * hide what it has. */
static void count_broken(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_reading *r = &c->reading[share];

	r->quiet_ns = 0;
	r->least_bytes = r->broken ? aq_min(r->least_bytes, r->overhead_bytes) : r->overhead_bytes;
	if (++r->broken < BROKEN_IN_A_ROW)
		return;
	r->broken = 0;
	if (r->least_bytes > c->ledger.hold[share].overhead_bytes)
		set_overhead(d, c, share, r->least_bytes);
}

/* Less than is counted: believed of a client that was at rest for longer than any call takes. */
static void count_less(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_reading *r = &c->reading[share];
	uint64_t now = aq_now_ns();

	if (!r->quiet_ns || r->quiet_used_bytes != r->used_bytes ||
	    r->quiet_changes != r->changes || r->quiet_overhead_bytes != r->overhead_bytes) {
		r->quiet_ns = now;
		r->quiet_used_bytes = r->used_bytes;
		r->quiet_changes = r->changes;
		r->quiet_overhead_bytes = r->overhead_bytes;
	} else if (now - r->quiet_ns >= LOWER_AFTER_NS) {
		set_overhead(d, c, share, r->overhead_bytes);
	}
}

void aqd_reading_count_periodic(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_reading *r = &c->reading[share];
	const struct aq_ledger_hold *h = &c->ledger.hold[share];

	if (!r->told || aqd_order_frozen(c, share)) /* moving: no two readings agree */
		return;
	if (!r->whole) {
		count_broken(d, c, share);
		return;
	}
	r->broken = 0;
	if (h->reserved_bytes)
		/* Something is being made: what is reserved for it may be in the reading already,
		 * and must not count twice. Its end is measured. */
		set_overhead(
			d, c, share,
			aq_max(aq_minus(r->overhead_bytes, h->reserved_bytes), h->overhead_bytes));
	else if (r->overhead_bytes >= h->overhead_bytes)
		set_overhead(d, c, share, r->overhead_bytes);
	else
		count_less(d, c, share);
}
