/* SPDX-License-Identifier: Apache-2.0 */
/* What must outlive the daemon: fractions, who holds them, what simulated devices are called. */
#ifndef AQ_DAEMON_STATE_H
#define AQ_DAEMON_STATE_H

#include "daemon/daemon.h"

/**
 * aqd_state_changed() - what is to be saved of @f has changed.
 * Most of a large state is as it was: each fraction's part is kept as text until it changes.
 * @soon: save within STATE_DELAY_NS; false: before this turn ends, and with it any answer
 */
void aqd_state_changed(struct aqd *d, struct aqd_fraction *f, bool soon);

/* Write state.json, or remove it when there is nothing to keep. Failure is logged. */
void aqd_state_save(struct aqd *d);

/* Restore fractions, holders and clients, after devices are listed. */
void aqd_state_load(struct aqd *d);

#endif /* AQ_DAEMON_STATE_H */
