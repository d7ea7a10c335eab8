/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resizing that needs something to move first: borrowers that leave for a larger request, the
 * fraction itself for a limit below what it uses. What can be done at once is.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/api.h"
#include "daemon/fraction.h"
#include "daemon/json.h"
#include "daemon/residency.h"
#include "base/banned.h"

#define WAIT_NS (30 * AQ_NS_PER_S) /* guess: to move a whole device at 3 GB/s */

/* A PATCH under way. */
struct resizer {
	struct aq_list link; /* in aqd.resizes */
	struct aqd_api_patient asker;
	struct aqd *daemon;
	struct aqd_fraction *fraction; /* living: ends the wait when it ends */
	struct aqd_fraction_change change;
	uint64_t deadline_ns;
	bool claims; /* others make room for its larger request */
};

static uint64_t devices_of(const struct aqd_fraction *f)
{
	uint64_t devices = 0;

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		devices |= 1ull << f->ledger.share[i].device;
	return devices;
}

static void answer(struct aqd *d, struct evhttp_request *request, struct aqd_fraction *f, int r,
		   const struct aq_refusal *why)
{
	if (r == 0) {
		aqd_api_reply(request, 200, aqd_json_fraction(d, f));
		return;
	}
	aqd_api_refusal(d, request, r, devices_of(f), why, f->name);
}

/*
 * @ret_claims: it is others who are in the way
 * Return: 0 or a refusal; -EAGAIN what is in the way is moving.
 */
static int attempt(struct aqd *d, struct aqd_fraction *f, const struct aqd_fraction_change *change,
		   struct aq_refusal *why, bool *ret_claims)
{
	struct aqd_residency_refusal unmoved;
	int r = aqd_fraction_resize(d, f, change, why), e;

	*ret_claims = r == -ENOSPC && why->reason == AQ_REFUSED_DEVICE;
	if (*ret_claims)
		return aqd_fraction_make_room(d, f, change) ? -EAGAIN : r;
	if (r != -EBUSY || !change->force_park)
		return r;
	e = aqd_residency_park(d, f, AQD_PARK_BY_HAND, false, &unmoved);
	if (e == 0 || e == -EBUSY || (e == -EALREADY && f->residency.state == AQD_PARKING))
		return -EAGAIN;
	return r; /* what stays is more than the limit, or nothing can move */
}

static void forget(struct resizer *r)
{
	aq_list_remove(&r->link);
	free(r);
}

static void on_asker_left(struct aqd_api_patient *asker)
{
	forget(aq_container_of(asker, struct resizer, asker));
}

void aqd_api_resize_to(struct aqd_call *call, struct aqd_fraction *f,
		       const struct aqd_fraction_change *change)
{
	struct aqd *d = call->daemon;
	struct aq_refusal why = {0};
	struct resizer *r;
	bool claims;
	int e = attempt(d, f, change, &why, &claims);

	/* As for a new request: what only lingers is in nobody's way. */
	if ((e == -ENOSPC || (e == -EAGAIN && claims)) && aqd_fraction_end_unheld(d, NULL)) {
		if (f->ended) {
			aqd_api_error(call->request, 404, "no_fraction", NULL,
				      "fraction '%s' has just ended", f->name);
			return;
		}
		e = attempt(d, f, change, &why, &claims);
	}
	if (e != -EAGAIN) {
		answer(d, call->request, f, e, &why);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r || aqd_api_await(d, &r->asker, call->request, on_asker_left) < 0) {
		free(r);
		aqd_api_error(call->request, 500, "internal", NULL, "out of memory");
		return;
	}
	r->daemon = d;
	r->fraction = f;
	r->change = *change;
	r->claims = claims;
	r->deadline_ns = aq_now_ns() + WAIT_NS;
	aq_list_append(&d->resizes, &r->link);
	d->residency_dirty = true;
}

bool aqd_api_resizes_turn(struct aqd *d)
{
	struct resizer *r, *next;

	AQ_LIST_FOREACH (r, next, &d->resizes, link) {
		struct evhttp_request *request = r->asker.request;
		struct aqd_fraction *f = r->fraction;
		struct aq_refusal why = {0};
		int e = attempt(d, f, &r->change, &why, &r->claims);

		if (e == -EAGAIN && aq_now_ns() < r->deadline_ns)
			continue;
		aqd_api_awaited(&r->asker);
		forget(r);
		answer(d, request, f, e == -EAGAIN ? -ENOSPC : e, &why);
	}
	return !aq_list_empty(&d->resizes);
}

uint64_t aqd_api_resizes_claimed(const struct aqd *d, const struct aqd_fraction *except)
{
	struct resizer *r, *next;
	uint64_t claimed = 0;

	AQ_LIST_FOREACH (r, next, &d->resizes, link)
		if (r->claims && r->fraction != except)
			claimed |= devices_of(r->fraction);
	return claimed;
}

void aqd_api_resizes_end(struct aqd *d, const struct aqd_fraction *f)
{
	struct resizer *r, *next;

	AQ_LIST_FOREACH (r, next, &d->resizes, link) {
		struct evhttp_request *request = r->asker.request;

		if (f && r->fraction != f)
			continue;
		aqd_api_awaited(&r->asker);
		forget(r);
		aqd_api_error(request, f ? 409 : 503, f ? "ended" : "cancelled", NULL, "%s",
			      f ? "the fraction ended meanwhile" : "the daemon ends");
	}
}
