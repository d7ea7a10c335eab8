/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the leases in the daemon's loop, with a timer, and makes events of what they report. */
#include "daemon/compute.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/slice.h"
#include "daemon/event.h"
#include "daemon/gate.h"
#include "daemon/lease_page.h"
#include "daemon/loop.h"
#include "daemon/process.h"
#include "base/banned.h"

/* Between two looks at the driver's samples: mostly; while clients come, of which some may not live
 * for a second; and when one ends, for many may at once. Source: the driver samples every 1/6 s to
 * 1 s (NVML, nvmlUtilization_t). */
#define SAMPLE_NS (900 * AQ_NS_PER_MS)
#define SAMPLE_SOON_NS (150 * AQ_NS_PER_MS)
#define SAMPLE_LEAST_NS (20 * AQ_NS_PER_MS)
#define SLICE_NS (100 * AQ_NS_PER_US) /* a turn of the loop takes less, and leases wait for it */
/* The calendar may be 500 ppm faster or slower than the clock; what is more than this was set. */
#define SET_US 100000
#define MAX_SAMPLES 1024u /* processes on one device */

static struct aqd_client *client_of(struct aqd_lessee *l)
{
	return aq_container_of(l, struct aqd_client, lessee);
}

static struct aqd_event_facts facts_of(struct aqd *d, struct aqd_lessee *who, uint32_t index)
{
	struct aqd_event_facts facts = aqd_event_none;

	facts.fraction = aq_container_of(who->lease, struct aqd_fraction, lease);
	facts.pid = client_of(who)->process->pid;
	facts.device = &d->device[who->lease->device[index]];
	return facts;
}

static bool is_stopped(void *context, struct aqd_lessee *who)
{
	return aq_pid_stopped(client_of(who)->process->pid);
}

static void on_overran(void *context, struct aqd_lessee *who, uint32_t index, uint64_t late_ns)
{
	struct aqd_event_facts facts = facts_of(context, who, index);

	facts.reason = "lease";
	aqd_event(context, AQD_EVENT_overran, &facts,
		  "process %d is still busy %" PRIu64
		  " us after the end of its lease: others go on beside it",
		  (int)facts.pid, (uint64_t)(late_ns / AQ_NS_PER_US));
}

static void on_caught_up(void *context, struct aqd_lessee *who, uint32_t index, uint64_t late_ns,
			 uint64_t debt_ns)
{
	struct aqd_event_facts facts = facts_of(context, who, index);

	facts.reason = "lease";
	aqd_event(context, AQD_EVENT_returned, &facts,
		  "process %d was %" PRIu64 " us too late: %" PRIu64
		  " us of device time are charged to its fraction",
		  (int)facts.pid, (uint64_t)(late_ns / AQ_NS_PER_US),
		  (uint64_t)(debt_ns / AQ_NS_PER_US));
}

static void on_lied(void *context, struct aqd_lessee *who, uint32_t index, uint64_t claimed_ns,
		    uint64_t possible_ns)
{
	struct aqd_event_facts facts = facts_of(context, who, index);

	facts.reason = "gpu_time";
	aqd_event(context, AQD_EVENT_lied, &facts,
		  "process %d claims %" PRIu64 " us of device time where %" PRIu64
		  " us are possible: the latter count",
		  (int)facts.pid, (uint64_t)(claimed_ns / AQ_NS_PER_US),
		  (uint64_t)(possible_ns / AQ_NS_PER_US));
}

static void set_gate(void *context, struct aqd_lessee *who, uint32_t index, bool closed)
{
	struct aqd_client *c = client_of(who);
	bool was = aqd_gate_get(c, index) & AQ_GATE_LEASED;

	aqd_gate_set(context, c, index, AQ_GATE_LEASED, closed);
	if (!closed)
		aqd_page_wake(who->page, index);
	if (was && !closed) /* from now on what is submitted passes unseen */
		aqd_page_news(who->page);
}

static const struct aqd_lease_ops ops = {
	.gate = set_gate,
	.stopped = is_stopped,
	.overran = on_overran,
	.caught_up = on_caught_up,
	.lied = on_lied,
};

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;

	d->leases_dirty = true;
}

int aqd_compute_init(struct aqd *d)
{
	aqd_leases_init(&d->leases, &aq_arbiter_defaults, &ops, d);
	(void)aq_slice_ask(SLICE_NS);
	d->lease_timer = evtimer_new(d->base, on_timer, d);
	return d->lease_timer ? 0 : -ENOMEM;
}

