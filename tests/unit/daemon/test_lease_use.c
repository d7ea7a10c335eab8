/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What counts where several clients of a fraction use its leases. The guards of lease_world.h
 * measure as guards do then: each takes the device for its own, its siblings' slices included. What
 * was really theirs is what the test has the driver sample.
 */
#include "cm.h"

#include "lease_world.h"

#define SAMPLE (900 * MS)
#define MEMBERS 2

struct scene {
	struct world *w;
	struct aqd_lease *f;
	struct guard *member[MEMBERS];
	struct guard *other;
	uint64_t told; /* at the last look */
};

static uint64_t told(struct scene *s)
{
	uint64_t now = aqd_lease_gpu_ns(s->f, 0);

	assert_true(now >= s->told); /* at no time, by nothing */
	return s->told = now;
}

static struct scene scene_new(void)
{
	struct scene s = {.w = world_new()};

	s.f = add_on(s.w, 1, 500, 1000, 1);
	for (uint32_t i = 0; i < MEMBERS; i++)
		s.member[i] = join(s.w, s.f, 0, 100 * US);
	s.other = add(s.w, 500, 1000, 1, 100 * US);
	run(s.w, 20 * MS);
	return s;
}

/* The time between two samples, looking on the way. */
static void pass(struct scene *s)
{
	for (uint32_t i = 0; i < 30; i++) {
		run(s->w, SAMPLE / 30);
		told(s);
	}
}

static void sample(struct scene *s, uint32_t first_percent, uint32_t second_percent)
{
	uint32_t percent[MEMBERS] = {first_percent, second_percent};

	for (uint32_t i = 0; i < MEMBERS; i++)
		if (!s->member[i]->dead)
			aqd_lessee_sampled(&s->w->l, &s->member[i]->lessee, 0, percent[i], SAMPLE,
					   s->w->now);
	aqd_lease_compare(s->f, 0, s->w->now);
	told(s);
}

/* @n times that, each with the same sample at its end. */
static void periods(struct scene *s, uint32_t n, uint32_t first_percent, uint32_t second_percent)
{
	for (uint32_t i = 0; i < n; i++) {
		pass(s);
		sample(s, first_percent, second_percent);
	}
}

static void assert_near(uint64_t found, uint64_t wanted, uint64_t slack)
{
	if (found + slack < wanted || found > wanted + slack)
		fail_msg("%llu us, not %llu", (unsigned long long)(found / US),
			 (unsigned long long)(wanted / US));
}

static void test_lease_use__siblings_slices_count_once(void **state)
{
	struct scene s = scene_new();
	uint64_t begin = told(&s);

	pass(&s);
	assert_true(told(&s) - begin > 400 * MS); /* the whole of its leases, before a sample */
	sample(&s, 20, 18);
	periods(&s, 6, 20, 18);
	assert_near(told(&s) - begin, 7 * 342 * MS, 20 * MS);
	/* From then on also between samples. */
	begin = told(&s);
	pass(&s);
	assert_near(told(&s) - begin, 342 * MS, 10 * MS);
	world_free(s.w);
}

static void test_lease_use__follows_what_changes(void **state)
{
	struct scene s = scene_new();
	uint64_t begin;

	periods(&s, 4, 10, 10);
	begin = told(&s);
	periods(&s, 10, 22, 22);
	assert_near(told(&s) - begin, 10 * 396 * MS, 20 * MS);
	world_free(s.w);
}

/* Percents that are now above and now below what is true do not add up. */
static void test_lease_use__percents_are_no_drift(void **state)
{
	struct scene s = scene_new();
	uint64_t begin = told(&s);

	for (uint32_t i = 0; i < 20; i++) {
		pass(&s);
		sample(&s, i & 2 ? 25 : 24, i & 2 ? 26 : 25); /* of 50: all that was measured */
	}
	assert_near(told(&s) - begin, 20 * SAMPLE / 2, 25 * MS);
	world_free(s.w);
}

