/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders about the memory of one client on one device, given and answered through its page, and
 * the host's pool that parked memory goes to. Which order to give is decided in residency.c.
 */
#ifndef AQ_DAEMON_RESIDENCY_ORDER_H
#define AQ_DAEMON_RESIDENCY_ORDER_H

#include "daemon/daemon.h"

/* What of the client's memory could be parked: what it says, as far as it is charged for it. */
uint64_t aqd_order_movable(struct aqd *d, struct aqd_client *c, uint32_t share);

/**
 * aqd_order_park() - close its gate and have its movable memory moved to the host.
 * @host_bytes: what it may put there; set aside in the pool until it is back, or gone
 */
void aqd_order_park(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t host_bytes);

/* Have it come back, or stay. What it needs is in its grant. The gate stays closed until then. */
void aqd_order_stay(struct aqd *d, struct aqd_client *c, uint32_t share);

/**
 * aqd_order_look() - has it answered the last order?
 * An answer that cannot be true ends the client's credit, see aqd_client_lied(). A gate that was
 * closed for the order opens when everything is on the device.
 * Return: nothing is outstanding (any more)
 */
bool aqd_order_look(struct aqd *d, struct aqd_client *c, uint32_t share);

/* Has it just been granted what it waited for, and is about to use it? */
bool aqd_order_fresh(const struct aqd_client *c, uint32_t share);

/* Is its grant to be left alone, because what it has to do, or undo, needs it? */
bool aqd_order_frozen(const struct aqd_client *c, uint32_t share);

/* Does it want to submit, says its page? Not while it carries out an order: before it is drained it
 * may want for the lease that it has. Who waits says so again and again. */
bool aqd_order_wants(const struct aqd_client *c, uint32_t share);

/* Take over what an earlier daemon had ordered, after the page was adopted. */
void aqd_order_adopt(struct aqd *d, struct aqd_client *c);

/* The client is no more: what it has in the host's pool is free. */
void aqd_order_forget(struct aqd *d, struct aqd_client *c);

/**
 * aqd_host_room() - may a fraction put @bytes more into host memory?
 * Counts the node's budget, the fraction's, and what the machine has available now. What others keep
 * there for the next time does not stand in the way of the former: see below.
 * @ret_free: how much it may
 */
bool aqd_host_room(struct aqd *d, const struct aqd_fraction *f, uint64_t bytes, uint64_t *ret_free);

/**
 * aqd_host_claim() - @bytes of a fraction are about to go there, or were refused for lack of memory.
 * Others who keep host memory for the next time are told to let go of so much that it is within the
 * node's budget, and that the machine has it.
 */
void aqd_host_claim(struct aqd *d, const struct aqd_fraction *f, uint64_t bytes);

#endif /* AQ_DAEMON_RESIDENCY_ORDER_H */
