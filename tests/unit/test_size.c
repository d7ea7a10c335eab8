/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, shares and durations as people type them. */
#include "cm.h"

#include <errno.h>

#include "base/size.h"
#include "base/timing.h"

static void test_size__accepts_what_people_write(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{"0", 0},
		{"1", 1},
		{"512", 512},
		{"10b", 10},
		{"20G", 20 * AQ_GIB},
		{"20g", 20 * AQ_GIB},
		{"20GB", 20 * AQ_GIB},
		{"20GiB", 20 * AQ_GIB},
		{"512M", 512 * AQ_MIB},
		{"1.5G", 3 * AQ_GIB / 2},
		{".5k", 512},
		{"0.000000001T", 1099},
		{"9223372036854775807", INT64_MAX},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 42;

		assert_int_equal(aq_size_parse(cases[i].text, &bytes), 0);
		assert_int_equal(bytes, cases[i].bytes);
	}
}

static void test_size__refuses_the_rest_and_changes_nothing(void **state)
{
	static const struct {
		const char *text;
		int error;
	} cases[] = {
		{"", -EINVAL},
		{"G", -EINVAL},
		{"-1", -EINVAL},
		{"+1", -EINVAL},
		{" 1", -EINVAL},
		{"1 G", -EINVAL},
		{"1G ", -EINVAL},
		{"1.", -EINVAL},
		{"1.5", -EINVAL},
		{"1..5G", -EINVAL},
		{"1.5.5G", -EINVAL},
		{"1X", -EINVAL},
		{"1GBB", -EINVAL},
		{"1iB", -EINVAL},
		{"0x10", -EINVAL},
		{"1e3", -EINVAL},
		{"nan", -EINVAL},
		{"1.0000000001G", -EINVAL},
		{"9223372036854775808", -ERANGE},
		{"18446744073709551616", -ERANGE},
		{"99999999999999999999999999G", -ERANGE},
		{"8388608T", -ERANGE},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 42;

		assert_int_equal(aq_size_parse(cases[i].text, &bytes), cases[i].error);
		assert_int_equal(bytes, 42);
	}
}

static void test_size__prints_one_decimal(void **state)
{
	char buf[AQ_SIZE_TEXT];

	assert_string_equal(aq_size_format(0, buf), "0 B");
	assert_string_equal(aq_size_format(1023, buf), "1023 B");
	assert_string_equal(aq_size_format(1024, buf), "1 KiB");
	assert_string_equal(aq_size_format(1536, buf), "1.5 KiB");
	assert_string_equal(aq_size_format(20 * AQ_GIB, buf), "20 GiB");
	assert_string_equal(aq_size_format(UINT64_MAX, buf), "15.9 EiB");
}

static void test_share__is_permille_without_rounding(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint32_t permille;
	} cases[] = {
		{"0.5", 0, 500},       {".25", 0, 250},     {"1", 0, 1000},
		{"1.000", 0, 1000},    {"0.01", 0, 10},     {"0.125", 0, 125},
		{"0.009", -ERANGE, 7}, {"0", -ERANGE, 7},   {"1.001", -ERANGE, 7},
		{"2", -ERANGE, 7},     {"0.1255", -EINVAL, 7}, {"50%", -EINVAL, 7},
		{"half", -EINVAL, 7},  {"", -EINVAL, 7},    {"0,5", -EINVAL, 7},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t permille = 7;

		assert_int_equal(aq_share_parse(cases[i].text, &permille), cases[i].result);
		assert_int_equal(permille, cases[i].permille);
	}
}

static void test_duration__has_units_and_an_end(void **state)
{
	uint64_t ns = 0;

	assert_int_equal(aq_duration_parse("10", &ns), 0);
	assert_int_equal(ns, 10 * AQ_NS_PER_S);
	assert_int_equal(aq_duration_parse("500ms", &ns), 0);
	assert_int_equal(ns, 500 * AQ_NS_PER_MS);
	assert_int_equal(aq_duration_parse("1.5m", &ns), 0);
	assert_int_equal(ns, 90 * AQ_NS_PER_S);
	assert_int_equal(aq_duration_parse("31d", &ns), -ERANGE);
	assert_int_equal(aq_duration_parse("99999999999999999h", &ns), -ERANGE);
	assert_int_equal(aq_duration_parse("5 s", &ns), -EINVAL);
	assert_int_equal(aq_duration_parse("s", &ns), -EINVAL);
	assert_int_equal(ns, 90 * AQ_NS_PER_S);
}

static void test_uint__stays_in_its_bounds(void **state)
{
	uint64_t value = 3;

	assert_int_equal(aq_uint_parse("8", 1, 16, &value), 0);
	assert_int_equal(value, 8);
	assert_int_equal(aq_uint_parse("17", 1, 16, &value), -ERANGE);
	assert_int_equal(aq_uint_parse("0", 1, 16, &value), -ERANGE);
	assert_int_equal(aq_uint_parse("8.0", 1, 16, &value), -EINVAL);
	assert_int_equal(aq_uint_parse("8x", 1, 16, &value), -EINVAL);
	assert_int_equal(value, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size__accepts_what_people_write),
		cmocka_unit_test(test_size__refuses_the_rest_and_changes_nothing),
		cmocka_unit_test(test_size__prints_one_decimal),
		cmocka_unit_test(test_share__is_permille_without_rounding),
		cmocka_unit_test(test_duration__has_units_and_an_end),
		cmocka_unit_test(test_uint__stays_in_its_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
