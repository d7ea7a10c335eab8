/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may submit now, and who waits; see gate.h. When a lease is given back is decided in
 * gate_back.c; what is in flight is known by flight.c.
 *
 * A thread that submits counts itself in `calls` first and looks whether it may after; whoever
 * closes the gate does so first and looks at `calls` after. Both in sequential consistency, so at
 * least one of them sees the other.
 */
#include "guard/gate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/number.h"
#include "base/timing.h"
#include "guard/calls.h"
#include "guard/gate_parts.h"
#include "guard/guard.h"
#include "guard/movable.h"
#include "guard/guest.h"

/* A lost wake-up, bell or daemon costs no more. */
#define LOOK_AGAIN_NS (10 * AQ_NS_PER_MS)

/*
 * Of work in flight, before one more command: what somebody who wakes up has to wait for. And what
 * keeps the device busy while this thread sleeps: on a busy host threads wake milliseconds late.
 * The second while others wait, of whom some go before us and would not wait for the end of a
 * lease; the third if none do: they have the device when the lease ends, whatever is in flight
 * before.
 */
#define WINDOW_NS AQ_NS_PER_MS
#define WINDOW_WAITING_NS (AQ_NS_PER_MS / 2)
#define WINDOW_PEERS_NS (4 * AQ_NS_PER_MS)

/* What has not moved for this, and twice what it should take, waits for somebody: maybe for us. */
#define STUCK_NS (5 * AQ_NS_PER_MS)
#define PATIENCE_NS (100 * AQ_NS_PER_MS) /* however long that is */

#define PUBLISH_NS (10 * AQ_NS_PER_MS) /* of device time, in a lease that does not end */

/* ---- waiting ---- */

/* Sleep on a word of the page; wakes early for no reason at times. */
static void sleep_on(const _Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / AQ_NS_PER_S), (long)(ns % AQ_NS_PER_S)};

	syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0);
}

/* Threads of the program may be allowed to be late; not while they sleep for us. */
static int timer_slack(int ns)
{
	int was = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);

	if (was > 0 && was != ns)
		prctl(PR_SET_TIMERSLACK, (unsigned long)ns, 0, 0, 0);
	return was;
}

/* The same, with the precision of the timer. */
static void nap_on(const _Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
	int slack = timer_slack(1);

	sleep_on(word, value, ns);
	(void)timer_slack(slack);
}

static void nap(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / AQ_NS_PER_S), (long)(ns % AQ_NS_PER_S)};
	int slack = timer_slack(1);

	syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL);
	(void)timer_slack(slack);
}

/* Return: the daemon was told. */
static bool say_want(struct aq_page_device *dev, int index, bool again)
{
	bool news = !__atomic_exchange_n((uint32_t *)&dev->want, 1, __ATOMIC_SEQ_CST) || again;

	if (news)
		aq__gate_bell(index);
	return news;
}

/* Until there is a new lease, or it is time to look again. */
static void wait_turn(struct aq_page_device *dev, int index, uint32_t turn, bool again)
{
	uint64_t now, next = NEVER;

	if (again)
		(void)aq__gate_daemon_looks(true);
	(void)say_want(dev, index, again);
	if (!aq__gate_thread_start()) {
		now = aq_now_ns();
		next = aq__gate_tend(index, now);
		next = aq_max(aq_minus(next, now), 1);
	}
	sleep_on(&dev->lease_turn, turn, aq_min(next, LOOK_AGAIN_NS));
}

static void start_waiting(struct aq__gate_device *d, bool *counted)
{
	if (!*counted)
		__atomic_fetch_add(&d->waiters, 1, __ATOMIC_SEQ_CST);
	*counted = true;
}

/* Nobody waits any more; what was wanted without a lease is not wanted. */
static void stop_waiting(struct aq_page_device *dev, int index, bool leased)
{
	if (!__atomic_sub_fetch(&aq__gate_devices[index].waiters, 1, __ATOMIC_SEQ_CST) && !leased)
		aq__store32(&dev->want, 0);
}

