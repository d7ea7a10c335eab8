/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages and their clients: attaching, adopting, ending, and never believing. Knows no messages;
 * see request.c. Overhead is measured in measure.c.
 */
#include "daemon/client.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/grant.h"
#include "abi/page.h"
#include "base/cleanup.h"
#include "daemon/compute.h"
#include "daemon/context.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/gate.h"
#include "daemon/guard.h"
#include "daemon/idle.h"
#include "daemon/loop.h"
#include "daemon/measure.h"
#include "daemon/process.h"
#include "daemon/state.h"
#include "daemon/residency.h"
#include "daemon/residency_order.h"
#include "daemon/share.h"
#include "base/banned.h"

static const char WORD_LIE[] = "a grant in its page is not what it was given";

/* The word, when it can be true: what is granted is what we granted, and no more is used. */
static bool read_word(const struct aqd_client *c, uint32_t share, struct aq_grant *ret)
{
	struct aq_grant g = aq_grant_load(&c->page->device[share].grant);

	*ret = g;
	return aq_grain_bytes(g.granted) == c->ledger.hold[share].granted_bytes &&
	       g.used <= g.granted;
}

/* The ledger is at work and must not change under its feet: remember, and settle later. */
static void note_lie(struct aqd *d, struct aqd_client *c, const char *what)
{
	if (!c->lied && !c->lie) {
		c->lie = what;
		d->lie_found = true;
	}
}

static uint64_t ledger_used(void *context, const struct aq_ledger_client *l, uint32_t share)
{
	struct aqd_client *c = aqd_client_of(l);
	struct aq_grant g;

	if (!c->page || c->lied || aqd_order_frozen(c, share))
		return l->hold[share].granted_bytes;
	if (!read_word(c, share, &g)) {
		note_lie(context, c, WORD_LIE);
		return l->hold[share].granted_bytes;
	}
	return aq_grain_bytes(g.used);
}

static uint64_t ledger_revoke(void *context, struct aq_ledger_client *l, uint32_t share,
			      uint64_t max_bytes)
{
	struct aqd_client *c = aqd_client_of(l);
	uint64_t grains = max_bytes / AQ_GRAIN_BYTES, before = l->hold[share].granted_bytes;
	struct aq_grant g;
	uint32_t taken;

	if (!c->page || c->lied || c->lie || aqd_order_frozen(c, share))
		return 0;
	if (!read_word(c, share, &g)) {
		note_lie(context, c, WORD_LIE);
		return 0;
	}
	taken = aq_grant_revoke(&c->page->device[share].grant,
				grains > UINT32_MAX ? UINT32_MAX : (uint32_t)grains);
	/* The client may have changed the word between the look and the deed. */
	g = aq_grant_load(&c->page->device[share].grant);
	if (aq_grain_bytes(taken) > before ||
	    aq_grain_bytes(g.granted) != before - aq_grain_bytes(taken)) {
		note_lie(context, c, WORD_LIE);
		return 0;
	}
	return aq_grain_bytes(taken);
}

const struct aq_ledger_ops aqd_client_ledger_ops = {
	.used = ledger_used,
	.revoke = ledger_revoke,
};

uint64_t aqd_client_page_used(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	return ledger_used(d, &c->ledger, share);
}

void aqd_client_add_grant(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes)
{
	struct aq_grant g;

	/* The ledger has them granted already: that is what the word must say afterwards. */
	if (!aq_grant_add(&c->page->device[share].grant, (uint32_t)(bytes / AQ_GRAIN_BYTES)) ||
	    !read_word(c, share, &g))
		aqd_client_lied(d, c, WORD_LIE);
}

void aqd_client_lied(struct aqd *d, struct aqd_client *c, const char *what)
{
	struct aqd_event_facts facts = aqd_event_none;

	if (c->lied)
		return;
	c->lied = true;
	c->lie = NULL;
	aq_ledger_cut(&d->ledger, &c->ledger);
	facts.fraction = c->fraction;
	facts.pid = c->process->pid;
	facts.reason = "lied";
	aqd_event(d, AQD_EVENT_lied, &facts, "process %d is cut off: %s", (int)c->process->pid,
		  what);
	if (c->conn)
		aqd_conn_close(d, c->conn);
	if (d->config.allow_kill && aqd_process_signal(c->process, SIGKILL) == 0)
		aqd_event(d, AQD_EVENT_killed, &facts, "process %d: it lied, and allow_kill is set",
			  (int)c->process->pid);
}

void aqd_client_settle_lies(struct aqd *d)
{
	struct aqd_fraction *f, *next_fraction;
	struct aq_ledger_client *l, *next_client;

	if (!d->lie_found)
		return;
	d->lie_found = false;
	AQ_LIST_FOREACH (f, next_fraction, &d->fractions, link)
		AQ_LIST_FOREACH (l, next_client, &f->ledger.clients, link)
			if (aqd_client_of(l)->lie)
				aqd_client_lied(d, aqd_client_of(l), aqd_client_of(l)->lie);
}

