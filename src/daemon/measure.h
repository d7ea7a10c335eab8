/* SPDX-License-Identifier: Apache-2.0 */
/* Compares what NVML sees with the ledger: overhead of clients, and who is there unasked. */
#ifndef AQ_DAEMON_MEASURE_H
#define AQ_DAEMON_MEASURE_H

#include "daemon/daemon.h"

/* The once-a-second look at all devices that have fractions. */
void aqd_measure_all(struct aqd *d);

/* Read the client's devices now and count what it has beside its grant. */
void aqd_measure_client(struct aqd *d, struct aqd_client *c);

/* Note what the page says is used, right before a reading. */
void aqd_measure_snapshot(struct aqd *d, struct aqd_client *c, uint32_t share);

/* Count the device's last reading for the END or UNDO of a COST; learns what a context costs. */
void aqd_measure_apply_cost(struct aqd *d, struct aqd_client *c, uint32_t share,
			    const struct aq_msg_cost *cost);

/* Forget what is known of foreigners. */
void aqd_measure_finish(struct aqd *d);

#endif /* AQ_DAEMON_MEASURE_H */
