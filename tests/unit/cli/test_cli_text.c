/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for people, bars and tables. */
#include "cm.h"

#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "base/timing.h"
#include "cli/text.h"

static void test_share__has_no_zeros_to_spare(void **state)
{
	char buf[AQ_TEXT_SHORT];

	assert_string_equal(aq_text_share(0, buf), "0");
	assert_string_equal(aq_text_share(10, buf), "0.01");
	assert_string_equal(aq_text_share(125, buf), "0.125");
	assert_string_equal(aq_text_share(500, buf), "0.5");
	assert_string_equal(aq_text_share(1000, buf), "1");
	assert_string_equal(aq_text_share(10000, buf), "10");
}

static void test_shares__are_one_number_when_they_are_one(void **state)
{
	char buf[AQ_TEXT_CELL];

	assert_string_equal(aq_text_shares(250, 1000, buf), "0.25 to 1");
	assert_string_equal(aq_text_shares(500, 500, buf), "0.5");
}

static void test_time__grows_with_its_unit(void **state)
{
	char buf[AQ_TEXT_SHORT];

	assert_string_equal(aq_text_time(0, buf), "0 s");
	assert_string_equal(aq_text_time(1250 * AQ_NS_PER_MS, buf), "1.2 s");
	assert_string_equal(aq_text_time(65 * AQ_NS_PER_S, buf), "1m05s");
	assert_string_equal(aq_text_time(7384 * AQ_NS_PER_S, buf), "2h03m");
	assert_string_equal(aq_text_time(100 * 3600 * AQ_NS_PER_S, buf), "4d04h");
}

static void test_part__shares_the_unit_of_the_whole(void **state)
{
	char buf[AQ_TEXT_CELL];

	assert_string_equal(aq_text_part(3 * AQ_GIB / 2, 40 * AQ_GIB, buf), "1.5 of 40 GiB");
	assert_string_equal(aq_text_part(0, 40 * AQ_GIB, buf), "0 of 40 GiB");
	assert_string_equal(aq_text_part(512, 40 * AQ_GIB, buf), "<0.1 of 40 GiB");
	assert_string_equal(aq_text_part(0, 0, buf), "0 of 0 B");
	assert_string_equal(aq_text_part(5, 7, buf), "5 of 7 B");
	assert_string_equal(aq_text_part(41 * AQ_GIB, 40 * AQ_GIB, buf), "41.0 of 40 GiB");
}

static void test_bar__shows_little_as_something_and_much_as_all(void **state)
{
	char buf[AQ_TEXT_CELL];

	assert_string_equal(aq_text_bar(0, 100, 4, false, buf), "....");
	assert_string_equal(aq_text_bar(1, 100, 4, false, buf), "#...");
	assert_string_equal(aq_text_bar(50, 100, 4, false, buf), "##..");
	assert_string_equal(aq_text_bar(200, 100, 4, false, buf), "####");
	assert_string_equal(aq_text_bar(1, 0, 4, false, buf), "....");
	assert_int_equal(aq_text_columns(aq_text_bar(1, 2, 40, true, buf)), 40);
	assert_int_equal(aq_text_columns(aq_text_bar(UINT64_MAX, UINT64_MAX, 99, true, buf)), 40);
}

static void print(struct aq_table *t, unsigned int width, char *buf, size_t size)
{
	FILE *out = fmemopen(buf, size, "w");

	assert_non_null(out);
	aq_table_print(t, out, width);
	fclose(out);
}

static void test_table__aligns_and_leaves_nothing_behind(void **state)
{
	static const struct aq_column columns[] = {
		{.head = "NAME"},
		{.head = "N", .right = true},
		{.head = "EMPTY", .hidden = true},
		{.head = "NOTE", .optional = true},
		{.head = "LAST"},
	};
	struct aq_table t;
	char text[512];

	aq_table_init(&t, columns, 5);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(aq_table_row(&t), 0);
		aq_table_cell(&t, "%s", i ? "caf\xc3\xa9s" : "x");
		aq_table_cell(&t, "%d", i ? 1000 : 1);
		aq_table_cell(&t, "never");
		aq_table_cell(&t, "%s", i ? "" : "a\nb");
		aq_table_cell(&t, "%s", i ? "" : "z");
	}
	print(&t, 0, text, sizeof(text));
	assert_string_equal(text, "NAME      N  NOTE  LAST\n"
				  "x         1  a?b   z\n"
				  "caf\xc3\xa9s  1000\n");
	print(&t, 20, text, sizeof(text));
	assert_string_equal(text, "NAME      N  LAST\n"
				  "x         1  z\n"
				  "caf\xc3\xa9s  1000\n");
	aq_table_finish(&t);
}

static void test_table__cuts_what_is_too_long(void **state)
{
	static const struct aq_column columns[] = {{.head = "A"}};
	char text[1024], longest[600];
	struct aq_table t;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	aq_table_init(&t, columns, 1);
	for (int i = 0; i < 40; i++) { /* grows past what was allocated at first */
		assert_int_equal(aq_table_row(&t), 0);
		aq_table_cell(&t, "%s", i ? "y" : longest);
	}
	print(&t, 0, text, sizeof(text));
	assert_int_equal(strcspn(strchr(text, 'x'), "\n"), AQ_TEXT_CELL - 1);
	aq_table_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share__has_no_zeros_to_spare),
		cmocka_unit_test(test_shares__are_one_number_when_they_are_one),
		cmocka_unit_test(test_time__grows_with_its_unit),
		cmocka_unit_test(test_part__shares_the_unit_of_the_whole),
		cmocka_unit_test(test_bar__shows_little_as_something_and_much_as_all),
		cmocka_unit_test(test_table__aligns_and_leaves_nothing_behind),
		cmocka_unit_test(test_table__cuts_what_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
