/* SPDX-License-Identifier: Apache-2.0 */
/* The search for the most users, on servers whose waits are known. */
#include "../cm.h"

#include <math.h>

#include "bench/fractions/search.h"

struct outcome {
	size_t steps;
	uint32_t best; /* 0 nobody */
};

/* Waits of @slope ms a user over @base, all failing from @cliff users on. */
static struct outcome search(uint32_t first, uint32_t most, double slope, double base,
			     uint32_t cliff, size_t steps_most, double precision)
{
	struct fr_search s = {.bound_ms = 1000,
			      .first = first,
			      .most = most,
			      .precision = precision,
			      .steps_most = steps_most,
			      .grow_most = 4};
	struct fr_step steps[64];
	struct outcome o = {.steps = 0};
	uint32_t users;
	size_t best;

	while ((users = fr_search_next(&s, steps, o.steps))) {
		double wait = users >= cliff ? NAN : base + slope * users;

		assert_in_range(users, 1, most);
		for (size_t i = 0; i < o.steps; i++)
			assert_int_not_equal(users, steps[i].users);
		assert_true(o.steps < 64);
		steps[o.steps++] = (struct fr_step){users, wait, wait <= 1000};
	}
	best = fr_search_best(steps, o.steps);
	o.best = best == SIZE_MAX ? 0 : steps[best].users;
	return o;
}

static void test_fractions_search__finds_the_count(void **state)
{
	static const double slopes[] = {0.5, 3, 10.3, 77, 400};

	for (size_t i = 0; i < sizeof(slopes) / sizeof(slopes[0]); i++) {
		const uint32_t want = (uint32_t)((1000 - 20) / slopes[i]);

		for (uint32_t first = 1; first < 1000; first = first * 3 + 1) {
			struct outcome o = search(first, 4096, slopes[i], 20, UINT32_MAX, 60, 0);

			assert_int_equal(o.best, want);
		}
	}
}

static void test_fractions_search__few_steps_come_near(void **state)
{
	for (uint32_t first = 30; first < 300; first += 30) {
		struct outcome o = search(first, 4096, 10, 30, UINT32_MAX, 4, 0.05);

		assert_in_range(o.steps, 1, 4);
		assert_in_range(o.best, 85, 97);
	}
}

/* Short waits until places run out, and then 20 ms for each user too many. */
static void test_fractions_search__small_steps_come_near_a_corner(void **state)
{
	struct fr_search s = {.bound_ms = 1000,
			      .first = 256,
			      .most = 4096,
			      .precision = 0.05,
			      .steps_most = 5,
			      .grow_most = 1.4};
	struct fr_step steps[8];
	size_t count = 0;
	uint32_t users;

	while ((users = fr_search_next(&s, steps, count))) {
		double wait = users < 300 ? 100 : 100 + 20.0 * (users - 300);

		assert_true(count < 5);
		assert_in_range(users, 1, count ? steps[0].users * 2 : 256);
		steps[count++] = (struct fr_step){users, wait, wait <= 1000};
	}
	assert_in_range(steps[fr_search_best(steps, count)].users, 325, 345);
}

static void test_fractions_search__failures_are_no_answer(void **state)
{
	struct outcome o = search(64, 4096, 1, 1, 50, 60, 0);

	assert_int_equal(o.best, 49);
	assert_int_equal(search(64, 4096, 1, 1, 0, 60, 0).best, 0);
	assert_int_equal(search(5, 4096, 0, 1001, UINT32_MAX, 60, 0).best, 0);
}

static void test_fractions_search__keeps_its_limits(void **state)
{
	assert_int_equal(search(10, 40, 0.1, 0, UINT32_MAX, 60, 0).best, 40);
	assert_int_equal(search(10, 4096, 3, 0, UINT32_MAX, 1, 0).steps, 1);
	/* A first try that is far too high is followed by some that look for anything at all. */
	assert_in_range(search(4096, 4096, 30, 0, UINT32_MAX, 1, 0).best, 25, 33);
	assert_int_equal(search(4096, 4096, 3, 1001, UINT32_MAX, 1, 0).steps, 4);
	assert_int_equal(search(4096, 4096, 0, 0, UINT32_MAX, 60, 0).steps, 1);
	assert_int_equal(search(1, 1, 2000, 0, UINT32_MAX, 60, 0).steps, 1);
}

/* More users passed than failed: measurements contradict each other. */
static void test_fractions_search__believes_the_smaller_failure(void **state)
{
	static const struct fr_step steps[] = {{10, 500, true}, {20, 1200, false}, {30, 900, true}};

	assert_int_equal(fr_search_best(steps, 3), 0);
	assert_int_equal(fr_search_best(steps + 1, 2), SIZE_MAX);
	assert_int_equal(fr_search_best(steps, 0), SIZE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fractions_search__finds_the_count),
		cmocka_unit_test(test_fractions_search__few_steps_come_near),
		cmocka_unit_test(test_fractions_search__small_steps_come_near_a_corner),
		cmocka_unit_test(test_fractions_search__failures_are_no_answer),
		cmocka_unit_test(test_fractions_search__keeps_its_limits),
		cmocka_unit_test(test_fractions_search__believes_the_smaller_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
