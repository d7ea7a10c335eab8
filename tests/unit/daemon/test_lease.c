/* SPDX-License-Identifier: Apache-2.0 */
/* Leases on pages in virtual time: who has them, when they are back, and what they count as. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "lease_world.h"

static double share(const struct guard *g, const struct guard *other)
{
	return (double)g->total_ns / (double)(g->total_ns + other->total_ns);
}

static void test_lease__alone_is_left_alone(void **state)
{
	struct world *w = world_new();
	struct guard *g = add(w, 100, 1000, 1, 100 * US);

	run(w, S);
	assert_int_equal(g->page.gates, 0);
	assert_int_equal(g->page.device[0].lease_turn, 0);
	assert_int_equal(g->page.news, 0);
	assert_false(aqd_leases_manage(&w->l, 0));
	assert_true(w->next == AQ_ARBITER_NEVER);
	world_free(w);
}

static void test_lease__beside_an_idle_one_nothing_ends(void **state)
{
	struct world *w = world_new();
	struct guard *g = add(w, 100, 1000, 1, 100 * US), *idle = add(w, 100, 1000, 1, 100 * US);
	uint32_t turn;

	idle->wake_ns = ~0ull;
	run(w, 10 * MS);
	turn = g->page.device[0].lease_turn;
	assert_true(aqd_leases_manage(&w->l, 0));
	assert_true(g->page.device[0].lease_until_ns == AQ_LEASE_UNTIL_TOLD);
	assert_int_equal(g->page.device[0].waiting, 0);
	run(w, S);
	assert_int_equal(g->page.device[0].lease_turn, turn);
	assert_true(g->total_ns >= S);
	/* Its end opens the gate. */
	die(w, idle);
	run(w, MS);
	assert_int_equal(g->page.gates, 0);
	run(w, 100 * MS);
	world_free(w);
}

static void test_lease__shares_and_one_at_a_time(void **state)
{
	static const uint64_t kernels[] = {10 * US, 200 * US, 2 * MS, 12 * MS};

	for (uint32_t k = 0; k < 4; k++) {
		struct world *w = world_new();
		struct guard *a = add(w, 250, 1000, 1, kernels[k]);
		struct guard *b = add(w, 750, 1000, 1, kernels[3 - k]);

		run(w, 20 * MS); /* what was launched before the gate closed */
		w->overlap_ns = w->idle_ns = 0;
		run(w, 4 * S);
		assert_true(share(a, b) > 0.24 && share(a, b) < 0.26);
		assert_true(w->overlap_ns == 0);
		assert_true(w->idle_ns < 40 * MS); /* 1 % */
		assert_true(w->overruns == 0 && w->lies == 0);
		/* What is told as device time is what it was. */
		assert_true(a->lessee.lease->gpu_ns[0] > a->total_ns - 50 * MS);
		assert_true(a->lessee.lease->gpu_ns[0] <= a->total_ns);
		world_free(w);
	}
}

static void test_lease__a_high_priority_goes_first(void **state)
{
	struct world *w = world_new();
	struct guard *high = add(w, 300, 1000, 2, 200 * US);
	struct guard *low = add(w, 700, 1000, 0, 300 * US);

	high->busy_ns = 2 * MS;
	high->idle_ns = 20 * MS;
	run(w, 4 * S);
	assert_true(high->worst_wait_ns <= 300 * US + 2 * WAKE_NS + 10 * US);
	assert_true(low->total_ns > 3 * S);
	world_free(w);
}

static bool stands(const struct guard *g)
{
	return g->page.device[0].lease_until_ns == AQ_LEASE_STANDING;
}

/* Somebody who pauses, beside one of a low priority that never does. */
static struct world *idle_beside_low(uint32_t limit, uint32_t priority, struct guard **ret_idle,
				     struct guard **ret_low)
{
	struct world *w = world_new();

	*ret_low = add(w, 500, 1000, 0, 300 * US);
	*ret_idle = add(w, 500, limit, priority, 200 * US);
	(*ret_idle)->busy_ns = 2 * MS;
	(*ret_idle)->idle_ns = 50 * MS;
	run(w, 120 * MS);
	assert_true((*ret_idle)->wake_ns > w->now);
	return w;
}

