/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a lease goes from one to the next: how early it is asked back is learned, and a higher
 * priority does not wait for the work of a lower one.
 */
#include "cm.h"

#include "lease_world.h"

/* Two fractions that take turns; the guards are played by hand, as nothing but instants matters. */
struct pair {
	struct world *w;
	struct guard *g[2];
	uint32_t holder;
};

static struct aq_page_device *page_of(struct pair *p, uint32_t i)
{
	return &p->g[i]->page.device[0];
}

static void look(struct pair *p)
{
	p->w->next = aqd_leases_run(&p->w->l, p->w->now);
}

static struct pair pair_new(void)
{
	struct pair p = {.w = world_new()};

	for (int i = 0; i < 2; i++) {
		p.g[i] = add(p.w, 500, 1000, 1, MS);
		p.g[i]->stopped = true; /* world: hands off */
	}
	look(&p);
	for (uint32_t i = 0; i < 2; i++) {
		page_of(&p, i)->want = 1;
		ring(p.w, p.g[i]);
	}
	look(&p);
	p.holder = page_of(&p, 0)->lease_until_ns ? 0 : 1;
	return p;
}

/* The holder uses its lease to the end, and the next one has it @took_ns after it was meant to. */
static void hand_over(struct pair *p, uint64_t took_ns)
{
	struct aq_page_device *mine = page_of(p, p->holder), *next = page_of(p, !p->holder);
	uint32_t turn = next->lease_turn, early = mine->early_ns;
	uint64_t end;

	mine->edge_ns = (uint32_t)p->w->now;
	mine->active_turn = mine->lease_turn;
	p->w->now += 3 * MS;
	end = p->w->now + early;
	mine->gpu_ns += 3 * MS;
	mine->edge_ns = (uint32_t)end;
	mine->want = 1;
	mine->done_turn = mine->lease_turn;
	p->w->now += 10 * US;
	ring(p->w, p->g[p->holder]);
	look(p);
	assert_int_equal(next->lease_turn, turn + 1);
	next->edge_ns = (uint32_t)(end - early + took_ns);
	next->active_turn = next->lease_turn;
	p->w->now = end - early + took_ns > p->w->now ? end - early + took_ns : p->w->now;
	ring(p->w, p->g[!p->holder]);
	look(p);
	p->holder = !p->holder;
}

static uint32_t early_of(struct pair *p)
{
	return page_of(p, p->holder)->early_ns;
}

static void test_handover__it_is_given_back_as_early_as_it_takes(void **state)
{
	struct pair p = pair_new();

	assert_int_equal(early_of(&p), 100 * US);
	for (int i = 0; i < 400; i++)
		hand_over(&p, 250 * US + (uint64_t)(i % 10) * 10 * US);
	/* The longest take 340 us; a step up is 99. */
	assert_in_range(early_of(&p), 320 * US, 440 * US);
	for (int i = 0; i < 800; i++)
		hand_over(&p, 100 * US);
	assert_in_range(early_of(&p), 80 * US, 210 * US);
	world_free(p.w);
}

static void test_handover__one_late_thread_says_little(void **state)
{
	struct pair p = pair_new();

	for (int i = 0; i < 400; i++)
		hand_over(&p, i % 100 ? 90 * US : 5 * MS);
	assert_in_range(early_of(&p), 60 * US, 140 * US);
	world_free(p.w);
}

static void test_handover__there_are_bounds(void **state)
{
	struct pair p = pair_new();

	for (int i = 0; i < 400; i++)
		hand_over(&p, 3 * MS);
	assert_int_equal(early_of(&p), 600 * US);
	for (int i = 0; i < 800; i++)
		hand_over(&p, 20 * US);
	assert_int_equal(early_of(&p), 60 * US);
	world_free(p.w);
}

