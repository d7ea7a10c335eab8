/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of a shared page that have to do with leases, each written and read as
 * abi.h orders it. What is read may be anything; what was written by us may not be there any more.
 */
#ifndef AQ_DAEMON_LEASE_PAGE_H
#define AQ_DAEMON_LEASE_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/abi.h>

/* Wake who waits for a lease of the device: there is one, or none is needed. */
void aqd_page_wake(struct aq_page *page, uint32_t device);

/* Have the guard's own thread look at its page. */
void aqd_page_news(struct aq_page *page);

/* Hand a lease out: the page's waiters wake up. @turn is never that of the one before. */
void aqd_page_give(struct aq_page *page, uint32_t device, uint32_t turn, uint64_t until_ns);

/* Change the end of a lease; 0 ends it. Ordered before whatever is read from the page next. */
void aqd_page_set_until(struct aq_page *page, uint32_t device, uint64_t until_ns);

/* Does somebody wait for the device? AQ_WAITING_*. */
void aqd_page_set_waiting(struct aq_page *page, uint32_t device, uint32_t waiting);

/* How long before its work is done a lease is to be given back. */
void aqd_page_set_early(struct aq_page *page, uint32_t device, uint32_t early_ns);

/* The fraction's device time, which a daemon leaves for the next one. May be anything. */
void aqd_page_set_total(struct aq_page *page, uint32_t device, uint64_t total_ns);
uint64_t aqd_page_total(const struct aq_page *page, uint32_t device);

/* What a client says of one device, read word by word. */
struct aqd_page_says {
	bool want;
	uint32_t active_turn, done_turn;
	uint64_t gpu_ns;
	uint32_t edge_ns; /* may be one of a turn before */
};

struct aqd_page_says aqd_page_look(const struct aq_page *page, uint32_t device);

/* On which of its devices has the client a context? Bit i: the page's device i. */
uint32_t aqd_page_contexts(const struct aq_page *page);

#endif /* AQ_DAEMON_LEASE_PAGE_H */
