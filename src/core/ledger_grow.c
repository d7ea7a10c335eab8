/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may have how much more, and whose unused grants are taken back for it. Never touches what is
 * used, nor, for the sake of another fraction, what lies within a request.
 */
#include <errno.h>

#include "abi/grant.h"
#include "base/number.h"
#include "core/ledger.h"
#include "base/banned.h"

static uint64_t grains_down(uint64_t bytes)
{
	return bytes / AQ_GRAIN_BYTES * AQ_GRAIN_BYTES;
}

uint64_t aq_ledger_client_used(const struct aq_ledger *l, const struct aq_ledger_client *c,
			       uint32_t share)
{
	const struct aq_ledger_hold *h = &c->hold[share];
	uint64_t used = h->granted_bytes;

	if (!c->cut && used)
		used = aq_min(used, l->ops->used(l->context, c, share));
	return used + h->overhead_bytes + h->reserved_bytes;
}

/* In use by the fraction, with all that @except was granted counted as used. */
static uint64_t used_except(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			    uint32_t share, const struct aq_ledger_client *except)
{
	struct aq_ledger_client *c, *tmp;
	uint64_t sum = 0;

	AQ_LIST_FOREACH (c, tmp, &f->clients, link) {
		const struct aq_ledger_hold *h = &c->hold[share];

		if (c == except)
			sum += h->granted_bytes + h->overhead_bytes + h->reserved_bytes;
		else
			sum += aq_ledger_client_used(l, c, share);
	}
	return sum;
}

uint64_t aq_ledger_used(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			uint32_t share)
{
	return used_except(l, f, share, NULL);
}

int aq_ledger_share_on(const struct aq_ledger_fraction *f, uint32_t device)
{
	for (uint32_t i = 0; i < f->share_count; i++)
		if (f->share[i].device == device)
			return (int)i;
	return -1;
}

uint64_t aq_ledger_committed(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			     uint32_t share, bool without_unused)
{
	const struct aq_ledger_share *s = &f->share[share];
	uint64_t bound = aq_ledger_bound(s);

	if (s->held_bytes <= bound)
		return bound;
	return without_unused ? aq_max(bound, aq_ledger_used(l, f, share)) : s->held_bytes;
}

/* What all fractions but @self keep of a device when unused grants above requests are gone. */
static uint64_t kept_by_others(const struct aq_ledger *l, const struct aq_ledger_fraction *self,
			       uint32_t device)
{
	struct aq_ledger_fraction *f, *tmp;
	uint64_t sum = 0;

	AQ_LIST_FOREACH (f, tmp, &l->fractions, link) {
		int i = f == self ? -1 : aq_ledger_share_on(f, device);

		if (i < 0)
			continue;
		sum += aq_ledger_committed(l, f, (uint32_t)i, true);
	}
	return sum;
}

uint64_t aq__ledger_available(const struct aq_ledger *l, const struct aq_ledger_fraction *self,
			      uint32_t device)
{
	return aq_minus(l->device[device].total_bytes, kept_by_others(l, self, device));
}

uint64_t aq_ledger_device_free(const struct aq_ledger *l, uint32_t device)
{
	return aq__ledger_available(l, NULL, device);
}

/* What the fraction could get when it had @base in use and all other unused grants were back. */
static uint64_t potential(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			  uint32_t share, uint64_t base)
{
	const struct aq_ledger_share *s = &f->share[share];
	uint64_t below_limit = aq_minus(s->limit_bytes, base);
	uint64_t within_request = aq_minus(aq_ledger_bound(s), base);
	uint64_t kept;

	if (below_limit <= within_request)
		return below_limit;
	kept = kept_by_others(l, f, s->device) + aq_max(aq_ledger_bound(s), base);
	return aq_min(below_limit,
		      within_request + aq_minus(l->device[s->device].total_bytes, kept));
}

uint64_t aq_ledger_free(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			uint32_t share)
{
	return potential(l, f, share, aq_ledger_used(l, f, share));
}

/* What the fraction could get without anything being taken back. */
static uint64_t room_now(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			 uint32_t share)
{
	const struct aq_ledger_share *s = &f->share[share];
	const struct aq_ledger_device *d = &l->device[s->device];

	return aq_min(aq_minus(s->limit_bytes, s->held_bytes),
		      aq_minus(aq_ledger_bound(s), s->held_bytes) +
			      aq_minus(d->total_bytes, d->committed_bytes));
}

