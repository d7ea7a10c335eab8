/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The execution side of the simulated driver: streams, what is handed to them, and when it is done.
 *
 * An operation is *issued* when what it depends on is known well enough to hand it to the device's
 * engines: then its bytes are moved (or its known kernel computed) and its device time is taken.
 * Operations of one context's compute queue are issued far ahead of the time at which the device
 * would run them, since the queue keeps their order; others wait until the instant before them is
 * *decided*. What a program sees as done (synchronise, query, events, host functions) is never
 * ahead of device time.
 *
 * Whoever holds the lock may issue: the calling thread does so at once when nothing stands before
 * its operation, so that a launch wakes nobody; a synchronising thread looks after its own stream;
 * the executor thread does the rest, and sleeps until the next instant at which something is due.
 *
 * Locks: exec.lock guards everything in this file unless it is said otherwise. It is outside all
 * locks of sim.h and machine.h, and is not held while bytes of any amount are moved or code of the
 * program runs.
 */
#ifndef SIM_EXEC_H
#define SIM_EXEC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "cuda/cuda_abi.h"
#include "sim.h"
#include "task.h"

#define SIM_STREAM_MAGIC 0x53494d54u
#define SIM_EVENT_MAGIC 0x53494d45u
#define SIM_STREAM_DEPTH                                                                           \
	1024u /* operations in a stream before a launch waits; guess, what programs                \
		 see on hardware lies about there */
#define SIM_NEVER UINT64_MAX

struct sim_capturing;
struct sim_green;

/* An instant that may not be decided yet: the later of floor_ns and the end of a compute ticket. */
struct sim_when {
	uint64_t floor_ns;
	uint64_t ticket;     /* valid when @on is not NULL */
	struct sim_exec *on; /* context that has the ticket */
};

/* A point in a stream that others wait for. */
enum sim_mark_state {
	SIM_MARK_QUEUED,  /* its operation has not been issued */
	SIM_MARK_ISSUED,  /* @when holds */
	SIM_MARK_DECIDED, /* @at_ns holds, which may be ahead of now */
};

struct sim_mark {
	unsigned int refs;
	enum sim_mark_state state;
	struct sim_when when;
	uint64_t at_ns;
	struct aq_list link; /* sim_exec.marks while it has a ticket */
};

/* One operation. */
struct sim_op {
	struct aq_list link; /* sim_stream.queue */
	uint64_t seq;	     /* order of submission in the context, from 1 */
	uint64_t api_ns;     /* when it was submitted: it cannot begin before */
	unsigned int polls;  /* how often a memory wait has looked */
	struct sim_task task;
};

enum sim_stream_kind {
	SIM_STREAM_LEGACY,
	SIM_STREAM_PER_THREAD,
	SIM_STREAM_CREATED,
};

struct sim_stream {
	uint32_t magic; /* 0 once destroyed */
	enum sim_stream_kind kind;
	bool blocking;	       /* synchronises with the legacy stream */
	bool destroyed;	       /* goes away when it has run empty */
	bool busy;	       /* somebody is performing the head of the queue without the lock */
	unsigned int attended; /* threads that synchronise with it and issue for it */
	int priority;
	unsigned int flags; /* as given */
	uint64_t id;
	struct sim_exec *exec;
	struct sim_green *green; /* that it was made in, NULL none; under the lock */
	struct aq_list link;  /* sim_exec.streams */
	struct aq_list queue; /* not issued */
	unsigned int n_queued;
	unsigned int n_deferred; /* calls to make once due */
	unsigned int n_calling;	 /* of them, being made */
	struct sim_when tail;	 /* of what is issued */
	uint64_t n_issued;
	uint64_t *depth; /* SIM_STREAM_DEPTH of the last issued: ticket * 2 + 1, or finish_ns * 2 */
	CUsynchronizationPolicy sync_policy;
	CUlaunchAttributeValue attrs[4]; /* stream.c: window, sync policy, domain map, domain */
	struct sim_capturing *_Atomic capturing; /* capture.c; NULL: does not capture */
};

