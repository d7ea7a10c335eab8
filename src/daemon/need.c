/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps those who wait for room, and serves them in order. How room is made: see room.c. */
#include "daemon/need.h"

#include <errno.h>

#include "base/number.h"
#include "base/size.h"
#include "core/reclaim.h"
#include "daemon/api.h"
#include "daemon/event.h"
#include "daemon/guard.h"
#include "daemon/queue.h"
#include "daemon/request.h"
#include "daemon/residency.h"
#include "daemon/residency_order.h"
#include "daemon/room.h"
#include "base/banned.h"

/* A guard takes a daemon that says nothing for ten seconds for dead: answer before, "ask again". */
#define ANSWER_NS (8 * AQ_NS_PER_S)

/* What a waiting one lacks, by share; and whether its request covers that. */
struct want {
	const struct aqd_fraction *f;
	uint64_t bytes[AQ_MAX_DEVICES];
	bool entitled;
	bool fixed;
	uint64_t devices; /* of which it lacks something */
};

static struct want want_of(struct aqd *d, struct aqd_need *n)
{
	struct want w = {.f = n->fraction, .entitled = true};

	for (uint32_t i = 0; i < w.f->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &w.f->ledger.share[i];

		w.bytes[i] = n->conn ? (i == n->share ? n->bytes : 0) : aqd_parked_share(w.f, i);
		if (!w.bytes[i])
			continue;
		w.devices |= 1ull << s->device;
		if (aq_ledger_used(&d->ledger, &w.f->ledger, i) + w.bytes[i] > s->request_bytes)
			w.entitled = false;
	}
	w.fixed = n->conn && n->fixed && !w.entitled; /* a request fits beside all others anyway */
	return w;
}

void aqd_need_drop(struct aqd_need *n)
{
	if (n->fraction)
		aq_list_remove(&n->link);
	n->fraction = NULL;
}

static void enlist(struct aqd *d, struct aqd_need *n, struct aqd_fraction *f)
{
	if (n->fraction)
		return;
	n->fraction = f;
	n->since_ns = aq_now_ns();
	n->told = false;
	aq_list_append(&d->needs, &n->link);
	d->residency_dirty = true;
}

bool aqd_need_lent(struct aqd *d, const struct aqd_fraction *f, uint32_t share, uint64_t bytes,
		   struct aq_refusal *ret_why)
{
	const struct aq_ledger_share *s = &f->ledger.share[share];
	uint64_t used = aq_ledger_used(&d->ledger, &f->ledger, share), lacks;

	if (used + bytes <= s->request_bytes)
		return false;
	lacks = aq_ledger_shortfall(&d->ledger, &f->ledger, share, bytes, true);
	if (!lacks || lacks == UINT64_MAX || !aq_ledger_lent(&d->ledger, &f->ledger, s->device))
		return false;
	*ret_why = (struct aq_refusal){
		.reason = AQ_REFUSED_DEVICE,
		.device = s->device,
		.asked_bytes = bytes,
		.limit_bytes = s->limit_bytes,
		.used_bytes = used,
		.free_bytes = aq_minus(bytes, lacks),
	};
	return true;
}

bool aqd_need_room(struct aqd *d, struct aqd_conn *conn, uint32_t share, uint64_t bytes, bool fixed,
		   const union aq_msg *msg)
{
	struct aqd_need *n = &conn->need;

	if (conn->refused_room || conn->in_turn ||
	    aq_ledger_shortfall(&d->ledger, &conn->client->fraction->ledger, share, bytes, fixed) ==
		    UINT64_MAX)
		return false;
	n->fixed = fixed;
	n->conn = conn;
	n->share = share;
	n->bytes = bytes;
	enlist(d, n, conn->client->fraction);
	aqd_conn_hold(d, conn, AQD_WAIT_ROOM, msg);
	return true;
}

/* Devices on which room is being made for a new request, or a larger one of another: what becomes
 * free there is not for bursts. */
static uint64_t claimed(const struct aqd *d, const struct aqd_fraction *f)
{
	return (d->queue_again ? aqd_queue_claimed(d, AQ_PRIORITY_LOW) : 0) |
	       aqd_api_resizes_claimed(d, f);
}

