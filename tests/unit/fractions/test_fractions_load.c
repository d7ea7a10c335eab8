/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the load generator wrote. */
#include "../cm.h"

#include <errno.h>
#include <math.h>

#include "bench/fractions/load.h"

#define SPREAD(n, p50, p95, max)                                                                   \
	"{\"count\":" #n ",\"p50\":" #p50 ",\"p95\":" #p95 ",\"p99\":7.5,\"max\":" #max "}"
#define RESULT(ok, failed, spread)                                                                 \
	"{\"requests\":12,\"ok\":" #ok ",\"failed\":" #failed ",\"unfinished\":2,"                 \
	"\"tokens_per_second\":345.5,\"requests_per_second\":2,\"ttft_ms\":" spread                \
	",\"itl_ms\":" spread "}"

static void test_fractions_load__reads_all_of_it(void **state)
{
	struct fr_result total, each[2];

	assert_int_equal(
		fr_result_read(
			"{\"total\":" RESULT(
				9, 1,
				SPREAD(10, 100, 900,
				       999.5)) ",\"targets\":[{\"result\":" RESULT(5, 0,
										   SPREAD(5, 1, 2,
											  3)) "},{"
											      "\"re"
											      "sult"
											      "\""
											      ":" RESULT(4,
													 1,
													 SPREAD(0,
														0,
														0,
														0)) "}]}",
			2, &total, each),
		0);
	assert_int_equal(total.requests, 12);
	assert_int_equal(total.ok, 9);
	assert_int_equal(total.failed, 1);
	assert_int_equal(total.unfinished, 2);
	assert_true(total.tokens_per_second == 345.5 && total.ttft_p50 == 100);
	assert_true(total.ttft_p95 == 900 && total.ttft_max == 999.5 && total.itl_p99 == 7.5);
	assert_true(each[0].ttft_max == 3);
	assert_true(isnan(each[1].ttft_p50) && isnan(each[1].ttft_max) && isnan(each[1].itl_p50));
}

/* 40 ms late for gaps of 1 ms: nothing is known of the gaps, and all of the rest. */
static void test_fractions_load__doubts_a_late_generator(void **state)
{
	struct fr_result total, each[1];

	assert_int_equal(
		fr_result_read(
			"{\"total\":" RESULT(
				9, 1,
				SPREAD(9, 1, 2,
				       3)) ",\"targets\":[{\"result\":" RESULT(9, 1,
									       SPREAD(9, 50, 60,
										      70)) "}],"
											   "\"gener"
											   "ator\":"
											   "{\"read"
											   "_lag\":"
											   "{\"p99_"
											   "ms\":"
											   "40}}}",
			1, &total, each),
		0);
	assert_true(isnan(total.itl_p50) && isnan(total.itl_p99) && total.ttft_p50 == 1);
	assert_true(each[0].itl_p50 == 50 && each[0].lag_p99 == 40);
}

static void test_fractions_load__refuses_what_is_something_else(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"null",
		"{\"total\":{}}",
		"{\"total\":[],\"targets\":[{}]}",
		"{\"total\":" RESULT(9, 1, "3") "}",
		"{\"total\":" RESULT(9, 1, "3") ",\"targets\":[{}]}",
		"{\"total\":" RESULT(9, 1, "3") ",\"targets\":[{},{}]}",
		"{\"total\":" RESULT(9, 1, "3") ",\"targets\":{\"result\":1}}"};
	struct fr_result total, each[2];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(fr_result_read(texts[i], 1, &total, each), -EPROTO);
}

static void test_fractions_load__within_is_every_one_and_no_failure(void **state)
{
	struct fr_result r = {.ok = 5, .ttft_p95 = 10, .ttft_max = 1000};

	assert_true(fr_result_within(&r, 1000));
	r.ttft_max = 1000.1;
	assert_false(fr_result_within(&r, 1000));
	r.ttft_max = 10;
	r.failed = 1;
	assert_false(fr_result_within(&r, 1000));
	r = (struct fr_result){.ttft_max = NAN}; /* nothing was answered */
	assert_false(fr_result_within(&r, 1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fractions_load__reads_all_of_it),
		cmocka_unit_test(test_fractions_load__doubts_a_late_generator),
		cmocka_unit_test(test_fractions_load__refuses_what_is_something_else),
		cmocka_unit_test(test_fractions_load__within_is_every_one_and_no_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
