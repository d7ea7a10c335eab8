/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Issues what streams hold, as soon as it can be issued, and lets threads wait; see exec.h. Knows
 * nothing of handles, captures and arguments: callers have checked them.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "exec.h"
#include "graph_run.h"

#include "base/banned.h"
#include "base/timing.h"

/* Compute work is handed over this long before it may begin, so that a late wake-up is not seen. It
 * holds up the queue of its context for as long, so it is kept near the latency of a wake-up. */
#define EARLY_NS 30000u

/* The end of a wait is spent looking at the clock, as drivers do, who spend all of it so: waking up
 * takes this long. The executor need not be as exact. */
#define SPIN_NS 50000u
#define EXECUTOR_SPIN_NS 2000u

/* Nobody sleeps longer on a prediction: another context may have gone away meanwhile. */
#define LONGEST_SLEEP_NS (10 * AQ_NS_PER_MS)

/* Intervals between looks at memory that a stream waits for. */
#define POLL_FIRST_NS (10 * AQ_NS_PER_US)
#define POLL_LAST_NS AQ_NS_PER_MS

/* A call to make when an instant is past; the stream does not wait for it. */
struct deferred {
	struct aq_list link; /* sim_exec.deferred */
	struct sim_stream *stream;
	struct sim_when when;
	void (*fn)(void *);
	void *arg;
};

struct sim_executor sim_executor = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.progress = PTHREAD_COND_INITIALIZER,
	.execs = {&sim_executor.execs, &sim_executor.execs},
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Sleep on @cond until @wake_ns with the precision of the timer, not that of the thread, and look
 * at the clock for the last @spin_ns. */
static void sleep_on(pthread_cond_t *cond, uint64_t wake_ns, uint64_t spin_ns)
{
	uint64_t now = aq_now_ns();
	struct timespec ts;
	int slack;

	if (wake_ns <= now)
		return;
	if (wake_ns - now <= spin_ns) {
		sim_exec_unlock();
		while (aq_now_ns() < wake_ns)
			__builtin_ia32_pause();
		sim_exec_lock();
		return;
	}
	wake_ns = min_u64(wake_ns - spin_ns, now + LONGEST_SLEEP_NS);
	ts.tv_sec = (time_t)(wake_ns / AQ_NS_PER_S);
	ts.tv_nsec = (long)(wake_ns % AQ_NS_PER_S);
	slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	if (slack > 1)
		prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	pthread_cond_clockwait(cond, &sim_executor.lock, CLOCK_MONOTONIC, &ts);
	if (slack > 1)
		prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0, 0, 0);
}

/* Wait as a thread of the program. @blocked: for somebody else's operation, not only for time. */
static void wait_progress(uint64_t wake_ns, bool blocked)
{
	sim_executor.n_blocked += blocked;
	if (wake_ns == SIM_NEVER)
		pthread_cond_wait(&sim_executor.progress, &sim_executor.lock);
	else
		sleep_on(&sim_executor.progress, wake_ns, SPIN_NS);
	sim_executor.n_blocked -= blocked;
}

void sim_exec_progress(void)
{
	if (sim_executor.n_blocked)
		pthread_cond_broadcast(&sim_executor.progress);
	if (sim_executor.executor_blocked)
		sim_exec_kick();
}

/*
 * Issuing.
 */

static void fail_context(struct sim_exec *x, CUresult r)
{
	if (r != CUDA_SUCCESS && x->ctx->sticky == CUDA_SUCCESS)
		x->ctx->sticky = r;
}

void sim_perform(struct sim_stream *s, struct sim_exec *x, struct sim_task *t, bool light)
{
	CUresult r;

	if (!sim_task_host_bytes(t))
		return;
	if (light) {
		r = sim_task_perform(t);
	} else {
		s->busy = true;
		sim_exec_unlock();
		r = sim_task_perform(t);
		sim_exec_lock();
		s->busy = false;
		sim_executor.releases++;
	}
	fail_context(x, r);
}

