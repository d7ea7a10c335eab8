/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a fraction. Who may ask for what is decided by the API; what fits, by core. */
#include "daemon/fraction.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/size.h"
#include "daemon/api.h"
#include "daemon/client.h"
#include "daemon/compute.h"
#include "daemon/event.h"
#include "daemon/guard.h"
#include "daemon/loop.h"
#include "daemon/need.h"
#include "daemon/process.h"
#include "daemon/queue.h"
#include "daemon/state.h"
#include "daemon/residency.h"
#include "base/banned.h"

/* Above what can be there: fractions, and who waits for one on a connection of the API. */
#define MAX_NUMBERED 16384u

#define KILL_NS (5 * AQ_NS_PER_S)
#define SETTLE_MIN_NS (300 * AQ_NS_PER_MS) /* three steps of a guard's first reconnections */

struct aqd_fraction *aqd_fraction_find(struct aqd *d, const char *name)
{
	struct aqd_fraction *f, *tmp;

	AQ_LIST_FOREACH (f, tmp, &d->fractions, link)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

bool aqd_fraction_name_taken(struct aqd *d, const char *name)
{
	return aqd_fraction_find(d, name) || aqd_queue_has_name(d, name);
}

/* The number of @name if it is STEM (1) or STEM-2, STEM-3 ... as we write them; else 0. */
static uint32_t name_number(const char *name, const char *stem, size_t length)
{
	uint64_t number;

	if (strncmp(name, stem, length))
		return 0;
	name += length;
	if (!name[0])
		return 1;
	if (name[0] != '-' || name[1] < '1' || name[1] > '9' ||
	    aq_uint_parse(name + 1, 2, MAX_NUMBERED - 1, &number) < 0)
		return 0;
	return (uint32_t)number;
}

/* @stem with the lowest number that is free. One look at each name, however many there are. */
static void number_name(struct aqd *d, const char *stem, char *ret)
{
	bool taken[MAX_NUMBERED] = {false};
	size_t length = strlen(stem);
	struct aqd_fraction *f, *next_fraction;
	struct aqd_wait *w, *next_wait;
	uint32_t n = 1;

	AQ_LIST_FOREACH (f, next_fraction, &d->fractions, link)
		taken[name_number(f->name, stem, length)] = true;
	AQ_LIST_FOREACH (w, next_wait, &d->waits, link)
		taken[name_number(w->ask.name, stem, length)] = true;
	while (n < MAX_NUMBERED - 1 && taken[n])
		n++;
	if (n == 1)
		snprintf(ret, AQ_NAME_BYTES, "%s", stem);
	else /* were the last one taken, the name would be refused */
		snprintf(ret, AQ_NAME_BYTES, "%s-%u", stem, n);
}

void aqd_fraction_make_name(struct aqd *d, const char *command, char *ret)
{
	char stem[AQ_NAME_BYTES - 8]; /* room for "-" and a number */
	size_t length = strcspn(command, " \t\n");
	const char *word = command;
	size_t n = 0;

	for (size_t i = 0; i < length; i++)
		if (command[i] == '/')
			word = command + i + 1;
	for (; word < command + length && n < sizeof(stem) - 1; word++) {
		unsigned char c = (unsigned char)*word;

		if (c < 0x80 && (isalnum(c) || (n && strchr("._-", c))))
			stem[n++] = (char)c;
		else if (n)
			stem[n++] = '-';
	}
	if (!n)
		n = (size_t)snprintf(stem, sizeof(stem), "fraction");
	stem[n] = '\0';
	number_name(d, stem, ret);
}

bool aqd_fraction_is_settling(const struct aqd_fraction *f, uint64_t now_ns)
{
	struct aq_ledger_client *l, *tmp;

	if (now_ns >= f->settle_ns)
		return false;
	if (now_ns < f->daemon->started_ns + SETTLE_MIN_NS)
		return true;
	AQ_LIST_FOREACH (l, tmp, &f->ledger.clients, link)
		if (aqd_client_is_lost(aqd_client_of(l)))
			return true;
	return false;
}

static bool is_held(const struct aqd_fraction *f)
{
	return f->holder || f->ledger.client_count;
}

void aqd_fraction_check(struct aqd_fraction *f)
{
	struct aqd *d = f->daemon;
	uint64_t now = aq_now_ns(), wait = f->killed ? 0 : d->config.linger_ns;

	if (f->ended)
		return;
	if (is_held(f)) {
		evtimer_del(f->linger);
		return;
	}
	/* Those of an earlier daemon's fraction need their time to come back. */
	if (now < f->settle_ns && wait < f->settle_ns - now)
		wait = f->settle_ns - now;
	if (f->killed || !evtimer_pending(f->linger, NULL))
		aqd_timer_set(f->linger, wait);
	d->queue_dirty = true; /* who waits gets its room now */
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
	struct aqd_fraction *f = arg;

	if (!f->ended && !is_held(f))
		aqd_fraction_end(f->daemon, f, f->killed ? "killed" : "nobody holds it any more");
}

static uint32_t signal_all(struct aqd_fraction *f, int sig)
{
	struct aq_ledger_client *l, *tmp;
	uint32_t reached = 0;

	AQ_LIST_FOREACH (l, tmp, &f->ledger.clients, link) {
		struct aqd_process *p = aqd_client_of(l)->process;

		if (p != f->holder && aqd_process_signal(p, sig) == 0)
			reached++;
	}
	if (f->holder && aqd_process_signal(f->holder, sig) == 0)
		reached++;
	return reached;
}

static void on_killing(evutil_socket_t fd, short what, void *arg)
{
	struct aqd_fraction *f = arg;

	if (!f->ended)
		signal_all(f, SIGKILL);
}

uint32_t aqd_fraction_kill(struct aqd *d, struct aqd_fraction *f, int sig)
{
	struct aqd_event_facts facts = aqd_event_none;
	uint32_t reached = signal_all(f, sig);

	f->killed = true;
	aqd_timer_set(f->killing, KILL_NS);
	facts.fraction = f;
	aqd_event(d, AQD_EVENT_killed, &facts, "signal %d sent to %u processes", sig, reached);
	aqd_fraction_check(f);
	return reached;
}

void aqd_fraction_set_holder(struct aqd_fraction *f, struct aqd_process *p)
{
	f->holder = p;
	p->refs++;
	aq_list_append(&p->holdings, &f->of_holder);
	aqd_state_changed(f->daemon, f, true);
}

void aqd_fraction_holder_gone(struct aqd_fraction *f)
{
	if (!f->holder)
		return;
	aq_list_remove(&f->of_holder);
	aqd_process_put(f->daemon, f->holder);
	f->holder = NULL;
	aqd_state_changed(f->daemon, f, true);
	aqd_loop_used(f->daemon);
	aqd_fraction_check(f);
}

static void free_fraction(struct aqd_fraction *f)
{
	if (f->linger)
		event_free(f->linger);
	if (f->killing)
		event_free(f->killing);
	free(f->saved);
	free(f);
}

static void free_deferred(struct aqd *d, struct aqd_deferred *what)
{
	free_fraction(aq_container_of(what, struct aqd_fraction, deferred));
}

/* Entered in the ledger and in the daemon's list; nothing has been told to anybody. */
static int enter(struct aqd *d, const struct aqd_fraction *like, const struct aq_ledger_spec *spec,
		 struct aqd_fraction **ret, struct aq_refusal *ret_refusal)
{
	struct aqd_fraction *f;
	int r;

