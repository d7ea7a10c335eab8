/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger by example, at its edges, and against a model that adds everything up each time. */
#include "../cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/grant.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "base/size.h"
#include "core/ledger.h"
#include "core/placement.h"

#define FRACTIONS 6
#define CLIENTS 5 /* of each */

/* A page: what the client has and uses. The ledger reaches it through the ops. */
struct page {
	struct aq_ledger_client client; /* first */
	uint64_t granted[AQ_MAX_DEVICES], used[AQ_MAX_DEVICES];
};

static struct page *page_of(const struct aq_ledger_client *c)
{
	return aq_container_of(c, struct page, client);
}

static uint64_t page_used(void *context, const struct aq_ledger_client *c, uint32_t share)
{
	return page_of(c)->used[share];
}

static uint64_t page_revoke(void *context, struct aq_ledger_client *c, uint32_t share,
			    uint64_t max_bytes)
{
	struct page *p = page_of(c);
	uint64_t taken = p->granted[share] - p->used[share];

	assert_int_equal(max_bytes % AQ_GRAIN_BYTES, 0);
	if (taken > max_bytes)
		taken = max_bytes;
	p->granted[share] -= taken;
	return taken;
}

static const struct aq_ledger_ops ops = {.used = page_used, .revoke = page_revoke};

static struct aq_ledger_spec spec_on(uint32_t device, uint64_t request, uint64_t limit)
{
	return (struct aq_ledger_spec){
		.share_count = 1,
		.share[0] = {.device = device, .request_bytes = request, .limit_bytes = limit},
		.compute_limit_permille = AQ_PERMILLE,
		.priority = AQ_PRIORITY_NORMAL,
	};
}

static int create(struct aq_ledger *l, struct aq_ledger_fraction *f, uint64_t request,
		  uint64_t limit, struct aq_refusal *why)
{
	struct aq_ledger_spec spec = spec_on(0, request, limit);

	return aq_ledger_create(l, f, &spec, why);
}

static int grow(struct aq_ledger *l, struct page *p, uint64_t need, struct aq_refusal *why)
{
	uint64_t granted = 0;
	int r = aq_ledger_grow(l, &p->client, 0, need, why, &granted);

	p->granted[0] += granted;
	if (r == 0)
		assert_true(granted >= need && granted % AQ_GRAIN_BYTES == 0);
	return r;
}

/* Grow by @bytes and use them. */
static int use(struct aq_ledger *l, struct page *p, uint64_t bytes, struct aq_refusal *why)
{
	uint64_t unused = p->granted[0] - p->used[0];
	int r = bytes > unused ? grow(l, p, bytes - unused, why) : 0;

	if (r == 0)
		p->used[0] += bytes;
	return r;
}

