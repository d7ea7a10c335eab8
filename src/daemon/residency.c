/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states that a fraction's memory goes through, and what each step needs and leaves. The words
 * of the page are in residency_order.c; who has to make room for whom is not decided here.
 */
#include "daemon/residency.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "daemon/api.h"
#include "daemon/client.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/gate.h"
#include "daemon/idle.h"
#include "daemon/loop.h"
#include "daemon/need.h"
#include "daemon/queue.h"
#include "daemon/residency_order.h"
#include "daemon/shrink.h"
#include "daemon/state.h"
#include "base/banned.h"

#define POLL_NS (20 * AQ_NS_PER_MS)    /* bells may get lost, deadlines may pass */
#define LISTEN_NS (500 * AQ_NS_PER_MS) /* how late a listener may learn that there is nothing */
#define RETRY_NS AQ_NS_PER_S	       /* after a resume that the client could not carry out */

/*
 * Beside the configured time, in which work in flight drains, an order may take as long as its
 * bytes do at a hundredth of a PCIe 3.0 x16 link (12 GB/s): guess, for a machine that is busy
 * otherwise.
 */
#define SLOWEST_BYTES_PER_MS 120000ull

const char *aqd_residency_word(enum aqd_residency_state state)
{
	static const char *const words[] = {
		[AQD_RESIDENT] = "resident",
		[AQD_PARKING] = "parking",
		[AQD_PARKED] = "parked",
		[AQD_RESUMING] = "resuming",
	};

	return words[state];
}

const char *aqd_park_reason_word(enum aqd_park_reason reason)
{
	static const char *const words[] = {
		[AQD_PARK_BY_HAND] = "hand",
		[AQD_PARK_IDLE] = "idle",
		[AQD_PARK_NEED] = "need",
	};

	return words[reason];
}

uint64_t aqd_parked_client(const struct aqd_client *c)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
		sum += c->move[i].away_bytes;
	return sum;
}

uint64_t aqd_parked_share(const struct aqd_fraction *f, uint32_t share)
{
	struct aq_ledger_client *l, *next;
	uint64_t sum = 0;

	AQ_LIST_FOREACH (l, next, &f->ledger.clients, link)
		if (!aqd_client_of(l)->lied) /* who knows where that is */
			sum += aqd_client_of(l)->move[share].away_bytes;
	return sum;
}

uint64_t aqd_parked(const struct aqd_fraction *f)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		sum += aqd_parked_share(f, i);
	return sum;
}

static void poll_soon(struct aqd *d)
{
	if (evtimer_pending(d->residency_timer, NULL) && !d->residency_slow)
		return;
	d->residency_slow = false;
	aqd_timer_set(d->residency_timer, POLL_NS);
}