	if (d->ledger.fraction_count >= AQD_MAX_FRACTIONS)
		return -EMFILE;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	memcpy(f, like, sizeof(*f));
	f->daemon = d;
	f->deferred = (struct aqd_deferred){0};
	f->saved = NULL;
	aq_list_init(&f->observers);
	aq_list_init(&f->of_holder);
	aq_list_init(&f->residency.waits);
	f->residency.since_ns = f->residency.busy_ns = aq_now_ns();
	f->holder = NULL;
	f->linger = evtimer_new(d->base, on_linger, f);
	f->killing = evtimer_new(d->base, on_killing, f);
	r = f->linger && f->killing ? 0 : -ENOMEM;
	if (r == 0)
		r = aq_ledger_create(&d->ledger, &f->ledger, spec, ret_refusal);
	if (r < 0) {
		free_fraction(f);
		return r;
	}
	aq_list_append(&d->fractions, &f->link);
	aqd_compute_begin(d, f);
	d->state_dirty = true;
	aqd_loop_used(d);
	*ret = f;
	return 0;
}

int aqd_fraction_restore(struct aqd *d, const struct aqd_fraction *like,
			 const struct aq_ledger_spec *spec, struct aqd_fraction **ret,
			 struct aq_refusal *ret_refusal)
{
	return enter(d, like, spec, ret, ret_refusal);
}

int aqd_fraction_create(struct aqd *d, const struct aqd_fraction_ask *ask,
			struct aqd_fraction **ret, struct aq_refusal *ret_refusal)
{
	struct aqd_event_facts facts = aqd_event_none;
	struct aqd_fraction like = {
		.owner = ask->owner,
		.mount_namespace = ask->mount_namespace,
		.residency = {.park_idle_ns = ask->park_idle_ns},
	};
	char request[AQ_SIZE_TEXT], limit[AQ_SIZE_TEXT];
	struct aq_ledger_spec spec;
	struct aqd_fraction *f;
	int r;