static void test_lease__who_goes_first_need_not_ask(void **state)
{
	struct guard *high, *low;
	struct world *w = idle_beside_low(1000, 2, &high, &low);
	uint64_t high_ns = high->total_ns, low_ns = low->total_ns, grants = w->f[1].lease.grants;

	assert_true(stands(high));
	assert_false(stands(low));
	high->worst_wait_ns = 0;
	run(w, S);
	assert_int_equal(high->worst_wait_ns, 0);
	assert_true(w->f[1].lease.grants > grants + 15); /* of leases, as ever */
	assert_true(high->total_ns - high_ns > 35 * MS && low->total_ns - low_ns > 900 * MS);
	assert_true(aqd_lease_gpu_ns(&w->f[1].lease, 0) + 3 * MS > high->total_ns);
	assert_true(w->lies == 0 && w->overruns == 0);
	world_free(w);
}

static void test_lease__what_stands_is_withdrawn(void **state)
{
	struct guard *high, *low;
	struct world *w = idle_beside_low(1000, 2, &high, &low);
	struct aq_arbiter_terms terms = w->f[1].lease.terms;

	terms.priority = 0;
	aqd_lease_change(&w->l, &w->f[1].lease, &terms, w->now);
	run(w, US);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_false(stands(high));
	terms.priority = 2;
	aqd_lease_change(&w->l, &w->f[1].lease, &terms, w->now);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_true(stands(high));
	die(w, low); /* so that the gate opens */
	w->next = aqd_leases_run(&w->l, w->now);
	assert_int_equal(high->page.gates, 0);
	assert_false(stands(high));
	world_free(w);
}

static void test_lease__nothing_stands_for_equals_nor_under_a_cap(void **state)
{
	struct guard *idle, *low;
	struct world *w = idle_beside_low(1000, 0, &idle, &low);

	assert_false(stands(idle));
	world_free(w);
	w = idle_beside_low(600, 2, &idle, &low);
	assert_false(stands(idle));
	world_free(w);
}

static void test_lease__what_was_taken_up_counts_from_then_on(void **state)
{
	struct guard *high, *low;
	struct world *w = idle_beside_low(1000, 2, &high, &low);
	struct aq_page_device *dev = &high->page.device[0];
	uint64_t gpu_ns = aqd_lease_gpu_ns(&w->f[1].lease, 0);

	dev->edge_ns = (uint32_t)w->now;
	dev->active_turn = dev->lease_turn;
	dev->want = 1;
	w->now += 5 * MS; /* a busy host */
	ring(w, high);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_false(stands(high));
	assert_true(w->f[1].lease.given);
	w->now += MS;
	dev->gpu_ns += 6 * MS;
	dev->want = 0;
	dev->done_turn = dev->active_turn;
	ring(w, high);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_int_equal(aqd_lease_gpu_ns(&w->f[1].lease, 0) - gpu_ns, 6 * MS);
	assert_int_equal(w->lies, 0);
	world_free(w);
}

static void test_lease__what_was_taken_up_and_given_back_is_charged(void **state)
{
	struct guard *high, *low;
	struct world *w = idle_beside_low(1000, 2, &high, &low);
	struct aq_page_device *dev = &high->page.device[0];
	uint64_t gpu_ns = aqd_lease_gpu_ns(&w->f[1].lease, 0);
	uint32_t turn = dev->lease_turn;

	dev->active_turn = turn;
	dev->gpu_ns += 5 * MS;
	dev->done_turn = turn;
	ring(w, high);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_int_equal(aqd_lease_gpu_ns(&w->f[1].lease, 0) - gpu_ns, 5 * MS);
	assert_true(aq_arbiter_lag(&w->l.arbiter, &w->f[1].lease.contender, w->now) <
		    -4 * (int64_t)MS);
	/* Until that is made up for, the lower one may be owed more. */
	run(w, 20 * MS);
	assert_true(stands(high) && dev->lease_turn == turn + 1);
	world_free(w);
}

