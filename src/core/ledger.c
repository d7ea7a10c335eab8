/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger's books: entering, changing and leaving, and the sums that follow from it. Who may
 * have more, and from whom it is taken back, is in ledger_grow.c.
 */
#include "core/ledger.h"

#include <errno.h>
#include <string.h>

#include "abi/grant.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "base/banned.h"

const char *aq_refusal_word(enum aq_refusal_reason reason)
{
	static const char *const words[] = {
		[AQ_REFUSED_NOT] = "none",
		[AQ_REFUSED_INVALID] = "invalid",
		[AQ_REFUSED_TOO_LARGE] = "too_large",
		[AQ_REFUSED_DEVICE] = "device",
		[AQ_REFUSED_COMPUTE] = "compute",
		[AQ_REFUSED_LIMIT] = "limit",
		[AQ_REFUSED_IN_USE] = "in_use",
		[AQ_REFUSED_OVER] = "over_limit",
		[AQ_REFUSED_CUT] = "cut_off",
		[AQ_REFUSED_CLIENTS] = "clients",
	};

	return (size_t)reason < AQ_ARRAY_SIZE(words) && words[reason] ? words[reason] : "unknown";
}

static uint64_t hold_sum(const struct aq_ledger_hold *h)
{
	return h->granted_bytes + h->overhead_bytes + h->reserved_bytes;
}

void aq_ledger_init(struct aq_ledger *l, const struct aq_ledger_ops *ops, void *context)
{
	memset(l, 0, sizeof(*l));
	l->ops = ops;
	l->context = context;
	aq_list_init(&l->fractions);
}

int aq_ledger_add_device(struct aq_ledger *l, uint64_t total_bytes)
{
	if (!total_bytes || total_bytes > AQ_LEDGER_MAX_BYTES)
		return -EINVAL;
	if (l->device_count == AQ_LEDGER_MAX_DEVICES)
		return -ENOSPC;
	l->device[l->device_count] = (struct aq_ledger_device){.total_bytes = total_bytes};
	return (int)l->device_count++;
}

static int refuse(struct aq_refusal *to, struct aq_refusal why, int error)
{
	*to = why;
	return error;
}

/* What is wrong with a spec whatever anybody else holds. */
static int check_spec(const struct aq_ledger *l, const struct aq_ledger_spec *spec,
		      struct aq_refusal *ret)
{
	struct aq_refusal invalid = {.reason = AQ_REFUSED_INVALID};

	if (!spec->share_count || spec->share_count > AQ_MAX_DEVICES ||
	    spec->compute_request_permille > spec->compute_limit_permille ||
	    !spec->compute_limit_permille || spec->compute_limit_permille > AQ_PERMILLE ||
	    (unsigned int)spec->priority > AQ_PRIORITY_HIGH)
		return refuse(ret, invalid, -EINVAL);

	for (uint32_t i = 0; i < spec->share_count; i++) {
		uint64_t request = spec->share[i].request_bytes, limit = spec->share[i].limit_bytes;
		uint32_t device = spec->share[i].device;

		if (device >= l->device_count || request > limit || limit < AQ_GRAIN_BYTES)
			return refuse(ret, invalid, -EINVAL);
		for (uint32_t j = 0; j < i; j++)
			if (spec->share[j].device == device)
				return refuse(ret, invalid, -EINVAL);
		if (limit > l->device[device].total_bytes)
			return refuse(ret,
				      (struct aq_refusal){
					      .reason = AQ_REFUSED_TOO_LARGE,
					      .device = device,
					      .asked_bytes = limit,
					      .limit_bytes = l->device[device].total_bytes,
					      .free_bytes = aq_ledger_device_free(l, device),
				      },
				      -E2BIG);
	}
	return 0;
}

static uint64_t spec_limit(const struct aq_ledger_spec *spec, uint32_t i)
{
	return spec->share[i].limit_bytes / AQ_GRAIN_BYTES * AQ_GRAIN_BYTES;
}

/* A request is cut with its limit, so that it stays below it. */
static uint64_t spec_request(const struct aq_ledger_spec *spec, uint32_t i)
{
	return aq_min(spec->share[i].request_bytes, spec_limit(spec, i));
}

