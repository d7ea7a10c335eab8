/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases by entitlement, deadline, priority and weight. Knows contenders and instants; how a lease
 * is enforced, and how device time is measured, is the caller's.
 */
#include "core/arbiter.h"

#include <errno.h>
#include <string.h>

#include "base/number.h"
#include "base/timing.h"
#include "base/banned.h"

#define PERMILLE 1000
/* So that nobody starves: the least anyone with work is owed, and the least weight. */
#define FLOOR_PERMILLE 1
/* Of 16 of a quantum: longer than what is in flight, so that there is no gap. */
#define REVIEW_PARTS 6
/* What is left over is given by a fraction of the quantum, once somebody is owed. */
#define LEFTOVER_PART 16
/* A lease that a cap ends leaves a little, for less is measured than time goes by. */
#define NEARLY_EMPTY_NS ((int64_t)(200 * AQ_NS_PER_US))

const struct aq_arbiter_tuning aq_arbiter_defaults = {
	/* A hand-over costs 20 to 80 us (to be measured): 1 to 2 % of this. */
	.quantum_ns = 4 * AQ_NS_PER_MS,
	/* Shares over a second are off by patience / 1 s at the most: under 1 % with half a
	 * device, while a normal wake-up still goes before anything low. */
	.patience_ns = {16 * AQ_NS_PER_MS, 8 * AQ_NS_PER_MS, 0},
	/* Caps hold over a second to within this. */
	.burst_ns = 5 * AQ_NS_PER_MS,
	/* A capped lease is no shorter than this, or hand-overs would eat it up. */
	.refill_ns = 2 * AQ_NS_PER_MS,
	/* Programs pause between steps, to look at a result or to prepare the next one. */
	.linger_ns = 10 * AQ_NS_PER_MS,
	.company_ns = AQ_NS_PER_S,
	/* In any second a share may be short by this, for having had more before it. */
	.surplus_ns = 5 * AQ_NS_PER_MS,
	/* Long graphs of engines take 50 ms, and have to fill what others leave. Guess. */
	.grave_ns = 100 * AQ_NS_PER_MS,
	/* Shares hold over a second; who comes new waits no longer than this for old claims. */
	.claim_ns = AQ_NS_PER_S / 2,
	.recent_ns = AQ_NS_PER_S,
};

void aq_arbiter_init(struct aq_arbiter *a, const struct aq_arbiter_tuning *tuning)
{
	memset(a, 0, sizeof(*a));
	a->tuning = *tuning;
	aq_list_init(&a->contenders);
}

static bool terms_ok(const struct aq_arbiter_terms *t)
{
	return t->devices && t->limit_permille && t->limit_permille <= PERMILLE &&
	       t->request_permille <= t->limit_permille && t->priority < AQ_ARBITER_PRIORITIES;
}

static int64_t request_of(const struct aq_contender *c)
{
	uint32_t r = c->terms.request_permille;

	return r > FLOOR_PERMILLE ? r : FLOOR_PERMILLE;
}

/* Part of @ns, saturating far beyond anything that is compared with it. */
static int64_t part(uint64_t ns, int64_t permille)
{
	if (ns > (uint64_t)INT64_MAX / PERMILLE)
		ns = (uint64_t)INT64_MAX / PERMILLE;
	return (int64_t)ns / PERMILLE * permille + (int64_t)ns % PERMILLE * permille / PERMILLE;
}

static bool capped(const struct aq_contender *c)
{
	return c->terms.limit_permille < PERMILLE;
}

/* Device time that the lease under way has taken at the most; measured only at its end. */
static int64_t running_ns(const struct aq_contender *c, uint64_t now_ns)
{
	if (c->state == AQ_LEASE_NONE || now_ns <= c->lease_start_ns)
		return 0;
	return (int64_t)(now_ns - c->lease_start_ns);
}

/* Not by a kernel's length. */
static bool is_indebted(const struct aq_arbiter *a, const struct aq_contender *c)
{
	return c->debt_ns > (int64_t)a->tuning.quantum_ns;
}

/* What is left of a claim after @dt with the device to itself, of which it @earned some. */
static int64_t claim_after(const struct aq_arbiter *a, const struct aq_contender *c, uint64_t dt,
			   int64_t earned)
{
	int64_t used = (int64_t)dt - earned;

	if (c->updated_ns > c->rested_ns + a->tuning.recent_ns || c->lag_ns <= used)
		return 0;
	return c->lag_ns - used;
}

