/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who makes room on a full device, and how: the order in which memory is taken back.
 *
 * Pure: what is known of every fraction on the device goes in, steps come out, nothing is changed.
 * The order: unused grants; the room of parked fractions; idle borrowers parked; borrowers asked to
 * shrink; borrowers that are busy parked, in turns; the growth refused; and only where the
 * administrator allows it and a guarantee cannot be met otherwise, a borrower ended. A borrower is
 * a fraction that uses more than its request. Whoever does not is never touched.
 *
 * Nothing is taken from anybody when all that may be taken would not do: then the answer is no.
 *
 * Turns. Moving costs time in which nobody computes, so a fraction with work stays for at
 * least `residence_factor` times what moving it out and in again was measured to take, before
 * somebody else's burst sends it away: however many want the same memory, no more than one part in
 * 1 + residence_factor of the time goes into moving. A guarantee does not wait for that: it cannot
 * be sent away in return, so there is no thrashing.
 */
#ifndef AQ_CORE_RECLAIM_H
#define AQ_CORE_RECLAIM_H

#include <stdbool.h>
#include <stdint.h>

#define AQ_RECLAIM_NEVER UINT64_MAX

enum aq_reclaim_place {
	AQ_RECLAIM_HERE,    /* on the device */
	AQ_RECLAIM_LEAVING, /* being parked: its room comes without doing anything */
	AQ_RECLAIM_AWAY,    /* parked */
	AQ_RECLAIM_COMING,  /* being resumed: cannot be touched before it is there */
};

/* What is known of one fraction on the device, the one that needs room left out. */
struct aq_reclaim_candidate {
	void *owner; /* the caller's */
	enum aq_reclaim_place place;
	uint64_t committed_bytes; /* kept from others now */
	uint64_t settled_bytes;	  /* ... when its unused grants are taken back; <= committed */
	uint64_t used_bytes;
	uint64_t request_bytes;
	uint64_t movable_bytes; /* of what it uses; what it leaves is lent beyond its request */
	bool parkable;		/* the host has room for it */
	bool hears;		/* somebody in it listens to requests to shrink */
	uint64_t asked_ns;	/* so long ago it was asked to; NEVER: not */
	uint64_t idle_ns;	/* without work for so long */
	uint64_t resident_ns;	/* on the device for so long */
	uint64_t move_ns;	/* what parking and resuming it takes */
	uint32_t priority;
};

struct aq_reclaim_need {
	uint64_t short_bytes; /* that others must give up */
	bool entitled;	      /* a request is to be met, not a burst */
	bool fixed;	      /* for what cannot move: nothing that is lent is for it */
	uint32_t priority;
};

struct aq_reclaim_policy {
	uint64_t idle_ns;	   /* idle from then on */
	uint64_t shrink_ns;	   /* so long those who hear may take */
	uint32_t residence_factor; /* see above */
	bool may_kill;
};

extern const struct aq_reclaim_policy aq_reclaim_defaults;

enum aq_reclaim_kind {
	AQ_RECLAIM_REVOKE, /* take unused grants back */
	AQ_RECLAIM_LEND,   /* lend what a parked one requests */
	AQ_RECLAIM_PARK,
	AQ_RECLAIM_SHRINK, /* ask to use no more than @bytes less */
	AQ_RECLAIM_KILL,
};

struct aq_reclaim_step {
	enum aq_reclaim_kind kind;
	uint32_t candidate; /* index */
	uint64_t bytes;	    /* room that it makes, or is asked for */
	bool busy;	    /* PARK: it has work: demand is more than the device */
};

enum aq_reclaim_answer {
	AQ_RECLAIM_NOTHING, /* nothing was short */
	AQ_RECLAIM_DO,	    /* the steps, and what is under way, will do */
	AQ_RECLAIM_WAIT,    /* it will do, but not before `again_ns` from now; steps may be there */
	AQ_RECLAIM_REFUSE,  /* it cannot be had; no step but unused grants and parked room */
};

struct aq_reclaim_plan {
	enum aq_reclaim_answer answer;
	uint64_t again_ns; /* WAIT: ask again then; NEVER: when something has changed */
	uint32_t count;
};

/**
 * aq_reclaim_plan() - what to do about a need.
 * @c:     candidates, in no order; ties go to the lower index
 * @steps: room for 2 * @count of them; in the order in which to do them
 */
struct aq_reclaim_plan aq_reclaim_plan(const struct aq_reclaim_policy *policy,
				       const struct aq_reclaim_need *need,
				       const struct aq_reclaim_candidate *c, uint32_t count,
				       struct aq_reclaim_step *steps);

/* What could be taken for a need of this kind, by every step but asking and killing. */
uint64_t aq_reclaim_possible(const struct aq_reclaim_policy *policy,
			     const struct aq_reclaim_need *need,
			     const struct aq_reclaim_candidate *c, uint32_t count);

/*
 * Programs with work that want more than a device has, told once: an episode lasts until nobody
 * with work had to leave for a minute and for twice the time that the last one in its place stays.
 */
struct aq_reclaim_episode {
	uint64_t until_ns; /* 0: there was none yet */
};

/**
 * aq_reclaim_thrashes() - somebody with work has to leave for another.
 * @stay_ns: for so long at least the other stays in turn
 * Return: this begins an episode; false: it belongs to one that has been told
 */
bool aq_reclaim_thrashes(struct aq_reclaim_episode *e, uint64_t now_ns, uint64_t stay_ns);

#endif /* AQ_CORE_RECLAIM_H */
