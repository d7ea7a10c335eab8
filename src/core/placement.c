/* SPDX-License-Identifier: Apache-2.0 */
/* Best fit over the allowed devices. Does not queue, enter or move anything. */
#include "core/placement.h"

#include <errno.h>

#include "base/banned.h"

struct candidate {
	uint32_t device;
	struct aq_ledger_spec terms; /* share[0] only */
	uint64_t left_bytes;	     /* of the device, once it is there */
	bool taken;
};

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Part of @total in permille, at least 1, at most 1000. */
static uint32_t permille_of(uint64_t part, uint64_t total)
{
	uint32_t permille = (uint32_t)((unsigned __int128)part * AQ_PERMILLE / total);

	return permille ? permille : 1;
}

static uint64_t part_of(uint64_t total, uint32_t permille)
{
	uint64_t part = (uint64_t)((unsigned __int128)total * permille / AQ_PERMILLE);

	return part < AQ_PLACEMENT_ROUND_BYTES
		       ? part
		       : part / AQ_PLACEMENT_ROUND_BYTES * AQ_PLACEMENT_ROUND_BYTES;
}

int aq_placement_terms(const struct aq_placement_ask *ask, uint64_t total_bytes,
		       struct aq_ledger_spec *ret_spec)
{
	uint64_t request = ask->memory_request_bytes, limit = ask->memory_limit_bytes;
	uint32_t compute = ask->compute_request_permille, cap = ask->compute_limit_permille;
	uint32_t share = ask->gpu_permille;
	bool memory_given = request != AQ_ANY_BYTES || limit != AQ_ANY_BYTES;

	if (request == AQ_ANY_BYTES && limit != AQ_ANY_BYTES && share == AQ_ANY_PERMILLE)
		request = limit;
	if (share == AQ_ANY_PERMILLE && !memory_given)
		share = compute != AQ_ANY_PERMILLE && compute ? compute : AQ_PERMILLE;
	if (request == AQ_ANY_BYTES) {
		request = part_of(total_bytes, share);
		if (request > limit)
			request = limit;
	}
	if (limit == AQ_ANY_BYTES)
		limit = request;
	if (compute == AQ_ANY_PERMILLE) {
		if (share != AQ_ANY_PERMILLE)
			compute = share;
		else
			compute = request < total_bytes ? permille_of(request, total_bytes)
							: AQ_PERMILLE;
		if (cap != AQ_ANY_PERMILLE)
			compute = min_u32(compute, cap);
	}
	if (cap == AQ_ANY_PERMILLE)
		cap = AQ_PERMILLE;
	if (request > limit || compute > cap || !cap)
		return -EINVAL;

	*ret_spec = (struct aq_ledger_spec){
		.share_count = 1,
		.share[0] = {.request_bytes = request, .limit_bytes = limit},
		.compute_request_permille = compute,
		.compute_limit_permille = cap,
		.priority = ask->priority,
	};
	return 0;
}

/* Keep in @best the refusal that came closest: possible later before never, then more free. */
static void keep_closest(struct aq_refusal *best, struct aq_refusal r)
{
	bool better = best->reason == AQ_REFUSED_NOT ||
		      (best->reason == AQ_REFUSED_TOO_LARGE && r.reason != AQ_REFUSED_TOO_LARGE) ||
		      (best->reason == r.reason && r.free_bytes > best->free_bytes);

	if (better)
		*best = r;
}

/* Does it fit on @c->device? Fills in terms and what would be left. */
static int try_device(const struct aq_ledger *l, const struct aq_placement_ask *ask,
		      struct candidate *c, struct aq_refusal *closest)
{
	const struct aq_ledger_device *d = &l->device[c->device];
	uint64_t free_bytes = aq_ledger_device_free(l, c->device);
	struct aq_refusal why = {
		.device = c->device,
		.limit_bytes = d->total_bytes,
		.used_bytes = d->committed_bytes,
		.free_bytes = free_bytes,
		.free_permille = AQ_PERMILLE - d->compute_request_permille,
	};
	int r = aq_placement_terms(ask, d->total_bytes, &c->terms);

	if (r < 0) {
		why.reason = AQ_REFUSED_INVALID;
	} else {
		uint64_t request = c->terms.share[0].request_bytes;
		uint64_t limit = c->terms.share[0].limit_bytes;

		why.asked_bytes = request;
		if (limit > d->total_bytes) {
			why.asked_bytes = limit;
			why.reason = AQ_REFUSED_TOO_LARGE;
			r = -E2BIG;
		} else if (request > free_bytes) {
			why.reason = AQ_REFUSED_DEVICE;
			r = -ENOSPC;
		} else if (c->terms.compute_request_permille > why.free_permille) {
			why.asked_permille = c->terms.compute_request_permille;
			why.reason = AQ_REFUSED_COMPUTE;
			r = -ENOSPC;
		} else {
			c->left_bytes = free_bytes - request;
		}
	}
	if (r < 0)
		keep_closest(closest, why);
	return r;
}

int aq_placement_choose(const struct aq_ledger *l, const struct aq_placement_ask *ask,
			struct aq_ledger_spec *ret_spec, struct aq_refusal *ret_refusal)
{
	struct candidate fits[AQ_LEDGER_MAX_DEVICES];
	struct aq_refusal closest = {.reason = AQ_REFUSED_NOT};
	struct aq_ledger_spec spec;
	uint32_t fit_count = 0, allowed = 0, never = 0;

	if (!ask->device_count || ask->device_count > AQ_MAX_DEVICES)
		return -EINVAL;
	for (uint32_t i = 0; i < l->device_count; i++) {
		struct candidate c = {.device = i};
		int r;

		if (!(ask->allowed & 1ull << i))
			continue;
		allowed++;
		r = try_device(l, ask, &c, &closest);
		if (r == 0)
			fits[fit_count++] = c;
		else if (r == -E2BIG || r == -EINVAL)
			never++;
	}
	if (fit_count < ask->device_count) {
		*ret_refusal = closest;
		if (allowed < ask->device_count)
			return -ENODEV;
		if (allowed - never >= ask->device_count)
			return -ENOSPC;
		return closest.reason == AQ_REFUSED_INVALID ? -EINVAL : -E2BIG;
	}

	for (uint32_t n = 0; n < ask->device_count; n++) {
		struct candidate *best = NULL;

		for (uint32_t i = 0; i < fit_count; i++)
			if (!fits[i].taken && (!best || fits[i].left_bytes < best->left_bytes))
				best = &fits[i];
		best->taken = true;
		if (!n)
			spec = best->terms;
		spec.share[n] = best->terms.share[0];
		spec.share[n].device = best->device;
		spec.share_count = n + 1;
	}
	*ret_spec = spec;
	return 0;
}
