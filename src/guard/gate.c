/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may submit now, who waits, and when a lease is given back; see gate.h. What is in flight is
 * known by flight.c; when to look is decided here and done by the thread (gate_thread.c).
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
#include "guard/conn.h"
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

/* A thread sleeps so long at the most until it looks at estimates again. */
#define NAP_NS (500 * AQ_NS_PER_US)

/* What has not moved for this, and twice what it should take, waits for somebody: maybe for us. */
#define STUCK_NS (5 * AQ_NS_PER_MS)
#define PATIENCE_NS (100 * AQ_NS_PER_MS) /* however long that is */

/* A pause this long gives back what others wait for: about what handing over and back costs. */
#define IDLE_NS (100 * AQ_NS_PER_US)

/* A lease is given back so long before what is in flight is done, while the daemon has not told how
 * long handing over takes: 55 to 85 us on a host with nothing else to do (simulator). */
#define EARLY_NS (100 * AQ_NS_PER_US)
#define EARLY_MOST_NS AQ_NS_PER_MS
/* By which that may be wrong when a higher priority has the device already: it is put right later.
 */
#define URGENT_ERROR_NS AQ_NS_PER_MS

/* A daemon looks at each page once a second. One that has not for so long, while somebody waits, is
 * stopped, or waits itself, for a disk or a driver. */
#define STALLED_NS (3 * AQ_NS_PER_S)

#define BUSY_NS AQ_NS_PER_MS /* while threads submit or are about to, there is nothing to see */
#define POLL_NS (100 * AQ_NS_PER_US)
#define POLL_LEAST_NS (20 * AQ_NS_PER_US)
#define PUBLISH_NS (10 * AQ_NS_PER_MS) /* of device time, in a lease that does not end */
#define NEVER UINT64_MAX

/* One device; all atomic. */
static struct device {
	uint32_t calls;	  /* threads between enter and leave */
	uint32_t links;	  /* ... of copies, which need no lease */
	uint32_t waiters; /* threads that wait to submit */
	uint32_t shut;	  /* aq__gate_close_and_drain() */
	uint32_t tended;  /* somebody is in aq__gate_tend() */
	uint64_t closed;  /* turn + 1 that is given back before its end; 0: none */
	uint64_t last_ns; /* when a thread left last */
	uint64_t published_ns;
	uint64_t likely_ns; /* until then it wants, though nobody waits; 0: no. By who tends */
} __attribute__((aligned(64))) devices[AQ_MAX_DEVICES];

static uint32_t stalled; /* the daemon is, as far as is known; atomic */

static uint32_t load32(const _Atomic uint32_t *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_SEQ_CST);
}

static uint64_t load64(const _Atomic uint64_t *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_SEQ_CST);
}

static void store32(_Atomic uint32_t *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_SEQ_CST);
}

static void bell(int index)
{
	aq__conn_bell(1u << index);
}

/* ---- what the page says ---- */

/* Whether the daemon looks at the page; @suspect: somebody waits for longer than is usual. */
static bool daemon_looks(bool suspect)
{
	const struct aq_page *page = aq__page_get();
	uint64_t beat;
	bool is;

	if (!suspect && !__atomic_load_n(&stalled, __ATOMIC_RELAXED))
		return true;
	beat = page ? load64(&page->beat_ns) : 0;
	is = beat && aq_minus(aq_now_ns(), beat) > STALLED_NS;
	__atomic_store_n(&stalled, is, __ATOMIC_RELAXED);
	return !is;
}

/* The gate as it counts: leases are nobody's to give while there is no daemon. */
static uint32_t gate_word(const struct aq_page_device *dev)
{
	uint32_t word = load32(&dev->gate);

	if (word & AQ_GATE_LEASED && (!aq__conn_up() || !daemon_looks(false)))
		word &= ~AQ_GATE_LEASED;
	return word;
}

static bool lease_runs(const struct aq_page_device *dev, const struct device *d, uint32_t turn)
{
	uint64_t until = load64(&dev->lease_until_ns);

	if (!until || __atomic_load_n(&d->closed, __ATOMIC_SEQ_CST) == (uint64_t)turn + 1)
		return false;
	if (turn && load32(&dev->done_turn) == turn)
		return false; /* the end of the next one is written before its number */
	return until == AQ_LEASE_UNTIL_TOLD || until > aq_now_ns();
}

