/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of flight.h: shared by flight.c (commands), flight_mark.c (marks), flight_wait.c (what
 * the program waits for) and account.c (device time). */
#ifndef AQ_GUARD_FLIGHT_PARTS_H
#define AQ_GUARD_FLIGHT_PARTS_H

#include <pthread.h>

#include "guard/flight.h"
#include "guard/instant.h"
#include "guard/lock.h"

#define AQ__MARKS 128u /* of one context, at a time; a power of two */
#define AQ__LANES 64u  /* streams of one context with something in flight */
#define AQ__SPANS 8u   /* up to 16 us, 32 us, ... */
#define AQ__KNOWN 64u  /* graphs whose length is remembered; a power of two */

/* An event behind some commands of one stream. */
struct aq__mark {
	CUevent event; /* made once for each place in the ring */
	bool recorded; /* the driver's call has returned */
	bool failed;   /* and there is nothing to wait for */
	uint32_t commands;
	uint64_t first_ns; /* host time: the first of them was not submitted yet */
	uint64_t from_ns;  /* host time: it was not reached yet */
	uint64_t est_ns;   /* what they were estimated to take */
	bool guessed;	   /* without having seen the like */
	uint64_t gap_ns;   /* the device had nothing of ours for so long since the mark before */
	const void *what;  /* the last of the commands is this graph */
	uint64_t doubt_ns; /* it may tell so much too late */
};

/* A stream with commands that have no mark behind them. */
struct aq__lane {
	CUstream stream;   /* NULL: free */
	pthread_t thread;  /* whose CU_STREAM_PER_THREAD it is; else 0 */
	uint32_t commands; /* without a mark */
	bool recording;	   /* somebody records on the stream now */
	bool guessed;
	uint64_t est_ns;
	uint64_t first_ns; /* host time: the first of them was not submitted yet */
	uint64_t last_ns;  /* host time of the last command */
	const void *what;  /* of the last command */
};

/*
 * Device time of a context. It is counted from `base`, an event at the beginning of a period, in
 * which the device is taken to be busy but for the gaps. Host and device time are compared for the
 * gaps, and for how far the device is: `at` is when the base was reached, by the host's clock.
 *
 * A *step* is what is submitted from when nothing is in flight until nothing is again. Short ones
 * that are waited for are *sampled*: some of them, at random, have a base and a mark of their own.
 * The others are a gap in the period, and count as those did that looked alike to the host.
 */
struct aq__account {
	CUevent base;
	CUevent base_before; /* the one before, which tells where this one lies; NULL: none yet */
	struct aq__instant at, at_before;
	bool at_known;	/* at_before: it has been reached */
	bool recording; /* somebody records the base now */
	bool open;
	bool late;     /* the base has not been seen to be reached */
	bool followed; /* all that is in flight was counted in; else the base is behind the rest */
	uint64_t recorded_ns; /* host time of the base's record */
	uint64_t done_ns;     /* since base: all up to here is counted */
	uint64_t gap_ns;      /* since done_ns */
	uint64_t idle_ns;     /* host time since when nothing is in flight; 0: something is */
	bool exact;	      /* a mark tells when that began: done_ns */
	uint64_t busy_ns;     /* counted, not harvested */
	uint64_t foretold_ns; /* harvested, not counted yet */

	/* The step. */
	uint64_t from_ns;  /* host time at which the device had its first command */
	uint64_t call_ns;  /* what a call takes that submits and is not held up, learned */
	uint64_t doubt_ns; /* that one took so much longer: before the device had it, or after */
	uint64_t took_ns;  /* by marks */
	uint32_t commands;
	bool sampled; /* it has a base, and is to be marked when it is waited for */
	bool marked;
	bool asked; /* somebody has asked whether it is done, and it was not */
	bool brief; /* marked only because it is sampled, and behind its end without delay */

	/* Sampling. */
	uint32_t steps_left; /* until the next sample */
	uint32_t random;
	uint32_t failed; /* samples in a row that were done before they could be marked */
	struct aq__samples {
		double took_ns, n; /* sums; older ones fade */
	} samples[AQ__SPANS];	   /* by how long they took as the host saw it */
};

/* What a command takes, learned; 0: not yet. */
struct aq__length {
	uint64_t ns;
	uint64_t last_ns; /* the last one took */
};

/* All under `lock`. Flights are never freed: a place is used again for another context. */
struct aq__flight {
	struct aq__lock lock;
	CUcontext ctx; /* NULL: free. Atomic: looked for without the lock */
	int index;
	uint32_t dying;	    /* calls under way that may end its context */
	uint32_t life;	    /* contexts that have had this place */
	bool reaping;	    /* somebody looks at the oldest marks */
	uint32_t pins;	    /* calls of the driver under way with events or streams of ctx */
	uint32_t commands;  /* in flight: of all marks and lanes */
	uint64_t est_ns;    /* of them */
	uint64_t since_ns;  /* host time: the device works on them at least since then */
	uint64_t last_ns;   /* host time of the last command */
	uint64_t looked_ns; /* at marks */
	uint64_t error_ns;  /* by which estimates of marks are wrong, learned */
	bool missed;	    /* the last one was far off */
	struct aq__length command;
	uint32_t first, last; /* marks [first, last), by number modulo AQ__MARKS */
	struct aq__account account;
	struct aq__mark marks[AQ__MARKS];
	struct aq__lane lanes[AQ__LANES];
	struct {
		const void *what;
		struct aq__length length;
	} known[AQ__KNOWN];
};

