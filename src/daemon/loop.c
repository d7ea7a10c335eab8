/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives libevent one turn at a time, and does between turns what many handlers ask for but needs
 * doing once: measure, try the queue, save the state, end what was put off.
 */
#include "daemon/loop.h"

#include <errno.h>
#include <signal.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/api.h"
#include "daemon/client.h"
#include "daemon/compute.h"
#include "daemon/fraction.h"
#include "daemon/guard.h"
#include "daemon/measure.h"
#include "daemon/queue.h"
#include "daemon/rundir.h"
#include "daemon/residency.h"
#include "daemon/resolve.h"
#include "daemon/settings.h"
#include "daemon/share.h"
#include "daemon/state.h"
#include "base/banned.h"

#define TICK_NS AQ_NS_PER_S
#define TICK_SOON_NS (200 * AQ_NS_PER_MS)
#define LAST_CHANCE_NS (20 * AQ_NS_PER_MS) /* to accept who connected just before */
#define QUICK_TICKS 5u
#define STATE_DELAY_NS (50 * AQ_NS_PER_MS) /* attaching clients share one write of the state */
#define STATE_AGAIN_NS AQ_NS_PER_S	   /* the disk may have room again */

void aqd_timer_set(struct event *timer, uint64_t ns)
{
	struct timeval tv = {
		.tv_sec = (time_t)(ns / AQ_NS_PER_S),
		.tv_usec = (suseconds_t)(ns % AQ_NS_PER_S / AQ_NS_PER_US),
	};

	evtimer_add(timer, &tv);
}

void aqd_defer(struct aqd *d, struct aqd_deferred *what,
	       void (*end)(struct aqd *d, struct aqd_deferred *what))
{
	if (what->end)
		return;
	what->end = end;
	aq_list_append(&d->deferred, &what->link);
}

static void run_deferred(struct aqd *d)
{
	while (!aq_list_empty(&d->deferred)) {
		struct aqd_deferred *what =
			aq_container_of(d->deferred.next, struct aqd_deferred, link);

		aq_list_remove(&what->link);
		what->end(d, what);
	}
}

void aqd_loop_stop(struct aqd *d, int exit_status)
{
	d->stopping = true;
	d->exit_status = exit_status;
}

void aqd_loop_used(struct aqd *d)
{
	d->busy_ns = aq_now_ns();
	if (d->hidden && !d->stopping) /* whoever came at the last moment asks more than once */
		aqd_rundir_hide(d, false);
	if (d->config.idle_exit_ns && !evtimer_pending(d->idle_timer, NULL))
		aqd_timer_set(d->idle_timer, d->config.idle_exit_ns);
}

/*
 * Asks again when it could be time; sleeps for the whole of what is left otherwise. Ends in two
 * steps: first nobody can come any more, then, when nobody came at the last moment, it is over.
 */
static void on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;
	uint64_t idle = aq_now_ns() - d->busy_ns, limit = d->config.idle_exit_ns;
	bool over = limit && !aqd_in_use(d) && idle >= limit;

	if (over && d->hidden) {
		aqd_loop_stop(d, 0);
		return;
	}
	if (over != d->hidden)
		aqd_rundir_hide(d, over);
	if (over)
		aqd_timer_set(d->idle_timer, LAST_CHANCE_NS);
	else if (limit)
		aqd_timer_set(d->idle_timer, idle < limit ? limit - idle + AQ_NS_PER_MS : limit);
}

void aqd_loop_tick(struct aqd *d)
{
	if (!evtimer_pending(d->tick, NULL))
		aqd_timer_set(d->tick, TICK_NS);
}

void aqd_loop_tick_soon(struct aqd *d)
{
	d->quick_ticks = QUICK_TICKS;
	aqd_timer_set(d->tick, TICK_SOON_NS);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;

	if (!d->ledger.client_count && !aqd_resolve_curious(d))
		return; /* the next client starts it again */
	if (d->quick_ticks)
		d->quick_ticks--;
	aqd_timer_set(d->tick, d->quick_ticks ? TICK_SOON_NS : TICK_NS);
	aqd_measure_all(d);
	aqd_compute_tick(d);
	aqd_share_tick(d);
}

static void on_state_timer(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;

	if (d->state_stale || d->state_failed)
		d->state_dirty = true;
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct aqd *d = arg;

	if (number == SIGHUP)
		aqd_settings_reload(d);
	else
		aqd_loop_stop(d, 0);
}

/* What libevent has to say goes where everything goes. */
static void on_library_log(int severity, const char *text)
{
	aq_log(severity == EVENT_LOG_ERR    ? AQ_LOG_ERROR
	       : severity == EVENT_LOG_WARN ? AQ_LOG_WARN
					    : AQ_LOG_DEBUG,
	       "libevent: %s", text);
}

/* Leases last milliseconds: timers of the default precision would be late by up to one. */
static int make_base(struct event_base **ret)
{
	struct event_config *config = event_config_new();

	if (!config)
		return -ENOMEM;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	*ret = event_base_new_with_config(config);
	event_config_free(config);
	return *ret ? 0 : -ENOMEM;
}

int aqd_loop_init(struct aqd *d)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
	int r;

	event_set_log_callback(on_library_log);
	d->turn = 1;
	r = make_base(&d->base);
	if (r < 0)
		return r;
	for (size_t i = 0; i < AQ_ARRAY_SIZE(numbers); i++) {
		d->signals[i] = evsignal_new(d->base, numbers[i], on_signal, d);
		if (!d->signals[i] || event_add(d->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	d->tick = evtimer_new(d->base, on_tick, d);
	d->state_timer = evtimer_new(d->base, on_state_timer, d);
	d->idle_timer = evtimer_new(d->base, on_idle, d);
	return d->tick && d->state_timer && d->idle_timer ? 0 : -ENOMEM;
}

void aqd_loop_finish(struct aqd *d)
{
	struct event *all[] = {d->signals[0], d->signals[1],  d->signals[2],
			       d->tick,	      d->state_timer, d->idle_timer};

	if (!d->base)
		return;
	run_deferred(d);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(all); i++)
		if (all[i])
			event_free(all[i]);
	event_base_free(d->base);
	d->base = NULL;
}

/* Everything that handlers of the turn asked for, in an order in which later steps see earlier. */
static void end_turn(struct aqd *d)
{
	aqd_api_settle(d);
	aqd_client_settle_lies(d);
	aqd_compute_turn(d);
	aqd_guard_finish_measuring(d);
	aqd_residency_turn(d);
	if (d->queue_dirty) {
		d->queue_dirty = false;
		aqd_queue_try(d);
	}
	aqd_compute_turn(d); /* what has followed from that */
	if (d->state_dirty)
		aqd_state_save(d);
	else if ((d->state_stale || d->state_failed) && !evtimer_pending(d->state_timer, NULL))
		aqd_timer_set(d->state_timer, d->state_failed ? STATE_AGAIN_NS : STATE_DELAY_NS);
	run_deferred(d);
	d->turn++;
}

void aqd_loop_turn(struct aqd *d, bool wait)
{
	if (event_base_loop(d->base, EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK)) < 0)
		aqd_loop_stop(d, 1);
	end_turn(d);
}

void aqd_loop_run(struct aqd *d)
{
	aqd_loop_used(d);
	end_turn(d);
	while (!d->stopping)
		aqd_loop_turn(d, true);
}