/* Ticket that the engine has just given. */
static void note_ticket(struct sim_exec *x, uint64_t ticket)
{
	x->n_tickets = ticket + 1;
	if (!aq_list_empty(&x->marks)) {
		struct sim_mark *m = aq_container_of(x->marks.next, struct sim_mark, link);

		if (ticket - m->when.ticket > SIM_ENGINE_RING / 2)
			sim_marks_refresh(x);
	}
}

enum sim_issue sim_issue_ready(struct sim_exec *x, struct sim_when *base, uint64_t *wake_ns)
{
	uint64_t at;

	if (base->on && base->on != x && !sim_when_decided(base, &at)) {
		*wake_ns = at;
		return SIM_LATER;
	}
	if (base->floor_ns > aq_now_ns() + EARLY_NS) {
		*wake_ns = base->floor_ns - EARLY_NS;
		return SIM_LATER;
	}
	return SIM_ISSUED;
}

enum sim_issue sim_issue_cost(struct sim_exec *x, struct sim_when *base, uint64_t cost_ns,
			      uint64_t *wake_ns)
{
	uint64_t ticket;

	if (sim_time_submit(x->ctx, base->floor_ns, cost_ns, &ticket) < 0) {
		struct sim_when oldest = {.on = x};

		oldest.ticket = x->n_tickets - sim_time_pending(x->ctx);
		sim_when_decided(&oldest, wake_ns);
		return SIM_LATER;
	}
	note_ticket(x, ticket);
	base->on = x;
	base->ticket = ticket;
	return SIM_ISSUED;
}

static enum sim_issue issue_compute(struct sim_stream *s, struct sim_exec *x, struct sim_task *t,
				    struct sim_when *base, bool light, uint64_t *wake_ns)
{
	enum sim_issue r = sim_issue_ready(x, base, wake_ns);

	if (r == SIM_ISSUED)
		r = sim_issue_cost(x, base, sim_task_cost_ns(x->ctx->device, t), wake_ns);
	if (r == SIM_ISSUED)
		sim_perform(s, x, t, light);
	return r;
}

static enum sim_issue issue_transfer(struct sim_stream *s, struct sim_exec *x, struct sim_task *t,
				     struct sim_when *base, bool light, uint64_t *wake_ns)
{
	static const enum sim_copy_engine engines[] = {
		[SIM_ROUTE_H2D] = SIM_COPY_H2D,
		[SIM_ROUTE_D2H] = SIM_COPY_D2H,
		[SIM_ROUTE_PEER] = SIM_COPY_P2P,
	};
	uint64_t at, start, finish;

	if (!sim_when_decided(base, &at)) {
		*wake_ns = at;
		return SIM_LATER;
	}
	if (at > aq_now_ns() + EARLY_NS) {
		*wake_ns = at - EARLY_NS;
		return SIM_LATER;
	}
	if (t->copy.route != SIM_ROUTE_HOST) {
		sim_time_copy(x->ctx, engines[t->copy.route], at, sim_task_host_bytes(t), &start,
			      &finish);
		*base = (struct sim_when){.floor_ns = finish};
	}
	sim_perform(s, x, t, light);
	if (t->copy.route == SIM_ROUTE_HOST)
		*base = (struct sim_when){.floor_ns = aq_now_ns()};
	return SIM_ISSUED;
}

static enum sim_issue issue_wait(struct sim_mark *m, struct sim_when *base, uint64_t *wake_ns)
{
	struct sim_when when;
	uint64_t at;

	if (m->state == SIM_MARK_QUEUED)
		return SIM_BLOCKED;
	if (m->state == SIM_MARK_ISSUED && sim_when_merge(base, &m->when))
		return SIM_ISSUED;
	if (!sim_mark_decided(m, &at)) {
		*wake_ns = at;
		return SIM_LATER;
	}
	when = (struct sim_when){.floor_ns = at};
	sim_when_merge(base, &when);
	return SIM_ISSUED;
}

