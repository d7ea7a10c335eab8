/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arbiter in virtual time: a model of programs that launch kernels, and what must hold of the
 * device time that each of them gets, whatever the kernels, the shares and the arrivals.
 */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "arbiter_world.h"

static void test_arbiter__saturated_shares_are_exact(void **state)
{
	static const uint32_t splits[][4] = {
		{100, 900}, {250, 750}, {500, 500}, {100, 200, 300, 400}};
	static const uint64_t kernels[] = {10 * US, 100 * US, MS, 10 * MS};

	for (unsigned int s = 0; s < 4; s++)
		for (unsigned int k = 0; k < 4; k++)
			for (unsigned int mixed = 0; mixed < 2; mixed++) {
				struct world *w = world_new(1);
				double sum = 0;

				for (unsigned int i = 0; i < 4 && splits[s][i]; i++)
					add(w, splits[s][i], 1000, 1, kernels[(k + mixed * i) % 4]);
				run(w, 4 * S);
				for (unsigned int i = 0; i < w->count; i++)
					sum += share(&w->p[i], w);
				for (unsigned int i = 0; i < w->count; i++) {
					double got = share(&w->p[i], w) / sum;

					assert_true(got > splits[s][i] / 1000.0 - 0.01);
					assert_true(got < splits[s][i] / 1000.0 + 0.01);
				}
				/* Hand-overs of 50 us are the only loss. */
				assert_true(sum > 0.97);
				free(w);
			}
}

static void test_arbiter__a_guarantee_holds_in_every_second(void **state)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct world *w = world_new(seed * 7919);
		unsigned int n = 2 + (unsigned int)(rnd(w) % 7);
		uint32_t left = 1000;
		double least, most;

		for (unsigned int i = 0; i < n; i++) {
			uint32_t request = (uint32_t)(rnd(w) % (left / 2 + 1));
			struct program *p = add(w, request, 1000, (uint32_t)(rnd(w) % 3),
						(10 + rnd(w) % 2000) * US);

			left -= request;
			if (rnd(w) % 2 && i) { /* the first one is always backlogged */
				p->busy_ns = (1 + rnd(w) % 60) * MS;
				p->idle_ns = (1 + rnd(w) % 200) * MS;
			}
		}
		run(w, 4 * S);
		for (unsigned int i = 0; i < n; i++) {
			if (w->p[i].idle_ns)
				continue;
			seconds(&w->p[i], 0, 4 * S, &least, &most);
			/* Patience, one quantum, hand-overs: within 4 % of a device. */
			assert_true(least >=
				    w->p[i].c.terms.request_permille / 1000.0 * 0.97 - 0.025);
		}
		assert_int_equal(w->idle_ns, 0);
		free(w);
	}
}

/* Whoever has work all the time, whatever others do: at least its request of any second, nobody
 * nothing at all, and nobody more than its cap of any second. */
static void test_arbiter__random_arrivals(void **state)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct world *w = world_new(seed * 104729);
		unsigned int n = 2 + (unsigned int)(rnd(w) % 11);
		uint32_t left = 1000;
		double least, most;

		for (unsigned int i = 0; i < n; i++) {
			uint32_t request = (uint32_t)(rnd(w) % (left / 2 + 1));
			uint32_t room = 1000 - request;
			uint32_t limit =
				rnd(w) % 3 ? 1000 : request + (uint32_t)(rnd(w) % room) + 1;
			struct program *p = add(w, request, limit, (uint32_t)(rnd(w) % 3),
						(10 + rnd(w) % 1500) * US);

			left -= request;
			if (i && rnd(w) % 2) {
				p->busy_ns = (1 + rnd(w) % 40) * MS;
				p->idle_ns = (1 + rnd(w) % 300) * MS;
			}
		}
		run(w, 4 * S);
		for (unsigned int i = 0; i < n; i++) {
			struct program *p = &w->p[i];
			double request = p->c.terms.request_permille / 1000.0;
			double limit = p->c.terms.limit_permille / 1000.0;

			assert_true(p->total_ns > 0);
			seconds(p, 0, 4 * S, &least, &most);
			/* Burst, and the last kernel of a lease. */
			assert_true(most <= limit + 0.012);
			/* Close to its cap there is no time to make up for the others' turns. */
			if (!p->idle_ns && limit > request + 0.1)
				assert_true(least >= request * 0.97 - 0.025);
		}
		assert_int_equal(w->idle_ns, 0);
		free(w);
	}
}

