/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop and what happens at the end of each turn. */
#ifndef AQ_DAEMON_LOOP_H
#define AQ_DAEMON_LOOP_H

#include "daemon/daemon.h"

/* Make the base, signals and timers. Return: 0 or negative errno. */
int aqd_loop_init(struct aqd *d);

/* Free them. Harmless on what was not made. */
void aqd_loop_finish(struct aqd *d);

/* Run until aqd_loop_stop(). */
void aqd_loop_run(struct aqd *d);

/* One turn: what is ready, after waiting for something if @wait, then what turns end with. */
void aqd_loop_turn(struct aqd *d, bool wait);

/* Leave the loop at the end of the turn. */
void aqd_loop_stop(struct aqd *d, int exit_status);

/* Have @end called with @what at the end of the turn; a second call for it changes nothing. */
void aqd_defer(struct aqd *d, struct aqd_deferred *what,
	       void (*end)(struct aqd *d, struct aqd_deferred *what));

/* Somebody used the daemon now: puts the idle exit off. */
void aqd_loop_used(struct aqd *d);

/* Start the once-a-second tick; it stops by itself when there are no clients. */
void aqd_loop_tick(struct aqd *d);

/* Let the next few ticks come sooner: there is something to measure. */
void aqd_loop_tick_soon(struct aqd *d);

/* Set a one-shot timer. */
void aqd_timer_set(struct event *timer, uint64_t ns);

#endif /* AQ_DAEMON_LOOP_H */
