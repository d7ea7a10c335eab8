/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of compute: when leases are looked at, and what is told about them. */
#ifndef AQ_DAEMON_COMPUTE_H
#define AQ_DAEMON_COMPUTE_H

#include "daemon/daemon.h"

int aqd_compute_init(struct aqd *d);
void aqd_compute_finish(struct aqd *d);

/* A fraction is entered, has other terms, or ends (its clients have). */
void aqd_compute_begin(struct aqd *d, struct aqd_fraction *f);
void aqd_compute_change(struct aqd *d, struct aqd_fraction *f);
void aqd_compute_end(struct aqd *d, struct aqd_fraction *f);

/* A client has a page and a connection; or not any more. */
void aqd_compute_join(struct aqd *d, struct aqd_client *c);
void aqd_compute_leave(struct aqd *d, struct aqd_client *c);

/* It rang: look at its page. */
void aqd_compute_bell(struct aqd *d, struct aqd_client *c, uint32_t devices);

/* Look at all pages: when contexts were made. */
void aqd_compute_look(struct aqd *d);

/* The same about once a second, and what the driver has sampled of work outside leases. */
void aqd_compute_tick(struct aqd *d);

/* Decide and hand out, if anything has happened. Part of the end of a turn. */
void aqd_compute_turn(struct aqd *d);

/* Name of the fraction that has the lease of a device now, or NULL. */
const char *aqd_compute_holder(struct aqd *d, uint32_t device);

/* Device time that the fraction has used, on all its devices. */
uint64_t aqd_compute_gpu_ns(const struct aqd_fraction *f);

#endif /* AQ_DAEMON_COMPUTE_H */