static void test_lease__a_long_kernel_overruns_once_and_pays(void **state)
{
	struct world *w = world_new();
	struct guard *hog = add(w, 250, 1000, 1, 100 * US), *other = add(w, 750, 1000, 1, 100 * US);
	uint64_t before;

	run(w, 100 * MS);
	hog->kernel_ns = 10 * S;
	run(w, 50 * MS);
	assert_int_equal(w->overruns, 1);
	before = other->total_ns;
	run(w, S);
	assert_true(other->total_ns - before > 980 * MS); /* goes on beside it */
	run(w, 8950 * MS);
	hog->kernel_ns = 100 * US;
	assert_int_equal(w->overruns, 1);
	run(w, 100 * MS);
	assert_int_equal(w->returns, 1);
	/* Beside one other, half of the time was its own; half of that it was entitled to. */
	assert_true(w->charged_ns > 4900 * MS && w->charged_ns < 5100 * MS);
	before = hog->total_ns;
	run(w, 9 * S);
	assert_true(hog->total_ns - before < 100 * MS);
	run(w, 2 * S);
	before = hog->total_ns;
	run(w, 2 * S);
	assert_true(hog->total_ns - before > 480 * MS);
	world_free(w);
}

static void test_lease__a_debt_outlives_its_process(void **state)
{
	struct world *w = world_new();
	struct guard *hog = add(w, 100, 1000, 1, 100 * US), *heir;
	struct guard *other = add(w, 900, 1000, 1, 100 * US);

	run(w, 100 * MS);
	hog->kernel_ns = 4 * S;
	run(w, 3 * S);
	assert_int_equal(w->overruns, 1);
	die(w, hog);
	run(w, MS);
	assert_int_equal(w->returns, 1);
	heir = join(w, &w->f[0].lease, 0, 100 * US);
	run(w, 2 * S);
	assert_true(heir->total_ns < 20 * MS);
	assert_true(other->total_ns > 4900 * MS);
	world_free(w);
}

/* What a newcomer has had of the device after 30 ms and after 2 s, if its neighbour had it alone
 * for @alone_ns, and beside another newcomer before, who ran on. */
static void newcomer_after(uint64_t alone_ns, uint64_t had_ns[2])
{
	struct world *w = world_new();
	struct guard *hog, *fresh;

	add(w, 750, 1000, 1, 100 * US);
	hog = add(w, 10, 1000, 1, 100 * US);
	run(w, 100 * MS);
	hog->kernel_ns = S;
	run(w, 500 * MS);
	assert_int_equal(w->overruns, 1);
	die(w, hog);
	run(w, alone_ns);
	fresh = add(w, 10, 1000, 1, 100 * US);
	run(w, 30 * MS);
	had_ns[0] = fresh->total_ns;
	run(w, 2 * S);
	had_ns[1] = fresh->total_ns;
	world_free(w);
}

static void test_lease__one_newcomer_after_another_takes_no_share(void **state)
{
	uint64_t had_ns[2];

	newcomer_after(20 * MS, had_ns);
	assert_true(had_ns[0] <= 200 * US); /* before its gate is closed */
	assert_true(had_ns[1] > 10 * MS);
	newcomer_after(1100 * MS, had_ns); /* long ago */
	assert_true(had_ns[0] > MS);
}

static void test_lease__death_frees_at_once(void **state)
{
	struct world *w = world_new();
	struct guard *a = add(w, 500, 1000, 1, 3 * S), *b = add(w, 500, 1000, 1, 3 * S);
	struct guard *holder, *waiter;

	run(w, 3 * S + MS);
	holder = a->kernel_end_ns ? a : b;
	waiter = holder == a ? b : a;
	assert_true(waiter->wanting);
	die(w, holder);
	w->next = aqd_leases_run(&w->l, w->now); /* the same turn of the loop */
	/* Alone now, so that the gate is open at once. */
	assert_int_equal(waiter->page.gates, 0);
	world_free(w);
}

static void test_lease__death_hands_on_among_three(void **state)
{
	struct world *w = world_new();
	struct guard *g[3], *holder = NULL;
	uint32_t holders = 0;

	for (uint32_t i = 0; i < 3; i++)
		g[i] = add(w, 300, 1000, 1, 15 * MS);
	run(w, 50 * MS);
	for (uint32_t i = 0; i < 3; i++)
		if (g[i]->lessee.lease->given)
			holder = g[i];
	assert_non_null(holder);
	die(w, holder);
	w->next = aqd_leases_run(&w->l, w->now);
	for (uint32_t i = 0; i < 3; i++)
		if (g[i] != holder && g[i]->page.device[0].lease_until_ns > w->now)
			holders++;
	assert_int_equal(holders, 1);
	world_free(w);
}

