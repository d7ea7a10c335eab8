/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands, the marks behind them, and when they are done; see flight.h. The oldest mark is looked
 * at first: one that is not reached hides those behind it, so what is in flight is never taken for
 * less than it is.
 *
 * A stream is recorded on by its user or, when nobody submits, by the gate's thread. It does so
 * with the lane marked `recording`; whoever destroys or captures the stream waits for that.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "base/timing.h"
#include "guard/flight_parts.h"
#include "guard/guard.h"
#include "guard/guest.h"

#define MAX_FLIGHTS 1024u /* contexts of one process. A device holds 160, at 300 to 500 MB each */

/* A mark costs as much as two launches. Source: published measurements of an event for each launch
 * on an A100: 4.1 to 5.1 us. */
#define MARK_NS (250 * AQ_NS_PER_US)
#define MARK_COMMANDS 64u
#define MARK_GRAPH_NS (100 * AQ_NS_PER_US)  /* a shorter graph is a command like others */
#define MARK_SYNC_NS (200 * AQ_NS_PER_US)   /* shorter work that is waited for is sampled */
#define PAUSE_NS (500 * AQ_NS_PER_US)	    /* without a command: is the last one done already? */
#define LOOK_NS (100 * AQ_NS_PER_US)	    /* a submitting thread looks at marks no more often */
#define GIVE_UP_NS AQ_NS_PER_MS		    /* see unmarkable() */
#define FORETOLD_MOST_NS (4 * AQ_NS_PER_MS) /* a lease; several contexts have less in flight */
#define LOOK_MOST_NS AQ_NS_PER_MS	    /* who has waited waits no longer for another's look */
#define PROMPT_NS (20 * AQ_NS_PER_US)	    /* two queries and a record take less */

/* Places are taken under `making` and never freed; read without. */
static struct aq__flight *flights[MAX_FLIGHTS];
uint32_t aq__flights_made;
static struct aq__lock making;

/* When, last; under `harvesting`, which is taken before a flight's lock. */
static uint64_t harvested_ns[AQ_MAX_DEVICES];
static struct aq__lock harvesting;

/* ---- which ---- */

static CUcontext ctx_of(const struct aq__flight *f)
{
	return __atomic_load_n(&f->ctx, __ATOMIC_ACQUIRE);
}

static int index_of(const struct aq__flight *f)
{
	return __atomic_load_n(&f->index, __ATOMIC_RELAXED);
}

static struct aq__flight *find(CUcontext ctx)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		if (ctx_of(flights[i]) == ctx)
			return flights[i];
	}
	return NULL;
}

int aq__flight_index(CUcontext ctx)
{
	const struct aq__flight *f = find(ctx);

	return f ? index_of(f) : AQ__UNBOUND;
}

/* Under `making`. A place that no context has, or a new one. */
static struct aq__flight *place(void)
{
	struct aq__flight *f = find(NULL);
	int saved = errno;

	if (f || aq__flights_made >= MAX_FLIGHTS)
		return f;
	f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	errno = saved;
	if (f == MAP_FAILED)
		return NULL;
	flights[aq__flights_made] = f;
	__atomic_store_n(&aq__flights_made, aq__flights_made + 1, __ATOMIC_RELEASE);
	return f;
}

struct aq__flight *aq__flight_of(CUcontext ctx, int index)
{
	struct aq__flight *f = find(ctx);

	if (f || !ctx)
		return f;
	aq__lock(&making);
	f = find(ctx);
	if (!f && (f = place())) {
		__atomic_store_n(&f->index, index, __ATOMIC_RELAXED); /* places are used again */
		__atomic_store_n(&f->ctx, ctx, __ATOMIC_RELEASE);
	}
	aq__unlock(&making);
	return f;
}

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

static bool own_lane(const struct aq__lane *l)
{
	return l->stream != CU_STREAM_PER_THREAD || pthread_equal(l->thread, pthread_self());
}

static struct aq__lane *lane_of(struct aq__flight *f, CUstream stream, bool make)
{
	struct aq__lane *room = NULL;

