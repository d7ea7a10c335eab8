/* SPDX-License-Identifier: Apache-2.0 */
/* Instants of the device on the host's clock, against a device whose clock is known. */
#include "tests/unit/cm.h"

#include "base/timing.h"
#include "guard/instant.h"

#define US AQ_NS_PER_US
#define MS AQ_NS_PER_MS

static uint64_t seed = 1;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % below;
}

static void test_instant__unseen_it_is_not_before_what_is_known(void **state)
{
	struct aq__instant i;

	aq__instant_begin(&i, 100);
	assert_int_equal(aq__instant_ns(&i), 100);
	aq__instant_not_before(&i, 300);
	aq__instant_not_before(&i, 200);
	assert_int_equal(aq__instant_ns(&i), 300);
	aq__instant_not_after(&i, 400);
	aq__instant_not_after(&i, 500);
	assert_int_equal(aq__instant_ns(&i), 350);
}

static void test_instant__what_is_told_last_is_right(void **state)
{
	struct aq__instant i;

	aq__instant_begin(&i, 100);
	aq__instant_not_after(&i, 50);
	assert_int_equal(aq__instant_ns(&i), 50);
	aq__instant_not_before(&i, 70);
	assert_int_equal(aq__instant_ns(&i), 70);
}

static void test_instant__nothing_wraps_at_the_beginning_of_time(void **state)
{
	struct aq__instant i;

	aq__instant_begin(&i, 0);
	aq__instant_seen_after(&i, 10 * MS, 5 * MS, 6 * MS); /* by a driver that tells nonsense */
	assert_int_equal(aq__instant_ns(&i), 0);
	assert_int_equal(i.to_ns, 0);
}

/* Whatever is seen, and however late, the truth is never left out, and the guess is as good as the
 * best of what was seen. */
static void test_instant__the_truth_stays_inside(void **state)
{
	for (int round = 0; round < 2000; round++) {
		uint64_t truth = 1000 * MS + draw(MS), recorded = truth - draw(300 * US);
		uint64_t least = truth - recorded, most = UINT64_MAX;
		struct aq__instant i;

		aq__instant_begin(&i, recorded);
		for (int k = 0; k < 20; k++) {
			uint64_t after = draw(4 * MS), early = draw(500 * US),
				 late = draw(500 * US);

			aq__instant_seen_after(&i, after, truth + after - early,
					       truth + after + late);
			least = early < least ? early : least;
			most = late < most ? late : most;
			assert_in_range(truth, i.from_ns, i.to_ns);
		}
		/* A microsecond, and 100 ppm of 4 ms, at both ends. */
		assert_in_range(i.to_ns - i.from_ns, least + most, least + most + 3 * US);
	}
}

static void test_instant__one_tells_where_the_next_one_lies(void **state)
{
	uint64_t truth = 1000 * MS;
	struct aq__instant i, next;

	aq__instant_begin(&i, truth - 4 * US);
	aq__instant_not_after(&i, truth + 4 * US);
	for (int k = 0; k < 100; k++) {
		uint64_t after = 3 * MS + draw(MS);

		truth += after + after / 20000; /* 50 ppm */
		aq__instant_begin(&next, truth - 2 * MS);
		aq__instant_not_after(&next, truth + MS);
		aq__instant_follows(&next, &i, after);
		assert_in_range(truth, next.from_ns, next.to_ns);
		aq__instant_not_before(&next, truth - 5 * US); /* one that was looked at in time */
		aq__instant_not_after(&next, truth + 5 * US);
		assert_in_range(aq__instant_ns(&next), truth - 5 * US, truth + 5 * US);
		i = next;
	}
	/* One of which only the beginning is known tells nothing of the end. */
	aq__instant_begin(&i, truth);
	aq__instant_begin(&next, truth);
	aq__instant_follows(&next, &i, MS);
	assert_int_equal(next.to_ns, UINT64_MAX);
	assert_in_range(next.from_ns, truth + MS - 2 * US, truth + MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instant__unseen_it_is_not_before_what_is_known),
		cmocka_unit_test(test_instant__what_is_told_last_is_right),
		cmocka_unit_test(test_instant__nothing_wraps_at_the_beginning_of_time),
		cmocka_unit_test(test_instant__the_truth_stays_inside),
		cmocka_unit_test(test_instant__one_tells_where_the_next_one_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
