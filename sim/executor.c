/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes operations go on: the executor's thread, submitting from threads of the program, and
 * waiting; see exec.h. What issuing an operation means is issue.c's business.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "exec.h"
#include "graph_run.h"

#include "base/banned.h"
#include "base/number.h"
#include "base/timing.h"

/* The end of a wait is spent looking at the clock, as drivers do, who spend all of it so: waking up
 * takes this long. The executor has less: what it hands over late is dated back. But when it is
 * late for each of many small operations that wait for each other, the program falls behind. */
#define SPIN_NS 50000u
#define EXECUTOR_SPIN_NS 20000u

/* Nobody sleeps longer on a prediction: another context may have gone away meanwhile. */
#define LONGEST_SLEEP_NS (10 * AQ_NS_PER_MS)

/* When there was no memory to put something off, it is tried again after this. */
#define RETRY_NS AQ_NS_PER_MS

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
	.graves = {&sim_executor.graves, &sim_executor.graves},
};

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
	wake_ns = aq_min(wake_ns - spin_ns, now + LONGEST_SLEEP_NS);
	ts.tv_sec = (time_t)(wake_ns / AQ_NS_PER_S);
	ts.tv_nsec = (long)(wake_ns % AQ_NS_PER_S);
	slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	if (slack > 1)
		prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	pthread_cond_clockwait(cond, &sim_executor.lock, CLOCK_MONOTONIC, &ts);
	if (slack > 1)
		prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0, 0, 0);
}

/* Wait as a thread of the program. @blocked: for somebody else's operation, not only for time. No
 * cancellation point: a thread that ended here would keep the lock. */
static void wait_progress(uint64_t wake_ns, bool blocked)
{
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	sim_executor.n_blocked += blocked;
	if (wake_ns == SIM_NEVER)
		pthread_cond_wait(&sim_executor.progress, &sim_executor.lock);
	else
		sleep_on(&sim_executor.progress, wake_ns, SPIN_NS);
	sim_executor.n_blocked -= blocked;
	pthread_setcancelstate(cancel, NULL);
}

void sim_exec_progress(void)
{
	if (sim_executor.n_blocked)
		pthread_cond_broadcast(&sim_executor.progress);
	if (sim_executor.executor_blocked)
		sim_exec_kick();
}

enum sim_issue sim_defer(struct sim_stream *s, const struct sim_task *t,
			 const struct sim_when *base, uint64_t *wake_ns)
{
	struct deferred *d = malloc(sizeof(*d));
	uint64_t at;

	if (!d) {
		*wake_ns = aq_now_ns() + RETRY_NS;
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
		*wake_ns = aq_min(*wake_ns, at);
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
			if (sim_stream_pump(s, wake_ns, blocked)) {
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

/* Return: whether somebody issues what is queued; without, whoever waits for it would for ever. */
static bool executor_runs(void)
{
	if (!sim_executor.started)
		sim_executor.started = sim_thread_start(executor_main, NULL) == 0;
	return sim_executor.started;
}

void sim_exec_kick(void)
{
	bool ran = sim_executor.started;

	sim_executor.kicked = true;
	if (executor_runs() && ran && sim_executor.wake_ns)
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
		enum sim_issue r = sim_issue_op(s, &op, true, &wake);

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
	if (!attended && !executor_runs())
		return CUDA_ERROR_OPERATING_SYSTEM;
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
			sim_stream_pump(s, &wake, &blocked);
		now = aq_now_ns();
		if (sim_mark_past(m, now))
			break;
		if (m->state == SIM_MARK_QUEUED) {
			blocked |= !s || s->busy || wake == SIM_NEVER;
		} else {
			sim_mark_decided(m, &at);
			wake = aq_min(wake, at);
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
	return s->kind == SIM_STREAM_LEGACY && sim_older_queued(s->exec, seq + 1);
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
		sim_stream_pump(s, &wake, &blocked);
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
	    (sim_older_queued(x, x->seq + 1) || !sim_when_past(&x->blocking_when, now)))
		return false;
	return aq_list_empty(&s->queue) && !s->busy && sim_when_past(&s->tail, now);
}

void sim_stream_reap(struct sim_stream *s)
{
	if (!s->destroyed || s->attended || s->busy || s->n_deferred || !aq_list_empty(&s->queue))
		return;
	aq_list_remove(&s->link);
	free(s->depth);
	free(s);
}