void aqd_client_write_terms(struct aqd *d, struct aqd_client *c)
{
	if (!c->page)
		return;
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &c->fraction->ledger.share[i];
		struct aq_page_device *to = &c->page->device[i];

		__atomic_store_n((uint64_t *)&to->limit_bytes, s->limit_bytes, __ATOMIC_RELEASE);
		__atomic_store_n((uint64_t *)&to->request_bytes, s->request_bytes,
				 __ATOMIC_RELEASE);
		__atomic_store_n((uint64_t *)&to->context_bytes, d->device[s->device].context_bytes,
				 __ATOMIC_RELEASE);
	}
	__atomic_store_n((uint64_t *)&c->page->beat_ns, aq_now_ns(), __ATOMIC_RELEASE);
}

void aqd_client_write_terms_of(struct aqd *d, struct aqd_fraction *f)
{
	struct aq_ledger_client *l, *tmp;

	AQ_LIST_FOREACH (l, tmp, &f->ledger.clients, link)
		aqd_client_write_terms(d, aqd_client_of(l));
}

/* A client without page or connection, in the ledger. Takes its own reference to @p. */
static int make_client(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		       struct aqd_client **ret)
{
	struct aqd_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	r = aq_ledger_admit(&d->ledger, &f->ledger, &c->ledger);
	if (r < 0) {
		free(c);
		return r;
	}
	aq_list_init(&c->due);
	aqd_share_client_made(c);
	c->fraction = f;
	c->process = p;
	p->refs++;
	aq_list_append(&p->clients, &c->of_process);
	aqd_state_changed(d, f, true);
	aqd_loop_used(d);
	aqd_loop_tick(d);
	if (f->residency.park_idle_ns)
		aqd_idle_watch(d);
	aqd_fraction_check(f);
	*ret = c;
	return 0;
}

static int inode_of(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = st.st_ino;
	return 0;
}

static int give_page(struct aqd *d, struct aqd_client *c, int *ret_fd)
{
	AQ_CLEANUP(close) int fd = -1;
	struct aqd_fraction *f = c->fraction;
	int r = aq_page_create(f->ledger.share_count, f->name, &fd, &c->page);

	if (r == 0)
		r = inode_of(fd, &c->page_inode);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		memcpy(c->page->device[i].uuid, d->device[f->ledger.share[i].device].info.uuid,
		       sizeof(c->page->device[i].uuid));
	aqd_client_write_terms(d, c);
	*ret_fd = aq_steal_fd(&fd);
	return 0;
}

int aqd_client_attach(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		      struct aqd_conn *conn, int *ret_page_fd, struct aqd_client **ret_client)
{
	struct aqd_client *c, *next;
	bool replaced = false;
	int r;

	AQ_LIST_FOREACH (c, next, &p->clients, of_process)
		if (c->lied)
			return -EACCES;
	AQ_LIST_FOREACH (c, next, &p->clients, of_process) {
		aqd_client_end(d, c, "its process attached anew");
		replaced = true;
	}

	r = make_client(d, f, p, &c);
	if (r < 0)
		return r;
	r = give_page(d, c, ret_page_fd);
	if (r < 0) {
		aqd_client_end(d, c, "no page could be made");
		return r;
	}
	c->conn = conn;
	if (replaced) /* after exec there is nothing left; a second guard shows what the first took
		       */
		aqd_measure_client(d, c);
	*ret_client = c;
	return 0;
}

/* May this page be the one that @f gave to a client? */
static const char *judge_page(struct aqd *d, const struct aqd_fraction *f,
			      const struct aq_page *page)
{
	if (page->device_count != f->ledger.share_count)
		return "its page has another number of devices";
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &f->ledger.share[i];
		struct aq_grant g = aq_grant_load(&page->device[i].grant);

		if (memcmp(page->device[i].uuid, d->device[s->device].info.uuid,
			   sizeof(page->device[i].uuid)) != 0)
			return "its page has other devices";
		if (g.used > g.granted || aq_grain_bytes(g.granted) > s->limit_bytes)
			return "its page has more than the fraction ever had";
	}
	return NULL;
}

