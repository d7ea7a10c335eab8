/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overhead is what NVML counts for a process less what its page says is used. A reading and a page
 * cannot be taken at one instant, so a reading only counts when `used` was the same before and
 * after, and a periodic one that says less than before only when the next agrees: a client that is
 * in the middle of an allocation has it in `used` already, but NVML does not see it yet.
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
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/loop.h"
#include "daemon/process.h"
#include "daemon/resolve.h"
#include "base/banned.h"

/* A process on a device without a fraction for it; told once. */
struct foreigner {
	struct aq_list link;
	pid_t pid;
	bool seen; /* on the latest list */
};

enum how { PERIODIC, AT_ONCE };

#define LOWER_AFTER 3u /* guess: readings that agree with the first that said less */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static struct aqd_device *device_of(struct aqd *d, const struct aqd_client *c, uint32_t share)
{
	return &d->device[c->fraction->ledger.share[share].device];
}

void aqd_measure_snapshot(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	c->reading[share].used_bytes = aqd_client_page_used(d, c, share);
}

/* Tell the ledger, and people when that makes the fraction exceed its limit. */
static void set_overhead(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes)
{
	const struct aq_ledger_share *s = &c->fraction->ledger.share[share];
	struct aqd_event_facts facts = aqd_event_none;
	bool was_over = s->over;

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

/* What the last reading says of the client. Return: false when it says nothing. */
static bool read_client(struct aqd *d, const struct aqd_client *c, uint32_t share,
			uint64_t *ret_bytes)
{
	struct aqd_device *dev = device_of(d, c, share);

	if (!dev->procs_known)
		return false;
	*ret_bytes = 0;
	aqd_device_process(dev, c->process->pid, ret_bytes);
	return *ret_bytes != AQ_NVML_UNKNOWN;
}

/* Return: false when the driver tells nothing. */
static bool apply(struct aqd *d, struct aqd_client *c, uint32_t share, enum how how)
{
	struct aqd_reading *r = &c->reading[share];
	uint64_t now = aqd_client_page_used(d, c, share), had, total, last = r->overhead_bytes;

	if (!read_client(d, c, share, &total))
		return false;
	had = c->ledger.hold[share].overhead_bytes;
	if (now != r->used_bytes) {
		/* Not at one instant: at least this much, and perhaps more. */
		now = max_u64(now, r->used_bytes);
		if (how == AT_ONCE && total > now && total - now > had)
			set_overhead(d, c, share, total - now);
		return true;
	}
	r->overhead_bytes = total > now ? total - now : 0;
	if (how == PERIODIC && c->ledger.hold[share].reserved_bytes) {
		/* Something is being made: what is reserved for it may be in the reading already,
		 * and must not count twice. Its end is measured. */
		uint64_t reserved = c->ledger.hold[share].reserved_bytes;

		total = r->overhead_bytes > reserved ? r->overhead_bytes - reserved : 0;
		set_overhead(d, c, share, max_u64(total, had));
		return true;
	}
	if (how == PERIODIC && r->overhead_bytes < had) {
		/* Readings of a busy client can fall between its guard's reservation and the
		 * driver's call, and agree on too little: only a quiet one is believed. */
		if (now != r->quiet_used_bytes || r->overhead_bytes != last)
			r->agreed = 0;
		r->quiet_used_bytes = now;
		if (r->agreed++ < LOWER_AFTER)
			return true;
	}
	r->agreed = 0;
	set_overhead(d, c, share, r->overhead_bytes);
	return true;
}

void aqd_measure_client(struct aqd *d, struct aqd_client *c)
{
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++) {
		aqd_measure_snapshot(d, c, i);
		aqd_device_read_once(d, device_of(d, c, i));
		apply(d, c, i, AT_ONCE);
	}
}

static bool makes_context(const char *api)
{
	return strstr(api, "CtxCreate") || strstr(api, "PrimaryCtxRetain");
}

static void learn_context(struct aqd *d, struct aqd_device *dev, uint64_t bytes)
{
	struct aqd_fraction *f, *next;

	if (bytes <= dev->context_bytes)
		return;
	dev->context_bytes = bytes;
	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		aqd_client_write_terms_of(d, f);
}

void aqd_measure_apply_cost(struct aqd *d, struct aqd_client *c, uint32_t share,
			    const struct aq_msg_cost *cost)
{
	struct aq_ledger_hold *h = &c->ledger.hold[share];
	uint64_t before = h->overhead_bytes;

	if (!apply(d, c, share, AT_ONCE)) {
		/* Nobody measures here: the estimate is all there is. */
		if (cost->phase == AQ_COST_END && cost->estimate_bytes < AQ_LEDGER_MAX_BYTES)
			set_overhead(d, c, share, before + cost->estimate_bytes);
		return;
	}
	if (cost->phase == AQ_COST_END && makes_context(cost->api) && h->overhead_bytes > before)
		learn_context(d, device_of(d, c, share), h->overhead_bytes - before);
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

static void before_reading(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	aqd_measure_snapshot(d, c, share);
}

static void after_reading(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_reading *r = &c->reading[share];
	uint64_t unmeasured;

	apply(d, c, share, PERIODIC);
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
	each_share(d, before_reading);
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
