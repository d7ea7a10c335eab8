/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Those who need room on a device that has none: what is done about it is planned by core/reclaim
 * and carried out here. Needs are served guarantees first, then by priority, then in order; one
 * that waits keeps later bursts from the devices that it waits for.
 */
#ifndef AQ_DAEMON_NEED_H
#define AQ_DAEMON_NEED_H

#include "daemon/daemon.h"

/**
 * aqd_need_room() - hold a request for memory until there is room, if that can be.
 * @conn:  of a client; its request is kept and tried again by aqd_request_retry()
 * @bytes: that the client lacks on @share
 * @fixed: for what cannot move: see aqd_need_lent()
 * Return: false when nobody can make that room: refuse it
 */
bool aqd_need_room(struct aqd *d, struct aqd_conn *conn, uint32_t share, uint64_t bytes, bool fixed,
		   const union aq_msg *msg);

/**
 * aqd_need_lent() - would so much more, for what cannot move, take what a parked fraction lends?
 * Who cannot be sent away would not give it back: it has to fit beside all requests, lent or not.
 * @ret_why: the refusal, if it is to be refused for that
 */
bool aqd_need_lent(struct aqd *d, const struct aqd_fraction *f, uint32_t share, uint64_t bytes,
		   struct aq_refusal *ret_why);

/* Would a burst of this fraction overtake somebody who waits for the same device, be it a new
 * request, or a larger one, that borrowers are leaving for? */
bool aqd_need_ahead(struct aqd *d, const struct aqd_fraction *f, uint32_t share, uint64_t bytes);

/* A parked fraction is to be resident: needs room for what it has away. Again is harmless. */
void aqd_need_resume(struct aqd *d, struct aqd_fraction *f);

/* It waits no more. Harmless when it does not. */
void aqd_need_drop(struct aqd_need *n);

/* Make room for a new fraction, on the devices where that can be. Return: as below. */
bool aqd_need_placement(struct aqd *d, const struct aq_placement_ask *ask);

/**
 * aqd_need_request() - make room for a new or larger request of @bytes on a device.
 * @self: the fraction whose request it is, or NULL for a new one
 * Return: room is on its way, or there: try again at the end of some turn
 */
bool aqd_need_request(struct aqd *d, const struct aqd_fraction *self, uint32_t device,
		      uint64_t bytes);

/* What the fraction could get now, with what reclaim makes free without delay to others' work. */
uint64_t aqd_need_free(struct aqd *d, const struct aqd_fraction *f, uint32_t share);

/* Serve who can be served. Return: somebody waits still. Part of the end of a turn. */
bool aqd_needs_serve(struct aqd *d);

#endif /* AQ_DAEMON_NEED_H */
