/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: the arbiter's decisions carried into pages, and what pages say carried to the arbiter.
 *
 * Knows pages and instants, but no loop, socket or clock: time is an argument, so that tests run
 * it in virtual time against pages that they play themselves. compute.c connects it to the daemon.
 *
 * A device is *managed* while two or more fractions run something on it; a fraction with a cap is
 * managed on all its devices. Elsewhere gates are open, and nothing here happens.
 *
 * The end of a lease: it is back when every client of the fraction is out, that is, has not used
 * it, or has given it back. Who is not out AQD_LEASE_GRACE_NS after the end while others wait has
 * *overrun*: the lease counts as back, the others go on beside it (the hardware divides the device
 * meanwhile), and what ran on is charged when the client gives back at last.
 *
 * Who goes first by priority does not wait for that: a lower lease is *passed over* at once, in the
 * same way, but without a word to anybody and without a debt, if it is given back within the grace.
 */
#ifndef AQ_DAEMON_LEASE_H
#define AQ_DAEMON_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/abi.h>

#include "base/list.h"
#include "core/arbiter.h"

/* Longer than what a guard has in flight (1 ms) and a busy machine needs to run its thread;
 * short enough that nobody waits long for one that cannot stop. */
#define AQD_LEASE_GRACE_NS (20 * AQ_NS_PER_MS)

/* One client on one device of its fraction. */
struct aqd_lessee_device {
	bool gated;	  /* AQ_GATE_LEASED is set */
	bool given;	  /* may hold the lease of @turn */
	bool standing;	  /* may take up the lease of @turn unasked; its fraction has none */
	bool taken;	  /* seen to use it */
	uint32_t waiting; /* as written to the page */
	bool deaf;	  /* its want does not count until it rings: it slept, or is late */
	bool late;	  /* still out after a lease that was taken as back */
	bool late_counts; /* late: competes for the device, as far as is known */
	bool passed;	  /* late, but not for long, nor by its fault: it was passed over */
	uint32_t turn;	  /* of the last lease given */
	uint32_t late_turn;
	uint64_t given_ns;	/* when */
	uint64_t late_from_ns;	/* late: when the first lease of this overrun was given */
	uint64_t late_since_ns; /* late: when it was taken as back */
	uint64_t late_clock_ns; /* late: the device's clock of overruns then */
	uint64_t late_held_ns;	/* late: its holder's clock when that lease was given */
	bool late_shared;	/* late: siblings used that lease as well */
	uint64_t late_paid_ns;	/* late: charged since by leases that it was given meanwhile */
	uint64_t gpu_ns;	/* of the page; counted already */
	uint64_t counted_ns;	/* when, but for the lease under way */
	uint64_t early_ns;	/* counted of the lease under way */
	uint64_t claimed_ns;	/* counted since it joined */
	uint64_t open_ns;	/* with the gate open, since the last sample */
	uint64_t open_from_ns;	/* ... counted up to here */
	uint64_t sampled_ns;	/* claimed_ns at the last sample */
	uint64_t others_ns;	/* claimed since, of which others had the device as well */
	uint32_t percent;	/* of the last sample */
};

/* One client. */
struct aqd_lessee {
	struct aq_list link;	 /* in aqd_lease.lessees */
	struct aqd_lease *lease; /* NULL: takes no part (not connected, or cut off) */
	struct aq_page *page;
	uint64_t joined_ns;
	uint64_t unseen_from_ns; /* without a daemon from then until it joined; 0: it was not */
	uint32_t running;	 /* bit i: it has a context on device i of the page */
	bool fresh;		 /* its gates are not known to be as they should */
	bool lied;		 /* about its device time; told once */
	struct aqd_lessee_device device[AQ_MAX_DEVICES];
};

/*
 * What leases measured on one device, and what the driver sampled, since the two were compared last
 * (lease_use.c). They differ by more than percents where the hardware sliced the device.
 */
