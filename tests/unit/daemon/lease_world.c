/* SPDX-License-Identifier: Apache-2.0 */
/* Plays guards against leases; see lease_world.h. */
#include "cm.h"

#include <stdlib.h>

#include "lease_world.h"

static void set_gate(void *context, struct aqd_lessee *who, uint32_t i, bool closed)
{
	(void)context;
	who->page->device[i].gate = closed ? AQ_GATE_LEASED : 0;
	if (closed)
		who->page->gates |= 1u << i;
	else
		who->page->gates &= ~(1u << i);
}

static bool is_stopped(void *context, struct aqd_lessee *who)
{
	(void)context;
	return aq_container_of(who, struct guard, lessee)->stopped;
}

static void overran(void *context, struct aqd_lessee *who, uint32_t i, uint64_t late_ns)
{
	struct world *w = context;

	assert_true(late_ns >= AQD_LEASE_GRACE_NS);
	assert_true(i < who->lease->device_count);
	w->overruns++;
}

static void caught_up(void *context, struct aqd_lessee *who, uint32_t i, uint64_t late_ns,
		      uint64_t debt_ns)
{
	struct world *w = context;

	assert_true(debt_ns <= late_ns + AQD_LEASE_GRACE_NS);
	assert_true(i < who->lease->device_count);
	w->returns++;
	w->charged_ns += debt_ns;
}

static void lied(void *context, struct aqd_lessee *who, uint32_t i, uint64_t claimed_ns,
		 uint64_t possible_ns)
{
	struct world *w = context;

	(void)who;
	(void)i;
	assert_true(claimed_ns > possible_ns);
	w->lies++;
}

static const struct aqd_lease_ops ops = {
	.gate = set_gate,
	.stopped = is_stopped,
	.overran = overran,
	.caught_up = caught_up,
	.lied = lied,
};

struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->now = S; /* instant 0 means "not" */
	aqd_leases_init(&w->l, &aq_arbiter_defaults, &ops, w);
	return w;
}

struct aqd_lease *add_on(struct world *w, uint32_t devices, uint32_t request, uint32_t limit,
			 uint32_t priority)
{
	struct aq_arbiter_terms terms = {
		.request_permille = request, .limit_permille = limit, .priority = priority};
	struct aqd_lease *f = &w->f[w->fractions++].lease;
	uint32_t numbers[AQ_MAX_DEVICES], n = 0;

	for (uint32_t d = 0; d < AQ_MAX_DEVICES; d++)
		if (devices >> d & 1)
			numbers[n++] = d;
	aqd_lease_init(&w->l, f, numbers, n, &terms, 0);
	return f;
}

struct guard *join(struct world *w, struct aqd_lease *f, uint32_t device, uint64_t kernel_ns)
{
	struct guard *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->device = device;
	g->kernel_ns = kernel_ns;
	g->page.device_count = f->device_count;
	g->page.contexts = (1u << f->device_count) - 1;
	w->g[w->guards++] = g;
	aqd_lessee_join(&w->l, f, &g->lessee, &g->page, w->now);
	w->next = w->now;
	return g;
}

struct guard *add(struct world *w, uint32_t request, uint32_t limit, uint32_t priority,
		  uint64_t kernel_ns)
{
	return join(w, add_on(w, 1, request, limit, priority), 0, kernel_ns);
}

void world_free(struct world *w)
{
	for (uint32_t i = 0; i < w->guards; i++) {
		aqd_lessee_leave(&w->l, &w->g[i]->lessee, w->now);
		free(w->g[i]);
	}
	for (uint32_t i = 0; i < w->fractions; i++)
		aqd_lease_finish(&w->l, &w->f[i].lease, w->now);
	free(w);
}

void ring(struct world *w, struct guard *g)
{
	aqd_lessee_rang(&w->l, &g->lessee, 1u << g->device, w->now);
	w->next = w->now;
}

void die(struct world *w, struct guard *g)
{
	g->dead = true;
	g->kernel_end_ns = 0;
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	w->next = w->now;
}

static void launch(struct world *w, struct guard *g, bool ungated)
{
	g->ungated = ungated;
	g->length_ns = g->kernel_ns;
	g->kernel_end_ns = w->now + g->length_ns;
	if (g->wanting && w->now - g->wanted_ns > g->worst_wait_ns)
		g->worst_wait_ns = w->now - g->wanted_ns;
	g->wanting = false;
}

static bool over(const struct world *w, const struct guard *g)
{
	const struct aq_page_device *dev = &g->page.device[g->device];

	return dev->lease_turn != dev->active_turn || dev->lease_until_ns <= w->now;
}

static void give_back(struct world *w, struct guard *g, bool want)
{
	struct aq_page_device *dev = &g->page.device[g->device];

	dev->gpu_ns += g->used_ns + (uint64_t)g->lie_ns;
	g->used_ns = 0;
	dev->want = want;
	dev->done_turn = dev->active_turn;
	ring(w, g);
}