void aqd_compute_finish(struct aqd *d)
{
	if (d->lease_timer)
		event_free(d->lease_timer);
	d->lease_timer = NULL;
}

static struct aq_arbiter_terms terms_of(const struct aqd_fraction *f)
{
	return (struct aq_arbiter_terms){
		.request_permille = f->ledger.compute_request_permille,
		.limit_permille = f->ledger.compute_limit_permille,
		.priority = (uint32_t)f->ledger.priority,
	};
}

/* On CLOCK_MONOTONIC, and rather too early: the calendar may have been set. */
static uint64_t born_ns(const struct aqd_fraction *f)
{
	uint64_t now_s = (uint64_t)time(NULL), now = aq_now_ns();
	uint64_t age = (now_s > f->created_s ? now_s - f->created_s + 1 : 1) * AQ_NS_PER_S;

	return now > age ? now - age : 0;
}

void aqd_compute_begin(struct aqd *d, struct aqd_fraction *f)
{
	struct aq_arbiter_terms terms = terms_of(f);
	uint32_t device[AQ_MAX_DEVICES];

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		device[i] = f->ledger.share[i].device;
	aqd_lease_init(&d->leases, &f->lease, device, f->ledger.share_count, &terms, born_ns(f));
}

void aqd_compute_change(struct aqd *d, struct aqd_fraction *f)
{
	struct aq_arbiter_terms terms = terms_of(f);

	aqd_lease_change(&d->leases, &f->lease, &terms, aq_now_ns());
	d->leases_dirty = true;
}

void aqd_compute_end(struct aqd *d, struct aqd_fraction *f)
{
	aqd_lease_finish(&d->leases, &f->lease, aq_now_ns());
	d->leases_dirty = true;
}

void aqd_compute_join(struct aqd *d, struct aqd_client *c)
{
	uint64_t now = aq_now_ns();

	if (c->page && c->fraction && !c->lied) {
		aqd_lessee_join(&d->leases, &c->fraction->lease, &c->lessee, c->page, now);
		aqd_lessee_resume(&c->lessee, c->seen_ns, now);
		c->seen_ns = 0;
	}
	d->leases_dirty = true;
}

void aqd_compute_bell(struct aqd *d, struct aqd_client *c, uint32_t devices)
{
	aqd_lessee_rang(&d->leases, &c->lessee, devices, aq_now_ns());
	d->leases_dirty = true;
}

void aqd_compute_look(struct aqd *d)
{
	aqd_leases_look(&d->leases, aq_now_ns());
	d->leases_dirty = true;
}

static struct aqd_lessee *lessee_of(struct aqd *d, pid_t pid, uint32_t device, uint32_t *ret_index)
{
	struct aqd_process *p = aqd_process_known(d, pid);
	struct aqd_client *c, *next;

	if (!p)
		return NULL;
	AQ_LIST_FOREACH (c, next, &p->clients, of_process)
		for (uint32_t i = 0; c->lessee.lease && i < c->lessee.lease->device_count; i++)
			if (c->lessee.lease->device[i] == device) {
				*ret_index = i;
				return &c->lessee;
			}
	return NULL;
}

/* As the driver stamps its samples. */
static uint64_t wall_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * (AQ_NS_PER_S / AQ_NS_PER_US) +
	       (uint64_t)ts.tv_nsec / AQ_NS_PER_US;
}

/* All that the driver has of the device is in. */
static void compare(struct aqd *d, const struct aqd_device *dev, uint64_t now)
{
	struct aqd_fraction *f, *tmp;

	AQ_LIST_FOREACH (f, tmp, &d->fractions, link)
		for (uint32_t i = 0; i < f->lease.device_count; i++)
			if (f->lease.device[i] == dev->index)
				aqd_lease_compare(&f->lease, i, now);
}

/* The driver stamps its samples by the calendar: if that was set since it was asked last, what has
 * been seen of them is, too. */
static void follow_calendar(struct aqd_device *dev, uint64_t now_us, uint64_t now_ns)
{
	int64_t by_clock = (int64_t)((now_ns - dev->sampled_ns) / AQ_NS_PER_US);
	int64_t set = (int64_t)(now_us - dev->asked_us) - by_clock;

	if (dev->asked_us && dev->sampled_us && (set > SET_US || set < -SET_US))
		dev->sampled_us += (uint64_t)set;
	dev->asked_us = now_us;
	dev->sampled_ns = now_ns;
}