/* Nobody moves; some only listen. */
static void poll_later(struct aqd *d)
{
	if (evtimer_pending(d->residency_timer, NULL))
		return;
	d->residency_slow = true;
	aqd_timer_set(d->residency_timer, LISTEN_NS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;

	d->residency_dirty = true; /* the turn's end looks, and sets the timer again */
}

int aqd_residency_init(struct aqd *d)
{
	d->residency_timer = evtimer_new(d->base, on_timer, d);
	return d->residency_timer ? 0 : -ENOMEM;
}

void aqd_residency_finish(struct aqd *d)
{
	if (d->residency_timer)
		event_free(d->residency_timer);
	d->residency_timer = NULL;
}

void aqd_residency_await(struct aqd_fraction *f, struct aqd_residency_wait *w)
{
	aq_list_append(&f->residency.waits, &w->link);
}

/* Nobody gets a lease for memory that is not there; and its want counts again when it is. */
static void set_state(struct aqd *d, struct aqd_fraction *f, enum aqd_residency_state state)
{
	f->residency.state = state;
	f->lease.away = state != AQD_RESIDENT;
	f->lease.touched = true;
	d->leases_dirty = true;
}

/* Tell those who wait for parked (or resident) how it came out. */
static void tell(struct aqd_fraction *f, bool parked, int error)
{
	struct aqd_residency_wait *w, *next;

	AQ_LIST_FOREACH (w, next, &f->residency.waits, link) {
		if (w->parked != parked && error != -ESRCH && error != -ECANCELED)
			continue;
		aq_list_remove(&w->link);
		w->done(w, error);
	}
}

static struct aqd_event_facts facts_of(struct aqd *d, const struct aqd_fraction *f)
{
	struct aqd_event_facts facts = aqd_event_none;

	facts.fraction = f;
	facts.device = &d->device[f->ledger.share[0].device];
	return facts;
}

static void begin(struct aqd *d, struct aqd_fraction *f, enum aqd_residency_state state,
		  uint64_t bytes)
{
	struct aqd_residency *r = &f->residency;

	set_state(d, f, state);
	r->moved_bytes = bytes;
	r->began_ns = aq_now_ns();
	r->deadline_ns = r->began_ns + d->config.move_timeout_ns +
			 bytes / SLOWEST_BYTES_PER_MS * AQ_NS_PER_MS;
	aqd_loop_used(d);
	poll_soon(d);
}

/* What of the fraction could move; all its clients must be known for that. */
static int count_movable(struct aqd *d, struct aqd_fraction *f, struct aqd_residency_refusal *why)
{
	struct aq_ledger_client *l, *next;

	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		why->used_bytes += aq_ledger_used(&d->ledger, &f->ledger, i);
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			if (aqd_client_is_lost(aqd_client_of(l)))
				return -EAGAIN;
			why->movable_bytes += aqd_order_movable(d, aqd_client_of(l), i);
		}
	}
	return why->movable_bytes ? 0 : -ENODATA;
}

int aqd_residency_park(struct aqd *d, struct aqd_fraction *f, enum aqd_park_reason reason,
		       bool hold, struct aqd_residency_refusal *why)
{
	struct aqd_event_facts facts = facts_of(d, f);
	struct aqd_residency *r = &f->residency;
	struct aq_ledger_client *l, *next;
	char text[AQ_SIZE_TEXT];
	int e;

	*why = (struct aqd_residency_refusal){0};
	if (r->state == AQD_RESUMING)
		return -EBUSY;
	if (r->state != AQD_RESIDENT) {
		r->hold = r->hold || hold;
		r->wanted = r->wanted && !hold;
		return -EALREADY;
	}
	e = count_movable(d, f, why);
	if (e == 0 && !aqd_host_room(d, f, why->movable_bytes, &why->host_free_bytes))
		e = -ENOSPC;
	if (e == 0 || e == -ENOSPC)
		aqd_host_claim(d, f, why->movable_bytes);
	if (e < 0) {
		why->reason = e == -ENODATA ? "immovable" : e == -ENOSPC ? "host_full" : "settling";
		return e;
	}
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			struct aqd_client *c = aqd_client_of(l);
			uint64_t bytes = aqd_order_movable(d, c, i);

			c->move[i].result = 0;
			if (bytes)
				aqd_order_park(d, c, i, bytes);
		}
	r->reason = reason;
	r->hold = hold;
	r->wanted = false;
	begin(d, f, AQD_PARKING, why->movable_bytes);
	facts.reason = aqd_park_reason_word(reason);
	facts.used_bytes = why->used_bytes;
	facts.asked_bytes = why->movable_bytes;
	aqd_event(d, AQD_EVENT_parking, &facts, "%s to host memory",
		  aq_size_format(why->movable_bytes, text));
	return 0;
}