	if (aqd_fraction_find(d, ask->name))
		return -EEXIST;
	r = aq_placement_choose(&d->ledger, &ask->placement, &spec, ret_refusal);
	if (r < 0)
		return r;
	snprintf(like.name, sizeof(like.name), "%s", ask->name);
	snprintf(like.project, sizeof(like.project), "%s", ask->project);
	snprintf(like.command, sizeof(like.command), "%s", ask->command);
	like.created_s = (uint64_t)time(NULL);
	r = enter(d, &like, &spec, &f, ret_refusal);
	if (r < 0)
		return r;
	if (ask->holder && !ask->holder->dead)
		aqd_fraction_set_holder(f, ask->holder);
	aqd_fraction_check(f);
	if (f->mount_namespace)
		aqd_loop_tick_soon(d); /* to learn which, while its holder lives */

	facts.fraction = f;
	facts.pid = ask->holder ? ask->holder->pid : 0;
	facts.device = &d->device[f->ledger.share[0].device];
	facts.limit_bytes = f->ledger.share[0].limit_bytes;
	aqd_event(d, AQD_EVENT_created, &facts,
		  "%u device(s), memory %s of at most %s, compute %u of at most %u permille",
		  f->ledger.share_count, aq_size_format(f->ledger.share[0].request_bytes, request),
		  aq_size_format(f->ledger.share[0].limit_bytes, limit),
		  f->ledger.compute_request_permille, f->ledger.compute_limit_permille);
	*ret = f;
	return 0;
}

/* The terms of a share as they are to be: new shares of the device, then explicit numbers. */
static int change_share(const struct aq_ledger_fraction *l, const struct aq_ledger_share *s,
			uint64_t total_bytes, const struct aqd_fraction_change *change,
			struct aq_ledger_spec *spec)
{
	struct aq_placement_ask ask = {
		.gpu_permille = change->gpu_permille,
		.memory_request_bytes = change->memory_request_bytes,
		.memory_limit_bytes = change->memory_limit_bytes,
		.compute_request_permille = change->compute_request_permille,
		.compute_limit_permille = change->compute_limit_permille,
		.priority = change->priority < 0 ? l->priority : (enum aq_priority)change->priority,
	};
	int r;

	if (ask.gpu_permille == AQ_ANY_PERMILLE) {
		/* What is not named stays; a request alone moves an equal limit with it. */
		if (ask.memory_limit_bytes == AQ_ANY_BYTES &&
		    (ask.memory_request_bytes == AQ_ANY_BYTES ||
		     s->limit_bytes != s->request_bytes))
			ask.memory_limit_bytes = s->limit_bytes;
		if (ask.memory_request_bytes == AQ_ANY_BYTES)
			ask.memory_request_bytes = s->request_bytes < ask.memory_limit_bytes
							   ? s->request_bytes
							   : ask.memory_limit_bytes;
		if (ask.compute_request_permille == AQ_ANY_PERMILLE)
			ask.compute_request_permille = l->compute_request_permille;
	}
	if (ask.compute_limit_permille == AQ_ANY_PERMILLE)
		ask.compute_limit_permille = l->compute_limit_permille;
	r = aq_placement_terms(&ask, total_bytes, spec);
	if (r == 0)
		spec->share[0].device = s->device;
	return r;
}

/* What the fraction is to be after a change. */
static int spec_of(struct aqd *d, const struct aqd_fraction *f,
		   const struct aqd_fraction_change *change, struct aq_ledger_spec *spec,
		   struct aq_refusal *ret_refusal)
{
	struct aq_ledger_spec one;

	*spec = (struct aq_ledger_spec){0};
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &f->ledger.share[i];
		int r = change_share(&f->ledger, s, d->ledger.device[s->device].total_bytes, change,
				     &one);

		if (r < 0) {
			*ret_refusal = (struct aq_refusal){.reason = AQ_REFUSED_INVALID};
			return r;
		}
		if (!i)
			*spec = one;
		spec->share[i] = one.share[0];
	}
	spec->share_count = f->ledger.share_count;
	return 0;
}

/* What is in host memory is to come back: it counts as used, unless its owner wants otherwise. */
static int keep_room_for_parked(struct aqd *d, const struct aqd_fraction *f,
				const struct aq_ledger_spec *spec, struct aq_refusal *ret_refusal)
{
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &f->ledger.share[i];
		uint64_t parked = aqd_parked_share(f, i);
		uint64_t used = aq_ledger_used(&d->ledger, &f->ledger, i) + parked;

		if (!parked || spec->share[i].limit_bytes >= used ||
		    spec->share[i].limit_bytes >= s->limit_bytes)
			continue;
		*ret_refusal = (struct aq_refusal){
			.reason = AQ_REFUSED_IN_USE,
			.device = s->device,
			.asked_bytes = spec->share[i].limit_bytes,
			.limit_bytes = s->limit_bytes,
			.used_bytes = used,
		};
		return -EBUSY;
	}
	return 0;
}

