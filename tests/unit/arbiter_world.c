/* SPDX-License-Identifier: Apache-2.0 */
/* Plays programs against the arbiter, or against one of two simpler ones; see arbiter_world.h. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "arbiter_world.h"

uint64_t rnd(struct world *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

struct world *world_new(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->seed = seed ? seed : 1;
	aq_arbiter_init(&w->a, &aq_arbiter_defaults);
	return w;
}

struct program *add_on(struct world *w, uint64_t devices, uint32_t request, uint32_t limit,
		       uint32_t priority, uint64_t kernel_ns)
{
	struct aq_arbiter_terms terms = {.devices = devices,
					 .request_permille = request,
					 .limit_permille = limit,
					 .priority = priority};
	struct program *p = &w->p[w->count++];

	assert_int_equal(aq_arbiter_join(&w->a, &p->c, &terms, w->now), 0);
	p->kernel_ns = kernel_ns;
	return p;
}

struct program *add(struct world *w, uint32_t request, uint32_t limit, uint32_t priority,
		    uint64_t kernel_ns)
{
	return add_on(w, 1, request, limit, priority, kernel_ns);
}

/* Stride scheduling (Waldspurger and Weihl 1995): the least service by weight is next; the arbiter
 * keeps that account as well. */
static bool is_next(const struct world *w, unsigned int i, unsigned int best)
{
	unsigned int n = w->count;

	if (w->policy == STRIDE)
		return w->p[i].c.vtime_ns < w->p[best].c.vtime_ns;
	return (i + n - w->last - 1) % n < (best + n - w->last - 1) % n;
}

/* A quantum each, one at a time, on one device. */
static uint64_t decide_simply(struct world *w)
{
	unsigned int best = w->count, holder = w->count, waiting = 0;
	struct aq_contender *c;

	for (unsigned int i = 0; i < w->count; i++) {
		c = &w->p[i].c;
		if (c->state != AQ_LEASE_NONE)
			holder = i;
		else if (c->wants)
			waiting++;
		if (c->state == AQ_LEASE_NONE && c->wants &&
		    (best == w->count || is_next(w, i, best)))
			best = i;
	}
	if (holder < w->count) {
		c = &w->p[holder].c;
		c->lease_until_ns =
			waiting ? c->lease_start_ns + w->a.tuning.quantum_ns : AQ_ARBITER_NEVER;
	} else if (best < w->count) {
		c = &w->p[best].c;
		c->lease_start_ns = w->now;
		c->lease_until_ns =
			waiting > 1 ? w->now + w->a.tuning.quantum_ns : AQ_ARBITER_NEVER;
		c->changed = true;
		w->last = best;
	} else {
		return AQ_ARBITER_NEVER;
	}
	c->state = c->lease_until_ns > w->now ? AQ_LEASE_HELD : AQ_LEASE_DRAINING;
	return c->state == AQ_LEASE_HELD ? c->lease_until_ns : AQ_ARBITER_NEVER;
}

static void decide(struct world *w)
{
	w->next_decision =
		w->policy == ARBITER ? aq_arbiter_decide(&w->a, w->now) : decide_simply(w);
	for (unsigned int i = 0; i < w->count; i++) {
		struct program *p = &w->p[i];

		if (!p->c.changed)
			continue;
		p->c.changed = false;
		w->hash = (w->hash ^ (w->now * 31 + i * 7 + p->c.state)) * 0x100000001b3;
		if (p->c.state == AQ_LEASE_HELD && p->waiting_first) {
			uint64_t wait = w->now - p->woke_ns;

			if (wait > p->worst_wake_ns)
				p->worst_wake_ns = wait;
			p->waiting_first = false;
		}
	}
}

static void spend(struct program *p, uint64_t from, uint64_t to)
{
	for (uint64_t t = from; t < to;) {
		uint64_t slot = t / MS, end = (slot + 1) * MS < to ? (slot + 1) * MS : to;

		p->slot_us[slot % SLOTS] += (uint32_t)((end - t) / US);
		t = end;
	}
	p->used_ns += to - from;
	p->total_ns += to - from;
}