/* Grant every client what it has away, all or nothing. */
static int grant_all(struct aqd *d, struct aqd_fraction *f, struct aq_refusal *why)
{
	struct aq_ledger_client *l, *next;
	uint64_t given = 0;
	int e;

	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		e = aq_ledger_lend(&d->ledger, &f->ledger, i, false);
		if (e < 0)
			return e;
	}
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		uint64_t away = aqd_parked_share(f, i);

		if (away > aq_ledger_free(&d->ledger, &f->ledger, i))
			return -ENOSPC;
	}
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			struct aqd_client *c = aqd_client_of(l);

			if (!c->move[i].away_bytes || c->lied)
				continue;
			e = aq_ledger_grow(&d->ledger, l, i, c->move[i].away_bytes, why, &given);
			if (e < 0)
				return -ENOSPC; /* what was given so far is unused, and taken back
						 */
			aqd_client_add_grant(d, c, i, given);
			c->move[i].pending = true; /* from now on nothing is taken from it */
		}
	return 0;
}

static void take_back_unused(struct aqd *d, struct aqd_fraction *f)
{
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		aq_ledger_take_back(&d->ledger, &f->ledger, i, AQ_LEDGER_MAX_BYTES);
	d->queue_dirty = true;
}

int aqd_residency_resume(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_event_facts facts = facts_of(d, f);
	struct aq_ledger_client *l, *next;
	uint64_t bytes = aqd_parked(f);
	char text[AQ_SIZE_TEXT];
	struct aq_refusal why;
	int e = grant_all(d, f, &why);

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			struct aqd_client *c = aqd_client_of(l);

			if (!c->move[i].away_bytes || c->lied)
				continue;
			c->move[i].pending = false;
			if (e == 0)
				aqd_order_stay(d, c, i);
		}
	if (e < 0) {
		take_back_unused(d, f);
		return e;
	}
	aqd_need_drop(&f->residency.need);
	begin(d, f, AQD_RESUMING, bytes);
	facts.asked_bytes = bytes;
	aqd_event(d, AQD_EVENT_resuming, &facts, "%s back to the device",
		  aq_size_format(bytes, text));
	return 0;
}

void aqd_residency_want(struct aqd *d, struct aqd_fraction *f, bool by_hand)
{
	struct aqd_residency *r = &f->residency;

	if (r->state == AQD_RESIDENT || r->state == AQD_RESUMING || (r->hold && !by_hand))
		return;
	r->hold = false;
	r->wanted = true;
	aqd_idle_busy(f);
	d->residency_dirty = true;
}

/* The move is over: count it, and learn how long such a move takes. */
static uint64_t count_move(struct aqd_fraction *f, bool in)
{
	struct aqd_residency *r = &f->residency;
	uint64_t took = aq_now_ns() - r->began_ns;

	r->moves[in]++;
	r->moves_bytes[in] += r->moved_bytes;
	r->moves_ns[in] += took;
	f->daemon->moved_bytes += r->moved_bytes;
	f->daemon->moved_ns += took;
	aqd_idle_busy(f);
	aqd_idle_watch(f->daemon);
	r->since_ns = aq_now_ns();
	r->deadline_ns = 0;
	*(in ? &r->resume_ns : &r->park_ns) = took;
	return took;
}

static void parked(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_event_facts facts = facts_of(d, f);
	struct aqd_residency *r = &f->residency;
	char text[AQ_SIZE_TEXT];
	uint64_t ms;

	r->moved_bytes = aqd_parked(f);
	set_state(d, f, AQD_PARKED);
	ms = count_move(f, false) / AQ_NS_PER_MS;
	take_back_unused(d, f);
	facts.reason = aqd_park_reason_word(r->reason);
	facts.asked_bytes = r->moved_bytes;
	facts.used_bytes = 0;
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		facts.used_bytes += aq_ledger_used(&d->ledger, &f->ledger, i);
	aqd_event(d, AQD_EVENT_parked, &facts, "%s in host memory, after %llu ms",
		  aq_size_format(r->moved_bytes, text), (unsigned long long)ms);
	aqd_state_changed(d, f, false); /* a hold must outlive us before anybody is told of it */
	tell(f, true, 0);
	if (r->hold)
		tell(f, false, -EIO);
}