bool aqd_fraction_make_room(struct aqd *d, struct aqd_fraction *f,
			    const struct aqd_fraction_change *change)
{
	struct aq_refusal unused;
	struct aq_ledger_spec spec;
	bool made = spec_of(d, f, change, &spec, &unused) == 0;

	for (uint32_t i = 0; made && i < spec.share_count; i++)
		made = aqd_need_request(d, f, spec.share[i].device, spec.share[i].request_bytes);
	return made;
}

int aqd_fraction_resize(struct aqd *d, struct aqd_fraction *f,
			const struct aqd_fraction_change *change, struct aq_refusal *ret_refusal)
{
	struct aqd_event_facts facts = aqd_event_none;
	char request[AQ_SIZE_TEXT], limit[AQ_SIZE_TEXT];
	struct aq_ledger_spec spec;
	int r = spec_of(d, f, change, &spec, ret_refusal);

	if (r == 0 && !change->force_park)
		r = keep_room_for_parked(d, f, &spec, ret_refusal);
	if (r < 0)
		return r;
	r = aq_ledger_resize(&d->ledger, &f->ledger, &spec, ret_refusal);
	if (r < 0)
		return r;
	aqd_client_write_terms_of(d, f);
	aqd_compute_change(d, f);
	aqd_state_changed(d, f, false);
	d->queue_dirty = true;
	facts.fraction = f;
	facts.device = &d->device[f->ledger.share[0].device];
	facts.limit_bytes = f->ledger.share[0].limit_bytes;
	aqd_event(d, AQD_EVENT_resized, &facts,
		  "memory %s of at most %s, compute %u of at most %u permille",
		  aq_size_format(f->ledger.share[0].request_bytes, request),
		  aq_size_format(f->ledger.share[0].limit_bytes, limit),
		  f->ledger.compute_request_permille, f->ledger.compute_limit_permille);
	return 0;
}

void aqd_fraction_end(struct aqd *d, struct aqd_fraction *f, const char *why)
{
	struct aqd_event_facts facts = aqd_event_none;
	struct aq_ledger_client *l, *next_client;
	struct aqd_conn *conn, *next_conn;

	if (f->ended)
		return;
	f->ended = true;
	aqd_residency_fraction_gone(d, f);
	AQ_LIST_FOREACH (l, next_client, &f->ledger.clients, link)
		aqd_client_end(d, aqd_client_of(l), "its fraction ended");
	AQ_LIST_FOREACH (conn, next_conn, &f->observers, of_fraction)
		aqd_conn_close(d, conn);
	aqd_fraction_holder_gone(f);
	aqd_compute_end(d, f);
	aq_ledger_end(&d->ledger, &f->ledger);
	aq_list_remove(&f->link);
	facts.fraction = f;
	aqd_event(d, AQD_EVENT_ended, &facts, "%s", why);
	evtimer_del(f->linger);
	evtimer_del(f->killing);
	aqd_defer(d, &f->deferred, free_deferred);
	d->state_dirty = true;
	d->queue_dirty = true;
	aqd_loop_used(d);
}

/* Any of its processes that has died unnoticed. */
static bool notice_one(struct aqd *d, struct aqd_fraction *f)
{
	struct aq_ledger_client *l, *tmp;

	if (f->holder && aqd_process_notice(d, f->holder))
		return true;
	AQ_LIST_FOREACH (l, tmp, &f->ledger.clients, link)
		if (aqd_process_notice(d, aqd_client_of(l)->process))
			return true; /* and others of the list may be gone with it */
	return false;
}

bool aqd_fraction_end_unheld(struct aqd *d, const char *name)
{
	struct aqd_fraction *f, *tmp;
	bool ended = false;

	AQ_LIST_FOREACH (f, tmp, &d->fractions, link) {
		if (name && strcmp(f->name, name))
			continue;
		while (notice_one(d, f))
			;
		if (f->ended || is_held(f) || aq_now_ns() < f->settle_ns)
			continue;
		aqd_fraction_end(d, f, "nobody holds it any more");
		ended = true;
	}
	return ended;
}

bool aqd_in_use(const struct aqd *d)
{
	return d->ledger.fraction_count || d->conn_count || !aq_list_empty(&d->waits) ||
	       aqd_api_in_use(d);
}
