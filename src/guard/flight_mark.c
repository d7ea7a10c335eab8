/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marks behind commands, and when they are reached; see flight.h. The oldest mark is looked at
 * first: one that is not reached hides those behind it, so what is in flight is never taken for
 * less than it is.
 *
 * A stream is recorded on by its user or, when nobody submits, by the gate's thread. It does so
 * with the lane marked `recording`; whoever destroys or captures the stream waits for that.
 */
#include <sched.h>

#include "base/timing.h"
#include "guard/flight_parts.h"
#include "guard/guard.h"
#include "guard/guest.h"

#define GIVE_UP_NS AQ_NS_PER_MS /* see aq__mark_unmarkable() */

/* ---- calling the driver with what belongs to a context ---- */

struct visit {
	CUcontext before;
	bool moved;
	CUstreamCaptureMode mode;
};

/* Lock held. May the driver be called? Then the context stays until unpin(). */
static bool pin(struct aq__flight *f, CUcontext ctx)
{
	if (f->dying || f->ctx != ctx || !ctx)
		return false;
	f->pins++;
	return true;
}

static void visit_begin(struct visit *v, CUcontext ctx)
{
	v->moved = AQ__CALL(cuCtxGetCurrent, &v->before) == CUDA_SUCCESS && v->before != ctx &&
		   AQ__CALL(cuCtxPushCurrent_v2, ctx) == CUDA_SUCCESS;
	v->mode = aq__relax_begin();
}