/* Take over what the page says is granted. Each word is read once. */
static void take_over(struct aqd *d, struct aqd_client *c, struct aq_page *page)
{
	struct aqd_fraction *f = c->fraction;

	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		struct aq_grant g = aq_grant_load(&page->device[i].grant);
		uint64_t granted = aq_grain_bytes(g.granted), used = aq_grain_bytes(g.used);
		uint64_t all = c->ledger.hold[i].overhead_bytes;

		/* Without its page, all that it has on the device was counted as overhead. What the
		 * page says is used must not be counted twice, not even until it is measured. */
		aq_ledger_measure(&d->ledger, &c->ledger, i, all > used ? all - used : 0);
		if (granted > f->ledger.share[i].limit_bytes) { /* changed since it was judged */
			note_lie(d, c, WORD_LIE);
			granted = f->ledger.share[i].limit_bytes;
		}
		aq_ledger_adopt(&d->ledger, &c->ledger, i, granted);
	}
	c->page = page;
	c->seen_ns = __atomic_load_n((uint64_t *)&page->beat_ns, __ATOMIC_ACQUIRE);
	memset(c->reading, 0, sizeof(c->reading));
	aqd_gate_adopt(c);
	aqd_residency_adopt(d, c);
	aqd_client_write_terms(d, c);
	aqd_measure_client(d, c);
}

/* The client that @p has with us, as long as a page with @inode may belong to it. */
static int find_own(struct aqd_fraction *f, struct aqd_process *p, uint64_t inode,
		    struct aqd_client **ret, const char **ret_lie)
{
	struct aqd_client *c, *next;

	*ret = NULL;
	AQ_LIST_FOREACH (c, next, &p->clients, of_process) {
		if (c->lied || c->fraction != f || (c->page && c->page_inode != inode)) {
			*ret_lie = c->lied ? "it lied before" : "it has another page already";
			return -EACCES;
		}
		*ret = c;
	}
	/* Whom we do not know can only be one of an earlier daemon's. */
	if (!*ret && !f->restored) {
		*ret_lie = "its page was not given by us";
		return -EACCES;
	}
	return 0;
}

int aqd_client_adopt(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		     struct aqd_conn *conn, int page_fd, struct aqd_client **ret_client,
		     const char **ret_lie)
{
	struct aq_page *page = NULL;
	struct aqd_client *c = NULL;
	uint64_t inode;
	int r;

	r = inode_of(page_fd, &inode);
	if (r == 0)
		r = find_own(f, p, inode, &c, ret_lie);
	if (r < 0)
		return r;
	if (c && c->page) { /* only its connection was lost */
		if (c->conn)
			aqd_conn_close(d, c->conn);
		c->conn = conn;
		*ret_client = c;
		return 0;
	}

	r = aq_page_map(page_fd, &page);
	if (r < 0)
		return r;
	*ret_lie = judge_page(d, f, page);
	r = *ret_lie ? -EACCES : 0;
	if (r == 0 && !c)
		r = make_client(d, f, p, &c);
	if (r < 0) {
		aq_page_unmap(page);
		return r;
	}
	c->page_inode = inode;
	c->conn = conn;
	take_over(d, c, page);
	*ret_client = c;
	return 0;
}

int aqd_client_return(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		      struct aqd_conn *conn, struct aqd_client **ret_client)
{
	struct aqd_client *c, *next;

	AQ_LIST_FOREACH (c, next, &p->clients, of_process) {
		if (c->lied || c->fraction != f || !c->page)
			return -EACCES;
		if (c->conn)
			aqd_conn_close(d, c->conn);
		c->conn = conn;
		*ret_client = c;
		return 0;
	}
	return -EACCES;
}

int aqd_client_restore(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p)
{
	struct aqd_client *c;
	int r = make_client(d, f, p, &c);

	if (r == 0)
		aqd_measure_client(d, c);
	return r;
}

static void free_client(struct aqd *d, struct aqd_deferred *what)
{
	struct aqd_client *c = aq_container_of(what, struct aqd_client, deferred);

	aq_page_unmap(c->page);
	free(c);
}

void aqd_client_end(struct aqd *d, struct aqd_client *c, const char *why)
{
	struct aqd_fraction *f = c->fraction;
	struct aqd_event_facts facts = aqd_event_none;

	if (!f)
		return;
	facts.fraction = f;
	facts.pid = c->process->pid;
	facts.used_bytes = 0;
	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		facts.used_bytes += aq_ledger_client_used(&d->ledger, &c->ledger, i);
	aqd_compute_leave(d, c);
	aqd_residency_client_gone(d, c);
	aqd_share_client_gone(d, c);
	aq_ledger_remove(&d->ledger, &c->ledger);
	aq_list_remove(&c->of_process);
	aq_list_remove(&c->due);
	aqd_context_client_lost(d, c);
	c->fraction = NULL;
	if (c->conn)
		aqd_conn_close(d, c->conn);
	aqd_event(d, AQD_EVENT_detached, &facts, "process %d: %s", (int)facts.pid, why);
	aqd_process_put(d, c->process);
	aqd_defer(d, &c->deferred, free_client);
	aqd_state_changed(d, f, true);
	d->queue_dirty = true;
	aqd_loop_used(d);
	aqd_fraction_check(f);
}
