/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the load generator wrote. */
#include "../cm.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "bench/fractions/load.h"

/* A result with @failed failures, whose waits and gaps are @spread. */
static char *result_of(int ok, int failed, const char *spread)
{
	char *text;

	assert_true(asprintf(&text,
			     "{\"requests\":12,\"ok\":%d,\"failed\":%d,\"unfinished\":2,"
			     "\"tokens_per_second\":345.5,\"requests_per_second\":2,"
			     "\"ttft_ms\":%s,\"itl_ms\":%s}",
			     ok, failed, spread, spread) > 0);
	return text;
}

/* What the generator writes: takes the results; @b may be NULL. */
static char *output_of(char *total, char *a, char *b, const char *more)
{
	char *text;

	assert_true(asprintf(&text, "{\"total\":%s,\"targets\":[{\"result\":%s}%s%s%s]%s}", total, a,
			     b ? ",{\"result\":" : "", b ? b : "", b ? "}" : "", more) > 0);
	free(total);
	free(a);
	free(b);
	return text;
}

static const char nothing[] = "{\"count\":0,\"p50\":0,\"p95\":0,\"p99\":7.5,\"max\":0}";

static void test_fractions_load__reads_all_of_it(void **state)
{
	static const char first[] =
		"{\"count\":10,\"p50\":100,\"p95\":900,\"p99\":7.5,\"max\":999.5}";
	static const char second[] = "{\"count\":5,\"p50\":1,\"p95\":2,\"p99\":7.5,\"max\":3}";
	char *text = output_of(result_of(9, 1, first), result_of(5, 0, second),
			       result_of(4, 1, nothing), "");
	struct fr_result total, each[2];

	assert_int_equal(fr_result_read(text, 2, &total, each), 0);
	free(text);
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
	static const char short_gaps[] =
		"{\"count\":9,\"p50\":1,\"p95\":2,\"p99\":7.5,\"max\":3}";
	static const char long_gaps[] =
		"{\"count\":9,\"p50\":50,\"p95\":60,\"p99\":7.5,\"max\":70}";
	char *text = output_of(result_of(9, 1, short_gaps), result_of(9, 1, long_gaps), NULL,
			       ",\"generator\":{\"read_lag\":{\"p99_ms\":40}}");
	struct fr_result total, each[1];

	assert_int_equal(fr_result_read(text, 1, &total, each), 0);
	free(text);
	assert_true(isnan(total.itl_p50) && isnan(total.itl_p99) && total.ttft_p50 == 1);
	assert_true(each[0].itl_p50 == 50 && each[0].lag_p99 == 40);
}

static void test_fractions_load__refuses_what_is_something_else(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{\"total\":{}}",
					    "{\"total\":[],\"targets\":[{}]}"};
	static const char *const targets[] = {"", ",\"targets\":[{}]", ",\"targets\":[{},{}]",
					      ",\"targets\":{\"result\":1}"};
	struct fr_result total, each[2];

	for (size_t i = 0; i < AQ_ARRAY_SIZE(texts); i++)
		assert_int_equal(fr_result_read(texts[i], 1, &total, each), -EPROTO);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(targets); i++) {
		char *text, *result = result_of(9, 1, "3");

		assert_true(asprintf(&text, "{\"total\":%s%s}", result, targets[i]) > 0);
		assert_int_equal(fr_result_read(text, 1, &total, each), -EPROTO);
		free(result);
		free(text);
	}
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
