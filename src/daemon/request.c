/* SPDX-License-Identifier: Apache-2.0 */
/* Understands the guard's messages and answers them. Decides by the ledger; sends by guard.c. */
#include "daemon/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "abi/page.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "daemon/client.h"
#include "daemon/compute.h"
#include "daemon/context.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/gate.h"
#include "daemon/guard.h"
#include "daemon/idle.h"
#include "daemon/loop.h"
#include "daemon/need.h"
#include "daemon/measure.h"
#include "daemon/residency.h"
#include "daemon/resolve.h"
#include "daemon/share.h"
#include "daemon/shrink.h"
#include "base/banned.h"

#define FRESH_NS (100 * AQ_NS_PER_MS)	  /* guess: who is woken up runs by then */
#define CONTEXT_WAIT_NS (2 * AQ_NS_PER_S) /* guess: a context takes some 100 ms */

static void hello_failed(struct aqd *d, struct aqd_conn *conn, uint32_t seq, int error,
			 const char *name, const char *text)
{
	struct aqd_event_facts facts = aqd_event_none;
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_HELLO_REPLY, seq);
	reply.hello_reply.result = error;
	reply.hello_reply.abi = AQ_ABI_VERSION;
	reply.hello_reply.fail_open = d->config.fail_open;
	aq_copy_padded(reply.hello_reply.text, sizeof(reply.hello_reply.text), text);
	facts.name = name && name[0] ? name : NULL;
	facts.pid = conn->process->pid;
	facts.reason = "hello";
	aqd_event(d, AQD_EVENT_rejected, &facts, "process %d: %s", (int)facts.pid, text);
	aqd_conn_reply(d, conn, &reply, -1);
	aqd_conn_close(d, conn);
}

void aqd_request_foreign_abi(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg)
{
	char text[AQ_TEXT_BYTES];

	if (conn->state != AQD_CONN_HELLO || msg->head.type != AQ_MSG_HELLO) {
		aqd_conn_babbled(d, conn, "a packet of another ABI in the middle");
		return;
	}
	snprintf(text, sizeof(text), "the guard speaks ABI %u, the daemon (%s) ABI %u",
		 msg->head.abi, AQ_VERSION, AQ_ABI_VERSION);
	hello_failed(d, conn, msg->head.seq, -EPROTO, NULL, text);
}

static void hello_done(struct aqd *d, struct aqd_conn *conn, uint32_t seq, struct aqd_fraction *f,
		       int page_fd)
{
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_HELLO_REPLY, seq);
	reply.hello_reply.abi = AQ_ABI_VERSION;
	reply.hello_reply.device_count = f->ledger.share_count;
	reply.hello_reply.fail_open = d->config.fail_open;
	aq_copy_padded(reply.hello_reply.fraction, AQ_NAME_BYTES, f->name);
	aqd_conn_reply(d, conn, &reply, page_fd);
}

static void attach(struct aqd *d, struct aqd_conn *conn, uint32_t seq, struct aqd_fraction *f)
{
	struct aqd_event_facts facts = aqd_event_none;
	AQ_CLEANUP(close) int page_fd = -1;
	struct aqd_client *c;
	char text[AQ_TEXT_BYTES];
	int r = aqd_client_attach(d, f, conn->process, conn, &page_fd, &c);

	if (r < 0) {
		snprintf(text, sizeof(text), "cannot attach to fraction '%s': %s", f->name,
			 r == -EMFILE	? "too many clients"
			 : r == -EACCES ? "this process was cut off"
					: strerror(-r));
		hello_failed(d, conn, seq, r == -EMFILE || r == -EACCES ? r : -EINVAL, f->name,
			     text);
		return;
	}
	aqd_conn_is_client(d, conn, c);
	aqd_resolve_learn(d, f, conn->process->pid);
	facts.fraction = f;
	facts.pid = conn->process->pid;
	aqd_event(d, AQD_EVENT_attached, &facts, "process %d", (int)facts.pid);
	hello_done(d, conn, seq, f, page_fd);
}