/* A driver that says too much adds nothing to what was measured, now or later. */
static void test_lease_use__samples_only_take_off(void **state)
{
	struct scene s = scene_new(), without = scene_new();
	uint64_t begin;

	for (uint32_t i = 0; i < 4; i++) {
		pass(&s);
		pass(&without);
		sample(&s, 100, 100);
		assert_true(told(&s) <= told(&without));
	}
	assert_near(told(&s), told(&without), 0);
	begin = told(&s);
	periods(&s, 12, 20, 20);
	assert_near(told(&s) - begin, 12 * 360 * MS, 25 * MS);
	world_free(s.w);
	world_free(without.w);
}

/* A higher priority comes all the time, so that none of their leases ends in its time. */
static struct scene passed_over(void)
{
	struct scene s = scene_new();
	struct guard *high = add(s.w, 100, 1000, 2, 100 * US);

	s.other->idle_ns = 3600 * S;
	high->busy_ns = 100 * US;
	high->idle_ns = 3 * MS;
	return s;
}

static void test_lease_use__siblings_that_are_passed_over(void **state)
{
	struct scene s = passed_over(), without = passed_over();
	uint64_t begin = told(&s);

	for (uint32_t i = 0; i < 8; i++) {
		pass(&s);
		pass(&without);
		sample(&s, 45, 35);
		assert_true(told(&without) <= without.w->now); /* since it began */
	}
	assert_near(told(&s) - begin, 8 * 720 * MS, 30 * MS);
	world_free(s.w);
	world_free(without.w);
}

/* The hardware slices the device between it and who has a lease, nobody knows how. */
static void test_lease_use__an_overrunner(void **state)
{
	struct scene s = scene_new();
	uint64_t begin;

	die(s.w, s.member[1]);
	s.member[0]->kernel_ns = 60 * MS;
	run(s.w, 500 * MS);
	periods(&s, 5, 60, 0);
	assert_true(s.w->overruns > 50);
	begin = told(&s);
	periods(&s, 10, 60, 0);
	assert_near(told(&s) - begin, 10 * 540 * MS, 100 * MS); /* counted when a kernel ends */
	begin = told(&s);
	periods(&s, 10, 30, 0);
	assert_near(told(&s) - begin, 10 * 270 * MS, 100 * MS);
	world_free(s.w);
}

/* It measures nothing before its kernel ends: until then, and in the end, samples tell. */
static void test_lease_use__an_overrun_counts_while_it_lasts(void **state)
{
	struct scene s = scene_new();
	uint64_t begin;

	die(s.w, s.member[1]);
	s.member[0]->kernel_ns = 5 * S;
	periods(&s, 2, 40, 0);
	begin = told(&s);
	for (uint32_t i = 1; i <= 30; i++) {
		periods(&s, 1, 40, 0);
		assert_near(told(&s) - begin, i * 360 * MS, 60 * MS);
	}
	assert_in_range(s.w->returns, 4, 6);
	world_free(s.w);
}

/* Passed over, one is not alone with the device either: a third has overrun. */
static void test_lease_use__passed_over_beside_an_overrunner(void **state)
{
	struct scene s = passed_over();
	uint64_t begin;

	die(s.w, s.member[1]);
	s.other->idle_ns = 0;
	s.other->kernel_ns = 5 * S;
	periods(&s, 2, 40, 0);
	assert_int_equal(s.w->overruns, 1);
	begin = told(&s);
	periods(&s, 4, 40, 0);
	assert_near(told(&s) - begin, 4 * 360 * MS, 50 * MS);
	world_free(s.w);
}

/* Nobody waits, so that the lease beside an overrunner goes on and on, and tells as it goes. */
static void test_lease_use__a_long_lease_beside_an_overrunner(void **state)
{
	struct scene s = scene_new();
	struct guard *g = s.member[0];
	uint64_t begin = 0;

	die(s.w, s.member[1]);
	s.other->kernel_ns = 60 * S;
	for (uint32_t i = 0; i < 6; i++) {
		for (uint32_t k = 0; k < 90; k++) {
			run(s.w, SAMPLE / 90);
			g->page.device[0].gpu_ns += g->used_ns;
			g->used_ns = 0;
			aqd_leases_look(&s.w->l, s.w->now);
		}
		sample(&s, 40, 0);
		if (i == 1)
			begin = told(&s);
	}
	assert_int_equal(s.w->overruns, 1);
	assert_near(told(&s) - begin, 4 * 360 * MS, 20 * MS);
	world_free(s.w);
}