static void test_ledger__to_the_byte(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f = {0};
	struct aq_refusal why = {0};
	struct page p = {0};

	aq_ledger_init(&l, &ops, NULL);
	assert_int_equal(aq_ledger_add_device(&l, AQ_GIB), 0);
	assert_int_equal(create(&l, &f, 0, AQ_MIB + 100, &why), 0);
	assert_int_equal(f.share[0].limit_bytes, AQ_MIB); /* whole grains */
	assert_int_equal(aq_ledger_admit(&l, &f, &p.client), 0);
	assert_int_equal(use(&l, &p, AQ_MIB - AQ_GRAIN_BYTES, &why), 0);
	assert_int_equal(grow(&l, &p, AQ_GRAIN_BYTES + 1, &why), -ENOMEM);
	assert_int_equal(why.reason, AQ_REFUSED_LIMIT);
	assert_int_equal(why.used_bytes, AQ_MIB - AQ_GRAIN_BYTES);
	assert_int_equal(why.free_bytes, AQ_GRAIN_BYTES);
	assert_int_equal(use(&l, &p, AQ_GRAIN_BYTES, &why), 0);
	assert_int_equal(grow(&l, &p, 1, &why), -ENOMEM);
	assert_int_equal(aq_ledger_free(&l, &f, 0), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
	aq_ledger_end(&l, &f);
	assert_null(p.client.fraction);
	assert_int_equal(l.device[0].committed_bytes, 0);
	assert_int_equal(aq_ledger_check(&l), 0);
	aq_ledger_end(&l, &f);
	aq_ledger_remove(&l, &p.client);
}

static void test_ledger__absurd_numbers_change_nothing(void **state)
{
	static const uint64_t absurd[] = {
		UINT64_MAX,	     UINT64_MAX - 511,	     1ull << 63,	 (1ull << 63) - 1,
		AQ_LEDGER_MAX_BYTES, AQ_GRANT_MAX_BYTES + 1, AQ_GRANT_MAX_BYTES, 80 * AQ_GIB + 1,
	};
	struct aq_ledger l;
	struct aq_ledger_fraction f = {0}, g = {0};
	struct aq_refusal why;
	struct page p = {0};

	aq_ledger_init(&l, &ops, NULL);
	assert_int_equal(aq_ledger_add_device(&l, 0), -EINVAL);
	assert_int_equal(aq_ledger_add_device(&l, UINT64_MAX), -EINVAL);
	assert_int_equal(aq_ledger_add_device(&l, 80 * AQ_GIB), 0);
	assert_int_equal(create(&l, &f, AQ_GIB, 80 * AQ_GIB, &why), 0);
	assert_int_equal(aq_ledger_admit(&l, &f, &p.client), 0);
	assert_int_equal(use(&l, &p, AQ_GIB, &why), 0);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(absurd); i++) {
		struct aq_ledger_spec spec = spec_on(0, 0, absurd[i]);

		assert_int_equal(aq_ledger_create(&l, &g, &spec, &why), -E2BIG);
		assert_int_equal(why.reason, AQ_REFUSED_TOO_LARGE);
		assert_int_equal(aq_ledger_resize(&l, &f, &spec, &why), -E2BIG);
		spec.share[0].request_bytes = absurd[i];
		spec.share[0].limit_bytes = AQ_GIB;
		assert_int_equal(aq_ledger_create(&l, &g, &spec, &why), -EINVAL);
		assert_int_equal(grow(&l, &p, absurd[i], &why), -ENOMEM);
		assert_int_equal(aq_ledger_reserve(&l, &p.client, 0, absurd[i], &why), -ENOMEM);
		assert_true(why.free_bytes <= 80 * AQ_GIB);
		aq_ledger_unreserve(&l, &p.client, 0, absurd[i]);
		assert_int_equal(aq_ledger_check(&l), 0);
		/* facts are believed, up to what can be */
		assert_int_equal(aq_ledger_measure(&l, &p.client, 0, absurd[i]), -ENOMEM);
		assert_true(f.share[0].over && l.device[0].over);
		assert_int_equal(aq_ledger_check(&l), 0);
		assert_int_equal(grow(&l, &p, 1, &why), -ENOMEM);
		assert_int_equal(why.reason, AQ_REFUSED_OVER);
		assert_int_equal(why.free_bytes, 0);
		assert_int_equal(aq_ledger_measure(&l, &p.client, 0, 0), 0);
		assert_false(f.share[0].over || l.device[0].over);
	}
	assert_int_equal(use(&l, &p, 79 * AQ_GIB, &why), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
}

static void test_ledger__specs_that_cannot_be(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f = {0};
	struct aq_refusal why;
	struct aq_ledger_spec good = spec_on(0, AQ_GIB, AQ_GIB), s;

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, 4 * AQ_GIB);
	aq_ledger_add_device(&l, 4 * AQ_GIB);
	s = good, s.share_count = 0;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.share_count = AQ_MAX_DEVICES + 1;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.share[0].device = 2;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.share_count = 2, s.share[1] = s.share[0];
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.share[0].limit_bytes = s.share[0].request_bytes = AQ_GRAIN_BYTES - 1;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.compute_request_permille = UINT32_MAX;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.compute_limit_permille = UINT32_MAX;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.compute_limit_permille = 0;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	s = good, s.priority = (enum aq_priority)7;
	assert_int_equal(aq_ledger_create(&l, &f, &s, &why), -EINVAL);
	assert_int_equal(why.reason, AQ_REFUSED_INVALID);
	assert_int_equal(l.fraction_count, 0);
	assert_int_equal(aq_ledger_create(&l, &f, &good, &why), 0);
	s = good, s.share[0].device = 1; /* a fraction does not move */
	assert_int_equal(aq_ledger_resize(&l, &f, &s, &why), -EINVAL);
	s.share[1] = good.share[0], s.share_count = 2;
	assert_int_equal(aq_ledger_resize(&l, &f, &s, &why), -EINVAL);
	assert_int_equal(aq_ledger_check(&l), 0);
}