/* The excess of saturating programs: all to the highest priority, there by weight. */
static void test_arbiter__random_excess(void **state)
{
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct world *w = world_new(seed * 15485863);
		unsigned int n = 2 + (unsigned int)(rnd(w) % 4);
		uint32_t sum = 0, top = 0, weight = 0;
		double excess;

		for (unsigned int i = 0; i < n; i++) {
			uint32_t request = 30 + (uint32_t)(rnd(w) % 130);
			uint32_t priority = (uint32_t)(rnd(w) % 3);

			add(w, request, 1000, priority, (50 + rnd(w) % 450) * US);
			sum += request;
			top = priority > top ? priority : top;
		}
		for (unsigned int i = 0; i < n; i++)
			if (w->p[i].c.terms.priority == top)
				weight += w->p[i].c.terms.request_permille;
		run(w, 4 * S);
		excess = 1 - sum / 1000.0;
		for (unsigned int i = 0; i < n; i++) {
			const struct program *p = &w->p[i];
			double fair = p->c.terms.request_permille / 1000.0;

			if (p->c.terms.priority == top)
				fair += excess * p->c.terms.request_permille / weight;
			/* Hand-overs come out of the excess. */
			assert_true(share(p, w) >= fair - 0.06);
			assert_true(share(p, w) <= fair + 0.04);
		}
		free(w);
	}
}

static void test_arbiter__the_rest_goes_by_priority_then_weight(void **state)
{
	struct world *w = world_new(1);
	struct program *low = add(w, 200, 1000, 0, MS);
	struct program *high = add(w, 100, 1000, 2, MS);
	struct program *high2 = add(w, 300, 1000, 2, MS);

	run(w, 4 * S);
	assert_true(share(low, w) < 0.23 && share(low, w) > 0.18);
	/* 0.8 is left for the two, by 1:3. */
	assert_true(share(high2, w) / share(high, w) > 2.6);
	assert_true(share(high2, w) / share(high, w) < 3.4);
	free(w);
}

static void test_arbiter__a_cap_holds_in_every_second(void **state)
{
	static const uint32_t limits[] = {50, 300, 900};

	for (unsigned int alone = 0; alone < 2; alone++)
		for (unsigned int i = 0; i < 3; i++) {
			struct world *w = world_new(1);
			struct program *p = add(w, 50, limits[i], 1, 500 * US);
			double least, most;

			if (!alone)
				add(w, 50, 1000, 0, 100 * US);
			run(w, 4 * S);
			seconds(p, 0, 4 * S, &least, &most);
			assert_true(most <= limits[i] / 1000.0 + 0.01);
			/* Against another, hand-overs cost some of it. */
			assert_true(share(p, w) >= limits[i] / 1000.0 - (alone ? 0.01 : 0.03));
			free(w);
		}
}

static void test_arbiter__a_cap_does_not_cost_the_guarantee(void **state)
{
	struct world *w = world_new(1);
	struct program *capped = add(w, 600, 600, 1, 100 * US);

	add(w, 200, 1000, 1, 100 * US);
	run(w, 4 * S);
	assert_true(share(capped, w) > 0.585);
	assert_true(share(capped, w) < 0.61);
	free(w);
}

/* A program that looks at the result of each millisecond for 60 to 180 us: it is owed when it comes
 * back, so that the pause costs it no turn. */
static void test_arbiter__short_pauses_cost_no_share(void **state)
{
	struct world *w = world_new(1);
	struct program *pausing = add(w, 600, 1000, 1, MS), *deep = add(w, 400, 1000, 1, 200 * US);

	pausing->busy_ns = MS;
	pausing->idle_ns = 120 * US;
	run(w, 4 * S);
	assert_true(share(pausing, w) > 0.53);
	assert_true(share(deep, w) > 0.38);
	free(w);
}

/* What sleeps for long comes back with no claim on the time that it slept through. */
static void test_arbiter__nobody_saves_up(void **state)
{
	struct world *w = world_new(1);
	struct program *sleeper = add(w, 500, 1000, 1, 100 * US);
	uint64_t before;

	sleeper->wake_ns = 2 * S;
	add(w, 500, 1000, 1, 100 * US);
	run(w, 2 * S);
	before = w->p[1].total_ns;
	run(w, 200 * MS);
	assert_true(w->p[1].total_ns - before > 85 * MS);
	free(w);
}