/* Whoever had work on the device: count what leases did not measure. */
static void sample(struct aqd *d, struct aqd_device *dev)
{
	AQ_CLEANUP(free) struct aq_nvml_utilisation *u = calloc(MAX_SAMPLES, sizeof(*u));
	uint64_t now = aq_now_ns(), now_us = wall_us(), since, last;
	int n;

	follow_calendar(dev, now_us, now);
	since = last = dev->sampled_us;
	n = u ? aq_nvml_utilisations(dev->nvml, dev->nvml_index, since, u, MAX_SAMPLES) : -ENOMEM;
	dev->samples = n >= 0 || n == -ENOSPC;
	for (int i = 0; i < n; i++) {
		uint64_t span = (u[i].time_us - since) * AQ_NS_PER_US;
		struct aqd_lessee *l;
		uint32_t index;

		if (u[i].time_us <= since || u[i].time_us > now_us + SET_US)
			continue;
		last = u[i].time_us > last ? u[i].time_us : last;
		l = lessee_of(d, u[i].pid, dev->index, &index);
		if (l)
			aqd_lessee_sampled(&d->leases, l, index, u[i].sm_percent, span, now);
	}
	dev->sampled_us = last;
	compare(d, dev, now);
}

/* Samples count from when somebody has a context on the device. */
static void begin_samples(struct aqd *d)
{
	for (uint32_t i = 0; i < d->ledger.device_count; i++) {
		struct aqd_device *dev = &d->device[i];

		if (!d->leases.running[i]) {
			dev->sampled_us = 0;
		} else if (!dev->sampled_us) {
			dev->asked_us = 0;
			dev->sampled_us = wall_us();
			sample(d, dev);
		}
	}
}

/* A client ends of which leases do not tell all: the driver has sampled it since we looked last. */
static void sample_last(struct aqd *d, const struct aqd_client *c)
{
	const struct aqd_lease *f = c->lessee.lease;
	uint64_t now = aq_now_ns();

	for (uint32_t i = 0; f && i < f->device_count; i++) {
		struct aqd_device *dev = &d->device[f->device[i]];

		if (c->lessee.running >> i & 1 &&
		    (!c->lessee.device[i].gated || f->running[i] > 1) && dev->sampled_us &&
		    now >= dev->sampled_ns + SAMPLE_LEAST_NS)
			sample(d, dev);
	}
}

void aqd_compute_leave(struct aqd *d, struct aqd_client *c)
{
	sample_last(d, c);
	aqd_lessee_leave(&d->leases, &c->lessee, aq_now_ns());
	d->leases_dirty = true;
}

void aqd_compute_tick(struct aqd *d)
{
	uint64_t now = aq_now_ns(), before = d->gpu_ns_saved, sum = 0;
	uint64_t often = d->quick_ticks ? SAMPLE_SOON_NS : SAMPLE_NS;
	struct aqd_fraction *f, *tmp;

	aqd_compute_look(d);
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (d->leases.running[i] && d->device[i].sampled_us &&
		    now >= d->device[i].sampled_ns + often)
			sample(d, &d->device[i]);
	if (now < d->summed_ns + SAMPLE_NS)
		return;
	d->summed_ns = now;
	AQ_LIST_FOREACH (f, tmp, &d->fractions, link)
		sum += aqd_compute_gpu_ns(f);
	d->gpu_ns_saved = sum;
	d->state_stale |= sum != before;
}

void aqd_compute_turn(struct aqd *d)
{
	bool others_run = d->leases.remanage;
	uint64_t next, now;

	if (!d->leases_dirty)
		return;
	d->leases_dirty = false;
	now = aq_now_ns();
	next = aqd_leases_run(&d->leases, now);
	if (others_run)
		begin_samples(d);
	if (next == AQ_ARBITER_NEVER)
		evtimer_del(d->lease_timer);
	else
		aqd_timer_set(d->lease_timer, next > now ? next - now : 0);
}

uint64_t aqd_compute_gpu_ns(const struct aqd_fraction *f)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		sum += aqd_lease_gpu_ns(&f->lease, i);
	return sum;
}

const char *aqd_compute_holder(struct aqd *d, uint32_t device)
{
	struct aqd_fraction *f, *tmp;

	AQ_LIST_FOREACH (f, tmp, &d->fractions, link)
		if (f->lease.given && f->lease.terms.devices >> device & 1)
			return f->name;
	return NULL;
}