struct aqd_lease_use {
	uint64_t since_ns;   /* when that was */
	uint64_t known_ns;   /* measured with the device to itself, or sampled: all of it counts */
	uint64_t guessed_ns; /* the rest, as far as leases tell */
	uint64_t counted_ns; /* ... as far as it was taken for work */
	uint64_t sampled_ns;
	uint64_t over_ns;     /* counted beyond what was sampled: to be withheld next */
	uint64_t withheld_ns; /* measured, ever, and not counted in the end */
	uint64_t ahead_ns;    /* sampled and counted, of overruns under way: not measured yet */
	uint64_t restored_ns; /* what an earlier daemon had counted */
	double siblings;      /* of guesses, the part that was siblings' or nobody's work; 0 to 1 */
	bool compared;	      /* that was learned */
};

/* One fraction. */
struct aqd_lease {
	struct aq_contender contender; /* of the arbiter while @joined */
	struct aq_list link;	       /* in aqd_leases.all */
	struct aq_list lessees;
	struct aq_arbiter_terms terms; /* .devices: on which it is managed now */
	uint32_t device_count;
	uint32_t device[AQ_MAX_DEVICES];  /* numbers of the devices, by index in the page */
	uint32_t running[AQ_MAX_DEVICES]; /* clients with a context there, by the same */
	bool joined;
	bool away;	     /* its memory is not on the device: its want does not count */
	bool given;	     /* pages have the lease, or may have */
	bool touched;	     /* something in its pages may have changed */
	uint32_t late;	     /* (client, device)s in overrun */
	uint64_t until_ns;   /* as written to the pages; 0: ended */
	uint64_t ended_ns;   /* ended: when */
	uint64_t awaited_ns; /* given: since when somebody else waits for it; 0 nobody did */
	uint64_t clock_ns[AQ_MAX_DEVICES];    /* given: the holder's clock then */
	uint64_t measured_ns[AQ_MAX_DEVICES]; /* given: so far */
	uint64_t early_ns[AQ_MAX_DEVICES];    /* given: ... and counted of that before its end */
	bool shared[AQ_MAX_DEVICES];	      /* given: several clients have used it */
	uint64_t wanted_ns;		      /* wants and has no lease: since when; else 0 */

	/* Accounts. */
	uint64_t born_ns;		  /* so no device was used for longer than since then */
	uint64_t gpu_ns[AQ_MAX_DEVICES];  /* device time, by index in the page */
	uint64_t ends_ns[AQ_MAX_DEVICES]; /* what was counted of leases ended no later */
	struct aqd_lease_use use[AQ_MAX_DEVICES];
	uint64_t grants, overruns;
	uint64_t wait_ns; /* spent wanting without a lease */
};

/* What the owner wants to be told. */
struct aqd_lease_ops {
	/* Open or close AQ_GATE_LEASED of a client. */
	void (*gate)(void *context, struct aqd_lessee *who, uint32_t index, bool closed);
	/* Is the process stopped? Then it has little under way, however late it is. */
	bool (*stopped)(void *context, struct aqd_lessee *who);
	void (*overran)(void *context, struct aqd_lessee *who, uint32_t index, uint64_t late_ns);
	void (*caught_up)(void *context, struct aqd_lessee *who, uint32_t index, uint64_t late_ns,
			  uint64_t debt_ns);
	void (*lied)(void *context, struct aqd_lessee *who, uint32_t index, uint64_t claimed_ns,
		     uint64_t possible_ns);
};

/* What is known of handing one device over (lease_handover.c). */
struct aqd_handover {
	uint64_t back_ns;  /* when it came back last */
	uint32_t early_ns; /* learned; 0: not yet */
	uint32_t end_ns;   /* when the work of that lease ends, as its guard said; low half */
	bool end_known;
};

struct aqd_leases {
	struct aq_arbiter arbiter;
	const struct aqd_lease_ops *ops;
	void *context;
	struct aq_list all;
	bool remanage;	  /* who runs where, or a cap, has changed */
	bool stirred;	  /* something that the arbiter decides by has changed */
	uint64_t next_ns; /* when it wants to decide again */
	uint32_t running[AQ_ARBITER_MAX_DEVICES]; /* fractions with a context, by device */
	struct aqd_handover handover[AQ_ARBITER_MAX_DEVICES];
	/* Time passes by 1/(1+n) beside n others that compete by hardware slices. */
	struct {
		uint32_t late;	    /* overrunners that are not stopped */
		bool held;	    /* somebody has the lease */
		uint64_t since_ns;  /* both clocks were brought up to date */
		uint64_t holder_ns; /* as it passes for who has the lease */
		uint64_t late_ns;   /* ... for an overrunner */
	} clock[AQ_ARBITER_MAX_DEVICES];
};