void aq__gate_ask(int index)
{
	struct aq_page *page = aq__page_get();
	bool counted = false;
	uint32_t turn;

	if (!page)
		return;
	turn = aq__load32(&page->device[index].lease_turn);
	start_waiting(&aq__gate_devices[index], &counted);
	(void)say_want(&page->device[index], index, true);
	sleep_on(&page->device[index].lease_turn, turn, LOOK_AGAIN_NS);
	stop_waiting(&page->device[index], index, false);
}

/* ---- may this thread submit? ---- */

static void uncount(uint32_t *calls)
{
	__atomic_fetch_sub(calls, 1, __ATOMIC_SEQ_CST);
}

/* Count this thread in, unless the gate is closed for it. */
static bool pass_unleased(const struct aq_page_device *dev, int index, bool link)
{
	struct aq__gate_device *d = &aq__gate_devices[index];
	uint32_t *calls = link ? &d->links : &d->calls;

	__atomic_fetch_add(calls, 1, __ATOMIC_SEQ_CST);
	if (!aq__gate_shut(dev, index) && (link || !(aq__gate_word(dev) & AQ_GATE_LEASED)))
		return true;
	uncount(calls);
	return false;
}

/* Turns only go forward: a thread that was asleep since it looked must not bring an old one back.
 */
static void claim(struct aq_page_device *dev, uint32_t turn)
{
	uint32_t *word = (uint32_t *)&dev->active_turn, was = aq__load32(&dev->active_turn);

	if (aq__turn_later(turn, was))
		aq__store32(&dev->edge_ns, aq__edge(aq_now_ns()));
	while (aq__turn_later(turn, was) &&
	       !__atomic_compare_exchange_n(word, &was, turn, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST))
		;
}

/*
 * Count this thread in if there is a lease. A turn that was claimed in vain is given back at once,
 * unless others of this process use it: then who gives that back gives back this.
 */
static bool pass_leased(struct aq_page_device *dev, int index, uint32_t turn)
{
	struct aq__gate_device *d = &aq__gate_devices[index];
	uint32_t before = aq__load32(&dev->active_turn);

	if (!aq__gate_lease_runs(dev, index, turn) || aq__gate_shut(dev, index))
		return false;
	__atomic_fetch_add(&d->calls, 1, __ATOMIC_SEQ_CST);
	claim(dev, turn);
	if (aq__load32(&dev->lease_turn) == turn && aq__gate_lease_runs(dev, index, turn) &&
	    !aq__gate_shut(dev, index)) {
		if (aq__load64(&dev->lease_until_ns) == AQ_LEASE_STANDING &&
		    say_want(dev, index, false))
			aq__gate_thread_kick();
		return true;
	}
	uncount(&d->calls);
	if (before != turn && aq__load32(&dev->active_turn) == turn)
		aq__gate_thread_kick();
	return false;
}

/* Lengths that cannot be foretold do not end with the lease. */
static uint64_t window_ns(const struct aq_page_device *dev, int index)
{
	uint32_t waiting = aq__load32(&dev->waiting);

	if (!waiting)
		return WINDOW_NS;
	if (waiting == AQ_WAITING_PEERS && aq__flight_steady(index, EARLY_NS))
		return WINDOW_PEERS_NS;
	return WINDOW_WAITING_NS;
}

/*
 * This thread is counted in. Is there room in flight for one more command that would begin before
 * the lease ends? If not, the end of what is there is marked. It is so also while nobody waits for
 * the device: who comes then has to wait for all of it. But no command is kept for longer than
 * until @patience_ns, set here at first: what does not move may wait for us.
 * Return: 0: there is; else in how many ns to ask again
 */
static uint64_t room(const struct aq_page_device *dev, const struct aq__pass *p,
		     uint64_t *patience_ns)
{
	uint64_t now = aq_now_ns(), until = aq__load64(&dev->lease_until_ns);
	uint64_t left = aq__flight_left(p->index, now, false), window, over, most;

	if (!left)
		return 0;
	window = window_ns(dev, p->index);
	if (left <= window && now + left < until)
		return 0;
	if (!*patience_ns)
		*patience_ns = now + aq_min(2 * left, PATIENCE_NS) + STUCK_NS;
	aq__flight_mark(p->flight, &p->command);
	left = aq__flight_left(p->index, now, true);
	if (now >= *patience_ns || (left <= window && (!left || now + left < until)))
		return 0;
	/* A little more than has to be, so that not each command costs a sleep. */
	over = (left > window ? left - window : left) + window / 4;
	/* Kernels of an engine's prompts take a tenth of the last time's, or ten times that. */
	most = aq__flight_regular(p->index, EARLY_NS, now) ? NAP_NS : POLL_NS;
	return aq_min(aq_max(over, POLL_LEAST_NS), most);
}

