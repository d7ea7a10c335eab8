/* SPDX-License-Identifier: Apache-2.0 */
/* Clients: one process with one shared page, attached to one fraction. */
#ifndef AQ_DAEMON_CLIENT_H
#define AQ_DAEMON_CLIENT_H

#include "daemon/daemon.h"

/* How the ledger reaches the pages; context is the struct aqd. */
extern const struct aq_ledger_ops aqd_client_ledger_ops;

/**
 * aqd_client_attach() - a new client of @f, with a new page.
 * What the process had attached before is gone: it called exec, or loaded a second guard.
 * @ret_page_fd: to be sent to the client; caller closes
 * Return: 0; -EMFILE too many clients; -EACCES the process lied before; other negative errno
 */
int aqd_client_attach(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		      struct aqd_conn *conn, int *ret_page_fd, struct aqd_client **ret_client);

/**
 * aqd_client_adopt() - a client comes back with the page it has.
 * @page_fd: stays the caller's
 * Return: 0; -EACCES not a page that this process can have (@ret_lie says why); -EINVAL and
 *         -EPROTO as aq_page_map()
 */
int aqd_client_adopt(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		     struct aqd_conn *conn, int page_fd, struct aqd_client **ret_client,
		     const char **ret_lie);

/* The client that @p is already, with a page, came back without it. Return: 0; -EACCES not so. */
int aqd_client_return(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p,
		      struct aqd_conn *conn, struct aqd_client **ret_client);

/* A client of an earlier daemon, which has not come back yet. Return: 0 or negative errno. */
int aqd_client_restore(struct aqd *d, struct aqd_fraction *f, struct aqd_process *p);

/* The client is no more: all it held is free. Its connection closes; freed at the turn's end. */
void aqd_client_end(struct aqd *d, struct aqd_client *c, const char *why);

/* Write limits, requests and costs of contexts into the page, or into those of all clients. */
void aqd_client_write_terms(struct aqd *d, struct aqd_client *c);
void aqd_client_write_terms_of(struct aqd *d, struct aqd_fraction *f);

/* Add to the page what the ledger has granted. A word that is not as it must be is a lie. */
void aqd_client_add_grant(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes);

/* The client's statements are false: cut it off now. */
void aqd_client_lied(struct aqd *d, struct aqd_client *c, const char *what);

/* Deal with the lies that the ledger's look at the pages found in this turn. */
void aqd_client_settle_lies(struct aqd *d);

/* What the page says is used, in bytes; what is granted when there is no page to believe. A page
 * that cannot be true is dealt with at the end of the turn. */
uint64_t aqd_client_page_used(struct aqd *d, struct aqd_client *c, uint32_t share);

/* Is the client expected back after a restart? */
static inline bool aqd_client_is_lost(const struct aqd_client *c)
{
	return !c->page;
}

#endif /* AQ_DAEMON_CLIENT_H */