struct sim_exec {
	struct sim_context *ctx;
	uint64_t id;
	struct aq_list link; /* sim_executor.execs */
	struct aq_list streams;
	struct sim_stream legacy;
	uint64_t seq;	       /* of the last operation */
	unsigned int n_queued; /* over all streams */
	struct sim_when
		blocking_when;	  /* later of all issued in streams that the legacy one waits for */
	struct sim_when all_when; /* of all issued */
	uint64_t n_tickets;	  /* handed out: the next has this number */
	uint64_t n_finished;	  /* of these, as last seen */
	struct aq_list marks;	  /* undecided, by ticket */
	struct aq_list deferred;  /* struct deferred of executor.c */
	struct aq_list events;	  /* event.c */
	struct aq_list modules;	  /* module.c */
	_Atomic unsigned int n_captures; /* streams of this context that capture */
};

struct sim_executor {
	pthread_mutex_t lock;
	pthread_cond_t work;	 /* the executor waits here */
	pthread_cond_t progress; /* everybody else */
	struct aq_list execs;	 /* struct sim_exec */
	struct aq_list graves;	 /* things behind handles of contexts that are gone: kept, so that a
				    handle that is used too late is recognised by its magic */
	bool started;
	bool kicked;		/* since the executor looked last */
	uint64_t wake_ns;	/* when the executor looks again by itself; 0: it is awake */
	unsigned int n_blocked; /* threads in `progress` that wait for others' operations */
	bool executor_blocked;	/* something the executor has waits for others' operations */
	uint64_t releases;	/* times that the lock was released while something was performed */
	uint64_t next_stream_id;
};

extern struct sim_executor sim_executor;

static inline void sim_exec_lock(void)
{
	pthread_mutex_lock(&sim_executor.lock);
}

static inline void sim_exec_unlock(void)
{
	pthread_mutex_unlock(&sim_executor.lock);
}

/*
 * Instants (timeline.c). All with the lock held.
 */

/* @into becomes the later of both. Return: false when two undecided tickets of different contexts
 * cannot be compared yet; then @into is unchanged. */
bool sim_when_merge(struct sim_when *into, const struct sim_when *other);

/**
 * sim_when_decided() - whether an instant is known, and which.
 * Turns @w into a mere floor when it is.
 * Return: true: *ret_ns is the instant, past or future; false: *ret_ns is the prediction.
 */
bool sim_when_decided(struct sim_when *w, uint64_t *ret_ns);

/* Whether an instant is past; cheap while the context makes no progress. */
bool sim_when_past(struct sim_when *w, uint64_t now_ns);

/* A mark with one reference, not issued yet; NULL: no memory. */
struct sim_mark *sim_mark_create(void);
struct sim_mark *sim_mark_get(struct sim_mark *m);
/* @m may be NULL. */
void sim_mark_put(struct sim_mark *m);
void sim_mark_issue(struct sim_mark *m, const struct sim_when *when);
/* As sim_when_decided(); not for a queued mark. */
bool sim_mark_decided(struct sim_mark *m, uint64_t *ret_ns);
/* Whether what it marks is done. */
bool sim_mark_past(struct sim_mark *m, uint64_t now_ns);
/* Take the exact times of marks before the engine forgets them. */
void sim_marks_refresh(struct sim_exec *x);

/*
 * Issuing (issue.c).
 */

enum sim_issue {
	SIM_ISSUED,
	SIM_LATER,   /* try again at *wake_ns */
	SIM_BLOCKED, /* waits for an operation of another stream that is not issued yet */
	SIM_RUNNING, /* on another thread, which will finish it */
};

/**
 * sim_issue_task() - what operations of streams and nodes of graphs have in common.
 * @x: context on whose device it runs
 * @t: not HOST, CALL or GRAPH
 * @base: what it depends on; its end, when it was issued
 * @polls: 0 at first, counts for MEMOPS
 * @light: the lock is not to be released
 * Context: with the lock held; without @light it is released while bytes are moved, with s->busy
 * set.
 */
enum sim_issue sim_issue_task(struct sim_stream *s, struct sim_exec *x, struct sim_task *t,
			      struct sim_when *base, unsigned int *polls, bool light,
			      uint64_t *wake_ns);