static void answer_notice(struct aq_page_device *dev, int index)
{
	uint32_t notice = aq__load32(&dev->notice);

	if (aq__load32(&dev->noticed) == notice)
		return;
	aq__store32(&dev->noticed, notice);
	aq__gate_bell(index);
}

/* Wait until this thread is counted in. Return: whether in a lease. */
static bool admit(struct aq_page_device *dev, struct aq__pass *p)
{
	struct aq__gate_device *d = &aq__gate_devices[p->index];
	bool counted = false, again = false, leased;
	uint64_t patience_ns = 0, ns;
	uint32_t word, turn;

	for (;;) {
		turn = aq__load32(&dev->lease_turn);
		word = aq__gate_word(dev);
		if (word & AQ_GATE_NOTICE)
			answer_notice(dev, p->index);
		leased = word & AQ_GATE_LEASED && !p->link;
		if (leased)
			aq__gate_thread_start();
		if (leased ? pass_leased(dev, p->index, turn)
			   : pass_unleased(dev, p->index, p->link)) {
			if (!leased || !p->flight)
				break;
			ns = room(dev, p, &patience_ns);
			if (!ns)
				break;
			start_waiting(d, &counted);
			uncount(&d->calls);
			nap_on(&dev->lease_turn, turn, ns);
			continue;
		}
		start_waiting(d, &counted);
		ns = aq_now_ns();
		wait_turn(dev, p->index, turn, again);
		patience_ns += patience_ns ? aq_now_ns() - ns : 0;
		again = true;
	}
	if (counted)
		stop_waiting(dev, p->index, leased);
	return leased;
}

/* ---- entering and leaving ---- */

static CUcontext context_of(CUstream stream, bool per_thread)
{
	CUcontext ctx = NULL;
	CUresult r = CUDA_ERROR_INVALID_VALUE;

	if (stream && stream != CU_STREAM_LEGACY && stream != CU_STREAM_PER_THREAD)
		r = per_thread ? AQ__CALL(cuStreamGetCtx_ptsz, stream, &ctx)
			       : AQ__CALL(cuStreamGetCtx, stream, &ctx);
	if ((r != CUDA_SUCCESS || !ctx) && AQ__CALL(cuCtxGetCurrent, &ctx) != CUDA_SUCCESS)
		return NULL;
	return ctx;
}

static CUstream stream_of(CUstream stream, bool per_thread)
{
	if (stream)
		return stream;
	return per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
}

/* Fill in where the call goes. Return: whether it passes a gate of the fraction at all. */
static bool resolve(struct aq__pass *p, CUstream stream, bool per_thread)
{
	struct aq__place place;

	p->command.ctx = context_of(stream, per_thread);
	p->command.stream = stream_of(stream, per_thread);
	if (!p->command.ctx)
		return false; /* the driver says so itself */
	p->index = aq__flight_index(p->command.ctx);
	if (p->index == AQ__UNBOUND) {
		aq__place_of_stream(&place, stream, per_thread);
		p->index = place.index;
	}
	return p->index >= 0 && !aq__capturing(stream, per_thread);
}

void aq__gate_enter(struct aq__pass *p, CUstream stream, bool per_thread, const void *what,
		    unsigned int how)
{
	struct aq_page *page = aq__page_get();
	struct aq_page_device *dev;

	*p = (struct aq__pass){
		.index = AQ__UNBOUND,
		.saved_errno = errno,
		.link = how & AQ__LINK,
		.command = {.what = what, .waits = how & AQ__WAITS},
	};
	if (!page || !resolve(p, stream, per_thread)) {
		p->index = AQ__UNBOUND;
		errno = p->saved_errno;
		return;
	}
	dev = &page->device[p->index];
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &p->cancel);
	if (aq__gate_word(dev) & AQ_GATE_LEASED && !p->link)
		p->flight = aq__flight_of(p->command.ctx, p->index);
	if (!admit(dev, p))
		p->flight = NULL;
	if (p->flight)
		aq__flight_before(p->flight, &p->command);
	errno = p->saved_errno;
}

