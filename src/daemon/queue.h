/* SPDX-License-Identifier: Apache-2.0 */
/* Fractions that wait until there is room: by priority, then by arrival. */
#ifndef AQ_DAEMON_QUEUE_H
#define AQ_DAEMON_QUEUE_H

#include "daemon/daemon.h"
#include "daemon/fraction.h"

/* One that waits. The owner (the API) embeds it and learns the outcome by one call, after which
 * the queue has forgotten it. */
struct aqd_wait {
	struct aq_list link;	   /* in aqd.waits */
	struct aq_list of_process; /* in aqd_process.waits */
	struct aqd *daemon;
	struct aqd_fraction_ask ask;
	struct event *timer;
	/* @error: 0 with @f; -ETIMEDOUT or what aqd_fraction_create() gave with @why; -ESRCH the
	 * asking process is gone; -ECANCELED the daemon ends */
	void (*done)(struct aqd_wait *w, int error, struct aqd_fraction *f,
		     const struct aq_refusal *why);
};

/**
 * aqd_queue_add() - wait; w->ask, w->done and a reference in w->ask.holder are set.
 * @wait_ns: at most; UINT64_MAX for ever
 * The outcome comes after this returns. Return: 0; -ENOMEM nothing was queued
 */
int aqd_queue_add(struct aqd *d, struct aqd_wait *w, uint64_t wait_ns);

/* Forget it without a word. */
void aqd_queue_drop(struct aqd_wait *w);

/* Something became free: serve who can be served. */
void aqd_queue_try(struct aqd *d);

/* Devices on which somebody of at least this priority waits already. */
uint64_t aqd_queue_claimed(const struct aqd *d, enum aq_priority priority);

bool aqd_queue_has_name(const struct aqd *d, const char *name);
void aqd_queue_process_gone(struct aqd *d, struct aqd_process *p);
void aqd_queue_finish(struct aqd *d);

#endif /* AQ_DAEMON_QUEUE_H */
