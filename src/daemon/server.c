/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which a daemon is set up and taken down. Parses no options, never forks. */
#include "daemon/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/api.h"
#include "daemon/client.h"
#include "daemon/compute.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/guard.h"
#include "daemon/idle.h"
#include "daemon/loop.h"
#include "daemon/measure.h"
#include "daemon/queue.h"
#include "daemon/residency.h"
#include "daemon/rundir.h"
#include "daemon/settings.h"
#include "daemon/share.h"
#include "daemon/state.h"
#include "base/banned.h"

#define ERROR_BYTES 320

struct aqd *aqd_server_create(void)
{
	struct aqd *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	aq_list_init(&d->deferred);
	aq_list_init(&d->fractions);
	aq_list_init(&d->conns);
	aq_list_init(&d->hellos);
	aq_list_init(&d->measuring);
	aq_list_init(&d->adopting);
	aq_list_init(&d->due);
	aq_list_init(&d->needs);
	aq_list_init(&d->resizes);
	aq_list_init(&d->listening);
	aqd_share_init(d);
	aq_list_init(&d->waits);
	for (uint32_t i = 0; i < AQD_PID_BUCKETS; i++)
		aq_list_init(&d->processes[i]);
	d->lock_fd = d->guard_fd = -1;
	d->started_ns = aq_now_ns();
	aq_ledger_init(&d->ledger, &aqd_client_ledger_ops, d);
	return d;
}

static int report(const char *what, const char *which, int error)
{
	aq_error("%s '%s': %s", what, which, strerror(-error));
	return error;
}

int aqd_server_configure(struct aqd *d, const struct aqd_server_options *o)
{
	char error[ERROR_BYTES];
	int r;

	d->foreground = o->foreground;
	if (o->config) {
		d->config_path = realpath(o->config, NULL); /* `/` will be the working directory */
		if (!d->config_path)
			return report("configuration", o->config, -errno);
	}
	r = aqd_rundir_choose(d, o->socket, o->system);
	if (r < 0)
		return report("socket", o->socket ? o->socket : AQ_GUARD_SOCKET, r);
	r = aqd_settings_load(d, error, sizeof(error));
	if (r < 0)
		aq_error("%s", error);
	return r;
}

static int take_rundir(struct aqd *d)
{
	pid_t other = 0;
	int r = aqd_rundir_make(d);

	if (r < 0)
		return report(r == -EPERM ? "not a private directory of ours:" : "directory",
			      d->rundir, r);
	r = aqd_rundir_lock(d, &other);
	if (r == -EBUSY) {
		aq_error("another daemon (pid %d) serves '%s' already", (int)other, d->rundir);
		return r;
	}
	if (r == -ETIMEDOUT) {
		aq_error("another daemon (pid %d) has '%s', but its sockets there are gone: 'kill %d' "
			 "ends it, and programs go on", (int)other, d->rundir, (int)other);
		return r;
	}
	return r < 0 ? report("lock in", d->rundir, r) : 0;
}

int aqd_server_start(struct aqd *d, const char *sim)
{
	struct aqd_event_facts facts = aqd_event_none;
	int r = take_rundir(d);

	if (r < 0)
		return r;
	r = aqd_loop_init(d);
	if (r == 0)
		r = aqd_residency_init(d);
	if (r == 0)
		r = aqd_idle_init(d);
	if (r == 0)
		r = aqd_events_create(d);
	if (r == 0)
		r = aqd_compute_init(d);
	if (r < 0)
		return report("event loop", "libevent", r);
	r = aqd_devices_init(d, sim);
	if (r == -EINVAL || r == -EIO) { /* it does not tell the two apart before there is a machine */
		aq_error("simulated devices '%s': no PROFILE[:COUNT] such as h100:2 that the "
			 "simulator knows, or it cannot make them", sim);
		return r;
	}
	if (r < 0)
		return report("simulated devices", sim, r);
	aqd_state_load(d);
	r = aqd_guard_init(d);
	if (r < 0)
		return report("socket", d->guard_path, r);
	r = aqd_api_init(d);
	if (r < 0)
		return report("socket", d->api_path, r);
	aqd_event(d, AQD_EVENT_started, &facts, "version %s, %u device(s), pid %d", AQ_VERSION,
		  d->ledger.device_count, (int)getpid());
	return 0;
}

void aqd_server_free(struct aqd *d)
{
	struct aqd_fraction *f, *next;

	if (d->base && d->events) {
		if (d->hidden)
			aqd_rundir_hide(d, false);
		aqd_queue_finish(d);
		aqd_residency_cancel(d);
		aqd_api_finish(d);
		aqd_guard_finish(d);
		aqd_fraction_end_unheld(d, NULL);
		if (d->ledger.fraction_count)
			aq_info("%u fraction(s) go on without a daemon; the next one adopts them",
				d->ledger.fraction_count);
		/* Our simulated machine goes with us, unless programs still run on it and shall be
		 * adopted. */
		if (aq_list_empty(&d->fractions))
			aqd_devices_unsimulate(d);
		aqd_state_save(d);
		d->taking_down = true;
		AQ_LIST_FOREACH (f, next, &d->fractions, link)
			aqd_fraction_end(d, f, "the daemon ends");
		aqd_measure_finish(d);
	}
	aqd_compute_finish(d);
	aqd_residency_finish(d);
	aqd_idle_finish(d);
	aqd_loop_finish(d);
	aqd_events_free(d);
	aqd_devices_finish(d);
	aqd_rundir_unlock(d);
	free(d->config_path);
	free(d);
}