static void test_lease__who_is_stopped_costs_one_quantum(void **state)
{
	struct world *w = world_new();
	struct guard *stopped = add(w, 500, 1000, 1, 100 * US), *other;
	uint64_t before;

	other = add(w, 500, 1000, 1, 100 * US);
	run(w, 100 * MS);
	while (!stopped->wanting) /* stop it while it waits */
		run(w, 50 * US);
	stopped->stopped = true;
	before = other->total_ns;
	run(w, S);
	assert_true(other->total_ns - before > 985 * MS);
	stopped->stopped = false;
	ring(w, stopped); /* who waits looks, and rings, every 10 ms */
	before = stopped->total_ns;
	run(w, S);
	assert_true(stopped->total_ns - before > 450 * MS);
	/* ... and with the lease in hand. */
	while (!stopped->kernel_end_ns)
		run(w, 50 * US);
	stopped->stopped = true;
	before = other->total_ns;
	run(w, S);
	assert_int_equal(w->overruns, 1);
	assert_true(other->total_ns - before > 960 * MS);
	/* Nobody took half of the device from it: its time is its own. */
	stopped->stopped = false;
	ring(w, stopped);
	run(w, 50 * MS);
	assert_true(other->lessee.lease->gpu_ns[0] > other->total_ns * 98 / 100);
	world_free(w);
}

static uint64_t told(const struct guard *g)
{
	return aqd_lease_gpu_ns(g->lessee.lease, 0);
}

static void sampled(struct world *w, struct guard *g, uint32_t percent)
{
	aqd_lessee_sampled(&w->l, &g->lessee, 0, percent, S, w->now);
}

static void test_lease__samples_count_while_the_gate_is_open(void **state)
{
	struct world *w = world_new();
	struct guard *g = add(w, 500, 1000, 1, 100 * US), *other;
	uint64_t before;

	run(w, S);
	assert_int_equal(told(g), 0);
	sampled(w, g, 80);
	assert_int_equal(told(g), 800 * MS);
	run(w, S);
	sampled(w, g, 30);
	assert_int_equal(told(g), 1100 * MS);
	/* Half a second later somebody comes; both are half of the device from then on. */
	run(w, 500 * MS);
	other = add(w, 500, 1000, 1, 100 * US);
	run(w, 500 * MS);
	before = told(g);
	assert_true(before > 1330 * MS && before < 1370 * MS); /* leases, so far */
	sampled(w, g, 75);
	assert_true(told(g) > 1830 * MS && told(g) < 1860 * MS);
	/* With the gate closed samples say nothing new. */
	run(w, S);
	before = told(g);
	sampled(w, g, 100);
	assert_true(told(g) - before < 5 * MS);
	/* Alone again, until it ends: as it was last seen. */
	die(w, other);
	run(w, MS);
	before = told(g);
	run(w, S);
	sampled(w, g, 90);
	assert_true(told(g) - before > 895 * MS && told(g) - before < 905 * MS);
	before = told(g);
	run(w, 500 * MS);
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	assert_int_equal(aqd_lease_gpu_ns(&w->f[0].lease, 0) - before, 450 * MS);
	g->dead = true;
	world_free(w);
}

/* The sample is of a second, of which the client had the last part only. */
static void test_lease__a_short_life_counts_as_long_as_it_was(void **state)
{
	struct world *w = world_new();
	struct guard *g;

	run(w, 700 * MS);
	g = add(w, 500, 1000, 1, 100 * US);
	run(w, 300 * MS);
	sampled(w, g, 20);
	assert_int_equal(told(g), 200 * MS);
	run(w, 100 * MS);
	sampled(w, g, 20); /* late by what the sample before it is longer */
	assert_int_equal(told(g), 300 * MS);
	world_free(w);
}