static void adopt(struct aqd *d, struct aqd_conn *conn, uint32_t seq, struct aqd_fraction *f,
		  int page_fd)
{
	struct aqd_event_facts facts = aqd_event_none;
	struct aqd_client *c;
	const char *lie = "its page is of another version or damaged";
	int r = aqd_client_adopt(d, f, conn->process, conn, page_fd, &c, &lie);

	facts.fraction = f;
	facts.pid = conn->process->pid;
	if (r < 0) {
		char text[AQ_TEXT_BYTES];

		if (r == -EACCES)
			aqd_event(d, AQD_EVENT_lied, &facts, "process %d may not come back: %s",
				  (int)facts.pid, lie);
		snprintf(text, sizeof(text), "cannot come back to fraction '%s': %s", f->name,
			 r == -ENOMEM || r == -EMFILE ? strerror(-r) : lie);
		hello_failed(d, conn, seq,
			     r == -EPROTO || r == -EACCES || r == -EMFILE ? r : -EINVAL, f->name,
			     text);
		return;
	}
	aqd_conn_is_client(d, conn, c);
	aqd_resolve_learn(d, f, conn->process->pid);
	aqd_event(d, AQD_EVENT_adopted, &facts, "process %d", (int)facts.pid);
	hello_done(d, conn, seq, f, -1);
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &f->ledger.share[i];

		if (!s->over)
			continue;
		facts.device = &d->device[s->device];
		facts.used_bytes = s->held_bytes;
		facts.limit_bytes = s->limit_bytes;
		aqd_event(d, AQD_EVENT_over_limit, &facts,
			  "what its processes came back with is more than its limit");
	}
}

static void come_back(struct aqd *d, struct aqd_conn *conn, uint32_t seq, struct aqd_fraction *f)
{
	struct aqd_client *c;
	char text[AQ_TEXT_BYTES];
	int r = aqd_client_return(d, f, conn->process, conn, &c);

	if (r < 0) {
		snprintf(text, sizeof(text),
			 "cannot come back to fraction '%s': it has no page of ours and sends none",
			 f->name);
		hello_failed(d, conn, seq, r, f->name, text);
		return;
	}
	aqd_conn_is_client(d, conn, c);
	hello_done(d, conn, seq, f, -1);
}

static void hello(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_hello *m, int passed)
{
	uint32_t seq = m->head.seq;
	char text[AQ_TEXT_BYTES];
	struct aqd_fraction *f;

	if ((m->kind != AQ_HELLO_CLIENT && m->kind != AQ_HELLO_OBSERVER &&
	     m->kind != AQ_HELLO_BACK) ||
	    m->has_page != (passed >= 0) || (m->has_page && m->kind != AQ_HELLO_CLIENT) ||
	    (m->fraction[0] && !aq_name_valid(m->fraction))) {
		aqd_conn_babbled(d, conn, "a HELLO that makes no sense");
		return;
	}
	f = m->fraction[0] ? aqd_fraction_find(d, m->fraction) : aqd_resolve(d, conn->process->pid);
	if (!f) {
		if (m->fraction[0])
			snprintf(text, sizeof(text), "there is no fraction '%s'", m->fraction);
		else
			snprintf(text, sizeof(text),
				 "process %d belongs to no fraction; start it with `aliquot run`",
				 (int)conn->process->pid);
		hello_failed(d, conn, seq, -ENOENT, m->fraction, text);
		return;
	}
	if (conn->uid != f->owner && conn->uid != 0) {
		snprintf(text, sizeof(text), "fraction '%s' belongs to another user", f->name);
		hello_failed(d, conn, seq, -EACCES, f->name, text);
		return;
	}
	aqd_loop_used(d);
	if (m->kind == AQ_HELLO_OBSERVER) {
		aqd_conn_is_observer(conn, f);
		hello_done(d, conn, seq, f, -1);
	} else if (m->kind == AQ_HELLO_BACK) {
		come_back(d, conn, seq, f);
	} else if (m->has_page) {
		adopt(d, conn, seq, f, passed);
	} else if (f->killed) { /* or whoever starts programs again and again keeps it for ever */
		snprintf(text, sizeof(text), "fraction '%s' was killed, and is about to end",
			 f->name);
		hello_failed(d, conn, seq, -ENOENT, f->name, text);
	} else {
		attach(d, conn, seq, f);
	}
}