static void test_ledger__second_share_refused_leaves_first_alone(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f = {0}, g = {0};
	struct aq_refusal why;
	struct aq_ledger_spec two = spec_on(0, AQ_GIB, AQ_GIB);

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, 4 * AQ_GIB);
	aq_ledger_add_device(&l, 4 * AQ_GIB);
	two.share_count = 2;
	two.share[1] = two.share[0];
	two.share[1].device = 1;
	two.compute_request_permille = 400;
	assert_int_equal(aq_ledger_create(&l, &f, &two, &why), 0);
	two.share[1].request_bytes = two.share[1].limit_bytes = 4 * AQ_GIB;
	assert_int_equal(aq_ledger_create(&l, &g, &two, &why), -ENOSPC);
	assert_int_equal(why.reason, AQ_REFUSED_DEVICE);
	assert_int_equal(why.device, 1);
	assert_int_equal(why.free_bytes, 3 * AQ_GIB);
	two.share[1].request_bytes = two.share[1].limit_bytes = AQ_GIB;
	two.compute_request_permille = 601;
	assert_int_equal(aq_ledger_create(&l, &g, &two, &why), -ENOSPC);
	assert_int_equal(why.reason, AQ_REFUSED_COMPUTE);
	assert_int_equal(why.free_permille, 600);
	assert_int_equal(l.device[0].request_bytes, AQ_GIB);
	assert_int_equal(l.device[0].fraction_count, 1);
	assert_int_equal(aq_ledger_check(&l), 0);
}

static void test_ledger__request_is_always_there(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction greedy = {0}, modest = {0};
	struct aq_refusal why;
	struct page a = {0}, b = {0};

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, 10 * AQ_GIB);
	assert_int_equal(create(&l, &greedy, AQ_GIB, 10 * AQ_GIB, &why), 0);
	assert_int_equal(create(&l, &modest, 4 * AQ_GIB, 8 * AQ_GIB, &why), 0);
	aq_ledger_admit(&l, &greedy, &a.client);
	aq_ledger_admit(&l, &modest, &b.client);
	assert_int_equal(use(&l, &a, 6 * AQ_GIB, &why), 0);
	assert_int_equal(grow(&l, &a, 1, &why), -ENOMEM);
	assert_int_equal(why.reason, AQ_REFUSED_DEVICE);
	assert_int_equal(use(&l, &b, 4 * AQ_GIB, &why), 0);
	assert_int_equal(grow(&l, &b, 1, &why), -ENOMEM);
	/* what the greedy one does not use any more is taken back for the other's burst */
	a.used[0] -= 2 * AQ_GIB;
	assert_int_equal(aq_ledger_free(&l, &modest, 0), 2 * AQ_GIB);
	assert_int_equal(use(&l, &b, 2 * AQ_GIB, &why), 0);
	assert_int_equal(a.granted[0], 4 * AQ_GIB);
	/* but not below its request */
	a.used[0] = 0;
	assert_int_equal(aq_ledger_free(&l, &modest, 0), 2 * AQ_GIB);
	assert_int_equal(use(&l, &b, 2 * AQ_GIB, &why), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
	assert_true(a.granted[0] >= AQ_GIB);
}

static void test_ledger__a_parked_request_is_lent_and_comes_back(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction a = {0}, b = {0}, c = {0};
	struct aq_refusal why = {0};
	struct page borrower = {0};

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, 10 * AQ_GIB);
	assert_int_equal(create(&l, &a, 8 * AQ_GIB, 8 * AQ_GIB, &why), 0);
	assert_int_equal(create(&l, &b, 0, 10 * AQ_GIB, &why), 0);
	assert_int_equal(aq_ledger_admit(&l, &b, &borrower.client), 0);
	assert_int_equal(use(&l, &borrower, 3 * AQ_GIB, &why), -ENOMEM);
	assert_int_equal(aq_ledger_shortfall(&l, &b, 0, 3 * AQ_GIB, false), AQ_GIB);
	assert_int_equal(aq_ledger_lend(&l, &a, 0, true), 0);
	assert_int_equal(aq_ledger_lent(&l, NULL, 0), 8 * AQ_GIB);
	assert_int_equal(aq_ledger_lent(&l, &a, 0), 0);
	assert_int_equal(aq_ledger_shortfall(&l, &b, 0, 3 * AQ_GIB, false), 0);
	/* What could not be given back has to fit beside it all the same. */
	assert_int_equal(aq_ledger_shortfall(&l, &b, 0, 3 * AQ_GIB, true), AQ_GIB);
	assert_int_equal(aq_ledger_shortfall(&l, &b, 0, 2 * AQ_GIB, true), 0);
	assert_int_equal(use(&l, &borrower, 3 * AQ_GIB, &why), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
	/* Lent is not given away: nobody else can be promised it. */
	assert_int_equal(create(&l, &c, 3 * AQ_GIB, 3 * AQ_GIB, &why), -ENOSPC);
	assert_int_equal(aq_ledger_lend(&l, &a, 0, false), -ENOSPC);
	assert_int_equal(aq_ledger_shortfall(&l, &a, 0, 0, false), AQ_GIB);
	assert_true(a.share[0].lent);
	borrower.used[0] -= AQ_GIB;
	assert_int_equal(aq_ledger_lend(&l, &a, 0, false), 0);
	assert_int_equal(l.device[0].committed_bytes, 10 * AQ_GIB);
	assert_int_equal(aq_ledger_check(&l), 0);
}

