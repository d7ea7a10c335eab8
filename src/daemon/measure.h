/* SPDX-License-Identifier: Apache-2.0 */
/* Compares what NVML sees with the ledger: overhead of clients, and who is there unasked. */
#ifndef AQ_DAEMON_MEASURE_H
#define AQ_DAEMON_MEASURE_H

#include "daemon/daemon.h"

/* The once-a-second look at all devices that have fractions. */
void aqd_measure_all(struct aqd *d);

/**
 * aqd_measure_due() - read a device for a client at the end of this turn.
 * Many that ask in one turn cost one reading; so does nobody's page change between the two.
 * @anew: nothing is known of what the client has there: count it, whatever it says
 */
void aqd_measure_due(struct aqd *d, struct aqd_client *c, uint32_t share, bool anew);

/* The same for all its devices, anew. */
void aqd_measure_client(struct aqd *d, struct aqd_client *c);

/* Take the readings that are due, and count those taken anew. The others are counted by
 * aqd_measure_apply_cost(). */
void aqd_measure_take_due(struct aqd *d);

/* Count the client's last reading for the END or UNDO of a COST; learns what a context costs. */
void aqd_measure_apply_cost(struct aqd *d, struct aqd_client *c, uint32_t share,
			    const struct aq_msg_cost *cost);

/* Forget what is known of foreigners. */
void aqd_measure_finish(struct aqd *d);

#endif /* AQ_DAEMON_MEASURE_H */