/* The parts of it, for work of the compute queue: whether it can be handed over now; hand over
 * @cost_ns, which makes *@base the end; move the bytes. */
enum sim_issue sim_issue_ready(struct sim_exec *x, struct sim_when *base, uint64_t *wake_ns);
enum sim_issue sim_issue_cost(struct sim_exec *x, struct sim_when *base, uint64_t cost_ns,
			      uint64_t *wake_ns);
void sim_perform(struct sim_stream *s, struct sim_exec *x, struct sim_task *t, bool light);

/* Issue one operation of @s. With the lock held, likewise. */
enum sim_issue sim_issue_op(struct sim_stream *s, struct sim_op *op, bool light, uint64_t *wake_ns);

/**
 * sim_stream_pump() - issue what can be issued of a stream.
 * @wake_ns: set to when to try again, if that is sooner
 * @blocked: set when it waits for others' operations
 * Context: with the lock held, which is released while bytes are moved. A stream that was destroyed
 * is to be reaped by the caller.
 * Return: whether anything was issued, or the lock was released.
 */
bool sim_stream_pump(struct sim_stream *s, uint64_t *wake_ns, bool *blocked);

/* Whether an operation of a stream that the legacy one waits for was submitted before @seq and has
 * not been issued. */
bool sim_older_queued(const struct sim_exec *x, uint64_t seq);

/* The head of @s, which was RUNNING, is done; s->tail says when. With the lock held. */
void sim_stream_head_done(struct sim_stream *s);

/*
 * Going on (executor.c).
 */

/**
 * sim_submit() - hand an operation to a stream.
 * @t: is copied where it has to wait; stays the caller's
 * @wait: return when it is done
 * Context: without the lock. Blocks while the stream is full.
 * Return: CUDA_SUCCESS, CUDA_ERROR_OUT_OF_MEMORY, or with @wait what the context fails with.
 */
CUresult sim_submit(struct sim_stream *s, struct sim_task *t, bool wait);

/* Record @m in @s. The mark is issued or queued afterwards. With the lock held. */
CUresult sim_submit_mark(struct sim_stream *s, struct sim_mark *m);

/* Wait until @m is past; issues for @s meanwhile when that is not NULL. With the lock held, which
 * is released while waiting. */
void sim_wait_mark(struct sim_stream *s, struct sim_mark *m);

/* Synchronise with a stream, or with all of a context: wait for what they were given so far, and
 * make the calls that are due. Without the lock. Return: the context's sticky error. */
CUresult sim_wait_stream(struct sim_stream *s);
CUresult sim_wait_context(struct sim_exec *x);

/* Wait until what the streams of @x hold has been issued, and hand @t to all of them. With the lock
 * held; the first releases it while waiting. */
void sim_wait_issued(struct sim_exec *x);
CUresult sim_submit_all(struct sim_exec *x, struct sim_task *t);

/* Whether everything in a stream is done. With the lock held. */
bool sim_stream_idle(struct sim_stream *s);

/* Make a CALL when @base is past; the stream goes on meanwhile. With the lock held. */
enum sim_issue sim_defer(struct sim_stream *s, const struct sim_task *t,
			 const struct sim_when *base, uint64_t *wake_ns);

/* Keep the memory of a thing behind a handle; its magic must be 0. With the lock held. */
static inline void sim_exec_bury(struct aq_list *link)
{
	aq_list_append(&sim_executor.graves, link);
}

/* Something was issued or done: others that wait for it may go on. With the lock held. */
void sim_exec_progress(void);

/* Make the executor look again; starts it at first. With the lock held. */
void sim_exec_kick(void);

/* Free a stream that has been destroyed and run empty. With the lock held. */
void sim_stream_reap(struct sim_stream *s);

/* A detached thread without signals. Return: 0 or negative errno. */
int sim_thread_start(void *(*main)(void *), void *arg);

/* hostfunc.c: run @t on the thread for the program's functions; @done(arg) is called with the lock
 * held when it has returned. With the lock held. Return: 0 or negative errno. */
int sim_host_run(const struct sim_host_task *t, CUresult status, void (*done)(void *), void *arg);

#endif /* SIM_EXEC_H */
