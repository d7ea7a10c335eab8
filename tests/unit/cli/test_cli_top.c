/* SPDX-License-Identifier: Apache-2.0 */
/* Where `aliquot top` puts things. */
#include "cm.h"

#include <string.h>

#include "base/size.h"
#include "cli/top.h"

#define CELLS 20

static const char *bar(const struct aq_top_part *parts, size_t count, uint64_t device_used,
		       uint64_t total)
{
	static char text[CELLS + 1];
	struct aq_top_cell cells[CELLS];

	aq_top_bar(parts, count, device_used, total, cells, CELLS);
	for (size_t i = 0; i < CELLS; i++)
		text[i] = cells[i].kind == AQ_TOP_FREE	? '.' :
			  cells[i].kind == AQ_TOP_OTHER ? '#' :
			  cells[i].kind == AQ_TOP_USED	? (char)('A' + cells[i].key) :
							  (char)('a' + cells[i].key);
	return text;
}

static void test_bar__shows_used_reserved_others_and_free(void **state)
{
	const struct aq_top_part parts[] = {
		{.used_bytes = 20, .request_bytes = 50, .key = 0},
		{.used_bytes = 25, .request_bytes = 10, .key = 1}, /* more than guaranteed */
	};

	assert_string_equal(bar(NULL, 0, 0, 100), "....................");
	assert_string_equal(bar(parts, 2, 45, 100), "AAAAaaaaaaBBBBB.....");
	assert_string_equal(bar(parts, 2, 55, 100), "AAAAaaaaaaBBBBB##...");
}

static void test_bar__little_is_something_and_too_much_is_cut(void **state)
{
	const struct aq_top_part little[] = {{.used_bytes = 1, .key = 0}};
	const struct aq_top_part much[] = {
		{.used_bytes = 90, .request_bytes = 90, .key = 0},
		{.used_bytes = 90, .request_bytes = 90, .key = 1},
	};
	const struct aq_top_part huge[] = {{.used_bytes = UINT64_MAX, .key = 2}};

	assert_string_equal(bar(little, 1, 1, 80 * AQ_GIB), "A...................");
	assert_string_equal(bar(much, 2, 180, 100), "AAAAAAAAAAAAAAAAAABB");
	assert_string_equal(bar(huge, 1, UINT64_MAX, 7), "CCCCCCCCCCCCCCCCCCCC");
	assert_string_equal(bar(huge, 1, 5, 0), "....................");
}

/* No part may overlap another, or the last line. */
static void check_layout(int rows, size_t devices, size_t fractions)
{
	struct aq_top_layout l = aq_top_arrange(rows, devices, fractions);

	assert_true(l.devices_rows >= 0 && l.fractions_rows >= 0 && l.events_rows >= 0);
	assert_true((size_t)l.devices_rows <= devices);
	assert_true((size_t)l.fractions_rows <= fractions);
	if (l.devices_rows)
		assert_true(l.devices >= 1 && l.devices + l.devices_rows <= l.status);
	if (l.fractions_rows)
		assert_true(l.fractions - 1 >= l.devices + l.devices_rows &&
			    l.fractions + l.fractions_rows <= l.status);
	if (l.events_rows)
		assert_true(l.events - 1 >= l.fractions + l.fractions_rows &&
			    l.events + l.events_rows <= l.status);
	assert_int_equal(l.status, rows - 1);
}

static void test_layout__never_overlaps(void **state)
{
	static const size_t counts[] = {0, 1, 2, 8, 100, 4096};

	for (int rows = 1; rows < 120; rows++)
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
			for (size_t j = 0; j < sizeof(counts) / sizeof(counts[0]); j++)
				check_layout(rows, counts[i], counts[j]);
}

static void test_layout__80x24_has_room_for_all_three(void **state)
{
	struct aq_top_layout l = aq_top_arrange(24, 8, 50);

	assert_int_equal(l.devices_rows, 8);
	assert_in_range(l.fractions_rows, 5, 20);
	assert_in_range(l.events_rows, 3, 20);
	l = aq_top_arrange(24, 1, 3);
	assert_int_equal(l.devices_rows, 1);
	assert_int_equal(l.fractions_rows, 3);
	assert_in_range(l.events_rows, 10, 20);
}

static void test_scroll__follows_the_selection(void **state)
{
	assert_int_equal(aq_top_scroll(5, 10, 4, 3), 0);
	assert_int_equal(aq_top_scroll(50, 10, 0, 0), 0);
	assert_int_equal(aq_top_scroll(50, 10, 10, 0), 1);
	assert_int_equal(aq_top_scroll(50, 10, 49, 1), 40);
	assert_int_equal(aq_top_scroll(50, 10, 45, 40), 40);
	assert_int_equal(aq_top_scroll(50, 10, 39, 40), 39);
	assert_int_equal(aq_top_scroll(12, 10, 3, 40), 2); /* the list became shorter */
	assert_int_equal(aq_top_scroll(50, 0, 3, 7), 0);
	assert_int_equal(aq_top_scroll(0, 10, 0, 7), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bar__shows_used_reserved_others_and_free),
		cmocka_unit_test(test_bar__little_is_something_and_too_much_is_cut),
		cmocka_unit_test(test_layout__never_overlaps),
		cmocka_unit_test(test_layout__80x24_has_room_for_all_three),
		cmocka_unit_test(test_scroll__follows_the_selection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