/* Company is whoever had work within a second, or would go first: then little is in flight. */
static void test_arbiter__company_is_told(void **state)
{
	struct world *w = world_new(1);
	struct program *p = add(w, 300, 1000, 1, 100 * US), *other = add(w, 300, 1000, 1, 100 * US);

	other->busy_ns = MS;
	other->idle_ns = 1;
	run(w, 20 * MS);
	assert_true(p->c.company || other->c.company);
	other->wake_ns = ~0ull; /* goes to sleep for good at the end of this burst */
	other->idle_ns = 100 * S;
	run(w, 500 * MS);
	assert_true(p->c.company);
	run(w, S);
	assert_false(p->c.company);
	assert_int_equal(p->c.lease_until_ns, AQ_ARBITER_NEVER);
	add(w, 100, 1000, 2, 100 * US)->wake_ns = ~0ull; /* asleep, but of a high priority */
	aq_arbiter_decide(&w->a, w->now);
	assert_true(p->c.company);
	free(w);
}

/* A charge for device time beside others' leases: what it was entitled to meanwhile is its own. */
static void test_arbiter__a_charge_is_less_what_was_earned(void **state)
{
	struct world *w = world_new(1);
	struct program *hog = add(w, 250, 1000, 1, 100 * US),
		       *other = add(w, 750, 1000, 1, 100 * US);
	uint64_t before;

	run(w, 100 * MS);
	hog->wake_ns = ~0ull;
	aq_arbiter_want(&w->a, &hog->c, false, w->now);
	hog->idle_ns = 1;
	run(w, 20 * MS);
	aq_arbiter_overruns(&w->a, &hog->c, w->now); /* stopped, for instance */
	run(w, S);
	aq_arbiter_charge(&w->a, &hog->c, MS, w->now);
	assert_true(aq_arbiter_lag(&w->a, &hog->c, w->now) <= (int64_t)MS);
	aq_arbiter_overruns(&w->a, &hog->c, w->now);
	run(w, S);
	aq_arbiter_charge(&w->a, &hog->c, 500 * MS, w->now);
	/* Half of the second was used, a quarter of it was due. */
	assert_true(aq_arbiter_lag(&w->a, &hog->c, w->now) < -(int64_t)(240 * MS));
	assert_true(aq_arbiter_lag(&w->a, &hog->c, w->now) > -(int64_t)(260 * MS));
	hog->wake_ns = 0;
	hog->idle_ns = 0;
	w->next_decision = w->now;
	before = hog->total_ns;
	run(w, 900 * MS); /* 250 ms of debt at a quarter of the time */
	assert_true(hog->total_ns - before < 20 * MS);
	before = hog->total_ns;
	run(w, 2 * S);
	assert_true(hog->total_ns - before > 400 * MS);
	assert_true(other->total_ns > 2 * S);
	free(w);
}

/* One overruns by @used_ns of device time beside another that pauses; both want on. */
static struct world *after_an_overrun(uint64_t used_ns, uint64_t idle_ns)
{
	struct world *w = world_new(1);
	struct program *hog = add(w, 200, 1000, 1, 100 * US),
		       *other = add(w, 800, 1000, 1, 100 * US);

	other->busy_ns = 2 * MS;
	other->idle_ns = idle_ns;
	run(w, 100 * MS);
	aq_arbiter_overruns(&w->a, &hog->c, w->now);
	aq_arbiter_charge(&w->a, &hog->c, used_ns, w->now);
	w->next_decision = w->now;
	hog->total_ns = other->total_ns = 0;
	return w;
}

/* A pause of others is no leave to do it again, but what they really leave is. */
static void test_arbiter__who_ran_on_for_long_keeps_out_of_pauses(void **state)
{
	struct world *w = after_an_overrun(200 * MS, MS);

	run(w, 900 * MS); /* of the second in which a fifth of the time pays that back */
	assert_true(w->p[0].total_ns < 20 * MS);
	assert_true(w->p[1].total_ns > 550 * MS);
	run(w, S);
	assert_true(w->p[0].total_ns > 200 * MS);
	free(w);

	w = after_an_overrun(200 * MS, 100 * MS);
	run(w, 900 * MS);
	assert_true(w->p[0].total_ns > 700 * MS);
	free(w);

	w = after_an_overrun(50 * MS, MS);
	run(w, 200 * MS);
	assert_true(w->p[0].total_ns > 40 * MS);
	free(w);
}

static void test_arbiter__a_high_priority_waits_for_what_is_in_flight_only(void **state)
{
	struct world *w = world_new(3);
	struct program *high = add(w, 300, 1000, 2, 200 * US);

	high->busy_ns = 2 * MS;
	high->idle_ns = 20 * MS;
	add(w, 700, 1000, 0, 300 * US);
	run(w, 4 * S);
	assert_true(high->worst_wake_ns <= 300 * US + HANDOVER_NS + 10 * US);
	free(w);
}

