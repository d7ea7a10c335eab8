/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of leases share among themselves. */
#ifndef AQ_DAEMON_LEASE_INTERNAL_H
#define AQ_DAEMON_LEASE_INTERNAL_H

#include "daemon/lease.h"

/* Every client of a fraction, with each device that it has there. */
#define AQD__EACH_PLACE(f, c, tmp, i)                                                              \
	AQ_LIST_FOREACH (c, tmp, &(f)->lessees, link)                                              \
		for (uint32_t i = 0; i < (f)->device_count; i++)

/* lease.c: give a client the lease that its fraction has. */
void aqd__lease_give(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
		     uint32_t index, uint64_t now_ns);

/* lease_stand.c: give and take away leases that may be taken up unasked, as things are after a
 * decision. Return: when to come again. */
uint64_t aqd__leases_stand(struct aqd_leases *l, uint64_t now_ns);

/* It is no more, on the device of that index. */
void aqd__lease_withdraw(struct aqd_lessee *c, uint32_t index);

/* When those of the fraction were taken up first, as far as pages say; now, if they were not. */
uint64_t aqd__lease_taken_ns(const struct aqd_lease *f, uint64_t now_ns);

/* The client was done with it before we looked: charge that. */
void aqd__lease_lapsed(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
		       uint32_t index, uint64_t now_ns);

/* lease.c: what is written to the page of who gets a lease. */
void aqd__lease_set_waiting(struct aqd_lessee *c, uint32_t index, uint32_t waiting);

/* lease_handover.c: the lease on the device of that index is back; somebody is seen to use it; how
 * early it is to be given back. */
struct aqd_page_says;
void aqd__handover_back(struct aqd_leases *l, struct aqd_lease *f, uint32_t index, uint64_t now_ns);
void aqd__handover_taken(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee_device *dev,
			 uint32_t index, const struct aqd_page_says *says);
uint32_t aqd__handover_early_ns(const struct aqd_leases *l, uint32_t device);

/* lease_manage.c: who is managed where, after who runs where has changed. */
void aqd__leases_manage(struct aqd_leases *l, uint64_t now_ns);

/* Has the client got a context? */
void aqd__lessee_look(struct aqd_leases *l, struct aqd_lessee *c, uint64_t now_ns);

/* lease_count.c: device time taken by the lease on the device of that index, counted once. */
uint64_t aqd__lease_count(struct aqd_leases *l, struct aqd_lease *f, uint32_t index,
			  uint64_t now_ns);

/* lease_use.c: have several clients used the lease that is given, as far as their pages say? */
bool aqd__lease_is_shared(const struct aqd_lease *f, uint32_t index);

/* Count @ns that were measured with the device to itself; or guessed, @most_ns at the most, since
 * others worked beside it: then samples may take some off, or add to it as far as that. */
void aqd__lease_measured(struct aqd_lease *f, uint32_t index, uint64_t ns, uint64_t now_ns);
void aqd__lease_guessed(struct aqd_lease *f, uint32_t index, uint64_t ns, uint64_t most_ns,
			uint64_t now_ns);

/* The same of an overrun that is over: what was sampled of it has been counted already. */
void aqd__lease_settled(struct aqd_lease *f, uint32_t index, uint64_t ns, uint64_t most_ns,
			uint64_t now_ns);

/* The driver sampled @ns of a client, of which @counted_ns were not measured: they count. */
void aqd__lease_sampled(struct aqd_lease *f, uint32_t index, uint64_t ns, uint64_t counted_ns,
			uint64_t now_ns);

/* What a page claims for the time without a lease: of a lease that did not end before the gates
 * opened, for instance. Counted, but not charged. */
void aqd__lease_collect(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			uint32_t index, uint64_t now_ns);

/* Write what was counted into the fraction's pages, and believe what an earlier daemon wrote. */
void aqd__lease_publish(struct aqd_lease *f, uint32_t index);
void aqd__lease_adopt_total(struct aqd_lease *f, struct aqd_lessee *c, uint32_t index,
			    uint64_t now_ns);

/* The gate is about to close or open: note how long it was open. */
void aqd__lease_open_until(struct aqd_lessee_device *dev, uint64_t now_ns);

/* The lease is given, or back, on these devices: time passes differently for overrunners. */
void aqd__lease_clocks(struct aqd_leases *l, struct aqd_lease *f, uint64_t devices, bool held,
		       uint64_t now_ns);

/* A client has work under way on a lease that is now taken as back. @passed: passed over. */
void aqd__lease_overruns(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			 uint32_t index, bool passed, uint64_t now_ns);

/* Tell of clients of the fraction that were passed over, and keep others waiting for longer than
 * the grace. Return: when to come again. */
uint64_t aqd__lease_passed_look(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns);

/* Has an overrunner been stopped, or sent on? */
void aqd__lease_late_look(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			  uint32_t index, uint64_t now_ns);

/* An overrunner has given back: what it ran on for is its fraction's debt. */
void aqd__lease_caught_up(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			  uint32_t index, uint64_t now_ns);

/* A client leaves as it is: what it has under way counts as far as is known. */
void aqd__lease_abandoned(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
			  uint32_t index, uint64_t now_ns);

#endif /* AQ_DAEMON_LEASE_INTERNAL_H */