/* What happens to one program at w->now. Return: true when the arbiter must look again. */
static bool step(struct world *w, struct program *p)
{
	bool event = false;

	if (!p->c.wants && !p->kernel_end_ns && p->c.state == AQ_LEASE_NONE &&
	    p->wake_ns <= w->now) {
		aq_arbiter_want(&w->a, &p->c, true, w->now);
		p->left_ns = p->busy_ns;
		p->woke_ns = w->now;
		p->waiting_first = true;
		event = true;
	}
	if (p->kernel_end_ns && p->kernel_end_ns <= w->now) {
		p->kernel_end_ns = 0;
		if (p->idle_ns && p->left_ns <= p->kernel_ns) {
			aq_arbiter_want(&w->a, &p->c, false, w->now);
			p->wake_ns = w->now + p->idle_ns / 2 + rnd(w) % (p->idle_ns + 1);
			p->free_ns = w->now + HANDOVER_NS;
		} else if (p->idle_ns) {
			p->left_ns -= p->kernel_ns;
		}
	}
	if (p->c.state == AQ_LEASE_HELD && p->c.wants && !p->kernel_end_ns &&
	    w->now < p->c.lease_until_ns) {
		p->kernel_end_ns = w->now + p->kernel_ns;
		spend(p, w->now, p->kernel_end_ns);
	}
	if (p->c.state != AQ_LEASE_NONE && !p->kernel_end_ns &&
	    (p->c.state == AQ_LEASE_DRAINING || !p->c.wants)) {
		if (p->free_ns <= w->now && !p->free_ns)
			p->free_ns = w->now + HANDOVER_NS;
		if (p->free_ns <= w->now) {
			aq_arbiter_released(&w->a, &p->c, p->used_ns, w->now);
			p->used_ns = p->free_ns = 0;
			event = true;
		}
	}
	return event;
}

static uint64_t next_instant(const struct world *w, uint64_t end)
{
	uint64_t next = w->next_decision > w->now ? w->next_decision : w->now + 1;

	if (end < next)
		next = end;
	for (unsigned int i = 0; i < w->count; i++) {
		const struct program *p = &w->p[i];
		const uint64_t times[] = {p->kernel_end_ns, p->free_ns,
					  p->c.wants ? 0 : p->wake_ns};

		for (unsigned int k = 0; k < 3; k++)
			if (times[k] > w->now && times[k] < next)
				next = times[k];
	}
	return next;
}

void run(struct world *w, uint64_t duration_ns)
{
	uint64_t end = w->now + duration_ns;

	while (w->now < end) {
		bool again = w->next_decision <= w->now, somebody = false, busy = false;
		uint64_t next;

		for (unsigned int i = 0; i < w->count; i++)
			again |= step(w, &w->p[i]);
		if (again) {
			decide(w);
			for (unsigned int i = 0; i < w->count; i++)
				if (step(w, &w->p[i]))
					w->next_decision = w->now;
		}
		next = next_instant(w, end);
		for (unsigned int i = 0; i < w->count; i++) {
			const struct program *p = &w->p[i];

			busy |= p->c.state != AQ_LEASE_NONE;
			somebody |= p->c.wants && p->c.terms.limit_permille == 1000;
		}
		if (somebody && !busy)
			w->idle_ns += next - w->now;
		w->now = next;
	}
}

void seconds(const struct program *p, uint64_t from, uint64_t to, double *least, double *most)
{
	*least = 1e9;
	*most = 0;
	for (uint64_t start = from / MS; start + 1000 <= to / MS; start++) {
		uint64_t us = 0;

		for (uint64_t k = 0; k < 1000; k++)
			us += p->slot_us[(start + k) % SLOTS];
		if ((double)us / 1e6 < *least)
			*least = (double)us / 1e6;
		if ((double)us / 1e6 > *most)
			*most = (double)us / 1e6;
	}
}

double share(const struct program *p, const struct world *w)
{
	return (double)p->total_ns / (double)w->now;
}
