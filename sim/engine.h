/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device time. The compute engine of a simulated GPU is shared by contexts of many processes and
 * time-sliced between them as hardware does it; the copy engines serve in order of arrival.
 *
 * Nothing here burns time or sleeps. The state of a device is a record in shared memory that says
 * how things stood at some instant; whoever looks moves it on to the present by calculation, so
 * that starts and finishes are exact however late the looker was scheduled. What has been decided
 * is never changed afterwards: work that is handed over late begins late, unless the engine was
 * idle since (then nothing had been decided, and it begins when it says it could).
 *
 * Rules of the compute engine:
 *  - work of one context runs in order of submission, one at a time, not before its not_before_ns;
 *  - contexts with work that may run take turns in order of their index, slice_ns each; a context
 *    that runs out of work gives up the rest of its slice; alone, it is never interrupted;
 *  - taking over from another context costs switch_ns, which nobody is charged for.
 *
 * The functions of this file are pure: memory and instants are arguments; the caller holds a lock.
 * sim_time_*() in sim.h is what the rest of the simulator calls.
 */
#ifndef SIM_ENGINE_H
#define SIM_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_ENGINE_CONTEXTS 1024u /* contexts on one device at a time, of all processes */
#define SIM_ENGINE_RING 4096u	  /* last works of a context that are known; a power of two */
#define SIM_ENGINE_PAST 4096u	  /* ended contexts of which the account is kept */
#define SIM_ENGINE_GAPS 257u	  /* counters of idle time before a switch; the last: longer */
#define SIM_ENGINE_GAP_NS 5000ull /* width of each */
#define SIM_ENGINE_NONE UINT32_MAX
#define SIM_ENGINE_NEVER UINT64_MAX

enum sim_copy_engine {
	SIM_COPY_H2D,
	SIM_COPY_D2H,
	SIM_COPY_P2P, /* leaving this device for another */
	SIM_COPY_ENGINES,
};

struct sim_engine_work {
	uint64_t not_before_ns;
	uint64_t duration_ns;
	uint64_t start_ns;  /* valid once begun */
	uint64_t finish_ns; /* valid once finished */
};

/* One context's queue. Works are numbered from 0; number n lies in ring[n % SIM_ENGINE_RING]. */
struct sim_engine_context {
	uint32_t used;			    /* 0 or 1 */
	uint32_t process;		    /* slot of the owner in the machine's process table */
	uint64_t first;			    /* number of the first unfinished work; == last: none */
	uint64_t last;			    /* number that the next submitted work gets */
	uint64_t left_ns;		    /* of the work `first`, when begun */
	uint32_t begun;			    /* work `first` has run for a while */
	int32_t pid;			    /* of the owner, for the account; never read here */
	uint64_t slice_ns;		    /* 0: the engine's */
	uint64_t id;			    /* on this engine, from 1; never comes again */
	uint64_t busy_ns;		    /* compute time consumed */
	uint64_t copy_ns[SIM_COPY_ENGINES]; /* consumed of each copy engine */
};

/* What a context that has ended had consumed. */
struct sim_engine_past {
	uint64_t id;
	int32_t pid;
	uint32_t reserved;
	uint64_t busy_ns;
	uint64_t copy_ns[SIM_COPY_ENGINES];
};

/* Where the compute engine stands. */
struct sim_engine_clock {
	uint64_t slice_ns;
	uint64_t switch_ns;
	uint64_t now_ns;	/* all is decided up to here */
	uint64_t idle_since_ns; /* when nothing runs: since when; else SIM_ENGINE_NEVER */
	uint32_t running;	/* index that has the engine, or SIM_ENGINE_NONE */
	uint32_t loaded;	/* index that had it last: no switch cost to go on with that */
	uint64_t slice_left_ns;
	uint64_t switch_left_ns; /* of the switch under way */
	uint64_t busy_ns;	 /* sum over contexts, dead ones included */
	uint64_t switched_ns;	 /* spent on switches */
	uint64_t switches;
	uint32_t n_contexts; /* indices at and above this were never used */
	uint32_t reserved;
};