static bool value_reached(const CUstreamBatchMemOpParams *p, bool *failed)
{
	bool wide = p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
	uint64_t want = wide ? p->waitValue.value64 : p->waitValue.value;
	uint64_t have = 0;

	if (sim_bytes_read(&have, p->waitValue.address, wide ? 8 : 4) != CUDA_SUCCESS) {
		*failed = true;
		return true;
	}
	switch (p->waitValue.flags & 3) {
	case CU_STREAM_WAIT_VALUE_GEQ: /* cyclic, so that counters may wrap */
		return wide ? (int64_t)(have - want) >= 0
			    : (int32_t)((uint32_t)have - (uint32_t)want) >= 0;
	case CU_STREAM_WAIT_VALUE_EQ:
		return have == want;
	case CU_STREAM_WAIT_VALUE_AND:
		return (have & want) != 0;
	default:
		return wide ? ~(have | want) != 0 : (uint32_t) ~(have | want) != 0;
	}
}

static enum sim_issue issue_memops(struct sim_exec *x, struct sim_memops_task *t,
				   struct sim_when *base, unsigned int *polls, uint64_t *wake_ns)
{
	uint64_t now = aq_now_ns();

	if (!sim_when_past(base, now)) {
		sim_when_decided(base, wake_ns);
		return SIM_LATER;
	}
	for (; t->next < t->count; t->next++) {
		const CUstreamBatchMemOpParams *p = &t->ops[t->next];
		bool failed = false;

		switch (p->operation) {
		case CU_STREAM_MEM_OP_WAIT_VALUE_32:
		case CU_STREAM_MEM_OP_WAIT_VALUE_64:
			if (!value_reached(p, &failed)) {
				uint64_t pause = POLL_FIRST_NS << min_u64(++*polls / 16, 8);

				*wake_ns = now + min_u64(pause, POLL_LAST_NS);
				return SIM_LATER;
			}
			break;
		case CU_STREAM_MEM_OP_WRITE_VALUE_32:
			failed = sim_bytes_write(p->writeValue.address, &p->writeValue.value, 4) !=
				 CUDA_SUCCESS;
			break;
		case CU_STREAM_MEM_OP_WRITE_VALUE_64:
			failed = sim_bytes_write(p->writeValue.address, &p->writeValue.value64,
						 8) != CUDA_SUCCESS;
			break;
		default: /* barriers: everything here is in order as it is */
			break;
		}
		if (failed)
			fail_context(x, CUDA_ERROR_ILLEGAL_ADDRESS);
	}
	/* A wait that had to look again ended some time before this. */
	*base = (struct sim_when){.floor_ns = *polls ? now : base->floor_ns};
	return SIM_ISSUED;
}

enum sim_issue sim_issue_task(struct sim_stream *s, struct sim_exec *x, struct sim_task *t,
			      struct sim_when *base, unsigned int *polls, bool light,
			      uint64_t *wake_ns)
{
	switch (t->kind) {
	case SIM_TASK_KERNEL:
	case SIM_TASK_SET:
		return issue_compute(s, x, t, base, light, wake_ns);
	case SIM_TASK_COPY:
		return t->copy.route == SIM_ROUTE_DEVICE
			       ? issue_compute(s, x, t, base, light, wake_ns)
			       : issue_transfer(s, x, t, base, light, wake_ns);
	case SIM_TASK_MEMOPS:
		return issue_memops(x, &t->memops, base, polls, wake_ns);
	case SIM_TASK_RECORD:
		sim_mark_issue(t->mark, base);
		return SIM_ISSUED;
	case SIM_TASK_WAIT:
		return issue_wait(t->mark, base, wake_ns);
	default:
		return SIM_ISSUED;
	}
}

/* Whether an operation of a stream that the legacy one waits for was submitted before @seq and has
 * not been issued. */
static bool older_queued(const struct sim_exec *x, uint64_t seq)
{
	const struct aq_list *l;

	if (!x->n_queued)
		return false;
	for (l = x->streams.next; l != &x->streams; l = l->next) {
		const struct sim_stream *s = aq_container_of(l, struct sim_stream, link);

		if (s->blocking && !aq_list_empty(&s->queue) &&
		    aq_container_of(s->queue.next, struct sim_op, link)->seq < seq)
			return true;
	}
	return false;
}