/* Let time pass for one contender. */
static void update(const struct aq_arbiter *a, struct aq_contender *c, uint64_t now_ns)
{
	uint64_t dt = now_ns > c->updated_ns ? now_ns - c->updated_ns : 0;
	int64_t earned = part(dt, request_of(c)), most;

	c->updated_ns += dt;
	c->debt_ns = c->debt_ns > earned ? c->debt_ns - earned : 0;
	c->grave &= is_indebted(a, c);
	if (c->wants || c->state != AQ_LEASE_NONE || c->overruns)
		c->rested_ns = now_ns;
	if (c->wants || c->state != AQ_LEASE_NONE)
		c->lag_ns += earned;
	else if (c->overruns)
		c->put_by_ns += earned;
	else if (c->lag_ns < 0) /* idle: debts are paid off, nothing is saved up */
		c->lag_ns = c->lag_ns + earned < 0 ? c->lag_ns + earned : 0;
	else if (c->unseen)
		c->lag_ns = claim_after(a, c, dt, earned);
	if (capped(c)) {
		c->bucket_ns += part(dt, c->terms.limit_permille);
		most = (int64_t)a->tuning.burst_ns + running_ns(c, now_ns); /* not taken off yet */
		if (c->bucket_ns > most)
			c->bucket_ns = most;
		if (c->bucket_ns >= (int64_t)a->tuning.refill_ns)
			c->refilling = false;
	}
}

int64_t aq_arbiter_lag(const struct aq_arbiter *a, const struct aq_contender *c, uint64_t now_ns)
{
	struct aq_contender then = *c;

	update(a, &then, now_ns);
	return then.lag_ns - running_ns(c, now_ns);
}

int aq_arbiter_join(struct aq_arbiter *a, struct aq_contender *c,
		    const struct aq_arbiter_terms *terms, uint64_t now_ns)
{
	if (!terms_ok(terms))
		return -EINVAL;
	memset(c, 0, sizeof(*c));
	c->terms = *terms;
	c->updated_ns = now_ns;
	c->bucket_ns = (int64_t)a->tuning.burst_ns;
	aq_list_append(&a->contenders, &c->link);
	return 0;
}

/* The least vtime of those who compete with @c for what is left over. */
static bool least_vtime(const struct aq_arbiter *a, const struct aq_contender *c, uint64_t *ret)
{
	struct aq_contender *o, *tmp;
	bool found = false;

	AQ_LIST_FOREACH (o, tmp, &a->contenders, link) {
		if (o == c || !(o->terms.devices & c->terms.devices) ||
		    o->terms.priority != c->terms.priority ||
		    (!o->wants && o->state == AQ_LEASE_NONE))
			continue;
		if (!found || o->vtime_ns < *ret)
			*ret = o->vtime_ns;
		found = true;
	}
	return found;
}

int aq_arbiter_change(struct aq_arbiter *a, struct aq_contender *c,
		      const struct aq_arbiter_terms *terms, uint64_t now_ns)
{
	bool others = terms->priority != c->terms.priority ||
		      terms->limit_permille != c->terms.limit_permille;
	uint64_t least;

	if (!terms_ok(terms))
		return -EINVAL;
	update(a, c, now_ns);
	c->terms = *terms;
	/* What was left over before was divided among others: that is no claim, nor a debt. */
	if (others && least_vtime(a, c, &least))
		c->vtime_ns = least;
	return 0;
}

void aq_arbiter_leave(struct aq_contender *c)
{
	aq_list_remove(&c->link);
	c->state = AQ_LEASE_NONE;
	c->wants = false;
}

void aq_arbiter_want(struct aq_arbiter *a, struct aq_contender *c, bool wants, uint64_t now_ns)
{
	uint64_t least = 0;

	if (wants == c->wants)
		return;
	update(a, c, now_ns);
	c->wants = wants;
	if (wants && c->unseen) {
		c->rested_ns = now_ns;
		c->unseen = false;
	}
	/* Who slept does not come back with a claim on the time that it slept through. */
	if (wants && least_vtime(a, c, &least) && c->vtime_ns < least)
		c->vtime_ns = least;
	if (wants && c->lag_ns > 0 && now_ns > c->rested_ns + a->tuning.linger_ns)
		c->lag_ns = 0;
}