/*
 * Is there room on the device of share @i, given what @f (NULL: a new fraction) has there already?
 * Takes unused grants back from others to make it.
 */
static int find_room(struct aq_ledger *l, const struct aq_ledger_fraction *f,
		     const struct aq_ledger_spec *spec, uint32_t i, struct aq_refusal *ret)
{
	uint32_t device = spec->share[i].device;
	struct aq_ledger_device *d = &l->device[device];
	uint64_t request = spec_request(spec, i);
	uint64_t held = f ? f->share[i].held_bytes : 0;
	bool lent = f && f->share[i].lent;
	uint64_t had = f ? aq_max(aq_ledger_bound(&f->share[i]), held) : 0;
	uint64_t wanted = aq_max(lent ? 0 : request, held);
	uint32_t permille = d->compute_request_permille - (f ? f->compute_request_permille : 0);

	if (spec->compute_request_permille > AQ_PERMILLE - permille)
		return refuse(ret,
			      (struct aq_refusal){
				      .reason = AQ_REFUSED_COMPUTE,
				      .device = device,
				      .asked_bytes = request,
				      .limit_bytes = d->total_bytes,
				      .used_bytes = d->committed_bytes,
				      .free_bytes = aq_ledger_device_free(l, device),
				      .asked_permille = spec->compute_request_permille,
				      .free_permille = AQ_PERMILLE - permille,
			      },
			      -ENOSPC);
	/* The sum of requests on its own as well: what is held may be more than there is. */
	if (request > d->total_bytes - (d->request_bytes - (f ? f->share[i].request_bytes : 0)) ||
	    (wanted > had && !aq__ledger_make_room(l, f, device, wanted - had)))
		return refuse(ret,
			      (struct aq_refusal){
				      .reason = AQ_REFUSED_DEVICE,
				      .device = device,
				      .asked_bytes = request,
				      .limit_bytes = d->total_bytes,
				      .used_bytes = d->committed_bytes,
				      .free_bytes = aq__ledger_available(l, f, device),
			      },
			      -ENOSPC);
	return 0;
}

static void set_terms(struct aq_ledger_fraction *f, const struct aq_ledger_spec *spec)
{
	f->compute_request_permille = spec->compute_request_permille;
	f->compute_limit_permille = spec->compute_limit_permille;
	f->priority = spec->priority;
}

int aq_ledger_create(struct aq_ledger *l, struct aq_ledger_fraction *f,
		     const struct aq_ledger_spec *spec, struct aq_refusal *ret_refusal)
{
	int r = check_spec(l, spec, ret_refusal);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < spec->share_count; i++) {
		r = find_room(l, NULL, spec, i, ret_refusal);
		if (r < 0)
			return r;
	}

	memset(f, 0, sizeof(*f));
	aq_list_init(&f->clients);
	f->share_count = spec->share_count;
	set_terms(f, spec);
	for (uint32_t i = 0; i < spec->share_count; i++) {
		struct aq_ledger_share *s = &f->share[i];
		struct aq_ledger_device *d = &l->device[spec->share[i].device];

		s->device = spec->share[i].device;
		s->request_bytes = spec_request(spec, i);
		s->limit_bytes = spec_limit(spec, i);
		d->request_bytes += s->request_bytes;
		d->committed_bytes += s->request_bytes;
		d->compute_request_permille += f->compute_request_permille;
		d->fraction_count++;
	}
	aq_list_append(&l->fractions, &f->link);
	l->fraction_count++;
	return 0;
}