static void try_launch(struct world *w, struct guard *g)
{
	struct aq_page_device *dev = &g->page.device[g->device];

	if (!dev->gate) {
		launch(w, g, true);
	} else if (dev->done_turn != dev->lease_turn && dev->lease_until_ns > w->now) {
		dev->active_turn = dev->lease_turn;
		if (dev->lease_until_ns == AQ_LEASE_STANDING && !dev->want)
			ring(w, g);
		dev->want = 1;
		launch(w, g, false);
	} else if (!dev->want) {
		dev->want = 1;
		ring(w, g);
	}
	if (!g->kernel_end_ns && !g->wanting) {
		g->wanting = true;
		g->wanted_ns = w->now;
	}
}

/* The burst is over: back to sleep. */
static void rest(struct world *w, struct guard *g, bool ungated)
{
	g->wake_ns = w->now + g->idle_ns;
	g->burst_left_ns = 0;
	if (!ungated && g->page.device[g->device].waiting)
		give_back(w, g, false);
}

static void kernel_ended(struct world *w, struct guard *g)
{
	bool ungated = g->ungated;

	g->kernel_end_ns = 0;
	g->total_ns += g->length_ns;
	if (!ungated)
		g->used_ns += g->length_ns;
	if (g->idle_ns) {
		g->burst_left_ns -=
			g->burst_left_ns > g->length_ns ? g->length_ns : g->burst_left_ns;
		if (!g->burst_left_ns) {
			rest(w, g, ungated);
			return;
		}
	}
	if (!ungated && over(w, g))
		give_back(w, g, true);
}

static void step(struct world *w, struct guard *g)
{
	struct aq_page_device *dev = &g->page.device[g->device];

	if (g->dead || g->stopped)
		return;
	if (g->kernel_end_ns && g->kernel_end_ns <= w->now)
		kernel_ended(w, g);
	if (g->kernel_end_ns || g->wake_ns > w->now)
		return;
	/* The guard's own thread: an idle program with a lease that is over, or waited for. */
	if (g->idle_ns && !g->burst_left_ns) {
		g->burst_left_ns = g->busy_ns;
		if (!g->busy_ns)
			return;
	}
	if (dev->active_turn == dev->lease_turn && dev->done_turn != dev->lease_turn && over(w, g))
		give_back(w, g, true);
	try_launch(w, g);
}

/* The guard's own thread gives back what nobody uses, once it is told. */
static bool has_news(const struct world *w, const struct guard *g)
{
	const struct aq_page_device *dev = &g->page.device[g->device];

	return !g->dead && !g->stopped && !g->kernel_end_ns && g->wake_ns > w->now &&
	       dev->done_turn != dev->active_turn && (over(w, g) || dev->waiting);
}

static void account(struct world *w, uint64_t to)
{
	uint32_t busy = 0, wanting = 0;
	const struct aqd_lease *first = NULL;
	bool two = false;

	for (uint32_t i = 0; i < w->guards; i++) {
		const struct guard *g = w->g[i];

		if (g->dead || g->lessee.lease->device[g->device])
			continue;
		wanting += g->wanting && g->lessee.lease->terms.limit_permille == 1000;
		if (!g->kernel_end_ns)
			continue;
		busy++;
		two |= first && first != g->lessee.lease;
		first = g->lessee.lease;
	}
	w->overlap_ns += two ? to - w->now : 0;
	w->idle_ns += !busy && wanting ? to - w->now : 0;
}

void run(struct world *w, uint64_t duration_ns)
{
	uint64_t end = w->now + duration_ns;

	while (w->now < end) {
		uint64_t next;

		for (uint32_t i = 0; i < w->guards; i++) {
			step(w, w->g[i]);
			if (has_news(w, w->g[i]))
				give_back(w, w->g[i], false);
		}
		if (w->next <= w->now)
			w->next = aqd_leases_run(&w->l, w->now);
		next = w->next > w->now ? w->next : w->now + US;
		next = next < end ? next : end;
		for (uint32_t i = 0; i < w->guards; i++) {
			struct guard *g = w->g[i];

			if (g->dead || g->stopped)
				continue;
			if (has_news(w, g))
				next = next < w->now + WAKE_NS ? next : w->now + WAKE_NS;
			if (g->wanting && g->page.device[g->device].lease_until_ns > w->now)
				next = next < w->now + WAKE_NS ? next : w->now + WAKE_NS;
			if (g->kernel_end_ns > w->now && g->kernel_end_ns < next)
				next = g->kernel_end_ns;
			if (g->wake_ns > w->now && g->wake_ns < next)
				next = g->wake_ns;
		}
		account(w, next);
		w->now = next;
	}
}