bool aqd_need_ahead(struct aqd *d, const struct aqd_fraction *f, uint32_t share, uint64_t bytes)
{
	const struct aq_ledger_share *s = &f->ledger.share[share];
	struct aqd_need *n, *next;

	if (s->held_bytes + bytes <= aq_ledger_bound(s))
		return false;
	if (claimed(d, f) >> s->device & 1)
		return true;
	AQ_LIST_FOREACH (n, next, &d->needs, link)
		if (n->fraction != f && n->waits &&
		    n->fraction->ledger.priority >= f->ledger.priority &&
		    aq_ledger_share_on(&n->fraction->ledger, s->device) >= 0)
			return true;
	return false;
}

void aqd_need_resume(struct aqd *d, struct aqd_fraction *f)
{
	enlist(d, &f->residency.need, f);
}

bool aqd_need_request(struct aqd *d, const struct aqd_fraction *self, uint32_t device,
		      uint64_t bytes)
{
	const struct aq_ledger_device *l = &d->ledger.device[device];
	struct aq_reclaim_need need = {.entitled = true, .priority = AQ_PRIORITY_NORMAL};
	uint64_t own = 0, own_request = 0;
	int share = self ? aq_ledger_share_on(&self->ledger, device) : -1;
	enum aq_reclaim_answer answer;

	if (share >= 0) {
		own = aq_ledger_committed(&d->ledger, &self->ledger, (uint32_t)share, false);
		own_request = self->ledger.share[share].request_bytes;
	}
	if (bytes > l->total_bytes - (l->request_bytes - own_request))
		return false; /* promised to others already */
	need.short_bytes = aq_minus(l->committed_bytes - own + aq_max(own, bytes), l->total_bytes);
	if (!need.short_bytes)
		return true;
	answer = aqd_room_make(d, self, device, &need);
	d->queue_again = d->queue_again || answer != AQ_RECLAIM_REFUSE;
	d->residency_dirty = true;
	return answer != AQ_RECLAIM_REFUSE;
}

bool aqd_need_placement(struct aqd *d, const struct aq_placement_ask *ask)
{
	uint32_t made = 0;

	for (uint32_t i = 0; i < d->ledger.device_count && made < ask->device_count; i++) {
		const struct aq_ledger_device *l = &d->ledger.device[i];
		struct aq_ledger_spec spec;

		if (!(ask->allowed >> i & 1) ||
		    aq_placement_terms(ask, l->total_bytes, &spec) < 0 ||
		    spec.compute_request_permille > AQ_PERMILLE - l->compute_request_permille ||
		    spec.share[0].limit_bytes > l->total_bytes)
			continue;
		made += aqd_need_request(d, NULL, i, spec.share[0].request_bytes);
	}
	return made >= ask->device_count;
}

/* Have its processes asked for memory that moves? */
static bool moves(const struct aqd_fraction *f)
{
	struct aq_ledger_client *l, *next;

	AQ_LIST_FOREACH (l, next, &f->ledger.clients, link)
		if (aqd_client_of(l)->moves)
			return true;
	return false;
}

uint64_t aqd_need_free(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	const struct aq_ledger_share *s = &f->ledger.share[share];
	bool fixed = !moves(f);
	uint64_t lent = fixed ? aq_ledger_lent(&d->ledger, &f->ledger, s->device) : 0;
	uint64_t plain = aq_ledger_free(&d->ledger, &f->ledger, share);
	uint64_t used = aq_ledger_used(&d->ledger, &f->ledger, share), others, room;
	struct aq_reclaim_need need = {.priority = (uint32_t)f->ledger.priority, .fixed = fixed};

	plain = aq_max(aq_minus(plain, lent), aq_min(plain, aq_minus(s->request_bytes, used)));
	if (used >= s->limit_bytes || plain >= s->limit_bytes - used)
		return plain;
	others = d->ledger.device[s->device].committed_bytes + lent -
		 aq_ledger_committed(&d->ledger, &f->ledger, share, false);
	others = aq_minus(others, aqd_room_easy(d, f, s->device, &need));
	room = aq_max(aq_minus(d->ledger.device[s->device].total_bytes, others), s->request_bytes);
	room = aq_minus(room < s->limit_bytes ? room : s->limit_bytes, used);
	return aq_max(room, plain);
}

/* Nobody makes room for it, or not in time. */
static void give_up(struct aqd *d, struct aqd_need *n, bool refuse)
{
	struct aqd_conn *conn = n->conn;

	if (!conn)
		return; /* a parked one waits on: something may change */
	aqd_need_drop(n);
	conn->refused_room = refuse;
	if (refuse)
		aqd_request_retry(d, conn);
	else
		aqd_request_again(d, conn);
	conn->refused_room = false;
}

