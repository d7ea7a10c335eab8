/* SPDX-License-Identifier: Apache-2.0 */
/* The order of taking back. Carries nothing out, and remembers nothing between two plans. */
#include "core/reclaim.h"

#include <stddef.h>

#include "base/number.h"
#include "base/timing.h"
#include "base/banned.h"

#define CALM_NS (60 * AQ_NS_PER_S) /* guess: demand that pauses for less is the same demand */

/*
 * A second: far longer than the pauses of a server that has requests (a decode step is 5 to 20 ms),
 * and short beside the moves. Residence 4: at most a fifth of the time goes into moving. Both are
 * guesses to start from; the times that residence is made of are measured.
 */
const struct aq_reclaim_policy aq_reclaim_defaults = {
	.idle_ns = AQ_NS_PER_S,
	.shrink_ns = 2 * AQ_NS_PER_S,
	.residence_factor = 4,
};

static bool borrows(const struct aq_reclaim_candidate *c)
{
	return c->used_bytes > c->request_bytes;
}

static bool is_idle(const struct aq_reclaim_policy *p, const struct aq_reclaim_candidate *c)
{
	return c->idle_ns >= p->idle_ns;
}

/* Room that there is once it is parked; what is left of its request is lent then. */
static uint64_t gain(const struct aq_reclaim_need *need, const struct aq_reclaim_candidate *c)
{
	uint64_t stays = aq_minus(c->used_bytes, c->movable_bytes);

	if (need->fixed && stays < c->request_bytes)
		stays = c->request_bytes;
	return aq_minus(c->settled_bytes, stays);
}

/* How much longer it stays whoever wants its room for a burst. */
static uint64_t stays_ns(const struct aq_reclaim_policy *p, const struct aq_reclaim_candidate *c)
{
	unsigned __int128 least = (unsigned __int128)c->move_ns * p->residence_factor;

	if (is_idle(p, c)) /* it loses nothing but its way back */
		return 0;
	return least > c->resident_ns ? (uint64_t)least - c->resident_ns : 0;
}

/* May it be parked for this need at all, now or later? */
static bool may_park(const struct aq_reclaim_policy *p, const struct aq_reclaim_need *need,
		     const struct aq_reclaim_candidate *c)
{
	if ((c->place != AQ_RECLAIM_HERE && c->place != AQ_RECLAIM_COMING) || !borrows(c) ||
	    !c->parkable || !gain(need, c))
		return false;
	return need->entitled || is_idle(p, c) || c->priority <= need->priority;
}

/* Times that differ by less than twice are the same: then priority and size decide. */
static uint32_t idle_class(uint64_t idle_ns)
{
	uint32_t n = 0;

	for (uint64_t s = idle_ns / AQ_NS_PER_S; s; s >>= 1)
		n++;
	return n;
}

/* Should @a go before @b? */
static bool goes_first(const struct aq_reclaim_policy *p, const struct aq_reclaim_candidate *a,
		       const struct aq_reclaim_candidate *b)
{
	uint32_t ia = idle_class(a->idle_ns), ib = idle_class(b->idle_ns);

	if (is_idle(p, a) != is_idle(p, b))
		return is_idle(p, a);
	if (is_idle(p, a) && ia != ib)
		return ia > ib;
	if (a->priority != b->priority)
		return a->priority < b->priority;
	if (!is_idle(p, a) && a->resident_ns != b->resident_ns) /* by turns */
		return a->resident_ns > b->resident_ns;
	return a->used_bytes - a->request_bytes > b->used_bytes - b->request_bytes;
}

struct planner {
	const struct aq_reclaim_policy *policy;
	const struct aq_reclaim_need *need;
	const struct aq_reclaim_candidate *c;
	uint32_t count;
	struct aq_reclaim_step *steps;
	struct aq_reclaim_plan plan;
	uint64_t lacks; /* still */
};

