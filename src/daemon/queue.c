/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves waiting fractions in order. Whoever cannot be served keeps those behind from the devices
 * it could use, so that small ones do not starve a large one for ever.
 */
#include "daemon/queue.h"

#include <errno.h>
#include <string.h>

#include "daemon/event.h"
#include "daemon/loop.h"
#include "daemon/need.h"
#include "daemon/process.h"
#include "base/banned.h"

void aqd_queue_drop(struct aqd_wait *w)
{
	aq_list_remove(&w->link);
	aq_list_remove(&w->of_process);
	if (w->timer)
		event_free(w->timer);
	w->timer = NULL;
}

static void finish(struct aqd_wait *w, int error, struct aqd_fraction *f,
		   const struct aq_refusal *why)
{
	aqd_queue_drop(w);
	w->done(w, error, f, why);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct aqd_wait *w = arg;
	struct aq_refusal why = {0};
	struct aq_ledger_spec spec;

	aq_placement_choose(&w->daemon->ledger, &w->ask.placement, &spec, &why);
	finish(w, -ETIMEDOUT, NULL, &why);
}

int aqd_queue_add(struct aqd *d, struct aqd_wait *w, uint64_t wait_ns)
{
	struct aqd_event_facts facts = aqd_event_none;

	w->daemon = d;
	w->timer = evtimer_new(d->base, on_timeout, w);
	if (!w->timer)
		return -ENOMEM;
	if (wait_ns != UINT64_MAX)
		aqd_timer_set(w->timer, wait_ns);
	aq_list_append(&d->waits, &w->link);
	aq_list_append(&w->ask.holder->waits, &w->of_process);
	facts.name = w->ask.name;
	facts.pid = w->ask.holder->pid;
	aqd_event(d, AQD_EVENT_waiting, &facts, "queued until there is room");
	d->queue_dirty = true;
	return 0;
}

/* Try one. Return: devices that it keeps others from, for as long as it waits. */
static uint64_t try_one(struct aqd *d, struct aqd_wait *w, uint64_t blocked)
{
	struct aqd_fraction_ask ask = w->ask;
	struct aq_refusal why = {0};
	struct aqd_fraction *f;
	int r;

	ask.placement.allowed &= ~blocked;
	r = aqd_fraction_create(d, &ask, &f, &why);
	if (r == -ENOSPC)
		aqd_need_placement(d, &ask.placement);
	if (r == -ENOSPC || (r < 0 && blocked & w->ask.placement.allowed))
		return w->ask.placement.allowed;
	finish(w, r, r == 0 ? f : NULL, &why);
	return 0;
}

void aqd_queue_try(struct aqd *d)
{
	uint64_t blocked = 0;

	if (!aq_list_empty(&d->waits))
		aqd_fraction_end_unheld(d, NULL);
	for (int priority = AQ_PRIORITY_HIGH; priority >= AQ_PRIORITY_LOW; priority--) {
		struct aqd_wait *w, *next;

		AQ_LIST_FOREACH (w, next, &d->waits, link)
			if ((int)w->ask.placement.priority == priority)
				blocked |= try_one(d, w, blocked);
	}
}

uint64_t aqd_queue_claimed(const struct aqd *d, enum aq_priority priority)
{
	struct aqd_wait *w, *next;
	uint64_t claimed = 0;

	AQ_LIST_FOREACH (w, next, &d->waits, link)
		if (w->ask.placement.priority >= priority)
			claimed |= w->ask.placement.allowed;
	return claimed;
}

bool aqd_queue_has_name(const struct aqd *d, const char *name)
{
	struct aqd_wait *w, *next;

	AQ_LIST_FOREACH (w, next, &d->waits, link)
		if (!strcmp(w->ask.name, name))
			return true;
	return false;
}

void aqd_queue_process_gone(struct aqd *d, struct aqd_process *p)
{
	while (!aq_list_empty(&p->waits))
		finish(aq_container_of(p->waits.next, struct aqd_wait, of_process), -ESRCH, NULL,
		       NULL);
	d->queue_dirty = true;
}

void aqd_queue_finish(struct aqd *d)
{
	while (!aq_list_empty(&d->waits))
		finish(aq_container_of(d->waits.next, struct aqd_wait, link), -ECANCELED, NULL,
		       NULL);
}
