/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exports are names (tokens) for memory of a client; a loan is one piece of such memory on its way
 * to, or in, one other client. Only clients of one user meet; of which fractions they are does not
 * matter, as it does not to CUDA. The memory stays charged to who exports it.
 *
 * A loan goes WANTED -> ASKED -> LENT -> OPEN, told to its exporter in the first and, when it has
 * ended after it was lent, as CLOSED. What is open outlives us by state.json. Of the rest a later
 * daemon does not know: it is never said to have come back, and its memory stays where it is.
 */
#include "daemon/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/gate.h"
#include "daemon/guard.h"
#include "daemon/residency.h"
#include "daemon/state.h"
#include "base/banned.h"

/* Guesses: several times what a worker of an LLM server exports and opens. */
#define CLIENT_EXPORTS 4096u
#define ALL_EXPORTS 65536u
#define CLIENT_LOANS 4096u
#define NOTED_LOANS 16384u /* in state.json, of all clients: 100 bytes each */
#define CLIENT_PENDING 16u /* each may hold a descriptor */

#define FETCH_NS (5 * AQ_NS_PER_S) /* guess: who wants it asks every few milliseconds */
#define ADOPT_NS (5 * AQ_NS_PER_S) /* a client comes back, and exports anew, within a second */

struct aqd_export {
	struct aq_list bucket, of_client;
	struct aqd_client *client;
	uint8_t token[AQ_TOKEN_BYTES];
};

enum loan_state { WANTED, ASKED, LENT, OPEN, FAILED, CLOSED };

struct aqd_loan {
	struct aq_list of_exporter; /* its `tell` (WANTED, CLOSED) or `told` */
	struct aq_list of_importer;
	struct aq_list of_lent;	     /* LENT */
	struct aqd_client *exporter; /* NULL: gone */
	struct aqd_client *importer; /* NULL: gone, or does not want it any more */
	enum loan_state state;
	bool noted; /* OPEN: in state.json */
	uint64_t id, number, at;
	uint8_t token[AQ_TOKEN_BYTES];
	struct aq_msg_piece piece; /* LENT, FAILED: as the exporter says */
	int fd;			   /* LENT */
	uint64_t lent_ns;
};

/* ---- exports ---- */

/* Tokens are random: any part of one is as good as a hash of it. */
static struct aq_list *bucket_of(struct aqd *d, const uint8_t *token)
{
	return &d->exports[(token[0] | (uint32_t)token[1] << 8) & (AQD_TOKEN_BUCKETS - 1)];
}

static struct aqd_export *find(struct aqd *d, const uint8_t *token)
{
	struct aqd_export *e, *next;

	AQ_LIST_FOREACH (e, next, bucket_of(d, token), bucket)
		if (!memcmp(e->token, token, sizeof(e->token)))
			return e;
	return NULL;
}

static void drop_export(struct aqd *d, struct aqd_export *e)
{
	aq_list_remove(&e->bucket);
	aq_list_remove(&e->of_client);
	e->client->sharing.export_count--;
	d->export_count--;
	free(e);
}

static int add_export(struct aqd *d, struct aqd_client *c, const uint8_t *token)
{
	static const uint8_t none[AQ_TOKEN_BYTES];
	struct aqd_export *e = find(d, token);

	if (e)
		return e->client == c ? 0 : -EEXIST;
	if (!memcmp(token, none, sizeof(none)))
		return -EINVAL;
	if (c->sharing.export_count >= CLIENT_EXPORTS || d->export_count >= ALL_EXPORTS)
		return -EMFILE;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -EMFILE;
	e->client = c;
	memcpy(e->token, token, sizeof(e->token));
	aq_list_append(bucket_of(d, token), &e->bucket);
	aq_list_append(&c->sharing.exports, &e->of_client);
	c->sharing.export_count++;
	d->export_count++;
	return 0;
}

static void reply_result(struct aqd *d, struct aqd_conn *conn, uint32_t seq, int result)
{
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_SHARE_REPLY, seq);
	reply.share_reply.result = result;
	aqd_conn_reply(d, conn, &reply, -1);
}

void aqd_share_export(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_export *m)
{
	reply_result(d, conn, m->head.seq, add_export(d, conn->client, m->token));
}

void aqd_share_withdraw(struct aqd *d, struct aqd_client *c, const struct aq_msg_export *m)
{
	struct aqd_export *e = find(d, m->token);

	if (e && e->client == c)
		drop_export(d, e);
}