	for (uint32_t i = 0; i < AQ__LANES; i++) {
		struct aq__lane *l = &f->lanes[i];

		if (l->stream == stream && own_lane(l))
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
static void lane_done(struct aq__flight *f, struct aq__lane *l, uint64_t host_ns, bool waited)
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
static void look_at_base(struct aq__flight *f)
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
static void reap(struct aq__flight *f)
{
	CUcontext ctx = f->ctx;
	struct visit v;

	if (f->reaping || f->first == f->last || !pin(f, ctx))
		return;
	f->reaping = true;
	f->looked_ns = aq_now_ns();
	if (f->account.late)
		look_at_base(f);
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
static void mark_lane(struct aq__flight *f, struct aq__lane *l)
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
static bool mark_unless_captured(struct aq__flight *f, struct aq__lane *l)
{
	CUstream stream = l->stream;
	CUcontext ctx = f->ctx;
	struct visit v;
	bool captured;

	if (!own_lane(l) || !pin(f, ctx))
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
		mark_lane(f, l);
	return !captured;
}

/* ---- around a command ---- */

/* Lock held; not while the driver is asked. Is all on the lane done? The stream is not captured. */
static bool lane_is_done(struct aq__flight *f, const struct aq__lane *l)
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
static void record_base(struct aq__flight *f, const struct aq__command *c)
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

/* Lock held. Has all that is in flight a mark? Then it may be done, and a pause have begun. */
static bool all_marked(const struct aq__flight *f)
{
	uint32_t marked = 0;

	for (uint32_t i = f->first; i != f->last; i++)
		marked += f->marks[i % AQ__MARKS].commands;
	return f->first != f->last && marked >= f->commands;
}

/* Lock held; not while another thread goes on: with some queries, mostly. */
static void pass_on(struct aq__flight *f)
{
	aq__unlock(&f->lock);
	sched_yield();
	aq__lock(&f->lock);
}

void aq__flight_before(struct aq__flight *f, struct aq__command *c)
{
	uint64_t now = aq_now_ns();
	struct aq__lane *l;

	aq__lock(&f->lock);
	while (f->reaping && now - f->last_ns > PAUSE_NS) /* a pause must not look like work */
		pass_on(f);
	if (now - f->looked_ns > LOOK_NS || all_marked(f))
		reap(f);
	/* After a pause, what was submitted last without a mark is probably done, and long since.
	 */
	if (f->commands && f->first == f->last && now - f->last_ns > 2 * f->est_ns + PAUSE_NS &&
	    f->ctx == c->ctx) {
		uint64_t end = f->last_ns + f->est_ns;

		l = lane_of(f, c->stream, false);
		if (l && l->commands && lane_is_done(f, l))
			lane_done(f, l, end, false);
	}
	if (f->ctx == c->ctx && aq__account_start(f, now))
		record_base(f, c);
	c->from_ns = aq_now_ns();
	c->life = f->life;
	aq__unlock(&f->lock);
}

/*
 * Lock held; not while the driver is asked. The first command of a step is submitted. One that is
 * sampled is marked behind it, for who waits may come when it is done already.
 */
static void began(struct aq__flight *f, const struct aq__command *c, struct aq__lane *l,
		  uint64_t now)
{
	uint32_t mark;

	if (f->account.late)
		look_at_base(f);
	aq__account_began(f, !f->account.late && !c->waits, c->from_ns, now);
	if (!f->account.sampled || c->waits || l->recording)
		return;
	aq__account_sampled(f, lane_is_done(f, l));
	mark = f->last;
	mark_lane(f, l);
	if (aq_now_ns() - now > PROMPT_NS) { /* somebody else had the processor */
		f->marks[mark % AQ__MARKS].doubt_ns = aq_now_ns() - now;
		f->account.brief = false;
	}
}

void aq__flight_after(struct aq__flight *f, const struct aq__command *c, CUresult r)
{
	uint64_t now = aq_now_ns(), est;
	struct aq__lane *l = NULL;
	bool known;

	aq__lock(&f->lock);
	if (f->ctx == c->ctx && f->life == c->life && r == CUDA_SUCCESS)
		l = lane_of(f, c->stream, true);
	if (l) {
		est = aq__account_estimate(f, c->what, &known);
		if (!l->commands++)
			l->first_ns = c->from_ns;
		l->est_ns += est;
		l->guessed |= !known;
		l->last_ns = f->last_ns = now;
		l->what = known && est < MARK_GRAPH_NS ? NULL : c->what;
		f->commands++;
		f->est_ns += est;
		if (!f->account.commands++)
			began(f, c, l, now);
		else if (f->account.late)
			look_at_base(f);
		if (c->waits && lane_is_done(f, l))
			lane_done(f, l, aq_now_ns(), false);
		if (c->stream == CU_STREAM_PER_THREAD || l->what || !known ||
		    l->est_ns >= MARK_NS || l->commands >= MARK_COMMANDS) {
			f->account.brief = false;
			mark_lane(f, l);
		}
	} else if (!f->commands) {
		aq__account_idle(f, now);
	}
	aq__unlock(&f->lock);
}

/* ---- of a device ---- */

/* For every flight on the device, with its lock held. */
#define FOR_EACH_ON(f, device)                                                                     \
	for (uint32_t i_ = 0, n_ = aq__flights(); i_ < n_; i_++)                                   \
		if ((f = flights[i_]) && ctx_of(f) && index_of(f) == (device))

uint64_t aq__flight_left(int index, uint64_t now_ns, bool look)
{
	struct aq__flight *f;
	uint64_t sum = 0;

	FOR_EACH_ON(f, index)
	{
		aq__lock(&f->lock);
		if (look)
			reap(f);
		sum += aq__account_left(f, now_ns);
		aq__unlock(&f->lock);
	}
	return sum;
}

/*
 * Lock held. A lane that cannot be marked now: another thread's default stream, or one that a
 * capture of another stream has drawn in. It is taken as done after what it was estimated for, and
 * as much again; charged is what the host's clock says.
 */
static void unmarkable(struct aq__flight *f, struct aq__lane *l)
{
	uint64_t now = aq_now_ns();

	if (!f->dying && now > l->last_ns + 2 * f->est_ns + GIVE_UP_NS)
		lane_done(f, l, now, false);
}

/* Lock held; not while the driver is asked. A mark behind what is done would tell too late. */
static bool tail_is_done(struct aq__flight *f, struct aq__lane *l)
{
	uint32_t commands = l->commands;
	bool done;

	if (!own_lane(l))
		return false;
	l->recording = true; /* the stream stays while it is asked about */
	done = lane_is_done(f, l);
	l->recording = false;
	return done && l->commands == commands;
}

static void mark_tails(struct aq__flight *f)
{
	for (uint32_t i = 0; i < AQ__LANES; i++) {
		struct aq__lane *l = &f->lanes[i];

		if (!l->commands || l->recording)
			continue;
		if (!f->account.marked && tail_is_done(f, l))
			lane_done(f, l, aq_now_ns(), true);
		else if (!mark_unless_captured(f, l))
			unmarkable(f, l);
	}
}

/* What waits for nothing else to be submitted must not look as if it were in flight for ever: all
 * that others take would be taken for its time. */
void aq__flight_mark(struct aq__flight *f, const struct aq__command *c)
{
	aq__lock(&f->lock);
	for (uint32_t i = 0; i < AQ__LANES && f->ctx == c->ctx; i++) {
		struct aq__lane *l = &f->lanes[i];

		if (!l->commands || l->recording)
			continue;
		if (l->stream == c->stream && own_lane(l))
			mark_lane(f, l);
		else if (!mark_unless_captured(f, l))
			unmarkable(f, l);
	}
	aq__unlock(&f->lock);
}

bool aq__flight_regular(int index, uint64_t error_ns, uint64_t now_ns)
{
	struct aq__flight *f;
	bool regular = true;

	FOR_EACH_ON(f, index)
	{
		aq__lock(&f->lock);
		for (uint32_t i = 0; i < AQ__LANES; i++)
			regular &= !f->lanes[i].commands;
		regular &= aq__account_regular(f, error_ns, now_ns);
		aq__unlock(&f->lock);
	}
	return regular;
}

bool aq__flight_steady(int index, uint64_t error_ns)
{
	struct aq__flight *f;
	bool steady = true;

	FOR_EACH_ON(f, index)
	{
		aq__lock(&f->lock);
		steady &= f->error_ns && f->error_ns < error_ns;
		aq__unlock(&f->lock);
	}
	return steady;
}

bool aq__flight_drained(int index)
{
	struct aq__flight *f;
	bool drained = true;

	FOR_EACH_ON(f, index)
	{
		aq__lock(&f->lock);
		reap(f);
		if (f->commands) {
			mark_tails(f);
			reap(f);
		}
		drained &= !f->commands && f->first == f->last;
		aq__unlock(&f->lock);
	}
	return drained;
}

/* Contexts that work at once have slices of each other in what they measure, and guess what is in
 * flight: together they had the device for no longer than has passed since it was harvested last.
 */
static uint64_t together(uint64_t sum, uint64_t since_ns, bool foretell)
{
	uint64_t most = aq_now_ns() - since_ns + (foretell ? FORETOLD_MOST_NS : 0);

	return since_ns && sum > most ? most : sum;
}

uint64_t aq__flight_harvest(int index, bool foretell)
{
	uint32_t workers = 0;
	uint64_t sum = 0;

	aq__lock(&harvesting);
	/* Those whose context is gone, too. */
	for (uint32_t i = 0, n = aq__flights(); i < n; i++) {
		struct aq__flight *f = flights[i];
		uint64_t ns;

		if (index_of(f) != index)
			continue;
		aq__lock(&f->lock);
		ns = aq__account_harvest(f, foretell);
		aq__unlock(&f->lock);
		sum += ns;
		workers += ns != 0;
	}
	if (workers > 1)
		sum = together(sum, harvested_ns[index], foretell);
	harvested_ns[index] = aq_now_ns();
	aq__unlock(&harvesting);
	return sum;
}

/* ---- what the program does ---- */

/* Lock held. Is the lane on what is waited for? */
static bool concerns(const struct aq__lane *l, CUstream stream, bool all)
{
	return l->commands && !l->recording && own_lane(l) && (all || l->stream == stream);
}

/* Lock held; not while the driver is asked. */
static void mark_concerned(struct aq__flight *f, CUstream stream, bool all)
{
	for (uint32_t k = 0; k < AQ__LANES; k++) {
		struct aq__lane *l = &f->lanes[k];

		if (!concerns(l, stream, all))
			continue;
		if (f->account.brief && lane_is_done(f, l))
			aq__account_sampled(f, true);
		(void)mark_unless_captured(f, l);
	}
}

void aq__flight_sync_begin(CUstream stream, bool all)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		struct aq__flight *f = flights[i];

		aq__lock(&f->lock);
		f->account.brief &= f->est_ns < MARK_SYNC_NS;
		if (f->commands && (f->est_ns >= MARK_SYNC_NS || f->account.sampled))
			mark_concerned(f, stream, all);
		aq__unlock(&f->lock);
	}
}

/* Once in a step: who asks about old work all the time has not submitted the last of it. */
void aq__flight_asked(CUstream stream, bool all)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		struct aq__flight *f = flights[i];