static void event_denied(struct aqd *d, struct aqd_client *c, uint32_t share, const char *api,
			 uint64_t asked_bytes, const struct aq_refusal *why)
{
	char asked[AQ_SIZE_TEXT], used[AQ_SIZE_TEXT], limit[AQ_SIZE_TEXT], left[AQ_SIZE_TEXT];
	struct aqd_event_facts facts = {
		.fraction = c->fraction,
		.pid = c->process->pid,
		.device = &d->device[c->fraction->ledger.share[share].device],
		.reason = aq_refusal_word(why->reason),
		.api = api,
		/* jansson's integers are signed */
		.asked_bytes = asked_bytes > INT64_MAX ? INT64_MAX : asked_bytes,
		.used_bytes = why->used_bytes,
		.limit_bytes = why->limit_bytes,
		.free_bytes = why->free_bytes,
	};

	c->fraction->denials++;
	aqd_event(d, AQD_EVENT_denied, &facts, "%s%s%s refused: %s used of %s, %s free%s",
		  api[0] ? api : "", api[0] ? ": " : "", aq_size_format(asked_bytes, asked),
		  aq_size_format(why->used_bytes, used), aq_size_format(why->limit_bytes, limit),
		  aq_size_format(why->free_bytes, left),
		  why->reason == AQ_REFUSED_DEVICE ? "; the device is full" : "");
}

/* A first context that takes longer than CONTEXT_WAIT_NS is not waited for any more. */
static bool waits_for_context(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg,
			      uint64_t now)
{
	if (msg->head.type != AQ_MSG_COST || !aqd_context_must_wait(d, conn->client, &msg->cost))
		return false;
	if (!conn->deadline_ns)
		conn->deadline_ns = now + CONTEXT_WAIT_NS;
	return now < conn->deadline_ns;
}

/*
 * Can nobody say yet whether the client may have what it asks for? Others of its fraction are to
 * come back, or what somebody holds is read at the end of this turn, or what it makes is of unknown
 * size and another makes the first.
 */
static bool cannot_tell(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg)
{
	uint64_t now = aq_now_ns();

	if (d->due_anew)
		return true;
	if (msg->head.type == AQ_MSG_QUERY || msg->head.type == AQ_MSG_PROCS)
		return false; /* as far as it is known */
	return aqd_fraction_is_settling(conn->client->fraction, now) ||
	       waits_for_context(d, conn, msg, now);
}

static bool must_wait(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg)
{
	if (!cannot_tell(d, conn, msg)) {
		conn->deadline_ns = 0;
		return false;
	}
	aqd_conn_hold(d, conn, AQD_WAIT_ADOPTION, msg);
	if (!evtimer_pending(d->adopt_timer, NULL))
		aqd_timer_set(d->adopt_timer, 50 * AQ_NS_PER_MS);
	return true;
}

/* What a client asks for, and what it has and is about to use. */
static uint64_t lacks(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes)
{
	uint64_t granted = c->ledger.hold[share].granted_bytes;
	uint64_t used = aqd_client_page_used(d, c, share);

	return bytes < AQ_LEDGER_MAX_BYTES ? bytes + (granted > used ? granted - used : 0) : bytes;
}

/* Is its fraction to come back first, or is it somebody else's turn? */
static bool must_make_room(struct aqd *d, struct aqd_conn *conn, uint32_t share, uint64_t bytes)
{
	struct aqd_fraction *f = conn->client->fraction;

	aqd_idle_busy(f);
	if (conn->refused_room)
		return false;
	if (!aqd_is_resident(f))
		aqd_residency_want(d, f, false);
	return !aqd_is_resident(f) || (!conn->in_turn && aqd_need_ahead(d, f, share, bytes));
}