static void test_lease__time_outlives_a_daemon_in_the_page(void **state)
{
	struct world *w = world_new();
	struct guard *g = add(w, 500, 1000, 1, 100 * US);
	struct aqd_lease *next = add_on(w, 1, 500, 1000, 1);

	run(w, S);
	sampled(w, g, 50);
	assert_int_equal(g->page.device[0].total_ns, 500 * MS);
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	aqd_lessee_join(&w->l, next, &g->lessee, &g->page, w->now);
	assert_int_equal(told(g), 500 * MS);
	/* What it did while there was no daemon counts as the first sample after. */
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	w->now += 2 * S;
	aqd_lessee_join(&w->l, next, &g->lessee, &g->page, w->now);
	aqd_lessee_resume(&g->lessee, w->now - 2 * S, w->now);
	run(w, S);
	sampled(w, g, 50);
	assert_int_equal(told(g), 2000 * MS);
	/* As the first that is long enough to say anything. */
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	w->now += 2 * S;
	aqd_lessee_join(&w->l, next, &g->lessee, &g->page, w->now);
	aqd_lessee_resume(&g->lessee, w->now - 2 * S, w->now);
	run(w, 50 * US);
	aqd_lessee_sampled(&w->l, &g->lessee, 0, 100, 50 * US, w->now);
	assert_int_equal(told(g), 2000 * MS + 50 * US);
	run(w, S);
	sampled(w, g, 50);
	assert_int_equal(told(g), 3500 * MS + 50 * US);
	/* More than can have been is not believed. */
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	g->page.device[0].total_ns = w->now + 1;
	next = add_on(w, 1, 500, 1000, 1);
	aqd_lessee_join(&w->l, next, &g->lessee, &g->page, w->now);
	assert_int_equal(told(g), 0);
	world_free(w);
}

/* What was queued while there was no daemon is claimed when it is done, all of it. */
static void test_lease__who_worked_without_a_daemon_is_no_liar(void **state)
{
	struct world *w = world_new();
	struct guard *g = add(w, 500, 1000, 1, 100 * US);
	struct aqd_lease *f = g->lessee.lease;

	run(w, 10 * MS);
	aqd_lessee_leave(&w->l, &g->lessee, w->now);
	w->now += S;
	aqd_lessee_join(&w->l, f, &g->lessee, &g->page, w->now);
	aqd_lessee_resume(&g->lessee, w->now - S, w->now);
	g->page.device[0].gpu_ns += 500 * MS;
	aqd_leases_look(&w->l, w->now);
	assert_int_equal(w->lies, 0);
	assert_true(f->gpu_ns[0] <= 20 * MS); /* that time counts as it is sampled */
	g->page.device[0].gpu_ns += 500 * MS;
	aqd_leases_look(&w->l, w->now);
	assert_int_equal(w->lies, 1); /* it did that once */
	world_free(w);
}

static void test_lease__impossible_times_are_cut(void **state)
{
	struct world *w = world_new();
	struct guard *liar = add(w, 500, 1000, 1, 100 * US),
		     *other = add(w, 500, 1000, 1, 100 * US);

	run(w, 10 * MS);
	liar->lie_ns = (int64_t)(1000 * S);
	run(w, S);
	assert_int_equal(w->lies, 1); /* told once */
	assert_true(liar->lessee.lease->gpu_ns[0] < 1100 * MS);
	liar->lie_ns = -(int64_t)(100 * S); /* backwards */
	run(w, S);
	assert_true(liar->lessee.lease->gpu_ns[0] < 2200 * MS);
	assert_true(other->total_ns > 900 * MS);
	world_free(w);
}

/* It has had the lease for long, with nobody waiting: that costs nothing. */
static void test_lease__an_idle_holder_is_not_charged(void **state)
{
	struct world *w = world_new();
	struct guard *idle = add(w, 500, 1000, 1, 100 * US),
		     *other = add(w, 500, 1000, 1, 100 * US);
	uint64_t served;

	other->wake_ns = ~0ull;
	run(w, 10 * MS);
	idle->idle_ns = 10 * S;
	run(w, 5 * S);
	assert_true(idle->lessee.lease->given);
	served = idle->lessee.lease->contender.service_ns;
	other->wake_ns = 0;
	run(w, 50 * MS);
	assert_true(idle->lessee.lease->contender.service_ns - served < 20 * MS);
	assert_true(other->total_ns > 45 * MS);
	world_free(w);
}