int aq_ledger_resize(struct aq_ledger *l, struct aq_ledger_fraction *f,
		     const struct aq_ledger_spec *spec, struct aq_refusal *ret_refusal)
{
	int r = check_spec(l, spec, ret_refusal);

	if (r < 0)
		return r;
	if (spec->share_count != f->share_count)
		return refuse(ret_refusal, (struct aq_refusal){.reason = AQ_REFUSED_INVALID},
			      -EINVAL);
	for (uint32_t i = 0; i < f->share_count; i++) {
		struct aq_ledger_share *s = &f->share[i];
		uint64_t limit = spec_limit(spec, i);

		if (spec->share[i].device != s->device)
			return refuse(ret_refusal,
				      (struct aq_refusal){.reason = AQ_REFUSED_INVALID}, -EINVAL);
		if (s->held_bytes > limit && aq_ledger_used(l, f, i) <= limit)
			aq__ledger_reclaim(l, f, i, NULL, s->held_bytes - limit);
		if (s->held_bytes > limit)
			return refuse(ret_refusal,
				      (struct aq_refusal){
					      .reason = AQ_REFUSED_IN_USE,
					      .device = s->device,
					      .asked_bytes = limit,
					      .limit_bytes = s->limit_bytes,
					      .used_bytes = aq_ledger_used(l, f, i),
					      .free_bytes = aq_ledger_free(l, f, i),
				      },
				      -EBUSY);
	}
	for (uint32_t i = 0; i < f->share_count; i++) {
		r = find_room(l, f, spec, i, ret_refusal);
		if (r < 0)
			return r;
	}

	for (uint32_t i = 0; i < f->share_count; i++) {
		struct aq_ledger_share *s = &f->share[i];
		struct aq_ledger_device *d = &l->device[s->device];
		uint64_t request = spec_request(spec, i);

		d->committed_bytes -= aq_max(aq_ledger_bound(s), s->held_bytes);
		d->committed_bytes += aq_max(s->lent ? 0 : request, s->held_bytes);
		d->request_bytes = d->request_bytes - s->request_bytes + request;
		d->compute_request_permille = d->compute_request_permille -
					      f->compute_request_permille +
					      spec->compute_request_permille;
		if (d->committed_bytes <= d->total_bytes)
			d->over = false;
		s->request_bytes = request;
		s->limit_bytes = spec_limit(spec, i);
		s->over = false;
	}
	set_terms(f, spec);
	return 0;
}

void aq_ledger_end(struct aq_ledger *l, struct aq_ledger_fraction *f)
{
	if (!f->share_count)
		return;
	while (!aq_list_empty(&f->clients))
		aq_ledger_remove(l,
				 aq_container_of(f->clients.next, struct aq_ledger_client, link));
	for (uint32_t i = 0; i < f->share_count; i++) {
		struct aq_ledger_device *d = &l->device[f->share[i].device];

		d->request_bytes -= f->share[i].request_bytes;
		d->committed_bytes -= aq_ledger_bound(&f->share[i]);
		d->compute_request_permille -= f->compute_request_permille;
		d->fraction_count--;
		if (d->committed_bytes <= d->total_bytes)
			d->over = false;
	}
	aq_list_remove(&f->link);
	f->share_count = 0;
	l->fraction_count--;
}

int aq_ledger_admit(struct aq_ledger *l, struct aq_ledger_fraction *f, struct aq_ledger_client *c)
{
	if (l->client_count >= AQ_LEDGER_MAX_CLIENTS)
		return -EMFILE;
	memset(c, 0, sizeof(*c));
	c->fraction = f;
	aq_list_append(&f->clients, &c->link);
	f->client_count++;
	l->client_count++;
	return 0;
}

/*
 * The one place where what a client holds changes. @fact: it is so already, and may break a rule;
 * otherwise the caller has made sure that it does not.
 */
void aq__ledger_set_hold(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
			 struct aq_ledger_hold to, bool fact)
{
	struct aq_ledger_share *s = &c->fraction->share[share];
	struct aq_ledger_device *d = &l->device[s->device];
	uint64_t was = hold_sum(&c->hold[share]), is = hold_sum(&to);
	uint64_t committed = aq_max(aq_ledger_bound(s), s->held_bytes);

	c->hold[share] = to;
	s->held_bytes = s->held_bytes - was + is;
	d->held_bytes = d->held_bytes - was + is;
	d->committed_bytes =
		d->committed_bytes - committed + aq_max(aq_ledger_bound(s), s->held_bytes);