		aq__lock(&f->lock);
		if (f->commands && f->account.sampled && !f->account.asked) {
			f->account.asked = true;
			mark_concerned(f, stream, all);
		}
		aq__unlock(&f->lock);
	}
}

/* Does another thread look whether what was waited for is done? Before it knows, this step and the
 * next would be taken for one, with the pause between them. */
static bool looked_at(const struct aq__flight *f, CUstream stream, bool all)
{
	bool recording = false;

	for (uint32_t k = 0; k < AQ__LANES; k++) {
		const struct aq__lane *l = &f->lanes[k];

		recording |= l->recording && own_lane(l) && (all || l->stream == stream);
	}
	return recording || f->reaping;
}

void aq__flight_sync_end(CUstream stream, bool all, CUresult r)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; r == CUDA_SUCCESS && i < n; i++) {
		struct aq__flight *f = flights[i];
		uint64_t now = aq_now_ns();

		aq__lock(&f->lock);
		while (f->commands && looked_at(f, stream, all) && aq_now_ns() < now + LOOK_MOST_NS)
			pass_on(f);
		if (f->commands)
			reap(f);
		aq__account_told(f, now);
		for (uint32_t k = 0; f->commands && k < AQ__LANES; k++) {
			struct aq__lane *l = &f->lanes[k];

			if (concerns(l, stream, all) && (!all || lane_is_done(f, l)))
				lane_done(f, l, now > l->last_ns ? now : l->last_ns, true);
		}
		aq__unlock(&f->lock);
	}
}