static void test_lease__claiming_nothing_keeps_nobody_away(void **state)
{
	struct world *w = world_new();
	struct guard *liar = add(w, 100, 1000, 2, 100 * US),
		     *other = add(w, 900, 1000, 0, 100 * US);

	run(w, 10 * MS);
	liar->lie_ns = 0;
	for (uint32_t i = 0; i < 40000; i++) {
		liar->used_ns = 0;
		run(w, 50 * US);
	}
	assert_true(other->total_ns > 700 * MS); /* of two seconds */
	world_free(w);
}

/* What one that holds is told of who waits: it has less in flight where somebody goes before it. */
static void test_lease__says_whether_anybody_there_goes_first(void **state)
{
	struct world *w = world_new();
	struct guard *a = add(w, 500, 1000, 1, 100 * US), *b = add(w, 400, 1000, 1, 100 * US);
	struct aq_arbiter_terms terms = b->lessee.lease->terms;

	run(w, 50 * MS);
	assert_int_equal(a->page.device[0].waiting, AQ_WAITING_PEERS);
	assert_int_equal(b->page.device[0].waiting, AQ_WAITING_PEERS);
	terms.priority = 2;
	aqd_lease_change(&w->l, b->lessee.lease, &terms, w->now);
	w->next = w->now;
	run(w, 50 * MS);
	assert_true(a->page.device[0].waiting == AQ_WAITING_OTHERS ||
		    a->page.device[0].waiting == AQ_WAITING_URGENT);
	assert_int_equal(b->page.device[0].waiting, AQ_WAITING_PEERS);
	/* It need not have work: it may have some at any time. */
	b->stopped = true;
	run(w, 50 * MS);
	assert_int_not_equal(a->page.device[0].waiting, AQ_WAITING_PEERS);
	die(w, b);
	add(w, 400, 1000, 0, 100 * US);
	run(w, 100 * MS);
	assert_int_equal(a->page.device[0].waiting, AQ_WAITING_PEERS);
	world_free(w);
}

static void test_lease__a_cap_holds_alone_and_changes_live(void **state)
{
	struct world *w = world_new();
	struct guard *g = add(w, 100, 250, 1, 100 * US);
	struct aq_arbiter_terms terms = g->lessee.lease->terms;
	uint64_t before;

	run(w, 100 * MS);
	assert_int_equal(g->page.device[0].gate, AQ_GATE_LEASED);
	assert_true(g->page.device[0].waiting || !g->lessee.lease->given);
	before = g->total_ns;
	run(w, 4 * S);
	assert_true(g->total_ns - before > 990 * MS && g->total_ns - before < 1010 * MS);
	terms.limit_permille = 700;
	aqd_lease_change(&w->l, g->lessee.lease, &terms, w->now);
	w->next = w->now;
	before = g->total_ns;
	run(w, 4 * S);
	assert_true(g->total_ns - before > 2770 * MS && g->total_ns - before < 2830 * MS);
	terms.limit_permille = 1000;
	aqd_lease_change(&w->l, g->lessee.lease, &terms, w->now);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_int_equal(g->page.gates, 0);
	world_free(w);
}

static void test_lease__clients_of_a_fraction_share_its_lease(void **state)
{
	struct world *w = world_new();
	struct aqd_lease *pair = add_on(w, 1, 500, 1000, 1);
	struct guard *a = join(w, pair, 0, 300 * US), *b = join(w, pair, 0, 500 * US);
	struct guard *other = add(w, 500, 1000, 1, 100 * US);
	bool together = false;

	run(w, 20 * MS);
	w->overlap_ns = 0;
	for (uint32_t i = 0; i < 2000; i++) {
		run(w, MS);
		together |= a->kernel_end_ns && b->kernel_end_ns;
	}
	assert_true(together);
	assert_true(w->overlap_ns == 0);
	/* By the device used most; both at once count as one. */
	assert_true(other->total_ns > 940 * MS && other->total_ns < 1060 * MS);
	world_free(w);
}