/* What an operation depends on by its place in its stream. Return: false when that is unknown. */
static bool base_of(struct sim_stream *s, const struct sim_op *op, struct sim_when *base)
{
	struct sim_exec *x = s->exec;

	*base = s->tail;
	if (base->floor_ns < op->api_ns)
		base->floor_ns = op->api_ns;
	if (s->kind == SIM_STREAM_LEGACY) {
		if (older_queued(x, op->seq))
			return false;
		sim_when_merge(base, &x->blocking_when);
	} else if (s->blocking) {
		if (!aq_list_empty(&x->legacy.queue) &&
		    aq_container_of(x->legacy.queue.next, struct sim_op, link)->seq < op->seq)
			return false;
		sim_when_merge(base, &x->legacy.tail);
	}
	return true;
}

static void host_done(void *arg)
{
	struct sim_stream *s = arg;

	s->busy = false;
	s->tail = (struct sim_when){.floor_ns = aq_now_ns()};
	sim_stream_head_done(s);
}

static enum sim_issue issue_host(struct sim_stream *s, const struct sim_host_task *t,
				 struct sim_when *base, uint64_t *wake_ns)
{
	if (!sim_when_past(base, aq_now_ns())) {
		sim_when_decided(base, wake_ns);
		return SIM_LATER;
	}
	s->busy = true;
	if (sim_host_run(t, s->exec->ctx->sticky, host_done, s) < 0) {
		s->busy = false; /* no thread to be had: try again in a while */
		*wake_ns = aq_now_ns() + POLL_LAST_NS;
		return SIM_LATER;
	}
	return SIM_RUNNING;
}

static enum sim_issue issue_call(struct sim_stream *s, const struct sim_task *t,
				 const struct sim_when *base, uint64_t *wake_ns)
{
	struct deferred *d = malloc(sizeof(*d));
	uint64_t at;

	if (!d) {
		*wake_ns = aq_now_ns() + POLL_LAST_NS;
		return SIM_LATER;
	}
	*d = (struct deferred){
		.stream = s,
		.when = *base,
		.fn = t->call.fn,
		.arg = t->call.arg,
	};
	aq_list_append(&s->exec->deferred, &d->link);
	s->n_deferred++;
	sim_when_decided(&d->when, &at);
	if (at < sim_executor.wake_ns || !sim_executor.started)
		sim_exec_kick();
	return SIM_ISSUED;
}

/* Take note that @op has been issued and ends at @end. */
static void issued(struct sim_stream *s, const struct sim_op *op, const struct sim_when *end)
{
	struct sim_exec *x = s->exec;

	s->tail = *end;
	sim_when_merge(&x->all_when, end);
	if (s->blocking)
		sim_when_merge(&x->blocking_when, end);
	if (op->task.kind != SIM_TASK_RECORD && op->task.kind != SIM_TASK_WAIT)
		s->depth[s->n_issued++ % SIM_STREAM_DEPTH] =
			end->on ? end->ticket * 2 + 1 : end->floor_ns * 2;
}

static enum sim_issue issue(struct sim_stream *s, struct sim_op *op, bool light, uint64_t *wake_ns)
{
	struct sim_when base;
	enum sim_issue r;

	if (!base_of(s, op, &base))
		return SIM_BLOCKED;
	switch (op->task.kind) {
	case SIM_TASK_HOST:
		r = issue_host(s, &op->task.host, &base, wake_ns);
		break;
	case SIM_TASK_CALL:
		r = issue_call(s, &op->task, &base, wake_ns);
		break;
	case SIM_TASK_GRAPH:
		r = sim_graph_run_issue(s, op->task.graph, &base, light, wake_ns);
		break;
	default:
		r = sim_issue_task(s, s->exec, &op->task, &base, &op->polls, light, wake_ns);
	}
	if (r == SIM_ISSUED)
		issued(s, op, &base);
	return r;
}

static void drop_head(struct sim_stream *s)
{
	struct sim_op *op = aq_container_of(s->queue.next, struct sim_op, link);

	aq_list_remove(&op->link);
	s->n_queued--;
	s->exec->n_queued--;
	sim_task_finish(&op->task);
	free(op);
}

void sim_stream_head_done(struct sim_stream *s)
{
	struct sim_op *op = aq_container_of(s->queue.next, struct sim_op, link);

	issued(s, op, &s->tail);
	drop_head(s);
	if (!aq_list_empty(&s->queue))
		sim_exec_kick();
	sim_exec_progress();
	sim_stream_reap(s);
}