static void test_ledger__cut_client_gives_and_gets_nothing(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f = {0};
	struct aq_refusal why;
	struct page a = {0}, b = {0};

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, AQ_GIB);
	create(&l, &f, 0, AQ_GIB, &why);
	aq_ledger_admit(&l, &f, &a.client);
	aq_ledger_admit(&l, &f, &b.client);
	assert_int_equal(grow(&l, &a, 512 * AQ_MIB, &why), 0);
	aq_ledger_cut(&l, &a.client);
	assert_int_equal(grow(&l, &a, 1, &why), -ENOMEM);
	assert_int_equal(why.reason, AQ_REFUSED_CUT);
	assert_int_equal(use(&l, &b, 512 * AQ_MIB, &why), 0);
	assert_int_equal(grow(&l, &b, 1, &why), -ENOMEM);
	assert_int_equal(a.granted[0], 512 * AQ_MIB);
	aq_ledger_remove(&l, &a.client);
	assert_int_equal(use(&l, &b, 512 * AQ_MIB, &why), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
}

static void test_ledger__too_many_clients(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f = {0};
	struct aq_refusal why;
	struct page *p = calloc(AQ_LEDGER_MAX_CLIENTS + 1, sizeof(*p));

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, AQ_GIB);
	create(&l, &f, 0, AQ_GIB, &why);
	for (uint32_t i = 0; i < AQ_LEDGER_MAX_CLIENTS; i++) {
		assert_int_equal(aq_ledger_admit(&l, &f, &p[i].client), 0);
		aq_ledger_measure(&l, &p[i].client, 0, UINT64_MAX); /* the sum must not wrap */
		aq_ledger_adopt(&l, &p[i].client, 0, UINT64_MAX);
	}
	assert_int_equal(aq_ledger_admit(&l, &f, &p[AQ_LEDGER_MAX_CLIENTS].client), -EMFILE);
	assert_true(f.share[0].held_bytes > AQ_LEDGER_MAX_CLIENTS * AQ_LEDGER_MAX_BYTES);
	assert_int_equal(aq_ledger_free(&l, &f, 0), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
	aq_ledger_end(&l, &f);
	assert_int_equal(l.device[0].held_bytes, 0);
	assert_int_equal(aq_ledger_check(&l), 0);
	free(p);
}

/* ---- against a model ---- */

static uint64_t random_state;

