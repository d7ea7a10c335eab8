/* SPDX-License-Identifier: Apache-2.0 */
/* Who has had no work for how long, and parking who was idle for as long as its owner said. */
#ifndef AQ_DAEMON_IDLE_H
#define AQ_DAEMON_IDLE_H

#include "daemon/daemon.h"

int aqd_idle_init(struct aqd *d);
void aqd_idle_finish(struct aqd *d);

/* How long the fraction has had no work, as far as is known: since it was last seen with some. */
uint64_t aqd_idle_ns(struct aqd *d, const struct aqd_fraction *f);

/* It has work now. */
void aqd_idle_busy(struct aqd_fraction *f);

/* A client rang: did it answer a notice? */
void aqd_idle_bell(struct aqd *d, struct aqd_client *c);

/* Somebody is to be watched: a fraction with an idle time, or one that borrows. */
void aqd_idle_watch(struct aqd *d);

#endif /* AQ_DAEMON_IDLE_H */