/* ---- loans ---- */

/* Its exporter has something to ask for. */
static void tell(struct aqd_loan *l)
{
	struct aqd_client *c = l->exporter;

	aq_list_remove(&l->of_exporter);
	aq_list_append(&c->sharing.tell, &l->of_exporter);
	if (!c->page)
		return;
	__atomic_add_fetch((uint32_t *)&c->page->shares, 1, __ATOMIC_SEQ_CST);
	aqd_gate_wake(&c->page->shares);
}

static bool pending(const struct aqd_loan *l)
{
	return l->state == WANTED || l->state == ASKED || l->state == LENT;
}

static void set_state(struct aqd_loan *l, enum loan_state state)
{
	bool was = pending(l);

	l->state = state;
	if (l->importer && was && !pending(l))
		l->importer->sharing.pending_count--;
}

static void put_down(struct aqd_loan *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	aq_list_remove(&l->of_lent);
}

static void free_loan(struct aqd_loan *l)
{
	put_down(l);
	aq_list_remove(&l->of_exporter);
	free(l);
}

/* What state.json says of it is to change soon: to lose that costs no more than a loan for good. */
static void note(struct aqd *d, struct aqd_loan *l, bool open)
{
	if (open ? d->noted_loans >= NOTED_LOANS : !l->noted)
		return;
	l->noted = open;
	d->noted_loans += open ? 1 : -1;
	aqd_state_changed(d, l->importer->fraction, true);
}

/* It is no loan of its importer's any more. */
static void detach(struct aqd *d, struct aqd_loan *l)
{
	struct aqd_client *c = l->importer;

	if (!c)
		return;
	note(d, l, false);
	c->sharing.loan_count--;
	c->sharing.pending_count -= pending(l);
	aq_list_remove(&l->of_importer);
	l->importer = NULL;
}

/* Its importer is done with it, one way or the other. */
static void end_loan(struct aqd *d, struct aqd_loan *l)
{
	bool lent = l->state == LENT || l->state == OPEN;

	detach(d, l);
	put_down(l);
	if (!l->exporter || l->state == WANTED || l->state == FAILED) {
		free_loan(l);
	} else if (lent) {
		l->state = CLOSED;
		tell(l);
	}
	/* ASKED: its exporter still has to answer. */
}

/* It will lend nothing any more; who has something open keeps it. */
static void exporter_gone(struct aqd *d, struct aqd_loan *l)
{
	bool open = l->state == OPEN;

	aq_list_remove(&l->of_exporter);
	l->exporter = NULL;
	if (!l->importer || !open)
		end_loan(d, l);
}

static struct aqd_loan *find_loan(struct aqd_client *c, const struct aq_msg_import *m)
{
	struct aqd_loan *l, *next;

	AQ_LIST_FOREACH (l, next, &c->sharing.loans, of_importer)
		if (l->number == m->number && l->at == m->at)
			return l;
	return NULL;
}

static void refuse_import(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_import *m,
			  int result, bool away)
{
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_IMPORT_REPLY, m->head.seq);
	reply.piece.result = result;
	reply.piece.at = m->at;
	reply.piece.away = away;
	aqd_conn_reply(d, conn, &reply, -1);
}

/* Is somebody still to come back from an earlier daemon's time, who may export what we do not
 * know? */
static bool adopting(struct aqd *d)
{
	struct aqd_fraction *f, *next;

	if (aq_now_ns() - d->started_ns > ADOPT_NS)
		return false;
	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		if (f->restored)
			return true;
	return false;
}

/* @importer: NULL: gone. It is in no list of its exporter's yet. */
static struct aqd_loan *make_loan(struct aqd_client *exporter, struct aqd_client *importer,
				  uint64_t number, uint64_t at)
{
	struct aqd_loan *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->fd = -1;
	l->number = number;
	l->at = at;
	l->exporter = exporter;
	l->importer = importer;
	aq_list_init(&l->of_exporter);
	aq_list_init(&l->of_lent);
	aq_list_init(&l->of_importer);
	if (importer) {
		aq_list_append(&importer->sharing.loans, &l->of_importer);
		importer->sharing.loan_count++;
	}
	return l;
}