static void grow(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg)
{
	const struct aq_msg_grow *m = &msg->grow;
	struct aqd_client *c = conn->client;
	struct aqd_fraction *f = c->fraction;
	struct aq_refusal why;
	uint64_t granted = 0, bytes;
	union aq_msg reply;
	bool lent;
	int r;

	aq_msg_init(&reply, AQ_MSG_GROW_REPLY, m->head.seq);
	reply.grow_reply.device = m->device;
	if (m->device >= f->ledger.share_count || !m->need_bytes) {
		reply.grow_reply.result = m->need_bytes ? -ENODEV : -EINVAL;
		aqd_conn_reply(d, conn, &reply, -1);
		return;
	}
	if (must_wait(d, conn, msg))
		return;
	bytes = lacks(d, c, m->device, m->need_bytes);
	c->moves = c->moves || m->movable;
	lent = !m->movable && aqd_need_lent(d, f, m->device, bytes, &why);
	if ((must_make_room(d, conn, m->device, bytes) || lent) &&
	    aqd_need_room(d, conn, m->device, bytes, !m->movable, msg))
		return;
	r = lent ? -ENOMEM
		 : aq_ledger_grow(&d->ledger, &c->ledger, m->device, m->need_bytes, &why, &granted);
	/* What only lingers is in nobody's way. */
	if (r < 0 && !lent && why.reason == AQ_REFUSED_DEVICE && aqd_fraction_end_unheld(d, NULL))
		r = aq_ledger_grow(&d->ledger, &c->ledger, m->device, m->need_bytes, &why,
				   &granted);
	if (r < 0 && aqd_need_room(d, conn, m->device, bytes, !m->movable, msg))
		return;
	if (r == 0) {
		aqd_client_add_grant(d, c, m->device, granted);
		c->fresh_ns[m->device] = conn->in_turn ? aq_now_ns() + FRESH_NS : 0;
	}
	if (f->ledger.share[m->device].held_bytes > f->ledger.share[m->device].request_bytes)
		aqd_idle_watch(d);
	if (r < 0)
		event_denied(d, c, m->device, m->api, m->call_bytes ? m->call_bytes : m->need_bytes,
			     &why);
	if (conn->state == AQD_CONN_CLOSED)
		return;
	reply.grow_reply.result = r < 0 ? -ENOMEM : 0;
	reply.grow_reply.granted_bytes = granted;
	reply.grow_reply.limit_bytes = f->ledger.share[m->device].limit_bytes;
	reply.grow_reply.used_bytes = aq_ledger_used(&d->ledger, &f->ledger, m->device);
	reply.grow_reply.free_bytes = aqd_need_free(d, f, m->device);
	aqd_conn_reply(d, conn, &reply, -1);
}

static void reply_cost(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_cost *m,
		       int result)
{
	struct aqd_client *c = conn->client;
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_COST_REPLY, m->head.seq);
	reply.cost_reply.result = result;
	reply.cost_reply.device = m->device;
	if (m->device < c->fraction->ledger.share_count) {
		reply.cost_reply.overhead_bytes = c->ledger.hold[m->device].overhead_bytes;
		reply.cost_reply.free_bytes =
			aqd_need_free(d, c->fraction, m->device);
	}
	aqd_conn_reply(d, conn, &reply, -1);
}

static void cost(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg)
{
	const struct aq_msg_cost *m = &msg->cost;
	struct aqd_client *c = conn->client;
	struct aq_refusal why;

	if (m->device >= c->fraction->ledger.share_count) {
		reply_cost(d, conn, m, -ENODEV);
	} else if (m->phase == AQ_COST_BEGIN) {
		uint64_t bytes;
		bool lent;
		int r;

		if (must_wait(d, conn, msg))
			return;
		bytes = aqd_context_expected(d, c, m);
		lent = aqd_need_lent(d, c->fraction, m->device, bytes, &why);
		if ((must_make_room(d, conn, m->device, bytes) || lent) &&
		    aqd_need_room(d, conn, m->device, bytes, true, msg))
			return;
		r = lent ? -ENOMEM
			 : aq_ledger_reserve(&d->ledger, &c->ledger, m->device, bytes, &why);
		if (r < 0 && aqd_need_room(d, conn, m->device, bytes, true, msg))
			return;
		if (r < 0)
			event_denied(d, c, m->device, m->api, bytes, &why);
		else
			aqd_context_begun(d, c, m, bytes);
		reply_cost(d, conn, m, r < 0 ? -ENOMEM : 0);
	} else if (m->phase == AQ_COST_END || m->phase == AQ_COST_UNDO) {
		aqd_measure_due(d, c, m->device, false);
		aqd_conn_hold(d, conn, AQD_WAIT_MEASURE, msg);
	} else {
		aqd_conn_babbled(d, conn, "a COST of no known phase");
	}
}