/* How long before the end of what is in flight a lease is given back. */
static uint64_t early_ns(const struct aq_page_device *dev)
{
	uint64_t ns = load32(&dev->early_ns);

	return !ns ? EARLY_NS : ns < EARLY_MOST_NS ? ns : EARLY_MOST_NS;
}

/* An instant as the page has it: never 0, which is none. */
static uint32_t edge(uint64_t ns)
{
	return (uint32_t)ns ? (uint32_t)ns : 1;
}

/* Nobody submits, lease or not. */
static bool is_shut(const struct aq_page_device *dev, const struct device *d)
{
	return __atomic_load_n(&d->shut, __ATOMIC_SEQ_CST) || load32(&dev->gate) & AQ_GATE_PARKED;
}

static void publish(struct aq_page_device *dev, int index, bool foretell, uint64_t now_ns)
{
	uint64_t used = aq__flight_harvest(index, foretell);

	__atomic_store_n(&devices[index].published_ns, now_ns, __ATOMIC_RELAXED);
	if (used)
		__atomic_fetch_add((uint64_t *)&dev->gpu_ns, used, __ATOMIC_SEQ_CST);
}

/* Turns wrap. */
static bool later(uint32_t turn, uint32_t than)
{
	return (int32_t)(turn - than) > 0;
}

/* Whoever begins or ceases to wait meanwhile writes after us what we have not seen. */
static void want_if_waiting(struct aq_page_device *dev, const struct device *d)
{
	uint32_t waiters;

	do {
		waiters = __atomic_load_n(&d->waiters, __ATOMIC_SEQ_CST);
		store32(&dev->want, waiters != 0);
	} while (!waiters != !__atomic_load_n(&d->waiters, __ATOMIC_SEQ_CST));
}

/*
 * The turn is given back. Nothing of it is in flight, and nobody submits in it. @likely: a program
 * whose lease was ended while it worked has more to submit, be it that it has to be told first that
 * this is done; it wants for another IDLE_NS, or a launcher that waits for each step would stand
 * behind everybody at each end of a lease, whatever its share.
 */
static void give_back(struct aq_page_device *dev, int index, uint32_t turn, bool likely)
{
	struct device *d = &devices[index];
	uint64_t now = aq_now_ns(), end = now + aq__flight_left(index, now, false);

	publish(dev, index, true, now);
	store32(&dev->edge_ns, aq__flight_steady(index, EARLY_NS) ? edge(end) : 0);
	likely = likely && !is_shut(dev, d); /* its memory would be brought back for it */
	d->likely_ns = likely ? now + IDLE_NS : 0;
	if (likely)
		store32(&dev->want, 1);
	else
		want_if_waiting(dev, d);
	if (later(turn, load32(&dev->done_turn)))
		store32(&dev->done_turn, turn);
	bell(index);
}

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

static void say_want(struct aq_page_device *dev, int index, bool again)
{
	if (!__atomic_exchange_n((uint32_t *)&dev->want, 1, __ATOMIC_SEQ_CST) || again)
		bell(index);
}

/* Until there is a new lease, or it is time to look again. */
static void wait_turn(struct aq_page_device *dev, int index, uint32_t turn, bool again)
{
	uint64_t now, next = NEVER;

	if (again)
		(void)daemon_looks(true);
	say_want(dev, index, again);
	if (!aq__gate_thread_start()) {
		now = aq_now_ns();
		next = aq__gate_tend(index, now);
		next = next > now ? next - now : 1;
	}
	sleep_on(&dev->lease_turn, turn, next < LOOK_AGAIN_NS ? next : LOOK_AGAIN_NS);
}

static void start_waiting(struct device *d, bool *counted)
{
	if (!*counted)
		__atomic_fetch_add(&d->waiters, 1, __ATOMIC_SEQ_CST);
	*counted = true;
}