/* Begin a loan. Return: -EAGAIN; what is wrong. */
static int want(struct aqd *d, struct aqd_client *c, const struct aq_msg_import *m)
{
	struct aqd_export *e = find(d, m->token);
	struct aqd_loan *l;

	if (!e || e->client->sharing.uid != c->sharing.uid || e->client == c)
		return !e && adopting(d) ? -EAGAIN : -ENOENT;
	if (c->sharing.loan_count >= CLIENT_LOANS || c->sharing.pending_count >= CLIENT_PENDING ||
	    aqd_fds_scarce())
		return -EMFILE;
	l = make_loan(e->client, c, m->number, m->at);
	if (!l)
		return -EMFILE;
	l->id = ++d->last_loan;
	memcpy(l->token, m->token, sizeof(l->token));
	c->sharing.pending_count++;
	tell(l);
	return -EAGAIN;
}

/* What was lent goes to who wants it. */
static void hand_over(struct aqd *d, struct aqd_conn *conn, struct aqd_loan *l, uint32_t seq)
{
	union aq_msg reply;
	int fd = l->fd;

	aq_msg_init(&reply, AQ_MSG_IMPORT_REPLY, seq);
	l->piece.head = reply.head;
	reply.piece = l->piece;
	reply.piece.loan = 0; /* between us and the exporter */
	reply.piece.away = 0;
	l->fd = -1;
	put_down(l);
	set_state(l, OPEN);
	note(d, l, true);
	aqd_conn_reply(d, conn, &reply, fd);
	close(fd);
}

void aqd_share_import(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_import *m)
{
	struct aqd_client *c = conn->client;
	struct aqd_loan *l = find_loan(c, m);
	int result;

	if (l && l->state == LENT) {
		hand_over(d, conn, l, m->head.seq);
	} else if (l && l->state == FAILED) {
		result = l->piece.result;
		end_loan(d, l);
		refuse_import(d, conn, m, result, false);
	} else if (l && l->state != OPEN) {
		refuse_import(d, conn, m, -EAGAIN, !aqd_is_resident(l->exporter->fraction));
	} else {
		if (l) /* the answer did not reach it */
			end_loan(d, l);
		refuse_import(d, conn, m, want(d, c, m), false);
	}
}

void aqd_share_close(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_import *m)
{
	struct aqd_loan *l, *next;

	AQ_LIST_FOREACH (l, next, &conn->client->sharing.loans, of_importer)
		if (l->number == m->number)
			end_loan(d, l);
	reply_result(d, conn, m->head.seq, 0);
}

void aqd_share_ask(struct aqd *d, struct aqd_conn *conn, uint32_t seq)
{
	struct aqd_sharing *s = &conn->client->sharing;
	union aq_msg reply;

	aq_msg_init(&reply, AQ_MSG_ASK_REPLY, seq);
	if (!aq_list_empty(&s->tell)) {
		struct aqd_loan *l = aq_container_of(s->tell.next, struct aqd_loan, of_exporter);

		reply.ask_reply.loan = l->id;
		reply.ask_reply.at = l->at;
		memcpy(reply.ask_reply.token, l->token, sizeof(l->token));
		reply.ask_reply.what = l->state == WANTED ? AQ_ASK_WANTED : AQ_ASK_CLOSED;
		if (l->state == WANTED) {
			set_state(l, ASKED);
			aq_list_remove(&l->of_exporter);
			aq_list_append(&s->told, &l->of_exporter);
		} else {
			free_loan(l);
		}
	}
	aqd_conn_reply(d, conn, &reply, -1);
}

/* Could the descriptor be memory of a device? Drivers give descriptors of a device's or of a
 * regular file; the borrower's driver looks closer. */
static bool plausible(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISREG(st.st_mode));
}

/* Take what is lent. Return: 0; what is wrong with it. */
static int accept_loan(struct aqd *d, struct aqd_loan *l, const struct aq_msg_piece *m, int passed)
{
	if (m->result == 0 &&
	    (!m->piece_bytes || !m->bytes || m->at != l->at || !plausible(passed)))
		return -EINVAL;
	l->piece = *m;
	if (m->result < 0) {
		set_state(l, FAILED);
		return 0;
	}
	l->fd = fcntl(passed, F_DUPFD_CLOEXEC, 0);
	if (l->fd < 0)
		return -EMFILE;
	set_state(l, LENT);
	l->lent_ns = aq_now_ns();
	aq_list_append(&d->lent, &l->of_lent);
	return 0;
}