static void visit_end(const struct visit *v)
{
	CUcontext popped;

	aq__relax_end(v->mode);
	if (v->moved)
		(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
}

/* ---- lanes; lock held ---- */

bool aq__lane_is_own(const struct aq__lane *l)
{
	return l->stream != CU_STREAM_PER_THREAD || pthread_equal(l->thread, pthread_self());
}

struct aq__lane *aq__lane_of(struct aq__flight *f, CUstream stream, bool make)
{
	struct aq__lane *room = NULL;

	for (uint32_t i = 0; i < AQ__LANES; i++) {
		struct aq__lane *l = &f->lanes[i];

		if (l->stream == stream && aq__lane_is_own(l))
			return l;
		if (!room && !l->recording && !l->commands)
			room = l;
	}
	if (!make || !room)
		return NULL;
	*room = (struct aq__lane){
		.stream = stream,
		.thread = stream == CU_STREAM_PER_THREAD ? pthread_self() : 0,
	};
	return room;
}

/* Its commands are done, as is known without a mark; @waited: by who waited for them. */
void aq__lane_done(struct aq__flight *f, struct aq__lane *l, uint64_t host_ns, bool waited)
{
	f->commands -= l->commands < f->commands ? l->commands : f->commands;
	f->est_ns -= l->est_ns < f->est_ns ? l->est_ns : f->est_ns;
	l->commands = 0;
	l->est_ns = 0;
	l->guessed = false;
	if (!f->commands && waited)
		aq__account_waited(f, host_ns);
	else if (!f->commands)
		aq__account_idle(f, host_ns);
}

/* ---- marks ---- */

static int64_t elapsed_ns(CUevent from, CUevent to)
{
	float ms;

	if (!from || AQ__CALL(cuEventElapsedTime, &ms, from, to) != CUDA_SUCCESS)
		return -1;
	return (int64_t)((double)ms * 1e6);
}

/*
 * Lock held; not while the driver is asked. The base is reached when the device turns to this
 * context, or behind work from before the gate was managed. When that was, the base before tells.
 */
void aq__mark_look_at_base(struct aq__flight *f)
{
	struct aq__account *a = &f->account;
	CUevent base = a->base, before = a->at_known ? a->base_before : NULL;
	CUcontext ctx = f->ctx;
	uint64_t now = aq_now_ns();
	int64_t after = -1;
	struct visit v;
	bool reached;

	if (!pin(f, ctx))
		return;
	aq__unlock(&f->lock);
	visit_begin(&v, ctx);
	reached = AQ__CALL(cuEventQuery, base) == CUDA_SUCCESS;
	if (reached)
		after = elapsed_ns(before, base);
	visit_end(&v);
	aq__lock(&f->lock);
	f->pins--;
	if (!a->late || a->base != base)
		return;
	if (reached)
		aq__account_base(f, after, aq_now_ns());
	else
		aq__account_base_late(f, now);
}

/* Lock held; not while the driver is asked. Look at the oldest marks, and count those reached. */
void aq__mark_reap(struct aq__flight *f)
{
	CUcontext ctx = f->ctx;
	struct visit v;

	if (f->reaping || f->first == f->last || !pin(f, ctx))
		return;
	f->reaping = true;
	f->looked_ns = aq_now_ns();
	if (f->account.late)
		aq__mark_look_at_base(f);
	aq__unlock(&f->lock);
	visit_begin(&v, ctx);
	aq__lock(&f->lock);
	while (f->first != f->last && f->marks[f->first % AQ__MARKS].recorded) {
		struct aq__mark *m = &f->marks[f->first % AQ__MARKS];
		CUevent base = f->account.base;
		uint64_t asked = aq_now_ns();
		int64_t at = -1;
		bool reached;

		aq__unlock(&f->lock);
		/* An error is the context's end: there is nothing left to wait for. */
		reached = m->failed || AQ__CALL(cuEventQuery, m->event) != CUDA_ERROR_NOT_READY;
		if (reached && !m->failed)
			at = elapsed_ns(base, m->event);
		aq__lock(&f->lock);
		if (!reached) {
			m->from_ns = asked;
			break;
		}
		aq__account_reached(f, at, aq_now_ns());
	}
	aq__unlock(&f->lock);
	visit_end(&v);
	aq__lock(&f->lock);
	f->reaping = false;
	f->pins--;
}

/* Lock held. Take a place in the ring for what is on the lane. NULL: none free. */
static struct aq__mark *take_mark(struct aq__flight *f, struct aq__lane *l)
{
	struct aq__mark *m = &f->marks[f->last % AQ__MARKS];

	if (f->last - f->first == AQ__MARKS)
		return NULL;
	m->recorded = m->failed = false;
	m->doubt_ns = 0;
	m->commands = l->commands;
	m->est_ns = l->est_ns;
	m->guessed = l->guessed;
	m->first_ns = l->first_ns;
	m->what = l->what;
	m->gap_ns = f->account.gap_ns;
	f->account.gap_ns = 0;
	f->account.marked = true;
	f->last++;
	l->commands = 0;
	l->est_ns = 0;
	l->guessed = false;
	l->recording = true;
	return m;
}

/* Lock held; not while the driver records. A mark behind all that is on the lane. */
void aq__mark_lane(struct aq__flight *f, struct aq__lane *l)
{
	CUstream stream = l->stream;
	CUcontext ctx = f->ctx;
	struct aq__mark *m;
	struct visit v;
	bool failed;

	if (!l->commands || l->recording || !pin(f, ctx))
		return;
	m = take_mark(f, l);
	if (m) {
		aq__unlock(&f->lock);
		visit_begin(&v, ctx);
		if (!m->event && AQ__CALL(cuEventCreate, &m->event, CU_EVENT_DEFAULT))
			m->event = NULL;
		m->from_ns = aq_now_ns();
		failed = !m->event || AQ__CALL(cuEventRecord, m->event, stream) != CUDA_SUCCESS;
		visit_end(&v);
		aq__lock(&f->lock);
		m->failed = failed;
		m->recorded = true;
		l->recording = false;
	}
	f->pins--;
}

/* Lock held; not while the driver is asked. Return: false: it cannot be recorded on now. */
bool aq__mark_unless_captured(struct aq__flight *f, struct aq__lane *l)
{
	CUstream stream = l->stream;
	CUcontext ctx = f->ctx;
	struct visit v;
	bool captured;

	if (!aq__lane_is_own(l) || !pin(f, ctx))
		return false;
	l->recording = true; /* the stream stays while it is asked about */
	aq__unlock(&f->lock);
	visit_begin(&v, ctx);
	captured = aq__capturing(stream, false);
	visit_end(&v);
	aq__lock(&f->lock);
	l->recording = false;
	f->pins--;
	if (!captured)
		aq__mark_lane(f, l);
	return !captured;
}

/* Lock held; not while the driver is asked. Is all on the lane done? The stream is not captured. */
bool aq__lane_is_done(struct aq__flight *f, const struct aq__lane *l)
{
	CUstream stream = l->stream;
	CUcontext ctx = f->ctx;
	CUresult r = CUDA_ERROR_NOT_READY;
	struct visit v;

	if (!pin(f, ctx))
		return false;
	aq__unlock(&f->lock);
	visit_begin(&v, ctx);
	if (!aq__capturing(stream, false))
		r = AQ__CALL(cuStreamQuery, stream);
	visit_end(&v);
	aq__lock(&f->lock);
	f->pins--;
	return r != CUDA_ERROR_NOT_READY;
}

/* Lock held; not while the driver records. */
void aq__mark_base(struct aq__flight *f, const struct aq__command *c)
{
	struct aq__account *a = &f->account;
	CUevent base = a->base_before;
	uint64_t from, to;
	bool recorded;
	struct visit v;

	if (a->recording || !pin(f, c->ctx))
		return;
	a->recording = true;
	a->base_before = a->base;
	a->base = NULL;
	aq__account_record(f, aq_now_ns());
	aq__unlock(&f->lock);
	visit_begin(&v, c->ctx);
	if (!base && AQ__CALL(cuEventCreate, &base, CU_EVENT_DEFAULT))
		base = NULL;
	from = aq_now_ns();
	recorded = base && AQ__CALL(cuEventRecord, base, c->stream) == CUDA_SUCCESS;
	to = aq_now_ns();
	visit_end(&v);
	aq__lock(&f->lock);
	a->base = base;
	a->recording = false;
	aq__account_recorded(f, recorded, from, to);
	f->pins--;
}

/* Lock held; not while another thread goes on: with some queries, mostly. */
void aq__mark_pass_on(struct aq__flight *f)
{
	aq__unlock(&f->lock);
	sched_yield();
	aq__lock(&f->lock);
}

/*
 * Lock held. A lane that cannot be marked now: another thread's default stream, or one that a
 * capture of another stream has drawn in. It is taken as done after what it was estimated for, and
 * as much again; charged is what the host's clock says.
 */
void aq__mark_unmarkable(struct aq__flight *f, struct aq__lane *l)
{
	uint64_t now = aq_now_ns();

	if (!f->dying && now > l->last_ns + 2 * f->est_ns + GIVE_UP_NS)
		aq__lane_done(f, l, now, false);
}

/* Lock held; not while the driver is asked. A mark behind what is done would tell too late. */
static bool tail_is_done(struct aq__flight *f, struct aq__lane *l)
{
	uint32_t commands = l->commands;
	bool done;

	if (!aq__lane_is_own(l))
		return false;
	l->recording = true; /* the stream stays while it is asked about */
	done = aq__lane_is_done(f, l);
	l->recording = false;
	return done && l->commands == commands;
}

void aq__mark_tails(struct aq__flight *f)
{
	for (uint32_t i = 0; i < AQ__LANES; i++) {
		struct aq__lane *l = &f->lanes[i];

		if (!l->commands || l->recording)
			continue;
		if (!f->account.marked && tail_is_done(f, l))
			aq__lane_done(f, l, aq_now_ns(), true);
		else if (!aq__mark_unless_captured(f, l))
			aq__mark_unmarkable(f, l);
	}
}