void aq_arbiter_unseen(struct aq_arbiter *a, struct aq_contender *c, uint64_t now_ns)
{
	aq_arbiter_want(a, c, false, now_ns);
	update(a, c, now_ns);
	c->rested_ns = now_ns;
	c->unseen = true;
	if (c->lag_ns > (int64_t)a->tuning.claim_ns)
		c->lag_ns = (int64_t)a->tuning.claim_ns;
}

/* Far beyond any lease, and small enough to add up a few of them. */
static int64_t saturate(uint64_t ns)
{
	return ns > INT64_MAX / 1024 ? INT64_MAX / 1024 : (int64_t)ns;
}

static void count(struct aq_contender *c, int64_t used)
{
	c->lag_ns -= used;
	if (capped(c)) {
		c->bucket_ns -= used;
		c->refilling |= c->bucket_ns < NEARLY_EMPTY_NS;
	}
	c->vtime_ns += (uint64_t)used / (uint64_t)request_of(c) * PERMILLE;
	c->service_ns += (uint64_t)used;
}

void aq_arbiter_overruns(struct aq_arbiter *a, struct aq_contender *c, uint64_t now_ns)
{
	update(a, c, now_ns);
	c->overruns++;
}

void aq_arbiter_charge(struct aq_arbiter *a, struct aq_contender *c, uint64_t used_ns,
		       uint64_t now_ns)
{
	update(a, c, now_ns);
	/* Who was stopped rather than busy saves nothing up. */
	c->lag_ns += c->put_by_ns < saturate(used_ns) ? c->put_by_ns : saturate(used_ns);
	c->put_by_ns = 0;
	c->overruns -= c->overruns ? 1 : 0;
	count(c, saturate(used_ns));
	if (c->debt_ns < -c->lag_ns)
		c->debt_ns = -c->lag_ns;
	c->grave |= used_ns >= a->tuning.grave_ns && is_indebted(a, c);
}

void aq_arbiter_add(struct aq_arbiter *a, struct aq_contender *c, uint64_t used_ns, uint64_t now_ns)
{
	update(a, c, now_ns);
	count(c, saturate(used_ns));
}

void aq_arbiter_released(struct aq_arbiter *a, struct aq_contender *c, uint64_t used_ns,
			 uint64_t now_ns)
{
	int64_t floor;

	update(a, c, now_ns);
	count(c, saturate(used_ns));
	if (c->contested && now_ns > c->lease_until_ns)
		c->debt_ns += (int64_t)(now_ns - c->lease_until_ns);
	floor = -(int64_t)a->tuning.surplus_ns - c->debt_ns;
	if (c->lag_ns < floor)
		c->lag_ns = floor;
	c->state = AQ_LEASE_NONE;
	c->contested = c->waited_for = c->urgent = c->company = false;
}

/* Where a contender stands at one instant; what choices are made by. */
struct standing {
	bool owed, indebted;
	int64_t slack_ns;  /* until its deadline; only when owed */
	uint64_t vtime_ns; /* the lease under way included */
	const struct aq_contender *c;
};

/* With @more_ns of device time, beside what it has had. */
static struct standing standing_with(const struct aq_arbiter *a, const struct aq_contender *c,
				     uint64_t more_ns, uint64_t now_ns)
{
	int64_t used = running_ns(c, now_ns) + (int64_t)more_ns;
	int64_t lag = c->lag_ns - used; /* all are updated to now */
	struct standing s = {.c = c, .owed = lag >= 0};

	s.indebted = is_indebted(a, c);
	s.vtime_ns = c->vtime_ns + (uint64_t)(used / request_of(c) * PERMILLE);
	if (s.owed)
		s.slack_ns = (int64_t)a->tuning.patience_ns[c->terms.priority] -
			     lag / request_of(c) * PERMILLE;
	return s;
}

static struct standing standing_of(const struct aq_arbiter *a, const struct aq_contender *c,
				   uint64_t now_ns)
{
	return standing_with(a, c, 0, now_ns);
}

/* Does @x go before @y? Equal ones keep their order. */
static bool before(const struct standing *x, const struct standing *y)
{
	if (x->owed != y->owed)
		return x->owed;
	if (x->owed) {
		if (x->slack_ns != y->slack_ns)
			return x->slack_ns < y->slack_ns;
		return x->c->terms.priority > y->c->terms.priority;
	}
	if (x->indebted != y->indebted)
		return y->indebted;
	if (x->c->terms.priority != y->c->terms.priority)
		return x->c->terms.priority > y->c->terms.priority;
	return x->vtime_ns < y->vtime_ns;
}