static void test_lease__only_contended_devices_have_gates(void **state)
{
	struct world *w = world_new();
	struct aqd_lease *wide = add_on(w, 3, 500, 1000, 1);
	struct guard *left = join(w, wide, 0, 100 * US), *right = join(w, wide, 1, 100 * US);
	struct guard *other = join(w, add_on(w, 2, 500, 1000, 1), 0, 100 * US);

	run(w, 2 * S);
	assert_int_equal(left->page.gates, 2);
	assert_int_equal(right->page.gates, 2);
	assert_int_equal(other->page.gates, 1);
	assert_true(left->total_ns >= 1990 * MS);
	assert_true(share(right, other) > 0.48 && share(right, other) < 0.52);
	/* Somebody on the other device, too: now it is a gang. */
	join(w, add_on(w, 1, 500, 1000, 1), 0, 100 * US);
	run(w, 20 * MS);
	for (uint32_t i = 0; i < 400; i++) {
		run(w, MS);
		assert_int_equal(left->page.device[0].lease_until_ns > w->now,
				 left->page.device[1].lease_until_ns > w->now);
	}
	world_free(w);
}

static void test_lease__no_part_where_there_is_no_context(void **state)
{
	struct world *w = world_new();
	struct guard *wide = join(w, add_on(w, 3, 500, 1000, 1), 0, 100 * US);
	struct guard *other = join(w, add_on(w, 2, 500, 1000, 1), 0, 100 * US);

	wide->page.contexts = 1;
	aqd_leases_look(&w->l, w->now);
	run(w, S);
	assert_int_equal(wide->page.gates, 0);
	assert_int_equal(other->page.gates, 0);
	assert_true(wide->total_ns >= 990 * MS && other->total_ns >= 990 * MS);
	wide->page.contexts = 3; /* its first kernel there is about to come */
	aqd_lessee_rang(&w->l, &wide->lessee, 2, w->now);
	w->next = w->now;
	run(w, MS);
	assert_int_equal(wide->page.gates, 2);
	assert_int_equal(other->page.gates, 1);
	world_free(w);
}

static void test_lease__pages_of_an_earlier_daemon(void **state)
{
	struct world *w = world_new();
	struct aqd_lease *f = add_on(w, 1, 500, 1000, 1);
	struct guard *old = calloc(1, sizeof(*old));
	struct guard *other = add(w, 500, 1000, 1, 100 * US);

	assert_non_null(old);
	old->kernel_ns = 100 * US;
	old->page.device_count = 1;
	old->page.contexts = 1;
	old->page.gates = 1;
	old->page.device[0].gate = AQ_GATE_LEASED;
	old->page.device[0].lease_turn = UINT32_MAX; /* and it wraps */
	old->page.device[0].active_turn = UINT32_MAX;
	old->page.device[0].lease_until_ns = AQ_LEASE_UNTIL_TOLD;
	old->page.device[0].gpu_ns = 77 * S;
	w->g[w->guards++] = old;
	aqd_lessee_join(&w->l, f, &old->lessee, &old->page, w->now);
	assert_int_equal(old->page.device[0].lease_until_ns, 0);
	w->next = w->now;
	run(w, S);
	assert_true(share(old, other) > 0.48 && share(old, other) < 0.52);
	assert_int_equal(w->lies, 0);
	assert_true(f->gpu_ns[0] < S);
	world_free(w);
}

/* A client that looked between the two words of a grant entered by the number before. */
static void test_lease__slipping_in_by_the_old_number_counts(void **state)
{
	struct world *w = world_new();
	struct guard *a = add(w, 500, 1000, 1, 100 * US), *b = add(w, 500, 1000, 1, 100 * US);
	struct aq_page_device *dev = &a->page.device[0];

	a->wake_ns = b->wake_ns = ~0ull;
	run(w, MS);
	dev->want = 1;
	ring(w, a);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_true(dev->lease_until_ns > w->now);
	dev->active_turn = dev->lease_turn - 1;
	dev->done_turn = dev->lease_turn - 2;
	b->page.device[0].want = 1;
	ring(w, b);
	w->now += 5 * MS;
	w->next = aqd_leases_run(&w->l, w->now);
	assert_int_equal(dev->lease_until_ns, 0);
	assert_int_equal(b->page.device[0].lease_until_ns, 0); /* it waits */
	dev->want = 0;
	dev->done_turn = dev->active_turn;
	ring(w, a);
	w->next = aqd_leases_run(&w->l, w->now);
	assert_true(b->page.device[0].lease_until_ns > w->now);
	world_free(w);
}