/*
 * Issue what can be issued of a stream. Return: whether anything was, or the lock was released
 * meanwhile. A stream that was destroyed is to be reaped by the caller.
 */
static bool pump(struct sim_stream *s, uint64_t *wake_ns, bool *blocked)
{
	uint64_t releases = sim_executor.releases;
	bool any = false;

	while (!s->busy && !aq_list_empty(&s->queue)) {
		struct sim_op *op = aq_container_of(s->queue.next, struct sim_op, link);
		uint64_t wake = SIM_NEVER;
		enum sim_issue r = issue(s, op, false, &wake);

		if (r != SIM_ISSUED) {
			*wake_ns = min_u64(*wake_ns, wake);
			*blocked |= r == SIM_BLOCKED;
			break;
		}
		any = true;
		drop_head(s);
	}
	if (any)
		sim_exec_progress();
	return any || releases != sim_executor.releases;
}

/*
 * Make calls that are due, of one stream (@only) or all of a context. Return: whether any was made:
 * then the lock was released.
 */
static bool run_deferred(struct sim_exec *x, struct sim_stream *only, uint64_t *wake_ns)
{
	uint64_t now = aq_now_ns(), at;
	struct deferred *d, *tmp, *soonest = NULL;

	AQ_LIST_FOREACH (d, tmp, &x->deferred, link) {
		struct sim_stream *s = d->stream;

		if (only && s != only)
			continue;
		if (sim_when_past(&d->when, now)) {
			aq_list_remove(&d->link);
			s->n_calling++;
			sim_exec_unlock();
			d->fn(d->arg);
			free(d);
			sim_exec_lock();
			s->n_calling--;
			s->n_deferred--;
			sim_exec_progress();
			sim_stream_reap(s);
			return true;
		}
		if (!soonest ||
		    (d->when.on && soonest->when.on ? d->when.ticket < soonest->when.ticket
						    : d->when.floor_ns < soonest->when.floor_ns))
			soonest = d;
	}
	if (soonest) {
		sim_when_decided(&soonest->when, &at);
		*wake_ns = min_u64(*wake_ns, at);
	}
	return false;
}

/* Everything the executor can do now. Return: whether it did anything: then look again. */
static bool run_all(uint64_t *wake_ns, bool *blocked)
{
	struct sim_exec *x, *next_x;
	struct sim_stream *s, *next_s;

	AQ_LIST_FOREACH (x, next_x, &sim_executor.execs, link) {
		if (!aq_list_empty(&x->deferred) && run_deferred(x, NULL, wake_ns))
			return true;
		if (!x->n_queued)
			continue;
		AQ_LIST_FOREACH (s, next_s, &x->streams, link) {
			if (s->attended || aq_list_empty(&s->queue))
				continue;
			if (pump(s, wake_ns, blocked)) {
				sim_stream_reap(s);
				return true;
			}
		}
	}
	return false;
}

static void *executor_main(void *unused)
{
	uint64_t wake;
	bool blocked;

	pthread_setname_np(pthread_self(), "sim-executor");
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	sim_exec_lock();
	for (;;) {
		sim_executor.kicked = false;
		blocked = false;
		wake = SIM_NEVER;
		if (run_all(&wake, &blocked))
			continue;
		sim_executor.executor_blocked = blocked;
		if (sim_executor.kicked)
			continue;
		sim_executor.wake_ns = wake;
		if (wake == SIM_NEVER)
			pthread_cond_wait(&sim_executor.work, &sim_executor.lock);
		else
			sleep_on(&sim_executor.work, wake, EXECUTOR_SPIN_NS);
		sim_executor.wake_ns = 0;
	}
	return NULL;
}

/* Threads of a library take no signals of the program. */
int sim_thread_start(void *(*main)(void *), void *arg)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, main, arg);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

void sim_exec_kick(void)
{
	sim_executor.kicked = true;
	if (!sim_executor.started)
		sim_executor.started = sim_thread_start(executor_main, NULL) == 0;
	else if (sim_executor.wake_ns)
		pthread_cond_signal(&sim_executor.work);
}

/*
 * Submitting and waiting.
 */