uint64_t aq__ledger_reclaim(struct aq_ledger *l, struct aq_ledger_fraction *f, uint32_t share,
			    const struct aq_ledger_client *except, uint64_t max_bytes)
{
	struct aq_ledger_client *c, *tmp;
	uint64_t want = max_bytes, sum = 0;

	AQ_LIST_FOREACH (c, tmp, &f->clients, link) {
		struct aq_ledger_hold to = c->hold[share];
		uint64_t taken;

		if (sum >= want)
			break;
		if (c == except || c->cut || !to.granted_bytes)
			continue;
		/* Whole grains, and the last one even when only a part of it is wanted. */
		taken = l->ops->revoke(l->context, c, share,
				       grains_down(want - sum + AQ_GRAIN_BYTES - 1));
		taken = aq_min(grains_down(taken), to.granted_bytes);
		if (!taken)
			continue;
		to.granted_bytes -= taken;
		aq__ledger_set_hold(l, c, share, to, true);
		sum += taken;
	}
	return sum;
}

/* By how much a device would be overcommitted with @need_bytes more. */
static uint64_t excess(const struct aq_ledger_device *d, uint64_t need_bytes)
{
	return aq_minus(d->committed_bytes + need_bytes, d->total_bytes);
}

/* Make the device able to commit @need_bytes more for @self (NULL: for somebody new). */
bool aq__ledger_make_room(struct aq_ledger *l, const struct aq_ledger_fraction *self,
			  uint32_t device, uint64_t need_bytes)
{
	struct aq_ledger_device *d = &l->device[device];
	struct aq_ledger_fraction *f, *tmp;
	uint64_t own = 0;

	if (!excess(d, need_bytes))
		return true;
	if (self) {
		const struct aq_ledger_share *s = &self->share[aq_ledger_share_on(self, device)];

		own = aq_max(aq_ledger_bound(s), s->held_bytes);
	}
	/* Disturb nobody when it would not suffice anyway. */
	if (need_bytes && own + need_bytes > aq__ledger_available(l, self, device))
		return false;

	AQ_LIST_FOREACH (f, tmp, &l->fractions, link) {
		int i = f == self ? -1 : aq_ledger_share_on(f, device);

		if (!excess(d, need_bytes))
			break;
		if (i < 0 || f->share[i].held_bytes <= aq_ledger_bound(&f->share[i]))
			continue;
		aq__ledger_reclaim(l, f, (uint32_t)i, NULL,
				   aq_min(excess(d, need_bytes),
					  f->share[i].held_bytes - aq_ledger_bound(&f->share[i])));
	}
	return !excess(d, need_bytes);
}

/* Fill in why @need_bytes more are refused. Always -ENOMEM. */
static int refuse(const struct aq_ledger *l, const struct aq_ledger_client *c, uint32_t share,
		  enum aq_refusal_reason reason, uint64_t need_bytes, struct aq_refusal *ret)
{
	const struct aq_ledger_fraction *f = c->fraction;

	*ret = (struct aq_refusal){
		.reason = reason,
		.device = f->share[share].device,
		.asked_bytes = need_bytes,
		.limit_bytes = f->share[share].limit_bytes,
		.used_bytes = aq_ledger_used(l, f, share),
		.free_bytes = aq_ledger_free(l, f, share),
	};
	return -ENOMEM;
}

/*
 * Make room for exactly @need_bytes more in the client's fraction, or say why not. Nothing is taken
 * back from @except.
 */
static int find_room(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		     const struct aq_ledger_client *except, uint64_t need_bytes,
		     struct aq_refusal *ret)
{
	struct aq_ledger_fraction *f = c->fraction;
	struct aq_ledger_share *s = &f->share[share];
	uint64_t base, grown;
	enum aq_refusal_reason reason;

	if (c->cut)
		return refuse(l, c, share, AQ_REFUSED_CUT, need_bytes, ret);
	if (need_bytes > s->limit_bytes)
		return refuse(l, c, share, AQ_REFUSED_LIMIT, need_bytes, ret);
	if (need_bytes <= room_now(l, f, share))
		return 0;

	base = used_except(l, f, share, except);
	if (need_bytes > potential(l, f, share, base)) {
		if (base > s->limit_bytes)
			reason = AQ_REFUSED_OVER;
		else
			reason = need_bytes > s->limit_bytes - base ? AQ_REFUSED_LIMIT
								    : AQ_REFUSED_DEVICE;
		return refuse(l, c, share, reason, need_bytes, ret);
	}
	/* From the own fraction first, for whichever of limit and device lacks more. */
	grown = s->held_bytes + need_bytes;
	aq__ledger_reclaim(l, f, share, except,
			   aq_max(aq_minus(grown, s->limit_bytes),
				  excess(&l->device[s->device],
					 aq_max(aq_ledger_bound(s), grown) -
						 aq_max(aq_ledger_bound(s), s->held_bytes))));
	grown = s->held_bytes + need_bytes;
	if (grown > s->limit_bytes) /* somebody used what was about to be taken back */
		return refuse(l, c, share, AQ_REFUSED_LIMIT, need_bytes, ret);
	if (grown > aq_ledger_bound(s) &&
	    !aq__ledger_make_room(l, f, s->device,
				  grown - aq_max(aq_ledger_bound(s), s->held_bytes)))
		return refuse(l, c, share, AQ_REFUSED_DEVICE, need_bytes, ret);
	return 0;
}

