/* SPDX-License-Identifier: Apache-2.0 */
/* POST .../park and .../resume: input, waiting for the end of the move, and what went wrong. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "daemon/api.h"
#include "daemon/event.h"
#include "daemon/input.h"
#include "daemon/json.h"
#include "daemon/loop.h"
#include "daemon/residency.h"
#include "base/banned.h"

#define MAX_WAIT_MS (24ll * 3600 * 1000)
#define DEFAULT_WAIT_MS (10ll * 60 * 1000)

/* A request that waits until the memory is where it was asked to be. */
struct mover {
	struct aqd_residency_wait wait;
	struct aqd_api_patient asker;
	struct aqd *daemon;
	struct aqd_fraction *fraction; /* living: it ends the wait when it ends */
	struct event *timer;
};

static void free_mover(struct mover *m)
{
	aq_list_remove(&m->wait.link);
	if (m->timer)
		event_free(m->timer);
	free(m);
}

static void on_asker_left(struct aqd_api_patient *asker)
{
	free_mover(aq_container_of(asker, struct mover, asker));
}

static json_t *numbers(struct aqd *d, const struct aqd_fraction *f)
{
	uint64_t used = 0, free_bytes = UINT64_MAX;

	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		uint64_t left = aq_ledger_free(&d->ledger, &f->ledger, i);

		used += aq_ledger_used(&d->ledger, &f->ledger, i);
		free_bytes = left < free_bytes ? left : free_bytes;
	}
	return json_pack("{s:I,s:I,s:I}", "memory_used_bytes", (json_int_t)used,
			 "memory_parked_bytes", (json_int_t)aqd_parked(f), "free_bytes",
			 (json_int_t)free_bytes);
}

static void answer_timeout(struct aqd *d, struct evhttp_request *request, struct aqd_fraction *f,
			   bool parked)
{
	char lacks[AQ_SIZE_TEXT], left[AQ_SIZE_TEXT];
	uint64_t free_bytes = aq_ledger_free(&d->ledger, &f->ledger, 0);

	if (!parked && f->residency.state == AQD_PARKED)
		aqd_api_error(request, 408, "timeout", numbers(d, f),
			      "there was no room for it within the time to wait: it needs %s, and "
			      "could have %s",
			      aq_size_format(aqd_parked(f), lacks),
			      aq_size_format(free_bytes, left));
	else
		aqd_api_error(request, 408, "timeout", numbers(d, f),
			      "its memory is not %s within the time to wait",
			      parked ? "in host memory" : "on the device");
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct mover *m = arg;

	aqd_api_awaited(&m->asker);
	answer_timeout(m->daemon, m->asker.request, m->fraction, m->wait.parked);
	free_mover(m);
}

static void on_moved(struct aqd_residency_wait *w, int error)
{
	struct mover *m = aq_container_of(w, struct mover, wait);
	struct evhttp_request *request = m->asker.request;
	struct aqd *d = m->daemon;

	aqd_api_awaited(&m->asker);
	if (error == 0)
		aqd_api_reply(request, 200, aqd_json_fraction(d, m->fraction));
	else if (error == -ECANCELED)
		aqd_api_error(request, 503, "cancelled", NULL, "the daemon ends");
	else if (error == -ESRCH)
		aqd_api_error(request, 409, "ended", NULL, "the fraction ended meanwhile");
	else
		aqd_api_error(request, 409, error == -ETIMEDOUT ? "late" : "not_moved",
			      numbers(d, m->fraction),
			      error == -ETIMEDOUT
				      ? "a process of it did not answer in time; nothing is lost"
				      : "it could not be moved; the events say why");
	free_mover(m);
}

