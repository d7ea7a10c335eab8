/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Issues operations: hands them to the device's engines as soon as what they depend on is known,
 * and moves their bytes; see exec.h. Waits for nothing; who calls it when is executor.c's business.
 */
#include <stdlib.h>

#include "exec.h"
#include "graph_run.h"

#include "base/banned.h"
#include "base/number.h"
#include "base/timing.h"

/* Compute work is handed over this long before it may begin, so that a late wake-up is not seen. It
 * holds up the queue of its context for as long, so it is kept near the latency of a wake-up. */
#define EARLY_NS 30000u

/* Intervals between looks at memory that a stream waits for, and at what could not be had. */
#define POLL_FIRST_NS (10 * AQ_NS_PER_US)
#define POLL_LAST_NS AQ_NS_PER_MS

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

/*
 * A record costs nothing but is work of its context: where nothing else is before it and another
 * context is on the engine, it waits for its turn and for the switch, as on hardware. Else an event
 * in front of the first kernel after a pause would count the switch as the kernel's time.
 */
static enum sim_issue issue_record(struct sim_exec *x, struct sim_mark *m, struct sim_when *base,
				   uint64_t *wake_ns)
{
	enum sim_issue r = SIM_ISSUED;
	uint64_t at;

	if (sim_when_decided(base, &at) && at <= aq_now_ns() && sim_time_displaced(x->ctx))
		r = sim_issue_cost(x, base, 0, wake_ns);
	if (r == SIM_ISSUED)
		sim_mark_issue(m, base);
	return r;
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
				uint64_t pause = POLL_FIRST_NS << aq_min(++*polls / 16, 8);

				*wake_ns = now + aq_min(pause, POLL_LAST_NS);
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
		return issue_record(x, t->mark, base, wake_ns);
	case SIM_TASK_WAIT:
		return issue_wait(t->mark, base, wake_ns);
	default:
		return SIM_ISSUED;
	}
}

bool sim_older_queued(const struct sim_exec *x, uint64_t seq)
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
		if (sim_older_queued(x, op->seq))
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

enum sim_issue sim_issue_op(struct sim_stream *s, struct sim_op *op, bool light, uint64_t *wake_ns)
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
		r = sim_defer(s, &op->task, &base, wake_ns);
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

bool sim_stream_pump(struct sim_stream *s, uint64_t *wake_ns, bool *blocked)
{
	uint64_t releases = sim_executor.releases;
	bool any = false;

	while (!s->busy && !aq_list_empty(&s->queue)) {
		struct sim_op *op = aq_container_of(s->queue.next, struct sim_op, link);
		uint64_t wake = SIM_NEVER;
		enum sim_issue r = sim_issue_op(s, op, false, &wake);

		if (r != SIM_ISSUED) {
			*wake_ns = aq_min(*wake_ns, wake);
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