	if (s->held_bytes <= s->limit_bytes)
		s->over = false;
	else if (fact)
		s->over = true;
	if (d->committed_bytes <= d->total_bytes)
		d->over = false;
	else if (fact)
		d->over = true;
}

void aq_ledger_adopt(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		     uint64_t granted_bytes)
{
	struct aq_ledger_hold to = c->hold[share];

	granted_bytes = aq_min(granted_bytes, AQ_GRANT_MAX_BYTES);
	to.granted_bytes = (granted_bytes + AQ_GRAIN_BYTES - 1) / AQ_GRAIN_BYTES * AQ_GRAIN_BYTES;
	aq__ledger_set_hold(l, c, share, to, true);
}

void aq_ledger_remove(struct aq_ledger *l, struct aq_ledger_client *c)
{
	struct aq_ledger_fraction *f = c->fraction;

	if (!f)
		return;
	for (uint32_t i = 0; i < f->share_count; i++)
		aq__ledger_set_hold(l, c, i, (struct aq_ledger_hold){0}, true);
	aq_list_remove(&c->link);
	c->fraction = NULL;
	f->client_count--;
	l->client_count--;
}

void aq_ledger_cut(struct aq_ledger *l, struct aq_ledger_client *c)
{
	c->cut = true;
}

/* Do a fraction's sums agree with its clients? Adds what it holds to its devices' @sums. */
static bool check_fraction(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			   struct aq_ledger_device *sums, uint32_t *ret_clients)
{
	uint64_t held[AQ_MAX_DEVICES] = {0};
	struct aq_ledger_client *c, *tmp;
	uint32_t clients = 0;

	AQ_LIST_FOREACH (c, tmp, &f->clients, link) {
		clients++;
		if (c->fraction != f)
			return false;
		for (uint32_t i = 0; i < AQ_MAX_DEVICES; i++) {
			held[i] += hold_sum(&c->hold[i]);
			if (c->hold[i].granted_bytes % AQ_GRAIN_BYTES ||
			    c->hold[i].granted_bytes > AQ_GRANT_MAX_BYTES ||
			    (i >= f->share_count && hold_sum(&c->hold[i])))
				return false;
		}
	}
	for (uint32_t i = 0; i < f->share_count; i++) {
		const struct aq_ledger_share *s = &f->share[i];
		struct aq_ledger_device *sum;

		if (s->device >= l->device_count || held[i] != s->held_bytes ||
		    s->request_bytes > s->limit_bytes || (held[i] > s->limit_bytes) != s->over)
			return false;
		sum = &sums[s->device];
		sum->request_bytes += s->request_bytes;
		sum->held_bytes += held[i];
		sum->committed_bytes += aq_max(aq_ledger_bound(s), held[i]);
		sum->compute_request_permille += f->compute_request_permille;
		sum->fraction_count++;
	}
	*ret_clients = clients;
	return clients == f->client_count && f->share_count > 0;
}

int aq_ledger_check(const struct aq_ledger *l)
{
	struct aq_ledger_device sums[AQ_LEDGER_MAX_DEVICES] = {0};
	struct aq_ledger_fraction *f, *tmp;
	uint32_t fractions = 0, clients = 0;

	AQ_LIST_FOREACH (f, tmp, &l->fractions, link) {
		uint32_t n = 0;

		if (!check_fraction(l, f, sums, &n))
			return -EUCLEAN;
		fractions++;
		clients += n;
	}
	for (uint32_t i = 0; i < l->device_count; i++) {
		const struct aq_ledger_device *d = &l->device[i];

		if (d->request_bytes != sums[i].request_bytes ||
		    d->held_bytes != sums[i].held_bytes ||
		    d->committed_bytes != sums[i].committed_bytes ||
		    d->compute_request_permille != sums[i].compute_request_permille ||
		    d->fraction_count != sums[i].fraction_count ||
		    d->request_bytes > d->total_bytes ||
		    d->compute_request_permille > AQ_PERMILLE ||
		    (d->committed_bytes > d->total_bytes) != d->over)
			return -EUCLEAN;
	}
	return fractions == l->fraction_count && clients == l->client_count ? 0 : -EUCLEAN;
}