/* Device time left to a capped contender now, the lease under way included. */
static int64_t allowance(const struct aq_contender *c, uint64_t now_ns)
{
	return c->bucket_ns - running_ns(c, now_ns);
}

/* When a holder's cap is used up, if it runs on without a pause. */
static uint64_t cap_end(const struct aq_contender *c, uint64_t now_ns)
{
	int64_t left = allowance(c, now_ns);

	if (!capped(c))
		return AQ_ARBITER_NEVER;
	if (left <= 0)
		return now_ns;
	return now_ns + (uint64_t)left * PERMILLE / (PERMILLE - c->terms.limit_permille);
}

static bool may_run(const struct aq_contender *c)
{
	return c->wants && c->state == AQ_LEASE_NONE && !(capped(c) && c->refilling);
}

static void set_lease(struct aq_contender *c, enum aq_lease_state state, uint64_t until_ns)
{
	if (c->state != state || c->lease_until_ns != until_ns)
		c->changed = true;
	c->state = state;
	c->lease_until_ns = until_ns;
}

static bool is_gang(const struct aq_contender *c)
{
	return c->terms.devices & (c->terms.devices - 1);
}

/* Until when @c keeps out of what others leave for a moment; 0: it need not. */
static uint64_t kept_out(const struct aq_arbiter *a, const struct aq_contender *c, uint64_t now_ns)
{
	struct aq_contender *o, *tmp;
	uint64_t end = 0;

	if (!c->grave || standing_of(a, c, now_ns).owed)
		return 0;
	AQ_LIST_FOREACH (o, tmp, &a->contenders, link) {
		if (o == c || o->grave || !(o->terms.devices & c->terms.devices) ||
		    (capped(o) && o->refilling))
			continue;
		if (o->rested_ns && o->rested_ns + a->tuning.linger_ns > end)
			end = o->rested_ns + a->tuning.linger_ns;
	}
	return end > now_ns ? end : 0;
}

/*
 * The waiting contender that goes before all others on any of @devices. Not those that are blocked,
 * nor those whose one device is @busy: nothing is to be had for them, and nothing to be kept.
 */
static struct aq_contender *first_waiting(const struct aq_arbiter *a, uint64_t devices,
					  uint64_t busy, uint64_t now_ns, struct standing *ret)
{
	struct aq_contender *c, *tmp, *best = NULL;

	AQ_LIST_FOREACH (c, tmp, &a->contenders, link) {
		struct standing s;

		if (!(c->terms.devices & devices) || c->blocked_until_ns || !may_run(c) ||
		    ((c->terms.devices & busy) && !is_gang(c)) || kept_out(a, c, now_ns))
			continue;
		s = standing_of(a, c, now_ns);
		if (!best || before(&s, ret)) {
			best = c;
			*ret = s;
		}
	}
	return best;
}

/* Is there anybody for whom a holder should be quick to stop? Until when, if nothing happens. */
static uint64_t company_end(const struct aq_arbiter *a, const struct aq_contender *c,
			    uint64_t now_ns)
{
	struct aq_contender *o, *tmp;
	uint64_t end = 0;

	AQ_LIST_FOREACH (o, tmp, &a->contenders, link) {
		if (o == c || !(o->terms.devices & c->terms.devices))
			continue;
		if (o->terms.priority > c->terms.priority)
			return AQ_ARBITER_NEVER;
		if (o->rested_ns && o->rested_ns + a->tuning.company_ns > end)
			end = o->rested_ns + a->tuning.company_ns;
	}
	return end > now_ns ? end : 0;
}

/* From when on it is decided whether a lease is followed by another one. */
static uint64_t review_ns(const struct aq_arbiter *a, const struct aq_contender *c)
{
	return c->turn_end_ns - a->tuning.quantum_ns * REVIEW_PARTS / 16;
}

/* Does @rival, which waits for a device of it, end a lease by its priority? */
static bool preempts(const struct aq_arbiter *a, const struct aq_contender *c,
		     const struct standing *rival, uint64_t now_ns)
{
	struct standing mine = standing_of(a, c, now_ns);

	return rival->c->terms.priority > c->terms.priority && before(rival, &mine);
}

