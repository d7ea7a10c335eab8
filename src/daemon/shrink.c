/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request to shrink has a number; whoever listens says which one it has seen last and is answered
 * as soon as there is a newer one. Nobody is punished for not answering: what follows is decided by
 * the order of reclaim, as if the program had no ears.
 */
#include "daemon/shrink.h"

#include <string.h>

#include "base/size.h"
#include "core/reclaim.h"
#include "daemon/event.h"
#include "daemon/gate.h"
#include "daemon/guard.h"
#include "daemon/request.h"
#include "base/banned.h"

#define HEARD_NS (10 * AQ_NS_PER_S) /* a listener is expected back for so long */
#define ASKED_NS (30 * AQ_NS_PER_S) /* and may be asked again after this */

static void answer(struct aqd *d, struct aqd_conn *conn, uint32_t turn)
{
	const struct aqd_fraction *f = conn->fraction;
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_SHRINK_REPLY, conn->held.head.seq);
	reply.shrink_reply.turn = turn;
	reply.shrink_reply.device = f->shrink.share;
	reply.shrink_reply.keep_bytes = f->shrink.keep_bytes;
	reply.shrink_reply.used_bytes = aq_ledger_used(&d->ledger, &f->ledger, f->shrink.share);
	memcpy(reply.shrink_reply.uuid,
	       d->device[f->ledger.share[f->shrink.share].device].info.uuid,
	       sizeof(reply.shrink_reply.uuid));
	aqd_conn_reply(d, conn, &reply, -1);
	if (conn->state != AQD_CONN_CLOSED)
		aqd_conn_resume(d, conn);
}

static void tell_listeners(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_conn *conn, *next;

	AQ_LIST_FOREACH (conn, next, &d->listening, pending)
		if (conn->fraction == f)
			answer(d, conn, f->shrink.turn);
}

void aqd_shrink_ask(struct aqd *d, struct aqd_fraction *f, uint32_t share, uint64_t keep_bytes)
{
	struct aqd_event_facts facts = aqd_event_none;
	struct aq_ledger_client *l, *next;
	char text[AQ_SIZE_TEXT];

	f->shrink.turn++;
	f->shrink.share = share;
	f->shrink.keep_bytes = keep_bytes;
	f->shrink.asked_ns = aq_now_ns();
	f->shrink.done = false;
	AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
		struct aq_page *page = aqd_client_of(l)->page;

		if (!page)
			continue;
		__atomic_store_n((uint64_t *)&page->device[share].shrink_bytes, keep_bytes,
				 __ATOMIC_RELEASE);
		__atomic_store_n((uint32_t *)&page->device[share].shrink_turn, f->shrink.turn,
				 __ATOMIC_RELEASE);
		aqd_gate_wake(&page->device[share].shrink_turn);
	}
	facts.fraction = f;
	facts.device = &d->device[f->ledger.share[share].device];
	facts.reason = "reclaim";
	facts.asked_bytes = keep_bytes;
	facts.used_bytes = aq_ledger_used(&d->ledger, &f->ledger, share);
	aqd_event(d, AQD_EVENT_shrink, &facts, "please use no more than %s",
		  aq_size_format(keep_bytes, text));
	tell_listeners(d, f);
}

bool aqd_shrink_heard(const struct aqd_fraction *f)
{
	return f->shrink.heard_ns && aq_now_ns() < f->shrink.heard_ns + HEARD_NS;
}

uint64_t aqd_shrink_asked_ns(struct aqd *d, const struct aqd_fraction *f)
{
	uint64_t age = aq_now_ns() - f->shrink.asked_ns;

	if (!f->shrink.asked_ns || age > ASKED_NS ||
	    aq_ledger_used(&d->ledger, &f->ledger, f->shrink.share) <= f->shrink.keep_bytes)
		return AQ_RECLAIM_NEVER;
	return f->shrink.done ? ASKED_NS : age; /* it had its time */
}

void aqd_shrink_listen(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg)
{
	const struct aq_msg_shrink *m = &msg->shrink;
	struct aqd_fraction *f = conn->fraction;

	f->shrink.heard_ns = aq_now_ns();
	if (m->answered && m->seen == f->shrink.turn) {
		f->shrink.done = true;
		d->residency_dirty = true;
	}
	conn->deadline_ns =
		aq_now_ns() +
		(m->wait_ms < AQ_SHRINK_WAIT_MS ? m->wait_ms : AQ_SHRINK_WAIT_MS) * AQ_NS_PER_MS;
	aqd_conn_hold(d, conn, AQD_WAIT_SHRINK, msg);
	if (m->seen != f->shrink.turn && f->shrink.asked_ns)
		answer(d, conn, f->shrink.turn);
	else
		d->residency_dirty = true; /* for the timer */
}

bool aqd_shrink_turn(struct aqd *d)
{
	struct aqd_conn *conn, *next;
	uint64_t now = aq_now_ns();

	AQ_LIST_FOREACH (conn, next, &d->listening, pending) {
		conn->fraction->shrink.heard_ns = now;
		if (now >= conn->deadline_ns)
			answer(d, conn, conn->held.shrink.seen);
	}
	return !aq_list_empty(&d->listening);
}
