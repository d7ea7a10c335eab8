/* SPDX-License-Identifier: Apache-2.0 */
/* Asking programs that listen (see <aliquot/client.h>) to use less memory, and their answers. */
#ifndef AQ_DAEMON_SHRINK_H
#define AQ_DAEMON_SHRINK_H

#include "daemon/daemon.h"

/* Ask the fraction to use no more than @keep_bytes on a device. */
void aqd_shrink_ask(struct aqd *d, struct aqd_fraction *f, uint32_t share, uint64_t keep_bytes);

/* Does anybody in it listen? */
bool aqd_shrink_heard(const struct aqd_fraction *f);

/* How long ago it was asked for what it has not given; UINT64_MAX: it may be asked (again). */
uint64_t aqd_shrink_asked_ns(struct aqd *d, const struct aqd_fraction *f);

/* An observer listens, perhaps after having done what it was asked; it is answered in time. */
void aqd_shrink_listen(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg);

/* Answer those whose time is over. Return: somebody listens still. Part of the end of a turn. */
bool aqd_shrink_turn(struct aqd *d);

#endif /* AQ_DAEMON_SHRINK_H */
