/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When memory moves: carries out the daemon's orders (struct aq_page_device, residency) in the
 * gate's thread, and keeps every call away meanwhile that could use or change the memory.
 *
 * To close: the quick way past the gate is shut for good measure first, and whoever is on it
 * awaited (calls.h); then the gate itself is closed and what is in flight awaited (gate.h), which
 * captures may delay, and threads that capture may still allocate; then calls that change the
 * memory are held off, and awaited. While the memory is away the gate stays closed, whatever the
 * page says: a daemon that errs costs time, not bytes.
 *
 * When we fail: the order is answered with an errno, and memory and gate are as they were.
 */
#include "guard/movable.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/timing.h"
#include "guard/calls.h"
#include "guard/conn.h"
#include "guard/gate.h"
#include "guard/lock.h"
#include "guard/share.h"
#include "guard/guest.h"

#define DRAIN_NS (5 * AQ_NS_PER_S) /* guess: a graph of a second is long; a daemon waits for ten   \
				    */
#define POLL_NS (50 * AQ_NS_PER_US)
#define KEEP_NS AQ_NS_PER_S /* empty chunks that nobody wanted for so long are given back */
/* Host memory waits for the next parking for twice the time between the last two, within these.
 * Guess: who is parked in turns with others will be again. */
#define KEEP_HOST_NS (10 * AQ_NS_PER_S)
#define KEEP_HOST_MAX_NS (600 * AQ_NS_PER_S)
#define TIDY_NS (10 * AQ_NS_PER_MS)
#define NEVER UINT64_MAX

uint32_t aq__move_closed; /* atomic; see gate.h */
static uint32_t moving;		      /* atomic, futex: calls that change memory wait */
static uint32_t away[AQ_MAX_DEVICES]; /* atomic: memory of the device is in host memory */

static uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* ---- calls that change memory ---- */

static bool nested(void)
{
	return aq__calls_mine && aq__calls_mine->depth > 1;
}

void aq__move_hold(void)
{
	int saved = errno;

	aq__calls_enter();
	while (!nested() && load(&moving)) {
		aq__calls_leave();
		syscall(SYS_futex, &moving, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
		aq__calls_enter();
	}
	errno = saved;
}

void aq__move_go(void)
{
	aq__calls_leave();
}

void aq__move_hold_resident(int index)
{
	int saved = errno;

	aq__move_hold();
	while (!nested() && load(&away[index])) {
		aq__move_go();
		aq__gate_ask(index);
		aq__move_hold();
	}
	errno = saved;
}

void aq__move_hold_here(void)
{
	struct aq__place place = {.index = AQ__UNBOUND};

	if (aq__movable_on())
		aq__place_here(&place);
	if (place.index >= 0)
		aq__move_hold_resident(place.index);
	else
		aq__move_hold();
}

void aq__move_ask(void)
{
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++) {
		if (load(&away[i]))
			aq__gate_ask(i);
	}
}

/* ---- closing and opening ---- */

static bool nobody_inside(uint64_t until_ns)
{
	aq__calls_barrier();
	while (!aq__calls_none()) {
		if (aq_now_ns() >= until_ns)
			return false;
		aq_sleep_until_ns(aq_now_ns() + POLL_NS);
	}
	return true;
}

