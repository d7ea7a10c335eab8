/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands in flight, by context and device; see flight.h. Marks are flight_mark.c's, what the
 * program waits for is flight_wait.c's.
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
#define PAUSE_NS (500 * AQ_NS_PER_US)	    /* without a command: is the last one done already? */
#define LOOK_NS (100 * AQ_NS_PER_US)	    /* a submitting thread looks at marks no more often */
#define FORETOLD_MOST_NS (4 * AQ_NS_PER_MS) /* a lease; several contexts have less in flight */
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

struct aq__flight *aq__flight_at(uint32_t i)
{
	return flights[i];
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

/* ---- around a command ---- */

/* Lock held. Has all that is in flight a mark? Then it may be done, and a pause have begun. */
static bool all_marked(const struct aq__flight *f)
{
	uint32_t marked = 0;

	for (uint32_t i = f->first; i != f->last; i++)
		marked += f->marks[i % AQ__MARKS].commands;
	return f->first != f->last && marked >= f->commands;
}

void aq__flight_before(struct aq__flight *f, struct aq__command *c)
{
	uint64_t now = aq_now_ns();
	struct aq__lane *l;

	aq__lock(&f->lock);
	while (f->reaping && now - f->last_ns > PAUSE_NS) /* a pause must not look like work */
		aq__mark_pass_on(f);
	if (now - f->looked_ns > LOOK_NS || all_marked(f))
		aq__mark_reap(f);
	/* After a pause, what was submitted last without a mark is probably done, and long since.
	 */
	if (f->commands && f->first == f->last && now - f->last_ns > 2 * f->est_ns + PAUSE_NS &&
	    f->ctx == c->ctx) {
		uint64_t end = f->last_ns + f->est_ns;

		l = aq__lane_of(f, c->stream, false);
		if (l && l->commands && aq__lane_is_done(f, l))
			aq__lane_done(f, l, end, false);
	}
	if (f->ctx == c->ctx && aq__account_start(f, now))
		aq__mark_base(f, c);
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
		aq__mark_look_at_base(f);
	aq__account_began(f, !f->account.late && !c->waits, c->from_ns, now);
	if (!f->account.sampled || c->waits || l->recording)
		return;
	aq__account_sampled(f, aq__lane_is_done(f, l));
	mark = f->last;
	aq__mark_lane(f, l);
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
		l = aq__lane_of(f, c->stream, true);
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
			aq__mark_look_at_base(f);
		if (c->waits && aq__lane_is_done(f, l))
			aq__lane_done(f, l, aq_now_ns(), false);
		if (c->stream == CU_STREAM_PER_THREAD || l->what || !known ||
		    l->est_ns >= MARK_NS || l->commands >= MARK_COMMANDS) {
			f->account.brief = false;
			aq__mark_lane(f, l);
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
			aq__mark_reap(f);
		sum += aq__account_left(f, now_ns);
		aq__unlock(&f->lock);
	}
	return sum;
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
		if (l->stream == c->stream && aq__lane_is_own(l))
			aq__mark_lane(f, l);
		else if (!aq__mark_unless_captured(f, l))
			aq__mark_unmarkable(f, l);
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
		aq__mark_reap(f);
		if (f->commands) {
			aq__mark_tails(f);
			aq__mark_reap(f);
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

/* ---- contexts end ---- */

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
	aq__mark_reap(f);
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
