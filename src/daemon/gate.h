/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate words of the shared page: the one place that writes them. Leases, residency and the look
 * for idleness each own one bit and decide about it elsewhere.
 */
#ifndef AQ_DAEMON_GATE_H
#define AQ_DAEMON_GATE_H

#include "daemon/daemon.h"

/**
 * aqd_gate_set() - set or clear bits of a client's gate on one device of its fraction.
 * @bits: AQ_GATE_*, of the caller's concern; the others stay
 * Written from the daemon's own copy, so what the client has scribbled there does not last. Does
 * not wake anybody: see aqd_gate_news(). Harmless on a client without a page.
 */
void aqd_gate_set(struct aqd *d, struct aqd_client *c, uint32_t share, uint32_t bits, bool on);

/* The bits as the daemon has set them. */
uint32_t aqd_gate_get(const struct aqd_client *c, uint32_t share);

/* A page of an earlier daemon: its bits count until those whose they are decide anew. */
void aqd_gate_adopt(struct aqd_client *c);

/* Wake the guard's own thread: something that it must act on is in the page. */
void aqd_gate_news(struct aqd_client *c);

/* Wake everybody who sleeps on a futex word of a shared page. */
void aqd_gate_wake(_Atomic uint32_t *word);

/**
 * aqd_gate_bell() - a client says that it changed its page on @devices (bit i: share i).
 * Return: 0; -EINVAL bits of devices that the page has not
 */
int aqd_gate_bell(struct aqd *d, struct aqd_client *c, uint32_t devices);

#endif /* AQ_DAEMON_GATE_H */