void aq__gate_leave(struct aq__pass *p, CUresult r)
{
	struct aq_page *page = aq__page_get();
	int saved = errno;
	struct aq__gate_device *d;
	uint64_t now;

	if (p->index < 0)
		return;
	d = &aq__gate_devices[p->index];
	now = aq_now_ns();
	if (p->flight && page) {
		aq__flight_after(p->flight, &p->command, r);
		if (now - __atomic_load_n(&d->published_ns, __ATOMIC_RELAXED) > PUBLISH_NS)
			aq__gate_publish(&page->device[p->index], p->index, false, now);
	}
	if (!p->link)
		__atomic_store_n(&d->last_ns, now, __ATOMIC_RELAXED);
	uncount(p->link ? &d->links : &d->calls);
	pthread_setcancelstate(p->cancel, NULL);
	errno = saved;
}

/* ---- what the program waits for, and destroys ---- */

void aq__gate_sync_begin(CUstream stream, bool per_thread, bool all)
{
	int saved = errno;

	if (!aq__flights() || !aq__page_get())
		return;
	aq__flight_sync_begin(stream_of(stream, per_thread), all);
	errno = saved;
}

void aq__gate_asked(CUstream stream, bool per_thread, bool all)
{
	int saved = errno;

	if (!aq__page_get())
		return;
	aq__flight_asked(stream_of(stream, per_thread), all);
	errno = saved;
}

void aq__gate_sync_end(CUstream stream, bool per_thread, bool all, CUresult r)
{
	int saved = errno;

	if (!aq__flights() || !aq__page_get())
		return;
	aq__flight_sync_end(stream_of(stream, per_thread), all, r);
	errno = saved;
}

void aq__gate_stream_gone(CUstream stream, bool per_thread)
{
	int saved = errno;

	if (!aq__flights() || !aq__page_get())
		return;
	aq__flight_stream_gone(stream_of(stream, per_thread));
	errno = saved;
}

void aq__gate_context_gone(CUcontext ctx)
{
	int saved = errno;

	if (!aq__flights() || !aq__page_get())
		return;
	aq__flight_context_gone(ctx);
	errno = saved;
}

/* ---- closing it for work of our own ---- */

static bool reached(const uint32_t *calls, uint64_t until_ns)
{
	while (__atomic_load_n(calls, __ATOMIC_SEQ_CST)) {
		if (aq_now_ns() >= until_ns)
			return false;
		nap(POLL_LEAST_NS);
	}
	return true;
}

int aq__gate_close_and_drain(int index, uint64_t until_ns)
{
	struct aq_page *page = aq__page_get();
	struct aq__gate_device *d = &aq__gate_devices[index];

	__atomic_fetch_add(&d->shut, 1, __ATOMIC_SEQ_CST);
	if (reached(&d->calls, until_ns) && reached(&d->links, until_ns) &&
	    aq__gate_settle(index, until_ns)) {
		while (!aq__flight_drained(index) && aq_now_ns() < until_ns)
			nap(POLL_NS);
		if (aq__flight_drained(index)) {
			/* A lease that is kept says so until it is given back: not now. */
			if (page)
				aq__gate_want_if_waiting(&page->device[index], index);
			return 0;
		}
	}
	aq__gate_reopen(index);
	return -EBUSY;
}

void aq__gate_reopen(int index)
{
	struct aq_page *page = aq__page_get();

	__atomic_fetch_sub(&aq__gate_devices[index].shut, 1, __ATOMIC_SEQ_CST);
	if (page)
		syscall(SYS_futex, &page->device[index].lease_turn, FUTEX_WAKE, INT_MAX, NULL, NULL,
			0);
}

bool aq__gate_is_shut(void)
{
	for (uint32_t i = 0; i < AQ_MAX_DEVICES; i++) {
		if (__atomic_load_n(&aq__gate_devices[i].shut, __ATOMIC_SEQ_CST))
			return true;
	}
	return false;
}

void aq__gate_forked(void)
{
	aq__gate_page_forked();
	aq__flight_forked();
	aq__gate_thread_forked();
}