void aq__flight_stream_gone(CUstream stream)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		struct aq__flight *f = flights[i];
		struct aq__lane *l;

		aq__lock(&f->lock);
		while ((l = lane_of(f, stream, false)) && l->recording) {
			aq__unlock(&f->lock);
			sched_yield(); /* for as long as one record takes */
			aq__lock(&f->lock);
		}
		if (l) {
			mark_lane(f, l);
			*l = (struct aq__lane){0};
		}
		aq__unlock(&f->lock);
	}
}

/* Nobody's but the caller's. */
static void destroy_events(const struct aq__flight *f)
{
	for (uint32_t i = 0; i < AQ__MARKS; i++)
		if (f->marks[i].event)
			(void)AQ__CALL(cuEventDestroy_v2, f->marks[i].event);
	if (f->account.base)
		(void)AQ__CALL(cuEventDestroy_v2, f->account.base);
	if (f->account.base_before)
		(void)AQ__CALL(cuEventDestroy_v2, f->account.base_before);
}

/* Lock held. Its context and its events are gone: what it measured is left. */
static void forget(struct aq__flight *f)
{
	aq__account_idle(f, f->last_ns + f->est_ns);
	f->account = (struct aq__account){.busy_ns = aq__account_harvest(f, false)};
	memset(f->marks, 0, sizeof(f->marks));
	memset(f->lanes, 0, sizeof(f->lanes));
	memset(f->known, 0, sizeof(f->known));
	f->first = f->last = f->commands = 0;
	f->est_ns = f->error_ns = 0;
	f->command = (struct aq__length){0};
	f->life++;
	__atomic_store_n(&f->ctx, NULL, __ATOMIC_RELEASE);
}

