/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one client in another (IPC): who exports what, and who has what open. The daemon
 * introduces the two to each other and passes descriptors on; what they are is not its business.
 */
#ifndef AQ_DAEMON_SHARE_H
#define AQ_DAEMON_SHARE_H

#include "daemon/daemon.h"

void aqd_share_init(struct aqd *d);

/* A client is made; its connection is there, perhaps again; it is no more. */
void aqd_share_client_made(struct aqd_client *c);
void aqd_share_client_here(struct aqd *d, struct aqd_client *c, uid_t uid);
void aqd_share_client_gone(struct aqd *d, struct aqd_client *c);

/* Each answers the message, but WITHDRAW, which has no reply. @passed stays the caller's. */
void aqd_share_export(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_export *m);
void aqd_share_withdraw(struct aqd *d, struct aqd_client *c, const struct aq_msg_export *m);
void aqd_share_import(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_import *m);
void aqd_share_close(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_import *m);
void aqd_share_ask(struct aqd *d, struct aqd_conn *conn, uint32_t seq);
void aqd_share_lend(struct aqd *d, struct aqd_conn *conn, const struct aq_msg_piece *m, int passed);

/* What outlives a daemon of a loan that is open. */
struct aqd_loan_note {
	uint64_t id, number, at;
	struct aqd_client *exporter;
};

/**
 * aqd_share_next_open() - what a client has open, one after the other.
 * @where: NULL to begin with
 * Return: the place to go on at; NULL: there is no more, nothing is in @ret_note
 */
const struct aq_list *aqd_share_next_open(const struct aqd_client *c, const struct aq_list *where,
					  struct aqd_loan_note *ret_note);

/**
 * aqd_share_restore() - a loan of an earlier daemon's time.
 * @importer: NULL: it has gone meanwhile; the exporter is told when it comes back
 * Return: 0; -EINVAL, -ENOMEM: it is never said to have come back
 */
int aqd_share_restore(struct aqd *d, const struct aqd_loan_note *note, struct aqd_client *importer);

/* Now and then: let go of what nobody fetches. */
void aqd_share_tick(struct aqd *d);

#endif /* AQ_DAEMON_SHARE_H */