/* Nobody waits any more; what was wanted without a lease is not wanted. */
static void stop_waiting(struct aq_page_device *dev, int index, bool leased)
{
	if (!__atomic_sub_fetch(&devices[index].waiters, 1, __ATOMIC_SEQ_CST) && !leased)
		store32(&dev->want, 0);
}

void aq__gate_ask(int index)
{
	struct aq_page *page = aq__page_get();
	bool counted = false;
	uint32_t turn;

	if (!page)
		return;
	turn = load32(&page->device[index].lease_turn);
	start_waiting(&devices[index], &counted);
	say_want(&page->device[index], index, true);
	sleep_on(&page->device[index].lease_turn, turn, LOOK_AGAIN_NS);
	stop_waiting(&page->device[index], index, false);
}

/* ---- may this thread submit? ---- */

static void uncount(uint32_t *calls)
{
	__atomic_fetch_sub(calls, 1, __ATOMIC_SEQ_CST);
}

/* Count this thread in, unless the gate is closed for it. */
static bool pass_unleased(const struct aq_page_device *dev, struct device *d, bool link)
{
	uint32_t *calls = link ? &d->links : &d->calls;

	__atomic_fetch_add(calls, 1, __ATOMIC_SEQ_CST);
	if (!is_shut(dev, d) && (link || !(gate_word(dev) & AQ_GATE_LEASED)))
		return true;
	uncount(calls);
	return false;
}

/* Turns only go forward: a thread that was asleep since it looked must not bring an old one back.
 */