/* Served, or no longer there. */
static bool try_now(struct aqd *d, struct aqd_need *n, const struct want *w)
{
	struct aqd_conn *conn = n->conn;

	if (!conn) {
		if (n->fraction->residency.state != AQD_PARKED)
			return false;
		return aqd_residency_resume(d, n->fraction) == 0;
	}
	if (!aqd_is_resident(n->fraction)) {
		aqd_residency_want(d, n->fraction, false);
		return false;
	}
	if (aq_ledger_shortfall(&d->ledger, &w->f->ledger, n->share, n->bytes, w->fixed))
		return false;
	aqd_need_drop(n);
	conn->in_turn = true;
	aqd_request_retry(d, conn);
	conn->in_turn = false;
	return true;
}

/* A parked one with work that nobody can make room for: why, once for each time that it wants. */
static void tell_stuck(struct aqd *d, struct aqd_need *n, const struct want *w)
{
	struct aqd_event_facts facts = aqd_event_none;
	bool limit = false;
	char text[AQ_SIZE_TEXT];

	if (n->told)
		return;
	n->told = true;
	facts.fraction = n->fraction;
	facts.asked_bytes = 0;
	for (uint32_t i = 0; i < w->f->ledger.share_count; i++) {
		facts.asked_bytes += w->bytes[i];
		limit = limit ||
			(w->bytes[i] && aq_ledger_shortfall(&d->ledger, &w->f->ledger, i,
							    w->bytes[i], false) == UINT64_MAX);
	}
	facts.reason = limit ? "limit" : "device";
	aqd_event(d, AQD_EVENT_resume_failed, &facts, "it has work and waits: %s of it %s",
		  aq_size_format(facts.asked_bytes, text),
		  limit ? "do not fit below its limit"
			: "find no room, and nobody who could make it");
}

/* Return: it is served, or gone. */
static bool serve(struct aqd *d, struct aqd_need *n, const struct want *w, uint64_t *blocked)
{
	bool refused = false, shorts = false, resident = !n->conn || aqd_is_resident(n->fraction);

	if (try_now(d, n, w))
		return true;
	if (!resident) /* its fraction comes first, and waits by itself */
		return false;
	for (uint32_t i = 0; i < w->f->ledger.share_count; i++) {
		struct aq_reclaim_need need = {
			.entitled = w->entitled,
			.fixed = w->fixed,
			.priority = (uint32_t)w->f->ledger.priority,
		};

		if (w->bytes[i])
			need.short_bytes = aq_ledger_shortfall(&d->ledger, &w->f->ledger, i,
							       w->bytes[i], w->fixed);
		if (!need.short_bytes)
			continue;
		shorts = true;
		refused = refused || need.short_bytes == UINT64_MAX ||
			  aqd_room_make(d, w->f, w->f->ledger.share[i].device, &need) ==
				  AQ_RECLAIM_REFUSE;
	}
	if (shorts && !refused && try_now(d, n, w)) /* what was free at once did */
		return true;
	if (refused && !n->conn)
		tell_stuck(d, n, w);
	n->waits = !refused;
	if (refused && n->conn) {
		give_up(d, n, true);
		return true;
	}
	if (!refused)
		*blocked |= w->devices;
	return false;
}

bool aqd_needs_serve(struct aqd *d)
{
	uint64_t blocked = 0, now = aq_now_ns();
	struct aqd_need *n, *next;

	AQ_LIST_FOREACH (n, next, &d->needs, link)
		if (n->fraction && n->conn && now >= n->since_ns + ANSWER_NS)
			give_up(d, n, false);
	for (int entitled = 1; entitled >= 0; entitled--)
		for (int priority = AQ_PRIORITY_HIGH; priority >= AQ_PRIORITY_LOW; priority--)
			AQ_LIST_FOREACH (n, next, &d->needs, link) {
				struct want w;

				if (!n->fraction) { /* it left while another was served */
					d->residency_dirty = true;
					return true;
				}
				w = want_of(d, n);
				if ((int)n->fraction->ledger.priority != priority ||
				    w.entitled != (bool)entitled ||
				    (!entitled && w.devices & (blocked | claimed(d, w.f))))
					continue;
				serve(d, n, &w, &blocked);
			}
	return !aq_list_empty(&d->needs);
}
