/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arbiter: who holds the lease of which device next, and until when.
 *
 * Pure: instants and measured device time are arguments; the same events give the same schedule.
 * All objects are the caller's. One contender is one fraction; a fraction on several devices holds
 * all their leases or none (a gang), or its processes would wait for each other.
 *
 * The rule. Every contender with work is *owed* its request of the time that passes: its lag grows
 * by request x time and shrinks by the device time that it was measured to use. Whoever has a lag
 * of zero or more is owed, and goes before everybody who is not. Among the owed the earliest
 * deadline wins (earliest eligible virtual deadline first: Stoica and Abdel-Wahab 1995), where the
 * deadline is when the lag would have grown for a patience that is shorter the higher the priority.
 * As requests sum up to one device at the most, all deadlines can be met, so shares hold; and as a
 * high priority has no patience, it goes first. What is left over goes to the highest priority, and
 * within it by weight.
 *
 * A lease lasts a quantum while others wait, and another one when its holder would be next again:
 * that is decided some time before, so that nobody drains in vain.
 *
 * A lease of what is left over ends soon when somebody who is owed comes.
 *
 * What was handed out beyond a request is forgiven but for a rest, so that it does not delay its
 * owner's guarantee later. What was taken after the end of a lease that others waited for (a kernel
 * that would not stop) is a debt, and is paid back in full: until then it goes behind others when
 * what is left over is handed out. One such kernel that took long makes it keep out of the pauses
 * of others, too: let in there, it would be at it again, and never pay.
 */
#ifndef AQ_CORE_ARBITER_H
#define AQ_CORE_ARBITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define AQ_ARBITER_NEVER UINT64_MAX
#define AQ_ARBITER_MAX_DEVICES 64u /* bits of a device set */
#define AQ_ARBITER_PRIORITIES 3u   /* 0 low, 1 normal, 2 high */

enum aq_lease_state {
	AQ_LEASE_NONE,	   /* does not hold */
	AQ_LEASE_HELD,	   /* may submit until lease_until_ns */
	AQ_LEASE_DRAINING, /* may not submit; what is in flight still runs */
};

/* What a fraction is entitled to of each of its devices. */
struct aq_arbiter_terms {
	uint64_t devices;	   /* set of device numbers, not empty */
	uint32_t request_permille; /* guaranteed, 0..1000 */
	uint32_t limit_permille;   /* cap, 1..1000, >= request */
	uint32_t priority;	   /* 0..AQ_ARBITER_PRIORITIES - 1 */
};

struct aq_contender {
	struct aq_list link; /* in aq_arbiter.contenders; order of joining breaks ties */
	struct aq_arbiter_terms terms;
	bool wants; /* has work to submit, or submits it now */
	enum aq_lease_state state;
	bool changed;	 /* by aq_arbiter_decide(); the caller acts on it and clears it */
	bool waited_for; /* as of the last decision: somebody waits for a device of its lease */
	bool urgent;	 /* ... and goes first by its priority: not to wait for what is in flight */
	bool company;	 /* ... or did lately, or would go first: have little in flight */
	uint64_t lease_start_ns;
	uint64_t lease_until_ns; /* AQ_ARBITER_NEVER: until told otherwise */
	uint64_t service_ns;	 /* device time measured so far */

	/* Private. */
	uint64_t updated_ns;
	int64_t lag_ns;	    /* owed when >= 0 */
	int64_t debt_ns;    /* of the lag: taken after the end of a lease that others waited for */
	bool grave;	    /* ... by running on for long, once */
	uint32_t overruns;  /* under way */
	int64_t put_by_ns;  /* earned during these without work that waits */
	int64_t bucket_ns;  /* device time that the cap allows now */
	bool refilling;	    /* the bucket was used up, and is not yet full enough to go on */
	uint64_t vtime_ns;  /* service by weight, for what is left over */
	uint64_t rested_ns; /* had its last work */
	bool unseen;	    /* has its devices to itself, and is not measured */
	uint64_t turn_end_ns;	   /* of the lease, as long as others wait */
	bool leftover;		   /* was not owed the lease when it was given */
	bool contested;		   /* somebody else wanted a device of it during this lease */
	uint64_t bound_ns;	   /* the lease is of devices kept for a gang until then */
	uint64_t blocked_until_ns; /* within one decision: passed over */
};