/* The measurement for this one is done: count it instead of the reservation, and answer. */
static void finish_cost(struct aqd *d, struct aqd_conn *conn)
{
	const struct aq_msg_cost *m = &conn->held.cost;
	struct aqd_client *c = conn->client;
	const struct aq_ledger_share *s = &c->fraction->ledger.share[m->device];
	int result = 0;

	aq_ledger_unreserve(&d->ledger, &c->ledger, m->device, aqd_context_reserved(c, m));
	aqd_measure_apply_cost(d, c, m->device, m);
	if (m->phase == AQ_COST_END && s->over) {
		struct aq_refusal why = {
			.reason = AQ_REFUSED_LIMIT,
			.limit_bytes = s->limit_bytes,
			.used_bytes = aq_ledger_used(&d->ledger, &c->fraction->ledger, m->device),
		};

		event_denied(d, c, m->device, m->api, c->ledger.hold[m->device].overhead_bytes,
			     &why);
		result = -ENOMEM;
	}
	reply_cost(d, conn, m, result);
}

void aqd_request_finish_measuring(struct aqd *d)
{
	struct aqd_conn *conn, *next;
	bool costs = !aq_list_empty(&d->measuring);

	if (aq_list_empty(&d->due))
		return;
	aqd_measure_take_due(d);
	AQ_LIST_FOREACH (conn, next, &d->measuring, pending) {
		finish_cost(d, conn);
		aqd_conn_resume(d, conn);
	}
	if (costs) {
		aqd_compute_look(d); /* a context, perhaps */
		aqd_loop_tick_soon(d);
	}
	aqd_request_retry_adopting(d);
}

void aqd_request_retry(struct aqd *d, struct aqd_conn *conn)
{
	union aq_msg msg;

	memcpy(&msg, &conn->held, conn->held.head.size);
	aqd_conn_resume(d, conn);
	aqd_request(d, conn, &msg, -1);
}

void aqd_request_again(struct aqd *d, struct aqd_conn *conn)
{
	union aq_msg reply;

	aqd_conn_resume(d, conn);
	if (conn->held.head.type == AQ_MSG_COST) {
		reply_cost(d, conn, &conn->held.cost, -EAGAIN);
		return;
	}
	aq_msg_init(&reply, AQ_MSG_GROW_REPLY, conn->held.head.seq);
	reply.grow_reply.device = conn->held.grow.device;
	aqd_conn_reply(d, conn, &reply, -1);
}

/* The fraction that a client or observer belongs to. */
static struct aqd_fraction *fraction_of(const struct aqd_conn *conn)
{
	return conn->client ? conn->client->fraction : conn->fraction;
}

/* Index of the share that a QUERY or PROCS means, or -ENODEV. */
static int find_share(struct aqd *d, const struct aqd_fraction *f, const struct aq_msg_query *m)
{
	if (m->device != UINT32_MAX)
		return m->device < f->ledger.share_count ? (int)m->device : -ENODEV;
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		if (!memcmp(d->device[f->ledger.share[i].device].info.uuid, m->uuid,
			    sizeof(m->uuid)))
			return (int)i;
	return -ENODEV;
}

static void query(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_query *m)
{
	struct aqd_fraction *f = fraction_of(conn);
	int share = find_share(d, f, m);
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_QUERY_REPLY, m->head.seq);
	reply.query_reply.result = share < 0 ? share : 0;
	if (share >= 0) {
		const struct aq_ledger_share *s = &f->ledger.share[share];

		reply.query_reply.device = (uint32_t)share;
		reply.query_reply.limit_bytes = s->limit_bytes;
		reply.query_reply.request_bytes = s->request_bytes;
		reply.query_reply.used_bytes =
			aq_ledger_used(&d->ledger, &f->ledger, (uint32_t)share);
		reply.query_reply.free_bytes =
			aqd_need_free(d, f, (uint32_t)share);
		reply.query_reply.client_count = f->ledger.client_count;
		memcpy(reply.query_reply.uuid, d->device[s->device].info.uuid,
		       sizeof(reply.query_reply.uuid));
	}
	aqd_conn_reply(d, conn, &reply, -1);
}

