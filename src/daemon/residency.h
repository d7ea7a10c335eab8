/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose memory is on the device and whose is in host RAM: parking and resuming whole fractions.
 *
 * A fraction is parked when the movable memory of all its clients is in host memory; what cannot
 * move stays where it is and stays charged. While a client carries out an order, its grant is not
 * touched: whatever it does in the end, and whenever, it finds the room for it. Only when all have
 * answered is what they left taken back for others.
 */
#ifndef AQ_DAEMON_RESIDENCY_H
#define AQ_DAEMON_RESIDENCY_H

#include "daemon/daemon.h"

int aqd_residency_init(struct aqd *d);
void aqd_residency_finish(struct aqd *d);

/* Why a fraction cannot be parked, or not now. */
struct aqd_residency_refusal {
	const char *reason; /* word for the API and events; NULL: not refused */
	uint64_t used_bytes, movable_bytes;
	uint64_t host_free_bytes; /* of the pool, for this fraction */
};

/**
 * aqd_residency_park() - begin to move a resident fraction's memory to the host.
 * @hold: nothing but aqd_residency_want(, true) brings it back
 * Return: 0 begun; -EALREADY parked, or on its way; -EBUSY on its way back; -ENODATA nothing of it
 *         can move; -ENOSPC the host's pool is too full; -EAGAIN some clients are not back yet
 */
int aqd_residency_park(struct aqd *d, struct aqd_fraction *f, enum aqd_park_reason reason,
		       bool hold, struct aqd_residency_refusal *why);

/**
 * aqd_residency_want() - it is to be resident as soon as that can be.
 * @by_hand: ends a hold, too
 */
void aqd_residency_want(struct aqd *d, struct aqd_fraction *f, bool by_hand);

/* Grant what a parked one has away and order it back. Return: 0; -ENOSPC nothing changed. */
int aqd_residency_resume(struct aqd *d, struct aqd_fraction *f);

/* Is everything of it on the device, so that a lease could be used? */
static inline bool aqd_is_resident(const struct aqd_fraction *f)
{
	return f->residency.state == AQD_RESIDENT;
}

/* In host memory: of a client, of a share, of the fraction. */
uint64_t aqd_parked_client(const struct aqd_client *c);
uint64_t aqd_parked_share(const struct aqd_fraction *f, uint32_t share);
uint64_t aqd_parked(const struct aqd_fraction *f);

/* "resident", "parking", "parked", "resuming"; "hand", "idle", "need". Static strings. */
const char *aqd_residency_word(enum aqd_residency_state state);
const char *aqd_park_reason_word(enum aqd_park_reason reason);

/* Somebody who waits for a move to end. The owner embeds it. */
struct aqd_residency_wait {
	struct aq_list link;
	/* @error: 0 there; -EIO it could not be moved; -ETIMEDOUT it was too slow; -ESRCH the
	 * fraction is no more; -ECANCELED the daemon ends. The wait is forgotten when this is
	 * called. */
	void (*done)(struct aqd_residency_wait *w, int error);
	bool parked; /* what is waited for: parked, or resident */
};

void aqd_residency_await(struct aqd_fraction *f, struct aqd_residency_wait *w);

/* A client rang: something about memory may have changed in its page. */
void aqd_residency_bell(struct aqd *d, struct aqd_client *c);

/* A page of an earlier daemon was adopted: go on with what that one had begun. */
void aqd_residency_adopt(struct aqd *d, struct aqd_client *c);

/* A client is about to be forgotten; a fraction is. */
void aqd_residency_client_gone(struct aqd *d, struct aqd_client *c);
void aqd_residency_fraction_gone(struct aqd *d, struct aqd_fraction *f);

/* The daemon ends: nobody gets what he waits for. */
void aqd_residency_cancel(struct aqd *d);

/* What handlers of this turn have set going. Part of the end of a turn. */
void aqd_residency_turn(struct aqd *d);

#endif /* AQ_DAEMON_RESIDENCY_H */
