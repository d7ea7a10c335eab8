/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What contexts cost, and who makes the first one of a device. As long as the cost is unknown
 * nothing can be reserved for a context, and many that are made at once would each be admitted and
 * together be too much: so one client makes the first, and the others wait for its measurement.
 */
#ifndef AQ_DAEMON_CONTEXT_H
#define AQ_DAEMON_CONTEXT_H

#include "daemon/daemon.h"

/* Is this cost that of a context of the usual size? */
bool aqd_context_is(const struct aq_msg_cost *m);

/* BEGIN: is another client making the device's first one, so that this must not begin? */
bool aqd_context_must_wait(struct aqd *d, const struct aqd_client *c, const struct aq_msg_cost *m);

/* BEGIN: how much is to be reserved; more than the estimate of who could not know better. */
uint64_t aqd_context_expected(const struct aqd *d, const struct aqd_client *c,
			      const struct aq_msg_cost *m);

/* BEGIN: that much was reserved. */
void aqd_context_begun(struct aqd *d, struct aqd_client *c, const struct aq_msg_cost *m,
		       uint64_t reserved_bytes);

/* END, UNDO: how much of what was reserved is for this, to be given back. */
uint64_t aqd_context_reserved(struct aqd_client *c, const struct aq_msg_cost *m);

/* END, UNDO: it was measured, as @bytes more; @told: or nobody tells. The next may begin. */
void aqd_context_ended(struct aqd *d, struct aqd_client *c, const struct aq_msg_cost *m, bool told,
		       uint64_t bytes);

/* The client says nothing any more: nobody waits for it. */
void aqd_context_client_lost(struct aqd *d, struct aqd_client *c);

#endif /* AQ_DAEMON_CONTEXT_H */