/* As long as the fraction had the device, to the instant; the driver says part of that. */
static uint64_t sample_exactly(struct scene *s, uint32_t percent)
{
	uint64_t had = 0;

	for (uint32_t k = 0; k < 1234; k++) {
		run(s->w, 100 * US);
		had += s->f->given ? 100 * US : 0;
	}
	aqd_lessee_sampled(&s->w->l, &s->member[0]->lessee, 0, percent, had, s->w->now);
	aqd_lease_compare(s->f, 0, s->w->now);
	told(s);
	return had;
}

/* What samples tell of a lease that is not over is measured when it is, and counts once. */
static void test_lease_use__a_lease_under_way_counts_once(void **state)
{
	struct scene s = scene_new();
	uint64_t begin, had = 0;

	for (uint32_t i = 0; i < MEMBERS; i++)
		s.member[i]->kernel_ns = 15 * MS;
	for (uint32_t i = 0; i < 8; i++)
		sample_exactly(&s, 60);
	begin = told(&s);
	for (uint32_t i = 0; i < 20; i++)
		had += sample_exactly(&s, 100);
	die(s.w, s.member[1]);
	for (uint32_t i = 0; i < 4; i++) /* nothing is guessed from here on */
		had += sample_exactly(&s, 100);
	assert_near(told(&s) - begin, had, 2 * MS);
	world_free(s.w);
}

/* It has the device to itself in its leases: marks are better than whole percents. */
static void test_lease_use__one_at_a_time_counts_as_measured(void **state)
{
	struct scene s = scene_new();
	uint64_t begin, before;

	s.member[1]->idle_ns = 3600 * S; /* sleeps */
	run(s.w, 100 * MS);
	begin = told(&s);
	before = s.member[0]->total_ns;
	periods(&s, 5, 30, 0);
	assert_near(told(&s) - begin, s.member[0]->total_ns - before, 5 * MS);
	world_free(s.w);
}

static void test_lease_use__death_of_a_sibling(void **state)
{
	struct scene s = scene_new();
	uint64_t begin = told(&s);

	periods(&s, 3, 20, 20);
	assert_near(told(&s) - begin, 3 * 360 * MS, 20 * MS);
	die(s.w, s.member[1]);
	begin = told(&s);
	periods(&s, 3, 50, 0);
	assert_near(told(&s) - begin, 3 * 450 * MS, 20 * MS);
	world_free(s.w);
}

/* Without samples it is what both measured, but never more than has passed, whatever they claim. */
static void test_lease_use__never_more_than_the_time(void **state)
{
	struct scene s = scene_new();
	uint64_t begin, from;

	s.other->kernel_ns = s.other->busy_ns = 10 * US;
	s.other->idle_ns = 2 * MS;
	for (uint32_t i = 0; i < MEMBERS; i++) { /* many short leases */
		s.member[i]->lie_ns = 700 * US;
		s.member[i]->busy_ns = 300 * US;
		s.member[i]->idle_ns = 10 * US;
	}
	run(s.w, 100 * MS);
	begin = told(&s);
	from = s.w->now;
	for (uint32_t i = 0; i < 4; i++)
		pass(&s);
	assert_true(told(&s) - begin > 3 * SAMPLE);
	assert_true(told(&s) - begin <= s.w->now - from + 5 * MS); /* a lease under way */
	world_free(s.w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lease_use__siblings_slices_count_once),
		cmocka_unit_test(test_lease_use__follows_what_changes),
		cmocka_unit_test(test_lease_use__percents_are_no_drift),
		cmocka_unit_test(test_lease_use__samples_only_take_off),
		cmocka_unit_test(test_lease_use__siblings_that_are_passed_over),
		cmocka_unit_test(test_lease_use__an_overrunner),
		cmocka_unit_test(test_lease_use__an_overrun_counts_while_it_lasts),
		cmocka_unit_test(test_lease_use__passed_over_beside_an_overrunner),
		cmocka_unit_test(test_lease_use__a_long_lease_beside_an_overrunner),
		cmocka_unit_test(test_lease_use__a_lease_under_way_counts_once),
		cmocka_unit_test(test_lease_use__one_at_a_time_counts_as_measured),
		cmocka_unit_test(test_lease_use__death_of_a_sibling),
		cmocka_unit_test(test_lease_use__never_more_than_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
