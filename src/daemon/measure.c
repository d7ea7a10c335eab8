/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides when which devices are read, and for whom; what a reading is worth is in reading.c. Looks
 * for processes that are on a device without a fraction.
 */
#include "daemon/measure.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "daemon/client.h"
#include "daemon/context.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/loop.h"
#include "daemon/process.h"
#include "daemon/reading.h"
#include "daemon/resolve.h"
#include "base/banned.h"

/* A process on a device without a fraction for it; told once. */
struct foreigner {
	struct aq_list link;
	pid_t pid;
	bool seen; /* on the latest list */
};

#define READINGS 6u /* guess: who never rests is not caught by more */

static struct aqd_device *device_of(struct aqd *d, const struct aqd_client *c, uint32_t share)
{
	return &d->device[c->fraction->ledger.share[share].device];
}

void aqd_measure_due(struct aqd *d, struct aqd_client *c, uint32_t share, bool anew)
{
	if (!c->due_shares)
		aq_list_append(&d->due, &c->due);
	c->due_shares |= 1u << share;
	if (anew) {
		c->anew_shares |= 1u << share;
		d->due_anew = true;
	}
}

void aqd_measure_client(struct aqd *d, struct aqd_client *c)
{
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
		aqd_measure_due(d, c, i, true);
}

static bool is_due(const struct aqd_client *c, uint32_t share, bool again)
{
	return c->due_shares & 1u << share && !(again && c->reading[share].whole);
}

/* One reading of all that is due. Return: whether it was whole for all. */
static bool read_due(struct aqd *d, bool again)
{
	struct aqd_client *c, *next;
	uint64_t devices = 0;
	bool whole = true;

	AQ_LIST_FOREACH (c, next, &d->due, due)
		for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
			if (is_due(c, i, again)) {
				aqd_reading_begin(d, c, i);
				devices |= 1ull << c->fraction->ledger.share[i].device;
			}
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (devices & 1ull << i)
			aqd_device_read(d, &d->device[i]);
	AQ_LIST_FOREACH (c, next, &d->due, due)
		for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
			if (is_due(c, i, again))
				whole &= aqd_reading_end(d, c, i, again);
	return whole;
}

void aqd_measure_take_due(struct aqd *d)
{
	uint32_t n = 0;

	while (!read_due(d, n > 0) && ++n < READINGS)
		;
	while (!aq_list_empty(&d->due)) {
		struct aqd_client *c = aq_container_of(d->due.next, struct aqd_client, due);

		for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
			if (c->anew_shares & 1u << i)
				aqd_reading_count(d, c, i);
		c->due_shares = c->anew_shares = 0;
		aq_list_remove(&c->due);
	}
	d->due_anew = false;
}

void aqd_measure_apply_cost(struct aqd *d, struct aqd_client *c, uint32_t share,
			    const struct aq_msg_cost *cost)
{
	struct aq_ledger_hold *h = &c->ledger.hold[share];
	uint64_t before = h->overhead_bytes;
	bool told = cost->phase == AQ_COST_END ? aqd_reading_count_more(d, c, share)
					       : aqd_reading_count(d, c, share);

	/* Where nobody measures, the estimate is all there is. */
	if (!told && cost->phase == AQ_COST_END && cost->estimate_bytes < AQ_LEDGER_MAX_BYTES)
		aqd_reading_assume(d, c, share, before + cost->estimate_bytes);
	aqd_context_ended(d, c, cost, told,
			  h->overhead_bytes > before ? h->overhead_bytes - before : 0);
}

/* Is @pid on the device with our blessing? */
static bool is_ours(struct aqd *d, pid_t pid, uint32_t device)
{
	struct aqd_process *p = aqd_process_known(d, pid);
	struct aqd_client *c, *next;

	if (!p)
		return false;
	AQ_LIST_FOREACH (c, next, &p->clients, of_process)
		for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
			if (c->fraction->ledger.share[i].device == device)
				return true;
	return false;
}

/* NVML may list the dead for a moment. */
static bool is_alive(pid_t pid)
{
	struct pollfd p = {.fd = aq_pidfd_open(pid), .events = POLLIN};
	bool alive;

	if (p.fd < 0)
		return false;
	alive = poll(&p, 1, 0) == 0;
	close(p.fd);
	return alive;
}

static int kill_process(struct aqd *d, pid_t pid)
{
	struct aqd_process *p;
	uint64_t start;
	int r = aq_pid_start_time(pid, &start);

	if (r == 0)
		r = aqd_process_of_pid(d, pid, start, &p);
	if (r < 0)
		return r;
	r = aqd_process_signal(p, SIGKILL);
	aqd_process_put(d, p);
	return r;
}