static void resident(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_event_facts facts = facts_of(d, f);
	struct aqd_residency *r = &f->residency;
	char text[AQ_SIZE_TEXT];

	set_state(d, f, AQD_RESIDENT);
	r->wanted = r->hold = false;
	facts.asked_bytes = r->moved_bytes;
	aqd_event(d, AQD_EVENT_resumed, &facts, "%s on the device again, after %llu ms",
		  aq_size_format(r->moved_bytes, text),
		  (unsigned long long)(count_move(f, true) / AQ_NS_PER_MS));
	aqd_state_changed(d, f, true);
	tell(f, false, 0);
	tell(f, true, -EIO);
}

static void each_away(struct aqd *d, struct aqd_fraction *f,
		      void (*what)(struct aqd *d, struct aqd_client *c, uint32_t share))
{
	struct aq_ledger_client *l, *next;

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			const struct aqd_move *m = &aqd_client_of(l)->move[i];

			if (m->pending || m->away_bytes)
				what(d, aqd_client_of(l), i);
		}
}

/* Parking went wrong: whoever has left comes back, or stays. The grants are all still there. */
static void undo(struct aqd *d, struct aqd_fraction *f, const char *reason, const char *text)
{
	struct aqd_event_facts facts = facts_of(d, f);

	facts.reason = reason;
	aqd_event(d, AQD_EVENT_park_failed, &facts, "%s", text);
	tell(f, true, !strcmp(reason, "late") ? -ETIMEDOUT : -EIO);
	each_away(d, f, aqd_order_stay);
	begin(d, f, AQD_RESUMING, aqd_parked(f));
}

static void late(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_event_facts facts = facts_of(d, f);

	if (f->residency.state == AQD_PARKING) {
		undo(d, f, "late", "it did not answer in time: it is told to stay");
		return;
	}
	/* What it has not answered stays charged, and its gate closed: it may yet be half way. */
	f->residency.deadline_ns = 0;
	facts.reason = "late";
	aqd_event(d, AQD_EVENT_resume_failed, &facts,
		  "it has not come back in time; what it was granted stays its own");
	tell(f, false, -ETIMEDOUT);
}

struct outcome {
	uint32_t pending, failed;
	int error; /* of one that failed */
};

static struct outcome look_at(struct aqd *d, struct aqd_fraction *f)
{
	struct aq_ledger_client *l, *next;
	struct outcome o = {0};

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		AQ_LIST_FOREACH (l, next, &f->ledger.clients, link) {
			struct aqd_client *c = aqd_client_of(l);

			if (!aqd_order_look(d, c, i)) {
				o.pending++;
			} else if (c->move[i].result < 0 && !c->lied) {
				o.failed++;
				o.error = c->move[i].result;
			}
		}
	return o;
}

static void go_on_parking(struct aqd *d, struct aqd_fraction *f, const struct outcome *o)
{
	char text[96];

	if (o->failed) {
		snprintf(text, sizeof(text), "a process could not: %s; everything stays",
			 strerror(-o->error));
		undo(d, f, "failed", text);
	} else if (aqd_parked(f)) {
		parked(d, f);
	} else { /* what there was is gone, by itself or with its process */
		undo(d, f, "nothing", "there is nothing left to move");
	}
}

static void go_on_resuming(struct aqd *d, struct aqd_fraction *f, const struct outcome *o)
{
	struct aqd_event_facts facts = facts_of(d, f);
	struct aqd_residency *r = &f->residency;

	if (!aqd_parked(f)) {
		resident(d, f);
		return;
	}
	set_state(d, f, AQD_PARKED);
	r->deadline_ns = 0;
	r->retry_ns = aq_now_ns() + RETRY_NS;
	take_back_unused(d, f);
	facts.reason = "failed";
	facts.asked_bytes = aqd_parked(f);
	aqd_event(d, AQD_EVENT_resume_failed, &facts, "a process could not: %s; it stays parked",
		  o->error ? strerror(-o->error) : "it was cut off");
	tell(f, false, -EIO);
}

