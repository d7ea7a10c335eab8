/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many connections to the API each user has. evhttp accepts by itself and tells of a connection
 * only when a whole request has come, so this watches the bufferevents that it is given.
 */
#ifndef AQ_DAEMON_PEERS_H
#define AQ_DAEMON_PEERS_H

#include <event2/bufferevent.h>

#include "daemon/daemon.h"

struct aqd_peers;

/* Return: 0 or -ENOMEM. */
int aqd_peers_create(struct aqd_peers **ret);
void aqd_peers_free(struct aqd_peers *p);

/* evhttp gets this for a connection that it is about to accept. */
void aqd_peers_expect(struct aqd_peers *p, struct bufferevent *bev);

/* Count those that were accepted since, and hang up on those above their user's share. */
void aqd_peers_settle(struct aqd *d, struct aqd_peers *p);

/* Was the connection of this descriptor hung up on? What it still says is not to be obeyed. */
bool aqd_peers_refused(struct aqd_peers *p, int fd);

#endif /* AQ_DAEMON_PEERS_H */