static void emit(struct planner *p, enum aq_reclaim_kind kind, uint32_t i, uint64_t bytes)
{
	if (!bytes)
		return;
	p->steps[p->plan.count++] = (struct aq_reclaim_step){
		.kind = kind,
		.candidate = i,
		.bytes = bytes,
		.busy = kind == AQ_RECLAIM_PARK && !is_idle(p->policy, &p->c[i]),
	};
}

/* A step that makes its room for certain. */
static void add(struct planner *p, enum aq_reclaim_kind kind, uint32_t i, uint64_t bytes)
{
	emit(p, kind, i, bytes);
	p->lacks = aq_minus(p->lacks, bytes);
}

/* What costs nobody anything. */
static void take_what_is_free(struct planner *p)
{
	for (uint32_t i = 0; i < p->count && p->lacks; i++)
		add(p, AQ_RECLAIM_REVOKE, i,
		    aq_minus(p->c[i].committed_bytes, p->c[i].settled_bytes));
	for (uint32_t i = 0; i < p->count && p->lacks; i++)
		if (p->c[i].place == AQ_RECLAIM_AWAY && !p->need->fixed)
			add(p, AQ_RECLAIM_LEND, i,
			    aq_minus(p->c[i].settled_bytes, p->c[i].used_bytes));
	for (uint32_t i = 0; i < p->count && p->lacks; i++)
		if (p->c[i].place == AQ_RECLAIM_LEAVING)
			p->lacks = aq_minus(p->lacks, gain(p->need, &p->c[i]));
}

/* How much longer this one stays for this need. */
static uint64_t waits_ns(const struct planner *p, uint32_t i)
{
	const struct aq_reclaim_candidate *c = &p->c[i];

	if (c->place == AQ_RECLAIM_COMING) /* it has to arrive first, and then stays */
		return p->need->entitled ? 1 : 1 + c->move_ns * p->policy->residence_factor;
	return p->need->entitled ? 0 : stays_ns(p->policy, c);
}

/* What parking makes: all that may be, or what may be by now. */
static uint64_t parkable(const struct planner *p, bool now)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < p->count; i++)
		if (may_park(p->policy, p->need, &p->c[i]) && !(now && waits_ns(p, i)))
			sum += gain(p->need, &p->c[i]);
	return sum;
}

static bool in_plan(const struct planner *p, uint32_t i, enum aq_reclaim_kind kind)
{
	for (uint32_t s = 0; s < p->plan.count; s++)
		if (p->steps[s].candidate == i && p->steps[s].kind == kind)
			return true;
	return false;
}

static void wait_for(struct planner *p, uint64_t ns)
{
	p->plan.answer = AQ_RECLAIM_WAIT;
	if (ns < p->plan.again_ns)
		p->plan.again_ns = ns;
}

/* Nobody moves before all have stayed long enough whose room it takes. */
static void wait_for_residence(struct planner *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (may_park(p->policy, p->need, &p->c[i]) && waits_ns(p, i))
			wait_for(p, waits_ns(p, i));
}

/* Park the next one of those who are idle, or busy. Return: false when nobody is left. */
static bool park_one(struct planner *p, bool idle)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < p->count; i++) {
		const struct aq_reclaim_candidate *c = &p->c[i];

		if (is_idle(p->policy, c) != idle || !may_park(p->policy, p->need, c) ||
		    waits_ns(p, i) || in_plan(p, i, AQ_RECLAIM_PARK))
			continue;
		if (best == UINT32_MAX || goes_first(p->policy, c, &p->c[best]))
			best = i;
	}
	if (best == UINT32_MAX)
		return false;
	add(p, AQ_RECLAIM_PARK, best, gain(p->need, &p->c[best]));
	return true;
}

