/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles, distributions by seed, summaries, and the search for the most users. */
#include "cm.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "serve/hist.h"
#include "serve/lengths.h"
#include "serve/search.h"
#include "serve/spread.h"

static void test_percentile__is_the_nearest_rank(void **state)
{
	const double values[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

	assert_true(aq_percentile(values, 10, 50) == 5);
	assert_true(aq_percentile(values, 10, 95) == 10);
	assert_true(aq_percentile(values, 10, 90) == 9);
	assert_true(aq_percentile(values, 10, 0) == 1);
	assert_true(aq_percentile(values, 10, 100) == 10);
	assert_true(aq_percentile(values, 1, 99) == 1);
	assert_true(aq_percentile(values, 0, 99) == 0);
}

static void test_hist__is_near_the_exact(void **state)
{
	static struct aq_hist h, half, other;
	static double exact[20000];
	struct aq_random random;

	aq_random_seed(&random, 1, 2);
	for (size_t i = 0; i < 20000; i++) {
		/* From 100 ns to 100 s. */
		uint64_t ns = (uint64_t)(100 * exp(aq_random_unit(&random) * log(1e9)));

		exact[i] = (double)ns;
		aq_hist_add(&h, ns);
		aq_hist_add(i % 2 ? &half : &other, ns);
	}
	qsort(exact, 20000, sizeof(double), aq_compare_doubles);
	for (double p = 0; p <= 100; p += 0.5) {
		double got = (double)aq_hist_percentile(&h, p), want = aq_percentile(exact, 20000, p);

		assert_true(fabs(got - want) <= want * 0.0025 + 1);
	}
	aq_hist_merge(&half, &other);
	assert_memory_equal(&half, &h, sizeof(h));
}

static void test_hist__holds_any_value(void **state)
{
	static struct aq_hist h;

	assert_int_equal(aq_hist_percentile(&h, 50), 0);
	aq_hist_add(&h, 0);
	aq_hist_add(&h, UINT64_MAX);
	assert_int_equal(aq_hist_percentile(&h, 0), 0);
	assert_true(aq_hist_percentile(&h, 100) == UINT64_MAX);
}

static void test_random__streams_repeat_and_differ(void **state)
{
	struct aq_random a, b, c, d;

	aq_random_seed(&a, 1, 2);
	aq_random_seed(&b, 1, 2);
	aq_random_seed(&c, 2, 1);
	aq_random_seed(&d, 1, 3);
	for (int i = 0; i < 100; i++) {
		uint64_t x = aq_random_next(&a);

		assert_true(x == aq_random_next(&b));
		assert_true(x != aq_random_next(&c));
		assert_true(x != aq_random_next(&d));
	}
}

/* Mean 1, variance 1 / shape: within six deviations of what 20,000 draws give. */
static void test_random__gaps_have_their_mean_and_burstiness(void **state)
{
	const double shapes[] = {0.25, 1, 4};

	for (size_t k = 0; k < 3; k++) {
		struct aq_random random;
		double sum = 0, squares = 0, n = 20000;

		aq_random_seed(&random, 5, k);
		for (int i = 0; i < (int)n; i++) {
			double x = aq_random_gamma(&random, shapes[k]);

			assert_true(x >= 0);
			sum += x;
			squares += x * x;
		}
		assert_true(fabs(sum / n - 1) < 6 * sqrt(1 / shapes[k] / n));
		assert_true(fabs((squares / n - 1) * shapes[k] - 1) < 0.25);
	}
}

static double mean_of(const char *text, double *ret_sd, uint32_t *ret_min, uint32_t *ret_max)
{
	struct aq_random random;
	struct aq_dist d;
	double sum = 0, squares = 0;

	assert_int_equal(aq_dist_parse(text, &d), 0);
	aq_random_seed(&random, 9, 9);
	*ret_min = UINT32_MAX;
	*ret_max = 0;
	for (int i = 0; i < 20000; i++) {
		uint32_t x = aq_dist_draw(&d, &random);

		assert_in_range(x, 1, AQ_LENGTH_MAX);
		*ret_min = x < *ret_min ? x : *ret_min;
		*ret_max = x > *ret_max ? x : *ret_max;
		sum += x;
		squares += (double)x * x;
	}
	*ret_sd = sqrt(squares / 20000 - sum / 20000 * sum / 20000);
	return sum / 20000;
}

static void test_lengths__have_their_mean_and_deviation(void **state)
{
	uint32_t min, max;
	double sd;

	assert_true(mean_of("512", &sd, &min, &max) == 512 && sd == 0);
	assert_true(fabs(mean_of("uniform:100:300", &sd, &min, &max) - 200) < 2);
	assert_int_equal(min, 100);
	assert_int_equal(max, 300);
	assert_true(fabs(mean_of("normal:1000:100", &sd, &min, &max) - 1000) < 4);
	assert_true(fabs(sd - 100) < 4);
	assert_true(fabs(mean_of("lognormal:1000:500", &sd, &min, &max) - 1000) < 20);
	assert_true(fabs(sd - 500) < 40);
	mean_of("normal:1:100", &sd, &min, &max); /* stays in range */
	assert_int_equal(min, 1);
}

static void test_lengths__refuses_other_texts(void **state)
{
	static const char *const bad[] = {"", "x", "0", "-1", "1000001", "5x", "1e3", "uniform:5",
					  "uniform:9:5", "uniform:1:2:3", "normal:5:", "gamma:1:2",
					  "normal:0:1", "1.2.3", "uniform", "lognormal:nan:1"};
	struct aq_dist d;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(aq_dist_parse(bad[i], &d) < 0);
}

static void test_lengths__reads_pairs(void **state)
{
	struct aq_lengths l;
	size_t line = 0;

	assert_int_equal(aq_lengths_parse("isl,osl\n# old\n5,6\n\n7 8\r\n9;10", &l, &line), 0);
	assert_int_equal(l.count, 3);
	assert_int_equal(l.pair[2][0], 9);
	assert_int_equal(l.pair[1][1], 8);
	aq_lengths_finish(&l);
	assert_int_equal(aq_lengths_parse("1,2\n3\n", &l, &line), -EINVAL);
	assert_int_equal(line, 2);
	assert_int_equal(aq_lengths_parse("1,2\n0,2\n", &l, &line), -EINVAL);
	assert_int_equal(aq_lengths_parse("isl\n", &l, &line), -ENODATA);
}

/* Search over a server that takes @p95 and @every users; count steps. */
static size_t search(uint32_t first, uint32_t most, double precision, uint32_t p95, uint32_t every,
		     uint32_t best[2])
{
	const struct aq_search_limits limits = {.first = first, .most = most,
						.precision = precision, .every = true};
	struct aq_search_step steps[100];
	size_t n = 0;
	uint32_t users;

	while ((users = aq_search_next(&limits, steps, n))) {
		assert_in_range(users, 1, most);
		assert_true(n < 100);
		for (size_t i = 0; i < n; i++)
			assert_int_not_equal(steps[i].users, users); /* nothing is tried twice */
		steps[n++] = (struct aq_search_step){users, {users <= p95, users <= every}};
	}
	best[0] = aq_search_best(steps, n, AQ_SEARCH_P95);
	best[1] = aq_search_best(steps, n, AQ_SEARCH_EVERY);
	return n;
}

static void test_search__finds_every_capacity(void **state)
{
	uint32_t best[2];

	for (uint32_t capacity = 0; capacity <= 300; capacity++) {
		size_t n = search(1 + capacity % 50, 256, 1e-9, capacity, capacity / 2, best);

		assert_int_equal(best[0], capacity < 256 ? capacity : 256);
		assert_int_equal(best[1], capacity / 2 < 256 ? capacity / 2 : 256);
		assert_true(n <= 24);
	}
}

static void test_search__stops_when_near(void **state)
{
	uint32_t best[2];
	size_t n = search(1, 100000, 0.05, 7777, 7777, best);

	assert_in_range(best[0], 7777 - 7777 / 20, 7777);
	assert_true(n <= 19);
}

static void test_search__grows_as_told(void **state)
{
	const struct aq_search_limits limits = {.first = 1, .most = 100, .growth = 1.5, .precision = 0.1};
	struct aq_search_step steps[20];
	uint32_t users, n = 0;

	while ((users = aq_search_next(&limits, steps, n))) {
		assert_true(n < 20 && (!n || users > steps[n - 1].users));
		steps[n++] = (struct aq_search_step){users, {true, true}};
	}
	assert_int_equal(steps[n - 1].users, 100);
	assert_int_equal(steps[1].users, 2);
	assert_int_equal(steps[3].users, 4);
	assert_int_equal(steps[4].users, 6);
}

static void test_search__believes_the_smaller_failure(void **state)
{
	const struct aq_search_step steps[] = {
		{10, {true, true}}, {20, {false, false}}, {40, {true, true}}};

	assert_int_equal(aq_search_best(steps, 3, AQ_SEARCH_P95), 10);
}

static void test_spread__hands_out_all_users(void **state)
{
	struct aq_target targets[3] = {{.rate = 0}};

	for (uint32_t users = 0; users < 50; users++) {
		uint32_t sum = 0;

		aq_spread_users(targets, 3, users);
		for (int i = 0; i < 3; i++) {
			assert_in_range(targets[i].plan[0].users, users / 3, users / 3 + 1);
			sum += targets[i].plan[0].users;
		}
		assert_int_equal(sum, users);
	}
}

static struct aq_record record(uint64_t start_ms, uint64_t ttft_ms, uint64_t e2e_ms, uint32_t osl)
{
	return (struct aq_record){.start_ns = start_ms * 1000000,
				  .first_ns = (start_ms + ttft_ms) * 1000000,
				  .last_ns = (start_ms + e2e_ms) * 1000000,
				  .end_ns = (start_ms + e2e_ms) * 1000000,
				  .isl = 10,
				  .osl = osl,
				  .counted = start_ms >= 1000};
}

static void test_summary__counts_the_window(void **state)
{
	static struct aq_hist itl;
	struct aq_record records[] = {
		record(500, 10, 1000, 5), /* warm-up, but ends in the window */
		record(1000, 100, 500, 11), record(1500, 200, 600, 11), record(1900, 300, 5000, 11),
		record(1950, 0, 50, 0),
	};
	struct aq_target_result target = {.itl = &itl, .tokens_out = 30, .tokens_in = 20};
	struct aq_load_result result = {.records = records, .count = 5, .targets = &target,
					.target_count = 1, .window_begin_ns = 1000000000,
					.window_end_ns = 3000000000};
	const struct aq_bounds bounds = {.ttft_ns = 150000000};
	struct aq_search_row row;
	struct aq_summary s;

	records[4].end = AQ_END_S503;
	records[4].first_ns = 0;
	assert_int_equal(aq_summary_make(&result, &bounds, SIZE_MAX, &s), 0);
	assert_int_equal(s.requests, 4);
	assert_int_equal(s.ok, 3);
	assert_int_equal(s.failed, 1);
	assert_int_equal(s.ends[AQ_END_S503], 1);
	assert_true(s.requests_per_s == 1.5);      /* three ended in two seconds */
	assert_true(s.good_requests_per_s == 1);   /* two of them in time */
	assert_true(s.tokens_out_per_s == 15 && s.tokens_in_per_s == 10);
	assert_true(s.ttft.count == 3 && s.ttft.p50 == 200 && s.ttft.max == 300);
	assert_true(s.tpot.p50 == 40);             /* (500 - 100) / 10 */

	/* A failure is not within a bound, however good the rest. */
	assert_int_equal(aq_search_measure(&result, &(struct aq_bounds){.ttft_ns = 1000000000}, 7,
					   &row), 0);
	assert_false(row.step.within[AQ_SEARCH_P95]);
	records[4] = record(1950, 20, 50, 2);
	assert_int_equal(aq_search_measure(&result, &(struct aq_bounds){.ttft_ns = 300000000}, 7,
					   &row), 0);
	assert_true(row.step.within[AQ_SEARCH_P95] && row.step.within[AQ_SEARCH_EVERY]);
	/* Nor is one that never got its first token. */
	records[4].first_ns = 0;
	records[4].end_ns = 9000000000;
	records[4].end = AQ_END_CUT;
	assert_int_equal(aq_search_measure(&result, &(struct aq_bounds){.ttft_ns = 300000000}, 7,
					   &row), 0);
	assert_false(row.step.within[AQ_SEARCH_EVERY]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentile__is_the_nearest_rank),
		cmocka_unit_test(test_hist__is_near_the_exact),
		cmocka_unit_test(test_hist__holds_any_value),
		cmocka_unit_test(test_random__streams_repeat_and_differ),
		cmocka_unit_test(test_random__gaps_have_their_mean_and_burstiness),
		cmocka_unit_test(test_lengths__have_their_mean_and_deviation),
		cmocka_unit_test(test_lengths__refuses_other_texts),
		cmocka_unit_test(test_lengths__reads_pairs),
		cmocka_unit_test(test_search__finds_every_capacity),
		cmocka_unit_test(test_search__stops_when_near),
		cmocka_unit_test(test_search__grows_as_told),
		cmocka_unit_test(test_search__believes_the_smaller_failure),
		cmocka_unit_test(test_spread__hands_out_all_users),
		cmocka_unit_test(test_summary__counts_the_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