/* The operation SIM_STREAM_DEPTH before the next has to be done. */
static void wait_room(struct sim_stream *s)
{
	struct sim_when oldest;
	uint64_t number, wake, entry;

	for (;;) {
		number = s->n_issued + s->n_queued;
		if (number < SIM_STREAM_DEPTH)
			return;
		number -= SIM_STREAM_DEPTH;
		if (number >= s->n_issued) {
			wait_progress(SIM_NEVER, true);
			continue;
		}
		entry = s->depth[number % SIM_STREAM_DEPTH];
		oldest = (struct sim_when){0};
		if (entry & 1) {
			oldest.on = s->exec;
			oldest.ticket = entry / 2;
		} else {
			oldest.floor_ns = entry / 2;
		}
		if (sim_when_past(&oldest, aq_now_ns()))
			return;
		sim_when_decided(&oldest, &wake);
		wait_progress(wake, false);
	}
}

/* Whether the calling thread may issue it at once: it neither waits nor moves much. */
static bool is_light(const struct sim_task *t)
{
	if (t->kind == SIM_TASK_HOST)
		return false;
	if (t->kind == SIM_TASK_GRAPH)
		return sim_graph_run_is_light(t->graph);
	return sim_task_host_bytes(t) <= SIM_TASK_LIGHT_BYTES;
}