/* Lock held. From here on nobody of us calls the driver with what is in the context. */
static void keep_off(struct aq__flight *f)
{
	reap(f);
	f->dying++;
	while (f->pins) {
		aq__unlock(&f->lock);
		sched_yield(); /* for as long as a record or a query takes */
		aq__lock(&f->lock);
	}
}

void aq__flight_context_gone(CUcontext ctx)
{
	struct aq__flight *f = ctx ? find(ctx) : NULL;

	if (!f)
		return;
	aq__lock(&f->lock);
	keep_off(f);
	aq__unlock(&f->lock);
	destroy_events(f);
	aq__lock(&f->lock);
	forget(f);
	f->dying--;
	aq__unlock(&f->lock);
}

struct aq__flight *aq__flight_context_released(CUcontext ctx)
{
	struct aq__flight *f = ctx ? find(ctx) : NULL;
	int saved = errno;

	if (!f)
		return NULL;
	aq__lock(&f->lock);
	keep_off(f);
	aq__unlock(&f->lock);
	errno = saved;
	return f;
}

void aq__flight_context_left(struct aq__flight *held, CUcontext ctx, bool gone)
{
	struct aq__flight *f = ctx && gone ? find(ctx) : NULL;

	if (f) {
		aq__lock(&f->lock);
		if (f->ctx == ctx)
			forget(f);
		aq__unlock(&f->lock);
	}
	if (held) {
		aq__lock(&held->lock);
		held->dying--;
		aq__unlock(&held->lock);
	}
}

void aq__flight_unfollowed(int index)
{
	struct aq__flight *f;

	FOR_EACH_ON(f, index)
	{
		aq__lock(&f->lock);
		f->account.followed = false;
		f->account.steps_left = 0; /* a base first */
		aq__unlock(&f->lock);
	}
}

/* The events were the parent's; the places serve the child. */
void aq__flight_forked(void)
{
	for (uint32_t i = 0; i < aq__flights_made; i++)
		memset(flights[i], 0, sizeof(*flights[i]));
	aq__lock_reset(&making);
	aq__lock_reset(&harvesting);
}