/* Those who hear are asked, and have their time. Return: somebody has it now. */
static bool ask_to_shrink(struct planner *p)
{
	uint64_t lacks = p->lacks;
	bool asked = false;

	for (uint32_t i = 0; i < p->count && lacks; i++) {
		const struct aq_reclaim_candidate *c = &p->c[i];
		uint64_t bytes = aq_minus(c->used_bytes, c->request_bytes);

		if (!c->hears || c->place != AQ_RECLAIM_HERE || !bytes)
			continue;
		if (c->asked_ns == AQ_RECLAIM_NEVER) {
			bytes = bytes < lacks ? bytes : lacks;
			emit(p, AQ_RECLAIM_SHRINK, i, bytes);
			wait_for(p, p->policy->shrink_ns);
		} else if (c->asked_ns < p->policy->shrink_ns) {
			wait_for(p, p->policy->shrink_ns - c->asked_ns);
		} else {
			continue;
		}
		asked = true;
		lacks = aq_minus(lacks, bytes);
	}
	return asked;
}

static void end_one(struct planner *p)
{
	uint32_t worst = UINT32_MAX;

	for (uint32_t i = 0; i < p->count; i++) {
		const struct aq_reclaim_candidate *c = &p->c[i];

		if (c->place != AQ_RECLAIM_HERE || !borrows(c))
			continue;
		if (worst == UINT32_MAX ||
		    c->used_bytes - c->request_bytes >
			    p->c[worst].used_bytes - p->c[worst].request_bytes)
			worst = i;
	}
	if (worst != UINT32_MAX) {
		add(p, AQ_RECLAIM_KILL, worst, p->c[worst].used_bytes);
		wait_for(p, AQ_RECLAIM_NEVER);
	}
}

struct aq_reclaim_plan aq_reclaim_plan(const struct aq_reclaim_policy *policy,
				       const struct aq_reclaim_need *need,
				       const struct aq_reclaim_candidate *c, uint32_t count,
				       struct aq_reclaim_step *steps)
{
	struct planner p = {
		.policy = policy,
		.need = need,
		.c = c,
		.count = count,
		.steps = steps,
		.plan = {.answer = AQ_RECLAIM_DO, .again_ns = AQ_RECLAIM_NEVER},
		.lacks = need->short_bytes,
	};

	if (!need->short_bytes) {
		p.plan.answer = AQ_RECLAIM_NOTHING;
		return p.plan;
	}
	take_what_is_free(&p);
	if (!p.lacks)
		return p.plan;
	if (parkable(&p, false) >= p.lacks) {
		bool in_time = parkable(&p, true) >= p.lacks;

		while (in_time && p.lacks && park_one(&p, true))
			;
		/* Whoever can shrink may spare the busy ones the move. */
		if (!p.lacks || ask_to_shrink(&p))
			return p.plan;
		if (!in_time)
			wait_for_residence(&p);
		while (in_time && p.lacks && park_one(&p, false))
			;
		return p.plan;
	}
	if (ask_to_shrink(&p))
		return p.plan;
	p.plan.answer = AQ_RECLAIM_REFUSE;
	if (need->entitled && policy->may_kill)
		end_one(&p);
	return p.plan;
}

uint64_t aq_reclaim_possible(const struct aq_reclaim_policy *policy,
			     const struct aq_reclaim_need *need,
			     const struct aq_reclaim_candidate *c, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		sum += aq_minus(c[i].committed_bytes, c[i].settled_bytes);
		if (c[i].place == AQ_RECLAIM_AWAY && !need->fixed)
			sum += aq_minus(c[i].settled_bytes, c[i].used_bytes);
		else if (c[i].place == AQ_RECLAIM_LEAVING || may_park(policy, need, &c[i]))
			sum += gain(need, &c[i]);
	}
	return sum;
}

bool aq_reclaim_thrashes(struct aq_reclaim_episode *e, uint64_t now_ns, uint64_t stay_ns)
{
	bool begins = now_ns >= e->until_ns;

	e->until_ns = now_ns + CALM_NS + 2 * stay_ns;
	return begins;
}