static void meet(struct aqd *d, struct aqd_device *dev, const struct aq_nvml_process *proc)
{
	struct aqd_event_facts facts = aqd_event_none;
	struct foreigner *f = calloc(1, sizeof(*f));
	char used[AQ_SIZE_TEXT] = "an unknown amount";

	if (!f)
		return;
	f->pid = proc->pid;
	f->seen = true;
	aq_list_append(&dev->foreigners, &f->link);
	facts.fraction = aqd_resolve(d, proc->pid);
	facts.pid = proc->pid;
	facts.device = dev;
	facts.reason = facts.fraction ? "escaped" : "no_fraction";
	if (proc->used_bytes != AQ_NVML_UNKNOWN) {
		facts.used_bytes = proc->used_bytes;
		aq_size_format(proc->used_bytes, used);
	}
	aqd_event(d, AQD_EVENT_foreign, &facts,
		  "process %d uses %s of device %u and is no client of a fraction there",
		  (int)proc->pid, used, dev->index);
	/* Only what we let in: others may be the machine's own, a display for instance. */
	if (facts.fraction && d->config.allow_kill && kill_process(d, proc->pid) == 0)
		aqd_event(d, AQD_EVENT_killed, &facts,
			  "process %d: it escaped its guard, and allow_kill is set",
			  (int)proc->pid);
}

static void find_foreigners(struct aqd *d, struct aqd_device *dev)
{
	struct foreigner *f, *next;

	AQ_LIST_FOREACH (f, next, &dev->foreigners, link)
		f->seen = false;
	for (size_t i = 0; i < dev->proc_count; i++) {
		pid_t pid = dev->procs[i].pid;

		if (is_ours(d, pid, dev->index))
			continue;
		AQ_LIST_FOREACH (f, next, &dev->foreigners, link)
			if (f->pid == pid)
				break;
		if (&f->link != &dev->foreigners)
			f->seen = true;
		else if (is_alive(pid))
			meet(d, dev, &dev->procs[i]);
	}
	AQ_LIST_FOREACH (f, next, &dev->foreigners, link)
		if (!f->seen) {
			aq_list_remove(&f->link);
			free(f);
		}
}

/* Before and after the readings: note what pages say, then count. */
static void each_share(struct aqd *d,
		       void (*what)(struct aqd *d, struct aqd_client *c, uint32_t share))
{
	struct aqd_fraction *f, *next_fraction;
	struct aq_ledger_client *l, *next_client;

	AQ_LIST_FOREACH (f, next_fraction, &d->fractions, link)
		AQ_LIST_FOREACH (l, next_client, &f->ledger.clients, link)
			for (uint32_t i = 0; i < f->ledger.share_count; i++)
				what(d, aqd_client_of(l), i);
}

static void after_reading(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_reading *r = &c->reading[share];
	uint64_t unmeasured;

	aqd_reading_end(d, c, share, false);
	aqd_reading_count_periodic(d, c, share);
	if (!c->page)
		return;
	unmeasured =
		__atomic_load_n((uint64_t *)&c->page->device[share].unmeasured, __ATOMIC_ACQUIRE);
	if (unmeasured != r->unmeasured && !d->quick_ticks)
		aqd_loop_tick_soon(d);
	r->unmeasured = unmeasured;
	if (!share)
		__atomic_store_n((uint64_t *)&c->page->beat_ns, aq_now_ns(), __ATOMIC_RELEASE);
}

/*
 * Has the process become another program? Then its end of the connection is closed, its page is no
 * longer mapped and the driver has taken everything back. The last is what counts: who unmaps the
 * page by himself and goes on using a device stays charged for it.
 */
static bool is_left(struct aqd *d, const struct aqd_client *c)
{
	uint64_t bytes;

	if (!c->page || c->conn || c->lied)
		return false;
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++) {
		struct aqd_device *dev = device_of(d, c, i);

		if (!dev->procs_known || aqd_device_process(dev, c->process->pid, &bytes))
			return false;
	}
	return aq_pid_maps(c->process->pid, c->page_inode) == 0;
}

static void end_left(struct aqd *d)
{
	struct aqd_fraction *f, *next_fraction;
	struct aq_ledger_client *l, *next_client;

	AQ_LIST_FOREACH (f, next_fraction, &d->fractions, link)
		AQ_LIST_FOREACH (l, next_client, &f->ledger.clients, link)
			if (is_left(d, aqd_client_of(l)))
				aqd_client_end(d, aqd_client_of(l),
					       "its process became another program");
}

void aqd_measure_all(struct aqd *d)
{
	struct aqd_fraction *f, *next;

	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		if (f->holder)
			aqd_resolve_learn(d, f, f->holder->pid);
	each_share(d, aqd_reading_begin);
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (d->ledger.device[i].fraction_count)
			aqd_device_read(d, &d->device[i]);
	each_share(d, after_reading);
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (d->ledger.device[i].fraction_count)
			find_foreigners(d, &d->device[i]);
	end_left(d);
}

void aqd_measure_finish(struct aqd *d)
{
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		while (!aq_list_empty(&d->device[i].foreigners)) {
			struct foreigner *f = aq_container_of(d->device[i].foreigners.next,
							      struct foreigner, link);

			aq_list_remove(&f->link);
			free(f);
		}
}