/* Issue or queue. @attended: the caller will look after the stream, nobody need be woken. */
static CUresult submit(struct sim_stream *s, struct sim_task *t, bool attended)
{
	struct sim_op op = {.seq = ++s->exec->seq, .api_ns = aq_now_ns()}, *queued;
	uint64_t wake = 0; /* when the executor has to look at it */
	bool was_empty = aq_list_empty(&s->queue);

	op.task = *t;
	if (was_empty && !s->busy && is_light(t)) {
		enum sim_issue r = issue(s, &op, true, &wake);

		if (r == SIM_ISSUED) {
			sim_exec_progress();
			return CUDA_SUCCESS;
		}
		if (r == SIM_BLOCKED) {
			sim_executor.executor_blocked = true;
			wake = SIM_NEVER;
		}
		if (t->kind == SIM_TASK_MEMOPS)
			t->memops.next = op.task.memops.next; /* how far it got */
	}
	queued = malloc(sizeof(*queued));
	if (!queued)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*queued = op;
	if (sim_task_dup(&queued->task, t) < 0) {
		free(queued);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	aq_list_append(&s->queue, &queued->link);
	s->n_queued++;
	s->exec->n_queued++;
	/* Behind others it needs no wake-up: the executor knows of the head. */
	if (was_empty && !attended && !s->attended &&
	    (wake < sim_executor.wake_ns || !sim_executor.started))
		sim_exec_kick();
	return CUDA_SUCCESS;
}

CUresult sim_submit_mark(struct sim_stream *s, struct sim_mark *m)
{
	struct sim_task t = {.kind = SIM_TASK_RECORD, .mark = m};

	return submit(s, &t, false);
}

void sim_wait_mark(struct sim_stream *s, struct sim_mark *m)
{
	uint64_t now, wake, at;
	bool blocked;

	if (s)
		s->attended++;
	for (;;) {
		wake = SIM_NEVER;
		blocked = false;
		if (s)
			pump(s, &wake, &blocked);
		now = aq_now_ns();
		if (sim_mark_past(m, now))
			break;
		if (m->state == SIM_MARK_QUEUED) {
			blocked |= !s || s->busy || wake == SIM_NEVER;
		} else {
			sim_mark_decided(m, &at);
			wake = min_u64(wake, at);
		}
		wait_progress(wake, blocked);
	}
	if (!s)
		return;
	s->attended--;
	if (!aq_list_empty(&s->queue) && !s->attended)
		sim_exec_kick();
	sim_stream_reap(s);
}

/* Make what is due of a stream's calls, and wait for those that somebody else is making. */
static void settle(struct sim_stream *s)
{
	uint64_t unused = SIM_NEVER;

	s->attended++; /* keeps it from being freed */
	while (s->n_deferred) {
		if (run_deferred(s->exec, s, &unused))
			continue;
		if (!s->n_calling)
			break;
		wait_progress(SIM_NEVER, true);
	}
	s->attended--;
}

/* Wait until an instant is past. */
static void wait_when(struct sim_when w)
{
	uint64_t at;

	while (!sim_when_past(&w, aq_now_ns())) {
		sim_when_decided(&w, &at);
		wait_progress(at, false);
	}
}

/* Whether the stream, or one that it waits for by its kind, has operations of up to @seq. */
static bool has_older(const struct sim_stream *s, uint64_t seq)
{
	if (!aq_list_empty(&s->queue) &&
	    aq_container_of(s->queue.next, struct sim_op, link)->seq <= seq)
		return true;
	return s->kind == SIM_STREAM_LEGACY && older_queued(s->exec, seq + 1);
}

/* Allocates nothing: whoever frees memory comes here. */
CUresult sim_wait_stream(struct sim_stream *s)
{
	struct sim_exec *x = s->exec;
	struct sim_context *ctx = x->ctx;
	struct sim_when end;
	uint64_t seq, wake;
	bool blocked;

	sim_exec_lock();
	seq = x->seq;
	s->attended++;
	for (;;) {
		wake = SIM_NEVER;
		blocked = false;
		pump(s, &wake, &blocked);
		if (!has_older(s, seq))
			break;
		wait_progress(wake, blocked || s->busy || wake == SIM_NEVER);
	}
	end = s->tail;
	if (s->kind == SIM_STREAM_LEGACY)
		sim_when_merge(&end, &x->blocking_when);
	else if (s->blocking)
		sim_when_merge(&end, &x->legacy.tail);
	wait_when(end);
	settle(s);
	s->attended--;
	if (!aq_list_empty(&s->queue) && !s->attended)
		sim_exec_kick();
	sim_stream_reap(s);
	sim_exec_unlock();
	return ctx->sticky;
}

CUresult sim_submit(struct sim_stream *s, struct sim_task *t, bool wait)
{
	CUresult r;

	sim_exec_lock();
	wait_room(s);
	r = submit(s, t, wait);
	sim_exec_unlock();
	if (r != CUDA_SUCCESS || !wait)
		return r;
	return sim_wait_stream(s);
}

void sim_wait_issued(struct sim_exec *x)
{
	uint64_t seq = x->seq;
	struct sim_stream *s, *tmp;

again:
	AQ_LIST_FOREACH (s, tmp, &x->streams, link) {
		if (has_older(s, seq)) {
			wait_progress(SIM_NEVER, true);
			goto again;
		}
	}
}

CUresult sim_submit_all(struct sim_exec *x, struct sim_task *t)
{
	struct sim_stream *s, *tmp;
	CUresult r = CUDA_SUCCESS;

	AQ_LIST_FOREACH (s, tmp, &x->streams, link)
		if (r == CUDA_SUCCESS && !s->destroyed)
			r = submit(s, t, false);
	return r;
}

CUresult sim_wait_context(struct sim_exec *x)
{
	struct sim_stream *s, *tmp;
	uint64_t unused;

	sim_exec_lock();
	sim_wait_issued(x);
	wait_when(x->all_when);
again:
	AQ_LIST_FOREACH (s, tmp, &x->streams, link) {
		unused = SIM_NEVER;
		if (!s->n_deferred)
			continue;
		if (run_deferred(x, NULL, &unused))
			goto again;
		if (s->n_calling) {
			wait_progress(SIM_NEVER, true);
			goto again;
		}
	}
	sim_exec_unlock();
	return x->ctx->sticky;
}

bool sim_stream_idle(struct sim_stream *s)
{
	struct sim_exec *x = s->exec;
	uint64_t now = aq_now_ns();

	/* The legacy stream is as busy as those that it waits for. */
	if (s->kind == SIM_STREAM_LEGACY &&
	    (older_queued(x, x->seq + 1) || !sim_when_past(&x->blocking_when, now)))
		return false;
	return aq_list_empty(&s->queue) && !s->busy && sim_when_past(&s->tail, now);
}

void sim_stream_reap(struct sim_stream *s)
{
	if (!s->destroyed || s->attended || s->busy || s->n_deferred || !aq_list_empty(&s->queue))
		return;
	aq_list_remove(&s->link);
	free(s);
}