static uint64_t random_u64(void)
{
	random_state ^= random_state << 13; /* xorshift64; Source: Marsaglia 2003 */
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t below(uint64_t n)
{
	return random_u64() % n;
}

struct world {
	struct aq_ledger ledger;
	struct aq_ledger_fraction fraction[FRACTIONS];
	struct page page[FRACTIONS][CLIENTS];
};

/* Everything that the model needs, straight from pages and terms: no sum of the ledger's. */
static uint64_t model_used(const struct world *w, int f, uint32_t share, const struct page *except)
{
	uint64_t sum = 0;

	for (int c = 0; c < CLIENTS; c++) {
		const struct page *p = &w->page[f][c];
		const struct aq_ledger_hold *h = &p->client.hold[share];

		if (!p->client.fraction)
			continue;
		sum += p == except || p->client.cut ? p->granted[share] : p->used[share];
		sum += h->overhead_bytes + h->reserved_bytes;
	}
	return sum;
}

static int model_share(const struct world *w, int f, uint32_t device)
{
	for (uint32_t i = 0; i < w->fraction[f].share_count; i++)
		if (w->fraction[f].share[i].device == device)
			return (int)i;
	return -1;
}

/* What others than @f keep of a device at the least. */
static uint64_t model_kept(const struct world *w, int self, uint32_t device)
{
	uint64_t sum = 0;

	for (int f = 0; f < FRACTIONS; f++) {
		int i = f == self ? -1 : model_share(w, f, device);
		uint64_t used, request;

		if (i < 0)
			continue;
		used = model_used(w, f, (uint32_t)i, NULL);
		request = aq_ledger_bound(&w->fraction[f].share[i]);
		sum += used > request ? used : request;
	}
	return sum;
}

/* Could the fraction have @need more? By definition: within the limit, and either within the
 * request or within what the device has left. */
static bool model_fits(const struct world *w, int f, uint32_t share, const struct page *except,
		       uint64_t need)
{
	const struct aq_ledger_share *s = &w->fraction[f].share[share];
	uint64_t is = model_used(w, f, share, except) + need;

	if (is > s->limit_bytes)
		return false;
	return is <= aq_ledger_bound(s) ||
	       is + model_kept(w, f, s->device) <= w->ledger.device[s->device].total_bytes;
}

static void model_check(const struct world *w)
{
	assert_int_equal(aq_ledger_check(&w->ledger), 0);
	for (int f = 0; f < FRACTIONS; f++) {
		const struct aq_ledger_fraction *l = &w->fraction[f];

		for (uint32_t i = 0; i < l->share_count; i++) {
			uint64_t held = 0;

			for (int c = 0; c < CLIENTS; c++) {
				const struct page *p = &w->page[f][c];

				if (!p->client.fraction)
					continue;
				assert_true(p->used[i] <= p->granted[i]);
				assert_int_equal(p->granted[i], p->client.hold[i].granted_bytes);
				held += p->granted[i] + p->client.hold[i].overhead_bytes +
					p->client.hold[i].reserved_bytes;
			}
			assert_true(held <= l->share[i].limit_bytes || l->share[i].over);
			assert_int_equal(model_used(w, f, i, NULL),
					 aq_ledger_used(&w->ledger, l, i));
		}
	}
}

/* Terms on as many devices as there may be; for @f on those that it has. */
static struct aq_ledger_spec random_spec(const struct world *w, const struct aq_ledger_fraction *f)
{
	struct aq_ledger_spec s = {
		.share_count = 1 + (uint32_t)below(w->ledger.device_count),
		.compute_request_permille = (uint32_t)below(300),
		.compute_limit_permille = 500 + (uint32_t)below(501),
		.priority = (enum aq_priority)below(3),
	};
	uint32_t first = (uint32_t)below(w->ledger.device_count);

	if (f->share_count)
		s.share_count = f->share_count;
	for (uint32_t i = 0; i < s.share_count; i++) {
		uint64_t total;

		s.share[i].device =
			f->share_count ? f->share[i].device : (first + i) % w->ledger.device_count;
		total = w->ledger.device[s.share[i].device].total_bytes;
		s.share[i].limit_bytes = AQ_GRAIN_BYTES * (1 + below(total / AQ_GRAIN_BYTES));
		s.share[i].request_bytes =
			below(3) ? below(s.share[i].limit_bytes / 2 + 1) : s.share[i].limit_bytes;
	}
	return s;
}

/* May @f have these terms on the device of share @i? */
static bool model_allows(const struct world *w, int f, const struct aq_ledger_spec *spec,
			 uint32_t i)
{
	const struct aq_ledger_fraction *l = &w->fraction[f];
	const struct aq_ledger_device *d = &w->ledger.device[spec->share[i].device];
	uint64_t request = spec->share[i].request_bytes, limit = spec->share[i].limit_bytes;
	uint32_t others = d->compute_request_permille;
	uint64_t requests = d->request_bytes, has = 0;

	if (l->share_count) {
		others -= l->compute_request_permille;
		requests -= l->share[i].request_bytes;
		has = aq_max(l->share[i].request_bytes, aq_min(l->share[i].held_bytes, limit));
		if (model_used(w, f, i, NULL) > limit)
			return false;
	}
	if (limit > d->total_bytes || requests + request > d->total_bytes ||
	    others + spec->compute_request_permille > AQ_PERMILLE)
		return false;
	return request <= has || (l->share_count && l->share[i].lent) ||
	       request + model_kept(w, l->share_count ? f : -1, spec->share[i].device) <=
		       d->total_bytes;
}

static void do_fraction(struct world *w, int f)
{
	struct aq_ledger_spec spec = random_spec(w, &w->fraction[f]);
	struct aq_refusal why;
	bool fits = true, over = false;
	int r;

	if (w->fraction[f].share_count && below(2)) {
		aq_ledger_end(&w->ledger, &w->fraction[f]);
		memset(w->page[f], 0, sizeof(w->page[f]));
		return;
	}
	for (uint32_t i = 0; i < spec.share_count; i++) {
		fits = fits && model_allows(w, f, &spec, i);
		over = over || w->ledger.device[spec.share[i].device].over;
	}
	if (w->fraction[f].share_count)
		r = aq_ledger_resize(&w->ledger, &w->fraction[f], &spec, &why);
	else
		r = aq_ledger_create(&w->ledger, &w->fraction[f], &spec, &why);
	/* Where a device is over, parts of a grain decide: both answers are right. */
	if (!over)
		assert_int_equal(fits, r == 0);
}

static uint64_t random_bytes(const struct aq_ledger_share *s)
{
	switch (below(5)) {
	case 0:
		return 1 + below(AQ_GRAIN_BYTES * 4);
	case 1:
		return 1 + below(s->limit_bytes);
	case 2:
		return 1 + below(s->limit_bytes / 16 + 1);
	case 3:
		return below(50) ? s->limit_bytes / (1 + below(40)) : random_u64();
	default:
		return 1 + below(AQ_MIB);
	}
}

static uint64_t up(uint64_t bytes)
{
	return (bytes + AQ_GRAIN_BYTES - 1) / AQ_GRAIN_BYTES * AQ_GRAIN_BYTES;
}

static void do_grow(struct world *w, int f, struct page *p, uint32_t share)
{
	uint64_t need = random_bytes(&w->fraction[f].share[share]), granted = 0;
	struct aq_refusal why = {0};
	bool fits = !p->client.cut && need <= AQ_GRANT_MAX_BYTES &&
		    model_fits(w, f, share, p, up(need));
	int r = aq_ledger_grow(&w->ledger, &p->client, share, need, &why, &granted);

	assert_int_equal(fits, r == 0);
	if (r < 0) {
		assert_true(why.reason != AQ_REFUSED_NOT);
		assert_int_equal(why.used_bytes, model_used(w, f, share, NULL));
		return;
	}
	assert_true(granted >= need && granted % AQ_GRAIN_BYTES == 0);
	p->granted[share] += granted;
	p->used[share] += below(granted / AQ_GRAIN_BYTES + 1) * AQ_GRAIN_BYTES;
}

/* What `free` says can be had is what can be had. */
static void do_free_is_true(struct world *w, int f, struct page *p, uint32_t share)
{
	uint64_t left, granted;
	struct aq_refusal why;

	p->used[share] = p->granted[share];
	left = aq_ledger_free(&w->ledger, &w->fraction[f], share) / AQ_GRAIN_BYTES * AQ_GRAIN_BYTES;
	if (p->client.cut || left > AQ_GRANT_MAX_BYTES - p->granted[share])
		return;
	assert_int_equal(aq_ledger_grow(&w->ledger, &p->client, share, left + AQ_GRAIN_BYTES, &why,
					&granted),
			 -ENOMEM);
	if (!left)
		return;
	assert_int_equal(aq_ledger_grow(&w->ledger, &p->client, share, left, &why, &granted), 0);
	p->granted[share] += granted;
	p->used[share] = p->granted[share] - below(granted / AQ_GRAIN_BYTES) * AQ_GRAIN_BYTES;
}

/* A request can be lent at any time, and has an end when it fits again. */
static void do_lend(struct world *w, int f, uint32_t share)
{
	const struct aq_ledger_share *s = &w->fraction[f].share[share];
	const struct aq_ledger_device *d = &w->ledger.device[s->device];
	bool fits = s->held_bytes >= s->request_bytes ||
		    s->request_bytes + model_kept(w, f, s->device) <= d->total_bytes;
	uint64_t lacks = aq_ledger_shortfall(&w->ledger, &w->fraction[f], share, 0, false);
	bool was = s->lent, over = d->over;
	int r = aq_ledger_lend(&w->ledger, &w->fraction[f], share, !was);

	if (!was || over)
		assert_true(!was ? r == 0 : true);
	else
		assert_int_equal(fits, r == 0);
	if (was && !over && !lacks) /* nobody has to give anything up */
		assert_int_equal(r, 0);
	assert_int_equal(s->lent, r == 0 ? !was : was);
}

static void do_client(struct world *w, int f, int c)
{
	struct page *p = &w->page[f][c];
	uint32_t share = (uint32_t)below(w->fraction[f].share_count);
	const struct aq_ledger_share *s = &w->fraction[f].share[share];
	struct aq_refusal why;
	uint64_t bytes;
	int r;

	if (!p->client.fraction) {
		memset(p, 0, sizeof(*p));
		aq_ledger_admit(&w->ledger, &w->fraction[f], &p->client);
		return;
	}
	switch (below(16)) {
	case 0:
		aq_ledger_remove(&w->ledger, &p->client);
		memset(p, 0, sizeof(*p));
		break;
	case 1:
		bytes = random_bytes(s);
		r = aq_ledger_reserve(&w->ledger, &p->client, share, bytes, &why);
		/* the asker's own unused grant may be taken for it: the model has none excepted */
		if (r == 0)
			assert_true(model_used(w, f, share, NULL) <= s->limit_bytes);
		break;
	case 2:
		aq_ledger_unreserve(&w->ledger, &p->client, share, random_bytes(s));
		break;
	case 3:
		bytes = below(4) ? below(s->limit_bytes / 8 + 1) : 0;
		r = aq_ledger_measure(&w->ledger, &p->client, share, bytes);
		assert_int_equal(r < 0, s->over || w->ledger.device[s->device].over);
		/* over means: even with nothing unused left */
		assert_int_equal(s->over, model_used(w, f, share, NULL) > s->limit_bytes);
		break;
	case 4:
		if (!below(20))
			aq_ledger_cut(&w->ledger, &p->client);
		break;
	case 5:
		if (!p->granted[share] && !below(4)) {
			p->granted[share] = up(below(s->limit_bytes) + 1);
			p->used[share] = below(p->granted[share] / AQ_GRAIN_BYTES) * AQ_GRAIN_BYTES;
			aq_ledger_adopt(&w->ledger, &p->client, share, p->granted[share]);
		}
		break;
	case 6:
	case 7:
	case 8:
		p->used[share] -= below(p->used[share] / AQ_GRAIN_BYTES + 1) * AQ_GRAIN_BYTES;
		break;
	case 9:
		do_free_is_true(w, f, p, share);
		break;
	default:
		do_grow(w, f, p, share);
	}
}

static void test_ledger__agrees_with_the_model(void **state)
{
	const char *seed = getenv("AQ_SEED");
	static struct world w;

	for (uint64_t run = 0; run < 40; run++) {
		random_state = (seed ? strtoull(seed, NULL, 0) : 20261122) * 1000 + run + 1;
		memset(&w, 0, sizeof(w));
		aq_ledger_init(&w.ledger, &ops, NULL);
		for (uint64_t i = 0; i <= below(3); i++)
			aq_ledger_add_device(&w.ledger, (1 + below(200)) * AQ_GIB + below(AQ_GIB));
		for (int i = 0; i < 3000; i++) {
			int f = (int)below(FRACTIONS);

			if (!w.fraction[f].share_count || !below(60))
				do_fraction(&w, f);
			else if (!below(20))
				do_lend(&w, f, (uint32_t)below(w.fraction[f].share_count));
			else
				do_client(&w, f, (int)below(CLIENTS));
			model_check(&w);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ledger__to_the_byte),
		cmocka_unit_test(test_ledger__absurd_numbers_change_nothing),
		cmocka_unit_test(test_ledger__specs_that_cannot_be),
		cmocka_unit_test(test_ledger__second_share_refused_leaves_first_alone),
		cmocka_unit_test(test_ledger__request_is_always_there),
		cmocka_unit_test(test_ledger__a_parked_request_is_lent_and_comes_back),
		cmocka_unit_test(test_ledger__cut_client_gives_and_gets_nothing),
		cmocka_unit_test(test_ledger__too_many_clients),
		cmocka_unit_test(test_ledger__agrees_with_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