/* A guard that does not know when its work ends, or lies about it, teaches nothing. */
static void test_handover__nonsense_is_not_learned_from(void **state)
{
	struct pair p = pair_new();

	for (int i = 0; i < 200; i++)
		hand_over(&p, 500 * MS);
	assert_int_equal(early_of(&p), 100 * US);
	for (int i = 0; i < 200; i++) {
		struct aq_page_device *mine = page_of(&p, p.holder), *next = page_of(&p, !p.holder);

		mine->active_turn = mine->done_turn = mine->lease_turn;
		mine->edge_ns = 0;
		p.w->now += 3 * MS;
		ring(p.w, p.g[p.holder]);
		look(&p);
		next->active_turn = next->lease_turn;
		next->edge_ns = (uint32_t)(p.w->now + 400 * US);
		look(&p);
		p.holder = !p.holder;
	}
	assert_int_equal(early_of(&p), 100 * US);
	world_free(p.w);
}

/* A low one in the middle of a kernel, and a high one that wakes up now and then. */
static struct guard *high_beside(struct world *w, struct guard *low)
{
	struct guard *high = add(w, 500, 1000, 2, 100 * US);

	high->busy_ns = 100 * US;
	high->idle_ns = 20 * MS;
	low->kernel_ns = 8 * MS;
	run(w, 20 * MS); /* what was launched before the gate closed */
	high->worst_wait_ns = 0;
	return high;
}

static void test_handover__a_high_priority_waits_for_nothing(void **state)
{
	struct world *w = world_new();
	struct guard *low = add(w, 500, 1000, 0, 8 * MS), *high = high_beside(w, low);
	uint64_t before = low->total_ns, told = low->lessee.lease->gpu_ns[0];

	run(w, 4 * S);
	assert_true(high->total_ns > 15 * MS);
	assert_true(high->worst_wait_ns <= 2 * WAKE_NS + 10 * US);
	/* Nobody did anything wrong, and all of it counts. */
	assert_int_equal(w->overruns, 0);
	assert_int_equal(w->returns, 0);
	assert_int_equal(w->lies, 0);
	before = low->total_ns - before;
	told = low->lessee.lease->gpu_ns[0] - told;
	assert_true(before > 3900 * MS);
	assert_true(told > before - 20 * MS && told < before + 20 * MS);
	world_free(w);
}

/* Who gives nothing back within the grace, while others work, has overrun all the same. */
static void test_handover__who_goes_on_for_long_is_told_of(void **state)
{
	struct world *w = world_new();
	struct guard *low = add(w, 500, 1000, 0, 8 * MS), *high = high_beside(w, low);

	run(w, S);
	assert_int_equal(w->overruns, 0);
	low->kernel_ns = 200 * MS;
	high->busy_ns = 100 * MS;
	run(w, 110 * MS);
	low->kernel_ns = 8 * MS;
	run(w, 300 * MS);
	assert_int_equal(w->overruns, 1);
	assert_int_equal(w->returns, 1);
	assert_true(w->charged_ns > 50 * MS);
	world_free(w);
}

/* Equals wait for each other's work. */
static void test_handover__equals_do_not_go_first(void **state)
{
	struct world *w = world_new();
	struct guard *a = add(w, 500, 1000, 1, 8 * MS), *b = add(w, 500, 1000, 1, 100 * US);

	run(w, 50 * MS);
	w->overlap_ns = 0;
	run(w, S);
	assert_int_equal(w->overlap_ns, 0);
	assert_true(a->total_ns && b->total_ns);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handover__it_is_given_back_as_early_as_it_takes),
		cmocka_unit_test(test_handover__one_late_thread_says_little),
		cmocka_unit_test(test_handover__there_are_bounds),
		cmocka_unit_test(test_handover__nonsense_is_not_learned_from),
		cmocka_unit_test(test_handover__a_high_priority_waits_for_nothing),
		cmocka_unit_test(test_handover__who_goes_on_for_long_is_told_of),
		cmocka_unit_test(test_handover__equals_do_not_go_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