/* Two contenders: the first has the lease, the second begins to want it. Return: is that urgent? */
static bool is_urgent(uint64_t devices, uint32_t mine, uint32_t theirs)
{
	struct aq_arbiter_terms terms = {1, 500, 1000, mine}, other = {devices, 500, 1000, theirs};
	struct aq_contender low, high;
	struct aq_arbiter a;

	aq_arbiter_init(&a, &aq_arbiter_defaults);
	assert_int_equal(aq_arbiter_join(&a, &low, &terms, S), 0);
	assert_int_equal(aq_arbiter_join(&a, &high, &other, S), 0);
	aq_arbiter_want(&a, &low, true, S);
	aq_arbiter_decide(&a, S);
	assert_false(low.urgent);
	aq_arbiter_want(&a, &high, true, S + MS);
	aq_arbiter_decide(&a, S + MS);
	assert_true(low.waited_for);
	/* The same holds for who comes when the lease has ended, but is not back yet. */
	if (low.state == AQ_LEASE_HELD) {
		aq_arbiter_decide(&a, low.lease_until_ns);
		assert_int_equal(low.state, AQ_LEASE_DRAINING);
	}
	return low.urgent;
}

static void test_arbiter__only_who_goes_first_is_urgent(void **state)
{
	assert_true(is_urgent(1, 0, 2));
	assert_true(is_urgent(1, 0, 1));
	assert_false(is_urgent(1, 1, 1));
	assert_false(is_urgent(1, 2, 0));
	assert_false(is_urgent(3, 0, 2)); /* a gang may have to wait for the other device */
}

/* What was in flight of a lease that was passed over counts, but is no debt to be paid first. */
static void test_arbiter__what_was_passed_over_is_no_debt(void **state)
{
	struct aq_arbiter_terms terms = {1, 500, 1000, 0};
	struct aq_contender c;
	struct aq_arbiter a;

	aq_arbiter_init(&a, &aq_arbiter_defaults);
	assert_int_equal(aq_arbiter_join(&a, &c, &terms, S), 0);
	aq_arbiter_add(&a, &c, 5 * MS, S);
	assert_int_equal(aq_arbiter_lag(&a, &c, S), -(int64_t)(5 * MS));
	assert_int_equal(c.service_ns, 5 * MS);
	assert_int_equal(c.debt_ns, 0);
}

static void test_arbiter__nobody_starves(void **state)
{
	struct world *w = world_new(5);
	struct program *last;

	for (unsigned int i = 0; i < 10; i++)
		add(w, 90, 1000, 2, 2 * MS);
	last = add(w, 0, 1000, 0, 100 * US);
	run(w, 4 * S);
	assert_true(last->total_ns > 0);
	free(w);
}

static void test_arbiter__alone_means_undisturbed(void **state)
{
	struct world *w = world_new(1);
	struct program *p = add(w, 100, 1000, 1, 100 * US);

	run(w, S);
	assert_int_equal(p->c.lease_until_ns, AQ_ARBITER_NEVER);
	assert_true(w->a.decisions < 5);
	assert_true(p->total_ns >= S);
	free(w);
}

static void test_arbiter__an_overrun_is_a_debt(void **state)
{
	struct world *w = world_new(1);
	struct program *hog = add(w, 500, 1000, 1, 10 * US);
	struct program *other = add(w, 500, 1000, 1, 10 * US);
	uint64_t before;

	run(w, 100 * MS);
	hog->kernel_ns = S; /* one kernel of a second */
	run(w, 50 * MS);
	hog->kernel_ns = 10 * US;
	run(w, S);
	before = hog->total_ns;
	run(w, 500 * MS); /* still paying */
	assert_true(hog->total_ns - before < 50 * MS);
	run(w, 2350 * MS);
	assert_true((double)other->total_ns / (double)hog->total_ns > 0.97);
	free(w);
}

static void test_arbiter__a_gang_holds_all_its_devices_or_none(void **state)
{
	struct world *w = world_new(9);
	struct program *gang = add_on(w, 3, 500, 1000, 1, MS);
	struct program *left = add_on(w, 1, 500, 1000, 1, 300 * US);
	struct program *right = add_on(w, 2, 250, 1000, 1, 2 * MS);

	for (unsigned int i = 0; i < 4000; i++) {
		run(w, MS);
		if (gang->c.state == AQ_LEASE_HELD) {
			assert_int_equal(left->c.state, AQ_LEASE_NONE);
			assert_int_equal(right->c.state, AQ_LEASE_NONE);
		}
	}
	assert_true(share(gang, w) > 0.46);
	assert_true(share(left, w) > 0.42);
	assert_true(share(right, w) > 0.22);
	free(w);
}