/* When a contender that is idle will owe nothing any more; NEVER: it does not now. */
static uint64_t owed_again(const struct aq_contender *c, uint64_t now_ns)
{
	if (c->lag_ns >= 0)
		return AQ_ARBITER_NEVER;
	return now_ns + ((uint64_t)-c->lag_ns / (uint64_t)request_of(c) + 1) * PERMILLE;
}

bool aq_arbiter_goes_first(const struct aq_arbiter *a, const struct aq_contender *c,
			   uint64_t now_ns, uint64_t *ret_next_ns)
{
	struct standing mine = standing_of(a, c, now_ns);
	struct aq_contender *o, *tmp;
	bool lower_holds = false;

	*ret_next_ns = AQ_ARBITER_NEVER;
	if (c->wants || c->state != AQ_LEASE_NONE || is_gang(c) || capped(c) ||
	    kept_out(a, c, now_ns))
		return false;
	AQ_LIST_FOREACH (o, tmp, &a->contenders, link) {
		struct standing theirs = standing_of(a, o, now_ns);

		if (o == c || !(o->terms.devices & c->terms.devices) ||
		    (o->state == AQ_LEASE_NONE && !o->wants))
			continue;
		if (o->terms.priority >= c->terms.priority)
			return false;
		if (!before(&mine, &theirs)) {
			*ret_next_ns = owed_again(c, now_ns);
			return false;
		}
		lower_holds |= o->state != AQ_LEASE_NONE;
	}
	return lower_holds;
}

/* When a lease ends because of @rival, which waits for a device of it. */
static uint64_t rival_end(const struct aq_arbiter *a, struct aq_contender *c,
			  const struct standing *rival, uint64_t now_ns)
{
	struct standing mine = standing_of(a, c, now_ns), then;
	uint64_t left = c->turn_end_ns > now_ns ? c->turn_end_ns - now_ns : 0;

	if (preempts(a, c, rival, now_ns))
		return now_ns;
	if (c->leftover && rival->owed && !mine.owed)
		return c->lease_start_ns + a->tuning.quantum_ns / LEFTOVER_PART;
	then = standing_with(a, c, left, now_ns);
	if (now_ns >= review_ns(a, c) && !before(rival, &then))
		c->turn_end_ns = now_ns + left + a->tuning.quantum_ns;
	return c->turn_end_ns;
}

/*
 * Holders first: a lease ends by its cap, by its time when somebody waits, or at once when a higher
 * priority goes before it. Return: when the next of these will happen by itself.
 */
static uint64_t review_holders(struct aq_arbiter *a, uint64_t now_ns, uint64_t *ret_busy)
{
	struct aq_contender *c, *tmp;
	uint64_t next = AQ_ARBITER_NEVER;

	AQ_LIST_FOREACH (c, tmp, &a->contenders, link) {
		struct aq_contender *rival;
		struct standing theirs;
		uint64_t until, company;

		if (c->state == AQ_LEASE_NONE)
			continue;
		*ret_busy |= c->terms.devices;
		rival = first_waiting(a, c->terms.devices, 0, now_ns, &theirs);
		c->waited_for = rival != NULL;
		c->contested |= c->waited_for;
		/* A gang may have to wait for another device. */
		c->urgent = rival && !is_gang(rival) && preempts(a, c, &theirs, now_ns);
		if (c->state == AQ_LEASE_DRAINING)
			continue;

		company = company_end(a, c, now_ns);
		c->company = rival || company;
		until = aq_min(cap_end(c, now_ns), c->bound_ns);
		if (rival) {
			until = aq_min(until, rival_end(a, c, &theirs, now_ns));
			if (review_ns(a, c) > now_ns)
				next = aq_min(next, review_ns(a, c));
		} else if (company) {
			next = aq_min(next, company);
		}
		/* It ends now at the earliest: that is from when on running on is a debt. */
		if (until < now_ns)
			until = now_ns;
		set_lease(c, until == now_ns ? AQ_LEASE_DRAINING : AQ_LEASE_HELD, until);
		if (c->state == AQ_LEASE_HELD)
			next = aq_min(next, until);
	}
	return next;
}

/* When the devices that @c waits for are free again, as far as is known. */
static uint64_t wait_end(const struct aq_arbiter *a, const struct aq_contender *c, uint64_t now_ns)
{
	struct aq_contender *o, *tmp;
	uint64_t end = now_ns;

	AQ_LIST_FOREACH (o, tmp, &a->contenders, link) {
		uint64_t until = o->lease_until_ns;

		if (o->state == AQ_LEASE_NONE || !(o->terms.devices & c->terms.devices))
			continue;
		if (o->state == AQ_LEASE_DRAINING)
			until = now_ns;
		else if (until == AQ_ARBITER_NEVER)
			until = now_ns + a->tuning.quantum_ns;
		if (until > end)
			end = until;
	}
	return end;
}