static void procs(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_query *m)
{
	struct aqd_fraction *f = fraction_of(conn);
	int share = find_share(d, f, m);
	struct aq_ledger_client *l, *next;
	union aq_msg reply;
	uint32_t n = 0;

	aq_msg_init(&reply, AQ_MSG_PROCS_REPLY, m->head.seq);
	reply.procs_reply.result = share < 0 ? share : 0;
	if (share >= 0) {
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			uint64_t used = aq_ledger_client_used(&d->ledger, l, (uint32_t)share);

			if (n == AQ_MAX_PROCS)
				break;
			if (!used)
				continue; /* no context there */
			reply.procs_reply.proc[n].pid = aqd_client_of(l)->process->pid;
			reply.procs_reply.proc[n++].used_bytes = used;
		}
	}
	reply.procs_reply.count = n;
	reply.head.size += n * (uint32_t)sizeof(struct aq_msg_proc);
	aqd_conn_reply(d, conn, &reply, -1);
}

/* May this message come now, and what came along with it? */
static bool in_place(const struct aqd_conn *conn, unsigned int type, int passed)
{
	if (passed >= 0 && type != AQ_MSG_HELLO && type != AQ_MSG_LEND)
		return false;
	if (conn->wait == AQD_WAIT_ROOM) /* these are sent without waiting for anybody's reply */
		return type == AQ_MSG_BELL || type == AQ_MSG_WITHDRAW;
	switch (conn->state) {
	case AQD_CONN_HELLO:
		return type == AQ_MSG_HELLO;
	case AQD_CONN_OBSERVER:
		return type == AQ_MSG_QUERY || type == AQ_MSG_PROCS || type == AQ_MSG_SHRINK;
	default:
		return type != AQ_MSG_HELLO && type != AQ_MSG_SHRINK;
	}
}

void aqd_request(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg, int passed)
{
	unsigned int type = msg->head.type;

	if (!in_place(conn, type, passed)) {
		char what[AQ_TEXT_BYTES];

		snprintf(what, sizeof(what), "%s out of place", aq_msg_name(type));
		aqd_conn_babbled(d, conn, what);
		return;
	}
	switch (type) {
	case AQ_MSG_HELLO:
		hello(d, conn, &msg->hello, passed);
		break;
	case AQ_MSG_GROW:
		grow(d, conn, msg);
		break;
	case AQ_MSG_COST:
		cost(d, conn, msg);
		break;
	case AQ_MSG_QUERY:
		if (!must_wait(d, conn, msg))
			query(d, conn, &msg->query);
		break;
	case AQ_MSG_PROCS:
		if (!must_wait(d, conn, msg))
			procs(d, conn, &msg->query);
		break;
	case AQ_MSG_SHRINK:
		aqd_shrink_listen(d, conn, msg);
		break;
	case AQ_MSG_BELL:
		if (aqd_gate_bell(d, conn->client, msg->bell.devices) < 0)
			aqd_conn_babbled(d, conn, "a BELL for devices that it has not");
		break;
	case AQ_MSG_EXPORT:
		aqd_share_export(d, conn, &msg->export);
		break;
	case AQ_MSG_WITHDRAW:
		aqd_share_withdraw(d, conn->client, &msg->export);
		break;
	case AQ_MSG_IMPORT:
		aqd_share_import(d, conn, &msg->import);
		break;
	case AQ_MSG_CLOSE:
		aqd_share_close(d, conn, &msg->import);
		break;
	case AQ_MSG_ASK:
		aqd_share_ask(d, conn, msg->head.seq);
		break;
	case AQ_MSG_LEND:
		aqd_share_lend(d, conn, &msg->piece, passed);
		break;
	default: /* replies are ours to send */
		aqd_conn_babbled(d, conn, "a message that only the daemon sends");
	}
}

void aqd_request_retry_adopting(struct aqd *d)
{
	struct aq_list all;

	/* Who still has to wait is put back. */
	aq_list_init(&all);
	while (!aq_list_empty(&d->adopting)) {
		struct aq_list *first = d->adopting.next;

		aq_list_remove(first);
		aq_list_append(&all, first);
	}
	while (!aq_list_empty(&all)) {
		struct aqd_conn *conn = aq_container_of(all.next, struct aqd_conn, pending);
		union aq_msg msg;

		memcpy(&msg, &conn->held, conn->held.head.size);
		aqd_conn_resume(d, conn);
		aqd_request(d, conn, &msg, -1);
	}
}