void aqd_leases_init(struct aqd_leases *l, const struct aq_arbiter_tuning *tuning,
		     const struct aqd_lease_ops *ops, void *context);

/**
 * aqd_lease_init() - a fraction begins; nobody runs in it yet.
 * @born_ns: when the fraction began
 * @device: numbers of its devices, below AQ_ARBITER_MAX_DEVICES, @count of them
 * @terms:  .devices does not matter
 */
void aqd_lease_init(struct aqd_leases *l, struct aqd_lease *f, const uint32_t *device,
		    uint32_t count, const struct aq_arbiter_terms *terms, uint64_t born_ns);

/* What an earlier daemon had counted on the device of that index; negative is nonsense. */
void aqd_lease_restore(struct aqd_lease *f, uint32_t index, int64_t gpu_ns);

/* Its terms are others from now on. */
void aqd_lease_change(struct aqd_leases *l, struct aqd_lease *f,
		      const struct aq_arbiter_terms *terms, uint64_t now_ns);

/* The fraction ends; its lessees must have left. */
void aqd_lease_finish(struct aqd_leases *l, struct aqd_lease *f, uint64_t now_ns);

/* A client with @page takes part from now on. What its page has counted before is no news. */
void aqd_lessee_join(struct aqd_leases *l, struct aqd_lease *f, struct aqd_lessee *c,
		     struct aq_page *page, uint64_t now_ns);

/*
 * It has joined, and an earlier daemon saw it last at @seen_ns (0: none), by its page: since then
 * it may have worked with its gates open, which counts as its first sample says. It may lie about
 * that at its own fraction's cost; a minute is believed.
 */
void aqd_lessee_resume(struct aqd_lessee *c, uint64_t seen_ns, uint64_t now_ns);

/* ... no more: it died, hung up or was cut off. It is out at once. Harmless when it does not. */
void aqd_lessee_leave(struct aqd_leases *l, struct aqd_lessee *c, uint64_t now_ns);

/* It rang for the devices of @mask. */
void aqd_lessee_rang(struct aqd_leases *l, struct aqd_lessee *c, uint32_t mask, uint64_t now_ns);

/* Look whether clients got a context, and collect what was counted while gates were open. */
void aqd_leases_look(struct aqd_leases *l, uint64_t now_ns);

/**
 * aqd_lessee_sampled() - the driver says how busy a client has kept a device lately.
 * Counts what of it was not measured by leases: work that was submitted while the gate was open.
 * The time between a client's last sample and its end counts as that sample says.
 * @span_ns: length of the sample
 */
void aqd_lessee_sampled(struct aqd_leases *l, struct aqd_lessee *c, uint32_t index,
			uint32_t percent, uint64_t span_ns, uint64_t now_ns);

/*
 * All of the fraction's clients have had their samples on the device of that index, as far as the
 * driver has any: compare them with what leases measured.
 */
void aqd_lease_compare(struct aqd_lease *f, uint32_t index, uint64_t now_ns);

/* Device time of the fraction so far, on the device of that index. */
uint64_t aqd_lease_gpu_ns(const struct aqd_lease *f, uint32_t index);

/**
 * aqd_leases_run() - decide, and carry out what is decided until nothing more follows from it.
 * To be called after every change, and at the instant that it returns.
 * Return: that instant, or AQ_ARBITER_NEVER
 */
uint64_t aqd_leases_run(struct aqd_leases *l, uint64_t now_ns);

/* Is the device divided by leases now? */
bool aqd_leases_manage(const struct aqd_leases *l, uint32_t device);

#endif /* AQ_DAEMON_LEASE_H */