/* All that can go on now, for one fraction. Return: look again soon. */
static bool step(struct aqd *d, struct aqd_fraction *f)
{
	struct aqd_residency *r = &f->residency;
	struct outcome o;

	if (r->state == AQD_PARKING || r->state == AQD_RESUMING) {
		o = look_at(d, f);
		if (o.pending && r->deadline_ns && aq_now_ns() >= r->deadline_ns)
			late(d, f);
		else if (!o.pending && r->state == AQD_PARKING)
			go_on_parking(d, f, &o);
		else if (!o.pending)
			go_on_resuming(d, f, &o);
	}
	if (r->state == AQD_PARKED && !aqd_parked(f)) /* its processes are gone */
		resident(d, f);
	if (r->state == AQD_PARKED && r->wanted && aq_now_ns() >= r->retry_ns)
		aqd_need_resume(d, f);
	else if (!r->wanted)
		aqd_need_drop(&r->need);
	return r->state == AQD_PARKING || r->state == AQD_RESUMING ||
	       (r->state == AQD_PARKED && r->wanted);
}

void aqd_residency_turn(struct aqd *d)
{
	struct aqd_fraction *f, *next;
	bool again = false;

	if (!d->residency_dirty && !d->queue_dirty)
		return;
	d->residency_dirty = false;
	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		again = step(d, f) || again;
	if (d->queue_again || d->queue_dirty) { /* requests before bursts */
		d->queue_again = d->queue_dirty = false;
		aqd_queue_try(d);
	}
	again = aqd_api_resizes_turn(d) || again; /* the same */
	again = aqd_needs_serve(d) || d->queue_again || again;
	if (again)
		poll_soon(d);
	if (aqd_shrink_turn(d))
		poll_later(d);
}

void aqd_residency_bell(struct aqd *d, struct aqd_client *c)
{
	struct aqd_residency *r = &c->fraction->residency;

	if (r->state == AQD_RESIDENT) {
		aqd_idle_bell(d, c);
		return;
	}
	d->residency_dirty = true;
	if (r->wanted || r->hold)
		return;
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++)
		if (aqd_order_wants(c, i))
			aqd_residency_want(d, c->fraction, false);
}

void aqd_residency_adopt(struct aqd *d, struct aqd_client *c)
{
	struct aqd_residency *r = &c->fraction->residency;
	bool parking = false, coming = false, away = false;

	aqd_order_adopt(d, c);
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++) {
		const struct aqd_move *m = &c->move[i];

		parking = parking || (m->pending && m->park);
		coming = coming || (m->pending && !m->park);
		away = away || m->away_bytes;
	}
	if (!parking && !coming && !away)
		return;
	/* Its other clients may not be back yet: the furthest from rest decides. */
	if (parking || (coming && r->state != AQD_PARKING))
		begin(d, c->fraction, parking ? AQD_PARKING : AQD_RESUMING,
		      aqd_parked(c->fraction));
	else if (r->state == AQD_RESIDENT)
		set_state(d, c->fraction, AQD_PARKED);
	d->residency_dirty = true;
	aqd_residency_bell(d, c);
}

void aqd_residency_client_gone(struct aqd *d, struct aqd_client *c)
{
	aqd_order_forget(d, c);
	if (c->fraction->residency.state != AQD_RESIDENT)
		d->residency_dirty = true;
}

void aqd_residency_fraction_gone(struct aqd *d, struct aqd_fraction *f)
{
	tell(f, false, -ESRCH);
	aqd_need_drop(&f->residency.need);
	aqd_api_resizes_end(d, f);
}

void aqd_residency_cancel(struct aqd *d)
{
	struct aqd_fraction *f, *next;

	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		tell(f, false, -ECANCELED);
	aqd_api_resizes_end(d, NULL);
}
