/* SPDX-License-Identifier: Apache-2.0 */
/* Instants that device time has not decided yet, and marks on them; see exec.h. Waits for nothing.
 */
#include <stdlib.h>

#include "exec.h"

#include "base/banned.h"

bool sim_when_merge(struct sim_when *into, const struct sim_when *other)
{
	if (other->on) {
		if (!into->on) {
			into->on = other->on;
			into->ticket = other->ticket;
		} else if (into->on == other->on) {
			if (other->ticket > into->ticket)
				into->ticket = other->ticket;
		} else {
			return false;
		}
	}
	if (other->floor_ns > into->floor_ns)
		into->floor_ns = other->floor_ns;
	return true;
}

bool sim_when_decided(struct sim_when *w, uint64_t *ret_ns)
{
	uint64_t start, finish = 0;
	int r;

	if (!w->on) {
		*ret_ns = w->floor_ns;
		return true;
	}
	r = sim_time_finished(w->on->ctx, w->ticket, &start, &finish);
	if (r == 0) {
		*ret_ns = finish > w->floor_ns ? finish : w->floor_ns;
		return false;
	}
	/* A ticket that the engine has forgotten was done long ago: nothing waits for it. */
	if (r == 1 && finish > w->floor_ns)
		w->floor_ns = finish;
	w->on = NULL;
	*ret_ns = w->floor_ns;
	return true;
}

bool sim_when_past(struct sim_when *w, uint64_t now_ns)
{
	if (w->floor_ns > now_ns)
		return false;
	if (!w->on)
		return true;
	if (w->ticket >= w->on->n_finished)
		w->on->n_finished = w->on->n_tickets - sim_time_pending(w->on->ctx);
	return w->ticket < w->on->n_finished;
}

struct sim_mark *sim_mark_create(void)
{
	struct sim_mark *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->refs = 1;
	aq_list_init(&m->link);
	return m;
}

struct sim_mark *sim_mark_get(struct sim_mark *m)
{
	m->refs++;
	return m;
}

void sim_mark_put(struct sim_mark *m)
{
	if (!m || --m->refs > 0)
		return;
	aq_list_remove(&m->link);
	free(m);
}

static void decide(struct sim_mark *m, uint64_t at_ns)
{
	m->state = SIM_MARK_DECIDED;
	m->at_ns = at_ns;
	aq_list_remove(&m->link);
}

void sim_mark_issue(struct sim_mark *m, const struct sim_when *when)
{
	struct aq_list *at;

	m->when = *when;
	if (!when->on) {
		decide(m, when->floor_ns);
		return;
	}
	m->state = SIM_MARK_ISSUED;
	/* By ticket; new ones belong at the end or near it. */
	for (at = when->on->marks.prev; at != &when->on->marks; at = at->prev)
		if (aq_container_of(at, struct sim_mark, link)->when.ticket <= when->ticket)
			break;
	aq_list_insert(at, &m->link);
}

bool sim_mark_decided(struct sim_mark *m, uint64_t *ret_ns)
{
	if (m->state == SIM_MARK_ISSUED) {
		if (!sim_when_decided(&m->when, ret_ns))
			return false;
		decide(m, *ret_ns);
	}
	*ret_ns = m->at_ns;
	return true;
}

bool sim_mark_past(struct sim_mark *m, uint64_t now_ns)
{
	uint64_t at;

	if (m->state == SIM_MARK_QUEUED)
		return false;
	if (m->state == SIM_MARK_ISSUED && !sim_when_past(&m->when, now_ns))
		return false;
	return sim_mark_decided(m, &at) && at <= now_ns;
}

void sim_marks_refresh(struct sim_exec *x)
{
	while (!aq_list_empty(&x->marks)) {
		struct sim_mark *m = aq_container_of(x->marks.next, struct sim_mark, link);
		uint64_t at;

		if (!sim_mark_decided(m, &at))
			return;
	}
}