static int lend(struct aqd *d, struct aqd_client *c, const struct aq_msg_piece *m, int passed)
{
	struct aqd_loan *l, *next;
	int r;

	AQ_LIST_FOREACH (l, next, &c->sharing.told, of_exporter) {
		if (l->id != m->loan || l->state != ASKED)
			continue;
		if (!l->importer) {
			free_loan(l);
			return -ECANCELED;
		}
		r = accept_loan(d, l, m, passed);
		if (r < 0) {
			l->piece.result = r == -EINVAL ? -EIO : r;
			set_state(l, FAILED);
		}
		return r;
	}
	return -ENOENT;
}

void aqd_share_lend(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_piece *m, int passed)
{
	if (m->result == 0 ? passed < 0 : passed >= 0)
		aqd_conn_babbled(d, conn, "a LEND that makes no sense");
	else
		reply_result(d, conn, m->head.seq, lend(d, conn->client, m, passed));
}

void aqd_share_tick(struct aqd *d)
{
	uint64_t now = aq_now_ns();

	while (!aq_list_empty(&d->lent)) {
		struct aqd_loan *l = aq_container_of(d->lent.next, struct aqd_loan, of_lent);

		if (now - l->lent_ns < FETCH_NS)
			break;
		end_loan(d, l);
	}
}

/* ---- over the death of a daemon ---- */

const struct aq_list *aqd_share_next_open(const struct aqd_client *c, const struct aq_list *where,
					  struct aqd_loan_note *ret_note)
{
	const struct aq_list *end = &c->sharing.loans;

	for (where = where ? where->next : end->next; where != end; where = where->next) {
		const struct aqd_loan *l = aq_container_of(where, struct aqd_loan, of_importer);

		if (!l->noted || !l->exporter)
			continue;
		*ret_note = (struct aqd_loan_note){
			.id = l->id, .number = l->number, .at = l->at, .exporter = l->exporter};
		return where;
	}
	return NULL;
}

int aqd_share_restore(struct aqd *d, const struct aqd_loan_note *n, struct aqd_client *importer)
{
	struct aqd_loan *l;

	if (n->exporter == importer || n->id > d->last_loan)
		return -EINVAL;
	l = make_loan(n->exporter, importer, n->number, n->at);
	if (!l)
		return -ENOMEM;
	l->id = n->id;
	l->state = importer ? OPEN : CLOSED;
	aq_list_append(importer ? &n->exporter->sharing.told : &n->exporter->sharing.tell,
		       &l->of_exporter);
	if (importer)
		note(d, l, true);
	return 0;
}

/* ---- clients ---- */

void aqd_share_init(struct aqd *d)
{
	for (uint32_t i = 0; i < AQD_TOKEN_BUCKETS; i++)
		aq_list_init(&d->exports[i]);
	aq_list_init(&d->lent);
	/* Nanoseconds pass faster than loans are made: no later daemon repeats a number. */
	d->last_loan = aq_now_ns();
}

void aqd_share_client_made(struct aqd_client *c)
{
	aq_list_init(&c->sharing.exports);
	aq_list_init(&c->sharing.tell);
	aq_list_init(&c->sharing.told);
	aq_list_init(&c->sharing.loans);
}

void aqd_share_client_here(struct aqd *d, struct aqd_client *c, uid_t uid)
{
	struct aqd_loan *l, *next;

	c->sharing.uid = uid;
	/* What it was asked for on a connection that is gone it may not have heard. */
	AQ_LIST_FOREACH (l, next, &c->sharing.told, of_exporter) {
		if (l->state == ASKED && l->importer) {
			set_state(l, WANTED);
			tell(l);
		} else if (l->state == ASKED) {
			free_loan(l);
		}
	}
	if (!c->page)
		return;
	__atomic_add_fetch((uint32_t *)&c->page->shares, 1, __ATOMIC_SEQ_CST);
	aqd_gate_wake(&c->page->shares);
}

void aqd_share_client_gone(struct aqd *d, struct aqd_client *c)
{
	struct aqd_sharing *s = &c->sharing;
	struct aqd_export *e, *next_export;
	struct aqd_loan *l, *next;

	AQ_LIST_FOREACH (e, next_export, &s->exports, of_client)
		drop_export(d, e);
	AQ_LIST_FOREACH (l, next, &s->loans, of_importer)
		end_loan(d, l);
	AQ_LIST_FOREACH (l, next, &s->tell, of_exporter)
		exporter_gone(d, l);
	AQ_LIST_FOREACH (l, next, &s->told, of_exporter)
		exporter_gone(d, l);
}