static void await(struct aqd_call *call, struct aqd_fraction *f, bool parked, int64_t wait_ms)
{
	struct aqd *d = call->daemon;
	struct mover *m;

	if (!wait_ms) {
		aqd_api_reply(call->request, 202, aqd_json_fraction(d, f));
		return;
	}
	m = calloc(1, sizeof(*m));
	if (m) {
		aq_list_init(&m->wait.link);
		m->daemon = d;
		m->fraction = f;
		m->wait.parked = parked;
		m->wait.done = on_moved;
		m->timer = evtimer_new(d->base, on_timeout, m);
	}
	if (!m || !m->timer || aqd_api_await(d, &m->asker, call->request, on_asker_left) < 0) {
		if (m)
			free_mover(m);
		aqd_api_error(call->request, 500, "internal", NULL, "out of memory");
		return;
	}
	if (wait_ms > 0)
		aqd_timer_set(m->timer, (uint64_t)wait_ms * AQ_NS_PER_MS);
	aqd_residency_await(f, &m->wait);
}

/* One line of why it cannot be parked, with the numbers. */
static void answer_refusal(struct aqd_call *call, int error,
			   const struct aqd_residency_refusal *why)
{
	char used[AQ_SIZE_TEXT], movable[AQ_SIZE_TEXT], left[AQ_SIZE_TEXT];
	json_t *o = json_pack("{s:I,s:I,s:I}", "memory_used_bytes", (json_int_t)why->used_bytes,
			      "movable_bytes", (json_int_t)why->movable_bytes, "host_free_bytes",
			      (json_int_t)why->host_free_bytes);

	aq_size_format(why->used_bytes, used);
	aq_size_format(why->movable_bytes, movable);
	aq_size_format(why->host_free_bytes, left);
	switch (error) {
	case -ENODATA:
		if (why->used_bytes)
			aqd_api_error(call->request, 409, why->reason, o,
				      "nothing of it can move: %s are in use, all of it contexts, "
				      "modules, arrays or memory shared with others",
				      used);
		else
			aqd_api_error(call->request, 409, why->reason, o,
				      "it has no memory on a device");
		break;
	case -ENOSPC:
		aqd_api_error(call->request, 409, why->reason, o,
			      "%s would have to move, but only %s of host memory are left for it",
			      movable, left);
		break;
	case -EAGAIN:
		aqd_api_error(call->request, 409, why->reason, o,
			      "the daemon has just started and waits for its processes to come "
			      "back");
		break;
	default:
		aqd_api_error(call->request, 409, "moving", o, "it is just coming back");
	}
}

void aqd_api_park(struct aqd_call *call)
{
	struct aqd_fraction *f = aqd_api_own_fraction(call);
	int64_t wait_ms = DEFAULT_WAIT_MS;
	bool hold = false;
	const struct aqd_input inputs[] = {
		{"wait_ms", AQD_INPUT_INT, &wait_ms, -1, MAX_WAIT_MS},
		{"hold", AQD_INPUT_BOOL, &hold, 0, 0},
	};
	struct aqd_residency_refusal why;
	int r;

	if (!f || !aqd_api_read(call, inputs, AQ_ARRAY_SIZE(inputs)))
		return;
	r = aqd_residency_park(call->daemon, f, AQD_PARK_BY_HAND, hold, &why);
	if (r == -EALREADY && f->residency.state == AQD_PARKED)
		aqd_api_reply(call->request, 200, aqd_json_fraction(call->daemon, f));
	else if (r == 0 || r == -EALREADY)
		await(call, f, true, wait_ms);
	else
		answer_refusal(call, r, &why);
}

void aqd_api_resume(struct aqd_call *call)
{
	struct aqd_fraction *f = aqd_api_own_fraction(call);
	int64_t wait_ms = DEFAULT_WAIT_MS;
	const struct aqd_input inputs[] = {
		{"wait_ms", AQD_INPUT_INT, &wait_ms, -1, MAX_WAIT_MS},
	};

	if (!f || !aqd_api_read(call, inputs, AQ_ARRAY_SIZE(inputs)))
		return;
	aqd_residency_want(call->daemon, f, true);
	if (aqd_is_resident(f))
		aqd_api_reply(call->request, 200, aqd_json_fraction(call->daemon, f));
	else
		await(call, f, false, wait_ms);
}