struct sim_engine {
	struct sim_engine_clock clock;
	uint64_t copy_free_ns[SIM_COPY_ENGINES]; /* when the last accepted copy ends */
	uint64_t copy_busy_ns[SIM_COPY_ENGINES];
	uint64_t n_attached; /* contexts so far */
	uint64_t n_past;     /* of them ended; number n lies in past[n % SIM_ENGINE_PAST] */
	uint64_t gaps[SIM_ENGINE_GAPS]; /* switches by how long the engine had been idle */
	struct sim_engine_past past[SIM_ENGINE_PAST];
	struct sim_engine_context contexts[SIM_ENGINE_CONTEXTS];
	struct sim_engine_work ring[SIM_ENGINE_CONTEXTS][SIM_ENGINE_RING];
};

/* Prepare zeroed memory. */
void sim_engine_init(struct sim_engine *e, uint64_t slice_ns, uint64_t switch_ns, uint64_t now_ns);

/**
 * sim_engine_attach() - get a queue.
 * @process:   owner, only kept
 * @pid:       of the owner, only kept; also when the context has ended
 * @ret_index: lowest free index
 * Return: 0; -ENOSPC all SIM_ENGINE_CONTEXTS are taken.
 */
int sim_engine_attach(struct sim_engine *e, uint32_t process, int32_t pid, uint32_t *ret_index);

/* Give a queue back; what is unfinished at @now_ns is dropped. Its account goes to `past`. */
void sim_engine_detach(struct sim_engine *e, uint32_t index, uint64_t now_ns);

/**
 * sim_engine_push() - hand over work.
 * @not_before_ns: instant, past or future. Works behind this one wait for it too.
 * @now_ns:        the present
 * @ret_number:    its number, by which it is asked for
 * Return: 0; -EAGAIN: SIM_ENGINE_RING - 1 works are unfinished; ask again after one has finished.
 */
int sim_engine_push(struct sim_engine *e, uint32_t index, uint64_t not_before_ns,
		    uint64_t duration_ns, uint64_t now_ns, uint64_t *ret_number);

/* Decide everything up to @now_ns; does nothing when that is past already. */
void sim_engine_advance(struct sim_engine *e, uint64_t now_ns);

/**
 * sim_engine_times() - what is decided about a work.
 * Return: 1 finished, both times set; 0 not yet (only *ret_start_ns set, SIM_ENGINE_NEVER when it
 * has not begun); -ENOENT never submitted, or more than SIM_ENGINE_RING - 1 works ago.
 */
int sim_engine_times(const struct sim_engine *e, uint32_t index, uint64_t number,
		     uint64_t *ret_start_ns, uint64_t *ret_finish_ns);

/**
 * sim_engine_predict() - the instant at which @number ends if no context hands over more.
 * Exact for a context that is alone; with others, a lower bound once the answer is more than some
 * thousand slices away. Later arrivals can only make it later; a context that goes away, sooner.
 * Return: instant; for a finished or unknown work, 0.
 */
uint64_t sim_engine_predict(const struct sim_engine *e, uint32_t index, uint64_t number);

/* Unfinished works of a context. */
uint64_t sim_engine_pending(const struct sim_engine *e, uint32_t index);

/**
 * sim_engine_copy() - let a copy engine work; decided at once.
 * @index: context that is charged, or SIM_ENGINE_NONE
 */
void sim_engine_copy(struct sim_engine *e, uint32_t index, enum sim_copy_engine engine,
		     uint64_t not_before_ns, uint64_t duration_ns, uint64_t *ret_start_ns,
		     uint64_t *ret_finish_ns);

/* After somebody died while changing @e: make it consistent, losing at most the step under way. */
void sim_engine_repair(struct sim_engine *e);

#endif /* SIM_ENGINE_H */