static void test_arbiter__the_same_events_give_the_same_schedule(void **state)
{
	uint64_t hashes[2];

	for (unsigned int round = 0; round < 2; round++) {
		struct world *w = world_new(77);

		for (unsigned int i = 0; i < 8; i++) {
			struct program *p = add(w, 100, 1000, i % 3, (50 + rnd(w) % 500) * US);

			p->busy_ns = (1 + rnd(w) % 30) * MS;
			p->idle_ns = (1 + rnd(w) % 30) * MS;
		}
		run(w, 2 * S);
		hashes[round] = w->hash;
		free(w);
	}
	assert_true(hashes[0] == hashes[1]);
	assert_true(hashes[0] != 0);
}

static void test_arbiter__changed_terms_count_from_then_on(void **state)
{
	struct world *w = world_new(1);
	struct program *p = add(w, 200, 1000, 1, 100 * US);
	struct aq_arbiter_terms terms = p->c.terms;
	uint64_t before;

	add(w, 200, 1000, 1, 100 * US);
	run(w, S);
	terms.request_permille = 600;
	assert_int_equal(aq_arbiter_change(&w->a, &p->c, &terms, w->now), 0);
	before = p->total_ns;
	run(w, S);
	assert_true(p->total_ns - before > 700 * MS); /* 600:200, by guarantee and by weight */
	terms.limit_permille = 1001;
	assert_int_equal(aq_arbiter_change(&w->a, &p->c, &terms, w->now), -22);
	free(w);
}

/* Who had less of what is left over, by its priority or its cap, does not get it all afterwards. */
static void test_arbiter__a_change_settles_the_past(void **state)
{
	static const struct aq_arbiter_terms before[] = {
		{.devices = 1, .request_permille = 200, .limit_permille = 1000, .priority = 0},
		{.devices = 1, .request_permille = 200, .limit_permille = 200, .priority = 1},
		{.devices = 1, .request_permille = 200, .limit_permille = 1000, .priority = 2},
	};

	for (size_t i = 0; i < 3; i++) {
		struct world *w = world_new(1);
		struct program *p = add(w, 200, 1000, 1, 100 * US),
			       *o = add(w, 200, 1000, 1, 100 * US);
		struct aq_arbiter_terms even = p->c.terms;
		uint64_t ours, theirs;

		assert_int_equal(aq_arbiter_change(&w->a, &p->c, &before[i], w->now), 0);
		run(w, 2 * S);
		assert_int_equal(aq_arbiter_change(&w->a, &p->c, &even, w->now), 0);
		ours = p->total_ns;
		theirs = o->total_ns;
		run(w, S / 4);
		ours = p->total_ns - ours;
		theirs = o->total_ns - theirs;
		assert_true(ours * 100 > theirs * 80 && ours * 80 < theirs * 100);
		free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arbiter__saturated_shares_are_exact),
		cmocka_unit_test(test_arbiter__a_guarantee_holds_in_every_second),
		cmocka_unit_test(test_arbiter__random_arrivals),
		cmocka_unit_test(test_arbiter__random_excess),
		cmocka_unit_test(test_arbiter__a_cap_does_not_cost_the_guarantee),
		cmocka_unit_test(test_arbiter__short_pauses_cost_no_share),
		cmocka_unit_test(test_arbiter__nobody_saves_up),
		cmocka_unit_test(test_arbiter__company_is_told),
		cmocka_unit_test(test_arbiter__a_charge_is_less_what_was_earned),
		cmocka_unit_test(test_arbiter__who_ran_on_for_long_keeps_out_of_pauses),
		cmocka_unit_test(test_arbiter__the_rest_goes_by_priority_then_weight),
		cmocka_unit_test(test_arbiter__a_cap_holds_in_every_second),
		cmocka_unit_test(test_arbiter__a_high_priority_waits_for_what_is_in_flight_only),
		cmocka_unit_test(test_arbiter__only_who_goes_first_is_urgent),
		cmocka_unit_test(test_arbiter__what_was_passed_over_is_no_debt),
		cmocka_unit_test(test_arbiter__nobody_starves),
		cmocka_unit_test(test_arbiter__alone_means_undisturbed),
		cmocka_unit_test(test_arbiter__an_overrun_is_a_debt),
		cmocka_unit_test(test_arbiter__a_gang_holds_all_its_devices_or_none),
		cmocka_unit_test(test_arbiter__the_same_events_give_the_same_schedule),
		cmocka_unit_test(test_arbiter__changed_terms_count_from_then_on),
		cmocka_unit_test(test_arbiter__a_change_settles_the_past),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
