/* SPDX-License-Identifier: Apache-2.0 */
/* The guard socket: connections and their limits. What requests mean is in request.c. */
#ifndef AQ_DAEMON_GUARD_H
#define AQ_DAEMON_GUARD_H

#include "daemon/daemon.h"

/* Listen on d->guard_path. Return: 0 or negative errno. */
int aqd_guard_init(struct aqd *d);
void aqd_guard_finish(struct aqd *d);

/* Close a connection; its client, if any, lives on without one. Freed at the turn's end. */
void aqd_conn_close(struct aqd *d, struct aqd_conn *conn);

/* The peer broke the protocol: record it and close. */
void aqd_conn_babbled(struct aqd *d, struct aqd_conn *conn, const char *what);

/* Send a reply, with @pass_fd unless -1. A peer that does not read its replies is closed. */
void aqd_conn_reply(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg, int pass_fd);

/* Keep @msg and read no more from the peer until aqd_conn_resume(). */
void aqd_conn_hold(struct aqd *d, struct aqd_conn *conn, enum aqd_conn_wait why,
		   const union aq_msg *msg);
void aqd_conn_resume(struct aqd *d, struct aqd_conn *conn);

/* The handshake is done. */
void aqd_conn_is_client(struct aqd *d, struct aqd_conn *conn, struct aqd_client *c);
void aqd_conn_is_observer(struct aqd_conn *conn, struct aqd_fraction *f);

/* Answer those who wait for a measurement. Part of the end of a turn. */
void aqd_guard_finish_measuring(struct aqd *d);

/* Are so few descriptors left that nobody but a guard may have one? */
bool aqd_fds_scarce(void);

/* Make a listening unix socket at @path with @mode, replacing what is there. fd or -errno. */
int aqd_listen(const char *path, int type, mode_t mode);

#endif /* AQ_DAEMON_GUARD_H */