/* ---- flight.c ---- */

/* Place @i of those made, below aq__flights(). */
struct aq__flight *aq__flight_at(uint32_t i);

/* ---- flight_mark.c; lock held, but not while the driver is asked or another thread goes on ----
 */

/* Is it this thread's, or everybody's? */
bool aq__lane_is_own(const struct aq__lane *l);

/* The lane of a stream. NULL: there is none, or with @make no room for it. */
struct aq__lane *aq__lane_of(struct aq__flight *f, CUstream stream, bool make);

/* Its commands are done, as is known without a mark; @waited: by who waited for them. */
void aq__lane_done(struct aq__flight *f, struct aq__lane *l, uint64_t host_ns, bool waited);

/* Ask whether all on the lane is done. */
bool aq__lane_is_done(struct aq__flight *f, const struct aq__lane *l);

/* Put a mark behind all that is on the lane; its stream is not captured. */
void aq__mark_lane(struct aq__flight *f, struct aq__lane *l);

/* The same where that is not known. Return: false: it cannot be recorded on now. */
bool aq__mark_unless_captured(struct aq__flight *f, struct aq__lane *l);

/* The lane could not be marked: it is done after a while. */
void aq__mark_unmarkable(struct aq__flight *f, struct aq__lane *l);

/* Mark every lane that is not known to be done. */
void aq__mark_tails(struct aq__flight *f);

/* Record a base before the command. */
void aq__mark_base(struct aq__flight *f, const struct aq__command *c);

/* Look whether the base is reached. */
void aq__mark_look_at_base(struct aq__flight *f);

/* Look at the oldest marks, and count those reached. */
void aq__mark_reap(struct aq__flight *f);

/* Let another thread go on that looks at marks: with some queries, mostly. */
void aq__mark_pass_on(struct aq__flight *f);

/* ---- account.c; lock held ---- */

/* The device gets work at @now_ns. Return: whether the base has to be recorded before it. */
bool aq__account_start(struct aq__flight *f, uint64_t now_ns);

/* The first command of a step was submitted by a call from @from_ns to @now_ns. @prompt: since the
 * base was reached, or the step began, the device had nothing to do. */
void aq__account_began(struct aq__flight *f, bool prompt, uint64_t from_ns, uint64_t now_ns);

/* The step is marked because it is sampled; @done: too late, for it is or may be done already. */
void aq__account_sampled(struct aq__flight *f, bool done);

/* The base is about to be recorded, behind @now_ns; and has been, or not, by a call from
 * @from_ns to @to_ns. */
void aq__account_record(struct aq__flight *f, uint64_t now_ns);
void aq__account_recorded(struct aq__flight *f, bool recorded, uint64_t from_ns, uint64_t to_ns);

/* The base, which is late, was not reached yet at @now_ns. */
void aq__account_base_late(struct aq__flight *f, uint64_t now_ns);

/* It is reached, as is seen at @now_ns, @after_ns behind the one before (negative: unknown). */
void aq__account_base(struct aq__flight *f, int64_t after_ns, uint64_t now_ns);

/* The oldest mark is reached, @at_ns after the base (negative: unknown), as is seen at @now_ns:
 * count it, learn from it, take it out of the ring. */
void aq__account_reached(struct aq__flight *f, int64_t at_ns, uint64_t now_ns);

/* Were estimates wrong by less than @error_ns lately, and is the oldest mark not overdue either? */
bool aq__account_regular(const struct aq__flight *f, uint64_t error_ns, uint64_t now_ns);

/*
 * How long the device will be busy yet, by estimate. What it has worked off since is believed for
 * the commands up to the oldest mark only: of what is not confirmed more than that may be left.
 */
uint64_t aq__account_left(const struct aq__flight *f, uint64_t now_ns);

/* Nothing is in flight since @host_ns, as far as the host knows. */
void aq__account_idle(struct aq__flight *f, uint64_t host_ns);

/* The same, as somebody sees who waited for it, or asked. */
void aq__account_waited(struct aq__flight *f, uint64_t host_ns);

/* A call that waited returns at @now_ns, and all may have been known to be done before. */
void aq__account_told(struct aq__flight *f, uint64_t now_ns);

/* What is measured so far, once; @foretell: and estimated for the rest, of which what comes to be
 * measured is told no second time. */
uint64_t aq__account_harvest(struct aq__flight *f, bool foretell);

/* What the command will take, in ns; *ret_known: from experience. */
uint64_t aq__account_estimate(const struct aq__flight *f, const void *what, bool *ret_known);

#endif /* AQ_GUARD_FLIGHT_PARTS_H */