static void test_lease__sixty_four_on_one_device(void **state)
{
	struct world *w = world_new();
	struct guard *g[64];

	for (uint32_t i = 0; i < 64; i++)
		g[i] = add(w, 15, 1000, 1, 200 * US);
	run(w, 8 * S);
	for (uint32_t i = 0; i < 64; i++)
		assert_true(g[i]->total_ns > 8 * S / 64 * 9 / 10);
	assert_int_equal(w->overruns, 0);
	world_free(w);
}

/* Whatever is in the pages, the leases come to an answer, and others get their time. */
static void test_lease__scribbled_pages(void **state)
{
	struct world *w = world_new();
	struct guard *mad = add(w, 300, 1000, 1, 100 * US), *good = add(w, 700, 1000, 1, 100 * US);
	uint64_t seed = 88172645463325252ull, before;

	run(w, 100 * MS);
	before = good->total_ns;
	mad->stopped = true;
	for (uint32_t i = 0; i < 4000; i++) {
		uint64_t *words = (uint64_t *)&mad->page.device[0];

		for (uint32_t k = 0; k < 4; k++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			words[8 + seed % 6] = seed >> (seed % 64);
		}
		ring(w, mad);
		run(w, 500 * US);
	}
	assert_true(good->total_ns - before > 1200 * MS); /* of two seconds */
	assert_true(mad->lessee.lease->gpu_ns[0] < 3 * S);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lease__alone_is_left_alone),
		cmocka_unit_test(test_lease__beside_an_idle_one_nothing_ends),
		cmocka_unit_test(test_lease__shares_and_one_at_a_time),
		cmocka_unit_test(test_lease__a_high_priority_goes_first),
		cmocka_unit_test(test_lease__says_whether_anybody_there_goes_first),
		cmocka_unit_test(test_lease__who_goes_first_need_not_ask),
		cmocka_unit_test(test_lease__what_stands_is_withdrawn),
		cmocka_unit_test(test_lease__nothing_stands_for_equals_nor_under_a_cap),
		cmocka_unit_test(test_lease__what_was_taken_up_counts_from_then_on),
		cmocka_unit_test(test_lease__what_was_taken_up_and_given_back_is_charged),
		cmocka_unit_test(test_lease__a_long_kernel_overruns_once_and_pays),
		cmocka_unit_test(test_lease__a_debt_outlives_its_process),
		cmocka_unit_test(test_lease__one_newcomer_after_another_takes_no_share),
		cmocka_unit_test(test_lease__death_frees_at_once),
		cmocka_unit_test(test_lease__death_hands_on_among_three),
		cmocka_unit_test(test_lease__who_is_stopped_costs_one_quantum),
		cmocka_unit_test(test_lease__samples_count_while_the_gate_is_open),
		cmocka_unit_test(test_lease__a_short_life_counts_as_long_as_it_was),
		cmocka_unit_test(test_lease__time_outlives_a_daemon_in_the_page),
		cmocka_unit_test(test_lease__who_worked_without_a_daemon_is_no_liar),
		cmocka_unit_test(test_lease__impossible_times_are_cut),
		cmocka_unit_test(test_lease__an_idle_holder_is_not_charged),
		cmocka_unit_test(test_lease__claiming_nothing_keeps_nobody_away),
		cmocka_unit_test(test_lease__a_cap_holds_alone_and_changes_live),
		cmocka_unit_test(test_lease__clients_of_a_fraction_share_its_lease),
		cmocka_unit_test(test_lease__only_contended_devices_have_gates),
		cmocka_unit_test(test_lease__no_part_where_there_is_no_context),
		cmocka_unit_test(test_lease__pages_of_an_earlier_daemon),
		cmocka_unit_test(test_lease__slipping_in_by_the_old_number_counts),
		cmocka_unit_test(test_lease__sixty_four_on_one_device),
		cmocka_unit_test(test_lease__scribbled_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
