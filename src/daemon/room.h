/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room on a full device, of those who have it: what is taken back from whom is planned by
 * core/reclaim, of what the daemon knows now, and carried out. Who needs it and waits: see need.c.
 */
#ifndef AQ_DAEMON_ROOM_H
#define AQ_DAEMON_ROOM_H

#include "core/reclaim.h"
#include "daemon/daemon.h"

/**
 * aqd_room_make() - plan for one device, and do what the plan says.
 * @by: who needs it, and gives nothing; NULL: a new fraction
 * Return: what can be hoped for; when there is hope, try again at the end of some turn
 */
enum aq_reclaim_answer aqd_room_make(struct aqd *d, const struct aqd_fraction *by, uint32_t device,
				     const struct aq_reclaim_need *need);

/* What could be made for such a need without delay to anybody's work. */
uint64_t aqd_room_easy(struct aqd *d, const struct aqd_fraction *by, uint32_t device,
		       const struct aq_reclaim_need *need);

#endif /* AQ_DAEMON_ROOM_H */