struct aq_arbiter_tuning {
	uint64_t quantum_ns;			     /* a lease when others wait */
	uint64_t patience_ns[AQ_ARBITER_PRIORITIES]; /* by priority */
	uint64_t burst_ns;			     /* how far a cap may run ahead */
	uint64_t refill_ns;  /* of device time that a cap lets one save up before one goes on */
	uint64_t linger_ns;  /* who pauses for less than this keeps what it is owed */
	uint64_t company_ns; /* for so long after its last work one counts as company */
	uint64_t surplus_ns; /* kept of what was had beyond the request */
	uint64_t grave_ns;   /* an overrun of so much device time keeps out of others' pauses */
	uint64_t claim_ns;   /* at the most is kept of what one is owed who is not seen ... */
	uint64_t recent_ns;  /* ... and for so long */
};

struct aq_arbiter {
	struct aq_arbiter_tuning tuning;
	struct aq_list contenders;
	uint64_t decisions; /* made so far; for measuring */
};

/* Defaults, with their reasons. */
extern const struct aq_arbiter_tuning aq_arbiter_defaults;

void aq_arbiter_init(struct aq_arbiter *a, const struct aq_arbiter_tuning *tuning);

/* Return: 0; -EINVAL terms that are none. @c is the caller's, linked until aq_arbiter_leave(). */
int aq_arbiter_join(struct aq_arbiter *a, struct aq_contender *c,
		    const struct aq_arbiter_terms *terms, uint64_t now_ns);

/* Change terms from now on; the past stays settled by the old ones. Return: 0 or -EINVAL. */
int aq_arbiter_change(struct aq_arbiter *a, struct aq_contender *c,
		      const struct aq_arbiter_terms *terms, uint64_t now_ns);

/* Whatever it held is free. */
void aq_arbiter_leave(struct aq_contender *c);

/* The contender has work from now on, or has none any more. Decide again after it. */
void aq_arbiter_want(struct aq_arbiter *a, struct aq_contender *c, bool wants, uint64_t now_ns);

/**
 * aq_arbiter_unseen() - it has its devices to itself from now on, and wants no lease.
 * Until it wants one again it is taken to use them all the time. What it is owed by then, by those
 * who ran on and are gone, is left to it: who comes next may be the same again.
 */
void aq_arbiter_unseen(struct aq_arbiter *a, struct aq_contender *c, uint64_t now_ns);

/**
 * aq_arbiter_released() - the lease is back, nothing of it is in flight.
 * @used_ns: device time that was measured for this lease, on the device that it used most
 */
void aq_arbiter_released(struct aq_arbiter *a, struct aq_contender *c, uint64_t used_ns,
			 uint64_t now_ns);

/* What the contender had in flight runs on after its lease was taken as back: until it is charged
 * for that. What it is entitled to in that time is put by, for it does use the device. */
void aq_arbiter_overruns(struct aq_arbiter *a, struct aq_contender *c, uint64_t now_ns);

/**
 * aq_arbiter_add() - of a lease that was passed over for somebody urgent, @used_ns more was in
 * flight than was counted when it was taken as back. No debt: nobody waited for it.
 */
void aq_arbiter_add(struct aq_arbiter *a, struct aq_contender *c, uint64_t used_ns,
		    uint64_t now_ns);

/**
 * aq_arbiter_charge() - the end of an overrun: for @used_ns it used the device without a lease.
 * What that is beyond its request is a debt, paid back in full; all of it counts against the cap. A
 * lease under way goes on.
 */
void aq_arbiter_charge(struct aq_arbiter *a, struct aq_contender *c, uint64_t used_ns,
		       uint64_t now_ns);

/**
 * aq_arbiter_decide() - hand out and take back leases, as things are at @now_ns.
 * Contenders whose state or end of lease is another now have `changed` set. A lease that ends with
 * nobody waiting is extended. Call after every event and at the instant that it returns.
 * Return: when to call again at the latest, or AQ_ARBITER_NEVER
 */
uint64_t aq_arbiter_decide(struct aq_arbiter *a, uint64_t now_ns);

/**
 * aq_arbiter_goes_first() - would it be given its device at once if it wanted it now, ahead of a
 * holder of a lower priority and of all who wait? To be asked right after aq_arbiter_decide().
 * @ret_next_ns: set where it would not: when it may be so, if nothing else happens
 */
bool aq_arbiter_goes_first(const struct aq_arbiter *a, const struct aq_contender *c,
			   uint64_t now_ns, uint64_t *ret_next_ns);

/* What the contender is owed now (negative: had too much), the lease under way included. */
int64_t aq_arbiter_lag(const struct aq_arbiter *a, const struct aq_contender *c, uint64_t now_ns);

#endif /* AQ_CORE_ARBITER_H */