static void let_change(void)
{
	store(&moving, 0);
	syscall(SYS_futex, &moving, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Hold off calls that change memory. Return: 0; -EBUSY. */
static int hold_off(uint64_t until_ns)
{
	store(&moving, 1);
	if (nobody_inside(until_ns))
		return 0;
	let_change();
	return -EBUSY;
}

static void open_quick_way(void)
{
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++) {
		if (load(&away[i]))
			return;
	}
	store(&aq__move_closed, 0);
}

/* Nobody uses or changes memory of the device when this returns 0. */
static int close_all(int index)
{
	uint64_t until = aq_now_ns() + DRAIN_NS;
	int r = 0;

	store(&aq__move_closed, 1);
	if (!nobody_inside(until))
		r = -EBUSY;
	if (r == 0 && !load(&away[index]))
		r = aq__gate_close_and_drain(index, until);
	if (r == 0) {
		r = hold_off(until);
		if (r < 0 && !load(&away[index]))
			aq__gate_reopen(index);
	}
	if (r < 0)
		open_quick_way();
	return r;
}

/* The gate stays closed while memory is away. */
static void open_again(struct aq__arena *a)
{
	bool gone = a->parked != 0;

	store(&away[a->index], gone);
	let_change();
	if (!gone)
		aq__gate_reopen(a->index);
	open_quick_way();
}

/* ---- orders ---- */

/* How long host memory is worth keeping, by when it was needed last. */
static void learn_interval(struct aq__arena *a, uint64_t now_ns)
{
	uint64_t keep = a->left_at_ns ? 2 * (now_ns - a->left_at_ns) : 0;

	a->keep_host_ns = keep < KEEP_HOST_NS	    ? KEEP_HOST_NS
			  : keep > KEEP_HOST_MAX_NS ? KEEP_HOST_MAX_NS
						    : keep;
	a->left_at_ns = now_ns;
}

static uint64_t host_limit(const struct aq_page_device *d)
{
	return __atomic_load_n((const uint64_t *)&d->host_limit_bytes, __ATOMIC_ACQUIRE);
}

static int carry_out(struct aq_page_device *d, struct aq__arena *a, uint32_t order)
{
	int r;

	if (!a) /* nothing here moves */
		return order == AQ_ORDER_PARK ? -ENODATA : 0;
	if (order != AQ_ORDER_PARK && order != AQ_ORDER_STAY)
		return -EINVAL;
	if ((order == AQ_ORDER_PARK) == load(&away[a->index]))
		return 0;
	r = close_all(a->index);
	if (r < 0)
		return r;
	if (order == AQ_ORDER_PARK)
		learn_interval(a, aq_now_ns());
	r = order == AQ_ORDER_PARK ? aq__park(a, host_limit(d)) : aq__unpark(a);
	open_again(a);
	aq__lock(&a->lock); /* the program frees again, what is parked, too */
	a->back_since_ns = a->parked ? 0 : aq_now_ns();
	aq__unlock(&a->lock);
	return r;
}

static void obey(struct aq_page_device *d, int index)
{
	uint32_t turn = __atomic_load_n((uint32_t *)&d->order_turn, __ATOMIC_ACQUIRE);
	int r;

	if (turn == __atomic_load_n((uint32_t *)&d->order_done, __ATOMIC_RELAXED))
		return;
	r = carry_out(d, aq__arena_at(index),
		      __atomic_load_n((uint32_t *)&d->order, __ATOMIC_RELAXED));
	__atomic_store_n((int32_t *)&d->order_result, r, __ATOMIC_RELAXED);
	__atomic_store_n((uint32_t *)&d->order_done, turn, __ATOMIC_RELEASE);
	aq__conn_bell(1u << index);
}

/* Empty chunks that nobody has wanted for a while. Return: when to look again. */
static uint64_t tidy(int index, uint64_t now_ns)
{
	struct aq__arena *a = aq__arena_at(index);
	uint64_t since = a ? __atomic_load_n(&a->idle_since_ns, __ATOMIC_RELAXED) : 0;

	if (!since)
		return NEVER;
	if (now_ns < since + KEEP_NS)
		return since + KEEP_NS;
	(void)aq__movable_trim(index, 0);
	return NEVER;
}

/* The program has freed all that was parked: there is nothing to wait for any more. */
static void empty_away(int index)
{
	struct aq__arena *a = aq__arena_at(index);

	if (a && load(&away[index]) && !__atomic_load_n(&a->parked, __ATOMIC_SEQ_CST))
		open_again(a);
}

/* The same for host memory after a resume, which the daemon may want back at once. A context must
 * not end meanwhile. */
static uint64_t tidy_host(const struct aq_page_device *d, int index, uint64_t now_ns)
{
	struct aq__arena *a = aq__arena_at(index);
	bool wanted;

	if (!a || load(&away[index]) || !aq__park_pinned(index))
		return NEVER;
	wanted = aq__park_pinned(index) > aq__park_steps(host_limit(d));
	if (!wanted && now_ns < a->back_since_ns + a->keep_host_ns)
		return a->back_since_ns + a->keep_host_ns;
	/* Nobody is to wait for this: another time, if somebody is busy. */
	if (hold_off(now_ns + TIDY_NS) < 0) {
		a->back_since_ns = wanted ? a->back_since_ns : now_ns;
		return now_ns + (wanted ? TIDY_NS : a->keep_host_ns);
	}
	aq__park_forget(a);
	let_change();
	return aq__park_pinned(index) ? now_ns + KEEP_HOST_NS : NEVER;
}

static uint64_t look(struct aq_page *page, uint64_t now_ns)
{
	uint64_t next = NEVER;

	for (uint32_t i = 0; i < page->device_count && i < AQ_MAX_DEVICES; i++) {
		uint64_t then;

		obey(&page->device[i], (int)i);
		empty_away((int)i);
		then = tidy((int)i, now_ns);
		next = then < next ? then : next;
		then = tidy_host(&page->device[i], (int)i, now_ns);
		next = then < next ? then : next;
	}
	return next;
}

bool aq__move_watch(void)
{
	return aq__gate_thread_add(look) && aq__gate_thread_start();
}

void aq__move_forked(void)
{
	aq__move_closed = 0;
	moving = 0;
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++)
		away[i] = 0;
	aq__calls_forked();
	aq__movable_forked();
	aq__park_forked();
	aq__share_forked();
}