static void claim(struct aq_page_device *dev, uint32_t turn)
{
	uint32_t *word = (uint32_t *)&dev->active_turn, was = load32(&dev->active_turn);

	if (later(turn, was))
		store32(&dev->edge_ns, edge(aq_now_ns()));
	while (later(turn, was) && !__atomic_compare_exchange_n(word, &was, turn, false,
								__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

/*
 * Count this thread in if there is a lease. A turn that was claimed in vain is given back at once,
 * unless others of this process use it: then who gives that back gives back this.
 */
static bool pass_leased(struct aq_page_device *dev, int index, uint32_t turn)
{
	struct device *d = &devices[index];
	uint32_t before = load32(&dev->active_turn);

	if (!lease_runs(dev, d, turn) || is_shut(dev, d))
		return false;
	__atomic_fetch_add(&d->calls, 1, __ATOMIC_SEQ_CST);
	claim(dev, turn);
	if (load32(&dev->lease_turn) == turn && lease_runs(dev, d, turn) && !is_shut(dev, d))
		return true;
	uncount(&d->calls);
	if (before != turn && load32(&dev->active_turn) == turn)
		aq__gate_thread_kick();
	return false;
}

/* Lengths that cannot be foretold do not end with the lease. */
static uint64_t window_ns(const struct aq_page_device *dev, int index)
{
	uint32_t waiting = load32(&dev->waiting);

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
	uint64_t now = aq_now_ns(), until = load64(&dev->lease_until_ns);
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
	return over < POLL_LEAST_NS ? POLL_LEAST_NS : over < most ? over : most;
}

static void answer_notice(struct aq_page_device *dev, int index)
{
	uint32_t notice = load32(&dev->notice);

	if (load32(&dev->noticed) == notice)
		return;
	store32(&dev->noticed, notice);
	bell(index);
}

/* Wait until this thread is counted in. Return: whether in a lease. */
static bool admit(struct aq_page_device *dev, struct aq__pass *p)
{
	struct device *d = &devices[p->index];
	bool counted = false, again = false, leased;
	uint64_t patience_ns = 0, ns;
	uint32_t word, turn;

	for (;;) {
		turn = load32(&dev->lease_turn);
		word = gate_word(dev);
		if (word & AQ_GATE_NOTICE)
			answer_notice(dev, p->index);
		leased = word & AQ_GATE_LEASED && !p->link;
		if (leased)
			aq__gate_thread_start();
		if (leased ? pass_leased(dev, p->index, turn) : pass_unleased(dev, d, p->link)) {
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
		wait_turn(dev, p->index, turn, again);
		patience_ns = 0;
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
	if (gate_word(dev) & AQ_GATE_LEASED && !p->link)
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
	struct device *d;
	uint64_t now;

	if (p->index < 0)
		return;
	d = &devices[p->index];
	now = aq_now_ns();
	if (p->flight && page) {
		aq__flight_after(p->flight, &p->command, r);
		if (now - __atomic_load_n(&d->published_ns, __ATOMIC_RELAXED) > PUBLISH_NS)
			publish(&page->device[p->index], p->index, false, now);
	}
	if (!p->link)
		__atomic_store_n(&d->last_ns, now, __ATOMIC_RELAXED);
	uncount(p->link ? &d->links : &d->calls);
	pthread_setcancelstate(p->cancel, NULL);
	errno = saved;
}

/* ---- giving back ---- */

/* A lease is in use, has time left, and others wait. */
static uint64_t tend_idle(struct aq_page_device *dev, int index, uint32_t turn, uint64_t now_ns)
{
	struct device *d = &devices[index];
	uint64_t quiet = __atomic_load_n(&d->last_ns, __ATOMIC_RELAXED) + IDLE_NS;
	uint64_t left = aq__flight_left(index, now_ns, true);

	if (__atomic_load_n(&d->calls, __ATOMIC_SEQ_CST) ||
	    __atomic_load_n(&d->waiters, __ATOMIC_SEQ_CST))
		return now_ns + BUSY_NS;
	if (now_ns < quiet || left > 1) {
		uint64_t next = now_ns + left > quiet ? now_ns + left : quiet;

		return next > now_ns + POLL_LEAST_NS ? next : now_ns + POLL_LEAST_NS;
	}
	if (!aq__flight_drained(index))
		return now_ns + POLL_NS;
	__atomic_store_n(&d->closed, (uint64_t)turn + 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&d->calls, __ATOMIC_SEQ_CST) && aq__flight_drained(index)) {
		give_back(dev, index, turn, false);
		return NEVER;
	}
	/* Somebody came meanwhile; who came a little later sleeps already. */
	__atomic_store_n(&d->closed, 0, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &dev->lease_turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	return now_ns + POLL_NS;
}

/*
 * A lease that is used has ended. Where what is in flight can be foretold, it is given back a
 * little before that is done: who has it next needs as long to hear of it, and the device is not
 * idle meanwhile. What still runs is charged as ever. A higher priority is there already, and only
 * has to be told how much that is.
 */
static uint64_t tend_end(struct aq_page_device *dev, int index, uint32_t turn, uint64_t now_ns)
{
	struct device *d = &devices[index];
	uint64_t fresh = __atomic_load_n(&d->last_ns, __ATOMIC_RELAXED) + NAP_NS;
	bool urgent = load32(&dev->waiting) == AQ_WAITING_URGENT && !load64(&dev->lease_until_ns);
	uint64_t early = early_ns(dev), left;

	if (__atomic_load_n(&d->calls, __ATOMIC_SEQ_CST))
		return now_ns + (now_ns < fresh ? POLL_LEAST_NS : 2 * POLL_NS);
	if (aq__flight_drained(index)) {
		give_back(dev, index, turn, true);
		return d->likely_ns;
	}
	left = aq__flight_left(index, now_ns, false);
	if (aq__flight_regular(index, urgent ? URGENT_ERROR_NS : EARLY_NS, now_ns)) {
		if (left > early && !urgent) /* but marks may be reached sooner */
			return now_ns + (left - early < NAP_NS ? left - early : NAP_NS);
		give_back(dev, index, turn, true);
		return d->likely_ns;
	}
	return now_ns + (left < POLL_LEAST_NS ? POLL_LEAST_NS : left < POLL_NS ? left : POLL_NS);
}

/* It was likely that somebody would come, and nobody did. Return: when it is time to say so. */
static uint64_t tend_likely(struct aq_page_device *dev, int index, uint64_t now_ns)
{
	struct device *d = &devices[index];

	if (!d->likely_ns || now_ns < d->likely_ns)
		return d->likely_ns ? d->likely_ns : NEVER;
	d->likely_ns = 0;
	want_if_waiting(dev, d);
	bell(index);
	return NEVER;
}

/* A lease is in use that others wait for. */
static uint64_t tend_contended(struct aq_page_device *dev, int index, uint32_t turn,
			       uint64_t until_ns, uint64_t now_ns)
{
	uint64_t left = until_ns > now_ns ? until_ns - now_ns : 0, early = early_ns(dev), next;

	(void)aq__flight_left(index, now_ns, true); /* what is reached is not overdue */
	/* What may be submitted yet is next to nothing: end it, so that the next one hears of it.
	 */
	if (left <= early && aq__flight_regular(index, EARLY_NS, now_ns)) {
		__atomic_store_n(&devices[index].closed, (uint64_t)turn + 1, __ATOMIC_SEQ_CST);
		return tend_end(dev, index, turn, now_ns);
	}
	next = tend_idle(dev, index, turn, now_ns);
	if (until_ns == AQ_LEASE_UNTIL_TOLD)
		return next;
	if (left > early)
		until_ns -= early;
	return next < until_ns ? next : until_ns;
}

static uint64_t tend(struct aq_page_device *dev, int index, uint64_t now_ns)
{
	uint32_t active = load32(&dev->active_turn), turn = load32(&dev->lease_turn);
	uint64_t until = load64(&dev->lease_until_ns), next;

	if (!(gate_word(dev) & AQ_GATE_LEASED)) {
		if (active != load32(&dev->done_turn))
			give_back(dev, index, active, false);
		aq__flight_unfollowed(index);
		return NEVER;
	}
	if (active == load32(&dev->done_turn)) { /* not used; who uses it does not wake us */
		next = tend_likely(dev, index, now_ns);
		if (active == turn || until <= now_ns)
			return next;
		if (load32(&dev->waiting))
			until = now_ns + 2 * POLL_NS;
		return next < until ? next : until;
	}
	devices[index].likely_ns = 0;
	if (active != turn || !lease_runs(dev, &devices[index], turn))
		return tend_end(dev, index, active, now_ns);
	if (!load32(&dev->waiting))
		return until == AQ_LEASE_UNTIL_TOLD ? NEVER : until;
	return tend_contended(dev, index, turn, until, now_ns);
}

uint64_t aq__gate_tend(int index, uint64_t now_ns)
{
	struct aq_page *page = aq__page_get();
	struct device *d = &devices[index];
	uint64_t next;

	if (!page || __atomic_exchange_n(&d->tended, 1, __ATOMIC_ACQUIRE))
		return now_ns + POLL_NS;
	next = tend(&page->device[index], index, now_ns);
	__atomic_store_n(&d->tended, 0, __ATOMIC_RELEASE);
	return next;
}

/* ---- what the program does ---- */

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
	struct device *d = &devices[index];

	__atomic_fetch_add(&d->shut, 1, __ATOMIC_SEQ_CST);
	if (reached(&d->calls, until_ns) && reached(&d->links, until_ns) &&
	    aq__gate_settle(index, until_ns)) {
		while (!aq__flight_drained(index) && aq_now_ns() < until_ns)
			nap(POLL_NS);
		if (aq__flight_drained(index)) {
			/* A lease that is kept says so until it is given back: not now. */
			if (page)
				want_if_waiting(&page->device[index], d);
			return 0;
		}
	}
	aq__gate_reopen(index);
	return -EBUSY;
}

void aq__gate_reopen(int index)
{
	struct aq_page *page = aq__page_get();

	__atomic_fetch_sub(&devices[index].shut, 1, __ATOMIC_SEQ_CST);
	if (page)
		syscall(SYS_futex, &page->device[index].lease_turn, FUTEX_WAKE, INT_MAX, NULL, NULL,
			0);
}

bool aq__gate_is_shut(void)
{
	for (uint32_t i = 0; i < AQ_MAX_DEVICES; i++) {
		if (__atomic_load_n(&devices[i].shut, __ATOMIC_SEQ_CST))
			return true;
	}
	return false;
}

void aq__gate_forked(void)
{
	memset(devices, 0, sizeof(devices));
	stalled = 0;
	aq__flight_forked();
	aq__gate_thread_forked();
}