int aq_ledger_grow(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		   uint64_t need_bytes, struct aq_refusal *ret_refusal, uint64_t *ret_granted)
{
	struct aq_ledger_hold to = c->hold[share];
	uint64_t need, chunk, give, word_room = AQ_GRANT_MAX_BYTES - to.granted_bytes;
	int r;

	if (need_bytes > word_room)
		return refuse(l, c, share, AQ_REFUSED_LIMIT, need_bytes, ret_refusal);
	need = grains_down(need_bytes + AQ_GRAIN_BYTES - 1);
	/* What the asker has not used yet it is about to: only others can give. */
	r = find_room(l, c, share, c, need, ret_refusal);
	if (r < 0)
		return r;

	/* Each client may take a share of what is left, so that the last bytes are not hoarded. */
	chunk = aq_min(AQ_LEDGER_CHUNK_BYTES,
		       room_now(l, c->fraction, share) / (2ull * c->fraction->client_count));
	give = aq_min(aq_max(need, grains_down(chunk)), word_room);
	to.granted_bytes += give;
	aq__ledger_set_hold(l, c, share, to, false);
	*ret_granted = give;
	return 0;
}

int aq_ledger_reserve(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		      uint64_t bytes, struct aq_refusal *ret_refusal)
{
	struct aq_ledger_hold to;
	int r = find_room(l, c, share, NULL, bytes, ret_refusal);

	if (r < 0)
		return r;
	to = c->hold[share];
	to.reserved_bytes += bytes;
	aq__ledger_set_hold(l, c, share, to, false);
	return 0;
}

void aq_ledger_unreserve(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
			 uint64_t bytes)
{
	struct aq_ledger_hold to = c->hold[share];

	to.reserved_bytes -= aq_min(to.reserved_bytes, bytes);
	aq__ledger_set_hold(l, c, share, to, true);
}

int aq_ledger_measure(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		      uint64_t overhead_bytes)
{
	struct aq_ledger_fraction *f = c->fraction;
	struct aq_ledger_share *s = &f->share[share];
	struct aq_ledger_device *d = &l->device[s->device];
	struct aq_ledger_hold to = c->hold[share];

	to.overhead_bytes = aq_min(overhead_bytes, AQ_LEDGER_MAX_BYTES);
	aq__ledger_set_hold(l, c, share, to, true);
	if (s->over)
		aq__ledger_reclaim(l, f, share, NULL, s->held_bytes - s->limit_bytes);
	if (d->over)
		aq__ledger_make_room(l, NULL, s->device, 0);
	return s->over || d->over ? -ENOMEM : 0;
}

int aq_ledger_lend(struct aq_ledger *l, struct aq_ledger_fraction *f, uint32_t share, bool lent)
{
	struct aq_ledger_share *s = &f->share[share];
	struct aq_ledger_device *d = &l->device[s->device];
	uint64_t more = aq_minus(s->request_bytes, s->held_bytes);

	if (s->lent == lent)
		return 0;
	/* While a device is over its size, nothing can be promised on it, not even nothing more. */
	if (!lent && more && !aq__ledger_make_room(l, f, s->device, more))
		return -ENOSPC;
	s->lent = lent;
	d->committed_bytes = lent ? d->committed_bytes - more : d->committed_bytes + more;
	if (d->committed_bytes <= d->total_bytes)
		d->over = false;
	return 0;
}

uint64_t aq_ledger_lent(const struct aq_ledger *l, const struct aq_ledger_fraction *except,
			uint32_t device)
{
	struct aq_ledger_fraction *f, *tmp;
	uint64_t sum = 0;

	AQ_LIST_FOREACH (f, tmp, &l->fractions, link) {
		int i = f == except ? -1 : aq_ledger_share_on(f, device);

		if (i >= 0 && f->share[i].lent)
			sum += aq_minus(f->share[i].request_bytes, f->share[i].held_bytes);
	}
	return sum;
}

uint64_t aq_ledger_shortfall(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			     uint32_t share, uint64_t bytes, bool beside_lent)
{
	const struct aq_ledger_share *s = &f->share[share];
	const struct aq_ledger_device *d = &l->device[s->device];
	uint64_t used = aq_ledger_used(l, f, share);
	uint64_t others = aq_minus(d->committed_bytes, aq_ledger_committed(l, f, share, false));

	if (used > s->limit_bytes || bytes > s->limit_bytes - used)
		return UINT64_MAX;
	if (beside_lent)
		others += aq_ledger_lent(l, f, s->device);
	return aq_minus(others + aq_max(s->request_bytes, used + bytes), d->total_bytes);
}

uint64_t aq_ledger_take_back(struct aq_ledger *l, struct aq_ledger_fraction *f, uint32_t share,
			     uint64_t max_bytes)
{
	return aq__ledger_reclaim(l, f, share, NULL, aq_min(max_bytes, AQ_LEDGER_MAX_BYTES));
}