/* Devices that are free, but kept for a gang that waits for the rest of its own. */
struct kept {
	uint64_t devices;
	uint64_t until_ns[AQ_ARBITER_MAX_DEVICES];
	uint32_t priority[AQ_ARBITER_MAX_DEVICES];
};

static void keep(struct kept *k, const struct aq_contender *gang)
{
	for (uint32_t d = 0; d < AQ_ARBITER_MAX_DEVICES; d++) {
		if (!(gang->terms.devices >> d & 1) || k->devices >> d & 1)
			continue;
		k->until_ns[d] = gang->blocked_until_ns;
		k->priority[d] = gang->terms.priority;
	}
	k->devices |= gang->terms.devices;
}

/* Until when @c may borrow the kept ones among its devices; @now_ns: not at all. */
static uint64_t borrow_end(const struct kept *k, const struct aq_contender *c, uint64_t now_ns)
{
	uint64_t until = AQ_ARBITER_NEVER;

	for (uint32_t d = 0; d < AQ_ARBITER_MAX_DEVICES; d++) {
		if (!((c->terms.devices & k->devices) >> d & 1))
			continue;
		if (k->priority[d] > c->terms.priority)
			return now_ns;
		until = aq_min(until, k->until_ns[d]);
	}
	return until;
}

/* How long until a used-up cap allows the next lease. */
static uint64_t refill_time(const struct aq_arbiter *a, const struct aq_contender *c)
{
	uint64_t lacks = (uint64_t)((int64_t)a->tuning.refill_ns - c->bucket_ns);

	return (lacks / c->terms.limit_permille + 1) * PERMILLE;
}

/*
 * Then the waiting, the best first. A gang that cannot have all its devices yet keeps its place:
 * whoever comes after it may borrow the free ones among them until the others are due, unless that
 * one is of a lower priority.
 */
static uint64_t grant_waiting(struct aq_arbiter *a, uint64_t now_ns, uint64_t busy)
{
	struct kept kept = {0};
	uint64_t next = AQ_ARBITER_NEVER;
	struct aq_contender *c, *tmp;
	struct standing s;

	while ((c = first_waiting(a, ~0ull, busy, now_ns, &s))) {
		uint64_t bound = borrow_end(&kept, c, now_ns);

		/* What is due back soon is not worth a hand-over. */
		if ((c->terms.devices & busy) || bound < now_ns + a->tuning.quantum_ns / 2) {
			c->blocked_until_ns = wait_end(a, c, now_ns) + 1;
			keep(&kept, c);
			continue;
		}
		c->lease_start_ns = now_ns;
		c->leftover = !s.owed;
		c->turn_end_ns = now_ns + a->tuning.quantum_ns;
		c->bound_ns = bound;
		c->contested = (c->terms.devices & kept.devices) != 0;
		set_lease(c, AQ_LEASE_HELD, aq_min(cap_end(c, now_ns), bound));
		c->changed = true;
		busy |= c->terms.devices;
		next = aq_min(next, c->lease_until_ns);
	}

	/* Somebody who lost against a lease just given out bounds it; see review_holders(). */
	AQ_LIST_FOREACH (c, tmp, &a->contenders, link) {
		uint64_t kept_until = may_run(c) ? kept_out(a, c, now_ns) : 0;

		c->blocked_until_ns = 0;
		if (c->wants && c->state == AQ_LEASE_NONE && capped(c) && c->refilling)
			next = aq_min(next, now_ns + refill_time(a, c));
		if (kept_until)
			next = aq_min(next, kept_until);
	}
	return next;
}

uint64_t aq_arbiter_decide(struct aq_arbiter *a, uint64_t now_ns)
{
	struct aq_contender *c, *tmp;
	uint64_t busy = 0, next;

	a->decisions++;
	AQ_LIST_FOREACH (c, tmp, &a->contenders, link)
		update(a, c, now_ns);
	review_holders(a, now_ns, &busy);
	next = grant_waiting(a, now_ns, busy);
	busy = 0;
	return aq_min(next, review_holders(a, now_ns, &busy));
}
